//! `polyarch plan`: what would be built, reused, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::ci::{self, Event};
use crate::diag::{Diagnostic, Problems, Result, Severity};
use crate::family::{Barrier, Emulation, Family, JobId, Mirror};
use crate::oci::{Digest, Lease, Platform};
use crate::plan::{
    Base, Decision, Estimate, Estimates, Facts, LeftOut, Plan, Request, Unfit, Wait, check_key,
    from_the_future, tree_digest, unfit_bases, unfit_repositories, unknown_frontends, waits, why_checked,
};
use crate::record::ScopeName;
use crate::report::{
    DecisionView, EmulationView, EstimateView, JobView, MirrorView, PLAN_VIEW_VERSION, PlanView,
};
use crate::run::Asked;
use crate::survey::{Memo, Registries, Repositories};

use super::git::Git;
use super::publisher::Moment;
use super::recorder::{now, sweep_dead};
use super::settled::SettledPlan;
use super::trust::Trust;
use super::workshop::{Shelf, folder_name};
use super::workspace::Workspace;
use super::{Context, Ended, capable, fleet, registries};

/// Show what would be built, reused, and why
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch plan                          every image of the family
  polyarch plan base-notebook            one image and what it stands on
  polyarch plan --out plan.json          settle it, for any number of: polyarch build --plan plan.json
  polyarch plan --builders               and what the builders of polyarch.toml do of it
  polyarch plan --format mermaid         a picture for a README
  polyarch plan --format json | jq '.jobs[].decision'")]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) what: What,
    #[command(flatten)]
    anew: Anew,
    /// Write what is settled into a file: time, commit, what tags point at, refresh epochs. Every `polyarch build --plan` of
    /// it means the same, on whatever machine and however often
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Look at the builders too: how each is fed, how checks run there, and what cannot be done; `--builder` says which
    #[arg(long = "builders")]
    whole_fleet: bool,
    #[command(flatten)]
    fleet: fleet::Wanted,
}

impl Options {
    /// To settle what is chosen in a file.
    pub(super) fn settling(what: What, anew: Anew, out: PathBuf) -> Self {
        let (whole_fleet, fleet) = (false, fleet::Wanted::default());
        Self { what, anew, out: Some(out), format: Format::Text, whole_fleet, fleet }
    }
}

/// What is built although records stand: what `plan` and `build` have in common.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Anew {
    /// Build the chosen images although records stand for them
    #[arg(long)]
    no_reuse: bool,
    /// Build these images, or all that are chosen, with what is new outside: without the engine's cache, so that packages
    /// are fetched again
    #[arg(long, value_name = "IMAGE", num_args = 0..)]
    refresh: Option<Vec<String>>,
    /// What `polyarch plan --out` has settled, if that is carried out.
    #[arg(skip)]
    pub(super) settled: Option<SettledPlan>,
    /// The run began because the time has come: what fails again and again may wait.
    #[arg(skip)]
    scheduled: bool,
}

impl Anew {
    /// What is chosen is built, whatever stands.
    pub(super) fn no_reuse(no_reuse: bool) -> Self {
        Self { no_reuse, ..Self::default() }
    }

    /// All that is chosen is refreshed.
    pub(super) fn refreshing() -> Self {
        Self { refresh: Some(Vec::new()), ..Self::default() }
    }

    /// The same, where the run began because the time has come.
    pub(super) fn scheduled(self, scheduled: bool) -> Self {
        Self { scheduled, ..self }
    }

    /// The same, where a plan is carried out that was settled before.
    pub(super) fn carrying_out(&self, settled: Option<SettledPlan>) -> Self {
        Self { settled, ..self.clone() }
    }

    /// The jobs to refresh; `selected` has what is chosen.
    fn refreshed(
        &self,
        workspace: &Workspace,
        what: &What,
        selected: &BTreeSet<JobId>,
    ) -> Result<BTreeSet<JobId>> {
        match &self.refresh {
            None => Ok(BTreeSet::new()),
            Some(names) if !names.is_empty() => workspace.select(names, &what.platform),
            Some(_) if selected.is_empty() => Ok(workspace.family.jobs().collect()),
            Some(_) => Ok(selected.clone()),
        }
    }

