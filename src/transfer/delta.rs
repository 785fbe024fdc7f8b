//! What one job has added to the store: a value, and the entries of its file.

use std::collections::BTreeSet;

use crate::export::{Entry, LAYOUT};
use crate::oci::{Descriptor, Digest, Document, Error, ErrorKind, ImageIndex};
use crate::record::{Carried, ImageRecord, Records};

/// The records of a job, its image, and the blobs that no image has which that stands on.
#[derive(Debug)]
pub(crate) struct Delta {
    records: Vec<Carried>,
    image: Document,
    blobs: Vec<Descriptor>,
}

impl Delta {
    /// Read what a job has added. Without a check key, or where no record stands under it, its checks are left out: so an
    /// image whose tests have failed can be looked at elsewhere.
    ///
    /// # Errors
    /// `NotFound` where its record is no longer there, and where the store fails.
    pub(crate) async fn read(
        records: &Records,
        built: &ImageRecord,
        checks: Option<&Digest>,
    ) -> Result<Self, Error> {
        let carried = records.carry(&built.key, checks).await?;
        if !carried.iter().any(|record| record.built() == Some(built)) {
            let what = format!("read the record of {}: it is not there any more", built.job);
            return Err(Error::new(ErrorKind::NotFound, what));
        }
        let image = records.store.read_document(&records.scope, &built.image.clone().into()).await?;
        let mut beside = BTreeSet::new();
        for parent in built.parents.values() {
            let parent = records.store.read_document(&records.scope, &parent.clone().into()).await?;
            beside.extend(parent.blobs()?.into_iter().map(|blob| blob.digest));
        }
        let mut blobs = image.blobs()?;
        blobs.retain(|blob| beside.insert(blob.digest.clone()));
        // What was found in another image of the same key would not be of this one.
        let records = carried.into_iter().filter(|record| record.image().digest == built.image).collect();
        Ok(Self { records, image, blobs })
    }

    /// The same with nothing in it but the record of its checks, for who has the rest already; `None` without one.
    pub(crate) fn of_checks(mut self) -> Option<Self> {
        self.records.retain(|record| record.built().is_none());
        self.blobs.clear();
        (!self.records.is_empty()).then_some(self)
    }

    /// Bytes of the blobs that are in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }

    /// Whether the checks of the image have passed, and say so in it.
    pub(crate) fn is_checked(&self) -> bool {
        self.records.iter().any(|record| record.built().is_none())
    }

    /// The entries of its file, each named by one before it.
    pub(crate) fn entries(self) -> Vec<Entry> {
        let documents = self.records.iter().map(Carried::document);
        let index = ImageIndex::new(documents.clone().map(Document::descriptor).collect());
        let mut entries = vec![
            Entry::of("oci-layout", LAYOUT),
            Entry::of("index.json", Document::of_index(&index).bytes().clone()),
        ];
        entries.extend(documents.map(Entry::document));
        entries.push(Entry::document(&self.image));
        entries.extend(self.blobs.into_iter().map(Entry::stored));
        entries
    }
}
