//! The store of a family, open and served to engines on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::attest::Witnessed;
use crate::config::StorePlace;
use crate::diag::{Diagnostic, Result};
use crate::engine::{Stock, StoreAddress};
use crate::oci::server::{self, Access, Knocks, Rights, Scope, User};
use crate::oci::{Digest, Error, Layout, Lease, Repository, Secret, Store};
use crate::record::{Records, ScopeName, Witness};

use super::workspace::Workspace;
use super::{Context, registries};

/// The ports that a store is served at, chosen by its folder so that they stay the same from run to run.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 20_000;
/// How many of them are tried where others hold the first.
const PORT_TRIES: u16 = 16;

/// An open folder store.
#[derive(Clone)]
pub(super) struct Shelf {
    /// The folder.
    pub(super) folder: PathBuf,
    /// The store.
    pub(super) store: Arc<Layout>,
    /// The scope that this command works in.
    pub(super) scope: ScopeName,
    /// The scope that is read last, whose records count by what is signed alone.
    pub(super) from: Option<ScopeName>,
    /// Who says which records count.
    pub(super) witness: Option<Arc<Witnessed>>,
    /// The plan file that is carried out.
    pub(super) plan: Option<Digest>,
    /// The records of that, and of the trusted one where that has none.
    pub(super) records: Records,
    /// The registry that they are at too, where the store is there.
    pub(super) registry: Option<String>,
    /// A folder that goes with the last of these.
    pub(super) _empty: Option<Arc<tempfile::TempDir>>,
}

impl Shelf {
    /// Open the store that the command line, the configuration or the user's data folder has for a family.
    ///
    /// # Errors
    /// Where it cannot be opened, or there is no place for it.
    pub(super) fn open(context: &Context, workspace: &Workspace) -> Result<Self> {
        Self::open_in(context, workspace, &context.common.scope)
    }

