//! Whether content is what its digest says: read again, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Digest, Error, ErrorKind, Hasher, Repository, Store};

/// How many blobs are read at once.
const READS_AT_ONCE: usize = 2;

/// Reads images whole, each blob once, and tells of each that is not what it should be which manifest or blob is broken
/// or not there.
///
/// # Errors
/// Where the store fails.
pub async fn broken(
    store: &dyn Store,
    repository: &Repository,
    images: &BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Digest>, Error> {
    let mut named: BTreeMap<&Digest, Vec<Digest>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for image in images {
        // Documents are hashed as they are read.
        match store.read_document(repository, &image.clone().into()).await {
            Ok(document) => {
                let blobs = document.blobs().unwrap_or_default().into_iter().map(|blob| blob.digest);
                named.insert(image, blobs.collect());
            }
            Err(error) if is_broken(&error) => drop(found.insert(image.clone(), image.clone())),
            Err(error) => return Err(error),
        }
    }
    let blobs: BTreeSet<&Digest> = named.values().flatten().collect();
    let reads = blobs
        .into_iter()
        .map(async |blob| Ok::<_, Error>((!is_whole(store, repository, blob).await?).then(|| blob.clone())));
    let wrong: BTreeSet<Digest> = { stream::iter(reads.collect::<Vec<_>>()) }
        .buffer_unordered(READS_AT_ONCE)
        .try_filter_map(async |wrong| Ok(wrong))
        .try_collect()
        .await?;
    for (image, blobs) in named {
        let first = blobs.into_iter().find(|blob| wrong.contains(blob));
        found.extend(first.map(|blob| (image.clone(), blob)));
    }
    Ok(found)
}

async fn is_whole(store: &dyn Store, repository: &Repository, blob: &Digest) -> Result<bool, Error> {
    let mut reader = match store.read_blob(repository, blob, None).await {
        Ok(reader) => reader,
        Err(error) if is_broken(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut hasher = Hasher::new(blob.algorithm());
    while let Some(bytes) = reader.stream.next().await {
        match bytes {
            Ok(bytes) => hasher.update(&bytes),
            Err(error) if is_broken(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finish() == *blob)
}

fn is_broken(error: &Error) -> bool {
    error.is_not_found() || error.kind() == ErrorKind::Mismatch
}
