//! Names of packages, as taggers have them: `dpkg:python3`, `pip:tensorflow|tensorflow-cpu`.

use std::fmt;
use std::str::FromStr;

use super::value::Refused;
use crate::contents::Manager;
use crate::diag::did_you_mean;

/// The managers that can be asked, by the words that people have for them.
const MANAGERS: [(&str, Manager); 7] = [
    ("dpkg", Manager::Deb),
    ("apk", Manager::Apk),
    ("rpm", Manager::Rpm),
    ("pip", Manager::Pypi),
    ("conda", Manager::Conda),
    ("r", Manager::Cran),
    ("npm", Manager::Npm),
];

/// A package that a manager knows of, and what else it may be called: the first that is there is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackageName {
    /// Who knows of it.
    pub(crate) manager: Manager,
    /// Its names.
    pub(crate) names: Vec<String>,
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = MANAGERS.iter().find(|(_, manager)| *manager == self.manager).map_or("", |(word, _)| word);
        write!(f, "{word}:{}", self.names.join("|"))
    }
}

impl FromStr for PackageName {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let (word, names) = text.split_once(':').ok_or_else(|| {
            Refused::with(format!("`{text}` has no manager of packages"), "write it first, as `dpkg:python3`")
        })?;
        let manager = MANAGERS.iter().find(|(known, _)| *known == word).ok_or_else(|| {
            let words: Vec<&str> = MANAGERS.iter().map(|(word, _)| *word).collect();
            let hint = did_you_mean(word, words.iter().copied());
            let hint = hint.unwrap_or_else(|| format!("use one of `{}`", words.join("`, `")));
            Refused::with(format!("`{word}` is no manager of packages that is known here"), &hint)
        })?;
        let names: Vec<String> = names.split('|').map(str::to_owned).collect();
        let is_name =
            |name: &String| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
        match names.iter().all(is_name) {
            true => Ok(Self { manager: manager.1, names }),
            false => Err(Refused::with(
                format!("`{text}` names no package"),
                "write `dpkg:python3`, or `pip:tensorflow|tensorflow-cpu` for what has several names",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_with_its_manager() {
        for text in ["dpkg:python3", "pip:tensorflow|tensorflow-cpu", "npm:@scope/a", "r:ggplot2", "rpm:bash"]
        {
            assert_eq!(text.parse::<PackageName>().expect(text).to_string(), text);
        }
        for (text, told) in [
            ("python3", "has no manager"),
            ("deb:python3", "is no manager of packages that is known here"),
            ("pip:", "names no package"),
            ("pip:a|", "names no package"),
            ("pip:a b", "names no package"),
        ] {
            let refused = text.parse::<PackageName>().expect_err(text).to_string();
            assert!(refused.contains(told), "{text}: {refused}");
        }
    }
}
