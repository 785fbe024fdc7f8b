//! An image of the store as an archive that `docker load` takes.
//!
//! It is an OCI image layout and a docker archive in one, with the same files: engines with the containerd image store
//! read `index.json`, those with the classic one `manifest.json`.

use std::fs::File;
use std::io;
use std::path::Path;

use serde_json::json;
use tar::{Builder, Header};

use super::{Stock, blob};
use crate::diag::Diagnostic;
use crate::oci::{Descriptor, Digest, Document, Error, Manifest, Repository};

/// Whether an archive has the layers of its image in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Layers {
    /// All of them.
    Brought,
    /// None: an engine with the containerd image store finds those that it has built or built upon.
    Found,
}

impl Stock {
    /// The configuration of an image of the store.
    ///
    /// # Errors
    /// Where the store fails.
    pub(in crate::engine) async fn configuration_of(
        &self,
        scope: &Repository,
        image: &Digest,
    ) -> Result<Digest, Diagnostic> {
        Ok(self.image(scope, image).await?.1.config.digest)
    }

    async fn image(&self, scope: &Repository, image: &Digest) -> Result<(Document, Manifest), Diagnostic> {
        let document = self.store.read_document(scope, &image.clone().into()).await;
        let read = document.and_then(|document| document.manifest().map(|manifest| (document, manifest)));
        read.map_err(|error: Error| {
            Diagnostic::surroundings(format!("read image {} in the store", image.short())).caused_by(&error)
        })
    }

    /// Write an image of the store into a file, for an engine to load it under a name.
    ///
    /// # Errors
    /// Where the store fails, or the file cannot be written.
    pub(in crate::engine) async fn archive(
        &self,
        scope: &Repository,
        image: &Digest,
        name: &str,
        layers: Layers,
        file: &Path,
    ) -> Result<(), Diagnostic> {
        let (document, manifest) = self.image(scope, image).await?;
        let failed = |error: io::Error| {
            Diagnostic::surroundings(format!("write {}", file.display()))
                .because(error)
                .hint("free some disk space, or choose a folder on a larger disk: --store DIR")
        };
        let (layout, path, name) = (self.folder.clone(), file.to_owned(), name.to_owned());
        let writing =
            tokio::task::spawn_blocking(move || write(&layout, &document, &manifest, &name, layers, &path));
        writing.await.map_err(io::Error::other).and_then(|written| written).map_err(failed)
    }
}

fn write(
    layout: &Path,
    document: &Document,
    manifest: &Manifest,
    name: &str,
    layers: Layers,
    file: &Path,
) -> io::Result<()> {
    let mut top = document.descriptor();
    top.annotations.insert("io.containerd.image.name".to_owned(), name.to_owned());
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    let names: Vec<String> = manifest.layers.iter().map(entry).collect();
    // The classic image store knows names with a tag only.
    let tags: Vec<&str> = Some(name).filter(|name| !name.contains('@')).into_iter().collect();
    let docker = json!([{"Config": entry(&manifest.config), "RepoTags": tags, "Layers": names}]);

    let mut archive = Builder::new(io::BufWriter::new(File::create(file)?));
    let texts = [
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        ("manifest.json".to_owned(), docker.to_string().into_bytes()),
        (entry(&document.descriptor()), document.bytes().to_vec()),
    ];
    for (path, text) in texts {
        append(&mut archive, &path, text.len() as u64, &*text)?;
    }
    let mut there = std::collections::BTreeSet::new();
    let brought = if layers == Layers::Brought { &*manifest.layers } else { &[] };
    for content in std::iter::once(&manifest.config).chain(brought) {
        if there.insert(&content.digest) {
            append(&mut archive, &entry(content), content.size, File::open(blob(layout, &content.digest))?)?;
        }
    }
    archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn append(
    archive: &mut Builder<impl io::Write>,
    path: &str,
    size: u64,
    from: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, from)
}

fn entry(content: &Descriptor) -> String {
    format!("blobs/{}/{}", content.digest.algorithm().name(), content.digest.hex())
}
