//! `polyarch build`: run the plan, keep the results in the store, and publish if asked.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;

use crate::diag::{Diagnostic, Problems, Result, count};
use crate::engine::{Redactor, RunId, StoreAddress};
use crate::event::{EVENT_VERSION, EventKind};
use crate::family::Unit;
use crate::oci::Error;
use crate::plan::Decision;
use crate::record::Records;
use crate::report::Report;
use crate::run::{self, Builder, HostTests, Ran, Session};

use super::plan::{Planning, What};
use super::recorder::{self, Recorder};
use super::{Context, Ended, fleet, preview, publish, registries, room, secrets, sign};

/// How often elapsed times are drawn again.
const TICK: Duration = Duration::from_millis(100);

/// Build, test and tag the images, and keep the results in the store
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch build                         everything that is not built yet
  polyarch build +base-notebook          an image and all that stand on it
  polyarch build --platform linux/amd64  one platform only
  polyarch build --publish               and publish the family where polyarch.toml says
  polyarch build --publish --to 127.0.0.1:5000")]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) what: What,
    /// Build the chosen images although records stand for them
    #[arg(long)]
    no_reuse: bool,
    /// Go on to publish what was built
    #[arg(long)]
    publish: bool,
    /// Publish to this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY", requires = "publish")]
    to: Option<String>,
    /// Sign what is published with the key in this file
    #[arg(long, value_name = "FILE", requires = "publish")]
    sign_key: Option<PathBuf>,
    #[command(flatten)]
    fleet: fleet::Wanted,
    /// Do not use the engine's build cache
    #[arg(long)]
    no_cache: bool,
    /// What stands on an image waits for all platforms of it, as where each level is joined before the next begins
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
}

