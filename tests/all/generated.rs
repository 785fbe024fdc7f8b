//! Files of pipelines in a repository: up to date in `examples/`, and never taken from whoever has edited them.

use std::path::Path;

use crate::program::{Place, program, variable};

const FILES: [(&str, &str); 3] = [
    ("github", ".github/workflows/polyarch.yml"),
    ("gitlab", ".gitlab-ci.yml"),
    ("circleci", ".circleci/config.yml"),
];

const EXAMPLES: [&str; 4] = ["tiny-stacks", "docker-stacks-shape", "hysds-shape", "bake-shape"];

#[test]
fn the_pipelines_of_the_examples_are_up_to_date() {
    for example in EXAMPLES {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        let folder = example.to_str().expect("a text");
        for (service, path) in FILES {
            if variable("UPDATE").is_some() {
                let written = program(env!("CARGO_BIN_EXE_polyarch"))
                    .args(["-C", folder, "ci", service, "--force"])
                    .status();
                assert!(written.is_ok_and(|status| status.success()), "{path}");
            }
            let _ = Place::new().run(&["-C", folder, "ci", service, "--check"]).well();
        }
    }
}

#[test]
fn the_page_on_moving_counts_lines_rightly() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/migrate.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let counted: Vec<(&str, usize)> = rows
        .filter(|(path, _)| path.starts_with("examples/"))
        .map(|(path, rest)| {
            (path, rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number"))
        })
        .collect();
    assert_eq!(counted.len(), 7, "{counted:?}");
    for (path, number) in counted {
        let text = std::fs::read_to_string(root.join(path)).expect(path);
        assert_eq!(text.lines().count(), number, "{path}");
    }
}

