//! Publications at a registry whose answers are lost, late or refused.

use std::sync::atomic::Ordering;

use super::*;
use crate::family::Divergence;
use crate::oci::watched::Watched;
use crate::oci::{Document, Memory, Store};
use crate::publish::fickle::{Fault, Fickle};
use crate::publish::fixture::{AMD, Fixture, SCOPE, homes, publisher};
use crate::publish::journal::EMPTY;
use crate::publish::{Homes, Publication, Published, Source};

fn home() -> Repository {
    "o/base".parse().expect("a repository")
}

fn desk(store: &dyn Store) -> Desk<'_> {
    Desk { store, repository: home() }
}

fn careless() -> Fickle {
    Fickle { careless: true, ..Fickle::default() }
}

/// A registry with a list of these publications, each open, and the same list with one more.
async fn listed(store: &Fickle, ids: &[&str]) -> (Page, Journal) {
    let mut journals = vec![Journal::default()];
    for id in ids {
        let entry: Entry = serde_json::from_value(serde_json::json!({
            "version": 1, "id": id, "generation": { "commit_seconds": 1, "run_milliseconds": 1 },
            "begun_seconds": 1, "tags": [], "images": [],
        }))
        .expect("a journal");
        let bytes = entry.bytes().expect("bytes");
        for bytes in [bytes.clone(), bytes::Bytes::from_static(EMPTY)] {
            store.memory.write_blob(&home(), bytes).await.expect("a blob");
        }
        let open = State::Open { until_seconds: 0, holder: String::new() };
        let next = journals.last().expect("one").with(entry.listed(open, &bytes));
        journals.push(next);
    }
    let (last, before) = (journals.pop().expect("one"), journals.pop().expect("another"));
    let page = desk(&store.memory).write(&Page::default(), before).await.expect("written");
    (page, last)
}

async fn states(memory: &Memory) -> Vec<(String, State)> {
    let page = desk(memory).read().await.expect("a list");
    page.journal.listed.into_iter().map(|one| (one.id, one.state)).collect()
}

#[tokio::test(start_paused = true)]
async fn tm19_a_list_that_another_has_written_is_not_written_over_by_a_repeated_request() {
    for careless in [true, false] {
        let store = Fickle { careless, ..Fickle::default() };
        let (page, mine) = listed(&store, &["a", "b"]).await;
        let other = page.journal.with_state("a", &State::Done).document().expect("a list");
        store.lists([Fault::Overtaken(Box::new(other.clone()))]);
        let error = desk(&store).write(&page, mine).await.expect_err("another has written it");
        assert_eq!(error.kind(), ErrorKind::Moved, "{error}");
        assert_eq!(desk(&store).read().await.expect("a list").head.as_ref(), Some(other.digest()));
    }
}

#[tokio::test(start_paused = true)]
async fn f_r5_a_list_is_written_though_requests_or_answers_are_lost() {
    for careless in [true, false] {
        for faults in [vec![Fault::Lost], vec![Fault::Never], vec![Fault::Never, Fault::Never, Fault::Lost]] {
            let store = Fickle { careless, ..Fickle::default() };
            let (page, mine) = listed(&store, &["a", "b"]).await;
            store.lists(faults);
            let written = desk(&store).claim(&page, mine, &|| 0).await.expect("it is ours");
            assert_eq!(desk(&store).read().await.expect("a list").head, written.head);
        }
        let store = Fickle { careless, ..Fickle::default() };
        let (page, mine) = listed(&store, &["a", "b"]).await;
        store.lists((0..100).map(|_| Fault::Never));
        let error = desk(&store).write(&page, mine).await.expect_err("it never arrives");
        assert_eq!(error.kind(), ErrorKind::Passing, "and it is given up");
    }
}

async fn base() -> Fixture {
    Fixture::new(Divergence::Withhold).image("base", None, &[(AMD, Some("v1"))]).await
}

/// Publishes, and says of which publications it was told that they were put back.
async fn publish(
    fixture: &Fixture,
    store: &dyn Store,
    fresh: &dyn Store,
    publisher: &Publisher<'_>,
) -> (Result<Published>, Vec<(String, bool)>) {
    let scope: Repository = SCOPE.parse().expect("scope");
    let source = Source { store: &fixture.store, repository: &scope, home: None };
    let release = fixture.assemble().expect("a release");
    let publication = Publication::prepare(release, &homes(), &source).await.expect("a publication");
    let target = Target { store, fresh, registry: "r.io" };
    let completed = Mutex::new(Vec::new());
    let listener = |event: EventKind| {
        if let EventKind::PublicationCompleted { id, put_back } = event {
            completed.lock().expect("completed").push((id, put_back));
        }
    };
    let done = publication.carry_out(&source, target, publisher, std::future::pending(), &listener).await;
    (done, completed.into_inner().expect("completed"))
}

#[tokio::test(start_paused = true)]
async fn f_r5_a_publication_whose_beginning_was_not_answered_is_left_as_none() {
    let store = Fickle::default();
    store.lists([Fault::Mute(1)]);
    let problems = publish(&base().await, &store, &store, &publisher(1)).await.0.expect_err("not answered");
    assert_eq!(problems.exit_code(), 3, "{problems}");
    // It may have been written, and it was: so it is taken back before its lease ends.
    assert_eq!(states(&store.memory).await, [("p1".to_owned(), State::Undone)]);
}

