//! How old records may be, and what is refreshed: built in its next refresh epoch, with what is new outside.

use std::collections::BTreeMap;

use crate::diag::Diagnostic;
use crate::family::{Family, JobId};
use crate::record::Epochs;
use crate::trust::CLOCKS_APART_SECONDS;

use super::{Decision, Facts, Keyed, Plan, Reason, Request};

/// The jobs that are refreshed, and why: a person asked for it, or what stands under their `keys` is not fresh.
pub(super) fn refreshed(
    family: &Family,
    facts: &Facts,
    request: &Request,
    order: &[JobId],
    keys: &BTreeMap<JobId, Keyed>,
) -> BTreeMap<JobId, Reason> {
    let asked = |job: &JobId| request.refresh.contains(job).then_some(Reason::Refresh);
    let age = |job: &JobId| {
        let limit_seconds = family.recipe(&job.unit)?.fresh_for_seconds?;
        let built = facts.images.get(&keys.get(job)?.key)?.built_at_seconds;
        stale(limit_seconds, facts.now_seconds?, built)
    };
    order.iter().filter_map(|job| Some((job.clone(), asked(job).or_else(|| age(job))?))).collect()
}

/// The refresh epochs in which the jobs of a plan are built, where these are refreshed.
pub(super) fn epochs(facts: &Facts, refreshed: &BTreeMap<JobId, Reason>) -> Epochs {
    let mut epochs = facts.epochs.clone();
    for job in refreshed.keys() {
        let epoch = epochs.entry(job.clone()).or_default();
        *epoch = epoch.saturating_add(1);
    }
    epochs
}

/// Why a record is not fresh, if it is not.
pub(super) fn stale(limit_seconds: u64, now_seconds: u64, built_at_seconds: u64) -> Option<Reason> {
    let ahead_seconds = built_at_seconds.saturating_sub(now_seconds);
    if ahead_seconds > CLOCKS_APART_SECONDS {
        return Some(Reason::FromTheFuture { ahead_seconds });
    }
    let age_seconds = now_seconds.saturating_sub(built_at_seconds);
    (age_seconds > limit_seconds).then_some(Reason::TooOld { age_seconds, limit_seconds })
}

/// A warning where records are from the future (F-S13): of the clock here, or of one elsewhere.
pub(crate) fn from_the_future(plan: &Plan) -> Option<Diagnostic> {
    let is_one = |reason: &Reason| matches!(reason, Reason::FromTheFuture { .. });
    let jobs = plan.jobs.iter().filter_map(|(job, planned)| match &planned.decision {
        Decision::Build(reasons) if reasons.iter().any(is_one) => Some(job.to_string()),
        _ => None,
    });
    let jobs: Vec<String> = jobs.collect();
    (!jobs.is_empty()).then(|| {
        let problem = "records from the future, which are not fresh, so that they do not stand";
        Diagnostic::warning(format!("{}: {problem}", jobs.join(", ")))
            .hint("see what time it is here: date --utc")
    })
}

/// A span of time in its two largest units, cut off.
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(24 * 3600, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let first = UNITS.iter().position(|(length, _)| seconds >= *length).unwrap_or(UNITS.len() - 1);
    let mut left = seconds;
    let mut parts = Vec::new();
    for (length, name) in UNITS.iter().skip(first).take(2) {
        if left >= *length || (parts.is_empty() && *length == 1) {
            parts.push(format!("{} {name}", left / length));
        }
        left %= length;
    }
    parts.join(" ")
}
