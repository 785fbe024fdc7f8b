//! Which files there will be: a pure function of the family, of what is asked for and of the records.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::{ArchiveFormat, Compression, NameTemplate, ReferenceTemplate, agree, file_name};
use crate::diag::{Diagnostic, Problems, Result};
use crate::family::{ExportStyle, Family, JobId, Recipe, Unit};
use crate::oci::{Digest, Platform, Reference, Tag};
use crate::publish::{PlatformImage, RunFacts, common_values, platform_image, render};
use crate::record::Passed;

/// The version of the bytes that are written: another one makes every file anew.
const ARCHIVE_VERSION: u32 = 1;
/// The platform whose files have no suffix, as those had that were there before there was a second platform.
const WITHOUT_SUFFIX: &str = "linux/amd64";
/// The tag of an image that gets no tag which is the same for all.
const LATEST: &str = "latest";

/// One file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// Its name below the folder of exports, with `/`; [`file_name`] has seen it.
    pub(crate) name: String,
    /// Image and variant.
    pub(crate) unit: Unit,
    /// The tag, with the variant before it where that is in tags.
    pub(crate) tag: Tag,
    /// What kind of file.
    pub(crate) format: ArchiveFormat,
    /// How it is compressed.
    pub(crate) compression: Compression,
    /// The names that the image has inside.
    pub(crate) references: Vec<String>,
    /// The images in it: one, or several where the format has indexes.
    pub(crate) images: BTreeMap<Platform, PlatformImage>,
}

impl Archive {
    /// A digest of all that its bytes depend on.
    pub(crate) fn made_of(&self) -> Digest {
        let mut text = format!("{ARCHIVE_VERSION}\n{}\n{}\n", self.format.name(), self.compression.name());
        for (platform, image) in &self.images {
            text.push_str(&format!("{platform} {}\n", image.manifest.digest));
        }
        for reference in &self.references {
            text.push_str(&format!("{reference}\n"));
        }
        Digest::of(text.as_bytes())
    }

    /// Its platforms, with commas between them.
    pub(crate) fn platforms(&self) -> String {
        self.images.keys().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, unit, format, compression, references, .. } = self;
        write!(f, "{name}  {unit}@{}  {}, {}", self.platforms(), format.name(), compression.name())?;
        references.iter().try_for_each(|reference| write!(f, "  {reference}"))
    }
}

/// What the command line says in place of the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// The names of the files.
    pub(crate) name: Option<NameTemplate>,
    /// The names inside of them; as configured where there are none.
    pub(crate) references: Vec<ReferenceTemplate>,
    /// The tag.
    pub(crate) tag: Option<Tag>,
    /// What kind of file.
    pub(crate) format: Option<ArchiveFormat>,
    /// How it is compressed.
    pub(crate) compress: Option<Compression>,
}

