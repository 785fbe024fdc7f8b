//! Carry a plan out: a pure queue, and one loop that owns all state.

mod adopt;
mod bases;
mod builder;
mod check;
mod context;
mod job;
mod leftovers;
mod queue;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::diag::{Diagnostic, Kind, Problems};
use crate::engine::{Redactor, RunId};
use crate::event::{EventKind, Outcome};
use crate::family::{Emulation, Family, JobId, Unit};
use crate::oci::Digest;
use crate::plan::{Decision, Facts, Plan, Planned};
use crate::record::{ImageRecord, Passed, Records};
use crate::survey::Registries;

pub(crate) use builder::Builder;
pub(crate) use check::HostTests;
pub(crate) use leftovers::sweep_tags;

use bases::Bases;
use builder::{Fit, Slots};
use job::{Failure, Work};
use queue::Queue;

/// How much longer than its time limit an engine may take to say that the time is over.
const ENGINE_SLACK: Duration = Duration::from_secs(300);

/// The folder of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    /// Where the logs of its jobs stand.
    pub(crate) logs: PathBuf,
    /// Where files of its jobs stand while they run; mode 0700.
    pub(crate) scratch: PathBuf,
}

/// What a person asked of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// After a failure nothing new begins.
    pub(crate) fail_fast: bool,
    /// The engine's cache is not used.
    pub(crate) no_cache: bool,
    /// Whether platforms may be emulated.
    pub(crate) emulation: Emulation,
}

/// All that a run works with.
pub(crate) struct Session<'a> {
    /// The run.
    pub(crate) run: RunId,
    /// The family's folder, absolute.
    pub(crate) root: PathBuf,
    /// The family.
    pub(crate) family: &'a Family,
    /// What was true when the plan was made.
    pub(crate) facts: &'a Facts,
    /// Where results are kept.
    pub(crate) records: Records,
    /// The builders.
    pub(crate) builders: &'a [Builder],
    /// Where images from outside come from.
    pub(crate) registries: Arc<Registries>,
    /// How tests on this machine are run.
    pub(crate) host: HostTests,
    /// Blots secrets out.
    pub(crate) redactor: Redactor,
    /// The run's folder.
    pub(crate) folder: RunFolder,
    /// The files that hold the secrets of each unit, by id.
    pub(crate) secrets: BTreeMap<(Unit, String), PathBuf>,
    /// What was asked for.
    pub(crate) options: Options,
    /// The time in milliseconds since 1970-01-01 UTC.
    pub(crate) clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Hears every event.
    pub(crate) show: Arc<dyn Fn(EventKind) + Send + Sync>,
}

/// How the jobs of a plan ended. Each is in exactly one of these.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// Built, checked or reused: both records stand.
    pub(crate) passed: BTreeMap<JobId, Passed>,
    /// Failed, and why.
    pub(crate) failed: BTreeMap<JobId, Diagnostic>,
    /// Not tried, because that job failed.
    pub(crate) skipped: BTreeMap<JobId, JobId>,
    /// Not tried or not ended, because the run was stopped.
    pub(crate) cancelled: BTreeSet<JobId>,
}

/// Carry a plan out, until it is done or `stop` comes.
///
/// # Errors
/// Where it cannot begin: a platform without a builder. Failures of jobs are in the result.
pub(crate) async fn run(
    session: &Session<'_>,
    plan: &Plan,
    stop: impl Future<Output = ()>,
) -> Result<Ran, Problems> {
    builder::check(session.family, plan, session.builders, session.options.emulation)?;
    let bases =
        Bases::new(session.records.store.clone(), session.records.scope.clone(), session.registries.clone());
    let mut state = State::new(session, plan);
    let mut running = FuturesUnordered::new();
    let mut stop = pin!(stop);
    loop {
        while let Some(work) = state.next(&bases) {
            running.push(async move {
                let started = (session.clock)();
                let result = tokio::select! {
                    result = work.0.carry_out() => result,
                    problem = work.0.builder.engine.lost() => Err(work.0.lost(problem)),
                };
                let milliseconds = (session.clock)().saturating_sub(started);
                (work, result, milliseconds)
            });
        }
        tokio::select! {
            biased;
            () = &mut stop => {
                // Dropping the jobs ends their processes.
                drop(running);
                state.cancel();
                break;
            }
            ended = running.next() => match ended {
                Some((work, result, milliseconds)) => state.ended(work, result, milliseconds),
                None => break,
            },
        }
    }
    state.drain();
    Ok(state.ran)
}

/// All that changes while a plan is carried out.
struct State<'a> {
    session: &'a Session<'a>,
    plan: &'a Plan,
    queue: Queue<JobId>,
    slots: Slots<'a>,
    started: BTreeSet<JobId>,
    /// The image keys that are being built: two units of the same inputs have one key, and it is built once.
    building: BTreeSet<Digest>,
    /// What this run has built, by image key.
    built: BTreeMap<Digest, ImageRecord>,
    /// Nothing new begins.
    closed: bool,
    serial: usize,
    ran: Ran,
}

/// A job on its builder, with the slot to give back.
struct Started<'a>(Work<'a>, usize);

