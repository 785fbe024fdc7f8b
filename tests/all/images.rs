//! Images in stores and registries, of one layer each.

use bytes::Bytes;
use polyarch::oci::{Descriptor, Document, Manifest, MediaType, Repository, Store, Tag};

/// An image of this configuration and layer, under these tags.
pub(crate) async fn image(
    store: &dyn Store,
    repository: &Repository,
    config: &str,
    layer: &str,
    tags: &[&str],
) -> Document {
    let document = Document::of_manifest(&manifest(store, repository, config, layer).await);
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    store.write_document(repository, &document, &tags).await.unwrap();
    document
}

/// What is about another document, of this layer.
pub(crate) async fn artifact(
    store: &dyn Store,
    repository: &Repository,
    layer: &str,
    about: &Document,
) -> Document {
    let document = Document::of_manifest(&Manifest {
        artifact_type: Some("application/spdx+json".to_owned()),
        subject: Some(about.descriptor()),
        ..manifest(store, repository, "{}", layer).await
    });
    store.write_document(repository, &document, &[]).await.unwrap();
    document
}

async fn manifest(store: &dyn Store, repository: &Repository, config: &str, layer: &str) -> Manifest {
    for text in [config, layer] {
        store.write_blob(repository, Bytes::from(text.to_owned())).await.unwrap();
    }
    let layers = vec![Descriptor::of(MediaType::LAYER_GZIP, layer.as_bytes())];
    Manifest::new(Descriptor::of(MediaType::CONFIG, config.as_bytes()), layers)
}
