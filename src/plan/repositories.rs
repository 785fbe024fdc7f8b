//! Point at repositories that an `ADD` fetches and whose commit is unknown: before anything is built, with their lines.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Place};
use crate::dockerfile::{Remote, Source};
use crate::family::{Family, JobId};

use super::{Decision, Facts, Plan, Unfit};

/// What the build of a job fetches from repositories whose commit is unknown, and why it is.
pub(crate) fn unknown_repositories<'a>(
    family: &'a Family,
    facts: &'a Facts,
    job: &JobId,
) -> impl Iterator<Item = (&'a Remote, String)> {
    let build = family.recipe(&job.unit).and_then(|recipe| recipe.platforms.get(&job.platform));
    let sources = build.into_iter().flat_map(|build| &build.needs.sources);
    sources.filter_map(|source| match source {
        Source::Remote(remote) => Some((remote, facts.commit(remote)?.err()?)),
        Source::Context(_) => None,
    })
}

/// One problem for each `ADD` of such a repository in what is to be built; for jobs downstream one of their own.
pub(crate) fn unfit_repositories<'a>(family: &Family, facts: &Facts, plan: &'a Plan) -> Vec<Unfit<'a>> {
    let mut unfit = BTreeMap::<(&Place, String, bool), (String, BTreeSet<&JobId>)>::new();
    for (job, planned) in &plan.jobs {
        if !matches!(planned.decision, Decision::Build(_)) {
            continue;
        }
        for (remote, why) in unknown_repositories(family, facts, job) {
            let at = (&remote.place, remote.shown(), family.is_downstream(&job.unit));
            unfit.entry(at).or_insert_with(|| (why, BTreeSet::new())).1.insert(job);
        }
    }
    let told = unfit.into_iter().map(|((place, address, _), (why, jobs))| {
        let repository = address.split(['#', '?']).next().unwrap_or_default();
        let problem = Diagnostic::surroundings(format!("the commit of {address} is unknown"))
            .at(place.clone())
            .because(why)
            .hint(format!("see whether Git reaches it without asking: git ls-remote {repository}"))
            .hint(format!("or write the whole commit: ADD {repository}#COMMIT"));
        Unfit { jobs, problem }
    });
    told.collect()
}