impl<'a> State<'a> {
    fn new(session: &'a Session<'a>, plan: &'a Plan) -> Self {
        let mut ran = Ran::default();
        for job in &plan.order {
            let planned = &plan.jobs[job];
            // Where a parent must be checked first, what stands on it waits for the verdict.
            let settled = planned.parents.iter().all(|parent| ran.passed.contains_key(parent));
            if let (Decision::Reuse(passed), true) = (&planned.decision, settled) {
                reuse(session, &mut ran, job, passed);
            }
        }
        let to_do: Vec<_> = plan
            .order
            .iter()
            .filter(|job| !ran.passed.contains_key(job))
            .map(|job| (job.clone(), plan.jobs[job].parents.clone()))
            .collect();
        let slots = Slots::new(session.builders, session.options.emulation);
        let queue = Queue::new(&to_do);
        Self {
            session,
            plan,
            queue,
            slots,
            started: BTreeSet::new(),
            building: BTreeSet::new(),
            built: BTreeMap::new(),
            closed: false,
            serial: 0,
            ran,
        }
    }

    /// Start the best ready job that a builder has a slot for.
    fn next(&mut self, bases: &'a Bases) -> Option<Started<'a>> {
        self.reuse_ready();
        if self.closed {
            return None;
        }
        for job in self.queue.ready() {
            let planned = &self.plan.jobs[&job];
            if self.building.contains(&planned.key) {
                continue;
            }
            let recipe = self.session.family.recipe(&job.unit)?;
            let Some((slot, builder, fit)) = self.slots.take(&job) else { continue };
            self.queue.start(&job);
            self.started.insert(job.clone());
            self.building.insert(planned.key.clone());
            self.serial += 1;
            let twin = self.built.get(&planned.key).cloned();
            (self.session.show)(EventKind::JobStarted {
                job: job.to_string(),
                builder: builder.name.clone(),
                emulated: fit == Fit::Emulated,
                checks_only: twin.is_some() || matches!(planned.decision, Decision::Check(_)),
            });
            let work = Work {
                session: self.session,
                bases,
                parents: self.parents(planned),
                job,
                recipe,
                planned,
                builder,
                fit,
                twin,
                serial: self.serial,
                kept: OnceLock::new(),
            };
            return Some(Started(work, slot));
        }
        None
    }

    /// Jobs that records stand for, and that waited only for the checks of their parents, take no slot.
    fn reuse_ready(&mut self) {
        let plan = self.plan;
        let reused = |job: JobId| match &plan.jobs[&job].decision {
            Decision::Reuse(passed) => Some((job, passed)),
            Decision::Check(_) | Decision::Build(_) => None,
        };
        while let Some((job, passed)) = self.queue.ready().into_iter().find_map(reused) {
            self.queue.start(&job);
            reuse(self.session, &mut self.ran, &job, passed);
            self.queue.passed(&job);
        }
    }

    /// The images of a job's parents.
    fn parents(&self, planned: &Planned) -> BTreeMap<Unit, Digest> {
        let images = planned.parents.iter().filter_map(|parent| {
            let passed = self.ran.passed.get(parent)?;
            Some((parent.unit.clone(), passed.image.image.clone()))
        });
        images.collect()
    }

    fn ended(
        &mut self,
        Started(work, slot): Started<'a>,
        result: Result<Passed, Failure>,
        milliseconds: u64,
    ) {
        self.slots.release(slot);
        self.started.remove(&work.job);
        self.building.remove(&work.planned.key);
        self.built.extend(work.kept.get().map(|image| (image.key.clone(), image.clone())));
        let job = work.job.clone();
        let outcome = match result {
            Ok(passed) => {
                self.queue.passed(&job);
                let image = passed.image.image.to_string();
                self.ran.passed.insert(job.clone(), passed);
                match work.kept.get() {
                    Some(_) => Outcome::Built { image },
                    None => Outcome::Checked { image },
                }
            }
            Err(failure) => {
                let log = Some(work.log()).filter(|log| log.exists()).map(|log| log.display().to_string());
                let image = failure.image.map(|image| image.to_string());
                let reason = failure.problem.message.clone();
                self.ran.failed.insert(job.clone(), failure.problem);
                self.closed |= self.session.options.fail_fast;
                Outcome::Failed { reason, log, image }
            }
        };
        let failed = matches!(outcome, Outcome::Failed { .. });
        (self.session.show)(EventKind::JobEnded { job: job.to_string(), outcome, milliseconds });
        if failed {
            for lost in self.queue.failed(&job) {
                let outcome = Outcome::Skipped { because: job.to_string() };
                (self.session.show)(EventKind::JobEnded { job: lost.to_string(), outcome, milliseconds: 0 });
                self.ran.skipped.insert(lost, job.clone());
            }
        }
    }

    fn cancel(&mut self) {
        self.closed = true;
        for job in std::mem::take(&mut self.started) {
            self.end_cancelled(job);
        }
    }

    /// What was never started, because the run was stopped or failed fast.
    fn drain(&mut self) {
        for job in self.queue.drain(&self.started) {
            if !self.ran.cancelled.contains(&job) {
                self.end_cancelled(job);
            }
        }
    }

    fn end_cancelled(&mut self, job: JobId) {
        let outcome = Outcome::Cancelled;
        (self.session.show)(EventKind::JobEnded { job: job.to_string(), outcome, milliseconds: 0 });
        self.ran.cancelled.insert(job);
    }
}

/// A record stands for a job, and for all that it stands on.
fn reuse(session: &Session<'_>, ran: &mut Ran, job: &JobId, passed: &Passed) {
    let image = passed.image.image.to_string();
    (session.show)(EventKind::JobReused { job: job.to_string(), image });
    ran.passed.insert(job.clone(), passed.clone());
}

impl Ran {
    /// The failures as problems, for the end of a command.
    pub(crate) fn problems(&self) -> Vec<Diagnostic> {
        let failed = self.failed.values().cloned();
        failed
            .map(|problem| {
                if problem.kind == Kind::Request {
                    Diagnostic { kind: Kind::Failed, ..problem }
                } else {
                    problem
                }
            })
            .collect()
    }
}
