//! What this program was called with, for the commands that hints name: pasted, they work in the same place.

/// The options that every command takes, as they were written on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Called(Vec<Given>);

#[derive(Clone, Debug)]
struct Given {
    option: &'static str,
    value: String,
}

impl Called {
    /// With these options and their values.
    pub(crate) fn with(options: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(options.into_iter().map(|(option, value)| Given { option, value }).collect())
    }

    /// A text in which each command of polyarch, after a colon, has the options that it does not name itself.
    pub(super) fn told(&self, text: &str) -> String {
        let mut parts = text.split(": polyarch ");
        let mut told = parts.next().unwrap_or_default().to_owned();
        for command in parts {
            told.push_str(": polyarch ");
            for given in self.0.iter().filter(|given| !given.is_in(command)) {
                told.push_str(&format!("{} {} ", given.option, in_shell(&given.value)));
            }
            told.push_str(command);
        }
        told
    }
}

impl Given {
    /// A command that names the scope in a way of its own, as `promote --from` does, is for another one.
    fn is_in(&self, command: &str) -> bool {
        let mut words =
            command.split(|character: char| character.is_whitespace() || matches!(character, '=' | ','));
        words.any(|word| word == self.option || (self.option == "--scope" && word == self.value))
    }
}

/// A word that a POSIX shell reads as this text.
fn in_shell(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-+:@%,=".contains(character);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_u1_a_command_that_is_pasted_works_in_the_same_place_and_scope() {
        let called = Called::with(
            [("-C", "my family"), ("--store", "st"), ("--scope", "pr-12")]
                .map(|(option, value)| (option, value.to_owned())),
        );
        let here = "-C 'my family' --store st --scope pr-12";
        for (hint, told) in [
            (
                "build it: polyarch build cup@linux/386",
                format!("build it: polyarch {here} build cup@linux/386"),
            ),
            ("next: polyarch verify", format!("next: polyarch {here} verify")),
            (
                "as in: polyarch --store ./new plan",
                "as in: polyarch -C 'my family' --scope pr-12 --store ./new plan".to_owned(),
            ),
            (
                "then: polyarch gc --end pr-12",
                "then: polyarch -C 'my family' --store st gc --end pr-12".to_owned(),
            ),
            (
                "see it: polyarch plan; or: polyarch doctor",
                format!("see it: polyarch {here} plan; or: polyarch {here} doctor"),
            ),
            ("read it with the polyarch that wrote it", "read it with the polyarch that wrote it".to_owned()),
        ] {
            assert_eq!(called.told(hint), told);
            assert_eq!(Called::default().told(hint), hint);
        }
    }

    #[test]
    fn what_a_shell_would_read_otherwise_is_quoted() {
        for (text, written) in
            [("a/b-1", "a/b-1"), ("", "''"), ("a b", "'a b'"), ("it's $x", r"'it'\''s $x'"), ("~", "'~'")]
        {
            assert_eq!(in_shell(text), written);
        }
    }
}
