//! Build one image and push it to the store.
//!
//! The image gets no name: it stays in the storage as the cache of builds does, and is pushed by its id. It is kept
//! in Docker's form, since OCI's has no place for `HEALTHCHECK`, `ONBUILD` and `SHELL`, which would be lost without
//! a word; the manifest is written anew on arrival anyway.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::failure;
use super::output::BuildLog;
use super::probe::Isolation;
use super::{ANSWER_BYTES, CALL, Login, Podman, Tool, mark};
use crate::diag::Diagnostic;
use crate::engine::building::{
    self, BuiltImage, Files, arguments, check_platform, csv_field, is_clients, is_meant,
};
use crate::engine::failure::{by_words, surroundings, too_long};
use crate::engine::process::Output;
use crate::engine::{BuildFailure, BuildOrder, Built, Engine as _, Progress, Redactor, login};
use crate::oci::{Digest, Platform};

/// Build an order's image and push it.
pub(super) async fn build(
    podman: &Podman,
    order: &BuildOrder,
    progress: &Progress<'_>,
) -> Result<Built, BuildFailure> {
    let isolation = podman.known().await.map_err(surroundings)?.isolation;
    let order = &upon_what_is_here(podman, order).await.map_err(surroundings)?;
    let call = Call::prepare(podman, order, isolation).await.map_err(surroundings)?;
    let mut config = call.image(order.no_cache, progress).await?;
    let mut platform = call.platform_of(&config).await?;
    if !is_meant(&order.platform, &platform) && !order.no_cache {
        // Images without a base are found in the cache whatever platform they were built for (seen with 1.28).
        call.note("what the cache has is for another platform: building again without it");
        config = call.image(true, progress).await?;
        platform = call.platform_of(&config).await?;
    }
    check_platform(order, &podman.name(), &platform)?;
    call.push(&config).await?;
    Ok(Built { config })
}

/// The order with the ids of images that are in the storage without a name: pulled, they had one, and would go with it.
async fn upon_what_is_here(podman: &Podman, order: &BuildOrder) -> Result<BuildOrder, Diagnostic> {
    let mut dockerfile = order.dockerfile.clone();
    for image in &order.images {
        if let Some(id) = podman.built_here(&order.store, image).await? {
            dockerfile = dockerfile.replace(&order.store.at(image), &id);
        }
    }
    Ok(BuildOrder { dockerfile, ..order.clone() })
}

/// One build under way.
struct Call<'o> {
    podman: &'o Podman,
    order: &'o BuildOrder,
    isolation: Isolation,
    path: PathBuf,
    login: Login,
    dockerfile: PathBuf,
    ignore: PathBuf,
    redactor: Redactor,
    deadline: Instant,
}

