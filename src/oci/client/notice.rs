//! What a person should hear while requests are under way: that a registry is waited for, and what it warns of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something to tell while a transfer goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A registry fails, and is asked again.
    Waiting {
        /// The registry as it was named.
        registry: String,
        /// What it does: "answers 500", "cannot be reached".
        sign: String,
        /// For how much longer it is asked again.
        at_most: Duration,
    },
    /// A registry said something to everybody who asks (`Warning`, RFC 7234, code 299), made safe to print.
    Warned {
        /// The registry as it was named.
        registry: String,
        /// Its words.
        words: String,
    },
}

/// Who hears of notices; nobody by default.
#[derive(Clone, Default)]
pub struct Listener(Option<Arc<dyn Fn(Notice) + Send + Sync>>);

impl Listener {
    /// One that is called with every notice, from any thread.
    pub fn new(hear: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    /// Tell it.
    pub(super) fn tell(&self, notice: Notice) {
        if let Some(hear) = &self.0 {
            hear(notice);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener(…)" } else { "Listener(nobody)" })
    }
}
