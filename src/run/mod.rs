//! Carry a plan out: a scheduler, which is pure, and one loop that owns all state.

mod adopt;
mod apart;
mod attempts;
mod bases;
mod builder;
mod cache;
mod check;
mod claim;
mod context;
mod dispatch;
mod engine_time;
mod floor;
mod foreign;
mod forms;
mod job;
mod late;
mod left_out;
mod leftovers;
mod losses;
mod mounts;
mod own_caches;
mod package;
mod parents;
mod room;
mod suited;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::contents::Cache;
use crate::diag::{Diagnostic, Kind, Problems};
use crate::engine::{Delivery, Redactor, RunId};
use crate::event::{EventKind, Outcome};
use crate::family::{Barrier, Family, JobId, Unit};
use crate::oci::{Digest, Layout};
use crate::plan::{Decision, Facts, Plan, Planned, tried};
use crate::record::{ImageRecord, Passed, Records, RunTime, Taken};
use crate::schedule::Ticket;
use crate::survey::Registries;

pub(crate) use builder::Builder;
pub(crate) use check::HostTests;
pub(crate) use dispatch::{scheduled, whole_label, whole_labels};
pub(crate) use leftovers::{count_tags, sweep_tags};
pub(crate) use parents::bring_parents;
pub(crate) use suited::{Asked, check as check_builders, emulated, hindrances, lacks};

use bases::Bases;
use builder::Fit;
use claim::Others;
use dispatch::{Dispatch, Lost, Started};
use engine_time::EngineTime;
use job::{Failure, Fate, Work};
use losses::Losses;
use watch::{Sign, Watch};

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
    /// Where what stands on an image waits for all platforms of it.
    pub(crate) barrier: Barrier,
    /// The engine's cache is not used.
    pub(crate) no_cache: bool,
}

/// All that a run works with.
pub(crate) struct Session<'a> {
    /// The run.
    pub(crate) run: RunId,
    /// What the layers that were read say of packages.
    pub(crate) packages: Cache,
    /// The family's folder, absolute.
    pub(crate) root: PathBuf,
    /// The family.
    pub(crate) family: &'a Family,
    /// What was true when the plan was made.
    pub(crate) facts: &'a Facts,
    /// The tree that caches of this run are of alone; those of a trusted run are of all.
    pub(crate) own_tree: Option<Digest>,
    /// When it began, or the plan was settled that it carries out, in seconds since 1970-01-01 UTC.
    pub(crate) began_seconds: u64,
    /// Where results are kept.
    pub(crate) records: Records,
    /// The folder in which runs claim what they build.
    pub(crate) claims: Option<Arc<Layout>>,
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
    /// Whether steps may ask the ssh agents of this machine.
    pub(crate) gives_agents: bool,
    /// The jobs that cannot be built, and why; none that anything else waits for.
    pub(crate) unfit: BTreeMap<JobId, Diagnostic>,
    /// What was asked for.
    pub(crate) options: Options,
    /// The time in milliseconds since 1970-01-01 UTC.
    pub(crate) clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Hears every event.
    pub(crate) show: Arc<dyn Fn(EventKind) + Send + Sync>,
    /// Is given every image that is built.
    pub(crate) taker: Option<&'a dyn Taker>,
}

/// Whoever wants each image as soon as it stands, whatever its checks will say.
#[async_trait]
pub(crate) trait Taker: Send + Sync {
    /// Take it. Its checks begin once this is done.
    ///
    /// # Errors
    /// What its job fails with.
    async fn take(&self, image: &ImageRecord) -> Result<(), Diagnostic>;
}

impl Session<'_> {
    fn time(&self) -> RunTime {
        RunTime { began_seconds: self.began_seconds, now_seconds: (self.clock)() / 1_000 }
    }

    /// What a plan asks of builders.
    fn asks<'a>(&'a self, plan: &'a Plan) -> Asked<'a> {
        let is_untrusted = self.records.is_untrusted();
        Asked { family: self.family, facts: self.facts, plan, is_untrusted }
    }
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
    suited::check(&session.asks(plan), session.builders)?;
    for builder in session.builders.iter().filter(|one| one.engine.delivery() == Delivery::Archives) {
        (session.show)(EventKind::BuilderFedByArchives { builder: builder.name.clone() });
    }
    let bases = Bases::new(session.records.clone(), session.registries.clone());
    let mut state = State::new(session, plan);
    let mut running = FuturesUnordered::new();
    let mut watch = Watch::new(session.builders);
    let mut stop = pin!(stop);
    loop {
        while let Some((work, ticket, machine)) = state.next(&bases) {
            watch.begin(machine);
            let (handle, registration) = AbortHandle::new_pair();
            state.losses.begun(ticket, &work, handle);
            let work = async move {
                let started = Instant::now();
                let result = work.carry_out_surviving().await;
                let milliseconds =
                    milliseconds_since(started).saturating_sub(work.others.waited_milliseconds());
                (work, ticket, result, milliseconds)
            };
            running.push(Abortable::new(work, registration));
        }
        state.judge_patience(&mut watch);
        if running.is_empty() && !state.waits_for_builders() {
            break;
        }
        tokio::select! {
            biased;
            () = &mut stop => {
                // Dropping the jobs ends their processes.
                drop(running);
                state.cancel();
                break;
            }
            Some(ended) = running.next() => {
                // What was taken from a lost builder says nothing any more.
                if let Ok((work, ticket, result, milliseconds)) = ended {
                    state.ended(&work, ticket, result, milliseconds, &mut watch);
                }
            },
            sign = watch.next() => match sign {
                Sign::Lost(machine, problem) => state.lost(machine, &problem, &mut watch),
                Sign::Returned(machine) => state.returned(machine, &mut watch),
                Sign::Room(machine, _, room) => state.has_room(machine, &room),
            },
            () = state.time_to_look_again() => {}
            () = state.losses.patience_ends() => state.give_up(),
        }
    }
    state.drain();
    state.tell_of_late_results().await;
    let failed = state.to_remember();
    if !state.taken.is_empty() || !failed.is_empty() {
        // What is lost where this fails is an estimate.
        let _ = session.records.remember(state.taken, &failed, session.time().now_seconds).await;
    }
    Ok(state.ran)
}

