//! The scopes of a run as they stand at a registry, which other machines read and write too.
//!
//! Records are looked up there under their tags, of which a list is asked for once. What a run keeps is given to the
//! registry at once, blobs before manifests and records last, so that at no moment a record names what is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::oci::{
    Digest, Document, Error, ErrorKind, ImageIndex, Origin, Pointer, Repository, Store, Tag, Terms,
    copy_image,
};

use super::ScopeName;

/// How many tags a list may have that stands for single questions; a longer one is not read to its end.
const LISTED: usize = 1000;

/// The scopes of a run at a registry.
pub(super) struct Far {
    /// The registry.
    pub(super) store: Arc<dyn Store>,
    prefix: Repository,
    /// The run's own scope there.
    own: Repository,
    trusted: Repository,
    listed: BTreeMap<Repository, OnceCell<Option<BTreeSet<Tag>>>>,
    known: Mutex<Known>,
}

/// What is known of the registry by now.
#[derive(Default)]
struct Known {
    /// Tags of the own scope that are there.
    tags: BTreeSet<Tag>,
    /// Images of the own scope that are there.
    own: BTreeSet<Digest>,
    /// Images that are there in one of the scopes, as a record of it says, and the first such scope.
    images: BTreeMap<Digest, Repository>,
    /// Manifests of images that were read.
    manifests: BTreeMap<Digest, Document>,
    /// Why nothing can be written.
    refused: Option<String>,
    /// Also a run of the trusted scope may do without the right to write: others write what it has made.
    hands_on: bool,
    /// The records that were read last, under their tags.
    records: BTreeMap<(Repository, Tag), Document>,
    /// The roll of the own scope that was read, under its tag.
    roll: Option<(Tag, Document)>,
}

impl Far {
    /// The scopes that a run reads, of which `own` is its own, below a prefix at a registry.
    pub(super) fn new(
        store: Arc<dyn Store>,
        prefix: &Repository,
        own: &Repository,
        read: &[Repository],
    ) -> Result<Self, Error> {
        let trusted = prefix.join(ScopeName::trusted().repository().as_str())?;
        let listed = read.iter().map(|scope| Ok((prefix.join(scope.as_str())?, OnceCell::new())));
        let listed = listed.collect::<Result<_, Error>>()?;
        let (own, prefix) = (prefix.join(own.as_str())?, prefix.clone());
        Ok(Self { store, prefix, own, trusted, listed, known: Mutex::default() })
    }

    /// A scope as it is called at the registry.
    pub(super) fn repository(&self, scope: &Repository) -> Result<Repository, Error> {
        self.prefix.join(scope.as_str())
    }

    /// Whether that is a repository of the registry.
    pub(super) fn is_there(&self, scope: &Repository) -> bool {
        scope.is_below(&self.prefix)
    }

    /// What stands before the names of its repositories.
    pub(super) fn prefix(&self) -> &Repository {
        &self.prefix
    }

    /// The run's own scope there.
    pub(super) fn own(&self) -> &Repository {
        &self.own
    }

    /// The trusted scope there.
    pub(super) fn trusted(&self) -> &Repository {
        &self.trusted
    }

    /// Whether the run is one of the trusted scope.
    fn is_trusted(&self) -> bool {
        self.own == self.trusted
    }

    /// What stands under a tag of a scope there.
    ///
    /// # Errors
    /// Where the registry fails. One that does not show a scope which is not the trusted one has nothing in it.
    pub(super) async fn document(&self, there: &Repository, tag: &Tag) -> Result<Option<Document>, Error> {
        if !self.may_have(there, tag).await? {
            return Ok(None);
        }
        self.read(there, tag).await
    }

