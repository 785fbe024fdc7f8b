//! Taking a publication back: its tags return to where they were before it, if nobody has moved them since.
//!
//! It is a publication of its own, with a journal: killed anywhere, the next command completes it. Tags that the
//! publication made first go away where the registry lets them, and are named where it does not.

use std::collections::BTreeSet;
use std::fmt;

use futures_util::FutureExt;

use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::event::EventKind;
use crate::oci::{Digest, Pointer, Repository};

use super::carry_out::problem;
use super::desk::{Desk, Page};
use super::generation::Generation;
use super::journal::{Entry, Listed, Move, State};
use super::moves::{Listener, Mover, Progress, places};
use super::publication::Target;
use super::transaction::{Draft, Publisher, Transaction, incomplete};

/// What taking a publication back comes to.
#[derive(Debug)]
pub(crate) struct Rollback {
    /// The publication.
    pub(crate) entry: Entry,
    /// How new it is.
    pub(crate) generation: Generation,
    /// The repository that has its journal.
    home: Repository,
    /// Tags that go back.
    back: Vec<Move>,
    /// Tags that it made first, which go away.
    made: Vec<Move>,
}

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RolledBack {
    /// Tags that went back.
    pub(crate) moved: usize,
    /// Tags that went away.
    pub(crate) removed: usize,
    /// Tags that the publication made first and that the registry does not let go, as `host/repository:tag`.
    pub(crate) stay: Vec<String>,
}

/// The publications of a target that a repository lists, newest first.
///
/// # Errors
/// Where the target fails.
pub(crate) async fn publications(target: Target<'_>, home: &Repository) -> Result<Vec<Listed>> {
    Ok(page(target, home).await?.journal.listed)
}

impl Rollback {
    /// Finds a publication by its name in the list of a repository, and what must be done to take it back. Writes
    /// nothing. `None` where the list does not have it.
    ///
    /// # Errors
    /// Where a tag was moved since, something that it goes back to is gone, or the target fails.
    pub(crate) async fn prepare(target: Target<'_>, home: &Repository, id: &str) -> Result<Option<Self>> {
        let page = page(target, home).await?;
        let Some(listed) = page.journal.listed.iter().find(|listed| listed.id == id) else { return Ok(None) };
        if listed.state == State::Undone {
            let what = format!("the publication {id} came to nothing: its tags are where they were");
            return Err(Diagnostic::request(what).into());
        }
        let desk = Desk { store: target.store, repository: home.clone() };
        let entry = desk.entry(listed).await;
        let entry = entry.map_err(|error| problem(&format!("read the journal of {id}"), target, error))?;
        let changed = entry.tags.iter().filter(|one| one.old != one.new);
        let taken_back =
            changed.map(|one| Move { old: one.new.clone(), new: one.old.clone(), ..one.clone() });
        let (back, made): (Vec<Move>, Vec<Move>) = taken_back.partition(|one| one.new.is_some());
        let rollback = Self { entry, generation: listed.generation, home: home.clone(), back, made };
        rollback.refuse_moved(target).await?;
        rollback.refuse_lost(target).await?;
        Ok(Some(rollback))
    }

    /// Every step in its order, for `--dry-run`.
    pub(crate) fn steps(&self) -> Vec<String> {
        let steps = self.back.iter().chain(&self.made).map(|one| Step(one).to_string());
        steps.collect()
    }

    /// Takes the publication back.
    ///
    /// # Errors
    /// As [`super::Publication::carry_out`] has them.
    pub(crate) async fn carry_out(
        &self,
        target: Target<'_>,
        publisher: &Publisher<'_>,
        stop: impl Future<Output = Diagnostic>,
        listener: Listener<'_>,
    ) -> Result<RolledBack> {
        let progress = Progress::default();
        let transaction = Transaction::new(target, &self.home, publisher, listener);
        let ended = tokio::select! {
            biased;
            done = self.every_step(&transaction, &progress) => done,
            stopped = stop => Err(incomplete(stopped, &progress, self.back.len()).into()),
        };
        if ended.is_err() {
            transaction.leave(&progress).await;
        }
        ended
    }

