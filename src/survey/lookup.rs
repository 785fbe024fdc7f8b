//! Images from outside, looked up at their registries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::time::timeout;

use crate::family::Family;
use crate::oci::{Digest, Document, Error, Platform, Reference, Store};
use crate::plan::Base;

/// Where images from outside come from: one store a registry, made by `cli` with the user's credentials.
pub(crate) type Registries = dyn Fn(&str) -> Result<Arc<dyn Store>, Error> + Send + Sync;

/// How long one look-up may take in all, whatever the registry asks for: a person waits for the plan.
const LOOKUP_LIMIT: Duration = Duration::from_secs(20);
/// The largest image configuration that is read: 4 MiB.
const CONFIG_BYTES_LIMIT: u64 = 4 << 20;

/// Every image from outside that the family uses, looked up side by side.
pub(super) async fn bases(family: &Family, registries: &Registries) -> BTreeMap<Reference, Base> {
    let builds = family.recipes().flat_map(|recipe| recipe.platforms.values());
    let references: BTreeSet<&Reference> = builds.flat_map(|build| build.outside()).collect();
    let found = join_all(references.into_iter().map(async |reference| {
        let looked_up = timeout(LOOKUP_LIMIT, platforms(reference, registries));
        let base = match looked_up.await {
            Ok(Ok(platforms)) => Base::Found(platforms),
            Ok(Err(error)) => Base::Unknown(with_sources(&error)),
            Err(_) => Base::Unknown(format!("no answer within {} s", LOOKUP_LIMIT.as_secs())),
        };
        (reference.clone(), base)
    }));
    found.await.into_iter().collect()
}

/// A frontend at its digest, or as it is written where it cannot be looked up.
pub(super) async fn frontend(written: &str, registries: &Registries) -> String {
    let look = async {
        let reference: Reference = written.parse()?;
        let registry = registries(reference.registry())?;
        let found = registry.resolve(reference.repository(), &reference.pointer()).await?;
        Ok::<_, Error>(found.map(|found| reference.at(found.digest).to_string()))
    };
    let found = timeout(LOOKUP_LIMIT, look).await.ok().and_then(Result::ok).flatten();
    found.unwrap_or_else(|| written.to_owned())
}

/// The manifest of an image for each of its platforms.
async fn platforms(
    reference: &Reference,
    registries: &Registries,
) -> Result<BTreeMap<Platform, Digest>, Error> {
    let registry = registries(reference.registry())?;
    let document = registry.read_document(reference.repository(), &reference.pointer()).await?;
    if document.is_index() {
        let entries = document.index()?.manifests.into_iter();
        return Ok(entries.filter_map(|entry| Some((entry.platform?, entry.digest))).collect());
    }
    let platform = platform_of(&*registry, reference, &document).await?;
    Ok(BTreeMap::from([(platform, document.digest().clone())]))
}

/// The platform of a single image, which only its configuration tells.
async fn platform_of(
    registry: &dyn Store,
    reference: &Reference,
    document: &Document,
) -> Result<Platform, Error> {
    #[derive(Deserialize)]
    struct Fields {
        os: String,
        architecture: String,
        #[serde(default)]
        variant: Option<String>,
    }
    let config = document.manifest()?.config.digest;
    let reader = registry.read_blob(reference.repository(), &config, None).await?;
    let bytes = reader.collect(&config, CONFIG_BYTES_LIMIT).await?;
    let fields: Fields = serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(crate::oci::ErrorKind::Invalid, format!("read the configuration of {reference}"))
            .because(error)
    })?;
    Ok(Platform::from_fields(&fields.os, &fields.architecture, fields.variant.as_deref()))
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        next = cause.source();
    }
    text
}
