//! What each job has added to the store, a file for each, for `polyarch import` elsewhere: by `polyarch export --delta`, or
//! as soon as each image stands.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;

use crate::config::Compression;
use crate::diag::{Diagnostic, Problems, Result, count};
use crate::event::EventKind;
use crate::export::{Blobs, Folder, Progress, pack};
use crate::family::{JobId, TagPolicy};
use crate::oci::{Digest, Error};
use crate::plan::Decision;
use crate::record::{ImageRecord, RecordKind, Records};
use crate::report::size;
use crate::run::Taker;
use crate::transfer::Delta;

use super::export::Told;
use super::plan::Planning;
use super::{Context, Ended, job_files, recorder};

/// How files are called where it is not said.
const NAME: &str = "{image}-{platform}-{variant}.tar";
/// The same for a file with nothing in it but the record of the checks.
const NAME_OF_CHECKS: &str = "{image}-{platform}-{variant}-checks.tar";

/// What is asked for.
pub(super) struct Wanted<'a> {
    /// The folder that the files are written into.
    pub(super) to: &'a PathBuf,
    /// Their names.
    pub(super) name: Option<&'a str>,
    /// Only say which files there would be.
    pub(super) dry_run: bool,
}

pub(super) async fn run(context: &Context, planning: &Planning, wanted: &Wanted<'_>) -> Result<Ended> {
    let selected = &planning.request.selected;
    let is_wanted = |job: &&JobId| selected.is_empty() || selected.contains(job);
    let jobs: Vec<&JobId> = planning.plan.order.iter().filter(is_wanted).collect();
    let names = job_files::names(wanted.name.unwrap_or(NAME), NAME, &jobs, &planning.workspace.family.tags)?;
    let deltas = read(context, planning, &jobs).await?;
    let records = planning.shelf.records();
    if wanted.dry_run {
        let line = |(job, delta): &(&JobId, Delta)| {
            format!("{}/{}  {job}  {}\n", wanted.to.display(), names[*job], size(delta.bytes()))
        };
        context.ui.data(&deltas.iter().map(line).collect::<String>());
        return Ok(Ended::Well);
    }
    let folder = Folder::open(wanted.to)?;
    let files = deltas.into_iter().map(|(job, delta)| (names[job].clone(), delta)).collect();
    let written = write(context, &records, &folder, files).await.inspect_err(|_| folder.leave())?;
    tell(context, &folder, &written);
    Ok(Ended::Well)
}

fn tell(context: &Context, folder: &Folder, written: &[(String, u64)]) {
    let bytes = written.iter().map(|(_, bytes)| bytes).sum();
    context.ui.note(&format!("{} ({})", count(written.len(), "file"), size(bytes)));
    let lines = written.iter().map(|(name, _)| format!("{}\n", folder.file(name).display()));
    context.ui.data(&lines.collect::<String>());
}

/// Writes the file of each image as soon as that stands, unless it stands at a registry, where the others find it themselves.
pub(super) struct Early<'a> {
    context: &'a Context,
    records: Records,
    folder: Folder,
    policy: &'a TagPolicy,
}

impl<'a> Early<'a> {
    /// Files of a family's images, into this folder.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn open(
        context: &'a Context,
        records: Records,
        to: &Path,
        policy: &'a TagPolicy,
    ) -> Result<Self> {
        Ok(Self { context, records, folder: Folder::open(to)?, policy })
    }

    async fn write(&self, image: &ImageRecord) -> Result<()> {
        if self.records.stands_there(RecordKind::Image, &image.key) {
            return Ok(());
        }
        let job: JobId = image.job.parse().map_err(|error: Error| unread(&image.job)(error))?;
        let name = name(NAME, &job, self.policy)?;
        let delta = Delta::read(&self.records, image, None).await.map_err(unread(&image.job))?;
        let written = write(self.context, &self.records, &self.folder, vec![(name, delta)]).await;
        written.map(drop).inspect_err(|_| self.folder.leave())
    }
}

#[async_trait]
impl Taker for Early<'_> {
    async fn take(&self, image: &ImageRecord) -> Result<(), Diagnostic> {
        self.write(image).await.map_err(|problems| {
            let problem = Diagnostic::surroundings(format!("hand {} on", image.job));
            problems.iter().fold(problem, Diagnostic::because_of)
        })
    }
}

