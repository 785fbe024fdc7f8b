//! The scheduler in the words of a plan: jobs by name, builders for machines.

use std::collections::BTreeMap;

use crate::family::{Emulation, Family, JobId, Recipe, Terms, Unit};
use crate::oci::Platform;
use crate::plan::{Decision, Estimates, Plan, speed};
use crate::record::Durations;
use crate::schedule::{self, Fallen, Machine, Needs, Problem, Rules, Scheduler, Start, Ticket};

use super::Options;
use super::builder::{Builder, Fit, has_host_tests};

/// The label of builders that keep images, for tests on this machine: no label of a person has a blank in it.
const KEEPS_IMAGES: &str = "keeps images";

/// Which job starts next, and where.
pub(super) struct Dispatch<'a> {
    builders: &'a [Builder],
    jobs: Vec<JobId>,
    scheduler: Scheduler,
}

/// A job that starts.
pub(super) struct Started<'a> {
    pub(super) job: JobId,
    pub(super) builder: &'a Builder,
    /// The builder's place in the list of the session.
    pub(super) machine: usize,
    pub(super) fit: Fit,
    pub(super) ticket: Ticket,
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
        family: &Family,
        plan: &Plan,
        durations: &Durations,
        builders: &'a [Builder],
        options: &Options,
    ) -> Self {
        let estimates = Estimates::new(plan, durations);
        let machine = |builder: &Builder| Machine {
            speed: speed(durations, &builder.name),
            ..machine(builder, family)
        };
        let machines = builders.iter().map(machine).collect();
        let mut scheduled = scheduled(&jobs, plan, &estimates);
        for (job, one) in jobs.iter().zip(&mut scheduled) {
            let hosted = family.recipe(&job.unit).is_some_and(has_host_tests);
            if let Some(needs) = one.needs.as_mut().filter(|_| hosted) {
                needs.labels.insert(KEEPS_IMAGES.to_owned());
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
            barrier: options.barrier,
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
        let scheduler = Scheduler::new(&problem, priorities);
        Self { builders, jobs, scheduler }
    }

    /// The next job that starts, so many milliseconds after the beginning.
    pub(super) fn next(&mut self, now: u64) -> Option<Started<'a>> {
        let Start { job, machine, emulated, ticket } = self.scheduler.next(now)?;
        let fit = if emulated { Fit::Emulated } else { Fit::Native };
        Some(Started { job: self.jobs[job].clone(), builder: &self.builders[machine], machine, fit, ticket })
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

    /// Jobs that nobody can do fail, each with what stands on it.
    pub(super) fn give_up(&mut self) -> Vec<(JobId, Lost)> {
        let mut given_up = Vec::new();
        for job in self.scheduler.stranded() {
            if let Some(Fallen { skipped, cancelled }) = self.scheduler.given_up(job) {
                let lost = Lost { skipped: self.named(skipped), cancelled: self.named(cancelled) };
                given_up.push((self.jobs[job].clone(), lost));
            }
        }
        given_up
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

/// A builder that runs all platforms of an image has a label more, which those jobs need that are to be done on one.
fn machine(builder: &Builder, family: &Family) -> Machine {
    let runs = |platform: &Platform| {
        builder.facts.native.contains(platform) || builder.facts.emulated.contains(platform)
    };
    let whole = family.recipes().filter(|recipe| recipe.platforms.keys().all(runs));
    Machine {
        native: builder.facts.native.clone(),
        emulated: builder.facts.emulated.clone(),
        slots: builder.slots,
        labels: { builder.labels.iter().cloned() }
            .chain(whole.map(|recipe| whole_label(&recipe.unit)))
            .chain(builder.engine.runs_containers().then(|| KEEPS_IMAGES.to_owned()))
            .collect(),
        disk: builder.room,
        speed: 100,
    }
}

/// No label that a person can write.
fn whole_label(unit: &Unit) -> String {
    format!("all platforms of {unit}")
}

fn needs(job: &JobId, terms: &Terms) -> Needs {
    let mut labels = terms.labels.clone();
    if terms.emulation == Emulation::Always {
        labels.insert(whole_label(&job.unit));
    }
    let may_emulate = terms.emulation.is_allowed();
    Needs { platform: job.platform.clone(), labels, disk: terms.disk_bytes, may_emulate }
}

/// The jobs by their places in the list.
pub(crate) fn scheduled(jobs: &[JobId], plan: &Plan, estimates: &Estimates) -> Vec<schedule::Job> {
    let places: BTreeMap<&JobId, usize> = jobs.iter().enumerate().map(|(at, job)| (job, at)).collect();
    let mut images = BTreeMap::new();
    let mut products = BTreeMap::new();
    let scheduled = jobs.iter().enumerate().map(|(at, job)| {
        let planned = &plan.jobs[job];
        let reused = matches!(planned.decision, Decision::Reuse(_));
        schedule::Job {
            parents: planned.parents.iter().filter_map(|parent| places.get(parent).copied()).collect(),
            image: *images.entry(&job.unit).or_insert(at),
            // What a record stands for makes nothing.
            product: if reused { at } else { *products.entry(&planned.key).or_insert(at) },
            needs: (!reused).then(|| needs(job, &planned.terms)),
            native: estimates.of(job, false).milliseconds,
            emulated: estimates.of(job, true).milliseconds,
        }
    });
    scheduled.collect()
}
