//! Who publishes: the name of this publication, how new it is, and by which process a later one can tell that it is
//! gone.

use std::path::Path;
use std::time::Duration;

use crate::diag::{Diagnostic, Result};
use crate::engine::process::{Program, find_all};
use crate::publish::{Generation, Publisher};

use super::{Context, commit, recorder};

/// How long another publication is waited for where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long Git may take.
const GIT: Duration = Duration::from_secs(10);
/// As much is read of what it says.
const GIT_BYTES: usize = 4 << 10;

/// When a run was planned, and of what: taken once, so that whatever it does means the same.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// Milliseconds since 1970-01-01 UTC.
    pub(super) at: u64,
    /// The commit of the family's files, in its first twelve digits.
    pub(super) commit: Option<String>,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub(super) commit_seconds: Option<u64>,
}

impl Moment {
    /// Now, with the commit that a folder stands at.
    pub(super) async fn take(context: &Context, root: &Path) -> Self {
        let commit = commit::commit(root);
        let commit_seconds = match &commit {
            Some(_) => commit_seconds(context, root).await,
            None => None,
        };
        Self { at: recorder::now(), commit, commit_seconds }
    }

    /// Whether there is a commit of which Git does not say when it was made.
    pub(super) fn lacks_time(&self) -> bool {
        self.commit.is_some() && self.commit_seconds.is_none()
    }
}

/// Who publishes what was planned at a moment.
///
/// # Errors
/// Where there are no random bytes.
pub(super) fn publisher(moment: &Moment, allow_older: bool) -> Result<Publisher<'static>> {
    let now = moment.at;
    Ok(Publisher {
        id: id(now)?,
        generation: generation(moment),
        commit: moment.commit.clone(),
        allow_older,
        patience: PATIENCE,
        holder: holder(),
        is_gone: &is_gone,
        clock: &recorder::now,
    })
}

/// How new what was planned at a moment is.
pub(super) fn generation(moment: &Moment) -> Generation {
    Generation {
        // What is in no Git repository, or in one that Git does not read here, is as new as its run.
        commit_seconds: moment.commit_seconds.unwrap_or(moment.at / 1_000),
        run_milliseconds: moment.at,
    }
}

/// A name that sorts by time, and is no other's of the same moment.
fn id(now: u64) -> Result<String> {
    let mut random = [0; 2];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| Diagnostic::surroundings("name the publication: no random bytes"))?;
    let now = jiff::Timestamp::from_millisecond(i64::try_from(now).unwrap_or_default()).unwrap_or_default();
    Ok(format!("{}-{:02x}{:02x}", now.strftime("%Y%m%dT%H%M%SZ"), random[0], random[1]))
}

/// When the commit that the folder stands at was made.
async fn commit_seconds(context: &Context, root: &Path) -> Option<u64> {
    let said = git(context, root, &["show", "--no-patch", "--format=%ct", "HEAD"]).await?;
    said.trim().parse().ok()
}

/// Whether files of a folder are not as its commit has them, new ones too; what Git ignores does not count.
pub(super) async fn is_uncommitted(context: &Context, root: &Path) -> bool {
    let said = git(context, root, &["status", "--porcelain", "--", "."]).await;
    said.is_some_and(|said| !said.trim().is_empty())
}

/// A commit, and when it was made in seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) commit: String,
    pub(super) seconds: u64,
}

/// The commits behind one up to that which the folder stands at, newest first, by their first parents, and so many at most;
/// `None` where Git does not say, as in a clone that is too shallow.
pub(super) async fn commits_since(
    context: &Context,
    root: &Path,
    commit: &str,
    limit: usize,
) -> Option<Vec<Made>> {
    let (between, limit) = (format!("{commit}..HEAD"), format!("--max-count={limit}"));
    let said =
        git(context, root, &["log", "--first-parent", &limit, "--format=%H %ct", &between, "--"]).await?;
    let made = |line: &str| {
        let (commit, seconds) = line.split_once(' ')?;
        Some(Made { commit: commit.to_owned(), seconds: seconds.parse().ok()? })
    };
    said.lines().map(made).collect()
}

