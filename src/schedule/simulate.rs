//! Seeded simulation of the scheduler alone: random jobs on machines that fail, stall, lie, vanish and return.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::invariants::{Step, violations};
use super::{Job, Machine, Needs, Problem, Rules, Scheduler, Start, Ticket, priorities};
use crate::dice::{Dice, seeds};

/// How many seeds are tried; `POLYARCH_TEST_SEEDS` says another number.
const SEEDS: u64 = 2_000;
/// How many are tried of a scheduler that does not hold, which the first few show.
const SEEDS_FOUND_OUT: u64 = 200;
/// How often a job is tried where its failures may pass.
const ATTEMPTS: u32 = 4;
/// When the last machine vanishes, in milliseconds.
const TROUBLE: usize = 3_000;
/// More steps than any of these runs can take.
const STEPS_LIMIT: usize = 100_000;

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];
const LABELS: [&str; 2] = ["gpu", "large"];

fn jobs(dice: &mut Dice) -> Vec<Job> {
    let platforms = 1 + dice.below(3);
    let barrier = dice.percent(30);
    let count = 1 + dice.below(14);
    let mut jobs: Vec<Job> = Vec::new();
    for image in 0..count {
        let parents: BTreeSet<usize> =
            (0..dice.below(3)).filter(|_| image > 0).map(|_| dice.below(image.max(1))).collect();
        let labels = if dice.percent(10) { dice.some(&LABELS, 50) } else { Vec::new() };
        let disk = if dice.percent(20) { 1 + dice.below(9) as u64 } else { 0 };
        for (at, platform) in PLATFORMS[..platforms].iter().enumerate() {
            let native = 1 + dice.next() % 200;
            let product =
                if image > 0 && dice.percent(8) { dice.below(image) * platforms + at } else { jobs.len() };
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            let platform = platform.parse().unwrap();
            let needs = Needs { platform, labels, disk, may_emulate: true, together: None };
            jobs.push(Job {
                parents: parents.iter().map(|parent| parent * platforms + at).collect(),
                beside: { parents.iter() }
                    .filter(|parent| barrier && *parent % 3 > 0)
                    .flat_map(|parent| (0..platforms).map(move |other| (*parent, other)))
                    .filter(|(_, other)| *other != at)
                    .map(|(parent, other)| parent * platforms + other)
                    .collect(),
                image,
                product,
                needs: (!dice.percent(5)).then_some(needs),
                native,
                emulated: native * 10,
                near: Vec::new(),
            });
        }
    }
    jobs
}

fn machines(dice: &mut Dice) -> Vec<Machine> {
    let emulation = dice.percent(50);
    let speeds: &[u32] = if dice.percent(50) { &[100] } else { &[100, 100, 50, 20, 1] };
    let count = 1 + dice.below(6);
    let machine = |_| {
        let set = |names: Vec<&str>| names.into_iter().map(|name| name.parse().unwrap()).collect();
        Machine {
            native: set(dice.some(&PLATFORMS, 50)),
            emulated: if emulation { set(dice.some(&PLATFORMS, 50)) } else { BTreeSet::new() },
            slots: 1 + dice.below(3),
            labels: dice.some(&LABELS, 60).into_iter().map(str::to_owned).collect(),
            disk: dice.percent(50).then(|| dice.next() % 15),
            speed: speeds[dice.below(speeds.len())],
        }
    };
    (0..count).map(machine).collect()
}

/// What happens at some time.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A builder says that a try has passed.
    Passes(Start),
    /// A builder says that a try has failed for good.
    Fails(Start),
    /// A builder says that a try has failed, as another might not.
    FailsPassingly(Start),
    /// A try finds no more free on its machine than this.
    TurnedAway(Start, u64),
    /// So much is free on a machine.
    Free(usize, u64),
    /// It is noticed that a machine is gone.
    Lost(usize),
    /// It answers again.
    Returns(usize),
}

