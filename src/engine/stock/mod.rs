//! The store for engines that do not reach it: its folder is an OCI image layout, out of which they are given what
//! they stand on, and what they return is taken in by digest.

mod archive;
mod result;
mod saved;
#[cfg(test)]
mod tests;

pub(super) use archive::Layers;

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::building::NO_BUILD_INFO;
use super::{BuildOrder, StoreAddress};
use crate::diag::Diagnostic;
use crate::oci::{Digest, Document, Error, Store};

/// How content comes to an engine, and its results to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It pulls from the store and pushes to it.
    Registry,
    /// Over the connection that a build is asked for by: a session of BuildKit.
    Session,
    /// As archives that are loaded and saved.
    Archives,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registry => "pulled from the store and pushed to it",
            Self::Session => "through the session of each build, since it does not reach the store",
            Self::Archives => "loaded and saved as archives, since it does not reach the store",
        })
    }
}

/// A store whose folder has the blobs.
#[derive(Clone)]
pub(crate) struct Stock {
    store: Arc<dyn Store>,
    folder: PathBuf,
}

/// The OCI layout of the store as a client sees it, below the folder of a build.
const STORE: &str = "store";
/// The OCI layout that a build returns, below the folder of a build.
const RESULT: &str = "result";

impl Stock {
    /// A store, and the OCI image layout that it is.
    pub(crate) fn new(store: Arc<dyn Store>, folder: PathBuf) -> Self {
        Self { store, folder }
    }

    /// Lay out what a build needs: the store's blobs to read, and a place for its result, in which the layers of what it
    /// stands on are already, so that they are not sent back.
    ///
    /// # Errors
    /// Where the store or the disk fails.
    pub(super) async fn lay_out(&self, order: &BuildOrder) -> Result<(), Diagnostic> {
        let failed = |error: Error| {
            Diagnostic::surroundings(format!("read what {} stands on", order.title)).caused_by(&error)
        };
        let mut layers = Vec::new();
        for image in &order.images {
            let document = self.store.read_document(&order.store.repository, &image.clone().into()).await;
            let manifest = document.and_then(|document| document.manifest()).map_err(failed)?;
            layers.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        self.links(&order.scratch, &layers).map_err(|error| {
            Diagnostic::surroundings(format!("lay out the store in {}", order.scratch.display()))
                .caused_by(&error)
        })
    }

    /// The configuration of an image of the store, whose digest is what engines call an image that they have built.
    ///
    /// # Errors
    /// Where the store does not have it.
    pub(super) async fn configuration(&self, store: &StoreAddress, image: &Digest) -> Result<Digest, Error> {
        let document = self.store.read_document(&store.repository, &image.clone().into()).await?;
        Ok(document.manifest()?.config.digest)
    }

    fn links(&self, scratch: &Path, layers: &[Digest]) -> std::io::Result<()> {
        // A try before may have left them.
        for name in [STORE, RESULT] {
            match std::fs::remove_dir_all(scratch.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.show_in(scratch)?;
        let result = scratch.join(RESULT);
        std::fs::create_dir(&result)?;
        for layer in layers {
            let link = blob(&result, layer);
            std::fs::create_dir_all(link.parent().unwrap_or(&result))?;
            match symlink(blob(&self.folder, layer), link) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Let a folder have the store in it, for a client to read.
    pub(super) fn show_in(&self, folder: &Path) -> std::io::Result<()> {
        // The client makes a folder of its own beside `blobs`: not in the store.
        let view = folder.join(STORE);
        std::fs::create_dir(&view)?;
        symlink(self.folder.join("blobs"), view.join("blobs"))
    }
}

/// The arguments by which a client gives a build an image, in a folder that the store is shown in.
pub(super) fn session_image(store: &StoreAddress, image: &Digest) -> [String; 2] {
    // The digest decides. Buildx 0.33 makes no reference of a layout without a tag, and others fill this one in.
    ["--build-context".to_owned(), format!("{}=oci-layout://{STORE}:latest@{image}", store.at(image))]
}

/// The arguments by which a client gives a build its images, and takes its result; they hold in the folder of the build.
pub(super) fn session_arguments(order: &BuildOrder) -> Vec<String> {
    let contexts = order.images.iter().flat_map(|image| session_image(&order.store, image));
    let output = format!("type=oci,dest={RESULT},tar=false,oci-mediatypes=true,{NO_BUILD_INFO}");
    contexts.chain(["--output".to_owned(), output]).collect()
}

/// The file of a blob in an OCI image layout.
fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// A file that holds a document.
fn read_document(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(Document::BYTES_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > Document::BYTES_LIMIT {
        true => Err(std::io::Error::other(format!("it has more than {} bytes", Document::BYTES_LIMIT))),
        false => Ok(bytes),
    }
}
