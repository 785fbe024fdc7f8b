//! What it takes to build for several platforms: natively against by emulation, and on a builder for each platform
//! against `docker buildx build --platform` with all platforms in one call (`make bench`).
//!
//! The engine is that of `POLYARCH_TEST_CONTAINERD`, the two builders are the hosts of `scripts/hosts`; what is not
//! there is left out, and that is said. `POLYARCH_BENCH_SMALL=1` leaves out the demo family. All share this one machine: with machines of their own, builders would be faster yet.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool of the project"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

/// How far each image counts while it is built: some seconds.
const COUNTS: u32 = 2_000_000;
/// The images after the root, and what each stands on.
const IMAGES: [(&str, &str); 4] = [("left", "root"), ("right", "root"), ("top", "left"), ("side", "root")];
/// So often each is done; the best counts.
const ROUNDS: usize = 2;

/// Whether it should be done in a minute or two: once, with less to count, and without the demo family.
fn is_small() -> bool {
    std::env::var_os("POLYARCH_BENCH_SMALL").is_some()
}

fn rounds() -> std::ops::Range<usize> {
    0..if is_small() { 1 } else { ROUNDS }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    println!("load before: {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
    println!("{:58} {:>8} {:>22}", "what", "seconds", "own ms a job, most");
    let Some(engine) = Engine::new() else {
        println!("POLYARCH_TEST_CONTAINERD names no engine, or scripts/busybox has not run");
        return;
    };
    if !is_small() {
        demo(folder.path(), &engine);
    }
    working(folder.path(), &engine);
}

/// The engine of the tests that keeps images in containerd.
struct Engine {
    host: String,
    path: String,
    config: Option<String>,
    busybox: PathBuf,
}

/// How long something took, and what of that for each job was our own: median and most.
#[derive(Clone, Copy)]
struct Taken {
    seconds: f64,
    own: Option<(u64, u64)>,
}

impl Engine {
    fn new() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = variable("PATH")?;
        let busybox = PathBuf::from(variable("POLYARCH_TEST_BUSYBOX")?);
        busybox.join("busybox-linux-arm64").exists().then_some(())?;
        Some(Self {
            host: variable("POLYARCH_TEST_CONTAINERD")?,
            path: variable("POLYARCH_TEST_CONTAINERD_BIN")
                .map_or(path.clone(), |bin| format!("{bin}:{path}")),
            config: variable("POLYARCH_TEST_CONTAINERD_CONFIG"),
            busybox,
        })
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, path: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", &self.host).env("PATH", path).stdin(Stdio::null());
        if let Some(config) = &self.config {
            command.env("DOCKER_CONFIG", config);
        }
        command
    }

    /// Build a family from the beginning.
    fn polyarch(&self, family: &Path, path: &str, arguments: &[&str]) -> Taken {
        let rounds = rounds().map(|_| {
            let store = tempfile::tempdir_in(family.parent().unwrap()).unwrap();
            let mut command = self.command(env!("CARGO_BIN_EXE_polyarch"), path);
            command
                .args(["build", "--no-cache", "--store"])
                .arg(store.path())
                .args(arguments)
                .current_dir(family);
            let begun = Instant::now();
            let output = command.output().unwrap();
            let seconds = begun.elapsed().as_secs_f64();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Taken { seconds, own: own(store.path()) }
        });
        rounds.min_by(|one, other| one.seconds.total_cmp(&other.seconds)).unwrap()
    }

    /// Build each image by one call for all platforms, parents first, and push it, as one does without polyarch.
    fn buildx(&self, family: &Path, registry: &str, platforms: &str) -> Taken {
        let order = std::iter::once("root").chain(IMAGES.iter().map(|(image, _)| *image));
        let begun = Instant::now();
        for image in order {
            let mut command = self.command("docker", &self.path);
            command.args([
                "buildx",
                "build",
                "--builder",
                "default",
                "--no-cache",
                "--provenance=false",
                "--push",
            ]);
            command.args([
                "--quiet",
                "--platform",
                platforms,
                "--tag",
                &format!("{registry}/{image}:latest"),
            ]);
            let parent = IMAGES.iter().find(|(name, _)| *name == image).map(|(_, parent)| parent);
            if let Some(parent) = parent {
                let context = format!("{parent}=docker-image://{registry}/{parent}:latest");
                command.args(["--build-context", &context]);
            }
            let output = command.arg(family.join(image)).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Taken { seconds: begun.elapsed().as_secs_f64(), own: None }
    }
}

/// What the only run of a store says of the time of its jobs beside engines and tests.
fn own(store: &Path) -> Option<(u64, u64)> {
    let runs = walk(store).into_iter().find(|file| file.ends_with("report.json"))?;
    let report: Value = serde_json::from_slice(&std::fs::read(runs).unwrap()).unwrap();
    let number = |job: &Value, field: &str| job[field].as_u64().unwrap_or_default();
    let jobs = report["jobs"].as_object()?.values();
    let mut own: Vec<u64> = { jobs }
        .filter(|job| number(job, "engine_milliseconds") > 0)
        .map(|job| number(job, "milliseconds").saturating_sub(number(job, "engine_milliseconds")))
        .collect();
    own.sort_unstable();
    Some((*own.get(own.len() / 2)?, *own.last()?))
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(walk(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

fn told(what: &str, taken: Taken) -> Taken {
    let own = taken.own.map_or_else(String::new, |(median, most)| format!("{median}, {most}"));
    println!("{what:58} {:8.1} {own:>22}", taken.seconds);
    taken
}

fn ratio(what: &str, one: Taken, other: Taken) {
    println!("{what:58} {:7.1}×", one.seconds / other.seconds);
}

/// A registry on loopback that anyone may write; gone with this value.
struct Registry {
    address: String,
    process: Child,
}

impl Registry {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_polyarch"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--anonymous-writes", "--store"]);
        command.arg(folder.join("registry")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { address: address.trim().to_owned(), process }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The family of `make demo`, whose steps do next to nothing.
fn demo(folder: &Path, engine: &Engine) {
    let family = folder.join("demo");
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copied = Command::new("cp").arg("-r").arg(top.join("examples/tiny-stacks")).arg(&family).status();
    assert!(copied.unwrap().success());
    let rootfs = Command::new(top.join("scripts/busybox"))
        .arg("rootfs")
        .arg(family.join("foundation/rootfs"))
        .status();
    assert!(rootfs.unwrap().success());
    let build = |platforms: &[&str]| {
        let platforms: Vec<&str> = platforms.iter().flat_map(|platform| ["--platform", platform]).collect();
        engine.polyarch(&family, &engine.path, &[&platforms[..], &["--emulate=allow"]].concat())
    };
    told("demo family, linux/amd64 and linux/386, native", build(&["linux/amd64", "linux/386"]));
    let native = told("demo family, linux/386, native", build(&["linux/386"]));
    let emulated = told("demo family, linux/arm64, emulated", build(&["linux/arm64"]));
    ratio("  emulated to native", emulated, native);
}

/// A family whose steps take time.
fn working(folder: &Path, engine: &Engine) {
    let family = folder.join("working");
    let mut texts = BTreeMap::from([(
        "root".to_owned(),
        "FROM scratch\nARG TARGETARCH\nCOPY busybox-linux-$TARGETARCH /bin/busybox\n\
         RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nENV PATH=/bin\n"
            .to_owned(),
    )]);
    let counts = if is_small() { COUNTS / 5 } else { COUNTS };
    for (image, parent) in IMAGES {
        let work = format!("i=0; while [ $i -lt {counts} ]; do i=$((i+1)); done; echo $i > /{image}");
        texts.insert(image.to_owned(), format!("FROM {parent}\nRUN {work}\n"));
    }
    for (image, text) in texts {
        std::fs::create_dir_all(family.join(&image)).unwrap();
        std::fs::write(family.join(image).join("Dockerfile"), text).unwrap();
    }
    for architecture in ["amd64", "386", "arm64"] {
        let name = format!("busybox-linux-{architecture}");
        std::fs::copy(engine.busybox.join(&name), family.join("root").join(&name)).unwrap();
    }
    let configure = |platforms: &[&str]| {
        let listed =
            platforms.iter().map(|platform| format!("\"{platform}\"")).collect::<Vec<_>>().join(", ");
        std::fs::write(
            family.join("polyarch.toml"),
            format!("platforms = [{listed}]\nemulate = \"allow\"\n"),
        )
        .unwrap();
    };
    configure(&["linux/386"]);
    let native = told("family that counts, linux/386, native", engine.polyarch(&family, &engine.path, &[]));
    configure(&["linux/arm64"]);
    let emulated =
        told("family that counts, linux/arm64, emulated", engine.polyarch(&family, &engine.path, &[]));
    ratio("  emulated to native", emulated, native);

    let registry = Registry::start(folder);
    let best = |platforms: &str| {
        let rounds = rounds().map(|_| engine.buildx(&family, &registry.address, platforms));
        rounds.min_by(|one, other| one.seconds.total_cmp(&other.seconds)).unwrap()
    };
    let one_call = told("buildx, amd64 and 386 in one call an image", best("linux/amd64,linux/386"));
    let emulating =
        told("buildx, amd64 and emulated arm64 in one call an image", best("linux/amd64,linux/arm64"));
    let Ok(hosts) = std::env::var("POLYARCH_TEST_HOSTS") else {
        println!("POLYARCH_TEST_HOSTS names no hosts: two builders are left out");
        return;
    };
    configure(&["linux/amd64", "linux/386"]);
    let path = format!("{hosts}/bin:{}", engine.path);
    let builders = ["--builder", "west=ssh://west", "--builder", "east=ssh://east", "--slots", "1"];
    let two = told("polyarch, amd64 and 386 on two builders", engine.polyarch(&family, &path, &builders));
    ratio("  one call to two builders", one_call, two);
    ratio("  one call that emulates to two native builders", emulating, two);
    println!("load after: {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
}
