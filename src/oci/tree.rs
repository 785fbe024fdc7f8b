//! A document with everything that it leads to, read as a value before any of it is copied: what an index names, the
//! blobs below that, and what is about them (signatures, SBOMs).
//!
//! What is about a document is found in two ways: by the referrers of the OCI distribution specification, section
//! "Listing Referrers", and under the tags `sha256-HEX.sig`, `.att` and `.sbom`, where cosign put it before there
//! were any.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::rules::{Contents, Role};
use super::{
    Algorithm, Descriptor, Digest, Document, Error, ErrorKind, MediaType, Origin, Pointer, Repository, Store,
    Tag, Taken, copy_image,
};

/// How deep indexes of indexes, and signatures of SBOMs of images, may go.
const DEPTH_LIMIT: usize = 4;

/// How many documents one tree may have.
const DOCUMENTS_LIMIT: usize = 4096;

/// How many bytes the documents of a tree may have together.
const BYTES_LIMIT: usize = 64 << 20;

/// How many requests are under way at once.
const CONCURRENCY: usize = 8;

/// What cosign appends to the name of a digest: signature, attestations, SBOM.
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// A document with all that it leads to.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Document,
    documents: Vec<Document>,
    attached: usize,
    blobs: Vec<Descriptor>,
    tags: BTreeMap<Tag, Digest>,
    missing: Vec<Descriptor>,
    lost: Vec<Descriptor>,
}

/// What a copy came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of blobs that moved.
    pub bytes: u64,
    /// Blobs that moved.
    pub blobs: usize,
    /// Manifests and indexes that were not there.
    pub documents: usize,
}

impl Tree {
    /// Read a document's tree where it is now, with what is about each of its documents where that is wanted.
    /// Documents that are named and are not there are no error here: [`Self::missing`] and [`Self::lost`] have them.
    ///
    /// # Errors
    /// `TooLarge` past the limits of depth (4), number (4096) and bytes (64 MiB), and what the store says.
    pub async fn read(origin: &Origin<'_>, root: &Document, with_referrers: bool) -> Result<Self, Error> {
        let mut found = Found::default();
        found.add(root.clone())?;
        found.read_below(origin, vec![root.clone()]).await?;
        let mut roots = vec![root.digest().clone()];
        let own = found.children_first(&roots)?.len();
        let (mut tags, mut asked) = (BTreeMap::new(), BTreeSet::new());
        for _ in 0..if with_referrers { DEPTH_LIMIT } else { 0 } {
            let about = found.documents.keys().filter(|digest| !asked.contains(*digest)).cloned();
            let about: Vec<Digest> = about.collect();
            let attached = attached(origin, &about).await?;
            asked.extend(about);
            let new = attached.named.into_iter().filter(|(digest, _)| !found.documents.contains_key(digest));
            let (read, lost) = found.read_all(origin, new.collect()).await?;
            let gone = |digest: &Digest| lost.iter().any(|lost| lost.digest == *digest);
            tags.extend(attached.tags.into_iter().filter(|(_, digest)| !gone(digest)));
            found.lost.extend(lost);
            roots.extend(read.iter().map(|document| document.digest().clone()));
            found.read_below(origin, read).await?;
        }
        let order = found.children_first(&roots)?;
        let mut documents = found.documents;
        Ok(Self {
            root: root.clone(),
            attached: order.len() - own,
            documents: order.iter().filter_map(|digest| documents.remove(digest)).collect(),
            blobs: found.blobs.into_values().collect(),
            tags,
            missing: found.missing.into_values().collect(),
            lost: found.lost,
        })
    }

    /// The document that it is the tree of.
    pub fn root(&self) -> &Document {
        &self.root
    }

    /// Every document, children before parents, and what is about them last.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// How many of the documents are about others.
    pub fn attached(&self) -> usize {
        self.attached
    }

    /// The documents that the root leads to, children before parents.
    pub fn own(&self) -> &[Document] {
        &self.documents[..self.documents.len() - self.attached]
    }

    /// The documents that are about others, with what they name; each after what it is about.
    pub fn about(&self) -> &[Document] {
        &self.documents[self.documents.len() - self.attached..]
    }

    /// Every blob once, in the order of the digests.
    pub fn blobs(&self) -> &[Descriptor] {
        &self.blobs
    }

    /// Bytes of all blobs.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }

