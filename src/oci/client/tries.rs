//! Asking again: whether, when, and what a person hears of it.
//!
//! The budget is time. A failure is tried again until the patience of the options is used up, and at least so many
//! times as the options say; a registry that has never answered gets that number of tries only. Whatever the registry
//! says about when to come back is done, as far as the budget reaches.

use std::time::Duration;

use tokio::time::Instant;

use super::known::SETTLING;
use super::notice::Notice;
use super::options::Pauses;
use super::request::Connection;
use crate::oci::Error;

/// A request that came to nothing.
pub(super) struct Trouble {
    /// What went wrong.
    pub(super) error: Error,
    /// Whether asking again may help.
    pub(super) again: Again,
}

/// Whether asking again may help.
#[derive(Clone, Debug)]
pub(super) enum Again {
    /// No.
    Never,
    /// The connection failed: perhaps.
    Connection,
    /// The registry took something and does not show it yet.
    Settling,
    /// The registry itself said "later": its status, and perhaps when.
    Later(u16, Option<Duration>),
}

impl Trouble {
    /// A failure of the connection.
    pub(super) fn connection(error: Error) -> Self {
        Self { error, again: Again::Connection }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self { error, again: Again::Never }
    }
}

/// The tries of one piece of work: how many, since when, and whether there is another.
pub(super) struct Tries<'a> {
    connection: &'a Connection,
    made: usize,
    since: Instant,
}

