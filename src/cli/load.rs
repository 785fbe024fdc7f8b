//! `polyarch load`: put an image of the store into the engine of this machine.

use clap::Args;

use crate::diag::{Diagnostic, Problems, Result};
use crate::oci::Platform;

use super::plan::{Planning, What};
use super::recorder::Recorder;
use super::{Context, Ended, workshop};

/// Put an image of the store, or of a failed run, into the engine of this machine
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch load base-notebook                the platform of this machine
  polyarch load base-notebook@linux/arm64")]
pub(super) struct Options {
    /// The image: `image`, `image:variant` or `image@platform`
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The name that it gets; polyarch.local/IMAGE:PLATFORM where it is not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let what = What {
        images: vec![options.image.clone()],
        platform: Vec::new(),
        build_arg: Vec::new(),
        // A record stands under its key whatever the plan says.
        emulate: None,
    };
    let planning = context.signals.unless_stopped(Planning::make(context, &what)).await?;
    let machine: Option<Platform> = format!("linux/{}", std::env::consts::ARCH).parse().ok();
    let selected = &planning.request.selected;
    let own = selected.iter().find(|job| Some(&job.platform) == machine.as_ref());
    let job = own.or_else(|| selected.first()).ok_or_else(|| {
        Diagnostic::request(format!("there is no image `{}` here", options.image))
            .hint("see what there is: polyarch plan")
    })?;
    // Of a failed run the image stands although its checks do not: its record is found by its key.
    let records = planning.shelf.records();
    let image = records
        .image(&planning.plan.jobs[job].key)
        .await
        .map_err(|error| Diagnostic::surroundings("read the records in the store").caused_by(&error))?
        .record
        .ok_or_else(|| {
            Diagnostic::request(format!("{job} is not built")).hint(format!("build it: polyarch build {job}"))
        })?;
    let recorder = Recorder::begin(&planning.shelf.folder, context.ui.clone())?;
    let served = planning.shelf.serve().await?;
    let engine = workshop::local_engine(context, &recorder.run_folder().scratch, None);
    let unit = job.unit.to_string().replace(':', "-");
    let name =
        options.name.clone().unwrap_or_else(|| format!("polyarch.local/{unit}:{}", job.platform.slug()));
    let loading = async {
        engine.probe().await?;
        engine.load(&served.address, &image.image, &name).await.map_err(Problems::from)
    };
    let loaded = context.signals.unless_stopped(loading).await;
    // The name stays; what the engine pulled it by does not.
    let sweep = async { engine.sweep(Some(&recorder.run)).await.map(drop) };
    let swept = context.signals.clearing_away(&engine.name(), sweep).await;
    recorder.clean();
    loaded?;
    swept?;
    context.ui.note(&format!("{job} is in the engine; look at it: docker run --rm -it {name} sh"));
    context.ui.data(&format!("{name}\n"));
    Ok(Ended::Well)
}
