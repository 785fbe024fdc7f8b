//! How one builder is got at: its engine, and where that finds the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{BuilderSetting, EngineAddress, NoEngine, SshAddress};
use crate::diag::Diagnostic;
use crate::engine::docker::{Buildx, DEFAULT_HOST, Docker, DockerEnvironment, context as contexts};
use crate::engine::podman::{Podman, PodmanEnvironment, Tool};
use crate::engine::ssh::{Ssh, SshEnvironment};
use crate::engine::{Engine, StoreAddress};

use super::fleet::Ground;
use super::{Context, lines};

/// One builder that is being connected.
pub(super) struct Site<'a> {
    pub(super) context: &'a Context,
    pub(super) root: &'a Path,
    pub(super) ground: &'a Ground<'a>,
    /// Its place among those that are connected together.
    pub(super) number: usize,
}

/// A builder's engine, as it is got at.
pub(super) struct Reached {
    pub(super) engine: Arc<dyn Engine>,
    /// The store's address as the engine sees it.
    pub(super) store: StoreAddress,
    /// What keeps the engine from reaching the store, where something does that can be mended.
    pub(super) hindrance: Option<Diagnostic>,
}

impl Reached {
    fn at(engine: impl Engine + 'static, store: &StoreAddress) -> Self {
        Self { engine: Arc::new(engine), store: store.clone(), hindrance: None }
    }
}

/// Where a docker client ends up.
enum End {
    /// Where it would go of its own accord.
    Own,
    Socket(String),
    Ssh(SshAddress),
    /// `host:port`.
    Tcp(String),
}

