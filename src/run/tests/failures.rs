//! What is remembered of failures.

use super::*;
use crate::diag::Kind;
use crate::oci::{Error, ErrorKind};

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
