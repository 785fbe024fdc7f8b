//! Runs that may have left something on their builders: a file in the folder of each says where, until it was swept there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use crate::diag::{Diagnostic, Result};
use crate::engine::{RunId, StoreAddress};
use crate::oci::{Digest, Layout, Repository};
use crate::run::Builder;

use super::plan::Planning;
use super::recorder::Recorder;
use super::{Context, fleet};

/// The file: which machine the run was on, then the address of each builder where something may be left.
const NAME: &str = "at-builders";
/// A file beside it: where engines of this machine found the store of the run, as `registry/repository`.
const SERVED: &str = "served-at";

/// From now on a run may leave something on the builders at these addresses, which find its store at another.
pub(super) fn may_be_left(run: &Path, addresses: &BTreeSet<String>, store: &StoreAddress) {
    // Without them the next run that builds sweeps all the same, but for the names of images of another address.
    let _ = std::fs::write(run.join(SERVED), place_of(store));
    let _ = write(run, &this_machine().unwrap_or_default(), addresses);
}

fn place_of(store: &StoreAddress) -> String {
    format!("{}/{}", store.registry, store.repository)
}

/// A run has left nothing on the builders at these addresses, or that was removed.
pub(super) fn is_swept(run: &Path, addresses: &BTreeSet<String>) {
    let Some((machine, pending)) = read(run) else { return };
    let pending: BTreeSet<String> = pending.difference(addresses).cloned().collect();
    // What cannot be struck now is swept once more.
    let _ = match pending.is_empty() {
        true => std::fs::remove_file(run.join(NAME)).and_then(|()| std::fs::remove_file(run.join(SERVED))),
        false => write(run, &machine, &pending),
    };
}

fn read(run: &Path) -> Option<(String, BTreeSet<String>)> {
    let text = std::fs::read_to_string(run.join(NAME)).ok()?;
    let mut lines = text.lines().map(str::to_owned);
    Some((lines.next().unwrap_or_default(), lines.collect()))
}

fn write(run: &Path, machine: &str, addresses: &BTreeSet<String>) -> std::io::Result<()> {
    let lines = [machine].into_iter().chain(addresses.iter().map(String::as_str));
    let (text, new) =
        (lines.map(|line| format!("{line}\n")).collect::<String>(), run.join("at-builders.new"));
    std::fs::write(&new, text)?;
    std::fs::rename(new, run.join(NAME))
}

/// Runs of a store that are over and may have left something on their builders.
#[derive(Debug, Default)]
pub(super) struct Dead {
    /// The folder of each, and the addresses of those builders that nobody has swept since.
    pending: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Those of this machine, whichever start of it they were of: an engine elsewhere cannot tell that they are over.
    pub(super) of_this_machine: BTreeSet<RunId>,
}

