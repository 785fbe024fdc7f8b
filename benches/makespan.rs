//! How much longer the schedules of polyarch take than the best ones known, and first-come order beside it; and what
//! a decision costs (`make bench`). No engine is needed, and nothing but the last lines depends on the machine.
//!
//! A thousand families from a seed and the three real shapes, at 1 to 14 slots a platform. The best schedule known of
//! a platform is searched exhaustively, delays included, where it has at most ten jobs, and is else the best of 10,000
//! random orders, or any that reaches what no schedule can be shorter than.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool of the project")]
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the module is that of the program, of which less is used"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use polyarch::oci;

#[path = "../src/dice.rs"]
mod dice;
#[path = "../src/schedule/mod.rs"]
mod schedule;
mod shapes;

use dice::Dice;
use schedule::rehearsal::{makespan, rehearse};
use schedule::{Job, Machine, Needs, Problem, Rules, priorities};
use shapes::{Shape, generated, real};

const FAMILIES: u64 = 1_000;
const SLOTS: [usize; 6] = [1, 2, 3, 4, 6, 14];
const RANDOM_ORDERS: usize = 10_000;
const EXHAUSTIVE_JOBS: usize = 10;
/// How often the cost of decisions is measured, of which the least counts: the machine may have other work.
const RUNS: usize = 20;

fn jobs(shape: &Shape) -> Vec<Job> {
    let needs = |platform: &str| Needs {
        platform: platform.parse().unwrap(),
        labels: BTreeSet::new(),
        disk: 0,
        may_emulate: true,
        together: None,
    };
    let jobs = shape.jobs.iter().enumerate().map(|(at, job)| Job {
        parents: job.parents.clone(),
        beside: Vec::new(),
        image: job.unit,
        product: at,
        needs: Some(needs(job.platform)),
        native: job.seconds * 1000,
        emulated: job.seconds * 10_000,
        near: Vec::new(),
    });
    jobs.collect()
}

fn problem(shape: &Shape, slots: usize) -> Arc<Problem> {
    let platforms: BTreeSet<&str> = shape.jobs.iter().map(|job| job.platform).collect();
    let machines = platforms.iter().map(|platform| machine(platform, slots));
    Problem::new(jobs(shape), machines.collect(), Rules::default())
}

fn machine(platform: &str, slots: usize) -> Machine {
    Machine {
        native: BTreeSet::from([platform.parse().unwrap()]),
        emulated: BTreeSet::new(),
        slots,
        labels: BTreeSet::new(),
        disk: None,
        speed: 100,
    }
}

/// The jobs of one platform: their seconds, and their parents among them.
struct Alone {
    seconds: Vec<u64>,
    parents: Vec<Vec<usize>>,
    /// The longest path from the beginning of each.
    paths: Vec<u64>,
}

impl Alone {
    fn of(shape: &Shape, platform: &str) -> Self {
        let own: Vec<usize> =
            (0..shape.jobs.len()).filter(|at| shape.jobs[*at].platform == platform).collect();
        let place = |job: &usize| own.iter().position(|one| one == job);
        let seconds: Vec<u64> = own.iter().map(|job| shape.jobs[*job].seconds).collect();
        let parents: Vec<Vec<usize>> =
            own.iter().map(|job| shape.jobs[*job].parents.iter().filter_map(place).collect()).collect();
        let mut paths = seconds.clone();
        for job in (0..own.len()).rev() {
            for parent in &parents[job] {
                paths[*parent] = paths[*parent].max(seconds[*parent] + paths[job]);
            }
        }
        Self { seconds, parents, paths }
    }

    /// What no schedule is shorter than.
    fn least(&self, slots: usize) -> u64 {
        let work: u64 = self.seconds.iter().sum();
        self.paths.iter().copied().max().unwrap_or_default().max(work.div_ceil(slots as u64))
    }

