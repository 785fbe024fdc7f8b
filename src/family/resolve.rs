//! From what was written to what is meant: the story of a family, told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::{Draft, drafts, family_name};
use super::meaning::Names;
use super::order::{Edges, order};
use super::read::{Read, labels, read};
use super::{
    Build, CacheMounts, Divergence, Family, Found, Mirror, PublishPolicy, Recipe, TagPolicy, Unit, Use,
    checks, clash, downstream, exports, mirror, mirror_registries, remote, tag_length, unused,
};
use crate::config::{
    DivergenceSetting, FRONTEND_ARGUMENT, FamilyFile, PathPattern, Version, frontend_argument,
    is_plain_secret,
};
use crate::diag::{Diagnostic, Kind, Place, Problems, Result, Severity};
use crate::dockerfile::{BaseOfTarget, How, Needs};
use crate::oci::{Platform, Reference};

/// How many circles are told.
const CIRCLES_TOLD: usize = 20;

/// Everything that a family is made of.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The name of the family's folder.
    pub(crate) name: String,
    /// The configuration, if there is one.
    pub(crate) file: Option<FamilyFile>,
    /// Every file that [`super::discover::is_dockerfile`] takes, and those of
    /// [`super::discover::named_dockerfiles`].
    pub(crate) dockerfiles: Vec<Found>,
    /// `--build-arg`.
    pub(crate) args: BTreeMap<String, String>,
    /// An image from elsewhere that every root is to stand on, given by hand.
    pub(crate) root_image: Option<Reference>,
    /// The version that images are published as, where it is a release.
    pub(crate) release: Option<Version>,
    /// The platform of this machine, for a family that declares none.
    pub(crate) machine: Platform,
}

impl Family {
    /// Resolves a family, or tells every independent problem that prevents it.
    pub(crate) fn resolve(sources: &Sources) -> Result<Self> {
        let file = sources.file.as_ref();
        let (drafts, found) = drafts(sources);
        let (mut warnings, mut problems) = split(found);
        problems.extend(secret_arguments(sources));
        problems.extend(frontend_given(sources));
        let (mirrors, found) = mirror::mirrors(sources);
        problems.extend(found);
        if drafts.is_empty() && mirrors.is_empty() && problems.is_empty() {
            return Err(nothing(sources).into());
        }
        let (read, found) = read_all(&drafts, sources);
        problems.extend(found);
        let names = names(&drafts, &mirrors, sources);
        let (mut builds, found) = meanings(&drafts, &read, &names, sources);
        let (odd, wrong) = split(found);
        warnings.extend(odd);
        problems.extend(wrong);
        triggers(&mut builds, &names);
        let order = match order(&edges(&builds)) {
            Ok(order) => order,
            Err(circles) => {
                problems.extend(circles.iter().take(CIRCLES_TOLD).map(|circle| told(circle, &builds)));
                Vec::new()
            }
        };
        problems.extend(missing_platforms(&drafts, &builds, file));
        let tags = tag_policy(sources);
        Problems::check(unique(std::mem::take(&mut problems)))?;
        let recipes = recipes(&order, &drafts, read, builds, sources, &mut warnings, &mut problems);
        problems.extend(clash::clashes(&recipes, &mirrors, &drafts, &tags, file));
        problems.extend(downstream::stood_upon(&recipes, &drafts, file));
        problems.extend(tag_length::too_long(&recipes, &drafts, &tags, file));
        problems.extend(mirror_registries::too_deep(&recipes, &mirrors, &drafts, file));
        let (registries, found) = mirror_registries::mirrors(&recipes, &mirrors, file);
        problems.extend(found);
        let exports = exports::exports(file, &recipes, &mirrors, &mut problems, &mut warnings);
        Problems::check(unique(problems))?;
        warnings.extend(unused::unused(&recipes, &mirrors, sources, &tags));
        warnings.extend(remote::unpinned(&recipes));
        warnings.extend(remote::unchecked(&recipes));
        let platform_assumed = recipes.keys().any(|unit| assumed(&drafts[unit], file));
        Ok(Self {
            name: family_name(sources),
            registry: file
                .and_then(|file| file.registry.as_ref())
                .map(|target| target.value.registry.clone()),
            tags,
            publish: PublishPolicy::of(file, registries),
            parent_floor_bytes: file.and_then(|file| Some(file.parent_floor.as_ref()?.value.0)),
            layer_cache: file.and_then(|file| file.layer_cache.as_ref()).is_some_and(|said| said.value),
            cache_mounts: file.and_then(CacheMounts::of),
            exports,
            platform_assumed,
            warnings: unique(warnings),
            recipes,
            mirrors,
            order,
        })
    }
}

