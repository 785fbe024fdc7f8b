//! The family that clients are compared with, 12 images for 2 platforms in the shape of docker-stacks, here with
//! small layers: how many requests and bytes it takes to bring it to empty repositories. They do not depend on size.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use polyarch::oci::{
    Client, ClientOptions, Descriptor, Document, Manifest, MediaType, Memory, Origin, Repository, Store,
    copy_image,
};

use super::registries::Registry;
use super::shape::IMAGES;

/// The images in their order, each with its repository, and how many bytes are unique. A MiB of the family is 8 KiB here.
async fn family(store: &Memory, scope: &Repository) -> (Vec<(Document, Repository)>, u64) {
    let (mut images, mut unique) = (Vec::new(), 0);
    let mut layers: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
    for platform in ["amd64", "arm64"] {
        for (name, parent, size) in IMAGES {
            let parent_key = parent.map(|parent| format!("{parent}/{platform}"));
            let mut own = parent_key.and_then(|key| layers.get(&key).cloned()).unwrap_or_default();
            for half in 0..2 {
                let word = format!("{name} {platform} {half} ");
                let bytes = Bytes::from(word.repeat(size * (8 << 10) / word.len()));
                store.write_blob(scope, bytes.clone()).await.unwrap();
                unique += bytes.len() as u64;
                own.push(Descriptor::of(MediaType::LAYER_GZIP, &bytes));
            }
            let config =
                Bytes::from(format!(r#"{{"architecture":"{platform}","os":"linux","image":"{name}"}}"#));
            store.write_blob(scope, config.clone()).await.unwrap();
            unique += config.len() as u64;
            layers.insert(format!("{name}/{platform}"), own.clone());
            let document =
                Document::of_manifest(&Manifest::new(Descriptor::of(MediaType::CONFIG, &config), own));
            store.write_document(scope, &document, &[]).await.unwrap();
            unique += document.bytes().len() as u64;
            images.push((document, format!("family/{name}").parse().unwrap()));
        }
    }
    (images, unique)
}

#[tokio::test]
async fn the_family_takes_330_requests_and_each_byte_once() {
    let (store, scope): (_, Repository) = (Memory::new(), "scope".parse().unwrap());
    let (images, unique) = family(&store, &scope).await;
    let origin = Origin { store: &store, repository: &scope };
    for registry in Registry::both("family").await {
        for (round, requests, bytes) in [("cold", 330, unique), ("warm", 330, 100_000)] {
            let client = Client::new(&registry.address, ClientOptions::default()).unwrap();
            let push = |(document, repository): &(Document, Repository)| {
                let (document, repository, client, origin) =
                    (document.clone(), repository.clone(), &client, &origin);
                async move { copy_image(origin, &document, client, &repository, None).await }
            };
            let work: Vec<_> = images.iter().map(push).collect();
            let moved: u64 = stream::iter(work)
                .buffered(6)
                .try_fold(0, |sum, one| async move { Ok(sum + one) })
                .await
                .unwrap();
            let used = client.traffic().total();
            let whose = if registry.is_ours { "ours" } else { "docker-registry" };
            assert!(used.requests <= requests, "{whose}, {round}: {used:?}");
            assert!(used.sent <= bytes, "{whose}, {round}: {used:?}, of {unique}");
            assert_eq!(moved > 0, round == "cold");
        }
    }
}
