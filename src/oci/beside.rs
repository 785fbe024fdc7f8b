//! A store that has some content elsewhere: what it does not hold of it is read from there, by digest alone, and
//! nothing is kept but what a document that is written refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::rules::{Contents, Role, Wanted};
use super::{
    BlobReader, Descriptor, Digest, Document, Error, ErrorKind, MediaType, Origin, Pointer, Repository,
    Store, Tag, Taken, Terms, Tree, Upload, UploadName, copy_document,
};

/// A store, and beside it content where that is now. No tag of what is beside is shown.
pub struct Beside {
    inner: Arc<dyn Store>,
    elsewhere: Vec<Elsewhere>,
    /// Repositories whose names begin so are of that store.
    below: Option<(Repository, Arc<dyn Store>)>,
    /// Documents whose bytes are at hand.
    known: BTreeMap<Digest, Document>,
}

struct Elsewhere {
    store: Arc<dyn Store>,
    repository: Repository,
    shown: Shown,
}

/// What is shown of a repository elsewhere.
enum Shown {
    /// This, in every repository.
    Content(BTreeSet<Digest>),
    /// All of it, in this repository.
    AllIn(Repository),
}

impl Elsewhere {
    fn shows(&self, repository: &Repository, digest: &Digest) -> bool {
        match &self.shown {
            Shown::Content(digests) => digests.contains(digest),
            Shown::AllIn(within) => within == repository,
        }
    }
}