    /// The tags under which cosign keeps what is about the documents, and what they point at.
    pub fn tags(&self) -> &BTreeMap<Tag, Digest> {
        &self.tags
    }

    /// Documents that an index names and that are not where it is.
    pub fn missing(&self) -> &[Descriptor] {
        &self.missing
    }

    /// Documents that are listed as being about others and are not there; they are not among the documents.
    pub fn lost(&self) -> &[Descriptor] {
        &self.lost
    }

    /// One of the documents.
    pub fn document(&self, digest: &Digest) -> Option<&Document> {
        self.documents.iter().find(|document| document.digest() == digest)
    }

    /// Copy all of it into a repository, byte for byte and without a tag: blobs, then manifests, then indexes, then
    /// what is about them. Nothing that is there is sent. `from` is a repository of the target that may hold blobs.
    ///
    /// # Errors
    /// `NotFound` where the origin lacks something, and what the stores say.
    pub async fn copy(
        &self,
        origin: &Origin<'_>,
        target: &dyn Store,
        repository: &Repository,
        from: Option<&Repository>,
    ) -> Result<Copied, Error> {
        if let Some(missing) = self.missing.first() {
            let what =
                format!("copy {}: it names {}, which is not there", self.root.digest(), missing.digest);
            return Err(Error::new(ErrorKind::NotFound, what));
        }
        let work: Vec<_> =
            self.blobs.iter().map(|blob| target.take_blob(repository, blob, from, origin)).collect();
        let taken: Vec<Taken> = stream::iter(work).buffered(CONCURRENCY).try_collect().await?;
        let mut copied = Copied::default();
        let mut new = BTreeSet::new();
        for (blob, taken) in self.blobs.iter().zip(taken) {
            if let Taken::Moved(bytes) = taken {
                copied.bytes += bytes;
                copied.blobs += 1;
            }
            if taken != Taken::There {
                new.insert(&blob.digest);
            }
        }
        // A list of what is about a document may be kept by us, and two must not write it at once.
        let (at_once, in_order): (Vec<_>, Vec<_>) = { self.documents.iter() }
            .partition(|document| !document.is_index() && super::rules::subject(document.bytes()).is_none());
        let bring = async |document: &Document| {
            // A manifest whose blobs were not there is not there either, and is not looked for.
            let contents = Contents::of(document)?;
            let is_new = contents.wanted.iter().any(|wanted| new.contains(&wanted.digest));
            bring_document(origin, document, target, repository, is_new).await
        };
        let work: Vec<_> = at_once.into_iter().map(bring).collect();
        let brought: Vec<(bool, u64)> = stream::iter(work).buffered(CONCURRENCY).try_collect().await?;
        for document in in_order {
            let (brought, bytes) = bring(document).await?;
            copied.documents += usize::from(brought);
            copied.bytes += bytes;
        }
        copied.documents += brought.iter().filter(|(brought, _)| *brought).count();
        copied.bytes += brought.iter().map(|(_, bytes)| bytes).sum::<u64>();
        Ok(copied)
    }

    /// Look whether every document is in a repository, by its own digest and size: the first that is not.
    ///
    /// # Errors
    /// What the store says.
    pub async fn lacking(
        &self,
        store: &dyn Store,
        repository: &Repository,
    ) -> Result<Option<&Document>, Error> {
        let look = async |document: &'_ Document| {
            let pointer = Pointer::Digest(document.digest().clone());
            let found = store.resolve(repository, &pointer).await?;
            Ok::<bool, Error>(found.is_some_and(|found| found.size == document.bytes().len() as u64))
        };
        let looks: Vec<_> = self.documents.iter().map(look).collect();
        let found: Vec<bool> = stream::iter(looks).buffered(CONCURRENCY).try_collect().await?;
        Ok(self.documents.iter().zip(found).find(|(_, found)| !found).map(|(document, _)| document))
    }
}

/// Writes a document unless it is there; whether it was written, and bytes of blobs that turned out to lack.
async fn bring_document(
    origin: &Origin<'_>,
    document: &Document,
    target: &dyn Store,
    repository: &Repository,
    is_new: bool,
) -> Result<(bool, u64), Error> {
    let pointer = Pointer::Digest(document.digest().clone());
    if !is_new && target.resolve(repository, &pointer).await?.is_some() {
        return Ok((false, 0));
    }
    match target.write_document(repository, document, &[]).await {
        // It had said that all content is there, or has lost it since.
        Err(error) if error.kind() == ErrorKind::MissingContent && !document.is_index() => {
            copy_image(origin, document, target, repository, None).await.map(|bytes| (true, bytes))
        }
        written => written.map(|()| (true, 0)),
    }
}

