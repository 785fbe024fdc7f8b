//! Who is at work: a file that a run holds a lock on as long as it lives (F-S8, F-X3).
//!
//! What was written or found since the oldest of them began is not collected. A lock ends with its process, so no
//! lease outlives its owner, none has to be renewed, and a process number that was given anew means nothing.

use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

use super::folders::{self, Folders};
use super::leftovers::is_nobodys;
use crate::oci::Error;

/// A run at work. It ends when dropped, and with the process.
#[derive(Debug)]
#[must_use = "a lease ends when it is dropped"]
pub struct Lease {
    path: PathBuf,
    _file: File,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that stays is nobody's: the next collection removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Begin one. Its file is locked before it has a name in the folder, so nobody takes it for a dead one's.
pub(super) fn take(folders: &Folders) -> Result<Lease, Error> {
    let draft = folders.draft()?;
    let name = draft.path().file_name().map(PathBuf::from).unwrap_or_default();
    let path = folders.leases().join(name);
    let file = folders.place_open(draft, &path)?;
    Ok(Lease { path, _file: file })
}

/// When the oldest of the living began. The files of the dead are removed, unless this is a dry run.
pub(super) fn oldest(folders: &Folders, dry: bool) -> Result<Option<SystemTime>, Error> {
    let mut oldest: Option<SystemTime> = None;
    // Never through a link that somebody has put there.
    if !folders.is_there(&folders.leases())? {
        return Ok(oldest);
    }
    for name in folders::names(&folders.leases())? {
        let path = folders.leases().join(name);
        let Some((began, _)) = folders::age_mark(&path)? else { continue };
        if !is_nobodys(&path)? {
            oldest = Some(oldest.map_or(began, |known| known.min(began)));
        } else if !dry {
            folders.remove(&path)?;
        }
    }
    Ok(oldest)
}