/// A world of builders around a scheduler.
struct World {
    problem: Arc<Problem>,
    scheduler: Scheduler,
    dice: Dice,
    trouble: usize,
    now: u64,
    coming: BTreeMap<(u64, usize), Happening>,
    serial: usize,
    attempts: BTreeMap<usize, u32>,
    log: Vec<Step>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let jobs = jobs(&mut dice);
        let images: Vec<usize> = jobs.iter().map(|job| job.image).collect();
        let rules = Rules {
            fail_fast: dice.percent(10),
            harmless: dice.some(&images, 10).into_iter().collect(),
            fail_fast_images: if dice.percent(20) {
                dice.some(&images, 30).into_iter().collect()
            } else {
                BTreeSet::new()
            },
        };
        let problem = Problem::new(jobs, machines(&mut dice), rules);
        let order = if dice.percent(10) { priorities(&problem) } else { problem.longest_paths().into() };
        let scheduler = Scheduler::new(&problem, order);
        let trouble = [0, 10, 30, 60][dice.below(4)];
        let (coming, attempts, log) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut world = Self { problem, scheduler, dice, trouble, now: 0, coming, serial: 0, attempts, log };
        world.plan_losses();
        world
    }

    /// Machines are lost while there is trouble. Most return, some more than once.
    fn plan_losses(&mut self) {
        for machine in 0..self.problem.machines.len() {
            let mut at = 0;
            while self.trouble > 0 && self.dice.percent(40) {
                at += self.dice.below(TROUBLE) as u64;
                self.come(at, Happening::Lost(machine));
                if self.dice.percent(20) {
                    break;
                }
                at += 1 + self.dice.below(TROUBLE) as u64;
                self.come(at, Happening::Returns(machine));
            }
        }
    }

    fn come(&mut self, at: u64, what: Happening) {
        self.serial += 1;
        self.coming.insert((at, self.serial), what);
    }

    fn run(mut self) -> (Arc<Problem>, Vec<Step>) {
        for _ in 0..STEPS_LIMIT {
            self.start_all();
            let next = self.coming.keys().next().map(|(at, _)| *at);
            let next = next.into_iter().chain(self.scheduler.look_again()).min();
            let Some(next) = next else {
                if !self.give_up() {
                    let left = self.scheduler.drain();
                    self.log.extend(left.into_iter().map(Step::Cancelled));
                    self.log.push(Step::End);
                    return (self.problem, self.log);
                }
                continue;
            };
            self.now = next.max(self.now + u64::from(next <= self.now));
            let later = self.coming.split_off(&(self.now + 1, 0));
            for what in std::mem::replace(&mut self.coming, later).into_values() {
                self.happen(what);
            }
        }
        panic!("I-B6: the run does not end");
    }

    fn start_all(&mut self) {
        while let Some(job) = self.scheduler.weightless() {
            self.scheduler.passed_at_once(job);
            self.log.push(Step::PassedAtOnce(job));
        }
        while let Some(start) = self.scheduler.next(self.now) {
            self.log.push(Step::Started(start));
            self.begin(start);
        }
        self.log.push(Step::Quiet);
    }

    /// What becomes of a try.
    fn begin(&mut self, start: Start) {
        let time = self.problem.time(start.job, start.machine, start.emulated);
        let time = time * (50 + self.dice.next() % 100) / 100;
        let end = self.now + time.max(1);
        let is_bad = self.dice.percent(self.trouble);
        match (is_bad, self.dice.below(10)) {
            (true, 0 | 1) => self.come(end, Happening::Fails(start)),
            // It stalls, and its time limit ends it.
            (true, 2 | 3) => self.come(end + 20 * time, Happening::FailsPassingly(start)),
            // It says so twice, or first this and then that.
            (true, 4) => {
                self.come(end, Happening::Passes(start));
                self.come(end + 1, Happening::Passes(start));
            }
            (true, 5) => {
                self.come(end, Happening::Passes(start));
                self.come(end + 1, Happening::Fails(start));
            }
            (true, 6) => {
                let wanted = self.problem.needs(start.job).map_or(0, |needs| needs.disk);
                let free = self.dice.below(1 + usize::try_from(wanted).expect("small")) as u64;
                self.come(self.now + 1, Happening::TurnedAway(start, free));
                if self.dice.percent(80) {
                    let then = self.now + 1 + self.dice.below(TROUBLE) as u64;
                    let free = self.dice.below(20) as u64;
                    self.come(then, Happening::Free(start.machine, free));
                }
            }
            (true, _) => self.come(self.now + 1, Happening::FailsPassingly(start)),
            // What is at work on a machine that vanishes says so all the same, when it is back.
            (false, _) => self.come(end, Happening::Passes(start)),
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Passes(start) => {
                let counts = self.scheduler.passed(start.ticket);
                self.log.push(Step::Passed { ticket: start.ticket, counts });
            }
            Happening::Fails(start) => self.fail(start),
            Happening::FailsPassingly(start) => {
                let attempts = self.attempts.entry(start.job).or_default();
                *attempts += 1;
                if *attempts >= ATTEMPTS {
                    return self.fail(start);
                }
                let counts = self.scheduler.again(start.ticket);
                self.log.push(Step::Again { ticket: start.ticket, counts });
            }
            Happening::TurnedAway(start, free) => {
                let counts = self.scheduler.turned_away(start.ticket, free);
                self.log.push(Step::TurnedAway { ticket: start.ticket, counts, free });
            }
            Happening::Free(machine, free) => {
                self.scheduler.free(machine, free);
                self.log.push(Step::Free { machine, free });
            }
            Happening::Lost(machine) => {
                let gone: Vec<Ticket> =
                    { self.scheduler.lost(machine) }.iter().map(|start| start.ticket).collect();
                self.log.push(Step::Lost { machine, gone });
            }
            Happening::Returns(machine) => {
                self.scheduler.returned(machine);
                self.log.push(Step::Returned(machine));
            }
        }
    }

    fn fail(&mut self, start: Start) {
        let fallen = self.scheduler.failed(start.ticket);
        self.log.push(Step::Failed { ticket: start.ticket, fallen });
    }

    /// Nothing comes any more: what nobody can do is given up.
    fn give_up(&mut self) -> bool {
        let stranded = self.scheduler.stranded();
        for job in &stranded {
            // One that fell with another is over.
            let fallen = self.scheduler.given_up(*job);
            self.log.extend(fallen.map(|fallen| Step::GivenUp { job: *job, fallen }));
        }
        !stranded.is_empty()
    }
}

