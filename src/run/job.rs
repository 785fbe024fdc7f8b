//! One job from its slot to its records: pin, build, adopt, keep, check.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind, mistake, size};
use crate::dockerfile::{BuildPlatform, Remote, Replacements, Request};
use crate::engine::{
    self, BuildOrder, Built, CacheOrder, Delivery, LEAST_ROOM, Room, SecretFile, private_folder,
};
use crate::event::EventKind;
use crate::family::{JobId, Recipe, Unit, Use};
use crate::oci::{Digest, Error, ErrorKind, Pointer, Tag};
use crate::plan::{Decision, Planned, check_inputs, check_key, unknown_repositories};
use crate::record::{Carried, CheckRecord, ImageRecord, Passed, RECORD_VERSION, Records, Taken};

use super::adopt::{self, Adopted};
use super::builder::{Builder, Fit, wanted};
use super::check::{self, Found, Subject};
use super::claim::Others;
use super::engine_time::EngineTime;
use super::own_caches::OwnCaches;
use super::package::Packages;
use super::{Session, bases::Bases, cache, context, milliseconds_since};

/// Where so many times what a job wants was free some seconds ago, other jobs have not filled it since.
const PLENTY: u64 = 16;

/// Why a job has not passed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) problem: Diagnostic,
    /// The image that was built and failed its checks.
    pub(super) image: Option<Digest>,
    /// What becomes of the job.
    pub(super) fate: Fate,
}

/// What becomes of a job that has not passed on its builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has failed: the same again would fail again.
    Failed,
    /// The surroundings failed, and others may not.
    MayPassElsewhere,
    /// The builder does not answer any more.
    BuilderIsLost,
    /// It has not begun: the builder's disk is full, or can only be read.
    HasNoRoom(Room),
}

/// A problem of a job, by where it came up.
#[derive(Debug)]
pub(super) enum Trouble {
    /// On this machine, at its store or at a registry: no other builder would find it otherwise.
    Here(Diagnostic),
    /// On the builder, or in what it answered.
    There(Diagnostic),
}

impl From<Diagnostic> for Trouble {
    fn from(problem: Diagnostic) -> Self {
        Self::Here(problem)
    }
}

/// One job on its builder.
pub(super) struct Work<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) bases: &'a Bases,
    pub(super) job: JobId,
    pub(super) recipe: &'a Recipe,
    pub(super) planned: &'a Planned,
    pub(super) builder: &'a Builder,
    pub(super) fit: Fit,
    /// The images of its parents.
    pub(super) parents: BTreeMap<Unit, Digest>,
    /// What this run has built already from the same inputs, for another unit.
    pub(super) twin: Option<ImageRecord>,
    /// A number of this try, unique in the run.
    pub(super) serial: usize,
    /// Its image, from when that is kept, whatever its checks say.
    pub(super) kept: Arc<OnceLock<ImageRecord>>,
    /// For how long its builder, or a test, was at work for it.
    pub(super) engine_time: EngineTime,
    /// What other runs had to do with it.
    pub(super) others: Others,
}