/// What was read so far.
#[derive(Default)]
struct Found {
    documents: BTreeMap<Digest, Document>,
    blobs: BTreeMap<Digest, Descriptor>,
    missing: BTreeMap<Digest, Descriptor>,
    lost: Vec<Descriptor>,
    bytes: usize,
}

impl Found {
    fn add(&mut self, document: Document) -> Result<(), Error> {
        self.bytes += document.bytes().len();
        self.documents.insert(document.digest().clone(), document);
        match self.documents.len() > DOCUMENTS_LIMIT || self.bytes > BYTES_LIMIT {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "it leads to more than {DOCUMENTS_LIMIT} manifests, or they have more than {BYTES_LIMIT} bytes"
                ),
            )),
        }
    }

    /// Some documents, and which of them are not there.
    async fn read_all(
        &mut self,
        origin: &Origin<'_>,
        wanted: Vec<(Digest, Descriptor)>,
    ) -> Result<(Vec<Document>, Vec<Descriptor>), Error> {
        let read = wanted.into_iter().map(|(digest, descriptor)| async {
            match origin.store.read_document(origin.repository, &digest.into()).await {
                Err(error) if error.is_not_found() => Ok(Err(descriptor)),
                read => read.map(Ok),
            }
        });
        let read: Vec<Result<Document, Descriptor>> =
            stream::iter(read.collect::<Vec<_>>()).buffered(CONCURRENCY).try_collect().await?;
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for one in read {
            match one {
                Ok(document) => {
                    self.add(document.clone())?;
                    there.push(document);
                }
                Err(descriptor) => absent.push(descriptor),
            }
        }
        Ok((there, absent))
    }

    /// All documents and blobs below some documents, level by level.
    async fn read_below(&mut self, origin: &Origin<'_>, mut level: Vec<Document>) -> Result<(), Error> {
        for _ in 0..=DEPTH_LIMIT {
            let mut children = BTreeMap::new();
            for document in &level {
                for (role, descriptor) in children_of(document)? {
                    match role {
                        Role::Configuration | Role::Layer => drop(self.add_blob(descriptor)),
                        Role::Other if !named_as_document(&descriptor) => drop(self.add_blob(descriptor)),
                        Role::Manifest | Role::Other => {
                            children.insert(descriptor.digest.clone(), descriptor);
                        }
                    }
                }
            }
            children.retain(|digest, _| !self.documents.contains_key(digest));
            if children.is_empty() {
                return Ok(());
            }
            let (there, absent) = self.read_all(origin, children.into_iter().collect()).await?;
            self.missing.extend(absent.into_iter().map(|child| (child.digest.clone(), child)));
            level = there;
        }
        let what = format!("indexes are nested more than {DEPTH_LIMIT} deep");
        Err(Error::new(ErrorKind::TooLarge, what))
    }

    fn add_blob(&mut self, blob: Descriptor) -> Option<Descriptor> {
        self.blobs.insert(blob.digest.clone(), blob)
    }

    /// Some documents and all below them, children before parents; what is missing left out.
    fn children_first(&self, roots: &[Digest]) -> Result<Vec<Digest>, Error> {
        let (mut order, mut placed) = (Vec::new(), BTreeSet::new());
        let mut left: Vec<(Digest, bool)> = roots.iter().rev().map(|root| (root.clone(), false)).collect();
        while let Some((digest, opened)) = left.pop() {
            let Some(document) = self.documents.get(&digest).filter(|_| !placed.contains(&digest)) else {
                continue;
            };
            if opened {
                placed.insert(digest.clone());
                order.push(digest);
                continue;
            }
            left.push((digest, true));
            let children = children_of(document)?.into_iter().rev();
            left.extend(children.map(|(_, child)| (child.digest, false)));
        }
        Ok(order)
    }
}

