//! Run a command upon an image where there are no containers: as a step of a build that nothing is cached of.
//!
//! The step writes what the command says into files, and those are what the build returns.

use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::OFlags;

use super::Buildx;
use crate::diag::Diagnostic;
use crate::engine::docker::container::OUTPUT_BYTES;
use crate::engine::docker::output::BuildLog;
use crate::engine::docker::{ANSWER_BYTES, TRANSFER, failure};
use crate::engine::lines::plain;
use crate::engine::login::redactor;
use crate::engine::process::Output;
use crate::engine::{ContainerOrder, Finished, private_folder};

/// Where the files stand in the image that the command sees.
const FOLDER: &str = "/.polyarch";
/// What the command wrote, and how it ended.
const FILES: [&str; 3] = ["stdout", "stderr", "code"];
/// The exit code of a shell for a program that is not there.
const NO_PROGRAM: i32 = 127;

/// Run a command upon an image, and wait for it.
pub(super) async fn run(buildx: &Buildx, order: &ContainerOrder) -> Result<Finished, Diagnostic> {
    let number = buildx.commands.fetch_add(1, Ordering::Relaxed);
    // The configuration first: it makes the folder that all others are in.
    buildx.docker.config(None).await?;
    let folder = Folder(buildx.docker.environment.scratch.join(format!("command-{number}")));
    let unpacked = buildx.unpacked.lock().await.contains(&order.image);
    if !unpacked {
        // The time that an image takes on its way is not the command's.
        let output = build(buildx, order, &folder, false, TRANSFER).await?;
        if !output.ended.success() {
            return Err(refused(buildx, order, &log(&output), &output));
        }
        buildx.unpacked.lock().await.insert(order.image.clone());
    }
    let output = build(buildx, order, &folder, true, order.time_limit).await?;
    let redactor = redactor(&order.store, []);
    let finished = finished(buildx, order, &folder, &output)?;
    Ok(Finished {
        stdout: redactor.text(&plain(&finished.stdout)),
        stderr: redactor.text(&plain(&finished.stderr)),
        ..finished
    })
}

/// The folder of one command, removed when nobody waits for it any more.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed goes with the run.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Build the image with the files in it, and let the command write them or not.
async fn build(
    buildx: &Buildx,
    order: &ContainerOrder,
    Folder(folder): &Folder,
    with_command: bool,
    time_limit: Duration,
) -> Result<Output, Diagnostic> {
    let reference = order.store.at(&order.image);
    let text = dockerfile(&reference, if with_command { Some(&order.command) } else { None });
    let laid_out = lay_out(folder, &text).and_then(|()| buildx.stock.show_in(folder));
    laid_out.map_err(|error| {
        Diagnostic::surroundings(format!("lay out a command in {}", folder.display())).caused_by(&error)
    })?;
    let docker = &buildx.docker;
    let config = docker.config(None).await?;
    docker
        .program(&docker.client().await?.path, &config, time_limit)
        .arguments(["buildx", "build", "--builder", &buildx.name, "--provenance=false", "--sbom=false"])
        .arguments(["--progress", "plain", "--no-cache", "--platform", &order.platform.to_string()])
        .arguments(crate::engine::stock::session_image(&order.store, &order.image))
        .arguments(["--output", "type=local,dest=result", "--file", "Dockerfile", "context"])
        .folder(folder)
        .capture(ANSWER_BYTES)
        .await
}

fn lay_out(folder: &Path, dockerfile: &str) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => private_folder(folder)?,
    }
    let context = folder.join("context").join("files");
    std::fs::create_dir_all(&context)?;
    for folder in [folder.join("context"), context.clone()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    }
    for file in FILES.map(|name| context.join(name)) {
        std::fs::write(&file, "")?;
        // Whoever the image's user is writes them.
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666))?;
    }
    std::fs::write(folder.join("Dockerfile"), dockerfile)
}

