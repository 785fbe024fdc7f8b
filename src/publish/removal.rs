//! Tags, and where that is asked for manifests, taken out of a repository: looked at first, removed one by one, and
//! read back after each.
//!
//! A tag is removed as the OCI distribution specification has it (section "Deleting tags"), and nothing else: where a
//! registry does not do that, no other manifest is put in its place. What would break another tag is refused.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::oci::{Digest, Error, ErrorKind, Pointer, Repository, Tag};

use super::journal::RESERVED_TAG;
use super::look::digest_at;
use super::mend::problem;
use super::publication::{CONCURRENCY, Target};

/// How many tags of a repository are looked at.
const TAGS_LIMIT: usize = 10_000;

/// How many tags a line lists.
const LISTED: usize = 10;

/// What one reference wants removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unwanted {
    /// A tag; only where it points at this digest, if one is said.
    Tag(Tag, Option<Digest>),
    /// A manifest or index, and every tag that points at it.
    Manifest(Digest),
}

/// What will be removed from one repository, with what that does to its other tags.
#[derive(Debug)]
pub(crate) struct Removals {
    repository: Repository,
    list: Vec<Removal>,
    /// What is not there: a mistake, or what the same command removed before it was stopped.
    pub(crate) absent: Vec<Diagnostic>,
}

#[derive(Debug)]
struct Removal {
    what: Unwanted,
    digest: Digest,
    /// Tags of the same digest that are still there afterwards; of a manifest those that go with it.
    tags: BTreeSet<Tag>,
}

/// Every tag of a repository, and what it points at.
type Tags = BTreeMap<Tag, Digest>;

