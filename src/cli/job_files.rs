//! Files of which every job has one, named by a template.

use std::collections::BTreeMap;
use std::path::Path;

use crate::diag::{Diagnostic, Result};
use crate::family::{JobId, TagPolicy};

/// The name of the file of each job, by a template that the command line has; `example` is one that works.
///
/// # Errors
/// Where a template asks for what is not known, leaves the folder, or gives two jobs one name.
pub(super) fn names(
    template: &str,
    example: &str,
    jobs: &[&JobId],
    policy: &TagPolicy,
) -> Result<BTreeMap<JobId, String>> {
    let wrong = |why: String| {
        Diagnostic::request(format!("`--name {template}`: {why}")).hint(format!("write it as '{example}'"))
    };
    let mut names = BTreeMap::new();
    let mut owners: BTreeMap<String, &JobId> = BTreeMap::new();
    for job in jobs {
        let variant = job.unit.variant.as_ref().map_or_else(|| "default".to_owned(), ToString::to_string);
        let name = template
            .replace("{image}", &job.unit.image.as_str().replace('/', "-"))
            .replace("{platform}", &policy.platform_name(&job.platform))
            .replace("{variant}", &variant);
        if let Some(at) = name.find(['{', '}']) {
            let known = "{image}, {platform} and {variant} are known";
            return Err(wrong(format!("`{}` means nothing here; {known}", &name[at..])).into());
        }
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(wrong(format!("`{name}` is no name of a file in the folder")).into());
        }
        if let Some(first) = owners.insert(name.clone(), job) {
            return Err(wrong(format!("{first} and {job} are both called {name}")).into());
        }
        names.insert((*job).clone(), name);
    }
    Ok(names)
}

/// Make the folder that files go into; `example` is a command that works.
///
/// # Errors
/// Where it cannot be made.
pub(super) fn make_folder(folder: &Path, example: &str) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error, example).into())
}

/// Write one of the files.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn write(file: &Path, text: &str, example: &str) -> Result<()> {
    std::fs::write(file, text).map_err(|error| unwritable(file, &error, example).into())
}

fn unwritable(path: &Path, error: &std::io::Error, example: &str) -> Diagnostic {
    Diagnostic::surroundings(format!("write {}", path.display()))
        .caused_by(error)
        .hint(format!("choose another folder, as in: {example}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_4_21_files_are_named_by_image_platform_and_variant() {
        let jobs: Vec<JobId> = ["a/base@linux/amd64", "base:cuda@linux/arm64"]
            .iter()
            .map(|job| job.parse().expect("a job"))
            .collect();
        let jobs: Vec<&JobId> = jobs.iter().collect();
        let mut policy = TagPolicy::default();
        policy.names.insert("linux/amd64".parse().expect("a platform"), "x86_64".to_owned());
        let example = "{image}-{platform}-{variant}-sbom.spdx.json";
        let made = names(example, example, &jobs, &policy).expect("names");
        let made: Vec<&String> = made.values().collect();
        assert_eq!(made, ["a-base-x86_64-default-sbom.spdx.json", "base-arm64-cuda-sbom.spdx.json"]);
        for template in ["{image}/{platform}", "{images}", "sbom", "", "{image"] {
            assert!(names(template, example, &jobs, &policy).is_err(), "{template}");
        }
    }
}
