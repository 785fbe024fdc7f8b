//! Sixteen clients for a long time, with a collection every second: no wrong answer, and nothing piles up (G7).
//!
//! Each client has a repository of its own and knows what must be in it. Tagged content must be there always; what
//! lost its tag may go after the grace time, and is not asked for again. Memory, open files and upload files are
//! looked at from outside. `POLYARCH_SOAK=1000000` by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use polyarch::oci::{Collected, Collection, Digest, Document, Layout};

use super::{Asked, Asker, Failed, Random, Server, manifest, so_many};
use crate::program::Place;

const CLIENTS: u64 = 16;
const TAGS: u64 = 12;
const LAYER_BYTES: u64 = 24_000;
/// What lost its tag stays for so long, and a little.
const GRACE: Duration = Duration::from_secs(20);
/// So often the server is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The server itself holds about 1.2 MiB from the first second on, as heap profilers see it. What the allocator keeps
/// beside that, for each thread and in each of its arenas, is the most that these ever needed at once, and creeps up by
/// 1.2 to 1.6 MiB each time the requests double. A leak would grow as the requests do: in a run of so many, its second
/// half is where that is told from the creeping.
const LONG: u64 = 1_000_000;
/// What the allocator may still take in a shorter run, in KiB.
const ALLOCATOR: f64 = 4096.0;
/// Threads beside one for each core: those that wait for the disk, and the first.
const THREADS: usize = 32 + 1;

/// An image that was pushed.
#[derive(Clone)]
struct Image {
    config: Vec<u8>,
    layer: Vec<u8>,
    document: Document,
}

/// One client, and what must be in its repository.
struct Worker {
    number: u64,
    pushed: u64,
    random: Random,
    asker: Asker,
    tags: BTreeMap<String, Image>,
    requests: Arc<AtomicU64>,
}

impl Worker {
    fn new(number: u64, server: &Server, requests: Arc<AtomicU64>) -> Self {
        let asker = Asker::new(server, &format!("soak/{number}"));
        Self { number, pushed: 0, random: Random(number), asker, tags: BTreeMap::new(), requests }
    }

    fn count(&self, requests: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }

    async fn work(mut self, until: u64) -> Self {
        while self.requests.load(Ordering::Relaxed) < until {
            let tag = format!("t{}", self.random.below(TAGS));
            let done = match self.random.below(10) {
                0 | 1 => self.push(&tag).await,
                2 => self.remove(&tag).await,
                3 => self.list().await,
                4 => self.mount(&tag).await,
                5 | 6 => self.look(&tag).await,
                _ => self.read(&tag).await,
            };
            if let Err(error) = done {
                panic!("client {}, after {} pushes, at {tag}: {error:?}", self.number, self.pushed);
            }
        }
        self
    }

    async fn push_blob(&mut self, bytes: &[u8]) -> Asked {
        let by_session = self.random.below(3) == 0;
        self.count(if by_session { 3 } else { 1 });
        self.asker.push_blob(bytes, by_session).await.map(drop)
    }

    async fn push(&mut self, tag: &str) -> Asked {
        self.pushed += 1;
        let config = format!("{{\"{}\":{}}}", self.number, self.pushed).into_bytes();
        let length = usize::try_from(self.random.below(LAYER_BYTES)).expect("a length");
        let layer: Vec<u8> = config.iter().copied().cycle().take(length + 1).collect();
        self.push_blob(&config).await?;
        self.push_blob(&layer).await?;
        let document = manifest(&config, &layer);
        self.count(1);
        self.asker.push_document(&document, tag).await?;
        self.tags.insert(tag.to_owned(), Image { config, layer, document });
        Ok(())
    }

    async fn remove(&mut self, tag: &str) -> Asked {
        self.count(1);
        let removed = self.asker.untag(tag).await;
        match self.tags.remove(tag) {
            Some(_) => removed,
            None => missing(removed),
        }
    }

