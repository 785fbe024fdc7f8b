//! The builders of a command: chosen, connected and looked at, all side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::future::join_all;

use crate::config::{BuilderSetting, EngineAddress, NoEngine, SLOTS_LIMIT};
use crate::diag::{Diagnostic, Kind, Problems, Result, Severity, count};
use crate::engine::{Delivery, EngineFacts, Room, RunId, Stock, StoreAddress, check_sessions, labels_below};
use crate::oci::Platform;
use crate::oci::server::Knocks;
use crate::run::{Builder, check_builders};

use super::builder_argument::{self, BuilderArgument};
use super::plan::Planning;
use super::site::{Reached, Site};
use super::workspace::Workspace;
use super::{Context, holes, recorder, site};

/// A clock that differs by more from this machine's is told of.
const SKEW_SECONDS: i64 = 5 * 60;

/// Which builders a command works with.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Wanted {
    /// Use this instead: a builder of polyarch.toml by its name, or an engine as in `arm=ssh://build@arm-1`; what
    /// `[builder.NAME]` says of one may follow, as in `arm=docker,platforms=linux/arm64+linux/arm/v7,slots=2,labels=gpu,disk=30GB`
    /// or `x=tcp://arm-2:2376,certificates=FOLDER`; `,,` stands for a comma that is meant itself
    #[arg(long = "builder", value_name = "BUILDER")]
    builders: Vec<BuilderArgument>,
    /// How many jobs each builder runs at once; one a processor where it is not given
    #[arg(long, value_name = "NUMBER", value_parser = slots)]
    slots: Option<u16>,
    /// The machine of this engine is thrown away after the run: what nobody trusts is built there too, whatever holes its
    /// version has. POLYARCH_EPHEMERAL names such engines too, as in docker,buildx:fleet
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    ephemeral: Vec<EngineAddress>,
}

fn engine(text: &str) -> std::result::Result<EngineAddress, String> {
    text.parse().map_err(|problem: NoEngine| problem.to_string())
}

fn slots(text: &str) -> std::result::Result<u16, String> {
    builder_argument::number("--slots", text, SLOTS_LIMIT)
}

impl Wanted {
    /// Whether anything is said of them.
    pub(super) fn is_said(&self) -> bool {
        !self.builders.is_empty() || self.slots.is_some()
    }

    /// Whether each name is of a builder, and of one alone; none is connected.
    ///
    /// # Errors
    /// Where one is of nothing, or of two engines.
    pub(super) fn check(&self, configured: &BTreeMap<String, BuilderSetting>) -> Result<()> {
        settings(configured, self).map(drop)
    }
}

/// Where the engine of each builder is, by the builder's name: the same from run to run, whatever leads there.
#[derive(Debug, Default)]
pub(super) struct Addresses(BTreeMap<String, String>);

impl Addresses {
    /// Those of some builders.
    pub(super) fn of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        names.into_iter().filter_map(|name| self.0.get(name).cloned()).collect()
    }

    /// All of them.
    pub(super) fn values(&self) -> impl Iterator<Item = &String> {
        self.0.values()
    }

    /// Of one builder.
    #[cfg(test)]
    pub(super) fn alone(address: &str) -> Self {
        Self([("one".to_owned(), address.to_owned())].into())
    }
}

/// The addresses of the builders that are asked for, as far as that is known without asking them.
///
/// # Errors
/// Where one is asked for that nobody has described.
pub(super) fn addresses(
    context: &Context,
    configured: &BTreeMap<String, BuilderSetting>,
    wanted: &Wanted,
) -> Result<Addresses> {
    let known =
        |(name, setting): (String, BuilderSetting)| Some((name, site::address(context, &setting).ok()?));
    Ok(Addresses(settings(configured, wanted)?.into_iter().filter_map(known).collect()))
}

/// Where builders and what leads to them keep their files.
pub(super) struct Ground<'a> {
    /// The run that they work for.
    pub(super) run: &'a RunId,
    /// A folder of this run alone, removed with it.
    pub(super) scratch: &'a Path,
    /// What engines are fed from that do not reach the store.
    pub(super) stock: Stock,
    /// Runs that are over, although engines on other machines cannot tell.
    pub(super) over: BTreeSet<RunId>,
    /// What tells whether an engine reaches the store; none where nothing is to move between them.
    pub(super) knocks: Option<Knocks>,
}

