//! Which of two publications is newer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How new a publication is: first by when its commit was made, then by when its run was planned. An older one never
/// moves a tag that a newer one has moved.
///
/// A shallow clone knows when its commit was made, and not how many came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Generation {
    /// When the commit was made, in seconds since 1970-01-01 UTC; 0 where there is none.
    pub(crate) commit_seconds: u64,
    /// When the run was planned, in milliseconds since 1970-01-01 UTC.
    pub(crate) run_milliseconds: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.commit_seconds, self.run_milliseconds)
    }
}
