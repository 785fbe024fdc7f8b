//! The one place that starts processes.
//!
//! Every process gets an environment of its own choosing, no terminal, a limit on its time and on what it may
//! write, and a process group of its own: whoever stops waiting for it (a time limit, a signal, an error
//! elsewhere) ends it and all that it started, politely first. Where this process is killed, its guard does.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::guard::Guarded;
use super::lines::Lines;
use super::offspring::Offspring;
use crate::diag::Diagnostic;

/// How long a process may take to end itself once it is asked to.
const GRACE: Duration = Duration::from_secs(5);

/// How often it is looked at what a process starts while it ends.
const LOOK: Duration = Duration::from_millis(100);

/// How long what a process has started may hold its output open once it has ended itself.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// How much is read of what a program says that nobody hears.
const LAST_WORDS: usize = 4 << 10;

/// The exit code that tells of a process that SIGKILL has ended.
const KILLED: i32 = 128 + 9;

/// Which of its two outputs a process has written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// It was ended because its time was over.
    pub(crate) timed_out: bool,
}

impl Ended {
    /// Whether it did what it was asked to.
    pub(crate) fn success(self) -> bool {
        self.code == Some(0) && !self.timed_out
    }

    /// Whether somebody else ended it, such as a system that has run out of memory: by a signal, or by one that what it had
    /// started got and that it told on, as shells and programs that start themselves anew do.
    pub(crate) fn was_killed(self) -> bool {
        !self.timed_out && matches!(self.code, None | Some(KILLED))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.timed_out, self.code) {
            (true, _) => f.write_str("its time was over"),
            (false, Some(code)) => write!(f, "exit code {code}"),
            (false, None) => f.write_str("it was killed"),
        }
    }
}

/// What a process wrote, as far as it was asked for, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) ended: Ended,
    /// What it wrote to standard output.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text without white space around it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Standard error as text without white space around it.
    pub(crate) fn complaint(&self) -> String {
        super::lines::plain(&String::from_utf8_lossy(&self.stderr)).trim().to_owned()
    }
}

/// A program to start, and all that it is given.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    input: Vec<u8>,
    /// Its input stays open until it ends, or this process does.
    held_open: bool,
    time_limit: Duration,
    /// How long it may take to end itself once it is asked to.
    grace: Duration,
}

