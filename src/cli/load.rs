//! `polyarch load`: put an image of the store into an engine.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::diag::{Diagnostic, Problems, Result};
use crate::family::{JobId, SCOPES};
use crate::oci::{Digest, Error, Platform, Store as _};
use crate::record::{ImageRecord, ScopeName};
use crate::run::Builder;

use super::builder_argument::BuilderArgument;
use super::plan::{Planning, What};
use super::recorder::Recorder;
use super::trust::Trust;
use super::workshop::Shelf;
use super::{Context, Ended, fleet, import, lines};

/// Put an image of the store, or of a failed run, into an engine: the one that `docker` would speak to
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch load base-notebook                the platform of this machine
  polyarch load base-notebook@linux/arm64
  polyarch load base-notebook --from pr-12           what the run of a pull request built
  polyarch load base-notebook --from ./artifact      out of the folder of its store
  polyarch load base-notebook --from base.tar        out of what polyarch export --delta wrote
  polyarch load base-notebook --builder arm-1       into the engine of a builder")]
pub(super) struct Options {
    /// The image: `image`, `image:variant` or `image@platform`
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The name that it gets; polyarch.local/IMAGE:PLATFORM where it is not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where it is: a scope of the store, the folder of another store, or a file of `polyarch export --delta`. What has
    /// been built there last of the image is taken where nothing is of the tree that is here
    #[arg(long, value_name = "SCOPE|FOLDER|FILE")]
    from: Option<PathBuf>,
    /// Into this engine instead: a builder of polyarch.toml by its name, or an engine as in `ssh://build@arm-1`
    #[arg(long, value_name = "BUILDER")]
    builder: Option<BuilderArgument>,
}

/// How many repositories of another store are looked at.
const SCOPES_LIMIT: usize = 10_000;
/// The scope that a file is taken into, of which nothing is ever trusted.
const LOADED: &str = "loaded";

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let what = What {
        images: vec![options.image.clone()],
        platform: Vec::new(),
        build_arg: Vec::new(),
        // A record stands under its key whatever the plan says.
        emulate: None,
        trust: Trust::default(),
        from: None,
    };
    let planning = context.signals.unless_stopped(Planning::make(context, &what)).await?;
    let machine: Option<Platform> = format!("linux/{}", std::env::consts::ARCH).parse().ok();
    let selected = &planning.request.selected;
    let own = selected.iter().find(|job| Some(&job.platform) == machine.as_ref());
    let job = own.or_else(|| selected.first()).ok_or_else(|| {
        Diagnostic::request(format!("there is no image `{}` here", options.image))
            .hint("see what there is: polyarch plan")
    })?;
    let (shelf, image) = found(context, options, &planning, job).await?;
    let records = shelf.records();
    let recorder = Recorder::begin(&planning.shelf.folder, context.ui.clone())?;
    let served = shelf.serve().await?;
    let scratch = recorder.run_folder().scratch;
    let ground = fleet::Ground::new(&recorder.run, &scratch, shelf.stock(), Some(served.knocks.clone()));
    let unit = job.unit.to_string().replace(':', "-");
    let name =
        options.name.clone().unwrap_or_else(|| format!("polyarch.local/{unit}:{}", job.platform.slug()));
    let wanted = options.builder.as_ref();
    let connecting = async {
        records.bring(&image.image).await.map_err(|error| unread(&error))?;
        fleet::one(context, &planning.workspace, wanted, &ground, &served.address).await
    };
    let loaded = match context.signals.unless_stopped(connecting).await {
        Ok(builder) => load(context, &builder, &recorder, &image.image, &name).await.map(|()| builder),
        Err(problems) => Err(problems),
    };
    recorder.clean();
    lines::close(&recorder.run);
    let engine = loaded?.engine.name();
    context.ui.note(&format!("{job} is in {engine}; look at it: {}", look(&engine, &name)));
    context.ui.data(&format!("{name}\n"));
    Ok(Ended::Well)
}

