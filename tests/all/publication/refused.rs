//! Requests of a publication that a registry refuses, and answers of it that are lost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::small::{KINDS, Kind, Public, Registry, Small};
use super::{Victim, at, ends_of_kinds, kind, rounds, try_each};
use crate::client::fault_proxy::{Fault, Reply, Request, Rule, rule};
use crate::program::Place;

/// How a registry refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// For good, by this status.
    Status(u16),
    /// With 500, until somebody stops the publication.
    Failing,
}

const REFUSALS: [Refusal; 4] =
    [Refusal::Status(403), Refusal::Status(400), Refusal::Status(413), Refusal::Failing];

/// What it refuses from a request on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// All requests that do the same to the same.
    TheSame,
    /// All requests of its kind.
    ItsKind,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    which: Kind,
    number: usize,
    what: What,
    refusal: Refusal,
}

impl Case {
    fn rule(self, victim: &Victim) -> Rule {
        let (seen, met, victim) = (AtomicUsize::new(0), AtomicUsize::new(0), victim.clone());
        let refused: Mutex<Option<String>> = Mutex::default();
        let about = move |request: &Request| match self.what {
            What::TheSame => format!("{} {}", request.method, request.target),
            What::ItsKind => kind(request),
        };
        let is_meant = move |request: &Request| {
            let mut refused = refused.lock().unwrap();
            if seen.fetch_add(1, Ordering::SeqCst) == self.number {
                *refused = Some(about(request));
            }
            let is_meant = refused.as_ref() == Some(&about(request));
            // A second try, or another request, shows that it waits.
            if is_meant && self.refusal == Refusal::Failing && met.fetch_add(1, Ordering::SeqCst) == 1 {
                victim.stop();
            }
            is_meant
        };
        let status = match self.refusal {
            Refusal::Status(status) => status,
            Refusal::Failing => 500,
        };
        let body = r#"{"errors": [{"code": "DENIED", "message": "not today"}]}"#;
        let reply = Reply::of(status).with("content-type", "application/json").body(body);
        rule(usize::MAX, is_meant, Fault::Answer(reply))
    }
}

/// Refused: the tags are exactly old, or exactly new, or it says that it is incomplete; then the same command, of which
/// nothing is refused, completes it.
async fn refused(registry: &Registry, place: &Place, case: Case) {
    let victim = Victim::default();
    let (answer, _) = registry.publish(place, &victim, vec![case.rule(&victim)]).await;
    let public = registry.public(&format!("{case:?}\n{}", answer.stderr)).await;
    let is_right = match answer.code {
        Some(0) => public == Public::New,
        Some(3) => public == Public::Old,
        Some(5) => answer.stderr.contains("run the same command again"),
        Some(143) => case.refusal == Refusal::Failing && public == Public::Old,
        _ => false,
    };
    assert!(is_right, "{case:?}: {public:?}, {:?}\n{}", answer.code, answer.stderr);
    let one_tag = case.what == What::TheSame && registry.requests()[case.number] == "PUT a tag";
    if one_tag && answer.stderr.contains("move the tag") && case.refusal != Refusal::Failing {
        assert_eq!((answer.code, public), (Some(3), Public::Old), "{case:?}: put back\n{}", answer.stderr);
    }
    registry.again(&format!("{case:?}"), place).await;
}

/// In short: once, at the ends of each kind, and in every way where a tag is moved.
fn cases(which: Kind, requests: &[String]) -> Vec<Case> {
    let is_all = rounds().is_some();
    let mut cases = Vec::new();
    for number in if is_all { (0..requests.len()).collect() } else { ends_of_kinds(requests) } {
        let is_tag = requests[number] == "PUT a tag";
        let case = |what, refusal| Case { which, number, what, refusal };
        if !is_all {
            cases.push(case(What::ItsKind, Refusal::Status(403)));
        }
        if is_all || is_tag {
            cases.extend(REFUSALS.map(|refusal| case(What::TheSame, refusal)));
        }
        if is_all {
            cases.extend(REFUSALS.map(|refusal| case(What::ItsKind, refusal)));
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn i_p8_refused_at_any_request_tags_are_old_or_new_or_the_same_command_makes_them_so() {
    let test = "publication::refused::i_p8_refused_at_any_request";
    let Some(small) = Small::built(test) else { return };
    let mut cases = Vec::new();
    for which in if rounds().is_some() { &KINDS[..] } else { &[Kind::Ours] } {
        let Some(registry) = small.registry(test, *which).await else { continue };
        cases.extend(self::cases(*which, registry.requests()));
    }
    try_each(&small, cases, move |small, place, case| async move {
        let Some(registry) = small.registry(test, case.which).await else { return };
        refused(&registry, &place, case).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i_p8_a_publication_survives_the_loss_of_any_answer() {
    let test = "publication::refused::i_p8_a_publication_survives";
    let Some(small) = Small::built(test) else { return };
    let mut cases = Vec::new();
    for which in KINDS {
        let Some(registry) = small.registry(test, which).await else { continue };
        let requests = registry.requests();
        let all = if rounds().is_some() { (0..requests.len()).collect() } else { ends_of_kinds(requests) };
        // What only asks is asked again, and that is all.
        let writes =
            all.into_iter().filter(|number| rounds().is_some() || !requests[*number].starts_with("HEAD "));
        cases.extend(writes.map(|number| (which, number)));
    }
    try_each(&small, cases, move |small, place, (which, number)| async move {
        let Some(registry) = small.registry(test, which).await else { return };
        let case = format!("{which:?}, request {number}: {}", registry.requests()[number]);
        let rules = vec![at(number, Fault::LoseReply)];
        let (answer, _) = registry.publish(&place, &Victim::default(), rules).await;
        assert_eq!(answer.code, Some(0), "{case}: {}", answer.stderr);
        registry.is_new(&case).await;
    })
    .await;
}