/// What a unit's Dockerfiles mean, by platform.
type Builds = BTreeMap<Unit, BTreeMap<Platform, Build>>;

fn split(found: Vec<Diagnostic>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    found.into_iter().partition(|problem| problem.severity == Severity::Warning)
}

/// Each problem once: one Dockerfile may be read for several units and platforms.
fn unique(problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    problems.into_iter().filter(|problem| seen.insert((problem.to_string(), problem.hints.clone()))).collect()
}

fn nothing(sources: &Sources) -> Diagnostic {
    let hidden = "hidden folders and files of other names are passed over";
    let problem = Diagnostic::request("there is no image here: no folder has a file named `Dockerfile`")
        .because(hidden);
    match sources.file.as_ref().and_then(|file| Some((file, file.images.first()?))) {
        Some((file, glob)) => problem.at(file.place(glob)).hint("correct `images`, or remove it"),
        None => problem.hint(
            "go to the folder of your Dockerfiles, or name a file by `[image.NAME]` and `dockerfile = \"…\"`",
        ),
    }
}

fn frontend_given(sources: &Sources) -> Option<Diagnostic> {
    let value = sources.args.get(FRONTEND_ARGUMENT)?;
    Some(frontend_argument(&format!("`--build-arg {FRONTEND_ARGUMENT}`"), value))
}

fn secret_arguments(sources: &Sources) -> Vec<Diagnostic> {
    let plain = sources.args.iter().filter(|(name, value)| is_plain_secret(name, value));
    let told = plain.map(|(name, _)| {
        let problem =
            Diagnostic::new(Kind::Policy, format!("`--build-arg {name}` is a secret in plain sight"));
        let id = name.to_lowercase();
        problem
            .because("arguments can be read in the published image")
            .hint(format!("write `secrets = {{ {id} = {{ env = \"{name}\" }} }}` in polyarch.toml"))
            .hint(format!("read it in the Dockerfile by `RUN --mount=type=secret,id={id} …`"))
    });
    told.collect()
}

fn read_all(
    drafts: &BTreeMap<Unit, Draft<'_>>,
    sources: &Sources,
) -> (BTreeMap<Unit, Read>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let mut all = BTreeMap::new();
    for (unit, draft) in drafts {
        match read(draft, sources) {
            Ok(read) => drop(all.insert(unit.clone(), read)),
            Err(found) => problems.extend(found.iter().cloned()),
        }
    }
    (all, problems)
}

fn names(drafts: &BTreeMap<Unit, Draft<'_>>, mirrors: &BTreeMap<Unit, Mirror>, sources: &Sources) -> Names {
    let file = sources.file.as_ref();
    let replace = file.into_iter().flat_map(|file| &file.replace);
    let replace = replace.map(|(from, to)| (from.clone(), to.value.clone())).collect();
    let repositories = drafts.iter().map(|(unit, draft)| (unit.clone(), draft.repository.clone())).collect();
    let target = file.and_then(|file| file.registry.as_ref()).map(|target| target.value.clone());
    let fixed = common_tags(file).into_iter().filter(|tag| !tag.contains('{'));
    Names::new(target, replace, &repositories, fixed).with_mirrors(mirrors)
}

