//! Seeded simulation: publishers that crash, stand still, are stopped and run again, registries that fail, refuse and
//! forget, somebody who collects garbage, somebody else who moves tags; and what must hold after every change.
//!
//! `POLYARCH_PUBLICATIONS=10000` tries more seeds, `POLYARCH_SEED=7` that one alone, with all that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::fixture::{AMD, ARM, Fixture, SCOPE};
use super::invariants::{Allowed, Content, Known};
use super::journal::State;
use super::publication::{Step, blobs_of};
use super::watched::{Alive, Dice, Habits, Process, Refused, Script, Seen, World};
use super::*;
use crate::diag::{Diagnostic, Kind, Problems};
use crate::event::EventKind;
use crate::family::{Divergence, Together, Unit};
use crate::oci::{Digest, ErrorKind, Memory, Platform, Repository};

/// How many seeds are tried.
const SEEDS: u64 = 2_000;
/// When it all begins, in milliseconds since 1970-01-01 UTC.
const EPOCH: u64 = 1_700_000_000_000;
/// Longer than anything may take: what is not over by then never is.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);
/// How many states of its sources a family goes through.
const STATES: usize = 4;

/// A family at one state of its sources, ready to be published.
struct Edition {
    state: usize,
    /// Only an image that stands on another is selected.
    leaf_only: bool,
    units: Vec<Publication>,
    allowed: Allowed,
}

/// The same family at all its states.
struct Line {
    editions: Vec<Edition>,
    known: Arc<Known>,
}

/// Everything that is published in any simulation.
struct Pool {
    store: Memory,
    lines: Vec<Line>,
}

/// An image, what it stands on, and its platforms.
type Shape = (&'static str, Option<&'static str>, &'static [&'static str]);

/// At which state of its own sources an image is when the family is at some state.
fn state_of(unit: &str, state: usize) -> usize {
    match unit.split(':').next() {
        Some("base") => [0, 1, 1, 2][state],
        Some("leaf") => [0, 0, 1, 2][state],
        _ => [0, 0, 0, 1][state],
    }
}

impl Pool {
    async fn new() -> Self {
        let shapes: [&[Shape]; 4] = [
            &[("base", None, &[AMD]), ("leaf", Some("base"), &[AMD])],
            &[("base", None, &[AMD, ARM]), ("leaf", Some("base"), &[AMD, ARM]), ("other", None, &[AMD])],
            &[
                ("base", None, &[AMD, ARM]),
                ("base:cuda", Some("base"), &[AMD]),
                ("leaf", Some("base"), &[ARM]),
            ],
            &[("base", None, &[AMD]), ("leaf", Some("base"), &[AMD]), ("base:late", Some("leaf"), &[AMD])],
        ];
        let (store, mut lines) = (Memory::new(), Vec::new());
        for (at, shape) in shapes.iter().enumerate() {
            for together in [Together::Family, Together::Image] {
                for immutable in [false, true] {
                    lines.push(Self::line(&store, at, shape, together, immutable).await);
                }
            }
        }
        Self { store, lines }
    }

    async fn line(store: &Memory, at: usize, shape: &[Shape], together: Together, immutable: bool) -> Line {
        let (mut editions, mut known) = (Vec::new(), Known::new());
        for state in 0..STATES {
            let mut fixture = Fixture::new(Divergence::Withhold);
            fixture.store = store.clone();
            for (unit, parent, platforms) in shape {
                // What is built anew on a parent is anew itself.
                let of_parent = parent.map_or(0, |parent| state_of(parent, state));
                fixture.states.insert((*unit).to_owned(), 100 * at + 10 * state_of(unit, state) + of_parent);
                let value = format!("v{}", state_of(unit, state));
                let made: Vec<_> =
                    { platforms.iter() }.map(|platform| (*platform, Some(value.as_str()))).collect();
                fixture = fixture.image(unit, *parent, &made).await;
            }
            let common = ["latest", "{commit}"].map(str::to_owned);
            let recipes = fixture.family.recipes.values_mut();
            recipes.for_each(|recipe| recipe.common_tags = common.to_vec());
            if immutable {
                fixture.family.tags.immutable = vec!["{commit}".parse().expect("a pattern")];
            }
            for leaf_only in [false, true] {
                editions.push(Self::edition(&fixture, state, leaf_only, together, &mut known).await);
            }
        }
        Line { editions, known: Arc::new(known) }
    }

