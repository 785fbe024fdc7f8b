//! Read what people wrote in `polyarch.toml`: strictly, with places, all independent problems at once.
//!
//! What stands here is what was written; what is meant is a [`crate::family::Family`]. Every setting is described in
//! `docs/configuration.md`, whose examples a test reads, and in `schema/polyarch.schema.json`, which a test writes.

mod builder_name;
mod ci;
mod engine_address;
mod exports;
mod file;
mod foreign;
mod image;
mod limits;
mod mirror;
mod package;
mod publication;
mod release;
mod section;
mod sign;
mod store;
mod syntax;
mod tag_pattern;
mod template;
mod terms;
mod value;
mod written;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::oci::{Platform, Reference, Repository, Tag};

pub(crate) use builder_name::check_builder_name;
pub(crate) use ci::{
    CiSettings, EventPlatforms, InstallSetting, LoginSetting, PromotionSetting, Scheduled, ServiceSetting,
    Variable,
};
pub(crate) use engine_address::{EngineAddress, NoEngine, SshAddress};
pub(crate) use exports::{INDEX_NAME, NameTemplate, PART_PREFIX, ReferenceTemplate, agree, file_name};
pub(crate) use file::{SLOTS_LIMIT, SPEED_LIMIT};
pub(crate) use foreign::{ForeignSetting, PathPattern};
pub(crate) use image::frontend_argument;
pub(crate) use limits::LimitSetting;
pub(crate) use package::PackageName;
pub(crate) use publication::{DifferencesSetting, PublishSettings, UnitSetting};
pub(crate) use release::{Version, release_expression};
pub(crate) use sign::SignSettings;
pub(crate) use store::StorePlace;
pub(crate) use tag_pattern::TagPattern;
pub(crate) use terms::{Emulate, TermsSetting};
pub(crate) use value::{Bytes, Glob, Inside, Pattern, Seconds, Target, is_plain_secret};
pub(crate) use written::{Source, Written};

/// How long a configuration file may be.
pub(crate) const BYTES_LIMIT: u64 = 1 << 20;
/// The argument that BuildKit takes for `# syntax=`.
pub(crate) const FRONTEND_ARGUMENT: &str = "BUILDKIT_SYNTAX";
/// What the repositories of a store begin with in which it keeps its records, one for each scope.
pub(crate) const SCOPES: &str = "scopes/";
/// The version of the format that this program reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// `polyarch.toml`: a family of container images.
#[derive(Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct FamilyFile {
    /// The file, for places.
    #[cfg_attr(test, schemars(skip))]
    pub(crate) source: Source,
    /// The version of the format; 1 where it is not said.
    #[cfg_attr(not(test), expect(dead_code, reason = "checked while it is read; here for the schema"))]
    pub(crate) version: Option<Written<u32>>,
    /// What to call the family; the name of its folder where it is not said.
    pub(crate) name: Option<Written<String>>,
    /// Where the family is published: `host[:port][/owner]`.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) registry: Option<Written<Target>>,
    /// Where the results of builds are kept: a folder, or `host[:port]/repository` for repositories of a registry.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) store: Option<Written<StorePlace>>,
    /// The folders that hold images; every folder with a Dockerfile where it is not said.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) images: Vec<Written<Glob>>,
    /// The platforms of every image that does not say its own.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) platforms: Option<Vec<Written<Platform>>>,
    /// Build arguments of every image that declares them.
    pub(crate) args: BTreeMap<String, Written<String>>,
    /// Labels of every image.
    pub(crate) labels: BTreeMap<String, Written<String>>,
    /// Secrets that every image may mount, by id.
    pub(crate) secrets: BTreeMap<String, SecretSetting>,
    /// Tests of every image.
    pub(crate) tests: Vec<TestSetting>,
    /// Executables of other machines that images are meant to have.
    pub(crate) foreign_executables: Vec<ForeignSetting>,
    /// How tags are made.
    pub(crate) tags: TagSettings,
    /// What is published together.
    pub(crate) publish: PublishSettings,
    /// Images from elsewhere that are replaced by others.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub(crate) replace: BTreeMap<Reference, Written<Reference>>,
    /// Whether a platform may be built by emulation where no builder has it natively.
    pub(crate) emulate: Option<Emulate>,
    /// Whether what stands on an image waits for all platforms of it.
    pub(crate) barrier: Option<Written<bool>>,
    /// Whether what engines have in their caches of layers is kept in the store, for other machines.
    pub(crate) layer_cache: Option<Written<bool>>,
    /// How long a build may take that finds such a cache, before it counts as failed.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) cache_budget: Option<Written<Seconds>>,
    /// How large a mount of a cache may be to be kept in the store, for other machines; none is kept where it is not said.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) cache_mounts: Option<Written<Bytes>>,
    /// What removes from a mount of a cache what is not worth keeping: a command of the shell, run there as root.
    pub(crate) cache_prune: Option<Written<String>>,
    /// How much of a mount of a cache must come in a second, else it is done without where building is quicker.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) cache_floor: Option<Written<Bytes>>,
    /// How much of a parent must come from a store at a registry in a second, else it is built where that is quicker.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) parent_floor: Option<Written<Bytes>>,
    /// How old an image may be that is used again; any age where it is not said.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) fresh_for: Option<Written<Seconds>>,
    /// What is to be said of single images.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, ImageSetting>"))]
    pub(crate) image: BTreeMap<Repository, ImageSetting>,
    /// The engines that build.
    pub(crate) builder: BTreeMap<String, BuilderSetting>,
    /// What registries may be asked, by `host[:port]`.
    pub(crate) limits: BTreeMap<String, LimitSetting>,
    /// Images that are written into files.
    pub(crate) export: Vec<ExportSetting>,
    /// How what is published is signed.
    pub(crate) sign: SignSettings,
    /// What the pipelines of CI services are made of.
    pub(crate) ci: CiSettings,
}

