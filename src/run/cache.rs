//! Caches of layers that travel between machines by the store, and how long a build may take that has one.

use crate::diag::{Diagnostic, Kind};
use crate::engine::{CacheOrder, LayerCache};
use crate::event::EventKind;
use crate::family::{JobId, Recipe};
use crate::oci::Error;
use crate::record::{CacheKind, ImageRecord};

use super::Session;
use super::builder::Builder;

/// The caches that a build of a job may use: its scope's own, then the trusted one's, as far as they are there. It
/// writes that of its own scope alone, and with `afresh` reads none. One that cannot be read is a cold one, and is told.
pub(super) async fn order(session: &Session<'_>, job: &JobId, builder: &Builder, afresh: bool) -> CacheOrder {
    let Some(kind) = kind(session, builder) else { return CacheOrder::default() };
    let job = job.to_string();
    let mut from = Vec::new();
    if !afresh {
        let caches = session.records.layer_caches(kind, &job, session.own_tree.as_ref()).await;
        caches.unread.iter().for_each(|error| tell(session, &job, "read", error));
        from.extend(caches.found.iter().map(|(scope, tag)| builder.store.tagged(scope, tag)));
    }
    let to = builder.store.tagged(&session.records.scope, &kind.name(&job, session.own_tree.as_ref()).own);
    CacheOrder { from, to: Some(to) }
}

/// Give the registry of the store what a build has left; that it cannot be is told, and nothing else comes of it.
pub(super) async fn share(session: &Session<'_>, job: &JobId, builder: &Builder) {
    if kind(session, builder) == Some(CacheKind::Apart) {
        let job = job.to_string();
        let (tree, time) = (session.own_tree.as_ref(), session.time());
        if let Err(error) = session.records.share_layer_cache(&job, tree, time).await {
            tell(session, &job, "share", &error);
        }
    }
}

fn kind(session: &Session<'_>, builder: &Builder) -> Option<CacheKind> {
    match LayerCache::of(&builder.facts, builder.engine.delivery()) {
        _ if !session.family.layer_cache => None,
        LayerCache::Registry => Some(CacheKind::Apart),
        LayerCache::Inline => Some(CacheKind::Within),
        LayerCache::None => None,
    }
}

fn tell(session: &Session<'_>, job: &str, doing: &str, error: &Error) {
    let reason = format!("{doing} its cache of layers: {error}");
    (session.show)(EventKind::CacheFailed { job: job.to_owned(), reason });
}

/// See that a build that had a cache took no longer than its budget: where it did, the cache does not hold any more.
///
/// # Errors
/// Of kind [`Kind::Failed`] where it took longer.
pub(super) fn within_budget(recipe: &Recipe, image: &ImageRecord) -> Result<(), Diagnostic> {
    let Some(budget) = recipe.cache_budget_seconds.filter(|_| image.cached) else { return Ok(()) };
    match image.milliseconds <= budget.saturating_mul(1000) {
        true => Ok(()),
        false => {
            let took = image.milliseconds.div_ceil(1000);
            let problem = format!("{} took {took} s to build with a cache, of {budget} s", image.job);
            Err(Diagnostic::new(Kind::Failed, problem)
                .because("so that its cache does not hold: an early step changes, or nothing was in it")
                .hint(format!(
                    "see which steps ran, and build it again: polyarch build {} --no-reuse",
                    recipe.unit
                ))
                .hint("or give it more time: cache-budget"))
        }
    }
}
