//! What a layer hides of the layers below it.
//!
//! OCI image specification 1.1, "Image Layer Filesystem Changeset": whiteouts and opaque whiteouts.

use std::collections::BTreeSet;
use std::io::{Error, Result};

/// How much a layer may hide.
const MARKS_LIMIT: usize = 4_000_000;

/// What of the layers below is no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hidden {
    /// Files and folders, with all below them.
    gone: BTreeSet<String>,
    /// Folders of which nothing of the layers below is left.
    emptied: BTreeSet<String>,
}

impl Hidden {
    /// Takes note of an entry, where that takes something away.
    ///
    /// # Errors
    /// Where it is more than any layer takes away.
    pub(super) fn note(&mut self, path: &str) -> Result<()> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == ".wh..wh..opq" {
            self.emptied.insert(folder.to_owned());
        } else if let Some(name) = name.strip_prefix(".wh.") {
            let slash = if folder.is_empty() { "" } else { "/" };
            self.gone.insert(format!("{folder}{slash}{name}"));
        }
        match self.gone.len() + self.emptied.len() > MARKS_LIMIT {
            true => Err(Error::other(format!("the layer takes away more than {MARKS_LIMIT} files"))),
            false => Ok(()),
        }
    }

    /// Something else stands at a path now, and nothing is below that.
    pub(super) fn replace(&mut self, path: &str) {
        self.gone.insert(path.to_owned());
    }

    /// Whether what the layers below have at a path is no more.
    pub(super) fn has(&self, path: &str) -> bool {
        let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        let is_in_it = |folder: &str| self.gone.contains(folder) || self.emptied.contains(folder);
        self.gone.contains(path) || self.emptied.contains("") || folders.any(is_in_it)
    }
}
