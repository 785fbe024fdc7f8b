//! A builder of buildx: a BuildKit in a container, on Kubernetes or at an address of its own.
//!
//! It builds, and nothing else: content goes through the session of each build, and a command runs as a step of one.

mod command;
mod machine;
mod nodes;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, OnceCell};

use super::life::Missed;
use super::{ANSWER_BYTES, Docker, DockerEnvironment, build, life};
use crate::diag::Diagnostic;
use crate::engine::failure::surroundings;
use crate::engine::floor::{self, Part};
use crate::engine::{
    BuildFailure, BuildOrder, Built, ContainerOrder, Delivery, Engine, EngineFacts, Finished, ImageStore,
    Progress, RunId, Stock, StoreAddress,
};
use crate::oci::Digest;

pub(super) use nodes::Nodes;

/// How long its nodes may take to start: their program may have to be fetched first.
const START: Duration = Duration::from_secs(10 * 60);

/// When its nodes are asked what keeps them.
const SOON: Duration = Duration::from_secs(1);

/// A builder that `docker buildx ls` shows.
pub(crate) struct Buildx {
    /// The client; the engine behind it counts for nothing.
    docker: Docker,
    name: String,
    stock: Stock,
    facts: OnceCell<EngineFacts>,
    commands: AtomicUsize,
    /// Images that it has unpacked for a command.
    unpacked: Mutex<BTreeSet<Digest>>,
}

impl Buildx {
    /// The builder of a name, among those that a person's buildx keeps in a folder.
    pub(crate) fn new(mut environment: DockerEnvironment, name: &str, state: PathBuf, stock: Stock) -> Self {
        environment.variables.insert("BUILDX_CONFIG".into(), state.into());
        Self {
            docker: Docker::local(environment),
            name: name.to_owned(),
            stock,
            facts: OnceCell::new(),
            commands: AtomicUsize::new(0),
            unpacked: Mutex::default(),
        }
    }

    async fn inspect(&self, more: Option<&str>, time_limit: Duration) -> Result<Nodes, Missed> {
        let config = self.docker.config(None).await?;
        let client = &self.docker.client().await?.path;
        let asking =
            self.docker.program(client, &config, time_limit).arguments(["buildx", "inspect", &self.name]);
        let asking = match more {
            Some(more) => asking.argument(more),
            None => asking.without_grace(),
        };
        let output = asking.capture(ANSWER_BYTES).await?;
        if output.ended.success() {
            return Ok(Nodes::read(&output.text()));
        }
        let complaint = output.complaint();
        if complaint.contains("no builder") {
            let problem = Diagnostic::request(format!("buildx has no builder `{}`", self.name));
            return Err(Missed::Refusal(problem.hint("see what there is: docker buildx ls")));
        }
        let reason = complaint.lines().rfind(|line| line.starts_with("ERROR: "));
        let ended = output.ended.to_string();
        let problem = self.no_answer(reason.map_or(&*ended, |line| line.trim_start_matches("ERROR: ")));
        Err(Missed::of(&output, problem))
    }

    fn no_answer(&self, reason: &str) -> Diagnostic {
        Diagnostic::surroundings(format!("builder {} of buildx does not answer", self.name))
            .because(reason)
            .hint(format!("see what it says: docker buildx inspect {} --bootstrap", self.name))
            .hint("where it is reached by TLS, see that the certificates of its driver options hold")
    }

    async fn ask(&self) -> Result<EngineFacts, Diagnostic> {
        let client = self.docker.client().await?;
        let Some(buildx) = client.buildx.clone() else {
            return Err(Diagnostic::surroundings(format!("{} has no buildx", client.path.display()))
                .hint(floor::INSTALL_BUILDX));
        };
        let nodes = tokio::select! {
            nodes = self.inspect(Some("--bootstrap"), START) => nodes?,
            refused = self.refused() => return Err(refused),
        };
        if nodes.driver == "docker" {
            return Err(Diagnostic::request(format!("builder {} of buildx is a Docker Engine", self.name))
                .hint("name that: engine = \"docker\", or \"context:NAME\" where it is another machine's"));
        }
        let running = nodes.running();
        if running == 0 {
            return Err(self.no_answer("none of its nodes runs"));
        }
        let (mistaken, told) = machine::mistaken(self, &nodes).await?;
        let (native, emulated) = nodes.platforms();
        Ok(EngineFacts {
            version: nodes.version().to_owned(),
            image_store: ImageStore::Containerd,
            buildx: Some(buildx),
            buildkit: Some(nodes.oldest_version().to_owned()).filter(|version| !version.is_empty()),
            native: native.difference(&mistaken).cloned().collect(),
            emulated: emulated.union(&mistaken).cloned().collect(),
            clock: None,
            processors: None,
            slots: running,
            labels: BTreeSet::new(),
            ids: nodes.ids(),
            root: None,
            notes: client.notes.iter().cloned().chain(told).collect(),
            holes: floor::holes(&[(Part::BuildKit, nodes.oldest_version())]),
        })
    }

