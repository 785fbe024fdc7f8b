//! The page of made-up runs: what it says, that nothing in it is taken for markup, and that it stays small.

use crate::event::{Event, EventKind};
use crate::report::{DecisionView, JobView, PLAN_VIEW_VERSION};

use std::collections::BTreeSet;

use super::*;

/// What would run, load or end something if it were markup.
const HOSTILE: &str =
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>\" onfocus=alert(1) x='&lt;";

/// A run as events, and its plan.
#[derive(Default)]
struct MadeUp {
    events: Vec<Event>,
    jobs: Vec<JobView>,
    logs: BTreeMap<String, String>,
}

impl MadeUp {
    fn event(&mut self, kind: EventKind) {
        let at_milliseconds = 1_000 + 10 * self.events.len() as u64;
        self.events.push(Event { at_milliseconds, kind });
    }

    fn job(&mut self, job: &str, parents: &[&str], outcome: Outcome) {
        let (unit, platform) = parts(job);
        self.jobs.push(JobView {
            job: job.to_owned(),
            unit: unit.to_owned(),
            platform: platform.to_owned(),
            decision: DecisionView::Build,
            reasons: vec![format!("{unit} was never built")],
            parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
            beside: Vec::new(),
            bases: vec!["docker.io/library/debian:12".to_owned()],
            key: "sha256:0123456789abcdef".to_owned(),
            emulation: None,
            disk: None,
            needs: Vec::new(),
            estimate: None,
            emulated: None,
            waiting: None,
        });
        let (job, builder) = (job.to_owned(), format!("on {platform}"));
        self.event(EventKind::JobStarted {
            job: job.clone(),
            builder,
            emulated: false,
            checks_only: false,
            cost: None,
        });
        for step in ["[1/2] FROM base", "[2/2] RUN make install"] {
            self.event(EventKind::JobStep { job: job.clone(), step: step.to_owned() });
        }
        self.event(EventKind::CheckEnded {
            job: job.clone(),
            check: "id -un".to_owned(),
            passed: true,
            tag: None,
            milliseconds: 3,
        });
        self.event(EventKind::JobEnded { job, outcome, milliseconds: 20, engine_milliseconds: 19 });
    }

    fn page(self) -> String {
        let plan = PlanView {
            version: PLAN_VIEW_VERSION,
            jobs: self.jobs,
            mirrors: Vec::new(),
            builders: Vec::new(),
            warnings: Vec::new(),
        };
        Page {
            family: "stacks",
            date: "2026-01-02 03:04:05 UTC",
            report: &Report::of(&self.events),
            timeline: &Timeline::of(&self.events),
            plan: Some(&plan),
            logs: &self.logs,
        }
        .to_html()
    }
}

fn built() -> Outcome {
    Outcome::Built { image: "sha256:aa".to_owned() }
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed { reason: reason.to_owned(), log: None, image: None, waiting: None }
}

/// A family of so many jobs, each image on the one before it in its tenth.
fn family(jobs: usize) -> MadeUp {
    let mut run = MadeUp::default();
    let name =
        |at: usize| format!("image-{at:04}@linux/{}", if at.is_multiple_of(2) { "amd64" } else { "arm64" });
    for at in 0..jobs {
        let parent = at.checked_sub(10).map(name);
        run.job(&name(at), parent.as_deref().as_slice(), built());
    }
    run
}

/// The values of an attribute, in order.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let begin = format!(" {attribute}=\"");
    page.split(&*begin).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn what_happened_is_on_the_page() {
    let mut run = MadeUp::default();
    run.job("base@linux/amd64", &[], built());
    run.job("leaf@linux/amd64", &["base@linux/amd64"], failed("the step `make install` ended with 2"));
    run.logs.insert("leaf@linux/amd64".to_owned(), "make: *** no rule".to_owned());
    run.event(EventKind::PublishStarted { target: "registry.example".to_owned(), images: 1, tags: 1 });
    run.event(EventKind::TagPublished {
        reference: "registry.example/o/base:latest".to_owned(),
        digest: "sha256:ee".to_owned(),
        moved: true,
    });
    run.event(EventKind::RunEnded { exit_code: 1 });
    let page = run.page();
    let expected = [
        "<title>stacks: 1 of 2 jobs failed</title>",
        "The family",
        "What failed",
        "the step `make install` ended with 2",
        "make: *** no rule",
        "[2/2] RUN make install",
        "base was never built",
        "on linux/amd64",
        "critical path",
        "registry.example/o/base:latest",
    ];
    for text in expected {
        assert!(page.contains(text), "{text} in {page}");
    }
}

#[test]
fn f_u9_what_images_say_is_text_and_never_markup() {
    let mut run = MadeUp::default();
    let job = format!("{HOSTILE}@{HOSTILE}");
    run.job(&job, &[HOSTILE], failed(HOSTILE));
    run.logs.insert(job.clone(), HOSTILE.to_owned());
    run.event(EventKind::JobStep { job: job.clone(), step: HOSTILE.to_owned() });
    run.event(EventKind::TagWithheld { reference: HOSTILE.to_owned(), reason: HOSTILE.to_owned() });
    let page = run.page();
    assert_eq!(page.matches("<script").count(), 1, "the page's own one");
    assert_eq!(page.matches("<img").count(), 0);
    let tags = page.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    let outside_quotes = tags.map(|tag| tag.split('"').step_by(2).collect::<String>());
    assert!(outside_quotes.clone().count() > 50);
    assert!(
        outside_quotes.clone().all(|tag| tag.matches(" class=").count() < 2),
        "the second one is passed over"
    );
    assert!(outside_quotes.into_iter().all(|tag| !tag.contains("onfocus") && !tag.contains("onerror")));
}

#[test]
fn the_page_asks_nothing_of_any_network_and_runs_no_script_but_its_own() {
    let page = family(3).page();
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url("), "{page}");
    assert!(values(&page, "src").is_empty());
    let script =
        page.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>")).expect("script").0;
    let bytes = sha256_of(script);
    assert!(values(&page, "content")[0].contains(&format!("'sha256-{bytes}'")), "{page}");
}

/// Base64 of the digest, by another way than the page's.
fn sha256_of(text: &str) -> String {
    let hex = Digest::of(text.as_bytes()).hex().to_owned();
    let number = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    BASE64_STANDARD.encode((0..hex.len()).step_by(2).map(number).collect::<Vec<u8>>())
}

#[test]
fn every_link_leads_to_one_place_of_the_page() {
    let mut run = family(40);
    // Names that differ only in what cannot stand in the name of a place.
    for job in ["a.b@linux/amd64", "a_b@linux/amd64", "a:b@linux/amd64"] {
        run.job(job, &[], built());
    }
    let page = run.page();
    let ids = values(&page, "id");
    let distinct: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "{ids:?}");
    let links = values(&page, "href");
    assert!(links.len() > 80, "{}", links.len());
    for link in links {
        let place = link.strip_prefix('#').expect("a link within the page");
        assert!(distinct.contains(place), "{link} leads nowhere");
    }
}

#[test]
fn a_thousand_jobs_are_at_most_five_megabytes() {
    let page = family(1_000).page();
    assert!(page.len() <= 5_000_000, "{} bytes", page.len());
    assert!(page.contains("image-0999"));
}

#[test]
fn a_run_without_anything_has_a_page_too() {
    let page = MadeUp::default().page();
    assert!(page.contains("not ended"), "{page}");
}
