//! Families from small files: their edges, names and checks, and what is said of those that do not hold together.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};

use super::*;
use crate::config::FamilyFile;

fn sources(config: Option<&str>, dockerfiles: &[(&str, &str)]) -> Sources {
    let file = config
        .map(|text| FamilyFile::parse(Path::new("polyarch.toml"), text).expect("the configuration is right"));
    let found =
        dockerfiles.iter().map(|(path, text)| Found { path: PathBuf::from(path), text: (*text).to_owned() });
    Sources {
        name: "stacks".to_owned(),
        file,
        dockerfiles: found.collect(),
        args: BTreeMap::new(),
        root_image: None,
        release: None,
        machine: "linux/amd64".parse().expect("platform"),
    }
}

fn told<'a>(problems: impl Iterator<Item = &'a Diagnostic>) -> String {
    let mut out = String::new();
    for problem in problems {
        writeln!(out, "{problem}").expect("text");
        problem.hints.iter().for_each(|hint| writeln!(out, "  hint: {hint}").expect("text"));
    }
    out
}

/// Each unit with what it uses, or what is wrong.
fn picture(sources: &Sources) -> String {
    match Family::resolve(sources) {
        Err(problems) => told(problems.iter()),
        Ok(family) => {
            let mut out = String::new();
            for recipe in family.recipes() {
                let parents: Vec<String> =
                    family.parents(&recipe.unit).iter().map(ToString::to_string).collect();
                writeln!(out, "{} ← {}", recipe.unit, parents.join(", ")).expect("text");
            }
            out
        }
    }
}

fn check(config: Option<&str>, dockerfiles: &[(&str, &str)], expected: &Expect) {
    expected.assert_eq(&picture(&sources(config, dockerfiles)));
}

fn upon(parent: &str) -> String {
    format!(
        "ARG REGISTRY=quay.io\nARG OWNER=jupyter\nARG BASE_IMAGE=$REGISTRY/$OWNER/{parent}\nFROM $BASE_IMAGE\n"
    )
}

/// A family in the shape of docker-stacks.
fn stacks() -> Vec<(String, String)> {
    let table = [
        ("images/base-notebook", "docker-stacks-foundation"),
        ("images/minimal-notebook", "base-notebook"),
        ("images/scipy-notebook", "minimal-notebook"),
        ("images/r-notebook", "minimal-notebook"),
        ("images/julia-notebook", "minimal-notebook"),
        ("images/tensorflow-notebook", "scipy-notebook"),
        ("images/tensorflow-notebook/cuda", "scipy-notebook"),
        ("images/pytorch-notebook", "scipy-notebook"),
        ("images/pytorch-notebook/cuda12", "scipy-notebook"),
        ("images/pytorch-notebook/cuda13", "scipy-notebook"),
        ("images/datascience-notebook", "scipy-notebook"),
        ("images/pyspark-notebook", "scipy-notebook"),
        ("images/all-spark-notebook", "pyspark-notebook"),
        ("binder", "base-notebook"),
        ("examples/docker-compose/notebook", "minimal-notebook:latest"),
        (".git/hidden", "base-notebook"),
    ];
    let upon = table.iter().map(|(folder, parent)| (format!("{folder}/Dockerfile"), upon(parent)));
    let root = "ARG ROOT_IMAGE=ubuntu:24.04\nFROM $ROOT_IMAGE\n".to_owned();
    let own = [
        ("images/docker-stacks-foundation/Dockerfile".to_owned(), root),
        ("images/base-notebook/Dockerfile.old".to_owned(), "FROM nothing\n".to_owned()),
    ];
    own.into_iter().chain(upon).collect()
}

fn stacks_sources(config: Option<&str>) -> Sources {
    let files = stacks();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    sources(config, &files)
}