    /// That its certificates do not hold, once that is seen: buildx goes on trying for 20 seconds, and then says only that
    /// they are over. What each BuildKit keeps is asked for without such patience.
    async fn refused(&self) -> Diagnostic {
        loop {
            tokio::time::sleep(SOON).await;
            // A connection that breaks off, or takes its time, says nothing yet.
            if let Ok(Some(complaint)) = self.complaint().await {
                return self.no_certificates(&complaint);
            }
        }
    }

    /// What TLS has against all of its nodes, where they are at addresses of their own.
    async fn complaint(&self) -> Result<Option<String>, Missed> {
        let nodes = self.inspect(None, life::PATIENCE).await?;
        if nodes.driver != "remote" {
            // What buildx starts itself it has made the certificates of.
            return std::future::pending().await;
        }
        if nodes.running() > 0 {
            return Ok(None);
        }
        let config = self.docker.config(None).await?;
        let asking = self.docker.program(&self.docker.client().await?.path, &config, life::PATIENCE);
        let asking = asking.arguments(["buildx", "du", "--builder", &self.name]).without_grace();
        let output = asking.capture(ANSWER_BYTES).await?;
        let complaint = output.complaint();
        let is_of_tls = complaint.contains("tls: ") || complaint.contains("x509: ");
        Ok((!output.ended.success() && is_of_tls).then_some(complaint))
    }

    fn no_certificates(&self, complaint: &str) -> Diagnostic {
        let problem = format!("the certificates for builder {} of buildx do not hold", self.name);
        complaint
            .lines()
            .take(3)
            .map(|line| line.trim_start_matches("ERROR: "))
            .fold(Diagnostic::surroundings(problem), Diagnostic::because)
            .hint(format!("see where they are: docker buildx inspect {}", self.name))
            .hint("make it again with those of its BuildKit: docker buildx create --driver remote --driver-opt cacert=…,cert=…,key=…")
    }

    async fn pulse(&self) -> Result<(), Missed> {
        let nodes = self.inspect(None, life::PATIENCE).await?;
        let none = BTreeSet::new();
        let seen = self.facts.get();
        let (native, emulated) = seen.map_or((&none, &none), |facts| (&facts.native, &facts.emulated));
        match nodes.gone(native, emulated) {
            Some(gone) => Err(Missed::Refusal(self.no_answer(&gone))),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Engine for Buildx {
    fn name(&self) -> String {
        format!("buildx:{}", self.name)
    }

    async fn probe(&self) -> Result<EngineFacts, Diagnostic> {
        self.facts.get_or_try_init(|| self.ask()).await.cloned()
    }

    async fn build(&self, order: &BuildOrder, progress: &Progress<'_>) -> Result<Built, BuildFailure> {
        let facts = self.facts.get_or_try_init(|| self.ask()).await.map_err(surroundings)?;
        build::by_session(&self.docker, (&self.name, facts), &self.stock, order, progress).await
    }

    async fn run(&self, order: &ContainerOrder) -> Result<Finished, Diagnostic> {
        command::run(self, order).await
    }

    async fn load(&self, _: &StoreAddress, _: &Digest, name: &str) -> Result<(), Diagnostic> {
        Err(Diagnostic::surroundings(format!("{} only builds, and keeps no {name}", self.name()))
            .hint("use an engine for that: --builder docker"))
    }

    fn delivery(&self) -> Delivery {
        Delivery::Session
    }

    fn runs_containers(&self) -> bool {
        false
    }

    async fn sweep(&self, _: Option<&RunId>) -> Result<Vec<String>, Diagnostic> {
        // A build leaves nothing in a BuildKit but its cache.
        Ok(Vec::new())
    }

    async fn sweep_pulled(&self, _: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        Ok(Vec::new())
    }

    async fn answers(&self) -> bool {
        life::answers(|| self.pulse(), life::unseen).await
    }

    async fn lost(&self) -> Diagnostic {
        life::silent(|| self.pulse(), life::unseen).await
    }

    async fn returned(&self) {
        life::heard(|| self.pulse()).await;
    }
}
