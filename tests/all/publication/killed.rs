//! SIGKILL at each request of a publication, and the same command again.

use std::time::{Duration, SystemTime};

use super::small::{KINDS, Kind, Public, Registry, Small};
use super::{Victim, When, at, kind, nth, numbers, rounds, try_each};
use crate::client::fault_proxy::Rule;
use crate::program::Place;

const WHENS: [When; 2] = [When::Asked, When::CarriedOut];

/// Killed where a rule says so: what is public then is whole, and the same command completes it.
async fn killed(registry: &Registry, place: &Place, case: &str, rule: impl Fn(&Victim) -> Rule) -> Public {
    let victim = Victim::default();
    let (answer, met) = registry.publish(place, &victim, vec![rule(&victim)]).await;
    // Requests that are on their way together come in any order, and some more or fewer.
    assert_eq!(answer.code, if met { None } else { Some(0) }, "{case}: {}", answer.stderr);
    let public = registry.public(case).await;
    registry.again(case, place).await;
    public
}

#[tokio::test(flavor = "multi_thread")]
async fn f_p1_killed_at_any_request_the_same_command_completes_it() {
    let test = "publication::killed::f_p1_killed_at_any_request";
    let Some(small) = Small::built(test) else { return };
    let mut cases = Vec::new();
    for which in if rounds().is_some() { &KINDS[..] } else { &[Kind::Ours] } {
        let Some(registry) = small.registry(test, *which).await else { continue };
        for when in if rounds().is_some() { &WHENS[..] } else { &[When::CarriedOut] } {
            let numbers = (0..rounds().unwrap_or(1)).flat_map(|_| numbers(registry.requests()));
            cases.extend(numbers.map(|number| (*which, *when, number)));
        }
    }
    try_each(&small, cases, move |small, place, (which, when, number)| async move {
        let case = format!("{which:?}, request {number}, {when:?}");
        let Some(registry) = small.registry(test, which).await else { return };
        killed(&registry, &place, &case, |victim| at(number, victim.killing(when))).await;
    })
    .await;
}

/// Which of the requests of a kind.
#[derive(Clone, Copy, Debug)]
enum Which {
    First,
    Middle,
    Last,
    /// The first after the tags began to move.
    AfterTags,
}

impl Which {
    /// Its number among those of a kind, of the requests of a publication that nobody disturbed.
    fn number(self, requests: &[String], kind: &str) -> usize {
        let moved = requests.iter().position(|one| one == "PUT a tag").expect("tags are moved");
        let count = |requests: &[String]| requests.iter().filter(|one| *one == kind).count();
        let all = count(requests);
        assert!(all > 0, "there is no {kind} in {requests:#?}");
        match self {
            Self::First => 0,
            Self::Middle => all / 2,
            Self::Last => all - 1,
            Self::AfterTags => count(&requests[..moved]),
        }
    }
}

/// A point of a publication: what it is called, the kind of its request and which of them, and what is public once it
/// is carried out, where that is certain.
type Point = (&'static str, &'static str, Which, Option<Public>);

const POINTS: [Point; 12] = [
    ("the publications are looked at", "GET the journal", Which::First, Some(Public::Old)),
    ("a blob is brought", "PUT an upload", Which::First, Some(Public::Old)),
    ("a manifest is brought", "PUT a document", Which::First, Some(Public::Old)),
    ("an index is brought", "PUT a document", Which::Last, Some(Public::Old)),
    ("content is seen to be there", "HEAD a document", Which::Last, Some(Public::Old)),
    ("the old places are looked at", "HEAD a tag", Which::First, Some(Public::Old)),
    ("the journal is brought", "PUT an upload", Which::Last, Some(Public::Old)),
    ("the journal is opened", "PUT the journal", Which::First, Some(Public::Old)),
    ("the first tags move", "PUT a tag", Which::First, None),
    ("half of the tags are moved", "PUT a tag", Which::Middle, Some(Public::Both)),
    ("tags are read back", "HEAD a tag", Which::AfterTags, Some(Public::New)),
    ("the journal is ended", "PUT the journal", Which::Last, Some(Public::New)),
];

