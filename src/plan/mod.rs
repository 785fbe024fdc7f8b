//! What to do and why, before doing it: a pure function of the family and of the facts.

mod bases;
mod decide;
mod estimate;
mod fresh;
mod key;
mod patience;
mod repositories;
mod second_look;
#[cfg(test)]
mod tests;
mod tree;
mod untrusted;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{Remote, Written};
use crate::family::{Barrier, Build, Emulation, Family, JobId, Recipe, Terms, Unit, Use};
use crate::oci::{Digest, Platform, Reference};
use crate::record::{CheckRecord, Durations, Epochs, ImageRecord, Passed};
use crate::trust::Doubt;

pub(crate) use bases::{Unfit, unfit_bases, unknown_frontends};
pub(crate) use decide::{Reason, why_checked};
pub(crate) use estimate::{Estimate, Estimates, speed};
pub(crate) use fresh::from_the_future;
pub(crate) use key::{Inputs, check_inputs, check_key};
pub(crate) use patience::{LeftOut, Wait, tried, waits};
pub(crate) use repositories::{unfit_repositories, unknown_repositories};
pub(crate) use second_look::SecondLook;
pub(crate) use tree::tree_digest;
pub(crate) use untrusted::refused_untrusted;

/// What is true now, as far as a plan depends on it. `survey` fills it in.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// For each job the files of the context that its build can read, and the state of each.
    pub(crate) files: BTreeMap<JobId, BTreeMap<String, String>>,
    /// The files that the tests of each unit read on this machine, and the state of each.
    pub(crate) check_files: BTreeMap<Unit, BTreeMap<String, String>>,
    /// The text of the ignore file that counts for each unit that has one.
    pub(crate) ignores: BTreeMap<Unit, String>,
    /// The images from outside.
    pub(crate) bases: BTreeMap<Reference, Base>,
    /// What stands behind the sources of mirrors, as far as they could be looked up: an index, or a single image.
    pub(crate) mirrored: BTreeMap<Reference, Digest>,
    /// What every tag pointed at that was looked up: of images from outside, and of frontends.
    pub(crate) looked_up: BTreeMap<Reference, Digest>,
    /// The commit that each repository is at that an `ADD` fetches, by its address without a password; or why that cannot
    /// be looked up.
    pub(crate) commits: BTreeMap<String, Result<String, String>>,
    /// The `ONBUILD` triggers of those images from outside that leave any, by their manifests.
    pub(crate) triggers: BTreeMap<Digest, Vec<String>>,
    /// The `# syntax` frontend of each unit that names one.
    pub(crate) frontends: BTreeMap<Unit, Frontend>,
    /// The refresh epoch of each job that has one.
    pub(crate) epochs: Epochs,
    /// The time in seconds since 1970-01-01 UTC, where the age of records counts.
    pub(crate) now_seconds: Option<u64>,
    /// The image records that stand under the keys of this plan.
    pub(crate) images: BTreeMap<Digest, ImageRecord>,
    /// Of the images of those records that are not whole in the store, what is missing first: a manifest or a blob.
    pub(crate) missing: BTreeMap<Digest, Digest>,
    /// The check records that stand under the check keys of this plan.
    pub(crate) checks: BTreeMap<Digest, CheckRecord>,
    /// Why records that stand under image keys and check keys of this plan do not count.
    pub(crate) doubts: BTreeMap<Digest, Doubt>,
    /// The latest image record of each job, for `why`.
    pub(crate) newest: BTreeMap<JobId, ImageRecord>,
    /// The latest record of the checks of each job whose image stands and whose checks do not.
    pub(crate) tested: BTreeMap<JobId, CheckRecord>,
    /// How long jobs took; no key depends on it.
    pub(crate) durations: Durations,
}

/// No files.
static NONE: BTreeMap<String, String> = BTreeMap::new();

impl Facts {
    /// The files that the tests of a unit read on this machine, and the state of each.
    pub(crate) fn files_of_checks(&self, unit: &Unit) -> &BTreeMap<String, String> {
        self.check_files.get(unit).unwrap_or(&NONE)
    }

