//! A release as an ordered list of steps, each of which can be printed before any is carried out.
//!
//! Phases, in this order: blobs into the first repository that needs them; the same blobs mounted into the others;
//! manifests; indexes; what is about copies; tags. Steps of one phase do not depend on each other, but what is about
//! copies goes in its order, and every phase depends only on those before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::oci::{Descriptor, Digest, Document, ErrorKind, Platform, Pointer, Repository, Store, Tag};

use super::carry_out::problem;
use super::fit;
use super::journal::RESERVED_TAG;
use super::release::{PlatformImage, Release};

/// How many requests are under way at once, towards one target.
pub(super) const CONCURRENCY: usize = 16;

/// The repository of a target that each blob is brought to first.
type Holders = BTreeMap<Digest, Repository>;

/// Where the images of a release are now.
pub(crate) struct Source<'a> {
    /// The store.
    pub(crate) store: &'a dyn Store,
    /// The repository of the scope.
    pub(crate) repository: &'a Repository,
    /// The repository of the target that has the images too, so that content is mounted and no bytes move.
    pub(crate) home: Option<Repository>,
}

/// Where a release goes.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The store.
    pub(crate) store: &'a dyn Store,
    /// The same by another client, which remembers nothing: for reading back what was written.
    pub(crate) fresh: &'a dyn Store,
    /// What it is called in messages, references and events: `host[:port]`.
    pub(crate) registry: &'a str,
}

/// The repositories whose reserved tag has the journals.
#[derive(Clone, Debug)]
pub(crate) enum Homes {
    /// The family is published as a whole: one repository has the journals of all.
    One(Repository),
    /// Each image is published by itself: its own repository has its journals. By image and variant.
    Each(BTreeMap<String, Repository>),
}

impl Homes {
    /// The same under other names of repositories, as a mirror has them.
    pub(crate) fn renamed(&self, names: &BTreeMap<Repository, Repository>) -> Self {
        let renamed = |one: &Repository| names.get(one).unwrap_or(one).clone();
        match self {
            Self::One(repository) => Self::One(renamed(repository)),
            Self::Each(all) => {
                Self::Each(all.iter().map(|(unit, one)| (unit.clone(), renamed(one))).collect())
            }
        }
    }

    /// The same where a target has its list already. A family that is published as a whole keeps it where it is when
    /// another image becomes its first: of these repositories, the first that has a list.
    ///
    /// # Errors
    /// Where the target fails.
    pub(crate) async fn settled(self, candidates: Vec<Repository>, target: Target<'_>) -> Result<Self> {
        let Self::One(first) = &self else { return Ok(self) };
        let pointer = Pointer::Tag(RESERVED_TAG.parse().expect("the reserved name is a tag"));
        let has_list = async |repository: &Repository| match target.store.resolve(repository, &pointer).await
        {
            Ok(found) => Ok(found.is_some()),
            // Some let nobody look at a repository that is not there yet.
            Err(error) if error.kind() == ErrorKind::Denied => Ok(false),
            Err(error) => {
                let doing = format!("look for the list of publications in {repository}");
                Err(problem(&doing, target, error))
            }
        };
        if has_list(first).await? {
            return Ok(self);
        }
        let others: Vec<&Repository> = candidates.iter().filter(|one| *one != first).collect();
        let looks: Vec<_> = others.iter().map(|repository| has_list(repository)).collect();
        let found: Vec<bool> = stream::iter(looks).buffered(CONCURRENCY).try_collect().await?;
        let settled = others.into_iter().zip(found).find(|(_, has_list)| *has_list);
        Ok(settled.map_or(self.clone(), |(repository, _)| Self::One(repository.clone())))
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeSet<&Repository> {
        match self {
            Self::One(repository) => BTreeSet::from([repository]),
            Self::Each(all) => all.values().collect(),
        }
    }

    /// Where the journals are that an image and variant stands in.
    pub(super) fn of(&self, unit: &str) -> Option<&Repository> {
        match self {
            Self::One(repository) => Some(repository),
            Self::Each(repositories) => repositories.get(unit),
        }
    }
}

/// One thing to do at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A blob must be in a repository: mounted from another of them, else moved there.
    Blob {
        /// Where it must be.
        repository: Repository,
        /// What.
        blob: Descriptor,
        /// The repository of the target that it is mounted from, if any.
        from: Option<Repository>,
    },
    /// A manifest or index must be in a repository.
    Document {
        /// Where it must be.
        repository: Repository,
        /// What.
        document: Document,
    },
    /// A tag must point at a document.
    Tag {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// The document.
        document: Document,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob { repository, blob, from: None } => {
                write!(f, "blob      {} to {repository} ({} bytes)", blob.digest, blob.size)
            }
            Self::Blob { repository, blob, from: Some(from) } => {
                write!(f, "blob      {} to {repository}, mounted from {from}", blob.digest)
            }
            Self::Document { repository, document } => {
                let what = if document.is_index() { "index   " } else { "manifest" };
                write!(f, "{what}  {} to {repository}", document.digest())
            }
            Self::Tag { repository, tag, document } => {
                write!(f, "tag       {repository}:{tag} to {}", document.digest())
            }
        }
    }
}

