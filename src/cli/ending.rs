//! Scopes that end, and at a registry what was built too long ago, or before what there is room for: a part of
//! `polyarch gc`.

use std::time::Duration;

use serde_json::json;

use crate::diag::{Diagnostic, Kind, Result, count};
use crate::oci::{Error, ErrorKind};
use crate::record::{Ending, Fit, ScopeName};
use crate::report::size;

use super::workshop::Shelf;
use super::{Context, recorder};

/// A grace time that is no longer is shortened to nothing.
const SHORT: Duration = Duration::from_secs(60 * 60);

/// What is to end.
pub(super) struct Wanted<'a> {
    /// Scopes, as a whole.
    pub(super) scopes: &'a [ScopeName],
    /// All scopes but the trusted one in which nothing was made for so long.
    pub(super) idle_for: Option<Duration>,
    /// What was built longer ago in the own scope at the registry, which knows of nothing when it was asked for last.
    pub(super) older_than: Option<Duration>,
    /// What was built the longest time ago there, until it has at most so many bytes.
    pub(super) at_most: Option<u64>,
    /// What is younger stays: what is under way may need it.
    pub(super) grace: Duration,
    pub(super) dry_run: bool,
}

/// Let it end, or only look at it.
///
/// # Errors
/// Of kind policy where it is not this run's to end; where the store fails, or a registry removes nothing.
pub(super) async fn end(context: &Context, shelf: &Shelf, wanted: &Wanted<'_>) -> Result<Vec<Ending>> {
    let records = shelf.records();
    let mut endings = Vec::new();
    let now = recorder::now() / 1_000;
    let before = |age: Duration| now.saturating_sub(age.as_secs());
    for scope in wanted.scopes {
        if scope.is_trusted() {
            return Err(Diagnostic::new(Kind::Policy, "the trusted scope does not end")
                .hint("let go of what is old in it: polyarch gc --unused-for 30d")
                .into());
        }
        if *scope != shelf.scope {
            context.refuse_untrusted(&format!("ending the scope `{scope}`"))?;
        }
        endings.extend(records.all_of(scope).await.map_err(|error| failed(&error))?);
    }
    if let Some(age) = wanted.idle_for {
        context.refuse_untrusted("ending the scopes of others")?;
        let idle =
            records.idle(before(age.max(wanted.grace)), now).await.map_err(|error| unlisted(&error))?;
        for scope in &idle.ageless {
            context.ui.warning(
                &Diagnostic::warning(format!("the scope `{scope}` stays"))
                    .because("nothing in it says when it was made")
                    .hint(format!("if it is over: polyarch gc --end {scope}")),
            );
        }
        let is_new =
            |ending: &Ending| endings.iter().all(|other: &Ending| other.repository != ending.repository);
        let idle: Vec<Ending> = idle.endings.into_iter().filter(is_new).collect();
        endings.extend(idle);
    }
    if let Some(age) = wanted.older_than {
        let before = before(age.max(wanted.grace));
        endings.extend(records.outdated(before, now).await.map_err(|error| failed(&error))?);
    }
    if let Some(limit) = wanted.at_most {
        let fitting = records.fitting(limit, before(wanted.grace), now).await;
        match fitting.map_err(|error| failed(&error))? {
            None | Some(Fit::AsItIs) => {}
            Some(Fit::Ends(ending)) => endings.push(ending),
            Some(Fit::TooMuch(ending, stay)) => {
                endings.extend(ending);
                context.ui.warning(&too_much(stay, limit, "at the registry", wanted.grace));
            }
        }
    }
    let somebody_works = shelf.store.is_leased().await.map_err(|error| failed(&error))?;
    for ending in endings.iter().filter(|_| !wanted.dry_run) {
        records.end(ending, somebody_works).await.map_err(|error| failed(&error))?;
    }
    Ok(endings)
}

/// More stays than was asked for.
pub(super) fn too_much(stay: u64, limit: u64, place: &str, grace: Duration) -> Diagnostic {
    let problem =
        Diagnostic::warning(format!("{} stay {place}, and {} are asked for", size(stay), size(limit)));
    if grace.is_zero() {
        return problem.because("tags lead to the rest, or a run is at work with it");
    }
    let shorter = if grace > SHORT { "1h" } else { "0s" };
    problem
        .because("tags lead to the rest, or it was used within the grace time")
        .hint(format!("shorten that, where no other run needs it: --grace {shorter}"))
}

/// The scopes are not to be had.
fn unlisted(error: &Error) -> Diagnostic {
    let problem = Diagnostic::surroundings("find the scopes of the store").caused_by(error);
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Denied => problem
            .because("they are found by the list of a registry's repositories")
            .hint("where it gives none, name those that are over: polyarch gc --end pr-12"),
        _ => problem,
    }
}

fn failed(error: &Error) -> Diagnostic {
    let problem = Diagnostic::surroundings("end what is kept").caused_by(error);
    match error.kind() {
        ErrorKind::Unsupported => problem.hint(
            "this registry removes nothing that it is asked to; have it allow that, or set a retention in it",
        ),
        ErrorKind::Denied => problem.hint("log in as somebody who may remove: docker login REGISTRY"),
        _ => problem,
    }
}

/// What ends, a line a repository.
pub(super) fn text(dry_run: bool, endings: &[Ending]) -> String {
    let verb = if dry_run { "to end" } else { "ended" };
    let lines = endings.iter().map(|ending| {
        let bytes = ending.images.values().sum();
        let (tags, images) = (count(ending.tags.len(), "tag"), count(ending.images.len(), "image"));
        format!("{verb:<9}{tags}, {images} of {} in {}\n", size(bytes), ending.repository)
    });
    lines.collect()
}

pub(super) fn json(endings: &[Ending]) -> serde_json::Value {
    let all = endings.iter().map(|ending| {
        json!({
            "repository": ending.repository.as_str(),
            "tags": ending.tags.len(),
            "images": ending.images.len(),
            "bytes": ending.images.values().sum::<u64>(),
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_shortened_can_be() {
        let hint = |seconds: u64| too_much(2, 1, "in the folder", Duration::from_secs(seconds)).hints.pop();
        for (grace, to) in [(24 * 60 * 60, "--grace 1h"), (60 * 60, "--grace 0s"), (1, "--grace 0s")] {
            assert!(hint(grace).is_some_and(|hint| hint.ends_with(to)), "{grace}");
        }
        assert_eq!(hint(0), None);
    }
}
