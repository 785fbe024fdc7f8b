//! A blob on its way into the folder: written and hashed on a thread that may wait, while more bytes arrive.

use std::io::Read as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::disk::Draft;
use super::shelf::Shelf;
use super::{Shared, joined};
use crate::oci::{Algorithm, Digest, Error, ErrorKind, Hasher, Repository, Upload, rules};

/// So many bytes are gathered before a thread is asked to write them.
const BATCH_BYTES: usize = 1 << 20;

/// A blob on its way. The file is removed when this, and the thread that writes for it, are dropped.
pub(super) struct FolderUpload {
    shared: Arc<Shared>,
    repository: Repository,
    progress: Progress,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    written: u64,
}

/// Who has the file now.
enum Progress {
    Idle(Sink),
    Busy(JoinHandle<Result<Sink, Error>>),
    Failed,
}

/// The file and what is known of its bytes.
struct Sink {
    file: Draft,
    hasher: Hasher,
}

impl FolderUpload {
    /// An upload that writes to a temporary file among the uploads.
    pub(super) fn new(shared: Arc<Shared>, repository: Repository, file: Draft) -> Self {
        let progress = Progress::Idle(Sink { file, hasher: Hasher::new(Algorithm::Sha256) });
        Self { shared, repository, progress, waiting: Vec::new(), waiting_bytes: 0, written: 0 }
    }

    /// One that goes on after the bytes that are in the file. What a crash made of them the digest will tell.
    pub(super) fn resumed(shared: Arc<Shared>, repository: Repository, file: Draft) -> Result<Self, Error> {
        let mut upload = Self::new(shared, repository, file);
        if let Progress::Idle(sink) = &mut upload.progress {
            let path = sink.file.path().display().to_string();
            upload.written = pour(&mut sink.file, &mut sink.hasher)
                .map_err(|error| Error::io(format!("read `{path}` back"), error))?;
        }
        Ok(upload)
    }

    /// Hand what waits to a thread, after the thread before has done its part.
    async fn pass_on(&mut self) -> Result<(), Error> {
        self.settle().await?;
        let Progress::Idle(mut sink) = std::mem::replace(&mut self.progress, Progress::Failed) else {
            return Err(failed_before(&self.repository));
        };
        let pieces = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.progress = Progress::Busy(tokio::task::spawn_blocking(move || {
            for piece in pieces {
                sink.hasher.update(&piece);
                let path = sink.file.path().display().to_string();
                sink.file.write_all(&piece).map_err(|error| Error::io(format!("write `{path}`"), error))?;
            }
            Ok(sink)
        }));
        Ok(())
    }

    /// Wait for the thread, in place: whoever gives up waiting has lost nothing.
    async fn settle(&mut self) -> Result<(), Error> {
        if let Progress::Busy(thread) = &mut self.progress {
            let result = joined(thread.await);
            self.progress = Progress::Failed;
            self.progress = Progress::Idle(result?);
        }
        Ok(())
    }
}

#[async_trait]
impl Upload for FolderUpload {
    fn written(&self) -> u64 {
        self.written
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        if matches!(self.progress, Progress::Failed) {
            return Err(failed_before(&self.repository));
        }
        self.written += bytes.len() as u64;
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        if self.waiting_bytes >= BATCH_BYTES { self.pass_on().await } else { Ok(()) }
    }

    async fn pause(&mut self) -> Result<(), Error> {
        self.pass_on().await?;
        self.settle().await
    }

    fn keep(self: Box<Self>) {
        // A thread that still writes has more than anyone was told of: that upload begins anew.
        if let Progress::Idle(sink) = self.progress {
            sink.file.leave();
        }
    }

    async fn finish(mut self: Box<Self>, digest: &Digest) -> Result<(), Error> {
        self.pass_on().await?;
        self.settle().await?;
        let Self { shared, repository, progress, written, .. } = *self;
        let Progress::Idle(sink) = progress else { return Err(failed_before(&repository)) };
        let digest = digest.clone();
        joined(
            tokio::task::spawn_blocking(move || {
                let file = sink.checked(&digest, written)?;
                let shelf = Shelf::new(&shared.folders, &repository);
                shelf.keep_blob(file, &digest)
            })
            .await,
        )
    }
}

impl Sink {
    /// The file, where it has the size and the digest that it must have.
    fn checked(mut self, digest: &Digest, written: u64) -> Result<Draft, Error> {
        let path = self.file.path().display().to_string();
        let failed = |error| Error::io(format!("read `{path}` back"), error);
        let size = self.file.size().map_err(failed)?;
        if size != written {
            let what = format!("write blob {digest}: {size} of {written} bytes arrived on the disk");
            return Err(Error::new(ErrorKind::Mismatch, what));
        }
        let found = match digest.algorithm() {
            Algorithm::Sha256 => self.hasher.finish(),
            algorithm => {
                let mut hasher = Hasher::new(algorithm);
                pour(&mut self.file, &mut hasher).map_err(failed)?;
                hasher.finish()
            }
        };
        if found == *digest { Ok(self.file) } else { Err(rules::mismatch(digest, &found)) }
    }
}

/// Hash all of a file, which is left at its end; how many bytes it has.
fn pour(file: &mut Draft, hasher: &mut Hasher) -> std::io::Result<u64> {
    let mut piece = vec![0; BATCH_BYTES];
    let mut total = 0;
    let mut file = file.read_back()?;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(total),
            count => {
                hasher.update(&piece[..count]);
                total += count as u64;
            }
        }
    }
}

fn failed_before(repository: &Repository) -> Error {
    let what = format!("write to an upload to {repository} that has failed before");
    Error::new(ErrorKind::Failed, what)
}
