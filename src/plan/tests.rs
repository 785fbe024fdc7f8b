//! Plans of small families: what is in a key and what is not, every reason, the order, and many images.

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

/// A change to the family or to the facts.
#[derive(Default)]
struct Change {
    config: Option<&'static str>,
    dockerfile: Option<&'static str>,
    parent: Option<&'static str>,
    facts: Option<fn(&mut Facts)>,
}

const CONFIG: &str = "platforms = [\"linux/amd64\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"1\" }\ntests = [{ run = \"id\" }]\n";
const DOCKERFILE: &str = "# syntax=docker/dockerfile:1\nFROM base.example/x:1 AS first\nFROM p AS last\nARG X\nARG Y\nCOPY --from=first /x /x\nCOPY files /\nADD https://x.example/one /one\nADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://x.example/two /two\n";

fn base(digest: &[u8]) -> Base {
    Base::Found([("linux/amd64".parse().unwrap(), Digest::of(digest))].into())
}

fn frontend(digest: &[u8]) -> Frontend {
    let reference: Reference = "docker/dockerfile:1".parse().unwrap();
    Frontend::Found { reference: reference.at(Digest::of(digest)), platforms: BTreeMap::new() }
}

/// The key of `a` after a change.
fn key(change: &Change) -> Digest {
    let files =
        [("a", change.dockerfile.unwrap_or(DOCKERFILE)), ("p", change.parent.unwrap_or("FROM scratch\n"))];
    let family = family(change.config.unwrap_or(CONFIG), &table(&files));
    let mut facts = Facts::default();
    facts.files.insert(job("a@linux/amd64"), [("files/one".to_owned(), "0644 x".to_owned())].into());
    facts.bases.insert("base.example/x:1".parse().unwrap(), base(b"1"));
    facts.frontends.insert("a".parse().unwrap(), frontend(b"1"));
    if let Some(change) = change.facts {
        change(&mut facts);
    }
    let plan = all(&family, &facts);
    let (_, planned) = plan.jobs.iter().find(|(job, _)| job.unit.to_string() == "a").unwrap();
    planned.key.clone()
}

fn of_config(text: &'static str) -> Change {
    Change { config: Some(text), ..Change::default() }
}

fn of_text(text: &'static str) -> Change {
    Change { dockerfile: Some(text), ..Change::default() }
}

fn of_facts(change: fn(&mut Facts)) -> Change {
    Change { facts: Some(change), ..Change::default() }
}

fn files(facts: &mut Facts) -> &mut BTreeMap<String, String> {
    facts.files.get_mut(&job("a@linux/amd64")).unwrap()
}

fn refreshed(facts: &mut Facts, name: &str) {
    facts.epochs.insert(job(name), 1);
}

