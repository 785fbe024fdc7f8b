//! What happens in a run when a builder is lost: its jobs go elsewhere, or wait for it, and not for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::AbortHandle;
use tokio::time::Instant;

use super::State;
use super::builder::{Builder, free_some, wanted};
use super::job::{Failure, Work};
use super::watch::Watch;
use crate::diag::Diagnostic;
use crate::engine::Room;
use crate::event::{EventKind, Outcome};
use crate::family::JobId;
use crate::oci::Tag;
use crate::record::ImageRecord;
use crate::schedule::Ticket;

/// How long jobs wait for a lost builder where no other can do them.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How often a job may lose its builder: one whose build brings its engine down would begin again for ever.
pub(super) const TIMES_LOST: usize = 3;

/// Tries that go on, and builders that are lost.
#[derive(Default)]
pub(super) struct Losses {
    tries: BTreeMap<Ticket, Try>,
    /// What is known of the builders that are lost, by their places in the list of the session.
    lost: BTreeMap<usize, Diagnostic>,
    /// How much room builders have that had too little for a job, as was seen last.
    pub(super) rooms: BTreeMap<usize, Room>,
    /// Jobs that have an image of this run although the builder that made it is lost, or could not check it.
    pub(super) kept: BTreeSet<JobId>,
    /// The builders on which each job has failed in a way that need not happen on another, once for each time.
    tried: BTreeMap<JobId, Vec<String>>,
    /// Tries that were taken from a lost builder, which may say later that they went well.
    pub(super) abandoned: Vec<Abandoned>,
    /// How often each job has lost its builder while it was at work.
    times_lost: BTreeMap<JobId, usize>,
    /// When each job is given up that no builder can do.
    give_up_at: BTreeMap<JobId, Instant>,
}

/// A try that does not count any more.
pub(super) struct Abandoned {
    pub(super) job: JobId,
    pub(super) builder: String,
    /// What it would push to.
    pub(super) tag: Tag,
}

struct Try {
    job: JobId,
    builder: String,
    tag: Option<Tag>,
    kept: Arc<OnceLock<ImageRecord>>,
    end: AbortHandle,
}

impl Losses {
    pub(super) fn begun(&mut self, ticket: Ticket, work: &Work<'_>, end: AbortHandle) {
        let (job, builder, kept) = (work.job.clone(), work.builder.name.clone(), work.kept.clone());
        self.tries.insert(ticket, Try { job, builder, tag: work.tag().ok(), kept, end });
    }

    /// A try is over, or does not count any more: its processes end. The image that it has kept all the same.
    pub(super) fn over(&mut self, ticket: Ticket) -> Option<ImageRecord> {
        let Try { job, kept, end, .. } = self.tries.remove(&ticket)?;
        end.abort();
        let image = kept.get().cloned();
        if image.is_some() {
            self.kept.insert(job);
        }
        image
    }

    /// A try is on a builder that is lost, and goes on there for all that is known.
    fn abandon(&mut self, ticket: Ticket) {
        if let Some(Try { job, builder, tag: Some(tag), .. }) = self.tries.get(&ticket) {
            let (job, builder, tag) = (job.clone(), builder.clone(), tag.clone());
            self.abandoned.push(Abandoned { job, builder, tag });
        }
    }

    /// Comes back when jobs have waited long enough for builders that are lost.
    pub(super) async fn patience_ends(&self) {
        match self.give_up_at.values().min() {
            Some(then) => tokio::time::sleep_until(*then).await,
            None => std::future::pending().await,
        }
    }
}

