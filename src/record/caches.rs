//! What is in mounts of caches, kept beside the records as images without programs, each under a tag.

use crate::oci::{Digest, Document, Error, ErrorKind, Repository, Tag};

use crate::trust::CLOCKS_APART_SECONDS;

use super::ending::is_no_way;
use super::{Records, is_of_kind, tag};

/// The kinds of caches that stand under tags of one tree, and what their copies of other places begin with.
const OF_A_TREE: [&str; 3] = ["cache-of-", "mount-of-", "shared-cache-of-"];

/// The tags of a cache. What an untrusted run leaves is for the same tree alone (F-U12): what was pushed before that, and
/// approved by nobody, must not be in what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheName {
    /// In the run's own scope.
    pub(crate) own: Tag,
    /// In the trusted one.
    pub(crate) trusted: Tag,
}

impl CacheName {
    /// Those of a cache of a kind that is told from others by a text, and of a tree where it is of that alone.
    pub(crate) fn new(kind: &str, text: &str, tree: Option<&Digest>) -> Self {
        let trusted = tag(kind, &Digest::of(text.as_bytes()));
        let own = match tree {
            None => trusted.clone(),
            Some(tree) => tag(&of_tree(kind, tree), &Digest::of(format!("{tree}\n{text}").as_bytes())),
        };
        Self { own, trusted }
    }
}

/// What tags of a tree begin with: enough to know the others by. The digest that follows has all of it.
fn of_tree(kind: &str, tree: &Digest) -> String {
    format!("{kind}-of-{}", tree.short())
}

/// When a run began, and what time it is, in seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunTime {
    pub(crate) began_seconds: u64,
    pub(crate) now_seconds: u64,
}

impl RunTime {
    /// Whether something was kept since the run began. A time from the future is of a wrong clock, and says nothing (F-S13).
    fn is_since(self, kept_seconds: u64) -> bool {
        kept_seconds >= self.began_seconds && is_believed(kept_seconds, self.now_seconds)
    }

    /// Whether something was kept by a run that began later.
    fn is_before(self, kept_seconds: u64) -> bool {
        kept_seconds > self.began_seconds && self.is_since(kept_seconds)
    }
}

/// Whether a time is no later than now, by clocks as they are.
pub(super) fn is_believed(kept_seconds: u64, now_seconds: u64) -> bool {
    kept_seconds <= now_seconds.saturating_add(CLOCKS_APART_SECONDS)
}

/// The word that the tags of caches begin with.
const WORD: &str = "mount";
/// The annotation with the time at which a cache was kept, in seconds since 1970-01-01 UTC.
const KEPT: &str = "dev.polyarch.kept";

/// Whether it is the tag of a cache.
pub(super) fn is_mount(tag: &Tag) -> bool {
    is_of_kind(tag, WORD)
}

/// When a cache was kept, where it says so.
pub(super) fn kept_seconds(document: &Document) -> Option<u64> {
    document.manifest().ok()?.annotations.get(KEPT)?.parse().ok()
}

/// The same cache, which says when it was kept.
pub(super) fn kept_at(document: &Document, seconds: u64) -> Result<Document, Error> {
    let mut manifest = document.manifest()?;
    manifest.annotations.insert(KEPT.to_owned(), seconds.to_string());
    Ok(Document::of_manifest(&manifest))
}

