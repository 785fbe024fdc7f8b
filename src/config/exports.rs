//! What is said of exports, `[[export]]`: which images become files, and what those are called.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Component, Path};
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;

use super::section::{Reading, Section};
use super::value::Refused;
use super::written::Written;
use super::{ArchiveFormat, Compression, ExportSetting, template};
use crate::diag::Diagnostic;
use crate::oci::{Platform, Reference};

/// How many `[[export]]` one file may have.
const EXPORTS_LIMIT: usize = 1000;
/// The longest name of a file, in bytes, each of its folders by itself: what file systems take.
const NAME_LIMIT: usize = 255;
/// What the names of our own files in a folder of exports begin with, while they are written.
pub(crate) const PART_PREFIX: &str = ".polyarch-export-";
/// The file that says which platform's image is in which file.
pub(crate) const INDEX_NAME: &str = "exports.json";
/// A value in a template of which nothing is known yet but that it is some text.
const SOME: &str = "0";

/// The name of an exported file below the folder of exports, with `{image}`, `{variant}`, `{platform}`, `{suffix}`
/// and `{tag}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameTemplate(String);

impl NameTemplate {
    /// The name, each value looked up.
    pub(crate) fn fill(&self, value: impl Fn(&str) -> String) -> String {
        template::fill(&self.0, value)
    }

    /// The compression that its end promises: `.gz`, `.tgz`, `.zst`, `.tzst`, and none for `.tar`.
    pub(crate) fn compression(&self) -> Option<Compression> {
        let ends = |ends: &[&str]| ends.iter().any(|end| self.0.ends_with(end));
        match () {
            () if ends(&[".gz", ".tgz"]) => Some(Compression::Gzip),
            () if ends(&[".zst", ".tzst"]) => Some(Compression::Zstd),
            () if ends(&[".tar"]) => Some(Compression::None),
            () => None,
        }
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NameTemplate {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let filled = template::checked(text, template::EXPORT_NAME, |_| SOME.to_owned());
        file_name(&filled.map_err(|(message, hint)| Refused::with(message, &hint))?, text)?;
        Ok(Self(text.to_owned()))
    }
}

/// Sees that a text is the name of a file below a folder: no part of it leads out of there or is one of our own.
///
/// # Errors
/// With what is wrong, `shown` as the name, and what to write.
pub(crate) fn file_name(text: &str, shown: &str) -> Result<(), Refused> {
    let refused =
        |why: &str| Err(Refused::with(format!("`{shown}` {why}"), "write it as \"{image}.tar.gz\""));
    let inside = Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    let parts: Vec<&str> = text.split('/').collect();
    if !inside || parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return refused("is not the name of a file below the folder of exports");
    }
    if text.contains(|c: char| c.is_control() || c == '\\') {
        return refused("has a character that names of files cannot have everywhere");
    }
    if parts.iter().any(|part| part.len() > NAME_LIMIT) {
        return refused("is too long for the name of a file");
    }
    match text.eq_ignore_ascii_case(INDEX_NAME) || parts.iter().any(|part| part.starts_with(PART_PREFIX)) {
        true => refused("is the name of a file of polyarch's own"),
        false => Ok(()),
    }
}

/// A name that an image has inside of an exported file, with `{repository}`, `{tag}` and what [`NameTemplate`] knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReferenceTemplate(String);

impl ReferenceTemplate {
    /// The name, each value looked up.
    pub(crate) fn fill(&self, value: impl Fn(&str) -> String) -> String {
        template::fill(&self.0, value)
    }
}

impl FromStr for ReferenceTemplate {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let value = |name: &str| if name == "suffix" { "-0" } else { SOME }.to_owned();
        let filled = template::checked(text, template::EXPORT_REFERENCE, value);
        let filled = filled.map_err(|(message, hint)| Refused::with(message, &hint))?;
        let reference: Result<Reference, _> = filled.parse();
        let tagged = reference.map(|reference| reference.tag().is_some() && reference.digest().is_none());
        match tagged {
            Ok(true) => Ok(Self(text.to_owned())),
            Ok(false) | Err(_) => {
                let message = format!("`{text}` is no name and tag of an image");
                Err(Refused::with(message, "write it as \"{repository}:{tag}\""))
            }
        }
    }
}

/// What stands in a file's name for a platform: nothing, or what may stand in a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suffix(String);

impl FromStr for Suffix {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        match text.chars().all(plain) && text.len() <= 64 {
            true => Ok(Self(text.to_owned())),
            false => Err(Refused::with(
                format!("`{text}` cannot end a tag"),
                "use at most 64 of a-z, A-Z, 0-9, `_`, `.` and `-`, or nothing",
            )),
        }
    }
}

