//! What builders are called.

use crate::diag::Diagnostic;

/// How many characters a name may have.
const LENGTH_LIMIT: usize = 64;

/// Whether a person may call a builder so: it stands in lines of text, in logs and in records of how long jobs took.
///
/// # Errors
/// Where it is empty, longer than 64 characters, or has others than letters, digits, `-`, `_` and `.`.
pub(crate) fn check_builder_name(name: &str) -> Result<(), Diagnostic> {
    let is_short = (1..=LENGTH_LIMIT).contains(&name.chars().count());
    match is_short && name.chars().all(|one| one.is_alphanumeric() || "-_.".contains(one)) {
        true => Ok(()),
        false => Err(Diagnostic::request(format!("{name:?} is no name of a builder"))
            .hint("call it by 1 to 64 letters, digits, `-`, `_` and `.`, as in `arm-1`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_that_obeys_nobody() {
        for name in ["arm-1", "arm_1.example", "7", "gr\u{fc}n", &"x".repeat(64)] {
            assert_eq!(check_builder_name(name), Ok(()), "{name}");
        }
        for name in ["", " ", "a b", "x\n::error::y", "\u{1b}[2J", "a/b", "a=b", "\u{202e}a", &"x".repeat(65)]
        {
            let problem = check_builder_name(name).expect_err(name);
            let text = problem.message;
            assert!(!text.contains(char::is_control) && !text.contains('\u{202e}'), "{text}");
        }
    }
}
