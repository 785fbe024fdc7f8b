//! What carrying a publication out would do at its target as it stands: looked at, and never written.
//!
//! The checks are those of the real thing, in its order, so that whatever would refuse it refuses it here.

use std::collections::BTreeSet;
use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::diag::{Diagnostic, Problems, Result};
use crate::oci::{Digest, Error, ErrorKind, Pointer, Repository, Tag};

use super::about::is_attached;
use super::carry_out::problem;
use super::draft::Draft;
use super::immutable::immutable_violations;
use super::journal::{Entry, Listed, Move, RESERVED_TAG};
use super::look::digest_at;
use super::moves::places;
use super::publication::{CONCURRENCY, Publication, Step, Target};
use super::release::ReleaseImage;
use super::standing::Open;
use super::tags::WithheldTag;
use super::transaction::{Publisher, Transaction};

/// What would be done.
pub(crate) struct Preview<'p> {
    /// The publication that is open at the target.
    pub(crate) first: Option<First>,
    /// Content that the target lacks, in order.
    lacking: Vec<&'p Step>,
    /// How much of the content is there already.
    there: Count,
    /// The repository whose list of publications would be written, if it would be.
    journal: Option<Repository>,
    /// Every tag, with where it is once the open publication is over.
    tags: Vec<Move>,
    /// Merged tags that stay where they are, and why.
    withheld: &'p [WithheldTag],
    /// Repositories that nobody may look at as they are asked; they are taken to be empty.
    pub(crate) unseen: BTreeSet<Repository>,
    /// A tag that never changes would have to: that is seen before anything else is done.
    pub(crate) breaks_immutable: bool,
    /// Why none of it would be done.
    pub(crate) refused: Option<Problems>,
}

/// A publication that comes before this one.
pub(crate) struct First {
    /// Its name.
    id: String,
    /// Somebody works on it, so that it is waited for.
    is_alive: bool,
    /// Its tags that are still to be moved; of one that is waited for they are not known.
    tags: Vec<Move>,
}

/// What there is of a publication, or what there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Blobs that are sent.
    pub(crate) blobs: usize,
    /// Bytes of those.
    pub(crate) bytes: u64,
    /// Blobs that are mounted from another repository.
    pub(crate) mounts: usize,
    /// Manifests of platforms.
    pub(crate) manifests: usize,
    /// Indexes.
    pub(crate) indexes: usize,
    /// Tags.
    pub(crate) tags: usize,
}

impl Count {
    /// This and one step more.
    fn and_step(mut self, step: &Step) -> Self {
        match step {
            Step::Blob { blob, from: None, .. } => {
                self.blobs += 1;
                self.bytes += blob.size;
            }
            Step::Blob { from: Some(_), .. } => self.mounts += 1,
            Step::Document { document, .. } if document.is_index() => self.indexes += 1,
            Step::Document { .. } => self.manifests += 1,
            Step::Tag { .. } => self.tags += 1,
        }
        self
    }

    /// Both together.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            blobs: self.blobs + other.blobs,
            bytes: self.bytes + other.bytes,
            mounts: self.mounts + other.mounts,
            manifests: self.manifests + other.manifests,
            indexes: self.indexes + other.indexes,
            tags: self.tags + other.tags,
        }
    }
}

