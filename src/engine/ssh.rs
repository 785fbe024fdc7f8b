//! One connection to another machine by the person's own ssh, over which everything goes: commands, the engine's
//! socket to here, and the store's port to there.
//!
//! The connection reads our end of a pipe and ends with it, so that it goes when this process is killed too.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::Redactor;
use super::process::{self, Output, Program};
use crate::config::SshAddress;
use crate::diag::Diagnostic;

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a command on the other machine may take.
const CALL: Duration = Duration::from_secs(30);
/// How long an engine may take to say a word.
const WORD: Duration = Duration::from_secs(5);
/// How often it is looked whether a connection stands.
const LOOK: Duration = Duration::from_millis(50);
/// Longer than any run: a connection ends with the run.
const FOR_EVER: Duration = Duration::from_secs(60 * 60 * 24 * 30);
/// How many commands run there at once: an ssh server lets a connection have ten sessions (`MaxSessions`), of which the
/// connection itself is one and others may be the person's.
const COMMANDS: usize = 4;
/// How much of an answer is read.
const ANSWER_BYTES: usize = 1 << 20;
/// A connection on which nothing has come for this many times this many seconds is lost.
const SILENCE: [&str; 2] = ["ServerAliveInterval=4", "ServerAliveCountMax=3"];

/// An `ssh` for programs that start one themselves: it goes by the connection that stands, which costs no hands to shake.
const SHARING: &str = "#!/bin/sh\nexec \"$POLYARCH_SSH\" -S \"$POLYARCH_SSH_CONTROL\" -o BatchMode=yes -o ControlMaster=no \"$@\"\n";

/// What the surroundings give to ssh.
#[derive(Clone, Debug)]
pub(crate) struct SshEnvironment {
    /// Where programs are looked for: `PATH`.
    pub(crate) search_path: OsString,
    /// Variables that reach it as they are, such as `SSH_AUTH_SOCK` and `HOME`.
    pub(crate) variables: BTreeMap<OsString, OsString>,
    /// A folder of this connection alone with a short name, absolute and private: sockets stand in it, whose names
    /// have room for about 100 bytes.
    pub(crate) folder: PathBuf,
}

impl SshEnvironment {
    /// Where the `ssh` is that shares the connection.
    fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }
}

fn write_sharing(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("ssh");
    std::fs::write(&file, SHARING)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700))
}

/// The way to another machine: one connection, until it is dropped or lost, and another where that is asked for.
pub(crate) struct Ssh {
    address: SshAddress,
    program: PathBuf,
    environment: SshEnvironment,
    connection: Mutex<Connection>,
    /// What it has been told to let lead where, to be told again to the next connection.
    forwards: Mutex<Vec<[String; 2]>>,
    /// The processes of the ssh server that serve connections that were cut off, for all that is known.
    cut_off: Mutex<BTreeSet<String>>,
    /// The number of the next connection.
    number: AtomicUsize,
    /// Lets so many commands run at once.
    commands: Semaphore,
}

/// One connection, ended when it is dropped.
struct Connection {
    /// Where its socket is. Each has its own: one that is ended late removes its socket, and no other's.
    control: PathBuf,
    heard: watch::Receiver<Heard>,
    process: JoinHandle<()>,
}

/// What has come of a connection so far.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// The process of the ssh server that serves it: its number, when it began, and its name.
    served_by: Option<String>,
    /// What it has written.
    words: String,
    /// It has ended.
    is_over: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.process.abort();
    }
}

