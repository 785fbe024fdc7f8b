//! What a disk was told, step by step, and a disk that fails when it is told to.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One change of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::oci::layout) enum Step {
    CreateFolder(PathBuf),
    CreateFile(PathBuf),
    Write(PathBuf, Vec<u8>),
    SyncFile(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncFolder(PathBuf),
}

/// All changes in their order. Syncs are noted and not made: nothing real is at stake.
#[derive(Clone, Default)]
pub(in crate::oci::layout) struct Journal {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    steps: Vec<Step>,
    /// How many more changes are made before the disk is full, and for how many it stays so.
    until_full: Option<(usize, usize)>,
    watch: Option<Watch>,
}

/// Sees every step when it has been made.
type Watch = Arc<dyn Fn(&Step) + Send + Sync>;

impl Journal {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Note a change that was made.
    pub(in crate::oci::layout) fn note(&self, step: Step) {
        let watch = self.inner().watch.clone();
        if let Some(watch) = watch {
            watch(&step);
        }
        self.inner().steps.push(step);
    }

    /// The error of a full disk, where this change is to fail.
    pub(in crate::oci::layout) fn may_fail(&self) -> io::Result<()> {
        let mut inner = self.inner();
        match &mut inner.until_full {
            Some((0, 0)) | None => Ok(()),
            Some((0, left)) => {
                *left -= 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            Some((before, _)) => {
                *before -= 1;
                Ok(())
            }
        }
    }

    /// Look at every step from now on.
    pub(super) fn watch(&self, watch: impl Fn(&Step) + Send + Sync + 'static) {
        self.inner().watch = Some(Arc::new(watch));
    }

    /// From the n-th change on from now, so many fail.
    pub(super) fn fail(&self, after: usize, count: usize) {
        self.inner().until_full = Some((after, count));
    }

    /// Whether a failure that was asked for did not happen.
    pub(super) fn never_failed(&self) -> bool {
        matches!(self.inner().until_full, Some((before, _)) if before > 0)
    }

    /// All steps so far.
    pub(super) fn steps(&self) -> Vec<Step> {
        self.inner().steps.clone()
    }

    /// How many steps there are so far.
    pub(super) fn len(&self) -> usize {
        self.inner().steps.len()
    }
}