/// What the steps of a publication come to, where none of it is at the target yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Images, each with its variants apart.
    pub(crate) images: usize,
    /// Platforms of all of them together.
    pub(crate) platforms: usize,
    /// Blobs, each counted once in however many repositories it must be.
    pub(crate) blobs: usize,
    /// Bytes of those.
    pub(crate) bytes: u64,
    /// Manifests of platforms.
    pub(crate) manifests: usize,
    /// Indexes.
    pub(crate) indexes: usize,
    /// Tags.
    pub(crate) tags: usize,
}

/// Steps in their order, with what they bring.
#[derive(Debug)]
pub(crate) struct Publication {
    /// What is published.
    pub(super) release: Release,
    /// Where the journals are.
    pub(super) homes: Homes,
    /// Blobs into the first repository that needs them.
    pub(super) blobs: Vec<Step>,
    /// The same blobs into the other repositories.
    pub(super) mounts: Vec<Step>,
    /// Manifests of platforms.
    pub(super) manifests: Vec<Step>,
    /// Indexes.
    pub(super) indexes: Vec<Step>,
    /// What is about copies, one after the other, and the tags by which cosign finds it.
    pub(super) about: Vec<Step>,
    /// Tags.
    pub(super) tags: Vec<Step>,
}

impl Publication {
    /// Reads the manifests of a release where they are now, and puts all that must be done in order. Writes nothing.
    pub(crate) async fn prepare(release: Release, homes: &Homes, source: &Source<'_>) -> Result<Self> {
        Self::prepare_after(release, homes, source, &mut BTreeMap::new()).await
    }

    /// The same for releases that are carried out one after the other: what one brings, the next mounts.
    pub(crate) async fn prepare_each(
        releases: Vec<Release>,
        homes: &Homes,
        source: &Source<'_>,
    ) -> Result<Vec<Self>> {
        let mut holders = BTreeMap::new();
        let mut all = Vec::new();
        for release in releases {
            all.push(Self::prepare_after(release, homes, source, &mut holders).await?);
        }
        Ok(all)
    }

    async fn prepare_after(
        release: Release,
        homes: &Homes,
        source: &Source<'_>,
        holders: &mut Holders,
    ) -> Result<Self> {
        // Copies were read where they are.
        let built = release.images.iter().filter(|image| image.copy_of.is_none());
        let wanted = built.flat_map(|image| &image.platforms);
        let read = wanted.map(|(platform, image)| read_manifest(source, platform, image));
        let manifests: BTreeMap<Digest, Document> = { stream::iter(read.collect::<Vec<_>>()) }
            .buffered(CONCURRENCY)
            .map_ok(|document| (document.digest().clone(), document))
            .try_collect()
            .await?;
        Self::ordered(release, homes.clone(), &manifests, source, holders)
    }

    /// The repository that has its journal; none where it brings nothing.
    pub(super) fn home(&self) -> Option<&Repository> {
        self.release.images.first().and_then(|image| self.homes.of(&image.unit.to_string()))
    }

    /// Where the journals are.
    pub(crate) fn homes(&self) -> &Homes {
        &self.homes
    }

    /// What is published, and what is not.
    pub(crate) fn release(&self) -> &Release {
        &self.release
    }

    /// What all steps of some publications come to.
    pub(crate) fn totals(all: &[Self]) -> Totals {
        let blobs: BTreeMap<&Digest, u64> = { all.iter().flat_map(|one| &one.blobs) }
            .filter_map(|step| match step {
                Step::Blob { blob, .. } => Some((&blob.digest, blob.size)),
                Step::Document { .. } | Step::Tag { .. } => None,
            })
            .collect();
        let images = || all.iter().flat_map(|one| &one.release.images);
        let platforms: BTreeSet<&Platform> = images().flat_map(|image| image.platforms.keys()).collect();
        let sum = |part: fn(&Self) -> &Vec<Step>| all.iter().map(|one| part(one).len()).sum::<usize>();
        let about = |is_index: bool| {
            let is_such = |step: &&Step| matches!(step, Step::Document { document, .. } if document.is_index() == is_index);
            all.iter().flat_map(|one| &one.about).filter(is_such).count()
        };
        Totals {
            images: images().count(),
            platforms: platforms.len(),
            blobs: blobs.len(),
            bytes: blobs.values().sum(),
            manifests: sum(|one| &one.manifests) + about(false),
            indexes: sum(|one| &one.indexes) + about(true),
            tags: sum(|one| &one.tags),
        }
    }

