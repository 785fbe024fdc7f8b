//! Families whose jobs have passed, with the images that stand for them: for tests of publications.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::release::Release;
use super::*;
use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::dockerfile::{BuildPlatform, Dockerfile, Request};
use crate::family::{
    Build, Check, CheckKind, Divergence, Family, JobId, PublishPolicy, Recipe, TagPolicy, TagSource, Unit,
};
use crate::oci::watched::{Failure, Watched};
use crate::oci::{self, Digest, Document, Manifest, MediaType, Memory, Platform, Repository, Store};
use crate::record::{CheckRecord, ImageRecord, Passed, RECORD_VERSION};

pub(super) const SCOPE: &str = "scopes/trusted";

/// A family under test, with a store that holds what has passed.
pub(super) struct Fixture {
    pub(super) family: Family,
    pub(super) passed: BTreeMap<JobId, Passed>,
    pub(super) store: Memory,
    /// The scope that images are put into.
    pub(super) scope: &'static str,
    /// What the layers of every image hold: another state of the sources, other images.
    pub(super) state: String,
    /// The same of single images.
    pub(super) states: BTreeMap<String, usize>,
}

impl Fixture {
    pub(super) fn new(divergence: Divergence) -> Self {
        let family = Family {
            name: "tiny".to_owned(),
            registry: None,
            tags: TagPolicy { divergence, ..TagPolicy::default() },
            publish: PublishPolicy::default(),
            parent_floor_bytes: None,
            layer_cache: false,
            cache_mounts: None,
            exports: Vec::new(),
            platform_assumed: false,
            warnings: Vec::new(),
            recipes: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            order: Vec::new(),
        };
        let (state, states) = (String::new(), BTreeMap::new());
        Self { family, passed: BTreeMap::new(), store: Memory::new(), scope: SCOPE, state, states }
    }

    /// An image with the values that its tagger makes on each platform; `None` where the job has not passed.
    pub(super) async fn image(
        mut self,
        unit: &str,
        parent: Option<&str>,
        made: &[(&str, Option<&str>)],
    ) -> Self {
        let unit: Unit = unit.parse().expect("unit");
        let platforms = made.iter().map(|(platform, _)| (platform.parse().expect("platform"), build()));
        let recipe = recipe(&unit, platforms.collect());
        for (platform, value) in made {
            if let Some(value) = value {
                let job = unit.on(&platform.parse().expect("platform"));
                let passed = self.keep(&job, parent, value).await;
                self.passed.insert(job, passed);
            }
        }
        self.family.order.push(unit.clone());
        self.family.recipes.insert(unit, recipe);
        self
    }

    /// Puts an image of two layers into the scope, the lower one that of its parent.
    pub(super) async fn keep(&self, job: &JobId, parent: Option<&str>, value: &str) -> Passed {
        let scope: Repository = self.scope.parse().expect("scope");
        let layer = |unit: &str| {
            let state = self.states.get(unit).map(|state| format!(" {state}")).unwrap_or_default();
            format!("layer{} of {unit}@{}{state}", self.state, job.platform)
        };
        let mut layers = Vec::new();
        for layer in [layer(parent.unwrap_or("base")), layer(&job.unit.to_string())] {
            layers.push(oci::fixture::blob(&self.store, &scope, MediaType::LAYER_GZIP, layer).await);
        }
        let config = configuration(job, &job.platform);
        let config = oci::fixture::blob(&self.store, &scope, MediaType::CONFIG, config).await;
        let manifest = Document::of_manifest(&Manifest::new(config.clone(), layers));
        let manifest = oci::fixture::keep(&self.store, &scope, manifest, &[]).await;
        let parents = parent.into_iter().filter_map(|parent| {
            let parent: Unit = parent.parse().expect("parent");
            let digest = self.passed.get(&parent.on(&job.platform))?.image.image.clone();
            Some((parent.to_string(), digest))
        });
        let (key, image) = (Digest::of(b"key"), manifest.digest().clone());
        Passed {
            checks: CheckRecord {
                version: RECORD_VERSION,
                job: job.to_string(),
                key: key.clone(),
                image: image.clone(),
                inputs: BTreeMap::new(),
                tests: Vec::new(),
                tags: vec![value.to_owned()],
                descriptions: Vec::new(),
            },
            image: ImageRecord {
                version: RECORD_VERSION,
                job: job.to_string(),
                key,
                inputs: BTreeMap::new(),
                platform: job.platform.clone(),
                image,
                size: manifest.bytes().len() as u64,
                config: config.digest,
                bytes: 0,
                parents: parents.collect(),
                builder: "local".to_owned(),
                emulated: false,
                cached: false,
                built_at_seconds: 0,
                milliseconds: 0,
            },
        }
    }

    /// Every job, but those on s390x, which nobody selects here.
    pub(super) fn planned(&self) -> BTreeSet<JobId> {
        self.family.jobs().filter(|job| job.platform.architecture() != "s390x").collect()
    }

    pub(super) fn assemble(&self) -> Result<Release> {
        let chosen: BTreeSet<Unit> = self.family.order.iter().cloned().collect();
        assemble(&self.family, &chosen, &self.planned(), &self.passed, &facts())
    }

