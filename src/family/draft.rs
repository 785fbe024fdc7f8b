//! Match what was found with what was configured: one draft a unit, before its Dockerfile is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::discover::{self, Discovered, given};
use super::{Emulation, ImageName, SCOPES, Sources, Terms, Unit, VariantName};
use crate::config::{Emulate, FamilyFile, Glob, ImageSetting, Inside, Target, TermsSetting, Written};
use crate::diag::{Diagnostic, Place, did_you_mean};
use crate::oci::{Platform, Repository};

/// How long a build may take where nobody says: six hours, as CI services have it.
pub(super) const BUILD_LIMIT_SECONDS: u64 = 6 * 3600;

/// A unit with its files and everything that is configured for it.
pub(super) struct Draft<'a> {
    pub(super) unit: Unit,
    pub(super) context: PathBuf,
    pub(super) dockerfile: PathBuf,
    pub(super) text: &'a str,
    /// What is said of its image, and then of its variant.
    pub(super) settings: Vec<&'a ImageSetting>,
    pub(super) repository: Repository,
    pub(super) tag_prefix: String,
}

impl Draft<'_> {
    /// The last setting that says something.
    pub(super) fn said<T>(&self, what: impl Fn(&ImageSetting) -> Option<&T>) -> Option<&T> {
        self.settings.iter().rev().find_map(|setting| what(setting))
    }

    /// The platforms said for it, for its image, or for the family; the machine's own where none is.
    pub(super) fn platforms(&self, sources: &Sources) -> BTreeSet<Platform> {
        let own = self.said(|setting| setting.platforms.as_ref());
        let said = own.or(sources.file.as_ref().and_then(|file| file.platforms.as_ref()));
        let all = said.map(|said| said.iter().map(|platform| platform.value.clone()).collect());
        all.unwrap_or_else(|| BTreeSet::from([sources.machine.clone()]))
    }

    /// Where its platforms are written, if they are.
    pub(super) fn platforms_place(&self, file: Option<&FamilyFile>) -> Option<Place> {
        let file = file?;
        let own = self.said(|setting| setting.platforms.as_ref());
        own.or(file.platforms.as_ref()).and_then(|said| said.first()).map(|first| file.place(first))
    }

    /// Where it is configured, else its Dockerfile.
    pub(super) fn place(&self, file: Option<&FamilyFile>) -> Place {
        let named = self.settings.last().zip(file).map(|(setting, file)| file.place(&setting.named));
        named.unwrap_or_else(|| Place::file(&self.dockerfile))
    }

    /// Whether its failure fails nothing, and where that is written.
    pub(super) fn downstream(&self) -> Option<&Written<bool>> {
        self.said(|setting| setting.downstream.as_ref()).filter(|said| said.value)
    }

    /// Whether after a failure on one platform nothing of it begins on another.
    pub(super) fn fails_fast(&self) -> bool {
        self.said(|setting| setting.fail_fast.as_ref()).is_some_and(|said| said.value)
    }

    /// Whether what stands on it waits for all platforms of it.
    pub(super) fn has_barrier(&self, file: Option<&FamilyFile>) -> bool {
        let own = self.said(|setting| setting.barrier.as_ref());
        own.or(file.and_then(|file| file.barrier.as_ref())).is_some_and(|said| said.value)
    }

    /// How long a build of it may take that finds a cache, in seconds.
    pub(super) fn cache_budget_seconds(&self, file: Option<&FamilyFile>) -> Option<u64> {
        let own = self.said(|setting| setting.cache_budget.as_ref());
        own.or(file.and_then(|file| file.cache_budget.as_ref())).map(|said| said.value.0)
    }

    /// How old an image of it may be that is used again, in seconds.
    pub(super) fn fresh_for_seconds(&self, file: Option<&FamilyFile>) -> Option<u64> {
        let own = self.said(|setting| setting.fresh_for.as_ref());
        own.or(file.and_then(|file| file.fresh_for.as_ref())).map(|said| said.value.0)
    }

    /// Whether a build that fails is tried once more without the engine's cache.
    pub(super) fn retries_without_cache(&self) -> bool {
        self.said(|setting| setting.retry_without_cache.as_ref()).is_some_and(|said| said.value)
    }

    /// What it takes of its builder on a platform: what is said of that, else of it, else of its image, else of the
    /// family.
    pub(super) fn terms(&self, platform: &Platform, file: Option<&FamilyFile>) -> Terms {
        let emulate = self.term(platform, |terms| terms.emulate.as_ref()).copied();
        Terms {
            time_limit_seconds: self
                .term(platform, |terms| terms.time_limit.as_ref())
                .map_or(BUILD_LIMIT_SECONDS, |said| said.value.0),
            disk_bytes: self.term(platform, |terms| terms.disk.as_ref()).map_or(0, |said| said.value.0),
            labels: self
                .term(platform, |terms| terms.needs.as_ref())
                .map(|said| said.iter().map(|label| label.value.clone()).collect())
                .unwrap_or_default(),
            emulation: emulation(emulate.or(file.and_then(|file| file.emulate))),
        }
    }

    fn term<T>(&self, platform: &Platform, what: impl Fn(&'_ TermsSetting) -> Option<&'_ T>) -> Option<&T> {
        let on = self.said(|setting| setting.on.get(platform).and_then(&what));
        on.or_else(|| self.said(|setting| what(&setting.terms)))
    }
}

