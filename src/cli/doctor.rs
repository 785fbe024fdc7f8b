//! `polyarch doctor`: what works here, what does not, and what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use crate::ci::{self, Service};
use crate::diag::{Diagnostic, Result, count};
use crate::engine::{ImageStore, LayerCache, Room, RunId, Stock, StoreAddress};
use crate::family::{Family, Recipe};
use crate::oci::{self, Layout, Memory, Platform};
use crate::publish;
use crate::report::size;
use crate::run::{self, Builder};

use super::capable::cache_mounts;
use super::disk::Disk;
use super::workshop::{self, Served, Shelf};
use super::workspace::Workspace;
use super::{Context, Ended, fleet, lines, recorder, registries, secrets};

/// How much room most families of images want, in bytes.
const COMMON_ROOM: u64 = 10 << 30;

/// Tell which engines, platforms and registries work here, and what mends what does not
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch doctor                                    the builders of polyarch.toml, or the engine of this machine
  polyarch doctor --builder ssh://build@arm-1        one that is not in polyarch.toml yet")]
pub(super) struct Options {
    #[command(flatten)]
    fleet: fleet::Wanted,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let mut found = Findings::default();
    let read = Workspace::read(context, &BTreeMap::new());
    let builders = builders(context, options, read.as_deref().ok(), &mut found).await;
    match read {
        Ok(workspace) => {
            let images = crate::diag::count(workspace.family.recipes().count(), "image");
            found.well(format!("family {}: {images}", workspace.family.name));
            match Shelf::open(context, &workspace) {
                Ok(shelf) => {
                    room(&shelf.store, &mut found);
                    disk(&shelf.folder, &mut found);
                }
                Err(problems) => found.lacks.extend(problems.iter().cloned()),
            }
            if !builders.is_empty() {
                platforms(&workspace, &builders, &mut found);
                for lack in run::lacks(&workspace.family, &builders) {
                    found.lack(lack);
                }
            }
            let recipes = workspace.family.recipes();
            found.lacks.extend(recipes.flat_map(|recipe| secrets::missing(context, recipe, &workspace.root)));
            approval(&workspace, &mut found);
            registry(context, &workspace, &mut found).await;
        }
        Err(problems) => found.lacks.extend(problems.iter().cloned()),
    }
    lines::close(&RunId::of_this_process("doctor"));
    context.ui.data(&found.text);
    match crate::diag::Problems::check(found.lacks) {
        Ok(()) => Ok(Ended::Well),
        Err(problems) => Err(problems),
    }
}

#[derive(Default)]
struct Findings {
    text: String,
    lacks: Vec<Diagnostic>,
}

impl Findings {
    fn well(&mut self, line: impl std::fmt::Display) {
        self.text.push_str(&format!("ok    {line}\n"));
    }

    /// More about the line before.
    fn more(&mut self, line: impl std::fmt::Display) {
        self.text.push_str(&format!("      {line}\n"));
    }

    /// Something that harms sometimes, and what mends it.
    fn note(&mut self, note: &Diagnostic) {
        self.text.push_str(&format!("note  {}\n", note.message));
        note.causes.iter().for_each(|cause| self.more(cause));
        note.hints.iter().for_each(|hint| self.more(hint));
    }

    fn lack(&mut self, problem: Diagnostic) {
        self.text.push_str(&format!("lack  {}\n", problem.message));
        self.lacks.push(problem);
    }
}

/// TM23: who may begin a run on runners of one's own is a setting of the service, which cannot be seen from here.
fn approval(workspace: &Workspace, found: &mut Findings) {
    let of = |service| ci::own_runners(&workspace.ci, service);
    let said = [
        (
            of(Service::Github),
            "at GitHub: Settings, Actions, General, approval for running fork pull request workflows, all external contributors",
        ),
        (of(Service::Circleci), "at CircleCI: Project Settings, Advanced, do not build forked pull requests"),
    ];
    for (runners, hint) in said {
        if !runners.is_empty() {
            let runners = runners.into_iter().collect::<Vec<_>>().join(", ");
            let note = Diagnostic::warning(format!(
                "strangers' pull requests are built on runners of your own: {runners}"
            ));
            found.note(&note.because("see that a person approves each such run").hint(hint));
        }
    }
}