/// The same at a release, which has tags of its own.
fn public_tags(sources: &Sources) -> Vec<String> {
    let file = sources.file.as_ref();
    let Some(version) = &sources.release else { return common_tags(file) };
    let said = file.and_then(|file| file.tags.release.as_ref());
    let said = said.map_or_else(|| vec!["{version}"], |tags| tags.iter().map(|tag| &*tag.value).collect());
    said.into_iter().map(|template| version.fill(template)).collect()
}

/// Templates of the tags that every image gets, by which Dockerfiles mean it too.
fn common_tags(file: Option<&FamilyFile>) -> Vec<String> {
    let said = file.and_then(|file| file.tags.common.as_ref());
    said.map_or_else(|| vec!["latest".to_owned()], |tags| tags.iter().map(|tag| tag.value.clone()).collect())
}

fn meanings(
    drafts: &BTreeMap<Unit, Draft<'_>>,
    read: &BTreeMap<Unit, Read>,
    names: &Names,
    sources: &Sources,
) -> (Builds, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let mut builds = Builds::new();
    for (unit, read) in read {
        debug_assert!(drafts.contains_key(unit));
        for (platform, needs) in &read.platforms {
            let build = build(unit, platform, needs, names, sources, &mut found);
            builds.entry(unit.clone()).or_default().insert(platform.clone(), build);
        }
    }
    (builds, found)
}

