//! `polyarch export`: write images of the store into files that others load.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Args, ValueEnum};

use crate::config::{ArchiveFormat, Compression, INDEX_NAME, NameTemplate, ReferenceTemplate};
use crate::diag::{Diagnostic, Result, count};
use crate::event::{Event, EventKind};
use crate::export::{Archive, Asked, Blobs, Folder, Index, Overrides, Progress, Staged, Step, archives};
use crate::oci::{Platform, Tag};
use crate::report::size;
use crate::ui::Ui;

use super::plan::{Emulate, Planning, What};
use super::publish::{run_facts, standing};
use super::trust::Trust;
use super::{Context, Ended, delta, recorder};

/// Write images of the store into files that `docker load`, `podman load` and skopeo read
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch export                                what [[export]] in polyarch.toml says
  polyarch export --dry-run                      which files there would be
  polyarch export base-notebook --to dist        one image, one file for each of its platforms
  polyarch export base --name 'my-{image}-{tag}{suffix}.tar.gz' --tag v1
  polyarch export base --format oci --name '{image}.tar'   all platforms in one OCI layout
  polyarch export --delta base@linux/arm64 --to out        what that job added, for `polyarch import` elsewhere")]
pub(super) struct Options {
    /// Images: `image`, `image:variant`, `image@platform`, or `+image` with all that stand on it; those of `[[export]]`
    /// where none is named
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Only these platforms
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<Platform>,
    /// Only what each job has added to the images that it stands on, with its records: a file for each, which `polyarch
    /// import` takes in on another machine
    #[arg(long, conflicts_with_all = ["format", "compress", "reference", "tag"])]
    delta: bool,
    /// What kind of file: an archive as `docker save` writes it, or an OCI image layout
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// How files are compressed; as their names say, else gzip for docker and none for oci
    #[arg(long, value_enum, value_name = "HOW")]
    compress: Option<Compress>,
    /// The folder that the files are written into
    #[arg(long, value_name = "FOLDER", default_value = "exports")]
    to: PathBuf,
    /// The names of the files, with {image}, {variant}, {platform}, {suffix} and {tag}; with --delta the first three
    #[arg(long, value_name = "TEMPLATE")]
    name: Option<String>,
    /// The name of the image inside of its file, with {repository} and what --name knows; may stand several times
    #[arg(long, value_name = "TEMPLATE")]
    reference: Vec<ReferenceTemplate>,
    /// What {tag} is, whatever polyarch.toml says
    #[arg(long, value_name = "TAG")]
    tag: Option<Tag>,
    /// Only say which files there would be
    #[arg(long)]
    dry_run: bool,
    /// A build argument, as it was given to `build`
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Whether images that were made by emulation may stand, whatever polyarch.toml says
    #[arg(long, value_enum, value_name = "WHETHER")]
    emulate: Option<Emulate>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Docker,
    Oci,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compress {
    None,
    Gzip,
    Zstd,
}

/// The least time between two looks at how far a file is, in milliseconds.
const TICK_MILLISECONDS: u64 = 100;

impl Options {
    fn overrides(&self, name: Option<NameTemplate>) -> Overrides {
        Overrides {
            name,
            references: self.reference.clone(),
            tag: self.tag.clone(),
            format: self.format.map(|format| match format {
                Format::Docker => ArchiveFormat::Docker,
                Format::Oci => ArchiveFormat::Oci,
            }),
            compress: self.compress.map(|compress| match compress {
                Compress::None => Compression::None,
                Compress::Gzip => Compression::Gzip,
                Compress::Zstd => Compression::Zstd,
            }),
        }
    }

