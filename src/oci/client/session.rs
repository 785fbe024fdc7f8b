//! One upload as a registry keeps it: begun, asked about, sent to, thrown away.
//!
//! After a failure the registry is asked how far it got (`GET` on the upload's address), and sending goes on from
//! there: its own word about the state counts, never that of a reply that was lost or is old.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use url::Url;

use super::answer::{Answer, number, passing};
use super::reach;
use super::request::{Ask, Connection};
use super::tries::Trouble;
use crate::oci::rules::BLOB_SIZE;
use crate::oci::{Digest, Error, ErrorKind, Repository};

/// An upload that the registry has begun.
pub(super) struct Session {
    connection: Arc<Connection>,
    repository: Repository,
    /// Where the registry keeps it; `None` once there is nothing left to throw away.
    location: Option<Url>,
    /// The smallest piece that the registry takes, the last one excepted.
    least: u64,
}

/// What came of a mount.
pub(super) enum Mount {
    /// The blob is there, with so many bytes where the registry says so.
    There(Option<u64>),
    /// The registry began an upload instead.
    Begun(Session),
    /// It wants neither.
    Refused,
}

/// What the registry says of an upload that it was asked about.
pub(super) enum State {
    /// It has so many bytes.
    At(u64),
    /// It does not know it.
    Gone,
}

/// What is being done, for messages.
fn doing(repository: &Repository) -> String {
    format!("write a blob of {repository}")
}

/// A request that begins an upload.
fn beginning(connection: &Connection, repository: &Repository, doing: &str) -> Result<Ask, Error> {
    connection.ask(Method::POST, repository, "blobs/uploads/", "pull,push", doing)
}

impl Session {
    /// Begin an upload.
    pub(super) async fn begin(connection: &Arc<Connection>, repository: &Repository) -> Result<Self, Error> {
        let ask = beginning(connection, repository, &doing(repository))?;
        let answer = connection.send(&ask).await?;
        if !answer.status().is_success() {
            return Err(answer.refusal().await);
        }
        Self::of(connection, repository, &ask, &answer)?
            .ok_or_else(|| passing(&ask.doing, "the registry began an upload without an address"))
    }

