//! Carrying a publication out: content first, everything known to be present, tags last, all read back.
//!
//! Up to the first tag nothing public changes, so a failure there is one of the surroundings, and who stops it there
//! stops it with nothing begun. From the first tag on the publication is incomplete until all are read back; the same
//! command does what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::diag::{Diagnostic, Kind, Result};
use crate::event::EventKind;
use crate::oci::{
    Descriptor, Digest, Document, Error, ErrorKind, Origin, Pointer, Repository, Store, Tag, Taken,
    blob_stands, copy_image,
};

use super::mend::hints;
use super::publication::{CONCURRENCY, Publication, Source, Step, Target, blobs_of};

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

/// How far the tags have come.
#[derive(Debug, Default)]
struct Tags {
    /// One was begun to be written.
    begun: AtomicBool,
    /// One could not be written.
    failed: AtomicBool,
    /// So many are known to be where they should be.
    done: AtomicUsize,
}

/// What hears of every fact.
type Listener<'a> = &'a (dyn Fn(EventKind) + Send + Sync);

impl Publication {
    /// Does every step at the target, in order, until it is done or `stop` comes, with what it then ends with.
    ///
    /// # Errors
    /// Where source or target fails, or it is stopped: of kind [`Kind::Incomplete`] once a tag was begun.
    pub(crate) async fn carry_out(
        &self,
        source: &Source<'_>,
        target: Target<'_>,
        stop: impl Future<Output = Diagnostic>,
        listener: Listener<'_>,
    ) -> Result<Published> {
        let tags = Tags::default();
        tokio::select! {
            biased;
            done = self.every_step(source, target, &tags, listener) => done,
            stopped = stop => match tags.begun.load(Ordering::SeqCst) {
                true => Err(self.incomplete(stopped, tags.done.load(Ordering::SeqCst)).into()),
                false => Err(stopped.into()),
            },
        }
    }

    async fn every_step(
        &self,
        source: &Source<'_>,
        target: Target<'_>,
        tags: &Tags,
        listener: Listener<'_>,
    ) -> Result<Published> {
        listener(EventKind::PublishStarted {
            target: target.registry.to_owned(),
            images: self.release.images.len(),
            tags: self.tags.len(),
        });
        self.tell_withheld(target, listener);
        let bytes = self.bring_content(source, target, listener).await?;
        let tags_moved = self.move_tags(target, tags, listener).await?;
        listener(EventKind::Published { tags: self.tags.len() });
        Ok(Published { bytes, tags_moved, tags: self.tags.len() })
    }

    fn tell_withheld(&self, target: Target<'_>, listener: Listener<'_>) {
        for withheld in &self.release.tags_withheld {
            listener(EventKind::TagWithheld {
                reference: format!("{}/{}:{}", target.registry, withheld.repository, withheld.tag),
                reason: withheld.reason.clone(),
            });
        }
    }

    /// Blobs, manifests and indexes; then every document is asked for once more. Returns bytes that moved.
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
        every(&self.manifests, |step| bring_document(step, source, target, &is_new)).await?;
        every(&self.indexes, |step| bring_document(step, source, target, &|_, _| false)).await?;
        every(&self.manifests, |step| confirm_document(step, target)).await?;
        every(&self.indexes, |step| confirm_document(step, target)).await?;
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

    /// All tags, those of one platform first, then read back. After a failure none is begun that was not yet.
    async fn move_tags(&self, target: Target<'_>, tags: &Tags, listener: Listener<'_>) -> Result<usize> {
        let old = every(&self.tags, |step| old_place(step, target)).await?;
        let of_index = |step: &Step| matches!(step, Step::Tag { document, .. } if document.is_index());
        let (of_indexes, of_manifests): (Vec<_>, Vec<_>) =
            self.tags.iter().zip(old).partition(|(step, _)| of_index(step));
        let mut results: Vec<Option<Result<bool, Diagnostic>>> = Vec::new();
        // docker-registry rewrites a manifest's link in place with each of its tags, and refuses a tag of an index
        // that names the manifest at that moment.
        for phase in [of_manifests, of_indexes] {
            let work = phase.into_iter().map(|(step, old)| move_tag(step, old, target, tags, listener));
            let work: Vec<_> = work.collect();
            results.extend(stream::iter(work).buffered(CONCURRENCY).collect::<Vec<_>>().await);
        }
        let done = tags.done.load(Ordering::SeqCst);
        let moved = results.iter().flatten().filter(|result| matches!(result, Ok(true))).count();
        if let Some(Err(problem)) = results.into_iter().flatten().find(Result::is_err) {
            return Err(self.incomplete(problem, done).into());
        }
        let read_back = every(&self.tags, |step| read_back(step, target)).await;
        read_back.map_err(|problems| match problems.iter().next() {
            Some(first) => self.incomplete(first.clone(), done).into(),
            None => problems,
        })?;
        Ok(moved)
    }

