//! `polyarch build`: run the plan, keep the results in the store, and publish if asked.

mod building;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures_util::FutureExt as _;

use crate::diag::{Diagnostic, Problems, Result, mistake};
use crate::event::{EVENT_VERSION, EventKind};
use crate::family::{Barrier, JobId, Unit};
use crate::oci::{Error, Reference};
use crate::plan::{Decision, Unfit, refused_untrusted};
use crate::record::Passed;
use crate::report::Report;
use crate::run;

use super::plan::{Anew, Planning, What};
use super::recorder::{self, Recorder};
use super::settled::SettledPlan;
use super::{
    Context, Ended, fleet, lines, nightly, preview, publish, registries, rehearsal, room, secrets, sign,
};

/// Build, test and tag the images, and keep the results in the store
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  polyarch build                         everything that is not built yet
  polyarch build +base-notebook          an image and all that stand on it
  polyarch build --platform linux/amd64  one platform only
  polyarch build --refresh               everything, with what is new outside
  polyarch build --publish               and publish the family where polyarch.toml says
  polyarch build --publish --to 127.0.0.1:5000")]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) what: What,
    #[command(flatten)]
    anew: Anew,
    /// Carry out what `polyarch plan --out FILE` has settled, all of it or the images named here
    #[arg(long, value_name = "FILE", conflicts_with_all = ["refresh", "no_reuse"])]
    plan: Option<PathBuf>,
    /// Go on to publish what was built; in another scope than the trusted one rehearse that in a registry that is thrown
    /// away
    #[arg(long)]
    publish: bool,
    /// Move the nightly tag of each image and platform that has passed, as soon as the run is over
    #[arg(long)]
    nightly: bool,
    /// Publish to this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY")]
    to: Option<String>,
    /// Sign what is published with the key in this file
    #[arg(long, value_name = "FILE", requires = "publish")]
    sign_key: Option<PathBuf>,
    #[command(flatten)]
    fleet: fleet::Wanted,
    /// Do not use the engine's build cache
    #[arg(long)]
    no_cache: bool,
    /// What stands on an image waits for all platforms of it, as `barrier = true` in polyarch.toml has it
    #[arg(long)]
    barrier: bool,
    /// After a failure begin nothing new
    #[arg(long, conflicts_with = "keep_going")]
    fail_fast: bool,
    /// After a failure go on with what does not stand on it (the default)
    #[arg(long)]
    keep_going: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Outside the trusted scope, let Dockerfiles name this frontend too, as they name it: by digest
    #[arg(long, value_name = "NAME@DIGEST")]
    frontend: Vec<Reference>,
    /// The folder that the file of each image is written into before its checks begin.
    #[arg(skip)]
    files: Option<PathBuf>,
}

impl Options {
    /// To build jobs, as a plan has settled them, and write the file of each as soon as its image stands.
    pub(super) fn of_jobs(jobs: &[JobId], plan: Option<PathBuf>, files: Option<PathBuf>) -> Self {
        Self { what: What::of_jobs(jobs), plan, files, ..Self::default() }
    }

    /// Where what stands on an image waits for all platforms of it.
    fn barrier(&self) -> Barrier {
        if self.barrier { Barrier::Everywhere } else { Barrier::Said }
    }

