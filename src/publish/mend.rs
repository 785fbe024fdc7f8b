//! What a person can do where a registry failed.

use std::error::Error as _;
use std::net::IpAddr;

use crate::oci::{Error, ErrorKind};

/// What mends a failure at a registry, `host[:port]`; at least one thing.
pub(crate) fn hints(registry: &str, error: &Error) -> Vec<String> {
    match error.kind() {
        ErrorKind::Denied => vec![format!("log in: docker login {registry}")],
        ErrorKind::Full => vec!["make room there, then run the same command again".to_owned()],
        ErrorKind::Unsupported => vec![
            format!("see whether you may write there: docker login {registry}"),
            "where it is `polyarch serve`, start it so that it takes writes: polyarch serve --anonymous-writes"
                .to_owned(),
        ],
        _ if is_unknown_name(error) => {
            vec![format!(
                "see whether the name is right and the network is there: getent hosts {}",
                host(registry)
            )]
        }
        _ => vec![format!("see whether it answers: curl {}://{registry}/v2/", scheme(registry))],
    }
}

/// Whether no address was found for a name.
fn is_unknown_name(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if text.contains("dns error") || text.contains("failed to lookup address") {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// The host of a registry, without its port.
fn host(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host.trim_matches(['[', ']']),
        _ => registry,
    }
}

/// How a registry is spoken to where nothing else is said: without TLS on this very machine alone.
fn scheme(registry: &str) -> &'static str {
    let host = host(registry);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_here { "http" } else { "https" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_at_a_registry_has_a_hint_that_fits() {
        let unknown = || Error::new(ErrorKind::Failed, "dns error");
        let table = [
            ("r.example", Error::new(ErrorKind::Denied, "x"), "log in: docker login r.example"),
            ("r.example", Error::new(ErrorKind::Full, "x"), "make room"),
            ("r.example", Error::new(ErrorKind::Unsupported, "x"), "docker login r.example"),
            ("r.example:5000", Error::new(ErrorKind::Passing, "x"), "curl https://r.example:5000/v2/"),
            ("127.0.0.1:1", Error::new(ErrorKind::Passing, "x"), "curl http://127.0.0.1:1/v2/"),
            ("[::1]:1", Error::new(ErrorKind::Failed, "x"), "curl http://[::1]:1/v2/"),
            (
                "r.example:5000",
                Error::new(ErrorKind::Passing, "x").because(unknown()),
                "getent hosts r.example",
            ),
        ];
        for (registry, error, expected) in table {
            let hints = hints(registry, &error);
            assert!(hints[0].contains(expected), "{hints:?}");
        }
        let hints = hints("127.0.0.1:1", &Error::new(ErrorKind::Unsupported, "x"));
        assert!(hints[1].ends_with("polyarch serve --anonymous-writes"), "{hints:?}");
    }
}
