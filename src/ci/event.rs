//! What began this run, as the environments of CI services tell it; on a laptop nothing did.
//!
//! Trust comes from here and from the command line, never from the files that are built (law 11): what is proposed works in a
//! scope of its own, named by a number that the service gives and never by a branch (F-U8).

use crate::config::EventPlatforms;
use crate::oci::{Digest, Platform};

use super::Service;

/// A run that a service has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The service.
    pub(crate) service: Service,
    /// Why.
    pub(crate) event: Event,
    /// Whose repository it is.
    pub(crate) owner: Option<String>,
    /// Which run and attempt this is, for people.
    pub(crate) run: String,
    /// The tag of Git that was pushed, or that a person has asked for.
    pub(crate) release: Option<String>,
    /// A proposal asks for what is new outside: by its title, as in `[refresh]`, or by the label `no-cache`.
    pub(crate) refresh: bool,
    /// The images that the title of a proposal asks for, as in `[images: base leaf]`; all where it asks for none.
    pub(crate) images: Vec<String>,
}

impl Beginning {
    /// The platforms that this run is for, by what began it, on a day since 1970-01-01 UTC; all where nothing is said.
    pub(crate) fn platforms(&self, said: &EventPlatforms, day: u64) -> Vec<Platform> {
        let chosen = match self.event {
            Event::Proposed(_) => said.proposed.as_ref(),
            Event::Scheduled => said.scheduled.get(turn(day, said.scheduled.len())),
            Event::Own => None,
        };
        chosen.into_iter().flatten().map(|platform| platform.value.clone()).collect()
    }
}

/// Whose turn it is on a day.
fn turn(day: u64, number: usize) -> usize {
    let turn = u64::try_from(number).ok().and_then(|number| day.checked_rem(number));
    turn.and_then(|turn| usize::try_from(turn).ok()).unwrap_or(0)
}

/// Why a service has begun a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Somebody proposes a change, or works on another branch: nothing of it is trusted. The scope that it works in.
    Proposed(String),
    /// The branch that is published or a tag has moved, or a person has asked for it.
    Own,
    /// The time has come.
    Scheduled,
}

/// What a variable of the environment says.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The branch that is published: set by the pipeline or the service's project, not by the family.
const BRANCH: &str = "POLYARCH_BRANCH";
/// The title of a proposal, where a pipeline has to say it.
pub(super) const TITLE: &str = "POLYARCH_TITLE";
/// Whether a proposal has the label, where a pipeline has to say it.
pub(super) const LABELLED: &str = "POLYARCH_NO_CACHE";
/// The label of proposals that are built without what the engine has in its cache.
pub(super) const LABEL: &str = "no-cache";

/// The beginning of this run; `None` where no service is known to have begun it.
pub(crate) fn beginning(variables: Variables<'_>) -> Option<Beginning> {
    let said = |name: &str| variables(name).filter(|value| !value.is_empty());
    let is_set = |name: &str| said(name).is_some_and(|value| value == "true");
    let (service, event, owner, run) = if is_set("GITHUB_ACTIONS") {
        let run = [said("GITHUB_RUN_ID"), said("GITHUB_RUN_ATTEMPT")];
        (Service::Github, github(&said), said("GITHUB_REPOSITORY_OWNER"), run)
    } else if is_set("CIRCLECI") {
        let run = [said("CIRCLE_WORKFLOW_ID"), said("CIRCLE_BUILD_NUM")];
        (Service::Circleci, circleci(&said), said("CIRCLE_PROJECT_USERNAME"), run)
    } else if is_set("GITLAB_CI") {
        let run = [said("CI_PIPELINE_ID"), said("CI_JOB_ID")];
        (Service::Gitlab, gitlab(&said), said("CI_PROJECT_NAMESPACE"), run)
    } else {
        return None;
    };
    let run = run.into_iter().flatten().collect::<Vec<_>>().join(".");
    let title = said(match service {
        Service::Gitlab => "CI_MERGE_REQUEST_TITLE",
        Service::Github | Service::Circleci => TITLE,
    });
    let is_labelled = match service {
        Service::Gitlab => said("CI_MERGE_REQUEST_LABELS").is_some_and(|labels| has_label(&labels)),
        Service::Github | Service::Circleci => is_set(LABELLED),
    };
    let is_proposed = matches!(event, Event::Proposed(_));
    let title = title.filter(|_| is_proposed).unwrap_or_default();
    let refresh = is_proposed && (is_labelled || title.contains("[refresh]"));
    let images = asked_for(&title);
    let release = tag(service, &said).filter(|_| event == Event::Own);
    Some(Beginning { service, event, owner, run, release, refresh, images })
}

