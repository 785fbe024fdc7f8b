//! The files of tests that run on this machine: what their commands name, and what the configuration adds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Inside;
use crate::diag::{Diagnostic, Problems, Result};
use crate::dockerfile::Ignore;
use crate::family::{Action, CheckKind, Family, Unit};

use super::context::{entries, state_of, unreadable};

/// What tools and this program leave in a folder, and no test is made of.
const CACHES: &str =
    "**/__pycache__\n**/.pytest_cache\n**/.mypy_cache\n**/.ruff_cache\n**/.git\n**/.polyarch\n";
/// What ends a word of a shell's command.
const ENDS: &[char] = &[' ', '\t', '\n', '\r', ';', '|', '&', '(', ')', '<', '>', '"', '\'', '`'];

/// Each thing by its path, and its state.
type States = BTreeMap<String, String>;

/// For each unit with tests on this machine the files that those read, as far as they name them.
///
/// # Errors
/// Where a file that the configuration names is not there, and where one cannot be read.
pub(super) fn read(root: &Path, family: &Family) -> Result<BTreeMap<Unit, States>> {
    let caches = Ignore::parse(Path::new("caches"), CACHES)?;
    let mut seen = BTreeMap::<PathBuf, States>::new();
    let mut problems = Vec::new();
    let mut all = BTreeMap::new();
    for recipe in family.recipes() {
        let mut states = States::new();
        for check in &recipe.checks {
            let CheckKind::Test { action: Action::Host { run, files }, .. } = &check.kind else { continue };
            let mut paths: Vec<PathBuf> = words(run).filter(|path| is_there(root, path)).collect();
            for file in files {
                let problem = Diagnostic::request(format!("{} of a test is not there", file.path.display()))
                    .at(file.place.clone())
                    .hint("correct `files`, whose paths count from the folder of polyarch.toml");
                match is_there(root, &file.path) {
                    true => paths.push(file.path.clone()),
                    // Who inherits the test has the same problem.
                    false if problems.contains(&problem) => {}
                    false => problems.push(problem),
                }
            }
            for path in paths {
                if !seen.contains_key(&path) {
                    seen.insert(path.clone(), states_of(root, &path, &caches)?);
                }
                states.extend(seen[&path].clone());
            }
        }
        if !states.is_empty() {
            all.insert(recipe.unit.clone(), states);
        }
    }
    Problems::check(problems)?;
    Ok(all)
}

fn is_there(root: &Path, path: &Path) -> bool {
    std::fs::symlink_metadata(root.join(path)).is_ok()
}

/// What may be paths in a command: its words, what follows a `=` in them, and what stands before a `::`.
fn words(command: &str) -> impl Iterator<Item = PathBuf> {
    let words = command.split(ENDS).filter(|word| !word.is_empty());
    let parts = words.flat_map(|word| [Some(word), word.split_once('=').map(|(_, value)| value)]);
    let parts = parts.flatten().flat_map(|word| [Some(word), word.split_once("::").map(|(file, _)| file)]);
    parts.flatten().filter_map(|word| Some(word.parse::<Inside>().ok()?.path().to_owned()))
}

/// The state of a file, or of a folder with all that it holds; of a link and of what it leads to.
fn states_of(root: &Path, path: &Path, caches: &Ignore) -> Result<States> {
    let whole = root.join(path);
    let mut states = States::new();
    let mut put = |path: &Path, whole: &Path, metadata: &std::fs::Metadata, suffix: &str| -> Result<()> {
        let state = state_of(whole, path, metadata)?;
        states.extend(state.map(|state| (format!("{}{suffix}", path.display()), state)));
        Ok(())
    };
    let own = std::fs::symlink_metadata(&whole).map_err(|error| unreadable(path, &error))?;
    put(path, &whole, &own, "")?;
    // A link that leads nowhere is left to the test.
    let Ok(behind) = std::fs::metadata(&whole) else { return Ok(states) };
    if own.is_symlink() {
        put(path, &whole, &behind, "/")?;
    }
    if behind.is_dir() {
        for entry in entries(&whole, path, caches)?.iter().filter(|entry| !caches.ignores(&entry.name)) {
            put(&path.join(&entry.path), &whole.join(&entry.path), &entry.metadata, "")?;
        }
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_files_by_its_words() {
        let command = "cd ./tests && X=conf/a.sh sh 'check.sh' --file=b/../c /etc/x ../up t.py::one;ls";
        let found: Vec<String> = words(command).map(|path| path.display().to_string()).collect();
        for path in ["tests", "conf/a.sh", "check.sh", "c", "t.py", "ls"] {
            assert!(found.iter().any(|word| word == path), "{path} in {found:?}");
        }
        assert!(!found.iter().any(|path| path.contains("etc") || path.contains("up")), "{found:?}");
    }
}
