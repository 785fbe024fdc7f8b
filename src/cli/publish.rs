//! `polyarch publish`: join and publish what the store holds for this tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;

use crate::diag::{Diagnostic, Problems, Result};
use crate::event::EventKind;
use crate::family::{Differences, Family, JobId, Together, Unit};
use crate::oci::Digest;
use crate::plan::{Decision, Plan, Request};
use crate::publish::{
    Homes, OWN, Publication, Release, RunFacts, Source, assemble, of_other_keys, refused_differences,
    shown_differences, units,
};
use crate::record::Passed;

use super::carrying::Carrying;
use super::plan::{Anew, Planning, What};
use super::publisher::{Moment, is_uncommitted, publisher};
use super::sign::Signing;
use super::workshop::{Shelf, Target};
use super::workspace::Workspace;
use super::{Context, Ended, mirror_registries, mirrored, preview, recorder, registries};

/// Join the platforms and publish what the store holds for this tree
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch publish --dry-run             exactly what would be done
  polyarch publish                       where polyarch.toml says
  polyarch publish --to 127.0.0.1:5000   to another registry")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    aim: Aim,
}

/// Where and how to publish: what `publish` and `promote` have in common.
#[derive(Debug, Args)]
pub(super) struct Aim {
    /// Publish to this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY")]
    to: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Let tags go back from a newer publication to this older one
    #[arg(long)]
    allow_rollback: bool,
    /// Sign what is published with the key in this file
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
}

impl Aim {
    /// As a publication wants it.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            to: self.to.clone(),
            dry_run: self.dry_run,
            allow_rollback: self.allow_rollback,
            sign_key: self.sign_key.clone(),
            rehearsal: false,
        }
    }
}

/// How often it is looked how many bytes went out.
const TICK: std::time::Duration = std::time::Duration::from_millis(100);

/// How to publish.
pub(super) struct Wanted {
    pub(super) to: Option<String>,
    pub(super) dry_run: bool,
    pub(super) allow_rollback: bool,
    /// The file of the key to sign with, over that of the configuration.
    pub(super) sign_key: Option<PathBuf>,
    /// It goes to a registry that is thrown away: what is done is said, and nothing is signed.
    pub(super) rehearsal: bool,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    context.refuse_untrusted("publishing")?;
    let anew = Anew::default();
    let planning = Planning::make_anew(context, &options.what, &anew);
    let planning = context.signals.unless_stopped(planning).await?;
    let passed = standing(&planning.plan);
    let wanted = options.aim.wanted();
    let ended = publish(context, &planning, passed, &wanted, &recorder::shown(&context.ui)).await?;
    let target = target(context, &planning.workspace, &planning.shelf, wanted.to.as_deref())?;
    if target.own && !wanted.dry_run && ended == Ended::Well {
        context.ui.next(&format!("next: polyarch serve --store {}", planning.shelf.folder.display()));
    }
    Ok(ended)
}

/// The jobs of a plan that records stand for.
pub(super) fn standing(plan: &Plan) -> BTreeMap<JobId, Passed> {
    let stands = plan.jobs.iter().filter_map(|(job, planned)| match &planned.decision {
        Decision::Reuse(passed) => Some((job.clone(), (**passed).clone())),
        Decision::Check(_) | Decision::Build(_) => None,
    });
    stands.collect()
}

/// Of the images that are published, the platforms that nobody selected, where records stand for them as they are now;
/// and the present key of every job.
fn beside(planning: &Planning) -> (BTreeMap<JobId, Passed>, BTreeMap<JobId, Digest>) {
    let units = selected_units(planning);
    let family = &planning.workspace.family;
    let selected = family.jobs().filter(|job| units.contains(&job.unit)).collect();
    let slow = BTreeSet::new();
    let request = Request { selected, no_reuse: false, slow, ..planning.request.clone() };
    let whole = Plan::new(family, &planning.facts, &request);
    let mut found = standing(&whole);
    found.retain(|job, _| !planning.plan.jobs.contains_key(job));
    let keys = whole.jobs.iter().chain(&planning.plan.jobs);
    (found, keys.map(|(job, planned)| (job.clone(), planned.key.clone())).collect())
}

/// The jobs that have passed, and those that records stand for.
pub(super) fn with_those_beside(
    planning: &Planning,
    passed: &BTreeMap<JobId, Passed>,
) -> BTreeMap<JobId, Passed> {
    let (mut all, _) = beside(planning);
    all.extend(passed.clone());
    all
}

/// Where the family is published: what the command line says, else the configuration, else the store itself.
pub(super) fn target(
    context: &Context,
    workspace: &Workspace,
    shelf: &Shelf,
    to: Option<&str>,
) -> Result<Target> {
    let Some(registry) = to.or(workspace.family.registry.as_deref()) else {
        let (store, fresh) = (shelf.store.clone(), shelf.store.clone());
        return Ok(Target { name: OWN.to_owned(), store, fresh, own: true });
    };
    let client = || -> Result<_> {
        let made = registries::registries(context)?(registry);
        Ok(made.map_err(|error| Diagnostic::request(format!("publish to `{registry}`")).caused_by(&error))?)
    };
    let (store, fresh) = (client()?, client()?);
    Ok(Target { name: registry.to_owned(), store, fresh, own: false })
}

