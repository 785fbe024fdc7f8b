//! What must hold of every name, header, request and document: see `src/fuzzing.rs`.
//!
//! Readers of headers are private to the client and the server, whose modules `fuzzing` stand beside them. Archives and
//! compressed layers are passed on as they are here, never read.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::rules::{self, Contents};
use super::unambiguous::{FIELDS, PLATFORM_FIELDS};
use super::{Digest, Document, MediaType, Platform, Pointer, Reference, Repository, Tag};

pub use super::client::fuzzing::{challenge, link, retry_after};
pub use super::server::fuzzing::router;

/// That a name can be part of a path and stays below whatever it is joined to.
fn assert_stays_below(name: &str) {
    let path = Path::new(name);
    assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{name:?} leads out");
    assert!(path.components().count() == name.split('/').count(), "{name:?} has an empty part");
    assert!(!name.contains(['\0', '\\', '%', ' ']), "{name:?} means something else elsewhere");
}

/// Names of images: what is accepted is printed as what is read as the same again, is part of a path and of an
/// address as it stands, and is as short as it must be.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.as_str(), text);
        assert!(text.len() <= 255);
        assert_stays_below(text);
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!(text.len() <= 128 && !text.contains('/'));
        assert_stays_below(text);
    }
    if let Ok(pointer) = text.parse::<Pointer>() {
        assert_eq!(pointer.to_string(), text);
    }
    let Ok(reference) = text.parse::<Reference>() else { return };
    let printed = reference.to_string();
    let again: Reference = printed.parse().expect("what is printed is read");
    assert_eq!(again, reference, "{text:?} became {printed:?}");
    assert_eq!(again.to_string(), printed);
    let registry = reference.registry();
    assert!(Reference::new(registry, reference.repository().clone()).is_ok());
    assert!(text.contains(reference.repository().as_str()) || printed.starts_with("docker.io/library/"));
    // The registry is host and port of an address and nothing else of it.
    if let Ok(url) = url::Url::parse(&format!("https://{registry}/v2/")) {
        let nothing_else = url.username().is_empty() && url.password().is_none() && url.path() == "/v2/";
        assert!(nothing_else && url.query().is_none() && url.fragment().is_none(), "{registry:?}: {url}");
        let port = registry.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port);
        let port = port.map(|port| port.parse::<u16>().expect("a port"));
        assert_eq!(url.port_or_known_default(), port.or(Some(443)), "{registry:?}: {url}");
    }
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit() || byte == b']');
    assert!(registry.rsplit_once(':').is_none_or(|(_, port)| digits(port) || port.ends_with(']')));
}

/// Digests: what is accepted follows the grammar to the letter, and is a path below the root.
pub fn digest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(digest) = text.parse::<Digest>() else { return };
    assert_eq!(digest.to_string(), text);
    let (name, hex) = text.split_once(':').expect("an algorithm");
    assert_eq!((name, hex), (digest.algorithm().name(), digest.hex()));
    assert!(matches!((name, hex.len()), ("sha256", 64) | ("sha512", 128)));
    assert!(hex.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
    assert!(hex.starts_with(digest.short()) && digest.short().len() == 12);
    assert_stays_below(&format!("blobs/{name}/{hex}"));
    let json = serde_json::to_string(&digest).expect("a text");
    assert_eq!(serde_json::from_str::<Digest>(&json).expect("a digest"), digest);
}

/// Platforms: what is accepted is normal, and normal ones are left as they are; fields of documents, too.
pub fn platform(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(platform) = text.parse::<Platform>() {
        let printed = platform.to_string();
        assert_eq!(printed.parse::<Platform>().expect("what is printed is read"), platform, "{text:?}");
        assert!(matches!(printed.split('/').count(), 2 | 3));
        assert!(!platform.slug().contains('/'));
        assert_stays_below(&platform.slug());
    }
    let mut fields = text.splitn(3, '/');
    let (os, architecture) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let platform = Platform::from_fields(os, architecture, fields.next());
    let again = Platform::from_fields(platform.os(), platform.architecture(), platform.variant());
    assert_eq!(again, platform, "{text:?}");
}

/// `Range` and `Content-Range`, of requests and of answers.
pub fn range(data: &[u8]) {
    super::client::fuzzing::range(data);
    super::server::fuzzing::range(data);
}

