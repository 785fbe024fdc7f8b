//! Small documents of JSON, each under one fixed tag of a scope: what is known of all jobs together.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::oci::{Descriptor, Document, Error, ErrorKind, Manifest, MediaType, Repository, Tag, Terms};

use super::Records;

const EMPTY: &[u8] = b"{}";

/// One kind of small document.
pub(super) struct Note {
    /// The tag that it stands under, which is what it is called.
    pub(super) name: &'static str,
}

impl Note {
    fn tag(&self) -> Tag {
        self.name.parse().expect("a fixed name is a tag")
    }

    fn annotation(&self) -> String {
        format!("dev.polyarch.{}", self.name)
    }

    /// The JSON of what is to stand there.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub(super) fn text(&self, value: &impl Serialize) -> Result<String, Error> {
        let wrong = |error| Error::new(ErrorKind::Invalid, format!("write {}", self.name)).because(error);
        serde_json::to_string(value).map_err(wrong)
    }

    /// The text of a document.
    pub(super) fn read(&self, document: &Document) -> Option<String> {
        document.manifest().ok()?.annotations.remove(&self.annotation())
    }

    /// The document of a text.
    pub(super) fn document(&self, text: String) -> Document {
        Document::of_manifest(&Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            artifact_type: Some(format!("application/vnd.polyarch.{}.v1+json", self.name)),
            config: Descriptor::of(MediaType::EMPTY, EMPTY),
            layers: Vec::new(),
            subject: None,
            annotations: BTreeMap::from([(self.annotation(), text)]),
        })
    }
}

impl Records {
    /// What stands under the tag of a small document somewhere; `None` also where it cannot be understood.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) async fn read_note<T: DeserializeOwned>(
        &self,
        scope: &Repository,
        note: &Note,
    ) -> Result<Option<T>, Error> {
        let document = match self.far.as_ref().filter(|far| far.is_there(scope)) {
            // A list of tags is from before others wrote.
            Some(far) => far.read(scope, &note.tag()).await?,
            None => self.document(scope, &note.tag()).await?,
        };
        let text = document.and_then(|document| note.read(&document));
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Put a small document in the place of whatever stands under its own tag.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) async fn write_note(&self, note: &Note, document: &Document) -> Result<(), Error> {
        self.write_note_under(&note.tag(), document).await
    }

    /// See that what every small document is of is in the scope.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) async fn bring_empty(&self) -> Result<(), Error> {
        self.store.write_blob(&self.scope, EMPTY.into()).await.map(drop)
    }

    /// Put a small document in the place of whatever stands under a tag.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) async fn write_note_under(&self, tag: &Tag, document: &Document) -> Result<(), Error> {
        self.bring_empty().await?;
        let tags = [tag.clone()];
        let Some(far) = &self.far else {
            return self.store.write_document(&self.scope, document, &tags).await;
        };
        // What others read is what counts.
        far.give(&self.origin(), document, &tags, &Terms::default()).await?;
        self.store.write_document(&self.scope, document, &tags).await
    }
}
