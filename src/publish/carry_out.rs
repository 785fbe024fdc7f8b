//! Carrying a publication out: content first, everything known to be present, the journal, tags last, all read back.
//!
//! Up to the journal nothing public changes, so a failure there is one of the surroundings, and who stops it there
//! stops it with nothing begun. From the first tag on the publication is incomplete until all are read back; the same
//! command, or the next publication, does what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::event::EventKind;
use crate::oci::{
    Descriptor, Digest, Document, Error, ErrorKind, Origin, Pointer, Repository, Store, Taken, blob_stands,
    copy_image,
};

use super::desk::Page;
use super::draft::Draft;
use super::immutable::immutable_violations;
use super::journal::{Brought, Move, State};
use super::mend;
use super::moves::{Listener, Mover, Progress};
use super::publication::{CONCURRENCY, Publication, Source, Step, Target, blobs_of};
use super::reading::read_back;
use super::standing::Open;
use super::transaction::{Publisher, Transaction, incomplete, stopped_after};

/// What carrying out came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// Bytes of blobs that had to move.
    pub(crate) bytes: u64,
    /// Tags that had to be moved.
    pub(crate) tags_moved: usize,
    /// Tags in all.
    pub(crate) tags: usize,
}

impl Publication {
    /// [`Self::carry_out_saying`] nothing.
    #[cfg(test)]
    pub(crate) async fn carry_out(
        &self,
        source: &Source<'_>,
        target: Target<'_>,
        publisher: &Publisher<'_>,
        stop: impl Future<Output = Diagnostic>,
        listener: Listener<'_>,
    ) -> Result<Published> {
        let nothing = std::future::ready(Ok(()));
        self.carry_out_saying(source, target, publisher, nothing, stop, listener).await
    }

    /// Does every step at the target, in order, until it is done or `stop` comes, with what it then ends with. `saying`
    /// attaches what is said of the images: once their content is there, and before the journal is written, so that
    /// whoever completes the publication finds it.
    ///
    /// # Errors
    /// Where source or target fails, a policy refuses it, or it is stopped: of kind [`Kind::Incomplete`] once a tag was
    /// begun.
    pub(crate) async fn carry_out_saying(
        &self,
        source: &Source<'_>,
        target: Target<'_>,
        publisher: &Publisher<'_>,
        saying: impl Future<Output = Result<()>>,
        stop: impl Future<Output = Diagnostic>,
        listener: Listener<'_>,
    ) -> Result<Published> {
        let progress = Progress::default();
        let Some(home) = self.home() else {
            return Err(Diagnostic::new(Kind::Bug, "a publication of no image").into());
        };
        let transaction = Transaction::new(target, home, publisher, listener);
        let ended = tokio::select! {
            biased;
            done = self.every_step(source, &transaction, saying, &progress) => done,
            stopped = stop => Err(stopped_after(stopped, &progress, self.tags.len()).into()),
        };
        if ended.is_err() {
            transaction.leave(&progress).await;
        }
        ended
    }

    async fn every_step(
        &self,
        source: &Source<'_>,
        transaction: &Transaction<'_>,
        saying: impl Future<Output = Result<()>>,
        progress: &Progress,
    ) -> Result<Published> {
        let Transaction { target, listener, .. } = *transaction;
        listener(EventKind::PublishStarted {
            target: target.registry.to_owned(),
            images: self.release.images.len(),
            tags: self.tags.len(),
        });
        self.tell_withheld(target, listener);
        let draft = self.draft();
        let page = transaction.look(&draft).await?;
        self.stands_on_published(target, &page, Open::Counts, &[]).await?;
        let bytes = self.bring_content(source, target, listener).await?;
        saying.await?;
        let policy =
            |moves: &[Move]| Problems::check(immutable_violations(&self.release, target.registry, moves));
        // What was open before may have been put back.
        let recheck = |page: Page| {
            async move { self.stands_on_published(target, &page, Open::DoesNot, &[]).await }.boxed()
        };
        let begun = transaction.begin(page, &draft, &policy, &recheck).await?;
        let mover =
            Mover { target, documents: self.documents(), progress, listener, stay: Default::default() };
        let tags_moved = transaction.carry(&begun, &mover).await?.moved()?;
        let tags = &begun.entry.tags;
        let read_back = transaction.alive(read_back(target, tags, &[])).await?;
        read_back.map_err(|found| match begun.is_written {
            true => incomplete(found, progress, tags.len()),
            false => found,
        })?;
        transaction.end(&begun.entry, &State::Done).await?;
        listener(EventKind::Published { tags: self.tags.len() });
        Ok(Published { bytes, tags_moved, tags: self.tags.len() })
    }

