//! Point at images from outside that a plan cannot be carried out with: before anything is built, with their lines.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Place, did_you_mean};
use crate::family::{Build, Family, JobId, Use};
use crate::oci::{Platform, Reference};

use super::{Base, Decision, Facts, Frontend, Plan};

/// Jobs that cannot be built, and why.
#[derive(Debug)]
pub(crate) struct Unfit<'a> {
    /// The jobs: none of them is downstream, or all are.
    pub(crate) jobs: BTreeSet<&'a JobId>,
    /// What is wrong.
    pub(crate) problem: Diagnostic,
}

/// One problem for each image from outside that a job to be built needs and that is unknown (F-D7) or lacks its
/// platform (F-D6); for jobs downstream one of their own.
pub(crate) fn unfit_bases<'a>(family: &'a Family, facts: &Facts, plan: &'a Plan) -> Vec<Unfit<'a>> {
    let mut unfit = BTreeMap::<(&Reference, bool), (Option<Place>, BTreeSet<&JobId>)>::new();
    for (job, planned) in &plan.jobs {
        let build = family.recipe(&job.unit).and_then(|recipe| recipe.platforms.get(&job.platform));
        let (Decision::Build(_), Some(build)) = (&planned.decision, build) else { continue };
        for (written, meant) in &build.uses {
            let Use::Outside(reference) = meant else { continue };
            if facts.base(build, written, &job.platform).is_none() {
                let downstream = family.is_downstream(&job.unit);
                let (place, jobs) = unfit.entry((reference, downstream)).or_default();
                jobs.insert(job);
                *place = place.take().or_else(|| place_of(build, written));
            }
        }
    }
    let unfit = unfit.into_iter().map(|((reference, _), (place, jobs))| {
        let problem = told(family, reference, place, &jobs, facts);
        Unfit { jobs, problem }
    });
    unfit.collect()
}

/// One warning for each frontend that a job to be built names and that is unknown: the engine takes what its tag is then.
pub(crate) fn unknown_frontends(facts: &Facts, plan: &Plan) -> Vec<Diagnostic> {
    let mut unknown = BTreeMap::<&Place, Diagnostic>::new();
    for job in plan.jobs.iter().filter(|(_, planned)| matches!(planned.decision, Decision::Build(_))) {
        let Some(Frontend::Unknown { written, why }) = facts.frontends.get(&job.0.unit) else { continue };
        let frontend = &written.text;
        unknown.entry(&written.place).or_insert_with(|| {
            let problem = "is unknown, so that nothing that it reads is reused: it cannot be looked up";
            Diagnostic::warning(format!("frontend {frontend} {problem}"))
                .at(written.place.clone())
                .because(why)
                .hint(format!("see whether it is there: polyarch inspect {frontend}"))
        });
    }
    unknown.into_values().collect()
}

fn place_of(build: &Build, written: &str) -> Option<Place> {
    let mut uses = build.needs.references.iter();
    uses.find(|used| used.reference == written).map(|used| used.place.clone())
}

fn told(
    family: &Family,
    reference: &Reference,
    place: Option<Place>,
    jobs: &BTreeSet<&JobId>,
    facts: &Facts,
) -> Diagnostic {
    let units: BTreeSet<String> = jobs.iter().map(|job| format!("`{}`", job.unit)).collect();
    let units = units.into_iter().collect::<Vec<_>>().join(", ");
    let problem = match facts.bases.get(reference) {
        Some(Base::Found(found)) => {
            let lacking: BTreeSet<&Platform> = jobs.iter().map(|job| &job.platform).collect();
            let has = listed(found.keys(), "");
            Diagnostic::request(format!(
                "base image {reference} is not there for {}, which {units} is for",
                listed(lacking, "")
            ))
            .because(format!("it is there for {}", if has.is_empty() { "no platform" } else { &has }))
            .hint("write an image that has all platforms, by its tag and not by one platform's digest")
            .hint(format!("or build for what it has: platforms = [{}]", listed(found.keys(), "\"")))
        }
        Some(Base::Unknown(why)) => Diagnostic::surroundings(format!(
            "base image {reference} of {units} is unknown: it cannot be looked up"
        ))
        .because(why)
        .hint(format!("see whether it is there: polyarch inspect {reference}"))
        .hint(format!("if its registry wants a password: docker login {}", reference.registry())),
        None => Diagnostic::surroundings(format!("base image {reference} of {units} was not looked up"))
            .hint(format!("see whether it is there: polyarch inspect {reference}")),
    };
    let problem = match near(family, reference) {
        Some(guess) => Diagnostic { hints: [vec![guess], problem.hints].concat(), ..problem },
        None => problem,
    };
    match place {
        Some(place) => problem.at(place),
        None => problem,
    }
}

/// An image of the family whose name is nearly the one written, where no registry was.
fn near(family: &Family, reference: &Reference) -> Option<String> {
    let name = reference.repository().as_str();
    let plain = name.strip_prefix("library/").filter(|_| reference.registry() == "docker.io").unwrap_or(name);
    did_you_mean(plain, family.recipes().map(|recipe| recipe.unit.image.as_str()))
}

fn listed<'a>(platforms: impl IntoIterator<Item = &'a Platform>, quote: &str) -> String {
    platforms.into_iter().map(|platform| format!("{quote}{platform}{quote}")).collect::<Vec<_>>().join(", ")
}
