//! The layers of an image as they come out of a store, unpacked on the way and read several at once.

use std::collections::BTreeMap;
use std::io::{Result as IoResult, Write};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::write::MultiGzDecoder;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::oci::{
    Algorithm, BlobReader, Descriptor, Digest, Error, ErrorKind, Hasher, Platform, Repository, Store,
};

use super::layer::{ImagePackages, LayerPackages, Scan};
use super::machine::{Foreign, Machines};
use super::tar::Archive;

/// How many layers are read at once.
const LAYERS_AT_ONCE: usize = 4;
/// The largest window that Zstandard may ask for, as a power of two: what its specification tells decoders to have is 8 MiB.
const WINDOW_LOG: u32 = 27;

/// What was found in layers so far, by their digests.
#[derive(Default)]
pub(crate) struct Cache(Mutex<BTreeMap<Digest, Arc<LayerPackages>>>);

impl Cache {
    /// The packages of an image with these layers, the lowest first.
    ///
    /// # Errors
    /// Where the store fails, or a layer is no tar archive, plain or compressed with gzip or Zstandard.
    pub(crate) async fn packages(
        &self,
        store: &dyn Store,
        repository: &Repository,
        layers: &[Descriptor],
    ) -> Result<ImagePackages, Error> {
        let each: Vec<_> = layers.iter().map(|layer| self.layer(store, repository, layer)).collect();
        let found: Vec<Arc<LayerPackages>> =
            stream::iter(each).buffered(LAYERS_AT_ONCE).try_collect().await?;
        Ok(ImagePackages::of(found.iter().map(|layer| &**layer)))
    }

    async fn layer(
        &self,
        store: &dyn Store,
        repository: &Repository,
        layer: &Descriptor,
    ) -> Result<Arc<LayerPackages>, Error> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&layer.digest).cloned();
        if let Some(found) = known() {
            return Ok(found);
        }
        let found = read(store, repository, layer, Scan::new()).await?.finish();
        let found = Arc::new(found.map_err(|error| unreadable(&layer.digest, error))?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(all.entry(layer.digest.clone()).or_insert(found).clone())
    }
}

/// What in these layers, the lowest first, is for another machine than a platform is.
///
/// # Errors
/// Where the store fails, or a layer is no tar archive, plain or compressed with gzip or Zstandard.
pub(crate) async fn foreign(
    store: &dyn Store,
    repository: &Repository,
    layers: &[Descriptor],
    platform: &Platform,
) -> Result<Foreign, Error> {
    let each = layers.iter().map(|layer| async move {
        let read = read(store, repository, layer, Archive::new(Machines::new(platform))).await?;
        read.finish().map_err(|error| unreadable(&layer.digest, error))
    });
    // A layer is forgotten as soon as it lies upon those below it.
    let each: Vec<_> = each.collect();
    let stacking = |below, layer: Machines| async move { Ok(layer.upon(below)) };
    stream::iter(each).buffered(LAYERS_AT_ONCE).try_fold(Foreign::new(), stacking).await
}

/// What has taken a layer, unpacked, in a task of its own, so that layers are unpacked on several cores.
async fn read<W: Write + Send + 'static>(
    store: &dyn Store,
    repository: &Repository,
    layer: &Descriptor,
    to: W,
) -> Result<W, Error> {
    let reader = store.read_blob(repository, &layer.digest, None).await?;
    let reading = tokio::spawn(unpack(reader, layer.digest.clone(), to));
    reading.await.map_err(|error| {
        Error::new(ErrorKind::Failed, format!("read the layer {}", layer.digest)).because(error)
    })?
}

fn unreadable(layer: &Digest, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Invalid, format!("read what is in the layer {layer}")).because(error)
}

/// What has taken a layer, whose bytes are checked against its digest.
async fn unpack<W: Write>(mut reader: BlobReader, digest: Digest, to: W) -> Result<W, Error> {
    let wrong = |error| unreadable(&digest, error);
    let (mut unpacker, mut hasher) = (Unpacker::new(to), Hasher::new(Algorithm::Sha256));
    while let Some(piece) = reader.stream.next().await {
        let piece = piece?;
        hasher.update(&piece);
        unpacker = unpacker.take(&piece).map_err(wrong)?;
    }
    let taken = unpacker.finish().map_err(wrong)?;
    let really = hasher.finish();
    match digest.algorithm() == Algorithm::Sha256 && really != digest {
        true => Err(Error::new(
            ErrorKind::Mismatch,
            format!("the layer {digest} has in truth the digest {really}"),
        )),
        false => Ok(taken),
    }
}

/// Bytes on their way to what takes them unpacked, whatever they are compressed with, as the first of them say.
pub(super) enum Unpacker<W: Write> {
    /// So few bytes that it cannot be told.
    Unknown(Vec<u8>, W),
    Plain(W),
    Gzip(Box<MultiGzDecoder<W>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, W>>),
}

impl<W: Write> Unpacker<W> {
    pub(super) fn new(to: W) -> Self {
        Self::Unknown(Vec::new(), to)
    }

    /// Takes some bytes.
    pub(super) fn take(self, bytes: &[u8]) -> IoResult<Self> {
        match self {
            Self::Unknown(mut held, to) => {
                held.extend_from_slice(bytes);
                if held.len() < 4 {
                    return Ok(Self::Unknown(held, to));
                }
                Self::for_beginning(&held, to)?.take(&held)
            }
            Self::Plain(mut to) => to.write_all(bytes).map(|()| Self::Plain(to)),
            Self::Gzip(mut decoder) => decoder.write_all(bytes).map(|()| Self::Gzip(decoder)),
            Self::Zstd(mut decoder) => decoder.write_all(bytes).map(|()| Self::Zstd(decoder)),
        }
    }

    fn for_beginning(bytes: &[u8], to: W) -> IoResult<Self> {
        Ok(match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(to))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let mut decoder = zstd::stream::write::Decoder::new(to)?;
                decoder.window_log_max(WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
            _ => Self::Plain(to),
        })
    }

    /// What has taken them, once all have come.
    pub(super) fn finish(self) -> IoResult<W> {
        match self {
            Self::Unknown(held, mut to) => to.write_all(&held).map(|()| to),
            Self::Plain(to) => Ok(to),
            Self::Gzip(decoder) => decoder.finish(),
            Self::Zstd(mut decoder) => decoder.flush().map(|()| decoder.into_inner()),
        }
    }
}
