//! What the reader of `polyarch.toml` takes, and what it says of what it does not take.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use expect_test::{Expect, expect};

use super::*;
use crate::diag::Problems;

fn picture(problems: &Problems) -> String {
    let mut out = String::new();
    for problem in problems.iter() {
        writeln!(out, "{problem}").expect("text");
        if let Some(place) =
            problem.place.as_ref().filter(|place| !place.text.is_empty() && place.text.len() < 90)
        {
            writeln!(out, "  | {}", place.text).expect("text");
            writeln!(out, "  | {}{}", " ".repeat(place.column - 1), "^".repeat(place.width)).expect("text");
        }
        problem.hints.iter().for_each(|hint| writeln!(out, "  hint: {hint}").expect("text"));
    }
    out
}

fn parse(text: &str) -> crate::diag::Result<FamilyFile> {
    FamilyFile::parse(Path::new("polyarch.toml"), text)
}

fn check(text: &str, expected: &Expect) {
    match parse(text) {
        Ok(_) => expected.assert_eq("fine\n"),
        Err(problems) => expected.assert_eq(&picture(&problems)),
    }
}

#[test]
fn the_sketch_of_the_design_is_read() {
    let file = parse(
        r#"
registry  = "quay.io/jupyter"
platforms = ["linux/amd64", "linux/arm64"]
images    = ["images/*"]
args      = { REGISTRY = "quay.io", OWNER = "jupyter" }

[tags]
names    = { "linux/amd64" = "x86_64", "linux/arm64" = "aarch64" }
platform = "{platform}-{tag}"
immutable = ["{commit}", "*-2024.*"]
common   = ["latest", "{commit}", "{date}"]

[image.docker-stacks-foundation]
tags     = [{ tag = "python-{0}", run = "python --version", match = 'Python (\S+)' },
            { tag = "ubuntu-{0}", os-release = "VERSION_ID" }]
describe = [{ title = "Apt Packages", run = "apt list --installed" }]
tests    = [{ host = "pytest tests/by_image/docker-stacks-foundation" }, { run = "id -un", stdout = "jovyan" }]

[image.tensorflow-notebook]
variants.cuda = { platforms = ["linux/amd64"], time-limit = "2h" }

[builder.graviton]
engine = "ssh://build@arm-1.example"
slots  = 4
"#,
    );
    let file = file.expect("the sketch is right");
    assert_eq!(file.image.len(), 2);
    let foundation = &file.image[&"docker-stacks-foundation".parse::<Repository>().expect("name")];
    assert_eq!((foundation.tags.len(), foundation.tests.len(), foundation.describe.len()), (2, 2, 1));
    let cuda = &file.image[&"tensorflow-notebook".parse::<Repository>().expect("name")].variants;
    assert_eq!(
        cuda.values().next().and_then(|cuda| cuda.terms.time_limit.clone()).expect("limit").value,
        Seconds(7200)
    );
    assert!(file.images[0].value.matches("images/a") && !file.images[0].value.matches("images/a/b"));
    assert_eq!(file.builder["graviton"].slots.as_ref().expect("slots").value, 4);
}

