//! Executables of other machines that an image is meant to have: `foreign-executables`.

use std::fmt;
use std::str::FromStr;

use regex::Regex;

use super::section::{Reading, Section};
use super::value::{Refused, compile, glob};
use super::written::Written;
use crate::diag::Diagnostic;

/// Files that are for another machine than the platform, and are meant to be there.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case", deny_unknown_fields))]
pub(crate) struct ForeignSetting {
    /// Which: paths from the root of the image, with `*`, `?` and `**`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) path: Written<PathPattern>,
    /// Why they belong there.
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever reads the file; here for the schema"))]
    pub(crate) reason: Written<String>,
}

/// A pattern of paths from the root of an image: `*` and `?` within one part, `**` over any number of parts.
#[derive(Clone, Debug)]
pub(crate) struct PathPattern {
    text: String,
    compiled: Regex,
}

impl PathPattern {
    /// Whether a path is meant, which begins without a slash.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.compiled.is_match(path)
    }

    /// Whether every path is.
    pub(crate) fn is_all(&self) -> bool {
        self.text == "**"
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathPattern {}

impl FromStr for PathPattern {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let plain = text.trim_start_matches('/');
        if plain.is_empty() || plain.ends_with('/') || plain.split('/').any(|part| matches!(part, "." | ".."))
        {
            let hint = "write a path from the root of the image, as `usr/lib/firmware/**`";
            return Err(Refused::with(format!("`{text}` names no files of an image"), hint));
        }
        Ok(Self { text: plain.to_owned(), compiled: compile(&glob(plain))? })
    }
}

impl Reading {
    /// `foreign-executables = [{ path = "usr/lib/firmware/**", reason = "…" }]`.
    pub(super) fn foreign(&self, section: &mut Section<'_, '_>) -> Vec<ForeignSetting> {
        let name = "foreign-executables";
        let Some(list) = section.value(name) else { return Vec::new() };
        let settings = self.list(name, list).filter_map(|value| {
            let mut one = self.section(name, value)?;
            let is_written = |key| one.written().any(|(written, _)| written == key);
            let lacks = !is_written("path") || !is_written("reason");
            let (path, reason) = (one.parsed::<PathPattern>("path"), one.text("reason"));
            one.finish();
            if lacks || reason.as_ref().is_some_and(|reason| reason.value.trim().is_empty()) {
                let problem = Diagnostic::request(format!("an entry of `{name}` wants `path` and `reason`"));
                let hint = "write `{ path = \"usr/lib/firmware/**\", reason = \"…\" }`";
                self.wrong(&value.span(), problem.hint(hint));
            }
            Some(ForeignSetting { path: path?, reason: reason? })
        });
        settings.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::FamilyFile;

    #[test]
    fn patterns_mean_paths_from_the_root_of_an_image() {
        for (pattern, path, meant) in [
            ("usr/lib/firmware/**", "usr/lib/firmware/a/b.elf", true),
            ("/usr/lib/firmware/**", "usr/lib/firmware/b", true),
            ("usr/lib/*.so", "usr/lib/a.so", true),
            ("usr/lib/*.so", "usr/lib/a/b.so", false),
            ("usr/lib", "usr/lib/a", false),
            ("**/tool", "opt/a/tool", true),
            ("**", "a", true),
        ] {
            assert_eq!(
                pattern.parse::<PathPattern>().expect(pattern).matches(path),
                meant,
                "{pattern} {path}"
            );
        }
        for text in ["", "/", "usr/lib/", "../a", "usr/./lib"] {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_meant_to_be_foreign_has_a_path_and_a_reason() {
        let parse = |entry: &str| {
            FamilyFile::parse(Path::new("polyarch.toml"), &format!("foreign-executables = [{entry}]\n"))
        };
        let read = parse("{ path = \"/a/**\", reason = \"firmware\" }").expect("a file");
        assert_eq!(read.foreign_executables[0].path.value.to_string(), "a/**");
        assert_eq!(read.foreign_executables[0].reason.value, "firmware");
        for (entry, told) in [
            ("{ path = \"a\" }", "wants `path` and `reason`"),
            ("{ reason = \"a\" }", "wants `path` and `reason`"),
            ("{ path = \"a\", reason = \" \" }", "wants `path` and `reason`"),
            ("{ path = \"a/\", reason = \"b\" }", "names no files of an image"),
            ("\"a\"", "wants a table"),
        ] {
            let problems = parse(entry).expect_err(entry);
            let told_now: Vec<String> = problems.iter().map(|problem| problem.message.clone()).collect();
            assert!(told_now.len() == 1 && told_now[0].contains(told), "{entry}: {told_now:?}");
        }
    }
}
