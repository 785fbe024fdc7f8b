//! How fast a registry takes and gives: 1 GB in large blobs and 2,000 small ones, at our server over a folder and at
//! Debian's docker-registry over one, side by side (`make bench`).
//!
//! One same simple client for both, on loopback, in alternating order, each time with an empty registry; the median
//! of three. Beside the seconds to the last answer of a push stand those until all of it is on the disk; both sync what
//! they acknowledge, ours three times a blob, docker-registry eleven times. Peak memory is `VmHWM` of the server.
//! `POLYARCH_BENCH_SMALL=1` leaves out what moves 1 GB.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool of the project"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use polyarch::oci::{Descriptor, Digest, Document, Hasher, Layout, Manifest, MediaType, Repository, Store};
use reqwest::{Body, Client, header};

mod noise;
mod registries;

use noise::Noise;
use registries::{KINDS, Kind, Registry};

const ROUNDS: usize = 3;
/// How many requests the client has on their way at once.
const AT_ONCE: usize = 4;
const LARGE: usize = 128 << 20;

/// What was measured once: seconds to the last answer, to the disk, the server's peak in MiB, requests.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    safe: f64,
    mebibytes: f64,
    requests: usize,
}

/// A blob of two parts, so that the large ones share most of their memory.
#[derive(Clone)]
struct Blob {
    head: Bytes,
    rest: Bytes,
    digest: Digest,
}

impl Blob {
    fn new(number: u64, rest: Bytes) -> Self {
        // It begins as gzip does, so that no client packs it.
        let mut head = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
        head.extend_from_slice(&number.to_le_bytes());
        let mut hasher = Hasher::new(polyarch::oci::Algorithm::Sha256);
        hasher.update(&head);
        hasher.update(&rest);
        Self { head: head.into(), rest, digest: hasher.finish() }
    }

