//! Whether another try of a build that failed may pass, by what an engine says; the same for every engine.

use crate::diag::{Diagnostic, Kind};

use super::process::Ended;
use super::{BuildFailure, BuildOrder};

/// What an engine says, in whole words, where a network or a server failed; in lower case.
const PASSING: &[&str] = &[
    "connection refused",
    "connection reset",
    "connection timed out",
    "broken pipe",
    "too many open files",
    "i/o timeout",
    "tls handshake timeout",
    "no route to host",
    "network is unreachable",
    "temporary failure in name resolution",
    "could not resolve host",
    "no such host",
    "unexpected eof",
    "error reading from server: eof",
    "transport is closing",
    // BuildKit shares one look-up between builds that run side by side, and it ends with the session that began it.
    "no active sessions",
    "no active session",
    "code = unavailable",
    // Where no step has failed: a BuildKit that is being stopped.
    "context canceled",
    "too many requests",
    "toomanyrequests",
    "status code 429",
    "status: 429",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway timeout",
    "504 gateway time-out",
    "bad gateway",
    "service unavailable",
    "cannot connect to the docker daemon",
    "error during connect",
    // A client with the classic image store whose engine has gone in the middle of a build.
    "server did not provide an image id",
    "status code 500",
    "status code 502",
    "status code 503",
    "status code 504",
];

/// What an engine says whose disk can no more be used, or whose memory is full: the same again fails there, and need not
/// elsewhere.
const BROKEN: &[&str] = &["read-only file system", "input/output error", "cannot allocate memory"];

/// The failure whose problem is known, by the words of the engine that it came with. Where those say that the
/// surroundings failed, it is of that kind, however often it is tried.
pub(super) fn by_words(problem: Diagnostic, words: &str, disk: DiskHints) -> BuildFailure {
    if is_full_disk(words) {
        return full_disk(problem, disk);
    }
    let words = words.to_ascii_lowercase();
    if BROKEN.iter().any(|broken| has_words(&words, broken)) {
        return BuildFailure::Step { problem: Diagnostic { kind: Kind::Surroundings, ..problem } };
    }
    match PASSING.iter().any(|passing| has_words(&words, passing)) {
        true => BuildFailure::Passing { problem: Diagnostic { kind: Kind::Surroundings, ..problem } },
        false => BuildFailure::Step { problem },
    }
}

/// What engines say of an image that is not there.
const NO_IMAGE: &[&str] = &["no such image", "does not exist locally", "tag does not exist"];

/// The failure of what comes after a build, by the words of the engine. An image that is gone by then was taken away (F-X1):
/// an engine removes an image with its last name, and another run gave up its name for the same image in the moment before
/// this one had got its own. The next try finds all its steps done.
pub(super) fn after_build(problem: Diagnostic, words: &str, disk: DiskHints) -> BuildFailure {
    let said = words.to_ascii_lowercase();
    match NO_IMAGE.iter().any(|none| has_words(&said, none)) {
        true => BuildFailure::Passing { problem: Diagnostic { kind: Kind::Surroundings, ..problem } },
        false => by_words(problem, words, disk),
    }
}

/// Whether a text has these words, and not as parts of others.
fn has_words(text: &str, words: &str) -> bool {
    let apart = |next: Option<char>| next.is_none_or(|next| !next.is_alphanumeric());
    text.match_indices(words).any(|(at, found)| {
        apart(text[..at].chars().next_back()) && apart(text[at + found.len()..].chars().next())
    })
}

/// Whether an engine says that its disk is full, or that it may not fill more of it.
pub(crate) fn is_full_disk(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["no space left on device", "disk quota exceeded"].iter().any(|full| words.contains(full))
}

/// What to do where the disk of an engine is full.
pub(super) type DiskHints = &'static [&'static str];

