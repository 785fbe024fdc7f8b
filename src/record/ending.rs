//! Scopes and records that end: of a pull request that is over all, elsewhere what was built too long ago, or before what
//! there is room for.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::oci::{Digest, Document, Error, ErrorKind, Repository, Tag};

use super::caches::{is_believed, is_mount, kept_seconds};
use super::replaced::is_of_a_plan;
use super::{CacheKind, CheckRecord, ImageRecord, Records, ScopeName, parse};

/// How many documents are read at once.
const READS_AT_ONCE: usize = 8;

/// What ends in one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The repository of a scope, in the folder or at the registry.
    pub(crate) repository: Repository,
    /// The tags, and the documents that they point at.
    pub(crate) tags: BTreeMap<Tag, Digest>,
    /// The images of those that no record is left of, and how many bytes the layers of each have.
    pub(crate) images: BTreeMap<Digest, u64>,
}

impl Ending {
    /// The tags, each with its repository.
    pub(crate) fn pointers(&self) -> impl Iterator<Item = (Repository, Tag)> {
        self.tags.keys().map(|tag| (self.repository.clone(), tag.clone()))
    }
}

/// What a document under a tag is.
enum What {
    Image(Box<ImageRecord>),
    Checks(Digest),
    /// All records of one state of a family, which are of these images.
    Roll(BTreeSet<Digest>),
    /// What was in a mount of caches, or which image the runs of a plan have, and when, in seconds since 1970-01-01 UTC.
    Kept(u64),
    Other,
}

/// What it takes for a scope at a registry to have at most so many bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Nothing has to end.
    AsItIs,
    /// This ends.
    Ends(Ending),
    /// Even where this ends, which is all that may, so many bytes stay.
    TooMuch(Option<Ending>, u64),
}

/// Scopes in which nothing was kept for long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Idle {
    /// All of them, in the folder and at the registry.
    pub(crate) endings: Vec<Ending>,
    /// Those of which nothing says when it was made.
    pub(crate) ageless: Vec<ScopeName>,
}

/// A scope in the folder or at a registry, read once.
struct Held {
    repository: Repository,
    documents: BTreeMap<Tag, (Document, What)>,
    /// When it was read, in seconds since 1970-01-01 UTC: what says that it was kept later says nothing.
    now_seconds: u64,
}

/// What documents are made of: the digest and the size of each part.
type Parts = BTreeMap<Digest, u64>;

impl Held {
    fn records(&self) -> impl Iterator<Item = &ImageRecord> {
        self.documents.values().filter_map(|(_, what)| match what {
            What::Image(record) => Some(&**record),
            _ => None,
        })
    }

    /// The images that stay where what was built before a time ends: the younger ones, and all that they stand on.
    fn kept(&self, before_seconds: u64) -> BTreeSet<&Digest> {
        let young = self.records().filter(|record| record.built_at_seconds >= before_seconds);
        let mut kept: BTreeSet<&Digest> = young.map(|record| &record.image).collect();
        // A generation at a time: what a kept image stands on is kept.
        loop {
            let parents = self.records().filter(|record| kept.contains(&record.image));
            let parents: Vec<&Digest> = parents.flat_map(|record| record.parents.values()).collect();
            let before = kept.len();
            kept.extend(parents);
            if kept.len() == before {
                return kept;
            }
        }
    }

    /// What ends where what was built before a time does.
    fn ending(&self, before_seconds: u64) -> Option<Ending> {
        let kept = self.kept(before_seconds);
        let jobs = self.records().filter(|record| kept.contains(&record.image)).map(|record| &record.job);
        let caches: BTreeSet<Tag> = jobs.map(|job| CacheKind::Apart.name(job, None).own).collect();
        let ends = |tag: &Tag, what: &What| match what {
            What::Image(record) => !kept.contains(&record.image),
            What::Checks(image) => !kept.contains(image),
            What::Roll(images) => !images.iter().all(|image| kept.contains(image)),
            What::Kept(at_seconds) => *at_seconds < before_seconds,
            // One of a tree alone goes with all that is kept, or with the next tree.
            What::Other if tag.as_str().starts_with("cache-of-") => kept.is_empty(),
            // The cache of a job goes with the last of its images.
            What::Other => tag.as_str().starts_with("cache-") && !caches.contains(tag),
        };
        let images = self.records().filter(|record| !kept.contains(&record.image));
        let images = images.map(|record| (record.image.clone(), record.bytes)).collect();
        let tags = self.documents.iter().filter(|(tag, (_, what))| ends(tag, what));
        let tags: BTreeMap<Tag, Digest> =
            tags.map(|(tag, (document, _))| (tag.clone(), document.digest().clone())).collect();
        (!tags.is_empty()).then(|| Ending { repository: self.repository.clone(), tags, images })
    }