impl Options {
    /// How to publish.
    fn wanted(&self) -> publish::Wanted {
        publish::Wanted {
            to: self.to.clone(),
            dry_run: self.dry_run,
            allow_rollback: false,
            sign_key: self.sign_key.clone(),
        }
    }
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::make_anew(context, &options.what, options.no_reuse);
    let planning = context.signals.unless_stopped(planning).await?;
    if options.dry_run {
        context.ui.data(&super::plan::view(&planning).to_text());
        return match options.publish {
            true => dry_publication(context, options, &planning).await,
            false => Ok(Ended::Well),
        };
    }
    planning.shelf.writable()?;
    refuse(context, &planning)?;
    if options.publish {
        // What could not be signed in the end is not built first.
        let _: Option<sign::Signing> =
            sign::Signing::wanted(context, &planning.workspace, &options.wanted())?;
    }
    recorder::sweep_dead(&planning.shelf.folder);
    fleet::sweep_lines();
    // Before anything is written, a report included.
    let room = async { Ok(room::make(context, &planning.shelf.store).await) };
    context.signals.unless_stopped(room).await?;
    let recorder = Recorder::begin(&planning.shelf.folder, context.ui.clone())?;
    recorder.show(EventKind::RunStarted {
        version: EVENT_VERSION,
        run: recorder.run.to_string(),
        jobs: planning.plan.jobs.len(),
        reused: planning.plan.reused(),
    });
    let work = build_and_publish(context, options, &planning, &recorder);
    let ended = room::keeping(context, &planning.shelf.store, work).await;
    recorder.clean();
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
fn refuse(context: &Context, planning: &Planning) -> Result<()> {
    let mut problems = planning.unfit_bases();
    let units: BTreeSet<&Unit> = { planning.plan.jobs.iter() }
        .filter(|(_, planned)| matches!(planned.decision, Decision::Build(_)))
        .map(|(job, _)| &job.unit)
        .collect();
    for recipe in units.into_iter().filter_map(|unit| planning.workspace.family.recipe(unit)) {
        problems.extend(secrets::missing(context, recipe, &planning.workspace.root));
        problems.extend(secrets::exposed(context, recipe, &planning.workspace.root));
    }
    Problems::check(problems)
}

async fn build_and_publish(
    context: &Context,
    options: &Options,
    planning: &Planning,
    recorder: &Arc<Recorder>,
) -> Result<Ended> {
    let ran = build(context, options, planning, recorder).await?;
    for changed in planning.workspace.changed() {
        context.ui.warning(&changed);
    }
    let family = &planning.workspace.family;
    ran.warnings(family).iter().for_each(|warning| context.ui.warning(warning));
    let failures = Problems::check(ran.problems(family));
    if !ran.cancelled.is_empty()
        && let Err(stopped) = context.signals.check()
    {
        return Err(failures.err().into_iter().fold(stopped.into(), Problems::and));
    }
    if options.publish {
        let request = options.wanted();
        let show = recorder.clone();
        let show = move |kind| show.show(kind);
        let published = publish::publish(context, planning, ran.passed, &request, &show).await;
        match (failures, published) {
            (Err(failures), Err(more)) => return Err(failures.and(more)),
            (Err(failures), Ok(_)) => return Err(failures),
            (Ok(()), published) => return published,
        }
    }
    failures.map(|()| Ended::Well)
}

async fn build(
    context: &Context,
    options: &Options,
    planning: &Planning,
    recorder: &Arc<Recorder>,
) -> Result<Ran> {
    let idle = planning.plan.to_build() + planning.plan.to_check() == 0;
    if idle {
        let reused = count(planning.plan.reused(), "job");
        context.ui.note(&format!("nothing to build: records stand for {reused}"));
    }
    let records = planning.shelf.records();
    let over = |run: &RunId| recorder::is_over(&planning.shelf.folder, run);
    let swept = async { run::sweep_tags(&records, over).await.map_err(|error| unswept(&error).into()) };
    context.signals.unless_stopped(swept).await?;
    let (builders, served) = match idle {
        true => (Vec::new(), None),
        false => {
            let served = planning.shelf.serve().await?;
            let builders = builders(context, options, planning, recorder, &served.address);
            (context.signals.unless_stopped(builders).await?, Some(served))
        }
    };
    let session = session(context, options, planning, recorder, &builders)?;
    let stop = async { drop(context.signals.stop().await) };
    let ran = ticking(context, run::run(&session, &planning.plan, stop)).await;
    clear_away(context, recorder, &records, &builders).await;
    drop(builders);
    fleet::close_lines(&recorder.run);
    // Not before: names in an engine that begin with this address are ours as long as nobody else has it.
    drop(served);
    ran
}

/// Remove what the run left in the store and on its builders, side by side.
async fn clear_away(context: &Context, recorder: &Recorder, records: &Records, builders: &[Builder]) {
    if let Err(error) = run::sweep_tags(records, |run| *run == recorder.run).await {
        context.ui.warning(&unswept(&error));
    }
    let sweeps = builders.iter().map(async |builder| {
        let sweep = async { builder.engine.sweep(Some(&recorder.run)).await.map(drop) };
        let swept = context.signals.clearing_away(&builder.engine.name(), sweep).await;
        if let Err(problem) = swept {
            context.ui.warning(&problem);
        }
    });
    join_all(sweeps).await;
}

fn unswept(error: &Error) -> Diagnostic {
    Diagnostic::surroundings("remove the tags of builds from the store").caused_by(error)
}

/// The builders, on which nothing is left of runs that are over.
async fn builders(
    context: &Context,
    options: &Options,
    planning: &Planning,
    recorder: &Recorder,
    store: &StoreAddress,
) -> Result<Vec<Builder>> {
    let scratch = recorder.run_folder().scratch;
    let stock = planning.shelf.stock();
    let ground = fleet::Ground { run: &recorder.run, scratch: &scratch, stock };
    let builders = fleet::connect(context, &planning.workspace, &options.fleet, &ground, store).await?;
    let sweeps = builders.iter().map(async |builder| {
        builder.engine.sweep(None).await?;
        builder.engine.sweep_pulled(&builder.store).await
    });
    Problems::check(join_all(sweeps).await.into_iter().filter_map(std::result::Result::err).collect())?;
    Ok(builders)
}

/// All that the run works with.
fn session<'a>(
    context: &Context,
    options: &Options,
    planning: &'a Planning,
    recorder: &Arc<Recorder>,
    builders: &'a [Builder],
) -> Result<Session<'a>> {
    let workspace = &planning.workspace;
    let folder = recorder.run_folder();
    let secrets = secrets::files(context, workspace, &planning.plan, &folder.scratch)?;
    let show = recorder.clone();
    Ok(Session {
        run: recorder.run.clone(),
        root: workspace.root.clone(),
        family: &workspace.family,
        facts: &planning.facts,
        records: planning.shelf.records(),
        builders,
        registries: registries::registries(context)?,
        host: HostTests { folder: workspace.root.clone(), variables: sign::without_keys(context, workspace) },
        redactor: Redactor::new(secrets::values(&secrets)),
        secrets,
        folder,
        options: run::Options {
            fail_fast: options.fail_fast,
            barrier: options.barrier,
            no_cache: options.no_cache,
        },
        clock: Arc::new(recorder::now),
        show: Arc::new(move |kind| show.show(kind)),
    })
}

/// The same work, with elapsed times drawn again meanwhile.
async fn ticking<T>(context: &Context, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => context.ui.tick(recorder::now()),
        }
    }
}

/// What one would type next.
fn next(options: &Options, planning: &Planning) -> String {
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
        context.ui.note(&next(options, planning));
    }
}
