//! A family is published on its own parents (I-P5): every child stands on an image that this publication brings, or
//! that an earlier one has brought and that was not taken back since; and nothing is taken back that a child stands on.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Kind, Result};
use crate::oci::{Digest, Repository};

use super::carry_out::problem;
use super::desk::{Desk, Page};
use super::publication::{Publication, Target};
use super::release::ReleaseImage;
use super::standing::{Open, Standing};

/// What stands by each list that was read.
type Read = BTreeMap<Repository, Standing>;

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
                        let stands = standing(target, home, own.then_some(page), open).await?;
                        read.insert(home.clone(), stands);
                    }
                    let is_it = |unit: &str, found: Option<&Digest>| unit == parent && found == Some(digest);
                    let published = home.and_then(|home| read.get(home)).is_some_and(|standing| {
                        standing.images().any(|(_, one)| is_it(&one.unit, one.platforms.get(platform)))
                    });
                    if !published {
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

/// Refuses to take manifests away that a published image stands on, which is in one of these lists. The publication that
/// brought them counts as taken back everywhere.
///
/// # Errors
/// Of kind [`Kind::Policy`]; and where the target fails.
pub(super) async fn carries_no_child(
    target: Target<'_>,
    homes: &BTreeSet<Repository>,
    (own, page): (&Repository, &Page),
    id: &str,
    brought: &BTreeSet<Digest>,
) -> Result<()> {
    let stays = standing(target, own, Some(&page.without(id)), Open::Counts).await?;
    let stays = stays.manifests();
    let goes: BTreeSet<&Digest> = brought.iter().filter(|digest| !stays.contains(digest)).collect();
    for home in homes {
        let page = match home == own {
            true => page.clone(),
            false => read(target, home).await?,
        };
        let standing = standing(target, home, Some(&page.without(id)), Open::Counts).await?;
        let mut children = standing.images();
        let Some((by, child)) = children.find(|(_, one)| one.parents.iter().any(|one| goes.contains(one)))
        else {
            continue;
        };
        let what = format!("`{}`, which {by} has published, stands on what {id} has brought", child.unit);
        return Err(Diagnostic::new(Kind::Policy, what)
            .because("a published image would stand on one that is not")
            .hint(format!("take that back first: polyarch rollback {by}"))
            .into());
    }
    Ok(())
}

/// What stands by the list of a repository.
async fn standing(
    target: Target<'_>,
    home: &Repository,
    page: Option<&Page>,
    open: Open,
) -> Result<Standing> {
    let desk = Desk { store: target.store, repository: home.clone() };
    let page = match page {
        Some(page) => page.clone(),
        None => read(target, home).await?,
    };
    let read = Standing::read(&desk, &page, open).await;
    Ok(read.map_err(|error| problem(&format!("read the publications of {home}"), target, error))?)
}

async fn read(target: Target<'_>, home: &Repository) -> Result<Page> {
    let desk = Desk { store: target.store, repository: home.clone() };
    let read = desk.read().await;
    Ok(read.map_err(|error| problem(&format!("read the publications of {home}"), target, error))?)
}