    fn what(&self) -> What {
        What {
            images: self.images.clone(),
            platform: self.platform.clone(),
            build_arg: self.build_arg.clone(),
            emulate: self.emulate,
            trust: Trust::default(),
            from: None,
        }
    }
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = context.signals.unless_stopped(Planning::make(context, &options.what())).await?;
    if options.delta {
        let (name, dry_run) = (options.name.as_deref(), options.dry_run);
        return delta::run(context, &planning, &delta::Wanted { to: &options.to, name, dry_run }).await;
    }
    let name = options.name.as_deref().map(read_name).transpose()?;
    let family = &planning.workspace.family;
    let all_are_meant = options.images.is_empty() && options.platform.is_empty();
    let asked = Asked {
        jobs: (!all_are_meant).then_some(&planning.request.selected),
        by_name: !options.images.is_empty(),
        refused: planning.plan.refused_as_emulated(),
        overrides: options.overrides(name),
    };
    let passed = standing(&planning.plan);
    let archives = archives(family, &asked, &passed, &run_facts(&planning.moment))?;
    if options.dry_run {
        let lines = archives.iter().map(|archive| format!("{}/{archive}\n", options.to.display()));
        context.ui.data(&lines.collect::<String>());
        return Ok(Ended::Well);
    }
    let folder = Folder::open(&options.to)?;
    warn_of_context(context, &planning, &options.to);
    let index = Arc::new(folder.index()?);
    let staged = staged(context, &planning, archives, &folder, &index).await;
    let mut staged = staged.inspect_err(|_| folder.leave())?;
    folder.place(&mut staged)?;
    tell(context, &folder, &staged);
    Ok(Ended::Well)
}

fn read_name(written: &str) -> Result<NameTemplate> {
    written.parse().map_err(|why| {
        let problem = Diagnostic::request(format!("`--name {written}`")).because(why);
        problem.hint("write it as '{image}-{tag}{suffix}.tar.gz'").into()
    })
}

/// Have all files ready beside their places; a signal ends it, and then nothing is left.
async fn staged(
    context: &Context,
    planning: &Planning,
    archives: Vec<Archive>,
    folder: &Folder,
    index: &Arc<Index>,
) -> Result<Vec<Staged>> {
    let (shelf, runtime) = (&planning.shelf, tokio::runtime::Handle::current());
    let blobs = Blobs::new(shelf.content(), shelf.scope.repository(), runtime);
    let (folder, index, ui) = (folder.clone(), index.clone(), context.ui.clone());
    let reading = blobs.clone();
    let work = move || {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let stage = |archive: Archive| {
            let told = Told { ui: &ui, file: archive.name.clone(), at: AtomicU64::new(0) };
            folder.stage(archive, &index, &reading, threads, &|progress| told.tell(progress))
        };
        archives.into_iter().map(stage).collect()
    };
    context.signals.unless_stopped_on_thread(work, || blobs.stop()).await
}

/// How far one file is, told not too often.
pub(super) struct Told<'a> {
    pub(super) ui: &'a Ui,
    pub(super) file: String,
    pub(super) at: AtomicU64,
}

impl Told<'_> {
    /// Shows it, where that is due.
    pub(super) fn tell(&self, progress: Progress) {
        let now = recorder::now();
        if !is_time(&self.at, now) {
            return;
        }
        let kind = EventKind::Exporting {
            file: self.file.clone(),
            looking: progress.step == Step::Looking,
            bytes: progress.bytes,
            at_most: progress.at_most,
        };
        self.ui.show(&Event { at_milliseconds: now, kind });
    }
}

/// Whether it was told long enough ago, in milliseconds; if so, that is now.
fn is_time(told_at: &AtomicU64, now: u64) -> bool {
    let before = told_at.load(Ordering::SeqCst);
    now >= before + TICK_MILLISECONDS
        && told_at.compare_exchange(before, now, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// What was written, and what stood.
fn tell(context: &Context, folder: &Folder, staged: &[Staged]) {
    let show = recorder::shown(&context.ui);
    for file in staged {
        show(EventKind::Exported { file: file.archive.name.clone(), bytes: file.size, stood: file.stood });
    }
    let bytes = staged.iter().map(|file| file.size).sum();
    let stood = staged.iter().filter(|file| file.stood).count();
    let stood = if stood == 0 { String::new() } else { format!(", {stood} of them as before") };
    context.ui.note(&format!("{} ({}){stood}", count(staged.len(), "file"), size(bytes)));
    let names = staged.iter().map(|file| file.archive.name.as_str()).chain([INDEX_NAME]);
    context.ui.data(&names.map(|name| format!("{}\n", folder.file(name).display())).collect::<String>());
}

/// Files in a folder that an image is built from change what it is built from, unless it is ignored.
fn warn_of_context(context: &Context, planning: &Planning, to: &Path) {
    let Ok(to) = to.canonicalize() else { return };
    let within = planning.workspace.family.recipes().filter(|recipe| {
        let folder = planning.workspace.root.join(&recipe.context);
        let Ok(below) = to.strip_prefix(&folder) else { return false };
        let ignored = std::fs::read_to_string(folder.join(".dockerignore")).unwrap_or_default();
        !ignored.lines().any(|line| Path::new(line.trim().trim_matches('/')) == below)
    });
    let within: Vec<String> = within.map(|recipe| format!("`{}`", recipe.unit)).collect();
    if !within.is_empty() {
        let message = format!("{} is in the build context of {}", to.display(), within.join(", "));
        let warning =
            Diagnostic::warning(message).because("a `COPY` of the whole context takes its files too");
        let hint = "write its name into .dockerignore, or choose another folder: polyarch export --to FOLDER";
        context.ui.warning(&warning.hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_all_the_time_is_told_again_and_again_and_not_too_often() {
        let told_at = AtomicU64::new(0);
        let told: Vec<u64> = (1000..1350).step_by(10).filter(|now| is_time(&told_at, *now)).collect();
        assert_eq!(told, [1000, 1100, 1200, 1300]);
    }
}
