//! Point at what stops nothing but is hardly meant: images without tests, arguments and tags that lead nowhere.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::family_name;
use super::{CheckKind, Mirror, Recipe, Sources, TagPolicy, Unit, Use};
use crate::config::{FamilyFile, Written};
use crate::diag::{Diagnostic, did_you_mean};

/// How many names a message lists.
const LISTED: usize = 5;

/// Warnings about the family as a whole.
pub(super) fn unused(
    recipes: &BTreeMap<Unit, Recipe>,
    mirrors: &BTreeMap<Unit, Mirror>,
    sources: &Sources,
    tags: &TagPolicy,
) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    warnings.extend(untested(recipes, sources));
    warnings.extend(nameless(recipes));
    warnings.extend(arguments(recipes, sources));
    if let Some(file) = &sources.file {
        warnings.extend(tags_of_nothing(recipes, mirrors, file, tags));
        warnings.extend(replacements(recipes, file));
        warnings.extend(caches_that_are_not_kept(file));
    }
    warnings
}

fn untested(recipes: &BTreeMap<Unit, Recipe>, sources: &Sources) -> Option<Diagnostic> {
    let tested =
        |recipe: &Recipe| recipe.checks.iter().any(|check| matches!(check.kind, CheckKind::Test { .. }));
    let untested: Vec<&Unit> =
        recipes.values().filter(|recipe| !tested(recipe)).map(|recipe| &recipe.unit).collect();
    let first = untested.first()?;
    let mut listed: Vec<String> = untested.iter().take(LISTED).map(|unit| format!("`{unit}`")).collect();
    if untested.len() > LISTED {
        listed.push(format!("and {} more", untested.len() - LISTED));
    }
    let (noun, verb) = if untested.len() == 1 { ("image", "has") } else { ("images", "have") };
    let message = format!("{} {noun} {verb} no test: {}", untested.len(), listed.join(", "));
    let hint = match sources.file {
        Some(_) => format!("write `tests = [\"true\"]`, with a better command, in `[image.{}]`", first.image),
        None => "run `polyarch init`, and write tests into the file".to_owned(),
    };
    Some(Diagnostic::advice(message).hint(hint))
}

/// Units without any tag that nothing is built upon: they are built for nobody.
fn nameless(recipes: &BTreeMap<Unit, Recipe>) -> Vec<Diagnostic> {
    let used: BTreeSet<&Unit> = recipes
        .values()
        .flat_map(|recipe| recipe.platforms.values())
        .flat_map(super::Build::parents)
        .collect();
    let tagged = |recipe: &Recipe| {
        let tagger = recipe.checks.iter().any(|check| matches!(check.kind, CheckKind::Tagger { .. }));
        tagger || !recipe.common_tags.is_empty()
    };
    let nameless = recipes.values().filter(|recipe| !tagged(recipe) && !used.contains(&recipe.unit));
    let told = nameless.map(|recipe| {
        let message = format!("`{}` is unused: it gets no tag, and nothing is built upon it", recipe.unit);
        Diagnostic::warning(message).hint("write `common = [\"latest\"]` in `[tags]`, or remove the image")
    });
    told.collect()
}

/// Arguments of the whole family, or given by hand, that no Dockerfile declares.
fn arguments(recipes: &BTreeMap<Unit, Recipe>, sources: &Sources) -> Vec<Diagnostic> {
    let declared: BTreeSet<&str> = recipes
        .values()
        .flat_map(|recipe| {
            recipe.platforms.values().flat_map(|build| &build.needs.uses_args).chain(recipe.args.keys())
        })
        .map(String::as_str)
        .collect();
    let guess = |name: &str| did_you_mean(name, declared.iter().copied());
    let message = |name: &str| format!("no Dockerfile of `{}` declares `ARG {name}`", family_name(sources));
    let family =
        sources.file.iter().flat_map(|file| file.args.iter().map(move |(name, value)| (file, name, value)));
    let written =
        family.filter(|(_, name, _)| !declared.contains(name.as_str())).map(|(file, name, value)| {
            let hint = guess(name).unwrap_or_else(|| format!("remove `{name}` from `args`"));
            Diagnostic::warning(message(name)).at(file.place(value)).hint(hint)
        });
    let by_hand = sources.args.keys().filter(|name| !declared.contains(name.as_str())).map(|name| {
        let hint = guess(name).unwrap_or_else(|| format!("leave out `--build-arg {name}`"));
        Diagnostic::warning(message(name)).hint(hint)
    });
    written.chain(by_hand).collect()
}

