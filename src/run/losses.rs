//! What happens in a run when a builder is lost: its jobs go elsewhere, or wait for it, and not for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::AbortHandle;
use tokio::time::Instant;

use super::State;
use super::job::{Failure, Work};
use super::watch::Watch;
use crate::diag::Diagnostic;
use crate::event::EventKind;
use crate::family::JobId;
use crate::record::ImageRecord;
use crate::schedule::Ticket;

/// How long jobs wait for a lost builder where no other can do them.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Tries that go on, and builders that are lost.
#[derive(Default)]
pub(super) struct Losses {
    tries: BTreeMap<Ticket, Try>,
    /// What is known of the builders that are lost, by their places in the list of the session.
    lost: BTreeMap<usize, Diagnostic>,
    /// Jobs that have an image of this run although the builder that made it is lost, or could not check it.
    pub(super) kept: BTreeSet<JobId>,
    /// The builders on which each job has failed in a way that need not happen on another.
    tried: BTreeMap<JobId, BTreeSet<String>>,
    /// When those jobs are given up that no builder can do.
    give_up_at: Option<Instant>,
}

struct Try {
    job: JobId,
    kept: Arc<OnceLock<ImageRecord>>,
    end: AbortHandle,
}

impl Losses {
    pub(super) fn begun(&mut self, ticket: Ticket, work: &Work<'_>, end: AbortHandle) {
        self.tries.insert(ticket, Try { job: work.job.clone(), kept: work.kept.clone(), end });
    }

    /// A try is over, or does not count any more: its processes end. The image that it has kept all the same.
    pub(super) fn over(&mut self, ticket: Ticket) -> Option<ImageRecord> {
        let Try { job, kept, end } = self.tries.remove(&ticket)?;
        end.abort();
        let image = kept.get().cloned();
        if image.is_some() {
            self.kept.insert(job);
        }
        image
    }

    /// Comes back when jobs have waited long enough for builders that are lost.
    pub(super) async fn patience_ends(&self) {
        match self.give_up_at {
            Some(then) => tokio::time::sleep_until(then).await,
            None => std::future::pending().await,
        }
    }
}

impl State<'_> {
    /// Whether jobs wait for a builder to come back.
    pub(super) fn waits_for_builders(&self) -> bool {
        self.losses.give_up_at.is_some()
    }

    /// A builder is lost: what it was at does not count any more, and begins again elsewhere.
    pub(super) fn lost(&mut self, machine: usize, problem: &Diagnostic, watch: &mut Watch<'_>) {
        if self.losses.lost.contains_key(&machine) {
            return;
        }
        let builder = self.session.builders[machine].name.clone();
        let reason = problem.causes.first().unwrap_or(&problem.message).clone();
        (self.session.show)(EventKind::BuilderLost { builder: builder.clone(), reason });
        self.losses.lost.insert(machine, problem.clone());
        for (job, ticket) in self.dispatch.lost(machine) {
            let reason = format!("builder {builder} is lost");
            self.moves(job, ticket, &builder, reason);
        }
        watch.await_return(machine);
    }

    /// A lost builder answers again.
    pub(super) fn returned(&mut self, machine: usize, watch: &mut Watch<'_>) {
        let builder = self.session.builders[machine].name.clone();
        (self.session.show)(EventKind::BuilderReturned { builder });
        self.losses.lost.remove(&machine);
        self.dispatch.returned(machine);
        watch.begin(machine);
    }

    /// Whether a job goes to another builder after this one could not do it, for no reason of the job's own.
    pub(super) fn moved(&mut self, work: &Work<'_>, ticket: Ticket, failure: &Failure) -> bool {
        let (job, own) = (&work.job, &work.builder.name);
        let tried = self.losses.tried.entry(job.clone()).or_default();
        tried.insert(own.clone());
        let emulation = work.planned.terms.emulation;
        let fits = |at: &usize| {
            let builder = &self.session.builders[*at];
            !tried.contains(&builder.name) && builder.fit(&job.platform, emulation) == Some(work.fit)
        };
        let there = (0..self.session.builders.len()).filter(|at| !self.losses.lost.contains_key(at));
        let goes = there.filter(|at| fits(at)).count() > 0;
        if goes {
            self.dispatch.again(ticket);
            let reason = failure.problem.message.clone();
            self.moves(job.clone(), ticket, own, reason);
        }
        goes
    }

    /// Jobs have waited long enough for builders that are lost.
    pub(super) fn give_up(&mut self) {
        for (job, lost) in self.dispatch.give_up() {
            let known = self.losses.lost.values().next();
            let problem = Diagnostic::surroundings(format!("no builder is left for {job}"));
            let problem = known
                .into_iter()
                .flat_map(|known| std::iter::once(&known.message).chain(&known.causes))
                .fold(problem, Diagnostic::because)
                .hint("see which builders answer: polyarch doctor")
                .hint("then run the same command again: what is built stays");
            let outcome =
                crate::event::Outcome::Failed { reason: problem.message.clone(), log: None, image: None };
            self.tell_end(&job, outcome, 0);
            self.fell(job, problem, lost);
        }
    }

    fn moves(&mut self, job: JobId, ticket: Ticket, builder: &str, reason: String) {
        if let Some(image) = self.losses.over(ticket) {
            self.built.insert(image.key.clone(), image);
        }
        self.started.remove(&job);
        let builder = builder.to_owned();
        (self.session.show)(EventKind::JobMoved { job: job.to_string(), builder, reason });
    }

    /// Whether jobs wait for a lost builder now, and until when: any end of a job may have made one ready.
    pub(super) fn judge_patience(&mut self) {
        self.losses.give_up_at = match self.dispatch.stranded().is_empty() {
            true => None,
            false => Some(self.losses.give_up_at.unwrap_or_else(|| Instant::now() + PATIENCE)),
        };
    }
}
