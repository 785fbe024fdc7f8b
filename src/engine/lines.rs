//! What a process writes, as lines that are safe to log and to show.

use super::Redactor;

/// The longest line that is kept whole; a longer one comes in pieces.
const LINE_BYTES: usize = 64 << 10;

/// Cuts output into lines: secrets hidden, valid text, no control characters, of bounded length.
pub(super) struct Lines<'r> {
    redactor: &'r Redactor,
    pending: Vec<u8>,
    clean: Vec<u8>,
}

impl<'r> Lines<'r> {
    /// No output yet.
    pub(super) fn new(redactor: &'r Redactor) -> Self {
        Self { redactor, pending: Vec::new(), clean: Vec::new() }
    }

    /// More output has come.
    pub(super) fn push(&mut self, piece: &[u8], mut hear: impl FnMut(&str)) {
        self.pending.extend_from_slice(piece);
        self.redactor.take(&mut self.pending, &mut self.clean, false);
        self.whole_lines(&mut hear);
    }

    /// No more output will come.
    pub(super) fn finish(&mut self, mut hear: impl FnMut(&str)) {
        self.redactor.take(&mut self.pending, &mut self.clean, true);
        self.whole_lines(&mut hear);
        if !self.clean.is_empty() {
            let rest = std::mem::take(&mut self.clean);
            self.tell(&rest, &mut hear);
        }
    }

    fn whole_lines(&mut self, hear: &mut impl FnMut(&str)) {
        let clean = std::mem::take(&mut self.clean);
        let mut rest = clean.as_slice();
        loop {
            let end = rest.iter().take(LINE_BYTES).position(|byte| matches!(byte, b'\n' | b'\r'));
            match end {
                // A carriage return at the very end may be the first half of a line's end.
                Some(at) if rest[at] == b'\r' && at + 1 == rest.len() => break,
                Some(at) => {
                    self.tell(&rest[..at], hear);
                    let both = rest[at] == b'\r' && rest.get(at + 1) == Some(&b'\n');
                    rest = &rest[at + 1 + usize::from(both)..];
                }
                None if rest.len() > LINE_BYTES => {
                    self.tell(&rest[..LINE_BYTES], hear);
                    rest = &rest[LINE_BYTES..];
                }
                None => break,
            }
        }
        self.clean = rest.to_vec();
    }

    fn tell(&self, line: &[u8], hear: &mut impl FnMut(&str)) {
        let line = plain(&String::from_utf8_lossy(line));
        // Once more: taking away control characters may have joined the halves of a secret.
        hear(&self.redactor.text(&line));
    }
}

/// A text without escape sequences and control characters, tabs and line ends kept.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\t' | '\n' => plain.push(character),
            // These turn the direction of the text that follows: what is shown is then not what stands there.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            character if character.is_control() => {}
            character => plain.push(character),
        }
    }
    plain
}

/// Pass over the rest of a sequence of ECMA-48 that an escape character has begun.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.peek() {
        Some('[') => {
            characters.next();
            while characters.next_if(|next| matches!(next, '\u{20}'..='\u{3f}')).is_some() {}
            characters.next_if(|next| matches!(next, '\u{40}'..='\u{7e}'));
        }
        Some(']') => {
            characters.next();
            while let Some(next) = characters.next_if(|next| *next != '\n') {
                if next == '\u{7}' || next == '\u{1b}' && characters.next_if_eq(&'\\').is_some() {
                    break;
                }
            }
        }
        Some('\u{20}'..='\u{7e}') => {
            characters.next();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(redactor: &Redactor, pieces: &[&[u8]]) -> Vec<String> {
        let mut heard = Vec::new();
        let mut lines = Lines::new(redactor);
        pieces.iter().for_each(|piece| lines.push(piece, |line| heard.push(line.to_owned())));
        lines.finish(|line| heard.push(line.to_owned()));
        heard
    }

    #[test]
    fn f_g16_lines_are_plain_text() {
        let none = Redactor::default();
        let wild: &[u8] =
            b"a\x1b[31mred\x1b[0m\r\nb\rc\x07\x00\n\xff\xfe\x1b]0;title\x07d\n\xe2\x80\xaee\tf\x1b[";
        assert_eq!(lines(&none, &[wild]), ["ared", "b", "c", "\u{fffd}\u{fffd}d", "e\tf"]);
        assert_eq!(lines(&none, &[b"a\r", b"\nb"]), ["a", "b"]);
    }

    #[test]
    fn f_g16_a_line_without_end_comes_in_pieces() {
        let heard = lines(&Redactor::default(), &[&vec![b'x'; 200_000]]);
        assert_eq!(heard.iter().map(String::len).collect::<Vec<_>>(), [65536, 65536, 65536, 3392]);
    }

    #[test]
    fn tm18_a_secret_is_hidden_across_pieces_and_escapes() {
        let redactor = Redactor::new(["canary-secret"]);
        let long = [vec![b'x'; LINE_BYTES - 5], b"canary-secret".to_vec()].concat();
        let heard = lines(&redactor, &[b"canary-", b"secret\ncanary-\x1b[0msecret\n", &long]).join("\n");
        assert!(!heard.contains("canary") && !heard.contains("secret"), "{}", &heard[..40]);
        assert!(heard.starts_with("***\n***\nxxx"));
    }
}