/// How tags are made of values.
#[derive(Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct TagSettings {
    /// How platforms are named in tags.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub(crate) names: BTreeMap<Platform, Written<String>>,
    /// The template of a platform's tag, with `{platform}` and `{tag}`.
    pub(crate) platform: Option<Written<String>>,
    /// The template of the tag that a nightly build moves for each platform, with `{platform}`.
    pub(crate) nightly: Option<Written<String>>,
    /// Tags that never change once they are public: templates as `{commit}`, or patterns with `*` and `?`.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) immutable: Vec<Written<TagPattern>>,
    /// Tags that every image gets.
    pub(crate) common: Option<Vec<Written<String>>>,
    /// Tags that every image of a release gets in their place, with `{version}`; that alone where it is not said.
    pub(crate) release: Option<Vec<Written<String>>>,
    /// What happens with a tag whose value differs between platforms.
    pub(crate) divergence: Option<DivergenceSetting>,
}

/// What happens with a tag whose value differs between platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case"))]
pub(crate) enum DivergenceSetting {
    /// The merged tag stays where it is.
    Withhold,
    /// Nothing is published.
    Fail,
    /// The merged tag names the platforms that agree.
    Partial,
}

/// What is said of one image, or of one variant of it.
#[derive(Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct ImageSetting {
    /// Where it is named.
    #[cfg_attr(test, schemars(skip))]
    pub(crate) named: Written<String>,
    /// The image elsewhere that it is a copy of, byte for byte; nothing of it is built.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) mirror: Option<Written<Reference>>,
    /// The folder that is its build context.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) folder: Option<Written<Inside>>,
    /// Its Dockerfile, relative to its folder.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) dockerfile: Option<Written<Inside>>,
    /// The stage to build; the last where it is not said.
    pub(crate) target: Option<Written<String>>,
    /// Its platforms.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) platforms: Option<Vec<Written<Platform>>>,
    /// Build arguments.
    pub(crate) args: BTreeMap<String, Written<String>>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, Written<String>>,
    /// Secrets to mount, by id.
    pub(crate) secrets: BTreeMap<String, SecretSetting>,
    /// SSH agents or keys to mount: `default`, or `id=path`.
    pub(crate) ssh: Vec<Written<String>>,
    /// Tests of it and of every image upon it.
    pub(crate) tests: Vec<TestSetting>,
    /// Executables of other machines that it, and every image upon it, is meant to have.
    pub(crate) foreign_executables: Vec<ForeignSetting>,
    /// Taggers of it and of every image upon it; of a mirror its tags, as texts.
    pub(crate) tags: Vec<TaggerSetting>,
    /// The tags of a mirror; that of the image elsewhere where they are not said.
    #[cfg_attr(test, schemars(skip))]
    pub(crate) mirror_tags: Option<Vec<Written<String>>>,
    /// Descriptions of it and of every image upon it.
    pub(crate) describe: Vec<DescriptionSetting>,
    /// What a build of it takes of its builder.
    #[cfg_attr(test, schemars(flatten))]
    pub(crate) terms: TermsSetting,
    /// What of that differs on single platforms.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, TermsSetting>"))]
    pub(crate) on: BTreeMap<Platform, TermsSetting>,
    /// How long a build of it may take that finds a cache, whatever the family says.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) cache_budget: Option<Written<Seconds>>,
    /// How old an image of it may be that is used again, whatever the family says.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) fresh_for: Option<Written<Seconds>>,
    /// It only tries out what it stands on: it is built and tested, never published, and its failure fails no run.
    pub(crate) downstream: Option<Written<bool>>,
    /// After a failure on one platform nothing of it begins on another.
    pub(crate) fail_fast: Option<Written<bool>>,
    /// What stands on it waits for all platforms of it, whatever the family says.
    pub(crate) barrier: Option<Written<bool>>,
    /// A build of it that fails by itself is tried once more without the engine's cache.
    pub(crate) retry_without_cache: Option<Written<bool>>,
    /// The repository that it is published in, without the registry.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) repository: Option<Written<Repository>>,
    /// Its variants: the same image by another recipe.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, ImageSetting>"))]
    pub(crate) variants: BTreeMap<Tag, Self>,
}

