//! What a run came to: a fold over its events, the same live as later from its log.

mod changes;
mod critical_path;
mod html;
mod json;
mod junit;
pub(crate) mod ledger;
mod manifest;
mod plan;
mod simulation;
mod terminal;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Place, Result};
use crate::event::{Amount, EVENT_VERSION, EmulationCost, Event, EventKind, Outcome};

pub(crate) use crate::diag::size;
pub(crate) use changes::{CHANGES_VERSION, Changes, Side};
pub(crate) use critical_path::CriticalPath;
pub(crate) use html::Page;
pub(crate) use manifest::{BuildManifest, Commit, blob_link, commit_link};
pub(crate) use plan::{
    CapacityView, DecisionView, EmulationView, EstimateView, JobView, MirrorView, PLAN_VIEW_VERSION, PlanView,
};
pub(crate) use simulation::{BuilderView, OutlookView, SIMULATION_VERSION, Simulation, SpanView};
pub(crate) use terminal::{duration, emulation_cost, traffic_line};
pub(crate) use timeline::Timeline;

/// The version of the format of reports.
pub(crate) const REPORT_VERSION: u32 = 1;

/// What a run came to, as far as its events go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`REPORT_VERSION`].
    pub(crate) version: u32,
    /// The run.
    pub(crate) run: String,
    /// When it began, in milliseconds since 1970-01-01 UTC.
    pub(crate) started_at_milliseconds: u64,
    /// From its first event to its last.
    pub(crate) milliseconds: u64,
    /// How many jobs ended how.
    pub(crate) counts: Counts,
    /// Every job that an event names.
    pub(crate) jobs: BTreeMap<String, JobReport>,
    /// The builders that images were loaded into and saved from whole, as they do not reach the store.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) by_archives: BTreeSet<String>,
    /// What was published, if anything was begun.
    pub(crate) publication: Option<PublicationReport>,
    /// What went to the mirrors after it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) mirrors: Vec<PublicationReport>,
    /// What was asked of registries, by host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) traffic: BTreeMap<String, Amount>,
    /// Where the full logs are.
    pub(crate) logs: Option<String>,
    /// How the command ended; `None` where the log stops before its end.
    pub(crate) exit_code: Option<u8>,
}

/// How many jobs ended how. Together they are the jobs of the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Built and checked.
    pub(crate) built: usize,
    /// Only checked again.
    pub(crate) checked: usize,
    /// Not touched: a record stands.
    pub(crate) reused: usize,
    /// Failed.
    pub(crate) failed: usize,
    /// Not tried, because of a failed one.
    pub(crate) skipped: usize,
    /// Stopped.
    pub(crate) cancelled: usize,
    /// Without an end in the log.
    pub(crate) unfinished: usize,
}

/// One job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobReport {
    /// How it ended.
    pub(crate) result: JobResult,
    /// Its image's manifest, where it has one.
    pub(crate) image: Option<String>,
    /// Where it ran.
    pub(crate) builder: Option<String>,
    /// Whether by emulation.
    pub(crate) emulated: bool,
    /// What emulation was thought to cost, where it was emulated and anything was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<EmulationCost>,
    /// How long it took.
    pub(crate) milliseconds: u64,
    /// For so much of that an engine, or a test on this machine, was at work for it.
    #[serde(default)]
    pub(crate) engine_milliseconds: u64,
    /// Bytes of its layers, where it was built.
    pub(crate) bytes: u64,
    /// Bytes of each, the lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) layers: Vec<u64>,
    /// Checks that were run.
    pub(crate) checks: Vec<CheckReport>,
    /// Why it was tried again, once for each time.
    pub(crate) retries: Vec<String>,
    /// The caches that it did without, or that were not kept, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) caches_dropped: Vec<String>,
    /// Whether it was tried once more without the engine's cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) without_cache: bool,
}

/// How a job ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub(crate) enum JobResult {
    /// The log has no end of it.
    #[default]
    Unfinished,
    /// A record stands for it.
    Reused,
    /// It ended.
    Ended(Outcome),
}

