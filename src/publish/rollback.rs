//! Taking a publication back: its tags return to where they were before it, if nobody has moved them since.
//!
//! It is a publication of its own, with a journal: killed anywhere, the next command completes it. Tags that the
//! publication made first go away where the registry lets them, and are named where it does not. Tags that are declared
//! immutable stay (I-P7).

use std::collections::BTreeSet;
use std::fmt;

use futures_util::FutureExt;

use crate::diag::{Diagnostic, Result};
use crate::oci::Repository;

use super::carry_out::problem;
use super::desk::{Desk, Page};
use super::draft::Draft;
use super::generation::Generation;
use super::journal::{Entry, Listed, Move, State};
use super::moves::{Listener, Mover, Progress};
use super::publication::{Homes, Target};
use super::reading::read_back;
use super::transaction::{Publisher, Transaction, incomplete, stopped_after};

/// What taking a publication back comes to.
#[derive(Debug)]
pub(crate) struct Rollback {
    /// The publication.
    pub(crate) entry: Entry,
    /// How new it is.
    pub(crate) generation: Generation,
    /// The repository that has its journal.
    home: Repository,
    /// Those that have the journals of the family.
    homes: BTreeSet<Repository>,
    /// Tags that go back, and those that it made first, which go away.
    tags: Vec<Move>,
    /// Tags that it has moved and that are declared immutable.
    immutable: Vec<Move>,
    /// Another that is open, and comes first.
    first: Option<String>,
    /// It was taken back before, and no more can be done.
    pub(crate) is_done: bool,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RolledBack {
    /// Tags that went back.
    pub(crate) moved: usize,
    /// Tags that went away.
    pub(crate) removed: usize,
    /// Tags that the publication made first and that the registry does not let go, as `host/repository:tag`.
    pub(crate) stay: Vec<String>,
    /// Tags of it that stay because they are declared immutable, as `host/repository:tag`.
    pub(crate) immutable: Vec<String>,
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
    /// Where a tag was moved since, something that it goes back to is gone, something that stays was published on it, or
    /// the target fails.
    pub(crate) async fn prepare(
        target: Target<'_>,
        homes: &Homes,
        home: &Repository,
        id: &str,
    ) -> Result<Option<Self>> {
        let page = page(target, home).await?;
        let Some(listed) = page.journal.find(id) else { return Ok(None) };
        refused::refuse_nothing(listed)?;
        let desk = Desk { store: target.store, repository: home.clone() };
        let entry = desk.entry(listed).await;
        let entry = entry.map_err(|error| problem(&format!("read the journal of {id}"), target, error))?;
        let changed = entry.tags.iter().filter(|one| one.old != one.new).cloned();
        let (immutable, changed): (Vec<Move>, Vec<Move>) = changed.partition(|one| one.immutable);
        let tags = { changed.into_iter() }
            .map(|one| Move { old: one.new.clone(), new: one.old.clone(), ..one })
            .collect();
        let homes = homes.all().into_iter().cloned().collect();
        let generation = listed.generation;
        let first = page.journal.open().map(|(open, _)| open.id.clone());
        let (home, is_done) = (home.clone(), false);
        let mut rollback = Self { entry, generation, home, homes, tags, immutable, first, is_done };
        let found = rollback.found(target).await?;
        if matches!(listed.state, State::RolledBack(_)) {
            // What stayed then may go now.
            rollback.tags = found
                .into_iter()
                .zip(rollback.tags)
                .filter(|(found, one)| found.old == one.old)
                .map(|(_, one)| one)
                .collect();
            rollback.is_done = rollback.tags.is_empty();
        } else {
            rollback.refuse_others(target, &found)?;
        }
        if !rollback.is_done {
            rollback.refuse_used(target, &page).await?;
            rollback.refuse_lost(target).await?;
        }
        Ok(Some(rollback))
    }

    /// Every step in its order, for `--dry-run`.
    pub(crate) fn steps(&self) -> Vec<String> {
        let first = self.first.iter().filter(|_| !self.is_done);
        let first = first.map(|id| {
            format!("first     wait for the publication {id}, or complete it where it was cut off")
        });
        let steps = first.chain(self.tags.iter().map(|one| Step(one).to_string()));
        let stay = self.immutable.iter().filter(|_| !self.is_done);
        let stay = stay.map(|one| format!("keep      {}:{}, which is immutable", one.repository, one.tag));
        steps.chain(stay).collect()
    }

    /// Some tags were not there before it, so that they go away, where the target removes tags.
    pub(crate) fn removes(&self) -> bool {
        self.tags.iter().any(|one| one.new.is_none())
    }

    /// Takes the publication back.
    ///
    /// # Errors
    /// As carrying out a publication has them.
    pub(crate) async fn carry_out(
        &self,
        target: Target<'_>,
        publisher: &Publisher<'_>,
        stop: impl Future<Output = Diagnostic>,
        listener: Listener<'_>,
    ) -> Result<RolledBack> {
        if self.is_done {
            return Ok(RolledBack::default());
        }
        let progress = Progress::default();
        let transaction = Transaction::new(target, &self.home, publisher, listener);
        let ended = tokio::select! {
            biased;
            done = self.every_step(&transaction, &progress) => done,
            stopped = stop => Err(stopped_after(stopped, &progress, self.tags.len()).into()),
        };
        if ended.is_err() {
            transaction.leave(&progress).await;
        }
        ended
    }

    async fn every_step(&self, transaction: &Transaction<'_>, progress: &Progress) -> Result<RolledBack> {
        let Transaction { target, listener, .. } = *transaction;
        let tags = self.tags.iter().map(|one| Move { old: None, ..one.clone() });
        let id = Some(self.entry.id.clone());
        let draft = Draft { tags: tags.collect(), images: Vec::new(), rolls_back: id };
        let page = transaction.look(&draft).await?;
        let policy = |found: &[Move]| self.refuse_others(target, found);
        let recheck = |page: Page| async move { self.refuse_used(target, &page).await }.boxed();
        let begun = transaction.begin(page, &draft, &policy, &recheck).await?;
        let stay = Default::default();
        let mover = Mover { target, documents: Default::default(), progress, listener, stay };
        transaction.carry(&begun, &mover).await?.moved()?;
        let left = mover.left();
        let read_back = transaction.alive(read_back(target, &begun.entry.tags, &left)).await?;
        read_back.map_err(|problem| incomplete(problem, progress, self.tags.len()))?;
        transaction.end(&begun.entry, &State::Done).await?;
        let changed = |goes: bool| {
            let tags = begun.entry.tags.iter().filter(|one| one.new.is_none() == goes);
            tags.filter(|one| one.old != one.new).count()
        };
        let stay = left.iter().map(|tag| format!("{}/{tag}", target.registry)).collect();
        let immutable = self.immutable.iter();
        let immutable = immutable.map(|one| format!("{}/{}:{}", target.registry, one.repository, one.tag));
        let (moved, removed) = (changed(false), changed(true) - left.len());
        Ok(RolledBack { moved, removed, stay, immutable: immutable.collect() })
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

mod refused;
#[cfg(test)]
mod tests;
