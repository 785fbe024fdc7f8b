//! Versions of engines and of their parts, as numbers that can be compared.

/// The three numbers that a version begins with, those that are missing being 0; none of a build from source, or of what
/// was built without being told its version.
pub(super) fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let version = version.trim_start_matches('v');
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let mut numbers = version[..end].split('.').map(str::parse);
    let first = numbers.next()?.ok()?;
    let mut number = || numbers.next().and_then(Result::ok).unwrap_or(0);
    let numbers = (first, number(), number());
    (numbers != (0, 0, 0)).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let table = [
            ("28.2.2", Some((28, 2, 2))),
            ("20.10.24+dfsg1", Some((20, 10, 24))),
            ("19.03.8", Some((19, 3, 8))),
            ("v0.21.1", Some((0, 21, 1))),
            ("v0.8+unknown", Some((0, 8, 0))),
            ("v1.1.12-0-g51d5e946", Some((1, 1, 12))),
            ("1.0.0~rc93+ds1-5+deb11u3", Some((1, 0, 0))),
            ("1.9-dev", Some((1, 9, 0))),
            ("1", Some((1, 0, 0))),
            ("v0.0.0+unknown", None),
            ("dev", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(numbers(text), expected, "{text}");
        }
        assert!(numbers("1.9") < numbers("1.28") && numbers("1.100") > numbers("1.28"));
    }
}
