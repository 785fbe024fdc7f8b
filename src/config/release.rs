//! The version that a release is of, as its tag of Git names it.

use std::fmt;
use std::str::FromStr;

use super::value::{Refused, compile};
use super::{CiSettings, Written};
use crate::oci::Tag;

/// What stands for `{version}` in the tags of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(String);

impl Version {
    /// A template of [`super::TagSettings::release`] with the version in it.
    pub(crate) fn fill(&self, template: &str) -> String {
        template.replace("{version}", &self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Version {
    type Err = Refused;

    /// A tag of Git, of which the `v` before a digit is no part of the version. Whoever may push one chooses its name: what is
    /// no tag of an image is refused, and nothing of it is left out, so that no two releases have one version.
    fn from_str(tag: &str) -> Result<Self, Refused> {
        let version = tag.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        match version.unwrap_or(tag).parse::<Tag>() {
            Ok(version) => Ok(Self(version.as_str().to_owned())),
            Err(_) => Err(Refused::with(
                format!("the tag of Git `{}` is no version that images could have", tag.escape_debug()),
                "name it by at most 128 of a-z, A-Z, 0-9, `_`, `.` and `-`, as in v6.1.0",
            )),
        }
    }
}

impl CiSettings {
    /// Whether a tag of Git is one that is published: `*` in `release-tags` stands for any characters.
    pub(crate) fn is_release(&self, tag: &str) -> bool {
        self.release_tags.iter().any(|Written { value, .. }| {
            compile(&release_expression(value.as_str())).is_ok_and(|pattern| pattern.is_match(tag))
        })
    }
}

/// A pattern of `release-tags`, in which `*` stands for any characters, as a regular expression of services and of ours,
/// without its slashes.
pub(crate) fn release_expression(pattern: &str) -> String {
    let plain = |c: char| match c {
        '*' => ".*".to_owned(),
        c if c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '@' || c == ':' => c.to_string(),
        c => format!("\\{c}"),
    };
    format!("^{}$", pattern.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::FamilyFile;

    #[test]
    fn f_u8_the_name_of_a_tag_is_a_version_or_is_refused() {
        for (tag, version) in [
            ("v6.1.0", "6.1.0"),
            ("6.1.0", "6.1.0"),
            ("v6", "6"),
            ("version-6", "version-6"),
            ("vv6", "vv6"),
            ("v", "v"),
            ("2026.11-rc_1", "2026.11-rc_1"),
        ] {
            assert_eq!(tag.parse::<Version>().expect(tag).to_string(), version);
        }
        let long = format!("v{}", "1".repeat(129));
        for tag in [
            "",
            "v6.$(id)",
            "v6.`id`",
            "v6;id",
            "v6 x",
            "v6\nx",
            "${{ x }}",
            "<< x >>",
            "../x",
            "x/y",
            "v6+1",
            "v6'",
            "v6\"",
            "é",
            "{version}",
            "{commit}",
            "v6{",
            ".6",
            "-6",
            &long,
        ] {
            let refused = tag.parse::<Version>().expect_err(tag).to_string();
            assert!(refused.contains("is no version that images could have"), "{refused}");
        }
    }

    #[test]
    fn a_release_is_what_a_pattern_says() {
        let text = "[ci]\nrelease-tags = [\"v6.*\", \"x/y+1\"]\n";
        let ci = FamilyFile::parse(Path::new("polyarch.toml"), text).expect("a file").ci;
        for (tag, is_one) in [
            ("v6.", true),
            ("v6.1.0", true),
            ("x/y+1", true),
            ("v61", false),
            ("v7.0", false),
            ("av6.1", false),
            ("x/yy1", false),
            ("v6.1\n", false),
            ("", false),
        ] {
            assert_eq!(ci.is_release(tag), is_one, "{tag:?}");
        }
    }
}
