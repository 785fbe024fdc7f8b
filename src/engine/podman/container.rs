//! Run commands in containers of images of the store.

use std::sync::atomic::Ordering;

use super::probe::{Checks, Isolation};
use super::{ANSWER_BYTES, CALL, Podman};
use crate::diag::Diagnostic;
use crate::engine::lines::plain;
use crate::engine::process::{AtLast, Output, Program};
use crate::engine::{ContainerOrder, Finished, login};

/// How much of each output of a command is kept.
const OUTPUT_BYTES: usize = 1 << 20;
/// The exit code with which the programs say that no container ran.
const NOT_RUN: i32 = 125;
/// The exit code of a shell for a program that a signal ended, and that of SIGKILL.
const KILLED: i32 = 128 + 9;

/// Run a command in a fresh container, and wait for it.
pub(super) async fn run(podman: &Podman, order: &ContainerOrder) -> Result<Finished, Diagnostic> {
    let checks = &podman.known().await?.checks;
    let image = podman.hold(&order.store, &order.image, Some(&order.platform)).await?;
    let number = podman.containers.fetch_add(1, Ordering::Relaxed);
    let name = super::sweep::container_name(&order.run, number);
    let reference = order.store.at(&order.image);
    let Some((program, arguments)) = order.command.split_first() else {
        return Err(Diagnostic::request(format!("run nothing in a container of {reference}")));
    };
    let login = podman.login(Some(&order.store)).await?;
    let call = |path: &std::path::Path, limit| podman.program(path, &login, limit);
    let (output, is_by_podman) = match checks {
        Checks::Podman { path, limits } => {
            let removal = AtLast::new(call(path, CALL).arguments(["rm", "--force", "--volumes", &name]));
            let program = call(path, order.time_limit)
                .arguments(["run", "--rm", "--pull=never", "--name", &name])
                .arguments(restrictions(limits))
                .arguments(["--entrypoint", program, &image])
                .arguments(arguments);
            (carry_out(program, removal).await?, true)
        }
        Checks::Buildah { path, isolation, unshare } => {
            let removal = AtLast::new(call(path, CALL).arguments(["rm", &name]));
            let made = call(path, CALL).arguments(["from", "--quiet", "--name", &name, "--pull=never"]);
            let made = made.argument(&image).capture(ANSWER_BYTES).await?;
            if !made.ended.success() {
                return Err(podman.refused(format!("make a container of {reference}"), &made));
            }
            let alone = unshare
                .as_ref()
                .map(|unshare| call(unshare, order.time_limit).arguments(["--net", "--"]).argument(path));
            let program = alone
                .unwrap_or_else(|| call(path, order.time_limit))
                .arguments(["run", "--isolation", isolation.name(), "--cap-drop=all"])
                .arguments((*isolation == Isolation::Oci).then_some("--network=none"))
                .arguments([&name, "--"])
                .arguments(&order.command);
            let output = program.capture(OUTPUT_BYTES).await?;
            removal.now(ANSWER_BYTES).await?;
            (output, false)
        }
        Checks::Impossible(problem) => return Err(problem.clone()),
    };
    if output.ended.code == Some(NOT_RUN)
        && output.complaint().starts_with("Error: ")
        && has_no_container(&output)
    {
        return Err(podman.refused(format!("run a container of {reference}"), &output));
    }
    let redactor = login::redactor(&order.store, []);
    let text = |bytes: &[u8]| redactor.text(&plain(&String::from_utf8_lossy(bytes)));
    let (code, stderr) = match is_by_podman {
        true => (output.ended.code.filter(|code| *code != KILLED), text(&output.stderr)),
        false => without_comments(output.ended.code, &text(&output.stderr)),
    };
    Ok(Finished { code, stdout: text(&output.stdout), stderr, timed_out: output.ended.timed_out })
}

async fn carry_out(program: Program, removal: AtLast) -> Result<Output, Diagnostic> {
    let output = program.capture(OUTPUT_BYTES).await?;
    // One that ended by itself has removed itself.
    match output.ended.code {
        None => removal.now(ANSWER_BYTES).await?,
        Some(_) => removal.never(),
    }
    Ok(output)
}

/// What is tested is not trusted: no network, no more rights than a program needs.
pub(super) fn restrictions(limits: &[String]) -> Vec<String> {
    let fixed =
        ["--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--http-proxy=false"];
    fixed
        .into_iter()
        .map(str::to_owned)
        .chain(limits.iter().map(|limit| format!("--ulimit={limit}")))
        .collect()
}

/// Whether the program itself complains: a command may end with its code too, and say something.
fn has_no_container(output: &Output) -> bool {
    !output.complaint().contains("while running runtime: exit status") && output.stdout.is_empty()
}

/// What a command said and how it ended, without what `buildah run` adds to it.
fn without_comments(code: Option<i32>, stderr: &str) -> (Option<i32>, String) {
    let is_comment = |line: &str| {
        let line = line.strip_prefix("Error: ").unwrap_or(line);
        ["while running runtime: exit status ", "exit status ", "subprocess exited ", "container exited on "]
            .iter()
            .any(|comment| line.starts_with(comment))
    };
    let mut lines: Vec<&str> = stderr.lines().collect();
    let mut killed = false;
    while let Some(last) = lines.last().filter(|line| is_comment(line)) {
        killed |= last.contains(" exited on ");
        lines.pop();
    }
    (code.filter(|_| !killed), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_buildah_says_after_a_command_is_none_of_its_words() {
        let table = [
            (Some(5), "e\nError: while running runtime: exit status 5\n", (Some(5), "e")),
            (
                Some(3),
                "e\nsubprocess exited with status 3\nsubprocess exited with status 3\nError: exit status 3",
                (Some(3), "e"),
            ),
            (
                Some(1),
                "subprocess exited on killed\nsubprocess exited with status 1\nError: exit status 1",
                (None, ""),
            ),
            (Some(1), "container exited on killed\nError: while running runtime: exit status 1", (None, "")),
            (Some(0), "a warning\n", (Some(0), "a warning")),
        ];
        for (code, stderr, (expected, words)) in table {
            assert_eq!(without_comments(code, stderr), (expected, words.to_owned()), "{stderr}");
        }
    }
}
