//! Which images become files: the `[[export]]` of the configuration, its names resolved.

use std::collections::{BTreeMap, BTreeSet};

use super::{Mirror, Recipe, Unit};
use crate::config::{
    ArchiveFormat, Compression, ExportSetting, FamilyFile, NameTemplate, ReferenceTemplate, Written,
};
use crate::diag::{Diagnostic, did_you_mean};
use crate::oci::Platform;

/// Images that are written into files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Export {
    /// Which images and variants.
    pub(crate) units: BTreeSet<Unit>,
    /// Which of their platforms; `None` for all.
    pub(crate) platforms: Option<BTreeSet<Platform>>,
    /// How.
    pub(crate) style: ExportStyle,
}

/// How images are written into files; what is not said has a default in `crate::export`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExportStyle {
    /// The names of the files.
    pub(crate) name: Option<NameTemplate>,
    /// The names of the images inside of them.
    pub(crate) references: Option<Vec<ReferenceTemplate>>,
    /// The tag, with `{commit}` and `{date}`.
    pub(crate) tag: Option<String>,
    /// What `{suffix}` is, where it is said.
    pub(crate) suffixes: BTreeMap<Platform, String>,
    /// What kind of file.
    pub(crate) format: Option<ArchiveFormat>,
    /// How the file is compressed.
    pub(crate) compress: Option<Compression>,
}

/// All exports, with what is wrong with them.
pub(super) fn exports(
    file: Option<&FamilyFile>,
    recipes: &BTreeMap<Unit, Recipe>,
    mirrors: &BTreeMap<Unit, Mirror>,
    problems: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) -> Vec<Export> {
    let mut found = Vec::new();
    for (file, setting) in file.iter().flat_map(|file| file.export.iter().map(move |setting| (file, setting)))
    {
        let units = match &setting.images {
            None => recipes.keys().cloned().collect(),
            Some(names) => units(file, names, recipes, mirrors, problems),
        };
        let export = Export { units, platforms: platforms(setting), style: style(setting) };
        warnings.extend(idle(file, setting, &export, recipes));
        found.push(export);
    }
    found
}

fn platforms(setting: &ExportSetting) -> Option<BTreeSet<Platform>> {
    let platforms = setting.platforms.as_ref()?;
    Some(platforms.iter().map(|platform| platform.value.clone()).collect())
}

fn style(setting: &ExportSetting) -> ExportStyle {
    let value = |written: &Written<ReferenceTemplate>| written.value.clone();
    let suffixes = setting.suffixes.iter();
    ExportStyle {
        name: setting.name.as_ref().map(|name| name.value.clone()),
        references: setting.references.as_ref().map(|references| references.iter().map(value).collect()),
        tag: setting.tag.as_ref().map(|tag| tag.value.clone()),
        suffixes: suffixes.map(|(platform, suffix)| (platform.clone(), suffix.value.clone())).collect(),
        format: setting.format,
        compress: setting.compress,
    }
}

/// The images and variants that names mean: as on the command line, an image means its variants too.
fn units(
    file: &FamilyFile,
    names: &[Written<String>],
    recipes: &BTreeMap<Unit, Recipe>,
    mirrors: &BTreeMap<Unit, Mirror>,
    problems: &mut Vec<Diagnostic>,
) -> BTreeSet<Unit> {
    let mut found = BTreeSet::new();
    for name in names {
        let is_meant = |unit: &&Unit| match name.value.contains(':') {
            true => unit.to_string() == name.value,
            false => unit.image.as_str() == name.value,
        };
        if let Some(mirror) = mirrors.values().find(|mirror| mirror.unit.to_string() == name.value) {
            let problem =
                Diagnostic::request(format!("`{}` is a mirror, and no file is made of it", name.value));
            let hint = format!("copy it: polyarch mirror {} REGISTRY/NAME", mirror.source);
            problems.push(problem.at(file.place(name)).hint(hint));
            continue;
        }
        let before = found.len();
        let mut meant = recipes.keys().filter(is_meant).peekable();
        if meant.peek().is_none() {
            let all: Vec<String> = recipes.keys().map(ToString::to_string).collect();
            let near = did_you_mean(&name.value, all.iter().map(String::as_str));
            let problem = Diagnostic::request(format!("there is no image `{}` to export", name.value));
            let hint = near.unwrap_or_else(|| "see what there is: polyarch plan".to_owned());
            problems.push(problem.at(file.place(name)).hint(hint));
            continue;
        }
        found.extend(meant.cloned());
        if found.len() == before {
            let problem = Diagnostic::request(format!("`{}` stands twice in the list", name.value));
            problems.push(problem.at(file.place(name)).hint("remove one of the two"));
        }
    }
    found
}

/// Platforms for which none of the images is built, and images that are built for none of the platforms.
fn idle(
    file: &FamilyFile,
    setting: &ExportSetting,
    export: &Export,
    recipes: &BTreeMap<Unit, Recipe>,
) -> Vec<Diagnostic> {
    let Some(wanted) = &export.platforms else { return Vec::new() };
    let recipes: Vec<&Recipe> = export.units.iter().filter_map(|unit| recipes.get(unit)).collect();
    let place = |platform: &Platform| {
        let written = setting.platforms.iter().flatten().find(|written| written.value == *platform);
        written.map_or_else(|| file.place(&setting.named), |written| file.place(written))
    };
    let has = |recipe: &&Recipe, platform: &Platform| recipe.platforms.contains_key(platform);
    let mut warnings = Vec::new();
    for platform in wanted.iter().filter(|platform| !recipes.iter().any(|recipe| has(recipe, platform))) {
        let message = format!("none of the images that are exported here is for {platform}");
        let problem = Diagnostic::warning(message).at(place(platform));
        warnings.push(problem.hint("remove the platform, or add it to the platforms of an image"));
    }
    if setting.images.is_none() {
        return warnings;
    }
    for recipe in recipes.iter().filter(|recipe| !wanted.iter().any(|platform| has(recipe, platform))) {
        let message = format!("`{}` is for none of the platforms that are exported here", recipe.unit);
        let problem = Diagnostic::warning(message).at(file.place(&setting.named));
        warnings.push(problem.hint("remove the image, or name a platform that it is built for"));
    }
    warnings
}
