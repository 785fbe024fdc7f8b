//! Where everything lies in the folder of a store, and the few ways in which it is written.
//!
//! Every path is made of checked names, lies under the root, and is reached through folders that are no links
//! (TM30, I-S6). Everything appears by a rename of a whole, synced file, so a reader sees all of it or none.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;

use super::disk::{Disk, Draft};
use super::format::Format;
use super::keep;
use crate::oci::{Algorithm, Digest, Error, ErrorKind, Repository, UploadName};

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The largest small file (tag, media type, layout version) that is read, in bytes.
pub(super) const SMALL_FILE_BYTES: u64 = 64 << 10;
/// How the file of an upload begins that may be gone on with by its name.
pub(super) const SESSION: &str = "session-";

/// How often a lock is taken anew whose file was removed meanwhile.
const LOCK_TRIES: usize = 16;

/// A lock, held until it is dropped or the process dies.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// See whether others still respect it, before what it protects is changed (F-X4).
    ///
    /// # Errors
    /// `Passing` where its file was removed: whoever came since holds another.
    pub(super) fn check(&self) -> Result<(), Error> {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        let doing = |error| Error::io(format!("look at the lock `{}`", self.path.display()), error);
        let held = self.file.metadata().map(identity).map_err(doing)?;
        match fs::symlink_metadata(&self.path).map(identity) {
            Ok(found) if found == held => Ok(()),
            Err(error) if error.kind() != Io::NotFound => Err(doing(error)),
            _ => {
                let what = format!("the lock `{}` was removed while it was held", self.path.display());
                Err(Error::new(ErrorKind::Passing, what))
            }
        }
    }
}

/// The folders of a store.
pub(super) struct Folders {
    root: PathBuf,
    /// Device and inode of the root when it was opened: another folder in its place is not ours (F-S9).
    identity: (u64, u64),
    disk: Disk,
    format: Format,
}

impl Folders {
    /// Open the folder of a store, or make one of an empty or missing folder. One of a newer format can be read, if
    /// it says so, and not written.
    pub(super) fn open(root: &Path, disk: Disk) -> Result<Self, Error> {
        // Without a slash at its end, which would make the system follow a link.
        let root: PathBuf = root.components().collect();
        let doing = || format!("open the store folder `{}`", root.display());
        if let Err(error) = fs::symlink_metadata(&root) {
            if error.kind() != Io::NotFound {
                return Err(Error::io(doing(), error));
            }
            make_root(&root).map_err(|error| Error::io(doing(), error))?;
        }
        let metadata = fs::symlink_metadata(&root).map_err(|error| Error::io(doing(), error))?;
        if !metadata.is_dir() {
            let why = "it is no folder; a symbolic link could lead anywhere";
            return Err(Error::new(ErrorKind::Invalid, format!("{}: {why}", doing())));
        }
        let identity = (metadata.dev(), metadata.ino());
        let mut folders = Self { root, identity, disk, format: Format::OURS };
        let stamped = Format::read(&folders.stamp())?;
        folders.format = stamped.unwrap_or(Format::OURS);
        if folders.is_writable() {
            folders.settle()?;
            if stamped.is_none() {
                folders.replace(&folders.stamp(), &Format::OURS.to_bytes())?;
            }
        }
        Ok(folders)
    }

    fn stamp(&self) -> PathBuf {
        self.root.join("store.json")
    }

    /// Whether this program may write what the store consists of.
    pub(super) fn is_writable(&self) -> bool {
        self.format.is_writable()
    }

    /// Refuse to write what a newer program would misread (F-S16).
    pub(super) fn writable(&self) -> Result<(), Error> {
        self.format.writable(&self.root)
    }