/// A change of every row of the key table.
fn rows() -> Vec<(&'static str, Change)> {
    vec![
        (
            "Dockerfile",
            of_text(
                "# syntax=docker/dockerfile:1\nFROM base.example/x:1 AS first\nFROM p AS last\nARG X\nARG Y\nCOPY files /\nCOPY --from=first /x /x\n",
            ),
        ),
        ("frontend", of_facts(|facts| *facts.frontends.values_mut().next().unwrap() = frontend(b"2"))),
        (
            "target",
            of_config(
                "platforms = [\"linux/amd64\"]\n[image.a]\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"1\" }\n",
            ),
        ),
        (
            "a file",
            of_facts(|facts| files(facts).values_mut().for_each(|state| *state = "0755 x".to_owned())),
        ),
        (
            "a file's name",
            of_facts(|facts| *files(facts) = [("files/two".to_owned(), "0644 x".to_owned())].into()),
        ),
        (
            "a new file",
            of_facts(|facts| drop(files(facts).insert("files/two".to_owned(), "0644 x".to_owned()))),
        ),
        ("a file that is gone", of_facts(|facts| files(facts).clear())),
        (
            "argument",
            of_config(
                "platforms = [\"linux/amd64\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"3\" }\nlabels = { \"org.x\" = \"1\" }\n",
            ),
        ),
        (
            "arguments that swap values",
            of_config(
                "platforms = [\"linux/amd64\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"2\", Y = \"1\" }\nlabels = { \"org.x\" = \"1\" }\n",
            ),
        ),
        (
            "label",
            of_config(
                "platforms = [\"linux/amd64\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"2\" }\n",
            ),
        ),
        (
            "platform",
            of_config(
                "platforms = [\"linux/arm64\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"1\" }\n",
            ),
        ),
        ("the parent's inputs", Change { parent: Some("FROM scratch\nSTOPSIGNAL 9\n"), ..Change::default() }),
        ("base", of_facts(|facts| *facts.bases.values_mut().next().unwrap() = base(b"2"))),
        (
            "checksum",
            of_text(
                "# syntax=docker/dockerfile:1\nFROM base.example/x:1 AS first\nFROM p AS last\nARG X\nARG Y\nCOPY --from=first /x /x\nCOPY files /\nADD https://x.example/one /one\nADD --checksum=sha256:1111111111111111111111111111111111111111111111111111111111111111 https://x.example/two /two\n",
            ),
        ),
        ("epoch", of_facts(|facts| refreshed(facts, "a@linux/amd64"))),
    ]
}

#[test]
fn i_b3_f_d9_every_row_of_the_key_table_changes_the_key() {
    let plain = key(&Change::default());
    let mut keys = BTreeSet::from([plain]);
    for (what, change) in rows() {
        assert!(keys.insert(key(&change)), "{what} does not change the key");
    }
}

#[test]
fn i_b3_what_is_in_no_row_does_not_change_the_key() {
    let changes = [
        ("nothing", Change::default()),
        (
            "tests",
            of_config(
                "platforms = [\"linux/amd64\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"1\" }\n",
            ),
        ),
        (
            "order",
            of_config(
                "platforms = [\"linux/amd64\"]\n[image.a]\nlabels = { \"org.x\" = \"1\" }\nargs = { Y = \"2\", X = \"1\" }\ntarget = \"last\"\n",
            ),
        ),
        (
            "an argument that nothing declares",
            of_config(
                "platforms = [\"linux/amd64\"]\nargs = { ZZ = \"9\" }\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"1\" }\n",
            ),
        ),
        (
            "secrets",
            of_config(
                "platforms = [\"linux/amd64\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"1\" }\nsecrets = { token = { env = \"TOKEN\" } }\n",
            ),
        ),
        (
            "registry, tags, time limit",
            of_config(
                "registry = \"quay.io/x\"\nplatforms = [\"linux/amd64\"]\n[tags]\ncommon = [\"{date}\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"1\" }\ntags = [{ tag = \"v{0}\", run = \"id\" }]\ntime-limit = \"9m\"\n",
            ),
        ),
        (
            "another platform beside it",
            of_config(
                "platforms = [\"linux/amd64\", \"linux/arm64\"]\n[image.a]\ntarget = \"last\"\nargs = { X = \"1\", Y = \"2\" }\nlabels = { \"org.x\" = \"1\" }\n",
            ),
        ),
        (
            "a base that nothing uses",
            of_facts(|facts| drop(facts.bases.insert("y.example/y:1".parse().unwrap(), base(b"y")))),
        ),
        ("another job's epoch", of_facts(|facts| refreshed(facts, "b@linux/amd64"))),
    ];
    let plain = key(&Change::default());
    for (what, change) in changes {
        assert_eq!(key(&change), plain, "{what}");
    }
}

