//! What must hold of whatever a scheduler decides, as a function of the problem and of what was seen: it follows the
//! log by a model of its own, the plainest there is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fallen, Machine, Needs, Problem, Start, Ticket};

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Started(Start),
    PassedAtOnce(usize),
    Passed {
        ticket: Ticket,
        counts: bool,
    },
    Failed {
        ticket: Ticket,
        fallen: Option<Fallen>,
    },
    Again {
        ticket: Ticket,
        counts: bool,
    },
    Lost {
        machine: usize,
        gone: Vec<Ticket>,
    },
    Returned(usize),
    TurnedAway {
        ticket: Ticket,
        counts: bool,
        free: u64,
    },
    Free {
        machine: usize,
        free: u64,
    },
    GivenUp {
        job: usize,
        fallen: Fallen,
    },
    Cancelled(usize),
    /// Nothing more starts now.
    Quiet,
    /// The run is over.
    End,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    Skipped,
    Cancelled,
}

struct Model<'a> {
    problem: &'a Problem,
    running: BTreeMap<Ticket, Start>,
    ends: BTreeMap<usize, End>,
    lost: BTreeSet<usize>,
    /// How much jobs may fill on each machine.
    disks: Vec<Option<u64>>,
    /// Where jobs have failed passingly.
    avoided: BTreeSet<(usize, usize)>,
    /// How often in a row something has failed passingly on each machine.
    failures: BTreeMap<usize, u32>,
    closed: bool,
    found: Vec<String>,
}

/// All that does not hold.
pub(super) fn violations(problem: &Problem, log: &[Step]) -> Vec<String> {
    let mut model = Model {
        problem,
        running: BTreeMap::new(),
        ends: BTreeMap::new(),
        lost: BTreeSet::new(),
        disks: problem.machines.iter().map(|machine| machine.disk).collect(),
        avoided: BTreeSet::new(),
        failures: BTreeMap::new(),
        closed: false,
        found: Vec::new(),
    };
    log.iter().for_each(|step| model.see(step));
    model.found
}

