//! How a family is published, as the configuration says it.

use std::collections::{BTreeMap, BTreeSet};

use super::{MirrorRegistry, Unit};
use crate::config::{DifferencesSetting, FamilyFile, UnitSetting};
use crate::oci::Repository;

/// How a family is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishPolicy {
    /// What is published as a whole or not at all.
    pub(crate) together: Together,
    /// What happens where one image has other versions on other platforms.
    pub(crate) differences: Differences,
    /// Where all of it goes too, once it is published.
    pub(crate) mirrors: Vec<MirrorRegistry>,
}

/// What is published as a whole or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Together {
    /// All images that were selected.
    #[default]
    Family,
    /// The images of one repository.
    Image,
}

/// What happens where one image has other versions on other platforms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Differences {
    /// They are shown.
    #[default]
    Shown,
    /// Nothing is published: exit code 4.
    Refused,
}

impl PublishPolicy {
    /// What a file says, and else what holds where nothing is said.
    pub(super) fn of(file: Option<&FamilyFile>, mirrors: Vec<MirrorRegistry>) -> Self {
        let Some(said) = file.map(|file| &file.publish) else { return Self::default() };
        let together = match said.unit {
            Some(UnitSetting::Image) => Together::Image,
            Some(UnitSetting::Family) | None => Together::Family,
        };
        let differences = match said.differences {
            Some(DifferencesSetting::Fail) => Differences::Refused,
            Some(DifferencesSetting::Show) | None => Differences::Shown,
        };
        Self { together, differences, mirrors }
    }
}

/// Where each image goes by itself, the place of each among what is published one after the other, as numbers from 0 on.
///
/// Images of one repository stay together, except where one stands on an image of another repository that stands on the
/// first: it goes later, since no child is published before its parents, which are named behind each image.
pub(crate) fn by_repository<'a>(
    images: impl Iterator<Item = (&'a Unit, &'a Repository, BTreeSet<&'a Unit>)>,
) -> Vec<usize> {
    let mut repositories: Vec<&Repository> = Vec::new();
    let mut places: BTreeMap<&Unit, usize> = BTreeMap::new();
    let place = |(unit, repository, parents): (&'a Unit, &'a Repository, BTreeSet<&'a Unit>)| {
        let earliest = parents.iter().filter_map(|parent| places.get(parent)).max().copied();
        let own = repositories.iter().rposition(|known| *known == repository);
        let own = own.filter(|own| earliest.is_none_or(|at| at <= *own));
        let at = own.unwrap_or(repositories.len());
        if own.is_none() {
            repositories.push(repository);
        }
        places.insert(unit, at);
        at
    };
    images.map(place).collect()
}
