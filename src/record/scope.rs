//! Scopes: the parts of a store, each with one level of trust.

use std::fmt;
use std::str::FromStr;

use crate::defence::{Defence, stands};
use crate::family::SCOPES;
use crate::oci::{Error, ErrorKind, Repository};

/// How many characters a name may have.
const LENGTH: usize = 64;
/// The name of the scope whose content is published.
const TRUSTED: &str = "trusted";

/// The name of a scope: lowercase letters and digits, with single `-`, `.` or `_` between them, at most 64 characters.
/// It comes from the command line and the environment alone, never from the files that are built. The name of a branch
/// is none as it stands: the number of a pull request is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScopeName(String);

impl ScopeName {
    /// The trusted scope.
    pub(crate) fn trusted() -> Self {
        Self(TRUSTED.to_owned())
    }

    /// Whether it is the trusted one.
    pub(crate) fn is_trusted(&self) -> bool {
        self.0 == TRUSTED
    }

    /// Its repository in a store.
    pub(crate) fn repository(&self) -> Repository {
        let name = if stands(Defence::OwnScope) { &self.0 } else { TRUSTED };
        format!("{SCOPES}{name}").parse().expect("the name of a scope is a part of a repository's")
    }
}

impl fmt::Display for ScopeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ScopeName {
    type Err = Error;

    fn from_str(written: &str) -> Result<Self, Error> {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_letter);
        let is_name = written.len() <= LENGTH && written.split(['-', '.', '_']).all(is_word);
        let leads_nowhere_else = is_name || !stands(Defence::ScopeNames);
        match leads_nowhere_else && format!("{SCOPES}{written}").parse::<Repository>().is_ok() {
            true => Ok(Self(written.to_owned())),
            false => Err(Error::new(
                ErrorKind::Invalid,
                "a scope is named by lowercase letters and digits, with single `-`, `.` or `_` between them, 64 \
                 characters at most, such as pr-12 after the number of a pull request",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_u8_names_that_would_lead_elsewhere_are_no_scopes() {
        for name in ["trusted", "pr-12", "a", "1.2_x", &"a".repeat(64)] {
            let scope: ScopeName = name.parse().expect(name);
            assert_eq!(scope.repository().as_str(), format!("scopes/{name}"));
            assert_eq!(scope.is_trusted(), name == "trusted");
        }
        for name in [
            "",
            "../x",
            "a/b",
            "refs/heads/main",
            "$(x)",
            "`x`",
            "A",
            "Trusted",
            "trusted ",
            " trusted",
            "trusted\n",
            "a--b",
            "a..b",
            "-a",
            "a-",
            ".",
            "..",
            "é",
            "🦀",
            "a:b",
            "a@b",
            "tru\u{200b}sted",
            "\u{ff54}rusted",
            &"a".repeat(65),
            &"a".repeat(250),
        ] {
            assert!(name.parse::<ScopeName>().is_err(), "{name:?}");
        }
    }
}
