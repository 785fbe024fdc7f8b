//! The registries that are measured: ours and Debian's docker-registry, started alike, each over an empty folder.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Whose registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Polyarch,
    DockerRegistry,
}

/// Both of them.
pub(crate) const KINDS: [Kind; 2] = [Kind::Polyarch, Kind::DockerRegistry];

impl Kind {
    /// As it stands in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Polyarch => "polyarch serve",
            Self::DockerRegistry => "docker-registry",
        }
    }
}

/// An empty registry on loopback that anyone may write, as a process of its own; gone with this value.
pub(crate) struct Registry {
    pub(crate) address: String,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Start one below a folder. `None`, and a line that says so, where it is not installed.
    pub(crate) fn start(folder: &Path, kind: Kind) -> Option<Self> {
        let own = tempfile::tempdir_in(folder).unwrap();
        match kind {
            Kind::Polyarch => Some(Self::polyarch(own)),
            Kind::DockerRegistry => Self::docker_registry(own),
        }
    }

    fn polyarch(own: tempfile::TempDir) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_polyarch"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--anonymous-writes", "--store"]);
        command.arg(own.path().join("store")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { address: address.trim().to_owned(), process, _folder: own }
    }

    fn docker_registry(own: tempfile::TempDir) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let place = own.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            place.display()
        );
        let file = own.path().join("registry.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = command.spawn() else {
            println!("docker-registry is not installed");
            return None;
        };
        for _ in 0..500 {
            if TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { address, process, _folder: own })
    }

    /// The most memory that it had so far, in MiB.
    pub(crate) fn peak(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes / 1024.0
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
