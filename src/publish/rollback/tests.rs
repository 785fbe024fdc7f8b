//! Publications one after the other, and back.

use std::collections::BTreeMap;

use super::*;
use crate::family::{Divergence, Unit};
use crate::oci::watched::{Failure, Watched};
use crate::oci::{Digest, Memory, Store, Tag};
use crate::publish::fixture::{AMD, ARM, Fixture, homes, publisher};
use crate::publish::journal::RESERVED_TAG;

/// A base and what stands on it, at one state of their sources, with tags of that state beside `latest`.
async fn family(state: &str) -> Fixture {
    let mut fixture = Fixture::new(Divergence::Withhold);
    fixture.state = state.to_owned();
    let value = format!("v{state}");
    let made = [(AMD, Some(value.as_str())), (ARM, Some(value.as_str()))];
    fixture.image("base", None, &made).await.image("leaf", Some("base"), &made).await
}

fn towards(store: &dyn Store) -> Target<'_> {
    Target { store, fresh: store, registry: "r.io" }
}

fn home() -> Repository {
    "o/base".parse().expect("a repository")
}

async fn tags_of(target: &Memory) -> BTreeMap<String, Digest> {
    let mut all = BTreeMap::new();
    for repository in target.repositories(None, 100).await.expect("repositories") {
        for tag in target.tags(&repository, None, 100).await.expect("tags") {
            let found = target.resolve(&repository, &tag.clone().into()).await.expect("a look");
            all.insert(format!("{repository}:{tag}"), found.expect("a tag").digest);
        }
    }
    all.remove(&format!("o/base:{RESERVED_TAG}"));
    all
}

async fn states(target: &Memory) -> Vec<(String, State)> {
    let listed = publications(towards(target), &home()).await.expect("a list");
    listed.into_iter().map(|one| (one.id, one.state)).collect()
}

async fn roll_back(target: &dyn Store, id: &str, by: &str) -> Result<RolledBack> {
    let rollback = Rollback::prepare(towards(target), &homes(), &home(), id).await?.expect("the publication");
    let mut publisher = publisher(0);
    publisher.id = by.to_owned();
    publisher.allow_older = true;
    publisher.generation = rollback.generation;
    rollback.carry_out(towards(target), &publisher, std::future::pending(), &|_| {}).await
}

#[tokio::test]
async fn i_p4_tm20_an_older_publication_is_refused_unless_it_is_let() {
    let target = Memory::new();
    let (old, new) = (family("1").await, family("2").await);
    new.publish_as(&target, &publisher(2)).await.expect("published");
    let before = tags_of(&target).await;
    let watched = Watched::new(target.clone());
    let problems = old.publish_as(&watched, &publisher(1)).await.expect_err("it is older");
    assert_eq!(problems.exit_code(), 4, "{problems}");
    assert!(problems.to_string().contains("p2, has moved r.io/o/base:"), "{problems}");
    assert_eq!((tags_of(&target).await, watched.writes()), (before, Vec::new()), "and nothing is written");
    let mut let_back = publisher(1);
    let_back.allow_older = true;
    old.publish_as(&target, &let_back).await.expect("it is let");
    // The tags of the other state stay where they are; `latest` is back.
    assert_eq!(old.differences(&target).await, Vec::<String>::new());
}

#[tokio::test]
async fn i_p4_an_older_publication_of_what_stands_already_is_done_and_writes_nothing() {
    let target = Memory::new();
    let family = family("1").await;
    family.publish_as(&target, &publisher(2)).await.expect("published");
    let watched = Watched::new(target);
    let published = family.publish_as(&watched, &publisher(1)).await.expect("it stands");
    assert_eq!((published.tags_moved, watched.writes()), (0, Vec::new()));
}