impl Dead {
    /// Those of a store: nobody holds their locks.
    pub(super) fn of(store: &Path) -> Self {
        let mut dead = Self::default();
        let this = this_machine();
        for entry in std::fs::read_dir(store.join("runs")).into_iter().flatten().flatten() {
            let folder = entry.path();
            let Some((machine, addresses)) = read(&folder) else { continue };
            if !File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok()) {
                continue;
            }
            if this.as_ref() == Some(&machine) {
                dead.of_this_machine.extend(entry.file_name().into_string().ok().map(RunId));
            }
            dead.pending.insert(folder, addresses);
        }
        dead
    }

    /// Remove from their store what was on its way into it, and what is of none of them that lives.
    ///
    /// # Errors
    /// Where the store fails.
    pub(super) async fn end_uploads(&self, store: &Layout) -> Result<()> {
        if store.writable().is_err() {
            return Ok(());
        }
        let failed = |error| Diagnostic::of_store("remove what a run that was killed was uploading", &error);
        // One that was killed before it had a folder has left something, too.
        store.remove_remains().await.map_err(failed)?;
        match self.of_this_machine.is_empty() {
            true => Ok(()),
            false => Ok(store.remove_uploads().await.map_err(failed)?),
        }
    }

    /// Whether one may have left something at one of these addresses.
    pub(super) fn were_at(&self, addresses: &fleet::Addresses) -> bool {
        let were_there =
            |at: &BTreeSet<String>| at.is_empty() || addresses.values().any(|one| at.contains(one));
        self.pending.values().any(were_there)
    }

    /// Where they had the store, if that is not where it is served now. Those whose address somebody else has now are left
    /// for later.
    pub(super) fn former(&mut self, store: &StoreAddress) -> Former {
        let (mut former, mut held) = (Former::default(), BTreeMap::new());
        self.pending.retain(|run, _| {
            let Some((address, repository)) = served_at(run) else { return true };
            let registry = address.to_string();
            if registry != store.registry && !held.contains_key(&address) {
                let Ok(listener) = TcpListener::bind(address) else { return false };
                held.insert(address, listener);
            }
            let at = StoreAddress { registry, repository, ..store.clone() };
            former.stores.insert(place_of(&at), at);
            true
        });
        former.stores.remove(&place_of(store));
        former.held = held.into_values().collect();
        former
    }

    /// Remove what they have left, where nothing is to be built: nothing fails if that cannot be done now.
    pub(super) async fn sweep(
        &mut self,
        context: &Context,
        planning: &Planning,
        wanted: &fleet::Wanted,
        recorder: &Recorder,
    ) -> Result<()> {
        let (workspace, shelf) = (&planning.workspace, &planning.shelf);
        let scratch = recorder.run_folder().scratch;
        let over = self.of_this_machine.clone();
        let ground =
            fleet::Ground { run: &recorder.run, scratch: &scratch, stock: shelf.stock(), over, knocks: None };
        let served = shelf.serve().await?;
        let (root, configured) = (&workspace.root, &workspace.builders);
        let (builders, problems) =
            fleet::each(context, root, configured, wanted, &ground, &served.address).await?;
        let addresses = fleet::addresses(context, configured, wanted)?;
        for problem in problems.into_values() {
            let text = "a run that was killed may have left something on a builder that cannot be asked now";
            let warning = Diagnostic::warning(text).because_of(&problem);
            context.ui.warning(&warning.hint("once it answers: polyarch clean"));
        }
        self.sweep_at(context, &builders, &addresses, &served.address).await;
        Ok(())
    }

    /// Remove what runs that are over have left on builders. What cannot be removed harms nobody, and is told of.
    pub(super) async fn sweep_at(
        &mut self,
        context: &Context,
        builders: &[Builder],
        addresses: &fleet::Addresses,
        store: &StoreAddress,
    ) {
        let former = self.former(store);
        let sweeps = builders.iter().map(|builder| former.sweep(builder, addresses));
        let mut swept = Vec::new();
        for (builder, done) in builders.iter().zip(join_all(sweeps).await) {
            match done {
                Ok(_) => swept.push(&*builder.name),
                Err(problem) => {
                    let name = &builder.name;
                    let text =
                        format!("what runs that were killed may have left on builder {name} stays for now");
                    let warning = Diagnostic::warning(text).because_of(&problem);
                    context.ui.warning(&warning.hint("once that is mended: polyarch clean"));
                }
            }
        }
        self.are_swept(&addresses.of(swept));
    }

    /// What they left on the builders at these addresses is removed.
    pub(super) fn are_swept(&self, addresses: &BTreeSet<String>) {
        if !addresses.is_empty() {
            self.pending.keys().for_each(|run| is_swept(run, addresses));
        }
    }
}

/// Where runs that are over had the store and nobody has it now: names of images in engines of this machine that begin with
/// such an address are theirs.
#[derive(Default)]
pub(super) struct Former {
    stores: BTreeMap<String, StoreAddress>,
    /// So that nobody else is served there meanwhile.
    held: Vec<TcpListener>,
}

impl Former {
    /// The addresses by which a builder's engine may have images of the store, its own first. An engine elsewhere has
    /// another loopback, of which nobody knows here who else is served there.
    pub(super) fn stores<'a>(
        &'a self,
        builder: &'a Builder,
        addresses: &fleet::Addresses,
    ) -> Vec<&'a StoreAddress> {
        let is_here = |address: &String| address.starts_with("unix://") || address == "podman";
        let here = addresses.of([&*builder.name]).iter().any(is_here);
        [&builder.store].into_iter().chain(self.stores.values().filter(|_| here)).collect()
    }

    /// Remove what runs that are over have left on a builder; what that was.
    pub(super) async fn sweep(
        &self,
        builder: &Builder,
        addresses: &fleet::Addresses,
    ) -> Result<Vec<String>, Diagnostic> {
        let mut removed = builder.engine.sweep(None).await?;
        for store in self.stores(builder, addresses) {
            removed.extend(builder.engine.sweep_pulled(store).await?);
        }
        Ok(removed)
    }
}

/// Where engines of this machine found the store of a run, where that was on its loopback.
fn served_at(run: &Path) -> Option<(SocketAddr, Repository)> {
    let place = std::fs::read_to_string(run.join(SERVED)).ok()?;
    let (registry, repository) = place.split_once('/')?;
    let address: SocketAddr = registry.parse().ok()?;
    address.ip().is_loopback().then_some((address, repository.parse().ok()?))
}

