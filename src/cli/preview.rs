//! `publish --dry-run`: what would be done at the registry and at its mirrors, as they stand; and what a build would
//! publish, as far as that is known before it.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Kind, Problems, Result, count};
use crate::family::JobId;
use crate::oci::Store;
use crate::publish::{self, Count, Preview, Publication, Publisher, Release, Totals};
use crate::report::size;

use super::plan::Planning;
use super::publish::{Wanted, run_facts, selected_units, with_those_beside};
use super::publisher::publisher;
use super::workshop::Target;
use super::{Context, mirror_registries, sign};

/// The images that stay away, a line each.
pub(super) fn withheld(release: &Release) -> String {
    release.withheld.iter().map(|one| format!("withheld  {}: {}\n", one.unit, one.reason)).collect()
}

/// Says what would be done, after what is withheld, and fails as the real thing would.
///
/// # Errors
/// What would refuse it; where a registry fails. What is known of it is said before.
pub(super) async fn show(
    context: &Context,
    planning: &Planning,
    wanted: &Wanted,
    store: &dyn Store,
    prepared: &[Publication],
    withheld: &str,
    target: &Target,
) -> Result<()> {
    let publisher = publisher(&planning.moment, wanted.allow_rollback)?;
    let previews = looked(context, prepared, target, &publisher).await?;
    let signed = prepared.iter().map(|one| sign::steps(&planning.workspace, wanted, one.release()));
    let mut text = [withheld, &lines(&previews, &signed.collect::<String>())].concat();
    let (mut there, mut to_do) = counts(&previews);
    let mut writes_list = previews.iter().any(Preview::writes_list);
    let mut problems = refused(&previews);
    let mirrors = mirror_registries::mirrors(planning, wanted.to.as_deref());
    text.push_str(&mirror_registries::steps(mirrors, prepared));
    // Where the first registry gets nothing no mirror does.
    for mirror in mirrors.iter().filter(|_| problems.is_none()).collect::<Vec<_>>() {
        let looking = async {
            let preparing = mirror_registries::prepared(context, planning, store, prepared, mirror);
            let (target, prepared) = preparing.await?;
            let previews = looked(context, &prepared, &target, &publisher).await?;
            writes_list |= previews.iter().any(Preview::writes_list);
            Ok((lines(&previews, ""), counts(&previews), refused(&previews)))
        };
        let told = match looking.await {
            Ok((of_mirror, counts, refused)) => {
                text.push_str(&of_mirror);
                (there, to_do) = (there.and(counts.0), to_do.and(counts.1));
                refused
            }
            Err(problems) => Some(problems),
        };
        let told = told.map(|told| mirror_registries::incomplete(mirror, &told));
        problems = problems.into_iter().chain(told).reduce(Problems::and);
    }
    let what = if writes_list { "nothing but the list of publications" } else { "nothing" };
    let why = match (prepared.is_empty(), withheld.is_empty()) {
        (true, true) => "",
        (true, false) => ": all of it is withheld",
        (false, true) => ": all of it is there",
        (false, false) => ": all that is not withheld is there",
    };
    text.push_str(&summary(there, to_do, &format!("{what}{why}")));
    text.push_str(&total(Publication::totals(prepared)));
    context.ui.data(&text);
    problems.map_or(Ok(()), Err)
}

/// Each publication at its target, in order.
async fn looked<'p>(
    context: &Context,
    prepared: &'p [Publication],
    target: &Target,
    publisher: &Publisher<'_>,
) -> Result<Vec<Preview<'p>>> {
    let mut previews = Vec::new();
    for (at, publication) in prepared.iter().enumerate() {
        let looking = publication.preview(target.towards(), publisher, &prepared[..at]);
        let preview = context.signals.unless_stopped(looking).await?;
        for repository in &preview.unseen {
            let name = &target.name;
            let message = format!("{name} lets nobody look at {repository}, which is taken to be empty");
            let hint = format!("where it is there already, log in: docker login {name}");
            context.ui.warning(&Diagnostic::warning(message).hint(hint));
        }
        previews.push(preview);
    }
    Ok(previews)
}

