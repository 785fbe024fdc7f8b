//! Podman and Buildah: engines without a daemon, of this machine, also inside containers of CI services.
//!
//! Both build by Buildah's code and keep images in one storage, so this is one engine with two programs. The person's
//! storage is used as it is configured. Registries are not: every image of a build comes from the store, whose address
//! alone is spoken to without TLS, by a configuration of our own; and so is the file of passwords, with mode 0600.

mod build;
mod container;
pub(super) mod dialect;
mod failure;
mod mark;
mod output;
mod probe;
mod sweep;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, OnceCell};

use super::process::{Output, Program};
use super::{
    BuildFailure, BuildOrder, Built, ContainerOrder, Deed, Engine, EngineFacts, Finished, Progress, Room,
    RunId, Stock, StoreAddress, login, private_folder,
};
use crate::diag::Diagnostic;
use crate::oci::{Digest, Platform};

/// How long a program may take to answer a question.
const CALL: Duration = Duration::from_secs(60);
/// How long it may take to move an image.
const TRANSFER: Duration = Duration::from_secs(60 * 60);
/// How much of an answer is read.
const ANSWER_BYTES: usize = 4 << 20;

/// Which of the two programs is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `podman`.
    Podman,
    /// `buildah`.
    Buildah,
}

impl Tool {
    /// The name of the program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Buildah => "buildah",
        }
    }
}

/// What the surroundings give to the program.
#[derive(Clone, Debug)]
pub(crate) struct PodmanEnvironment {
    /// Where programs are looked for: `PATH`.
    pub(crate) search_path: OsString,
    /// Variables that reach the program as they are, such as `HOME` and `CONTAINERS_STORAGE_CONF`.
    pub(crate) variables: BTreeMap<OsString, OsString>,
    /// A folder for files of this process alone, absolute, removed by the caller.
    pub(crate) scratch: PathBuf,
}

/// Podman or Buildah, on this machine.
pub(crate) struct Podman {
    tool: Tool,
    environment: PodmanEnvironment,
    /// What the store has, which tells by what id an image of it is in the storage.
    stock: Stock,
    known: OnceCell<probe::Known>,
    logins: Mutex<BTreeMap<String, Login>>,
    containers: AtomicUsize,
    /// What is in the storage for checks: what it is named by, by reference.
    held: Mutex<BTreeMap<String, String>>,
}

/// What leads to one store.
#[derive(Clone)]
struct Login {
    store: Option<StoreAddress>,
    passwords: PathBuf,
    registries: PathBuf,
}

impl Podman {
    /// The engine of this machine that a program works with.
    pub(crate) fn new(tool: Tool, environment: PodmanEnvironment, stock: Stock) -> Self {
        Self {
            tool,
            environment,
            stock,
            known: OnceCell::new(),
            logins: Mutex::default(),
            containers: AtomicUsize::new(0),
            held: Mutex::default(),
        }
    }

    async fn known(&self) -> Result<&probe::Known, Diagnostic> {
        self.known.get_or_try_init(|| probe::probe(self)).await
    }

    /// Where a program is.
    fn find(&self, name: &str) -> Option<PathBuf> {
        super::process::find_all(name, &self.environment.search_path).into_iter().next()
    }

    /// Where the tool is.
    fn path(&self) -> Result<PathBuf, Diagnostic> {
        let name = self.tool.name();
        self.find(name).ok_or_else(|| {
            Diagnostic::surroundings(format!("there is no `{name}` on the search path"))
                .hint(format!("install it: sudo apt-get install {name}"))
        })
    }

    /// A call of a program of the storage, with what leads to a store.
    fn program(&self, path: impl Into<PathBuf>, login: &Login, time_limit: Duration) -> Program {
        let mut program = Program::new(path, time_limit);
        for (name, value) in &self.environment.variables {
            program = program.variable(name, value);
        }
        program
            .variable("PATH", &self.environment.search_path)
            .variable("REGISTRY_AUTH_FILE", &login.passwords)
            .variable("CONTAINERS_REGISTRIES_CONF", &login.registries)
            .folder(&self.environment.scratch)
    }

    /// Ask the tool something for which it needs no password.
    async fn ask(&self, arguments: &[&str]) -> Result<Output, Diagnostic> {
        let login = self.login(None).await?;
        self.program(self.path()?, &login, CALL).arguments(arguments).capture(ANSWER_BYTES).await
    }

    /// The answer of the tool to what it should be able to answer.
    async fn answer(&self, arguments: &[&str]) -> Result<String, Diagnostic> {
        let output = self.ask(arguments).await?;
        match output.ended.success() {
            true => Ok(output.text()),
            false => {
                let asked = format!("ask for `{} {}`", self.tool.name(), arguments.join(" "));
                Err(self.refused(asked, &output))
            }
        }
    }

    /// The id of an image of the store that is in the storage without a name, as what the tool has built here is. Given one, it
    /// would go with that at the end of the run, and so would all the steps that later builds are to find.
    async fn built_here(&self, store: &StoreAddress, image: &Digest) -> Result<Option<String>, Diagnostic> {
        let Ok(id) = self.stock.configuration(store, image).await else { return Ok(None) };
        let asking: &[&str] = match self.tool {
            Tool::Podman => &[
                "image",
                "inspect",
                "--format",
                "{{.Id}}{{range .RepoTags}} {{.}}{{end}}{{range .RepoDigests}} {{.}}{{end}}",
            ],
            Tool::Buildah => &["inspect", "--type", "image", "--format", "{{.FromImageID}} {{.FromImage}}"],
        };
        let found = self.ask(&[asking, &[id.hex()]].concat()).await?;
        // It says the names too. What has a name may lose it, and go, as another run ends; what is called like the id is another.
        let is_there = found.ended.success() && found.text() == id.hex();
        Ok(is_there.then(|| id.hex().to_owned()))
    }