    /// Make what a store consists of, the mark of a layout last, unless it is there.
    fn settle(&self) -> Result<(), Error> {
        let ours = self.is_there(&self.repositories())?;
        if !ours {
            let doing = || format!("list the store folder `{}`", self.root.display());
            for entry in fs::read_dir(&self.root).map_err(|error| Error::io(doing(), error))? {
                let name = entry.map_err(|error| Error::io(doing(), error))?.file_name();
                // Whoever makes the store at the same time begins with its repositories (F-X1).
                if name != "lost+found" && !self.is_there(&self.repositories())? {
                    let root = self.root.display();
                    let what = format!("`{root}` is neither empty nor a store of ours: it holds {name:?}");
                    return Err(Error::new(ErrorKind::Invalid, what));
                }
            }
        }
        for folder in [self.repositories(), self.uploads(), self.leases(), self.blobs(Algorithm::Sha256)] {
            self.ensure(&folder)?;
        }
        // Made now: who only reads must not need space on a full disk.
        for name in keep::LOCKS {
            self.lock_file(name)?;
        }
        let mark = self.root.join(LAYOUT_FILE);
        match read_small(&mark)? {
            None => self.replace(&mark, LAYOUT_TEXT.as_bytes()),
            Some(bytes) => {
                let value: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
                match value.as_ref().and_then(|value| value["imageLayoutVersion"].as_str()) {
                    Some("1.0.0") => Ok(()),
                    _ => Err(Error::new(
                        ErrorKind::Invalid,
                        format!("`{}` is not of OCI image layout 1.0.0", mark.display()),
                    )),
                }
            }
        }
    }

    /// The folder of the whole store.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of all repositories. Names in it that begin with `_` are no repositories.
    pub(super) fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    /// The folder of one repository.
    pub(super) fn repository(&self, name: &Repository) -> PathBuf {
        self.repositories().join(name.as_str())
    }

