//! Whether a build context still is what the key of a job was made of, once the engine has read it.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Kind, Place};
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
    let read = read.map_err(|error| Diagnostic::new(Kind::Bug, "read a context again").caused_by(&error))?;
    let now = read.map_err(|problems| {
        problems.iter().fold(changed(job, "it cannot be read again"), Diagnostic::because)
    })?;
    let differs = before.keys().chain(now.keys()).filter(|file| before.get(*file) != now.get(*file)).min();
    let Some(file) = differs else { return Ok(()) };
    let what = match (before.contains_key(file), now.contains_key(file)) {
        (true, true) => "the file has another content or mode than when the run began",
        (true, false) => "the file was there when the run began",
        (false, _) => "the file was not there when the run began",
    };
    let ignore = recipe.context.join(".dockerignore");
    Err(changed(job, what).at(Place::file(recipe.context.join(file))).hint(format!(
        "or hide the file, if the build does not need it: echo '{file}' >>{}",
        ignore.display()
    )))
}

fn changed(job: &JobId, what: &str) -> Diagnostic {
    let problem = Diagnostic::new(Kind::Failed, format!("the context of {job} changed while it was built"));
    problem
        .because(what)
        .hint(format!("build what stands there now, once nothing writes to it: polyarch build {job}"))
}