    /// The same to read it: where the folder that the command line names is not there, it is empty and none is made.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn look(context: &Context, workspace: &Workspace) -> Result<Self> {
        Self::nothing(context)?.map_or_else(|| Self::open(context, workspace), Ok)
    }

    /// An empty one, with a warning, where the command line names a folder that is not there.
    ///
    /// # Errors
    /// Where a folder cannot be made for the time being.
    pub(super) fn nothing(context: &Context) -> Result<Option<Self>> {
        let common = &context.common;
        let (Some(StorePlace::Folder(folder)), None) = (&common.store, &common.folder) else {
            return Ok(None);
        };
        if !common.names_store || folder.exists() {
            return Ok(None);
        }
        let warning = Diagnostic::warning(format!("there is no store in {}", folder.display()))
            .because("nothing is known of what was built")
            .hint("name the one that is meant by --store, or make one: polyarch build");
        context.ui.warning(&warning);
        let empty = tempfile::tempdir().map_err(|error| {
            Diagnostic::surroundings("make an empty store for the time being").caused_by(&error)
        })?;
        let shelf = Self::open_folder(empty.path(), &common.scope)?;
        Ok(Some(Self { _empty: Some(Arc::new(empty)), ..shelf }))
    }

    /// The same store, seen as in another scope.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn open_in(context: &Context, workspace: &Workspace, scope: &ScopeName) -> Result<Self> {
        let shelf = Self::open_folder(&Self::folder(context, workspace)?, scope)?;
        match place(context, workspace) {
            Some(StorePlace::Registry { registry, prefix }) => shelf.at_registry(context, registry, prefix),
            Some(StorePlace::Folder(_)) | None => Ok(shelf),
        }
    }

    /// The same where no family is needed: none is read where the command line names a folder.
    ///
    /// # Errors
    /// As [`Self::open`], and where there is a family to read that does not hold together.
    pub(super) fn meant(context: &Context) -> Result<Self> {
        match &context.common.store {
            Some(StorePlace::Folder(folder)) => Self::open_at(context, folder),
            _ => Self::open(context, &*Workspace::read(context, &BTreeMap::new())?),
        }
    }

    /// The folder of that store; of one at a registry, the folder that content is worked on in.
    ///
    /// # Errors
    /// Where there is no place for it.
    pub(super) fn folder(context: &Context, workspace: &Workspace) -> Result<PathBuf> {
        match (place(context, workspace), &context.common.folder) {
            (Some(StorePlace::Folder(folder)), None) => Ok(folder.clone()),
            (Some(StorePlace::Registry { .. }), Some(folder)) => Ok(folder.clone()),
            (Some(StorePlace::Registry { .. }) | None, None) => default_folder(context, &workspace.root),
            (Some(StorePlace::Folder(_)) | None, Some(_)) => {
                Err(Diagnostic::request("`--folder` goes with a store at a registry, and there is none here")
                    .hint("a store that is a folder is named by: --store DIR")
                    .into())
            }
        }
    }

    /// The same with the scopes below a prefix at a registry.
    fn at_registry(self, context: &Context, registry: &str, prefix: &Repository) -> Result<Self> {
        let failed = |error: Error| {
            Diagnostic::request(format!("keep results at `{registry}/{prefix}`")).caused_by(&error)
        };
        let client = registries::registries(context)?(registry).map_err(failed)?;
        let records = self.records.at_registry(client, prefix).map_err(failed)?;
        let records = if context.common.hands_on { records.handing_on() } else { records };
        Ok(Self { records, registry: Some(registry.to_owned()), ..self })
    }

    /// Open the store in a folder; a new one is made where there is none.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) fn open_at(context: &Context, folder: &Path) -> Result<Self> {
        Self::open_folder(folder, &context.common.scope)
    }

    /// The same in a scope.
    ///
    /// # Errors
    /// As [`Self::open_at`].
    pub(super) fn open_folder(folder: &Path, scope: &ScopeName) -> Result<Self> {
        let failed = |error: Error| {
            Diagnostic::surroundings(format!("open the store in {}", folder.display()))
                .caused_by(&error)
                .hint("choose another folder, as in: polyarch --store ./store plan")
        };
        let store = Layout::open(folder).map_err(failed)?;
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let (store, scope) = (Arc::new(store), scope.clone());
        let records = Records::of_scope(store.clone(), &scope);
        Ok(Self {
            folder,
            store,
            scope,
            from: None,
            witness: None,
            plan: None,
            records,
            registry: None,
            _empty: None,
        })
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

    /// The records that this command works with: those of its scope, and of the trusted one where that has none.
    pub(super) fn records(&self) -> Records {
        let records = self.from.iter().fold(self.records.clone(), Records::before);
        let records = records.judged_by(self.witness.clone().map(|witness| witness as Arc<dyn Witness>));
        records.carrying_out(self.plan.clone())
    }

    /// The same that keeps nothing at the registry, and reads all that is there.
    pub(super) fn keeping_here(self) -> Self {
        Self { records: self.records.keeping_here(), ..self }
    }

    /// The repository of a target that has what this scope holds.
    pub(super) fn home_at(&self, target: &Target) -> Option<Repository> {
        if target.own {
            return Some(self.scope.repository());
        }
        let is_there = self.registry.as_ref().is_some_and(|registry| *registry == target.name);
        is_there.then(|| self.records.shared().clone())
    }

    /// The store with all that those stand for in the repository of its scope.
    pub(super) fn content(&self) -> Arc<dyn Store> {
        self.records().content()
    }

    /// The store as engines are fed from it that do not reach it.
    pub(super) fn stock(&self) -> Stock {
        Stock::new(self.records.local().clone(), self.folder.clone())
    }

    /// Serve what the folder has of the scope on loopback, with a password of this run alone, until the result is dropped. Whoever has that
    /// reaches nothing else of the store.
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
        let repository = self.scope.repository();
        let rights = Rights { write: vec![Scope::Below(repository.clone())], ..Rights::default() };
        let access = Access::new(Rights::default(), vec![User::new(&user, &password, rights)]);
        let knocks = Knocks::default();
        let router = server::router_listening(self.records.local().clone(), access, knocks.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            server::serve(listener, router, async {
                // A dropped sender is the sign.
                let _ = stopped.await;
            })
            .await
        });
        let address = StoreAddress { registry, repository, user, password: Secret::new(password) };
        Ok(Served { address, knocks, _stop: stop })
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
    StoreAddress {
        registry: "localhost:0".to_owned(),
        repository: ScopeName::trusted().repository(),
        user: String::new(),
        password: Secret::new(String::new()),
    }
}

/// The registry where results are kept, if they are kept at one.
pub(super) fn registry<'a>(context: &'a Context, workspace: &'a Workspace) -> Option<&'a str> {
    match place(context, workspace) {
        Some(StorePlace::Registry { registry, .. }) => Some(registry),
        Some(StorePlace::Folder(_)) | None => None,
    }
}

/// Whether it is the family's configuration alone that says where the store is.
pub(super) fn is_named_by_family(context: &Context, workspace: &Workspace) -> bool {
    context.common.store.is_none() && workspace.store.is_some()
}

/// Where the command line, or else the configuration, says that results are kept.
fn place<'a>(context: &'a Context, workspace: &'a Workspace) -> Option<&'a StorePlace> {
    context.common.store.as_ref().or(workspace.store.as_ref())
}

/// A store that is served as long as this lives.
pub(super) struct Served {
    /// Where, and with what password.
    pub(super) address: StoreAddress,
    /// By what it is told who reaches it.
    pub(super) knocks: Knocks,
    _stop: oneshot::Sender<()>,
}

fn default_folder(context: &Context, root: &Path) -> Result<PathBuf> {
    let data = context.environment.data_folder().ok_or_else(|| {
        Diagnostic::surroundings("find a folder for results: HOME is not set")
            .hint("name one, as in: polyarch --store ./store plan")
    })?;
    Ok(data.join("polyarch").join(folder_name(root)))
}

/// What the folders are called that are kept for a family: its own folder's name, and what tells it from others.
pub(super) fn folder_name(root: &Path) -> String {
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let digest = Digest::of(root.as_os_str().as_encoded_bytes());
    format!("{name}-{}", digest.short())
}

/// 32 random bytes in hexadecimal.
fn password() -> Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Diagnostic::surroundings("make a password: no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
