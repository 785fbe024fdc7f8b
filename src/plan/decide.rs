//! Whether a record stands for a job, and if not, why it is built.

use std::collections::BTreeMap;
use std::fmt;

use crate::family::{Emulation, Family, JobId};
use crate::oci::Digest;
use crate::record::{ImageRecord, Passed};

use super::{Base, Decision, Facts, Frontend, Inputs, Keyed, Planned, check_key};

/// One reason for a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No record of this job is known.
    NeverBuilt,
    /// A person asked for it.
    Asked,
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
    /// The image that reads the Dockerfile is not known.
    FrontendUnknown {
        /// What stands in the Dockerfile.
        written: String,
        /// Why it could not be looked up.
        why: String,
    },
    /// A record stands, but the store has lost something of its image: law 3.
    ContentMissing(Digest),
    /// The latest record has the same inputs, but nothing stands under the key any more.
    RecordIsGone,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("no record of it"),
            Self::Asked => f.write_str("asked for"),
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
            Self::FrontendUnknown { written, .. } => write!(f, "frontend {written} is unknown"),
            Self::ContentMissing(digest) => {
                write!(f, "its record stands, but {digest} is missing from the store")
            }
            Self::RecordIsGone => f.write_str("its record is no longer in the store"),
            Self::Changed { input, old, new } => {
                let (kind, name) = input.split_once(':').unwrap_or((input, ""));
                let what = match kind {
                    "file" => format!("file {name}"),
                    "arg" => format!("build argument {name}"),
                    "label" => format!("label {name}"),
                    "parent" => format!("inputs of {name}"),
                    "base" => format!("base image {name}"),
                    "dockerfile" => "the Dockerfile".to_owned(),
                    _ => input.clone(),
                };
                match (old, new) {
                    (None, _) => write!(f, "{what} is new"),
                    (_, None) => write!(f, "{what} is gone"),
                    (Some(old), Some(new)) => {
                        write!(f, "{what} changed: {} then, {} now", short(old), short(new))
                    }
                }
            }
        }
    }
}

/// Digests inside a value, cut to what a person can compare.
fn short(value: &str) -> String {
    let words = value.split(' ').map(|word| match word.parse::<Digest>() {
        Ok(digest) => digest.short().to_owned(),
        Err(_) => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What to do about one job, when all its parents are decided.
pub(super) fn decide(
    family: &Family,
    facts: &Facts,
    job: &JobId,
    keyed: &Keyed,
    before: &BTreeMap<JobId, Planned>,
    emulation: Emulation,
    forced: bool,
) -> Decision {
    let mut reasons = Vec::new();
    if forced {
        reasons.push(Reason::Asked);
    }
    reasons.extend(unknown_bases(family, facts, job));
    if let Some(Frontend::Unknown { written, why }) = facts.frontends.get(&job.unit) {
        reasons.push(Reason::FrontendUnknown { written: written.text.clone(), why: why.clone() });
    }
    let record = facts.images.get(&keyed.key);
    let missing = record.and_then(|record| facts.missing.get(&record.image));
    reasons.extend(missing.cloned().map(Reason::ContentMissing));
    let refused = !emulation.is_allowed() && record.is_some_and(|record| record.emulated);
    reasons.extend(refused.then_some(Reason::MadeByEmulation));
    reasons.extend(keyed.parents.iter().filter_map(|parent| parent_reason(parent, before, record)));
    match record {
        Some(record) if reasons.is_empty() => reuse(family, facts, job, record),
        _ => {
            if record.is_none() {
                let why = changes(facts.newest.get(job), &keyed.inputs);
                // A parent that is built has another key as a rule: it is told once.
                let told = reasons.iter().any(|reason| matches!(reason, Reason::ParentIsBuilt(_)));
                let first = reasons.iter().take_while(|reason| is_first(reason)).count();
                reasons.splice(first..first, why.into_iter().filter(|reason| !(told && is_parents(reason))));
            }
            Decision::Build(reasons)
        }
    }
}

/// Whether it is told before what changed.
fn is_first(reason: &Reason) -> bool {
    matches!(reason, Reason::Asked | Reason::BaseUnknown { .. } | Reason::FrontendUnknown { .. })
}

fn is_parents(reason: &Reason) -> bool {
    matches!(reason, Reason::Changed { input, .. } if input.starts_with("parent:"))
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
    let stands = match &before.get(parent)?.decision {
        Decision::Build(_) => return Some(Reason::ParentIsBuilt(parent.clone())),
        Decision::Reuse(passed) => &passed.image.image,
        Decision::Check(image) => &image.image,
    };
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

/// Every input that differs from the latest record.
fn changes(newest: Option<&ImageRecord>, inputs: &Inputs) -> Vec<Reason> {
    let Some(newest) = newest else { return vec![Reason::NeverBuilt] };
    let names: std::collections::BTreeSet<&String> = newest.inputs.keys().chain(inputs.keys()).collect();
    let changed: Vec<Reason> = names
        .into_iter()
        .filter(|name| newest.inputs.get(*name) != inputs.get(*name))
        .map(|name| Reason::Changed {
            input: name.clone(),
            old: newest.inputs.get(name).cloned(),
            new: inputs.get(name).cloned(),
        })
        .collect();
    if changed.is_empty() { vec![Reason::RecordIsGone] } else { changed }
}