    /// The jobs that wait, since they have failed again and again: those that were settled, else those of a scheduled run.
    /// What a person has named waits for nothing.
    fn waits(
        &self,
        context: &Context,
        what: &What,
        refresh: &BTreeSet<JobId>,
        (family, facts): (&Family, &Facts),
    ) -> BTreeMap<JobId, Wait> {
        let now_seconds = now() / 1_000;
        if let Some(settled) = &self.settled {
            return settled.waits(now_seconds);
        }
        let is_scheduled = self.scheduled || is_scheduled(context);
        if !is_scheduled || self.no_reuse || !what.images.is_empty() {
            return BTreeMap::new();
        }
        let mut waits = waits(family, facts, now_seconds);
        if self.refresh.as_ref().is_some_and(|named| !named.is_empty()) {
            waits.retain(|job, _| !refresh.contains(job));
        }
        waits
    }
}

/// Whether a service has begun the run because the time has come.
fn is_scheduled(context: &Context) -> bool {
    let beginning = ci::beginning(&|name: &str| context.environment.text(name));
    beginning.is_some_and(|beginning| beginning.event == Event::Scheduled)
}

/// Which images, with which arguments: what `plan`, `build` and `publish` have in common.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct What {
    /// Images: `image`, `image:variant`, `image@platform`, or `+image` with all that stand on it
    #[arg(value_name = "IMAGE")]
    pub(super) images: Vec<String>,
    /// Only these platforms
    #[arg(long, value_name = "PLATFORM")]
    pub(super) platform: Vec<Platform>,
    /// A build argument for every Dockerfile that declares it; without a value, the environment's
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) build_arg: Vec<String>,
    /// Whether platforms may be emulated where no builder is native to them, and images made so may stand, whatever
    /// polyarch.toml says
    #[arg(long, value_enum, value_name = "WHETHER")]
    pub(super) emulate: Option<Emulate>,
    #[command(flatten)]
    pub(super) trust: Trust,
    /// The scope that records are promoted from.
    #[arg(skip)]
    pub(super) from: Option<ScopeName>,
}

impl What {
    /// These jobs.
    pub(super) fn of_jobs(jobs: &[JobId]) -> Self {
        Self { images: jobs.iter().map(ToString::to_string).collect(), ..Self::default() }
    }
}

/// Whether emulation is allowed, as the command line says it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Emulate {
    Allow,
    Refuse,
    Always,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
    Mermaid,
    Dot,
}

/// A family with the facts and the plan upon them.
pub(super) struct Planning {
    pub(super) workspace: Arc<Workspace>,
    pub(super) shelf: Shelf,
    pub(super) facts: Facts,
    pub(super) plan: Plan,
    pub(super) request: Request,
    pub(super) moment: Moment,
    /// What the plan stands on stays as long as this lives.
    _lease: Option<Lease>,
}

