//! `polyarch plan`: what would be built, reused, and why.

use clap::{Args, ValueEnum};

use crate::diag::{Diagnostic, Result, Severity};
use crate::family::{Emulation, JobId, Mirror};
use crate::oci::{Digest, Lease, Platform};
use crate::plan::{
    Base, Decision, Estimate, Estimates, Facts, Plan, Request, unfit_bases, unknown_frontends,
};
use crate::report::{DecisionView, EstimateView, JobView, MirrorView, PLAN_VIEW_VERSION, PlanView};

use super::publisher::Moment;
use super::recorder::sweep_dead;
use super::workshop::Shelf;
use super::workspace::Workspace;
use super::{Context, Ended, registries};

/// Show what would be built, reused, and why
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch plan                          every image of the family
  polyarch plan base-notebook            one image and what it stands on
  polyarch plan --format mermaid         a picture for a README
  polyarch plan --format json | jq '.jobs[].decision'")]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) what: What,
    /// Build the chosen images although records stand for them
    #[arg(long)]
    no_reuse: bool,
    /// The form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Which images, with which arguments: what `plan`, `build` and `publish` have in common.
#[derive(Clone, Debug, Args)]
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
    pub(super) workspace: Workspace,
    pub(super) shelf: Shelf,
    pub(super) facts: Facts,
    pub(super) plan: Plan,
    pub(super) request: Request,
    pub(super) moment: Moment,
    /// What the plan stands on stays as long as this lives.
    _lease: Option<Lease>,
}

impl Planning {
    /// Read, look and decide, as every command that needs a plan does.
    ///
    /// # Errors
    /// Where the family does not hold together, a context cannot be read or the store fails.
    pub(super) async fn make(context: &Context, what: &What) -> Result<Self> {
        Self::make_anew(context, what, false).await
    }

    /// The same; with `no_reuse` what is chosen is built although records stand for it.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub(super) async fn make_anew(context: &Context, what: &What, no_reuse: bool) -> Result<Self> {
        let arguments = what.arguments(context)?;
        let workspace = Workspace::read(context, &arguments)?;
        let selected = workspace.select(&what.images, &what.platform)?;
        let moment = Moment::take(context, &workspace.root).await;
        let shelf = Shelf::open(context, &workspace)?;
        let lease = shelf.lease().await?;
        let registries = registries::lookups(context)?;
        let (facts, warnings) =
            crate::survey::survey(&workspace.family, &workspace.root, &*registries, &shelf.records()).await?;
        for warning in &warnings {
            context.ui.warning(warning);
        }
        let emulation = what.emulate.map(|said| match said {
            Emulate::Allow => Emulation::Allowed,
            Emulate::Refuse => Emulation::Refused,
            Emulate::Always => Emulation::Always,
        });
        let request = Request { selected, no_reuse, emulation };
        let plan = Plan::new(&workspace.family, &facts, &request);
        for warning in made_by_emulation(&plan).into_iter().chain(unknown_frontends(&facts, &plan)) {
            context.ui.warning(&warning);
        }
        Ok(Self { workspace, shelf, facts, plan, request, moment, _lease: lease })
    }

    /// Tell of the images from outside that a plan stands without, and that a build does not begin without.
    pub(super) fn warn_of_bases(&self, context: &Context) {
        for unfit in self.unfit_bases() {
            context.ui.warning(&Diagnostic { severity: Severity::Warning, ..unfit });
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

    /// The images from outside that the plan cannot be carried out with.
    pub(super) fn unfit_bases(&self) -> Vec<Diagnostic> {
        unfit_bases(&self.workspace.family, &self.facts, &self.plan)
    }
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
    let planning = Planning::make_anew(context, &options.what, options.no_reuse).await?;
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
    let view = view(&planning);
    let text = match options.format {
        Format::Text => view.to_text(),
        Format::Json => view.to_json(),
        Format::Mermaid => view.to_mermaid(),
        Format::Dot => view.to_dot(),
    };
    context.ui.data(&text);
    Ok(Ended::Well)
}

fn bases(planning: &Planning, job: &JobId) -> Vec<String> {
    let recipe = planning.workspace.family.recipe(&job.unit);
    let build = recipe.and_then(|recipe| recipe.platforms.get(&job.platform));
    build.into_iter().flat_map(|build| build.outside()).map(ToString::to_string).collect()
}

fn estimate(estimates: &Estimates, job: &JobId) -> Option<EstimateView> {
    let Estimate { milliseconds, assumed } = estimates.of(job, false);
    estimates.are_informed().then_some(EstimateView { milliseconds, assumed })
}

/// A plan as the reports show it.
pub(super) fn view(planning: &Planning) -> PlanView {
    let estimates = Estimates::new(&planning.plan, &planning.facts.durations);
    let jobs = planning.plan.order.iter().map(|job| {
        let planned = &planning.plan.jobs[job];
        let (decision, reasons) = match &planned.decision {
            Decision::Reuse(_) => (DecisionView::Reuse, Vec::new()),
            Decision::Check(_) => {
                (DecisionView::Check, vec!["its checks changed or have not passed".to_owned()])
            }
            Decision::Build(reasons) => {
                (DecisionView::Build, reasons.iter().map(ToString::to_string).collect())
            }
        };
        JobView {
            job: job.to_string(),
            unit: job.unit.to_string(),
            platform: job.platform.to_string(),
            decision,
            reasons,
            parents: planned.parents.iter().map(ToString::to_string).collect(),
            bases: bases(planning, job),
            key: planned.key.to_string(),
            estimate: estimate(&estimates, job),
        }
    });
    let warnings = planning.workspace.family.warnings.iter().map(ToString::to_string).collect();
    let mirrors = planning.mirrors().into_iter().map(|mirror| MirrorView {
        unit: mirror.unit.to_string(),
        source: mirror.source.to_string(),
        digest: planning.facts.mirrored.get(&mirror.source).map(ToString::to_string),
        tags: mirror.tags.clone(),
    });
    PlanView { version: PLAN_VIEW_VERSION, jobs: jobs.collect(), mirrors: mirrors.collect(), warnings }
}