/// Tags said to be immutable that nothing makes, and names of platforms that no image has: both hold nothing.
fn tags_of_nothing(
    recipes: &BTreeMap<Unit, Recipe>,
    mirrors: &BTreeMap<Unit, Mirror>,
    file: &FamilyFile,
    tags: &TagPolicy,
) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    let copied = || mirrors.values().flat_map(|mirror| &mirror.tags).map(String::as_str);
    let known: BTreeSet<&str> = recipes.values().flat_map(templates).chain(copied()).collect();
    for pattern in &file.tags.immutable {
        let meant = |recipe: &Recipe| {
            templates(recipe).iter().any(|template| tags.may_be_meant(&pattern.value, recipe, template))
        };
        // Tags of the branch at a release, and the other way round.
        let said = [&file.tags.common, &file.tags.release].into_iter().flatten().flatten();
        let usual = (file.tags.release.is_none() && !file.ci.release_tags.is_empty()).then_some("{version}");
        let mut said = said.map(|tag| tag.value.as_str()).chain(usual);
        let elsewhen = said.any(|template| {
            recipes.values().any(|recipe| tags.may_be_meant(&pattern.value, recipe, template))
        });
        let is_meant =
            elsewhen || recipes.values().any(meant) || copied().any(|tag| pattern.value.may_match(tag));
        if !is_meant {
            let written = pattern.value.to_string();
            let message = format!("`{written}` is said to be immutable, but no image gets such a tag");
            let hint = did_you_mean(&written, known.iter().copied());
            let hint = hint.unwrap_or_else(|| "correct it, or remove it here".to_owned());
            warnings.push(Diagnostic::warning(message).at(file.place(pattern)).hint(hint));
        }
    }
    let platforms: BTreeSet<_> = recipes.values().flat_map(|recipe| recipe.platforms.keys()).collect();
    for (platform, name) in file.tags.names.iter().filter(|(platform, _)| !platforms.contains(platform)) {
        let message = format!(
            "{} is named `{}` in tags, but no image is built for it",
            platform,
            tags.platform_name(platform)
        );
        warnings.push(
            Diagnostic::warning(message)
                .at(file.place(name))
                .hint(format!("add it to `platforms`: \"{platform}\"")),
        );
    }
    warnings
}

fn templates(recipe: &Recipe) -> Vec<&str> {
    let taggers = recipe.checks.iter().filter_map(|check| match &check.kind {
        CheckKind::Tagger { template, .. } => Some(template.as_str()),
        _ => None,
    });
    recipe.common_tags.iter().map(String::as_str).chain(taggers).collect()
}

fn replacements(recipes: &BTreeMap<Unit, Recipe>, file: &FamilyFile) -> Vec<Diagnostic> {
    let builds = recipes.values().flat_map(|recipe| recipe.platforms.values());
    let outside: BTreeSet<_> = builds
        .flat_map(|build| build.uses.values())
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|meant| match meant {
            Use::Outside(reference) => Some(reference.to_string()),
            Use::Family(_) => None,
        })
        .collect();
    let unused = file.replace.iter().filter(|(_, to)| !outside.contains(&to.value.to_string()));
    let told = unused.map(|(from, to): (_, &Written<_>)| {
        let problem = Diagnostic::warning(format!("no Dockerfile uses `{from}`, which is to be replaced"));
        problem.at(file.place(to)).hint("remove it from `[replace]`, or write it as the Dockerfile does")
    });
    told.collect()
}

/// What is said of caches that no build finds, since none are kept: a budget above all would hold no build to anything.
fn caches_that_are_not_kept(file: &FamilyFile) -> Vec<Diagnostic> {
    let told = |place, name: &str, caches: &str, setting: &str| {
        let problem = Diagnostic::warning(format!("`{name}` does nothing: {caches} go to no store"));
        problem.at(place).hint(format!("write `{setting}` for the family, or remove it"))
    };
    let mut warnings = Vec::new();
    if !file.layer_cache.as_ref().is_some_and(|kept| kept.value) {
        let of_images = file.image.values().filter_map(|image| image.cache_budget.as_ref());
        let budgets = file.cache_budget.iter().chain(of_images);
        let told = |budget| {
            told(file.place(budget), "cache-budget", "engines' caches of layers", "layer-cache = true")
        };
        warnings.extend(budgets.map(told));
    }
    if file.cache_mounts.is_none() {
        let prune = file.cache_prune.as_ref().map(|prune| ("cache-prune", file.place(prune)));
        let floor = file.cache_floor.as_ref().map(|floor| ("cache-floor", file.place(floor)));
        let said = prune.into_iter().chain(floor);
        warnings.extend(
            said.map(|(name, place)| told(place, name, "mounts of caches", "cache-mounts = \"2GB\"")),
        );
    }
    warnings
}
