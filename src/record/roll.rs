//! Rolls: all records of one state of a family in one document, so that whoever finds nothing to do, or promotes all of
//! it, asks a registry a few questions, and not two for each job. A roll says nothing that the records do not say, and may
//! be lost. Nobody signs it: beside each record stands what was signed of that, and each is judged by it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::family::JobId;
use crate::oci::{Descriptor, Digest, Document, Error, ErrorKind, ImageIndex, Repository, Tag, Terms};

use super::far::Far;
use super::{Kept, Passed, RECORD_VERSION, RecordKind, Records, tag};

const ANNOTATION: &str = "dev.polyarch.roll";
const ARTIFACT: &str = "application/vnd.polyarch.roll.v1+json";
/// How long the text of a roll may be in bytes: registries refuse documents of more than 4 MiB.
const BYTES_LIMIT: usize = 2 << 20;

#[derive(Serialize, Deserialize)]
struct Roll {
    version: u32,
    passed: Vec<Passed>,
    /// What was signed of these records, by the digest of the record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    signatures: BTreeMap<Digest, Vec<String>>,
}

impl Records {
    /// Both records of every job of a family in this state, by job, where a roll of it stands at the registry and they
    /// count. In a run that judges records that may be the roll of any scope that it reads, else it is that of the
    /// trusted one.
    ///
    /// # Errors
    /// Where the registry fails. What cannot be read is as if it were not there.
    pub(crate) async fn roll(
        &self,
        keys: &BTreeMap<JobId, Digest>,
    ) -> Result<BTreeMap<String, Passed>, Error> {
        let Some(far) = &self.far else { return Ok(BTreeMap::new()) };
        let tag = roll_tag(keys);
        let mut passed = BTreeMap::new();
        let is_read = |scope: &&Repository| match self.witness {
            Some(_) => far.is_there(scope),
            None => *scope == far.trusted(),
        };
        for scope in self.scopes().filter(is_read) {
            let Some(document) = far.roll(scope, &tag).await? else { continue };
            for (job, one) in self.listed(far, scope, &document, keys).await? {
                passed.entry(job).or_insert(one);
            }
            if passed.len() == keys.len() {
                break;
            }
        }
        Ok(passed)
    }

    /// What a roll of a scope says that is meant here and counts.
    async fn listed(
        &self,
        far: &Far,
        scope: &Repository,
        document: &Document,
        keys: &BTreeMap<JobId, Digest>,
    ) -> Result<Vec<(String, Passed)>, Error> {
        let Ok(index) = document.index() else { return Ok(Vec::new()) };
        let named: BTreeSet<&Digest> = index.manifests.iter().map(|entry| &entry.digest).collect();
        let text = index.annotations.get(ANNOTATION);
        let roll: Option<Roll> = text.and_then(|text| serde_json::from_str(text).ok());
        let Some(roll) = roll.filter(|roll| roll.version == RECORD_VERSION) else { return Ok(Vec::new()) };
        let keys: BTreeMap<String, &Digest> = keys.iter().map(|(job, key)| (job.to_string(), key)).collect();
        let is_meant = |one: &Passed| {
            let is_whole = one.image.version == RECORD_VERSION && one.checks.version == RECORD_VERSION;
            let is_one = one.checks.image == one.image.image && named.contains(&one.image.image);
            is_whole && is_one && keys.get(&one.image.job) == Some(&&one.image.key)
        };
        let mut listed = Vec::new();
        for one in roll.passed.into_iter().filter(is_meant) {
            let kept = one.kept(scope, &roll.signatures)?;
            if self.word(&kept[0].1).await?.is_err() || self.word(&kept[1].1).await?.is_err() {
                continue;
            }
            for (tag, kept) in &kept {
                far.found(scope, tag, &index);
                far.has_read(scope, tag, &kept.document);
            }
            listed.push((one.image.job.clone(), one));
        }
        Ok(listed)
    }

    /// Leave a roll at the registry of a family whose every job has passed, where it does not stand already. Only the
    /// trusted scope has one that nobody has signed the records of.
    ///
    /// # Errors
    /// Where the registry fails.
    pub(crate) async fn keep_roll(&self, passed: &BTreeMap<JobId, Passed>) -> Result<(), Error> {
        match self.far.as_ref().is_some_and(|far| far.keeps_rolls()) {
            true => self.keep_signed_roll(passed).await,
            false => Ok(()),
        }
    }

