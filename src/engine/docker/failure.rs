//! Why a build failed, and whether another try may pass.

use super::Docker;
use super::output::BuildLog;
use crate::diag::{Diagnostic, Kind};
use crate::engine::failure::{
    DiskHints, by_words, full_disk, is_full_disk, is_of_another_kind, killed, not_started, of_client, see,
    too_long, what,
};
use crate::engine::process::Ended;
use crate::engine::{BuildFailure, BuildOrder};

/// What to do where the engine's disk is full.
pub(super) const DISK: DiskHints = &[
    "the engine's disk is full; see what fills it: docker system df",
    "and free the cache of builds: docker builder prune",
];

/// The failure of a build, by what its output says; of a machine that runs such programs itself, or does not.
pub(super) fn of_build(
    docker: &Docker,
    order: &BuildOrder,
    log: &BuildLog,
    ended: Ended,
    is_native: bool,
) -> BuildFailure {
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
        return of_client(problem.hint(see(order)), &words, was_killed(ended, &words), DISK);
    };
    let problem =
        Diagnostic::new(Kind::Failed, format!("build {}: step {step} failed", order.title)).because(error);
    let problem = tail.iter().fold(problem, |problem, line| problem.because(line)).hint(see(order));
    let all = format!("{error}\n{}\n{}", tail.join("\n"), last_words.join("\n"));
    if is_of_another_kind(reason(error), &tail) {
        return not_started(order, problem, is_native);
    }
    if is_full_disk(&all) {
        return full_disk(problem, DISK);
    }
    if error.ends_with("exit code: 137") {
        return killed(problem);
    }
    by_words(problem, reason(error), DISK)
}

/// What a client ends with whose buildx was killed, without a word of that.
const PLUGIN_KILLED: i32 = 255;

/// Whether the client was killed, or what builds for it.
fn was_killed(ended: Ended, last_words: &str) -> bool {
    let is_silent = last_words.lines().all(|line| line.starts_with("WARNING: "));
    ended.was_killed() || (ended.code == Some(PLUGIN_KILLED) && is_silent)
}

/// Why a step failed, in the engine's own words: without the command, which says what it likes. What the command
/// printed is none of the engine's words at all.
pub(super) fn reason(error: &str) -> &str {
    let of_process = error.rsplit_once("did not complete successfully: ");
    let of_executor = || error.strip_prefix("executor failed running [")?.rsplit_once("]: ");
    of_process.or_else(of_executor).map_or(error, |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn class(failure: BuildFailure) -> (&'static str, Kind) {
        match failure {
            BuildFailure::Step { problem } => ("step", problem.kind),
            BuildFailure::Passing { problem } => ("passing", problem.kind),
            BuildFailure::Full { problem } => ("full", problem.kind),
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

    #[test]
    fn f_g6_a_step_that_was_killed_or_found_no_room_is_not_to_blame_for_it() {
        let of_step = |code: u32| {
            let error =
                format!("process \"/bin/sh -c make\" did not complete successfully: exit code: {code}");
            of_log(&format!(
                "#5 [1/1] RUN make\n#5 ERROR: {error}\n------\nERROR: failed to solve: {error}\n"
            ))
        };
        assert_eq!(class(of_step(1)), ("step", Kind::Failed));
        let killed = of_step(137);
        assert!(killed.problem().hints.iter().any(|hint| hint.contains("dmesg")), "{killed:?}");
        assert_eq!(class(killed), ("step", Kind::Surroundings));
        let full = "#5 [1/1] RUN make\n#5 0.1 cc: No space left on device\n#5 ERROR: exit code: 1\n";
        assert_eq!(class(of_log(full)), ("full", Kind::Surroundings));
    }

    #[test]
    fn f_g3_a_client_that_was_killed_is_told_from_a_step_that_was() {
        let under_way = "WARNING: old\n#5 [1/1] RUN make\n#5 0.1 connection refused\n";
        let step = "process \"/bin/sh -c make\" did not complete successfully: exit code: 137";
        let failed = format!("{under_way}#5 ERROR: {step}\n------\nERROR: failed to solve: {step}\n");
        for code in [None, Some(137), Some(255)] {
            assert_eq!(class(of_end(under_way, true, code)), ("passing", Kind::Surroundings), "{code:?}");
            assert_eq!(class(of_end(&failed, true, code)), ("step", Kind::Surroundings), "{code:?}");
        }
        for (text, code) in [(under_way, 1), ("ERROR: no builder \"x\" found\n", 255)] {
            assert_eq!(class(of_end(text, true, Some(code))), ("step", Kind::Failed), "{text}");
        }
    }

    #[test]
    fn f_g7_a_step_that_could_not_start_is_told_from_one_that_says_so() {
        let of = |line: &str, is_native| {
            let text = format!(
                "#5 [1/1] RUN x\n#5 0.1 {line}\n#5 ERROR: process \"/bin/sh -c x\" did not complete successfully: exit code: 1\n"
            );
            of_log_there(&text, is_native)
        };
        let own = ["/bin/sh: ./x: Exec format error", "exec format error", "gcc: exec format error"];
        for line in own {
            assert_eq!(class(of(line, false)), ("step", Kind::Failed), "{line}");
        }
        let starters = [
            "exec /bin/sh: exec format error",
            "standard_init_linux.go:228: exec user process caused: exec format error",
            "exec container process `/bin/sh`: Exec format error",
        ];
        for line in starters {
            for (is_native, hint, kind) in [(false, "qemu", Kind::Surroundings), (true, "#!", Kind::Failed)] {
                let failure = of(line, is_native);
                let hints = &failure.problem().hints;
                assert!(hints.iter().any(|one| one.contains(hint)), "{failure:?}");
                assert_eq!(class(failure), ("step", kind), "{line}");
            }
        }
    }

    fn of_log(text: &str) -> BuildFailure {
        of_log_there(text, true)
    }

    fn of_log_there(text: &str, is_native: bool) -> BuildFailure {
        of_end(text, is_native, Some(1))
    }

    fn of_end(text: &str, is_native: bool, code: Option<i32>) -> BuildFailure {
        let folder = std::path::PathBuf::from("/nowhere");
        let docker = Docker::local(crate::engine::docker::DockerEnvironment {
            search_path: folder.clone().into(),
            host: None,
            certificates: None,
            user_config: None,
            variables: BTreeMap::new(),
            scratch: folder.clone(),
            over: std::collections::BTreeSet::new(),
        });
        let order = crate::engine::building::order_for_tests();
        let mut log = BuildLog::default();
        text.lines().for_each(|line| drop(log.line(line)));
        of_build(&docker, &order, &log, Ended { code, timed_out: false }, is_native)
    }
}