impl<'a> Tries<'a> {
    /// The first try.
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, made: 1, since: Instant::now() }
    }

    /// How many were made, this one included.
    pub(super) fn made(&self) -> usize {
        self.made
    }

    /// There was progress, so that what comes next is a first try again.
    pub(super) fn progress(&mut self) {
        *self = Self::new(self.connection);
    }

    /// There is no other try. What the registry said about when to come back holds for other requests.
    pub(super) fn given_back(&self, trouble: Trouble) -> Error {
        let Connection { options, gate, .. } = self.connection;
        if let Again::Later(_, after) = trouble.again {
            gate.answered();
            let after = after.filter(|after| !after.is_zero() && *after <= options.patience);
            let usual = options.pauses.after(self.made, self.since.elapsed());
            gate.trouble(after.unwrap_or(usual), after.is_some());
        }
        trouble.error
    }

    /// Wait for the next try, or give up.
    ///
    /// # Errors
    /// The trouble, where it will not pass or the budget is used up.
    pub(super) async fn again(&mut self, trouble: Trouble) -> Result<(), Error> {
        let Connection { options, gate, .. } = self.connection;
        let waited = self.since.elapsed();
        let (after, sign) = match &trouble.again {
            Again::Never => return Err(trouble.error),
            Again::Connection => (None, "does not answer".to_owned()),
            Again::Settling => (None, "does not show yet what it took".to_owned()),
            Again::Later(status, after) => {
                gate.answered();
                (*after, format!("answers {status}"))
            }
        };
        let patience = match (gate.has_answered(), &trouble.again) {
            (_, Again::Settling) => options.patience.min(SETTLING),
            (true, _) => options.patience,
            (false, _) => Duration::ZERO,
        };
        let left = patience.saturating_sub(waited);
        let after = after.filter(|after| !after.is_zero());
        let pause = match pause(after, left, options.pauses.after(self.made, waited)) {
            Ok(_) if self.made >= options.attempts && left.is_zero() => {
                return Err(given_up(trouble.error, self.made, waited));
            }
            Ok(pause) => pause,
            Err(after) => return Err(too_long(trouble.error, after)),
        };
        if matches!(trouble.again, Again::Later(..)) {
            gate.trouble(after.unwrap_or(pause), after.is_some());
        }
        if self.made > 1 && !left.is_zero() && gate.tells() {
            let registry = self.connection.registry.clone();
            options.listener.tell(Notice::Waiting { registry, sign, at_most: left });
        }
        self.made += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// How long to wait, of the time that is left, where the registry said after how long to come back or nothing, and one
/// would usually wait so long.
///
/// # Errors
/// What the registry said, where that is longer than what is left.
pub(super) fn pause(after: Option<Duration>, left: Duration, usual: Duration) -> Result<Duration, Duration> {
    let pause = match after {
        Some(after) if after > left => return Err(after),
        // A tenth more, at random, so that those who were told the same do not come back together.
        Some(after) if !after.is_zero() => after + Pauses::random(after / 10),
        _ => usual,
    };
    // The last try is made when the budget ends, and not later.
    Ok(if left.is_zero() { pause } else { pause.min(left) })
}

fn too_long(error: Error, after: Duration) -> Error {
    let seconds = after.as_secs();
    let text = format!("{error}; it wants to be asked again in {seconds} s, which is longer than is waited");
    Error::new(error.kind(), text).because(error)
}

fn given_up(error: Error, made: usize, waited: Duration) -> Error {
    let text = match waited.as_secs() {
        0 => format!("{error} ({made} attempts)"),
        seconds => format!("{error} ({made} attempts in {seconds} s)"),
    };
    Error::new(error.kind(), text).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ErrorKind;
    use crate::oci::client::options::ClientOptions;

    fn connection() -> Connection {
        let base = url::Url::parse("http://127.0.0.1:1/").expect("an address");
        Connection::new("127.0.0.1:1", base, ClientOptions::default()).expect("a connection")
    }

    fn later(status: u16, after: Option<Duration>) -> Trouble {
        Trouble { error: Error::new(ErrorKind::Passing, "ask"), again: Again::Later(status, after) }
    }

    /// How long it takes until an outage ends, by a clock that costs nothing.
    async fn outlast(mut fails: impl FnMut(Duration, usize) -> Option<Trouble>) -> Result<Duration, Error> {
        let connection = connection();
        let (start, mut tries) = (Instant::now(), Tries::new(&connection));
        while let Some(trouble) = fails(start.elapsed(), tries.made()) {
            tries.again(trouble).await?;
            drop(connection.gate.enter().await);
        }
        Ok(start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn f_r1_fifty_429_with_retry_after_cost_a_fifth_more_than_they_must() {
        for after in [1, 2, 5] {
            let after = Duration::from_secs(after);
            let took =
                outlast(|_, made| (made <= 50).then(|| later(429, Some(after)))).await.expect("outlasted");
            assert!(took >= after * 50 && took <= after * 60, "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f_r3_two_minutes_of_5xx_cost_a_fifth_more_than_they_must() {
        for seconds in [10, 60, 120, 240] {
            let away = Duration::from_secs(seconds);
            for _ in 0..20 {
                let took = outlast(|now, _| (now < away).then(|| later(503, None))).await.expect("outlasted");
                assert!(took <= away * 6 / 5, "{away:?}: {took:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f_r2_a_registry_that_is_never_well_is_given_up_when_the_budget_ends() {
        for trouble in [|| later(429, None), || later(429, Some(Duration::from_secs(1))), || later(500, None)]
        {
            let start = Instant::now();
            let error = outlast(|_, _| Some(trouble())).await.expect_err("for ever");
            let took = start.elapsed().as_secs();
            assert!((295..=310).contains(&took), "{took} s: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f_r1_what_is_beyond_the_budget_is_said_at_once() {
        for (after, waits) in [(0, true), (299, true), (301, false), (1_000_000_000, false)] {
            let after_seconds = Duration::from_secs(after);
            let result = outlast(|_, made| (made == 1).then(|| later(429, Some(after_seconds)))).await;
            assert_eq!(result.is_ok(), waits, "{after}");
            let told = result.err().is_none_or(|error| error.to_string().contains(&format!("{after} s")));
            assert!(told, "{after}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f_n6_a_registry_that_never_answered_is_given_its_tries_and_no_more() {
        let cut = || Trouble::connection(Error::new(ErrorKind::Passing, "ask"));
        let start = Instant::now();
        outlast(|_, _| Some(cut())).await.expect_err("never");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        let start = Instant::now();
        outlast(|_, made| Some(if made == 1 { later(503, None) } else { cut() })).await.expect_err("never");
        assert!(start.elapsed() >= Duration::from_secs(290), "{:?}", start.elapsed());
    }
}
