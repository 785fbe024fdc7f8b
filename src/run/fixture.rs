//! A family in a temporary folder, a store in memory and engines that do what a script says: for tests of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;

use super::{Builder, HostTests, Options, Ran, RunFolder, Session};
use crate::config::FamilyFile;
use crate::contents::Cache;
use crate::diag::{Diagnostic, Problems};
use crate::engine::{
    BuildFailure, BuildOrder, Built, ContainerOrder, Engine, EngineFacts, Finished, ImageStore, Progress,
    Redactor, Room, RunId, StoreAddress,
};
use crate::event::EventKind;
use crate::family::{Barrier, Emulation, Family, Found, JobId, Sources};
use crate::oci::{
    self, Descriptor, Digest, Document, Error, ErrorKind, Layout, Memory, Platform, Repository, Secret,
    Store, Tag,
};
use crate::plan::{Facts, Plan, Request};
use crate::record::Records;
use crate::survey::{Memo, Registries, survey};

/// What a scripted engine does with one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// An image after so many seconds.
    Build(u64),
    /// A step fails.
    FailStep,
    /// A step fails as long as the cache may be used.
    FailCached,
    /// The engine fails in a way that may pass.
    FailPassingly,
    /// The build takes longer than it may, and the engine says so.
    Stall,
    /// A step of the build is killed, for a lack of memory it seems.
    KillStep,
    /// The engine's disk is full.
    FillDisk,
    /// The engine never answers.
    Hang,
    /// Our own code has a mistake.
    Panic,
    /// The engine goes down with it, and is there again after so many seconds.
    BringDown(u64),
    /// It says that it built, and pushed an image of another platform.
    OtherPlatform,
    /// It says that it built, and pushed nothing.
    NoImage,
    /// It pushed another image than the one it names.
    OtherImage,
}

/// What a scripted engine does with one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It passes.
    Pass,
    /// It passes, and prints nothing.
    Silent,
    /// It ends with exit code 1.
    Fail,
    /// It takes longer than it may.
    Stall,
    /// The engine itself fails.
    Break,
    /// The engine never answers.
    Hang,
}

/// One thing that was seen: what the run told, or what an engine was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// The run told it.
    Event(EventKind),
    /// An engine begins a build of this text; whether each image that it names is in the store, and whether its cache
    /// may not be used.
    BuildBegins { engine: String, job: String, dockerfile: String, images_stand: bool, no_cache: bool },
    /// It is over, one way or another.
    BuildEnds { engine: String, job: String },
}

/// Everything seen, in order.
pub(super) type Log = Arc<Mutex<Vec<Step>>>;

/// What to do with the `n`th try (from 1) of a job's build.
pub(super) type Builds = Arc<dyn Fn(&str, usize) -> Act + Send + Sync>;
/// What to do with a check of a job's image.
pub(super) type Looks = Arc<dyn Fn(&str, &str) -> Look + Send + Sync>;

/// What an engine does.
pub(super) struct Script {
    pub(super) builds: Builds,
    pub(super) looks: Looks,
    /// When it is gone.
    pub(super) absence: Option<Absence>,
    /// How many wait to be told of its loss at this moment.
    pub(super) watches: Arc<AtomicUsize>,
    /// How many bytes are free so long after its making.
    pub(super) free: Option<fn(Duration) -> u64>,
    /// What of ours there is to be freed.
    pub(super) ours: &'static [&'static str],
    /// How often it is said to be lost, late or once more, while it is there.
    pub(super) rumours: usize,
    /// It runs no containers, and keeps no images for others.
    pub(super) only_builds: bool,
}

/// How an engine is gone, in times after its making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absence {
    pub(super) from: Duration,
    /// When it is there again, if ever.
    pub(super) until: Option<Duration>,
    /// It does not even refuse: who waits for it waits for ever.
    pub(super) is_silent: bool,
}

/// How long it takes to see that an engine is gone.
pub(super) const SEEN_GONE: Duration = Duration::from_secs(16);

impl Script {
    /// One that builds and passes everything.
    pub(super) fn healthy() -> Self {
        Self {
            builds: Arc::new(|_, _| Act::Build(3)),
            looks: Arc::new(|_, _| Look::Pass),
            absence: None,
            watches: Arc::default(),
            free: None,
            ours: &[],
            rumours: 0,
            only_builds: false,
        }
    }
}

/// An engine that follows a script.
pub(super) struct Scripted {
    name: String,
    store: Arc<dyn Store>,
    log: Log,
    script: Script,
    born: tokio::time::Instant,
    tries: Mutex<BTreeMap<String, usize>>,
    /// Until when a build has brought it down.
    down_until: Mutex<Option<tokio::time::Instant>>,
    /// How often it was said to be lost while it was there.
    rumours: AtomicUsize,
}