    /// Make a blob of one repository, which may be the same, visible in another; begin an upload where that cannot
    /// be done.
    ///
    /// # Errors
    /// `Mismatch` where the registry says that it mounted another blob.
    pub(super) async fn mount(
        connection: &Arc<Connection>,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mount, Error> {
        let doing = format!("mount blob {digest} of {from} in {repository}");
        let mut ask = beginning(connection, repository, &doing)?;
        if from != repository {
            ask.scopes.insert(format!("repository:{from}:pull"));
        }
        let text = digest.to_string();
        ask.url.query_pairs_mut().append_pair("mount", &text);
        // A server of ours looks for the blob wherever we may read, and knows more of that than we do.
        if from != repository || !connection.known.keeps_conditions() {
            ask.url.query_pairs_mut().append_pair("from", from.as_str());
        }
        let answer = match connection.send(&ask).await {
            Ok(answer) => answer,
            Err(error) if error.kind() == ErrorKind::Denied => return Ok(Mount::Refused),
            Err(error) => return Err(error),
        };
        match answer.status().as_u16() {
            201 => {
                let size = answer.header(BLOB_SIZE).and_then(number);
                check_digest(&answer, digest, &doing).map(|()| Mount::There(size))
            }
            202 => match Self::of(connection, repository, &ask, &answer) {
                Ok(Some(session)) => Ok(Mount::Begun(session)),
                _ => Ok(Mount::Refused),
            },
            400..500 => Ok(Mount::Refused),
            _ => Err(answer.refusal().await),
        }
    }

    fn of(
        connection: &Arc<Connection>,
        repository: &Repository,
        ask: &Ask,
        answer: &Answer,
    ) -> Result<Option<Self>, Error> {
        let least = answer.header("oci-chunk-min-length").and_then(number);
        let location = moved(&ask.url, answer, &ask.doing)?;
        Ok(location.map(|location| Self {
            connection: connection.clone(),
            repository: repository.clone(),
            location: Some(location),
            least: least.unwrap_or_default(),
        }))
    }

    /// How many bytes may go in one request, by what was learnt and by what the registry said.
    pub(super) fn piece_size(&self) -> u64 {
        self.connection.chunk().max(self.least)
    }

    /// What is being done, for messages.
    pub(super) fn doing(&self) -> String {
        doing(&self.repository)
    }

    fn ask(&self, method: Method, url: Url) -> Ask {
        let mut ask = self.connection.ask_at(method, url, &self.repository, &self.doing());
        ask.scopes.insert(format!("repository:{}:pull,push", self.repository));
        ask
    }

    fn location(&self) -> Result<Url, Error> {
        self.location.clone().ok_or_else(|| passing(&self.doing(), "the upload was finished already"))
    }

    /// Ask how far the registry got. Whatever it refuses to tell of is gone.
    pub(super) async fn state(&mut self) -> Result<State, Error> {
        let Some(location) = self.location.clone() else { return Ok(State::Gone) };
        let answer = self.connection.send(&self.ask(Method::GET, location)).await?;
        match answer.status().as_u16() {
            200..300 => {
                let told = answer.header(RANGE.as_str()).map(last_byte);
                self.accept(&answer)?;
                match told {
                    // Registries say `0-0` for nothing and for one byte; nothing is the safe reading.
                    None | Some(Some(0)) => Ok(State::At(0)),
                    Some(Some(last)) => Ok(State::At(last.saturating_add(1))),
                    Some(None) => Ok(State::Gone),
                }
            }
            401 | 403 => Err(answer.refusal().await),
            _ => Ok(State::Gone),
        }
    }

    /// A request that sends bytes from a place on: more of them, or with the digest the last.
    pub(super) fn sending(&self, start: u64, length: u64, digest: Option<&Digest>) -> Result<Ask, Error> {
        let mut location = self.location()?;
        let method = if digest.is_some() { Method::PUT } else { Method::PATCH };
        if let Some(digest) = digest {
            location.query_pairs_mut().append_pair("digest", &digest.to_string());
        }
        let whole = start == 0 && digest.is_some();
        let ask = self.ask(method, location).header(CONTENT_TYPE, "application/octet-stream");
        Ok(match length {
            0 => ask,
            _ if whole => ask,
            _ => ask.header(CONTENT_RANGE, &format!("{start}-{}", start + length - 1)),
        })
    }

    /// The registry took a piece, and may have moved the upload.
    pub(super) fn accept(&mut self, answer: &Answer) -> Result<(), Error> {
        let here = self.location()?;
        if let Some(location) = moved(&here, answer, &self.doing())? {
            self.location = Some(location);
        }
        Ok(())
    }

    /// The blob is whole, and there is nothing to throw away.
    pub(super) fn finished(&mut self) {
        self.location = None;
    }

    /// An answer that refuses a piece of a size: whether to go on, and how. 413 and 416 may ask for smaller pieces,
    /// 404, 410 and 416 for a look at the registry's state; all else is final.
    pub(super) async fn doubted(&self, answer: Answer, size: u64) -> Result<(Trouble, u16), Error> {
        let status = answer.status().as_u16();
        let error = answer.refusal().await;
        let smaller =
            status == 413 && error.kind() == ErrorKind::TooLarge && self.connection.chunk_was_too_large(size);
        match smaller || matches!(status, 404 | 410 | 416) {
            true => Ok((Trouble::connection(error), status)),
            false => Err(error),
        }
    }
}

impl Drop for Session {
    /// Take the upload away from the registry, without waiting for it.
    fn drop(&mut self) {
        let Some(location) = self.location.take() else { return };
        let (connection, ask) = (self.connection.clone(), self.ask(Method::DELETE, location));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // The registry drops old uploads by itself; this only spares it the wait.
                let _ = connection.once(&ask).await;
            });
        }
    }
}

/// Where an answer says that the upload goes on.
fn moved(from: &Url, answer: &Answer, doing: &str) -> Result<Option<Url>, Error> {
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
pub(super) fn last_byte(range: &str) -> Option<u64> {
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    number(first).and(number(last))
}
