//! The few operations by which a store changes what is on the disk.
//!
//! All changes go through here, so that a test can note them in their order, work out from the notes what a loss
//! of power could have left, and let the disk fail at any of them (`tests/journal.rs`).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind as Io, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, UTIME_NOW};
use tempfile::{NamedTempFile, TempPath};

#[cfg(test)]
use super::tests::journal::{Journal, Step};

/// The disk. Clones share the journal that a test may keep.
#[derive(Clone, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) journal: Option<Journal>,
}

impl Disk {
    /// Make a folder.
    pub(super) fn create_folder(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.may_fail()?;
        fs::create_dir(path)?;
        #[cfg(test)]
        self.note(|| Step::CreateFolder(path.to_owned()));
        Ok(())
    }

    /// A new file in a folder, which vanishes when dropped. It is locked as long as somebody writes to it, so
    /// that nobody takes it for a leftover.
    pub(super) fn draft(&self, folder: &Path) -> io::Result<Draft> {
        #[cfg(test)]
        self.may_fail()?;
        let mut builder = tempfile::Builder::new();
        let file = loop {
            let file = builder.permissions(Permissions::from_mode(0o644)).tempfile_in(folder)?;
            file.as_file().lock()?;
            // Unless it was cleared away between the two.
            if file.as_file().metadata()?.nlink() > 0 {
                break file;
            }
        };
        #[cfg(test)]
        self.note(|| Step::CreateFile(file.path().to_owned()));
        Ok(Draft { file, disk: self.clone() })
    }

    /// A file that outlives the process that writes it: a new one, or the one that a process before left here, if
    /// it is there. Locked, and vanishing when dropped, as every draft. A link is not followed.
    ///
    /// # Errors
    /// `WouldBlock` where another process writes it.
    pub(super) fn session(&self, path: &Path, is_new: bool) -> io::Result<Option<Draft>> {
        #[cfg(test)]
        self.may_fail()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(is_new).mode(0o644);
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == Io::NotFound && !is_new => return Ok(None),
            Err(error) => return Err(error),
        };
        // Nobody works on a new one, but who looks for leftovers may have it for a moment.
        if is_new {
            file.lock()?
        } else {
            file.try_lock()?
        }
        // Finished, cancelled or cleared away by another process between the two.
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
            return if is_new { self.session(path, is_new) } else { Ok(None) };
        }
        #[cfg(test)]
        if is_new {
            self.note(|| Step::CreateFile(path.to_owned()));
        }
        let path = TempPath::try_from_path(path)?;
        Ok(Some(Draft { file: NamedTempFile::from_parts(file, path), disk: self.clone() }))
    }

    /// Open a file for good, an empty one where it is not there. A link is not followed.
    pub(super) fn touch(&self, path: &Path) -> io::Result<File> {
        #[cfg(test)]
        if !path.exists() {
            self.may_fail()?;
        }
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).custom_flags(flags).open(path)?;
        #[cfg(test)]
        self.note(|| Step::CreateFile(path.to_owned()));
        Ok(file)
    }

    /// Write these bytes into a file that is there, in place of what is in it. A link is not followed.
    pub(super) fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.may_fail()?;
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new().write(true).truncate(true).custom_flags(flags).open(path)?;
        file.write_all(bytes)?;
        #[cfg(test)]
        self.note(|| Step::Write(path.to_owned(), bytes.to_vec()));
        Ok(())
    }

    /// Give a file the time of now; whether it was there. One system call, so that whoever renames or removes the
    /// file comes wholly before or wholly after.
    pub(super) fn refresh(&self, path: &Path) -> io::Result<bool> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        match rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => Ok(true),
            Err(error) if io::Error::from(error).kind() == Io::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Move a file within the store.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.may_fail()?;
        fs::rename(from, to)?;
        #[cfg(test)]
        self.note(|| Step::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Remove a file; whether it was there.
    pub(super) fn remove(&self, path: &Path) -> io::Result<bool> {
        #[cfg(test)]
        self.may_fail()?;
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == Io::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        #[cfg(test)]
        self.note(|| Step::Remove(path.to_owned()));
        Ok(true)
    }

    /// Remove a folder where it is empty.
    pub(super) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.may_fail()?;
        fs::remove_dir(path)?;
        #[cfg(test)]
        self.note(|| Step::Remove(path.to_owned()));
        Ok(())
    }

    /// Make the names in a folder outlive a loss of power.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = File::open(path)?;
        #[cfg(test)]
        self.may_fail()?;
        #[cfg(test)]
        if self.journal.is_some() {
            self.note(|| Step::SyncFolder(path.to_owned()));
            return Ok(());
        }
        folder.sync_all()
    }

    /// The error that a test wants here.
    #[cfg(test)]
    fn may_fail(&self) -> io::Result<()> {
        self.journal.as_ref().map_or(Ok(()), Journal::may_fail)
    }

    #[cfg(test)]
    fn note(&self, step: impl FnOnce() -> Step) {
        if let Some(journal) = &self.journal {
            journal.note(step());
        }
    }
}

/// A file that is being written and has no name yet that anyone looks for.
pub(super) struct Draft {
    file: NamedTempFile,
    disk: Disk,
}

impl Draft {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its size on the disk, in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.file.as_file().metadata()?.len())
    }

    /// Write to its end.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.disk.may_fail()?;
        self.file.write_all(bytes)?;
        #[cfg(test)]
        self.disk.note(|| Step::Write(self.file.path().to_owned(), bytes.to_vec()));
        Ok(())
    }

    /// Read it from its beginning.
    pub(super) fn read_back(&mut self) -> io::Result<impl Read> {
        self.file.rewind()?;
        Ok(self.file.as_file())
    }

    /// Leave it where it is, for whoever goes on with it.
    pub(super) fn leave(mut self) {
        self.file.disable_cleanup(true);
    }

    /// Make its bytes outlive a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.disk.may_fail()?;
        #[cfg(test)]
        if self.disk.journal.is_some() {
            self.disk.note(|| Step::SyncFile(self.file.path().to_owned()));
            return Ok(());
        }
        self.file.as_file().sync_all()
    }

    /// Put it in its place, its age beginning now; what stood there is gone. The file keeps its lock until it is
    /// dropped.
    pub(super) fn place(self, path: &Path) -> io::Result<File> {
        #[cfg(test)]
        self.disk.may_fail()?;
        self.disk.refresh(self.file.path())?;
        #[cfg(test)]
        let from = self.file.path().to_owned();
        let file = self.file.persist(path).map_err(|error| error.error)?;
        #[cfg(test)]
        self.disk.note(|| Step::Rename(from, path.to_owned()));
        Ok(file)
    }
}
