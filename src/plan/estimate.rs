//! How long jobs may take, by what they took: a guess that orders work and foretells its end, and no more.

use std::collections::BTreeMap;

use crate::family::JobId;
use crate::record::{Durations, Taken};

use super::{Decision, Plan};

/// What a job counts as where nothing is known of any.
const UNKNOWN: u64 = 60_000;
/// How many times as long emulation takes, where only the one or the other was measured.
const EMULATION: u64 = 10;
/// How much shorter checks alone are than the build and the checks, where that was not measured.
const CHECKS: u64 = 4;

/// How fast a builder may be, in percent.
const FASTEST: u32 = 10_000;

/// How long one job may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Milliseconds.
    pub(crate) milliseconds: u64,
    /// It was not measured, but taken from its neighbours.
    pub(crate) assumed: bool,
}

/// How long the jobs of a plan may take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estimates {
    native: BTreeMap<JobId, Estimate>,
    emulated: BTreeMap<JobId, Estimate>,
    /// Whether anything was measured.
    informed: bool,
}

impl Estimates {
    /// For the jobs of a plan: what they took; else what their unit took natively on other platforms; else a tenth, or ten times, of
    /// what they took the other way; else the median of all that took a time; else one minute.
    pub(crate) fn new(plan: &Plan, durations: &Durations) -> Self {
        let guess = Guess::new(plan, durations);
        let of_mode = |emulated: bool| -> BTreeMap<JobId, Estimate> {
            plan.jobs.keys().map(|job| (job.clone(), guess.of(plan, job, emulated))).collect()
        };
        let informed = durations.all().next().is_some();
        Self { native: of_mode(false), emulated: of_mode(true), informed }
    }

    /// Of one job, natively or by emulation.
    pub(crate) fn of(&self, job: &JobId, emulated: bool) -> Estimate {
        let known = if emulated { &self.emulated } else { &self.native };
        known.get(job).copied().unwrap_or(Estimate { milliseconds: UNKNOWN, assumed: true })
    }

    /// A job takes so long, whatever was measured: natively and so many times as long by emulation, or by emulation.
    pub(crate) fn say(&mut self, job: &JobId, emulated: bool, time: Estimate) {
        let by_emulation = match emulated {
            true => time,
            false => {
                self.native.insert(job.clone(), time);
                Estimate { milliseconds: time.milliseconds.saturating_mul(EMULATION), assumed: true }
            }
        };
        self.emulated.insert(job.clone(), by_emulation);
    }

    /// Whether anything was measured at all.
    pub(crate) fn are_informed(&self) -> bool {
        self.informed
    }
}

/// How fast a builder is, in percent of all that have done the same jobs. Small differences are none: they come and go.
pub(crate) fn speed(durations: &Durations, builder: &str) -> u32 {
    let (mut own, mut all) = (0_u64, 0_u64);
    for taken in durations.by_job() {
        let Some(here) = taken.iter().find(|one| one.builder == builder && !one.checks_only) else {
            continue;
        };
        let same = |one: &&Taken| (one.emulated, one.checks_only) == (here.emulated, here.checks_only);
        let times: Vec<u64> = taken.iter().filter(same).map(Taken::average).collect();
        if times.len() > 1 {
            own = own.saturating_add(here.average());
            all = all.saturating_add(mean(times.into_iter()).unwrap_or_default());
        }
    }
    let percent = all.saturating_mul(100).checked_div(own).unwrap_or(100);
    match u32::try_from(percent).unwrap_or(FASTEST).clamp(1, FASTEST) {
        67..=150 => 100,
        percent => percent,
    }
}

/// What jobs took, by what it can say of others.
struct Guess<'a> {
    durations: &'a Durations,
    /// What the jobs of a unit took natively, build and checks.
    units: BTreeMap<String, Vec<u64>>,
    median: Option<u64>,
}

impl<'a> Guess<'a> {
    fn new(plan: &Plan, durations: &'a Durations) -> Self {
        let mut units = BTreeMap::<String, Vec<u64>>::new();
        for job in plan.jobs.keys() {
            let time = measured(durations, job, false, false);
            units.entry(job.unit.to_string()).or_default().extend(time);
        }
        let mut all: Vec<u64> = durations.all().filter(|one| !one.checks_only).map(native_time).collect();
        all.sort_unstable();
        Self { durations, units, median: all.get(all.len() / 2).copied() }
    }

    fn of(&self, plan: &Plan, job: &JobId, emulated: bool) -> Estimate {
        match &plan.jobs[job].decision {
            Decision::Reuse(_) => Estimate { milliseconds: 0, assumed: false },
            Decision::Build(_) => self.whole(job, emulated),
            Decision::Check(_) => match measured(self.durations, job, emulated, true) {
                Some(milliseconds) => Estimate { milliseconds, assumed: false },
                None => {
                    let milliseconds = self.whole(job, emulated).milliseconds.div_ceil(CHECKS);
                    Estimate { milliseconds, assumed: true }
                }
            },
        }
    }

    fn whole(&self, job: &JobId, emulated: bool) -> Estimate {
        if let Some(milliseconds) = measured(self.durations, job, emulated, false) {
            return Estimate { milliseconds, assumed: false };
        }
        let factor = if emulated { EMULATION } else { 1 };
        let own = measured(self.durations, job, false, false);
        let neighbours = self.units.get(&job.unit.to_string()).and_then(|times| mean(times.iter().copied()));
        let by_emulation = measured(self.durations, job, true, false).map(|time| time / EMULATION);
        let native = own.or(neighbours).or(by_emulation).or(self.median).unwrap_or(UNKNOWN);
        Estimate { milliseconds: native.saturating_mul(factor), assumed: true }
    }
}

fn measured(durations: &Durations, job: &JobId, emulated: bool, checks_only: bool) -> Option<u64> {
    let fits = |one: &&Taken| (one.emulated, one.checks_only) == (emulated, checks_only);
    mean(durations.of(job).iter().filter(fits).map(Taken::average))
}

fn native_time(taken: &Taken) -> u64 {
    if taken.emulated { taken.average() / EMULATION } else { taken.average() }
}

fn mean(times: impl Iterator<Item = u64>) -> Option<u64> {
    let (sum, count) = times.fold((0_u64, 0), |(sum, count), time| (sum.saturating_add(time), count + 1));
    sum.checked_div(count)
}
