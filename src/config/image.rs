//! What is said of one image: its recipe, and what is run against it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;

use super::section::{Reading, Section};
use super::written::Written;
use super::{
    DescriptionSetting, FRONTEND_ARGUMENT, ImageSetting, Inside, SecretSetting, TaggerSetting, TestSetting,
    is_plain_secret, template,
};
use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind};
use crate::oci::{Platform, Repository, Tag};

/// What a tagger reads: one of these.
const SOURCES: [&str; 3] = ["run", "package", "os-release"];

/// Whether a table may have variants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Image,
    Variant,
}

impl Reading {
    /// All `[image.…]`.
    pub(super) fn images(&self, whole: &mut Section<'_, '_>) -> BTreeMap<Repository, ImageSetting> {
        let Some(value) = whole.value("image") else { return BTreeMap::new() };
        self.named("image", value, Level::Image)
    }

    fn named<K: FromStr<Err: Display> + Ord>(
        &self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        level: Level,
    ) -> BTreeMap<K, ImageSetting> {
        let mut found = BTreeMap::new();
        let mut by_case: BTreeMap<String, Written<String>> = BTreeMap::new();
        let mut entries: Vec<_> = self.entries(path, value).collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        for (key, value) in entries {
            if let Some(first) = by_case.get(&key.value.to_lowercase()) {
                self.same_but_for_case(first, &key);
                continue;
            }
            by_case.insert(key.value.to_lowercase(), key.clone());
            let setting = self.image(&format!("{path}.{}", key.value), &key, value, level);
            match key.value.parse::<K>() {
                Ok(name) => drop(setting.map(|setting| found.insert(name, setting))),
                Err(error) => {
                    let problem = Diagnostic::request(error.to_string());
                    let lower = key.value.to_lowercase();
                    let problem = match lower.parse::<K>() {
                        Ok(_) => problem.hint(format!("write `[{path}.{lower}]`")),
                        Err(_) => problem,
                    };
                    self.wrong(&key.span, problem);
                }
            }
        }
        found
    }

    fn same_but_for_case(&self, first: &Written<String>, second: &Written<String>) {
        let problem =
            Diagnostic::request(format!("`{}` and `{}` differ in case alone", first.value, second.value));
        let line = self.source.line(first.span.start);
        self.wrong(
            &second.span,
            problem.because(format!("`{}` stands in line {line}", first.value)).hint("rename one"),
        );
    }

    fn image(
        &self,
        path: &str,
        key: &Written<String>,
        value: &Spanned<DeValue<'_>>,
        level: Level,
    ) -> Option<ImageSetting> {
        let mut section = self.section(path, value)?;
        if let Some(mirror) = section.value_at(level == Level::Image, "mirror") {
            return self.mirror(key, mirror, section);
        }
        let folder = section.parsed("folder");
        let mut setting = ImageSetting {
            named: key.clone(),
            mirror: None,
            mirror_tags: None,
            folder,
            dockerfile: section.parsed("dockerfile"),
            target: section.text("target"),
            platforms: self.platforms(&mut section),
            args: self.values(&mut section, "args"),
            labels: self.values(&mut section, "labels"),
            secrets: self.secrets(&mut section),
            ssh: section.list("ssh").unwrap_or_default(),
            tests: self.tests(&mut section),
            foreign_executables: self.foreign(&mut section),
            tags: self.taggers(&mut section),
            describe: self.descriptions(&mut section),
            terms: self.terms(&mut section),
            on: self.terms_on(&mut section),
            cache_budget: section.parsed("cache-budget"),
            fresh_for: section.parsed("fresh-for"),
            downstream: self.truth(&mut section, "downstream"),
            fail_fast: self.truth(&mut section, "fail-fast"),
            barrier: self.truth(&mut section, "barrier"),
            retry_without_cache: self.truth(&mut section, "retry-without-cache"),
            repository: section.parsed("repository"),
            variants: BTreeMap::new(),
        };
        if level == Level::Image {
            let variants = section.value("variants");
            let read = |value| self.named::<Tag>(&format!("{path}.variants"), value, Level::Variant);
            setting.variants = variants.map(read).unwrap_or_default();
        }
        section.finish();
        Some(setting)
    }

    /// The platforms of a section.
    pub(super) fn platforms(&self, section: &mut Section<'_, '_>) -> Option<Vec<Written<Platform>>> {
        section.value("platforms").map(|list| self.platform_list("platforms", list))
    }

