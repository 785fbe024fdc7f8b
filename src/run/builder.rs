//! Builders: engines with their platforms and slots, and which of them takes a job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diag::{Diagnostic, Place, Problems, count, size};
use crate::dockerfile::Dockerfile;
use crate::engine::{Engine, EngineFacts, StoreAddress};
use crate::family::{Action, Check, CheckKind, Emulation, Family, JobId, Recipe};
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
    /// What else it has, such as `gpu`.
    pub(crate) labels: BTreeSet<String>,
    /// How many bytes jobs may fill where it keeps images; `None` where that is not known and counts as enough.
    pub(crate) room: Option<u64>,
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
        (emulation.is_allowed() && self.facts.emulated.contains(platform)).then_some(Fit::Emulated)
    }
}

/// What builders must have for a plan, before anything is built; all that they lack together.
pub(super) fn check(family: &Family, plan: &Plan, builders: &[Builder]) -> Result<(), Problems> {
    let mut problems = check_platforms(plan, builders);
    problems.extend(check_terms(family, plan, builders));
    problems.extend(check_frontends(family, plan, builders));
    problems.extend(check_host_tests(family, plan, builders));
    Problems::check(problems)
}

/// What a Dockerfile asks for and a builder that may be given it does not understand.
fn check_frontends(family: &Family, plan: &Plan, builders: &[Builder]) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<(Place, String), &Builder>::new();
    for (job, planned) in &plan.jobs {
        let (Decision::Build(_), Some(recipe)) = (&planned.decision, family.recipe(&job.unit)) else {
            continue;
        };
        let file = Dockerfile::parse(&recipe.dockerfile, &recipe.text).ok();
        let frontend = file.and_then(|file| file.syntax());
        let named = frontend.as_ref().map(|frontend| &*frontend.text);
        let newer: Vec<_> = recipe
            .platforms
            .get(&job.platform)
            .into_iter()
            .flat_map(|build| &build.needs.needs_newer)
            .collect();
        let fits = |builder: &&Builder| builder.fit(&job.platform, planned.terms.emulation).is_some();
        for builder in builders.iter().filter(fits) {
            for newer in newer.iter().filter(|newer| !builder.facts.understands(&newer.feature, named)) {
                lacking.entry((newer.place.clone(), newer.feature.clone())).or_insert(builder);
            }
            if let Some(unread) = frontend.as_ref().filter(|frontend| !builder.facts.reads_as(&frontend.text))
            {
                let feature = format!("what the frontend {} reads", unread.text);
                lacking.entry((unread.place.clone(), feature)).or_insert(builder);
            }
        }
    }
    lacking.into_iter().map(|((place, feature), builder)| not_understood(place, &feature, builder)).collect()
}

fn not_understood(place: Place, feature: &str, builder: &Builder) -> Diagnostic {
    let file = place.file.display().to_string();
    let facts = &builder.facts;
    let problem = Diagnostic::surroundings(format!(
        "{} {} does not understand {feature}",
        builder.engine.name(),
        facts.version
    ))
    .at(place);
    match facts.fetches_frontends() {
        true => problem
            .hint(format!(
                "let it fetch a frontend that does: sed -i '1i # syntax=docker/dockerfile:1' {file}"
            ))
            .hint("or update Docker Engine to 23 or newer; see what is there: polyarch doctor"),
        false => problem
            .hint("let a Docker Engine build it: polyarch build --builder docker")
            .hint("or write it in an older form; heredocs want Buildah 1.33 or newer"),
    }
}

/// Whether a recipe has tests on this machine, which want the image in an engine.
pub(super) fn has_host_tests(recipe: &Recipe) -> bool {
    let is_on_host =
        |check: &Check| matches!(check.kind, CheckKind::Test { action: Action::Host { .. }, .. });
    recipe.checks.iter().any(is_on_host)
}

