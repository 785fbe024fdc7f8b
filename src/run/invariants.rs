//! What must hold of every run, as pure functions of the plan, the builders and what was seen.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Builder, Fit};
use super::fixture::Step;
use super::{Options, Ran};
use crate::diag::Diagnostic;
use crate::event::{EventKind, Outcome};
use crate::family::{Barrier, Family, JobId};
use crate::plan::{Decision, Plan};

/// How often one job may begin on one builder: as often as it may lose it, and each time that there is room again.
pub(super) const MOST_BEGINNINGS: usize = 8;

/// One run, as it can be seen from outside.
pub(super) struct Seen<'a> {
    pub(super) family: &'a Family,
    pub(super) plan: &'a Plan,
    pub(super) builders: &'a [Builder],
    pub(super) options: Options,
    pub(super) stopped: bool,
    pub(super) steps: &'a [Step],
}

/// Which builders are there at a moment.
struct There<'a> {
    /// Those that are not.
    lost: BTreeSet<&'a str>,
    /// Those that are, and have had room for every job so far.
    with_room: Vec<&'a Builder>,
}

impl Seen<'_> {
    /// Everything that does not hold.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(self.one_outcome());
        found.extend(self.parents_first());
        found.extend(self.one_build_a_key());
        found.extend(self.slots());
        found.extend(self.fitting_builders());
        found.extend(self.failures_stay_below());
        found.extend(self.bounded());
        found.extend(self.others_take_over());
        found
    }

    fn events(&self) -> impl Iterator<Item = &EventKind> {
        self.steps.iter().filter_map(|step| match step {
            Step::Event(event) => Some(event),
            _ => None,
        })
    }

    fn job(&self, text: &str) -> JobId {
        text.parse().unwrap_or_else(|_| panic!("{text} is a job"))
    }

    /// How each job ended; `None` is reused.
    fn outcomes(&self) -> BTreeMap<JobId, Vec<Option<&Outcome>>> {
        let mut found = BTreeMap::<JobId, Vec<Option<&Outcome>>>::new();
        for event in self.events() {
            match event {
                EventKind::JobReused { job, .. } => found.entry(self.job(job)).or_default().push(None),
                EventKind::JobEnded { job, outcome, .. } => {
                    found.entry(self.job(job)).or_default().push(Some(outcome));
                }
                _ => {}
            }
        }
        found
    }

    /// Law 12: every job ends in exactly one outcome, with a reason.
    pub(super) fn one_outcome(&self) -> Vec<String> {
        let outcomes = self.outcomes();
        let mut found = Vec::new();
        for job in &self.plan.order {
            match outcomes.get(job).map_or(0, Vec::len) {
                1 => {}
                times => found.push(format!("{job} ended {times} times")),
            }
        }
        for (job, outcomes) in &outcomes {
            if !self.plan.jobs.contains_key(job) {
                found.push(format!("{job} is not of the plan"));
            }
            if outcomes
                .iter()
                .flatten()
                .any(|one| matches!(one, Outcome::Failed { reason, .. } if reason.is_empty()))
            {
                found.push(format!("{job} failed without a reason"));
            }
        }
        found
    }

    /// What a job waits for: all that it stands on, on every platform where a barrier holds it.
    fn waited_for(&self, job: &JobId) -> BTreeSet<&JobId> {
        let Some(planned) = self.plan.jobs.get(job) else { return BTreeSet::new() };
        let is_reused = matches!(planned.decision, Decision::Reuse(_));
        let holds = |parent: &JobId| {
            let own = self.family.recipe(&parent.unit).is_some_and(|recipe| recipe.barrier);
            !is_reused && (own || self.options.barrier == Barrier::Everywhere)
        };
        let (held, free): (Vec<_>, Vec<_>) = planned.parents.iter().partition(|parent| holds(parent));
        let is_held = |other: &&JobId| held.iter().any(|parent| parent.unit == other.unit);
        self.plan.order.iter().filter(is_held).chain(free).collect()
    }

    /// I-B2: nothing starts before all that it waits for has passed, nor is an image used that is not there.
    pub(super) fn parents_first(&self) -> Vec<String> {
        let mut passed = BTreeSet::new();
        let mut found = Vec::new();
        for step in self.steps {
            match step {
                Step::Event(EventKind::JobReused { job, .. }) => {
                    passed.insert(self.job(job));
                }
                Step::Event(EventKind::JobEnded { job, outcome, .. }) => {
                    if matches!(outcome, Outcome::Built { .. } | Outcome::Checked { .. }) {
                        passed.insert(self.job(job));
                    }
                }
                Step::Event(EventKind::JobStarted { job, .. }) => {
                    let parents = self.waited_for(&self.job(job));
                    let missing = parents.into_iter().filter(|parent| !passed.contains(*parent));
                    found.extend(missing.map(|parent| format!("{job} started before {parent} had passed")));
                }
                Step::BuildBegins { job, images_stand: false, .. } => {
                    found.push(format!("{job} is built from an image that is not in the store"));
                }
                _ => {}
            }
        }
        found
    }

    /// I-B1, I-B7: of one key at most one build goes on, none comes after one that left an image, and one image is kept.
    pub(super) fn one_build_a_key(&self) -> Vec<String> {
        let key = |job: &str| self.plan.jobs.get(&self.job(job)).map(|planned| planned.key.clone());
        let (mut going, mut kept, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for step in self.steps {
            match step {
                Step::BuildBegins { job, .. } => {
                    if !going.insert(key(job)) {
                        found.push(format!("{job} is built while its key is being built"));
                    }
                    if kept.contains(&key(job)) {
                        found.push(format!("{job} is built although an image stands under its key"));
                    }
                }
                Step::BuildEnds { job, .. } => {
                    going.remove(&key(job));
                }
                Step::Event(EventKind::JobKept { job, .. }) => {
                    if !kept.insert(key(job)) {
                        found.push(format!("{job} is kept although an image stands under its key"));
                    }
                }
                Step::Event(_) => {}
            }
        }
        found
    }

    /// No builder has more jobs, nor more builds, than slots.
    pub(super) fn slots(&self) -> Vec<String> {
        let slots: BTreeMap<&str, usize> =
            self.builders.iter().map(|builder| (builder.name.as_str(), builder.slots)).collect();
        let (mut jobs, mut builds) = (BTreeMap::<&str, &str>::new(), BTreeMap::<&str, usize>::new());
        let mut found = Vec::new();
        for step in self.steps {
            match step {
                Step::Event(EventKind::JobStarted { job, builder, .. }) => {
                    jobs.insert(job, builder);
                    let busy = jobs.values().filter(|one| *one == builder).count();
                    if busy > slots.get(builder.as_str()).copied().unwrap_or_default() {
                        found.push(format!("{builder} has {busy} jobs"));
                    }
                }
                Step::Event(
                    EventKind::JobEnded { job, .. }
                    | EventKind::JobReused { job, .. }
                    | EventKind::JobMoved { job, .. },
                ) => {
                    jobs.remove(job.as_str());
                }
                Step::BuildBegins { engine, .. } => {
                    let busy = builds.entry(engine).or_default();
                    *busy += 1;
                    if *busy > slots.get(engine.as_str()).copied().unwrap_or_default() {
                        found.push(format!("{engine} has {busy} builds"));
                    }
                }
                Step::BuildEnds { engine, .. } => *builds.entry(engine).or_default() -= 1,
                Step::Event(_) => {}
            }
        }
        found
    }

    /// Each event, with the builders that are there after it.
    fn events_with_those_there(&self) -> impl Iterator<Item = (&EventKind, There<'_>)> {
        let (mut lost, mut full) = (BTreeSet::new(), BTreeSet::new());
        self.events().map(move |event| {
            match event {
                EventKind::JobMoved { builder, reason, .. } if reason.contains(" wants ") => {
                    full.insert(&**builder);
                }
                EventKind::BuilderLost { builder, .. } => drop(lost.insert(&**builder)),
                EventKind::BuilderReturned { builder } => drop(lost.remove(&**builder)),
                _ => {}
            }
            let is_there = |one: &&Builder| !lost.contains(&*one.name) && !full.contains(&*one.name);
            let there =
                There { lost: lost.clone(), with_room: self.builders.iter().filter(is_there).collect() };
            (event, there)
        })
    }

    /// A job runs where its platform does, natively if any builder is native to it that is there and has had room for
    /// every job so far.
    pub(super) fn fitting_builders(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (event, there) in self.events_with_those_there() {
            let EventKind::JobStarted { job, builder, emulated, .. } = event else { continue };
            if there.lost.contains(&**builder) {
                found.push(format!("{job} begins on {builder}, which is lost"));
            }
            let fit = |builder: &Builder| self.fit(job, builder);
            let best = there.with_room.iter().copied().filter_map(fit).min();
            let own = self.builders.iter().find(|one| one.name == *builder).and_then(fit);
            let is_worse = best.is_some_and(|best| own.is_some_and(|own| own > best));
            if own.is_none() || is_worse || *emulated != (own == Some(Fit::Emulated)) {
                found.push(format!("{job} is on {builder}: {own:?}, where the best is {best:?}"));
            }
        }
        found
    }

    /// I-B6: no job begins for ever.
    pub(super) fn bounded(&self) -> Vec<String> {
        let mut begun = BTreeMap::<(&str, &str), usize>::new();
        for event in self.events() {
            if let EventKind::JobStarted { job, builder, .. } = event {
                *begun.entry((job, builder)).or_default() += 1;
            }
        }
        let too_often = begun.into_iter().filter(|(_, times)| *times > MOST_BEGINNINGS);
        too_often.map(|((job, builder), times)| format!("{job} begins {times} times on {builder}")).collect()
    }

    /// F-G6, F-G13: no job fails for a full disk, or for want of a builder, while another that could do it as well is
    /// there, has had room for every job so far, and has not been tried; unless it came back to the full ones again and again, as
    /// the other was never there when it was to begin, more often than there are builders (I-B6).
    pub(super) fn others_take_over(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut begun = BTreeMap::<&str, Vec<&str>>::new();
        for (event, there) in self.events_with_those_there() {
            match event {
                EventKind::JobStarted { job, builder, .. } => begun.entry(job).or_default().push(builder),
                EventKind::JobEnded { job, outcome: Outcome::Failed { reason, .. }, .. } => {
                    let tried = match reason {
                        _ if reason.starts_with("no builder is left") => &[][..],
                        _ if reason.contains("no space left") => {
                            begun.get(job.as_str()).map_or(&[][..], |of| of)
                        }
                        _ => continue,
                    };
                    if tried.len() > self.builders.len() {
                        continue;
                    }
                    let fit = |builder: &Builder| self.fit(job, builder);
                    let last = { self.builders.iter() }.find(|one| tried.last() == Some(&one.name.as_str()));
                    let could = there.with_room.iter().find(|builder| {
                        let is_as_good =
                            fit(builder).is_some() && last.is_none_or(|last| fit(builder) <= fit(last));
                        is_as_good && !tried.contains(&builder.name.as_str())
                    });
                    found.extend(could.map(|could| format!("{job} fails, and {} is there", could.name)));
                }
                _ => {}
            }
        }
        found
    }

    fn fit(&self, job: &str, builder: &Builder) -> Option<Fit> {
        let job = self.job(job);
        builder.fit(&job.platform, self.plan.jobs[&job].terms.emulation)
    }

    /// I-B8: the descendants of a failed job are skipped because of it, nothing else is, and nothing is cancelled
    /// unless the run was stopped or was to fail fast.
    pub(super) fn failures_stay_below(&self) -> Vec<String> {
        let outcomes = self.outcomes();
        let failed = |job: &JobId| {
            let ends = outcomes.get(job);
            ends.is_some_and(|ends| ends.iter().flatten().any(|one| matches!(one, Outcome::Failed { .. })))
        };
        let mut failed_above = BTreeMap::<&JobId, BTreeSet<&JobId>>::new();
        let mut found = Vec::new();
        for job in &self.plan.order {
            let mut above = BTreeSet::new();
            for parent in self.waited_for(job) {
                above.extend(failed_above.get(parent).into_iter().flatten());
                above.extend(Some(parent).filter(|parent| failed(parent)));
            }
            let one = outcomes.get(job).and_then(|ends| ends.first()).copied().flatten();
            match one {
                Some(Outcome::Skipped { because }) if !above.contains(&self.job(because)) => {
                    found
                        .push(format!("{job} is skipped because of {because}, which is no failure above it"));
                }
                Some(Outcome::Skipped { .. }) => {}
                _ if !above.is_empty() => found.push(format!("{job} is not skipped: {one:?}")),
                Some(Outcome::Cancelled) if !self.stopped && !self.options.fail_fast => {
                    found.push(format!("{job} is cancelled for no reason"));
                }
                _ => {}
            }
            failed_above.insert(job, above);
        }
        found
    }
}

