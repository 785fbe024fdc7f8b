//! The folder of exports: files appear in it whole, by renaming, and the index last.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::index::Index;
use super::plan::Archive;
use super::reading::{Blobs, FromStore, measure};
use super::write::{Progress, write};
use crate::config::{INDEX_NAME, PART_PREFIX};
use crate::diag::{Diagnostic, Result};
use crate::oci::Digest;

/// What the names of files end in that are not whole yet.
const PART_SUFFIX: &str = ".part";
/// How large an index is read, in bytes.
const INDEX_LIMIT: u64 = 64 << 20;

/// A folder that exists.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// It was not there before.
    is_new: bool,
}

/// A file as it will stand, or stands already.
#[derive(Debug)]
pub(crate) struct Staged {
    /// What it is.
    pub(crate) archive: Archive,
    /// SHA-256 of its bytes.
    pub(crate) sha256: Digest,
    /// How many they are.
    pub(crate) size: u64,
    /// Whether the file stood already as it would be written.
    pub(crate) stood: bool,
    /// The bytes, until they have their name. Dropped, they go.
    part: Option<NamedTempFile>,
}

impl Folder {
    /// Open a folder, or make it. What killed exports left in it goes.
    ///
    /// # Errors
    /// Where it cannot be made, or is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_owned(), is_new: !path.exists() };
        fs::create_dir_all(path).map_err(|error| folder.failed("make the folder", path, &error))?;
        folder.sweep().map_err(|error| folder.failed("read the folder", path, &error))?;
        Ok(folder)
    }

    /// Take it away again, where it was made and nothing was written.
    pub(crate) fn leave(&self) {
        if self.is_new {
            // One that is not empty stays.
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// The path of something in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The index that stands in it; an empty one where there is none.
    ///
    /// # Errors
    /// Where a file stands in its place that is none, or a newer one.
    pub(crate) fn index(&self) -> Result<Index> {
        let path = self.file(INDEX_NAME);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(INDEX_LIMIT).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(error) => return Err(self.failed("read", &path, &error).into()),
        }
        Index::read(&bytes).map_err(|why| {
            Diagnostic::request(format!(
                "{} is no index of exports that could be written anew",
                path.display()
            ))
            .because(why)
            .hint("move it away, or choose another folder: polyarch export --to FOLDER")
            .into()
        })
    }

    /// Have the bytes of an archive ready beside its place; or see that they stand there.
    ///
    /// # Errors
    /// Where the store fails or the bytes cannot be written; nothing is left then.
    pub(crate) fn stage(
        &self,
        archive: Archive,
        index: &Index,
        blobs: &Blobs,
        threads: usize,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Staged> {
        let path = self.file(&archive.name);
        let failed = |error: io::Error| self.failed("write", &path, &error);
        if fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
            return Err(failed(io::ErrorKind::IsADirectory.into()).into());
        }
        if let Some((sha256, size)) = index.known(&archive.name, &archive.made_of())
            && self.holds(&archive.name, &sha256, size, blobs)
        {
            return Ok(Staged { archive, sha256, size, stood: true, part: None });
        }
        let part = self.part().map_err(failed)?;
        let file = part.as_file().try_clone().map_err(failed)?;
        let (sha256, size) = write(&archive, blobs, file, threads, progress).map_err(failed)?;
        let stood = self.holds(&archive.name, &sha256, size, blobs);
        Ok(Staged { archive, sha256, size, stood, part: (!stood).then_some(part) })
    }

    /// Write one file, whole or not at all, which stands in no index; the digest of its bytes, and how many they are.
    ///
    /// # Errors
    /// Where what writes it fails; nothing is left then.
    pub(crate) fn write_alone(
        &self,
        name: &str,
        write: impl FnOnce(File) -> io::Result<(Digest, u64)>,
    ) -> Result<(Digest, u64)> {
        let path = self.file(name);
        let written = || {
            let part = self.part()?;
            let measured = write(part.as_file().try_clone()?)?;
            part.persist(&path).map_err(|error| error.error)?;
            sync(&self.path);
            Ok(measured)
        };
        written().map_err(|error: io::Error| self.failed("write", &path, &error).into())
    }

    /// Give all files their names, and then write the index: who sees it sees them. Others who do the same wait.
    ///
    /// # Errors
    /// Where a file cannot be renamed. The index is then as it was.
    pub(crate) fn place(&self, staged: &mut [Staged]) -> Result<()> {
        let locked = File::open(&self.path).and_then(|folder| folder.lock().map(|()| folder));
        let _locked = locked.map_err(|error| self.failed("lock the folder", &self.path, &error))?;
        // It may have changed since the files were begun.
        let old = self.index()?;
        for file in staged.iter_mut() {
            let path = self.file(&file.archive.name);
            let Some(part) = file.part.take() else { continue };
            let parent = path.parent().unwrap_or(&self.path);
            fs::create_dir_all(parent).map_err(|error| self.failed("make the folder", parent, &error))?;
            part.persist(&path).map_err(|error| self.failed("write", &path, &error.error))?;
            sync(parent);
        }
        let stands = |name: &str, size: u64| {
            fs::symlink_metadata(self.file(name)).is_ok_and(|there| there.is_file() && there.len() == size)
        };
        let index = Index::of(staged, &old, stands);
        let path = self.file(INDEX_NAME);
        self.write_index(&path, &index).map_err(|error| self.failed("write", &path, &error))?;
        Ok(())
    }

    fn write_index(&self, path: &Path, index: &Index) -> io::Result<()> {
        let bytes = index.bytes()?;
        if fs::read(path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let mut part = self.part()?;
        part.write_all(&bytes)?;
        part.as_file().sync_all()?;
        part.persist(path).map_err(|error| error.error)?;
        sync(&self.path);
        Ok(())
    }

    /// A file of ours that is not whole. It is locked as long as somebody writes it.
    fn part(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        // Less what the user masks: it is for others to read, as any file.
        builder.prefix(PART_PREFIX).suffix(PART_SUFFIX).permissions(Permissions::from_mode(0o666));
        let part = builder.tempfile_in(&self.path)?;
        part.as_file().lock()?;
        Ok(part)
    }

    /// Takes away what killed exports left. An empty file may be of one that has just begun.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_part = name
                .to_str()
                .is_some_and(|name| name.starts_with(PART_PREFIX) && name.ends_with(PART_SUFFIX));
            let left = || entry.metadata().is_ok_and(|there| there.is_file() && there.len() > 0);
            if is_part && left() && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
                // What cannot be removed is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Whether a file has these bytes.
    fn holds(&self, name: &str, sha256: &Digest, size: u64, blobs: &Blobs) -> bool {
        let path = self.file(name);
        let ordinary = fs::symlink_metadata(&path).is_ok_and(|there| there.is_file() && there.len() == size);
        let same = || measure(File::open(&path)?, blobs);
        ordinary && same().is_ok_and(|(found, _)| found == *sha256)
    }

    fn failed(&self, doing: &str, path: &Path, error: &io::Error) -> Diagnostic {
        let problem = Diagnostic::surroundings(format!("{doing} {}", path.display())).caused_by(error);
        if error.get_ref().is_some_and(|inner| inner.is::<FromStore>()) {
            return problem.hint("see whether the store is whole: polyarch gc --scrub --dry-run");
        }
        let elsewhere = "choose another folder: polyarch export --to FOLDER";
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                problem.hint(format!("make room: df -h {}", self.path.display())).hint(elsewhere)
            }
            io::ErrorKind::IsADirectory => {
                problem.hint("remove that folder, or give the file another name by --name")
            }
            _ => problem.hint(elsewhere),
        }
    }
}

/// Makes sure that names in a folder outlive a crash, where its file system can.
fn sync(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}