    /// The manifest of an image from outside that a build uses under this reference, for the platform that its
    /// `FROM --platform=` names, else for the build's own.
    pub(crate) fn base(&self, build: &Build, written: &str, own: &Platform) -> Option<&Digest> {
        let Use::Outside(reference) = build.uses.get(written)? else { return None };
        self.bases.get(reference)?.digest_for(&build.asked_platform(written, own))
    }

    /// The commit that an `ADD` of a repository fetches; none of a file, and where that only the build knows.
    ///
    /// # Errors
    /// Where it is not known here, and why.
    pub(crate) fn commit(&self, remote: &Remote) -> Option<Result<String, String>> {
        let source = match remote.git()? {
            Ok(source) => source,
            Err(why) => return Some(Err(why)),
        };
        let looked_up = || self.commits.get(&remote.shown()).cloned();
        let unasked = || Err("it was not looked up".to_owned());
        let said = source.commit().map(|commit| Ok(commit.to_owned()));
        Some(said.or_else(looked_up).unwrap_or_else(unasked))
    }

    /// The platforms on which `ONBUILD` triggers run in a recipe's build, those of its parents in the family and those
    /// of images from outside. They can read anything of its context.
    pub(crate) fn triggered(&self, recipe: &Recipe) -> BTreeSet<Platform> {
        let builds = recipe.platforms.iter().filter(|(platform, build)| {
            let mut images =
                build.outside_stages().filter_map(|(written, _)| self.base(build, written, platform));
            !build.triggers.is_empty() || images.any(|image| self.triggers.contains_key(image))
        });
        builds.map(|(platform, _)| platform.clone()).collect()
    }
}

/// An image from outside the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// It was looked up: its manifest for each of its platforms.
    Found(BTreeMap<Platform, Digest>),
    /// It could not be looked up, and why.
    Unknown(String),
}

impl Base {
    /// The digest of its manifest for a platform, where it is known to have that.
    pub(crate) fn digest_for(&self, platform: &Platform) -> Option<&Digest> {
        match self {
            Self::Found(platforms) => platforms.get(platform),
            Self::Unknown(_) => None,
        }
    }
}

/// The image that reads a Dockerfile, named by its `# syntax=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// It was looked up.
    Found {
        /// It as it is named.
        written: Reference,
        /// It at its digest, which the key holds.
        reference: Reference,
        /// Its manifest for each of its platforms.
        platforms: BTreeMap<Platform, Digest>,
    },
    /// It could not be looked up.
    Unknown {
        /// What stands in the Dockerfile, and where.
        written: Written,
        /// Why.
        why: String,
    },
}

/// What was settled before, by a plan that is carried out in several runs or again.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What tags point at, wherever they have moved since.
    pub(crate) looked_up: BTreeMap<Reference, Digest>,
    /// What repositories are at, by their addresses without passwords, wherever their branches have moved since.
    pub(crate) commits: BTreeMap<String, String>,
    /// The refresh epochs of all jobs; those of the store where `None`.
    pub(crate) epochs: Option<Epochs>,
    /// The images that stood under image keys, whatever was built under those since.
    pub(crate) images: BTreeMap<Digest, Digest>,
}

/// Every job, its key, and what will be done about it.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The jobs, parents before children.
    pub(crate) order: Vec<JobId>,
    /// What is planned for each.
    pub(crate) jobs: BTreeMap<JobId, Planned>,
}

/// What is planned for one job.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The image key.
    pub(crate) key: Digest,
    /// What that is the digest of.
    pub(crate) inputs: Inputs,
    /// The jobs whose images it uses.
    pub(crate) parents: BTreeSet<JobId>,
    /// The refresh epoch that begins once it has passed, where it is refreshed.
    pub(crate) next_epoch: Option<u64>,
    /// The files that its tests read on this machine, and the state of each.
    pub(crate) check_files: BTreeMap<String, String>,
    /// What it takes of its builder.
    pub(crate) terms: Terms,
    /// What will be done, and why.
    pub(crate) decision: Decision,
    /// Why that is not done in this run, where it is not.
    pub(crate) left_out: Option<LeftOut>,
}

impl Planned {
    /// Whether anything is done about it in this run.
    pub(crate) fn is_done(&self) -> bool {
        self.left_out.is_none() && !matches!(self.decision, Decision::Reuse(_))
    }
}

