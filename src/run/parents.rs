//! Parents that come from the registry of the store before anything is built on them; one that comes too slowly is built
//! here, where that was quicker before.

use std::collections::BTreeSet;

use tokio::time::timeout;

use super::floor::patience;
use crate::diag::Diagnostic;
use crate::family::{Family, JobId};
use crate::plan::{Decision, Estimates, Facts, Plan, Planned, Request};
use crate::record::Records;

/// Brings each parent that stands and that something is built on. Where one comes slower than `floor_bytes` in a second, and
/// building it, with all that would be built upon it then, took less time before, that is planned instead; the warnings say
/// so. What cannot be brought at all is left to the run, which says why.
pub(crate) async fn bring_parents(
    records: &Records,
    (family, facts): (&Family, &Facts),
    (plan, request): (&mut Plan, &mut Request),
    floor_bytes: u64,
) -> Vec<Diagnostic> {
    let (mut brought, mut warnings) = (BTreeSet::new(), Vec::new());
    while let Some(parent) = next(plan, &brought) {
        brought.insert(parent.clone());
        let Some(record) = plan.jobs[&parent].decision.image() else { continue };
        let mut here = request.clone();
        here.slow.insert(parent.clone());
        let planned = Plan::new(family, facts, &here);
        let rebuild = time_of_more(plan, &planned, facts);
        let Some(limit) = patience(record.bytes, Some(floor_bytes), rebuild) else { continue };
        if timeout(limit.time, records.bring(&record.image)).await.is_err() {
            let problem = limit.problem(record.bytes);
            let warning = Diagnostic::warning(format!("{parent} is built here, and not brought"));
            warnings.push(problem.causes.iter().fold(warning, Diagnostic::because));
            (*plan, *request) = (planned, here);
        }
    }
    warnings
}

/// A parent of what is built that stands, and was not brought yet.
fn next(plan: &Plan, brought: &BTreeSet<JobId>) -> Option<JobId> {
    let is_built = |planned: &&Planned| matches!(planned.decision, Decision::Build(_)) && planned.is_done();
    let built = plan.jobs.values().filter(is_built);
    let mut parents = built.flat_map(|planned| &planned.parents);
    let stands = |parent: &&JobId| plan.jobs.get(*parent).is_some_and(|one| one.decision.image().is_some());
    parents.find(|parent| stands(parent) && !brought.contains(*parent)).cloned()
}

/// How long what is built in one plan and not in another takes, one after the other; none where it was never measured.
fn time_of_more(before: &Plan, now: &Plan, facts: &Facts) -> Option<std::time::Duration> {
    let estimates = Estimates::new(now, &facts.durations);
    let more = now.jobs.iter().filter(|(job, planned)| {
        let stood = before.jobs.get(*job).is_some_and(|one| one.decision.image().is_some());
        stood && matches!(planned.decision, Decision::Build(_))
    });
    let times = more.map(|(job, _)| {
        let estimate = estimates.of(job, false);
        (!estimate.assumed).then_some(estimate.milliseconds)
    });
    times.sum::<Option<u64>>().map(std::time::Duration::from_millis)
}
