//! Why a build failed, and whether another try may pass.

use super::Docker;
use super::output::BuildLog;
use crate::diag::{Diagnostic, Kind};
use crate::engine::process::Ended;
use crate::engine::{BuildFailure, BuildOrder};

/// What is said where a network or a server failed, in lower case.
const PASSING: &[&str] = &[
    "connection refused",
    "connection reset",
    "connection timed out",
    "broken pipe",
    "i/o timeout",
    "tls handshake timeout",
    "no route to host",
    "network is unreachable",
    "temporary failure in name resolution",
    "temporary failure resolving",
    "could not resolve host",
    "no such host",
    "unexpected eof",
    "error reading from server: eof",
    "transport is closing",
    "code = unavailable",
    "too many requests",
    "toomanyrequests",
    "429 ",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway",
    "bad gateway",
    "service unavailable",
    "cannot connect to the docker daemon",
    "error during connect",
    "unexpected status code 5",
    "unexpected status: 5",
];

/// The failure of a build, by what its output says.
pub(super) fn of_build(docker: &Docker, order: &BuildOrder, log: &BuildLog, ended: Ended) -> BuildFailure {
    if ended.timed_out {
        return too_long(order);
    }
    let last_words = log.last_words();
    let Some((step, error, tail)) = log.failure() else {
        let words = last_words.join("\n");
        if let Some(problem) = super::probe::unreachable(docker, &words) {
            return BuildFailure::Passing { problem };
        }
        let problem =
            Diagnostic::new(Kind::Failed, format!("build {}: {}", order.title, what(ended, &last_words)));
        let problem = last_words.iter().skip(1).fold(problem, |problem, line| problem.because(line));
        return by_words(problem.hint(see(order)), &words);
    };
    let problem =
        Diagnostic::new(Kind::Failed, format!("build {}: step {step} failed", order.title)).because(error);
    let problem = tail.iter().fold(problem, |problem, line| problem.because(line)).hint(see(order));
    let all = format!("{error}\n{}\n{}", tail.join("\n"), last_words.join("\n"));
    if all.contains("exec format error") {
        return not_emulated(order, problem);
    }
    let problem = match error.ends_with("exit code: 137") {
        true => problem
            .hint("exit code 137 is mostly a lack of memory; see: sudo dmesg | grep -i 'out of memory'"),
        false => problem,
    };
    by_words(problem, &all)
}

/// The failure whose problem is known, by the words that it came with.
pub(super) fn by_words(problem: Diagnostic, words: &str) -> BuildFailure {
    let words = words.to_ascii_lowercase();
    if words.contains("no space left on device") {
        let problem = Diagnostic { kind: Kind::Surroundings, ..problem }
            .hint("the engine's disk is full; see what fills it: docker system df")
            .hint("and free the cache of builds: docker builder prune");
        return BuildFailure::Step { problem };
    }
    if PASSING.iter().any(|passing| words.contains(passing)) {
        return BuildFailure::Passing { problem };
    }
    BuildFailure::Step { problem }
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

fn see(order: &BuildOrder) -> String {
    format!("see the whole output: less {}", order.log.display())
}

fn what(ended: Ended, last_words: &[&str]) -> String {
    last_words.first().map_or_else(|| ended.to_string(), |line| (*line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(words: &str) -> (&'static str, Kind) {
        match by_words(Diagnostic::new(Kind::Failed, "x"), words) {
            BuildFailure::Step { problem } => ("step", problem.kind),
            BuildFailure::Passing { problem } => ("passing", problem.kind),
        }
    }

    #[test]
    fn f_g3_f_g6_f_g20_what_may_pass_is_tried_again_and_a_full_disk_is_not() {
        let table = [
            ("process \"x\" did not complete successfully: exit code: 1", ("step", Kind::Failed)),
            ("write /a: no space left on device, connection reset", ("step", Kind::Surroundings)),
            (
                "failed to do request: dial tcp 127.0.0.1:1: connect: connection refused",
                ("passing", Kind::Failed),
            ),
            ("unexpected status code 503 Service Unavailable", ("passing", Kind::Failed)),
            ("toomanyrequests: You have reached your pull rate limit", ("passing", Kind::Failed)),
            ("failed to compute cache key: \"/nothing\" not found: not found", ("step", Kind::Failed)),
            (
                "rpc error: code = Unavailable desc = error reading from server: EOF",
                ("passing", Kind::Failed),
            ),
        ];
        for (words, expected) in table {
            assert_eq!(class(words), expected, "{words}");
        }
    }
}
