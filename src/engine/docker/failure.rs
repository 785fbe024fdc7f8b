//! Why a build failed, and whether another try may pass.

use super::Docker;
use super::output::BuildLog;
use crate::diag::{Diagnostic, Kind};
use crate::engine::process::Ended;
use crate::engine::{BuildFailure, BuildOrder};

/// What an engine says, in whole words, where a network or a server failed; in lower case.
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
    "could not resolve host",
    "no such host",
    "unexpected eof",
    "error reading from server: eof",
    "transport is closing",
    // BuildKit shares one look-up between builds that run side by side, and it ends with the session that began it.
    "no active sessions",
    "code = unavailable",
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
    "status code 500",
    "status code 502",
    "status code 503",
    "status code 504",
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
    if is_full_disk(&all) {
        return full_disk(problem);
    }
    let problem = match error.ends_with("exit code: 137") {
        true => problem
            .hint("exit code 137 is mostly a lack of memory; see: sudo dmesg | grep -i 'out of memory'"),
        false => problem,
    };
    by_words(problem, reason(error))
}

/// Why a step failed, in the engine's own words: without the command, which says what it likes. What the command
/// printed is none of the engine's words at all.
fn reason(error: &str) -> &str {
    let of_process = error.rsplit_once("did not complete successfully: ");
    let of_executor = || error.strip_prefix("executor failed running [")?.rsplit_once("]: ");
    of_process.or_else(of_executor).map_or(error, |(_, reason)| reason)
}

/// The failure whose problem is known, by the words of the engine that it came with. Where those say that the
/// surroundings failed, it is of that kind, however often it is tried.
pub(super) fn by_words(problem: Diagnostic, words: &str) -> BuildFailure {
    if is_full_disk(words) {
        return full_disk(problem);
    }
    let words = words.to_ascii_lowercase();
    match PASSING.iter().any(|passing| has_words(&words, passing)) {
        true => BuildFailure::Passing { problem: Diagnostic { kind: Kind::Surroundings, ..problem } },
        false => BuildFailure::Step { problem },
    }
}

/// Whether a text has these words, and not as parts of others.
fn has_words(text: &str, words: &str) -> bool {
    let apart = |next: Option<char>| next.is_none_or(|next| !next.is_alphanumeric());
    text.match_indices(words).any(|(at, found)| {
        apart(text[..at].chars().next_back()) && apart(text[at + found.len()..].chars().next())
    })
}

fn is_full_disk(words: &str) -> bool {
    words.to_ascii_lowercase().contains("no space left on device")
}

fn full_disk(problem: Diagnostic) -> BuildFailure {
    let problem = Diagnostic { kind: Kind::Surroundings, ..problem }
        .hint("the engine's disk is full; see what fills it: docker system df")
        .hint("and free the cache of builds: docker builder prune");
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
    use std::collections::BTreeMap;

    use super::*;

    fn class(failure: BuildFailure) -> (&'static str, Kind) {
        match failure {
            BuildFailure::Step { problem } => ("step", problem.kind),
            BuildFailure::Passing { problem } => ("passing", problem.kind),
        }
    }

    #[test]
    fn f_g3_f_g6_f_g20_what_may_pass_is_tried_again_and_a_full_disk_is_not() {
        let passing = ("passing", Kind::Surroundings);
        let table = [
            ("process \"x\" did not complete successfully: exit code: 1", ("step", Kind::Failed)),
            ("write /a: no space left on device, connection reset", ("step", Kind::Surroundings)),
            ("failed to do request: dial tcp 127.0.0.1:1: connect: connection refused", passing),
            ("unexpected status code 503 Service Unavailable", passing),
            ("received unexpected HTTP status: 502 Bad Gateway", passing),
            ("unexpected status code https://r.io/v2/a/manifests/1: 429 Too Many Requests", passing),
            ("toomanyrequests: You have reached your pull rate limit", passing),
            ("failed to compute cache key: \"/nothing\" not found: not found", ("step", Kind::Failed)),
            ("rpc error: code = Unavailable desc = error reading from server: EOF", passing),
            ("httpReadSeeker: failed open: no active sessions", passing),
            ("\"/no-such-hosts\": not found", ("step", Kind::Failed)),
            ("\"/no such hosts\": not found", ("step", Kind::Failed)),
            ("layer of 429 bytes is broken", ("step", Kind::Failed)),
        ];
        for (words, expected) in table {
            assert_eq!(class(by_words(Diagnostic::new(Kind::Failed, "x"), words)), expected, "{words}");
        }
    }

    #[test]
    fn f_g20_what_a_command_says_or_prints_is_none_of_the_engines_words() {
        let commands = [
            "process \"/bin/sh -c echo connection refused; false\" did not complete successfully: exit code: 1",
            "executor failed running [/bin/sh -c echo '429 ]: connection refused'; false]: exit code: 1",
        ];
        for error in commands {
            assert_eq!(reason(error), "exit code: 1");
            let log = format!(
                "#5 [1/1] RUN x\n#5 0.1 connection refused, 503 service unavailable\n#5 ERROR: {error}\n------\n > [1/1] RUN x:\n0.1 connection refused\n------\nERROR: failed to solve: {error}\n"
            );
            assert_eq!(class(of_log(&log)), ("step", Kind::Failed), "{error}");
        }
        let cut_off = "process \"/bin/sh -c true\" did not complete successfully: rpc error: code = Unavailable desc = transport is closing";
        assert_eq!(
            class(of_log(&format!("#5 [1/1] RUN x\n#5 ERROR: {cut_off}\n"))),
            ("passing", Kind::Surroundings)
        );
        let client = "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF";
        assert_eq!(class(of_log(client)), ("passing", Kind::Surroundings));
    }

    fn of_log(text: &str) -> BuildFailure {
        let folder = std::path::PathBuf::from("/nowhere");
        let docker = Docker::local(crate::engine::docker::DockerEnvironment {
            search_path: folder.clone().into(),
            host: None,
            certificates: None,
            user_config: None,
            variables: BTreeMap::new(),
            scratch: folder.clone(),
        });
        let order = BuildOrder {
            title: "a@linux/amd64".to_owned(),
            platform: "linux/amd64".parse().unwrap(),
            context: folder.clone(),
            dockerfile: String::new(),
            ignore: None,
            target: None,
            args: BTreeMap::new(),
            labels: BTreeMap::new(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            no_cache: false,
            store: crate::engine::StoreAddress {
                registry: "127.0.0.1:1".to_owned(),
                repository: "scopes/trusted".parse().unwrap(),
                user: String::new(),
                password: crate::oci::Secret::new(String::new()),
            },
            tag: "build".parse().unwrap(),
            log: folder.clone(),
            scratch: folder,
            time_limit: std::time::Duration::from_secs(1),
        };
        let mut log = BuildLog::default();
        text.lines().for_each(|line| drop(log.line(line)));
        of_build(&docker, &order, &log, Ended { code: Some(1), timed_out: false })
    }
}
