//! `polyarch doctor`: what works here, what does not, and what to do about it.

use std::path::Path;

use clap::Args;

use crate::diag::{Diagnostic, Result};
use crate::engine::EngineFacts;
use crate::family::Emulation;
use crate::publish;
use crate::report::size;

use super::workshop::{self, Shelf};
use super::workspace::Workspace;
use super::{Context, Ended, registries, secrets};

/// How much room a family of images wants at least, in bytes.
const ROOM: u64 = 10 << 30;

/// Tell which engines, platforms and registries work here, and what mends what does not
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch doctor")]
pub(super) struct Options {}

pub(super) async fn run(context: &Context, _options: &Options) -> Result<Ended> {
    let mut found = Findings::default();
    let facts = engine(context, &mut found).await;
    match Workspace::read(context, &std::collections::BTreeMap::new()) {
        Ok(workspace) => {
            let images = crate::diag::count(workspace.family.recipes().count(), "image");
            found.well(format!("family {}: {images}", workspace.family.name));
            match Shelf::open(context, &workspace) {
                Ok(shelf) => room(&shelf.folder, &mut found),
                Err(problems) => found.lacks.extend(problems.iter().cloned()),
            }
            if let Some(facts) = facts {
                platforms(&workspace, &facts, &mut found);
            }
            let recipes = workspace.family.recipes();
            found.lacks.extend(recipes.flat_map(|recipe| secrets::missing(context, recipe, &workspace.root)));
            registry(context, &workspace, &mut found).await;
        }
        Err(problems) => found.lacks.extend(problems.iter().cloned()),
    }
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

    fn lack(&mut self, problem: Diagnostic) {
        self.text.push_str(&format!("lack  {}\n", problem.message));
        self.lacks.push(problem);
    }
}

/// F-G15, before anybody builds: every platform of the family must run here.
fn platforms(workspace: &Workspace, facts: &EngineFacts, found: &mut Findings) {
    for platform in workspace.family.platforms() {
        let emulated = facts.emulated.contains(platform);
        let allowed = workspace.family.emulation == Emulation::Allowed;
        match (facts.native.contains(platform), emulated && allowed, emulated) {
            (true, ..) => found.well(format!("{platform}: native here")),
            (_, true, _) => found.well(format!("{platform}: emulated here")),
            (.., true) => found.lack(
                Diagnostic::surroundings(format!(
                    "{platform} is only emulated here, and the family refuses that"
                ))
                .hint("allow it in polyarch.toml: emulate = \"allow\""),
            ),
            _ => {
                found.lack(Diagnostic::surroundings(format!("nothing runs {platform} here")).hint(
                    "let this machine emulate it: sudo apt-get install qemu-user-static binfmt-support",
                ))
            }
        }
    }
}

async fn engine(context: &Context, found: &mut Findings) -> Option<EngineFacts> {
    let scratch = match tempfile::Builder::new().prefix("polyarch-doctor-").tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            found.lack(Diagnostic::surroundings("make a temporary folder").caused_by(&error));
            return None;
        }
    };
    let engine = workshop::local_engine(context, scratch.path(), None);
    match engine.probe().await {
        Ok(facts) => {
            let store = match facts.image_store {
                crate::engine::ImageStore::Classic => "classic image store",
                crate::engine::ImageStore::Containerd => "containerd image store",
            };
            let buildx = facts
                .buildx
                .as_ref()
                .map_or_else(|| "no buildx".to_owned(), |version| format!("buildx {version}"));
            found.well(format!(
                "{}: {}, {store}, {buildx}, {} processors",
                engine.name(),
                facts.version,
                facts.processors
            ));
            let list = |platforms: &std::collections::BTreeSet<crate::oci::Platform>| {
                platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            };
            found.well(format!("native: {}", list(&facts.native)));
            match facts.emulated.is_empty() {
                false => found.well(format!("emulated, 10 to 50 times slower: {}", list(&facts.emulated))),
                true => found.text.push_str(
                    "note  nothing is emulated; for other platforms: sudo apt-get install qemu-user-static binfmt-support\n",
                ),
            }
            for note in &facts.notes {
                found.text.push_str(&format!("note  {}\n", note.message));
                for hint in &note.hints {
                    found.text.push_str(&format!("      {hint}\n"));
                }
            }
            Some(facts)
        }
        Err(problem) => {
            found.lack(problem);
            None
        }
    }
}

fn room(folder: &Path, found: &mut Findings) {
    match rustix::fs::statvfs(folder) {
        Ok(state) => {
            let free = state.f_bavail * state.f_frsize;
            let line = format!("store {}: {} free", folder.display(), size(free));
            match free >= ROOM {
                true => found.well(line),
                false => found.lack(
                    Diagnostic::surroundings(format!("{line}, less than {}", size(ROOM)))
                        .hint("choose a folder on a larger disk: --store DIR"),
                ),
            }
        }
        Err(error) => found.lack(
            Diagnostic::surroundings(format!("ask how much room {} has", folder.display())).because(error),
        ),
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
            let problem =
                Diagnostic::surroundings(format!("registry {name} does not answer for {repository}"))
                    .caused_by(&error);
            found.lack(publish::hints(name, &error).into_iter().fold(problem, Diagnostic::hint));
        }
    }
}
