//! Claims: one holder at a time, whatever becomes of it or of its file (F-X1, F-X3, F-X4).

use super::*;

fn name() -> Digest {
    Digest::of(b"what is made")
}

/// Who has it, where another does.
async fn holder(store: &Layout) -> Option<Option<String>> {
    match store.claim(&name(), "asking").await.expect("an answer") {
        Claimed::Ours(_) => None,
        Claimed::Theirs(owner) => Some(owner),
    }
}

#[tokio::test]
async fn f_x1_one_at_a_time_has_a_claim_and_says_who_it_is() {
    let fixture = Fixture::new();
    // As two processes have it: each opens the folder and its files by itself.
    let (store, other) = (fixture.open(), fixture.open());
    let claimed = store.claim(&name(), "first").await.expect("claimed");
    assert!(matches!(claimed, Claimed::Ours(_)));
    assert_eq!(holder(&other).await, Some(Some("first".to_owned())));
    assert!(matches!(other.claim(&Digest::of(b"else"), "second").await, Ok(Claimed::Ours(_))));
    drop(claimed);
    assert_eq!(fixture.count("claims"), 0, "its file goes with it");
    assert_eq!(holder(&other).await, None);
}

#[tokio::test]
async fn f_x3_what_a_killed_process_left_is_nobodys() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let folder = fixture.root.join("claims");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join(name().hex()), "one that is dead, with a long name").expect("its file");
    let claimed = store.claim(&name(), "new").await.expect("claimed");
    assert_eq!(holder(&store).await, Some(Some("new".to_owned())));
    fs::write(folder.join("dead"), "another").expect("its file");
    let collection = Collection { grace: Duration::ZERO, dry_run: false, unused: None, ended: Vec::new() };
    store.collect(Collection { dry_run: true, ..collection.clone() }).await.expect("a dry run");
    assert_eq!(fixture.count("claims"), 2);
    store.collect(collection).await.expect("collected");
    assert_eq!(fixture.count("claims"), 1, "what somebody holds stays");
    assert_eq!(holder(&store).await, Some(Some("new".to_owned())));
    drop(claimed);
}

#[tokio::test]
async fn f_x4_who_had_a_claim_that_was_taken_away_takes_nobody_elses_with_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let before = store.claim(&name(), "before").await.expect("claimed");
    fs::remove_file(fixture.root.join("claims").join(name().hex())).expect("taken away");
    let since = store.claim(&name(), "since").await.expect("claimed");
    assert!(matches!(since, Claimed::Ours(_)));
    drop(before);
    assert_eq!(holder(&store).await, Some(Some("since".to_owned())));
}

#[test]
fn f_x1_threads_that_want_it_all_the_time_never_have_it_at_once() {
    let fixture = Fixture::new();
    let (held, had) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = fixture.open();
                while had.load(Ordering::SeqCst) < 300 {
                    let claimed = crate::oci::layout::claims::take(&store.shared.folders, &name(), "one")
                        .expect("an answer");
                    if let Claimed::Ours(claim) = claimed {
                        assert_eq!(held.fetch_add(1, Ordering::SeqCst), 0, "another has it");
                        had.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(claim);
                    }
                }
            });
        }
    });
}

#[tokio::test]
async fn i_s6_a_claim_is_made_through_no_link() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let outside = fixture.root.with_file_name("outside");
    fs::create_dir(&outside).expect("a folder");
    symlink(&outside, fixture.root.join("claims")).expect("a link");
    assert!(store.claim(&name(), "me").await.is_err());
    assert_eq!(fs::read_dir(&outside).expect("a list").count(), 0);
}
