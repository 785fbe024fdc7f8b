//! Mounts of caches that are kept: what cannot be had in time, or at all, is a cold cache.

use std::collections::BTreeMap;

use super::*;
use crate::dockerfile::BuildPlatform;
use crate::record::Taken;
use crate::run::fixture::{BASE, push};
use crate::run::own_caches::OwnCaches;

const SETTINGS: &str = "cache-mounts = \"1GB\"\ncache-floor = \"1MB\"\n";

/// A family whose one job mounts a cache, something that is kept for it, and how long the job took before.
async fn cached(settings: &str) -> Site {
    let text = format!("FROM {BASE}\nRUN --mount=type=cache,id=uv,target=/x make\n");
    let site = site(settings, &[("a", &text)]).await;
    let job = site.family.jobs().next().unwrap();
    let own = OwnCaches::new(&site.records.scope, None, "family", &amd64(), 0, String::new());
    let tag = own.in_store("uv").own;
    let (store, scope) = (&*site.records.store, &site.records.scope);
    push(store, scope, &amd64(), "kept", "what is in it", Some(&tag)).await;
    let taken =
        Taken { builder: "healthy".into(), emulated: false, checks_only: false, milliseconds: vec![5_000] };
    site.records.remember(vec![(job, taken)], &[], 0).await.unwrap();
    site
}

/// Run it where our own builds take so long; why caches were done without, and for how long the whole went on.
async fn dropped(site: &Site, own: Act) -> (Vec<String>, u64) {
    let acts = move |title: &str, _| if title.starts_with("a cache of") { own } else { Act::Build(1) };
    let builder = site.scripted(1, Arc::new(acts), Arc::new(|_, _| Look::Pass));
    let (plan, begun) = (site.plan().await, tokio::time::Instant::now());
    let (ran, steps) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), 1, "a cache is never needed");
    let reasons = steps.into_iter().filter_map(|step| match step {
        Step::Event(EventKind::CacheDropped { cache, reason, .. }) => Some(format!("{cache}: {reason}")),
        _ => None,
    });
    (reasons.collect(), begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn s3_25_a_cache_that_is_slower_than_its_floor_is_done_without_once_building_were_quicker() {
    let (reasons, seconds) = dropped(&cached(SETTINGS).await, Act::Hang).await;
    assert!(
        reasons[0]
            .starts_with("uv: it is done without, since it is slow: 13 bytes were not here after 5.0 s"),
        "{reasons:?}"
    );
    // What is to be kept afterwards hangs as well, and ends by its own limit.
    assert!(seconds > 5 && reasons.len() == 2, "{seconds} {reasons:?}");
    let (reasons, seconds) = dropped(&cached(SETTINGS).await, Act::Build(4)).await;
    assert!(!reasons.concat().contains("slow") && seconds < 20, "{reasons:?}");
    let no_floor = SETTINGS.lines().next().unwrap();
    let (reasons, seconds) = dropped(&cached(no_floor).await, Act::Build(60)).await;
    assert!(
        !reasons.concat().contains("slow") && seconds > 60,
        "without a floor it is waited for: {reasons:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_fails_while_a_cache_is_moved_fails_no_job() {
    for act in [Act::FailStep, Act::FailPassingly, Act::OtherPlatform, Act::NoImage] {
        let (reasons, _) = dropped(&cached(SETTINGS).await, act).await;
        assert_eq!(reasons.len(), 2, "{act:?} {reasons:?}");
        assert!(reasons.iter().all(|reason| reason.starts_with("uv: ")), "{reasons:?}");
    }
    let tags = kept(&cached("").await).await;
    assert_eq!(dropped(&cached("").await, Act::FailStep).await.0, Vec::<String>::new(), "nothing is moved");
    assert_eq!(tags.len(), 1);
}

#[test]
fn caches_that_another_build_can_mount_are_known() {
    let text = "FROM a AS one\nRUN --mount=type=cache,id=x,target=/x,uid=7,sharing=locked make\n\
        RUN --mount=type=cache,target=/y,uid=$U make\nRUN --mount=type=cache,target=/z,from=other make\n\
        FROM scratch AS none\nRUN --mount=type=cache,target=/n make\n\
        FROM a AS unused\nRUN --mount=type=cache,target=/u make\n\
        FROM b\nRUN --mount=type=cache,target=rel make\nRUN --mount=type=cache,id=x,target=/other make\nCOPY --from=one /a /b\n";
    let file = crate::dockerfile::Dockerfile::parse("D".as_ref(), text).unwrap();
    let (args, platform) = (BTreeMap::new(), BuildPlatform::from(&amd64()));
    let request = crate::dockerfile::Request { target: None, args: &args, platform: &platform };
    let found = file.cache_mounts(&request).unwrap();
    let told = |one: &crate::dockerfile::CacheMount| {
        format!(
            "{} {:?} {} on {} {}",
            one.written,
            one.target,
            one.options.join(" "),
            one.stands_on,
            one.in_target
        )
    };
    let told: Vec<String> = found.iter().map(told).collect();
    assert_eq!(told, ["x Some(\"/x\") uid=7 sharing=locked on a false", "rel None  on b true"]);
}