impl<'a> Ground<'a> {
    /// That of a run, where it knows of no other that is over.
    pub(super) fn new(run: &'a RunId, scratch: &'a Path, stock: Stock, knocks: Option<Knocks>) -> Self {
        Self { run, scratch, stock, over: BTreeSet::new(), knocks }
    }
}

/// Connect the builders of a plan, each of which finds the store that is served on this machine's loopback. One that may not
/// build what nobody trusts, or one of polyarch.toml with which something is wrong on its side, is left out where the others
/// do all that there is to do.
///
/// # Errors
/// Where one is unknown, cannot be reached, cannot build, does not reach the store or has not the platforms that it
/// is said to have, or two are one engine; everything that is wrong together.
pub(super) async fn connect(
    context: &Context,
    planning: &Planning,
    wanted: &Wanted,
    ground: &Ground<'_>,
    store: &StoreAddress,
) -> Result<Vec<Builder>> {
    let workspace = &planning.workspace;
    let configured = &workspace.builders;
    let (builders, faulty) = each(context, &workspace.root, configured, wanted, ground, store).await?;
    let mut problems = twins(&builders);
    let told = holes::told(context, &builders, &settings(configured, wanted)?, &wanted.ephemeral);
    let told = told.unwrap_or_else(|problem| {
        problems.push(problem);
        BTreeMap::new()
    });
    let (warnings, full_of_holes): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|(_, told)| told.severity == Severity::Warning);
    warnings.iter().for_each(|(_, warning)| context.ui.warning(warning));
    let mut refused: BTreeMap<String, Diagnostic> = full_of_holes.into_iter().collect();
    for (name, problem) in faulty {
        match wanted.builders.is_empty() && problem.kind == Kind::Surroundings {
            true => drop(refused.insert(name, problem)),
            false => problems.push(problem),
        }
    }
    let is_refused = |one: &Builder| refused.contains_key(&one.name);
    let builders: Vec<Builder> = builders.into_iter().filter(|one| !is_refused(one)).collect();
    match problems.is_empty() && !builders.is_empty() && check_builders(&planning.asks(), &builders).is_ok() {
        true => refused.values().for_each(|refused| context.ui.warning(&left_out(refused))),
        false => problems.extend(refused.into_values()),
    }
    let skewed = builders.iter().filter_map(|builder| skewed(builder, recorder::now()));
    skewed.for_each(|warning| context.ui.warning(&warning));
    let notes = builders.iter().flat_map(|builder| &builder.facts.notes);
    let advice = notes.filter(|note| note.severity == Severity::Advice && !context.common.quiet);
    advice.for_each(|advice| context.ui.warning(advice));
    Problems::check(problems).map(|()| builders)
}

/// What to say of a builder that is not needed and would be refused.
fn left_out(refused: &Diagnostic) -> Diagnostic {
    let warning = Diagnostic { severity: Severity::Warning, ..refused.clone() };
    warning.because("it is left out: the other builders do all that there is to do")
}

/// The one engine that is named as a builder is, else that a docker client would speak to; for images that people use.
///
/// # Errors
/// Where nobody has described it, it cannot be reached, or it keeps no images.
pub(super) async fn one(
    context: &Context,
    workspace: &Workspace,
    name: Option<&BuilderArgument>,
    ground: &Ground<'_>,
    store: &StoreAddress,
) -> Result<Builder> {
    let name = name.cloned().unwrap_or_else(|| BuilderArgument::named("docker"));
    let wanted = Wanted { builders: vec![name], slots: None, ephemeral: Vec::new() };
    let (builders, problems) =
        each(context, &workspace.root, &workspace.builders, &wanted, ground, store).await?;
    Problems::check(problems.into_values().collect())?;
    let builder =
        { builders.into_iter() }.next().ok_or_else(|| Diagnostic::new(Kind::Bug, "connect one engine"))?;
    match builder.engine.runs_containers() {
        true => Ok(builder),
        false => {
            let problem = format!("{} only builds, and keeps no images for others", builder.name);
            Err(Diagnostic::request(problem).hint("name an engine that does: --builder docker").into())
        }
    }
}

