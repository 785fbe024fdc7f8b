//! Seeded simulation: publishers, and people who take publications back, that crash, stand still, are stopped and run
//! again, registries that fail, refuse and forget, somebody who collects garbage, somebody else who moves tags; and what must hold after every change.
//!
//! `POLYARCH_PUBLICATIONS=10000` tries more seeds, `POLYARCH_SEED=7` that one alone, with all that happens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::fixture::SCOPE;
use super::invariants::Allowed;
use super::watched::{Alive, Habits, Process, Refused, Script, Seen, World};
use super::*;
use crate::diag::{Diagnostic, Kind, Problems};
use crate::dice::Dice;
use crate::event::EventKind;
use crate::oci::{ErrorKind, Repository};

mod pool;

use pool::{Edition, Line, Pool, STATES};

/// How many seeds are tried.
const SEEDS: u64 = 2_000;
/// When it all begins, in milliseconds since 1970-01-01 UTC.
const EPOCH: u64 = 1_700_000_000_000;
/// Longer than anything may take: what is not over by then never is.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);
/// How often something was seen, over all seeds.
#[derive(Clone, Debug, Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn count(&mut self, what: &'static str, times: usize) {
        *self.0.entry(what).or_default() += times;
    }
}

/// What somebody wants.
enum Task<'a> {
    /// This to be published.
    Publish(&'a Edition),
    /// A publication to be taken back: the one that he chose when he first looked.
    RollBack { pick: usize, chosen: OnceLock<String> },
}

/// Somebody who tries again and again until it is done or he gives up.
struct Actor<'a> {
    name: usize,
    task: Task<'a>,
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

/// Where all of it happens.
#[derive(Clone, Copy)]
struct Stage<'a> {
    world: &'a Arc<World>,
    pool: &'a Pool,
    line: &'a Line,
    tally: &'a Mutex<Tally>,
    /// Deaths are seen by others.
    knows: bool,
}

