//! What stands in an archive as `docker save` writes it: Docker image specification 1.2, "Combined Image JSON +
//! Filesystem Changeset Format".
//!
//! Layers are unpacked, as engines wrote them for ten years: what reads such an archive and knows no packed layers (Docker before 23
//! knows no Zstandard, other tools no gzip) reads this one. The old `repositories` and `ID/json` are left out:
//! since Docker 1.10 `manifest.json` takes their place.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::Serialize;

use super::plan::Archive;
use super::reading::{Blobs, from_store};
use super::write::{Entry, Progress, Source, Step};
use crate::oci::{Descriptor, Digest, Error, ErrorKind, ImageConfiguration};

/// One element of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Image<'a> {
    config: String,
    repo_tags: &'a [String],
    layers: Vec<String>,
}

/// The entries of the archive of an image, small ones first.
///
/// # Errors
/// Where the store fails, or a layer is not the one that the image names.
pub(super) fn entries(
    archive: &Archive,
    blobs: &Blobs,
    threads: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> io::Result<Vec<Entry>> {
    let mut images = Vec::new();
    let (mut entries, mut there) = (Vec::new(), BTreeSet::new());
    for image in archive.images.values() {
        let manifest = blobs.document(&image.manifest.digest)?.manifest().map_err(from_store)?;
        let bytes = blobs.bytes(&manifest.config, ImageConfiguration::BYTES_LIMIT)?;
        let layers = layers(&manifest.layers, &bytes, &manifest.config)?;
        let sizes = sizes(&layers, blobs, threads, progress)?;
        let config = format!("{}.json", manifest.config.digest.hex());
        entries.push(Entry { name: config.clone(), size: bytes.len() as u64, source: Source::Bytes(bytes) });
        let name = |diff_id: &Digest| format!("{}.tar", diff_id.hex());
        images.push(Image {
            config,
            repo_tags: &archive.references,
            layers: layers.iter().map(|(_, diff_id)| name(diff_id)).collect(),
        });
        for ((layer, diff_id), size) in layers.into_iter().zip(sizes) {
            // An image may have one layer twice.
            if there.insert(diff_id.clone()) {
                entries.push(Entry { name: name(&diff_id), size, source: Source::Unpacked(layer) });
            }
        }
    }
    let manifest = serde_json::to_vec(&images).map_err(io::Error::other)?;
    let manifest = Entry {
        name: "manifest.json".to_owned(),
        size: manifest.len() as u64,
        source: Source::Bytes(manifest.into()),
    };
    entries.insert(0, manifest);
    Ok(entries)
}

/// Layers with their diffIDs, lowest first.
fn layers(
    layers: &[Descriptor],
    configuration: &[u8],
    named: &Descriptor,
) -> io::Result<Vec<(Descriptor, Digest)>> {
    let wrong = |why: String| {
        from_store(Error::new(
            ErrorKind::Invalid,
            format!("read image configuration {}: {why}", named.digest),
        ))
    };
    let configuration: ImageConfiguration =
        serde_json::from_slice(configuration).map_err(|error| wrong(error.to_string()))?;
    let diff_ids: Vec<Digest> = configuration
        .layers()
        .map(|diff_id| diff_id.parse().map_err(|error: Error| wrong(error.to_string())))
        .collect::<Result<_, _>>()?;
    match diff_ids.len() == layers.len() {
        true => Ok(layers.iter().cloned().zip(diff_ids).collect()),
        false => Err(wrong(format!("it names {} layers, its manifest {}", diff_ids.len(), layers.len()))),
    }
}

/// The sizes of layers when they are unpacked, several at once: a header that stands before them says it.
fn sizes(
    layers: &[(Descriptor, Digest)],
    blobs: &Blobs,
    threads: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> io::Result<Vec<u64>> {
    let at_most = layers.iter().map(|(layer, _)| layer.size).sum();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || {
        let mut sizes = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some((layer, diff_id)) = layers.get(at) else { return Ok(sizes) };
            sizes.push((at, blobs.unpacked_size(layer, diff_id)?));
            let bytes = done.fetch_add(layer.size, Ordering::SeqCst) + layer.size;
            progress(Progress { step: Step::Looking, bytes, at_most });
        }
    };
    let found: Vec<io::Result<Vec<(usize, u64)>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.clamp(1, layers.len().max(1))).map(|_| scope.spawn(work)).collect();
        let ended = || io::Error::other("a thread that reads layers has ended");
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(ended()))).collect()
    });
    let mut sizes = vec![0; layers.len()];
    for (at, size) in found.into_iter().collect::<io::Result<Vec<_>>>()?.into_iter().flatten() {
        sizes[at] = size;
    }
    Ok(sizes)
}
