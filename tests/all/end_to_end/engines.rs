//! The real engines that tests run on, and root file systems without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use polyarch::oci::{Layout, Store as _};
use serde_json::Value;

use crate::program::{Place, program, skip, variable};

/// How long something is waited for whose time proves nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(180);

/// One real engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    /// Docker with the classic image store.
    Classic,
    /// Docker with the containerd image store.
    Containerd,
    /// Podman, with a storage of its own.
    Podman,
    /// Buildah, with a storage of its own.
    Buildah,
}

impl Engine {
    /// Have a place use this engine; `false`, having said why, where it is not there.
    pub(crate) fn equip(self, test: &str, place: &mut Place) -> bool {
        let name = match self {
            Self::Classic => "POLYARCH_TEST_CLASSIC",
            Self::Containerd => "POLYARCH_TEST_CONTAINERD",
            Self::Podman => return without_daemon(test, place, "podman"),
            Self::Buildah => return without_daemon(test, place, "buildah"),
        };
        let Some(address) = variable(name) else {
            skip(test, &format!("{name} names no engine"));
            return false;
        };
        place.set("DOCKER_HOST", address);
        if let (Self::Containerd, Some(folder)) = (self, variable("POLYARCH_TEST_CONTAINERD_BIN")) {
            let mut path = folder;
            path.push(":");
            path.push(variable("PATH").unwrap_or_default());
            place.set("PATH", path);
            if let Some(config) = variable("POLYARCH_TEST_CONTAINERD_CONFIG") {
                place.set("DOCKER_CONFIG", config);
            }
        }
        true
    }
}

/// Have a place build by a program without a daemon, in a storage within the place.
fn without_daemon(test: &str, place: &mut Place, tool: &str) -> bool {
    if let Err(error) = program(tool).arg("--version").output() {
        skip(test, &format!("no {tool}: {error}"));
        return false;
    }
    place.give_storage();
    true
}

/// A statically linked busybox of an architecture, as OCI names it; `None`, having said why, where there is none.
pub(crate) fn busybox(test: &str, architecture: &str) -> Option<PathBuf> {
    let folder = variable("POLYARCH_TEST_BUSYBOX").map(PathBuf::from);
    let file = folder.map(|folder| folder.join(format!("busybox-linux-{architecture}")));
    match file.filter(|file| file.exists()) {
        Some(file) => Some(file),
        None => {
            skip(test, &format!("no static busybox of {architecture}"));
            None
        }
    }
}

/// Put a busybox of each architecture into the context of an image, under `rootfs/ARCHITECTURE`.
pub(crate) fn root_file_systems(test: &str, place: &Place, image: &str, architectures: &[&str]) -> bool {
    for architecture in architectures {
        let Some(busybox) = busybox(test, architecture) else { return false };
        let bin = place.family().join(image).join("rootfs").join(architecture).join("bin");
        std::fs::create_dir_all(&bin).expect("a folder for programs");
        std::fs::copy(busybox, bin.join("busybox")).expect("copy busybox");
        std::os::unix::fs::symlink("busybox", bin.join("sh")).expect("a shell");
    }
    true
}

/// The Dockerfile of an image that stands on nothing but a busybox.
pub(crate) const FOUNDATION: &str = "FROM scratch\nARG TARGETARCH\nCOPY rootfs/${TARGETARCH}/ /\nENV PATH=/bin\n\
    RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

/// Whether programs for arm64 run here; `false`, having said why, where they do not.
pub(crate) fn runs_arm64(test: &str) -> bool {
    let runs = cfg!(target_arch = "aarch64") || Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists();
    if !runs {
        skip(test, "this machine does not run linux/arm64");
    }
    runs
}

/// What `polyarch inspect` says of an image.
#[track_caller]
pub(crate) fn inspected(place: &Place, reference: &str) -> Value {
    let answer = place.run(&["inspect", "--format", "json", reference]).well();
    serde_json::from_str(&answer.stdout).expect("inspect answers with JSON")
}

/// A file that is locked until it is dropped, so that no other test has what goes with it, in this process or another.
pub(super) fn locked(path: &Path) -> File {
    let file = File::create(path).expect("a file to lock");
    file.lock().expect("locked");
    file
}

/// What a container prints that a docker client starts as it is told. It is read from the container's log: the client of an
/// old engine that shows what a container prints may end before it has shown all of it.
#[track_caller]
pub(crate) fn printed(place: &Place, client: &[&str], container: &[&str]) -> String {
    let ask = |arguments: &[&str]| place.ask("docker", &[client, arguments].concat());
    let id = ask(&[&["create"], container].concat());
    let id = id.trim();
    ask(&["start", id]);
    let (code, said) = (ask(&["wait", id]), ask(&["logs", id]));
    ask(&["rm", "--force", id]);
    assert_eq!(code.trim(), "0", "{said}");
    said
}

/// The layers that `polyarch inspect` names for one platform.
#[track_caller]
pub(crate) fn layers(inspected: &Value, platform: &str) -> Vec<String> {
    let images = inspected["images"].as_array().expect("images");
    let image = images.iter().find(|image| image["platform"] == platform).expect("an image of the platform");
    let layers = image["layers"].as_array().expect("layers");
    layers.iter().map(|layer| layer["digest"].as_str().expect("a digest").to_owned()).collect()
}

/// Every tag of a repository in the place's store, and what it points at.
pub(crate) fn tags(place: &Place, repository: &str) -> BTreeMap<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Layout::open(place.store()).expect("a store");
        let repository = repository.parse().expect("a repository");
        let mut found = BTreeMap::new();
        for tag in store.tags(&repository, None, 10_000).await.expect("tags") {
            let target = store.resolve(&repository, &tag.clone().into()).await.expect("a look");
            found.insert(tag.to_string(), target.expect("a tag points at something").digest.to_string());
        }
        found
    })
}

/// The jobs of the newest run that ended like this: `built`, `checked`, `failed`, `skipped`; or were `reused`.
pub(crate) fn ended(place: &Place, how: &str) -> BTreeSet<String> {
    let is_meant = |event: &Value| match how {
        "reused" => event["event"] == "job-reused",
        _ => event["event"] == "job-ended" && event["outcome"]["outcome"] == how,
    };
    let events = place.events().into_iter().filter(is_meant);
    events.map(|event| event["job"].as_str().expect("a job").to_owned()).collect()
}

/// A set of jobs, written with blanks between them.
pub(crate) fn jobs(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Wait until something is so, which no machine is too busy for.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONGEST_WAIT, "{what}: not within {LONGEST_WAIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