impl Site<'_> {
    /// The engine, and how it and the store come together.
    pub(super) async fn reach(
        &self,
        setting: &BuilderSetting,
        store: &StoreAddress,
    ) -> Result<Reached, Diagnostic> {
        let address = setting.engine.as_ref().map(|engine| engine.value.clone()).unwrap_or_default();
        let mut certificates = setting.certificates.as_ref().map(|folder| self.root.join(&folder.value));
        let end = match address {
            EngineAddress::Podman => return Ok(Reached::at(self.podman(Tool::Podman), store)),
            EngineAddress::Buildah => return Ok(Reached::at(self.podman(Tool::Buildah), store)),
            EngineAddress::Buildx(name) => return Ok(Reached::at(self.buildx(&name), store)),
            EngineAddress::Docker => default_end(self.context, &mut certificates)?,
            EngineAddress::Context(name) => end_of_context(self.context, &name, &mut certificates)?,
            EngineAddress::Socket(host) => End::Socket(host),
            EngineAddress::Ssh(address) => End::Ssh(address),
            EngineAddress::Tcp(address) => End::Tcp(address),
        };
        match end {
            End::Own => self.fed(Docker::local(self.environment(None, None)), store).await,
            End::Socket(host) => self.fed(Docker::local(self.environment(Some(host), None)), store).await,
            End::Ssh(address) => self.over_ssh(&address, store).await,
            End::Tcp(address) => {
                let host = format!("tcp://{address}");
                let by_variable = self.context.environment.value("DOCKER_CERT_PATH").is_some();
                let whose = match (&setting.certificates, &certificates) {
                    (Some(_), _) => "`certificates` of its builder",
                    (None, Some(_)) => "the docker context",
                    (None, None) if by_variable => "DOCKER_CERT_PATH",
                    (None, None) => "DOCKER_TLS_VERIFY alone, as the configuration folder of docker",
                };
                let certificates = certificates.or_else(|| self.own_certificates());
                guarded(&host, whose, certificates.as_deref())?;
                let docker = Docker::local(self.environment(Some(host), certificates));
                Ok(Reached::at(docker.apart(self.ground.stock.clone()), store))
            }
        }
    }

    /// An engine that would find the store where it is said to be, unless it is not where it seems.
    async fn fed(&self, docker: Docker, store: &StoreAddress) -> Result<Reached, Diagnostic> {
        let docker = match &self.ground.knocks {
            Some(knocks) => docker.fed(store, knocks, self.ground.stock.clone()).await?,
            None => docker,
        };
        Ok(Reached::at(docker, store))
    }

    /// The engine of another machine, by a connection over which the store comes to it where that is allowed.
    async fn over_ssh(&self, address: &SshAddress, store: &StoreAddress) -> Result<Reached, Diagnostic> {
        let line = Ssh::connect(address, self.ssh_environment()?).await?;
        match brought(&line, store).await {
            Ok(store) => {
                let socket = line.reach(&socket_there(&line).await?).await?;
                let host = match line.lets_through(&socket).await {
                    true => format!("unix://{}", socket.display()),
                    false => address.to_string(),
                };
                let environment = self.environment(Some(host), None);
                self.fed(Docker::over_ssh(environment, Arc::new(line)), &store).await
            }
            // The client gets to the engine by a command there, for which nothing is forwarded.
            Err(problem) => {
                let environment = self.environment(Some(address.to_string()), None);
                let docker = Docker::over_ssh(environment, Arc::new(line));
                // Where no store is served, nobody has asked whether a port is forwarded.
                let is_asked = !store.registry.ends_with(":0");
                let hindrance = is_asked.then_some(problem);
                let reached = Reached::at(docker.apart(self.ground.stock.clone()), store);
                Ok(Reached { hindrance, ..reached })
            }
        }
    }

    /// A builder of the person's buildx.
    fn buildx(&self, name: &str) -> Buildx {
        let host = self.context.environment.text("DOCKER_HOST").filter(|host| !host.is_empty());
        let over_tcp = host.as_deref().is_some_and(|host| host.starts_with("tcp://"));
        let certificates = if over_tcp { self.own_certificates() } else { None };
        let stock = self.ground.stock.clone();
        Buildx::new(self.environment(host, certificates), name, self.buildx_folder(), stock)
    }

    /// The folder of the certificates that the environment wants for engines over TCP.
    fn own_certificates(&self) -> Option<PathBuf> {
        let environment = &self.context.environment;
        environment.value("DOCKER_TLS_VERIFY")?;
        let said = environment.value("DOCKER_CERT_PATH").map(PathBuf::from);
        let folder = said.or_else(|| environment.docker_folder())?;
        // It is meant from where this process was started; clients start in a folder of the run.
        Some(std::path::absolute(&folder).unwrap_or(folder))
    }

    /// Where the person's buildx keeps its builders.
    fn buildx_folder(&self) -> PathBuf {
        let environment = &self.context.environment;
        let own = environment.value("BUILDX_CONFIG").map(PathBuf::from);
        let folder = own.unwrap_or_else(|| environment.docker_folder().unwrap_or_default().join("buildx"));
        std::path::absolute(&folder).unwrap_or(folder)
    }

    /// The engine without a daemon that is worked with by a program.
    fn podman(&self, tool: Tool) -> Podman {
        let environment = &self.context.environment;
        Podman::new(
            tool,
            PodmanEnvironment {
                search_path: environment.search_path(),
                variables: environment.of_containers(),
                scratch: self.ground.scratch.join(format!("builder-{}", self.number)),
            },
            self.ground.stock.clone(),
        )
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
            over: self.ground.over.clone(),
        }
    }

    fn ssh_environment(&self) -> Result<SshEnvironment, Diagnostic> {
        let environment = &self.context.environment;
        Ok(SshEnvironment {
            search_path: environment.search_path(),
            variables: environment.passed_on(),
            folder: lines::folder(self.ground.run, self.number)?,
        })
    }
}

