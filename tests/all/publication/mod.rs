//! Publications by the real program, to real registries, that are killed, refused, cut off and raced. A proxy before
//! the registry does the harm, so that the program is the one that users have: nothing in it knows of these tests.
//!
//! Each begins where an older state is public under every tag. Whatever happens, a tag points at the old or at the new
//! at every moment; at the end all of them do the same, and no journal is open.
//!
//! `POLYARCH_PUBLICATION_ROUNDS=3` by hand tries every request, in every way, at both registries, so often.

mod killed;
mod racing;
mod refused;
mod small;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::fault_proxy::{Fault, FaultProxy, Request, Rule, When, rule};
use crate::program::{Answer, Place, program, variable};
use small::Small;

/// How many cases are tried at once.
const AT_ONCE: usize = 2;

/// How often everything is tried; `None` where a part of it is enough.
fn rounds() -> Option<usize> {
    variable("POLYARCH_PUBLICATION_ROUNDS").and_then(|text| text.to_str()?.parse().ok())
}

/// A process that can be ended from elsewhere while it is waited for.
#[derive(Clone, Default)]
struct Victim(Arc<Mutex<Option<Child>>>);

impl Victim {
    /// Runs the program to its end, whichever that is, while the registries of the test answer.
    fn run(&self, place: &Place, arguments: &[&str]) -> Answer {
        tokio::task::block_in_place(|| {
            let mut child = place.start(arguments);
            let texts = [read(child.stdout.take()), read(child.stderr.take())];
            *self.0.lock().expect("the process") = Some(child);
            let code = loop {
                let ended = match &mut *self.0.lock().expect("the process") {
                    Some(child) => child.try_wait().expect("look at the process"),
                    None => panic!("the process is lost"),
                };
                match ended {
                    Some(status) => break status.code(),
                    None => std::thread::sleep(Duration::from_millis(2)),
                }
            };
            let [stdout, stderr] = texts.map(|text| text.join().expect("its words"));
            Answer { code, stdout, stderr }
        })
    }

    /// Ends it as `kill -9` does; it is gone when this is over.
    fn kill(&self) {
        if let Some(child) = &mut *self.0.lock().expect("the process") {
            child.kill().expect("kill it");
            child.wait().expect("it ended");
        }
    }

    /// Asks it to end.
    fn stop(&self) {
        if let Some(child) = &*self.0.lock().expect("the process") {
            let _ = program("kill").args(["-TERM", &child.id().to_string()]).status();
        }
    }

    /// Killing it, as what a proxy does.
    fn killing(&self, when: When) -> Fault {
        let victim = self.clone();
        Fault::Harm(when, Arc::new(move || victim.kill()))
    }
}

fn read(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A fault of the request of this number, counted from 0.
fn at(number: usize, fault: Fault) -> Rule {
    nth(|_| true, number, fault)
}

/// A fault of that request of a kind which has this number among them, counted from 0.
fn nth(is_meant: impl Fn(&Request) -> bool + Send + Sync + 'static, number: usize, fault: Fault) -> Rule {
    let seen = AtomicUsize::new(0);
    rule(1, move |request| is_meant(request) && seen.fetch_add(1, Ordering::SeqCst) == number, fault)
}

/// What a request does: those of one kind are refused together.
fn kind(request: &Request) -> String {
    let path = request.target.split('?').next().unwrap_or_default();
    let is_by_digest = path.contains("/manifests/sha256:") && !request.target.contains("tag=");
    let what = match path {
        path if path.contains("/blobs/uploads") => "an upload",
        path if path.contains("/blobs/") => "a blob",
        path if path.ends_with("/manifests/polyarch-publications") => "the journal",
        path if path.contains("/manifests/") && is_by_digest => "a document",
        path if path.contains("/manifests/") => "a tag",
        _ => "the registry",
    };
    format!("{} {what}", request.method)
}

/// The kinds of requests that went through a proxy, in their order.
fn kinds(proxy: &FaultProxy) -> Vec<String> {
    proxy.requests().iter().map(kind).collect()
}

/// The numbers of some requests: all where everything is tried; else every one that writes, and of those in a row that
/// read the same, which change nothing, the first and the last.
fn numbers(requests: &[String]) -> Vec<usize> {
    let reads = |kind: &String| kind.starts_with("HEAD ") || kind.starts_with("GET ");
    let is_same =
        |one: usize, other: Option<usize>| requests.get(one) == other.and_then(|at| requests.get(at));
    let is_inside =
        |at: usize| reads(&requests[at]) && is_same(at, at.checked_sub(1)) && is_same(at, Some(at + 1));
    (0..requests.len()).filter(|at| rounds().is_some() || !is_inside(*at)).collect()
}

/// The first and the last of each kind.
fn ends_of_kinds(requests: &[String]) -> Vec<usize> {
    let mut ends: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (number, kind) in requests.iter().enumerate() {
        ends.entry(kind).or_insert([number; 2])[1] = number;
    }
    ends.into_values().flatten().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Tries cases, some at a time, each in a place of its own for as long as it takes.
async fn try_each<C: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    small: &Arc<Small>,
    cases: impl IntoIterator<Item = C>,
    attempt: impl Fn(Arc<Small>, Arc<Place>, C) -> F + Send + Sync + 'static,
) {
    let cases: Vec<C> = cases.into_iter().collect();
    let (left, attempt) = (Arc::new(Mutex::new(cases.into_iter())), Arc::new(attempt));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (small, left, attempt) = (small.clone(), left.clone(), attempt.clone());
        workers.spawn(async move {
            let place = Arc::new(small.place());
            loop {
                let next = left.lock().expect("cases").next();
                let Some(case) = next else { return };
                attempt(small.clone(), place.clone(), case).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    }
}
