//! `polyarch gc`: take out of a store what nothing leads to any more.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::config::{Bytes, StorePlace};
use crate::diag::{Diagnostic, Kind, Problems, Result, count};
use crate::oci::{Collected, Collection, Error, ErrorKind, Repository, Scrubbed, Tag, Unused};
use crate::record::{Ending, ScopeName};
use crate::report::size;

use super::shrinking::{self, Fit};
use super::workshop::Shelf;
use super::workspace::Workspace;
use super::{Context, Ended, Format, ending, room};

/// Remove what no tag of the store leads to any more
///
/// It may run while others build, publish and serve: what was written, or found by somebody, within the grace time
/// stays, and so does all that a run has seen that is still at work.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch gc --dry-run                  what would go
  polyarch gc                            remove what nobody has needed for a day
  polyarch gc --unused-for 30d           and the builds that no run has asked for in a month
  polyarch gc --at-most 20GB --dry-run   what would go, so that no more than that stays
  polyarch gc --end pr-12                and all that the runs of a pull request have kept
  polyarch gc --end-after 14d            and all of those that were left for two weeks
  polyarch gc --grace 1h --store DIR
  polyarch gc --scrub                    and read everything, to see whether it is still whole
  polyarch gc --format json | jq .bytes

With --scrub the exit code is 1 where something was broken. It lies in the folder `quarantine` of the store then, \
    as if it had never been there: the next build or push brings it back.")]
pub(super) struct Options {
    /// Remove nothing; say what would go
    #[arg(long)]
    dry_run: bool,
    /// What was written or found within this time stays, as in 90s, 30m, 24h, 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    grace: Duration,
    /// Let go of records that no run has asked for within this time, and so of what was built; at a registry, which does not
    /// know that, of those that were made longer ago and that nothing younger stands on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    unused_for: Option<Duration>,
    /// Let go of the records of which the folder's runs have not asked for the longest time, until it has at most so many
    /// bytes, as in 500MB, 20GB; what was used within the grace time stays. At a registry the same of the own scope there, of
    /// what was made the longest time ago and nothing younger stands on
    #[arg(long, value_name = "SIZE", conflicts_with = "unused_for")]
    at_most: Option<Bytes>,
    /// End a scope as of a pull request that is over: all that is kept in it goes, in the folder and at the registry; may be
    /// given several times
    #[arg(long, value_name = "SCOPE")]
    end: Vec<ScopeName>,
    /// End all scopes but the trusted one in which nothing was built or kept for so long: of the folder, and of a registry
    /// that lists its repositories
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    end_after: Option<Duration>,
    /// Read all content and set aside what no longer has its digest
    #[arg(long, conflicts_with = "dry_run")]
    scrub: bool,
    /// The form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let folder = folder(context)?;
    if !folder.exists() {
        let problem = Diagnostic::request(format!("there is no store in {}", folder.display()));
        return Err(problem.hint("make one: polyarch build").into());
    }
    let shelf = Shelf::meant(context)?;
    // What is looked at here to be let go must not stay for that.
    shelf.store.look_quietly();
    let wanted = ending::Wanted {
        scopes: &options.end,
        idle_for: options.end_after,
        older_than: options.unused_for,
        at_most: options.at_most.map(|Bytes(limit)| limit),
        grace: options.grace,
        dry_run: options.dry_run,
    };
    let endings = ending::end(context, &shelf, &wanted).await?;
    // What is broken must not keep alive what it seems to lead to.
    let scrubbed = match options.scrub {
        true => Some(shelf.store.scrub().await.map_err(|error| problem("read the store", &error))?),
        false => None,
    };
    let ended: Vec<(Repository, Tag)> = endings.iter().flat_map(Ending::pointers).collect();
    let age = match options.at_most {
        Some(Bytes(limit)) => shrunk(context, &shelf, limit, options.grace, &ended).await?,
        None => options.unused_for,
    };
    let unused = age.map(|age| Unused { within: room::BUILT.to_owned(), age });
    let collection = Collection { grace: options.grace, dry_run: options.dry_run, unused, ended };
    let collected = shelf.store.collect(collection).await;
    let collected = collected.map_err(|error| problem("collect garbage", &error))?;
    shelf.store.flush().await.map_err(|error| problem("write the list of images", &error))?;
    context.ui.data(&match options.format {
        Format::Text => {
            ending::text(options.dry_run, &endings) + &text(options.dry_run, &collected, scrubbed.as_ref())
        }
        Format::Json => {
            let mut told = json(options.dry_run, &collected, scrubbed.as_ref());
            told["ended"] = ending::json(&endings);
            format!("{told:#}\n")
        }
    });
    for (repository, why) in &collected.passed_over {
        context.ui.warning(&Diagnostic {
            severity: crate::diag::Severity::Warning,
            ..Diagnostic::surroundings(format!("nothing was removed from {repository}: {why}"))
                .hint("set aside what is broken: polyarch gc --scrub")
        });
    }
    let broken = scrubbed.into_iter().flat_map(|scrubbed| scrubbed.broken);
    let broken = broken.map(|digest| {
        Diagnostic::new(Kind::Failed, format!("{digest} was broken and lies in `quarantine` now"))
            .hint("bring it back: polyarch build")
    });
    Problems::check(broken.collect())?;
    Ok(Ended::Well)
}

