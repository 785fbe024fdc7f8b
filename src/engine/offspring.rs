//! What a process group has started, also where it has left the group.
//!
//! A build without a daemon gives each step a session of its own. Where the build ends first, its step has no parent
//! and no group that would tell whose it was: so it is looked for while its parents live.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal, kill_process};

/// A process, and when it began: its number alone may be another's by now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    id: i32,
    begin: u64,
}

/// One line of `/proc/*/stat`, as far as it is needed (proc_pid_stat(5)).
struct Stat {
    process: Process,
    parent: i32,
    group: i32,
}

/// The processes of a group and all that descend from them.
pub(super) struct Offspring {
    group: i32,
    seen: BTreeSet<Process>,
}

impl Offspring {
    /// Nobody was looked for yet.
    pub(super) fn of(group: Pid) -> Self {
        Self { group: group.as_raw_nonzero().get(), seen: BTreeSet::new() }
    }

    /// Look who is there now, besides those seen before. Finds nobody where there is no `/proc`.
    pub(super) fn look(&mut self) {
        let all = everyone();
        loop {
            let is_ours = |parent| self.seen.iter().any(|seen| seen.id == parent);
            let found = all.iter().filter(|stat| stat.group == self.group || is_ours(stat.parent));
            let found: Vec<Process> = found.map(|stat| stat.process).collect();
            let before = self.seen.len();
            self.seen.extend(found);
            if self.seen.len() == before {
                return;
            }
        }
    }

    /// End those that were seen and still live.
    pub(super) fn kill(&self) {
        for stat in everyone().iter().filter(|stat| self.seen.contains(&stat.process)) {
            // One that has just ended needs no signal.
            let _ = Pid::from_raw(stat.process.id).map(|id| kill_process(id, Signal::KILL));
        }
    }
}

fn everyone() -> Vec<Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    numbers.filter_map(|entry| parse(&std::fs::read(entry.path().join("stat")).ok()?)).collect()
}

fn parse(line: &[u8]) -> Option<Stat> {
    let line = String::from_utf8_lossy(line);
    // A name may hold anything, also what stands behind names; nothing behind it holds a bracket.
    let (name, rest) = line.rsplit_once(')')?;
    let id = name.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The first of them is the third of the line.
    let begin = fields.get(22 - 3)?.parse().ok()?;
    let [parent, group] = [fields.get(4 - 3)?.parse().ok()?, fields.get(5 - 3)?.parse().ok()?];
    Some(Stat { process: Process { id, begin }, parent, group })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_may_hold_anything() {
        let line = b"42 (a ) S 1 (b) R 7 40 39 0 -1 0 1 2 3 4 5 6 7 8 9 10 11 12 777 13 14\n";
        let stat = parse(line).expect("a line");
        assert_eq!((stat.process.id, stat.process.begin, stat.parent, stat.group), (42, 777, 7, 40));
        assert!(parse(b"").is_none() && parse(b"42 (sh").is_none() && parse(b"42 (sh) R 1").is_none());
    }
}