/// The builders that answer, and by their names why others do not.
///
/// # Errors
/// Where one is asked for that nobody has described.
pub(super) async fn each(
    context: &Context,
    root: &Path,
    configured: &BTreeMap<String, BuilderSetting>,
    wanted: &Wanted,
    ground: &Ground<'_>,
    store: &StoreAddress,
) -> Result<(Vec<Builder>, BTreeMap<String, Diagnostic>)> {
    let settings = settings(configured, wanted)?;
    let connecting = settings.into_iter().enumerate().map(|(number, (name, setting))| async move {
        let site = Site { context, root, ground, number };
        let slots = wanted.slots.map(usize::from);
        let connected = builder(&site, &name, &setting, slots, store).await;
        connected.map_err(|problem| (name, problem))
    });
    let (mut builders, mut problems) = (Vec::new(), BTreeMap::new());
    for connected in join_all(connecting).await {
        match connected {
            Ok(builder) => builders.push(builder),
            Err((name, problem)) => drop(problems.insert(name, problem)),
        }
    }
    Ok((builders, problems))
}

async fn builder(
    site: &Site<'_>,
    name: &str,
    setting: &BuilderSetting,
    slots: Option<usize>,
    store: &StoreAddress,
) -> Result<Builder, Diagnostic> {
    let connecting = async {
        let Reached { engine, store, hindrance } = site.reach(setting, store).await?;
        let mut facts = engine.probe().await?;
        if engine.delivery() == Delivery::Session {
            check_sessions(&facts, engine.runs_containers())?;
        }
        let advice = hindrance.map(|hindrance| Diagnostic { severity: Severity::Advice, ..hindrance });
        facts.notes.extend(advice);
        Ok((engine, store, facts))
    };
    let connected = connecting.await.map_err(|problem: Diagnostic| match setting.engine {
        Some(_) => problem.because(format!("builder {name}")),
        None => problem,
    });
    let (engine, store, mut facts) = connected?;
    let withheld = keep_to(setting, name, &mut facts)?;
    let own = setting.slots.as_ref().and_then(|slots| usize::try_from(slots.value).ok());
    let slots = slots.or(own).unwrap_or(facts.slots).max(1);
    let stated = setting.labels.iter().map(|label| &label.value);
    let stated = stated.flat_map(|label| labels_below(label).chain([label.clone()]));
    let labels = stated.chain(facts.labels.iter().cloned()).collect();
    let seen = engine.room().await;
    if let Some(room) = seen.as_ref().filter(|room| room.read_only) {
        return Err(unwritable(name, room));
    }
    let most = setting.disk.as_ref().map(|disk| disk.value.0);
    let room = match (seen, most) {
        (Some(seen), Some(most)) => Some(seen.at_most(most)),
        (None, most) => most.map(Room::given),
        (seen, None) => seen,
    };
    let speed = setting.speed.as_ref().map(|speed| speed.value);
    let price = setting.price.as_ref().map(|price| price.value);
    let name = name.to_owned();
    Ok(Builder { name, engine, facts, withheld, store, slots, labels, room, most, speed, price })
}

/// F-G12: a builder whose clock is not this machine's. Nothing that is decided here depends on it, but what is built
/// may: downloads by TLS, the times of files, `apt-get update`. It was asked a moment ago, so a few minutes are no skew.
pub(super) fn skewed(builder: &Builder, now_milliseconds: u64) -> Option<Diagnostic> {
    let there: jiff::Timestamp = builder.facts.clock.as_deref()?.parse().ok()?;
    let here = i64::try_from(now_milliseconds / 1000).ok()?;
    let seconds = there.as_second() - here;
    let hours = seconds.abs() / 3600;
    let amount = match (hours / 24, hours, seconds.abs() / 60) {
        (days @ 1.., ..) => count(usize::try_from(days).ok()?, "day"),
        (_, hours @ 1.., _) => count(usize::try_from(hours).ok()?, "hour"),
        (.., minutes) => count(usize::try_from(minutes).ok()?, "minute"),
    };
    let side = if seconds > 0 { "ahead of" } else { "behind" };
    let problem = format!("the clock of builder {} is {amount} {side} this machine's", builder.name);
    let warning = Diagnostic::warning(problem)
        .hint("set whichever is wrong, on its machine: sudo timedatectl set-ntp true");
    (seconds.abs() > SKEW_SECONDS).then_some(warning)
}