impl State<'_> {
    /// Whether jobs wait for a builder to come back.
    pub(super) fn waits_for_builders(&self) -> bool {
        !self.losses.give_up_at.is_empty()
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
        let mut too_often = Vec::new();
        for (job, ticket) in self.dispatch.lost(machine) {
            self.losses.abandon(ticket);
            let times = self.losses.times_lost.entry(job.clone()).or_default();
            *times += 1;
            if *times < TIMES_LOST {
                self.moves(job, ticket, &builder, format!("builder {builder} is lost"));
            } else {
                self.leaves(&job, ticket);
                too_often.push(job);
            }
        }
        for job in too_often {
            let message =
                format!("{job} is given up: its builder was lost {TIMES_LOST} times while it was built");
            let given_up = Diagnostic::surroundings(message).because_of(problem);
            self.gives_up(&job, given_up.hint("see which builders answer: polyarch doctor"));
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

    /// Whether a job goes to another builder after this one could not do it, for no reason of the job's own: to one that is
    /// at least as good for it, as a native one that has come back is for a job that was emulated.
    pub(super) fn moved(&mut self, work: &Work<'_>, ticket: Ticket, failure: &Failure) -> bool {
        let (job, own) = (&work.job, &work.builder.name);
        let tried = self.losses.tried.entry(job.clone()).or_default();
        tried.push(own.clone());
        if tried.len() > self.session.builders.len() {
            // It came back again and again, since the others were never there when it was to begin.
            return false;
        }
        let emulation = work.planned.terms.emulation;
        let fits = |at: &usize| {
            let builder = &self.session.builders[*at];
            !tried.contains(&builder.name)
                && builder.fit(&job.platform, emulation).is_some_and(|fit| fit <= work.fit)
                && self.dispatch.has_room(job, *at)
        };
        let mut there = (0..self.session.builders.len()).filter(|at| !self.losses.lost.contains_key(at));
        let goes = there.any(|at| fits(&at));
        if goes {
            self.dispatch.again(ticket);
            let reason = failure.problem.message.clone();
            self.moves(job.clone(), ticket, own, reason);
        }
        goes
    }

    /// Jobs have waited long enough for builders that are lost.
    pub(super) fn give_up(&mut self) {
        let now = Instant::now();
        let waiting = self.losses.give_up_at.iter();
        let over: Vec<JobId> =
            waiting.filter(|(_, until)| **until <= now).map(|(job, _)| job.clone()).collect();
        for job in over {
            let problem = self.no_builder_for(&job);
            self.gives_up(&job, problem);
        }
    }

    /// What to say of a job that no builder can do: what is known of those that could.
    fn no_builder_for(&self, job: &JobId) -> Diagnostic {
        let emulation = self.plan.jobs[job].terms.emulation;
        let could = |at: &usize| {
            self.session.builders[*at].fit(&job.platform, emulation).is_some()
                && self.dispatch.has_labels(job, *at)
        };
        let lost = { self.losses.lost.iter() }.filter(|(at, _)| could(at)).map(|(_, known)| known);
        let full = { 0..self.session.builders.len() }
            .filter(|at| could(at) && !self.dispatch.has_room(job, *at))
            .filter_map(|at| Some((&self.session.builders[at], self.known_room(at)?)));
        let full: Vec<(&Builder, &Room)> = full.collect();
        let hints: BTreeSet<&str> =
            full.iter().map(|(builder, _)| free_some(builder.facts.image_store)).collect();
        let problem = Diagnostic::surroundings(format!("no builder is left for {job}"));
        let problem = lost.fold(problem, Diagnostic::because_of);
        let problem = full.into_iter().fold(problem, |problem, (builder, room)| {
            problem.because(format!("builder {} has {room}", builder.name))
        });
        let problem = hints.into_iter().fold(problem, Diagnostic::hint);
        problem
            .hint("see which builders answer: polyarch doctor")
            .hint("then run the same command again: what is built stays")
    }

    /// How much room a builder has, as was seen last.
    fn known_room(&self, at: usize) -> Option<&Room> {
        self.losses.rooms.get(&at).or(self.session.builders[at].room.as_ref())
    }

    /// A job that is not at work fails, and takes with it what stands on it.
    fn gives_up(&mut self, job: &JobId, problem: Diagnostic) {
        // One that fell with another is over.
        let Some(lost) = self.dispatch.give_up(job) else { return };
        let reason = problem.message.clone();
        let outcome = Outcome::Failed { reason, log: None, image: None, waiting: None };
        self.tell_end(job, outcome, 0, 0);
        self.fell(job.clone(), problem, lost);
    }

    /// A job leaves its builder, whatever became of it there.
    pub(super) fn moves(&mut self, job: JobId, ticket: Ticket, builder: &str, reason: String) {
        self.leaves(&job, ticket);
        let builder = builder.to_owned();
        (self.session.show)(EventKind::JobMoved { job: job.to_string(), builder, reason });
    }

    /// A try of a job does not count any more; the image that it has kept does.
    fn leaves(&mut self, job: &JobId, ticket: Ticket) {
        if let Some(image) = self.losses.over(ticket) {
            self.built.insert(image.key.clone(), image);
        }
        self.started.remove(job);
    }

    /// Which jobs wait for a builder now, and each until when: any end of a job may have made one ready.
    pub(super) fn judge_patience(&mut self, watch: &mut Watch<'_>) {
        let stranded: BTreeSet<JobId> = self.dispatch.stranded().into_iter().collect();
        let waiting = &mut self.losses.give_up_at;
        waiting.retain(|job, _| stranded.contains(job));
        for job in &stranded {
            waiting.entry(job.clone()).or_insert_with(|| Instant::now() + PATIENCE);
        }
        stranded.iter().for_each(|job| self.await_room_for(job, watch));
    }

    /// A job waits for room wherever it lacks nothing else, also where it never began (F-G13).
    fn await_room_for(&self, job: &JobId, watch: &mut Watch<'_>) {
        let terms = &self.plan.jobs[job].terms;
        let wanted = wanted(terms);
        for (at, builder) in self.session.builders.iter().enumerate() {
            let could = builder.fit(&job.platform, terms.emulation).is_some()
                && builder.most.is_none_or(|most| most >= wanted)
                && self.dispatch.has_labels(job, at);
            if could && !self.losses.lost.contains_key(&at) && !self.dispatch.has_room(job, at) {
                watch.await_room(at, wanted);
            }
        }
    }
}
