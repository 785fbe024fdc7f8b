//! One trait for every place that content can be kept in: memory, a folder, a registry.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::{Algorithm, Descriptor, Digest, Document, Error, ErrorKind, Hasher, Pointer, Repository, Tag};

/// The header by which a registry of ours says that it keeps conditions on tags.
pub(super) const CONDITIONAL_TAGS: &str = "polyarch-conditional-tags";

/// What must hold for a document to be written and its tags to be moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Where every one of the tags must point.
    pub tags: Condition,
    /// Whether what the document refers to must be there.
    pub content: Completeness,
    /// It is tried once: a failure that may pass is given back, whether or not the document was written.
    pub once: bool,
}

/// Where a tag must point before it is moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Anywhere or nowhere.
    #[default]
    Any,
    /// Nowhere: there is no such tag.
    Missing,
    /// Anywhere: there is such a tag.
    Present,
    /// At one of these documents.
    OneOf(Vec<Digest>),
}

impl Condition {
    /// Whether it holds for a tag that points there.
    pub fn holds(&self, target: Option<&Digest>) -> bool {
        match (self, target) {
            (Self::Any, _) | (Self::Missing, None) | (Self::Present, Some(_)) => true,
            (Self::OneOf(allowed), Some(target)) => allowed.contains(target),
            (Self::Missing, Some(_)) | (Self::Present | Self::OneOf(_), None) => false,
        }
    }
}

/// Whether what a document refers to must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completeness {
    /// All of it.
    #[default]
    Whole,
    /// None of it: a mirror of some platforms only, as the distribution specification allows a registry to keep.
    Sparse,
}

/// A place that content can be kept in. Content is visible by repository.
///
/// Who was told that something is there may rely on it for a while: a place that collects garbage keeps it for its
/// grace time from then on.
#[async_trait]
pub trait Store: Send + Sync {
    /// The size of a blob in bytes, or `None` where the repository does not hold it.
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error>;

    /// Read a blob, or a range of its bytes.
    ///
    /// # Errors
    /// `NotFound` where it is not there, `Invalid` for a range outside it.
    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error>;

    /// Begin to write a blob.
    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error>;

    /// Begin to write a blob that can be gone on with under this name by [`Self::resume_upload`].
    async fn start_upload_as(
        &self,
        repository: &Repository,
        name: UploadName,
    ) -> Result<Box<dyn Upload>, Error> {
        let _ = name;
        self.start_upload(repository).await
    }

    /// Go on with an upload that another process, or this one before it was started again, began under this name;
    /// `None` where there is none.
    ///
    /// # Errors
    /// `Passing` where another process works on it.
    async fn resume_upload(
        &self,
        repository: &Repository,
        name: UploadName,
    ) -> Result<Option<Box<dyn Upload>>, Error> {
        let _ = (repository, name);
        Ok(None)
    }

    /// Make a blob of one repository visible in another without moving bytes; `false` where that cannot be done.
    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, Error>;

    /// The same, and whether the blob is there in its full size, by what the store says to that. `false` says nothing.
    async fn mount_whole(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<bool, Error> {
        Ok(self.mount_blob(repository, &blob.digest, from).await?
            && self.blob_size(repository, &blob.digest).await? == Some(blob.size))
    }

    /// Repositories that hold a blob, in order. None where this store cannot tell.
    async fn holders(&self, digest: &Digest) -> Result<Vec<Repository>, Error> {
        let _ = digest;
        Ok(Vec::new())
    }

    /// See that a repository has a blob: it is there, or is mounted from a repository of the same store, or is read
    /// from where it is now and written. Copies between stores go this way: nothing that is there is moved.
    ///
    /// # Errors
    /// `Mismatch` where the bytes do not have the digest or the size; nothing is kept then.
    async fn take_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: Option<&Repository>,
        origin: &Origin<'_>,
    ) -> Result<Taken, Error> {
        match self.blob_size(repository, &blob.digest).await? {
            Some(size) if size == blob.size => return Ok(Taken::There),
            Some(size) => {
                let what =
                    format!("blob {} of {repository} has {size} bytes, not {}", blob.digest, blob.size);
                return Err(Error::new(ErrorKind::Mismatch, what));
            }
            None => {}
        }
        if let Some(from) = from
            && self.mount_blob(repository, &blob.digest, from).await?
        {
            return Ok(Taken::Mounted);
        }
        let reader = origin.store.read_blob(origin.repository, &blob.digest, None).await?;
        let upload = self.start_upload(repository).await?;
        reader.pour_into(upload, &blob.digest).await.map(Taken::Moved)
    }