#[test]
fn s2_row_3_a_folder_of_dockerfiles_is_a_family() {
    expect![[r#"
        docker-stacks-foundation ← 
        base-notebook ← docker-stacks-foundation
        binder ← base-notebook
        minimal-notebook ← base-notebook
        julia-notebook ← minimal-notebook
        notebook ← minimal-notebook
        r-notebook ← minimal-notebook
        scipy-notebook ← minimal-notebook
        datascience-notebook ← scipy-notebook
        pyspark-notebook ← scipy-notebook
        all-spark-notebook ← pyspark-notebook
        pytorch-notebook ← scipy-notebook
        pytorch-notebook:cuda12 ← scipy-notebook
        pytorch-notebook:cuda13 ← scipy-notebook
        tensorflow-notebook ← scipy-notebook
        tensorflow-notebook:cuda ← scipy-notebook
    "#]]
    .assert_eq(&picture(&stacks_sources(None)));
    let family = Family::resolve(&stacks_sources(None)).expect("a family");
    assert!(family.platform_assumed);
    let of_images = family.recipes().filter(|recipe| recipe.context.starts_with("images"));
    assert_eq!(of_images.count(), 14);
    let cuda = family.recipe(&"tensorflow-notebook:cuda".parse().expect("unit")).expect("a variant");
    assert_eq!((cuda.tag_prefix(), cuda.repository.as_str()), ("cuda-", "stacks/tensorflow-notebook"));
    assert_eq!(cuda.context, Path::new("images/tensorflow-notebook/cuda"));
    expect![[r#"
        16 images have no test: `all-spark-notebook`, `base-notebook`, `binder`, `datascience-notebook`, `docker-stacks-foundation`, and 11 more
          hint: run `polyarch init`, and write tests into the file
    "#]].assert_eq(&told(family.warnings.iter()));
}

const STACKS: &str = r#"
registry  = "quay.io/jupyter"
platforms = ["linux/amd64", "linux/arm64"]
images    = ["images/*"]
args      = { REGISTRY = "quay.io", OWNER = "jupyter" }
[tags]
common   = ["latest", "{commit}"]
[image.docker-stacks-foundation]
tags     = [{ tag = "python-{0}", run = "python --version", match = 'Python (\S+)' }]
tests    = [{ run = "id -un", stdout = "jovyan" }]
[image.scipy-notebook]
tests    = ["python -c 'import scipy'"]
tags     = [{ tag = "python-{0}", run = "python3 --version", match = 'Python (\S+)' }]
[image.tensorflow-notebook]
tests    = ["python -c 'import tensorflow'"]
variants.cuda = { platforms = ["linux/amd64"] }
"#;

#[test]
fn s4_rows_8_and_11_checks_come_from_root_to_leaf_and_the_nearer_tagger_wins() {
    let family = Family::resolve(&stacks_sources(Some(STACKS))).expect("a family");
    assert_eq!(family.recipes().count(), 14);
    let cuda = family.recipe(&"tensorflow-notebook:cuda".parse().expect("unit")).expect("a variant");
    assert_eq!(cuda.platforms.len(), 1);
    assert_eq!(cuda.repository.as_str(), "jupyter/tensorflow-notebook");
    let checks: Vec<String> =
        cuda.checks.iter().map(|check| format!("{}: {:?}", check.declared_by, check.kind)).collect();
    expect![[r#"
        docker-stacks-foundation: Test { action: Image("id -un"), stdout: Some("jovyan") }
        scipy-notebook: Test { action: Image("python -c 'import scipy'"), stdout: None }
        scipy-notebook: Tagger { template: "python-{0}", source: Run { run: "python3 --version", pattern: Some("Python (\\S+)") } }
        tensorflow-notebook: Test { action: Image("python -c 'import tensorflow'"), stdout: None }"#]].assert_eq(&checks.join("\n"));
}

#[test]
fn s4_row_29_a_root_image_is_given_by_hand() {
    let root = |sources: &Sources| {
        let family = Family::resolve(sources).expect("a family");
        let recipe = family.recipes().next().expect("a root");
        recipe.platforms.values().flat_map(Build::outside).map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut by_arg = stacks_sources(None);
    by_arg.args.insert("ROOT_IMAGE".to_owned(), "debian:13".to_owned());
    assert_eq!(root(&by_arg), ["docker.io/library/debian:13"]);
    let mut by_hand = stacks_sources(None);
    by_hand.root_image = Some("q.io/own:1".parse().expect("reference"));
    assert_eq!(root(&by_hand), ["q.io/own:1"]);
    assert_eq!(
        root(&stacks_sources(Some("replace = { \"ubuntu:24.04\" = \"mirror.io/ubuntu:24.04\" }"))),
        ["mirror.io/ubuntu:24.04"]
    );
}

#[test]
fn references_are_of_the_family_or_not_as_the_table_says() {
    let cases = [
        (None, "a", "family"),
        (None, "owner/a", "family"),
        (None, "q.io/owner/a:latest", "family"),
        (None, "docker.io/library/a", "outside"),
        (None, "a:1.0", "outside"),
        (None, "a:v", "variant"),
        (None, "q.io/a:v-latest", "variant"),
        (Some("q.io/owner"), "q.io/owner/a", "family"),
        (Some("q.io/owner"), "owner/a", "family"),
        (Some("q.io/owner"), "a", "family"),
        (Some("q.io/owner"), "other/a", "outside"),
        (Some("q.io/owner"), "x.io/owner/a", "outside"),
        (Some("q.io/owner"), "q.io/owner/a:2020", "outside"),
    ];
    for (registry, reference, expected) in cases {
        let config = registry.map(|registry| format!("registry = \"{registry}\"\n"));
        let child = format!("FROM {reference}\n");
        let files = [
            ("a/Dockerfile", "FROM scratch\n"),
            ("a/v/Dockerfile", "FROM scratch\n"),
            ("b/Dockerfile", child.as_str()),
        ];
        let family = Family::resolve(&sources(config.as_deref(), &files)).expect("a family");
        let parents =
            family.parents(&"b".parse().expect("unit")).iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = match parents.first().map(String::as_str) {
            None => "outside",
            Some("a") => "family",
            Some(_) => "variant",
        };
        assert_eq!(found, expected, "{reference} with {registry:?}");
    }
}

#[test]
fn f_c5_folders_that_differ_by_case_are_refused() {
    check(
        None,
        &[("a/Dockerfile", "FROM x"), ("A/Dockerfile", "FROM x")],
        &expect![[r#"
            a/Dockerfile: A/Dockerfile and a/Dockerfile would both be the image `a`
              hint: rename one of the folders
        "#]],
    );
    check(
        None,
        &[("one/web/Dockerfile", "FROM x"), ("two/web/Dockerfile", "FROM x")],
        &expect![[r#"
        one/web ← 
        two/web ← 
    "#]],
    );
}

#[test]
fn f_c7_circles_are_shown_whole() {
    check(
        None,
        &[
            ("a/Dockerfile", "FROM c"),
            ("b/Dockerfile", "FROM a"),
            ("c/Dockerfile", "FROM x\nCOPY --from=b / /\n"),
            ("self/Dockerfile", "FROM self"),
        ],
        &expect![[r#"
            a/Dockerfile:1:6: images stand on each other in a circle: `a` → `c` → `b` → `a`: a/Dockerfile:1:6 of `a` uses `c`: c/Dockerfile:2:13 of `c` uses `b`: b/Dockerfile:1:6 of `b` uses `a`
              hint: if an image from elsewhere is meant, write its whole name, as in `docker.io/library/NAME:TAG`
            self/Dockerfile:1:6: the image `self` stands on itself: self/Dockerfile:1:6 of `self` uses `self`
              hint: if an image from elsewhere is meant, write its whole name, as in `docker.io/library/NAME:TAG`
        "#]],
    );
}

#[test]
fn a_file_that_is_named_settles_which_folder_of_one_name_is_meant() {
    let found = [("one/base/Dockerfile", "FROM x\n"), ("two/base/Containerfile", "FROM scratch\n")];
    let config = "images = [\"two/*\"]\n[image.base]\ndockerfile = \"Containerfile\"\n";
    let family = Family::resolve(&sources(Some(config), &found)).expect("a family");
    let base = family.recipes().find(|recipe| recipe.unit.to_string() == "base").expect("the image");
    assert_eq!(base.dockerfile, Path::new("two/base/Containerfile"));
    let config = "[image.base]\ndockerfile = \"Containerfile\"\n";
    let both = [found[0], ("one/base/Containerfile", "FROM scratch\n")];
    let family = Family::resolve(&sources(Some(config), &both)).expect("a family");
    assert_eq!(family.recipes().next().expect("one").dockerfile, Path::new("one/base/Containerfile"));
}

#[test]
fn f_c8_what_is_configured_is_there() {
    check(
        Some("registry = \"q.io/o\"\n[image.bsae]\n[image.b.variants.x]\ndockerfile = \"Dockerfile.x\"\n"),
        &[("base/Dockerfile", "FROM x"), ("b/Dockerfile", "FROM q.io/o/bas\n")],
        &expect![[r#"
            polyarch.toml:3:19: b/Dockerfile.x of `b:x` is not there
              hint: did you mean `b/Dockerfile`?
            polyarch.toml:2:8: the image `bsae` has no Dockerfile
              hint: did you mean `base`?
            b/Dockerfile:1:6: b uses `q.io/o/bas`, which is no image of the family
              hint: did you mean `base`?
        "#]],
    );
}

#[test]
fn f_c9_a_child_has_no_platform_that_its_parent_lacks() {
    check(
        Some("platforms = [\"linux/amd64\", \"linux/arm64\"]\n[image.base]\nplatforms = [\"linux/amd64\"]\n"),
        &[("base/Dockerfile", "FROM x"), ("leaf/Dockerfile", "FROM base\n")],
        &expect![[r#"
            polyarch.toml:1:14: `leaf` is for linux/arm64, but `base`, which it uses, is not
              hint: write `platforms = ["linux/amd64"]` in `[image."leaf"]`
              hint: or add linux/arm64 to the platforms of `[image."base"]`
        "#]],
    );
}

#[test]
fn f_c12_two_images_have_not_one_tag() {
    check(
        Some("[image.a]\nrepository = \"o/same\"\n[image.b]\nrepository = \"o/same\"\n"),
        &[("a/Dockerfile", "FROM x"), ("b/Dockerfile", "FROM x")],
        &expect![[r#"
            polyarch.toml:3:8: `a` and `b` would both be o/same:latest
              hint: give one of them another name, or a `repository` of its own in `[image.b]`
        "#]],
    );
}

#[test]
fn no_image_is_published_among_the_records_of_the_store() {
    check(
        Some("[image.a]\nrepository = \"scopes/trusted\"\n"),
        &[("a/Dockerfile", "FROM x")],
        &expect![[r#"
            polyarch.toml:2:14: the image would be published as `scopes/trusted`, but under `scopes/` a store keeps its records
              hint: choose another repository, as in: `repository = "stacks/base"`
              hint: or another name for the family, as in: `name = "stacks"`
        "#]],
    );
    check(
        Some("name = \"scopes\"\n"),
        &[("trusted/Dockerfile", "FROM x")],
        &expect![[r#"
        trusted/Dockerfile: the image would be published as `scopes/trusted`, but under `scopes/` a store keeps its records
          hint: choose another repository, as in: `repository = "stacks/base"`
          hint: or another name for the family, as in: `name = "stacks"`
    "#]],
    );
    check(
        Some("registry = \"registry.example\"\n[image.a]\nrepository = \"scopes/trusted\"\n"),
        &[("a/Dockerfile", "FROM x")],
        &expect![[r#"
            polyarch.toml:3:14: the image would be published as `scopes/trusted`, but under `scopes/` a store keeps its records
              hint: choose another repository, as in: `repository = "stacks/base"`
              hint: or another owner, as in: `registry = "HOST/OWNER"`
        "#]],
    );
    check(
        Some("registry = \"registry.example/scopes\"\n[image.copy]\nmirror = \"r.io/library/search:7\"\n"),
        &[("a/Dockerfile", "FROM x")],
        &expect![[r#"
            a/Dockerfile: the image would be published as `scopes/a`, but under `scopes/` a store keeps its records
              hint: choose another repository, as in: `repository = "stacks/base"`
              hint: or another owner, as in: `registry = "HOST/OWNER"`
            polyarch.toml:2:8: the image would be published as `scopes/copy`, but under `scopes/` a store keeps its records
              hint: choose another repository, as in: `repository = "stacks/base"`
              hint: or another owner, as in: `registry = "HOST/OWNER"`
        "#]],
    );
}

#[test]
fn f_c17_a_secret_given_by_hand_is_refused_and_not_shown() {
    let mut by_hand = sources(None, &[("a/Dockerfile", "FROM x")]);
    by_hand.args.insert("NPM_TOKEN".to_owned(), "hunter2".to_owned());
    let problems = Family::resolve(&by_hand).expect_err("a secret");
    assert_eq!(problems.exit_code(), 4);
    assert!(!told(problems.iter()).contains("hunter2"));
}

#[test]
fn f_c16_five_thousand_images_and_chains_of_five_hundred() {
    let files: Vec<(String, String)> = (0..5000)
        .map(|at| {
            let from = if at % 500 == 0 { "scratch".to_owned() } else { format!("i{}", at - 1) };
            (format!("i{at}/Dockerfile"), format!("FROM {from}\nRUN true\n"))
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let sources = sources(Some("tests = [\"true\"]\n"), &files);
    let family = Family::resolve(&sources).expect("a family");
    assert_eq!(family.recipes().count(), 5000);
    assert_eq!(family.with_descendants(&"i0".parse().expect("unit")).len(), 500);
}

#[test]
fn an_export_that_names_a_mirror_is_refused() {
    let config = "platforms = [\"linux/amd64\"]\n[image.search]\nmirror = \"r.io/library/search:7.9.3\"\n\
                  [[export]]\nimages = [\"a\", \"search\"]\n";
    let found = Family::resolve(&sources(Some(config), &[("a/Dockerfile", "FROM x\n")]));
    expect![[r#"
        polyarch.toml:5:16: `search` is a mirror, and no file is made of it
          hint: copy it: polyarch mirror r.io/library/search:7.9.3 REGISTRY/NAME
    "#]]
    .assert_eq(&told(found.expect_err("there is no file of a mirror").iter()));
}

#[test]
fn s2_row_25_what_leads_nowhere_is_pointed_at() {
    let config = "platforms = [\"linux/amd64\"]\nargs = { VERSON = \"1\" }\n[tags]\nimmutable = [\"latst\"]\nnames = { \"linux/arm64\" = \"aarch64\" }\n[image.a]\nargs = { NOTHING = \"1\" }\nsecrets = { old = { env = \"OLD\" } }\n";
    let text = "FROM x\nARG VERSION\nRUN --mount=type=secret,id=pip --mount=type=ssh true\n";
    let family = Family::resolve(&sources(Some(config), &[("a/Dockerfile", text)])).expect("a family");
    expect![[r#"
        a/Dockerfile asks for the secret `pip`, which nobody gives
          hint: write `secrets = { pip = { env = "PIP" } }` in `[image.a]`
        polyarch.toml:6:8: the secret `old` of `a` is asked for by no line of its Dockerfile
          hint: remove it
        a/Dockerfile asks for an SSH agent, which nobody gives
          hint: write `ssh = ["default"]` in `[image.a]`
        polyarch.toml:7:20: a/Dockerfile declares no `ARG NOTHING`
          hint: declare it by `ARG NOTHING`, or remove it
        1 image has no test: `a`
          hint: write `tests = ["true"]`, with a better command, in `[image.a]`
        polyarch.toml:2:19: no Dockerfile of `stacks` declares `ARG VERSON`
          hint: did you mean `VERSION`?
        polyarch.toml:4:14: `latst` is said to be immutable, but no image gets such a tag
          hint: did you mean `latest`?
        polyarch.toml:5:27: linux/arm64 is named `aarch64` in tags, but no image is built for it
          hint: add it to `platforms`: "linux/arm64"
    "#]]
    .assert_eq(&told(family.warnings.iter()));
}

#[test]
fn s3_11_what_is_said_of_caches_that_are_not_kept_is_pointed_at() {
    let said = "cache-budget = \"10m\"\ncache-prune = \"true\"\ncache-floor = \"5MB\"\n";
    let warnings = |kept: &str| {
        let config = format!("{said}{kept}tests = [\"true\"]\n[image.a]\ncache-budget = \"9m\"\n");
        let family = Family::resolve(&sources(Some(&config), &[("a/Dockerfile", "FROM x\n")]));
        told(family.expect("a family").warnings.iter())
    };
    expect![[r#"
        polyarch.toml:1:16: `cache-budget` does nothing: engines' caches of layers go to no store
          hint: write `layer-cache = true` for the family, or remove it
        polyarch.toml:7:16: `cache-budget` does nothing: engines' caches of layers go to no store
          hint: write `layer-cache = true` for the family, or remove it
        polyarch.toml:2:15: `cache-prune` does nothing: mounts of caches go to no store
          hint: write `cache-mounts = "2GB"` for the family, or remove it
        polyarch.toml:3:15: `cache-floor` does nothing: mounts of caches go to no store
          hint: write `cache-mounts = "2GB"` for the family, or remove it
    "#]]
    .assert_eq(&warnings("layer-cache = false\n"));
    assert_eq!(warnings("layer-cache = true\ncache-mounts = \"2GB\"\n"), "");
}

#[test]
fn f_d9_triggers_of_a_parent_reach_its_children_and_no_further() {
    let files = [
        ("tool/Dockerfile", "FROM scratch\n"),
        ("base/Dockerfile", "FROM x\nONBUILD COPY --from=tool / /\n"),
        ("leaf/Dockerfile", "FROM base\n"),
        ("last/Dockerfile", "FROM leaf\n"),
    ];
    expect![[r#"
        base ← 
        tool ← 
        leaf ← base, tool
        last ← leaf
    "#]]
    .assert_eq(&picture(&sources(None, &files)));
    let family = Family::resolve(&sources(None, &files)).expect("a family");
    let triggers = |name: &str| {
        let recipe = family.recipe(&name.parse().expect("unit")).expect("recipe");
        recipe.platforms.values().map(|build| build.triggers.len()).sum::<usize>()
    };
    assert_eq!((triggers("base"), triggers("leaf"), triggers("last")), (0, 1, 0));
}

#[test]
fn what_init_writes_means_the_same_family() {
    let before = stacks_sources(None);
    let family = Family::resolve(&before).expect("a family");
    let text = starter(&family);
    let after = stacks_sources(Some(&text));
    assert_eq!(picture(&before), picture(&after), "{text}");
}

#[test]
fn only_files_named_dockerfile_in_folders_that_show_are_images() {
    for (path, expected) in [
        ("Dockerfile", true),
        ("a/b/Dockerfile", true),
        ("a/Dockerfile.old", false),
        (".git/a/Dockerfile", false),
        ("a/.b/Dockerfile", false),
        ("a/dockerfile", false),
    ] {
        assert_eq!(discover::is_dockerfile(Path::new(path)), expected, "{path}");
    }
}

#[test]
fn f_d14_a_run_that_fetches_what_nothing_checks_is_pointed_at_where_nothing_makes_it_anew() {
    let fetches = "FROM debian:13\nRUN curl -fsSL https://x.example/a | sh\n";
    let checked = "FROM debian:13\nRUN wget https://x.example/b && sha256sum -c sums\n";
    let files = [("a/Dockerfile", fetches), ("b/Dockerfile", checked)];
    let warnings = |more: &str| {
        let config = format!("platforms = [\"linux/amd64\", \"linux/arm64\"]\ntests = [\"true\"]\n{more}");
        told(Family::resolve(&sources(Some(&config), &files)).expect("a family").warnings.iter())
    };
    expect![[r#"
        a/Dockerfile:2:1: `RUN` fetches https://x.example/a, and nothing checks it: what stands there can change, and the image that was built is reused all the same
          hint: check it in the same step: `sha256sum --check`
          hint: or have the image built anew once it is older, in polyarch.toml: `fresh-for = "48h"`
    "#]]
    .assert_eq(&warnings(""));
    assert_eq!(warnings("fresh-for = \"48h\"\n"), "");
}

#[test]
fn law_2_an_add_that_can_fetch_something_else_tomorrow_is_pointed_at() {
    let sum = "0".repeat(64);
    let text = format!(
        "FROM debian:13\nARG SUM=sha256:{sum}\nADD https://x.example/a.tar https://x.example/b?c='d' /\n\
        ADD --checksum=sha256:{sum} https://x.example/c /\nADD --checksum=$SUM https://x.example/d /\n\
        ADD https://x.example/r.git#$HOME:folder /r\nADD https://x.example/r.git#main /t\nADD https://x.example/r.git#{}:folder /s\nADD file /\n",
        "a".repeat(40)
    );
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\ntests = [\"true\"]\n";
    let family = Family::resolve(&sources(Some(config), &[("a/Dockerfile", &text)])).expect("a family");
    expect![[r#"
        a/Dockerfile:3:1: `ADD https://x.example/a.tar` has no checksum: what stands there can change, and the image that was built is reused all the same
          hint: write `ADD --checksum=sha256:… https://x.example/a.tar`, with what this prints: curl -fsSL 'https://x.example/a.tar' | sha256sum
          hint: or build it anew when that changed: polyarch build --no-reuse a
        a/Dockerfile:3:1: `ADD https://x.example/b?c=d` has no checksum: what stands there can change, and the image that was built is reused all the same
          hint: write `ADD --checksum=sha256:… https://x.example/b?c=d`, with what this prints: curl -fsSL 'https://x.example/b?c=d' | sha256sum
          hint: or build it anew when that changed: polyarch build --no-reuse a
        a/Dockerfile:6:1: `ADD https://x.example/r.git#$HOME:folder` has no commit: what stands there can change, and the image that was built is reused all the same
          hint: write the whole commit behind the address: `#COMMIT`
          hint: or build it anew when that changed: polyarch build --no-reuse a
    "#]]
    .assert_eq(&told(family.warnings.iter()));
}
