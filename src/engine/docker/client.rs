//! Find a docker client that can build.
//!
//! Every `docker` on the whole search path is looked at: the first may be a newer client whose builder, buildx,
//! is a package of its own that is not there, while the next one can build.

use std::path::PathBuf;

use super::{ANSWER_BYTES, CALL, Docker};
use crate::diag::Diagnostic;
use crate::engine::floor::INSTALL_BUILDX;
use crate::engine::process;
use crate::engine::version::numbers;

/// From this major version on, a client has no builder but buildx.
const BUILDX_ONLY: u32 = 23;

/// A docker client that can build.
pub(super) struct Client {
    /// The program.
    pub(super) path: PathBuf,
    /// The version of its buildx.
    pub(super) buildx: Option<String>,
    /// Clients that were passed over, and why.
    pub(super) notes: Vec<Diagnostic>,
}

/// Find the first client on the search path that can build.
pub(super) async fn discover(docker: &Docker) -> Result<Client, Diagnostic> {
    let mut passed = Vec::new();
    let paths = process::find_all("docker", &docker.environment.search_path);
    if paths.is_empty() {
        return Err(Diagnostic::surroundings("there is no `docker` on the search path")
            .hint("install Docker Engine: sudo apt-get install docker.io")
            .hint("then look at what is there: polyarch doctor"));
    }
    for path in paths {
        match inspect(docker, path).await {
            Ok(client) => return Ok(Client { notes: passed, ..client }),
            Err(note) => passed.push(note),
        }
    }
    let mut problem = Diagnostic::surroundings("no docker client on the search path can build");
    for note in passed {
        problem.causes.push(note.to_string());
        note.hints
            .into_iter()
            .filter(|hint| !problem.hints.contains(hint))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|hint| problem.hints.push(hint));
    }
    Err(problem)
}

/// What a client can do, or why it is passed over.
async fn inspect(docker: &Docker, path: PathBuf) -> Result<Client, Diagnostic> {
    let config = docker.config(None).await?;
    let ask = |arguments: [&'static str; 2]| {
        docker.program(&path, &config, CALL).arguments(arguments).capture(ANSWER_BYTES)
    };
    let shown = path.display();
    let version = ask(["--version", "--"]).await?;
    let Some(major) = major_version(&version.text()) else {
        return Err(Diagnostic::warning(format!("{shown} is no client of Docker and is passed over"))
            .because(first_line(&version.text())));
    };
    let buildx = ask(["buildx", "version"]).await?;
    let buildx = buildx.ended.success().then(|| buildx_version(&buildx.text())).flatten();
    if buildx.is_none() && major >= BUILDX_ONLY {
        return Err(Diagnostic::warning(format!(
            "{shown} is a client of version {major} without buildx, cannot build, and is passed over"
        ))
        .hint(INSTALL_BUILDX));
    }
    Ok(Client { path, buildx, notes: Vec::new() })
}

/// The major version in `Docker version 28.2.2, build e6534b4`; none for programs that only look like docker.
fn major_version(text: &str) -> Option<u32> {
    let rest = text.lines().find_map(|line| line.strip_prefix("Docker version "))?;
    numbers(rest).map(|(major, ..)| major)
}

/// The version in `github.com/docker/buildx 0.29.1+ds1 0.29.1+ds1-4`.
fn buildx_version(text: &str) -> Option<String> {
    let version = text.lines().next()?.split_whitespace().nth(1)?;
    Some(version.trim_start_matches('v').to_owned())
}

fn first_line(text: &str) -> String {
    crate::engine::lines::plain(text.lines().next().unwrap_or("it says nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(major_version("Docker version 20.10.24+dfsg1, build 297e128"), Some(20));
        assert_eq!(major_version("Emulate Docker CLI using podman.\npodman version 4.3.1"), None);
        assert_eq!(buildx_version("github.com/docker/buildx v0.12.1 30feaa1").as_deref(), Some("0.12.1"));
    }
}
