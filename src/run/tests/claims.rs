//! Several runs of one family at once over one folder (F-X1).

use super::*;
use crate::event::EventKind;
use crate::oci::{Claimed, Layout};
use crate::plan::Facts;

const TESTED: &str = "tests = [{ run = \"id\" }]\n";

/// A family whose runs claim what they build in this folder.
async fn shared(folder: &tempfile::TempDir, config: &str) -> Site {
    let mut site =
        site(config, &[("a", "FROM scratch\n"), ("b", "FROM a\n"), ("c", "FROM a\nENV C=1\n")]).await;
    site.claims = Some(Arc::new(Layout::open(folder.path().join("store")).unwrap()));
    site
}

fn reused(steps: &[Step]) -> usize {
    count(steps, |step| matches!(step, Step::Event(EventKind::JobReused { .. })))
}

fn awaited(steps: &[Step]) -> usize {
    count(steps, |step| matches!(step, Step::Event(EventKind::JobAwaits { .. })))
}

/// So many runs of a plan at once, and all that was seen of them together.
async fn at_once(site: &Site, plans: &[(Facts, Plan)], act: Act, look: Look) -> (Vec<Ran>, Vec<Step>) {
    let runs = plans.iter().map(async |plan| {
        let builder = site.scripted(3, Arc::new(move |_, _| act), Arc::new(move |_, _| look));
        site.run(plan, &[builder], PLAIN, std::future::pending()).await.0.unwrap()
    });
    let ran = futures_util::future::join_all(runs).await;
    let steps = site.log.lock().unwrap().clone();
    (ran, steps)
}

