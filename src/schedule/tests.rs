//! What starts where: small families, machines of many kinds, and every fault.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    Job, Kind, Machine, Needs, Outlook, Problem, Rules, Scheduler, Start, fleets, foresee, smallest,
};
use crate::dice::Dice;

fn platform(name: &str) -> crate::oci::Platform {
    format!("linux/{name}").parse().unwrap()
}

/// A job of an image on a platform, after others, that takes so long natively and ten times as long by emulation.
fn job(image: usize, on: &str, parents: &[usize], native: u64) -> Job {
    let (labels, platform) = (BTreeSet::new(), platform(on));
    let needs = Needs { platform, labels, disk: 0, may_emulate: true, together: None };
    Job {
        parents: parents.to_vec(),
        beside: Vec::new(),
        image,
        product: usize::MAX - image * 2 - usize::from(on == "arm64"),
        needs: Some(needs),
        native,
        emulated: native * 10,
        near: Vec::new(),
    }
}

fn machine(native: &[&str], emulated: &[&str], slots: usize) -> Machine {
    let set = |names: &[&str]| names.iter().map(|name| platform(name)).collect();
    Machine {
        native: set(native),
        emulated: set(emulated),
        slots,
        labels: BTreeSet::new(),
        disk: None,
        speed: 100,
    }
}

fn fast(speed: u32) -> Machine {
    Machine { speed, ..machine(&["amd64"], &[], 1) }
}

fn ruled(jobs: Vec<Job>, machines: Vec<Machine>, rules: Rules) -> Scheduler {
    let problem = Problem::new(jobs, machines, rules);
    Scheduler::new(&problem, problem.longest_paths().into())
}

fn scheduler(jobs: Vec<Job>, machines: Vec<Machine>) -> Scheduler {
    ruled(jobs, machines, Rules::default())
}

/// All that starts now.
fn starts(scheduler: &mut Scheduler, now: u64) -> Vec<Start> {
    std::iter::from_fn(|| scheduler.next(now)).collect()
}

/// The jobs and machines of all that starts now.
fn pairs(scheduler: &mut Scheduler, now: u64) -> Vec<(usize, usize)> {
    starts(scheduler, now).iter().map(|start| (start.job, start.machine)).collect()
}

/// Independent jobs of amd64.
fn loose(times: &[u64]) -> Vec<Job> {
    times.iter().enumerate().map(|(at, time)| job(at, "amd64", &[], *time)).collect()
}

#[test]
fn the_longest_remaining_path_goes_first() {
    let jobs = vec![
        job(0, "amd64", &[], 5),
        job(1, "amd64", &[], 1),
        job(2, "amd64", &[1], 7),
        job(3, "amd64", &[], 6),
    ];
    let mut scheduler = scheduler(jobs, vec![machine(&["amd64"], &[], 1)]);
    let mut order = Vec::new();
    while let Some(start) = scheduler.next(0) {
        order.push(start.job);
        assert!(scheduler.passed(start.ticket));
    }
    assert_eq!(order, [1, 2, 3, 0]);
    assert!(scheduler.is_over());
}

