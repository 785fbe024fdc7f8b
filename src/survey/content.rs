//! Law 3: what a record stands for is present. A store may have lost what it was told to keep.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::oci::{Descriptor, Digest, Document, Error, ErrorKind, Repository, Store, blob_stands};
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
    let here = images.into_iter().filter(|image| !records.stands_far(image));
    let here = here.map(|image| (image, records.scope.clone())).collect();
    let scope = Scope { store: &**records.local(), repository: &records.scope, brings: None };
    scope.lacking(here, |_| {}).await
}

/// The same of images that a registry's records are of: whether it still has all that it was given. Their manifests are
/// remembered. Blobs that are to be brought into the run's own scope there come with the look, where that tells as much.
///
/// # Errors
/// Where the registry fails.
pub(crate) async fn lost(
    records: &Records,
    images: BTreeSet<Digest>,
    brings: bool,
) -> Result<BTreeMap<Digest, Digest>, Error> {
    let there = images.into_iter().filter_map(|image| records.place_of(&image).map(|place| (image, place)));
    let brings = brings.then_some(records);
    let scope = Scope { store: &*records.store, repository: &records.scope, brings };
    scope.lacking(there.collect(), |manifest| records.has_read_manifest(manifest)).await
}

/// Where content is looked for.
#[derive(Clone, Copy)]
struct Scope<'a> {
    store: &'a dyn Store,
    repository: &'a Repository,
    /// Whose own scope gets what is looked for.
    brings: Option<&'a Records>,
}

impl Scope<'_> {
    /// Of images, each with the repository that it is looked for in first, what is not there.
    async fn lacking(
        self,
        images: BTreeMap<Digest, Repository>,
        read: impl Fn(&Document),
    ) -> Result<BTreeMap<Digest, Digest>, Error> {
        let looks = images.into_iter().map(async |(image, place)| {
            let manifest = self.manifest(&image, &place).await?;
            Ok::<_, Error>((image, place, manifest))
        });
        let found: Vec<_> =
            stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(LOOKS_AT_ONCE).try_collect().await?;
        let mut named = Vec::new();
        for (image, place, manifest) in found {
            manifest.iter().for_each(&read);
            named.push((image, place, manifest.and_then(|manifest| manifest.blobs().ok())));
        }
        // Two images may disagree about the size of one blob, and then one of them is not whole.
        let mut every: BTreeMap<(&Digest, u64), (&Repository, &Descriptor)> = BTreeMap::new();
        for (_, place, blobs) in &named {
            let blobs = blobs.iter().flatten();
            every.extend(blobs.map(|blob| ((&blob.digest, blob.size), (place, blob))));
        }
        let looks = every.into_values().map(async |(place, blob)| {
            let stands = self.stands(blob, place).await?;
            Ok::<_, Error>((!stands).then_some((&blob.digest, blob.size)))
        });
        let gone: BTreeSet<(&Digest, u64)> = { stream::iter(looks.collect::<Vec<_>>()) }
            .buffer_unordered(LOOKS_AT_ONCE)
            .try_filter_map(async |gone| Ok(gone))
            .try_collect()
            .await?;
        let of_image = |(image, _, blobs): &(Digest, Repository, Option<Vec<Descriptor>>)| {
            let first = match blobs {
                None => image,
                Some(blobs) => &blobs.iter().find(|blob| gone.contains(&(&blob.digest, blob.size)))?.digest,
            };
            Some((image.clone(), first.clone()))
        };
        Ok(named.iter().filter_map(of_image).collect())
    }

    /// The manifest of an image; `None` where that is nowhere.
    async fn manifest(self, image: &Digest, place: &Repository) -> Result<Option<Document>, Error> {
        for place in self.from(place) {
            match self.store.read_document(place, &image.clone().into()).await {
                Ok(document) => return Ok(Some(document)),
                // What was found broken is as good as absent.
                Err(error) if error.is_not_found() || error.kind() == ErrorKind::Mismatch => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn stands(self, blob: &Descriptor, place: &Repository) -> Result<bool, Error> {
        if let Some(records) = self.brings
            && records.brings_whole(blob, place).await?
        {
            return Ok(true);
        }
        for place in self.from(place) {
            if blob_stands(self.store, place, blob).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A place, and the scope after it.
    fn from<'b>(&'b self, place: &'b Repository) -> impl Iterator<Item = &'b Repository> {
        std::iter::once(place).chain((place != self.repository).then_some(self.repository))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::oci::watched::Watched;
    use crate::oci::{Layout, Manifest, MediaType, Memory, Store, fixture, image_stands};
    use crate::record::{ImageRecord, RECORD_VERSION, ScopeName};

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

    /// Whoever promotes looks at a registry that everything is there, and asks for each part of it once.
    #[tokio::test]
    async fn law_3_what_a_registry_has_is_looked_for_once_where_its_record_stands() {
        let (shared, pull) = (Memory::new(), "pr-1".parse().expect("a scope"));
        let at = |store: Arc<dyn Store>, scope: &ScopeName| {
            let folder = Records::of_scope(Arc::new(Memory::new()), scope);
            folder.at_registry(store, &"cache".parse().expect("a name")).expect("records")
        };
        let wrote = at(Arc::new(shared.clone()), &pull);
        let made = image(&wrote, &["one", "two"]).await;
        let record = ImageRecord {
            version: RECORD_VERSION,
            job: "base@linux/amd64".to_owned(),
            key: Digest::of(b"key"),
            inputs: BTreeMap::new(),
            platform: "linux/amd64".parse().expect("a platform"),
            image: made.digest().clone(),
            size: made.bytes().len() as u64,
            config: made.manifest().expect("a manifest").config.digest,
            bytes: 6,
            parents: BTreeMap::new(),
            builder: "local".to_owned(),
            emulated: false,
            cached: false,
            built_at_seconds: 1,
            milliseconds: 2,
        };
        wrote.keep_image(&record).await.expect("kept");

        let watched = Arc::new(Watched::new(shared.clone()));
        let records = at(watched.clone(), &ScopeName::trusted()).before(&pull);
        assert!(records.image(&record.key).await.expect("read").record.is_some());
        let (before, images) = (watched.calls(), BTreeSet::from([made.digest().clone()]));
        assert_eq!(lost(&records, images.clone(), false).await.expect("an answer"), BTreeMap::new());
        assert_eq!(watched.calls() - before, 4, "a manifest and three blobs");

        let (before, pointer) = (watched.calls(), made.digest().clone().into());
        let read = records.content().read_document(&records.scope, &pointer).await;
        assert_eq!(read.expect("at hand"), made);
        assert_eq!(watched.calls() - before, 0, "its bytes are known");

        let before = watched.calls();
        assert_eq!(lost(&records, images.clone(), true).await.expect("an answer"), BTreeMap::new());
        assert_eq!(watched.calls() - before, 4, "the same, and the blobs are where they are to be");
        let own = "cache/scopes/trusted".parse().expect("a name");
        for blob in made.blobs().expect("blobs") {
            assert_eq!(shared.blob_size(&own, &blob.digest).await.expect("a look"), Some(blob.size));
        }

        let there = "cache/scopes/pr-1".parse().expect("a name");
        shared.remove_document(&there, made.digest()).await.expect("removed");
        let gone = BTreeMap::from([(made.digest().clone(), made.digest().clone())]);
        for brings in [false, true] {
            let answer = lost(&records, images.clone(), brings).await.expect("an answer");
            assert_eq!(answer, gone, "known, and not there");
        }
    }
}
