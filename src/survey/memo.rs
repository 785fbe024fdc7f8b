//! What files were found to be, so that a file that nobody has touched since is not read again.
//!
//! A file is known by its device, inode, size and both of its times, in nanoseconds: whoever writes to a file, or puts
//! another in its place, changes its change time, which no program can set. What was changed a moment before it was read is not
//! remembered, since file systems tell times only so finely. No key has any of it: DESIGN law 2 allows a memo to save
//! hashing, and a memo that is lost or cannot be read costs time alone.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::oci::Digest;

/// The first line; a file that begins otherwise is of another version.
const HEAD: &str = "polyarch files 1";
/// How long a file must have been left alone to be remembered, in seconds: coarser than any file system's times.
const STILL_SECONDS: i64 = 2;
/// How large a memo is read, in bytes: about a million files.
const BYTES_LIMIT: u64 = 160 << 20;

/// By what a file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn to_line(self, digest: &Digest) -> String {
        let Self { device, inode, size, modified, changed } = self;
        let times = format!("{} {} {} {}", modified.0, modified.1, changed.0, changed.1);
        format!("{device} {inode} {size} {times} {}\n", digest.hex())
    }

    fn from_line(line: &str) -> Option<(Self, Digest)> {
        let mut fields = line.split(' ');
        let mut whole = || fields.next()?.parse::<u64>().ok();
        let (device, inode, size) = (whole()?, whole()?, whole()?);
        let mut time = || fields.next()?.parse::<i64>().ok();
        let (modified, changed) = ((time()?, time()?), (time()?, time()?));
        let digest = format!("sha256:{}", fields.next()?).parse().ok()?;
        fields.next().is_none().then_some((Self { device, inode, size, modified, changed }, digest))
    }
}

/// The files of one family, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// Where it is kept.
    file: Option<PathBuf>,
    /// When this command began, in seconds since 1970-01-01 UTC.
    began_seconds: i64,
    known: BTreeMap<Seen, Digest>,
    met: Mutex<BTreeMap<Seen, Digest>>,
}

impl Memo {
    /// One that knows nothing and keeps nothing: every file is read.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// What is kept in a file; nothing, where that cannot be read. `began_seconds` is when this command began.
    pub(crate) fn open(file: PathBuf, began_seconds: u64) -> Self {
        let known = read(&file).unwrap_or_default();
        let began_seconds = i64::try_from(began_seconds).unwrap_or(i64::MAX);
        Self { file: Some(file), began_seconds, known, met: Mutex::default() }
    }

    /// The digest of a file, where it is known and nobody has touched it since.
    pub(super) fn recall(&self, metadata: &Metadata) -> Option<Digest> {
        let seen = Seen::of(metadata);
        let digest = self.known.get(&seen)?;
        self.met().insert(seen, digest.clone());
        Some(digest.clone())
    }

    /// Remember a file that was read, and stood still meanwhile.
    pub(super) fn remember(&self, metadata: &Metadata, digest: &Digest) {
        let seen = Seen::of(metadata);
        if self.file.is_some() && seen.changed.0.saturating_add(STILL_SECONDS) < self.began_seconds {
            self.met().insert(seen, digest.clone());
        }
    }

    /// Keep what this command has met, and nothing else. What cannot be kept is read again next time.
    pub(super) fn keep(&self) {
        let met = self.met();
        if let Some(file) = self.file.as_ref().filter(|_| *met != self.known) {
            // A memo is worth no word.
            let _ = write(file, &met);
        }
    }

    fn met(&self) -> std::sync::MutexGuard<'_, BTreeMap<Seen, Digest>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &Path) -> Option<BTreeMap<Seen, Digest>> {
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(BYTES_LIMIT).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let head = lines.next()?;
    // One line that cannot be read makes the rest doubtful too.
    if head == HEAD { lines.map(Seen::from_line).collect() } else { None }
}

fn write(file: &Path, met: &BTreeMap<Seen, Digest>) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut part = tempfile::NamedTempFile::new_in(folder)?;
    let lines: String = met.iter().map(|(seen, digest)| seen.to_line(digest)).collect();
    part.write_all(format!("{HEAD}\n{lines}").as_bytes())?;
    part.persist(file).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Long after every file of these tests was written.
    const LATER: u64 = 1 << 40;

    fn metadata(file: &Path) -> Metadata {
        fs::symlink_metadata(file).expect("a file")
    }

    #[test]
    fn a_file_is_known_until_somebody_touches_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (kept, file) = (folder.path().join("cache/memo"), folder.path().join("file"));
        fs::write(&file, "one").expect("a file");
        let digest = Digest::of(b"one");
        let memo = Memo::open(kept.clone(), LATER);
        assert_eq!(memo.recall(&metadata(&file)), None);
        memo.remember(&metadata(&file), &digest);
        memo.keep();
        let known = |file: &Path| Memo::open(kept.clone(), LATER).recall(&metadata(file));
        assert_eq!(known(&file), Some(digest.clone()));
        // The same size and the same time of change, as far as a program can set it.
        let times = metadata(&file).modified().expect("a time");
        fs::write(&file, "two").expect("a file");
        fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_modified(times))
            .expect("a time");
        assert_eq!(known(&file), None);
        let other = folder.path().join("other");
        fs::write(&other, "one").expect("a file");
        assert_eq!(known(&other), None, "another file of the same content");
    }

    #[test]
    fn what_changed_a_moment_ago_is_not_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        let (kept, file) = (folder.path().join("memo"), folder.path().join("file"));
        fs::write(&file, "one").expect("a file");
        let changed = u64::try_from(metadata(&file).ctime()).expect("after 1970");
        for (began, remembered) in [(changed, false), (changed + 2, false), (changed + 3, true), (0, false)] {
            let memo = Memo::open(kept.clone(), began);
            memo.remember(&metadata(&file), &Digest::of(b"one"));
            memo.keep();
            let known = Memo::open(kept.clone(), LATER).recall(&metadata(&file));
            assert_eq!(known.is_some(), remembered, "{}", began as i64 - changed as i64);
            let _ = fs::remove_file(&kept);
        }
    }

    #[test]
    fn a_memo_that_cannot_be_read_or_kept_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let (kept, file) = (folder.path().join("memo"), folder.path().join("file"));
        fs::write(&file, "one").expect("a file");
        let line = Seen::of(&metadata(&file)).to_line(&Digest::of(b"one"));
        for (text, known) in [
            (format!("{HEAD}\n{line}"), true),
            (format!("{HEAD}\n{line}x\n"), false),
            (format!("polyarch files 2\n{line}"), false),
            (format!("{HEAD}\n{}", line.replace(" 3 ", " -3 ")), false),
            (String::new(), false),
        ] {
            fs::write(&kept, &text).expect("a memo");
            let found = Memo::open(kept.clone(), LATER).recall(&metadata(&file));
            assert_eq!(found.is_some(), known, "{text}");
        }
        let nowhere = folder.path().join("file/memo");
        let memo = Memo::open(nowhere.clone(), LATER);
        memo.remember(&metadata(&file), &Digest::of(b"one"));
        memo.keep();
        assert_eq!(Memo::open(nowhere, LATER).recall(&metadata(&file)), None);
    }
}
