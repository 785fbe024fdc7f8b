//! Does a target hold what would be published? Looks, and never writes.

use std::collections::BTreeSet;
use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::diag::Result;
use crate::oci::{
    Descriptor, Digest, Document, Error, ErrorKind, ImageConfiguration, Platform, Pointer, Repository, Tag,
};

use super::carry_out::problem;
use super::desk::Desk;
use super::publication::{CONCURRENCY, Publication, Step, Target};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The image, as `host/repository`.
    pub(crate) image: String,
    /// What of it: a tag, a platform, or content by its digest.
    pub(crate) what: String,
    /// How it should be.
    pub(crate) expected: String,
    /// How it is.
    pub(crate) found: String,
    /// What that means.
    pub(crate) verdict: Verdict,
}

/// How what was found compares with what should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as it should be.
    Equal,
    /// It is not there.
    Missing,
    /// A tag points at something else.
    Elsewhere,
    /// What a tag points at lacks a platform.
    Lacking,
    /// It has another size than what names it says.
    OtherSize,
    /// Its configuration is of another platform than the index says.
    OtherPlatform,
    /// It is not said by whom it should be.
    Untrusted,
}

impl Verdict {
    /// One word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Missing => "missing",
            Self::Elsewhere => "elsewhere",
            Self::Lacking => "lacking",
            Self::OtherSize => "other-size",
            Self::OtherPlatform => "other-platform",
            Self::Untrusted => "untrusted",
        }
    }
}

impl Row {
    /// Whether it is as it should be.
    pub(crate) fn is_equal(&self) -> bool {
        self.verdict == Verdict::Equal
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, what, expected, found, verdict } = self;
        write!(f, "{image} {what}: {}, {found} for {expected}", verdict.word())
    }
}

/// Everything of a publication as its target has it, in the order of images: tags, platforms, then content that is not
/// as it should be. Rights to read are enough.
///
/// # Errors
/// Where the target fails.
pub(crate) async fn verify(publication: &Publication, target: Target<'_>) -> Result<Vec<Row>> {
    let failed = |error| problem("look", target, error);
    let looks: Vec<_> = publication.steps().map(|step| look(step, target)).collect();
    let found: Result<Vec<Vec<Row>>, Error> = stream::iter(looks).buffered(CONCURRENCY).try_collect().await;
    let mut rows: Vec<Row> = found.map_err(failed)?.into_iter().flatten().collect();
    let images = publication.release.images.iter().filter(|image| image.copy_of.is_none());
    let platforms = images.flat_map(|image| {
        image.platforms.iter().map(|(platform, one)| (&image.repository, platform, &one.manifest))
    });
    let looks: Vec<_> = platforms
        .map(|(repository, platform, manifest)| look_at_platform(repository, platform, manifest, target))
        .collect();
    let found: Result<Vec<Row>, Error> = stream::iter(looks).buffered(CONCURRENCY).try_collect().await;
    rows.extend(found.map_err(failed)?);
    // A manifest that is not there is told of by its platform.
    let told: BTreeSet<(String, String)> = { rows.iter() }
        .filter(|row| !row.is_equal() && row.what != row.expected)
        .map(|row| (row.image.clone(), row.expected.clone()))
        .collect();
    rows.retain(|row| !told.contains(&(row.image.clone(), row.what.clone())));
    // Those of one image stand together, as the images come.
    let order: Vec<String> =
        publication.release.images.iter().map(|image| named(target, &image.repository)).collect();
    rows.sort_by_key(|row| order.iter().position(|image| *image == row.image));
    Ok(rows)
}

/// The publications that are open at a target: under way, or cut off. What nobody may read has none.
///
/// # Errors
/// Where the target fails.
pub(crate) async fn unfinished(target: Target<'_>, homes: BTreeSet<&Repository>) -> Result<Vec<String>> {
    let mut open = Vec::new();
    for home in homes {
        let desk = Desk { store: target.store, repository: home.clone() };
        match desk.read().await {
            Ok(page) => open.extend(page.journal.open().map(|(listed, _)| listed.id.clone())),
            Err(error) if error.kind() == ErrorKind::Denied => {}
            Err(error) => {
                return Err(problem(&format!("read the publications of {home}"), target, error).into());
            }
        }
    }
    Ok(open)
}

fn named(target: Target<'_>, repository: &Repository) -> String {
    format!("{}/{repository}", target.registry)
}