#[test]
fn what_goes_together_stays_on_the_machine_of_the_first_as_long_as_that_is_there() {
    let together = |mut job: Job| {
        job.needs.as_mut().unwrap().together = Some(0);
        job
    };
    let machines = || vec![machine(&["amd64"], &["arm64"], 1), machine(&["arm64"], &["amd64"], 1)];
    let all = || vec![job(0, "amd64", &[], 1), job(0, "arm64", &[], 1)];
    let jobs = || all().into_iter().map(together).collect::<Vec<_>>();
    assert_eq!(pairs(&mut scheduler(all(), machines()), 0), [(0, 0), (1, 1)], "each where it is native");

    let mut whole = scheduler(jobs(), machines());
    let first = starts(&mut whole, 0);
    assert_eq!((first.len(), first[0].job, first[0].machine), (1, 0, 0), "the other waits");
    assert!(whole.passed(first[0].ticket));
    let second = starts(&mut whole, 1);
    assert_eq!((second.len(), second[0].machine, second[0].emulated), (1, 0, true));

    let mut lost = scheduler(jobs(), machines());
    let first = starts(&mut lost, 0);
    assert!(lost.passed(first[0].ticket));
    lost.lost(0);
    assert_eq!(pairs(&mut lost, 1), [(1, 1)], "the machine is gone");
    lost.returned(0);

    let mut ill = scheduler(jobs(), machines());
    let first = starts(&mut ill, 0);
    assert!(ill.passed(first[0].ticket));
    let second = starts(&mut ill, 1);
    ill.again(second[0].ticket);
    assert_eq!(pairs(&mut ill, 2), [(1, 1)], "it has failed there");
}

#[test]
fn a_native_machine_goes_before_one_that_emulates_even_if_it_is_busy() {
    let machines = || vec![machine(&["arm64"], &["amd64"], 4), machine(&["amd64"], &[], 1)];
    let mut native = scheduler(loose(&[1, 1]), machines());
    let first = starts(&mut native, 0);
    assert_eq!((first.len(), first[0].machine, first[0].emulated), (1, 1, false));
    native.lost(1);
    let then = starts(&mut native, 0);
    assert!(then.len() == 2 && then.iter().all(|start| start.machine == 0 && start.emulated));
}

#[test]
fn a_machine_that_something_else_has_alone_is_left_to_it_where_both_end_earlier_so() {
    let both = |speed: u32, slots: usize| Machine { speed, ..machine(&["amd64", "arm64"], &[], slots) };
    let jobs = |arm64: u64| vec![job(0, "amd64", &[], 60), job(1, "arm64", &[], arm64)];
    let of = |arm64: u64, machines: Vec<Machine>| pairs(&mut scheduler(jobs(arm64), machines), 0);
    assert_eq!(of(50, vec![both(100, 1), fast(100)]), [(0, 1), (1, 0)], "the first would do as well");
    assert_eq!(of(50, vec![both(100, 1), fast(80)]), [(0, 1), (1, 0)], "75 in all, not 110");
    assert_eq!(of(10, vec![both(100, 1), fast(80)]), [(0, 0)], "70 in all, not 75");
    assert_eq!(of(50, vec![both(100, 2), fast(80)]), [(0, 0), (1, 0)], "there is room for both");
    let two = vec![both(100, 1), both(100, 1), fast(80)];
    assert_eq!(of(50, two), [(0, 0), (1, 1)], "there is another");
}

#[test]
fn a_child_goes_where_the_layers_of_its_parents_are() {
    let jobs = vec![job(0, "amd64", &[], 9), job(1, "amd64", &[], 8), job(2, "amd64", &[1], 1)];
    let machines = vec![machine(&["amd64"], &[], 2), machine(&["amd64"], &[], 2)];
    let mut scheduler = scheduler(jobs, machines);
    let first = starts(&mut scheduler, 0);
    assert_eq!((first[0].machine, first[1].machine), (0, 1), "the emptier machine first");
    first.iter().for_each(|start| assert!(scheduler.passed(start.ticket)));
    assert_eq!(pairs(&mut scheduler, 1), [(2, 1)]);
}

#[test]
fn a_child_goes_where_its_parent_was_made_in_an_earlier_run_where_all_else_is_equal() {
    let machines =
        || vec![machine(&["amd64"], &[], 1), machine(&["amd64"], &[], 2), machine(&["amd64"], &[], 1)];
    let placed = |near: &[usize], machines: Vec<Machine>| {
        let mut scheduler = scheduler(vec![Job { near: near.to_vec(), ..job(0, "amd64", &[], 9) }], machines);
        starts(&mut scheduler, 0)[0].machine
    };
    assert_eq!(placed(&[], machines()), 0);
    assert_eq!(placed(&[2], machines()), 2);
    assert_eq!(placed(&[0, 2, 2], machines()), 2, "where more of its parents are");
    let mut faster = machines();
    faster[1].speed = 200;
    assert_eq!(placed(&[2], faster), 1, "speed counts for more");
}

