//! Families at all states of their sources, with every image built.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::family::{Divergence, Together, Unit};
use crate::oci::{Digest, Memory, Platform, Repository};
use crate::publish::fixture::{AMD, ARM, Fixture, SCOPE, homes};
use crate::publish::invariants::{Allowed, Content, Known};
use crate::publish::publication::{Step, blobs_of};
use crate::publish::*;

/// How many states of its sources a family goes through.
pub(super) const STATES: usize = 4;

/// A family at one state of its sources, ready to be published.
pub(super) struct Edition {
    pub(super) state: usize,
    /// Only an image that stands on another is selected.
    pub(super) leaf_only: bool,
    pub(super) units: Vec<Publication>,
    pub(super) allowed: Allowed,
}

/// The same family at all its states.
pub(super) struct Line {
    pub(super) editions: Vec<Edition>,
    pub(super) known: Arc<Known>,
    /// Where its journals are.
    pub(super) homes: Homes,
}

/// Everything that is published in any simulation.
pub(super) struct Pool {
    pub(super) store: Memory,
    pub(super) lines: Vec<Line>,
}

/// An image, what it stands on, and its platforms.
type Shape = (&'static str, Option<&'static str>, &'static [&'static str]);

/// At which state of its own sources an image is when the family is at some state.
fn state_of(unit: &str, state: usize) -> usize {
    match unit.split(':').next() {
        Some("base") => [0, 1, 1, 2][state],
        Some("leaf") => [0, 0, 1, 2][state],
        _ => [0, 0, 0, 1][state],
    }
}

impl Pool {
    pub(super) async fn new() -> Self {
        let shapes: [&[Shape]; 4] = [
            &[("base", None, &[AMD]), ("leaf", Some("base"), &[AMD])],
            &[("base", None, &[AMD, ARM]), ("leaf", Some("base"), &[AMD, ARM]), ("other", None, &[AMD])],
            &[
                ("base", None, &[AMD, ARM]),
                ("base:cuda", Some("base"), &[AMD]),
                ("leaf", Some("base"), &[ARM]),
            ],
            &[("base", None, &[AMD]), ("leaf", Some("base"), &[AMD]), ("base:late", Some("leaf"), &[AMD])],
        ];
        let (store, mut lines) = (Memory::new(), Vec::new());
        for (at, shape) in shapes.iter().enumerate() {
            for together in [Together::Family, Together::Image] {
                for immutable in [false, true] {
                    lines.push(Self::line(&store, at, shape, together, immutable).await);
                }
            }
        }
        Self { store, lines }
    }

    async fn line(store: &Memory, at: usize, shape: &[Shape], together: Together, immutable: bool) -> Line {
        let (mut editions, mut known) = (Vec::new(), Known::new());
        let mut homes = homes();
        for state in 0..STATES {
            let mut fixture = Fixture::new(Divergence::Withhold);
            fixture.store = store.clone();
            for (unit, parent, platforms) in shape {
                // What is built anew on a parent is anew itself.
                let of_parent = parent.map_or(0, |parent| state_of(parent, state));
                fixture.states.insert((*unit).to_owned(), 100 * at + 10 * state_of(unit, state) + of_parent);
                let value = format!("v{}", state_of(unit, state));
                let made: Vec<_> =
                    { platforms.iter() }.map(|platform| (*platform, Some(value.as_str()))).collect();
                fixture = fixture.image(unit, *parent, &made).await;
            }
            let common = ["latest", "{commit}"].map(str::to_owned);
            let recipes = fixture.family.recipes.values_mut();
            recipes.for_each(|recipe| recipe.common_tags = common.to_vec());
            if immutable {
                fixture.family.tags.immutable = vec!["{commit}".parse().expect("a pattern")];
            }
            if together == Together::Image {
                let each = fixture.family.recipes();
                homes = Homes::Each(each.map(|one| (one.unit.to_string(), one.repository.clone())).collect());
            }
            for leaf_only in [false, true] {
                let what = (state, leaf_only, together);
                editions.push(Self::edition((&fixture, &homes), what, &mut known).await);
            }
        }
        Line { editions, known: Arc::new(known), homes }
    }

    async fn edition(
        (fixture, homes): (&Fixture, &Homes),
        (state, leaf_only, together): (usize, bool, Together),
        known: &mut Known,
    ) -> Edition {
        let scope: Repository = SCOPE.parse().expect("scope");
        let source = Source { store: &fixture.store, repository: &scope, home: None };
        let order = fixture.family.order.iter();
        let chosen: BTreeSet<Unit> =
            order.filter(|unit| !leaf_only || unit.to_string() == "leaf").cloned().collect();
        // The first two states are of one commit.
        let commit = Digest::of(format!("commit {}", state.max(1)).as_bytes()).hex()[..40].to_owned();
        let facts = RunFacts { date: String::new(), commit: Some(commit) };
        let release =
            assemble(&fixture.family, &chosen, &fixture.planned(), &fixture.passed, &facts).expect("release");
        assert!(release.withheld.is_empty(), "{:?}", release.withheld);
        let parents: BTreeMap<&Digest, Vec<Digest>> = { fixture.passed.values() }
            .map(|passed| (&passed.image.image, passed.image.parents.values().cloned().collect()))
            .collect();
        let tested: BTreeMap<&Digest, &Platform> = { fixture.passed.values() }
            .filter(|passed| passed.checks.image == passed.image.image)
            .map(|passed| (&passed.image.image, &passed.image.platform))
            .collect();
        let mut allowed = Allowed::default();
        for image in &release.images {
            let recipe = &fixture.family.recipes[&image.unit];
            let lacking = recipe.platforms.keys().filter(|one| !image.platforms.contains_key(one));
            let lacking: Vec<Platform> = lacking.cloned().collect();
            let children = image.index.index().expect("index").manifests.into_iter().map(|one| one.digest);
            let content = Content { children: children.collect(), lacking, ..Content::default() };
            known.insert(image.index.digest().clone(), content);
            allowed.brings.extend(image.platforms.values().map(|one| one.manifest.digest.clone()));
            for (tag, digest) in &image.tags {
                allowed.places.insert((image.repository.clone(), tag.clone()), digest.clone());
            }
            allowed
                .immutable
                .extend(image.immutable.keys().map(|tag| (image.repository.clone(), tag.clone())));
        }
        let units =
            Publication::prepare_each(units(release, together), homes, &source).await.expect("publications");
        for step in units.iter().flat_map(Publication::steps) {
            if let Step::Document { document, .. } = step
                && !document.is_index()
            {
                let parents = parents[document.digest()].clone();
                let blobs = blobs_of(document).expect("manifest");
                let tested = tested.get(document.digest()).map(|platform| (*platform).clone());
                let content = Content { blobs, parents, tested, ..Content::default() };
                known.insert(document.digest().clone(), content);
            }
        }
        Edition { state, leaf_only, units, allowed }
    }
}
