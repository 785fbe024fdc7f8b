//! Run commands in containers, and clear away what a run leaves in the engine.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::socket::Whereabouts;
use super::{ANSWER_BYTES, CALL, Docker, RUN_LABEL, archives};
use crate::diag::Diagnostic;
use crate::engine::lines::plain;
use crate::engine::process::{AtLast, Output};
use crate::engine::{ContainerOrder, Deed, Finished, RunId, StoreAddress, login};

/// How much of each output of a command is kept.
pub(super) const OUTPUT_BYTES: usize = 1 << 20;

/// The exit code with which the client says that no container ran.
const NOT_RUN: i32 = 125;

/// How many processes a command may have.
const PROCESSES: u32 = 4096;

/// How often containers are looked for until none is left, and how long apart: 5 s in all.
const SWEEPS: u32 = 25;
const SWEEP_PAUSE: Duration = Duration::from_millis(200);

/// Run a command in a fresh container, and wait for it.
pub(super) async fn run(docker: &Docker, order: &ContainerOrder) -> Result<Finished, Diagnostic> {
    let image = archives::image_of(docker, order)?;
    let mut output = attempt(docker, order, &image).await?;
    if is_missing_image(&output) {
        docker.fetch(&order.store, &order.image, &image, Some(&order.platform)).await?;
        output = attempt(docker, order, &image).await?;
    }
    // A command may end with that code too, but then it is not the client that complains.
    let complaint = output.complaint();
    if output.ended.code == Some(NOT_RUN) && complaint.starts_with("docker: ") || is_missing_image(&output) {
        return Err(docker.refused(format!("run a container of {image}"), &output));
    }
    let redactor = login::redactor(&order.store, []);
    let text = |bytes: &[u8]| redactor.text(&plain(&String::from_utf8_lossy(bytes)));
    Ok(Finished {
        code: output.ended.code,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        timed_out: output.ended.timed_out,
    })
}

async fn attempt(docker: &Docker, order: &ContainerOrder, image: &str) -> Result<Output, Diagnostic> {
    let number = docker.containers.fetch_add(1, Ordering::Relaxed);
    let name = format!("polyarch-{}-{number}", order.run);
    let config = docker.config(None).await?;
    let client = &docker.client().await?.path;
    let removal =
        AtLast::new(docker.program(client, &config, CALL).arguments(["rm", "--force", "--volumes", &name]));
    let (program, arguments) = order
        .command
        .split_first()
        .ok_or_else(|| Diagnostic::request(format!("run nothing in a container of {image}")))?;
    let output = docker
        .program(client, &config, order.time_limit)
        .arguments(["run", "--rm", "--pull", "never", "--name", &name])
        .arguments(["--label", &format!("{RUN_LABEL}={}", order.run)])
        .arguments(["--platform", &order.platform.to_string()])
        // What is tested is not trusted: no network, no more rights than a program needs, no endless forks.
        .arguments(["--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"])
        .arguments(["--pids-limit", &PROCESSES.to_string()])
        .arguments(["--entrypoint", program, image])
        .arguments(arguments)
        .capture(OUTPUT_BYTES)
        .await?;
    // One that ended by itself has removed itself.
    match output.ended.code {
        None => removal.now(ANSWER_BYTES).await?,
        Some(_) => removal.never(),
    }
    Ok(output)
}

fn is_missing_image(output: &Output) -> bool {
    let complaint = output.complaint();
    output.ended.code == Some(NOT_RUN)
        && (complaint.contains("No such image") || complaint.contains("Unable to find image"))
}

/// Remove the containers of a run and the names of images that it gave; without a run, of every run that is over.
pub(super) async fn sweep(
    docker: &Docker,
    run: Option<&RunId>,
    deed: Deed,
) -> Result<Vec<String>, Diagnostic> {
    let here = docker.whereabouts() == Whereabouts::Here;
    let is_meant = |of: &RunId| match run {
        Some(run) => run == of,
        None => of.is_over(here) || docker.environment.over.contains(of),
    };
    let mut removed = sweep_containers(docker, &is_meant, deed).await?;

    let listed =
        answer(docker, &["image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}}"]).await?;
    for name in listed.lines() {
        let tag = name.rsplit(':').next().unwrap_or_default();
        if RunId::of_build_tag(tag).is_some_and(|of| is_meant(&of)) {
            if deed == Deed::Remove && !unname(docker, name).await? {
                continue;
            }
            removed.push(format!("image name {name}"));
        }
    }
    if run.is_some() {
        for reference in std::mem::take(&mut *docker.pulled.lock().await) {
            // Somebody may have removed it already, or uses it: either way it is ours no more.
            if docker.ask(&["image", "rm", &reference]).await?.ended.success() {
                removed.push(format!("image name {reference}"));
            }
        }
    }
    Ok(removed)
}