#[test]
fn labels_and_disk_are_needed_and_disk_is_shared_by_what_is_at_work() {
    let mut jobs = loose(&[3, 2, 1]);
    for (at, disk) in [(0, 20), (1, 20)] {
        jobs[at].needs.as_mut().unwrap().disk = disk;
    }
    jobs[2].needs.as_mut().unwrap().labels.insert("gpu".to_owned());
    let mut labelled = machine(&["amd64"], &[], 4);
    labelled.labels.insert("gpu".to_owned());
    labelled.disk = Some(10);
    let roomy = Machine { disk: Some(30), ..machine(&["amd64"], &[], 4) };
    let mut scheduler = scheduler(jobs, vec![labelled, roomy]);
    let first = starts(&mut scheduler, 0);
    assert_eq!(first.iter().map(|start| (start.job, start.machine)).collect::<Vec<_>>(), [(0, 1), (2, 0)]);
    scheduler.passed(first[0].ticket);
    assert_eq!(pairs(&mut scheduler, 0), [(1, 1)], "the second waits until the first gives its disk back");
}

#[test]
fn f_g14_a_hundredfold_slower_machine_is_used_only_where_that_ends_earlier() {
    let mut few = scheduler(loose(&[10, 10, 10]), vec![fast(1), fast(100)]);
    let start = starts(&mut few, 0);
    assert_eq!((start.len(), start[0].machine), (1, 1), "waiting thirty is better than a thousand");
    assert!(few.passed(start[0].ticket));
    assert_eq!(starts(&mut few, 10).len(), 1);

    let mut many = scheduler(loose(&[10; 150]), vec![fast(50), fast(100)]);
    let start = starts(&mut many, 0);
    assert_eq!(start.iter().map(|start| start.machine).collect::<Vec<_>>(), [1, 0], "half as fast is of use");
}

#[test]
fn f_g14_a_job_that_waits_for_a_stalled_machine_goes_to_the_slow_one_in_the_end() {
    let mut scheduler = scheduler(loose(&[10, 10]), vec![fast(10), fast(100)]);
    assert_eq!(pairs(&mut scheduler, 0), [(0, 1)]);
    assert_eq!(scheduler.look_again(), Some(100), "ten for the first and ninety more by the slow one");
    assert_eq!(pairs(&mut scheduler, 99), []);
    let mut now = 99;
    let moved = (0..3).any(|_| {
        now = scheduler.look_again().expect("it does not wait for ever");
        pairs(&mut scheduler, now) == [(1, 0)]
    });
    assert!(moved && now < 300, "{now}");
}

#[test]
fn a_job_waits_for_what_stands_beside_its_parents_and_follows_the_layers_of_its_parents_alone() {
    let jobs = |beside: &[usize]| {
        let child = job(1, "amd64", &[0], 1);
        vec![
            job(0, "amd64", &[], 1),
            job(0, "arm64", &[], 9),
            Job { beside: beside.to_vec(), ..child },
            job(1, "arm64", &[1], 1),
        ]
    };
    let machines = || vec![machine(&["amd64", "arm64"], &[], 2), machine(&["amd64"], &[], 2)];
    let after_amd64 = |beside: &[usize]| {
        let mut scheduler = scheduler(jobs(beside), machines());
        let first = starts(&mut scheduler, 0);
        let of = |job: usize| first.iter().find(|start| start.job == job).unwrap();
        assert_eq!((of(0).machine, of(1).machine), (1, 0), "one on each");
        assert!(scheduler.passed(of(0).ticket));
        let then = pairs(&mut scheduler, 1);
        let mut failing = scheduler.clone();
        let skipped = failing.failed(of(1).ticket).unwrap().skipped;
        assert!(scheduler.passed(of(1).ticket));
        (then, skipped, pairs(&mut scheduler, 2))
    };
    assert_eq!(after_amd64(&[]), (vec![(2, 1)], vec![3], vec![(3, 0)]));
    assert_eq!(after_amd64(&[1]), (vec![], vec![2, 3], vec![(2, 1), (3, 0)]), "nothing is joined before");
}