impl Scripted {
    fn is_down(&self) -> bool {
        self.down_until.lock().unwrap().is_some_and(|until| tokio::time::Instant::now() < until)
    }

    fn is_gone(&self) -> bool {
        let now = self.born.elapsed();
        let is_over = |absence: Absence| absence.until.is_some_and(|until| now >= until);
        self.is_down() || self.script.absence.is_some_and(|absence| now >= absence.from && !is_over(absence))
    }

    /// What one hears who asks an engine that is gone.
    async fn nothing(&self, what: &str) -> BuildFailure {
        match self.script.absence {
            Some(Absence { is_silent: true, .. }) => std::future::pending().await,
            _ => passing(what),
        }
    }

    async fn push(&self, order: &BuildOrder, platform: &Platform, salt: usize) -> Digest {
        // As with real engines no two builds make the same bytes.
        // After the end of an archive anything may stand: as a layer it has no files.
        let end = "\0".repeat(512);
        let layer = format!("{end}{} {} {salt} {:?}", order.title, order.tag, self.born.elapsed());
        push(&*self.store, &order.store.repository, platform, &order.title, &layer, Some(&order.tag)).await.1
    }
}

/// Write an image of one layer into a store: its manifest and its configuration.
pub(super) async fn push(
    store: &dyn Store,
    repository: &Repository,
    platform: &Platform,
    title: &str,
    layer: &str,
    tag: Option<&Tag>,
) -> (Document, Digest) {
    let config = serde_json::json!({
        "os": platform.os(), "architecture": platform.architecture(), "variant": platform.variant(),
        "title": title, "rootfs": {"diff_ids": [Digest::of(layer.as_bytes()).to_string()]},
    });
    let config = config.to_string();
    let tags: Vec<&str> = tag.into_iter().map(Tag::as_str).collect();
    let document = oci::fixture::image(store, repository, &config, layer, &tags).await;
    (document, Digest::of(config.as_bytes()))
}

/// Counts as long as it is there.
struct Watching<'a>(&'a AtomicUsize);

impl<'a> Watching<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells the end of a build, of one that was dropped too.
struct Ends<'a>(&'a Scripted, String);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let step = Step::BuildEnds { engine: self.0.name.clone(), job: self.1.clone() };
        self.0.log.lock().unwrap().push(step);
    }
}

fn passing(problem: &str) -> BuildFailure {
    BuildFailure::Passing { problem: Diagnostic::surroundings(problem) }
}

fn step(problem: &str) -> BuildFailure {
    BuildFailure::Step { problem: Diagnostic::new(crate::diag::Kind::Failed, problem) }
}

#[async_trait]
impl Engine for Scripted {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn probe(&self) -> Result<EngineFacts, Diagnostic> {
        Err(Diagnostic::surroundings("ask a scripted engine"))
    }

    fn runs_containers(&self) -> bool {
        !self.script.only_builds
    }

    async fn build(&self, order: &BuildOrder, progress: &Progress<'_>) -> Result<Built, BuildFailure> {
        let attempt = {
            let mut tries = self.tries.lock().unwrap();
            let attempt = tries.entry(order.title.clone()).or_default();
            *attempt += 1;
            *attempt
        };
        let mut images_stand = true;
        for word in order.dockerfile.split([' ', '\n', '=', ',']) {
            if let Some((_, digest)) = word.split_once('@') {
                let digest: Digest = digest.parse().unwrap();
                let found = self.store.resolve(&order.store.repository, &digest.into()).await.unwrap();
                images_stand &= found.is_some();
            }
        }
        let (engine, job) = (self.name.clone(), order.title.clone());
        self.log.lock().unwrap().push(Step::BuildBegins {
            engine,
            job,
            dockerfile: order.dockerfile.clone(),
            images_stand,
            no_cache: order.no_cache,
        });
        let _ends = Ends(self, order.title.clone());
        progress("[1/1] RUN".to_owned());
        if self.is_gone() {
            return Err(self.nothing("reach the engine").await);
        }
        let act = (self.script.builds)(&order.title, attempt);
        tokio::time::sleep(Duration::from_secs(if let Act::Build(seconds) = act { seconds } else { 2 }))
            .await;
        if self.is_gone() {
            // The client of an engine that is killed may say that the step was.
            return Err(match act {
                Act::FailStep => step("exit code: 137"),
                _ => self.nothing("hear from the engine").await,
            });
        }
        let another: Platform =
            if order.platform.architecture() == "s390x" { "linux/amd64" } else { "linux/s390x" }
                .parse()
                .unwrap();
        match act {
            Act::Build(_) => Ok(Built { config: self.push(order, &order.platform, attempt).await }),
            Act::FailCached if order.no_cache => {
                Ok(Built { config: self.push(order, &order.platform, attempt).await })
            }
            Act::FailStep | Act::FailCached => Err(step("RUN failed")),
            Act::FailPassingly => Err(passing("the network is down")),
            Act::KillStep => Err(BuildFailure::Step { problem: Diagnostic::surroundings("RUN was killed") }),
            Act::FillDisk => {
                Err(BuildFailure::Full { problem: Diagnostic::surroundings("no space left on device") })
            }
            Act::Stall => {
                tokio::time::sleep(order.time_limit).await;
                Err(step("took too long"))
            }
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("planted in a build"),
            Act::BringDown(seconds) => {
                let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
                *self.down_until.lock().unwrap() = Some(until);
                Err(passing("the connection was closed"))
            }
            Act::OtherPlatform => Ok(Built { config: self.push(order, &another, attempt).await }),
            Act::NoImage => Ok(Built { config: Digest::of(b"nothing") }),
            Act::OtherImage => {
                self.push(order, &order.platform, attempt).await;
                Ok(Built { config: Digest::of(b"another") })
            }
        }
    }

