//! `polyarch ci`: write the family's pipeline for a CI service.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::ci::{self, Written};
use crate::config::StorePlace;
use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind, Result};

use super::job::no_store_at_registry;
use super::workspace::Workspace;
use super::{Context, Ended, recorder};

const MILLISECONDS_OF_DAY: u64 = 24 * 60 * 60 * 1_000;

/// Write the pipeline of a CI service
///
/// It has a job for each image variant on each platform, which waits for the jobs of the images that it stands on and for
/// nothing else; then one that publishes all or nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch ci github                     writes .github/workflows/polyarch.yml
  polyarch ci gitlab                     writes .gitlab-ci.yml
  polyarch ci circleci                   writes .circleci/config.yml
  polyarch ci github --check             is it as it would be written? exit code 1 where it is not
  polyarch ci github --force             also over a file that somebody has edited
  polyarch ci github --print             to standard output")]
pub(super) struct Options {
    /// The service
    #[arg(value_enum, value_name = "SERVICE")]
    service: Service,
    /// Write nothing; end with 1 where the file is not as it would be written, and show the difference
    #[arg(long)]
    check: bool,
    /// Write over a file that was edited by hand
    #[arg(long, conflicts_with = "check")]
    force: bool,
    /// Write to standard output
    #[arg(long, conflicts_with_all = ["check", "force"])]
    print: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Service {
    Github,
    Circleci,
    Gitlab,
}

impl Service {
    fn meant(self) -> ci::Service {
        match self {
            Self::Github => ci::Service::Github,
            Self::Circleci => ci::Service::Circleci,
            Self::Gitlab => ci::Service::Gitlab,
        }
    }
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Ended> {
    let workspace = Workspace::read(context, &BTreeMap::new())?;
    let service = options.service.meant();
    if service.setting(&workspace.ci).sign.is_some()
        && !matches!(workspace.store, Some(StorePlace::Registry { .. }))
    {
        return Err(no_store_at_registry().into());
    }
    let written = ci::written(&workspace.family, &workspace.ci, service)?;
    if let Some(warning) = ci::aged(service, recorder::now() / MILLISECONDS_OF_DAY) {
        context.ui.warning(&warning);
    }
    if options.print {
        context.ui.data(&written.text);
        return Ok(Ended::Well);
    }
    let path = workspace.root.join(written.path);
    let there = std::fs::read_to_string(&path).ok();
    let says_so = || there.as_deref().and_then(ci::is_as_written) == Some(true);
    if there.as_ref() == Some(&written.text) || !stands(Defence::PipelineCompared) && says_so() {
        context.ui.note(&format!("{} is up to date", written.path));
        return Ok(Ended::Well);
    }
    if options.check {
        let old = there.unwrap_or_default();
        context.ui.data(&difference(written.path, &old, &written.text));
        let problem = Diagnostic::new(Kind::Failed, format!("{} is out of date", written.path));
        return Err(problem.hint(format!("write it anew: polyarch ci {}", written.service)).into());
    }
    if let Some(old) = there.filter(|_| !options.force) {
        refuse_edited(&written, &old)?;
    }
    write(&path, &written)?;
    context.ui.data(&format!("{}\n", written.path));
    Ok(Ended::Well)
}

/// F-Y4: what somebody else has written, or edited since, stays.
fn refuse_edited(written: &Written, old: &str) -> Result<()> {
    let why = match ci::is_as_written(old) {
        Some(true) => return Ok(()),
        Some(false) => "it was edited since polyarch wrote it",
        None => "polyarch has not written it",
    };
    let problem = Diagnostic::new(Kind::Policy, format!("{} would be lost", written.path)).because(why);
    Err(problem
        .hint(format!("see what would change: polyarch ci {} --check", written.service))
        .hint(format!("write over it: polyarch ci {} --force", written.service))
        .into())
}

fn write(path: &Path, written: &Written) -> Result<()> {
    let failed = |error: std::io::Error| {
        Diagnostic::surroundings(format!("write {}", written.path))
            .caused_by(&error)
            .hint(format!("or have it on standard output: polyarch ci {} --print", written.service))
    };
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let mut part = tempfile::NamedTempFile::new_in(&folder).map_err(failed)?;
    let permissions = std::fs::Permissions::from_mode(0o644);
    std::io::Write::write_all(&mut part, written.text.as_bytes()).map_err(failed)?;
    part.as_file().set_permissions(permissions).map_err(failed)?;
    part.persist(path).map(drop).map_err(|error| failed(error.error).into())
}

/// What would change, in the form of `diff -u`.
fn difference(path: &str, old: &str, new: &str) -> String {
    let (before, after) = (format!("a/{path}"), format!("b/{path}"));
    similar::TextDiff::from_lines(old, new).unified_diff().header(&before, &after).to_string()
}