/// What a document names and what must be there with it. Layers with addresses of their own are left where they are.
fn children_of(document: &Document) -> Result<Vec<(Role, Descriptor)>, Error> {
    let contents = Contents::of(document)?;
    let roles: BTreeMap<Digest, Role> =
        contents.wanted.into_iter().map(|wanted| (wanted.digest, wanted.role)).collect();
    let named = match document.is_index() {
        true => document.index()?.manifests,
        false => {
            let manifest = document.manifest()?;
            std::iter::once(manifest.config).chain(manifest.layers).collect()
        }
    };
    let with_role = |descriptor: Descriptor| Some((*roles.get(&descriptor.digest)?, descriptor));
    Ok(named.into_iter().filter_map(with_role).collect())
}

/// Whether an entry of an index is called a document.
fn named_as_document(descriptor: &Descriptor) -> bool {
    MediaType::is_index(&descriptor.media_type) || MediaType::is_manifest(&descriptor.media_type)
}

/// What is about some documents.
struct Attached {
    named: BTreeMap<Digest, Descriptor>,
    tags: BTreeMap<Tag, Digest>,
}

async fn attached(origin: &Origin<'_>, about: &[Digest]) -> Result<Attached, Error> {
    let referrers = about.iter().map(|digest| async {
        match origin.store.referrers(origin.repository, digest).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Vec::new()),
            listed => listed,
        }
    });
    let referrers: Vec<Vec<Descriptor>> =
        stream::iter(referrers.collect::<Vec<_>>()).buffered(CONCURRENCY).try_collect().await?;
    let looks = about.iter().flat_map(cosign_tags).map(|tag| async {
        let found = origin.store.resolve(origin.repository, &Pointer::Tag(tag.clone())).await?;
        Ok::<_, Error>(found.map(|found| (tag, found)))
    });
    let tagged: Vec<Option<(Tag, Descriptor)>> =
        stream::iter(looks.collect::<Vec<_>>()).buffered(CONCURRENCY).try_collect().await?;
    let tagged: BTreeMap<Tag, Descriptor> = tagged.into_iter().flatten().collect();
    let listed = referrers.into_iter().flatten().chain(tagged.values().cloned());
    Ok(Attached {
        named: listed.map(|found| (found.digest.clone(), found)).collect(),
        tags: tagged.into_iter().map(|(tag, found)| (tag, found.digest)).collect(),
    })
}

