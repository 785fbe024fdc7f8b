//! What would be published, as a pure function of the family and of the records: one index an image, and its tags.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diag::{Diagnostic, Problems, Result};
use crate::family::{Family, JobId, Recipe, TagPolicy, Unit};
use crate::oci::{Descriptor, Digest, Document, ImageIndex, MediaType, Platform, Repository, Tag};
use crate::record::Passed;

use super::differences::{self, VersionDifference};
use super::fit;
use super::mirrored::Elsewhere;
use super::tags::{self, ImageTags, RunFacts, WithheldTag};

/// Everything that a publication brings, parents before children, and what it leaves out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Release {
    /// Images that are complete.
    pub(crate) images: Vec<ReleaseImage>,
    /// Images that are not published, and why.
    pub(crate) withheld: Vec<Withheld>,
    /// Merged tags that stay where they are, and why.
    pub(crate) tags_withheld: Vec<WithheldTag>,
    /// What has other versions on other platforms of the same image.
    pub(crate) differences: Vec<VersionDifference>,
    /// What a person should know.
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Release {
    /// What says of a tag that it never changes once it is public, if anything does: a pattern of the configuration.
    pub(crate) fn immutable_by(&self, repository: &Repository, tag: &Tag) -> Option<&str> {
        let of_repository = self.images.iter().filter(|image| image.repository == *repository);
        of_repository.filter_map(|image| image.immutable.get(tag)).next().map(String::as_str)
    }

    /// The same under other names of repositories, as a mirror has them; those without one are left out.
    pub(crate) fn renamed(&self, names: &BTreeMap<Repository, Repository>) -> Self {
        let mut renamed = self.clone();
        renamed.images.retain_mut(|image| rename(&mut image.repository, names));
        renamed.tags_withheld.retain_mut(|tag| rename(&mut tag.repository, names));
        renamed
    }

    /// How many tags it writes.
    pub(crate) fn tag_count(&self) -> usize {
        self.images.iter().map(|image| image.tags.len()).sum()
    }
}

/// One complete image.
#[derive(Clone, Debug)]
pub(crate) struct ReleaseImage {
    /// Image and variant.
    pub(crate) unit: Unit,
    /// Where it goes.
    pub(crate) repository: Repository,
    /// The images of the family that it was built from, on whichever platform.
    pub(crate) parents: BTreeSet<Unit>,
    /// Its platforms.
    pub(crate) platforms: BTreeMap<Platform, PlatformImage>,
    /// The index of all platforms. Of a copy it is what the image elsewhere is, which may have no platforms.
    pub(crate) index: Document,
    /// Indexes of some of its platforms, where the policy allows them.
    pub(crate) partial: Vec<Document>,
    /// Every tag and what it points at.
    pub(crate) tags: BTreeMap<Tag, Digest>,
    /// Those of its tags that never change once they are public, and the pattern that says so.
    pub(crate) immutable: BTreeMap<Tag, String>,
    /// The image elsewhere that it is a copy of; none of an image that was built.
    pub(crate) copy_of: Option<Arc<Elsewhere>>,
}

/// One platform of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlatformImage {
    /// Its manifest, as it stands in the index.
    pub(crate) manifest: Descriptor,
    /// Its configuration, which the record says was tested.
    pub(crate) config: Digest,
    /// The images of the family that it was built from, by image and variant.
    pub(crate) parents: BTreeMap<String, Digest>,
}

/// An image that is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Withheld {
    /// Image and variant.
    pub(crate) unit: Unit,
    /// Why.
    pub(crate) reason: String,
}

/// Gives a repository its other name, if it has one.
fn rename(repository: &mut Repository, names: &BTreeMap<Repository, Repository>) -> bool {
    let name = names.get(repository).cloned();
    let found = name.is_some();
    repository.clone_from(&name.unwrap_or_else(|| repository.clone()));
    found
}

