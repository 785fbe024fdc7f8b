//! Caches of layers, which engines keep beside the images of a scope, and how they come to other machines by a registry.
//!
//! An engine reads and writes them in the folder alone. One that is at the registry is brought before a build, under a
//! tag of its own in the run's scope: whatever is brought replaces no cache of this machine, nor of another scope. What
//! a build has left is given to the registry after it.

use crate::oci::{
    Condition, Digest, Document, Error, ErrorKind, Origin, Pointer, Repository, Tag, Terms, copy_document,
};

use super::caches::{RunTime, is_believed, kept_at, kept_seconds};
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

    /// Let the cache that a build of a job has left under a tag of its own say when its run began, in seconds since
    /// 1970-01-01 UTC, and give it to the registry. What stands there of a run that began later stays: this one was of an
    /// older push, and comes late.
    ///
    /// # Errors
    /// Where the folder or the registry fails.
    pub(crate) async fn share_layer_cache(
        &self,
        job: &str,
        tree: Option<&Digest>,
        time: RunTime,
    ) -> Result<(), Error> {
        let tag = CacheKind::Apart.name(job, tree).own;
        let pointer = Pointer::Tag(tag.clone());
        let left = match self.local.read_document(&self.scope, &pointer).await {
            Err(error) if error.is_not_found() => return Ok(()),
            left => left?,
        };
        // One that says so was left by an earlier build, and this one has left none.
        let document = match kept_seconds(&left) {
            Some(_) => left,
            None => self.dated(&left, &tag, time.began_seconds).await?,
        };
        let Some(far) = &self.far else { return Ok(()) };
        let there = far.read(far.own(), &tag).await?;
        let there = there.and_then(|there| kept_seconds(&there));
        if there.filter(|kept| is_believed(*kept, time.now_seconds)) > kept_seconds(&document) {
            return Ok(());
        }
        let origin = Origin { store: &*self.local, repository: &self.scope };
        far.give(&origin, &document, &[tag], &Terms::default()).await
    }

    /// The same in the folder, with a time; another one that stands there meanwhile stays.
    async fn dated(&self, left: &Document, tag: &Tag, seconds: u64) -> Result<Document, Error> {
        let document = kept_at(left, seconds)?;
        let terms = Terms { tags: Condition::OneOf(vec![left.digest().clone()]), ..Terms::default() };
        let tags = std::slice::from_ref(tag);
        match self.local.write_document_on(&self.scope, &document, tags, &terms).await {
            Err(error) if error.kind() == ErrorKind::Moved => Ok(left.clone()),
            written => written.map(|()| document),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oci::{Memory, Store, fixture};

    const JOB: &str = "a@linux/amd64";

    fn records(folder: &Memory, registry: &Memory) -> Records {
        let records = Records::of_scope(Arc::new(folder.clone()), &ScopeName::trusted());
        records.at_registry(Arc::new(registry.clone()), &"owner/cache".parse().unwrap()).unwrap()
    }

    /// As an engine leaves one in the folder.
    async fn left(folder: &Memory, content: &str, tree: Option<&Digest>) {
        let scope: Repository = "scopes/trusted".parse().unwrap();
        let tag = CacheKind::Apart.name(JOB, tree).own;
        fixture::image(folder, &scope, "{}", content, &[tag.as_str()]).await;
    }

    /// The first layer of the cache at the registry.
    async fn shared(registry: &Memory, tree: Option<&Digest>) -> Digest {
        let pointer = CacheKind::Apart.name(JOB, tree).own.into();
        let there = "owner/cache/scopes/trusted".parse().unwrap();
        let document = registry.read_document(&there, &pointer).await.unwrap();
        document.manifest().unwrap().layers.remove(0).digest
    }

    fn at(began_seconds: u64) -> RunTime {
        RunTime { began_seconds, now_seconds: 1_000 }
    }

    #[tokio::test]
    async fn a_run_that_began_earlier_and_comes_late_leaves_the_cache_of_a_newer_one() {
        let (older, newer, registry) = (Memory::new(), Memory::new(), Memory::new());
        for (folder, content, began, expected) in [
            (&older, "first", 100, "first"),
            (&newer, "new", 200, "new"),
            (&older, "late", 100, "new"),
            (&newer, "once more", 200, "once more"),
            (&older, "next", 300, "next"),
        ] {
            left(folder, content, None).await;
            records(folder, &registry).share_layer_cache(JOB, None, at(began)).await.unwrap();
            assert_eq!(shared(&registry, None).await, Digest::of(expected.as_bytes()), "{content}");
        }
        records(&newer, &registry).share_layer_cache(JOB, None, at(400)).await.unwrap();
        let stays = shared(&registry, None).await;
        assert_eq!(stays, Digest::of(b"next"), "a build that has left none makes an old one no younger");
    }

    #[tokio::test]
    async fn f_u12_the_caches_of_a_newer_tree_outlive_a_late_run_of_an_older_one() {
        let (folder, registry) = (Memory::new(), Memory::new());
        let records = records(&folder, &registry);
        let [old, new] = ["old", "new"].map(|tree| Digest::of(tree.as_bytes()));
        left(&folder, "new", Some(&new)).await;
        records.share_layer_cache(JOB, Some(&new), at(200)).await.unwrap();
        assert_eq!(records.end_caches_of_other_trees(&old, at(100)).await.unwrap(), 0, "it came late");
        assert_eq!(shared(&registry, Some(&new)).await, Digest::of(b"new"));
        assert_eq!(records.end_caches_of_other_trees(&old, at(201)).await.unwrap(), 2, "here and there");
    }
}