    /// As many bytes of blobs as may have to be sent: fewer where the target has some.
    pub(crate) fn bytes_at_most(&self) -> u64 {
        let size = |step: &Step| if let Step::Blob { blob, .. } = step { blob.size } else { 0 };
        self.blobs.iter().map(size).sum()
    }

    /// Everything that is brought before a tag of an image moves, in its order.
    pub(super) fn content(&self) -> impl Iterator<Item = &Step> {
        [&self.blobs, &self.mounts, &self.manifests, &self.indexes, &self.about].into_iter().flatten()
    }

    /// All that is at the target where it is published. Tags of what is about copies are not: others may have them.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.content().filter(|step| !matches!(step, Step::Tag { .. })).chain(&self.tags)
    }

    fn ordered(
        release: Release,
        homes: Homes,
        manifests: &BTreeMap<Digest, Document>,
        source: &Source<'_>,
        holders: &mut Holders,
    ) -> Result<Self> {
        let mut all = Self {
            release: Release::default(),
            homes,
            blobs: Vec::new(),
            mounts: Vec::new(),
            manifests: Vec::new(),
            indexes: Vec::new(),
            about: Vec::new(),
            tags: Vec::new(),
        };
        let mut seen: BTreeSet<(Repository, Digest)> = BTreeSet::new();
        for image in &release.images {
            let repository = &image.repository;
            let content = image.content(manifests)?;
            // What is elsewhere is not in the repository of the scope.
            let home = source.home.as_ref().filter(|_| image.copy_of.is_none());
            for blob in content.blobs {
                if !seen.insert((repository.clone(), blob.digest.clone())) {
                    continue;
                }
                let holder = holders.get(&blob.digest).cloned();
                let phase = if holder.is_some() { &mut all.mounts } else { &mut all.blobs };
                holders.entry(blob.digest.clone()).or_insert_with(|| repository.clone());
                let from = home.cloned().or(holder);
                phase.push(Step::Blob { repository: repository.clone(), blob, from });
            }
            for &document in content.manifests.iter().chain(&content.indexes) {
                if seen.insert((repository.clone(), document.digest().clone())) {
                    let phase = if document.is_index() { &mut all.indexes } else { &mut all.manifests };
                    phase.push(Step::Document { repository: repository.clone(), document: document.clone() });
                }
            }
            for document in content.about {
                if seen.insert((repository.clone(), document.digest().clone())) {
                    let (repository, document) = (repository.clone(), document.clone());
                    all.about.push(Step::Document { repository, document });
                }
            }
            for (tag, document) in content.about_tags {
                let (repository, tag) = (repository.clone(), tag.clone());
                let step = Step::Tag { repository, tag, document: document.clone() };
                if !all.about.contains(&step) {
                    all.about.push(step);
                }
            }
            for (tag, digest) in &image.tags {
                let mut documents = content.manifests.iter().chain(&content.indexes);
                let Some(&document) = documents.find(|document| document.digest() == digest) else {
                    continue;
                };
                let (repository, tag, document) = (repository.clone(), tag.clone(), document.clone());
                all.tags.push(Step::Tag { repository, tag, document });
            }
        }
        Ok(Self { release, ..all })
    }
}

/// The manifest of one platform, checked to be the one that was built and tested.
async fn read_manifest(source: &Source<'_>, platform: &Platform, image: &PlatformImage) -> Result<Document> {
    let digest = &image.manifest.digest;
    let pointer = Pointer::Digest(digest.clone());
    let read = source.store.read_document(source.repository, &pointer).await;
    let document = read.map_err(|error| {
        Diagnostic::surroundings(format!("cannot read {digest} for {platform} from the store"))
            .caused_by(&error)
            .hint("build it again: polyarch build")
    })?;
    fit::one_image(&document, platform)?;
    let manifest = document.manifest().map_err(|error| {
        Diagnostic::surroundings(format!("what the store holds as {digest} is no manifest")).caused_by(&error)
    })?;
    let as_recorded = manifest.config.digest == image.config
        && document.bytes().len() as u64 == image.manifest.size
        && document.media_type() == image.manifest.media_type;
    match as_recorded {
        true => fit::is_for(source, &document, platform).await.map(|()| document).map_err(Problems::from),
        false => Err(Problems::from(
            Diagnostic::new(Kind::Surroundings, format!("the manifest {digest} is not as its record says"))
                .because(format!("it names the configuration {}", manifest.config.digest))
                .because(format!("the record says that {} was tested", image.config)),
        )),
    }
}

/// Configuration and layers of a manifest.
pub(super) fn blobs_of(document: &Document) -> Result<Vec<Descriptor>> {
    Ok(document.blobs().map_err(|error| {
        Diagnostic::surroundings(format!("{} is no manifest", document.digest())).caused_by(&error)
    })?)
}