impl Work<'_> {
    /// Do it, and outlive a mistake of our own in it (F-P6): that ends this job, and no other, nor the run.
    pub(super) async fn carry_out_surviving(&self) -> Result<Passed, Failure> {
        // What a panic may have left half done is this job's alone, which ends here.
        match AssertUnwindSafe(self.carry_out()).catch_unwind().await {
            Ok(result) => result,
            Err(panic) => Err(failed(self.mistake(&*panic), None)),
        }
    }

    /// What to say of a panic.
    fn mistake(&self, panic: &(dyn Any + Send)) -> Diagnostic {
        let problem = mistake(&self.job, panic);
        problem.hint("tell of it, with the log of the run: the other jobs have gone on")
    }

    /// Do it. The records stand when this returns.
    pub(super) async fn carry_out(&self) -> Result<Passed, Failure> {
        if let Some(problem) = self.session.unfit.get(&self.job) {
            return Err(Failure { problem: problem.clone(), image: None, fate: Fate::Failed });
        }
        let turn = self.turn().await;
        if turn.checks.is_none() {
            self.look_for_room().await?;
        }
        let mut tested = None;
        let image = match &self.planned.decision {
            Decision::Check(image) => {
                if turn.checks.is_none() {
                    let brought = self.bases.bring(&self.job.unit, &image.image).await;
                    brought.map_err(|problem| failed(problem, None))?;
                }
                (**image).clone()
            }
            Decision::Reuse(passed) => return Ok((**passed).clone()),
            Decision::Build(_) => {
                tested = self.tested_before().await;
                let made = match (&turn.image, &self.twin) {
                    (Some(image), _) => Ok(image.clone()),
                    (None, Some(twin)) => self.image_of(twin).await.map_err(Trouble::Here),
                    (None, None) => self.image().await,
                };
                match made {
                    Ok(image) => image,
                    Err(trouble) => return Err(self.failure(trouble, None).await),
                }
            }
        };
        if let (Some(taker), Decision::Build(_)) = (self.session.taker, &self.planned.decision) {
            taker.take(&image).await.map_err(|problem| failed(problem, Some(&image)))?;
        }
        let checks = match &turn.checks {
            Some(checks) => Ok(checks.clone()),
            None => self.checks(&image).await,
        };
        let checks = match checks {
            Ok(checks) => checks,
            Err(trouble) => {
                let mut failure = self.failure(trouble, Some(&image)).await;
                if let Some(before) = tested
                    && let Err(error) = self.session.records.take(&before).await
                {
                    failure.problem = failure.problem.because(kept(&self.job)(error).message);
                }
                return Err(failure);
            }
        };
        self.begin_epoch().await.map_err(|problem| failed(problem, None))?;
        let noted = self.session.records.note_for_plan(&image, (self.session.clock)() / 1000).await;
        noted.map_err(|error| failed(kept(&self.job)(error), None))?;
        Ok(Passed { image, checks })
    }

    /// The refresh of a job is over once it has passed: other runs find what it made by the number of its epoch.
    async fn begin_epoch(&self) -> Result<(), Diagnostic> {
        let Some(epoch) = self.planned.next_epoch else { return Ok(()) };
        self.session.records.keep_epoch(&self.job, epoch).await.map_err(kept(&self.job))
    }

    /// See that the builder has room for it: much of it some seconds ago, or enough now.
    async fn look_for_room(&self) -> Result<(), Failure> {
        let (engine, wanted) = (&self.builder.engine, wanted(&self.planned.terms));
        if engine.recent_room().await.is_some_and(|room| room.takes(wanted.saturating_mul(PLENTY))) {
            return Ok(());
        }
        match engine.room().await {
            Some(room) if !room.takes(wanted) => {
                let problem = self.no_room(&room);
                Err(Failure { problem, image: None, fate: Fate::HasNoRoom(room) })
            }
            _ => Ok(()),
        }
    }

    /// What to say where there is too little room.
    pub(super) fn no_room(&self, room: &Room) -> Diagnostic {
        let wanted = size(wanted(&self.planned.terms));
        Diagnostic::surroundings(format!("{} wants {wanted}, and there is {room}", self.job))
    }

    /// What a problem means: where the surroundings failed, others may not, or the builder is gone. An engine that is
    /// killed may still let its client say that a step has failed (F-G3): what it said is asked of it once more.
    async fn failure(&self, trouble: Trouble, image: Option<&ImageRecord>) -> Failure {
        let problem = match trouble {
            Trouble::Here(problem) => return failed(problem, image),
            Trouble::There(problem) => problem,
        };
        let is_ours = problem.kind == Kind::Surroundings;
        let is_lost =
            matches!(problem.kind, Kind::Surroundings | Kind::Failed) && !self.builder.engine.answers().await;
        let fate = match is_lost {
            true => Fate::BuilderIsLost,
            false if is_ours => Fate::MayPassElsewhere,
            false => Fate::Failed,
        };
        let problem = match is_lost && !is_ours {
            true => Diagnostic::surroundings(format!("builder {} does not answer", self.builder.name))
                .because_of(&problem),
            false => problem,
        };
        // An engine whose disk is full says so in many ways, and never which disk it is.
        let room = if is_ours && !is_lost { self.builder.engine.room().await } else { None };
        let is_full = { problem.causes.iter() }.any(|cause| engine::is_full_disk(cause));
        let problem = { room.into_iter().filter(|room| is_full || !room.takes(LEAST_ROOM)) }
            .fold(problem, |problem, room| {
                problem.because(format!("builder {} has {room}", self.builder.name))
            });
        Failure { fate, ..failed(problem, image) }
    }

    /// Build it, and keep its record.
    async fn image(&self) -> Result<ImageRecord, Trouble> {
        let tag = self.tag()?;
        let pinned = self.pinned_dockerfile().await?;
        let carried = self.carried_caches();
        self.take_caches(&carried, &tag).await;
        let started = Instant::now();
        let scratch = self.session.folder.scratch.join(tag.as_str());
        create_private(&scratch)?;
        let cache = cache::order(self.session, &self.job, self.builder, self.without_cache()).await;
        let cached = !cache.from.is_empty();
        let order = self.order(pinned, cache, &tag, &scratch);
        let built = self.build(&order).await;
        let emptied = std::fs::remove_dir_all(&scratch);
        let adopted = match &built {
            Ok(built) => match context::stands(self.session, self.recipe, &self.job).await {
                Ok(()) => self.adopt(&tag, built).await,
                Err(problem) => Err(Trouble::Here(problem)),
            },
            Err(problem) => Err(Trouble::There(problem.clone())),
        };
        // A build may have pushed and failed all the same: nothing keeps what it pushed then (F-G5).
        let records = &self.session.records;
        let untagged = records.store.remove_tag(&records.scope, &tag).await.or_else(passing_over_absence);
        let adopted = adopted?;
        let record = ImageRecord { cached, ..self.record(&adopted, started) };
        untagged.map_err(kept(&self.job))?;
        emptied.map_err(|error| {
            Diagnostic::surroundings(format!("remove the folder {}", scratch.display())).caused_by(&error)
        })?;
        self.tell_of_another(&record).await;
        records.keep_image(&record).await.map_err(kept(&self.job))?;
        self.keep_caches(&carried, &tag, &record.image).await;
        let _ = self.kept.set(record.clone());
        cache::share(self.session, &self.job, self.builder).await;
        (self.session.show)(EventKind::JobKept {
            job: self.job.to_string(),
            image: record.image.to_string(),
            config: record.config.to_string(),
            bytes: record.bytes,
            layers: adopted.layers,
        });
        Ok(record)
    }

    /// The record of the image that the same inputs made before and that passed the same checks: it stands again where a
    /// new one does not pass them (F-S14).
    async fn tested_before(&self) -> Option<Carried> {
        let records = &self.session.records;
        let carried = records.carry(&self.planned.key, None).await.ok()?.into_iter().next()?;
        let image = &carried.image().digest;
        // What another scope has stands there whatever happens in this one.
        records.store.resolve(&records.scope, &image.clone().into()).await.ok()??;
        let key = check_key(image, self.recipe, &self.planned.check_files);
        records.checks(&key).await.ok()?.record.map(|_| carried)
    }

    /// Say where the same inputs had made another image before (F-S14), or another machine has made one meanwhile (F-X2),
    /// which the new one replaces.
    async fn tell_of_another(&self, record: &ImageRecord) {
        let (records, job, image) = (&self.session.records, self.job.to_string(), record.image.to_string());
        let standing =
            async |records: &Records| records.image(&record.key).await.ok().and_then(|found| found.record);
        if let Some(before) = standing(records).await {
            if before.image != record.image {
                let before = before.image.to_string();
                (self.session.show)(EventKind::ImageReplaced { job, before, image });
            }
        } else if let Some(other) = standing(&records.anew()).await {
            let other = other.image.to_string();
            (self.session.show)(EventKind::BuiltTwice { job, other, image });
        }
    }

    /// Take in what the engine pushed, with the layers of what it stands on.
    async fn adopt(&self, tag: &Tag, built: &Built) -> Result<Adopted, Trouble> {
        let build = &self.recipe.platforms[&self.job.platform];
        let base = self.base_image();
        let shares_with = build.stands_on().and_then(|unit| self.parents.get(unit)).or(base.as_ref());
        let records = &self.session.records;
        let pushed = Pointer::Tag(tag.clone());
        adopt::adopt(&*records.store, &records.scope, &pushed, &self.job.platform, built, shares_with).await
    }

    /// The image of a unit with the very same inputs is this one's too.
    async fn image_of(&self, twin: &ImageRecord) -> Result<ImageRecord, Diagnostic> {
        let record = ImageRecord { job: self.job.to_string(), ..twin.clone() };
        self.session.records.keep_image(&record).await.map_err(kept(&self.job))?;
        Ok(record)
    }

    /// The tag that the engine pushes to: of this run and this try alone.
    pub(super) fn tag(&self) -> Result<Tag, Diagnostic> {
        let named = self.session.run.build_tag(self.serial);
        named.map_err(|error| Diagnostic::new(Kind::Bug, "name a build").caused_by(&error))
    }

    pub(super) fn order(
        &self,
        (dockerfile, images): (String, BTreeSet<Digest>),
        cache: CacheOrder,
        tag: &Tag,
        scratch: &std::path::Path,
    ) -> BuildOrder {
        let session = self.session;
        let needs = &self.recipe.platforms[&self.job.platform].needs;
        let secrets = needs.secrets.iter().filter_map(|id| {
            session
                .secrets
                .get(&(self.recipe.unit.clone(), id.clone()))
                .map(|file| SecretFile { id: id.clone(), file: file.clone() })
        });
        let secrets: Vec<SecretFile> = secrets.collect();
        let ssh = if needs.ssh && session.gives_agents { self.recipe.ssh.clone() } else { Vec::new() };
        let apart = self.apart(&secrets, &ssh);
        BuildOrder {
            title: self.job.to_string(),
            platform: self.job.platform.clone(),
            context: session.root.join(&self.recipe.context),
            dockerfile,
            images,
            ignore: session.facts.ignores.get(&self.recipe.unit).cloned(),
            target: self.recipe.target.clone(),
            args: self.recipe.args.clone(),
            labels: self.recipe.labels.clone(),
            secrets,
            ssh,
            no_cache: self.without_cache()
                || apart.is_some() && !self.builder.facts.keeps_apart()
                || self.mounts_unseen_files(),
            caches: engine::OwnCaches {
                space: stands(Defence::CacheMounts).then(|| self.own_caches().space),
                apart,
            },
            cache,
            store: self.builder.store.clone(),
            tag: tag.clone(),
            log: self.log(),
            scratch: scratch.to_owned(),
            time_limit: Duration::from_secs(self.planned.terms.time_limit_seconds),
        }
    }

    /// Where the whole output of its build stands.
    pub(super) fn log(&self) -> std::path::PathBuf {
        self.session.folder.logs.join(format!("{}.log", self.job.slug()))
    }

    /// The Dockerfile with every image in it at its digest in the store, and those images: law 5, and TM6.
    async fn pinned_dockerfile(&self) -> Result<(String, BTreeSet<Digest>), Diagnostic> {
        let build = &self.recipe.platforms[&self.job.platform];
        let mut pinned = BTreeMap::new();
        for (written, meant) in &build.uses {
            let digest = match meant {
                Use::Family(unit) => {
                    let parent = self.parents.get(unit).cloned().ok_or_else(|| {
                        let message = format!("{} was started before {unit} had an image", self.job);
                        Diagnostic::new(Kind::Bug, message)
                    })?;
                    self.bases.bring(unit, &parent).await?;
                    parent
                }
                Use::Outside(reference) => {
                    let base = self.session.facts.base(build, written, &self.job.platform);
                    let digest = base.cloned().ok_or_else(|| self.no_base(&reference.to_string()))?;
                    self.bases.ensure(reference, &digest).await?;
                    digest
                }
            };
            pinned.insert(written.clone(), digest);
        }
        let platform = BuildPlatform::from(&self.job.platform);
        let request =
            Request { target: self.recipe.target.as_deref(), args: &self.recipe.args, platform: &platform };
        // An engine that does not reach the store fetches a frontend, at its digest, where that comes from.
        let reaches = self.builder.engine.delivery() == Delivery::Registry;
        let store = reaches.then_some(&self.builder.store);
        let fetched = self.builder.facts.fetches_frontends();
        let frontend = match self.session.facts.frontends.get(&self.recipe.unit) {
            Some(frontend) if fetched => {
                self.bases.frontend(frontend, &self.builder.facts.native, store).await?
            }
            _ => None,
        };
        let pin = |written: &str| {
            let digest = pinned.get(written).filter(|_| stands(Defence::PinnedImages))?;
            Some(self.builder.store.at(digest))
        };
        let own = stands(Defence::CacheMounts).then(|| self.own_caches());
        let frontend = frontend.as_deref();
        self.refuse_unknown_commits()?;
        let remote = |remote: &Remote| {
            let commit = self.session.facts.commit(remote)?.ok()?;
            Some(remote.git()?.ok()?.at(&commit))
        };
        let cache = |written: &str| own.as_ref().map(|own| own.id(written));
        let replacements = Replacements { frontend, reference: &pin, cache: &cache, remote: &remote };
        let text = self.recipe.file.with(&request, &replacements);
        Ok((text, pinned.into_values().collect()))
    }

    /// The engine would take whatever commit a branch is at when its turn comes.
    fn refuse_unknown_commits(&self) -> Result<(), Diagnostic> {
        let unknown = unknown_repositories(self.session.family, self.session.facts, &self.job).next();
        unknown.map_or(Ok(()), |(remote, why)| {
            let problem = format!("the commit of {} is unknown", remote.shown());
            Err(Diagnostic::surroundings(problem).at(remote.place.clone()).because(why))
        })
    }

    /// What its cache mounts are called.
    pub(super) fn own_caches(&self) -> OwnCaches {
        let session = self.session;
        let epoch = self.planned.next_epoch.or_else(|| session.facts.epochs.get(&self.job).copied());
        let variables = format!("{}\n{:?}", self.recipe.unit, self.recipe.args);
        let (scope, tree) = (&session.records.scope, session.own_tree.as_ref());
        OwnCaches::new(
            scope,
            tree,
            &session.family.name,
            &self.job.platform,
            epoch.unwrap_or_default(),
            variables,
        )
    }

    /// How long it took to build and check before, on builders that fit it as well.
    pub(super) fn taken_before(&self) -> Option<Duration> {
        let fits = |one: &&Taken| !one.checks_only && one.emulated == (self.fit == Fit::Emulated);
        let known = self.session.facts.durations.of(&self.job).iter().filter(fits);
        known.map(|one| Duration::from_millis(one.average())).max()
    }

    /// The image from outside that it stands on.
    fn base_image(&self) -> Option<Digest> {
        let build = &self.recipe.platforms[&self.job.platform];
        self.session.facts.base(build, build.base.as_ref()?, &self.job.platform).cloned()
    }

    fn no_base(&self, reference: &str) -> Diagnostic {
        use crate::plan::Base;
        let parsed = reference.parse().ok();
        let problem = match parsed.and_then(|reference| self.session.facts.bases.get(&reference)) {
            Some(Base::Unknown(why)) => {
                Diagnostic::surroundings(format!("look up base image {reference} of {}", self.job))
                    .because(why)
            }
            _ => Diagnostic::request(format!("base image {reference} has no {}", self.job.platform)),
        };
        problem.hint("see whether its registry answers: polyarch doctor")
    }

    fn record(&self, adopted: &Adopted, started: Instant) -> ImageRecord {
        ImageRecord {
            version: RECORD_VERSION,
            job: self.job.to_string(),
            key: self.planned.key.clone(),
            inputs: self.planned.inputs.clone(),
            platform: self.job.platform.clone(),
            image: adopted.manifest.digest().clone(),
            size: adopted.manifest.bytes().len() as u64,
            config: adopted.config.clone(),
            bytes: adopted.bytes,
            parents: self.parents.iter().map(|(unit, image)| (unit.to_string(), image.clone())).collect(),
            builder: self.builder.name.clone(),
            emulated: self.fit == Fit::Emulated,
            cached: false,
            built_at_seconds: (self.session.clock)() / 1000,
            milliseconds: milliseconds_since(started),
        }
    }

    /// The cache of the engine is not used.
    pub(super) fn without_cache(&self) -> bool {
        self.session.options.no_cache || self.planned.next_epoch.is_some()
    }

    async fn checks(&self, image: &ImageRecord) -> Result<CheckRecord, Trouble> {
        cache::within_budget(self.recipe, image)?;
        self.runs_on_its_platform(image).await?;
        let subject = Subject {
            engine: &*self.builder.engine,
            host: &self.session.host,
            redactor: &self.session.redactor,
            run: &self.session.run,
            store: &self.builder.store,
            job: &self.job,
            packages: Packages { records: &self.session.records, cache: &self.session.packages },
            image: &image.image,
            log: &self.log(),
            engine_time: &self.engine_time,
            answers: Mutex::default(),
        };
        let mut record = CheckRecord {
            version: RECORD_VERSION,
            job: self.job.to_string(),
            key: check_key(&image.image, self.recipe, &self.planned.check_files),
            image: image.image.clone(),
            inputs: check_inputs(self.recipe, &self.planned.check_files),
            tests: Vec::new(),
            tags: Vec::new(),
            descriptions: Vec::new(),
        };
        for one in &self.recipe.checks {
            let started = Instant::now();
            let found = check::carry_out(&subject, one).await;
            let milliseconds = milliseconds_since(started);
            let title = check::title(one);
            (self.session.show)(EventKind::CheckEnded {
                job: self.job.to_string(),
                check: title.clone(),
                passed: found.is_ok(),
                tag: match &found {
                    Ok(Found::Tag(tag)) => Some(tag.clone()),
                    _ => None,
                },
                milliseconds,
            });
            match found.map_err(Trouble::There)? {
                Found::Passed => record.tests.push((title, milliseconds)),
                Found::Tag(tag) => record.tags.push(tag),
                Found::Description(description) => record.descriptions.push(description),
            }
        }
        context::checks_stand(self.session, self.recipe, &self.job, &self.planned.check_files).await?;
        self.session.records.keep_checks(&record, image).await.map_err(kept(&self.job))?;
        Ok(record)
    }
}

/// A job has failed, and would fail again; with the image that has not passed.
fn failed(problem: Diagnostic, image: Option<&ImageRecord>) -> Failure {
    let image = image.filter(|_| problem.kind == Kind::Failed).map(|image| image.image.clone());
    Failure { problem, image, fate: Fate::Failed }
}

fn kept(job: &JobId) -> impl Fn(Error) -> Diagnostic {
    let job = job.clone();
    move |error| Diagnostic::of_store(format!("keep what was built of {job}"), &error)
}

/// There is nothing to take away, or the registry lets nobody: `gc` comes later.
pub(super) fn passing_over_absence(error: Error) -> Result<(), Error> {
    let passed_over = error.is_not_found() || error.kind() == ErrorKind::Unsupported;
    if passed_over { Ok(()) } else { Err(error) }
}

/// A folder that only this user can read.
pub(super) fn create_private(folder: &std::path::Path) -> Result<(), Diagnostic> {
    private_folder(folder).map_err(|error| {
        Diagnostic::surroundings(format!("make the folder {}", folder.display())).caused_by(&error)
    })
}
