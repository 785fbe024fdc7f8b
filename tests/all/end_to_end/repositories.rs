//! What `ADD` fetches from a Git repository: at the commit that the plan has settled.

use std::path::Path;
use std::process::{Child, Stdio};

use super::engines::{Engine, ended, inspected, jobs, layers, wait_for};
use crate::program::{Place, free_port, skip};

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
        let port = free_port();
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
        wait_for("Git to serve", answers);
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

/// An ssh server on loopback and an agent whose key it lets in, both ended with this.
struct BySsh {
    port: u16,
    both: Vec<Child>,
}

impl Drop for BySsh {
    fn drop(&mut self) {
        for child in &mut self.both {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl BySsh {
    fn of(place: &mut Place) -> Self {
        let port = free_port();
        let own = |name: &str| place.folder().join(name).to_str().expect("text").to_owned();
        let (host, user, socket, settings) = (own("host"), own("user"), own("agent"), own("sshd"));
        for key in [&host, &user] {
            let _ = place.ask("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key]);
        }
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {user}.pub\nStrictModes no\n\
             UsePAM no\nPidFile none\n"
        );
        std::fs::write(&settings, text).expect("its settings");
        let start = |name: &str, arguments: &[&str]| {
            let mut program = place.program(name);
            program.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
        };
        let both = vec![
            start("/usr/sbin/sshd", &["-D", "-f", &settings]),
            start("ssh-agent", &["-D", "-a", &socket]),
        ];
        let started = Self { port, both };
        let answers =
            || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() && Path::new(&socket).exists();
        wait_for("ssh to answer", answers);
        place.set("SSH_AUTH_SOCK", socket);
        place.set(
            "GIT_SSH_COMMAND",
            "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        );
        let _ = place.ask("ssh-add", &["-q", &user]);
        started
    }
}

#[test]
fn law_2_an_add_by_ssh_is_built_with_the_agent_of_its_image_and_in_no_untrusted_run() {
    let test = "repositories::law_2_by_ssh";
    let mut place = Place::with(&[]);
    if !Engine::Containerd.equip(test, &mut place) {
        return;
    }
    if !Path::new("/usr/sbin/sshd").exists() || !Path::new("/run/sshd").exists() {
        return skip(test, "no ssh server");
    }
    let ssh = BySsh::of(&mut place);
    let own = place.folder().display().to_string();
    let _ = commit(&place, &own);
    let user = place.ask("id", &["-un"]);
    let address = format!("ssh://{}@127.0.0.1:{}{own}/source#main:folder", user.trim(), ssh.port);
    place.write("a/Dockerfile", &format!("FROM scratch\nADD {address} /r/\n"));
    let given = format!("{CONFIGURATION}[image.a]\nssh = [\"default\"]\n");
    place.write("polyarch.toml", &given);
    let _ = place.run(&["build", "--scope", "pr-1"]).ended(1);
    let _ = place.run(&["build", "--publish"]).well();
    assert_eq!(fetched(&place), own);
    assert!(place.run(&["why", "a"]).well().stdout.contains("reused"));

    // Another commit, since an engine keeps what it has fetched.
    let _ = commit(&place, &format!("two of {own}"));
    place.write("polyarch.toml", CONFIGURATION);
    let failed = place.run(&["build"]).ended(1);
    assert!(failed.stderr.contains("asks for an SSH agent, which nobody gives"), "{}", failed.stderr);
}