impl Beside {
    /// A store with nothing beside it.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, elsewhere: Vec::new(), below: None, known: BTreeMap::new() }
    }

    /// The same with one more tree, to be read from a repository of another store. Nothing else of that is shown.
    #[must_use]
    pub fn with(mut self, tree: &Tree, store: Arc<dyn Store>, repository: Repository) -> Self {
        let documents = tree.documents().iter().map(|document| document.digest().clone());
        let digests = documents.chain(tree.blobs().iter().map(|blob| blob.digest.clone())).collect();
        self.elsewhere.push(Elsewhere { store, repository, shown: Shown::Content(digests) });
        self
    }

    /// The same with all content of a repository shown in one of this store. Documents that are written to that may
    /// refer to it: it is brought then, and within one store no bytes move.
    #[must_use]
    pub fn behind(mut self, within: &Repository, store: Arc<dyn Store>, repository: Repository) -> Self {
        self.elsewhere.push(Elsewhere { store, repository, shown: Shown::AllIn(within.clone()) });
        self
    }

    /// The same with the repositories below a name being those of another store, in all that is done with them.
    #[must_use]
    pub fn below(self, name: &Repository, store: Arc<dyn Store>) -> Self {
        Self { below: Some((name.clone(), store)), ..self }
    }

    /// The same with documents whose bytes are at hand: who reads one by its digest asks no store. That it can be read
    /// says nothing of where it is.
    #[must_use]
    pub fn knowing(self, documents: BTreeMap<Digest, Document>) -> Self {
        Self { known: documents, ..self }
    }

    /// The store that a repository is of.
    fn home(&self, repository: &Repository) -> &Arc<dyn Store> {
        let below = self.below.as_ref().filter(|(name, _)| repository.is_below(name));
        below.map_or(&self.inner, |(_, store)| store)
    }

    /// Where to look for what a repository does not hold, in order.
    fn places(&self, repository: &Repository, digest: &Digest) -> impl Iterator<Item = &Elsewhere> {
        self.elsewhere.iter().filter(move |place| place.shows(repository, digest))
    }

    /// Bring what a document refers to and the repository does not hold.
    async fn bring(&self, repository: &Repository, document: &Document) -> Result<(), Error> {
        for wanted in Contents::of(document)?.wanted {
            for place in self
                .elsewhere
                .iter()
                .filter(|place| matches!(&place.shown, Shown::AllIn(within) if within == repository))
            {
                if self.bring_one(repository, &wanted, place).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Bring one thing from one place; `false` where it is not there.
    async fn bring_one(
        &self,
        repository: &Repository,
        wanted: &Wanted,
        place: &Elsewhere,
    ) -> Result<bool, Error> {
        let origin = Origin { store: &*place.store, repository: &place.repository };
        let from = Arc::ptr_eq(&place.store, &self.inner).then_some(&place.repository);
        if !matches!(wanted.role, Role::Manifest)
            && let Some(size) = place.store.blob_size(&place.repository, &wanted.digest).await?
        {
            let blob = Descriptor::new(MediaType::LAYER_TAR, wanted.digest.clone(), size);
            return self.inner.take_blob(repository, &blob, from, &origin).await.map(|_| true);
        }
        match place.store.read_document(&place.repository, &wanted.digest.clone().into()).await {
            Err(error) if error.is_not_found() => Ok(false),
            read => copy_document(&origin, &read?, &*self.inner, repository, from).await.map(|_| true),
        }
    }
}

#[async_trait]
impl Store for Beside {
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        let mut found = self.home(repository).blob_size(repository, digest).await?;
        for place in self.places(repository, digest) {
            if found.is_some() {
                break;
            }
            found = place.store.blob_size(&place.repository, digest).await?;
        }
        Ok(found)
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error> {
        let mut read = self.home(repository).read_blob(repository, digest, range.clone()).await;
        for place in self.places(repository, digest) {
            match &read {
                Err(error) if error.is_not_found() => {}
                _ => break,
            }
            read = place.store.read_blob(&place.repository, digest, range.clone()).await;
        }
        read
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        let mut found = self.home(repository).resolve(repository, pointer).await?;
        let Pointer::Digest(digest) = pointer else { return Ok(found) };
        for place in self.places(repository, digest) {
            if found.is_some() {
                break;
            }
            found = place.store.resolve(&place.repository, pointer).await?;
        }
        Ok(found)
    }

    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error> {
        if let Pointer::Digest(digest) = pointer
            && let Some(document) = self.known.get(digest)
        {
            return Ok(document.clone());
        }
        let mut read = self.home(repository).read_document(repository, pointer).await;
        let Pointer::Digest(digest) = pointer else { return read };
        for place in self.places(repository, digest) {
            match &read {
                Err(error) if error.is_not_found() => {}
                _ => break,
            }
            read = place.store.read_document(&place.repository, pointer).await;
        }
        read
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error> {
        self.home(repository).start_upload(repository).await
    }

    async fn start_upload_as(
        &self,
        repository: &Repository,
        name: UploadName,
    ) -> Result<Box<dyn Upload>, Error> {
        self.home(repository).start_upload_as(repository, name).await
    }

    async fn resume_upload(
        &self,
        repository: &Repository,
        name: UploadName,
    ) -> Result<Option<Box<dyn Upload>>, Error> {
        self.home(repository).resume_upload(repository, name).await
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, Error> {
        self.home(repository).mount_blob(repository, digest, from).await
    }

    async fn mount_whole(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<bool, Error> {
        self.home(repository).mount_whole(repository, blob, from).await
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
        self.home(repository).take_blob(repository, blob, from, origin).await
    }

    async fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.home(repository).remove_blob(repository, digest).await
    }

    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        match self.home(repository).write_document_on(repository, document, tags, terms).await {
            Err(error) if error.kind() == ErrorKind::MissingContent => {
                self.bring(repository, document).await?;
                self.home(repository).write_document_on(repository, document, tags, terms).await
            }
            written => written,
        }
    }

    fn keeps_conditions(&self) -> bool {
        self.inner.keeps_conditions()
    }

    async fn remove_document(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.home(repository).remove_document(repository, digest).await
    }

    async fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, Error> {
        self.home(repository).tags(repository, after, limit).await
    }

    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error> {
        self.home(repository).remove_tag(repository, tag).await
    }

    async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, Error> {
        self.inner.repositories(after, limit).await
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        self.home(repository).referrers(repository, subject).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{ImageIndex, Layout, Memory, fixture};
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
        let tree = Document::of_manifest(&image.manifest().expect("a manifest"));
        let error =
            beside.write_document(&scope, &tree, &[]).await.expect_err("nothing of a tree is brought");
        assert_eq!(error.kind(), ErrorKind::MissingContent);
    }

    #[tokio::test]
    async fn what_is_behind_a_repository_is_seen_in_it_alone_and_brought_where_it_is_referred_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = Arc::new(Layout::open(folder.path()).expect("a store"));
        let name = |text: &str| -> Repository { text.parse().expect("name") };
        let (own, trusted, other) = (name("scopes/pr-1"), name("scopes/trusted"), name("scopes/pr-2"));
        let parent = fixture::image(&*store, &trusted, "{}", "layer", &["key"]).await;
        let beside = Beside::new(store.clone()).behind(&own, store.clone(), trusted.clone());

        let pointer = Pointer::Digest(parent.digest().clone());
        assert_eq!(beside.read_document(&own, &pointer).await.expect("a parent"), parent);
        let error = beside.read_document(&other, &pointer).await.expect_err("another scope does not see it");
        assert!(error.is_not_found());
        let tag = Pointer::Tag("key".parse().expect("tag"));
        assert_eq!(beside.resolve(&own, &tag).await.expect("a look"), None, "no tag is shown");

        let layers = parent.manifest().expect("a manifest").layers;
        let config = fixture::blob(&beside, &own, MediaType::CONFIG, "{\"own\":1}").await;
        let child = Document::of_manifest(&crate::oci::Manifest::new(config, layers));
        beside.write_document(&own, &child, &[]).await.expect("its parent's layer is brought");
        let index = ImageIndex::new(vec![parent.descriptor(), child.descriptor()]);
        let tags = ["key".parse().expect("tag")];
        beside.write_document(&own, &Document::of_index(&index), &tags).await.expect("its parent is brought");
        assert_eq!(store.read_document(&own, &pointer).await.expect("it is there now"), parent);
        let theirs = store.resolve(&trusted, &tag).await.expect("a look").expect("the tag");
        assert_eq!(theirs.digest, *parent.digest(), "the trusted tag stays where it was");
    }
}
