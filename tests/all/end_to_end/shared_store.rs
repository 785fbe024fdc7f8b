//! A store at a registry that machines share, and runs of pull requests beside the trusted ones.

use std::io::BufRead as _;
use std::path::Path;
use std::process::Child;

use polyarch::oci::Digest;

use super::engines::{Engine, FOUNDATION, printed, root_file_systems, wait_for};
use crate::client::registries::start_debian;
use crate::program::{Answer, Place};

const CONFIGURATION: &str = "name = \"shared\"\nplatforms = [\"linux/amd64\"]\n\
    tests = [{ run = \"test -e /word\" }]\n[tags]\ncommon = [\"latest\"]\n";

/// A registry of the store, which everyone may read and whoever knows the password may write.
pub(super) struct Registry {
    server: Child,
    pub(super) store: String,
}

impl Registry {
    pub(super) fn start(place: &Place) -> Self {
        let (folder, word) = (place.folder().join("registry"), place.folder().join("word"));
        std::fs::write(&word, "secret\n").expect("a password");
        let (folder, word) = (folder.to_str().expect("text"), word.to_str().expect("text"));
        let named = ["--user", "trusted", "--password-file", word, "--anyone-reads"];
        let place_of = ["--store", folder, "serve", "--listen", "127.0.0.1:0"];
        let mut server = place.start(&[&place_of[..], &named].concat());
        let mut address = String::new();
        let stdout = server.stdout.take().expect("what it prints");
        std::io::BufReader::new(stdout).read_line(&mut address).expect("serve says where");
        Self { server, store: format!("{}/owner/cache", address.trim()) }
    }

    /// Debian's instead, which lets go of what it is asked to by digest and wants no password; none, having said why,
    /// where it is not installed.
    pub(super) fn of_debian(test: &str, place: &Place) -> Option<Self> {
        let (server, address) = start_debian(test, place.folder())?;
        let there = || std::net::TcpStream::connect(&address).is_ok();
        wait_for("an answer of the registry", there);
        Some(Self { server, store: format!("{address}/owner/cache") })
    }

    /// Have a machine know the password.
    pub(super) fn let_in(&self, place: &mut Place) {
        let host = self.store.split('/').next().expect("a host");
        // `trusted:secret`, in base64.
        let login = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"dHJ1c3RlZDpzZWNyZXQ=\"}}}}}}");
        let file = place.folder().join("auth.json");
        std::fs::write(&file, login).expect("a password");
        place.set("REGISTRY_AUTH_FILE", file);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A machine with the family on it, whose leaf says a word.
pub(super) fn machine(test: &str, word: &str) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("parent/Dockerfile", &format!("{FOUNDATION}RUN echo parent > /word\n")),
        ("leaf/Dockerfile", &format!("FROM parent\nRUN echo {word} > /word\n")),
    ]);
    let is_there = Engine::Containerd.equip(test, &mut place);
    (is_there && root_file_systems(test, &place, "parent", &["amd64"])).then_some(place)
}

/// Run a command over the store at the registry.
pub(super) fn over(place: &Place, registry: &Registry, arguments: &[&str]) -> Answer {
    let folder = place.store();
    let folder = folder.to_str().expect("text");
    place.run(&[arguments, &["--store", &registry.store, "--folder", folder]].concat())
}

/// How many requests the newest run has made to the registry, and how many bytes it has sent.
fn traffic(place: &Place) -> (u64, u64) {
    let events = place.events();
    let traffic = events.iter().find(|event| event["event"] == "traffic").expect("an event of it");
    let number = |name: &str| traffic["amount"][name].as_u64().expect("a number");
    (number("requests"), number("sent"))
}

/// The names and contents of all files below a folder.
pub(super) fn picture(folder: &Path) -> Vec<(std::path::PathBuf, Digest)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, metadata) = (entry.path(), entry.metadata().expect("its state"));
        match metadata.is_dir() {
            true => found.extend(picture(&path)),
            false => found.push((path.clone(), Digest::of(&std::fs::read(path).expect("its content")))),
        }
    }
    found.sort();
    found
}