impl Stage<'_> {
    async fn act(&self, actor: Actor<'_>) {
        sleep(actor.starts).await;
        for attempt in 0..actor.runs {
            if self.run(&actor, attempt).await {
                return;
            }
            let pause = self.world.dice(|dice| dice.milliseconds(20_000));
            sleep(pause).await;
        }
    }

    /// One run of the command; whether that is the end of it.
    async fn run(&self, actor: &Actor<'_>, attempt: usize) -> bool {
        let process = self.process(actor, format!("{}.{attempt}", actor.name));
        let clock = || EPOCH + self.world.milliseconds() + actor.clock;
        let is_gone = |name: &str| self.knows && self.world.is_gone(name);
        let publisher = |generation: Generation, allow_older| Publisher {
            id: process.name.clone(),
            generation,
            commit: None,
            allow_older,
            patience: actor.patience,
            holder: process.name.clone(),
            is_gone: &is_gone,
            clock: &clock,
        };
        let seen = Seen { world: Arc::clone(self.world), process: Arc::clone(&process), fresh: false };
        let fresh = Seen { fresh: true, ..seen.clone() };
        let target = Target { store: &seen, fresh: &fresh, registry: "r.io" };
        let work = async {
            match &actor.task {
                Task::Publish(edition) => {
                    let commit_seconds = edition.state.max(1) as u64;
                    let publisher =
                        publisher(Generation { commit_seconds, run_milliseconds: clock() }, actor.older);
                    self.publish(edition, target, &publisher, &process).await
                }
                Task::RollBack { pick, chosen } => {
                    let publisher = |generation| publisher(generation, true);
                    self.roll_back((*pick, chosen), target, &publisher, &process).await
                }
            }
        };
        let ended = Alive { work: Box::pin(work), process: Arc::clone(&process), still: None }.await;
        self.world.gone(&process.name);
        self.world.note(|| format!("{} ended: {ended:?}", process.name));
        self.is_over(ended)
    }

    fn process(&self, actor: &Actor<'_>, name: String) -> Arc<Process> {
        let script = self.world.dice(|dice| script(dice, actor.unlucky));
        let (what, allowed) = match &actor.task {
            Task::Publish(edition) => {
                let Edition { state, leaf_only, allowed, .. } = edition;
                (format!("state {state}, leaf only: {leaf_only}"), allowed.clone())
            }
            Task::RollBack { chosen, .. } => (format!("rolls back {chosen:?}"), Allowed::default()),
        };
        self.world.note(|| format!("{name} begins: {what}, {script:?}"));
        self.world.shadow(|shadow| shadow.allow(&name, Allowed { older: actor.older, ..allowed }));
        Process::new(name, script)
    }

    async fn publish(
        &self,
        edition: &Edition,
        target: Target<'_>,
        publisher: &Publisher<'_>,
        process: &Process,
    ) -> Result<(), Problems> {
        let scope: Repository = SCOPE.parse().expect("scope");
        let source = Source { store: &self.pool.store, repository: &scope, home: None };
        for publication in &edition.units {
            publication.keep_immutable(target).await?;
        }
        let listener = |event| self.heard(&event);
        for publication in &edition.units {
            publication.carry_out(&source, target, publisher, stopped(process), &listener).await?;
        }
        self.count("done");
        Ok(())
    }

    async fn roll_back<'p>(
        &self,
        (pick, chosen): (usize, &OnceLock<String>),
        target: Target<'_>,
        publisher: &(dyn Fn(Generation) -> Publisher<'p> + Sync),
        process: &Process,
    ) -> Result<(), Problems> {
        let homes = &self.line.homes;
        if chosen.get().is_none() {
            let mut all = Vec::new();
            for home in homes.all() {
                all.extend(publications(target, home).await?.into_iter().map(|listed| listed.id));
            }
            if let Some(id) = (!all.is_empty()).then(|| all.swap_remove(pick % all.len())) {
                chosen.set(id).expect("it is chosen once");
            }
        }
        let Some(id) = chosen.get() else { return Ok(()) };
        let mut found = Vec::new();
        for home in homes.all() {
            found.extend(Rollback::prepare(target, homes, home, id).await?);
        }
        let listener = |event| self.heard(&event);
        for rollback in found {
            let publisher = publisher(rollback.generation);
            rollback.carry_out(target, &publisher, stopped(process), &listener).await?;
        }
        self.count("rolled back");
        Ok(())
    }

    fn heard(&self, event: &EventKind) {
        match event {
            EventKind::PublicationAwaited { .. } => self.count("waited"),
            EventKind::PublicationCompleted { put_back: false, .. } => self.count("another completed"),
            EventKind::PublicationCompleted { put_back: true, .. } => self.count("another put back"),
            _ => {}
        }
    }

    /// Whether running the same command again would change nothing.
    fn is_over(&self, ended: Option<Result<(), Problems>>) -> bool {
        let problems = match ended {
            None => {
                self.count("crashed");
                return false;
            }
            Some(Ok(())) => return true,
            Some(Err(problems)) => problems,
        };
        let kind = problems.iter().next().map(|problem| problem.kind);
        self.count(match kind {
            Some(Kind::Policy) => "refused by policy",
            Some(Kind::Request) => "nothing to take back",
            Some(Kind::Incomplete) => "incomplete",
            Some(Kind::Interrupted) => "stopped with nothing begun",
            _ => "failed with nothing begun",
        });
        matches!(kind, Some(Kind::Policy | Kind::Request))
    }

    fn count(&self, what: &'static str) {
        self.tally.lock().expect("tally").count(what, 1);
    }
}

async fn stopped(process: &Process) -> Diagnostic {
    process.stopping.notified().await;
    Diagnostic::new(Kind::Interrupted, "stopped by SIGINT")
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
        let task = match name > 0 && dice.percent(25) {
            true => Task::RollBack { pick: dice.below(1_000), chosen: OnceLock::new() },
            false => Task::Publish(line.editions.iter().find(fits).expect("edition")),
        };
        Actor {
            name,
            task,
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
    let stage = Stage { world: &world, pool, line, tally, knows };
    let acting: FuturesUnordered<_> = actors.into_iter().map(|actor| stage.act(actor)).collect();
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
    let newest = newest.expect("edition");
    let last = Actor {
        name: 9,
        task: Task::Publish(newest),
        starts: Duration::ZERO,
        clock: 10_000,
        patience: Duration::from_secs(600),
        older: false,
        runs: 1,
        unlucky: 0,
    };
    let mut done = false;
    for attempt in 0..2 {
        done = done || stage.run(&last, attempt).await;
    }
    world.shadow(|shadow| shadow.at_the_end(&world.memory, &newest.allowed.places));
    let mut tally = tally.lock().expect("tally");
    let (violations, limit) = world.shadow(|shadow| {
        tally.count("publications done", shadow.ended(&State::Done));
        tally.count("publications put back", shadow.ended(&State::Undone));
        tally.count("publications taken back", shadow.taken_back());
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
        "rolled back",
        "nothing to take back",
        "publications done",
        "publications put back",
        "publications taken back",
    ];
    let rare: Vec<_> = all.iter().filter(|what| tally.0.get(*what).copied().unwrap_or(0) < 20).collect();
    assert!(rare.is_empty() || seeds < SEEDS, "too rare: {rare:?} of {tally:?}");
    assert!(tally.0["the limit without conditions"] * 20 < tally.0["without conditions"], "{tally:?}");
}