/// Content, what is said of it, and tags.
fn lines(previews: &[Preview<'_>], signed: &str) -> String {
    let content: String = previews.iter().map(Preview::content).collect();
    let moves: String = previews.iter().map(Preview::moves).collect();
    [content.as_str(), signed, moves.as_str()].concat()
}

/// What is there, and what is to be done, of all of them.
fn counts(previews: &[Preview<'_>]) -> (Count, Count) {
    let there = previews.iter().map(Preview::there).fold(Count::default(), Count::and);
    (there, previews.iter().map(Preview::to_do).fold(Count::default(), Count::and))
}

/// What would refuse them. Those before the first that is refused would be published.
fn refused(previews: &[Preview<'_>]) -> Option<Problems> {
    let at = previews.iter().position(|preview| preview.refused.is_some())?;
    let problems = previews.iter().filter_map(|preview| preview.refused.clone()).reduce(Problems::and)?;
    // Tags that never change are asked for first, of all of them.
    let at_once = previews.iter().any(|preview| preview.breaks_immutable);
    if at == 0 || at_once {
        return Some(problems);
    }
    let before = format!("{at} of {} come before it", count(previews.len(), "publication"));
    let problem = Diagnostic::new(Kind::Incomplete, "not all of the images would be published");
    Some(problems.and(problem.because(before).into()))
}

/// What is there and what is to do, a line each; `nothing` says why there is nothing to do.
fn summary(there: Count, to_do: Count, nothing: &str) -> String {
    let blobs = there.blobs + there.mounts;
    let there = listed([(blobs, count(blobs, "blob"))], there).unwrap_or_else(|| "nothing".to_owned());
    let blobs = [
        (to_do.blobs, format!("{} to send ({})", count(to_do.blobs, "blob"), size(to_do.bytes))),
        (to_do.mounts, format!("{} to mount", count(to_do.mounts, "blob"))),
    ];
    let to_do = listed(blobs, to_do).unwrap_or_else(|| nothing.to_owned());
    format!("there     {there}\nto do     {to_do}\n")
}

/// Blobs in these words, and the rest; `None` where there is nothing of any.
fn listed<const N: usize>(blobs: [(usize, String); N], all: Count) -> Option<String> {
    let rest = [(all.manifests, "manifest"), (all.indexes, "index"), (all.tags, "tag")];
    let rest = rest.map(|(number, noun)| (number, count(number, noun)));
    let parts = blobs.into_iter().chain(rest).filter(|(number, _)| *number > 0).map(|(_, words)| words);
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The last line.
fn total(totals: Totals) -> String {
    format!(
        "total     {} on {}: {} ({}), {}, {}, {}\n",
        count(totals.images, "image"),
        count(totals.platforms, "platform"),
        count(totals.blobs, "blob"),
        size(totals.bytes),
        count(totals.manifests, "manifest"),
        count(totals.indexes, "index"),
        count(totals.tags, "tag"),
    )
}

/// What is published of what is yet to be built, a line each.
///
/// # Errors
/// Where a tag cannot be.
pub(super) fn foreseen(planning: &Planning, target: &Target) -> Result<String> {
    let family = &planning.workspace.family;
    let facts = run_facts(&planning.moment);
    let beside = with_those_beside(planning, &BTreeMap::new());
    let will_be = |job: &JobId| planning.plan.jobs.contains_key(job) || beside.contains_key(job);
    let mut text = format!("to {}, where all of it passes:\n", target.name);
    let units = selected_units(planning);
    for recipe in family.recipes().filter(|recipe| units.contains(&recipe.unit)) {
        let jobs = recipe.platforms.keys().map(|platform| (platform, recipe.unit.on(platform)));
        let lacking: Vec<String> =
            jobs.filter(|(_, job)| !will_be(job)).map(|(platform, _)| platform.to_string()).collect();
        if !lacking.is_empty() {
            let why = "not selected, and no record stands for it";
            text.push_str(&format!("withheld  {}: {} {why}\n", recipe.unit, lacking.join(", ")));
            continue;
        }
        for tag in publish::foreseen(recipe, &family.tags, &facts)? {
            let platforms: Vec<String> = tag.platforms.iter().map(ToString::to_string).collect();
            let by = if tag.by_tagger { "; its tagger gives the value" } else { "" };
            let (repository, tag) = (&recipe.repository, &tag.tag);
            text.push_str(&format!("tag       {repository}:{tag} for {}{by}\n", platforms.join(", ")));
        }
    }
    for mirror in planning.mirrors() {
        let (repository, source) = (&mirror.repository, &mirror.source);
        let tags =
            mirror.tags.iter().map(|tag| format!("tag       {repository}:{tag}, a copy of {source}\n"));
        text.extend(tags);
    }
    Ok(text)
}
