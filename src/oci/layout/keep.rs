//! What somebody was told is there stays there for the grace time: how those who rely on content and the one who
//! takes it away keep out of each other's way (I-S3).
//!
//! The age of a file that says that something is held counts from when somebody was last told so. Whoever tells
//! sets its time under the shared lock; the collection looks at the time and removes under the lock alone, a few
//! files at a time. So it sees every promise made before, and whoever comes after sees that the file is gone.
//! New holders of the shared lock pass a gate, which the collection closes first: it cannot be starved.

use std::fs::File;
use std::io::ErrorKind as Io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::folders::{self, Folders, Lock};
use crate::oci::{Error, ErrorKind};

/// A promise is not written down again within this time; the collection adds it to the grace time.
pub(super) const SLACK: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 10_000 });

const GATE: &str = "_gate";
const KEEP: &str = "_keep";
const COLLECTING: &str = "_collecting";
/// A file whose time tells what the time is, in `repositories`.
pub(super) const CLOCK: &str = COLLECTING;
/// The files of all locks of the whole store, in `repositories`.
pub(super) const LOCKS: [&str; 3] = [GATE, KEEP, COLLECTING];

/// The right to rely on content, or to take it away, until it is dropped.
pub(super) struct Hold {
    keep: Lock,
    _gate: Option<Lock>,
}

impl Hold {
    /// See whether others still respect it, before something is taken away or relied on for good.
    ///
    /// # Errors
    /// `Passing` where they do not.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.keep.check()
    }
}

/// The right to rely on content that is there, with many others. Never ask for it while holding it: the collection
/// may have closed the gate meanwhile.
pub(super) fn shared(folders: &Folders) -> Result<Hold, Error> {
    let gate = folders.lock_whole(GATE, File::lock_shared)?;
    let keep = folders.lock_whole(KEEP, File::lock_shared)?;
    drop(gate);
    Ok(Hold { keep, _gate: None })
}

/// The right to take content away. Hold it for a few files only: everybody waits.
pub(super) fn alone(folders: &Folders) -> Result<Hold, Error> {
    let gate = folders.lock_whole(GATE, File::lock)?;
    let keep = folders.lock_whole(KEEP, File::lock)?;
    Ok(Hold { keep, _gate: Some(gate) })
}

/// The right to be the one collection in the store.
///
/// # Errors
/// `Passing` where another is at work.
pub(super) fn collecting(folders: &Folders) -> Result<File, Error> {
    let file = folders.lock_file(COLLECTING)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let what =
                format!("collect garbage in `{}`: another collection is at work", folders.root().display());
            Err(Error::new(ErrorKind::Passing, what))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(Error::io("lock the store", error)),
    }
}

/// Whether a file is there, for somebody who will rely on it: its age begins again.
pub(super) fn promise(folders: &Folders, path: &Path) -> Result<bool, Error> {
    let Some((modified, _)) = folders::age_mark(path)? else { return Ok(false) };
    if !folders.is_writable() || is_fresh(modified) {
        return Ok(true);
    }
    match shared(folders).and_then(|_hold| folders.refresh(path)) {
        // Who may only read cannot promise for others.
        Err(error) if is_denied(&error) => Ok(true),
        found => found,
    }
}

/// The same, for whoever holds a lock that keeps the collection away.
pub(super) fn renew(folders: &Folders, path: &Path) -> Result<bool, Error> {
    match folders::age_mark(path)? {
        None => Ok(false),
        Some((modified, _)) if is_fresh(modified) => Ok(true),
        Some(_) => folders.refresh(path),
    }
}

fn is_fresh(modified: SystemTime) -> bool {
    #[expect(clippy::disallowed_methods, reason = "the age of a file is counted by the clock that dated it")]
    let now = SystemTime::now();
    // A time from the future is no good one.
    now.duration_since(modified).is_ok_and(|age| age < SLACK)
}

fn is_denied(error: &Error) -> bool {
    let under = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    under.is_some_and(|error| matches!(error.kind(), Io::PermissionDenied | Io::ReadOnlyFilesystem))
}
