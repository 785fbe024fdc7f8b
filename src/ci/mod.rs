//! The plan as the pipeline of a CI service: one file a service, and no name of a service anywhere else.
//!
//! A pipeline has no logic: each of its jobs is one `polyarch job`, which reads the event from the environment. Its graph
//! is the family's (I-Y4). Writing it is a function of the family and of `[ci]`: same input, same bytes (F-Y3).

mod circleci;
mod event;
mod github;
mod gitlab;
mod install;
mod pipeline;
#[cfg(test)]
mod tests;
mod tongue;
mod yaml;

use crate::config::CiSettings;
use crate::diag::Result;
use crate::family::Family;
use crate::oci::Digest;

use pipeline::Pipeline;

pub(crate) use event::{Beginning, Event, beginning, is_thrown_away};
pub(crate) use pipeline::ids;
pub(crate) use tongue::{harmless, summary};

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

/// The pipeline of a family for a service.
///
/// # Errors
/// Where a platform has no runner, or there are more jobs than the service takes.
pub(crate) fn written(family: &Family, settings: &CiSettings, service: Service) -> Result<Written> {
    let of = |setting, ground| Pipeline::new(family, settings, setting, ground);
    Ok(match service {
        Service::Github => github::github(&of(&settings.github, &github::GROUND)?),
        Service::Circleci => circleci::circleci(&of(&settings.circleci, &circleci::GROUND)?),
        Service::Gitlab => gitlab::gitlab(&of(&settings.gitlab, &gitlab::GROUND)?),
    })
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
