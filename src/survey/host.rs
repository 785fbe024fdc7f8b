//! The files of tests that run on this machine: what their commands name, and what the configuration adds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::config::Inside;
use crate::diag::{Diagnostic, Problems, Result};
use crate::dockerfile::Ignore;
use crate::family::{Action, CheckKind, Family, Recipe, Unit};

use super::context::{entries, state_of, unreadable};
use super::memo::Memo;

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
pub(super) fn read(root: &Path, family: &Family, memo: &Memo) -> Result<BTreeMap<Unit, States>> {
    let mut reading = Reading::new(root, memo);
    let mut all = BTreeMap::new();
    for recipe in family.recipes() {
        let states = reading.of(recipe)?;
        if !states.is_empty() {
            all.insert(recipe.unit.clone(), states);
        }
    }
    Problems::check(reading.problems).map(|()| all)
}

/// The same for one unit, as its files stand now.
///
/// # Errors
/// As [`read`].
pub(super) fn read_again(root: &Path, recipe: &Recipe) -> Result<States> {
    let memo = Memo::none();
    let mut reading = Reading::new(root, &memo);
    let states = reading.of(recipe)?;
    Problems::check(reading.problems).map(|()| states)
}

/// A look at files, each once however many units have a test of it.
struct Reading<'a> {
    root: &'a Path,
    memo: &'a Memo,
    seen: BTreeMap<PathBuf, States>,
    problems: Vec<Diagnostic>,
}

impl<'a> Reading<'a> {
    fn new(root: &'a Path, memo: &'a Memo) -> Self {
        Self { root, memo, seen: BTreeMap::new(), problems: Vec::new() }
    }

    fn of(&mut self, recipe: &Recipe) -> Result<States> {
        let mut states = States::new();
        for check in &recipe.checks {
            let CheckKind::Test { action: Action::Host { run, files }, .. } = &check.kind else { continue };
            let mut paths: Vec<PathBuf> = words(run).filter(|path| is_meant(self.root, path)).collect();
            for file in files {
                let problem = Diagnostic::request(format!("{} of a test is not there", file.path.display()))
                    .at(file.place.clone())
                    .hint("correct `files`, whose paths count from the folder of polyarch.toml");
                match is_there(self.root, &file.path) {
                    true => paths.push(file.path.clone()),
                    // Who inherits the test has the same problem.
                    false if self.problems.contains(&problem) => {}
                    false => self.problems.push(problem),
                }
            }
            for path in paths {
                if !self.seen.contains_key(&path) {
                    self.seen.insert(path.clone(), states_of(self.root, &path, caches()?, self.memo)?);
                }
                states.extend(self.seen[&path].clone());
            }
        }
        Ok(states)
    }
}

/// [`CACHES`] as patterns, made once and only where a test reads files: that takes longer than all else here.
fn caches() -> Result<&'static Ignore> {
    static READ: OnceLock<Ignore> = OnceLock::new();
    match READ.get() {
        Some(read) => Ok(read),
        None => Ignore::parse(Path::new("caches"), CACHES).map(|read| READ.get_or_init(|| read)),
    }
}

fn is_there(root: &Path, path: &Path) -> bool {
    std::fs::symlink_metadata(root.join(path)).is_ok()
}

/// What may be paths in a command: its words, and what stands before a `::` in them. What a command writes to, behind
/// a `>` or to `tee`, is none of them; nor is the value of an option, which mostly is a report's.
fn words(command: &str) -> impl Iterator<Item = PathBuf> {
    let read: String = command.split('|').filter(|part| !part.trim_start().starts_with("tee ")).fold(
        String::new(),
        |mut all, part| {
            all.push_str(part);
            all.push('|');
            all
        },
    );
    let mut pieces = read.split('>');
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // The first word behind is what is written to.
        let behind = piece.trim_start_matches([' ', '\t', '&']);
        kept.push_str(behind.find(ENDS).map_or("", |end| &behind[end..]));
    }
    let words: Vec<String> = kept.split(ENDS).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let parts = words.into_iter().flat_map(|word| {
        let file = word.split_once("::").map(|(file, _)| file.to_owned());
        [Some(word), file]
    });
    parts.flatten().filter_map(|word| Some(word.parse::<Inside>().ok()?.path().to_owned()))
}

/// Whether a word is a path of the project: one without a `/` or a `.` may be a program's name or an option's value,
/// and counts only where it is a file.
fn is_meant(root: &Path, path: &Path) -> bool {
    let written = path.as_os_str().as_encoded_bytes();
    match std::fs::metadata(root.join(path)) {
        Ok(found) => found.is_file() || written.iter().any(|byte| matches!(byte, b'/' | b'.')),
        Err(_) => is_there(root, path),
    }
}

/// The state of a file, or of a folder with all that it holds; of a link and of what it leads to.
fn states_of(root: &Path, path: &Path, caches: &Ignore, memo: &Memo) -> Result<States> {
    let whole = root.join(path);
    let mut states = States::new();
    let mut put = |path: &Path, whole: &Path, metadata: &std::fs::Metadata, suffix: &str| -> Result<()> {
        let state = state_of(whole, path, metadata, memo)?;
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
        let command =
            "cd ./tests && sh 'check.sh' --file=b/c /etc/x ../up t.py::one;ls >out.log 2>&1 x | tee log | y";
        let found: Vec<String> = words(command).map(|path| path.display().to_string()).collect();
        for path in ["tests", "check.sh", "t.py", "ls", "x", "y"] {
            assert!(found.iter().any(|word| word == path), "{path} in {found:?}");
        }
        for path in ["out.log", "log", "b/c"] {
            assert!(!found.iter().any(|word| word == path), "{path} in {found:?}");
        }
        assert!(!found.iter().any(|path| path.contains("etc") || path.contains("up")), "{found:?}");
    }
}