    /// How to publish.
    fn wanted(&self) -> publish::Wanted {
        publish::Wanted {
            to: self.to.clone(),
            dry_run: self.dry_run,
            allow_rollback: false,
            sign_key: self.sign_key.clone(),
            rehearsal: false,
        }
    }
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    if let Some(registry) = &options.to {
        context.refuse_untrusted(&format!("publishing to {registry}"))?;
    }
    if options.nightly {
        context.refuse_untrusted("moving nightly tags")?;
    }
    if options.to.is_some() && !options.publish && !options.nightly {
        return Err(Diagnostic::request("`--to` says where to publish, and nothing is to be published")
            .hint("add --publish, or --nightly")
            .into());
    }
    if let Some(open) = options.frontend.iter().find(|one| one.digest().is_none()) {
        return Err(Diagnostic::request(format!("`--frontend {open}` has no digest"))
            .hint(format!("see what it is at: polyarch inspect {open}"))
            .into());
    }
    let settled = options.plan.as_deref().map(SettledPlan::read).transpose()?;
    // Nightly tags are moved by what a timer starts.
    let anew = options.anew.carrying_out(settled).scheduled(options.nightly);
    let planning = Planning::make_anew(context, &options.what, &anew);
    let planning = context.signals.unless_stopped(planning).await?;
    options.fleet.check(&planning.workspace.builders)?;
    if options.dry_run {
        context.ui.data(&super::plan::view(&planning, options.barrier()).to_text());
        return match options.publish {
            true => dry_publication(context, options, &planning).await,
            false => Ok(Ended::Well),
        };
    }
    planning.shelf.writable()?;
    let planning = context.signals.unless_stopped(with_parents(context, planning, &anew)).await?;
    if let Some(settled) = &anew.settled {
        context.signals.unless_stopped(settled.hold(&planning)).await?;
    }
    let unfit = refuse(context, &planning, &options.frontend)?;
    if options.publish && planning.shelf.scope.is_trusted() {
        // What could not be signed in the end is not built first.
        let _: Option<sign::Signing> =
            sign::Signing::wanted(context, &planning.workspace, &options.wanted())?;
    }
    recorder::sweep_dead(&planning.shelf.folder);
    lines::sweep();
    // Before anything is written, a report included.
    let room = async { Ok(room::make(context, &planning.shelf.store).await) };
    context.signals.unless_stopped(room).await?;
    let recorder = Recorder::begin(&planning.shelf.folder, context.ui.clone())?;
    recorder.keep_plan(&super::plan::view(&planning, options.barrier()));
    recorder.show(EventKind::RunStarted {
        version: EVENT_VERSION,
        run: recorder.run.to_string(),
        jobs: planning.plan.jobs.len(),
        reused: planning.plan.reused(),
    });
    let work = build_and_publish(context, options, &planning, unfit, &recorder);
    let work = room::keeping(context, &planning.shelf.store, work);
    // Law 13 and I-X3: what is left behind is cleared away, and a report written, also after a mistake of our own.
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    let ended = ended.unwrap_or_else(|panic| Err(mistake("this run", &*panic).into()));
    recorder.clean();
    lines::close(&recorder.run);
    let code = match &ended {
        Ok(Ended::Well) => 0,
        Ok(Ended::With(code)) => *code,
        Err(problems) => problems.exit_code(),
    };
    for (host, amount) in registries::traffic(&context.traffic) {
        recorder.show(EventKind::Traffic { host, amount });
    }
    recorder.show(EventKind::RunEnded { exit_code: code });
    finish(context, options, &planning, &recorder, code);
    ended
}

/// The same once parents have come from the registry, of which those are built that come too slowly. What was settled
/// stays so: others carry it out too.
async fn with_parents(context: &Context, mut planning: Planning, anew: &Anew) -> Result<Planning> {
    let floor = planning.workspace.family.parent_floor_bytes.filter(|_| anew.settled.is_none());
    let Some(floor_bytes) = floor else { return Ok(planning) };
    let records = planning.shelf.records();
    let outside = (&planning.workspace.family, &planning.facts);
    let planned = (&mut planning.plan, &mut planning.request);
    let warnings = run::bring_parents(&records, outside, planned, floor_bytes).await;
    warnings.iter().for_each(|warning| context.ui.warning(warning));
    Ok(planning)
}

/// What would be published: where nothing is to be built exactly, else as far as it is known.
async fn dry_publication(context: &Context, options: &Options, planning: &Planning) -> Result<Ended> {
    let wanted = options.wanted();
    if planning.plan.to_build() + planning.plan.to_check() == 0 {
        let passed = publish::standing(&planning.plan);
        return publish::publish(context, planning, passed, &wanted, &|_| {}).await;
    }
    let target = publish::target(context, &planning.workspace, &planning.shelf, wanted.to.as_deref())?;
    context.ui.data(&preview::foreseen(planning, &target)?);
    sign::Signing::wanted(context, &planning.workspace, &wanted).map(|_| Ended::Well)
}

/// What can be seen to fail before anything is built, all of it together: images from outside that are not there or
/// lack a platform (F-D6, F-D7), and secrets that nobody gives (F-C18).
///
/// What only keeps images downstream from being built refuses nothing: those jobs, and why they will fail.
fn refuse(
    context: &Context,
    planning: &Planning,
    frontends: &[Reference],
) -> Result<BTreeMap<JobId, Diagnostic>> {
    let family = &planning.workspace.family;
    let jobs =
        planning.plan.jobs.iter().filter(|(_, planned)| matches!(planned.decision, Decision::Build(_)));
    let mut of_unit = BTreeMap::<&Unit, BTreeSet<&JobId>>::new();
    for (job, _) in jobs {
        of_unit.entry(&job.unit).or_default().insert(job);
    }
    let (mut unfit, mut problems) = (planning.unfit(), Vec::new());
    if !context.common.scope.is_trusted() {
        problems.extend(refused_untrusted(family, &planning.plan, frontends));
    }
    for (unit, jobs) in of_unit {
        let Some(recipe) = family.recipe(unit) else { continue };
        let missing = secrets::missing(context, recipe, &planning.workspace.root).into_iter();
        unfit.extend(missing.map(|problem| Unfit { jobs: jobs.clone(), problem }));
        problems.extend(secrets::withheld(context, recipe));
        problems.extend(secrets::exposed(context, recipe, &planning.workspace.root));
    }
    let mut downstream = BTreeMap::new();
    for Unfit { jobs, problem } in unfit {
        match jobs.iter().all(|job| family.is_downstream(&job.unit)) {
            true => downstream.extend(jobs.into_iter().map(|job| (job.clone(), problem.clone()))),
            false => problems.push(problem),
        }
    }
    Problems::check(problems).map(|()| downstream)
}

