//! What is said of an image, in the form that others read: in-toto Statement v1.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::defence::{Defence, stands};
use crate::oci::{Algorithm, Digest};

const TYPE: &str = "https://in-toto.io/Statement/v1";
/// Statements of before, which cosign still writes.
const OLD_TYPE: &str = "https://in-toto.io/Statement/v0.1";

/// What kind of thing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing but that the signer stands for it.
    Signature,
    /// Which packages are in it.
    Bill,
    /// How it was made.
    Provenance,
    /// That the signer stands for a record of the store, byte for byte, which is no image.
    Record,
}

impl Kind {
    /// The type of the predicate, by which others know it.
    pub(crate) fn predicate_type(self) -> &'static str {
        match self {
            Self::Signature => "https://sigstore.dev/cosign/sign/v1",
            Self::Bill => "https://spdx.dev/Document",
            Self::Provenance => "https://slsa.dev/provenance/v1",
            Self::Record => "urn:polyarch:record:v1",
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Bill => "bill of materials",
            Self::Provenance => "provenance",
            Self::Record => "signed record",
        }
    }
}

/// One statement.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct Subject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    digest: std::collections::BTreeMap<String, String>,
}

impl Statement {
    /// A statement about a digest.
    pub(super) fn new(kind: Kind, subject: &Digest, predicate: Value) -> Self {
        let digest = [(subject.algorithm().name().to_owned(), subject.hex().to_owned())];
        Self {
            kind: TYPE.to_owned(),
            subject: vec![Subject { name: None, digest: digest.into_iter().collect() }],
            predicate_type: kind.predicate_type().to_owned(),
            predicate,
        }
    }

    /// Its bytes: same statement, same bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and maps are plain JSON")
    }

    /// Whether bytes are a statement of this kind about this digest, and about nothing else.
    pub(super) fn is_about(bytes: &[u8], kind: Kind, subject: &Digest) -> Result<(), &'static str> {
        Self::said(bytes, kind, subject).map(drop)
    }

    /// The same, with what it says.
    pub(super) fn said(bytes: &[u8], kind: Kind, subject: &Digest) -> Result<Value, &'static str> {
        let read: Self = serde_json::from_slice(bytes).map_err(|_| "it is no in-toto statement")?;
        if read.kind != TYPE && read.kind != OLD_TYPE {
            return Err("it is no in-toto statement");
        }
        if read.predicate_type != kind.predicate_type() && stands(Defence::Kinds) {
            return Err("it says something of another kind");
        }
        let about = |one: &Subject| {
            let hex = one.digest.get(subject.algorithm().name());
            subject.algorithm() == Algorithm::Sha256 && hex.is_some_and(|hex| hex == subject.hex())
        };
        match read.subject.as_slice() {
            [one] if about(one) || !stands(Defence::Subjects) => Ok(read.predicate),
            _ => Err("it is about something else"),
        }
    }
}
