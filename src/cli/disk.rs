//! What the disk under a store does with names, folders and locks: some filesystems do it otherwise than the store
//! relies on (F-K6).

use std::fs::{self, File, TryLockError};
use std::io::Result;
use std::path::Path;

use crate::diag::Diagnostic;

/// What a folder's filesystem does that not every one does.
#[derive(Debug)]
pub(super) struct Disk {
    /// Two names that differ in case alone are two files.
    pub(super) tells_case: Result<bool>,
    /// The entries of a folder can be brought to the disk.
    pub(super) syncs_folders: Result<bool>,
    /// A file that one has locked is locked for another.
    pub(super) locks: Result<bool>,
}

impl Disk {
    /// Try it in a folder of one's own below this one, which is gone afterwards.
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub(super) fn probe(below: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(".doctor-").tempdir_in(below)?;
        let (lower, upper) = (folder.path().join("name"), folder.path().join("NAME"));
        let held = File::create(&lower)?;
        Ok(Self {
            tells_case: fs::exists(upper).map(|is_there| !is_there),
            syncs_folders: File::open(folder.path()).and_then(|folder| folder.sync_all()).map(|()| true),
            locks: excludes(&held, &lower),
        })
    }

    /// What is wrong with that, for a store in this folder.
    pub(super) fn warnings(&self, folder: &Path) -> Vec<Diagnostic> {
        let of = |is_well: &Result<bool>, lack: &str, risk: &str| {
            let why = match is_well {
                Ok(true) => return None,
                Ok(false) => None,
                Err(error) => Some(error),
            };
            let problem = Diagnostic::warning(format!("the disk of {} {lack}: {risk}", folder.display()))
                .hint("choose a folder on a local disk: --store DIR");
            Some(why.into_iter().fold(problem, Diagnostic::because))
        };
        let all = [
            of(&self.tells_case, "takes `a` and `A` for one name", "tags of such names become one"),
            of(&self.syncs_folders, "cannot sync folders", "what was kept may be gone after a power cut"),
            of(&self.locks, "does not keep locks", "let only one polyarch at a time use it"),
        ];
        all.into_iter().flatten().collect()
    }
}

/// Whether a lock keeps out others who open the same file.
fn excludes(held: &File, path: &Path) -> Result<bool> {
    held.lock()?;
    match File::open(path)?.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(true),
        Ok(()) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn f_k6_a_disk_that_does_otherwise_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::probe(folder.path()).unwrap();
        assert_eq!(disk.warnings(folder.path()), [], "{disk:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        let well = || Disk { tells_case: Ok(true), syncs_folders: Ok(true), locks: Ok(true) };
        let refused = || Error::from(ErrorKind::Unsupported);
        for (disk, lack) in [
            (Disk { tells_case: Ok(false), ..well() }, "takes `a` and `A` for one name"),
            (Disk { syncs_folders: Err(refused()), ..well() }, "cannot sync folders"),
            (Disk { locks: Ok(false), ..well() }, "does not keep locks"),
            (Disk { locks: Err(refused()), ..well() }, "does not keep locks"),
        ] {
            let warnings = disk.warnings(Path::new("/store"));
            assert_eq!(warnings.len(), 1, "{disk:?}");
            assert!(warnings[0].message.contains(&format!("the disk of /store {lack}")), "{warnings:?}");
            assert!(warnings[0].hints[0].contains("--store DIR"), "{warnings:?}");
        }
    }
}