#[test]
fn i_b8_a_failure_takes_its_descendants_and_nothing_else() {
    let jobs = vec![
        job(0, "amd64", &[], 1),
        job(1, "amd64", &[], 1),
        job(2, "amd64", &[0, 1], 1),
        job(3, "amd64", &[2], 1),
        job(4, "amd64", &[1], 1),
    ];
    let mut scheduler = scheduler(jobs, vec![machine(&["amd64"], &[], 2)]);
    let first = starts(&mut scheduler, 0);
    let of = |job: usize| first.iter().find(|start| start.job == job).unwrap().ticket;
    assert_eq!(scheduler.failed(of(0)).unwrap().skipped, [2, 3]);
    assert_eq!(scheduler.failed(of(0)), None, "once");
    scheduler.passed(of(1));
    assert_eq!(pairs(&mut scheduler, 1), [(4, 0)]);
}

#[test]
fn fail_fast_stops_the_run_or_the_image() {
    let jobs = || {
        vec![
            job(0, "amd64", &[], 9),
            job(0, "amd64", &[], 3),
            job(1, "amd64", &[1], 1),
            job(2, "amd64", &[], 2),
        ]
    };
    let one = || vec![machine(&["amd64"], &[], 1)];
    let first_fails = |rules: Rules| {
        let mut jobs = jobs();
        jobs.iter_mut().enumerate().for_each(|(at, job)| job.product = at);
        let mut scheduler = ruled(jobs, one(), rules);
        let first = scheduler.next(0).unwrap();
        let fallen = scheduler.failed(first.ticket).unwrap();
        (fallen.cancelled, pairs(&mut scheduler, 1), scheduler.drain())
    };
    assert_eq!(first_fails(Rules::default()), (vec![], vec![(1, 0)], vec![2, 3]));
    let all = Rules { fail_fast: true, ..Rules::default() };
    assert_eq!(first_fails(all), (vec![], vec![], vec![1, 2, 3]));
    let image = Rules { fail_fast_images: BTreeSet::from([0]), ..Rules::default() };
    assert_eq!(first_fails(image), (vec![1, 2], vec![(3, 0)], vec![]));
}

#[test]
fn f_g10_what_a_lost_machine_reports_later_does_not_count() {
    let jobs = vec![job(0, "amd64", &[], 5), job(1, "amd64", &[0], 5)];
    let mut scheduler = scheduler(jobs, vec![machine(&["amd64"], &[], 1), machine(&["amd64"], &[], 1)]);
    let first = scheduler.next(0).unwrap();
    assert_eq!(scheduler.lost(first.machine), [first]);
    let second = scheduler.next(20).unwrap();
    assert_eq!((second.job, second.machine), (0, 1), "it is moved");
    scheduler.returned(first.machine);
    assert!(!scheduler.passed(first.ticket) && scheduler.failed(first.ticket).is_none());
    assert!(!scheduler.again(first.ticket));
    assert_eq!(scheduler.next(21), None, "nothing starts because of it");
    assert!(scheduler.passed(second.ticket));
    assert_eq!(scheduler.next(22).map(|start| start.job), Some(1));
}