#[tokio::test]
async fn what_a_publication_only_carries_on_is_not_counted_as_its_own() {
    let target = Memory::new();
    family("1").await.publish_as(&target, &publisher(1)).await.expect("published");
    let mut leaf = family("2").await;
    leaf.family.order.retain(|unit| unit.to_string() == "base");
    leaf.publish_as(&target, &publisher(2)).await.expect("published");
    let listed = publications(towards(&target), &home()).await.expect("a list");
    assert_eq!(listed.iter().map(|one| one.images).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn i_p4_an_older_publication_of_other_tags_is_let() {
    let target = Memory::new();
    let mut branch = family("1").await;
    for recipe in branch.family.recipes.values_mut() {
        recipe.common_tags = vec!["branch".to_owned()];
    }
    family("2").await.publish_as(&target, &publisher(2)).await.expect("published");
    branch.publish_as(&target, &publisher(1)).await.expect("it moves no tag of the newer one");
    assert_eq!(branch.differences(&target).await, Vec::<String>::new());
}

#[tokio::test]
async fn i_p4_what_stands_already_stands_at_the_newer_generation_too() {
    let target = Memory::new();
    let (first, other) = (family("1").await, family("2").await);
    first.publish_as(&target, &publisher(1)).await.expect("published");
    first.publish_as(&target, &publisher(3)).await.expect("published again, and nothing had to move");
    assert_eq!(states(&target).await, [("p1".to_owned(), State::Done)]);
    let late = other.publish_as(&target, &publisher(2)).await.expect_err("3 was here");
    assert_eq!(late.exit_code(), 4, "{late}");
    assert_eq!(first.differences(&target).await, Vec::<String>::new());
}

#[tokio::test]
async fn i_p8_a_rollback_puts_every_tag_back_and_takes_new_ones_away() {
    let target = Memory::new();
    family("1").await.publish_as(&target, &publisher(1)).await.expect("published");
    let before = tags_of(&target).await;
    family("2").await.publish_as(&target, &publisher(2)).await.expect("published");
    assert_ne!(tags_of(&target).await, before);
    let done = roll_back(&target, "p2", "r").await.expect("rolled back");
    assert_eq!(tags_of(&target).await, before);
    assert_eq!((done.moved, done.removed, done.stay.len()), (6, 6, 0));
    let expected = [
        ("r".to_owned(), State::Done),
        ("p2".to_owned(), State::RolledBack("r".to_owned())),
        ("p1".to_owned(), State::Done),
    ];
    assert_eq!(states(&target).await, expected);
    // What was taken back can be published again, and something older still cannot.
    family("2").await.publish_as(&target, &publisher(2)).await.expect("published again");
    let problems = family("0").await.publish_as(&target, &publisher(1)).await.expect_err("it is older");
    assert_eq!(problems.exit_code(), 4);
}

#[tokio::test]
async fn i_p9_a_rollback_moves_nothing_where_a_tag_was_moved_since_or_its_old_place_is_gone() {
    let target = Memory::new();
    family("1").await.publish_as(&target, &publisher(1)).await.expect("published");
    family("2").await.publish_as(&target, &publisher(2)).await.expect("published");
    family("3").await.publish_as(&target, &publisher(3)).await.expect("published");
    let before = tags_of(&target).await;
    let problems = roll_back(&target, "p2", "r").await.expect_err("3 came after it");
    assert_eq!((problems.exit_code(), problems.iter().count()), (4, 6), "{problems}");
    assert_eq!(tags_of(&target).await, before);
    let leaf: Repository = "o/leaf".parse().expect("a repository");
    let listed = publications(towards(&target), &home()).await.expect("a list");
    let desk = Desk { store: &target, repository: home() };
    let entry = desk.entry(&listed[0]).await.expect("the journal");
    let latest: Tag = "latest".parse().expect("a tag");
    let of_leaf = entry.tags.iter().find(|one| one.repository == leaf && one.tag == latest).expect("it");
    let old = of_leaf.old.clone().expect("it was somewhere");
    target.remove_document(&leaf, &old).await.expect("removed");
    let before = tags_of(&target).await;
    let problems = roll_back(&target, "p3", "r").await.expect_err("an old place is gone");
    assert_eq!(problems.exit_code(), 3, "{problems}");
    assert!(problems.to_string().contains(&old.to_string()), "{problems}");
    assert_eq!(tags_of(&target).await, before);
    assert!(Rollback::prepare(towards(&target), &homes(), &home(), "px").await.expect("a look").is_none());
}

#[tokio::test]
async fn f_p1_a_rollback_cut_off_at_every_call_is_completed_by_the_next_command() {
    let prepared = async || {
        let target = Memory::new();
        family("1").await.publish_as(&target, &publisher(1)).await.expect("published");
        let before = tags_of(&target).await;
        family("2").await.publish_as(&target, &publisher(2)).await.expect("published");
        (target, before)
    };
    let (target, _) = prepared().await;
    let whole = Watched::new(target);
    roll_back(&whole, "p2", "r").await.expect("rolled back");
    assert!(whole.calls() > 30, "{} calls", whole.calls());
    for failure in [Failure::Before, Failure::After] {
        for at in 0..whole.calls() {
            let name = format!("cut off {failure:?} call {at}");
            let (target, before) = prepared().await;
            let watched = Watched::failing(target.clone(), at, failure);
            let first = roll_back(&watched, "p2", "r").await;
            assert!(first.is_err() || !states(&target).await.is_empty(), "{name}");
            let is_open = states(&target).await.iter().any(|(_, state)| matches!(state, State::Open { .. }));
            let again = Rollback::prepare(towards(&target), &homes(), &home(), "p2").await.expect(&name);
            let says_so =
                again.is_some_and(|again| again.steps().iter().any(|one| one.starts_with("first ")));
            assert_eq!(says_so, is_open, "{name}");
            // Either it had not begun, or what is open is completed; tags that it made go at the second try.
            roll_back(&target, "p2", "again").await.expect(&name);
            assert_eq!(tags_of(&target).await, before, "{name}");
            let open = states(&target).await.iter().any(|(_, state)| matches!(state, State::Open { .. }));
            assert!(!open, "{name}");
        }
    }
}

#[tokio::test]
async fn i_p5_a_child_of_a_parent_that_was_never_published_is_refused() {
    let target = Memory::new();
    let whole = family("1").await;
    let mut alone = family("1").await;
    let base: Unit = "base".parse().expect("a unit");
    alone.family.recipes.remove(&base);
    alone.family.order.retain(|unit| *unit != base);
    let problems = alone.publish_as(&target, &publisher(1)).await.expect_err("its parent is nowhere");
    assert_eq!(problems.exit_code(), 4, "{problems}");
    assert!(problems.to_string().contains("stands on a `base` that is not published"), "{problems}");
    assert_eq!(tags_of(&target).await, BTreeMap::new());
    whole.publish_as(&target, &publisher(1)).await.expect("published together");
    alone.publish_as(&target, &publisher(2)).await.expect("an earlier one has published the parent");
    // A parent of another state was not published by anybody.
    let mut other = family("2").await;
    other.family.recipes.remove(&base);
    other.family.order.retain(|unit| *unit != base);
    let problems = other.publish_as(&target, &publisher(3)).await.expect_err("its parent is another");
    assert_eq!(problems.exit_code(), 4, "{problems}");
    assert!(matches!(homes(), crate::publish::Homes::One(_)), "one list for all");
}

/// Only these images of a family.
fn only(mut family: Fixture, units: &[&str]) -> Fixture {
    family.family.recipes.retain(|unit, _| units.contains(&unit.to_string().as_str()));
    family.family.order.retain(|unit| units.contains(&unit.to_string().as_str()));
    family
}

#[tokio::test]
async fn i_p5_a_parent_that_was_taken_back_is_not_published_though_another_publication_came_between() {
    let target = Memory::new();
    let with_other = async |state| family(state).await.image("other", None, &[(AMD, Some("o"))]).await;
    with_other("1").await.publish_as(&target, &publisher(1)).await.expect("published");
    only(with_other("2").await, &["base"]).publish_as(&target, &publisher(2)).await.expect("published");
    only(with_other("3").await, &["other"]).publish_as(&target, &publisher(3)).await.expect("published");
    roll_back(&target, "p2", "r").await.expect("nobody stands on it");
    let leaf = only(with_other("2").await, &["leaf"]);
    let problems = leaf.publish_as(&target, &publisher(4)).await.expect_err("its parent was taken back");
    assert!(problems.to_string().contains("stands on a `base` that is not published"), "{problems}");
    // The parent that was there before is there again.
    let before = only(with_other("1").await, &["leaf"]);
    before.publish_as(&target, &publisher(4)).await.expect("its parent is published");
}

#[tokio::test]
async fn i_p5_a_parent_that_fell_off_the_list_is_published_until_another_takes_its_place() {
    let target = Memory::new();
    family("1").await.publish_as(&target, &publisher(1)).await.expect("published");
    for at in 2..30 {
        let mut other = Fixture::new(Divergence::Withhold);
        other.state = at.to_string();
        let other = other.image("other", None, &[(AMD, Some("o"))]).await;
        other.publish_as(&target, &publisher(at)).await.expect("published");
    }
    assert_eq!(states(&target).await.len(), 20);
    let leaf = only(family("1").await, &["leaf"]);
    leaf.publish_as(&target, &publisher(40)).await.expect("its parent was published long ago");
}

#[tokio::test]
async fn i_p5_what_a_published_child_stands_on_is_not_taken_back() {
    let target = Memory::new();
    only(family("1").await, &["base"]).publish_as(&target, &publisher(1)).await.expect("published");
    only(family("1").await, &["leaf"]).publish_as(&target, &publisher(2)).await.expect("published");
    let before = tags_of(&target).await;
    let problems = roll_back(&target, "p1", "r").await.expect_err("the leaf stands on it");
    assert_eq!((problems.exit_code(), tags_of(&target).await), (4, before), "{problems}");
    assert!(problems.to_string().contains("`leaf`, which p2 has published, stands on what p1"), "{problems}");
    roll_back(&target, "p2", "r").await.expect("the leaf first");
    roll_back(&target, "p1", "s").await.expect("then what it stood on");
    assert_eq!(tags_of(&target).await, BTreeMap::new());
}

#[tokio::test]
async fn i_p7_a_rollback_leaves_immutable_tags_where_they_are() {
    let target = Memory::new();
    let immutable = async |state: &str| {
        let mut fixture = family(state).await;
        fixture.family.tags.immutable = vec!["v*".parse().expect("a pattern")];
        fixture
    };
    immutable("1").await.publish_as(&target, &publisher(1)).await.expect("published");
    let before = tags_of(&target).await;
    immutable("2").await.publish_as(&target, &publisher(2)).await.expect("published");
    let published = tags_of(&target).await;
    let done = roll_back(&target, "p2", "r").await.expect("rolled back");
    let (immutable, mut others) = (done.immutable, tags_of(&target).await);
    assert_eq!((immutable.len(), done.removed), (6, 0), "{immutable:?}");
    for reference in &immutable {
        let tag = reference.strip_prefix("r.io/").expect("the registry");
        assert_eq!(others.remove(tag), published.get(tag).cloned(), "{tag}");
    }
    assert_eq!(others, before);
}

#[tokio::test]
async fn i_p8_what_was_taken_back_is_not_taken_back_again() {
    let target = Memory::new();
    family("1").await.publish_as(&target, &publisher(1)).await.expect("published");
    family("2").await.publish_as(&target, &publisher(2)).await.expect("published");
    roll_back(&target, "p2", "r").await.expect("rolled back");
    let watched = Watched::new(target.clone());
    assert_eq!(roll_back(&watched, "p2", "again").await.expect("nothing to do"), RolledBack::default());
    assert_eq!(watched.writes(), Vec::<String>::new());
    let itself = roll_back(&target, "r", "s").await.expect_err("it is no publication");
    assert_eq!(itself.exit_code(), 2, "{itself}");
    // The same is published again: by its old name it is not taken back.
    family("2").await.publish_as(&target, &publisher(3)).await.expect("published");
    let before = tags_of(&target).await;
    let problems = roll_back(&target, "p2", "t").await.expect_err("3 has published it");
    assert_eq!((problems.exit_code(), tags_of(&target).await), (4, before), "{problems}");
    assert!(problems.to_string().contains("was published by p3 since"), "{problems}");
}
