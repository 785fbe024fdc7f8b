//! Tags of one image: values of taggers and common templates, by platform and merged.
//!
//! ```text
//! value     python-3.13.5        by a tagger in the image, or a common template such as `{date}`
//! own       cuda-python-3.13.5   with the variant before it
//! platform  x86_64-cuda-python-3.13.5   by the policy, at the platform's manifest
//! merged    cuda-python-3.13.5   at the index, where every platform made the same value
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Kind, Result, collect};
use crate::family::{COMMIT_LENGTH, CheckKind, Divergence, Recipe, TagPolicy};
use crate::oci::{Platform, Repository, Tag};
use crate::record::Passed;

use super::journal::RESERVED_TAG;
use super::nightly::NIGHTLY_LIST;

/// What is settled once for a run, and is in tags though in no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunFacts {
    /// The date in UTC, as `2026-11-21`.
    pub(crate) date: String,
    /// The commit that the family's files are of, where they are of one.
    pub(crate) commit: Option<String>,
}

/// A merged tag that stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WithheldTag {
    /// The repository.
    pub(crate) repository: Repository,
    /// The tag.
    pub(crate) tag: Tag,
    /// Why: which platforms made it, and what the others made.
    pub(crate) reason: String,
}

/// What one image is called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ImageTags {
    /// Tags of one platform's image.
    pub(super) platform: Vec<(Tag, Platform)>,
    /// Tags of the merged image, and the platforms that made them: all of them but where `partial` is the policy.
    pub(super) merged: Vec<(Tag, BTreeSet<Platform>)>,
    /// Tags that stay where they are.
    pub(super) withheld: Vec<WithheldTag>,
    /// Templates that were passed over because there is no commit.
    pub(super) without_commit: Vec<String>,
}

/// All tags of an image whose platforms have all passed.
pub(super) fn of_image(
    recipe: &Recipe,
    passed: &BTreeMap<&Platform, &Passed>,
    policy: &TagPolicy,
    facts: &RunFacts,
) -> Result<ImageTags> {
    let (common, without_commit) = common_values(recipe, facts)?;
    let values = collect(passed.iter().map(|(platform, passed)| {
        let values = match policy.is_release {
            true => common.clone(),
            false => platform_values(recipe, platform, passed, &common)?,
        };
        Ok(((*platform).clone(), values))
    }))?;
    let made: BTreeMap<Platform, Vec<String>> = values.into_iter().collect();
    let mut tags = ImageTags { without_commit, ..ImageTags::default() };
    for (platform, values) in &made {
        for value in values.iter().collect::<BTreeSet<_>>() {
            let own = format!("{}{value}", recipe.tag_prefix());
            let tag = parsed(recipe, &policy.platform_tag(platform, &own), "the platform's tag")?;
            tags.platform.push((tag, platform.clone()));
        }
    }
    merge(recipe, &made, policy.divergence, &mut tags)?;
    Ok(tags)
}

