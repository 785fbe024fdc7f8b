//! The builders of a command: chosen, connected and looked at, all side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;

use crate::config::{BuilderSetting, EngineAddress, Written};
use crate::diag::{Diagnostic, Problems, Result, did_you_mean};
use crate::engine::docker::{Buildx, Docker, DockerEnvironment, context as contexts};
use crate::engine::podman::{Podman, PodmanEnvironment, Tool};
use crate::engine::ssh::{Ssh, SshEnvironment};
use crate::engine::{Delivery, Engine, EngineFacts, RunId, Stock, StoreAddress};
use crate::oci::Platform;
use crate::run::Builder;

use super::Context;
use super::workspace::Workspace;

/// What the folders of connections are called, before the run.
const LINES: &str = "polyarch-";
/// How long the name of such a folder may be: the names of sockets in it have room for 107 bytes, and ssh wants some.
const FOLDER_BYTES: usize = 78;

/// Which builders a command works with.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Wanted {
    /// Build here instead: a builder of polyarch.toml by its name, or an engine as in `arm=ssh://build@arm-1`
    #[arg(long = "builder", value_name = "BUILDER")]
    builders: Vec<String>,
    /// How many jobs each builder runs at once; one a processor where it is not given
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    slots: Option<u16>,
}

/// Where builders and what leads to them keep their files.
pub(super) struct Ground<'a> {
    /// The run that they work for.
    pub(super) run: &'a RunId,
    /// A folder of this run alone, removed with it.
    pub(super) scratch: &'a Path,
    /// What engines are fed from that do not reach the store.
    pub(super) stock: Stock,
}