#[test]
fn law_2_what_add_fetches_is_in_the_key_by_its_checksum_else_by_the_epoch() {
    let sum = format!("sha256:{}", "1".repeat(64));
    let text =
        "FROM scratch\nARG SUM\nADD --checksum=$SUM https://x.example/one /\nADD https://x.example/two /\n";
    let config = format!("[image.a]\nargs = {{ SUM = \"{sum}\" }}\n");
    let family = family(&config, &table(&[("a", text)]));
    let inputs = |facts: &Facts| all(&family, facts).jobs[&job("a@linux/amd64")].inputs.clone();
    let mut facts = Facts::default();
    assert_eq!(inputs(&facts)["remote:https://x.example/one"], sum);
    let before = inputs(&facts)["remote:https://x.example/two"].clone();
    refreshed(&mut facts, "a@linux/amd64");
    assert_ne!(inputs(&facts)["remote:https://x.example/two"], before);
    assert_eq!(inputs(&facts)["remote:https://x.example/one"], sum);
}

#[test]
fn a_parent_that_would_be_built_for_an_epoch_makes_its_children_new() {
    let plain = key(&Change::default());
    assert_ne!(key(&of_facts(|facts| refreshed(facts, "p@linux/amd64"))), plain);
}

#[test]
fn names_and_values_of_inputs_never_run_together() {
    let inputs = |table: &[(&str, &str)]| -> Inputs {
        table.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_ne!(key::key_of(&inputs(&[("a", "bc")])), key::key_of(&inputs(&[("ab", "c")])));
    assert_ne!(key::key_of(&inputs(&[("a", "b"), ("c", "d")])), key::key_of(&inputs(&[("a", "bcd")])));
}

#[test]
fn the_check_key_is_of_the_image_and_of_the_checks_alone() {
    let key = |checks: &str, name: &str| {
        let config = format!("args = {{ X = \"{name}\" }}\n[image.a]\n{checks}\n");
        let family = family(&config, &table(&[("a", "FROM scratch\nARG X\n")]));
        check_key(&image("same"), family.recipe(&"a".parse().unwrap()).unwrap(), &BTreeMap::new())
    };
    let test = "tests = [{ run = \"id\" }]";
    let others = [
        "",
        "tests = [{ run = \"ls\" }]",
        "tests = [{ host = \"id\" }]",
        "tests = [{ run = \"id\", stdout = \"root\" }]",
        "tests = [{ run = \"id\", time-limit = \"9m\" }]",
        "tests = [{ run = \"id\" }, { run = \"ls\" }]",
        "tests = [{ run = \"id\" }]\ntags = [{ tag = \"v{0}\", run = \"id\" }]",
        "tests = [{ run = \"id\" }]\ntags = [{ tag = \"v{0}\", run = \"id\", match = \"(x)\" }]",
        "tests = [{ run = \"id\" }]\ndescribe = [{ title = \"X\", run = \"id\" }]",
    ];
    let mut keys = BTreeSet::from([key(test, "1")]);
    for other in others {
        assert!(keys.insert(key(other, "1")), "{other}");
    }
    assert_eq!(key(test, "1"), key(test, "2"), "how the image came to be does not matter");
    let family = family("[image.a]\ntests = [{ run = \"id\" }]\n", &table(&[("a", "FROM scratch\n")]));
    let recipe = family.recipe(&"a".parse().unwrap()).unwrap();
    let with = |name: &str, files: &[(&str, &str)]| {
        check_key(&image(name), recipe, &table(files).into_iter().collect())
    };
    assert_ne!(with("one", &[]), with("two", &[]));
    let files = [&[][..], &[("t", "1")], &[("t", "2")], &[("t", "1"), ("u", "1")]];
    assert_eq!(files.iter().map(|files| with("one", files)).collect::<BTreeSet<_>>().len(), 4);
}

/// What is decided about each job, and why.
fn picture(plan: &Plan) -> String {
    let mut out = String::new();
    for job in &plan.order {
        match &plan.jobs[job].decision {
            Decision::Reuse(_) => writeln!(out, "{job}: reuse").unwrap(),
            Decision::Check(_) => writeln!(out, "{job}: check").unwrap(),
            Decision::Build(reasons) => {
                writeln!(out, "{job}: build").unwrap();
                reasons.iter().for_each(|reason| writeln!(out, "  {reason}").unwrap());
            }
        }
    }
    out
}

fn check(family: &Family, facts: &Facts, request: &Request, expected: &Expect) {
    expected.assert_eq(&picture(&Plan::new(family, facts, request)));
}

fn pair() -> Family {
    family("", &table(&[("a", "FROM scratch\n"), ("b", "FROM a\nCOPY files /\n"), ("c", "FROM b\n")]))
}

#[test]
fn what_has_never_been_built_is_built() {
    check(
        &pair(),
        &Facts::default(),
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: build
          no record of it
        b@linux/amd64: build
          no record of it
          a@linux/amd64 is built
        c@linux/amd64: build
          no record of it
          b@linux/amd64 is built
    "#]],
    );
}

#[test]
fn what_stands_is_reused_or_checked() {
    let family = pair();
    let mut facts = with_records(&family, Facts::default());
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: reuse
        b@linux/amd64: reuse
        c@linux/amd64: reuse
    "#]],
    );
    let of_b = check_key(&image("b"), family.recipe(&"b".parse().unwrap()).unwrap(), &BTreeMap::new());
    facts.checks.remove(&of_b);
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: reuse
        b@linux/amd64: check
        c@linux/amd64: reuse
    "#]],
    );
}

