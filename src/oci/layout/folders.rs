//! Where everything lies in the folder of a store, and the few ways in which it is written.
//!
//! Every path is made of checked names, lies under the root, and is reached through folders that are no links
//! (TM30, I-S6). Everything appears by a rename of a whole, synced file, so a reader sees all of it or none.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind as Io, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

use crate::oci::{Algorithm, Digest, Error, ErrorKind, Repository};

/// Uploads that nobody has written to for so long are what a crashed run left.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The largest small file (tag, media type, layout version) that is read, in bytes.
pub(super) const SMALL_FILE_BYTES: u64 = 64 << 10;

/// The folders of a store.
pub(super) struct Folders {
    root: PathBuf,
    /// Device and inode of the root when it was opened: another folder in its place is not ours (F-S9).
    identity: (u64, u64),
}

impl Folders {
    /// Open the folder of a store, or make one of an empty or missing folder.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
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
        let folders = Self { root, identity: (metadata.dev(), metadata.ino()) };
        folders.settle()?;
        Ok(folders)
    }

    /// Make what a store consists of, the mark of a layout last, unless it is there.
    fn settle(&self) -> Result<(), Error> {
        let ours = self.is_there(&self.repositories())?;
        if !ours {
            let doing = || format!("list the store folder `{}`", self.root.display());
            for entry in fs::read_dir(&self.root).map_err(|error| Error::io(doing(), error))? {
                let name = entry.map_err(|error| Error::io(doing(), error))?.file_name();
                if name != "lost+found" {
                    let root = self.root.display();
                    let what = format!("`{root}` is neither empty nor a store of ours: it holds {name:?}");
                    return Err(Error::new(ErrorKind::Invalid, what));
                }
            }
        }
        for folder in [self.repositories(), self.uploads(), self.blobs(Algorithm::Sha256)] {
            self.ensure(&folder)?;
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

    /// The file of content, whatever repositories hold it.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    fn blobs(&self, algorithm: Algorithm) -> PathBuf {
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
            match fs::create_dir(&step) {
                Ok(()) => sync_folder(step.parent().unwrap_or(&self.root))?,
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
    pub(super) fn temporary(&self) -> Result<NamedTempFile, Error> {
        let uploads = self.uploads();
        self.ensure(&uploads)?;
        tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(&uploads)
            .map_err(|error| Error::io(format!("make a file in `{}`", uploads.display()), error))
    }

    /// Put a written file in its place for good: sync it, rename it, sync the folder.
    pub(super) fn commit(&self, file: NamedTempFile, path: &Path) -> Result<(), Error> {
        self.place(file, path)?;
        sync_folder(path.parent().unwrap_or(&self.root))
    }

    /// As [`Self::commit`], where the caller syncs the folder once for many files.
    pub(super) fn place(&self, file: NamedTempFile, path: &Path) -> Result<(), Error> {
        let doing = || format!("write `{}`", path.display());
        file.as_file().sync_all().map_err(|error| Error::io(doing(), error))?;
        self.ensure(path.parent().unwrap_or(&self.root))?;
        file.persist(path).map(drop).map_err(|error| Error::io(doing(), error.error))
    }

    /// A temporary file with these bytes, to be placed.
    pub(super) fn written(&self, bytes: &[u8]) -> Result<NamedTempFile, Error> {
        let mut file = self.temporary()?;
        file.write_all(bytes)
            .map_err(|error| Error::io(format!("write `{}`", file.path().display()), error))?;
        Ok(file)
    }

    /// Put bytes in the place of a file, whole or not at all.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.commit(self.written(bytes)?, path)
    }

    /// Make an empty file, for good, unless it is there.
    pub(super) fn mark(&self, path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(&self.root);
        self.ensure(folder)?;
        touch(path)?;
        // Also where it was there: whoever made it may not have synced yet, and we say that it is safe.
        sync_folder(folder)
    }

    /// As [`Self::mark`], without waiting for the disk: for what is worth knowing and can be lost.
    pub(super) fn hint(&self, path: &Path) -> Result<(), Error> {
        self.ensure(path.parent().unwrap_or(&self.root))?;
        touch(path).map(drop)
    }

    /// Take a lock that other threads and processes respect, until the file is dropped or the process dies.
    pub(super) fn lock(&self, folder: &Path) -> Result<File, Error> {
        self.ensure(folder)?;
        let path = folder.join("_lock");
        let file = touch(&path)?;
        file.lock().map_err(|error| Error::io(format!("lock `{}`", path.display()), error))?;
        Ok(file)
    }

    /// Remove uploads that crashed runs left. The age is by the clock of the file system, which dated them.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        let uploads = self.uploads();
        let doing = || format!("sweep `{}`", uploads.display());
        let fresh = self.temporary()?;
        let modified = |metadata: io::Result<fs::Metadata>| metadata.and_then(|found| found.modified());
        let now = modified(fresh.as_file().metadata()).map_err(|error| Error::io(doing(), error))?;
        for entry in fs::read_dir(&uploads).map_err(|error| Error::io(doing(), error))? {
            let entry = entry.map_err(|error| Error::io(doing(), error))?;
            // Gone since it was listed: another process finished it or swept it.
            let Ok(written) = modified(entry.metadata()) else { continue };
            let old = now.duration_since(written).is_ok_and(|age| age > LEFTOVER_AGE);
            if old && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
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

fn touch(path: &Path) -> Result<File, Error> {
    { OpenOptions::new() }
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|error| Error::io(format!("make `{}`", path.display()), error))
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
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(format!("read `{}`", path.display()), error))?;
    if bytes.len() as u64 > limit {
        let what = format!("read `{}`: it has more than {limit} bytes", path.display());
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    Ok(Some(bytes))
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

/// Remove a file; whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == Io::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("remove `{}`", path.display()), error)),
    }
}

/// Make the names in a folder outlive a loss of power.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    { File::open(folder).and_then(|file| file.sync_all()) }
        .map_err(|error| Error::io(format!("sync `{}`", folder.display()), error))
}