impl Records {
    /// What is kept under a name in the run's own scope, else in the trusted one. Nothing where records count by who signed them:
    /// nobody signs caches.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn cache(&self, name: &CacheName) -> Result<Option<Document>, Error> {
        if self.witness.is_some() {
            return Ok(None);
        }
        for scope in self.scopes() {
            let tag = if self.is_trusted(scope) { &name.trusted } else { &name.own };
            if let Some(document) = self.document(scope, tag).await? {
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// Keep it in the run's own scope, where all that it is of is already, with the time at which the run began, by which it
    /// ends at a registry. What a run that began later has kept stays: this one comes late. Whether it is kept.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn keep_cache(
        &self,
        name: &CacheName,
        document: &Document,
        time: RunTime,
    ) -> Result<bool, Error> {
        let document = kept_at(document, time.began_seconds)?;
        let is_newer = |standing: &Document| kept_seconds(standing).is_some_and(|kept| time.is_before(kept));
        self.keep_over(&document, &name.own, async |standing| Ok(!is_newer(standing))).await
    }

    /// Let the caches of all other trees in the run's own scope end, in the folder and at the registry; how many there were.
    /// What was kept since the run began is of a newer one.
    ///
    /// # Errors
    /// Where the store fails, or removes no tags.
    pub(crate) async fn end_caches_of_other_trees(
        &self,
        tree: &Digest,
        time: RunTime,
    ) -> Result<usize, Error> {
        let mut ended = 0;
        let there = self.far.as_ref().map(|far| far.own().clone());
        for scope in [Some(self.scope.clone()), there].into_iter().flatten() {
            for kind in OF_A_TREE {
                let own = of_tree(kind.trim_end_matches("-of-"), tree);
                for tag in self.tags_from(&scope, kind).await? {
                    if !tag.as_str().starts_with(&own) && !self.is_newer(&scope, &tag, time).await? {
                        ended += usize::from(self.ended(&scope, &tag).await?);
                    }
                }
            }
        }
        Ok(ended)
    }

    /// Whether it says that it was kept since the run began.
    async fn is_newer(&self, scope: &Repository, tag: &Tag, time: RunTime) -> Result<bool, Error> {
        match self.store.read_document(scope, &tag.clone().into()).await {
            Ok(document) => Ok(kept_seconds(&document).is_some_and(|kept| time.is_since(kept))),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a tag is gone now: many registries remove none.
    async fn ended(&self, scope: &Repository, tag: &Tag) -> Result<bool, Error> {
        match self.store.remove_tag(scope, tag).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) if is_no_way(error.kind()) || error.kind() == ErrorKind::Denied => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oci::{Descriptor, ImageIndex, Manifest, MediaType, Memory, Store};
    use crate::record::ScopeName;

    fn at(began_seconds: u64) -> RunTime {
        RunTime { began_seconds, now_seconds: 1_000 }
    }

    #[tokio::test]
    async fn f_u12_caches_are_of_one_tree_and_end_with_the_next() {
        let records = Records::new(Arc::new(Memory::new()), "scopes/pr-1".parse().unwrap());
        let [one, two] = ["one", "two"].map(|tree| Digest::of(tree.as_bytes()));
        let [first, second] = [&one, &two].map(|tree| CacheName::new("mount", "uv", Some(tree)));
        let trusted = CacheName::new("mount", "uv", None);
        assert_eq!(trusted.own, trusted.trusted);
        assert_eq!((&first.trusted, &second.trusted), (&trusted.own, &trusted.own));
        assert!(first.own != second.own && first.own != trusted.own);

        let index = Document::of_index(&ImageIndex::new(Vec::new()));
        let empty = bytes::Bytes::from_static(b"{}");
        records.store.write_blob(&records.scope, empty.clone()).await.unwrap();
        let made =
            Document::of_manifest(&Manifest::new(Descriptor::of(MediaType::EMPTY, &empty), Vec::new()));
        let layers = CacheName::new("cache", "a@linux/amd64", Some(&one)).own;
        let others = ["cache-of", "image-1", "mount-0", "shared-cache-0"].map(|tag| tag.parse().unwrap());
        let brought: Tag = format!("shared-{layers}").parse().unwrap();
        let tags = [&others[..], &[first.own.clone(), layers, brought]].concat();
        records.store.write_document(&records.scope, &index, &tags).await.unwrap();
        records.keep_cache(&second, &made, at(7)).await.unwrap();
        assert_eq!(records.cache(&first).await.unwrap(), Some(index.clone()), "a rerun finds its own");

        assert_eq!(records.end_caches_of_other_trees(&two, at(7)).await.unwrap(), 3);
        assert_eq!(records.cache(&first).await.unwrap(), None);
        assert!(records.cache(&second).await.unwrap().is_some());
        let left = records.store.tags(&records.scope, None, 10).await.unwrap();
        let mut kept = [&others[..], std::slice::from_ref(&second.own)].concat();
        kept.sort();
        assert_eq!(left, kept);
        assert_eq!(
            records.end_caches_of_other_trees(&one, at(7)).await.unwrap(),
            0,
            "a run that began before it"
        );
        assert!(records.cache(&second).await.unwrap().is_some());
        assert_eq!(
            records.end_caches_of_other_trees(&one, at(8)).await.unwrap(),
            1,
            "one that began after it"
        );
    }

    /// Two runs that end in another order than they began put nothing older over what is newer, in a folder and at a registry.
    #[tokio::test]
    async fn s3_25_what_a_run_has_kept_that_began_later_stays() {
        let made = |word: &str| {
            let config = Descriptor::of(MediaType::EMPTY, b"{}");
            let mut manifest = Manifest::new(config, Vec::new());
            manifest.annotations.insert("word".to_owned(), word.to_owned());
            Document::of_manifest(&manifest)
        };
        let name = CacheName::new("mount", "uv", None);
        let shared: Arc<dyn Store> = Arc::new(Memory::new());
        let folder = || Records::of_scope(Arc::new(Memory::new()), &ScopeName::trusted());
        let far = || folder().at_registry(shared.clone(), &"cache".parse().unwrap()).unwrap();
        let here = folder();
        for [early, late, next] in [[far(), far(), far()], [here.clone(), here.clone(), here]] {
            for records in [&early, &late, &next] {
                records.store.write_blob(&records.scope, bytes::Bytes::from_static(b"{}")).await.unwrap();
            }
            assert!(late.keep_cache(&name, &made("late"), at(8)).await.unwrap());
            assert!(
                !early.keep_cache(&name, &made("early"), at(7)).await.unwrap(),
                "it began before, and ends after"
            );
            assert_eq!(next.cache(&name).await.unwrap(), Some(kept_at(&made("late"), 8).unwrap()));
            assert!(next.keep_cache(&name, &made("same"), at(8)).await.unwrap(), "another job of one run");
            assert!(next.keep_cache(&name, &made("next"), at(9)).await.unwrap());
            let last = late.anew().cache(&name).await.unwrap();
            assert_eq!(last, Some(kept_at(&made("next"), 9).unwrap()));
        }
    }

    /// A machine whose clock is years ahead keeps nothing for all those years; one that is some minutes ahead is believed.
    #[tokio::test]
    async fn f_s13_what_was_kept_in_the_future_is_replaced_and_ends() {
        let records = Records::new(Arc::new(Memory::new()), "scopes/pr-1".parse().unwrap());
        records.store.write_blob(&records.scope, bytes::Bytes::from_static(b"{}")).await.unwrap();
        let made = Document::of_manifest(&Manifest::new(Descriptor::of(MediaType::EMPTY, b"{}"), Vec::new()));
        let [one, two] = ["one", "two"].map(|tree| Digest::of(tree.as_bytes()));
        let name = CacheName::new("mount", "uv", Some(&one));
        let late = 1_000 + CLOCKS_APART_SECONDS;
        for (kept, is_believed) in [(late, true), (late + 1, false), (u64::MAX, false)] {
            let ahead = kept_at(&made, kept).unwrap();
            let tags = std::slice::from_ref(&name.own);
            records.store.write_document(&records.scope, &ahead, tags).await.unwrap();
            let ended = records.end_caches_of_other_trees(&two, at(7)).await.unwrap();
            assert_eq!(ended == 0, is_believed, "{kept}");
            records.store.write_document(&records.scope, &ahead, tags).await.unwrap();
            assert_eq!(records.keep_cache(&name, &made, at(7)).await.unwrap(), !is_believed, "{kept}");
        }
    }
}
