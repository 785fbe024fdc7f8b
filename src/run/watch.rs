//! Builders that are lost in the middle of a run, and come back.

use std::collections::BTreeSet;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::builder::Builder;
use crate::diag::Diagnostic;

/// What is seen of a builder; builders are their places in the list of the session.
pub(super) enum Sign {
    /// It does not answer any more.
    Lost(usize, Diagnostic),
    /// It answers again, and has forgotten what it was at.
    Returned(usize),
}

type Watched<'a> = Pin<Box<dyn Future<Output = Sign> + Send + 'a>>;

/// Watches those builders that have had something to do.
pub(super) struct Watch<'a> {
    builders: &'a [Builder],
    signs: FuturesUnordered<Watched<'a>>,
    watched: BTreeSet<usize>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(builders: &'a [Builder]) -> Self {
        Self { builders, signs: FuturesUnordered::new(), watched: BTreeSet::new() }
    }

    /// From now on it is seen when a builder is lost.
    pub(super) fn begin(&mut self, at: usize) {
        if self.watched.insert(at) {
            let engine = &self.builders[at].engine;
            self.signs.push(Box::pin(async move { Sign::Lost(at, engine.lost().await) }));
        }
    }

    /// From now on it is seen when a lost builder comes back.
    pub(super) fn await_return(&mut self, at: usize) {
        self.watched.remove(&at);
        let engine = &self.builders[at].engine;
        self.signs.push(Box::pin(async move {
            engine.returned().await;
            Sign::Returned(at)
        }));
    }

    /// The next sign, if ever one comes.
    pub(super) async fn next(&mut self) -> Sign {
        match self.signs.next().await {
            Some(sign) => sign,
            None => std::future::pending().await,
        }
    }
}
