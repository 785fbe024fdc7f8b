//! Builders: engines with their platforms and slots, and which of them takes a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diag::{Diagnostic, Place, Problems};
use crate::dockerfile::Dockerfile;
use crate::engine::{Engine, EngineFacts, StoreAddress};
use crate::family::{Emulation, Family, JobId};
use crate::oci::Platform;
use crate::plan::{Decision, Plan};

/// One engine at one address, with its slots.
#[derive(Clone)]
pub(crate) struct Builder {
    /// What it is called in events and records.
    pub(crate) name: String,
    /// The engine.
    pub(crate) engine: Arc<dyn Engine>,
    /// What it can do.
    pub(crate) facts: EngineFacts,
    /// Where it finds the store of the run.
    pub(crate) store: StoreAddress,
    /// How many jobs it takes at once; at least 1.
    pub(crate) slots: usize,
}

/// How a builder fits a platform. Native is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// Its machine runs such programs itself.
    Native,
    /// Its machine emulates them.
    Emulated,
}

impl Builder {
    /// How it fits a platform, if at all.
    pub(crate) fn fit(&self, platform: &Platform, emulation: Emulation) -> Option<Fit> {
        if self.facts.native.contains(platform) {
            return Some(Fit::Native);
        }
        (emulation == Emulation::Allowed && self.facts.emulated.contains(platform)).then_some(Fit::Emulated)
    }
}

/// What builders must have for a plan, before anything is built; all that they lack together.
pub(super) fn check(
    family: &Family,
    plan: &Plan,
    builders: &[Builder],
    emulation: Emulation,
) -> Result<(), Problems> {
    let mut problems = check_platforms(plan, builders, emulation);
    problems.extend(check_frontends(family, plan, builders, emulation));
    Problems::check(problems)
}

/// What a Dockerfile asks for and the frontends of its builders do not have, unless it names a frontend itself.
fn check_frontends(
    family: &Family,
    plan: &Plan,
    builders: &[Builder],
    emulation: Emulation,
) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<(Place, String), String>::new();
    for (job, planned) in &plan.jobs {
        let (Decision::Build(_), Some(recipe)) = (&planned.decision, family.recipe(&job.unit)) else {
            continue;
        };
        let fitting: Vec<_> =
            builders.iter().filter(|builder| builder.fit(&job.platform, emulation).is_some()).collect();
        let old = fitting.iter().all(|builder| !builder.facts.has_new_frontend());
        let Some(first) = fitting.first().filter(|_| old) else { continue };
        let named =
            Dockerfile::parse(&recipe.dockerfile, &recipe.text).is_ok_and(|file| file.syntax().is_some());
        let newer =
            recipe.platforms.get(&job.platform).into_iter().flat_map(|build| &build.needs.needs_newer);
        for newer in newer.filter(|_| !named) {
            let key = (newer.place.clone(), newer.feature.clone());
            lacking.entry(key).or_insert_with(|| format!("{} {}", first.engine.name(), first.facts.version));
        }
    }
    let told = lacking.into_iter().map(|((place, feature), engine)| {
        let file = place.file.display().to_string();
        Diagnostic::surroundings(format!("{engine} does not understand {feature}"))
            .at(place)
            .hint(format!(
                "let it fetch a frontend that does: sed -i '1i # syntax=docker/dockerfile:1' {file}"
            ))
            .hint("or update Docker Engine to 23 or newer; see what is there: polyarch doctor")
    });
    told.collect()
}

/// F-G15: every job that has something to do must have a builder, before anything is built.
fn check_platforms(plan: &Plan, builders: &[Builder], emulation: Emulation) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<&Platform, Vec<&JobId>>::new();
    for (job, planned) in &plan.jobs {
        let idle = matches!(planned.decision, Decision::Reuse(_));
        if !idle && !builders.iter().any(|builder| builder.fit(&job.platform, emulation).is_some()) {
            lacking.entry(&job.platform).or_default().push(job);
        }
    }
    let problems = lacking.into_iter().map(|(platform, jobs)| {
        let problem = Diagnostic::surroundings(format!(
            "no builder runs {platform}, which {} of the plan {}",
            crate::diag::count(jobs.len(), "job"),
            if jobs.len() == 1 { "needs" } else { "need" },
        ));
        let emulated = builders.iter().any(|builder| builder.facts.emulated.contains(platform));
        match emulated {
            true => problem.hint("allow emulation: polyarch build --emulate=allow"),
            false => problem
                .hint("let this machine emulate it: sudo apt-get install qemu-user-static binfmt-support")
                .hint(format!("or leave it out: polyarch build {}", others(builders))),
        }
    });
    problems.collect()
}

fn others(builders: &[Builder]) -> String {
    let platforms: std::collections::BTreeSet<String> = builders
        .iter()
        .flat_map(|builder| builder.facts.native.iter().chain(&builder.facts.emulated))
        .map(|platform| format!("--platform {platform}"))
        .collect();
    platforms.into_iter().collect::<Vec<_>>().join(" ")
}
