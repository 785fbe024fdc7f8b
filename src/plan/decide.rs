//! Whether a record stands for a job, and if not, why it is built.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::dockerfile::Remote;
use crate::family::{Family, JobId};
use crate::oci::Digest;
use crate::record::{ImageRecord, Passed};
use crate::trust::Doubt;

use super::fresh::span;
use super::words::{changed, short};
use super::{Base, Considered, Decision, Facts, Frontend, Inputs, Planned, check_inputs, check_key};

/// One reason for a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No record of this job is known.
    NeverBuilt,
    /// A person asked for it.
    Asked,
    /// Its image stands, and comes more slowly than it is built.
    Slow,
    /// A person asked for what is new outside.
    Refresh,
    /// The record is older than `fresh-for` allows.
    TooOld {
        /// How old it is, in seconds.
        age_seconds: u64,
        /// How old it may be, in seconds.
        limit_seconds: u64,
    },
    /// The record says that it was made later than now, so that its age cannot be known.
    FromTheFuture {
        /// How much later, in seconds.
        ahead_seconds: u64,
    },
    /// An input has another value than in the latest record.
    Changed {
        /// The input, as the key names it.
        input: String,
        /// Its value then; `None` where it was none.
        old: Option<String>,
        /// Its value now; `None` where it is none.
        new: Option<String>,
    },
    /// An image that it uses is built first.
    ParentIsBuilt(JobId),
    /// The record was made on another image of a parent than the one that will be published.
    OnAnotherParent {
        /// The parent.
        parent: JobId,
        /// The image it was made on.
        old: String,
        /// The image that stands now.
        new: String,
    },
    /// The record was made by emulation, which is refused here: law 3.
    MadeByEmulation,
    /// An input of the key is not known.
    BaseUnknown {
        /// The image from outside.
        reference: String,
        /// Why it could not be looked up.
        why: String,
    },
    /// What an `ADD` of a repository fetches is not known.
    RepositoryUnknown {
        /// Its address, without a password.
        address: String,
        /// Why its commit cannot be looked up.
        why: String,
    },
    /// The image that reads the Dockerfile is not known.
    FrontendUnknown {
        /// What stands in the Dockerfile.
        written: String,
        /// Why it could not be looked up.
        why: String,
    },
    /// A record stands, but the store has lost something of its image: law 3.
    ContentMissing(Digest),
    /// A record stands, but it does not count for those whose word does.
    Doubted(Doubt),
    /// The latest record has the same inputs, but nothing stands under the key any more.
    RecordIsGone,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("no record of it"),
            Self::Asked => f.write_str("asked for"),
            Self::Slow => f.write_str("it comes slower than `parent-floor` says, and than it is built"),
            Self::Refresh => f.write_str("a refresh is asked for"),
            Self::TooOld { age_seconds, limit_seconds } => {
                let (age, limit) = (span(*age_seconds), span(*limit_seconds));
                write!(f, "its record is {age} old, and fresh for {limit}")
            }
            Self::FromTheFuture { ahead_seconds } => {
                write!(f, "its record is from the future, {} from now", span(*ahead_seconds))
            }
            Self::ParentIsBuilt(parent) => write!(f, "{parent} is built"),
            Self::OnAnotherParent { parent, old, new } => {
                write!(
                    f,
                    "its record stands on another image of {parent}: {} then, {} now",
                    short(old),
                    short(new)
                )
            }
            Self::MadeByEmulation => f.write_str("its record was made by emulation, which is refused here"),
            Self::BaseUnknown { reference, .. } => write!(f, "base image {reference} is unknown"),
            Self::RepositoryUnknown { address, .. } => write!(f, "the commit of {address} is unknown"),
            Self::FrontendUnknown { written, .. } => write!(f, "frontend {written} is unknown"),
            Self::ContentMissing(digest) => {
                write!(f, "its record stands, but {digest} is missing from the store")
            }
            Self::Doubted(doubt) => doubt.fmt(f),
            Self::RecordIsGone => f.write_str("its record is no longer in the store"),
            Self::Changed { input, old, new } => f.write_str(&changed(input, old.as_deref(), new.as_deref())),
        }
    }
}

/// What to do about one job, when all its parents are decided.
pub(super) fn decide(
    family: &Family,
    facts: &Facts,
    considered: &Considered<'_>,
    before: &BTreeMap<JobId, Planned>,
) -> Decision {
    let Considered { job, keyed, .. } = *considered;
    let mut reasons = Vec::new();
    if considered.forced {
        reasons.push(Reason::Asked);
    }
    reasons.extend(considered.slow.then_some(Reason::Slow));
    reasons.extend(considered.refresh.cloned());
    reasons.extend(unknown_bases(family, facts, job));
    reasons.extend(unknown_repositories(family, facts, job));
    if let Some(Frontend::Unknown { written, why }) = facts.frontends.get(&job.unit) {
        reasons.push(Reason::FrontendUnknown { written: written.text.clone(), why: why.clone() });
    }
    let record = facts.images.get(&keyed.key);
    let missing = record.and_then(|record| facts.missing.get(&record.image));
    reasons.extend(missing.cloned().map(Reason::ContentMissing));
    let refused = !considered.terms.emulation.is_allowed() && record.is_some_and(|record| record.emulated);
    reasons.extend(refused.then_some(Reason::MadeByEmulation));
    reasons.extend(keyed.parents.iter().filter_map(|parent| parent_reason(parent, before, record)));
    match record {
        Some(record) if reasons.is_empty() => reuse(family, facts, job, record),
        _ => {
            if record.is_none() {
                let why = match facts.doubts.get(&keyed.key) {
                    Some(doubt) => vec![Reason::Doubted(doubt.clone())],
                    None => changes(considered.before, &keyed.inputs),
                };
                // A parent that is built has another key as a rule, and a refresh another epoch: each is told once.
                let built = reasons.iter().any(|reason| matches!(reason, Reason::ParentIsBuilt(_)));
                let refreshed = considered.refresh.is_some();
                let told =
                    |reason: &Reason| built && is_of(reason, "parent:") || refreshed && is_epochs(reason);
                let first = reasons.iter().take_while(|reason| is_first(reason)).count();
                reasons.splice(first..first, why.into_iter().filter(|reason| !told(reason)));
            }
            Decision::Build(reasons)
        }
    }
}

