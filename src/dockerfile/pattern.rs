//! Patterns over paths: those of `COPY` and `ADD`, and the cleaning that they share with `.dockerignore`.

/// A pattern of a `COPY` or `ADD` source, taken from the root of the context.
///
/// `*`, `?`, `[a-z]` and `\` stay within one part of a path. `**` covers any number of parts, which is more than
/// `COPY` without `--parents` takes: a key may cover too much, never too little.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PathPattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// `**`
    Any,
    One(Vec<Token>),
    /// A part that is no pattern; it is taken to match, since the build will say so.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Exactly(char),
    Character,
    Text,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl PathPattern {
    /// Reads a pattern as BuildKit does: relative to the root, `.` and `..` resolved within it.
    pub(crate) fn parse(written: &str) -> Self {
        let cleaned = clean(&format!("/{written}"));
        Self(cleaned.split('/').filter(|part| !part.is_empty()).map(parse_part).collect())
    }

    /// A path in which nothing has a special meaning: the source of a bind mount.
    pub(crate) fn literal(path: &str) -> Self {
        let cleaned = clean(&format!("/{path}"));
        let exactly = |part: &str| Part::One(part.chars().map(Token::Exactly).collect());
        Self(cleaned.split('/').filter(|part| !part.is_empty()).map(exactly).collect())
    }

    /// Everything.
    pub(crate) fn everything() -> Self {
        Self(Vec::new())
    }

    /// Whether it is the whole context.
    #[cfg(test)]
    pub(crate) fn is_everything(&self) -> bool {
        self.0.iter().all(|part| *part == Part::Any)
    }

    /// Whether the path, or a folder that it is in, matches. Paths are relative, with `/`.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let path = parts_of(path);
        let reached = { self.0.iter() }.fold(at_start(&path), |reached, part| step(part, &reached, &path));
        reached.contains(&true)
    }

    /// The only path that it matches, relative, with `/`; none where it is not sure to be one.
    pub(crate) fn only(&self) -> Option<String> {
        let parts: Option<Vec<String>> = { self.0.iter() }
            .map(|part| match part {
                Part::One(tokens) => { tokens.iter() }
                    .map(|token| match token {
                        Token::Exactly(character) => Some(*character),
                        _ => None,
                    })
                    .collect(),
                Part::Any | Part::Broken => None,
            })
            .collect();
        parts.map(|parts| parts.join("/"))
    }

    /// What is left of it below a path that its first parts match; one rest for each way to match.
    pub(crate) fn rests(&self, path: &str) -> Vec<Self> {
        let path = parts_of(path);
        let mut reached = at_start(&path);
        let mut rests = Vec::new();
        for (at, part) in self.0.iter().enumerate() {
            reached = step(part, &reached, &path);
            if reached[path.len()] {
                // `**` may cover more below.
                let from = if *part == Part::Any { at } else { at + 1 };
                rests.push(Self(self.0[from..].to_vec()));
            }
        }
        rests
    }

    /// The same pattern, taken from a folder.
    pub(crate) fn below(&self, folder: &str) -> Self {
        let mut parts = Self::literal(folder).0;
        parts.extend(self.0.iter().cloned());
        Self(parts)
    }
}

fn parts_of(path: &str) -> Vec<Vec<char>> {
    path.split('/').filter(|part| !part.is_empty()).map(|part| part.chars().collect()).collect()
}

/// Where no part of a pattern has matched anything yet. `[i]`: the parts so far match the first `i` of the path.
fn at_start(path: &[Vec<char>]) -> Vec<bool> {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    reached
}

/// The same with one more part of the pattern.
fn step(part: &Part, reached: &[bool], path: &[Vec<char>]) -> Vec<bool> {
    let mut now = vec![false; path.len() + 1];
    for at in 0..=path.len() {
        now[at] = match part {
            Part::Any => reached[at] || (at > 0 && now[at - 1]),
            Part::Broken => at > 0 && reached[at - 1],
            Part::One(tokens) => at > 0 && reached[at - 1] && part_matches(tokens, &path[at - 1]),
        };
    }
    now
}

