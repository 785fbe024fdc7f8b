//! Whoever kills this process by SIGKILL ends what it has started too (F-P7).
//!
//! A shell reads our end of a pipe: which process groups begin and end. When nothing more can come, this process is
//! no more, however it ended, and the shell ends the groups that are left, politely first. No program has to play
//! along, and it does not matter which thread started what.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::Pid;

/// What the shell does. Groups are numbers with a blank on both sides of each; `seen` has the processes of these groups
/// and their offspring in the same way, each with the time that it began at (as `offspring.rs` finds them).
const SCRIPT: &str = r#"
groups=' '
while read -r sign group; do
    case "$sign$groups" in
    +*) groups=" $group$groups" ;;
    *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
    esac
done
[ "$groups" != ' ' ] || exit 0
seen=' '
look() {
    before=
    while [ "$seen" != "$before" ]; do
        before=$seen
        for stat in /proc/[0-9]*/stat; do
            read -r line 2>/dev/null <"$stat" || continue
            id=${line%% *}
            set -- ${line##*)}
            case "$groups $seen" in
            *" $id:${20} "*) ;;
            *" $3 "* | *" $2:"*) seen=" $id:${20}$seen" ;;
            esac
        done
    done
}
look
for group in $groups; do kill -TERM "-$group"; done
for try in 1 2 3 4 5 6; do sleep 0.5; look; done
for group in $groups; do kill -KILL "-$group"; done
for process in $seen; do
    read -r line 2>/dev/null <"/proc/${process%:*}/stat" || continue
    set -- ${line##*)}
    [ "${20}" != "${process#*:}" ] || kill -KILL "${process%:*}"
done
"#;

/// A process group that does not outlive this process.
pub(super) struct Guarded(Pid);

impl Guarded {
    /// See to it that a group ends when this process does, as long as this is not dropped.
    pub(super) fn new(group: Pid) -> Self {
        tell('+', group);
        Self(group)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        tell('-', self.0);
    }
}

fn tell(sign: char, group: Pid) {
    static GUARD: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();
    if let Some(guard) = GUARD.get_or_init(start) {
        let line = format!("{sign} {}\n", group.as_raw_nonzero());
        // Without a guard everything works all the same; what is left then goes with the next sweep.
        let _ = guard.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

fn start() -> Option<Mutex<ChildStdin>> {
    #[expect(clippy::disallowed_methods, reason = "it is a part of the one place that starts processes")]
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", SCRIPT, "polyarch-guard"]).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell.spawn().ok()?.stdin.take().map(Mutex::new)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Program;

    #[tokio::test]
    async fn f_p7_the_guard_ends_the_groups_that_are_left_and_no_others() {
        // Each group tells what ended it and has a child in a session of its own, which sleeps for a time of its own;
        // the guard hears of two of three.
        let script = r#"
            for name in kept:1 ended:2 over:3; do
                setsid sh -c 'trap "echo $0; exit" TERM; setsid sleep "$1" & wait' ${name%:*} $TIME${name#*:} &
                eval ${name%:*}=$!
            done
            for process in $kept $ended $over; do
                until read child </proc/$process/task/$process/children; [ "$(cat /proc/$child/comm)" = sleep ]; do
                    sleep 0.1
                done
            done 2>/dev/null
            { printf '+ %s\n' $over $ended; printf -- '- %s\n' 4194999 $over; } | sh -c "$0"
            kill -0 $kept && kill -0 $over && echo others live; kill -KILL $kept $over
            for process in /proc/[0-9]*; do
                case "$(tr '\0' ' ' 2>/dev/null <$process/cmdline)" in
                "sleep $TIME"?" ") echo its child too; kill -KILL ${process#/proc/} ;;
                esac
            done
        "#;
        let time = format!("300.{}", std::process::id());
        let program = Program::new("/bin/sh", Duration::from_secs(200)).variable("PATH", "/usr/bin:/bin");
        let program = program.variable("TIME", time).arguments(["-c", script, SCRIPT]);
        let output = program.capture(1 << 10).await.expect("it runs");
        assert_eq!(output.text(), "ended\nothers live\nits child too\nits child too", "{output:?}");
    }
}
