//! How a family is brought to empty repositories: requests, bytes and seconds, with 0 and 40 ms for each request, at
//! docker-registry and at our server, skopeo beside it (`make bench`).
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

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use polyarch::oci::server::{Access, router, serve};
use polyarch::oci::{
    Client, ClientOptions, Descriptor, Document, Layout, Manifest, MediaType, Origin, Platform, Repository,
    Store, Tag, copy_image,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[path = "../tests/all/client/shape.rs"]
mod shape;

use shape::IMAGES;

/// How many images are on their way at once; each moves some blobs at once.
const IMAGES_AT_ONCE: usize = 4;

struct Image {
    name: String,
    document: Document,
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
        "{:18} {:16} {:>5} {:>9} {:>9} {:>8}",
        "client", "registry", "ms", "requests", "MB sent", "seconds"
    );
    for milliseconds in [0, 40] {
        for debian in [false, true] {
            let name = if debian { "docker-registry" } else { "polyarch serve" };
            let Some(registry) = Registry::start(folder.path(), debian).await else {
                println!("{name} is not installed");
                continue;
            };
            let proxy = Proxy::start(&registry.address, Duration::from_millis(milliseconds)).await;
            let start = Instant::now();
            push(&layout, &scope, &images, &proxy.address).await;
            proxy.tell("polyarch", name, milliseconds, start.elapsed());
            drop(registry);
            let Some(registry) = Registry::start(folder.path(), debian).await else { continue };
            let proxy = Proxy::start(&registry.address, Duration::from_millis(milliseconds)).await;
            let start = Instant::now();
            match skopeo(folder.path(), &images, &proxy.address) {
                Ok(()) => proxy.tell("skopeo", name, milliseconds, start.elapsed()),
                Err(why) => println!("skopeo: {why}"),
            }
        }
    }
}

async fn push(layout: &Layout, scope: &Repository, images: &[Image], address: &str) {
    let client = Client::new(address, ClientOptions::default()).unwrap();
    let origin = Origin { store: layout, repository: scope };
    let push = |image: &Image| {
        let (document, client, origin) = (image.document.clone(), &client, &origin);
        let name = image.name.split_once('.').unwrap().0;
        let repository: Repository = format!("family/{name}").parse().unwrap();
        async move { copy_image(origin, &document, client, &repository, None).await }
    };
    let work: Vec<_> = images.iter().map(push).collect();
    stream::iter(work).buffered(IMAGES_AT_ONCE).try_for_each(|_| async { Ok(()) }).await.unwrap();
}