impl Planning {
    /// What the plan asks of builders.
    pub(super) fn asks(&self) -> Asked<'_> {
        let is_untrusted = self.shelf.records().is_untrusted();
        Asked { family: &self.workspace.family, facts: &self.facts, plan: &self.plan, is_untrusted }
    }

    /// Read, look and decide, as every command does that takes what stands, however old it is.
    ///
    /// # Errors
    /// Where the family does not hold together, a context cannot be read or the store fails.
    pub(super) async fn make(context: &Context, what: &What) -> Result<Self> {
        Self::make_at(context, what, &Anew::default(), None, Shelf::look).await
    }

    /// The same now: what is not fresh does not stand.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub(super) async fn make_now(context: &Context, what: &What) -> Result<Self> {
        Self::make_at(context, what, &Anew::default(), Some(now() / 1000), Shelf::open).await
    }

    /// The same, and some is built although records stand. A run outside the
    /// trusted scope begins no refresh epoch that others would find, so that it takes what stands there, however old.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub(super) async fn make_anew(context: &Context, what: &What, anew: &Anew) -> Result<Self> {
        Self::make_at(context, what, anew, seconds_to_judge(context, anew), Shelf::open).await
    }

    /// The same where nothing is done: no store is made for it.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub(super) async fn look_anew(context: &Context, what: &What, anew: &Anew) -> Result<Self> {
        Self::make_at(context, what, anew, seconds_to_judge(context, anew), Shelf::look).await
    }

    async fn make_at(
        context: &Context,
        what: &What,
        anew: &Anew,
        now_seconds: Option<u64>,
        open: fn(&Context, &Workspace) -> Result<Shelf>,
    ) -> Result<Self> {
        let arguments = what.arguments(context)?;
        let workspace = Workspace::read(context, &arguments)?;
        let selected = workspace.select(&what.images, &what.platform)?;
        let refresh = anew.refreshed(&workspace, what, &selected)?;
        let before = anew.settled.as_ref();
        let moment = match before {
            Some(settled) => settled.moment(),
            None => Moment::take(context, &workspace.root).await,
        };
        let witness = what.trust.witness(context, &workspace.root)?;
        let plan = before.map(SettledPlan::digest);
        let shelf = Shelf { from: what.from.clone(), witness, plan, ..open(context, &workspace)? };
        let lease = shelf.lease().await?;
        let (registries, repositories) = (registries::lookups(context)?, Git::new(&context.environment));
        let lookups: (&Registries, &dyn Repositories) = (&*registries, &repositories);
        let (family, root) = (&workspace.family, &workspace.root);
        let memo = memo(context, root);
        let settled = before.map(SettledPlan::settled).unwrap_or_default();
        let (mut facts, warnings) =
            crate::survey::survey(family, root, lookups, &shelf.records(), &memo, &settled).await?;
        for warning in &warnings {
            context.ui.warning(warning);
        }
        let emulation = what.emulate.map(|said| match said {
            Emulate::Allow => Emulation::Allowed,
            Emulate::Refuse => Emulation::Refused,
            Emulate::Always => Emulation::Always,
        });
        facts.now_seconds = now_seconds;
        let refreshing = before.map(|settled| settled.refreshing.clone()).unwrap_or_default();
        let (no_reuse, slow) = (anew.no_reuse, BTreeSet::new());
        let waits = anew.waits(context, what, &refresh, (&workspace.family, &facts));
        let request = Request { selected, no_reuse, slow, refresh, refreshing, emulation, waits };
        let plan = Plan::new(&workspace.family, &facts, &request);
        unplanned(&request, &plan)?;
        before.map_or(Ok(()), |settled| settled.check(&plan))?;
        let told = made_by_emulation(&plan).into_iter().chain(from_the_future(&plan));
        for warning in told.chain(unknown_frontends(&facts, &plan)) {
            context.ui.warning(&warning);
        }
        Ok(Self { workspace, shelf, facts, plan, request, moment, _lease: lease })
    }

    /// Why no record counts for a job of the plan; `None` where one does.
    pub(super) fn why_not(&self, job: &JobId) -> Option<String> {
        match &self.plan.jobs.get(job)?.decision {
            Decision::Reuse(_) => None,
            Decision::Build(reasons) => {
                Some(reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Decision::Check(image) => {
                let recipe = self.workspace.family.recipe(&job.unit)?;
                let key = check_key(&image.image, recipe, self.facts.files_of_checks(&job.unit));
                let doubt = self.facts.doubts.get(&key).map(|doubt| format!("of its tests {doubt}"));
                Some(doubt.unwrap_or_else(|| why_checked(&self.workspace.family, &self.facts, job, image)))
            }
        }
    }

    /// The digest of everything of the tree that was read.
    pub(super) fn tree(&self) -> Digest {
        tree_digest(&self.workspace.family, &self.facts, self.workspace.files())
    }

    /// Tell of what is outside that a plan stands without, and that a build does not begin without.
    pub(super) fn warn_of_bases(&self, context: &Context) {
        for Unfit { problem, .. } in self.unfit() {
            context.ui.warning(&Diagnostic { severity: Severity::Warning, ..problem });
        }
        for mirror in self.mirrors() {
            if let Err(why) = self.mirrored(mirror) {
                let warning = Diagnostic::warning(format!("the mirror `{}` is unknown", mirror.unit));
                let hint = format!("see whether it is there: polyarch inspect {}", mirror.source);
                context.ui.warning(&warning.because(why).hint(hint));
            }
        }
    }

    /// The mirrors that go with the plan: all, or where images are chosen those that they use.
    pub(super) fn mirrors(&self) -> Vec<&Mirror> {
        let family = &self.workspace.family;
        match self.request.selected.is_empty() {
            true => family.mirrors.values().collect(),
            false => family.mirrors_under(self.plan.jobs.keys()),
        }
    }

    /// What a mirror is a copy of, or why that is not known.
    ///
    /// # Errors
    /// Where it could not be looked up, with the reason.
    pub(super) fn mirrored(&self, mirror: &Mirror) -> Result<&Digest, String> {
        let source = &mirror.source;
        self.facts.mirrored.get(source).ok_or_else(|| match self.facts.bases.get(source) {
            Some(Base::Unknown(why)) => format!("{source} cannot be looked up: {why}"),
            Some(Base::Found(_)) | None => format!("{source} was not looked up"),
        })
    }

    /// The images and repositories from outside that the plan cannot be carried out with.
    pub(super) fn unfit(&self) -> Vec<Unfit<'_>> {
        let (family, facts) = (&self.workspace.family, &self.facts);
        let bases = unfit_bases(family, facts, &self.plan).into_iter();
        bases.chain(unfit_repositories(family, facts, &self.plan)).collect()
    }
}

