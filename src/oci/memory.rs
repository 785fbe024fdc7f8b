//! A store in memory: for tests, and for what need not outlive the process.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::rules::{self, Contents, Role, Wanted};
use super::{
    BlobReader, Descriptor, Digest, Document, Error, Hasher, Pointer, Repository, Store, Tag, Terms, Upload,
};

/// A store in memory. Clones share their content.
#[derive(Clone, Default)]
pub struct Memory {
    shelves: Arc<Mutex<BTreeMap<Repository, Shelf>>>,
}

/// What one repository holds.
#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<Digest, Bytes>,
    documents: BTreeMap<Digest, Document>,
    tags: BTreeMap<Tag, Digest>,
}

impl Memory {
    /// A store that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every change is one step under the lock, so a panic elsewhere leaves nothing half done.
    fn shelves(&self) -> MutexGuard<'_, BTreeMap<Repository, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, repository: &Repository, look: impl FnOnce(&Shelf) -> Option<T>) -> Option<T> {
        self.shelves().get(repository).and_then(look)
    }
}

impl Shelf {
    fn document(&self, pointer: &Pointer) -> Option<&Document> {
        let digest = match pointer {
            Pointer::Tag(tag) => self.tags.get(tag)?,
            Pointer::Digest(digest) => digest,
        };
        self.documents.get(digest)
    }

    fn holds(&self, wanted: &Wanted) -> bool {
        match wanted.role {
            Role::Configuration | Role::Layer => self.blobs.contains_key(&wanted.digest),
            Role::Manifest => self.documents.contains_key(&wanted.digest),
            Role::Other => {
                self.blobs.contains_key(&wanted.digest) || self.documents.contains_key(&wanted.digest)
            }
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(self.read(repository, |shelf| shelf.blobs.get(digest).map(|bytes| bytes.len() as u64)))
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error> {
        let bytes = self
            .read(repository, |shelf| shelf.blobs.get(digest).cloned())
            .ok_or_else(|| rules::not_found("blob", digest, repository))?;
        let range = rules::range_within(digest, bytes.len() as u64, range)?;
        // Inside the length of something in memory, so it fits.
        Ok(BlobReader::of(bytes.slice(range.start as usize..range.end as usize)))
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error> {
        let (store, repository) = (self.clone(), repository.clone());
        Ok(Box::new(MemoryUpload { store, repository, bytes: Vec::new() }))
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, Error> {
        let mut shelves = self.shelves();
        let Some(bytes) = shelves.get(from).and_then(|shelf| shelf.blobs.get(digest)).cloned() else {
            return Ok(false);
        };
        shelves.entry(repository.clone()).or_default().blobs.insert(digest.clone(), bytes);
        Ok(true)
    }

    async fn holders(&self, digest: &Digest) -> Result<Vec<Repository>, Error> {
        let shelves = self.shelves();
        let holders = shelves.iter().filter(|(_, shelf)| shelf.blobs.contains_key(digest));
        Ok(holders.map(|(name, _)| name.clone()).collect())
    }

    async fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let mut shelves = self.shelves();
        for document in shelves.get(repository).iter().flat_map(|shelf| shelf.documents.values()) {
            if Contents::of(document)?.refers_to(digest) {
                return Err(rules::in_use(digest, document.digest(), repository));
            }
        }
        let found = shelves.get_mut(repository).and_then(|shelf| shelf.blobs.remove(digest));
        found.map(drop).ok_or_else(|| rules::not_found("blob", digest, repository))
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        Ok(self.read(repository, |shelf| shelf.document(pointer).map(Document::descriptor)))
    }

    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error> {
        self.read(repository, |shelf| shelf.document(pointer).cloned())
            .ok_or_else(|| rules::not_found("document", pointer, repository))
    }

    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        let contents = Contents::of(document)?;
        let mut shelves = self.shelves();
        let empty = Shelf::default();
        let shelf = shelves.get(repository).unwrap_or(&empty);
        let holds = |wanted: &Wanted| Ok(shelf.holds(wanted));
        let target = |tag: &Tag| Ok(shelf.tags.get(tag).cloned());
        contents.agree(document, (repository, tags, terms), holds, target)?;
        let shelf = shelves.entry(repository.clone()).or_default();
        shelf.documents.insert(document.digest().clone(), document.clone());
        shelf.tags.extend(tags.iter().map(|tag| (tag.clone(), document.digest().clone())));
        Ok(())
    }

    async fn remove_document(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let mut shelves = self.shelves();
        let missing = || rules::not_found("document", digest, repository);
        let shelf = shelves.get_mut(repository).ok_or_else(missing)?;
        shelf.documents.remove(digest).ok_or_else(missing)?;
        shelf.tags.retain(|_, target| target != digest);
        Ok(())
    }

    async fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, Error> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = |shelf: &Shelf| {
            let tags = shelf.tags.range::<Tag, _>((start, Bound::Unbounded));
            Some(tags.take(limit).map(|(tag, _)| tag.clone()).collect())
        };
        Ok(self.read(repository, page).unwrap_or_default())
    }

    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error> {
        let mut shelves = self.shelves();
        let found = shelves.get_mut(repository).and_then(|shelf| shelf.tags.remove(tag));
        found.map(drop).ok_or_else(|| rules::not_found("tag", tag, repository))
    }

    async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, Error> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shelves = self.shelves();
        let page = shelves.range::<Repository, _>((start, Bound::Unbounded));
        let page = page.filter(|(_, shelf)| !shelf.documents.is_empty());
        Ok(page.take(limit).map(|(name, _)| name.clone()).collect())
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let documents: Vec<Document> = self
            .read(repository, |shelf| Some(shelf.documents.values().cloned().collect()))
            .unwrap_or_default();
        let mut found = Vec::new();
        for document in &documents {
            let contents = Contents::of(document)?;
            if contents.subject.as_ref() == Some(subject) {
                found.push(contents.referrer(document));
            }
        }
        Ok(found)
    }
}

/// A blob on its way into memory.
struct MemoryUpload {
    store: Memory,
    repository: Repository,
    bytes: Vec<u8>,
}

#[async_trait]
impl Upload for MemoryUpload {
    fn written(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>, digest: &Digest) -> Result<(), Error> {
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&self.bytes);
        let found = hasher.finish();
        if found != *digest {
            return Err(rules::mismatch(digest, &found));
        }
        let Self { store, repository, bytes } = *self;
        let mut shelves = store.shelves();
        let shared = shelves.values().find_map(|shelf| shelf.blobs.get(digest)).cloned();
        let bytes = shared.unwrap_or_else(|| bytes.into());
        shelves.entry(repository).or_default().blobs.insert(digest.clone(), bytes);
        Ok(())
    }
}
