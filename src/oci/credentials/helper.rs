//! Docker's credential helpers: a program `docker-credential-NAME` that is asked for a login over its pipes.
//!
//! What a helper prints is never shown, because a helper that half works may print a password.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Login, Secret};
use crate::oci::{Error, ErrorKind};

/// How much of a helper's answer is read.
const ANSWER_BYTES: u64 = 64 << 10;

/// The user name by which a helper says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Ask the helper of this name for the login of a server; `None` where it has none.
pub(super) async fn ask(
    name: &str,
    server: &str,
    search_path: &OsStr,
    patience: Duration,
) -> Result<Option<Login>, Error> {
    let program = find(name, search_path)?;
    let failed = |why: &str| {
        let hint = format!("try `echo {server} | docker-credential-{name} get`");
        Error::new(
            ErrorKind::Failed,
            format!("ask docker-credential-{name} for the login of {server}: {why}; {hint}"),
        )
    };
    #[expect(clippy::disallowed_methods, reason = "this is the keeper of credential helpers")]
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed("it cannot be started").because(error))?;
    let talk = async {
        if let Some(mut input) = child.stdin.take() {
            // A helper may answer without reading its input, so a closed pipe is no failure.
            let _ = input.write_all(format!("{server}\n").as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(output) = child.stdout.take() {
            output.take(ANSWER_BYTES + 1).read_to_end(&mut answer).await?;
        }
        if answer.len() as u64 > ANSWER_BYTES {
            return Ok((None, answer));
        }
        Ok::<_, std::io::Error>((Some(child.wait().await?), answer))
    };
    let (status, answer) = timeout(patience, talk)
        .await
        .map_err(|_| failed(&format!("it did not answer within {} s", patience.as_secs_f32())))?
        .map_err(|error| failed("its answer cannot be read").because(error))?;
    let Some(status) = status else { return Err(failed("its answer is longer than 64 KiB")) };
    if !status.success() {
        // The protocol has no other sign for "I have none" than this sentence.
        return match String::from_utf8_lossy(&answer).contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(&format!("it ended with {status}"))),
        };
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| failed("its answer is not the JSON that Docker defines"))?;
    let secret = Secret::new(answer.secret);
    Ok(match (answer.username.as_str(), secret.expose()) {
        (_, "") => None,
        (TOKEN_USER, _) => Some(Login::IdentityToken(secret)),
        _ => Some(Login::Basic { user: answer.username, password: secret }),
    })
}

/// The program of a helper, from the folders of the search path only: a name with a slash names no helper.
fn find(name: &str, search_path: &OsStr) -> Result<PathBuf, Error> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the Docker configuration names a credential helper with other characters than letters, digits, `.`, `_` and `-`",
        ));
    }
    std::env::split_paths(search_path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(format!("docker-credential-{name}")))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Failed,
                format!(
                    "the credential helper docker-credential-{name} is not installed; install it, or take \
                     `{name}` out of `credsStore` and `credHelpers` in the Docker configuration"
                ),
            )
        })
}