/// Where the value of a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case", deny_unknown_fields))]
pub(crate) enum SecretSetting {
    /// A variable of the environment.
    Env(String),
    /// A file below the folder of the configuration.
    #[cfg_attr(test, schemars(with = "String"))]
    File(Inside),
}

/// A test: a command in the image, or on this machine.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct TestSetting {
    /// A command in a container of the image.
    pub(crate) run: Option<Written<String>>,
    /// A command on this machine, with the image's reference in `POLYARCH_IMAGE`.
    pub(crate) host: Option<Written<String>>,
    /// Files and folders that a command on this machine reads beside those that it names.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) files: Vec<Written<Inside>>,
    /// A text that must stand in its output.
    pub(crate) stdout: Option<Written<String>>,
    /// How long it may take.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) time_limit: Option<Written<Seconds>>,
}

/// A tagger: what is installed, as a tag.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct TaggerSetting {
    /// The tag, with `{0}`, `{1}` for what the pattern catches.
    pub(crate) tag: Written<String>,
    /// A command in the image whose output is looked at.
    pub(crate) run: Option<Written<String>>,
    /// A regular expression; the whole output where it is not said.
    #[cfg_attr(test, schemars(rename = "match", with = "Option<String>"))]
    pub(crate) pattern: Option<Written<Pattern>>,
    /// A key of the image's `/etc/os-release`, in place of a command.
    pub(crate) os_release: Option<Written<String>>,
    /// A package whose version is read in the image's layers, in place of a command: `dpkg:python3`.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) package: Option<Written<PackageName>>,
    /// How long it may take.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) time_limit: Option<Written<Seconds>>,
}

/// A description: the output of commands under a heading.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case", deny_unknown_fields))]
pub(crate) struct DescriptionSetting {
    /// The heading.
    pub(crate) title: Written<String>,
    /// A command in the image whose output stands there as it is, before all others.
    pub(crate) bare: Option<Written<String>>,
    /// Commands in the image, each of which stands there with its output; one alone needs no list.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) run: Vec<Written<String>>,
    /// How long each may take.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) time_limit: Option<Written<Seconds>>,
}

/// An engine that builds.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct BuilderSetting {
    /// Its engine: `docker`, `podman`, `buildah`, `buildx:NAME`, `context:NAME`, `unix:///…`, `ssh://…`, `tcp://…`.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) engine: Option<Written<EngineAddress>>,
    /// The folder of `ca.pem`, `cert.pem` and `key.pem` that an engine at `tcp://…` is spoken to with.
    pub(crate) certificates: Option<Written<String>>,
    /// How many jobs it does at once.
    pub(crate) slots: Option<Written<u32>>,
    /// The platforms that it is given; all that it has where it is not said.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) platforms: Option<Vec<Written<Platform>>>,
    /// What else it has that images may need, such as `gpu`.
    pub(crate) labels: Vec<Written<String>>,
    /// How much room jobs may fill where it keeps images; what is free there where it is not said.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) disk: Option<Written<Bytes>>,
    /// What it costs a minute, for `polyarch simulate`.
    pub(crate) price: Option<Written<f64>>,
    /// How fast it is, in percent of an ordinary builder; as fast as it has been where it is not said.
    pub(crate) speed: Option<Written<u32>>,
}

/// Images that are written into files, one for each platform.
#[derive(Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct ExportSetting {
    /// Where it stands.
    #[cfg_attr(test, schemars(skip))]
    pub(crate) named: Written<()>,
    /// Which images, as `image` or `image:variant`; all where it is not said.
    pub(crate) images: Option<Vec<Written<String>>>,
    /// Which of their platforms; all where it is not said.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) platforms: Option<Vec<Written<Platform>>>,
    /// The name of a file, with `{image}`, `{variant}`, `{platform}`, `{suffix}` and `{tag}`.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) name: Option<Written<NameTemplate>>,
    /// The names that an image has inside of its file, with `{repository}`, `{tag}` and what `name` knows.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) references: Option<Vec<Written<ReferenceTemplate>>>,
    /// What `{tag}` is, with `{commit}` and `{date}`; the first tag of `common` where it is not said.
    pub(crate) tag: Option<Written<String>>,
    /// What `{suffix}` is, by platform; nothing for linux/amd64 and `-` with the platform's name for others.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub(crate) suffixes: BTreeMap<Platform, Written<String>>,
    /// What kind of file.
    pub(crate) format: Option<ArchiveFormat>,
    /// How it is compressed; as its name says, else with gzip for `docker` and not at all for `oci`.
    pub(crate) compress: Option<Compression>,
}

/// What kind of file images are written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case"))]
pub(crate) enum ArchiveFormat {
    /// An archive as `docker save` writes it, of one platform.
    Docker,
    /// An OCI image layout in a tar archive.
    Oci,
}

impl ArchiveFormat {
    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Oci => "oci",
        }
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "kebab-case"))]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
    /// With Zstandard.
    Zstd,
}

impl Compression {
    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What it adds to the name of a file.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}
