//! Caches of layers, which engines keep beside the images of a scope, and how they come to other machines by a registry.
//!
//! An engine reads and writes them in the folder alone. One that is at the registry is brought before a build, under a
//! tag of its own in the run's scope: whatever is brought replaces no cache of this machine, nor of another scope. What
//! a build has left is given to the registry after it.

use crate::oci::{Digest, Error, Origin, Pointer, Repository, Tag, Terms, copy_document};

use super::{CacheName, Records, ScopeName, newest_tag};

/// Where an engine keeps its cache of an image's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheKind {
    /// Under a tag of its own.
    Apart,
    /// Within the newest image.
    Within,
}

impl CacheKind {
    /// The tags of the cache of a job, as `image:variant@platform`, and of a tree where it is of that alone.
    pub(crate) fn name(self, job: &str, tree: Option<&Digest>) -> CacheName {
        match self {
            Self::Apart => CacheName::new("cache", job, tree),
            Self::Within => CacheName { own: newest_tag(job), trusted: newest_tag(job) },
        }
    }
}

/// The caches that a build may use.
#[derive(Default)]
pub(crate) struct LayerCaches {
    /// Repositories of the folder, and tags there: those of the scope itself first.
    pub(crate) found: Vec<(Repository, Tag)>,
    /// Why others cannot be read.
    pub(crate) unread: Vec<Error>,
}

impl Records {
    /// The caches of a job: those of the scope itself, then those of the trusted one, as far as they are there.
    pub(crate) async fn layer_caches(
        &self,
        kind: CacheKind,
        job: &str,
        tree: Option<&Digest>,
    ) -> LayerCaches {
        let (mut caches, name) = (LayerCaches::default(), kind.name(job, tree));
        let trusted = ScopeName::trusted().repository();
        // The newest image of an untrusted scope may be of another tree.
        let own = (kind == CacheKind::Apart || tree.is_none()).then_some((&self.scope, &name.own));
        let behind = Some((&trusted, &name.trusted)).filter(|_| trusted != self.scope);
        for (scope, tag) in own.into_iter().chain(behind) {
            for place in [self.here(scope, tag).await, self.brought(scope, tag).await] {
                match place {
                    Ok(place) => caches.found.extend(place),
                    Err(error) => caches.unread.push(error),
                }
            }
        }
        caches
    }

    /// The place of a cache that is in the folder.
    async fn here(&self, scope: &Repository, tag: &Tag) -> Result<Option<(Repository, Tag)>, Error> {
        let found = self.local.resolve(scope, &Pointer::Tag(tag.clone())).await?;
        Ok(found.map(|_| (scope.clone(), tag.clone())))
    }

    /// The place in the folder of a cache that is at the registry, and is brought where the folder lacks it.
    async fn brought(&self, scope: &Repository, tag: &Tag) -> Result<Option<(Repository, Tag)>, Error> {
        let Some(far) = &self.far else { return Ok(None) };
        let there = far.repository(scope)?;
        let Some(document) = far.read(&there, tag).await? else { return Ok(None) };
        let here = self.local.resolve(scope, &Pointer::Tag(tag.clone())).await?;
        if here.is_some_and(|here| here.digest == *document.digest()) {
            return Ok(None);
        }
        let word = if there == *far.own() { "shared" } else { "trusted" };
        let place: Tag = format!("{word}-{tag}").parse()?;
        let stands = self.local.resolve(&self.scope, &Pointer::Tag(place.clone())).await?;
        if stands.is_none_or(|stands| stands.digest != *document.digest()) {
            let origin = Origin { store: &*far.store, repository: &there };
            copy_document(&origin, &document, &*self.local, &self.scope, None).await?;
            self.local.write_document(&self.scope, &document, std::slice::from_ref(&place)).await?;
        }
        Ok(Some((self.scope.clone(), place)))
    }

    /// Give the registry the cache that a build of a job has left under a tag of its own.
    ///
    /// # Errors
    /// Where the folder or the registry fails.
    pub(crate) async fn share_layer_cache(&self, job: &str, tree: Option<&Digest>) -> Result<(), Error> {
        let (Some(far), tag) = (&self.far, CacheKind::Apart.name(job, tree).own) else { return Ok(()) };
        let pointer = Pointer::Tag(tag.clone());
        if self.local.resolve(&self.scope, &pointer).await?.is_none() {
            return Ok(());
        }
        let document = self.local.read_document(&self.scope, &pointer).await?;
        let origin = Origin { store: &*self.local, repository: &self.scope };
        far.give(&origin, &document, &[tag], &Terms::default()).await
    }
}
