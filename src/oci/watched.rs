//! A store that notes every write in its order and fails at chosen calls: for tests of what is left behind.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    BlobReader, Descriptor, Digest, Document, Error, ErrorKind, Pointer, Repository, Store, Tag, Terms,
    Upload,
};

/// Whether the failing call does its work first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request never arrived.
    Before,
    /// It was carried out, and the reply was lost.
    After,
    /// No answer ever comes.
    Silence,
    /// It is refused for want of rights.
    Denied,
}

/// A store around another.
pub(crate) struct Watched<S> {
    inner: S,
    watch: Arc<Watch>,
}

struct Watch {
    calls: AtomicUsize,
    fails: Range<usize>,
    failure: Failure,
    /// How long it takes until content that is read begins to come.
    delay: Duration,
    writes: Mutex<Vec<String>>,
}

impl<S: Store> Watched<S> {
    /// One that never fails.
    pub(crate) fn new(inner: S) -> Self {
        Self::failing(inner, usize::MAX, Failure::Before)
    }

    /// One whose calls fail from this one on, counted from 0.
    pub(crate) fn failing(inner: S, fails_from: usize, failure: Failure) -> Self {
        Self::failing_at(inner, fails_from..usize::MAX, failure)
    }

    /// One whose calls of these numbers fail, counted from 0.
    pub(crate) fn failing_at(inner: S, calls: Range<usize>, failure: Failure) -> Self {
        Self::of(inner, calls, failure, Duration::ZERO)
    }

    /// One that never fails, and takes so long for each blob.
    pub(crate) fn slow(inner: S, delay: Duration) -> Self {
        Self::of(inner, 0..0, Failure::Before, delay)
    }

    fn of(inner: S, fails: Range<usize>, failure: Failure, delay: Duration) -> Self {
        let (calls, writes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        Self { inner, watch: Arc::new(Watch { calls, fails, failure, delay, writes }) }
    }

    /// How many calls it has seen.
    pub(crate) fn calls(&self) -> usize {
        self.watch.calls.load(Ordering::SeqCst)
    }

    /// Everything that was written, in order: `blob a/b`, `mount a/b`, `manifest a/b`, `index a/b`, `tag a/b:c`.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.watch.writes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Watch {
    async fn call<T>(
        &self,
        note: Option<String>,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let kind = match self.failure {
            Failure::Denied => ErrorKind::Denied,
            Failure::Before | Failure::After | Failure::Silence => ErrorKind::Passing,
        };
        let failed = || Err(Error::new(kind, format!("call {call} was cut off")));
        let (fails, is_first) = (self.fails.contains(&call), call == self.fails.start);
        if fails && self.failure == Failure::Silence {
            return std::future::pending().await;
        }
        if fails && !(is_first && self.failure == Failure::After) {
            return failed();
        }
        let result = work.await?;
        if let Some(note) = note {
            self.writes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        }
        if fails { failed() } else { Ok(result) }
    }
}

#[async_trait]
impl<S: Store> Store for Watched<S> {
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        self.watch.call(None, self.inner.blob_size(repository, digest)).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error> {
        tokio::time::sleep(self.watch.delay).await;
        self.watch.call(None, self.inner.read_blob(repository, digest, range)).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error> {
        let inner = self.watch.call(None, self.inner.start_upload(repository)).await?;
        let (watch, repository) = (Arc::clone(&self.watch), repository.clone());
        Ok(Box::new(WatchedUpload { inner, watch, repository }))
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, Error> {
        let note = Some(format!("mount {repository}"));
        self.watch.call(note, self.inner.mount_blob(repository, digest, from)).await
    }

    async fn mount_whole(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<bool, Error> {
        let note = Some(format!("mount {repository}"));
        self.watch.call(note, self.inner.mount_whole(repository, blob, from)).await
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        self.watch.call(None, self.inner.resolve(repository, pointer)).await
    }

    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error> {
        self.watch.call(None, self.inner.read_document(repository, pointer)).await
    }

    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        let what = if document.is_index() { "index" } else { "manifest" };
        let note = match tags {
            [] => format!("{what} {repository}"),
            tags => {
                let tags: Vec<String> = tags.iter().map(|tag| format!("tag {repository}:{tag}")).collect();
                tags.join(" ")
            }
        };
        self.watch.call(Some(note), self.inner.write_document_on(repository, document, tags, terms)).await
    }

    fn keeps_conditions(&self) -> bool {
        self.inner.keeps_conditions()
    }

    async fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, Error> {
        self.watch.call(None, self.inner.tags(repository, after, limit)).await
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        self.watch.call(None, self.inner.referrers(repository, subject)).await
    }

    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error> {
        let note = Some(format!("untag {repository}:{tag}"));
        self.watch.call(note, self.inner.remove_tag(repository, tag)).await
    }

    async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, Error> {
        self.watch.call(None, self.inner.repositories(after, limit)).await
    }
}

struct WatchedUpload {
    inner: Box<dyn Upload>,
    watch: Arc<Watch>,
    repository: Repository,
}

#[async_trait]
impl Upload for WatchedUpload {
    fn written(&self) -> u64 {
        self.inner.written()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.watch.call(None, self.inner.write(bytes)).await
    }

    async fn finish(self: Box<Self>, digest: &Digest) -> Result<(), Error> {
        let note = Some(format!("blob {}", self.repository));
        self.watch.call(note, self.inner.finish(digest)).await
    }
}