impl Model<'_> {
    fn see(&mut self, step: &Step) {
        match step {
            Step::Started(start) => self.started(*start),
            Step::PassedAtOnce(job) => {
                self.may_start(*job);
                self.end(*job, End::Passed);
            }
            Step::Passed { ticket, counts } => {
                if let Some(start) = self.take(*ticket, *counts) {
                    self.failures.remove(&start.machine);
                    self.end(start.job, End::Passed);
                }
            }
            Step::Again { ticket, counts } => {
                if let Some(start) = self.take(*ticket, *counts) {
                    self.avoided.insert((start.job, start.machine));
                    *self.failures.entry(start.machine).or_default() += 1;
                }
            }
            Step::Failed { ticket, fallen } => {
                if let Some(start) = self.take(*ticket, fallen.is_some()) {
                    self.failed(start.job, &fallen.clone().unwrap_or_default());
                }
            }
            Step::GivenUp { job, fallen } => self.failed(*job, fallen),
            Step::Lost { machine, gone } => {
                self.lost.insert(*machine);
                let on: Vec<Ticket> = { self.running.iter() }
                    .filter(|(_, start)| start.machine == *machine)
                    .map(|(ticket, _)| *ticket)
                    .collect();
                self.expect(on == *gone, || {
                    format!("machine {machine} was lost with {on:?}, told as {gone:?}")
                });
                self.running.retain(|_, start| start.machine != *machine);
            }
            Step::Returned(machine) => drop(self.lost.remove(machine)),
            Step::TurnedAway { ticket, counts, free } => {
                if let Some(start) = self.take(*ticket, *counts) {
                    self.disks[start.machine] = Some(free + self.filled(start.machine));
                }
            }
            Step::Free { machine, free } => self.disks[*machine] = Some(free + self.filled(*machine)),
            Step::Cancelled(job) => {
                let closed = self.closed;
                self.expect(closed, || format!("I-B6: job {job} was left over"));
                self.end(*job, End::Cancelled);
            }
            Step::Quiet => self.quiet(),
            Step::End => {
                for job in 0..self.problem.len() {
                    self.expect(self.ends.contains_key(&job), || format!("job {job} never ended"));
                }
            }
        }
    }

    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.found.push(otherwise());
        }
    }

    /// I-B7: what counts is a try that goes on, and what goes on counts.
    fn take(&mut self, ticket: Ticket, counts: bool) -> Option<Start> {
        let start = self.running.remove(&ticket);
        self.expect(start.is_some() == counts, || {
            format!("I-B7: what {ticket:?} says counts: {counts}, and goes on: {}", start.is_some())
        });
        start
    }

    fn end(&mut self, job: usize, end: End) {
        let before = self.ends.insert(job, end);
        self.expect(before.is_none(), || format!("I-B7: job {job} ended as {before:?} and as {end:?}"));
    }

    /// All that a job waits for, as the jobs say it: what it uses, and what a barrier holds it for.
    fn waited_for(&self, job: usize) -> BTreeSet<usize> {
        let job = &self.problem.jobs[job];
        job.parents.iter().chain(&job.beside).copied().collect()
    }

    /// I-B2: it stands on what has passed, and so has what it waits for beside that.
    fn may_start(&mut self, job: usize) {
        for parent in self.waited_for(job) {
            let passed = self.ends.get(&parent) == Some(&End::Passed);
            self.expect(passed, || format!("I-B2: job {job} starts before {parent} has passed"));
        }
        let over = self.ends.contains_key(&job);
        self.expect(!over, || format!("job {job} starts although it is over"));
    }

    fn started(&mut self, start: Start) {
        let Start { job, machine, emulated, ticket } = start;
        self.may_start(job);
        let closed = self.closed;
        self.expect(!closed, || format!("job {job} starts after a failure that was to stop the run"));
        let twins = &self.problem.twins[job];
        let twin =
            self.running.values().find(|other| other.job == job || twins.contains(&other.job)).copied();
        self.expect(twin.is_none(), || format!("job {job} starts while {twin:?} goes on"));
        let Some(needs) = self.problem.needs(job) else { return };
        let modes = self.modes(needs);
        self.expect(modes.contains(&(machine, emulated)), || {
            format!("job {job} starts on machine {machine}, emulated {emulated}; it fits {modes:?}")
        });
        let free = self.is_free(machine, needs);
        self.expect(free, || format!("machine {machine} has no room for job {job}"));
        self.running.insert(ticket, start);
    }

    /// The living machines that a job may go to, and how: native ones, or where there is none those that emulate.
    fn modes(&self, needs: &Needs) -> Vec<(usize, bool)> {
        let has_room = |at: usize, machine: &Machine| {
            needs.labels.is_subset(&machine.labels) && self.disks[at].is_none_or(|disk| disk >= needs.disk)
        };
        let living = { self.problem.machines.iter().enumerate() }
            .filter(|(at, machine)| !self.lost.contains(at) && has_room(*at, machine));
        let (mut native, mut emulating) = (Vec::new(), Vec::new());
        for (at, machine) in living {
            if machine.native.contains(&needs.platform) {
                native.push((at, false));
            } else if machine.emulated.contains(&needs.platform) {
                emulating.push((at, true));
            }
        }
        if native.is_empty() { emulating } else { native }
    }

    fn is_free(&self, at: usize, needs: &Needs) -> bool {
        let jobs = self.running.values().filter(|start| start.machine == at).count();
        jobs < self.problem.machines[at].slots
            && self.disks[at].is_none_or(|whole| whole >= self.filled(at) + needs.disk)
    }

    /// What jobs fill that are at work on a machine.
    fn filled(&self, at: usize) -> u64 {
        let on = self.running.values().filter(|start| start.machine == at);
        on.filter_map(|start| self.problem.needs(start.job)).map(|needs| needs.disk).sum()
    }

    /// I-B8: of a failed job all that stand on it are over, and nothing else is, but what was to fail fast with it.
    fn failed(&mut self, job: usize, fallen: &Fallen) {
        self.end(job, End::Failed);
        let below = self.open_below(&[job]);
        self.expect(below == fallen.skipped, || {
            format!("I-B8: with job {job} fell {:?}, and {below:?} stand on it", fallen.skipped)
        });
        fallen.skipped.iter().for_each(|job| self.end(*job, End::Skipped));
        let image = self.problem.jobs[job].image;
        let is_sibling = |other: &usize| self.problem.jobs[*other].image == image;
        let waiting = |other: &usize| {
            !self.ends.contains_key(other) && !self.running.values().any(|start| start.job == *other)
        };
        let siblings: Vec<usize> = match self.problem.rules.fail_fast_images.contains(&image) {
            true => (0..self.problem.len()).filter(is_sibling).filter(waiting).collect(),
            false => Vec::new(),
        };
        let mut cancelled = [siblings.clone(), self.open_below(&siblings)].concat();
        cancelled.sort_unstable();
        cancelled.dedup();
        let mut told = fallen.cancelled.clone();
        told.sort_unstable();
        self.expect(cancelled == told, || format!("I-B8: with job {job} {told:?} ended, not {cancelled:?}"));
        fallen.cancelled.iter().for_each(|job| self.end(*job, End::Cancelled));
        self.closed |= self.problem.rules.fail_fast && !self.problem.rules.harmless.contains(&image);
    }

    /// All that are not over and stand on some jobs.
    fn open_below(&self, jobs: &[usize]) -> Vec<usize> {
        let mut below: BTreeSet<usize> = jobs.iter().copied().collect();
        for job in 0..self.problem.len() {
            if !self.waited_for(job).is_disjoint(&below) {
                below.insert(job);
            }
        }
        let is_open = |job: &usize| !jobs.contains(job) && !self.ends.contains_key(job);
        below.into_iter().filter(is_open).collect()
    }

    /// I-B6: where nothing starts, nothing could: for each job that might, every machine that is as fast as any for it
    /// is busy, or has failed it, or others too often, and another machine is left.
    fn quiet(&mut self) {
        if self.closed {
            return;
        }
        let busy: BTreeSet<usize> = self.running.values().map(|start| start.job).collect();
        for job in 0..self.problem.len() {
            let has_passed = |parent: usize| self.ends.get(&parent) == Some(&End::Passed);
            let ready = self.waited_for(job).into_iter().all(has_passed);
            let held = busy.contains(&job) || self.problem.twins[job].iter().any(|twin| busy.contains(twin));
            let (true, false, false) = (ready, held, self.ends.contains_key(&job)) else { continue };
            let Some(needs) = self.problem.needs(job) else {
                self.found.push(format!("I-B6: job {job} takes no machine and has not passed"));
                continue;
            };
            let all: Vec<usize> = self.modes(needs).into_iter().map(|(at, _)| at).collect();
            let fresh = |at: &usize| !self.avoided.contains(&(job, *at));
            let untried: Vec<usize> = all.iter().copied().filter(fresh).collect();
            let fits = if untried.is_empty() { all } else { untried };
            let trusted = |at: &usize| self.failures.get(at).is_none_or(|failures| *failures < 3);
            let trusted: Vec<usize> = fits.iter().copied().filter(trusted).collect();
            let fits = if trusted.is_empty() { fits } else { trusted };
            let speed = |at: &usize| self.problem.machines[*at].speed;
            let fastest = fits.iter().map(speed).max().unwrap_or_default();
            let idle = fits.iter().find(|at| speed(at) == fastest && self.is_free(**at, needs)).copied();
            self.expect(idle.is_none(), || format!("I-B6: job {job} waits, and machine {idle:?} is free"));
        }
    }
}

