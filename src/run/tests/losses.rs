//! Builders that are lost: who waits for them, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{amd64, files};
use crate::engine::{ImageStore, Room};
use crate::event::EventKind;
use crate::family::{Barrier, Emulation};
use crate::oci::Platform;
use crate::run::builder::{Builder, free_some};
use crate::run::fixture::{Absence, Act, PLAIN, SEEN_GONE, Script, Site, Step, push};
use crate::run::losses::{PATIENCE, TIMES_LOST};
use crate::run::{Options, Ran};

#[tokio::test(start_paused = true)]
async fn f_g9_a_job_that_gets_ready_after_its_only_builder_was_lost_fails_and_is_not_forgotten() {
    let both: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let table = files(&[("a", "FROM scratch\n"), ("b", "FROM a\n")]);
    let site = Site::new(Some(config), &table, &both).await;
    let gone = Absence { from: Duration::from_secs(5), until: None, is_silent: true };
    let arm = Script { absence: Some(gone), ..Script::healthy() };
    let slow = Script { builds: Arc::new(|_, _| Act::Build(60)), ..Script::healthy() };
    let builders =
        [site.builder("amd", &[&both[0]], &[], 1, slow), site.builder("arm", &[&both[1]], &[], 1, arm)];
    let plan = site.plan().await;
    // `b` waits for `a` on amd64, and its builder is lost meanwhile.
    let options = Options { barrier: Barrier::Everywhere, ..PLAIN };
    let (ran, _) = site.run(&plan, &builders, options, std::future::pending()).await;
    let ran = ran.unwrap();
    assert_eq!((ran.passed.len(), ran.cancelled.len()), (3, 0));
    let (job, problem) = ran.failed.first_key_value().expect("one has failed");
    assert_eq!(job.to_string(), "b@linux/arm64");
    assert_eq!(problem.message, "no builder is left for b@linux/arm64");
}

#[tokio::test(start_paused = true)]
async fn f_g9_a_run_that_fails_fast_does_not_wait_for_a_builder_that_is_lost() {
    let both: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let site = Site::new(Some(config), &files(&[("a", "FROM scratch\n")]), &both).await;
    let gone = Absence { from: Duration::from_secs(1), until: None, is_silent: true };
    let arm = Script { absence: Some(gone), ..Script::healthy() };
    let failing = Script { builds: Arc::new(|_, _| Act::FailStep), ..Script::healthy() };
    let builders =
        [site.builder("amd", &[&both[0]], &[], 1, failing), site.builder("arm", &[&both[1]], &[], 1, arm)];
    let plan = site.plan().await;
    let begun = tokio::time::Instant::now();
    let options = Options { fail_fast: true, ..PLAIN };
    let (ran, _) = site.run(&plan, &builders, options, std::future::pending()).await;
    let ran = ran.unwrap();
    assert_eq!((ran.failed.len(), ran.cancelled.len()), (1, 1), "the other platform is not tried again");
    assert!(begun.elapsed() < PATIENCE, "nobody waits for what will not begin: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn f_g3_a_step_that_fails_since_its_engine_was_killed_is_no_failure_of_the_step() {
    let site = Site::new(None, &files(&[("a", "FROM scratch\n")]), &[amd64()]).await;
    let killed =
        Absence { from: Duration::from_secs(1), until: Some(Duration::from_secs(30)), is_silent: false };
    let builds = |_: &str, attempt: usize| if attempt == 1 { Act::FailStep } else { Act::Build(1) };
    let script = Script { builds: Arc::new(builds), absence: Some(killed), ..Script::healthy() };
    let builder = site.builder("one", &[&amd64()], &[], 1, script);
    let plan = site.plan().await;
    let (ran, steps) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), 1, "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn f_g6_a_job_that_was_emulated_goes_to_a_native_builder_that_has_come_back() {
    let site = Site::new(None, &files(&[("a", "FROM scratch\n")]), &[amd64()]).await;
    let from = Duration::from_secs(1);
    // It is back before the other, which takes two seconds, has run out of memory.
    let away = Absence { from, until: Some(from + SEEN_GONE + from), is_silent: true };
    let native = Script { absence: Some(away), ..Script::healthy() };
    let emulating = Script { builds: Arc::new(|_: &str, _| Act::KillStep), ..Script::healthy() };
    let builders = [
        site.builder("native", &[&amd64()], &[], 1, native),
        site.builder("emulating", &[], &[&amd64()], 1, emulating),
    ];
    let plan = site.plan_where(Emulation::Allowed).await;
    let (ran, steps) = site.run(&plan, &builders, PLAIN, std::future::pending()).await;
    let passed = ran.unwrap().passed.into_values().next().expect("it has passed");
    let begun = steps.iter().filter_map(|step| match step {
        Step::Event(EventKind::JobStarted { builder, .. }) => Some(&**builder),
        _ => None,
    });
    assert_eq!(begun.collect::<Vec<_>>(), ["native", "emulating", "native"]);
    assert_eq!(passed.image.builder, "native");
}