    /// How many bytes stay where this ends, each part counted once.
    fn bytes_without(&self, ending: Option<&Ending>, of_images: &BTreeMap<Digest, Parts>) -> u64 {
        let stays = |tag: &Tag| ending.is_none_or(|ending| !ending.tags.contains_key(tag));
        let mut parts = Parts::new();
        for (_, (document, what)) in self.documents.iter().filter(|(tag, _)| stays(tag)) {
            parts.extend(parts_of(document));
            let image = match what {
                What::Image(record) => of_images.get(&record.image),
                _ => None,
            };
            parts.extend(image.into_iter().flatten().map(|(digest, size)| (digest.clone(), *size)));
        }
        parts.values().sum()
    }

    /// The moments at which something was made before a time, from the oldest.
    fn moments(&self, before_seconds: u64) -> BTreeSet<u64> {
        self.made().filter(|at_seconds| *at_seconds < before_seconds).collect()
    }

    /// When the youngest of what is there was made.
    fn newest(&self) -> Option<u64> {
        self.made().max()
    }

    fn made(&self) -> impl Iterator<Item = u64> {
        self.documents.values().filter_map(|(document, what)| match what {
            What::Image(record) => Some(record.built_at_seconds),
            What::Kept(at_seconds) => Some(*at_seconds),
            What::Other => believed(document, self.now_seconds),
            What::Checks(_) | What::Roll(_) => None,
        })
    }

    /// All of it ends.
    fn whole(self) -> Ending {
        let images = self.records().map(|record| (record.image.clone(), record.bytes)).collect();
        let Self { repository, documents, .. } = self;
        let tags = documents.into_iter().map(|(tag, (document, _))| (tag, document.digest().clone()));
        Ending { repository, tags: tags.collect(), images }
    }
}

/// A document, and what it names.
fn parts_of(document: &Document) -> Parts {
    let own = document.descriptor();
    let named = match (document.manifest(), document.index()) {
        (Ok(manifest), _) if !document.is_index() => {
            manifest.layers.into_iter().chain([manifest.config]).collect()
        }
        (_, Ok(index)) => index.manifests,
        _ => Vec::new(),
    };
    named.into_iter().chain([own]).map(|part| (part.digest, part.size)).collect()
}

