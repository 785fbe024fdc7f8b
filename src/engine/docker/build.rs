//! Build one image and push it to the store.
//!
//! With the classic image store the image gets a name, is pushed by the engine and loses the name again. With the
//! containerd image store BuildKit pushes what it has built, and the engine keeps nothing of it but its cache.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::failure::{self, surroundings};
use super::output::BuildLog;
use super::{ANSWER_BYTES, Docker};
use crate::diag::{Diagnostic, Kind};
use crate::engine::process::{Ended, Program};
use crate::engine::{BuildFailure, BuildOrder, Built, Engine as _, ImageStore, Progress, Redactor};
use crate::oci::{Digest, MediaType, Platform};

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

/// Build an order's image and push it.
pub(super) async fn build(
    docker: &Docker,
    order: &BuildOrder,
    progress: &Progress<'_>,
) -> Result<Built, BuildFailure> {
    let facts = docker.facts().await.map_err(surroundings)?;
    let call = Call::prepare(docker, order).await.map_err(surroundings)?;
    match facts.image_store {
        ImageStore::Containerd => with_containerd(&call, progress).await,
        ImageStore::Classic => with_classic(&call, progress).await,
    }
}

/// One build under way.
struct Call<'o> {
    docker: &'o Docker,
    order: &'o BuildOrder,
    client: &'o Path,
    config: PathBuf,
    dockerfile: PathBuf,
    redactor: Redactor,
    deadline: Instant,
    /// The name that the result is pushed by.
    name: String,
}

async fn with_containerd(call: &Call<'_>, progress: &Progress<'_>) -> Result<Built, BuildFailure> {
    let metadata = call.order.scratch.join("metadata.json");
    // A build that was tried before may have left one.
    let _ = std::fs::remove_file(&metadata);
    let output = format!("type=image,name={},push=true,oci-mediatypes=true,store=false", call.name);
    let program = call
        .program(["buildx", "build", "--builder", "default", "--provenance=false", "--sbom=false"])
        .arguments(["--output", &output, "--metadata-file"])
        .argument(&metadata);
    call.watch(program, progress).await?;
    let text = std::fs::read(&metadata).unwrap_or_default();
    let pushed: Pushed = serde_json::from_slice(&text).map_err(|error| call.missing(error))?;
    if let Some(descriptor) = pushed.descriptor {
        if MediaType::is_index(&descriptor.media_type) {
            return Err(call.missing("it pushed an index where one image was asked for"));
        }
        if let Some(platform) = descriptor.platform {
            call.check_platform(&platform)?;
        }
    }
    Ok(Built { config: pushed.config })
}

async fn with_classic(call: &Call<'_>, progress: &Progress<'_>) -> Result<Built, BuildFailure> {
    let id_file = call.order.scratch.join("image-id");
    let _ = std::fs::remove_file(&id_file);
    let program = call.program(["build", "--tag", &call.name]).argument("--iidfile").argument(&id_file);
    call.watch(program, progress).await?;
    let built = call.inspect_and_push(&id_file).await;
    // By its name: the layers stay in the engine's cache, and other builds' names stay theirs.
    let removed = call.ask(&["image", "rm", &call.name]).await;
    let built = built?;
    if let Err(problem) = removed {
        call.note(&format!("the name {} stays in the engine: {problem}", call.name));
    }
    Ok(built)
}

impl<'o> Call<'o> {
    async fn prepare(docker: &'o Docker, order: &'o BuildOrder) -> Result<Self, Diagnostic> {
        let deadline = Instant::now() + order.time_limit;
        let dockerfile = order.scratch.join("Dockerfile");
        write_new(&dockerfile, order.dockerfile.as_bytes())?;
        let ignore = order.scratch.join("Dockerfile.dockerignore");
        match &order.ignore {
            Some(text) => write_new(&ignore, text.as_bytes())?,
            None => drop(std::fs::remove_file(&ignore)),
        }
        let secrets =
            order.secrets.iter().map(|secret| read_secret(&secret.file)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            docker,
            order,
            client: &docker.client().await?.path,
            config: docker.config(Some(&order.store)).await?,
            dockerfile,
            redactor: super::redactor(&order.store, secrets),
            deadline,
            name: format!("{}/{}:{}", order.store.registry, order.store.repository, order.tag),
        })
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The call of the client up to what differs between the image stores, and after it the same for both.
    fn program<const N: usize>(&self, first: [&str; N]) -> Program {
        let order = self.order;
        let mut program = self
            .docker
            .program(self.client, &self.config, self.time_left())
            .arguments(first)
            .arguments(["--progress", "plain", "--platform", &order.platform.to_string(), "--file"])
            .argument(&self.dockerfile);
        if let Some(target) = &order.target {
            program = program.arguments(["--target", target]);
        }
        for (name, value) in arguments(order) {
            // A value in the environment is not seen in the list of processes.
            program = match is_clients(&name) {
                true => program.arguments(["--build-arg", &format!("{name}={value}")]),
                false => program.arguments(["--build-arg", &name]).variable(&name, &value),
            };
        }
        for (name, value) in &order.labels {
            program = program.arguments(["--label", &format!("{name}={value}")]);
        }
        for secret in &order.secrets {
            let file = csv_field("src=", &secret.file);
            let mut value = OsString::from(format!("id={},", secret.id));
            value.push(file);
            program = program.argument("--secret").argument(value);
        }
        for agent in &order.ssh {
            program = program.arguments(["--ssh", agent]);
        }
        if order.no_cache {
            program = program.argument("--no-cache");
        }
        program
    }

