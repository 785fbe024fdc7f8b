//! Content of the store as ordinary readers, for the threads that pack it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;

use crate::oci::{
    Algorithm, Descriptor, Digest, Document, Error, ErrorKind, Hasher, Pointer, Repository, Store,
};

/// How much is asked for at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The content of one repository of a store, until it is stopped. Clones share all.
#[derive(Clone)]
pub(crate) struct Blobs {
    store: Arc<dyn Store>,
    repository: Repository,
    runtime: Handle,
    stopped: Arc<AtomicBool>,
    /// How large layers are when they are unpacked, of those that were: images of a family share them.
    unpacked: Arc<Mutex<BTreeMap<(Digest, Digest), u64>>>,
}

/// A failure of the store, in the clothes of a failure of the system.
#[derive(Debug)]
pub(super) struct FromStore(pub(super) Error);

impl fmt::Display for FromStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for FromStore {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

pub(super) fn from_store(error: Error) -> io::Error {
    io::Error::other(FromStore(error))
}

impl Blobs {
    /// The content of a repository, to be read on threads beside this runtime.
    pub(crate) fn new(store: Arc<dyn Store>, repository: Repository, runtime: Handle) -> Self {
        Self { store, repository, runtime, stopped: Arc::default(), unpacked: Arc::default() }
    }

    /// End all that reads: their next read fails.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Fails once it was stopped.
    ///
    /// # Errors
    /// Then.
    pub(super) fn unless_stopped(&self) -> io::Result<()> {
        match self.stopped.load(Ordering::SeqCst) {
            // Not `Interrupted`: that is tried again.
            true => Err(io::Error::other("it was stopped")),
            false => Ok(()),
        }
    }

    /// A manifest.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) fn document(&self, digest: &Digest) -> io::Result<Document> {
        let pointer = Pointer::Digest(digest.clone());
        self.runtime.block_on(self.store.read_document(&self.repository, &pointer)).map_err(from_store)
    }

    /// A whole blob of at most so many bytes, checked against its digest.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) fn bytes(&self, blob: &Descriptor, limit: u64) -> io::Result<Bytes> {
        let read = async {
            let reader = self.store.read_blob(&self.repository, &blob.digest, None).await?;
            reader.collect(&blob.digest, limit).await
        };
        self.runtime.block_on(read).map_err(from_store)
    }

    /// A blob as it is in the store. Its end fails where it was not what its descriptor says.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) fn open(&self, blob: &Descriptor) -> io::Result<BlobRead> {
        let read = self.store.read_blob(&self.repository, &blob.digest, None);
        let reader = self.runtime.block_on(read).map_err(from_store)?;
        Ok(BlobRead {
            blobs: self.clone(),
            blob: blob.clone(),
            stream: reader.stream,
            piece: Bytes::new(),
            hasher: Some(Hasher::new(blob.digest.algorithm())),
            read: 0,
        })
    }

    /// A layer, unpacked: what it begins with says how it is packed, whatever its media type.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) fn unpacked(&self, layer: &Descriptor) -> io::Result<Box<dyn Read>> {
        unpacked(self.open(layer)?)
    }

    /// The size of a layer when it is unpacked, in bytes, once it was seen that it is the one with this diffID.
    ///
    /// # Errors
    /// Where it is another, or the store fails.
    pub(super) fn unpacked_size(&self, layer: &Descriptor, diff_id: &Digest) -> io::Result<u64> {
        let key = (layer.digest.clone(), diff_id.clone());
        let known = || self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(size) = known().get(&key) {
            return Ok(*size);
        }
        let (mut reader, mut hasher) = (self.unpacked(layer)?, Hasher::new(diff_id.algorithm()));
        let (mut piece, mut size) = (vec![0; PIECE_BYTES], 0_u64);
        loop {
            let read = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => return Err(unpacking(layer, error)),
            };
            hasher.update(&piece[..read]);
            size += read as u64;
        }
        let found = hasher.finish();
        if found != *diff_id {
            let what = format!("layer {} unpacks to {found}, but its image says {diff_id}", layer.digest);
            return Err(from_store(Error::new(ErrorKind::Mismatch, what)));
        }
        known().insert(key, size);
        Ok(size)
    }
}

/// What a reader has, unpacked. Its first bytes say how it is packed, however few of them come at once.
pub(super) fn unpacked(mut reader: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut begins = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut begins)?;
    let (gzip, zstd) = (begins.starts_with(&[0x1f, 0x8b]), begins.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let whole = BufReader::with_capacity(PIECE_BYTES, Read::chain(io::Cursor::new(begins), reader));
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        (_, true) => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => Box::new(whole),
    })
}

/// A failure while a layer is unpacked is of the store: it holds no such archive.
fn unpacking(layer: &Descriptor, error: io::Error) -> io::Error {
    match error.get_ref().is_some_and(|inner| inner.is::<FromStore>()) {
        true => error,
        false => from_store(
            Error::new(ErrorKind::Invalid, format!("unpack layer {}", layer.digest)).because(error),
        ),
    }
}

/// A blob on its way out of the store.
pub(super) struct BlobRead {
    blobs: Blobs,
    blob: Descriptor,
    stream: BoxStream<'static, Result<Bytes, Error>>,
    piece: Bytes,
    /// None once the end was seen.
    hasher: Option<Hasher>,
    read: u64,
}

impl Read for BlobRead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.blobs.unless_stopped()?;
        while self.piece.is_empty() {
            match self.blobs.runtime.block_on(self.stream.next()) {
                Some(piece) => self.piece = piece.map_err(from_store)?,
                None => return self.end(),
            }
        }
        let taken = self.piece.len().min(into.len());
        into[..taken].copy_from_slice(&self.piece[..taken]);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&self.piece[..taken]);
        }
        self.piece.advance(taken);
        self.read += taken as u64;
        Ok(taken)
    }
}

impl BlobRead {
    fn end(&mut self) -> io::Result<usize> {
        let Some(hasher) = self.hasher.take() else { return Ok(0) };
        let found = hasher.finish();
        match found == self.blob.digest && self.read == self.blob.size {
            true => Ok(0),
            false => {
                let what = format!(
                    "blob {} of {} bytes has in truth the digest {found} and {} bytes",
                    self.blob.digest, self.blob.size, self.read
                );
                Err(from_store(Error::new(ErrorKind::Mismatch, what)))
            }
        }
    }
}

/// Reads what must have a known size: less and more are failures.
pub(super) struct Exactly<R: Read> {
    pub(super) reader: R,
    pub(super) left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        let wrong =
            || from_store(Error::new(ErrorKind::Mismatch, "content has not the size that it had before"));
        match self.left.checked_sub(read as u64) {
            None => return Err(wrong()),
            Some(left) if read == 0 && left > 0 && !into.is_empty() => return Err(wrong()),
            Some(left) => self.left = left,
        }
        Ok(read)
    }
}

/// The digest and size of what a reader gives.
///
/// # Errors
/// Where it cannot be read, or was stopped.
pub(super) fn measure(mut reader: impl Read, blobs: &Blobs) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut piece, mut size) = (Hasher::new(Algorithm::Sha256), vec![0; PIECE_BYTES], 0);
    loop {
        blobs.unless_stopped()?;
        match reader.read(&mut piece)? {
            0 => return Ok((hasher.finish(), size)),
            read => {
                hasher.update(&piece[..read]);
                size += read as u64;
            }
        }
    }
}