impl Records {
    /// All of a scope, in the folder and at the registry.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn all_of(&self, scope: &ScopeName) -> Result<Vec<Ending>, Error> {
        Ok(self.held(scope, u64::MAX).await?.into_iter().map(Held::whole).collect())
    }

    /// All of the scopes, other than the trusted one, in which nothing that is there was made since a time, in seconds
    /// since 1970-01-01 UTC. What the folder and the registry have of a scope is of one age.
    ///
    /// # Errors
    /// Where the store fails, and where the registry lists no repositories.
    pub(crate) async fn idle(&self, before_seconds: u64, now_seconds: u64) -> Result<Idle, Error> {
        let mut idle = Idle::default();
        for scope in self.other_scopes().await? {
            let held = self.held(&scope, now_seconds).await?;
            match held.iter().filter_map(Held::newest).max() {
                None if held.is_empty() => {}
                None => idle.ageless.push(scope),
                Some(newest) if newest < before_seconds => {
                    idle.endings.extend(held.into_iter().map(Held::whole));
                }
                Some(_) => {}
            }
        }
        Ok(idle)
    }

    /// What the folder and the registry have of a scope.
    async fn held(&self, scope: &ScopeName, now_seconds: u64) -> Result<Vec<Held>, Error> {
        let mut found = Vec::new();
        let there = self.far.as_ref().map(|far| far.repository(&scope.repository())).transpose()?;
        for repository in [Some(scope.repository()), there].into_iter().flatten() {
            found.push(self.every(repository, now_seconds).await?);
        }
        found.retain(|held| !held.documents.is_empty());
        Ok(found)
    }

    /// What was built before a time, in seconds since 1970-01-01 UTC, in the run's own scope at the registry, and what
    /// was found in it. What something younger was built on stays.
    ///
    /// # Errors
    /// Where the registry fails.
    pub(crate) async fn outdated(
        &self,
        before_seconds: u64,
        now_seconds: u64,
    ) -> Result<Option<Ending>, Error> {
        let Some(far) = &self.far else { return Ok(None) };
        Ok(self.every(far.own().clone(), now_seconds).await?.ending(before_seconds))
    }

    /// What ends so that the run's own scope at the registry has at most so many bytes: what was built the longest time
    /// ago, where nothing younger stands on it, and nothing that was built since `since_seconds`. `None` without a registry.
    ///
    /// # Errors
    /// Where the registry fails.
    pub(crate) async fn fitting(
        &self,
        limit: u64,
        since_seconds: u64,
        now_seconds: u64,
    ) -> Result<Option<Fit>, Error> {
        let Some(far) = &self.far else { return Ok(None) };
        let held = self.every(far.own().clone(), now_seconds).await?;
        let of_images = self.parts_of_images(&held).await?;
        if held.bytes_without(None, &of_images) <= limit {
            return Ok(Some(Fit::AsItIs));
        }
        let moments: Vec<u64> = held.moments(since_seconds).into_iter().collect();
        let cut = |at: &u64| {
            let ending = held.ending(at.saturating_add(1));
            let bytes = held.bytes_without(ending.as_ref(), &of_images);
            (ending, bytes)
        };
        // Less stays the later the cut is.
        let first = moments.partition_point(|at| cut(at).1 > limit);
        let last = moments.len().saturating_sub(1);
        Ok(Some(match moments.get(first.min(last)).map(cut) {
            Some((Some(ending), bytes)) if bytes <= limit => Fit::Ends(ending),
            Some((ending, bytes)) => Fit::TooMuch(ending, bytes),
            None => Fit::TooMuch(None, held.bytes_without(None, &of_images)),
        }))
    }

    async fn parts_of_images(&self, held: &Held) -> Result<BTreeMap<Digest, Parts>, Error> {
        let images: BTreeSet<&Digest> = held.records().map(|record| &record.image).collect();
        let reads = images.into_iter().map(async |image| {
            match self.store.read_document(&held.repository, &image.clone().into()).await {
                Ok(document) => Ok(Some((image.clone(), parts_of(&document)))),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        });
        let read = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READS_AT_ONCE);
        read.try_filter_map(async |read| Ok(read)).try_collect().await
    }

    /// Let it end: tag by tag, or where the place removes no tags by the digests of what they point at; then the images.
    /// What is gone already is passed over, and a tag that somebody has moved since stays, with all images.
    ///
    /// While somebody is at work in the folder, what stands there loses its tags alone: what a run has found it may still
    /// need, and a later collection takes it (I-S4).
    ///
    /// # Errors
    /// `Unsupported` where the place removes nothing, and where it fails.
    pub(crate) async fn end(&self, ending: &Ending, somebody_works: bool) -> Result<(), Error> {
        let repository = &ending.repository;
        let mut keeps_images =
            somebody_works && !self.far.as_ref().is_some_and(|far| far.is_there(repository));
        let gone = |removed: Result<(), Error>| match removed {
            Err(error) if error.is_not_found() => Ok(()),
            removed => removed,
        };
        let mut by_digest = BTreeSet::new();
        for (tag, digest) in &ending.tags {
            if by_digest.contains(digest) {
                continue;
            }
            match self.store.resolve(repository, &tag.clone().into()).await? {
                Some(now) if now.digest == *digest => {}
                Some(_) => {
                    keeps_images = true;
                    continue;
                }
                None => continue,
            }
            match gone(self.store.remove_tag(repository, tag).await) {
                // Some say plainly that they remove no tags; others take the tag for a digest that is none.
                Err(error) if is_no_way(error.kind()) => {
                    gone(self.store.remove_document(repository, digest).await)?;
                    by_digest.insert(digest);
                }
                removed => removed?,
            }
        }
        for image in ending.images.keys().filter(|_| !keeps_images) {
            match gone(self.store.remove_document(repository, image).await) {
                // A place of ours keeps what an index names; a collection there ends it.
                Err(error) if matches!(error.kind(), ErrorKind::InUse | ErrorKind::Unsupported) => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// What stands under every tag of a repository.
    async fn every(&self, repository: Repository, now_seconds: u64) -> Result<Held, Error> {
        let tags = self.tags_from(&repository, "").await?;
        let reads = tags.into_iter().map(async |tag| {
            match self.store.read_document(&repository, &tag.clone().into()).await {
                Ok(document) => {
                    let what = what(&tag, &document, now_seconds);
                    Ok(Some((tag, (document, what))))
                }
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        });
        let read = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READS_AT_ONCE);
        let documents = read.try_filter_map(async |read| Ok(read)).try_collect().await?;
        Ok(Held { repository, documents, now_seconds })
    }
}

pub(super) fn is_no_way(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unsupported | ErrorKind::Invalid | ErrorKind::Mismatch)
}

/// When something was kept, where it says so, and no clock was wrong.
fn believed(document: &Document, now_seconds: u64) -> Option<u64> {
    kept_seconds(document).filter(|kept| is_believed(*kept, now_seconds))
}

fn what(tag: &Tag, document: &Document, now_seconds: u64) -> What {
    if is_mount(tag) || is_of_a_plan(tag) {
        return What::Kept(believed(document, now_seconds).unwrap_or_default());
    }
    if let Ok(record) = parse::<ImageRecord>(document, None) {
        return What::Image(Box::new(record));
    }
    if let Ok(record) = parse::<CheckRecord>(document, None) {
        return What::Checks(record.image);
    }
    match document.index() {
        Ok(index) if super::roll::is_one(&index) => {
            What::Roll(index.manifests.into_iter().map(|entry| entry.digest).collect())
        }
        _ => What::Other,
    }
}