    /// Run the build, write its log, tell its steps, and say why it failed.
    async fn watch(&self, program: Program, progress: &Progress<'_>) -> Result<(), BuildFailure> {
        let mut file = File::options().create(true).append(true).open(&self.order.log).map_err(|error| {
            surroundings(
                Diagnostic::surroundings(format!("open the log {}", self.order.log.display())).because(error),
            )
        })?;
        let mut log = BuildLog::default();
        let mut room = LOG_BYTES;
        let ended = program
            .argument(&self.order.context)
            .lines(&self.redactor, |_, line| {
                if room > line.len() {
                    room -= line.len() + 1;
                    // A full disk must not end a build that may succeed: its message still has the last lines.
                    let _ = writeln!(file, "{line}");
                }
                if let Some(step) = log.line(line) {
                    progress(step);
                }
            })
            .await
            .map_err(surroundings)?;
        if ended.success() {
            return Ok(());
        }
        Err(self.failed(&log, ended))
    }

    fn failed(&self, log: &BuildLog, ended: Ended) -> BuildFailure {
        let failure = failure::of_build(self.docker, self.order, log, ended);
        let (BuildFailure::Step { problem } | BuildFailure::Passing { problem }) = &failure;
        self.note(&problem.to_string());
        failure
    }

    /// Look at the image that the engine says it has built, push it, and answer with its configuration.
    async fn inspect_and_push(&self, id_file: &Path) -> Result<Built, BuildFailure> {
        let id = std::fs::read_to_string(id_file).unwrap_or_default();
        let config: Digest = id.trim().parse().map_err(|error| self.missing(error))?;
        let text = self.ask(&["image", "inspect", "--format", "{{json .}}", id.trim()]).await;
        let text = text.map_err(|problem| self.missing(problem))?;
        let image: Image = serde_json::from_str(&text).map_err(|error| self.missing(error))?;
        self.check_platform(&Platform::from_fields(
            &image.os,
            &image.architecture,
            image.variant.as_deref(),
        ))?;
        let pushed = self
            .docker
            .program(self.client, &self.config, self.time_left())
            .arguments(["push", &self.name])
            .capture(ANSWER_BYTES)
            .await
            .map_err(surroundings)?;
        if pushed.ended.success() {
            return Ok(Built { config });
        }
        if pushed.ended.timed_out {
            return Err(failure::too_long(self.order));
        }
        let problem = self.docker.refused(format!("push {}", self.name), &pushed);
        Err(failure::by_words(problem, &self.redactor.text(&pushed.complaint())))
    }

    async fn ask(&self, arguments: &[&str]) -> Result<String, Diagnostic> {
        let output = self.docker.ask(arguments).await?;
        match output.ended.success() {
            true => Ok(output.text()),
            false => Err(self.docker.refused(format!("ask for `docker {}`", arguments.join(" ")), &output)),
        }
    }

    fn check_platform(&self, found: &Platform) -> Result<(), BuildFailure> {
        let asked = &self.order.platform;
        // Many images do not say their variant; where both do, it counts.
        let variants = asked.variant().zip(found.variant()).is_none_or(|(asked, found)| asked == found);
        if (asked.os(), asked.architecture()) == (found.os(), found.architecture()) && variants {
            return Ok(());
        }
        let problem =
            Diagnostic::new(Kind::Failed, format!("{} returned {found} for {asked}", self.docker.name()))
                .because(format!("building {}", self.order.title))
                .hint(format!("see that every base in the Dockerfile has an image for {asked}"));
        Err(BuildFailure::Step { problem })
    }

    /// The engine said that it has built, and the image is not there.
    fn missing(&self, why: impl std::fmt::Display) -> BuildFailure {
        let message = format!("{} built {} but returned no image", self.docker.name(), self.order.title);
        let problem =
            Diagnostic::surroundings(message).because(why).hint("look at the engine: polyarch doctor");
        BuildFailure::Step { problem }
    }

    /// A line of our own in the log.
    fn note(&self, line: &str) {
        let line = self.redactor.text(&format!("polyarch: {line}\n"));
        let file = File::options().append(true).open(&self.order.log);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// The build arguments, and those that tell a Dockerfile about the machine that builds it: always the platform
/// of the job, so that one key means the same on every builder.
fn arguments(order: &BuildOrder) -> impl Iterator<Item = (String, String)> {
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

fn is_clients(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    CLIENT_VARIABLES.iter().any(|own| match own.ends_with('_') || *own == "GO" {
        true => name.starts_with(own),
        false => name == *own,
    })
}

/// A field of a comma-separated value, quoted where it must be.
fn csv_field(key: &str, value: &Path) -> OsString {
    let mut field = OsString::from(key);
    field.push(value);
    match field.to_str() {
        Some(text) if text.contains([',', '"']) => format!("\"{}\"", text.replace('"', "\"\"")).into(),
        _ => field,
    }
}

fn write_new(file: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
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

/// What `--metadata-file` holds of a pushed image.
#[derive(Deserialize)]
struct Pushed {
    #[serde(rename = "containerimage.config.digest")]
    config: Digest,
    #[serde(rename = "containerimage.descriptor")]
    descriptor: Option<crate::oci::Descriptor>,
}

/// What `docker image inspect` says, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
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
    fn a_file_name_with_a_comma_stays_one_field() {
        assert_eq!(csv_field("src=", Path::new("/a/b")), "src=/a/b");
        assert_eq!(csv_field("src=", Path::new("/a,\"b")), "\"src=/a,\"\"b\"");
    }
}
