//! The family that clients are compared with: 12 images for 2 platforms in the shape of docker-stacks, two incompressible
//! layers each, 686 MB unique and 3,013 MB as the sum of its images.

use std::collections::BTreeMap;

use bytes::Bytes;
use polyarch::oci::{Descriptor, Document, Layout, Manifest, MediaType, Repository, Store, Tag};

use crate::noise::Noise;
use crate::shape::IMAGES;

/// One image on one platform.
pub(crate) struct Image {
    /// Its name, a point, and its architecture.
    pub(crate) name: String,
    pub(crate) document: Document,
}

/// The images, parents first, those of a platform together.
pub(crate) async fn family(layout: &Layout, scope: &Repository) -> Vec<Image> {
    let (mut images, mut noise) = (Vec::new(), Noise::new());
    let mut layers: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
    for platform in ["amd64", "arm64"] {
        for (name, parent, mebibytes) in IMAGES {
            let mut own = parent
                .and_then(|parent| layers.get(&format!("{parent}.{platform}")).cloned())
                .unwrap_or_default();
            for _ in 0..2 {
                // They begin as gzip does, so that no client packs them.
                let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
                noise.fill(&mut bytes, mebibytes << 19);
                let bytes = Bytes::from(bytes);
                layout.write_blob(scope, bytes.clone()).await.unwrap();
                own.push(Descriptor::of(MediaType::LAYER_GZIP, &bytes));
            }
            let config = format!(
                r#"{{"architecture":"{platform}","os":"linux","config":{{"Labels":{{"name":"{name}"}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
            );
            let config = Bytes::from(config);
            layout.write_blob(scope, config.clone()).await.unwrap();
            layers.insert(format!("{name}.{platform}"), own.clone());
            let document =
                Document::of_manifest(&Manifest::new(Descriptor::of(MediaType::CONFIG, &config), own));
            let name = format!("{name}.{platform}");
            let tag: Tag = name.parse().unwrap();
            layout.write_document(scope, &document, &[tag]).await.unwrap();
            images.push(Image { name, document });
        }
    }
    images
}
