//! Mirrors of a family as parts of a release: copied as they are, tagged as the configuration says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diag::{Diagnostic, Problems, Result, collect};
use crate::family::{COMMIT_LENGTH, Mirror, TagPolicy};
use crate::oci::{Platform, Reference, Tag, Tree};

use super::release::{PlatformImage, Release, ReleaseImage, Withheld, clashes};
use super::tags::RunFacts;

/// An image elsewhere, as it was read there.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// Where it is, at its digest.
    pub(crate) source: Reference,
    /// All that is copied; its root is what the tags of the copy point at.
    pub(crate) tree: Tree,
}

impl Release {
    /// One mirror more, or a reason why it stays away. Mirrors come before all that is built, which may stand on them.
    ///
    /// # Errors
    /// Where a tag cannot be, or another image has it.
    pub(crate) fn add_mirror(
        &mut self,
        mirror: &Mirror,
        tree: Tree,
        policy: &TagPolicy,
        facts: &RunFacts,
    ) -> Result<()> {
        let unit = mirror.unit.clone();
        if let Some(reason) = not_copied(&tree) {
            self.withheld.push(Withheld { unit, reason });
            return Ok(());
        }
        let (with_commit, templates): (Vec<&String>, Vec<&String>) =
            mirror.tags.iter().partition(|tag| tag.contains("{commit}") && facts.commit.is_none());
        for template in with_commit {
            let message = format!("tag `{template}` of `{unit}` is left out");
            let why = "there is no commit: the family's files are in no Git repository";
            self.warnings.push(Diagnostic::warning(message).because(why));
        }
        let tags = collect(templates.into_iter().map(|template| render(mirror, template, facts)))?;
        let immutable = tags.iter().filter_map(|tag: &Tag| {
            Some((tag.clone(), policy.immutable_by_itself(tag.as_str())?.to_string()))
        });
        let copies = self.images.iter().take_while(|image| image.copy_of.is_some()).count();
        let copy = ReleaseImage {
            unit,
            repository: mirror.repository.clone(),
            parents: BTreeSet::new(),
            platforms: platforms(&tree),
            index: tree.root().clone(),
            partial: Vec::new(),
            immutable: immutable.collect(),
            tags: tags.into_iter().map(|tag| (tag, tree.root().digest().clone())).collect(),
            copy_of: Some(Arc::new(Elsewhere {
                source: mirror.source.at(tree.root().digest().clone()),
                tree,
            })),
        };
        self.images.insert(copies, copy);
        Problems::check(clashes(self))
    }
}

/// The platforms that an index names, attestations left out; none of a single image.
fn platforms(tree: &Tree) -> BTreeMap<Platform, PlatformImage> {
    let index = tree.root().is_index().then(|| tree.root().index().ok()).flatten();
    let mut found = BTreeMap::new();
    for manifest in index.into_iter().flat_map(|index| index.manifests) {
        let Some(platform) = manifest.platform.clone().filter(|platform| platform.os() != "unknown") else {
            continue;
        };
        let image = tree.document(&manifest.digest).and_then(|document| document.manifest().ok());
        let Some(config) = image.map(|image| image.config.digest) else { continue };
        found.entry(platform).or_insert(PlatformImage { manifest, config, parents: BTreeMap::new() });
    }
    found
}

/// Why an image elsewhere cannot be copied in one publication.
fn not_copied(tree: &Tree) -> Option<String> {
    if let Some(missing) = tree.missing().first() {
        return Some(format!(
            "{} is not whole where it is: {} is missing",
            tree.root().digest(),
            missing.digest
        ));
    }
    let nested = tree.own().iter().filter(|document| document.is_index()).count() > 1;
    nested.then(|| format!("{} is an index of indexes, which `polyarch mirror` copies", tree.root().digest()))
}

