//! What images are called, what is in them, and the pages of which were built when: of real builds, into a real Git repository.

use std::collections::BTreeMap;
use std::path::Path;

use super::engines::{Engine, FOUNDATION, root_file_systems};
use crate::program::Place;

const FAMILY: &str = r#"
name = "pages"
registry = "registry.example/owner"
platforms = ["linux/amd64", "linux/386"]

[tags]
names = { "linux/amd64" = "x86_64", "linux/386" = "i386" }
common = ["latest", "{commit}", "{date}"]

[image.base]
tags = [{ tag = "busybox-{0}", run = "busybox | head -n 1", match = 'BusyBox v(\S+)' }]
describe = [{ title = "Programs", bare = "echo all of busybox", run = "ls /bin/busybox" }]

[image.leaf]
describe = [{ title = "Leaf", run = "cat /leaf" }]
"#;

/// A family of two images in a Git repository, built; `None`, having said why, where there is no engine.
fn built(test: &str) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", FAMILY),
        ("base/Dockerfile", FOUNDATION),
        ("leaf/Dockerfile", "FROM base\nRUN echo green > /leaf\n"),
    ]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "base", &["amd64", "386"])
    {
        return None;
    }
    for arguments in [
        &["init", "--quiet", "--initial-branch=main", "."][..],
        &["remote", "add", "origin", "git@github.com:owner/family.git"],
        &["add", "polyarch.toml", "base/Dockerfile", "leaf/Dockerfile"],
        &[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
            "commit",
            "--quiet",
            "--message",
            "Begin\n\nwith `ticks`",
        ],
    ] {
        place.ask("git", arguments);
    }
    let _ = place.run(&["build"]).well();
    Some(place)
}

/// The pages below a folder, by their paths.
fn pages(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true if path.ends_with(".git") => {}
                true => open.push(path),
                false => {
                    let name = path.strip_prefix(folder).expect("below it").display().to_string();
                    drop(found.insert(name, std::fs::read_to_string(&path).expect("a page")));
                }
            }
        }
    }
    found
}

fn commit(place: &Place) -> String {
    place.ask("git", &["rev-parse", "HEAD"]).trim().to_owned()
}

#[test]
fn s_4_6_s_4_9_s_4_10_files_of_a_build_are_those_of_docker_stacks() {
    let test = "ledger::s_4_6_s_4_9_s_4_10_files_of_a_build_are_those_of_docker_stacks";
    let Some(place) = built(test) else { return };
    let hash = commit(&place);
    let short = &hash[..12];
    let date = place.ask("date", &["--utc", "+%Y-%m-%d"]).trim().to_owned();
    let written = |format: &str| {
        let _ = place.run(&["describe", "--format", format, "--to", format]).well();
        pages(&place.family().join(format))
    };
    let tags = written("tags");
    let names: Vec<&String> = tags.keys().collect();
    let expected = ["i386-default-base", "i386-default-leaf", "x86_64-default-base", "x86_64-default-leaf"];
    assert_eq!(names, expected.map(|name| format!("{name}.txt")).iter().collect::<Vec<_>>());
    let busybox = tags["x86_64-default-leaf.txt"].rsplit('-').next().unwrap_or_default();
    let values = ["latest", short, &date, &format!("busybox-{busybox}")];
    let lines = values.map(|value| format!("registry.example/owner/leaf:x86_64-{value}"));
    assert_eq!(
        tags["x86_64-default-leaf.txt"],
        lines.join("\n"),
        "in the order of the hierarchy, with no line end behind"
    );

    let manifest = &written("manifest")[&format!("x86_64-default-leaf-{short}.md")];
    let (head, rest) = manifest.split_once("- Build timestamp: ").expect("when it was built");
    assert_eq!(head, format!("# Build manifest for image: leaf:{short}\n\n## Build Info\n\n"));
    assert_eq!(&rest[19..21], "Z\n");
    let (size, rest) = rest[21..].split_once("- Git commit SHA: ").expect("a commit");
    assert!(
        size.starts_with(&format!(
            "- Docker image: `registry.example/owner/leaf:{short}`\n- Docker image size: "
        )),
        "{size}"
    );
    let link = format!("[{hash}](https://github.com/owner/family/commit/{hash})");
    let golden = format!(
        "{link}\n- Git commit message:\n\n```text\nBegin\n\nwith `ticks`\n```\n\n## Programs\n\nall of busybox\n\n`ls /bin/busybox`:\n\n```text\n/bin/busybox\n```\n\n## Leaf\n\n`cat /leaf`:\n\n```text\ngreen\n```\n"
    );
    assert_eq!(rest, golden);

    let history = &written("history")[&format!("x86_64-default-leaf-{short}.txt")];
    let references = lines[1..].iter().map(|line| format!("`{line}`")).collect::<Vec<_>>().join("<br />");
    let links = format!(
        "[Git diff](https://github.com/owner/family/commit/{hash})<br />[Dockerfile](https://github.com/owner/family/blob/{hash}/leaf/Dockerfile)<br />[Build manifest](./x86_64-default-leaf-{short})"
    );
    assert!(history.ends_with(&format!("Z` | {references} | {links} |")), "{history}");
}