#[test]
fn law_4_f_u3_machines_share_a_registry_and_a_pull_request_reads_it_and_writes_nothing() {
    let test = "shared_store::law_4_f_u3";
    let (Some(mut one), Some(mut two), Some(pull)) =
        (machine(test, "one"), machine(test, "one"), machine(test, "other"))
    else {
        return;
    };
    let registry = Registry::start(&one);
    registry.let_in(&mut one);
    registry.let_in(&mut two);
    let built = over(&one, &registry, &["build"]).well();
    assert!(built.stderr.contains("2 built"), "{}", built.stderr);

    let idle = over(&two, &registry, &["build"]).well();
    assert!(idle.stderr.contains("0 built, 0 checked, 2 reused"), "{}", idle.stderr);
    let (requests, sent) = traffic(&two);
    assert!(requests <= 30 && sent == 0, "{requests} requests, {sent} bytes");

    let held = picture(&one.folder().join("registry/blobs"));
    let tags = picture(&one.folder().join("registry/repositories/owner"));
    let denied = over(&pull, &registry, &["build"]).ended(3);
    assert!(denied.stderr.contains("keep what was built of leaf@linux/amd64"), "{}", denied.stderr);
    let scope = ["--scope", "pr-7"];
    std::fs::remove_dir_all(pull.store()).expect("forget what was built");
    let own = over(&pull, &registry, &[&["build"], &scope[..]].concat()).well();
    assert!(own.stderr.contains("1 built, 0 checked, 1 reused"), "{}", own.stderr);
    assert!(own.stderr.contains("alone"), "it says where its results are: {}", own.stderr);
    let again = over(&pull, &registry, &[&["build"], &scope[..]].concat()).well();
    assert!(again.stderr.contains("0 built, 0 checked, 2 reused"), "{}", again.stderr);
    assert_eq!(picture(&one.folder().join("registry/blobs")), held, "F-U3: not a byte");
    assert_eq!(picture(&one.folder().join("registry/repositories/owner")), tags, "F-U3: not a name");

    let rehearsed = over(&pull, &registry, &[&["build", "--publish"], &scope[..]].concat()).well();
    assert!(rehearsed.stdout.contains("shared/leaf:latest"), "it says what: {}", rehearsed.stdout);
    assert!(rehearsed.stderr.contains("nothing was published"), "{}", rehearsed.stderr);
    assert!(!pull.store().join("repositories/shared").exists(), "nothing of it is left");
    let host = registry.store.split('/').next().expect("a host");
    let target = ["build", "--publish", "--to", host, "--scope", "pr-7"];
    let refused = over(&pull, &registry, &target).ended(4);
    assert!(refused.stderr.contains("refused in the scope `pr-7`"), "{}", refused.stderr);
    let refused = over(&pull, &registry, &["publish", "--scope", "pr-7"]).ended(4);
    assert!(refused.stderr.contains("refused in the scope `pr-7`"), "{}", refused.stderr);
    assert_eq!(picture(&one.folder().join("registry/blobs")), held, "F-U1: not a byte");
    for name in ["../trusted", "refs/heads/main", "", "Trusted"] {
        let wrong = over(&pull, &registry, &["build", "--scope", name]).ended(2);
        assert!(wrong.stderr.contains("a scope is named by"), "F-U8: {}", wrong.stderr);
    }
    let folder = pull.store();
    reviewed(&one, folder.to_str().expect("text"));
}

/// Load what the run of a pull request built, as somebody does who has another tree.
fn reviewed(reviewer: &Place, folder: &str) {
    let name = format!("polyarch.test/reviewed-{}:1", std::process::id());
    let arguments = ["load", "leaf@linux/amd64", "--from", folder, "--name", &name];
    let loaded = reviewer.run(&arguments).well();
    assert!(loaded.stderr.contains("in the scope `pr-7`"), "{}", loaded.stderr);
    let word = printed(reviewer, &[], &[&name, "cat", "/word"]);
    reviewer.ask("docker", &["image", "rm", "--force", &name]);
    assert_eq!(word, "other\n");
    let nothing = reviewer.run(&["load", "leaf@linux/amd64", "--from", "pr-9"]).ended(2);
    assert!(nothing.stderr.contains("pr-9 has no leaf@linux/amd64"), "{}", nothing.stderr);
}