    async fn edition(
        fixture: &Fixture,
        state: usize,
        leaf_only: bool,
        together: Together,
        known: &mut Known,
    ) -> Edition {
        let scope: Repository = SCOPE.parse().expect("scope");
        let source = Source { store: &fixture.store, repository: &scope, within_target: false };
        let order = fixture.family.order.iter();
        let chosen: BTreeSet<Unit> =
            order.filter(|unit| !leaf_only || unit.to_string() == "leaf").cloned().collect();
        // The first two states are of one commit.
        let commit = Digest::of(format!("commit {}", state.max(1)).as_bytes()).hex()[..40].to_owned();
        let facts = RunFacts { date: String::new(), commit: Some(commit) };
        let release =
            assemble(&fixture.family, &chosen, &fixture.planned(), &fixture.passed, &facts).expect("release");
        assert!(release.withheld.is_empty(), "{:?}", release.withheld);
        let homes = match together {
            Together::Family => super::fixture::homes(),
            Together::Image => {
                let each = fixture.family.recipes();
                Homes::Each(each.map(|one| (one.unit.to_string(), one.repository.clone())).collect())
            }
        };
        let parents: BTreeMap<&Digest, Vec<Digest>> = { fixture.passed.values() }
            .map(|passed| (&passed.image.image, passed.image.parents.values().cloned().collect()))
            .collect();
        let mut allowed = Allowed::default();
        for image in &release.images {
            let recipe = &fixture.family.recipes[&image.unit];
            let lacking = recipe.platforms.keys().filter(|one| !image.platforms.contains_key(one));
            let lacking: Vec<Platform> = lacking.cloned().collect();
            let children = image.index.index().expect("index").manifests.into_iter().map(|one| one.digest);
            let content = Content { children: children.collect(), lacking, ..Content::default() };
            known.insert(image.index.digest().clone(), content);
            allowed.brings.extend(image.platforms.values().map(|one| one.manifest.digest.clone()));
            for (tag, digest) in &image.tags {
                allowed.places.insert((image.repository.clone(), tag.clone()), digest.clone());
            }
            allowed
                .immutable
                .extend(image.immutable.keys().map(|tag| (image.repository.clone(), tag.clone())));
        }
        let units =
            Publication::prepare_each(units(release, together), &homes, &source).await.expect("publications");
        for step in units.iter().flat_map(Publication::steps) {
            if let Step::Document { document, .. } = step
                && !document.is_index()
            {
                let parents = parents[document.digest()].clone();
                let blobs = blobs_of(document).expect("manifest");
                known.insert(document.digest().clone(), Content { blobs, parents, ..Content::default() });
            }
        }
        Edition { state, leaf_only, units, allowed }
    }
}

/// How often something was seen, over all seeds.
#[derive(Clone, Debug, Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn count(&mut self, what: &'static str, times: usize) {
        *self.0.entry(what).or_default() += times;
    }
}

/// Somebody who publishes, again and again until it is done or he gives up.
struct Actor<'a> {
    name: usize,
    edition: &'a Edition,
    starts: Duration,
    /// Milliseconds that his clock is ahead of 5 s behind.
    clock: u64,
    patience: Duration,
    older: bool,
    runs: usize,
    /// So many of a hundred runs meet with something.
    unlucky: usize,
}

fn script(dice: &mut Dice, unlucky: usize) -> Script {
    let mut script = Script::default();
    if !dice.percent(unlucky) {
        return script;
    }
    // What is done from the journal on is the part that matters most.
    script.from_list = dice.percent(70);
    let at = dice.below(if script.from_list { 40 } else { 150 });
    match dice.below(5) {
        0 | 1 => script.dies = Some((at, dice.percent(60))),
        2 | 3 => {
            let how_long = if dice.percent(70) { 30_000 + dice.below(270_000) } else { dice.below(30_000) };
            let how_long = Duration::from_millis(how_long as u64);
            script.stands_still = Some((at, dice.percent(60), how_long));
            if dice.percent(20) {
                script.dies = Some((at + dice.below(20), dice.percent(60)));
            }
        }
        _ => script.stops = Some(at),
    }
    script
}

