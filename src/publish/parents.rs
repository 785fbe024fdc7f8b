//! A family is published on its own parents (I-P5): every child stands on an image that this publication brings, or
//! that an earlier one has brought and that was not taken back since.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Kind, Result};
use crate::oci::Repository;

use super::carry_out::problem;
use super::desk::{Desk, Page};
use super::journal::{Entry, State};
use super::publication::{Publication, Target};
use super::release::ReleaseImage;

/// Journals that were read, newest first, by the repository that has them.
type Read = BTreeMap<Repository, Vec<Entry>>;

/// Whether what an open publication brings counts as published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// It will be, or is waited for.
    Counts,
    /// It may be put back yet.
    DoesNot,
}

impl Publication {
    /// Refuses a child whose parent was never published. `page` is what the list of this publication says; `earlier` are
    /// images that count as published.
    ///
    /// # Errors
    /// Of kind [`Kind::Policy`]; and where the target fails.
    pub(super) async fn stands_on_published(
        &self,
        target: Target<'_>,
        page: &Page,
        open: Open,
        earlier: &[&ReleaseImage],
    ) -> Result<()> {
        let images = &self.release.images;
        let mut read = Read::new();
        for image in images {
            for (platform, one) in &image.platforms {
                let brought = || images.iter().chain(earlier.iter().copied());
                let absent = |parent: &str| brought().all(|image| image.unit.to_string() != parent);
                for (parent, digest) in one.parents.iter().filter(|(parent, _)| absent(parent)) {
                    let home = self.homes.of(parent);
                    if let Some(home) = home.filter(|home| !read.contains_key(*home)) {
                        let own = self.home().is_some_and(|own| own == home);
                        let entries = entries(target, home, own.then_some(page), open).await?;
                        read.insert(home.clone(), entries);
                    }
                    let brought = |entry: &Entry| {
                        let mut images = entry.images.iter().filter(|image| image.unit == *parent);
                        images.any(|image| image.platforms.get(platform) == Some(digest))
                    };
                    let entries = home.and_then(|home| read.get(home));
                    if !entries.is_some_and(|entries| entries.iter().any(brought)) {
                        let what = format!("`{}` stands on a `{parent}` that is not published", image.unit);
                        let why = format!("on {platform} it was built from {}", digest.short());
                        let together =
                            format!("publish them together: polyarch publish {parent} {}", image.unit);
                        return Err(Diagnostic::new(Kind::Policy, what).because(why).hint(together).into());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The journals of a repository that hold.
async fn entries(
    target: Target<'_>,
    home: &Repository,
    page: Option<&Page>,
    open: Open,
) -> Result<Vec<Entry>> {
    let desk = Desk { store: target.store, repository: home.clone() };
    let failed = |error| problem(&format!("read the publications of {home}"), target, error);
    let page = match page {
        Some(page) => page.clone(),
        None => desk.read().await.map_err(failed)?,
    };
    let mut entries = Vec::new();
    for listed in &page.journal.listed {
        let is_open = matches!(listed.state, State::Open { .. });
        if listed.state == State::Done || is_open && open == Open::Counts {
            entries.push(desk.entry(listed).await.map_err(failed)?);
        }
    }
    Ok(entries)
}
