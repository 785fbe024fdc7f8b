//! Logins as `docker login` and `podman login` leave them: `config.json` and `auth.json`.
//!
//! In each file the order is: the helper for the host (`credHelpers`), the longest matching key of `auths`
//! (Podman's keys may name a repository or a folder of them), the helper for everything (`credsStore`). The first
//! file that has a login wins. What a file holds is never quoted in a message.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Credentials, Login, Secret, helper};
use crate::oci::{Error, ErrorKind, Repository};

/// How long a helper may take.
const HELPER_PATIENCE: Duration = Duration::from_secs(30);

/// The name that Docker's own registry has in files and helpers, for reasons of history.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The logins of one or more Docker or Podman configuration files.
pub struct DockerConfig {
    files: Vec<File>,
    helper_search_path: OsString,
    helper_patience: Duration,
    /// What helpers said, by helper and server: one may take a second, or ask a person to touch a key.
    heard: Mutex<BTreeMap<(String, String), Option<Login>>>,
}

/// One file, with the keys of `auths` brought to the form `host[:port][/path]`.
#[derive(Default)]
struct File {
    logins: BTreeMap<String, Login>,
    helpers: BTreeMap<String, String>,
    helper: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl DockerConfig {
    /// Read files, the first of them the strongest; one that does not exist is skipped. Helpers are looked for in
    /// the folders of the search path, which is what `PATH` holds.
    ///
    /// # Errors
    /// Where a file cannot be read, or is no Docker configuration.
    pub fn load(paths: &[PathBuf], helper_search_path: impl Into<OsString>) -> Result<Self, Error> {
        let mut config = Self {
            files: Vec::new(),
            helper_search_path: helper_search_path.into(),
            helper_patience: HELPER_PATIENCE,
            heard: Mutex::default(),
        };
        for path in paths {
            match std::fs::read(path) {
                Ok(bytes) => config.add(path, &bytes)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(format!("read logins from {}", path.display()), error)),
            }
        }
        Ok(config)
    }