/// What tells this machine from others that use the same store, through every start; `None` where nothing does. What the
/// system calls itself by is nobody else's to know, so that only its digest is written down.
fn this_machine() -> Option<String> {
    let read = |file| std::fs::read_to_string(file).ok().filter(|text| !text.trim().is_empty());
    let (id, name) = (read("/etc/machine-id")?, read("/proc/sys/kernel/hostname")?);
    Some(Digest::of(format!("polyarch {id} {name}").as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::workshop::nowhere;

    fn run(store: &Path, name: &str) -> (PathBuf, File) {
        let folder = store.join("runs").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let lock = File::create(folder.join("lock")).unwrap();
        (folder, lock)
    }

    fn at(addresses: &[&str]) -> BTreeSet<String> {
        addresses.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn i_x2_only_what_nobody_holds_is_dead_and_only_what_was_here_is_of_this_machine() {
        let store = tempfile::tempdir().unwrap();
        let make = |name: &str, machine: Option<&str>| {
            let (folder, lock) = run(store.path(), name);
            may_be_left(&folder, &at(&["docker"]), &nowhere());
            machine.into_iter().for_each(|machine| write(&folder, machine, &at(&["docker"])).unwrap());
            (folder, lock)
        };
        let ((here, _), (elsewhere, _), (living, lock)) =
            (make("here", None), make("elsewhere", Some("another")), make("living", None));
        let (cleared, _) = make("cleared", None);
        is_swept(&cleared, &at(&["docker"]));
        lock.lock().unwrap();
        let dead = Dead::of(store.path());
        assert_eq!(dead.pending.keys().collect::<BTreeSet<_>>(), [&here, &elsewhere].into());
        assert_eq!(dead.of_this_machine, [RunId("here".to_owned())].into());
        dead.are_swept(&at(&["docker"]));
        assert!(Dead::of(store.path()).pending.is_empty() && living.join(NAME).exists());
    }

    #[test]
    fn f_p2_a_run_is_remembered_until_each_of_its_builders_was_swept() {
        let store = tempfile::tempdir().unwrap();
        let (folder, _) = run(store.path(), "killed");
        may_be_left(&folder, &at(&["ssh://west", "ssh://east"]), &nowhere());
        let were_at = |address: &str| Dead::of(store.path()).were_at(&fleet::Addresses::alone(address));
        assert_eq!(["ssh://west", "ssh://east", "docker"].map(were_at), [true, true, false]);
        Dead::of(store.path()).are_swept(&at(&[]));
        Dead::of(store.path()).are_swept(&at(&["docker", "ssh://west"]));
        assert_eq!(["ssh://west", "ssh://east"].map(were_at), [false, true]);
        let dead = Dead::of(store.path());
        assert_eq!(dead.of_this_machine, [RunId("killed".to_owned())].into(), "the machine is not forgotten");
        dead.are_swept(&at(&["ssh://east"]));
        assert!(!folder.join(NAME).exists());
    }

    #[test]
    fn i_x1_i_x2_a_former_address_is_swept_where_nobody_else_is_served_there() {
        let store = tempfile::tempdir().unwrap();
        let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [taken, ours] = held.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
        // Of this process alone, and nobody has been there a moment ago either.
        let [.., high, low] = std::process::id().to_be_bytes();
        let free = format!("127.77.{high}.{low}:61999");
        let address = |registry: &str, scope: &str| StoreAddress {
            registry: registry.to_owned(),
            repository: scope.parse().unwrap(),
            ..nowhere()
        };
        let left = |name: &str, at: &StoreAddress| {
            let (folder, _) = run(store.path(), name);
            may_be_left(&folder, &self::at(&["docker"]), at);
            folder
        };
        let now = address(&ours, "scopes/trusted");
        let folders = [
            left("same", &now),
            left("scope", &address(&ours, "scopes/pr-3")),
            left("free", &address(&free, "scopes/trusted")),
            left("again", &address(&free, "scopes/trusted")),
            left("taken", &address(&taken, "scopes/trusted")),
            left("far", &StoreAddress { registry: "192.0.2.1:5000".to_owned(), ..now.clone() }),
        ];
        let expected =
            [address(&free, "scopes/trusted"), address(&ours, "scopes/pr-3")].map(|at| place_of(&at));
        let mut dead = Dead::of(store.path());
        let former = dead.former(&now);
        let found: Vec<&String> = former.stores.keys().collect();
        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), expected.iter().collect());
        dead.are_swept(&at(&["docker"]));
        let pending = folders.map(|folder| folder.join(NAME).exists() && folder.join(SERVED).exists());
        assert_eq!(pending, [false, false, false, false, true, false], "what is taken is for later");
    }
}
