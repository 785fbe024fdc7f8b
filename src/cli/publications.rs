//! `polyarch publications` and `polyarch rollback`: what was published, and taking it back.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::diag::{Diagnostic, Result, count};
use crate::publish::{Listed, Rollback, State, publications};

use super::publish::{settled_homes, target};
use super::publisher::{Moment, is_cut_off, publisher};
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
/// removed where the registry allows that; where it does not they are named, and the exit code is 1.
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
    let mut all: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
    let homes = settled_homes(&workspace.family, &target).await?;
    for home in homes.all() {
        for listed in publications(target.towards(), home).await? {
            all.entry(listed.id.clone()).or_default().push(listed);
        }
    }
    let mut newest_first: Vec<Several> = all.into_values().filter_map(Several::of).collect();
    newest_first.sort_by_key(|one| std::cmp::Reverse((one.first.begun_seconds, one.first.id.clone())));
    match options.format {
        Format::Json => {
            let all: Vec<_> = newest_first.iter().map(as_json).collect();
            context.ui.data(&format!("{:#}\n", json!(all)));
        }
        Format::Text if newest_first.is_empty() => {
            context.ui.note(&format!("nothing was published to {} yet", target.name));
        }
        Format::Text => {
            let lines: String = newest_first.iter().map(|one| format!("{}\n", line(one))).collect();
            context.ui.data(&lines);
        }
    }
    Ok(Ended::Well)
}

pub(super) async fn roll_back(context: &Context, options: &RollbackOptions) -> Result<Ended> {
    context.refuse_untrusted("rolling back")?;
    let (workspace, target) = place(context, options.to.as_deref())?;
    let mut found = Vec::new();
    let homes = context.signals.unless_stopped(settled_homes(&workspace.family, &target)).await?;
    for home in homes.all() {
        let preparing = Rollback::prepare(target.towards(), &homes, home, &options.publication);
        found.extend(context.signals.unless_stopped(preparing).await?);
    }
    if found.is_empty() {
        let what = format!("there is no publication `{}` at {}", options.publication, target.name);
        return Err(Diagnostic::request(what).hint("see which there are: polyarch publications").into());
    }
    if found.iter().all(|rollback| rollback.is_done) {
        context.ui.note(&format!("{} was taken back before: nothing is left to do", options.publication));
        return Ok(Ended::Well);
    }
    if options.dry_run {
        let steps: Vec<String> = found.iter().flat_map(Rollback::steps).collect();
        context.ui.data(&steps.iter().map(|step| format!("{step}\n")).collect::<String>());
        if !target.own && found.iter().any(Rollback::removes) {
            let name = &target.name;
            context
                .ui
                .note(&format!("where {name} does not remove tags, those stay, and the exit code is 1"));
        }
        return Ok(Ended::Well);
    }
    let show = recorder::shown(&context.ui);
    let (mut stay, mut immutable) = (Vec::new(), Vec::new());
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
        immutable.extend(done.immutable);
    }
    for reference in immutable {
        context.ui.warning(&Diagnostic::warning(format!("{reference} stays: it is immutable")));
    }
    let (id, moved, removed) = (&options.publication, count(moved, "tag"), count(removed, "tag"));
    context.ui.note(&format!("rolled back {id}: {moved} moved back, {removed} removed"));
    match stay.is_empty() {
        true => Ok(Ended::Well),
        false => {
            context.ui.warning(&staying(&stay, &target.name));
            Ok(Ended::With(1))
        }
    }
}

/// What the target does not let go, in one warning.
fn staying(tags: &[String], target: &str) -> Diagnostic {
    let message = format!("{} of it stay: {target} does not remove tags", count(tags.len(), "tag"));
    let warning = Diagnostic::warning(message).because("the publication made them, of whole content");
    tags.iter().fold(warning, |warning, tag| warning.because(tag))
}