    /// A list of platforms: not empty, none twice.
    pub(super) fn platform_list(&self, name: &str, list: &Spanned<DeValue<'_>>) -> Vec<Written<Platform>> {
        let mut found: Vec<Written<Platform>> = Vec::new();
        let mut any = false;
        for value in self.list(name, list) {
            any = true;
            let Some(platform) = self.parsed::<Platform>(name, value) else { continue };
            if found.iter().any(|other| other.value == platform.value) {
                let problem = Diagnostic::request(format!("{} stands twice in the list", platform.value));
                self.wrong(&platform.span, problem.hint("remove one of the two"));
            } else {
                found.push(platform);
            }
        }
        if !any && list.get_ref().is_array() {
            let problem = Diagnostic::request("the list of platforms is empty");
            self.wrong(
                &list.span(),
                problem.hint(format!("write `{name} = [\"linux/amd64\"]`, or remove the line")),
            );
        }
        found
    }

    /// A table of texts: build arguments or labels. A secret among them would end up in the image for all to read.
    pub(super) fn values(
        &self,
        section: &mut Section<'_, '_>,
        key: &'static str,
    ) -> BTreeMap<String, Written<String>> {
        let Some(table) = section.value(key) else { return BTreeMap::new() };
        let mut values = BTreeMap::new();
        for (name, value) in self.entries(key, table) {
            let Some(value) = self.plain(&name.value, value) else { continue };
            if name.value.trim().is_empty() || (key == "args" && name.value.contains(['=', ' '])) {
                self.wrong(
                    &name.span,
                    Diagnostic::request(format!("`{}` is no name for a value", name.value)),
                );
            }
            if key == "args" && name.value == FRONTEND_ARGUMENT && stands(Defence::FrontendArgument) {
                self.wrong(
                    &name.span,
                    frontend_argument(&format!("the argument `{}`", name.value), &value.value),
                );
            }
            if is_plain_secret(&name.value, &value.value) {
                let id = name.value.to_lowercase();
                let place = self.source.hidden_place(&value.span);
                let problem =
                    Diagnostic::new(Kind::Policy, format!("`{}` is a secret in plain sight", name.value));
                let problem = problem.at(place).because(format!("{key} can be read in the published image"));
                let variable = name.value.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
                let hint = format!("remove it and write `secrets = {{ {id} = {{ env = \"{variable}\" }} }}`");
                let mount = format!("read it in the Dockerfile by `RUN --mount=type=secret,id={id} …`");
                self.wrong(&value.span, problem.hint(hint).hint(mount));
            }
            values.insert(name.value, value);
        }
        values
    }

    /// `secrets = { id = { env = "X" } }`.
    pub(super) fn secrets(&self, section: &mut Section<'_, '_>) -> BTreeMap<String, SecretSetting> {
        let Some(table) = section.value("secrets") else { return BTreeMap::new() };
        let mut secrets = BTreeMap::new();
        for (id, value) in self.entries("secrets", table) {
            if let DeValue::String(_) = value.get_ref() {
                let name = &id.value;
                let problem =
                    Diagnostic::new(Kind::Policy, format!("the secret `{name}` is written in plain sight"));
                let hint = format!(
                    "write `{name} = {{ env = \"{}\" }}`",
                    name.to_uppercase().replace(['-', '.'], "_")
                );
                self.wrong(&value.span(), problem.at(self.source.hidden_place(&value.span())).hint(hint));
                continue;
            }
            let Some(mut one) = self.section(&format!("secrets.{}", id.value), value) else { continue };
            let (env, file) = (one.text("env"), one.parsed::<Inside>("file"));
            let before = one.span.clone();
            one.finish();
            let setting = match (env, file) {
                (Some(env), None) => SecretSetting::Env(env.value),
                (None, Some(file)) => SecretSetting::File(file.value),
                _ => {
                    self.either(&before, &format!("secrets.{}", id.value), "env", "file");
                    continue;
                }
            };
            secrets.insert(id.value, setting);
        }
        secrets
    }

    fn either(&self, span: &Range<usize>, what: &str, one: &str, other: &str) {
        let problem = Diagnostic::request(format!("{what} wants either `{one}` or `{other}`"));
        self.wrong(span, problem.hint(format!("write one of them: `{one} = \"…\"` or `{other} = \"…\"`")));
    }

