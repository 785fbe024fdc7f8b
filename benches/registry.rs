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
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use polyarch::oci::{Descriptor, Digest, Document, Hasher, Layout, Manifest, MediaType, Repository, Store};
use reqwest::{Body, Client, header};

const ROUNDS: usize = 3;
/// How many requests the client has on their way at once.
const AT_ONCE: usize = 4;
const LARGE: usize = 128 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Polyarch,
    DockerRegistry,
}

const KINDS: [Kind; 2] = [Kind::Polyarch, Kind::DockerRegistry];

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
    let noise = noise(LARGE);
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
        costs.entry(("push", kind)).or_default().push(registry.cost(start, 2 * blobs.len()));
        let start = settled();
        let pull = blobs.iter().map(|blob| pull(&client, &registry.address, blob));
        stream::iter(pull).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        costs.entry(("pull", kind)).or_default().push(registry.cost(start, blobs.len()));
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
            costs.entry((way, kind)).or_default().push(registry.cost(start, 0));
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
    let document = Document::of_manifest(&Manifest {
        schema_version: 2,
        media_type: Some(MediaType::MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::of(MediaType::CONFIG, &config),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    });
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
        let name = if kind == Kind::Polyarch { "polyarch serve" } else { "docker-registry" };
        println!(
            "{what:22} {name:16} {seconds:>8.2} {:>8.2} {ratio:>6.2} {:>9.0} {:>9}",
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

/// Bytes that nothing compresses.
fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// An empty registry as a process of its own, gone with this value.
struct Registry {
    address: String,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start(folder: &Path, kind: Kind) -> Option<Self> {
        let own = tempfile::tempdir_in(folder).unwrap();
        if kind == Kind::Polyarch {
            let mut command = Command::new(env!("CARGO_BIN_EXE_polyarch"));
            command.args(["serve", "--listen", "127.0.0.1:0", "--anonymous-writes", "--store"]);
            command.arg(own.path().join("store")).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut process = command.spawn().unwrap();
            let mut address = String::new();
            BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
            return Some(Self { address: address.trim().to_owned(), process, _folder: own });
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
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
            if std::net::TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { address, process, _folder: own })
    }

    /// What it cost since then.
    fn cost(&self, start: Instant, requests: usize) -> Cost {
        let seconds = start.elapsed().as_secs_f64();
        rustix::fs::sync();
        let safe = start.elapsed().as_secs_f64();
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        Cost { seconds, safe, mebibytes: kibibytes / 1024.0, requests }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
