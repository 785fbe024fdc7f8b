//! Which builders suit which jobs, before anything is built: all that none of them has is told together.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Place, Problems, count, size};
use crate::family::{Action, Check, CheckKind, Emulation, Family, JobId, Recipe, Terms};
use crate::oci::Platform;
use crate::plan::{Decision, Facts, Plan};

use super::apart;
use super::builder::{Builder, Fit, free_some, wanted};
use super::forms::Forms;

/// What is asked of builders.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// What there is.
    pub(crate) family: &'a Family,
    /// What the plan was made from.
    pub(crate) facts: &'a Facts,
    /// What is to be done.
    pub(crate) plan: &'a Plan,
    /// Whether nobody trusts what is built.
    pub(crate) is_untrusted: bool,
}

/// What a job wants of the builder that does it.
pub(super) struct Wish<'a> {
    job: &'a JobId,
    recipe: &'a Recipe,
    terms: &'a Terms,
    forms: Forms<'a>,
    /// Why it must be kept apart from what others build, where not every builder can be told to.
    apart: Option<Diagnostic>,
}

impl<'a> Wish<'a> {
    /// Of all jobs that have something to do.
    fn all(asked: &Asked<'a>) -> Vec<Self> {
        asked.plan.jobs.keys().filter_map(|job| Self::of(asked, job)).collect()
    }

    /// Of a job that has something to do.
    pub(super) fn of(asked: &Asked<'a>, job: &JobId) -> Option<Self> {
        let (job, planned) = asked.plan.jobs.get_key_value(job)?;
        let recipe = asked.family.recipe(&job.unit).filter(|_| planned.left_out.is_none())?;
        let apart = match planned.decision {
            Decision::Reuse(_) => return None,
            Decision::Check(_) => None,
            Decision::Build(_) => apart::wants_apartness(asked, job, recipe),
        };
        let forms = Forms::of(asked.family, asked.plan, job);
        Some(Self { job, recipe, terms: &planned.terms, forms, apart })
    }

    /// Whether a builder runs its platform.
    fn runs_on(&self, builder: &Builder) -> bool {
        builder.fit(&self.job.platform, self.terms.emulation).is_some()
    }

    /// Whether a builder keeps it apart from what others build, where it must be.
    fn is_kept_apart_by(&self, builder: &Builder) -> bool {
        self.apart.is_none() || builder.facts.keeps_apart()
    }

    /// Whether a builder understands its Dockerfile, and keeps it apart where it must be.
    pub(super) fn is_built_by(&self, builder: &Builder) -> bool {
        self.forms.are_understood_by(builder) && self.is_kept_apart_by(builder)
    }

    /// Whether a builder runs its platform and builds its Dockerfile.
    fn fits(&self, builder: &Builder) -> bool {
        self.runs_on(builder) && self.is_built_by(builder)
    }

    /// Whether a builder has what is stated of it and asked for.
    fn is_labelled(&self, builder: &Builder) -> bool {
        self.terms.labels.is_subset(&builder.labels)
    }

    /// Whether a builder that does nothing else has room for it, as far as that is known.
    fn has_room(&self, builder: &Builder) -> bool {
        builder.room.as_ref().is_none_or(|room| room.takes(wanted(self.terms)))
    }

    /// Whether a builder runs every platform of the image, where all are to be built on one.
    fn is_whole(&self, builder: &Builder) -> bool {
        self.terms.emulation != Emulation::Always
            || self.recipe.platforms.keys().all(|one| builder.fit(one, Emulation::Always).is_some())
    }

    /// Whether a builder keeps its image for tests on this machine, where it has some.
    fn is_kept_by(&self, builder: &Builder) -> bool {
        builder.engine.runs_containers() || !has_host_tests(self.recipe)
    }

    /// How a builder does it, if it does.
    fn fit(&self, builder: &Builder) -> Option<Fit> {
        let fit = builder.fit(&self.job.platform, self.terms.emulation);
        fit.filter(|_| self.hindrance(builder).is_none())
    }

    /// Why a builder does not do it, in words that follow its name.
    fn hindrance(&self, builder: &Builder) -> Option<String> {
        let platform = &self.job.platform;
        let emulated = builder.facts.emulated.contains(platform);
        if !self.runs_on(builder) {
            let how = if emulated { "only emulates" } else { "does not run" };
            return Some(format!("{how} {platform}"));
        }
        if !self.forms.are_understood_by(builder) {
            return Some("does not understand the Dockerfile".to_owned());
        }
        if !self.is_kept_apart_by(builder) {
            return Some("cannot keep its steps apart from those of others".to_owned());
        }
        if !self.is_labelled(builder) {
            let lacking: Vec<&str> =
                self.terms.labels.difference(&builder.labels).map(String::as_str).collect();
            return Some(format!("lacks the labels {}", lacking.join(", ")));
        }
        if !self.has_room(builder) {
            return Some(format!("has no room for {}", size(wanted(self.terms))));
        }
        if !self.is_whole(builder) {
            return Some("does not run all platforms of the image".to_owned());
        }
        (!self.is_kept_by(builder)).then(|| "keeps no image for tests on this machine".to_owned())
    }
}