/// All that changes while a plan is carried out.
struct State<'a> {
    session: &'a Session<'a>,
    plan: &'a Plan,
    dispatch: Dispatch<'a>,
    begun: Instant,
    started: BTreeSet<JobId>,
    /// What this run has built, by image key.
    built: BTreeMap<Digest, ImageRecord>,
    /// How long jobs took.
    taken: Vec<(JobId, Taken)>,
    serial: usize,
    losses: Losses,
    ran: Ran,
}

impl<'a> State<'a> {
    fn new(session: &'a Session<'a>, plan: &'a Plan) -> Self {
        let mut ran = Ran::default();
        left_out::leave_out(session, plan, &mut ran);
        for job in &plan.order {
            let planned = &plan.jobs[job];
            // Where a parent must be checked first, what stands on it waits for the verdict.
            let settled = planned.parents.iter().all(|parent| ran.passed.contains_key(parent));
            if let (Decision::Reuse(passed), true) = (&planned.decision, settled) {
                reuse(session, &mut ran, job, passed);
            }
        }
        let is_over = |job: &&JobId| {
            ran.passed.contains_key(job) || ran.failed.contains_key(job) || ran.skipped.contains_key(job)
        };
        let to_do = plan.order.iter().filter(|job| !is_over(job)).cloned().collect();
        let dispatch = Dispatch::new(to_do, &session.asks(plan), session.builders, &session.options);
        Self {
            session,
            plan,
            dispatch,
            begun: Instant::now(),
            started: BTreeSet::new(),
            built: BTreeMap::new(),
            taken: Vec::new(),
            serial: 0,
            losses: Losses::default(),
            ran,
        }
    }

