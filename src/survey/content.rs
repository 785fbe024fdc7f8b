//! Law 3: what a record stands for is present. A store may have lost what it was told to keep.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::oci::{Descriptor, Digest, Error, ErrorKind, Repository, Store, blob_stands};
use crate::record::Records;

/// How many files or answers of a store are waited for at once.
const LOOKS_AT_ONCE: usize = 16;

/// Of the images that are not whole in the scope, the first manifest or blob that is not there. Each blob is looked at
/// once, however many images have it.
///
/// # Errors
/// Where the store fails.
pub(crate) async fn missing(
    records: &Records,
    images: BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Digest>, Error> {
    // Whoever asks a registry for a record relies on it for what the record is of.
    let here = images.into_iter().filter(|image| !records.stands_far(image)).collect();
    lacking(&**records.local(), &records.scope, here).await
}

/// The same of images that a registry's records are of: whether it still has all that it was given.
///
/// # Errors
/// Where the registry fails.
pub(crate) async fn lost(
    records: &Records,
    images: BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Digest>, Error> {
    let there = images.into_iter().filter(|image| records.stands_far(image)).collect();
    lacking(&*records.store, &records.scope, there).await
}

async fn lacking(
    store: &dyn Store,
    scope: &Repository,
    images: BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Digest>, Error> {
    let looks = images.into_iter().map(async |image| {
        let blobs = blobs(store, scope, &image).await?;
        Ok::<_, Error>((image, blobs))
    });
    let named: Vec<_> =
        stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(LOOKS_AT_ONCE).try_collect().await?;
    // Two images may disagree about the size of one blob, and then one of them is not whole.
    let every = named.iter().flat_map(|(_, blobs)| blobs.iter().flatten());
    let every: BTreeMap<(&Digest, u64), &Descriptor> =
        every.map(|blob| ((&blob.digest, blob.size), blob)).collect();
    let looks = every.into_values().map(async |blob| {
        let stands = blob_stands(store, scope, blob).await?;
        Ok::<_, Error>((!stands).then_some((&blob.digest, blob.size)))
    });
    let gone: BTreeSet<(&Digest, u64)> = { stream::iter(looks.collect::<Vec<_>>()) }
        .buffer_unordered(LOOKS_AT_ONCE)
        .try_filter_map(async |gone| Ok(gone))
        .try_collect()
        .await?;
    let of_image = |(image, blobs): &(Digest, Option<Vec<Descriptor>>)| {
        let first = match blobs {
            None => image,
            Some(blobs) => &blobs.iter().find(|blob| gone.contains(&(&blob.digest, blob.size)))?.digest,
        };
        Some((image.clone(), first.clone()))
    };
    Ok(named.iter().filter_map(of_image).collect())
}

/// What the manifest of an image names; `None` where that is not there, or is none.
async fn blobs(
    store: &dyn Store,
    scope: &Repository,
    image: &Digest,
) -> Result<Option<Vec<Descriptor>>, Error> {
    let document = match store.read_document(scope, &image.clone().into()).await {
        Ok(document) => document,
        // What was found broken is as good as absent.
        Err(error) if error.is_not_found() || error.kind() == ErrorKind::Mismatch => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(document.blobs().ok())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::oci::{Document, Layout, Manifest, MediaType, Memory, Store, fixture, image_stands};

    /// Put an image of these layers into a store.
    async fn image(records: &Records, layers: &[&str]) -> Document {
        let (store, scope) = (&*records.store, &records.scope);
        let config = fixture::blob(store, scope, MediaType::CONFIG, "{}").await;
        let mut blobs = Vec::new();
        for layer in layers {
            blobs.push(fixture::blob(store, scope, MediaType::LAYER_GZIP, layer).await);
        }
        fixture::keep(store, scope, Document::of_manifest(&Manifest::new(config, blobs)), &[]).await
    }

    #[tokio::test]
    async fn law_3_each_image_is_judged_by_the_sizes_that_it_names_itself() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let records = Records::new(store, "scopes/trusted".parse().expect("a scope"));
        let right = image(&records, &["shared"]).await;
        let mut images: BTreeSet<Digest> = [right.digest().clone()].into();
        // On both sides of the true size, so that no order lets one speak for the others.
        let mut wrong = BTreeMap::new();
        for size in [1, 99] {
            let mut manifest = right.manifest().expect("a manifest");
            manifest.layers[0].size = size;
            let other = Document::of_manifest(&manifest);
            records.store.write_document(&records.scope, &other, &[]).await.expect("taken");
            images.insert(other.digest().clone());
            wrong.insert(other.digest().clone(), Digest::of(b"shared"));
        }
        assert_eq!(missing(&records, images).await.expect("an answer"), wrong);
    }

    #[tokio::test]
    async fn law_3_a_layer_that_is_fetched_from_elsewhere_is_not_missed() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let records = Records::new(store, "scopes/trusted".parse().expect("a scope"));
        let whole = image(&records, &["here"]).await;
        let mut manifest: serde_json::Value = serde_json::from_slice(whole.bytes()).expect("JSON");
        let elsewhere = serde_json::json!({
            "mediaType": MediaType::LAYER_GZIP, "digest": Digest::of(b"there"), "size": 5,
            "urls": ["https://example.org/layer"],
        });
        manifest["layers"].as_array_mut().expect("layers").push(elsewhere);
        let image = Document::new(MediaType::MANIFEST, manifest.to_string());
        records.store.write_document(&records.scope, &image, &[]).await.expect("taken");
        let found = missing(&records, [image.digest().clone()].into()).await.expect("an answer");
        assert_eq!(found, BTreeMap::new());
        let stands = image_stands(&*records.store, &records.scope, image.digest()).await;
        assert!(stands.expect("an answer"));
    }

    #[tokio::test]
    async fn law_3_what_the_store_has_lost_is_named_and_taken_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = Arc::new(Layout::open(folder.path()).expect("a store"));
        let records = Records::new(store, "scopes/trusted".parse().expect("a scope"));
        let file = |digest: &Digest| -> PathBuf { folder.path().join("blobs/sha256").join(digest.hex()) };
        let (one, two) = (image(&records, &["shared", "1"]).await, image(&records, &["shared", "2"]).await);
        let images: BTreeSet<Digest> = [&one, &two].map(|image| image.digest().clone()).into();
        let found = async || missing(&records, images.clone()).await.expect("an answer");
        assert_eq!(found().await, BTreeMap::new());

        let (shared, last) = (Digest::of(b"shared"), Digest::of(b"2"));
        std::fs::remove_file(file(&shared)).expect("removed");
        let both = images.iter().map(|image| (image.clone(), shared.clone())).collect();
        assert_eq!(found().await, both, "a blob of two images");
        let again = image(&records, &["shared"]).await;
        assert_eq!(found().await, BTreeMap::new(), "it is there again");

        std::fs::write(file(&last), b"longer than it was").expect("broken");
        assert_eq!(found().await, BTreeMap::from([(two.digest().clone(), last.clone())]), "another size");
        assert!(!file(&last).exists(), "it is set aside");
        let _ = image(&records, &["2"]).await;
        assert_eq!(found().await, BTreeMap::new(), "and was taken again");

        std::fs::write(file(one.digest()), b"{}").expect("broken");
        std::fs::remove_file(file(two.digest())).expect("removed");
        let themselves = images.iter().map(|image| (image.clone(), image.clone())).collect();
        assert_eq!(found().await, themselves, "manifests");
        for (image, stands) in [(&one, false), (&two, false), (&again, true)] {
            let said =
                image_stands(&*records.store, &records.scope, image.digest()).await.expect("an answer");
            assert_eq!(said, stands);
        }
    }
}
