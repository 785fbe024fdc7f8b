//! Which tags never change once they are public.

use std::collections::BTreeSet;

use super::{Recipe, TagPolicy};
use crate::config::TagPattern;

impl TagPolicy {
    /// The pattern that says of a tag of an image that it never changes once it is public, if there is one.
    ///
    /// A pattern means the tag as it is published, and as it is without the name of its platform and of its variant:
    /// where `{date}` is immutable, so are `x86_64-2026-11-21` and `cuda-2026-11-21`.
    pub(crate) fn immutable_by(&self, tag: &str, recipe: &Recipe) -> Option<&TagPattern> {
        let mut meant = BTreeSet::from([tag]);
        for platform in recipe.platforms.keys() {
            let template = self.platform.replace("{platform}", &self.platform_name(platform));
            let Some((before, after)) = template.split_once("{tag}") else { continue };
            meant.extend(tag.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)));
        }
        let plain: Vec<&str> = meant.iter().filter_map(|tag| tag.strip_prefix(recipe.tag_prefix())).collect();
        meant.extend(plain);
        self.immutable.iter().find(|pattern| meant.iter().any(|tag| pattern.matches(tag)))
    }

    /// The same of a tag of a copy, which is published without names before or after it.
    pub(crate) fn immutable_by_itself(&self, tag: &str) -> Option<&TagPattern> {
        self.immutable.iter().find(|pattern| pattern.matches(tag))
    }

    /// Whether a pattern may mean a tag that an image gets.
    pub(super) fn may_be_meant(&self, pattern: &TagPattern, recipe: &Recipe, template: &str) -> bool {
        let own = format!("{}{template}", recipe.tag_prefix());
        let platforms = recipe.platforms.keys().map(|platform| self.platform_tag(platform, &own));
        let mut published = platforms.chain([own.clone(), template.to_owned()]);
        published.any(|template| pattern.may_match(&template))
    }
}
