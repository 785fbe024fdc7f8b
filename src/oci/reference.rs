//! Names of images: OCI distribution specification, section "Pulling manifests", with Docker's short forms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Digest, Error, ErrorKind};

const REPOSITORY_LENGTH: usize = 255;
const TAG_LENGTH: usize = 128;

fn invalid(text: &str, what: &str, why: &str) -> Error {
    let text: String = text.chars().take(300).collect();
    Error::new(ErrorKind::Invalid, format!("`{text}` is no {what}: {why}"))
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

checked_text!(
    /// The name of a repository inside a registry, such as `jupyter/base-notebook`; at most 255 characters.
    Repository,
    check_repository
);
checked_text!(
    /// A tag: at most 128 of `A-Za-z0-9_.-`, the first neither `.` nor `-`.
    Tag,
    check_tag
);

impl Repository {
    /// This repository with one more part at its end, checked as a whole.
    ///
    /// # Errors
    /// Where the whole is no repository name.
    pub fn join(&self, part: &str) -> Result<Self, Error> {
        format!("{}/{part}", self.0).parse()
    }

    /// Whether its name is another's with more parts behind.
    pub fn is_below(&self, name: &Self) -> bool {
        self.0.strip_prefix(name.0.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }
}

fn check_repository(text: &str) -> Result<(), Error> {
    let wrong = |why| Err(invalid(text, "repository name", why));
    if text.is_empty() || text.len() > REPOSITORY_LENGTH {
        return wrong("it wants 1 to 255 characters");
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong("it must be lower-case");
    }
    match text.split('/').all(is_component) {
        true => Ok(()),
        false => wrong("each part wants a-z and 0-9, joined by `.`, `_`, `__` or dashes"),
    }
}

/// Letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_well =
        bytes.first().is_some_and(|byte| word(*byte)) && bytes.last().is_some_and(|byte| word(*byte));
    let separators =
        part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|run| !run.is_empty());
    ends_well && { separators }
        .all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

fn check_tag(text: &str) -> Result<(), Error> {
    let wrong = |why| Err(invalid(text, "tag", why));
    if text.is_empty() {
        return wrong("it is empty");
    }
    if text.len() > TAG_LENGTH {
        return wrong("it has more than 128 characters");
    }
    if text.starts_with(['.', '-']) {
        return wrong("it must not begin with `.` or `-`");
    }
    match text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        true => Ok(()),
        false => wrong("it may hold only letters, digits, `_`, `.` and `-`"),
    }
}

/// What names a document in a repository: its digest, or a tag that points at one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pointer {
    /// A tag, which can move.
    Tag(Tag),
    /// A digest, which cannot.
    Digest(Digest),
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Pointer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.contains(':') {
            true => text.parse().map(Self::Digest),
            false => text.parse().map(Self::Tag),
        }
    }
}

impl From<Tag> for Pointer {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Pointer {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A whole image reference: registry, repository, and a tag, a digest or both.
///
/// Docker's short forms are read: `ubuntu` is `docker.io/library/ubuntu`.
///
/// ```
/// use polyarch::oci::Reference;
/// let reference: Reference = "ubuntu:24.04".parse().unwrap();
/// assert_eq!(reference.to_string(), "docker.io/library/ubuntu:24.04");
/// assert!("Upper/case".parse::<Reference>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// A repository at a registry, without tag or digest. The registry is `host` or `host:port`.
    ///
    /// # Errors
    /// Where the registry is no host name with an optional port.
    pub fn new(registry: &str, repository: Repository) -> Result<Self, Error> {
        check_registry(registry)?;
        Ok(Self { registry: registry.to_owned(), repository, tag: None, digest: None })
    }

    /// The registry: `host` or `host:port`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in it.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag written, if any.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest written, if any.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What it points at: the digest, else the tag, else the tag `latest`.
    pub fn pointer(&self) -> Pointer {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Pointer::Digest(digest.clone()),
            (None, Some(tag)) => Pointer::Tag(tag.clone()),
            (None, None) => Pointer::Tag(Tag("latest".to_owned())),
        }
    }

    /// The same repository at a digest, without the tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository at a tag.
    #[must_use]
    pub fn tagged(&self, tag: Tag) -> Self {
        Self { tag: Some(tag), digest: None, ..self.clone() }
    }
}

fn check_registry(text: &str) -> Result<(), Error> {
    let wrong = |why| Err(invalid(text, "registry", why));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if port.is_some_and(|port| !is_port(port)) {
        return wrong("after the colon stands a port from 0 to 65535");
    }
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
    match bracketed.map_or(named, |address| address.parse::<std::net::Ipv6Addr>().is_ok()) {
        true => Ok(()),
        false => wrong("it wants a host name or address, and perhaps a port"),
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse::<Tag>()?)),
            _ => (name, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest.to_owned())
            }
            Some(_) => ("docker.io", name.to_owned()),
            None => ("docker.io", format!("library/{name}")),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let path =
            if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        check_registry(registry)?;
        if name.is_empty() {
            return Err(invalid(text, "image reference", "the repository is missing"));
        }
        Ok(Self { registry: registry.to_owned(), repository: path.parse()?, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_c11_names_follow_the_specification() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = [
            ("ubuntu", "docker.io/library/ubuntu".to_owned()),
            ("jupyter/base:x", "docker.io/jupyter/base:x".into()),
            ("localhost/a", "localhost/a".into()),
            ("127.0.0.1:5000/a/b:1.0", "127.0.0.1:5000/a/b:1.0".into()),
            ("[::1]:5000/x", "[::1]:5000/x".into()),
            ("index.docker.io/a", "docker.io/library/a".into()),
        ];
        for (written, meant) in good {
            assert_eq!(written.parse::<Reference>().expect(written).to_string(), meant);
        }
        let both = format!("q.io/a/b:t@{digest}");
        assert_eq!(both.parse::<Reference>().expect("tag and digest").to_string(), both);
        let bad = [
            "",
            "UPPER/x",
            "a//b",
            "a/../b",
            "a b",
            "a:",
            "x:.t",
            "a@sha256:12",
            "host:99999/a",
            "host:+80/a",
            "a/b-",
            "a..b",
            "-a.io/x",
        ];
        for written in bad {
            assert!(written.parse::<Reference>().is_err(), "{written} was taken");
        }
        assert!("t".repeat(129).parse::<Tag>().is_err());
        assert!("t".repeat(128).parse::<Tag>().is_ok());
    }
}
