//! What ends in a store that is at a registry.

use std::sync::Arc;

use super::far::{elsewhere, machine, run, whole};
use crate::oci::{Document, ImageIndex, Memory, Store as _};
use crate::record::{CacheName, Fit, RunTime};

#[tokio::test(start_paused = true)]
async fn a_scope_ends_as_a_whole_and_the_trusted_one_by_age_alone() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let own = Arc::new(Memory::new());
    let trusted = machine(&own, shared.clone(), &elsewhere, "trusted", "1");
    run(&trusted).await;
    let before = whole(&shared, "owner/cache/scopes/trusted").await;
    let pull = machine(&own, shared.clone(), &elsewhere, "pr-1", "2");
    run(&pull).await;

    let ending = trusted.records.all_of(&"pr-1".parse().unwrap()).await.unwrap();
    assert_eq!(ending.len(), 2, "in the folder and at the registry");
    for ending in &ending {
        assert_eq!(ending.images.len(), 1, "{ending:?}");
        trusted.records.end(ending, false).await.unwrap();
        trusted.records.end(ending, false).await.expect("what is gone is passed over");
    }
    assert!(whole(&shared, "owner/cache/scopes/pr-1").await.is_empty());
    assert!(whole(&own, "scopes/pr-1").await.is_empty());
    assert_eq!(whole(&shared, "owner/cache/scopes/trusted").await, before);

    assert_eq!(trusted.records.outdated(0, u64::MAX).await.unwrap(), None, "nothing is that old");
    let all = trusted.records.outdated(u64::MAX, u64::MAX).await.unwrap().expect("all is older");
    assert_eq!(all.images.len(), 3);
    trusted.records.end(&all, false).await.unwrap();
    let left = whole(&shared, "owner/cache/scopes/trusted").await;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["durations"], "what is no record stays");
    let fresh = machine(&Arc::new(Memory::new()), shared, &elsewhere, "trusted", "1");
    assert_eq!(run(&fresh).await, (3, 3), "I-T3: it costs time, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn f_s14_scopes_that_were_left_end_by_age_and_the_trusted_one_never() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let own = Arc::new(Memory::new());
    let trusted = machine(&own, shared.clone(), &elsewhere, "trusted", "1");
    run(&trusted).await;
    let all_of = async |scope: &str| {
        let here = whole(&own, &format!("scopes/{scope}")).await;
        (here, whole(&shared, &format!("owner/cache/scopes/{scope}")).await)
    };
    let before = all_of("trusted").await;
    run(&machine(&own, shared.clone(), &elsewhere, "pr-1", "2")).await;
    run(&machine(&own, shared.clone(), &elsewhere, "pr-2", "3")).await;
    // What the registry has of this one is younger than what the folder has.
    let elsewhere_built = machine(&Arc::new(Memory::new()), shared.clone(), &elsewhere, "pr-2", "3");
    run(&elsewhere_built).await;
    let leaf = elsewhere_built.records.newest(&"b@linux/amd64".parse().unwrap()).await.unwrap().unwrap();
    let later = crate::record::ImageRecord { built_at_seconds: 1 << 40, ..leaf };
    elsewhere_built.records.bring(&later.image).await.unwrap();
    elsewhere_built.records.keep_image(&later).await.unwrap();
    // One has nothing with a time, and one is no scope.
    let index = Document::of_index(&ImageIndex::new(Vec::new()));
    for name in ["owner/cache/scopes/pr-3", "owner/cache/scopes/a/b", "owner/cache/scopes-of-others"] {
        shared.write_document(&name.parse().unwrap(), &index, &["durations".parse().unwrap()]).await.unwrap();
    }
    let young = all_of("pr-2").await;

    let idle = trusted.records.idle(0, u64::MAX).await.unwrap();
    assert_eq!(idle.endings, [], "nothing is that old");
    let idle = trusted.records.idle(1 << 39, u64::MAX).await.unwrap();
    assert_eq!(idle.ageless, ["pr-3".parse().unwrap()]);
    let ended: Vec<_> = idle.endings.iter().map(|ending| ending.repository.as_str()).collect();
    assert_eq!(ended, ["scopes/pr-1", "owner/cache/scopes/pr-1"]);
    for ending in &idle.endings {
        trusted.records.end(ending, false).await.unwrap();
    }
    assert_eq!(all_of("pr-1").await, Default::default());
    assert_eq!((all_of("pr-2").await, all_of("trusted").await), (young, before));
    assert_eq!(
        trusted.records.idle(u64::MAX, u64::MAX).await.unwrap().endings.len(),
        2,
        "pr-2, whenever it was built"
    );
}

