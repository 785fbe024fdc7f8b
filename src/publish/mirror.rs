//! Copies of whole images between registries, byte for byte: content first, tags last, all read back.
//!
//! What is about an image goes along before its tags do, so that who verifies signatures finds them at once. Until
//! the first tag nothing public changes at the target.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::diag::{Diagnostic, Kind, Problems, Result, count};
use crate::oci::{
    Condition, Copied, Descriptor, Digest, Document, Error, ErrorKind, Origin, Pointer, Repository, Tag,
    Terms, Tree,
};

use super::look::tag_at;
use super::mend::problem;
use super::publication::{CONCURRENCY, Target};

/// Where an image is copied from.
#[derive(Clone, Copy)]
pub(crate) struct MirrorSource<'a> {
    /// The store and the repository.
    pub(crate) origin: Origin<'a>,
    /// The registry: `host[:port]`.
    pub(crate) registry: &'a str,
    /// What the image is called in messages.
    pub(crate) name: &'a str,
}

/// What is wanted of a copy.
#[derive(Clone, Debug)]
pub(crate) struct MirrorWish {
    /// The repository at the target.
    pub(crate) repository: Repository,
    /// Tags of the copy; at least one.
    pub(crate) tags: Vec<Tag>,
    /// Signatures, SBOMs and whatever else is about the image go along.
    pub(crate) referrers: bool,
    /// A tag that points elsewhere stays there, and nothing is copied.
    pub(crate) if_missing: bool,
}

/// A copy, prepared: what it takes, and where the tags point now.
#[derive(Debug)]
pub(crate) struct Mirroring {
    /// All that is copied.
    pub(crate) tree: Tree,
    wish: MirrorWish,
    /// What cosign's tags and those that were asked for point at now, in the order in which they are written.
    tags: Vec<MirrorTag>,
    /// Cosign's tags that point elsewhere at the target: they stay.
    left: Vec<Tag>,
}

#[derive(Debug)]
struct MirrorTag {
    tag: Tag,
    document: Document,
    old: Option<Digest>,
}

impl MirrorTag {
    fn moves(&self) -> bool {
        self.old.as_ref() != Some(self.document.digest())
    }
}

/// What a copy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mirrored {
    /// Content that had to be copied.
    pub(crate) copied: Copied,
    /// Tags that had to be moved.
    pub(crate) tags_moved: usize,
}

/// How far the tags have come.
#[derive(Debug, Default)]
struct Moving {
    begun: AtomicBool,
    done: AtomicUsize,
}

