//! Records as they stand in a scope, byte for byte: what is signed, and carried from one scope to another.

use std::sync::Arc;

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use crate::family::JobId;
use crate::oci::{Beside, Digest, Document, Error, Origin, Repository, Tag, Terms};
use crate::trust::Doubt;

use super::{ANNOTATION, Records, SIGNATURES, ScopeName, newest_tag, tag, tested_tag};

/// How many signatures of a record are kept, and looked at: while a key is replaced a record has two, and whoever may write
/// a scope may put in many.
const SIGNATURES_LIMIT: usize = 8;

/// A record in the scope that it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The repository of the scope.
    pub(crate) scope: Repository,
    /// The document that holds it.
    pub(crate) document: Document,
    /// Its JSON, as it was written.
    pub(crate) text: String,
    /// What was signed of it, the latest first: Sigstore bundles.
    pub(crate) signatures: Vec<String>,
}

/// Which kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// Of an image.
    Image,
    /// Of checks.
    Checks,
}

impl RecordKind {
    /// The word that its tags begin with.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Checks => "checks",
        }
    }

    /// What a record of this kind stands under: its key, and its job, whose latest it is.
    pub(super) fn tags(self, key: &Digest, job: &str) -> [Tag; 2] {
        let latest = match self {
            Self::Image => newest_tag(job),
            Self::Checks => tested_tag(job),
        };
        [tag(self.word(), key), latest]
    }
}

impl Kept {
    /// What a document of a scope holds; of one that holds no record the text is empty.
    pub(crate) fn of(scope: &Repository, document: Document) -> Self {
        let mut annotations = document.index().map(|index| index.annotations).unwrap_or_default();
        let text = annotations.remove(ANNOTATION).unwrap_or_default();
        let signatures = annotations.remove(SIGNATURES).and_then(|list| serde_json::from_str(&list).ok());
        let mut signatures: Vec<String> = signatures.unwrap_or_default();
        signatures.truncate(SIGNATURES_LIMIT);
        Self { scope: scope.clone(), document, text, signatures }
    }

    /// Its document with one more signature: the record is the same, byte for byte.
    fn signed(&self, signature: String) -> Result<Document, Error> {
        let mut index = self.document.index()?;
        let signatures: Vec<&String> =
            std::iter::once(&signature).chain(&self.signatures).take(SIGNATURES_LIMIT).collect();
        index.annotations.insert(SIGNATURES.to_owned(), super::text(&signatures)?);
        Ok(Document::of_index(&index))
    }

    /// The digest of its exact bytes: what is signed.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// What it says, where it is of this kind, whole and of the key that it stands under.
    pub(crate) fn read<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        super::parse(&self.document, Some(key)).ok()
    }
}

/// Who says which records count.
#[async_trait]
pub(crate) trait Witness: Send + Sync {
    /// Whether a record counts by what was signed of it, or why not.
    ///
    /// # Errors
    /// Where what is needed to tell fails.
    async fn judge(&self, record: &Kept) -> Result<Result<(), Doubt>, Error>;
}

impl Records {
    /// The same, of which only those count that somebody says do.
    #[must_use]
    pub(crate) fn judged_by(self, witness: Option<Arc<dyn Witness>>) -> Self {
        Self { witness, ..self }
    }

    /// The same, with those of one more scope, which are read last, and its content by digest.
    #[must_use]
    pub(crate) fn before(mut self, scope: &ScopeName) -> Self {
        let behind = scope.repository();
        let local = Beside::new(self.local.clone()).behind(&self.scope, self.local, behind.clone());
        let there = self.far.as_ref().and_then(|far| far.repository(&behind).ok());
        self.read.extend(there.into_iter().chain([behind]));
        Self { local: Arc::new(local), ..self }.seeing()
    }

    /// What stands under a key, in every scope that is read, the nearest first.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn kept(&self, kind: RecordKind, key: &Digest) -> Result<Vec<Kept>, Error> {
        let tag = tag(kind.word(), key);
        let mut found = Vec::new();
        for scope in self.scopes() {
            let document = self.document(scope, &tag).await?;
            found.extend(document.map(|document| Kept::of(scope, document)));
        }
        Ok(found)
    }

    /// Keeps a record where it was found with one more signature, under its key.
    ///
    /// # Errors
    /// Where the store fails, or the record is none.
    pub(crate) async fn keep_signed(
        &self,
        kind: RecordKind,
        key: &Digest,
        record: &Kept,
        signature: String,
    ) -> Result<(), Error> {
        let (document, tag) = (record.signed(signature)?, tag(kind.word(), key));
        self.store.write_document(&record.scope, &document, std::slice::from_ref(&tag)).await?;
        if let Some(far) = self.far.as_ref().filter(|far| far.is_there(&record.scope)) {
            far.has_read(&record.scope, &tag, &document);
        }
        Ok(())
    }

    /// Keeps in the scope itself what counts under a key and was read from behind it, with what was signed of it: its
    /// bytes are the same there. Of a store at a registry that is done there alone, and nothing of it
    /// passes through here.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn adopt(&self, kind: RecordKind, key: &Digest, job: &JobId) -> Result<(), Error> {
        let tags = kind.tags(key, &job.to_string());
        for record in self.read_before(&tags[0]).await? {
            if self.word(&record).await?.is_err() {
                continue;
            }
            if record.scope == self.scope || record.scope == *self.shared() {
                return Ok(());
            }
            let origin = Origin { store: &*self.store, repository: &record.scope };
            return match &self.far {
                Some(far) => far.give(&origin, &record.document, &tags, &Terms::default()).await,
                None => self.keep(&record.document, &tags).await,
            };
        }
        Ok(())
    }

    /// What stands under a tag, in every scope that is read; of a registry what was read last, which is what the plan
    /// is of.
    async fn read_before(&self, tag: &Tag) -> Result<Vec<Kept>, Error> {
        let mut found = Vec::new();
        for scope in self.scopes() {
            let document = match self.far.as_ref().and_then(|far| far.last_read(scope, tag)) {
                Some(document) => Some(document),
                None => self.document(scope, tag).await?,
            };
            found.extend(document.map(|document| Kept::of(scope, document)));
        }
        Ok(found)
    }

    /// Whether a record counts, or why it does not.
    pub(super) async fn word(&self, record: &Kept) -> Result<Result<(), Doubt>, Error> {
        match &self.witness {
            None => Ok(Ok(())),
            Some(witness) => witness.judge(record).await,
        }
    }
}
