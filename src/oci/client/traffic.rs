//! Requests and bytes, counted by host: what a run reports at its end, and progress while it lasts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by host, shared by all clients that are given it.
#[derive(Debug, Default)]
pub struct Traffic {
    hosts: Mutex<BTreeMap<String, Arc<Count>>>,
}

/// The counts of one host.
#[derive(Debug, Default)]
pub(super) struct Count {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What went to and came from a host. Bytes are those of bodies: what headers take is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Requests, each repetition and redirect one.
    pub requests: u64,
    /// Bytes sent, what had to be sent again included.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

impl Traffic {
    /// The amounts of every host (`host` or `host:port`) that was asked anything.
    pub fn by_host(&self) -> BTreeMap<String, Amount> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().map(|(host, count)| (host.clone(), count.amount())).collect()
    }

    /// The sum over all hosts.
    pub fn total(&self) -> Amount {
        self.by_host().into_values().fold(Amount::default(), |sum, one| Amount {
            requests: sum.requests + one.requests,
            sent: sum.sent + one.sent,
            received: sum.received + one.received,
        })
    }

    /// The counts of the host of an address.
    pub(super) fn of(&self, url: &url::Url) -> Arc<Count> {
        let name = url.host_str().unwrap_or_default();
        let name = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone()
    }
}

impl Count {
    fn amount(&self) -> Amount {
        Amount {
            requests: self.requests.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    /// One more request.
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of a body went out.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of a body came in.
    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
