//! Images from outside, looked up at their registries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::time::timeout;

use crate::dockerfile::{Dockerfile, Written};
use crate::family::{Family, Unit};
use crate::oci::{Digest, Document, Error, Platform, Reference, Store};
use crate::plan::{Base, Frontend};

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
        let base = match looked_up(reference, registries).await {
            Ok((_, platforms)) => Base::Found(platforms),
            Err(why) => Base::Unknown(why),
        };
        (reference.clone(), base)
    }));
    found.await.into_iter().collect()
}

/// The frontend of each unit that names one by `# syntax=`, each looked up once, side by side.
pub(super) async fn frontends(family: &Family, registries: &Registries) -> BTreeMap<Unit, Frontend> {
    let written = family.recipes().filter_map(|recipe| {
        let read = Dockerfile::parse(&recipe.dockerfile, &recipe.text);
        Some((recipe.unit.clone(), read.ok()?.syntax()?))
    });
    let written: BTreeMap<Unit, Written> = written.collect();
    let texts: BTreeSet<&str> = written.values().map(|written| written.text.as_str()).collect();
    let found = join_all(texts.into_iter().map(async |text| (text, frontend(text, registries).await))).await;
    let found: BTreeMap<&str, _> = found.into_iter().collect();
    let frontends = written.iter().map(|(unit, written)| {
        let frontend = match found[written.text.as_str()].clone() {
            Ok((reference, platforms)) => Frontend::Found { reference, platforms },
            Err(why) => Frontend::Unknown { written: written.clone(), why },
        };
        (unit.clone(), frontend)
    });
    frontends.collect()
}

/// A frontend at its digest, and its manifest for each platform; or why it cannot be looked up.
async fn frontend(
    written: &str,
    registries: &Registries,
) -> Result<(Reference, BTreeMap<Platform, Digest>), String> {
    let reference: Reference = written.parse().map_err(|error: Error| with_sources(&error))?;
    let (digest, platforms) = looked_up(&reference, registries).await?;
    Ok((reference.at(digest), platforms))
}

/// The digest of an image, and its manifest for each platform; or why it cannot be looked up.
async fn looked_up(
    reference: &Reference,
    registries: &Registries,
) -> Result<(Digest, BTreeMap<Platform, Digest>), String> {
    match timeout(LOOKUP_LIMIT, platforms(reference, registries)).await {
        Ok(found) => found.map_err(|error| with_sources(&error)),
        Err(_) => Err(format!("no answer within {} s", LOOKUP_LIMIT.as_secs())),
    }
}

/// The digest of an image, and its manifest for each of its platforms.
async fn platforms(
    reference: &Reference,
    registries: &Registries,
) -> Result<(Digest, BTreeMap<Platform, Digest>), Error> {
    let registry = registries(reference.registry())?;
    let document = registry.read_document(reference.repository(), &reference.pointer()).await?;
    if document.is_index() {
        let entries = document.index()?.manifests.into_iter();
        let platforms = entries.filter_map(|entry| Some((entry.platform?, entry.digest))).collect();
        return Ok((document.digest().clone(), platforms));
    }
    let platform = platform_of(&*registry, reference, &document).await?;
    let digest = document.digest().clone();
    Ok((digest.clone(), BTreeMap::from([(platform, digest)])))
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
