//! SIGKILL under three writers: nothing that was acknowledged is lost (G3, F-E5).
//!
//! `POLYARCH_KILLS=1000` by hand. A collection runs beside them now and then, and is killed as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use polyarch::oci::{Digest, Document, Layout};

use super::{Asker, Random, Server, manifest, so_many};
use crate::program::Place;

const WRITERS: usize = 3;
/// How long a machine may take for one push.
const LONGEST: Duration = Duration::from_secs(120);

/// What one writer knows of its own repository.
struct Writer {
    number: usize,
    pushed: u64,
    random: Random,
    blobs: Vec<Digest>,
    documents: Vec<Document>,
    /// What its tag may point at: the last that was acknowledged, and what was sent since.
    tag: Vec<Option<Digest>>,
}

impl Writer {
    fn new(number: usize) -> Self {
        let random = Random(number as u64);
        Self { number, pushed: 0, random, blobs: Vec::new(), documents: Vec::new(), tag: vec![None] }
    }

    fn repository(&self) -> String {
        format!("writers/{}", self.number)
    }

    /// Push until the server does not answer any more, and count what was acknowledged.
    async fn write(mut self, asker: Asker, acknowledged: Arc<AtomicUsize>) -> Self {
        while self.push(&asker).await.is_ok() {
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    async fn push(&mut self, asker: &Asker) -> super::Asked {
        self.pushed += 1;
        let word = format!("{{\"{}\":{}}}", self.number, self.pushed);
        let length = usize::try_from(self.random.below(100_000)).expect("a length");
        let layer: Vec<u8> = word.bytes().cycle().take(length + 1).collect();
        for bytes in [word.as_bytes(), &layer] {
            let digest = asker.push_blob(bytes, self.random.below(2) == 0).await?;
            self.blobs.push(digest);
        }
        let document = manifest(word.as_bytes(), &layer);
        self.tag.push(Some(document.digest().clone()));
        asker.push_document(&document, "newest").await?;
        self.tag = vec![Some(document.digest().clone())];
        self.documents.push(document);
        Ok(())
    }

    /// See that everything is there, from these on.
    async fn check(&mut self, asker: &Asker, blobs: usize, documents: usize) {
        let number = self.number;
        for digest in &self.blobs[blobs..] {
            let bytes =
                asker.blob(digest).await.unwrap_or_else(|error| panic!("{number}: {digest}: {error:?}"));
            assert_eq!(Digest::of(&bytes), *digest, "writer {number}");
        }
        for document in &self.documents[documents..] {
            let digest = document.digest();
            let found = asker.document(&digest.to_string()).await;
            let found = found.unwrap_or_else(|error| panic!("{number}: {digest}: {error:?}"));
            assert_eq!(&found, document.bytes(), "writer {number}");
        }
        let found = match asker.document("newest").await {
            Ok(bytes) => Some(Digest::of(&bytes)),
            Err(super::Failed::Answered(status, _)) if status.as_u16() == 404 => None,
            Err(error) => panic!("writer {number}: its tag: {error:?}"),
        };
        assert!(self.tag.contains(&found), "writer {number}: its tag is {found:?}, not of {:?}", self.tag);
        // What was seen once is not undone.
        self.tag = vec![found];
    }
}

/// Wait until one more was acknowledged, however slow the machine is.
async fn one_more(acknowledged: &AtomicUsize) {
    let (before, began) = (acknowledged.load(Ordering::Relaxed), Instant::now());
    while acknowledged.load(Ordering::Relaxed) == before {
        assert!(began.elapsed() < LONGEST, "nothing was acknowledged for {LONGEST:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_e5_nothing_acknowledged_is_lost_by_a_kill() {
    let kills = so_many("POLYARCH_KILLS", 100);
    let place = Place::new();
    let mut random = Random(7);
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    let mut server = Server::start(&place);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    for kill in 0..kills {
        let seen: Vec<_> = writers.iter().map(|one| (one.blobs.len(), one.documents.len())).collect();
        let tasks: Vec<_> = writers
            .drain(..)
            .map(|writer| {
                let asker = Asker::new(&server, &writer.repository());
                tokio::spawn(writer.write(asker, acknowledged.clone()))
            })
            .collect();
        let mut collection = (kill % 5 == 0).then(|| place.start(&["gc", "--grace", "1h"]));
        // Half of the kills come as early as they may.
        if kill % 2 == 0 {
            one_more(&acknowledged).await;
        }
        tokio::time::sleep(Duration::from_millis(30 + random.below(120))).await;
        server.kill();
        if let Some(collection) = &mut collection {
            collection.kill().expect("killed");
            collection.wait().expect("it ended");
        }
        for task in tasks {
            writers.push(task.await.expect("a writer"));
        }
        server = Server::start(&place);
        for (writer, (blobs, documents)) in writers.iter_mut().zip(seen) {
            writer.check(&Asker::new(&server, &writer.repository()), blobs, documents).await;
        }
    }
    for writer in &mut writers {
        writer.check(&Asker::new(&server, &writer.repository()), 0, 0).await;
    }
    drop(server);
    let scrubbed = Layout::open(place.store()).expect("the store").scrub().await.expect("read");
    assert_eq!((scrubbed.broken, scrubbed.foreign), (vec![], vec![]));
    let blobs: usize = writers.iter().map(|one| one.blobs.len()).sum();
    let documents: usize = writers.iter().map(|one| one.documents.len()).sum();
    println!("{kills} kills: {blobs} blobs and {documents} manifests acknowledged, none lost");
    assert!(documents >= kills / 2, "they did push: {documents}");
}