#[tokio::test(start_paused = true)]
async fn f_x7_what_was_refused_is_said_first_though_the_journal_cannot_say_it() {
    let store = Fickle::default();
    store.tags([Fault::Refused(ErrorKind::Denied)]);
    store.lists([Fault::None, Fault::None].into_iter().chain((0..20).map(|_| Fault::Never)));
    let problems = publish(&base().await, &store, &store, &publisher(1)).await.0.expect_err("refused");
    let first = problems.iter().next().expect("a problem");
    assert_eq!((first.kind, problems.iter().count()), (Kind::Incomplete, 1), "{problems}");
    assert!(first.message.starts_with("cannot move the tag o/base:"), "{problems}");
    assert!(first.causes.iter().any(|cause| cause == "and the journal could not say so"), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn f_x7_a_publication_that_yet_another_completes_is_not_said_to_be_put_back() {
    let store = Fickle::default();
    store.tags((0..100).map(|_| Fault::Never));
    let fixture = base().await;
    let cut_off = publish(&fixture, &store, &store, &publisher(1)).await.0.expect_err("nothing arrives");
    assert_eq!(cut_off.exit_code(), 5, "{cut_off}");
    store.tags.lock().expect("faults").clear();
    let page = desk(&store.memory).read().await.expect("a list");
    let undone: Document = page.journal.with_state("p1", &State::Undone).document().expect("a list");
    store.tags([Fault::Refused(ErrorKind::Denied)]);
    store.lists([Fault::None, Fault::Overtaken(Box::new(undone))]);
    let (done, completed) = publish(&fixture, &store, &store, &publisher(2)).await;
    done.expect("the other has ended it");
    assert_eq!(completed, [], "this one has completed nothing");
    // Where it is this one that puts it back, it says so.
    let store = Fickle::default();
    store.tags((0..100).map(|_| Fault::Never));
    publish(&fixture, &store, &store, &publisher(1)).await.0.expect_err("nothing arrives");
    store.tags.lock().expect("faults").clear();
    store.tags([Fault::Refused(ErrorKind::Denied)]);
    let (done, completed) = publish(&fixture, &store, &store, &publisher(2)).await;
    done.expect("then it is published");
    assert_eq!(completed, [("p1".to_owned(), true)]);
}

#[tokio::test(start_paused = true)]
async fn f_r15_i_p10_a_registry_that_shows_tags_late_is_asked_again_for_a_while() {
    for (hides, shows) in [(1, true), (15, true), (10_000, false)] {
        let store = Fickle::default();
        let fresh = Fickle { memory: store.memory.clone(), ..Fickle::default() };
        fresh.hides.store(hides, Ordering::SeqCst);
        let (done, _) = publish(&base().await, &store, &fresh, &publisher(1)).await;
        assert_eq!(done.is_ok(), shows, "{hides}: {done:?}");
        let code = done.err().map_or(0, |problems| problems.exit_code());
        assert_eq!(code, if shows { 0 } else { 5 });
    }
}

#[tokio::test]
async fn what_is_said_of_images_comes_after_their_content_and_before_any_tag() {
    let store = Watched::new(Memory::new());
    let scope: Repository = SCOPE.parse().expect("scope");
    let target = Target { store: &store, fresh: &store, registry: "r.io" };
    // What stands already may be published again by an older run: the older one is of another state.
    for (generation, state, is_said) in [(2, " new", true), (1, " old", false)] {
        let mut fixture = Fixture::new(Divergence::Withhold);
        fixture.state = state.to_owned();
        let fixture = fixture.image("base", None, &[(AMD, Some("v1"))]).await;
        let source = Source { store: &fixture.store, repository: &scope, home: None };
        let release = fixture.assemble().expect("a release");
        let publication = Publication::prepare(release, &homes(), &source).await.expect("a publication");
        let before = Mutex::new(None);
        let saying = async {
            *before.lock().expect("writes") = Some(store.writes());
            Ok(())
        };
        let never = std::future::pending();
        let publisher = publisher(generation);
        let done = publication.carry_out_saying(&source, target, &publisher, saying, never, &|_| {}).await;
        let before = before.into_inner().expect("writes");
        assert_eq!((done.is_ok(), before.is_some()), (is_said, is_said), "what is refused is not said");
        let of_content = |writes: Vec<String>| {
            writes.contains(&"index o/base".to_owned()) && !writes.iter().any(|one| one.starts_with("tag "))
        };
        assert!(before.is_none_or(of_content), "{:?}", store.writes());
    }
}

#[tokio::test]
async fn i_p9_no_image_is_tagged_by_the_name_of_the_list() {
    let mut fixture = base().await;
    for recipe in fixture.family.recipes.values_mut() {
        recipe.common_tags = vec![crate::publish::journal::RESERVED_TAG.to_owned()];
    }
    let problems = fixture.assemble().expect_err("it is the list's");
    assert_eq!(problems.exit_code(), 2, "{problems}");
    assert!(problems.to_string().contains("is one that holds a list of publications"), "{problems}");
}

#[tokio::test]
async fn a_family_keeps_its_list_where_it_is() {
    let store = careless();
    let target = Target { store: &store, fresh: &store, registry: "r.io" };
    let repository = |name: &str| -> Repository { name.parse().expect("a repository") };
    let all = || ["o/new", "o/base", "o/leaf"].map(repository).to_vec();
    let at = async |homes: Homes| {
        let settled = homes.settled(all(), target).await.expect("a look");
        settled.all().into_iter().map(Repository::to_string).collect::<Vec<_>>()
    };
    assert_eq!(at(Homes::One(repository("o/new"))).await, ["o/new"], "there is no list yet");
    listed(&store, &["a", "b"]).await;
    assert_eq!(at(Homes::One(repository("o/new"))).await, ["o/base"], "another image is the first now");
    let each = Homes::Each([("leaf".to_owned(), repository("o/leaf"))].into());
    assert_eq!(at(each).await, ["o/leaf"], "each has its own");
}
