//! The work folder of a pipeline's job: a folder for each job, with the plan or with what it has added.

use std::path::{Path, PathBuf};

use crate::diag::{Diagnostic, Result};

use crate::cli::Context;
use crate::cli::settled::SettledPlan;

/// What the plan is called in the folder of its job.
pub(super) const PLAN: &str = "plan.json";
/// How many files are looked at.
const FILES_LIMIT: usize = 10_000;

/// An open work folder.
#[derive(Clone, Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Open it, and make it where it is not there.
    ///
    /// # Errors
    /// Where none is named, or it cannot be made.
    pub(super) fn open(folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) else {
            return Err(Diagnostic::request("nobody says where the files of the jobs are")
                .hint("name a folder outside of the family's: --work DIR, or POLYARCH_WORK")
                .into());
        };
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder of a job, with nothing but its name in it: services hand on no folder that is empty.
    ///
    /// # Errors
    /// Where it cannot be made, or what an attempt before this one left in it cannot be removed.
    pub(super) fn own(&self, name: &str) -> Result<PathBuf> {
        let own = self.folder.join(name);
        match std::fs::remove_dir_all(&own) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&own, &error).into());
            }
            _ => std::fs::create_dir(&own).map_err(|error| failed(&own, &error))?,
        }
        std::fs::write(own.join("job"), format!("{name}\n")).map_err(|error| failed(&own, &error))?;
        Ok(own)
    }

    /// The plan that the first job has settled, and its file; none where it has gone, and then that is said.
    ///
    /// # Errors
    /// Where it is no plan, or there are several: one of them is not of the first job (TM5).
    pub(super) fn plan(&self, context: &Context) -> Result<Option<(PathBuf, SettledPlan)>> {
        let plans = self.found(|name| name == PLAN)?;
        match plans.as_slice() {
            [] => {
                let warning = Diagnostic::warning(
                    "there is no file of the plan: its job has left none, or it has expired",
                );
                context.ui.warning(&warning.because("all is looked up and decided again here"));
                Ok(None)
            }
            [one] => Ok(Some((one.clone(), SettledPlan::read(one)?))),
            [one, other, ..] => {
                let (one, other) = (one.display(), other.display());
                Err(Diagnostic::request(format!("there are two plans: {one} and {other}"))
                    .hint(format!(
                        "let every run have a work folder of its own: rm -r {}",
                        self.folder.display()
                    ))
                    .into())
            }
        }
    }

    /// What the jobs before this one have added.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub(super) fn deltas(&self) -> Result<Vec<PathBuf>> {
        self.found(|name| name.ends_with(".tar"))
    }

    /// The ordinary files in folders of jobs whose names are meant.
    fn found(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in walkdir::WalkDir::new(&self.folder).min_depth(2).max_depth(2).sort_by_file_name() {
            let entry = entry.map_err(|error| failed(&self.folder, &std::io::Error::other(error)))?;
            if entry.file_type().is_file() && entry.file_name().to_str().is_some_and(&is_meant) {
                found.push(entry.into_path());
            }
            if found.len() > FILES_LIMIT {
                let why = format!("it has more than {FILES_LIMIT} files");
                return Err(failed(&self.folder, &std::io::Error::other(why)).into());
            }
        }
        Ok(found)
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::surroundings(format!("work in {}", path.display()))
        .caused_by(error)
        .hint("name another folder: --work DIR, or POLYARCH_WORK")
}
