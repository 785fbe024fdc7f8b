//! Mistakes of our own, which end in a panic: told like every other problem, never as the text of a panic (I-X4).

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Diagnostic, Kind, Problems};

thread_local! {
    /// Where the last one was met.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Have panics print nothing, unless it is asked for: whoever outlives one tells of it, and where it was met.
pub(crate) fn keep_panics(prints: bool) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PLACE.with(|place| place.replace(panic.location().map(ToString::to_string)));
        if prints {
            print(panic);
        }
    }));
}

/// What is to be said of a panic that was outlived on this thread, by whoever met it.
pub(crate) fn mistake(who: impl Display, panic: &(dyn Any + Send)) -> Diagnostic {
    let said = panic.downcast_ref::<&str>().map(ToString::to_string);
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
    let place = PLACE.with(RefCell::take).map(|place| format!("at {place}"));
    let problem = Diagnostic::new(Kind::Bug, format!("{who} met a mistake in polyarch"));
    said.into_iter().chain(place).fold(problem, Diagnostic::because)
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
