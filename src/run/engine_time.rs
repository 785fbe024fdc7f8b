//! For how long an engine was at work for a job: the rest of its time is our own.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// A sum of times.
#[derive(Debug, Default)]
pub(super) struct EngineTime(AtomicU64);

impl EngineTime {
    /// Wait for an engine, and count how long that takes.
    pub(super) async fn of<T>(&self, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = work.await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_add(micros, Ordering::Relaxed);
        done
    }

    /// The sum so far, rounded.
    pub(super) fn milliseconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed).saturating_add(500) / 1000
    }
}
