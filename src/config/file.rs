//! The whole file: what concerns the family, its tags and its builders.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::limits::limits;
use super::publication::publish_settings;
use super::section::{Reading, Section};
use super::written::{Source, Written};
use super::{
    BYTES_LIMIT, BuilderSetting, DivergenceSetting, Emulate, EngineAddress, FORMAT_VERSION, FamilyFile,
    TagSettings, check_builder_name, exports, syntax, template, value,
};
use crate::diag::{Diagnostic, Place, Problems, Result, did_you_mean};
use crate::oci::{Platform, Reference, Tag};

/// How many jobs a builder may do at once.
pub(crate) const SLOTS_LIMIT: u16 = 1024;
/// How fast a builder may be, in percent.
pub(crate) const SPEED_LIMIT: u32 = 10_000;

impl FamilyFile {
    /// Reads the text of a configuration file; `file` is what people call it.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self> {
        if text.len() as u64 > BYTES_LIMIT {
            let problem = Diagnostic::request(format!("the file is longer than {} KiB", BYTES_LIMIT / 1024));
            return Err(problem.at(Place::file(file)).into());
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Source::new(file, text);
        let table = syntax::table(&source, text)?;
        let reading = Reading::new(source);
        let mut whole = Section::new(&reading, "", &table, 0..0);
        let mut family = Self { version: version(&reading, &mut whole)?, ..Self::default() };
        family.read(&reading, &mut whole);
        whole.finish();
        let (source, problems) = reading.finish();
        Problems::check(problems)?;
        Ok(Self { source, ..family })
    }

    /// The place of something written in the file.
    pub(crate) fn place<T>(&self, written: &Written<T>) -> Place {
        self.source.place(&written.span)
    }

    fn read(&mut self, reading: &Reading, whole: &mut Section<'_, '_>) {
        self.name = whole.text("name");
        self.registry = whole.parsed("registry");
        self.store = whole.parsed("store");
        self.images = whole.list("images").unwrap_or_default();
        self.platforms = reading.platforms(whole);
        self.args = reading.values(whole, "args");
        self.labels = reading.values(whole, "labels");
        self.secrets = reading.secrets(whole);
        self.tests = reading.tests(whole);
        self.foreign_executables = reading.foreign(whole);
        self.tags = whole.value("tags").and_then(|tags| tag_settings(reading, tags)).unwrap_or_default();
        self.publish = publish_settings(reading, whole);
        self.replace = replacements(reading, whole);
        self.emulate = reading.choice(whole, "emulate", &Emulate::WORDS);
        self.barrier = reading.truth(whole, "barrier");
        self.layer_cache = reading.truth(whole, "layer-cache");
        self.cache_budget = whole.parsed("cache-budget");
        self.cache_mounts = whole.parsed("cache-mounts");
        self.cache_prune = whole.text("cache-prune");
        self.cache_floor = whole.parsed("cache-floor");
        self.parent_floor = whole.parsed("parent-floor");
        self.fresh_for = whole.parsed("fresh-for");
        self.image = reading.images(whole);
        self.builder = builders(reading, whole);
        self.limits = limits(reading, whole);
        self.export = exports::exports(reading, whole);
        self.sign = reading.sign(whole).unwrap_or_default();
        self.ci = reading.ci(whole).unwrap_or_default();
        if let Some(name) = self.name.as_ref().filter(|name| name.value.trim().is_empty()) {
            reading.wrong(&name.span, Diagnostic::request("`name` is empty"));
        }
        if let Some(target) = self.registry.as_ref().filter(|target| target.value.has_two_levels()) {
            let parts = target.value.prefix.as_ref().map_or(0, |prefix| prefix.as_str().split('/').count());
            if parts != 1 {
                let problem =
                    Diagnostic::request("an image at docker.io is named owner/image, no more and no less");
                reading.wrong(&target.span, problem.hint("write `registry = \"docker.io/OWNER\"`"));
            }
        }
    }
}

