//! What a publication was to do, written down before the first tag moves: every tag with its old and its new place.
//!
//! The newest journals of a target stand together under one reserved tag, as an OCI artifact: its layers are the
//! journals, newest first, and each layer's descriptor says what a list of them needs. So one request reads the list,
//! and what the reserved tag points at keeps its journals alive in every registry.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::oci::{
    Descriptor, Digest, Document, Error, ErrorKind, Manifest, MediaType, Platform, Repository, Tag,
};

use super::generation::Generation;

/// The tag that the journals of a target stand under.
pub(crate) const RESERVED_TAG: &str = "polyarch-publications";
/// The version of the format of journals.
pub(crate) const JOURNAL_VERSION: u32 = 1;
/// How many journals are kept.
pub(crate) const KEPT: usize = 20;
/// How large one may be, in bytes.
pub(super) const ENTRY_BYTES: u64 = 64 << 20;
/// What kind of artifact the list is.
const ARTIFACT: &str = "application/vnd.polyarch.publications.v1+json";
/// What kind of layer a journal is.
const ENTRY: &str = "application/vnd.polyarch.publication.v1+json";
/// The annotation of a layer that says what is in it, and that of the manifest with the newest generation of all.
const LISTED: &str = "dev.polyarch.publication";
const HIGHEST: &str = "dev.polyarch.generation";
/// The configuration of an artifact that has none (OCI image specification, "Guidance for an Empty Descriptor").
pub(super) const EMPTY: &[u8] = b"{}";

/// One publication, or the rolling back of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// [`JOURNAL_VERSION`].
    pub(crate) version: u32,
    /// Its name.
    pub(crate) id: String,
    /// The publication that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rolls_back: Option<String>,
    /// How new it is.
    pub(crate) generation: Generation,
    /// When its tags began to move, in seconds since 1970-01-01 UTC.
    pub(crate) begun_seconds: u64,
    /// The commit of the family's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    /// Every tag of it.
    pub(crate) tags: Vec<Move>,
    /// What it brought.
    pub(crate) images: Vec<Brought>,
    /// What stood when it began and stands beside it: earlier publications have brought it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) earlier: Vec<Earlier>,
}

/// One tag on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    /// The repository.
    pub(crate) repository: Repository,
    /// The tag.
    pub(crate) tag: Tag,
    /// Where it pointed before; nowhere where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) old: Option<Digest>,
    /// Where it is to point; nowhere where it is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) new: Option<Digest>,
    /// It is declared immutable: once it is published, nothing moves it or takes it away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) immutable: bool,
}

/// One image that a publication brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Brought {
    /// Image and variant.
    pub(crate) unit: String,
    /// Its repository.
    pub(crate) repository: Repository,
    /// The index of its platforms.
    pub(crate) index: Digest,
    /// The manifests of its platforms.
    pub(crate) platforms: BTreeMap<Platform, Digest>,
    /// The manifests of other images that they were built from.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) parents: BTreeSet<Digest>,
}

/// One image that a publication has found published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Earlier {
    /// The publication that brought it.
    pub(crate) by: String,
    /// The image.
    pub(crate) image: Brought,
}

/// How far a publication has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Its tags are moved by somebody who says that he is alive until then, in seconds since 1970-01-01 UTC.
    Open {
        /// Until when.
        until_seconds: u64,
        /// The publication that moves them: itself, or one that came after and completes it.
        holder: String,
    },
    /// All its tags are where they were to be.
    Done,
    /// A tag was refused, and all were put back.
    Undone,
    /// It was taken back by this publication.
    RolledBack(String),
}

/// What a list says of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) id: String,
    /// How far it has come.
    pub(crate) state: State,
    /// How new it is.
    pub(crate) generation: Generation,
    /// When it began.
    pub(crate) begun_seconds: u64,
    /// How many images and tags.
    pub(crate) images: usize,
    /// How many tags.
    pub(crate) tags: usize,
    /// The publication that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rolls_back: Option<String>,
    /// The commit of the family's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    /// Where its journal is.
    #[serde(skip)]
    pub(crate) digest: Option<Digest>,
    /// The size of that.
    #[serde(skip)]
    pub(crate) size: u64,
}

/// The newest journals of a target, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    /// The journals.
    pub(crate) listed: Vec<Listed>,
    /// The newest generation of all that ever were.
    pub(crate) highest: Generation,
}

impl Entry {
    /// Its bytes.
    pub(super) fn bytes(&self) -> Result<Bytes, Error> {
        let written = serde_json::to_vec(self);
        written.map(Bytes::from).map_err(|error| invalid("write a journal").because(error))
    }