/// A log with a fault in it is seen to have one.
mod planted {
    use std::sync::Arc;

    use super::*;
    use crate::schedule::{Job, Rules, Scheduler};

    /// `b` on `a`, and `c` alone, on one machine of two slots and one that is of another platform.
    fn problem() -> Arc<Problem> {
        let job = |at: usize, parents: &[usize]| Job {
            beside: Vec::new(),
            parents: parents.to_vec(),
            image: at,
            product: at,
            needs: Some(Needs {
                platform: "linux/amd64".parse().unwrap(),
                labels: BTreeSet::new(),
                disk: 4,
                may_emulate: true,
                together: None,
            }),
            native: 5,
            emulated: 50,
            near: Vec::new(),
        };
        let machine = |platform: &str, slots: usize| Machine {
            native: BTreeSet::from([platform.parse().unwrap()]),
            emulated: BTreeSet::from(["linux/amd64".parse().unwrap()]),
            slots,
            labels: BTreeSet::new(),
            disk: Some(8),
            speed: 100,
        };
        let machines = vec![machine("linux/amd64", 2), machine("linux/arm64", 1)];
        Problem::new(vec![job(0, &[]), job(1, &[0]), job(2, &[])], machines, Rules::default())
    }

    /// Tries of the first job, of the third, and of the second, as the scheduler makes them.
    fn starts() -> [Start; 3] {
        let problem = problem();
        let mut scheduler = Scheduler::new(&problem, problem.longest_paths().into());
        let (a, c) = (scheduler.next(0).unwrap(), scheduler.next(0).unwrap());
        scheduler.passed(a.ticket);
        [a, c, scheduler.next(5).unwrap()]
    }