/// The disk of the engine is full.
pub(super) fn full_disk(problem: Diagnostic, hints: DiskHints) -> BuildFailure {
    let problem = Diagnostic { kind: Kind::Surroundings, ..problem };
    BuildFailure::Full { problem: hints.iter().fold(problem, |problem, hint| problem.hint(*hint)) }
}

/// A process of a step was killed, which it does not do to itself (F-G6): the same may pass where there is more memory.
pub(super) fn killed(problem: Diagnostic) -> BuildFailure {
    let problem = Diagnostic { kind: Kind::Surroundings, ..problem }
        .because("it was killed, which is mostly for a lack of memory")
        .hint("see whether it was, on the engine's machine: sudo dmesg | grep -i 'out of memory'")
        .hint("then let fewer jobs run there at once: polyarch build --slots 1");
    BuildFailure::Step { problem }
}

/// A build of which no step says that it has failed, by how its client ended. One that was killed (F-G3), which it does not
/// do to itself, says nothing of the build: begun again, it may pass.
pub(super) fn of_client(problem: Diagnostic, words: &str, was_killed: bool, disk: DiskHints) -> BuildFailure {
    if !was_killed {
        return by_words(problem, words, disk);
    }
    let problem = Diagnostic { kind: Kind::Surroundings, ..problem }
        .because("the program that builds was killed, which is mostly for a lack of memory")
        .hint("see whether it was, on this machine: sudo dmesg | grep -i 'out of memory'");
    BuildFailure::Passing { problem }
}

/// The surroundings of a build failed before it could begin.
pub(super) fn surroundings(problem: Diagnostic) -> BuildFailure {
    match problem.kind {
        Kind::Surroundings => BuildFailure::Passing { problem },
        _ => BuildFailure::Step { problem },
    }
}

/// The time of an order is over.
pub(super) fn too_long(order: &BuildOrder) -> BuildFailure {
    let seconds = order.time_limit.as_secs();
    let problem =
        Diagnostic::new(Kind::Failed, format!("build {}: it took longer than {seconds} s", order.title));
    BuildFailure::Step { problem: problem.hint(see(order)) }
}

/// Whether a step could not start at all, its program being of another kind than the machine's: the engine says so, or what
/// starts programs for it, in the first words of a line. What a command that has started prints is nobody's word but its own.
pub(super) fn is_of_another_kind(reason: &str, tail: &[&str]) -> bool {
    let says = |line: &str| line.to_ascii_lowercase().ends_with("exec format error");
    let is_starters = |line: &str| match line.split_once(": ") {
        Some((who, _)) => who.starts_with("exec ") || line.contains("exec user process caused"),
        None => false,
    };
    says(reason) || tail.iter().map(|line| line.trim()).any(|line| is_starters(line) && says(line))
}

/// The step could not start: on a machine of its platform for what the image has in it, else for want of an emulator.
pub(super) fn not_started(order: &BuildOrder, problem: Diagnostic, is_native: bool) -> BuildFailure {
    match is_native {
        true => BuildFailure::Step {
            problem: problem.hint(format!(
                "the engine's machine runs programs of {} itself: see that the image has such, and that scripts begin with #!",
                order.platform
            )),
        },
        false => not_emulated(order, problem),
    }
}

/// The engine's machine runs no programs of that platform.
fn not_emulated(order: &BuildOrder, problem: Diagnostic) -> BuildFailure {
    let hint = format!(
        "the engine's machine does not run programs of {}; let it emulate them: sudo apt-get install qemu-user-static",
        order.platform
    );
    let problem = Diagnostic { kind: Kind::Surroundings, ..problem }
        .hint(hint)
        .hint("then look again: polyarch doctor");
    BuildFailure::Step { problem }
}

/// Where the whole output is.
pub(super) fn see(order: &BuildOrder) -> String {
    format!("see the whole output: less {}", order.log.display())
}

