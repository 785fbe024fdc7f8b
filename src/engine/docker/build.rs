//! Build one image and push it to the store.
//!
//! With the classic image store the image gets a name, is pushed by the engine and loses the name again. With the
//! containerd image store BuildKit pushes what it has built, and the engine keeps nothing of it but its cache.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::failure;
use super::output::BuildLog;
use super::{ANSWER_BYTES, Docker, archives};
use crate::defence::{Defence, stands};
use crate::diag::Diagnostic;
use crate::engine::building::{self, BuiltImage, Files, NO_BUILD_INFO, arguments, csv_field, is_clients};
use crate::engine::failure::{after_build, surroundings, too_long};
use crate::engine::login;
use crate::engine::process::Program;
use crate::engine::stock::session_arguments;
use crate::engine::{
    BuildFailure, BuildOrder, Built, Delivery, Engine as _, EngineFacts, ImageStore, LayerCache, Progress,
    Redactor, Stock,
};
use crate::oci::{Digest, MediaType, Platform};

/// The argument that puts something before the ids of all cache mounts of a build.
const CACHES_SPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// Build an order's image and push it.
pub(super) async fn build(
    docker: &Docker,
    order: &BuildOrder,
    progress: &Progress<'_>,
) -> Result<Built, BuildFailure> {
    let facts = docker.facts().await.map_err(surroundings)?;
    if let Some(stock) = &docker.stock {
        return match docker.delivery() {
            Delivery::Archives => by_archives(docker, stock, order, progress).await,
            _ => by_session(docker, ("default", facts), stock, order, progress).await,
        };
    }
    let call = Call::prepare(docker, order).await.map_err(surroundings)?;
    match facts.image_store {
        ImageStore::Containerd => with_containerd(&call, progress).await,
        _ => with_classic(&call, progress).await,
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
    /// The platforms that the machine runs itself, where they are known.
    native: Option<&'o BTreeSet<Platform>>,
    /// The name that the result is pushed by.
    name: String,
}

async fn with_containerd(call: &Call<'_>, progress: &Progress<'_>) -> Result<Built, BuildFailure> {
    let metadata = call.order.scratch.join("metadata.json");
    // A build that was tried before may have left one.
    let _ = std::fs::remove_file(&metadata);
    let output =
        format!("type=image,name={},push=true,oci-mediatypes=true,store=false,{NO_BUILD_INFO}", call.name);
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

/// Build with a builder that does not reach the store: it is given what it reads, and returns what it has built. It has a
/// name for buildx, and facts of its own.
pub(super) async fn by_session(
    docker: &Docker,
    (builder, facts): (&str, &EngineFacts),
    stock: &Stock,
    order: &BuildOrder,
    progress: &Progress<'_>,
) -> Result<Built, BuildFailure> {
    let call = Call::prepare(docker, order).await.map_err(surroundings)?;
    let call = Call { native: Some(&facts.native), ..call };
    stock.lay_out(order).await.map_err(surroundings)?;
    let program = call
        .program(["buildx", "build", "--builder", builder, "--provenance=false", "--sbom=false"])
        .arguments(session_arguments(order))
        .folder(&order.scratch);
    call.watch(program, progress).await?;
    stock.take_in(order).await.map_err(surroundings)
}

/// Build with an engine of the classic image store that does not reach the store: what the build stands on is loaded,
/// and the whole image saved. It keeps its name until the end of the run, for its checks and for what stands on it.
async fn by_archives(
    docker: &Docker,
    stock: &Stock,
    order: &BuildOrder,
    progress: &Progress<'_>,
) -> Result<Built, BuildFailure> {
    let order = &archives::bring(docker, stock, order).await.map_err(surroundings)?;
    let call = Call::prepare(docker, order).await.map_err(surroundings)?;
    let id_file = call.named_build(progress).await?;
    let config = call.inspected(&id_file).await?;
    let archive = order.scratch.join("saved.tar");
    call.moved("save", call.moving(["save", "--output"]).argument(&archive).argument(&call.name)).await?;
    let built = stock.take_saved(order, &archive, &config).await.map_err(surroundings);
    // What cannot be removed goes with the build.
    let _ = std::fs::remove_file(&archive);
    built
}

async fn with_classic(call: &Call<'_>, progress: &Progress<'_>) -> Result<Built, BuildFailure> {
    let id_file = call.named_build(progress).await?;
    let built = call.inspect_and_push(&id_file).await;
    // By its name: the layers stay in the engine's cache, and other builds' names stay theirs.
    let removed = call.ask(&["image", "rm", &call.name]).await;
    let built = built?;
    if let Err(problem) = removed {
        call.note(&format!("the name {} stays in the engine: {problem}", call.name));
    }
    Ok(built)
}

/// The arguments that keep caches, and steps that see what is in no key, from all others.
fn apart(order: &BuildOrder) -> Vec<String> {
    // After the others: of two arguments of one name the last counts.
    let space = { order.caches.space.iter() }
        .flat_map(|space| ["--build-arg".to_owned(), format!("{CACHES_SPACE}={space}")]);
    // The name of a host is in the key of every step, and in no image. Its parts have room for 63 letters each; fewer than
    // these could be met by chance, or by somebody who tries.
    let host = { order.caches.apart.iter() }.flat_map(|digest| {
        ["--add-host".to_owned(), format!("apart-{}.invalid:127.0.0.1", &digest.hex()[..48])]
    });
    space.chain(host).collect()
}

impl<'o> Call<'o> {
    async fn prepare(docker: &'o Docker, order: &'o BuildOrder) -> Result<Self, Diagnostic> {
        let deadline = Instant::now() + order.time_limit;
        let Files { dockerfile, secrets } = Files::write(order)?;
        Ok(Self {
            docker,
            order,
            client: &docker.client().await?.path,
            config: docker.config(Some(&order.store)).await?,
            dockerfile,
            redactor: login::redactor(&order.store, secrets),
            deadline,
            native: docker.facts.get().map(|facts| &facts.native),
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
            .arguments(stands(Defence::BuildKitAlone).then_some("--progress=plain"))
            .arguments(["--platform", &order.platform.to_string(), "--file"])
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
        program = program.arguments(apart(order));
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
        if let Some(facts) = self.docker.facts.get() {
            let way = LayerCache::of(facts, self.docker.delivery());
            program = program.arguments(order.cache.arguments(way));
        }
        program
    }

    /// Run the build, write its log, tell its steps, and say why it failed.
    async fn watch(&self, program: Program, progress: &Progress<'_>) -> Result<(), BuildFailure> {
        let mut log = BuildLog::default();
        let program = program.argument(&self.order.context);
        let hear = |line: &str| log.line(line);
        let ended = building::follow(program, self.order, &self.redactor, hear, progress).await?;
        if ended.success() {
            return Ok(());
        }
        let is_native = self.native.is_some_and(|native| native.contains(&self.order.platform));
        let failure = failure::of_build(self.docker, self.order, &log, ended, is_native);
        self.note(&failure.problem().to_string());
        Err(failure)
    }

    /// A line of our own in the log.
    fn note(&self, line: &str) {
        building::note(self.order, &self.redactor, line);
    }

    fn check_platform(&self, found: &Platform) -> Result<(), BuildFailure> {
        building::check_platform(self.order, &self.docker.name(), found)
    }

    /// Build into the engine's own store, under the name of the order; the file that says what came of it.
    async fn named_build(&self, progress: &Progress<'_>) -> Result<PathBuf, BuildFailure> {
        let id_file = self.order.scratch.join("image-id");
        let _ = std::fs::remove_file(&id_file);
        let program = self.program(["build", "--tag", &self.name]).argument("--iidfile").argument(&id_file);
        self.watch(program, progress).await?;
        Ok(id_file)
    }

    /// Look at the image that the engine says it has built: its configuration.
    async fn inspected(&self, id_file: &Path) -> Result<Digest, BuildFailure> {
        let id = std::fs::read_to_string(id_file).unwrap_or_default();
        let config: Digest = id.trim().parse().map_err(|error| self.missing(error))?;
        let look = ["image", "inspect", "--format", "{{json .}}", id.trim()];
        let looked = self.docker.ask(&look).await.map_err(surroundings)?;
        if !looked.ended.success() {
            let why = self.docker.refused("look at it", &looked);
            return Err(after_build(self.no_image(why), &looked.complaint(), failure::DISK));
        }
        let image: BuiltImage = serde_json::from_str(&looked.text()).map_err(|error| self.missing(error))?;
        self.check_platform(&image.platform())?;
        Ok(config)
    }

    /// Look at the image, push it, and answer with its configuration.
    async fn inspect_and_push(&self, id_file: &Path) -> Result<Built, BuildFailure> {
        let config = self.inspected(id_file).await?;
        self.moved("push", self.moving(["push"]).argument(&self.name)).await?;
        Ok(Built { config })
    }

    /// A call of the client that moves an image.
    fn moving<const N: usize>(&self, arguments: [&str; N]) -> Program {
        self.docker.program(self.client, &self.config, self.time_left()).arguments(arguments)
    }

    async fn moved(&self, how: &str, program: Program) -> Result<(), BuildFailure> {
        let moved = program.capture(ANSWER_BYTES).await.map_err(surroundings)?;
        if moved.ended.success() {
            return Ok(());
        }
        if moved.ended.timed_out {
            return Err(too_long(self.order));
        }
        let problem = self.docker.refused(format!("{how} {}", self.name), &moved);
        Err(after_build(problem, &self.redactor.text(&moved.complaint()), failure::DISK))
    }

    async fn ask(&self, arguments: &[&str]) -> Result<String, Diagnostic> {
        let output = self.docker.ask(arguments).await?;
        match output.ended.success() {
            true => Ok(output.text()),
            false => Err(self.docker.refused(format!("ask for `docker {}`", arguments.join(" ")), &output)),
        }
    }

    /// The engine said that it has built, and the image is not there.
    fn no_image(&self, why: impl std::fmt::Display) -> Diagnostic {
        let message = format!("{} built {} but returned no image", self.docker.name(), self.order.title);
        Diagnostic::surroundings(message).because(why).hint("look at the engine: polyarch doctor")
    }

    /// The same, for what another try would not mend.
    fn missing(&self, why: impl std::fmt::Display) -> BuildFailure {
        BuildFailure::Step { problem: self.no_image(why) }
    }
}

/// What `--metadata-file` holds of a pushed image.
#[derive(Deserialize)]
struct Pushed {
    #[serde(rename = "containerimage.config.digest")]
    config: Digest,
    #[serde(rename = "containerimage.descriptor")]
    descriptor: Option<crate::oci::Descriptor>,
}
