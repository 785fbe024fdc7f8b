//! What can be seen of an engine's machine, and whether the engine still answers.

use std::path::Path;
use std::time::Duration;

use super::buildx::Nodes;
use super::socket::{self, Whereabouts};
use super::{ANSWER_BYTES, Docker};
use crate::diag::Diagnostic;
use crate::engine::emulation::{self, Emulated};
use crate::engine::process::Output;
use crate::engine::room::{self, Room};
use crate::engine::ssh::Ssh;

/// How long an engine is not asked after it has answered, or has not: what one question met may have passed by the next.
const PAUSE: Duration = Duration::from_secs(3);
/// How long it may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How many questions in a row go without an answer where it is lost: `(PAUSE + PATIENCE) * QUESTIONS` after its last
/// answer, 16 s.
const QUESTIONS: usize = 2;
/// The same where the engine's process is seen to be at work meanwhile, as on a machine that has far more to do than it can:
/// 64 s. One that is frozen, or dead, does nothing.
const QUESTIONS_AT_WORK: usize = 8;

/// Asks on the engine's machine. A client whose engine is frozen would wait for ever, whoever asked: it is ended there once
/// nobody waits here any more.
const ASKING: &str = "limit=; ! command -v timeout >/dev/null || limit='timeout 10'; \
                      exec $limit docker version --format '{{.Server.Version}}'";

/// No sign of life has come.
#[derive(Debug)]
pub(super) enum Missed {
    /// Nothing was heard in time, or nobody could be asked: that may pass.
    Silence(Diagnostic),
    /// It was said that nobody is there.
    Refusal(Diagnostic),
}

impl Missed {
    /// What came of a command that speaks to the engine and did not end well.
    pub(super) fn of(output: &Output, problem: Diagnostic) -> Self {
        match output.ended.timed_out {
            true => Self::Silence(problem),
            false => Self::Refusal(problem),
        }
    }
}

impl From<Diagnostic> for Missed {
    fn from(problem: Diagnostic) -> Self {
        Self::Silence(problem)
    }
}

impl From<Missed> for Diagnostic {
    fn from(missed: Missed) -> Self {
        let (Missed::Silence(problem) | Missed::Refusal(problem)) = missed;
        problem
    }
}

/// How many questions in a row had no answer, and what was seen of the engine's work meanwhile.
struct Patience<W> {
    work: W,
    done: Option<u64>,
    missed: usize,
}

impl<W, D> Patience<W>
where
    W: Fn() -> D,
    D: Future<Output = Option<u64>>,
{
    /// It is asked first; what it has done is to be had by `work`, as far as that can be seen.
    fn new(work: W) -> Self {
        Self { work, done: None, missed: 0 }
    }

    /// Whether it is lost after one more question that it has missed.
    async fn is_over(&mut self, missed: &Missed) -> bool {
        let before = std::mem::replace(&mut self.done, (self.work)().await);
        let is_at_work = before.zip(self.done).is_some_and(|(before, now)| now > before);
        self.missed += 1;
        match missed {
            Missed::Silence(_) if is_at_work => self.missed >= QUESTIONS_AT_WORK,
            _ => self.missed >= QUESTIONS,
        }
    }
}

/// Nothing can be seen of what an engine does.
pub(super) async fn unseen() -> Option<u64> {
    None
}

