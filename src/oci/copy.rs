//! Copies of images from one store to another: a stream of blobs, then manifests, then indexes, and no tag.
//!
//! Nothing is held but documents, and nothing that the target has is sent. A target that turns out to lack content
//! which it said it had is given it once more.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{Descriptor, Digest, Document, Error, ErrorKind, Origin, Pointer, Repository, Store, Taken};

/// How many blobs are on their way at once.
const BLOBS_AT_ONCE: usize = 8;

/// How deep indexes of indexes may go.
const DEPTH_LIMIT: usize = 4;

/// How often content is brought before the target is believed to lose it.
const ROUNDS: usize = 3;

/// Copy a document and all that it refers to into a repository; the bytes of blobs that moved. `from` is a repository
/// of the target that may hold some of them already.
///
/// # Errors
/// `NotFound` where the origin lacks something, `TooLarge` where indexes are nested too deep, and what the stores say.
pub async fn copy_document(
    origin: &Origin<'_>,
    document: &Document,
    target: &dyn Store,
    repository: &Repository,
    from: Option<&Repository>,
) -> Result<u64, Error> {
    let mut moved = 0;
    // Children before parents: an index is put below those that it names.
    let mut left = vec![(document.clone(), false, 0)];
    while let Some((document, opened, depth)) = left.pop() {
        if !document.is_index() {
            moved += copy_image(origin, &document, target, repository, from).await?;
        } else if opened {
            target.write_document(repository, &document, &[]).await?;
        } else {
            if depth >= DEPTH_LIMIT {
                let what =
                    format!("copy {}: indexes are nested more than {DEPTH_LIMIT} deep", document.digest());
                return Err(Error::new(ErrorKind::TooLarge, what));
            }
            let children = document.index()?.manifests;
            left.push((document, true, depth));
            for child in children {
                let pointer = Pointer::Digest(child.digest);
                let child = origin.store.read_document(origin.repository, &pointer).await?;
                left.push((child, false, depth + 1));
            }
        }
    }
    Ok(moved)
}

/// Copy a manifest with its configuration and layers; the bytes of blobs that moved.
///
/// # Errors
/// As [`copy_document`].
pub async fn copy_image(
    origin: &Origin<'_>,
    document: &Document,
    target: &dyn Store,
    repository: &Repository,
    from: Option<&Repository>,
) -> Result<u64, Error> {
    let blobs = document.blobs()?;
    let (mut moved, mut round) = (0, 1);
    loop {
        let work: Vec<_> =
            blobs.iter().map(|blob| target.take_blob(repository, blob, from, origin)).collect();
        let taken: Vec<Taken> = stream::iter(work).buffer_unordered(BLOBS_AT_ONCE).try_collect().await?;
        let bytes = |taken: &Taken| if let Taken::Moved(bytes) = taken { *bytes } else { 0 };
        moved += taken.iter().map(bytes).sum::<u64>();
        match target.write_document(repository, document, &[]).await {
            Err(error) if error.kind() == ErrorKind::MissingContent && round < ROUNDS => round += 1,
            written => return written.map(|()| moved),
        }
    }
}

/// Whether a repository has a blob in its full size. One of another size is read, so that a store which checks what it
/// reads sets it aside, and takes it when it comes again.
///
/// # Errors
/// Where the store cannot say.
pub async fn blob_stands(
    store: &dyn Store,
    repository: &Repository,
    blob: &Descriptor,
) -> Result<bool, Error> {
    match store.blob_size(repository, &blob.digest).await? {
        None => return Ok(false),
        Some(size) if size == blob.size => return Ok(true),
        Some(_) => {}
    }
    if let Ok(mut reader) = store.read_blob(repository, &blob.digest, None).await {
        // That it is broken is known: what reading says of it is no news.
        while let Some(Ok(_)) = reader.stream.next().await {}
    }
    Ok(false)
}

/// Whether a repository has an image with its configuration and layers, as far as can be seen without reading those.
///
/// # Errors
/// Where the store cannot say.
pub async fn image_stands(store: &dyn Store, repository: &Repository, image: &Digest) -> Result<bool, Error> {
    let document = match store.read_document(repository, &image.clone().into()).await {
        Ok(document) => document,
        Err(error) if error.is_not_found() || error.kind() == ErrorKind::Mismatch => return Ok(false),
        Err(error) => return Err(error),
    };
    for blob in document.blobs()? {
        if !blob_stands(store, repository, &blob).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{ImageIndex, MediaType, Memory, fixture};

    async fn image(store: &Memory, repository: &Repository, word: &str) -> Document {
        fixture::image(store, repository, "{}", word, &[]).await
    }

    async fn index(store: &Memory, repository: &Repository, children: &[&Document]) -> Document {
        let children = children.iter().map(|child| child.descriptor()).collect();
        fixture::index(store, repository, children, &[]).await
    }

    #[tokio::test]
    async fn an_index_comes_with_all_below_it_and_nothing_is_sent_twice() {
        let (source, target) = (Memory::new(), Memory::new());
        let (here, there): (Repository, Repository) =
            ("a/b".parse().expect("name"), "c/d".parse().expect("name"));
        let (one, two) = (image(&source, &here, "one").await, image(&source, &here, "two").await);
        let inner = index(&source, &here, &[&one]).await;
        let outer = index(&source, &here, &[&inner, &two]).await;
        let origin = Origin { store: &source, repository: &here };
        let moved = copy_document(&origin, &outer, &target, &there, None).await.expect("a copy");
        assert_eq!(moved, 2 + 3 + 3, "the configuration is one blob");
        let pointer = Pointer::Digest(outer.digest().clone());
        assert_eq!(target.read_document(&there, &pointer).await.expect("index"), outer);
        assert_eq!(copy_document(&origin, &outer, &target, &there, None).await.expect("again"), 0);
        let elsewhere: Repository = "e/f".parse().expect("name");
        let moved = copy_document(&origin, &outer, &target, &elsewhere, Some(&there)).await.expect("mounts");
        assert_eq!(moved, 0);
    }

    #[tokio::test]
    async fn indexes_that_go_too_deep_or_name_nothing_are_refused() {
        let (source, target) = (Memory::new(), Memory::new());
        let here: Repository = "a/b".parse().expect("name");
        let mut deep = image(&source, &here, "one").await;
        for _ in 0..=DEPTH_LIMIT {
            deep = index(&source, &here, &[&deep]).await;
        }
        let origin = Origin { store: &source, repository: &here };
        let error = copy_document(&origin, &deep, &target, &here, None).await.expect_err("too deep");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let nowhere = Document::of_index(&ImageIndex {
            media_type: None,
            ..ImageIndex::new(vec![Descriptor::new(MediaType::MANIFEST, Digest::of(b"x"), 1)])
        });
        let error = copy_document(&origin, &nowhere, &target, &here, None).await.expect_err("a hole");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            target.resolve(&here, &Pointer::Digest(nowhere.digest().clone())).await.expect("ok").is_none()
        );
    }
}
