//! What jobs leave behind: records under keys, kept in the store as ordinary OCI content.
//!
//! The repository of a scope holds, beside the images: `image-<hex>` (what was built under an image key),
//! `checks-<hex>` (what was found under a check key) and `newest-<hex>` (the latest record of a job, for `why`).
//! `durations` says how long jobs took. Each of the others is an image index whose one entry is the image, with the record as JSON in an annotation; so a record
//! keeps its image alive, and any registry can hold both.

mod durations;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::diag::Diagnostic;
use crate::family::JobId;
use crate::oci::{
    Descriptor, Digest, Document, Error, ErrorKind, ImageIndex, MediaType, Platform, Pointer, Repository,
    Store, Tag,
};

pub(crate) use durations::{Durations, Taken};

/// The version of the format of records; a reader passes over others.
pub(crate) const RECORD_VERSION: u32 = 1;
/// The annotation that holds a record's JSON.
const ANNOTATION: &str = "dev.polyarch.record";
/// What kind of artifact a record is.
const ARTIFACT: &str = "application/vnd.polyarch.record.v1+json";

/// What was built under an image key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// [`RECORD_VERSION`].
    pub(crate) version: u32,
    /// The job, as `image:variant@platform`.
    pub(crate) job: String,
    /// The image key.
    pub(crate) key: Digest,
    /// The inputs that the key was made of, by name, for `why`.
    pub(crate) inputs: BTreeMap<String, String>,
    /// The platform.
    pub(crate) platform: Platform,
    /// The image's manifest.
    pub(crate) image: Digest,
    /// The size of that manifest in bytes.
    pub(crate) size: u64,
    /// The image's configuration, byte for byte the engine's.
    pub(crate) config: Digest,
    /// Bytes of all layers, compressed.
    pub(crate) bytes: u64,
    /// The images of the family that it was built from, by unit.
    pub(crate) parents: BTreeMap<String, Digest>,
    /// The builder.
    pub(crate) builder: String,
    /// Whether it was built by emulation.
    pub(crate) emulated: bool,
    /// When the build ended, in seconds since 1970-01-01 UTC.
    pub(crate) built_at_seconds: u64,
    /// How long the build took.
    pub(crate) milliseconds: u64,
}

/// What was found under a check key: every test passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckRecord {
    /// [`RECORD_VERSION`].
    pub(crate) version: u32,
    /// The job.
    pub(crate) job: String,
    /// The check key.
    pub(crate) key: Digest,
    /// The image.
    pub(crate) image: Digest,
    /// The tests that passed, as a person would name them, and how long each took in milliseconds.
    pub(crate) tests: Vec<(String, u64)>,
    /// The tags that the taggers made, without platform or prefix, in the order of the taggers.
    pub(crate) tags: Vec<String>,
    /// The descriptions: heading and text.
    pub(crate) descriptions: Vec<(String, String)>,
}

/// Both records of a job that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// What was built.
    pub(crate) image: ImageRecord,
    /// What was found in it.
    pub(crate) checks: CheckRecord,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<T> {
    /// The record; what it stands for is made again where there is none.
    pub(crate) record: Option<T>,
    /// A warning of something in its place that is no such record.
    pub(crate) passed_over: Option<Diagnostic>,
}

/// The records of one scope of a store.
#[derive(Clone)]
pub(crate) struct Records {
    /// Where they are kept.
    pub(crate) store: Arc<dyn Store>,
    /// The repository of the scope.
    pub(crate) scope: Repository,
}

impl Records {
    /// What was built under an image key.
    ///
    /// # Errors
    /// Where the store fails. A record that cannot be used is passed over, and said to be.
    pub(crate) async fn image(&self, key: &Digest) -> Result<Found<ImageRecord>, Error> {
        self.find("image", key).await
    }

    /// What was found under a check key.
    ///
    /// # Errors
    /// As for [`Records::image`].
    pub(crate) async fn checks(&self, key: &Digest) -> Result<Found<CheckRecord>, Error> {
        self.find("checks", key).await
    }

    /// The latest image record of a job: it explains, and nothing stands on it.
    ///
    /// # Errors
    /// Where the store fails. A record that cannot be used is none.
    pub(crate) async fn newest(&self, job: &JobId) -> Result<Option<ImageRecord>, Error> {
        let document = self.document(&newest_tag(&job.to_string())).await?;
        let found = document.and_then(|document| parse::<ImageRecord>(&document, None).ok());
        Ok(found.filter(|record| record.job == job.to_string()))
    }

