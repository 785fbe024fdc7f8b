//! What is behind the socket of an engine on this machine: whose it is, and whether the engine is here at all. Whoever
//! listens there is given all that is built, and the password of the store.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tokio::net::UnixStream;

use super::Docker;
use crate::diag::Diagnostic;

/// Who listens at the socket of an engine of this machine: itself, or what starts it when it is first spoken to. A
/// socket that leads to another machine is listened at by what leads there, such as `ssh`.
const ENGINES: &[&str] = &[ENGINE, "systemd", "init"];
/// The engine's own program.
const ENGINE: &str = "dockerd";
/// Where the engine's socket is that has no other place.
const STANDARD: &[&str] = &["/var/run/docker.sock", "/run/docker.sock"];
/// Where that engine says which process it is.
const PROCESS_FILE: &str = "/var/run/docker.pid";

/// Which machine an engine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whereabouts {
    /// Another than this, or nobody knows.
    Elsewhere,
    /// One with this very kernel, for all that can be seen: this one, where we are in a container.
    ThisKernel,
    /// This one.
    Here,
}

/// What tells a machine from others, of those things that an engine says of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) kernel: String,
    pub(super) memory_bytes: u64,
}

impl Machine {
    /// The one that this is.
    fn this() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
        let memory = read("/proc/meminfo");
        let kibibytes =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
        Self {
            name: read("/proc/sys/kernel/hostname"),
            kernel: read("/proc/sys/kernel/osrelease"),
            memory_bytes: kibibytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or_default() << 10,
        }
    }
}

/// Where an engine is that says this of its machine.
pub(super) async fn whereabouts(docker: &Docker, said: &Machine) -> Whereabouts {
    match docker.socket() {
        Some(path) => judged(&Machine::this(), said, listener(path).await.as_deref()),
        None => Whereabouts::Elsewhere,
    }
}

/// Where an engine is by what it says of its machine and by who listens at its socket.
fn judged(this: &Machine, said: &Machine, listener: Option<&str>) -> Whereabouts {
    let is_engine = listener.is_none_or(|name| ENGINES.contains(&name));
    let is_this_kernel = (&this.kernel, this.memory_bytes) == (&said.kernel, said.memory_bytes);
    match is_engine && is_this_kernel {
        true if this.name == said.name && listener.is_some() => Whereabouts::Here,
        true => Whereabouts::ThisKernel,
        false => Whereabouts::Elsewhere,
    }
}

/// The name of the program that listens at a socket; `None` where its process cannot be seen from here.
async fn listener(path: &str) -> Option<String> {
    name_of(process_at(path).await?)
}

/// The process that listens at a socket.
async fn process_at(path: &str) -> Option<i32> {
    UnixStream::connect(path).await.ok()?.peer_cred().ok()?.pid().filter(|process| *process > 0)
}

fn name_of(process: i32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(name.trim().to_owned())
}

/// How long processors have been at work for the engine of this machine, in ticks; `None` where its process cannot be seen.
pub(super) async fn processor_ticks(docker: &Docker) -> Option<u64> {
    let path = docker.socket()?;
    let listener = process_at(path).await?;
    // Where systemd listens until it is first spoken to, the engine says itself which process it is.
    let process = match name_of(listener)?.as_str() {
        ENGINE => listener,
        _ if STANDARD.contains(&path) => std::fs::read_to_string(PROCESS_FILE).ok()?.trim().parse().ok()?,
        _ => return None,
    };
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    (name_of(process)? == ENGINE).then(|| ticks(&stat))?
}

/// The time that a process has had of processors, its own and the system's for it, by its `/proc/*/stat`.
fn ticks(stat: &str) -> Option<u64> {
    // A name may have anything in it, and stands in parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// See that the engine's socket on this machine is root's or this user's (F-G18).
///
/// # Errors
/// Where it is another's, who may have put it there.
pub(super) fn check(docker: &Docker) -> Result<(), Diagnostic> {
    let Some(path) = docker.socket() else { return Ok(()) };
    // One that is not there is told of by the client, in its own words.
    let Ok(found) = std::fs::metadata(Path::new(path)) else { return Ok(()) };
    match found.uid() {
        0 => Ok(()),
        owner if owner == rustix::process::geteuid().as_raw() => Ok(()),
        owner => Err(Diagnostic::surroundings(format!("the socket of the engine at {path} is not to be trusted"))
            .because(format!("it belongs to user {owner}, who is neither root nor you"))
            .hint(format!("see who that is: ls -l {path}; then name your own engine: polyarch build --builder unix:///var/run/docker.sock"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_of_a_process_is_read_whatever_it_is_called() {
        let stat = "71 (a) b (c) S 1 71 71 0 -1 4194560 9 8 7 6 40 2 0 0 20 0 1 0 55 1 1";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!((ticks("71 (a) S 1"), ticks("")), (None, None));
        let own = std::fs::read_to_string("/proc/self/stat").expect("what this process has done");
        assert!(ticks(&own).is_some(), "{own}");
    }

    #[test]
    fn an_engine_is_here_only_if_all_that_can_be_compared_says_so() {
        let this = Machine { name: "laptop".to_owned(), kernel: "6.1.0".to_owned(), memory_bytes: 8 << 30 };
        let renamed = Machine { name: "other".to_owned(), ..this.clone() };
        let newer = Machine { kernel: "6.2.0".to_owned(), ..this.clone() };
        let larger = Machine { memory_bytes: 9 << 30, ..this.clone() };
        let table = [
            (&this, Some("dockerd"), Whereabouts::Here),
            (&this, Some("systemd"), Whereabouts::Here),
            // A clone of this machine, at the other end of a connection.
            (&this, Some("ssh"), Whereabouts::Elsewhere),
            (&this, Some("socat"), Whereabouts::Elsewhere),
            // In a container processes of the machine have no number.
            (&renamed, None, Whereabouts::ThisKernel),
            (&this, None, Whereabouts::ThisKernel),
            (&renamed, Some("dockerd"), Whereabouts::ThisKernel),
            (&newer, Some("dockerd"), Whereabouts::Elsewhere),
            (&larger, None, Whereabouts::Elsewhere),
        ];
        for (said, listener, expected) in table {
            assert_eq!(judged(&this, said, listener), expected, "{said:?} {listener:?}");
        }
    }
}
