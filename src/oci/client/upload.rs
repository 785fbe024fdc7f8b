//! Blobs on their way to a registry: in one piece where they are small, else in pieces that can be resumed.
//!
//! A piece stays here until the registry has taken it. After a failure the registry is asked how far it got (`GET` on
//! the upload's address), and sending goes on from there: its own word about the state counts, never that of a reply
//! that was lost or is old.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use url::Url;

use super::answer::{Answer, passing};
use super::reach;
use super::request::{Ask, Connection, Tries, Trouble};
use crate::oci::{Digest, Error, ErrorKind, Repository, Upload};

/// The upload of one blob.
pub(super) struct BlobUpload {
    connection: Arc<Connection>,
    repository: Repository,
    /// Where the registry keeps it, once it was begun there.
    location: Option<Url>,
    /// Bytes that the registry has.
    sent: u64,
    /// Bytes that it has not.
    held: BytesMut,
}

/// What the registry says of an upload that it was asked about.
enum State {
    /// It has so many bytes.
    At(u64),
    /// It does not know it.
    Gone,
}

impl BlobUpload {
    /// An upload that the registry does not know of yet.
    pub(super) fn new(connection: Arc<Connection>, repository: Repository) -> Self {
        Self { connection, repository, location: None, sent: 0, held: BytesMut::new() }
    }

    fn doing(&self) -> String {
        format!("write a blob of {}", self.repository)
    }

    fn ask(&self, method: Method, url: Url) -> Ask {
        let mut ask = self.connection.ask_at(method, url, &self.repository, &self.doing());
        ask.scopes.insert(format!("repository:{}:pull,push", self.repository));
        ask
    }

    /// The upload's address; begun with the registry where it was not.
    async fn location(&mut self) -> Result<Url, Error> {
        if let Some(location) = &self.location {
            return Ok(location.clone());
        }
        let connection = &self.connection;
        let url = connection.address(&format!("v2/{}/blobs/uploads/", self.repository))?;
        let answer = connection.send(&self.ask(Method::POST, url.clone())).await?;
        if !answer.status().is_success() {
            return Err(answer.refusal().await);
        }
        let location = moved(&url, &answer, &self.doing())?
            .ok_or_else(|| passing(&self.doing(), "the registry began an upload without an address"))?;
        self.location = Some(location.clone());
        Ok(location)
    }

    /// Ask how far the registry got.
    async fn state(&mut self) -> Result<State, Error> {
        let Some(location) = self.location.clone() else { return Ok(State::Gone) };
        let answer = self.connection.send(&self.ask(Method::GET, location.clone())).await?;
        match answer.status().as_u16() {
            200..300 => {
                let told = answer.header(RANGE.as_str()).map(last_byte);
                if let Some(location) = moved(&location, &answer, &self.doing())? {
                    self.location = Some(location);
                }
                match told {
                    // Registries say `0-0` for nothing and for one byte; nothing is the safe reading.
                    None | Some(Some(0)) => Ok(State::At(0)),
                    Some(Some(last)) => Ok(State::At(last.saturating_add(1))),
                    Some(None) => Err(passing(&self.doing(), "the registry's `Range` cannot be read")),
                }
            }
            404 | 410 => Ok(State::Gone),
            _ => Err(answer.refusal().await),
        }
    }

    /// Go on from what the registry has: how many bytes of `piece`, which begins at `sent`, it got.
    async fn reconcile(&mut self, piece: &Bytes) -> Result<usize, Error> {
        match self.state().await? {
            State::At(at) if at >= self.sent && at - self.sent <= piece.len() as u64 => {
                let got = usize::try_from(at - self.sent).unwrap_or(piece.len());
                self.sent = at;
                Ok(got)
            }
            // What began at the beginning can begin again.
            _ if self.sent == 0 => {
                self.cancel_later();
                Ok(0)
            }
            _ => Err(passing(
                &self.doing(),
                &format!("the registry lost the upload after {} bytes; it has to begin again", self.sent),
            )),
        }
    }

