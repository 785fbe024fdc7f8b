//! An image on its arrival: polyarch writes the platform manifest itself.
//!
//! What an engine pushed keeps its configuration byte for byte and its own new layers. The layers of the image
//! that it stands on become that image's very descriptors, because engines recompress what they push: so a
//! child shares the layers that are published for its parent (law 5).

use super::job::Trouble;
use crate::diag::Diagnostic;
use crate::engine::Built;
use crate::oci::{
    Descriptor, Digest, Document, Error, ErrorKind, ImageConfiguration, ImageIndex, Manifest, MediaType,
    Platform, Pointer, Repository, Store,
};

/// An image that is in the scope, with a manifest of our own.
#[derive(Debug)]
pub(super) struct Adopted {
    /// The manifest.
    pub(super) manifest: Document,
    /// The configuration's digest.
    pub(super) config: Digest,
    /// Bytes of all layers.
    pub(super) bytes: u64,
    /// Bytes of each, the lowest first.
    pub(super) layers: Vec<u64>,
}

/// Take in what an engine pushed under a pointer: check it, and write its platform manifest.
///
/// # Errors
/// Where the engine's answer is not what was asked for (F-G4), or the store fails.
pub(super) async fn adopt(
    store: &dyn Store,
    scope: &Repository,
    pushed: &Pointer,
    platform: &Platform,
    built: &Built,
    stands_on: Option<&Digest>,
) -> Result<Adopted, Trouble> {
    let document = store.read_document(scope, pushed).await.map_err(|error| match error.is_not_found() {
        true => wrong("the engine said that it built an image, and pushed none"),
        false => unread(error),
    })?;
    let document = match document.is_index() {
        true => only_image(store, scope, &document).await?,
        false => document,
    };
    let pushed = document.manifest().map_err(unread)?;
    if pushed.config.digest != built.config {
        let found = pushed.config.digest.short();
        return Err(wrong(format!(
            "the engine named configuration {} and pushed {found}",
            built.config.short()
        )));
    }
    let configuration = ImageConfiguration::read(store, scope, &pushed.config).await.map_err(unread)?;
    let found = configuration.platform();
    if found.as_ref() != Some(platform) {
        let found = found.map_or_else(|| "an image of no platform".to_owned(), |found| found.to_string());
        return Err(wrong(format!("the engine returned {found} for {platform}")));
    }
    let mut layers = pushed.layers.clone();
    if let Some(parent) = stands_on {
        share_layers(store, scope, parent, &configuration, &mut layers).await.map_err(unwritten)?;
    }
    let manifest = written(&pushed.config, layers);
    let layers = manifest.layers.iter().map(|layer| layer.size).collect();
    let bytes = manifest.layer_bytes();
    let document = Document::of_manifest(&manifest);
    store.write_document(scope, &document, &[]).await.map_err(unwritten)?;
    Ok(Adopted { manifest: document, config: pushed.config.digest, bytes, layers })
}

/// The configuration of the image that an engine pushed under a pointer; `None` where nothing stands there, or nothing
/// that is an image.
pub(super) async fn pushed(store: &dyn Store, scope: &Repository, pointer: &Pointer) -> Option<Digest> {
    let document = store.read_document(scope, pointer).await.ok()?;
    let document = match document.is_index() {
        true => only_image(store, scope, &document).await.ok()?,
        false => document,
    };
    Some(document.manifest().ok()?.config.digest)
}

fn wrong(message: impl Into<String>) -> Trouble {
    let problem = Diagnostic::surroundings(message);
    Trouble::There(problem.hint("see what the engine can do and run: polyarch doctor"))
}

/// What an engine pushed cannot be read: what it pushed is to blame, or the store, which another engine would not mend.
fn unread(error: Error) -> Trouble {
    let problem = Diagnostic::surroundings("read what the engine pushed").caused_by(&error);
    match error.kind() {
        ErrorKind::Denied | ErrorKind::Full | ErrorKind::Passing | ErrorKind::Failed => {
            Trouble::Here(problem)
        }
        _ => Trouble::There(problem),
    }
}

/// What polyarch makes of it cannot be kept.
fn unwritten(error: Error) -> Trouble {
    Trouble::Here(Diagnostic::surroundings("write the manifest of what the engine pushed").caused_by(&error))
}

/// The one image of an index: attestations beside it are passed over, a second image is refused.
async fn only_image(store: &dyn Store, scope: &Repository, index: &Document) -> Result<Document, Trouble> {
    let index: ImageIndex = index.index().map_err(unread)?;
    let is_attestation = |entry: &&Descriptor| {
        entry.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
    };
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|entry| !is_attestation(entry)).collect();
    match images.as_slice() {
        [one] => store.read_document(scope, &one.digest.clone().into()).await.map_err(unread),
        more => {
            Err(wrong(format!("the engine pushed an index of {} images where one was asked for", more.len())))
        }
    }
}