/// The tag of Git that a service works at, if it is one.
fn tag(service: Service, said: Variables<'_>) -> Option<String> {
    match service {
        Service::Github => said("GITHUB_REF")?.strip_prefix("refs/tags/").map(str::to_owned),
        Service::Circleci => said("CIRCLE_TAG"),
        Service::Gitlab => said("CI_COMMIT_TAG"),
    }
}

/// Whether one of the labels, which stand with commas between them, asks for builds without a cache.
fn has_label(labels: &str) -> bool {
    labels.split(',').any(|label| label.trim().eq_ignore_ascii_case(LABEL))
}

/// What a title asks for between `[images:` and `]`.
fn asked_for(title: &str) -> Vec<String> {
    let between = title.split_once("[images:").and_then(|(_, rest)| rest.split_once(']'));
    between.map_or_else(Vec::new, |(images, _)| images.split_whitespace().map(str::to_owned).collect())
}

/// Whether the machine is one that the service throws away after the job. Only GitHub says so of its own machines: that of
/// a container of GitLab or CircleCI may go on.
pub(crate) fn is_thrown_away(variables: Variables<'_>) -> bool {
    let says = |name: &str, value: &str| variables(name).as_deref() == Some(value);
    says("GITHUB_ACTIONS", "true") && says("RUNNER_ENVIRONMENT", "github-hosted")
}

/// GitHub: `GITHUB_EVENT_NAME` and `GITHUB_REF`. Every event but those of the repository's own is somebody's proposal: one
/// that is not known gets no trust.
fn github(said: Variables<'_>) -> Event {
    let name = said("GITHUB_EVENT_NAME").unwrap_or_default();
    let reference = said("GITHUB_REF").unwrap_or_default();
    let other = format!("{name} {reference}");
    match name.as_str() {
        "schedule" => Event::Scheduled,
        "push" | "workflow_dispatch" => {
            let tag = reference.starts_with("refs/tags/");
            of_branch(said, tag, reference.strip_prefix("refs/heads/"), &other)
        }
        _ => {
            let number = reference.strip_prefix("refs/pull/").and_then(|rest| rest.split('/').next());
            Event::Proposed(scope(number, &other))
        }
    }
}

/// CircleCI: built-in variables. `CIRCLE_PR_NUMBER` is set for forks alone; `CIRCLE_PULL_REQUEST` also where somebody
/// has proposed what the branch that is published has.
fn circleci(said: Variables<'_>) -> Event {
    if let Some(number) = said("CIRCLE_PR_NUMBER").or_else(|| said("CIRCLE_PR_USERNAME")) {
        return Event::Proposed(scope(Some(&number), &number));
    }
    let branch = said("CIRCLE_BRANCH");
    let other = branch.clone().unwrap_or_default();
    let event = of_branch(said, said("CIRCLE_TAG").is_some(), branch.as_deref(), &other);
    let of_url = said("CIRCLE_PULL_REQUEST").and_then(|url| Some(url.rsplit_once('/')?.1.to_owned()));
    match event {
        Event::Proposed(_) if of_url.is_some() => Event::Proposed(scope(of_url.as_deref(), &other)),
        Event::Own if said("POLYARCH_SCHEDULED").is_some() => Event::Scheduled,
        event => event,
    }
}

