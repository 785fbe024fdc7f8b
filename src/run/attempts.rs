//! Build, and again where that may help: after a failure that may pass, or once without the engine's cache.

use std::time::Duration;

use tokio::time::Instant;

use super::ENGINE_SLACK;
use super::job::Work;
use crate::diag::{Diagnostic, Kind};
use crate::engine::{BuildFailure, BuildOrder, Built, CacheOrder};
use crate::event::EventKind;

/// How often a build is tried where a failure may pass.
const ATTEMPTS: u32 = 3;
/// With so much room, in bytes, a disk was not full some moments ago.
const PLENTY: u64 = 4_000_000_000;
/// The pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

impl Work<'_> {
    /// Build, and again where the failure may pass, or where the engine's disk or its cache may be to blame.
    ///
    /// # Errors
    /// The last failure.
    pub(super) async fn build(&self, order: &BuildOrder) -> Result<Built, Diagnostic> {
        let built = match self.persist(order).await {
            Err(failure) if failure.is_full => self.with_more_room(order, failure).await,
            ended => ended,
        };
        let mut failure = match built {
            Err(failure) if self.blames_cache(order, &failure) => failure,
            ended => return ended.map_err(|failure| failure.problem),
        };
        failure.problem.hints.clear();
        self.tell_retry(failure.problem.to_string(), true);
        let cache = CacheOrder { from: Vec::new(), ..order.cache.clone() };
        let afresh = BuildOrder { no_cache: true, cache, ..order.clone() };
        self.persist(&afresh).await.map_err(|failure| failure.problem)
    }

    /// Build once more on a disk that is full, if there is anything of ours there to free (F-G6).
    async fn with_more_room(&self, order: &BuildOrder, failure: Given) -> Result<Built, Given> {
        // A step prints what it likes: where the disk has room, nothing is freed for its word.
        if self.builder.engine.room().await.is_some_and(|room| room.takes(PLENTY)) {
            return Err(failure);
        }
        let freed = self.builder.engine.free(&self.builder.store).await.unwrap_or_default();
        if freed.is_empty() {
            return Err(failure);
        }
        self.tell_retry(format!("{}; freed: {}", failure.problem.message, freed.join(", ")), false);
        self.persist(order).await
    }

    /// Whether one more try without the cache is asked for. What took too long would only take longer.
    fn blames_cache(&self, order: &BuildOrder, failure: &Given) -> bool {
        let is_own = failure.problem.kind == Kind::Failed && failure.after < order.time_limit;
        self.recipe.retry_without_cache && !order.no_cache && is_own
    }

    /// Build, and again where the failure may pass.
    async fn persist(&self, order: &BuildOrder) -> Result<Built, Given> {
        let job = self.job.to_string();
        let progress = |step: String| (self.session.show)(EventKind::JobStep { job: job.clone(), step });
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let (limit, begun) = (order.time_limit + ENGINE_SLACK, Instant::now());
            let building = self.engine_time.of(self.builder.engine.build(order, &progress));
            let built = tokio::time::timeout(limit, building).await;
            match built.unwrap_or_else(|_| Err(self.silent())) {
                Ok(built) => return Ok(built),
                Err(BuildFailure::Passing { problem }) if attempt < ATTEMPTS => {
                    self.tell_retry(problem.to_string(), false);
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(failure) => {
                    let (problem, is_full) =
                        (failure.problem().clone(), matches!(failure, BuildFailure::Full { .. }));
                    return Err(Given { problem, is_full, after: begun.elapsed() });
                }
            }
        }
        unreachable!("the loop ends by returning")
    }

    fn tell_retry(&self, reason: String, without_cache: bool) {
        let job = self.job.to_string();
        (self.session.show)(EventKind::JobRetried { job, reason, without_cache });
    }

    /// The engine has not even said that the time is over (F-G2); it would not say so the next time either.
    fn silent(&self) -> BuildFailure {
        let problem = format!("hear from builder {} how the build of {} ended", self.builder.name, self.job);
        let problem = Diagnostic::surroundings(problem).hint("see whether it answers: polyarch doctor");
        BuildFailure::Step { problem }
    }
}

/// A build that was given up, and after how long.
struct Given {
    problem: Diagnostic,
    is_full: bool,
    after: Duration,
}
