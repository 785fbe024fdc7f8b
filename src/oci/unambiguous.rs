//! JSON that every reader understands alike (TM15): no field twice, and none of a document's own fields in another
//! spelling, which some readers take for the field and others do not. Go's reader compares names by Unicode's simple
//! folding, to which two letters beyond ASCII are ASCII's: U+017F is an s, U+212A a k.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// The fields of manifests, indexes and descriptors.
pub(super) const FIELDS: [&str; 13] = [
    "annotations",
    "artifactType",
    "config",
    "data",
    "digest",
    "layers",
    "manifests",
    "mediaType",
    "platform",
    "schemaVersion",
    "size",
    "subject",
    "urls",
];

/// The fields of a platform, looked for where one stands: elsewhere such names are nobody's.
pub(super) const PLATFORM_FIELDS: [&str; 5] = ["architecture", "os", "os.features", "os.version", "variant"];

/// Why a text can be read in two ways, if it can.
///
/// # Errors
/// Where it is no JSON, or ambiguous.
pub(super) fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Strict { names: Names::Ours }.deserialize(&mut reader)?;
    reader.end()
}

/// A value of any kind, looked at and dropped.
#[derive(Clone, Copy)]
struct Strict {
    names: Names,
}

/// Whose the names of fields are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// The specification's, or unknown.
    Ours,
    /// The specification's, those of a platform too.
    OfPlatform,
    /// The author's own, as in annotations.
    Free,
}

impl Names {
    /// A field that this name could be taken for and is not.
    fn mistaken(self, name: &str) -> Option<&'static str> {
        let platform: &[&str] = if self == Self::OfPlatform { &PLATFORM_FIELDS } else { &[] };
        let fields = FIELDS.iter().chain(platform).filter(|_| self != Self::Free);
        { fields }.find(|field| **field != name && is_folded_alike(field, name)).copied()
    }

    /// Those below a field.
    fn below(self, name: &str) -> Self {
        match name {
            _ if self == Self::Free => Self::Free,
            "annotations" => Self::Free,
            "platform" => Self::OfPlatform,
            _ => Self::Ours,
        }
    }
}

/// Whether a name is one of ours but for case, as Go's reader compares them.
fn is_folded_alike(field: &str, name: &str) -> bool {
    let folded = name.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    });
    folded.eq(field.chars().map(|letter| letter.to_ascii_lowercase()))
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            if let Some(field) = self.names.mistaken(&name) {
                return Err(A::Error::custom(format_args!("a field is spelled otherwise than `{field}`")));
            }
            let below = self.names.below(&name);
            if !names.insert(name) {
                return Err(A::Error::custom("a field stands there twice"));
            }
            fields.next_value_seed(Self { names: below })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tm15_fields_twice_and_in_other_spellings_are_refused() {
        let refused = [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":[{"c":1,"c":2}]}}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"Layers":[]}"#,
            r#"{"layers":[],"LAYERS":[]}"#,
            r#"{"manifests":[{"Digest":"x"}]}"#,
            r#"{"annotations":{"a":"1","a":"2"}}"#,
            r#"{"mediatype":"x"}"#,
            r#"{"layerſ":[]}"#,
            r#"{"config":{"dige\u017ft":"x"}}"#,
            r#"{"manifests":[{"platform":{"Architecture":"arm64","architecture":"amd64"}}]}"#,
            r#"{"manifests":[{"platform":{"oſ":"linux"}}]}"#,
            r#"{} {}"#,
            r#"{"a":1"#,
        ];
        for text in refused {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(check(deep.as_bytes()).is_err(), "too deep");
        let taken = [
            r#"{"layers":[],"config":{"digest":"x","size":1.5},"x":null,"y":true,"z":-1}"#,
            r#"{"annotations":{"Config":"1","config":"2","Digest":"3"}}"#,
            r#"{"a":{"b":1},"c":{"b":1}}"#,
            r#"{"platform":{"os":"linux","os.version":"1"},"OS":1,"x":{"Variant":1}}"#,
            r#"{"annotations":{"layerſ":"1","platform":{"OS":"1"}}}"#,
        ];
        for text in taken {
            assert!(check(text.as_bytes()).is_ok(), "{text}: {:?}", check(text.as_bytes()));
        }
    }
}
