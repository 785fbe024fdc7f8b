//! Where an engine with the containerd image store has its images: below its own root, or where a containerd has them that
//! the system starts, which may be another disk.

use std::path::{Path, PathBuf};

use super::Docker;
use super::socket::Whereabouts;

/// Where a containerd that the system starts is spoken to.
const OF_SYSTEM: &[&str] = &["/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock"];
/// What it is set up by, and where it has everything unless that says otherwise.
const CONFIGURATION: &str = "/etc/containerd/config.toml";
const ROOT: &str = "/var/lib/containerd";
/// Where an engine has what a containerd keeps that it starts itself, below its own root.
const OWN: &str = "containerd/daemon";

/// The root of the system's containerd, where an engine works with that: it says by which socket, but for those before
/// version 27; those are known by what is on this machine.
pub(super) async fn root(docker: &Docker, address: &str, engine: &Path) -> Option<PathBuf> {
    let is_here = docker.whereabouts() == Whereabouts::Here;
    let is_systems = match address {
        "" => is_here && is_without_own(engine) && Path::new(OF_SYSTEM[0]).exists(),
        address => OF_SYSTEM.contains(&address),
    };
    if !is_systems {
        return None;
    }
    let configuration = match &docker.line {
        Some(line) => {
            let read = line.ask(&format!("cat {CONFIGURATION}")).await.ok()?;
            if read.ended.success() { read.text() } else { String::new() }
        }
        None if is_here => std::fs::read_to_string(CONFIGURATION).unwrap_or_default(),
        None => return None,
    };
    Some(root_said(&configuration))
}

/// Whether an engine is certain to keep nothing of a containerd below its root.
fn is_without_own(engine: &Path) -> bool {
    let found = std::fs::metadata(engine.join(OWN));
    found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The root that a configuration of containerd says.
fn root_said(configuration: &str) -> PathBuf {
    let said = configuration.parse::<toml::Table>().unwrap_or_default();
    said.get("root").and_then(toml::Value::as_str).unwrap_or(ROOT).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_g6_the_root_of_containerd_is_what_its_configuration_says() {
        let table = [
            ("", ROOT),
            ("version = 2\nroot = \"/srv/containerd\"\nstate = \"/run/containerd\"\n", "/srv/containerd"),
            ("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nroot = \"/elsewhere\"\n", ROOT),
            ("root = 7", ROOT),
            ("no configuration", ROOT),
        ];
        for (text, expected) in table {
            assert_eq!(root_said(text), Path::new(expected), "{text}");
        }
    }

    #[test]
    fn an_engine_that_has_started_its_own_containerd_has_a_folder_of_that() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(is_without_own(root.path()));
        std::fs::create_dir_all(root.path().join(OWN)).expect("a folder");
        assert!(!is_without_own(root.path()));
        assert!(!is_without_own(Path::new("/proc/self/status")), "what cannot be seen is not certain");
    }
}
