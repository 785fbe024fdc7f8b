//! The gate before one host: how many requests are under way, how fast they begin, and when the host is left alone.
//!
//! What the host tells one request holds for all of them: "later" closes the gate for everybody, and halves how many
//! may pass at once until successes widen it again, one for each round of them. So a thousand requests that were
//! refused do not come back together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How many troubles in a row are the host's and not one request's, where the host does not say so itself.
const STREAK: usize = 2;

/// The gates before registries, shared by all clients that are given them: two clients of one registry keep to what one
/// of them may.
#[derive(Default)]
pub struct Gates(Mutex<BTreeMap<String, Arc<Gate>>>);

impl Gates {
    /// The gate before a registry, as wide as the first that asks for it wants it.
    pub(super) fn before(&self, registry: &str, concurrency: usize, per_second: Option<f64>) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(registry.to_owned());
        gate.or_insert_with(|| Arc::new(Gate::new(concurrency, per_second))).clone()
    }
}

/// The gate before one host.
pub(super) struct Gate {
    state: Mutex<State>,
    freed: Notify,
    most: f64,
    interval: Duration,
}

struct State {
    active: usize,
    /// How many may be active, between 1 and `most`.
    limit: f64,
    /// When the next may begin, by the rate.
    next: Option<Instant>,
    /// Until when nobody begins.
    closed_until: Option<Instant>,
    /// Troubles since the last success.
    streak: usize,
    /// Whether the host has ever answered.
    answered: bool,
    /// Whether a person was told of the present trouble.
    told: bool,
}

/// The right to send one request, given back when it is dropped.
pub(super) struct Pass<'a>(&'a Gate);

impl Gate {
    /// A gate that lets so many through at once, and so many in a second.
    fn new(concurrency: usize, per_second: Option<f64>) -> Self {
        let most = f64::from(u32::try_from(concurrency.max(1)).unwrap_or(u32::MAX));
        let interval = per_second
            .filter(|rate| rate.is_finite() && *rate > 0.0)
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64((1.0 / rate).min(3600.0)));
        let state = State {
            active: 0,
            limit: most,
            next: None,
            closed_until: None,
            streak: 0,
            answered: false,
            told: false,
        };
        Self { state: Mutex::new(state), freed: Notify::new(), most, interval }
    }

    /// Wait for the right to send.
    pub(super) async fn enter(&self) -> Pass<'_> {
        loop {
            let freed = self.freed.notified();
            let wait = {
                let mut state = self.state();
                let now = Instant::now();
                match state.begins_at(now) {
                    Some(at) if at <= now => {
                        state.active += 1;
                        state.next = Some(now + self.interval);
                        return Pass(self);
                    }
                    wait => wait,
                }
            };
            match wait {
                Some(at) => tokio::time::sleep_until(at).await,
                None => freed.await,
            }
        }
    }

    /// The host answered, and not with "later".
    pub(super) fn success(&self) {
        let mut state = self.state();
        state.limit = (state.limit + 1.0 / state.limit).min(self.most);
        (state.streak, state.answered, state.told) = (0, true, false);
        drop(state);
        self.freed.notify_one();
    }

    /// The host said "later" or failed. It is left alone for a pause where it said for how long, and where it fails
    /// again and again.
    pub(super) fn trouble(&self, pause: Duration, said_so: bool) {
        let mut state = self.state();
        let now = Instant::now();
        state.streak += 1;
        if !said_so && state.streak < STREAK {
            return;
        }
        // Requests that were under way together are refused together: that is one refusal.
        if state.closed_until.is_none_or(|until| until <= now) {
            state.limit = (state.limit / 2.0).max(1.0);
        }
        let until = now + pause;
        state.closed_until = Some(state.closed_until.map_or(until, |other| other.max(until)));
    }

    /// The host has answered something, whatever it was.
    pub(super) fn answered(&self) {
        self.state().answered = true;
    }

    /// Whether the host has ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.state().answered
    }

    /// Whether a person is to be told of a trouble: once, until there is a success.
    pub(super) fn tells(&self) -> bool {
        !std::mem::replace(&mut self.state().told, true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When a request may begin; `None` while too many are under way.
    fn begins_at(&self, now: Instant) -> Option<Instant> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a u32")]
        let free = self.active < self.limit as usize;
        free.then(|| now.max(self.next.unwrap_or(now)).max(self.closed_until.unwrap_or(now)))
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.active = state.active.saturating_sub(1);
        drop(state);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_are_under_way_and_the_rate_is_kept() {
        let gate = Arc::new(Gate::new(3, Some(10.0)));
        let (active, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let start = Instant::now();
        let work = (0..30).map(|_| {
            let (gate, active, most) = (gate.clone(), active.clone(), most.clone());
            tokio::spawn(async move {
                let _pass = gate.enter().await;
                most.fetch_max(active.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(250)).await;
                active.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for task in work.collect::<Vec<_>>() {
            task.await.expect("a task");
        }
        assert_eq!(most.load(Ordering::SeqCst), 3);
        assert!(start.elapsed() >= Duration::from_millis(2900), "{:?}", start.elapsed());
        assert!(start.elapsed() <= Duration::from_millis(3300), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn f_x9_two_clients_of_one_registry_keep_to_what_one_may() {
        let gates = Gates::default();
        let (one, two) = (gates.before("r.io", 1, Some(2.0)), gates.before("r.io", 16, None));
        let pass = one.enter().await;
        assert!(tokio::time::timeout(Duration::from_secs(60), two.enter()).await.is_err(), "one at once");
        drop(pass);
        let start = Instant::now();
        for gate in [&one, &two, &one] {
            drop(gate.enter().await);
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1), "two in a second");
        let other = gates.before("other.io", 16, None);
        other.trouble(Duration::from_secs(60), true);
        drop(two.enter().await);
        assert!(start.elapsed() < Duration::from_secs(60), "another registry is another matter");
    }

    #[tokio::test(start_paused = true)]
    async fn later_closes_the_gate_for_all_and_narrows_it() {
        let gate = Gate::new(8, None);
        gate.trouble(Duration::from_secs(5), true);
        gate.trouble(Duration::from_secs(3), true);
        let start = Instant::now();
        let passes = [gate.enter().await, gate.enter().await, gate.enter().await, gate.enter().await];
        assert_eq!(start.elapsed().as_secs(), 5);
        let fifth = tokio::time::timeout(Duration::from_secs(60), gate.enter()).await;
        assert!(fifth.is_err(), "two refusals at once are one: 8 became 4, and not 2");
        drop(fifth);
        for _ in 0..5 {
            gate.success();
        }
        let fifth = tokio::time::timeout(Duration::from_secs(60), gate.enter()).await;
        assert!(fifth.is_ok(), "a round of successes makes it 5");
        drop(passes);
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_that_fails_does_not_stop_the_others() {
        let gate = Gate::new(8, None);
        gate.trouble(Duration::from_secs(60), false);
        let start = Instant::now();
        drop(gate.enter().await);
        assert_eq!(start.elapsed(), Duration::ZERO);
        gate.trouble(Duration::from_secs(60), false);
        drop(gate.enter().await);
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}
