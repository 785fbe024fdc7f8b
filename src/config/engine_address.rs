//! Which engine a builder is, as people write it.

use std::fmt;
use std::str::FromStr;

use super::value::HINT;
use crate::diag::{Diagnostic, did_you_mean};

/// An engine, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum EngineAddress {
    /// `docker`: the Docker Engine that a docker client of these surroundings would speak to.
    #[default]
    Docker,
    /// `unix:///run/docker.sock`: one of this machine, by its socket.
    Socket(String),
    /// `ssh://build@arm-1.example:22`: one of another machine, by the ssh that people have set up.
    Ssh(SshAddress),
    /// `tcp://arm-1.example:2376`: one of another machine, by TLS with certificates on both sides; `host:port`.
    Tcp(String),
    /// `context:arm-1`: one that a context of the docker client leads to.
    Context(String),
    /// `podman`, of this machine.
    Podman,
    /// `buildah`, of this machine.
    Buildah,
    /// `buildx:fleet`: a builder that `docker buildx ls` shows.
    Buildx(String),
}

/// Where ssh goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshAddress {
    /// The user there; the person's own configuration decides where it is not said.
    pub(crate) user: Option<String>,
    /// The host, or its name in the person's configuration of ssh.
    pub(crate) host: String,
    /// The port; the person's own configuration decides where it is not said.
    pub(crate) port: Option<u16>,
}

/// What can be written, for hints.
const FORMS: &str = "write `docker`, `podman`, `buildah`, `buildx:NAME`, `context:NAME`, or an address as in \
                     `ssh://build@arm-1.example`, `tcp://arm-1.example:2376` or `unix:///run/docker.sock`";

/// Why a text is no engine, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoEngine {
    /// Why.
    pub(crate) why: String,
    /// What to write instead.
    pub(crate) hint: String,
}

impl NoEngine {
    fn new(why: String) -> Self {
        Self { why, hint: FORMS.to_owned() }
    }

    /// The same as a problem of what stands somewhere.
    pub(crate) fn at(self, whose: impl fmt::Display) -> Diagnostic {
        Diagnostic::request(format!("{whose}: {}", self.why)).hint(self.hint)
    }
}

impl fmt::Display for NoEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{HINT}{}", self.why, self.hint)
    }
}

impl EngineAddress {
    /// Whether it is spoken to with certificates that a builder names.
    pub(crate) fn takes_certificates(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// What to say where a builder names some all the same.
    pub(crate) fn takes_none(&self) -> Diagnostic {
        Diagnostic::request(format!("{self} uses no certificates"))
            .hint("leave `certificates` out, or use `tcp://…`")
    }
}

impl FromStr for EngineAddress {
    type Err = NoEngine;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |name: &str| match is_name(name) {
            true => Ok(name.to_owned()),
            false => Err(NoEngine::new(format!("`{text}` has no name after the colon"))),
        };
        match text.split_once(':') {
            None => match text {
                "docker" => Ok(Self::Docker),
                "podman" => Ok(Self::Podman),
                "buildah" => Ok(Self::Buildah),
                other => {
                    let unknown = NoEngine::new(format!("`{other}` is no engine known here"));
                    match did_you_mean(other, ["docker", "podman", "buildah"]) {
                        Some(hint) => Err(NoEngine { hint, ..unknown }),
                        None => Err(unknown),
                    }
                }
            },
            Some(("buildx", name)) => named(name).map(Self::Buildx),
            Some(("context", name)) => named(name).map(Self::Context),
            Some(("unix", path)) if path.starts_with("///") && !path.contains(char::is_control) => {
                Ok(Self::Socket(text.to_owned()))
            }
            Some(("ssh", rest)) => ssh(rest).map(Self::Ssh).map_err(|form| NoEngine {
                why: format!("`{text}` wants a host, with a port where that is not 22"),
                hint: form.to_owned(),
            }),
            Some(("tcp", rest)) => {
                let address = rest.strip_prefix("//").unwrap_or_default().trim_end_matches('/');
                match address.rsplit_once(':') {
                    Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => {
                        Ok(Self::Tcp(address.to_owned()))
                    }
                    _ => Err(NoEngine {
                        why: format!("`{text}` wants a host and a port"),
                        hint: "write it as in `tcp://arm-1.example:2376`".to_owned(),
                    }),
                }
            }
            Some(_) => Err(NoEngine::new(format!("`{text}` is no engine known here"))),
        }
    }
}

fn ssh(rest: &str) -> Result<SshAddress, &'static str> {
    const FORM: &str = "write it as in `ssh://build@arm-1.example` or `ssh://arm-1:2222`";
    let address = rest.strip_prefix("//").ok_or(FORM)?.trim_end_matches('/');
    let (user, place) = match address.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, address),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port.parse().map_err(|_| FORM)?))
        }
        _ => (place, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // What begins with a dash would be an option of ssh.
    match is_host(host) && user.is_none_or(is_name) {
        true => Ok(SshAddress { user: user.map(str::to_owned), host: host.to_owned(), port }),
        false => Err(FORM),
    }
}

fn is_name(text: &str) -> bool {
    !text.starts_with('-')
        && !text.is_empty()
        && text.chars().all(|one| one.is_alphanumeric() || "-_.+".contains(one))
}

fn is_host(text: &str) -> bool {
    !text.starts_with('-')
        && !text.is_empty()
        && text.chars().all(|one| one.is_alphanumeric() || "-_.:[]%".contains(one))
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker => f.write_str("docker"),
            Self::Podman => f.write_str("podman"),
            Self::Buildah => f.write_str("buildah"),
            Self::Socket(address) => f.write_str(address),
            Self::Ssh(address) => address.fmt(f),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Context(name) => write!(f, "context:{name}"),
            Self::Buildx(name) => write!(f, "buildx:{name}"),
        }
    }
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_read_and_written_alike() {
        for text in [
            "docker",
            "podman",
            "buildah",
            "buildx:fleet",
            "context:arm-1",
            "unix:///run/user/1000/docker.sock",
            "ssh://arm-1",
            "ssh://build@arm-1.example",
            "ssh://build@arm-1.example:2222",
            "ssh://[fe80::1]:22",
            "tcp://10.0.0.1:2376",
        ] {
            assert_eq!(text.parse::<EngineAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_engine_is_refused_with_a_hint() {
        let table = [
            ("dokcer", "did you mean `docker`"),
            ("kaniko", "write `docker`"),
            ("buildx:", "has no name"),
            ("unix://relative", "is no engine known here"),
            ("ssh://", "wants a host"),
            ("ssh://host:port", "wants a host"),
            ("ssh://-oProxyCommand=x", "wants a host"),
            ("ssh://-l@host", "wants a host"),
            ("ssh://a b", "wants a host"),
            ("tcp://host", "wants a host and a port"),
            ("http://host:1", "is no engine known here"),
        ];
        for (text, expected) in table {
            let found = text.parse::<EngineAddress>().expect_err(text).to_string();
            assert!(found.contains(expected), "{found}");
        }
    }
}