impl Overrides {
    /// A style with these instead.
    fn over(&self, style: &ExportStyle) -> ExportStyle {
        let mut style = style.clone();
        style.name = self.name.clone().or(style.name);
        style.format = self.format.or(style.format);
        style.compress = self.compress.or(style.compress);
        style.tag = self.tag.as_ref().map(|tag| tag.as_str().to_owned()).or(style.tag);
        if !self.references.is_empty() {
            style.references = Some(self.references.clone());
        }
        style
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked<'a> {
    /// Only these jobs; all that the configuration exports where it is not said.
    pub(crate) jobs: Option<&'a BTreeSet<JobId>>,
    /// They were chosen by the names of images, so that those are exported also where the configuration is silent.
    pub(crate) by_name: bool,
    /// Jobs whose records would stand if emulation were not refused.
    pub(crate) refused: BTreeSet<&'a JobId>,
    /// What is said in place of the configuration.
    pub(crate) overrides: Overrides,
}

/// The files that are to be written: those of the configuration, and images that were named, as if a bare `[[export]]`
/// named them.
///
/// # Errors
/// Where there is nothing to export, a job has not passed, names cannot be or two files have one name.
pub(crate) fn archives(
    family: &Family,
    asked: &Asked<'_>,
    passed: &BTreeMap<JobId, Passed>,
    facts: &RunFacts,
) -> Result<Vec<Archive>> {
    let lots = lots(family, asked);
    if lots.is_empty() {
        let problem = Diagnostic::request("there is nothing to export");
        return Err(problem
            .hint("name images: polyarch export IMAGE")
            .hint("or write `[[export]]` and `images = [\"IMAGE\"]` into polyarch.toml")
            .into());
    }
    let mut problems = missing(&lots, passed, &asked.refused);
    let mut found: Vec<Archive> = Vec::new();
    for (style, jobs) in &lots {
        let style = asked.overrides.over(style);
        let mut joined: BTreeMap<(Unit, String), usize> = BTreeMap::new();
        for job in jobs {
            let (Some(passed), Some(recipe)) = (passed.get(job), family.recipe(&job.unit)) else { continue };
            let archive = match archive(family, recipe, job, passed, &style, facts) {
                Ok(archive) => archive,
                Err(found) => {
                    problems.extend(found.iter().cloned());
                    continue;
                }
            };
            let key = (job.unit.clone(), archive.name.clone());
            match joined.get(&key).filter(|_| archive.format == ArchiveFormat::Oci) {
                Some(at) => found[*at].images.extend(archive.images),
                None => {
                    joined.insert(key, found.len());
                    found.push(archive);
                }
            }
        }
    }
    problems.extend(clashes(&found));
    problems.dedup();
    Problems::check(problems).map(|()| found)
}

/// Jobs that are written in one style, in the order of the family.
type Lot = (ExportStyle, Vec<JobId>);

fn lots(family: &Family, asked: &Asked<'_>) -> Vec<Lot> {
    let mut lots: Vec<Lot> = Vec::new();
    let chosen = asked.jobs;
    for export in &family.exports {
        let meant = |job: &JobId| {
            export.units.contains(&job.unit)
                && export.platforms.as_ref().is_none_or(|platforms| platforms.contains(&job.platform))
                && chosen.is_none_or(|chosen| chosen.contains(job))
        };
        lots.push((export.style.clone(), family.jobs().filter(meant).collect()));
    }
    let configured: BTreeSet<Unit> =
        lots.iter().flat_map(|(_, jobs)| jobs.iter().map(|job| job.unit.clone())).collect();
    let rest = |job: &JobId| {
        asked.by_name && chosen.is_some_and(|chosen| chosen.contains(job)) && !configured.contains(&job.unit)
    };
    lots.push((ExportStyle::default(), family.jobs().filter(rest).collect()));
    lots.retain(|(_, jobs)| !jobs.is_empty());
    lots
}

fn missing(lots: &[Lot], passed: &BTreeMap<JobId, Passed>, refused: &BTreeSet<&JobId>) -> Vec<Diagnostic> {
    let jobs: BTreeSet<&JobId> = lots.iter().flat_map(|(_, jobs)| jobs).collect();
    let missing = jobs.into_iter().filter(|job| !passed.contains_key(job));
    let told = missing.map(|job| {
        let problem = Diagnostic::request(format!("{job} is not built and tested as it is now"));
        match refused.contains(job) {
            true => problem
                .because("it, or an image that it stands on, was made by emulation, which is refused here")
                .hint("use it all the same: polyarch export --emulate=allow"),
            false => problem.hint(format!("build it: polyarch build {job}")),
        }
    });
    told.collect()
}

/// The file of one job.
fn archive(
    family: &Family,
    recipe: &Recipe,
    job: &JobId,
    passed: &Passed,
    style: &ExportStyle,
    facts: &RunFacts,
) -> Result<Archive> {
    let format = style.format.unwrap_or(ArchiveFormat::Docker);
    let promised = style.name.as_ref().and_then(NameTemplate::compression);
    let compression = style.compress.or(promised).unwrap_or(match format {
        ArchiveFormat::Docker => Compression::Gzip,
        // Its layers are compressed already.
        ArchiveFormat::Oci => Compression::None,
    });
    let tag = tag(recipe, style, facts)?;
    let values = Values { family, recipe, platform: &job.platform, style, tag: &tag };
    let name = match &style.name {
        Some(name) => {
            agree(name, Some(compression))?;
            name.fill(|value| values.of(value).replace('/', "-"))
        }
        None => values.usual_name(compression),
    };
    file_name(&name, &name)
        .map_err(|error| Diagnostic::request(format!("name the file of {job}")).because(error))?;
    let references = match &style.references {
        Some(references) => {
            references.iter().map(|reference| reference.fill(|value| values.of(value))).collect()
        }
        None => vec![format!("{}:{tag}", values.of("repository"))],
    };
    for reference in &references {
        reference.parse::<Reference>().map_err(|error| {
            Diagnostic::request(format!("name {job} inside of its file")).caused_by(&error)
        })?;
    }
    let images = BTreeMap::from([(job.platform.clone(), platform_image(passed))]);
    Ok(Archive { name, unit: job.unit.clone(), tag, format, compression, references, images })
}

/// The tag of an image: as it is said, else the first that every image gets.
fn tag(recipe: &Recipe, style: &ExportStyle, facts: &RunFacts) -> Result<Tag> {
    let value = match &style.tag {
        Some(template) if template.contains("{commit}") && facts.commit.is_none() => {
            let problem =
                Diagnostic::request(format!("the tag `{template}` wants a commit, and there is none"));
            return Err(problem
                .because("the family's files are in no Git repository")
                .hint("give a tag: polyarch export --tag TAG")
                .into());
        }
        Some(template) => render(recipe, template, facts.commit.as_deref(), &facts.date)?,
        None => common_values(recipe, facts)?.0.into_iter().next().unwrap_or_else(|| LATEST.to_owned()),
    };
    let text = format!("{}{value}", recipe.tag_prefix());
    text.parse().map_err(|error: crate::oci::Error| {
        Diagnostic::request(format!("name `{}` by the tag `{text}`", recipe.unit)).caused_by(&error).into()
    })
}

/// What the names in templates stand for.
struct Values<'a> {
    family: &'a Family,
    recipe: &'a Recipe,
    platform: &'a Platform,
    style: &'a ExportStyle,
    tag: &'a Tag,
}

