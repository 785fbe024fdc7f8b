//! What a path asks for: parsed from the right, because repository names hold slashes.

use axum::http::{Method, StatusCode};

use super::answer::{Code, Refusal};
use crate::oci::{Digest, Error, Pointer, Repository, UploadName};

/// What a request is about. Every part is parsed: nothing behind this sees text from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`: is this a registry, and may I come in?
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/blobs/<digest>`
    Blob(Repository, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Repository),
    /// `/v2/<name>/blobs/uploads/<session>`
    Upload(Repository, SessionName),
    /// `/v2/<name>/manifests/<tag or digest>`
    Document(Repository, Pointer),
    /// `/v2/<name>/tags/list`
    Tags(Repository),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Repository, Digest),
}

/// Why a path leads nowhere.
#[derive(Debug)]
pub(super) enum Lost {
    /// No such place in the specification.
    Path,
    /// The repository's name is no name.
    Name(Error),
    /// The digest is no digest.
    Digest(Error),
    /// The tag is no tag.
    Tag(Error),
    /// No upload session was ever called that.
    Session,
}

/// The name of an upload session: 128 random bits in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionName(UploadName);

impl SessionName {
    /// How many hexadecimal digits it has.
    const LENGTH: usize = 32;

    /// A name that nobody can guess; none where the system has no random numbers.
    pub(super) fn random() -> Option<Self> {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        Some(Self(UploadName(u128::from_be_bytes(random))))
    }

    /// As the store knows it.
    pub(super) fn upload(self) -> UploadName {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let whole = text.len() == Self::LENGTH && text.bytes().all(hex);
        whole.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(|name| Self(UploadName(name)))
    }
}

impl std::fmt::Display for SessionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0.0)
    }
}

impl Route {
    /// Parse a path as it stands in the request line. Nothing is percent-decoded but the colon of a digest,
    /// which some clients encode: an encoded slash or dot is no part of any name.
    pub(super) fn parse(path: &str) -> Result<Self, Lost> {
        let rest = match path {
            "/v2" | "/v2/" => return Ok(Self::Base),
            "/v2/_catalog" => return Ok(Self::Catalog),
            _ => path.strip_prefix("/v2/").ok_or(Lost::Path)?,
        };
        let (front, last) = rest.rsplit_once('/').ok_or(Lost::Path)?;
        let (name, kind) = front.rsplit_once('/').ok_or(Lost::Path)?;
        let repository = |name: &str| name.parse::<Repository>().map_err(Lost::Name);
        let last = last.replacen("%3A", ":", 1).replacen("%3a", ":", 1);
        let digest = || last.parse::<Digest>().map_err(Lost::Digest);
        match (kind, last.as_str()) {
            ("blobs", "uploads") => Ok(Self::Uploads(repository(name)?)),
            ("blobs", _) => Ok(Self::Blob(repository(name)?, digest()?)),
            ("referrers", _) => Ok(Self::Referrers(repository(name)?, digest()?)),
            ("tags", "list") => Ok(Self::Tags(repository(name)?)),
            ("manifests", text) => {
                let repository = repository(name)?;
                let wrong = if text.contains(':') { Lost::Digest } else { Lost::Tag };
                Ok(Self::Document(repository, text.parse().map_err(wrong)?))
            }
            ("uploads", session) => {
                let repository = repository(name.strip_suffix("/blobs").ok_or(Lost::Path)?)?;
                match session {
                    "" => Ok(Self::Uploads(repository)),
                    _ => SessionName::parse(session)
                        .map(|session| Self::Upload(repository, session))
                        .ok_or(Lost::Session),
                }
            }
            _ => Err(Lost::Path),
        }
    }

    /// The repository that it is about, where it is about one.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Uploads(repository)
            | Self::Tags(repository)
            | Self::Blob(repository, _)
            | Self::Upload(repository, _)
            | Self::Document(repository, _)
            | Self::Referrers(repository, _) => Some(repository),
        }
    }

    /// Whether it is about an upload, of which even the status is the business of those who write.
    pub(super) fn is_upload(&self) -> bool {
        matches!(self, Self::Uploads(_) | Self::Upload(..))
    }
}

impl Lost {
    /// What a client hears of it. A tag that cannot exist is simply not found by those who read.
    pub(super) fn refusal(&self, method: &Method) -> Refusal {
        let refuse = |status, code, error: &Error| Refusal::new(status, code, error.to_string());
        match self {
            Self::Path => {
                Refusal::new(StatusCode::NOT_FOUND, Code::NameUnknown, "there is nothing at this path")
            }
            Self::Session => Refusal::new(
                StatusCode::NOT_FOUND,
                Code::BlobUploadUnknown,
                "there is no such upload: begin again",
            ),
            Self::Name(error) => refuse(StatusCode::BAD_REQUEST, Code::NameInvalid, error),
            Self::Digest(error) => refuse(StatusCode::BAD_REQUEST, Code::DigestInvalid, error),
            Self::Tag(error) if *method == Method::PUT => {
                refuse(StatusCode::BAD_REQUEST, Code::ManifestInvalid, error)
            }
            Self::Tag(error) => refuse(StatusCode::NOT_FOUND, Code::ManifestUnknown, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_e8_paths_are_read_from_the_right() {
        let digest = Digest::of(b"x");
        let name = |text: &str| text.parse::<Repository>().expect(text);
        let session = "0123456789abcdef0123456789abcdef";
        let blob = |text| Route::Blob(name(text), digest.clone());
        let good = [
            ("/v2".to_owned(), Route::Base),
            ("/v2/".into(), Route::Base),
            ("/v2/_catalog".into(), Route::Catalog),
            (format!("/v2/a/b/c/blobs/{digest}"), blob("a/b/c")),
            (format!("/v2/a/blobs/{}", digest.to_string().replace(':', "%3A")), blob("a")),
            (format!("/v2/manifests/blobs/blobs/{digest}"), blob("manifests/blobs")),
            ("/v2/a/b/blobs/uploads/".into(), Route::Uploads(name("a/b"))),
            ("/v2/a/b/blobs/uploads".into(), Route::Uploads(name("a/b"))),
            (
                format!("/v2/a/blobs/uploads/{session}"),
                Route::Upload(name("a"), SessionName::parse(session).expect("a session")),
            ),
            ("/v2/tags/tags/list".into(), Route::Tags(name("tags"))),
            (
                "/v2/blobs/uploads/manifests/v1".into(),
                Route::Document(name("blobs/uploads"), "v1".parse().expect("a tag")),
            ),
            (
                format!("/v2/a/manifests/{digest}"),
                Route::Document(name("a"), Pointer::Digest(digest.clone())),
            ),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest.clone())),
        ];
        for (path, route) in good {
            assert_eq!(Route::parse(&path).expect(&path), route, "{path}");
        }
    }

    #[test]
    fn tm16_nothing_that_could_leave_the_store_is_a_route() {
        let digest = Digest::of(b"x");
        let long = "a/".repeat(200);
        let bad = [
            format!("/v2/../etc/blobs/{digest}"),
            format!("/v2/..%2fetc/blobs/{digest}"),
            format!("/v2/%2e%2e/blobs/{digest}"),
            format!("/v2/a//b/blobs/{digest}"),
            format!("/v2//blobs/{digest}"),
            format!("/v2/{long}b/blobs/{digest}"),
            format!("/v2/A/blobs/{digest}"),
            format!("/v2/ä/blobs/{digest}"),
            format!("/v1/a/blobs/{digest}"),
            "/v2/a/blobs/sha256:../../x".into(),
            format!("/v2/a/blobs/{}", digest.to_string().to_uppercase()),
            "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e".into(),
            "/v2/a/manifests/..".into(),
            "/v2/a/manifests/..%2f..%2fx".into(),
            "/v2/a/manifests/".into(),
            "/v2/a/blobs/uploads/../../x".into(),
            "/v2/a/blobs/uploads/0123456789ABCDEF0123456789ABCDEF".into(),
            "/v2/a/uploads/0123456789abcdef0123456789abcdef".into(),
            "/v2/_catalog/tags/list".into(),
            "/v2/a/tags/list/".into(),
            "/".into(),
            String::new(),
        ];
        for path in bad {
            assert!(Route::parse(&path).is_err(), "{path} leads somewhere");
        }
    }
}
