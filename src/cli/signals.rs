//! SIGINT, SIGTERM and SIGHUP: the first stops the work in order, the second ends the program at once.
//!
//! Every command hears them from its first moment on. What leaves nothing behind is simply dropped when the first
//! comes ([`Signals::unless_stopped`]); a run, a publication and a server are told ([`Signals::stop`]) and end in
//! order. What is done when a signal comes stays done, and its exit code with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::diag::{Diagnostic, Kind, Result, mistake_in_task};

/// How long clearing away may take once a signal has come. What is left then the next run removes.
const AFTERWARDS: Duration = Duration::from_secs(6);
/// How long after a signal it is waited for a thread that was told to stop.
const STOPPING: Duration = Duration::from_secs(2);

/// Where Linux says which signals a process was told to ignore.
const STATUS: &str = "/proc/self/status";

/// Listens for signals from when it is made.
#[derive(Clone, Default)]
pub(super) struct Signals {
    /// The exit code of the signal that came last; 0 where none did.
    code: Arc<AtomicU8>,
    came: Arc<Notify>,
    /// A second one came.
    again: Arc<AtomicBool>,
}

impl Signals {
    /// Listen from now on.
    ///
    /// # Errors
    /// Where the system does not let us.
    pub(super) fn listen() -> Result<Self> {
        let failed = |error: std::io::Error| Diagnostic::surroundings("listen for signals").caused_by(&error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let hangup = ends_at_hangup(&std::fs::read_to_string(STATUS).unwrap_or_default());
        let mut hangup = hangup.then(|| signal(SignalKind::hangup())).transpose().map_err(failed)?;
        let signals = Self::default();
        let heard = signals.clone();
        tokio::spawn(async move {
            loop {
                let kind = tokio::select! {
                    _ = interrupt.recv() => Kind::Interrupted,
                    _ = terminate.recv() => Kind::Terminated,
                    () = next_of(&mut hangup) => Kind::HungUp,
                };
                if heard.came(kind) {
                    // The second signal means now, whatever does not let itself be dropped.
                    tokio::time::sleep(super::LEAVING).await;
                    std::process::exit(i32::from(kind.exit_code()));
                }
            }
        });
        Ok(signals)
    }

    /// A signal has come; whether one had before.
    fn came(&self, kind: Kind) -> bool {
        let before = self.code.swap(kind.exit_code(), Ordering::SeqCst);
        self.again.store(before != 0, Ordering::SeqCst);
        self.came.notify_waiters();
        before != 0
    }

    /// What a command ends with that was stopped.
    ///
    /// # Errors
    /// Where a signal has come.
    pub(super) fn check(&self) -> Result<(), Diagnostic> {
        let (kind, name) = match self.code.load(Ordering::SeqCst) {
            0 => return Ok(()),
            129 => (Kind::HungUp, "SIGHUP"),
            143 => (Kind::Terminated, "SIGTERM"),
            _ => (Kind::Interrupted, "SIGINT"),
        };
        Err(Diagnostic::new(kind, format!("stopped by {name}; the same command goes on from here")))
    }

    /// Waits for the first signal: what a command ends with that it stops.
    pub(super) async fn stop(&self) -> Diagnostic {
        loop {
            let came = self.came.notified();
            if let Err(stopped) = self.check() {
                return stopped;
            }
            came.await;
        }
    }

    /// A command as a whole: dropped as it stands where the second signal comes, which ends the programs that it has
    /// started too.
    ///
    /// # Errors
    /// Those of the command, and where it was ended so.
    pub(super) async fn unless_ended<T>(&self, command: impl Future<Output = Result<T>>) -> Result<T> {
        let ended = async {
            loop {
                let came = self.came.notified();
                if self.again.load(Ordering::SeqCst) {
                    return;
                }
                came.await;
            }
        };
        tokio::select! {
            biased;
            done = command => done,
            () = ended => Err(self.stop().await.into()),
        }
    }

    /// Work that leaves nothing behind when it is dropped, which is done where a signal comes first.
    ///
    /// # Errors
    /// Those of the work, and where it was stopped.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.check()?;
        tokio::select! {
            biased;
            done = work => done,
            stopped = self.stop() => Err(stopped.into()),
        }
    }

