//! `polyarch import`: take in what jobs on other machines have added.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use crate::diag::{Diagnostic, Result, count};
use crate::oci::{Error, ErrorKind};
use crate::record::{EpochTaken, Epochs};
use crate::transfer::{Arrived, Fault, Incoming};

use super::place::Places;
use super::workshop::Shelf;
use super::{Context, Ended};

/// What compressed files begin with, and what they are compressed with.
const PACKED: [(&[u8], &str); 2] = [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "Zstandard")];

/// Take in what `polyarch export --delta` has written on other machines
///
/// Images keep their digests, and everything is hashed again. Files may come in any order; what one of them
/// stands on must be in another, or in the store already.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch import base-amd64-default.tar
  polyarch import artifacts              every file of a folder whose name ends in .tar
  polyarch import artifacts && polyarch build leaf@linux/amd64")]
pub(super) struct Options {
    /// Files, or folders of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let files = files(&options.files)?;
    let mut places = Places::new(context)?;
    let shelf = places.shelf()?;
    let arrived = take_in(context, shelf, files).await?;
    for Arrived { job, image, is_checked, .. } in &arrived {
        let checks = if *is_checked { "" } else { ", whose checks have not passed" };
        context.ui.note(&format!("{job}: {}{checks}", image.short()));
    }
    take_epochs(context, shelf, &arrived).await?;
    context.ui.note(&format!("{} came", count(arrived.len(), "image")));
    context.ui.data(&arrived.iter().map(|arrived| format!("{}\n", arrived.job)).collect::<String>());
    Ok(Ended::Well)
}

/// Lets the refresh epochs of what has passed count in the store, and tells of what is not found there for want of that.
async fn take_epochs(context: &Context, shelf: &Shelf, arrived: &[Arrived]) -> Result<()> {
    let mut epochs = Epochs::new();
    for Arrived { job, epoch, .. } in arrived.iter().filter(|arrived| arrived.is_checked) {
        let job = job.parse().map_err(|error: Error| problem(None, error.into()))?;
        let highest = epochs.entry(job).or_default();
        *highest = (*epoch).max(*highest);
    }
    let taken = shelf.records().take_epochs(&epochs).await;
    for (job, taken) in taken.map_err(|error| problem(None, error.into()))? {
        let epoch = epochs[&job];
        match taken {
            EpochTaken::Same => {}
            EpochTaken::Begun => {
                context.ui.note(&format!("{job}: its refresh epoch {epoch} counts here now"))
            }
            EpochTaken::Other { here } => {
                let told = format!("{job} is of the refresh epoch {epoch}, and {here} counts here");
                let warning =
                    Diagnostic::warning(told).because(match (epoch > here, shelf.scope.is_trusted()) {
                        (false, _) => "only a later one takes its place",
                        (true, false) => "a scope that is not the trusted one begins none",
                        (true, true) => "nothing is refreshed that often",
                    });
                context.ui.warning(&warning.hint(format!("build it as it is here: polyarch build {job}")));
            }
        }
    }
    Ok(())
}

/// Take files into the scope of a store.
///
/// # Errors
/// Where one cannot be read, holds what it must not, or lacks what it stands on.
pub(super) async fn take_in(context: &Context, shelf: &Shelf, files: Vec<PathBuf>) -> Result<Vec<Arrived>> {
    shelf.writable()?;
    let _lease = shelf.lease().await?;
    let stopped = Arc::new(AtomicBool::new(false));
    let incoming = Incoming::new(shelf.records(), tokio::runtime::Handle::current(), stopped.clone());
    let work = move || take(incoming, &files);
    context.signals.unless_stopped_on_thread(work, || stopped.store(true, Ordering::SeqCst)).await
}

/// The files, and those in folders by their names.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        let failed = |error: std::io::Error| {
            Diagnostic::request(format!("read {}", path.display()))
                .caused_by(&error)
                .hint("name the files that `polyarch export --delta` has written, or their folder")
        };
        if !std::fs::metadata(path).map_err(failed)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let mut found: Vec<PathBuf> = { entries.map_err(failed)?.into_iter().map(|entry| entry.path()) }
            .filter(|file| file.extension().is_some_and(|end| end == "tar"))
            .collect();
        if found.is_empty() {
            let problem = Diagnostic::request(format!("no file in {} ends in .tar", path.display()));
            return Err(problem.hint("write some: polyarch export --delta --to FOLDER").into());
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn take(mut incoming: Incoming, files: &[PathBuf]) -> Result<Vec<Arrived>> {
    for path in files {
        take_one(&mut incoming, path).map_err(|fault| problem(Some(path), fault))?;
    }
    Ok(incoming.finish().map_err(|fault| problem(None, fault))?)
}

fn take_one(incoming: &mut Incoming, path: &Path) -> Result<(), Fault> {
    let mut file = BufReader::new(File::open(path).map_err(Fault::Unreadable)?);
    let start = file.fill_buf().map_err(Fault::Unreadable)?;
    let packed = PACKED.iter().find(|(magic, _)| start.starts_with(magic));
    match packed {
        Some((_, how)) => {
            Err(Fault::Foreign(format!("it is compressed with {how}, and such a file never is")))
        }
        None => incoming.read(file),
    }
}

fn problem(path: Option<&Path>, fault: Fault) -> Diagnostic {
    let what = path.map_or_else(|| "these files".to_owned(), |path| path.display().to_string());
    let doing = format!("take in {what}");
    match fault {
        Fault::Foreign(why) => Diagnostic::request(format!("{what} is no file of polyarch export --delta"))
            .because(why)
            .hint("write one where the image is built: polyarch export --delta IMAGE@PLATFORM"),
        Fault::Refused(why) => Diagnostic::request(doing)
            .because(why)
            .hint("have it written anew: polyarch export --delta IMAGE@PLATFORM"),
        Fault::Incomplete { job, missing, first } => Diagnostic::request(doing)
            .because(format!(
                "{job} stands on {}, {first} first, in no file and not in the store",
                count(missing, "blob")
            ))
            .hint("take in the files of the images that it stands on with it: polyarch import FILE FILE"),
        Fault::Unreadable(error) => Diagnostic::surroundings(doing).caused_by(&error),
        Fault::Store(error) if error.kind() == ErrorKind::Full => {
            Diagnostic::surroundings(doing).caused_by(&error).hint("make room: polyarch gc")
        }
        Fault::Store(error) => Diagnostic::surroundings(doing)
            .caused_by(&error)
            .hint("look at the store: polyarch gc --dry-run --scrub"),
        // The signal itself is what the command ends with.
        Fault::Stopped => Diagnostic::surroundings(doing).because("it was stopped"),
    }
}