    async fn every_step(&self, transaction: &Transaction<'_>, progress: &Progress) -> Result<RolledBack> {
        let Transaction { target, listener, .. } = *transaction;
        let tags = self.back.iter().map(|one| Move { old: None, ..one.clone() });
        let id = Some(self.entry.id.clone());
        let draft = Draft { tags: tags.collect(), images: Vec::new(), rolls_back: id };
        let page = transaction.look(&draft).await?;
        let policy = |found: &[Move]| self.refuse_others(target, found);
        let begun = transaction.begin(page, &draft, &policy, &|_| std::future::ready(Ok(())).boxed()).await?;
        let mover = Mover { target, documents: Default::default(), progress, listener };
        let moved = transaction.carry(&begun, &mover).await?;
        let fresh = Target { store: target.fresh, ..target };
        let found = places(fresh, &begun.entry.tags).await;
        let found = found.map_err(|stuck| problem("read the tags back", target, stuck.error))?;
        if let Some((one, _)) = begun.entry.tags.iter().zip(&found).find(|(one, place)| one.new != **place) {
            let what = format!("{}/{}:{} is not where it was put", target.registry, one.repository, one.tag);
            return Err(incomplete(Diagnostic::surroundings(what), progress, self.back.len()).into());
        }
        let (removed, stay) = self.remove_made(target, listener).await?;
        transaction.end(&begun.entry, &State::Done).await?;
        Ok(RolledBack { moved, removed, stay })
    }

    /// Takes the tags away that were not there before the publication.
    async fn remove_made(&self, target: Target<'_>, listener: Listener<'_>) -> Result<(usize, Vec<String>)> {
        let found = places(target, &self.made).await;
        let found =
            found.map_err(|stuck| problem(&format!("read {}", stuck.reference), target, stuck.error))?;
        let (mut removed, mut stay) = (0, Vec::new());
        for (one, _) in self.made.iter().zip(found).filter(|(one, place)| one.old == *place) {
            let reference = format!("{}/{}:{}", target.registry, one.repository, one.tag);
            match target.store.remove_tag(&one.repository, &one.tag).await {
                Ok(()) => {
                    removed += 1;
                    listener(EventKind::TagRemoved { reference });
                }
                Err(error) if error.is_not_found() => {}
                Err(_) => stay.push(reference),
            }
        }
        Ok((removed, stay))
    }

    /// Every tag must be where the publication has put it, or back already.
    async fn refuse_moved(&self, target: Target<'_>) -> Result<()> {
        let found = places(target, &self.back).await;
        let found =
            found.map_err(|stuck| problem(&format!("read {}", stuck.reference), target, stuck.error))?;
        let found = self.back.iter().zip(found).map(|(one, old)| Move { old, ..one.clone() });
        self.refuse_others(target, &found.collect::<Vec<_>>())
    }

    fn refuse_others(&self, target: Target<'_>, found: &[Move]) -> Result<()> {
        let others =
            self.back.iter().zip(found).filter(|(one, found)| found.old != one.old && found.old != one.new);
        let refused = others.map(|(one, found)| {
            let reference = format!("{}/{}:{}", target.registry, one.repository, one.tag);
            let place =
                found.old.as_ref().map_or_else(|| "it is gone".to_owned(), |at| format!("it points at {at}"));
            Diagnostic::new(
                Kind::Policy,
                format!("{reference} was moved after the publication {}", self.entry.id),
            )
            .because(place)
            .hint("take back what came after it first: polyarch publications")
        });
        Problems::check(refused.collect())
    }

    /// What tags go back to must still be there.
    async fn refuse_lost(&self, target: Target<'_>) -> Result<()> {
        let wanted: BTreeSet<(&Repository, &Digest)> =
            self.back.iter().filter_map(|one| Some((&one.repository, one.new.as_ref()?))).collect();
        let mut lost = Vec::new();
        for (repository, digest) in wanted {
            let found = target.store.resolve(repository, &Pointer::Digest(digest.clone())).await;
            let found = found.map_err(|error| problem(&format!("look for {digest}"), target, error))?;
            if found.is_none() {
                let what = format!("{}/{repository}@{digest} is gone", target.registry);
                lost.push(
                    Diagnostic::surroundings(what)
                        .because("the registry has removed what no tag pointed at")
                        .hint("build and publish the older commit instead: polyarch build --publish"),
                );
            }
        }
        Problems::check(lost)
    }
}

async fn page(target: Target<'_>, home: &Repository) -> Result<Page> {
    let desk = Desk { store: target.store, repository: home.clone() };
    let read = desk.read().await;
    Ok(read.map_err(|error| problem(&format!("read the publications of {home}"), target, error))?)
}

/// A step in words.
struct Step<'a>(&'a Move);

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Move { repository, tag, new, .. } = self.0;
        match new {
            Some(digest) => write!(f, "tag       {repository}:{tag} back to {digest}"),
            None => write!(f, "remove    {repository}:{tag}, which was not there before"),
        }
    }
}

#[cfg(test)]
mod tests;