/// When it is judged what is fresh; what is settled was when that was done.
fn seconds_to_judge(context: &Context, anew: &Anew) -> Option<u64> {
    let is_judged = context.common.scope.is_trusted() && anew.settled.is_none();
    is_judged.then(|| now() / 1000)
}

/// Refuse to refresh what nothing is done about.
fn unplanned(request: &Request, plan: &Plan) -> Result<()> {
    let lacking = request.refresh.iter().filter(|job| !plan.jobs.contains_key(job));
    let problems = lacking.map(|job| {
        Diagnostic::request(format!("{job} is to be refreshed, but is not among the images that are chosen"))
            .hint(format!("choose it too, as in: polyarch build {} --refresh", job.unit))
    });
    Problems::check(problems.collect())
}

/// What is known of the family's files from the last time, where this user has a folder for such things.
fn memo(context: &Context, root: &Path) -> Memo {
    let Some(caches) = context.environment.cache_folder() else { return Memo::none() };
    let file = caches.join("polyarch/files").join(folder_name(root));
    Memo::open(file, now() / 1000)
}

/// The jobs whose records stood if emulation were not refused.
fn made_by_emulation(plan: &Plan) -> Option<Diagnostic> {
    let jobs: Vec<String> = plan.made_by_emulation().map(ToString::to_string).collect();
    (!jobs.is_empty()).then(|| {
        let problem = "made by emulation, which is refused here, so that they do not stand";
        Diagnostic::warning(format!("{}: {problem}", jobs.join(", ")))
            .hint("let them stand: polyarch build --emulate=allow")
            .hint("or always, in polyarch.toml: emulate = \"allow\"")
    })
}

impl What {
    /// The build arguments, with those of the environment filled in: F-C18.
    fn arguments(&self, context: &Context) -> Result<std::collections::BTreeMap<String, String>> {
        let pairs = self.build_arg.iter().map(|written| match written.split_once('=') {
            Some((name, _)) if name.is_empty() || name.contains(char::is_whitespace) => {
                Err(Diagnostic::request(format!("`--build-arg {written}` has no name"))
                    .hint("write --build-arg NAME=VALUE")
                    .into())
            }
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => match context.environment.text(written) {
                Some(value) => Ok((written.clone(), value)),
                None => Err(Diagnostic::request(format!(
                    "`--build-arg {written}` has no value, and the environment has no {written}"
                ))
                .hint(format!("give it one: --build-arg {written}=VALUE"))
                .into()),
            },
        });
        crate::diag::collect(pairs).map(|pairs| pairs.into_iter().collect())
    }
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::look_anew(context, &options.what, &options.anew).await?;
    options.fleet.check(&planning.workspace.builders)?;
    sweep_dead(&planning.shelf.folder);
    if planning.workspace.family.platform_assumed {
        let platforms: Vec<String> =
            { planning.workspace.family.platforms() }.iter().map(ToString::to_string).collect();
        context.ui.note(&format!(
            "no platforms are declared, so that this machine's own is taken, {}; to declare some: polyarch init",
            platforms.join(", ")
        ));
    }
    planning.warn_of_bases(context);
    if let Some(file) = &options.out {
        SettledPlan::of(&planning).write(file)?;
    }
    let mut view = view(&planning, Barrier::Said);
    let lacking = match options.whole_fleet || options.fleet.is_said() {
        true => {
            let (builders, lacking) = capable::looked_at(context, &planning, &options.fleet).await?;
            view.builders = builders;
            lacking
        }
        false => Ok(()),
    };
    let text = match options.format {
        Format::Text => view.to_text(),
        Format::Json => view.to_json(),
        Format::Mermaid => view.to_mermaid(),
        Format::Dot => view.to_dot(),
    };
    context.ui.data(&text);
    lacking.map(|()| Ended::Well)
}

