//! What is known of a registry's content while we work with it: where blobs are, so that each is sent once and then
//! mounted; what was just written, so that a registry which does not show it everywhere yet is asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::oci::{Digest, Pointer, Repository};

/// How long a registry may take until it shows everywhere what it took.
pub(super) const SETTLING: Duration = Duration::from_secs(60);

/// How many writes are remembered.
const WRITES: usize = 10_000;

/// The repositories that are known to hold a blob. Its lock is held while the blob is sent, so that it is sent once.
pub(super) type Holders = Arc<tokio::sync::Mutex<BTreeSet<Repository>>>;

/// What is known of a registry's content.
#[derive(Default)]
pub(super) struct Known {
    blobs: Mutex<BTreeMap<Digest, Holders>>,
    writes: Mutex<BTreeMap<(Repository, String), Instant>>,
    /// Whether a mount of a blob from its own repository says if the blob is there; `None` until it was tried.
    pub(super) mounts_tell: tokio::sync::Mutex<Option<bool>>,
    /// Whether several tags can be moved by one request; `None` until it was tried.
    tags_together: Mutex<Option<bool>>,
    keeps_conditions: AtomicBool,
}

impl Known {
    /// Who holds a blob.
    pub(super) fn holders(&self, digest: &Digest) -> Holders {
        locked(&self.blobs).entry(digest.clone()).or_default().clone()
    }

    /// A blob may not be there any more.
    pub(super) fn forget_blob(&self, digest: &Digest) {
        locked(&self.blobs).remove(digest);
    }

    /// Nothing is known of blobs: the registry says that some are not there.
    pub(super) fn forget_blobs(&self) {
        locked(&self.blobs).clear();
    }

    /// Something stands under a pointer now.
    pub(super) fn wrote(&self, repository: &Repository, pointer: &Pointer) {
        let mut writes = locked(&self.writes);
        if writes.len() >= WRITES {
            writes.retain(|_, at| at.elapsed() < SETTLING);
        }
        if writes.len() < WRITES {
            writes.insert((repository.clone(), pointer.to_string()), Instant::now());
        }
    }

    /// It was taken away.
    pub(super) fn removed(&self, repository: &Repository, pointer: &str) {
        locked(&self.writes).remove(&(repository.clone(), pointer.to_owned()));
    }

    /// Whether several tags can be moved by one request; `None` until it was tried.
    pub(super) fn tags_together(&self) -> Option<bool> {
        *locked(&self.tags_together)
    }

    /// It was tried.
    pub(super) fn learn_tags_together(&self, can: bool) {
        *locked(&self.tags_together) = Some(can);
    }

    /// Whether the registry has said that it keeps conditions of tags.
    pub(super) fn keeps_conditions(&self) -> bool {
        self.keeps_conditions.load(Ordering::Relaxed)
    }

    /// It says so.
    pub(super) fn learn_conditions(&self) {
        self.keeps_conditions.store(true, Ordering::Relaxed);
    }

    /// Whether it was written so lately that the registry may not show it yet.
    pub(super) fn wrote_lately(&self, repository: &Repository, pointer: &Pointer) -> bool {
        let key = (repository.clone(), pointer.to_string());
        locked(&self.writes).get(&key).is_some_and(|at| at.elapsed() < SETTLING)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
