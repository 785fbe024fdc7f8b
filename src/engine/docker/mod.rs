//! Docker Engine 20.10 and newer, with the classic or the containerd image store, driven through its command line.
//!
//! The client sees nothing of the user's configuration but plugins and contexts: its configuration folder is our own, so that
//! the password of a run reaches it by a file with mode 0600 and never by an argument, and so that no proxy,
//! default builder or credential helper of the user's changes what is built.

mod archives;
mod build;
mod buildx;
mod client;
mod container;
mod content;
pub(crate) mod context;
mod failure;
mod freed;
mod life;
mod output;
mod probe;
mod reach;
mod socket;
#[cfg(test)]
mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, OnceCell};

pub(crate) use buildx::Buildx;

use self::socket::Whereabouts;
use super::process::{Output, Program};
use super::room::SeenRoom;
use super::ssh::Ssh;
use super::{
    BuildFailure, BuildOrder, Built, ContainerOrder, Deed, Delivery, Engine, EngineFacts, Finished,
    ImageStore, Progress, Room, RunId, Stock, StoreAddress, login, private_folder,
};
use crate::defence::{Defence, stands};
use crate::diag::Diagnostic;
use crate::oci::{Digest, Platform};

/// Where a client goes that is not told where.
pub(crate) const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// How long the engine may take to answer a question.
const CALL: Duration = Duration::from_secs(60);

/// How long the engine may take to move an image.
const TRANSFER: Duration = Duration::from_secs(60 * 60);

/// How much of an answer is read.
const ANSWER_BYTES: usize = 4 << 20;

/// The label of every container, with the run that it belongs to.
const RUN_LABEL: &str = "dev.polyarch.run";

/// What the surroundings give to a docker client.
#[derive(Clone, Debug)]
pub(crate) struct DockerEnvironment {
    /// Where programs are looked for: `PATH`.
    pub(crate) search_path: OsString,
    /// Where the engine is: `DOCKER_HOST`, or the endpoint of the user's context; `None` is the client's default.
    pub(crate) host: Option<String>,
    /// The folder of `ca.pem`, `cert.pem` and `key.pem` that it is spoken to with.
    pub(crate) certificates: Option<PathBuf>,
    /// The user's configuration folder of docker, whose plugins are used.
    pub(crate) user_config: Option<PathBuf>,
    /// Variables that reach the client as they are, such as `SSH_AUTH_SOCK` and `HOME`.
    pub(crate) variables: BTreeMap<OsString, OsString>,
    /// A folder for files of this process alone, absolute, removed by the caller.
    pub(crate) scratch: PathBuf,
    /// Runs that are over, although that cannot be told by their names.
    pub(crate) over: BTreeSet<RunId>,
}

/// One Docker Engine.
pub(crate) struct Docker {
    environment: DockerEnvironment,
    /// The connection to its machine, where that is another.
    line: Option<Arc<Ssh>>,
    /// What it is fed from, where it does not reach the store.
    stock: Option<Stock>,
    client: OnceCell<client::Client>,
    facts: OnceCell<EngineFacts>,
    whereabouts: std::sync::OnceLock<Whereabouts>,
    /// The root of the containerd that has its images, where that is not below its own.
    content: std::sync::OnceLock<PathBuf>,
    logins: Mutex<BTreeMap<String, Login>>,
    containers: AtomicUsize,
    /// What was pulled from a store, by reference, to be removed again.
    pulled: Mutex<BTreeSet<String>>,
    room: SeenRoom,
}

/// A configuration folder with the password of one store.
struct Login {
    text: String,
    folder: PathBuf,
}

impl Docker {
    /// The engine that a docker client of these surroundings speaks to.
    pub(crate) fn local(environment: DockerEnvironment) -> Self {
        Self::new(environment, None)
    }

    /// The engine of another machine, to which a connection stands.
    pub(crate) fn over_ssh(environment: DockerEnvironment, line: Arc<Ssh>) -> Self {
        Self::new(environment, Some(line))
    }

    fn new(environment: DockerEnvironment, line: Option<Arc<Ssh>>) -> Self {
        Self {
            environment,
            line,
            stock: None,
            client: OnceCell::new(),
            facts: OnceCell::new(),
            whereabouts: std::sync::OnceLock::new(),
            content: std::sync::OnceLock::new(),
            logins: Mutex::default(),
            containers: AtomicUsize::new(0),
            pulled: Mutex::default(),
            room: SeenRoom::default(),
        }
    }