/// The version of the format. Any other than ours stops the reading, since each further error would be noise.
fn version(reading: &Reading, whole: &mut Section<'_, '_>) -> Result<Option<Written<u32>>> {
    let Some(value) = whole.value("version") else { return Ok(None) };
    let version = reading.number("version", value, 0..=u32::MAX);
    match version.as_ref().map(|version| version.value) {
        Some(found) if found != FORMAT_VERSION => {
            let age = if found > FORMAT_VERSION { "newer" } else { "older" };
            let message = format!(
                "the file has format {found}, {age} than {FORMAT_VERSION}, which this polyarch reads"
            );
            let hint = match found > FORMAT_VERSION {
                true => "install a newer polyarch",
                false => "set `version = 1` and follow the errors that are left",
            };
            Err(Diagnostic::request(message).at(reading.source.place(&value.span())).hint(hint).into())
        }
        _ => Ok(version),
    }
}

fn tag_settings(reading: &Reading, value: &Spanned<DeValue<'_>>) -> Option<TagSettings> {
    let mut section = reading.section("tags", value)?;
    let settings = TagSettings {
        names: section.value("names").map(|names| platform_names(reading, names)).unwrap_or_default(),
        platform: section.text("platform"),
        nightly: section.text("nightly"),
        immutable: section.list("immutable").unwrap_or_default(),
        common: section.list("common"),
        release: section.list("release"),
        divergence: reading.choice(
            &mut section,
            "divergence",
            &[
                ("withhold", DivergenceSetting::Withhold),
                ("fail", DivergenceSetting::Fail),
                ("partial", DivergenceSetting::Partial),
            ],
        ),
    };
    section.finish();
    for tag in settings.common.iter().flatten() {
        reading.template(tag, template::COMMON, 0);
    }
    for tag in settings.release.iter().flatten() {
        reading.template(tag, template::RELEASE, 0);
    }
    if let Some(nightly) = &settings.nightly {
        reading.template(nightly, template::NIGHTLY, 0);
        if !template::has(&nightly.value, "platform") {
            let problem = Diagnostic::request(format!("`{}` lacks `{{platform}}`", nightly.value));
            let problem = problem.because("so that platforms would overwrite each other's");
            reading.wrong(&nightly.span, problem.hint("write `nightly = \"nightly-{platform}\"`"));
        }
    }
    if let Some(platform) = &settings.platform {
        reading.template(platform, template::PLATFORM, 0);
        for name in template::PLATFORM.iter().filter(|name| !template::has(&platform.value, name)) {
            let problem = Diagnostic::request(format!("`{}` lacks `{{{name}}}`", platform.value));
            let hint = "write `platform = \"{platform}-{tag}\"` or `platform = \"{tag}-{platform}\"`";
            reading.wrong(&platform.span, problem.because("so that tags would fall together").hint(hint));
        }
    }
    Some(settings)
}

fn platform_names(reading: &Reading, value: &Spanned<DeValue<'_>>) -> BTreeMap<Platform, Written<String>> {
    let mut names: BTreeMap<Platform, Written<String>> = BTreeMap::new();
    for (key, value) in reading.entries("names", value) {
        let Some(platform) = reading.platform(&key) else { continue };
        let Some(name) = reading.parsed::<Tag>(&key.value, value) else { continue };
        let name = name.map(|name| name.as_str().to_owned());
        if let Some((other, _)) =
            names.iter().find(|(other, first)| **other != platform && first.value == name.value)
        {
            let problem =
                Diagnostic::request(format!("{other} and {platform} have one name, `{}`", name.value));
            reading.wrong(&name.span, problem.hint("give each platform a name of its own"));
        }
        if let Some(first) = names.insert(platform.clone(), name) {
            let problem = Diagnostic::request(format!("{platform} is named twice"));
            let line = reading.source.line(first.span.start);
            reading.wrong(&key.span, problem.because(format!("it stands in line {line} already")));
        }
    }
    names
}

