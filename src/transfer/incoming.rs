//! Files of jobs on their way into the store: first all of their blobs, then manifests, then records.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::parcel::{Fault, Parcel, Place};
use crate::defence::{Defence, stands};
use crate::oci::{Descriptor, Digest, Document, ErrorKind, Hasher, ImageConfiguration, Upload};
use crate::record::{Carried, Records};

/// How much is handed to the store at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// Files that are taken in together, in any order. Clones share the sign to stop.
pub(crate) struct Incoming {
    records: Records,
    runtime: Handle,
    stopped: Arc<AtomicBool>,
    parcels: Vec<Parcel>,
}

/// What has come of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// The job, as `image:variant@platform`.
    pub(crate) job: String,
    /// The manifest of its image.
    pub(crate) image: Digest,
    /// Whether its checks have passed, and the record of it came with it.
    pub(crate) is_checked: bool,
    /// The refresh epoch that it was built in.
    pub(crate) epoch: u64,
}

impl Incoming {
    /// Nothing yet, on its way into a scope. It is read on a thread beside this runtime, until the sign.
    pub(crate) fn new(records: Records, runtime: Handle, stopped: Arc<AtomicBool>) -> Self {
        Self { records, runtime, stopped, parcels: Vec::new() }
    }

    /// Read one file and keep its blobs. None of them is named by anything before [`Self::finish`].
    ///
    /// # Errors
    /// Where it is no file of a job, cannot be read or cannot be kept.
    pub(crate) fn read(&mut self, file: impl Read) -> Result<(), Fault> {
        let parcel = Parcel::read(file, &mut Shelved(self))?;
        self.parcels.push(parcel);
        Ok(())
    }

    /// Keep the manifests and the records of all files, once everything that they name is there. Either all that can be
    /// known to be wrong is found before the first record is kept, or nothing is.
    ///
    /// # Errors
    /// Where something is missing or does not agree, or the store fails.
    pub(crate) fn finish(self) -> Result<Vec<Arrived>, Fault> {
        for parcel in &self.parcels {
            for record in &parcel.records {
                self.check(record, parcel)?;
            }
        }
        let scope = &self.records.scope;
        let all = self.parcels.iter().flat_map(|parcel| &parcel.records);
        let checked: BTreeSet<Digest> = { all.filter(|record| record.built().is_none()) }
            .map(|record| record.image().digest.clone())
            .collect();
        let mut arrived: Vec<Arrived> = Vec::new();
        for parcel in &self.parcels {
            for manifest in parcel.manifests.values() {
                self.runtime.block_on(self.records.store.write_document(scope, manifest, &[]))?;
            }
            for record in &parcel.records {
                self.runtime.block_on(self.records.take(record))?;
            }
            arrived.extend(parcel.records.iter().filter_map(Carried::built).map(|built| Arrived {
                job: built.job.clone(),
                image: built.image.clone(),
                is_checked: checked.contains(&built.image),
                epoch: built.epoch(),
            }));
        }
        Ok(arrived)
    }

    /// See that the image of a record is whole, and is what the record says.
    fn check(&self, record: &Carried, parcel: &Parcel) -> Result<(), Fault> {
        let refuse = |why: &str| Err(Fault::Refused(format!("the record of {} {why}", record.job())));
        let Some(manifest) = parcel.manifests.get(&record.image().digest) else {
            return refuse("names an image that does not come");
        };
        let mut missing = Vec::new();
        for blob in manifest.blobs()? {
            if !self.runtime.block_on(self.bring(&blob))? {
                missing.push(blob.digest);
            }
        }
        if let Some(first) = missing.first().cloned() {
            return Err(Fault::Incomplete { job: record.job().to_owned(), missing: missing.len(), first });
        }
        let manifest = Document::manifest(manifest)?;
        let Some(built) = record.built() else { return Ok(()) };
        if built.config != manifest.config.digest && stands(Defence::ImportRecord) {
            return refuse("names another configuration than its image");
        }
        let Records { store, scope, .. } = &self.records;
        let read = self.runtime.block_on(ImageConfiguration::read(&**store, scope, &manifest.config));
        let configuration = match read {
            Ok(configuration) => configuration,
            Err(error) if error.kind() == ErrorKind::Invalid => return refuse("is of no image"),
            Err(error) => return Err(error.into()),
        };
        if configuration.platform().as_ref() != Some(&built.platform) && stands(Defence::ImportRecord) {
            return refuse(&format!("is for {}, and its image is not", built.platform));
        }
        match configuration.layers().count() == manifest.layers.len() {
            true => Ok(()),
            false => refuse("is of an image that has not as many layers as it says"),
        }
    }

    /// Whether a blob is in the scope, perhaps since another scope of the store has it.
    async fn bring(&self, blob: &Descriptor) -> Result<bool, Fault> {
        let Records { store, scope, .. } = &self.records;
        if let Some(size) = store.blob_size(scope, &blob.digest).await? {
            return Ok(size == blob.size);
        }
        for holder in store.holders(&blob.digest).await? {
            if store.mount_blob(scope, &blob.digest, &holder).await? {
                return Ok(store.blob_size(scope, &blob.digest).await? == Some(blob.size));
            }
        }
        Ok(false)
    }
}

/// Blobs go into the scope as they come.
struct Shelved<'a>(&'a Incoming);

impl Place for Shelved<'_> {
    fn blob(&mut self, blob: &Descriptor, bytes: &mut dyn Read) -> Result<(), Fault> {
        let Incoming { records: Records { store, scope, .. }, runtime, stopped, .. } = self.0;
        // What is there already is read all the same: whether a file is taken does not depend on what came before it.
        let is_there = runtime.block_on(store.blob_size(scope, &blob.digest))? == Some(blob.size);
        let mut sink = match is_there {
            true => Sink::Hasher(Hasher::new(blob.digest.algorithm())),
            false => Sink::Upload(runtime.block_on(store.start_upload(scope))?),
        };
        let mut size = 0;
        loop {
            if stopped.load(Ordering::SeqCst) {
                return Err(Fault::Stopped);
            }
            let piece = piece(bytes).map_err(Fault::Unreadable)?;
            if piece.is_empty() {
                break;
            }
            size += piece.len() as u64;
            match &mut sink {
                Sink::Hasher(hasher) => hasher.update(&piece),
                Sink::Upload(upload) => runtime.block_on(upload.write(piece))?,
            }
        }
        if size != blob.size {
            return Err(Fault::Refused("the file ends in the middle of it".to_owned()));
        }
        let agrees = match sink {
            Sink::Hasher(hasher) => hasher.finish() == blob.digest,
            // It hashes what it is given, and keeps nothing that is something else.
            Sink::Upload(upload) => match runtime.block_on(upload.finish(&blob.digest)) {
                Err(error) if error.kind() == ErrorKind::Mismatch => false,
                finished => finished.map(|()| true)?,
            },
        };
        match agrees {
            true => Ok(()),
            false => Err(Fault::Refused("its bytes have another digest".to_owned())),
        }
    }
}

/// Where the bytes of a blob go.
enum Sink {
    /// Nowhere: it is there, and is only hashed.
    Hasher(Hasher),
    /// Into the store.
    Upload(Box<dyn Upload>),
}

/// The next bytes, up to [`PIECE_BYTES`]; none at the end.
fn piece(bytes: &mut dyn Read) -> std::io::Result<Bytes> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    bytes.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
    Ok(piece.into())
}
