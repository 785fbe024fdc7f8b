//! Taking a publication back: its tags return to where they were before it, if nobody has moved them since.
//!
//! It is a publication of its own, with a journal: killed anywhere, the next command completes it. Tags that the
//! publication made first go away where the registry lets them, and are named where it does not.

use std::collections::BTreeSet;
use std::fmt;

use futures_util::FutureExt;

use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::oci::{Digest, Pointer, Repository};

use super::carry_out::problem;
use super::desk::{Desk, Page};
use super::generation::Generation;
use super::journal::{Entry, Listed, Move, State};
use super::moves::{Listener, Mover, Progress, places};
use super::publication::Target;
use super::transaction::{Draft, Publisher, Transaction, incomplete, stopped_after};

/// What taking a publication back comes to.
#[derive(Debug)]
pub(crate) struct Rollback {
    /// The publication.
    pub(crate) entry: Entry,
    /// How new it is.
    pub(crate) generation: Generation,
    /// The repository that has its journal.
    home: Repository,
    /// Tags that go back, and those that it made first, which go away.
    tags: Vec<Move>,
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
        let tags = taken_back.collect();
        let rollback = Self { entry, generation: listed.generation, home: home.clone(), tags };
        rollback.refuse_moved(target).await?;
        rollback.refuse_lost(target).await?;
        Ok(Some(rollback))
    }

    /// Every step in its order, for `--dry-run`.
    pub(crate) fn steps(&self) -> Vec<String> {
        let steps = self.tags.iter().map(|one| Step(one).to_string());
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
        let begun = transaction.begin(page, &draft, &policy, &|_| std::future::ready(Ok(())).boxed()).await?;
        let stay = Default::default();
        let mover = Mover { target, documents: Default::default(), progress, listener, stay };
        transaction.carry(&begun, &mover).await?;
        let left = mover.left();
        self.read_back(target, &begun.entry.tags, &left)
            .await
            .map_err(|problem| crate::diag::Problems::from(incomplete(problem, progress, self.tags.len())))?;
        transaction.end(&begun.entry, &State::Done).await?;
        let changed = |goes: bool| {
            let tags = begun.entry.tags.iter().filter(|one| one.new.is_none() == goes);
            tags.filter(|one| one.old != one.new).count()
        };
        let stay = left.iter().map(|tag| format!("{}/{tag}", target.registry)).collect();
        Ok(RolledBack { moved: changed(false), removed: changed(true) - left.len(), stay })
    }

    /// Every tag is where it was put, but those that the registry does not let go.
    async fn read_back(&self, target: Target<'_>, tags: &[Move], left: &[String]) -> Result<(), Diagnostic> {
        let fresh = Target { store: target.fresh, ..target };
        let found = places(fresh, tags).await;
        let found = found.map_err(|stuck| problem("read the tags back", target, stuck.error))?;
        let stays = |one: &Move| left.contains(&format!("{}:{}", one.repository, one.tag));
        let wrong = tags.iter().zip(&found).find(|(one, place)| one.new != **place && !stays(one));
        wrong.map_or(Ok(()), |(one, _)| {
            let what = format!("{}/{}:{} is not where it was put", target.registry, one.repository, one.tag);
            Err(Diagnostic::surroundings(what))
        })
    }

    /// Every tag must be where the publication has put it, or back already.
    async fn refuse_moved(&self, target: Target<'_>) -> Result<()> {
        let found = places(target, &self.tags).await;
        let found =
            found.map_err(|stuck| problem(&format!("read {}", stuck.reference), target, stuck.error))?;
        let found = self.tags.iter().zip(found).map(|(one, old)| Move { old, ..one.clone() });
        self.refuse_others(target, &found.collect::<Vec<_>>())
    }

    fn refuse_others(&self, target: Target<'_>, found: &[Move]) -> Result<()> {
        let others =
            self.tags.iter().zip(found).filter(|(one, found)| found.old != one.old && found.old != one.new);
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
            self.tags.iter().filter_map(|one| Some((&one.repository, one.new.as_ref()?))).collect();
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