    /// The time that ready jobs take where that with the smallest rank starts first.
    fn list(&self, ranks: &[u64], slots: usize) -> u64 {
        let mut open: Vec<usize> = self.parents.iter().map(Vec::len).collect();
        let mut ready: Vec<usize> = (0..open.len()).filter(|job| open[*job] == 0).collect();
        let mut running: Vec<(u64, usize)> = Vec::new();
        let mut now = 0;
        loop {
            while running.len() < slots && !ready.is_empty() {
                let first = (0..ready.len()).min_by_key(|at| ranks[ready[*at]]).unwrap();
                let job = ready.swap_remove(first);
                running.push((now + self.seconds[job], job));
            }
            let Some(at) = (0..running.len()).min_by_key(|at| running[*at]) else { return now };
            let (end, ended) = running.swap_remove(at);
            now = end;
            for (job, parents) in self.parents.iter().enumerate() {
                if parents.contains(&ended) {
                    open[job] -= 1;
                    if open[job] == 0 {
                        ready.push(job);
                    }
                }
            }
        }
    }

    /// The shortest time known.
    fn best(&self, slots: usize, ours: u64, dice: &mut Dice) -> u64 {
        let (least, mut best) = (self.least(slots), ours);
        if best == least {
            return best;
        }
        if self.seconds.len() <= EXHAUSTIVE_JOBS {
            let ends = vec![None; self.seconds.len()];
            self.all(&mut vec![0; slots], &mut ends.clone(), 0, &mut best);
            return best;
        }
        for _ in 0..RANDOM_ORDERS {
            let ranks: Vec<u64> = self.seconds.iter().map(|_| dice.next()).collect();
            best = best.min(self.list(&ranks, slots));
            if best == least {
                break;
            }
        }
        best
    }

    /// Every schedule in which jobs begin one after another, each as soon as it can, if it can become the best.
    fn all(&self, slots: &mut Vec<u64>, ends: &mut Vec<Option<u64>>, last: u64, best: &mut u64) {
        if ends.iter().all(Option::is_some) {
            *best = (*best).min(ends.iter().flatten().copied().max().unwrap_or_default());
            return;
        }
        let slot = (0..slots.len()).min_by_key(|at| slots[*at]).unwrap();
        for job in 0..ends.len() {
            let parents: Option<Vec<u64>> = self.parents[job].iter().map(|parent| ends[*parent]).collect();
            let (None, Some(parents)) = (ends[job], parents) else { continue };
            let begin = parents.into_iter().max().unwrap_or_default().max(slots[slot]).max(last);
            if begin + self.paths[job] >= *best {
                continue;
            }
            let before = std::mem::replace(&mut slots[slot], begin + self.seconds[job]);
            ends[job] = Some(begin + self.seconds[job]);
            self.all(slots, ends, begin, best);
            ends[job] = None;
            slots[slot] = before;
        }
    }
}

/// How long a shape takes by the scheduler, at best, and first come first served, in seconds.
fn times(shape: &Shape, slots: usize, dice: &mut Dice) -> [u64; 4] {
    let problem = problem(shape, slots);
    let spans = rehearse(&problem, priorities(&problem));
    let plain = makespan(&rehearse(&problem, problem.longest_paths().into())) / 1000;
    let platforms: BTreeSet<&str> = shape.jobs.iter().map(|job| job.platform).collect();
    let (mut ours, mut best, mut first_come) = (0, 0, 0);
    for platform in platforms {
        let on = spans.iter().filter(|span| shape.jobs[span.job].platform == platform);
        let own = on.map(|span| span.end / 1000).max().unwrap_or_default();
        let alone = Alone::of(shape, platform);
        ours = ours.max(own);
        best = best.max(alone.best(slots, own, dice));
        let order: Vec<u64> = (0..alone.seconds.len() as u64).collect();
        first_come = first_come.max(alone.list(&order, slots));
    }
    [ours, best, first_come, plain]
}

#[derive(Default)]
struct Ratios {
    all: Vec<f64>,
}

impl Ratios {
    fn add(&mut self, time: u64, best: u64) {
        self.all.push(time as f64 / best as f64);
    }

    fn text(&self) -> String {
        let mean = self.all.iter().sum::<f64>() / self.all.len() as f64;
        let worst = self.all.iter().copied().fold(1.0, f64::max);
        format!("mean {mean:.4} worst {worst:.4}")
    }
}