#[tokio::test(flavor = "multi_thread")]
async fn f_p1_killed_at_each_named_point_the_same_command_completes_it() {
    let test = "publication::killed::f_p1_killed_at_each_named_point";
    let Some(small) = Small::built(test) else { return };
    let whens = if rounds().is_some() { &WHENS[..] } else { &[When::CarriedOut] };
    let rounds = 0..rounds().unwrap_or(1);
    let of_each = KINDS.iter().flat_map(|which| POINTS.iter().map(move |point| (*which, *point)));
    let cases: Vec<_> = of_each
        .flat_map(|(which, point)| whens.iter().map(move |when| (which, point, *when)))
        .flat_map(|case| rounds.clone().map(move |_| case))
        .collect();
    try_each(&small, cases, move |small, place, (which, (name, of, place_in, expected), when)| async move {
        let case = format!("{which:?}, {name}, {when:?}");
        let Some(registry) = small.registry(test, which).await else { return };
        let number = place_in.number(registry.requests(), of);
        let rule = |victim: &Victim| nth(move |request| kind(request) == of, number, victim.killing(when));
        let public = killed(&registry, &place, &case, rule).await;
        if when == When::CarriedOut && expected.is_some() {
            assert_eq!(Some(public), expected, "{case}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_x7_what_was_cut_off_is_completed_by_whoever_publishes_next() {
    let test = "publication::killed::f_x7_what_was_cut_off";
    let Some(small) = Small::built(test) else { return };
    for which in KINDS {
        let Some(registry) = small.registry(test, which).await else { return };
        let (place, case) = (small.place(), format!("{which:?}"));
        assert_eq!(cut_in_half(&registry, &place, &case).await, Public::Both, "{case}");
        // It asks for one image and has never built the other.
        std::fs::remove_dir_all(place.family().join("tool")).unwrap();
        let answer = registry.publish_images(&place, &["base"]).await;
        assert_eq!(answer.code, Some(0), "{case}: {}", answer.stderr);
        registry.is_new(&case).await;
    }
}

/// Killed when half of the requests that move tags are carried out.
async fn cut_in_half(registry: &Registry, place: &Place, case: &str) -> Public {
    let victim = Victim::default();
    let middle = Which::Middle.number(registry.requests(), "PUT a tag");
    let rule = nth(|request| kind(request) == "PUT a tag", middle, victim.killing(When::CarriedOut));
    let (answer, _) = registry.publish(place, &victim, vec![rule]).await;
    assert_eq!(answer.code, None, "{case}: {}", answer.stderr);
    registry.public(case).await
}

/// Seconds since 1970-01-01 UTC.
fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "what is written there is compared with the time")]
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn f_x7_a_publication_of_another_machine_is_waited_for_until_its_time_is_up() {
    let test = "publication::killed::f_x7";
    let Some(small) = Small::built(test) else { return };
    for which in KINDS {
        let Some(registry) = small.registry(test, which).await else { return };
        let (place, case) = (small.place(), format!("{which:?}"));
        cut_in_half(&registry, &place, &case).await;
        let until = now() + Duration::from_secs(4).as_secs();
        let elsewhere = serde_json::json!({
            "until_seconds": until,
            "holder": "0f0f0f0f-another-boot/pid:[4026531836]/1/1",
        });
        registry.eye().change_newest(|listed| listed["state"]["open"] = elsewhere.clone()).await;
        let (answer, _) = registry.publish(&place, &Victim::default(), Vec::new()).await;
        assert_eq!(answer.code, Some(0), "{case}: {}", answer.stderr);
        assert!(now() >= until, "{case}: it did not wait\n{}", answer.stderr);
        registry.is_new(&case).await;
        let journals = registry.eye().journals().await;
        let states: Vec<_> = journals.iter().map(|one| one["state"].clone()).collect();
        assert_eq!(states, ["done"; 2], "{case}: what was cut off is completed, and nothing is left to do");
    }
}
