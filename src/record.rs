//! What jobs leave behind: records under keys, kept in the store as ordinary OCI content.
//!
//! The repository of a scope holds, beside the images: `image-<hex>` (what was built under an image key),
//! `checks-<hex>` (what was found under a check key), and `newest-<hex>` and `tested-<hex>` (the latest of each of a job,
//! for `why`). `replaced-<hex>` has a record in whose place one of another image stands now, and `plan-<hex>` the digest of the
//! image that the runs of one plan file have for a key. `durations` says how long jobs
//! took and `epoch-<job>-<number>` how often one was refreshed. Each of the others is an image index whose one entry is the
//! image, with the record as JSON in an annotation; so a record keeps its image alive, and any registry can hold both. What
//! was signed of a record stands in the same document.

mod caches;
mod carried;
mod description;
mod durations;
mod ending;
mod epochs;
mod far;
mod kept;
mod layer_caches;
mod listing;
mod note;
mod replaced;
mod roll;
mod scope;
mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::defence::{Defence, stands};
use crate::diag::Diagnostic;
use crate::family::JobId;
use crate::oci::{
    Beside, Condition, Descriptor, Digest, Document, Error, ErrorKind, ImageIndex, MediaType, Origin,
    Platform, Pointer, Repository, Store, Tag, Terms,
};
use crate::trust::Doubt;

pub(crate) use caches::{CacheName, RunTime};
pub(crate) use carried::Carried;
pub(crate) use description::{Description, Said};
pub(crate) use durations::{Durations, Failing, Taken};
pub(crate) use ending::{Ending, Fit};
pub(crate) use epochs::{EPOCH, EpochTaken, Epochs};
pub(crate) use kept::{Kept, RecordKind, Witness};
pub(crate) use layer_caches::CacheKind;
pub(crate) use scope::ScopeName;

use far::Far;

/// The version of the format of records; a reader passes over others.
pub(crate) const RECORD_VERSION: u32 = 1;
/// The annotation that holds a record's JSON.
const ANNOTATION: &str = "dev.polyarch.record";
/// The annotation that holds what was signed of a record: a JSON list of Sigstore bundles, each as a string.
const SIGNATURES: &str = "dev.polyarch.signatures";
/// How often a tag is looked at that others move at the same time.
const TRIES: usize = 20;
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
    /// Whether the store had a cache of layers that its build could use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cached: bool,
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
    /// The definitions and files that the key was made of beside the image, by name, for `why`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) inputs: BTreeMap<String, String>,
    /// The tests that passed, as a person would name them, and how long each took in milliseconds.
    pub(crate) tests: Vec<(String, u64)>,
    /// The tags that the taggers made, without platform or prefix, in the order of the taggers.
    pub(crate) tags: Vec<String>,
    /// The descriptions.
    pub(crate) descriptions: Vec<Description>,
}

/// Both records of a job that has passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Passed {
    /// What was built.
    pub(crate) image: ImageRecord,
    /// What was found in it.
    pub(crate) checks: CheckRecord,
}

impl Passed {
    /// What its records stand under: the image's first, which that of the checks is of.
    pub(crate) fn keys(&self) -> [(RecordKind, &Digest); 2] {
        [(RecordKind::Image, &self.image.key), (RecordKind::Checks, &self.checks.key)]
    }
}

impl ImageRecord {
    /// The image's manifest, as an index names it.
    fn descriptor(&self) -> Descriptor {
        let plain = Descriptor::new(MediaType::MANIFEST, self.image.clone(), self.size);
        Descriptor { platform: Some(self.platform.clone()), ..plain }
    }
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<T> {
    /// The record; what it stands for is made again where there is none.
    pub(crate) record: Option<T>,
    /// A warning of something in its place that is no such record.
    pub(crate) passed_over: Option<Diagnostic>,
    /// Why a record that stands there does not count.
    pub(crate) doubt: Option<Doubt>,
}

impl<T> Found<T> {
    /// A record.
    pub(crate) fn of(record: T) -> Self {
        Self { record: Some(record), passed_over: None, doubt: None }
    }
}

/// The records of one scope of a store, and of those that are read where it has none.
#[derive(Clone)]
pub(crate) struct Records {
    /// Where they are kept, and what they stand for is found.
    pub(crate) store: Arc<dyn Store>,
    /// The repository of the scope: what is kept is kept there.
    pub(crate) scope: Repository,
    /// Where records are read, in order; the first that counts does.
    read: Vec<Repository>,
    /// Who says which of them count; all do where there is none.
    witness: Option<Arc<dyn Witness>>,
    /// The folder with what it holds itself.
    local: Arc<dyn Store>,
    /// The same scopes at a registry, where the store is there.
    far: Option<Arc<Far>>,
    /// The plan file that is carried out.
    plan: Option<Digest>,
    /// No list of tags that was read before is believed.
    asks_anew: bool,
}

impl Records {
    /// Those of one scope alone.
    #[cfg(test)]
    pub(crate) fn new(store: Arc<dyn Store>, scope: Repository) -> Self {
        Self {
            local: store.clone(),
            store,
            read: vec![scope.clone()],
            scope,
            far: None,
            witness: None,
            plan: None,
            asks_anew: false,
        }
    }

