//! `polyarch publications` and `polyarch rollback`: what was published, and taking it back.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use crate::diag::{Diagnostic, Result, count};
use crate::event::{Event, EventKind};
use crate::publish::{Listed, Rollback, State, publications};

use super::publish::{settled_homes, target};
use super::publisher::{Moment, publisher};
use super::workshop::{Shelf, Target};
use super::workspace::Workspace;
use super::{Context, Ended, Format, recorder};

/// List the publications of a target, newest first
///
/// The newest twenty are kept, under the tag `polyarch-publications` of the family's first image, or of each image where
/// each is published by itself.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch publications
  polyarch publications --to 127.0.0.1:5000
  polyarch publications --format json | jq -r '.[0].id'")]
pub(super) struct Options {
    /// Look at this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY")]
    to: Option<String>,
    /// The form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Move the tags of a publication back to where they were before it
///
/// All of them go back, or none: where a tag was moved since, nothing is done. Tags that were not there before are
/// removed where the registry allows that, and named where it does not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch publications                            which there are
  polyarch rollback 20261121T110203Z-3fa9 --dry-run
  polyarch rollback 20261121T110203Z-3fa9")]
pub(super) struct RollbackOptions {
    /// The publication, as `polyarch publications` names it
    #[arg(value_name = "PUBLICATION")]
    publication: String,
    /// At this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY")]
    to: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let (workspace, target) = place(context, options.to.as_deref())?;
    let mut all: BTreeMap<(u64, String), Listed> = BTreeMap::new();
    let homes = settled_homes(&workspace.family, &target).await?;
    for home in homes.all() {
        for listed in publications(target.towards(), home).await? {
            // One command that publishes each image by itself has written one journal for each.
            let key = (listed.begun_seconds, listed.id.clone());
            match all.get_mut(&key) {
                Some(one) => {
                    one.images += listed.images;
                    one.tags += listed.tags;
                }
                None => drop(all.insert(key, listed)),
            }
        }
    }
    let newest_first: Vec<&Listed> = all.values().rev().collect();
    match options.format {
        Format::Json => {
            let all: Vec<_> = newest_first.into_iter().map(as_json).collect();
            context.ui.data(&format!("{:#}\n", json!(all)));
        }
        Format::Text if newest_first.is_empty() => {
            context.ui.note(&format!("nothing was published to {} yet", target.name));
        }
        Format::Text => {
            let lines: String = newest_first.into_iter().map(|one| format!("{}\n", line(one))).collect();
            context.ui.data(&lines);
        }
    }
    Ok(Ended::Well)
}

pub(super) async fn roll_back(context: &Context, options: &RollbackOptions) -> Result<Ended> {
    let (workspace, target) = place(context, options.to.as_deref())?;
    let mut found = Vec::new();
    let homes = context.signals.unless_stopped(settled_homes(&workspace.family, &target)).await?;
    for home in homes.all() {
        let preparing = Rollback::prepare(target.towards(), home, &options.publication);
        found.extend(context.signals.unless_stopped(preparing).await?);
    }
    if found.is_empty() {
        let what = format!("there is no publication `{}` at {}", options.publication, target.name);
        return Err(Diagnostic::request(what).hint("see which there are: polyarch publications").into());
    }
    if options.dry_run {
        let steps: Vec<String> = found.iter().flat_map(Rollback::steps).collect();
        context.ui.data(&steps.iter().map(|step| format!("{step}\n")).collect::<String>());
        return Ok(Ended::Well);
    }
    let ui = context.ui.clone();
    let show = move |kind: EventKind| ui.show(&Event { at_milliseconds: recorder::now(), kind });
    let mut stay = Vec::new();
    let (mut moved, mut removed) = (0, 0);
    let moment = Moment::take(context, &workspace.root).await;
    for rollback in &found {
        let mut publisher = publisher(&moment, true)?;
        // What is taken back keeps out no newer publication, and lets in no older one.
        publisher.generation = rollback.generation;
        let stop = context.signals.stop();
        let done = rollback.carry_out(target.towards(), &publisher, stop, &show).await?;
        moved += done.moved;
        removed += done.removed;
        stay.extend(done.stay);
    }
    for reference in stay {
        let warning = Diagnostic::warning(format!("{reference} stays: {} does not remove tags", target.name));
        context.ui.warning(&warning.because("the publication made it, and it points at whole content"));
    }
    let (moved, removed) = (count(moved, "tag"), count(removed, "tag"));
    context.ui.note(&format!("rolled back {}: {moved} moved back, {removed} removed", options.publication));
    Ok(Ended::Well)
}

fn place(context: &Context, to: Option<&str>) -> Result<(Workspace, Target)> {
    let workspace = Workspace::read_quietly(context, &BTreeMap::new())?;
    let shelf = Shelf::open(context, &workspace)?;
    let target = target(context, &workspace, &shelf, to)?;
    Ok((workspace, target))
}

fn line(listed: &Listed) -> String {
    let what = match &listed.rolls_back {
        Some(back) => format!("rolls back {back}"),
        None => count(listed.images, "image"),
    };
    let commit = listed.commit.as_ref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    format!("{}  {}: {what}, {}{commit}", listed.id, state(listed), count(listed.tags, "tag"))
}

fn state(listed: &Listed) -> String {
    match &listed.state {
        State::Open { .. } => "under way, or cut off".to_owned(),
        State::Done => "published".to_owned(),
        State::Undone => "refused, nothing was published".to_owned(),
        State::RolledBack(by) => format!("rolled back by {by}"),
    }
}

fn as_json(listed: &Listed) -> serde_json::Value {
    let state = match &listed.state {
        State::Open { .. } => "open",
        State::Done => "published",
        State::Undone => "undone",
        State::RolledBack(_) => "rolled-back",
    };
    json!({
        "id": listed.id,
        "state": state,
        "begun_seconds": listed.begun_seconds,
        "images": listed.images,
        "tags": listed.tags,
        "commit": listed.commit,
        "rolls_back": listed.rolls_back,
        "rolled_back_by": match &listed.state {
            State::RolledBack(by) => Some(by),
            _ => None,
        },
    })
}
