//! What jobs leave behind: records under keys, kept in the store as ordinary OCI content.
//!
//! The repository of a scope holds, beside the images: `image-<hex>` (what was built under an image key),
//! `checks-<hex>` (what was found under a check key) and `newest-<hex>` (the latest record of a job, for `why`).
//! Each is an image index whose one entry is the image, with the record as JSON in an annotation; so a record
//! keeps its image alive, and any registry can hold both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Platform};

/// The version of the format of records; a reader passes over others.
pub(crate) const RECORD_VERSION: u32 = 1;

/// What was built under an image key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// [`RECORD_VERSION`].
    pub(crate) version: u32,
    /// The job, as `image:variant@platform`.
    pub(crate) job: String,
    /// The image key.
    pub(crate) key: Digest,
    /// The inputs that the key was made of, by name, for `why`.
    pub(crate) inputs: BTreeMap<String, String>,
    /// The platform.
    pub(crate) platform: Platform,
    /// The image's manifest.
    pub(crate) image: Digest,
    /// The size of that manifest in bytes.
    pub(crate) size: u64,
    /// The image's configuration, byte for byte the engine's.
    pub(crate) config: Digest,
    /// Bytes of all layers, compressed.
    pub(crate) bytes: u64,
    /// The images of the family that it was built from, by unit.
    pub(crate) parents: BTreeMap<String, Digest>,
    /// The builder.
    pub(crate) builder: String,
    /// Whether it was built by emulation.
    pub(crate) emulated: bool,
    /// When the build ended, in seconds since 1970-01-01 UTC.
    pub(crate) built_at_seconds: u64,
    /// How long the build took.
    pub(crate) milliseconds: u64,
}

/// What was found under a check key: every test passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckRecord {
    /// [`RECORD_VERSION`].
    pub(crate) version: u32,
    /// The job.
    pub(crate) job: String,
    /// The check key.
    pub(crate) key: Digest,
    /// The image.
    pub(crate) image: Digest,
    /// The tests that passed, as a person would name them, and how long each took in milliseconds.
    pub(crate) tests: Vec<(String, u64)>,
    /// The tags that the taggers made, without platform or prefix, in the order of the taggers.
    pub(crate) tags: Vec<String>,
    /// The descriptions: heading and text.
    pub(crate) descriptions: Vec<(String, String)>,
}

/// Both records of a job that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// What was built.
    pub(crate) image: ImageRecord,
    /// What was found in it.
    pub(crate) checks: CheckRecord,
}
