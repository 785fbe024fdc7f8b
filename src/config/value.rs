//! Values with a meaning of their own: folders, globs, patterns, times, registries, secrets in plain sight.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use regex::{Regex, RegexBuilder};

use crate::oci::{Platform, Reference, Repository};

/// How large a compiled pattern may be; matching takes time in proportion to the text, whatever the pattern.
const PATTERN_LIMIT_BYTES: usize = 1 << 20;
/// The longest time limit: four weeks.
const TIME_LIMIT_SECONDS: u64 = 28 * 24 * 3600;

/// What stands between a message and the hint that goes with it, where there is one.
pub(super) const HINT: &str = "; hint: ";

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused(String);

impl Refused {
    pub(super) fn new(why: String) -> Self {
        Self(why)
    }

    /// A message, and what to write instead.
    pub(super) fn with(message: impl fmt::Display, hint: &str) -> Self {
        Self(format!("{message}{HINT}{hint}"))
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path below the folder of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inside(PathBuf);

impl Inside {
    /// The path, with no `.` in it.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for Inside {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let mut path = PathBuf::new();
        for part in Path::new(text).components() {
            match part {
                Component::CurDir => {}
                Component::Normal(part) => path.push(part),
                Component::ParentDir if path.pop() => {}
                _ => return Err(Refused(format!("`{text}` is not below the folder of this file"))),
            }
        }
        match text.is_empty() {
            true => Err(Refused("the path is empty; write `.` for the folder of this file".to_owned())),
            false => Ok(Self(path)),
        }
    }
}

/// A pattern of folders: `*` and `?` within one part, `**` over any number of parts.
#[derive(Clone, Debug)]
pub(crate) struct Glob(Regex);

impl Glob {
    /// Whether a folder, relative and with `/`, is meant.
    pub(crate) fn matches(&self, folder: &str) -> bool {
        self.0.is_match(folder)
    }
}

impl FromStr for Glob {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let inner = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
        if inner.starts_with('/') || inner.split('/').any(|part| part == "..") {
            return Err(Refused(format!("`{text}` is not below the folder of this file")));
        }
        compile(&glob(if inner == "." { "" } else { inner })).map(Self)
    }
}

/// A pattern of paths as a regular expression: `*` and `?` within one part, `**` over any number of parts.
pub(super) fn glob(text: &str) -> String {
    let mut pattern = String::from("^");
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (taken, meant) = match c {
            '*' if rest.starts_with("**/") => (3, "(?:.*/)?".to_owned()),
            '*' if rest.starts_with("**") => (2, ".*".to_owned()),
            '*' => (1, "[^/]*".to_owned()),
            '?' => (1, "[^/]".to_owned()),
            _ => (c.len_utf8(), regex::escape(c.encode_utf8(&mut [0; 4]))),
        };
        pattern.push_str(&meant);
        rest = &rest[taken..];
    }
    pattern.push('$');
    pattern
}

/// A regular expression that is known to compile within its limits.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// As it was written.
    pub(crate) text: String,
    /// How many values it catches: its groups, or the whole match where it has none.
    pub(crate) catches: usize,
}

impl FromStr for Pattern {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let compiled = compile(text)?;
        Ok(Self { text: text.to_owned(), catches: (compiled.captures_len() - 1).max(1) })
    }
}

pub(super) fn compile(text: &str) -> Result<Regex, Refused> {
    let built =
        RegexBuilder::new(text).size_limit(PATTERN_LIMIT_BYTES).dfa_size_limit(PATTERN_LIMIT_BYTES).build();
    built.map_err(|error| {
        // The last line says what is wrong; those before draw it, which the place does already.
        let told = error.to_string();
        let last = told.lines().last().unwrap_or_default();
        Refused(format!("this is no regular expression: {}", last.trim_start_matches("error: ")))
    })
}

/// A span of time: `90s`, `30m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) u64);