    /// What the journal is to say.
    pub(super) fn draft(&self) -> Draft {
        let moves = self.tags.iter().filter_map(|step| match step {
            Step::Tag { repository, tag, document } => Some(Move {
                repository: repository.clone(),
                tag: tag.clone(),
                old: None,
                new: Some(document.digest().clone()),
                immutable: self.release.immutable_by(repository, tag).is_some(),
            }),
            Step::Blob { .. } | Step::Document { .. } => None,
        });
        let images = self.release.images.iter().map(|image| Brought {
            unit: image.unit.to_string(),
            repository: image.repository.clone(),
            index: image.index.digest().clone(),
            platforms: image
                .platforms
                .iter()
                .map(|(platform, one)| (platform.clone(), one.manifest.digest.clone()))
                .collect(),
            parents: image.platforms.values().flat_map(|one| one.parents.values().cloned()).collect(),
        });
        Draft { tags: moves.collect(), images: images.collect(), rolls_back: None }
    }

    /// Everything that a tag is moved to.
    fn documents(&self) -> BTreeMap<Digest, Document> {
        let named = self.tags.iter().filter_map(|step| match step {
            Step::Tag { document, .. } => Some((document.digest().clone(), document.clone())),
            Step::Blob { .. } | Step::Document { .. } => None,
        });
        named.collect()
    }

    fn tell_withheld(&self, target: Target<'_>, listener: Listener<'_>) {
        for withheld in &self.release.tags_withheld {
            listener(EventKind::TagWithheld {
                reference: format!("{}/{}:{}", target.registry, withheld.repository, withheld.tag),
                reason: withheld.reason.clone(),
            });
        }
    }

    /// Blobs, manifests and indexes; then every document is asked for once more, and what is about them comes. Returns
    /// bytes that moved.
    async fn bring_content(
        &self,
        source: &Source<'_>,
        target: Target<'_>,
        listener: Listener<'_>,
    ) -> Result<u64> {
        let mut bytes: BTreeMap<&Repository, u64> = BTreeMap::new();
        let mut new = BTreeSet::new();
        for phase in [&self.blobs, &self.mounts] {
            let brought = every(phase, |step| bring_blob(step, source, target)).await?;
            for (repository, digest, taken) in brought.into_iter().flatten() {
                if let Taken::Moved(moved) = taken {
                    *bytes.entry(repository).or_default() += moved;
                }
                if taken != Taken::There {
                    new.insert((repository, digest));
                }
            }
        }
        // A manifest whose blobs were not there is not there either, and is not looked for.
        let is_new = |repository: &Repository, document: &Document| {
            let blobs = blobs_of(document).unwrap_or_default();
            blobs.iter().any(|blob| new.contains(&(repository, &blob.digest)))
        };
        let written = every(&self.manifests, |step| bring_document(step, source, target, &is_new)).await?;
        // Nor is an index that names such a manifest.
        let new: BTreeSet<_> = { self.manifests.iter().zip(written) }
            .filter_map(|(step, written)| match step {
                Step::Document { repository, document } if written => Some((repository, document.digest())),
                Step::Blob { .. } | Step::Document { .. } | Step::Tag { .. } => None,
            })
            .collect();
        let is_new = |repository: &Repository, document: &Document| {
            let entries = document.index().map(|index| index.manifests).unwrap_or_default();
            entries.iter().any(|entry| new.contains(&(repository, &entry.digest)))
        };
        every(&self.indexes, |step| bring_document(step, source, target, &is_new)).await?;
        every(&self.manifests, |step| confirm_document(step, target)).await?;
        every(&self.indexes, |step| confirm_document(step, target)).await?;
        self.bring_about(source, target, listener).await?;
        let total = bytes.values().sum();
        for image in &self.release.images {
            listener(EventKind::ContentPublished {
                repository: format!("{}/{}", target.registry, image.repository),
                digest: image.index.digest().to_string(),
                bytes: bytes.remove(&image.repository).unwrap_or_default(),
            });
        }
        Ok(total)
    }
}