/// Image manifests, see [`document`].
pub fn manifest(data: &[u8]) {
    document(MediaType::MANIFEST, data);
    document(MediaType::DOCKER_MANIFEST, data);
}

/// Image indexes, see [`document`].
pub fn index(data: &[u8]) {
    document(MediaType::INDEX, data);
    document(MediaType::DOCKER_LIST, data);
}

/// Documents: what is accepted is of at most 4 MiB, means one thing to all readers, can be read by us and is printed
/// as what is accepted again; and all that it wants is mentioned in it, so that a collection keeps it.
fn document(media_type: &str, data: &[u8]) {
    let document = Document::new(media_type, data.to_vec());
    let Ok(contents) = Contents::of(&document) else { return };
    assert!(data.len() <= Document::BYTES_LIMIT);
    let other = if document.is_index() { MediaType::MANIFEST } else { MediaType::INDEX };
    assert!(Contents::of(&Document::new(other, data.to_vec())).is_err(), "it is a manifest and an index");
    let written: Written = serde_json::from_slice(data).expect("accepted JSON");
    written.assert_unambiguous("");
    let mentioned: BTreeSet<Digest> = rules::mentioned(data).into_iter().collect();
    let kept =
        |wanted: &rules::Wanted| mentioned.contains(&wanted.digest) && contents.refers_to(&wanted.digest);
    assert!(contents.wanted.iter().all(kept), "it wants what it does not mention");
    assert_eq!(rules::subject(data), contents.subject);
    let printed = match document.is_index() {
        true => Document::of_index(&document.index().expect("an accepted index is read")),
        false => Document::of_manifest(&document.manifest().expect("an accepted manifest is read")),
    };
    let printed = Document::new(media_type, printed.bytes().clone());
    let again = Contents::of(&printed).expect("what is printed is accepted");
    assert!(again.subject == contents.subject && again.wanted.len() >= contents.wanted.len());
}

/// JSON as it was written: fields in their order, each as often as it stands there.
enum Written {
    Fields(Vec<(String, Self)>),
    Values(Vec<Self>),
    Plain,
}

impl Written {
    /// A name as Go's readers compare it with those they know: by Unicode's simple folding, in which two letters
    /// beyond ASCII are ASCII's.
    fn folded(name: &str) -> String {
        let letters = name.chars().map(|letter| match letter {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            letter => letter.to_ascii_lowercase(),
        });
        letters.collect()
    }

    /// `place` is the field that this is the value of; nothing is asked of names below annotations.
    fn assert_unambiguous(&self, place: &str) {
        match self {
            Self::Plain => {}
            Self::Values(values) => values.iter().for_each(|value| value.assert_unambiguous(place)),
            Self::Fields(fields) => {
                let names: BTreeSet<&String> = fields.iter().map(|(name, _)| name).collect();
                assert_eq!(names.len(), fields.len(), "a field stands there twice");
                let platform = if place == "platform" { &PLATFORM_FIELDS[..] } else { &[] };
                for (name, value) in fields {
                    let alike = |field: &&&str| Self::folded(field) == Self::folded(name);
                    let field = FIELDS.iter().chain(platform).find(alike);
                    let same = field.is_none_or(|field| *field == name);
                    assert!(same || place == "annotations", "{name:?} is another spelling");
                    value.assert_unambiguous(if place == "annotations" { place } else { name });
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Written;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Written, E> {
                Ok(Written::Plain)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Written, E> {
                Ok(Written::Plain)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Written, E> {
                Ok(Written::Plain)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Written, E> {
                Ok(Written::Plain)
            }

            fn visit_str<E>(self, _: &str) -> Result<Written, E> {
                Ok(Written::Plain)
            }

            fn visit_unit<E>(self) -> Result<Written, E> {
                Ok(Written::Plain)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Written, A::Error> {
                let mut all = Vec::new();
                while let Some(value) = values.next_element()? {
                    all.push(value);
                }
                Ok(Written::Values(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Written, A::Error> {
                let mut all = Vec::new();
                while let Some(field) = fields.next_entry()? {
                    all.push(field);
                }
                Ok(Written::Fields(all))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