#[test]
fn a_machine_that_keeps_failing_goes_last_and_its_jobs_elsewhere() {
    let jobs = loose(&[9, 8, 7, 6, 5, 4]);
    let mut scheduler = scheduler(jobs, vec![machine(&["amd64"], &[], 1), machine(&["amd64"], &[], 1)]);
    let mut first = starts(&mut scheduler, 0);
    for failed in 0..3 {
        let on_first = first.iter().find(|start| start.machine == 0).unwrap();
        assert_eq!(on_first.job, [0, 2, 3][failed]);
        assert!(scheduler.again(on_first.ticket));
        first = starts(&mut scheduler, 1);
        assert!(
            first.iter().all(|start| start.job != 0),
            "job 0 waits for the machine that it has not failed on"
        );
    }
    let (bad, good) = (first[0], 1);
    assert_eq!(bad.machine, 0, "it is used as long as nothing better is free");
    scheduler.again(bad.ticket);
    scheduler.lost(good);
    assert!(!pairs(&mut scheduler, 2).is_empty(), "and where nothing else is left");
}

#[test]
fn what_nobody_can_do_is_told_and_given_up() {
    let jobs = vec![job(0, "arm64", &[], 1), job(1, "arm64", &[0], 1), job(2, "amd64", &[], 1)];
    let mut scheduler = scheduler(jobs, vec![machine(&["amd64"], &[], 1), machine(&["arm64"], &[], 1)]);
    scheduler.lost(1);
    assert_eq!(pairs(&mut scheduler, 0), [(2, 0)]);
    assert_eq!(scheduler.stranded(), [0]);
    let mut later = scheduler.clone();
    later.returned(1);
    assert_eq!((later.stranded(), pairs(&mut later, 1)), (vec![], vec![(0, 1)]));
    assert_eq!(scheduler.given_up(0).map(|fallen| fallen.skipped), Some(vec![1]));
    assert!(scheduler.stranded().is_empty());
}

#[test]
fn of_two_jobs_that_make_the_same_one_waits() {
    let mut jobs = loose(&[5, 4, 3]);
    jobs[0].product = 7;
    jobs[1].product = 7;
    let mut scheduler = scheduler(jobs, vec![machine(&["amd64"], &[], 4)]);
    let first = starts(&mut scheduler, 0);
    assert_eq!(first.iter().map(|start| start.job).collect::<Vec<_>>(), [0, 2]);
    scheduler.again(first[0].ticket);
    let second = starts(&mut scheduler, 1);
    assert_eq!(second.len(), 1);
    assert_eq!(scheduler.failed(second[0].ticket), Some(Default::default()));
    assert_eq!(starts(&mut scheduler, 2).len(), 1, "whatever became of the other");
}

#[test]
fn what_takes_no_machine_passes_when_its_parents_have() {
    let mut jobs = vec![job(0, "amd64", &[], 5), job(1, "amd64", &[0], 5), job(2, "amd64", &[1], 5)];
    jobs[1].needs = None;
    let mut scheduler = scheduler(jobs, vec![machine(&["amd64"], &[], 1)]);
    assert_eq!(scheduler.weightless(), None);
    let first = scheduler.next(0).unwrap();
    scheduler.passed(first.ticket);
    assert_eq!((scheduler.weightless(), scheduler.next(1)), (Some(1), None));
    scheduler.passed_at_once(1);
    assert_eq!(scheduler.next(1).map(|start| start.job), Some(2));
}

#[test]
fn a_job_of_no_machine_at_all_is_no_reason_to_stop() {
    let problem = Problem::new(loose(&[1]), Vec::new(), Rules::default());
    let mut scheduler = Scheduler::new(&problem, Arc::from([0]));
    assert_eq!((scheduler.next(0), scheduler.look_again()), (None, None));
    assert_eq!((scheduler.stranded(), scheduler.drain()), (vec![0], vec![0]));
}

fn kind(machine: Machine, price: f64) -> Kind {
    Kind { machine, count: 1, price }
}