fn main() {
    let mut dice = Dice(7);
    let mut totals: [Ratios; 3] = Default::default();
    println!("makespan over the best schedule known");
    for slots in SLOTS {
        let mut ratios: [Ratios; 3] = Default::default();
        for seed in 0..FAMILIES {
            let [ours, best, first_come, plain] = times(&generated(seed), slots, &mut dice);
            for (at, time) in [ours, plain, first_come].into_iter().enumerate() {
                ratios[at].add(time, best);
                totals[at].add(time, best);
            }
        }
        let [ours, plain, first_come] = ratios.map(|ratios| ratios.text());
        println!("{slots:2} slots: polyarch {ours}; without search {plain}; first come {first_come}");
    }
    let [ours, plain, first_come] = totals.map(|ratios| ratios.text());
    println!("all:      polyarch {ours}; without search {plain}; first come {first_come}");
    for shape in real() {
        for slots in SLOTS {
            let [ours, best, first_come, _] = times(&shape, slots, &mut dice);
            let ratio = |time: u64| time as f64 / best as f64;
            println!(
                "{:14} {slots:2} slots: polyarch {ours} s, best known {best} s: {:.4}; first come {:.4}",
                shape.name,
                ratio(ours),
                ratio(first_come)
            );
        }
    }
    shared();
    cost();
}

/// Families of several platforms where some machines are native to all of them, some to the first alone and slower.
fn shared() {
    let mut ratios: [Ratios; 2] = Default::default();
    for shape in (0..FAMILIES).map(generated) {
        let all: BTreeSet<oci::Platform> =
            shape.jobs.iter().map(|job| job.platform.parse().unwrap()).collect();
        let first = shape.jobs[0].platform;
        if all.len() == 1 {
            continue;
        }
        let both = |slots| Machine { native: all.clone(), ..machine(first, slots) };
        let machines = vec![both(2), Machine { speed: 80, ..machine(first, 2) }, both(1), machine(first, 1)];
        let problem = Problem::new(jobs(&shape), machines, Rules::default());
        let least = problem.least_time();
        for (at, order) in [priorities(&problem), problem.longest_paths().into()].into_iter().enumerate() {
            ratios[at].add(makespan(&rehearse(&problem, order)), least);
        }
    }
    let [ours, plain] = ratios.map(|ratios| ratios.text());
    println!(
        "machines of one and of all platforms, over what nothing can be shorter than: polyarch {ours}; without search {plain}"
    );
}

/// 5,000 jobs on 200 machines: what a decision costs, and the search before a run.
fn cost() {
    let shape = shapes::large(5_000);
    let platforms: BTreeSet<&str> = shape.jobs.iter().map(|job| job.platform).collect();
    let platforms: Vec<&str> = platforms.into_iter().collect();
    for speeds in [&[100][..], &[100, 50, 25]] {
        let machines = (0..200).map(|at| Machine {
            speed: speeds[at / platforms.len() % speeds.len()],
            ..machine(platforms[at % platforms.len()], 4)
        });
        let problem = Problem::new(jobs(&shape), machines.collect(), Rules::default());
        let order: Arc<[u64]> = problem.longest_paths().into();
        let timed = |_| {
            let begun = Instant::now();
            let spans = rehearse(&problem, order.clone());
            (begun.elapsed().as_nanos(), spans)
        };
        let (nanoseconds, spans) = (0..RUNS).map(timed).min_by_key(|(nanoseconds, _)| *nanoseconds).unwrap();
        let each = nanoseconds as f64 / 1000.0 / spans.len() as f64;
        let begun = Instant::now();
        let found = priorities(&problem);
        let searched = begun.elapsed().as_millis();
        println!(
            "{} jobs on 200 machines of {} speeds: {each:.2} µs a job in all, search {searched} ms, {} s long, {} s after it",
            spans.len(),
            speeds.len(),
            makespan(&spans) / 1000,
            makespan(&rehearse(&problem, found)) / 1000,
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    println!("memory at most: {}", memory.trim_start_matches("VmHWM:").trim());
}
