//! The real engines that tests run on, and root file systems without a network.

use std::path::PathBuf;

use crate::program::{Place, skip, variable};

/// One real engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    /// Docker with the classic image store.
    Classic,
    /// Docker with the containerd image store.
    Containerd,
}

impl Engine {
    /// Have a place use this engine; `false`, having said why, where it is not there.
    pub(crate) fn equip(self, test: &str, place: &mut Place) -> bool {
        let name = match self {
            Self::Classic => "POLYARCH_TEST_CLASSIC",
            Self::Containerd => "POLYARCH_TEST_CONTAINERD",
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

/// A statically linked busybox of an architecture, as OCI names it; `None`, having said why, where there is none.
pub(crate) fn busybox(test: &str, architecture: &str) -> Option<PathBuf> {
    let folder = variable("POLYARCH_TEST_BUSYBOX").map(PathBuf::from);
    let file = folder.map(|folder| folder.join(format!("busybox-{architecture}")));
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
