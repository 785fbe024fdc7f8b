//! What is reached from the roots of one repository: documents, what they name, and what is about them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::folders::{self, Folders};
use super::shelf::Shelf;
use crate::oci::{Digest, Document, Error, ErrorKind, rules};

/// What has been reached so far.
pub(super) struct Reach<'a> {
    folders: &'a Folders,
    shelf: &'a Shelf<'a>,
    kept: BTreeSet<Digest>,
}

impl<'a> Reach<'a> {
    /// Nothing yet.
    pub(super) fn new(folders: &'a Folders, shelf: &'a Shelf<'a>) -> Self {
        Self { folders, shelf, kept: BTreeSet::new() }
    }

    /// Whether something is reached.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.kept.contains(digest)
    }

    /// Keep something, and all that it leads to.
    ///
    /// # Errors
    /// `Mismatch` where a document is broken, so that nobody knows what it leads to.
    pub(super) fn keep(&mut self, root: Digest) -> Result<(), Error> {
        let mut waiting = vec![root];
        while let Some(digest) = waiting.pop() {
            if self.kept.contains(&digest) {
                continue;
            }
            if let Some(bytes) = self.document(&digest)? {
                waiting.extend(rules::mentioned(&bytes));
                waiting.extend(self.shelf.referring(&digest)?);
            }
            self.kept.insert(digest);
        }
        Ok(())
    }

    /// The bytes of a document that the repository holds.
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        if !folders::is_file(&self.shelf.document_file(digest))? {
            return Ok(None);
        }
        let Some(bytes) = folders::read(&self.folders.blob(digest), Document::BYTES_LIMIT as u64)? else {
            return Ok(None);
        };
        match rules::has_digest(&bytes, digest) {
            true => Ok(Some(bytes)),
            false => {
                let what = format!("document {digest} is broken, so nobody knows what it leads to");
                Err(Error::new(ErrorKind::Mismatch, what))
            }
        }
    }

    /// Documents in an order in which none comes after one that it leads to: whoever takes them away in this order
    /// never leaves one that lacks something.
    pub(super) fn parents_first(&self, documents: &[Digest]) -> Result<Vec<(Digest, Option<Digest>)>, Error> {
        let chosen: BTreeSet<&Digest> = documents.iter().collect();
        let mut leads_to: BTreeMap<&Digest, Vec<Digest>> = BTreeMap::new();
        let mut subjects: BTreeMap<&Digest, Digest> = BTreeMap::new();
        let mut above: BTreeMap<Digest, usize> = BTreeMap::new();
        for digest in documents {
            // A broken one leads nowhere: it goes, and what it led to has no other claim.
            let bytes = self.document(digest).ok().flatten().unwrap_or_default();
            let mut below = rules::mentioned(&bytes);
            below.extend(self.shelf.referring(digest)?);
            below.retain(|other| chosen.contains(other));
            for other in &below {
                *above.entry(other.clone()).or_default() += 1;
            }
            leads_to.insert(digest, below);
            subjects.extend(rules::subject(&bytes).map(|subject| (digest, subject)));
        }
        let mut ready: VecDeque<&Digest> = documents.iter().filter(|one| !above.contains_key(*one)).collect();
        let mut order = Vec::with_capacity(documents.len());
        while let Some(digest) = ready.pop_front() {
            order.push((digest.clone(), subjects.get(digest).cloned()));
            for other in leads_to.get(digest).into_iter().flatten() {
                let Some(count) = above.get_mut(other) else { continue };
                *count -= 1;
                if *count == 0 {
                    ready.extend(chosen.get(other));
                }
            }
        }
        Ok(order)
    }
}
