//! Clear away what runs leave in the storage: containers of checks by their names, those of builds by their marks, and
//! names of images by their tags and by the address of a store.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::{Podman, Tool, mark};
use crate::diag::Diagnostic;
use crate::engine::offspring::Offspring;
use crate::engine::{Deed, RunId, StoreAddress};

/// What stands before the names of our containers.
const PREFIX: &str = "polyarch-";

/// Where builds keep what is for a moment, where `TMPDIR` says nothing else.
const TEMPORARY: &str = "/var/tmp";

/// How often it is seen whether processes have ended, how often before they are made to, and how long apart: 6 s in all.
const ROUNDS: u32 = 30;
const POLITE_ROUNDS: u32 = 25;
const PAUSE: Duration = Duration::from_millis(200);

/// The name of a container of a run.
pub(super) fn container_name(run: &RunId, number: usize) -> String {
    format!("{PREFIX}{run}-{number}")
}

/// The run that a container belongs to, by its name.
fn run_of(name: &str) -> Option<RunId> {
    let (run, number) = name.strip_prefix(PREFIX)?.rsplit_once('-')?;
    number.parse::<usize>().ok()?;
    Some(RunId(run.to_owned()))
}

/// A container, in the words of either program.
#[derive(Deserialize)]
struct Container {
    #[serde(alias = "Id")]
    id: String,
    #[serde(default)]
    containername: String,
    #[serde(rename = "Names", default)]
    names: Option<Vec<String>>,
}

impl Container {
    fn name(&self) -> &str {
        self.names.iter().flatten().next().map_or(&self.containername, |name| name)
    }
}

/// An image, in the words of either program.
#[derive(Deserialize)]
struct Image {
    #[serde(alias = "Names", default)]
    names: Option<Vec<String>>,
}

/// Remove the containers of a run and the names of images that it gave; without a run, of every run that is over.
pub(super) async fn sweep(
    podman: &Podman,
    run: Option<&RunId>,
    deed: Deed,
) -> Result<Vec<String>, Diagnostic> {
    let is_meant = |of: &RunId| run.map_or_else(|| of.is_over(true), |run| run == of);
    let mut removed = match deed {
        Deed::Remove => end_orphans(&is_meant).await,
        Deed::Name => orphans(&is_meant).into_iter().map(process).collect(),
    };
    removed.extend(remove_containers(podman, &is_meant, deed).await?);
    let tagged = |name: &str| {
        let tag = name.rsplit(':').next().unwrap_or_default();
        RunId::of_build_tag(tag).is_some_and(|of| is_meant(&of))
    };
    removed.extend(remove_names(podman, tagged, deed).await?);
    if run.is_some() {
        let stores: Vec<_> =
            podman.logins.lock().await.values().filter_map(|login| login.store.clone()).collect();
        for store in stores {
            removed.extend(sweep_pulled(podman, &store, deed).await?);
        }
        podman.held.lock().await.clear();
    }
    Ok(removed)
}