/// Write what stands of a job into a folder where [`Early`] may have written its image: then only what its checks have
/// added since. Nothing is written of a job whose records stand at a registry, where the others find them.
///
/// # Errors
/// Where it is not built, cannot be read or cannot be written.
pub(super) async fn complete(context: &Context, planning: &Planning, job: &JobId, to: &Path) -> Result<()> {
    let policy = &planning.workspace.family.tags;
    if stands_there(planning, job) {
        return Ok(());
    }
    let deltas = read(context, planning, &[job]).await?;
    let folder = Folder::open(to)?;
    let (whole, checks) = (name(NAME, job, policy)?, name(NAME_OF_CHECKS, job, policy)?);
    let is_there = folder.file(&whole).exists();
    let wanted = deltas.into_iter().filter_map(|(_, delta)| match is_there {
        true => Some((checks.clone(), delta.of_checks()?)),
        false => Some((whole.clone(), delta)),
    });
    let records = planning.shelf.records();
    let written = write(context, &records, &folder, wanted.collect()).await;
    tell(context, &folder, &written.inspect_err(|_| folder.leave())?);
    Ok(())
}

/// Whether all that stands of a job stands at a registry.
fn stands_there(planning: &Planning, job: &JobId) -> bool {
    let records = planning.shelf.records();
    standing(planning, job).is_some_and(|(image, checks)| {
        records.stands_there(RecordKind::Image, &image.key)
            && checks.is_none_or(|checks| records.stands_there(RecordKind::Checks, checks))
    })
}

fn name(template: &str, job: &JobId, policy: &TagPolicy) -> Result<String> {
    let mut names = job_files::names(template, template, &[job], policy)?;
    Ok(names.remove(job).unwrap_or_default())
}

fn unread(job: &str) -> impl Fn(Error) -> Diagnostic {
    let what = format!("read what {job} has added");
    move |error| {
        Diagnostic::surroundings(what.clone())
            .caused_by(&error)
            .hint("look at the store: polyarch gc --dry-run --scrub")
    }
}

/// What each job has added; whoever has not passed its checks is told of, and goes without.
async fn read<'a>(
    context: &Context,
    planning: &Planning,
    jobs: &[&'a JobId],
) -> Result<Vec<(&'a JobId, Delta)>> {
    let (mut deltas, mut problems) = (Vec::new(), Vec::new());
    for job in jobs {
        let Some((image, checks)) = standing(planning, job) else {
            problems.push(
                Diagnostic::request(format!("{job} is not built as it is now"))
                    .hint(format!("build it: polyarch build {job}")),
            );
            continue;
        };
        let delta = Delta::read(&planning.shelf.records(), image, checks).await;
        let delta = delta.map_err(unread(&job.to_string()))?;
        if !delta.is_checked() {
            context.ui.note(&format!("{job} has not passed its checks; its file says nothing of them"));
        }
        deltas.push((*job, delta));
    }
    let standing: Vec<String> = deltas.iter().map(|(job, _)| alone(job)).collect();
    let hint = format!("or write what stands alone: polyarch export --delta {}", standing.join(" "));
    if let Some(problem) = problems.last_mut().filter(|_| !standing.is_empty()) {
        problem.hints.push(hint);
    }
    Problems::check(problems).map(|()| deltas)
}

/// A job by a name that means no other: an image's own means its variants too.
fn alone(job: &JobId) -> String {
    match job.unit.variant {
        Some(_) => job.to_string(),
        None => format!("{}:default@{}", job.unit.image, job.platform),
    }
}

/// The image that stands for a job, and the key of its checks where they have passed.
fn standing<'a>(planning: &'a Planning, job: &JobId) -> Option<(&'a ImageRecord, Option<&'a Digest>)> {
    let decision = &planning.plan.jobs[job].decision;
    let checks = match decision {
        Decision::Reuse(passed) => Some(&passed.checks.key),
        Decision::Check(_) | Decision::Build(_) => None,
    };
    Some((decision.image()?, checks))
}

/// Write all files, one after the other; a signal ends it, and the file that was begun goes.
async fn write(
    context: &Context,
    records: &Records,
    folder: &Folder,
    files: Vec<(String, Delta)>,
) -> Result<Vec<(String, u64)>> {
    let blobs = Blobs::new(records.store.clone(), records.scope.clone(), tokio::runtime::Handle::current());
    let (folder, ui, reading) = (folder.clone(), context.ui.clone(), blobs.clone());
    let work = move || {
        let one = |(name, delta): (String, Delta)| {
            let told = Told { ui: &ui, file: name.clone(), at: AtomicU64::new(0) };
            let tell = |progress: Progress| told.tell(progress);
            let (_, bytes) = folder.write_alone(&name, |file| {
                pack(delta.entries(), Compression::None, &reading, file, 1, &tell)
            })?;
            recorder::shown(&ui)(EventKind::Exported { file: name.clone(), bytes, stood: false });
            Ok((name, bytes))
        };
        files.into_iter().map(one).collect()
    };
    context.signals.unless_stopped_on_thread(work, || blobs.stop()).await
}
