//! What a build takes of the builder that it is done on: time, room, labels, and whether by emulation.

use std::collections::BTreeMap;

use super::section::{Reading, Section};
use super::value::{Bytes, Seconds};
use super::written::Written;
use crate::oci::Platform;

/// What a build takes of its builder, on all platforms or on one.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct TermsSetting {
    /// How long a build of it may take.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) time_limit: Option<Written<Seconds>>,
    /// How much room a build of it wants where the builder keeps images.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) disk: Option<Written<Bytes>>,
    /// Labels that the builder must have.
    pub(crate) needs: Option<Vec<Written<String>>>,
    /// Whether it may be built by emulation, whatever the family says.
    pub(crate) emulate: Option<Emulate>,
}

/// Whether emulation is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case"))]
pub(crate) enum Emulate {
    /// It is, and every report says so.
    Allow,
    /// It is not: a platform without a native builder is an error before anything is built.
    Refuse,
    /// One builder builds all platforms of an image, by emulation where it must.
    Always,
}

impl Emulate {
    /// How it is written.
    pub(super) const WORDS: [(&str, Self); 3] =
        [("allow", Self::Allow), ("refuse", Self::Refuse), ("always", Self::Always)];
}

impl Reading {
    /// The terms among the settings of an image, or of one of its platforms.
    pub(super) fn terms(&self, section: &mut Section<'_, '_>) -> TermsSetting {
        TermsSetting {
            time_limit: section.parsed("time-limit"),
            disk: section.parsed("disk"),
            needs: section.list("needs"),
            emulate: self.choice(section, "emulate", &Emulate::WORDS),
        }
    }

    /// `on."linux/arm64" = { time-limit = "2h" }`.
    pub(super) fn terms_on(&self, section: &mut Section<'_, '_>) -> BTreeMap<Platform, TermsSetting> {
        let mut all = BTreeMap::new();
        let Some(value) = section.value("on") else { return all };
        for (key, value) in self.entries("on", value) {
            let Some(mut section) = self.section(&format!("on.{}", key.value), value) else { continue };
            let terms = self.terms(&mut section);
            section.finish();
            if let Some(platform) = self.platform(&key) {
                all.insert(platform, terms);
            }
        }
        all
    }
}
