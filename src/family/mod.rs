//! What there is: images, variants, platforms, the edges between them, and their checks.
//!
//! A [`Family`] is acyclic and complete because only `resolve` makes one.

mod checks;
mod clash;
pub(crate) mod discover;
mod downstream;
mod draft;
mod immutable;
mod exports;
mod meaning;
mod mirror;
mod mirror_registries;
mod name;
mod order;
mod publishing;
mod read;
mod remote;
mod resolve;
mod starter;
mod tag_length;
mod unused;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{FamilyFile, PackageName, PathPattern, TagPattern};
use crate::diag::{Diagnostic, Place};
use crate::dockerfile::{Dockerfile, How, Needs};
use crate::oci::{Platform, Reference, Repository};

pub(crate) use crate::config::SCOPES;
pub(crate) use discover::Found;
pub(crate) use exports::{Export, ExportStyle};
pub(crate) use mirror::Mirror;
pub(crate) use mirror_registries::MirrorRegistry;
pub(crate) use name::{ImageName, JobId, Unit, VariantName};
pub(crate) use publishing::{Differences, PublishPolicy, Together, by_repository};
pub(crate) use remote::unpinned_in_trigger;
pub(crate) use resolve::Sources;
pub(crate) use starter::starter;
pub(crate) use tag_length::COMMIT_LENGTH;

/// All images of one configuration file, or of one folder of Dockerfiles.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// What to call it: the name in the configuration, else that of its folder.
    pub(crate) name: String,
    /// Where it is published unless told otherwise: `host[:port]`; `None` is the embedded registry.
    pub(crate) registry: Option<String>,
    /// How tags are made of values.
    pub(crate) tags: TagPolicy,
    /// What is published together.
    pub(crate) publish: PublishPolicy,
    /// Whether engines' caches of layers are kept in the store.
    pub(crate) layer_cache: bool,
    /// Whether mounts of caches are kept in the store, and how.
    pub(crate) cache_mounts: Option<CacheMounts>,
    /// How many bytes of a parent must come from a store at a registry in a second, else it is built where that is quicker.
    pub(crate) parent_floor_bytes: Option<u64>,
    /// What is written into files.
    pub(crate) exports: Vec<Export>,
    /// The platform was not declared but taken from the machine.
    pub(crate) platform_assumed: bool,
    /// Known problems that stop nothing.
    pub(crate) warnings: Vec<Diagnostic>,
    /// Every recipe, by its unit.
    pub(crate) recipes: BTreeMap<Unit, Recipe>,
    /// Every copy of an image elsewhere, by its unit; none of these has a recipe.
    pub(crate) mirrors: BTreeMap<Unit, Mirror>,
    /// Every unit that has a recipe, parents before children, else by name.
    pub(crate) order: Vec<Unit>,
}

/// How mounts of caches are kept in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheMounts {
    /// How large one may be, in bytes; a larger one is not kept.
    pub(crate) limit_bytes: u64,
    /// What removes what is not worth keeping.
    pub(crate) prune: Option<String>,
    /// How many bytes must come in a second, else it is done without where building is quicker.
    pub(crate) floor_bytes: Option<u64>,
}

impl CacheMounts {
    /// What a configuration says of them.
    fn of(file: &FamilyFile) -> Option<Self> {
        Some(Self {
            limit_bytes: file.cache_mounts.as_ref()?.value.0,
            prune: file.cache_prune.as_ref().map(|prune| prune.value.clone()),
            floor_bytes: file.cache_floor.as_ref().map(|floor| floor.value.0),
        })
    }
}

impl Family {
    /// Every recipe, parents before children.
    pub(crate) fn recipes(&self) -> impl DoubleEndedIterator<Item = &Recipe> {
        self.order.iter().map(|unit| &self.recipes[unit])
    }

    /// The recipe of a unit.
    pub(crate) fn recipe(&self, unit: &Unit) -> Option<&Recipe> {
        self.recipes.get(unit)
    }

