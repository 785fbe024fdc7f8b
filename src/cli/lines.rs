//! The folders for the sockets of connections, in the one for temporary files, and what is left of them.

use std::path::PathBuf;

use crate::diag::Diagnostic;
use crate::engine::RunId;

use super::recorder;

/// What the folders of connections are called, before the run.
const LINES: &str = "polyarch-";
/// What follows the run in the name of a temporary folder.
const SCRATCH: &str = ".";
/// How long the name of such a folder may be: the names of sockets in it have room for 107 bytes, and ssh wants some.
const FOLDER_BYTES: usize = 78;

/// A folder of one connection of a run, private.
///
/// # Errors
/// Where its name is too long for sockets, or it cannot be made.
pub(super) fn folder(run: &RunId, number: usize) -> Result<PathBuf, Diagnostic> {
    let folder = std::env::temp_dir().join(format!("{LINES}{run}")).join(number.to_string());
    if folder.as_os_str().len() > FOLDER_BYTES {
        let problem = format!("the name {} is too long for the sockets of a connection", folder.display());
        return Err(
            Diagnostic::surroundings(problem).hint("choose a folder with a short name: export TMPDIR=/tmp")
        );
    }
    crate::engine::private_folder(&folder).map_err(|error| {
        Diagnostic::surroundings(format!("make the folder {}", folder.display())).caused_by(&error)
    })?;
    Ok(folder)
}

/// How the name of a temporary folder of a run begins that has no folder in a store.
pub(super) fn scratch_prefix(run: &RunId) -> String {
    format!("{LINES}{run}{SCRATCH}")
}

/// Remove what connections of runs that are over have left, and temporary folders of those that have none in a store.
pub(super) fn sweep() {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix(LINES)).map(|name| {
            let run = name.split_once(SCRATCH).map_or(name, |(run, _)| run);
            RunId(run.to_owned())
        });
        if run.is_some_and(|run| run.is_over(true)) {
            // Another user's stays, and so does a link in its place.
            recorder::remove_own(&entry.path());
        }
    }
}

/// Remove what the connections of this run have left.
pub(super) fn close(run: &RunId) {
    recorder::remove_own(&std::env::temp_dir().join(format!("{LINES}{run}")));
}