    async fn run(&self, order: &ContainerOrder) -> Result<Finished, Diagnostic> {
        let repository = &order.store.repository;
        let image = self.store.read_document(repository, &order.image.clone().into()).await;
        let config = image.expect("the image of a check is in the store").manifest().unwrap().config.digest;
        let config =
            self.store.read_blob(repository, &config, None).await.unwrap().collect(&config, 1 << 20).await;
        let config: serde_json::Value = serde_json::from_slice(&config.unwrap()).unwrap();
        let command = order.command.last().map_or("", String::as_str);
        let look = (self.script.looks)(config["title"].as_str().unwrap(), command);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let code = match look {
            Look::Pass | Look::Silent => 0,
            Look::Fail => 1,
            Look::Stall => {
                let text = String::new();
                return Ok(Finished { code: None, stdout: text.clone(), stderr: text, timed_out: true });
            }
            Look::Break => return Err(Diagnostic::surroundings("run a container")),
            Look::Hang => std::future::pending().await,
        };
        if self.is_gone() {
            return Err(Diagnostic::surroundings("hear from the engine"));
        }
        if look == Look::Silent {
            return Ok(Finished { code: Some(code), ..Finished::default() });
        }
        let (stdout, stderr) = (format!("out of `{command}`\n"), "canary-secret\n".to_owned());
        Ok(Finished { code: Some(code), stdout, stderr, timed_out: false })
    }

    async fn load(&self, _: &StoreAddress, _: &Digest, _: &str) -> Result<(), Diagnostic> {
        Ok(())
    }

    async fn sweep(&self, _: Option<&RunId>) -> Result<Vec<String>, Diagnostic> {
        Ok(Vec::new())
    }

    async fn answers(&self) -> bool {
        !self.is_gone()
    }

    async fn lost(&self) -> Diagnostic {
        let _watching = Watching::of(&self.script.watches);
        if self.rumours.fetch_add(1, Ordering::Relaxed) < self.script.rumours {
            tokio::time::sleep(SEEN_GONE).await;
            return Diagnostic::surroundings(format!("builder {} does not answer", self.name));
        }
        let Some(absence) = self.script.absence else { return std::future::pending().await };
        tokio::time::sleep_until(self.born + absence.from).await;
        tokio::time::sleep(SEEN_GONE).await;
        match self.is_gone() {
            true => Diagnostic::surroundings(format!("builder {} does not answer", self.name)),
            false => std::future::pending().await,
        }
    }

