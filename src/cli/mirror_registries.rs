//! The mirrors of a family: registries that get what was published, once the first has it.
//!
//! The first registry decides. Nothing goes to a mirror before all of it is published there, and a mirror that fails
//! undoes nothing: it is told, the other mirrors are brought up all the same, and the same command goes on with it.

use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::family::MirrorRegistry;
use crate::oci::Store;
use crate::publish::{Publication, Source};

use super::carrying::Carrying;
use super::plan::Planning;
use super::publish::{Wanted, homes};
use super::workshop::Target;
use super::{Context, registries};

/// The mirrors that a publication goes to: none where the command line names another registry than the configuration.
pub(super) fn mirrors<'p>(planning: &'p Planning, to: Option<&str>) -> &'p [MirrorRegistry] {
    if to.is_some() { &[] } else { &planning.workspace.family.publish.mirrors }
}

/// A mirror as a place to publish to.
///
/// # Errors
/// Where its name is none.
pub(super) fn target(context: &Context, mirror: &MirrorRegistry) -> Result<Target> {
    let client = || -> Result<_> {
        let made = registries::registries(context)?(&mirror.registry);
        Ok(made.map_err(|error| {
            Diagnostic::request(format!("mirror to `{}`", mirror.registry)).caused_by(&error)
        })?)
    };
    let (store, fresh) = (client()?, client()?);
    Ok(Target { name: mirror.registry.clone(), store, fresh, own: false })
}

/// What would go to the mirrors, for `--dry-run`.
pub(super) fn steps(mirrors: &[MirrorRegistry], published: &[Publication]) -> String {
    let images = || published.iter().flat_map(|one| &one.release().images);
    let lines = mirrors.iter().flat_map(|mirror| {
        let names = mirror.repositories.iter();
        let names = names.filter(|(name, _)| images().any(|image| image.repository == **name));
        names.map(|(name, there)| format!("mirror    {name} to {}/{there}\n", mirror.registry))
    });
    lines.collect()
}

/// Brings what is published to every mirror, out of the store that it was published from.
///
/// # Errors
/// Of kind [`Kind::Incomplete`] where a mirror lacks something, after all of them were tried; and where it is stopped.
pub(super) async fn bring(
    context: &Context,
    carrying: &Carrying<'_>,
    store: &dyn Store,
    published: &[Publication],
    wanted: &Wanted,
) -> Result<()> {
    let mut behind: Option<Problems> = None;
    for mirror in mirrors(carrying.planning, wanted.to.as_deref()) {
        let Err(problems) = bring_one(context, carrying, store, published, mirror).await else {
            continue;
        };
        let told = incomplete(mirror, &problems);
        behind = Some(match behind.take() {
            Some(before) => before.and(told),
            None => told,
        });
        if context.signals.check().is_err() {
            break;
        }
    }
    behind.map_or(Ok(()), Err)
}

async fn bring_one(
    context: &Context,
    carrying: &Carrying<'_>,
    store: &dyn Store,
    published: &[Publication],
    mirror: &MirrorRegistry,
) -> Result<()> {
    let (target, prepared) = prepared(context, carrying.planning, store, published, mirror).await?;
    let scope = carrying.planning.shelf.scope.repository();
    let source = Source { store, repository: &scope, home: None };
    carrying.carry_out(context, &prepared, &source, &target).await
}

/// What is published as it goes to a mirror, with the way there.
///
/// # Errors
/// Where the mirror, or the store, fails.
pub(super) async fn prepared(
    context: &Context,
    planning: &Planning,
    store: &dyn Store,
    published: &[Publication],
    mirror: &MirrorRegistry,
) -> Result<(Target, Vec<Publication>)> {
    let target = target(context, mirror)?;
    let scope = planning.shelf.scope.repository();
    let source = Source { store, repository: &scope, home: None };
    let releases = published.iter().map(|one| one.release().renamed(&mirror.repositories)).collect();
    let homes = homes(&planning.workspace.family)?.renamed(&mirror.repositories);
    let candidates = mirror.repositories.values().cloned().collect();
    let settling = homes.settled(candidates, target.towards());
    let homes = context.signals.unless_stopped(settling).await?;
    let preparing = Publication::prepare_each(releases, &homes, &source);
    let prepared = context.signals.unless_stopped(preparing).await?;
    Ok((target, prepared))
}

/// Each problem, and that it is one of a mirror.
pub(super) fn incomplete(mirror: &MirrorRegistry, problems: &Problems) -> Problems {
    let message =
        format!("the mirror {} is incomplete; where the family is published it is complete", mirror.registry);
    problems.under(&Diagnostic::new(Kind::Incomplete, message).again())
}