/// One run of the command; whether that is the end of it.
async fn run(
    (world, pool, tally): (&Arc<World>, &Pool, &Mutex<Tally>),
    actor: &Actor<'_>,
    attempt: usize,
    knows: bool,
) -> bool {
    let name = format!("{}.{attempt}", actor.name);
    let script = world.dice(|dice| script(dice, actor.unlucky));
    world.note(|| {
        let Edition { state, leaf_only, .. } = actor.edition;
        format!("{name} begins: state {state}, leaf only: {leaf_only}, {script:?}")
    });
    let process = Process::new(name.clone(), script);
    world.shadow(|shadow| {
        shadow.allow(&name, Allowed { older: actor.older, ..actor.edition.allowed.clone() })
    });
    let seen = Seen { world: Arc::clone(world), process: Arc::clone(&process), fresh: false };
    let fresh = Seen { fresh: true, ..seen.clone() };
    let ahead = actor.clock;
    let clock = {
        let world = Arc::clone(world);
        move || EPOCH + world.milliseconds() + ahead
    };
    let is_gone = {
        let world = Arc::clone(world);
        move |name: &str| knows && world.is_gone(name)
    };
    let publisher = Publisher {
        id: name.clone(),
        generation: Generation {
            commit_seconds: actor.edition.state.max(1) as u64,
            run_milliseconds: clock(),
        },
        commit: None,
        allow_older: actor.older,
        patience: actor.patience,
        holder: name.clone(),
        is_gone: &is_gone,
        clock: &clock,
    };
    let count = |what| tally.lock().expect("tally").count(what, 1);
    let listener = |event: EventKind| match event {
        EventKind::PublicationAwaited { .. } => count("waited"),
        EventKind::PublicationCompleted { put_back: false, .. } => count("another completed"),
        EventKind::PublicationCompleted { put_back: true, .. } => count("another put back"),
        _ => {}
    };
    let scope: Repository = SCOPE.parse().expect("scope");
    let source = Source { store: &pool.store, repository: &scope, within_target: false };
    let target = Target { store: &seen, fresh: &fresh, registry: "r.io" };
    let work = async {
        for publication in &actor.edition.units {
            publication.keep_immutable(target).await?;
        }
        for publication in &actor.edition.units {
            let stop = async {
                process.stopping.notified().await;
                Diagnostic::new(Kind::Interrupted, "stopped by SIGINT")
            };
            publication.carry_out(&source, target, &publisher, stop, &listener).await?;
        }
        Ok::<_, Problems>(())
    };
    let ended = Alive { work: Box::pin(work), process: Arc::clone(&process), still: None }.await;
    world.gone(&name);
    world.note(|| format!("{name} ended: {ended:?}"));
    let kind = |problems: &Problems| problems.iter().next().map(|problem| problem.kind);
    match ended {
        None => count("crashed"),
        Some(Ok(())) => {
            count("done");
            return true;
        }
        Some(Err(problems)) => match kind(&problems) {
            Some(Kind::Policy) => {
                count("refused by policy");
                return true;
            }
            Some(Kind::Incomplete) => count("incomplete"),
            Some(Kind::Interrupted) => count("stopped with nothing begun"),
            _ => count("failed with nothing begun"),
        },
    }
    false
}

async fn act(of: (&Arc<World>, &Pool, &Mutex<Tally>), actor: Actor<'_>, knows: bool) {
    sleep(actor.starts).await;
    for attempt in 0..actor.runs {
        if run(of, &actor, attempt, knows).await {
            return;
        }
        let pause = of.0.dice(|dice| dice.milliseconds(20_000));
        sleep(pause).await;
    }
}

