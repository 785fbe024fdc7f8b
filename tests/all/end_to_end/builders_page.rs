//! `docs/builders.md`, tried as it is written: every command and every piece of configuration, with hosts of the tests in
//! place of those that the page makes up.

use std::path::Path;

use super::engines::Engine;
use super::hosts::Hosts;
use crate::program::{Answer, Place, skip, variable};

/// Commands of the page that are not run: they change this machine, or want a cluster.
const NOT_RUN: &[&str] = &[
    "ssh-copy-id build@arm-1.example",
    "sudo apt-get install buildah",
    "docker buildx create --name fleet --driver kubernetes --node amd64 --platform linux/amd64 --driver-opt \
     replicas=2,nodeselector=kubernetes.io/arch=amd64",
    "docker buildx create --name fleet --append --driver kubernetes --node arm64 --platform linux/arm64 --driver-opt \
     replicas=2,nodeselector=kubernetes.io/arch=arm64",
];

/// The blocks of a page in a language, without what indents them.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), None::<String>);
    for line in page.lines().map(str::trim_start) {
        open = match open {
            None => (line == format!("```{language}")).then(String::new),
            Some(block) if line == "```" => {
                found.push(block);
                None
            }
            Some(block) => Some(format!("{block}{line}\n")),
        };
    }
    found
}

/// The commands of the page in order, each on one line with one blank between its words.
fn commands(page: &str) -> Vec<String> {
    let text = blocks(page, "console").concat().replace("\\\n", " ");
    let written = text.lines().filter_map(|line| line.strip_prefix("$ "));
    written.map(|command| command.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// What the page makes up, and what stands here in its place.
fn tried(text: &str, hosts: &Hosts, buildkit: &str) -> String {
    let east = hosts.engine("east");
    let made_up = [
        ("build@arm-1.example", "west"),
        ("build@arm-2.example:2222", "east"),
        ("tcp://arm-1.example:2376", &*east),
        ("tcp://arm-1.example:1234", buildkit),
    ];
    made_up.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A family where the page's commands can be run; `None`, having said why, where something is not here.
fn place(test: &str) -> Option<(Place, Hosts, String)> {
    let mut place = Place::with(&[("a/Dockerfile", "FROM scratch\nCOPY word /\n"), ("a/word", "well\n")]);
    if !Engine::Buildah.equip(test, &mut place) {
        return None;
    }
    let hosts = Hosts::reached_from(test, &mut place)?;
    let (Some(buildkit), Some(here)) =
        (variable("POLYARCH_TEST_BUILDKIT"), variable("POLYARCH_TEST_CONTAINERD"))
    else {
        skip(test, "POLYARCH_TEST_BUILDKIT names no BuildKit");
        return None;
    };
    place.set("DOCKER_HOST", here);
    place.set("BUILDX_CONFIG", place.folder().join("buildx"));
    let certificates = hosts.certificates("client");
    let link = |name: &str, to: &Path| std::os::unix::fs::symlink(to, place.family().join(name));
    link("certificates", &certificates).expect("a link");
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        link(name, &certificates.join(name)).expect("a link");
    }
    Some((place, hosts, buildkit.into_string().expect("text")))
}

#[test]
fn every_command_and_setting_of_the_page_works_as_written() {
    let test = "builders_page::every_command_and_setting_of_the_page_works_as_written";
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/builders.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let commands = commands(&page);
    for command in NOT_RUN {
        assert!(
            commands.iter().any(|one| one == command),
            "the page has no such command any more: {command}"
        );
    }
    let Some((place, hosts, buildkit)) = place(test) else { return };
    let settings: Vec<String> =
        blocks(&page, "toml").iter().map(|block| tried(block, &hosts, &buildkit)).collect();
    assert!(settings.len() >= 3 && commands.len() >= 12, "{settings:?} {commands:?}");
    let configure = |setting: &str| {
        place.write("polyarch.toml", &format!("name = \"page\"\nplatforms = [\"linux/amd64\"]\n{setting}"));
    };
    for setting in &settings {
        configure(setting);
        let answer = place.run(&["plan", "--builders"]).well();
        assert!(answer.stdout.contains("content: "), "{setting}: {}", answer.stdout);
    }
    // What the page has set up before it builds.
    configure(&settings[0]);
    for command in commands.iter().filter(|command| !NOT_RUN.contains(&&***command)) {
        let tried = tried(command, &hosts, &buildkit);
        let answer = match tried.strip_prefix("polyarch ") {
            Some(arguments) => place.run(&arguments.split(' ').collect::<Vec<_>>()),
            None => Answer::from(place.program("sh").args(["-c", &tried]).output().expect("a shell")),
        };
        assert_eq!(answer.code, Some(0), "{command}\n{}\n{}", answer.stdout, answer.stderr);
    }
}
