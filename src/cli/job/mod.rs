//! `polyarch job`: one job of a pipeline, for a CI service or for a person who does again what it did.
//!
//! ```text
//! plan ──▶ IMAGE@PLATFORM ──▶ … ──▶ publish, or rehearse ──▶ close
//!    plan.json      its parents' files        all files
//! ```
//!
//! Where each image goes by itself, `publish IMAGE` comes behind the jobs of its platforms, and `publish` behind all of these.
//!
//! Every job has a folder of its own in the work folder, and finds there those of the jobs before it. What began the run
//! says which scope it works in (`src/ci/event.rs`).

mod close;
mod files;
mod passed_over;
mod promoting;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::ci::{self, Beginning, Event};
use crate::config::{LoginSetting, Scheduled, StorePlace, Variable, Version};
use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind, Problems, Result, count};
use crate::family::{JobId, Unit};
use crate::oci::{Fixed, Login, Platform, Secret};

use super::delta;
use super::plan::{Anew, Planning, What};
use super::publish::{Wanted, publish, standing};
use super::settled::SettledPlan;
use super::workspace::Workspace;
use super::{
    Common, Context, Ended, build, import, nightly, plan, recorder, registries, rehearsal, workshop,
};

use files::Files;
pub(super) use promoting::no_store_at_registry;

/// The images that were chosen by hand, with white space between them.
const IMAGES: &str = "POLYARCH_IMAGES";
/// Whether all that was chosen by hand is built with what is new outside: `true`, or `false`.
const REFRESH: &str = "POLYARCH_REFRESH";
const DAY_MILLISECONDS: u64 = 24 * 60 * 60 * 1_000;
/// Who publishes.
const USER: &str = "POLYARCH_USER";
const PASSWORD: &str = "POLYARCH_PASSWORD";

/// Do one job of a pipeline that `polyarch ci` has written
///
/// The jobs of a pipeline share nothing but the files in their work folders, which the service brings from one to the
/// next. What began the run, and so what is trusted, is read from the service's environment; where there is none, it is
/// as on the command line.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch job plan --work /tmp/work               settle what is done
  polyarch job base@linux/amd64 --work /tmp/work   build and test one image upon what others left there
  polyarch job rehearse --work /tmp/work           publish it all into a registry that is thrown away
  polyarch job publish --work /tmp/work            publish it
  polyarch job publish base --work /tmp/work       publish one image of it
  polyarch job sign --work /tmp/work               sign what a proposal has built, in the store
  polyarch job promote                             take over what a proposal has built that was merged")]
pub(super) struct Options {
    /// `plan`, an image as `image:variant@platform`, or several with spaces between them, `rehearse`, `publish`, `sign`,
    /// `promote`, or `close`, which fails where one of the jobs in POLYARCH_JOBS has not ended as planned
    #[arg(value_name = "JOB", value_parser = Task::parse)]
    task: Task,
    /// With `publish`: only these images, as `image` or `image:variant`, with spaces between them
    #[arg(value_name = "IMAGES", value_parser = images)]
    images: Option<Images>,
    /// The folder with a folder for each job: those before this one are read, its own is written
    #[arg(long, value_name = "DIR", env = "POLYARCH_WORK")]
    work: Option<PathBuf>,
    /// Publish to this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY", env = "POLYARCH_REGISTRY")]
    to: Option<String>,
}

/// Images and variants.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Images(BTreeSet<Unit>);

fn images(text: &str) -> Result<Images, String> {
    let units = text.split_whitespace().map(str::parse).collect::<Result<BTreeSet<Unit>, _>>();
    let units = units.map_err(|error: crate::oci::Error| error.to_string())?;
    if units.is_empty() { Err("no image is named".to_owned()) } else { Ok(Images(units)) }
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    Plan,
    Build(Vec<JobId>),
    Rehearse,
    Publish,
    Sign,
    Promote,
    Close,
}

