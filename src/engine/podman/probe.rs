//! What Podman or Buildah is and can do here, and how commands run in containers: found by trying, once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};
use serde_json::Value;

use super::container::restrictions;
use super::{ANSWER_BYTES, CALL, Podman, Tool, mark, sweep};
use crate::diag::Diagnostic;
use crate::engine::floor::{self, Part};
use crate::engine::process::Output;
use crate::engine::version::numbers;
use crate::engine::{EngineFacts, ImageStore, RunId, emulation, labels, private_folder};

/// The oldest Buildah that this was tried with; Podman has it in it from 4.3 on.
const OLDEST: (u32, u32) = (1, 28);

/// Folders of this machine whose programs are borrowed to try a container; those that are not there are left out.
const BORROWED: &[&str] = &["/usr", "/bin", "/lib", "/lib64"];

/// What a run is called that only tries what works.
const TRIAL: &str = "trial";
/// How many things have been tried, by whatever builder: engines of one storage that are asked at once name them apart.
static TRIALS: AtomicUsize = AtomicUsize::new(0);

/// How the commands of a build are kept apart from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// By a runtime, in namespaces of their own.
    Oci,
    /// By `chroot` alone, which works within containers too.
    Chroot,
}

impl Isolation {
    /// As `--isolation` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::Chroot => "chroot",
        }
    }
}

/// How checks run.
#[derive(Clone, Debug)]
pub(super) enum Checks {
    /// By `podman run`, with these limits: Podman's own are more than it may give in some containers.
    Podman { path: PathBuf, limits: Vec<String> },
    /// By `buildah run`, behind `unshare --net` where a `chroot` alone would leave the network open.
    Buildah { path: PathBuf, isolation: Isolation, unshare: Option<PathBuf> },
    /// Not at all.
    Impossible(Diagnostic),
}

/// All that is known of an engine.
pub(super) struct Known {
    pub(super) facts: EngineFacts,
    pub(super) isolation: Isolation,
    pub(super) checks: Checks,
}

/// Ask what it is, and try what it can do.
pub(super) async fn probe(podman: &Podman) -> Result<Known, Diagnostic> {
    private_folder(&podman.environment.scratch).map_err(|error| {
        Diagnostic::surroundings(format!("make the folder {}", podman.environment.scratch.display()))
            .because(error)
    })?;
    let mut facts = facts(podman).await?;
    let isolation = isolation(podman).await?;
    let checks = checks(podman, isolation).await?;
    facts.notes.extend(notes(podman.tool, isolation, &checks));
    let emulated = emulation::of_this_machine();
    facts.emulated = emulated.platforms.difference(&facts.native).cloned().collect();
    Ok(Known { facts, isolation, checks })
}

/// What the tool says of itself and of its storage.
pub(super) async fn info(podman: &Podman) -> Result<Value, Diagnostic> {
    let arguments: &[&str] = match podman.tool {
        Tool::Podman => &["info", "--format", "json"],
        Tool::Buildah => &["info"],
    };
    let name = podman.tool.name();
    serde_json::from_str(&podman.answer(arguments).await?)
        .map_err(|error| Diagnostic::surroundings(format!("read what `{name} info` says")).because(error))
}

/// The folder of the storage, in the words of either program.
pub(super) fn root(info: &Value) -> Option<&str> {
    info["store"]["GraphRoot"].as_str().or_else(|| info["store"]["graphRoot"].as_str())
}

/// The driver of the storage, after which its folders are called.
pub(super) fn driver(info: &Value) -> Option<&str> {
    info["store"]["GraphDriverName"].as_str().or_else(|| info["store"]["graphDriverName"].as_str())
}