/// Whether it is told before what changed.
fn is_first(reason: &Reason) -> bool {
    use Reason::{Asked, BaseUnknown, FromTheFuture, FrontendUnknown, Refresh, RepositoryUnknown, TooOld};
    let of_time = matches!(reason, Refresh | TooOld { .. } | FromTheFuture { .. });
    let is_unknown = matches!(reason, BaseUnknown { .. } | RepositoryUnknown { .. } | FrontendUnknown { .. });
    of_time || is_unknown || *reason == Asked
}

fn is_of(reason: &Reason, kind: &str) -> bool {
    matches!(reason, Reason::Changed { input, .. } if input.starts_with(kind))
}

/// Whether it is a change that another refresh epoch makes.
fn is_epochs(reason: &Reason) -> bool {
    match reason {
        Reason::Changed { input, new: Some(new), .. } if input.starts_with("remote:") => {
            new.starts_with("unknown")
        }
        reason => is_of(reason, "epoch"),
    }
}

/// The image stands; so do its checks, or they run again.
fn reuse(family: &Family, facts: &Facts, job: &JobId, record: &ImageRecord) -> Decision {
    let key = |recipe| check_key(&record.image, recipe, facts.files_of_checks(&job.unit));
    let checks = family.recipe(&job.unit).and_then(|recipe| facts.checks.get(&key(recipe)));
    match checks {
        Some(checks) => Decision::Reuse(Box::new(Passed { image: record.clone(), checks: checks.clone() })),
        None => Decision::Check(Box::new(record.clone())),
    }
}

/// Why a parent keeps a record from being reused, if it does: law 3, children share the layers that are published.
fn parent_reason(
    parent: &JobId,
    before: &BTreeMap<JobId, Planned>,
    record: Option<&ImageRecord>,
) -> Option<Reason> {
    let Some(stands) = before.get(parent)?.decision.image() else {
        return Some(Reason::ParentIsBuilt(parent.clone()));
    };
    let stands = &stands.image;
    let built_on = record?.parents.get(&parent.unit.to_string())?;
    (built_on != stands).then(|| Reason::OnAnotherParent {
        parent: parent.clone(),
        old: built_on.to_string(),
        new: stands.to_string(),
    })
}

fn unknown_bases(family: &Family, facts: &Facts, job: &JobId) -> Vec<Reason> {
    let build = family.recipe(&job.unit).and_then(|recipe| recipe.platforms.get(&job.platform));
    let unknown = build.into_iter().flat_map(|build| build.outside()).filter_map(|reference| {
        match facts.bases.get(reference)? {
            Base::Unknown(why) => {
                Some(Reason::BaseUnknown { reference: reference.to_string(), why: why.clone() })
            }
            Base::Found(_) => None,
        }
    });
    unknown.collect()
}

fn unknown_repositories(family: &Family, facts: &Facts, job: &JobId) -> Vec<Reason> {
    let unknown = super::repositories::unknown_repositories(family, facts, job);
    let reason =
        |(remote, why): (&Remote, String)| Reason::RepositoryUnknown { address: remote.shown(), why };
    unknown.map(reason).collect()
}

/// Every input that differs from the latest record.
fn changes(newest: Option<&ImageRecord>, inputs: &Inputs) -> Vec<Reason> {
    let Some(newest) = newest else { return vec![Reason::NeverBuilt] };
    let changed = differences(&newest.inputs, inputs);
    if changed.is_empty() { vec![Reason::RecordIsGone] } else { changed }
}

fn differences(old: &Inputs, new: &Inputs) -> Vec<Reason> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let changed = changed.map(|name| Reason::Changed {
        input: name.clone(),
        old: old.get(name).cloned(),
        new: new.get(name).cloned(),
    });
    changed.collect()
}

/// Why the checks of a job run upon an image that stands: what of them changed, old and new, where that is known.
pub(crate) fn why_checked(family: &Family, facts: &Facts, job: &JobId, image: &ImageRecord) -> String {
    let before = facts.tested.get(job).filter(|tested| tested.image == image.image);
    let (Some(before), Some(recipe)) = (before, family.recipe(&job.unit)) else {
        return "its checks have not passed".to_owned();
    };
    let changed = differences(&before.inputs, &check_inputs(recipe, facts.files_of_checks(&job.unit)));
    match changed.is_empty() || before.inputs.is_empty() {
        true => "its checks changed or have not passed".to_owned(),
        false => changed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}
