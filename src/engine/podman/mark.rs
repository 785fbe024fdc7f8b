//! Which containers of builds are ours. Neither program lets one name or label these, but each writes down with a container
//! which secrets its build may mount: so every build is given one, of no content, whose id is the tag of the build.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::build::secret_option;
use super::{ANSWER_BYTES, Podman, probe};
use crate::diag::Diagnostic;
use crate::engine::RunId;

/// What stands before the tag in the id of the secret.
const PREFIX: &str = "polyarch-";

/// What both programs call the folders that they make for the steps of a build, before a number.
const STEP_FOLDER: &str = "buildah";

/// The argument that marks a build as that of a tag.
pub(super) fn option(tag: &str) -> OsString {
    secret_option(&format!("{PREFIX}{tag}"), Path::new("/dev/null"))
}

/// The run that a secret of a build names.
fn run_of_secret(secret: &str) -> Option<RunId> {
    let mut fields = secret.split(',');
    fields.find_map(|field| RunId::of_build_tag(field.strip_prefix("id=")?.strip_prefix(PREFIX)?))
}

/// What Buildah writes down with a container, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    common_build_opts: Option<BuildOptions>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BuildOptions {
    secrets: Option<Vec<String>>,
}

/// The run whose build made a container, by what is written down with it.
fn run_of_state(text: &str) -> Option<RunId> {
    let state: State = serde_json::from_str(text).ok()?;
    state.common_build_opts?.secrets?.iter().find_map(|secret| run_of_secret(secret))
}

/// The runs whose builds made some of these containers, by the ids of those. One that is just being made, or that another
/// removes, has none.
///
/// # Errors
/// Where the tool does not say where it keeps them.
pub(super) async fn runs(podman: &Podman, ids: &[&str]) -> Result<BTreeMap<String, RunId>, Diagnostic> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let info = probe::info(podman).await?;
    let (Some(root), Some(driver)) = (probe::root(&info), probe::driver(&info)) else {
        return Ok(BTreeMap::new());
    };
    let folder = Path::new(root).join(format!("{driver}-containers"));
    let run_of = |id: &str| {
        let file = File::open(folder.join(id).join("userdata/buildah.json")).ok()?;
        let mut text = String::new();
        file.take(ANSWER_BYTES as u64).read_to_string(&mut text).ok()?;
        run_of_state(&text)
    };
    Ok(ids.iter().filter_map(|id| Some(((*id).to_owned(), run_of(id)?))).collect())
}

/// The folders of this user's that were made for steps in a container, where nothing is mounted any more.
pub(super) fn step_folders(temporary: &Path, container: &str) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let user = rustix::process::geteuid().as_raw();
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|digit| digit.is_ascii_digit());
    let own = |entry: std::fs::DirEntry| {
        let named = entry.file_name().to_str()?.strip_prefix(STEP_FOLDER).is_some_and(is_number);
        let metadata = entry.metadata().ok().filter(|found| found.is_dir() && found.uid() == user);
        metadata.filter(|_| named).map(|_| entry.path())
    };
    let line = format!("id=\"{container}\"");
    let is_of_it = |folder: &PathBuf| {
        let told = std::fs::read_to_string(folder.join("run/.containerenv")).unwrap_or_default();
        told.lines().any(|told| told == line) && !mounts.contains(&format!(" {}/", folder.display()))
    };
    let entries = std::fs::read_dir(temporary).into_iter().flatten().flatten();
    entries.filter_map(own).filter(is_of_it).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_x1_i_x2_containers_of_builds_are_known_by_their_mark_alone() {
        let run = RunId("r-1234n5-6-7".to_owned());
        let option = option(run.build_tag(8).expect("a tag").as_str()).into_string().expect("text");
        let secret = option.strip_prefix("--secret=").expect("a secret");
        let state =
            |secrets: &str| run_of_state(&format!(r#"{{"CommonBuildOpts":{{"Secrets":{secrets}}}}}"#));
        assert_eq!(state(&format!(r#"["id=key,src=/k","{secret}"]"#)), Some(run));
        for other in [
            "null",
            "[]",
            r#"["id=key,src=/t/build-r-1234n5-6-7-8/key"]"#,
            r#"["id=build-r-1234n5-6-7-8,src=/k"]"#,
            r#"["id=polyarch-key,src=/dev/null"]"#,
        ] {
            assert_eq!(state(other), None, "{other}");
        }
        for other in ["", "{}", r#"{"CommonBuildOpts":null}"#] {
            assert_eq!(run_of_state(other), None, "{other}");
        }
    }

    #[test]
    fn i_x2_folders_of_steps_are_known_by_the_container_that_they_name() {
        let temporary = tempfile::tempdir().expect("a folder");
        let make = |name: &str, container: &str| {
            let run = temporary.path().join(name).join("run");
            std::fs::create_dir_all(&run).expect("a folder");
            std::fs::write(run.join(".containerenv"), format!("name=\"x\"\nid=\"{container}\"\n"))
                .expect("a file");
        };
        make("buildah17", "ours");
        for (name, container) in [("buildah18", "theirs"), ("buildah-cache", "ours"), ("mine1", "ours")] {
            make(name, container);
        }
        std::fs::create_dir(temporary.path().join("buildah19")).expect("a folder");
        let link = temporary.path().join("buildah20");
        std::os::unix::fs::symlink(temporary.path().join("mine1"), link).expect("a link");
        assert_eq!(step_folders(temporary.path(), "ours"), [temporary.path().join("buildah17")]);
    }
}
