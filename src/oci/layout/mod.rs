//! A store in a folder that any OCI tool can read: OCI image layout 1.0.
//!
//! | what | where |
//! |---|---|
//! | content, by digest | `blobs/ALGORITHM/HEX` |
//! | what repositories hold: the truth | `repositories/NAME/…`, see `shelf.rs` |
//! | the list for other tools, made from that | `index.json`, names are `REPOSITORY:TAG` |
//! | blobs on their way | `uploads/` |
//!
//! | who is at work, see `leases.rs` | `leases/` |
//! | who makes what, see `claims.rs` | `claims/` |
//! | content that was found broken | `quarantine/` |
//! | the version stamp, see `format.rs` | `store.json` |
//!
//! Several processes may work in one folder: nothing is remembered between two calls, everything appears by
//! renaming, and whoever checks before changing holds a lock. Content that no repository holds stays until it is
//! collected (`collect.rs`), and what somebody was told is there stays for a time (`keep.rs`).

mod claims;
mod disk;
mod format;
mod keep;
mod folders;
mod scrub;
mod shelf;
mod index;
mod leases;
mod leftovers;
mod reach;
mod collect;
mod reading;
mod room;
mod upload;
#[cfg(test)]
mod tests;

use std::io::{Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinError;

pub use self::claims::{Claim, Claimed};
pub use self::collect::{Collected, Collection, Unused};
use self::disk::Disk;
use self::folders::Folders;
pub use self::leases::Lease;
pub use self::room::{Cleared, Room};
pub use self::scrub::Scrubbed;
use self::shelf::Shelf;
use self::upload::FolderUpload;
use super::{
    BlobReader, Descriptor, Digest, Document, Error, ErrorKind, Pointer, Repository, Store, Tag, Terms,
    Upload, UploadName, rules,
};
use crate::diag::mistake_in_task;

/// `index.json` is written once for all the tags that move within this time.
const INDEX_DELAY: Duration = Duration::from_secs(5);
/// Uploads that nobody has written to for so long are what a crashed run left.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A store in a folder. Clones share it.
#[derive(Clone)]
pub struct Layout {
    shared: Arc<Shared>,
}

/// What all clones and uploads of one store share.
struct Shared {
    folders: Folders,
    /// Tags have moved since we last wrote the list.
    stale: AtomicBool,
    /// A task waits to write the list.
    scheduled: AtomicBool,
    /// Nobody relies on what is found.
    quiet: AtomicBool,
    /// Held while the list is written, so that `flush` never returns before another's list stands.
    writing: Mutex<()>,
}

impl Layout {
    /// Open a folder as a store, or make one of a folder that is empty or not there. A store of a newer format can
    /// be read only, if at all.
    ///
    /// # Errors
    /// `Invalid` where the folder holds something else, or is reached by a symbolic link; `Unsupported` where it is
    /// of a format that this program cannot read.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_on(Disk::default(), folder.as_ref())
    }

    fn open_on(disk: Disk, folder: &Path) -> Result<Self, Error> {
        let folders = Folders::open(folder, disk)?;
        if folders.is_writable() {
            leftovers::sweep(&folders, LEFTOVER_AGE)?;
        }
        let stale = folders.is_writable() && index::is_stale(&folders)?;
        let shared = Shared {
            folders,
            stale: stale.into(),
            scheduled: false.into(),
            quiet: false.into(),
            writing: Mutex::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.shared.folders.root()
    }

    /// See whether this program may write the store.
    ///
    /// # Errors
    /// `Unsupported` where it is of a newer format.
    pub fn writable(&self) -> Result<(), Error> {
        self.shared.folders.writable()
    }

    /// Remove what processes that were killed have left and nobody can go on with: files that have no name yet, leases, claims.
    ///
    /// # Errors
    /// Where the folder fails.
    pub async fn remove_remains(&self) -> Result<(), Error> {
        self.work(|shared| {
            leftovers::sweep_nameless(&shared.folders)?;
            leases::oldest(&shared.folders, false)?;
            claims::sweep(&shared.folders)
        })
        .await
    }

    /// Remove the uploads that no process writes, as those of a run that was killed. Who would have gone on with one, at a server that
    /// is started again, begins it anew.
    ///
    /// # Errors
    /// Where the folder fails.
    pub async fn remove_uploads(&self) -> Result<(), Error> {
        self.work(|shared| leftovers::sweep(&shared.folders, Duration::ZERO)).await
    }

    /// Rely on nothing that is found from now on, as maintenance does: what it looks at grows no younger by that.
    pub fn look_quietly(&self) {
        self.shared.quiet.store(true, Ordering::SeqCst);
    }

    /// Say that a run is at work: nothing that is written or found from now on is collected while the result lives,
    /// however long that is. It ends with the process, too.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub async fn lease(&self) -> Result<Lease, Error> {
        self.work(|shared| leases::take(&shared.folders)).await
    }

    /// Say that somebody of this name makes what is called so, unless another does who has said so. It ends with the
    /// result, and with the process, too. Nobody is waited for.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub async fn claim(&self, name: &Digest, owner: &str) -> Result<Claimed, Error> {
        let (name, owner) = (name.clone(), owner.to_owned());
        self.work(move |shared| claims::take(&shared.folders, &name, &owner)).await
    }

    /// Whether somebody is at work who has said so by [`Self::lease`].
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub async fn is_leased(&self) -> Result<bool, Error> {
        self.work(|shared| Ok(leases::oldest(&shared.folders, true)?.is_some())).await
    }

    /// Take away what nothing leads to, while others go on working.
    ///
    /// # Errors
    /// `Passing` where another collection is at work. What was taken away until an error stays away, and the store
    /// is whole.
    pub async fn collect(&self, collection: Collection) -> Result<Collected, Error> {
        self.work(move |shared| collect::collect(&shared.folders, &collection)).await
    }

    /// Read all content, and set aside what no longer has its digest.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub async fn scrub(&self) -> Result<Scrubbed, Error> {
        self.work(|shared| scrub::scrub(&shared.folders)).await
    }

    /// Write `index.json` now, if tags have moved, so that other tools see them.
    ///
    /// # Errors
    /// Where it cannot be written; the tags are safe all the same.
    pub async fn flush(&self) -> Result<(), Error> {
        self.work(|shared| {
            // Also where it was another process that moved them.
            let left = shared.folders.is_writable() && index::is_stale(&shared.folders)?;
            shared.stale.fetch_or(left, Ordering::SeqCst);
            shared.flush()
        })
        .await
    }

    /// Do something that waits for the disk, where waiting hinders nobody.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        joined(tokio::task::spawn_blocking(move || work(&shared)).await)
    }

    /// Do something in one repository.
    async fn within<T: Send + 'static>(
        &self,
        repository: &Repository,
        work: impl FnOnce(&Shelf<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let repository = repository.clone();
        self.work(move |shared| work(&shared.shelf(&repository))).await
    }

    /// Do something in one repository that may move tags.
    async fn moving_tags(
        &self,
        repository: &Repository,
        work: impl FnOnce(&Shelf<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let repository = repository.clone();
        let result = self
            .work(move |shared| {
                // Before, for whoever is killed between; after, for whoever wrote the list meanwhile.
                index::mark_stale(&shared.folders)?;
                shared.stale.store(true, Ordering::SeqCst);
                work(&shared.shelf(&repository))?;
                shared.stale.store(true, Ordering::SeqCst);
                index::mark_stale(&shared.folders)
            })
            .await;
        self.schedule();
        result
    }

    fn schedule(&self) {
        if self.shared.scheduled.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            tokio::time::sleep(INDEX_DELAY).await;
            // Where the store was dropped meanwhile, that has written the list.
            if let Some(shared) = shared.upgrade() {
                shared.scheduled.store(false, Ordering::SeqCst);
                // A failure leaves the list stale: the next write, `flush` or run tries again.
                let _ = tokio::task::spawn_blocking(move || shared.flush()).await;
            }
        });
    }
}