#[test]
fn f_c2_empty_bom_and_carriage_returns_are_read_and_nul_is_told() {
    assert!(parse("").is_ok());
    assert!(parse("# nothing\n").is_ok());
    assert!(parse("\u{feff}name = \"a\"\r\nregistry = \"q.io/b\"\r\n").is_ok());
    check(
        "name = \"a\0\"",
        &expect![[r#"
            polyarch.toml:1:10: the file is not text: NUL at byte 9
              hint: write the file as UTF-8 text without NUL
        "#]],
    );
}

#[test]
fn f_c4_tm25_depth_and_size_have_limits() {
    for text in ["a = ".to_owned() + &"[".repeat(10_000), "a = ".to_owned() + &"{a=".repeat(10_000)] {
        let problems = parse(&text).expect_err("too deep");
        assert!(problems.to_string().contains("more than 64 deep"), "{problems}");
    }
    assert!(parse(&format!("{}a = 1", "a.".repeat(10_000))).is_err());
    let brackets = "[".repeat(100);
    assert!(parse(&format!("name = \"\"\"\n{brackets}\"\"\"\n# {brackets}\nstore = '{brackets}'\n")).is_ok());
    let many: String = (0..200_000).map(|at| format!("k{at}=1\n")).take(70_000).collect();
    assert!(parse(&many).expect_err("unknown keys").iter().count() <= 101);
    assert!(parse(&" ".repeat(BYTES_LIMIT as usize + 1)).is_err());
}

#[test]
fn f_c5_a_key_written_twice_is_told_with_both_lines() {
    check(
        "name = \"a\"\nregistry = \"q.io/x\"\nname = \"b\"\n\n[image.a]\ntarget = \"x\"\n[image.b]\ntarget = \"y\"\n\n[image.a]\n",
        &expect![[r#"
            polyarch.toml:3:1: `name` is written twice: it stands in line 1 already
              | name = "b"
              | ^^^^
              hint: remove line 1 or line 3
            polyarch.toml:10:8: `a` is written twice: it stands in line 5 already
              | [image.a]
              |        ^
              hint: remove line 5 or line 10
        "#]],
    );
    check(
        "[image.base]\n[image.Base]\n",
        &expect![[r#"
            polyarch.toml:2:8: `base` and `Base` differ in case alone: `base` stands in line 1
              | [image.Base]
              |        ^^^^
              hint: rename one
        "#]],
    );
    check(
        "platforms = [\"linux/arm64\", \"aarch64\"]\n",
        &expect![[r#"
        polyarch.toml:1:29: linux/arm64 stands twice in the list
          | platforms = ["linux/arm64", "aarch64"]
          |                             ^^^^^^^^^
          hint: remove one of the two
    "#]],
    );
}

#[test]
fn f_c6_unknown_keys_come_together_with_what_may_be_meant() {
    check(
        "platfroms = [\"linux/amd64\"]\n[image.a]\ntest = []\nzebra = 1\n[tags]\ndivergence = \"with-hold\"\n[builder.b]\nslot = 2\nslots = 0\n",
        &expect![[r#"
            polyarch.toml:1:1: there is no setting `platfroms`
              | platfroms = ["linux/amd64"]
              | ^^^^^^^^^
              hint: did you mean `platforms`?
            polyarch.toml:3:1: there is no setting `test` in `image.a`
              | test = []
              | ^^^^
              hint: did you mean `tests`?
            polyarch.toml:4:1: there is no setting `zebra` in `image.a`
              | zebra = 1
              | ^^^^^
              hint: use one of `mirror`, `folder`, `dockerfile`, `target`, `platforms`, `args`, `labels`, `secrets`, `ssh`, `tests`, `foreign-executables`, `tags`, `describe`, `time-limit`, `disk`, `needs`, `emulate`, `on`, `cache-budget`, `fresh-for`, `downstream`, `fail-fast`, `barrier`, `retry-without-cache`, `repository`, `variants`
            polyarch.toml:6:14: `divergence` cannot be `with-hold`
              | divergence = "with-hold"
              |              ^^^^^^^^^^^
              hint: did you mean `withhold`?
            polyarch.toml:8:1: there is no setting `slot` in `builder.b`
              | slot = 2
              | ^^^^
              hint: did you mean `slots`?
            polyarch.toml:9:9: `slots` wants a number from 1 to 1024
              | slots = 0
              |         ^
              hint: write `slots = 1`, or more
        "#]],
    );
}

#[test]
fn f_c10_platforms_that_are_none_are_told() {
    check(
        "platforms = [\"linux/amd46\", \"arm64/v9x\"]\n[image.a]\nplatforms = []\n[image.b]\nplatforms = \"linux/amd64\"\n",
        &expect![[r#"
            polyarch.toml:1:14: `linux/amd46` is no platform: `amd46` is no architecture known here
              | platforms = ["linux/amd46", "arm64/v9x"]
              |              ^^^^^^^^^^^^^
              hint: did you mean `amd64`?
            polyarch.toml:1:29: `arm64/v9x` is no platform: arm64 has no variant `v9x`
              | platforms = ["linux/amd46", "arm64/v9x"]
              |                             ^^^^^^^^^^^
              hint: write it as os/architecture or os/architecture/variant: "linux/amd64", "linux/arm/v7"
            polyarch.toml:3:13: the list of platforms is empty
              | platforms = []
              |             ^^
              hint: write `platforms = ["linux/amd64"]`, or remove the line
            polyarch.toml:5:13: `platforms` wants a list, not a text
              | platforms = "linux/amd64"
              |             ^^^^^^^^^^^^^
              hint: write `platforms = ["linux/amd64"]`
        "#]],
    );
}

#[test]
fn f_c11_names_that_no_registry_takes_are_told() {
    check(
        "registry = \"docker.io/a/b\"\n[image.Upper]\n[image.\"a..b\"]\n[image.x]\nrepository = \"x/\"\nvariants.\"-v\" = {}\n",
        &expect![[r#"
            polyarch.toml:1:12: an image at docker.io is named owner/image, no more and no less
              | registry = "docker.io/a/b"
              |            ^^^^^^^^^^^^^^^
              hint: write `registry = "docker.io/OWNER"`
            polyarch.toml:2:8: `Upper` is no repository name: it must be lower-case
              | [image.Upper]
              |        ^^^^^
              hint: write `[image.upper]`
            polyarch.toml:3:8: `a..b` is no repository name: each part wants a-z and 0-9, joined by `.`, `_`, `__` or dashes
              | [image."a..b"]
              |        ^^^^^^
            polyarch.toml:5:14: `x/` is no repository name: each part wants a-z and 0-9, joined by `.`, `_`, `__` or dashes
              | repository = "x/"
              |              ^^^^
              hint: write it in lower case, as in "owner/name"
            polyarch.toml:6:10: `-v` is no tag: it must not begin with `.` or `-`
              | variants."-v" = {}
              |          ^^^^
        "#]],
    );
    check(
        "registry = \"https://quay.io/x\"\n",
        &expect![[r#"
        polyarch.toml:1:12: `https://quay.io/x` has a scheme, which a registry has not; write `quay.io/x`
          | registry = "https://quay.io/x"
          |            ^^^^^^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "registry = \"jupyter\"\n",
        &expect![[r#"
        polyarch.toml:1:12: `jupyter` is no registry; write its host too, as in `docker.io/jupyter`
          | registry = "jupyter"
          |            ^^^^^^^^^
    "#]],
    );
}

#[test]
fn f_c13_templates_know_their_names_and_can_be_tags() {
    check(
        "[tags]\ncommon = [\"latest\", \"{comit}\", \"a b\", \"{date\", \".x\"]\nplatform = \"{platform}\"\n[image.a]\ntags = [\n  { tag = \"py-{1}\", run = \"python\", match = '(\\d+)' },\n  { tag = \"{commit}\", run = \"x\" },\n  { tag = \"{0}-{1}\", run = \"x\", match = '(a)(b)' },\n]\n",
        &expect![[r#"
            polyarch.toml:2:21: `{comit}` asks for `{comit}`, which is not known here
              | common = ["latest", "{comit}", "a b", "{date", ".x"]
              |                     ^^^^^^^^^
              hint: use `{commit}`, `{date}`, `{image}`, `{variant}`
            polyarch.toml:2:32: `a b` cannot be a tag
              | common = ["latest", "{comit}", "a b", "{date", ".x"]
              |                                ^^^^^
              hint: use at most 128 of a-z, A-Z, 0-9, `_`, `.` and `-`, the first neither `.` nor `-`
            polyarch.toml:2:39: the braces of `{date` do not match
              | common = ["latest", "{comit}", "a b", "{date", ".x"]
              |                                       ^^^^^^^
              hint: write names as `{name}`
            polyarch.toml:2:48: `.x` cannot be a tag
              | common = ["latest", "{comit}", "a b", "{date", ".x"]
              |                                                ^^^^
              hint: use at most 128 of a-z, A-Z, 0-9, `_`, `.` and `-`, the first neither `.` nor `-`
            polyarch.toml:3:12: `{platform}` lacks `{tag}`: so that tags would fall together
              | platform = "{platform}"
              |            ^^^^^^^^^^^^
              hint: write `platform = "{platform}-{tag}"` or `platform = "{tag}-{platform}"`
            polyarch.toml:6:11: `py-{1}` asks for `{1}`, but the pattern catches 1, counted from `{0}`
              |   { tag = "py-{1}", run = "python", match = '(\d+)' },
              |           ^^^^^^^^
              hint: put one more group `( )` into `match`
            polyarch.toml:7:11: `{commit}` asks for `{commit}`, which is not known here
              |   { tag = "{commit}", run = "x" },
              |           ^^^^^^^^^^
              hint: use `{0}`, `{image}`, `{variant}`
        "#]],
    );
}

#[test]
fn f_c14_patterns_are_bounded() {
    check(
        "[image.a]\ntags = [{ tag = \"{0}\", run = \"x\", match = '(' }, { tag = \"{0}\", run = \"x\", match = '((((a{1,100}){1,100}){1,100}){1,100})' }, { tag = \"x-{0}\", run = \"x\", match = '(a+)+$' }]\n",
        &expect![[r#"
            polyarch.toml:2:43: this is no regular expression: unclosed group
              hint: correct it; a special character that is meant itself stands after `\`
            polyarch.toml:2:84: this is no regular expression: Compiled regex exceeds size limit of 1048576 bytes.
              hint: correct it; a special character that is meant itself stands after `\`
        "#]],
    );
}

#[test]
fn f_c17_secrets_in_plain_sight_are_refused_and_not_shown() {
    let text = "args = { DB_PASSWORD = \"hunter2\", TOKEN_FILE = \"/x\", EMPTY_TOKEN = \"\" }\n[image.a]\nargs = { api_key = \"hunter2\", X = \"ghp_hunter2hunter2hunter2\" }\nsecrets = { pip = \"hunter2\" }\n";
    check(
        text,
        &expect![[r#"
            polyarch.toml:1:24: `DB_PASSWORD` is a secret in plain sight: args can be read in the published image
              hint: remove it and write `secrets = { db_password = { env = "DB_PASSWORD" } }`
              hint: read it in the Dockerfile by `RUN --mount=type=secret,id=db_password …`
            polyarch.toml:3:20: `api_key` is a secret in plain sight: args can be read in the published image
              hint: remove it and write `secrets = { api_key = { env = "API_KEY" } }`
              hint: read it in the Dockerfile by `RUN --mount=type=secret,id=api_key …`
            polyarch.toml:3:35: `X` is a secret in plain sight: args can be read in the published image
              hint: remove it and write `secrets = { x = { env = "X" } }`
              hint: read it in the Dockerfile by `RUN --mount=type=secret,id=x …`
            polyarch.toml:4:19: the secret `pip` is written in plain sight
              hint: write `pip = { env = "PIP" }`
        "#]],
    );
    let problems = parse(text).expect_err("secrets");
    assert_eq!(problems.exit_code(), 4);
    assert!(!picture(&problems).contains("hunter2"));
}

#[test]
fn f_c20_another_format_is_told_with_both_versions() {
    assert!(parse("version = 1\n").is_ok());
    check(
        "version = 2\nnews = 1\n",
        &expect![[r#"
        polyarch.toml:1:11: the file has format 2, newer than 1, which this polyarch reads
          | version = 2
          |           ^
          hint: install a newer polyarch
    "#]],
    );
    check(
        "version = 0\n",
        &expect![[r#"
        polyarch.toml:1:11: the file has format 0, older than 1, which this polyarch reads
          | version = 0
          |           ^
          hint: set `version = 1` and follow the errors that are left
    "#]],
    );
}

#[test]
fn what_is_one_of_a_few_words_is_told_with_those_words() {
    check(
        "emulate = true\n[image.a]\nemulate = [\"allow\"]\n",
        &expect![[r#"
            polyarch.toml:1:11: `emulate` wants a text, not true or false
              | emulate = true
              |           ^^^^
              hint: use one of `allow`, `refuse`, `always`
            polyarch.toml:3:11: `emulate` wants a text, not a list
              | emulate = ["allow"]
              |           ^^^^^^^^^
              hint: use one of `allow`, `refuse`, `always`
        "#]],
    );
}

#[test]
fn values_of_the_wrong_kind_are_told_with_what_to_write() {
    check(
        "name = 3\nargs = { PYTHON = 3.10, N = 4, B = true }\n[image.a]\nfolder = \"../x\"\ntime-limit = \"soon\"\ntests = [{ run = \"a\", host = \"b\" }, { stdout = \"x\" }, \"\"]\ntags = [{ run = \"x\" }, { tag = \"x\" }]\ndescribe = [{ title = \"x\" }]\nsecrets = { a = {}, b = { env = \"X\", file = \"y\" } }\n[builder.x]\nengine = \"dokcer\"\n",
        &expect![[r#"
            polyarch.toml:1:8: `name` wants a text, not a whole number
              | name = 3
              |        ^
              hint: write `name = "3"`
            polyarch.toml:2:19: `PYTHON` wants a text: as a number 3.10 may lose digits
              | args = { PYTHON = 3.10, N = 4, B = true }
              |                   ^^^^
              hint: write `PYTHON = "3.10"`
            polyarch.toml:4:10: `../x` is not below the folder of this file
              | folder = "../x"
              |          ^^^^^^
              hint: move it below the folder of this file, and name it from there
            polyarch.toml:5:14: `soon` is no span of time; write one as `90s`, `30m` or `2h`
              | time-limit = "soon"
              |              ^^^^^^
            polyarch.toml:6:10: a test wants either `run` or `host`
              | tests = [{ run = "a", host = "b" }, { stdout = "x" }, ""]
              |          ^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: write one of them: `run = "…"` or `host = "…"`
            polyarch.toml:6:37: a test wants either `run` or `host`
              | tests = [{ run = "a", host = "b" }, { stdout = "x" }, ""]
              |                                     ^^^^^^^^^^^^^^^^
              hint: write one of them: `run = "…"` or `host = "…"`
            polyarch.toml:6:55: the command of `tests` is empty or no text
              | tests = [{ run = "a", host = "b" }, { stdout = "x" }, ""]
              |                                                       ^^
            polyarch.toml:7:9: a tagger lacks `tag`
              | tags = [{ run = "x" }, { tag = "x" }]
              |         ^^^^^^^^^^^^^
            polyarch.toml:7:24: a tagger wants one of `run`, `package` and `os-release`
              | tags = [{ run = "x" }, { tag = "x" }]
              |                        ^^^^^^^^^^^^^
              hint: write one of them: `run = "…"`, `package = "dpkg:…"` or `os-release = "VERSION_ID"`
            polyarch.toml:8:13: a description wants `title` and `run`
              | describe = [{ title = "x" }]
              |             ^^^^^^^^^^^^^^^
              hint: write `{ title = "…", run = "…" }`
            polyarch.toml:9:17: secrets.a wants either `env` or `file`
              | secrets = { a = {}, b = { env = "X", file = "y" } }
              |                 ^^
              hint: write one of them: `env = "…"` or `file = "…"`
            polyarch.toml:9:25: secrets.b wants either `env` or `file`
              | secrets = { a = {}, b = { env = "X", file = "y" } }
              |                         ^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: write one of them: `env = "…"` or `file = "…"`
            polyarch.toml:11:10: `dokcer` is no engine known here
              | engine = "dokcer"
              |          ^^^^^^^^
              hint: did you mean `docker`?
        "#]],
    );
}

#[test]
fn text_that_is_no_toml_is_told_with_its_place() {
    check(
        "name = \n[image.a\nx\n",
        &expect![[r#"
        polyarch.toml:2:9: this is no TOML: unclosed table, expected `]`
          | [image.a
          |         ^
        polyarch.toml:3:2: this is no TOML: key with no value, expected `=`
          | x
          |  ^
        polyarch.toml:1:8: this is no TOML: string values must be quoted, expected literal string
          | name = 
          |        ^
    "#]],
    );
}

#[test]
fn every_example_of_the_manual_is_read() {
    let pages = [
        ("README.md", include_str!("../../README.md"), 1),
        ("docs/configuration.md", include_str!("../../docs/configuration.md"), 6),
        ("docs/checks.md", include_str!("../../docs/checks.md"), 2),
        ("docs/exports.md", include_str!("../../docs/exports.md"), 2),
    ];
    for (page, manual, least) in pages {
        let mut examples = 0;
        for (at, block) in manual.split("```toml\n").skip(1).enumerate() {
            let text = block.split("```").next().unwrap_or_default();
            if let Err(problems) = parse(text) {
                panic!("example {} of {page}: {}", at + 1, picture(&problems));
            }
            examples += 1;
        }
        assert!(examples >= least, "{page} has {examples} examples");
    }
}

fn schema() -> serde_json::Value {
    let schema = schemars::schema_for!(FamilyFile);
    let mut schema = serde_json::to_value(schema).expect("a schema is JSON");
    // A command alone is a test too; the type cannot say so.
    let test = schema["$defs"]["TestSetting"].take();
    schema["$defs"]["TestSetting"] = serde_json::json!({ "anyOf": [{ "type": "string" }, test] });
    // So is a text a list of commands, where there is one.
    let run = &mut schema["$defs"]["DescriptionSetting"]["properties"]["run"];
    run["type"] = serde_json::json!(["array", "string"]);
    // And a text is a tag of a mirror.
    let tags = &mut schema["$defs"]["ImageSetting"]["properties"]["tags"]["items"];
    *tags = serde_json::json!({ "anyOf": [{ "type": "string" }, tags.take()] });
    schema
}

#[test]
fn the_schema_is_the_one_committed() {
    let made = serde_json::to_string_pretty(&schema()).expect("a schema is JSON") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/polyarch.schema.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        std::fs::write(&path, &made).expect("schema written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "the schema is out of date: run `UPDATE=1 cargo test the_schema_is`");
}

/// What the reader says may stand in a section is what the schema says.
#[test]
fn schema_and_reader_know_the_same_settings() {
    let schema = schema();
    let probes = [
        ("zzzzzzzzzzzz = 1", &schema["properties"]),
        ("[tags]\nzzzzzzzzzzzz = 1", &schema["$defs"]["TagSettings"]["properties"]),
        ("[publish]\nzzzzzzzzzzzz = 1", &schema["$defs"]["PublishSettings"]["properties"]),
        ("[image.a]\nzzzzzzzzzzzz = 1", &schema["$defs"]["ImageSetting"]["properties"]),
        ("[builder.a]\nzzzzzzzzzzzz = 1", &schema["$defs"]["BuilderSetting"]["properties"]),
        ("[[export]]\nzzzzzzzzzzzz = 1", &schema["$defs"]["ExportSetting"]["properties"]),
        (
            "[image.a]\ntests = [{ run = 'x', zzzzzzzzzzzz = 1 }]",
            &schema["$defs"]["TestSetting"]["anyOf"][1]["properties"],
        ),
        (
            "[image.a]\ntags = [{ tag = 'x', run = 'x', zzzzzzzzzzzz = 1 }]",
            &schema["$defs"]["TaggerSetting"]["properties"],
        ),
        (
            "[image.a]\ndescribe = [{ title = 'x', run = 'x', zzzzzzzzzzzz = 1 }]",
            &schema["$defs"]["DescriptionSetting"]["properties"],
        ),
    ];
    for (text, properties) in probes {
        let problems = parse(text).expect_err("an unknown key");
        let hint = &problems.iter().next().expect("one problem").hints[0];
        let read: BTreeSet<&str> = hint.split('`').skip(1).step_by(2).collect();
        let written: BTreeSet<&str> =
            properties.as_object().expect("properties").keys().map(String::as_str).collect();
        assert_eq!(read, written, "{text}");
    }
}

#[test]
fn what_a_build_takes_of_its_builder_is_said_for_an_image_and_for_its_platforms() {
    let file = parse(
        r#"
        [image.big]
        time-limit = "1h"
        disk = "30GB"
        needs = ["gpu"]
        emulate = "always"
        on."linux/arm64" = { time-limit = "2h", disk = "1TB" }

        [builder.one]
        labels = ["gpu"]
        disk = "500MB"
        "#,
    )
    .expect("read");
    let big = file.image.values().next().expect("an image");
    assert_eq!(big.terms.disk.as_ref().map(|disk| disk.value.0), Some(30_000_000_000));
    assert_eq!(big.terms.emulate, Some(Emulate::Always));
    let arm64 = big.on.values().next().expect("a platform");
    assert_eq!(arm64.time_limit.as_ref().map(|limit| limit.value.0), Some(7200));
    assert_eq!(arm64.disk.as_ref().map(|disk| disk.value.0), Some(1_000_000_000_000));
    let one = &file.builder["one"];
    assert_eq!(
        (one.labels[0].value.as_str(), one.disk.as_ref().map(|disk| disk.value.0)),
        ("gpu", Some(500_000_000))
    );
    for wrong in ["30", "GB", "-1GB", "3 elephants", "99999999999TB"] {
        assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
    }
}