/// Who had each job, and why each left, of a run on a builder whose disk is full for a while and on another; and how long
/// it took.
async fn on_a_full_disk(free: fn(Duration) -> u64, other: Option<Script>) -> (Ran, Vec<String>, Duration) {
    let site = Site::new(None, &files(&[("a", "FROM scratch\n")]), &[amd64()]).await;
    let script = Script { free: Some(free), ..Script::healthy() };
    let mut builders = vec![site.builder("full", &[&amd64()], &[], 2, script)];
    builders.extend(other.map(|other| site.builder("other", &[&amd64()], &[], 1, other)));
    let begun = tokio::time::Instant::now();
    let (ran, steps) = site.run(&site.plan().await, &builders, PLAIN, std::future::pending()).await;
    let told = steps.into_iter().filter_map(|step| match step {
        Step::Event(EventKind::JobStarted { builder, .. }) => Some(builder),
        Step::Event(EventKind::JobMoved { reason, .. }) => Some(reason),
        _ => None,
    });
    (ran.unwrap(), told.collect(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn f_g13_a_job_that_does_not_fit_goes_elsewhere_or_waits_and_says_so() {
    let why = "a@linux/amd64 wants 64.0 MB, and there is 1.0 kB free";
    let (ran, told, _) = on_a_full_disk(|_| 1_000, Some(Script::healthy())).await;
    assert_eq!((ran.passed.len(), told), (1, ["full", why, "other"].map(str::to_owned).to_vec()));
    let freed = |age: Duration| if age.as_secs() < 42 { 1_000 } else { 1_000_000_000 };
    let (ran, told, took) = on_a_full_disk(freed, None).await;
    assert_eq!((ran.passed.len(), told), (1, ["full", why, "full"].map(str::to_owned).to_vec()));
    assert!((45..55).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn i_b6_what_fails_on_the_only_builder_with_room_is_not_begun_there_again() {
    // Now and then the other disk seems to have room.
    let in_turn: fn(Duration) -> u64 = |age| if age.as_secs() % 2 == 0 { 1_000 } else { 2_000_000_000 };
    for free in [|_| 1_000, in_turn] {
        let other = Script { builds: Arc::new(|_: &str, _| Act::KillStep), ..Script::healthy() };
        let (ran, told, _) = on_a_full_disk(free, Some(other)).await;
        let begun = told.iter().filter(|said| *said == "other").count();
        assert!(ran.failed.len() == 1 && (1..=3).contains(&begun), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f_g13_what_was_free_some_seconds_ago_counts_only_where_it_was_plenty() {
    let little: fn(Duration) -> u64 = |age| if age.is_zero() { 500_000_000 } else { 1_000 };
    let plenty: fn(Duration) -> u64 = |age| if age.is_zero() { 2_000_000_000 } else { 1_000 };
    for (free, begins) in [(little, "other"), (plenty, "full")] {
        let site = Site::new(None, &files(&[("a", "FROM scratch\n")]), &[amd64()]).await;
        let script = Script { free: Some(free), ..Script::healthy() };
        let full = site.builder("full", &[&amd64()], &[], 2, script);
        let builders = [full, site.builder("other", &[&amd64()], &[], 1, Script::healthy())];
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (_, steps) = site.run(&site.plan().await, &builders, PLAIN, std::future::pending()).await;
        let built = steps.iter().find_map(|step| match step {
            Step::BuildBegins { engine, .. } => Some(&**engine),
            _ => None,
        });
        assert_eq!(built, Some(begins));
    }
}

#[tokio::test(start_paused = true)]
async fn f_g6_on_a_full_disk_what_is_ours_is_freed_and_the_build_tried_once_more() {
    let little: fn(Duration) -> u64 = |_| 100_000_000;
    let plenty: fn(Duration) -> u64 = |_| 50_000_000_000;
    let ours = &["an image"][..];
    for (full, ours, free, tries, passed) in [
        (1, ours, None, 2, 1),
        (1, ours, Some(little), 2, 1),
        (1, ours, Some(plenty), 1, 0),
        (9, ours, None, 2, 0),
        (9, &[][..], None, 1, 0),
    ] {
        let site = Site::new(None, &files(&[("a", "FROM scratch\n")]), &[amd64()]).await;
        let builds = move |_: &str, attempt| if attempt <= full { Act::FillDisk } else { Act::Build(1) };
        let script = Script { builds: Arc::new(builds), ours, free, ..Script::healthy() };
        let builder = site.builder("one", &[&amd64()], &[], 1, script);
        let (ran, steps) = site.run(&site.plan().await, &[builder], PLAIN, std::future::pending()).await;
        let begun = steps.iter().filter(|step| matches!(step, Step::BuildBegins { .. })).count();
        let ran = ran.unwrap();
        assert_eq!((begun, ran.passed.len()), (tries, passed), "{steps:?}");
        assert!(ran.failed.values().all(|problem| problem.kind.exit_code() == 3));
        let told = "no space left on device; freed: an image";
        let is_told =
            |step: &Step| matches!(step, Step::Event(EventKind::JobRetried { reason, .. }) if reason == told);
        assert_eq!(steps.iter().filter(|step| is_told(step)).count(), tries - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn f_g13_a_job_that_never_fits_fails_and_says_which_disk_is_full() {
    let (ran, _, took) = on_a_full_disk(|_| 1_000, None).await;
    let problem = ran.failed.into_values().next().expect("it has failed");
    assert_eq!(problem.message, "no builder is left for a@linux/amd64");
    assert_eq!(problem.causes, ["builder full has 1.0 kB free"]);
    assert_eq!(
        (problem.kind.exit_code(), problem.hints.contains(&free_some(ImageStore::Classic).to_owned())),
        (3, true)
    );
    assert_eq!(took.as_secs(), PATIENCE.as_secs());
}

/// How a run ends whose only builder that had room at its beginning is lost, and when.
async fn beside_a_lost_one(free: fn(Duration) -> u64) -> (Ran, Duration) {
    let site = Site::new(None, &files(&[("a", "FROM scratch\n")]), &[amd64()]).await;
    let gone = Absence { from: Duration::from_secs(1), until: None, is_silent: true };
    let full = site.builder("full", &[&amd64()], &[], 1, Script { free: Some(free), ..Script::healthy() });
    let gone = Script { absence: Some(gone), ..Script::healthy() };
    let builders = [
        Builder { room: Some(Room::given(free(Duration::ZERO))), ..full },
        site.builder("gone", &[&amd64()], &[], 1, gone),
    ];
    let begun = tokio::time::Instant::now();
    let (ran, _) = site.run(&site.plan().await, &builders, PLAIN, std::future::pending()).await;
    (ran.unwrap(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn f_g13_a_job_that_never_began_on_a_full_builder_waits_for_room_there_too() {
    let freed: fn(Duration) -> u64 = |age| if age.as_secs() < 42 { 1_000 } else { 1_000_000_000 };
    let (ran, took) = beside_a_lost_one(freed).await;
    assert_eq!(ran.passed.len(), 1, "{:?}", ran.failed);
    assert!((45..55).contains(&took.as_secs()), "{took:?}");

    let (ran, took) = beside_a_lost_one(|_| 1_000).await;
    assert_eq!(took, Duration::from_secs(1) + SEEN_GONE + PATIENCE);
    let problem = ran.failed.into_values().next().expect("it has failed");
    assert_eq!(problem.message, "no builder is left for a@linux/amd64");
    assert!(problem.causes.contains(&"builder full has 1.0 kB free".to_owned()), "{:?}", problem.causes);
}

#[tokio::test(start_paused = true)]
async fn f_g10_i_b7_what_a_lost_builder_says_later_is_not_used_and_told_of() {
    let site = Site::new(None, &files(&[("a", "FROM scratch\n")]), &[amd64()]).await;
    let gone = Absence { from: Duration::from_secs(1), until: None, is_silent: true };
    let slow = Script { builds: Arc::new(|_, _| Act::Build(60)), ..Script::healthy() };
    let builders = [
        site.builder("gone", &[&amd64()], &[], 1, Script { absence: Some(gone), ..Script::healthy() }),
        site.builder("other", &[&amd64()], &[], 1, slow),
    ];
    let plan = site.plan().await;
    let records = &site.records;
    let late = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        let tag = "build-r1-b-1-1-1".parse().expect("the tag of the first try");
        push(&*records.store, &records.scope, &amd64(), "a", "late", Some(&tag)).await;
        std::future::pending().await
    };
    let (ran, steps) = site.run(&plan, &builders, PLAIN, late).await;
    let passed = ran.unwrap().passed.into_values().next().expect("it has passed");
    assert_eq!(passed.image.builder, "other");
    let count = |which: fn(&EventKind) -> bool| {
        steps.iter().filter(|step| matches!(step, Step::Event(event) if which(event))).count()
    };
    assert_eq!(count(|event| matches!(event, EventKind::JobKept { .. })), 1, "I-B7: one accepted result");
    let is_told =
        |event: &EventKind| matches!(event, EventKind::LateResult { builder, .. } if builder == "gone");
    assert_eq!(count(is_told), 1, "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn f_g3_a_build_that_brings_its_engine_down_is_given_up_and_not_begun_for_ever() {
    let table = files(&[("a", "FROM scratch\n"), ("b", "FROM scratch\nRUN b\n")]);
    let site = Site::new(None, &table, &[amd64()]).await;
    let builds = |job: &str, _| if job.starts_with("a@") { Act::BringDown(6) } else { Act::Build(1) };
    let script = Script { builds: Arc::new(builds), ..Script::healthy() };
    let builder = site.builder("one", &[&amd64()], &[], 1, script);
    let plan = site.plan().await;
    // A run that goes on for ever is stopped, and cancels.
    let stop = tokio::time::sleep(PATIENCE * 10);
    let (ran, steps) = site.run(&plan, &[builder], PLAIN, stop).await;
    let ran = ran.unwrap();
    assert_eq!((ran.passed.len(), ran.failed.len(), ran.cancelled.len()), (1, 1, 0), "{steps:?}");
    let begun = |step: &&Step| matches!(step, Step::Event(EventKind::JobStarted { job, .. }) if job.starts_with("a@"));
    assert_eq!(steps.iter().filter(begun).count(), TIMES_LOST);
    let problem = &ran.failed.values().next().expect("it has failed");
    let why = "a@linux/amd64 is given up: its builder was lost 3 times while it was built";
    assert_eq!((problem.message.as_str(), problem.kind.exit_code()), (why, 3));
}

#[tokio::test(start_paused = true)]
async fn f_g9_each_job_waits_its_own_time_and_names_the_builder_that_it_waited_for() {
    let both: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let site = Site::new(Some(config), &files(&[("a", "FROM scratch\n")]), &both).await;
    let gone = |after| {
        let absence = Absence { from: Duration::from_secs(after), until: None, is_silent: true };
        let builds = Arc::new(|_: &str, _| Act::Build(300));
        Script { builds, absence: Some(absence), ..Script::healthy() }
    };
    let builders = [
        site.builder("amd", &[&both[0]], &[], 1, gone(1)),
        site.builder("arm", &[&both[1]], &[], 1, gone(100)),
    ];
    let plan = site.plan().await;
    let begun = tokio::time::Instant::now();
    let (ran, _) = site.run(&plan, &builders, PLAIN, std::future::pending()).await;
    let took = begun.elapsed();
    let waited = Duration::from_secs(100) + SEEN_GONE + PATIENCE;
    assert!(took >= waited, "the job that was stranded last has waited too: {took:?} of {waited:?}");
    for (job, problem) in ran.unwrap().failed {
        let wanted = if job.platform == both[0] { "builder amd" } else { "builder arm" };
        assert_eq!(problem.message, format!("no builder is left for {job}"));
        assert!(problem.causes.iter().all(|cause| cause.contains(wanted)), "{job}: {:?}", problem.causes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_a_job_has_found_is_not_found_once_more_when_the_builder_is_back() {
    let site = Site::new(None, &files(&[("a", "FROM scratch\n"), ("b", "FROM a\n")]), &[amd64()]).await;
    let builds = |job: &str, attempt| match attempt {
        1 if job.starts_with("a@") => Act::BringDown(6),
        _ => Act::Build(30),
    };
    let watches = Arc::new(AtomicUsize::new(0));
    let script = Script { builds: Arc::new(builds), watches: watches.clone(), ..Script::healthy() };
    let builder = site.builder("one", &[&amd64()], &[], 1, script);
    let plan = site.plan().await;
    let most = Arc::new(AtomicUsize::new(0));
    let (ran, steps) = {
        let seen = async {
            loop {
                most.fetch_max(watches.load(Ordering::Relaxed), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        site.run(&plan, &[builder], PLAIN, seen).await
    };
    assert_eq!(ran.unwrap().passed.len(), 2, "{steps:?}");
    assert_eq!(most.load(Ordering::Relaxed), 1, "watches of the loss of one builder at the same time");
}