/// Joins the platforms of every chosen image whose declared platforms have all passed.
///
/// `planned` are the jobs that were to be done: of any other it is said that it was not selected. An image that lacks a
/// platform is withheld, and so is one that was built on an image that is not published by
/// this release though it was chosen: a published child stands on a published parent.
pub(crate) fn assemble(
    family: &Family,
    chosen: &BTreeSet<Unit>,
    planned: &BTreeSet<JobId>,
    passed: &BTreeMap<JobId, Passed>,
    facts: &RunFacts,
) -> Result<Release> {
    let mut release = Release::default();
    let mut problems = Vec::new();
    let mut without_commit = BTreeMap::<String, BTreeSet<Unit>>::new();
    for recipe in family.recipes().filter(|recipe| chosen.contains(&recipe.unit)) {
        let unit = recipe.unit.clone();
        let platforms = match complete(recipe, planned, passed, &release) {
            Ok(platforms) => platforms,
            Err(reason) => {
                release.withheld.push(Withheld { unit, reason });
                continue;
            }
        };
        let found = differences::recorded(recipe, &platforms);
        release.differences.extend(differences::differences(&recipe.unit, &found));
        match tags::of_image(recipe, &platforms, &family.tags, facts) {
            Ok(tags) => {
                for template in &tags.without_commit {
                    without_commit.entry(template.clone()).or_default().insert(recipe.unit.clone());
                }
                join(recipe, &platforms, tags, &family.tags, &mut release, &mut problems);
            }
            Err(found) => problems.extend(found.iter().cloned()),
        }
    }
    release.warnings.extend(left_out(&without_commit));
    problems.extend(clashes(&release));
    Problems::check(problems).map(|()| release)
}

/// One warning for all tags that want a commit where there is none.
fn left_out(without_commit: &BTreeMap<String, BTreeSet<Unit>>) -> Option<Diagnostic> {
    let units: BTreeSet<&Unit> = without_commit.values().flatten().collect();
    let of = match units.len() {
        1 => format!("`{}`", units.first()?),
        several => format!("{several} images"),
    };
    let templates: Vec<String> = without_commit.keys().map(|template| format!("`{template}`")).collect();
    let (tags, verb) = if templates.len() == 1 { ("tag", "is") } else { ("tags", "are") };
    let message = format!("{tags} {} of {of} {verb} left out", templates.join(", "));
    let why = "there is no commit: the family's files are in no Git repository";
    (!units.is_empty()).then(|| Diagnostic::warning(message).because(why))
}

/// The records of all declared platforms, or the reason why the image stays away.
fn complete<'a>(
    recipe: &'a Recipe,
    planned: &BTreeSet<JobId>,
    passed: &'a BTreeMap<JobId, Passed>,
    so_far: &Release,
) -> Result<BTreeMap<&'a Platform, &'a Passed>, String> {
    let job = |platform| recipe.unit.on(platform);
    let missing = recipe.platforms.keys().filter(|platform| !passed.contains_key(&job(platform)));
    let (tried, passed_over): (Vec<&Platform>, Vec<&Platform>) =
        missing.partition(|platform| planned.contains(&job(platform)));
    let reasons = [
        lacking(&tried, ["has not passed", "have not passed"]),
        lacking(
            &passed_over,
            [
                "was not selected and no record stands for it",
                "were not selected and no records stand for them",
            ],
        ),
    ];
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    if !reasons.is_empty() {
        return Err(reasons.join("; "));
    }
    let records: BTreeMap<&Platform, &Passed> = { recipe.platforms.keys() }
        .filter_map(|platform| Some((platform, passed.get(&job(platform))?)))
        .collect();
    for (platform, record) in &records {
        if let Some(reason) = fit::misfit(recipe, platform, record) {
            return Err(reason);
        }
        stands_on_published(platform, record, so_far)?;
    }
    Ok(records)
}

/// What is said of some platforms, in words for one and for several.
fn lacking(platforms: &[&Platform], words: [&str; 2]) -> Option<String> {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| format!("{} {}", names.join(" and "), words[usize::from(names.len() > 1)]))
}

/// A parent that this release was to bring must be brought, and be the one that the child was built from.
fn stands_on_published(platform: &Platform, record: &Passed, so_far: &Release) -> Result<(), String> {
    for (parent, digest) in &record.image.parents {
        if so_far.withheld.iter().any(|withheld| withheld.unit.to_string() == *parent) {
            return Err(format!("it was built from `{parent}`, which is withheld"));
        }
        let published = so_far.images.iter().find(|image| image.unit.to_string() == *parent);
        let Some(image) = published.and_then(|image| image.platforms.get(platform)) else { continue };
        if image.manifest.digest != *digest {
            return Err(format!(
                "{platform} was built from another `{parent}` ({}) than is published ({})",
                digest.short(),
                image.manifest.digest.short()
            ));
        }
    }
    Ok(())
}

