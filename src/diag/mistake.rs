//! Mistakes of our own, which end in a panic: told like every other problem, never as the text of a panic (I-X4).

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinError;

use super::{Diagnostic, Kind, Problems};

/// How many panics are remembered until somebody tells of them.
const REMEMBERED: usize = 16;

/// What each of the last panics said, and where it was met: whoever outlives one may be on another thread.
static LAST: Mutex<VecDeque<(String, String)>> = Mutex::new(VecDeque::new());

/// Have panics print nothing, unless it is asked for: whoever outlives one tells of it, and where it was met.
pub(crate) fn keep_panics(prints: bool) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(place) = panic.location() {
            let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
            last.truncate(REMEMBERED - 1);
            last.push_front((said(panic.payload()).unwrap_or_default(), place.to_string()));
        }
        if prints {
            print(panic);
        }
    }));
}

/// What is to be said of a panic that was outlived, by whoever met it.
pub(crate) fn mistake(who: impl Display, panic: &(dyn Any + Send)) -> Diagnostic {
    let place = place_of(panic).map(|place| format!("at {place}"));
    let problem = Diagnostic::new(Kind::Bug, format!("{who} met a mistake in polyarch"));
    said(panic).into_iter().chain(place).fold(problem, Diagnostic::because)
}

/// The same of a task that was waited for: it has panicked, or nobody lets it go on.
pub(crate) fn mistake_in_task(who: impl Display, error: JoinError) -> Diagnostic {
    match error.try_into_panic() {
        Ok(panic) => mistake(who, &*panic),
        Err(error) => Diagnostic::new(Kind::Bug, format!("{who} did not end")).caused_by(&error),
    }
}

/// Where a task that was waited for has panicked: all that anybody hears of it who only asks over the network.
pub(crate) fn place_in_task(error: JoinError) -> Option<String> {
    place_of(&*error.try_into_panic().ok()?)
}

/// Where a panic was met, which is told once.
fn place_of(panic: &(dyn Any + Send)) -> Option<String> {
    let said = said(panic).unwrap_or_default();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let at = last.iter().position(|(other, _)| *other == said)?;
    last.remove(at).map(|(_, place)| place)
}

fn said(panic: &(dyn Any + Send)) -> Option<String> {
    let said = panic.downcast_ref::<&str>().map(ToString::to_string);
    said.or_else(|| panic.downcast_ref::<String>().cloned())
}

/// What a command comes to, which may be that it met a mistake.
///
/// # Errors
/// Those of the command, and where it met one.
pub(crate) fn outliving<T>(command: impl FnOnce() -> Result<T, Problems>) -> Result<T, Problems> {
    // Nothing of it is looked at afterwards.
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|panic| {
        let problem = mistake("this command", &*panic);
        Err(problem
            .hint("tell of it, with the command and what it has said")
            .hint("and with where it came from: run it again with RUST_BACKTRACE=1")
            .into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line that a panic is planted on, and what is told of one in a task or on a thread.
    async fn planted(threaded: bool) -> (u32, Diagnostic) {
        let line = line!() + 1;
        let fault = move || panic!("planted where it is waited for: {threaded}");
        let joined = match threaded {
            true => tokio::task::spawn_blocking(fault).await,
            false => tokio::spawn(async move { fault() }).await,
        };
        (line, mistake_in_task("this work", joined.expect_err("it has panicked")))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn i_x3_i_x4_the_place_of_a_mistake_is_told_whatever_thread_has_met_it() {
        keep_panics(true);
        for threaded in [false, true] {
            let (line, told) = planted(threaded).await;
            assert_eq!(told.kind.exit_code(), 101);
            assert_eq!(told.message, "this work met a mistake in polyarch");
            let place = format!("at {}:{line}:", file!());
            assert_eq!(told.causes[0], format!("planted where it is waited for: {threaded}"));
            assert!(told.causes[1].starts_with(&place), "{place}: {:?}", told.causes);
        }
        let told = outliving::<()>(|| panic!("planted on this thread")).expect_err("it has panicked");
        assert!(format!("{told:?}").contains(&format!("at {}:", file!())), "{told:?}");
        let idle = tokio::spawn(std::future::pending::<()>());
        idle.abort();
        let told = mistake_in_task("this work", idle.await.expect_err("it was given up"));
        assert_eq!((told.message.as_str(), told.kind), ("this work did not end", Kind::Bug));
    }

    #[test]
    fn i_x4_a_mistake_of_our_own_is_told_as_one_with_what_helps_to_mend_it() {
        let words: [fn() -> Result<(), Problems>; 2] = [|| panic!("planted"), || panic!("planted {}", 1 + 1)];
        for (number, command) in words.into_iter().enumerate() {
            let problems = outliving(command).expect_err("it has met a mistake");
            assert_eq!(problems.exit_code(), 101);
            let told = format!("{problems:?}");
            let said = ["planted", "planted 2"][number];
            for text in ["this command met a mistake in polyarch", said, "RUST_BACKTRACE=1"] {
                assert!(told.contains(text), "{text}: {told}");
            }
        }
        let well = outliving(|| Ok(7)).expect("nothing has happened");
        assert_eq!(well, 7);
    }
}
