//! A store that has some content elsewhere: what it does not hold of it is read from there, and nothing is kept.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    BlobReader, Descriptor, Digest, Document, Error, Origin, Pointer, Repository, Store, Tag, Taken, Terms,
    Tree, Upload, UploadName,
};

/// A store, and beside it the content of some trees where those are now.
pub struct Beside {
    inner: Arc<dyn Store>,
    elsewhere: Vec<Elsewhere>,
}

struct Elsewhere {
    store: Arc<dyn Store>,
    repository: Repository,
    digests: BTreeSet<Digest>,
}

impl Beside {
    /// A store with nothing beside it.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, elsewhere: Vec::new() }
    }

    /// The same with one more tree, to be read from a repository of another store. Nothing else of that is shown.
    #[must_use]
    pub fn with(mut self, tree: &Tree, store: Arc<dyn Store>, repository: Repository) -> Self {
        let documents = tree.documents().iter().map(|document| document.digest().clone());
        let digests = documents.chain(tree.blobs().iter().map(|blob| blob.digest.clone())).collect();
        self.elsewhere.push(Elsewhere { store, repository, digests });
        self
    }

    fn place(&self, digest: &Digest) -> Option<&Elsewhere> {
        self.elsewhere.iter().find(|place| place.digests.contains(digest))
    }
}

#[async_trait]
impl Store for Beside {
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        match (self.inner.blob_size(repository, digest).await?, self.place(digest)) {
            (None, Some(place)) => place.store.blob_size(&place.repository, digest).await,
            (found, _) => Ok(found),
        }
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error> {
        match (self.inner.read_blob(repository, digest, range.clone()).await, self.place(digest)) {
            (Err(error), Some(place)) if error.is_not_found() => {
                place.store.read_blob(&place.repository, digest, range).await
            }
            (read, _) => read,
        }
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        match (self.inner.resolve(repository, pointer).await?, pointer) {
            (None, Pointer::Digest(digest)) => match self.place(digest) {
                Some(place) => place.store.resolve(&place.repository, pointer).await,
                None => Ok(None),
            },
            (found, _) => Ok(found),
        }
    }

    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error> {
        match (self.inner.read_document(repository, pointer).await, pointer) {
            (Err(error), Pointer::Digest(digest)) if error.is_not_found() => match self.place(digest) {
                Some(place) => place.store.read_document(&place.repository, pointer).await,
                None => Err(error),
            },
            (read, _) => read,
        }
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error> {
        self.inner.start_upload(repository).await
    }

    async fn start_upload_as(
        &self,
        repository: &Repository,
        name: UploadName,
    ) -> Result<Box<dyn Upload>, Error> {
        self.inner.start_upload_as(repository, name).await
    }

    async fn resume_upload(
        &self,
        repository: &Repository,
        name: UploadName,
    ) -> Result<Option<Box<dyn Upload>>, Error> {
        self.inner.resume_upload(repository, name).await
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, Error> {
        self.inner.mount_blob(repository, digest, from).await
    }

    async fn holders(&self, digest: &Digest) -> Result<Vec<Repository>, Error> {
        self.inner.holders(digest).await
    }

    async fn take_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: Option<&Repository>,
        origin: &Origin<'_>,
    ) -> Result<Taken, Error> {
        self.inner.take_blob(repository, blob, from, origin).await
    }

    async fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.inner.remove_blob(repository, digest).await
    }

    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        self.inner.write_document_on(repository, document, tags, terms).await
    }

    fn keeps_conditions(&self) -> bool {
        self.inner.keeps_conditions()
    }

    async fn remove_document(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.inner.remove_document(repository, digest).await
    }

    async fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, Error> {
        self.inner.tags(repository, after, limit).await
    }

    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error> {
        self.inner.remove_tag(repository, tag).await
    }

    async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, Error> {
        self.inner.repositories(after, limit).await
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        self.inner.referrers(repository, subject).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{ErrorKind, Memory, fixture};
    use bytes::Bytes;

    #[tokio::test]
    async fn only_the_content_of_the_trees_is_shown_beside_and_nothing_is_kept() {
        let (here, there) = (Memory::new(), Memory::new());
        let scope: Repository = "scopes/trusted".parse().expect("name");
        let theirs: Repository = "library/search".parse().expect("name");
        let image = fixture::image(&there, &theirs, "{}", "layer", &["7"]).await;
        let layer = image.manifest().expect("a manifest").layers.remove(0).digest;
        let hidden = there.write_blob(&theirs, Bytes::from("hidden")).await.expect("blob");
        let tree = Tree::read(&Origin { store: &there, repository: &theirs }, &image, true).await;
        let beside = Beside::new(Arc::new(here.clone()));
        let beside = beside.with(&tree.expect("a tree"), Arc::new(there.clone()), theirs);

        let digest = image.digest();
        assert_eq!(beside.read_document(&scope, &digest.clone().into()).await.expect("image"), image);
        assert!(beside.resolve(&scope, &digest.clone().into()).await.expect("a look").is_some());
        assert_eq!(beside.blob_size(&scope, &layer).await.expect("a look"), Some(5));
        let part = beside.read_blob(&scope, &layer, Some(1..3)).await.expect("layer");
        assert_eq!(part.size, 2);
        let error = beside.read_blob(&scope, &hidden, None).await.err().expect("it is not of the tree");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(beside.blob_size(&scope, &hidden).await.expect("a look"), None);
        let tag = Pointer::Tag("7".parse().expect("tag"));
        assert_eq!(beside.resolve(&scope, &tag).await.expect("a look"), None, "no tag is shown");
        assert_eq!(here.blob_size(&scope, &layer).await.expect("a look"), None, "nothing is kept");

        let own = beside.write_blob(&scope, Bytes::from("own")).await.expect("written through");
        assert_eq!(here.blob_size(&scope, &own).await.expect("a look"), Some(3));
    }
}
