//! What a document must fulfil before a store keeps it: the checks that every store of ours applies.
//!
//! OCI distribution specification, "Pushing Manifests". A document that names content which is not there would
//! dangle; one that two readers can take for two different things (TM15) is refused whatever its digest.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;

use super::document::{nothing_or, texts};
use super::{
    Completeness, Condition, Descriptor, Digest, Document, Error, ErrorKind, Hasher, MediaType, Repository,
    Tag, Terms, unambiguous,
};

/// The header in which a registry of ours says how many bytes a blob has that it mounted. No specification has it; whoever
/// mounts a blob knows its size, and learns so where a disk has not kept all of it.
pub(super) const BLOB_SIZE: &str = "polyarch-blob-size";

/// What a document refers to, and what it says of itself to those who list referrers.
pub(super) struct Contents {
    /// What must be in the repository, in the order of the document.
    pub(super) wanted: Vec<Wanted>,
    /// The document that it is about, which need not be there.
    pub(super) subject: Option<Digest>,
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
}

/// One thing that must be there.
pub(super) struct Wanted {
    /// Its digest.
    pub(super) digest: Digest,
    /// What it is to the document.
    pub(super) role: Role,
}

/// What something is to the document that refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The configuration of a manifest.
    Configuration,
    /// A layer of a manifest.
    Layer,
    /// A manifest in an index.
    Manifest,
    /// In an index, something that is no manifest: the caches of BuildKit list layers there.
    Other,
}

/// As much of a manifest or index as the checks look at. Fields twice are an error of the parser.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Target>,
    layers: Option<Vec<Target>>,
    manifests: Option<Vec<Target>>,
    subject: Option<Target>,
    #[serde(default, deserialize_with = "texts")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default, deserialize_with = "nothing_or")]
    media_type: String,
    digest: Digest,
    #[serde(rename = "size")]
    _size: u64,
    #[serde(default, deserialize_with = "nothing_or")]
    urls: Vec<String>,
}

impl Contents {
    /// What a document refers to, where it follows the specification.
    ///
    /// # Errors
    /// `TooLarge` past the limit, `Invalid` where it is no manifest or index or contradicts itself.
    pub(super) fn of(document: &Document) -> Result<Self, Error> {
        let invalid = |why: &str| {
            Error::new(ErrorKind::Invalid, format!("document {} cannot be kept: {why}", document.digest()))
        };
        if document.bytes().len() > Document::BYTES_LIMIT {
            let size = document.bytes().len();
            let limit = Document::BYTES_LIMIT;
            let what = format!("document {} has {size} bytes; at most {limit} are kept", document.digest());
            return Err(Error::new(ErrorKind::TooLarge, what));
        }
        let named = document.media_type();
        if !MediaType::is_manifest(named) && !MediaType::is_index(named) {
            return Err(invalid(&format!("`{named}` is the media type of no image manifest or index")));
        }
        unambiguous::check(document.bytes())
            .map_err(|error| invalid("it does not follow the specification").because(error))?;
        let written: Written = serde_json::from_slice(document.bytes())
            .map_err(|error| invalid("it does not follow the specification").because(error))?;
        if written.schema_version != 2 {
            return Err(invalid("its `schemaVersion` is not 2"));
        }
        if let Some(inside) = written.media_type.as_deref().filter(|inside| *inside != named) {
            return Err(invalid(&format!("it was sent as `{named}` and calls itself `{inside}`")));
        }
        // Whoever keeps it reads it one day, all of it.
        let read =
            if document.is_index() { document.index().map(drop) } else { document.manifest().map(drop) };
        match document.is_index() {
            true if written.config.is_some() || written.layers.is_some() => {
                Err(invalid("it is an index and has a `config` or `layers` as manifests do"))
            }
            true => read.map(|()| Self::of_index(written)),
            false if written.manifests.is_some() => {
                Err(invalid("it is a manifest and has `manifests` as indexes do"))
            }
            false if written.config.is_none() => Err(invalid("it has no `config`")),
            false => read.map(|()| Self::of_manifest(written)),
        }
    }

