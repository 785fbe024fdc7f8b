//! Why a publication is not taken back.

use std::collections::BTreeSet;

use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::oci::{Digest, Pointer, Repository};
use crate::publish::carry_out::problem;
use crate::publish::desk::{Desk, Page};
use crate::publish::journal::{Listed, Move, State};
use crate::publish::moves::places;
use crate::publish::parents::carries_no_child;
use crate::publish::publication::Target;
use crate::publish::standing::Open;

use super::Rollback;

/// There must be something to take back.
pub(super) fn refuse_nothing(listed: &Listed) -> Result<()> {
    let id = &listed.id;
    if listed.state == State::Undone {
        let what = format!("the publication {id} came to nothing: its tags are where they were");
        return Err(Diagnostic::request(what).into());
    }
    match &listed.rolls_back {
        None => Ok(()),
        Some(back) => Err(Diagnostic::request(format!("{id} itself takes {back} back"))
            .hint("publish what it took back again: polyarch publish")
            .into()),
    }
}

impl Rollback {
    /// Its tags as they are now.
    pub(super) async fn found(&self, target: Target<'_>) -> Result<Vec<Move>> {
        let found = places(target, &self.tags).await;
        let found =
            found.map_err(|stuck| problem(&format!("read {}", stuck.reference), target, stuck.error))?;
        let found = self.tags.iter().zip(found).map(|(one, old)| Move { old, ..one.clone() });
        Ok(found.collect())
    }

    /// No later publication may have said of a tag that it belongs where it is, nor stand on what goes (I-P5). `page` is
    /// what the list says.
    pub(super) async fn refuse_used(&self, target: Target<'_>, page: &Page) -> Result<()> {
        let id = self.entry.id.as_str();
        page.journal.find(id).map_or(Ok(()), refuse_nothing)?;
        let desk = Desk { store: target.store, repository: self.home.clone() };
        let before = page.journal.listed.iter().position(|one| one.id == id).unwrap_or(0);
        let later: BTreeSet<&str> = page.journal.listed[..before].iter().map(|one| one.id.as_str()).collect();
        let holding = page.journal.holding(Open::DoesNot);
        for listed in holding.filter(|one| later.contains(one.id.as_str()) && one.rolls_back.is_none()) {
            let later = desk.entry(listed).await;
            let later = later
                .map_err(|error| problem(&format!("read the journal of {}", listed.id), target, error))?;
            let same = |one: &&Move| {
                later.tags.iter().any(|other| other.repository == one.repository && other.tag == one.tag)
            };
            if let Some(one) = self.tags.iter().find(same) {
                let reference = format!("{}/{}:{}", target.registry, one.repository, one.tag);
                return Err(Diagnostic::new(
                    Kind::Policy,
                    format!("{reference} was published by {} since", later.id),
                )
                .hint(format!("take that back first: polyarch rollback {}", later.id))
                .into());
            }
        }
        let brought = self.entry.images.iter().flat_map(|one| one.platforms.values().cloned()).collect();
        carries_no_child(target, &self.homes, (&self.home, page), id, &brought).await
    }

    pub(super) fn refuse_others(&self, target: Target<'_>, found: &[Move]) -> Result<()> {
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
            .hint("where no publication has moved it, move it back first by what did")
        });
        Problems::check(refused.collect())
    }

    /// What tags go back to must still be there.
    pub(super) async fn refuse_lost(&self, target: Target<'_>) -> Result<()> {
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
