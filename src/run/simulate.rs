//! Seeded simulation: random families, engines that fail, stall, lie and vanish, and what must hold of every run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::fixture::{Absence, Act, Builds, Look, Looks, PLAIN, Script, Site, Step};
use super::invariants::{MOST_BEGINNINGS, Seen, agrees, records_of_failures, unlike_surroundings};
use super::{Builder, Options, Ran};
use crate::dice::{Dice, seeds};
use crate::event::{EventKind, Outcome};
use crate::family::{Barrier, Emulation};
use crate::oci::{Digest, Platform};
use crate::plan::{Decision, Plan};

/// How many families are tried; `POLYARCH_TEST_SEEDS` says another number.
const SEEDS: u64 = 300;
/// How many are tried of what does not hold, which the first few show.
const SEEDS_FOUND_OUT: u64 = 40;
/// Longer than any simulated run can take: a run that is not over by then never is.
const FOR_EVER: Duration = Duration::from_secs(10_000_000);

fn platforms(dice: &mut Dice) -> Vec<Platform> {
    let all = ["linux/amd64", "linux/arm64", "linux/s390x"];
    all[..=dice.below(3)].iter().map(|platform| platform.parse().unwrap()).collect()
}

/// Units that stand on those before them, and copy from others; some are twins, with the very same inputs.
fn dockerfiles(dice: &mut Dice) -> Vec<(String, String)> {
    let mut files = Vec::<(String, String)>::new();
    for unit in 0..=dice.below(25) {
        let text = match unit {
            0 => "FROM base.example/base:1\n".to_owned(),
            _ if dice.percent(10) => files[dice.below(unit)].1.clone(),
            _ => {
                let base = match dice.below(10) {
                    0 => "scratch".to_owned(),
                    1 => "base.example/base:1".to_owned(),
                    _ => format!("u{}", dice.below(unit)),
                };
                let mut text = format!("FROM {base}\nRUN make u{unit}\n");
                for _ in 0..dice.below(3) {
                    text.push_str(&format!("COPY --from=u{} /out /in\n", dice.below(unit)));
                }
                text
            }
        };
        files.push((format!("u{unit}/Dockerfile"), text));
    }
    files
}

fn configuration(dice: &mut Dice, platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(|platform| format!("{:?}", platform.to_string())).collect();
    let tests = if dice.percent(70) { "tests = [{ run = \"id\" }, { run = \"ls\" }]\n" } else { "" };
    let barrier = if dice.percent(15) { "barrier = true\n" } else { "" };
    let own = if dice.percent(15) {
        format!("[image.u0]\nbarrier = {}\n", barrier.is_empty())
    } else {
        String::new()
    };
    format!("platforms = [{}]\n{tests}{barrier}{own}", names.join(", "))
}

/// What an engine does with a build, settled by the seed, the job and the try alone.
fn builds(seed: u64, trouble: u64) -> Builds {
    Arc::new(move |job, attempt| {
        let text = format!("{seed} {job} {attempt}");
        let mut dice = Dice(u64::from_str_radix(&Digest::of(text.as_bytes()).hex()[..16], 16).unwrap());
        let seconds = dice.next() % 50 + 1;
        match dice.next() % 100 {
            chance if chance >= trouble => Act::Build(seconds),
            chance => match chance % 10 {
                0 | 1 => Act::FailStep,
                2..=5 => Act::FailPassingly,
                6 => Act::Stall,
                7 => Act::OtherPlatform,
                8 if seconds > 40 => Act::Hang,
                8 => Act::NoImage,
                _ => Act::OtherImage,
            },
        }
    })
}

fn looks(seed: u64, trouble: u64) -> Looks {
    Arc::new(move |job, command| {
        let text = format!("{seed} {job} {command}");
        let mut dice = Dice(u64::from_str_radix(&Digest::of(text.as_bytes()).hex()[..16], 16).unwrap());
        match dice.next() % 100 {
            chance if chance >= trouble => Look::Pass,
            chance => [Look::Fail, Look::Fail, Look::Break, Look::Hang][(chance % 4) as usize],
        }
    })
}

/// A disk that is full every other minute.
fn little_by_little(age: Duration) -> u64 {
    if (age.as_secs() / 60).is_multiple_of(2) { 1 << 30 } else { 0 }
}

/// A disk on which there is never any room.
const STAYS_FULL: fn(Duration) -> u64 = |_| 0;

