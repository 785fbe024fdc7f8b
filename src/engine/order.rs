//! What is asked of an engine, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::diag::Diagnostic;
use crate::oci::{Digest, Platform, Repository, Tag};

/// The name of one run of this program, which marks everything that it makes in an engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId(pub(crate) String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an engine keeps images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageStore {
    /// Docker's own graph drivers: the layers of a pull lose their compressed form.
    Classic,
    /// containerd's content store: layers are kept as they came.
    Containerd,
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
    /// Things about it that a person should know.
    pub(crate) notes: Vec<Diagnostic>,
}

impl EngineFacts {
    /// Whether it understands heredocs, `COPY --link` and other newer forms without a `# syntax` line.
    pub(crate) fn has_new_frontend(&self) -> bool {
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        self.buildx.is_some() && self.image_store == ImageStore::Containerd || major.is_some_and(|major| major >= 23)
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
    /// The run that it belongs to.
    pub(crate) run: RunId,
    /// What to call it in messages: the job.
    pub(crate) title: String,
    /// The platform.
    pub(crate) platform: Platform,
    /// The folder that is the build context, absolute.
    pub(crate) context: PathBuf,
    /// The Dockerfile to send: every image in it is pinned to a digest of the store.
    pub(crate) dockerfile: String,
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
    /// The tag there, of this build alone.
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