/// Remove the names that images have by digest at the address of a store.
pub(super) async fn sweep_pulled(
    docker: &Docker,
    store: &StoreAddress,
    deed: Deed,
) -> Result<Vec<String>, Diagnostic> {
    let repository = format!("{}/{}@", store.registry, store.repository);
    let listed =
        answer(docker, &["image", "ls", "--digests", "--format", "{{.Repository}}@{{.Digest}}"]).await?;
    let mut removed = Vec::new();
    for name in listed.lines().filter(|name| name.starts_with(&repository) && !name.ends_with("@<none>")) {
        // What a container still uses stays, as does what is gone already.
        if deed == Deed::Name || docker.ask(&["image", "rm", name]).await?.ended.success() {
            removed.push(format!("image name {name}"));
        }
    }
    Ok(removed)
}

/// Remove containers until none is there: one may be on its way out already, which takes it a moment, and another
/// may only now come of a client that was ended while it began.
async fn sweep_containers(
    docker: &Docker,
    is_meant: &(dyn Fn(&RunId) -> bool + Send + Sync),
    deed: Deed,
) -> Result<Vec<String>, Diagnostic> {
    let filter = format!("label={RUN_LABEL}");
    let format = format!("{{{{.ID}}}}\t{{{{.Names}}}}\t{{{{.Label \"{RUN_LABEL}\"}}}}");
    let mut removed = Vec::new();
    for round in 0..SWEEPS {
        if round > 0 {
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
        let listed =
            answer(docker, &["ps", "--all", "--no-trunc", "--filter", &filter, "--format", &format]).await?;
        let mut any = false;
        for line in listed.lines() {
            let mut fields = line.split('\t');
            let (Some(id), Some(name), Some(of)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if is_meant(&RunId(of.to_owned())) {
                if deed == Deed::Remove {
                    answer(docker, &["rm", "--force", "--volumes", id]).await?;
                }
                let name = format!("container {name}");
                if !removed.contains(&name) {
                    removed.push(name);
                }
                any = true;
            }
        }
        if !any || deed == Deed::Name {
            break;
        }
    }
    Ok(removed)
}

/// Take a name from an image; whether it has it no more. The last one of an image that somebody's container stands on
/// stays until that is gone.
async fn unname(docker: &Docker, name: &str) -> Result<bool, Diagnostic> {
    let output = docker.ask(&["image", "rm", name]).await?;
    let complaint = output.complaint();
    match output.ended.success() || is_gone(&complaint) {
        true => Ok(true),
        false if is_used(&complaint) => Ok(false),
        false => Err(docker.refused(format!("ask for `docker image rm {name}`"), &output)),
    }
}

/// Whether an engine says that a container stands on the image that it should remove.
fn is_used(complaint: &str) -> bool {
    complaint.contains("is using its referenced image")
}

/// What the client prints; something that is gone already is as good as removed.
async fn answer(docker: &Docker, arguments: &[&str]) -> Result<String, Diagnostic> {
    let output = docker.ask(arguments).await?;
    let complaint = output.complaint();
    match output.ended.success() || is_gone(&complaint) {
        true => Ok(output.text()),
        false => Err(docker.refused(format!("ask for `docker {}`", arguments.join(" ")), &output)),
    }
}

/// Whether an engine says that what it should remove is not there any more, or is just being removed by somebody else.
fn is_gone(complaint: &str) -> bool {
    // The classic image store has no such image; containerd's has not found it.
    ["No such", "is already in progress", ": not found"].iter().any(|gone| complaint.contains(gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_has_removed_is_as_good_as_removed() {
        for gone in [
            "Error response from daemon: No such image: a/b:build-r-1-2-3-4",
            "Error: No such container: polyarch-r-1",
            "Error response from daemon: removal of container 1 is already in progress",
            "Error response from daemon: image \"a/b:build-r-1-2-3-4\": not found",
        ] {
            assert!(is_gone(gone), "{gone}");
        }
        for there in [
            "Error response from daemon: conflict: unable to remove repository reference \"a\" (must force)",
            "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
        ] {
            assert!(!is_gone(there), "{there}");
        }
    }
}