impl Mirroring {
    /// Reads what there is at the source, and where the tags point at the target. Writes nothing.
    ///
    /// # Errors
    /// Where the source is not whole, a tag may not be moved, or a registry fails.
    pub(crate) async fn prepare(
        source: MirrorSource<'_>,
        root: &Document,
        wish: MirrorWish,
        target: Target<'_>,
    ) -> Result<Self> {
        let read = Tree::read(&source.origin, root, wish.referrers).await;
        let tree = read.map_err(|error| {
            problem(&format!("read all that {} leads to", source.name), source.registry, &error)
        })?;
        Problems::check(not_whole(&tree, source).into_iter().collect())?;
        let wanted = tree.tags().iter().map(|(tag, digest)| (tag.clone(), digest.clone()));
        let wanted = wanted.chain(wish.tags.iter().map(|tag| (tag.clone(), root.digest().clone())));
        let wanted: Vec<(Tag, Digest)> = wanted.collect();
        let olds = wanted.iter().map(|(tag, _)| tag_at(target, &wish.repository, tag));
        let olds: Vec<Option<Digest>> =
            stream::iter(olds.collect::<Vec<_>>()).buffered(CONCURRENCY).try_collect().await?;
        let (mut tags, mut left, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for ((tag, digest), old) in wanted.into_iter().zip(olds) {
            let Some(document) = tree.document(&digest).cloned() else { continue };
            let found = MirrorTag { tag, document, old };
            match (&found.old, found.moves()) {
                (Some(_), true) if tree.tags().contains_key(&found.tag) => left.push(found.tag),
                (Some(old), true) if wish.if_missing => refused.push(kept(&found.tag, old, &wish, target)),
                _ => tags.push(found),
            }
        }
        Problems::check(refused)?;
        Ok(Self { tree, wish, tags, left })
    }

    /// How many tags it writes, those of signatures and the like among them.
    pub(crate) fn tag_count(&self) -> usize {
        self.tags.len()
    }

    /// What a person should know before it is done.
    pub(crate) fn warnings(&self, target: Target<'_>) -> Vec<Diagnostic> {
        let repository = &self.wish.repository;
        let left = self.left.iter().map(|tag| {
            let reference = format!("{}/{repository}:{tag}", target.registry);
            Diagnostic::warning(format!("{reference} stays where it is: it is another than at the source"))
                .hint(format!("see what there is: polyarch inspect {reference}"))
        });
        left.chain(lost(&self.tree)).collect()
    }

    /// Exactly what would be done, a line each: what is at the target already is not among it.
    ///
    /// # Errors
    /// Where the target fails.
    pub(crate) async fn dry_run(&self, target: Target<'_>) -> Result<Vec<String>> {
        let repository = &self.wish.repository;
        let failed = |error: Error| problem(&format!("look into {repository}"), target.registry, &error);
        let blobs = self.tree.blobs().iter().map(|blob| target.store.blob_size(repository, &blob.digest));
        let blobs: Vec<Option<u64>> = stream::iter(blobs.collect::<Vec<_>>())
            .buffered(CONCURRENCY)
            .try_collect()
            .await
            .map_err(failed)?;
        let documents = self.tree.documents().iter().map(|document| async {
            target.store.resolve(repository, &document.digest().clone().into()).await
        });
        let documents: Vec<Option<Descriptor>> = stream::iter(documents.collect::<Vec<_>>())
            .buffered(CONCURRENCY)
            .try_collect()
            .await
            .map_err(failed)?;
        let lacking = self.tree.blobs().iter().zip(&blobs).filter(|(_, there)| there.is_none());
        let lines = lacking
            .map(|(blob, _)| format!("blob      {} to {repository} ({} bytes)", blob.digest, blob.size));
        let lacking = self.tree.documents().iter().zip(&documents).filter(|(_, there)| there.is_none());
        let lines = lines.chain(lacking.map(|(document, _)| {
            let what = if document.is_index() { "index   " } else { "manifest" };
            format!("{what}  {} to {repository}", document.digest())
        }));
        let lines = lines.chain(self.tags.iter().filter(|tag| tag.moves()).map(|tag| {
            let from = tag.old.as_ref().map_or_else(String::new, |old| format!(", which is at {old}"));
            format!("tag       {repository}:{} to {}{from}", tag.tag, tag.document.digest())
        }));
        Ok(lines.collect())
    }

    /// Copies what the target lacks, moves the tags and reads all back through `fresh`, a client that has seen nothing
    /// of it; or ends with what `stop` brings. `from` is a repository of the target that may hold the blobs.
    ///
    /// # Errors
    /// Where a registry fails, or it is stopped: of kind [`Kind::Incomplete`] once a tag was begun.
    pub(crate) async fn carry_out(
        &self,
        source: MirrorSource<'_>,
        target: Target<'_>,
        fresh: Target<'_>,
        from: Option<&Repository>,
        stop: impl Future<Output = Diagnostic>,
    ) -> Result<Mirrored> {
        let moving = Moving::default();
        tokio::select! {
            biased;
            done = self.every_step(source, target, fresh, from, &moving) => done,
            stopped = stop => Err(self.unless_begun(stopped, &moving).into()),
        }
    }

    async fn every_step(
        &self,
        source: MirrorSource<'_>,
        target: Target<'_>,
        fresh: Target<'_>,
        from: Option<&Repository>,
        moving: &Moving,
    ) -> Result<Mirrored> {
        let repository = &self.wish.repository;
        let copied = match self.tree.copy(&source.origin, target.store, repository, from).await {
            Ok(copied) => copied,
            Err(error) => return Err(self.uncopied(source, target, &error).await.into()),
        };
        // What is about the image before the image: its tags are those that are asked for.
        let (of_image, about): (Vec<_>, Vec<_>) =
            self.tags.iter().partition(|tag| tag.document.digest() == self.tree.root().digest());
        let mut tags_moved = 0;
        for tags in [about, of_image] {
            let moves = tags.into_iter().filter(|tag| tag.moves());
            let moves: Vec<_> = moves.map(|tag| self.move_tag(tag, target, moving)).collect();
            let moved: Result<Vec<()>, Diagnostic> =
                stream::iter(moves).buffered(CONCURRENCY).try_collect().await;
            tags_moved += moved.map_err(|problem| self.unless_begun(problem, moving))?.len();
        }
        self.read_back(fresh).await.map_err(|problem| self.unless_begun(problem, moving))?;
        Ok(Mirrored { copied, tags_moved })
    }

    async fn move_tag(&self, tag: &MirrorTag, target: Target<'_>, moving: &Moving) -> Result<(), Diagnostic> {
        let repository = &self.wish.repository;
        moving.begun.store(true, Ordering::SeqCst);
        let tags = std::slice::from_ref(&tag.tag);
        let written = match self.wish.if_missing {
            true => {
                let terms = Terms { tags: Condition::Missing, ..Terms::default() };
                let written = target.store.write_document_on(repository, &tag.document, tags, &terms).await;
                match written {
                    // It has no such step: it was looked at a moment ago, and is read back in a moment.
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        target.store.write_document(repository, &tag.document, tags).await
                    }
                    written => written,
                }
            }
            false => target.store.write_document(repository, &tag.document, tags).await,
        };
        let doing = format!("move the tag {repository}:{}", tag.tag);
        written.map_err(|error| problem(&doing, target.registry, &error))?;
        moving.done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Every document by its digest and size, and every tag.
    async fn read_back(&self, fresh: Target<'_>) -> Result<(), Diagnostic> {
        let repository = &self.wish.repository;
        let lacking = self.tree.lacking(fresh.store, repository).await;
        let lacking =
            lacking.map_err(|error| problem(&format!("read {repository} back"), fresh.registry, &error))?;
        if let Some(document) = lacking {
            let what = format!("cannot read {} back from {repository}", document.digest());
            return Err(Diagnostic::surroundings(format!("{what} at {}", fresh.registry))
                .because("the registry took it and does not have it"));
        }
        for tag in &self.tags {
            let found = tag_at(fresh, repository, &tag.tag).await?;
            if found.as_ref() != Some(tag.document.digest()) {
                let place = found.map_or("is not there".to_owned(), |found| format!("points at {found}"));
                let reference = format!("{}/{repository}:{}", fresh.registry, tag.tag);
                return Err(Diagnostic::surroundings(format!("{reference} {place} after it was written"))
                    .because("someone else moves the same tag"));
            }
        }
        Ok(())
    }

    /// Which of the two failed: the source where it does not even show the image any more.
    async fn uncopied(&self, source: MirrorSource<'_>, target: Target<'_>, error: &Error) -> Diagnostic {
        let image = Pointer::Digest(self.tree.root().digest().clone());
        let shown = source.origin.store.resolve(source.origin.repository, &image).await;
        let of_source = error.is_not_found() || !matches!(shown, Ok(Some(_)));
        let registry = if of_source { source.registry } else { target.registry };
        let doing = format!("copy {} to {}/{}", source.name, target.registry, self.wish.repository);
        let found = problem(&doing, registry, error);
        match self.tree.attached() {
            0 => found,
            _ if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Failed) => {
                found.hint("leave its signatures and SBOMs behind: polyarch mirror --no-referrers")
            }
            _ => found,
        }
    }

