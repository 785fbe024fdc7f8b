//! A blob from where it is to a registry, with as few requests and bytes as the registry lets us.
//!
//! | the registry | requests |
//! |---|---|
//! | has the blob in another repository | one: a mount |
//! | has it in this repository | one: a mount from the repository itself, which says so |
//! | is a `polyarch serve` and has it in any repository that we may read | one: a mount that names no source |
//! | has it nowhere | two: the answer to that mount is the beginning of an upload, and one `PUT` follows |
//!
//! Not every registry looks for a blob because of a mount from its own repository. Whether it does is learnt from the
//! first blob that was sent; from those that do not, a `HEAD` comes first. A blob of one digest is sent once however
//! many repositories want it at the same time: the others wait and mount it. The bytes are read from where they are
//! while they are sent, again from any place in them after a failure, and are never held.

use std::sync::Arc;

use super::part::{Check, Part};
use super::request::Connection;
use super::session::{Mount, Session, State, check_digest};
use super::tries::{Again, Tries};
use crate::oci::store::{Origin, Taken};
use crate::oci::{Descriptor, Error, ErrorKind, Repository};

/// A blob of at least so many bytes is worth a `HEAD` before it is sent, where it may be there.
const WORTH_A_LOOK: u64 = 64 << 10;

/// How often an upload that the registry lost is begun anew.
const RESTARTS: usize = 5;

/// After so many cuts in a row, smaller pieces are tried: some close the connection on what is too large for them.
const CUTS: usize = 2;

/// See that a repository has a blob.
pub(super) async fn take(
    connection: &Arc<Connection>,
    repository: &Repository,
    blob: &Descriptor,
    from: Option<&Repository>,
    origin: &Origin<'_>,
) -> Result<Taken, Error> {
    let holders = connection.known.holders(&blob.digest);
    let mut held = holders.lock().await;
    if held.contains(repository) {
        return Ok(Taken::There);
    }
    let pushing = Pushing { connection, repository, blob, origin };
    let Some(holder) = held.iter().next().cloned() else {
        // While nobody holds it, those who want the same blob wait here until it was sent once.
        let taken = pushing.take(from.filter(|from| *from != repository)).await?;
        held.insert(repository.clone());
        return Ok(taken);
    };
    drop(held);
    let taken = pushing.take(Some(&holder)).await?;
    holders.lock().await.insert(repository.clone());
    Ok(taken)
}

/// One blob on its way into one repository.
struct Pushing<'a> {
    connection: &'a Arc<Connection>,
    repository: &'a Repository,
    blob: &'a Descriptor,
    origin: &'a Origin<'a>,
}

impl Pushing<'_> {
    async fn take(&self, from: Option<&Repository>) -> Result<Taken, Error> {
        if from.is_some() {
            // Whoever is about to learn it is not waited for: this blob would teach nothing.
            let known = self.connection.known.mounts_tell.try_lock().map_or(None, |told| *told);
            return self.bring(from, known).await;
        }
        let mut told = self.connection.known.mounts_tell.lock().await;
        let known = *told;
        if known.is_some() {
            drop(told);
            return self.bring(None, known).await;
        }
        // The first blob is sent alone, and tells how the others are.
        let taken = self.bring(None, None).await?;
        let again = Session::mount(self.connection, self.repository, &self.blob.digest, self.repository);
        *told = Some(matches!(taken, Taken::There) || matches!(again.await, Ok(Mount::There(_))));
        Ok(taken)
    }

    /// Mount, or send. `told` is whether a mount from the repository itself tells if the blob is there.
    async fn bring(&self, from: Option<&Repository>, told: Option<bool>) -> Result<Taken, Error> {
        let Self { connection, repository, blob, .. } = *self;
        let itself = from.is_none();
        if itself && told == Some(false) {
            if self.is_there().await? {
                return Ok(Taken::There);
            }
            return self.send(Session::begin(connection, repository).await?).await;
        }
        let source = from.unwrap_or(repository);
        let session = match Session::mount(connection, repository, &blob.digest, source).await? {
            // A disk has lost a part of it: what is sent takes its place.
            Mount::There(Some(size)) if size != blob.size => {
                return self.send(Session::begin(connection, repository).await?).await;
            }
            Mount::There(_) if itself => return Ok(Taken::There),
            Mount::There(_) => return Ok(Taken::Mounted),
            Mount::Begun(session) => Some(session),
            Mount::Refused => None,
        };
        let surely_absent = itself && told == Some(true) && session.is_some();
        if !surely_absent && blob.size >= WORTH_A_LOOK && self.is_there().await? {
            return Ok(Taken::There);
        }
        match session {
            Some(session) => self.send(session).await,
            None => self.send(Session::begin(connection, repository).await?).await,
        }
    }

    async fn is_there(&self) -> Result<bool, Error> {
        let Self { connection, repository, blob, .. } = *self;
        match super::blob_size(connection, repository, &blob.digest).await? {
            None => Ok(false),
            Some(size) if size == blob.size => Ok(true),
            Some(size) => Err(Error::new(
                ErrorKind::Mismatch,
                format!("blob {} of {repository} has {size} bytes, not {}", blob.digest, blob.size),
            )),
        }
    }

    /// Send the bytes, from where the registry is after each failure.
    async fn send(&self, mut session: Session) -> Result<Taken, Error> {
        let Self { connection, repository, blob, origin } = *self;
        let check = Check::new(&blob.digest);
        let mut tries = Tries::new(connection);
        let (mut at, mut restarts, mut cuts) = (0_u64, 0, 0);
        loop {
            let end = blob.size.min(at.saturating_add(session.piece_size()));
            let last = end == blob.size;
            let part = Part::new(origin, &blob.digest, blob.size, (at, end), &check);
            let ask = session.sending(at, end - at, last.then_some(&blob.digest))?;
            let (trouble, refused) = match connection.once_with(&ask, Some(&part)).await {
                Ok(answer) if answer.status().is_success() && last => {
                    session.finished();
                    return check_digest(&answer, &blob.digest, &ask.doing).map(|()| Taken::Moved(blob.size));
                }
                Ok(answer) if answer.status().is_success() => {
                    session.accept(&answer)?;
                    (at, cuts) = (end, 0);
                    tries.progress();
                    continue;
                }
                Ok(answer) => session.doubted(answer, end - at).await?,
                Err(trouble) => (trouble, 0),
            };
            // What was refused with 429 was not looked at.
            let untouched = matches!(trouble.again, Again::Later(429, _));
            cuts += usize::from(matches!(trouble.again, Again::Connection) && refused == 0);
            if cuts >= CUTS {
                connection.chunk_was_too_large(end - at);
            }
            tries.again(trouble).await?;
            if untouched {
                continue;
            }
            // Perhaps all went well and only the answer was lost.
            if last && self.is_there().await? {
                session.finished();
                return Ok(Taken::Moved(blob.size));
            }
            match session.state().await? {
                State::At(has) if has <= blob.size && (has > 0 || at == 0) => {
                    if refused == 416 && has == at && !connection.chunk_was_too_large(end - at) {
                        restarts += 1;
                    }
                    if has > at {
                        tries.progress();
                        cuts = 0;
                    }
                    at = has;
                }
                _ => {
                    restarts += 1;
                    session = Session::begin(connection, repository).await?;
                    at = 0;
                }
            }
            if restarts > RESTARTS {
                let what = format!("{}: the registry lost the upload {restarts} times", session.doing());
                return Err(Error::new(ErrorKind::Failed, what));
            }
        }
    }
}