#[test]
fn s_4_22_a_ledger_is_pushed_once_and_loses_nothing_that_others_push() {
    let test = "ledger::s_4_22_a_ledger_is_pushed_once_and_loses_nothing_that_others_push";
    let Some(mut place) = built(test) else { return };
    place.ask("git", &["init", "--quiet", "--bare", "--initial-branch=main", "../wiki.git"]);
    let foreseen = place.run(&["ledger", "--push", "../wiki.git", "--dry-run"]).well();
    assert_eq!(
        foreseen.stdout.lines().count(),
        6,
        "four manifests, a month, the first page: {}",
        foreseen.stdout
    );
    let pushed = place.run(&["ledger", "--push", "../wiki.git"]).well();
    assert_eq!(pushed.stdout, foreseen.stdout, "a dry run says the same");
    let head = || place.ask("git", &["-C", "../wiki.git", "rev-parse", "main"]);
    let first = head();
    let again = place.run(&["ledger", "--push", "../wiki.git"]).well();
    assert_eq!((again.stdout.as_str(), head()), ("", first), "written twice it is as it was");

    // Somebody pushes a page between our clone and our push, once.
    let git = place.ask("sh", &["-c", "command -v git"]).trim().to_owned();
    let script = format!(
        "#!/bin/sh\nfor word in \"$@\"; do [ \"$word\" = push ] || continue\n  [ -e ../other-pushed ] && break\n  : > ../other-pushed\n  {git} clone --quiet {wiki} {other} && cd {other} && echo own > Other.md && {git} add Other.md && {git} -c user.name=b -c user.email=b@example.org commit --quiet -m other && {git} push --quiet origin main && cd - >/dev/null\ndone\nexec {git} \"$@\"\n",
        wiki = place.folder().join("wiki.git").display(),
        other = place.folder().join("other").display(),
    );
    let script =
        script.replace("../other-pushed", &place.folder().join("other-pushed").display().to_string());
    place.write("leaf/Dockerfile", "FROM base\nRUN echo blue > /leaf\n");
    let _ = place.run(&["build"]).well();
    place.put_before("git", &script);
    let _ = place.run(&["ledger", "--push", "../wiki.git"]).well();
    assert!(place.folder().join("other-pushed").exists(), "somebody was quicker");
    place.ask("git", &["clone", "--quiet", "../wiki.git", "../read"]);
    let pages = pages(&place.folder().join("read"));
    assert_eq!(pages["Other.md"], "own\n");
    let month = pages.iter().find(|(path, _)| path.starts_with("monthly-files/")).expect("a month").1;
    assert_eq!(
        month.lines().filter(|line| line.starts_with("| `")).count(),
        6,
        "four rows, and two of the new leaf: {month}"
    );
    assert!(pages["Home.md"].contains("| **Total** | 1 | 6 | 1 |"), "{}", pages["Home.md"]);
}

#[test]
fn a_ledger_that_is_not_there_or_cannot_be_written_is_named() {
    let test = "ledger::a_ledger_that_is_not_there_or_cannot_be_written_is_named";
    let Some(place) = built(test) else { return };
    let gone = place.run(&["ledger", "--push", "https://user:canary-secret@127.0.0.1:9/wiki.git"]).ended(3);
    assert!(
        gone.stderr.contains("take the repository of the ledger") && !gone.stderr.contains("canary"),
        "{}",
        gone.stderr
    );
    place.ask("git", &["init", "--quiet", "--bare", "--initial-branch=main", "../wiki.git"]);
    let hook = place.folder().join("wiki.git/hooks/pre-receive");
    crate::program::write_program(&hook, "#!/bin/sh\necho no one may >&2\nexit 1\n");
    let refused = place.run(&["ledger", "--push", "../wiki.git"]).ended(3);
    assert!(
        refused.stderr.contains("push the ledger") && refused.stderr.contains("no one may"),
        "{}",
        refused.stderr
    );
    let neither = place.run(&["ledger"]).ended(2);
    assert!(neither.stderr.contains("--to"), "{}", neither.stderr);
    let unknown = place.run(&["ledger", "--to", "wiki", "--counted", "baze"]).ended(2);
    assert!(unknown.stderr.contains("there is no image `baze` to count"), "{}", unknown.stderr);
    place.write("leaf/Dockerfile", "FROM base\nRUN echo red > /leaf\n");
    let unbuilt = place.run(&["ledger", "--to", "wiki"]).ended(2);
    assert!(unbuilt.stderr.contains("leaf@linux/386 is not built"), "{}", unbuilt.stderr);
}
