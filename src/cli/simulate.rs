//! `polyarch simulate`: how long, and at what cost, a plan would take on such builders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::diag::{Diagnostic, Place, Result, did_you_mean};
use crate::family::{Barrier, JobId};
use crate::oci::Platform;
use crate::plan::{Estimate, Estimates, Plan};
use crate::report::{BuilderView, OutlookView, SIMULATION_VERSION, Simulation, SpanView};
use crate::run::{scheduled, whole_labels};
use crate::schedule::{Job, Kind, Outlook, Rules, fleets, foresee, smallest};

use super::builder_argument::{self, BuilderArgument};
use super::imagined::{DurationsFile, NamedKind, Said, from_configuration, from_file, left_out};
use super::plan::{Anew, Planning, What};
use super::{Context, Ended, Format, fitting};

/// How many builders of each kind are compared at most.
const FLEETS_LIMIT: u16 = 64;

/// Tell how long, and at what cost, a plan would take on such builders
///
/// Nothing is built and no engine is asked. Times are what jobs took in earlier runs, or what a file says; what is
/// not known is assumed from its neighbours and marked so.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch simulate --no-reuse           everything, on one builder a platform
  polyarch simulate --builder linux/amd64,slots=4 --builder linux/arm64,slots=2
  polyarch simulate --builder linux/amd64,count=3,price=0.016 --builder linux/arm64,price=0.010,speed=80
  polyarch simulate --builder linux/amd64,emulates=linux/arm64 --emulate allow
  polyarch simulate --builder arm-1,count=2 --builder laptop
  polyarch simulate --durations times.toml --fleets 8
  polyarch simulate --format json | jq .outlook.milliseconds")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// As if no record stood for the chosen images
    #[arg(long)]
    no_reuse: bool,
    /// Builders, as `PLATFORM[+PLATFORM][,slots=N][,count=N][,price=A MINUTE][,speed=PERCENT][,emulates=PLATFORM][,labels=LABEL][,disk=BYTES]`,
    /// or one of polyarch.toml as `NAME[,slots=N]…`; those of polyarch.toml that state their platforms, or one for each platform, where there is none
    #[arg(long, value_name = "BUILDER")]
    builder: Vec<BuilderArgument>,
    /// A file of builders: `[builder.NAME]` with the same words
    #[arg(long, value_name = "FILE", conflicts_with = "builder")]
    builders: Option<PathBuf>,
    /// A file of times: `[known]`, `[assumed]`, `[emulated]` and `[assumed-emulated]` with lines such as `"image:variant@platform" = "90s"`
    #[arg(long, value_name = "FILE")]
    durations: Option<PathBuf>,
    /// What stands on an image waits for all platforms of it, as `barrier = true` in polyarch.toml has it
    #[arg(long)]
    barrier: bool,
    /// Compare fleets of 1 to so many of each builder
    #[arg(long, value_name = "NUMBER", default_value = "6", value_parser = fleets_of)]
    fleets: u16,
    /// The form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

fn fleets_of(text: &str) -> std::result::Result<u16, String> {
    match text {
        "0" => Ok(0),
        _ => builder_argument::number("--fleets", text, FLEETS_LIMIT),
    }
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::look_anew(context, &options.what, &Anew::no_reuse(options.no_reuse)).await?;
    let plan = &planning.plan;
    if plan.to_build() + plan.to_check() == 0 {
        context.ui.note(
            "records stand for everything; to simulate a build of it all: polyarch simulate --no-reuse",
        );
    }
    let mut estimates = Estimates::new(plan, &planning.facts.durations);
    if let Some(file) = &options.durations {
        say(&mut estimates, plan, file)?;
    }
    let named = builders(context, options, &planning)?;
    let kinds: Vec<Kind> = named.iter().map(|named| named.kind.clone()).collect();
    let order: Vec<JobId> = plan.order.clone();
    let barrier = if options.barrier { Barrier::Everywhere } else { Barrier::Said };
    let jobs = scheduled(&order, (&planning.workspace.family, barrier), plan, &estimates, |_| None);
    fitting::check(&order, &jobs, &kinds)?;
    let rules = Rules::default();
    let outlook = foresee(&jobs, &kinds, &rules);
    let fleets = fleets(&jobs, &kinds, usize::from(options.fleets), &rules);
    let smallest = smallest(&jobs, &kinds, &fleets, &rules);
    let times = Times { order: &order, jobs: &jobs, estimates: &estimates };
    let simulation = times.simulation(&named, &outlook, &fleets, smallest.as_ref());
    context.ui.data(&match options.format {
        Format::Text => simulation.to_text(),
        Format::Json => simulation.to_json(),
    });
    Ok(Ended::Well)
}