    fn size(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    fn body(&self) -> Body {
        let parts = [self.head.clone(), self.rest.clone()];
        Body::wrap_stream(stream::iter(parts.map(Ok::<_, std::io::Error>)))
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let mut noise = Vec::new();
    Noise::new().fill(&mut noise, LARGE);
    let noise = Bytes::from(noise);
    hashing(&noise, folder.path());
    println!(
        "{:22} {:16} {:>8} {:>8} {:>6} {:>9} {:>9}",
        "what", "registry", "seconds", "on disk", "ratio", "peak MiB", "requests"
    );
    let small: Vec<Blob> = (0..2_000_u64)
        .map(|number| Blob::new(number, noise.slice(..2_000 + usize::try_from(number).unwrap() * 3)))
        .collect();
    by_client(folder.path(), "2,000 small blobs", &small).await;
    if std::env::var_os("POLYARCH_BENCH_SMALL").is_some() {
        return;
    }
    let large: Vec<Blob> = (0..8).map(|number| Blob::new(number, noise.slice(16..))).collect();
    by_client(folder.path(), "1 GB", &large).await;
    by_skopeo(folder.path(), &large).await;
}

/// Push and pull by the simple client.
async fn by_client(folder: &Path, what: &str, blobs: &[Blob]) {
    let mut costs: BTreeMap<(&str, Kind), Vec<Cost>> = BTreeMap::new();
    for kind in order() {
        let Some(registry) = Registry::start(folder, kind) else { continue };
        let client = Client::builder().no_proxy().build().unwrap();
        let start = settled();
        let push = blobs.iter().map(|blob| push(&client, &registry.address, blob));
        stream::iter(push).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        costs.entry(("push", kind)).or_default().push(cost(&registry, start, 2 * blobs.len()));
        let start = settled();
        let pull = blobs.iter().map(|blob| pull(&client, &registry.address, blob));
        stream::iter(pull).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        costs.entry(("pull", kind)).or_default().push(cost(&registry, start, blobs.len()));
    }
    for way in ["push", "pull"] {
        tell(&format!("{way} {what}"), KINDS.map(|kind| costs.get(&(way, kind)).cloned()));
    }
}

async fn push(client: &Client, address: &str, blob: &Blob) {
    let begun = client.post(format!("http://{address}/v2/bench/blobs/uploads/"));
    let begun = begun.send().await.unwrap().error_for_status().unwrap();
    let place = begun.headers()[header::LOCATION].to_str().unwrap();
    let mut place = begun.url().join(place).unwrap();
    place.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
    let put = client.put(place).header(header::CONTENT_LENGTH, blob.size()).body(blob.body());
    assert_eq!(put.send().await.unwrap().status(), 201);
}

async fn pull(client: &Client, address: &str, blob: &Blob) {
    let get = client.get(format!("http://{address}/v2/bench/blobs/{}", blob.digest)).send().await.unwrap();
    let size = get
        .error_for_status()
        .unwrap()
        .bytes_stream()
        .try_fold(0, |all, piece| async move { Ok(all + piece.len()) });
    assert_eq!(size.await.unwrap(), blob.size());
}

/// Push and pull of one image by skopeo.
async fn by_skopeo(folder: &Path, blobs: &[Blob]) {
    let image = folder.join("image");
    write_image(&image, blobs).await;
    let mut costs: BTreeMap<(&str, Kind), Vec<Cost>> = BTreeMap::new();
    for kind in order() {
        let Some(registry) = Registry::start(folder, kind) else { continue };
        let (local, remote) =
            (format!("oci:{}:bench:t", image.display()), format!("docker://{}/bench:t", registry.address));
        let target = tempfile::tempdir_in(folder).unwrap();
        let pulled = format!("dir:{}", target.path().display());
        for (way, from, to) in [("push", &local, &remote), ("pull", &remote, &pulled)] {
            let start = settled();
            let mut command = Command::new("skopeo");
            command.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
            command.args(["--dest-tls-verify=false", from, to]);
            // What it remembers of registries.
            command.env("XDG_DATA_HOME", target.path().join("home")).env("HOME", target.path().join("home"));
            let Ok(status) = command.status() else {
                println!("skopeo is not installed");
                return;
            };
            assert!(status.success(), "skopeo");
            costs.entry((way, kind)).or_default().push(cost(&registry, start, 0));
        }
    }
    for way in ["push", "pull"] {
        tell(&format!("{way} 1 GB by skopeo"), KINDS.map(|kind| costs.get(&(way, kind)).cloned()));
    }
}

async fn write_image(folder: &Path, blobs: &[Blob]) {
    let layout = Layout::open(folder).unwrap();
    let scope: Repository = "bench".parse().unwrap();
    let mut layers = Vec::new();
    for blob in blobs {
        let mut upload = layout.start_upload(&scope).await.unwrap();
        upload.write(blob.head.clone()).await.unwrap();
        upload.write(blob.rest.clone()).await.unwrap();
        upload.finish(&blob.digest).await.unwrap();
        layers.push(Descriptor::new(MediaType::LAYER_GZIP, blob.digest.clone(), blob.size() as u64));
    }
    let config = Bytes::from_static(
        br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    layout.write_blob(&scope, config.clone()).await.unwrap();
    let document = Document::of_manifest(&Manifest::new(Descriptor::of(MediaType::CONFIG, &config), layers));
    layout.write_document(&scope, &document, &["t".parse().unwrap()]).await.unwrap();
    layout.flush().await.unwrap();
}

/// Both registries in each round, the one that begins changing.
fn order() -> impl Iterator<Item = Kind> {
    (0..ROUNDS).flat_map(|round| if round % 2 == 0 { KINDS } else { [KINDS[1], KINDS[0]] })
}

/// Now, when nothing waits to be written that somebody wrote before.
fn settled() -> Instant {
    rustix::fs::sync();
    Instant::now()
}

/// The medians of both, and how many times longer ours took.
fn tell(what: &str, costs: [Option<Vec<Cost>>; 2]) {
    let median = |costs: &[Cost], of: fn(&Cost) -> f64| {
        let mut all: Vec<f64> = costs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let other = costs[1].as_deref().map(|costs| median(costs, |cost| cost.seconds));
    for (kind, costs) in KINDS.into_iter().zip(costs) {
        let Some(costs) = costs else { continue };
        let seconds = median(&costs, |cost| cost.seconds);
        let ratio = other.filter(|_| kind == Kind::Polyarch).map_or(1.0, |other| seconds / other);
        println!(
            "{what:22} {:16} {seconds:>8.2} {:>8.2} {ratio:>6.2} {:>9.0} {:>9}",
            kind.name(),
            median(&costs, |cost| cost.safe),
            median(&costs, |cost| cost.mebibytes),
            costs[0].requests,
        );
    }
}

/// The rate of SHA-256, of the hasher that the registry uses and of the fastest tools at hand.
fn hashing(noise: &Bytes, folder: &Path) {
    let rate = |took: Duration| LARGE as f64 / 1e6 / took.as_secs_f64();
    let start = Instant::now();
    Digest::of(noise);
    println!("SHA-256 by our hasher: {:.0} MB/s", rate(start.elapsed()));
    let file = folder.join("noise");
    std::fs::write(&file, noise).unwrap();
    for (program, arguments) in [("openssl", &["dgst", "-sha256"][..]), ("sha256sum", &[])] {
        let start = Instant::now();
        let output = Command::new(program).args(arguments).arg(&file).output();
        if output.is_ok_and(|output| output.status.success()) {
            println!("SHA-256 by {program}, reading a file: {:.0} MB/s", rate(start.elapsed()));
        }
    }
    std::fs::remove_file(&file).unwrap();
}

/// What it cost since then.
fn cost(registry: &Registry, start: Instant, requests: usize) -> Cost {
    let seconds = start.elapsed().as_secs_f64();
    rustix::fs::sync();
    let safe = start.elapsed().as_secs_f64();
    Cost { seconds, safe, mebibytes: registry.peak(), requests }
}
