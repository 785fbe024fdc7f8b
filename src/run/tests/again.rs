//! Builds that are tried once more without the cache, and jobs that cannot be built and stop nothing.

use super::*;
use crate::diag::Diagnostic;

/// The retries that were told, and whether without the cache.
fn retries(steps: &[Step]) -> Vec<bool> {
    let told = steps.iter().filter_map(|step| match step {
        Step::Event(EventKind::JobRetried { without_cache, .. }) => Some(*without_cache),
        _ => None,
    });
    told.collect()
}

/// What is asked for, what the engine does; how often it builds, the retries, and whether it passes.
type Case<'a> = (&'a str, Act, Options, usize, &'a [bool], bool);

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_is_tried_once_without_the_cache_where_that_was_asked_for() {
    let asked = "[image.a]\nretry-without-cache = true\n";
    let afresh = Options { no_cache: true, ..PLAIN };
    let table: [Case<'_>; 7] = [
        (asked, Act::FailCached, PLAIN, 2, &[true], true),
        ("", Act::FailCached, PLAIN, 1, &[], false),
        (asked, Act::FailStep, PLAIN, 2, &[true], false),
        (asked, Act::FailCached, afresh, 1, &[], true),
        (asked, Act::FailStep, afresh, 1, &[], false),
        (asked, Act::FailPassingly, PLAIN, 3, &[false, false], false),
        (asked, Act::Stall, PLAIN, 1, &[], false),
    ];
    for (config, act, options, times, told, passes) in table {
        let site = site(config, &[("a", "FROM scratch\n")]).await;
        let (ran, steps) = once(&site, 1, act, Look::Pass, options).await;
        assert_eq!(builds(&steps), times, "{act:?} {options:?}");
        assert_eq!(retries(&steps), told, "{act:?} {options:?}");
        assert_eq!(ran.failed.is_empty(), passes, "{act:?} {options:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s4_28_a_job_that_cannot_be_built_fails_alone() {
    let config = "[image.b]\ndownstream = true\n";
    let table = [("a", "FROM scratch\n"), ("b", "FROM a\n"), ("c", "FROM a\n")];
    let site = site(config, &table).await;
    let builder = site.healthy(1);
    let plan = site.plan().await;
    let job: crate::family::JobId =
        plan.1.order.iter().find(|job| job.to_string().starts_with("b@")).unwrap().clone();
    let unfit = [(job.clone(), Diagnostic::request("base image nowhere is unknown"))].into();
    let (ran, steps) = site.run_without(unfit, &plan, &[builder], PLAIN, std::future::pending()).await;
    let ran = ran.unwrap();
    assert_eq!(ran.failed.keys().collect::<Vec<_>>(), [&job]);
    assert_eq!((ran.passed.len(), builds(&steps)), (2, 2));
    assert!(ran.problems(&site.family).is_empty());
    assert_eq!(ran.warnings(&site.family)[0].causes, ["base image nowhere is unknown"]);
}

#[tokio::test(start_paused = true)]
async fn s4_32_a_platform_that_one_image_gains_leaves_all_others_as_they_are() {
    let two: Vec<Platform> = ["linux/amd64", "linux/arm64"].map(|text| text.parse().unwrap()).into();
    let three: Vec<Platform> = { two.iter().cloned() }.chain(["linux/arm/v7".parse().unwrap()]).collect();
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let gains =
        "[image.alone]\nplatforms = [\"linux/amd64\", \"linux/arm64\", \"linux/arm/v7\"]\n".to_owned();
    let table =
        files(&[("root", "FROM scratch\n"), ("leaf", "FROM root\n"), ("alone", "FROM scratch\nLABEL a=b\n")]);
    let store = Arc::new(crate::oci::Memory::new());
    let site = |config: &str| Site::over(Some(config), &table, store.clone(), store.clone());
    let before = site(config);
    let builders =
        |site: &Site| [site.builder("all", &three.iter().collect::<Vec<_>>(), &[], 2, Script::healthy())];
    let plan = before.plan().await;
    let (ran, _) = before.run(&plan, &builders(&before), PLAIN, std::future::pending()).await;
    let made = ran.unwrap().passed;
    assert_eq!(made.len(), 6);

    let after = site(&(config.to_owned() + &gains));
    let plan = after.plan().await;
    let (ran, steps) = after.run(&plan, &builders(&after), PLAIN, std::future::pending()).await;
    let built = steps.iter().filter_map(|step| match step {
        Step::BuildBegins { job, .. } => Some(&**job),
        _ => None,
    });
    assert_eq!(built.collect::<Vec<_>>(), ["alone@linux/arm/v7"]);
    let now = ran.unwrap().passed;
    assert_eq!(now.len(), 7);
    for (job, passed) in &made {
        assert_eq!(now[job].image, passed.image, "{job}: its key and its record");
        assert_eq!(plan.1.jobs[job].key, passed.image.key, "{job}");
    }
}
