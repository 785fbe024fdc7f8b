//! Documents of a repository: image manifests and image indexes, kept as the bytes they came in.
//!
//! OCI image specification 1.1, "Image Manifest" and "Image Index"; Docker schema 2 is read as its twin. A
//! document is never written again from its parsed form: fields that we do not know stay.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Digest, Error, ErrorKind, Platform};

/// The media types that matter here.
pub struct MediaType;

impl MediaType {
    /// An OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer, a tar archive compressed with gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer compressed with Zstandard.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A layer that is not compressed.
    pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A configuration that holds nothing.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// A Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A Docker layer compressed with gzip.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

    /// Whether it names an index of several images.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, Self::INDEX | Self::DOCKER_LIST)
    }

    /// Whether it names a manifest of one image or artifact.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, Self::MANIFEST | Self::DOCKER_MANIFEST)
    }
}

/// What points at content: type, digest, size and what else is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    #[serde(default, deserialize_with = "nothing_or")]
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "platform_fields")]
    pub platform: Option<Platform>,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor of bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// A descriptor with nothing but the three fields that every one has.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let media_type = media_type.to_owned();
        Self { media_type, digest, size, platform: None, artifact_type: None, annotations: BTreeMap::new() }
    }
}

/// `null` for something that is empty: so Go writes lists and maps that were never made.
pub(super) fn nothing_or<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Annotations, where `null` for all of them is none and for one of them is empty: so Go reads them.
pub(super) fn texts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let found = Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(found.into_iter().map(|(name, text)| (name, text.unwrap_or_default())).collect())
}

/// The platform of a descriptor is an object of fields, not a text.
mod platform_fields {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Platform;

    #[derive(Serialize, Deserialize)]
    struct Fields {
        #[serde(default, deserialize_with = "super::nothing_or")]
        architecture: String,
        #[serde(default, deserialize_with = "super::nothing_or")]
        os: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variant: Option<String>,
    }

    #[expect(clippy::ref_option, reason = "the signature that serde wants")]
    pub(super) fn serialize<S: Serializer>(
        platform: &Option<Platform>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        platform
            .as_ref()
            .map(|platform| Fields {
                architecture: platform.architecture().to_owned(),
                os: platform.os().to_owned(),
                variant: platform.variant().map(str::to_owned),
            })
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Platform>, D::Error> {
        let fields = Option::<Fields>::deserialize(deserializer)?;
        Ok(fields
            .map(|fields| Platform::from_fields(&fields.os, &fields.architecture, fields.variant.as_deref())))
    }
}

/// What another document is about.
pub type Subject = Descriptor;

/// The parsed form of an image manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u8,
    /// The media type of the manifest itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "nothing_or")]
    pub layers: Vec<Descriptor>,
    /// What this document is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Annotations.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// An image of the OCI image specification, about nothing and without annotations.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// How large its layers are together, in bytes, as they are kept.
    pub fn layer_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// The parsed form of an image index.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u8,
    /// The media type of the index itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests in it.
    #[serde(default, deserialize_with = "nothing_or")]
    pub manifests: Vec<Descriptor>,
    /// What this document is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Annotations.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    /// An index of the OCI image specification, about nothing and without annotations.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A manifest or index as the bytes that its digest is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    media_type: String,
    digest: Digest,
    bytes: Bytes,
}

impl Document {
    /// The largest document that is kept or read: 4 MiB, as the distribution specification suggests.
    pub const BYTES_LIMIT: usize = 4 << 20;

    /// A document of bytes of a media type, with its SHA-256 digest.
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.to_owned(), digest: Digest::of(&bytes), bytes }
    }

    /// A document whose digest is known already, perhaps of another algorithm.
    ///
    /// # Errors
    /// Where the bytes do not have that digest.
    pub fn with_digest(media_type: &str, bytes: impl Into<Bytes>, digest: Digest) -> Result<Self, Error> {
        let bytes = bytes.into();
        let mut hasher = super::Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        match found == digest {
            true => Ok(Self { media_type: media_type.to_owned(), digest, bytes }),
            false => Err(Error::new(
                ErrorKind::Mismatch,
                format!("document {digest} has in truth the digest {found}"),
            )),
        }
    }

    /// An image manifest, written in one fixed way: same content, same bytes.
    pub fn of_manifest(manifest: &Manifest) -> Self {
        Self::written(manifest.media_type.as_deref().unwrap_or(MediaType::MANIFEST), manifest)
    }

    /// An image index, written in one fixed way: same content, same bytes.
    pub fn of_index(index: &ImageIndex) -> Self {
        Self::written(index.media_type.as_deref().unwrap_or(MediaType::INDEX), index)
    }

    fn written(media_type: &str, value: &impl Serialize) -> Self {
        Self::new(media_type, serde_json::to_vec(value).expect("documents are plain JSON"))
    }

    /// Its media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A descriptor of it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.bytes.len() as u64)
    }

    /// Whether it is an index of several images.
    pub fn is_index(&self) -> bool {
        MediaType::is_index(&self.media_type)
    }

    /// Its parsed form as a manifest.
    ///
    /// # Errors
    /// Where it is no image manifest.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        self.parsed("image manifest")
    }

    /// Its parsed form as an index.
    ///
    /// # Errors
    /// Where it is no image index.
    pub fn index(&self) -> Result<ImageIndex, Error> {
        self.parsed("image index")
    }

    fn parsed<T: for<'de> Deserialize<'de>>(&self, what: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("read {} as an {what}", self.digest)).because(error)
        })
    }
}
