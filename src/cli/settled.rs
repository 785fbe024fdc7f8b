//! A plan as a file: what was settled once, so that every run that carries it out means the same, and a retry
//! tomorrow too (law 6).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Problems, Result};
use crate::event::Waiting;
use crate::family::JobId;
use crate::oci::{Digest, Reference};
use crate::plan::{Plan, Settled, Wait};

use super::plan::Planning;
use super::publisher::Moment;
use super::recorder;

/// The version of the format; others are refused.
const VERSION: u32 = 1;
/// How long the file may be, in bytes.
const BYTES_LIMIT: u64 = 64 << 20;

/// What a plan has settled.
#[derive(Clone, Debug)]
pub(super) struct SettledPlan {
    /// The jobs that it has begun a refresh epoch for.
    pub(super) refreshing: BTreeSet<JobId>,
    /// The jobs that were chosen; all where it is empty.
    pub(super) selected: BTreeSet<JobId>,
    file: PathBuf,
    looked_up: BTreeMap<Reference, Digest>,
    epochs: BTreeMap<JobId, u64>,
    waits: BTreeMap<JobId, Wait>,
    written: Written,
}

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    /// When it was settled, in milliseconds since 1970-01-01 UTC.
    at_milliseconds: u64,
    commit: Option<String>,
    commit_seconds: Option<u64>,
    /// What tags pointed at.
    references: BTreeMap<String, Digest>,
    /// What repositories were at, by their addresses without passwords.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    commits: BTreeMap<String, String>,
    /// The refresh epochs that jobs have in it.
    epochs: BTreeMap<String, u64>,
    /// The jobs that take theirs by it.
    refreshing: BTreeSet<String>,
    /// The jobs that were chosen; all where it is empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    selected: BTreeSet<String>,
    jobs: BTreeMap<String, WrittenJob>,
    /// The jobs that are not tried, since they have failed again and again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    waits: BTreeMap<String, Waiting>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenJob {
    key: Digest,
    /// The image that stood for it.
    image: Option<Digest>,
}

impl SettledPlan {
    /// What a plan settles.
    pub(super) fn of(planning: &Planning) -> Self {
        let Planning { plan, facts, moment, request, .. } = planning;
        let next = plan.jobs.iter().filter_map(|(job, planned)| Some((job.clone(), planned.next_epoch?)));
        let next: BTreeMap<JobId, u64> = next.collect();
        let refreshing: BTreeSet<JobId> = next.keys().cloned().collect();
        let mut epochs = facts.epochs.clone();
        epochs.extend(next);
        let jobs = plan.jobs.iter().map(|(job, planned)| {
            let image = planned.decision.image().map(|image| image.image.clone());
            (job.to_string(), WrittenJob { key: planned.key.clone(), image })
        });
        let waits = request.waits.clone();
        let references = facts.looked_up.iter().map(|(from, to)| (from.to_string(), to.clone()));
        let commits = facts.commits.iter().filter_map(|(at, found)| Some((at.clone(), found.clone().ok()?)));
        let written = Written {
            version: VERSION,
            at_milliseconds: moment.at,
            commit: moment.commit.clone(),
            commit_seconds: moment.commit_seconds,
            references: references.collect(),
            commits: commits.collect(),
            epochs: epochs.iter().map(|(job, epoch)| (job.to_string(), *epoch)).collect(),
            refreshing: refreshing.iter().map(ToString::to_string).collect(),
            selected: request.selected.iter().map(ToString::to_string).collect(),
            jobs: jobs.collect(),
            waits: waits.iter().map(|(job, wait)| (job.to_string(), wait.into())).collect(),
        };
        let looked_up = facts.looked_up.clone();
        let selected = request.selected.clone();
        Self { refreshing, selected, file: PathBuf::new(), looked_up, epochs, waits, written }
    }

