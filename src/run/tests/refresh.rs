//! Refresh epochs: who takes one, who reads it, and when it counts.

use super::*;

/// The plan where all is refreshed.
async fn refreshing(site: &Site) -> (crate::plan::Facts, Plan) {
    let (facts, _) = site.plan().await;
    let refresh = site.family.jobs().collect();
    let plan = Plan::new(&site.family, &facts, &Request { refresh, ..Request::default() });
    (facts, plan)
}

fn without_cache(steps: &[Step]) -> usize {
    count(steps, |step| matches!(step, Step::BuildBegins { no_cache: true, .. }))
}

#[tokio::test(start_paused = true)]
async fn a_refresh_builds_without_the_engines_cache_and_others_reuse_what_it_made() {
    let site = site("tests = [{ run = \"id\" }]\n", &[("a", "FROM scratch\n"), ("b", "FROM a\n")]).await;
    let (_, steps) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    assert_eq!((builds(&steps), without_cache(&steps)), (2, 0));
    let plan = refreshing(&site).await;
    let (ran, steps) = site.run(&plan, &[site.healthy(1)], PLAIN, std::future::pending()).await;
    assert_eq!((ran.unwrap().passed.len(), without_cache(&steps)), (2, 2));
    let (facts, plan) = site.plan().await;
    assert_eq!((plan.reused(), facts.epochs.into_values().collect::<Vec<_>>()), (2, vec![1, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_begins_no_epoch_and_leaves_what_stood() {
    let site = site("tests = [{ run = \"id\" }]\n", &[("a", "FROM scratch\n")]).await;
    let (before, _) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    for (act, look) in [(Act::FailStep, Look::Pass), (Act::Build(1), Look::Fail)] {
        let builder = site.scripted(1, Arc::new(move |_, _| act), Arc::new(move |_, _| look));
        let plan = refreshing(&site).await;
        let (ran, _) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
        assert_eq!(ran.unwrap().failed.len(), 1);
        let (facts, plan) = site.plan().await;
        assert_eq!((plan.reused(), facts.epochs.len()), (1, 0), "{act:?} {look:?}");
        let Decision::Reuse(passed) = &plan.jobs[&plan.order[0]].decision else { panic!("not reused") };
        assert_eq!(passed.image, before.passed[&plan.order[0]].image);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_refreshed_once_and_then_stands() {
    let site = site("fresh-for = \"1h\"\n", &[("a", "FROM scratch\n"), ("b", "FROM a\n")]).await;
    once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    let later = async |seconds: u64| {
        let (mut facts, _) = site.plan().await;
        facts.now_seconds = Some(seconds);
        let plan = Plan::new(&site.family, &facts, &Request::default());
        (facts, plan)
    };
    assert_eq!(later(3_600).await.1.reused(), 2);
    let plan = later(3_700).await;
    assert_eq!(plan.1.to_build(), 2);
    let (ran, steps) = site.run(&plan, &[site.healthy(1)], PLAIN, std::future::pending()).await;
    assert_eq!((ran.unwrap().passed.len(), without_cache(&steps)), (2, 2));
    // The clock of the run stands at its beginning, so that what it made is of then.
    assert_eq!(later(3_600).await.1.reused(), 2, "by the numbers that it wrote");
}
