//! What must be in the repository of an image before its tags are: of one that was built, and of a copy.

use std::collections::BTreeMap;

use crate::diag::Result;
use crate::oci::{Descriptor, Digest, Document, Tag};

use super::publication::blobs_of;
use super::release::ReleaseImage;

/// All that the tags of an image lead to.
pub(super) struct Content<'a> {
    /// Blobs; some may stand twice.
    pub(super) blobs: Vec<Descriptor>,
    /// Manifests.
    pub(super) manifests: Vec<&'a Document>,
    /// Indexes.
    pub(super) indexes: Vec<&'a Document>,
    /// What is about a copy, in the order in which it is brought.
    pub(super) about: &'a [Document],
    /// The tags by which cosign finds some of that.
    pub(super) about_tags: Vec<(&'a Tag, &'a Document)>,
}

impl ReleaseImage {
    /// Its content; `manifests` are those of all images that were built.
    ///
    /// # Errors
    /// Where one of these is none.
    pub(super) fn content<'a>(&'a self, manifests: &'a BTreeMap<Digest, Document>) -> Result<Content<'a>> {
        if let Some(elsewhere) = &self.copy_of {
            // Layers with addresses of their own stay where they are, and are not among the blobs of a tree.
            let tree = &elsewhere.tree;
            let (indexes, manifests) = tree.own().iter().partition(|document| document.is_index());
            let about_tags = tree.tags().iter();
            let about_tags = about_tags.filter_map(|(tag, digest)| Some((tag, tree.document(digest)?)));
            let (blobs, about_tags) = (tree.blobs().to_vec(), about_tags.collect());
            return Ok(Content { blobs, manifests, indexes, about: tree.about(), about_tags });
        }
        let platforms = self.platforms.values();
        let manifests: Vec<&Document> =
            platforms.filter_map(|platform| manifests.get(&platform.manifest.digest)).collect();
        let mut blobs = Vec::new();
        for document in &manifests {
            blobs.extend(blobs_of(document)?);
        }
        let indexes = std::iter::once(&self.index).chain(&self.partial).collect();
        Ok(Content { blobs, manifests, indexes, about: &[], about_tags: Vec::new() })
    }
}