    /// Write it, in place of what stands in the file.
    ///
    /// # Errors
    /// Where the disk fails.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let failed = |error: &dyn std::error::Error| {
            Diagnostic::surroundings(format!("write the plan {}", file.display())).caused_by(error)
        };
        let mut text = serde_json::to_string_pretty(&self.written).map_err(|error| failed(&error))?;
        text.push('\n');
        Ok(std::fs::write(file, text).map_err(|error| failed(&error))?)
    }

    /// Read it.
    ///
    /// # Errors
    /// Where it is not there, or no plan of this format.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let wrong = |why: String| {
            Diagnostic::request(format!("read the plan {}", file.display()))
                .because(why)
                .hint(format!("make it anew: polyarch plan --out {}", file.display()))
        };
        let mut text = String::new();
        let opened = std::fs::File::open(file).map_err(|error| wrong(error.to_string()))?;
        opened.take(BYTES_LIMIT).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
        let written: Written = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if written.version != VERSION {
            let why = format!("it has version {}, and version {VERSION} is read here", written.version);
            return Err(wrong(why).into());
        }
        let job = |name: &String| name.parse::<JobId>().map_err(|error| wrong(error.to_string()));
        let reference = |name: &String| name.parse::<Reference>().map_err(|error| wrong(error.to_string()));
        let looked_up = written.references.iter().map(|(from, to)| Ok((reference(from)?, to.clone())));
        let epochs = written.epochs.iter().map(|(name, epoch)| Ok((job(name)?, *epoch)));
        let waits = written.waits.iter().map(|(name, waiting)| Ok((job(name)?, Wait::from(waiting))));
        Ok(Self {
            looked_up: looked_up.collect::<std::result::Result<_, Diagnostic>>()?,
            epochs: epochs.collect::<std::result::Result<_, Diagnostic>>()?,
            refreshing: written.refreshing.iter().map(job).collect::<std::result::Result<_, _>>()?,
            selected: written.selected.iter().map(job).collect::<std::result::Result<_, _>>()?,
            waits: waits.collect::<std::result::Result<_, Diagnostic>>()?,
            file: file.to_owned(),
            written,
        })
    }

    /// When it was settled, and of what commit.
    pub(super) fn moment(&self) -> Moment {
        let Written { at_milliseconds, commit, commit_seconds, .. } = &self.written;
        Moment { at: *at_milliseconds, commit: commit.clone(), commit_seconds: *commit_seconds }
    }

    /// What it is told from others by.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(&self.written).expect("what was read as JSON can be written"))
    }

    /// Have every later run that carries it out use the images that this one finds where none stood when it was settled.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) async fn hold(&self, planning: &Planning) -> Result<()> {
        let records = planning.shelf.records();
        for (job, planned) in &planning.plan.jobs {
            let stood = self.written.jobs.get(&job.to_string()).is_some_and(|job| job.image.is_some());
            let Some(image) = planned.decision.image().filter(|_| !stood) else { continue };
            records.note_for_plan(image, recorder::now() / 1_000).await.map_err(|error| {
                Diagnostic::surroundings(format!("keep which image of {job} this plan has")).caused_by(&error)
            })?;
        }
        Ok(())
    }

    /// The jobs that it does not try, as long as their waits last.
    pub(super) fn waits(&self, now_seconds: u64) -> BTreeMap<JobId, Wait> {
        let lasts = |wait: &Wait| now_seconds < wait.until_seconds;
        self.waits.iter().filter(|(_, wait)| lasts(wait)).map(|(job, wait)| (job.clone(), *wait)).collect()
    }

    /// Whether a job is in it.
    pub(super) fn has(&self, job: &JobId) -> bool {
        self.written.jobs.contains_key(&job.to_string())
    }

    /// What a survey does not look up again.
    pub(super) fn settled(&self) -> Settled {
        let jobs = self.written.jobs.values();
        let images = jobs.filter_map(|WrittenJob { key, image }| Some((key.clone(), image.clone()?)));
        Settled {
            looked_up: self.looked_up.clone(),
            commits: self.written.commits.clone(),
            epochs: Some(self.epochs.clone()),
            images: images.collect(),
        }
    }

    /// See that what is to be carried out is what was settled: the same inputs, and the same images where they stood.
    ///
    /// # Errors
    /// For each job that is another than in the file.
    pub(super) fn check(&self, plan: &Plan) -> Result<()> {
        let problems = plan.jobs.iter().filter_map(|(job, planned)| {
            let stands = planned.decision.image().map(|image| &image.image);
            let why = match self.written.jobs.get(&job.to_string()) {
                None => "it is not in the plan".to_owned(),
                Some(before) if before.key != planned.key => {
                    "its inputs are others than in the plan".to_owned()
                }
                Some(WrittenJob { image: Some(before), .. }) if stands != Some(before) => {
                    format!("the image {} that the plan stands on no longer does", before.short())
                }
                Some(_) => return None,
            };
            let problem = format!("{job} is not as {} has settled it", self.file.display());
            let hint = format!("settle it anew: polyarch plan --out {}", self.file.display());
            Some(Diagnostic::request(problem).because(why).hint(hint))
        });
        Problems::check(problems.collect())
    }
}