/// What of the run stands in tags.
pub(super) fn run_facts(moment: &Moment) -> RunFacts {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(moment.at).unwrap_or_default());
    let date = at.map(|at| at.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
    RunFacts { date, commit: moment.commit.clone() }
}

/// Publish the jobs that have passed, or say what would be done.
pub(super) async fn publish(
    context: &Context,
    planning: &Planning,
    passed: BTreeMap<JobId, Passed>,
    wanted: &Wanted,
    show: &(dyn Fn(EventKind) + Send + Sync),
) -> Result<Ended> {
    let target = target(context, &planning.workspace, &planning.shelf, wanted.to.as_deref())?;
    publish_at(context, planning, passed, wanted, &target, show).await
}

/// The same at a target.
pub(super) async fn publish_at(
    context: &Context,
    planning: &Planning,
    passed: BTreeMap<JobId, Passed>,
    wanted: &Wanted,
    target: &Target,
    show: &(dyn Fn(EventKind) + Send + Sync),
) -> Result<Ended> {
    let signing = match wanted.rehearsal {
        true => Ok(None),
        false => Signing::wanted(context, &planning.workspace, wanted),
    };
    // Whoever may only look learns what would be done before what it would fail by.
    let (signing, unsigned) = match signing {
        Err(problems) if wanted.dry_run => (None, Err(problems)),
        signing => (signing?, Ok(())),
    };
    let records = signing.iter().flat_map(|_| with_those_beside(planning, &passed)).collect();
    let release =
        context.signals.unless_stopped(released(context, planning, passed, wanted.rehearsal)).await?;
    for one in &release.differences {
        let versions = one.versions.iter().map(|(platform, version)| (platform.to_string(), version.clone()));
        let (image, what) = (one.unit.to_string(), one.name.clone());
        show(EventKind::VersionsDiffer { image, what, versions: versions.collect() });
    }
    let (complete, nothing) = (release.withheld.is_empty(), release.images.is_empty());
    let withheld = preview::withheld(&release);
    let family = &planning.workspace.family;
    let store = mirrored::beside(context, &planning.shelf, &release)?;
    let units = units(release, family.publish.together);
    if units.is_empty() && !nothing {
        let warning = Diagnostic::warning("nothing is published: the family goes as a whole or not at all");
        context
            .ui
            .warning(&warning.hint("let each image go by itself: `unit = \"image\"` under `[publish]`"));
    }
    warn_of_uncommitted(context, planning).await;
    let scope = planning.shelf.scope.repository();
    let home = planning.shelf.home_at(target);
    let source = Source { store: &*store, repository: &scope, home };
    let homes = context.signals.unless_stopped(settled_homes(family, target)).await?;
    let preparing = Publication::prepare_each(units, &homes, &source);
    let prepared = context.signals.unless_stopped(preparing).await?;
    // Told above, each with its reason; what can be published is.
    let ended = if complete { Ended::Well } else { Ended::With(1) };
    if wanted.dry_run || wanted.rehearsal {
        preview::show(context, planning, wanted, &*store, &prepared, &withheld, target).await?;
    }
    if wanted.dry_run {
        return unsigned.map(|()| ended);
    }
    if nothing {
        context.ui.note("nothing to publish");
    }
    if planning.moment.lacks_time() {
        let warning =
            Diagnostic::warning("Git does not say when the commit was made: it counts as new as this run");
        context.ui.warning(&warning.hint("have it say so: git show --format=%ct HEAD"));
    }
    let carrying = Carrying {
        planning,
        publisher: publisher(&planning.moment, wanted.allow_rollback)?,
        signing,
        records,
        show,
    };
    carrying.carry_out(context, &prepared, &source, target).await?;
    mirror_registries::bring(context, &carrying, &*store, &prepared, wanted).await?;
    Ok(ended)
}

/// A tag with a commit in it says that its image is of that commit.
async fn warn_of_uncommitted(context: &Context, planning: &Planning) {
    let Some(commit) = &planning.moment.commit else { return };
    let family = &planning.workspace.family;
    let chosen = selected_units(planning);
    let mut recipes = family.recipes().filter(|recipe| chosen.contains(&recipe.unit));
    let is_named = recipes.any(|recipe| recipe.common_tags.iter().any(|tag| tag.contains("{commit}")));
    if is_named && is_uncommitted(context, &planning.workspace.root).await {
        let message = format!("tags name the commit {commit}, and there are changes that are not committed");
        let warning = Diagnostic::warning(message).hint("see which: git status --short .");
        context.ui.warning(&warning.hint("commit them, then: polyarch build --publish"));
    }
}

