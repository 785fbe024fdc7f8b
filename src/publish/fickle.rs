//! A registry in memory whose answers go wrong as a test says: for tests of what a publisher makes of that.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::journal::RESERVED_TAG;
use crate::oci::{
    BlobReader, Descriptor, Digest, Document, Error, ErrorKind, Memory, Pointer, Repository, Store, Tag,
    Terms, Upload,
};

/// What becomes of a request that writes a tag.
pub(super) enum Fault {
    /// Nothing goes wrong.
    None,
    /// It is done, and its answer is lost.
    Lost,
    /// It is done, its answer is lost, and so many readings of the list fail after it.
    Mute(usize),
    /// It never arrives.
    Never,
    /// It never arrives, and somebody else writes this list at that moment.
    Overtaken(Box<Document>),
    /// It is refused.
    Refused(ErrorKind),
}

/// The registry.
#[derive(Default)]
pub(super) struct Fickle {
    pub(super) memory: Memory,
    /// It passes over conditions.
    pub(super) careless: bool,
    /// What becomes of the next requests that write the list, and of those that write other tags.
    pub(super) lists: Mutex<VecDeque<Fault>>,
    pub(super) tags: Mutex<VecDeque<Fault>>,
    /// So many looks at tags show nothing.
    pub(super) hides: AtomicUsize,
    /// So many readings of the list fail.
    pub(super) mute: AtomicUsize,
}

fn passing() -> Error {
    Error::new(ErrorKind::Passing, "ask the registry")
}

fn counts_down(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Fickle {
    /// What becomes of the next requests that write the list.
    pub(super) fn lists(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// The same of those that write other tags.
    pub(super) fn tags(&self, faults: impl IntoIterator<Item = Fault>) {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    async fn put(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        let any = Terms { tags: crate::oci::Condition::Any, ..terms.clone() };
        let terms = if self.careless { &any } else { terms };
        self.memory.write_document_on(repository, document, tags, terms).await
    }
}

#[async_trait]
impl Store for Fickle {
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        self.memory.blob_size(repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error> {
        self.memory.read_blob(repository, digest, range).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error> {
        self.memory.start_upload(repository).await
    }

    async fn mount_blob(&self, to: &Repository, digest: &Digest, from: &Repository) -> Result<bool, Error> {
        self.memory.mount_blob(to, digest, from).await
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        if matches!(pointer, Pointer::Tag(_)) && counts_down(&self.hides) {
            return Ok(None);
        }
        self.memory.resolve(repository, pointer).await
    }

    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error> {
        if pointer.to_string() == RESERVED_TAG && counts_down(&self.mute) {
            return Err(passing());
        }
        self.memory.read_document(repository, pointer).await
    }

    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        let faults = match tags {
            [] => return self.put(repository, document, tags, terms).await,
            [tag] if tag.as_str() == RESERVED_TAG => &self.lists,
            _ => &self.tags,
        };
        let fault = faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match fault.unwrap_or(Fault::None) {
            Fault::None => return self.put(repository, document, tags, terms).await,
            Fault::Lost => self.put(repository, document, tags, terms).await?,
            Fault::Mute(readings) => {
                self.put(repository, document, tags, terms).await?;
                self.mute.store(readings, Ordering::SeqCst);
            }
            Fault::Never => {}
            Fault::Overtaken(other) => self.memory.write_document(repository, &other, tags).await?,
            Fault::Refused(kind) => return Err(Error::new(kind, "the registry answered 400")),
        }
        Err(passing())
    }

    fn keeps_conditions(&self) -> bool {
        !self.careless
    }

    async fn tags(&self, of: &Repository, after: Option<&Tag>, limit: usize) -> Result<Vec<Tag>, Error> {
        self.memory.tags(of, after, limit).await
    }

    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error> {
        self.memory.remove_tag(repository, tag).await
    }

    async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, Error> {
        self.memory.repositories(after, limit).await
    }
}