    fn of_index(written: Written) -> Self {
        let role = |media_type: &str| match media_type {
            "" => Role::Manifest,
            _ if MediaType::is_index(media_type) || MediaType::is_manifest(media_type) => Role::Manifest,
            _ => Role::Other,
        };
        let children = written.manifests.unwrap_or_default();
        let wanted = children
            .into_iter()
            .map(|child| Wanted { role: role(&child.media_type), digest: child.digest })
            .collect();
        Self {
            wanted,
            subject: written.subject.map(|subject| subject.digest),
            artifact_type: written.artifact_type,
            annotations: written.annotations,
        }
    }

    fn of_manifest(written: Written) -> Self {
        let artifact_type = written.artifact_type.filter(|kind| !kind.is_empty());
        let artifact_type = artifact_type.or(written.config.as_ref().map(|config| config.media_type.clone()));
        let config = written.config.map(|config| Wanted { digest: config.digest, role: Role::Configuration });
        // Layers with addresses of their own are fetched from there: Windows base layers may not be kept by others.
        let layers = written.layers.unwrap_or_default();
        let layers = layers.into_iter().filter(|layer| layer.urls.is_empty());
        let layers = layers.map(|layer| Wanted { digest: layer.digest, role: Role::Layer });
        Self {
            wanted: config.into_iter().chain(layers).collect(),
            subject: written.subject.map(|subject| subject.digest),
            artifact_type,
            annotations: written.annotations,
        }
    }

    /// Make sure that everything is there.
    ///
    /// # Errors
    /// `MissingContent`, naming the first digest that `is_there` denies.
    pub(super) fn require(
        &self,
        document: &Document,
        repository: &Repository,
        mut is_there: impl FnMut(&Wanted) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        for wanted in &self.wanted {
            if !is_there(wanted)? {
                let role = match wanted.role {
                    Role::Configuration => "configuration",
                    Role::Layer => "layer",
                    Role::Manifest => "manifest",
                    Role::Other => "content",
                };
                let (document, digest) = (document.digest(), &wanted.digest);
                let what =
                    format!("keep document {document} in {repository}: its {role} {digest} is not there");
                return Err(Error::new(ErrorKind::MissingContent, what));
            }
        }
        Ok(())
    }

    /// Make sure that everything is there which the terms want to be there, and that tags point where they say.
    ///
    /// # Errors
    /// `MissingContent` or `Moved`, naming what is wrong.
    pub(super) fn agree(
        &self,
        document: &Document,
        (repository, tags, terms): (&Repository, &[Tag], &Terms),
        is_there: impl FnMut(&Wanted) -> Result<bool, Error>,
        mut target: impl FnMut(&Tag) -> Result<Option<Digest>, Error>,
    ) -> Result<(), Error> {
        if terms.content == Completeness::Whole {
            self.require(document, repository, is_there)?;
        }
        for tag in tags.iter().filter(|_| terms.tags != Condition::Any) {
            let found = target(tag)?;
            if !terms.tags.holds(found.as_ref()) {
                let points = found.map_or("is not there".to_owned(), |found| format!("points at {found}"));
                let what =
                    format!("move the tag {tag} of {repository}: it {points}, which is not what was said");
                return Err(Error::new(ErrorKind::Moved, what));
            }
        }
        Ok(())
    }

    /// Whether the document is not whole without this.
    pub(super) fn refers_to(&self, digest: &Digest) -> bool {
        self.wanted.iter().any(|wanted| wanted.digest == *digest)
    }

    /// The descriptor of the document in a list of referrers.
    pub(super) fn referrer(self, document: &Document) -> Descriptor {
        Descriptor {
            artifact_type: self.artifact_type,
            annotations: self.annotations,
            ..document.descriptor()
        }
    }
}