/// GitLab: predefined variables. Pipelines of merge requests have no `CI_COMMIT_BRANCH`.
fn gitlab(said: Variables<'_>) -> Event {
    let source = said("CI_PIPELINE_SOURCE").unwrap_or_default();
    let (number, branch) = (said("CI_MERGE_REQUEST_IID"), said("CI_COMMIT_BRANCH"));
    let known = ["push", "schedule", "web", "api", "trigger", "parent_pipeline"];
    let other = branch.as_deref().map_or_else(|| source.clone(), |branch| format!("{source} {branch}"));
    if number.is_some() || !known.contains(&source.as_str()) {
        return Event::Proposed(scope(number.as_deref(), &other));
    }
    match of_branch(said, said("CI_COMMIT_TAG").is_some(), branch.as_deref(), &other) {
        Event::Own if source == "schedule" => Event::Scheduled,
        event => event,
    }
}

/// A tag, or a branch: only the one that is published is trusted.
fn of_branch(said: Variables<'_>, is_tag: bool, branch: Option<&str>, other: &str) -> Event {
    let published = said(BRANCH).or_else(|| said("CI_DEFAULT_BRANCH"));
    match is_tag || branch.is_some() && branch == published.as_deref() {
        true => Event::Own,
        false => Event::Proposed(scope(None, other)),
    }
}

/// The message of the commit that was pushed, by what a service says of that in JSON.
///
/// # Errors
/// Where it is no JSON.
pub(crate) fn message(event: &str) -> serde_json::Result<Option<String>> {
    let event: serde_json::Value = serde_json::from_str(event)?;
    Ok(event.pointer("/head_commit/message").and_then(serde_json::Value::as_str).map(str::to_owned))
}

/// The scope of the proposal that a push has brought in, by what the service has written into the message of the commit.
/// Whoever writes a message may name another: it says where to look, and what counts there is signed for the tree that
/// was pushed.
pub(crate) fn merged(service: Service, message: &str) -> Option<String> {
    let number = match service {
        Service::Github => merged_at_github(message),
        Service::Gitlab => merged_at_gitlab(message),
        Service::Circleci => None,
    };
    numbered(number?)
}

/// `… (#12)` where it was squashed, whatever its title begins with; or `Merge pull request #12 from owner/branch`, which ends
/// so for no branch, as their names hold no spaces.
fn merged_at_github(message: &str) -> Option<&str> {
    let first = message.lines().next()?.trim_end();
    let squashed = first.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (#")).map(|(_, number)| number);
    squashed.or_else(|| first.strip_prefix("Merge pull request #")?.split(' ').next())
}

/// `See merge request group/project!12` at the end.
fn merged_at_gitlab(message: &str) -> Option<&str> {
    let last = message.lines().rev().find_map(|line| line.strip_prefix("See merge request "))?;
    last.trim_end().rsplit_once('!').map(|(_, number)| number)
}

/// The scope of the proposal with that number.
fn numbered(number: &str) -> Option<String> {
    let plain = (1..=18).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| format!("pr-{number}"))
}