    async fn list(&self) -> Asked {
        self.count(1);
        let get = self.asker.client.get(format!("{}/tags/list", self.asker.base));
        if self.pushed == 0 {
            return missing(Asker::expect(get, 200).await.map(drop));
        }
        let text = Asker::expect(get, 200).await?.text().await;
        let text = text.map_err(|error| Failed::Lost(error.to_string()))?;
        let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let tags: Vec<&str> = self.tags.keys().map(String::as_str).collect();
        // As texts: `t10` comes before `t2` here as there.
        assert_eq!(list["tags"], serde_json::json!(tags), "client {}", self.number);
        Ok(())
    }

    /// Into a repository beside its own, where it must be found at once.
    async fn mount(&self, tag: &str) -> Asked {
        let Some(image) = self.tags.get(tag) else { return Ok(()) };
        let (client, number) = (&self.asker.client, self.number);
        let digest = Digest::of(&image.layer);
        let beside = self.asker.base.replace("/v2/soak/", "/v2/mounted/");
        self.count(2);
        let post = client.post(format!("{beside}/blobs/uploads/?mount={digest}&from=soak/{number}"));
        Asker::expect(post, 201).await?;
        let answer = Asker::expect(client.get(format!("{beside}/blobs/{digest}")), 200).await?;
        let bytes = answer.bytes().await.map_err(|error| Failed::Lost(error.to_string()))?;
        assert!(*bytes == *image.layer, "client {number}: {digest}");
        Ok(())
    }

    /// By `HEAD`.
    async fn look(&self, tag: &str) -> Asked {
        let (client, base) = (&self.asker.client, &self.asker.base);
        let head = Asker::expect(client.head(format!("{base}/manifests/{tag}")), 200);
        self.count(1);
        let Some(image) = self.tags.get(tag) else { return missing(head.await.map(drop)) };
        let header = |answer: &reqwest::Response, name| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let found = head.await?;
        let digest = image.document.digest().to_string();
        assert_eq!(header(&found, "docker-content-digest"), Some(digest), "client {}: {tag}", self.number);
        self.count(1);
        let digest = Digest::of(&image.config);
        let found = Asker::expect(client.head(format!("{base}/blobs/{digest}")), 200).await?;
        assert_eq!(header(&found, "content-length"), Some(image.config.len().to_string()), "{digest}");
        Ok(())
    }

    /// Tag, manifest and blobs, byte for byte.
    async fn read(&self, tag: &str) -> Asked {
        self.count(1);
        let found = self.asker.document(tag).await;
        let Some(image) = self.tags.get(tag) else { return missing(found.map(drop)) };
        assert_eq!(found?, *image.document.bytes(), "client {}: {tag}", self.number);
        for bytes in [&image.config, &image.layer] {
            self.count(1);
            let digest = Digest::of(bytes);
            assert!(self.asker.blob(&digest).await? == *bytes, "client {}: {digest}", self.number);
        }
        Ok(())
    }
}

/// That it is not there is the right answer.
fn missing(asked: Asked) -> Asked {
    match asked {
        Err(Failed::Answered(status, _)) if status.as_u16() == 404 => Ok(()),
        Err(error) => Err(error),
        Ok(()) => panic!("it is there, and should not be"),
    }
}

/// What the server took at one moment.
struct Look {
    requests: u64,
    /// Memory of its own, heap and stacks, in KiB.
    own: f64,
    /// Pages of the program's file that were touched so far, in KiB; not more than the file has.
    program: f64,
    threads: f64,
    files: f64,
}

impl Look {
    fn at(process: u32, requests: u64) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the server lives");
        let [own, program, threads] = ["RssAnon:", "RssFile:", "Threads:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of its status");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        });
        let files = std::fs::read_dir(format!("/proc/{process}/fd")).expect("its files").count();
        Self { requests, own, program, threads, files: files as f64 }
    }

    /// All of its memory, in KiB.
    fn memory(&self) -> f64 {
        self.own + self.program
    }
}

