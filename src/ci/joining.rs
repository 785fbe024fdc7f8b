//! Where each image goes by itself: the jobs that join its platforms and publish it, one for each repository.
//!
//! Such a job waits for the builds of its own images and for those of its kind that publish what they stand on, and for no
//! other: a child is published after its parents (I-P5), and what fails elsewhere is not in its way.

use std::collections::{BTreeMap, BTreeSet};

use crate::family::{Family, Recipe, Together, Unit, by_repository};

use super::pipeline::{BuildJob, id_among};

/// What the name of such a job ends with, as people have it.
const END: &str = "-manifest";

/// Whether a job may be one of these, by its name.
pub(crate) fn may_be_joining(id: &str) -> bool {
    id.ends_with(END)
}

/// Joins and publishes the images of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JoiningJob {
    /// What the service calls it.
    pub(super) id: String,
    /// What it publishes.
    units: Vec<Unit>,
    /// The ids of the jobs that build that.
    builds: Vec<String>,
    /// The ids of these and of all that they stand on: the jobs whose files it takes in.
    pub(super) taken: Vec<String>,
    /// The ids of the jobs of its kind that publish what its images stand on.
    pub(super) after: Vec<String>,
}

impl JoiningJob {
    /// The ids of all jobs that it waits for.
    pub(super) fn waits_for(&self) -> Vec<String> {
        let others = self.builds.iter().chain(&self.after).cloned();
        std::iter::once("plan".to_owned()).chain(others).collect()
    }

    /// How many jobs it names where it names all whose files it takes in, that of the plan among them.
    pub(super) fn needs_number(&self) -> usize {
        1 + self.taken.len() + self.after.len()
    }

    /// The images, as `polyarch job publish` is told.
    pub(super) fn images(&self) -> String {
        self.units.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// These jobs of a family of which each image goes by itself, parents first, by the jobs that build one image each.
pub(super) fn joining(family: &Family, builds: &[BuildJob]) -> Vec<JoiningJob> {
    if family.publish.together == Together::Family {
        return Vec::new();
    }
    let published: Vec<&Recipe> = family.recipes().filter(|recipe| !recipe.downstream).collect();
    let images = published.iter().map(|recipe| (&recipe.unit, &recipe.repository));
    let places = by_repository(images.map(|(unit, repository)| (unit, repository, family.parents(unit))));
    let places: BTreeMap<&Unit, usize> = published.iter().map(|recipe| &recipe.unit).zip(places).collect();
    let mut taken_ids: BTreeSet<String> = builds.iter().map(|build| build.id.clone()).collect();
    let mut joining: Vec<JoiningJob> = Vec::new();
    for at in 0..places.values().max().map_or(0, |last| last + 1) {
        let is_own = |unit: &Unit| places.get(unit) == Some(&at);
        let units: Vec<&Unit> =
            published.iter().map(|recipe| &recipe.unit).filter(|unit| is_own(unit)).collect();
        let own: Vec<&BuildJob> =
            builds.iter().filter(|build| build.jobs.iter().any(|job| is_own(&job.unit))).collect();
        let taken: BTreeSet<&String> =
            own.iter().flat_map(|build| build.ancestors.iter().chain([&build.id])).collect();
        let parents = units.iter().flat_map(|unit| family.parents(unit));
        let before: BTreeSet<usize> =
            parents.filter_map(|parent| places.get(parent).copied()).filter(|before| *before != at).collect();
        let name = units.first().map(|unit| unit.image.to_string()).unwrap_or_default();
        let job = JoiningJob {
            id: String::new(),
            units: units.into_iter().cloned().collect(),
            builds: own.iter().map(|build| build.id.clone()).collect(),
            taken: taken.into_iter().cloned().collect(),
            after: before.iter().map(|place| joining[*place].id.clone()).collect(),
        };
        let id = id_among(&mut taken_ids, &name, END, &job.images());
        joining.push(JoiningJob { id, ..job });
    }
    joining
}