/// The image, and the store that it is in.
async fn found<'p>(
    context: &Context,
    options: &Options,
    planning: &'p Planning,
    job: &JobId,
) -> Result<(Cow<'p, Shelf>, ImageRecord)> {
    // Of a failed run the image stands although its checks do not: its record is found by its key.
    let key = &planning.plan.jobs[job].key;
    let Some(from) = &options.from else {
        let found = planning.shelf.records().image(key).await.map_err(|error| unread(&error))?;
        let image = found.record.ok_or_else(|| {
            Diagnostic::request(format!("{job} is not built")).hint(format!("build it: polyarch build {job}"))
        })?;
        return Ok((Cow::Borrowed(&planning.shelf), image));
    };
    let mut latest = None;
    for shelf in elsewhere(context, planning, from).await? {
        let records = shelf.records().alone();
        if let Some(image) = records.image(key).await.map_err(|error| unread(&error))?.record {
            return Ok((Cow::Owned(shelf), image));
        }
        let newest = records.newest(job).await.map_err(|error| unread(&error))?;
        let is_later = |(_, before): &(Shelf, ImageRecord), image: &ImageRecord| {
            image.built_at_seconds > before.built_at_seconds
        };
        match newest {
            Some(image) if latest.as_ref().is_none_or(|before| is_later(before, &image)) => {
                latest = Some((shelf, image));
            }
            _ => {}
        }
    }
    let (shelf, image) = latest.ok_or_else(|| {
        Diagnostic::request(format!("{} has no {job}", from.display()))
            .hint("name the scope of the run, the folder of its store, or a file of polyarch export --delta")
    })?;
    context.ui.note(&format!(
        "nothing there is of the tree that is here: taking the {job} that was built last in the scope `{}`",
        shelf.scope
    ));
    Ok((Cow::Owned(shelf), image))
}

/// The scopes that are meant: of the family's own store, or all of another.
async fn elsewhere(context: &Context, planning: &Planning, from: &Path) -> Result<Vec<Shelf>> {
    if from.is_dir() {
        let store = Shelf::open_at(context, from)?.store;
        let all = store.repositories(None, SCOPES_LIMIT).await.map_err(|error| unread(&error))?;
        let scopes = all.iter().filter_map(|name| name.as_str().strip_prefix(SCOPES)?.parse().ok());
        return scopes.map(|scope| Shelf::open_folder(from, &scope)).collect();
    }
    if from.is_file() {
        let scope = LOADED.parse().map_err(|error| unread(&error))?;
        // What it stands on may be at the registry, where nothing of it goes.
        let shelf = Shelf::open_in(context, &planning.workspace, &scope)?.keeping_here();
        import::take_in(context, &shelf, vec![from.to_owned()]).await?;
        return Ok(vec![shelf]);
    }
    let scope: ScopeName = from.to_string_lossy().parse().map_err(|error: Error| {
        Diagnostic::request(format!("load from {}: there is no such folder or file", from.display()))
            .caused_by(&error)
    })?;
    Ok(vec![Shelf::open_in(context, &planning.workspace, &scope)?])
}

fn unread(error: &Error) -> Diagnostic {
    Diagnostic::surroundings("read what was built from the store").caused_by(error)
}

/// The name stays; what the engine pulled it by does not.
async fn load(
    context: &Context,
    builder: &Builder,
    recorder: &Recorder,
    image: &Digest,
    name: &str,
) -> Result<()> {
    let engine = &builder.engine;
    let loading = async { engine.load(&builder.store, image, name).await.map_err(Problems::from) };
    let loaded = context.signals.unless_stopped(loading).await;
    let sweep = async { engine.sweep(Some(&recorder.run)).await.map(drop) };
    let swept = context.signals.clearing_away(&engine.name(), sweep).await;
    loaded?;
    Ok(swept?)
}

/// The command by which a person looks at an image in an engine.
fn look(engine: &str, image: &str) -> String {
    match engine {
        "buildah" => format!("buildah run -t $(buildah from {image}) sh"),
        "podman" => format!("podman run --rm -it {image} sh"),
        _ => format!("docker run --rm -it {image} sh"),
    }
}

#[cfg(test)]
mod tests {
    use super::look;

    #[test]
    fn an_image_is_looked_at_by_the_engine_that_has_it() {
        assert_eq!(look("podman", "a:b"), "podman run --rm -it a:b sh");
        assert_eq!(look("buildah", "a:b"), "buildah run -t $(buildah from a:b) sh");
        assert_eq!(look("docker at ssh://west", "a:b"), "docker run --rm -it a:b sh");
    }
}