    /// Every job, parents before children, platforms in order.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.recipes().flat_map(|recipe| recipe.platforms.keys().map(|platform| recipe.unit.on(platform)))
    }

    /// The units that a unit stands on or copies from, on any platform.
    pub(crate) fn parents(&self, unit: &Unit) -> BTreeSet<&Unit> {
        let builds = self.recipes.get(unit).into_iter().flat_map(|recipe| recipe.platforms.values());
        builds.flat_map(Build::parents).collect()
    }

    /// Whether a unit only tries out what it stands on.
    pub(crate) fn is_downstream(&self, unit: &Unit) -> bool {
        self.recipe(unit).is_some_and(|recipe| recipe.downstream)
    }

    /// The jobs that a job waits for although it uses nothing of them: all other platforms of those images that it uses
    /// and that have a barrier.
    pub(crate) fn beside(&self, job: &JobId, barrier: Barrier) -> BTreeSet<JobId> {
        let build = self.recipe(&job.unit).and_then(|recipe| recipe.platforms.get(&job.platform));
        let parents = build.into_iter().flat_map(Build::parents).filter_map(|parent| self.recipe(parent));
        let held = parents.filter(|parent| parent.barrier || barrier == Barrier::Everywhere);
        let others = |parent: &Recipe| {
            let platforms = parent.platforms.keys().filter(|platform| **platform != job.platform);
            platforms.map(|platform| parent.unit.on(platform)).collect::<Vec<_>>()
        };
        held.flat_map(others).collect()
    }

    /// A unit and all that stand on it, parents before children.
    pub(crate) fn with_descendants(&self, unit: &Unit) -> Vec<&Unit> {
        let mut found = BTreeSet::from([unit]);
        for next in &self.order {
            if self.parents(next).iter().any(|parent| found.contains(parent)) {
                found.insert(next);
            }
        }
        self.order.iter().filter(|next| found.contains(next)).collect()
    }

    /// The platforms of the whole family.
    pub(crate) fn platforms(&self) -> BTreeSet<&Platform> {
        self.recipes.values().flat_map(|recipe| recipe.platforms.keys()).collect()
    }

    /// The same without some jobs; an image that has no other keeps its recipe, for no platform.
    pub(crate) fn without(&self, jobs: &BTreeSet<JobId>) -> Self {
        let mut family = self.clone();
        for job in jobs {
            if let Some(recipe) = family.recipes.get_mut(&job.unit) {
                recipe.platforms.remove(&job.platform);
            }
        }
        family
    }
}

/// Where what stands on an image waits for all platforms of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// At the images of which the configuration says so.
    #[default]
    Said,
    /// At every image.
    Everywhere,
}

/// How one image variant is built, checked, tagged and named.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Image and variant.
    pub(crate) unit: Unit,
    /// The repository that it is published in, without the registry: `owner/image`.
    pub(crate) repository: Repository,
    /// The folder that is the build context, relative to the family's folder.
    pub(crate) context: PathBuf,
    /// The Dockerfile, relative to the family's folder.
    pub(crate) dockerfile: PathBuf,
    /// What stands in it, without byte order mark.
    pub(crate) text: String,
    /// The same as it was read.
    pub(crate) file: Arc<Dockerfile>,
    /// The stage to build; the last where `None`.
    pub(crate) target: Option<String>,
    /// Build arguments, of the family, the image and the command line, as they reach this build.
    pub(crate) args: BTreeMap<String, String>,
    /// Labels to set.
    pub(crate) labels: BTreeMap<String, String>,
    /// Secrets to mount, by id.
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// SSH agents or keys to mount, as `default` or `id=path`.
    pub(crate) ssh: Vec<String>,
    /// What it takes on each platform.
    pub(crate) platforms: BTreeMap<Platform, Build>,
    /// Checks, those of the root first.
    pub(crate) checks: Vec<Check>,
    /// Executables of other machines that it is meant to have, what it stands on included.
    pub(crate) foreign: Vec<PathPattern>,
    /// Templates of the tags that every platform's image and the merged image get: `latest`, `{commit}`.
    pub(crate) common_tags: Vec<String>,
    /// It only tries out what it stands on: it is never published, and its failure fails no run.
    pub(crate) downstream: bool,
    /// After a failure on one platform nothing of it begins on another.
    pub(crate) fail_fast: bool,
    /// What stands on it waits for all platforms of it.
    pub(crate) barrier: bool,
    /// A build of it that fails by itself is tried once more without the engine's cache.
    pub(crate) retry_without_cache: bool,
    /// What a build takes of its builder, on each platform.
    pub(crate) terms: BTreeMap<Platform, Terms>,
    /// How long a build of it may take that finds a cache, in seconds; any time where `None`.
    pub(crate) cache_budget_seconds: Option<u64>,
    /// How old an image of it may be that is used again, in seconds; any age where `None`.
    pub(crate) fresh_for_seconds: Option<u64>,
    /// What [`Recipe::tag_prefix`] gives.
    pub(crate) tag_prefix: String,
}

