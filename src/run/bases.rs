//! Images from outside: looked up by name, and copied into the store by digest, once each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::diag::Diagnostic;
use crate::engine::StoreAddress;
use crate::oci::{
    Digest, Document, Error, Origin, Platform, Reference, Repository, Store, copy_image, image_stands,
};
use crate::plan::Frontend;
use crate::survey::Registries;

/// Copies of images from outside in the scope of the store.
pub(super) struct Bases {
    store: Arc<dyn Store>,
    scope: Repository,
    registries: Arc<Registries>,
    /// One lock an image, so that jobs which need the same one wait for one copy.
    copied: Mutex<BTreeMap<Digest, Arc<Mutex<bool>>>>,
}

impl Bases {
    /// Nothing copied yet.
    pub(super) fn new(store: Arc<dyn Store>, scope: Repository, registries: Arc<Registries>) -> Self {
        Self { store, scope, registries, copied: Mutex::default() }
    }

    /// See that the manifest of an image from outside, and all that it refers to, is in the scope.
    ///
    /// # Errors
    /// Where the registry or the store fails.
    pub(super) async fn ensure(&self, reference: &Reference, image: &Digest) -> Result<(), Diagnostic> {
        let one = self.copied.lock().await.entry(image.clone()).or_default().clone();
        let mut done = one.lock().await;
        if !*done {
            let failed = |error: Error| {
                Diagnostic::surroundings(format!(
                    "copy base image {reference} ({}) into the store",
                    image.short()
                ))
                .caused_by(&error)
                .hint("see whether the registry answers: polyarch doctor")
            };
            self.copy(reference, image).await.map_err(failed)?;
            *done = true;
        }
        Ok(())
    }

    /// What an engine is to fetch a frontend by, so that it is the one whose digest the key holds: its manifest in the
    /// scope for one of the platforms that the engine's machine runs itself; where there is none, or the engine does not
    /// reach the store, the whole at its registry. None where it is unknown, so that what is written stays.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub(super) async fn frontend(
        &self,
        frontend: &Frontend,
        native: &BTreeSet<Platform>,
        store: Option<&StoreAddress>,
    ) -> Result<Option<String>, Diagnostic> {
        let Frontend::Found { reference, platforms } = frontend else { return Ok(None) };
        // The wider architecture of a machine stands behind its narrower one: amd64 behind 386.
        let image = native.iter().rev().find_map(|platform| platforms.get(platform));
        let Some((image, store)) = image.zip(store) else {
            return Ok(Some(reference.to_string()));
        };
        self.ensure(reference, image).await?;
        Ok(Some(store.at(image)))
    }

    async fn copy(&self, reference: &Reference, image: &Digest) -> Result<(), Error> {
        if image_stands(&*self.store, &self.scope, image).await? {
            return Ok(());
        }
        let registry = (self.registries)(reference.registry())?;
        let document: Document =
            registry.read_document(reference.repository(), &image.clone().into()).await?;
        let origin = Origin { store: &*registry, repository: reference.repository() };
        copy_image(&origin, &document, &*self.store, &self.scope, None).await.map(drop)
    }
}