#[test]
fn asked_for_is_asked_for() {
    let family = pair();
    let facts = with_records(&family, Facts::default());
    let request = Request { selected: [job("b@linux/amd64")].into(), no_reuse: true, ..Request::default() };
    check(
        &family,
        &facts,
        &request,
        &expect![[r#"
        a@linux/amd64: reuse
        b@linux/amd64: build
          asked for
    "#]],
    );
    let request = Request { no_reuse: true, ..Request::default() };
    check(
        &family,
        &facts,
        &request,
        &expect![[r#"
        a@linux/amd64: build
          asked for
        b@linux/amd64: build
          asked for
          a@linux/amd64 is built
        c@linux/amd64: build
          asked for
          b@linux/amd64 is built
    "#]],
    );
}

#[test]
fn every_input_that_changed_is_told_with_old_and_new_value() {
    let files = |family: &str| table(&[("a", "FROM base.example/x:1\nARG X\nCOPY files /\n"), ("b", family)]);
    let before = family("[image.a]\nargs = { X = \"1\" }\nlabels = { l = \"1\" }\n", &files("FROM a\n"));
    let after = family("[image.a]\nargs = { X = \"2\" }\n", &files("FROM a\nRUN true\n"));
    let mut facts = Facts::default();
    facts.bases.insert("base.example/x:1".parse().unwrap(), base(b"1"));
    let mut state = |table: &[(&str, &str)]| {
        let table = table.iter().map(|(path, state)| ((*path).to_owned(), (*state).to_owned()));
        facts.files.insert(job("a@linux/amd64"), table.collect());
        Facts { files: facts.files.clone(), bases: facts.bases.clone(), ..Facts::default() }
    };
    let changed = format!("0644 {}", Digest::of(b"1"));
    let then = state(&[("files/changed", &changed), ("files/gone", "0644 x")]);
    let changed = format!("0755 {}", Digest::of(b"2"));
    let mut now = state(&[("files/changed", &changed), ("files/new", "0644 x")]);
    now.bases.insert("base.example/x:1".parse().unwrap(), base(b"2"));
    now.epochs.insert(job("a@linux/amd64"), 2);
    let plan = all(&before, &then);
    now.newest = plan.jobs.iter().map(|(job, planned)| (job.clone(), record(job, planned, &[]))).collect();
    check(
        &after,
        &now,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: build
          build argument X changed: 1 then, 2 now
          base image base.example/x:1 changed: 6b86b273ff34 then, d4735e3a265e now
          epoch is new
          file files/changed changed: 0644 6b86b273ff34 then, 0755 d4735e3a265e now
          file files/gone is gone
          file files/new is new
          label l is gone
        b@linux/amd64: build
          the Dockerfile changed: 20a51c180619 then, a49d2e7eaff6 now
          a@linux/amd64 is built
    "#]],
    );
}

#[test]
fn a_base_that_cannot_be_looked_up_is_told_and_built_upon() {
    let family = family("", &table(&[("a", "FROM base.example/x:1\n")]));
    let mut facts = Facts::default();
    facts.bases.insert("base.example/x:1".parse().unwrap(), Base::Unknown("connection refused".to_owned()));
    check(
        &family,
        &with_records(&family, facts),
        &Request::default(),
        &expect![[r#"
            a@linux/amd64: build
              base image base.example/x:1 is unknown
        "#]],
    );
}

#[test]
fn a_frontend_that_cannot_be_looked_up_is_told_with_its_line_and_built_with() {
    let files = [("a", "#!/bin/x\n# syntax=x.example/frontend:1\nFROM scratch\n"), ("b", "FROM scratch\n")];
    let family = family("", &table(&files));
    let read = crate::dockerfile::Dockerfile::parse("a/Dockerfile".as_ref(), files[0].1).unwrap();
    let unknown = Frontend::Unknown { written: read.syntax().unwrap(), why: "connection refused".to_owned() };
    let facts = Facts { frontends: [("a".parse().unwrap(), unknown)].into(), ..Facts::default() };
    let facts = with_records(&family, facts);
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
            a@linux/amd64: build
              frontend x.example/frontend:1 is unknown
            b@linux/amd64: reuse
        "#]],
    );
    let told = unknown_frontends(&facts, &all(&family, &facts));
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    expect!["a/Dockerfile:2:10: frontend x.example/frontend:1 is unknown, so that nothing that it reads is reused: it cannot be looked up: connection refused"].assert_eq(&told.join("\n"));
}

#[test]
fn law_3_a_record_on_another_image_of_its_parent_is_not_reused() {
    let family = pair();
    let mut facts = with_records(&family, Facts::default());
    let of_b = facts.images.values_mut().find(|record| record.job.starts_with("b@")).unwrap();
    of_b.parents.insert("a".to_owned(), image("another"));
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: reuse
        b@linux/amd64: build
          its record stands on another image of a@linux/amd64: 5d2bf278393e then, a854f481d4cb now
        c@linux/amd64: build
          b@linux/amd64 is built
    "#]],
    );
}

#[test]
fn law_3_a_record_whose_content_is_missing_is_not_reused() {
    let family = pair();
    let mut facts = with_records(&family, Facts::default());
    facts.missing.insert(image("b"), Digest::of(b"a layer"));
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
            a@linux/amd64: reuse
            b@linux/amd64: build
              its record stands, but sha256:e28d98ac666afd34f089b971a663264d54d67a60ddc82996d48d8f3c204eb75f is missing from the store
            c@linux/amd64: build
              b@linux/amd64 is built
        "#]],
    );
}

#[test]
fn law_3_a_record_made_by_emulation_is_not_reused_where_emulation_is_refused() {
    let family = pair();
    let mut facts = with_records(&family, Facts::default());
    facts.images.values_mut().find(|record| record.job.starts_with("b@")).unwrap().emulated = true;
    let of_b = check_key(&image("b"), family.recipe(&"b".parse().unwrap()).unwrap(), &BTreeMap::new());
    for stands in [true, false] {
        if !stands {
            facts.checks.remove(&of_b);
        }
        check(
            &family,
            &facts,
            &Request::default(),
            &expect![[r#"
                a@linux/amd64: reuse
                b@linux/amd64: build
                  its record was made by emulation, which is refused here
                c@linux/amd64: build
                  b@linux/amd64 is built
            "#]],
        );
    }
    check(
        &family,
        &facts,
        &Request { emulation: Emulation::Allowed, ..Request::default() },
        &expect![[r#"
            a@linux/amd64: reuse
            b@linux/amd64: check
            c@linux/amd64: reuse
        "#]],
    );
    assert_eq!(all(&family, &facts).made_by_emulation().collect::<Vec<_>>(), [&job("b@linux/amd64")]);
}

#[test]
fn a_record_that_is_gone_is_told() {
    let family = family("", &table(&[("a", "FROM scratch\n")]));
    let plan = all(&family, &Facts::default());
    let newest = plan.jobs.iter().map(|(job, planned)| (job.clone(), record(job, planned, &[])));
    let facts = Facts { newest: newest.collect(), ..Facts::default() };
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: build
          its record is no longer in the store
    "#]],
    );
}

#[test]
fn i_b9_the_same_input_gives_the_same_plan_and_parents_come_first() {
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let files = table(&[("z", "FROM scratch\n"), ("a", "FROM z\nCOPY --from=m / /\n"), ("m", "FROM z\n")]);
    let (one, other) =
        (family(config, &files), family(config, &files.iter().rev().cloned().collect::<Vec<_>>()));
    let plan = all(&one, &Facts::default());
    assert_eq!(format!("{plan:?}"), format!("{:?}", all(&other, &Facts::default())));
    let order: Vec<String> = plan.order.iter().map(ToString::to_string).collect();
    expect!["z@linux/amd64 z@linux/arm64 m@linux/amd64 m@linux/arm64 a@linux/amd64 a@linux/arm64"]
        .assert_eq(&order.join(" "));
}

#[test]
fn a_selection_comes_with_its_ancestors() {
    let files = table(&[("a", "FROM scratch\n"), ("b", "FROM a\n"), ("c", "FROM b\n"), ("d", "FROM a\n")]);
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let request = Request { selected: [job("b@linux/arm64")].into(), ..Request::default() };
    let plan = Plan::new(&family(config, &files), &Facts::default(), &request);
    assert_eq!(plan.order, [job("a@linux/arm64"), job("b@linux/arm64")]);
    assert_eq!(plan.jobs.len(), 2);
}

#[test]
fn five_thousand_images_in_chains_of_five_hundred_are_planned() {
    let files: Vec<(String, String)> = (0..5_000)
        .map(|at| {
            let base = if at % 500 == 0 { "scratch".to_owned() } else { format!("u{}", at - 1) };
            (format!("u{at}"), format!("FROM {base}\nRUN {at}\n"))
        })
        .collect();
    let family = family("", &files);
    let facts = with_records(&family, Facts::default());
    let plan = all(&family, &facts);
    assert_eq!((plan.order.len(), plan.reused()), (5_000, 5_000));
    let request =
        Request { selected: [job("u499@linux/amd64")].into(), no_reuse: true, ..Request::default() };
    let plan = Plan::new(&family, &facts, &request);
    assert_eq!((plan.order.len(), plan.to_build()), (500, 1));
}

#[test]
fn a_stage_of_a_named_platform_stands_on_the_base_for_that_platform() {
    let files = [(
        "a",
        "FROM --platform=linux/s390x base.example/x:1 AS tool\nFROM base.example/y:1\nCOPY --from=tool /t /t\n",
    )];
    let family = family("platforms = [\"linux/amd64\"]\n", &table(&files));
    let platforms = |name: &str| {
        let of =
            |platform: &str| (platform.parse().unwrap(), Digest::of(format!("{name} {platform}").as_bytes()));
        Base::Found([of("linux/amd64"), of("linux/s390x")].into())
    };
    let bases = ["x", "y"].map(|name| (format!("base.example/{name}:1").parse().unwrap(), platforms(name)));
    let facts = Facts { bases: bases.into(), ..Facts::default() };
    let inputs = &all(&family, &facts).jobs[&job("a@linux/amd64")].inputs;
    assert_eq!(inputs["base:base.example/x:1"], Digest::of(b"x linux/s390x").to_string());
    assert_eq!(inputs["base:base.example/y:1"], Digest::of(b"y linux/amd64").to_string());
}
