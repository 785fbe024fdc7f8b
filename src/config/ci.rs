//! `[ci]`: what the pipelines of CI services are made of, beside the family itself.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;

use super::section::{Reading, Section};
use super::value::Refused;
use super::written::Written;
use crate::defence::{Defence, stands};
use crate::diag::Diagnostic;
use crate::oci::Platform;

/// How long a word may be: labels of runners, names of branches, variables.
const WORD_LIMIT: usize = 100;

/// A word that stands in the file of a service: it means nothing to a shell, to YAML or to the service's own templates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Word(String);

impl Word {
    /// It as it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Word {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@+*".contains(&byte);
        let is_word = first && text.len() <= WORD_LIMIT && text.bytes().all(plain);
        match is_word || !stands(Defence::PipelineWords) {
            true => Ok(Self(text.to_owned())),
            false => Err(Refused::with(
                format!("`{}` cannot stand in the file of a CI service", text.escape_debug()),
                "write letters, digits and -_./:@+* only, beginning with a letter or a digit",
            )),
        }
    }
}

/// The name of a variable of a service: a secret's, say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Variable(String);

impl Variable {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Variable {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match first && text.len() <= WORD_LIMIT && text.bytes().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(Refused::with(
                format!("`{}` is no name of a variable", text.escape_debug()),
                "write letters, digits and _, as in REGISTRY_TOKEN",
            )),
        }
    }
}

/// When a service begins a run by itself: five fields, as cron has them, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule(String);

impl Schedule {
    /// It as it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Schedule {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let fields: Vec<&str> = text.split(' ').collect();
        let plain = |field: &&str| {
            let mut bytes = field.bytes();
            !field.is_empty() && bytes.all(|byte| byte.is_ascii_digit() || b"*/,-".contains(&byte))
        };
        match fields.len() == 5 && fields.iter().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(Refused::with(
                format!("`{}` is no schedule", text.escape_debug()),
                "write minute, hour, day, month and day of the week in numbers, as in \"0 3 * * 1\"",
            )),
        }
    }
}

/// Where polyarch is fetched from in a job: an address with `{arch}`, such as `amd64`, or with `{target}`, such as
/// `x86_64-unknown-linux-musl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

impl Address {
    /// The address of the file for a target, whose architecture platforms call so.
    pub(crate) fn of(&self, target: &str, architecture: &str) -> String {
        self.0.replace("{target}", target).replace("{arch}", architecture)
    }
}

impl FromStr for Address {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let filled = text.replace("{target}", "x").replace("{arch}", "x");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@+~%".contains(&byte);
        match filled.starts_with("https://") && filled.len() > 8 && filled.bytes().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(Refused::with(
                format!("`{}` is no address that a job could fetch from", text.escape_debug()),
                "write it as https://…/polyarch-linux-{arch}, without a query",
            )),
        }
    }
}

/// Where polyarch comes from in a job, pinned by digest.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case", deny_unknown_fields))]
pub(crate) struct InstallSetting {
    /// The address of the program, with `{arch}`, `amd64` or `arm64`, or `{target}`, as `x86_64-unknown-linux-musl`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) url: Address,
    /// SHA-256 of the program for each of those, in hexadecimal, by `x86_64` and `aarch64`.
    pub(crate) sha256: BTreeMap<String, String>,
}

/// Which secrets of a service are user and password of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case", deny_unknown_fields))]
pub(crate) struct LoginSetting {
    /// The variable that has the user.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) user: Variable,
    /// The secret that is the password.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) password: Variable,
}

/// Who signs what proposals of the same repository have built, so that it can be promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case", deny_unknown_fields))]
pub(crate) struct PromotionSetting {
    /// The secret that is the key that signs.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) key: Variable,
    /// The variable that has the public keys that count.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) trust: Variable,
}

/// What is said for one service.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct ServiceSetting {
    /// Runners by platform: labels of GitHub, tags of GitLab, resource classes of CircleCI.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub(crate) runners: BTreeMap<Platform, Written<Word>>,
    /// The image that jobs run in, where the service wants one.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) image: Option<Written<Word>>,
    /// Each job has a machine that is thrown away after it, also on runners that are not the service's own.
    pub(crate) ephemeral: bool,
    /// What proposals have built is signed, and promoted once they are merged; not at CircleCI.
    pub(crate) sign: Option<PromotionSetting>,
}

/// What platforms runs are for, by what began them; all of an image where nothing is said.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct EventPlatforms {
    /// What is proposed.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) proposed: Option<Vec<Written<Platform>>>,
    /// When the time has come: each of these lists in turn, day by day in UTC.
    #[cfg_attr(test, schemars(with = "Vec<Vec<String>>"))]
    pub(crate) scheduled: Vec<Vec<Written<Platform>>>,
}

