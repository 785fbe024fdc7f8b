//! How a family is published, as the configuration says it.

use super::MirrorRegistry;
use crate::config::{FamilyFile, UnitSetting};

/// How a family is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishPolicy {
    /// What is published as a whole or not at all.
    pub(crate) together: Together,
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

impl PublishPolicy {
    /// What a file says, and else what holds where nothing is said.
    pub(super) fn of(file: Option<&FamilyFile>, mirrors: Vec<MirrorRegistry>) -> Self {
        let Some(said) = file.map(|file| &file.publish) else { return Self::default() };
        let together = match said.unit {
            Some(UnitSetting::Image) => Together::Image,
            Some(UnitSetting::Family) | None => Together::Family,
        };
        Self { together, mirrors }
    }
}