    /// Those of a scope as a run sees them that works in it. In every other than the trusted one records of that are
    /// read too, after its own, and its content is seen by digest, so that what was built upon it can be kept.
    pub(crate) fn of_scope(store: Arc<dyn Store>, scope: &ScopeName) -> Self {
        let own = scope.repository();
        let alone = Self {
            local: store.clone(),
            store,
            read: vec![own.clone()],
            scope: own,
            far: None,
            witness: None,
            plan: None,
            asks_anew: false,
        };
        match scope.is_trusted() {
            true => alone,
            false => alone.before(&ScopeName::trusted()),
        }
    }

    /// The same with those scopes at a registry, below a prefix, read and written too. Content that is there is seen
    /// here by digest, and stays there unless it is brought.
    ///
    /// # Errors
    /// Where the prefix is too long.
    pub(crate) fn at_registry(self, registry: Arc<dyn Store>, prefix: &Repository) -> Result<Self, Error> {
        let far = Far::new(registry, prefix, &self.scope, &self.read)?;
        let mut read = Vec::new();
        for scope in &self.read {
            // What others see too counts before what is in the folder alone.
            read.extend([far.repository(scope)?, scope.clone()]);
        }
        Ok(Self { far: Some(Arc::new(far)), read, ..self }.seeing())
    }

    /// The same with the folder seen beside all repositories of the registry that are read.
    fn seeing(self) -> Self {
        let Some(far) = &self.far else { return Self { store: self.local.clone(), ..self } };
        let beside = Beside::new(self.local.clone()).below(far.prefix(), far.store.clone());
        let there = self.read.iter().filter(|scope| far.is_there(scope));
        let seen =
            there.fold(beside, |seen, there| seen.behind(&self.scope, far.store.clone(), there.clone()));
        Self { store: Arc::new(seen), ..self }
    }

    /// Those of the scope itself, in the folder and at the registry, and none that are read behind it.
    #[must_use]
    pub(crate) fn alone(mut self) -> Self {
        let own = [self.scope.clone(), self.shared().clone()];
        self.read.retain(|scope| own.contains(scope));
        self
    }

    /// The same as they stand now, whatever a list of tags said when the run began.
    pub(crate) fn anew(&self) -> Self {
        Self { asks_anew: true, ..self.clone() }
    }

    /// The folder with what it holds itself: who must have content at hand looks there.
    pub(crate) fn local(&self) -> &Arc<dyn Store> {
        &self.local
    }

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
        let job = job.to_string();
        self.latest(&newest_tag(&job), |record: &ImageRecord| record.job == job).await
    }

    /// The latest record of a job's checks: it explains, and nothing stands on it.
    ///
    /// # Errors
    /// As for [`Records::newest`].
    pub(crate) async fn tested(&self, job: &JobId) -> Result<Option<CheckRecord>, Error> {
        let job = job.to_string();
        self.latest(&tested_tag(&job), |record: &CheckRecord| record.job == job).await
    }

