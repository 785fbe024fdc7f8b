//! A blob on its way out: who reads all of it never sees a clean end of broken bytes (F-S1).

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::{Shared, joined, scrub};
use crate::oci::{Digest, Error, Hasher, rules};

/// A blob is read in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;

type Pieces = BoxStream<'static, Result<Bytes, Error>>;

/// So many bytes from where the file stands, unchecked: a part has no digest.
pub(super) fn part(file: File, size: u64, digest: Digest) -> Pieces {
    // No more than it has: what a small blob does not need would stay with the allocator. One more, to see its end.
    let room = usize::try_from(size.saturating_add(1)).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
    let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file).take(size), room);
    pieces.map(move |piece| piece.map_err(|error| Error::io(format!("read blob {digest}"), error))).boxed()
}

/// All bytes of a blob. The last piece comes only after the hash of all was found right; if it is wrong, the blob
/// is set aside and an error comes in its place.
pub(super) fn whole(shared: Arc<Shared>, file: File, size: u64, digest: Digest) -> Result<Pieces, Error> {
    let again = file.try_clone().map_err(|error| Error::io(format!("read blob {digest}"), error))?;
    let state = Whole {
        pieces: part(file, size, digest.clone()),
        hasher: Some(Hasher::new(digest.algorithm())),
        last: None,
        file: again,
        shared,
        digest,
    };
    Ok(stream::try_unfold(state, Whole::next).boxed())
}

struct Whole {
    pieces: Pieces,
    /// Taken when all has been read.
    hasher: Option<Hasher>,
    /// Read and not yet handed on.
    last: Option<Bytes>,
    file: File,
    shared: Arc<Shared>,
    digest: Digest,
}

impl Whole {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        while let Some(hasher) = &mut self.hasher {
            match self.pieces.next().await.transpose()? {
                Some(piece) => {
                    hasher.update(&piece);
                    if let Some(before) = self.last.replace(piece) {
                        return Ok(Some((before, self)));
                    }
                }
                None => self.check().await?,
            }
        }
        Ok(self.last.take().map(|last| (last, self)))
    }

    async fn check(&mut self) -> Result<(), Error> {
        let Some(found) = self.hasher.take().map(Hasher::finish) else { return Ok(()) };
        if found == self.digest {
            return Ok(());
        }
        let (shared, digest) = (Arc::clone(&self.shared), self.digest.clone());
        let file = self.file.try_clone();
        let aside = tokio::task::spawn_blocking(move || {
            let file = file.map_err(|error| Error::io(format!("read blob {digest}"), error))?;
            scrub::set_aside(&shared.folders, &digest, &file)
        });
        let problem = rules::mismatch(&self.digest, &found);
        Err(match joined(aside.await) {
            Ok(_) => problem,
            Err(error) => problem.because(error),
        })
    }
}
