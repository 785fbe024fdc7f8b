//! Tags that cannot be, found before anything is built: too long once variant and platform stand in them.
//!
//! A common template is known to the last character, since a commit and a date have fixed lengths. Of a tagger only its
//! own text is known, and at least one character for each value; the rest is checked when the values are there.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::with_names;
use super::draft::Draft;
use super::{CheckKind, Recipe, TagPolicy, Unit};
use crate::config::FamilyFile;
use crate::diag::{Diagnostic, Place};
use crate::oci::Tag;

/// How much of a commit stands in a tag, in characters.
pub(crate) const COMMIT_LENGTH: usize = 12;

/// The longest tag, in characters.
pub(super) const LONGEST: usize = 128;

/// A problem for each template whose tags no registry takes, with the longest of them.
pub(super) fn too_long(
    recipes: &BTreeMap<Unit, Recipe>,
    drafts: &BTreeMap<Unit, Draft<'_>>,
    tags: &TagPolicy,
    file: Option<&FamilyFile>,
) -> Vec<Diagnostic> {
    let mut told = BTreeSet::new();
    let mut problems = Vec::new();
    for recipe in recipes.values() {
        for template in templates(recipe) {
            let Some(tag) = longest(recipe, tags, template).filter(|tag| tag.parse::<Tag>().is_err()) else {
                continue;
            };
            let (place, written) = place(recipe, template, drafts, file);
            if !told.insert((place.clone(), written.clone())) {
                continue;
            }
            let message = format!(
                "the tag template `{written}` makes tags of {} of {} characters",
                recipe.unit,
                tag.chars().count()
            );
            let problem = Diagnostic::request(message).at(place);
            problems.push(
                problem
                    .because(format!("a tag has at most {LONGEST}, those of variant and platform counted"))
                    .because(format!("the longest is `{tag}`"))
                    .hint("shorten it, the name of the variant, or `platform` and `names` under `[tags]`"),
            );
        }
    }
    problems
}

fn templates(recipe: &Recipe) -> impl Iterator<Item = &String> {
    let taggers = recipe.checks.iter().filter_map(|check| match &check.kind {
        CheckKind::Tagger { template, .. } => Some(template),
        _ => None,
    });
    recipe.common_tags.iter().chain(taggers)
}

/// The longest tag that a template is known to make; `None` where that fits.
fn longest(recipe: &Recipe, tags: &TagPolicy, template: &str) -> Option<String> {
    let own = format!("{}{}", recipe.tag_prefix(), rendered(template));
    let platforms = recipe.platforms.keys().map(|platform| tags.platform_tag(platform, &own));
    let longest = platforms.chain([own.clone()]).max_by_key(|tag| tag.chars().count());
    longest.filter(|tag| tag.chars().count() > LONGEST)
}

/// A template with something of the least length for each name.
pub(super) fn rendered(template: &str) -> String {
    let mut text = template.replace("{commit}", &"0".repeat(COMMIT_LENGTH)).replace("{date}", "2026-01-01");
    while let Some((before, rest)) = text.split_once('{') {
        let after = rest.split_once('}').map_or("", |(_, after)| after);
        text = format!("{before}0{after}");
    }
    text
}

/// Where a template is written, and how: the common ones under `[tags]`, those of taggers at their image.
fn place(
    recipe: &Recipe,
    template: &str,
    drafts: &BTreeMap<Unit, Draft<'_>>,
    file: Option<&FamilyFile>,
) -> (Place, String) {
    let common =
        file.into_iter().flat_map(|file| file.tags.common.iter().flatten().map(move |tag| (file, tag)));
    let named = |written: &str| with_names(written, &recipe.unit, &mut Vec::new());
    let mut common = common.filter(|(_, tag)| tag.value == template || named(&tag.value) == template);
    if let Some((file, tag)) = common.next() {
        return (file.place(tag), tag.value.clone());
    }
    let taggers = file.into_iter().flat_map(|file| {
        let settings =
            file.image.values().flat_map(|image| std::iter::once(image).chain(image.variants.values()));
        settings.flat_map(|setting| &setting.tags).map(move |tagger| (file, &tagger.tag))
    });
    let mut taggers = taggers.filter(|(_, tag)| tag.value == template || named(&tag.value) == template);
    match taggers.next() {
        Some((file, tag)) => (file.place(tag), tag.value.clone()),
        None => (drafts[&recipe.unit].place(file), template.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::family::{Family, Found, Sources};

    fn wrong(config: &str) -> Vec<String> {
        let sources = Sources {
            name: "stacks".to_owned(),
            file: Some(FamilyFile::parse(Path::new("polyarch.toml"), config).expect("it can be read")),
            dockerfiles: vec![Found {
                path: PathBuf::from("a/Dockerfile"),
                text: "FROM scratch\n".to_owned(),
            }],
            args: BTreeMap::new(),
            root_image: None,
            release: None,
            machine: "linux/amd64".parse().expect("platform"),
        };
        match Family::resolve(&sources) {
            Ok(_) => Vec::new(),
            Err(problems) => {
                assert_eq!(problems.exit_code(), 2);
                assert!(problems.iter().all(|problem| problem.hints.len() == 1), "{problems}");
                problems.iter().map(|problem| format!("{problem}")).collect()
            }
        }
    }

    #[test]
    fn f_c13_a_tag_that_gets_too_long_is_found_before_a_build() {
        // `amd64-` stands before it.
        let fixed = |length: usize| format!("[tags]\ncommon = [\"{}\"]\n", "t".repeat(length));
        assert_eq!(wrong(&fixed(122)), Vec::<String>::new());
        let told = wrong(&fixed(123));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("polyarch.toml:2:11: ") && told[0].contains("of 129 characters"),
            "{told:?}"
        );

        // Twelve of a commit, ten of a date.
        let rendered =
            |length: usize| format!("[tags]\ncommon = [\"{}-{{commit}}-{{date}}\"]\n", "t".repeat(length));
        assert_eq!(wrong(&rendered(98)), Vec::<String>::new());
        assert_eq!(wrong(&rendered(99)).len(), 1);

        let tagger = |length: usize| {
            format!("[image.a]\ntags = [{{ tag = \"{}{{0}}\", run = \"x\" }}]\n", "t".repeat(length))
        };
        assert_eq!(wrong(&tagger(121)), Vec::<String>::new());
        let told = wrong(&tagger(122));
        assert!(told[0].starts_with("polyarch.toml:2:17: "), "{told:?}");

        let variant = |length: usize| {
            let names = format!("[tags]\nnames = {{ \"linux/amd64\" = \"{}\" }}\n", "x".repeat(60));
            format!("{names}[image.a.variants.{}]\n", "v".repeat(length))
        };
        assert_eq!(wrong(&variant(60)), Vec::<String>::new());
        let told = wrong(&variant(61));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("`latest` makes tags of a:v"), "{told:?}");
    }
}