fn parse_part(part: &str) -> Part {
    if part == "**" {
        return Part::Any;
    }
    let mut tokens = Vec::new();
    let mut rest = part.chars().peekable();
    while let Some(c) = rest.next() {
        let token = match c {
            '*' if tokens.last() == Some(&Token::Text) => continue,
            '*' => Token::Text,
            '?' => Token::Character,
            '\\' => match rest.next() {
                Some(escaped) => Token::Exactly(escaped),
                None => return Part::Broken,
            },
            '[' => match class(&mut rest) {
                Some((negated, ranges)) => Token::Class { negated, ranges },
                None => return Part::Broken,
            },
            c => Token::Exactly(c),
        };
        tokens.push(token);
    }
    Part::One(tokens)
}

/// A class after its `[`, as Go's `filepath.Match` reads it; none where it is malformed.
pub(super) fn class(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Option<(bool, Vec<(char, char)>)> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Some((negated, ranges));
        }
        let low = class_character(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_character(rest)? } else { low };
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

/// Matches in time proportional to pattern times text: the last `*` is the only one that moves.
fn part_matches(tokens: &[Token], text: &[char]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match tokens.get(token) {
            Some(Token::Text) => {
                star = Some((token, at));
                token += 1;
            }
            Some(single) if token_matches(single, text[at]) => {
                token += 1;
                at += 1;
            }
            _ => {
                let Some((back, from)) = star else { return false };
                star = Some((back, from + 1));
                token = back + 1;
                at = from + 1;
            }
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Text)
}

fn token_matches(token: &Token, c: char) -> bool {
    match token {
        Token::Exactly(wanted) => *wanted == c,
        Token::Character | Token::Text => true,
        Token::Class { negated, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
        }
    }
}

/// Go's `filepath.Clean`: no doubled slashes, no `.`, `..` resolved as far as it can be.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".to_owned(),
        (false, joined) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_covers_what_copy_takes() {
        for (pattern, covered, not) in [
            ("a", "a a/b a/b/c", "ab b/a"),
            ("/a/", "a a/b", "b"),
            ("./a/../b", "b b/x", "a"),
            ("../a", "a", "b"),
            (".", "a .x a/b", ""),
            ("*.txt", "a.txt b.txt/c", "a.md d/a.txt"),
            ("d/*", "d/a d/a/b", "d e/a"),
            ("?at", "cat bat", "at chat"),
            ("[a-c]x", "ax cx", "dx"),
            ("[^a]x", "bx", "ax"),
            ("a\\*b", "a*b", "axb"),
            ("**/z", "z a/z a/b/z", "a"),
            ("a/**/b", "a/b a/x/b", "b"),
            ("a[", "ax b", "a/x/../.."),
        ] {
            let parsed = PathPattern::parse(pattern);
            for path in covered.split_whitespace() {
                assert!(parsed.covers(path), "{pattern} should cover {path}");
            }
            for path in not.split_whitespace().filter(|path| !path.contains("..")) {
                assert!(!parsed.covers(path), "{pattern} should not cover {path}");
            }
        }
        assert!(PathPattern::literal("a*b").covers("a*b") && !PathPattern::literal("a*b").covers("axb"));
    }

    #[test]
    fn what_is_left_of_a_pattern_below_a_path() {
        for (pattern, path, left) in [
            ("a/b/c", "a", "b/c"),
            ("a/b", "a/b", "."),
            ("a/b", "b", ""),
            ("a", "a/b", ""),
            ("*/x?", "a", "x?"),
            ("**/z", "a", "**/z"),
            ("**/z", "z", "**/z ."),
        ] {
            let expected: Vec<_> = left.split_whitespace().map(PathPattern::parse).collect();
            assert_eq!(PathPattern::parse(pattern).rests(path), expected, "{pattern} {path}");
        }
        assert_eq!(PathPattern::parse("./a/../b\\*").only().as_deref(), Some("b*"));
        assert_eq!(PathPattern::parse("a/*").only(), None);
        assert_eq!(PathPattern::parse("x*").below("../d/").only(), None);
        assert!(PathPattern::parse("x*").below("../d/").covers("d/xy/z"));
    }

    #[test]
    fn f_c14_a_pattern_of_many_stars_is_quick() {
        let pattern = PathPattern::parse(&format!("{}b", "*a".repeat(2_000)));
        assert!(!pattern.covers(&"a".repeat(5_000)));
    }

    #[test]
    fn cleaning_is_that_of_go() {
        for (written, cleaned) in
            [("", "."), ("/", "/"), ("a//b/./c/..", "a/b"), ("../a/..", ".."), ("/../a", "/a"), ("./", ".")]
        {
            assert_eq!(clean(written), cleaned);
        }
    }
}