impl Task {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "plan" => Ok(Self::Plan),
            "rehearse" => Ok(Self::Rehearse),
            "publish" => Ok(Self::Publish),
            "sign" => Ok(Self::Sign),
            "promote" => Ok(Self::Promote),
            "close" => Ok(Self::Close),
            // Nothing else that a job is called has a platform.
            _ => {
                let jobs = text.split_whitespace().map(str::parse).collect::<Result<Vec<JobId>, _>>();
                let jobs = jobs.map_err(|error: crate::oci::Error| error.to_string())?;
                if jobs.is_empty() { Err("no job is named".to_owned()) } else { Ok(Self::Build(jobs)) }
            }
        }
    }

    fn title(&self) -> String {
        match self {
            Self::Plan => "plan".to_owned(),
            Self::Build(jobs) => jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Self::Rehearse => "rehearse the publication".to_owned(),
            Self::Publish => "publish".to_owned(),
            Self::Sign => "sign what was built".to_owned(),
            Self::Promote => "promote".to_owned(),
            Self::Close => "all jobs".to_owned(),
        }
    }
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let variables = |name: &str| context.environment.text(name);
    let beginning = ci::beginning(&variables);
    let context = begun(context, beginning.as_ref())?;
    let title = title(options);
    let service = beginning.as_ref().map(|beginning| beginning.service);
    context.ui.command(service.and_then(|service| service.group(&title, recorder::now() / 1_000)));
    let ended = carry_out(&context, options, beginning.as_ref()).await;
    registries::tell_traffic(&context);
    context.ui.command(service.and_then(|service| service.end_group(recorder::now() / 1_000)));
    if let Some(beginning) = &beginning {
        summarize(&context, beginning, &title, &ended);
    }
    ended
}

fn title(options: &Options) -> String {
    let images = options.images.iter().flat_map(|images| &images.0).map(ToString::to_string);
    std::iter::once(options.task.title()).chain(images).collect::<Vec<_>>().join(" ")
}

/// What the command works in, as what began the run wants it: a proposal has its own scope, whatever else is said.
fn begun(context: &Context, beginning: Option<&Beginning>) -> Result<Context> {
    let mut common: Common = context.common.clone();
    // What a service has nothing for is empty there.
    common
        .store
        .take_if(|place| matches!(place, StorePlace::Folder(folder) if folder.as_os_str().is_empty()));
    if let Some(Beginning { event: Event::Proposed(scope), .. }) = beginning
        && common.scope.is_trusted()
        && stands(Defence::ProposedScope)
    {
        let failed = |error| Diagnostic::request("name the scope of this run").caused_by(&error);
        common.scope = scope.parse().map_err(failed)?;
        context
            .ui
            .note(&format!("what began this run is not trusted: it works in the scope `{}`", common.scope));
    }
    if let Some(beginning) = beginning {
        let version = |tag: &String| {
            tag.parse::<Version>().map_err(|error| Diagnostic::request("name this release").caused_by(&error))
        };
        common.release = beginning.release.as_ref().map(version).transpose()?;
    }
    Ok(Context { common, ..context.clone() })
}

/// A person may have begun a run at any tag of Git.
fn refuse_other_tags(context: &Context, beginning: Option<&Beginning>) -> Result<()> {
    let Some(tag) = beginning.and_then(|beginning| beginning.release.as_ref()) else { return Ok(()) };
    if Workspace::read_quietly(context, &Default::default())?.ci.is_release(tag) {
        return Ok(());
    }
    let problem =
        Diagnostic::new(Kind::Policy, format!("the tag of Git `{}` is no release", tag.escape_debug()));
    Err(problem
        .because("no pattern of `release-tags` in `[ci]` means it")
        .hint("begin the run at the branch that is published, or name the tag there")
        .into())
}

async fn carry_out(context: &Context, options: &Options, beginning: Option<&Beginning>) -> Result<Ended> {
    let files = || Files::open(options.work.as_deref());
    if let Some(images) = options.images.as_ref().filter(|_| options.task != Task::Publish) {
        let named = images.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        return Err(Diagnostic::request(format!(
            "only `polyarch job publish` is told images, and not {named}"
        ))
        .hint("name what is built in one word: polyarch job 'base@linux/amd64 base@linux/arm64'")
        .into());
    }
    match &options.task {
        Task::Close => close::close(context),
        Task::Plan => settle(context, &files()?, beginning).await,
        Task::Build(jobs) => some(context, &files()?, jobs).await,
        Task::Rehearse => together(context, &files()?, options, Towards::Nowhere).await,
        Task::Sign => promoting::sign(context, &files()?).await,
        Task::Promote => promoting::promote(context, beginning).await,
        Task::Publish => {
            context.refuse_untrusted("publishing")?;
            refuse_other_tags(context, beginning)?;
            let towards = match is_foreign(context, beginning)? {
                true => Towards::Nowhere,
                // Nightly tags move where all has gone well, by the job that publishes what is left.
                false => Towards::Target { nightly: is_time(beginning) && options.images.is_none() },
            };
            together(context, &files()?, options, towards).await
        }
    }
}

