//! What stands in an OCI image layout in a tar archive: OCI image specification 1.1, "Image Layout".
//!
//! Content is as it is in the store, with its digests. Names are in `index.json` twice: `org.opencontainers.image.ref.name` is the
//! tag, as skopeo and oras ask for it; `io.containerd.image.name` is the whole name, as containerd, Docker and Podman
//! take it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::plan::Archive;
use super::reading::{Blobs, from_store};
use super::write::Entry;
use crate::oci::{Descriptor, Document, Error, ErrorKind, ImageIndex, Reference};
use crate::publish::index_of;

const WHOLE_NAME: &str = "io.containerd.image.name";
const TAG: &str = "org.opencontainers.image.ref.name";
/// The file that says that there is a layout.
pub(crate) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The entries of a layout of images: what says what there is, then manifests, then configurations and layers.
///
/// # Errors
/// Where the store fails.
pub(super) fn entries(archive: &Archive, blobs: &Blobs) -> io::Result<Vec<Entry>> {
    let mut documents = Vec::new();
    let (mut content, mut there) = (Vec::new(), BTreeSet::new());
    for image in archive.images.values() {
        let document = blobs.document(&image.manifest.digest)?;
        let manifest = document.manifest().map_err(from_store)?;
        for blob in std::iter::once(manifest.config).chain(manifest.layers) {
            if there.insert(blob.digest.clone()) {
                content.push(Entry::stored(blob));
            }
        }
        documents.push(document);
    }
    let (first, index) = (archive.images.values().next(), index_of(archive.images.values()));
    let top = match first {
        // An image of one platform needs no index; tools look into it all the same.
        Some(image) if archive.images.len() == 1 => image.manifest.clone(),
        _ => {
            let descriptor = index.descriptor();
            documents.insert(0, index);
            descriptor
        }
    };
    let list = list(archive, &top)?;
    let mut entries = vec![Entry::of("oci-layout", LAYOUT), Entry::of("index.json", list.bytes().clone())];
    let documents = documents.into_iter().filter(|document| there.insert(document.digest().clone()));
    entries.extend(documents.map(|document| Entry::document(&document)));
    entries.extend(content);
    Ok(entries)
}

/// `index.json`: the image once for each of its names, or once without.
fn list(archive: &Archive, top: &Descriptor) -> io::Result<Document> {
    let mut manifests = Vec::new();
    for name in &archive.references {
        let reference: Reference = name.parse().map_err(from_store)?;
        let Some(tag) = reference.tag() else {
            return Err(from_store(Error::new(ErrorKind::Invalid, format!("`{name}` has no tag"))));
        };
        let annotations = BTreeMap::from([
            (WHOLE_NAME.to_owned(), reference.to_string()),
            (TAG.to_owned(), tag.to_string()),
        ]);
        manifests.push(Descriptor { annotations, ..top.clone() });
    }
    if manifests.is_empty() {
        manifests.push(top.clone());
    }
    Ok(Document::of_index(&ImageIndex::new(manifests)))
}
