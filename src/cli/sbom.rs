//! `polyarch sbom`: the packages of built images as SPDX documents, without publishing anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::attest::{Billed, bill};
use crate::contents::Cache;
use crate::diag::{Diagnostic, Result, count};
use crate::family::JobId;
use crate::oci::Error;
use crate::record::ImageRecord;

use super::plan::{Planning, What};
use super::workshop::Shelf;
use super::{Context, Ended, job_files};

/// How files are called where it is not said.
const NAME: &str = "{image}-{platform}-{variant}-sbom.spdx.json";

/// Write which packages are in an image, as SPDX documents, one for each platform
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch sbom base@linux/amd64           to standard output
  polyarch sbom --to sboms                 of every image, a file for each platform
  polyarch sbom --to sboms --name '{image}-{platform}-{variant}-sbom.spdx.json'")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// Write files into this folder
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// How the files are called; {variant} is `default` for an image itself
    #[arg(long, value_name = "TEMPLATE", default_value = NAME)]
    name: String,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::make(context, &options.what).await?;
    let selected = &planning.request.selected;
    let wanted = |job: &&JobId| selected.is_empty() || selected.contains(job);
    let jobs: Vec<&JobId> = planning.plan.order.iter().filter(wanted).collect();
    let names = job_files::names(&options.name, NAME, &jobs, &planning.workspace.family.tags)?;
    if let (None, [_, _, ..]) = (&options.to, jobs.as_slice()) {
        let problem = format!("{} do not fit on standard output", count(jobs.len(), "document"));
        let hint = "name one, as in base@linux/amd64, or write files: polyarch sbom --to sboms";
        return Err(Diagnostic::request(problem).hint(hint).into());
    }
    let records = built(&planning, &jobs).await?;
    if let Some(folder) = &options.to {
        job_files::make_folder(folder, "polyarch sbom --to sboms")?;
    }
    let cache = Cache::default();
    for (job, record) in &records {
        let text = of_image(&planning.shelf, &cache, job, record).await?;
        match &options.to {
            None => context.ui.data(&text),
            Some(folder) => {
                let file = folder.join(&names[job]);
                job_files::write(&file, &text, "polyarch sbom --to sboms")?;
                context.ui.data(&format!("{}\n", file.display()));
            }
        }
    }
    Ok(Ended::Well)
}

/// The images of jobs, whether or not their checks have passed.
async fn built<'a>(planning: &Planning, jobs: &[&'a JobId]) -> Result<BTreeMap<&'a JobId, ImageRecord>> {
    let mut found = BTreeMap::new();
    let mut problems = Vec::new();
    for job in jobs {
        let key = &planning.plan.jobs[*job].key;
        let record = planning.shelf.records().image(key).await;
        match record.map_err(|error| cannot_read(job, &error))?.record {
            Some(record) => drop(found.insert(*job, record)),
            None => problems.push(
                Diagnostic::request(format!("{job} is not built"))
                    .hint(format!("build it: polyarch build {job}")),
            ),
        }
    }
    crate::diag::Problems::check(problems).map(|()| found)
}

/// The bill of one image of the store.
///
/// # Errors
/// Where the store fails, or holds something that is no image.
pub(super) async fn of_image(
    shelf: &Shelf,
    cache: &Cache,
    job: &JobId,
    record: &ImageRecord,
) -> Result<String> {
    let (store, scope) = (shelf.content(), shelf.scope.repository());
    let reading = async {
        let image = store.read_document(&scope, &record.image.clone().into()).await?;
        cache.packages(&*store, &scope, &image.manifest()?.layers).await
    };
    let packages = reading.await.map_err(|error: Error| cannot_read(job, &error))?;
    let billed = Billed {
        name: &job.to_string(),
        manifest: &record.image,
        platform: &record.platform,
        built_at_seconds: record.built_at_seconds,
    };
    Ok(bill(&billed, &packages))
}

fn cannot_read(job: &JobId, error: &Error) -> Diagnostic {
    Diagnostic::surroundings(format!("read the packages of {job}"))
        .caused_by(error)
        .hint("look at the store: polyarch gc --dry-run --scrub")
}
