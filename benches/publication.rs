//! What publishing costs, by the program as users have it: joining 2 platforms under tags, a family of many tags,
//! promoting a family inside one registry and copying it to another, promoting what a pull request has built and a trusted
//! run has signed, and a run with nothing to do over a store in a folder and at a registry; and the same by oras, crane, buildx and skopeo
//! where they are installed (`make bench`).
//!
//! A proxy counts, and adds 0 or 40 ms to each request. Requests and bytes do not depend on the machine; seconds do.
//! The families that are published are built first, by the engine of `POLYARCH_TEST_CLASSIC` or the usual one.
//! `POLYARCH_BENCH_SMALL=1` leaves out what moves 686 MB; `cargo bench --bench publication -- signed` is one part alone, of
//! `join`, `many`, `signed`, `idle` and `family`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool of the project"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use polyarch::oci::{
    Client, ClientOptions, Document, ImageIndex, Layout, Origin, Repository, Store, copy_image,
};

mod counting;
mod family;
mod noise;
mod registries;
#[path = "../tests/all/client/shape.rs"]
mod shape;

use counting::Proxy;
use registries::{KINDS, Kind, Registry};
use shape::IMAGES;

/// How many tags a peer puts on an index; polyarch names its platforms too, and so puts 7 on the index and 14 on them.
const TAGS: usize = 20;
const JOINED: usize = 7;
/// So many images, each under so many tags of its index and twice as many of its platforms: 165 and 330.
const MANY: (usize, usize) = (15, 11);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        println!(
            "{:34} {:16} {:>5} {:>9} {:>9} {:>8} {:>9}",
            "what", "registry", "ms", "requests", "MB sent", "seconds", "peak MiB"
        );
        let named: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
        let is_wanted = |name: &str| named.is_empty() || named.iter().any(|one| one == name);
        if is_wanted("join") {
            join(folder.path()).await;
        }
        if is_wanted("many") {
            many(folder.path()).await;
        }
        if is_wanted("signed") {
            signed(folder.path()).await;
        }
        if is_wanted("idle") {
            idle(folder.path()).await;
        }
        if is_wanted("family") && std::env::var_os("POLYARCH_BENCH_SMALL").is_none() {
            whole_family(folder.path()).await;
        }
    });
}

/// When the first and the last request came that moves a tag.
type Span = Arc<Mutex<Option<(Instant, Instant)>>>;

/// A proxy before a registry, and what it saw.
struct Watched {
    proxy: Proxy,
    tags: Span,
    delay: u64,
    kind: Kind,
    since: Instant,
}

impl Watched {
    async fn start(registry: &Registry, kind: Kind, delay: u64) -> Self {
        let tags = Span::default();
        let seen = tags.clone();
        let hear = move |line: &str| {
            let target = line.split(' ').nth(1).unwrap_or_default();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let name = path.rsplit('/').next().unwrap_or_default();
            let names_a_tag = !name.starts_with("sha256:") || query.contains("tag=");
            if line.starts_with("PUT ")
                && path.contains("/manifests/")
                && names_a_tag
                && name != "polyarch-publications"
            {
                let now = Instant::now();
                let mut seen = seen.lock().unwrap();
                *seen = Some((seen.map_or(now, |(first, _)| first), now));
            }
        };
        let proxy = Proxy::start(&registry.address, Duration::from_millis(delay), Arc::new(hear)).await;
        Self { proxy, tags, delay, kind, since: Instant::now() }
    }

    /// A row of the table.
    fn tell(&self, what: &str, ran: Result<f64, String>) {
        let place = (self.kind.name(), self.delay);
        tell(what, place, self.proxy.counted(), self.since.elapsed(), ran);
    }

    /// A row that says how long tags were on their way.
    fn tell_tags(&self, registry: &Registry) {
        let span = self.tags.lock().unwrap().map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let (name, delay) = (self.kind.name(), self.delay);
        let (what, peak) = ("  of that the tags; the registry", registry.peak());
        println!("{what:34} {name:16} {delay:>5} {:>9} {:>9} {span:>8.2} {peak:>9.0}", "", "");
    }
}

/// A row of the table: of what was done somewhere, with so much delay, by so many requests and bytes.
fn tell(
    what: &str,
    (place, delay): (&str, u64),
    (requests, bytes): (u64, u64),
    time: Duration,
    ran: Result<f64, String>,
) {
    let (seconds, sent) = (time.as_secs_f64(), bytes as f64 / 1e6);
    match ran {
        Ok(peak) => {
            println!("{what:34} {place:16} {delay:>5} {requests:>9} {sent:>9.2} {seconds:>8.2} {peak:>9.0}");
        }
        Err(why) => println!("{what}: {}", why.lines().last().unwrap_or_default()),
    }
}

