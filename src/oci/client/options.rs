//! How a registry is to be treated: whom we are to it, how patient we are, what it may be asked at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::gate::Gates;
use super::notice::Listener;
use super::proxy::Proxies;
use super::traffic::Traffic;
use crate::oci::credentials::{Credentials, NoCredentials};

/// How a registry is to be treated.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where logins are found.
    pub credentials: Arc<dyn Credentials>,
    /// When to speak http instead of https.
    pub plain_http: PlainHttp,
    /// How often a request is sent, however long that takes.
    pub attempts: usize,
    /// How long a registry that fails is asked again, beyond the number of attempts. A registry that has never
    /// answered is given the number of attempts and no more.
    pub patience: Duration,
    /// How long to wait between attempts.
    pub pauses: Pauses,
    /// How many bytes of a blob go in one request. A blob that is handed over piece by piece is held in memory by
    /// such pieces, of 16 MiB at most.
    pub chunk: u64,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// How many requests may be under way at once; fewer while the registry says "later".
    pub concurrency: usize,
    /// How many requests may begin in a second, where there is a limit.
    pub requests_per_second: Option<f64>,
    /// What holds these two for all clients of a registry together.
    pub gates: Arc<Gates>,
    /// The way out, where it leads through a proxy.
    pub proxies: Proxies,
    /// Certificates, as PEM, of authorities that are trusted beside those of the system.
    pub authorities: Vec<Bytes>,
    /// Where requests and bytes are counted.
    pub traffic: Arc<Traffic>,
    /// Who hears of waiting and of warnings.
    pub listener: Listener,
    /// What to call ourselves.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credentials: Arc::new(NoCredentials),
            plain_http: PlainHttp::default(),
            attempts: 6,
            patience: Duration::from_secs(5 * 60),
            pauses: Pauses::default(),
            chunk: 64 << 20,
            idle: Duration::from_secs(60),
            concurrency: 16,
            requests_per_second: None,
            gates: Arc::default(),
            proxies: Proxies::default(),
            authorities: Vec::new(),
            traffic: Arc::default(),
            listener: Listener::default(),
            user_agent: concat!("polyarch/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// When to speak http instead of https.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// To registries on this machine: 127.0.0.0/8, ::1 and `localhost`.
    #[default]
    Loopback,
    /// To every registry.
    Always,
    /// To none.
    Never,
}

/// Pauses between attempts: a random half of a span that doubles from `base` up to `cap`, and is never more than a
/// sixth of the time waited so far once that is more than six seconds: a registry that was away for long is back for a
/// sixth of that time at most before it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// The first span.
    pub base: Duration,
    /// The longest span.
    pub cap: Duration,
}

/// The longest span before much time was waited.
const EARLY: Duration = Duration::from_secs(1);

/// The part of the time waited that a pause may add.
const PART: u32 = 6;

impl Default for Pauses {
    fn default() -> Self {
        Self { base: Duration::from_millis(250), cap: Duration::from_secs(30) }
    }
}

impl Pauses {
    /// The pause after so many attempts, the first of them so long ago.
    pub(super) fn after(self, attempts: usize, waited: Duration) -> Duration {
        let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        let span = self.base.saturating_mul(1 << doublings).min(self.cap).min((waited / PART).max(EARLY));
        span / 2 + Self::random(span / 2)
    }

    /// A random part of a span.
    pub(super) fn random(span: Duration) -> Duration {
        let mut bytes = [0; 4];
        // Without randomness, half the span is as good as any.
        let part = aws_lc_rs::rand::fill(&mut bytes)
            .map_or(0.5, |()| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX));
        span.mul_f64(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_a_sixth_of_what_was_waited() {
        let pauses = Pauses::default();
        for attempts in 1..100 {
            for waited in [0, 1, 6, 60, 120, 300] {
                let waited = Duration::from_secs(waited);
                let pause = pauses.after(attempts, waited);
                assert!(pause >= Duration::from_millis(125), "{attempts} {waited:?}: {pause:?}");
                assert!(pause <= (waited / 6).max(EARLY), "{attempts} {waited:?}: {pause:?}");
            }
        }
        assert!(pauses.after(20, Duration::from_secs(300)) >= Duration::from_secs(15));
        assert!(pauses.after(1, Duration::from_secs(300)) <= Duration::from_millis(250));
    }
}