    fn unless_begun(&self, problem: Diagnostic, moving: &Moving) -> Diagnostic {
        if !moving.begun.load(Ordering::SeqCst) {
            return problem;
        }
        let (done, all) =
            (moving.done.load(Ordering::SeqCst), self.tags.iter().filter(|tag| tag.moves()).count());
        let what = "the copy is incomplete, and every tag points at whole content";
        Diagnostic::new(Kind::Incomplete, what)
            .because(format!("{done} of {} were moved", count(all, "tag")))
            .again()
            .because_of(&problem)
    }
}

/// What is said to be about an image and is not where that is, in words.
pub(crate) fn lost(tree: &Tree) -> impl Iterator<Item = Diagnostic> {
    tree.lost().iter().map(|lost| {
        let message = format!("{} is listed as being about the image and is not there", lost.digest);
        Diagnostic::warning(message).because("it is left out")
    })
}

/// What an index of the source names and the source does not have.
fn not_whole(tree: &Tree, source: MirrorSource<'_>) -> Option<Diagnostic> {
    let mut platforms = BTreeMap::new();
    for index in tree.documents().iter().filter_map(|document| document.index().ok()) {
        platforms.extend(index.manifests.into_iter().map(|entry| (entry.digest, entry.platform)));
    }
    let missing = tree.missing();
    let names = missing.iter().map(|missing| match platforms.get(&missing.digest) {
        Some(Some(platform)) => format!("its image for {platform} is missing: {}", missing.digest),
        _ => format!("{} is missing", missing.digest),
    });
    let message = format!("{} is not whole at {}", source.name, source.registry);
    let found = names.fold(Diagnostic::surroundings(message), Diagnostic::because);
    (!missing.is_empty())
        .then(|| found.hint("mirror another tag or digest, all of whose platforms are there"))
}

