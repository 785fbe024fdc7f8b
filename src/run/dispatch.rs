//! The scheduler in the words of a plan: jobs by name, builders for machines.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::EmulationCost;
use crate::family::{Barrier, Emulation, Family, JobId, Recipe, Terms, Unit};
use crate::oci::Platform;
use crate::plan::{Decision, Estimates, Plan, speed};
use crate::schedule::{self, Fallen, Machine, Needs, Problem, Rules, Scheduler, Start, Ticket};

use super::Options;
use super::builder::{Builder, Fit, wanted};
use super::suited::{Asked, Wish, has_host_tests};

/// The label of builders that keep images, for tests on this machine: no label of a person has a blank in it.
const KEEPS_IMAGES: &str = "keeps images";

/// How many failures in a row are more than a mishap.
const OFTEN: u32 = 2;
/// More failures than so many make no difference.
const FAILURES_LIMIT: u32 = 10;

/// Which job starts next, and where.
pub(super) struct Dispatch<'a> {
    builders: &'a [Builder],
    jobs: Vec<JobId>,
    scheduler: Scheduler,
    estimates: Estimates,
}

/// A job that starts.
pub(super) struct Started<'a> {
    pub(super) job: JobId,
    pub(super) builder: &'a Builder,
    /// The builder's place in the list of the session.
    pub(super) machine: usize,
    pub(super) fit: Fit,
    pub(super) ticket: Ticket,
    /// What emulation may cost, where the job is emulated and anything is known.
    pub(super) cost: Option<EmulationCost>,
}

/// The jobs that never start because of a failure.
pub(super) struct Lost {
    /// Since they stand on the job that failed.
    pub(super) skipped: Vec<JobId>,
    /// Since nothing more is to begin of its image.
    pub(super) cancelled: Vec<JobId>,
}

impl<'a> Dispatch<'a> {
    /// Of the jobs of a plan those that are left to do, parents before children.
    pub(super) fn new(
        jobs: Vec<JobId>,
        asked: &Asked<'_>,
        builders: &'a [Builder],
        options: &Options,
    ) -> Self {
        let Asked { family, plan, .. } = *asked;
        let durations = &asked.facts.durations;
        let estimates = Estimates::new(plan, durations);
        let machine = |builder: &Builder| Machine {
            speed: builder.speed.unwrap_or_else(|| speed(durations, &builder.name)),
            ..machine(builder, family)
        };
        let mut machines: Vec<Machine> = builders.iter().map(machine).collect();
        let mut scheduled = scheduled(&jobs, (family, options.barrier), plan, &estimates, |name| {
            builders.iter().position(|builder| builder.name == name)
        });
        for (job, one) in jobs.iter().zip(&mut scheduled) {
            let Some(needs) = one.needs.as_mut() else { continue };
            if family.recipe(&job.unit).is_some_and(has_host_tests) {
                needs.labels.insert(KEEPS_IMAGES.to_owned());
            }
            let Some(wish) = Wish::of(asked, job) else { continue };
            let builds: Vec<bool> = builders.iter().map(|builder| wish.is_built_by(builder)).collect();
            if builds.contains(&false) {
                let label = format!("builds the Dockerfile of {job}");
                for (machine, _) in machines.iter_mut().zip(builds).filter(|(_, builds)| *builds) {
                    machine.labels.insert(label.clone());
                }
                needs.labels.insert(label);
            }
        }
        let images = |which: fn(&Recipe) -> bool| {
            let recipe = |job: &JobId| family.recipe(&job.unit).is_some_and(which);
            jobs.iter()
                .zip(&scheduled)
                .filter(move |(job, _)| recipe(job))
                .map(|(_, job)| job.image)
                .collect()
        };
        let rules = Rules {
            fail_fast: options.fail_fast,
            harmless: images(|recipe| recipe.downstream),
            fail_fast_images: images(|recipe| recipe.fail_fast),
        };
        let problem = Problem::new(scheduled, machines, rules);
        // Where nothing is known of times, a search would look for the best order of nothing.
        let priorities = match estimates.are_informed() {
            true => schedule::priorities(&problem),
            false => problem.longest_paths().into(),
        };
        let failures: Vec<u32> = jobs.iter().map(|job| durations.failures(job)).collect();
        let scheduler = Scheduler::new(&problem, behind(&priorities, &failures));
        Self { builders, jobs, scheduler, estimates }
    }

