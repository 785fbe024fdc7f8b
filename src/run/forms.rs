//! Newer forms of a Dockerfile, which only some builders of a platform understand: those are given it.

use crate::dockerfile::{Newer, Written};
use crate::family::{Family, JobId};
use crate::plan::{Decision, Plan};

use super::builder::Builder;

/// What the Dockerfile of a job asks of those who read it.
pub(super) struct Forms<'a> {
    newer: Vec<&'a Newer>,
    frontend: Option<Written>,
}

impl<'a> Forms<'a> {
    /// Of a job of which nothing is read: every builder understands it.
    pub(super) fn none() -> Self {
        Self { newer: Vec::new(), frontend: None }
    }

    /// Of a job that is built; of others nothing is read.
    pub(super) fn of(family: &'a Family, plan: &Plan, job: &JobId) -> Self {
        let planned = plan.jobs.get(job).filter(|planned| matches!(planned.decision, Decision::Build(_)));
        let recipe = planned.and_then(|_| family.recipe(&job.unit));
        let build = recipe.and_then(|recipe| recipe.platforms.get(&job.platform));
        Self {
            newer: build.into_iter().flat_map(|build| &build.needs.needs_newer).collect(),
            frontend: recipe.and_then(|recipe| recipe.file.syntax()),
        }
    }

    /// What of it a builder does not understand, and where that stands.
    pub(super) fn foreign_to(&self, builder: &Builder) -> Vec<(crate::diag::Place, String)> {
        let named = self.frontend.as_ref().map(|frontend| &*frontend.text);
        let newer = self.newer.iter().filter(|newer| !builder.facts.understands(&newer.feature, named));
        let unread = self.frontend.iter().filter(|frontend| !builder.facts.reads_as(&frontend.text));
        let unread = unread
            .map(|frontend| (frontend.place.clone(), format!("what the frontend {} reads", frontend.text)));
        newer.map(|newer| (newer.place.clone(), newer.feature.clone())).chain(unread).collect()
    }

    /// Whether a builder understands all of it.
    pub(super) fn are_understood_by(&self, builder: &Builder) -> bool {
        self.foreign_to(builder).is_empty()
    }
}