    /// The folder of blobs on their way.
    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// The folder of those who are at work.
    pub(super) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// The folder of those who make something that others wait for.
    pub(super) fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }

    /// The folder of content that was found broken.
    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The file of content, whatever repositories hold it.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    /// The folder of all content by one algorithm.
    pub(super) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    /// Whether a folder of the store is there, reached through no link.
    pub(super) fn is_there(&self, folder: &Path) -> Result<bool, Error> {
        self.check_root()?;
        for step in self.steps(folder) {
            match kind_of(&step)? {
                Some(Kind::Folder) => {}
                None => return Ok(false),
                Some(Kind::Other) => return Err(no_folder(&step)),
            }
        }
        Ok(true)
    }

    /// Make a folder of the store, and those above it, unless they are there.
    pub(super) fn ensure(&self, folder: &Path) -> Result<(), Error> {
        self.check_root()?;
        for step in self.steps(folder) {
            match kind_of(&step)? {
                Some(Kind::Folder) => continue,
                Some(Kind::Other) => return Err(no_folder(&step)),
                None => {}
            }
            match self.disk.create_folder(&step) {
                Ok(()) => self.sync_folder(step.parent().unwrap_or(&self.root))?,
                Err(error) if error.kind() == Io::AlreadyExists => {}
                Err(error) => return Err(Error::io(format!("make `{}`", step.display()), error)),
            }
        }
        Ok(())
    }

    /// The folders from the root to this one, without the root.
    fn steps(&self, folder: &Path) -> Vec<PathBuf> {
        let below = folder.ancestors().take_while(|step| *step != self.root);
        let mut steps: Vec<PathBuf> = below.map(Path::to_owned).collect();
        steps.reverse();
        steps
    }

    fn check_root(&self) -> Result<(), Error> {
        let found = fs::symlink_metadata(&self.root).map_err(|error| {
            Error::io(format!("look at the store folder `{}`", self.root.display()), error)
        })?;
        match found.is_dir() && (found.dev(), found.ino()) == self.identity {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Failed,
                format!("the store folder `{}` was replaced while it was in use", self.root.display()),
            )),
        }
    }

    /// A new file among the uploads, which vanishes when dropped.
    pub(super) fn draft(&self) -> Result<Draft, Error> {
        self.writable()?;
        let uploads = self.uploads();
        self.ensure(&uploads)?;
        self.disk
            .draft(&uploads)
            .map_err(|error| Error::io(format!("make a file in `{}`", uploads.display()), error))
    }

    /// The file of an upload that outlives its process: a new one, or the one that is there. It is locked, so that
    /// one process at a time has it, and vanishes when dropped.
    ///
    /// # Errors
    /// `Passing` where another process has it.
    pub(super) fn session(
        &self,
        repository: &Repository,
        name: UploadName,
        is_new: bool,
    ) -> Result<Option<Draft>, Error> {
        self.writable()?;
        let uploads = self.uploads();
        self.ensure(&uploads)?;
        let owner = Digest::of(repository.as_str().as_bytes());
        let path = uploads.join(format!("{SESSION}{:032x}-{}", name.0, owner.hex()));
        self.disk.session(&path, is_new).map_err(|error| {
            let doing = format!("open the upload `{}`", path.display());
            match error.kind() {
                Io::WouldBlock => {
                    Error::new(ErrorKind::Passing, format!("{doing}: another request works on it"))
                }
                _ => Error::io(doing, error),
            }
        })
    }

    /// The first step of putting a written file in its place for good: its bytes are safe, and nobody sees them.
    pub(super) fn sync(&self, file: &Draft) -> Result<(), Error> {
        file.sync().map_err(|error| Error::io(format!("sync `{}`", file.path().display()), error))
    }

    /// The second step: everybody sees it. The third is to sync the folder, once for many files.
    pub(super) fn place(&self, file: Draft, path: &Path) -> Result<(), Error> {
        self.place_open(file, path).map(drop)
    }

    /// As [`Self::place`]; the file keeps its lock until it is dropped.
    pub(super) fn place_open(&self, file: Draft, path: &Path) -> Result<File, Error> {
        self.ensure(path.parent().unwrap_or(&self.root))?;
        file.place(path).map_err(|error| Error::io(format!("write `{}`", path.display()), error))
    }

    /// A temporary file with these bytes, synced, to be placed.
    pub(super) fn written(&self, bytes: &[u8]) -> Result<Draft, Error> {
        let mut file = self.draft()?;
        file.write_all(bytes)
            .map_err(|error| Error::io(format!("write `{}`", file.path().display()), error))?;
        self.sync(&file)?;
        Ok(file)
    }

    /// Put bytes in the place of a file, whole or not at all.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.place(self.written(bytes)?, path)?;
        self.sync_folder(path.parent().unwrap_or(&self.root))
    }

    /// Make an empty file, for good, unless it is there; its age begins now.
    pub(super) fn mark(&self, path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(&self.root);
        self.touch(path)?;
        self.refresh(path)?;
        // Also where it was there: whoever made it may not have synced yet, and we say that it is safe.
        self.sync_folder(folder)
    }

    /// As [`Self::mark`], without waiting for the disk: for what is worth knowing and can be lost.
    pub(super) fn hint(&self, path: &Path) -> Result<(), Error> {
        self.touch(path).map(drop)
    }

    fn touch(&self, path: &Path) -> Result<File, Error> {
        self.writable()?;
        self.ensure(path.parent().unwrap_or(&self.root))?;
        self.disk.touch(path).map_err(|error| Error::io(format!("make `{}`", path.display()), error))
    }

    /// Let the age of a file begin again; whether it is there.
    pub(super) fn refresh(&self, path: &Path) -> Result<bool, Error> {
        self.disk
            .refresh(path)
            .map_err(|error| Error::io(format!("set the time of `{}`", path.display()), error))
    }

    /// Move a file within the store.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.disk
            .rename(from, to)
            .map_err(|error| Error::io(format!("move `{}` to `{}`", from.display(), to.display()), error))
    }

    /// Remove a file; whether it was there.
    pub(super) fn remove(&self, path: &Path) -> Result<bool, Error> {
        self.disk.remove(path).map_err(|error| Error::io(format!("remove `{}`", path.display()), error))
    }

    /// Remove a folder, where it is empty.
    pub(super) fn remove_empty(&self, folder: &Path) {
        // What came into it meanwhile stays, and so does the folder.
        let _ = self.disk.remove_folder(folder);
    }

    /// Make the names in a folder outlive a loss of power.
    pub(super) fn sync_folder(&self, folder: &Path) -> Result<(), Error> {
        self.disk
            .sync_folder(folder)
            .map_err(|error| Error::io(format!("sync `{}`", folder.display()), error))
    }

    /// Take the lock of a folder, which other threads and processes respect.
    pub(super) fn lock(&self, folder: &Path) -> Result<Lock, Error> {
        self.lock_at(folder.join("_lock"), File::lock)
    }

    /// Take the lock in a file of this name for the whole store, alone or with others.
    pub(super) fn lock_whole(
        &self,
        name: &str,
        take: impl Fn(&File) -> io::Result<()>,
    ) -> Result<Lock, Error> {
        self.lock_at(self.repositories().join(name), take)
    }

    fn lock_at(&self, path: PathBuf, take: impl Fn(&File) -> io::Result<()>) -> Result<Lock, Error> {
        for _ in 1..LOCK_TRIES {
            let lock = self.lock_once(path.clone(), &take)?;
            // Somebody may have removed the file while we waited for it: then others hold another one.
            if lock.check().is_ok() {
                return Ok(lock);
            }
        }
        let lock = self.lock_once(path, &take)?;
        lock.check().map(|()| lock)
    }

    /// Take the lock in a file at once, which is made where it is not there; `None` where another has it.
    pub(super) fn lock_now(&self, path: &Path) -> Result<Option<Lock>, Error> {
        for _ in 0..LOCK_TRIES {
            let file = self.touch(path)?;
            match file.try_lock() {
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(error)) => {
                    return Err(Error::io(format!("lock `{}`", path.display()), error));
                }
                Ok(()) => {}
            }
            let lock = Lock { file, path: path.to_owned() };
            // Whoever had it before may have removed the file after it was opened here.
            if lock.check().is_ok() {
                return Ok(Some(lock));
            }
        }
        Ok(None)
    }

    /// Have a file that is there say this and nothing else. It is worth knowing, and can be lost.
    pub(super) fn overwrite(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.disk
            .overwrite(path, bytes)
            .map_err(|error| Error::io(format!("write `{}`", path.display()), error))
    }

    fn lock_once(&self, path: PathBuf, take: impl Fn(&File) -> io::Result<()>) -> Result<Lock, Error> {
        let file = self.touch(&path)?;
        take(&file).map_err(|error| Error::io(format!("lock `{}`", path.display()), error))?;
        Ok(Lock { file, path })
    }

    /// The file of a lock of the whole store.
    pub(super) fn lock_file(&self, name: &str) -> Result<File, Error> {
        self.touch(&self.repositories().join(name))
    }

    /// The time by the clock of the file system, which dates the files. It takes no space on a full disk.
    pub(super) fn now(&self) -> Result<SystemTime, Error> {
        let path = self.repositories().join(keep::CLOCK);
        self.refresh(&path)?;
        let missing = || Error::new(ErrorKind::NotFound, format!("`{}` is gone", path.display()));
        Ok(age_mark(&path)?.ok_or_else(missing)?.0)
    }
}