/// What a word of the configuration means; without one emulation is refused.
fn emulation(said: Option<Emulate>) -> Emulation {
    match said {
        Some(Emulate::Allow) => Emulation::Allowed,
        Some(Emulate::Always) => Emulation::Always,
        Some(Emulate::Refuse) | None => Emulation::Refused,
    }
}

/// What is found so far, and what is wrong.
struct Drafting<'a> {
    sources: &'a Sources,
    texts: BTreeMap<&'a Path, &'a str>,
    drafts: BTreeMap<Unit, Draft<'a>>,
    problems: Vec<Diagnostic>,
}

/// All units of the family, and problems that are errors or warnings.
pub(super) fn drafts(sources: &Sources) -> (BTreeMap<Unit, Draft<'_>>, Vec<Diagnostic>) {
    let texts = sources.dockerfiles.iter().map(|found| (found.path.as_path(), found.text.as_str())).collect();
    let mut drafting = Drafting { sources, texts, drafts: BTreeMap::new(), problems: Vec::new() };
    let globs: Vec<&Written<Glob>> = sources.file.iter().flat_map(|file| &file.images).collect();
    let paths: BTreeSet<&Path> = drafting.texts.keys().copied().collect();
    let wanted: Vec<&Glob> = globs.iter().map(|glob| &glob.value).collect();
    let all = discover::discover(&sources.name, &paths, &[], &mut Vec::new());
    let found = discover::discover(&sources.name, &paths, &wanted, &mut drafting.problems);
    for glob in globs {
        let folder = |found: &Discovered| found.folder.to_string_lossy().replace('\\', "/");
        if let (Some(file), false) = (&sources.file, found.iter().any(|one| glob.value.matches(&folder(one))))
        {
            let problem =
                Diagnostic::warning("no folder with a Dockerfile is like this").at(file.place(glob));
            drafting.problems.push(problem.hint("correct the pattern, or remove it"));
        }
    }
    drafting.configured(&found, &all);
    (drafting.drafts, drafting.problems)
}

impl<'a> Drafting<'a> {
    /// Drafts of all that is configured, then of all else that was found.
    fn configured(&mut self, found: &[Discovered], all: &[Discovered]) {
        let images = self.sources.file.iter().flat_map(|file| &file.image);
        let mut claimed = BTreeSet::new();
        let mut settings: BTreeMap<&str, &'a ImageSetting> = BTreeMap::new();
        for (name, setting) in images {
            settings.insert(name.as_str(), setting);
            if setting.mirror.is_some() {
                continue;
            }
            let own = |one: &&Discovered| one.image == name.as_str() && one.variant.is_none();
            let by_name =
                found.iter().find(own).or_else(|| all.iter().find(own)).map(|one| one.folder.clone());
            let dockerfile = given(setting.dockerfile.as_ref());
            let by_file =
                || discover::folder_by_file(name.as_str(), dockerfile.as_ref()?, self.texts.keys().copied());
            let has_file = |folder: &PathBuf| {
                dockerfile.as_ref().is_none_or(|file| self.texts.contains_key(folder.join(file).as_path()))
            };
            // A folder of its name is its own only where the file that is named stands in it.
            let own = by_name.clone().filter(has_file);
            let folder = given(setting.folder.as_ref()).or(own).or_else(by_file).or(by_name);
            // A folder that is given another name than its own takes the folders below it along as variants.
            let renamed = all.iter().find(|one| Some(&one.folder) == folder.as_ref());
            let below: Vec<&Discovered> = renamed
                .map(|root| all.iter().filter(|one| one.image == root.image).collect())
                .unwrap_or_default();
            if !setting.variants.values().all(|variant| variant.folder.is_some())
                || folder.is_some()
                || setting.variants.is_empty()
            {
                self.image(name, setting, folder.as_deref(), all);
            }
            claimed.extend(folder.clone());
            self.variants(name, setting, folder.as_deref(), &below, &mut claimed);
        }
        for one in found.iter().filter(|one| !claimed.contains(&one.folder)) {
            let setting = settings.get(one.image.as_str()).copied();
            if let Some(setting) = setting.filter(|setting| setting.mirror.is_some()) {
                self.built_and_mirrored(one, setting);
                continue;
            }
            self.unit(&one.image, one.variant.as_deref(), &one.folder, setting.into_iter().collect());
        }
    }

