//! Who is making what: a file that a process holds the lock of while it makes something that others wait for (F-X1).
//!
//! A lock ends with its process, so nobody waits for a dead one. The file says who holds it, for those who wait; it
//! goes with the claim, and what a killed process left goes with the next claim of the same name, or with a collection.
//! Somebody who removes a file in use lets others make the same once more, and nothing worse (F-X4).

use std::path::{Path, PathBuf};

use super::folders::{self, Folders, Lock};
use crate::oci::{Digest, Error};

/// How much of what a file says of its holder is believed, in characters.
const OWNER_LIMIT: usize = 200;

/// The right to be the only one at something. It ends when dropped, and with the process.
#[must_use = "a claim ends when it is dropped"]
pub struct Claim {
    lock: Lock,
}

/// Whether a claim was had.
pub enum Claimed {
    /// It was.
    Ours(Claim),
    /// Another has it, by the name that it has given itself, where it has had the time to.
    Theirs(Option<String>),
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked: whoever has opened it before sees, once he has the lock, that it is gone.
        if self.lock.check().is_ok() {
            let _ = std::fs::remove_file(self.lock.path());
        }
    }
}

/// Claim what is called so, for somebody of this name, and wait for nobody.
pub(super) fn take(folders: &Folders, name: &Digest, owner: &str) -> Result<Claimed, Error> {
    let path = folders.claims().join(name.hex());
    let Some(lock) = folders.lock_now(&path)? else { return Ok(Claimed::Theirs(owner_of(&path)?)) };
    let claim = Claim { lock };
    // Also on a full disk it is claimed, if not by name.
    let _ = folders.overwrite(&path, owner.as_bytes());
    Ok(Claimed::Ours(claim))
}

/// Remove what killed processes left.
pub(super) fn sweep(folders: &Folders) -> Result<(), Error> {
    for path in left(folders)? {
        if let Some(lock) = folders.lock_now(&path)? {
            drop(Claim { lock });
        }
    }
    Ok(())
}

fn left(folders: &Folders) -> Result<Vec<PathBuf>, Error> {
    // Never through a link that somebody has put there.
    if !folders.is_there(&folders.claims())? {
        return Ok(Vec::new());
    }
    let names = folders::names(&folders.claims())?.into_iter();
    Ok(names.map(|name| folders.claims().join(name)).collect())
}

fn owner_of(path: &Path) -> Result<Option<String>, Error> {
    let text = folders::read_small(path)?.and_then(|bytes| String::from_utf8(bytes).ok());
    let owner: String = text.unwrap_or_default().chars().take(OWNER_LIMIT).collect();
    Ok(Some(owner).filter(|owner| !owner.is_empty()))
}
