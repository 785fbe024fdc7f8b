//! How a family is published, as the configuration says it.

use super::MirrorRegistry;
use crate::config::{DifferencesSetting, FamilyFile, UnitSetting};

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