/// The same as `smallest`, by trying every fleet.
fn smallest_of_all(jobs: &[Job], kinds: &[Kind], most: usize, best: u64) -> Outlook {
    let number = (most + 1).pow(u32::try_from(kinds.len()).unwrap());
    let all = (1..number).map(|number| {
        let digit = |at: usize| number / (most + 1).pow(u32::try_from(at).unwrap()) % (most + 1);
        let counted = kinds.iter().enumerate().map(|(at, kind)| Kind { count: digit(at), ..kind.clone() });
        foresee(jobs, &counted.collect::<Vec<_>>(), &Rules::default())
    });
    let good = all.filter(|one| one.spans.len() == jobs.len() && one.makespan * 100 <= best * 105);
    let size = |one: &Outlook| one.counts.iter().sum::<usize>();
    good.min_by(|one, other| size(one).cmp(&size(other)).then(one.cost.total_cmp(&other.cost))).unwrap()
}

#[test]
fn the_smallest_fleet_is_the_smallest_of_all() {
    let (rules, mut without_one, mut uneven) = (Rules::default(), 0, 0);
    for seed in 0..10 {
        let mut dice = Dice(seed);
        let mut jobs: Vec<Job> = Vec::new();
        for image in 0..3 + dice.below(6) {
            let parents: Vec<usize> = (0..image).filter(|_| dice.percent(20)).collect();
            let on = if dice.percent(70) { "amd64" } else { "arm64" };
            jobs.push(job(image, on, &parents, 1 + dice.below(60) as u64));
        }
        let mut of = |natives: &[&str]| {
            let emulated: &[&str] = if dice.percent(30) { &["arm64"] } else { &[] };
            let mut machine = machine(natives, emulated, 1 + dice.below(3));
            machine.speed = 50 + dice.below(4) as u32 * 50;
            kind(machine, dice.below(5) as f64)
        };
        let kinds = [of(&["amd64"]), of(&["amd64"]), of(&["amd64", "arm64"])];
        let uniform = fleets(&jobs, &kinds, 3, &rules);
        let best = uniform.iter().map(|fleet| fleet.makespan).min().unwrap();
        let (found, all) =
            (smallest(&jobs, &kinds, &uniform, &rules).unwrap(), smallest_of_all(&jobs, &kinds, 3, best));
        let size = |one: &Outlook| one.counts.iter().sum::<usize>();
        assert_eq!((size(&found), found.cost), (size(&all), all.cost), "seed {seed}: {found:?} {all:?}");
        without_one += usize::from(found.counts.contains(&0));
        uneven += usize::from(size(&found) > 1);
    }
    assert!(without_one > 3 && uneven > 3, "{without_one} {uneven}");
}

#[test]
fn the_smallest_fleet_has_none_of_a_kind_that_another_stands_in_for() {
    let jobs = [job(0, "amd64", &[], 60), job(1, "amd64", &[], 60), job(0, "arm64", &[], 120)];
    let kinds = [kind(fast(100), 1.0), kind(fast(100), 9.0), kind(machine(&["arm64"], &[], 1), 1.0)];
    let uniform = fleets(&jobs, &kinds, 6, &Rules::default());
    let found = smallest(&jobs, &kinds, &uniform, &Rules::default()).unwrap();
    assert_eq!(
        (found.counts, found.makespan),
        (vec![1, 0, 1], 120),
        "the cheaper one of two that do as well"
    );
    assert!(smallest(&[], &kinds, &fleets(&[], &kinds, 1, &Rules::default()), &Rules::default()).is_some());
}

#[test]
fn of_too_many_fleets_the_smallest_is_what_is_left_of_a_good_one() {
    let jobs: Vec<Job> = (0..12).map(|image| job(image, "amd64", &[], 60)).collect();
    let kinds = vec![kind(fast(100), 1.0); 6];
    let uniform = fleets(&jobs, &kinds, 2, &Rules::default());
    let found = smallest(&jobs, &kinds, &uniform, &Rules::default()).unwrap();
    assert_eq!((found.counts, found.makespan), (vec![2; 6], 60));
}
