//! The last job of a pipeline: have all the others ended as planned?

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ci::may_be_joining;
use crate::diag::{Diagnostic, Kind, Problems, Result, count};

use crate::cli::{Context, Ended};

/// The variable with how each job ended, as GitHub's context `needs` has it: `{"plan": {"result": "success"}}`.
const JOBS: &str = "POLYARCH_JOBS";
/// Of these one is skipped.
const LAST: [&str; 2] = ["publish", REHEARSAL];
const REHEARSAL: &str = "rehearse";
/// This one signs what some proposals have built, and is skipped in all other runs.
const SIGNING: &str = "sign";

/// How a job ended.
#[derive(Deserialize)]
struct Told {
    result: String,
}

/// Fail where a job failed, or was skipped and should not have been.
///
/// # Errors
/// For each such job.
pub(super) fn close(context: &Context) -> Result<Ended> {
    let text = context.environment.text(JOBS).unwrap_or_default();
    let jobs: BTreeMap<String, Told> = serde_json::from_str(&text).map_err(|error| {
        Diagnostic::request(format!("read how the jobs ended, in {JOBS}"))
            .caused_by(&error)
            .hint("write `POLYARCH_JOBS: ${{ toJSON(needs) }}` under `env`, as polyarch ci github does")
    })?;
    let results = jobs.iter().map(|(name, told)| (name.as_str(), told.result.as_str())).collect();
    Problems::check(unplanned(&results))?;
    context.ui.note(&format!("{} ended as planned", count(jobs.len(), "job")));
    Ok(Ended::Well)
}

/// What has not gone as planned. Either the publication, with that of single images, or its rehearsal is skipped, and what
/// only some runs sign; nothing else.
fn unplanned(jobs: &BTreeMap<&str, &str>) -> Vec<Diagnostic> {
    let is_done = |name: &str| jobs.get(name) == Some(&"success");
    // All builds have gone well where they were rehearsed: none of them was skipped, whatever it is called.
    let is_rehearsed = |name: &str| may_be_joining(name) && is_done(REHEARSAL);
    let may_be_skipped = |name: &str| {
        (LAST.contains(&name) || name == SIGNING) && LAST.iter().any(|last| is_done(last))
            || is_rehearsed(name)
    };
    let mut problems = Vec::new();
    for (name, result) in jobs {
        let why = match *result {
            "success" => continue,
            "skipped" if may_be_skipped(name) => continue,
            "skipped" => "it was skipped, because of a job before it or by hand",
            "cancelled" => "it was cancelled",
            _ => "it failed: its own log says why",
        };
        problems.push(
            Diagnostic::new(Kind::Failed, format!("the job {name} has not ended as planned")).because(why),
        );
    }
    if jobs.is_empty() {
        problems.push(Diagnostic::request("no job is known"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(jobs: &[(&str, &str)]) -> Vec<String> {
        let problems = unplanned(&jobs.iter().copied().collect());
        problems.iter().map(|problem| format!("{}: {}", problem.message, problem.causes.join(""))).collect()
    }

    #[test]
    fn all_jobs_end_as_planned_or_it_is_said() {
        let well = ("plan", "success");
        let none: [&str; 0] = [];
        assert_eq!(told(&[well, ("publish", "success"), ("rehearse", "skipped")]), none);
        assert_eq!(told(&[well, ("publish", "skipped"), ("rehearse", "success")]), none);
        assert_eq!(told(&[well, ("publish", "skipped"), ("rehearse", "skipped")]).len(), 2);
        assert_eq!(told(&[well, ("publish", "success"), ("rehearse", "skipped"), ("sign", "skipped")]), none);
        assert_eq!(
            told(&[well, ("publish", "success"), ("rehearse", "skipped"), ("sign", "failure")]).len(),
            1
        );
        assert_eq!(
            told(&[well, ("publish", "success"), ("rehearse", "skipped"), ("promote", "skipped")]).len(),
            1
        );
        assert_eq!(told(&[well, ("publish", "failure"), ("rehearse", "skipped")]).len(), 2);
        for result in ["failure", "cancelled", "skipped", "", "odd"] {
            let all = [("base-amd64", result), well, ("publish", "skipped"), ("rehearse", "success")];
            let problems = told(&all);
            assert_eq!(problems.len(), 1, "{result}: {problems:?}");
            assert!(problems[0].starts_with("the job base-amd64 has not ended as planned"), "{problems:?}");
        }
        let single = |name, ended, rehearsed| {
            told(&[well, (name, ended), ("rehearse", rehearsed), ("publish", "skipped")])
        };
        assert_eq!(single("base-manifest", "skipped", "success"), none);
        assert_eq!(single("base-manifest", "failure", "skipped").len(), 3);
        assert_eq!(single("base-manifest", "skipped", "skipped").len(), 3, "its build failed");
        assert_eq!(single("base-amd64", "skipped", "success").len(), 1);
        assert_eq!(told(&[]).len(), 1);
    }
}
