//! SIGINT and SIGTERM: the first stops the work in order, the second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::diag::{Diagnostic, Result};

/// Listens for signals from when it is made.
#[derive(Clone)]
pub(super) struct Signals {
    code: Arc<AtomicU8>,
    came: Arc<Notify>,
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
        let signals = Self { code: Arc::default(), came: Arc::default() };
        let heard = signals.clone();
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                };
                if heard.code.swap(code, Ordering::SeqCst) != 0 {
                    // The second signal means now.
                    std::process::exit(i32::from(code));
                }
                heard.came.notify_waiters();
            }
        });
        Ok(signals)
    }

    /// The exit code of the signal that came, if one did.
    pub(super) fn code(&self) -> Option<u8> {
        Some(self.code.load(Ordering::SeqCst)).filter(|code| *code != 0)
    }

    /// Waits for the first signal.
    pub(super) async fn stop(&self) {
        let came = self.came.notified();
        if self.code().is_none() {
            came.await;
        }
    }
}
