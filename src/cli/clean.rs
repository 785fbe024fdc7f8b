//! `polyarch clean`: remove what runs that are over have left in engines, in the store and on this machine.

use clap::Args;
use futures_util::future::join_all;

use crate::diag::{Diagnostic, Problems, Result, count};
use crate::engine::{RunId, StoreAddress};
use crate::run::{self, Builder};

use super::debris::Dead;
use super::workshop::Shelf;
use super::workspace::Workspace;
use super::{Context, Ended, fleet, lines, recorder};

/// Remove what runs that are over have left behind: containers, image names, files of jobs
#[derive(Debug, Args)]
#[command(
    after_help = "Every build does this too, for its own builders, before it begins. What a run of another machine left is not
touched, nor anything that no run of polyarch has made.

Examples:
  polyarch clean                                   this machine, and the builders of polyarch.toml
  polyarch clean --dry-run                         only say what would be removed
  polyarch clean --builder ssh://build@arm-1       an engine that is not in polyarch.toml"
)]
pub(super) struct Options {
    #[command(flatten)]
    fleet: fleet::Wanted,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let workspace = Workspace::read(context, &std::collections::BTreeMap::new())?;
    let shelf = Shelf::open(context, &workspace)?;
    shelf.writable()?;
    let over = |run: &RunId| recorder::is_over(&shelf.folder, run);
    let tags = match options.dry_run {
        true => run::count_tags(&shelf.records(), over).await,
        false => {
            recorder::sweep_dead(&shelf.folder);
            lines::sweep();
            run::sweep_tags(&shelf.records(), over).await
        }
    };
    let tags = tags.map_err(|error| {
        Diagnostic::surroundings("remove the tags of builds from the store").caused_by(&error)
    })?;
    let recorder = recorder::Recorder::begin(&shelf.folder, context.ui.clone())?;
    let scratch = recorder.run_folder().scratch;
    let mut dead = Dead::of(&shelf.folder);
    if !options.dry_run {
        context.signals.unless_stopped(dead.end_uploads(&shelf.store)).await?;
    }
    let over = dead.of_this_machine.clone();
    let ground =
        fleet::Ground { run: &recorder.run, scratch: &scratch, stock: shelf.stock(), over, knocks: None };
    let served = shelf.serve().await?;
    let cleaning = async {
        let (root, configured) = (&workspace.root, &workspace.builders);
        let (builders, problems) =
            fleet::each(context, root, configured, &options.fleet, &ground, &served.address).await?;
        Problems::check(fleet::twins(&builders))?;
        let mut problems: Vec<_> = problems.into_values().collect();
        let addresses = fleet::addresses(context, configured, &options.fleet)?;
        let former = dead.former(&served.address);
        let sweeps = builders.iter().map(async |builder| match options.dry_run {
            true => named(builder, &former.stores(builder, &addresses)).await,
            false => former.sweep(builder, &addresses).await,
        });
        let (mut text, mut clean) = (String::new(), Vec::new());
        for (builder, swept) in builders.iter().zip(join_all(sweeps).await) {
            match swept {
                Ok(removed) => {
                    clean.push(&*builder.name);
                    removed.iter().for_each(|what| text.push_str(&format!("{}: {what}\n", builder.name)));
                }
                Err(problem) => problems.push(problem),
            }
        }
        context.ui.data(&text);
        if !options.dry_run {
            dead.are_swept(&addresses.of(clean));
        }
        Problems::check(problems).map(|()| !text.is_empty())
    };
    let cleaned = context.signals.unless_stopped(cleaning).await;
    recorder.discard();
    lines::close(&recorder.run);
    let done = if options.dry_run { "would be removed" } else { "removed" };
    if tags > 0 {
        context.ui.note(&format!("store: {} of builds {done}", count(tags, "tag")));
    }
    // What answers is clean; what does not is told of.
    let is_something = cleaned? || tags > 0;
    match (options.dry_run, is_something) {
        (false, _) => context.ui.note("clean"),
        (true, false) => context.ui.note("there is nothing to remove"),
        (true, true) => context.ui.next("to remove that: polyarch clean"),
    }
    Ok(Ended::Well)
}

/// What runs that are over have left on a builder, which finds the store at these addresses or did so.
async fn named(builder: &Builder, stores: &[&StoreAddress]) -> Result<Vec<String>, Diagnostic> {
    let mut left = Vec::new();
    for store in stores {
        left.extend(builder.engine.leftovers(store).await?);
    }
    // What does not go by the address is named with each.
    left.sort();
    left.dedup();
    Ok(left)
}