/// Where cosign keeps what is about a document.
fn cosign_tags(digest: &Digest) -> Vec<Tag> {
    match digest.algorithm() {
        Algorithm::Sha256 => COSIGN_SUFFIXES
            .iter()
            .filter_map(|suffix| format!("sha256-{}.{suffix}", digest.hex()).parse().ok())
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::watched::Watched;
    use crate::oci::{Memory, fixture};

    /// A store with one repository.
    struct Place {
        store: Memory,
        repository: Repository,
    }

    impl Place {
        fn new(name: &str) -> Self {
            Self { store: Memory::new(), repository: name.parse().expect("name") }
        }

        fn origin(&self) -> Origin<'_> {
            Origin { store: &self.store, repository: &self.repository }
        }

        /// An image of one layer; or an artifact that is about another document.
        async fn image(&self, word: &str, subject: Option<&Document>) -> Document {
            match subject {
                Some(about) => fixture::artifact(&self.store, &self.repository, word, about).await,
                None => fixture::image(&self.store, &self.repository, "{}", word, &[]).await,
            }
        }

        async fn index(&self, entries: Vec<Descriptor>) -> Document {
            fixture::index(&self.store, &self.repository, entries, &[]).await
        }
    }

    fn digests(documents: &[Document]) -> Vec<&Digest> {
        documents.iter().map(Document::digest).collect()
    }

    #[tokio::test]
    async fn a_tree_has_children_before_parents_and_what_is_about_them_last() {
        let place = Place::new("a/b");
        let (one, two) = (place.image("one", None).await, place.image("two", None).await);
        let inner = place.index(vec![one.descriptor()]).await;
        let kind = "application/vnd.buildkit.cacheconfig.v0";
        let cache = fixture::blob(&place.store, &place.repository, kind, "cache").await;
        let outer = place.index(vec![two.descriptor(), inner.descriptor(), one.descriptor(), cache]).await;
        let sbom = place.image("sbom", Some(&one)).await;
        let signature = place.image("signature", Some(&sbom)).await;
        let by_cosign = format!("sha256-{}.sig", outer.digest().hex());
        let old = fixture::image(&place.store, &place.repository, "{}", "old", &[&by_cosign]).await;

        let alone = Tree::read(&place.origin(), &outer, false).await.expect("a tree");
        assert_eq!(
            digests(alone.documents()),
            [two.digest(), one.digest(), inner.digest(), outer.digest()],
            "children first, each once"
        );
        assert_eq!((alone.blobs().len(), alone.bytes(), alone.attached()), (4, 2 + 3 + 3 + 5, 0));
        assert_eq!(alone.tags().len(), 0);

        let whole = Tree::read(&place.origin(), &outer, true).await.expect("a tree");
        assert_eq!(digests(&whole.documents()[..4]), digests(alone.documents()));
        let about: BTreeSet<&Digest> = digests(&whole.documents()[4..]).into_iter().collect();
        assert_eq!(about, BTreeSet::from([sbom.digest(), signature.digest(), old.digest()]));
        assert_eq!((whole.attached(), whole.missing().len(), whole.lost().len()), (3, 0, 0));
        let tag: Tag = by_cosign.parse().expect("tag");
        assert_eq!(whole.tags(), &BTreeMap::from([(tag, old.digest().clone())]));
    }

    #[tokio::test]
    async fn a_copy_is_the_same_bytes_and_is_made_once() {
        let place = Place::new("a/b");
        let (one, two) = (place.image("one", None).await, place.image("two", None).await);
        let index = place.index(vec![one.descriptor(), two.descriptor()]).await;
        place.image("sbom", Some(&one)).await;
        place.image("signature", Some(&index)).await;
        let tree = Tree::read(&place.origin(), &index, true).await.expect("a tree");

        let there: Repository = "c/d".parse().expect("name");
        let held = Memory::new();
        let target = Watched::new(held.clone());
        let copied = tree.copy(&place.origin(), &target, &there, None).await.expect("a copy");
        assert_eq!(copied, Copied { bytes: 2 + 3 + 3 + 4 + 9, blobs: 5, documents: 5 });
        assert_eq!(tree.lacking(&target, &there).await.expect("a look"), None);
        for document in tree.documents() {
            let pointer = Pointer::Digest(document.digest().clone());
            assert_eq!(&target.read_document(&there, &pointer).await.expect("a document"), document);
        }
        assert_eq!(held.referrers(&there, index.digest()).await.map(|found| found.len()).ok(), Some(1));
        let writes = target.writes();
        let last_blob = writes.iter().rposition(|write| write.starts_with("blob")).expect("a blob");
        let index_at = writes.iter().position(|write| write.starts_with("index")).expect("an index");
        assert!(last_blob < index_at && index_at >= 7, "{writes:?}");
        let again = tree.copy(&place.origin(), &target, &there, None).await.expect("a copy");
        assert_eq!(again, Copied::default());
        assert_eq!(target.writes(), writes, "nothing is written twice");
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_and_not_copied_around() {
        let place = Place::new("a/b");
        let (one, two) = (place.image("one", None).await, place.image("two", None).await);
        let index = place.index(vec![one.descriptor(), two.descriptor()]).await;
        place.store.remove_document(&place.repository, two.digest()).await.expect("removed");
        let tree = Tree::read(&place.origin(), &index, true).await.expect("a tree");
        assert_eq!(tree.missing().iter().map(|entry| &entry.digest).collect::<Vec<_>>(), [two.digest()]);
        let (target, there) = (Watched::new(Memory::new()), "c/d".parse().expect("name"));
        let error = tree.copy(&place.origin(), &target, &there, None).await.expect_err("a hole");
        assert_eq!((error.kind(), target.writes()), (ErrorKind::NotFound, Vec::new()));
        assert_eq!(tree.lacking(&target, &there).await.expect("a look"), Some(&tree.documents()[0]));
    }

    #[tokio::test]
    async fn indexes_that_go_too_deep_are_refused() {
        let place = Place::new("a/b");
        let mut deep = place.image("one", None).await;
        for _ in 0..DEPTH_LIMIT {
            deep = place.index(vec![deep.descriptor()]).await;
        }
        assert!(Tree::read(&place.origin(), &deep, true).await.is_ok());
        deep = place.index(vec![deep.descriptor()]).await;
        let error = Tree::read(&place.origin(), &deep, true).await.expect_err("too deep");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
}