    /// The next job that starts, so many milliseconds after the beginning.
    pub(super) fn next(&mut self, now: u64) -> Option<Started<'a>> {
        let Start { job, machine, emulated, ticket } = self.scheduler.next(now)?;
        let fit = if emulated { Fit::Emulated } else { Fit::Native };
        let job = self.jobs[job].clone();
        let time = |emulated| self.estimates.of(&job, emulated).milliseconds;
        let cost = (emulated && self.estimates.are_informed())
            .then(|| EmulationCost { emulated_milliseconds: time(true), native_milliseconds: time(false) });
        Some(Started { job, builder: &self.builders[machine], machine, fit, ticket, cost })
    }

    /// When to ask for the next job although none has ended, in milliseconds after the beginning.
    pub(super) fn look_again(&self) -> Option<u64> {
        self.scheduler.look_again()
    }

    /// The next job that takes no builder; it passes at once.
    pub(super) fn next_reused(&mut self) -> Option<JobId> {
        let job = self.scheduler.weightless()?;
        self.scheduler.passed_at_once(job);
        Some(self.jobs[job].clone())
    }

    pub(super) fn passed(&mut self, ticket: Ticket) {
        self.scheduler.passed(ticket);
    }

    pub(super) fn failed(&mut self, ticket: Ticket) -> Lost {
        let Fallen { skipped, cancelled } = self.scheduler.failed(ticket).unwrap_or_default();
        Lost { skipped: self.named(skipped), cancelled: self.named(cancelled) }
    }

    /// The place of a builder in the list of the session.
    pub(super) fn place(&self, builder: &Builder) -> Option<usize> {
        self.builders.iter().position(|one| one.name == builder.name)
    }

    /// The try is over, and its job is ready again, for other builders first.
    pub(super) fn again(&mut self, ticket: Ticket) {
        self.scheduler.again(ticket);
    }

    /// The try could not begin, since no more than this is free on its builder.
    pub(super) fn turned_away(&mut self, ticket: Ticket, machine: usize, free: u64) {
        self.scheduler.turned_away(ticket, free);
        // Not before: what the job would have filled is no longer filled.
        self.free(machine, free);
    }

    /// So much is free on a builder now.
    pub(super) fn free(&mut self, machine: usize, free: u64) {
        self.scheduler.free(machine, self.within(machine, free));
    }

    /// As much of it as jobs may fill beside what is at work there.
    fn within(&self, machine: usize, free: u64) -> u64 {
        let left = |most: u64| most.saturating_sub(self.scheduler.disk_used(machine));
        self.builders[machine].most.map_or(free, |most| left(most).min(free))
    }

    /// Whether a builder has what a job needs now, but for the platform.
    pub(super) fn has_room(&self, job: &JobId, machine: usize) -> bool {
        self.place_of(job).is_some_and(|place| self.scheduler.has_room(place, machine))
    }

    /// Whether a builder has the labels that a job needs.
    pub(super) fn has_labels(&self, job: &JobId, machine: usize) -> bool {
        self.place_of(job).is_some_and(|place| self.scheduler.has_labels(place, machine))
    }

    /// The place of a job in the list of the scheduler.
    fn place_of(&self, job: &JobId) -> Option<usize> {
        self.jobs.iter().position(|one| one == job)
    }

    /// A builder is gone, and the tries on it with it.
    pub(super) fn lost(&mut self, machine: usize) -> Vec<(JobId, Ticket)> {
        let gone = self.scheduler.lost(machine);
        gone.into_iter().map(|start| (self.jobs[start.job].clone(), start.ticket)).collect()
    }

    pub(super) fn returned(&mut self, machine: usize) {
        self.scheduler.returned(machine);
    }

    /// Jobs that are ready and that no builder fits of those that are there.
    pub(super) fn stranded(&self) -> Vec<JobId> {
        self.named(self.scheduler.stranded())
    }

    /// A job that is not at work fails; `None` where it is over.
    pub(super) fn give_up(&mut self, job: &JobId) -> Option<Lost> {
        let Fallen { skipped, cancelled } = self.scheduler.given_up(self.place_of(job)?)?;
        Some(Lost { skipped: self.named(skipped), cancelled: self.named(cancelled) })
    }

    /// Nothing new begins; the jobs that were not started leave.
    pub(super) fn drain(&mut self) -> Vec<JobId> {
        let left = self.scheduler.drain();
        self.named(left)
    }

    fn named(&self, jobs: Vec<usize>) -> Vec<JobId> {
        jobs.into_iter().map(|job| self.jobs[job].clone()).collect()
    }
}

