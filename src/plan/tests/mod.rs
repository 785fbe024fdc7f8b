//! Plans of small families.

mod ages;
mod decisions;
mod keys;
mod laws;
mod patience;
mod second_look;
mod words;

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::config::FamilyFile;
use crate::family::{Found, Sources};
use crate::record::RECORD_VERSION;

fn family(config: &str, dockerfiles: &[(String, String)]) -> Family {
    let found = dockerfiles
        .iter()
        .map(|(name, text)| Found { path: format!("{name}/Dockerfile").into(), text: text.clone() });
    let sources = Sources {
        name: "family".to_owned(),
        file: Some(FamilyFile::parse("polyarch.toml".as_ref(), config).unwrap()),
        dockerfiles: found.collect(),
        args: BTreeMap::new(),
        root_image: None,
        release: None,
        machine: "linux/amd64".parse().unwrap(),
    };
    Family::resolve(&sources).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn table(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn job(text: &str) -> JobId {
    text.parse().unwrap()
}

fn all(family: &Family, facts: &Facts) -> Plan {
    Plan::new(family, facts, &Request::default())
}

/// The image of a job in a test.
fn image(name: &str) -> Digest {
    Digest::of(format!("image {name}").as_bytes())
}

fn record(job: &JobId, planned: &Planned, parents: &[(&str, &str)]) -> ImageRecord {
    ImageRecord {
        version: RECORD_VERSION,
        job: job.to_string(),
        key: planned.key.clone(),
        inputs: planned.inputs.clone(),
        platform: job.platform.clone(),
        image: image(&job.unit.to_string()),
        size: 1,
        config: Digest::of(b"config"),
        bytes: 1,
        parents: parents.iter().map(|(unit, name)| ((*unit).to_owned(), image(name))).collect(),
        builder: "one".to_owned(),
        emulated: false,
        cached: false,
        built_at_seconds: 0,
        milliseconds: 0,
    }
}

fn checked(family: &Family, image: &ImageRecord) -> CheckRecord {
    let job = job(&image.job);
    CheckRecord {
        version: RECORD_VERSION,
        job: image.job.clone(),
        key: check_key(&image.image, family.recipe(&job.unit).unwrap(), &BTreeMap::new()),
        image: image.image.clone(),
        inputs: BTreeMap::new(),
        tests: Vec::new(),
        tags: Vec::new(),
        descriptions: Vec::new(),
    }
}

/// Facts in which every job of a family has passed.
fn with_records(family: &Family, mut facts: Facts) -> Facts {
    let plan = all(family, &facts);
    for job in &plan.order {
        let planned = &plan.jobs[job];
        let parents: Vec<String> = planned.parents.iter().map(|parent| parent.unit.to_string()).collect();
        let parents: Vec<(&str, &str)> = parents.iter().map(|one| (one.as_str(), one.as_str())).collect();
        let record = record(job, planned, &parents);
        let checks = checked(family, &record);
        facts.checks.insert(checks.key.clone(), checks);
        facts.images.insert(record.key.clone(), record);
    }
    facts
}

fn base(digest: &[u8]) -> Base {
    Base::Found([("linux/amd64".parse().unwrap(), Digest::of(digest))].into())
}
