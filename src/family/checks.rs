//! Checks of a unit: its own, and those of all that it stands on, the root's first.

use super::draft::Draft;
use super::{Action, Check, CheckKind, NamedFile, Piece, TagSource, Unit};
use crate::config::{
    DescriptionSetting, FamilyFile, ImageSetting, PathPattern, Seconds, TaggerSetting, TestSetting, Written,
};
use crate::diag::Diagnostic;
use crate::oci::Tag;

/// How long a check may take where nobody says.
const CHECK_LIMIT_SECONDS: u64 = 600;

/// The checks that a unit declares itself: those of its image, then those of its variant.
pub(super) fn own(draft: &Draft<'_>, file: Option<&FamilyFile>) -> Vec<Check> {
    let image = Unit { image: draft.unit.image.clone(), variant: None };
    let declared = draft.settings.iter().enumerate().flat_map(|(at, setting)| {
        // The first table is the image's, and its checks are the same for all variants.
        let unit = if at == 0 { image.clone() } else { draft.unit.clone() };
        checks(setting, file).into_iter().map(move |(kind, limit)| check(unit.clone(), kind, limit))
    });
    declared.collect()
}

/// The tests that the file gives to every image.
pub(super) fn of_family(file: Option<&FamilyFile>, unit: &Unit) -> Vec<Check> {
    let tests = file.into_iter().flat_map(|file| &file.tests).filter_map(|setting| test(setting, file));
    tests.map(|(kind, limit)| check(unit.clone(), kind, limit)).collect()
}

/// The checks inherited and then the own ones. A tagger or description replaces an inherited one that makes the same
/// tag or has the same heading; a check that both have stands once.
pub(super) fn inherit(inherited: &[Check], own: Vec<Check>) -> Vec<Check> {
    let mut all: Vec<Check> =
        inherited.iter().filter(|old| !own.iter().any(|new| replaces(new, old))).cloned().collect();
    for check in own {
        if !all.contains(&check) {
            all.push(check);
        }
    }
    all
}

/// The executables of other machines that a unit is meant to have: those of what it stands on, of the family, its own.
pub(super) fn foreign(
    inherited: &[PathPattern],
    draft: &Draft<'_>,
    file: Option<&FamilyFile>,
) -> Vec<PathPattern> {
    let of_family = file.into_iter().flat_map(|file| &file.foreign_executables);
    let own = draft.settings.iter().flat_map(|setting| &setting.foreign_executables);
    let mut all = inherited.to_vec();
    for setting in of_family.chain(own) {
        if !all.contains(&setting.path.value) {
            all.push(setting.path.value.clone());
        }
    }
    all
}

fn replaces(new: &Check, old: &Check) -> bool {
    match (&new.kind, &old.kind) {
        (CheckKind::Tagger { template: new, .. }, CheckKind::Tagger { template: old, .. }) => new == old,
        (CheckKind::Description { title: new, .. }, CheckKind::Description { title: old, .. }) => new == old,
        _ => false,
    }
}

/// The same checks with the names of image and variant put into the templates of tags; what is no tag then is wrong.
pub(super) fn named(checks: &[Check], unit: &Unit, problems: &mut Vec<Diagnostic>) -> Vec<Check> {
    let mut named = checks.to_vec();
    for check in &mut named {
        if let CheckKind::Tagger { template, .. } = &mut check.kind {
            *template = with_names(template, unit, problems);
        }
    }
    named
}

/// A template with `{image}` and `{variant}` filled in.
pub(super) fn with_names(template: &str, unit: &Unit, problems: &mut Vec<Diagnostic>) -> String {
    let variant = unit.variant.as_ref().map_or("", |variant| variant.as_str());
    let filled =
        template.replace("{image}", &unit.image.as_str().replace('/', "-")).replace("{variant}", variant);
    let mut rendered = filled.clone();
    while let Some((before, rest)) = rendered.split_once('{') {
        let after = rest.split_once('}').map_or("", |(_, after)| after);
        rendered = format!("{before}0{after}");
    }
    if rendered.parse::<Tag>().is_err() {
        let message = format!("the tag `{template}` of `{unit}` becomes `{filled}`, which is no tag");
        problems
            .push(Diagnostic::request(message).hint("use at most 128 of a-z, A-Z, 0-9, `_`, `.` and `-`"));
    }
    filled
}

fn check(declared_by: Unit, kind: CheckKind, limit: Option<Seconds>) -> Check {
    Check {
        declared_by,
        kind,
        time_limit_seconds: limit.map_or(CHECK_LIMIT_SECONDS, |Seconds(seconds)| seconds),
    }
}

fn checks(setting: &ImageSetting, file: Option<&FamilyFile>) -> Vec<(CheckKind, Option<Seconds>)> {
    let tests = setting.tests.iter().filter_map(|setting| test(setting, file));
    let taggers = setting.tags.iter().filter_map(tagger);
    tests.chain(taggers).chain(setting.describe.iter().map(description)).collect()
}

fn limit(written: Option<&Written<Seconds>>) -> Option<Seconds> {
    written.map(|limit| limit.value)
}

fn test(setting: &TestSetting, file: Option<&FamilyFile>) -> Option<(CheckKind, Option<Seconds>)> {
    let named = setting.files.iter().zip(std::iter::repeat(file).map_while(|file| file));
    let named =
        named.map(|(path, file)| NamedFile { path: path.value.path().to_owned(), place: file.place(path) });
    let files = named.collect();
    let image = setting.run.as_ref().map(|run| Action::Image(run.value.clone()));
    let action = image
        .or_else(|| setting.host.as_ref().map(|host| Action::Host { run: host.value.clone(), files }))?;
    let stdout = setting.stdout.as_ref().map(|text| text.value.clone());
    Some((CheckKind::Test { action, stdout }, limit(setting.time_limit.as_ref())))
}

fn tagger(setting: &TaggerSetting) -> Option<(CheckKind, Option<Seconds>)> {
    let pattern = setting.pattern.as_ref().map(|pattern| pattern.value.text.clone());
    let source = match (&setting.run, &setting.package, &setting.os_release) {
        (Some(run), ..) => TagSource::Run { run: run.value.clone(), pattern },
        (_, Some(package), _) => TagSource::Package { package: package.value.clone(), pattern },
        (.., key) => TagSource::OsRelease(key.as_ref()?.value.clone()),
    };
    Some((
        CheckKind::Tagger { template: setting.tag.value.clone(), source },
        limit(setting.time_limit.as_ref()),
    ))
}

fn description(setting: &DescriptionSetting) -> (CheckKind, Option<Seconds>) {
    let piece = |run: &Written<String>, bare| Piece { run: run.value.clone(), bare };
    let bare = setting.bare.iter().map(|run| piece(run, true));
    let pieces = bare.chain(setting.run.iter().map(|run| piece(run, false))).collect();
    (
        CheckKind::Description { title: setting.title.value.clone(), pieces },
        limit(setting.time_limit.as_ref()),
    )
}