/// One image with its index and its tags; two meanings of one tag are a problem.
fn join(
    recipe: &Recipe,
    records: &BTreeMap<&Platform, &Passed>,
    tags: ImageTags,
    policy: &TagPolicy,
    release: &mut Release,
    problems: &mut Vec<Diagnostic>,
) {
    let platforms: BTreeMap<Platform, PlatformImage> =
        records.iter().map(|(platform, passed)| ((*platform).clone(), platform_image(passed))).collect();
    let index = index_of(platforms.values());
    let mut image = ReleaseImage {
        unit: recipe.unit.clone(),
        repository: recipe.repository.clone(),
        parents: records
            .values()
            .flat_map(|passed| passed.image.parents.keys())
            .filter_map(|parent| parent.parse().ok())
            .collect(),
        platforms,
        index,
        partial: Vec::new(),
        tags: BTreeMap::new(),
        immutable: BTreeMap::new(),
        copy_of: None,
    };
    let mut owners: BTreeMap<Tag, String> = BTreeMap::new();
    let mut add = |tag: Tag, digest: Digest, owner: String, into: &mut BTreeMap<Tag, Digest>| {
        let first = owners.entry(tag.clone()).or_insert_with(|| owner.clone());
        match into.entry(tag) {
            Entry::Occupied(held) if *held.get() != digest => {
                problems.push(clash(&image.repository, held.key(), first, &owner));
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => drop(free.insert(digest)),
        }
    };
    for (tag, platform) in tags.platform {
        let digest = image.platforms[&platform].manifest.digest.clone();
        add(tag, digest, format!("`{}`", recipe.unit.on(&platform)), &mut image.tags);
    }
    for (tag, makers) in tags.merged {
        let whole = makers.len() == image.platforms.len();
        let made = index_of(makers.iter().map(|platform| &image.platforms[platform]));
        add(tag, made.digest().clone(), format!("the merged image `{}`", recipe.unit), &mut image.tags);
        if !whole && !image.partial.contains(&made) {
            image.partial.push(made);
        }
    }
    let immutable = image.tags.keys().filter_map(|tag| {
        let pattern = policy.immutable_by(tag.as_str(), recipe)?;
        Some((tag.clone(), pattern.to_string()))
    });
    image.immutable = immutable.collect();
    release.tags_withheld.extend(tags.withheld);
    release.images.push(image);
}

/// The image of a record as an index names it.
pub(crate) fn platform_image(passed: &Passed) -> PlatformImage {
    let record = &passed.image;
    let mut manifest = Descriptor::new(MediaType::MANIFEST, record.image.clone(), record.size);
    manifest.platform = Some(record.platform.clone());
    PlatformImage { manifest, config: record.config.clone(), parents: record.parents.clone() }
}

/// An index of platform images in the order of their platforms: same manifests, same bytes.
pub(crate) fn index_of<'a>(platforms: impl Iterator<Item = &'a PlatformImage>) -> Document {
    Document::of_index(&ImageIndex::new(platforms.map(|platform| platform.manifest.clone()).collect()))
}

/// Tags that two images of one repository both claim.
pub(super) fn clashes(release: &Release) -> Vec<Diagnostic> {
    let mut owners: BTreeMap<(&Repository, &Tag), &Unit> = BTreeMap::new();
    let mut found = Vec::new();
    for image in &release.images {
        for tag in image.tags.keys() {
            match owners.entry((&image.repository, tag)) {
                Entry::Occupied(first) => {
                    let (first, second) = (format!("`{}`", first.get()), format!("`{}`", image.unit));
                    found.push(clash(&image.repository, tag, &first, &second));
                }
                Entry::Vacant(free) => drop(free.insert(&image.unit)),
            }
        }
    }
    found
}

fn clash(repository: &Repository, tag: &Tag, first: &str, second: &str) -> Diagnostic {
    Diagnostic::request(format!("{first} and {second} both make the tag `{repository}:{tag}`"))
        .hint("give one of them another tag, or put `{platform}` into `[tags] platform`")
}
