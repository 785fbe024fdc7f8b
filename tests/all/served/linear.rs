//! Tags are linearizable: whatever clients saw, there is one order of all that explains it (I-R1, G21).
//!
//! Eight clients move, remove and read two tags while the server is killed and started again. The checker looks for
//! an order that keeps to what ended before what began, after Wing and Gong, with the states that were seen to lead
//! nowhere remembered, as Lowe does. Every tag is a register of its own, so each is checked alone.
//! `POLYARCH_HISTORIES=500` by hand.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use polyarch::oci::{Document, ImageIndex};

use super::{Asked, Asker, Failed, Random, Server, so_many};
use crate::program::Place;

const CLIENTS: u64 = 8;
const OPERATIONS: usize = 12;
const VALUES: usize = 6;
const TAGS: [&str; 2] = ["one", "other"];

/// What a tag points at: one of the documents, or nothing.
type State = Option<usize>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Write(usize),
    /// Whether it was there.
    Remove(bool),
    Read(State),
    /// Nobody knows whether it happened.
    LostWrite(usize),
    LostRemove,
}

impl Action {
    /// The state after it, where it can happen in this one.
    fn apply(self, state: State) -> Option<State> {
        match self {
            Self::Write(value) | Self::LostWrite(value) => Some(Some(value)),
            Self::Remove(was_there) => (state.is_some() == was_there).then_some(None),
            Self::LostRemove => Some(None),
            Self::Read(seen) => (state == seen).then_some(state),
        }
    }

    fn is_lost(self) -> bool {
        matches!(self, Self::LostWrite(_) | Self::LostRemove)
    }
}

#[derive(Clone, Copy, Debug)]
struct Operation<T> {
    began: T,
    /// Never, where no answer came.
    ended: Option<T>,
    action: Action,
}

/// Whether one order explains all answers.
fn is_linearizable<T: Copy + Ord>(history: &[Operation<T>]) -> bool {
    assert!(history.len() <= 128, "a history fits into the bits");
    let answered = { history.iter().enumerate() }
        .filter(|(_, one)| !one.action.is_lost())
        .fold(0_u128, |all, (number, _)| all | 1 << number);
    let mut waiting: Vec<(u128, State)> = vec![(0, None)];
    let mut seen = HashSet::new();
    while let Some((done, state)) = waiting.pop() {
        if done & answered == answered {
            return true;
        }
        if !seen.insert((done, state)) {
            continue;
        }
        let left = history.iter().enumerate().filter(|(number, _)| done & (1 << number) == 0);
        // What began after something had ended that is still left comes after it.
        let first_end = left.clone().filter_map(|(_, one)| one.ended).min();
        for (number, one) in left {
            if first_end.is_none_or(|end| one.began <= end) {
                waiting.extend(one.action.apply(state).map(|next| (done | 1 << number, next)));
            }
        }
    }
    false
}

fn documents() -> Vec<Document> {
    let one = |number: usize| {
        let annotations = [("number".to_owned(), number.to_string())].into();
        let index = ImageIndex { annotations, ..ImageIndex::new(Vec::new()) };
        Document::of_index(&index)
    };
    (0..VALUES).map(one).collect()
}

async fn client(
    number: u64,
    seed: u64,
    asker: Asker,
    documents: Vec<Document>,
) -> Vec<(usize, Operation<Instant>)> {
    let mut random = Random(seed * CLIENTS + number);
    let mut history = Vec::new();
    for _ in 0..OPERATIONS {
        let tag = random.below(TAGS.len() as u64) as usize;
        let value = random.below(VALUES as u64) as usize;
        let kind = random.below(10);
        let began = Instant::now();
        let action = match kind {
            0..=3 => match asker.push_document(&documents[value], TAGS[tag]).await {
                Ok(()) => Action::Write(value),
                Err(error) => lost(error, Action::LostWrite(value)),
            },
            4 => match found(asker.untag(TAGS[tag]).await) {
                Ok(was_there) => Action::Remove(was_there.is_some()),
                Err(error) => lost(error, Action::LostRemove),
            },
            _ => match found(asker.document(TAGS[tag]).await) {
                Ok(None) => Action::Read(None),
                Ok(Some(bytes)) => {
                    let seen = documents.iter().position(|one| *one.bytes() == bytes);
                    Action::Read(Some(seen.expect("whole, and one of ours")))
                }
                // A read that was not answered says nothing.
                Err(Failed::Lost(_)) => break,
                Err(error) => panic!("a read: {error:?}"),
            },
        };
        let ended = (!action.is_lost()).then(Instant::now);
        history.push((tag, Operation { began, ended, action }));
        if action.is_lost() {
            break;
        }
    }
    history
}

