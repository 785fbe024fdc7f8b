//! `polyarch describe`: what is in images that stand in the store, and what they are called.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::diag::{Diagnostic, Result, count};
use crate::family::JobId;

use super::facts::Facts;
use super::plan::{Planning, What};
use super::{Context, Ended, job_files};

/// What works, for a person who has given something else.
const EXAMPLE: &str = "polyarch describe --to manifests";

/// Write what is in images and what they are called: build manifests, lists of tags, rows of the ledger
///
/// A build manifest is Markdown: how an image was made, and what its descriptions have found in it. All of this stands in
/// records; nothing is run, and nothing built.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch describe base@linux/amd64           the build manifest, to standard output
  polyarch describe --to manifests             of every image, a file for each platform
  polyarch describe --to manifests --name '{image}-{platform}.md'
  polyarch describe --format tags --to tags    what each image is called, a tag a line")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// What is written
    #[arg(long, value_enum, default_value = "manifest")]
    format: Format,
    /// Write files into this folder
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// How the files are called; {variant} is `default` for an image itself, {commit} the date outside of a Git repository
    #[arg(long, value_name = "TEMPLATE")]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// The build manifest, as Markdown
    Manifest,
    /// The tags, one a line
    Tags,
    /// A row of the ledger
    History,
}

impl Format {
    /// How files are called where it is not said: as those of the docker-stacks.
    fn name(self) -> &'static str {
        match self {
            Self::Manifest => MANIFEST,
            Self::Tags => "{platform}-{variant}-{image}.txt",
            Self::History => "{platform}-{variant}-{image}-{commit}.txt",
        }
    }
}

/// How build manifests are called where it is not said.
pub(super) const MANIFEST: &str = "{platform}-{variant}-{image}-{commit}.md";

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::make(context, &options.what).await?;
    let selected = &planning.request.selected;
    let wanted = |job: &&JobId| selected.is_empty() || selected.contains(job);
    let jobs: Vec<&JobId> = planning.plan.order.iter().filter(wanted).collect();
    if let (None, [_, _, ..]) = (&options.to, jobs.as_slice()) {
        let problem = format!("{} do not fit on standard output", count(jobs.len(), "image"));
        let hint = format!("name one, as in base@linux/amd64, or write files: {EXAMPLE}");
        return Err(Diagnostic::request(problem).hint(hint).into());
    }
    let facts = Facts::of(context, &planning, &jobs).await?;
    let policy = &planning.workspace.family.tags;
    let named = |template: &str| {
        job_files::names(&template.replace("{commit}", &facts.version), MANIFEST, &jobs, policy)
    };
    let names = named(options.name.as_deref().unwrap_or_else(|| options.format.name()))?;
    let manifests = named(MANIFEST)?;
    if let Some(folder) = &options.to {
        job_files::make_folder(folder, EXAMPLE)?;
    }
    for job in jobs {
        let text = match options.format {
            Format::Manifest => facts.manifest(job).await?,
            Format::Tags => facts.references(job)?.join("\n"),
            Format::History => facts.entry(job, manifests[job].trim_end_matches(".md"))?.row(),
        };
        match &options.to {
            None => context.ui.data(&if text.ends_with('\n') { text } else { format!("{text}\n") }),
            Some(folder) => {
                let file = folder.join(&names[job]);
                job_files::write(&file, &text, EXAMPLE)?;
                context.ui.data(&format!("{}\n", file.display()));
            }
        }
    }
    Ok(Ended::Well)
}