fn habits(dice: &mut Dice) -> Habits {
    let pick = |dice: &mut Dice, of: &[usize]| of[dice.below(of.len())];
    let window = |dice: &mut Dice| {
        let from = dice.below(90_000) as u64;
        let longest = if dice.percent(50) { 2_000 } else { 100_000 };
        from..from + dice.below(longest) as u64
    };
    let mut refuses = Vec::new();
    let kinds = [ErrorKind::Denied, ErrorKind::Unsupported, ErrorKind::Full, ErrorKind::Invalid];
    for _ in 0..pick(dice, &[0, 0, 1, 2]) {
        let what = match dice.below(6) {
            0 => Refused::Tags,
            1 => Refused::NewTags,
            2 | 3 => Refused::SomeTags(dice.below(5)),
            4 => Refused::Writes,
            _ => Refused::Removals,
        };
        let when = if dice.percent(40) { 0..u64::MAX } else { window(dice) };
        refuses.push((when, what, kinds[dice.below(kinds.len())]));
    }
    // Ours shows at once what it has.
    let conditions = dice.percent(65);
    let settles = if !conditions && dice.percent(30) { 1 + dice.below(30) as u64 } else { 0 };
    Habits {
        conditions,
        careless: dice.percent(30),
        settles: Duration::from_secs(settles),
        loses: pick(dice, &[0, 0, 0, 1, 2]),
        slow: pick(dice, &[0, 0, 2, 10]),
        down: (0..pick(dice, &[0, 0, 0, 1, 2])).map(|_| window(dice)).collect(),
        refuses,
    }
}

fn actors<'a>(dice: &mut Dice, line: &'a Line) -> Vec<Actor<'a>> {
    let unlucky = [20, 50, 80][dice.below(3)];
    let late = dice.percent(15);
    let count = 2 + dice.below(3);
    let actor = |name: usize| {
        let leaf_only = dice.percent(15);
        let state = dice.below(STATES);
        let fits = |edition: &&Edition| edition.state == state && edition.leaf_only == leaf_only;
        let within = [300, 3_000, 100_000][dice.below(3)];
        Actor {
            name,
            edition: line.editions.iter().find(fits).expect("edition"),
            starts: match late && dice.percent(40) {
                true => Duration::from_secs(10_000 + dice.below(5_000) as u64),
                false => dice.milliseconds(within),
            },
            clock: dice.next() % 10_000,
            patience: Duration::from_secs(if dice.percent(30) { 20 } else { 600 }),
            older: dice.percent(5),
            runs: 1 + dice.below(4),
            unlucky,
        }
    };
    (0..count).map(actor).collect()
}

/// Somebody else moves a public tag now and then.
async fn meddle(world: &World, line: &Line, how_often: usize) {
    for _ in 0..how_often {
        let (pause, pick) = world.dice(|dice| (dice.milliseconds(60_000), dice.below(1_000)));
        sleep(pause).await;
        let edition = &line.editions[pick % line.editions.len()];
        let moving = |at: &&(Repository, crate::oci::Tag)| at.1.as_str().ends_with("latest");
        let tags: Vec<_> = edition.allowed.places.keys().filter(moving).collect();
        let (repository, tag) = tags[pick % tags.len()];
        let document = &edition.allowed.places[&(repository.clone(), tag.clone())];
        world.meddle(repository, tag, document);
    }
}