/// Whether this is the repository of somebody who does not publish.
fn is_foreign(context: &Context, beginning: Option<&Beginning>) -> Result<bool> {
    let workspace = Workspace::read(context, &Default::default())?;
    let (Some(owners), Some(beginning)) = (&workspace.ci.owners, beginning) else { return Ok(false) };
    let is_owner =
        |owner: &String| owners.iter().any(|known| known.value.as_str().eq_ignore_ascii_case(owner));
    let foreign = !beginning.owner.as_ref().is_some_and(is_owner);
    if foreign {
        context.ui.note("the owner of this repository is none of `owners` in `[ci]`: nothing is pushed");
    }
    Ok(foreign)
}

/// Whether the run began because the time has come.
fn is_time(beginning: Option<&Beginning>) -> bool {
    beginning.is_some_and(|beginning| beginning.event == Event::Scheduled)
}

/// Settle the plan for all jobs of the run.
async fn settle(context: &Context, files: &Files, beginning: Option<&Beginning>) -> Result<Ended> {
    refuse_other_tags(context, beginning)?;
    let chosen = context.environment.text(IMAGES).unwrap_or_default();
    let mut images: Vec<String> = chosen.split_whitespace().map(str::to_owned).collect();
    if let Some(asked_for) = beginning.map(|beginning| &beginning.images)
        && images.is_empty()
        && !asked_for.is_empty()
    {
        context.ui.note(&format!("the title asks for {} alone", asked_for.join(" ")));
        images.clone_from(asked_for);
    }
    let platform = platforms(context, beginning, &images)?;
    let what = What { images, platform, ..What::default() };
    let by_hand = context.environment.text(REFRESH).is_some_and(|said| ["1", "true"].contains(&&*said));
    let at_its_time = is_time(beginning)
        && Workspace::read_quietly(context, &Default::default())?.ci.scheduled == Scheduled::Refresh;
    let is_wanted = by_hand || at_its_time || beginning.is_some_and(|beginning| beginning.refresh);
    let anew = if is_wanted { Anew::refreshing() } else { Anew::default() };
    let options = plan::Options::settling(what, anew, files.own("plan")?.join(files::PLAN));
    let ended = context.signals.unless_stopped(plan::run(context, &options)).await?;
    if let Some(file) = beginning.and_then(|beginning| beginning.service.outputs())
        && let Some(file) = context.environment.value(file)
    {
        let trusted = context.common.scope.is_trusted();
        let publishes = trusted && !is_foreign(context, beginning)?;
        let said = format!("trusted={trusted}\npublishes={publishes}\n");
        append(Path::new(&file), &said).map_err(|error| {
            Diagnostic::surroundings("tell the service whether this run is trusted").caused_by(&error)
        })?;
    }
    Ok(ended)
}

/// The platforms that this run is for, by what began it; who names an image with its platform has chosen.
fn platforms(context: &Context, beginning: Option<&Beginning>, images: &[String]) -> Result<Vec<Platform>> {
    let Some(beginning) = beginning.filter(|_| !images.iter().any(|image| image.contains('@'))) else {
        return Ok(Vec::new());
    };
    let said = Workspace::read_quietly(context, &Default::default())?.ci.platforms.clone();
    let platforms = beginning.platforms(&said, recorder::now() / DAY_MILLISECONDS);
    if !platforms.is_empty() {
        let names = platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        context.ui.note(&format!("by what began it, this run is for {names} alone"));
    }
    Ok(platforms)
}

/// Build and test images upon what the jobs before left, and leave what each has added: before its tests, so that it
/// can be looked at where they fail or never end.
async fn some(context: &Context, files: &Files, jobs: &[JobId]) -> Result<Ended> {
    // Where it may not write the store at a registry, a job that has no login builds all the same.
    let context = &handing_on(context);
    let settled = files.plan(context)?;
    let workspace = Workspace::read(context, &Default::default())?;
    let ids = ci::ids(&workspace.family);
    let id = |job: &JobId| ids.get(job).map(String::as_str).ok_or_else(|| no_such(job));
    let alone = jobs.iter().map(id).collect::<Result<Vec<&str>, Diagnostic>>()?;
    let to = files.own(&ci::id_of(&alone))?;
    let is_of_this_run = |job: &&JobId| settled.as_ref().is_none_or(|(_, plan)| plan.has(job));
    let (jobs, others): (Vec<&JobId>, Vec<&JobId>) = jobs.iter().partition(is_of_this_run);
    for job in others {
        context.ui.note(&format!("{job} is not among the images of this run"));
    }
    if jobs.is_empty() {
        return Ok(Ended::Well);
    }
    let jobs: Vec<JobId> = jobs.into_iter().cloned().collect();
    let file = settled.map(|(file, _)| file);
    take_in(context, files).await?;
    let built = build::run(context, &build::Options::of_jobs(&jobs, file.clone(), Some(to.clone()))).await;
    let left = leave(context, &jobs, file, &to).await;
    match (built, left) {
        (Ok(ended), left) => left.map(|()| ended),
        (Err(failed), Ok(())) => Err(failed),
        (Err(failed), Err(more)) => Err(failed.and(more)),
    }
}

