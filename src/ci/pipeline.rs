//! The jobs of a pipeline, as every service has them: who waits for whom, who takes in what of whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{CiSettings, EventPlatforms, ServiceSetting, Variable};
use crate::diag::{Diagnostic, Problems, Result};
use crate::family::{Barrier, Emulation, Family, JobId, Recipe, SecretSource, Unit};
use crate::oci::{Digest, Platform};

use super::joining::{JoiningJob, joining};
use super::packing::packed;

/// What a job may take beside its build: checks, and handing its images on.
const BESIDE_SECONDS: u64 = 15 * 60;
/// How long the jobs around the builds may take, in minutes, and those that publish.
pub(super) const SHORT_MINUTES: u64 = 15;
pub(super) const PUBLISH_MINUTES: u64 = 120;
/// Jobs around the builds run where this platform is built.
const NEAR: &str = "linux/amd64";
/// No job runs longer than this, in minutes.
pub(super) const LONGEST_MINUTES: u64 = 360;
/// As long as a service lets people try a run again, in days.
const PLAN_DAYS: u64 = 30;
/// How long the id of a job may be: less than the 100 characters that services take.
const ID_LIMIT: usize = 80;
/// How many jobs a run has beside the builds, at most.
const OTHERS: usize = 6;
/// Ids that other jobs of a pipeline have.
const TAKEN: [&str; 8] =
    ["plan", "plan-anew", "publish", "publish-anew", "rehearse", "done", "sign", "promote"];

/// What a service has by itself.
#[derive(Debug)]
pub(super) struct Ground {
    /// The runners by platform that it has for everybody.
    pub(super) runners: &'static [(&'static str, &'static str)],
    /// How many jobs it takes in a pipeline.
    pub(super) jobs_limit: usize,
    /// How many jobs it lets a job name that it needs.
    pub(super) needs_limit: usize,
    /// Whether a job that names none of what it needs waits for all of the stages before its own.
    pub(super) has_stages: bool,
    /// How large the file of a pipeline may be, in bytes.
    pub(super) bytes_limit: usize,
    /// Whether a runner is somebody's own, on which strangers' proposals are built.
    pub(super) is_own: fn(&str) -> bool,
}

/// The family's jobs, parents first, and what is said of pipelines.
#[derive(Clone, Debug)]
pub(super) struct Pipeline<'a> {
    pub(super) service: &'a ServiceSetting,
    pub(super) settings: &'a CiSettings,
    runners: Runners,
    pub(super) builds: Vec<BuildJob>,
    /// Where each image goes by itself, the jobs that publish them; none where one job publishes all.
    pub(super) joining: Vec<JoiningJob>,
    /// Whether jobs that need more than they may name wait for whole stages.
    is_staged: bool,
}

/// One image variant on one platform, or several that are alike (`super::packing`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuildJob {
    /// What the service calls it.
    pub(super) id: String,
    /// What it builds.
    pub(super) jobs: Vec<JobId>,
    /// The ids of the jobs whose images it uses.
    pub(super) parents: Vec<String>,
    /// The ids of the jobs that it waits for although it uses nothing of them.
    pub(super) beside: Vec<String>,
    /// The ids of its parents and of all that they stand on.
    pub(super) ancestors: Vec<String>,
    /// Where it runs.
    pub(super) runner: String,
    /// How long it may take, in minutes.
    pub(super) minutes: u64,
    /// The variables that its build's secrets are in.
    pub(super) secrets: BTreeSet<Variable>,
    /// It only tries out what it stands on: nothing waits for it.
    pub(super) downstream: bool,
}