/// What will be done about a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing: a record stands for it.
    Reuse(Box<Passed>),
    /// Its image stands; its checks run.
    Check(Box<ImageRecord>),
    /// It is built and checked, for these reasons.
    Build(Vec<Reason>),
}

impl Decision {
    /// The image that stands for the job, whether or not its checks do; none where it is built.
    pub(crate) fn image(&self) -> Option<&ImageRecord> {
        match self {
            Self::Reuse(passed) => Some(&passed.image),
            Self::Check(image) => Some(image),
            Self::Build(_) => None,
        }
    }
}

/// What a person asked for beside the family itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// The jobs wanted; their ancestors come with them. All where empty.
    pub(crate) selected: BTreeSet<JobId>,
    /// The selected jobs are built although records stand.
    pub(crate) no_reuse: bool,
    /// The jobs that are built since their images come too slowly from where they stand.
    pub(crate) slow: BTreeSet<JobId>,
    /// The jobs that are built with what is new outside: in their next refresh epoch, without the engine's cache.
    pub(crate) refresh: BTreeSet<JobId>,
    /// The jobs whose present refresh epoch was taken by the plan that is carried out, and has not begun before.
    pub(crate) refreshing: BTreeSet<JobId>,
    /// Whether platforms may be emulated and records that were made so stand, whatever the family says.
    pub(crate) emulation: Option<Emulation>,
    /// The jobs that are not tried, since they have failed again and again.
    pub(crate) waits: BTreeMap<JobId, Wait>,
}

/// What a job takes of its builder, by the family and by what was asked for.
fn terms(family: &Family, job: &JobId, request: &Request) -> Terms {
    let said = family.recipe(&job.unit).and_then(|recipe| recipe.terms.get(&job.platform));
    let terms = said.cloned().unwrap_or_default();
    Terms { emulation: request.emulation.unwrap_or(terms.emulation), ..terms }
}

impl Plan {
    /// The plan of a family upon facts.
    pub(crate) fn new(family: &Family, facts: &Facts, request: &Request) -> Self {
        let plain = keys(family, facts);
        let wanted = with_ancestors(family, &plain, request);
        let order: Vec<JobId> = family.jobs().filter(|job| wanted.contains(job)).collect();
        let refreshed = fresh::refreshed(family, facts, request, &order, &plain);
        let epochs = fresh::epochs(facts, &refreshed);
        let keyed = match refreshed.is_empty() {
            true => plain.clone(),
            false => keys_at(family, facts, &epochs),
        };
        let mut jobs = BTreeMap::<JobId, Planned>::new();
        for job in &order {
            let of_job = Considered {
                job,
                keyed: &keyed[job],
                refresh: refreshed.get(job),
                before: facts.images.get(&plain[job].key).or_else(|| facts.newest.get(job)),
                terms: terms(family, job, request),
                slow: request.slow.contains(job),
                forced: request.no_reuse && (request.selected.is_empty() || request.selected.contains(job)),
            };
            let decision = decide::decide(family, facts, &of_job, &jobs);
            let left_out = patience::left_out(job, of_job.keyed, &decision, request, &jobs);
            let Keyed { key, inputs, parents } = of_job.keyed.clone();
            let is_refreshed = of_job.refresh.is_some() || request.refreshing.contains(job);
            let next_epoch = epochs.get(job).copied().filter(|_| is_refreshed);
            let check_files = facts.files_of_checks(&job.unit).clone();
            let terms = of_job.terms;
            jobs.insert(
                job.clone(),
                Planned { key, inputs, parents, next_epoch, check_files, terms, decision, left_out },
            );
        }
        Self { order, jobs }
    }

    /// The jobs of the plan that a job waits for although it uses nothing of them; none where it is reused, which takes
    /// nothing to wait with.
    pub(crate) fn beside(&self, family: &Family, job: &JobId, barrier: Barrier) -> BTreeSet<JobId> {
        match self.jobs[job].decision {
            Decision::Reuse(_) => BTreeSet::new(),
            Decision::Check(_) | Decision::Build(_) => {
                let beside = family.beside(job, barrier).into_iter();
                beside.filter(|other| self.jobs.contains_key(other)).collect()
            }
        }
    }

