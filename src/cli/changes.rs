//! `polyarch changes`: what has changed in images since they were published.

use clap::Args;

use crate::contents::Cache;
use crate::diag::{Diagnostic, Kind, Result};
use crate::family::{JobId, Recipe};
use crate::oci::{Digest, Document, Error, Platform, Repository, Store, Tag};
use crate::publish::common_values;
use crate::report::{CHANGES_VERSION, Changes, Side};

use super::plan::{Planning, What};
use super::publish::{run_facts, standing, target};
use super::workshop::Target;
use super::{Context, Ended, Format};

/// Tell what has changed in images since they were published: packages, sizes, layers
///
/// Each image that stands in the store is compared with the one of its platform that stands under a tag where the family is
/// published. Packages are read out of both, and nothing is run. What both share is read once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch changes                         of all images since `latest`
  polyarch changes base@linux/amd64 --since 2026-08-10
  polyarch changes --to 127.0.0.1:5000 --format json")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// The tag under which the published images stand; else the first of the common tags
    #[arg(long, value_name = "TAG")]
    since: Option<Tag>,
    /// Where they are published, as `host[:port]`, if not where polyarch.toml says
    #[arg(long, value_name = "REGISTRY")]
    to: Option<String>,
    /// The form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::make(context, &options.what).await?;
    let selected = &planning.request.selected;
    let wanted = |job: &&JobId| selected.is_empty() || selected.contains(job);
    let jobs: Vec<&JobId> = planning.plan.order.iter().filter(wanted).collect();
    let target = target(context, &planning.workspace, &planning.shelf, options.to.as_deref())?;
    let passed = standing(&planning.plan);
    let cache = Cache::default();
    let mut all = Vec::new();
    for job in jobs {
        let (Some(passed), Some(recipe)) = (passed.get(job), planning.workspace.family.recipe(&job.unit))
        else {
            context.ui.note(&format!("{job} is not built, and passed over"));
            continue;
        };
        let (store, scope) = (planning.shelf.content(), planning.shelf.scope.repository());
        let after = side(&*store, &scope, &passed.image.image, &cache).await;
        let after = after.map_err(|error| unreadable(&job.to_string(), &error))?;
        let before = before(&planning, options, &target, recipe, &job.platform, &cache).await?;
        let changes = Changes::between(&job.to_string(), before.as_ref(), &after);
        if matches!(options.format, Format::Text) {
            context.ui.data(&changes.to_text());
        }
        all.push(changes);
    }
    if matches!(options.format, Format::Json) {
        let json = serde_json::json!({ "version": CHANGES_VERSION, "changes": all });
        let json = serde_json::to_string_pretty(&json)
            .map_err(|error| Diagnostic::new(Kind::Bug, "write JSON").caused_by(&error))?;
        context.ui.data(&format!("{json}\n"));
    }
    Ok(Ended::Well)
}

/// The image of a platform that is published, if there is one.
async fn before(
    planning: &Planning,
    options: &Options,
    target: &Target,
    recipe: &Recipe,
    platform: &Platform,
    cache: &Cache,
) -> Result<Option<Side>> {
    let Some(tag) = since(planning, options, recipe)? else { return Ok(None) };
    let repository = &recipe.repository;
    let reading = async {
        if target.store.resolve(repository, &tag.clone().into()).await?.is_none() {
            return Ok(None);
        }
        let document = target.store.read_document(repository, &tag.clone().into()).await?;
        match of_platform(&document, platform)? {
            Some(digest) => side(&*target.store, repository, &digest, cache).await.map(Some),
            None => Ok(None),
        }
    };
    Ok(reading
        .await
        .map_err(|error: Error| unreadable(&format!("{}/{repository}:{tag}", target.name), &error))?)
}

/// The tag under which an image is compared.
fn since(planning: &Planning, options: &Options, recipe: &Recipe) -> Result<Option<Tag>> {
    if let Some(tag) = &options.since {
        return Ok(Some(tag.clone()));
    }
    let (values, _) = common_values(recipe, &run_facts(&planning.moment))?;
    let first = values.first().map(|value| format!("{}{value}", recipe.tag_prefix()));
    Ok(first.and_then(|tag| tag.parse().ok()))
}

/// The manifest for a platform: of an index the entry, else the document itself.
fn of_platform(document: &Document, platform: &Platform) -> Result<Option<Digest>, Error> {
    if !document.is_index() {
        return Ok(Some(document.digest().clone()));
    }
    let entries = document.index()?.manifests;
    let found = entries.into_iter().find(|entry| entry.platform.as_ref() == Some(platform));
    Ok(found.map(|entry| entry.digest))
}

async fn side(
    store: &dyn Store,
    repository: &Repository,
    digest: &Digest,
    cache: &Cache,
) -> Result<Side, Error> {
    let manifest = store.read_document(repository, &digest.clone().into()).await?.manifest()?;
    let found = cache.packages(store, repository, &manifest.layers).await?;
    let layers = manifest.layers.iter().map(|layer| (layer.digest.to_string(), layer.size)).collect();
    Ok(Side::new(digest.to_string(), layers, &found))
}

fn unreadable(what: &str, error: &Error) -> Diagnostic {
    Diagnostic::of_store(format!("read the packages of {what}"), error)
}
