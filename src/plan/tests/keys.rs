//! What is in a key, and what is not.

use super::*;

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

fn frontend(digest: &[u8]) -> Frontend {
    let reference: Reference = "docker/dockerfile:1".parse().unwrap();
    Frontend::Found {
        written: reference.clone(),
        reference: reference.at(Digest::of(digest)),
        platforms: BTreeMap::new(),
    }
}

/// The key of `a` after a change.
fn key(change: &Change) -> Digest {
    planned(change).key
}

/// The inputs of `a` before any change, and after a change of every row of the key table.
pub(super) fn first_inputs() -> crate::plan::key::Inputs {
    planned(&Change::default()).inputs
}

pub(super) fn rows_of_inputs() -> Vec<(&'static str, crate::plan::key::Inputs)> {
    rows().into_iter().map(|(row, change)| (row, planned(&change).inputs)).collect()
}

fn planned(change: &Change) -> Planned {
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
    let mut jobs = all(&family, &facts).jobs.into_iter();
    jobs.find(|(job, _)| job.unit.to_string() == "a").unwrap().1
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
fn i_b3_another_format_of_keys_and_another_compression_are_other_keys() {
    let plain = first_inputs();
    for row in ["format", "compression"] {
        let mut other = plain.clone();
        assert!(other.insert(row.to_owned(), "another".to_owned()).is_some(), "{row} is in the key");
        assert_ne!(key::key_of(&other), key::key_of(&plain), "{row}");
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
fn law_2_what_add_fetches_from_a_repository_is_in_the_key_by_its_commit() {
    let text = "FROM scratch\nADD https://token@x.example/r.git#main:folder /\n";
    let family = family("", &table(&[("a", text), ("b", "FROM scratch\n")]));
    let at = |commit: Result<&str, &str>| {
        let commit = commit.map(|digit| digit.repeat(40)).map_err(str::to_owned);
        Facts {
            commits: [("https://x.example/r.git#main:folder".to_owned(), commit)].into(),
            ..Facts::default()
        }
    };
    let told = |facts: &Facts| {
        let plan = all(&family, facts);
        let told = unfit_repositories(&family, facts, &plan).into_iter();
        told.map(|unfit| unfit.problem.to_string()).collect::<Vec<_>>()
    };
    let before = with_records(&family, at(Ok("1")));
    assert_eq!(all(&family, &before).reused(), 2);
    let latest = newest(&before);
    let moved = Facts { newest: latest, ..with_records_of(before, at(Ok("2"))) };
    let planned = all(&family, &moved);
    let reasons = |plan: &Plan| match &plan.jobs[&job("a@linux/amd64")].decision {
        Decision::Build(reasons) => reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let (old, new) = ("1".repeat(40), "2".repeat(40));
    let source = "what ADD fetches from https://x.example/r.git#main:folder";
    assert_eq!(reasons(&planned), [format!("{source} changed: {old} then, {new} now")]);
    assert_eq!((planned.reused(), told(&moved).len()), (1, 0));
    let gone = Facts { commits: at(Err("connection refused")).commits, ..moved };
    assert_eq!(
        reasons(&all(&family, &gone))[0],
        "the commit of https://x.example/r.git#main:folder is unknown"
    );
    expect![
        "a/Dockerfile:2:1: the commit of https://x.example/r.git#main:folder is unknown: connection refused"
    ]
    .assert_eq(told(&gone)[0].lines().next().unwrap());
    assert!(told(&gone).iter().all(|told| !told.contains("token")));
}

/// The image records of facts, as the latest of their jobs.
fn newest(facts: &Facts) -> BTreeMap<JobId, ImageRecord> {
    facts.images.values().map(|record| (job(&record.job), record.clone())).collect()
}

/// Facts with the records of others.
fn with_records_of(records: Facts, facts: Facts) -> Facts {
    Facts { images: records.images, checks: records.checks, ..facts }
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
        let recipe = family.recipe(&"a".parse().unwrap()).unwrap();
        let key = check_key(&image("same"), recipe, &BTreeMap::new());
        (key, check_inputs(recipe, &BTreeMap::new()))
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
        "tests = [{ run = \"id\" }]\ntags = [{ tag = \"v{0}\", package = \"dpkg:id\" }]",
        "tests = [{ run = \"id\" }]\ntags = [{ tag = \"v{0}\", package = \"dpkg:id\", match = \"(x)\" }]",
        "tests = [{ run = \"id\" }]\nforeign-executables = [{ path = \"a/**\", reason = \"x\" }]",
        "tests = [{ run = \"id\" }]\nforeign-executables = [{ path = \"a\", reason = \"x\" }]",
    ];
    let (first, told) = key(test, "1");
    let (mut keys, mut all_told) = (BTreeSet::from([first]), BTreeSet::from([told]));
    for other in others {
        let (key, told) = key(other, "1");
        assert!(keys.insert(key), "{other}");
        assert!(all_told.insert(told), "I-B3: `why` can tell of {other}");
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