/// The same for what does without the right to write the store at a registry.
fn handing_on(context: &Context) -> Context {
    Context { common: Common { hands_on: true, ..context.common.clone() }, ..context.clone() }
}

/// Write what is not written yet of the files of jobs, where their images stand.
async fn leave(context: &Context, jobs: &[JobId], plan: Option<PathBuf>, to: &Path) -> Result<()> {
    let what = What::of_jobs(jobs);
    let settled = plan.as_deref().map(SettledPlan::read).transpose()?;
    let anew = Anew::default().carrying_out(settled);
    let planning = context.signals.unless_stopped(Planning::make_anew(context, &what, &anew)).await?;
    let stands =
        |job: &&JobId| planning.plan.jobs.get(*job).is_some_and(|planned| planned.decision.image().is_some());
    for job in jobs.iter().filter(stands) {
        delta::complete(context, &planning, job, to).await?;
    }
    Ok(())
}

/// Take in what jobs before this one left. Why it is in the folder alone, where the registry of the store does not let it be
/// written.
async fn take_in(context: &Context, files: &Files) -> Result<Option<String>> {
    let deltas = files.deltas()?;
    if deltas.is_empty() {
        return Ok(None);
    }
    let number = deltas.len();
    let workspace = Workspace::read(context, &Default::default())?;
    let shelf = workshop::Shelf::open(context, &workspace)?;
    let arrived = import::take_in(context, &shelf, deltas).await?;
    context.ui.note(&format!("{} came in {}", count(arrived.len(), "image"), count(number, "file")));
    Ok(shelf.records().refused())
}

/// Where a publication goes.
enum Towards {
    /// Where the family is published, with the nightly tags too.
    Target {
        nightly: bool,
    },
    Nowhere,
}

/// Join what all jobs left, and publish it or rehearse that.
async fn together(context: &Context, files: &Files, options: &Options, towards: Towards) -> Result<Ended> {
    // What a service has nothing for is empty there.
    let to = options.to.clone().filter(|to| !to.is_empty());
    let context = &match towards {
        Towards::Nowhere => handing_on(context),
        Towards::Target { .. } => logged_in_at_target(context, to.as_deref())?,
    };
    if let Some(why) = take_in(context, files).await?.filter(|_| matches!(towards, Towards::Target { .. })) {
        let warning =
            Diagnostic::warning("what came in is published, and not kept in the store").because(why);
        context
            .ui
            .warning(&warning.hint("keep the store at the registry that is published to, for one login"));
    }
    let Some(planning) = as_settled(context, files, options.images.as_ref()).await? else {
        context.ui.note(&format!("{}: not among the images of this run", title(options)));
        return Ok(Ended::Well);
    };
    let passed = standing(&planning.plan);
    if matches!(towards, Towards::Target { .. }) {
        build::share(context, &planning, &passed).await?;
    }
    match towards {
        Towards::Nowhere => {
            let failed = |error: std::io::Error| {
                Diagnostic::surroundings("make a folder for a registry that is thrown away").caused_by(&error)
            };
            let folder = tempfile::tempdir().map_err(failed)?;
            rehearsal::rehearse(context, &planning, passed, folder.path()).await
        }
        Towards::Target { nightly } => {
            let wanted =
                Wanted { to, dry_run: false, allow_rollback: false, sign_key: None, rehearsal: false };
            if options.images.is_none() && context.common.release.is_none() {
                context
                    .signals
                    .unless_stopped(passed_over::tell(context, &planning, wanted.to.as_deref()))
                    .await?;
            }
            // Each of these goes by itself, whatever becomes of the rest.
            let moved = match nightly {
                true => nightly::publish(context, &planning, &passed, wanted.to.as_deref()).await?,
                false => Vec::new(),
            };
            let published = publish(context, &planning, passed, &wanted, &recorder::shown(&context.ui)).await;
            match (Problems::check(moved), published) {
                (Ok(()), published) => published,
                (Err(unmoved), Ok(_)) => Err(unmoved),
                (Err(unmoved), Err(more)) => Err(unmoved.and(more)),
            }
        }
    }
}