impl Removals {
    /// Looks what there is, and what would go with it. Removes nothing.
    ///
    /// # Errors
    /// Where something may not go, or the registry fails; independent problems together.
    pub(crate) async fn prepare(
        repository: &Repository,
        unwanted: &BTreeSet<Unwanted>,
        target: Target<'_>,
    ) -> Result<Self> {
        let tags = tags(repository, unwanted, target).await?;
        let (mut problems, mut list, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for what in unwanted {
            match removal(repository, what, unwanted, &tags, target).await {
                Ok(Some(removal)) => list.push(removal),
                Ok(None) => absent.push(not_there(repository, what, target)),
                Err(found) => problems.push(found),
            }
        }
        Problems::check(problems)?;
        let manifests: Vec<&Digest> = list
            .iter()
            .filter(|one| matches!(one.what, Unwanted::Manifest(_)))
            .map(|one| &one.digest)
            .collect();
        if !manifests.is_empty() {
            Problems::check(still_named(repository, &manifests, &tags, target).await?)?;
        }
        Ok(Self { repository: repository.clone(), list, absent })
    }

    /// Exactly what would be removed, a line each, with what stays or goes beside it.
    pub(crate) fn lines(&self, registry: &str) -> Vec<String> {
        self.list.iter().map(|removal| removal.line(registry, &self.repository)).collect()
    }

    /// The references, as they are written on the command line.
    pub(crate) fn references(&self, registry: &str) -> Vec<String> {
        self.list.iter().map(|removal| removal.reference(registry, &self.repository)).collect()
    }

    /// Removes one after another, and looks after each whether it and nothing else is gone, through `fresh`, which has
    /// seen nothing of it. `told` hears the line of each that is gone.
    ///
    /// # Errors
    /// Where the registry refuses or fails: nothing further is removed.
    pub(crate) async fn carry_out(
        &self,
        target: Target<'_>,
        fresh: Target<'_>,
        told: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<()> {
        for (at, removal) in self.list.iter().enumerate() {
            let removed = match &removal.what {
                Unwanted::Tag(tag, _) => target.store.remove_tag(&self.repository, tag).await,
                Unwanted::Manifest(digest) => target.store.remove_document(&self.repository, digest).await,
            };
            let checked = match removed {
                Ok(()) => removal.check(&self.repository, fresh).await,
                Err(error) => Err(removal.refused(&self.repository, target, &error)),
            };
            if let Err(problem) = checked {
                let left = self.list.iter().skip(at + 1);
                let left: Vec<String> =
                    left.map(|one| one.reference(target.registry, &self.repository)).collect();
                return Err(match left.is_empty() {
                    true => problem,
                    false => problem.because(format!("not begun: {}", left.join(", "))),
                }
                .into());
            }
            told(&removal.line(target.registry, &self.repository));
        }
        Ok(())
    }
}

impl Removal {
    fn reference(&self, registry: &str, repository: &Repository) -> String {
        match &self.what {
            Unwanted::Tag(tag, _) => format!("{registry}/{repository}:{tag}"),
            Unwanted::Manifest(digest) => format!("{registry}/{repository}@{digest}"),
        }
    }

    fn line(&self, registry: &str, repository: &Repository) -> String {
        let reference = self.reference(registry, repository);
        let tags = listed(&self.tags);
        match (&self.what, self.tags.is_empty()) {
            (Unwanted::Tag(..), true) => {
                format!("tag       {reference} at {}; no other tag points there", self.digest)
            }
            (Unwanted::Tag(..), false) => {
                format!("tag       {reference} at {}; there stay: {tags}", self.digest)
            }
            (Unwanted::Manifest(_), true) => format!("manifest  {reference}; no tag points there"),
            (Unwanted::Manifest(_), false) => format!("manifest  {reference}; with it go the tags: {tags}"),
        }
    }

    /// It is gone, and what was to stay is there.
    async fn check(&self, repository: &Repository, fresh: Target<'_>) -> Result<(), Diagnostic> {
        let reference = self.reference(fresh.registry, repository);
        let pointer: Pointer = match &self.what {
            Unwanted::Tag(tag, _) => tag.clone().into(),
            Unwanted::Manifest(digest) => digest.clone().into(),
        };
        if look(repository, pointer, fresh).await?.is_some() {
            return Err(Diagnostic::surroundings(format!("{reference} is there after it was removed"))
                .because("the registry took the request and did nothing, or somebody wrote it again"));
        }
        let Unwanted::Tag(..) = &self.what else { return Ok(()) };
        for tag in self.tags.iter().take(LISTED) {
            if look(repository, tag.clone().into(), fresh).await?.is_none() {
                let message = format!("with {reference} the tag {repository}:{tag} went, which was to stay");
                return Err(Diagnostic::surroundings(message)
                    .because("the registry removes the image where a tag is to be removed")
                    .because(format!("they pointed at {}", self.digest))
                    .hint("publish it again: polyarch publish"));
            }
        }
        Ok(())
    }

    fn refused(&self, repository: &Repository, target: Target<'_>, error: &Error) -> Diagnostic {
        let reference = self.reference(target.registry, repository);
        let refuses =
            matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid | ErrorKind::Mismatch);
        match &self.what {
            Unwanted::Tag(..) if refuses => {
                let message = format!(
                    "{reference} stays: {} does not remove tags as registries should",
                    target.registry
                );
                let found = Diagnostic::surroundings(message).caused_by(error);
                let mut whole = self.tags.clone();
                whole.extend(self.tag().cloned());
                found.hint("remove it by the registry's own web page or program").hint(format!(
                    "or remove the image with all its tags ({}), where the registry does that: \
                     polyarch delete --with-tags {}/{repository}@{}",
                    listed(&whole),
                    target.registry,
                    self.digest
                ))
            }
            _ => problem(&format!("remove {reference}"), target.registry, error),
        }
    }

    fn tag(&self) -> Option<&Tag> {
        match &self.what {
            Unwanted::Tag(tag, _) => Some(tag),
            Unwanted::Manifest(_) => None,
        }
    }
}

/// All tags of the repository and those wanted gone. Where there are too many, nothing is known of the others.
async fn tags(repository: &Repository, unwanted: &BTreeSet<Unwanted>, target: Target<'_>) -> Result<Tags> {
    let listed = target
        .store
        .tags(repository, None, TAGS_LIMIT + 1)
        .await
        .map_err(|error| problem(&format!("list the tags of {repository}"), target.registry, &error))?;
    if listed.len() > TAGS_LIMIT {
        let message = format!("{}/{repository} has more than {TAGS_LIMIT} tags", target.registry);
        return Err(Diagnostic::surroundings(message)
            .because("it cannot be said what else points at what would be removed")
            .hint("remove it by the registry's own web page or program")
            .into());
    }
    let named = unwanted.iter().filter_map(|what| match what {
        Unwanted::Tag(tag, _) => Some(tag.clone()),
        Unwanted::Manifest(_) => None,
    });
    let all: BTreeSet<Tag> = listed.into_iter().chain(named).collect();
    let looks: Vec<_> =
        all.into_iter()
            .map(|tag| async move {
                Ok::<_, Diagnostic>((look(repository, tag.clone().into(), target).await?, tag))
            })
            .collect();
    let found: Vec<(Option<Digest>, Tag)> = stream::iter(looks).buffered(CONCURRENCY).try_collect().await?;
    Ok(found.into_iter().filter_map(|(digest, tag)| Some((tag, digest?))).collect())
}

async fn removal(
    repository: &Repository,
    what: &Unwanted,
    unwanted: &BTreeSet<Unwanted>,
    tags: &Tags,
    target: Target<'_>,
) -> Result<Option<Removal>, Diagnostic> {
    let at = |wanted: &Digest| -> BTreeSet<Tag> {
        let there = tags.iter().filter(|(_, digest)| *digest == wanted);
        there.map(|(tag, _)| tag.clone()).collect()
    };
    match what {
        Unwanted::Tag(tag, _) if tag.as_str() == RESERVED_TAG => Err(reserved(repository, target)),
        Unwanted::Tag(tag, meant) => {
            let Some(digest) = tags.get(tag) else { return Ok(None) };
            if let Some(meant) = meant.as_ref().filter(|meant| *meant != digest) {
                let message = format!("{}/{repository}:{tag} points elsewhere", target.registry);
                return Err(Diagnostic::new(Kind::Policy, message)
                    .because(format!("it points at {digest}, and was to be removed from {meant}"))
                    .hint("look again, and name what it points at, or the tag alone"));
            }
            let goes = |tag: &Tag| {
                unwanted.iter().any(|what| matches!(what, Unwanted::Tag(other, _) if other == tag))
            };
            let tags = at(digest).into_iter().filter(|tag| !goes(tag)).collect();
            Ok(Some(Removal { what: what.clone(), digest: digest.clone(), tags }))
        }
        Unwanted::Manifest(digest) => {
            if look(repository, digest.clone().into(), target).await?.is_none() {
                return Ok(None);
            }
            let tags = at(digest);
            match tags.iter().any(|tag| tag.as_str() == RESERVED_TAG) {
                true => Err(reserved(repository, target)),
                false => Ok(Some(Removal { what: what.clone(), digest: digest.clone(), tags })),
            }
        }
    }
}

/// Of the manifests that would go, those that an index under another tag names: that would break it.
async fn still_named(
    repository: &Repository,
    manifests: &[&Digest],
    tags: &Tags,
    target: Target<'_>,
) -> Result<Vec<Diagnostic>> {
    let by_digest: BTreeMap<&Digest, &Tag> = tags.iter().map(|(tag, digest)| (digest, tag)).collect();
    let others = by_digest.into_iter().filter(|(digest, _)| !manifests.contains(digest));
    let reads = others.map(|(digest, tag)| async move {
        let read = target.store.read_document(repository, &digest.clone().into()).await;
        let failed = |error| problem(&format!("read {repository}:{tag}"), target.registry, &error);
        let document = read.map_err(failed)?;
        let entries = document.is_index().then(|| document.index().ok()).flatten();
        let entries = entries.map(|index| index.manifests).unwrap_or_default();
        let named = entries.into_iter().filter(|entry| manifests.contains(&&entry.digest));
        Ok::<_, Diagnostic>(named.map(|entry| (entry.digest, tag)).collect::<Vec<_>>())
    });
    let found: Vec<Vec<(Digest, &Tag)>> =
        stream::iter(reads.collect::<Vec<_>>()).buffered(CONCURRENCY).try_collect().await?;
    let told = found.into_iter().flatten().map(|(digest, tag)| {
        let message = format!("{}/{repository}@{digest} is part of {repository}:{tag}", target.registry);
        Diagnostic::new(Kind::Policy, message)
            .because("without it that index would lack a platform")
            .hint(format!("remove the tag: polyarch delete {}/{repository}:{tag}", target.registry))
    });
    Ok(told.collect())
}

fn not_there(repository: &Repository, what: &Unwanted, target: Target<'_>) -> Diagnostic {
    let name = match what {
        Unwanted::Tag(tag, _) => format!(":{tag}"),
        Unwanted::Manifest(digest) => format!("@{digest}"),
    };
    Diagnostic::request(format!("there is no {}/{repository}{name}", target.registry))
        .hint("leave it out, or see whether the name is right")
}

fn reserved(repository: &Repository, target: Target<'_>) -> Diagnostic {
    let message = format!("{}/{repository}:{RESERVED_TAG} is not removed", target.registry);
    Diagnostic::new(Kind::Policy, message)
        .because("the journals of publications stand there, by which they are resumed and rolled back")
        .hint("leave it out")
}

/// What a tag or digest stands for now.
async fn look(
    repository: &Repository,
    pointer: Pointer,
    target: Target<'_>,
) -> Result<Option<Digest>, Diagnostic> {
    let doing = format!("look up {repository} {pointer}");
    let found = digest_at(target.store, repository, pointer).await;
    found.map_err(|error| problem(&doing, target.registry, &error))
}

/// Some tags, and how many more there are.
fn listed(tags: &BTreeSet<Tag>) -> String {
    let mut names: Vec<String> = tags.iter().take(LISTED).map(ToString::to_string).collect();
    if tags.len() > LISTED {
        names.push(format!("and {} more", tags.len() - LISTED));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::oci::watched::{Failure, Watched};
    use crate::oci::{Document, Memory, Store, fixture};

    /// A repository `o/leaf` with an index under `latest`, `v1` and `v2`, and the image of its one platform under `amd64`.
    struct Fixture {
        store: Memory,
        repository: Repository,
        image: Document,
        index: Document,
    }

    impl Fixture {
        async fn new() -> Self {
            let (store, repository) = (Memory::new(), "o/leaf".parse().expect("name"));
            let image = fixture::image(&store, &repository, "{}", "layer", &["amd64"]).await;
            let entries = vec![image.descriptor()];
            let index = fixture::index(&store, &repository, entries, &["latest", "v1", "v2"]).await;
            Self { store, repository, image, index }
        }

        async fn prepare(&self, unwanted: &[Unwanted]) -> Result<Removals> {
            let target = Target { store: &self.store, fresh: &self.store, registry: "r.io" };
            Removals::prepare(&self.repository, &unwanted.iter().cloned().collect(), target).await
        }

        /// What was told of.
        async fn remove(&self, store: &dyn Store, unwanted: &[Unwanted]) -> (Result<()>, Vec<String>) {
            let removals = self.prepare(unwanted).await.expect("it may go");
            let told = Mutex::new(Vec::new());
            let hear = |line: &str| told.lock().expect("lines").push(line.to_owned());
            let target = Target { store, fresh: store, registry: "r.io" };
            let fresh = Target { store: &self.store, fresh: &self.store, registry: "r.io" };
            let ended = removals.carry_out(target, fresh, &hear).await;
            (ended, told.into_inner().expect("lines"))
        }

        async fn tags(&self) -> Vec<String> {
            let tags = self.store.tags(&self.repository, None, 10).await.expect("tags");
            tags.iter().map(ToString::to_string).collect()
        }
    }

    fn tag_of(tag: &str) -> Tag {
        tag.parse().expect("tag")
    }

    fn tag(name: &str) -> Unwanted {
        Unwanted::Tag(tag_of(name), None)
    }

    #[tokio::test]
    async fn i_p9_a_tag_goes_alone_and_it_is_said_what_stays() {
        let fixture = Fixture::new().await;
        let removals = fixture.prepare(&[tag("v1"), tag("amd64")]).await.expect("it may go");
        let (image, index) = (fixture.image.digest(), fixture.index.digest());
        assert_eq!(
            removals.lines("r.io"),
            [
                format!("tag       r.io/o/leaf:amd64 at {image}; no other tag points there"),
                format!("tag       r.io/o/leaf:v1 at {index}; there stay: latest, v2"),
            ]
        );
        assert_eq!(fixture.tags().await, ["amd64", "latest", "v1", "v2"], "nothing is removed yet");
        let (ended, told) = fixture.remove(&fixture.store, &[tag("v1"), tag("amd64")]).await;
        ended.expect("removed");
        assert_eq!(told.len(), 2);
        assert_eq!(fixture.tags().await, ["latest", "v2"]);
        let image = Pointer::Digest(image.clone());
        assert!(fixture.store.resolve(&fixture.repository, &image).await.expect("a look").is_some());
    }

    #[tokio::test]
    async fn a_manifest_goes_with_its_tags_unless_an_index_names_it() {
        let fixture = Fixture::new().await;
        let (image, index) = (fixture.image.digest().clone(), fixture.index.digest().clone());
        let problems = fixture.prepare(&[Unwanted::Manifest(image.clone())]).await.expect_err("it was taken");
        assert_eq!(problems.exit_code(), 4);
        assert!(problems.to_string().contains("is part of o/leaf:"), "{problems}");
        let removals = fixture.prepare(&[Unwanted::Manifest(index.clone())]).await.expect("it may go");
        let expected = format!("manifest  r.io/o/leaf@{index}; with it go the tags: latest, v1, v2");
        assert_eq!(removals.lines("r.io"), [expected]);
        let both = [Unwanted::Manifest(index), Unwanted::Manifest(image)];
        assert!(fixture.prepare(&both).await.is_ok(), "the index goes too");
        let (ended, _) = fixture.remove(&fixture.store, &both[..1]).await;
        ended.expect("removed");
        assert_eq!(fixture.tags().await, ["amd64"]);
    }

    #[tokio::test]
    async fn f_p_the_journal_and_what_moved_meanwhile_are_refused_and_nothing_is_removed() {
        let fixture = Fixture::new().await;
        let journal = tag_of(RESERVED_TAG);
        fixture
            .store
            .write_document(&fixture.repository, &fixture.image, std::slice::from_ref(&journal))
            .await
            .expect("tag");
        let other = Unwanted::Tag(tag_of("v1"), Some(fixture.image.digest().clone()));
        let by_digest = Unwanted::Manifest(fixture.image.digest().clone());
        for (unwanted, words) in [
            (vec![Unwanted::Tag(journal, None), tag("v1")], "the journals of publications stand there"),
            (vec![by_digest], "the journals of publications stand there"),
            (vec![other], "it points at"),
        ] {
            let problems = fixture.prepare(&unwanted).await.expect_err(words);
            assert_eq!(problems.exit_code(), 4, "{problems}");
            assert!(problems.to_string().contains(words), "{problems}");
        }
        let absent = fixture.prepare(&[tag("v9"), tag("v1")]).await.expect("the other may go").absent;
        assert!(matches!(&absent[..], [one] if one.message == "there is no r.io/o/leaf:v9"), "{absent:?}");
        assert_eq!(fixture.tags().await.len(), 5);
    }

    #[tokio::test]
    async fn where_the_first_cannot_be_removed_none_is() {
        let fixture = Fixture::new().await;
        let refusing = Watched::failing(fixture.store.clone(), 0, Failure::Before);
        let (ended, told) = fixture.remove(&refusing, &[tag("latest"), tag("v1"), tag("v2")]).await;
        let problems = ended.expect_err("it was removed");
        assert!(problems.to_string().contains("not begun: r.io/o/leaf:v1, r.io/o/leaf:v2"), "{problems}");
        assert_eq!((told.len(), refusing.calls(), fixture.tags().await.len()), (0, 1, 4));
    }

    #[tokio::test]
    async fn a_registry_that_removes_more_or_less_than_the_tag_is_noticed() {
        let fixture = Fixture::new().await;
        let removals = fixture.prepare(&[tag("v1"), tag("v2")]).await.expect("it may go");
        let nothing = Memory::new();
        let as_if = |store| Target { store, fresh: store, registry: "r.io" };
        let kept = Fixture::new().await;
        let ended = removals.carry_out(as_if(&kept.store), as_if(&fixture.store), &|_| {}).await;
        let problems = ended.expect_err("the tag is still there");
        assert!(problems.to_string().contains("is there after it was removed"), "{problems}");
        let ended = removals.carry_out(as_if(&fixture.store), as_if(&nothing), &|_| {}).await;
        let problems = ended.expect_err("all is gone");
        assert!(problems.to_string().contains("the tag o/leaf:latest went"), "{problems}");
        assert_eq!(fixture.tags().await, ["amd64", "latest", "v2"], "after the first it stops");
    }
}