    /// Take in the text of one more file, weaker than those before; `name` is for messages.
    ///
    /// # Errors
    /// Where it is no Docker configuration.
    pub fn add(&mut self, name: &Path, text: &[u8]) -> Result<(), Error> {
        // The parser's own message may quote a value, so only its place is told.
        let written: Written = serde_json::from_slice(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            broken(name, &format!("it is no Docker configuration ({place})"))
        })?;
        let mut file =
            File { helper: written.creds_store.filter(|name| !name.is_empty()), ..File::default() };
        for (key, helper) in written.cred_helpers {
            file.helpers.insert(normal(&key), helper);
        }
        for (key, entry) in written.auths {
            let login = entry.login().map_err(|why| broken(name, &format!("auths.\"{key}\" {why}")))?;
            if let Some(login) = login {
                file.logins.insert(normal(&key), login);
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// The same, with another limit on how long a helper may take.
    #[must_use]
    pub fn with_helper_patience(mut self, patience: Duration) -> Self {
        self.helper_patience = patience;
        self
    }

    async fn ask_helper(&self, helper: &str, registry: &str) -> Result<Option<Login>, Error> {
        let server = if registry == "docker.io" { DOCKER_HUB_KEY } else { registry };
        let mut heard = self.heard.lock().await;
        let key = (helper.to_owned(), server.to_owned());
        if let Some(login) = heard.get(&key) {
            return Ok(login.clone());
        }
        let login = helper::ask(helper, server, &self.helper_search_path, self.helper_patience).await?;
        heard.insert(key, login.clone());
        Ok(login)
    }
}

#[async_trait]
impl Credentials for DockerConfig {
    async fn find(&self, registry: &str, repository: Option<&Repository>) -> Result<Option<Login>, Error> {
        let registry = normal(registry);
        for file in &self.files {
            if let Some(helper) = file.helpers.get(&registry)
                && let Some(login) = self.ask_helper(helper, &registry).await?
            {
                return Ok(Some(login));
            }
            if let Some(login) = file.login(&registry, repository) {
                return Ok(Some(login.clone()));
            }
            if let Some(helper) = &file.helper
                && let Some(login) = self.ask_helper(helper, &registry).await?
            {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl File {
    /// The login under the longest key that is the repository or a folder above it.
    fn login(&self, registry: &str, repository: Option<&Repository>) -> Option<&Login> {
        let whole =
            repository.map_or_else(|| registry.to_owned(), |repository| format!("{registry}/{repository}"));
        let mut key = whole.as_str();
        loop {
            if let Some(login) = self.logins.get(key) {
                return Some(login);
            }
            key = key.rsplit_once('/')?.0;
        }
    }
}

impl Entry {
    /// What the entry says; nothing where a helper keeps it. The error says what is wrong, without the value.
    fn login(self) -> Result<Option<Login>, &'static str> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Login::RegistryToken(Secret::new(self.registrytoken))));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Login::IdentityToken(Secret::new(self.identitytoken))));
        }
        if self.auth.is_empty() {
            let password = Secret::new(self.password);
            let given = !self.username.is_empty() && !password.expose().is_empty();
            return Ok(given.then_some(Login::Basic { user: self.username, password }));
        }
        let wrong = "has an `auth` that is not `user:password` in Base64; log in again";
        let text = self.auth.trim();
        let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).map_err(|_| wrong)?;
        let text = String::from_utf8(bytes).map_err(|_| wrong)?;
        let (user, password) = text.split_once(':').ok_or(wrong)?;
        // Docker once padded what it wrote with zero bytes.
        let password = Secret::new(password.trim_end_matches('\0'));
        Ok(Some(Login::Basic { user: user.to_owned(), password }))
    }
}

fn broken(name: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("read logins from {}: {why}", name.display()))
}

/// A key without scheme and API version, Docker's own registry by its usual name.
fn normal(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path))) {
        ("index.docker.io" | "registry-1.docker.io", None) => "docker.io".to_owned(),
        ("index.docker.io" | "registry-1.docker.io", Some(path)) => format!("docker.io/{path}"),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Places that look alike and are none of the same registry.
    const PLACES: [&str; 9] =
        ["r.io", "r.io:443", "r.io:5000", "xr.io", "r.io.x", "r.i", "r.io/a", "r.io/a/b", "r.io:5000/a"];

    /// Whether what is configured for a place is for a repository of a registry.
    fn is_for(place: &str, registry: &str, repository: &str) -> bool {
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        host == registry && repository.split('/').collect::<Vec<_>>().starts_with(&parts)
    }

    proptest! {
        /// Each password says which place it is of: no other is given it, and the nearest place goes first.
        #[test]
        fn i_t5_a_password_is_given_to_the_place_that_it_is_for(
            known in proptest::collection::btree_set(proptest::sample::select(&PLACES[..]), 0..6),
            schemes in proptest::collection::vec(0..3_usize, 6),
            asked in proptest::sample::select(&PLACES[..6]),
            repository in proptest::sample::select(&["a", "a/b", "ab", "b/a", "a/b/c"][..]),
        ) {
            let entries = known.iter().zip(schemes).map(|(place, scheme)| {
                let scheme = ["", "https://", "http://"][scheme];
                let login = serde_json::json!({ "username": "u", "password": place });
                (format!("{scheme}{place}"), login)
            });
            let auths: serde_json::Map<String, serde_json::Value> = entries.collect();
            let mut config = DockerConfig::load(&[], "").expect("no files");
            let text = serde_json::json!({ "auths": auths }).to_string();
            config.add(Path::new("config.json"), text.as_bytes()).expect("logins");
            let name: Repository = repository.parse().expect("a name");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let found = runtime.block_on(config.find(asked, Some(&name))).expect("a look");
            let given = found.map(|login| match login {
                Login::Basic { password, .. } => password.expose().to_owned(),
                _ => panic!("only passwords are known"),
            });
            let meant = known.iter().filter(|place| is_for(place, asked, repository));
            prop_assert_eq!(given, meant.max_by_key(|place| place.len()).map(|place| (*place).to_owned()));
        }
    }
}