    /// The first that is meant of what stands under a tag in the scopes that are read.
    async fn latest<T: DeserializeOwned>(
        &self,
        tag: &Tag,
        is_meant: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Error> {
        for scope in self.scopes() {
            let document = self.document(scope, tag).await?;
            let found = document.and_then(|document| parse::<T>(&document, None).ok());
            if let Some(record) = found.filter(&is_meant) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Keep what was built. Its image must be in the scope.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn keep_image(&self, record: &ImageRecord) -> Result<(), Error> {
        let tags = RecordKind::Image.tags(&record.key, &record.job);
        if let Some(far) = &self.far {
            far.doubt(&record.image);
        }
        self.blank_roll().await?;
        self.set_aside(record).await?;
        self.write(record, record.descriptor(), &tags).await
    }

    /// Keep what was found in an image.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn keep_checks(&self, record: &CheckRecord, image: &ImageRecord) -> Result<(), Error> {
        let tags = RecordKind::Checks.tags(&record.key, &record.job);
        self.write(record, image.descriptor(), &tags).await
    }

    async fn write(&self, record: &impl Serialize, image: Descriptor, tags: &[Tag]) -> Result<(), Error> {
        self.keep(&document(text(record)?, image, &[])?, tags).await
    }

    /// Keep a document in the scope, and then at the registry.
    async fn keep(&self, document: &Document, tags: &[Tag]) -> Result<(), Error> {
        self.store.write_document(&self.scope, document, tags).await?;
        match &self.far {
            None => Ok(()),
            Some(far) => far.give(&self.origin(), document, tags, &Terms::default()).await,
        }
    }

    /// Keep a document under a tag in the scope, and before that at the registry, each unless what stands there may not be
    /// replaced: a store that keeps conditions looks at that again as it moves the tag. Whether it stands there now, at the
    /// registry where there is one.
    async fn keep_over(
        &self,
        document: &Document,
        tag: &Tag,
        may_replace: impl AsyncFn(&Document) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let writable = self.far.as_ref().filter(|far| far.refused().is_none());
        let tags = std::slice::from_ref(tag);
        for scope in [writable.map(|far| far.own()), Some(&self.scope)].into_iter().flatten() {
            let far = writable.filter(|far| far.is_there(scope));
            let mut tries = 0;
            loop {
                let standing = match far {
                    // A list of tags is from before others wrote.
                    Some(far) => far.read(scope, tag).await?,
                    None => self.document(scope, tag).await?,
                };
                if let Some(standing) = &standing
                    && !may_replace(standing).await?
                {
                    return Ok(false);
                }
                let tags_at = match standing {
                    _ if far.is_some_and(|far| !far.store.keeps_conditions()) => Condition::Any,
                    None => Condition::Missing,
                    Some(standing) => Condition::OneOf(vec![standing.digest().clone()]),
                };
                let terms = Terms { tags: tags_at, ..Terms::default() };
                let written = match far {
                    Some(far) => far.give(&self.origin(), document, tags, &terms).await,
                    None => self.store.write_document_on(scope, document, tags, &terms).await,
                };
                tries += 1;
                match written {
                    Err(error) if error.kind() == ErrorKind::Moved && tries < TRIES => {}
                    written => break written?,
                }
            }
        }
        Ok(true)
    }

    /// Where all that records stand for is read.
    fn origin(&self) -> Origin<'_> {
        Origin { store: &*self.store, repository: &self.scope }
    }

    async fn find<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Result<Found<T>, Error> {
        let tag = tag(kind, key);
        let mut found = Found { record: None, passed_over: None, doubt: None };
        for scope in self.scopes() {
            let Some(document) = self.document(scope, &tag).await? else { continue };
            let record = match parse(&document, Some(key)) {
                Ok(record) => record,
                Err(why) => {
                    found.passed_over = Some(passed_over(scope, &tag, why));
                    continue;
                }
            };
            match self.word(&Kept::of(scope, document)).await? {
                Ok(()) => return Ok(Found { record: Some(record), doubt: None, ..found }),
                Err(doubt) => found.doubt = found.doubt.max(Some(doubt)),
            }
        }
        Ok(found)
    }

    /// Where records are read, in order.
    fn scopes(&self) -> impl Iterator<Item = &Repository> {
        self.read.iter()
    }

    /// Where what this run keeps is seen by others: the scope as the registry calls it, else as the folder does.
    pub(crate) fn shared(&self) -> &Repository {
        self.far.as_ref().map_or(&self.scope, |far| far.own())
    }

    /// Whether the run is one of another scope than the trusted one.
    pub(crate) fn is_untrusted(&self) -> bool {
        !self.is_trusted(&self.scope)
    }

    /// Whether a scope is the trusted one, in the folder or at the registry.
    fn is_trusted(&self, scope: &Repository) -> bool {
        let trusted = ScopeName::trusted().repository();
        *scope == trusted || self.far.as_ref().is_some_and(|far| far.trusted() == scope)
    }

    async fn document(&self, scope: &Repository, tag: &Tag) -> Result<Option<Document>, Error> {
        if let Some(far) = self.far.as_ref().filter(|far| far.is_there(scope)) {
            let document = match self.asks_anew {
                true => far.read(scope, tag).await?,
                false => far.document(scope, tag).await?,
            };
            if let Some((document, index)) =
                document.as_ref().zip(document.as_ref().and_then(|one| one.index().ok()))
            {
                far.has_read(scope, tag, document);
                far.found(scope, tag, &index);
            }
            return Ok(document);
        }
        match self.store.read_document(scope, &Pointer::Tag(tag.clone())).await {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A record as it is kept.
fn text(record: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(record)
        .map_err(|error| Error::new(ErrorKind::Invalid, "write a record").because(error))
}

/// The document of a record of an image, with what was signed of it.
fn document(text: String, image: Descriptor, signatures: &[String]) -> Result<Document, Error> {
    let mut annotations = BTreeMap::from([(ANNOTATION.to_owned(), text)]);
    if !signatures.is_empty() {
        annotations.insert(SIGNATURES.to_owned(), self::text(&signatures)?);
    }
    Ok(Document::of_index(&ImageIndex {
        artifact_type: Some(ARTIFACT.to_owned()),
        annotations,
        ..ImageIndex::new(vec![image])
    }))
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
    match key.filter(|key| **key != head.key && stands(Defence::RecordKeys)) {
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

/// Whether a tag is one of a kind.
fn is_of_kind(tag: &Tag, kind: &str) -> bool {
    tag.as_str().strip_prefix(kind).is_some_and(|rest| rest.starts_with('-'))
}

fn newest_tag(job: &str) -> Tag {
    tag("newest", &Digest::of(job.as_bytes()))
}

fn tested_tag(job: &str) -> Tag {
    tag("tested", &Digest::of(job.as_bytes()))
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
        let records = Records::new(store, scope);
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
            cached: false,
            built_at_seconds: 1,
            milliseconds: 2,
        };
        records.keep_image(&record).await.unwrap();
        assert_eq!(records.image(&record.key).await.unwrap().record, Some(record.clone()));
        assert_eq!(records.newest(&job).await.unwrap(), Some(record.clone()));
        let nothing = Found { record: None, passed_over: None, doubt: None };
        assert_eq!(records.image(&Digest::of(b"other")).await.unwrap(), nothing);
        let checks = CheckRecord {
            version: RECORD_VERSION,
            job: job.to_string(),
            key: Digest::of(b"checks"),
            image: record.image.clone(),
            inputs: BTreeMap::new(),
            tests: vec![("true".to_owned(), 3)],
            tags: vec!["python-3.13".to_owned()],
            descriptions: vec![],
        };
        records.keep_checks(&checks, &record).await.unwrap();
        assert_eq!(records.checks(&checks.key).await.unwrap().record, Some(checks.clone()));
        assert_eq!(records.tested(&job).await.unwrap(), Some(checks));
        let newer = ImageRecord { version: RECORD_VERSION + 1, ..record.clone() };
        records.keep_image(&newer).await.unwrap();
        let found = records.image(&record.key).await.unwrap();
        assert_eq!(found.record, None, "a record of another version is none");
        assert!(found.passed_over.is_some());
    }

    /// Whatever an untrusted run keeps, under whichever keys, is seen in no other scope: no trusted record and no
    /// other's comes to be by it.
    #[test]
    fn i_t1_nothing_that_an_untrusted_run_keeps_is_seen_in_another_scope() {
        use proptest::prelude::*;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let writes = proptest::collection::vec((1..4_u8, 0..6_u8), 1..12);
        proptest!(ProptestConfig::with_cases(64), |(writes in writes)| {
            runtime.block_on(async {
                let store: Arc<dyn Store> = Arc::new(Memory::new());
                let scope = |number: u8| -> ScopeName { format!("pr-{number}").parse().unwrap() };
                for (number, key) in &writes {
                    let records = Records::of_scope(store.clone(), &scope(*number));
                    let config = fixture::blob(&*store, &records.scope, MediaType::CONFIG, "{}").await;
                    let image = Document::of_manifest(&Manifest::new(config.clone(), Vec::new()));
                    let image = fixture::keep(&*store, &records.scope, image, &[]).await;
                    records.keep_image(&built(*key, *number, &image, &config.digest)).await.unwrap();
                }
                let trusted = Records::of_scope(store.clone(), &ScopeName::trusted());
                assert_eq!(store.tags(&trusted.scope, None, 100).await.unwrap(), []);
                for (number, key) in (1..4).flat_map(|number| (0..6).map(move |key| (number, key))) {
                    let digest = Digest::of(&[key]);
                    assert_eq!(trusted.image(&digest).await.unwrap().record, None);
                    let found = Records::of_scope(store.clone(), &scope(number)).image(&digest).await.unwrap();
                    let own = writes.contains(&(number, key)).then(|| format!("run {number}"));
                    assert_eq!(found.record.map(|record| record.builder), own, "its own, or none");
                }
            });
        });
    }

    fn built(key: u8, number: u8, image: &Document, config: &Digest) -> ImageRecord {
        ImageRecord {
            version: RECORD_VERSION,
            job: "base@linux/amd64".to_owned(),
            key: Digest::of(&[key]),
            inputs: BTreeMap::new(),
            platform: "linux/amd64".parse().unwrap(),
            image: image.digest().clone(),
            size: image.bytes().len() as u64,
            config: config.clone(),
            bytes: 0,
            parents: BTreeMap::new(),
            builder: format!("run {number}"),
            emulated: false,
            cached: false,
            built_at_seconds: 1,
            milliseconds: 2,
        }
    }
}
