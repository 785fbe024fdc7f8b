//! The contexts of a docker client: names that people have given to engines, in the client's own configuration folder.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::diag::{Diagnostic, did_you_mean};
use crate::oci::Digest;

/// The name that the client's default has; no file stands for it.
pub(crate) const DEFAULT: &str = "default";

/// Where a context leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The address of the engine, as `unix:///…`, `ssh://…` or `tcp://…`.
    pub(crate) host: String,
    /// The folder of `ca.pem`, `cert.pem` and `key.pem`, where it has one.
    pub(crate) certificates: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    #[serde(default)]
    host: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    #[serde(default)]
    current_context: Option<String>,
}

/// The context that a person has chosen in the client's configuration folder, if it is not the default.
pub(crate) fn current(folder: &Path) -> Option<String> {
    let text = std::fs::read(folder.join("config.json")).ok()?;
    let settings: Settings = serde_json::from_slice(&text).ok()?;
    settings.current_context.filter(|name| !name.is_empty() && name != DEFAULT)
}

/// Where a context leads.
///
/// # Errors
/// Where there is none of that name, or it leads to no Docker Engine.
pub(crate) fn find(folder: &Path, name: &str) -> Result<Endpoint, Diagnostic> {
    let contexts = folder.join("contexts");
    let id = Digest::of(name.as_bytes()).hex().to_owned();
    let read = |id: &str| -> Option<Meta> {
        let text = std::fs::read(contexts.join("meta").join(id).join("meta.json")).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let Some(meta) = read(&id) else {
        let entries = std::fs::read_dir(contexts.join("meta")).into_iter().flatten().flatten();
        let known: Vec<String> = entries
            .filter_map(|entry| read(&entry.file_name().to_string_lossy()))
            .map(|meta| meta.name)
            .collect();
        let problem = Diagnostic::request(format!("docker has no context `{name}`"));
        let hint = did_you_mean(name, known.iter().map(String::as_str));
        return Err(problem.hint(hint.unwrap_or_else(|| "see what there is: docker context ls".to_owned())));
    };
    let host = meta.endpoints.docker.map(|docker| docker.host).filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| {
        Diagnostic::request(format!("the context `{name}` of docker leads to no Docker Engine"))
            .hint(format!("see where it leads: docker context inspect {name}"))
    })?;
    let certificates = contexts.join("tls").join(&id).join("docker");
    Ok(Endpoint { host, certificates: Some(certificates).filter(|folder| folder.is_dir()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, endpoint: &str) {
        let id = Digest::of(name.as_bytes()).hex().to_owned();
        let meta = folder.join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#);
        std::fs::write(meta.join("meta.json"), text).unwrap();
    }

    #[test]
    fn contexts_are_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "arm-1", r#"{"Host":"ssh://build@arm-1","SkipTLSVerify":false}"#);
        write(folder.path(), "broken", r#"{"Host":""}"#);
        let found = find(folder.path(), "arm-1").unwrap();
        assert_eq!(found, Endpoint { host: "ssh://build@arm-1".to_owned(), certificates: None });
        let tls = folder.path().join("contexts/tls").join(Digest::of(b"arm-1").hex()).join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        assert_eq!(find(folder.path(), "arm-1").unwrap().certificates, Some(tls));
        let missing = find(folder.path(), "arm-2").unwrap_err();
        assert_eq!(missing.hints, ["did you mean `arm-1`?"]);
        assert!(find(folder.path(), "broken").unwrap_err().message.contains("leads to no Docker Engine"));
    }

    #[test]
    fn the_context_in_use_is_read_unless_it_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(current(folder.path()), None);
        let is = |text: &str| {
            std::fs::write(folder.path().join("config.json"), text).unwrap();
            current(folder.path())
        };
        assert_eq!(is(r#"{"currentContext":"arm-1","auths":{}}"#).as_deref(), Some("arm-1"));
        assert_eq!(is(r#"{"currentContext":"default"}"#), None);
        assert_eq!(is("{}"), None);
    }
}