/// F-G15, before anybody builds: every platform of the family must run somewhere.
fn platforms(workspace: &Workspace, builders: &[Builder], found: &mut Findings) {
    for platform in workspace.family.platforms() {
        let native = builders.iter().find(|builder| builder.facts.native.contains(platform));
        let emulated = builders.iter().find(|builder| builder.facts.emulated.contains(platform));
        let refusing = refusing(&workspace.family, platform);
        match (native, emulated) {
            (Some(builder), _) => found.well(format!("{platform}: native on {}", builder.name)),
            (None, Some(builder)) if refusing.is_empty() => {
                found.well(format!("{platform}: emulated on {}", builder.name));
            }
            (None, Some(builder)) => found.lack(
                Diagnostic::surroundings(format!(
                    "{platform} is only emulated, on {}, and {} that",
                    builder.name,
                    if refusing.len() == 1 { "an image refuses" } else { "images refuse" },
                ))
                .because(refusing.join(", "))
                .hint("allow it in polyarch.toml: emulate = \"allow\""),
            ),
            (None, None) => found.lack(
                Diagnostic::surroundings(format!("nothing runs {platform}"))
                    .hint(Builder::to_have(platform, builders)),
            ),
        }
    }
}

/// The images that may not be built by emulation for a platform of theirs.
fn refusing(family: &Family, platform: &Platform) -> Vec<String> {
    let refuses =
        |recipe: &&Recipe| recipe.terms.get(platform).is_some_and(|terms| !terms.emulation.is_allowed());
    family.recipes().filter(refuses).map(|recipe| recipe.unit.to_string()).collect()
}

/// Where engines find the store while they are looked at: nowhere, where there is none to serve.
async fn served(shelf: Option<&Shelf>) -> (StoreAddress, Option<Served>) {
    let served = match shelf {
        Some(shelf) => shelf.serve().await.ok(),
        None => None,
    };
    (served.as_ref().map_or_else(workshop::nowhere, |served| served.address.clone()), served)
}

async fn builders(
    context: &Context,
    options: &Options,
    workspace: Option<&Workspace>,
    found: &mut Findings,
) -> Vec<Builder> {
    lines::sweep();
    let run = RunId::of_this_process("doctor");
    // What is called after the run is swept once that is over, should this process be killed.
    let scratch = match tempfile::Builder::new().prefix(&lines::scratch_prefix(&run)).tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            found.lack(Diagnostic::surroundings("make a temporary folder").caused_by(&error));
            return Vec::new();
        }
    };
    let shelf = workspace.and_then(|workspace| Shelf::open(context, workspace).ok());
    let nothing = || Stock::new(Arc::new(Memory::new()), scratch.path().to_owned());
    let stock = shelf.as_ref().map_or_else(nothing, Shelf::stock);
    let (none, here) = (BTreeMap::new(), context.common.directory.clone());
    let configured = workspace.map_or(&none, |workspace| &workspace.builders);
    let root = workspace.map_or(&*here, |workspace| &workspace.root);
    let (address, served) = served(shelf.as_ref()).await;
    let knocks = served.as_ref().map(|served| served.knocks.clone());
    let ground = fleet::Ground::new(&run, scratch.path(), stock, knocks);
    match fleet::each(context, root, configured, &options.fleet, &ground, &address).await {
        Ok((builders, problems)) => {
            for builder in &builders {
                describe(builder, builder.engine.room().await, found);
            }
            let problems = problems.into_values().chain(fleet::twins(&builders));
            problems.for_each(|problem| found.lack(problem));
            builders
        }
        Err(problems) => {
            found.lacks.extend(problems.iter().cloned());
            Vec::new()
        }
    }
}

