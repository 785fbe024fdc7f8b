//! The building of `polyarch build`: builders and the store brought together, the run, and what it leaves behind removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::cli::debris::{self, Dead};
use crate::cli::plan::Planning;
use crate::cli::recorder::{self, Recorder};
use crate::cli::workshop::Served;
use crate::cli::{Context, delta, fleet, registries, secrets, sign};
use crate::contents::Cache;
use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Result, count};
use crate::engine::{Redactor, RunId};
use crate::event::EventKind;
use crate::family::JobId;
use crate::oci::{Digest, Error};
use crate::record::{Records, RunTime};
use crate::run::{self, Builder, HostTests, Ran, Session, Taker};

use super::Options;

/// How often elapsed times are drawn again.
const TICK: Duration = Duration::from_millis(100);

/// Carry out what is to be done of a plan, and leave nothing of it behind.
///
/// # Errors
/// Where it cannot begin; failures of jobs are in the result.
pub(super) async fn build(
    context: &Context,
    options: &Options,
    planning: &Planning,
    unfit: BTreeMap<JobId, Diagnostic>,
    recorder: &Arc<Recorder>,
) -> Result<Ran> {
    let idle = planning.plan.is_idle();
    if planning.plan.to_build() + planning.plan.to_check() == 0 {
        let reused = count(planning.plan.reused(), "job");
        context.ui.note(&format!("nothing to build: records stand for {reused}"));
    }
    let records = planning.shelf.records();
    let over = |run: &RunId| recorder::is_over(&planning.shelf.folder, run);
    let swept = async { run::sweep_tags(&records, over).await.map_err(|error| unswept(&error).into()) };
    context.signals.unless_stopped(swept).await?;
    context.signals.unless_stopped(end_old_caches(context, planning, &records)).await?;
    let mut dead = Dead::of(&planning.shelf.folder);
    context.signals.unless_stopped(dead.end_uploads(&planning.shelf.store)).await?;
    let addresses = fleet::addresses(context, &planning.workspace.builders, &options.fleet)?;
    let (builders, served) = match idle {
        true if !dead.were_at(&addresses) => (Vec::new(), None),
        true => {
            let sweeping = dead.sweep(context, planning, &options.fleet, recorder);
            context.signals.unless_stopped(sweeping).await?;
            (Vec::new(), None)
        }
        false => {
            let served = planning.shelf.serve().await?;
            let builders = async {
                let builders = builders(context, options, planning, recorder, &served, &dead).await?;
                dead.sweep_at(context, &builders, &addresses, &served.address).await;
                Ok(builders)
            };
            let builders = context.signals.unless_stopped(builders).await?;
            debris::may_be_left(
                &recorder.folder,
                &addresses.of(builders.iter().map(|builder| &*builder.name)),
                &served.address,
            );
            (builders, Some(served))
        }
    };
    for builder in &builders {
        let (builder, slots, price) = (builder.name.clone(), builder.slots, builder.price);
        recorder.show(EventKind::BuilderReady { builder, slots, price });
    }
    let tags = &planning.workspace.family.tags;
    let early = { options.files.as_ref() }
        .map(|to| delta::Early::open(context, planning.shelf.records(), to, tags))
        .transpose()?;
    let mut session = session(context, options, planning, unfit, recorder, &builders)?;
    session.taker = early.as_ref().map(|early| early as &dyn Taker);
    let stop = async { drop(context.signals.stop().await) };
    let ran = ticking(context, run::run(&session, &planning.plan, stop)).await;
    clear_away(context, recorder, &records, &builders, &addresses).await;
    drop(builders);
    // Not before: names in an engine that begin with this address are ours as long as nobody else has it.
    drop(served);
    ran
}

