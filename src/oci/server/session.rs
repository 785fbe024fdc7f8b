//! Open uploads: how many there may be, how long they last, and how a server that was started again finds them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;

use super::answer::{About, Code, Refusal};
use super::route::SessionName;
use crate::oci::{Repository, Store, Upload};

/// How many uploads may be open at once, where the limit of open files allows it: each holds one.
const SESSIONS: u64 = 1_000;
/// How long an upload may lie idle before it is thrown away.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// All open uploads.
pub(super) struct Uploads {
    limit: usize,
    open: Mutex<BTreeMap<SessionName, Arc<Session>>>,
}

/// One open upload.
pub(super) struct Session {
    repository: Repository,
    /// Taken out when it is finished or failed. Locked by the one request that works on it.
    pub(super) upload: tokio::sync::Mutex<Option<Box<dyn Upload>>>,
    touched: Mutex<Instant>,
}

impl Session {
    /// It was worked on just now.
    pub(super) fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether nobody works on it and nobody has for long.
    fn is_stale(&self) -> bool {
        let touched = *self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        touched.elapsed() >= IDLE_TIMEOUT && self.upload.try_lock().is_ok()
    }
}

impl Default for Uploads {
    fn default() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let limit = usize::try_from((files / 4).clamp(4, SESSIONS)).unwrap_or(4);
        Self { limit, open: Mutex::default() }
    }
}

impl Drop for Uploads {
    /// The server ends: whoever starts it again goes on with them.
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        for session in std::mem::take(open).into_values() {
            if let Some(upload) = session.upload.try_lock().ok().and_then(|mut held| held.take()) {
                upload.keep();
            }
        }
    }
}

impl Uploads {
    /// Open a session.
    ///
    /// # Errors
    /// 429 where too many are open.
    pub(super) fn add(
        &self,
        repository: &Repository,
        name: SessionName,
        upload: Box<dyn Upload>,
    ) -> Result<Arc<Session>, Refusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| !session.is_stale());
        if open.len() >= self.limit {
            let words = format!("{} uploads are open: finish or cancel some", self.limit);
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, words)
                .with(RETRY_AFTER, "5"));
        }
        let session = Arc::new(Session {
            repository: repository.clone(),
            upload: tokio::sync::Mutex::new(Some(upload)),
            touched: Mutex::new(Instant::now()),
        });
        open.insert(name, Arc::clone(&session));
        Ok(session)
    }

    /// The session of that name in that repository: an open one, or one from before this server was started.
    pub(super) async fn find(
        &self,
        store: &dyn Store,
        repository: &Repository,
        name: SessionName,
    ) -> Result<Arc<Session>, Refusal> {
        if let Some(session) = self.open_one(name) {
            return if session.repository == *repository { Ok(session) } else { Err(unknown()) };
        }
        let resumed = store
            .resume_upload(repository, name.upload())
            .await
            .map_err(|error| Refusal::of(About::Upload, &error))?;
        self.add(repository, name, resumed.ok_or_else(unknown)?)
    }

    fn open_one(&self, name: SessionName) -> Option<Arc<Session>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| !session.is_stale());
        let session = open.get(&name).cloned()?;
        session.touch();
        Some(session)
    }

    /// The session has ended.
    pub(super) fn forget(&self, name: SessionName) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    }
}

/// A name for a session, which nobody can guess.
pub(super) fn new_name() -> Result<SessionName, Refusal> {
    SessionName::random().ok_or_else(|| {
        let words = "the system has no random numbers";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Code::StoreFailed, words)
    })
}

/// There is no such session, or it ended.
pub(super) fn unknown() -> Refusal {
    let words = "there is no such upload: begin again";
    Refusal::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, Error};

    struct Nowhere;

    #[async_trait::async_trait]
    impl Upload for Nowhere {
        fn written(&self) -> u64 {
            0
        }

        async fn write(&mut self, _: bytes::Bytes) -> Result<(), Error> {
            Ok(())
        }

        async fn finish(self: Box<Self>, _: &Digest) -> Result<(), Error> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f_e1_uploads_are_bounded_and_idle_ones_end() {
        let uploads = Uploads::default();
        let repository: Repository = "a".parse().expect("a name");
        let add = || {
            let name = new_name().expect("random numbers");
            uploads.add(&repository, name, Box::new(Nowhere)).map(|_| name)
        };
        let first = add().expect("the first");
        let store = crate::oci::Memory::new();
        let find = async |repository: &Repository| uploads.find(&store, repository, first).await;
        for _ in 1..uploads.limit {
            add().expect("within the limit");
        }
        assert!(add().is_err(), "one over the limit");
        tokio::time::advance(IDLE_TIMEOUT / 2).await;
        find(&repository).await.expect("touched in time");
        tokio::time::advance(IDLE_TIMEOUT / 2).await;
        add().expect("the idle ones are gone");
        find(&repository).await.expect("the touched one is not");
        assert!(find(&"b".parse().expect("a name")).await.is_err(), "of another repository");
        tokio::time::advance(IDLE_TIMEOUT).await;
        assert!(find(&repository).await.is_err(), "idle for too long");
    }
}
