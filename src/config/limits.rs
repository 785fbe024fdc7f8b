//! `[limits."quay.io"]`: what a registry may be asked at once, and in a second.

use std::collections::BTreeMap;

use super::Target;
use super::section::{Reading, Section};
use crate::diag::Diagnostic;

/// The most of either that means something.
const MOST: u32 = 10_000;

/// What one registry may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct LimitSetting {
    /// How many requests may be under way at once; 16 where it is not said.
    pub(crate) requests_at_once: Option<u32>,
    /// How many requests may begin in a second; any number where it is not said.
    pub(crate) requests_per_second: Option<u32>,
}

impl LimitSetting {
    /// What is said here, and else what is said there.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            requests_at_once: self.requests_at_once.or(other.requests_at_once),
            requests_per_second: self.requests_per_second.or(other.requests_per_second),
        }
    }

    /// Reads `REGISTRY=N`, for so many at once, or `REGISTRY=N/s`, for so many in a second.
    ///
    /// # Errors
    /// Where it is neither, with what to write instead.
    pub(crate) fn read(text: &str) -> Result<(String, Self), String> {
        let form = "write quay.io=4 for so many requests at once, or quay.io=2/s for so many in a second";
        let (registry, number) = text.split_once('=').ok_or(form)?;
        let (number, in_a_second) =
            number.strip_suffix("/s").map_or((number, false), |number| (number, true));
        let number = number.parse().ok().filter(|number| (1..=MOST).contains(number)).ok_or(form)?;
        let limit = match in_a_second {
            true => Self { requests_per_second: Some(number), ..Self::default() },
            false => Self { requests_at_once: Some(number), ..Self::default() },
        };
        Ok((host(registry)?, limit))
    }
}

/// The section `[limits]`.
pub(super) fn limits(reading: &Reading, whole: &mut Section<'_, '_>) -> BTreeMap<String, LimitSetting> {
    let Some(value) = whole.value("limits") else { return BTreeMap::new() };
    let mut limits = BTreeMap::new();
    for (key, value) in reading.entries("limits", value) {
        let Some(mut section) = reading.section(&format!("limits.{}", key.value), value) else { continue };
        let mut number = |key| section.value(key).and_then(|value| reading.number(key, value, 1..=MOST));
        let limit = LimitSetting {
            requests_at_once: number("requests-at-once").map(|number| number.value),
            requests_per_second: number("requests-per-second").map(|number| number.value),
        };
        section.finish();
        match host(&key.value) {
            Ok(registry) => drop(limits.insert(registry, limit)),
            Err(why) => reading.wrong(&key.span, Diagnostic::request(why)),
        }
    }
    limits
}

/// The registry that is meant, as references name it.
fn host(written: &str) -> Result<String, String> {
    let target: Target = written.parse().map_err(|error: super::value::Refused| error.to_string())?;
    match target.prefix {
        None => Ok(target.registry),
        Some(_) => {
            let registry = target.registry;
            Err(format!("a limit is one of the whole registry; write `{registry}`, not `{written}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::FamilyFile;

    const fn limit(requests_at_once: Option<u32>, requests_per_second: Option<u32>) -> LimitSetting {
        LimitSetting { requests_at_once, requests_per_second }
    }

    #[test]
    fn limits_are_read_by_registry() {
        let read = |text: &str| FamilyFile::parse(Path::new("polyarch.toml"), text);
        let text = "[limits]\n\"quay.io\" = { requests-at-once = 4, requests-per-second = 2 }\n\
            \"index.docker.io\" = { requests-per-second = 1 }\n\"127.0.0.1:5000\" = {}\n";
        let limits = read(text).expect("limits").limits;
        assert_eq!(limits["quay.io"], limit(Some(4), Some(2)));
        assert_eq!(limits["docker.io"], limit(None, Some(1)));
        assert_eq!(limits["127.0.0.1:5000"], limit(None, None));
        for (text, told) in [
            ("[limits.\"quay.io\"]\nrequests-at-once = 0", "a number from 1 to 10000"),
            ("[limits.\"quay.io\"]\nrequests-per-second = 0.5", "a whole number, not a fraction"),
            ("[limits.\"quay.io\"]\nrequests = 1", "no setting `requests`"),
            ("[limits.\"quay.io/owner\"]", "write `quay.io`, not `quay.io/owner`"),
            ("[limits.quay]", "`quay` is no registry"),
            ("[limits]\n\"quay.io\" = 4", "wants a table"),
        ] {
            let problems = read(text).expect_err(text).to_string();
            assert!(problems.contains(told), "{text}: {problems}");
        }
    }

    #[test]
    fn a_limit_of_the_command_line_says_what_it_counts() {
        let quay = |limit| Ok(("quay.io".to_owned(), limit));
        assert_eq!(LimitSetting::read("quay.io=4"), quay(limit(Some(4), None)));
        assert_eq!(LimitSetting::read("quay.io=2/s"), quay(limit(None, Some(2))));
        for text in ["quay.io", "quay.io=", "quay.io=0", "quay.io=-1/s", "quay.io=1/m", "quay.io=99999", "=4"]
        {
            assert!(LimitSetting::read(text).is_err(), "{text}");
        }
        let both = limit(Some(4), None).or(limit(Some(8), Some(2)));
        assert_eq!(both, limit(Some(4), Some(2)), "the first word counts");
    }
}
