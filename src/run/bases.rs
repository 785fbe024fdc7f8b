//! Images from outside: looked up by name, and copied into the store by digest, once each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::diag::Diagnostic;
use crate::engine::StoreAddress;
use crate::family::Unit;
use crate::oci::{Digest, Document, Error, ErrorKind, Origin, Platform, Reference, copy_image, image_stands};
use crate::plan::Frontend;
use crate::record::Records;
use crate::survey::Registries;

/// Copies of images from outside in the scope of the store.
pub(super) struct Bases {
    records: Records,
    registries: Arc<Registries>,
    /// One lock an image, so that jobs which need the same one wait for one copy.
    copied: Mutex<BTreeMap<Digest, Arc<Mutex<bool>>>>,
}

impl Bases {
    /// Nothing copied yet.
    pub(super) fn new(records: Records, registries: Arc<Registries>) -> Self {
        Self { records, registries, copied: Mutex::default() }
    }

    /// See that the manifest of an image from outside, and all that it refers to, is in the scope.
    ///
    /// # Errors
    /// Where the registry or the store fails.
    pub(super) async fn ensure(&self, reference: &Reference, image: &Digest) -> Result<(), Diagnostic> {
        let what = format!("copy base image {reference} ({}) into the store", image.short());
        self.once(image, self.copy(reference, image)).await.map_err(|error| unanswered(what, &error))
    }

    /// See that an image of the family is where engines are fed from, where the store is at a registry.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub(super) async fn bring(&self, unit: &Unit, image: &Digest) -> Result<(), Diagnostic> {
        let what = format!("bring {unit} ({}) from the store", image.short());
        let brought = self.once(image, self.records.bring(image)).await;
        brought.map_err(|error| match error.is_not_found() || error.kind() == ErrorKind::Mismatch {
            true => Diagnostic::surroundings(what)
                .caused_by(&error)
                .because("its record stands at the registry, which has lost some of the image")
                .hint(format!("build it again, so that it is whole there: polyarch build {unit} --no-reuse")),
            false => unanswered(what, &error),
        })
    }

    async fn once(
        &self,
        image: &Digest,
        copying: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let one = self.copied.lock().await.entry(image.clone()).or_default().clone();
        let mut done = one.lock().await;
        if !*done {
            copying.await?;
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
        let Frontend::Found { reference, platforms, .. } = frontend else { return Ok(None) };
        // The wider architecture of a machine stands behind its narrower one: amd64 behind 386.
        let image = native.iter().rev().find_map(|platform| platforms.get(platform));
        let Some((image, store)) = image.zip(store) else {
            return Ok(Some(reference.to_string()));
        };
        self.ensure(reference, image).await?;
        Ok(Some(store.at(image)))
    }

    async fn copy(&self, reference: &Reference, image: &Digest) -> Result<(), Error> {
        let (store, scope) = (&**self.records.local(), &self.records.scope);
        if image_stands(store, scope, image).await? {
            return Ok(());
        }
        let registry = (self.registries)(reference.registry())?;
        let document: Document =
            registry.read_document(reference.repository(), &image.clone().into()).await?;
        let origin = Origin { store: &*registry, repository: reference.repository() };
        copy_image(&origin, &document, store, scope, None).await.map(drop)
    }
}

fn unanswered(what: String, error: &Error) -> Diagnostic {
    Diagnostic::surroundings(what).caused_by(error).hint("see whether the registry answers: polyarch doctor")
}
