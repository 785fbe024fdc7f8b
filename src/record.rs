//! What jobs leave behind: records under keys, kept in the store as ordinary OCI content.
//!
//! The repository of a scope holds, beside the images: `image-<hex>` (what was built under an image key),
//! `checks-<hex>` (what was found under a check key) and `newest-<hex>` (the latest record of a job, for `why`).
//! `durations` says how long jobs took. Each of the others is an image index whose one entry is the image, with the record as JSON in an annotation; so a record
//! keeps its image alive, and any registry can hold both.

mod durations;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
    /// Where the store fails. A record of another version, or one that cannot be read, is none.
    pub(crate) async fn image(&self, key: &Digest) -> Result<Option<ImageRecord>, Error> {
        let found: Option<ImageRecord> = self.read(&tag("image", key)).await?;
        Ok(found.filter(|record| record.version == RECORD_VERSION && record.key == *key))
    }

    /// What was found under a check key.
    ///
    /// # Errors
    /// As for [`Records::image`].
    pub(crate) async fn checks(&self, key: &Digest) -> Result<Option<CheckRecord>, Error> {
        let found: Option<CheckRecord> = self.read(&tag("checks", key)).await?;
        Ok(found.filter(|record| record.version == RECORD_VERSION && record.key == *key))
    }

    /// The latest image record of a job.
    ///
    /// # Errors
    /// As for [`Records::image`].
    pub(crate) async fn newest(&self, job: &JobId) -> Result<Option<ImageRecord>, Error> {
        let found: Option<ImageRecord> = self.read(&newest_tag(&job.to_string())).await?;
        Ok(found.filter(|record| record.version == RECORD_VERSION && record.job == job.to_string()))
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

    async fn read<T: for<'de> Deserialize<'de>>(&self, tag: &Tag) -> Result<Option<T>, Error> {
        let document = match self.store.read_document(&self.scope, &Pointer::Tag(tag.clone())).await {
            Ok(document) => document,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = document.index().ok().and_then(|mut index| index.annotations.remove(ANNOTATION));
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
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
        assert_eq!(records.image(&record.key).await.unwrap(), Some(record.clone()));
        assert_eq!(records.newest(&job).await.unwrap(), Some(record.clone()));
        assert_eq!(records.image(&Digest::of(b"other")).await.unwrap(), None);
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
        assert_eq!(records.checks(&checks.key).await.unwrap(), Some(checks));
        let newer = ImageRecord { version: RECORD_VERSION + 1, ..record.clone() };
        records.keep_image(&newer).await.unwrap();
        assert_eq!(records.image(&record.key).await.unwrap(), None, "a record of another version is none");
    }
}
