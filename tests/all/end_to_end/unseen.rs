//! What steps see and engines leave out of the keys of their caches: proxies, and whether a secret was given.

use super::engines::{Engine, FOUNDATION, root_file_systems};
use crate::program::{Answer, Place};

const CONFIGURATION: &str = "name = \"unseen\"\nplatforms = [\"linux/amd64\"]\n[image.leaf]\n";
const SECRET: &str = "secrets = { token = { env = \"TOKEN\" } }";

/// Where a leaf of one step is built, and by what.
struct Site {
    place: Place,
    builder: Option<&'static str>,
}

/// A family, and a word that no other test has said.
fn site(test: &str, engine: Engine) -> Option<(Site, String)> {
    let mut place = Place::with(&[("polyarch.toml", CONFIGURATION), ("root/Dockerfile", FOUNDATION)]);
    place.set("TOKEN", "value-of-the-token");
    let own = place.folder().file_name().expect("a name").to_string_lossy().replace('.', "");
    let is_there = engine.equip(test, &mut place) && root_file_systems(test, &place, "root", &["amd64"]);
    let builder = match engine {
        Engine::Classic | Engine::Containerd => None,
        Engine::Podman => Some("--builder=podman"),
        Engine::Buildah => Some("--builder=buildah"),
    };
    is_there.then_some((Site { place, builder }, own))
}

fn proxy(name: &str) -> String {
    format!("args = {{ HTTP_PROXY = \"http://{name}.invalid\" }}")
}

impl Site {
    /// Builds a leaf of one step with these settings, and tests it.
    fn build(&self, [settings, step]: [&str; 2], test: &str, arguments: &[&str]) -> Answer {
        self.place.write("leaf/Dockerfile", &format!("FROM root\n{step}\n"));
        let configuration = format!("{CONFIGURATION}tests = [{{ run = {test:?} }}]\n{settings}\n");
        self.place.write("polyarch.toml", &configuration);
        let builder: Vec<&str> = self.builder.into_iter().collect();
        self.place.run(&[&["build"], &builder[..], arguments].concat())
    }

    /// Whether a test passes that is true of its image.
    fn makes(&self, leaf: [&str; 2], test: &str, arguments: &[&str]) -> bool {
        let answer = self.build(leaf, test, arguments);
        assert!(matches!(answer.code, Some(0 | 1)), "{}", answer.stderr);
        answer.code == Some(0)
    }
}

fn tm1_steps(test: &str, engine: Engine) {
    let Some((site, own)) = site(test, engine) else { return };
    let step = format!("RUN echo {own} && echo \"by [$HTTP_PROXY]\" > /w");
    let untrusted = ["--scope", "pr-66"];
    match engine {
        Engine::Classic | Engine::Containerd => {
            let hostile = site.makes([&proxy("evil"), &step], "grep -q evil /w", &untrusted);
            assert!(hostile, "the pull request has its own");
        }
        Engine::Podman | Engine::Buildah => {
            let refused = site.build([&proxy("evil"), &step], "true", &untrusted).ended(4);
            assert!(refused.stderr.contains("the argument HTTP_PROXY names a proxy"), "{}", refused.stderr);
        }
    }
    assert!(site.makes(["", &step], "grep -q 'by \\[\\]' /w", &[]), "TM1: it had no proxy");
    for name in ["one", "two"] {
        let its_own = format!("grep -q //{name}.invalid /w");
        assert!(site.makes([&proxy(name), &step], &its_own, &[]), "its own proxy: {name}");
    }

    let step =
        format!("RUN --mount=type=secret,id=token echo {own}; cat /run/secrets/token >/t || echo none >/w");
    let without = site.makes([SECRET, &step], "grep -q none /w", &untrusted);
    assert!(without, "a pull request is given none");
    assert!(
        site.makes([SECRET, &step], "grep -q value /t", &[]),
        "TM1: what was done without it is not its own"
    );
    assert!(site.makes(["", &step], "grep -q none /w", &["--no-reuse"]), "nor the other way round");
}

#[test]
fn tm1_steps_by_proxies_and_secrets_are_told_apart_on_the_classic_store() {
    tm1_steps("tm1_steps_on_the_classic_store", Engine::Classic);
}

#[test]
fn tm1_steps_by_proxies_and_secrets_are_told_apart_on_the_containerd_store() {
    tm1_steps("tm1_steps_on_the_containerd_store", Engine::Containerd);
}

#[test]
fn tm1_steps_by_proxies_and_secrets_are_told_apart_by_podman() {
    tm1_steps("tm1_steps_by_podman", Engine::Podman);
}

#[test]
fn tm1_steps_by_proxies_and_secrets_are_told_apart_by_buildah() {
    tm1_steps("tm1_steps_by_buildah", Engine::Buildah);
}
