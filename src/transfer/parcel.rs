//! The file of a job, read entry by entry: nothing is believed that was not named before, with its size.
//!
//! Only ordinary entries of POSIX.1-1988 archives with whole names are read. What other entries could say of names, sizes
//! and links, two readers may understand in two ways (TM13), so that there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use crate::defence::{Defence, stands};
use crate::export::LAYOUT;
use crate::oci::{Descriptor, Digest, Document, Error, MediaType};
use crate::record::Carried;

/// How many entries a file may have: an image has at most 127 layers.
const ENTRIES_LIMIT: usize = 1000;
/// How many bytes all entries of a file may have.
const BYTES_LIMIT: u64 = 64 << 30;
/// How many bytes the records and manifests of a file may have, which are in memory at once. A job has three of them, each of
/// at most 4 MiB.
const DOCUMENTS_LIMIT: u64 = 16 << 20;
/// How long what follows the last entry may be, in bytes: archives are padded with zeros.
const PADDING_LIMIT: u64 = 1 << 20;

/// Why a file cannot be taken in.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is something else than a file of a job: why that shows.
    Foreign(String),
    /// It does not agree with itself: where in it, and why.
    Refused(String),
    /// It stands on content that is in no file and not in the store.
    Incomplete {
        /// The job.
        job: String,
        /// How many blobs are missing.
        missing: usize,
        /// One of them.
        first: Digest,
    },
    /// It cannot be read.
    Unreadable(io::Error),
    /// The store fails.
    Store(Error),
    /// A signal came.
    Stopped,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// Where the blobs of a file go, as they come.
pub(super) trait Place {
    /// Take in a blob, and see that it has this digest.
    ///
    /// # Errors
    /// `Refused` where it has another one, and where it cannot be kept.
    fn blob(&mut self, blob: &Descriptor, bytes: &mut dyn Read) -> Result<(), Fault>;
}

/// What stands in a file beside its blobs.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    /// The records, as they came.
    pub(super) records: Vec<Carried>,
    /// The manifests of their images.
    pub(super) manifests: BTreeMap<Digest, Document>,
    named: BTreeMap<Digest, (Kind, Descriptor)>,
    come: BTreeSet<Digest>,
    /// How many bytes the documents have that have come.
    documents_bytes: u64,
}

/// What an entry is to the one that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Record,
    Manifest,
    Blob,
}

impl Parcel {
    /// Read a file, and bring its blobs to their place.
    ///
    /// # Errors
    /// Where it is no file of a job, or its blobs cannot be kept.
    pub(super) fn read(file: impl Read, place: &mut dyn Place) -> Result<Self, Fault> {
        let mut parcel = Self::default();
        let mut archive = tar::Archive::new(file);
        let (mut at, mut bytes) = (0, 0_u64);
        for entry in archive.entries().map_err(unreadable)?.raw(true) {
            let mut entry = entry.map_err(|error| match (at, unreadable(error)) {
                (0, Fault::Refused(why)) => Fault::Foreign(format!("it is no archive: {why}")),
                (_, fault) => fault,
            })?;
            at += 1;
            let (name, size) = ordinary(&entry).map_err(|why| refused(at, "", &why))?;
            bytes = bytes.saturating_add(size);
            if (at > ENTRIES_LIMIT || bytes > BYTES_LIMIT) && stands(Defence::ImportLimits) {
                let limit = format!("{ENTRIES_LIMIT} entries and {} GiB", BYTES_LIMIT >> 30);
                return Err(refused(at, &name, &format!("a file has at most {limit}")));
            }
            parcel.entry(at, &name, size, &mut entry, place).map_err(|fault| fault.at(at, &name))?;
        }
        only_zeros(archive.into_inner())?;
        match parcel
            .named
            .iter()
            .find(|(digest, (kind, _))| *kind != Kind::Blob && !parcel.come.contains(*digest))
        {
            Some((digest, _)) => Err(Fault::Refused(format!("{digest} is named in it and does not come"))),
            None if at == 0 => Err(Fault::Foreign("there is nothing in it".to_owned())),
            None if parcel.records.is_empty() => Err(Fault::Refused("there is no record in it".to_owned())),
            None => Ok(parcel),
        }
    }

    fn entry(
        &mut self,
        at: usize,
        name: &str,
        size: u64,
        bytes: &mut dyn Read,
        place: &mut dyn Place,
    ) -> Result<(), Fault> {
        match at {
            1 if name == "oci-layout" => match whole(bytes, size)? == LAYOUT.as_bytes() {
                true => Ok(()),
                false => Err(Fault::Refused(format!("it should say {LAYOUT}"))),
            },
            2 if name == "index.json" => {
                let list = Document::new(MediaType::INDEX, whole(bytes, size)?).index().map_err(unfit)?;
                list.manifests.into_iter().try_for_each(|record| self.name(Kind::Record, record))
            }
            1 => Err(Fault::Foreign(format!(
                "the first entry of one is `oci-layout`, and here {}",
                named(name)
            ))),
            2 => Err(Fault::Refused("the second entry is `index.json`".to_owned())),
            _ => self.content(name, size, bytes, place),
        }
    }