/// I-B4: what has failed or was cancelled left no record that another plan takes for passed, unless one of the same
/// inputs has passed.
pub(super) fn records_of_failures(ran: &Ran, next: &Plan) -> Vec<String> {
    let passed: BTreeSet<_> = ran.passed.keys().map(|job| &next.jobs[job].key).collect();
    let reused = |job: &&JobId| {
        let planned = &next.jobs[*job];
        matches!(planned.decision, Decision::Reuse(_)) && !passed.contains(&planned.key)
    };
    let unfit = ran.failed.keys().chain(&ran.cancelled).filter(reused);
    unfit.map(|job| format!("{job} had not passed, and is reused")).collect()
}

/// What failed for a disk, or for want of a builder, failed for its surroundings, and the person is told what mends it.
pub(super) fn unlike_surroundings(ran: &Ran) -> Vec<String> {
    let is_of_them = |problem: &Diagnostic| {
        let texts = problem.causes.iter().chain([&problem.message]);
        let mut told =
            texts.filter(|text| text.contains("no space left") || text.contains("no builder is left"));
        told.next().is_some()
    };
    let other =
        ran.failed.iter().filter(|(_, problem)| is_of_them(problem) && (problem.kind.exit_code() != 3));
    other.map(|(job, problem)| format!("{job} failed otherwise: {problem:?}")).collect()
}

/// What a run returns says the same as its events.
pub(super) fn agrees(ran: &Ran, seen: &Seen<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (job, ends) in seen.outcomes() {
        let told = match ends.first().copied().flatten() {
            None | Some(Outcome::Built { .. } | Outcome::Checked { .. }) => ran.passed.contains_key(&job),
            Some(Outcome::Failed { .. }) => ran.failed.contains_key(&job),
            Some(Outcome::Skipped { because }) => {
                ran.skipped.get(&job).is_some_and(|one| one.to_string() == *because)
            }
            Some(Outcome::Cancelled) => ran.cancelled.contains(&job),
        };
        if !told {
            found.push(format!("{job} ended by the events as {ends:?}, and otherwise by the result"));
        }
    }
    let counted = ran.passed.len() + ran.failed.len() + ran.skipped.len() + ran.cancelled.len();
    if counted != seen.plan.order.len() {
        found.push(format!("{counted} results of {} jobs", seen.plan.order.len()));
    }
    found
}
