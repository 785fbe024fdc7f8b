//! Run a test on this machine, against an image that the engine has under a name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::lines::plain;
use super::process::Program;
use super::{Finished, Redactor};
use crate::diag::Diagnostic;

/// How much of each output of a command is kept.
const OUTPUT_BYTES: usize = 1 << 20;

/// A command for the shell of this machine.
#[derive(Clone, Debug)]
pub(crate) struct HostOrder {
    /// The command.
    pub(crate) command: String,
    /// The folder that it starts in, absolute.
    pub(crate) folder: PathBuf,
    /// Its environment: nothing reaches it that is not here, but the name of the image.
    pub(crate) variables: BTreeMap<OsString, OsString>,
    /// The image's name in the engine, which it sees as `POLYARCH_IMAGE`.
    pub(crate) image: String,
    /// How long it may take.
    pub(crate) time_limit: Duration,
}

/// Run a command on this machine, and wait for it and all that it has started.
///
/// # Errors
/// Where there is no shell; a command that fails is a [`Finished`] with its exit code.
pub(crate) async fn run(order: &HostOrder, redactor: &Redactor) -> Result<Finished, Diagnostic> {
    let program =
        Program::new("/bin/sh", order.time_limit).arguments(["-c", &order.command]).folder(&order.folder);
    let program =
        order.variables.iter().fold(program, |program, (name, value)| program.variable(name, value));
    let output = program.variable("POLYARCH_IMAGE", &order.image).capture(OUTPUT_BYTES).await?;
    let text = |bytes: &[u8]| redactor.text(&plain(&String::from_utf8_lossy(bytes)));
    Ok(Finished {
        code: output.ended.code,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        timed_out: output.ended.timed_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_test_sees_its_image_and_its_folder_and_no_secret_comes_out() {
        let order = HostOrder {
            command: "echo $POLYARCH_IMAGE $CANARY in $(pwd); exit 4".to_owned(),
            folder: "/".into(),
            variables: [("CANARY".into(), "canary-secret".into())].into(),
            image: "polyarch/x:1".to_owned(),
            time_limit: Duration::from_secs(120),
        };
        let finished = run(&order, &Redactor::new(["canary-secret"])).await.unwrap();
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(4), "polyarch/x:1 *** in /\n"));
    }
}