fn dockerfile(image: &str, command: Option<&Vec<String>>) -> String {
    let [stdout, stderr, code] = FILES.map(|name| format!("{FOLDER}/{name}"));
    let step = command.map_or_else(String::new, |command| {
        let script = format!("\"$@\" >{stdout} 2>{stderr}; echo $? >{code}");
        let wrapped = ["/bin/sh", "-c", &*script, "sh"].into_iter().chain(command.iter().map(String::as_str));
        // The form with brackets: no shell of the image's choosing, and nothing in it is expanded.
        format!("RUN --network=none {}\n", serde_json::json!(wrapped.collect::<Vec<_>>()))
    });
    format!(
        "FROM {image} AS image\nCOPY files/ {FOLDER}/\n{step}FROM scratch\nCOPY --from=image {FOLDER}/ /\n"
    )
}

fn log(output: &Output) -> BuildLog {
    let mut log = BuildLog::default();
    output.complaint().lines().for_each(|line| drop(log.line(line)));
    log
}

/// How the command ended.
fn finished(
    buildx: &Buildx,
    order: &ContainerOrder,
    Folder(folder): &Folder,
    output: &Output,
) -> Result<Finished, Diagnostic> {
    let nothing = Finished { code: None, stdout: String::new(), stderr: String::new(), timed_out: false };
    if output.ended.timed_out {
        return Ok(Finished { timed_out: true, ..nothing });
    }
    let log = log(output);
    if !output.ended.success() {
        let Some((_, error, tail)) = log.failure() else { return Err(refused(buildx, order, &log, output)) };
        // The step itself ends well, however the command does: where it does not, there was no shell, or no memory.
        let code = failure::reason(error).strip_prefix("exit code: ").and_then(|code| code.parse().ok());
        let Some(code) = code else { return Err(refused(buildx, order, &log, output)) };
        let stderr = tail.join("\n");
        let code = if stderr.contains("unable to start container process") { NO_PROGRAM } else { code };
        return Ok(Finished { code: Some(code), stderr, ..nothing });
    }
    let [stdout, stderr, code] = FILES.map(|name| read(&folder.join("result").join(name)));
    let told = |error: io::Error| {
        Diagnostic::surroundings(format!("read what a command said upon {}", order.store.at(&order.image)))
            .caused_by(&error)
    };
    let code = code.map_err(told)?.trim().parse().ok();
    Ok(Finished { code, stdout: stdout.map_err(told)?, stderr: stderr.map_err(told)?, timed_out: false })
}

/// A file that an image has had in its hands: it may have made anything of it, a link to one of ours too.
fn read(file: &Path) -> io::Result<String> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let open = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(file)?;
    if !open.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no ordinary file", file.display())));
    }
    let mut bytes = Vec::new();
    open.take(OUTPUT_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn refused(buildx: &Buildx, order: &ContainerOrder, log: &BuildLog, output: &Output) -> Diagnostic {
    let problem = Diagnostic::surroundings(format!(
        "run a command upon {} with buildx:{}",
        order.store.at(&order.image),
        buildx.name
    ));
    let words = log.last_words();
    match words.is_empty() {
        true => problem.because(output.ended),
        false => words.iter().take(5).fold(problem, |problem, line| problem.because(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_step_that_says_how_it_ended() {
        let command = ["/bin/sh", "-c", "cat <<EOF\n$HOME \"\\\nEOF"].map(str::to_owned).to_vec();
        let text = dockerfile("registry/scope@sha256:1", Some(&command));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "nothing of the command begins a line: {text}");
        let step = lines[2].strip_prefix("RUN --network=none ").unwrap();
        let words: Vec<String> = serde_json::from_str(step).unwrap();
        assert_eq!(words[2], "\"$@\" >/.polyarch/stdout 2>/.polyarch/stderr; echo $? >/.polyarch/code");
        assert_eq!(words[4..], command);
        assert!(!dockerfile("x", None).contains("RUN"));
    }

    #[test]
    fn what_an_image_made_of_its_files_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, link) = (folder.path().join("secret"), folder.path().join("stdout"));
        std::fs::write(&secret, "canary").unwrap();
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        assert!(read(&link).is_err(), "a link is not followed");
        assert!(read(folder.path()).is_err(), "a folder is no file");
        assert_eq!(read(&secret).unwrap(), "canary");
    }
}
