//! The critical path of a run: the chain of jobs, each waiting for the one before it, that took longest together. However many
//! builders there are, no run of the same jobs takes less.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlanView, Timeline};

/// A chain of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CriticalPath {
    /// The first one first.
    pub(crate) jobs: Vec<String>,
    /// How long they were on builders.
    pub(crate) milliseconds: u64,
}

/// How long it takes to the end of a job at best, and the job before it on that way.
#[derive(Clone, Copy)]
struct Reached<'a> {
    milliseconds: u64,
    after: Option<&'a str>,
}

impl CriticalPath {
    /// That of a run. Without its plan it is the job that took longest.
    pub(crate) fn of(timeline: &Timeline, plan: Option<&PlanView>) -> Self {
        let mut took: BTreeMap<&str, u64> = BTreeMap::new();
        for attempt in &timeline.attempts {
            *took.entry(&attempt.job).or_default() += timeline.end_of(attempt) - attempt.began;
        }
        let mut reached: BTreeMap<&str, Reached<'_>> = BTreeMap::new();
        // Parents stand before children.
        for job in plan.into_iter().flat_map(|plan| &plan.jobs) {
            let waited_for = job.parents.iter().chain(&job.beside);
            let known = waited_for.filter_map(|other| reached.get_key_value(other.as_str()));
            let last = known.max_by_key(|(name, reached)| (reached.milliseconds, **name));
            let before = last.map_or(0, |(_, reached)| reached.milliseconds);
            let after = last.map(|(name, _)| *name);
            let milliseconds = before + took.get(&*job.job).copied().unwrap_or_default();
            reached.insert(&job.job, Reached { milliseconds, after });
        }
        for (job, milliseconds) in &took {
            reached.entry(job).or_insert(Reached { milliseconds: *milliseconds, after: None });
        }
        Self::to_the_last(&reached, &took.keys().copied().collect())
    }

    fn to_the_last(reached: &BTreeMap<&str, Reached<'_>>, ran: &BTreeSet<&str>) -> Self {
        let last = reached.iter().max_by_key(|(name, reached)| (reached.milliseconds, **name));
        let milliseconds = last.map_or(0, |(_, reached)| reached.milliseconds);
        let mut path = Self { jobs: Vec::new(), milliseconds };
        let mut next = last.map(|(name, _)| *name);
        while let Some(job) = next {
            if ran.contains(job) {
                path.jobs.push(job.to_owned());
            }
            next = reached.get(job).and_then(|reached| reached.after);
        }
        path.jobs.reverse();
        path
    }

    /// Whether a job is on it.
    pub(crate) fn has(&self, job: &str) -> bool {
        self.jobs.iter().any(|one| one == job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::timeline::tests::{built, plan, started};

    fn path(plan: Option<&PlanView>, events: &[crate::event::Event]) -> (Vec<String>, u64) {
        let CriticalPath { jobs, milliseconds } = CriticalPath::of(&Timeline::of(events), plan);
        (jobs, milliseconds)
    }

    #[test]
    fn it_is_the_chain_that_took_longest_and_not_the_one_that_waited_longest() {
        let events = [
            started(0, "root", "one"),
            built(100, "root"),
            started(100, "quick", "one"),
            started(100, "slow", "two"),
            built(150, "quick"),
            built(400, "slow"),
            started(400, "leaf", "one"),
            built(500, "leaf"),
            // It was ready at 150, and had no builder until 500.
            started(500, "late", "one"),
            built(550, "late"),
        ];
        let edges: [(&str, &[&str]); 5] = [
            ("root", &[]),
            ("quick", &["root"]),
            ("slow", &["root"]),
            ("leaf", &["quick", "slow"]),
            ("late", &["quick"]),
        ];
        assert_eq!(
            path(Some(&plan(&edges)), &events),
            (vec!["root".into(), "slow".into(), "leaf".into()], 500)
        );
        assert_eq!(path(None, &events), (vec!["slow".into()], 300));
    }

    #[test]
    fn a_reused_job_takes_nothing_and_is_not_on_it() {
        let events = [started(0, "leaf", "one"), built(70, "leaf")];
        let edges: [(&str, &[&str]); 2] = [("root", &[]), ("leaf", &["root"])];
        assert_eq!(path(Some(&plan(&edges)), &events), (vec!["leaf".into()], 70));
        assert_eq!(path(Some(&plan(&edges)), &[]), (vec![], 0));
        let circle = plan(&[("leaf", &["slow"]), ("slow", &["leaf"])]);
        assert_eq!(path(Some(&circle), &events), (vec!["leaf".into()], 70));
    }
}
