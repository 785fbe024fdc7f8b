//! Files of jobs, from one store into another; and files that somebody else made.

mod hostile;
mod round;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::export::{Blobs, pack};
use crate::oci::{Digest, Document, Manifest, MediaType, Memory, fixture};
use crate::record::{CheckRecord, ImageRecord, RECORD_VERSION, Records};

const JOB: &str = "base@linux/amd64";

/// The records of a new store in memory.
fn shop() -> Records {
    Records::new(Arc::new(Memory::new()), "scopes/trusted".parse().expect("a scope"))
}

/// The configuration of an image for a platform, with so many layers.
fn configuration(architecture: &str, layers: usize) -> String {
    let diff_ids: Vec<Digest> = (0..layers).map(|at| Digest::of(&[at as u8])).collect();
    let rootfs = serde_json::json!({ "type": "layers", "diff_ids": diff_ids });
    serde_json::json!({ "os": "linux", "architecture": architecture, "rootfs": rootfs }).to_string()
}

/// An image of these layers, on images that stand, with both of its records.
async fn built(records: &Records, job: &str, layers: &[&str], parents: &[&ImageRecord]) -> ImageRecord {
    let Records { store, scope, .. } = records;
    let config = configuration("amd64", layers.len());
    let config = fixture::blob(&**store, scope, MediaType::CONFIG, config).await;
    let mut content = Vec::new();
    for layer in layers {
        content.push(fixture::blob(&**store, scope, MediaType::LAYER_GZIP, layer).await);
    }
    let bytes = content.iter().map(|layer| layer.size).sum();
    let image = Document::of_manifest(&Manifest::new(config.clone(), content));
    let image = fixture::keep(&**store, scope, image, &[]).await;
    let record = ImageRecord {
        version: RECORD_VERSION,
        job: job.to_owned(),
        key: Digest::of(job.as_bytes()),
        inputs: BTreeMap::new(),
        platform: "linux/amd64".parse().expect("a platform"),
        image: image.digest().clone(),
        size: image.bytes().len() as u64,
        config: config.digest,
        bytes,
        parents: parents.iter().map(|parent| (parent.job.clone(), parent.image.clone())).collect(),
        builder: "local".to_owned(),
        emulated: false,
        cached: false,
        built_at_seconds: 1,
        milliseconds: 1,
    };
    records.keep_image(&record).await.expect("a record");
    records.keep_checks(&checks(&record), &record).await.expect("a record");
    record
}

/// What was found in an image.
fn checks(record: &ImageRecord) -> CheckRecord {
    CheckRecord {
        version: RECORD_VERSION,
        job: record.job.clone(),
        key: Digest::of(format!("checks of {}", record.job).as_bytes()),
        image: record.image.clone(),
        inputs: BTreeMap::new(),
        tests: vec![("true".to_owned(), 1)],
        tags: vec!["v1".to_owned()],
        descriptions: vec![],
    }
}

/// The file of a job, with its checks.
async fn file(records: &Records, record: &ImageRecord) -> Vec<u8> {
    let delta = Delta::read(records, record, Some(&checks(record).key)).await.expect("what it has added");
    let Records { store, scope, .. } = records.clone();
    let blobs = Blobs::new(store, scope, tokio::runtime::Handle::current());
    let work = move || {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let plain = crate::config::Compression::None;
        pack(delta.entries(), plain, &blobs, file.reopen().expect("it"), 1, &|_| {}).expect("it is written");
        std::fs::read(file.path()).expect("its bytes")
    };
    tokio::task::spawn_blocking(work).await.expect("it ends")
}

/// Take files in, in this order.
async fn take(records: &Records, files: &[&[u8]]) -> Result<Vec<Arrived>, Fault> {
    let files: Vec<Vec<u8>> = files.iter().map(|file| file.to_vec()).collect();
    let mut incoming = Incoming::new(records.clone(), tokio::runtime::Handle::current(), Arc::default());
    let work = move || {
        files.iter().try_for_each(|file| incoming.read(&**file))?;
        incoming.finish()
    };
    tokio::task::spawn_blocking(work).await.expect("it ends")
}

/// Everything that names something in a store: its tags, and its documents' digests.
async fn names(records: &Records) -> Vec<String> {
    let Records { store, scope, .. } = records;
    let tags = store.tags(scope, None, 1000).await.expect("tags");
    tags.iter().map(ToString::to_string).collect()
}