impl EventPlatforms {
    /// Every platform that is named.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Written<Platform>> {
        self.proposed.iter().flatten().chain(self.scheduled.iter().flatten())
    }
}

/// What a run does that began because the time has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case"))]
pub(crate) enum Scheduled {
    /// It builds all anew, so that packages are fetched again.
    #[default]
    Refresh,
    /// It builds what has changed, what stands on bases that have moved, and what is older than `fresh-for`.
    Reuse,
}

impl Scheduled {
    /// How it is written.
    const WORDS: [(&str, Self); 2] = [("refresh", Self::Refresh), ("reuse", Self::Reuse)];
}

/// What pipelines are made of.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct CiSettings {
    /// The branch that is published; main where it is not said.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) branch: Option<Written<Word>>,
    /// When everything is looked at anew, in UTC.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) schedule: Option<Written<Schedule>>,
    /// What a run does then.
    pub(crate) scheduled: Scheduled,
    /// Tags of Git that are published too, with `*`.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) release_tags: Vec<Written<Word>>,
    /// Whose repositories publish; all others run every step and push nothing.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) owners: Option<Vec<Written<Word>>>,
    /// How many days files of images are kept, and the plan if that is more than 30; 7 where it is not said.
    pub(crate) keep_days: Option<u32>,
    /// The protected environment of the job that publishes.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) environment: Option<Written<Word>>,
    /// Where polyarch comes from; it is on the runners where it is not said.
    pub(crate) install: Option<InstallSetting>,
    /// Who logs in at the registry.
    pub(crate) login: Option<LoginSetting>,
    /// What platforms runs are for, by what began them.
    pub(crate) platforms: EventPlatforms,
    /// GitHub Actions.
    pub(crate) github: ServiceSetting,
    /// CircleCI.
    pub(crate) circleci: ServiceSetting,
    /// GitLab CI.
    pub(crate) gitlab: ServiceSetting,
}

impl Reading {
    /// The section `[ci]`.
    pub(super) fn ci(&self, whole: &mut Section<'_, '_>) -> Option<CiSettings> {
        let mut section = self.section("ci", whole.value("ci")?)?;
        let keep = section.value("keep-days");
        let settings = CiSettings {
            branch: section.parsed("branch"),
            schedule: section.parsed("schedule"),
            scheduled: self.choice(&mut section, "scheduled", &Scheduled::WORDS).unwrap_or_default(),
            release_tags: section.list("release-tags").unwrap_or_default(),
            owners: section.list("owners"),
            keep_days: keep.and_then(|value| self.number("keep-days", value, 1..=90)).map(|days| days.value),
            environment: section.parsed("environment"),
            install: section.value("install").and_then(|value| self.install(value)),
            login: section.value("login").and_then(|value| self.login(value)),
            platforms: section
                .value("platforms")
                .map(|value| self.event_platforms(value))
                .unwrap_or_default(),
            github: self.service(&mut section, "github"),
            circleci: self.service(&mut section, "circleci"),
            gitlab: self.service(&mut section, "gitlab"),
        };
        section.finish();
        Some(settings)
    }

    fn event_platforms(&self, value: &Spanned<DeValue<'_>>) -> EventPlatforms {
        let Some(mut section) = self.section("ci.platforms", value) else { return EventPlatforms::default() };
        let proposed = section.value("proposed").map(|list| self.platform_list("proposed", list));
        let turns = section.value("scheduled").into_iter().flat_map(|turns| self.list("scheduled", turns));
        let scheduled = turns.map(|list| self.platform_list("scheduled", list)).collect();
        section.finish();
        EventPlatforms { proposed, scheduled }
    }

    fn install(&self, value: &Spanned<DeValue<'_>>) -> Option<InstallSetting> {
        let mut section = self.section("ci.install", value)?;
        let url = section.parsed::<Address>("url");
        let mut sha256 = BTreeMap::new();
        for (target, digest) in
            section.value("sha256").into_iter().flat_map(|all| self.entries("sha256", all))
        {
            let Some(digest) = self.text(&target.value, digest) else { continue };
            let hex = digest.value.len() == 64 && digest.value.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !["x86_64", "aarch64"].contains(&target.value.as_str()) || !hex {
                let problem = Diagnostic::request(format!("`{}` is no digest of a program", target.value));
                let hint = "write `sha256 = { x86_64 = \"64 digits\", aarch64 = \"64 digits\" }`";
                self.wrong(&digest.span, problem.hint(hint));
            }
            sha256.insert(target.value, digest.value.to_lowercase());
        }
        section.finish();
        match url {
            Some(url) if !sha256.is_empty() => Some(InstallSetting { url: url.value, sha256 }),
            _ => {
                let problem = Diagnostic::request("`ci.install` wants `url` and `sha256`");
                let hint =
                    "write `url = \"https://…/polyarch-linux-{arch}\"` and `sha256 = { x86_64 = \"…\" }`";
                self.wrong(&value.span(), problem.hint(hint));
                None
            }
        }
    }