impl Shared {
    fn shelf<'a>(&'a self, name: &'a Repository) -> Shelf<'a> {
        match self.quiet.load(Ordering::SeqCst) {
            true => Shelf::quiet(&self.folders, name),
            false => Shelf::new(&self.folders, name),
        }
    }

    fn flush(&self) -> Result<(), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.stale.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        index::write(&self.folders).inspect_err(|_| self.stale.store(true, Ordering::SeqCst))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure; the mark in the folder tells the next run.
        let _ = self.flush();
    }
}

/// The result of a thread of ours, whose panic is a failure like others.
fn joined<T>(result: Result<Result<T, Error>, JoinError>) -> Result<T, Error> {
    result.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Failed, mistake_in_task("work in the store folder", error).to_string()))
    })
}

#[async_trait]
impl Store for Layout {
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        let digest = digest.clone();
        self.within(repository, move |shelf| Ok(shelf.blob(&digest)?.map(|(_, size)| size))).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error> {
        let (wanted, name, part) = (digest.clone(), repository.clone(), range.is_some());
        let (file, size) = self
            .within(repository, move |shelf| {
                let missing = || rules::not_found("blob", &wanted, &name);
                let (mut file, size) = shelf.blob(&wanted)?.ok_or_else(missing)?;
                let range = rules::range_within(&wanted, size, range)?;
                file.seek(SeekFrom::Start(range.start))
                    .map_err(|error| Error::io(format!("read blob {wanted}"), error))?;
                Ok((file, range.end - range.start))
            })
            .await?;
        let stream = match part {
            true => reading::part(file, size, digest.clone()),
            false => reading::whole(Arc::clone(&self.shared), file, size, digest.clone())?,
        };
        Ok(BlobReader { size, stream })
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error> {
        let file = self.work(|shared| shared.folders.draft()).await?;
        Ok(Box::new(FolderUpload::new(Arc::clone(&self.shared), repository.clone(), file)))
    }

    async fn start_upload_as(
        &self,
        repository: &Repository,
        name: UploadName,
    ) -> Result<Box<dyn Upload>, Error> {
        let (shared, repository) = (Arc::clone(&self.shared), repository.clone());
        self.work(move |folder| {
            let file = folder.folders.session(&repository, name, true)?;
            let file = file.ok_or_else(|| Error::new(ErrorKind::Passing, "begin an upload: it was swept"))?;
            Ok(Box::new(FolderUpload::new(shared, repository, file)) as Box<dyn Upload>)
        })
        .await
    }

    async fn resume_upload(
        &self,
        repository: &Repository,
        name: UploadName,
    ) -> Result<Option<Box<dyn Upload>>, Error> {
        let (shared, repository) = (Arc::clone(&self.shared), repository.clone());
        self.work(move |folder| match folder.folders.session(&repository, name, false)? {
            Some(file) => {
                Ok(Some(Box::new(FolderUpload::resumed(shared, repository, file)?) as Box<dyn Upload>))
            }
            None => Ok(None),
        })
        .await
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, Error> {
        let (digest, from) = (digest.clone(), from.clone());
        self.within(repository, move |shelf| shelf.mount_blob(&digest, &from)).await
    }

    async fn holders(&self, digest: &Digest) -> Result<Vec<Repository>, Error> {
        let digest = digest.clone();
        self.work(move |shared| index::holders(&shared.folders, &digest)).await
    }

    async fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let digest = digest.clone();
        self.within(repository, move |shelf| shelf.remove_blob(&digest)).await
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        let pointer = pointer.clone();
        self.within(repository, move |shelf| shelf.resolve(&pointer)).await
    }

    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error> {
        let pointer = pointer.clone();
        self.within(repository, move |shelf| shelf.read_document(&pointer)).await
    }

    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        let (document, tags, terms) = (document.clone(), tags.to_vec(), terms.clone());
        if tags.is_empty() {
            return self.within(repository, move |shelf| shelf.write_document(&document, &[], &terms)).await;
        }
        self.moving_tags(repository, move |shelf| shelf.write_document(&document, &tags, &terms)).await
    }

    async fn remove_document(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let digest = digest.clone();
        self.moving_tags(repository, move |shelf| shelf.remove_document(&digest)).await
    }

    async fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, Error> {
        let after = after.cloned();
        let tags = self.within(repository, |shelf| shelf.tags()).await?;
        Ok(tags
            .into_iter()
            .filter(|tag| after.as_ref().is_none_or(|after| tag > after))
            .take(limit)
            .collect())
    }

    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error> {
        let tag = tag.clone();
        self.moving_tags(repository, move |shelf| shelf.remove_tag(&tag)).await
    }

    async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, Error> {
        let after = after.cloned();
        let all = self.work(|shared| index::repositories(&shared.folders)).await?;
        let page = all.into_iter().filter(|name| after.as_ref().is_none_or(|after| name > after));
        Ok(page.take(limit).collect())
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let subject = subject.clone();
        self.within(repository, move |shelf| shelf.referrers(&subject)).await
    }
}