impl Values<'_> {
    fn of(&self, name: &str) -> String {
        let unit = &self.recipe.unit;
        match name {
            "image" => unit.image.to_string(),
            "variant" => unit.variant.as_ref().map_or_else(String::new, ToString::to_string),
            "platform" => self.family.tags.platform_name(self.platform),
            "suffix" => self.suffix(),
            "tag" => self.tag.to_string(),
            "repository" => match self.family.registry.as_deref() {
                // As engines show it: images of Docker Hub go without its name.
                None | Some("docker.io") => self.recipe.repository.to_string(),
                Some(registry) => format!("{registry}/{}", self.recipe.repository),
            },
            // Templates were checked when they were read.
            _ => String::new(),
        }
    }

    fn suffix(&self) -> String {
        match self.style.suffixes.get(self.platform) {
            Some(suffix) => suffix.clone(),
            None if self.platform.to_string() == WITHOUT_SUFFIX => String::new(),
            None => format!("-{}", self.of("platform")),
        }
    }

    /// A variant with a repository of its own is not in its tags, and so stands in the name.
    fn usual_name(&self, compression: Compression) -> String {
        let image = self.of("image").replace('/', "-");
        let variant = match (&self.recipe.unit.variant, self.recipe.tag_prefix()) {
            (Some(variant), "") => format!("-{variant}"),
            _ => String::new(),
        };
        format!("{image}{variant}-{}{}.tar{}", self.tag, self.suffix(), compression.extension())
    }
}

/// Files with one name, also where names differ in case alone, which some file systems do not tell apart; and a file
/// that is the folder of another.
fn clashes(archives: &[Archive]) -> Vec<Diagnostic> {
    let mut owners: BTreeMap<String, &Archive> = BTreeMap::new();
    let mut found = Vec::new();
    for archive in archives {
        if let Some(first) = owners.insert(archive.name.to_lowercase(), archive) {
            let [first, second] =
                [first, archive].map(|archive| format!("{}@{}", archive.unit, archive.platforms()));
            let problem = Diagnostic::request(format!("two exports have one name, `{}`", archive.name));
            let hint = "put `{image}`, `{suffix}` or `{platform}` into `name`, or name the image in one `[[export]]`";
            found.push(problem.because(format!("{first} and {second} make it")).hint(hint));
        }
    }
    for archive in archives {
        let folders = archive.name.match_indices('/').map(|(at, _)| archive.name[..at].to_lowercase());
        for other in folders.filter_map(|folder| owners.get(&folder)) {
            let message = format!("the file `{}` would be the folder of `{}`", other.name, archive.name);
            found.push(Diagnostic::request(message).hint("give one of them another name"));
        }
    }
    found
}