    fn login(&self, value: &Spanned<DeValue<'_>>) -> Option<LoginSetting> {
        let mut section = self.section("ci.login", value)?;
        let (user, password) = (section.parsed::<Variable>("user"), section.parsed::<Variable>("password"));
        section.finish();
        match (user, password) {
            (Some(user), Some(password)) => Some(LoginSetting { user: user.value, password: password.value }),
            _ => {
                let problem = Diagnostic::request("`ci.login` wants the names of two secrets");
                let hint = "write `login = { user = \"REGISTRY_USER\", password = \"REGISTRY_TOKEN\" }`";
                self.wrong(&value.span(), problem.hint(hint));
                None
            }
        }
    }

    fn promotion(&self, service: &str, value: &Spanned<DeValue<'_>>) -> Option<PromotionSetting> {
        if service == "circleci" {
            let problem =
                Diagnostic::request("`ci.circleci.sign`: nothing is signed and promoted at CircleCI")
                    .because("it tells no run which pull request the commit that was pushed has brought in");
            self.wrong(&value.span(), problem.hint("remove it here; GitHub and GitLab have it"));
            return None;
        }
        let name = format!("ci.{service}.sign");
        let mut section = self.section(&name, value)?;
        let (key, trust) = (section.parsed::<Variable>("key"), section.parsed::<Variable>("trust"));
        section.finish();
        match (key, trust) {
            (Some(key), Some(trust)) => Some(PromotionSetting { key: key.value, trust: trust.value }),
            _ => {
                let problem =
                    Diagnostic::request(format!("`{name}` wants the names of a secret and of a variable"));
                let hint = "write `sign = { key = \"SIGN_KEY\", trust = \"TRUST_KEYS\" }`";
                self.wrong(&value.span(), problem.hint(hint));
                None
            }
        }
    }

    fn service(&self, ci: &mut Section<'_, '_>, name: &'static str) -> ServiceSetting {
        let Some(mut section) = ci.value(name).and_then(|value| self.section(&format!("ci.{name}"), value))
        else {
            return ServiceSetting::default();
        };
        let mut setting = ServiceSetting {
            sign: section.value("sign").and_then(|value| self.promotion(name, value)),
            image: section.parsed("image"),
            ephemeral: self.truth(&mut section, "ephemeral").is_some_and(|said| said.value),
            ..Default::default()
        };
        for (key, value) in section.value("runners").into_iter().flat_map(|all| self.entries("runners", all))
        {
            let (platform, runner) = (self.platform(&key), self.parsed(&key.value, value));
            if let (Some(platform), Some(runner)) = (platform, runner) {
                setting.runners.insert(platform, runner);
            }
        }
        section.finish();
        setting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_y1_what_means_something_to_a_shell_or_a_template_is_no_word() {
        for fine in ["ubuntu-24.04", "arm.medium", "v6.*", "release/*", "docker:24.0.9-git", "_a"] {
            assert_eq!(fine.parse::<Word>().expect(fine).as_str(), fine);
        }
        let long = "a".repeat(WORD_LIMIT + 1);
        for wrong in [
            "", "a b", "$(x)", "${{ x }}", "a\nb", "<< x >>", "a'b", "a\"b", "#a", "-a", "*", "&a", "!a",
            "é", &long,
        ] {
            assert!(wrong.parse::<Word>().is_err(), "{wrong}");
        }
        for wrong in ["", "1A", "A-B", "A B", "A$B"] {
            assert!(wrong.parse::<Variable>().is_err(), "{wrong}");
        }
        for wrong in ["", "0 3 * *", "0 3 * * 1 1", "0  3 * *", "@daily", "0 3 * * MON", "a b c d e"] {
            assert!(wrong.parse::<Schedule>().is_err(), "{wrong}");
        }
        for wrong in ["http://x/y", "https://", "https://x/y?z", "https://x/$(y)", "https://x/{version}", "x"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        for (written, meant) in
            [("polyarch-{target}", "polyarch-a-b"), ("polyarch-linux-{arch}", "polyarch-linux-c")]
        {
            let address: Address = format!("https://x.example/v1/{written}").parse().expect("an address");
            assert_eq!(address.of("a-b", "c"), format!("https://x.example/v1/{meant}"));
        }
    }
}
