//! What it costs to hand images from job to job: 12 images of one platform in the shape of docker-stacks, each written
//! into a file by the job that built it and taken in by another machine; by the program as users have it, and as it is done
//! today, by `docker save`, zstd and `docker load` (`make bench`).
//!
//! The images are built first, by the engine of `POLYARCH_TEST_CLASSIC` or the usual one; the peer loads them into that of
//! `POLYARCH_TEST_CONTAINERD`, where there is one. Bytes do not depend on the machine; seconds do.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool of the project"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

mod noise;
#[path = "../tests/all/client/shape.rs"]
mod shape;

use noise::Noise;
use shape::IMAGES;

const PLATFORM: &str = "linux/amd64";

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place(folder.path().to_owned());
    place.write_family();
    if let Err(why) = run(place.program("store").args(["build", "--quiet"])) {
        return println!("nothing is handed on: no family could be built: {why}");
    }
    println!("{:34} {:>9} {:>8} {:>8}", "what", "MB", "seconds", "commands");
    by_polyarch(&place);
    by_archives(&place);
}

/// A family of Dockerfiles, and the stores of two machines.
struct Place(PathBuf);

impl Place {
    fn write_family(&self) {
        let mut noise = Noise::new();
        for (name, parent, mebibytes) in IMAGES {
            let image = self.0.join("family").join(name);
            std::fs::create_dir_all(&image).unwrap();
            for part in ["one", "two"] {
                let mut bytes = Vec::new();
                noise.fill(&mut bytes, mebibytes << 19);
                std::fs::write(image.join(part), bytes).unwrap();
            }
            let parent = parent.unwrap_or("scratch");
            let text = format!("FROM {parent}\nCOPY one /{name}/one\nCOPY two /{name}/two\n");
            std::fs::write(image.join("Dockerfile"), text).unwrap();
        }
        let text = format!("name = \"bench\"\nplatforms = [\"{PLATFORM}\"]\n");
        std::fs::write(self.0.join("family/polyarch.toml"), text).unwrap();
    }

    fn program(&self, store: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_polyarch"));
        command.current_dir(self.0.join("family")).env("POLYARCH_STORE", self.0.join(store));
        with_engine(&mut command, "POLYARCH_TEST_CLASSIC");
        command
    }
}

/// The engine that a variable of the tests names; the usual one where it is not set.
fn with_engine(command: &mut Command, variable: &str) {
    if let Some(engine) = std::env::var_os(variable).filter(|engine| !engine.is_empty()) {
        command.env("DOCKER_HOST", engine);
    }
}

/// What a program printed, or what it said where it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let done = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

fn tell(what: &str, bytes: u64, since: Instant, commands: usize) {
    println!("{what:34} {:>9.1} {:>8.2} {commands:>8}", bytes as f64 / 1e6, since.elapsed().as_secs_f64());
}

/// Every job writes what it has added, and the other machine takes it in.
fn by_polyarch(place: &Place) {
    let out = place.0.join("out");
    let since = Instant::now();
    for (name, _, _) in IMAGES {
        let mut export = place.program("store");
        run(export.args(["export", "--delta", name, "--to"]).arg(&out)).unwrap();
    }
    let bytes = std::fs::read_dir(&out).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    tell("polyarch: write", bytes, since, IMAGES.len());
    let taking = Instant::now();
    for (name, _, _) in IMAGES {
        let file = out.join(format!("{name}-amd64-default.tar"));
        run(place.program("elsewhere").arg("import").arg(file)).unwrap();
    }
    tell("polyarch: take in", bytes, taking, IMAGES.len());
    tell("polyarch: in all", bytes, since, 2 * IMAGES.len());
    std::fs::remove_dir_all(out).unwrap();
}

/// As docker-stacks does it: `docker save`, `zstd`, `docker load`.
fn by_archives(place: &Place) {
    let names: Result<Vec<String>, String> = IMAGES
        .iter()
        .map(|(name, _, _)| run(place.program("store").args(["load", &format!("{name}@{PLATFORM}")])))
        .collect();
    let names: Vec<String> = match names {
        Ok(names) => names.iter().map(|name| name.trim().to_owned()).collect(),
        Err(why) => return println!("save, zstd, load: {}", why.lines().last().unwrap_or_default()),
    };
    let saved = |name: &str| place.0.join(format!("{}.tar.zst", name.replace(['/', ':'], "-")));
    let (since, mut bytes) = (Instant::now(), 0);
    for name in &names {
        let file = saved(name);
        shell(r#"docker save "$1" | zstd -q -o "$2""#, "POLYARCH_TEST_CLASSIC", name, &file);
        bytes += std::fs::metadata(&file).unwrap().len();
    }
    tell("docker save | zstd", bytes, since, 2 * names.len());
    let loading = Instant::now();
    for name in &names {
        shell(
            r#"zstd -q -d --stdout --rm "$2" | docker load -q"#,
            "POLYARCH_TEST_CONTAINERD",
            name,
            &saved(name),
        );
    }
    tell("zstd -d | docker load", bytes, loading, 2 * names.len());
    tell("save, zstd, load: in all", bytes, since, 4 * names.len());
    for engine in ["POLYARCH_TEST_CLASSIC", "POLYARCH_TEST_CONTAINERD"] {
        let mut remove = Command::new("docker");
        with_engine(&mut remove, engine);
        // One engine may be both.
        let _ = run(remove.args(["rmi", "--force"]).args(&names));
    }
}

fn shell(script: &str, engine: &str, name: &str, file: &Path) {
    let mut command = Command::new("bash");
    with_engine(&mut command, engine);
    run(command.args(["-o", "pipefail", "-c", script, "bash", name]).arg(file)).unwrap();
}