    /// Send one piece, in smaller ones where the registry wants that.
    async fn push(&mut self, mut piece: Bytes) -> Result<(), Error> {
        let connection = self.connection.clone();
        let mut tries = Tries::new(&connection);
        while !piece.is_empty() {
            let part = piece.slice(..piece.len().min(connection.chunk()));
            let location = self.location().await?;
            let ask = self.data(Method::PATCH, location.clone(), &part);
            let trouble = match connection.once(&ask).await {
                Ok(answer) if answer.status().is_success() => {
                    if let Some(location) = moved(&location, &answer, &self.doing())? {
                        self.location = Some(location);
                    }
                    self.sent += part.len() as u64;
                    let _ = piece.split_to(part.len());
                    tries.progress();
                    continue;
                }
                Ok(answer) => self.doubted(answer, part.len()).await?,
                Err(trouble) => trouble,
            };
            tries.again(trouble).await?;
            let got = self.reconcile(&piece).await?;
            let _ = piece.split_to(got);
        }
        Ok(())
    }

    fn data(&self, method: Method, location: Url, part: &Bytes) -> Ask {
        let ask =
            self.ask(method, location).header(CONTENT_TYPE, "application/octet-stream").body(part.clone());
        match part.is_empty() {
            true => ask,
            false => {
                let last = self.sent + part.len() as u64 - 1;
                ask.header(CONTENT_RANGE, &format!("{}-{last}", self.sent))
            }
        }
    }

    /// An answer that refuses a piece of this size: what to think of it. 413 and 416 ask for smaller pieces, 404 and
    /// 416 for a look at the registry's state; all else is final.
    async fn doubted(&self, answer: Answer, size: usize) -> Result<Trouble, Error> {
        let status = answer.status().as_u16();
        let error = answer.refusal().await;
        let smaller = matches!(status, 413 | 416) && self.connection.chunk_was_too_large(size);
        match smaller || matches!(status, 404 | 410 | 416) {
            true => Ok(Trouble { error, again: super::request::Again::Connection }),
            false => Err(error),
        }
    }

    /// Take the upload away from the registry, without waiting for it.
    fn cancel_later(&mut self) {
        let Some(location) = self.location.take() else { return };
        let (connection, ask) = (self.connection.clone(), self.ask(Method::DELETE, location));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // The registry drops old uploads by itself; this only spares it the wait.
                let _ = connection.once(&ask).await;
            });
        }
    }

    /// Send what is left and name the digest.
    async fn close(&mut self, digest: &Digest) -> Result<(), Error> {
        let connection = self.connection.clone();
        let mut rest = self.held.split().freeze();
        let total = self.sent + rest.len() as u64;
        let mut tries = Tries::new(&connection);
        loop {
            let excess = rest.len().saturating_sub(connection.chunk());
            if excess > 0 {
                self.push(rest.split_to(excess)).await?;
            }
            let mut location = self.location().await?;
            location.query_pairs_mut().append_pair("digest", &digest.to_string());
            let trouble = match connection.once(&self.data(Method::PUT, location, &rest)).await {
                Ok(answer) if answer.status().is_success() => {
                    self.location = None;
                    return check_digest(&answer, digest, &self.doing());
                }
                Ok(answer) => self.doubted(answer, rest.len()).await?,
                Err(trouble) => trouble,
            };
            tries.again(trouble).await?;
            // Perhaps all went well and only the answer was lost.
            if super::blob_size(&connection, &self.repository, digest).await? == Some(total) {
                self.location = None;
                return Ok(());
            }
            let got = self.reconcile(&rest).await?;
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
        while self.held.len() > self.connection.chunk() {
            let piece = self.held.split_to(self.connection.chunk()).freeze();
            self.push(piece).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, digest: &Digest) -> Result<(), Error> {
        self.close(digest).await
    }
}

impl Drop for BlobUpload {
    fn drop(&mut self) {
        self.cancel_later();
    }
}

/// Where an answer says that the upload goes on.
pub(super) fn moved(from: &Url, answer: &Answer, doing: &str) -> Result<Option<Url>, Error> {
    answer.header(LOCATION.as_str()).map(|location| reach::follow(from, location, doing)).transpose()
}

/// Compare the digest that a registry names with ours, where they are of one algorithm.
pub(super) fn check_digest(answer: &Answer, digest: &Digest, doing: &str) -> Result<(), Error> {
    match answer.digest()? {
        Some(named) if named.algorithm() == digest.algorithm() && named != *digest => {
            Err(Error::new(ErrorKind::Mismatch, format!("{doing}: {digest} became {named} at the registry")))
        }
        _ => Ok(()),
    }
}

/// The last byte of `0-N`, which some write with `bytes=` before it.
fn last_byte(range: &str) -> Option<u64> {
    range.trim().trim_start_matches("bytes=").split_once('-')?.1.trim().parse().ok()
}