async fn build_and_publish(
    context: &Context,
    options: &Options,
    planning: &Planning,
    unfit: BTreeMap<JobId, Diagnostic>,
    recorder: &Arc<Recorder>,
) -> Result<Ended> {
    let ran = building::build(context, options, planning, unfit, recorder).await?;
    for changed in planning.workspace.changed() {
        context.ui.warning(&changed);
    }
    let family = &planning.workspace.family;
    ran.warnings(family).iter().for_each(|warning| context.ui.warning(warning));
    let mut failures = ran.problems(family);
    if options.nightly && ran.cancelled.is_empty() {
        failures.extend(nightly::publish(context, planning, &ran.passed, options.to.as_deref()).await?);
    }
    let failures = Problems::check(failures);
    if !ran.cancelled.is_empty()
        && let Err(stopped) = context.signals.check()
    {
        return Err(failures.err().into_iter().fold(stopped.into(), Problems::and));
    }
    if let Err(unshared) = share(context, planning, &ran.passed).await {
        return Err(match failures {
            Err(failures) => failures.and(unshared),
            Ok(()) => unshared,
        });
    }
    if options.publish {
        let request = options.wanted();
        let show = recorder.clone();
        let show = move |kind| show.show(kind);
        let published = match planning.shelf.scope.is_trusted() {
            true => publish::publish(context, planning, ran.passed, &request, &show).await,
            false => {
                let folder = recorder.run_folder().scratch;
                rehearsal::rehearse(context, planning, ran.passed, &folder).await
            }
        };
        match (failures, published) {
            (Err(failures), Err(more)) => return Err(failures.and(more)),
            (Err(failures), Ok(_)) => return Err(failures),
            (Ok(()), published) => return published,
        }
    }
    failures.map(|()| Ended::Well)
}

/// See that the registry of the store has all that has passed, whenever it was built.
pub(super) async fn share(
    context: &Context,
    planning: &Planning,
    all: &BTreeMap<JobId, Passed>,
) -> Result<()> {
    let records = planning.shelf.records();
    let sharing = async {
        for (job, passed) in all {
            records.share(passed).await?;
            // A run before this one may have been killed before it said that its refresh is over.
            let planned = &planning.plan.jobs[job];
            if let (Decision::Reuse(_), Some(epoch)) = (&planned.decision, planned.next_epoch) {
                records.keep_epoch(job, epoch).await?;
            }
        }
        let is_whole = all.len() == planning.workspace.family.jobs().count();
        if is_whole { records.keep_roll(all).await } else { Ok(()) }
    };
    let shared = async {
        let failed = |error: Error| Diagnostic::of_store("keep results at the registry", &error);
        Ok(sharing.await.map_err(failed)?)
    };
    context.signals.unless_stopped(shared).await?;
    if let Some(why) = records.refused() {
        let folder = planning.shelf.folder.display();
        let warning = Diagnostic::warning(format!("the results of this run are in {folder} alone"));
        context.ui.warning(&warning.because(why));
    }
    Ok(())
}

/// What one would type next.
fn next(options: &Options, planning: &Planning) -> String {
    let scope = &planning.shelf.scope;
    if !scope.is_trusted() {
        return match options.publish {
            false => {
                format!("next: polyarch build --publish --scope {scope}, which rehearses the publication")
            }
            true => format!("next, once it is merged and signed: polyarch promote --from {scope}"),
        };
    }
    let own = options.to.is_none() && planning.workspace.family.registry.is_none();
    match (options.publish, own) {
        (false, _) => "next: polyarch publish --dry-run".to_owned(),
        (true, true) => format!("next: polyarch serve --store {}", planning.shelf.folder.display()),
        (true, false) => "next: polyarch verify".to_owned(),
    }
}

/// The report, kept beside the log and told.
fn finish(context: &Context, options: &Options, planning: &Planning, recorder: &Recorder, code: u8) {
    let report = Report::of(&recorder.events());
    let file = recorder.folder.join("report.json");
    if let Err(error) = std::fs::write(&file, report.to_json()) {
        context
            .ui
            .warning(&Diagnostic::warning(format!("write the report {}", file.display())).because(error));
    }
    if context.common.quiet && code == 0 {
        return;
    }
    context.ui.note(&report.to_text());
    context.ui.note(&format!("report: {}", file.display()));
    if code == 0 {
        context.ui.next(&next(options, planning));
    }
}
