//! Two publishers at once, of an older and of a newer commit: in the end the newer is public.
//!
//! `POLYARCH_PUBLICATION_RACES=500` by hand.

use std::sync::Arc;
use std::time::Duration;

use super::Victim;
use super::small::{KINDS, Kind, Public, Registry, Small, in_state};
use crate::end_to_end::clocks::library;
use crate::program::{Answer, Place, program, skip, variable};

/// When the first commit of all was made, in seconds since 1970-01-01 UTC: after every publication without one.
const FIRST_COMMIT: u64 = 2_500_000_000;

/// The family; `None`, having said why, where there is no engine or no Git.
fn built(test: &str) -> Option<Arc<Small>> {
    match program("git").arg("--version").output() {
        Ok(_) => Small::built(test),
        Err(error) => {
            skip(test, &format!("no git: {error}"));
            None
        }
    }
}

/// Has the family of a place stand at a commit of this time, in a state.
fn commit(place: &Place, seconds: u64, state: &str) {
    in_state(place, state);
    let git = |arguments: &[&str]| {
        let mut git = place.program("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]).args(arguments);
        let date = format!("@{seconds} +0000");
        let answer: Answer =
            { git.env("GIT_COMMITTER_DATE", &date).env("GIT_AUTHOR_DATE", &date).output().expect("run git") }
                .into();
        let _ = answer.well();
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", state]);
}

/// Begins a publication after some time, and waits for its end.
fn publishing(
    registry: &Arc<Registry>,
    place: &Arc<Place>,
    after: Duration,
    more: &'static [&'static str],
) -> tokio::task::JoinHandle<Answer> {
    let (registry, place) = (registry.clone(), place.clone());
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        Victim::default().run(&place, &[&["publish", "--to", registry.address()], more].concat())
    })
}

fn races() -> u64 {
    variable("POLYARCH_PUBLICATION_RACES").and_then(|text| text.to_str()?.parse().ok()).unwrap_or(10)
}