    /// The same engine, which does not reach the store.
    pub(crate) fn apart(self, stock: Stock) -> Self {
        Self { stock: Some(stock), ..self }
    }

    /// Where it is, in words.
    fn address(&self) -> String {
        match (&self.line, &self.environment.host) {
            (Some(line), _) => line.address().to_string(),
            (None, Some(host)) => host.clone(),
            (None, None) => DEFAULT_HOST.to_owned(),
        }
    }

    /// The socket that it is spoken to by, where that is of this machine and nothing of ours leads it on.
    fn socket(&self) -> Option<&str> {
        let host = self.line.is_none().then(|| self.environment.host.as_deref().unwrap_or(DEFAULT_HOST));
        host?.strip_prefix("unix://")
    }

    /// Which machine it is on, once it was asked what it is: a socket may lead to another.
    fn whereabouts(&self) -> Whereabouts {
        self.whereabouts.get().copied().unwrap_or(Whereabouts::Elsewhere)
    }

    async fn client(&self) -> Result<&client::Client, Diagnostic> {
        self.client.get_or_try_init(|| client::discover(self)).await
    }

    async fn facts(&self) -> Result<&EngineFacts, Diagnostic> {
        self.facts.get_or_try_init(|| probe::probe(self)).await
    }

    /// A call of a docker client, with a configuration folder.
    fn program(&self, client: &Path, config: &Path, time_limit: Duration) -> Program {
        let mut program = Program::new(client, time_limit);
        for (name, value) in self.environment.variables.clone().into_iter().chain(self.client_variables()) {
            program = program.variable(name, value);
        }
        let program = program.variable("PATH", &self.environment.search_path);
        let program = match &self.line {
            Some(line) => line.share(program),
            None => program,
        };
        program
            .variable("DOCKER_CONFIG", config)
            .variable("DOCKER_BUILDKIT", if stands(Defence::BuildKitAlone) { "1" } else { "0" })
            .variable("DOCKER_CLI_HINTS", "false")
            .variable("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")
            .variable("BUILDX_METADATA_PROVENANCE", "disabled")
            .folder(&self.environment.scratch)
    }

    /// Ask the engine something for which it needs no password.
    async fn ask(&self, arguments: &[&str]) -> Result<Output, Diagnostic> {
        let config = self.config(None).await?;
        let client = &self.client().await?.path;
        self.program(client, &config, CALL).arguments(arguments).capture(ANSWER_BYTES).await
    }