/// Where the journals of a family are: in the repository of its first image, or each in its own.
pub(super) fn homes(family: &Family) -> Result<Homes> {
    if family.publish.together == Together::Image {
        let repositories = family.repositories();
        let repositories = repositories.map(|(unit, repository)| (unit.to_string(), repository.clone()));
        return Ok(Homes::Each(repositories.collect()));
    }
    let first = family.repositories().next().map(|(_, repository)| repository.clone());
    Ok(Homes::One(first.ok_or_else(|| Diagnostic::request("the family has no images"))?))
}

/// The same, at a target that may have its list elsewhere already.
pub(super) async fn settled_homes(family: &Family, target: &Target) -> Result<Homes> {
    let candidates = family.repositories().map(|(_, repository)| repository.clone()).collect();
    homes(family)?.settled(candidates, target.towards()).await
}

/// Shows how many bytes went out while content is brought to a target.
pub(super) async fn watched<T>(
    context: &Context,
    at_most: u64,
    target: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let before = context.traffic.total().sent;
    let (mut work, mut ticks) = (std::pin::pin!(work), tokio::time::interval(TICK));
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => {}
        }
        let bytes = context.traffic.total().sent - before;
        if bytes > 0 {
            recorder::shown(&context.ui)(EventKind::Sent { target: target.to_owned(), bytes, at_most });
        }
    }
}

/// What would be published of the jobs that have passed, all in one; what stays away is told.
///
/// # Errors
/// Where tags clash or cannot be, or a policy refuses.
pub(super) async fn prepare(
    context: &Context,
    planning: &Planning,
    passed: BTreeMap<JobId, Passed>,
    target: &Target,
) -> Result<Publication> {
    let release = released(context, planning, passed, false).await?;
    let store = planning.shelf.content();
    let scope = planning.shelf.scope.repository();
    let home = planning.shelf.home_at(target);
    let source = Source { store: &*store, repository: &scope, home };
    Publication::prepare(release, &homes(&planning.workspace.family)?, &source).await
}

fn tell_left_out(context: &Context, jobs: &BTreeSet<JobId>) {
    let platforms: BTreeSet<String> = jobs.iter().map(|job| job.platform.to_string()).collect();
    if !platforms.is_empty() {
        let platforms = platforms.into_iter().collect::<Vec<_>>().join(" and ");
        context.ui.note(&format!("{platforms}: not chosen, and rehearsed without"));
    }
}

/// What of the jobs that have passed is complete; what stays away is told. In a rehearsal an image is complete without the
/// platforms that nobody chose and no record stands for.
async fn released(
    context: &Context,
    planning: &Planning,
    passed: BTreeMap<JobId, Passed>,
    rehearsal: bool,
) -> Result<Release> {
    let workspace = &planning.workspace;
    let planned: BTreeSet<JobId> = planning.plan.jobs.keys().cloned().collect();
    let (mut all, keys) = beside(planning);
    all.extend(passed);
    for warning in of_other_keys(&mut all, &keys) {
        context.ui.warning(&warning);
    }
    let (chosen, facts) = (selected_units(planning), run_facts(&planning.moment));
    let mut release = match rehearsal {
        true => {
            let is_left_out =
                |job: &JobId| chosen.contains(&job.unit) && !planned.contains(job) && !all.contains_key(job);
            let left_out: BTreeSet<JobId> = workspace.family.jobs().filter(is_left_out).collect();
            tell_left_out(context, &left_out);
            assemble(&workspace.family.without(&left_out), &chosen, &planned, &all, &facts)?
        }
        false => assemble(&workspace.family, &chosen, &planned, &all, &facts)?,
    };
    let refused = planning.plan.refused_as_emulated();
    for withheld in &release.withheld {
        let warning = Diagnostic::warning(format!("{} is not published: {}", withheld.unit, withheld.reason));
        let is_refused = refused.iter().any(|job| job.unit == withheld.unit);
        context.ui.warning(&warning.hint(match is_refused {
            true => "use what was made by emulation: polyarch publish --emulate=allow".to_owned(),
            false => format!("build what it lacks: polyarch build {}", withheld.unit),
        }));
    }
    for withheld in &release.tags_withheld {
        let tag = format!("{}:{}", withheld.repository, withheld.tag);
        context.ui.warning(&Diagnostic::warning(format!("{tag} stays where it is: {}", withheld.reason)));
    }
    match workspace.family.publish.differences {
        Differences::Refused => Problems::check(refused_differences(&release.differences))?,
        Differences::Shown => {
            shown_differences(&release.differences).iter().for_each(|found| context.ui.warning(found));
        }
    }
    mirrored::add(context, planning, &mut release, &facts).await?;
    for warning in &release.warnings {
        context.ui.warning(warning);
    }
    Ok(release)
}

/// The units that are published: those selected, or all; never those that only try others out.
pub(super) fn selected_units(planning: &Planning) -> BTreeSet<Unit> {
    let family = &planning.workspace.family;
    let units: Vec<Unit> = match planning.request.selected.is_empty() {
        true => family.recipes().map(|recipe| recipe.unit.clone()).collect(),
        false => planning.request.selected.iter().map(|job| job.unit.clone()).collect(),
    };
    units.into_iter().filter(|unit| !family.is_downstream(unit)).collect()
}