impl Publication {
    /// Looks at everything that would be asked and written, with the right to read alone. `earlier` are publications
    /// that the same command carries out before this one.
    ///
    /// # Errors
    /// Where the target fails. What would refuse the publication is part of the answer.
    pub(crate) async fn preview<'p>(
        &'p self,
        target: Target<'_>,
        publisher: &Publisher<'_>,
        earlier: &[Self],
    ) -> Result<Preview<'p>> {
        let Some(home) = self.home() else {
            let what = "look at what a publication of no image would do";
            return Err(Diagnostic::new(crate::diag::Kind::Bug, what).into());
        };
        let quiet = |_| {};
        let transaction = Transaction::new(target, home, publisher, &quiet);
        let mut unseen = BTreeSet::new();
        let draft = self.draft();
        let now = self.places(target, &draft, &mut unseen).await?;
        let refused = self.refuses(target, &now);
        let breaks_immutable = refused.is_some();
        let (page, refused) = match transaction.look(&draft).await {
            Ok(page) => (page, refused),
            // What the list refuses is told beside what the tags do; whether it can be read at all is another thing.
            Err(problems) if is_refusal(&problems) => {
                let page = transaction.desk.read().await.map_err(|error| transaction.unread(error))?;
                (page, and(refused, problems))
            }
            Err(problems) => return Err(problems),
        };
        let earlier: Vec<&ReleaseImage> = earlier.iter().flat_map(|one| &one.release.images).collect();
        let parents = self.stands_on_published(target, &page, Open::Counts, &earlier).await;
        let refused = match parents {
            Ok(()) => refused,
            Err(problems) if is_refusal(&problems) => and(refused, problems),
            Err(problems) => return Err(problems),
        };
        let first = match page.journal.open() {
            None => None,
            Some((open, until)) => Some(first(&transaction, open, until).await?),
        };
        let tags = after(&now, first.as_ref());
        let refused = refused.or_else(|| self.refuses(target, &tags));
        let (lacking, there) = self.lacking(target, &mut unseen).await?;
        let standing = transaction.standing(&page, &draft).await?;
        let olds: Vec<Option<Digest>> = tags.iter().map(|one| one.old.clone()).collect();
        let entry: Entry = transaction.entry(&page, &draft, &olds, &standing);
        let again = transaction.stands_again(&page, &standing, &entry);
        let is_written = again.is_none_or(|journal| journal != page.journal);
        let journal = is_written.then(|| home.clone());
        let withheld = &self.release.tags_withheld;
        Ok(Preview { first, lacking, there, journal, tags, withheld, unseen, breaks_immutable, refused })
    }

    fn refuses(&self, target: Target<'_>, moves: &[Move]) -> Option<Problems> {
        Problems::check(immutable_violations(&self.release, target.registry, moves)).err()
    }

    /// Every tag with where it is now.
    async fn places(
        &self,
        target: Target<'_>,
        draft: &Draft,
        unseen: &mut BTreeSet<Repository>,
    ) -> Result<Vec<Move>> {
        let looks = draft.tags.iter().map(|one| async move {
            let found = target.store.resolve(&one.repository, &Pointer::Tag(one.tag.clone())).await;
            let found = seen(found).map_err(|error| {
                problem(&format!("read the tag {}:{}", one.repository, one.tag), target, error)
            })?;
            let may_look = found.is_some();
            let old = found.flatten().map(|found| found.digest);
            Ok::<_, Diagnostic>((Move { old, ..one.clone() }, may_look))
        });
        let looks: Vec<_> = looks.collect();
        let found: Vec<(Move, bool)> = stream::iter(looks).buffered(CONCURRENCY).try_collect().await?;
        let hidden = found.iter().filter(|(_, may_look)| !may_look);
        unseen.extend(hidden.map(|(one, _)| one.repository.clone()));
        Ok(found.into_iter().map(|(one, _)| one).collect())
    }

    /// The steps of content that the target lacks, and what it has.
    async fn lacking(
        &self,
        target: Target<'_>,
        unseen: &mut BTreeSet<Repository>,
    ) -> Result<(Vec<&Step>, Count)> {
        let looks: Vec<_> =
            self.content().map(|step| async move { (step, is_there(step, target).await) }).collect();
        let mut found = stream::iter(looks).buffered(CONCURRENCY);
        let (mut lacking, mut there) = (Vec::new(), Count::default());
        while let Some((step, is_there)) = found.next().await {
            let (Step::Blob { repository, .. }
            | Step::Document { repository, .. }
            | Step::Tag { repository, .. }) = step;
            let failed = |error| problem(&format!("look into {repository}"), target, error);
            match seen(is_there).map_err(failed)? {
                Some(true) => there = there.and_step(step),
                Some(false) => lacking.push(step),
                None => {
                    unseen.insert(repository.clone());
                    lacking.push(step);
                }
            }
        }
        Ok((lacking, there))
    }
}