/// The same family in another folder, of another home, in another part of the world and another language.
#[test]
fn f_y3_two_hosts_write_the_same_bytes() {
    let text =
        "name = \"here\"\nplatforms = [\"linux/arm64\", \"linux/amd64\"]\n[ci]\nschedule = \"0 3 * * 1\"\n";
    let files = [
        ("polyarch.toml", text),
        ("b/Dockerfile", "FROM a\n"),
        ("a/Dockerfile", "FROM scratch\n"),
        ("c/Dockerfile", "FROM a\nCOPY --from=b /x /x\n"),
    ];
    let (one, mut other) = (
        Place::with(&files),
        Place::with(&{
            let mut turned = files;
            turned.reverse();
            turned
        }),
    );
    for (name, value) in [
        ("TZ", "Pacific/Kiritimati"),
        ("LANG", "tr_TR.UTF-8"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("HOSTNAME", "another"),
        ("USER", "somebody"),
    ] {
        other.set(name, value);
    }
    for (service, path) in FILES {
        let written = |place: &Place| {
            let printed = place.run(&["ci", service, "--print"]).well().stdout;
            let _ = place.run(&["ci", service]).well();
            assert_eq!(std::fs::read_to_string(place.family().join(path)).expect("the file"), printed);
            printed
        };
        let (here, there) = (written(&one), written(&other));
        assert!(here.len() > 1_000 && here == there, "{service}");
    }
}

#[test]
fn f_y4_what_was_edited_by_hand_is_shown_and_stays() {
    let place = Place::with(&[
        ("polyarch.toml", "platforms = [\"linux/amd64\"]\n"),
        ("a/Dockerfile", "FROM scratch\n"),
    ]);
    let read = |path: &str| std::fs::read_to_string(place.family().join(path)).expect("the file");
    for (service, path) in FILES {
        let _ = place.run(&["ci", service, "--check"]).ended(1);
        let _ = place.run(&["ci", service]).well();
        let _ = place.run(&["ci", service, "--check"]).well();
        let fresh = read(path);
        assert_eq!(place.run(&["ci", service, "--print"]).well().stdout, fresh);
        let edited = fresh.replace("a@linux/amd64", "b@linux/amd64");
        place.write(path, &edited);
        let checked = place.run(&["ci", service, "--check"]).ended(1);
        assert!(checked.stdout.contains("\n-") && checked.stdout.contains("\n+"), "{}", checked.stdout);
        assert!(checked.stderr.ends_with(&format!("polyarch ci {service}\n")), "{}", checked.stderr);
        let refused = place.run(&["ci", service]).ended(4);
        assert!(refused.stderr.contains(&format!("polyarch ci {service} --force\n")), "{}", refused.stderr);
        assert_eq!(read(path), edited, "it stays as it is");
        let _ = place.run(&["ci", service, "--force"]).well();
        assert_eq!(read(path), fresh);
        // What is only out of date is written anew without being asked twice.
        place.write("polyarch.toml", "platforms = [\"linux/amd64\", \"linux/arm64\"]\n");
        let _ = place.run(&["ci", service, "--check"]).ended(1);
        let _ = place.run(&["ci", service]).well();
        place.write(path, "by: somebody\n");
        let _ = place.run(&["ci", service]).ended(4);
        place.write("polyarch.toml", "platforms = [\"linux/amd64\"]\n");
    }
}

#[test]
fn law_11_what_is_proposed_publishes_nothing_whatever_it_is_called_with() {
    let mut place = Place::with(&[
        ("polyarch.toml", "platforms = [\"linux/amd64\"]\n"),
        ("a/Dockerfile", "FROM scratch\n"),
    ]);
    place.set("GITHUB_ACTIONS", "true");
    place.set("GITHUB_EVENT_NAME", "pull_request");
    place.set("GITHUB_REF", "refs/pull/12/merge");
    place.set("POLYARCH_WORK", place.folder().join("work"));
    for arguments in [
        &["job", "publish"][..],
        &["job", "publish", "--scope", "trusted"],
        &["job", "publish", "--to", "127.0.0.1:1"],
    ] {
        let refused = place.run(arguments).ended(4);
        assert!(refused.stderr.contains("refused in the scope `pr-12`"), "{}", refused.stderr);
    }
    let planned = place.run(&["job", "plan"]).well();
    assert!(
        planned.stderr.contains("::group::plan\n") && planned.stderr.contains("::endgroup::\n"),
        "{}",
        planned.stderr
    );
    let _ = place.run(&["job", "plan", "--work", ""]).ended(2);
    place.set("POLYARCH_TITLE", "only a [images: a]");
    let narrowed = place.run(&["job", "plan"]).well();
    assert!(narrowed.stderr.contains("the title asks for a alone"), "{}", narrowed.stderr);
    place.set("POLYARCH_TITLE", "[images: $(id) ../a]");
    let _ = place.run(&["job", "plan"]).ended(2);
    place.set("GITHUB_EVENT_NAME", "push");
    place.set("GITHUB_REF", "refs/heads/main");
    place.set("POLYARCH_BRANCH", "main");
    place.set("GITHUB_OUTPUT", place.folder().join("said"));
    let whole = place.run(&["job", "plan"]).well();
    let told = whole.stderr.matches("has no test").count();
    assert_eq!(told, 1, "what is read once is told once: {}", whole.stderr);
    assert!(!whole.stderr.contains("the title asks for"), "{}", whole.stderr);
    let unknown = place.run(&["job", "b@linux/amd64"]).ended(2);
    assert!(unknown.stderr.contains("there is no b@linux/amd64 here"), "{}", unknown.stderr);
}

#[test]
fn f_u8_a_release_is_named_by_a_pattern_and_is_a_version() {
    let mut place = Place::with(&[
        ("polyarch.toml", "platforms = [\"linux/amd64\"]\n[ci]\nrelease-tags = [\"v6*\"]\n"),
        ("a/Dockerfile", "FROM scratch\n"),
    ]);
    place.set("POLYARCH_WORK", place.folder().join("work"));
    for [service, event, name, before] in [
        ["GITHUB_ACTIONS", "GITHUB_EVENT_NAME", "GITHUB_REF", "refs/tags/"],
        ["CIRCLECI", "CIRCLE_BRANCH", "CIRCLE_TAG", ""],
        ["GITLAB_CI", "CI_PIPELINE_SOURCE", "CI_COMMIT_TAG", ""],
    ] {
        place.set(service, "true");
        place.set(event, "push");
        let mut at = |tag: &str| {
            place.set(name, format!("{before}{tag}"));
            place.run(&["job", "plan"])
        };
        let _ = at("v6.1").well();
        for tag in ["v6$(touch canary)", "v6/../x", "v6 ", "v6+1", "v6${{ x }}", "v6\u{1b}[31m"] {
            let refused = at(tag).ended(2);
            assert!(refused.stderr.contains("is no version that images could have"), "{}", refused.stderr);
            assert!(!refused.stderr.contains('\u{1b}'), "{}", refused.stderr);
        }
        for tag in ["v7.0", "av6", "latest"] {
            let refused = at(tag).ended(4);
            assert!(
                refused.stderr.contains("no pattern of `release-tags` in `[ci]` means it"),
                "{}",
                refused.stderr
            );
        }
        place.set(service, "");
    }
}

#[test]
fn a_release_has_tags_of_its_own() {
    let place = Place::with(&[
        ("polyarch.toml", "platforms = [\"linux/amd64\"]\n[tags]\ncommon = [\"develop\"]\n"),
        ("a/Dockerfile", "FROM scratch\n"),
        ("b/Dockerfile", "FROM a:develop\n"),
    ]);
    let foreseen = |arguments: &[&str]| {
        let arguments = [&["build", "--dry-run", "--publish"][..], arguments].concat();
        place.run(&arguments).well().stdout
    };
    let (branch, release) = (foreseen(&[]), foreseen(&["--release", "v6.1.0"]));
    assert!(branch.contains("b:develop") && !branch.contains("6.1.0"), "{branch}");
    assert!(release.contains("b:6.1.0") && !release.contains("b:develop"), "{release}");
    place.write("polyarch.toml", "[tags]\ncommon = [\"develop\"]\nrelease = [\"v{version}\", \"latest\"]\n");
    let release = foreseen(&["--release", "v6.1.0"]);
    assert!(release.contains("b:v6.1.0") && release.contains("b:latest"), "{release}");
    let _ = place.run(&["build", "--dry-run", "--release", "v6/1"]).ended(2);
}
