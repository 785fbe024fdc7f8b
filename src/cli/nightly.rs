//! The tags that a nightly build moves: one for each image and platform, alone and once its tests have passed, so that
//! no platform waits for another.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Result, count};
use crate::family::JobId;
use crate::oci::{Error, Origin, Repository, Tag, copy_image};
use crate::publish::{Moved, NIGHTLY_LIST, Nightly};
use crate::record::Passed;

use super::Context;
use super::plan::Planning;
use super::publish::target;
use super::publisher::generation;
use super::workshop::Target;

/// Bring every image that has passed to the target, under the nightly tag of its platform; what could not be brought,
/// as problems. Images that only try out others stay here.
///
/// # Errors
/// Where there is no such target, or the command is stopped.
pub(super) async fn publish(
    context: &Context,
    planning: &Planning,
    passed: &BTreeMap<JobId, Passed>,
    to: Option<&str>,
) -> Result<Vec<Diagnostic>> {
    let target = target(context, &planning.workspace, &planning.shelf, to)?;
    let family = &planning.workspace.family;
    let (mut moved, mut problems) = (Vec::new(), Vec::new());
    for (job, passed) in passed {
        let Some(recipe) = family.recipe(&job.unit).filter(|recipe| !recipe.downstream) else { continue };
        let written = format!("{}{}", recipe.tag_prefix(), family.tags.nightly_tag(&job.platform));
        let failed = |error: &Error| {
            let what = format!("move {}:{written} at {}", recipe.repository, target.name);
            Diagnostic::surroundings(what).caused_by(error)
        };
        let tag: Tag = match written.parse() {
            Ok(tag) => tag,
            Err(error) => {
                problems.push(failed(&error));
                continue;
            }
        };
        let bringing = async { Ok(bring(planning, passed, &recipe.repository, &tag, &target).await) };
        match context.signals.unless_stopped(bringing).await? {
            Ok(Moved::Here) => moved.push(format!("{}:{tag}", recipe.repository)),
            Ok(Moved::Stood) => {}
            Ok(Moved::Newer) => context.ui.warning(&of_newer(&recipe.repository, &tag, &target)),
            Err(error) => problems.push(failed(&error)),
        }
    }
    context.ui.note(&match moved.is_empty() {
        true => "no nightly tag had to move".to_owned(),
        false => {
            format!("{} moved at {}: {}", count(moved.len(), "nightly tag"), target.name, moved.join(", "))
        }
    });
    Ok(problems)
}

/// A tag that stays where a newer run has put it.
fn of_newer(repository: &Repository, tag: &Tag, target: &Target) -> Diagnostic {
    Diagnostic::warning(format!("{repository}:{tag} stays where it is at {}", target.name))
        .because("a run of a newer commit, or a later one of the same, has moved it")
        .hint(format!(
            "where an older commit is to count again: polyarch delete {}/{repository}:{NIGHTLY_LIST}",
            target.name
        ))
}

/// Content first, then the tag.
async fn bring(
    planning: &Planning,
    passed: &Passed,
    repository: &Repository,
    tag: &Tag,
    target: &Target,
) -> Result<Moved, Error> {
    let (records, image) = (planning.shelf.records(), &passed.image.image);
    let document = records.store.read_document(&records.scope, &image.clone().into()).await?;
    let origin = Origin { store: &*records.store, repository: &records.scope };
    let home = planning.shelf.home_at(target);
    copy_image(&origin, &document, &*target.store, repository, home.as_ref()).await?;
    let generation = generation(&planning.moment);
    Nightly { store: &*target.store, repository, generation }.move_to(tag, &document).await
}
