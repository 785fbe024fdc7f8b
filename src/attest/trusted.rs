//! Those whose word counts, as their file says it: public keys, each with its term.
//!
//! PEM allows text between its blocks (RFC 7468, section 5.2), and other tools pass over it. Here it says from when until
//! when the next key counts; nothing else may stand there, since a misspelled word would let a key count for ever.
//!
//! ```text
//! # the key of 2026
//! valid-from: 2026-01-01
//! valid-until: 2027-01-31T00:00:00Z
//! -----BEGIN PUBLIC KEY-----
//! …
//! ```

use crate::diag::{Diagnostic, Result};
use crate::trust::Term;

use super::key::PublicKey;
use super::time;

/// How many keys a file may have.
const KEYS_LIMIT: usize = 64;

/// A public key and its term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrustedKey {
    pub(super) key: PublicKey,
    pub(super) term: Term,
}

impl TrustedKey {
    /// Reads those of a file; `from` is what to call it.
    ///
    /// # Errors
    /// Where there is none, one cannot be read, or something else stands between them.
    pub(crate) fn parse_all(pem: &[u8], from: &str) -> Result<Vec<Self>> {
        let text = String::from_utf8_lossy(pem);
        let (mut found, mut term, mut block) = (Vec::new(), Term::default(), None::<String>);
        for (number, line) in text.lines().enumerate() {
            let wrong = |why: String| {
                Diagnostic::request(format!("read the trusted keys in {from}, line {}", number + 1))
                    .because(why)
                    .hint("before each key may stand: valid-from: DATE, valid-until: DATE, revoked, # a comment")
            };
            match &mut block {
                None if line.starts_with("-----BEGIN ") => block = Some(format!("{line}\n")),
                None => read_term(line.trim(), &mut term).map_err(wrong)?,
                Some(pem) => {
                    pem.push_str(line);
                    pem.push('\n');
                    if line.starts_with("-----END ") {
                        let keys = PublicKey::parse_all(pem.as_bytes());
                        for key in keys.map_err(|problem| problem.because(format!("it stands in {from}")))? {
                            found.push(Self { key, term: std::mem::take(&mut term) });
                        }
                        block = None;
                    }
                }
            }
            if found.len() > KEYS_LIMIT {
                return Err(wrong(format!("there are more than {KEYS_LIMIT} keys")).into());
            }
        }
        let left = block.is_some() || term != Term::default();
        if found.is_empty() || left {
            let why = if left { "a key is cut off, or a term has no key" } else { "there is no key in it" };
            return Err(Diagnostic::request(format!("read the trusted keys in {from}")).because(why).into());
        }
        Ok(found)
    }
}

/// One line between two keys.
fn read_term(line: &str, term: &mut Term) -> std::result::Result<(), String> {
    let date = |text: &str| time::read(text.trim()).ok_or_else(|| format!("`{}` is no date", text.trim()));
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    match line.split_once(':') {
        Some(("valid-from", text)) if term.from.is_none() => term.from = Some(date(text)?),
        Some(("valid-until", text)) if term.until.is_none() => term.until = Some(date(text)?),
        None if line == "revoked" => term.revoked = true,
        // Since when does not matter: who has the key can write any time.
        Some(("revoked", _)) => term.revoked = true,
        _ => return Err(format!("`{line}` is not known, or said twice")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::key::tests::PUBLIC;

    #[test]
    fn f_u11_a_file_of_keys_says_how_long_each_counts() {
        let text = format!(
            "# ours\nvalid-from: 2026-01-02\nvalid-until: 2026-01-03T00:00:01Z\n{PUBLIC}\n\n{PUBLIC}\nrevoked: 2026-05-01\n{PUBLIC}\n"
        );
        let found = TrustedKey::parse_all(text.as_bytes(), "a test").expect("keys");
        let terms: Vec<Term> = found.into_iter().map(|one| one.term).collect();
        let day = 86_400;
        let from = 20_455 * day;
        assert_eq!(terms[0], Term { from: Some(from), until: Some(from + day + 1), revoked: false });
        assert_eq!(terms[1], Term::default(), "a term is of one key");
        assert!(terms[2].revoked);
    }

    #[test]
    fn what_could_let_a_key_count_for_ever_is_refused() {
        for (text, why) in [
            (format!("valid_until: 2026-01-01\n{PUBLIC}"), "not known"),
            (format!("valid-until: soon\n{PUBLIC}"), "is no date"),
            (format!("valid-until: 2026-01-01\nvalid-until: 2036-01-01\n{PUBLIC}"), "said twice"),
            (format!("{PUBLIC}\nrevoked\n"), "a term has no key"),
            (format!("{PUBLIC}\n-----BEGIN PUBLIC KEY-----\nMFk"), "cut off"),
            (String::new(), "no key"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----".to_owned(), "P-256"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----".to_owned(),
                "it stands in a test",
            ),
        ] {
            let refused = TrustedKey::parse_all(text.as_bytes(), "a test").expect_err(&text);
            let told: Vec<String> = refused.iter().map(ToString::to_string).collect();
            assert!(told.join("").contains(why), "{told:?} lacks {why}");
        }
    }
}