/// One to four builders, each native to something, that between them may lack a platform.
fn builders(dice: &mut Dice, site: &Site, platforms: &[Platform], seed: u64) -> Vec<Builder> {
    let trouble = [0, 0, 10, 30][dice.below(4)];
    let count = dice.below(4) + 1;
    let make = |at: usize| {
        let chosen = |dice: &mut Dice| platforms.iter().filter(|_| dice.percent(60)).collect::<Vec<_>>();
        let mut native = chosen(dice);
        if at == 0 && dice.percent(90) {
            native = platforms.iter().collect();
        }
        let emulated: Vec<&Platform> = chosen(dice).into_iter().filter(|one| !native.contains(one)).collect();
        let absence = dice.percent(25).then(|| {
            let from = Duration::from_secs(dice.next() % 200);
            let until = dice.percent(50).then(|| from + Duration::from_secs(dice.next() % 300));
            Absence { from, until, is_silent: dice.percent(50) }
        });
        let slots = dice.below(3) + 1;
        let (mut builds, looks) = (builds(seed, trouble), looks(seed, trouble / 3));
        let free = match dice.below(15) {
            0..=2 => Some(little_by_little as fn(Duration) -> u64),
            3 => Some(STAYS_FULL),
            4 => {
                // Nobody sees how much there is, and each build finds that out.
                builds = Arc::new(|_, _| Act::FillDisk);
                None
            }
            _ => None,
        };
        // F-N5: that it is lost may be said late, or twice.
        let rumours = if dice.percent(20) { dice.below(3) } else { 0 };
        let script = Script { builds, looks, absence, free, rumours, ..Script::healthy() };
        site.builder(&format!("builder-{at}"), &native, &emulated, slots, script)
    };
    (0..count).map(make).collect()
}

fn assert_none(seed: u64, run: &str, found: &[String]) {
    assert!(found.is_empty(), "seed {seed}, {run} run:\n{}", found.join("\n"));
}

