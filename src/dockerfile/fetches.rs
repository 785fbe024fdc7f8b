//! What a `RUN` fetches and nothing checks (F-D14), as far as its own text tells: scripts of the context, and what package
//! managers install, are not looked into.

use super::git;
use crate::diag::Place;

/// The programs that fetch.
const FETCHERS: [&str; 2] = ["curl", "wget"];
/// The programs that check what was fetched: a step that runs one of them is believed, and `gpg` where it is to verify.
const CHECKERS: [&str; 10] = [
    "sha1sum",
    "sha256sum",
    "sha384sum",
    "sha512sum",
    "shasum",
    "b2sum",
    "md5sum",
    "gpgv",
    "cosign",
    "minisign",
];

/// What a step fetches from the machine that it runs on is its own.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What one `RUN` fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// The address, without a password.
    pub(crate) location: String,
    /// The instruction.
    pub(crate) place: Place,
}

/// The first address that the text of a `RUN` fetches from, where nothing in it checks what comes.
pub(super) fn unchecked(text: &str) -> Option<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let ends = |c: char| c.is_whitespace() || "'\"`();|&<>\\,[]".contains(c);
    let words: Vec<&str> = lines.flat_map(|line| line.split(ends)).filter(|word| !word.is_empty()).collect();
    let programs = words.iter().filter(|word| !word.contains("://"));
    let programs: Vec<&str> = programs.filter_map(|word| word.rsplit('/').next()).collect();
    let runs = |wanted: &[&str]| programs.iter().any(|program| wanted.contains(program));
    let verifies = runs(&CHECKERS) || runs(&["gpg"]) && words.contains(&"--verify");
    if !runs(&FETCHERS) || verifies {
        return None;
    }
    let address = |word: &&str| {
        let begins = ["https://", "http://"].into_iter().filter_map(|scheme| word.find(scheme)).min()?;
        let found = git::without_password(&word[begins..]);
        let is_here = HERE.iter().any(|host| found.contains(&format!("://{host}")));
        (!is_here).then_some(found)
    };
    words.iter().find_map(address)
}

#[cfg(test)]
mod tests {
    use super::unchecked;

    #[test]
    fn f_d14_what_is_fetched_and_not_checked_is_seen() {
        for (text, location) in [
            ("RUN curl -fsSL https://x.example/a | sh", Some("https://x.example/a")),
            ("RUN [\"/usr/bin/wget\", \"-q\", \"http://x.example/a\"]", Some("http://x.example/a")),
            (
                "RUN a && \\\n  # https://x.example/no\n  curl --url=https://x.example/$V/a",
                Some("https://x.example/$V/a"),
            ),
            ("RUN curl https://me:word@x.example/a", Some("https://x.example/a")),
            ("RUN curl https://x.example/a -o a && sha256sum --check sums", None),
            ("RUN wget https://x.example/a && gpg --verify a.asc", None),
            (
                "RUN curl https://x.example/gpg -o k && curl https://y.example/a | sh",
                Some("https://x.example/gpg"),
            ),
            ("RUN curl https://x.example/a | gpg --dearmor > k", Some("https://x.example/a")),
            ("RUN wget https://x.example/sha256sum", Some("https://x.example/sha256sum")),
            ("RUN curl --fail http://localhost:8080/health", None),
            ("RUN apt-get install -y curl wget", None),
            ("RUN echo https://x.example/a > /word", None),
            ("RUN curl \"$URL\"", None),
        ] {
            assert_eq!(unchecked(text).as_deref(), location, "{text}");
        }
    }
}
