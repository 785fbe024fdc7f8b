//! Why a build of Buildah failed, and whether another try may pass.

use super::output::BuildLog;
use crate::diag::{Diagnostic, Kind};
use crate::engine::failure::{
    DiskHints, by_words, full_disk, is_full_disk, is_of_another_kind, killed, not_started, see, too_long,
    what,
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
        return by_words(problem.hint(see(order)), &tail.join("\n"), DISK);
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
