//! The lease of an open publication: who holds it says again and again that he is alive, and stops where another has
//! taken it over.

use std::task::Poll;
use std::time::Duration;

use crate::diag::{Diagnostic, Kind, Result};
use crate::oci::ErrorKind;

use super::journal::State;
use super::transaction::{LOOK, Transaction};

/// How long a publication that says nothing more is taken to be alive.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

impl Transaction<'_> {
    /// Does work while the journal is kept open, so that nobody takes it for dead. Who has stood still for long looks
    /// whether it is still his own before anything else is done.
    pub(super) async fn alive<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        let mut due = self.lease_ends().saturating_sub(milliseconds(LEASE) * 2 / 3);
        loop {
            tokio::select! {
                biased;
                () = self.reached(due) => {}
                done = &mut work => return Ok(done),
            }
            due = match self.renew().await? {
                true => self.lease_ends().saturating_sub(milliseconds(LEASE) * 2 / 3),
                false => self.now() + milliseconds(LOOK) * 5,
            };
        }
    }

    /// Waits for a moment of the clock, which goes on while the machine sleeps.
    async fn reached(&self, moment: u64) {
        let left = Duration::from_millis(moment.saturating_sub(self.now()));
        let mut sleep = std::pin::pin!(tokio::time::sleep(left));
        std::future::poll_fn(|cx| match self.now() >= moment {
            true => Poll::Ready(()),
            false => sleep.as_mut().poll(cx),
        })
        .await;
    }

    /// Until when this publication is taken to be alive; for ever where it has no journal.
    fn lease_ends(&self) -> u64 {
        let held = self.held();
        let open = held.as_ref().and_then(|page| page.journal.open());
        open.map_or(u64::MAX, |(_, until_seconds)| until_seconds.saturating_mul(1_000))
    }

    /// Says that somebody is alive. `false` where that did not arrive; whether it is still his own is not known then.
    ///
    /// # Errors
    /// Where another has taken the publication over, or could have.
    pub(super) async fn renew(&self) -> Result<bool> {
        let Some(page) = self.held().clone() else { return Ok(true) };
        let Some(id) = page.journal.open().map(|(open, _)| open.id.clone()) else { return Ok(true) };
        let journal = page.journal.with_state(&id, &self.open_state());
        let error = match self.desk.write(&page, journal).await {
            Ok(page) => {
                *self.held() = Some(page);
                return Ok(true);
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Moved {
            *self.held() = None;
            let found = Diagnostic::new(Kind::Incomplete, "another publication has taken this one over");
            return Err(found.caused_by(&error).hint("see what became of it: polyarch publications").into());
        }
        if self.now() >= self.lease_ends() {
            let found = Diagnostic::new(Kind::Incomplete, "the registry could not be told that this goes on");
            return Err(found.caused_by(&error).hint("run the same command again").into());
        }
        Ok(false)
    }

    /// The state of a publication that is worked on from now on.
    pub(super) fn open_state(&self) -> State {
        let until_seconds = (self.now() / 1_000).saturating_add(LEASE.as_secs());
        State::Open { until_seconds, holder: self.publisher.holder.clone() }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
