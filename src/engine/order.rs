//! What is asked of an engine, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::CacheOrder;
use super::podman::dialect;
use super::version::numbers;
use crate::diag::Diagnostic;
use crate::oci::{Digest, Platform, Repository, Tag};

/// The name of one run of this program, which marks everything that it makes in an engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId(pub(crate) String);

impl RunId {
    /// The run of this very process; `name` tells it from other runs of the same process, and should be short.
    ///
    /// Boot, namespace of processes, process and start of the process are in it, so that a later run can see that this
    /// one is over.
    pub(crate) fn of_this_process(name: &str) -> Self {
        let process = std::process::id();
        let start = start_of(process).unwrap_or_default();
        Self(format!("{name}-{}n{}-{process}-{start}", boot(), namespace()))
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
        let (of_boot, of_namespace) = of_boot.split_once('n').unwrap_or((of_boot, ""));
        match (of_boot == boot(), of_namespace == namespace()) {
            (false, _) => here,
            // A container has processes of its own under the same kernel: its numbers mean nothing here.
            (true, false) => false,
            (true, true) => start_of(process) != Some(start),
        }
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

/// What tells the processes that are seen from here from those of containers, which have numbers of their own.
fn namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
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

/// What a sweep does about what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It is removed, and named.
    Remove,
    /// It is named.
    Name,
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
    /// The version of its BuildKit, of several the oldest, where it says it.
    pub(crate) buildkit: Option<String>,
    /// The platforms whose programs its machine runs itself (386 on an amd64 machine is one).
    pub(crate) native: BTreeSet<Platform>,
    /// The platforms whose programs it runs by emulation.
    pub(crate) emulated: BTreeSet<Platform>,
    /// How many processors its machine has, where it says so.
    pub(crate) processors: Option<usize>,
    /// How many jobs it had better do at once, at least 1.
    pub(crate) slots: usize,
    /// What it was found to have that jobs may need.
    pub(crate) labels: BTreeSet<String>,
    /// What time it is there, as it said when it was asked what it is: RFC 3339.
    pub(crate) clock: Option<String>,
    /// What tells it from every other engine, where it says so; several where it is several engines together.
    pub(crate) ids: BTreeSet<String>,
    /// Where it keeps images, on its machine.
    pub(crate) root: Option<PathBuf>,
    /// Things about it that a person should know.
    pub(crate) notes: Vec<Diagnostic>,
    /// Holes that its version is known to have, by which a Dockerfile may break out: a warning for each part.
    pub(crate) holes: Vec<Diagnostic>,
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
        self.is_buildkit()
    }

    /// Whether mounts of caches can be filled and read by builds of our own, as it was tried.
    pub(crate) fn carries_caches(&self) -> bool {
        self.is_buildkit()
    }

    /// Whether what a step mounts tells it from other steps in its cache of layers, but for which cache and which secret it
    /// is: old versions of BuildKit leave out all of it, and that in 20.10.24 does not, as was tried.
    pub(crate) fn looks_at_mounts(&self) -> bool {
        if !self.is_buildkit() {
            // Buildah compares the text of each step.
            return true;
        }
        match numbers(&self.version) {
            // A BuildKit of its own: that in 20.10.24 is of the line 0.8.
            Some(numbers @ (0, ..)) => numbers >= (0, 9, 0),
            numbers => numbers >= Some((20, 10, 24)),
        }
    }

    /// Whether the files that a step mounts tell it from other steps in its cache of layers, as in BuildKit; Buildah compares
    /// nothing of them, as was tried with 1.28, nor those of other stages in later versions.
    pub(crate) fn looks_into_mounts(&self) -> bool {
        self.is_buildkit()
    }

    /// Whether it can be told what steps see that it leaves out of their keys.
    pub(crate) fn keeps_apart(&self) -> bool {
        self.is_buildkit()
    }

    /// Whether BuildKit builds there, and not Buildah.
    fn is_buildkit(&self) -> bool {
        !matches!(self.image_store, ImageStore::Containers { .. })
    }

    /// Whether it understands heredocs, `COPY --link` and other newer forms without a `# syntax` line.
    fn has_new_frontend(&self) -> bool {
        self.buildx.is_some() && self.image_store == ImageStore::Containerd
            || numbers(&self.version) >= Some((23, 0, 0))
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
    /// The reference of a tag of a scope.
    pub(crate) fn tagged(&self, scope: &Repository, tag: &Tag) -> String {
        format!("{}/{scope}:{tag}", self.registry)
    }

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
    /// Whose caches it mounts.
    pub(crate) caches: OwnCaches,
    /// The caches of layers between machines.
    pub(crate) cache: CacheOrder,
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

/// Whose caches a build mounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnCaches {
    /// What BuildKit is told to put before the ids of all of them, those that are not in the Dockerfile too.
    pub(crate) space: Option<String>,
    /// What tells its steps from others in the engine's cache of layers, where they may see what engines do not look at.
    pub(crate) apart: Option<Digest>,
}

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
    /// The engine's disk is full: another try may pass once some of it is freed.
    Full {
        /// What is wrong.
        problem: Diagnostic,
    },
}

impl BuildFailure {
    /// What is wrong.
    pub(crate) fn problem(&self) -> &Diagnostic {
        let (Self::Step { problem } | Self::Passing { problem } | Self::Full { problem }) = self;
        problem
    }
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    fn i_x2_a_run_in_a_container_under_the_same_kernel_is_not_over() {
        let own = RunId::of_this_process("r");
        // Its process has a number that nobody has here.
        let process = format!("-{}-1", u32::MAX);
        let other = |namespace: &str| RunId(format!("r-{}{namespace}{process}", boot()));
        assert!(other(&format!("n{}", namespace())).is_over(true), "one of here is");
        assert!(!other("n1").is_over(true), "its processes are not seen from here");
        assert!(!other("").is_over(true), "where they were is not known");
        assert!(own.0.contains(&format!("n{}-", namespace())) && !namespace().is_empty());
    }

    #[test]
    fn tm1_whether_mounts_are_looked_at_is_known_of_engines_and_of_buildkits() {
        let facts = |version: &str, image_store| EngineFacts {
            version: version.to_owned(),
            image_store,
            buildx: None,
            buildkit: None,
            native: BTreeSet::new(),
            emulated: BTreeSet::new(),
            processors: None,
            slots: 1,
            labels: BTreeSet::new(),
            clock: None,
            ids: BTreeSet::new(),
            root: None,
            notes: Vec::new(),
            holes: Vec::new(),
        };
        let table = [
            ("20.10.23", false),
            ("20.10.24+dfsg1", true),
            ("28.2.2", true),
            ("v0.8.3", false),
            ("v0.9.0", true),
            ("v0.21.1", true),
            ("dev", false),
        ];
        for (version, looks) in table {
            assert_eq!(facts(version, ImageStore::Containerd).looks_at_mounts(), looks, "{version}");
        }
        assert!(facts("1.28.2", ImageStore::Containers { buildah: (1, 28) }).looks_at_mounts());
    }

    #[test]
    fn a_build_tag_names_its_run() {
        let own = RunId::of_this_process("r");
        assert_eq!(RunId::of_build_tag(own.build_tag(7).unwrap().as_str()), Some(own));
        assert_eq!(RunId::of_build_tag("build-number"), None);
        assert_eq!(RunId::of_build_tag("latest"), None);
    }
}