/// One process for each image, as a person would write it in a script.
fn skopeo(folder: &Path, images: &[Image], address: &str) -> Result<(), String> {
    let home = folder.join("skopeo-home");
    let _ = std::fs::remove_dir_all(&home);
    for image in images {
        let (name, architecture) = image.name.split_once('.').unwrap();
        let from = format!("oci:{}:family:{}", folder.join("family").display(), image.name);
        let to = format!("docker://{address}/family/{name}:{architecture}");
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", &from, &to]);
        command.env("XDG_DATA_HOME", &home).env("HOME", &home);
        let output = command.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(())
}

/// The images, parents first, those of a platform together.
async fn family(layout: &Layout, scope: &Repository) -> Vec<Image> {
    let (mut images, mut state) = (Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
    let mut layers: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
    for platform in ["amd64", "arm64"] {
        for (name, parent, mebibytes) in IMAGES {
            let mut own = parent
                .and_then(|parent| layers.get(&format!("{parent}.{platform}")).cloned())
                .unwrap_or_default();
            for _ in 0..2 {
                let bytes = noise(mebibytes << 19, &mut state);
                layout.write_blob(scope, bytes.clone()).await.unwrap();
                own.push(Descriptor::of(MediaType::LAYER_GZIP, &bytes));
            }
            let config = format!(
                r#"{{"architecture":"{platform}","os":"linux","config":{{"Labels":{{"name":"{name}"}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
            );
            let config = Bytes::from(config);
            layout.write_blob(scope, config.clone()).await.unwrap();
            layers.insert(format!("{name}.{platform}"), own.clone());
            let document = Document::of_manifest(&Manifest {
                schema_version: 2,
                media_type: Some(MediaType::MANIFEST.to_owned()),
                artifact_type: None,
                config: Descriptor::of(MediaType::CONFIG, &config),
                layers: own,
                subject: None,
                annotations: BTreeMap::new(),
            });
            let name = format!("{name}.{platform}");
            let tag: Tag = name.parse().unwrap();
            layout.write_document(scope, &document, &[tag]).await.unwrap();
            let _: Platform = format!("linux/{platform}").parse().unwrap();
            images.push(Image { name, document });
        }
    }
    images
}

/// Bytes that nothing compresses, the same on every machine. They begin as gzip does, so that no client tries.
fn noise(size: usize, state: &mut u64) -> Bytes {
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    while bytes.len() < size {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// An empty registry, gone with this value.
struct Registry {
    address: String,
    process: Option<Child>,
    _folder: tempfile::TempDir,
}

impl Registry {
    async fn start(folder: &Path, debian: bool) -> Option<Self> {
        let own = tempfile::tempdir_in(folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        if !debian {
            let store = Arc::new(Layout::open(own.path().join("store")).unwrap());
            let router = router(store, Access::open());
            tokio::spawn(async move { serve(listener, router, std::future::pending()).await });
            return Some(Self { address, process: None, _folder: own });
        }
        drop(listener);
        let place = own.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            place.display()
        );
        let file = own.path().join("registry.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Some(command.spawn().ok()?);
        let registry = Self { address, process, _folder: own };
        while TcpStream::connect(&registry.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Counts requests and bytes of bodies, and adds a delay to each request. Streams both ways.
struct Proxy {
    address: String,
    requests: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Proxy {
    async fn start(registry: &str, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (requests, sent): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let (counts, registry) = ((requests.clone(), sent.clone()), registry.to_owned());
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let (counts, registry) = (counts.clone(), registry.clone());
                tokio::spawn(async move { pass(client, &registry, delay, &counts).await });
            }
        });
        Self { address, requests, sent }
    }

    fn tell(&self, client: &str, registry: &str, milliseconds: u64, took: Duration) {
        let requests = self.requests.load(Ordering::Relaxed);
        let sent = self.sent.load(Ordering::Relaxed) as f64 / 1e6;
        let took = took.as_secs_f64();
        println!("{client:18} {registry:16} {milliseconds:>5} {requests:>9} {sent:>9.1} {took:>8.1}");
    }
}

/// One connection: request by request, each with its answer.
async fn pass(
    mut client: TcpStream,
    registry: &str,
    delay: Duration,
    counts: &(Arc<AtomicU64>, Arc<AtomicU64>),
) -> Option<()> {
    let mut server = TcpStream::connect(registry).await.ok()?;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    loop {
        let head = head(&mut client, &mut from_client).await?;
        counts.0.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(delay).await;
        server.write_all(head.as_bytes()).await.ok()?;
        let sent = body(&mut client, &mut from_client, &mut server, &head).await?;
        counts.1.fetch_add(sent, Ordering::Relaxed);
        let answer = self::head(&mut server, &mut from_server).await?;
        client.write_all(answer.as_bytes()).await.ok()?;
        if !head.starts_with("HEAD ") {
            body(&mut server, &mut from_server, &mut client, &answer).await?;
        }
    }
}

async fn head(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = held.split_off(end + 4);
            return String::from_utf8(std::mem::replace(held, rest)).ok();
        }
        stream.read_buf(held).await.ok().filter(|count| *count > 0)?;
        // skopeo tries TLS first, and would wait ten seconds for an answer to its greeting.
        held.first().filter(|first| first.is_ascii_uppercase())?;
    }
}

/// Pass a body on, by its length or in chunks; how many bytes it has.
async fn body(from: &mut TcpStream, held: &mut Vec<u8>, to: &mut TcpStream, head: &str) -> Option<u64> {
    let lower = head.to_ascii_lowercase();
    let value = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if value("transfer-encoding:") == Some("chunked") {
        return chunks(from, held, to).await;
    }
    let length: usize = value("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
    exactly(from, held, to, length).await.map(|()| length as u64)
}

async fn chunks(from: &mut TcpStream, held: &mut Vec<u8>, to: &mut TcpStream) -> Option<u64> {
    let mut all = 0;
    loop {
        let end = loop {
            if let Some(end) = held.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            from.read_buf(held).await.ok().filter(|count| *count > 0)?;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&held[..end]).ok()?.trim(), 16).ok()?;
        exactly(from, held, to, end + 2 + size + 2).await?;
        all += size as u64;
        if size == 0 {
            return Some(all);
        }
    }
}

async fn exactly(
    from: &mut TcpStream,
    held: &mut Vec<u8>,
    to: &mut TcpStream,
    mut left: usize,
) -> Option<()> {
    while left > 0 {
        if held.is_empty() {
            held.reserve(256 << 10);
            from.read_buf(held).await.ok().filter(|count| *count > 0)?;
        }
        let now = left.min(held.len());
        to.write_all(&held[..now]).await.ok()?;
        held.drain(..now);
        left -= now;
    }
    Some(())
}