/// What a builder does not do of what there is to do: why, and how many jobs. Others may.
pub(crate) fn hindrances(asked: &Asked<'_>, builder: &Builder) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for why in Wish::all(asked).iter().filter_map(|wish| wish.hindrance(builder)) {
        *all.entry(why).or_default() += 1;
    }
    all
}

/// How many jobs a builder does by emulation that no builder does natively, or that are not split between builders.
pub(crate) fn emulated(asked: &Asked<'_>, builder: &Builder, builders: &[Builder]) -> usize {
    let wishes = Wish::all(asked);
    let emulated = wishes.iter().filter(|wish| wish.fit(builder) == Some(Fit::Emulated));
    let is_left = |wish: &&Wish<'_>| {
        wish.terms.emulation == Emulation::Always
            || !builders.iter().any(|one| wish.fit(one) == Some(Fit::Native))
    };
    emulated.filter(is_left).count()
}

/// What builders must have for a plan, before anything is built.
///
/// # Errors
/// All that they lack together.
pub(crate) fn check(asked: &Asked<'_>, builders: &[Builder]) -> Result<(), Problems> {
    let wishes = Wish::all(asked);
    let platforms = asked.plan.jobs.keys().map(|job| &job.platform).collect();
    let mut problems = check_each(&platforms, &wishes, builders);
    problems.extend(check_together(&wishes, builders));
    Problems::check(problems)
}