/// Where the engine is that a setting names, in the end: whatever of this user leads there.
pub(super) fn address(context: &Context, setting: &BuilderSetting) -> Result<String, Diagnostic> {
    let address = setting.engine.as_ref().map(|engine| engine.value.clone()).unwrap_or_default();
    let end = match address {
        EngineAddress::Docker => default_end(context, &mut None)?,
        EngineAddress::Context(name) => end_of_context(context, &name, &mut None)?,
        // Both work with one storage.
        EngineAddress::Buildah => return Ok(EngineAddress::Podman.to_string()),
        other => return Ok(other.to_string()),
    };
    Ok(match end {
        End::Own => DEFAULT_HOST.to_owned(),
        End::Socket(host) => host,
        End::Ssh(address) => address.to_string(),
        End::Tcp(address) => EngineAddress::Tcp(address).to_string(),
    })
}

/// The engine that a docker client would speak to.
fn default_end(context: &Context, certificates: &mut Option<PathBuf>) -> Result<End, Diagnostic> {
    let environment = &context.environment;
    let variable = |name: &str| environment.text(name).filter(|value| !value.is_empty());
    if let Some(host) = variable("DOCKER_HOST") {
        return end_of("DOCKER_HOST", &host);
    }
    let folder = environment.docker_folder();
    let chosen = variable("DOCKER_CONTEXT")
        .filter(|name| name != contexts::DEFAULT)
        .or_else(|| contexts::current(folder.as_deref()?));
    match chosen {
        Some(name) => end_of_context(context, &name, certificates),
        None => Ok(End::Own),
    }
}

fn end_of_context(
    context: &Context,
    name: &str,
    certificates: &mut Option<PathBuf>,
) -> Result<End, Diagnostic> {
    if name == contexts::DEFAULT {
        // As for a client, it is no context that has been made: what there is without one.
        let host = context.environment.text("DOCKER_HOST").filter(|host| !host.is_empty());
        return host.map_or(Ok(End::Own), |host| end_of("DOCKER_HOST", &host));
    }
    let folder = context.environment.docker_folder().unwrap_or_default();
    let endpoint = contexts::find(&folder, name)?;
    *certificates = endpoint.certificates;
    end_of(&format!("context {name}"), &endpoint.host)
}

/// Whoever may speak to an engine is root on its machine: over TCP never without certificates.
fn guarded(host: &str, whose: &str, certificates: Option<&Path>) -> Result<(), Diagnostic> {
    match certificates {
        Some(folder) => ["ca.pem", "cert.pem", "key.pem"].iter().try_for_each(|name| {
            let file = folder.join(name);
            std::fs::File::open(&file).map(drop).map_err(|error| {
                Diagnostic::surroundings(format!("read {}, a certificate for {host}", file.display()))
                    .because(error)
                    .because(format!("its folder is named by {whose}"))
                    .hint("put ca.pem, cert.pem and key.pem there, or name the folder that has them")
            })
        }),
        None => Err(Diagnostic::request(format!("{host} wants certificates on both sides"))
            .hint("name the folder of ca.pem, cert.pem and key.pem in polyarch.toml: certificates = \"./certificates\"")
            .hint(format!("or there: --builder {host},certificates=./certificates"))
            .hint("or in the environment: export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=./certificates")),
    }
}

/// Where a docker client is led by what is not of our configuration.
fn end_of(whose: &str, host: &str) -> Result<End, Diagnostic> {
    let hint = "name the engine: polyarch build --builder ssh://build@arm-1.example".to_owned();
    let parsed =
        host.parse().map_err(|problem: NoEngine| NoEngine { hint: hint.clone(), ..problem }.at(whose))?;
    match parsed {
        EngineAddress::Socket(host) => Ok(End::Socket(host)),
        EngineAddress::Ssh(address) => Ok(End::Ssh(address)),
        EngineAddress::Tcp(address) => Ok(End::Tcp(address)),
        _ => {
            Err(Diagnostic::request(format!("{whose}: `{host}` is no address of a Docker Engine")).hint(hint))
        }
    }
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
