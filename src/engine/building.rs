//! What every build has: its files, arguments and log, whichever engine carries it out.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::failure::surroundings;
use super::process::{Ended, Program};
use super::{BuildFailure, BuildOrder, Progress, Redactor};
use crate::diag::Diagnostic;
use crate::oci::Platform;

/// How much of a build's output its log file keeps.
const LOG_BYTES: usize = 256 << 20;

/// How much of a file is read to know a secret's value; BuildKit mounts no larger one.
const SECRET_BYTES: u64 = 500 << 10;

/// Variables that mean something to the client or to what runs it: arguments of these names go by the command line.
const CLIENT_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "DOCKER_",
    "BUILDKIT_",
    "BUILDX_",
    "BUILDAH_",
    "CONTAINERS_",
    "STORAGE_",
    "REGISTRY_AUTH_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "LD_",
    "GO",
    "SSH_",
    "SSL_",
    "OTEL_",
    "COMPOSE_",
    "XDG_",
    "SOURCE_DATE_EPOCH",
];

/// For an exporter of BuildKit: one before v0.12 writes into the image's configuration where it has read other images, which
/// is an address of the run. Newer ones know nothing of it.
pub(super) const NO_BUILD_INFO: &str = "buildinfo=false";

/// The files that a build is given beside its context.
pub(super) struct Files {
    /// The Dockerfile; the ignore file that counts stands beside it, as `Dockerfile.dockerignore`.
    pub(super) dockerfile: PathBuf,
    /// The values of the secrets, so that they can be hidden.
    pub(super) secrets: Vec<Vec<u8>>,
}

impl Files {
    /// Write them into the folder of the build; those of a try before are replaced.
    ///
    /// # Errors
    /// Where they cannot be written, or a secret cannot be read.
    pub(super) fn write(order: &BuildOrder) -> Result<Self, Diagnostic> {
        let dockerfile = order.scratch.join("Dockerfile");
        write_new(&dockerfile, order.dockerfile.as_bytes())?;
        let ignore = order.scratch.join("Dockerfile.dockerignore");
        match &order.ignore {
            Some(text) => write_new(&ignore, text.as_bytes())?,
            None => drop(std::fs::remove_file(&ignore)),
        }
        let secrets =
            order.secrets.iter().map(|secret| read_secret(&secret.file)).collect::<Result<_, _>>()?;
        Ok(Self { dockerfile, secrets })
    }
}

/// Run a build, write its log, and tell the steps that its lines begin.
///
/// # Errors
/// Where it cannot be started, or its log cannot be written.
pub(super) async fn follow(
    program: Program,
    order: &BuildOrder,
    redactor: &Redactor,
    mut step_of: impl FnMut(&str) -> Option<String> + Send,
    progress: &Progress<'_>,
) -> Result<Ended, BuildFailure> {
    let mut log = BoundedLog::open(&order.log, LOG_BYTES).map_err(surroundings)?;
    let hear = |_, line: &str| {
        log.line(line);
        if let Some(step) = step_of(line) {
            progress(step);
        }
    };
    program.lines(redactor, hear).await.map_err(surroundings)
}

/// The log file of a build, which keeps so much of its output and no more.
struct BoundedLog {
    file: File,
    room: usize,
}

impl BoundedLog {
    fn open(path: &Path, room: usize) -> Result<Self, Diagnostic> {
        let opened = File::options().create(true).append(true).open(path);
        let file = opened.map_err(|error| {
            Diagnostic::surroundings(format!("open the log {}", path.display())).because(error)
        })?;
        Ok(Self { file, room })
    }

    fn line(&mut self, line: &str) {
        if self.room > line.len() {
            self.room -= line.len() + 1;
            // A full disk must not end a build that may succeed: its message still has the last lines.
            let _ = writeln!(self.file, "{line}");
        }
    }
}

/// A line of our own in the log.
pub(super) fn note(order: &BuildOrder, redactor: &Redactor, line: &str) {
    let line = redactor.text(&format!("polyarch: {line}\n"));
    let file = File::options().append(true).open(&order.log);
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

/// See that an engine has built for the platform that it was asked for.
///
/// # Errors
/// Where it has not.
pub(super) fn check_platform(order: &BuildOrder, engine: &str, found: &Platform) -> Result<(), BuildFailure> {
    let asked = &order.platform;
    if is_meant(asked, found) {
        return Ok(());
    }
    let problem = Diagnostic::surroundings(format!("{engine} returned {found} for {asked}"))
        .because(format!("building {}", order.title))
        .hint(format!("see that every base in the Dockerfile has an image for {asked}"))
        .hint("see what the engine can do and run: polyarch doctor");
    Err(BuildFailure::Step { problem })
}

/// Whether what was found is what was asked for.
pub(super) fn is_meant(asked: &Platform, found: &Platform) -> bool {
    // Many images do not say their variant; where both do, it counts.
    let variants = asked.variant().zip(found.variant()).is_none_or(|(asked, found)| asked == found);
    (asked.os(), asked.architecture()) == (found.os(), found.architecture()) && variants
}

/// The build arguments, and those that tell a Dockerfile about the machine that builds it: always the platform
/// of the job, so that one key means the same on every builder.
pub(super) fn arguments(order: &BuildOrder) -> impl Iterator<Item = (String, String)> {
    let platform = &order.platform;
    let own = [
        ("BUILDPLATFORM", platform.to_string()),
        ("BUILDOS", platform.os().to_owned()),
        ("BUILDARCH", platform.architecture().to_owned()),
        ("BUILDVARIANT", platform.variant().unwrap_or_default().to_owned()),
    ];
    let mut all: std::collections::BTreeMap<_, _> =
        own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    all.extend(order.args.clone());
    all.into_iter()
}

/// Whether a variable of that name means something to a client.
pub(super) fn is_clients(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    CLIENT_VARIABLES.iter().any(|own| match own.ends_with('_') || *own == "GO" {
        true => name.starts_with(own),
        false => name == *own,
    })
}

/// A field of a comma-separated value, quoted where it must be.
pub(super) fn csv_field(key: &str, value: &Path) -> OsString {
    let mut field = OsString::from(key);
    field.push(value);
    match field.to_str() {
        Some(text) if text.contains([',', '"']) => format!("\"{}\"", text.replace('"', "\"\"")).into(),
        _ => field,
    }
}

/// Write a file of a build; one of a try before is replaced.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn write_new(file: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    std::fs::write(file, bytes).map_err(|error| {
        Diagnostic::surroundings(format!("write {}", file.display()))
            .because(error)
            .hint("free some disk space, or point TMPDIR at a folder that can be written")
    })
}

