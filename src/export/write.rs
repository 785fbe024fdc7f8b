//! Write one archive: its entries, one behind the other, through the compression into a file.

use std::fs::File;
use std::io::{self, BufWriter, Read};

use bytes::Bytes;
use tar::{Builder, EntryType, Header};

use super::pack::Packer;
use super::plan::Archive;
use super::reading::{Blobs, Exactly};
use super::{docker, layout};
use crate::config::{ArchiveFormat, Compression};
use crate::oci::{Descriptor, Digest, Document, Measured};

/// How much is written to the file at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// How far the writing of a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What is being done.
    pub(crate) step: Step,
    /// So many bytes are done.
    pub(crate) bytes: u64,
    /// Of so many.
    pub(crate) at_most: u64,
}

/// What is being done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Layers are unpacked to see how large they are; bytes are those of the packed layers.
    Looking,
    /// It is written; bytes are those before the compression.
    Writing,
}

/// An entry of an archive.
pub(crate) struct Entry {
    /// Its path.
    pub(crate) name: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// What it is made of.
    pub(crate) source: Source,
}

impl Entry {
    /// An entry of bytes in memory.
    pub(crate) fn of(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { name: name.into(), size: bytes.len() as u64, source: Source::Bytes(bytes) }
    }

    /// A document of an OCI image layout, at its place.
    pub(crate) fn document(document: &Document) -> Self {
        Self::of(place(&document.descriptor()), document.bytes().clone())
    }

    /// A blob of the store as it is, at its place in an OCI image layout.
    pub(crate) fn stored(blob: Descriptor) -> Self {
        Self { name: place(&blob), size: blob.size, source: Source::Stored(blob) }
    }
}

/// Where content is in an image layout: OCI image specification 1.1, "Image Layout", "Blobs".
fn place(content: &Descriptor) -> String {
    format!("blobs/{}/{}", content.digest.algorithm().name(), content.digest.hex())
}

/// What an entry is made of.
pub(crate) enum Source {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A blob as it is in the store.
    Stored(Descriptor),
    /// A layer, unpacked.
    Unpacked(Descriptor),
}

/// Write an archive into a file; the digest of its bytes, and how many they are. With how many threads does
/// not matter for the bytes.
///
/// # Errors
/// Where the store fails, or the file cannot be written.
pub(crate) fn write(
    archive: &Archive,
    blobs: &Blobs,
    file: File,
    threads: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> io::Result<(Digest, u64)> {
    let entries = match archive.format {
        ArchiveFormat::Docker => docker::entries(archive, blobs, threads, progress)?,
        ArchiveFormat::Oci => layout::entries(archive, blobs)?,
    };
    pack(entries, archive.compression, blobs, file, threads, progress)
}

/// Write these entries, one behind the other; the digest of the file's bytes, and how many they are.
///
/// # Errors
/// As for [`write()`].
pub(crate) fn pack(
    entries: Vec<Entry>,
    compression: Compression,
    blobs: &Blobs,
    file: File,
    threads: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> io::Result<(Digest, u64)> {
    let at_most = entries.iter().map(|entry| entry.size).sum();
    let out = Measured::new(BufWriter::with_capacity(PIECE_BYTES, file));
    let mut tar = Builder::new(Packer::new(compression, out, threads)?);
    let mut done = 0;
    for entry in entries {
        let told = |bytes| progress(Progress { step: Step::Writing, bytes: done + bytes, at_most });
        let size = entry.size;
        append(&mut tar, entry, blobs, &told)?;
        done += size;
    }
    let (out, digest, bytes) = tar.into_inner()?.finish()?.finish();
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok((digest, bytes))
}

fn append<W: io::Write>(
    tar: &mut Builder<W>,
    entry: Entry,
    blobs: &Blobs,
    told: &dyn Fn(u64),
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(entry.size);
    header.set_mode(0o644);
    // Nothing of here and now: same content, same bytes.
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let reader: Box<dyn Read> = match entry.source {
        Source::Bytes(bytes) => Box::new(io::Cursor::new(bytes)),
        Source::Stored(blob) => Box::new(blobs.open(&blob)?),
        Source::Unpacked(layer) => blobs.unpacked(&layer)?,
    };
    let reader = Exactly { reader, left: entry.size };
    tar.append_data(&mut header, &entry.name, Told { reader, read: 0, told })
}

/// A reader that tells how far it is.
struct Told<'a, R> {
    reader: R,
    read: u64,
    told: &'a dyn Fn(u64),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        let before = self.read / PIECE_BYTES as u64;
        self.read += read as u64;
        if self.read / PIECE_BYTES as u64 > before {
            (self.told)(self.read);
        }
        Ok(read)
    }
}