/// Runs a program to its end; its peak memory in MiB, or what it said.
fn run(command: &mut Command) -> Result<f64, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut words = child.stderr.take().unwrap();
    let words = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut words, &mut text);
        text
    });
    let (status_file, mut peak) = (format!("/proc/{}/status", child.id()), 0.0_f64);
    let status = loop {
        if let Ok(status) = std::fs::read_to_string(&status_file) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
            peak = peak.max(kibibytes.unwrap_or_default() / 1024.0);
        }
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let words = words.join().unwrap();
    if status.success() { Ok(peak) } else { Err(words) }
}

/// The same without blocking the proxy.
async fn run_each(commands: Vec<Command>) -> Result<f64, String> {
    let ran = tokio::task::spawn_blocking(move || {
        let mut peak = 0.0_f64;
        for mut command in commands {
            peak = peak.max(run(&mut command)?);
        }
        Ok(peak)
    });
    ran.await.unwrap()
}

/// A peer, from the folder of `POLYARCH_TEST_CLIENTS` or the path.
fn peer(name: &str, folder: &Path) -> Command {
    let fetched = std::env::var_os("POLYARCH_TEST_CLIENTS").map(|place| Path::new(&place).join(name));
    let mut command = Command::new(fetched.filter(|file| file.exists()).unwrap_or(name.into()));
    command.env("HOME", folder).env("XDG_DATA_HOME", folder);
    command
}

/// A family that is built and published by the program.
struct Place(PathBuf);

impl Place {
    /// Images of a few bytes on two platforms.
    fn with(folder: &Path, name: &str, images: usize) -> Self {
        let place = Self(folder.join(name));
        for image in 0..images {
            let own = place.0.join(format!("family/image-{image}"));
            std::fs::create_dir_all(&own).unwrap();
            std::fs::write(own.join("Dockerfile"), "FROM scratch\nCOPY word /word\n").unwrap();
            std::fs::write(own.join("word"), format!("{image}\n")).unwrap();
        }
        place
    }

    /// Images of a few bytes that stand on one another, in the shape of docker-stacks.
    fn stacked(folder: &Path, name: &str) -> Self {
        let place = Self(folder.join(name));
        for (image, parent, _) in IMAGES {
            let own = place.0.join("family").join(image);
            std::fs::create_dir_all(&own).unwrap();
            let parent = parent.unwrap_or("scratch");
            let text = format!("FROM {parent}\nCOPY one /{image}/one\nCOPY two /{image}/two\n");
            std::fs::write(own.join("Dockerfile"), text).unwrap();
            for part in ["one", "two"] {
                std::fs::write(own.join(part), format!("{image} {part}\n")).unwrap();
            }
        }
        place
    }

    /// The program over a store at a registry, with a folder of this machine.
    fn over(&self, registry: &str, machine: &str, arguments: &[&str]) -> Command {
        let mut command = self.program(arguments);
        command.env("POLYARCH_STORE", format!("{registry}/cache"));
        command.env("POLYARCH_FOLDER", self.0.join(machine));
        command
    }

    fn configure(&self, tags: &[String]) {
        let text = format!(
            "name = \"bench\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nemulate = \"allow\"\n[tags]\ncommon = {tags:?}\n"
        );
        std::fs::write(self.0.join("family/polyarch.toml"), text).unwrap();
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_polyarch"));
        command
            .args(arguments)
            .current_dir(self.0.join("family"))
            .env("POLYARCH_STORE", self.0.join("store"))
            .env("POLYARCH_EPHEMERAL", "docker");
        if let Some(engine) = std::env::var_os("POLYARCH_TEST_CLASSIC").filter(|engine| !engine.is_empty()) {
            command.env("DOCKER_HOST", engine);
        }
        command
    }
}

