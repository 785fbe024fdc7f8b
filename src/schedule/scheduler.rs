//! The state of a run, as far as it decides what starts next.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Problem;
use super::fleet::Fleet;
use super::graph::{Graph, Stage};
use super::ready::{Class, Ready};
use super::waiting::{Choice, Faster, expected_end};

/// One try of one job: what it ends with counts only as long as the try does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// A job that starts on a machine now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The job.
    pub(crate) job: usize,
    /// The machine.
    pub(crate) machine: usize,
    /// The machine is of another platform.
    pub(crate) emulated: bool,
    /// The try.
    pub(crate) ticket: Ticket,
}

/// What never starts because of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fallen {
    /// All that stand on the job.
    pub(crate) skipped: Vec<usize>,
    /// The other platforms of its image, where that was asked for, and all that stand on those.
    pub(crate) cancelled: Vec<usize>,
}

/// A try that goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) start: Start,
    /// When it is thought to end.
    end: u64,
}

/// Jobs of one class that have one machine alone to start on now.
struct Bound {
    machine: usize,
    jobs: usize,
    /// How long the first of them takes there.
    time: u64,
}

/// Which job starts next, and where.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler {
    pub(super) problem: Arc<Problem>,
    pub(super) graph: Graph,
    pub(super) fleet: Fleet,
    pub(super) ready: Ready,
    pub(super) running: BTreeMap<Ticket, Running>,
    /// Whether each job is at work, for its twins.
    at_work: Vec<bool>,
    /// The machine that each job passed on.
    made_on: Vec<Option<usize>>,
    serial: u64,
    /// Nothing new begins.
    pub(super) closed: bool,
}

impl Scheduler {
    /// Of ready jobs that with the highest priority starts first; [`Problem::longest_paths`] are a good choice.
    pub(crate) fn new(problem: &Arc<Problem>, priorities: Arc<[u64]>) -> Self {
        let graph = Graph::new(problem.clone());
        let fleet = Fleet::new(problem.clone());
        let mut ready = Ready::new(problem.clone(), priorities, &fleet);
        graph.at(Stage::Ready).for_each(|job| ready.insert(job, &fleet));
        Self {
            at_work: vec![false; problem.len()],
            made_on: vec![None; problem.len()],
            running: BTreeMap::new(),
            serial: 0,
            closed: false,
            problem: problem.clone(),
            graph,
            fleet,
            ready,
        }
    }

    /// The next job that starts now; to be asked until there is none.
    pub(crate) fn next(&mut self, now: u64) -> Option<Start> {
        if self.closed {
            return None;
        }
        self.ready.unblock_by_time(now);
        while let Some(class) = self.ready.first() {
            match self.choose(&self.ready.classes[class], now) {
                Ok((job, machine)) => {
                    let emulated = self.ready.classes[class].emulated;
                    return Some(self.start(job, machine, emulated, now));
                }
                Err(look_again) => {
                    let class = &mut self.ready.classes[class];
                    class.blocked = true;
                    class.look_again = look_again;
                }
            }
        }
        None
    }

    /// Whether a machine has what a job needs now, but for the platform.
    pub(crate) fn has_room(&self, job: usize, machine: usize) -> bool {
        self.problem.needs(job).is_none_or(|needs| self.fleet.has_room(machine, needs))
    }

    /// How many bytes of disk the jobs want that are at work on a machine.
    pub(crate) fn disk_used(&self, machine: usize) -> u64 {
        self.fleet.disk_used(machine)
    }

    /// Whether a machine has the labels that a job needs.
    pub(crate) fn has_labels(&self, job: usize, machine: usize) -> bool {
        let labels = &self.problem.machines[machine].labels;
        self.problem.needs(job).is_none_or(|needs| needs.labels.is_subset(labels))
    }

