//! What one repository holds, as files that say only that: the content itself lies in `blobs/`.
//!
//! | file in `repositories/NAME` | what it says |
//! |---|---|
//! | `_blobs/ALGORITHM-HEX` (empty) | the repository holds this blob |
//! | `_manifests/ALGORITHM-HEX` | it holds this document; in it, the media type |
//! | `_referrers/SUBJECT/ALGORITHM-HEX` (empty) | that document is about this subject, which need not be there |
//! | `_tags/TAG` | the descriptor of the document that the tag points at |
//! | `_lock` (empty) | who changes documents or tags holds a lock on it |
//!
//! No part of a repository's name begins with `_`, so these never meet the folder of another repository.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::disk::Draft;
use super::folders::{self, Folders, Lock};
use super::{keep, scrub};
use crate::oci::rules::{self, Contents, Role, Wanted};
use crate::oci::{Descriptor, Digest, Document, Error, ErrorKind, Hasher, Pointer, Repository, Tag, Terms};

/// One repository of the folder.
pub(super) struct Shelf<'a> {
    folders: &'a Folders,
    name: &'a Repository,
    folder: PathBuf,
    looks: Looks,
}

/// What it means to find that something is there (`keep.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    /// Somebody is told and relies on it: its age begins again.
    Promising,
    /// The same, where a lock keeps the collection away already.
    Locked,
    /// Nobody is told.
    Quiet,
}

impl<'a> Shelf<'a> {
    /// The repository of a name, whether it holds anything or not.
    pub(super) fn new(folders: &'a Folders, name: &'a Repository) -> Self {
        Self { folders, name, folder: folders.repository(name), looks: Looks::Promising }
    }

    /// The same for maintenance, which promises nothing to anyone.
    pub(super) fn quiet(folders: &'a Folders, name: &'a Repository) -> Self {
        Self { looks: Looks::Quiet, ..Self::new(folders, name) }
    }

    /// The same for whoever holds a lock that keeps the collection away.
    fn locked(folders: &'a Folders, name: &'a Repository) -> Self {
        Self { looks: Looks::Locked, ..Self::new(folders, name) }
    }

    /// Whether the file is there that says that something is held.
    fn finds(&self, path: &Path) -> Result<bool, Error> {
        match self.looks {
            Looks::Promising => keep::promise(self.folders, path),
            Looks::Locked => keep::renew(self.folders, path),
            Looks::Quiet => folders::is_file(path),
        }
    }

    /// The file that says that it holds a blob.
    pub(super) fn blob_mark(&self, digest: &Digest) -> PathBuf {
        self.folder.join("_blobs").join(file_name(digest))
    }

    /// The file that says that it holds a document.
    pub(super) fn document_file(&self, digest: &Digest) -> PathBuf {
        self.folder.join("_manifests").join(file_name(digest))
    }

    /// The folder of those that are about a subject.
    pub(super) fn referrers_folder(&self, subject: &Digest) -> PathBuf {
        self.folder.join("_referrers").join(file_name(subject))
    }

    /// The folder of its tags.
    pub(super) fn tags_folder(&self) -> PathBuf {
        self.folder.join("_tags")
    }

    /// The file of a tag.
    pub(super) fn tag_file(&self, tag: &Tag) -> PathBuf {
        self.tags_folder().join(tag.as_str())
    }