    /// Work that waits for a disk, on a thread of its own. Where a signal comes first it is told to stop, and has a moment
    /// to do so.
    ///
    /// # Errors
    /// Those of the work, and where it was stopped.
    pub(super) async fn unless_stopped_on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
        stop: impl FnOnce(),
    ) -> Result<T> {
        let mut work = tokio::task::spawn_blocking(work);
        tokio::select! {
            done = &mut work => match done {
                Ok(done) => done,
                Err(error) => Err(mistake_in_task("this command", error).into()),
            },
            stopped = self.stop() => {
                stop();
                // What it holds of files goes when it ends, or else with the next such command.
                let _ = tokio::time::timeout(STOPPING, work).await;
                Err(stopped.into())
            }
        }
    }

    /// Clearing away, which is done whether a signal came or not: once one has come it has a few seconds, and where
    /// they are over it is dropped and this is a warning.
    ///
    /// # Errors
    /// Those of the work.
    pub(super) async fn clearing_away(
        &self,
        what: &str,
        work: impl Future<Output = Result<(), Diagnostic>>,
    ) -> Result<(), Diagnostic> {
        let over = async {
            self.stop().await;
            tokio::time::sleep(AFTERWARDS).await;
        };
        tokio::select! {
            biased;
            done = work => done,
            () = over => Err(Diagnostic::surroundings(format!("clear away what this run left in {what}"))
                .because(format!("it took longer than {} s", AFTERWARDS.as_secs()))
                .hint("the next build removes it; see whether the engine answers: polyarch doctor")),
        }
    }
}

/// Whether SIGHUP ends this process, by what Linux says of it. Where it is ignored (`nohup`), and where that cannot be known,
/// it stays as it is.
fn ends_at_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|signals| u64::from_str_radix(signals.trim(), 16).ok());
    // SIGHUP is the first signal.
    ignored.is_some_and(|signals| signals & 1 == 0)
}

/// The next of these signals; for ever where they are not listened for.
async fn next_of(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => drop(signals.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_p5_a_hangup_that_is_ignored_stays_so() {
        let status =
            |ignored: &str| format!("Name:\tpolyarch\nSigBlk:\t0000000000000001\nSigIgn:\t{ignored}\n");
        assert!(ends_at_hangup(&status("0000000000001000")), "only SIGPIPE is");
        assert!(!ends_at_hangup(&status("0000000000001001")));
        assert!(!ends_at_hangup(""), "who knows");
    }

    #[tokio::test(start_paused = true)]
    async fn f_p3_clearing_away_has_its_time_until_a_signal_comes_and_a_few_seconds_then() {
        let signals = Signals::default();
        let long = async {
            tokio::time::sleep(100 * AFTERWARDS).await;
            Ok(())
        };
        signals.clearing_away("it", long).await.expect("nothing hurries");
        assert!(!signals.came(Kind::Interrupted), "it is the first");
        let short = async {
            tokio::time::sleep(AFTERWARDS / 2).await;
            Ok(())
        };
        signals.clearing_away("it", short).await.expect("it is done in time");
        let late = signals.clearing_away("it", std::future::pending()).await.expect_err("its time is over");
        assert!(late.message.contains("what this run left in it"), "{late}");
    }

    #[tokio::test]
    async fn f_p3_what_is_done_when_a_signal_comes_stays_done() {
        let signals = Signals::default();
        let work = async {
            assert!(!signals.came(Kind::Interrupted), "it is the first");
            Ok(7)
        };
        assert_eq!(signals.unless_stopped(work).await.expect("it is done"), 7);
        let next = signals.unless_stopped(async { Ok(8) }).await.expect_err("nothing new begins");
        assert_eq!(next.exit_code(), 130);
        assert!(signals.came(Kind::Terminated), "it is the second");
    }

    #[tokio::test]
    async fn f_p3_work_under_way_is_dropped_when_a_signal_comes() {
        let signals = Signals::default();
        let work = async {
            signals.came(Kind::Terminated);
            std::future::pending::<Result<()>>().await
        };
        assert_eq!(signals.unless_stopped(work).await.expect_err("it is stopped").exit_code(), 143);
        assert_eq!(signals.stop().await.kind, Kind::Terminated, "who asks later hears it too");
    }
}