impl Preview<'_> {
    /// What is there of it already.
    pub(crate) fn there(&self) -> Count {
        let moving = self.moving();
        let tags = self.tags.iter().filter(|one| !moving.contains(&(&one.repository, &one.tag)));
        Count { tags: self.there.tags + tags.count(), ..self.there }
    }

    /// What there is to do.
    pub(crate) fn to_do(&self) -> Count {
        let content = self.lacking.iter().fold(Count::default(), |sum, step| sum.and_step(step));
        Count { tags: content.tags + self.moving().len(), ..content }
    }

    /// Whether the list of publications is written: it is too where nothing else is to do, for what is newer.
    pub(crate) fn writes_list(&self) -> bool {
        self.journal.is_some()
    }

    /// Tags that are moved, each once: by the publication that comes first, and by this one.
    fn moving(&self) -> BTreeSet<(&Repository, &Tag)> {
        let first = self.first.iter().flat_map(|first| &first.tags);
        let moved = first.chain(self.tags.iter().filter(|one| !stands(one)));
        moved.map(|one| (&one.repository, &one.tag)).collect()
    }

    /// What is brought before any tag moves, a line each.
    pub(crate) fn content(&self) -> String {
        let first = self.first.iter().map(ToString::to_string);
        first.chain(self.lacking.iter().map(|step| format!("{step}\n"))).collect()
    }

    /// The journal and the tags, a line each.
    pub(crate) fn moves(&self) -> String {
        let journal = self.journal.iter().map(|home| format!("journal   {home}:{RESERVED_TAG}\n"));
        let tags = self.tags.iter().map(line);
        let withheld = self.withheld.iter();
        let withheld =
            withheld.map(|one| format!("stays     {}:{}: {}\n", one.repository, one.tag, one.reason));
        journal.chain(tags).chain(withheld).collect()
    }
}

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.id;
        match self.is_alive {
            true => writeln!(f, "first     wait for the publication {id}, which is under way"),
            false => writeln!(f, "first     complete the publication {id}, which was cut off"),
        }?;
        self.tags.iter().try_for_each(|one| f.write_str(&line(one)))
    }
}

/// A tag with where it is and where it is to be, in words.
fn line(one: &Move) -> String {
    let Move { repository, tag, old, new, immutable: _ } = one;
    match (old, new) {
        (Some(old), Some(new)) if old == new => format!("stays     {repository}:{tag} at {new}\n"),
        (Some(old), Some(new)) => format!("tag       {repository}:{tag} to {new}, which is at {old}\n"),
        (None, Some(new)) => format!("tag       {repository}:{tag} to {new}, which is new\n"),
        (old, None) => {
            let old = old.as_ref().map_or_else(String::new, |old| format!(", which is at {old}"));
            format!("remove    {repository}:{tag}{old}\n")
        }
    }
}

fn stands(one: &Move) -> bool {
    one.old == one.new
}

/// Whether what a step brings is there.
async fn is_there(step: &Step, target: Target<'_>) -> Result<bool, Error> {
    match step {
        Step::Blob { repository, blob, .. } => {
            let size = target.store.blob_size(repository, &blob.digest).await?;
            Ok(size == Some(blob.size))
        }
        Step::Document { repository, document } => is_attached(target.store, repository, document).await,
        // One that is elsewhere stays there.
        Step::Tag { repository, tag, .. } => {
            Ok(digest_at(target.store, repository, tag.clone()).await?.is_some())
        }
    }
}

/// What was seen; `None` where nobody may look, as at repositories that are not there yet.
fn seen<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::Denied => Ok(None),
        Err(error) => Err(error),
    }
}

/// The open publication, with what is left of it to do where nobody works on it.
async fn first(transaction: &Transaction<'_>, open: &Listed, until_seconds: u64) -> Result<First> {
    let (id, is_alive) = (open.id.clone(), transaction.is_alive(open, until_seconds));
    if is_alive {
        return Ok(First { id, is_alive, tags: Vec::new() });
    }
    let entry = transaction.read_entry(open).await?;
    let found = places(transaction.target, &entry.tags).await;
    let failed = |stuck: super::moves::Stuck| {
        problem(&format!("read the tag {}", stuck.reference), transaction.target, stuck.error)
    };
    let found = found.map_err(failed)?;
    // One that stands elsewhere was moved by somebody else since, and is left alone.
    let left = entry.tags.into_iter().zip(found).filter(|(one, place)| one.old == *place && !stands(one));
    Ok(First { id, is_alive, tags: left.map(|(one, _)| one).collect() })
}

/// The same tags where they are once the open publication is completed.
fn after(now: &[Move], first: Option<&First>) -> Vec<Move> {
    let moved = |repository: &Repository, tag: &Tag| {
        let mut tags = first.into_iter().flat_map(|first| &first.tags);
        tags.find(|one| one.repository == *repository && one.tag == *tag)
    };
    let tags = now.iter().map(|one| match moved(&one.repository, &one.tag) {
        Some(first) => Move { old: first.new.clone(), ..one.clone() },
        None => one.clone(),
    });
    tags.collect()
}

/// Whether it is a policy that refuses, and not the target that fails.
fn is_refusal(problems: &Problems) -> bool {
    problems.iter().all(|problem| problem.kind == crate::diag::Kind::Policy)
}

fn and(before: Option<Problems>, more: Problems) -> Option<Problems> {
    Some(match before {
        Some(before) => before.and(more),
        None => more,
    })
}

#[cfg(test)]
mod tests;