    /// The file and the size of a blob, where the repository holds it and the content is there (F-S3).
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
        let held = self.folders.is_there(&self.folder.join("_blobs"))?;
        match held && self.finds(&self.blob_mark(digest))? {
            true => self.content(digest),
            false => Ok(None),
        }
    }

    fn content(&self, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
        let path = self.folders.blob(digest);
        if !self.folders.is_there(path.parent().unwrap_or(&path))? {
            return Ok(None);
        }
        let Some(file) = folders::open(&path)? else { return Ok(None) };
        let failed = |error| Error::io(format!("look at `{}`", path.display()), error);
        let size = file.metadata().map_err(failed)?.len();
        // A length of nothing is what crashes and full disks leave; seeing it costs nothing (F-S1).
        let broken = size == 0 && Hasher::new(digest.algorithm()).finish() != *digest;
        Ok((!broken).then_some((file, size)))
    }

    /// Put a checked file under its digest, and then say that the repository holds it. One that is there already
    /// is replaced: its bytes are the same, or it was broken.
    pub(super) fn keep_blob(&self, file: Draft, digest: &Digest) -> Result<(), Error> {
        self.folders.sync(&file)?;
        let path = self.folders.blob(digest);
        let _hold = keep::shared(self.folders)?;
        self.folders.place(file, &path)?;
        self.folders.sync_folder(path.parent().unwrap_or(&path))?;
        self.folders.mark(&self.blob_mark(digest))
    }

    /// Take over a blob that another repository holds; `false` where that does not.
    pub(super) fn mount_blob(&self, digest: &Digest, from: &Repository) -> Result<bool, Error> {
        let _hold = keep::shared(self.folders)?;
        let found = Shelf::locked(self.folders, from).blob(digest)?.is_some();
        match found && self.folders.refresh(&self.folders.blob(digest))? {
            true => self.folders.mark(&self.blob_mark(digest)).map(|()| true),
            false => Ok(false),
        }
    }

    /// Say that the repository no longer holds a blob. The content stays for the others.
    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<(), Error> {
        let missing = || rules::not_found("blob", digest, self.name);
        let folder = self.folder.join("_blobs");
        if !self.folders.is_there(&folder)? {
            return Err(missing());
        }
        let lock = self.lock()?;
        for document in
            folders::names(&self.folder.join("_manifests"))?.iter().filter_map(|name| digest_of(name))
        {
            // What cannot be read refers to nothing that we could keep whole.
            let found = self.read_document(&document.clone().into()).and_then(|found| Contents::of(&found));
            if found.is_ok_and(|contents| contents.refers_to(digest)) {
                return Err(rules::in_use(digest, &document, self.name));
            }
        }
        lock.check()?;
        match self.folders.remove(&self.blob_mark(digest))? {
            true => self.folders.sync_folder(&folder),
            false => Err(missing()),
        }
    }

    /// What a pointer points at.
    pub(super) fn resolve(&self, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        if !self.folders.is_there(&self.folder)? {
            return Ok(None);
        }
        let digest = match pointer {
            Pointer::Digest(digest) => digest.clone(),
            Pointer::Tag(tag) => match self.tag(tag)? {
                // Asked for now: its age begins again.
                Some(target) if self.finds(&self.tag_file(tag))? => target.digest,
                _ => return Ok(None),
            },
        };
        if !self.folders.is_there(&self.folder.join("_manifests"))? {
            return Ok(None);
        }
        let path = self.document_file(&digest);
        if !self.finds(&path)? {
            return Ok(None);
        }
        let Some(media_type) = folders::read_small(&path)? else { return Ok(None) };
        let media_type = String::from_utf8(media_type).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("read `{}`", path.display())).because(error)
        })?;
        let found = self.content(&digest)?;
        Ok(found.map(|(_, size)| Descriptor::new(&media_type, digest, size)))
    }

    /// What a tag says.
    pub(super) fn tag(&self, tag: &Tag) -> Result<Option<Descriptor>, Error> {
        if !self.folders.is_there(&self.tags_folder())? {
            return Ok(None);
        }
        let path = self.tag_file(tag);
        let Some(bytes) = folders::read_small(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let what = format!("read the tag {tag} of {} in `{}`", self.name, path.display());
            Error::new(ErrorKind::Failed, what).because(error)
        })
    }

    /// Read a document, and check its bytes. A broken one is set aside.
    pub(super) fn read_document(&self, pointer: &Pointer) -> Result<Document, Error> {
        let missing = || rules::not_found("document", pointer, self.name);
        let found = self.resolve(pointer)?.ok_or_else(missing)?;
        let (file, _) = self.content(&found.digest)?.ok_or_else(missing)?;
        let path = self.folders.blob(&found.digest);
        let bytes = folders::read_open(&file, &path, Document::BYTES_LIMIT as u64)?;
        let document = Document::with_digest(&found.media_type, bytes, found.digest.clone());
        if document.is_err() && self.looks == Looks::Promising {
            // What it says of the document is worth more than why it could not be moved.
            let _ = scrub::set_aside(self.folders, &found.digest, &file);
        }
        document
    }

    /// Keep a document whose content is there, and move tags to it. Whoever is told of success finds it after a
    /// crash; in between, readers see the document without tags, never a tag without its document.
    pub(super) fn write_document(
        &self,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        let contents = Contents::of(document)?;
        let agree = |shelf: &Self| {
            let target = |tag: &Tag| Ok(shelf.tag(tag)?.map(|target| target.digest));
            contents.agree(document, (self.name, tags, terms), |wanted| shelf.holds(wanted), target)
        };
        // Before the lock, so that a repository of which nothing is known stays unknown.
        agree(self)?;
        let lock = self.lock()?;
        agree(&Self::locked(self.folders, self.name))?;
        self.keep_document(document, contents.subject.as_ref())?;
        self.move_tags(tags, &document.descriptor(), &lock)
    }

    /// Put a document under its digest, and then say that the repository holds it.
    fn keep_document(&self, document: &Document, subject: Option<&Digest>) -> Result<(), Error> {
        let digest = document.digest();
        let path = self.folders.blob(digest);
        let media_type = self.folders.written(document.media_type().as_bytes())?;
        self.folders.ensure(path.parent().unwrap_or(&path))?;
        let kept = folders::read(&path, Document::BYTES_LIMIT as u64).ok().flatten();
        let mut content = match kept.is_some_and(|kept| kept == *document.bytes()) {
            true => None,
            false => Some(self.folders.written(document.bytes())?),
        };
        let hold = keep::shared(self.folders)?;
        if content.is_none() && !self.folders.refresh(&path)? {
            // Collected since it was looked at.
            content = Some(self.folders.written(document.bytes())?);
        }
        if let Some(content) = content {
            self.folders.place(content, &path)?;
        }
        // Also where it was there: whoever wrote it may not have synced yet.
        self.folders.sync_folder(path.parent().unwrap_or(&path))?;
        if let Some(subject) = subject {
            self.folders.mark(&self.referrers_folder(subject).join(file_name(digest)))?;
        }
        let mark = self.document_file(digest);
        hold.check()?;
        self.folders.place(media_type, &mark)?;
        self.folders.sync_folder(mark.parent().unwrap_or(&mark))
    }

    /// Whether the repository has what a document wants.
    fn holds(&self, wanted: &Wanted) -> Result<bool, Error> {
        let blob = || Ok::<_, Error>(self.blob(&wanted.digest)?.is_some());
        let document = || Ok::<_, Error>(self.resolve(&wanted.digest.clone().into())?.is_some());
        match wanted.role {
            Role::Configuration | Role::Layer => blob(),
            Role::Manifest => document(),
            Role::Other => Ok(blob()? || document()?),
        }
    }

    /// Write every tag aside first: a full disk then moves none of them.
    fn move_tags(&self, tags: &[Tag], target: &Descriptor, lock: &Lock) -> Result<(), Error> {
        if tags.is_empty() {
            return Ok(());
        }
        let bytes = serde_json::to_vec(target)
            .map_err(|error| Error::new(ErrorKind::Failed, "write a descriptor").because(error))?;
        let files = tags.iter().map(|_| self.folders.written(&bytes)).collect::<Result<Vec<_>, _>>()?;
        let folder = self.tags_folder();
        lock.check()?;
        for (tag, file) in tags.iter().zip(files) {
            self.folders.place(file, &folder.join(tag.as_str()))?;
        }
        self.folders.sync_folder(&folder)
    }

    /// Take out a document, its tags first, so that none dangles.
    pub(super) fn remove_document(&self, digest: &Digest) -> Result<(), Error> {
        let missing = || rules::not_found("document", digest, self.name);
        let folder = self.folder.join("_manifests");
        if !self.folders.is_there(&folder)? {
            return Err(missing());
        }
        let lock = self.lock()?;
        if !folders::is_file(&self.document_file(digest))? {
            return Err(missing());
        }
        for tag in self.tags()? {
            // A tag that cannot be read points at nothing that we could keep whole.
            if self.tag(&tag).ok().flatten().is_some_and(|target| target.digest == *digest) {
                self.folders.remove(&self.tag_file(&tag))?;
            }
        }
        if self.folders.is_there(&self.tags_folder())? {
            self.folders.sync_folder(&self.tags_folder())?;
        }
        let subject = self.read_document(&digest.clone().into()).and_then(|document| Contents::of(&document));
        lock.check()?;
        self.folders.remove(&self.document_file(digest))?;
        self.folders.sync_folder(&folder)?;
        // Where the document could not be read, the mark stays and `referrers` passes over it.
        if let Some(subject) = subject.ok().and_then(|contents| contents.subject) {
            self.folders.remove(&self.referrers_folder(&subject).join(file_name(digest)))?;
        }
        Ok(())
    }

    /// All tags, in order.
    pub(super) fn tags(&self) -> Result<Vec<Tag>, Error> {
        if !self.folders.is_there(&self.tags_folder())? {
            return Ok(Vec::new());
        }
        Ok(folders::names(&self.tags_folder())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Take a tag away.
    pub(super) fn remove_tag(&self, tag: &Tag) -> Result<(), Error> {
        let missing = || rules::not_found("tag", tag, self.name);
        if !self.folders.is_there(&self.tags_folder())? {
            return Err(missing());
        }
        let _lock = self.lock()?;
        match self.folders.remove(&self.tag_file(tag))? {
            true => self.folders.sync_folder(&self.tags_folder()),
            false => Err(missing()),
        }
    }

    /// The folder of the files that say which documents it holds.
    pub(super) fn documents_folder(&self) -> PathBuf {
        self.folder.join("_manifests")
    }

    /// The documents that it holds.
    pub(super) fn documents(&self) -> Result<Vec<Digest>, Error> {
        self.digests_in(&self.documents_folder())
    }

    /// The blobs that it holds.
    pub(super) fn blobs(&self) -> Result<Vec<Digest>, Error> {
        self.digests_in(&self.folder.join("_blobs"))
    }

    /// The documents that have been about this one; they need not be there any more.
    pub(super) fn referring(&self, subject: &Digest) -> Result<Vec<Digest>, Error> {
        self.digests_in(&self.referrers_folder(subject))
    }

    /// The subjects that documents have been about.
    pub(super) fn subjects(&self) -> Result<Vec<Digest>, Error> {
        self.digests_in(&self.folder.join("_referrers"))
    }

    fn digests_in(&self, folder: &Path) -> Result<Vec<Digest>, Error> {
        match self.folders.is_there(folder)? {
            true => Ok(folders::names(folder)?.iter().filter_map(|name| digest_of(name)).collect()),
            false => Ok(Vec::new()),
        }
    }

    /// Whether it holds any document.
    pub(super) fn holds_documents(&self) -> Result<bool, Error> {
        let folder = self.folder.join("_manifests");
        Ok(self.folders.is_there(&folder)? && !folders::names(&folder)?.is_empty())
    }

    /// Descriptors of the documents that are about this one.
    pub(super) fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let folder = self.referrers_folder(subject);
        if !self.folders.is_there(&folder)? {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for digest in folders::names(&folder)?.iter().filter_map(|name| digest_of(name)) {
            match self.read_document(&digest.into()) {
                Ok(document) => found.push(Contents::of(&document)?.referrer(&document)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Keep everybody else from changing its documents, tags and what it says it holds.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        self.folders.lock(&self.folder)
    }
}

/// A digest as a file name: a colon is none on some systems.
pub(super) fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

fn digest_of(file_name: &str) -> Option<Digest> {
    file_name.replacen('-', ":", 1).parse().ok()
}