    /// A folder that builds what is said to be a copy.
    fn built_and_mirrored(&mut self, found: &Discovered, setting: &'a ImageSetting) {
        let folder = found.folder.display();
        let problem = Diagnostic::request(format!(
            "`{}` is a mirror, and {folder} has a Dockerfile for it",
            found.image
        ));
        let problem = problem.because("a mirror is copied, and nothing of it is built");
        let hint = format!("remove `mirror`, or rename `[image.{}]` or {folder}", found.image);
        self.problems.push(self.at(&setting.named, problem.hint(hint)));
    }

    fn image(
        &mut self,
        name: &Repository,
        setting: &'a ImageSetting,
        folder: Option<&Path>,
        all: &[Discovered],
    ) {
        let Some(folder) = folder else {
            let problem = Diagnostic::request(format!("the image `{name}` has no Dockerfile"));
            let known: BTreeSet<&str> = all.iter().map(|one| one.image.as_str()).collect();
            let hint = did_you_mean(name.as_str(), known);
            let hint = hint.unwrap_or_else(|| format!("say where it is: `folder = \"path/of/{name}\"`"));
            self.problems.push(self.at(&setting.named, problem.hint(hint)));
            return;
        };
        self.unit(name.as_str(), None, folder, vec![setting]);
    }

    fn variants(
        &mut self,
        name: &Repository,
        setting: &'a ImageSetting,
        folder: Option<&Path>,
        below: &[&Discovered],
        claimed: &mut BTreeSet<PathBuf>,
    ) {
        for (variant, own) in &setting.variants {
            let found = below.iter().find(|one| one.variant.as_deref() == Some(variant.as_str()));
            let place = given(own.folder.as_ref()).or_else(|| found.map(|one| one.folder.clone()));
            claimed.extend(place.clone());
            match place.as_deref().or(folder) {
                Some(place) => self.unit(name.as_str(), Some(variant.as_str()), place, vec![setting, own]),
                None => {
                    let problem =
                        Diagnostic::request(format!("the variant `{variant}` of `{name}` has no Dockerfile"));
                    let hint = format!("say where it is: `folder = \"path/of/{variant}\"`");
                    self.problems.push(self.at(&own.named, problem.hint(hint)));
                }
            }
        }
        for one in below {
            let Some(variant) = one.variant.as_deref().filter(|_| !claimed.contains(&one.folder)) else {
                continue;
            };
            claimed.insert(one.folder.clone());
            self.unit(name.as_str(), Some(variant), &one.folder, vec![setting]);
        }
    }

