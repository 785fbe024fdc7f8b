//! `polyarch clean`: remove what runs that are over have left in engines, in the store and on this machine.

use clap::Args;
use futures_util::future::join_all;

use crate::diag::{Diagnostic, Problems, Result, count};
use crate::engine::RunId;
use crate::run;

use super::workshop::Shelf;
use super::workspace::Workspace;
use super::{Context, Ended, fleet, recorder};

/// Remove what runs that are over have left behind: containers, image names, files of jobs
#[derive(Debug, Args)]
#[command(
    after_help = "Every build does this too, for its own builders, before it begins. What a run of another machine left is not
touched, nor anything that no run of polyarch has made.

Examples:
  polyarch clean                                   this machine, and the builders of polyarch.toml
  polyarch clean --builder ssh://build@arm-1       an engine that is not in polyarch.toml"
)]
pub(super) struct Options {
    #[command(flatten)]
    fleet: fleet::Wanted,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let workspace = Workspace::read(context, &std::collections::BTreeMap::new())?;
    let shelf = Shelf::open(context, &workspace)?;
    shelf.writable()?;
    recorder::sweep_dead(&shelf.folder);
    fleet::sweep_lines();
    let over = |run: &RunId| recorder::is_over(&shelf.folder, run);
    let tags = run::sweep_tags(&shelf.records(), over).await.map_err(|error| {
        Diagnostic::surroundings("remove the tags of builds from the store").caused_by(&error)
    })?;
    let recorder = recorder::Recorder::begin(&shelf.folder, context.ui.clone())?;
    let scratch = recorder.run_folder().scratch;
    let ground = fleet::Ground { run: &recorder.run, scratch: &scratch, stock: shelf.stock() };
    let served = shelf.serve().await?;
    let cleaning = async {
        let builders = fleet::connect(context, &workspace, &options.fleet, &ground, &served.address).await?;
        let sweeps = builders.iter().map(async |builder| {
            let mut removed = builder.engine.sweep(None).await?;
            removed.extend(builder.engine.sweep_pulled(&builder.store).await?);
            Ok::<_, Diagnostic>((builder.name.clone(), removed))
        });
        let (mut text, mut problems) = (String::new(), Vec::new());
        for swept in join_all(sweeps).await {
            match swept {
                Ok((name, removed)) => {
                    removed.iter().for_each(|what| text.push_str(&format!("{name}: {what}\n")));
                }
                Err(problem) => problems.push(problem),
            }
        }
        context.ui.data(&text);
        Problems::check(problems)
    };
    let cleaned = context.signals.unless_stopped(cleaning).await;
    recorder.discard();
    fleet::close_lines(&recorder.run);
    cleaned?;
    if tags > 0 {
        context.ui.note(&format!("store: {} of builds removed", count(tags, "tag")));
    }
    context.ui.note("clean");
    Ok(Ended::Well)
}