#[tokio::test(start_paused = true)]
async fn f_x1_each_key_is_built_and_checked_once_by_runs_that_go_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let site = shared(&folder, TESTED).await;
    let plans = [site.plan().await, site.plan().await, site.plan().await];
    let (ran, steps) = at_once(&site, &plans, Act::Build(9), Look::Pass).await;
    let ended = |one: &Ran| (one.passed.len(), one.failed.len());
    assert_eq!(ran.iter().map(ended).collect::<Vec<_>>(), [(3, 0); 3]);
    let checks = count(&steps, |step| matches!(step, Step::Event(EventKind::CheckEnded { .. })));
    assert_eq!((builds(&steps), checks, reused(&steps)), (3, 3, 6));
    assert_eq!(awaited(&steps), 6, "it is said who waits");
    for job in ran[0].passed.keys() {
        assert!(ran.iter().all(|one| one.passed[job] == ran[0].passed[job]), "{job} is one image for all");
    }
    assert_eq!(std::fs::read_dir(folder.path().join("store/claims")).unwrap().count(), 0, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn f_x1_where_the_other_run_fails_each_builds_for_itself_and_no_wait_is_in_a_length() {
    let folder = tempfile::tempdir().unwrap();
    let site = shared(&folder, "").await;
    let plans = [site.plan().await, site.plan().await];
    let (ran, steps) = at_once(&site, &plans, Act::FailStep, Look::Pass).await;
    assert!(ran.iter().all(|one| (one.failed.len(), one.skipped.len()) == (1, 2)));
    assert_eq!((builds(&steps), awaited(&steps)), (2, 1));
    let lengths = steps.iter().filter_map(|step| match step {
        Step::Event(EventKind::JobEnded { outcome: Outcome::Failed { .. }, milliseconds, .. }) => {
            Some(*milliseconds)
        }
        _ => None,
    });
    assert_eq!(lengths.map(|length| length / 1000).collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn f_x1_an_image_whose_checks_fail_in_one_run_is_checked_and_not_built_by_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let site = shared(&folder, TESTED).await;
    let plans = [site.plan().await, site.plan().await];
    let (ran, steps) = at_once(&site, &plans, Act::Build(3), Look::Fail).await;
    assert!(ran.iter().all(|one| one.failed.len() == 1));
    let checks = count(&steps, |step| matches!(step, Step::Event(EventKind::CheckEnded { .. })));
    assert_eq!((builds(&steps), checks), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn f_x1_what_is_asked_for_anew_waits_for_nobody_and_takes_nothing_over() {
    let folder = tempfile::tempdir().unwrap();
    let site = shared(&folder, TESTED).await;
    let anew = async || {
        let (facts, _) = site.plan().await;
        let plan = Plan::new(&site.family, &facts, &Request { no_reuse: true, ..Request::default() });
        (facts, plan)
    };
    let plans = [anew().await, anew().await];
    let (ran, steps) = at_once(&site, &plans, Act::Build(3), Look::Pass).await;
    assert!(ran.iter().all(|one| one.passed.len() == 3));
    assert_eq!((builds(&steps), reused(&steps), awaited(&steps)), (6, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn f_x1_a_run_that_is_stopped_stops_waiting_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let site = shared(&folder, TESTED).await;
    let plan = site.plan().await;
    let job = &plan.1.order[0];
    let name = format!("{} {}", site.records.scope, plan.1.jobs[job].key);
    let claims = site.claims.clone().unwrap();
    let claimed = claims.claim(&Digest::of(name.as_bytes()), "another").await.unwrap();
    assert!(matches!(claimed, Claimed::Ours(_)), "what a job claims is its key in its scope");
    let begun = tokio::time::Instant::now();
    let stop = tokio::time::sleep(std::time::Duration::from_secs(60));
    let (ran, steps) = site.run(&plan, &[site.healthy(3)], PLAIN, stop).await;
    let ran = ran.unwrap();
    assert_eq!((ran.cancelled.len(), builds(&steps), begun.elapsed().as_secs()), (3, 0, 60));
    let told = steps.iter().any(
        |step| matches!(step, Step::Event(EventKind::JobAwaits { run: Some(run), .. }) if run == "another"),
    );
    assert!(told, "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn f_x1_no_wait_is_longer_than_a_build_may_take() {
    let folder = tempfile::tempdir().unwrap();
    let site = shared(&folder, "[image.a]\ntime-limit = \"1m\"\n").await;
    let plan = site.plan().await;
    let planned = &plan.1.jobs[&plan.1.order[0]];
    let name = Digest::of(format!("{} {}", site.records.scope, planned.key).as_bytes());
    let _claimed = site.claims.clone().unwrap().claim(&name, "one that stands still").await.unwrap();
    let begun = tokio::time::Instant::now();
    let (ran, steps) = site.run(&plan, &[site.healthy(3)], PLAIN, std::future::pending()).await;
    assert_eq!((ran.unwrap().passed.len(), builds(&steps)), (3, 3));
    let limit = planned.terms.time_limit_seconds + crate::run::ENGINE_SLACK.as_secs();
    assert!((limit..limit + 60).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn f_x1_a_run_takes_over_what_another_has_built_since_its_plan_was_made() {
    // No folder that they share: the second look alone.
    let site = site(TESTED, &[("a", "FROM scratch\n"), ("b", "FROM a\n")]).await;
    let plan = site.plan().await;
    once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    let (ran, steps) = site.run(&plan, &[site.healthy(1)], PLAIN, std::future::pending()).await;
    assert_eq!((ran.unwrap().passed.len(), builds(&steps), reused(&steps)), (2, 0, 2));
}

/// Leave another text where a record is, which another run has made since a plan was.
async fn spoil(site: &Site, tag: &str) {
    let (store, scope) = (&site.records.store, &site.records.scope);
    let tag: crate::oci::Tag = tag.parse().unwrap();
    let document = store.read_document(scope, &tag.clone().into()).await.unwrap();
    let mut index = document.index().unwrap();
    index.annotations.values_mut().for_each(|text| *text = text[..text.len() / 2].to_owned());
    store.write_document(scope, &crate::oci::Document::of_index(&index), &[tag]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f_x1_f_s2_a_record_that_cannot_be_read_in_the_second_look_is_made_again() {
    let checks = |steps: &[Step]| {
        count(steps, |step| matches!(step, Step::Event(EventKind::CheckEnded { passed: true, .. })))
    };
    for (kind, built, checked) in [("image", 1, 1), ("checks", 0, 1)] {
        let site = site(TESTED, &[("a", "FROM scratch\n"), ("b", "FROM a\n")]).await;
        let plan = site.plan().await;
        let (ran, _) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
        let leaf = ran.passed.values().find(|passed| passed.image.job.starts_with("b@")).unwrap();
        let key = if kind == "image" { &leaf.image.key } else { &leaf.checks.key };
        spoil(&site, &format!("{kind}-{}", key.hex())).await;
        let (ran, steps) = site.run(&plan, &[site.healthy(1)], PLAIN, std::future::pending()).await;
        assert_eq!(
            (ran.unwrap().passed.len(), builds(&steps), checks(&steps)),
            (2, built, checked),
            "{kind}"
        );
        assert_eq!(reused(&steps), 1, "{kind}: what is left to do is done: {steps:?}");
        let (_, steps) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
        assert_eq!((builds(&steps), checks(&steps)), (0, 0), "{kind}: the record stands again");
    }
}

#[tokio::test(start_paused = true)]
async fn f_x1_f_s13_what_was_built_long_after_the_plan_is_not_from_the_future() {
    let mut site = site("fresh-for = \"48h\"\n", &[("a", "FROM scratch\n"), ("b", "FROM a\n")]).await;
    let (mut facts, _) = site.plan().await;
    facts.now_seconds = Some(1_000_000);
    let plan = Plan::new(&site.family, &facts, &Request::default());
    site.clock = Some(Arc::new(|| 1_003_600_000));
    once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    let (ran, steps) = site.run(&(facts, plan), &[site.healthy(1)], PLAIN, std::future::pending()).await;
    assert_eq!((ran.unwrap().passed.len(), builds(&steps), reused(&steps)), (2, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn f_x1_what_is_only_to_be_checked_is_checked_once_by_runs_that_go_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(TESTED, &[("a", "FROM scratch\n")]).await;
    once(&site, 1, Act::Build(1), Look::Fail, PLAIN).await;
    site.log.lock().unwrap().clear();
    site.claims = Some(Arc::new(Layout::open(folder.path().join("store")).unwrap()));
    let plans = [site.plan().await, site.plan().await, site.plan().await];
    assert!(plans.iter().all(|(_, plan)| plan.to_check() == 1));
    let (ran, steps) = at_once(&site, &plans, Act::Build(1), Look::Pass).await;
    assert!(ran.iter().all(|one| one.passed.len() == 1));
    let checks = count(&steps, |step| matches!(step, Step::Event(EventKind::CheckEnded { .. })));
    assert_eq!((builds(&steps), checks, reused(&steps)), (0, 1, 2));
    assert!(ran.iter().all(|one| one.passed == ran[0].passed));
}

#[tokio::test(start_paused = true)]
async fn f_x1_where_nothing_can_be_claimed_a_run_builds_as_if_it_were_alone() {
    let folder = tempfile::tempdir().unwrap();
    let site = shared(&folder, TESTED).await;
    let claims = folder.path().join("store/claims");
    let _ = std::fs::remove_dir(&claims);
    std::fs::write(&claims, "no folder").unwrap();
    assert!(site.claims.as_ref().unwrap().claim(&Digest::of(b"it"), "somebody").await.is_err());
    let plan = site.plan().await;
    let (ran, steps) = site.run(&plan, &[site.healthy(3)], PLAIN, std::future::pending()).await;
    assert_eq!((ran.unwrap().passed.len(), builds(&steps), awaited(&steps)), (3, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn f_x1_who_has_not_said_its_name_yet_is_given_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let site = shared(&folder, "").await;
    let plan = site.plan().await;
    let name = format!("{} {}", site.records.scope, plan.1.jobs[&plan.1.order[0]].key);
    let claims = site.claims.clone().unwrap();
    let nameless = claims.claim(&Digest::of(name.as_bytes()), "").await.unwrap();
    let letting_go = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        drop(nameless);
    };
    let builders = [site.healthy(3)];
    let run = site.run(&plan, &builders, PLAIN, std::future::pending());
    let ((ran, steps), ()) = futures_util::future::join(run, letting_go).await;
    assert_eq!((ran.unwrap().passed.len(), awaited(&steps)), (3, 0));
}