/// Connect the builders, each of which finds the store that is served on this machine's loopback.
///
/// # Errors
/// Where one is unknown, cannot be reached, cannot build, does not reach the store or has not the platforms that it
/// is said to have, or two are one engine; everything that is wrong together.
pub(super) async fn connect(
    context: &Context,
    workspace: &Workspace,
    wanted: &Wanted,
    ground: &Ground<'_>,
    store: &StoreAddress,
) -> Result<Vec<Builder>> {
    let configured = &workspace.builders;
    let (mut builders, mut problems) = (Vec::new(), Vec::new());
    for (_, connected) in each(context, &workspace.root, configured, wanted, ground, store).await? {
        match connected {
            Ok(builder) => builders.push(builder),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(twins(&builders));
    Problems::check(problems).map(|()| builders)
}

/// Each builder, or why it is none.
///
/// # Errors
/// Where one is asked for that nobody has described.
pub(super) async fn each(
    context: &Context,
    root: &Path,
    configured: &BTreeMap<String, BuilderSetting>,
    wanted: &Wanted,
    ground: &Ground<'_>,
    store: &StoreAddress,
) -> Result<Vec<(String, Result<Builder, Diagnostic>)>> {
    let settings = settings(configured, wanted)?;
    let connecting = settings.into_iter().enumerate().map(|(number, (name, setting))| async move {
        let site = Site { context, root, ground, number };
        let slots = wanted.slots.map(usize::from);
        let builder = builder(&site, &name, &setting, slots, store).await;
        (name, builder)
    });
    Ok(join_all(connecting).await)
}

async fn builder(
    site: &Site<'_>,
    name: &str,
    setting: &BuilderSetting,
    slots: Option<usize>,
    store: &StoreAddress,
) -> Result<Builder, Diagnostic> {
    let connecting = async {
        let (engine, store) = site.engine(setting, store).await?;
        let facts = engine.probe().await?;
        Ok((engine, store, facts))
    };
    let connected = connecting.await.map_err(|problem: Diagnostic| match setting.engine {
        Some(_) => problem.because(format!("builder {name}")),
        None => problem,
    });
    let (engine, store, mut facts) = connected?;
    keep_to(setting, name, &mut facts)?;
    let own = setting.slots.as_ref().and_then(|slots| usize::try_from(slots.value).ok());
    let slots = slots.or(own).unwrap_or(facts.processors).max(1);
    let labels = setting.labels.iter().map(|label| label.value.clone()).collect();
    let room = match &setting.disk {
        Some(disk) => Some(disk.value.0),
        None => engine.room().await,
    };
    Ok(Builder { name: name.to_owned(), engine, facts, store, slots, labels, room })
}

/// The builders that are asked for, by name.
fn settings(
    configured: &BTreeMap<String, BuilderSetting>,
    wanted: &Wanted,
) -> Result<BTreeMap<String, BuilderSetting>> {
    let mut chosen = BTreeMap::new();
    for text in &wanted.builders {
        let (name, engine) = text.split_once('=').unwrap_or((text, text));
        let setting = match configured.get(name) {
            Some(setting) if name == text => setting.clone(),
            _ => given(name, engine, configured)?,
        };
        chosen.insert(name.to_owned(), setting);
    }
    if chosen.is_empty() {
        chosen.clone_from(configured);
    }
    if chosen.is_empty() {
        chosen.insert("local".to_owned(), BuilderSetting::default());
    }
    Ok(chosen)
}

/// A builder that only the command line has.
fn given(
    name: &str,
    engine: &str,
    configured: &BTreeMap<String, BuilderSetting>,
) -> Result<BuilderSetting, Diagnostic> {
    let address: EngineAddress = engine.parse().map_err(|error: String| {
        let (why, hint) = error.split_once("; hint: ").unwrap_or((&error, "see: polyarch build --help"));
        let known = did_you_mean(name, configured.keys().map(String::as_str));
        Diagnostic::request(format!("--builder {name}: {why}")).hint(known.unwrap_or_else(|| hint.to_owned()))
    })?;
    Ok(BuilderSetting { engine: Some(Written::new(address, 0..0)), ..BuilderSetting::default() })
}

/// Only the platforms that the setting gives it.
fn keep_to(setting: &BuilderSetting, name: &str, facts: &mut EngineFacts) -> Result<(), Diagnostic> {
    let Some(platforms) = &setting.platforms else { return Ok(()) };
    let has = |platform: &Platform| facts.native.contains(platform) || facts.emulated.contains(platform);
    if let Some(missing) = platforms.iter().find(|platform| !has(&platform.value)) {
        let native: Vec<String> = facts.native.iter().map(ToString::to_string).collect();
        return Err(Diagnostic::surroundings(format!("builder {name} does not run {}", missing.value))
            .because(format!("it runs {}", native.join(", ")))
            .hint(format!("take it out of `platforms` of [builder.{name}], or see: polyarch doctor")));
    }
    let given = |platform: &Platform| platforms.iter().any(|one| one.value == *platform);
    facts.native.retain(given);
    facts.emulated.retain(given);
    Ok(())
}

/// Two builders of one engine would give it twice the jobs that it has slots for.
fn twins(builders: &[Builder]) -> Vec<Diagnostic> {
    let mut seen = BTreeMap::<&str, &str>::new();
    let ids = builders.iter().filter_map(|builder| Some((builder.facts.id.as_deref()?, &*builder.name)));
    ids.filter_map(|(id, name)| {
        let first = *seen.entry(id).or_insert(name);
        (first != name).then(|| {
            Diagnostic::request(format!("builders {first} and {name} are one engine"))
                .hint("leave one of the two out, and give the other their slots")
        })
    })
    .collect()
}

/// One builder that is being connected.
struct Site<'a> {
    context: &'a Context,
    root: &'a Path,
    ground: &'a Ground<'a>,
    number: usize,
}

impl Site<'_> {
    /// The engine, and the store's address as it sees it.
    async fn engine(
        &self,
        setting: &BuilderSetting,
        store: &StoreAddress,
    ) -> Result<(Arc<dyn Engine>, StoreAddress), Diagnostic> {
        let address = setting.engine.as_ref().map(|engine| engine.value.clone()).unwrap_or_default();
        let mut certificates = setting.certificates.as_ref().map(|folder| self.root.join(&folder.value));
        let address = match address {
            EngineAddress::Docker => self.default_address(&mut certificates)?,
            EngineAddress::Context(name) => self.context_address(&name, &mut certificates)?,
            address => address,
        };
        match address {
            EngineAddress::Docker => {
                Ok((Arc::new(Docker::local(self.environment(None, None))), store.clone()))
            }
            EngineAddress::Socket(host) => {
                Ok((Arc::new(Docker::local(self.environment(Some(host), None))), store.clone()))
            }
            EngineAddress::Ssh(address) => {
                let line = Ssh::connect(&address, self.ssh_environment()?).await?;
                match brought(&line, store).await {
                    Ok(store) => {
                        let socket = line.reach(&socket_there(&line).await?).await?;
                        let host = format!("unix://{}", socket.display());
                        let environment = self.environment(Some(host), None);
                        Ok((Arc::new(Docker::over_ssh(environment, Arc::new(line))), store))
                    }
                    // The client gets to the engine by a command there, for which nothing is forwarded.
                    Err(closed) => {
                        let environment = self.environment(Some(address.to_string()), None);
                        let docker = Docker::over_ssh(environment, Arc::new(line));
                        Ok((self.apart(docker, closed).await?, store.clone()))
                    }
                }
            }
            EngineAddress::Tcp(address) => {
                let host = format!("tcp://{address}");
                self.guarded(&host, certificates.as_deref())?;
                let docker = Docker::local(self.environment(Some(host.clone()), certificates));
                let closed = Diagnostic::surroundings(format!("the engine at {host} does not reach the store"))
                    .because("its image store is the classic one, which builds nothing from what it is handed")
                    .hint("let it keep images in containerd: {\"features\": {\"containerd-snapshotter\": true}} in its /etc/docker/daemon.json")
                    .hint("or reach it by ssh, which leads the store to it: engine = \"ssh://build@arm-1.example\"");
                Ok((self.apart(docker, closed).await?, store.clone()))
            }
            EngineAddress::Podman => Ok((self.podman(Tool::Podman), store.clone())),
            EngineAddress::Buildah => Ok((self.podman(Tool::Buildah), store.clone())),
            EngineAddress::Buildx(name) => {
                let host = self.context.environment.text("DOCKER_HOST").filter(|host| !host.is_empty());
                let stock = self.ground.stock.clone();
                let buildx = Buildx::new(self.environment(host, None), &name, self.buildx_folder(), stock);
                Ok((Arc::new(buildx), store.clone()))
            }
            other => Err(Diagnostic::surroundings(format!("{other} is no builder yet"))
                .hint("name a Docker Engine: engine = \"docker\", or \"ssh://build@arm-1.example\"")),
        }
    }

    /// An engine that does not reach the store, where it can be fed in another way; else what is wrong with that.
    async fn apart(&self, docker: Docker, closed: Diagnostic) -> Result<Arc<dyn Engine>, Diagnostic> {
        let docker = docker.apart(self.ground.stock.clone());
        docker.probe().await?;
        match docker.delivery() {
            Delivery::Registry | Delivery::Session => Ok(Arc::new(docker)),
            Delivery::Archives => Err(closed),
        }
    }

    /// Whoever may speak to an engine is root on its machine: over TCP never without certificates.
    fn guarded(&self, host: &str, certificates: Option<&Path>) -> Result<(), Diagnostic> {
        match certificates.is_some() || self.context.environment.value("DOCKER_TLS_VERIFY").is_some() {
            true => Ok(()),
            false => Err(Diagnostic::request(format!("{host} wants certificates on both sides"))
                .hint("name the folder of ca.pem, cert.pem and key.pem in polyarch.toml: certificates = \"./certificates\"")
                .hint("or in the environment: export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=./certificates")),
        }
    }

    /// Where the person's buildx keeps its builders.
    fn buildx_folder(&self) -> PathBuf {
        let environment = &self.context.environment;
        let own = environment.value("BUILDX_CONFIG").map(PathBuf::from);
        let folder = own.unwrap_or_else(|| environment.docker_folder().unwrap_or_default().join("buildx"));
        std::path::absolute(&folder).unwrap_or(folder)
    }

    /// The engine that a docker client would speak to.
    fn default_address(&self, certificates: &mut Option<PathBuf>) -> Result<EngineAddress, Diagnostic> {
        let environment = &self.context.environment;
        let variable = |name: &str| environment.text(name).filter(|value| !value.is_empty());
        if let Some(host) = variable("DOCKER_HOST") {
            return address_of("DOCKER_HOST", &host);
        }
        let folder = environment.docker_folder();
        let chosen = variable("DOCKER_CONTEXT")
            .filter(|name| name != contexts::DEFAULT)
            .or_else(|| contexts::current(folder.as_deref()?));
        match chosen {
            Some(name) => self.context_address(&name, certificates),
            None => Ok(EngineAddress::Docker),
        }
    }

    fn context_address(
        &self,
        name: &str,
        certificates: &mut Option<PathBuf>,
    ) -> Result<EngineAddress, Diagnostic> {
        let folder = self.context.environment.docker_folder().unwrap_or_default();
        let endpoint = contexts::find(&folder, name)?;
        *certificates = endpoint.certificates;
        address_of(&format!("context {name}"), &endpoint.host)
    }

    /// The engine without a daemon that is worked with by a program.
    fn podman(&self, tool: Tool) -> Arc<dyn Engine> {
        let environment = &self.context.environment;
        Arc::new(Podman::new(
            tool,
            PodmanEnvironment {
                search_path: environment.search_path(),
                variables: environment.of_containers(),
                scratch: self.ground.scratch.join(format!("builder-{}", self.number)),
            },
        ))
    }

    fn environment(&self, host: Option<String>, certificates: Option<PathBuf>) -> DockerEnvironment {
        let environment = &self.context.environment;
        DockerEnvironment {
            search_path: environment.search_path(),
            host,
            certificates,
            user_config: environment.docker_folder(),
            variables: environment.passed_on(),
            scratch: self.ground.scratch.join(format!("builder-{}", self.number)),
        }
    }

    fn ssh_environment(&self) -> Result<SshEnvironment, Diagnostic> {
        let folder =
            std::env::temp_dir().join(format!("{LINES}{}", self.ground.run)).join(self.number.to_string());
        if folder.as_os_str().len() > FOLDER_BYTES {
            let problem =
                format!("the name {} is too long for the sockets of a connection", folder.display());
            return Err(Diagnostic::surroundings(problem)
                .hint("choose a folder with a short name: export TMPDIR=/tmp"));
        }
        crate::engine::private_folder(&folder).map_err(|error| {
            Diagnostic::surroundings(format!("make the folder {}", folder.display())).caused_by(&error)
        })?;
        let environment = &self.context.environment;
        Ok(SshEnvironment {
            search_path: environment.search_path(),
            variables: environment.passed_on(),
            folder,
        })
    }
}