fn builders(context: &Context, options: &Options, planning: &Planning) -> Result<Vec<NamedKind>> {
    let (configured, durations) = (&planning.workspace.builders, &planning.facts.durations);
    let mut kinds: Vec<NamedKind> = match &options.builders {
        Some(file) => from_file(file)?,
        None => {
            let meant = options.builder.iter().map(|one| Ok(one.meant(configured, durations)?));
            crate::diag::collect(meant)?
        }
    };
    if kinds.is_empty() {
        let platforms: BTreeSet<Platform> =
            planning.plan.order.iter().map(|job| job.platform.clone()).collect();
        kinds = from_configuration(configured, durations, &platforms)?;
        if let Some(warning) = left_out(configured) {
            context.ui.warning(&warning);
        }
    }
    let mut names = BTreeMap::<String, usize>::new();
    for kind in &mut kinds {
        let seen = names.entry(kind.name.clone()).or_default();
        *seen += 1;
        if *seen > 1 {
            kind.name = format!("{}.{seen}", kind.name);
        }
        let machine = &mut kind.kind.machine;
        let runs =
            |platform: &Platform| machine.native.contains(platform) || machine.emulated.contains(platform);
        let whole: Vec<String> = whole_labels(&planning.workspace.family, runs).collect();
        machine.labels.extend(whole);
    }
    Ok(kinds)
}

/// Times that a file says go before those that were measured.
fn say(estimates: &mut Estimates, plan: &Plan, file: &Path) -> Result<()> {
    let said = DurationsFile::read(file)?;
    let unknown = said.iter().find(|said| !plan.order.iter().any(|job| is_named(job, &said.name)));
    if let Some(Said { name, .. }) = unknown {
        let names: Vec<String> = plan.order.iter().map(|job| job.unit.to_string()).collect();
        let problem = Diagnostic::request(format!("`{name}` is no image or job of this plan"));
        let hint = did_you_mean(name, names.iter().map(String::as_str));
        let hint = hint.unwrap_or_else(|| "see what there is: polyarch plan".to_owned());
        return Err(problem.at(Place::file(file)).hint(hint).into());
    }
    for (job, emulated) in plan.order.iter().flat_map(|job| [(job, false), (job, true)]) {
        // What names the platform too goes before what names the image.
        let fits = said.iter().filter(|said| said.emulated == emulated && is_named(job, &said.name));
        if let Some(Said { milliseconds, assumed, .. }) = fits.max_by_key(|said| said.name.contains('@')) {
            estimates.say(job, emulated, Estimate { milliseconds: *milliseconds, assumed: *assumed });
        }
    }
    Ok(())
}

fn is_named(job: &JobId, name: &str) -> bool {
    name == job.to_string() || name == job.unit.to_string()
}

/// The jobs by name, with their times.
struct Times<'a> {
    order: &'a [JobId],
    jobs: &'a [Job],
    estimates: &'a Estimates,
}

impl Times<'_> {
    fn simulation(
        &self,
        named: &[NamedKind],
        outlook: &Outlook,
        fleets: &[Outlook],
        smallest: Option<&Outlook>,
    ) -> Simulation {
        let at_work: Vec<usize> = (0..self.jobs.len()).filter(|at| self.jobs[*at].needs.is_some()).collect();
        let names = machine_names(named);
        let spans = outlook.spans.iter().map(|span| SpanView {
            job: self.order[span.job].to_string(),
            builder: names[span.machine].clone(),
            emulated: span.emulated,
            assumed: self.estimates.of(&self.order[span.job], span.emulated).assumed,
            begin: span.begin,
            end: span.end,
        });
        let timeline: Vec<SpanView> = spans.collect();
        Simulation {
            version: SIMULATION_VERSION,
            jobs: at_work.len(),
            assumed: timeline.iter().filter(|span| span.assumed).count(),
            work_milliseconds: at_work.iter().map(|at| self.jobs[*at].native).fold(0, u64::saturating_add),
            builders: named.iter().map(view).collect(),
            outlook: outlook_view(outlook),
            timeline,
            fleets: fleets.iter().map(outlook_view).collect(),
            smallest: smallest.map(outlook_view),
        }
    }
}

/// The name of each machine: numbered where there are several of a kind.
fn machine_names(named: &[NamedKind]) -> Vec<String> {
    let names = named.iter().flat_map(|NamedKind { name, kind }| {
        (1..=kind.count).map(move |number| match kind.count {
            1 => name.clone(),
            _ => format!("{name}-{number}"),
        })
    });
    names.collect()
}

fn view(NamedKind { name, kind }: &NamedKind) -> BuilderView {
    let names = |platforms: &BTreeSet<Platform>| platforms.iter().map(ToString::to_string).collect();
    BuilderView {
        name: name.clone(),
        platforms: names(&kind.machine.native),
        emulates: names(&kind.machine.emulated),
        count: kind.count,
        slots: kind.machine.slots,
        price: kind.price,
        speed: kind.machine.speed,
    }
}

fn outlook_view(outlook: &Outlook) -> OutlookView {
    OutlookView { counts: outlook.counts.clone(), milliseconds: outlook.makespan, cost: outlook.cost }
}
