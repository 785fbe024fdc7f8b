//! Exports of small families: which files there are, what is in them, how they come to stand.

mod contents;
mod files;
mod names;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::write::write;
use super::*;
use crate::config::FamilyFile;
use crate::diag::Result;
use crate::family::{Family, Found, JobId, Sources};
use crate::oci::{Descriptor, Digest, Document, Manifest, MediaType, Memory, Repository, fixture};
use crate::publish::RunFacts;
use crate::record::{CheckRecord, ImageRecord, Passed, RECORD_VERSION};

const SCOPE: &str = "scopes/trusted";

fn facts() -> RunFacts {
    RunFacts { date: "2026-11-21".to_owned(), commit: Some("0123456789abcdef".to_owned()) }
}

/// A family of these images, each in a folder of its own; or what is wrong with it.
fn family(config: &str, images: &[&str]) -> Result<Family> {
    let text = |image: &str| Found {
        path: format!("{image}/Dockerfile").into(),
        text: "FROM scratch\nLABEL a=b\n".to_owned(),
    };
    let sources = Sources {
        name: "family".to_owned(),
        file: Some(FamilyFile::parse("polyarch.toml".as_ref(), config)?),
        dockerfiles: images.iter().map(|image| text(image)).collect(),
        args: BTreeMap::new(),
        root_image: None,
        release: None,
        machine: "linux/amd64".parse().expect("a platform"),
    };
    Family::resolve(&sources)
}

/// A record of an image with this manifest.
fn passed(job: &JobId, manifest: &Document, config: &Digest) -> Passed {
    let key = Digest::of(b"key");
    Passed {
        checks: CheckRecord {
            version: RECORD_VERSION,
            job: job.to_string(),
            key: key.clone(),
            image: manifest.digest().clone(),
            inputs: BTreeMap::new(),
            tests: Vec::new(),
            tags: Vec::new(),
            descriptions: Vec::new(),
        },
        image: ImageRecord {
            version: RECORD_VERSION,
            job: job.to_string(),
            key,
            inputs: BTreeMap::new(),
            platform: job.platform.clone(),
            image: manifest.digest().clone(),
            size: manifest.bytes().len() as u64,
            config: config.clone(),
            bytes: 0,
            parents: BTreeMap::new(),
            builder: "local".to_owned(),
            emulated: false,
            cached: false,
            built_at_seconds: 0,
            milliseconds: 0,
        },
    }
}

/// How a layer of a test is packed.
#[derive(Clone, Copy, Debug)]
enum Packed {
    Plain,
    Gzip,
    Zstd,
}

impl Packed {
    fn pack(self, bytes: &[u8]) -> (&'static str, Vec<u8>) {
        match self {
            Self::Plain => (MediaType::LAYER_TAR, bytes.to_vec()),
            Self::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(bytes).expect("pack");
                (MediaType::LAYER_GZIP, gzip.finish().expect("pack"))
            }
            Self::Zstd => (MediaType::LAYER_ZSTD, zstd::stream::encode_all(bytes, 1).expect("pack")),
        }
    }
}

/// A store with images whose layers are these bytes, packed in these ways.
struct Shop {
    store: Arc<Memory>,
    scope: Repository,
}

impl Shop {
    fn new() -> Self {
        Self { store: Arc::new(Memory::new()), scope: SCOPE.parse().expect("a repository") }
    }

    async fn blob(&self, media_type: &str, bytes: impl AsRef<[u8]>) -> Descriptor {
        fixture::blob(&*self.store, &self.scope, media_type, bytes).await
    }

    /// An image; `told` are the diffIDs that its configuration names, the true ones where there are none.
    async fn image(&self, job: &JobId, layers: &[(&[u8], Packed)], told: Option<&[Digest]>) -> Passed {
        let mut descriptors = Vec::new();
        for (bytes, packed) in layers {
            let (media_type, bytes) = packed.pack(bytes);
            descriptors.push(self.blob(media_type, bytes).await);
        }
        let diff_ids: Vec<Digest> = layers.iter().map(|(bytes, _)| Digest::of(bytes)).collect();
        let diff_ids = told.unwrap_or(&diff_ids);
        let config = serde_json::json!({
            "os": job.platform.os(), "architecture": job.platform.architecture(),
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.blob(MediaType::CONFIG, config.to_string()).await;
        let manifest = Document::of_manifest(&Manifest::new(config.clone(), descriptors));
        let manifest = fixture::keep(&*self.store, &self.scope, manifest, &[]).await;
        passed(job, &manifest, &config.digest)
    }

    fn blobs(&self) -> Blobs {
        Blobs::new(self.store.clone(), self.scope.clone(), tokio::runtime::Handle::current())
    }
}

fn job(text: &str) -> JobId {
    text.parse().expect("a job")
}

/// The files of a family of the image `a`, which has passed on amd64 and arm64 with one layer each.
async fn two(shop: &Shop, config: &str) -> Vec<Archive> {
    let config = format!("platforms = [\"linux/amd64\", \"linux/arm64\"]\n{config}");
    let family = family(&config, &["a"]).expect("a family");
    let mut records = BTreeMap::new();
    for job in family.jobs() {
        let layer = job.to_string().repeat(1000);
        let passed = shop.image(&job, &[(layer.as_bytes(), Packed::Gzip)], None).await;
        records.insert(job, passed);
    }
    archives(&family, &Asked::default(), &records, &facts()).expect("files")
}