fn place(context: &Context, to: Option<&str>) -> Result<(Arc<Workspace>, Target)> {
    let workspace = Workspace::read_quietly(context, &BTreeMap::new())?;
    let shelf = Shelf::look(context, &workspace)?;
    let target = target(context, &workspace, &shelf, to)?;
    Ok((workspace, target))
}

/// What one command has published: one journal, or where each image is published by itself one for each repository.
struct Several {
    /// The first of them, with the images and tags of all.
    first: Listed,
    /// Their states, each once.
    states: Vec<State>,
}

impl Several {
    fn of(mut all: Vec<Listed>) -> Option<Self> {
        all.sort_by_key(|one| one.begun_seconds);
        let mut states: Vec<State> = Vec::new();
        for one in &all {
            if states.iter().all(|state| state_name(state) != state_name(&one.state)) {
                states.push(one.state.clone());
            }
        }
        let images = all.iter().map(|one| one.images).sum();
        let tags = all.iter().map(|one| one.tags).sum();
        let first = all.into_iter().next()?;
        Some(Self { first: Listed { images, tags, ..first }, states })
    }
}

fn line(several: &Several) -> String {
    let listed = &several.first;
    let what = match &listed.rolls_back {
        Some(back) => format!("rolls back {back}"),
        None => count(listed.images, "image"),
    };
    let state = match &several.states[..] {
        [state] => state_words(state),
        states => {
            let parts = states.iter().map(|state| format!("in part {}", state_words(state)));
            parts.collect::<Vec<_>>().join("; ")
        }
    };
    let commit = listed.commit.as_ref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    format!("{}  {state}: {what}, {}{commit}", listed.id, count(listed.tags, "tag"))
}

fn state_words(state: &State) -> String {
    match state {
        State::Open { until_seconds, holder } if is_cut_off(*until_seconds, holder) => "cut off".to_owned(),
        State::Open { .. } => "under way, or cut off".to_owned(),
        State::Done => "published".to_owned(),
        State::Undone => "refused, nothing was published".to_owned(),
        State::RolledBack(by) => format!("rolled back by {by}"),
    }
}

fn state_name(state: &State) -> &'static str {
    match state {
        State::Open { .. } => "open",
        State::Done => "published",
        State::Undone => "undone",
        State::RolledBack(_) => "rolled-back",
    }
}

fn as_json(several: &Several) -> serde_json::Value {
    let listed = &several.first;
    let state = match &several.states[..] {
        [state] => state_name(state),
        _ => "mixed",
    };
    let rolled_back_by = several.states.iter().find_map(|state| match state {
        State::RolledBack(by) => Some(by),
        _ => None,
    });
    json!({
        "id": listed.id,
        "state": state,
        "begun_seconds": listed.begun_seconds,
        "images": listed.images,
        "tags": listed.tags,
        "commit": listed.commit,
        "rolls_back": listed.rolls_back,
        "rolled_back_by": rolled_back_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Generation;

    fn listed(begun_seconds: u64, images: usize, state: State) -> Listed {
        let id = "20261121T110203Z-3fa9".to_owned();
        let generation = Generation::default();
        let (rolls_back, commit, digest) = (None, None, None);
        Listed { id, state, generation, begun_seconds, images, tags: 3, rolls_back, commit, digest, size: 0 }
    }

    #[test]
    fn what_one_command_has_published_image_by_image_is_one_line() {
        let all = vec![listed(7, 2, State::Done), listed(5, 1, State::Done)];
        let several = Several::of(all).expect("there are two");
        assert_eq!(line(&several), "20261121T110203Z-3fa9  published: 3 images, 6 tags");
        assert_eq!(as_json(&several)["begun_seconds"], 5);
        let back = State::RolledBack("b".to_owned());
        let several = Several::of(vec![listed(5, 1, State::Done), listed(7, 1, back)]).expect("two");
        assert!(line(&several).contains("  in part published; in part rolled back by b: 2 images"));
        assert_eq!(
            (&as_json(&several)["state"], &as_json(&several)["rolled_back_by"]),
            (&"mixed".into(), &"b".into())
        );
    }
}