impl Program {
    /// A program that must end within a time. Its environment is empty, its input too.
    pub(crate) fn new(path: impl Into<PathBuf>, time_limit: Duration) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            input: Vec::new(),
            held_open: false,
            time_limit,
            grace: GRACE,
        }
    }

    /// One more argument.
    #[must_use]
    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub(crate) fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// One more variable of its environment.
    #[must_use]
    pub(crate) fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// The folder that it starts in.
    #[must_use]
    pub(crate) fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// What it reads from standard input.
    #[must_use]
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Its input has no end before this process has one: how it sees that nobody waits for it any more.
    #[must_use]
    pub(crate) fn held_open(mut self) -> Self {
        self.held_open = true;
        self
    }

    /// It has nothing to put in order: where its time is over it is killed at once.
    #[must_use]
    pub(crate) fn without_grace(mut self) -> Self {
        self.grace = Duration::ZERO;
        self
    }

    /// Run it, and keep at most `limit` bytes of each of its outputs; the rest is read and dropped.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(crate) async fn capture(self, limit: usize) -> Result<Output, Diagnostic> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let ended = self
            .pieces(|stream, piece| {
                let kept = match stream {
                    Stream::Out => &mut stdout,
                    Stream::Err => &mut stderr,
                };
                kept.extend_from_slice(&piece[..piece.len().min(limit - kept.len())]);
            })
            .await?;
        Ok(Output { ended, stdout, stderr })
    }

    /// Run it, and hear each line of both outputs as it comes: bounded, valid text, nothing that moves a cursor.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(crate) async fn lines(
        self,
        redactor: &super::Redactor,
        mut hear: impl FnMut(Stream, &str) + Send,
    ) -> Result<Ended, Diagnostic> {
        let (mut out, mut err) = (Lines::new(redactor), Lines::new(redactor));
        let ended = self
            .pieces(|stream, piece| match stream {
                Stream::Out => out.push(piece, |line| hear(stream, line)),
                Stream::Err => err.push(piece, |line| hear(stream, line)),
            })
            .await?;
        out.finish(|line| hear(Stream::Out, line));
        err.finish(|line| hear(Stream::Err, line));
        Ok(ended)
    }

    /// Run it, and hear both outputs in the pieces that they come in.
    async fn pieces(mut self, mut hear: impl FnMut(Stream, &[u8]) + Send) -> Result<Ended, Diagnostic> {
        let input = std::mem::take(&mut self.input);
        let mut group = self.start(self.held_open || !input.is_empty())?;
        // Its time runs from here: what comes before is the machine's.
        let deadline = Instant::now() + self.time_limit;
        let (sender, mut pieces) = mpsc::channel(16);
        let mut held = None;
        if let Some(child) = &mut group.child {
            match child.stdin.take() {
                Some(stdin) if self.held_open => held = Some(stdin),
                Some(stdin) => drop(tokio::spawn(feed(stdin, input))),
                None => {}
            }
            child.stdout.take().map(|pipe| tokio::spawn(forward(Stream::Out, pipe, sender.clone())));
            child.stderr.take().map(|pipe| tokio::spawn(forward(Stream::Err, pipe, sender.clone())));
        }
        drop(sender);

        let mut status = None;
        let mut open = true;
        let mut stop_at = deadline;
        while status.is_none() || open {
            tokio::select! {
                piece = pieces.recv(), if open => match piece {
                    Some((stream, piece)) => hear(stream, &piece),
                    None => open = false,
                },
                ended = group.wait(), if status.is_none() => {
                    status = Some(ended.map_err(|error| self.failure("wait for", &error))?);
                    stop_at = deadline.min(Instant::now() + STRAGGLERS);
                }
                () = tokio::time::sleep_until(stop_at) => break,
            }
        }
        drop(held);
        match status {
            Some(status) => {
                group.kill();
                group.child = None;
                Ok(Ended { code: status.code(), timed_out: false })
            }
            None => {
                group.end().await;
                Ok(Ended { code: None, timed_out: true })
            }
        }
    }

    fn start(&self, piped_input: bool) -> Result<Group, Diagnostic> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
        let mut command = tokio::process::Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(if piped_input { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let child = command.spawn().map_err(|error| self.failure("start", &error))?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (offspring, guarded) = (leader.map(Offspring::of), leader.map(Guarded::new));
        Ok(Group { child: Some(child), leader, offspring, guarded, grace: self.grace })
    }

    fn failure(&self, doing: &str, error: &std::io::Error) -> Diagnostic {
        Diagnostic::surroundings(format!("{doing} `{}`", self.path.display())).because(error)
    }
}

/// A program that runs even where nobody waits any more for what comes before it.
pub(super) struct AtLast(Option<Program>);

impl AtLast {
    /// One to run at last.
    pub(super) fn new(program: Program) -> Self {
        Self(Some(program))
    }

    /// Run it now, and wait for it.
    pub(super) async fn now(mut self, limit: usize) -> Result<(), Diagnostic> {
        match self.0.take() {
            Some(program) => program.capture(limit).await.map(drop),
            None => Ok(()),
        }
    }

    /// It is not needed.
    pub(super) fn never(mut self) {
        self.0 = None;
    }
}

impl Drop for AtLast {
    fn drop(&mut self) {
        // Without a runtime there is nothing to wait with; the next sweep removes what is left.
        if let (Some(program), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(program.capture(LAST_WORDS));
        }
    }
}

/// The first file of that name on a search path, and every other after it; each file once.
pub(crate) fn find_all(name: &str, search_path: &OsStr) -> Vec<PathBuf> {
    let mut seen = std::collections::BTreeSet::new();
    std::env::split_paths(search_path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .filter(|file| is_executable(file))
        .filter(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())))
        .collect()
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// A process and all that it starts. Dropped before it has ended, it is ended.
struct Group {
    child: Option<Child>,
    leader: Option<Pid>,
    /// Whom to end with it, as far as that was looked for.
    offspring: Option<Offspring>,
    guarded: Option<Guarded>,
    grace: Duration,
}

