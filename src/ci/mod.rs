//! The plan as the pipeline of a CI service: one file a service, and no name of a service anywhere else.
//!
//! A pipeline has no logic: each of its jobs is one `polyarch job`, which reads the event from the environment. Its graph
//! is the family's (I-Y4). Writing it is a function of the family and of `[ci]`: same input, same bytes (F-Y3).

mod circleci;
mod event;
mod github;
mod gitlab;
mod install;
mod joining;
mod packing;
mod pipeline;
#[cfg(test)]
mod tests;
mod tongue;
mod yaml;

use std::collections::BTreeSet;

use crate::config::{CiSettings, ServiceSetting};
use crate::diag::{Diagnostic, Result};
use crate::family::Family;
use crate::oci::Digest;

use pipeline::{Ground, Pipeline};

pub(crate) use event::{Beginning, Event, beginning, is_thrown_away, merged, message};
pub(crate) use joining::may_be_joining;
pub(crate) use pipeline::{id_of, ids};
pub(crate) use tongue::{Pushed, harmless, summary};

/// A CI service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// GitHub Actions.
    Github,
    /// CircleCI.
    Circleci,
    /// GitLab CI.
    Gitlab,
}

/// The pipeline of a family for a service: a job for each image, and one more for each that goes by itself; where the
/// service's limits do not let it, one job that publishes all, and as few images in a job as must be.
///
/// # Errors
/// Where a platform has no runner, or there is more than the service takes, however many images share a job.
pub(crate) fn written(family: &Family, settings: &CiSettings, service: Service) -> Result<Written> {
    let (setting, ground) = service.terms(settings);
    let pipeline = Pipeline::new(family, settings, setting, ground)?;
    if let Ok(fits) = fitting(&pipeline, service, ground) {
        return Ok(fits);
    }
    match packed(&pipeline, service, ground) {
        Err(_) if ground.has_stages => packed(&pipeline.in_stages(), service, ground),
        packed => packed,
    }
}

/// The same with as few images in a job as the limits let it.
fn packed(pipeline: &Pipeline<'_>, service: Service, ground: &Ground) -> Result<Written> {
    let mut size = 1;
    loop {
        let fits = fitting(&pipeline.packed(size), service, ground);
        if fits.is_ok() || size >= pipeline.builds.len() {
            return fits;
        }
        size += size.div_ceil(4);
    }
}

/// A pipeline as a service has it.
///
/// # Errors
/// F-Y2: where it is more than the service takes.
fn fitting(pipeline: &Pipeline<'_>, service: Service, ground: &Ground) -> Result<Written> {
    pipeline.check(ground)?;
    let written = match service {
        Service::Github => github::github(pipeline),
        Service::Circleci => circleci::circleci(pipeline),
        Service::Gitlab => gitlab::gitlab(pipeline),
    };
    match written.text.len() > ground.bytes_limit {
        true => Err(too_large(&written, ground.bytes_limit).into()),
        false => Ok(written),
    }
}

impl Service {
    /// What is said for it.
    pub(crate) fn setting(self, settings: &CiSettings) -> &ServiceSetting {
        self.terms(settings).0
    }

    /// What is said for it, and what it has by itself.
    fn terms(self, settings: &CiSettings) -> (&ServiceSetting, &'static Ground) {
        match self {
            Self::Github => (&settings.github, &github::GROUND),
            Self::Circleci => (&settings.circleci, &circleci::GROUND),
            Self::Gitlab => (&settings.gitlab, &gitlab::GROUND),
        }
    }
}

/// TM23: the runners of a service that are not its own, on which strangers' proposals are built.
pub(crate) fn own_runners(settings: &CiSettings, service: Service) -> BTreeSet<String> {
    let (setting, ground) = service.terms(settings);
    pipeline::own_runners(setting, ground)
}

/// F-Y8: what is said of actions at commits that were chosen long ago, on a day since 1970-01-01. Nobody looks for newer ones
/// when a pipeline is written: same input, same bytes.
pub(crate) fn aged(service: Service, today: u64) -> Option<Diagnostic> {
    const DAYS: u64 = 180;
    let age = today.saturating_sub(github::LOOKED_AT_DAY);
    (service == Service::Github && age > DAYS).then(|| {
        Diagnostic::warning(format!(
            "the commits of the workflow's actions were last looked at {age} days ago"
        ))
        .hint("use a newer polyarch, which names newer ones")
    })
}

fn too_large(written: &Written, limit: usize) -> Diagnostic {
    let (path, bytes) = (written.path, written.text.len());
    Diagnostic::request(format!("{path} would have {bytes} bytes, and the service takes {limit}"))
        .hint("make two families of it, each with a pipeline; see what there is: polyarch plan")
}

/// A file of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Which service it is for, as `polyarch ci` is told.
    pub(crate) service: &'static str,
    /// Its path, relative to the repository.
    pub(crate) path: &'static str,
    /// What stands in it.
    pub(crate) text: String,
}

/// What the first line of every written file begins with; files without it were written by somebody else.
const MARK: &str = "# Written by `polyarch ci ";
/// What its second line begins with, before the digest of all lines behind it.
const SEAL: &str = "# ";

impl Written {
    /// A file for a service: its content below who wrote it, and the digest by which it is seen whether it was edited.
    fn new(service: &'static str, path: &'static str, content: &str) -> Self {
        let seal = Digest::of(content.as_bytes());
        let head =
            format!("{MARK}{service}` from polyarch.toml: edit that, and run it again.\n{SEAL}{seal}\n");
        Self { service, path, text: format!("{head}{content}") }
    }
}

/// Whether a file is as it was written, whatever it was written from; `None` where polyarch has not written it.
pub(crate) fn is_as_written(text: &str) -> Option<bool> {
    let (_, rest) = text.strip_prefix(MARK)?.split_once('\n')?;
    let (seal, content) = rest.split_once('\n')?;
    Some(seal.strip_prefix(SEAL)? == Digest::of(content.as_bytes()).to_string())
}