/// Where the lowest layers hold what the parent's hold, they become the parent's descriptors.
async fn share_layers(
    store: &dyn Store,
    scope: &Repository,
    parent: &Digest,
    child: &ImageConfiguration,
    layers: &mut [Descriptor],
) -> Result<(), Error> {
    let manifest = store.read_document(scope, &parent.clone().into()).await?.manifest()?;
    let parent = ImageConfiguration::read(store, scope, &manifest.config).await?;
    let pairs = parent.layers().zip(child.layers());
    let shared = pairs.take_while(|(theirs, ours)| theirs == ours).count();
    for (layer, theirs) in layers.iter_mut().zip(&manifest.layers).take(shared) {
        *layer = theirs.clone();
    }
    Ok(())
}

/// A manifest in OCI media types, with nothing in it that depends on the engine or the run.
fn written(config: &Descriptor, layers: Vec<Descriptor>) -> Manifest {
    let plain = |media_type: &str, of: &Descriptor| Descriptor::new(media_type, of.digest.clone(), of.size);
    Manifest::new(
        plain(MediaType::CONFIG, config),
        layers.iter().map(|layer| plain(oci_layer_type(&layer.media_type), layer)).collect(),
    )
}

fn oci_layer_type(media_type: &str) -> &str {
    match media_type {
        MediaType::DOCKER_LAYER => MediaType::LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar" => MediaType::LAYER_TAR,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => MediaType::LAYER_ZSTD,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Memory, fixture};

    /// An image with a configuration of these diff ids and layers of these texts, in Docker's media types.
    async fn image(
        store: &Memory,
        scope: &Repository,
        architecture: &str,
        layers: &[(&str, &str)],
    ) -> (Document, Digest) {
        let diff_ids: Vec<&str> = layers.iter().map(|(diff_id, _)| *diff_id).collect();
        let config = serde_json::json!({"os": "linux", "architecture": architecture, "rootfs": {"diff_ids": diff_ids}});
        let config = fixture::blob(store, scope, MediaType::DOCKER_CONFIG, config.to_string()).await;
        let config_digest = config.digest.clone();
        let mut descriptors = Vec::new();
        for (_, text) in layers {
            descriptors.push(fixture::blob(store, scope, MediaType::DOCKER_LAYER, text).await);
        }
        let manifest = Manifest {
            media_type: Some(MediaType::DOCKER_MANIFEST.to_owned()),
            ..Manifest::new(config, descriptors)
        };
        let document = fixture::keep(store, scope, Document::of_manifest(&manifest), &["pushed"]).await;
        (document, config_digest)
    }

    fn pushed() -> Pointer {
        Pointer::Tag("pushed".parse().unwrap())
    }

    #[tokio::test]
    async fn a_child_has_the_very_layers_of_its_parent() {
        let (store, scope) = (Memory::new(), "scopes/trusted".parse().unwrap());
        let (parent, _) = image(&store, &scope, "amd64", &[("one", "compressed here")]).await;
        let (_, config) =
            image(&store, &scope, "amd64", &[("one", "compressed there"), ("two", "new")]).await;
        let platform = "linux/amd64".parse().unwrap();
        let built = Built { config: config.clone() };
        let adopted =
            adopt(&store, &scope, &pushed(), &platform, &built, Some(parent.digest())).await.unwrap();
        let manifest = adopted.manifest.manifest().unwrap();
        assert_eq!(manifest.layers[0].digest, Digest::of(b"compressed here"));
        assert_eq!(manifest.layers[1].digest, Digest::of(b"new"));
        assert_eq!(manifest.layers[0].media_type, MediaType::LAYER_GZIP);
        assert_eq!((manifest.config.digest, adopted.bytes), (config, 18));
    }

    fn there(trouble: Trouble) -> Diagnostic {
        match trouble {
            Trouble::There(problem) => problem,
            Trouble::Here(problem) => panic!("the engine is to blame: {problem}"),
        }
    }

    #[tokio::test]
    async fn f_g4_what_was_not_asked_for_is_refused() {
        let (store, scope) = (Memory::new(), "scopes/trusted".parse().unwrap());
        let (_, config) = image(&store, &scope, "amd64", &[("one", "layer")]).await;
        let platform = "linux/arm64".parse().unwrap();
        let built = Built { config };
        let other =
            adopt(&store, &scope, &pushed(), &platform, &built, None).await.expect_err("another platform");
        assert_eq!(there(other).message, "the engine returned linux/amd64 for linux/arm64");
        let built = Built { config: Digest::of(b"another") };
        let other =
            adopt(&store, &scope, &pushed(), &platform, &built, None).await.expect_err("another image");
        assert!(there(other).message.starts_with("the engine named configuration"));
        let none = Pointer::Tag("none".parse().unwrap());
        let none = adopt(&store, &scope, &none, &platform, &built, None).await.expect_err("no image");
        assert_eq!(there(none).message, "the engine said that it built an image, and pushed none");
    }
}
