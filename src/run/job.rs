//! One job from its slot to its records: pin, build, adopt, keep, check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::diag::{Diagnostic, Kind};
use crate::dockerfile::{BuildPlatform, Dockerfile, Request};
use crate::engine::{BuildFailure, BuildOrder, Built, Delivery, SecretFile, private_folder};
use crate::event::EventKind;
use crate::family::{JobId, Recipe, Unit, Use};
use crate::oci::{Digest, Error, ErrorKind, Pointer, Tag};
use crate::plan::{Decision, Planned, check_key};
use crate::record::{CheckRecord, ImageRecord, Passed, RECORD_VERSION};

use super::adopt::{self, Adopted};
use super::builder::{Builder, Fit};
use super::check::{self, Found, Subject};
use super::{ENGINE_SLACK, Session, bases::Bases, context};

/// How often a build is tried where a failure may pass.
const ATTEMPTS: u32 = 3;
/// The pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has failed: the same again would fail again.
    Failed,
    /// The surroundings failed, and others may not.
    MayPassElsewhere,
    /// The builder does not answer any more.
    BuilderIsLost,
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
}

impl Work<'_> {
    /// Do it. The records stand when this returns.
    pub(super) async fn carry_out(&self) -> Result<Passed, Failure> {
        let image = match &self.planned.decision {
            Decision::Check(image) => (**image).clone(),
            Decision::Reuse(passed) => return Ok((**passed).clone()),
            Decision::Build(_) => {
                let made = match &self.twin {
                    Some(twin) => self.image_of(twin).await,
                    None => self.image().await,
                };
                match made {
                    Ok(image) => image,
                    Err(problem) => return Err(self.failure(problem, None).await),
                }
            }
        };
        match self.checks(&image).await {
            Ok(checks) => Ok(Passed { image, checks }),
            Err(problem) => Err(self.failure(problem, Some(&image)).await),
        }
    }

    /// What a problem means: where the surroundings failed, others may not, or the builder is gone.
    async fn failure(&self, problem: Diagnostic, image: Option<&ImageRecord>) -> Failure {
        let is_ours = problem.kind == Kind::Surroundings;
        let fate = match is_ours && !self.builder.engine.answers().await {
            true => Fate::BuilderIsLost,
            false if is_ours => Fate::MayPassElsewhere,
            false => Fate::Failed,
        };
        let image = image.filter(|_| problem.kind == Kind::Failed).map(|image| image.image.clone());
        Failure { problem, image, fate }
    }

    /// Build it, and keep its record.
    async fn image(&self) -> Result<ImageRecord, Diagnostic> {
        let started = (self.session.clock)();
        let tag = self.tag()?;
        let pinned = self.pinned_dockerfile().await?;
        let scratch = self.session.folder.scratch.join(tag.as_str());
        create_private(&scratch)?;
        let order = self.order(pinned, &tag, &scratch);
        let built = self.build(&order).await;
        let emptied = std::fs::remove_dir_all(&scratch);
        let adopted = match &built {
            Ok(built) => match context::stands(self.session, self.recipe, &self.job).await {
                Ok(()) => self.adopt(&tag, built).await,
                Err(problem) => Err(problem),
            },
            Err(problem) => Err(problem.clone()),
        };
        // A build may have pushed and failed all the same: nothing keeps what it pushed then (F-G5).
        let records = &self.session.records;
        let untagged = records.store.remove_tag(&records.scope, &tag).await.or_else(passing_over_absence);
        let record = self.record(&adopted?, started);
        untagged.map_err(kept(&self.job))?;
        emptied.map_err(|error| {
            Diagnostic::surroundings(format!("remove the folder {}", scratch.display())).caused_by(&error)
        })?;
        self.tell_of_another(&record).await;
        records.keep_image(&record).await.map_err(kept(&self.job))?;
        let _ = self.kept.set(record.clone());
        (self.session.show)(EventKind::JobKept {
            job: self.job.to_string(),
            image: record.image.to_string(),
            config: record.config.to_string(),
            bytes: record.bytes,
        });
        Ok(record)
    }

    /// Say where the same inputs had made another image before (F-S14), which the new one replaces.
    async fn tell_of_another(&self, record: &ImageRecord) {
        let found = self.session.records.image(&record.key).await.ok().and_then(|found| found.record);
        if let Some(before) = found.filter(|before| before.image != record.image) {
            (self.session.show)(EventKind::ImageReplaced {
                job: self.job.to_string(),
                before: before.image.to_string(),
                image: record.image.to_string(),
            });
        }
    }

    /// Take in what the engine pushed, with the layers of what it stands on.
    async fn adopt(&self, tag: &Tag, built: &Built) -> Result<Adopted, Diagnostic> {
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
    fn tag(&self) -> Result<Tag, Diagnostic> {
        let named = self.session.run.build_tag(self.serial);
        named.map_err(|error| Diagnostic::new(Kind::Bug, "name a build").caused_by(&error))
    }

    fn order(
        &self,
        (dockerfile, images): (String, BTreeSet<Digest>),
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
            secrets: secrets.collect(),
            ssh: if needs.ssh { self.recipe.ssh.clone() } else { Vec::new() },
            no_cache: session.options.no_cache,
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

    /// Build, and again where the failure may pass.
    async fn build(&self, order: &BuildOrder) -> Result<Built, Diagnostic> {
        let job = self.job.to_string();
        let progress = |step: String| (self.session.show)(EventKind::JobStep { job: job.clone(), step });
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let limit = order.time_limit + ENGINE_SLACK;
            let built = tokio::time::timeout(limit, self.builder.engine.build(order, &progress)).await;
            match built.unwrap_or_else(|_| Err(self.silent())) {
                Ok(built) => return Ok(built),
                Err(BuildFailure::Step { problem }) => return Err(problem),
                Err(BuildFailure::Passing { problem }) if attempt >= ATTEMPTS => return Err(problem),
                Err(BuildFailure::Passing { problem }) => {
                    (self.session.show)(EventKind::JobRetried {
                        job: job.clone(),
                        reason: problem.to_string(),
                    });
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// The engine has not even said that the time is over (F-G2); it would not say so the next time either.
    fn silent(&self) -> BuildFailure {
        let problem = format!("hear from builder {} how the build of {} ended", self.builder.name, self.job);
        let problem = Diagnostic::surroundings(problem).hint("see whether it answers: polyarch doctor");
        BuildFailure::Step { problem }
    }

    /// The Dockerfile with every image in it at its digest in the store, and those images: law 5, and TM6.
    async fn pinned_dockerfile(&self) -> Result<(String, BTreeSet<Digest>), Diagnostic> {
        let build = &self.recipe.platforms[&self.job.platform];
        let mut pinned = BTreeMap::new();
        for (written, meant) in &build.uses {
            let digest = match meant {
                Use::Family(unit) => self.parents.get(unit).cloned().ok_or_else(|| {
                    Diagnostic::new(Kind::Bug, format!("{} was started before {unit} had an image", self.job))
                })?,
                Use::Outside(reference) => {
                    let base = self.session.facts.base(build, written, &self.job.platform);
                    let digest = base.cloned().ok_or_else(|| self.no_base(&reference.to_string()))?;
                    self.bases.ensure(reference, &digest).await?;
                    digest
                }
            };
            pinned.insert(written.clone(), digest);
        }
        let dockerfile = Dockerfile::parse(&self.recipe.dockerfile, &self.recipe.text)
            .map_err(|problems| Diagnostic::new(Kind::Bug, "read a Dockerfile again").because(problems))?;
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
        let pin = |written: &str| Some(self.builder.store.at(pinned.get(written)?));
        let text = dockerfile.with_references(&request, frontend.as_deref(), &pin);
        Ok((text, pinned.into_values().collect()))
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

    fn record(&self, adopted: &Adopted, started: u64) -> ImageRecord {
        let now = (self.session.clock)();
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
            built_at_seconds: now / 1000,
            milliseconds: now.saturating_sub(started),
        }
    }

    async fn checks(&self, image: &ImageRecord) -> Result<CheckRecord, Diagnostic> {
        let subject = Subject {
            engine: &*self.builder.engine,
            host: &self.session.host,
            redactor: &self.session.redactor,
            run: &self.session.run,
            store: &self.builder.store,
            job: &self.job,
            image: &image.image,
            log: &self.log(),
            answers: Mutex::default(),
        };
        let mut record = CheckRecord {
            version: RECORD_VERSION,
            job: self.job.to_string(),
            key: check_key(&image.image, self.recipe, &self.planned.check_files),
            image: image.image.clone(),
            tests: Vec::new(),
            tags: Vec::new(),
            descriptions: Vec::new(),
        };
        for one in &self.recipe.checks {
            let started = (self.session.clock)();
            let found = check::carry_out(&subject, one).await;
            let milliseconds = (self.session.clock)().saturating_sub(started);
            let title = check::title(one);
            (self.session.show)(EventKind::CheckEnded {
                job: self.job.to_string(),
                check: title.clone(),
                passed: found.is_ok(),
                milliseconds,
            });
            match found? {
                Found::Passed => record.tests.push((title, milliseconds)),
                Found::Tag(tag) => record.tags.push(tag),
                Found::Description(heading, text) => record.descriptions.push((heading, text)),
            }
        }
        context::checks_stand(self.session, self.recipe, &self.job, &self.planned.check_files).await?;
        self.session.records.keep_checks(&record, image).await.map_err(kept(&self.job))?;
        Ok(record)
    }
}

fn kept(job: &JobId) -> impl Fn(Error) -> Diagnostic {
    let job = job.clone();
    move |error| Diagnostic::surroundings(format!("keep what was built of {job}")).caused_by(&error)
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