impl Recipe {
    /// What stands before each of its tags: `cuda-` for a variant that shares its image's repository, else nothing.
    /// A platform's tag is made of the tag with it: `x86_64-cuda-latest`.
    pub(crate) fn tag_prefix(&self) -> &str {
        &self.tag_prefix
    }
}

/// What a recipe needs on one platform.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    /// All that its Dockerfile reads there.
    pub(crate) needs: Needs,
    /// Every image reference of the Dockerfile, with its arguments filled in, and what it means.
    pub(crate) uses: BTreeMap<String, Use>,
    /// The reference (a key of `uses`) that the target stage stands on; `None` for `scratch`.
    pub(crate) base: Option<String>,
    /// The `ONBUILD` triggers that its parents in the family leave to it. What they read of the context cannot be
    /// told from its own Dockerfile, so that where there are any the whole context counts.
    pub(crate) triggers: Vec<String>,
}

impl Build {
    /// Units of the family that it uses.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &Unit> {
        self.uses.values().filter_map(|meant| match meant {
            Use::Family(unit) => Some(unit),
            Use::Outside(_) => None,
        })
    }

    /// Images from outside that it uses.
    pub(crate) fn outside(&self) -> impl Iterator<Item = &Reference> {
        self.uses.values().filter_map(|meant| match meant {
            Use::Family(_) => None,
            Use::Outside(reference) => Some(reference),
        })
    }

    /// The platform that a reference is wanted for: what its `FROM --platform=` names, else the build's own.
    pub(crate) fn asked_platform(&self, written: &str, own: &Platform) -> Platform {
        let named = self.needs.references.iter().filter(|used| used.reference == written);
        let named = named.filter_map(|used| used.platform.as_ref()?.parse::<Platform>().ok()).next();
        named.unwrap_or_else(|| own.clone())
    }

    /// Images from outside that a stage stands on, by what is written: their `ONBUILD` triggers run in this build.
    pub(crate) fn outside_stages(&self) -> impl Iterator<Item = (&str, &Reference)> {
        let from = self.needs.references.iter().filter(|used| matches!(used.how, How::From { .. }));
        from.filter_map(|used| match self.uses.get(&used.reference)? {
            Use::Family(_) => None,
            Use::Outside(reference) => Some((used.reference.as_str(), reference)),
        })
    }

    /// The unit of the family that its image stands on, whose layers it shares.
    pub(crate) fn stands_on(&self) -> Option<&Unit> {
        match self.uses.get(self.base.as_ref()?)? {
            Use::Family(unit) => Some(unit),
            Use::Outside(_) => None,
        }
    }
}

/// What a reference in a Dockerfile means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// An image of the family.
    Family(Unit),
    /// An image from elsewhere.
    Outside(Reference),
}

/// Where the value of a build secret comes from. The value itself is never kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// A variable of the environment.
    Environment(String),
    /// A file, relative to the family's folder.
    File(PathBuf),
}

/// One thing that is run against a built image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// The unit that declared it; children inherit it.
    pub(crate) declared_by: Unit,
    /// What it does.
    pub(crate) kind: CheckKind,
    /// How long it may take, in seconds.
    pub(crate) time_limit_seconds: u64,
}

/// What a check does with an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CheckKind {
    /// It passes or fails.
    Test {
        /// What to run, and where.
        action: Action,
        /// A text that must stand in what it writes to standard output.
        stdout: Option<String>,
    },
    /// It makes a tag of what is installed.
    Tagger {
        /// The tag, with `{0}`, `{1}` for what the pattern catches.
        template: String,
        /// Where the value comes from.
        source: TagSource,
    },
    /// It says what is in the image.
    Description {
        /// A heading.
        title: String,
        /// The commands whose outputs are the description, in order; at least one.
        pieces: Vec<Piece>,
    },
}

/// One command of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The command.
    pub(crate) run: String,
    /// Its output stands there as it is, without the command.
    pub(crate) bare: bool,
}