    /// The jobs that are built because their records were made by emulation.
    pub(crate) fn made_by_emulation(&self) -> impl Iterator<Item = &JobId> {
        let is_one = |planned: &Planned| match &planned.decision {
            Decision::Build(reasons) => reasons.contains(&Reason::MadeByEmulation),
            Decision::Reuse(_) | Decision::Check(_) => false,
        };
        self.jobs.iter().filter(move |(_, planned)| is_one(planned)).map(|(job, _)| job)
    }

    /// The jobs that records stood for, were emulation allowed: those, and all that stand on their images.
    pub(crate) fn refused_as_emulated(&self) -> BTreeSet<&JobId> {
        let mut refused: BTreeSet<&JobId> = self.made_by_emulation().collect();
        // Parents come first.
        for job in &self.order {
            if self.jobs[job].parents.iter().any(|parent| refused.contains(parent)) {
                refused.insert(job);
            }
        }
        refused
    }

    /// The jobs that are built.
    pub(crate) fn to_build(&self) -> usize {
        self.count(|decision| matches!(decision, Decision::Build(_)))
    }

    /// The jobs of which only the checks run.
    pub(crate) fn to_check(&self) -> usize {
        self.count(|decision| matches!(decision, Decision::Check(_)))
    }

    /// The jobs that records stand for.
    pub(crate) fn reused(&self) -> usize {
        self.count(|decision| matches!(decision, Decision::Reuse(_)))
    }

    /// Whether nothing is done in a run of it.
    pub(crate) fn is_idle(&self) -> bool {
        !self.jobs.values().any(Planned::is_done)
    }

    fn count(&self, which: impl Fn(&Decision) -> bool) -> usize {
        self.jobs.values().filter(|planned| which(&planned.decision)).count()
    }
}

/// The key of one job, before anything is decided.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    /// The image key.
    pub(crate) key: Digest,
    /// What that is the digest of.
    pub(crate) inputs: Inputs,
    /// The jobs whose images it uses.
    pub(crate) parents: BTreeSet<JobId>,
}

/// One job, as far as it is known when its turn comes.
struct Considered<'a> {
    job: &'a JobId,
    keyed: &'a Keyed,
    /// Why it is refreshed, if it is.
    refresh: Option<&'a Reason>,
    /// The latest record of it.
    before: Option<&'a ImageRecord>,
    terms: Terms,
    /// Its image comes too slowly.
    slow: bool,
    /// It is built whatever stands.
    forced: bool,
}

/// The image keys of all jobs of a family; `survey` looks for records under them.
pub(crate) fn keys(family: &Family, facts: &Facts) -> BTreeMap<JobId, Keyed> {
    keys_at(family, facts, &facts.epochs)
}

/// The image keys of all jobs of a family in these refresh epochs.
fn keys_at(family: &Family, facts: &Facts, epochs: &Epochs) -> BTreeMap<JobId, Keyed> {
    let mut keyed = BTreeMap::<JobId, Keyed>::new();
    for recipe in family.recipes() {
        for (platform, build) in &recipe.platforms {
            let parents: BTreeSet<JobId> = build.parents().map(|unit| unit.on(platform)).collect();
            let parent_keys = build
                .parents()
                .filter_map(|unit| Some((unit, &keyed.get(&unit.on(platform))?.key)))
                .collect();
            let inputs = key::inputs(recipe, platform, facts, epochs, &parent_keys);
            keyed.insert(recipe.unit.on(platform), Keyed { key: key::key_of(&inputs), inputs, parents });
        }
    }
    keyed
}

fn with_ancestors(family: &Family, keyed: &BTreeMap<JobId, Keyed>, request: &Request) -> BTreeSet<JobId> {
    let mut wanted: BTreeSet<JobId> = match request.selected.is_empty() {
        true => return keyed.keys().cloned().collect(),
        false => request.selected.clone(),
    };
    for job in family.jobs().collect::<Vec<_>>().iter().rev() {
        if wanted.contains(job) {
            wanted.extend(keyed[job].parents.iter().cloned());
        }
    }
    wanted
}