/// The plan as it was settled, for some images where they are named; none where it has nothing of these.
async fn as_settled(context: &Context, files: &Files, of: Option<&Images>) -> Result<Option<Planning>> {
    let settled = files.plan(context)?.map(|(_, plan)| plan);
    let mut selected = settled.as_ref().map(|plan| plan.selected.clone()).unwrap_or_default();
    if let Some(Images(units)) = of {
        let family = &Workspace::read_quietly(context, &Default::default())?.family;
        let unknown = units.iter().filter(|unit| family.recipe(unit).is_none()).map(no_such);
        Problems::check(unknown.collect())?;
        let is_chosen = |job: &JobId| selected.is_empty() || selected.contains(job);
        selected = family.jobs().filter(|job| units.contains(&job.unit) && is_chosen(job)).collect();
        if selected.is_empty() {
            return Ok(None);
        }
    }
    let images = selected.iter().map(ToString::to_string).collect();
    let what = What { images, ..What::default() };
    let anew = Anew::default().carrying_out(settled);
    context.signals.unless_stopped(Planning::make_anew(context, &what, &anew)).await.map(Some)
}

fn no_such(what: &impl std::fmt::Display) -> Diagnostic {
    Diagnostic::request(format!("there is no {what} here")).hint("see what there is: polyarch plan")
}

/// The same with the login for where the family is published. A store at another registry is written if the user's files
/// have a login for that.
fn logged_in_at_target(context: &Context, to: Option<&str>) -> Result<Context> {
    let workspace = Workspace::read_quietly(context, &Default::default())?;
    let registry = to.map(str::to_owned).or_else(|| workspace.family.registry.clone());
    let context = match workshop::registry(context, &workspace) == registry.as_deref() {
        true => context.clone(),
        false => handing_on(context),
    };
    Ok(logged_in(&context, registry, workspace.ci.login.as_ref()))
}

/// The same with the login that the environment has for the registry, and for no other: in our variables, or in those that
/// `[ci]` names, which some services have for every job.
fn logged_in(context: &Context, registry: Option<String>, names: Option<&LoginSetting>) -> Context {
    let said = |name: &str| context.environment.text(name).filter(|value| !value.is_empty());
    let of = |usual: &str, named: Option<&Variable>| said(usual).or_else(|| said(named?.as_str()));
    let user = of(USER, names.map(|names| &names.user));
    let password = of(PASSWORD, names.map(|names| &names.password));
    let login = match (registry, user, password) {
        (Some(registry), Some(user), Some(password)) => {
            Some(Arc::new(Fixed(registry, Login::Basic { user, password: Secret::new(password) })))
        }
        _ => None,
    };
    Context { login, ..context.clone() }
}

/// Write how it ended where the service shows it. A summary that cannot be written fails nothing.
fn summarize(context: &Context, beginning: &Beginning, title: &str, ended: &Result<Ended>) {
    let Some(file) = beginning.service.summary().and_then(|name| context.environment.value(name)) else {
        return;
    };
    let (outcome, lines) = match ended {
        Ok(Ended::Well) => ("done".to_owned(), String::new()),
        Ok(Ended::With(code)) => (format!("ended with {code}"), String::new()),
        Err(problems) => (format!("failed with {}", problems.exit_code()), told(problems)),
    };
    let title =
        if beginning.run.is_empty() { title.to_owned() } else { format!("{title}, run {}", beginning.run) };
    let text = ci::summary(&title, &outcome, &lines);
    if let Err(error) = append(Path::new(&file), &text) {
        context
            .ui
            .warning(&Diagnostic::warning("the summary of this step could not be written").caused_by(&error));
    }
}

fn append(file: &Path, text: &str) -> std::io::Result<()> {
    std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(text.as_bytes())
}

/// What is wrong, as lines.
fn told(problems: &Problems) -> String {
    let lines = problems.iter().flat_map(|problem| {
        let causes = problem.causes.iter().map(|cause| format!("  caused by: {cause}"));
        let hints = problem.hints.iter().map(|hint| format!("  hint: {hint}"));
        std::iter::once(problem.message.clone()).chain(causes).chain(hints).collect::<Vec<_>>()
    });
    lines.map(|line| line + "\n").collect()
}
