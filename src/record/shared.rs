//! What of a run's records stands at a registry, and what goes there.

use std::sync::Arc;

use super::{Passed, RecordKind, Records, tag};
use crate::oci::{
    Beside, Descriptor, Digest, Document, Error, Repository, Store, Terms, copy_image, image_stands,
};

impl Records {
    /// The same that keep nothing at the registry.
    #[must_use]
    pub(crate) fn keeping_here(self) -> Self {
        if let Some(far) = &self.far {
            far.refuse("it is kept here alone");
        }
        self
    }

    /// The same of a run that hands on what it has made: also one of the trusted scope may do without the right to write at the
    /// registry.
    #[must_use]
    pub(crate) fn handing_on(self) -> Self {
        self.far.iter().for_each(|far| far.hand_on());
        self
    }

    /// Whether a record stands at the registry, where others find it, by what was read and given so far.
    pub(crate) fn stands_there(&self, kind: RecordKind, key: &Digest) -> bool {
        self.far.as_ref().is_some_and(|far| far.has_record(&self.read, &tag(kind.word(), key)))
    }

    /// Whether an image stands at the registry, as a record there says, which holds what its records are of.
    pub(crate) fn stands_far(&self, image: &Digest) -> bool {
        self.place_of(image).is_some()
    }

    /// The scope at the registry that has an image, as a record there says.
    pub(crate) fn place_of(&self, image: &Digest) -> Option<Repository> {
        self.far.as_ref()?.place_of(image)
    }

    /// Whether a blob of a scope at the registry is whole, by having it in the run's own scope there too: nothing stands on it
    /// yet. `false` says nothing.
    ///
    /// # Errors
    /// Where the registry fails.
    pub(crate) async fn brings_whole(&self, blob: &Descriptor, from: &Repository) -> Result<bool, Error> {
        match self.far.as_ref().filter(|far| far.refused().is_none()) {
            Some(far) if from != far.own() => far.store.mount_whole(far.own(), blob, from).await,
            _ => Ok(false),
        }
    }

    /// Remember the manifest of an image at the registry: its bytes are asked for no more, whether it is there is.
    pub(crate) fn has_read_manifest(&self, manifest: &Document) {
        if let Some(far) = &self.far {
            far.has_read_manifest(manifest);
        }
    }

    /// The store, which reads such manifests from memory.
    pub(crate) fn content(&self) -> Arc<dyn Store> {
        let manifests = self.far.as_ref().map(|far| far.manifests()).unwrap_or_default();
        match manifests.is_empty() {
            true => self.store.clone(),
            false => Arc::new(Beside::new(self.store.clone()).knowing(manifests)),
        }
    }

    /// Why the results of this run are in the folder alone, where the registry does not let it write.
    pub(crate) fn refused(&self) -> Option<String> {
        self.far.as_ref()?.refused()
    }

    /// See that an image is in the folder: what is at the registry alone is copied, blob by blob.
    ///
    /// # Errors
    /// `NotFound` where it is nowhere, and where the registry or the folder fails.
    pub(crate) async fn bring(&self, image: &Digest) -> Result<(), Error> {
        if self.far.is_none() || image_stands(&*self.local, &self.scope, image).await? {
            return Ok(());
        }
        let document = self.store.read_document(&self.scope, &image.clone().into()).await?;
        copy_image(&self.origin(), &document, &*self.local, &self.scope, None).await.map(drop)
    }

    /// See that the registry has the records of a job that are in the folder's own scope.
    ///
    /// # Errors
    /// Where the registry or the folder fails.
    pub(crate) async fn share(&self, passed: &Passed) -> Result<(), Error> {
        let Some(far) = self.far.as_ref().filter(|far| far.refused().is_none()) else { return Ok(()) };
        let image = RecordKind::Image.tags(&passed.image.key, &passed.image.job);
        let checks = RecordKind::Checks.tags(&passed.checks.key, &passed.checks.job);
        for tags in [image, checks] {
            if far.has(&tags[0]).await? {
                continue;
            }
            if let Some(document) = self.document(&self.scope, &tags[0]).await? {
                far.give(&self.origin(), &document, &tags, &Terms::default()).await?;
            }
        }
        Ok(())
    }
}