/// End what goes on although the run that began it was killed: there is no daemon that would. Asked to end, a build
/// removes its own containers, but may leave a step behind.
async fn end_orphans(is_meant: &(dyn Fn(&RunId) -> bool + Sync)) -> Vec<String> {
    let mut ended = Vec::new();
    let mut steps = Vec::new();
    for round in 0..ROUNDS {
        let orphans = orphans(is_meant);
        if orphans.is_empty() {
            break;
        }
        if round == 0 {
            // Each leads a group, as everything that we start.
            steps = orphans.iter().copied().map(Offspring::of).collect();
        }
        steps.iter_mut().for_each(Offspring::look);
        let signal = if round < POLITE_ROUNDS { Signal::TERM } else { Signal::KILL };
        for process in orphans {
            // Asked once; one that has ended meanwhile is as good as ended, another user's is not ours.
            let is_asked = round == 0 || round == POLITE_ROUNDS;
            let was_there = is_asked && kill_process(process, signal).is_ok();
            if was_there && round == 0 {
                ended.push(self::process(process));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    steps.iter().for_each(Offspring::kill);
    ended
}

fn process(process: Pid) -> String {
    format!("process {}", process.as_raw_nonzero())
}

/// The processes of our programs that work for a run, by what stands in their arguments.
fn orphans(is_meant: &dyn Fn(&RunId) -> bool) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let works_for_it = |entry: std::fs::DirEntry| {
        let process = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        run_of_arguments(&String::from_utf8_lossy(&line)).is_some_and(|run| is_meant(&run)).then_some(process)
    };
    entries.filter_map(works_for_it).collect()
}

/// The run that a program works for: its check's container is an argument of it, or its build's folder is part of one.
fn run_of_arguments(line: &str) -> Option<RunId> {
    let mut arguments = line.split('\0');
    let program = arguments.next()?.rsplit('/').next()?;
    if !["buildah", "podman"].contains(&program) {
        return None;
    }
    arguments
        .find_map(|argument| run_of(argument).or_else(|| argument.split('/').find_map(RunId::of_build_tag)))
}

/// Remove the names that images have by digest at the address of a store.
pub(super) async fn sweep_pulled(
    podman: &Podman,
    store: &StoreAddress,
    deed: Deed,
) -> Result<Vec<String>, Diagnostic> {
    let prefix = format!("{}/{}@", store.registry, store.repository);
    remove_names(podman, |name| name.starts_with(&prefix), deed).await
}

async fn remove_containers(
    podman: &Podman,
    is_meant: &(dyn Fn(&RunId) -> bool + Sync),
    deed: Deed,
) -> Result<Vec<String>, Diagnostic> {
    let (list, remove): (&[&str], &[&str]) = match podman.tool {
        Tool::Podman => (&["ps", "--all", "--external", "--format", "json"], &["rm", "--force", "--volumes"]),
        Tool::Buildah => (&["containers", "--json"], &["rm"]),
    };
    let containers: Vec<Container> = listed(&podman.answer(list).await?)?;
    let unnamed: Vec<&str> = { containers.iter() }
        .filter(|container| run_of(container.name()).is_none())
        .map(|container| &*container.id)
        .collect();
    let marked = mark::runs(podman, &unnamed).await?;
    let temporary = podman.environment.variables.get(OsStr::new("TMPDIR"));
    let temporary = Path::new(temporary.map_or(OsStr::new(TEMPORARY), OsString::as_os_str));
    let mut removed = Vec::new();
    for container in &containers {
        let run = run_of(container.name()).or_else(|| marked.get(&container.id).cloned());
        if !run.is_some_and(|run| is_meant(&run)) {
            continue;
        }
        if deed == Deed::Remove {
            // One that is gone already is as good as removed.
            if !podman.ask(&[remove, &[&container.id]].concat()).await?.ended.success() {
                continue;
            }
            let folders = mark::step_folders(temporary, &container.id);
            // Nothing fails for what is left of them.
            folders.iter().for_each(|folder| drop(std::fs::remove_dir_all(folder)));
        }
        removed.push(format!("container {}", container.name()));
    }
    Ok(removed)
}

async fn remove_names(
    podman: &Podman,
    is_meant: impl Fn(&str) -> bool,
    deed: Deed,
) -> Result<Vec<String>, Diagnostic> {
    let list: &[&str] = match podman.tool {
        // It reckons long at each image that it lists, and the cache of builds is many without a name.
        Tool::Podman => &["images", "--filter", "dangling=false", "--format", "json"],
        Tool::Buildah => &["images", "--json"],
    };
    let images: Vec<Image> = listed(&podman.answer(list).await?)?;
    let mut removed = Vec::new();
    for name in images.iter().flat_map(|image| image.names.iter().flatten()).filter(|name| is_meant(name)) {
        // What a container still uses stays, as does what is gone already.
        if deed == Deed::Name || podman.ask(&["rmi", name]).await?.ended.success() {
            removed.push(format!("image name {name}"));
        }
    }
    Ok(removed)
}

/// A list in JSON; there may be none at all.
fn listed<T: serde::de::DeserializeOwned>(text: &str) -> Result<Vec<T>, Diagnostic> {
    let read = serde_json::from_str::<Option<Vec<T>>>(if text.is_empty() { "null" } else { text });
    read.map(Option::unwrap_or_default)
        .map_err(|error| Diagnostic::surroundings("read a list of what is in the storage").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_x1_containers_are_known_by_the_names_that_we_give_them() {
        let run = RunId("20261121-abcdef01-12-345".to_owned());
        assert_eq!(run_of(&container_name(&run, 7)), Some(run));
        for other in ["polyarch-", "polyarch-a", "polyarch-x-y", "my-polyarch-a-1", "working-container"] {
            assert_eq!(run_of(other), None, "{other}");
        }
    }

    #[test]
    fn i_x1_processes_are_known_by_their_program_and_the_run_in_their_arguments() {
        let table = [
            ("/usr/bin/buildah\0run\0polyarch-r-1-2-3-7\0--\0sleep\09", Some("r-1-2-3")),
            ("podman\0build\0--iidfile\0/t/build-r-1-2-3-7/image-id\0/c", Some("r-1-2-3")),
            ("vi\0/t/build-r-1-2-3-7/image-id", None),
            ("/usr/bin/buildah\0run\0mine\0--\0sleep\09", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(run_of_arguments(line).map(|run| run.0).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn both_programs_list_containers_and_images() {
        let buildah =
            r#"[{"id":"1","builder":true,"imagename":"r/a@sha256:1","containername":"polyarch-a-1"}]"#;
        let podman = r#"[{"Id":"1","Image":"r/a@sha256:1","Names":["polyarch-a-1"],"ImageID":"2"}]"#;
        for text in [buildah, podman] {
            let containers: Vec<Container> = listed(text).expect("a list");
            assert_eq!((containers[0].name(), &*containers[0].id), ("polyarch-a-1", "1"));
        }
        assert!(listed::<Container>("null").expect("none").is_empty());
        for text in [
            r#"[{"id":"1","names":["a:b"]},{"id":"2","names":null}]"#,
            r#"[{"Id":"1","Names":["a:b"]},{"Id":"2"}]"#,
        ] {
            let images: Vec<Image> = listed(text).expect("a list");
            assert_eq!(images[0].names.as_deref(), Some(["a:b".to_owned()].as_slice()));
        }
        assert!(listed::<Image>("{").is_err());
    }
}
