//! What is asked of an engine, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::podman::dialect;
use crate::diag::Diagnostic;
use crate::oci::{Digest, Platform, Repository, Tag};

/// The name of one run of this program, which marks everything that it makes in an engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId(pub(crate) String);

impl RunId {
    /// The run of this very process; `name` tells it from other runs of the same process, and should be short.
    ///
    /// Boot, process and start of the process are in it, so that a later run can see that this one is over.
    pub(crate) fn of_this_process(name: &str) -> Self {
        let process = std::process::id();
        let start = start_of(process).unwrap_or_default();
        Self(format!("{name}-{}-{process}-{start}", boot()))
    }

    /// Whether its process is no more. `here`: whether it can only have run on this machine. False where that
    /// cannot be known.
    pub(crate) fn is_over(&self, here: bool) -> bool {
        let mut parts = self.0.rsplitn(4, '-');
        let (Some(start), Some(process), Some(of_boot), Some(_)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let (Ok(start), Ok(process)) = (start.parse::<u64>(), process.parse::<u32>()) else { return false };
        if of_boot != boot() {
            return here;
        }
        start_of(process) != Some(start)
    }

    /// The tag of the run's build of that number, which [`Engine::sweep`](super::Engine::sweep) knows it by.
    ///
    /// # Errors
    /// Where the run's name does not fit into a tag.
    pub(crate) fn build_tag(&self, number: usize) -> Result<Tag, crate::oci::Error> {
        format!("build-{self}-{number}").parse()
    }

    /// The run that gave a tag, where it is the tag of a build.
    pub(crate) fn of_build_tag(tag: &str) -> Option<Self> {
        let (run, number) = tag.strip_prefix("build-")?.rsplit_once('-')?;
        number.parse::<usize>().ok()?;
        Some(Self(run.to_owned()))
    }
}

/// What tells this boot of this machine from any other.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.chars().filter(char::is_ascii_hexdigit).take(8).collect()
}

/// When a process of this machine started, in the kernel's ticks; process ids are used again, this is not.
fn start_of(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program stands in parentheses and may hold anything; the start is field 22.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_zombie = fields.next() == Some("Z");
    fields.nth(18)?.parse().ok().filter(|_| !is_zombie)
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an engine keeps images, and with that what reads Dockerfiles for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageStore {
    /// Docker's own graph drivers: the layers of a pull lose their compressed form.
    Classic,
    /// containerd's content store: layers are kept as they came.
    Containerd,
    /// The storage of Podman and Buildah: Dockerfiles are read by Buildah of this version, major and minor.
    Containers { buildah: (u32, u32) },
}

impl fmt::Display for ImageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classic => f.write_str("classic image store"),
            Self::Containerd => f.write_str("containerd image store"),
            Self::Containers { buildah: (major, minor) } => write!(f, "builds by Buildah {major}.{minor}"),
        }
    }
}

/// What an engine is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineFacts {
    /// Its version as it says it.
    pub(crate) version: String,
    /// How it keeps images.
    pub(crate) image_store: ImageStore,
    /// The version of buildx that its client has.
    pub(crate) buildx: Option<String>,
    /// The platforms whose programs its machine runs itself (386 on an amd64 machine is one).
    pub(crate) native: BTreeSet<Platform>,
    /// The platforms whose programs it runs by emulation.
    pub(crate) emulated: BTreeSet<Platform>,
    /// How many processors its machine has.
    pub(crate) processors: usize,
    /// What tells it from every other engine, where it says so.
    pub(crate) id: Option<String>,
    /// Where it keeps images, on its machine.
    pub(crate) root: Option<PathBuf>,
    /// Things about it that a person should know.
    pub(crate) notes: Vec<Diagnostic>,
}

impl EngineFacts {
    /// Whether it understands a newer form of a Dockerfile, whose `# syntax` line may name a frontend.
    pub(crate) fn understands(&self, feature: &str, frontend: Option<&str>) -> bool {
        match self.image_store {
            ImageStore::Containers { buildah } => dialect::understands(buildah, feature),
            ImageStore::Classic | ImageStore::Containerd => frontend.is_some() || self.has_new_frontend(),
        }
    }

    /// Whether it reads what a frontend reads: by fetching it, or since it has no more than known forms.
    pub(crate) fn reads_as(&self, frontend: &str) -> bool {
        self.fetches_frontends() || dialect::knows_frontend(frontend)
    }

    /// Whether it fetches the frontend that a `# syntax` line names; Buildah has its own and no other.
    pub(crate) fn fetches_frontends(&self) -> bool {
        !matches!(self.image_store, ImageStore::Containers { .. })
    }

    /// Whether it understands heredocs, `COPY --link` and other newer forms without a `# syntax` line.
    fn has_new_frontend(&self) -> bool {
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        self.buildx.is_some() && self.image_store == ImageStore::Containerd
            || major.is_some_and(|major| major >= 23)
    }
}

