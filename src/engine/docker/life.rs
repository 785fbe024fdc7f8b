//! What can be seen of an engine's machine, and whether the engine still answers.

use std::time::Duration;

use super::{ANSWER_BYTES, Docker};
use crate::diag::Diagnostic;
use crate::engine::emulation::{self, Emulated};

/// How long an engine is not asked after it has answered.
const PAUSE: Duration = Duration::from_secs(4);
/// How long it may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);
/// How often in a row it may stay silent. It is lost at most `PAUSE + SILENCES * PATIENCE` after its last answer: 16 s.
const SILENCES: usize = 2;

/// Comes back once the engine no longer answers.
pub(super) async fn lost(docker: &Docker) -> Diagnostic {
    match &docker.line {
        Some(line) => tokio::select! {
            problem = line.lost() => problem,
            problem = silent(|| pulse(docker)) => problem,
        },
        None => silent(|| pulse(docker)).await,
    }
}

/// Comes back once there is no sign of life any more.
pub(super) async fn silent<P>(pulse: impl Fn() -> P) -> Diagnostic
where
    P: Future<Output = Result<(), Diagnostic>>,
{
    let mut silences = 0;
    loop {
        tokio::time::sleep(if silences == 0 { PAUSE } else { Duration::ZERO }).await;
        match pulse().await {
            Ok(()) => silences = 0,
            Err(_) if silences + 1 < SILENCES => silences += 1,
            Err(problem) => return problem,
        }
    }
}

/// Comes back once an engine that was lost answers again.
pub(super) async fn returned(docker: &Docker) {
    loop {
        tokio::time::sleep(PAUSE).await;
        if let Some(line) = &docker.line
            && line.again().await.is_err()
        {
            continue;
        }
        if pulse(docker).await.is_ok() {
            return;
        }
    }
}

/// Ask for a sign of life.
pub(super) async fn pulse(docker: &Docker) -> Result<(), Diagnostic> {
    let config = docker.config(None).await?;
    let client = &docker.client().await?.path;
    let output = docker
        .program(client, &config, PATIENCE)
        .arguments(["version", "--format", "{{.Server.Version}}"])
        .capture(ANSWER_BYTES)
        .await?;
    match output.ended.success() {
        true => Ok(()),
        false => Err(docker.refused("hear a sign of life", &output)),
    }
}

/// What the engine's machine emulates, where that can be seen.
pub(super) async fn emulated(docker: &Docker) -> Result<Option<Emulated>, Diagnostic> {
    match &docker.line {
        Some(line) => {
            let listed = line.ask(emulation::LIST).await?;
            Ok(listed.ended.success().then(|| emulation::of_list(&listed.text())))
        }
        None => Ok(docker.is_local().then(emulation::of_this_machine)),
    }
}

/// How many bytes are free where the engine keeps images, where that can be seen.
pub(super) async fn room(docker: &Docker) -> Option<u64> {
    let root = docker.facts().await.ok()?.root.as_ref()?;
    match &docker.line {
        Some(line) => {
            let root = root.to_str().filter(|root| !root.contains('\''))?;
            let listed = line.ask(&format!("df -Pk '{root}'")).await.ok()?;
            // Linux and POSIX: file system, 1024-blocks, used, available, capacity, mounted on.
            let kibibytes: u64 = listed.text().lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
            Some(kibibytes << 10)
        }
        None if docker.is_local() => {
            let state = rustix::fs::statvfs(root).ok()?;
            Some(state.f_bavail * state.f_frsize)
        }
        None => None,
    }
}
