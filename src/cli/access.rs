//! Who may use a served store: from options, or from a file of users with rights by repository.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::diag::{Diagnostic, Result};
use crate::oci::Repository;
use crate::oci::server::{Access, Rights, Scope, User};

/// The most bytes of a file of users, and of a password.
const FILE_BYTES: u64 = 1 << 20;
const PASSWORD_BYTES: u64 = 4096;
/// Records stand below this: what they say is believed, so nobody without a password writes there.
const RECORDS: &str = "scopes";

/// A file of users as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    anonymous: WrittenAnonymous,
    #[serde(default)]
    users: BTreeMap<String, WrittenUser>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAnonymous {
    #[serde(default)]
    read: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenUser {
    password_file: Option<PathBuf>,
    password_variable: Option<String>,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
}

/// Anyone may write, but for the records.
pub(super) fn anonymous_writes() -> Access {
    let records: Repository = RECORDS.parse().expect("a fixed name is a repository name");
    Access::new(Rights { spared: vec![Scope::Below(records)], ..Rights::all() }, Vec::new())
}

/// One user who may do everything; whoever sends no password may do what `unnamed` says.
///
/// # Errors
/// Where the password is empty.
pub(super) fn one_user(name: &str, password: &str, unnamed: Rights) -> Result<Access> {
    Ok(Access::new(unnamed, vec![user(name, password, Rights::all())?]))
}

/// The users of a file; `variable` looks up the environment.
///
/// # Errors
/// Where the file, a password or a name in it cannot be read.
pub(super) fn from_file(file: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Access> {
    let wrong = |error: &dyn std::error::Error| {
        Diagnostic::request(format!("read who may do what from {}", file.display())).caused_by(error)
    };
    let text = std::fs::File::open(file).and_then(|file| read(file, FILE_BYTES));
    let text = text.map_err(|error| wrong(&error))?;
    let written: Written = toml::from_str(&text).map_err(|error| wrong(&error))?;
    let unnamed = Rights { read: scopes(&written.anonymous.read)?, ..Rights::default() };
    let mut users = Vec::new();
    for (name, written) in &written.users {
        let password = match (&written.password_file, &written.password_variable) {
            (Some(path), None) => password_in(&file.parent().unwrap_or(Path::new("")).join(path))?,
            (None, Some(name)) => variable(name).ok_or_else(|| {
                Diagnostic::request(format!("the variable {name}, which has a password, is not set"))
            })?,
            _ => {
                let message = format!("user `{name}` wants one of `password-file` and `password-variable`");
                return Err(Diagnostic::request(message).into());
            }
        };
        let (read, write) = (scopes(&written.read)?, scopes(&written.write)?);
        users.push(user(name, &password, Rights { read, write, ..Rights::default() })?);
    }
    if users.is_empty() && unnamed.is_none() {
        let message = format!("{} lets nobody do anything", file.display());
        return Err(Diagnostic::request(message)
            .hint("give it a table `users.NAME`: docs/registry.md")
            .into());
    }
    Ok(Access::new(unnamed, users))
}

/// The password in a file, without the end of its line.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn password_in(file: &Path) -> Result<String> {
    let text = std::fs::File::open(file).and_then(|file| read(file, PASSWORD_BYTES));
    let text = text.map_err(|error| {
        Diagnostic::request(format!("read the password in {}", file.display())).caused_by(&error)
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The password on standard input, without the end of its line.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn password_on_input() -> Result<String> {
    let text = read(std::io::stdin(), PASSWORD_BYTES);
    let text = text.map_err(|error| Diagnostic::request("read the password").caused_by(&error))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn read(source: impl Read, limit: u64) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

fn user(name: &str, password: &str, rights: Rights) -> Result<User> {
    if password.is_empty() {
        return Err(Diagnostic::request(format!("the password of `{name}` is empty")).into());
    }
    if name.is_empty() || name.contains(':') {
        return Err(Diagnostic::request(format!("`{name}` is no user: it is empty or has a colon")).into());
    }
    Ok(User::new(name, password, rights))
}

/// `*` is every repository; a name is that repository and all below it.
fn scopes(written: &[String]) -> Result<Vec<Scope>> {
    let scope = |text: &String| match text.as_str() {
        "*" => Ok(Scope::All),
        name => name.parse().map(Scope::Below).map_err(|error| {
            Diagnostic::request("read who may do what")
                .caused_by(&error)
                .hint("write `\"*\"` for every repository, or a name for it and all below it")
        }),
    };
    Ok(written.iter().map(scope).collect::<std::result::Result<_, Diagnostic>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> std::result::Result<Access, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("access.toml");
        std::fs::write(&file, text).expect("written");
        std::fs::write(folder.path().join("secret"), "word\n").expect("written");
        from_file(&file, |name| (name == "WORD").then(|| "word".to_owned()))
            .map_err(|problems| problems.iter().map(|problem| format!("{problem:?}")).collect())
    }

    #[test]
    fn a_file_of_users_is_read() {
        let text = "[anonymous]\nread = [\"base\"]\n\
            [users.ci]\npassword-file = \"secret\"\nwrite = [\"*\"]\n\
            [users.reader]\npassword-variable = \"WORD\"\nread = [\"team\"]\n";
        assert!(access(text).is_ok());
    }

    #[test]
    fn a_file_that_says_something_else_is_refused() {
        let table = [
            ("", "lets nobody"),
            ("[anonymous]\nwrite = [\"*\"]", "unknown field `write`"),
            ("[users.a]\nwrite = [\"*\"]", "one of `password-file`"),
            ("[users.a]\npassword-variable = \"NONE\"", "NONE"),
            ("[users.a]\npassword-file = \"missing\"", "missing"),
            ("[users.a]\npassword-variable = \"WORD\"\nread = [\"A\"]", "no repository"),
            ("[users.\"a:b\"]\npassword-variable = \"WORD\"", "colon"),
        ];
        for (text, part) in table {
            let problem = access(text).err().expect(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
