//! A disk that is full at any step of a run, once or until somebody makes room.

use super::collection::{image, index, whole};
use super::journal::Journal;
use super::*;

/// Push, join, move a tag, list and collect; the tags that were acknowledged.
async fn work(store: &Layout, name: &Repository) -> Result<(), Error> {
    let one = image(store, name, "one", None, &[tag("one")]).await?;
    let two = image(store, name, "two", Some(&one), &[tag("two")]).await?;
    store.write_document(name, &index(&[&one, &two]), &[tag("both"), tag("one")]).await?;
    store.flush().await?;
    store
        .collect(Collection { grace: Duration::ZERO, dry_run: false, unused: None, ended: Vec::new() })
        .await
        .map(drop)
}

#[tokio::test]
async fn f_k1_a_disk_that_is_full_at_any_step_spoils_nothing() {
    for lasting in [1, usize::MAX] {
        for step in 0.. {
            assert!(step < 1000, "so little work has few steps");
            let fixture = Fixture::new();
            let journal = Journal::default();
            let store = fixture.open_on(&journal);
            let name = &fixture.name;
            image(&store, name, "before", None, &[tag("before"), tag("one")]).await.expect("room enough");
            journal.fail(step, lasting);
            let ended = work(&store, name).await;
            let done = journal.never_failed();
            if let Err(error) = &ended {
                assert_eq!(error.kind(), ErrorKind::Full, "step {step}: {error}");
            }
            for tag in store.tags(name, None, 10).await.expect("reading needs no room") {
                whole(&store, name, &tag.into()).await.expect("what is there is whole");
            }
            whole(&store, name, &tag("before").into()).await.expect("what was told is there");
            journal.fail(0, 0);
            work(&store, name).await.expect("it goes on when there is room");
            let tags = store.tags(name, None, 10).await.expect("tags");
            assert_eq!(tags, ["before", "both", "one", "two"].map(tag));
            drop(store);
            let store = fixture.open();
            assert_eq!(fixture.count("uploads"), 0, "step {step}");
            assert_eq!(fixture.listed(), ["a/b:before", "a/b:both", "a/b:one", "a/b:two"]);
            assert_eq!(store.scrub().await.expect("read").broken, []);
            if done {
                assert!(step > 50, "{step} steps");
                break;
            }
        }
    }
}

#[test]
fn f_k1_a_store_can_be_opened_after_the_disk_was_full_at_any_step() {
    for step in 0.. {
        let fixture = Fixture::new();
        let journal = Journal::default();
        journal.fail(step, usize::MAX);
        let disk = disk::Disk { journal: Some(journal.clone()) };
        let opened = Layout::open_on(disk, &fixture.root);
        if journal.never_failed() {
            assert!(opened.is_ok() && step > 10, "{step} steps");
            return;
        }
        drop(opened);
        fixture.open();
    }
}