    /// Have an image of the store in the storage; what it is named by there.
    async fn hold(
        &self,
        store: &StoreAddress,
        image: &Digest,
        platform: Option<&Platform>,
    ) -> Result<String, Diagnostic> {
        let reference = store.at(image);
        let mut held = self.held.lock().await;
        if let Some(name) = held.get(&reference) {
            return Ok(name.clone());
        }
        let name = match self.built_here(store, image).await? {
            Some(id) => id,
            None => self.pull(store, &reference, platform).await?,
        };
        held.insert(reference, name.clone());
        Ok(name)
    }

    async fn pull(
        &self,
        store: &StoreAddress,
        reference: &str,
        platform: Option<&Platform>,
    ) -> Result<String, Diagnostic> {
        let login = self.login(Some(store)).await?;
        let output = self
            .program(self.path()?, &login, TRANSFER)
            .arguments(["pull", "--quiet"])
            .arguments(platform.map(|platform| format!("--platform={platform}")))
            .argument(reference)
            .capture(ANSWER_BYTES)
            .await?;
        match output.ended.success() {
            true => Ok(reference.to_owned()),
            false => Err(self.refused(format!("pull {reference}"), &output)),
        }
    }

    /// The tool did not do what it was asked to.
    fn refused(&self, doing: impl std::fmt::Display, output: &Output) -> Diagnostic {
        let complaint = output.complaint();
        Diagnostic::surroundings(format!("{doing} with {}", self.name()))
            .because(if complaint.is_empty() { output.ended.to_string() } else { complaint })
            .hint("see what works here: polyarch doctor")
    }

    /// The files that lead to a store, or to none.
    async fn login(&self, store: Option<&StoreAddress>) -> Result<Login, Diagnostic> {
        let address = store.map(|store| store.registry.clone()).unwrap_or_default();
        let mut logins = self.logins.lock().await;
        if let Some(login) = logins.get(&address) {
            return Ok(login.clone());
        }
        let folder = self.environment.scratch.join(format!("{}-{}", self.tool.name(), logins.len()));
        let login = Login {
            store: store.cloned(),
            passwords: folder.join("auth.json"),
            registries: folder.join("registries.conf"),
        };
        let written = private_folder(&folder)
            .and_then(|()| write_private(&login.passwords, &login::text(store)))
            .and_then(|()| write_private(&login.registries, &registries_text(store)));
        written.map_err(|error| {
            Diagnostic::surroundings(format!("write into {}", folder.display()))
                .because(error)
                .hint("free some disk space, or point TMPDIR at a folder that can be written")
        })?;
        logins.insert(address, login.clone());
        Ok(login)
    }
}

fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600).open(file)?.write_all(text.as_bytes())
}

/// containers-registries.conf(5), version 2: the store is the one registry that is spoken to without TLS.
fn registries_text(store: Option<&StoreAddress>) -> String {
    let insecure =
        store.map(|store| format!("\n[[registry]]\nlocation = \"{}\"\ninsecure = true\n", store.registry));
    format!("unqualified-search-registries = []\n{}", insecure.unwrap_or_default())
}

#[async_trait]
impl Engine for Podman {
    fn name(&self) -> String {
        self.tool.name().to_owned()
    }

    async fn probe(&self) -> Result<EngineFacts, Diagnostic> {
        self.known().await.map(|known| known.facts.clone())
    }

    async fn build(&self, order: &BuildOrder, progress: &Progress<'_>) -> Result<Built, BuildFailure> {
        build::build(self, order, progress).await
    }

    async fn run(&self, order: &ContainerOrder) -> Result<Finished, Diagnostic> {
        container::run(self, order).await
    }

    async fn load(&self, store: &StoreAddress, image: &Digest, name: &str) -> Result<(), Diagnostic> {
        let held = self.hold(store, image, None).await?;
        self.answer(&["tag", &held, name]).await.map(drop)
    }

    async fn sweep(&self, run: Option<&RunId>) -> Result<Vec<String>, Diagnostic> {
        sweep::sweep(self, run, Deed::Remove).await
    }

    async fn sweep_pulled(&self, store: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        sweep::sweep_pulled(self, store, Deed::Remove).await
    }

    async fn leftovers(&self, store: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        let mut left = sweep::sweep(self, None, Deed::Name).await?;
        left.extend(sweep::sweep_pulled(self, store, Deed::Name).await?);
        Ok(left)
    }

    async fn room(&self) -> Option<Room> {
        Room::of_this_machine(self.known().await.ok()?.facts.root.as_ref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_registry_but_the_store_is_spoken_to_without_tls() {
        let store = StoreAddress {
            registry: "127.0.0.1:5000".to_owned(),
            repository: "scopes/trusted".parse().expect("a repository"),
            user: "polyarch".to_owned(),
            password: crate::oci::Secret::new("word".to_owned()),
        };
        let text: toml::Table = registries_text(Some(&store)).parse().expect("it is TOML");
        let registries = text["registry"].as_array().expect("registries");
        assert_eq!(registries.len(), 1);
        assert_eq!(registries[0]["location"].as_str(), Some("127.0.0.1:5000"));
        assert!(!registries_text(None).contains("insecure"));
    }
}
