//! `polyarch report`: of made-up runs whose logs stand in a store, and bad input.

use serde_json::{Value, json};

use crate::program::Place;

/// The log of a run, made up.
#[derive(Default)]
pub(crate) struct Run {
    log: String,
    jobs: Vec<Value>,
    at: u64,
}

impl Run {
    /// A family of so many jobs for two platforms on four builders, an image on the one five before it; every 25th job failed.
    pub(crate) fn of_family(jobs: usize) -> Self {
        let mut run = Self { at: 1_700_000_000_000, ..Self::default() };
        run.event(
            &json!({"event": "run-started", "version": 1, "run": "made-up", "jobs": jobs, "reused": 0}),
        );
        let name = |at: usize| format!("image-{:03}@linux/{}", at / 2, ["amd64", "arm64"][at % 2]);
        for at in 0..jobs {
            let parents: Vec<String> = at.checked_sub(10).map(name).into_iter().collect();
            run.job(&name(at), &parents, &format!("builder-{}", at % 4), at % 25 == 24);
        }
        run.event(&json!({"event": "run-ended", "exit_code": u8::from(jobs > 24)}));
        run
    }

    fn event(&mut self, event: &Value) {
        self.at += 20;
        let mut event = event.clone();
        event["at_milliseconds"] = self.at.into();
        self.log.push_str(&format!("{event}\n"));
    }

    fn job(&mut self, job: &str, parents: &[String], builder: &str, fails: bool) {
        let (unit, platform) = job.split_once('@').unwrap();
        self.jobs.push(json!({
            "job": job, "unit": unit, "platform": platform, "decision": "build", "reasons": ["no record of it"],
            "parents": parents, "bases": [], "key": format!("sha256:{:064}", self.jobs.len()),
        }));
        self.event(&json!({"event": "job-started", "job": job, "builder": builder, "emulated": false, "checks_only": false}));
        for step in ["[1/3] FROM base", "[2/3] COPY . /src", "[3/3] RUN make --jobs install PREFIX=/opt"] {
            self.event(&json!({"event": "job-step", "job": job, "step": step}));
        }
        let digest = format!("sha256:{:064}", self.jobs.len());
        self.event(
            &json!({"event": "job-kept", "job": job, "image": digest, "config": digest, "bytes": 12_345_678}),
        );
        self.event(&json!({"event": "check-ended", "job": job, "check": "test `make check`", "passed": !fails, "milliseconds": 12}));
        let outcome = match fails {
            true => {
                json!({"outcome": "failed", "reason": "test `make check` ended with 2", "log": format!("{unit}.log")})
            }
            false => json!({"outcome": "built", "image": digest}),
        };
        self.event(&json!({"event": "job-ended", "job": job, "outcome": outcome, "milliseconds": 100, "engine_milliseconds": 90}));
    }

    /// Have it stand in the store of a place.
    pub(crate) fn stands_in(&self, place: &Place, name: &str) {
        if !place.store().exists() {
            assert_eq!(place.run(&["plan"]).code, Some(0), "a store is made");
        }
        let folder = place.store().join("runs").join(name);
        std::fs::create_dir_all(folder.join("logs")).unwrap();
        std::fs::write(folder.join("events.jsonl"), &self.log).unwrap();
        let plan = json!({"version": 1, "jobs": self.jobs, "warnings": []});
        std::fs::write(folder.join("plan.json"), plan.to_string()).unwrap();
        for job in &self.jobs {
            let log = folder.join(format!("logs/{}.log", job["unit"].as_str().unwrap()));
            std::fs::write(log, "make: *** no rule to make <target>\n".repeat(200)).unwrap();
        }
    }
}

/// A place with a store, and two runs in it.
fn two_runs() -> Place {
    let place = Place::with(&[("base/Dockerfile", "FROM scratch\n")]);
    Run::of_family(4).stands_in(&place, "mwtaaaaa-1-1");
    Run::of_family(30).stands_in(&place, "mwtbbbbb-2-2");
    place
}

#[test]
fn the_newest_run_is_told_or_the_one_that_is_named() {
    let place = two_runs();
    let newest = place.run(&["report"]);
    assert_eq!(newest.code, Some(0), "{newest:?}");
    assert!(newest.stdout.contains("30 jobs in"), "{newest:?}");
    let named = place.run(&["report", "mwta", "--format", "json"]);
    let report: Value = serde_json::from_str(&named.stdout).unwrap();
    assert_eq!((&report["counts"]["built"], &report["exit_code"]), (&json!(4), &json!(0)), "{named:?}");
}

#[test]
fn every_form_is_written_into_a_file_and_says_the_same() {
    let place = two_runs();
    for (format, texts) in [
        ("text", vec!["30 jobs in"]),
        ("json", vec!["\"built\": 29", "\"failed\": 1"]),
        ("junit", vec!["tests=\"60\" failures=\"1\"", "ended with 2</failure>"]),
        ("html", vec!["image-012", "test `make check` ended with 2", "no rule to make &lt;target&gt;"]),
    ] {
        let answer = place.run(&["report", "--format", format, "--output", "report"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", "report: report\n"));
        let written = std::fs::read_to_string(place.family().join("report")).unwrap();
        for text in texts {
            assert!(written.contains(text), "{format}: {text} is not in {written}");
        }
    }
}

#[test]
fn f_p2_the_report_of_a_killed_run_goes_as_far_as_its_log() {
    let place = two_runs();
    let file = place.store().join("runs/mwtbbbbb-2-2/events.jsonl");
    let log = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &log[..log.len() / 2]).unwrap();
    let answer = place.run(&["report", "--format", "json"]);
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(report["exit_code"], Value::Null, "{answer:?}");
    assert!(report["counts"]["unfinished"].as_u64().unwrap() > 10, "{answer:?}");
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let empty = Place::with(&[("base/Dockerfile", "FROM scratch\n")]);
    let answer = empty.run(&["report"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.stderr.contains("there is no run yet"), "{answer:?}");

    let place = two_runs();
    let unknown = place.run(&["report", "nothing"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("the newest are mwtbbbbb-2-2, mwtaaaaa-1-1"), "{unknown:?}");
    let several = place.run(&["report", "mwt"]);
    assert_eq!(several.code, Some(2), "{several:?}");
    assert!(several.stderr.contains("several runs begin with `mwt`"), "{several:?}");
    let unwritable = place.run(&["report", "--output", "no/such/folder"]);
    assert_eq!(unwritable.code, Some(3), "{unwritable:?}");
    assert!(unwritable.stderr.contains("write no/such/folder"), "{unwritable:?}");
}

#[test]
fn a_log_that_is_none_is_named_with_its_line() {
    let place = two_runs();
    let file = place.store().join("runs/mwtbbbbb-2-2/events.jsonl");
    let log = std::fs::read_to_string(&file).unwrap();
    for (broken, says) in [
        (log.replacen("job-started", "job-begun", 1), "events.jsonl:2"),
        (log.replacen("\"version\":1", "\"version\":9", 1), "the log has the version 9"),
    ] {
        std::fs::write(&file, broken).unwrap();
        let answer = place.run(&["report"]);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(answer.stderr.contains(says), "{answer:?}");
    }
}
