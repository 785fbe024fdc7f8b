//! Taking away what nothing leads to, while others write and read (I-S3, I-S4).
//!
//! Tags stay, but for those that nobody has asked for in a long time, where that is wanted ([`Unused`]).
//! Kept in a repository is: what a tag points at, every document that is young, and from those whatever they name
//! and whatever is about them (referrers). Young is what was written, or found by somebody, within the grace time,
//! or since the oldest run that is still at work began (`leases.rs`). Content is kept as long as a repository says
//! that it holds it, or is young.
//!
//! What is to go is worked out without a lock and taken away a few files at a time under one (`keep.rs`), each
//! looked at again: what became young meanwhile stays, and all that it leads to. Documents go before what they lead
//! to, and what a repository says goes before the content; so a crash anywhere leaves a store that is whole, and
//! the next collection ends the work (F-S7).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::folders::{self, Folders, Lock};
use super::keep::Hold;
use super::reach::Reach;
use super::shelf::{Shelf, file_name};
use super::{claims, index, keep, leases, leftovers};
use crate::oci::{Algorithm, Digest, Error, ErrorKind, Repository, Tag};

/// So many files are looked at and removed while everybody waits.
const BATCH: usize = 256;

/// What a collection is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// What was written or found within this time stays.
    pub grace: Duration,
    /// Nothing is removed; the answer says what would be.
    pub dry_run: bool,
    /// Tags that nobody needs any more.
    pub unused: Option<Unused>,
    /// Tags that would be gone: a dry run takes them for that.
    pub ended: Vec<(Repository, Tag)>,
}

/// Tags that go because nobody has asked for them in a long time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// The first part of the names of the repositories in which tags go.
    pub within: String,
    /// Nobody has written, resolved or read them for so long.
    pub age: Duration,
}

/// What a collection took away, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Tags that nobody has asked for.
    pub tags: u64,
    /// Manifests and indexes, counted once for each repository that held them.
    pub documents: u64,
    /// Blobs, counted once for each repository that held them.
    pub blobs: u64,
    /// Files of content that no repository holds any more.
    pub files: u64,
    /// The bytes of those files.
    pub bytes: u64,
    /// Files that crashed uploads left.
    pub leftovers: u64,
    /// The bytes of those.
    pub leftover_bytes: u64,
    /// Files of content that stay.
    pub kept_files: u64,
    /// The bytes of those.
    pub kept_bytes: u64,
    /// Repositories in which nothing was touched, and why: a tag or a document that is kept cannot be read.
    pub passed_over: Vec<(Repository, String)>,
}

/// Collect a whole store.
pub(super) fn collect(folders: &Folders, collection: &Collection) -> Result<Collected, Error> {
    folders.writable()?;
    let _only = keep::collecting(folders)?;
    let now = folders.now()?;
    let mut sweep = Sweep {
        folders,
        dry: collection.dry_run,
        now,
        cutoff: cutoff(folders, now, collection)?,
        unused: collection.unused.clone(),
        ended: &collection.ended,
        held: HashSet::new(),
        gone: HashSet::new(),
        collected: Collected::default(),
    };
    for repository in index::all_repositories(folders)? {
        sweep.repository(&repository)?;
    }
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        sweep.content(algorithm)?;
    }
    sweep.leftovers()?;
    if !collection.dry_run {
        claims::sweep(folders)?;
    }
    Ok(sweep.collected)
}

/// Nothing younger than this is taken away.
fn cutoff(folders: &Folders, now: SystemTime, collection: &Collection) -> Result<SystemTime, Error> {
    let before = |time: SystemTime, age| time.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut cutoff = before(now, collection.grace.saturating_add(keep::SLACK));
    if let Some(began) = leases::oldest(folders, collection.dry_run)? {
        // A run that began in the future: the clock was set back, and no age can be believed until it has ended.
        cutoff = if began > now { SystemTime::UNIX_EPOCH } else { cutoff.min(before(began, keep::SLACK)) };
    }
    Ok(cutoff)
}

/// What keeps everybody away from a repository and from relying on what it holds, for one batch.
struct Locks {
    repository: Lock,
    alone: Hold,
}

struct Sweep<'a> {
    folders: &'a Folders,
    dry: bool,
    now: SystemTime,
    cutoff: SystemTime,
    unused: Option<Unused>,
    ended: &'a [(Repository, Tag)],
    /// What some repository goes on holding.
    held: HashSet<Digest>,
    /// What the repository at hand would no longer hold, in a dry run.
    gone: HashSet<PathBuf>,
    collected: Collected,
}