/// What stands at a path: a folder, or something that must not stand where a folder is wanted.
enum Kind {
    Folder,
    Other,
}

fn kind_of(path: &Path) -> Result<Option<Kind>, Error> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(Some(Kind::Folder)),
        Ok(_) => Ok(Some(Kind::Other)),
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("look at `{}`", path.display()), error)),
    }
}

fn no_folder(path: &Path) -> Error {
    let what = format!("`{}` is a link or file where the store wants a folder of its own", path.display());
    Error::new(ErrorKind::Failed, what)
}

/// Only the owner may look into a folder that we make.
fn make_root(root: &Path) -> io::Result<()> {
    if let Some(above) = root.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() == Io::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Open a file of the store, if it is there and no link.
pub(super) fn open(path: &Path) -> Result<Option<File>, Error> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("open `{}`", path.display()), error)),
    }
}

/// Whether a file of the store is there.
pub(super) fn is_file(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if error.kind() == Io::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("look at `{}`", path.display()), error)),
    }
}

/// The bytes of a file of at most `limit` bytes, or `None` where it is not there.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(file) = open(path)? else { return Ok(None) };
    read_open(&file, path, limit).map(Some)
}

/// The bytes of an open file of at most `limit` bytes.
pub(super) fn read_open(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(format!("read `{}`", path.display()), error))?;
    if bytes.len() as u64 > limit {
        let what = format!("read `{}`: it has more than {limit} bytes", path.display());
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    Ok(bytes)
}

/// The bytes of a tag, media type or other small file.
pub(super) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    read(path, SMALL_FILE_BYTES)
}

/// The names in a folder, in order; none where it is not there.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let doing = || format!("list `{}`", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == Io::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(doing(), error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no text is none of ours.
        names.extend(entry.map_err(|error| Error::io(doing(), error))?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// When a file was last refreshed, and its size in bytes; `None` where no file is there.
pub(super) fn age_mark(path: &Path) -> Result<Option<(SystemTime, u64)>, Error> {
    let doing = |error| Error::io(format!("look at `{}`", path.display()), error);
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Ok(None),
        Ok(found) => Ok(Some((found.modified().map_err(doing)?, found.len()))),
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        Err(error) => Err(doing(error)),
    }
}