fn bases(planning: &Planning, job: &JobId) -> Vec<String> {
    let recipe = planning.workspace.family.recipe(&job.unit);
    let build = recipe.and_then(|recipe| recipe.platforms.get(&job.platform));
    build.into_iter().flat_map(|build| build.outside()).map(ToString::to_string).collect()
}

fn estimate(estimates: &Estimates, job: &JobId, emulated: bool) -> Option<EstimateView> {
    let Estimate { milliseconds, assumed } = estimates.of(job, emulated);
    estimates.are_informed().then_some(EstimateView { milliseconds, assumed })
}

fn emulation(emulation: Emulation) -> Option<EmulationView> {
    match emulation {
        Emulation::Allowed => Some(EmulationView::Allow),
        Emulation::Refused => None,
        Emulation::Always => Some(EmulationView::Always),
    }
}

/// A plan as the reports show it.
pub(super) fn view(planning: &Planning, barrier: Barrier) -> PlanView {
    let estimates = Estimates::new(&planning.plan, &planning.facts.durations);
    let jobs = planning.plan.order.iter().map(|job| {
        let planned = &planning.plan.jobs[job];
        let (decision, reasons) = match &planned.decision {
            Decision::Reuse(_) => (DecisionView::Reuse, Vec::new()),
            Decision::Check(image) => {
                let why = why_checked(&planning.workspace.family, &planning.facts, job, image);
                (DecisionView::Check, vec![why])
            }
            Decision::Build(reasons) => {
                (DecisionView::Build, reasons.iter().map(ToString::to_string).collect())
            }
        };
        let (decision, reasons, waiting) = match &planned.left_out {
            None => (decision, reasons, None),
            Some(LeftOut::With(root)) => (DecisionView::Skip, vec![format!("because of {root}")], None),
            Some(LeftOut::Waits(wait)) => {
                let reasons = [wait.to_string()].into_iter().chain(reasons).collect();
                (DecisionView::Wait, reasons, Some(wait.into()))
            }
        };
        let beside = planning.plan.beside(&planning.workspace.family, job, barrier);
        let is_done = planned.is_done();
        let estimate = |emulated| estimate(&estimates, job, emulated).filter(|_| planned.left_out.is_none());
        let terms = is_done.then_some(&planned.terms);
        JobView {
            job: job.to_string(),
            unit: job.unit.to_string(),
            platform: job.platform.to_string(),
            decision,
            reasons,
            parents: planned.parents.iter().map(ToString::to_string).collect(),
            beside: beside.iter().map(ToString::to_string).collect(),
            bases: bases(planning, job),
            key: planned.key.to_string(),
            emulation: terms.and_then(|terms| emulation(terms.emulation)),
            disk: terms.map(|terms| terms.disk_bytes).filter(|bytes| *bytes > 0),
            needs: terms.into_iter().flat_map(|terms| &terms.labels).cloned().collect(),
            estimate: estimate(false),
            emulated: estimate(true).filter(|_| planned.terms.emulation.is_allowed()),
            waiting,
        }
    });
    let warnings = planning.workspace.family.warnings.iter().map(ToString::to_string).collect();
    let mirrors = planning.mirrors().into_iter().map(|mirror| MirrorView {
        unit: mirror.unit.to_string(),
        source: mirror.source.to_string(),
        digest: planning.facts.mirrored.get(&mirror.source).map(ToString::to_string),
        tags: mirror.tags.clone(),
    });
    PlanView {
        version: PLAN_VIEW_VERSION,
        jobs: jobs.collect(),
        mirrors: mirrors.collect(),
        builders: Vec::new(),
        warnings,
    }
}
