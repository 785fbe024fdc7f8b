//! Keep secrets out of whatever is logged or shown.

/// What stands where a secret stood.
const MASK: &[u8] = b"***";

/// Values shorter than this are not hidden: they would hide half of every text, and they are no secrets.
const SHORTEST_BYTES: usize = 4;

/// Replaces known secret values wherever they appear.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    /// Longest first, so that a value that contains another is hidden whole.
    values: Vec<Vec<u8>>,
}

impl Redactor {
    /// One that hides these values; of a value of several lines also each line, since output comes by lines.
    pub(crate) fn new<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Self {
        let mut all = std::collections::BTreeSet::new();
        for value in values {
            let value = value.as_ref();
            all.insert(value.trim_ascii().to_vec());
            all.extend(value.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec()));
        }
        let mut values: Vec<_> = all.into_iter().filter(|value| value.len() >= SHORTEST_BYTES).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// A whole text without the secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut clean = Vec::with_capacity(text.len());
        let mut pending = text.as_bytes().to_vec();
        self.take(&mut pending, &mut clean, true);
        String::from_utf8_lossy(&clean).into_owned()
    }

    /// Take from `pending` all that is settled: what may be the beginning of a secret waits for more, unless
    /// there is no more.
    pub(super) fn take(&self, pending: &mut Vec<u8>, clean: &mut Vec<u8>, last: bool) {
        let mut at = 0;
        while at < pending.len() {
            let rest = &pending[at..];
            // A longer value that may still become whole goes before a shorter one that is.
            let waits = |value: &Vec<u8>| !last && value.len() > rest.len() && value.starts_with(rest);
            match self.values.iter().find(|value| rest.starts_with(value) || waits(value)) {
                Some(value) if value.len() <= rest.len() => {
                    clean.extend_from_slice(MASK);
                    at += value.len();
                }
                Some(_) => break,
                None => {
                    clean.push(rest[0]);
                    at += 1;
                }
            }
        }
        pending.drain(..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(redactor: &Redactor, pieces: &[&str]) -> String {
        let (mut pending, mut clean) = (Vec::new(), Vec::new());
        for piece in pieces {
            pending.extend_from_slice(piece.as_bytes());
            redactor.take(&mut pending, &mut clean, false);
        }
        redactor.take(&mut pending, &mut clean, true);
        String::from_utf8(clean).unwrap()
    }

    #[test]
    fn tm18_a_secret_is_hidden_wherever_it_is_cut() {
        let redactor = Redactor::new(["canary-secret", "abc", "canary-secret-and-more\n"]);
        let text = "<canary-secret> canary canary-secret-and-more abc canary-secret-and";
        let clean = "<***> canary *** abc ***-and";
        assert_eq!(redactor.text(text), clean);
        for at in 0..text.len() {
            assert_eq!(in_pieces(&redactor, &[&text[..at], &text[at..]]), clean, "cut at {at}");
        }
        assert_eq!(in_pieces(&redactor, &text.split_inclusive("").collect::<Vec<_>>()), clean);
    }

    proptest::proptest! {
        /// Whatever the secrets, wherever they stand and however what is said is cut.
        #[test]
        fn i_t4_no_line_of_a_secret_is_left(
            secrets in proptest::collection::vec("[ab\n]{4,9}", 1..4),
            words in proptest::collection::vec(("[abc]{0,4}", 0..4_usize), 1..8),
            cuts in proptest::collection::vec(0..4_usize, 0..40),
        ) {
            let said = |(word, secret): &(String, usize)| {
                format!("{word}{}", secrets.get(*secret).map_or("", String::as_str))
            };
            let text: String = words.iter().map(said).collect();
            let (mut pieces, mut rest) = (Vec::new(), text.as_str());
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = left;
            }
            pieces.push(rest);
            let redactor = Redactor::new(&secrets);
            for clean in [redactor.text(&text), in_pieces(&redactor, &pieces)] {
                for line in secrets.iter().flat_map(|secret| secret.split('\n')) {
                    let line = line.trim();
                    proptest::prop_assert!(line.len() < SHORTEST_BYTES || !clean.contains(line), "{line} in {clean}");
                }
            }
        }
    }

    #[test]
    fn tm18_each_line_of_a_key_is_hidden() {
        let redactor = Redactor::new(["-----BEGIN KEY-----\nQUJDRA==\n-----END KEY-----\n"]);
        assert_eq!(redactor.text("#5 0.1 QUJDRA==\n#5 0.2 -----END KEY-----"), "#5 0.1 ***\n#5 0.2 ***");
    }
}
