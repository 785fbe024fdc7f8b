//! Blobs that are handed over piece by piece: in one request where they are small, else in pieces.
//!
//! A piece stays here until the registry has taken it, so that it can be sent again. Where the bytes can be read again
//! from where they are, [`super::push`] is the way: it holds nothing.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::answer::passing;
use super::request::{Ask, Connection};
use super::session::{Session, State, check_digest};
use super::tries::{Tries, Trouble};
use crate::oci::{Digest, Error, Repository, Upload};

/// The most that is held, in bytes.
const HELD_LIMIT: u64 = 16 << 20;

/// The upload of one blob.
pub(super) struct BlobUpload {
    connection: Arc<Connection>,
    repository: Repository,
    /// The registry's side of it, once it was begun there.
    session: Option<Session>,
    /// Bytes that the registry has.
    sent: u64,
    /// Bytes that it has not.
    held: BytesMut,
}

impl BlobUpload {
    /// An upload that the registry does not know of yet.
    pub(super) fn new(connection: Arc<Connection>, repository: Repository) -> Self {
        Self { connection, repository, session: None, sent: 0, held: BytesMut::new() }
    }

    /// The registry's side; begun where it was not.
    async fn session(&mut self) -> Result<&mut Session, Error> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::begin(&self.connection, &self.repository).await?,
        };
        Ok(self.session.insert(session))
    }

    fn piece_size(&self) -> usize {
        let size = self.session.as_ref().map_or_else(|| self.connection.chunk(), Session::piece_size);
        usize::try_from(size.min(HELD_LIMIT)).unwrap_or(usize::MAX)
    }

    /// A request that sends the next bytes.
    async fn sending(&mut self, part: &Bytes, digest: Option<&Digest>) -> Result<Ask, Error> {
        let sent = self.sent;
        Ok(self.session().await?.sending(sent, part.len() as u64, digest)?.body(part.clone()))
    }

    /// Go on from what the registry has: how many bytes of `piece`, which begins at `sent`, it got.
    async fn reconcile(&mut self, piece: &Bytes, refused: u16) -> Result<usize, Error> {
        let state = match &mut self.session {
            Some(session) => session.state().await?,
            None => State::Gone,
        };
        match state {
            State::At(at) if at >= self.sent && at - self.sent <= piece.len() as u64 => {
                let got = usize::try_from(at - self.sent).unwrap_or(piece.len());
                if got == 0 && refused == 416 {
                    self.connection.chunk_was_too_large(piece.len() as u64);
                }
                self.sent = at;
                Ok(got)
            }
            // What began at the beginning can begin again.
            _ if self.sent == 0 => {
                self.session = None;
                Ok(0)
            }
            _ => Err(passing(
                &format!("write a blob of {}", self.repository),
                &format!("the registry lost the upload after {} bytes; it has to begin again", self.sent),
            )),
        }
    }

    /// Send one piece, in smaller ones where the registry wants that.
    async fn push(&mut self, mut piece: Bytes) -> Result<(), Error> {
        let connection = self.connection.clone();
        let mut tries = Tries::new(&connection);
        while !piece.is_empty() {
            self.session().await?;
            let part = piece.slice(..piece.len().min(self.piece_size()));
            let ask = self.sending(&part, None).await?;
            let (trouble, refused) = match connection.once(&ask).await {
                Ok(answer) if answer.status().is_success() => {
                    self.session().await?.accept(&answer)?;
                    self.sent += part.len() as u64;
                    let _ = piece.split_to(part.len());
                    tries.progress();
                    continue;
                }
                Ok(answer) => self.session().await?.doubted(answer, part.len() as u64).await?,
                Err(trouble) => (trouble, 0),
            };
            tries.again(trouble).await?;
            let got = self.reconcile(&part, refused).await?;
            let _ = piece.split_to(got);
        }
        Ok(())
    }

    /// Send what is left and name the digest.
    async fn close(&mut self, digest: &Digest) -> Result<(), Error> {
        let connection = self.connection.clone();
        let mut rest = self.held.split().freeze();
        let total = self.sent + rest.len() as u64;
        let mut tries = Tries::new(&connection);
        loop {
            let excess = rest.len().saturating_sub(self.piece_size());
            if excess > 0 {
                self.push(rest.split_to(excess)).await?;
            }
            let ask = self.sending(&rest, Some(digest)).await?;
            let (trouble, refused): (Trouble, u16) = match connection.once(&ask).await {
                Ok(answer) if answer.status().is_success() => {
                    self.session().await?.finished();
                    return check_digest(&answer, digest, &ask.doing);
                }
                Ok(answer) => self.session().await?.doubted(answer, rest.len() as u64).await?,
                Err(trouble) => (trouble, 0),
            };
            tries.again(trouble).await?;
            // Perhaps all went well and only the answer was lost.
            if super::blob_size(&connection, &self.repository, digest).await? == Some(total) {
                self.session().await?.finished();
                return Ok(());
            }
            let got = self.reconcile(&rest, refused).await?;
            let _ = rest.split_to(got);
        }
    }
}

#[async_trait]
impl Upload for BlobUpload {
    fn written(&self) -> u64 {
        self.sent + self.held.len() as u64
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.held.extend_from_slice(&bytes);
        // One full piece is kept back: if nothing follows, the blob goes in a single request.
        while self.held.len() > self.piece_size() {
            let size = self.piece_size();
            let piece = self.held.split_to(size).freeze();
            self.push(piece).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, digest: &Digest) -> Result<(), Error> {
        self.close(digest).await
    }
}