    /// Publishes from one store to another, cut off where that store is.
    pub(super) async fn publish(&self, target: &dyn Store) -> Result<Published> {
        self.publish_as(target, &publisher(1)).await
    }

    /// The same as somebody.
    pub(super) async fn publish_as(
        &self,
        target: &dyn Store,
        publisher: &Publisher<'_>,
    ) -> Result<Published> {
        let scope: Repository = SCOPE.parse().expect("scope");
        let source = Source { store: &self.store, repository: &scope, home: None };
        let publication = Publication::prepare(self.assemble()?, &homes(), &source).await?;
        let target = Target { store: target, fresh: target, registry: "r.io" };
        publication.carry_out(&source, target, publisher, std::future::pending(), &|_| {}).await
    }

    /// Publishes to a store that answers no more from a call on, until a signal comes.
    pub(super) async fn publish_and_stop(&self, target: Memory, silent_from: usize) -> Problems {
        let scope: Repository = SCOPE.parse().expect("scope");
        let source = Source { store: &self.store, repository: &scope, home: None };
        let release = self.assemble().expect("release");
        let publication = Publication::prepare(release, &homes(), &source).await.expect("publication");
        let silent = Watched::failing(target, silent_from, Failure::Silence);
        let stop = async {
            while silent.calls() <= silent_from {
                tokio::task::yield_now().await;
            }
            Diagnostic::new(Kind::Interrupted, "stopped by SIGINT")
        };
        let target = Target { store: &silent, fresh: &silent, registry: "r.io" };
        publication
            .carry_out(&source, target, &publisher(1), stop, &|_| {})
            .await
            .expect_err("it cannot be done")
    }

    pub(super) async fn differences(&self, target: &dyn Store) -> Vec<String> {
        let scope: Repository = SCOPE.parse().expect("scope");
        let source = Source { store: &self.store, repository: &scope, home: None };
        let publication = Publication::prepare(self.assemble().expect("release"), &homes(), &source)
            .await
            .expect("publication");
        let found = verify(&publication, Target { store: target, fresh: target, registry: "r.io" })
            .await
            .expect("verify");
        found.iter().filter(|row| !row.is_equal()).map(ToString::to_string).collect()
    }
}

/// Where the journals are.
pub(super) fn homes() -> Homes {
    Homes::One("o/base".parse().expect("repository"))
}

/// Who publishes with this generation; he is known to be gone as soon as his publication ends.
pub(super) fn publisher(generation: u64) -> Publisher<'static> {
    Publisher {
        id: format!("p{generation}"),
        generation: Generation { commit_seconds: generation, run_milliseconds: generation },
        commit: None,
        allow_older: false,
        patience: std::time::Duration::from_secs(600),
        holder: String::new(),
        is_gone: &|_| true,
        clock: &|| 0,
    }
}

pub(super) fn facts() -> RunFacts {
    RunFacts { date: "2026-11-21".to_owned(), commit: Some("0123456789abcdef0123".to_owned()) }
}

/// The configuration of an image, that says which platform it is for.
pub(super) fn configuration(job: &JobId, platform: &Platform) -> Bytes {
    let variant =
        platform.variant().map(|variant| format!(r#", "variant": "{variant}""#)).unwrap_or_default();
    Bytes::from(format!(
        r#"{{"os": "{}", "architecture": "{}"{variant}, "author": "{job}"}}"#,
        platform.os(),
        platform.architecture(),
    ))
}

pub(super) fn build() -> Build {
    let file = Dockerfile::parse(Path::new("Dockerfile"), "FROM scratch\n").expect("Dockerfile");
    let platform = BuildPlatform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    let request = Request { target: None, args: &BTreeMap::new(), platform: &platform };
    let needs = file.needs(&request).expect("needs");
    Build { needs, uses: BTreeMap::new(), base: None, triggers: Vec::new() }
}

pub(super) fn recipe(unit: &Unit, platforms: BTreeMap<Platform, Build>) -> Recipe {
    let tagger = CheckKind::Tagger {
        template: "python-{0}".to_owned(),
        source: TagSource::OsRelease("VERSION_ID".to_owned()),
    };
    Recipe {
        unit: unit.clone(),
        repository: format!("o/{}", unit.image).parse().expect("repository"),
        context: PathBuf::new(),
        dockerfile: PathBuf::new(),
        text: String::new(),
        file: Arc::new(Dockerfile::parse("Dockerfile".as_ref(), "FROM scratch\n").expect("a Dockerfile")),
        target: None,
        args: BTreeMap::new(),
        labels: BTreeMap::new(),
        secrets: BTreeMap::new(),
        ssh: Vec::new(),
        platforms,
        foreign: Vec::new(),
        checks: vec![Check { declared_by: unit.clone(), kind: tagger, time_limit_seconds: 60 }],
        common_tags: vec!["latest".to_owned()],
        downstream: false,
        fail_fast: false,
        barrier: false,
        retry_without_cache: false,
        terms: BTreeMap::new(),
        cache_budget_seconds: None,
        fresh_for_seconds: None,
        tag_prefix: unit.variant.as_ref().map_or_else(String::new, |variant| format!("{variant}-")),
    }
}

pub(super) const AMD: &str = "linux/amd64";
pub(super) const ARM: &str = "linux/arm64";