fn tags(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// Two platforms that are there are joined under some tags.
async fn join(folder: &Path) {
    let place = Place::with(folder, "join", 1);
    place.configure(&tags("before-", 1));
    if let Err(why) = run_each(vec![place.program(&["build"])]).await {
        return println!("nothing is joined: no family could be built: {why}");
    }
    for delay in [0, 40] {
        for kind in KINDS {
            let Some(registry) = Registry::start(folder, kind) else { continue };
            place.configure(&tags("before-", 1));
            run_each(vec![place.program(&["publish", "--to", &registry.address])]).await.unwrap();
            place.configure(&tags("t", JOINED));
            let watched = Watched::start(&registry, kind, delay).await;
            let publish = place.program(&["publish", "--to", &watched.proxy.address]);
            watched.tell("join: polyarch, 7 + 14 tags", run_each(vec![publish]).await);
            for (name, commands) in joiners(folder) {
                let watched = Watched::start(&registry, kind, delay).await;
                let repository = format!("{}/bench/image-0", watched.proxy.address);
                let ran = run_each(commands(folder, &repository)).await;
                watched.tell(&format!("join: {name}, 20 tags"), ran);
            }
        }
    }
}

/// Makes the commands of a peer for a repository.
type Commands = fn(&Path, &str) -> Vec<Command>;

fn joiners(folder: &Path) -> Vec<(&'static str, Commands)> {
    let mut joiners: Vec<(&'static str, Commands)> = vec![("oras", by_oras), ("crane", by_crane)];
    let mut buildx = peer("docker", folder);
    match run(buildx.args(["buildx", "version"])) {
        Ok(_) => joiners.push(("buildx", by_buildx)),
        Err(_) => println!("join: buildx is not installed"),
    }
    joiners
}

const PARTS: [&str; 2] = ["amd64-before-0", "arm64-before-0"];

fn by_oras(folder: &Path, repository: &str) -> Vec<Command> {
    let mut oras = peer("oras", folder);
    oras.args(["manifest", "index", "create", "--plain-http"]);
    oras.arg(format!("{repository}:{}", tags("oras", TAGS).join(","))).args(PARTS);
    vec![oras]
}

fn by_crane(folder: &Path, repository: &str) -> Vec<Command> {
    let mut append = peer("crane", folder);
    append.args(["index", "append", "--insecure", "--tag", &format!("{repository}:crane0")]);
    append.args(PARTS.iter().flat_map(|part| ["--manifest".to_owned(), format!("{repository}:{part}")]));
    let tag = |tag: &String| {
        let mut command = peer("crane", folder);
        command.args(["tag", "--insecure", &format!("{repository}:crane0"), tag]);
        command
    };
    std::iter::once(append).chain(tags("crane", TAGS)[1..].iter().map(tag)).collect()
}

fn by_buildx(folder: &Path, repository: &str) -> Vec<Command> {
    let mut buildx = peer("docker", folder);
    buildx.args(["buildx", "imagetools", "create"]);
    for tag in tags("buildx", TAGS) {
        buildx.args(["--tag", &format!("{repository}:{tag}")]);
    }
    buildx.args(PARTS.map(|part| format!("{repository}:{part}")));
    vec![buildx]
}

/// A family of many tags whose content is there.
async fn many(folder: &Path) {
    let place = Place::with(folder, "many", MANY.0);
    place.configure(&tags("before-", 1));
    if let Err(why) = run_each(vec![place.program(&["build"])]).await {
        return println!("no family of many tags could be built: {why}");
    }
    for delay in [0, 40] {
        for kind in KINDS {
            let Some(registry) = Registry::start(folder, kind) else { continue };
            place.configure(&tags("before-", 1));
            run_each(vec![place.program(&["publish", "--to", &registry.address])]).await.unwrap();
            place.configure(&tags("t", MANY.1));
            for what in ["15 images, 330 + 165 tags", "the same again"] {
                let watched = Watched::start(&registry, kind, delay).await;
                let publish = place.program(&["publish", "--to", &watched.proxy.address]);
                watched.tell(what, run_each(vec![publish]).await);
                watched.tell_tags(&registry);
            }
        }
    }
}

/// 12 images of 2 platforms that a pull request has built: promoted within the registry of the store by a machine that
/// has nothing, and then built by another that finds nothing to do.
async fn signed(folder: &Path) {
    let place = Place::stacked(folder, "signed");
    place.configure(&tags("t", 1));
    let [key, public] = ["sign.key", "sign.pub"].map(|name| place.0.join(name).display().to_string());
    let mut make = Command::new("openssl");
    make.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
    let mut show = Command::new("openssl");
    show.args(["pkey", "-in", &key, "-pubout", "-out", &public]);
    if let Err(why) = run_each(vec![make, show]).await {
        return println!("nothing is signed: {why}");
    }
    for delay in [0, 40] {
        for kind in KINDS {
            let Some(registry) = Registry::start(folder, kind) else { continue };
            let sign = ["sign", "--scope", "pr-1", "--sign-key", &key];
            let made = [&["build", "--scope", "pr-1"][..], &sign]
                .map(|arguments| place.over(&registry.address, "first", arguments));
            if let Err(why) = run_each(made.into()).await {
                return println!("nothing is promoted: {why}");
            }
            let machine = |name: &str| format!("{name}-{}-{delay}", kind.name());
            let watched = Watched::start(&registry, kind, delay).await;
            let address = &watched.proxy.address;
            let promote = ["promote", "--from", "pr-1", "--trust-key", &public, "--to", address];
            let promote = place.over(address, &machine("promotes"), &promote);
            watched.tell("promote: 12 signed, 24 + 12 tags", run_each(vec![promote]).await);
            let watched = Watched::start(&registry, kind, delay).await;
            let idle = place.over(&watched.proxy.address, &machine("idle"), &["build"]);
            watched.tell("nothing to do, empty folder", run_each(vec![idle]).await);
        }
    }
}

/// 12 images of 2 platforms of which nothing has changed: built and pushed again, and by bake on an engine that has every
/// step in its cache.
async fn idle(folder: &Path) {
    let place = Place::stacked(folder, "idle");
    place.configure(&tags("t", 1));
    idle_over_a_folder(&place).await;
    for delay in [0, 40] {
        for kind in KINDS {
            let Some(registry) = Registry::start(folder, kind) else { continue };
            let machine = format!("{}-{delay}", kind.name());
            let build = |address: &str| place.over(address, &machine, &["build"]);
            if let Err(why) = run_each(vec![build(&registry.address)]).await {
                return println!("nothing is built: {why}");
            }
            let watched = Watched::start(&registry, kind, delay).await;
            watched.tell("nothing to do: polyarch", run_each(vec![build(&watched.proxy.address)]).await);
            let Some(first) = bake(&place, Some(&registry.address)) else {
                println!("bake: POLYARCH_TEST_CONTAINERD_BIN says of no engine");
                continue;
            };
            if let Err(why) = run_each(vec![first]).await {
                println!("nothing is baked: {why}");
                continue;
            }
            let watched = Watched::start(&registry, kind, delay).await;
            let again = bake(&place, Some(&watched.proxy.address)).into_iter().collect();
            watched.tell("nothing to do: bake", run_each(again).await);
        }
    }
}

/// The same over a store in a folder, and by bake that keeps what it has in its engine: built once, and then so often that the
/// middle of it says something.
async fn idle_over_a_folder(place: &Place) {
    const TIMES: usize = 9;
    let by_polyarch = || Some(place.program(&["build"]));
    let by_bake = || bake(place, None);
    let builders: [(&str, &dyn Fn() -> Option<Command>); 2] =
        [("polyarch", &by_polyarch), ("bake", &by_bake)];
    for (name, command) in builders {
        if let Err(why) = run_each(command().into_iter().collect()).await {
            println!("nothing is built by {name}: {why}");
            continue;
        }
        let mut took = Vec::new();
        for again in (0..TIMES).filter_map(|_| command()) {
            let since = Instant::now();
            let ran = run_each(vec![again]).await;
            took.push((since.elapsed(), ran));
        }
        took.sort_by_key(|(time, _)| *time);
        if let Some((time, ran)) = took.into_iter().nth(TIMES / 2) {
            tell(&format!("nothing to do: {name}"), ("folder", 0), (0, 0), time, ran);
        }
    }
}

/// The same family by bake, without attestations, on the test engine with the store of containerd: pushed to a registry, or
/// kept there.
fn bake(place: &Place, registry: Option<&str>) -> Option<Command> {
    let of_engine = |name: &str| std::env::var_os(format!("POLYARCH_TEST_CONTAINERD{name}"));
    let output = match registry {
        Some(_) => "type=image,push=true,registry.insecure=true",
        None => "type=image",
    };
    let prefix = registry.unwrap_or("localhost");
    let target = |(image, parent, _): &(&str, Option<&str>, usize)| {
        let parents = parent.map(|parent| format!("\"{parent}\": \"target:{parent}\""));
        let (context, parents) = (place.0.join("family").join(image), parents.unwrap_or_default());
        format!(
            "\"{image}\": {{\"context\": {context:?}, \"contexts\": {{{parents}}}, \
             \"platforms\": [\"linux/amd64\", \"linux/arm64\"], \
             \"tags\": [\"{prefix}/bake/{image}:t0\"], \"output\": [\"{output}\"]}}"
        )
    };
    let names: Vec<&str> = IMAGES.iter().map(|(image, ..)| *image).collect();
    let targets: Vec<String> = IMAGES.iter().map(target).collect();
    let text = format!(
        "{{\"group\": {{\"default\": {{\"targets\": {names:?}}}}}, \"target\": {{{}}}}}",
        targets.join(",")
    );
    let file = place.0.join("bake.json");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(Path::new(&of_engine("_BIN")?).join("docker"));
    command.env("DOCKER_HOST", of_engine("")?).env("DOCKER_CONFIG", of_engine("_CONFIG")?);
    command.args(["buildx", "bake", "--allow=fs.read=*", "--provenance=false", "--progress=plain", "--file"]);
    command.arg(file);
    Some(command)
}

/// The family that clients are compared with, promoted and copied.
async fn whole_family(folder: &Path) {
    let layout = Layout::open(folder.join("family")).unwrap();
    let scope: Repository = "family".parse().unwrap();
    let images = family::family(&layout, &scope).await;
    layout.flush().await.unwrap();
    for kind in KINDS {
        let Some(registry) = Registry::start(folder, kind) else { continue };
        bring(&layout, &scope, &images, &registry).await;
        for delay in [0, 40] {
            for mover in MOVERS {
                let watched = Watched::start(&registry, kind, delay).await;
                let (from, to) = (&watched.proxy.address, &watched.proxy.address);
                let into = format!("{}-{delay}", mover.name);
                let ran = run_each(mover.commands(folder, from, to, &into)).await;
                watched.tell(&format!("promote: {}", mover.name), ran);
            }
        }
        for mover in MOVERS {
            let Some(other) = Registry::start(folder, kind) else { continue };
            let watched = Watched::start(&other, kind, 0).await;
            let commands = mover.commands(folder, &registry.address, &watched.proxy.address, "copy");
            let ran = run_each(commands).await;
            watched.tell(&format!("copy: {}", mover.name), ran);
        }
    }
}

/// The images at a registry, each of both platforms under one tag.
async fn bring(layout: &Layout, scope: &Repository, images: &[family::Image], registry: &Registry) {
    let client = Client::new(&registry.address, ClientOptions::default()).unwrap();
    let origin = Origin { store: layout, repository: scope };
    for (name, _, _) in IMAGES {
        let repository: Repository = format!("family/{name}").parse().unwrap();
        let mut manifests = Vec::new();
        for platform in ["amd64", "arm64"] {
            let image = images.iter().find(|image| image.name == format!("{name}.{platform}")).unwrap();
            copy_image(&origin, &image.document, &client, &repository, None).await.unwrap();
            let mut entry = image.document.descriptor();
            entry.platform = Some(format!("linux/{platform}").parse().unwrap());
            manifests.push(entry);
        }
        let index = Document::of_index(&ImageIndex::new(manifests));
        client.write_document(&repository, &index, &["1".parse().unwrap()]).await.unwrap();
    }
}

/// What copies images between registries, one after the other.
struct Mover {
    name: &'static str,
    command: fn(&Path, &str, &str) -> Command,
}

const MOVERS: [Mover; 4] = [
    Mover {
        name: "polyarch",
        command: |folder, from, to| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_polyarch"));
            command.args(["mirror", from, to]).env("POLYARCH_STORE", folder.join("unused"));
            command
        },
    },
    Mover {
        name: "skopeo",
        command: |folder, from, to| {
            let mut command = peer("skopeo", folder);
            command.args(["--insecure-policy", "copy", "--quiet", "--all"]);
            command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
            command.args([from, to].map(|one| format!("docker://{one}")));
            command
        },
    },
    Mover {
        name: "crane",
        command: |folder, from, to| {
            let mut command = peer("crane", folder);
            command.args(["copy", "--insecure", from, to]);
            command
        },
    },
    Mover {
        name: "oras",
        command: |folder, from, to| {
            let mut command = peer("oras", folder);
            command.args(["cp", "--no-tty", "--from-plain-http", "--to-plain-http", from, to]);
            command
        },
    },
];

impl Mover {
    fn commands(&self, folder: &Path, from: &str, to: &str, into: &str) -> Vec<Command> {
        let each = IMAGES.iter().map(|(name, _, _)| {
            (self.command)(folder, &format!("{from}/family/{name}:1"), &format!("{to}/{into}/{name}:1"))
        });
        each.collect()
    }
}