    /// The same, asked for whatever a list of tags says.
    ///
    /// # Errors
    /// As [`Self::document`].
    pub(super) async fn read(&self, there: &Repository, tag: &Tag) -> Result<Option<Document>, Error> {
        match self.store.read_document(there, &Pointer::Tag(tag.clone())).await {
            Ok(document) => Ok(Some(document)),
            Err(error) if self.is_nothing(there, &error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record that was read last under a tag of a scope there.
    pub(super) fn last_read(&self, there: &Repository, tag: &Tag) -> Option<Document> {
        self.known().records.get(&(there.clone(), tag.clone())).cloned()
    }

    /// Whether a record stands there under a tag, in one of these scopes or the own one, by what was read and given so far.
    pub(super) fn has_record(&self, scopes: &[Repository], tag: &Tag) -> bool {
        let known = self.known();
        let is_read = |scope: &Repository| known.records.contains_key(&(scope.clone(), tag.clone()));
        known.tags.contains(tag) || scopes.iter().any(is_read)
    }

    /// Remember a record that was read.
    pub(super) fn has_read(&self, there: &Repository, tag: &Tag, document: &Document) {
        self.known().records.insert((there.clone(), tag.clone()), document.clone());
    }

    /// Remember that a record of a scope there stands, and so what it is of.
    pub(super) fn found(&self, there: &Repository, tag: &Tag, index: &ImageIndex) {
        let mut known = self.known();
        let images = index.manifests.iter().map(|entry| entry.digest.clone());
        for image in images.clone() {
            known.images.entry(image).or_insert_with(|| there.clone());
        }
        if *there == self.own {
            known.tags.insert(tag.clone());
            known.own.extend(images);
        }
    }

    /// The scope that an image is in, by what was read so far.
    pub(super) fn place_of(&self, image: &Digest) -> Option<Repository> {
        let known = self.known();
        known.images.get(image).cloned()
    }

    /// Remember the manifest of an image. Its bytes are asked for no more; whether it is there is.
    pub(super) fn has_read_manifest(&self, manifest: &Document) {
        self.known().manifests.insert(manifest.digest().clone(), manifest.clone());
    }

    /// The manifests that were read.
    pub(super) fn manifests(&self) -> BTreeMap<Digest, Document> {
        self.known().manifests.clone()
    }

    /// Whether a tag stands in the own scope there.
    ///
    /// # Errors
    /// Where the registry fails.
    pub(super) async fn has(&self, tag: &Tag) -> Result<bool, Error> {
        if self.known().tags.contains(tag) {
            return Ok(true);
        }
        match self.list(&self.own).await? {
            Some(tags) => Ok(tags.contains(tag)),
            None => Ok(self.store.resolve(&self.own, &Pointer::Tag(tag.clone())).await?.is_some()),
        }
    }

    /// Why nothing of this run stands there, where the registry does not let it write.
    pub(super) fn refused(&self) -> Option<String> {
        self.known().refused.clone()
    }

    /// An image was made anew: that a record of it stands does not say any more that all of it is there.
    pub(super) fn doubt(&self, image: &Digest) {
        self.known().own.remove(image);
    }

    /// From now on it is no error that nothing can be written.
    pub(super) fn hand_on(&self) {
        self.known().hands_on = true;
    }

    /// From now on nothing is given to it.
    pub(super) fn refuse(&self, why: &str) {
        self.known().refused = Some(why.to_owned());
    }

    /// Bring a document, with the images that it names, into the own scope there, and move these tags to it on terms.
    ///
    /// # Errors
    /// Where the registry fails, or the terms do not hold. A run of another scope than the trusted one, and one that hands on what it
    /// has made, may do without the right to write.
    pub(super) async fn give(
        &self,
        origin: &Origin<'_>,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        if self.known().refused.is_some() {
            return Ok(());
        }
        match self.bring(origin, document, tags, terms).await {
            Err(error) if error.kind() == ErrorKind::Denied && self.does_without() => {
                self.known().refused = Some(error.to_string());
                Ok(())
            }
            given => given,
        }
    }

    /// Whether this run may do without the right to write.
    fn does_without(&self) -> bool {
        !self.is_trusted() || self.known().hands_on
    }

    async fn bring(
        &self,
        origin: &Origin<'_>,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        // What is at the registry already is mounted.
        let from = match self.is_there(origin.repository) {
            true => Some(origin.repository),
            false => (!self.is_trusted()).then_some(&self.trusted),
        };
        let entries = if document.is_index() { document.index()?.manifests } else { Vec::new() };
        for image in entries.into_iter().map(|entry| entry.digest) {
            if !self.known().own.contains(&image) {
                let read = self.known().manifests.get(&image).cloned();
                let document = match read {
                    Some(document) => document,
                    None => origin.store.read_document(origin.repository, &image.clone().into()).await?,
                };
                copy_image(origin, &document, &*self.store, &self.own, from).await?;
                self.known().own.insert(image);
            }
        }
        for blob in if document.is_index() { Vec::new() } else { document.blobs()? } {
            self.store.take_blob(&self.own, &blob, from, origin).await?;
        }
        self.store.write_document_on(&self.own, document, tags, terms).await?;
        self.known().tags.extend(tags.iter().cloned());
        Ok(())
    }

    /// The roll under a tag of a scope there, of which no list is asked for.
    ///
    /// # Errors
    /// Where the registry fails.
    pub(super) async fn roll(&self, there: &Repository, tag: &Tag) -> Result<Option<Document>, Error> {
        let found = self.read(there, tag).await?;
        if *there == self.own {
            self.known().roll = found.clone().map(|document| (tag.clone(), document));
        }
        Ok(found)
    }

    /// The roll of the own scope that was read; only once.
    pub(super) fn take_roll(&self) -> Option<(Tag, Document)> {
        self.known().roll.take()
    }

    /// Whether the run may leave a roll there.
    pub(super) fn keeps_rolls(&self) -> bool {
        self.is_trusted()
    }

    /// Whether a tag may stand in a repository there: not where there is a list of its tags without it.
    async fn may_have(&self, there: &Repository, tag: &Tag) -> Result<bool, Error> {
        if *there == self.own && self.known().tags.contains(tag) {
            return Ok(true);
        }
        Ok(self.list(there).await?.is_none_or(|tags| tags.contains(tag)))
    }

    /// The tags of a repository there; `None` where there are more than are read.
    async fn list(&self, there: &Repository) -> Result<Option<&BTreeSet<Tag>>, Error> {
        let Some(cell) = self.listed.get(there) else { return Ok(None) };
        let listed = cell.get_or_try_init(async || match self.store.tags(there, None, LISTED).await {
            Ok(tags) => Ok((tags.len() < LISTED).then(|| tags.into_iter().collect())),
            Err(error) if self.is_nothing(there, &error) => Ok(Some(BTreeSet::new())),
            Err(error) => Err(error),
        });
        Ok(listed.await?.as_ref())
    }

    /// Whether an answer means that nothing is there. Of a repository that is not there many registries say that it
    /// is not for this one to see; the trusted scope must be.
    fn is_nothing(&self, there: &Repository, error: &Error) -> bool {
        error.is_not_found() || (error.kind() == ErrorKind::Denied && *there != self.trusted)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