    /// What a list says of it while it is in this state.
    pub(super) fn listed(&self, state: State, bytes: &Bytes) -> Listed {
        Listed {
            id: self.id.clone(),
            state,
            generation: self.generation,
            begun_seconds: self.begun_seconds,
            images: self.images.len(),
            tags: self.tags.len(),
            rolls_back: self.rolls_back.clone(),
            commit: self.commit.clone(),
            digest: Some(Digest::of(bytes)),
            size: bytes.len() as u64,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// `Unsupported` for another version, `Invalid` for anything else.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let doing = "read the journal of a publication";
        let versioned: Versioned =
            serde_json::from_slice(bytes).map_err(|error| invalid(doing).because(error))?;
        if versioned.version != JOURNAL_VERSION {
            let what = format!("{doing}: it has version {}; use a newer polyarch", versioned.version);
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        serde_json::from_slice(bytes).map_err(|error| invalid(doing).because(error))
    }
}

impl Journal {
    /// The publication that has not ended. There is never more than one.
    pub(crate) fn open(&self) -> Option<(&Listed, u64)> {
        self.listed.iter().find_map(|listed| match &listed.state {
            State::Open { until_seconds, .. } => Some((listed, *until_seconds)),
            _ => None,
        })
    }

    /// What the list says of a publication.
    pub(crate) fn find(&self, id: &str) -> Option<&Listed> {
        self.listed.iter().find(|listed| listed.id == id)
    }

    /// Whether a publication came to nothing, was taken back, or is being taken back.
    pub(super) fn is_taken_back(&self, id: &str) -> bool {
        self.listed.iter().any(|one| match one.state {
            State::Undone | State::RolledBack(_) => one.id == id,
            State::Open { .. } | State::Done => one.rolls_back.as_deref() == Some(id),
        })
    }

    /// The same with one more, or with a newer state of one that it has.
    pub(super) fn with(&self, listed: Listed) -> Self {
        let mut changed = self.clone();
        changed.highest = changed.highest.max(listed.generation);
        match changed.listed.iter_mut().find(|one| one.id == listed.id) {
            Some(one) => *one = listed,
            None => changed.listed.insert(0, listed),
        }
        changed.listed.truncate(KEPT);
        changed
    }

    /// The same with another state of one that it has.
    pub(super) fn with_state(&self, id: &str, state: &State) -> Self {
        let mut changed = self.clone();
        for listed in changed.listed.iter_mut().filter(|listed| listed.id == id) {
            listed.state = state.clone();
        }
        changed
    }

    /// As a document.
    pub(super) fn document(&self) -> Result<Document, Error> {
        let doing = "write the list of publications";
        let mut layers = Vec::new();
        for listed in &self.listed {
            let Some(digest) = listed.digest.clone() else { continue };
            let mut layer = Descriptor::new(ENTRY, digest, listed.size);
            layer.annotations.insert(LISTED.to_owned(), json(listed, doing)?);
            layers.push(layer);
        }
        Ok(Document::of_manifest(&Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            artifact_type: Some(ARTIFACT.to_owned()),
            config: Descriptor::of(MediaType::EMPTY, EMPTY),
            layers,
            subject: None,
            annotations: BTreeMap::from([(HIGHEST.to_owned(), json(&self.highest, doing)?)]),
        }))
    }

    /// Reads one.
    ///
    /// # Errors
    /// `Invalid` where the document is something else.
    pub(super) fn parse(document: &Document) -> Result<Self, Error> {
        let doing = "read the list of publications";
        let manifest = document.manifest()?;
        if manifest.artifact_type.as_deref() != Some(ARTIFACT) {
            return Err(invalid(&format!("{doing}: what stands under the tag is none")));
        }
        let wrong = |error: serde_json::Error| invalid(doing).because(error);
        let mut listed = Vec::new();
        for layer in manifest.layers {
            let text = layer.annotations.get(LISTED).map_or("", String::as_str);
            let one: Listed = serde_json::from_str(text).map_err(wrong)?;
            listed.push(Listed { digest: Some(layer.digest), size: layer.size, ..one });
        }
        let highest = manifest.annotations.get(HIGHEST).map_or("", String::as_str);
        Ok(Self { listed, highest: serde_json::from_str(highest).map_err(wrong)? })
    }
}

fn json(value: &impl Serialize, doing: &str) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| invalid(doing).because(error))
}

fn invalid(doing: &str) -> Error {
    Error::new(ErrorKind::Invalid, doing)
}