impl Document {
    /// The blobs that must be where this manifest is: its configuration, and its layers but for those with addresses of
    /// their own, which are fetched from there.
    ///
    /// # Errors
    /// Where it is no manifest that follows the specification.
    pub fn blobs(&self) -> Result<Vec<Descriptor>, Error> {
        let contents = Contents::of(self)?;
        let manifest = self.manifest()?;
        let named = std::iter::once(manifest.config).chain(manifest.layers);
        Ok(named.filter(|blob| contents.refers_to(&blob.digest)).collect())
    }
}

/// Every digest that a document names anywhere but as its subject, also in fields that we do not know: what must
/// stay as long as the document does. Nothing, where it is not JSON.
pub(super) fn mentioned(document: &[u8]) -> Vec<Digest> {
    let mut found = Vec::new();
    let Ok(serde_json::Value::Object(mut top)) = serde_json::from_slice(document) else { return found };
    top.remove("subject");
    let mut waiting: Vec<serde_json::Value> = top.into_iter().map(|(_, value)| value).collect();
    while let Some(value) = waiting.pop() {
        match value {
            serde_json::Value::Array(values) => waiting.extend(values),
            serde_json::Value::Object(fields) => {
                let named = fields.get("digest").and_then(|digest| digest.as_str()?.parse().ok());
                found.extend(named);
                waiting.extend(fields.into_iter().map(|(_, value)| value));
            }
            _ => {}
        }
    }
    found
}

/// Whether bytes have this digest.
pub(super) fn has_digest(bytes: &[u8], digest: &Digest) -> bool {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    hasher.finish() == *digest
}

/// The document that a document is about.
pub(super) fn subject(document: &[u8]) -> Option<Digest> {
    let value: serde_json::Value = serde_json::from_slice(document).ok()?;
    value.get("subject")?.get("digest")?.as_str()?.parse().ok()
}

/// The range to read of a blob of a size.
///
/// # Errors
/// `Invalid` for a range that is empty or reaches outside.
pub(super) fn range_within(
    digest: &Digest,
    size: u64,
    range: Option<Range<u64>>,
) -> Result<Range<u64>, Error> {
    match range {
        None => Ok(0..size),
        Some(range) if range.start < range.end && range.end <= size => Ok(range),
        Some(Range { start, end }) => {
            let what = format!("read bytes {start} to {end} of blob {digest}: it has {size}");
            Err(Error::new(ErrorKind::Invalid, what))
        }
    }
}

/// Something is not in a repository.
pub(super) fn not_found(what: &str, name: &dyn std::fmt::Display, repository: &Repository) -> Error {
    Error::new(ErrorKind::NotFound, format!("{what} {name} is not in {repository}"))
}

/// A document refers to a blob that is to be taken away.
pub(super) fn in_use(digest: &Digest, document: &Digest, repository: &Repository) -> Error {
    let what = format!("take blob {digest} out of {repository}: its document {document} refers to it");
    Error::new(ErrorKind::InUse, what)
}