/// An address that is not of our configuration.
fn address_of(whose: &str, host: &str) -> Result<EngineAddress, Diagnostic> {
    host.parse().map_err(|error: String| {
        let why = error.split_once("; hint: ").map_or(error.as_str(), |(why, _)| why);
        Diagnostic::request(format!("{whose}: {why}"))
            .hint("name the engine: polyarch build --builder ssh://build@arm-1.example")
    })
}

/// The socket of the engine on the other machine, as a docker client there would choose it.
async fn socket_there(line: &Ssh) -> Result<String, Diagnostic> {
    const DEFAULT: &str = "/var/run/docker.sock";
    let asked = line.ask("printf %s \"$DOCKER_HOST\"").await?;
    let host = asked.text();
    match host.strip_prefix("unix://") {
        Some(path) => Ok(path.to_owned()),
        None if host.is_empty() => Ok(DEFAULT.to_owned()),
        None => Err(Diagnostic::surroundings(format!(
            "the engine of {} is at {host}, and not on that machine",
            line.address()
        ))
        .hint("name that machine's own address instead")),
    }
}

/// The store's address for an engine of the other machine.
async fn brought(line: &Ssh, store: &StoreAddress) -> Result<StoreAddress, Diagnostic> {
    let port = store.registry.rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| Diagnostic::new(crate::diag::Kind::Bug, "find the port of the store"))?;
    let there = line.bring(port).await?;
    Ok(StoreAddress { registry: format!("127.0.0.1:{there}"), ..store.clone() })
}

/// Remove what connections of runs that are over have left.
pub(super) fn sweep_lines() {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix(LINES)).map(|run| RunId(run.to_owned()));
        if run.is_some_and(|run| run.is_over(true)) {
            // Another user's stays, and so does a link in its place.
            super::recorder::remove_own(&entry.path());
        }
    }
}

/// Remove what the connections of this run have left.
pub(super) fn close_lines(run: &RunId) {
    super::recorder::remove_own(&std::env::temp_dir().join(format!("{LINES}{run}")));
}