async fn facts(podman: &Podman) -> Result<EngineFacts, Diagnostic> {
    let name = podman.tool.name();
    let info = info(podman).await?;
    let said = podman.answer(&["--version"]).await?;
    let version = said.split_whitespace().nth(2).unwrap_or_default().to_owned();
    let within = info["host"]["buildahVersion"].as_str();
    let buildah = numbers(within.unwrap_or(&version)).map_or((0, 0), |(major, minor, _)| (major, minor));
    if buildah < OLDEST {
        return Err(Diagnostic::surroundings(format!("{name} {version} is too old"))
            .because(format!("it builds by Buildah {}.{}; 1.28 or newer is needed", buildah.0, buildah.1))
            .hint("update it: sudo apt-get update && sudo apt-get install buildah podman"));
    }
    let holes = match runtime(podman, &info).await? {
        Some(runc) => floor::holes(&[(Part::Buildah, within.unwrap_or(&version)), (Part::Runc, &runc)]),
        None => floor::holes(&[(Part::Buildah, within.unwrap_or(&version))]),
    };
    let root = root(&info);
    let processors = info["host"]["cpus"].as_u64().and_then(|count| usize::try_from(count).ok());
    let memory = info["host"]["memTotal"].as_u64().or_else(|| info["host"]["MemTotal"].as_u64());
    let memory = memory.unwrap_or_default();
    Ok(EngineFacts {
        version,
        image_store: ImageStore::Containers { buildah },
        buildx: None,
        buildkit: None,
        native: emulation::native("linux", info["host"]["arch"].as_str().unwrap_or("amd64")),
        emulated: std::collections::BTreeSet::new(),
        processors,
        slots: processors.unwrap_or(1).max(1),
        labels: labels::found(memory, describes_gpus()),
        // One storage is one engine, whichever program works with it.
        ids: root.map(|root| format!("containers-storage:{root}")).into_iter().collect(),
        root: root.map(PathBuf::from),
        clock: None,
        notes: Vec::new(),
        holes,
    })
}

/// Whether a GPU of this machine is described for containers, by a file named as those who make GPUs name theirs.
fn describes_gpus() -> bool {
    let folders =
        ["/etc/cdi", "/var/run/cdi"].into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let names = folders.flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| Some(name.split(['.', '-']).next()?.to_owned()))
        .any(|vendor| labels::is_of_gpus(&vendor))
}

/// The version of the runc that commands run by, where they run by that.
async fn runtime(podman: &Podman, info: &Value) -> Result<Option<String>, Diagnostic> {
    let host = &info["host"];
    if let Some(version) = host["ociRuntime"]["version"].as_str() {
        return Ok(runc_version(version));
    }
    let Some(runc) = podman.find("runc").filter(|_| host["OCIRuntime"].as_str() == Some("runc")) else {
        return Ok(None);
    };
    let login = podman.login(None).await?;
    let output = podman.program(&runc, &login, CALL).argument("--version").capture(ANSWER_BYTES).await?;
    Ok(runc_version(&output.text()))
}

/// Its version with that of the distribution, which it has as its commit, in what it says of itself.
fn runc_version(text: &str) -> Option<String> {
    let version = text.lines().next()?.strip_prefix("runc version ")?.trim();
    let commit = text.lines().find_map(|line| line.strip_prefix("commit: "));
    let of_distribution = commit.filter(|commit| commit.starts_with(version));
    Some(of_distribution.unwrap_or(version).to_owned())
}

/// The first isolation in which a build can run a program of this machine.
async fn isolation(podman: &Podman) -> Result<Isolation, Diagnostic> {
    let chosen = podman.environment.variables.get(std::ffi::OsStr::new("BUILDAH_ISOLATION"));
    let is_chosen = chosen.is_some_and(|name| name == "chroot");
    let mut refusals = Vec::new();
    for isolation in [Isolation::Oci, Isolation::Chroot] {
        if isolation == Isolation::Oci && is_chosen {
            continue;
        }
        let output = build_on_trial(podman, isolation).await?;
        if output.ended.success() {
            // The image that was made on trial has no name and nothing in it.
            podman.ask(&["rmi", &output.text()]).await?;
            return Ok(isolation);
        }
        let complaint = output.complaint();
        let last = complaint.lines().last().unwrap_or("it says nothing");
        refusals.push(format!("with --isolation={}: {last}", isolation.name()));
    }
    let name = podman.tool.name();
    let problem =
        Diagnostic::surroundings(format!("{name} cannot run a program in a build here", name = name));
    Err(refusals.into_iter().fold(problem, Diagnostic::because).hint(
        "within a container of a CI service, allow it user namespaces or run it as root with CAP_SYS_ADMIN, as for docker run --privileged",
    ))
}