    /// Keep what was built. Its image must be in the scope.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn keep_image(&self, record: &ImageRecord) -> Result<(), Error> {
        let tags = [tag("image", &record.key), newest_tag(&record.job)];
        let image = self.image_descriptor(&record.image, record.size, &record.platform);
        self.write(record, image, &tags).await
    }

    /// Keep what was found in an image.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn keep_checks(&self, record: &CheckRecord, image: &ImageRecord) -> Result<(), Error> {
        let descriptor = self.image_descriptor(&image.image, image.size, &image.platform);
        self.write(record, descriptor, &[tag("checks", &record.key)]).await
    }

    fn image_descriptor(&self, image: &Digest, size: u64, platform: &Platform) -> Descriptor {
        let plain = Descriptor::new(MediaType::MANIFEST, image.clone(), size);
        Descriptor { platform: Some(platform.clone()), ..plain }
    }

    async fn write(&self, record: &impl Serialize, image: Descriptor, tags: &[Tag]) -> Result<(), Error> {
        let text = serde_json::to_string(record)
            .map_err(|error| Error::new(ErrorKind::Invalid, "write a record").because(error))?;
        let index = ImageIndex {
            artifact_type: Some(ARTIFACT.to_owned()),
            annotations: BTreeMap::from([(ANNOTATION.to_owned(), text)]),
            ..ImageIndex::new(vec![image])
        };
        self.store.write_document(&self.scope, &Document::of_index(&index), tags).await
    }

    async fn find<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Result<Found<T>, Error> {
        let tag = tag(kind, key);
        Ok(match self.document(&tag).await?.map(|document| parse(&document, Some(key))) {
            None => Found { record: None, passed_over: None },
            Some(Ok(record)) => Found { record: Some(record), passed_over: None },
            Some(Err(why)) => Found { record: None, passed_over: Some(passed_over(&self.scope, &tag, why)) },
        })
    }

    async fn document(&self, tag: &Tag) -> Result<Option<Document>, Error> {
        match self.store.read_document(&self.scope, &Pointer::Tag(tag.clone())).await {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The record in a document, which must be that of a key where one is named; otherwise why it cannot be used.
fn parse<T: DeserializeOwned>(document: &Document, key: Option<&Digest>) -> Result<T, String> {
    /// What every version has.
    #[derive(Deserialize)]
    struct Head {
        version: u32,
        key: Digest,
    }

    let unreadable = |error: serde_json::Error| format!("it cannot be read: {error}");
    let index = document.index().map_err(|error| error.to_string())?;
    let text =
        index.annotations.get(ANNOTATION).ok_or_else(|| format!("it has no annotation {ANNOTATION}"))?;
    let head: Head = serde_json::from_str(text).map_err(unreadable)?;
    if head.version != RECORD_VERSION {
        return Err(format!("it has version {}, and version {RECORD_VERSION} is read here", head.version));
    }
    match key.filter(|key| **key != head.key) {
        Some(_) => Err(format!("it is of the key {}", head.key)),
        None => serde_json::from_str(text).map_err(unreadable),
    }
}

fn passed_over(scope: &Repository, tag: &Tag, why: String) -> Diagnostic {
    Diagnostic::warning(format!("the record {scope}:{tag} cannot be used, and is passed over"))
        .because(why)
        .hint("what it stood for is made again: polyarch build")
}

fn tag(kind: &str, key: &Digest) -> Tag {
    format!("{kind}-{}", key.hex()).parse().expect("a kind and a digest make a tag")
}

fn newest_tag(job: &str) -> Tag {
    tag("newest", &Digest::of(job.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Manifest, Memory, fixture};

    #[tokio::test]
    async fn a_record_is_found_under_its_key_and_under_no_other() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let scope: Repository = "scopes/trusted".parse().unwrap();
        let config = fixture::blob(&*store, &scope, MediaType::CONFIG, "{}").await;
        let image = Document::of_manifest(&Manifest::new(config.clone(), Vec::new()));
        let image = fixture::keep(&*store, &scope, image, &[]).await;
        let records = Records { store, scope };
        let job: JobId = "base@linux/amd64".parse().unwrap();
        let record = ImageRecord {
            version: RECORD_VERSION,
            job: job.to_string(),
            key: Digest::of(b"key"),
            inputs: BTreeMap::from([("platform".to_owned(), "linux/amd64".to_owned())]),
            platform: job.platform.clone(),
            image: image.digest().clone(),
            size: image.bytes().len() as u64,
            config: config.digest,
            bytes: 0,
            parents: BTreeMap::new(),
            builder: "local".to_owned(),
            emulated: false,
            built_at_seconds: 1,
            milliseconds: 2,
        };
        records.keep_image(&record).await.unwrap();
        assert_eq!(records.image(&record.key).await.unwrap().record, Some(record.clone()));
        assert_eq!(records.newest(&job).await.unwrap(), Some(record.clone()));
        let nothing = Found { record: None, passed_over: None };
        assert_eq!(records.image(&Digest::of(b"other")).await.unwrap(), nothing);
        let checks = CheckRecord {
            version: RECORD_VERSION,
            job: job.to_string(),
            key: Digest::of(b"checks"),
            image: record.image.clone(),
            tests: vec![("true".to_owned(), 3)],
            tags: vec!["python-3.13".to_owned()],
            descriptions: vec![],
        };
        records.keep_checks(&checks, &record).await.unwrap();
        assert_eq!(records.checks(&checks.key).await.unwrap().record, Some(checks));
        let newer = ImageRecord { version: RECORD_VERSION + 1, ..record.clone() };
        records.keep_image(&newer).await.unwrap();
        let found = records.image(&record.key).await.unwrap();
        assert_eq!(found.record, None, "a record of another version is none");
        assert!(found.passed_over.is_some());
    }
}