/// What a builder is and can do.
fn describe(builder: &Builder, room: Option<Room>, found: &mut Findings) {
    let facts = &builder.facts;
    let buildx = match (&facts.buildx, facts.image_store) {
        (Some(version), _) => format!(", buildx {version}"),
        (None, ImageStore::Containers { .. }) => String::new(),
        (None, _) => ", no buildx".to_owned(),
    };
    let store = match builder.engine.runs_containers() {
        true => facts.image_store.to_string(),
        false => "only builds".to_owned(),
    };
    found.well(format!(
        "{}: {}, {}, {store}{buildx}, {}, {}",
        builder.name,
        builder.engine.name(),
        facts.version,
        facts.processors.map_or_else(|| "processors unknown".to_owned(), |number| count(number, "processor")),
        count(builder.slots, "slot"),
    ));
    let list = |platforms: &BTreeSet<Platform>| {
        platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    found.more(format!("native: {}", list(&facts.native)));
    match facts.emulated.is_empty() {
        false => found.more(format!("emulated, 10 to 50 times slower: {}", list(&facts.emulated))),
        true => found.more(
            "nothing is emulated; for other platforms: sudo apt-get install qemu-user-static binfmt-support",
        ),
    }
    if !builder.labels.is_empty() {
        let labels: Vec<&str> = builder.labels.iter().map(String::as_str).collect();
        found.more(format!("labels: {}", labels.join(", ")));
    }
    found.more(format!("content: {}", builder.engine.delivery()));
    found.more(format!("layer cache: {}", LayerCache::of(facts, builder.engine.delivery())));
    found.more(cache_mounts(facts));
    match (&facts.root, room) {
        (Some(_), Some(room)) => found.more(format!("images: {room}")),
        (Some(root), None) => {
            found.more(format!("images in {}: how much is free cannot be seen from here", root.display()))
        }
        (None, _) => {}
    }
    facts.notes.iter().chain(&facts.holes).for_each(|note| found.note(note));
    fleet::skewed(builder, recorder::now()).iter().for_each(|warning| found.note(warning));
}

fn room(store: &Layout, found: &mut Findings) {
    let folder = store.root().display();
    match store.room() {
        Ok(room) => judge_room(&format!("store {folder}: {} free", size(room.free)), room, found),
        Err(error) => {
            found.lack(Diagnostic::surroundings(format!("ask how much room {folder} has")).caused_by(&error))
        }
    }
}

/// A run makes room where there is little, which is an error where it has yet to begin.
fn judge_room(line: &str, room: oci::Room, found: &mut Findings) {
    let larger = "choose a folder on a larger disk: --store DIR";
    if room.is_little() {
        found.lack(Diagnostic::surroundings(format!("{line}, too little to begin with")).hint(larger));
    } else if room.free < COMMON_ROOM {
        let wanted = format!("most families of images want {} and more", size(COMMON_ROOM));
        found.note(&Diagnostic::warning(line).because(wanted).hint(larger));
    } else {
        found.well(line);
    }
}

/// Warnings of a disk that keeps names, folders or locks otherwise than a store relies on.
fn disk(folder: &Path, found: &mut Findings) {
    match Disk::probe(folder) {
        Ok(disk) => disk.warnings(folder).iter().for_each(|warning| found.note(warning)),
        Err(error) => {
            let what = format!("write in {}", folder.display());
            found.lack(Diagnostic::surroundings(what).caused_by(&error));
        }
    }
}

async fn registry(context: &Context, workspace: &Workspace, found: &mut Findings) {
    let Some(name) = &workspace.family.registry else {
        return found.well("registry: the embedded one");
    };
    let Some(repository) = workspace.family.repositories().next().map(|(_, repository)| repository.clone())
    else {
        return;
    };
    let registries = match registries::registries(context) {
        Ok(registries) => registries,
        Err(problems) => return found.lacks.extend(problems.iter().cloned()),
    };
    let asked = match registries(name) {
        Ok(registry) => registry.tags(&repository, None, 1).await.map(drop),
        Err(error) => Err(error),
    };
    match asked {
        Ok(()) => found.well(format!("registry {name}: answers")),
        Err(error) => {
            let message = format!("registry {name} does not answer for {repository}");
            found.lack(publish::failure(message, name, &error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_lacks_room_where_a_run_would_begin_by_making_some() {
        const GIB: u64 = 1 << 30;
        let table = [
            (100 * GIB, 400 * GIB, "ok    it\n", 0),
            (3 * GIB, 400 * GIB, "note  it\n      most families of images want 10.7 GB", 0),
            (2 * GIB - 1, 400 * GIB, "lack  it, too little to begin with\n", 1),
            // A small disk that is all free.
            (GIB, GIB, "note  it\n", 0),
            (GIB / 11, GIB, "lack  it", 1),
        ];
        for (free, whole, told, lacks) in table {
            let mut found = Findings::default();
            judge_room("it", oci::Room { free, whole }, &mut found);
            assert!(found.text.starts_with(told), "{free}: {}", found.text);
            assert_eq!(found.lacks.len(), lacks, "{free}");
        }
    }
}