    /// The same, in every scope.
    ///
    /// # Errors
    /// As for [`Self::keep_roll`].
    pub(crate) async fn keep_signed_roll(&self, passed: &BTreeMap<JobId, Passed>) -> Result<(), Error> {
        let Some(far) = &self.far else { return Ok(()) };
        let keys = passed.iter().map(|(job, passed)| (job.clone(), passed.image.key.clone())).collect();
        let Some(document) = document(passed.values(), self.signatures(far, passed))? else { return Ok(()) };
        let tag = roll_tag(&keys);
        if far.take_roll().is_some_and(|(_, before)| before.digest() == document.digest()) {
            return Ok(());
        }
        far.give(&self.origin(), &document, &[tag], &Terms::default()).await
    }

    /// What was signed of these records, as far as they were read at the registry.
    fn signatures(&self, far: &Far, passed: &BTreeMap<JobId, Passed>) -> BTreeMap<Digest, Vec<String>> {
        let tags = passed.values().flat_map(|one| one.keys().map(|(kind, key)| tag(kind.word(), key)));
        let read = |tag| self.scopes().find_map(|scope| Some(Kept::of(scope, far.last_read(scope, &tag)?)));
        let signed = tags.filter_map(read).filter(|kept| !kept.signatures.is_empty());
        signed.map(|kept| (kept.digest(), kept.signatures)).collect()
    }

    /// Take back what a roll says that was read, because an image of it is made anew.
    pub(super) async fn blank_roll(&self) -> Result<(), Error> {
        let Some((far, (tag, document))) = self.far.as_ref().and_then(|far| Some((far, far.take_roll()?)))
        else {
            return Ok(());
        };
        let blank = ImageIndex { annotations: BTreeMap::new(), ..document.index()? };
        match far.keeps_rolls() {
            true => far.give(&self.origin(), &Document::of_index(&blank), &[tag], &Terms::default()).await,
            false => Ok(()),
        }
    }
}

impl Passed {
    /// Both records as they stand in a scope, each with its tag.
    fn kept(
        &self,
        scope: &Repository,
        signatures: &BTreeMap<Digest, Vec<String>>,
    ) -> Result<[(Tag, Kept); 2], Error> {
        let kept = |text: String| {
            let signatures = signatures.get(&Digest::of(text.as_bytes())).map_or(&[][..], Vec::as_slice);
            let document = super::document(text, self.image.descriptor(), signatures)?;
            Ok::<_, Error>(Kept::of(scope, document))
        };
        let tag = |kind: RecordKind, key| tag(kind.word(), key);
        Ok([
            (tag(RecordKind::Image, &self.image.key), kept(super::text(&self.image)?)?),
            (tag(RecordKind::Checks, &self.checks.key), kept(super::text(&self.checks)?)?),
        ])
    }
}

/// The document of a roll; `None` where it would be too long to be kept.
fn document<'a>(
    passed: impl Iterator<Item = &'a Passed>,
    signatures: BTreeMap<Digest, Vec<String>>,
) -> Result<Option<Document>, Error> {
    let passed: Vec<Passed> = passed.cloned().collect();
    let images: BTreeMap<Digest, Descriptor> =
        passed.iter().map(|one| (one.image.image.clone(), one.image.descriptor())).collect();
    let text = serde_json::to_string(&Roll { version: RECORD_VERSION, passed, signatures })
        .map_err(|error| Error::new(ErrorKind::Invalid, "write a roll").because(error))?;
    Ok((text.len() <= BYTES_LIMIT).then(|| {
        Document::of_index(&ImageIndex {
            artifact_type: Some(ARTIFACT.to_owned()),
            annotations: BTreeMap::from([(ANNOTATION.to_owned(), text)]),
            ..ImageIndex::new(images.into_values().collect())
        })
    }))
}

/// The tag of the roll of a family whose jobs have these keys.
fn roll_tag(keys: &BTreeMap<JobId, Digest>) -> Tag {
    let lines: String = keys.iter().map(|(job, key)| format!("{job} {key}\n")).collect();
    tag("roll", &Digest::of(lines.as_bytes()))
}

/// Whether an index is a roll.
pub(super) fn is_one(index: &ImageIndex) -> bool {
    index.artifact_type.as_deref() == Some(ARTIFACT)
}
