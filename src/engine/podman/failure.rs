//! Why a build of Buildah failed, and whether another try may pass.

use super::output::BuildLog;
use crate::diag::{Diagnostic, Kind};
use crate::engine::failure::{
    DiskHints, by_words, full_disk, is_full_disk, is_of_another_kind, killed, not_started, of_client, see,
    too_long, what,
};
use crate::engine::process::Ended;
use crate::engine::{BuildFailure, BuildOrder};

/// What to do where the storage's disk is full.
pub(super) const DISK: DiskHints = &[
    "the disk of the images is full; see where it is: polyarch doctor",
    "and free the cache of builds: buildah rmi --prune, or podman image prune",
];

/// The failure of a build, by what its output says.
pub(super) fn of_build(order: &BuildOrder, log: &BuildLog, ended: Ended, is_native: bool) -> BuildFailure {
    if ended.timed_out {
        return too_long(order);
    }
    let tail = log.tail();
    let Some(failed) = log.failure() else {
        let problem = Diagnostic::new(Kind::Failed, format!("build {}: {}", order.title, what(ended, &[])));
        let problem = tail.iter().fold(problem, |problem, line| problem.because(line));
        return of_client(problem.hint(see(order)), &tail.join("\n"), ended.was_killed(), DISK);
    };
    let reason = &failed.reason;
    let problem = match failed.step {
        Some(step) => Diagnostic::new(Kind::Failed, format!("build {}: step {step} failed", order.title)),
        None => Diagnostic::new(Kind::Failed, format!("build {}: it could not be carried out", order.title)),
    };
    let problem = tail.iter().fold(problem.because(reason), |problem, line| problem.because(line));
    let problem = problem.hint(see(order));
    let all = format!("{reason}\n{}", tail.join("\n"));
    if is_of_another_kind(reason, &tail) {
        return not_started(order, problem, is_native);
    }
    if is_full_disk(&all) {
        return full_disk(problem, DISK);
    }
    if log.is_killed() || reason.ends_with("exit status 137") {
        return killed(problem);
    }
    by_words(problem, reason, DISK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::building::order_for_tests;

    #[test]
    fn f_g3_a_client_that_was_killed_is_told_from_a_step_that_was() {
        let of = |text: &str, code| {
            let mut log = BuildLog::default();
            text.lines().for_each(|line| drop(log.line(line)));
            let ended = Ended { code, timed_out: false };
            match of_build(&order_for_tests(), &log, ended, true) {
                BuildFailure::Step { problem } => ("step", problem.kind),
                BuildFailure::Passing { problem } => ("passing", problem.kind),
                BuildFailure::Full { problem } => ("full", problem.kind),
            }
        };
        let under_way = "STEP 1/1: RUN make\nread-only file system\n";
        let failed = format!(
            "{under_way}subprocess exited on killed\nError: building at STEP \"RUN make\": exit status 1\n"
        );
        for code in [None, Some(137)] {
            assert_eq!(of(under_way, code), ("passing", Kind::Surroundings), "{code:?}");
            assert_eq!(of(&failed, code), ("step", Kind::Surroundings), "{code:?}");
        }
        assert_eq!(of("STEP 1/1: RUN make\n", Some(1)), ("step", Kind::Failed));
    }
}
