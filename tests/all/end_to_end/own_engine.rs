//! A Docker Engine of a test's own, which may be killed and whose disk may be filled.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::engines::{locked, wait_for};
use crate::program::{Place, program, skip};

/// Each has a bridge with this address: one at a time.
const ADDRESS: &str = "10.213.96.1/24";

/// An engine with the classic image store, on a small disk of its own.
pub(super) struct OwnEngine {
    folder: PathBuf,
    bridge: String,
    process: Child,
    _alone: File,
}

impl OwnEngine {
    /// One whose images are on a disk of so many megabytes, with which a place works; none, having said why, where
    /// there cannot be one.
    pub(super) fn on_disk(test: &str, place: &mut Place, megabytes: u32) -> Option<Self> {
        Self::with(test, place, megabytes, &serde_json::json!({}))
    }

    /// The same with more in its configuration, such as where else it listens.
    pub(super) fn with(
        test: &str,
        place: &mut Place,
        megabytes: u32,
        more: &serde_json::Value,
    ) -> Option<Self> {
        let folder = place.folder().join("engine");
        std::fs::create_dir_all(folder.join("data")).expect("a folder");
        let disk = format!(
            "truncate -s {megabytes}M disk && mkfs.ext4 -q -F -m 0 disk && mount -o loop,errors=remount-ro disk data"
        );
        let missing =
            ["dockerd", "mkfs.ext4", "ip"].into_iter().find(|name| !runs(name, &["--version"], &["-V"]));
        if let Some(missing) = missing {
            skip(test, &format!("there is no {missing}"));
            return None;
        }
        let alone = locked(&std::env::temp_dir().join("polyarch-own-engine.lock"));
        let mounted = program("sh").args(["-c", &disk]).current_dir(&folder).output().expect("a shell");
        if !mounted.status.success() {
            skip(test, &format!("no disk can be made: {}", String::from_utf8_lossy(&mounted.stderr)));
            return None;
        }
        let bridge = format!("pa-own-{}", std::process::id() % 1_000_000);
        for arguments in [
            vec!["link", "add", &bridge, "type", "bridge"],
            vec!["address", "replace", ADDRESS, "dev", &bridge],
            vec!["link", "set", &bridge, "up"],
        ] {
            place.ask("ip", &arguments);
        }
        let mut configuration = serde_json::json!({
            "hosts": [format!("unix://{}", folder.join("docker.sock").display())],
            "data-root": folder.join("data"), "exec-root": folder.join("exec"),
            "pidfile": folder.join("dockerd.pid"),
            // What an engine is known by is kept there.
            "deprecated-key-path": folder.join("key.json"),
            "bridge": bridge, "iptables": false, "ip6tables": false, "ip-forward": false, "ip-masq": false,
        });
        for (name, value) in more.as_object().expect("a configuration") {
            match (configuration[name].as_array_mut(), value) {
                (Some(list), serde_json::Value::Array(more)) => list.extend(more.clone()),
                _ => configuration[name] = value.clone(),
            }
        }
        std::fs::write(folder.join("daemon.json"), configuration.to_string()).expect("a configuration");
        let process = begin(&folder);
        let mut engine = Self { folder, bridge, process, _alone: alone };
        place.set("DOCKER_HOST", engine.host());
        engine.wait();
        Some(engine)
    }

    /// Its address.
    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// Let no more than so many megabytes be free on its disk; more again with the next call.
    pub(super) fn leave(&self, megabytes: u64) {
        let filler = self.folder.join("data/filler");
        let _ = std::fs::remove_file(&filler);
        let fill =
            "free=$(df -Pk data | awk 'NR == 2 {print $4}'); fallocate -l $((free - $0 * 1024))K data/filler";
        let mut sh = program("sh");
        sh.args(["-c", fill, &megabytes.to_string()]).current_dir(&self.folder);
        assert!(sh.status().expect("a shell").success());
    }

    /// Let the kernel find its disk faulty: from now on it can only be read.
    pub(super) fn break_disk(&self) {
        let device = "basename $(awk -v on=\"$PWD/data\" '$2 == on {print $1}' /proc/mounts)";
        let fault = format!("echo by a test >/sys/fs/ext4/$({device})/trigger_fs_error");
        let broken = program("sh").args(["-c", &fault]).current_dir(&self.folder).status();
        assert!(broken.expect("a shell").success());
    }

    /// Let it open no more than so many files beside those that it has open.
    pub(super) fn limit_files(&self, more: usize) {
        let id = self.process.id().to_string();
        let open = std::fs::read_dir(format!("/proc/{id}/fd")).expect("its files").count();
        let limit = format!("--nofile={}:", open + more);
        let limited = program("prlimit").args(["--pid", &id, &limit]).status();
        assert!(limited.expect("prlimit runs").success());
    }

    /// Where it keeps images.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Kill it where it stands.
    pub(super) fn kill(&mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it is dead");
    }

    /// Send it a signal.
    pub(super) fn signal(&self, signal: &str) {
        let sent = program("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Start it again after it was killed.
    pub(super) fn start(&mut self) {
        for left in ["dockerd.pid", "docker.sock"] {
            let _ = std::fs::remove_file(self.folder.join(left));
        }
        self.process = begin(&self.folder);
    }

    /// Wait until it has ended by itself.
    pub(super) fn ended(&mut self) {
        wait_for("the end of the engine", || !matches!(self.process.try_wait(), Ok(None)));
    }

    /// Wait until it answers.
    pub(super) fn wait(&mut self) {
        let (host, mut tries) = (self.host(), 3);
        wait_for("an engine of one's own", || {
            // On a busy machine its containerd may come too late for it, which ends it.
            if tries > 0 && !matches!(self.process.try_wait(), Ok(None)) {
                tries -= 1;
                self.start();
            }
            runs("docker", &["--host", &host, "info"], &["--host", &host, "info"])
        });
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        let id = self.process.id().to_string();
        let _ = program("kill").arg(&id).output();
        for _ in 0..200 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let unmount = "for mount in $(awk '{print $2}' /proc/mounts | grep \"^$0/\" | sort -r); do umount -l $mount; done";
        let _ = program("sh").args(["-c", unmount]).arg(&self.folder).output();
        let _ = program("ip").args(["link", "delete", &self.bridge]).output();
    }
}

fn begin(folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    let error = log.try_clone().expect("the log");
    let mut dockerd = program("dockerd");
    dockerd.arg("--config-file").arg(folder.join("daemon.json")).stdin(Stdio::null());
    dockerd.stdout(log).stderr(error).spawn().expect("dockerd starts")
}

/// Whether a program runs and ends well with either of these arguments.
fn runs(name: &str, first: &[&str], second: &[&str]) -> bool {
    let ends_well =
        |arguments| program(name).args(arguments).output().is_ok_and(|output| output.status.success());
    ends_well(first) || ends_well(second)
}