/// What is known of an end of which no step tells.
pub(super) fn what(ended: Ended, last_words: &[&str]) -> String {
    last_words.first().map_or_else(|| ended.to_string(), |line| (*line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(failure: BuildFailure) -> (&'static str, Kind) {
        match failure {
            BuildFailure::Step { problem } => ("step", problem.kind),
            BuildFailure::Passing { problem } => ("passing", problem.kind),
            BuildFailure::Full { problem } => ("full", problem.kind),
        }
    }

    #[test]
    fn f_x1_an_image_that_is_gone_after_its_build_is_built_again() {
        let passing = ("passing", Kind::Surroundings);
        let failed = ("step", Kind::Failed);
        let table = [
            ("Error: No such image: sha256:4d200b97", passing, failed),
            ("An image does not exist locally with the tag: 127.0.0.1:5/a", passing, failed),
            ("tag does not exist: 127.0.0.1:5/a:t", passing, failed),
            ("denied: you may not", failed, failed),
            ("write /a: no space left on device", ("full", Kind::Surroundings), ("full", Kind::Surroundings)),
            ("connection refused", passing, passing),
        ];
        let problem = || Diagnostic::new(Kind::Failed, "x");
        for (words, after, within) in table {
            assert_eq!(class(after_build(problem(), words, &[])), after, "{words}");
            assert_eq!(class(by_words(problem(), words, &[])), within, "{words}");
        }
    }

    #[test]
    fn f_g3_a_client_that_was_killed_says_nothing_of_the_build() {
        let (passing, failed) = (("passing", Kind::Surroundings), ("step", Kind::Failed));
        let table = [
            (None, false, passing),
            (Some(137), false, passing),
            (Some(1), false, failed),
            (Some(125), false, failed),
            // It was this process that ended it.
            (None, true, failed),
        ];
        for (code, timed_out, expected) in table {
            let problem = Diagnostic::new(Kind::Failed, "x");
            let was_killed = Ended { code, timed_out }.was_killed();
            let failure = of_client(problem, "read-only file", was_killed, &[]);
            assert_eq!(class(failure), expected, "{code:?}, {timed_out}");
        }
    }

    #[test]
    fn f_g3_f_g6_f_g20_what_may_pass_is_tried_again_and_a_full_disk_is_told_apart() {
        let passing = ("passing", Kind::Surroundings);
        let table = [
            ("process \"x\" did not complete successfully: exit code: 1", ("step", Kind::Failed)),
            ("write /a: no space left on device, connection reset", ("full", Kind::Surroundings)),
            ("failed to do request: dial tcp 127.0.0.1:1: connect: connection refused", passing),
            ("unexpected status code 503 Service Unavailable", passing),
            ("received unexpected HTTP status: 502 Bad Gateway", passing),
            ("unexpected status code https://r.io/v2/a/manifests/1: 429 Too Many Requests", passing),
            ("toomanyrequests: You have reached your pull rate limit", passing),
            ("failed to compute cache key: \"/nothing\" not found: not found", ("step", Kind::Failed)),
            ("rpc error: code = Unavailable desc = error reading from server: EOF", passing),
            ("httpReadSeeker: failed open: no active sessions", passing),
            ("no active session for vp2qk8: context deadline exceeded", passing),
            ("failed to build: failed to solve: Canceled: context canceled", passing),
            ("cannot write /t/image-id because server did not provide an image ID", passing),
            ("\"/no-such-hosts\": not found", ("step", Kind::Failed)),
            ("\"/no such hosts\": not found", ("step", Kind::Failed)),
            ("layer of 429 bytes is broken", ("step", Kind::Failed)),
            ("open /var/lib/docker/x: too many open files", passing),
            ("mkdir /var/lib/docker/x: read-only file system", ("step", Kind::Surroundings)),
            ("write /a: disk quota exceeded", ("full", Kind::Surroundings)),
            ("fork/exec /usr/bin/runc: cannot allocate memory", ("step", Kind::Surroundings)),
        ];
        for (words, expected) in table {
            assert_eq!(class(by_words(Diagnostic::new(Kind::Failed, "x"), words, &[])), expected, "{words}");
        }
    }
}
