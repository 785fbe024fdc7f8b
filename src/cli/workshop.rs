//! The store of a family, open and served to engines on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::diag::{Diagnostic, Result};
use crate::engine::docker::{Docker, DockerEnvironment};
use crate::engine::{Engine, Stock, StoreAddress};
use crate::family::SCOPES;
use crate::oci::server::{self, Access, Rights, User};
use crate::oci::{Digest, Error, Layout, Lease, Repository, Secret, Store};
use crate::record::Records;

use super::Context;
use super::workspace::Workspace;

/// The ports that a store is served at, chosen by its folder so that they stay the same from run to run.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 20_000;
/// How many of them are tried where others hold the first.
const PORT_TRIES: u16 = 16;

/// An open folder store.
pub(super) struct Shelf {
    /// The folder.
    pub(super) folder: PathBuf,
    /// The store.
    pub(super) store: Arc<Layout>,
}

impl Shelf {
    /// Open the store that the command line, the configuration or the user's data folder has for a family.
    ///
    /// # Errors
    /// Where it cannot be opened, or there is no place for it.
    pub(super) fn open(context: &Context, workspace: &Workspace) -> Result<Self> {
        Self::open_at(&Self::folder(context, workspace)?)
    }

    /// The folder of that store.
    ///
    /// # Errors
    /// Where there is no place for it.
    pub(super) fn folder(context: &Context, workspace: &Workspace) -> Result<PathBuf> {
        match (&context.common.store, &workspace.store) {
            (Some(folder), _) | (None, Some(folder)) => Ok(folder.clone()),
            (None, None) => default_folder(context, &workspace.root),
        }
    }

    /// Open the store in a folder; a new one is made where there is none.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) fn open_at(folder: &Path) -> Result<Self> {
        let failed = |error: Error| {
            Diagnostic::surroundings(format!("open the store in {}", folder.display()))
                .caused_by(&error)
                .hint("choose another folder, as in: polyarch --store ./store plan")
        };
        let store = Layout::open(folder).map_err(failed)?;
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        Ok(Self { folder, store: Arc::new(store) })
    }

    /// Say that a run is at work, so that nothing that it sees is collected (`polyarch gc`). None in a store that
    /// can only be read.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) async fn lease(&self) -> Result<Option<Lease>> {
        if self.store.writable().is_err() {
            return Ok(None);
        }
        let failed = |error: Error| Diagnostic::surroundings("begin to work in the store").caused_by(&error);
        Ok(Some(self.store.lease().await.map_err(failed)?))
    }

    /// Refuse to begin what could not be kept.
    ///
    /// # Errors
    /// Where the store can only be read.
    pub(super) fn writable(&self) -> Result<()> {
        let failed = |error: Error| {
            Diagnostic::surroundings("write the store")
                .caused_by(&error)
                .hint("choose another folder, as in: polyarch --store ./store build")
        };
        Ok(self.store.writable().map_err(failed)?)
    }

    /// The records of the trusted scope.
    pub(super) fn records(&self) -> Records {
        Records { store: self.store.clone(), scope: trusted() }
    }

    /// The store as engines are fed from it that do not reach it.
    pub(super) fn stock(&self) -> Stock {
        Stock::new(self.store.clone(), self.folder.clone())
    }

    /// Serve the store on loopback, with a password of this run alone, until the result is dropped.
    ///
    /// # Errors
    /// Where no port is free.
    pub(super) async fn serve(&self) -> Result<Served> {
        let listener = self.listener().await?;
        let failed =
            |error: std::io::Error| Diagnostic::surroundings("serve the store on loopback").caused_by(&error);
        let registry = listener.local_addr().map_err(failed)?.to_string();
        let password = password()?;
        let user = "polyarch".to_owned();
        let access = Access::new(Rights::default(), vec![User::new(&user, &password, Rights::all())]);
        let router = server::router(self.store.clone(), access);
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            server::serve(listener, router, async {
                // A dropped sender is the sign.
                let _ = stopped.await;
            })
            .await
        });
        let address = StoreAddress { registry, repository: trusted(), user, password: Secret::new(password) };
        Ok(Served { address, _stop: stop })
    }

    async fn listener(&self) -> Result<TcpListener> {
        let digest = Digest::of(self.folder.as_os_str().as_encoded_bytes());
        let start = u16::from_str_radix(&digest.hex()[..4], 16).unwrap_or_default();
        let mut last = None;
        for offset in 0..PORT_TRIES {
            let port = FIRST_PORT + (start.wrapping_add(offset)) % PORTS;
            match TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        let problem = Diagnostic::surroundings("serve the store on loopback: no port is free");
        Err(last.map_or(problem.clone(), |error| problem.caused_by(&error)).into())
    }
}

/// The address of a store that nothing is served at.
pub(super) fn nowhere() -> StoreAddress {
    let password = Secret::new(String::new());
    StoreAddress { registry: "localhost:0".to_owned(), repository: trusted(), user: String::new(), password }
}

/// A store that is served as long as this lives.
pub(super) struct Served {
    /// Where, and with what password.
    pub(super) address: StoreAddress,
    _stop: oneshot::Sender<()>,
}

/// The repository of the trusted scope.
pub(super) fn trusted() -> Repository {
    format!("{SCOPES}trusted").parse().expect("a fixed name is a repository name")
}

fn default_folder(context: &Context, root: &Path) -> Result<PathBuf> {
    let data = context.environment.data_folder().ok_or_else(|| {
        Diagnostic::surroundings("find a folder for results: HOME is not set")
            .hint("name one, as in: polyarch --store ./store plan")
    })?;
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let digest = Digest::of(root.as_os_str().as_encoded_bytes());
    Ok(data.join("polyarch").join(format!("{name}-{}", digest.short())))
}

/// 32 random bytes in hexadecimal.
fn password() -> Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Diagnostic::surroundings("make a password: no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The engine of this machine, or the one at an address.
pub(super) fn local_engine(context: &Context, scratch: &Path, address: Option<String>) -> Arc<dyn Engine> {
    let environment = &context.environment;
    Arc::new(Docker::local(DockerEnvironment {
        search_path: environment.search_path(),
        host: address.or_else(|| environment.text("DOCKER_HOST").filter(|host| !host.is_empty())),
        certificates: None,
        user_config: environment.docker_folder(),
        variables: environment.passed_on(),
        scratch: scratch.to_owned(),
    }))
}

/// A store at a registry by name, or the family's own.
pub(super) struct Target {
    /// What to call it.
    pub(super) name: String,
    /// The store.
    pub(super) store: Arc<dyn Store>,
    /// The same by another client, which remembers nothing.
    pub(super) fresh: Arc<dyn Store>,
    /// It is the family's own store: content is mounted there, and no bytes move.
    pub(super) own: bool,
}

impl Target {
    /// As a publication wants it.
    pub(super) fn towards(&self) -> crate::publish::Target<'_> {
        crate::publish::Target { store: &*self.store, fresh: &*self.fresh, registry: &self.name }
    }
}
