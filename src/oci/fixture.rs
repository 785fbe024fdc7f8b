//! Images in stores, for tests.

use bytes::Bytes;

use super::{Descriptor, Document, ImageIndex, Manifest, MediaType, Repository, Store, Tag};

/// Puts a blob into a repository.
pub(crate) async fn blob(
    store: &dyn Store,
    repository: &Repository,
    media_type: &str,
    bytes: impl AsRef<[u8]>,
) -> Descriptor {
    let bytes = Bytes::copy_from_slice(bytes.as_ref());
    store.write_blob(repository, bytes.clone()).await.expect("a blob");
    Descriptor::of(media_type, &bytes)
}

/// Puts a manifest or index into a repository, under these tags.
pub(crate) async fn keep(
    store: &dyn Store,
    repository: &Repository,
    document: Document,
    tags: &[&str],
) -> Document {
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().expect("a tag")).collect();
    store.write_document(repository, &document, &tags).await.expect("a document");
    document
}

/// An image of this configuration and one layer.
pub(crate) async fn image(
    store: &dyn Store,
    repository: &Repository,
    config: &str,
    layer: &str,
    tags: &[&str],
) -> Document {
    let image = manifest(store, repository, config, layer).await;
    keep(store, repository, Document::of_manifest(&image), tags).await
}

/// What is about another document: one layer.
pub(crate) async fn artifact(
    store: &dyn Store,
    repository: &Repository,
    layer: &str,
    about: &Document,
) -> Document {
    let artifact = Manifest {
        artifact_type: Some("application/x".to_owned()),
        subject: Some(about.descriptor()),
        ..manifest(store, repository, "{}", layer).await
    };
    keep(store, repository, Document::of_manifest(&artifact), &[]).await
}

/// An index of what is there.
pub(crate) async fn index(
    store: &dyn Store,
    repository: &Repository,
    manifests: Vec<Descriptor>,
    tags: &[&str],
) -> Document {
    keep(store, repository, Document::of_index(&ImageIndex::new(manifests)), tags).await
}

async fn manifest(store: &dyn Store, repository: &Repository, config: &str, layer: &str) -> Manifest {
    let config = blob(store, repository, MediaType::CONFIG, config).await;
    Manifest::new(config, vec![blob(store, repository, MediaType::LAYER_GZIP, layer).await])
}
