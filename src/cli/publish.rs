//! `polyarch publish`: join and publish what the store holds for this tree.

use std::collections::BTreeMap;

use clap::Args;

use crate::diag::{Diagnostic, Result};
use crate::event::EventKind;
use crate::family::JobId;
use crate::plan::{Decision, Request};
use crate::publish::{Publication, Published, RunFacts, Source, Target as Towards, assemble};
use crate::record::Passed;

use super::plan::{Planning, What};
use super::workshop::{Shelf, Target, trusted};
use super::workspace::Workspace;
use super::{Context, Ended, recorder, registries};

/// Join the platforms and publish what the store holds for this tree
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch publish --dry-run             exactly what would be done
  polyarch publish                       where polyarch.toml says
  polyarch publish --to 127.0.0.1:5000   to another registry")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// Publish to this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY")]
    to: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// How to publish.
pub(super) struct Wanted {
    pub(super) to: Option<String>,
    pub(super) dry_run: bool,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = context.signals.unless_stopped(Planning::make(context, &options.what)).await?;
    let passed = standing(&planning);
    let wanted = Wanted { to: options.to.clone(), dry_run: options.dry_run };
    let ui = context.ui.clone();
    let show =
        move |kind: EventKind| ui.show(&crate::event::Event { at_milliseconds: recorder::now(), kind });
    let ended =
        publish(context, &planning.workspace, &planning.shelf, &passed, &planning.request, &wanted, &show)
            .await?;
    let target = target(context, &planning.workspace, &planning.shelf, options.to.as_deref())?;
    if target.own && !wanted.dry_run {
        context.ui.note(&format!("next: polyarch serve --store {}", planning.shelf.folder.display()));
    }
    Ok(ended)
}

/// The jobs of a plan that records stand for.
pub(super) fn standing(planning: &Planning) -> BTreeMap<JobId, Passed> {
    let stands = planning.plan.jobs.iter().filter_map(|(job, planned)| match &planned.decision {
        Decision::Reuse(passed) => Some((job.clone(), (**passed).clone())),
        Decision::Check(_) | Decision::Build(_) => None,
    });
    stands.collect()
}

/// Where the family is published: what the command line says, else the configuration, else the store itself.
pub(super) fn target(
    context: &Context,
    workspace: &Workspace,
    shelf: &Shelf,
    to: Option<&str>,
) -> Result<Target> {
    let Some(registry) = to.or(workspace.family.registry.as_deref()) else {
        return Ok(Target { name: "embedded".to_owned(), store: shelf.store.clone(), own: true });
    };
    let store = registries::registries(&context.environment)?(registry)
        .map_err(|error| Diagnostic::request(format!("publish to `{registry}`")).caused_by(&error))?;
    Ok(Target { name: registry.to_owned(), store, own: false })
}

/// What of the run stands in tags.
pub(super) fn run_facts(workspace: &Workspace) -> RunFacts {
    let today = jiff::Timestamp::from_millisecond(i64::try_from(recorder::now()).unwrap_or_default());
    let date = today.map(|now| now.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
    RunFacts { date, commit: super::commit::commit(&workspace.root) }
}

/// Publish the jobs that have passed, or say what would be done.
pub(super) async fn publish(
    context: &Context,
    workspace: &Workspace,
    shelf: &Shelf,
    passed: &BTreeMap<JobId, Passed>,
    request: &Request,
    wanted: &Wanted,
    show: &(dyn Fn(EventKind) + Send + Sync),
) -> Result<Ended> {
    let target = target(context, workspace, shelf, wanted.to.as_deref())?;
    let preparing = prepare(context, workspace, shelf, passed, request, &target);
    let prepared = context.signals.unless_stopped(preparing).await?;
    let towards = Towards { store: &*target.store, registry: &target.name };
    if wanted.dry_run {
        let steps: String = prepared.steps().map(|step| format!("{step}\n")).collect();
        context.ui.data(&steps);
        return Ok(Ended::Well);
    }
    let scope = trusted();
    let source = Source { store: &*shelf.store, repository: &scope, within_target: target.own };
    let _: Published = prepared.carry_out(&source, towards, context.signals.stop(), show).await?;
    // Told above, each with its reason; what could be published is.
    match prepared.release().withheld.is_empty() {
        true => Ok(Ended::Well),
        false => Ok(Ended::With(1)),
    }
}

/// What would be published of the jobs that have passed; what stays away is told.
///
/// # Errors
/// Where tags clash or cannot be, or a policy refuses.
pub(super) async fn prepare(
    context: &Context,
    workspace: &Workspace,
    shelf: &Shelf,
    passed: &BTreeMap<JobId, Passed>,
    request: &Request,
    target: &Target,
) -> Result<Publication> {
    let selected = selected_units(workspace, request);
    let release = assemble(&workspace.family, &selected, passed, &run_facts(workspace))?;
    for withheld in &release.withheld {
        let warning = Diagnostic::warning(format!("{} is not published: {}", withheld.unit, withheld.reason));
        context.ui.warning(&warning.hint(format!("build what it lacks: polyarch build {}", withheld.unit)));
    }
    for withheld in &release.tags_withheld {
        let tag = format!("{}:{}", withheld.repository, withheld.tag);
        context.ui.warning(&Diagnostic::warning(format!("{tag} stays where it is: {}", withheld.reason)));
    }
    for warning in &release.warnings {
        context.ui.warning(warning);
    }
    let scope = trusted();
    let source = Source { store: &*shelf.store, repository: &scope, within_target: target.own };
    Publication::prepare(release, &source).await
}

/// The units that are published: those selected, or all.
pub(super) fn selected_units(
    workspace: &Workspace,
    request: &Request,
) -> std::collections::BTreeSet<crate::family::Unit> {
    match request.selected.is_empty() {
        true => workspace.family.recipes().map(|recipe| recipe.unit.clone()).collect(),
        false => request.selected.iter().map(|job| job.unit.clone()).collect(),
    }
}
