//! What does not change during a run: the jobs, the machines, and who waits for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Job, Machine, Needs, Rules};

/// Jobs, machines and rules, with what follows from them.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(super) jobs: Vec<Job>,
    pub(super) machines: Vec<Machine>,
    pub(super) rules: Rules,
    /// The jobs that each job waits for, whether it uses them or not.
    pub(super) parents: Vec<Vec<usize>>,
    /// The jobs that wait for each job.
    pub(super) children: Vec<Vec<usize>>,
    /// The different needs, and for each job which of them it has.
    pub(super) needs: Vec<Needs>,
    pub(super) needs_of: Vec<Option<usize>>,
    /// The other jobs that make the same as each job; empty for most.
    pub(super) twins: Vec<Vec<usize>>,
    /// The other jobs of the same image.
    pub(super) siblings: Vec<Vec<usize>>,
}

impl Problem {
    /// A problem of jobs, parents before children, and of machines.
    pub(crate) fn new(jobs: Vec<Job>, machines: Vec<Machine>, rules: Rules) -> Arc<Self> {
        let parents: Vec<Vec<usize>> = jobs.iter().enumerate().map(waited_for).collect();
        let mut children = vec![Vec::new(); jobs.len()];
        for (job, parents) in parents.iter().enumerate() {
            parents.iter().for_each(|parent| children[*parent].push(job));
        }
        let mut needs: Vec<Needs> = jobs.iter().filter_map(|job| job.needs.clone()).collect();
        needs.sort();
        needs.dedup();
        let place = |job: &Job| needs.binary_search(job.needs.as_ref()?).ok();
        let needs_of = jobs.iter().map(place).collect();
        let twins = others(jobs.iter().map(|job| job.product));
        let siblings = others(jobs.iter().map(|job| job.image));
        Arc::new(Self { parents, children, needs, needs_of, twins, siblings, jobs, machines, rules })
    }

    /// How many jobs there are.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// What a job needs of a machine.
    pub(super) fn needs(&self, job: usize) -> Option<&Needs> {
        self.jobs[job].needs.as_ref()
    }

    /// How long a job takes on a machine, as far as is known.
    pub(crate) fn time(&self, job: usize, machine: usize, emulated: bool) -> u64 {
        let job = &self.jobs[job];
        self.machines[machine].time(if emulated { job.emulated } else { job.native })
    }

    /// Whether a machine has what is needed, but for the platform.
    pub(super) fn has_room(&self, machine: usize, needs: &Needs) -> bool {
        self.machines[machine].has_room(needs)
    }

    /// For each job the longest path from its beginning to the end of everything upon it, each job on the machine
    /// that is best for it: the more, the earlier a job should start.
    pub(crate) fn longest_paths(&self) -> Vec<u64> {
        let shortest = self.shortest_times();
        let mut paths = vec![0_u64; self.jobs.len()];
        for job in (0..self.jobs.len()).rev() {
            let below = self.children[job].iter().map(|child| paths[*child]).max().unwrap_or_default();
            paths[job] = below.saturating_add(shortest[job]);
        }
        paths
    }

    /// For each job the time of it and of all that stands on it, each counted once.
    pub(super) fn times_below(&self) -> Vec<u64> {
        let shortest = self.shortest_times();
        let of_job = |job: usize| {
            let (mut seen, mut next, mut sum) = (BTreeSet::from([job]), vec![job], 0_u64);
            while let Some(one) = next.pop() {
                sum = sum.saturating_add(shortest[one]);
                next.extend(self.children[one].iter().filter(|child| seen.insert(**child)));
            }
            sum
        };
        (0..self.jobs.len()).map(of_job).collect()
    }

    /// What no order can be shorter than: the longest path, and the work of the busiest needs upon all their slots.
    pub(crate) fn least_time(&self) -> u64 {
        let longest = self.longest_paths().into_iter().max().unwrap_or_default();
        let shortest = self.shortest_times();
        let busiest = self.needs.iter().enumerate().map(|(at, needs)| {
            let work: u64 = { self.needs_of.iter().zip(&shortest) }
                .filter(|(needs, _)| **needs == Some(at))
                .fold(0, |sum, (_, time)| sum.saturating_add(*time));
            let fits = self.machines.iter().filter(|machine| {
                machine.native.contains(&needs.platform)
                    || needs.may_emulate && machine.emulated.contains(&needs.platform)
            });
            work.div_ceil(fits.map(|machine| machine.slots.max(1) as u64).sum::<u64>().max(1))
        });
        busiest.max().unwrap_or_default().max(longest)
    }

    /// How long each job takes where it is done fastest.
    pub(super) fn shortest_times(&self) -> Vec<u64> {
        let best = |needs: &Needs, emulated: bool| {
            let fits = (0..self.machines.len()).filter(|at| self.has_room(*at, needs));
            let speeds = fits.filter_map(|at| {
                let machine = &self.machines[at];
                let platforms = if emulated { &machine.emulated } else { &machine.native };
                let may = !emulated || needs.may_emulate;
                (may && platforms.contains(&needs.platform)).then_some(machine.speed.max(1))
            });
            speeds.max()
        };
        let of_needs: Vec<(Option<u32>, Option<u32>)> =
            self.needs.iter().map(|needs| (best(needs, false), best(needs, true))).collect();
        let time = |(job, needs): (&Job, &Option<usize>)| match needs.map(|needs| of_needs[needs]) {
            None => 0,
            Some((None, Some(speed))) => job.emulated.saturating_mul(100) / u64::from(speed),
            Some((native, _)) => job.native.saturating_mul(100) / u64::from(native.unwrap_or(100)),
        };
        self.jobs.iter().zip(&self.needs_of).map(time).collect()
    }
}

/// What each job waits for.
fn waited_for((at, job): (usize, &Job)) -> Vec<usize> {
    let all: BTreeSet<usize> = job.parents.iter().chain(&job.beside).copied().collect();
    debug_assert!(all.iter().all(|other| *other < at), "what is waited for stands before");
    all.into_iter().collect()
}

/// For each of some numbers the places of its equals.
fn others(numbers: impl Iterator<Item = usize>) -> Vec<Vec<usize>> {
    let numbers: Vec<usize> = numbers.collect();
    let mut places = BTreeMap::<usize, Vec<usize>>::new();
    for (at, number) in numbers.iter().enumerate() {
        places.entry(*number).or_default().push(at);
    }
    let others =
        |(at, number): (usize, &usize)| places[number].iter().copied().filter(|other| *other != at).collect();
    numbers.iter().enumerate().map(others).collect()
}