    fn content(
        &mut self,
        name: &str,
        size: u64,
        bytes: &mut dyn Read,
        place: &mut dyn Place,
    ) -> Result<(), Fault> {
        let refuse = |why: &str| Err(Fault::Refused(why.to_owned()));
        let hex = name.strip_prefix("blobs/sha256/");
        let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()) else {
            return refuse("content is at blobs/sha256/ and 64 digits");
        };
        let Some((kind, named)) = self.named.get(&digest).cloned() else {
            return refuse("no entry before it names it");
        };
        if !self.come.insert(digest.clone()) && stands(Defence::ImportNamed) {
            return refuse("it comes twice");
        }
        if named.size != size {
            return refuse(&format!("it has {size} bytes, and was named with {}", named.size));
        }
        if kind != Kind::Blob {
            self.documents_bytes = self.documents_bytes.saturating_add(size);
        }
        if self.documents_bytes > DOCUMENTS_LIMIT && stands(Defence::ImportLimits) {
            let limit = DOCUMENTS_LIMIT >> 20;
            return refuse(&format!("the records and manifests of a file have at most {limit} MiB"));
        }
        match kind {
            Kind::Record => {
                let document = document(MediaType::INDEX, bytes, size, digest)?;
                let record = Carried::read(document).map_err(Fault::Refused)?;
                self.name(Kind::Manifest, record.image().clone())?;
                self.records.push(record);
                Ok(())
            }
            Kind::Manifest => {
                let document = document(MediaType::MANIFEST, bytes, size, digest.clone())?;
                let mut content = document.blobs().map_err(unfit)?.into_iter();
                content.try_for_each(|blob| self.name(Kind::Blob, blob))?;
                self.manifests.insert(digest, document);
                Ok(())
            }
            Kind::Blob => place.blob(&named, bytes),
        }
    }

    /// Something may come, as this and of this size. Two that name it must agree.
    fn name(&mut self, kind: Kind, content: Descriptor) -> Result<(), Fault> {
        let known = self.named.entry(content.digest.clone()).or_insert_with(|| (kind, content.clone()));
        match known.0 == kind && known.1.size == content.size {
            true => Ok(()),
            false => Err(Fault::Refused(format!("{} is named in two ways", content.digest))),
        }
    }
}

impl Fault {
    /// The same, with the entry in which it is.
    fn at(self, at: usize, name: &str) -> Self {
        match self {
            Self::Refused(why) => refused(at, name, &why),
            other => other,
        }
    }
}

fn refused(at: usize, name: &str, why: &str) -> Fault {
    let named = if name.is_empty() { String::new() } else { format!(", {}", named(name)) };
    Fault::Refused(format!("entry {at}{named}: {why}"))
}

/// The name of an entry, as it is told.
fn named(name: &str) -> String {
    format!("`{}`", name.chars().take(120).flat_map(char::escape_default).collect::<String>())
}

fn unreadable(error: io::Error) -> Fault {
    match error.kind() {
        // The reader of archives says so of what is no archive.
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Fault::Refused(error.to_string())
        }
        _ => Fault::Unreadable(error),
    }
}

fn unfit(error: Error) -> Fault {
    Fault::Refused(crate::diag::Diagnostic::request("").caused_by(&error).to_string())
}

/// The name and size of an entry that is an ordinary file and says nothing else.
fn ordinary<R: Read>(entry: &tar::Entry<'_, R>) -> Result<(String, u64), String> {
    let header = entry.header();
    // As it is written: the reader takes zero, which once said the same, for `0`.
    let kind = header.as_old().linkflag[0];
    if kind != b'0' {
        let kind = char::from(kind).escape_default();
        return Err(format!("it is of the type `{kind}`, and only files may come"));
    }
    let name = std::str::from_utf8(&header.path_bytes()).map(str::to_owned);
    let name = name.map_err(|_| "its name is no UTF-8".to_owned())?;
    let size = header.entry_size().map_err(|error| error.to_string())?;
    Ok((name, size))
}

/// The bytes of a small entry.
fn whole(bytes: &mut dyn Read, size: u64) -> Result<Vec<u8>, Fault> {
    let limit = Document::BYTES_LIMIT as u64;
    if size > limit {
        return Err(Fault::Refused(format!("it has {size} bytes, and a document has at most {limit}")));
    }
    let mut all = Vec::new();
    bytes.take(size).read_to_end(&mut all).map_err(unreadable)?;
    match all.len() as u64 == size {
        true => Ok(all),
        false => Err(Fault::Refused("the file ends in the middle of it".to_owned())),
    }
}

fn document(media_type: &str, bytes: &mut dyn Read, size: u64, digest: Digest) -> Result<Document, Fault> {
    Document::with_digest(media_type, whole(bytes, size)?, digest).map_err(unfit)
}

/// What follows the last entry is nothing but padding: another reader might find more entries there.
fn only_zeros(rest: impl Read) -> Result<(), Fault> {
    let mut all = Vec::new();
    rest.take(PADDING_LIMIT + 1).read_to_end(&mut all).map_err(Fault::Unreadable)?;
    match all.len() as u64 <= PADDING_LIMIT && all.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(Fault::Refused("something follows its end".to_owned())),
    }
}
