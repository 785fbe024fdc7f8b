//! Which commits no publication was of. A service that keeps only the newest of the runs that wait passes over the others,
//! and so does whoever pushes several at once.

use crate::cli::Context;
use crate::cli::plan::Planning;
use crate::cli::publish::{settled_homes, target};
use crate::cli::publisher::{Made, commits_since};
use crate::diag::{Result, count};
use crate::publish::{Homes, Listed, State, publications};

/// As many commits are looked at.
const LIMIT: usize = 50;
/// As many are named.
const NAMED: usize = 10;

/// Tell of the commits between that of the newest publication and that of this one, where the family goes as a whole.
pub(super) async fn tell(context: &Context, planning: &Planning, to: Option<&str>) -> Result<()> {
    let target = target(context, &planning.workspace, &planning.shelf, to)?;
    let Homes::One(home) = settled_homes(&planning.workspace.family, &target).await? else { return Ok(()) };
    let listed = publications(target.towards(), &home).await?;
    let Some((last, commit)) = newest(&listed) else { return Ok(()) };
    let Some(made) = commits_since(context, &planning.workspace.root, commit, LIMIT).await else {
        return Ok(());
    };
    let over = passed_over(&made, last.generation.commit_seconds);
    if !over.is_empty() {
        context.ui.note(&told(&over, commit));
    }
    Ok(())
}

/// The newest publication whose tags have been moved, where it was of a commit.
fn newest(listed: &[Listed]) -> Option<(&Listed, &str)> {
    let is_one =
        |one: &&Listed| one.rolls_back.is_none() && matches!(one.state, State::Done | State::RolledBack(_));
    let last = listed.iter().find(is_one)?;
    // It stands at a registry, where others may have written it.
    let is_commit = |text: &&str| text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((last, last.commit.as_deref().filter(is_commit)?))
}

/// Of commits, newest first, those that no publication was of: the first is to be published now. One that moved no tag was
/// written down as how new the one before it is.
fn passed_over(made: &[Made], published_seconds: u64) -> Vec<&str> {
    let before = made.iter().skip(1).filter(|one| one.seconds > published_seconds);
    before.map(|one| one.commit.get(..12).unwrap_or(&one.commit)).collect()
}

fn told(over: &[&str], last: &str) -> String {
    let more = if over.len() > NAMED { " …" } else { "" };
    let named = over.iter().take(NAMED).copied().collect::<Vec<_>>().join(" ");
    let least = if over.len() + 1 >= LIMIT { "at least " } else { "" };
    let number = count(over.len(), "commit");
    format!("{least}{number} passed over since the publication of {last}, newest first: {named}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_23_as_many_commits_are_named_as_one_reads() {
        let made = |number: u64| -> Vec<Made> {
            let one = |seconds: u64| Made { commit: format!("{seconds:012}{seconds:028}"), seconds };
            (1..=number).rev().map(one).collect()
        };
        let told = |number, published| told(&passed_over(&made(number), published), "0123456789ab");
        assert!(passed_over(&made(1), 0).is_empty() && passed_over(&[], 0).is_empty());
        assert!(passed_over(&made(3), 2).is_empty(), "they were published, and moved nothing");
        assert_eq!(
            told(3, 0),
            "2 commits passed over since the publication of 0123456789ab, newest first: \
             000000000002 000000000001"
        );
        assert!(told(12, 0).ends_with(" …") && told(12, 0).starts_with("11 commits"));
        assert!(told(50, 0).starts_with("at least 49 commits"));
    }
}