/// One world, from its beginning to where all is well again; what does not hold, with all that happened.
async fn simulate(seed: u64, pool: &Pool, traced: bool, tally: &Mutex<Tally>) -> Result<(), String> {
    let mut dice = Dice(seed);
    let line = &pool.lines[dice.below(pool.lines.len())];
    let (habits, knows) = (habits(&mut dice), dice.percent(50));
    let (foreign, collects) = (if dice.percent(15) { 1 + dice.below(3) } else { 0 }, dice.percent(60));
    let actors = actors(&mut dice, line);
    let world = World::new(Arc::clone(&line.known), habits.clone(), dice, traced);
    world.note(|| format!("seed {seed}: {habits:?}, deaths are seen: {knows}"));
    let acting: FuturesUnordered<_> =
        actors.into_iter().map(|actor| act((&world, pool, tally), actor, knows)).collect();
    let collecting = async {
        if !collects {
            return std::future::pending::<()>().await;
        }
        loop {
            let pause = world.dice(|dice| Duration::from_secs(300 + dice.below(1_500) as u64));
            sleep(pause).await;
            world.collect();
        }
    };
    let all = async { tokio::join!(acting.collect::<Vec<()>>(), meddle(&world, line, foreign)) };
    let over = tokio::time::timeout(FOR_EVER, async {
        tokio::select! { _ = all => {}, () = collecting => {} }
    });
    let never_ends = over.await.is_err();
    world.calm();
    sleep(Duration::from_secs(400)).await;

    let newest = line.editions.iter().find(|edition| edition.state == STATES - 1 && !edition.leaf_only);
    let last = Actor {
        name: 9,
        edition: newest.expect("edition"),
        starts: Duration::ZERO,
        clock: 10_000,
        patience: Duration::from_secs(600),
        older: false,
        runs: 1,
        unlucky: 0,
    };
    let mut done = false;
    for attempt in 0..2 {
        done = done || run((&world, pool, tally), &last, attempt, knows).await;
    }
    world.shadow(|shadow| shadow.at_the_end(&world.memory, &last.edition.allowed.places));
    let mut tally = tally.lock().expect("tally");
    let (violations, limit) = world.shadow(|shadow| {
        tally.count("publications done", shadow.ended(&State::Done));
        tally.count("publications put back", shadow.ended(&State::Undone));
        (shadow.violations().to_vec(), shadow.limit().map(str::to_owned))
    });
    tally.count("without conditions", usize::from(!habits.conditions));
    tally.count("the limit without conditions", usize::from(limit.is_some()));
    let ends = [(never_ends, "it never ends"), (!done, "with all well again it cannot be published")];
    let ends = ends.into_iter().filter(|(holds, _)| *holds).map(|(_, what)| what.to_owned());
    let violations: Vec<String> = violations.into_iter().chain(ends).collect();
    match violations.is_empty() {
        true => Ok(()),
        false => Err(format!("{}\n{}", world.trace(), violations.join("\n"))),
    }
}

fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

#[expect(clippy::disallowed_methods, reason = "a test may be told how much to do")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The first seeds that fail, and what was seen in all.
fn try_all(pool: &Pool, seeds: u64) -> (Vec<(u64, String)>, Tally) {
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let failed = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds {
                        return;
                    }
                    if let Err(told) = in_virtual_time(simulate(seed, pool, false, &tally)) {
                        let first = told.lines().nth(1).unwrap_or_default().to_owned();
                        failed.lock().expect("failed").push((seed, first));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("failed");
    failed.sort_unstable();
    (failed, tally.into_inner().expect("tally"))
}

#[test]
fn i_p1_to_i_p10_tm19_tm20_tm21_f_x5_f_x7_f_r8_f_r15_hold_whatever_publishers_and_registries_do() {
    let pool = in_virtual_time(Pool::new());
    let told = |seed| in_virtual_time(simulate(seed, &pool, true, &Mutex::new(Tally::default())));
    if let Some(seed) = number("POLYARCH_SEED") {
        return told(seed).unwrap_or_else(|told| panic!("seed {seed}:\n{told}"));
    }
    let seeds = number("POLYARCH_PUBLICATIONS").unwrap_or(SEEDS);
    let (failed, tally) = try_all(&pool, seeds);
    if let Some((seed, _)) = failed.first() {
        let told = told(*seed).expect_err("it failed before");
        panic!(
            "{} of {seeds} seeds fail: {failed:#?}\nPOLYARCH_SEED={seed}:\n{told}\n{tally:?}",
            failed.len()
        );
    }
    // The simulation has seen all of it, many times.
    let all = [
        "done",
        "crashed",
        "incomplete",
        "waited",
        "another completed",
        "another put back",
        "refused by policy",
        "stopped with nothing begun",
        "failed with nothing begun",
        "publications done",
        "publications put back",
    ];
    let rare: Vec<_> = all.iter().filter(|what| tally.0.get(*what).copied().unwrap_or(0) < 20).collect();
    assert!(rare.is_empty() || seeds < SEEDS, "too rare: {rare:?} of {tally:?}");
    assert!(tally.0["the limit without conditions"] * 20 < tally.0["without conditions"], "{tally:?}");
}
