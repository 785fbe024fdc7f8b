//! `[publish]`: what goes to a registry together.

use super::section::{Reading, Section};
use super::{Target, Written};

/// What a publication is.
#[derive(Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct PublishSettings {
    /// What is published as a whole or not at all; the family where it is not said.
    pub(crate) unit: Option<UnitSetting>,
    /// What happens where one image has other versions on other platforms.
    pub(crate) differences: Option<DifferencesSetting>,
    /// Registries that get the same after `registry` has it, each as `host[:port][/owner]`.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) mirrors: Vec<Written<Target>>,
}

/// What is published as a whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case"))]
pub(crate) enum UnitSetting {
    /// All images that were selected.
    Family,
    /// The images of one repository.
    Image,
}

/// What happens where one image has other versions on other platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case"))]
pub(crate) enum DifferencesSetting {
    /// They are shown.
    Show,
    /// Nothing is published.
    Fail,
}

pub(super) fn publish_settings(reading: &Reading, whole: &mut Section<'_, '_>) -> PublishSettings {
    let section = whole.value("publish").and_then(|value| reading.section("publish", value));
    let Some(mut section) = section else { return PublishSettings::default() };
    let units = [("family", UnitSetting::Family), ("image", UnitSetting::Image)];
    let settings = PublishSettings {
        unit: reading.choice(&mut section, "unit", &units),
        differences: reading.choice(
            &mut section,
            "differences",
            &[("show", DifferencesSetting::Show), ("fail", DifferencesSetting::Fail)],
        ),
        mirrors: section.list("mirrors").unwrap_or_default(),
    };
    section.finish();
    settings
}