/// A tag that stands and was not to be moved.
fn kept(tag: &Tag, old: &Digest, wish: &MirrorWish, target: Target<'_>) -> Diagnostic {
    let reference = format!("{}/{}:{tag}", target.registry, wish.repository);
    Diagnostic::new(Kind::Policy, format!("{reference} is there already and is another image"))
        .because(format!("it points at {old}"))
        .hint("give the copy another tag, or leave `--if-missing` out so that it moves")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::oci::watched::{Failure, Watched};
    use crate::oci::{Memory, Store, fixture};

    /// A source with an index of two platforms, something that is about it, and a signature by an old cosign.
    struct Fixture {
        store: Memory,
        repository: Repository,
        index: Document,
        by_cosign: Tag,
    }

    impl Fixture {
        async fn new() -> Self {
            let (store, repository) = (Memory::new(), "library/search".parse().expect("name"));
            let mut entries = Vec::new();
            for platform in ["linux/amd64", "linux/arm64"] {
                let mut entry = image(&store, &repository, platform).await.descriptor();
                entry.platform = Some(platform.parse().expect("platform"));
                entries.push(entry);
            }
            let index = fixture::index(&store, &repository, entries, &[]).await;
            fixture::artifact(&store, &repository, "sbom", &index).await;
            let by_cosign = format!("sha256-{}.sig", index.digest().hex());
            fixture::image(&store, &repository, "{}", "signature", &[&by_cosign]).await;
            let by_cosign = by_cosign.parse().expect("tag");
            Self { store, repository, index, by_cosign }
        }

        fn source(&self) -> MirrorSource<'_> {
            let origin = Origin { store: &self.store, repository: &self.repository };
            MirrorSource { origin, registry: "s.io", name: "s.io/library/search:7" }
        }

        async fn mirror(&self, store: &dyn Store, wish: MirrorWish) -> Result<Mirrored> {
            let target = Target { store, fresh: store, registry: "r.io" };
            let prepared = Mirroring::prepare(self.source(), &self.index, wish, target).await?;
            prepared.carry_out(self.source(), target, target, None, pending()).await
        }
    }

    async fn image(store: &Memory, repository: &Repository, word: &str) -> Document {
        fixture::image(store, repository, "{}", word, &[]).await
    }

    fn wish() -> MirrorWish {
        MirrorWish {
            repository: "hysds/search".parse().expect("name"),
            tags: vec!["7".parse().expect("tag"), "stable".parse().expect("tag")],
            referrers: true,
            if_missing: false,
        }
    }

    async fn at(store: &Memory, tag: &str) -> Option<Digest> {
        let pointer = Pointer::Tag(tag.parse().expect("tag"));
        store.resolve(&wish().repository, &pointer).await.expect("a look").map(|found| found.digest)
    }

    #[tokio::test]
    async fn i_p1_i_p2_i_p8_i_p10_cut_off_at_every_call_the_same_command_completes_the_copy() {
        let fixture = Fixture::new().await;
        let whole = Watched::new(Memory::new());
        let mirrored = fixture.mirror(&whole, wish()).await.expect("a copy");
        assert_eq!((mirrored.tags_moved, mirrored.copied.documents), (3, 5));
        assert!(whole.calls() > 30, "{} calls: the sweep must see every phase", whole.calls());
        let tree = Tree::read(&fixture.source().origin, &fixture.index, true).await.expect("a tree");
        let mut incomplete = 0;
        for failure in [Failure::Before, Failure::After] {
            for call in 0..whole.calls() {
                let name = format!("cut off {failure:?} call {call}");
                let target = Memory::new();
                let watched = Watched::failing(target.clone(), call, failure);
                let problems = fixture.mirror(&watched, wish()).await.expect_err(&name);
                let tagged = [at(&target, "7").await, at(&target, "stable").await];
                for found in tagged.iter().flatten() {
                    assert_eq!(found, fixture.index.digest(), "{name}");
                    let lacking = tree.lacking(&target, &wish().repository).await.expect(&name);
                    assert_eq!(lacking, None, "{name}: a tag dangles");
                }
                let begun = tagged.iter().any(Option::is_some);
                assert!(!begun || problems.exit_code() == 5, "{name}: {problems}");
                incomplete += usize::from(problems.exit_code() == 5);
                fixture.mirror(&target, wish()).await.expect(&name);
                assert_eq!(at(&target, "7").await.as_ref(), Some(fixture.index.digest()), "{name}");
                assert_eq!(at(&target, "stable").await.as_ref(), Some(fixture.index.digest()), "{name}");
            }
        }
        assert!(incomplete > 10, "{incomplete}");
    }

    #[tokio::test]
    async fn i_p7_a_tag_that_is_there_stays_where_that_was_wished_and_nothing_is_sent() {
        let fixture = Fixture::new().await;
        let target = Memory::new();
        let other = image(&target, &wish().repository, "other").await;
        let stable = [wish().tags[1].clone()];
        target.write_document(&wish().repository, &other, &stable).await.expect("a tag");
        let watched = Watched::new(target.clone());
        let only_missing = MirrorWish { if_missing: true, ..wish() };
        let problems = fixture.mirror(&watched, only_missing.clone()).await.expect_err("it was moved");
        assert_eq!((problems.exit_code(), watched.writes()), (4, Vec::new()));
        assert!(problems.to_string().contains("r.io/hysds/search:stable"), "{problems}");
        assert_eq!(at(&target, "stable").await.as_ref(), Some(other.digest()));

        target.remove_tag(&wish().repository, &stable[0]).await.expect("removed");
        fixture.mirror(&target, only_missing.clone()).await.expect("a copy");
        let again = fixture.mirror(&target, only_missing).await.expect("it is the same image");
        assert_eq!((again.tags_moved, again.copied), (0, Copied::default()));
    }

    #[tokio::test]
    async fn i_p9_signatures_of_others_stay_and_what_is_left_behind_is_asked_for() {
        let fixture = Fixture::new().await;
        let store = Memory::new();
        let theirs = image(&store, &wish().repository, "theirs").await;
        let by_cosign = std::slice::from_ref(&fixture.by_cosign);
        store.write_document(&wish().repository, &theirs, by_cosign).await.expect("a tag");
        let target = Target { store: &store, fresh: &store, registry: "r.io" };
        let prepared = Mirroring::prepare(fixture.source(), &fixture.index, wish(), target).await;
        let prepared = prepared.expect("a copy");
        let warnings: Vec<String> = prepared.warnings(target).iter().map(ToString::to_string).collect();
        assert!(matches!(&warnings[..], [one] if one.contains("stays where it is")), "{warnings:?}");
        fixture.mirror(&store, wish()).await.expect("a copy");
        assert_eq!(at(&store, fixture.by_cosign.as_str()).await.as_ref(), Some(theirs.digest()));
        assert_eq!(
            store.referrers(&wish().repository, fixture.index.digest()).await.expect("a list").len(),
            1
        );

        let bare = Memory::new();
        fixture.mirror(&bare, MirrorWish { referrers: false, ..wish() }).await.expect("a copy");
        assert_eq!(bare.referrers(&wish().repository, fixture.index.digest()).await.expect("a list"), []);
        assert_eq!(at(&bare, fixture.by_cosign.as_str()).await, None);
    }

    #[tokio::test]
    async fn the_dry_run_says_what_is_done_and_writes_nothing() {
        let fixture = Fixture::new().await;
        let (store, watched) = (Memory::new(), Watched::new(Memory::new()));
        let lines = async |store: &dyn Store| {
            let target = Target { store, fresh: store, registry: "r.io" };
            let prepared = Mirroring::prepare(fixture.source(), &fixture.index, wish(), target).await;
            prepared.expect("a copy").dry_run(target).await.expect("a list")
        };
        let all = lines(&watched).await;
        assert_eq!(watched.writes(), Vec::<String>::new());
        let counted = |word: &str| all.iter().filter(|line| line.starts_with(word)).count();
        assert_eq!((counted("blob"), counted("manifest"), counted("index"), counted("tag")), (5, 4, 1, 3));
        fixture.mirror(&store, wish()).await.expect("a copy");
        assert_eq!(lines(&store).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn f_c9_an_index_that_lacks_platforms_at_the_source_is_not_copied() {
        let fixture = Fixture::new().await;
        let arm = fixture.index.index().expect("index").manifests[1].digest.clone();
        fixture.store.remove_document(&fixture.repository, &arm).await.expect("removed");
        let target = Watched::new(Memory::new());
        let problems = fixture.mirror(&target, wish()).await.expect_err("it was copied");
        assert_eq!((problems.exit_code(), target.writes()), (3, Vec::new()));
        assert!(problems.to_string().contains("linux/arm64 is missing"), "{problems}");
    }

    #[tokio::test]
    async fn stopped_before_the_first_tag_nothing_public_has_changed() {
        let fixture = Fixture::new().await;
        let whole = Watched::new(Memory::new());
        fixture.mirror(&whole, wish()).await.expect("a copy");
        let mut codes = BTreeMap::<u8, usize>::new();
        for call in 0..whole.calls() {
            let store = Memory::new();
            let prepared = {
                let target = Target { store: &store, fresh: &store, registry: "r.io" };
                Mirroring::prepare(fixture.source(), &fixture.index, wish(), target).await.expect("a copy")
            };
            let silent = Watched::failing(store.clone(), call, Failure::Silence);
            let target = Target { store: &silent, fresh: &silent, registry: "r.io" };
            let stop = async {
                while silent.calls() <= call {
                    tokio::task::yield_now().await;
                }
                Diagnostic::new(Kind::Interrupted, "stopped by SIGINT")
            };
            let carried_out = prepared.carry_out(fixture.source(), target, target, None, stop).await;
            // The looks at the tags' old places are not among these calls, so the last ones never come.
            let Err(problems) = carried_out else { continue };
            *codes.entry(problems.exit_code()).or_default() += 1;
            if problems.exit_code() == 130 {
                assert_eq!([at(&store, "7").await, at(&store, "stable").await], [None, None]);
            }
        }
        assert!(codes[&130] > 10 && codes[&5] > 5 && codes.len() == 2, "{codes:?}");
    }
}