    /// Drafts one unit, or says why it cannot be.
    fn unit(&mut self, image: &str, variant: Option<&str>, folder: &Path, settings: Vec<&'a ImageSetting>) {
        let own_folder = settings.len() > 1 && self.texts.contains_key(folder.join("Dockerfile").as_path());
        let said = |setting: &&'a ImageSetting| setting.dockerfile.as_ref();
        let dockerfile: Option<&Written<Inside>> = match own_folder {
            // A variant with a folder of its own has its own Dockerfile there.
            true => settings.last().and_then(said),
            false => settings.iter().rev().find_map(said),
        };
        let path = folder.join(dockerfile.map_or(Path::new("Dockerfile"), |path| path.value.path()));
        let Some(text) = self.texts.get(path.as_path()).copied() else {
            let what = variant.map_or(image.to_owned(), |variant| format!("{image}:{variant}"));
            let problem = Diagnostic::request(format!("{} of `{what}` is not there", path.display()));
            let near = self.texts.keys().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>();
            let hint = did_you_mean(&path.to_string_lossy(), near.iter().map(String::as_str));
            let problem = problem.hint(hint.unwrap_or_else(|| {
                format!("write {}, or correct `folder` and `dockerfile`", path.display())
            }));
            let written = settings.last().map(|setting| &setting.named);
            let problem = written.map_or(problem.clone(), |named| self.at(named, problem));
            self.problems.push(problem);
            return;
        };
        let named = || -> Result<(Unit, Repository), crate::oci::Error> {
            let image: ImageName = image.parse()?;
            let variant = variant.map(str::parse::<VariantName>).transpose()?;
            Ok((Unit { image: image.clone(), variant }, repository(self.sources, &image, &settings)?))
        };
        let (unit, repository) = match named() {
            Ok(named) => named,
            Err(error) => {
                let hint = "rename the folder, or name it by `[image.NAME]` and `folder = \"…\"`";
                self.problems.push(Diagnostic::request(error.to_string()).at(Place::file(path)).hint(hint));
                return;
            }
        };
        let place = Place::file(&path);
        self.problems.extend(reserved(self.sources, &repository, &settings, place));
        let apart = settings.len() > 1 && settings.last().is_some_and(|setting| setting.repository.is_some());
        let tag_prefix = match &unit.variant {
            Some(variant) if !apart => format!("{variant}-"),
            _ => String::new(),
        };
        let (context, dockerfile) = (folder.to_owned(), path);
        let draft = Draft { unit: unit.clone(), context, dockerfile, text, settings, repository, tag_prefix };
        if let Some(other) = self.drafts.get(&unit) {
            let message = format!(
                "{} and {} would both be `{unit}`",
                other.dockerfile.display(),
                draft.dockerfile.display()
            );
            let problem = Diagnostic::request(message).at(draft.place(self.sources.file.as_ref()));
            self.problems.push(problem.hint("rename one of them"));
            return;
        }
        self.drafts.insert(unit, draft);
    }

    fn at(&self, written: &Written<String>, problem: Diagnostic) -> Diagnostic {
        match &self.sources.file {
            Some(file) => problem.at(file.place(written)),
            None => problem,
        }
    }
}

/// The repository that an image is published in: the one that is said, else its name below the owner or the family.
///
/// # Errors
/// Where that is no repository name.
pub(super) fn repository(
    sources: &Sources,
    image: &ImageName,
    settings: &[&ImageSetting],
) -> Result<Repository, crate::oci::Error> {
    if let Some(said) = settings.iter().rev().find_map(|setting| setting.repository.as_ref()) {
        return Ok(said.value.clone());
    }
    match sources.file.as_ref().and_then(|file| file.registry.as_ref()).map(|target| &target.value) {
        Some(Target { prefix: Some(prefix), .. }) => prefix.join(image.as_str()),
        Some(Target { prefix: None, .. }) => image.as_str().parse(),
        None => format!("{}/{image}", discover::plain(&family_name(sources))).parse(),
    }
}

/// The problem with a repository among those where a store keeps its records, if an image is published there. That is so
/// at every registry: the one that is named may be this store, served, or the store of another family.
pub(super) fn reserved(
    sources: &Sources,
    repository: &Repository,
    settings: &[&ImageSetting],
    place: Place,
) -> Option<Diagnostic> {
    if !repository.as_str().starts_with(SCOPES) {
        return None;
    }
    let file = sources.file.as_ref();
    let problem = Diagnostic::request(format!(
        "the image would be published as `{repository}`, but under `{SCOPES}` a store keeps its records"
    ));
    let other_name = match file.is_some_and(|file| file.registry.is_some()) {
        true => "or another owner, as in: `registry = \"HOST/OWNER\"`",
        false => "or another name for the family, as in: `name = \"stacks\"`",
    };
    let said = settings.iter().rev().find_map(|setting| setting.repository.as_ref());
    let written = file.zip(said).map(|(file, said)| file.place(said));
    Some(
        problem
            .at(written.unwrap_or(place))
            .hint("choose another repository, as in: `repository = \"stacks/base\"`")
            .hint(other_name),
    )
}

/// What to call the family.
pub(super) fn family_name(sources: &Sources) -> String {
    let said = sources.file.as_ref().and_then(|file| file.name.as_ref());
    said.map_or_else(|| sources.name.clone(), |name| name.value.clone())
}