impl BuildJob {
    /// The ids of all jobs that it waits for, whatever it takes in of them.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = String> {
        std::iter::once("plan")
            .chain([&self.parents, &self.beside].into_iter().flatten().map(String::as_str))
            .map(str::to_owned)
    }

    /// How many jobs it names where it names all whose files it takes in, that of the plan among them.
    pub(super) fn needs_number(&self) -> usize {
        1 + self.ancestors.len() + self.beside.len()
    }

    /// What people read of it.
    pub(super) fn title(&self) -> String {
        if let [job] = self.jobs.as_slice() { job.to_string() } else { self.id.clone() }
    }

    /// What `polyarch job` is told.
    pub(super) fn task(&self) -> String {
        self.jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl<'a> Pipeline<'a> {
    /// The pipeline of a family at a service, a job for each image, with its own runners where nothing else is said.
    ///
    /// # Errors
    /// F-Y5: where a platform has no runner, and none of another platform may build it by emulation.
    pub(super) fn new(
        family: &'a Family,
        settings: &'a CiSettings,
        service: &'a ServiceSetting,
        ground: &Ground,
    ) -> Result<Self> {
        let runners = Runners::new(service, ground.runners);
        let ids = ids(family);
        let (mut builds, mut problems) = (Vec::new(), Vec::new());
        let mut ancestors: BTreeMap<JobId, BTreeSet<JobId>> = BTreeMap::new();
        for recipe in family.recipes() {
            for (platform, build) in &recipe.platforms {
                let job = recipe.unit.on(platform);
                let parents: BTreeSet<JobId> = build.parents().map(|unit: &Unit| unit.on(platform)).collect();
                let mut above = parents.clone();
                above.extend(parents.iter().filter_map(|parent| ancestors.get(parent)).flatten().cloned());
                let terms = recipe.terms.get(platform).cloned().unwrap_or_default();
                let secrets = secrets(recipe, platform).unwrap_or_else(|problem| {
                    problems.push(problem);
                    BTreeSet::new()
                });
                match runners.of(platform, terms.emulation) {
                    Some(runner) => builds.push(BuildJob {
                        id: ids[&job].clone(),
                        parents: named(&parents, &ids),
                        beside: named(&family.beside(&job, Barrier::Said), &ids),
                        ancestors: named(&above, &ids),
                        runner,
                        minutes: minutes(terms.time_limit_seconds),
                        secrets,
                        downstream: recipe.downstream,
                        jobs: vec![job.clone()],
                    }),
                    None => problems.push(no_runner(&job)),
                }
                ancestors.insert(job, above);
            }
        }
        problems.extend(lasting(service, ground));
        problems.extend(unknown(family, &settings.platforms));
        Problems::check(problems)?;
        // Who signs for proposals has a key, which one job alone is given.
        let joining = if service.sign.is_none() { joining(family, &builds) } else { Vec::new() };
        Ok(Self { service, settings, runners, builds, joining, is_staged: false })
    }

    /// The same with one job that publishes all, and up to so many images in a job.
    pub(super) fn packed(&self, size: usize) -> Self {
        Self { builds: packed(&self.builds, size), joining: Vec::new(), ..self.clone() }
    }

    /// The same where jobs that need more than they may name wait for whole stages.
    pub(super) fn in_stages(&self) -> Self {
        Self { is_staged: true, ..self.clone() }
    }

    /// F-Y2: more than the service takes.
    ///
    /// # Errors
    /// Where there are more jobs, or more that a job needs.
    pub(super) fn check(&self, ground: &Ground) -> Result<()> {
        let number = self.builds.len() + self.joining.len() + OTHERS;
        let many = (number > ground.jobs_limit).then(|| too_many(number, ground.jobs_limit));
        let is_held = self.builds.iter().any(|build| !build.beside.is_empty());
        let builds = self.builds.iter().map(|build| (build.title(), build.needs_number()));
        let joining = self.joining.iter().map(|job| (job.id.clone(), job.needs_number()));
        let wide =
            builds.chain(joining).filter(|(_, number)| *number > ground.needs_limit && !self.is_staged);
        let deep = wide.map(|(title, number)| too_deep(&title, number, ground.needs_limit, is_held));
        Problems::check(many.into_iter().chain(deep).collect())
    }

    /// The jobs whose images are published.
    fn published(&self) -> impl Iterator<Item = &BuildJob> {
        self.builds.iter().filter(|build| !build.downstream)
    }

    /// All that a publication waits for.
    pub(super) fn all_published(&self) -> Vec<String> {
        std::iter::once("plan".to_owned()).chain(self.published().map(|build| build.id.clone())).collect()
    }

    /// What the job waits for that publishes all, or what is left where each image goes by itself.
    pub(super) fn before_publication(&self) -> Vec<String> {
        self.all_published().into_iter().chain(self.joining.iter().map(|job| job.id.clone())).collect()
    }

    /// The runner of jobs that run on any.
    pub(super) fn near_runner(&self) -> &str {
        let near = NEAR.parse::<Platform>().ok().and_then(|platform| self.runners.0.get(&platform));
        near.or_else(|| self.runners.0.values().next()).map_or("", String::as_str)
    }

    /// Where the credentials of the publication are kept.
    pub(super) fn environment(&self) -> &str {
        self.settings.environment.as_ref().map_or("publish", |name| name.value.as_str())
    }

    /// The branch that is published.
    pub(super) fn branch(&self) -> &str {
        self.settings.branch.as_ref().map_or("main", |branch| branch.value.as_str())
    }

    /// How many days files of images are kept: longer than a weekend.
    pub(super) fn keep_days(&self) -> u64 {
        u64::from(self.settings.keep_days.unwrap_or(7))
    }

    /// How many days the plan is kept, which is small, and of which jobs that are tried again late are to be.
    pub(super) fn keep_plan_days(&self) -> u64 {
        self.keep_days().max(PLAN_DAYS)
    }
}

fn named(jobs: &BTreeSet<JobId>, ids: &BTreeMap<JobId, String>) -> Vec<String> {
    jobs.iter().filter_map(|job| ids.get(job)).cloned().collect()
}

/// Build, checks and the rest, rounded up.
fn minutes(time_limit_seconds: u64) -> u64 {
    (time_limit_seconds + BESIDE_SECONDS).div_ceil(60).min(LONGEST_MINUTES)
}

/// F-Y1: the environment may have variables of any name; a service's secrets have no such names, and they would stand in
/// its expressions.
fn secrets(recipe: &Recipe, platform: &Platform) -> Result<BTreeSet<Variable>, Diagnostic> {
    let needed = recipe.platforms.get(platform).into_iter().flat_map(|build| &build.needs.secrets);
    let named = needed.filter_map(|id| match recipe.secrets.get(id)? {
        SecretSource::Environment(name) => Some(name),
        SecretSource::File(_) => None,
    });
    let variable = |name: &String| {
        name.parse().map_err(|_| {
            let name = name.escape_debug();
            Diagnostic::request(format!(
                "`{name}`, a secret of `{}`, is no name that a service knows",
                recipe.unit
            ))
            .hint("call the variable by letters, digits and _, as in TOKEN")
        })
    };
    named.map(variable).collect()
}

/// The runners of a service that are not its own, and build what strangers propose.
pub(super) fn own_runners(service: &ServiceSetting, ground: &Ground) -> BTreeSet<String> {
    let named = service.runners.values().map(|runner| runner.value.as_str());
    named.filter(|runner| (ground.is_own)(runner)).map(str::to_owned).collect()
}

/// TM23: what a stranger's build leaves on a machine would wait there for the next job.
fn lasting(service: &ServiceSetting, ground: &Ground) -> impl Iterator<Item = Diagnostic> {
    let runners = if service.ephemeral { BTreeSet::new() } else { own_runners(service, ground) };
    runners.into_iter().map(|runner| {
        Diagnostic::request(format!(
            "what strangers propose would be built on `{runner}`, a runner of your own"
        ))
        .because("what a build leaves on its machine may harm the jobs after it")
        .hint("have each job's machine thrown away after it, and say so under the service: ephemeral = true")
        .hint("or name a runner of the service's own")
    })
}

/// Platforms that runs are to be for and no image is for.
fn unknown(family: &Family, said: &EventPlatforms) -> impl Iterator<Item = Diagnostic> {
    let known = family.platforms();
    let all = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let unknown: BTreeSet<&Platform> =
        said.all().map(|platform| &platform.value).filter(|platform| !known.contains(platform)).collect();
    unknown.into_iter().map(move |platform| {
        Diagnostic::request(format!("`[ci.platforms]` names {platform}, and no image here is for it"))
            .hint(format!("choose of {all}"))
    })
}

fn no_runner(job: &JobId) -> Diagnostic {
    let platform = &job.platform;
    Diagnostic::request(format!("no runner is for {job}"))
        .hint(format!("name one, under the service: runners = {{ \"{platform}\" = \"LABEL\" }}"))
        .hint("or let it be emulated: emulate = \"allow\"")
}

fn too_deep(title: &str, number: usize, limit: usize, is_held: bool) -> Diagnostic {
    let problem = Diagnostic::request(format!(
        "{title} needs {number} jobs, that of the plan among them, and the service lets a job need {limit}"
    ));
    let problem = problem.hint("see the images between: polyarch plan --format mermaid");
    match is_held {
        true => {
            problem.hint("or let what stands on an image not wait for all its platforms: barrier = false")
        }
        false => problem,
    }
}

fn too_many(number: usize, limit: usize) -> Diagnostic {
    Diagnostic::request(format!("the pipeline would have {number} jobs, and the service takes {limit}"))
        .hint("make two families of it, each with a pipeline; see what there is: polyarch plan")
        .hint("or build it with fewer jobs: polyarch build, with builders in polyarch.toml")
}

/// Who runs what.
#[derive(Clone, Debug)]
struct Runners(BTreeMap<Platform, String>);

impl Runners {
    fn new(service: &ServiceSetting, usual: &[(&str, &str)]) -> Self {
        let usual = usual.iter().filter_map(|(platform, runner)| {
            Some((platform.parse::<Platform>().ok()?, (*runner).to_owned()))
        });
        let said =
            service.runners.iter().map(|(platform, runner)| (platform.clone(), runner.value.to_string()));
        Self(usual.chain(said).collect())
    }

    /// The runner of a platform; where it may be emulated, that of another.
    fn of(&self, platform: &Platform, emulation: Emulation) -> Option<String> {
        let native = self.0.get(platform).filter(|_| emulation != Emulation::Always);
        let other = || self.0.values().next().filter(|_| emulation != Emulation::Refused);
        native.or_else(other).cloned()
    }
}

/// What a job with these images is called, by what each of them is called alone: by the first, how many more there are, and
/// which.
pub(crate) fn id_of(alone: &[&str]) -> String {
    const FIRST_LIMIT: usize = 60;
    match alone {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first, more @ ..] => {
            let digest = Digest::of(alone.join(" ").as_bytes());
            let first = &first[..first.len().min(FIRST_LIMIT)];
            format!("{first}-and-{}-more-{}", more.len(), digest.short())
        }
    }
}

