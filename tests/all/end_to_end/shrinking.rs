//! `polyarch gc --at-most` over a store at a registry: ours, which removes tags, and Debian's docker-registry, which
//! removes what they point at.

use std::io::BufRead as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::engines::{ended, jobs, wait_for};
use super::shared_store::machine;
use crate::program::{Answer, Place, skip};

struct Registry {
    server: Child,
    store: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Registry {
    fn ours(place: &Place) -> Self {
        let folder = place.folder().join("registry");
        let folder = folder.to_str().expect("text");
        let arguments = ["--store", folder, "serve", "--listen", "127.0.0.1:0", "--anonymous-writes"];
        let mut server = place.start(&arguments);
        let mut address = String::new();
        let stdout = server.stdout.take().expect("what it prints");
        std::io::BufReader::new(stdout).read_line(&mut address).expect("serve says where");
        Self { server, store: format!("{}/owner/cache", address.trim()) }
    }

    /// One that lets go of what it is asked to by digest.
    fn of_debian(test: &str, place: &Place) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its number").to_string();
        drop(free);
        let shown = place.folder().display();
        let file = place.folder().join("registry.yml");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {shown}/registry}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"{address}\"}}\n"
        );
        std::fs::write(&file, config).expect("write the configuration");
        let mut program = place.program("docker-registry");
        program.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        match program.spawn() {
            Ok(server) => {
                let there = || std::net::TcpStream::connect(&address).is_ok();
                wait_for("an answer of the registry", Duration::from_secs(20), there);
                Some(Self { server, store: format!("{address}/owner/cache") })
            }
            Err(error) => {
                skip(test, &format!("no docker-registry: {error}"));
                None
            }
        }
    }

    /// Run a command over the store there, by a machine whose folder has this name.
    fn over(&self, place: &Place, machine: &str, arguments: &[&str]) -> Answer {
        let folder = place.folder().join(machine);
        let folder = folder.to_str().expect("text");
        place.run(&[arguments, &["--store", &self.store, "--folder", folder]].concat())
    }
}

fn only_the_oldest_ends(place: &Place, registry: &Registry) {
    // Beside them the parent has less than 2 MB.
    let leaf = |word: &str| {
        let random = "head -c 3000000 /dev/urandom >/random";
        place.write("leaf/Dockerfile", &format!("FROM parent\nRUN echo {word} >/word; {random}\n"));
    };
    let own = place.folder().display().to_string();
    for word in ["one", "two", "three"] {
        leaf(&format!("{word}{own}"));
        let _ = registry.over(place, "first", &["build"]).well();
        // Records say when they were made by the second.
        std::thread::sleep(Duration::from_secs(2));
    }
    let gc = |more: &[&str]| registry.over(place, "first", &[&["gc"], more].concat());
    assert!(
        gc(&["--grace", "0s", "--at-most", "20MB"]).well().stdout.lines().all(|line| !line.contains("ended"))
    );
    let kept = gc(&["--at-most", "6MB", "--grace", "1h"]).well();
    assert!(kept.stderr.contains("stay at the registry"), "{}", kept.stderr);
    let would = gc(&["--grace", "0s", "--at-most", "6MB", "--dry-run"]).well().stdout;
    assert!(would.contains("to end") && would.contains("2 images"), "{would}");
    let done = gc(&["--grace", "0s", "--at-most", "6MB"]).well().stdout;
    assert!(done.contains("ended") && done.contains("2 images"), "{done}");
    assert!(!gc(&["--grace", "0s", "--at-most", "6MB"]).well().stdout.contains("ended"), "it fits now");

    // Machines that have nothing find the newest leaf, whole, and the parent that all of them stand on.
    let folder = place.store();
    let name = folder.strip_prefix(place.folder()).expect("it is below").to_str().expect("text");
    let _ = registry.over(place, name, &["build"]).well();
    assert_eq!(ended(place, "built").len(), 0);
    std::fs::remove_dir_all(&folder).expect("forget everything");
    leaf(&format!("one{own}"));
    let _ = registry.over(place, name, &["build"]).well();
    assert_eq!(ended(place, "built"), jobs("leaf@linux/amd64"), "upon the parent that is there");
}

#[test]
fn the_oldest_ends_at_a_registry_of_ours() {
    let Some(place) = machine("shrinking::ours", "shrinking") else { return };
    let registry = Registry::ours(&place);
    only_the_oldest_ends(&place, &registry);
}

#[test]
fn the_oldest_ends_at_docker_registry() {
    let test = "shrinking::docker_registry";
    let Some(place) = machine(test, "shrinking") else { return };
    let Some(registry) = Registry::of_debian(test, &place) else { return };
    only_the_oldest_ends(&place, &registry);
}
