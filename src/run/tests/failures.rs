//! What is remembered of failures.

use super::*;
use crate::diag::Kind;
use crate::family::JobId;
use crate::oci::{Error, ErrorKind};
use crate::plan::Facts;

/// The jobs in the order in which their builds began.
fn begun(steps: &[Step]) -> Vec<&str> {
    let begun = steps.iter().filter_map(|step| match step {
        Step::BuildBegins { job, .. } => job.split('@').next(),
        _ => None,
    });
    begun.collect()
}

#[tokio::test(start_paused = true)]
async fn an_image_that_fails_again_and_again_goes_last_until_it_passes_and_keeps_its_key() {
    let table = [("a", "FROM scratch\nRUN a\n"), ("b", "FROM scratch\nRUN b\n"), ("c", "FROM b\n")];
    let site = site("", &table).await;
    let run = async |broken: &'static str| {
        let act = move |job: &str, _| if job.starts_with(broken) { Act::FailStep } else { Act::Build(1) };
        let builder = site.scripted(1, Arc::new(act), Arc::new(|_, _| Look::Pass));
        let (facts, _) = site.plan().await;
        let plan = Plan::new(&site.family, &facts, &Request { no_reuse: true, ..Request::default() });
        let keys: Vec<Digest> = plan.jobs.values().map(|planned| planned.key.clone()).collect();
        let plan = (facts, plan);
        let (_, steps) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
        (begun(&steps).join(" "), keys)
    };
    let (first, keys) = run("b").await;
    assert_eq!(first, "b a", "the longest path goes first");
    assert_eq!(run("b").await.0, "b a");
    let third = run("b").await;
    assert_eq!(third, ("a b".to_owned(), keys), "after two failures what passes goes first");
    assert_eq!(run("-").await.0, "a b c");
    assert_eq!(run("-").await.0, "b a c", "it has passed");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_not_tried_and_counts_as_failed_with_all_that_stands_on_it() {
    let table = [("a", "FROM scratch\nRUN a\n"), ("b", "FROM scratch\nRUN b\n"), ("c", "FROM b\n")];
    let mut site = site("", &table).await;
    let hours = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
    let now_hours = hours.clone();
    let now = move || now_hours.load(std::sync::atomic::Ordering::Relaxed) * 3_600;
    let clock = now.clone();
    site.clock = Some(Arc::new(move || clock() * 1_000));
    let run = async |broken: &'static str, options| {
        let act = move |job: &str, _| if job.starts_with(broken) { Act::FailStep } else { Act::Build(1) };
        let builder = site.scripted(1, Arc::new(act), Arc::new(|_, _| Look::Pass));
        let (facts, _) = site.plan().await;
        let waits = crate::plan::waits(&site.family, &facts, now());
        let plan = Plan::new(&site.family, &facts, &Request { waits, no_reuse: true, ..Request::default() });
        let (ran, steps) = site.run(&(facts, plan), &[builder], options, std::future::pending()).await;
        let names = |jobs: Vec<&JobId>| jobs.iter().map(|job| job.unit.to_string()).collect::<String>();
        let ran = ran.unwrap();
        let kinds: Vec<Kind> = ran.failed.values().map(|problem| problem.kind).collect();
        assert!(kinds.iter().all(|kind| kind.exit_code() == 1), "{kinds:?}");
        let ended = (
            names(ran.passed.keys().collect()),
            names(ran.failed.keys().collect()),
            names(ran.skipped.keys().collect()),
        );
        let ended = [ended.0, ended.1, ended.2];
        (begun(&steps).join(" "), ended.join("/"))
    };
    let is = |begun: &str, ended: &str| (begun.to_owned(), ended.to_owned());
    assert_eq!(run("b", PLAIN).await, is("b a", "a/b/c"));
    assert_eq!(run("b", PLAIN).await, is("b a", "a/b/c"), "once is a mishap");
    let later = |by| hours.fetch_add(by, std::sync::atomic::Ordering::Relaxed);
    // Nor does what waits stop others, whoever asked for that, and it is no failure more.
    let fast = Options { fail_fast: true, ..PLAIN };
    for options in [PLAIN, fast, PLAIN] {
        assert_eq!(run("-", options).await, is("a", "a/b/c"), "it waits, although it would pass");
    }
    later(13);
    assert_eq!(run("b", PLAIN).await, is("a b", "a/b/c"), "it is tried again, and last");
    later(13);
    assert_eq!(run("-", PLAIN).await, is("a", "a/b/c"), "longer than before");
    later(13);
    assert_eq!(run("-", PLAIN).await, is("a b c", "abc//"));
    assert_eq!(run("-", PLAIN).await, is("b a c", "abc//"), "it has passed");
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_a_barrier_for_what_waits_is_skipped() {
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let site = site(config, &[("a", "FROM scratch\n"), ("b", "FROM a\n")]).await;
    let (facts, _) = site.plan().await;
    let wait = crate::plan::Wait { failures: 2, since_seconds: 1, until_seconds: u64::MAX };
    let waits = std::collections::BTreeMap::from([("a@linux/arm64".parse().unwrap(), wait)]);
    let plan = (facts, Plan::new(&site.family, &Facts::default(), &Request { waits, ..Request::default() }));
    for (barrier, expected) in [(Barrier::Said, (2, 1, 1)), (Barrier::Everywhere, (1, 1, 2))] {
        let options = Options { barrier, ..PLAIN };
        let (ran, _) = site.run(&plan, &[site.healthy(1)], options, std::future::pending()).await;
        let ran = ran.unwrap();
        assert_eq!((ran.passed.len(), ran.failed.len(), ran.skipped.len()), expected, "{barrier:?}");
    }
    // Where nothing at all is left to do no builder is asked for.
    let only = Site::new(None, &files(&[("a", "FROM scratch\n")]), &[amd64()]).await;
    let (facts, _) = only.plan().await;
    let waits = std::collections::BTreeMap::from([("a@linux/amd64".parse().unwrap(), wait)]);
    let plan = Plan::new(&only.family, &facts, &Request { waits, ..Request::default() });
    assert!(plan.is_idle());
    let (ran, _) = only.run(&(facts, plan), &[], PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().failed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_on_our_side_fails_the_job_and_goes_to_no_other_builder() {
    let mut site = site("", &[("a", "FROM base.example/base:1\n"), ("b", "FROM scratch\n")]).await;
    let plan = site.plan().await;
    site.registries = Arc::new(|_: &str| Err(Error::new(ErrorKind::Passing, "its registry is down")));
    let builders = ["one", "two"].map(|name| site.builder(name, &[&amd64()], &[], 1, Script::healthy()));
    let (ran, steps) = site.run(&plan, &builders, PLAIN, std::future::pending()).await;
    let ran = ran.unwrap();
    assert_eq!((ran.passed.len(), ran.failed.len()), (1, 1));
    let problem = ran.failed.values().next().expect("it has failed");
    assert_eq!(problem.kind.exit_code(), 3, "{problem}");
    let moved = |step: &Step| matches!(step, Step::Event(EventKind::JobMoved { .. }));
    assert_eq!(count(&steps, moved), 0, "no builder is to blame: {steps:?}");
}

#[tokio::test(start_paused = true)]
async fn f_p6_a_panic_in_a_job_ends_that_job_alone() {
    let site = site("", &[("a", "FROM scratch\nRUN a\n"), ("b", "FROM scratch\n"), ("c", "FROM a\n")]).await;
    crate::diag::keep_panics(true);
    let act = |job: &str, _| if job.starts_with('a') { Act::Panic } else { Act::Build(5) };
    let builder = site.scripted(2, Arc::new(act), Arc::new(|_, _| Look::Pass));
    let plan = site.plan().await;
    let (ran, steps) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
    let ran = ran.unwrap();
    assert_eq!((ran.passed.len(), ran.failed.len(), ran.skipped.len()), (1, 1, 1), "{steps:?}");
    let problem = ran.failed.values().next().expect("it has failed");
    assert_eq!((problem.kind, problem.causes[0].as_str()), (Kind::Bug, "planted in a build"));
    assert!(problem.causes[1].starts_with("at src/run/fixture.rs:"), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn f_g12_what_a_clock_does_that_jumps_in_mid_run_is_in_no_length() {
    let mut site = site("tests = [{ run = \"id\" }]\n", &[("a", "FROM scratch\n")]).await;
    for step in [1_i64 << 40, -(1 << 40)] {
        let now = std::sync::atomic::AtomicI64::new(1 << 50);
        site.clock = Some(Arc::new(move || {
            u64::try_from(now.fetch_add(step, std::sync::atomic::Ordering::Relaxed)).expect("after 1970")
        }));
        let (facts, _) = site.plan().await;
        let plan = Plan::new(&site.family, &facts, &Request { no_reuse: true, ..Request::default() });
        let (ran, steps) = site.run(&(facts, plan), &[site.healthy(1)], PLAIN, std::future::pending()).await;
        let lengths = steps.iter().filter_map(|step| match step {
            Step::Event(
                EventKind::JobEnded { milliseconds, .. } | EventKind::CheckEnded { milliseconds, .. },
            ) => Some(*milliseconds),
            _ => None,
        });
        let passed = ran.unwrap().passed.into_values().next().expect("it has passed");
        let lengths: Vec<u64> = lengths.chain([passed.image.milliseconds]).collect();
        // The engine builds for three seconds and tests for one.
        assert_eq!(lengths.iter().map(|length| length / 1000).collect::<Vec<_>>(), [1, 4, 3]);
    }
}
