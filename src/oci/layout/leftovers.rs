//! What crashed runs left among the uploads and leases (I-S7).
//!
//! Whoever writes holds a lock on the file, which ends with the process: a file that can be locked is nobody's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::folders::{self, Folders, SESSION};
use crate::oci::Error;

/// Remove uploads that nobody has written to for so long and nobody writes now.
pub(super) fn sweep(folders: &Folders, age: Duration) -> Result<(), Error> {
    let cutoff = folders.now()?.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    for (path, _) in find(folders, cutoff)? {
        // Held while it goes, so that nobody begins to write it meanwhile.
        if let Some(_held) = nobodys(&path)? {
            folders.remove(&path)?;
        }
    }
    Ok(())
}

/// Remove what can be of no use to anybody, however young: files that were written and never got a name. An upload, whose name
/// somebody may know, stays.
pub(super) fn sweep_nameless(folders: &Folders) -> Result<(), Error> {
    for (path, _) in find(folders, folders.now()?)? {
        let has_name = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SESSION));
        if !has_name && let Some(_held) = nobodys(&path)? {
            folders.remove(&path)?;
        }
    }
    Ok(())
}

/// The files among the uploads that nobody writes and that are at least as old as the cutoff, and their sizes.
pub(super) fn find(folders: &Folders, cutoff: SystemTime) -> Result<Vec<(PathBuf, u64)>, Error> {
    let uploads = folders.uploads();
    let mut found = Vec::new();
    // Never through a link that somebody has put there.
    if !folders.is_there(&uploads)? {
        return Ok(found);
    }
    for name in folders::names(&uploads)? {
        let path = uploads.join(name);
        // Gone since it was listed: another process finished it or swept it.
        let Some((modified, bytes)) = folders::age_mark(&path)? else { continue };
        if modified <= cutoff && is_nobodys(&path)? {
            found.push((path, bytes));
        }
    }
    Ok(found)
}

/// Whether no process holds the lock on a file.
pub(super) fn is_nobodys(path: &Path) -> Result<bool, Error> {
    Ok(nobodys(path)?.is_some())
}

/// The file, locked, where no process held its lock.
fn nobodys(path: &Path) -> Result<Option<File>, Error> {
    let Some(file) = folders::open(path)? else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(Error::io(format!("lock `{}`", path.display()), error)),
    }
}