/// What no builder has, for each thing that jobs want; the platforms are those of the whole plan.
fn check_each(platforms: &BTreeSet<&Platform>, wishes: &[Wish<'_>], builders: &[Builder]) -> Vec<Diagnostic> {
    let mut problems = check_platforms(platforms, wishes, builders);
    problems.extend(wishes.iter().filter_map(|wish| lack_of_terms(wish, builders)));
    problems.extend(check_forms(wishes, builders));
    problems.extend(check_apartness(wishes, builders));
    problems.extend(check_host_tests(wishes, builders));
    problems
}

/// Jobs for which some builder has each thing that they want, and none has all of them.
fn check_together(wishes: &[Wish<'_>], builders: &[Builder]) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<Vec<String>, Vec<&JobId>>::new();
    for wish in wishes {
        let hindrance =
            |builder: &Builder| Some(format!("builder {} {}", builder.name, wish.hindrance(builder)?));
        let Some(hindrances) = builders.iter().map(hindrance).collect::<Option<Vec<String>>>() else {
            continue;
        };
        if check_each(&BTreeSet::new(), std::slice::from_ref(wish), builders).is_empty() {
            lacking.entry(hindrances).or_default().push(wish.job);
        }
    }
    let problems = lacking.into_iter().map(|(hindrances, jobs)| {
        let who = match jobs.len() - 1 {
            0 => format!("{} wants", jobs[0]),
            more => format!("{} and {more} more want", jobs[0]),
        };
        let problem = Diagnostic::surroundings(format!("no builder has all that {who}"));
        { hindrances.into_iter() }.fold(problem, Diagnostic::because).hint(
            "let one builder have all of it, or ask for less: `needs`, `disk` and `emulate` of the image",
        )
    });
    problems.collect()
}

/// What images of a family want of builders beside their platforms, and what none of those has that run the platform:
/// labels, room, all platforms at once, and all that together.
pub(crate) fn lacks(family: &Family, builders: &[Builder]) -> Vec<Diagnostic> {
    let none = Terms::default();
    let jobs: Vec<JobId> = family.jobs().collect();
    let wishes = jobs.iter().filter_map(|job| {
        let recipe = family.recipe(&job.unit)?;
        let terms = recipe.terms.get(&job.platform).unwrap_or(&none);
        Some(Wish { job, recipe, terms, forms: Forms::none(), apart: None })
    });
    let wishes: Vec<Wish<'_>> = wishes.collect();
    let mut lacks: Vec<Diagnostic> = wishes.iter().filter_map(|wish| lack_of_terms(wish, builders)).collect();
    lacks.extend(check_together(&wishes, builders));
    lacks
}

/// What Dockerfiles ask for and no builder of their platform understands; told of the first of those builders.
fn check_forms(wishes: &[Wish<'_>], builders: &[Builder]) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<(Place, String), &Builder>::new();
    for wish in wishes.iter().filter(|wish| !builders.iter().any(|builder| wish.fits(builder))) {
        if let Some(builder) = builders.iter().find(|builder| wish.runs_on(builder)) {
            for foreign in wish.forms.foreign_to(builder) {
                lacking.entry(foreign).or_insert(builder);
            }
        }
    }
    lacking.into_iter().map(|((place, feature), builder)| not_understood(place, &feature, builder)).collect()
}

/// TM1: what must be kept apart from what others build, and runs on no builder that can be told to.
fn check_apartness(wishes: &[Wish<'_>], builders: &[Builder]) -> Vec<Diagnostic> {
    let lacking = wishes.iter().filter(|wish| {
        let mut running = builders.iter().filter(|builder| wish.runs_on(builder)).peekable();
        running.peek().is_some() && !running.any(|builder| wish.is_kept_apart_by(builder))
    });
    lacking.filter_map(|wish| wish.apart.clone()).collect()
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
fn check_host_tests(wishes: &[Wish<'_>], builders: &[Builder]) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<&Platform, Vec<&JobId>>::new();
    for wish in wishes {
        let mut fitting = builders.iter().filter(|builder| wish.fits(builder)).peekable();
        if fitting.peek().is_some() && !fitting.any(|builder| wish.is_kept_by(builder)) {
            lacking.entry(&wish.job.platform).or_default().push(wish.job);
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
fn check_platforms(
    platforms: &BTreeSet<&Platform>,
    wishes: &[Wish<'_>],
    builders: &[Builder],
) -> Vec<Diagnostic> {
    let mut lacking = BTreeMap::<&Platform, usize>::new();
    for wish in wishes.iter().filter(|wish| !builders.iter().any(|builder| wish.runs_on(builder))) {
        *lacking.entry(&wish.job.platform).or_default() += 1;
    }
    let others = platforms.iter().filter(|platform| !lacking.contains_key(**platform));
    let others = others.map(|platform| format!("--platform {platform}")).collect::<Vec<_>>().join(" ");
    let problems = lacking.into_iter().map(|(platform, jobs)| {
        let problem = Diagnostic::surroundings(format!(
            "no builder runs {platform}, which {} of the plan {}",
            count(jobs, "job"),
            if jobs == 1 { "needs" } else { "need" },
        ));
        let emulated = builders.iter().any(|builder| builder.facts.emulated.contains(platform));
        match emulated {
            true => problem.hint("allow emulation: polyarch build --emulate=allow"),
            false => {
                let problem = problem.hint(Builder::to_have(platform, builders));
                match others.is_empty() {
                    true => problem,
                    false => problem.hint(format!("or leave it out: polyarch build {others}")),
                }
            }
        }
    });
    problems.collect()
}

/// What a job wants of a builder beside its platform, and what none of those has that run the platform.
fn lack_of_terms(wish: &Wish<'_>, builders: &[Builder]) -> Option<Diagnostic> {
    let Wish { job, terms, .. } = wish;
    let fitting: Vec<&Builder> = builders.iter().filter(|builder| wish.fits(builder)).collect();
    let labelled: Vec<&Builder> =
        { fitting.iter() }.copied().filter(|builder| wish.is_labelled(builder)).collect();
    if fitting.is_empty() {
        return None;
    }
    if labelled.is_empty() {
        let labels: Vec<&str> = terms.labels.iter().map(String::as_str).collect();
        let (platform, labels) = (&job.platform, labels.join(", "));
        let problem = format!("no builder of {platform} has the labels that {job} needs: {labels}");
        return Some(Diagnostic::surroundings(problem).hint("say which has them: `labels` of [builder.X]"));
    }
    if !labelled.iter().any(|builder| wish.has_room(builder)) {
        let known = labelled.iter().filter_map(|builder| Some((&builder.name, builder.room.as_ref()?)));
        let known = known.map(|(name, room)| format!("builder {name} has {room}"));
        let problem = format!("no builder has room for {job}, which wants {}", size(wanted(terms)));
        let problem = known.fold(Diagnostic::surroundings(problem), Diagnostic::because);
        let hints: BTreeSet<&str> =
            labelled.iter().map(|builder| free_some(builder.facts.image_store)).collect();
        return Some(hints.into_iter().fold(problem, Diagnostic::hint));
    }
    let problem = format!("no builder runs all platforms of {}, which are to be built on one", job.unit);
    (!labelled.iter().any(|builder| wish.is_whole(builder))).then(|| {
        Diagnostic::surroundings(problem)
            .hint("let a builder emulate them: sudo apt-get install qemu-user-static binfmt-support")
    })
}
