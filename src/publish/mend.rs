//! What a person can do where a registry failed.

use std::error::Error as _;
use std::net::IpAddr;

use crate::diag::Diagnostic;
use crate::oci::{Error, ErrorKind};

/// What the family's own store is called where a registry could stand.
pub(crate) const OWN: &str = "embedded";

/// What cannot be done at a registry, `host[:port]`: why, and what mends it.
pub(super) fn problem(doing: &str, registry: &str, error: &Error) -> Diagnostic {
    failure(format!("cannot {doing} at {registry}"), registry, error)
}

/// The same in other words.
pub(crate) fn failure(message: String, registry: &str, error: &Error) -> Diagnostic {
    let found = Diagnostic::surroundings(message).caused_by(error);
    hints(registry, error).into_iter().fold(found, Diagnostic::hint)
}

/// What mends a failure at a registry, `host[:port]`, or at [`OWN`]; at least one thing.
fn hints(registry: &str, error: &Error) -> Vec<String> {
    let answer = answer(error);
    if registry == OWN {
        return vec![match error.kind() {
            ErrorKind::Full => "make room there, then run the same command again".to_owned(),
            _ => "see what is wrong with the store: polyarch gc --scrub --dry-run".to_owned(),
        }];
    }
    if let Some(mends) = answer.as_deref().and_then(by_words) {
        return mends;
    }
    let answered = answer.is_some();
    match error.kind() {
        // `polyarch serve` that nobody may write to says so; there is no one to log in as.
        ErrorKind::Denied if answer.as_deref().is_some_and(|answer| answer.contains("you may not write ")) => {
            vec![
                "where it is `polyarch serve`, start it so that it takes writes: polyarch serve --anonymous-writes"
                    .to_owned(),
                format!("where it has users, log in as one who may: docker login {registry}"),
            ]
        }
        ErrorKind::Denied if answer.is_some_and(|answer| answer.starts_with("403")) => {
            vec![format!("who is logged in may not do this: log in as one who may: docker login {registry}")]
        }
        ErrorKind::Denied => vec![format!("log in: docker login {registry}")],
        ErrorKind::TooLarge if answered => {
            vec!["raise its limit for bodies, or that of the proxy before it".to_owned()]
        }
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
        // That it answers is known where it has answered with a refusal of its own.
        kind if answered && kind != ErrorKind::Passing => {
            vec![format!("ask who runs {registry}, and tell them what it answered")]
        }
        _ => vec![format!("see whether it answers: curl {}://{registry}/v2/", scheme(registry))],
    }
}

/// What mends a refusal that only the registry's own words tell apart from others: there are no codes for it, or too
/// few registries use them.
fn by_words(answer: &str) -> Option<Vec<String>> {
    let says = |text: &str| answer.contains(text);
    let mend = match () {
        () if says("immutable") => "publish under a tag that is new there, or let its tags move there",
        () if says("tag limit") || says("too many tags") || says("limit of tags") => {
            "remove tags there that nobody needs, then run the same command again"
        }
        () if says("not every registry takes") => "take another registry: polyarch publish --to REGISTRY",
        () if says("name_invalid") || says("invalid repository name") => {
            "choose a name that it takes: `repository = \"OWNER/NAME\"` in `[image.NAME]`"
        }
        () if says("name_unknown") => "make the repository there first, or correct its name",
        () => return None,
    };
    Some(vec![mend.to_owned()])
}

/// What a registry answered, if it did: its status and its own words, in small letters.
fn answer(error: &Error) -> Option<String> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text.to_lowercase().split_once("the registry answered ").map(|(_, answer)| answer.to_owned())
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
    if is_here(registry) { "http" } else { "https" }
}

/// Whether a registry is on this very machine.
pub(crate) fn is_here(registry: &str) -> bool {
    let host = host(registry);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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
        let answered = |kind, answer: &str| Error::new(kind, format!("x: the registry answered {answer}"));
        let refused = [
            (
                "r.example",
                answered(ErrorKind::Denied, "403"),
                "log in as one who may: docker login r.example",
            ),
            ("r.example", answered(ErrorKind::Denied, "401"), "log in: docker login r.example"),
            (
                "r.example",
                answered(ErrorKind::Denied, "403 (denied: you may not write o/a here)"),
                "polyarch serve --anonymous-writes",
            ),
            (OWN, answered(ErrorKind::Denied, "401"), "polyarch gc --scrub --dry-run"),
            ("r.example", answered(ErrorKind::Invalid, "400"), "ask who runs r.example"),
            ("r.example", answered(ErrorKind::Invalid, "400 (NAME_INVALID)"), "choose a name that it takes"),
            (
                "r.example",
                answered(ErrorKind::NotFound, "404 (NAME_UNKNOWN)"),
                "make the repository there first",
            ),
            ("r.example", answered(ErrorKind::TooLarge, "413"), "raise its limit for bodies"),
            ("r.example", answered(ErrorKind::Failed, "409 (tag is immutable)"), "a tag that is new there"),
            ("r.example", answered(ErrorKind::Denied, "403 (tag limit)"), "remove tags there"),
            ("r.example", answered(ErrorKind::Passing, "503"), "curl https://r.example/v2/"),
        ];
        for (registry, error, expected) in table.into_iter().chain(refused) {
            let hints = hints(registry, &error);
            assert!(hints[0].contains(expected), "{hints:?}");
        }
        let hints = hints("127.0.0.1:1", &Error::new(ErrorKind::Unsupported, "x"));
        assert!(hints[1].ends_with("polyarch serve --anonymous-writes"), "{hints:?}");
    }
}
