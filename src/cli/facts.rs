//! What is told of images that stand in the store: their tags, build manifests and rows of the ledger.

use std::collections::BTreeMap;

use crate::contents::Cache;
use crate::diag::{Diagnostic, Problems, Result};
use crate::family::{JobId, Recipe};
use crate::oci::Error;
use crate::publish::{RunFacts, of_platform};
use crate::record::Passed;
use crate::report::ledger::Entry;
use crate::report::{BuildManifest, Commit, blob_link, commit_link};

use super::plan::Planning;
use super::publish::{run_facts, standing};
use super::{Context, commit, publisher};

/// A plan of which all that is told stands, and what it is told with.
pub(super) struct Facts<'a> {
    planning: &'a Planning,
    run: RunFacts,
    /// The commit, or the date outside of a Git repository.
    pub(super) version: String,
    commit: Option<Commit>,
    remote: String,
    passed: BTreeMap<JobId, Passed>,
    layers: Cache,
}

impl<'a> Facts<'a> {
    /// Those of jobs.
    ///
    /// # Errors
    /// Where one is not built, or its checks have not passed.
    pub(super) async fn of(context: &Context, planning: &'a Planning, jobs: &[&JobId]) -> Result<Self> {
        let passed = standing(&planning.plan);
        let missing = jobs.iter().filter(|job| !passed.contains_key(**job)).map(|job| {
            Diagnostic::request(format!("{job} is not built, or its checks have not passed"))
                .hint(format!("build it: polyarch build {job}"))
        });
        Problems::check(missing.collect())?;
        let root = &planning.workspace.root;
        let ask =
            async |arguments: &[&str]| publisher::git(context, root, arguments).await.unwrap_or_default();
        let hash = commit::whole_commit(root);
        let remote = match hash {
            Some(_) => ask(&["remote", "get-url", "origin"]).await,
            None => String::new(),
        };
        let commit = match hash {
            Some(hash) => {
                let message = ask(&["show", "--no-patch", "--format=%B", "HEAD"]).await;
                Some(Commit { link: commit_link(&remote, &hash), hash, message })
            }
            None => None,
        };
        let run = run_facts(&planning.moment);
        let version = run.commit.clone().unwrap_or_else(|| run.date.clone());
        Ok(Self { planning, run, version, commit, remote, passed, layers: Cache::default() })
    }

    /// The tags of an image, whole: `quay.io/jupyter/base-notebook:x86_64-latest`.
    ///
    /// # Errors
    /// Where something makes no tag.
    pub(super) fn references(&self, job: &JobId) -> Result<Vec<String>> {
        let family = &self.planning.workspace.family;
        let (recipe, passed) = (self.recipe(job)?, &self.passed[job]);
        let tags = of_platform(recipe, &job.platform, passed, &family.tags, &self.run)?;
        let repository = self.repository(recipe);
        Ok(tags.iter().map(|tag| format!("{repository}:{tag}")).collect())
    }

    /// The row of an image in the ledger, whose build manifest is called so.
    ///
    /// # Errors
    /// Where something makes no tag.
    pub(super) fn entry(&self, job: &JobId, manifest: &str) -> Result<Entry> {
        let recipe = self.recipe(job)?;
        let root = &self.planning.workspace.root;
        let below = commit::work_tree(root).and_then(|tree| Some(root.strip_prefix(tree).ok()?.to_owned()));
        let file = below.unwrap_or_default().join(&recipe.dockerfile);
        let dockerfile = |commit: &Commit| blob_link(&self.remote, &commit.hash, file.to_str()?);
        Ok(Entry {
            built_at: self.built_at(job),
            references: self.references(job)?,
            commit: self.commit.as_ref().and_then(|commit| commit.link.clone()),
            dockerfile: self.commit.as_ref().and_then(dockerfile),
            manifest: manifest.to_owned(),
        })
    }

    /// The build manifest of an image.
    ///
    /// # Errors
    /// Where its layers cannot be read.
    pub(super) async fn manifest(&self, job: &JobId) -> Result<String> {
        let recipe = self.recipe(job)?;
        let repository = recipe.repository.to_string();
        let short = repository.rsplit('/').next().unwrap_or(&repository);
        let manifest = BuildManifest {
            image: &format!("{short}:{}", self.version),
            reference: &format!("{}:{}", self.repository(recipe), self.version),
            built_at: &self.built_at(job),
            bytes: self.bytes(job).await?,
            commit: self.commit.as_ref(),
            descriptions: &self.passed[job].checks.descriptions,
        };
        Ok(manifest.to_markdown())
    }

    fn recipe(&self, job: &JobId) -> Result<&Recipe> {
        let missing = || Diagnostic::request(format!("{job} is built by nobody here")).into();
        self.planning.workspace.family.recipe(&job.unit).ok_or_else(missing)
    }

    fn repository(&self, recipe: &Recipe) -> String {
        match &self.planning.workspace.family.registry {
            Some(registry) => format!("{registry}/{}", recipe.repository),
            None => recipe.repository.to_string(),
        }
    }

    fn built_at(&self, job: &JobId) -> String {
        let seconds = i64::try_from(self.passed[job].image.built_at_seconds).unwrap_or_default();
        let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// How much the files of an image are.
    async fn bytes(&self, job: &JobId) -> Result<u64> {
        let shelf = &self.planning.shelf;
        let (store, scope) = (shelf.content(), shelf.scope.repository());
        let reading = async {
            let image = store.read_document(&scope, &self.passed[job].image.image.clone().into()).await?;
            self.layers.packages(&*store, &scope, &image.manifest()?.layers).await
        };
        let packages = reading.await.map_err(|error: Error| {
            Diagnostic::surroundings(format!("read the layers of {job}"))
                .caused_by(&error)
                .hint("look at the store: polyarch gc --dry-run --scrub")
        })?;
        Ok(packages.bytes)
    }
}