/// How long what nobody asks for may stay, so that the folder has at most so many bytes.
async fn shrunk(
    context: &Context,
    shelf: &Shelf,
    limit: u64,
    grace: Duration,
    ended: &[(Repository, Tag)],
) -> Result<Option<Duration>> {
    let fit = shrinking::fit(&shelf.store, limit, grace, ended).await;
    Ok(match fit.map_err(|error| problem("look at what the store holds", &error))? {
        Fit::AsItIs => None,
        Fit::Within(age) => Some(age),
        Fit::TooMuch(kept) => {
            context.ui.warning(&ending::too_much(kept, limit, "in the folder", grace));
            Some(grace)
        }
    })
}

/// The store that is meant. Its family need not hold together, where the store is named.
fn folder(context: &Context) -> Result<PathBuf> {
    match &context.common.store {
        Some(StorePlace::Folder(folder)) => Ok(folder.clone()),
        _ => Shelf::folder(context, &*Workspace::read(context, &std::collections::BTreeMap::new())?),
    }
}

fn problem(doing: &str, error: &Error) -> Diagnostic {
    let problem = Diagnostic::surroundings(doing).caused_by(error);
    match error.kind() {
        ErrorKind::Passing => problem.hint("wait for the other one, and try again: polyarch gc"),
        ErrorKind::Full => problem.hint("make a little room on the disk, and try again: polyarch gc"),
        _ => problem,
    }
}

fn text(dry_run: bool, collected: &Collected, scrubbed: Option<&Scrubbed>) -> String {
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let mut text = String::new();
    if let Some(scrubbed) = scrubbed {
        let files = count(number(scrubbed.files), "file");
        text.push_str(&format!("read     {files}, {}", size(scrubbed.bytes)));
        text.push_str(&format!("; {} broken\n", scrubbed.broken.len()));
    }
    let line =
        |verb: &str, files, bytes| format!("{verb:<9}{}, {}\n", count(number(files), "file"), size(bytes));
    if collected.tags > 0 {
        let verb = if dry_run { "to go" } else { "removed" };
        text.push_str(&format!("{verb:<9}{}\n", count(number(collected.tags), "unused record")));
    }
    text.push_str(&line(if dry_run { "to go" } else { "removed" }, collected.files, collected.bytes));
    if collected.leftovers > 0 {
        let verb = if dry_run { "to go" } else { "removed" };
        let leftovers = count(number(collected.leftovers), "unfinished upload");
        text.push_str(&format!("{verb:<9}{leftovers}, {}\n", size(collected.leftover_bytes)));
    }
    text + &line("kept", collected.kept_files, collected.kept_bytes)
}

fn json(dry_run: bool, collected: &Collected, scrubbed: Option<&Scrubbed>) -> serde_json::Value {
    json!({
        "dry_run": dry_run,
        "tags": collected.tags,
        "documents": collected.documents,
        "blobs": collected.blobs,
        "files": collected.files,
        "bytes": collected.bytes,
        "leftovers": { "files": collected.leftovers, "bytes": collected.leftover_bytes },
        "kept": { "files": collected.kept_files, "bytes": collected.kept_bytes },
        "passed_over": collected.passed_over.iter().map(|(repository, why)| {
            json!({ "repository": repository.as_str(), "why": why })
        }).collect::<Vec<_>>(),
        "scrub": scrubbed.map(|scrubbed| json!({
            "files": scrubbed.files,
            "bytes": scrubbed.bytes,
            "broken": scrubbed.broken,
            "foreign": scrubbed.foreign,
        })),
    })
}

/// A number and a unit.
fn duration(written: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("`{written}` is no time: write it as 90s, 30m, 24h or 7d");
    let unit = written.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number = &written[..written.len() - unit.len_utf8()];
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| number.parse::<u64>().ok()?.checked_mul(seconds)).flatten();
    number.map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_c6_times_are_read_or_refused() {
        let seconds = |text| duration(text).ok().map(|time| time.as_secs());
        let table = [("0s", 0), ("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)];
        for (text, expected) in table {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "h",
            "24",
            "-1h",
            "+1h",
            "1.5h",
            "1 h",
            "1w",
            "1é",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