/// The mean in one of so many equal parts of the run; `None` where nobody looked meanwhile.
fn mean(looks: &[Look], all: u64, (part, of): (u64, u64), what: fn(&Look) -> f64) -> Option<f64> {
    let within = |look: &&Look| look.requests * of / all == part;
    let values: Vec<f64> = looks.iter().filter(within).map(what).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// One line for each of forty parts of the run: a leak grows to the end, what allocators hold comes to rest.
fn tell(looks: &[Look], all: u64) {
    for part in 0..40 {
        let of: [fn(&Look) -> f64; 4] =
            [|look| look.own, |look| look.program, |look| look.threads, |look| look.files];
        let [Some(own), Some(program), Some(threads), Some(files)] =
            of.map(|what| mean(looks, all, (part, 40), what))
        else {
            continue;
        };
        let until = (part + 1) * all / 40;
        println!(
            "{until:>8} requests: {own:>6.0} KiB and {program:.0} of the program, {threads:.1} threads, \
             {files:.1} files"
        );
    }
}

/// Collect every second until told to stop, as another process would: what was taken away, and how often.
async fn collect(store: std::path::PathBuf, stop: Arc<AtomicBool>) -> (u64, Collected) {
    let layout = Layout::open(store).expect("the store");
    let (mut times, mut total) = (0, Collected::default());
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let collection = Collection { grace: GRACE, dry_run: false, unused: None, ended: Vec::new() };
        let collected = layout.collect(collection).await.expect("collected");
        assert_eq!(collected.passed_over, [], "everything can be read");
        total.files += collected.files;
        total.documents += collected.documents;
        times += 1;
    }
    (times, total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_long_run_answers_right_and_piles_nothing_up() {
    let all = so_many("POLYARCH_SOAK", 50_000) as u64;
    let place = Place::new();
    let server = Server::start(&place);
    let (requests, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let collecting = tokio::spawn(collect(place.store(), Arc::clone(&stop)));
    let workers: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(Worker::new(number, &server, Arc::clone(&requests)).work(all)))
        .collect();
    let mut looks = Vec::new();
    while workers.iter().any(|worker| !worker.is_finished()) {
        looks.push(Look::at(server.child.id(), requests.load(Ordering::Relaxed)));
        tokio::time::sleep(LOOK).await;
    }
    let mut tags = 0;
    for worker in workers {
        let worker = worker.await.expect("no wrong answer");
        for tag in worker.tags.keys() {
            worker.read(tag).await.expect("what was tagged is there");
        }
        tags += worker.tags.len();
    }
    stop.store(true, Ordering::Relaxed);
    let (times, collected) = collecting.await.expect("collected");
    let uploads = std::fs::read_dir(place.store().join("uploads")).expect("the uploads").count();
    assert_eq!(uploads, 0, "no upload file is left");
    tell(&looks, all);
    let [memory, files] = [Look::memory, |look: &Look| look.files].map(|of| {
        [1, 5, 9].map(|tenth| mean(&looks, all, (tenth, 10), of).expect("looked at in each tenth of the run"))
    });
    println!(
        "{} requests, {tags} tags at the end; {times} collections took {} documents and {} files away; memory \
         {memory:.0?} KiB, open files {files:.1?} in the second, sixth and last tenth",
        requests.load(Ordering::Relaxed),
        collected.documents,
        collected.files,
    );
    let (warm, room) = if all < LONG { (memory[0], ALLOCATOR) } else { (memory[1], 0.0) };
    assert!(memory[2] <= (warm * 1.05).max(warm + room), "memory grows: {memory:?}");
    let threads = looks.iter().map(|look| look.threads).fold(0.0, f64::max);
    let cores = std::thread::available_parallelism().expect("cores").get();
    assert!(threads <= (cores + THREADS) as f64, "{threads} threads, with {cores} cores");
    // Each client has one connection, and each of its requests a few files.
    assert!(files[2] <= files[0] + CLIENTS as f64, "open files grow: {files:?}");
}