/// One check of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckReport {
    /// What a person calls it.
    pub(crate) check: String,
    /// Whether it passed.
    pub(crate) passed: bool,
    /// The tag that it made, where it is a tagger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    /// How long it took.
    pub(crate) milliseconds: u64,
}

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicationReport {
    /// Where.
    pub(crate) target: String,
    /// Whether it reached its end.
    pub(crate) complete: bool,
    /// Tags that were to be written.
    pub(crate) tags_planned: usize,
    /// Images whose content is there.
    pub(crate) images: Vec<ContentReport>,
    /// Tags that are where they should be, in order.
    pub(crate) tags: BTreeMap<String, TagReport>,
    /// Tags that stay where they are, and why.
    pub(crate) withheld: BTreeMap<String, String>,
}

/// One published image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContentReport {
    /// Registry and repository.
    pub(crate) repository: String,
    /// The index.
    pub(crate) digest: String,
    /// Bytes that had to move.
    pub(crate) bytes: u64,
}

/// One published tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagReport {
    /// What it points at.
    pub(crate) digest: String,
    /// Whether it had to be moved.
    pub(crate) moved: bool,
}

impl Report {
    /// The report of a run's events, in their order.
    pub(crate) fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut report = Self::empty();
        events.into_iter().for_each(|event| report.take(event));
        report
    }

    /// A report of nothing yet, to [`Self::take`] events as they come.
    pub(crate) fn empty() -> Self {
        Self {
            version: REPORT_VERSION,
            run: String::new(),
            started_at_milliseconds: 0,
            milliseconds: 0,
            counts: Counts::default(),
            jobs: BTreeMap::new(),
            by_archives: BTreeSet::new(),
            publication: None,
            mirrors: Vec::new(),
            traffic: BTreeMap::new(),
            logs: None,
            exit_code: None,
        }
    }

    /// Takes in the next event.
    pub(crate) fn take(&mut self, event: &Event) {
        if self.started_at_milliseconds == 0 {
            self.started_at_milliseconds = event.at_milliseconds;
        }
        self.milliseconds =
            self.milliseconds.max(event.at_milliseconds.saturating_sub(self.started_at_milliseconds));
        match &event.kind {
            EventKind::RunStarted { run, jobs, .. } => {
                self.run.clone_from(run);
                self.counts.unfinished += *jobs;
            }
            EventKind::Traffic { host, amount } => {
                self.traffic.insert(host.clone(), *amount);
            }
            EventKind::BuilderFedByArchives { builder } => {
                self.by_archives.insert(builder.clone());
            }
            EventKind::RunEnded { exit_code } => self.exit_code = Some(*exit_code),
            kind => {
                self.take_job(kind);
                self.take_publication(kind);
            }
        }
    }

    fn take_job(&mut self, kind: &EventKind) {
        match kind {
            EventKind::JobReused { job, image } => {
                let report = self.job(job);
                report.result = JobResult::Reused;
                report.image = Some(image.clone());
                self.counts.reused += 1;
                self.counts.unfinished = self.counts.unfinished.saturating_sub(1);
            }
            EventKind::JobStarted { job, builder, emulated, cost, .. } => {
                let report = self.job(job);
                report.builder = Some(builder.clone());
                report.emulated = *emulated;
                report.cost = *cost;
            }
            EventKind::JobKept { job, image, bytes, layers, .. } => {
                let report = self.job(job);
                report.layers.clone_from(layers);
                report.image = Some(image.clone());
                report.bytes = *bytes;
            }
            EventKind::CheckEnded { job, check, passed, tag, milliseconds } => {
                let (check, tag) = (check.clone(), tag.clone());
                let (passed, milliseconds) = (*passed, *milliseconds);
                self.job(job).checks.push(CheckReport { check, passed, tag, milliseconds });
            }
            EventKind::CacheDropped { job, cache, reason } => {
                self.job(job).caches_dropped.push(format!("{cache}: {reason}"));
            }
            EventKind::JobRetried { job, reason, without_cache } => {
                let report = self.job(job);
                report.retries.push(reason.clone());
                report.without_cache |= *without_cache;
            }
            EventKind::JobMoved { job, builder, reason } => {
                let report = self.job(job);
                report.retries.push(format!("left {builder}: {reason}"));
                // Its checks run again, all of them.
                report.checks.clear();
            }
            EventKind::JobEnded { job, outcome, milliseconds, engine_milliseconds } => {
                self.job(job).engine_milliseconds = *engine_milliseconds;
                self.end(job, outcome, *milliseconds);
            }
            _ => {}
        }
    }

    fn end(&mut self, job: &str, outcome: &Outcome, milliseconds: u64) {
        let report = self.job(job);
        report.milliseconds = milliseconds;
        report.result = JobResult::Ended(outcome.clone());
        match outcome {
            Outcome::Built { image } | Outcome::Checked { image } => report.image = Some(image.clone()),
            Outcome::Failed { image: Some(image), .. } => report.image = Some(image.clone()),
            _ => {}
        }
        let counts = &mut self.counts;
        counts.unfinished = counts.unfinished.saturating_sub(1);
        *match outcome {
            Outcome::Built { .. } => &mut counts.built,
            Outcome::Checked { .. } => &mut counts.checked,
            Outcome::Failed { .. } => &mut counts.failed,
            Outcome::Skipped { .. } => &mut counts.skipped,
            Outcome::Cancelled => &mut counts.cancelled,
        } += 1;
    }

    fn job(&mut self, job: &str) -> &mut JobReport {
        self.jobs.entry(job.to_owned()).or_default()
    }

    /// Where an event of a publication counts: at the target that was begun last.
    fn publication_at(&mut self, kind: &EventKind) -> &mut PublicationReport {
        let first = self.publication.get_or_insert_default();
        let current = self.mirrors.last().unwrap_or(&*first);
        if let EventKind::PublishStarted { target, .. } = kind
            && !current.target.is_empty()
            && current.target != *target
        {
            self.mirrors.push(PublicationReport::default());
        }
        self.mirrors.last_mut().unwrap_or(first)
    }

    fn take_publication(&mut self, kind: &EventKind) {
        let about_it = matches!(
            kind,
            EventKind::PublishStarted { .. }
                | EventKind::ContentPublished { .. }
                | EventKind::TagPublished { .. }
                | EventKind::TagWithheld { .. }
                | EventKind::Published { .. }
        );
        if !about_it {
            return;
        }
        let publication = self.publication_at(kind);
        match kind {
            EventKind::PublishStarted { target, tags, .. } => {
                publication.target.clone_from(target);
                publication.tags_planned += *tags;
                publication.complete = false;
            }
            EventKind::ContentPublished { repository, digest, bytes } => {
                let (repository, digest, bytes) = (repository.clone(), digest.clone(), *bytes);
                publication.images.push(ContentReport { repository, digest, bytes });
            }
            EventKind::TagPublished { reference, digest, moved } => {
                let tag = TagReport { digest: digest.clone(), moved: *moved };
                publication.tags.insert(reference.clone(), tag);
            }
            EventKind::TagWithheld { reference, reason } => {
                publication.withheld.insert(reference.clone(), reason.clone());
            }
            EventKind::Published { .. } => publication.complete = true,
            _ => {}
        }
    }
}

/// The events of a log: one line of JSON an event. A line cut off at the end of a crashed run is passed over.
///
/// # Errors
/// Where a line is no event, or the log is of a newer version.
pub(crate) fn events_of_log(file: &str, log: &str) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let last = log.lines().count();
    for (at, line) in log.lines().enumerate() {
        let cut_off = at + 1 == last && !log.ends_with('\n');
        match serde_json::from_str::<Event>(line) {
            Ok(event) => {
                refuse_newer(file, log, at + 1, &event)?;
                events.push(event);
            }
            Err(_) if cut_off => {}
            Err(error) => {
                return Err(Diagnostic::request("cannot read an event of the log")
                    .at(Place::line(file, log, at + 1))
                    .because(error)
                    .into());
            }
        }
    }
    Ok(events)
}

fn refuse_newer(file: &str, log: &str, line: usize, event: &Event) -> Result<()> {
    match event.kind {
        EventKind::RunStarted { version, .. } if version > EVENT_VERSION => Err(Diagnostic::request(
            format!("the log has the version {version}, and this program reads {EVENT_VERSION}"),
        )
        .at(Place::line(file, log, line))
        .hint("read it with the polyarch that wrote it, or a newer one")
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