    /// When [`Scheduler::next`] may answer otherwise although nothing has ended.
    pub(crate) fn look_again(&self) -> Option<u64> {
        let waiting = self.ready.classes.iter().filter(|class| class.blocked && !class.jobs.is_empty());
        waiting.filter_map(|class| class.look_again).min().filter(|_| !self.closed)
    }

    /// A ready job that takes no machine. It passes by [`Scheduler::passed_at_once`].
    pub(crate) fn weightless(&self) -> Option<usize> {
        self.ready.weightless.first().copied()
    }

    /// A job that takes no machine has passed.
    pub(crate) fn passed_at_once(&mut self, job: usize) {
        self.ready.remove(job);
        self.pass(job);
    }

    /// A try has passed. `false` where it does not count any more: the job went elsewhere meanwhile.
    pub(crate) fn passed(&mut self, ticket: Ticket) -> bool {
        let Some(Start { job, machine, .. }) = self.end(ticket) else { return false };
        self.fleet.has_worked(machine);
        self.made_on[job] = Some(machine);
        self.pass(job);
        true
    }

    /// A try has failed for good, and what stands on its job with it. `None` where it does not count any more.
    pub(crate) fn failed(&mut self, ticket: Ticket) -> Option<Fallen> {
        let job = self.end(ticket)?.job;
        Some(self.fall(job))
    }

    /// Everything that has not been started leaves and is returned, in order.
    pub(crate) fn drain(&mut self) -> Vec<usize> {
        self.closed = true;
        let mut left: Vec<usize> = self.graph.at(Stage::Waiting).chain(self.graph.at(Stage::Ready)).collect();
        left.sort_unstable();
        for job in &left {
            self.ready.remove(*job);
            self.graph.fell(*job);
        }
        left
    }

    fn start(&mut self, job: usize, machine: usize, emulated: bool, now: u64) -> Start {
        self.ready.remove(job);
        self.graph.start(job);
        self.at_work[job] = true;
        for twin in &self.problem.twins[job] {
            self.ready.remove(*twin);
        }
        if let Some(needs) = self.problem.needs(job) {
            self.fleet.take(machine, needs);
        }
        self.ready.gather(job, machine, &self.fleet);
        self.serial += 1;
        let ticket = Ticket(self.serial);
        let end = now.saturating_add(self.problem.time(job, machine, emulated));
        let start = Start { job, machine, emulated, ticket };
        self.running.insert(ticket, Running { start, end });
        start
    }

    /// The first job of a class that starts now and its machine, or when to look again.
    fn choose(&self, class: &Class, now: u64) -> Result<(usize, usize), Option<u64>> {
        let needs = &self.problem.needs[class.needs];
        let free = class.machines.iter().copied().filter(|at| self.fleet.is_free(*at, needs));
        let free: Vec<usize> = free.collect();
        let rank = |at: &usize| (self.fleet.is_suspect(*at), Reverse(self.fleet.machine(*at).speed));
        let (_, Reverse(speed)) = free.iter().map(rank).min().ok_or(None)?;
        let job = self.job_for(class, speed, now)?;
        let parents = &self.problem.jobs[job].parents;
        let near = &self.problem.jobs[job].near;
        let made = parents.iter().filter_map(|parent| self.made_on[*parent]).chain(near.iter().copied());
        let made: Vec<usize> = made.collect();
        let layers = |at: usize| made.iter().filter(|machine| **machine == at).count();
        let bound = self.bound(class);
        let worth = |at: usize| {
            let (is_suspect, speed) = rank(&at);
            let time = self.problem.time(job, at, class.emulated).saturating_add(self.kept(&bound, at));
            (is_suspect, time, speed, Reverse(layers(at)), self.fleet.load(at), at)
        };
        let machine = free.into_iter().min_by_key(|at| worth(*at));
        machine.map(|machine| (job, machine)).ok_or(None)
    }