/// An untrusted run has no use for caches of other trees in its scope. Where they cannot be removed they stay.
async fn end_old_caches(context: &Context, planning: &Planning, records: &Records) -> Result<()> {
    let family = &planning.workspace.family;
    if !records.is_untrusted() || !family.layer_cache && family.cache_mounts.is_none() {
        return Ok(());
    }
    let time = RunTime { began_seconds: began_seconds(planning), now_seconds: recorder::now() / 1_000 };
    if let Err(error) = records.end_caches_of_other_trees(&planning.tree(), time).await {
        let kept = Diagnostic::warning("caches of earlier pushes stay in this scope").because(error);
        let hint = format!("they go with it: polyarch gc --end {}", planning.shelf.scope);
        context.ui.warning(&kept.hint(hint));
    }
    Ok(())
}

/// When the run began, or the plan was settled that it carries out.
fn began_seconds(planning: &Planning) -> u64 {
    planning.moment.at / 1_000
}

/// The tree that caches of an untrusted run are of alone.
fn own_tree(planning: &Planning, records: &Records) -> Option<Digest> {
    (records.is_untrusted() && stands(Defence::CachesOfATree)).then(|| planning.tree())
}

/// Remove what the run left in the store and on its builders, side by side.
async fn clear_away(
    context: &Context,
    recorder: &Recorder,
    records: &Records,
    builders: &[Builder],
    addresses: &fleet::Addresses,
) {
    if let Err(error) = run::sweep_tags(records, |run| *run == recorder.run).await {
        context.ui.warning(&unswept(&error));
    }
    let sweeps = builders.iter().map(async |builder| {
        let sweep = async { builder.engine.sweep(Some(&recorder.run)).await.map(drop) };
        let swept = context.signals.clearing_away(&builder.engine.name(), sweep).await;
        swept.map_err(|problem| context.ui.warning(&problem)).ok().map(|()| &*builder.name)
    });
    let swept = join_all(sweeps).await.into_iter().flatten();
    debris::is_swept(&recorder.folder, &addresses.of(swept));
}

fn unswept(error: &Error) -> Diagnostic {
    Diagnostic::surroundings("remove the tags of builds from the store").caused_by(error)
}

/// The builders.
async fn builders(
    context: &Context,
    options: &Options,
    planning: &Planning,
    recorder: &Recorder,
    served: &Served,
    dead: &Dead,
) -> Result<Vec<Builder>> {
    let scratch = recorder.run_folder().scratch;
    let (stock, over) = (planning.shelf.stock(), dead.of_this_machine.clone());
    let knocks = Some(served.knocks.clone());
    let ground = fleet::Ground { run: &recorder.run, scratch: &scratch, stock, over, knocks };
    fleet::connect(context, planning, &options.fleet, &ground, &served.address).await
}

/// All that the run works with.
fn session<'a>(
    context: &Context,
    options: &Options,
    planning: &'a Planning,
    unfit: BTreeMap<JobId, Diagnostic>,
    recorder: &Arc<Recorder>,
    builders: &'a [Builder],
) -> Result<Session<'a>> {
    let workspace = &planning.workspace;
    let folder = recorder.run_folder();
    let secrets = secrets::files(context, workspace, &planning.plan, &unfit, &folder.scratch)?;
    let show = recorder.clone();
    let records = planning.shelf.records();
    Ok(Session {
        packages: Cache::default(),
        run: recorder.run.clone(),
        root: workspace.root.clone(),
        family: &workspace.family,
        facts: &planning.facts,
        own_tree: own_tree(planning, &records),
        began_seconds: began_seconds(planning),
        records,
        claims: Some(planning.shelf.store.clone()),
        builders,
        registries: registries::registries(context)?,
        host: HostTests {
            folder: workspace.root.clone(),
            variables: sign::for_host_tests(context, workspace),
        },
        redactor: Redactor::new(secrets::values(&secrets)),
        secrets,
        gives_agents: !secrets::withholds(context),
        folder,
        unfit,
        options: run::Options {
            fail_fast: options.fail_fast,
            barrier: options.barrier(),
            no_cache: options.no_cache,
        },
        clock: Arc::new(recorder::now),
        show: Arc::new(move |kind| show.show(kind)),
        taker: None,
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
