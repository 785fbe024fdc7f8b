//! Records as the documents that they are kept in, for whoever brings them from one store to another.

use crate::family::JobId;
use crate::oci::{Descriptor, Digest, Document, Error, Tag};

use super::{CheckRecord, ImageRecord, RecordKind, Records, parse};

/// A record on its way into another store, byte for byte as it was kept: whatever was said of it still holds.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    document: Document,
    image: Descriptor,
    record: Record,
}

#[derive(Clone, Debug)]
enum Record {
    Image(Box<ImageRecord>),
    Checks(Box<CheckRecord>),
}

impl Carried {
    /// Read a record and the image that it is of. The tags that it gets are made of what it says, and of nothing else.
    ///
    /// # Errors
    /// Where it is no record of this version, or does not agree with itself.
    pub(crate) fn read(document: Document) -> Result<Self, String> {
        let image = only_image(&document)?;
        let record = match parse::<ImageRecord>(&document, None) {
            Ok(record) => Record::Image(Box::new(record)),
            Err(why) => match parse::<CheckRecord>(&document, None) {
                Ok(record) => Record::Checks(Box::new(record)),
                Err(_) => return Err(why),
            },
        };
        let carried = Self { document, image, record };
        carried.agrees().map(|()| carried)
    }

    /// The job that it is of.
    pub(crate) fn job(&self) -> &str {
        match &self.record {
            Record::Image(record) => &record.job,
            Record::Checks(record) => &record.job,
        }
    }

    /// The image that it is of.
    pub(crate) fn image(&self) -> &Descriptor {
        &self.image
    }

    /// What was built, where it says that.
    pub(crate) fn built(&self) -> Option<&ImageRecord> {
        match &self.record {
            Record::Image(record) => Some(record),
            Record::Checks(_) => None,
        }
    }

    /// The document.
    pub(crate) fn document(&self) -> &Document {
        &self.document
    }

    fn agrees(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("the record of {} {what}", self.job()));
        let Ok(job) = self.job().parse::<JobId>() else {
            return wrong("names no job");
        };
        let (named, platform) = match &self.record {
            Record::Image(record) => (&record.image, Some(&record.platform)),
            Record::Checks(record) => (&record.image, None),
        };
        if *named != self.image.digest {
            return wrong("is of another image than the one beside it");
        }
        match platform.is_some_and(|platform| *platform != job.platform) {
            true => wrong("is for another platform than its job"),
            false => Ok(()),
        }
    }

    fn tags(&self) -> [Tag; 2] {
        match &self.record {
            Record::Image(record) => RecordKind::Image.tags(&record.key, &record.job),
            Record::Checks(record) => RecordKind::Checks.tags(&record.key, &record.job),
        }
    }
}

fn only_image(document: &Document) -> Result<Descriptor, String> {
    let index = document.index().map_err(|error| error.to_string())?;
    match <[Descriptor; 1]>::try_from(index.manifests) {
        Ok([image]) => Ok(image),
        Err(others) => Err(format!("it is of {} images, and a record is of one", others.len())),
    }
}

impl Records {
    /// The records under an image key and under a check key, as they are kept; those that are not there are left out.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn carry(&self, image: &Digest, checks: Option<&Digest>) -> Result<Vec<Carried>, Error> {
        let keys = [(RecordKind::Image, Some(image)), (RecordKind::Checks, checks)];
        let mut found = Vec::new();
        for (kind, key) in keys {
            let Some(key) = key else { continue };
            let kept = self.kept(kind, key).await?.into_iter();
            found.extend(kept.filter_map(|kept| Carried::read(kept.document).ok()).next());
        }
        Ok(found)
    }

    /// Keep a record of another store. Its image must be in the scope.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn take(&self, record: &Carried) -> Result<(), Error> {
        if let Some(built) = record.built() {
            self.set_aside(built).await?;
        }
        self.keep(&record.document, &record.tags()).await
    }
}