/// Bytes have another digest than the one they were said to have.
pub(super) fn mismatch(expected: &Digest, found: &Digest) -> Error {
    Error::new(ErrorKind::Mismatch, format!("blob {expected} has in truth the digest {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(media_type: &str, text: &str) -> (ErrorKind, String) {
        match Contents::of(&Document::new(media_type, text.to_owned())) {
            Ok(_) => panic!("taken: {text}"),
            Err(error) => (error.kind(), error.to_string()),
        }
    }

    #[test]
    fn tm15_what_can_be_read_in_two_ways_is_refused() {
        let config = format!(r#"{{"mediaType":"a/b","digest":"{}","size":1}}"#, Digest::of(b"c"));
        let table = [
            (MediaType::MANIFEST, r#"[1]"#.to_owned(), "does not follow"),
            (MediaType::MANIFEST, r#"{"schemaVersion":2}"#.into(), "no `config`"),
            (MediaType::MANIFEST, format!(r#"{{"schemaVersion":1,"config":{config}}}"#), "is not 2"),
            (
                MediaType::MANIFEST,
                format!(r#"{{"schemaVersion":2,"config":{config},"config":{config}}}"#),
                "follow",
            ),
            (
                MediaType::MANIFEST,
                format!(r#"{{"schemaVersion":2,"config":{config},"manifests":[]}}"#),
                "as indexes do",
            ),
            (
                MediaType::INDEX,
                format!(r#"{{"schemaVersion":2,"manifests":[],"config":{config}}}"#),
                "as manifests do",
            ),
            (
                MediaType::INDEX,
                format!(r#"{{"schemaVersion":2,"mediaType":"{}"}}"#, MediaType::MANIFEST),
                "calls itself",
            ),
            (
                MediaType::MANIFEST,
                format!(
                    r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"{}","size":1,"annotations":{{"a":1}}}}]}}"#,
                    Digest::of(b"l")
                ),
                "as an image manifest",
            ),
            (MediaType::CONFIG, r#"{"schemaVersion":2}"#.into(), "no image manifest or index"),
        ];
        for (media_type, text, part) in table {
            let (kind, message) = refused(media_type, &text);
            assert_eq!(kind, ErrorKind::Invalid, "{text}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn tm14_a_document_past_the_limit_is_refused_unread() {
        let (kind, _) = refused(MediaType::INDEX, &" ".repeat(Document::BYTES_LIMIT + 1));
        assert_eq!(kind, ErrorKind::TooLarge);
    }

    #[test]
    fn null_is_as_good_as_nothing() {
        let config = format!(r#"{{"mediaType":"a/b","digest":"{}","size":1,"urls":null}}"#, Digest::of(b"c"));
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":null,"annotations":null,"subject":null}}"#
        );
        let index = r#"{"schemaVersion":2,"manifests":null}"#.to_owned();
        let digest = Digest::of(b"c");
        let inner = format!(
            r#"{{"schemaVersion":2,"mediaType":null,"annotations":{{"a":null}},"manifests":[{{"mediaType":null,
            "digest":"{digest}","size":1,"annotations":{{"a":null,"b":"c"}},"platform":{{"os":null,
            "architecture":null,"variant":null}},"artifactType":null,"urls":null}}]}}"#
        );
        let read = Document::new(MediaType::INDEX, inner.clone()).index().expect("Go reads it");
        assert_eq!((&*read.manifests[0].annotations["a"], &*read.manifests[0].annotations["b"]), ("", "c"));
        for (media_type, text) in
            [(MediaType::MANIFEST, manifest), (MediaType::INDEX, index), (MediaType::INDEX, inner)]
        {
            let document = Document::new(media_type, text);
            Contents::of(&document).map(drop).expect("it is taken");
        }
    }

    #[test]
    fn a_layer_with_addresses_of_its_own_need_not_be_here() {
        let (config, layer) = (Digest::of(b"c"), Digest::of(b"l"));
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{config}","size":1}},
                "layers":[{{"digest":"{layer}","size":1,"urls":["https://example.org/l"]}}]}}"#
        );
        let manifest = Document::new(MediaType::MANIFEST, text);
        let contents = Contents::of(&manifest).expect("it is a manifest");
        assert_eq!(contents.wanted.iter().map(|wanted| &wanted.digest).collect::<Vec<_>>(), [&config]);
        let blobs = manifest.blobs().expect("it is a manifest");
        assert_eq!(blobs.iter().map(|blob| &blob.digest).collect::<Vec<_>>(), [&config]);
    }

    #[test]
    fn ranges_stay_inside() {
        let digest = Digest::of(b"0123");
        assert_eq!(range_within(&digest, 4, None).expect("all of it"), 0..4);
        assert_eq!(range_within(&digest, 4, Some(1..4)).expect("a part"), 1..4);
        #[expect(clippy::reversed_empty_ranges, reason = "it is what must be refused")]
        let outside = [4..5, 0..5, 2..2, 3..1];
        for range in outside {
            assert!(range_within(&digest, 4, Some(range.clone())).is_err(), "{range:?}");
        }
    }
}