fn read_secret(file: &Path) -> Result<Vec<u8>, Diagnostic> {
    use std::io::Read;
    let mut value = Vec::new();
    File::open(file)
        .and_then(|open| open.take(SECRET_BYTES).read_to_end(&mut value))
        .map_err(|error| Diagnostic::request(format!("read the secret {}", file.display())).because(error))?;
    Ok(value)
}

/// What an engine says of an image, as far as it matters here: `os`, `architecture` and `variant`, in either case.
#[derive(Deserialize)]
pub(super) struct BuiltImage {
    #[serde(default, alias = "Os")]
    os: String,
    #[serde(default, alias = "Architecture")]
    architecture: String,
    #[serde(default, alias = "Variant")]
    variant: Option<String>,
}

impl BuiltImage {
    /// Its platform.
    pub(super) fn platform(&self) -> Platform {
        Platform::from_fields(
            &self.os,
            &self.architecture,
            self.variant.as_deref().filter(|text| !text.is_empty()),
        )
    }
}

/// An order of nothing in particular.
#[cfg(test)]
pub(super) fn order_for_tests() -> BuildOrder {
    let folder = PathBuf::from("/nowhere");
    BuildOrder {
        title: "a@linux/amd64".to_owned(),
        platform: Platform::from_fields("linux", "amd64", None),
        context: folder.clone(),
        dockerfile: String::new(),
        images: Default::default(),
        ignore: None,
        target: None,
        args: std::collections::BTreeMap::new(),
        labels: std::collections::BTreeMap::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
        no_cache: false,
        caches: Default::default(),
        cache: crate::engine::CacheOrder::default(),
        store: super::StoreAddress {
            registry: "127.0.0.1:1".to_owned(),
            repository: "scopes/trusted".parse().expect("a repository"),
            user: String::new(),
            password: crate::oci::Secret::new(String::new()),
        },
        tag: "build".parse().expect("a tag"),
        log: folder.clone(),
        scratch: folder,
        time_limit: std::time::Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_the_client_would_take_for_itself_do_not_reach_its_environment() {
        for name in ["PATH", "DOCKER_HOST", "http_proxy", "HTTPS_PROXY", "LD_PRELOAD", "GODEBUG"] {
            assert!(is_clients(name), "{name}");
        }
        for name in ["REGISTRY", "PYTHON_VERSION", "OWNER", "BUILDPLATFORM"] {
            assert!(!is_clients(name), "{name}");
        }
    }

    #[test]
    fn a_build_that_prints_without_end_fills_no_disk_with_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, room) = (folder.path().join("a.log"), 1_000);
        let mut log = BoundedLog::open(&path, room).expect("a log");
        let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}")).collect();
        lines.iter().for_each(|line| log.line(line));
        let text = std::fs::read_to_string(&path).expect("text");
        assert!((room - 10..=room).contains(&text.len()), "{} bytes", text.len());
        assert!(text.lines().eq(lines.iter().take(text.lines().count())), "the first lines, in order");
        // Another try goes on in the same file.
        BoundedLog::open(&path, room).expect("a log").line("again");
        assert!(std::fs::read_to_string(&path).expect("text").ends_with("\nagain\n"));
    }

    #[test]
    fn f_g4_an_engine_that_returns_another_platform_is_to_blame_for_it() {
        let order = order_for_tests();
        let found = |text: &str| text.parse::<Platform>().expect("a platform");
        assert!(check_platform(&order, "docker", &found("linux/amd64")).is_ok());
        let failure = check_platform(&order, "docker", &found("linux/arm64")).expect_err("another");
        let BuildFailure::Step { problem } = failure else { panic!("it would be the same again") };
        assert_eq!(problem.message, "docker returned linux/arm64 for linux/amd64");
        assert_eq!(problem.kind.exit_code(), 3, "as where it is found out in the store");
    }

    #[test]
    fn a_file_name_with_a_comma_stays_one_field() {
        assert_eq!(csv_field("src=", Path::new("/a/b")), "src=/a/b");
        assert_eq!(csv_field("src=", Path::new("/a,\"b")), "\"src=/a,\"\"b\"");
    }
}
