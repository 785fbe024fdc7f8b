//! `polyarch describe`: build manifests of images that stand in the store.

use std::path::PathBuf;

use clap::Args;

use crate::contents::Cache;
use crate::diag::{Diagnostic, Result, count};
use crate::family::JobId;
use crate::oci::Error;
use crate::record::Passed;
use crate::report::{BuildManifest, Commit, commit_link};

use super::plan::{Planning, What};
use super::publish::{run_facts, standing};
use super::workshop::Shelf;
use super::{Context, Ended, commit, job_files, publisher};

/// How files are called where it is not said: as those of the docker-stacks.
const NAME: &str = "{platform}-{variant}-{image}-{commit}.md";

/// Write what is in images: their build manifests, of what their descriptions found, as Markdown
///
/// What was found stands in the records; nothing is run, and nothing built.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch describe base@linux/amd64           to standard output
  polyarch describe --to manifests             of every image, a file for each platform
  polyarch describe --to manifests --name '{image}-{platform}.md'")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// Write files into this folder
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// How the files are called; {variant} is `default` for an image itself, {commit} the date outside of a Git repository
    #[arg(long, value_name = "TEMPLATE", default_value = NAME)]
    name: String,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::make(context, &options.what).await?;
    let selected = &planning.request.selected;
    let wanted = |job: &&JobId| selected.is_empty() || selected.contains(job);
    let jobs: Vec<&JobId> = planning.plan.order.iter().filter(wanted).collect();
    let facts = run_facts(&planning.moment);
    let version = facts.commit.unwrap_or(facts.date);
    let template = options.name.replace("{commit}", &version);
    let names = job_files::names(&template, NAME, &jobs, &planning.workspace.family.tags)?;
    if let (None, [_, _, ..]) = (&options.to, jobs.as_slice()) {
        let problem = format!("{} do not fit on standard output", count(jobs.len(), "manifest"));
        let hint = "name one, as in base@linux/amd64, or write files: polyarch describe --to manifests";
        return Err(Diagnostic::request(problem).hint(hint).into());
    }
    let passed = standing(&planning.plan);
    let missing = jobs.iter().filter(|job| !passed.contains_key(**job)).map(|job| {
        Diagnostic::request(format!("{job} is not built, or its checks have not passed"))
            .hint(format!("build it: polyarch build {job}"))
    });
    crate::diag::Problems::check(missing.collect())?;
    if let Some(folder) = &options.to {
        job_files::make_folder(folder, "polyarch describe --to manifests")?;
    }
    let commit = commit_of(context, &planning).await;
    let cache = Cache::default();
    for job in jobs {
        let bytes = bytes_of(&planning.shelf, &cache, job, &passed[job]).await?;
        let text = manifest(&planning, job, &passed[job], (&version, commit.as_ref()), bytes);
        match &options.to {
            None => context.ui.data(&text),
            Some(folder) => {
                let file = folder.join(&names[job]);
                job_files::write(&file, &text, "polyarch describe --to manifests")?;
                context.ui.data(&format!("{}\n", file.display()));
            }
        }
    }
    Ok(Ended::Well)
}

fn manifest(
    planning: &Planning,
    job: &JobId,
    passed: &Passed,
    (version, commit): (&str, Option<&Commit>),
    bytes: u64,
) -> String {
    let family = &planning.workspace.family;
    let repository =
        family.recipe(&job.unit).map_or_else(String::new, |recipe| recipe.repository.to_string());
    let short = repository.rsplit('/').next().unwrap_or_default();
    let published = match &family.registry {
        Some(registry) => format!("{registry}/{repository}:{version}"),
        None => format!("{repository}:{version}"),
    };
    let built_at = i64::try_from(passed.image.built_at_seconds).unwrap_or_default();
    let built_at = jiff::Timestamp::from_second(built_at).unwrap_or_default();
    BuildManifest {
        image: &format!("{short}:{version}"),
        reference: &published,
        built_at: &built_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        bytes,
        commit,
        descriptions: &passed.checks.descriptions,
    }
    .to_markdown()
}

/// The commit of the family's files; without its message where Git cannot be asked.
async fn commit_of(context: &Context, planning: &Planning) -> Option<Commit> {
    let root = &planning.workspace.root;
    let hash = commit::whole_commit(root)?;
    let ask = async |arguments: &[&str]| publisher::git(context, root, arguments).await.unwrap_or_default();
    let message = ask(&["show", "--no-patch", "--format=%B", "HEAD"]).await;
    let remote = ask(&["remote", "get-url", "origin"]).await;
    Some(Commit { link: commit_link(&remote, &hash), hash, message })
}

/// How much the files of an image are.
async fn bytes_of(shelf: &Shelf, cache: &Cache, job: &JobId, passed: &Passed) -> Result<u64> {
    let (store, scope) = (shelf.content(), shelf.scope.repository());
    let reading = async {
        let image = store.read_document(&scope, &passed.image.image.clone().into()).await?;
        cache.packages(&*store, &scope, &image.manifest()?.layers).await
    };
    let packages = reading.await.map_err(|error: Error| {
        Diagnostic::surroundings(format!("read the layers of {job}"))
            .caused_by(&error)
            .hint("look at the store: polyarch gc --dry-run --scrub")
    })?;
    Ok(packages.bytes)
}