    /// Have an image of the store in the engine: by its digest, or by another name where it is brought as an archive.
    async fn fetch(
        &self,
        store: &StoreAddress,
        image: &Digest,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<(), Diagnostic> {
        match &self.stock {
            None => self.pull(store, image, platform).await,
            Some(stock) => {
                // One that it could not unpack may have left its name.
                self.pulled.lock().await.insert(name.to_owned());
                archives::have(self, stock, store, image, name).await
            }
        }
    }

    async fn pull(
        &self,
        store: &StoreAddress,
        image: &Digest,
        platform: Option<&Platform>,
    ) -> Result<(), Diagnostic> {
        let config = self.config(Some(store)).await?;
        let reference = store.at(image);
        let client = &self.client().await?.path;
        let output = self
            .program(client, &config, TRANSFER)
            .arguments(["pull", "--quiet", &reference])
            .arguments(platform.map(|platform| format!("--platform={platform}")))
            .capture(ANSWER_BYTES)
            .await?;
        match output.ended.success() {
            true => {
                self.pulled.lock().await.insert(reference);
                Ok(())
            }
            false => Err(self.refused(format!("pull {reference}"), &output)),
        }
    }

    /// The engine, or its client, did not do what it was asked to.
    fn refused(&self, doing: impl std::fmt::Display, output: &Output) -> Diagnostic {
        let complaint = output.complaint();
        match probe::unreachable(self, &complaint) {
            Some(problem) => problem,
            None => Diagnostic::surroundings(format!("{doing} with {}", self.name()))
                .because(if complaint.is_empty() { output.ended.to_string() } else { complaint }),
        }
    }

    /// A configuration folder, with the password of a store where one is needed.
    async fn config(&self, store: Option<&StoreAddress>) -> Result<PathBuf, Diagnostic> {
        let address = store.map(|store| store.registry.clone()).unwrap_or_default();
        let text = login::text(store);
        let mut logins = self.logins.lock().await;
        if let Some(login) = logins.get(&address).filter(|login| login.text == text) {
            return Ok(login.folder.clone());
        }
        let folder = self.environment.scratch.join(format!("docker-config-{}", logins.len()));
        let folder = logins.get(&address).map_or(folder, |login| login.folder.clone());
        self.write_config(&folder, &text).map_err(|error| {
            Diagnostic::surroundings(format!("write {}", folder.join("config.json").display()))
                .because(error)
                .hint("free some disk space, or point TMPDIR at a folder that can be written")
        })?;
        logins.insert(address, Login { text, folder: folder.clone() });
        Ok(folder)
    }

    fn write_config(&self, folder: &Path, text: &str) -> std::io::Result<()> {
        private_folder(folder)?;
        // By a new file under the old name: a client that is reading sees the old text or the new one.
        let new = folder.join("config.json.new");
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)?
            .write_all(text.as_bytes())?;
        std::fs::rename(&new, folder.join("config.json"))?;
        let Some(user) = &self.environment.user_config else { return Ok(()) };
        // A builder of buildx may lead to an engine by the name of a context.
        for shared in ["cli-plugins", "contexts"] {
            match std::os::unix::fs::symlink(user.join(shared), folder.join(shared)) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for Docker {
    fn name(&self) -> String {
        format!("docker at {}", self.address())
    }

    async fn probe(&self) -> Result<EngineFacts, Diagnostic> {
        self.facts().await.cloned()
    }

    async fn build(&self, order: &BuildOrder, progress: &Progress<'_>) -> Result<Built, BuildFailure> {
        build::build(self, order, progress).await
    }

    async fn run(&self, order: &ContainerOrder) -> Result<Finished, Diagnostic> {
        container::run(self, order).await
    }

    async fn load(&self, store: &StoreAddress, image: &Digest, name: &str) -> Result<(), Diagnostic> {
        if let (Some(stock), Delivery::Archives) = (&self.stock, self.delivery()) {
            return archives::have(self, stock, store, image, name).await;
        }
        let reference = store.at(image);
        self.fetch(store, image, &reference, None).await?;
        let output = self.ask(&["tag", &reference, name]).await?;
        match output.ended.success() {
            true => Ok(()),
            false => Err(self.refused(format!("give {reference} the name {name}"), &output)),
        }
    }

    async fn sweep(&self, run: Option<&RunId>) -> Result<Vec<String>, Diagnostic> {
        container::sweep(self, run, Deed::Remove).await
    }

    async fn sweep_pulled(&self, store: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        container::sweep_pulled(self, store, Deed::Remove).await
    }

    async fn free(&self, store: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        freed::free(self, store).await
    }

    async fn leftovers(&self, store: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        let mut left = container::sweep(self, None, Deed::Name).await?;
        left.extend(container::sweep_pulled(self, store, Deed::Name).await?);
        Ok(left)
    }

    fn delivery(&self) -> Delivery {
        match (&self.stock, self.facts.get()) {
            (None, _) => Delivery::Registry,
            (Some(_), Some(facts)) if facts.image_store == ImageStore::Containerd => Delivery::Session,
            (Some(_), _) => Delivery::Archives,
        }
    }

    fn client_variables(&self) -> Vec<(OsString, OsString)> {
        let variable = |name: &str, value: &OsStr| (name.into(), value.to_owned());
        let host = self.environment.host.iter().map(|host| variable("DOCKER_HOST", host.as_ref()));
        // A host test has the person's own environment beside these; an empty variable is none to a client.
        let (verify, folder) = match &self.environment.certificates {
            Some(folder) => ("1", folder.as_os_str()),
            None => ("", OsStr::new("")),
        };
        let tls = [variable("DOCKER_TLS_VERIFY", verify.as_ref()), variable("DOCKER_CERT_PATH", folder)];
        host.chain(tls).collect()
    }

    async fn answers(&self) -> bool {
        life::answers(|| life::pulse(self), || life::work(self)).await
    }

    async fn lost(&self) -> Diagnostic {
        life::lost(self).await
    }

    async fn returned(&self) {
        life::returned(self).await;
    }

    async fn room(&self) -> Option<Room> {
        self.room.now(life::room(self)).await
    }

    async fn recent_room(&self) -> Option<Room> {
        match self.line {
            Some(_) => self.room.recent(life::room(self)).await,
            None => self.room().await,
        }
    }
}