/// What is not there is an answer, too.
fn found<T>(asked: Asked<T>) -> Asked<Option<T>> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(Failed::Answered(status, _)) if status.as_u16() == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn lost(error: Failed, action: Action) -> Action {
    match error {
        Failed::Lost(_) => action,
        Failed::Answered(..) => panic!("{action:?}: {error:?}"),
    }
}

async fn clients(
    server: &Server,
    seed: u64,
    repository: &str,
) -> Vec<tokio::task::JoinHandle<Vec<(usize, Operation<Instant>)>>> {
    let documents = documents();
    (0..CLIENTS)
        .map(|number| tokio::spawn(client(number, seed, Asker::new(server, repository), documents.clone())))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i_r1_tags_are_linearizable_through_kills() {
    let histories = so_many("POLYARCH_HISTORIES", 50) as u64;
    let place = Place::new();
    let mut server = Server::start(&place);
    let (mut operations, mut unanswered) = (0, 0);
    for seed in 0..histories {
        let repository = format!("history/{seed}");
        let mut history = Vec::new();
        let running = clients(&server, 2 * seed, &repository).await;
        tokio::time::sleep(Duration::from_millis(5 + Random(seed).below(60))).await;
        server.kill();
        for one in running {
            history.extend(one.await.expect("a client"));
        }
        server = Server::start(&place);
        for one in clients(&server, 2 * seed + 1, &repository).await {
            history.extend(one.await.expect("a client"));
        }
        for (number, tag) in TAGS.iter().enumerate() {
            let own = history.iter().filter(|(tag, _)| *tag == number).map(|(_, one)| *one);
            let own: Vec<Operation<Instant>> = own.collect();
            operations += own.len();
            unanswered += own.iter().filter(|one| one.action.is_lost()).count();
            assert!(is_linearizable(&own), "history {seed}, tag {tag}: {own:#?}");
        }
    }
    println!("{histories} histories: {operations} operations, {unanswered} of them without an answer");
    assert!(unanswered > 0, "the kills hit something");
}

#[test]
fn the_checker_tells_what_can_be_from_what_cannot() {
    use Action::{LostRemove, LostWrite, Read, Remove, Write};
    let history = |all: &[(u32, Option<u32>, Action)]| -> Vec<Operation<u32>> {
        all.iter().map(|&(began, ended, action)| Operation { began, ended, action }).collect()
    };
    let possible: [&[(u32, Option<u32>, Action)]; 7] = [
        &[],
        &[(0, Some(1), Write(1)), (2, Some(3), Read(Some(1)))],
        // At once: either order.
        &[(0, Some(5), Write(1)), (1, Some(4), Write(2)), (6, Some(7), Read(Some(1)))],
        &[(0, Some(9), Write(1)), (1, Some(2), Read(None)), (3, Some(4), Read(Some(1)))],
        // Lost: it happens late, or never.
        &[(0, None, LostWrite(1)), (1, Some(2), Read(None)), (3, Some(4), Read(Some(1)))],
        &[(0, None, LostWrite(1)), (1, Some(2), Read(None)), (3, Some(4), Read(None))],
        &[(0, Some(1), Write(1)), (2, None, LostRemove), (3, Some(4), Remove(false))],
    ];
    for all in possible {
        assert!(is_linearizable(&history(all)), "{all:?}");
    }
    let impossible: [&[(u32, Option<u32>, Action)]; 6] = [
        // An acknowledged write is lost.
        &[(0, Some(1), Write(1)), (2, Some(3), Read(None))],
        // What was seen is undone.
        &[(0, Some(9), Write(1)), (1, Some(2), Read(Some(1))), (3, Some(4), Read(None))],
        &[(0, Some(1), Write(1)), (2, Some(3), Write(2)), (4, Some(5), Read(Some(1)))],
        &[(0, Some(1), Write(1)), (2, Some(3), Remove(false))],
        &[(0, None, LostWrite(1)), (1, Some(2), Read(Some(1))), (3, Some(4), Read(None))],
        // Two readers see two orders.
        &[
            (0, Some(9), Write(1)),
            (0, Some(9), Write(2)),
            (1, Some(2), Read(Some(1))),
            (3, Some(4), Read(Some(2))),
            (5, Some(6), Read(Some(1))),
        ],
    ];
    for all in impossible {
        assert!(!is_linearizable(&history(all)), "{all:?}");
    }
}