    /// Start the job that the scheduler has next for a builder.
    fn next(&mut self, bases: &'a Bases) -> Option<(Work<'a>, Ticket, usize)> {
        self.reuse_ready();
        let now = milliseconds_since(self.begun);
        let Started { job, builder, machine, fit, ticket, cost } = self.dispatch.next(now)?;
        let planned = &self.plan.jobs[&job];
        let recipe = self.session.family.recipe(&job.unit)?;
        self.started.insert(job.clone());
        self.serial += 1;
        // Two units of the same inputs have one key, and it is built once.
        let twin = self.built.get(&planned.key).cloned();
        (self.session.show)(EventKind::JobStarted {
            job: job.to_string(),
            builder: builder.name.clone(),
            emulated: fit == Fit::Emulated,
            checks_only: twin.is_some() || matches!(planned.decision, Decision::Check(_)),
            cost,
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
            kept: Arc::default(),
            engine_time: EngineTime::default(),
            others: Others::default(),
        };
        Some((work, ticket, machine))
    }

    /// The scheduler lets a job wait for a faster builder, and no longer than this.
    async fn time_to_look_again(&self) {
        match self.dispatch.look_again() {
            Some(then) => tokio::time::sleep_until(self.begun + Duration::from_millis(then)).await,
            None => std::future::pending().await,
        }
    }

    /// Jobs that records stand for, and that waited only for the checks of their parents, take no slot.
    fn reuse_ready(&mut self) {
        let plan = self.plan;
        while let Some(job) = self.dispatch.next_reused() {
            if let Decision::Reuse(passed) = &plan.jobs[&job].decision {
                reuse(self.session, &mut self.ran, &job, passed);
            }
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

    /// A try is over.
    fn ended(
        &mut self,
        work: &Work<'a>,
        ticket: Ticket,
        result: Result<Passed, Failure>,
        milliseconds: u64,
        watch: &mut Watch<'_>,
    ) {
        let result = match result {
            Err(Failure { fate: Fate::BuilderIsLost, problem, .. }) => {
                if let Some(machine) = self.dispatch.place(work.builder) {
                    self.lost(machine, &problem, watch);
                }
                return;
            }
            Err(Failure { fate: Fate::HasNoRoom(room), .. }) => {
                return self.turned_away(work, ticket, &room, watch);
            }
            Err(failure) if failure.fate == Fate::MayPassElsewhere && self.moved(work, ticket, &failure) => {
                return;
            }
            result => result,
        };
        self.losses.over(ticket);
        self.started.remove(&work.job);
        self.built.extend(work.kept.get().map(|image| (image.key.clone(), image.clone())));
        let (job, engine) = (work.job.clone(), work.engine_time.milliseconds());
        match result {
            Ok(passed) if work.others.have_passed_it() => {
                self.dispatch.passed(ticket);
                reuse(self.session, &mut self.ran, &job, &passed);
            }
            Ok(passed) => {
                let image = passed.image.image.to_string();
                let outcome = match work.kept.get().is_some() || self.losses.kept.contains(&job) {
                    true => Outcome::Built { image },
                    false => Outcome::Checked { image },
                };
                self.tell_end(&job, outcome, milliseconds, engine);
                self.taken.extend(taken(work, milliseconds));
                self.dispatch.passed(ticket);
                self.ran.passed.insert(job, passed);
            }
            Err(failure) => {
                let log = Some(work.log()).filter(|log| log.exists()).map(|log| log.display().to_string());
                let image = failure.image.map(|image| image.to_string());
                let reason = failure.problem.message.clone();
                self.tell_end(
                    &job,
                    Outcome::Failed { reason, log, image, waiting: None },
                    milliseconds,
                    engine,
                );
                let lost = self.dispatch.failed(ticket);
                self.fell(job, failure.problem, lost);
            }
        }
    }

    /// A job has failed, and takes with it what stands on it.
    fn fell(&mut self, job: JobId, problem: Diagnostic, lost: Lost) {
        for one in lost.skipped {
            self.tell_end(&one, Outcome::Skipped { because: job.to_string() }, 0, 0);
            self.ran.skipped.insert(one, job.clone());
        }
        lost.cancelled.into_iter().for_each(|one| self.end_cancelled(one));
        self.ran.failed.insert(job, problem);
    }

    fn tell_end(&self, job: &JobId, outcome: Outcome, milliseconds: u64, engine_milliseconds: u64) {
        let job = job.to_string();
        (self.session.show)(EventKind::JobEnded { job, outcome, milliseconds, engine_milliseconds });
    }

    /// The jobs that this run has tried and that have failed, and what was tried of them. The surroundings say nothing of
    /// an image.
    fn to_remember(&self) -> Vec<(JobId, Digest)> {
        let is_tried = |job: &JobId| self.plan.jobs.get(job).is_some_and(Planned::is_done);
        let failed = self.ran.failed.iter().filter(|(_, problem)| problem.kind == Kind::Failed);
        let failed: Vec<&JobId> = failed.map(|(job, _)| job).filter(|job| is_tried(job)).collect();
        if failed.is_empty() {
            return Vec::new();
        }
        let tried = tried(self.session.family, self.session.facts);
        failed.into_iter().filter_map(|job| Some((job.clone(), tried.get(job)?.clone()))).collect()
    }

    fn cancel(&mut self) {
        for job in std::mem::take(&mut self.started) {
            self.end_cancelled(job);
        }
    }

    /// What was never started, because the run was stopped or failed fast.
    fn drain(&mut self) {
        for job in self.dispatch.drain() {
            self.end_cancelled(job);
        }
    }

    fn end_cancelled(&mut self, job: JobId) {
        self.tell_end(&job, Outcome::Cancelled, 0, 0);
        self.ran.cancelled.insert(job);
    }
}

/// How long ago something was, whatever becomes of the clock on the wall meanwhile.
fn milliseconds_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// How long a job took that has passed; nothing where another had made its image.
fn taken(work: &Work<'_>, milliseconds: u64) -> Option<(JobId, Taken)> {
    let taken = Taken {
        builder: work.builder.name.clone(),
        emulated: work.fit == Fit::Emulated,
        checks_only: work.kept.get().is_none(),
        milliseconds: vec![milliseconds],
    };
    work.twin.is_none().then(|| (work.job.clone(), taken))
}

/// A record stands for a job, and for all that it stands on.
fn reuse(session: &Session<'_>, ran: &mut Ran, job: &JobId, passed: &Passed) {
    let image = passed.image.image.to_string();
    (session.show)(EventKind::JobReused { job: job.to_string(), image });
    ran.passed.insert(job.clone(), passed.clone());
}

impl Ran {
    /// The failures of images that only try out others, as warnings.
    pub(crate) fn warnings(&self, family: &Family) -> Vec<Diagnostic> {
        let failed = self.failed.iter().filter(|(job, _)| family.is_downstream(&job.unit));
        let told = failed.map(|(job, problem)| {
            let warning =
                Diagnostic::warning(format!("{job} has failed, which is downstream and stops nothing"));
            warning.because(&problem.message)
        });
        told.collect()
    }

    /// The failures as problems, for the end of a command: those of images that are published.
    pub(crate) fn problems(&self, family: &Family) -> Vec<Diagnostic> {
        let failed = self.failed.iter().filter(|(job, _)| !family.is_downstream(&job.unit));
        failed
            .map(|(_, problem)| problem.clone())
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