/// Carry a plan out, and hold what was seen against everything that must hold.
async fn watched(
    seed: u64,
    name: &str,
    site: &Site,
    plan: &(crate::plan::Facts, Plan),
    builders: &[Builder],
    options: Options,
    stop: Option<Duration>,
) -> Option<(Ran, Vec<Step>)> {
    let stopping = async {
        match stop {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    let running = tokio::time::timeout(FOR_EVER, site.run(plan, builders, options, stopping)).await;
    let Ok((ran, steps)) = running else { panic!("seed {seed}, {name} run: it never ends") };
    let lacks = plan.1.jobs.iter().any(|(job, planned)| {
        let fits = |builder: &Builder| builder.fit(&job.platform, planned.terms.emulation).is_some();
        !matches!(planned.decision, Decision::Reuse(_)) && !builders.iter().any(fits)
    });
    let Ok(ran) = ran else {
        assert!(lacks && steps.is_empty(), "seed {seed}, {name} run: refused for no reason");
        return None;
    };
    assert!(!lacks, "seed {seed}, {name} run: F-G15, a platform has no builder");
    let (family, plan) = (&site.family, &plan.1);
    let seen = Seen { family, plan, builders, options, stopped: stop.is_some(), steps: &steps };
    assert_none(seed, name, &seen.violations());
    assert_none(seed, name, &agrees(&ran, &seen));
    assert_none(seed, name, &unlike_surroundings(&ran));
    Some((ran, steps))
}

fn built(steps: &[Step]) -> BTreeSet<&str> {
    let builds = steps.iter().filter_map(|step| match step {
        Step::BuildBegins { job, .. } => Some(job.as_str()),
        _ => None,
    });
    builds.collect()
}

/// The jobs whose images stand after a run.
fn kept(steps: &[Step]) -> BTreeSet<&str> {
    let kept = steps.iter().filter_map(|step| match step {
        Step::Event(EventKind::JobKept { job, .. }) => Some(job.as_str()),
        _ => None,
    });
    kept.collect()
}

/// A run with trouble, then one without, then one with nothing to do; how the jobs of the first ended.
async fn simulate(seed: u64) -> [usize; 8] {
    let mut dice = Dice(seed);
    let platforms = platforms(&mut dice);
    let (config, files) = (configuration(&mut dice, &platforms), dockerfiles(&mut dice));
    let site = Site::new(Some(&config), &files, &platforms).await;
    let builders = builders(&mut dice, &site, &platforms, seed);
    let emulation = if dice.percent(50) { Emulation::Allowed } else { Emulation::Refused };
    let barrier = if dice.percent(15) { Barrier::Everywhere } else { Barrier::Said };
    let options = Options { fail_fast: dice.percent(15), barrier, ..PLAIN };
    let stop = dice.percent(25).then(|| Duration::from_millis(dice.next() % 300_000));

    let plan = site.plan_where(emulation).await;
    let first = watched(seed, "first", &site, &plan, &builders, options, stop).await;
    let (ran, troubled) = first.unwrap_or_default();
    let planned = site.plan_where(emulation).await;
    assert_none(seed, "first", &records_of_failures(&ran, &planned.1));
    let healthy = [site.healthy(dice.below(3) + 1)];
    let (again, second) = watched(seed, "second", &site, &planned, &healthy, PLAIN, None).await.unwrap();
    let twice: Vec<_> = built(&second).intersection(&kept(&troubled)).map(ToString::to_string).collect();
    assert_none(seed, "second: built although their images stood", &twice);
    assert_eq!(again.passed.len(), planned.1.order.len(), "seed {seed}: healthy engines pass everything");
    for (job, passed) in &ran.passed {
        // Of two units with the same inputs the record names either.
        let (then, now) = (&passed.image.image, &again.passed[job].image.image);
        assert_eq!(then, now, "seed {seed}: {job} had passed, and is another now");
    }

    let (facts, third) = site.plan_where(emulation).await;
    assert_eq!(third.reused(), third.order.len(), "seed {seed}: nothing is left to do");
    let (_, steps) = watched(seed, "third", &site, &(facts, third), &[], PLAIN, None).await.unwrap();
    assert!(built(&steps).is_empty());
    let events = |is_meant: fn(&EventKind) -> bool| {
        let is_meant = |step: &&Step| matches!(step, Step::Event(event) if is_meant(event));
        troubled.iter().filter(is_meant).count()
    };
    [
        ran.passed.len(),
        ran.failed.len(),
        ran.skipped.len(),
        ran.cancelled.len(),
        usize::from(stop.is_some()),
        events(|event| matches!(event, EventKind::BuilderLost { .. })),
        events(|event| matches!(event, EventKind::BuilderReturned { .. })),
        events(|event| matches!(event, EventKind::JobMoved { .. })),
    ]
}

fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

#[test]
fn f_n5_i_b_runs_hold_their_invariants_whatever_engines_do() {
    let sum = |totals: [usize; 8], counts: [usize; 8]| std::array::from_fn(|at| totals[at] + counts[at]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let totals = std::thread::scope(|scope| {
        let part = |first| {
            let seeds = (0..seeds(SEEDS)).skip(first).step_by(threads);
            seeds.map(|seed| in_virtual_time(simulate(seed))).fold([0; 8], sum)
        };
        let parts: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        parts.into_iter().map(|part| part.join().expect("every seed holds")).fold([0; 8], sum)
    });
    // The simulation has tried every way to end, many times.
    assert!(
        totals.iter().all(|total| *total > 20),
        "passed, failed, skipped, cancelled, stopped, builders lost and returned, jobs moved: {totals:?}"
    );
}

/// I-B2, I-B8: runs that keep no barrier, held against one everywhere.
#[test]
fn i_b2_i_b8_a_run_that_passes_over_barriers_is_found_out() {
    let mut found = Vec::new();
    in_virtual_time(async {
        for seed in 0..SEEDS_FOUND_OUT {
            let mut dice = Dice(seed);
            let platforms = platforms(&mut dice);
            let (config, files) = (configuration(&mut dice, &platforms), dockerfiles(&mut dice));
            let site = Site::new(Some(&config), &files, &platforms).await;
            let builders = builders(&mut dice, &site, &platforms, seed);
            let plan = site.plan_where(Emulation::Allowed).await;
            let (ran, steps) = site.run(&plan, &builders, PLAIN, std::future::pending()).await;
            if ran.is_err() {
                continue;
            }
            let violations = |barrier| {
                let (family, plan, builders) = (&site.family, &plan.1, &builders[..]);
                let options = Options { barrier, ..PLAIN };
                Seen { family, plan, builders, options, stopped: false, steps: &steps }.violations()
            };
            assert_none(seed, "whole", &violations(Barrier::Said));
            found.extend(violations(Barrier::Everywhere));
        }
    });
    for told in ["had passed", "is not skipped"] {
        assert!(found.iter().any(|violation| violation.contains(told)), "{told}: {found:#?}");
    }
}

/// A log of a small run, as the invariants see it: `b` on `a`, and `c` of the same inputs as `a`.
mod planted {
    use super::*;

    const IMAGE: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn job(name: &str) -> String {
        format!("{name}@linux/amd64")
    }

    fn started(name: &str, builder: &str) -> Step {
        let builder = builder.to_owned();
        Step::Event(EventKind::JobStarted {
            job: job(name),
            builder,
            emulated: false,
            checks_only: false,
            cost: None,
        })
    }

    fn ended(name: &str, outcome: Outcome) -> Step {
        Step::Event(EventKind::JobEnded { job: job(name), outcome, milliseconds: 1, engine_milliseconds: 1 })
    }

    fn passed(name: &str) -> Step {
        ended(name, Outcome::Built { image: IMAGE.to_owned() })
    }

    fn failed(name: &str) -> Step {
        ended(name, Outcome::Failed { reason: "a step".to_owned(), log: None, image: None, waiting: None })
    }

    fn skipped(name: &str, because: &str) -> Step {
        ended(name, Outcome::Skipped { because: job(because) })
    }

    fn begins(name: &str) -> Step {
        Step::BuildBegins {
            engine: "one".to_owned(),
            job: job(name),
            dockerfile: String::new(),
            images_stand: true,
            no_cache: false,
        }
    }

    fn ends(name: &str) -> Step {
        Step::BuildEnds { engine: "one".to_owned(), job: job(name) }
    }

    fn kept(name: &str) -> Step {
        let (image, config) = (IMAGE.to_owned(), IMAGE.to_owned());
        Step::Event(EventKind::JobKept { job: job(name), image, config, bytes: 1, layers: Vec::new() })
    }

    fn stray(name: &str) -> Step {
        Step::BuildBegins {
            engine: "one".to_owned(),
            job: job(name),
            dockerfile: String::new(),
            images_stand: false,
            no_cache: false,
        }
    }

    /// The first violation of a log.
    fn check(steps: &[Step], expected: &str) {
        let amd64: Platform = "linux/amd64".parse().unwrap();
        let files = [("a", "FROM scratch\n"), ("b", "FROM a\n"), ("c", "FROM scratch\n")];
        let files = files.map(|(name, text)| (format!("{name}/Dockerfile"), text.to_owned()));
        in_virtual_time(async {
            let site = Site::new(None, &files, std::slice::from_ref(&amd64)).await;
            let (_, plan) = site.plan_where(Emulation::Allowed).await;
            let native = site.builder("one", &[&amd64], &[], 1, Script::healthy());
            let emulating = site.builder("two", &[], &[&amd64], 1, Script::healthy());
            let builders = [native, emulating];
            let (options, family) = (PLAIN, &site.family);
            let seen = Seen { family, plan: &plan, builders: &builders, options, stopped: false, steps };
            let found = seen.violations();
            assert_eq!(found.first().map_or("", String::as_str), expected, "{found:#?}");
        });
    }

    fn gone(builder: &str) -> Step {
        Step::Event(EventKind::BuilderLost { builder: builder.to_owned(), reason: "silence".to_owned() })
    }

    #[test]
    fn every_planted_fault_is_seen() {
        let all = |middle: &[Step]| {
            let end = [passed("b"), started("c", "one"), passed("c")];
            [&[started("a", "one"), passed("a"), started("b", "one")], middle, &end].concat()
        };
        check(&all(&[]), "");
        check(&all(&[passed("c")]), "c@linux/amd64 ended 2 times");
        check(&[passed("a"), passed("b")], "c@linux/amd64 ended 0 times");
        check(
            &[started("b", "one"), passed("b"), passed("a"), passed("c")],
            "b@linux/amd64 started before a@linux/amd64 had passed",
        );
        check(
            &all(&[stray("b"), ends("b")]),
            "b@linux/amd64 is built from an image that is not in the store",
        );
        check(
            &all(&[begins("a"), begins("c"), ends("c"), ends("a")]),
            "c@linux/amd64 is built while its key is being built",
        );
        check(
            &[started("a", "one"), started("c", "one"), passed("a"), passed("c"), passed("b")],
            "one has 2 jobs",
        );
        check(&all(&[begins("a"), begins("b")]), "one has 2 builds");
        check(&all(&[kept("b"), kept("b")]), "b@linux/amd64 is kept although an image stands under its key");
        check(
            &[started("a", "two"), passed("a"), passed("b"), passed("c")],
            "a@linux/amd64 is on two: Some(Emulated), where the best is Some(Native)",
        );
        check(
            &[gone("one"), started("a", "one"), passed("a"), passed("b"), passed("c")],
            "a@linux/amd64 begins on one, which is lost",
        );
        check(
            &[failed("a"), passed("c"), passed("b")],
            "b@linux/amd64 is not skipped: Some(Built { image: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\" })",
        );
        check(
            &[failed("a"), skipped("b", "a"), skipped("c", "a")],
            "c@linux/amd64 is skipped because of a@linux/amd64, which is no failure above it",
        );
        check(
            &[passed("a"), passed("b"), ended("c", Outcome::Cancelled)],
            "c@linux/amd64 is cancelled for no reason",
        );
        let reason = "no builder is left for c@linux/amd64".to_owned();
        let given_up = ended("c", Outcome::Failed { reason, log: None, image: None, waiting: None });
        check(
            &[gone("one"), passed("a"), passed("b"), given_up.clone()],
            "c@linux/amd64 fails, and two is there",
        );
        check(&[gone("one"), gone("two"), passed("a"), passed("b"), given_up], "");
        let mut for_ever = vec![started("c", "one"); MOST_BEGINNINGS + 1];
        for_ever.extend([passed("a"), passed("b"), passed("c")]);
        check(&for_ever, "c@linux/amd64 begins 9 times on one");
    }

    #[test]
    fn i_b2_a_child_that_starts_before_all_platforms_of_a_joined_parent_is_seen() {
        let platforms = ["linux/amd64", "linux/arm64"].map(|name| name.parse::<Platform>().unwrap());
        let files = [("a", "FROM scratch\n"), ("b", "FROM a\n")];
        let files = files.map(|(name, text)| (format!("{name}/Dockerfile"), text.to_owned()));
        let event = |step: Step, platform: &str| match step {
            Step::Event(EventKind::JobStarted { job, builder, emulated, checks_only, cost }) => {
                let job = job.replace("linux/amd64", platform);
                Step::Event(EventKind::JobStarted { job, builder, emulated, checks_only, cost })
            }
            Step::Event(EventKind::JobEnded { job, outcome, milliseconds, engine_milliseconds }) => {
                let job = job.replace("linux/amd64", platform);
                Step::Event(EventKind::JobEnded { job, outcome, milliseconds, engine_milliseconds })
            }
            other => other,
        };
        let arm64 = |step| event(step, "linux/arm64");
        let steps = [
            [started("a", "one"), passed("a"), started("b", "one"), passed("b")],
            [started("a", "one"), passed("a"), started("b", "one"), passed("b")].map(arm64),
        ]
        .concat();
        in_virtual_time(async {
            for (config, barrier, expected) in [
                ("", Barrier::Said, None),
                ("", Barrier::Everywhere, Some("b@linux/amd64 started before a@linux/arm64 had passed")),
                (
                    "barrier = true\n",
                    Barrier::Said,
                    Some("b@linux/amd64 started before a@linux/arm64 had passed"),
                ),
                ("[image.b]\nbarrier = true\n", Barrier::Said, None),
            ] {
                let config = format!("platforms = [\"linux/amd64\", \"linux/arm64\"]\n{config}");
                let site = Site::new(Some(&config), &files, &platforms).await;
                let (_, plan) = site.plan_where(Emulation::Allowed).await;
                let builders =
                    [site.builder("one", &[&platforms[0], &platforms[1]], &[], 1, Script::healthy())];
                let (options, family) = (Options { barrier, ..PLAIN }, &site.family);
                let seen =
                    Seen { family, plan: &plan, builders: &builders, options, stopped: false, steps: &steps };
                let found = seen.violations();
                assert_eq!(found.first().map(String::as_str), expected, "{config}: {found:#?}");
            }
        });
    }

    #[test]
    fn i_b4_a_record_of_what_has_not_passed_is_seen() {
        let amd64: Platform = "linux/amd64".parse().unwrap();
        let files = [("a", "FROM scratch\n"), ("b", "FROM a\n"), ("c", "FROM scratch\n")];
        let files = files.map(|(name, text)| (format!("{name}/Dockerfile"), text.to_owned()));
        in_virtual_time(async {
            let site = Site::new(None, &files, std::slice::from_ref(&amd64)).await;
            let plan = site.plan_where(Emulation::Allowed).await;
            let (ran, _) = site.run(&plan, &[site.healthy(1)], PLAIN, std::future::pending()).await;
            let mut ran = ran.unwrap();
            let (_, next) = site.plan_where(Emulation::Allowed).await;
            assert_eq!(records_of_failures(&ran, &next), [""; 0]);
            let named = |name: &str| job(name).parse::<crate::family::JobId>().unwrap();
            for name in ["a", "b"] {
                ran.passed.remove(&named(name));
            }
            ran.failed.insert(named("a"), crate::diag::Diagnostic::surroundings("planted"));
            ran.cancelled.insert(named("b"));
            // `c` is of the same inputs as `a`, so that its record stands for both.
            assert_eq!(records_of_failures(&ran, &next), ["b@linux/amd64 had not passed, and is reused"]);
            ran.passed.clear();
            let found = records_of_failures(&ran, &next);
            assert_eq!(found[0], "a@linux/amd64 had not passed, and is reused");
            assert_eq!(found.len(), 2);
        });
    }
}