/// The tags of one platform's image in the order in which they are declared: common ones, then those of the root's taggers
/// first.
///
/// # Errors
/// Where something makes no tag.
pub(crate) fn of_platform(
    recipe: &Recipe,
    platform: &Platform,
    passed: &Passed,
    policy: &TagPolicy,
    facts: &RunFacts,
) -> Result<Vec<Tag>> {
    let (common, _) = common_values(recipe, facts)?;
    let values = match policy.is_release {
        true => common,
        false => platform_values(recipe, platform, passed, &common)?,
    };
    let mut tags = Vec::new();
    for value in values {
        let own = format!("{}{value}", recipe.tag_prefix());
        let tag = parsed(recipe, &policy.platform_tag(platform, &own), "the platform's tag")?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// A tag that an image will have once it is built, as far as that is known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreseen {
    /// The tag; of a tagger with the places that it fills, as `python-{0}`.
    pub(crate) tag: String,
    /// The platforms of what it will point at.
    pub(crate) platforms: Vec<Platform>,
    /// A tagger gives it.
    pub(crate) by_tagger: bool,
}

/// The tags of an image before it is built.
///
/// # Errors
/// Where a common template makes none.
pub(crate) fn foreseen(recipe: &Recipe, policy: &TagPolicy, facts: &RunFacts) -> Result<Vec<Foreseen>> {
    let (common, _) = common_values(recipe, facts)?;
    let common = common.into_iter().map(|value| (value, false));
    let taggers = if policy.is_release { Vec::new() } else { templates(recipe) };
    let values = common.chain(taggers.into_iter().map(|value| (value.to_owned(), true)));
    let all: Vec<Platform> = recipe.platforms.keys().cloned().collect();
    let mut found = Vec::new();
    for (value, by_tagger) in values {
        let own = format!("{}{value}", recipe.tag_prefix());
        let of_platforms = all.iter().map(|platform| Foreseen {
            tag: policy.platform_tag(platform, &own),
            platforms: vec![platform.clone()],
            by_tagger,
        });
        found.extend(of_platforms);
        found.push(Foreseen { tag: own, platforms: all.clone(), by_tagger });
    }
    Ok(found)
}

/// The templates of an image's taggers, in their order.
fn templates(recipe: &Recipe) -> Vec<&str> {
    let templates = recipe.checks.iter().filter_map(|check| match &check.kind {
        CheckKind::Tagger { template, .. } => Some(template.as_str()),
        _ => None,
    });
    templates.collect()
}

/// Merged tags where all platforms agree; else what the policy says.
fn merge(
    recipe: &Recipe,
    made: &BTreeMap<Platform, Vec<String>>,
    divergence: Divergence,
    tags: &mut ImageTags,
) -> Result<()> {
    let mut makers: BTreeMap<&str, BTreeSet<Platform>> = BTreeMap::new();
    for (platform, values) in made {
        for value in values {
            makers.entry(value).or_default().insert(platform.clone());
        }
    }
    let mut refused = Vec::new();
    for (value, platforms) in makers {
        let tag = parsed(recipe, &format!("{}{value}", recipe.tag_prefix()), "the merged tag")?;
        if platforms.len() == made.len() || divergence == Divergence::Partial {
            tags.merged.push((tag, platforms));
            continue;
        }
        let reason = divergence_reason(value, &platforms, made);
        match divergence {
            Divergence::Fail => refused.push(
                Diagnostic::new(
                    Kind::Policy,
                    format!("tag `{tag}` of `{}` differs between platforms", recipe.unit),
                )
                .because(reason),
            ),
            _ => tags.withheld.push(WithheldTag { repository: recipe.repository.clone(), tag, reason }),
        }
    }
    if let Some(last) = refused.pop() {
        refused
            .push(last.hint("set `divergence = \"withhold\"` under `[tags]` to publish without these tags"));
    }
    crate::diag::Problems::check(refused)
}

/// "linux/amd64 made it; linux/arm64 made `python-3.13.6`".
fn divergence_reason(
    value: &str,
    makers: &BTreeSet<Platform>,
    made: &BTreeMap<Platform, Vec<String>>,
) -> String {
    let position = { makers.first() }
        .and_then(|maker| made.get(maker))
        .and_then(|values| values.iter().position(|other| other == value));
    let names: Vec<String> = makers.iter().map(Platform::to_string).collect();
    let others =
        made.iter().filter(|(platform, _)| !makers.contains(platform)).map(
            |(platform, values)| match position.and_then(|at| values.get(at)) {
                Some(other) => format!("{platform} made `{other}`"),
                None => format!("{platform} made none like it"),
            },
        );
    format!("{} made it; {}", names.join(" and "), others.collect::<Vec<_>>().join("; "))
}

/// Values of the common templates, which are the same on every platform; and the templates that have none.
pub(crate) fn common_values(recipe: &Recipe, facts: &RunFacts) -> Result<(Vec<String>, Vec<String>)> {
    let mut values = Vec::new();
    let mut without_commit = Vec::new();
    for template in &recipe.common_tags {
        match (template.contains("{commit}"), &facts.commit) {
            (true, None) => without_commit.push(template.clone()),
            (_, commit) => values.push(render(recipe, template, commit.as_deref(), &facts.date)?),
        }
    }
    Ok((values, without_commit))
}

pub(crate) fn render(recipe: &Recipe, template: &str, commit: Option<&str>, date: &str) -> Result<String> {
    let commit: String = commit.unwrap_or_default().chars().take(COMMIT_LENGTH).collect();
    let value = template.replace("{commit}", &commit).replace("{date}", date);
    let wrong = |message: String| {
        Err(Diagnostic::request(message).hint("a common tag is text, `{commit}` or `{date}`").into())
    };
    if let Some((_, rest)) = value.split_once('{') {
        let name = rest.split('}').next().unwrap_or(rest);
        return wrong(format!(
            "tag template `{template}` of `{}` names the unknown value `{name}`",
            recipe.unit
        ));
    }
    let tag = value.parse::<Tag>();
    match tag {
        Ok(_) => Ok(value),
        Err(error) => wrong(format!("tag template `{template}` of `{}` makes no tag: {error}", recipe.unit)),
    }
}

/// What the taggers made on one platform, after the common values; each must be a tag by itself.
fn platform_values(
    recipe: &Recipe,
    platform: &Platform,
    passed: &Passed,
    common: &[String],
) -> Result<Vec<String>> {
    let templates = templates(recipe);
    let own = passed.checks.tags.iter().enumerate().map(|(at, value)| match value.parse::<Tag>() {
        Ok(_) => Ok(value.clone()),
        Err(error) => {
            let tagger = templates.get(at).copied().unwrap_or("?");
            let job = recipe.unit.on(platform);
            let made = if value.is_empty() { "nothing".to_owned() } else { format!("`{value}`") };
            Err(Diagnostic::request(format!("tagger `{tagger}` made {made} on `{job}`"))
                .because(error)
                .hint("give the tagger a `match` whose groups hold only letters, digits, `_`, `.` and `-`")
                .into())
        }
    });
    let own = collect(own)?;
    Ok(common.iter().cloned().chain(own).collect())
}

/// Whether a list of publications stands under a tag, so that nothing else may.
pub(crate) fn is_reserved(tag: &str) -> bool {
    [RESERVED_TAG, NIGHTLY_LIST].contains(&tag)
}

fn parsed(recipe: &Recipe, text: &str, what: &str) -> Result<Tag> {
    if is_reserved(text) {
        let message =
            format!("{what} `{text}` of `{}` is one that holds a list of publications", recipe.unit);
        return Err(Diagnostic::request(message).hint("call it otherwise").into());
    }
    text.parse().map_err(|error| {
        Diagnostic::request(format!("{what} `{text}` of `{}` is none that a registry takes", recipe.unit))
            .because(error)
            .into()
    })
}
