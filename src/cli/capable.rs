//! What builders do of a plan, before anything is built.

use crate::diag::{Problems, Result};
use crate::engine::{EngineFacts, LayerCache};
use crate::report::CapacityView;
use crate::run::{self, Builder};

use super::plan::Planning;
use super::recorder::Recorder;
use super::{Context, fleet, lines};

/// The builders, and what none of them has that the plan needs.
///
/// # Errors
/// Where one is none, as for a build.
pub(super) async fn looked_at(
    context: &Context,
    planning: &Planning,
    wanted: &fleet::Wanted,
) -> Result<(Vec<CapacityView>, Result<(), Problems>)> {
    let shelf = &planning.shelf;
    let recorder = Recorder::begin(&shelf.folder, context.ui.clone())?;
    let scratch = recorder.run_folder().scratch;
    let connecting = async {
        let served = shelf.serve().await?;
        let knocks = Some(served.knocks.clone());
        let ground = fleet::Ground::new(&recorder.run, &scratch, shelf.stock(), knocks);
        fleet::connect(context, planning, wanted, &ground, &served.address).await
    };
    let connected = context.signals.unless_stopped(connecting).await;
    recorder.discard();
    lines::close(&recorder.run);
    let builders = connected?;
    let views = builders.iter().map(|builder| view(planning, builder, &builders)).collect();
    Ok((views, run::check_builders(&planning.asks(), &builders)))
}

/// What becomes on a builder of the caches that the family keeps in the store.
fn caches(planning: &Planning, builder: &Builder) -> Vec<String> {
    let family = &planning.workspace.family;
    let layers = || format!("layer cache: {}", LayerCache::of(&builder.facts, builder.engine.delivery()));
    let mounts = || cache_mounts(&builder.facts).to_owned();
    let layers = family.layer_cache.then(layers);
    layers.into_iter().chain(family.cache_mounts.as_ref().map(|_| mounts())).collect()
}

/// What becomes of mounts of caches.
pub(super) fn cache_mounts(facts: &EngineFacts) -> &'static str {
    match facts.carries_caches() {
        true => "cache mounts: each scope has its own, which can be kept in the store",
        false => "cache mounts: each scope has its own, which stay in the engine",
    }
}

fn view(planning: &Planning, builder: &Builder, builders: &[Builder]) -> CapacityView {
    CapacityView {
        name: builder.name.clone(),
        engine: builder.engine.name(),
        slots: builder.slots,
        content: builder.engine.delivery().to_string(),
        runs_containers: builder.engine.runs_containers(),
        caches: caches(planning, builder),
        emulates: run::emulated(&planning.asks(), builder, builders),
        hindrances: run::hindrances(&planning.asks(), builder),
    }
}