    fn first(log: &[Step]) -> String {
        violations(&problem(), log).first().cloned().unwrap_or_default()
    }

    #[test]
    fn every_planted_fault_is_seen() {
        let [a, c, b] = starts();
        let started = Step::Started;
        let passed = |start: Start| Step::Passed { ticket: start.ticket, counts: true };
        let whole =
            [started(a), started(c), Step::Quiet, passed(a), started(b), passed(b), passed(c), Step::End];
        assert_eq!(first(&whole), "");
        let moved = |start: Start, machine, emulated| started(Start { machine, emulated, ..start });
        let lost = |gone: Vec<Ticket>| Step::Lost { machine: 0, gone };
        let failed = |start: Start, skipped: Vec<usize>, cancelled: Vec<usize>| Step::Failed {
            ticket: start.ticket,
            fallen: Some(Fallen { skipped, cancelled }),
        };
        let planted: [(&[Step], &str); 14] = [
            (&[started(b)], "I-B2: job 1 starts before 0 has passed"),
            (
                &[started(a), passed(a), passed(a)],
                "I-B7: what Ticket(1) says counts: true, and goes on: false",
            ),
            (
                &[started(a), Step::Passed { ticket: a.ticket, counts: false }],
                "I-B7: what Ticket(1) says counts: false, and goes on: true",
            ),
            (
                &[started(a), started(Start { ticket: c.ticket, ..a })],
                "job 0 starts while Some(Start { job: 0, machine: 0, emulated: false, ticket: Ticket(1) }) goes on",
            ),
            (
                &[started(a), lost(vec![a.ticket]), moved(a, 1, true), passed(a), started(c)],
                "job 2 starts on machine 0, emulated false; it fits [(1, true)]",
            ),
            (&[started(a), lost(vec![])], "machine 0 was lost with [Ticket(1)], told as []"),
            (&[moved(a, 1, true)], "job 0 starts on machine 1, emulated true; it fits [(0, false)]"),
            (
                &[started(a), passed(a), started(b), started(c), started(c)],
                "job 2 starts while Some(Start { job: 2, machine: 0, emulated: false, ticket: Ticket(2) }) goes on",
            ),
            (&[started(a), failed(a, vec![], vec![])], "I-B8: with job 0 fell [], and [1] stand on it"),
            (
                &[started(a), failed(a, vec![1, 2], vec![])],
                "I-B8: with job 0 fell [1, 2], and [1] stand on it",
            ),
            (&[started(a), failed(a, vec![1], vec![2])], "I-B8: with job 0 [2] ended, not []"),
            (&[Step::Quiet], "I-B6: job 0 waits, and machine Some(0) is free"),
            (&[started(a), passed(a), Step::Cancelled(2)], "I-B6: job 2 was left over"),
            (&[started(a), passed(a), Step::End], "job 1 never ended"),
        ];
        for (log, expected) in planted {
            assert_eq!(first(log), expected);
        }
        let crowd = [started(a), started(c), passed(a), started(b), started(Start { ticket: a.ticket, ..b })];
        assert!(first(&crowd).starts_with("job 1 starts while"));
    }
}