impl<'o> Call<'o> {
    async fn prepare(
        podman: &'o Podman,
        order: &'o BuildOrder,
        isolation: Isolation,
    ) -> Result<Self, Diagnostic> {
        let deadline = Instant::now() + order.time_limit;
        let Files { dockerfile, secrets } = Files::write(order)?;
        // An ignore file always: without one, Buildah looks for files in the context that Docker does not know.
        let ignore = order.scratch.join("ignore");
        building::write_new(&ignore, order.ignore.as_deref().unwrap_or_default().as_bytes())?;
        Ok(Self {
            podman,
            order,
            isolation,
            path: podman.path()?,
            login: podman.login(Some(&order.store)).await?,
            dockerfile,
            ignore,
            redactor: login::redactor(&order.store, secrets),
            deadline,
        })
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Build it; the digest of its configuration, which is its id.
    async fn image(&self, no_cache: bool, progress: &Progress<'_>) -> Result<Digest, BuildFailure> {
        let id_file = self.order.scratch.join("image-id");
        // A build that was tried before may have left one.
        let _ = std::fs::remove_file(&id_file);
        let mut program = self.podman.program(&self.path, &self.login, self.time_left());
        for (name, value) in arguments(self.order).filter(|(name, _)| !is_clients(name)) {
            program = program.variable(name, value);
        }
        let program = program
            .arguments(options(self.podman.tool, self.order, self.isolation))
            .argument(mark::option(self.order.tag.as_str()))
            .arguments(no_cache.then_some("--no-cache"))
            .argument("--file")
            .argument(&self.dockerfile)
            .argument("--ignorefile")
            .argument(&self.ignore)
            .argument("--iidfile")
            .argument(&id_file)
            .argument(&self.order.context);
        let mut log = BuildLog::default();
        let hear = |line: &str| log.line(line);
        let ended = building::follow(program, self.order, &self.redactor, hear, progress).await?;
        if !ended.success() {
            let facts = self.podman.known().await.map(|known| &known.facts);
            let is_native = facts.is_ok_and(|facts| facts.native.contains(&self.order.platform));
            let failure = failure::of_build(self.order, &log, ended, is_native);
            self.note(&failure.problem().to_string());
            return Err(failure);
        }
        let id = std::fs::read_to_string(&id_file).unwrap_or_default();
        id.trim().parse().map_err(|error| self.missing(error))
    }

    /// The platform that an image says it is for.
    async fn platform_of(&self, image: &Digest) -> Result<Platform, BuildFailure> {
        let arguments = match self.podman.tool {
            Tool::Podman => ["image", "inspect"].as_slice(),
            Tool::Buildah => ["inspect", "--type", "image"].as_slice(),
        };
        let output = self
            .podman
            .program(&self.path, &self.login, CALL)
            .arguments(arguments)
            .argument(image.hex())
            .capture(ANSWER_BYTES)
            .await
            .map_err(surroundings)?;
        platform_said(&output).ok_or_else(|| {
            self.missing(self.podman.refused(format!("look at image {}", image.short()), &output))
        })
    }

    async fn push(&self, image: &Digest) -> Result<(), BuildFailure> {
        let store = &self.order.store;
        let target = format!("docker://{}/{}:{}", store.registry, store.repository, self.order.tag);
        let pushed = self
            .podman
            .program(&self.path, &self.login, self.time_left())
            .arguments(["push", "--quiet", image.hex(), &target])
            .capture(ANSWER_BYTES)
            .await
            .map_err(surroundings)?;
        if pushed.ended.success() {
            return Ok(());
        }
        if pushed.ended.timed_out {
            return Err(too_long(self.order));
        }
        let problem = self.podman.refused(format!("push {target}"), &pushed);
        Err(by_words(problem, &self.redactor.text(&pushed.complaint()), failure::DISK))
    }

    /// It said that it has built, and the image is not there.
    fn missing(&self, why: impl std::fmt::Display) -> BuildFailure {
        let message = format!("{} built {} but returned no image", self.podman.name(), self.order.title);
        let problem = Diagnostic::surroundings(message).because(why).hint("look at it: polyarch doctor");
        BuildFailure::Step { problem }
    }

    fn note(&self, line: &str) {
        building::note(self.order, &self.redactor, line);
    }
}

/// The platform in what `podman image inspect` or `buildah inspect` says.
fn platform_said(output: &Output) -> Option<Platform> {
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let image = said.get("OCIv1").or_else(|| said.get(0))?;
    let image: BuiltImage = serde_json::from_value(image.clone()).ok()?;
    Some(image.platform())
}

/// The arguments of a build, up to its files and the cache.
fn options(tool: Tool, order: &BuildOrder, isolation: Isolation) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |name: &str, value: &str| all.push(format!("{name}={value}").into());
    add("--isolation", isolation.name());
    add("--platform", &order.platform.to_string());
    if let Some(target) = &order.target {
        add("--target", target);
    }
    for (name, value) in arguments(order) {
        // A value in the environment is not seen in the list of processes.
        match is_clients(&name) {
            true => add("--build-arg", &format!("{name}={value}")),
            false => add("--build-arg", &name),
        }
    }
    for (name, value) in &order.labels {
        add("--label", &format!("{name}={value}"));
    }
    for agent in &order.ssh {
        add("--ssh", agent);
    }
    for secret in &order.secrets {
        all.push(secret_option(&secret.id, &secret.file));
    }
    let command = if tool == Tool::Podman { "build" } else { "bud" };
    // No label of Buildah's own, which would tell one builder's images from another's; no container is left.
    let always = [command, "--format=docker", "--layers", "--force-rm", "--identity-label=false"];
    always.into_iter().map(OsString::from).chain(all).collect()
}

/// The argument that lets a build mount a file as a secret.
pub(super) fn secret_option(id: &str, file: &Path) -> OsString {
    let mut option = OsString::from(format!("--secret=id={id},"));
    option.push(csv_field("src=", file));
    option
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::building::order_for_tests;

    #[test]
    fn every_part_of_an_order_is_an_argument_and_no_value_is() {
        let mut order = order_for_tests();
        order.target = Some("last".to_owned());
        order.args =
            [("VERSION".to_owned(), "1.2".to_owned()), ("HTTP_PROXY".to_owned(), "p".to_owned())].into();
        order.labels = [("a".to_owned(), "b c".to_owned())].into();
        order.ssh = vec!["default".to_owned()];
        order.secrets = vec![crate::engine::SecretFile { id: "key".to_owned(), file: "/s/key".into() }];
        let all: Vec<String> = options(Tool::Buildah, &order, Isolation::Chroot)
            .into_iter()
            .map(|option| option.into_string().expect("text"))
            .collect();
        let expected = [
            "bud",
            "--format=docker",
            "--layers",
            "--force-rm",
            "--identity-label=false",
            "--isolation=chroot",
            "--platform=linux/amd64",
            "--target=last",
            "--build-arg=BUILDARCH",
            "--build-arg=BUILDOS",
            "--build-arg=BUILDPLATFORM",
            "--build-arg=BUILDVARIANT",
            "--build-arg=HTTP_PROXY=p",
            "--build-arg=VERSION",
            "--label=a=b c",
            "--ssh=default",
            "--secret=id=key,src=/s/key",
        ];
        assert_eq!(all, expected);
        assert_eq!(options(Tool::Podman, &order, Isolation::Oci)[0], "build");
    }

    #[test]
    fn both_programs_say_the_platform() {
        let table = [
            (r#"{"Docker":{}, "OCIv1":{"architecture":"386","os":"linux"}}"#, Some("linux/386")),
            (r#"[{"Id":"1","Architecture":"arm","Os":"linux","Variant":"v7"}]"#, Some("linux/arm/v7")),
            ("[]", None),
            ("no", None),
        ];
        for (text, expected) in table {
            let ended = crate::engine::process::Ended { code: Some(0), timed_out: false };
            let output = Output { ended, stdout: text.as_bytes().to_vec(), stderr: Vec::new() };
            let found = platform_said(&output).map(|platform| platform.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