async fn build_on_trial(podman: &Podman, isolation: Isolation) -> Result<Output, Diagnostic> {
    let folder = podman.environment.scratch.join("trial");
    let file = folder.join("Dockerfile");
    private_folder(&folder)
        .and_then(|()| std::fs::write(&file, "FROM scratch\nRUN [\"/bin/true\"]\n"))
        .map_err(|error| Diagnostic::surroundings(format!("write {}", file.display())).because(error))?;
    let login = podman.login(None).await?;
    let command = if podman.tool == Tool::Podman { "build" } else { "bud" };
    podman
        .program(podman.path()?, &login, CALL)
        .arguments([command, "--quiet", "--no-cache", "--layers=false", "--force-rm", "--isolation"])
        .arguments([isolation.name()])
        .arguments(
            RunId::of_this_process(TRIAL).build_tag(next_trial()).ok().map(|tag| mark::option(tag.as_str())),
        )
        .arguments(borrowed())
        .argument("--file")
        .argument(&file)
        .argument(&folder)
        .capture(ANSWER_BYTES)
        .await
}

/// The number of the next thing that is tried.
fn next_trial() -> usize {
    TRIALS.fetch_add(1, Ordering::Relaxed)
}

fn borrowed() -> impl Iterator<Item = String> {
    let there = BORROWED.iter().filter(|folder| Path::new(folder).is_dir());
    there.map(|folder| format!("--volume={folder}:{folder}:ro"))
}

/// `podman run` where it works, else `buildah run` with as little network as can be had.
async fn checks(podman: &Podman, isolation: Isolation) -> Result<Checks, Diagnostic> {
    if podman.tool == Tool::Podman {
        let limits = limits();
        let output = run_on_trial(podman, &limits).await?;
        if output.ended.success() {
            return Ok(Checks::Podman { path: podman.path()?, limits });
        }
        if podman.find("buildah").is_none() {
            let problem = Diagnostic::surroundings("`podman run` does not work here, so no check can run")
                .because(output.complaint())
                .hint("let buildah run them: sudo apt-get install buildah");
            return Ok(Checks::Impossible(problem));
        }
    }
    let path = podman.find("buildah").map_or_else(|| podman.path(), Ok)?;
    let unshare = match isolation {
        Isolation::Oci => None,
        Isolation::Chroot => without_network(podman).await?,
    };
    Ok(Checks::Buildah { path, isolation, unshare })
}

async fn run_on_trial(podman: &Podman, limits: &[String]) -> Result<Output, Diagnostic> {
    let root = podman.environment.scratch.join("trial-root");
    private_folder(&root)
        .map_err(|error| Diagnostic::surroundings(format!("make {}", root.display())).because(error))?;
    let login = podman.login(None).await?;
    podman
        .program(podman.path()?, &login, CALL)
        .arguments(["run", "--rm", "--name"])
        .argument(sweep::container_name(&RunId::of_this_process(TRIAL), next_trial()))
        .arguments(restrictions(limits))
        .arguments(borrowed())
        .argument("--rootfs")
        .argument(&root)
        .argument("/bin/true")
        .capture(ANSWER_BYTES)
        .await
}

/// `unshare`, where it can start a program without a network.
async fn without_network(podman: &Podman) -> Result<Option<PathBuf>, Diagnostic> {
    let Some(unshare) = podman.find("unshare") else { return Ok(None) };
    let login = podman.login(None).await?;
    let output = podman
        .program(&unshare, &login, CALL)
        .arguments(["--net", "--"])
        .argument(podman.find("buildah").map_or_else(|| podman.path(), Ok)?)
        .argument("--version")
        .capture(ANSWER_BYTES)
        .await?;
    Ok(output.ended.success().then_some(unshare))
}

/// How many files a command may have open at most.
const FILES: u64 = 1 << 20;
/// How many processes a command may have at most: Buildah's own limit, so that checks meet what builds do.
const PROCESSES: u64 = 32_768;

/// Limits that this process may give to others: those of its own, where they are not more than is asked for anyway.
fn limits() -> Vec<String> {
    let of = |name: &str, resource: Resource, most: u64| {
        let limit = getrlimit(resource);
        let number = |limit: Option<u64>| limit.map_or(most, |limit| limit.min(most));
        format!("{name}={}:{}", number(limit.current), number(limit.maximum))
    };
    vec![of("nofile", Resource::Nofile, FILES), of("nproc", Resource::Nproc, PROCESSES)]
}

