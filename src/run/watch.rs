//! Builders that are lost in the middle of a run, and come back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;

use tokio::time::sleep;

use super::builder::Builder;
use crate::diag::Diagnostic;
use crate::engine::Room;

/// How long apart it is looked whether there is room again.
const LOOK: Duration = Duration::from_secs(5);

/// What is seen of a builder; builders are their places in the list of the session.
pub(super) enum Sign {
    /// It does not answer any more.
    Lost(usize, Diagnostic),
    /// It answers again, and has forgotten what it was at.
    Returned(usize),
    /// It has room again for what it was too small for.
    Room(usize, u64, Room),
}

/// No sign comes of what was watched in vain.
type Watched<'a> = Pin<Box<dyn Future<Output = Option<Sign>> + Send + 'a>>;

/// Watches those builders that have had something to do.
pub(super) struct Watch<'a> {
    builders: &'a [Builder],
    signs: FuturesUnordered<Watched<'a>>,
    /// Builders whose loss is watched for, and how to end that.
    watched: BTreeMap<usize, AbortHandle>,
    /// Builders, and how many bytes are waited for on them.
    awaited: BTreeSet<(usize, u64)>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(builders: &'a [Builder]) -> Self {
        Self { builders, signs: FuturesUnordered::new(), watched: BTreeMap::new(), awaited: BTreeSet::new() }
    }

    /// From now on it is seen when a builder is lost.
    pub(super) fn begin(&mut self, at: usize) {
        if let Entry::Vacant(place) = self.watched.entry(at) {
            let (handle, registration) = AbortHandle::new_pair();
            place.insert(handle);
            let lost = Abortable::new(self.builders[at].engine.lost(), registration);
            self.signs.push(Box::pin(async move { lost.await.ok().map(|problem| Sign::Lost(at, problem)) }));
        }
    }

    /// From now on it is seen when a lost builder comes back, and not any more that it was lost: a job may have found
    /// that first.
    pub(super) fn await_return(&mut self, at: usize) {
        self.watched.remove(&at).iter().for_each(AbortHandle::abort);
        let engine = &self.builders[at].engine;
        self.signs.push(Box::pin(async move {
            engine.returned().await;
            Some(Sign::Returned(at))
        }));
    }

    /// From now on it is seen when a builder has so much room.
    pub(super) fn await_room(&mut self, at: usize, bytes: u64) {
        if self.awaited.insert((at, bytes)) {
            let engine = &self.builders[at].engine;
            self.signs.push(Box::pin(async move {
                loop {
                    sleep(LOOK).await;
                    if let Some(room) = engine.room().await.filter(|room| room.takes(bytes)) {
                        return Some(Sign::Room(at, bytes, room));
                    }
                }
            }));
        }
    }

    /// The next sign, if ever one comes.
    pub(super) async fn next(&mut self) -> Sign {
        loop {
            match self.signs.next().await {
                Some(Some(sign)) => {
                    if let Sign::Room(at, bytes, _) = &sign {
                        self.awaited.remove(&(*at, *bytes));
                    }
                    return sign;
                }
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }
}