/// What Git says, where it can be asked.
pub(super) async fn git(context: &Context, root: &Path, arguments: &[&str]) -> Option<String> {
    let git = find_all("git", &context.environment.search_path()).into_iter().next()?;
    let asked = Program::new(git, GIT)
        // A container of a CI service often has another owner than the files in it.
        .arguments(["-c", "safe.directory=*", "-C"])
        .argument(root)
        .arguments(arguments);
    let output = asked.capture(GIT_BYTES).await.ok()?;
    output.ended.success().then(|| output.text())
}

/// This process: the boot of its system, the namespace of its number, its number, and when it began.
fn holder() -> String {
    let own = std::process::id();
    match (place(), begun(own)) {
        (Some(place), Some(begun)) => format!("{place}/{own}/{begun}"),
        _ => String::new(),
    }
}

/// Whether it is known of an open publication that nobody works on it any more.
pub(super) fn is_cut_off(until_seconds: u64, holder: &str) -> bool {
    until_seconds <= recorder::now() / 1_000 || is_gone(holder)
}

/// Whether a process is known to be gone. One of another system, or another namespace, may be alive.
fn is_gone(holder: &str) -> bool {
    is_gone_by(holder, begun)
}

/// The same by what a system says of when a process began.
fn is_gone_by(holder: &str, begun: impl Fn(u32) -> Option<String>) -> bool {
    let mut parts = holder.rsplitn(3, '/');
    let (Some(begun_then), Some(number), Some(place_then)) = (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Ok(number) = number.parse() else { return false };
    place().as_deref() == Some(place_then)
        && match begun(number) {
            Some(begun_now) => begun_now != begun_then,
            // A system may hide the processes of others.
            None => is_no_process(number),
        }
}

fn is_no_process(number: u32) -> bool {
    let process = i32::try_from(number).ok().and_then(rustix::process::Pid::from_raw);
    process.is_none_or(|process| rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH))
}

fn place() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), namespace.to_str()?))
}

/// When a process began, in ticks since its system did (`proc(5)`, field 22 of `stat`).
fn begun(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let after_name = stat.rsplit_once(") ")?.1;
    after_name.split(' ').nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_x7_a_process_is_gone_only_where_that_is_known() {
        let own = holder();
        assert!(!is_gone(&own), "this process is alive: {own}");
        let place = place().expect("this system has processes");
        // The highest number that Linux gives is 4,194,304 (`proc(5)`, pid_max).
        assert!(is_gone(&format!("{place}/4194305/1")), "there is no such process");
        assert!(is_gone(&format!("{place}/{}/1", std::process::id())), "the number was given again");
        for elsewhere in ["", "x", "other-boot/pid:[1]/1/1", "//"] {
            assert!(!is_gone(elsewhere), "{elsewhere:?}");
        }
    }

    #[test]
    fn f_x7_a_process_that_the_system_hides_is_not_gone() {
        let hides = |_| None;
        let place = place().expect("this system has processes");
        assert!(!is_gone_by(&holder(), hides), "it is there, whoever may see it");
        assert!(is_gone_by(&format!("{place}/4194305/1"), hides), "it is not there");
    }

    #[test]
    fn i_p4_how_new_a_run_is_was_settled_when_it_was_planned() {
        let planned = Moment { at: 5_000, commit: Some("c".to_owned()), commit_seconds: Some(3) };
        for _ in 0..2 {
            let publisher = publisher(&planned, false).expect("a publisher");
            let expected = Generation { commit_seconds: 3, run_milliseconds: 5_000 };
            assert_eq!((publisher.generation, publisher.commit.as_deref()), (expected, Some("c")));
            assert!(publisher.id.starts_with("19700101T000005Z-"), "{}", publisher.id);
        }
        let without = publisher(&Moment { commit_seconds: None, ..planned }, false).expect("a publisher");
        assert_eq!(without.generation.commit_seconds, 5, "as new as its run");
    }

    #[test]
    fn names_sort_by_time() {
        let (first, second) =
            (id(1_700_000_000_000).expect("a name"), id(1_700_000_001_000).expect("a name"));
        assert!(first < second && first.starts_with("20231114T221320Z-"), "{first} {second}");
    }
}
