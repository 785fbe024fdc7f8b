//! What a scheduled run leaves out: images that fail again and again wait, the longer the more often they have failed.
//!
//! | failures in a row, in as many runs | tried again after |
//! |---|---|
//! | 1 | nothing: once is a mishap |
//! | 2 | 12 h |
//! | 3 | 1 d |
//! | 4 | 2 d |
//! | 5 | 4 d |
//! | 6 and more | 7 d |
//!
//! Failures count as long as the same is tried: a change of anything that the image is made of, or of what is asked of it,
//! ends the wait. A refresh alone does not, of it or of its parents: it is what a scheduled run does every time. Who
//! waits is for the plan to say, and no other run than a scheduled one asks for it.

use std::collections::BTreeMap;
use std::fmt;

use crate::diag::moment;
use crate::family::{Family, JobId};
use crate::oci::Digest;
use crate::record::{Epochs, Failing};
use crate::trust::CLOCKS_APART_SECONDS;

use super::key::{check_key, digest_of};
use super::{Decision, Facts, Keyed, Planned, Request, keys_at};

/// So many failures in a row are more than a mishap.
const OFTEN: u32 = 2;
/// How long is waited after these, in seconds; twice as long after each one more.
const SHORTEST_SECONDS: u64 = 12 * 3600;
/// No wait is longer, in seconds.
const LONGEST_SECONDS: u64 = 7 * 24 * 3600;

/// A job has failed again and again, and is tried again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// How often it has failed in a row.
    pub(crate) failures: u32,
    /// When it failed first, in seconds since 1970-01-01 UTC.
    pub(crate) since_seconds: u64,
    /// When it is tried again.
    pub(crate) until_seconds: u64,
}

/// Words that follow "waits".
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failures, since_seconds, until_seconds } = *self;
        let (until, since) = (moment(until_seconds), moment(since_seconds));
        write!(f, "until {until} (failed {failures} times in a row since {since})")
    }
}

impl Wait {
    /// How long a job waits that has failed like this, where the same is to be tried now; `None` where it does not. What is
    /// from the future says nothing: no wait is longer than it may be.
    pub(super) fn of(failing: &Failing, tried: &Digest, now_seconds: u64) -> Option<Self> {
        let Failing { times, since_seconds, last_seconds, .. } = *failing;
        let is_of_the_past = last_seconds <= now_seconds.saturating_add(CLOCKS_APART_SECONDS);
        let until_seconds = last_seconds.saturating_add(wait_seconds(times));
        let is_same = failing.tried == *tried && times >= OFTEN;
        let waits = is_same && is_of_the_past && now_seconds < until_seconds;
        waits.then_some(Self { failures: times, since_seconds, until_seconds })
    }
}

/// How long is waited after so many failures in a row, in seconds.
fn wait_seconds(failures: u32) -> u64 {
    match failures.checked_sub(OFTEN) {
        None => 0,
        Some(more) => SHORTEST_SECONDS.saturating_mul(2_u64.saturating_pow(more)).min(LONGEST_SECONDS),
    }
}

/// Why nothing is done about a job in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// It has failed again and again.
    Waits(Wait),
    /// That job waits, which it stands on.
    With(JobId),
}

/// Whether a job is left out, when all its parents are decided.
pub(super) fn left_out(
    job: &JobId,
    keyed: &Keyed,
    decision: &Decision,
    request: &Request,
    before: &BTreeMap<JobId, Planned>,
) -> Option<LeftOut> {
    let with = keyed.parents.iter().find_map(|parent| match before.get(parent)?.left_out.as_ref()? {
        LeftOut::Waits(_) => Some(parent),
        LeftOut::With(root) => Some(root),
    });
    let waits = || match decision {
        Decision::Reuse(_) => None,
        Decision::Check(_) | Decision::Build(_) => request.waits.get(job).copied().map(LeftOut::Waits),
    };
    with.cloned().map(LeftOut::With).or_else(waits)
}

/// What is tried of each job of a family: the digest of all that it is made of and that is asked of it, but for refreshes.
pub(crate) fn tried(family: &Family, facts: &Facts) -> BTreeMap<JobId, Digest> {
    let keyed = keys_at(family, facts, &Epochs::default());
    let tried = keyed.into_iter().filter_map(|(job, keyed)| {
        let recipe = family.recipe(&job.unit)?;
        let asked = check_key(&keyed.key, recipe, facts.files_of_checks(&job.unit));
        let limits = [
            recipe.terms.get(&job.platform).map(|terms| terms.time_limit_seconds),
            recipe.cache_budget_seconds,
        ];
        let limits = limits.map(|limit| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string()));
        let parts = [asked.to_string()].into_iter().chain(limits).collect::<Vec<_>>();
        Some((job, digest_of(parts.iter().map(String::as_str))))
    });
    tried.collect()
}

/// The jobs of a family that wait now, since they have failed again and again.
pub(crate) fn waits(family: &Family, facts: &Facts, now_seconds: u64) -> BTreeMap<JobId, Wait> {
    if !family.jobs().any(|job| facts.durations.failing(&job).is_some()) {
        return BTreeMap::new();
    }
    let waits = tried(family, facts).into_iter().filter_map(|(job, tried)| {
        let wait = Wait::of(facts.durations.failing(&job)?, &tried, now_seconds)?;
        Some((job, wait))
    });
    waits.collect()
}