/// F-G13: nothing can be built where nothing can be kept.
fn unwritable(name: &str, room: &Room) -> Diagnostic {
    let problem = Diagnostic::surroundings(format!("builder {name} cannot keep images: it has {room}"))
        .hint("see what happened to the disk: sudo dmesg | tail");
    let mount =
        room.mount().map(|mount| format!("then let it be written again: sudo mount -o remount,rw {mount}"));
    mount.into_iter().fold(problem, Diagnostic::hint)
}

/// The builders that are asked for, by name.
fn settings(
    configured: &BTreeMap<String, BuilderSetting>,
    wanted: &Wanted,
) -> Result<BTreeMap<String, BuilderSetting>> {
    let (mut chosen, mut said) = (BTreeMap::new(), BTreeMap::new());
    for argument in &wanted.builders {
        let (name, setting) = argument.wanted(configured)?;
        if let Some(before) = said.insert(name.clone(), &argument.text) {
            let problem = Diagnostic::request(format!("--builder says twice what {name} is"));
            return Err(match *before == argument.text {
                true => problem.hint("name it once; how many jobs it runs at once is said by `slots`"),
                false => {
                    problem.hint("give each a name of its own, as in `--builder arm-2=ssh://build@arm-2`")
                }
            }
            .into());
        }
        chosen.insert(name, setting);
    }
    if chosen.is_empty() {
        chosen.clone_from(configured);
    }
    if chosen.is_empty() {
        chosen.insert("local".to_owned(), BuilderSetting::default());
    }
    Ok(chosen)
}

/// Only the platforms that the setting gives it; the others that it has.
fn keep_to(
    setting: &BuilderSetting,
    name: &str,
    facts: &mut EngineFacts,
) -> Result<BTreeSet<Platform>, Diagnostic> {
    let Some(platforms) = &setting.platforms else { return Ok(BTreeSet::new()) };
    let has = |platform: &Platform| facts.native.contains(platform) || facts.emulated.contains(platform);
    if let Some(missing) = platforms.iter().find(|platform| !has(&platform.value)) {
        let native: Vec<String> = facts.native.iter().map(ToString::to_string).collect();
        return Err(Diagnostic::surroundings(format!("builder {name} does not run {}", missing.value))
            .because(format!("it runs {}", native.join(", ")))
            .hint(format!("take it out of `platforms` of {name}, or see: polyarch doctor")));
    }
    let given = |platform: &Platform| platforms.iter().any(|one| one.value == *platform);
    let all = facts.native.iter().chain(&facts.emulated);
    let withheld = all.filter(|platform| !given(platform)).cloned().collect();
    facts.native.retain(given);
    facts.emulated.retain(given);
    Ok(withheld)
}

/// Two builders of one engine would give it twice the jobs that it has slots for.
pub(super) fn twins(builders: &[Builder]) -> Vec<Diagnostic> {
    let mut seen = BTreeMap::<&str, &str>::new();
    let ids = builders.iter().flat_map(|builder| builder.facts.ids.iter().map(|id| (&**id, &*builder.name)));
    let twins = ids.filter_map(|(id, name)| {
        let first = *seen.entry(id).or_insert(name);
        (first != name).then_some((first, name, id))
    });
    // Two that share several nodes are told of once.
    let mut pairs = BTreeMap::new();
    for (first, name, id) in twins {
        pairs.entry((first, name)).or_insert(id);
    }
    let told = pairs.into_iter().map(|((first, name), id)| {
        let problem = Diagnostic::request(format!("builders {first} and {name} are one engine"))
            .because(format!("both are {id}"))
            .hint("leave one of the two out, and give the other their slots");
        // A storage is of this machine, and a BuildKit is told by its address.
        match id.starts_with("BuildKit") || id.starts_with("containers-storage:") {
            true => problem,
            false => problem.hint("where they are two machines, one cloned from the other, nothing tells their engines apart but the names of the machines; give one another there: sudo hostnamectl set-hostname arm-2, then: sudo systemctl restart docker"),
        }
    });
    told.collect()
}