fn render(mirror: &Mirror, template: &str, facts: &RunFacts) -> Result<Tag> {
    let commit: String = facts.commit.iter().flat_map(|commit| commit.chars()).take(COMMIT_LENGTH).collect();
    let text = template.replace("{commit}", &commit).replace("{date}", &facts.date);
    Ok(text.parse().map_err(|error: crate::oci::Error| {
        Diagnostic::request(format!("tag template `{template}` of `{}` makes no tag", mirror.unit))
            .because(error)
            .hint("a tag of a mirror is text, `{commit}` or `{date}`")
    })?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::event::EventKind;
    use crate::family::{Divergence, Together};
    use crate::oci::watched::{Failure, Watched};
    use crate::oci::{
        self, Beside, Descriptor, Digest, Document, ImageIndex, Memory, Origin, Pointer, Repository, Store,
    };
    use crate::publish::desk::Desk;
    use crate::publish::fixture::{AMD, ARM, Fixture, SCOPE, facts, homes, publisher};
    use crate::publish::{Count, Homes, Publication, Published, Source, Target, units, verify};

    /// An image elsewhere, of two platforms, with an attestation, something that is about it, what is about that, and a
    /// signature by an old cosign.
    struct Upstream {
        store: Memory,
        repository: Repository,
        index: Document,
        about: [Document; 2],
        by_cosign: String,
    }

    impl Upstream {
        async fn new() -> Self {
            let (store, repository) = (Memory::new(), "library/search".parse().expect("name"));
            let mut entries = Vec::new();
            for platform in [AMD, ARM, "unknown/unknown"] {
                let image = oci::fixture::image(&store, &repository, "{}", platform, &[]).await;
                entries.push(Descriptor { platform: platform.parse().ok(), ..image.descriptor() });
            }
            let index = Document::of_index(&ImageIndex {
                annotations: BTreeMap::from([("by".to_owned(), "others".to_owned())]),
                ..ImageIndex::new(entries)
            });
            let index = oci::fixture::keep(&store, &repository, index, &[]).await;
            let sbom = oci::fixture::artifact(&store, &repository, "sbom", &index).await;
            let signed = oci::fixture::artifact(&store, &repository, "signed", &sbom).await;
            let by_cosign = format!("sha256-{}.sig", index.digest().hex());
            oci::fixture::image(&store, &repository, "{}", "signature", &[&by_cosign]).await;
            Self { store, repository, index, about: [sbom, signed], by_cosign }
        }

        /// Whether what is about it is listed there.
        async fn is_all_attached(&self, store: &dyn Store, repository: &Repository) -> bool {
            for (about, subject) in self.about.iter().zip([&self.index, &self.about[0]]) {
                let listed = store.referrers(repository, subject.digest()).await.expect("a list");
                if !listed.iter().any(|one| one.digest == *about.digest()) {
                    return false;
                }
            }
            true
        }

        async fn tree(&self) -> Tree {
            let origin = Origin { store: &self.store, repository: &self.repository };
            Tree::read(&origin, &self.index, true).await.expect("a tree")
        }
    }

    fn mirror(tags: &[&str], repository: &str) -> Mirror {
        Mirror {
            unit: "search".parse().expect("unit"),
            repository: repository.parse().expect("name"),
            source: "s.io/library/search:7".parse().expect("reference"),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }
    }

    /// A family of an image and a mirror.
    async fn release(upstream: &Upstream, fixture: &Fixture) -> Release {
        let mut release = fixture.assemble().expect("release");
        let (mirror, tree) = (mirror(&["7", "{date}"], "o/search"), upstream.tree().await);
        release.add_mirror(&mirror, tree, &fixture.family.tags, &facts()).expect("a mirror");
        release
    }

    /// What it is carried out from.
    async fn beside(upstream: &Upstream, fixture: &Fixture) -> Beside {
        let store = Beside::new(Arc::new(fixture.store.clone()));
        store.with(&upstream.tree().await, Arc::new(upstream.store.clone()), upstream.repository.clone())
    }

    fn scope() -> Repository {
        SCOPE.parse().expect("scope")
    }

    fn target(store: &dyn Store) -> Target<'_> {
        Target { store, fresh: store, registry: "r.io" }
    }

    async fn carry_out(publication: &Publication, from: &Beside, to: &dyn Store) -> Result<Published> {
        let scope = scope();
        let source = Source { store: from, repository: &scope, home: None };
        publication.carry_out(&source, target(to), &publisher(1), std::future::pending(), &|_| {}).await
    }

    async fn prepared(release: Release, homes: &Homes, from: &Beside) -> Publication {
        let scope = scope();
        let source = Source { store: from, repository: &scope, home: None };
        Publication::prepare(release, homes, &source).await.expect("publication")
    }

    async fn base() -> Fixture {
        Fixture::new(Divergence::Withhold).image("base", None, &[(AMD, Some("v1")), (ARM, Some("v1"))]).await
    }

    async fn at(store: &Memory, repository: &str, tag: &str) -> Option<Digest> {
        let pointer = Pointer::Tag(tag.parse().expect("tag"));
        let found = store.resolve(&repository.parse().expect("name"), &pointer).await.expect("a look");
        found.map(|found| found.digest)
    }

    #[tokio::test]
    async fn i_p1_i_p2_i_p8_a_mirror_is_published_with_the_family_also_when_cut_off_at_every_call() {
        let (upstream, fixture) = (Upstream::new().await, base().await);
        let store = beside(&upstream, &fixture).await;
        let publication = prepared(release(&upstream, &fixture).await, &homes(), &store).await;
        let (whole, held) = (Watched::new(Memory::new()), upstream.tree().await);
        let published = carry_out(&publication, &store, &whole).await.expect("published");
        assert_eq!(published.tags, publication.release().tag_count());
        let repository: Repository = "o/search".parse().expect("name");
        for failure in [Failure::Before, Failure::After] {
            for call in 0..whole.calls() {
                let name = format!("cut off {failure:?} call {call}");
                let to = Memory::new();
                let watched = Watched::failing(to.clone(), call, failure);
                carry_out(&publication, &store, &watched).await.expect_err(&name);
                let found = [at(&to, "o/search", "7").await, at(&to, "o/search", "2026-11-21").await];
                for found in found.iter().flatten() {
                    assert_eq!(found, upstream.index.digest(), "{name}: not the source's digest");
                    assert_eq!(held.lacking(&to, &repository).await.expect(&name), None, "{name}");
                    assert!(upstream.is_all_attached(&to, &repository).await, "{name}: what is about it");
                }
                carry_out(&publication, &store, &to).await.expect(&name);
                assert_eq!(at(&to, "o/search", "7").await.as_ref(), Some(upstream.index.digest()), "{name}");
                let rows = verify(&publication, target(&to)).await.expect(&name);
                assert!(rows.iter().all(|row| row.is_equal()), "{name}: {rows:?}");
            }
        }
        let totals = Publication::totals(&[publication]);
        assert_eq!((totals.images, totals.platforms, totals.indexes), (2, 2, 2));
    }

    #[tokio::test]
    async fn what_is_about_a_mirror_goes_along_and_signatures_of_others_stay() {
        let (upstream, fixture) = (Upstream::new().await, base().await);
        let (store, repository) = (beside(&upstream, &fixture).await, "o/search".parse().expect("name"));
        let publication = prepared(release(&upstream, &fixture).await, &homes(), &store).await;
        for is_theirs in [false, true] {
            let (to, told) = (Memory::new(), Mutex::new(Vec::new()));
            let mut expected = at(&upstream.store, "library/search", &upstream.by_cosign).await;
            if is_theirs {
                let tags = [upstream.by_cosign.as_str()];
                let theirs = oci::fixture::image(&to, &repository, "{}", "theirs", &tags).await;
                expected = Some(theirs.digest().clone());
            }
            let before = publication.preview(target(&to), &publisher(1), &[]).await.expect("a look");
            let (scope, publisher) = (scope(), publisher(1));
            let source = Source { store: &store, repository: &scope, home: None };
            let tell = |kind: EventKind| told.lock().expect("events").push(kind);
            let never = std::future::pending();
            let done = publication.carry_out(&source, target(&to), &publisher, never, &tell).await;
            done.expect("published");
            assert!(upstream.is_all_attached(&to, &repository).await);
            assert_eq!(at(&to, "o/search", &upstream.by_cosign).await, expected, "{is_theirs}");
            let is_said = |kind: &EventKind| matches!(kind, EventKind::TagWithheld { reference, .. } if reference.ends_with(&upstream.by_cosign));
            assert_eq!(told.lock().expect("events").iter().any(is_said), is_theirs);
            let lines = before.content();
            assert_eq!(lines.contains(&format!("tag       o/search:{} to ", upstream.by_cosign)), !is_theirs);
            for about in &upstream.about {
                assert!(lines.contains(&format!("manifest  {} to o/search\n", about.digest())), "{lines}");
            }
            let rows = verify(&publication, target(&to)).await.expect("a look");
            assert!(rows.iter().all(|row| row.is_equal()), "{rows:?}");
            let after = publication.preview(target(&to), &publisher, &[]).await.expect("a look");
            assert_eq!((after.content(), after.to_do()), (String::new(), Count::default()));
        }
    }

    #[tokio::test]
    async fn the_journal_has_a_mirror_with_its_index_its_platforms_and_its_tags() {
        let (upstream, fixture) = (Upstream::new().await, base().await);
        let (store, to) = (beside(&upstream, &fixture).await, Memory::new());
        let publication = prepared(release(&upstream, &fixture).await, &homes(), &store).await;
        carry_out(&publication, &store, &to).await.expect("published");
        let desk = Desk { store: &to, repository: "o/base".parse().expect("name") };
        let page = desk.read().await.expect("the list");
        let entry = desk.entry(&page.journal.listed[0]).await.expect("a journal");
        let brought = entry.images.iter().find(|image| image.unit == "search").expect("the mirror");
        assert_eq!((brought.repository.as_str(), &brought.index), ("o/search", upstream.index.digest()));
        let index = upstream.index.index().expect("index");
        let platforms = [AMD, ARM].map(|platform| platform.parse().expect("platform"));
        let expected = platforms.into_iter().zip(index.manifests.iter().map(|entry| entry.digest.clone()));
        assert_eq!(brought.platforms, expected.collect(), "the attestation is no platform");
        let tags = entry.tags.iter().filter(|one| one.repository.as_str() == "o/search");
        assert!(tags.clone().all(|one| one.new.as_ref() == Some(upstream.index.digest())));
        assert_eq!(tags.count(), 2);
    }

    #[tokio::test]
    async fn s4_row_15_a_mirror_is_of_the_family_or_a_unit_of_its_own_before_all_that_is_built() {
        let (upstream, fixture) = (Upstream::new().await, base().await);
        let names = |units: Vec<Release>| -> Vec<Vec<String>> {
            let named = |unit: &Release| unit.images.iter().map(|image| image.unit.to_string()).collect();
            units.iter().map(named).collect()
        };
        let whole = release(&upstream, &fixture).await;
        assert_eq!(names(units(whole.clone(), Together::Family)), [["search", "base"]]);
        assert_eq!(names(units(whole, Together::Image)), [["search"], ["base"]]);
        let index = upstream.index.index().expect("index");
        upstream.store.remove_document(&upstream.repository, &index.manifests[0].digest).await.expect("gone");
        let lacking = release(&upstream, &fixture).await;
        assert_eq!(names(units(lacking.clone(), Together::Family)), Vec::<Vec<String>>::new());
        assert_eq!(names(units(lacking, Together::Image)), [["base"]]);
    }

    #[tokio::test]
    async fn s4_row_30_a_mirror_goes_to_other_registries_too_out_of_its_source() {
        let (upstream, fixture) = (Upstream::new().await, base().await);
        let (store, to) = (beside(&upstream, &fixture).await, Memory::new());
        let names = [("o/base", "p/base"), ("o/search", "p/q/search")];
        let names: BTreeMap<Repository, Repository> = { names.into_iter() }
            .map(|(here, there)| (here.parse().expect("name"), there.parse().expect("name")))
            .collect();
        let homes = Homes::Each(
            [("base", "o/base"), ("search", "o/search")]
                .map(|(unit, home)| (unit.to_owned(), home.parse().expect("name")))
                .into(),
        );
        let renamed = release(&upstream, &fixture).await.renamed(&names);
        for unit in units(renamed, Together::Image) {
            let publication = prepared(unit, &homes.renamed(&names), &store).await;
            carry_out(&publication, &store, &to).await.expect("published");
            let rows = verify(&publication, target(&to)).await.expect("a look");
            assert!(rows.iter().all(|row| row.is_equal()), "{rows:?}");
        }
        assert_eq!(at(&to, "p/q/search", "7").await.as_ref(), Some(upstream.index.digest()));
        assert_eq!(at(&to, "o/search", "7").await, None);
        let desk = Desk { store: &to, repository: "p/q/search".parse().expect("name") };
        let own = desk.read().await.expect("the list");
        assert_eq!(own.journal.listed.len(), 1, "its home is its own repository");
    }

    #[tokio::test]
    async fn i_p7_an_immutable_tag_of_a_mirror_does_not_follow_its_source() {
        let (upstream, mut fixture) = (Upstream::new().await, base().await);
        fixture.family.tags.immutable = vec!["7".parse().expect("a pattern")];
        let (store, to) = (beside(&upstream, &fixture).await, Memory::new());
        let first = prepared(release(&upstream, &fixture).await, &homes(), &store).await;
        carry_out(&first, &store, &to).await.expect("published");
        first.keep_immutable(target(&to)).await.expect("it is the same");
        let mut index = upstream.index.index().expect("index");
        index.annotations.clear();
        let changed = Upstream { index: Document::of_index(&index), ..upstream };
        let second = prepared(release(&changed, &fixture).await, &homes(), &store).await;
        let refused = second.keep_immutable(target(&to)).await.expect_err("the tag moves");
        assert_eq!(refused.exit_code(), 4);
        assert_eq!(refused.iter().count(), 1, "{refused}");
        assert!(refused.to_string().contains("r.io/o/search:7 is immutable"), "{refused}");
    }

    #[tokio::test]
    async fn tags_are_those_said_and_one_that_another_image_has_is_a_problem() {
        let (upstream, fixture) = (Upstream::new().await, base().await);
        let add = async |mirror: &Mirror, commit: Option<&str>| {
            let mut release = fixture.assemble().expect("release");
            let facts = RunFacts { commit: commit.map(str::to_owned), ..facts() };
            let tree = upstream.tree().await;
            release.add_mirror(mirror, tree, &fixture.family.tags, &facts).map(|()| release)
        };
        let commit = Some("0123456789abcdef0123");
        let release = add(&mirror(&["{commit}", "v"], "o/search"), commit).await.expect("a release");
        let tags: Vec<&str> = release.images[0].tags.keys().map(|tag| tag.as_str()).collect();
        assert_eq!(tags, ["0123456789ab", "v"]);
        let without = add(&mirror(&["{commit}", "v"], "o/search"), None).await.expect("a release");
        assert_eq!((without.images[0].tags.len(), without.warnings.len()), (1, 1));
        let clash = add(&mirror(&["latest"], "o/base"), None).await.expect_err("two images");
        assert!(clash.to_string().contains("both make the tag `o/base:latest`"), "{clash}");
        assert!(add(&mirror(&["another"], "o/base"), None).await.is_ok());
    }

    #[tokio::test]
    async fn i_p1_what_is_not_whole_where_it_is_stays_away() {
        let (upstream, fixture) = (Upstream::new().await, base().await);
        let arm = upstream.index.index().expect("index").manifests[1].digest.clone();
        upstream.store.remove_document(&upstream.repository, &arm).await.expect("removed");
        let release = release(&upstream, &fixture).await;
        assert_eq!((release.images.len(), release.withheld.len()), (1, 1));
        let reason = &release.withheld[0].reason;
        assert!(reason.contains("is not whole") && reason.contains(arm.hex()), "{reason}");
    }
}