#[tokio::test(flavor = "multi_thread")]
async fn tm19_of_two_publishers_at_once_the_newer_is_public_in_the_end() {
    let test = "publication::racing::tm19";
    let Some(small) = built(test) else { return };
    let (older, newer) = (Arc::new(small.place()), Arc::new(small.place()));
    for kind in KINDS {
        let Some(registry) = small.registry(test, kind).await else { continue };
        let registry = Arc::new(registry);
        for round in 0..races() {
            let case = format!("{kind:?}, round {round}");
            let (before, after) = if round % 2 == 0 { ("old", "new") } else { ("new", "old") };
            commit(&older, FIRST_COMMIT + 2 * round, before);
            commit(&newer, FIRST_COMMIT + 2 * round + 1, after);
            // From one far ahead to the other.
            let [ahead, behind] = [round * 37 % 400, round * 101 % 400].map(Duration::from_millis);
            let first = publishing(&registry, &older, behind, &[]);
            let second = publishing(&registry, &newer, ahead, &[]);
            let (first, second) = (first.await.expect("it ran"), second.await.expect("it ran"));
            assert_eq!(second.code, Some(0), "{case}: the newer\n{}", second.stderr);
            assert!([Some(0), Some(4)].contains(&first.code), "{case}: {:?}\n{}", first.code, first.stderr);
            let expected = if after == "new" { Public::New } else { Public::Old };
            let told = format!("{case}\nolder: {}\nnewer: {}", first.stderr, second.stderr);
            assert_eq!(registry.public(&case).await, expected, "{told}");
            registry.all_ended(&case).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tm20_f_x5_an_older_run_moves_no_tag_back_unless_it_is_told_to() {
    let test = "publication::racing::tm20";
    let Some(small) = built(test) else { return };
    let (older, newer) = (Arc::new(small.place()), Arc::new(small.place()));
    commit(&older, FIRST_COMMIT, "old");
    commit(&newer, FIRST_COMMIT + 1, "new");
    for kind in KINDS {
        let Some(registry) = small.registry(test, kind).await else { continue };
        let (registry, case) = (Arc::new(registry), format!("{kind:?}"));
        let publish = |place: &Arc<Place>, more| publishing(&registry, place, Duration::ZERO, more);
        let _ = publish(&newer, &[]).await.expect("it ran").well();
        registry.is_new(&case).await;
        let answer = publish(&older, &[]).await.expect("it ran").ended(4);
        assert!(answer.stderr.contains("--allow-rollback"), "{case}: {}", answer.stderr);
        registry.is_new(&case).await;
        let _ = publish(&older, &["--allow-rollback"]).await.expect("it ran").well();
        assert_eq!(registry.public(&case).await, Public::Old, "{case}");
        registry.all_ended(&case).await;
        // What was told to go back stays back until somebody publishes the newer once more.
        let _ = publish(&newer, &[]).await.expect("it ran").well();
        registry.is_new(&case).await;
    }
}

/// A service keeps only the newest of the runs that wait: what it passed over is named, once, and what was published and moved
/// nothing is not.
#[tokio::test(flavor = "multi_thread")]
async fn s4_23_commits_that_were_passed_over_are_named_by_the_next_publication() {
    let test = "publication::racing::s4_23";
    let Some(small) = built(test) else { return };
    let place = small.place();
    let Some(registry) = small.registry(test, Kind::Ours).await else { return };
    let (work, address) = (place.folder().join("work"), registry.address());
    let publish = || {
        let work = work.to_str().expect("a text");
        Victim::default().run(&place, &["job", "publish", "--work", work, "--to", address]).well().stderr
    };
    let head = || {
        place.ask("git", &["-C", place.family().to_str().expect("a text"), "rev-parse", "HEAD"])[..12]
            .to_owned()
    };
    let silent = |told: &str| assert!(!told.contains("passed over"), "{told}");
    commit(&place, FIRST_COMMIT, "new");
    silent(&publish());
    let published = head();
    let mut over = Vec::new();
    for second in 1..=2 {
        commit(&place, FIRST_COMMIT + second, "new");
        over.insert(0, head());
    }
    commit(&place, FIRST_COMMIT + 3, "new");
    let told = publish();
    let wanted = format!(
        "2 commits passed over since the publication of {published}, newest first: {}",
        over.join(" ")
    );
    assert!(told.contains(&wanted), "{wanted}\n{told}");
    silent(&publish());
    commit(&place, FIRST_COMMIT + 4, "old");
    silent(&publish());
    assert_eq!(registry.public("the last").await, Public::Old);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_x8_the_newer_commit_counts_whatever_the_clocks_of_publishers_say() {
    let test = "publication::racing::f_x8";
    let (Some(small), Some(library)) = (built(test), library(test)) else { return };
    let of = |seconds: u64, state: &str, skew: &str| {
        let mut place = small.place();
        commit(&place, seconds, state);
        place.set("LD_PRELOAD", &library);
        place.set("FAKETIME", skew);
        Arc::new(place)
    };
    for (ahead, behind) in [("+1d", "-1d"), ("+5y", "-5y")] {
        let (older, newer) = (of(FIRST_COMMIT, "old", ahead), of(FIRST_COMMIT + 1, "new", behind));
        for kind in KINDS {
            let Some(registry) = small.registry(test, kind).await else { continue };
            let (registry, case) = (Arc::new(registry), format!("{kind:?} {ahead}"));
            let publish = |place: &Arc<Place>| publishing(&registry, place, Duration::ZERO, &[]);
            let _ = publish(&older).await.expect("it ran").well();
            let _ = publish(&newer).await.expect("it ran").well();
            registry.is_new(&case).await;
            let answer = publish(&older).await.expect("it ran").ended(4);
            assert!(answer.stderr.contains("--allow-rollback"), "{case}: {}", answer.stderr);
            registry.is_new(&case).await;
            registry.all_ended(&case).await;
        }
    }
}