impl Ssh {
    /// Connect, without a question to anybody: keys and hosts must be known already.
    ///
    /// # Errors
    /// Where there is no ssh or it does not get there; with the hint that mends it.
    pub(crate) async fn connect(
        address: &SshAddress,
        environment: SshEnvironment,
    ) -> Result<Self, Diagnostic> {
        let program = process::find_all("ssh", &environment.search_path).into_iter().next();
        let program = program.ok_or_else(|| {
            Diagnostic::surroundings("there is no `ssh` on the search path")
                .hint("install it: sudo apt-get install openssh-client")
        })?;
        write_sharing(&environment.programs()).map_err(|error| {
            Diagnostic::surroundings("write an `ssh` that shares a connection").because(error)
        })?;
        let connection = Mutex::new(open(&program, &environment, address, 0));
        let address = address.clone();
        let ssh = Self {
            address,
            program,
            environment,
            connection,
            forwards: Mutex::default(),
            cut_off: Mutex::default(),
            number: AtomicUsize::new(1),
            commands: Semaphore::new(COMMANDS),
        };
        ssh.stands().await?;
        Ok(ssh)
    }

    /// Connect again after the connection was lost, and let lead where the lost one did.
    ///
    /// # Errors
    /// Where it does not get there, or a port that was free there is not any more.
    pub(crate) async fn again(&self) -> Result<(), Diagnostic> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let connection = open(&self.program, &self.environment, &self.address, number);
        let cut_off = std::mem::replace(&mut *lock(&self.connection), connection);
        lock(&self.cut_off).extend(cut_off.heard.borrow().served_by.clone());
        drop(cut_off);
        self.stands().await?;
        // Of a connection that was cut off the other side may not know for hours, and hold its ports.
        let served_by = lock(&self.cut_off).clone();
        for process in served_by {
            if let Some(script) = end_of(&process) {
                self.ask(&script).await?;
            }
            lock(&self.cut_off).remove(&process);
        }
        let forwards = lock(&self.forwards).clone();
        for [kind, forward] in forwards {
            if kind == "-L" {
                let _ = std::fs::remove_file(self.near_end());
            }
            let told = self.tell(&["-O", "forward", &kind, &forward]).await?;
            if !told.ended.success() {
                return Err(self.no_connection(&told.complaint()));
            }
        }
        Ok(())
    }

    /// Wait until it stands.
    async fn stands(&self) -> Result<(), Diagnostic> {
        let deadline = Instant::now() + CONNECT;
        let heard = lock(&self.connection).heard.clone();
        loop {
            let now = heard.borrow().clone();
            if now.is_over {
                return Err(self.no_connection(&now.words));
            }
            if now.served_by.is_some()
                && self.control().exists()
                && self.tell(&["-O", "check"]).await?.ended.success()
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.no_connection("it takes longer than 30 s"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> &SshAddress {
        &self.address
    }

    /// Run a script of one line there, which `sh` reads.
    ///
    /// # Errors
    /// Where ssh cannot be started.
    pub(crate) async fn ask(&self, script: &str) -> Result<Output, Diagnostic> {
        // It is never closed; without a permit the server says no, and ssh connects anew.
        let _one = self.commands.acquire().await.ok();
        base(&self.program, &self.environment, &self.control(), CALL)
            .arguments(["-T", "-o", "ControlMaster=no"])
            .arguments(destination(&self.address))
            .argument(in_sh(script))
            .capture(ANSWER_BYTES)
            .await
    }

    /// Have a program that starts an `ssh` of its own go by this connection; where the server lets it have no more sessions,
    /// ssh connects anew.
    pub(crate) fn share(&self, program: Program) -> Program {
        let mut path = self.environment.programs().into_os_string();
        path.push(":");
        path.push(&self.environment.search_path);
        let program = program.variable("PATH", path).variable("POLYARCH_SSH", &self.program);
        program.variable("POLYARCH_SSH_CONTROL", self.control())
    }

    /// Let a port of the other machine's loopback lead to a port of this machine's: the same where it is free there,
    /// else another. The port there.
    ///
    /// # Errors
    /// Where its ssh server lets nobody.
    pub(crate) async fn bring(&self, port: u16) -> Result<u16, Diagnostic> {
        let forward = |there: u16| format!("127.0.0.1:{there}:127.0.0.1:{port}");
        let same = self.tell(&["-O", "forward", "-R", &forward(port)]).await?;
        if same.ended.success() {
            lock(&self.forwards).push(["-R".to_owned(), forward(port)]);
            return Ok(port);
        }
        let any = self.tell(&["-O", "forward", "-R", &forward(0)]).await?;
        // It prints the port that the other side has chosen.
        match any.text().parse() {
            Ok(there) if any.ended.success() => {
                lock(&self.forwards).push(["-R".to_owned(), forward(there)]);
                Ok(there)
            }
            _ => {
                let problem = Diagnostic::surroundings(format!(
                    "{} lets nobody forward a port, so its engine does not reach the store",
                    self.address
                ));
                let problem = any.complaint().lines().take(5).fold(problem, Diagnostic::because);
                Err(problem.hint(format!(
                    "allow it on {}: AllowTcpForwarding yes in /etc/ssh/sshd_config, then: sudo systemctl reload ssh",
                    self.address.host
                )))
            }
        }
    }

    /// Let a socket of this machine lead to one of the other.
    ///
    /// # Errors
    /// Where it cannot be made here.
    pub(crate) async fn reach(&self, there: &str) -> Result<PathBuf, Diagnostic> {
        let here = self.near_end();
        let mut forward = here.clone().into_os_string();
        forward.push(":");
        forward.push(there);
        let forward = forward.to_string_lossy().into_owned();
        let made = self.tell(&["-O", "forward", "-L", &forward]).await?;
        match made.ended.success() {
            true => {
                lock(&self.forwards).push(["-L".to_owned(), forward]);
                Ok(here)
            }
            false => {
                Err(Diagnostic::surroundings(format!("lead {there} of {} to this machine", self.address))
                    .because(made.complaint()))
            }
        }
    }

    /// Whether anybody takes what is said to a socket of [`Self::reach`]: some ssh servers let ports be forwarded and no sockets,
    /// which they tell like one that nobody listens at.
    pub(crate) async fn lets_through(&self, here: &Path) -> bool {
        let asked = async {
            let mut socket = UnixStream::connect(here).await?;
            socket.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").await?;
            socket.read(&mut [0]).await
        };
        !matches!(timeout(WORD, asked).await, Ok(Ok(0) | Err(_)))
    }

    /// Comes back only when the connection is lost, with what is known of it.
    pub(crate) async fn lost(&self) -> Diagnostic {
        let mut heard = lock(&self.connection).heard.clone();
        let words = match heard.wait_for(|heard| heard.is_over).await {
            Ok(heard) => heard.words.clone(),
            Err(_) => "it was dropped".to_owned(),
        };
        Diagnostic::surroundings(format!("the connection to {} is lost", self.address)).because(words)
    }

    fn control(&self) -> PathBuf {
        lock(&self.connection).control.clone()
    }

    /// Where the socket of the other machine's engine is here.
    fn near_end(&self) -> PathBuf {
        self.environment.folder.join("engine.sock")
    }

    /// Tell the connection something.
    async fn tell(&self, what: &[&str]) -> Result<Output, Diagnostic> {
        base(&self.program, &self.environment, &self.control(), CALL)
            .arguments(what)
            .arguments(destination(&self.address))
            .capture(ANSWER_BYTES)
            .await
    }

    fn no_connection(&self, complaint: &str) -> Diagnostic {
        let address = &self.address;
        let problem = Diagnostic::surroundings(format!("{address} cannot be reached"));
        // Without the frame that ssh draws around a warning, what it says to it fits.
        let said = complaint.lines().filter(|line| !line.starts_with('@')).take(5);
        let problem = said.fold(problem, Diagnostic::because);
        let has = |text: &str| complaint.contains(text);
        let by_hand = destination(address).join(" ");
        if has("Permission denied") || has("Too many authentication failures") {
            problem.hint(format!("let it know your key: ssh-copy-id {}", by_hand.trim_start_matches("-- ")))
        } else if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            let forget = forgetting(complaint).unwrap_or_else(|| format!("ssh-keygen -R {}", address.host));
            problem.hint(format!("the machine is another than it was; where that is right: {forget}"))
        } else if has("Host key verification failed") {
            problem.hint(format!("make its key known, once, by hand: ssh {by_hand} true"))
        } else {
            problem.hint(format!("see whether it can be reached: ssh {by_hand} true"))
        }
    }
}

/// The command by which the key of a machine that is known is forgotten: known by the name and in the file that ssh says,
/// which may be others than people call it by.
fn forgetting(complaint: &str) -> Option<String> {
    let between = |before: &str, after: &str| {
        complaint.lines().find_map(|line| line.split_once(before)?.1.rsplit_once(after).map(|(word, _)| word))
    };
    let file = complaint.lines().find(|line| line.starts_with("Offending "))?.split_once(" key in ")?.1;
    let (file, _) = file.rsplit_once(':')?;
    let name = between("Host key for ", " has changed")?;
    let is_plain = [file, name].iter().all(|word| !word.contains('\''));
    is_plain.then(|| format!("ssh-keygen -f '{file}' -R '{name}'"))
}

/// Says when a process began and what it is called: its number may be another's after a while, or after a start anew.
const WHO: &str = "LC_ALL=C ps -o lstart= -o comm= -p";

/// A script that ends a process of the ssh server, as long as it is the one that was told of: by its number and what
/// [`WHO`] said of it. `None` where that was nothing of the kind.
fn end_of(process: &str) -> Option<String> {
    let (number, who) = process.split_once(' ')?;
    let number: u32 = number.parse().ok()?;
    let (_, name) = who.rsplit_once(' ')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || " :-_".contains(c);
    (name.starts_with("sshd") && who.chars().all(plain))
        .then(|| format!("[ \"$(echo $({WHO} {number}))\" != '{who}' ] || kill {number}"))
}

/// Begin a connection.
fn open(program: &Path, environment: &SshEnvironment, address: &SshAddress, number: usize) -> Connection {
    let control = environment.folder.join(format!("ssh-{number}"));
    let (tell, heard) = watch::channel(Heard::default());
    let master = base(program, environment, &control, FOR_EVER)
        .arguments(["-M", "-T", "-o", "ControlPersist=no", "-o", "ConnectTimeout=15"])
        .arguments(SILENCE.into_iter().flat_map(|option| ["-o", option]))
        .arguments(destination(address))
        .argument(in_sh(&format!("echo served by $PPID $({WHO} $PPID); exec cat >/dev/null")))
        .held_open();
    let process = tokio::spawn(async move {
        let nothing = Redactor::new([""; 0]);
        let ended = master.lines(&nothing, |_, line| {
            tell.send_modify(|heard| match line.strip_prefix("served by ") {
                Some(process) => heard.served_by = Some(process.trim().to_owned()),
                None if heard.words.len() < ANSWER_BYTES => heard.words.push_str(&format!("{line}\n")),
                None => {}
            });
        });
        let how = match ended.await {
            Ok(ended) => ended.to_string(),
            Err(problem) => problem.to_string(),
        };
        tell.send_modify(|heard| {
            heard.is_over = true;
            if heard.words.is_empty() {
                heard.words = how;
            }
        });
    });
    Connection { control, heard, process }
}

/// A command that has `sh` read a script of one line, whatever shell the person has there: what a server is asked to run
/// is read by that first, which may be fish or csh. Between single quotes all shells take all as it is but for these.
fn in_sh(script: &str) -> String {
    let mut command = "exec sh -c '".to_owned();
    for one in script.chars() {
        match one {
            '\'' | '\\' | '!' => command.extend(['\'', '\\', one, '\'']),
            other => command.push(other),
        }
    }
    command + "'"
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call of ssh that asks nobody anything, with the socket that calls share a connection by.
fn base(program: &Path, environment: &SshEnvironment, control: &Path, time_limit: Duration) -> Program {
    let variables = environment.variables.iter();
    let program = variables
        .fold(Program::new(program, time_limit), |program, (name, value)| program.variable(name, value));
    program
        .variable("PATH", &environment.search_path)
        .argument("-S")
        .argument(control)
        .arguments(["-o", "BatchMode=yes"])
}

/// The arguments that say where to.
fn destination(address: &SshAddress) -> Vec<String> {
    let mut arguments = Vec::new();
    if let Some(user) = &address.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = address.port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    arguments.extend(["--".to_owned(), address.host.clone()]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{emulation, room};

    async fn shell(script: &str, argument: &Path) -> String {
        let program = Program::new("/bin/sh", Duration::from_secs(120)).variable("PATH", "/usr/bin:/bin");
        let output = program.arguments(["-c", script]).argument(argument).capture(1_000).await;
        output.expect("it runs").text()
    }

    #[tokio::test]
    async fn whatever_shell_a_person_has_a_script_is_read_by_sh() {
        let scripts = [
            format!("echo served by $PPID $({WHO} $PPID) >/dev/null; echo done"),
            end_of("4194305 Sat Nov 21 10:00:00 2026 sshd").expect("a script") + " 2>/dev/null; echo $?",
            emulation::LIST.to_owned(),
            room::LIST.replace("{}", "/") + " | wc -l | sed 's/[0-9]/n/g'",
            r#"limit=; ! test -e /nowhere || limit=x; echo "'$limit' $$ \\ \$" 'a\\' '!x' !y `echo z` ~ {a,b} *.x # no"#.to_owned(),
            r"echo it\'s; exit 7".to_owned(),
        ];
        let shells = ["sh", "bash", "dash", "zsh", "ksh", "fish", "csh", "tcsh"];
        let path = OsString::from("/usr/local/bin:/usr/bin:/bin");
        let there = shells.iter().filter_map(|shell| process::find_all(shell, &path).into_iter().next());
        let there: Vec<PathBuf> = there.collect();
        assert!(!there.is_empty());
        let run = async |shell: &Path, command: &str| {
            let program = Program::new(shell, Duration::from_secs(120)).arguments(["-c", command]);
            let program = program.variable("PATH", "/usr/bin:/bin").variable("HOME", "/").folder("/");
            let output = program.capture(100_000).await.expect("it runs");
            (output.text().replace(char::is_numeric, "0"), output.ended.code)
        };
        for script in scripts {
            let meant = run(Path::new("/bin/sh"), &script).await;
            for shell in &there {
                assert_eq!(run(shell, &in_sh(&script)).await, meant, "{}: {script}", shell.display());
            }
        }
    }

    #[tokio::test]
    async fn i_x2_what_served_a_lost_connection_is_ended_and_nothing_that_has_its_number_since() {
        let folder = tempfile::tempdir().expect("a folder");
        let server = folder.path().join("sshd-try");
        // By another process: nobody runs what this one, or what it starts meanwhile, has open to write (ETXTBSY).
        shell("cp /bin/sleep \"$0\"", &server).await;
        let runs = "until [ \"$(cat /proc/$!/comm)\" = sshd-try ]; do sleep 0.1; done";
        let begin = format!("setsid \"$0\" 300 >/dev/null 2>&1 & {runs}; echo $! $({WHO} $!)");
        let process = shell(&begin, &server).await;
        let number = process.split(' ').next().expect("a number");
        // Another that began at another time.
        let other = process.replacen(" 2", " 1", 1);
        for (told, left, tries) in [(&other, "lives", 5), (&process, "", 600)] {
            let end = end_of(told).expect("a process of a server");
            // One that has ended may be listed until its parent has heard.
            let is_there = format!("case $(ps -o stat= -p {number}) in Z* | '') ;; *) echo lives ;; esac");
            let looks = format!(
                "for try in $(seq {tries}); do sleep 0.1; left=$({is_there}); [ \"$left\" ] || break; done"
            );
            let script = format!("{end}; {looks}; echo $left");
            assert_eq!(shell(&script, &server).await, left, "{end}");
        }
        for other in ["", "7", "7 sshd", "x Sat sshd", "7 Sat Nov 21 bash", "7 Sat'; reboot; ' sshd"] {
            assert_eq!(end_of(other), None, "{other}");
        }
    }
}