    async fn returned(&self) {
        if !self.is_gone() {
            return tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let down = *self.down_until.lock().unwrap();
        if let Some(until) = down.filter(|_| self.is_down()) {
            return tokio::time::sleep_until(until).await;
        }
        match self.script.absence.and_then(|absence| absence.until) {
            Some(until) => tokio::time::sleep_until(self.born + until).await,
            None => std::future::pending().await,
        }
    }

    async fn room(&self) -> Option<Room> {
        self.script.free.map(|free| Room::given(free(self.born.elapsed())))
    }

    async fn free(&self, _: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        Ok(self.script.ours.iter().map(|name| (*name).to_owned()).collect())
    }

    async fn recent_room(&self) -> Option<Room> {
        self.script.free.map(|free| Room::given(free(Duration::ZERO)))
    }

    async fn sweep_pulled(&self, _: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        Ok(Vec::new())
    }
}

/// The base image that families here stand on; its registry is a store of its own.
pub(super) const BASE: &str = "base.example/base:1";

/// A family in a folder, and a store.
pub(super) struct Site {
    pub(super) folder: TempDir,
    pub(super) family: Family,
    pub(super) records: Records,
    pub(super) registries: Arc<Registries>,
    pub(super) log: Log,
    runs: Mutex<usize>,
    /// What the next run is called where real engines take part.
    pub(super) run_id: Option<RunId>,
    /// The clock on the wall, where it does not go as time does.
    pub(super) clock: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
    /// Where runs claim what they build, where there are several.
    pub(super) claims: Option<Arc<Layout>>,
}

impl Site {
    /// A family of these files, and a registry that has [`BASE`] for these platforms.
    pub(super) async fn new(
        config: Option<&str>,
        dockerfiles: &[(String, String)],
        platforms: &[Platform],
    ) -> Self {
        let elsewhere = Arc::new(Memory::new());
        base_image(&*elsewhere, platforms).await;
        Self::over(config, dockerfiles, Arc::new(Memory::new()), elsewhere)
    }