impl Sweep<'_> {
    /// Whether a file is there and old. One from the future begins to age now: else it would stay for ever.
    fn is_old(&self, path: &Path) -> Result<bool, Error> {
        let Some((modified, _)) = folders::age_mark(path)? else { return Ok(false) };
        let ahead = modified.duration_since(self.now).unwrap_or_default();
        if ahead > keep::SLACK && !self.dry {
            self.folders.refresh(path)?;
        }
        Ok(modified <= self.cutoff)
    }

    fn repository(&mut self, name: &Repository) -> Result<(), Error> {
        let shelf = Shelf::quiet(self.folders, name);
        let mut reach = Reach::new(self.folders, &shelf);
        let swept = self.tags(name, &shelf).and_then(|()| self.roots(&shelf, &mut reach)).and_then(|()| {
            self.documents(&shelf, &mut reach)?;
            self.blobs(&shelf, &reach)?;
            self.referrers(&shelf)
        });
        match swept {
            Err(error) if error.kind() == ErrorKind::Mismatch => {
                self.collected.passed_over.push((name.clone(), error.to_string()));
            }
            other => other?,
        }
        let gone = std::mem::take(&mut self.gone);
        let stays = |digest: &Digest, file: PathBuf| (!gone.contains(&file)).then(|| digest.clone());
        let documents = shelf.documents()?;
        self.held.extend(documents.iter().filter_map(|one| stays(one, shelf.document_file(one))));
        let blobs = shelf.blobs()?;
        self.held.extend(blobs.iter().filter_map(|one| stays(one, shelf.blob_mark(one))));
        Ok(())
    }

    /// Take away the file that says that something is held; only say so in a dry run, which has no locks.
    fn let_go(&mut self, file: PathBuf, locks: Option<&Locks>) -> Result<(), Error> {
        match locks {
            None => drop(self.gone.insert(file)),
            Some(locks) => {
                locks.repository.check()?;
                locks.alone.check()?;
                self.folders.remove(&file)?;
            }
        }
        Ok(())
    }

    fn locks(&self, shelf: &Shelf<'_>) -> Result<Option<Locks>, Error> {
        match self.dry {
            true => Ok(None),
            false => Ok(Some(Locks { repository: shelf.lock()?, alone: keep::alone(self.folders)? })),
        }
    }

    /// Let go of the tags that nobody has asked for, and in a dry run of those that would be gone.
    fn tags(&mut self, name: &Repository, shelf: &Shelf<'_>) -> Result<(), Error> {
        let ended = self.ended.iter().filter(|(repository, _)| self.dry && repository == name);
        self.gone.extend(ended.map(|(_, tag)| shelf.tag_file(tag)));
        let Some(unused) = self.unused.clone() else { return Ok(()) };
        if name.as_str().split('/').next() != Some(unused.within.as_str()) {
            return Ok(());
        }
        let before = self.now.checked_sub(unused.age).unwrap_or(SystemTime::UNIX_EPOCH).min(self.cutoff);
        let tags = shelf.tags()?;
        for batch in tags.chunks(BATCH) {
            let locks = self.locks(shelf)?;
            for tag in batch {
                let file = shelf.tag_file(tag);
                let is_old = folders::age_mark(&file)?.is_some_and(|(asked, _)| asked <= before);
                if is_old && !self.gone.contains(&file) {
                    self.collected.tags += 1;
                    self.let_go(file, locks.as_ref())?;
                }
            }
            if !self.dry {
                index::mark_stale(self.folders)?;
                // Gone for good before anything that they lead to.
                self.folders.sync_folder(&shelf.tags_folder())?;
            }
        }
        Ok(())
    }

    /// Reach all that a tag or a young document leads to.
    fn roots(&self, shelf: &Shelf<'_>, reach: &mut Reach<'_>) -> Result<(), Error> {
        for tag in shelf.tags()? {
            if self.gone.contains(&shelf.tag_file(&tag)) {
                continue;
            }
            let unreadable = |error: Error| {
                Error::new(ErrorKind::Mismatch, format!("the tag {tag} cannot be read")).because(error)
            };
            if let Some(target) = shelf.tag(&tag).map_err(unreadable)? {
                reach.keep(target.digest)?;
            }
        }
        for digest in shelf.documents()? {
            if !reach.holds(&digest) && !self.is_old(&shelf.document_file(&digest))? {
                reach.keep(digest)?;
            }
        }
        Ok(())
    }

    fn documents(&mut self, shelf: &Shelf<'_>, reach: &mut Reach<'_>) -> Result<(), Error> {
        let mut unreached = shelf.documents()?;
        unreached.retain(|digest| !reach.holds(digest));
        for batch in reach.parents_first(&unreached)?.chunks(BATCH) {
            let locks = self.locks(shelf)?;
            for (digest, subject) in batch {
                let file = shelf.document_file(digest);
                if reach.holds(digest) || !folders::is_file(&file)? {
                    continue;
                }
                if !self.is_old(&file)? {
                    // Somebody has found it since.
                    reach.keep(digest.clone())?;
                    continue;
                }
                self.collected.documents += 1;
                self.let_go(file, locks.as_ref())?;
                if let Some(subject) = subject {
                    self.let_go(shelf.referrers_folder(subject).join(file_name(digest)), locks.as_ref())?;
                }
            }
            if !self.dry {
                // Gone for good before anything that they lead to.
                self.folders.sync_folder(&shelf.documents_folder())?;
            }
        }
        Ok(())
    }

    fn blobs(&mut self, shelf: &Shelf<'_>, reach: &Reach<'_>) -> Result<(), Error> {
        let mut unreached = shelf.blobs()?;
        unreached.retain(|digest| !reach.holds(digest));
        for batch in unreached.chunks(BATCH) {
            let locks = self.locks(shelf)?;
            for digest in batch {
                let mark = shelf.blob_mark(digest);
                if self.is_old(&mark)? {
                    self.collected.blobs += 1;
                    self.let_go(mark, locks.as_ref())?;
                }
            }
        }
        Ok(())
    }

    /// Take away the word that a document which is gone has been about something.
    fn referrers(&self, shelf: &Shelf<'_>) -> Result<(), Error> {
        if self.dry {
            return Ok(());
        }
        for batch in shelf.subjects()?.chunks(BATCH) {
            let _locks = self.locks(shelf)?;
            for subject in batch {
                let folder = shelf.referrers_folder(subject);
                for digest in shelf.referring(subject)? {
                    let mark = folder.join(file_name(&digest));
                    if !folders::is_file(&shelf.document_file(&digest))? && self.is_old(&mark)? {
                        self.folders.remove(&mark)?;
                    }
                }
                self.folders.remove_empty(&folder);
            }
        }
        Ok(())
    }

    /// Take away content that no repository holds.
    fn content(&mut self, algorithm: Algorithm) -> Result<(), Error> {
        let folder = self.folders.blobs(algorithm);
        if !self.folders.is_there(&folder)? {
            return Ok(());
        }
        // A name that is no digest is not ours.
        let names = folders::names(&folder)?.into_iter();
        let digests = names.filter_map(|name| format!("{}:{name}", algorithm.name()).parse::<Digest>().ok());
        let (held, unheld): (Vec<Digest>, Vec<Digest>) =
            digests.partition(|digest| self.held.contains(digest));
        for digest in held {
            self.is_old(&self.folders.blob(&digest))?;
            self.stays(&digest)?;
        }
        for batch in unheld.chunks(BATCH) {
            let alone = if self.dry { None } else { Some(keep::alone(self.folders)?) };
            for digest in batch {
                let path = self.folders.blob(digest);
                let Some((_, bytes)) = folders::age_mark(&path)? else { continue };
                if !self.is_old(&path)? {
                    self.stays(digest)?;
                    continue;
                }
                self.collected.files += 1;
                self.collected.bytes += bytes;
                if let Some(alone) = &alone {
                    alone.check()?;
                    self.folders.remove(&path)?;
                }
            }
        }
        Ok(())
    }

    fn stays(&mut self, digest: &Digest) -> Result<(), Error> {
        if let Some((_, bytes)) = folders::age_mark(&self.folders.blob(digest))? {
            self.collected.kept_files += 1;
            self.collected.kept_bytes += bytes;
        }
        Ok(())
    }

    fn leftovers(&mut self) -> Result<(), Error> {
        for (path, bytes) in leftovers::find(self.folders, self.cutoff)? {
            self.collected.leftovers += 1;
            self.collected.leftover_bytes += bytes;
            if !self.dry {
                self.folders.remove(&path)?;
            }
        }
        Ok(())
    }
}