    /// Take a blob out of a repository.
    ///
    /// # Errors
    /// `NotFound` where it is not there, `InUse` where a document of the repository refers to it.
    async fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let _ = (repository, digest);
        Err(Error::new(ErrorKind::Unsupported, "remove a blob: this store does not do that"))
    }

    /// What a pointer points at (media type, digest and size), or `None`.
    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error>;

    /// Read a manifest or index.
    ///
    /// # Errors
    /// `NotFound` where it is not there, `Mismatch` where its bytes are not those of the digest asked for.
    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error>;

    /// Write a manifest or index under its digest, and move these tags to it. What it refers to must be there.
    ///
    /// # Errors
    /// `MissingContent` where something that it refers to is not in the repository.
    async fn write_document(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
    ) -> Result<(), Error> {
        self.write_document_on(repository, document, tags, &Terms::default()).await
    }

    /// As [`Self::write_document`], on terms; tags are looked at and moved in one step, or none is.
    ///
    /// # Errors
    /// `Moved` where a tag points elsewhere, `Unsupported` where this store has no such step.
    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error>;

    /// Whether this store is known to look at the condition on tags before it moves them, and to do both in one step. A
    /// registry elsewhere may pass over conditions; before it has answered once, nothing is known of it.
    fn keeps_conditions(&self) -> bool {
        true
    }

    /// Take a document, and every tag that points at it, out of a repository.
    async fn remove_document(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let _ = (repository, digest);
        Err(Error::new(ErrorKind::Unsupported, "remove a manifest: this store does not do that"))
    }

    /// Tags of a repository in order, at most `limit` of those after `after`. None for an unknown repository.
    async fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, Error>;

    /// Take a tag away; what it pointed at stays.
    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error>;

    /// Repositories that hold documents, in order, at most `limit` of those after `after`.
    async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, Error>;

    /// Descriptors of the documents whose subject is this digest, in the order of their digests.
    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let _ = (repository, subject);
        Err(Error::new(ErrorKind::Unsupported, "list referrers: this store does not do that"))
    }

    /// Write a whole blob that is in memory, unless it is there.
    async fn write_blob(&self, repository: &Repository, bytes: Bytes) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        if self.blob_size(repository, &digest).await?.is_none() {
            let mut upload = self.start_upload(repository).await?;
            upload.write(bytes).await?;
            upload.finish(&digest).await?;
        }
        Ok(digest)
    }
}

/// Where a blob is now.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The repository.
    pub repository: &'a Repository,
}

/// How a blob came into a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was there.
    There,
    /// It was in another repository of the same store; no bytes moved.
    Mounted,
    /// So many bytes moved.
    Moved(u64),
}

/// The name of an upload: 128 random bits, so that nobody guesses another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadName(pub u128);

/// A blob on its way into a store. Dropped before it is finished, it leaves nothing, unless the process dies or
/// [`Self::keep`] was called.
#[async_trait]
pub trait Upload: Send {
    /// How many bytes the store has taken.
    fn written(&self) -> u64;

    /// Hand over the next bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error>;

    /// Make sure that what was handed over is still there when this process is killed, where uploads can be resumed.
    async fn pause(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Leave what there is for whoever resumes the upload, where uploads can be resumed.
    fn keep(self: Box<Self>) {}

    /// The blob is whole: check it against its digest and make it visible.
    ///
    /// # Errors
    /// `Mismatch` where the bytes do not have that digest; nothing is kept then.
    async fn finish(self: Box<Self>, digest: &Digest) -> Result<(), Error>;
}

/// The bytes of a blob on their way out of a store.
pub struct BlobReader {
    /// The size of what will come, in bytes.
    pub size: u64,
    /// The bytes, in pieces.
    pub stream: BoxStream<'static, Result<Bytes, Error>>,
}

impl BlobReader {
    /// A reader of bytes in memory.
    pub fn of(bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        Self { size, stream: futures_util::stream::once(async { Ok(bytes) }).boxed() }
    }

    /// All the bytes, at most `limit`, checked against the digest.
    ///
    /// # Errors
    /// `TooLarge` past the limit, `Mismatch` where the bytes are others.
    pub async fn collect(mut self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let mut all = Vec::new();
        while let Some(piece) = self.stream.next().await {
            let piece = piece?;
            if all.len() as u64 + piece.len() as u64 > limit {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("read {digest}: it has more than {limit} bytes"),
                ));
            }
            all.extend_from_slice(&piece);
        }
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&all);
        check(digest, &hasher.finish())?;
        Ok(all.into())
    }

    /// Move the bytes into a repository of another store, and check them on the way.
    ///
    /// # Errors
    /// `Mismatch` where the bytes are others than the digest says; nothing is kept then.
    pub async fn move_into(
        self,
        store: &dyn Store,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<u64, Error> {
        self.pour_into(store.start_upload(repository).await?, digest).await
    }

    /// The same into an upload that was begun.
    async fn pour_into(mut self, mut upload: Box<dyn Upload>, digest: &Digest) -> Result<u64, Error> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        while let Some(piece) = self.stream.next().await {
            let piece = piece?;
            if digest.algorithm() == Algorithm::Sha256 {
                hasher.update(&piece);
            }
            upload.write(piece).await?;
        }
        if digest.algorithm() == Algorithm::Sha256 {
            check(digest, &hasher.finish())?;
        }
        let written = upload.written();
        upload.finish(digest).await?;
        Ok(written)
    }
}

fn check(expected: &Digest, found: &Digest) -> Result<(), Error> {
    match expected == found {
        true => Ok(()),
        false => {
            Err(Error::new(ErrorKind::Mismatch, format!("blob {expected} has in truth the digest {found}")))
        }
    }
}