    /// `tests = ["command", { run = "…" }, { host = "…" }]`.
    pub(super) fn tests(&self, section: &mut Section<'_, '_>) -> Vec<TestSetting> {
        let Some(list) = section.value("tests") else { return Vec::new() };
        let tests = self.list("tests", list).filter_map(|value| {
            if matches!(value.get_ref(), DeValue::String(_)) {
                return Some(TestSetting { run: self.command("tests", value), ..TestSetting::default() });
            }
            let mut one = self.section("tests", value)?;
            let test = TestSetting {
                run: one.value("run").and_then(|value| self.command("run", value)),
                host: one.value("host").and_then(|value| self.command("host", value)),
                files: one.list("files").unwrap_or_default(),
                stdout: one.text("stdout"),
                time_limit: one.parsed("time-limit"),
            };
            one.finish();
            if test.run.is_some() == test.host.is_some() {
                self.either(&value.span(), "a test", "run", "host");
            } else if let (Some(_), Some(file)) = (&test.run, test.files.first()) {
                let problem = Diagnostic::request("`files` goes with `host`, not with `run`");
                self.wrong(
                    &file.span,
                    problem.hint("remove `files`: a test in the image sees no file of this folder"),
                );
            }
            Some(test)
        });
        tests.collect()
    }

    fn command(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Written<String>> {
        let text = self.text(name, value)?;
        if text.value.trim().is_empty() || text.value.contains('\0') {
            self.wrong(
                &text.span,
                Diagnostic::request(format!("the command of `{name}` is empty or no text")),
            );
        }
        Some(text)
    }

    /// One command, or a list of them.
    fn commands(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Vec<Written<String>> {
        match value.get_ref() {
            DeValue::Array(_) => self.list(name, value).filter_map(|one| self.command(name, one)).collect(),
            _ => self.command(name, value).into_iter().collect(),
        }
    }

    fn taggers(&self, section: &mut Section<'_, '_>) -> Vec<TaggerSetting> {
        let Some(list) = section.value("tags") else { return Vec::new() };
        let taggers = self.list("tags", list).filter_map(|value| {
            let mut one = self.section("tags", value)?;
            let tag = one.text("tag");
            let tagger = TaggerSetting {
                tag: tag.clone().unwrap_or_default(),
                run: one.value("run").and_then(|value| self.command("run", value)),
                pattern: one.parsed("match"),
                os_release: one.text("os-release"),
                package: one.parsed("package"),
                time_limit: one.parsed("time-limit"),
            };
            let sources = one.written().filter(|(key, _)| SOURCES.contains(key)).count();
            one.finish();
            match &tag {
                Some(tag) => self.tagger(tag, &tagger, sources, &value.span()),
                None => self.wrong(&value.span(), Diagnostic::request("a tagger lacks `tag`")),
            }
            Some(tagger)
        });
        taggers.collect()
    }

    fn tagger(&self, tag: &Written<String>, tagger: &TaggerSetting, sources: usize, span: &Range<usize>) {
        let groups = tagger.pattern.as_ref().map_or(1, |pattern| pattern.value.catches);
        self.template(tag, template::TAGGER, groups);
        if sources != 1 {
            let problem = Diagnostic::request("a tagger wants one of `run`, `package` and `os-release`");
            let hint =
                "write one of them: `run = \"…\"`, `package = \"dpkg:…\"` or `os-release = \"VERSION_ID\"`";
            self.wrong(span, problem.hint(hint));
        } else if let (Some(_), Some(pattern)) = (&tagger.os_release, &tagger.pattern) {
            let problem = Diagnostic::request("`match` goes with `run` and `package`, not with `os-release`");
            self.wrong(&pattern.span, problem.hint("remove `match`"));
        }
    }

    fn descriptions(&self, section: &mut Section<'_, '_>) -> Vec<DescriptionSetting> {
        let Some(list) = section.value("describe") else { return Vec::new() };
        let descriptions = self.list("describe", list).filter_map(|value| {
            let mut one = self.section("describe", value)?;
            let title = one.text("title");
            let bare = one.value("bare").and_then(|value| self.command("bare", value));
            let run = one.value("run").map(|value| self.commands("run", value)).unwrap_or_default();
            let time_limit = one.parsed("time-limit");
            one.finish();
            if title.is_none() || bare.is_none() && run.is_empty() {
                self.wrong(
                    &value.span(),
                    Diagnostic::request("a description wants `title` and `run`")
                        .hint("write `{ title = \"…\", run = \"…\" }`"),
                );
            }
            Some(DescriptionSetting { title: title?, bare, run, time_limit })
        });
        descriptions.collect()
    }
}

/// The problem with an argument that names what reads the Dockerfile: that would be used unpinned.
pub(crate) fn frontend_argument(shown: &str, value: &str) -> Diagnostic {
    Diagnostic::request(format!("{shown} is not taken"))
        .because("what reads a Dockerfile is pinned by its digest where `# syntax=` names it")
        .hint(format!("write it as the first line of the Dockerfile: # syntax={value}"))
}