#[tokio::test(start_paused = true)]
async fn i_s4_what_somebody_works_with_and_what_has_moved_since_stays() {
    let own = Arc::new(Memory::new());
    let pull = machine(&own, Arc::new(Memory::new()), &elsewhere().await, "pr-1", "2");
    run(&pull).await;
    let scope = "scopes/pr-1".parse().unwrap();
    let ending = pull.records.all_of(&"pr-1".parse().unwrap()).await.unwrap();
    let folder = ending.iter().find(|ending| ending.repository == scope).expect("in the folder");
    let image = folder.images.keys().next().expect("an image").clone();
    let stands = async || own.read_document(&scope, &image.clone().into()).await.is_ok();
    // Somebody has moved a tag since.
    let moved = folder.tags.keys().next().expect("a tag").clone();
    let other = own.read_document(&scope, &image.clone().into()).await.unwrap();
    own.write_document(&scope, &other, std::slice::from_ref(&moved)).await.unwrap();
    pull.records.end(folder, false).await.unwrap();
    let left: Vec<_> = whole(&own, "scopes/pr-1").await.into_keys().collect();
    assert_eq!((left, stands().await), (vec![moved.to_string()], true), "it has moved");

    let again = pull.records.all_of(&"pr-1".parse().unwrap()).await.unwrap();
    let folder = again.iter().find(|ending| ending.repository == scope).expect("in the folder");
    pull.records.end(folder, true).await.unwrap();
    assert!(whole(&own, "scopes/pr-1").await.is_empty(), "its tags are gone");
    assert!(stands().await, "a run that has found it goes on with it");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_ends_from_the_oldest_and_never_between_a_parent_and_its_child() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let own = Arc::new(Memory::new());
    let trusted = machine(&own, shared.clone(), &elsewhere, "trusted", "1");
    run(&trusted).await;
    let newest = async |job: &str| trusted.records.newest(&job.parse().unwrap()).await.unwrap().unwrap();
    let (parent, leaf) = (newest("a@linux/amd64").await, newest("b@linux/amd64").await);
    let later = crate::record::ImageRecord { built_at_seconds: 1 << 40, ..leaf.clone() };
    trusted.records.keep_image(&later).await.unwrap();
    let fitting = async |limit, since| {
        trusted.records.fitting(limit, since, u64::MAX).await.unwrap().expect("a registry")
    };

    assert_eq!(fitting(u64::MAX, u64::MAX).await, Fit::AsItIs);
    assert!(matches!(fitting(1, 0).await, Fit::TooMuch(None, _)), "nothing is older than the grace time");
    let Fit::TooMuch(Some(all), stay) = fitting(1, u64::MAX).await else {
        panic!("the list of durations stays")
    };
    assert_eq!(all.images.len(), 3);
    // All but what the youngest stands on, and not a byte less than that.
    let Fit::TooMuch(Some(old), least) = fitting(stay, 1 << 39).await else { panic!("the youngest stays") };
    let Fit::Ends(ending) = fitting(least, 1 << 39).await else { panic!("that fits") };
    assert_eq!(ending, old);
    assert!(!ending.images.contains_key(&leaf.image) && !ending.images.contains_key(&parent.image));
    assert_eq!(ending.images.len(), 1);
    trusted.records.end(&ending, false).await.unwrap();
    whole(&shared, "owner/cache/scopes/trusted").await;
    assert_eq!(fitting(least, u64::MAX).await, Fit::AsItIs, "it has so many bytes now");
    let fresh = machine(&Arc::new(Memory::new()), shared, &elsewhere, "trusted", "1");
    assert_eq!(run(&fresh).await, (3, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_of_mounts_ends_by_age_too() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let trusted = machine(&Arc::new(Memory::new()), shared.clone(), &elsewhere, "trusted", "1");
    run(&trusted).await;
    let image = trusted.records.newest(&"a@linux/amd64".parse().unwrap()).await.unwrap().unwrap().image;
    let (store, scope) = (&trusted.records.store, &trusted.records.scope);
    let cache = store.read_document(scope, &image.into()).await.unwrap();
    let named = |name: &str| CacheName::new("mount", name, None);
    for (name, at_seconds) in [("old", 1 << 40), ("young", 1 << 42)] {
        let time = RunTime { began_seconds: at_seconds, now_seconds: at_seconds };
        trusted.records.keep_cache(&named(name), &cache, time).await.unwrap();
    }
    let ending = trusted.records.outdated(1 << 41, u64::MAX).await.unwrap().expect("one is older");
    assert!(ending.tags.contains_key(&named("old").own) && !ending.tags.contains_key(&named("young").own));
    trusted.records.end(&ending, false).await.unwrap();
    assert!(trusted.records.cache(&named("young")).await.unwrap().is_some());
    let wrong =
        trusted.records.outdated(1 << 39, 1 << 41).await.unwrap().expect("it is not of that time yet");
    assert!(wrong.tags.contains_key(&named("young").own), "F-S13: a clock was ahead");
}

#[tokio::test(start_paused = true)]
async fn what_something_younger_stands_on_does_not_end() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let own = Arc::new(Memory::new());
    let trusted = machine(&own, shared.clone(), &elsewhere, "trusted", "1");
    run(&trusted).await;
    let record = |job: &str| {
        let job = job.parse().unwrap();
        let records = trusted.records.clone();
        async move { records.newest(&job).await.unwrap().unwrap() }
    };
    let parent = record("a@linux/amd64").await;
    let leaf = record("b@linux/amd64").await;
    let later = crate::record::ImageRecord { built_at_seconds: 1 << 40, ..leaf.clone() };
    trusted.records.keep_image(&later).await.unwrap();
    let ending = trusted.records.outdated(1 << 39, u64::MAX).await.unwrap().expect("the other leaf is older");
    assert!(!ending.images.contains_key(&leaf.image) && !ending.images.contains_key(&parent.image));
    assert_eq!(ending.images.len(), 1);
    trusted.records.end(&ending, false).await.unwrap();
    whole(&shared, "owner/cache/scopes/trusted").await;
    let fresh = machine(&Arc::new(Memory::new()), shared, &elsewhere, "trusted", "1");
    assert_eq!(run(&fresh).await, (3, 1), "the other leaf is built again");
}