/// What a person should know of the ways that were found.
fn notes(tool: Tool, isolation: Isolation, checks: &Checks) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    if isolation == Isolation::Chroot {
        notes.push(Diagnostic::warning(
            "builds run with --isolation=chroot, since no other works here: they see this machine's processes and network",
        ));
    }
    let how = match checks {
        Checks::Podman { .. } => "checks run by `podman run`, without a network".to_owned(),
        Checks::Impossible(problem) => problem.message.clone(),
        Checks::Buildah { isolation, unshare, .. } => {
            let why = if tool == Tool::Podman { ", since `podman run` does not work here" } else { "" };
            let network = match (isolation, unshare) {
                (Isolation::Chroot, None) => "with this machine's network",
                _ => "without a network",
            };
            format!("checks run by `buildah run --isolation={}`{why}, {network}", isolation.name())
        }
    };
    notes.push(Diagnostic::warning(how));
    notes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::Stock;
    use crate::engine::podman::PodmanEnvironment;
    use crate::lent::write_program;
    use crate::oci::Memory;

    #[test]
    fn tm8_runc_says_its_version_with_that_of_the_distribution() {
        let table = [
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2", Some("1.1.5+ds1-1+deb12u1")),
            ("runc version 1.2.5\ncommit: v1.2.5-0-g59923ef\n", Some("1.2.5")),
            ("runc version 1.3.3", Some("1.3.3")),
            ("crun version 1.8.1\ncommit: f8a096be", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(runc_version(text).as_deref(), expected, "{text}");
        }
    }

    /// A `podman` that says what it was called with, and does nothing.
    async fn names_of_trials(folder: &Path, number: usize) -> Vec<String> {
        let said = folder.join(format!("said-{number}"));
        let bin = folder.join(format!("bin-{number}"));
        private_folder(&bin).unwrap();
        let script = format!("printf '%s\\n' \"$@\" >>'{}'", said.display());
        let podman = bin.join("podman");
        write_program(&podman, &format!("#!/bin/sh\n{script}\n"));
        let environment = PodmanEnvironment {
            search_path: std::env::join_paths([bin.as_path(), "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap(),
            variables: Default::default(),
            scratch: folder.join(format!("scratch-{number}")),
        };
        let stock = Stock::new(Arc::new(Memory::new()), folder.to_owned());
        let podman = Podman::new(Tool::Podman, environment, stock);
        build_on_trial(&podman, Isolation::Oci).await.unwrap();
        run_on_trial(&podman, &[]).await.unwrap();
        let said = std::fs::read_to_string(said).unwrap();
        said.lines()
            .filter(|word| word.contains(TRIAL) && !word.starts_with('/'))
            .map(str::to_owned)
            .collect()
    }

    #[tokio::test]
    async fn builders_that_are_asked_at_once_try_under_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = tokio::join!(names_of_trials(folder.path(), 1), names_of_trials(folder.path(), 2));
        let all: std::collections::BTreeSet<&String> = one.iter().chain(&other).collect();
        assert_eq!((one.len(), other.len(), all.len()), (2, 2, 4), "{one:?} {other:?}");
    }

    #[test]
    fn what_was_chosen_is_said_with_its_reason() {
        let buildah = |isolation, unshare: Option<&str>| Checks::Buildah {
            path: "/usr/bin/buildah".into(),
            isolation,
            unshare: unshare.map(PathBuf::from),
        };
        let said = |tool, isolation, checks: Checks| {
            let notes = notes(tool, isolation, &checks);
            notes.into_iter().map(|note| note.message).collect::<Vec<_>>().join("; ")
        };
        let oci = said(Tool::Buildah, Isolation::Oci, buildah(Isolation::Oci, None));
        assert_eq!(oci, "checks run by `buildah run --isolation=oci`, without a network");
        let open = said(Tool::Podman, Isolation::Chroot, buildah(Isolation::Chroot, None));
        assert!(
            open.contains("since `podman run` does not work here, with this machine's network"),
            "{open}"
        );
        let closed =
            said(Tool::Buildah, Isolation::Chroot, buildah(Isolation::Chroot, Some("/usr/bin/unshare")));
        assert!(closed.ends_with("--isolation=chroot`, without a network"), "{closed}");
    }
}