#[test]
fn f_n5_i_b2_i_b6_i_b7_i_b8_the_scheduler_holds_whatever_machines_do() {
    let (mut passed, mut void, mut lost, mut fallen, mut emulated, mut away) = (0, 0, 0, 0, 0, 0);
    let mut held = 0;
    for seed in 0..seeds(SEEDS) {
        let (problem, log) = World::new(seed).run();
        let found = violations(&problem, &log);
        assert!(found.is_empty(), "seed {seed}:\n{}", found.join("\n"));
        let count = |which: &dyn Fn(&Step) -> bool| log.iter().filter(|step| which(step)).count();
        passed += count(&|step| matches!(step, Step::Passed { counts: true, .. }));
        void += count(&|step| matches!(step, Step::Passed { counts: false, .. }));
        lost += count(&|step| matches!(step, Step::Lost { gone, .. } if !gone.is_empty()));
        fallen += count(&|step| matches!(step, Step::Failed { fallen: Some(_), .. }));
        emulated += count(&|step| matches!(step, Step::Started(start) if start.emulated));
        away += count(&|step| matches!(step, Step::TurnedAway { counts: true, .. }));
        let waits = |start: &Start| !problem.jobs[start.job].beside.is_empty();
        held += count(&|step| matches!(step, Step::Started(start) if waits(start)));
    }
    let seen = [passed, void, lost, fallen, emulated, away, held];
    assert!(
        seen.iter().all(|times| *times > 100),
        "passed, void, lost, failed, emulated, away, held by a barrier: {seen:?}"
    );
}

/// What an invariant is called, of one that does not hold.
fn id(violation: &str) -> &str {
    violation.split(':').next().unwrap_or_default()
}

#[test]
fn i_b2_i_b8_a_scheduler_that_passes_over_barriers_is_found_out() {
    let mut found = BTreeSet::new();
    for seed in 0..SEEDS_FOUND_OUT {
        let mut world = World::new(seed);
        let free = { world.problem.jobs.iter() }.map(|job| Job { beside: Vec::new(), ..job.clone() });
        let (machines, rules) = (world.problem.machines.clone(), world.problem.rules.clone());
        let open = Problem::new(free.collect(), machines, rules);
        world.scheduler = Scheduler::new(&open, open.longest_paths().into());
        let (problem, log) = world.run();
        found.extend(violations(&problem, &log).iter().map(|violation| id(violation).to_owned()));
    }
    let both = ["I-B2", "I-B8"].map(str::to_owned);
    assert!(both.iter().all(|id| found.contains(id)), "{found:?}");
}