impl Group {
    async fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        match &mut self.child {
            Some(child) => child.wait().await,
            None => std::future::pending().await,
        }
    }

    fn look(&mut self) {
        self.offspring.iter_mut().for_each(Offspring::look);
    }

    fn signal(&self, signal: Signal) {
        // A group that is empty already needs no signal.
        let _ = self.leader.map(|leader| kill_process_group(leader, signal));
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
        self.offspring.iter().for_each(Offspring::kill);
    }

    /// Ask it to end, wait, and end it.
    async fn end(&mut self) {
        self.look();
        self.signal(Signal::TERM);
        let over = Instant::now() + self.grace;
        // It may start something even now, and leave it behind.
        while tokio::time::timeout(LOOK, self.wait()).await.is_err() && Instant::now() < over {
            self.look();
        }
        self.kill();
        let _ = self.wait().await;
        self.child = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        let (offspring, guarded) = (self.offspring.take(), self.guarded.take());
        let (leader, grace) = (self.leader, self.grace);
        let mut rest = LastResort(Self { child: Some(child), leader, offspring, guarded, grace });
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { rest.0.end().await })),
            Err(_) => drop(rest),
        }
    }
}

/// A group whose end nobody waits for: where the runtime stops first, it is killed at once.
struct LastResort(Group);

impl Drop for LastResort {
    fn drop(&mut self) {
        if self.0.child.is_some() {
            self.0.look();
            self.0.kill();
            // Letting go of it would have killed it alone, before anybody had looked whom it leaves behind.
            self.0.child = None;
        }
    }
}

async fn feed(mut stdin: ChildStdin, input: Vec<u8>) {
    // A process that does not read all of it has its reasons, and says them by its exit code.
    let _ = stdin.write_all(&input).await;
}

async fn forward(stream: Stream, mut pipe: impl AsyncRead + Unpin, sender: mpsc::Sender<(Stream, Vec<u8>)>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        if sender.send((stream, buffer[..read].to_vec())).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Redactor;

    fn shell(script: &str, time_limit: Duration) -> Program {
        Program::new("/bin/sh", time_limit).arguments(["-c", script]).variable("PATH", "/usr/bin:/bin")
    }

    const LONG: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn output_environment_input_and_exit_code_come_through() {
        let output = shell("echo \"$A-$HOME\"; cat; echo oops >&2; exit 3", LONG)
            .variable("A", "b")
            .input("typed")
            .capture(100)
            .await
            .unwrap();
        assert_eq!((output.text().as_str(), output.complaint().as_str()), ("b-\ntyped", "oops"));
        assert_eq!(output.ended, Ended { code: Some(3), timed_out: false });
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let output = shell("head -c 3000000 /dev/zero", LONG).capture(1000).await.unwrap();
        assert_eq!((output.stdout.len(), output.ended.success()), (1000, true));
    }

    #[tokio::test]
    async fn f_g2_a_process_and_its_children_end_with_their_time() {
        let output = shell("sleep 300 & echo $!; wait", Duration::from_secs(3)).capture(100).await.unwrap();
        assert!(output.ended.timed_out && !output.text().is_empty(), "{output:?}");
        assert!(gone(&output.text()).await, "the grandchild lives on");
    }

    #[tokio::test]
    async fn one_that_is_waited_for_no_more_is_ended_with_its_children() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let redactor = Redactor::default();
        let waiting = shell("sleep 300 & echo $!; wait", LONG).lines(&redactor, |_, line| {
            let _ = sender.send(line.to_owned());
        });
        let id = tokio::select! {
            _ = waiting => panic!("it sleeps"),
            id = receiver.recv() => id.unwrap(),
        };
        assert!(gone(&id).await, "the grandchild lives on");
    }

    #[tokio::test]
    async fn f_g2_what_has_left_the_group_ends_too() {
        let script = "setsid sh -c 'echo $$; sleep 300 & wait' & wait";
        let output = shell(script, Duration::from_secs(5)).capture(100).await.unwrap();
        assert!(output.ended.timed_out && !output.text().is_empty(), "{output:?}");
        assert!(gone(&output.text()).await, "the step lives on");
    }

    #[tokio::test]
    async fn what_is_left_running_does_not_hold_up_its_parent() {
        let output = shell("sleep 300 & echo $!", LONG).capture(100).await.unwrap();
        assert!(output.ended.success());
        assert!(gone(&output.text()).await, "the straggler lives on");
    }

    async fn gone(id: &str) -> bool {
        let stat = format!("/proc/{id}/stat");
        for _ in 0..1200 {
            match std::fs::read_to_string(&stat) {
                Ok(text) if !text.contains(") Z ") => tokio::time::sleep(Duration::from_millis(50)).await,
                _ => return true,
            }
        }
        false
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let problem = Program::new("/nowhere/at-all", LONG).capture(1).await.unwrap_err();
        assert!(problem.to_string().starts_with("start `/nowhere/at-all`: No such file"), "{problem}");
    }
}
