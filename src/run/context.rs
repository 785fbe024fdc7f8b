//! Whether the files still are what the keys of a job were made of, once the engine or the tests have read them.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Kind, Place, mistake_in_task};
use crate::family::{JobId, Recipe};
use crate::survey;

use super::Session;

/// F-D12: the engine reads the files some time after the survey has hashed them, so that they are hashed once more
/// after it; what was built of others has no place under the key.
///
/// # Errors
/// Where a file that the build can read has come, gone or changed; the first one is named.
pub(super) async fn stands(session: &Session<'_>, recipe: &Recipe, job: &JobId) -> Result<(), Diagnostic> {
    let none = BTreeMap::new();
    let before = session.facts.files.get(job).unwrap_or(&none);
    let (root, of, on) = (session.root.clone(), recipe.clone(), job.clone());
    let triggered = session.facts.triggered(recipe);
    // Reading takes time, and the loop of the run must go on meanwhile.
    let read = tokio::task::spawn_blocking(move || survey::files(&root, &of, &on, &triggered)).await;
    let read = read.map_err(|error| mistake_in_task(format!("reading the context of {job} again"), error))?;
    let now = read.map_err(|problems| {
        problems.iter().fold(changed(job, "it cannot be read again"), Diagnostic::because)
    })?;
    let Some((file, what)) = difference(before, &now) else { return Ok(()) };
    let ignore = recipe.context.join(".dockerignore");
    Err(changed(job, what).at(Place::file(recipe.context.join(file))).hint(format!(
        "or hide the file, if the build does not need it: echo '{file}' >>{}",
        ignore.display()
    )))
}

/// The same of the files of tests on this machine, once those have run: what passed may have read others than the
/// check key was made of, or the tests write to what they are made of.
///
/// # Errors
/// Where one has come, gone or changed; the first one is named.
pub(super) async fn checks_stand(
    session: &Session<'_>,
    recipe: &Recipe,
    job: &JobId,
    before: &BTreeMap<String, String>,
) -> Result<(), Diagnostic> {
    let failed = |what: &str| {
        Diagnostic::new(Kind::Failed, format!("the files of the tests of {job} changed while they ran"))
            .because(what)
            .hint("let tests write elsewhere than to the files and folders that their commands name")
            .hint(format!("or run them again, once nothing else writes there: polyarch build {job}"))
    };
    let (root, of) = (session.root.clone(), recipe.clone());
    let read = tokio::task::spawn_blocking(move || survey::files_of_checks(&root, &of)).await;
    let read = read
        .map_err(|error| mistake_in_task(format!("reading the files of the tests of {job} again"), error))?;
    let now = read
        .map_err(|problems| problems.iter().fold(failed("they cannot be read again"), Diagnostic::because))?;
    match difference(before, &now) {
        None => Ok(()),
        Some((file, what)) => Err(failed(what).at(Place::file(file))),
    }
}

/// The first file that is another than before, and how.
fn difference<'a>(
    before: &'a BTreeMap<String, String>,
    now: &'a BTreeMap<String, String>,
) -> Option<(&'a String, &'static str)> {
    let differs = before.keys().chain(now.keys()).filter(|file| before.get(*file) != now.get(*file));
    differs.min().map(|file| match (before.contains_key(file), now.contains_key(file)) {
        (true, true) => (file, "the file has another content or mode than when the run began"),
        (true, false) => (file, "the file was there when the run began"),
        (false, _) => (file, "the file was not there when the run began"),
    })
}

fn changed(job: &JobId, what: &str) -> Diagnostic {
    let problem = Diagnostic::new(Kind::Failed, format!("the context of {job} changed while it was built"));
    problem
        .because(what)
        .hint(format!("build what stands there now, once nothing writes to it: polyarch build {job}"))
}
