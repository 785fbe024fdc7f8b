//! What a dry run says, held against what is then done.

use super::*;
use crate::family::Divergence;
use crate::oci::watched::{Failure, Watched};
use crate::oci::{Memory, Store};
use crate::publish::fixture::{AMD, ARM, Fixture, SCOPE, homes, publisher};
use crate::publish::{Homes, Release, Source, units};

/// A base and what stands on it, at one state of their sources.
async fn family(state: &str) -> Fixture {
    let mut fixture = Fixture::new(Divergence::Withhold);
    fixture.state = state.to_owned();
    let made = [(AMD, Some("v1")), (ARM, Some("v1"))];
    fixture.image("base", None, &made).await.image("leaf", Some("base"), &made).await
}

fn towards(store: &dyn Store) -> Target<'_> {
    Target { store, fresh: store, registry: "r.io" }
}

async fn prepared(fixture: &Fixture, releases: Vec<Release>, homes: &Homes) -> Vec<Publication> {
    let scope: Repository = SCOPE.parse().expect("scope");
    let source = Source { store: &fixture.store, repository: &scope, home: None };
    Publication::prepare_each(releases, homes, &source).await.expect("publications")
}

/// What a dry run says to a store that is never written.
async fn said(
    fixture: &Fixture,
    store: &Watched<Memory>,
    by: &Publisher<'_>,
) -> (String, Count, Count, Option<u8>) {
    let release = fixture.assemble().expect("release");
    let publications = prepared(fixture, vec![release], &homes()).await;
    let preview = publications[0].preview(towards(store), by, &[]).await.expect("a look");
    assert_eq!(store.writes(), Vec::<String>::new());
    let code = preview.refused.as_ref().map(Problems::exit_code);
    (format!("{}{}", preview.content(), preview.moves()), preview.there(), preview.to_do(), code)
}

fn lines<'t>(text: &'t str, begin: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.starts_with(begin)).collect()
}

#[tokio::test]
async fn what_is_said_to_be_done_is_done_and_then_nothing_is_left() {
    let fixture = family("1").await;
    let target = Memory::new();
    let (text, there, to_do, _) = said(&fixture, &Watched::new(target.clone()), &publisher(1)).await;
    assert_eq!(there, Count::default());
    assert_eq!((to_do.manifests, to_do.indexes, to_do.tags), (4, 2, 12), "{text}");
    assert_eq!(lines(&text, "blob").len(), to_do.blobs + to_do.mounts);
    assert_eq!(lines(&text, "journal"), ["journal   o/base:polyarch-publications"]);
    assert!(lines(&text, "tag").iter().all(|line| line.ends_with(", which is new")), "{text}");

    fixture.publish(&target).await.expect("published");
    let (text, there, left, code) = said(&fixture, &Watched::new(target.clone()), &publisher(2)).await;
    assert_eq!((there, left, code), (to_do, Count::default(), None));
    // The journal says that they stand at the newer commit too.
    assert_eq!((lines(&text, "stays").len(), text.lines().count()), (12, 13), "{text}");

    let (text, there, to_do, _) = said(&family("2").await, &Watched::new(target), &publisher(2)).await;
    let expected = Count { blobs: to_do.blobs, bytes: to_do.bytes, mounts: to_do.mounts, ..left };
    assert_eq!(to_do, Count { manifests: 4, indexes: 2, tags: 12, ..expected });
    assert!(there.blobs > 0, "the configurations are the same: {text}");
    assert!(lines(&text, "tag").iter().all(|line| line.contains(", which is at sha256:")), "{text}");
}

#[tokio::test]
async fn i_p7_i_p4_what_would_be_refused_is_and_with_the_same_exit_code() {
    let target = Memory::new();
    family("1").await.publish_as(&target, &publisher(2)).await.expect("published");
    let mut other = family("2").await;
    let (text, _, _, code) = said(&other, &Watched::new(target.clone()), &publisher(1)).await;
    assert_eq!(code, Some(4), "an older one: {text}");
    assert_eq!(lines(&text, "tag").len(), 12, "what would be is said all the same");
    let mut let_back = publisher(1);
    let_back.allow_older = true;
    let (.., code) = said(&other, &Watched::new(target.clone()), &let_back).await;
    assert_eq!(code, None, "it is let");

    other.family.tags.immutable = vec!["v*".parse().expect("a pattern")];
    let (.., code) = said(&other, &Watched::new(target.clone()), &publisher(3)).await;
    assert_eq!(code, Some(4), "an immutable tag");
    let problems = other.publish_as(&target, &publisher(1)).await.expect_err("it is refused");
    assert_eq!(problems.exit_code(), 4);
}

#[tokio::test]
async fn a_publication_that_was_cut_off_is_said_to_be_completed_first() {
    let fixture = family("1").await;
    let mut first = false;
    for silent_from in 0..200 {
        let target = Memory::new();
        fixture.publish(&target).await.expect("published");
        let other = family("2").await;
        let cut = Watched::failing(target.clone(), silent_from, Failure::Before);
        if other.publish_as(&cut, &publisher(2)).await.is_ok() {
            break;
        }
        let watched = Watched::new(target.clone());
        let (text, ..) = said(&fixture, &watched, &publisher(3)).await;
        let told = lines(&text, "first");
        if told.is_empty() {
            continue;
        }
        first = true;
        assert_eq!(told, ["first     complete the publication p2, which was cut off"]);
        // Completed first, then all of them go back: twelve tags.
        let back = text.split_once("journal").expect("a journal").1;
        assert_eq!(lines(back, "tag").len(), 12, "{text}");
        // What only has to be completed is something to do all the same.
        let (text, there, to_do, _) = said(&other, &watched, &publisher(3)).await;
        assert_eq!((lines(&text, "tag").len(), to_do.tags + there.tags), (to_do.tags, 12), "{text}");
    }
    assert!(first, "none was left open");
}

#[tokio::test]
async fn parents_that_go_before_in_the_same_command_count_as_published() {
    let fixture = family("1").await;
    let all = units(fixture.assemble().expect("release"), crate::family::Together::Image);
    let names = ["base", "leaf"];
    let repositories = names.map(|name| (name.to_owned(), format!("o/{name}").parse().expect("name")));
    let publications = prepared(&fixture, all, &Homes::Each(repositories.into())).await;
    let target = Memory::new();
    let by = publisher(1);
    let alone = publications[1].preview(towards(&target), &by, &[]).await.expect("a look");
    assert_eq!(alone.refused.map(|problems| problems.exit_code()), Some(4));
    let after = publications[1].preview(towards(&target), &by, &publications[..1]).await.expect("a look");
    assert!(after.refused.is_none());
}

#[tokio::test]
async fn a_repository_that_nobody_may_look_at_is_taken_to_be_empty_and_named() {
    let fixture = family("1").await;
    let publications = prepared(&fixture, vec![fixture.assemble().expect("release")], &homes()).await;
    let store = Watched::failing(Memory::new(), 0, Failure::Denied);
    let preview = publications[0].preview(towards(&store), &publisher(1), &[]).await.expect("a look");
    let unseen: Vec<&str> = preview.unseen.iter().map(Repository::as_str).collect();
    assert_eq!((unseen, preview.to_do().tags), (vec!["o/base", "o/leaf"], 12));
}
