//! Which images the publications of a list stand for: those that each of them has brought, and those that the newest
//! has found there, as long as nobody has taken back what brought them.

use std::collections::BTreeSet;

use crate::oci::{Digest, Error};

use super::desk::{Desk, Page};
use super::journal::{Brought, Earlier, Entry, Journal, Listed, State};

/// Whether what an open publication brings counts as published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// It will be, or is waited for.
    Counts,
    /// It may be put back yet.
    DoesNot,
}

impl Journal {
    /// The publications that hold, newest first.
    pub(super) fn holding(&self, open: Open) -> impl Iterator<Item = &Listed> {
        self.listed.iter().filter(move |one| match one.state {
            State::Done => !self.is_taken_back(&one.id),
            State::Open { .. } => open == Open::Counts && !self.is_taken_back(&one.id),
            State::Undone | State::RolledBack(_) => false,
        })
    }
}

/// What stands by a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// Publications that hold, newest first.
    pub(super) entries: Vec<Entry>,
    /// Of what the newest has found there, what nobody has taken back.
    earlier: Vec<Earlier>,
}

impl Standing {
    /// Reads what stands by a list.
    ///
    /// # Errors
    /// Where the target fails or has lost a journal.
    pub(super) async fn read(desk: &Desk<'_>, page: &Page, open: Open) -> Result<Self, Error> {
        let mut standing = Self::newest(desk, page, open).await?;
        for listed in page.journal.holding(open).skip(standing.entries.len()) {
            standing.entries.push(desk.entry(listed).await?);
        }
        Ok(standing)
    }

    /// The same with only the newest publication, where that one says of every image what stands.
    ///
    /// # Errors
    /// As [`Self::read`] has them.
    pub(super) async fn now(desk: &Desk<'_>, page: &Page, open: Open) -> Result<Self, Error> {
        let newest = Self::newest(desk, page, open).await?;
        let all = newest.entries.first().map_or(0, |entry| entry.earlier.len());
        if newest.earlier.len() == all { Ok(newest) } else { Self::read(desk, page, open).await }
    }

    async fn newest(desk: &Desk<'_>, page: &Page, open: Open) -> Result<Self, Error> {
        let journal = &page.journal;
        let Some(listed) = journal.holding(open).next() else { return Ok(Self::default()) };
        let newest = desk.entry(listed).await?;
        let earlier = newest.earlier.iter().filter(|one| !journal.is_taken_back(&one.by)).cloned().collect();
        Ok(Self { entries: vec![newest], earlier })
    }

    /// Every image that stands, newest first, with the publication that brought it.
    pub(super) fn images(&self) -> impl Iterator<Item = (&str, &Brought)> {
        let own = |entry: &'_ Entry| entry.images.len();
        let newest = self.entries.first().map_or(0, own);
        let of =
            self.entries.iter().flat_map(|entry| entry.images.iter().map(|one| (entry.id.as_str(), one)));
        let found = self.earlier.iter().map(|one| (one.by.as_str(), &one.image));
        of.clone().take(newest).chain(found).chain(of.skip(newest))
    }

    /// What stands beside images that are brought now: the newest of each other image, and what of these stood before.
    pub(super) fn beside(&self, brought: &[Brought]) -> Vec<Earlier> {
        let mut seen = BTreeSet::new();
        let newest = self.images().filter(|(_, one)| seen.insert(one.unit.as_str()));
        let stays = newest.filter(|(_, one)| brought.iter().all(|own| own.unit != one.unit || own == *one));
        stays.map(|(by, one)| Earlier { by: by.to_owned(), image: one.clone() }).collect()
    }

    /// The manifests of platforms that stand.
    pub(super) fn manifests(&self) -> BTreeSet<&Digest> {
        self.images().flat_map(|(_, one)| one.platforms.values()).collect()
    }
}
