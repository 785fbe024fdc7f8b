//! What `ADD` fetches from a Git repository: at the commit that the plan has settled.

use std::process::{Child, Stdio};

use super::engines::{Engine, ended, inspected, jobs, layers, wait_for};
use crate::program::Place;

const CONFIGURATION: &str =
    "name = \"repositories\"\nplatforms = [\"linux/amd64\"]\n[tags]\ncommon = [\"latest\"]\n";

/// A repository that Git serves on loopback, ended with this.
struct Served {
    port: u16,
    daemon: Child,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Served {
    fn of(place: &Place) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its number").port();
        drop(free);
        // Itself and not `git daemon`, so that ending it ends all.
        let folder = place.ask("git", &["--exec-path"]);
        let mut daemon = place.program(&format!("{}/git-daemon", folder.trim()));
        let daemon = daemon
            .args(["--listen=127.0.0.1", &format!("--port={port}"), "--export-all", "--reuseaddr"])
            .arg(format!("--base-path={}", place.folder().display()))
            .arg(place.folder())
            .stderr(Stdio::null())
            .spawn()
            .expect("Git serves");
        let served = Self { port, daemon };
        let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait_for("Git to serve", std::time::Duration::from_secs(20), answers);
        served
    }

    fn address(&self) -> String {
        format!("git://127.0.0.1:{}/source#main:folder", self.port)
    }
}

/// Commits a word to the repository's branch `main`; the commit.
fn commit(place: &Place, word: &str) -> String {
    let source = place.folder().join("source");
    std::fs::create_dir_all(source.join("folder")).expect("a folder");
    std::fs::write(source.join("folder/word"), word).expect("a file");
    let source = source.to_str().expect("text");
    let name = ["-c", "user.name=n", "-c", "user.email=e@x.example"];
    let git = |arguments: &[&str]| place.ask("git", &[&["-C", source], &name[..], arguments].concat());
    let _ = git(&["init", "--quiet", "--initial-branch=main"]);
    let _ = git(&["add", "."]);
    let _ = git(&["commit", "--quiet", "--message", word]);
    git(&["rev-parse", "HEAD"]).trim().to_owned()
}

/// What the image of the fetching job has of the repository.
fn fetched(place: &Place) -> String {
    let digest = layers(&inspected(place, "repositories/a:latest"), "linux/amd64").remove(0);
    let blob = place.store().join("blobs").join(digest.replace(':', "/"));
    place.ask("tar", &["-xOzf", blob.to_str().expect("text"), "r/word"])
}

#[test]
fn law_2_an_add_of_a_repository_is_built_at_the_commit_that_is_settled() {
    let mut place =
        Place::with(&[("polyarch.toml", CONFIGURATION), ("b/Dockerfile", "FROM scratch\nCOPY one /\n")]);
    if !Engine::Containerd.equip("repositories::law_2", &mut place) {
        return;
    }
    let served = Served::of(&place);
    let address = served.address();
    // A word of this test's own, so that no cache of the engine has it.
    let own = place.folder().display().to_string();
    place.write("b/one", &own);
    place.write("a/Dockerfile", &format!("FROM scratch\nADD {address} /r/\n"));
    place.write("c/Dockerfile", "FROM a\nCOPY one /\n");
    place.write("c/one", "one");
    let first = commit(&place, &format!("one of {own}"));
    let _ = place.run(&["plan", "--out", "plan.json"]).well();
    let second = commit(&place, &format!("two of {own}"));

    // The branch has moved since: what is built is what was settled, now and in a retry.
    let _ = place.run(&["build", "--plan", "plan.json", "--publish"]).well();
    assert_eq!(fetched(&place), format!("one of {own}"));
    let _ = place.run(&["build", "--plan", "plan.json"]).well();
    assert_eq!(ended(&place, "built").len(), 0);

    let why = place.run(&["why", "a"]).well().stdout;
    let told = format!("what ADD fetches from {address} changed: {first} then, {second} now");
    assert!(why.contains(&told), "{why}");
    let _ = place.run(&["build", "--publish"]).well();
    assert_eq!(ended(&place, "built"), jobs("a@linux/amd64 c@linux/amd64"), "what uses it, and nothing else");
    assert_eq!(fetched(&place), format!("two of {own}"));

    drop(served);
    let plan = place.run(&["plan"]).well();
    assert!(plan.stderr.contains("a/Dockerfile:2:1"), "the plan stands, with a warning: {}", plan.stderr);
    let refused = place.run(&["build"]).ended(3).stderr;
    assert!(refused.contains(&format!("the commit of {address} is unknown")), "{refused}");
    assert!(refused.contains("git ls-remote"), "{refused}");
}