    /// What could start now on one machine alone, by class, of all classes but one.
    fn bound(&self, but: &Class) -> Vec<Bound> {
        let others = self.ready.classes.iter().filter(|class| !class.blocked && !std::ptr::eq(*class, but));
        let bound = others.filter_map(|class| {
            let (_, job) = class.jobs.first()?;
            let needs = &self.problem.needs[class.needs];
            let mut free = class.machines.iter().copied().filter(|at| self.fleet.is_free(*at, needs));
            let machine = free.next().filter(|_| free.next().is_none())?;
            let time = self.problem.time(*job, machine, class.emulated);
            Some(Bound { machine, jobs: class.jobs.len(), time })
        });
        bound.collect()
    }

    /// How long what can start on this machine alone is longer at work where one of its slots is taken.
    fn kept(&self, bound: &[Bound], at: usize) -> u64 {
        let here = || bound.iter().filter(|bound| bound.machine == at);
        let jobs: usize = here().map(|bound| bound.jobs).sum();
        let time = here().map(|bound| bound.time).max().filter(|_| jobs >= self.fleet.free_slots(at));
        time.unwrap_or_default()
    }

    /// The first job of a class for which a machine of this speed is fast enough, seen what faster ones are at.
    fn job_for(&self, class: &Class, speed: u32, now: u64) -> Result<usize, Option<u64>> {
        let jobs = class.jobs.iter().map(|(_, job)| *job);
        let is_faster = |at: usize| self.fleet.machine(at).speed > speed && !self.fleet.is_suspect(at);
        if !class.machines.iter().any(|at| is_faster(*at)) {
            return { jobs }.next().ok_or(None);
        }
        let is_waited_for = |at: usize| is_faster(at) && class.machines.binary_search(&at).is_ok();
        let slots = self.running.values().filter(|running| is_waited_for(running.start.machine));
        let slots = slots
            .map(|running| (expected_end(running.end, now), self.fleet.machine(running.start.machine).speed));
        let time = |job: usize| {
            let job = &self.problem.jobs[job];
            if class.emulated { job.emulated } else { job.native }
        };
        match Faster::new(slots).choose(jobs.map(|job| (job, time(job))), now, speed) {
            Choice::Start(job) => Ok(job),
            Choice::Wait(until) => Err(until),
        }
    }

    /// A try is over, one way or another.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<Start> {
        let start = self.running.remove(&ticket)?.start;
        let problem = self.problem.clone();
        if let Some(needs) = problem.needs(start.job) {
            self.fleet.give_back(start.machine, needs);
        }
        self.ready.unblock(start.machine);
        self.at_work[start.job] = false;
        for twin in &problem.twins[start.job] {
            if self.graph.stage(*twin) == Stage::Ready {
                self.ready.insert(*twin, &self.fleet);
            }
        }
        Some(start)
    }

    fn pass(&mut self, job: usize) {
        for child in self.graph.passed(job) {
            self.enqueue(child);
        }
    }

    /// A job is ready; it waits all the same where another that makes the same is at work.
    pub(super) fn enqueue(&mut self, job: usize) {
        if !self.problem.twins[job].iter().any(|twin| self.at_work[*twin]) {
            self.ready.insert(job, &self.fleet);
        }
    }

    pub(super) fn fall(&mut self, job: usize) -> Fallen {
        let problem = self.problem.clone();
        let harmless = problem.rules.harmless.contains(&problem.jobs[job].image);
        self.closed |= problem.rules.fail_fast && !harmless;
        let mut fallen = Fallen { skipped: self.graph.fell(job), cancelled: Vec::new() };
        let fast = problem.rules.fail_fast_images.contains(&problem.jobs[job].image);
        for sibling in problem.siblings[job].iter().copied().filter(|_| fast) {
            if matches!(self.graph.stage(sibling), Stage::Waiting | Stage::Ready) {
                self.ready.remove(sibling);
                fallen.cancelled.push(sibling);
                fallen.cancelled.extend(self.graph.fell(sibling));
            }
        }
        fallen
    }
}
