//! The configuration that `polyarch init` writes for a family that has none: short, true, and commented where one
//! would go on.

use std::fmt::Write as _;

use super::{Family, Recipe, TagPolicy};

/// The text of a `polyarch.toml` that means the same as no file at all, and says what could be added.
pub(crate) fn starter(family: &Family) -> String {
    let mut text =
        String::from("# What polyarch knows of this family. Every setting: docs/configuration.md\n\n");
    let platforms: Vec<String> =
        family.platforms().into_iter().map(|platform| quoted(&platform.to_string())).collect();
    line(&mut text, &format!("name = {}", quoted(&family.name)));
    line(
        &mut text,
        "# registry = \"quay.io/owner\"        # where it is published; the embedded registry where it is not said",
    );
    line(&mut text, &format!("platforms = [{}]", platforms.join(", ")));
    line(
        &mut text,
        "# emulate = \"allow\"               # build platforms that no machine here has by emulation",
    );
    line(&mut text, "");
    line(&mut text, "[tags]");
    line(&mut text, "common = [\"latest\"]                # also: \"{commit}\", \"{date}\"");
    line(
        &mut text,
        &format!("platform = {}      # or: \"{{tag}}-{{platform}}\"", quoted(&TagPolicy::default().platform)),
    );
    for recipe in family.recipes() {
        image(&mut text, recipe);
    }
    text
}

fn image(text: &mut String, recipe: &Recipe) {
    let image = quoted(recipe.unit.image.as_str());
    let parents: Vec<String> =
        recipe.platforms.values().flat_map(super::Build::parents).map(ToString::to_string).collect();
    let base = recipe
        .platforms
        .values()
        .find_map(|build| build.base.clone())
        .unwrap_or_else(|| "scratch".to_owned());
    let upon = parents.first().cloned().unwrap_or(base);
    line(text, "");
    match &recipe.unit.variant {
        Some(variant) => {
            line(text, &format!("[image.{image}.variants.{}]     # upon {upon}", quoted(variant.as_str())))
        }
        None => line(text, &format!("[image.{image}]     # upon {upon}")),
    }
    line(text, &format!("folder = {}", quoted(&folder(recipe))));
    line(
        text,
        "# tests = [\"true\"]                 # commands that must succeed in the image, and in all upon it",
    );
    if parents.is_empty() {
        line(text, "# tags = [{ tag = \"os-{0}\", os-release = \"VERSION_ID\" }]");
        line(text, "# describe = [{ title = \"Packages\", run = \"apt list --installed\" }]");
    }
    if !recipe.platforms.values().all(|build| build.needs.secrets.is_empty()) {
        let asked = recipe.platforms.values().flat_map(|build| &build.needs.secrets);
        for id in asked.collect::<std::collections::BTreeSet<_>>() {
            let name = id.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            line(text, &format!("secrets.{} = {{ env = {} }}", quoted(id), quoted(&name)));
        }
    }
}

fn folder(recipe: &Recipe) -> String {
    let parts: Vec<_> = recipe.context.iter().map(|part| part.to_string_lossy()).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn line(text: &mut String, line: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{line}");
}
