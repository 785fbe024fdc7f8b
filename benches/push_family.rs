//! How a family is brought to empty repositories: requests, bytes and seconds, with 0 and 40 ms for each request, at
//! docker-registry and at our server, and the same by skopeo, oras and crane (`make bench`).
//!
//! The family is the one that clients are compared with: 12 images for 2 platforms in the shape of docker-stacks, two
//! incompressible layers each, 686 MB unique and 3,013 MB as the sum of its images. Requests and bytes do not depend
//! on the machine; seconds do.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool of the project"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use polyarch::oci::{Client, ClientOptions, Layout, Origin, Repository, copy_image};

mod counting;
mod family;
mod noise;
mod registries;
#[path = "../tests/all/client/shape.rs"]
mod shape;

use counting::Proxy;
use family::{Image, family};
use registries::{KINDS, Registry};

/// How many images are on their way at once; each moves some blobs at once.
const IMAGES_AT_ONCE: usize = 4;

/// Whose client, where it is not ours.
#[derive(Clone, Copy)]
enum Peer {
    Skopeo,
    Oras,
    Crane,
}

/// Who pushes: first our client, which the others are compared with.
const PUSHERS: [Option<Peer>; 4] = [None, Some(Peer::Skopeo), Some(Peer::Oras), Some(Peer::Crane)];

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Skopeo => "skopeo",
            Self::Oras => "oras",
            Self::Crane => "crane",
        }
    }

    /// What pushes one image. The program stands in the folder of `POLYARCH_TEST_CLIENTS`, or in the path.
    fn command(self, folder: &Path, image: &Image, to: &str) -> Command {
        let fetched =
            std::env::var_os("POLYARCH_TEST_CLIENTS").map(|place| Path::new(&place).join(self.name()));
        let mut command = Command::new(fetched.filter(|file| file.exists()).unwrap_or(self.name().into()));
        let family = folder.join("family");
        match self {
            Self::Skopeo => {
                command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
                command.arg(format!("oci:{}:family:{}", family.display(), image.name));
                command.arg(format!("docker://{to}"));
            }
            Self::Oras => {
                command.args(["cp", "--no-tty", "--to-plain-http", "--from-oci-layout"]);
                command.arg(format!("{}@{}", family.display(), image.document.digest())).arg(to);
            }
            Self::Crane => {
                command.args(["push", "--insecure"]).arg(alone(folder, image)).arg(to);
            }
        }
        command
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path().join("family")).unwrap();
    let scope: Repository = "family".parse().unwrap();
    let images = family(&layout, &scope).await;
    layout.flush().await.unwrap();
    println!(
        "{:10} {:16} {:>5} {:>9} {:>6} {:>9} {:>6} {:>8} {:>6} {:>9}",
        "client", "registry", "ms", "requests", "ratio", "MB sent", "ratio", "seconds", "ratio", "peak MiB"
    );
    for milliseconds in [0, 40] {
        for kind in KINDS {
            let mut ours = None;
            for pusher in PUSHERS {
                let Some(registry) = Registry::start(folder.path(), kind) else { break };
                let delay = Duration::from_millis(milliseconds);
                let proxy = Proxy::start(&registry.address, delay, Arc::new(|_: &str| {})).await;
                let start = Instant::now();
                let name = pusher.map_or("polyarch", Peer::name);
                let pushed = match pusher {
                    None => push(&layout, &scope, &images, &proxy.address).await,
                    Some(peer) => one_by_one(peer, folder.path(), &images, &proxy.address),
                };
                let (requests, bytes) = proxy.counted();
                let cost = [requests as f64, bytes as f64 / 1e6, start.elapsed().as_secs_f64()];
                match pushed {
                    Ok(()) => {
                        let row = format!("{name:10} {:16} {milliseconds:>5}", kind.name());
                        tell(&row, cost, *ours.get_or_insert(cost), registry.peak());
                    }
                    Err(why) => println!("{name}: {why}"),
                }
            }
        }
    }
}

/// A row of the table: requests, megabytes and seconds, each with how many times ours it is; the registry's memory.
fn tell(row: &str, cost: [f64; 3], ours: [f64; 3], peak: f64) {
    let [requests, megabytes, seconds] = cost;
    let [more, larger, longer] = [0, 1, 2].map(|which| cost[which] / ours[which]);
    println!(
        "{row} {requests:>9} {more:>6.2} {megabytes:>9.1} {larger:>6.2} {seconds:>8.1} {longer:>6.2} {peak:>9.0}"
    );
}

/// All by one client of ours.
async fn push(layout: &Layout, scope: &Repository, images: &[Image], address: &str) -> Result<(), String> {
    let client = Client::new(address, ClientOptions::default()).unwrap();
    let origin = Origin { store: layout, repository: scope };
    let push = |image: &Image| {
        let (document, client, origin) = (image.document.clone(), &client, &origin);
        let name = image.name.split_once('.').unwrap().0;
        let repository: Repository = format!("family/{name}").parse().unwrap();
        async move { copy_image(origin, &document, client, &repository, None).await }
    };
    let work: Vec<_> = images.iter().map(push).collect();
    stream::iter(work)
        .buffered(IMAGES_AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
        .map_err(|error| error.to_string())
}

/// One process for each image, as a person would write it in a script.
fn one_by_one(peer: Peer, folder: &Path, images: &[Image], address: &str) -> Result<(), String> {
    let home = folder.join("home");
    let _ = std::fs::remove_dir_all(&home);
    for image in images {
        let (name, architecture) = image.name.split_once('.').unwrap();
        let to = format!("{address}/family/{name}:{architecture}");
        let mut command = peer.command(folder, image, &to);
        command.env("XDG_DATA_HOME", &home).env("HOME", &home);
        let output = command.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(())
}

/// A layout beside the family that has one of its images alone and shares its blobs: crane pushes whole layouts.
fn alone(folder: &Path, image: &Image) -> PathBuf {
    let alone = folder.join("alone").join(&image.name);
    if !alone.exists() {
        std::fs::create_dir_all(&alone).unwrap();
        std::os::unix::fs::symlink(folder.join("family/blobs"), alone.join("blobs")).unwrap();
        std::fs::copy(folder.join("family/oci-layout"), alone.join("oci-layout")).unwrap();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [image.document.descriptor()] });
        std::fs::write(alone.join("index.json"), index.to_string()).unwrap();
    }
    alone
}