/// A command, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// In a container of the image, by its shell.
    Image(String),
    /// On this machine, by `sh`, with the image's reference in `POLYARCH_IMAGE`.
    Host {
        /// The command.
        run: String,
        /// What it reads beside the files that it names.
        files: Vec<NamedFile>,
    },
}

/// A file or folder, and where it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedFile {
    /// Its path, relative to the family's folder.
    pub(crate) path: PathBuf,
    /// Where the configuration names it.
    pub(crate) place: Place,
}

/// Where the value of a tag comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TagSource {
    /// What a command in the image prints; the pattern's groups are `{0}`, `{1}`, or the whole output trimmed.
    Run {
        /// The command.
        run: String,
        /// A regular expression with groups.
        pattern: Option<String>,
    },
    /// The version of a package, read in the image's layers; the pattern as for a command.
    Package {
        /// The package.
        package: PackageName,
        /// A regular expression with groups.
        pattern: Option<String>,
    },
    /// A key of the image's `/etc/os-release`.
    OsRelease(String),
}

/// How tags are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagPolicy {
    /// The template of a platform's tag, with `{platform}` and `{tag}`.
    pub(crate) platform: String,
    /// How platforms are named in tags; those not named stand as `linux-arm-v7` without their system.
    pub(crate) names: BTreeMap<Platform, String>,
    /// The template of the tag that a nightly build moves for each platform, with `{platform}`.
    pub(crate) nightly: String,
    /// Tags that never change once they are public: [`TagPolicy::immutable_by`].
    pub(crate) immutable: Vec<TagPattern>,
    /// What happens with a tag that differs between platforms.
    pub(crate) divergence: Divergence,
    /// It is a release: images get the tags of that, and none of taggers, which stay where the branch has moved them.
    pub(crate) is_release: bool,
}

impl TagPolicy {
    /// The tag of one platform's image.
    pub(crate) fn platform_tag(&self, platform: &Platform, tag: &str) -> String {
        self.platform.replace("{platform}", &self.platform_name(platform)).replace("{tag}", tag)
    }

    /// The tag that a nightly build moves for one platform.
    pub(crate) fn nightly_tag(&self, platform: &Platform) -> String {
        self.nightly.replace("{platform}", &self.platform_name(platform))
    }

    /// How a platform is named in tags.
    pub(crate) fn platform_name(&self, platform: &Platform) -> String {
        let plain = || platform.slug().split_once('-').map_or_else(String::new, |(_, rest)| rest.to_owned());
        self.names.get(platform).cloned().unwrap_or_else(plain)
    }
}

impl Default for TagPolicy {
    fn default() -> Self {
        Self {
            platform: "{platform}-{tag}".to_owned(),
            names: BTreeMap::new(),
            nightly: "nightly-{platform}".to_owned(),
            immutable: Vec::new(),
            divergence: Divergence::Withhold,
            is_release: false,
        }
    }
}

/// What happens with a tag that differs between platforms: law 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Divergence {
    /// The merged tag stays where it is.
    Withhold,
    /// Nothing is published: exit code 4.
    Fail,
    /// The merged tag points at an index of the platforms that agree with each other.
    Partial,
}

/// What a build takes of its builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How long it may take, in seconds.
    pub(crate) time_limit_seconds: u64,
    /// How much room it wants where the builder keeps images, in bytes.
    pub(crate) disk_bytes: u64,
    /// What the builder must have.
    pub(crate) labels: BTreeSet<String>,
    /// Whether it may be built by emulation.
    pub(crate) emulation: Emulation,
}

impl Default for Terms {
    fn default() -> Self {
        let (time_limit_seconds, labels) = (draft::BUILD_LIMIT_SECONDS, BTreeSet::new());
        Self { time_limit_seconds, disk_bytes: 0, labels, emulation: Emulation::Refused }
    }
}

/// Whether a platform may be built on a machine of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Emulation {
    /// Where no builder has it natively; every report says so.
    Allowed,
    /// Never: a platform without a native builder is an error before anything is built.
    #[default]
    Refused,
    /// Wherever one builder is to build all platforms of an image.
    Always,
}

impl Emulation {
    /// Whether what was made by emulation may stand.
    pub(crate) fn is_allowed(self) -> bool {
        self != Self::Refused
    }
}