/// What each job is called: as people would, and different from all others.
pub(crate) fn ids(family: &Family) -> BTreeMap<JobId, String> {
    let mut taken: BTreeSet<String> = TAKEN.iter().map(|id| (*id).to_owned()).collect();
    let mut ids = BTreeMap::new();
    for job in family.jobs() {
        let variant = job.unit.variant.as_ref().map(|variant| format!("-{variant}")).unwrap_or_default();
        let name = format!("{}{variant}-{}", job.unit.image, family.tags.platform_name(&job.platform));
        let id = id_among(&mut taken, &name, "", &job.to_string());
        ids.insert(job, id);
    }
    ids
}

/// What a job is called that people would call by this name and this end, different from those that are taken: else what
/// it is of tells it from the others.
pub(super) fn id_among(taken: &mut BTreeSet<String>, name: &str, end: &str, of: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let mut name: String = name.chars().map(plain).collect();
    // CircleCI wants a letter first.
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        name.insert_str(0, "job-");
    }
    let mut id = format!("{name}{end}");
    if id.len() > ID_LIMIT || taken.contains(&id) {
        name.truncate(ID_LIMIT - end.len() - 13);
        id = format!("{name}-{}{end}", Digest::of(of.as_bytes()).short());
    }
    taken.insert(id.clone());
    id
}