/// Whether an engine answers that has just failed. One that is restarted comes back soon and knows nothing of what it was
/// at, so a refusal says enough; after mere silence it is asked once more.
pub(super) async fn answers<P, D>(pulse: impl Fn() -> P, work: impl Fn() -> D) -> bool
where
    P: Future<Output = Result<(), Missed>>,
    D: Future<Output = Option<u64>>,
{
    let mut patience = Patience::new(work);
    loop {
        match pulse().await {
            Ok(()) => return true,
            Err(Missed::Refusal(_)) => return false,
            Err(missed) if patience.is_over(&missed).await => return false,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What an engine of this machine has done so far, as far as its process can be seen.
pub(super) async fn work(docker: &Docker) -> Option<u64> {
    match docker.line {
        Some(_) => None,
        None => socket::processor_ticks(docker).await,
    }
}

/// Comes back once the engine no longer answers.
pub(super) async fn lost(docker: &Docker) -> Diagnostic {
    match &docker.line {
        Some(line) => tokio::select! {
            problem = line.lost() => problem,
            problem = silent(|| pulse(docker), unseen) => problem,
            // So that no job waits for that.
            never = docker.room.renew(|| room(docker)) => match never {},
        },
        None => silent(|| pulse(docker), || work(docker)).await,
    }
}

/// Comes back once there is no sign of life any more.
pub(super) async fn silent<P, D>(pulse: impl Fn() -> P, work: impl Fn() -> D) -> Diagnostic
where
    P: Future<Output = Result<(), Missed>>,
    D: Future<Output = Option<u64>>,
{
    let mut patience = Patience::new(work);
    loop {
        tokio::time::sleep(PAUSE).await;
        match pulse().await {
            Ok(()) => patience.missed = 0,
            Err(missed) if patience.is_over(&missed).await => return missed.into(),
            Err(_) => {}
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

/// Comes back once there is a sign of life again.
pub(super) async fn heard<P>(pulse: impl Fn() -> P)
where
    P: Future<Output = Result<(), Missed>>,
{
    loop {
        tokio::time::sleep(PAUSE).await;
        if pulse().await.is_ok() {
            return;
        }
    }
}

/// Ask for a sign of life.
pub(super) async fn pulse(docker: &Docker) -> Result<(), Missed> {
    socket::check(docker).map_err(Missed::Refusal)?;
    // Where no port is forwarded, the client goes there by a connection of its own.
    let host = docker.environment.host.as_deref();
    if let Some(line) = docker.line.as_ref().filter(|_| host.is_some_and(|host| host.starts_with("ssh://"))) {
        return pulse_by(docker, line).await;
    }
    let config = docker.config(None).await?;
    let client = &docker.client().await?.path;
    let output = docker
        .program(client, &config, PATIENCE)
        .arguments(["version", "--format", "{{.Server.Version}}"])
        // A client that waits for an engine that is gone may not hear that it should end.
        .without_grace()
        .capture(ANSWER_BYTES)
        .await?;
    match output.ended.success() {
        true => Ok(()),
        false => Err(Missed::of(&output, docker.refused("hear a sign of life", &output))),
    }
}

/// Ask on the engine's machine: a client that connects anew for each question takes far longer than the engine does to answer.
async fn pulse_by(docker: &Docker, line: &Ssh) -> Result<(), Missed> {
    let asking = line.ask(ASKING);
    let Ok(output) = tokio::time::timeout(PATIENCE, asking).await else {
        let problem = Diagnostic::surroundings(format!("hear a sign of life from {}", docker.address()));
        return Err(Missed::Silence(problem.because(format!("none came within {} s", PATIENCE.as_secs()))));
    };
    let output = output?;
    match output.ended.success() {
        true => Ok(()),
        false => Err(Missed::of(&output, docker.refused("hear a sign of life", &output))),
    }
}

/// That its user may not speak to the engine, in the words of the client on the engine's machine, where that is another: the
/// one here hears only that nobody answers.
pub(super) async fn forbidden_there(docker: &Docker) -> Option<String> {
    let asked = tokio::time::timeout(PATIENCE, docker.line.as_ref()?.ask(ASKING)).await;
    let complaint = asked.ok()?.ok().filter(|output| !output.ended.success())?.complaint();
    complaint.contains("permission denied").then_some(complaint)
}

/// What the engine's machine emulates, where that can be seen: of a machine that no command is run on, what its BuildKit says.
pub(super) async fn emulated(
    docker: &Docker,
    buildkit: Option<&Nodes>,
) -> Result<Option<Emulated>, Diagnostic> {
    match &docker.line {
        Some(line) => {
            let listed = line.ask(emulation::LIST).await?;
            Ok(listed.ended.success().then(|| emulation::of_list(&listed.text())))
        }
        None if docker.whereabouts() >= Whereabouts::ThisKernel => Ok(Some(emulation::of_this_machine())),
        None => Ok(buildkit.map(Nodes::emulated)),
    }
}

/// How much room there is where the engine keeps images, where that can be seen: the least, where that is two places.
pub(super) async fn room(docker: &Docker) -> Option<Room> {
    let root = docker.facts().await.ok()?.root.as_ref()?;
    let room = room_in(docker, root).await?;
    let of_content = match docker.content.get() {
        Some(content) => room_in(docker, content).await,
        None => None,
    };
    Some(of_content.into_iter().fold(room, Room::least))
}

async fn room_in(docker: &Docker, root: &Path) -> Option<Room> {
    match &docker.line {
        Some(line) => {
            let text = root.to_str().filter(|root| !root.contains('\''))?;
            let listed = line.ask(&room::LIST.replace("{}", text)).await.ok()?;
            Room::of_list(root, &listed.text())
        }
        None if docker.whereabouts() == Whereabouts::Here => Room::of_this_machine(root),
        None => None,
    }
}

#[cfg(test)]
mod tests;
