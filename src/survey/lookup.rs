//! Images from outside, looked up at their registries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::dockerfile::Written;
use crate::family::{Family, Unit};
use crate::oci::{Digest, Document, Error, ErrorKind, ImageConfiguration, Platform, Reference, Store};
use crate::plan::{Base, Frontend};

/// Where images from outside come from: one store a registry, made by `cli` with the user's credentials.
pub(crate) type Registries = dyn Fn(&str) -> Result<Arc<dyn Store>, Error> + Send + Sync;

/// How long one look-up may take in all, whatever the registry asks for: a person waits for the plan.
const LOOKUP_LIMIT: Duration = Duration::from_secs(20);

/// `ONBUILD` triggers by the manifest of the image that leaves them; none of an image that leaves none.
pub(super) type Triggers = BTreeMap<Digest, Vec<String>>;

/// What tags point at.
type Digests = BTreeMap<Reference, Digest>;

/// What was found of images from outside.
#[derive(Default)]
pub(super) struct Bases {
    pub(super) bases: BTreeMap<Reference, Base>,
    pub(super) triggers: Triggers,
    /// What each reference pointed at: an index, or a single image.
    pub(super) digests: Digests,
}

/// Every image from outside that the family uses or mirrors, looked up side by side and once each, so that who stands
/// on a mirror stands on what is mirrored; and the triggers of those that it stands on. What is `settled` is looked at
/// there, wherever its tag has moved.
pub(super) async fn bases(family: &Family, registries: &Registries, settled: &Digests) -> Bases {
    // Of these platforms the configuration is read.
    let mut wanted = BTreeMap::<&Reference, BTreeSet<Platform>>::new();
    for (own, build) in family.recipes().flat_map(|recipe| &recipe.platforms) {
        for reference in build.outside() {
            wanted.entry(reference).or_default();
        }
        for (written, reference) in build.outside_stages() {
            wanted.entry(reference).or_default().insert(build.asked_platform(written, own));
        }
    }
    for mirror in family.mirrors.values() {
        wanted.entry(&mirror.source).or_default();
    }
    let found = join_all(wanted.iter().map(async |(reference, wanted)| {
        let look = async {
            let (digest, platforms) = platforms(reference, registries, settled).await?;
            let triggers = triggers(reference, registries, &platforms, wanted).await?;
            Ok((digest, platforms, triggers))
        };
        (*reference, in_time(look).await)
    }));
    let mut all = Bases::default();
    for (reference, found) in found.await {
        let base = match found {
            Ok((digest, platforms, triggers)) => {
                all.triggers.extend(triggers);
                all.digests.insert(reference.clone(), digest);
                Base::Found(platforms)
            }
            Err(why) => Base::Unknown(why),
        };
        all.bases.insert(reference.clone(), base);
    }
    all
}

/// What stands behind the sources of mirrors, among what was looked up.
pub(super) fn sources(family: &Family, digests: &Digests) -> Digests {
    let sources = family.mirrors.values().map(|mirror| &mirror.source);
    sources.filter_map(|source| Some((source.clone(), digests.get(source)?.clone()))).collect()
}

/// What the names of frontends point at that were looked up.
pub(super) fn pinned(frontends: &BTreeMap<Unit, Frontend>) -> Digests {
    let found = frontends.values().filter_map(|frontend| match frontend {
        Frontend::Found { written, reference, .. } => Some((written.clone(), reference.digest()?.clone())),
        Frontend::Unknown { .. } => None,
    });
    found.collect()
}

/// The triggers that an image leaves on some of its platforms.
async fn triggers(
    reference: &Reference,
    registries: &Registries,
    platforms: &BTreeMap<Platform, Digest>,
    wanted: &BTreeSet<Platform>,
) -> Result<Triggers, Error> {
    let registry = registries(reference.registry())?;
    let mut found = Triggers::new();
    for image in wanted.iter().filter_map(|platform| platforms.get(platform)) {
        let document = registry.read_document(reference.repository(), &image.clone().into()).await?;
        let triggers = configuration(&*registry, reference, &document).await?.triggers();
        if !triggers.is_empty() {
            found.insert(image.clone(), triggers);
        }
    }
    Ok(found)
}

/// The frontend of each unit that names one by `# syntax=`, each looked up once, side by side.
pub(super) async fn frontends(
    family: &Family,
    registries: &Registries,
    settled: &Digests,
) -> BTreeMap<Unit, Frontend> {
    let written = family.recipes().filter_map(|recipe| Some((recipe.unit.clone(), recipe.file.syntax()?)));
    let written: BTreeMap<Unit, Written> = written.collect();
    let texts: BTreeSet<&str> = written.values().map(|written| written.text.as_str()).collect();
    let found =
        join_all(texts.into_iter().map(async |text| (text, frontend(text, registries, settled).await))).await;
    let found: BTreeMap<&str, _> = found.into_iter().collect();
    let frontends = written.iter().map(|(unit, written)| {
        let frontend = match found[written.text.as_str()].clone() {
            Ok((written, reference, platforms)) => Frontend::Found { written, reference, platforms },
            Err(why) => Frontend::Unknown { written: written.clone(), why },
        };
        (unit.clone(), frontend)
    });
    frontends.collect()
}

/// A frontend as it is named and at its digest, and its manifest for each platform; or why it cannot be looked up.
async fn frontend(
    written: &str,
    registries: &Registries,
    settled: &Digests,
) -> Result<(Reference, Reference, BTreeMap<Platform, Digest>), String> {
    let reference: Reference = written.parse().map_err(|error: Error| with_sources(&error))?;
    let (digest, platforms) = in_time(platforms(&reference, registries, settled)).await?;
    let at = reference.at(digest);
    Ok((reference, at, platforms))
}

/// What a look-up finds, or why nothing.
async fn in_time<T>(look: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match timeout(LOOKUP_LIMIT, look).await {
        Ok(found) => found.map_err(|error| with_sources(&error)),
        Err(_) => Err(format!("no answer within {} s", LOOKUP_LIMIT.as_secs())),
    }
}

/// The digest of an image, and its manifest for each of its platforms.
async fn platforms(
    reference: &Reference,
    registries: &Registries,
    settled: &Digests,
) -> Result<(Digest, BTreeMap<Platform, Digest>), Error> {
    let registry = registries(reference.registry())?;
    let pointer = settled.get(reference).map_or_else(|| reference.pointer(), |at| at.clone().into());
    let document = registry.read_document(reference.repository(), &pointer).await?;
    if document.is_index() {
        let entries = document.index()?.manifests.into_iter();
        let platforms = entries.filter_map(|entry| Some((entry.platform?, entry.digest))).collect();
        return Ok((document.digest().clone(), platforms));
    }
    let platform = configuration(&*registry, reference, &document).await?.platform().ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("look at {reference}: its configuration names no platform"))
    })?;
    let digest = document.digest().clone();
    Ok((digest.clone(), BTreeMap::from([(platform, digest)])))
}

/// The configuration of a single image.
async fn configuration(
    registry: &dyn Store,
    reference: &Reference,
    document: &Document,
) -> Result<ImageConfiguration, Error> {
    ImageConfiguration::read(registry, reference.repository(), &document.manifest()?.config).await
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