/// Does the steps of a phase, some at a time, and gives their results in order; the first problem ends it.
async fn every<'a, T, F: Future<Output = Result<T, Diagnostic>> + Send>(
    steps: &'a [Step],
    act: impl Fn(&'a Step) -> F,
) -> Result<Vec<T>> {
    let work: Vec<F> = steps.iter().map(act).collect();
    let results = stream::iter(work).buffered(CONCURRENCY).try_collect().await;
    results.map_err(Into::into)
}

/// A blob is there, or is mounted, or is moved.
async fn bring_blob<'a>(
    step: &'a Step,
    source: &Source<'_>,
    target: Target<'_>,
) -> Result<Option<(&'a Repository, &'a Digest, Taken)>, Diagnostic> {
    let Step::Blob { repository, blob, from } = step else { return Ok(None) };
    let origin = Origin { store: source.store, repository: source.repository };
    let taken = match target.store.take_blob(repository, blob, from.as_ref(), &origin).await {
        Ok(taken) => taken,
        Err(error) => return Err(unbrought(blob, repository, source, target, error).await),
    };
    Ok(Some((repository, &blob.digest, taken)))
}

/// Why a blob could not be brought: the store has lost it, or the target failed.
async fn unbrought(
    blob: &Descriptor,
    repository: &Repository,
    source: &Source<'_>,
    target: Target<'_>,
    error: Error,
) -> Diagnostic {
    match blob_stands(source.store, source.repository, blob).await {
        Ok(true) => cut_off(&format!("bring {} to {repository}", blob.digest), target, error),
        Ok(false) | Err(_) => Diagnostic::surroundings(format!("cannot read {} from the store", blob.digest))
            .caused_by(&error)
            .hint("build it again: polyarch build"),
    }
}

/// Writes a document unless it is there; whether it was written. What is new is not looked for.
pub(super) async fn bring_document(
    step: &Step,
    source: &Source<'_>,
    target: Target<'_>,
    is_new: &(dyn Fn(&Repository, &Document) -> bool + Send + Sync),
) -> Result<bool, Diagnostic> {
    let Step::Document { repository, document } = step else { return Ok(false) };
    let failed = |error| cut_off(&format!("bring {} to {repository}", document.digest()), target, error);
    if !is_new(repository, document)
        && has_document(target.store, repository, document).await.map_err(failed)?
    {
        return Ok(false);
    }
    match target.store.write_document(repository, document, &[]).await {
        // It had said that all content is there, or has lost it since.
        Err(error) if error.kind() == ErrorKind::MissingContent && !document.is_index() => {
            let origin = Origin { store: source.store, repository: source.repository };
            copy_image(&origin, document, target.store, repository, None).await.map_err(failed)?;
        }
        written => written.map_err(failed)?,
    }
    Ok(true)
}

/// What was written is there, by its own digest and size.
async fn confirm_document(step: &Step, target: Target<'_>) -> Result<(), Diagnostic> {
    let Step::Document { repository, document } = step else { return Ok(()) };
    let doing = format!("read {} back from {repository}", document.digest());
    match has_document(target.store, repository, document).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Diagnostic::surroundings(format!("cannot {doing} at {}", target.registry))
            .because("the registry took it and does not have it")),
        Err(error) => Err(cut_off(&doing, target, error)),
    }
}

pub(super) async fn has_document(
    store: &dyn Store,
    repository: &Repository,
    document: &Document,
) -> Result<bool, Error> {
    let found = store.resolve(repository, &Pointer::Digest(document.digest().clone())).await?;
    Ok(found.is_some_and(|found| {
        found.digest == *document.digest() && found.size == document.bytes().len() as u64
    }))
}

/// A failure at the target, with what to do about it.
pub(super) fn problem(doing: &str, target: Target<'_>, error: Error) -> Diagnostic {
    problem_of(doing, target, &error)
}

/// The same while content is brought: what has come by then stays there, and does not come again.
fn cut_off(doing: &str, target: Target<'_>, error: Error) -> Diagnostic {
    let may_pass = error.kind() == ErrorKind::Passing;
    let found = problem(doing, target, error);
    if may_pass { found.again() } else { found }
}

/// The same of an error that is still wanted.
pub(super) fn problem_of(doing: &str, target: Target<'_>, error: &Error) -> Diagnostic {
    mend::problem(doing, target.registry, error)
}