/// Priorities in which what has failed again and again comes after all others, the more often the later: what passes
/// is there while that is tried.
fn behind(priorities: &[u64], failures: &[u32]) -> Arc<[u64]> {
    let step = priorities.iter().copied().max().unwrap_or_default().saturating_add(1);
    let ranked = priorities.iter().zip(failures).map(|(priority, failures)| {
        let often = if *failures < OFTEN { 0 } else { (*failures).min(FAILURES_LIMIT) };
        step.saturating_mul(u64::from(FAILURES_LIMIT - often)).saturating_add(*priority)
    });
    ranked.collect()
}

/// A builder that runs all platforms of an image has a label more, which those jobs need that are to be done on one.
fn machine(builder: &Builder, family: &Family) -> Machine {
    let runs = |platform: &Platform| {
        builder.facts.native.contains(platform) || builder.facts.emulated.contains(platform)
    };
    Machine {
        native: builder.facts.native.clone(),
        emulated: builder.facts.emulated.clone(),
        slots: builder.slots,
        labels: { builder.labels.iter().cloned() }
            .chain(whole_labels(family, runs))
            .chain(builder.engine.runs_containers().then(|| KEEPS_IMAGES.to_owned()))
            .collect(),
        disk: builder.room.as_ref().map(|room| room.free),
        speed: 100,
    }
}

/// The labels of a machine for the images all of whose platforms it runs.
pub(crate) fn whole_labels(
    family: &Family,
    runs: impl Fn(&Platform) -> bool,
) -> impl Iterator<Item = String> {
    let whole = family.recipes().filter(move |recipe| recipe.platforms.keys().all(&runs));
    whole.map(|recipe| whole_label(&recipe.unit))
}

/// What a machine is labelled with that runs all platforms of an image. No label that a person can write.
pub(crate) fn whole_label(unit: &Unit) -> String {
    format!("all platforms of {unit}")
}

fn needs(job: &JobId, terms: &Terms, image: usize) -> Needs {
    let mut labels = terms.labels.clone();
    let is_whole = terms.emulation == Emulation::Always;
    if is_whole {
        labels.insert(whole_label(&job.unit));
    }
    let may_emulate = terms.emulation.is_allowed();
    let (platform, together) = (job.platform.clone(), is_whole.then_some(image));
    Needs { platform, labels, disk: wanted(terms), may_emulate, together }
}

/// The jobs by their places in the list.
pub(crate) fn scheduled(
    jobs: &[JobId],
    (family, barrier): (&Family, Barrier),
    plan: &Plan,
    estimates: &Estimates,
    place: impl Fn(&str) -> Option<usize>,
) -> Vec<schedule::Job> {
    let places: BTreeMap<&JobId, usize> = jobs.iter().enumerate().map(|(at, job)| (job, at)).collect();
    let mut images = BTreeMap::new();
    let mut products = BTreeMap::new();
    let scheduled = jobs.iter().enumerate().map(|(at, job)| {
        let planned = &plan.jobs[job];
        let reused = matches!(planned.decision, Decision::Reuse(_));
        let image = *images.entry(&job.unit).or_insert(at);
        let beside = plan.beside(family, job, barrier);
        let beside = beside.iter().filter_map(|other| places.get(other).copied()).collect();
        schedule::Job {
            parents: planned.parents.iter().filter_map(|parent| places.get(parent).copied()).collect(),
            beside,
            image,
            // What a record stands for makes nothing.
            product: if reused { at } else { *products.entry(&planned.key).or_insert(at) },
            needs: (!reused).then(|| needs(job, &planned.terms, image)),
            native: estimates.of(job, false).milliseconds,
            emulated: estimates.of(job, true).milliseconds,
            near: { planned.parents.iter() }
                .filter_map(|parent| place(&plan.jobs.get(parent)?.decision.image()?.builder))
                .collect(),
        }
    });
    scheduled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_failed_again_and_again_comes_last_in_the_order_of_its_failures() {
        let order = |priorities: &[u64], failures: &[u32]| {
            let ranked = behind(priorities, failures);
            let mut order: Vec<usize> = (0..ranked.len()).collect();
            order.sort_by_key(|at| std::cmp::Reverse(ranked[*at]));
            order
        };
        assert_eq!(order(&[9, 5, 7, 1], &[0, 0, 0, 0]), [0, 2, 1, 3]);
        assert_eq!(order(&[9, 5, 7, 1], &[1, 0, 0, 0]), [0, 2, 1, 3], "once is a mishap");
        assert_eq!(order(&[9, 5, 7, 1], &[7, 0, 2, 0]), [1, 3, 2, 0]);
        assert_eq!(order(&[9, 5, 7, 1], &[900, 0, 400, 0]), [1, 3, 0, 2], "often is often");
        assert_eq!(order(&[0, 0], &[3, 0]), [1, 0], "also where nothing is known of times");
    }
}