fn replacements(reading: &Reading, whole: &mut Section<'_, '_>) -> BTreeMap<Reference, Written<Reference>> {
    let Some(value) = whole.value("replace") else { return BTreeMap::new() };
    let entries = reading.entries("replace", value).filter_map(|(key, value)| {
        let to = reading.parsed::<Reference>(&key.value, value)?;
        match key.value.parse::<Reference>() {
            Ok(from) => Some((from, to)),
            Err(error) => {
                reading.wrong(&key.span, Diagnostic::request(error.to_string()));
                None
            }
        }
    });
    entries.collect()
}

fn builders(reading: &Reading, whole: &mut Section<'_, '_>) -> BTreeMap<String, BuilderSetting> {
    let Some(value) = whole.value("builder") else { return BTreeMap::new() };
    let mut builders = BTreeMap::new();
    for (key, value) in reading.entries("builder", value) {
        if let Err(problem) = check_builder_name(&key.value) {
            reading.wrong(&key.span, problem);
            continue;
        }
        let Some(mut section) = reading.section(&format!("builder.{}", key.value), value) else { continue };
        let builder = BuilderSetting {
            engine: section.value("engine").and_then(|value| reading.parsed("engine", value)),
            certificates: section.text("certificates"),
            labels: section.list("labels").unwrap_or_default(),
            disk: section.parsed("disk"),
            slots: section
                .value("slots")
                .and_then(|slots| reading.number("slots", slots, 1..=u32::from(SLOTS_LIMIT))),
            platforms: reading.platforms(&mut section),
            price: section.value("price").and_then(|price| reading.amount("price", price)),
            speed: section.value("speed").and_then(|speed| reading.number("speed", speed, 1..=SPEED_LIMIT)),
        };
        section.finish();
        check_certificates(reading, &builder);
        builders.insert(key.value, builder);
    }
    builders
}

/// Whoever may speak to an engine is root on its machine: over TCP never without certificates.
fn check_certificates(reading: &Reading, builder: &BuilderSetting) {
    let Some(engine) = &builder.engine else { return };
    match (&engine.value, &builder.certificates) {
        (EngineAddress::Tcp(_), None) => {
            let problem = Diagnostic::request(format!("{} wants certificates on both sides", engine.value));
            let hint = "name the folder of ca.pem, cert.pem and key.pem: `certificates = \"./certificates\"`";
            reading.wrong(&engine.span, problem.hint(hint));
        }
        (_, Some(certificates)) if !engine.value.takes_certificates() => {
            reading.wrong(&certificates.span, engine.value.takes_none());
        }
        (_, Some(_) | None) => {}
    }
}

impl Reading {
    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        section: &mut Section<'_, '_>,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let one_of = || format!("use one of `{}`", all.join("`, `"));
        let text = section.word(key, one_of)?;
        let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, meant)| *meant);
        if found.is_none() {
            let hint = did_you_mean(&text.value, all.iter().copied());
            let hint = hint.unwrap_or_else(one_of);
            self.wrong(
                &text.span,
                Diagnostic::request(format!("`{key}` cannot be `{}`", text.value)).hint(hint),
            );
        }
        found
    }

    /// A platform written as a key.
    pub(super) fn platform(&self, key: &Written<String>) -> Option<Platform> {
        match value::platform(&key.value) {
            Ok(platform) => Some(platform),
            Err(error) => {
                self.wrong(&key.span, Diagnostic::request(error.to_string()));
                None
            }
        }
    }

    /// Checks a template of a tag.
    pub(super) fn template(&self, text: &Written<String>, names: &[&str], groups: usize) {
        if let Err((message, hint)) = template::check(&text.value, names, groups) {
            self.wrong(&text.span, Diagnostic::request(message).hint(hint));
        }
    }
}