    /// A family of these files over this store, with the images from outside in another.
    pub(super) fn over(
        config: Option<&str>,
        dockerfiles: &[(String, String)],
        store: Arc<dyn Store>,
        elsewhere: Arc<dyn Store>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in dockerfiles {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let registries: Arc<Registries> = Arc::new(move |host: &str| match host {
            "base.example" => Ok(elsewhere.clone() as Arc<dyn Store>),
            other => Err(Error::new(ErrorKind::Invalid, format!("no registry at {other}"))),
        });
        let records = Records::new(store, "scopes/trusted".parse().unwrap());
        let family = family(config, dockerfiles);
        Self {
            folder,
            family,
            records,
            registries,
            log: Log::default(),
            runs: Mutex::new(0),
            run_id: None,
            clock: None,
            claims: None,
        }
    }

    /// A builder with a scripted engine.
    pub(super) fn builder(
        &self,
        name: &str,
        native: &[&Platform],
        emulated: &[&Platform],
        slots: usize,
        script: Script,
    ) -> Builder {
        let set =
            |platforms: &[&Platform]| platforms.iter().map(|one| (*one).clone()).collect::<BTreeSet<_>>();
        let engine = Scripted {
            name: name.to_owned(),
            store: self.records.local().clone(),
            log: self.log.clone(),
            script,
            born: tokio::time::Instant::now(),
            tries: Mutex::default(),
            down_until: Mutex::default(),
            rumours: AtomicUsize::new(0),
        };
        let facts = EngineFacts {
            version: "29.0.0".to_owned(),
            image_store: ImageStore::Containerd,
            buildx: Some("0.29.1".to_owned()),
            buildkit: None,
            native: set(native),
            emulated: set(emulated),
            processors: Some(2),
            slots: 2,
            labels: BTreeSet::new(),
            ids: BTreeSet::new(),
            root: None,
            clock: None,
            notes: Vec::new(),
            holes: Vec::new(),
        };
        let store = StoreAddress {
            registry: "127.0.0.1:5000".to_owned(),
            repository: self.records.scope.clone(),
            user: "polyarch".to_owned(),
            password: Secret::new("password"),
        };
        Builder {
            name: name.to_owned(),
            engine: Arc::new(engine),
            facts,
            withheld: BTreeSet::new(),
            store,
            slots,
            labels: BTreeSet::new(),
            room: None,
            most: None,
            speed: None,
            price: None,
        }
    }

    /// A builder that is native to all and builds everything.
    pub(super) fn healthy(&self, slots: usize) -> Builder {
        let platforms = self.family.platforms().into_iter().collect::<Vec<_>>();
        self.builder("healthy", &platforms, &[], slots, Script::healthy())
    }

    /// One that is native to all and follows a script.
    pub(super) fn scripted(&self, slots: usize, builds: Builds, looks: Looks) -> Builder {
        let platforms = self.family.platforms().into_iter().collect::<Vec<_>>();
        self.builder("scripted", &platforms, &[], slots, Script { builds, looks, ..Script::healthy() })
    }

    /// The facts and the plan, where emulation is refused.
    pub(super) async fn plan(&self) -> (Facts, Plan) {
        self.plan_where(Emulation::Refused).await
    }

    /// The facts, and the plan where emulation is allowed or refused.
    pub(super) async fn plan_where(&self, emulation: Emulation) -> (Facts, Plan) {
        self.plan_with(Some(emulation)).await
    }

    /// The facts, and the plan as the configuration has it.
    pub(super) async fn plan_as_configured(&self) -> (Facts, Plan) {
        self.plan_with(None).await
    }

    async fn plan_with(&self, emulation: Option<Emulation>) -> (Facts, Plan) {
        let surveyed = survey(
            &self.family,
            self.folder.path(),
            (&*self.registries, &crate::survey::Unreachable),
            &self.records,
            &Memo::none(),
            &crate::plan::Settled::default(),
        )
        .await;
        let (facts, _) = surveyed.expect("the survey goes through");
        let plan = Plan::new(&self.family, &facts, &Request { emulation, ..Request::default() });
        (facts, plan)
    }

    /// Carry a plan out, and what was seen meanwhile.
    pub(super) async fn run(
        &self,
        plan: &(Facts, Plan),
        builders: &[Builder],
        options: Options,
        stop: impl Future<Output = ()>,
    ) -> (Result<Ran, Problems>, Vec<Step>) {
        self.run_without(BTreeMap::new(), plan, builders, options, stop).await
    }

    /// The same, where some jobs cannot be built.
    pub(super) async fn run_without(
        &self,
        unfit: BTreeMap<JobId, Diagnostic>,
        (facts, plan): &(Facts, Plan),
        builders: &[Builder],
        options: Options,
        stop: impl Future<Output = ()>,
    ) -> (Result<Ran, Problems>, Vec<Step>) {
        // Of runs that go at once it has what all of them have done.
        if self.claims.is_none() {
            self.log.lock().unwrap().clear();
        }
        let run = {
            let mut runs = self.runs.lock().unwrap();
            *runs += 1;
            *runs
        };
        let born = tokio::time::Instant::now();
        let log = self.log.clone();
        let clock = self.clock.clone();
        let session = Session {
            packages: Cache::default(),
            run: self.run_id.clone().unwrap_or_else(|| RunId(format!("r{run}-b-1-1"))),
            root: self.folder.path().to_owned(),
            family: &self.family,
            facts,
            own_tree: None,
            began_seconds: 0,
            records: self.records.clone(),
            claims: self.claims.clone(),
            builders,
            registries: self.registries.clone(),
            host: HostTests { folder: self.folder.path().to_owned(), variables: BTreeMap::new() },
            redactor: Redactor::new(["canary-secret"]),
            folder: self.run_folder(),
            secrets: BTreeMap::new(),
            gives_agents: true,
            unfit,
            options,
            clock: clock.unwrap_or_else(|| {
                Arc::new(move || 1_000 + u64::try_from(born.elapsed().as_millis()).unwrap())
            }),
            show: Arc::new(move |event| log.lock().unwrap().push(Step::Event(event))),
            taker: None,
        };
        std::fs::create_dir_all(&session.folder.logs).unwrap();
        let ran = super::run(&session, plan, stop).await;
        let seen = self.log.lock().unwrap().clone();
        (ran, seen)
    }

    /// Where logs and scratch files stand.
    pub(super) fn run_folder(&self) -> RunFolder {
        let at = |name: &str| -> PathBuf { self.folder.path().join(".polyarch").join(name) };
        RunFolder { logs: at("logs"), scratch: at("scratch") }
    }
}

/// Everything goes on, the cache is used, nothing is emulated.
pub(super) const PLAIN: Options = Options { fail_fast: false, barrier: Barrier::Said, no_cache: false };

/// A family of a configuration and Dockerfiles.
pub(super) fn family(config: Option<&str>, dockerfiles: &[(String, String)]) -> Family {
    let file = config.map(|text| FamilyFile::parse("polyarch.toml".as_ref(), text).unwrap());
    let found = dockerfiles.iter().map(|(path, text)| Found { path: path.into(), text: text.clone() });
    let sources = Sources {
        name: "family".to_owned(),
        file,
        dockerfiles: found.collect(),
        args: BTreeMap::new(),
        root_image: None,
        release: None,
        machine: "linux/amd64".parse().unwrap(),
    };
    Family::resolve(&sources).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Put [`BASE`] into a store, for these platforms.
pub(super) async fn base_image(store: &dyn Store, platforms: &[Platform]) {
    let repository: Repository = "base".parse().unwrap();
    let mut entries = Vec::new();
    for platform in platforms {
        let (image, _) =
            push(store, &repository, platform, "base", &format!("base of {platform}"), None).await;
        entries.push(Descriptor { platform: Some(platform.clone()), ..image.descriptor() });
    }
    oci::fixture::index(store, &repository, entries, &["1"]).await;
}