impl FromStr for Seconds {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let factor = match text.chars().last() {
            Some('s') => Some(1),
            Some('m') => Some(60),
            Some('h') => Some(3600),
            Some('d') => Some(24 * 3600),
            _ => None,
        };
        let number =
            text.get(..text.len().saturating_sub(1)).and_then(|number| number.trim().parse::<u64>().ok());
        let seconds = factor.zip(number).and_then(|(factor, number)| number.checked_mul(factor));
        match seconds {
            Some(seconds @ 1..=TIME_LIMIT_SECONDS) => Ok(Self(seconds)),
            Some(_) => Err(Refused(format!("`{text}` is not between 1s and 28d"))),
            None => Err(Refused(format!("`{text}` is no span of time; write one as `90s`, `30m` or `2h`"))),
        }
    }
}

/// An amount of bytes: `500MB`, `30GB`, `2TB`, each step a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let factors = [("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)];
        let read = factors.into_iter().find_map(|(unit, factor)| {
            text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(factor)
        });
        let refused = || Refused(format!("`{text}` is no amount of bytes; write one as `500MB` or `30GB`"));
        read.map(Self).ok_or_else(refused)
    }
}

/// Where a family is published: `host[:port]`, and what stands before its images' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `host` or `host:port`.
    pub(crate) registry: String,
    /// What stands before the name of each image, such as an owner.
    pub(crate) prefix: Option<Repository>,
}

impl Target {
    /// Whether the registry knows owner and image and nothing deeper or flatter.
    pub(crate) fn has_two_levels(&self) -> bool {
        self.registry == "docker.io"
    }
}

impl FromStr for Target {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let (host, prefix) = match text.trim_end_matches('/').split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (text.trim_end_matches('/'), None),
        };
        if text.contains("://") {
            let rest = text.split("://").nth(1).unwrap_or_default();
            return Err(Refused(format!("`{text}` has a scheme, which a registry has not; write `{rest}`")));
        }
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(Refused(format!(
                "`{host}` is no registry; write its host too, as in `docker.io/{text}`"
            )));
        }
        let prefix = prefix.map(str::parse::<Repository>).transpose();
        let prefix = prefix.map_err(|error| Refused(error.to_string()))?;
        let probe = "x".parse().map_err(|error: crate::oci::Error| Refused(error.to_string()))?;
        Reference::new(host, probe).map_err(|error| Refused(error.to_string()))?;
        let registry = if host == "index.docker.io" { "docker.io" } else { host }.to_owned();
        Ok(Self { registry, prefix })
    }
}

/// A platform as a key or value of the file; the error of [`Platform`] with its hint.
pub(super) fn platform(text: &str) -> Result<Platform, Refused> {
    text.parse().map_err(|error: crate::oci::Error| Refused(error.to_string()))
}

const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "secret",
    "secrets",
    "apikey",
    "credential",
    "credentials",
];
const SECRET_PAIRS: &[(&str, &str)] = &[
    ("api", "key"),
    ("private", "key"),
    ("access", "key"),
    ("secret", "key"),
    ("auth", "key"),
    ("signing", "key"),
];
/// Last words that say that the value is about a secret and not the secret.
const HARMLESS_WORDS: &[&str] =
    &["file", "path", "dir", "url", "uri", "name", "length", "count", "ttl", "enabled"];
const SECRET_VALUES: &[&str] =
    &["ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "AKIA", "xoxb-", "-----BEGIN "];

/// Whether a value is a secret that was written in plain, judged by its name and by its beginning.
pub(crate) fn is_plain_secret(name: &str, value: &str) -> bool {
    if SECRET_VALUES.iter().any(|start| value.starts_with(start)) && value.len() > 12 {
        return true;
    }
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let harmless = words.last().is_some_and(|last| HARMLESS_WORDS.contains(last));
    let named = words.iter().any(|word| SECRET_WORDS.contains(word))
        || words.windows(2).any(|pair| SECRET_PAIRS.contains(&(pair[0], pair[1])));
    named && !harmless && !value.trim().is_empty()
}
