//! `index.json`, the list by which other tools find images in the folder; made from the tags, never read back.
//!
//! A file beside the repositories says that a tag has moved since it was written, so that a run which was killed
//! leaves word for the next one (F-S4). It is removed before the tags are read: a tag that moves in between puts
//! it back, and the list is at worst written once more than needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folders::{self, Folders};
use super::shelf::Shelf;
use crate::oci::{Descriptor, Digest, Document, Error, ImageIndex, Repository};

const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
const BYTES_LIMIT: u64 = 1 << 30;

fn list(folders: &Folders) -> PathBuf {
    folders.root().join("index.json")
}

fn stale_mark(folders: &Folders) -> PathBuf {
    folders.repositories().join("_stale")
}

/// Leave word that tags move.
pub(super) fn mark_stale(folders: &Folders) -> Result<(), Error> {
    folders.hint(&stale_mark(folders))
}

/// Whether the list has to be written again: it is missing, torn, or a run has left word.
pub(super) fn is_stale(folders: &Folders) -> Result<bool, Error> {
    if folders::is_file(&stale_mark(folders))? {
        return Ok(true);
    }
    let whole = folders::read(&list(folders), BYTES_LIMIT)?.is_some_and(|bytes| bytes.ends_with(b"}\n"));
    Ok(!whole)
}

/// Write the list anew, whole or not at all.
pub(super) fn write(folders: &Folders) -> Result<(), Error> {
    let _lock = folders.lock(&folders.repositories())?;
    folders.remove(&stale_mark(folders))?;
    let written = manifests(folders).and_then(|manifests| {
        let index = ImageIndex::new(manifests);
        // The end of a line is the end of the list: a torn one has none.
        let mut bytes = Document::of_index(&index).bytes().to_vec();
        bytes.push(b'\n');
        folders.replace(&list(folders), &bytes)
    });
    if written.is_err() {
        mark_stale(folders)?;
    }
    written
}

fn manifests(folders: &Folders) -> Result<Vec<Descriptor>, Error> {
    let mut manifests = Vec::new();
    for repository in repositories(folders)? {
        let shelf = Shelf::quiet(folders, &repository);
        for tag in shelf.tags()? {
            // What cannot be read is the business of whoever asks for it, not of the list.
            if let Ok(Some(mut target)) = shelf.resolve(&tag.clone().into()) {
                target.annotations.insert(NAME_ANNOTATION.to_owned(), format!("{repository}:{tag}"));
                manifests.push(target);
            }
        }
    }
    Ok(manifests)
}

/// All repositories that hold documents, in order.
pub(super) fn repositories(folders: &Folders) -> Result<BTreeSet<Repository>, Error> {
    repositories_where(folders, |shelf| shelf.holds_documents())
}

/// All repositories that hold a blob, in order.
pub(super) fn holders(folders: &Folders, digest: &Digest) -> Result<Vec<Repository>, Error> {
    if !folders::is_file(&folders.blob(digest))? {
        return Ok(Vec::new());
    }
    let found = repositories_where(folders, |shelf| Ok(shelf.blob(digest)?.is_some()))?;
    Ok(found.into_iter().collect())
}

fn repositories_where(
    folders: &Folders,
    is_wanted: impl Fn(&Shelf<'_>) -> Result<bool, Error>,
) -> Result<BTreeSet<Repository>, Error> {
    let mut found = BTreeSet::new();
    for repository in all_repositories(folders)? {
        if is_wanted(&Shelf::quiet(folders, &repository))? {
            found.insert(repository);
        }
    }
    Ok(found)
}

/// All repositories that have a folder, whatever they hold.
pub(super) fn all_repositories(folders: &Folders) -> Result<BTreeSet<Repository>, Error> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![folders.repositories()];
    while let Some(folder) = waiting.pop() {
        if !folders.is_there(&folder)? {
            continue;
        }
        for name in folders::names(&folder)?.iter().filter(|name| !name.starts_with('_')) {
            let inner = folder.join(name);
            let Some(repository) = repository_of(folders, &inner) else { continue };
            if inner.symlink_metadata().is_ok_and(|kind| kind.is_dir()) {
                found.insert(repository);
                waiting.push(inner);
            }
        }
    }
    Ok(found)
}

fn repository_of(folders: &Folders, folder: &Path) -> Option<Repository> {
    folder.strip_prefix(folders.repositories()).ok()?.to_str()?.parse().ok()
}
