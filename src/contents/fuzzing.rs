//! Layers as they are read for the list of packages: see `src/fuzzing.rs`.

use std::io::{Error, Result, Write};

use super::image::Unpacker;
use super::layer::Scan;
use super::machine::Machines;
use super::tar::{Archive, Entry, EntryKind, Visitor};

/// Wants all bytes of all entries.
#[derive(Default)]
struct Everything {
    entries: Vec<(Entry, Vec<u8>)>,
    open: bool,
}

impl Visitor for Everything {
    fn begin(&mut self, entry: Entry) -> Result<bool> {
        assert!(!self.open, "an entry begins in another");
        let parts = || entry.path.split('/');
        assert!(entry.path.is_empty() || parts().all(|part| !matches!(part, "" | "." | "..")), "{entry:?}");
        assert!(entry.kind == EntryKind::File || entry.size == 0, "{entry:?} has bytes");
        self.open = true;
        self.entries.push((entry, Vec::new()));
        Ok(true)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        assert!(self.open, "bytes of nothing");
        self.entries.last_mut().expect("an entry").1.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (entry, bytes) = self.entries.last().expect("an entry");
        assert!(std::mem::take(&mut self.open), "it ends twice");
        assert_eq!(bytes.len() as u64, entry.size, "{entry:?}");
        Ok(())
    }
}

/// What an archive that comes in such pieces has, or why it is refused.
fn entries(data: &[u8], piece: usize) -> std::result::Result<Vec<(Entry, Vec<u8>)>, String> {
    let mut archive = Archive::new(Everything::default());
    let taken = data.chunks(piece).try_for_each(|bytes| archive.write_all(bytes));
    let all = taken.and_then(|()| archive.finish()).map_err(|error| error.to_string())?;
    assert!(!all.open, "an archive is whole whose last entry is not");
    Ok(all.entries)
}

/// Archives: what is read stays below the root, has as many bytes as it says and no more than came, and is the same
/// however the archive is cut into pieces.
pub(crate) fn tar(data: &[u8]) {
    let whole = entries(data, usize::MAX);
    for piece in [1, 511, 513] {
        assert_eq!(entries(data, piece), whole, "in pieces of {piece} bytes");
    }
    let bytes = whole.iter().flatten().map(|(_, bytes)| bytes.len()).sum::<usize>();
    assert!(bytes <= data.len());
    let mut scan = Scan::new();
    let scanned = scan.write_all(data).and_then(|()| scan.finish());
    assert!(scanned.is_err() || whole.is_ok(), "packages of what is no archive: {whole:?}");
    let platform = "linux/arm64".parse().expect("a platform");
    let mut machines = Archive::new(Machines::new(&platform));
    let looked = machines.write_all(data).and_then(|()| machines.finish());
    assert!(looked.is_err() || whole.is_ok(), "executables of what is no archive: {whole:?}");
    let foreign = looked.map(|machines| machines.upon(super::Foreign::new())).unwrap_or_default();
    let is_there = |path: &String| { whole.iter().flatten() }.any(|(entry, _)| entry.path == *path);
    assert!(foreign.keys().all(is_there), "executables that the archive does not have: {foreign:?}");
}

/// The paths that are read in an archive, one for each entry that has one below the root; `None` where it is refused.
#[cfg(test)]
pub(super) fn paths(data: &[u8]) -> Option<Vec<String>> {
    let all = entries(data, usize::MAX).ok()?;
    Some(all.into_iter().map(|(entry, _)| entry.path).collect())
}

/// Takes no more than so many bytes.
struct Limited(Vec<u8>, usize);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let room = self.1 - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if room == 0 { Err(Error::other("enough")) } else { Ok(bytes.len().min(room)) }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What is unpacked of a layer that comes in such pieces; `None` where it is refused or larger than the limit in bytes.
pub(crate) fn layer(data: &[u8], piece: usize, limit: usize) -> Option<Vec<u8>> {
    let begin = Unpacker::new(Limited(Vec::new(), limit));
    let taken = data.chunks(piece).try_fold(begin, |unpacker, bytes| unpacker.take(bytes));
    Some(taken.and_then(Unpacker::finish).ok()?.0)
}