fn build(
    unit: &Unit,
    platform: &Platform,
    needs: &Needs,
    names: &Names,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Build {
    let mut uses = BTreeMap::new();
    for reference in needs.references.iter().filter(|reference| reference.how != How::Onbuild) {
        let meaning = match names.meaning(&reference.reference, unit) {
            Ok(meaning) => meaning,
            Err(problem) => {
                found.push(problem.at(reference.place.clone()));
                continue;
            }
        };
        found.extend(meaning.odd.map(|odd| odd.at(reference.place.clone())));
        if let (Use::Family(parent), Some(asked)) = (&meaning.meant, &reference.platform)
            && asked.parse::<Platform>().is_ok_and(|asked| asked != *platform)
        {
            let message = format!("`{unit}` on {platform} asks for `{parent}` on {asked}");
            let why = "an image stands on and copies from its family on its own platform";
            let problem = Diagnostic::request(message).at(reference.place.clone()).because(why);
            found.push(problem.hint("remove `--platform`, or write `--platform=$TARGETPLATFORM`"));
        }
        uses.insert(reference.reference.clone(), meaning.meant);
    }
    let base = match &needs.base {
        BaseOfTarget::Scratch => None,
        BaseOfTarget::Reference(reference) => Some(reference.clone()),
    };
    if let (Some(root), Some(base)) = (&sources.root_image, &base)
        && let Some(Use::Outside(outside)) = uses.get_mut(base)
    {
        *outside = root.clone();
    }
    Build { needs: needs.clone(), uses, base, triggers: Vec::new() }
}

/// Hands the `ONBUILD` triggers of parents to those who stand directly on them, with the images that they read.
fn triggers(builds: &mut Builds, names: &Names) {
    let mut left = Vec::new();
    for (unit, platforms) in &*builds {
        for (platform, build) in platforms {
            let from =
                build.needs.references.iter().filter(|reference| matches!(reference.how, How::From { .. }));
            for reference in from {
                let Some(Use::Family(parent)) = build.uses.get(&reference.reference) else { continue };
                let Some(of_parent) = builds.get(parent).and_then(|builds| builds.get(platform)) else {
                    continue;
                };
                if of_parent.needs.onbuild.is_empty() {
                    continue;
                }
                let read =
                    of_parent.needs.references.iter().filter(|reference| reference.how == How::Onbuild);
                let read = read.filter_map(|reference| {
                    let meaning = names.meaning(&reference.reference, parent).ok()?;
                    Some((reference.reference.clone(), meaning.meant))
                });
                left.push((
                    unit.clone(),
                    platform.clone(),
                    of_parent.needs.onbuild.clone(),
                    read.collect::<Vec<_>>(),
                ));
            }
        }
    }
    for (unit, platform, triggers, read) in left {
        if let Some(build) = builds.get_mut(&unit).and_then(|platforms| platforms.get_mut(&platform)) {
            build.triggers.extend(triggers);
            build.uses.extend(read);
        }
    }
}

fn edges(builds: &Builds) -> Edges {
    let known = |parent: &&Unit| builds.contains_key(*parent);
    let parents = |platforms: &BTreeMap<Platform, Build>| {
        platforms.values().flat_map(Build::parents).filter(known).cloned().collect()
    };
    builds.iter().map(|(unit, platforms)| (unit.clone(), parents(platforms))).collect()
}

/// A circle, with the line that makes each of its steps.
fn told(circle: &[Unit], builds: &Builds) -> Diagnostic {
    let names: Vec<String> = circle.iter().map(|unit| format!("`{unit}`")).collect();
    let message = match circle {
        [one, other] if one == other => format!("the image {} stands on itself", names[0]),
        _ => format!("images stand on each other in a circle: {}", names.join(" → ")),
    };
    let mut problem = Diagnostic::request(message);
    for pair in circle.windows(2) {
        let Some((place, reference)) = step(&pair[0], &pair[1], builds) else { continue };
        if problem.place.is_none() {
            problem = problem.at(place.clone());
        }
        problem = problem.because(format!("{place} of `{}` uses `{reference}`", pair[0]));
    }
    problem
        .hint("if an image from elsewhere is meant, write its whole name, as in `docker.io/library/NAME:TAG`")
}

fn step(child: &Unit, parent: &Unit, builds: &Builds) -> Option<(Place, String)> {
    builds.get(child)?.values().find_map(|build| {
        let meant = |name: &String| matches!(build.uses.get(name), Some(Use::Family(unit)) if unit == parent);
        let found = build.needs.references.iter().find(|reference| meant(&reference.reference))?;
        Some((found.place.clone(), found.reference.clone()))
    })
}

/// Platforms of a child that a parent of it is not built for.
fn missing_platforms(
    drafts: &BTreeMap<Unit, Draft<'_>>,
    builds: &Builds,
    file: Option<&FamilyFile>,
) -> Vec<Diagnostic> {
    let mut lacking: BTreeMap<(&Unit, &Unit), Vec<&Platform>> = BTreeMap::new();
    for (unit, platforms) in builds {
        for (platform, build) in platforms {
            let parents: BTreeSet<&Unit> = build.parents().collect();
            let lacks =
                |parent: &&Unit| builds.get(*parent).is_some_and(|built| !built.contains_key(platform));
            parents.into_iter().filter(lacks).for_each(|parent| {
                lacking.entry((unit, parent)).or_default().push(platform);
            });
        }
    }
    let told = lacking.into_iter().map(|((unit, parent), platforms)| {
        let listed: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let message =
            format!("`{unit}` is for {}, but `{parent}`, which it uses, is not", listed.join(" and "));
        let draft = &drafts[unit];
        let place = draft.platforms_place(file).unwrap_or_else(|| draft.place(file));
        let rest = builds[unit].keys().filter(|platform| !platforms.contains(platform));
        let rest: Vec<String> = rest.map(|platform| format!("\"{platform}\"")).collect();
        let problem = Diagnostic::request(message).at(place);
        let table = |unit: &Unit| match &unit.variant {
            Some(variant) => format!("[image.\"{}\".variants.\"{variant}\"]", unit.image),
            None => format!("[image.\"{}\"]", unit.image),
        };
        let problem = match rest.is_empty() {
            true => problem,
            false => problem.hint(format!("write `platforms = [{}]` in `{}`", rest.join(", "), table(unit))),
        };
        problem.hint(format!("or add {} to the platforms of `{}`", listed.join(" and "), table(parent)))
    });
    told.collect()
}

fn tag_policy(sources: &Sources) -> TagPolicy {
    let standard = TagPolicy { is_release: sources.release.is_some(), ..TagPolicy::default() };
    let Some(said) = sources.file.as_ref().map(|file| &file.tags) else { return standard };
    TagPolicy {
        platform: said.platform.as_ref().map_or(standard.platform, |template| template.value.clone()),
        names: said.names.iter().map(|(platform, name)| (platform.clone(), name.value.clone())).collect(),
        nightly: said.nightly.as_ref().map_or(standard.nightly, |template| template.value.clone()),
        immutable: said.immutable.iter().map(|pattern| pattern.value.clone()).collect(),
        divergence: match said.divergence {
            Some(DivergenceSetting::Fail) => Divergence::Fail,
            Some(DivergenceSetting::Partial) => Divergence::Partial,
            Some(DivergenceSetting::Withhold) | None => Divergence::Withhold,
        },
        is_release: standard.is_release,
    }
}

fn assumed(draft: &Draft<'_>, file: Option<&FamilyFile>) -> bool {
    draft.said(|setting| setting.platforms.as_ref()).is_none()
        && file.is_none_or(|file| file.platforms.is_none())
}

/// The recipes, their checks inherited from parent to child.
fn recipes(
    order: &[Unit],
    drafts: &BTreeMap<Unit, Draft<'_>>,
    mut read: BTreeMap<Unit, Read>,
    mut builds: Builds,
    sources: &Sources,
    warnings: &mut Vec<Diagnostic>,
    problems: &mut Vec<Diagnostic>,
) -> BTreeMap<Unit, Recipe> {
    let file = sources.file.as_ref();
    let common = public_tags(sources);
    let mut inherited: BTreeMap<&Unit, Vec<super::Check>> = BTreeMap::new();
    let mut foreign: BTreeMap<&Unit, Vec<PathPattern>> = BTreeMap::new();
    let mut recipes = BTreeMap::new();
    for unit in order {
        let (Some(read), Some(platforms)) = (read.remove(unit), builds.remove(unit)) else { continue };
        let draft = &drafts[unit];
        let parent = platforms.values().find_map(Build::stands_on);
        let above = parent.and_then(|parent| inherited.get(parent)).map_or(&[][..], Vec::as_slice);
        let told = problems.len();
        let own = checks::inherit(above, checks::own(draft, file));
        let all = checks::inherit(&checks::of_family(file, unit), checks::named(&own, unit, problems));
        inherited.insert(unit, own);
        let from_parent = parent.and_then(|parent| foreign.get(parent)).map_or(&[][..], Vec::as_slice);
        let meant = checks::foreign(from_parent, draft, file);
        foreign.insert(unit, meant.clone());
        warnings.extend(read.warnings);
        let recipe = Recipe {
            unit: unit.clone(),
            repository: draft.repository.clone(),
            context: draft.context.clone(),
            dockerfile: draft.dockerfile.clone(),
            text: read.text,
            file: Arc::new(read.file),
            target: draft.said(|setting| setting.target.as_ref()).map(|target| target.value.clone()),
            args: read.args,
            labels: labels(draft, file),
            secrets: read.secrets,
            ssh: draft
                .settings
                .iter()
                .flat_map(|setting| &setting.ssh)
                .map(|ssh| ssh.value.clone())
                .collect(),
            terms: platforms.keys().map(|on| (on.clone(), draft.terms(on, file))).collect(),
            platforms,
            checks: all,
            foreign: meant,
            common_tags: common.iter().map(|tag| checks::with_names(tag, unit, problems)).collect(),
            downstream: draft.downstream().is_some(),
            fail_fast: draft.fails_fast(),
            barrier: draft.has_barrier(file),
            cache_budget_seconds: draft.cache_budget_seconds(file),
            fresh_for_seconds: draft.fresh_for_seconds(file),
            retry_without_cache: draft.retries_without_cache(),
            tag_prefix: draft.tag_prefix.clone(),
        };
        for problem in problems.iter_mut().skip(told).filter(|problem| problem.place.is_none()) {
            problem.place = Some(draft.place(file));
        }
        recipes.insert(unit.clone(), recipe);
    }
    recipes
}