async fn look(step: &Step, target: Target<'_>) -> Result<Vec<Row>, Error> {
    match step {
        Step::Blob { repository, blob, .. } => {
            let size = target.store.blob_size(repository, &blob.digest).await?;
            Ok(content(repository, &blob.digest, blob.size, size, target))
        }
        Step::Document { repository, document } => {
            let digest = document.digest();
            let found = target.store.resolve(repository, &Pointer::Digest(digest.clone())).await?;
            let size = document.bytes().len() as u64;
            Ok(content(repository, digest, size, found.map(|found| found.size), target))
        }
        Step::Tag { repository, tag, document } => look_at_tag(repository, tag, document, target).await,
    }
}

/// Content that is not there as it should be; that which is, is told of by its tags and platforms.
fn content(
    repository: &Repository,
    digest: &Digest,
    expected: u64,
    found: Option<u64>,
    target: Target<'_>,
) -> Vec<Row> {
    let (found, verdict) = match found {
        Some(found) if found == expected => return Vec::new(),
        Some(found) => (format!("{found} bytes"), Verdict::OtherSize),
        None => ("nothing".to_owned(), Verdict::Missing),
    };
    let (image, what) = (named(target, repository), digest.to_string());
    vec![Row { image, what, expected: format!("{expected} bytes"), found, verdict }]
}

/// A tag, and where it points at another index than it should, each platform that this lacks or that is not what it
/// says.
async fn look_at_tag(
    repository: &Repository,
    tag: &Tag,
    document: &Document,
    target: Target<'_>,
) -> Result<Vec<Row>, Error> {
    let (pointer, image) = (Pointer::Tag(tag.clone()), named(target, repository));
    let row = |what: String, expected: String, found: String, verdict| {
        vec![Row { image: image.clone(), what, expected, found, verdict }]
    };
    let expected = document.digest().to_string();
    match target.store.resolve(repository, &pointer).await? {
        None => Ok(row(tag.to_string(), expected, "nothing".to_owned(), Verdict::Missing)),
        Some(found) if found.digest == *document.digest() => {
            Ok(row(tag.to_string(), expected.clone(), expected, Verdict::Equal))
        }
        Some(found) => {
            let mut rows = row(tag.to_string(), expected, found.digest.to_string(), Verdict::Elsewhere);
            let present = target.store.read_document(repository, &pointer).await?;
            let wanted = entries(document);
            let there = entries(&present);
            for (platform, _) in wanted.iter().filter(|(one, _)| there.iter().all(|(other, _)| other != one))
            {
                let what = format!("{tag} {platform}");
                rows.extend(row(what, platform.to_string(), "nothing".to_owned(), Verdict::Lacking));
            }
            for (platform, manifest) in &there {
                let one = look_at_platform(repository, platform, manifest, target).await?;
                rows.extend((!one.is_equal()).then(|| Row { what: format!("{tag} {platform}"), ..one }));
            }
            Ok(rows)
        }
    }
}

/// The image of a platform as an index names it: its manifest is there, and its configuration says the same platform.
async fn look_at_platform(
    repository: &Repository,
    platform: &Platform,
    manifest: &Descriptor,
    target: Target<'_>,
) -> Result<Row, Error> {
    let (said, verdict) = match configured(repository, manifest, target).await {
        Ok(said) if said.as_ref() == Some(platform) => (manifest.digest.to_string(), Verdict::Equal),
        Ok(said) => {
            let said = said.map_or_else(|| "no platform".to_owned(), |said| said.to_string());
            (format!("a configuration for {said}"), Verdict::OtherPlatform)
        }
        Err(error) if error.is_not_found() => ("nothing".to_owned(), Verdict::Missing),
        Err(error) => return Err(error),
    };
    let (image, what) = (named(target, repository), platform.to_string());
    Ok(Row { image, what, expected: manifest.digest.to_string(), found: said, verdict })
}

/// The platform that the configuration of an image says.
async fn configured(
    repository: &Repository,
    manifest: &Descriptor,
    target: Target<'_>,
) -> Result<Option<Platform>, Error> {
    let document = target.store.read_document(repository, &Pointer::Digest(manifest.digest.clone())).await?;
    let config = document.manifest()?.config;
    Ok(ImageConfiguration::read(target.store, repository, &config).await?.platform())
}

/// The images that an index names, with their platforms; attestations are none. None for anything else.
fn entries(document: &Document) -> Vec<(Platform, Descriptor)> {
    let index = document.is_index().then(|| document.index().ok()).flatten();
    let manifests = index.into_iter().flat_map(|index| index.manifests);
    let images = manifests.filter_map(|manifest| Some((manifest.platform.clone()?, manifest)));
    images.filter(|(platform, _)| platform.os() != "unknown").collect()
}
