//! The engine's cache of layers between machines: kept in the store by the engine itself, by image and platform, so
//! that none overwrites another's.

use std::fmt;

use super::{Delivery, EngineFacts, ImageStore};

/// How an engine can bring its cache of layers to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerCache {
    /// Under a tag of its own, with the layers of all stages.
    Registry,
    /// Within the image that it builds, with the layers of the last stage alone.
    Inline,
    /// Not at all.
    None,
}

impl LayerCache {
    /// How an engine can, that content reaches in this way.
    pub(crate) fn of(facts: &EngineFacts, delivery: Delivery) -> Self {
        match (facts.image_store, delivery) {
            (ImageStore::Containerd, Delivery::Registry) => Self::Registry,
            (ImageStore::Classic, Delivery::Registry) => Self::Inline,
            _ => Self::None,
        }
    }
}

impl fmt::Display for LayerCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registry => "kept in the store, of all stages",
            Self::Inline => "kept in the store within each image, of the last stage alone",
            Self::None => "stays in the engine: it does not reach the store, or keeps caches of another kind",
        })
    }
}

/// Which caches of layers a build may use, and where it keeps its own: references in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheOrder {
    /// Those that are there, the nearest first.
    pub(crate) from: Vec<String>,
    /// Where what is built is kept for other machines, if it is.
    pub(crate) to: Option<String>,
}

impl CacheOrder {
    /// The arguments of a client that brings its cache to the store in this way. What cannot be written there fails no
    /// build, and what cannot be read from there is built.
    pub(super) fn arguments(&self, way: LayerCache) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        match way {
            LayerCache::Registry => {
                self.from.iter().for_each(|one| add("--cache-from", format!("type=registry,ref={one}")));
                if let Some(to) = &self.to {
                    let how = "mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true";
                    add("--cache-to", format!("type=registry,ref={to},{how}"));
                }
            }
            LayerCache::Inline => {
                self.from.iter().for_each(|one| add("--cache-from", one.clone()));
                if self.to.is_some() {
                    add("--build-arg", "BUILDKIT_INLINE_CACHE=1".to_owned());
                }
            }
            LayerCache::None => {}
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_is_asked_for_what_it_can() {
        let order = CacheOrder { from: vec!["h:1/scope:a".to_owned()], to: Some("h:1/scope:b".to_owned()) };
        let said = |way| order.arguments(way).join(" ");
        assert_eq!(
            said(LayerCache::Registry),
            "--cache-from type=registry,ref=h:1/scope:a --cache-to \
             type=registry,ref=h:1/scope:b,mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true"
        );
        assert_eq!(said(LayerCache::Inline), "--cache-from h:1/scope:a --build-arg BUILDKIT_INLINE_CACHE=1");
        assert_eq!(said(LayerCache::None), "");
        assert!(CacheOrder::default().arguments(LayerCache::Registry).is_empty());
        assert!(CacheOrder::default().arguments(LayerCache::Inline).is_empty());
    }
}