/// Tests on this machine of jobs that only builders take which keep no images.
fn check_host_tests(family: &Family, plan: &Plan, builders: &[Builder]) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<&Platform, Vec<&JobId>>::new();
    for (job, planned) in &plan.jobs {
        let is_idle = matches!(planned.decision, Decision::Reuse(_));
        if is_idle || !family.recipe(&job.unit).is_some_and(has_host_tests) {
            continue;
        }
        let fits = |builder: &&Builder| builder.fit(&job.platform, planned.terms.emulation).is_some();
        let mut fitting = builders.iter().filter(fits).peekable();
        if fitting.peek().is_some() && fitting.all(|builder| !builder.engine.runs_containers()) {
            lacking.entry(&job.platform).or_default().push(job);
        }
    }
    let problems = lacking.into_iter().map(|(platform, jobs)| {
        Diagnostic::surroundings(format!(
            "{} of the plan {} tests on this machine, and every builder for {platform} only builds",
            count(jobs.len(), "job"),
            if jobs.len() == 1 { "has" } else { "have" },
        ))
        .because(format!("one is {}", jobs[0]))
        .hint(format!(
            "add an engine that runs {platform}, as in: polyarch build --builder docker --builder buildx:NAME"
        ))
        .hint("or let the tests run in the image: { run = \"…\" } in place of { host = \"…\" }")
    });
    problems.collect()
}

/// F-G15: every job that has something to do must have a builder, before anything is built.
fn check_platforms(plan: &Plan, builders: &[Builder]) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<&Platform, Vec<&JobId>>::new();
    for (job, planned) in &plan.jobs {
        let idle = matches!(planned.decision, Decision::Reuse(_));
        if !idle
            && !builders.iter().any(|builder| builder.fit(&job.platform, planned.terms.emulation).is_some())
        {
            lacking.entry(&job.platform).or_default().push(job);
        }
    }
    let problems = lacking.into_iter().map(|(platform, jobs)| {
        let problem = Diagnostic::surroundings(format!(
            "no builder runs {platform}, which {} of the plan {}",
            count(jobs.len(), "job"),
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

/// What images want of a builder beside its platform, and what none of those has that run the platform.
fn check_terms(family: &Family, plan: &Plan, builders: &[Builder]) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (job, planned) in &plan.jobs {
        let terms = &planned.terms;
        let fits = |builder: &&Builder| builder.fit(&job.platform, terms.emulation).is_some();
        let fitting: Vec<&Builder> = builders.iter().filter(fits).collect();
        if matches!(planned.decision, Decision::Reuse(_)) || fitting.is_empty() {
            continue;
        }
        let labelled: Vec<&Builder> =
            fitting.iter().copied().filter(|builder| terms.labels.is_subset(&builder.labels)).collect();
        let has_room = |builder: &&Builder| builder.room.is_none_or(|room| room >= terms.disk_bytes);
        let runs_all = |builder: &&Builder| {
            family.recipe(&job.unit).is_some_and(|recipe| {
                recipe.platforms.keys().all(|platform| builder.fit(platform, Emulation::Always).is_some())
            })
        };
        let labels: Vec<&str> = terms.labels.iter().map(String::as_str).collect();
        if labelled.is_empty() {
            let problem = format!(
                "no builder of {} has the labels that {job} needs: {}",
                job.platform,
                labels.join(", ")
            );
            problems
                .push(Diagnostic::surroundings(problem).hint("say which has them: `labels` of [builder.X]"));
        } else if !labelled.iter().any(has_room) {
            let known = labelled
                .iter()
                .filter_map(|builder| Some((&builder.name, builder.room?, &builder.facts.root)));
            let known = known.map(|(name, room, root)| {
                let root = root.as_ref().map_or_else(String::new, |root| format!(" in {}", root.display()));
                format!("builder {name} has {}{root}", size(room))
            });
            let problem = format!("no builder has room for {job}, which wants {}", size(terms.disk_bytes));
            let problem = known.fold(Diagnostic::surroundings(problem), Diagnostic::because);
            problems.push(problem.hint(
                "see what fills it: docker system df; and free the cache of builds: docker builder prune",
            ));
        } else if terms.emulation == Emulation::Always && !labelled.iter().any(runs_all) {
            let problem =
                format!("no builder runs all platforms of {}, which are to be built on one", job.unit);
            problems
                .push(Diagnostic::surroundings(problem).hint(
                    "let a builder emulate them: sudo apt-get install qemu-user-static binfmt-support",
                ));
        }
    }
    problems
}

fn others(builders: &[Builder]) -> String {
    let platforms: std::collections::BTreeSet<String> = builders
        .iter()
        .flat_map(|builder| builder.facts.native.iter().chain(&builder.facts.emulated))
        .map(|platform| format!("--platform {platform}"))
        .collect();
    platforms.into_iter().collect::<Vec<_>>().join(" ")
}
