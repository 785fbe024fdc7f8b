//! Does a target hold what would be published? Looks, and never writes.

use std::collections::BTreeSet;
use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::diag::Result;
use crate::oci::{Digest, Document, Error, Platform, Pointer, Repository};

use super::carry_out::problem;
use super::publication::{CONCURRENCY, Publication, Step, Target};

/// One way in which a target is not what would be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// What it is about: `host/repository:tag` or `host/repository@digest`.
    pub(crate) reference: String,
    /// What is different.
    pub(crate) kind: DifferenceKind,
}

/// What is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DifferenceKind {
    /// The tag is not there.
    TagMissing,
    /// The tag points elsewhere.
    OtherDigest {
        /// Where it should.
        expected: Digest,
        /// Where it does.
        found: Digest,
    },
    /// What the tag points at lacks a platform.
    PlatformMissing(Platform),
    /// A manifest or index is not there.
    DocumentMissing,
    /// A blob is not there, or has another size.
    BlobMissing,
    /// What should be said of it is not said, or not by whom it should be.
    Unsaid {
        /// What should be said.
        what: &'static str,
        /// How that stands.
        why: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = &self.reference;
        match &self.kind {
            DifferenceKind::TagMissing => write!(f, "{reference} is missing"),
            DifferenceKind::OtherDigest { expected, found } => {
                write!(f, "{reference} points at {found}, not at {expected}")
            }
            DifferenceKind::PlatformMissing(platform) => write!(f, "{reference} lacks {platform}"),
            DifferenceKind::DocumentMissing => write!(f, "the manifest {reference} is missing"),
            DifferenceKind::BlobMissing => write!(f, "the blob {reference} is missing"),
            DifferenceKind::Unsaid { what, why } => write!(f, "the {what} of {reference} {why}"),
        }
    }
}

/// Every difference between a publication and its target, in the order of its steps.
pub(crate) async fn verify(publication: &Publication, target: Target<'_>) -> Result<Vec<Difference>> {
    let looks: Vec<_> = publication.steps().map(|step| look(step, target)).collect();
    let found: Result<Vec<Vec<Difference>>, Error> =
        stream::iter(looks).buffered(CONCURRENCY).try_collect().await;
    let found = found.map_err(|error| problem("look", target, error))?;
    Ok(found.into_iter().flatten().collect())
}

async fn look(step: &Step, target: Target<'_>) -> Result<Vec<Difference>, Error> {
    let content = |repository: &Repository, digest: &Digest, present: bool, kind| match present {
        true => Vec::new(),
        false => vec![Difference { reference: format!("{}/{repository}@{digest}", target.registry), kind }],
    };
    match step {
        Step::Blob { repository, blob, .. } => {
            let size = target.store.blob_size(repository, &blob.digest).await?;
            Ok(content(repository, &blob.digest, size == Some(blob.size), DifferenceKind::BlobMissing))
        }
        Step::Document { repository, document } => {
            let digest = document.digest();
            let found = target.store.resolve(repository, &Pointer::Digest(digest.clone())).await?;
            Ok(content(repository, digest, found.is_some(), DifferenceKind::DocumentMissing))
        }
        Step::Tag { repository, tag, document } => {
            let pointer = Pointer::Tag(tag.clone());
            let reference = format!("{}/{repository}:{tag}", target.registry);
            let difference = |kind| Difference { reference: reference.clone(), kind };
            match target.store.resolve(repository, &pointer).await? {
                None => Ok(vec![difference(DifferenceKind::TagMissing)]),
                Some(found) if found.digest == *document.digest() => Ok(Vec::new()),
                Some(found) => {
                    let expected = document.digest().clone();
                    let present = target.store.read_document(repository, &pointer).await?;
                    let missing = platforms(document).difference(&platforms(&present)).cloned().collect();
                    let other = DifferenceKind::OtherDigest { expected, found: found.digest };
                    let missing: Vec<Platform> = missing;
                    let lacks = missing.into_iter().map(DifferenceKind::PlatformMissing);
                    Ok(std::iter::once(other).chain(lacks).map(difference).collect())
                }
            }
        }
    }
}

/// The platforms that an index names; none for anything else.
fn platforms(document: &Document) -> BTreeSet<Platform> {
    let index = document.is_index().then(|| document.index().ok()).flatten();
    index.into_iter().flat_map(|index| index.manifests).filter_map(|manifest| manifest.platform).collect()
}
