//! Templates of tags and files: text with `{name}` in it, checked when they are read so that no build is needed to find a
//! wrong one.

use crate::oci::Tag;

/// What may stand in the template of a tagger, beside `{0}`, `{1}`….
pub(super) const TAGGER: &[&str] = &["image", "variant"];
/// What may stand in the template of a tag that every image gets.
pub(super) const COMMON: &[&str] = &["commit", "date", "image", "variant"];
/// What may stand in the template of a tag that every image of a release gets.
pub(super) const RELEASE: &[&str] = &["commit", "date", "image", "variant", "version"];
/// What may stand in the template of a platform's tag.
pub(super) const PLATFORM: &[&str] = &["platform", "tag"];

/// What may stand in the template of a nightly tag.
pub(super) const NIGHTLY: &[&str] = &["platform"];
/// What may stand in the name of an exported file.
pub(super) const EXPORT_NAME: &[&str] = &["image", "variant", "platform", "suffix", "tag"];
/// What may stand in the name that an image has inside of an exported file.
pub(super) const EXPORT_REFERENCE: &[&str] = &["repository", "image", "variant", "platform", "suffix", "tag"];
/// What may stand in the tag of an exported image.
pub(super) const EXPORT_TAG: &[&str] = &["commit", "date"];

/// A template with its values filled in, every name of which must be known. An error is a message and a hint.
pub(super) fn checked(
    text: &str,
    names: &[&str],
    value: impl Fn(&str) -> String,
) -> Result<String, (String, String)> {
    for piece in pieces(text)? {
        if let Piece::Name(name) = piece {
            known(text, name, names, 0)?;
        }
    }
    Ok(fill(text, value))
}

/// A template that was checked, with its values filled in.
pub(super) fn fill(text: &str, value: impl Fn(&str) -> String) -> String {
    let filled = pieces(text).unwrap_or_default().into_iter().map(|piece| match piece {
        Piece::Text(text) => text.to_owned(),
        Piece::Name(name) => value(name),
    });
    filled.collect()
}

/// Checks a template: every name known, and the whole able to be a tag. An error is a message and a hint.
pub(super) fn check(text: &str, names: &[&str], groups: usize) -> Result<(), (String, String)> {
    let mut rendered = String::new();
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => rendered.push_str(text),
            Piece::Name(name) => {
                known(text, name, names, groups)?;
                rendered.push('0');
            }
        }
    }
    rendered.parse::<Tag>().map(drop).map_err(|_| {
        let hint = "use at most 128 of a-z, A-Z, 0-9, `_`, `.` and `-`, the first neither `.` nor `-`";
        (format!("`{}` cannot be a tag", text.chars().take(150).collect::<String>()), hint.to_owned())
    })
}

/// Whether a template has a name in it.
pub(super) fn has(text: &str, name: &str) -> bool {
    text.contains(&format!("{{{name}}}"))
}

fn known(text: &str, name: &str, names: &[&str], groups: usize) -> Result<(), (String, String)> {
    if names.contains(&name) {
        return Ok(());
    }
    let listed: Vec<String> = (0..groups.min(3)).map(|group| format!("`{{{group}}}`")).collect();
    let listed =
        listed.into_iter().chain(names.iter().map(|name| format!("`{{{name}}}`"))).collect::<Vec<_>>();
    match name.parse::<usize>() {
        Ok(group) if group < groups => Ok(()),
        Ok(_) if groups > 0 => Err((
            format!("`{text}` asks for `{{{name}}}`, but the pattern catches {groups}, counted from `{{0}}`"),
            "put one more group `( )` into `match`".to_owned(),
        )),
        _ => Err((
            format!("`{text}` asks for `{{{name}}}`, which is not known here"),
            format!("use {}", listed.join(", ")),
        )),
    }
}

/// A piece of a template.
pub(super) enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// A template taken apart. An error is a message and a hint.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, (String, String)> {
    let unbalanced =
        || (format!("the braces of `{text}` do not match"), "write names as `{name}`".to_owned());
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        found.push(Piece::Text(&rest[..at]));
        let inner = rest[at..].strip_prefix('{').ok_or_else(unbalanced)?;
        let end =
            inner.find(['{', '}']).filter(|end| inner[*end..].starts_with('}')).ok_or_else(unbalanced)?;
        found.push(Piece::Name(&inner[..end]));
        rest = &inner[end + 1..];
    }
    found.push(Piece::Text(rest));
    Ok(found)
}
