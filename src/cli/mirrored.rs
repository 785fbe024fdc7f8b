//! The mirrors of a family on their way into a publication: read where they are, and streamed from there.

use std::sync::Arc;

use crate::diag::{Diagnostic, Result};
use crate::family::Mirror;
use crate::oci::{Beside, Digest, Error, Origin, Store, Tree};
use crate::publish::{self, Release, RunFacts, Withheld, failure};
use crate::survey::Registries;

use super::plan::Planning;
use super::workshop::Shelf;
use super::{Context, registries};

/// Adds the mirrors that go with a plan to a release. One that cannot be read stays away, and a warning says why.
///
/// # Errors
/// Where a tag cannot be, or another image has it.
pub(super) async fn add(
    context: &Context,
    planning: &Planning,
    release: &mut Release,
    facts: &RunFacts,
) -> Result<()> {
    let mirrors = planning.mirrors();
    if mirrors.is_empty() {
        return Ok(());
    }
    let registries = registries::registries(context)?;
    for mirror in mirrors {
        let withheld = release.withheld.len();
        match tree(planning, mirror, &*registries).await {
            Ok(tree) => {
                publish::lost(&tree).for_each(|warning| context.ui.warning(&warning));
                release.add_mirror(mirror, tree, &planning.workspace.family.tags, facts)?;
            }
            Err(reason) => release.withheld.push(Withheld { unit: mirror.unit.clone(), reason }),
        }
        if let Some(withheld) = release.withheld.get(withheld) {
            let message = format!("{} is not published: {}", withheld.unit, withheld.reason);
            let hint = format!("see what is there: polyarch inspect {}", mirror.source);
            context.ui.warning(&Diagnostic::warning(message).hint(hint));
        }
    }
    Ok(())
}

/// All that a mirror is a copy of, at the digest that the plan has.
async fn tree(planning: &Planning, mirror: &Mirror, registries: &Registries) -> Result<Tree, String> {
    let (source, digest) = (&mirror.source, planning.mirrored(mirror)?);
    let read = async || -> Result<Tree, Error> {
        let store = registries(source.registry())?;
        let digest: Digest = digest.clone();
        let root = store.read_document(source.repository(), &digest.into()).await?;
        Tree::read(&Origin { store: &*store, repository: source.repository() }, &root, true).await
    };
    read().await.map_err(|error| {
        let problem = failure(format!("{source} cannot be read"), source.registry(), &error);
        format!("{problem} ({})", problem.hints.join("; "))
    })
}

/// The family's store with the mirrors of a release beside it: what a publication is carried out from.
///
/// # Errors
/// Where passwords or proxies cannot be read.
pub(super) fn beside(context: &Context, shelf: &Shelf, release: &Release) -> Result<Arc<dyn Store>> {
    let own = shelf.content();
    let copies: Vec<_> = release.images.iter().filter_map(|image| image.copy_of.as_ref()).collect();
    if copies.is_empty() {
        return Ok(own);
    }
    let registries = registries::registries(context)?;
    let mut beside = Beside::new(own);
    for elsewhere in copies {
        let source = &elsewhere.source;
        let failed = |error: Error| Diagnostic::request(format!("reach {source}")).caused_by(&error);
        let store = registries(source.registry()).map_err(failed)?;
        beside = beside.with(&elsewhere.tree, store, source.repository().clone());
    }
    Ok(Arc::new(beside))
}