/// Where an engine finds the store, and with what password.
#[derive(Clone)]
pub(crate) struct StoreAddress {
    /// `host:port` as the engine sees it.
    pub(crate) registry: String,
    /// The repository of the scope.
    pub(crate) repository: Repository,
    /// The user.
    pub(crate) user: String,
    /// The password of this run; never in an argument or a log.
    pub(crate) password: crate::oci::Secret,
}

impl StoreAddress {
    /// The reference of an image of the scope by digest.
    pub(crate) fn at(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

/// A secret of a build: an id, and a file with mode 0600 that holds its value during the run.
#[derive(Clone, Debug)]
pub(crate) struct SecretFile {
    /// The id that the Dockerfile asks for.
    pub(crate) id: String,
    /// The file, absolute.
    pub(crate) file: PathBuf,
}

/// One build.
#[derive(Clone)]
pub(crate) struct BuildOrder {
    /// What to call it in messages: the job.
    pub(crate) title: String,
    /// The platform.
    pub(crate) platform: Platform,
    /// The folder that is the build context, absolute.
    pub(crate) context: PathBuf,
    /// The Dockerfile to send: every image in it is pinned to a digest of the store.
    pub(crate) dockerfile: String,
    /// Those images of the store, each of which the Dockerfile names as [`StoreAddress::at`] does.
    pub(crate) images: BTreeSet<Digest>,
    /// The text of the ignore file that counts for it, to be honoured although the Dockerfile sent is a copy.
    pub(crate) ignore: Option<String>,
    /// The stage to build.
    pub(crate) target: Option<String>,
    /// Build arguments.
    pub(crate) args: BTreeMap<String, String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Secrets to mount.
    pub(crate) secrets: Vec<SecretFile>,
    /// SSH agents or keys to mount.
    pub(crate) ssh: Vec<String>,
    /// Whether the engine's cache may be used.
    pub(crate) no_cache: bool,
    /// Where the result is pushed to: this tag of the store's scope.
    pub(crate) store: StoreAddress,
    /// The tag there, of this build alone: [`RunId::build_tag`].
    pub(crate) tag: Tag,
    /// Where the whole output is written to.
    pub(crate) log: PathBuf,
    /// A folder for files of this build alone, removed by the caller.
    pub(crate) scratch: PathBuf,
    /// How long it may take.
    pub(crate) time_limit: Duration,
}

/// Hears each step of a build as it begins.
pub(crate) type Progress<'a> = dyn Fn(String) + Send + Sync + 'a;

/// What a build left in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// The digest of the image's configuration, as the engine named it.
    pub(crate) config: Digest,
}

/// Why there is no image.
#[derive(Clone, Debug)]
pub(crate) enum BuildFailure {
    /// A step of the Dockerfile failed, or it took too long: the same again would fail again.
    Step {
        /// What is wrong, with the step and the last lines of its output.
        problem: Diagnostic,
    },
    /// Engine, disk or network failed; another try may pass.
    Passing {
        /// What is wrong.
        problem: Diagnostic,
    },
}

/// A command to run in a container.
#[derive(Clone)]
pub(crate) struct ContainerOrder {
    /// The run that it belongs to, which is a label of the container.
    pub(crate) run: RunId,
    /// Where the image is.
    pub(crate) store: StoreAddress,
    /// The image.
    pub(crate) image: Digest,
    /// The platform of the image.
    pub(crate) platform: Platform,
    /// The program and its arguments; replaces entry point and command.
    pub(crate) command: Vec<String>,
    /// How long it may take.
    pub(crate) time_limit: Duration,
}

/// A command that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its exit code; `None` where it was killed, or ran out of time.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output, at most 1 MiB.
    pub(crate) stdout: String,
    /// What it wrote to standard error, at most 1 MiB.
    pub(crate) stderr: String,
    /// It was ended because its time was over.
    pub(crate) timed_out: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_over_when_its_process_is() {
        let own = RunId::of_this_process("20261121");
        assert!(!own.is_over(true), "{own}");
        let (rest, start) = own.0.rsplit_once('-').unwrap();
        assert!(
            RunId(format!("{rest}-{}", start.parse::<u64>().unwrap() + 1)).is_over(true),
            "its id is used again"
        );
        let elsewhere = RunId("a-00000000-1-1".to_owned());
        assert!(elsewhere.is_over(true) && !elsewhere.is_over(false), "another boot, or another machine");
        assert!(!RunId("somebody-elses".to_owned()).is_over(true));
    }

    #[test]
    fn a_build_tag_names_its_run() {
        let own = RunId::of_this_process("r");
        assert_eq!(RunId::of_build_tag(own.build_tag(7).unwrap().as_str()), Some(own));
        assert_eq!(RunId::of_build_tag("build-number"), None);
        assert_eq!(RunId::of_build_tag("latest"), None);
    }
}
