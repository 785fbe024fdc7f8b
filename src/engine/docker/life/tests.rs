//! When an engine counts as lost, in time that is made up.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::engine::docker::DockerEnvironment;
use crate::engine::docker::client::Client;
use crate::lent::write_program;

/// What RELIABILITY gives a loss until it is found.
const FOUND_WITHIN: Duration = Duration::from_secs(20);
const MILLISECONDS: u64 = 1_000;

/// How an engine is gone: from a moment, for a time, in which who asks is refused or hears nothing.
#[derive(Clone, Copy, Debug)]
struct Gone {
    from: Instant,
    until: Instant,
    refuses: bool,
}

/// Ask an engine that is gone for a while; an answer takes a moment.
async fn ask(gone: Gone) -> Result<(), Missed> {
    let problem = Diagnostic::surroundings("no answer");
    let is_gone = || (gone.from..gone.until).contains(&Instant::now());
    if is_gone() && gone.refuses {
        return Err(Missed::Refusal(problem));
    }
    // A question that nobody heard is not asked again by itself.
    if is_gone() {
        sleep(PATIENCE).await;
        return Err(Missed::Silence(problem));
    }
    sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// An engine that is gone some milliseconds from now, for so many.
fn gone(from: u64, milliseconds: u64, refuses: bool) -> Gone {
    let from = Instant::now() + Duration::from_millis(from);
    Gone { from, until: from + Duration::from_millis(milliseconds), refuses }
}

#[tokio::test(start_paused = true)]
async fn f_g9_one_answer_that_is_missed_loses_no_builder_whenever_it_is() {
    for (milliseconds, refuses) in [(2_900, true), (2_900, false), (6_000, false)] {
        for from in (0..10 * MILLISECONDS).step_by(50) {
            let gone = gone(from, milliseconds, refuses);
            let watched = timeout(Duration::from_secs(60), silent(|| ask(gone), unseen)).await;
            assert!(watched.is_err(), "lost after {from} ms, though it was away for {milliseconds} ms alone");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f_g3_f_g9_f_n2_what_is_gone_for_good_is_found_in_time() {
    for refuses in [true, false] {
        for from in (0..10 * MILLISECONDS).step_by(50) {
            let gone = gone(from, 1 << 30, refuses);
            let problem = timeout(Duration::from_secs(600), silent(|| ask(gone), unseen)).await;
            problem.expect("its loss is found");
            let took = Instant::now() - gone.from;
            assert!(took <= FOUND_WITHIN, "found after {took:?}");
        }
    }
}

/// After how long an engine is lost that does not answer from a moment on, and that is at work until another.
async fn lost_after(silent_from: u64, at_work_until: u64) -> Duration {
    let (begun, gone) = (Instant::now(), gone(silent_from, 1 << 30, false));
    let work = || async {
        let seconds = begun.elapsed().as_secs().min(at_work_until);
        Some(seconds)
    };
    let lost = timeout(Duration::from_secs(600), silent(|| ask(gone), work)).await;
    lost.expect("its loss is found");
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn f_g9_an_engine_that_is_at_work_and_has_no_time_to_answer_is_not_lost_so_soon() {
    for until in [0, 12, 30] {
        let took = lost_after(0, until).await;
        assert!(took <= Duration::from_secs(until) + FOUND_WITHIN, "frozen after {until} s: {took:?}");
        assert!(until == 0 || took > Duration::from_secs(until), "at work for {until} s: {took:?}");
    }
    let question = PAUSE + PATIENCE;
    let most = question * u32::try_from(QUESTIONS_AT_WORK).unwrap();
    assert_eq!(lost_after(0, 600).await, most, "one that hangs and is at work is found too");
}

#[tokio::test(start_paused = true)]
async fn f_g9_an_engine_whose_answer_is_missed_after_a_failure_is_asked_once_more() {
    let asked = AtomicUsize::new(0);
    let table = [
        ([Missed::Silence as fn(_) -> _, Missed::Silence], 0, (true, 1)),
        ([Missed::Silence, Missed::Silence], 1, (true, 2)),
        ([Missed::Silence, Missed::Silence], 2, (false, 2)),
        // F-G3: an engine that comes back after it was killed answers, and has lost the build.
        ([Missed::Refusal, Missed::Silence], 1, (false, 1)),
        ([Missed::Silence, Missed::Refusal], 2, (false, 2)),
    ];
    for (missed, misses, expected) in table {
        asked.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        let pulse = || async {
            let at = asked.fetch_add(1, Ordering::Relaxed);
            match missed.get(at).filter(|_| at < misses) {
                Some(missed) => Err(missed(Diagnostic::surroundings("no answer"))),
                None => Ok(()),
            }
        };
        let there = answers(pulse, unseen).await;
        let pauses = PAUSE * u32::try_from(expected.1 - 1).expect("few");
        assert_eq!((there, asked.load(Ordering::Relaxed)), expected);
        assert_eq!(begun.elapsed(), pauses, "the second question is apart from the first");
    }
}

#[tokio::test]
async fn f_g9_a_client_that_does_not_end_when_it_is_asked_to_delays_no_question() {
    let folder = tempfile::tempdir().unwrap();
    let (client, socket) = (folder.path().join("docker"), folder.path().join("docker.sock"));
    write_program(&client, "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let docker = Docker::local(DockerEnvironment {
        search_path: "/usr/bin:/bin".into(),
        host: Some(format!("unix://{}", socket.display())),
        certificates: None,
        user_config: None,
        variables: std::collections::BTreeMap::new(),
        scratch: folder.path().to_owned(),
        over: std::collections::BTreeSet::new(),
    });
    let stand_in = Client { path: client, buildx: None, notes: Vec::new() };
    assert!(docker.client.set(stand_in).is_ok());
    let most = FOUND_WITHIN / u32::try_from(QUESTIONS).unwrap() - PAUSE;
    let mut all = Vec::new();
    // A busy machine may be late with one, or two.
    while all.len() < 3 && all.last().is_none_or(|took| *took >= most) {
        let begun = Instant::now();
        let missed = pulse(&docker).await;
        assert!(matches!(missed, Err(Missed::Silence(_))), "{missed:?}");
        all.push(begun.elapsed());
    }
    let took = all.last().unwrap();
    assert!((PATIENCE..most).contains(took), "one of {QUESTIONS} questions took {all:?}");
}