/// The formats, as they are written.
const FORMATS: &[(&str, ArchiveFormat)] = &[("docker", ArchiveFormat::Docker), ("oci", ArchiveFormat::Oci)];
/// The compressions, as they are written.
const COMPRESSIONS: &[(&str, Compression)] =
    &[("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];

/// All `[[export]]`.
pub(super) fn exports(reading: &Reading, whole: &mut Section<'_, '_>) -> Vec<ExportSetting> {
    let Some(list) = whole.value("export") else { return Vec::new() };
    let mut found = Vec::new();
    for value in reading.list("export", list) {
        if found.len() == EXPORTS_LIMIT {
            let problem = Diagnostic::request(format!("there are more than {EXPORTS_LIMIT} `[[export]]`"));
            reading.wrong(&value.span(), problem.hint("name several images in one of them"));
            break;
        }
        found.extend(export(reading, value));
    }
    found
}

fn export(reading: &Reading, value: &Spanned<DeValue<'_>>) -> Option<ExportSetting> {
    let mut section = reading.section("export", value)?;
    let setting = ExportSetting {
        named: Written::new((), section.span.clone()),
        images: section.list("images"),
        platforms: reading.platforms(&mut section),
        name: section.parsed("name"),
        references: section.list("references"),
        tag: section.text("tag"),
        suffixes: section.value("suffixes").map(|value| suffixes(reading, value)).unwrap_or_default(),
        format: reading.choice(&mut section, "format", FORMATS),
        compress: reading.choice(&mut section, "compress", COMPRESSIONS),
    };
    section.finish();
    if let Some(tag) = &setting.tag {
        reading.template(tag, template::EXPORT_TAG, 0);
    }
    if setting.images.as_ref().is_some_and(Vec::is_empty) {
        let problem = Diagnostic::request("the list of images is empty");
        reading.wrong(&value.span(), problem.hint("name images, or remove the line: then all are meant"));
    }
    if let Some(name) = &setting.name
        && let Err(problem) = agree(&name.value, setting.compress)
    {
        reading.wrong(&name.span, problem);
    }
    Some(setting)
}

/// Sees that the end of a file's name does not promise another compression than is asked for.
///
/// # Errors
/// Where it does.
pub(crate) fn agree(name: &NameTemplate, compress: Option<Compression>) -> Result<(), Diagnostic> {
    match (name.compression(), compress) {
        (Some(promised), Some(asked)) if promised != asked => {
            let message = format!(
                "the name `{name}` promises the compression `{}`, but `{}` is asked for",
                promised.name(),
                asked.name()
            );
            let ending = format!(".tar{}", asked.extension());
            Err(Diagnostic::request(message).hint(format!("let the name end in `{ending}`")))
        }
        _ => Ok(()),
    }
}

fn suffixes(reading: &Reading, value: &Spanned<DeValue<'_>>) -> BTreeMap<Platform, Written<String>> {
    let mut found: BTreeMap<Platform, Written<String>> = BTreeMap::new();
    for (key, value) in reading.entries("suffixes", value) {
        let Some(platform) = reading.platform(&key) else { continue };
        let Some(suffix) = reading.parsed::<Suffix>(&key.value, value) else { continue };
        if let Some(first) = found.insert(platform.clone(), suffix.map(|suffix| suffix.0)) {
            twice(reading, &key.span, &platform, &first.span);
        }
    }
    found
}

fn twice(reading: &Reading, span: &Range<usize>, platform: &Platform, first: &Range<usize>) {
    let line = reading.source.line(first.start);
    let problem = Diagnostic::request(format!("{platform} is named twice"));
    reading.wrong(span, problem.because(format!("it stands in line {line} already")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_folder_or_are_no_names_are_refused() {
        let table = [
            ("{image}-{tag}{suffix}.tar.gz", ""),
            ("{platform}/{image}:{variant}.tar", ""),
            ("../{image}.tar", "below the folder"),
            ("a/../../b.tar", "below the folder"),
            ("/tmp/{image}.tar", "below the folder"),
            ("./{image}.tar", "below the folder"),
            ("a//b.tar", "below the folder"),
            ("{image}/", "below the folder"),
            ("", "below the folder"),
            ("a\\b.tar", "character"),
            ("a\nb.tar", "character"),
            ("exports.json", "polyarch's own"),
            ("a/.polyarch-export-{image}", "polyarch's own"),
            ("{picture}.tar", "asks for `{picture}`"),
            ("{image.tar", "do not match"),
        ];
        for (text, expected) in table {
            match text.parse::<NameTemplate>() {
                Ok(_) => assert_eq!(expected, "", "{text} is taken"),
                Err(error) => {
                    assert!(!expected.is_empty() && error.to_string().contains(expected), "{text}: {error}");
                }
            }
        }
        assert!("x".repeat(256).parse::<NameTemplate>().is_err());
    }

    #[test]
    fn inner_names_are_names_with_a_tag() {
        for good in ["hysds/verdi:{tag}", "{repository}:{tag}{suffix}", "q.io/a/{image}:v1"] {
            assert!(good.parse::<ReferenceTemplate>().is_ok(), "{good}");
        }
        for bad in ["hysds/verdi", "{repository}", "Hysds/verdi:{tag}", "a b:{tag}", "", "{nothing}:{tag}"] {
            assert!(bad.parse::<ReferenceTemplate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_end_of_a_name_says_how_it_is_compressed() {
        let table = [
            ("a.tar.gz", Some(Compression::Gzip)),
            ("a.tgz", Some(Compression::Gzip)),
            ("a.tar.zst", Some(Compression::Zstd)),
            ("a.tar", Some(Compression::None)),
            ("a.image", None),
        ];
        for (name, promised) in table {
            let name: NameTemplate = name.parse().expect("a name");
            assert_eq!(name.compression(), promised, "{name}");
            for asked in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let agrees = promised.is_none_or(|promised| promised == asked);
                assert_eq!(agree(&name, Some(asked)).is_ok(), agrees, "{name} {asked:?}");
            }
        }
    }
}