    fn incomplete(&self, problem: Diagnostic, done: usize) -> Diagnostic {
        let mut all = Diagnostic::new(
            Kind::Incomplete,
            "the publication is incomplete, and every tag points at whole content",
        )
        .because(format!("{done} of {} tags are where they should be", self.tags.len()))
        .because(&problem.message);
        all.causes.extend(problem.causes);
        all.hints = problem.hints;
        all.hint("run the same command again: it does what is missing")
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
        Ok(true) => problem(&format!("bring {} to {repository}", blob.digest), target, error),
        Ok(false) | Err(_) => Diagnostic::surroundings(format!("cannot read {} from the store", blob.digest))
            .caused_by(&error)
            .hint("build it again: polyarch build"),
    }
}

async fn bring_document(
    step: &Step,
    source: &Source<'_>,
    target: Target<'_>,
    is_new: &(dyn Fn(&Repository, &Document) -> bool + Send + Sync),
) -> Result<(), Diagnostic> {
    let Step::Document { repository, document } = step else { return Ok(()) };
    let failed = |error| problem(&format!("bring {} to {repository}", document.digest()), target, error);
    if !is_new(repository, document)
        && has_document(target.store, repository, document).await.map_err(failed)?
    {
        return Ok(());
    }
    match target.store.write_document(repository, document, &[]).await {
        // It had said that all content is there, or has lost it since.
        Err(error) if error.kind() == ErrorKind::MissingContent && !document.is_index() => {
            let origin = Origin { store: source.store, repository: source.repository };
            copy_image(&origin, document, target.store, repository, None).await.map(drop).map_err(failed)
        }
        written => written.map_err(failed),
    }
}

/// What was written is there, by its own digest and size.
async fn confirm_document(step: &Step, target: Target<'_>) -> Result<(), Diagnostic> {
    let Step::Document { repository, document } = step else { return Ok(()) };
    let doing = format!("read {} back from {repository}", document.digest());
    match has_document(target.store, repository, document).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Diagnostic::surroundings(format!("cannot {doing} at {}", target.registry))
            .because("the registry took it and does not have it")),
        Err(error) => Err(problem(&doing, target, error)),
    }
}

async fn has_document(
    store: &dyn Store,
    repository: &Repository,
    document: &Document,
) -> Result<bool, Error> {
    let found = store.resolve(repository, &Pointer::Digest(document.digest().clone())).await?;
    Ok(found.is_some_and(|found| {
        found.digest == *document.digest() && found.size == document.bytes().len() as u64
    }))
}

/// Where a tag points now.
async fn old_place(step: &Step, target: Target<'_>) -> Result<Option<Descriptor>, Diagnostic> {
    let Step::Tag { repository, tag, .. } = step else { return Ok(None) };
    let found = target.store.resolve(repository, &Pointer::Tag(tag.clone())).await;
    found.map_err(|error| problem(&format!("read the tag {repository}:{tag}"), target, error))
}

/// A tag is written unless it is where it should be; `None` where it was not begun because another had failed.
async fn move_tag(
    step: &Step,
    old: Option<Descriptor>,
    target: Target<'_>,
    tags: &Tags,
    listener: Listener<'_>,
) -> Option<Result<bool, Diagnostic>> {
    let Step::Tag { repository, tag, document } = step else { return None };
    if tags.failed.load(Ordering::SeqCst) {
        return None;
    }
    let moved = old.is_none_or(|old| old.digest != *document.digest());
    tags.begun.fetch_or(moved, Ordering::SeqCst);
    if moved && let Err(error) = write_tag(target.store, repository, document, tag).await {
        tags.failed.store(true, Ordering::SeqCst);
        return Some(Err(problem(&format!("move the tag {repository}:{tag}"), target, error)));
    }
    tags.done.fetch_add(1, Ordering::SeqCst);
    listener(EventKind::TagPublished {
        reference: format!("{}/{repository}:{tag}", target.registry),
        digest: document.digest().to_string(),
        moved,
    });
    Some(Ok(moved))
}

async fn write_tag(
    store: &dyn Store,
    repository: &Repository,
    document: &Document,
    tag: &Tag,
) -> Result<(), Error> {
    store.write_document(repository, document, std::slice::from_ref(tag)).await
}

async fn read_back(step: &Step, target: Target<'_>) -> Result<(), Diagnostic> {
    let Step::Tag { repository, tag, document } = step else { return Ok(()) };
    let reference = format!("{}/{repository}:{tag}", target.registry);
    match old_place(step, target).await?.map(|found| found.digest) {
        Some(found) if found == *document.digest() => Ok(()),
        Some(found) => {
            Err(Diagnostic::surroundings(format!("{reference} points at {found} after it was written"))
                .because("someone else moves the same tag"))
        }
        None => Err(Diagnostic::surroundings(format!("{reference} is not there after it was written"))),
    }
}

/// A failure at the target, with what to do about it.
pub(super) fn problem(doing: &str, target: Target<'_>, error: Error) -> Diagnostic {
    let found = Diagnostic::surroundings(format!("cannot {doing} at {}", target.registry)).caused_by(&error);
    hints(target.registry, &error).into_iter().fold(found, Diagnostic::hint)
}
