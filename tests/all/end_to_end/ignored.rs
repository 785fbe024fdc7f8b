//! `.dockerignore` on real engines: what counts as read is what they read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use super::engines::{Engine, inspected, layers};
use crate::program::Place;

/// What stands in the context of every case.
const FILES: &[&str] = &[
    "README.md",
    "a.txt",
    "b.md",
    ".hidden",
    ".git/config",
    "src/main.py",
    "src/main.pyc",
    "src/.env",
    "src/deep/x.txt",
    "src/deep/y.md",
    "src/deep/deeper/z.txt",
    "docs/README.md",
    "docs/guide.md",
    "docs/img/logo.svg",
    "node_modules/m/index.js",
    "web/node_modules/m/index.js",
    "web/app.js",
    "with space.txt",
    "grüße.txt",
    "tmp/a.tmp",
    "tmp/keep",
    "foo",
    "foobar",
    "x.y.txt",
    "[x].txt",
];

/// Sixty files of rules.
const CASES: [&str; 60] = [
    "",
    "# nothing\n\n   \n",
    "*",
    "**",
    "*\n!a.txt",
    "*\n!src",
    "*\n!src/",
    "*\n!src/deep",
    "*\n!src/deep/x.txt",
    "**\n!src/deep/*.txt",
    "*\n!**/*.md",
    "**/*.md",
    "**/*.md\n!README.md",
    "**/*.md\n!**/README.md",
    "*.md\n!README*.md",
    "*.md",
    "*/*.md",
    "*/*/*.md",
    "**/README.md",
    "docs",
    "docs/",
    "/docs",
    "./docs",
    "docs/.",
    "docs/*",
    "docs/**",
    "docs/*\n!docs/guide.md",
    "docs\n!docs/guide.md",
    "docs/\n!docs/img/logo.svg",
    "**/docs/*.md",
    "src/deep\n!src/deep/deeper",
    "src\n!src/deep/deeper/z.txt",
    "src/**/z.txt",
    "**/deep",
    "**/deep/**",
    "**/node_modules",
    "node_modules",
    "**/node_modules/**\n!**/index.js",
    ".*",
    "**/.*",
    ".git",
    "*.py[co]",
    "**/*.py[co]",
    "foo",
    "foo*",
    "foo?ar",
    "foo???",
    "[a-f]*",
    "[^a-f]*",
    "with space.txt",
    "  a.txt  ",
    "gr*.txt",
    "\\[x\\].txt",
    "x.y.txt",
    "x?y?txt",
    "tmp\n!tmp/keep\ntmp/keep",
    "!a.txt\na.txt",
    "a.txt\n!a.txt\na.*\n!*.txt",
    "Dockerfile\n.dockerignore",
    "*\n!Dockerfile\n!.dockerignore\n!link",
];

fn family(engine: Engine, test: &str) -> Option<Place> {
    let mut place = Place::with(&[("polyarch.toml", "name = \"ignored\"\nplatforms = [\"linux/amd64\"]\n")]);
    if !engine.equip(test, &mut place) {
        return None;
    }
    for (at, rules) in CASES.iter().enumerate() {
        let name = name(at);
        FILES.iter().for_each(|file| place.write(&format!("{name}/{file}"), file));
        // Two cases of the same rules would be one build.
        let text = format!("FROM scratch\nLABEL case={name}\nCOPY . /\n");
        place.write(&format!("{name}/Dockerfile"), &text);
        place.write(&format!("{name}/.dockerignore"), rules);
        let link = place.family().join(&name).join("link");
        std::os::unix::fs::symlink("a.txt", link).expect("a link");
    }
    Some(place)
}

fn name(at: usize) -> String {
    format!("case-{at:02}")
}

/// What the key of each case holds of its context, folders apart.
fn in_the_keys(place: &Place) -> BTreeMap<String, BTreeSet<String>> {
    let names: Vec<String> = (0..CASES.len()).map(name).collect();
    let why = place.run(&[vec!["why"], names.iter().map(String::as_str).collect()].concat()).well();
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    let mut case = String::new();
    for line in why.stdout.lines() {
        if let Some((name, _)) = line.split_once("@linux/amd64: ") {
            name.clone_into(&mut case);
        }
        let input = line.strip_prefix("    file:").and_then(|input| input.rsplit_once(" = "));
        if let Some((path, _)) = input.filter(|(_, state)| !state.starts_with("folder ")) {
            found.entry(case.clone()).or_default().insert(path.to_owned());
        }
    }
    found
}

/// What the image of each case holds, folders apart.
fn in_the_images(place: &Place) -> BTreeMap<String, BTreeSet<String>> {
    let images = (0..CASES.len()).map(|at| {
        let mut files = BTreeSet::new();
        for layer in layers(&inspected(place, &format!("ignored/{}:latest", name(at))), "linux/amd64") {
            let hex = layer.strip_prefix("sha256:").expect("a digest");
            let file = std::fs::File::open(place.store().join("blobs/sha256").join(hex)).expect("a layer");
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("a whole layer");
            let mut archive = tar::Archive::new(&*bytes);
            for entry in archive.entries().expect("an archive") {
                let entry = entry.expect("an entry");
                let path = entry.path().expect("a path").display().to_string();
                if !entry.header().entry_type().is_dir() {
                    files.insert(path.trim_start_matches(['.', '/']).to_owned()).then_some(()).expect("once");
                }
            }
        }
        (name(at), files)
    });
    images.collect()
}

/// Leading dots are of the name of a file, and of nothing where an archive writes `./`.
fn plain(path: &str) -> &str {
    path.trim_start_matches(['.', '/'])
}

#[test]
fn f_d10_the_key_holds_what_docker_sends_in_sixty_cases_on_both_engines() {
    let test = "ignored::f_d10_the_key_holds_what_docker_sends_in_sixty_cases_on_both_engines";
    let mut sent = BTreeMap::<String, BTreeSet<String>>::new();
    let mut keys = None;
    for engine in [Engine::Classic, Engine::Containerd] {
        let Some(place) = family(engine, test) else { return };
        let held = in_the_keys(&place);
        drop(place.run(&["build", "--publish"]).well());
        for (case, files) in in_the_images(&place) {
            let rules = CASES[case[5..].parse::<usize>().expect("a number")];
            let nothing = BTreeSet::new();
            let held: BTreeSet<String> =
                held.get(&case).unwrap_or(&nothing).iter().map(|path| plain(path).to_owned()).collect();
            let lacking: Vec<_> = files.difference(&held).collect();
            assert!(lacking.is_empty(), "{case} {rules:?}: sent and not in the key: {lacking:?}");
            sent.entry(case).or_default().extend(files);
        }
        keys = Some(held);
    }
    // Clients differ: what stays behind with every one of them is in no key.
    for (case, held) in keys.expect("keys") {
        let nothing = BTreeSet::new();
        let sent = sent.get(&case).unwrap_or(&nothing);
        let more: Vec<_> = held.iter().filter(|path| !sent.contains(plain(path))).collect();
        let rules = CASES[case[5..].parse::<usize>().expect("a number")];
        assert!(more.is_empty(), "{case} {rules:?}: in the key, and sent by neither: {more:?}");
    }
}