/// The scope of a numbered proposal; of one without a number, by the digest of what is known of it.
fn scope(number: Option<&str>, other: &str) -> String {
    number.and_then(numbered).unwrap_or_else(|| format!("proposal-{}", Digest::of(other.as_bytes()).short()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: (&str, &str) = ("POLYARCH_BRANCH", "main");

    /// What began a run, where the environment says this.
    fn at(pairs: &[(&str, &str)]) -> Option<Beginning> {
        let said =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        beginning(&said)
    }

    fn begun(pairs: &[(&str, &str)]) -> Beginning {
        at(pairs).expect("a service")
    }

    fn of(pairs: &[(&str, &str)]) -> Option<Event> {
        at(pairs).map(|beginning| beginning.event)
    }

    fn on_github(name: &str, reference: &str) -> Event {
        let event = [("GITHUB_EVENT_NAME", name), ("GITHUB_REF", reference)];
        of(&[&[("GITHUB_ACTIONS", "true"), MAIN][..], &event].concat()).expect("a service")
    }

    fn proposed(scope: &str) -> Event {
        Event::Proposed(scope.to_owned())
    }

    #[test]
    fn the_proposal_that_a_commit_brings_in_is_known_by_its_message() {
        for (message, wanted) in [
            ("Merge pull request #12 from owner/branch\n\nFix (#7)", Some("pr-12")),
            ("Fix the locale (#7)\n\nMore (#8)", Some("pr-7")),
            ("Revert \"Fix (#7)\" (#9)\r\n", Some("pr-9")),
            ("Merge pull request #99 from a/b (#12)", Some("pr-12")),
            ("Merge pull request #12 from owner/fix(#7)", Some("pr-12")),
            ("Fix(#7)", None),
            ("Fix #7", None),
            ("Fix (#7) again", None),
            ("Merge pull request #../../x from y", None),
            ("Merge branch 'main'", None),
            ("x (#)", None),
            ("x (#1234567890123456789)", None),
            ("", None),
        ] {
            assert_eq!(merged(Service::Github, message).as_deref(), wanted, "{message:?}");
            let event = serde_json::json!({ "head_commit": { "message": message } }).to_string();
            assert_eq!(super::message(&event).expect("JSON").as_deref(), Some(message), "{event}");
        }
        for (message, wanted) in [
            (
                "Merge branch 'x' into 'main'\n\nFix it\n\nSee merge request group/sub/images!12",
                Some("pr-12"),
            ),
            ("Fix it\n\nSee merge request images!7\r\n\nSigned-off-by: x", Some("pr-7")),
            ("See merge request a/b!1\n\nSee merge request a/b!2", Some("pr-2")),
            ("Fix it (#7)", None),
            ("Merge pull request #7 from a/b", None),
            ("See merge request a/b!../../x", None),
            ("See merge request a/b", None),
            ("So: See merge request a/b!1", None),
            ("", None),
        ] {
            assert_eq!(merged(Service::Gitlab, message).as_deref(), wanted, "{message:?}");
            assert_eq!(merged(Service::Circleci, message), None, "{message:?}");
        }
        assert!(super::message("{").is_err());
        assert_eq!(super::message("{\"head_commit\": null}").expect("JSON"), None);
    }

    #[test]
    fn s3_14_what_began_a_run_says_what_platforms_it_is_for() {
        let lists = |lists: &[&[&str]]| {
            let list = |names: &&[&str]| {
                let platform =
                    |name: &&str| crate::config::Written::new(name.parse().expect("a platform"), 0..0);
                names.iter().map(platform).collect()
            };
            lists.iter().map(list).collect::<Vec<Vec<_>>>()
        };
        let said = EventPlatforms {
            proposed: lists(&[&["linux/amd64"]]).pop(),
            scheduled: lists(&[&["linux/amd64"], &["linux/arm64", "linux/386"]]),
        };
        let run = |event| Beginning { event, ..begun(&[("GITHUB_ACTIONS", "true")]) };
        let of = |event, said: &EventPlatforms, day| {
            let platforms = run(event).platforms(said, day);
            platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let nothing = EventPlatforms::default();
        for (event, said, day, wanted) in [
            (proposed("pr-1"), &said, 0, "linux/amd64"),
            (Event::Scheduled, &said, 20_776, "linux/amd64"),
            (Event::Scheduled, &said, 20_777, "linux/arm64 linux/386"),
            (Event::Scheduled, &said, 20_778, "linux/amd64"),
            (Event::Own, &said, 0, ""),
            (proposed("pr-1"), &nothing, 0, ""),
            (Event::Scheduled, &nothing, 7, ""),
        ] {
            assert_eq!(of(event.clone(), said, day), wanted, "{event:?} {day}");
        }
    }

    #[track_caller]
    fn is_some_proposal(event: &Event) {
        let Event::Proposed(scope) = event else { panic!("{event:?} is trusted") };
        assert!(scope.parse::<crate::record::ScopeName>().is_ok_and(|scope| !scope.is_trusted()), "{scope}");
        assert!(scope.starts_with("proposal-"), "{scope}");
    }

    #[test]
    fn law_11_trust_comes_from_the_event_at_github() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("CI", "true")]), None);
        for (name, reference) in [
            ("push", "refs/heads/main"),
            ("push", "refs/tags/v6.1.0"),
            ("workflow_dispatch", "refs/heads/main"),
        ] {
            assert_eq!(on_github(name, reference), Event::Own);
        }
        assert_eq!(on_github("schedule", "refs/heads/main"), Event::Scheduled);
        assert_eq!(on_github("pull_request", "refs/pull/12/merge"), proposed("pr-12"));
        for (name, reference) in [
            ("push", "refs/heads/mine"),
            ("push", "main"),
            ("workflow_dispatch", "refs/heads/mine"),
            ("merge_group", "refs/heads/gh-readonly-queue/main/pr-1-abc"),
            ("pull_request_target", "refs/heads/main"),
            ("pull_request", "refs/pull/../merge"),
            ("pull_request", "refs/pull/9999999999999999999999/merge"),
            ("issue_comment", "refs/heads/main"),
            ("", ""),
        ] {
            is_some_proposal(&on_github(name, reference));
        }
        let unsaid =
            [("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_NAME", "push"), ("GITHUB_REF", "refs/heads/main")];
        is_some_proposal(&of(&unsaid).expect("a service"));
    }

    #[test]
    fn law_11_trust_comes_from_the_event_at_circleci() {
        let of = |more: &[(&str, &str)]| {
            of(&[&[("CIRCLECI", "true"), MAIN][..], more].concat()).expect("a service")
        };
        let (main, mine) = (("CIRCLE_BRANCH", "main"), ("CIRCLE_BRANCH", "mine"));
        let url = ("CIRCLE_PULL_REQUEST", "https://g.example/a/b/pull/7");
        assert_eq!(of(&[main]), Event::Own);
        assert_eq!(of(&[main, ("POLYARCH_SCHEDULED", "1")]), Event::Scheduled);
        assert_eq!(of(&[("CIRCLE_TAG", "v1")]), Event::Own);
        assert_eq!(of(&[main, url]), Event::Own, "what is published may be proposed elsewhere");
        assert_eq!(of(&[mine, url]), proposed("pr-7"));
        assert_eq!(of(&[main, ("CIRCLE_PR_NUMBER", "8")]), proposed("pr-8"));
        is_some_proposal(&of(&[main, ("CIRCLE_PR_USERNAME", "stranger")]));
        is_some_proposal(&of(&[mine]));
        is_some_proposal(&of(&[]));
        is_some_proposal(&of(&[mine, ("POLYARCH_SCHEDULED", "1")]));
    }

    #[test]
    fn law_11_trust_comes_from_the_event_at_gitlab() {
        let of = |more: &[(&str, &str)]| {
            of(&[&[("GITLAB_CI", "true"), ("CI_DEFAULT_BRANCH", "main")][..], more].concat())
                .expect("a service")
        };
        let source = |source| ("CI_PIPELINE_SOURCE", source);
        let main = ("CI_COMMIT_BRANCH", "main");
        assert_eq!(of(&[source("push"), main]), Event::Own);
        assert_eq!(of(&[source("push"), ("CI_COMMIT_TAG", "v1")]), Event::Own);
        assert_eq!(of(&[source("schedule"), main]), Event::Scheduled);
        assert_eq!(of(&[source("merge_request_event"), ("CI_MERGE_REQUEST_IID", "3")]), proposed("pr-3"));
        for more in [
            &[source("merge_request_event")][..],
            &[source("external_pull_request_event"), main],
            &[source("push"), ("CI_COMMIT_BRANCH", "mine")],
            &[source("schedule"), ("CI_COMMIT_BRANCH", "mine")],
            &[source("parent_pipeline")],
            &[],
        ] {
            is_some_proposal(&of(more));
        }
        assert_eq!(
            of(&[source("push"), ("CI_COMMIT_BRANCH", "next"), ("POLYARCH_BRANCH", "next")]),
            Event::Own
        );
    }

    #[test]
    fn a_title_narrows_what_is_proposed_and_nothing_else() {
        let images = |pairs: &[(&str, &str)]| begun(pairs).images;
        let github = |event, title| {
            let event = [("GITHUB_EVENT_NAME", event), ("GITHUB_REF", "refs/heads/main")];
            images(&[&[("GITHUB_ACTIONS", "true"), MAIN, ("POLYARCH_TITLE", title)][..], &event].concat())
        };
        assert_eq!(
            github("pull_request", "A fix [images: base  leaf@linux/arm64 ]"),
            ["base", "leaf@linux/arm64"]
        );
        for title in ["A fix", "[images: base", "images: base]", "[images:]", "[images: ]"] {
            assert!(github("pull_request", title).is_empty(), "{title}");
        }
        let refreshes = |event, title| {
            let pairs = [
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", event),
                ("GITHUB_REF", "refs/heads/main"),
                MAIN,
                ("POLYARCH_TITLE", title),
            ];
            begun(&pairs).refresh
        };
        assert!(refreshes("pull_request", "A fix [refresh] [images: base]"));
        assert!(!refreshes("pull_request", "refresh") && !refreshes("push", "[refresh]"));
        for event in ["push", "schedule", "workflow_dispatch"] {
            assert!(github(event, "[images: base]").is_empty(), "what is published is whole: {event}");
        }
        let title = ("CI_MERGE_REQUEST_TITLE", "[images: base]");
        let source = |source| ("CI_PIPELINE_SOURCE", source);
        let main = [("GITLAB_CI", "true"), ("CI_DEFAULT_BRANCH", "main"), ("CI_COMMIT_BRANCH", "main")];
        assert_eq!(images(&[main[0], title, source("merge_request_event")]), ["base"]);
        assert!(images(&[&main[..], &[title, source("push")]].concat()).is_empty());
    }

    #[test]
    fn s3_9_a_label_asks_for_builds_without_cache_of_what_is_proposed_and_nothing_else() {
        let github = |event, labelled| {
            let event = [("GITHUB_EVENT_NAME", event), ("GITHUB_REF", "refs/heads/main")];
            begun(
                &[&[("GITHUB_ACTIONS", "true"), MAIN, ("POLYARCH_NO_CACHE", labelled)][..], &event].concat(),
            )
            .refresh
        };
        assert!(github("pull_request", "true"));
        assert!(!github("pull_request", "false") && !github("pull_request", ""));
        for event in ["push", "schedule", "workflow_dispatch"] {
            assert!(!github(event, "true"), "only what is proposed has labels: {event}");
        }
        let main = [("GITLAB_CI", "true"), ("CI_DEFAULT_BRANCH", "main"), ("CI_COMMIT_BRANCH", "main")];
        let gitlab = |source, labels| {
            let more = [("CI_PIPELINE_SOURCE", source), ("CI_MERGE_REQUEST_LABELS", labels)];
            begun(&[&main[..], &more].concat()).refresh
        };
        for (labels, wanted) in [
            ("no-cache", true),
            ("bug,no-cache,ci::images", true),
            ("bug, No-Cache", true),
            ("", false),
            ("bug", false),
            ("no-cache-please,not no-cache,type::no-cache", false),
        ] {
            assert_eq!(gitlab("merge_request_event", labels), wanted, "{labels:?}");
            assert!(!gitlab("push", labels), "{labels:?}");
        }
    }

    #[test]
    fn a_release_is_told_by_its_tag() {
        let release = |pairs: &[(&str, &str)]| begun(pairs).release;
        let github = |event, reference| {
            let event = [("GITHUB_EVENT_NAME", event), ("GITHUB_REF", reference)];
            release(&[&[("GITHUB_ACTIONS", "true"), MAIN][..], &event].concat())
        };
        let wild = "v6.$(id)/x";
        assert_eq!(
            github("push", "refs/tags/v6.$(id)/x").as_deref(),
            Some(wild),
            "as it is: who uses it judges"
        );
        for (event, reference) in [
            ("push", "refs/heads/main"),
            ("push", "refs/heads/refs/tags/v6"),
            ("pull_request", "refs/tags/v6"),
            ("schedule", "refs/tags/v6"),
        ] {
            assert_eq!(github(event, reference), None, "{event} {reference}");
        }
        let circleci = [("CIRCLECI", "true"), MAIN, ("CIRCLE_TAG", wild)];
        assert_eq!(release(&circleci).as_deref(), Some(wild));
        assert_eq!(release(&[&circleci[..], &[("CIRCLE_PR_NUMBER", "7")]].concat()), None);
        let gitlab = [("GITLAB_CI", "true"), ("CI_COMMIT_TAG", wild)];
        let source = |source| ("CI_PIPELINE_SOURCE", source);
        assert_eq!(release(&[&gitlab[..], &[source("push")]].concat()).as_deref(), Some(wild));
        assert_eq!(release(&[&gitlab[..], &[source("merge_request_event")]].concat()), None);
        assert_eq!(
            release(&[&gitlab[..], &[source("push"), ("CI_COMMIT_TAG", "")]].concat()).as_deref(),
            Some(wild)
        );
    }

    type Said = &'static [(&'static str, &'static str)];

    /// What a service says of a proposal, and the names of what strangers have named.
    const OF_STRANGERS: [(Said, [&str; 5]); 3] = [
        (
            &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REF", "refs/pull/7/merge"),
            ],
            ["GITHUB_HEAD_REF", "GITHUB_BASE_REF", "GITHUB_REF_NAME", "POLYARCH_TITLE", "POLYARCH_NO_CACHE"],
        ),
        (
            &[("CIRCLECI", "true"), ("CIRCLE_PR_NUMBER", "7")],
            [
                "CIRCLE_BRANCH",
                "CIRCLE_TAG",
                "CIRCLE_PR_USERNAME",
                "CIRCLE_PULL_REQUEST",
                "CIRCLE_PR_REPONAME",
            ],
        ),
        (
            &[
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", "merge_request_event"),
                ("CI_MERGE_REQUEST_IID", "7"),
            ],
            [
                "CI_MERGE_REQUEST_TITLE",
                "CI_MERGE_REQUEST_LABELS",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME",
                "CI_COMMIT_BRANCH",
                "CI_COMMIT_TAG",
            ],
        ),
    ];

    proptest::proptest! {
        /// Whatever they call titles, labels, branches and tags.
        #[test]
        fn i_t6_nothing_that_strangers_name_makes_a_proposal_trusted(
            service in 0..3_usize,
            words in proptest::collection::vec(proptest::sample::select(&[
                "", "true", "main", "trusted", "push", "schedule", "refs/heads/main", "no-cache", "[refresh]", "v1", "$(x)",
            ][..]), 5),
        ) {
            let (settled, named) = OF_STRANGERS[service];
            let said: Vec<(&str, &str)> = named.into_iter().zip(words).collect();
            let begun = begun(&[&[MAIN], settled, &said].concat());
            proptest::prop_assert_eq!(begun.event, proposed("pr-7"));
            proptest::prop_assert_eq!(begun.release, None);
        }
    }

    #[test]
    fn a_run_is_told_by_its_number_and_attempt() {
        let said = |name: &str| {
            let pairs = [("GITHUB_ACTIONS", "true"), ("GITHUB_RUN_ID", "12"), ("GITHUB_RUN_ATTEMPT", "2")];
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let beginning = beginning(&said).expect("a service");
        assert_eq!(
            (beginning.run.as_str(), beginning.owner, beginning.service),
            ("12.2", None, Service::Github)
        );
    }
}
