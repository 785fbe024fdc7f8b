//! JSON that every reader understands alike (TM15): no field twice, and none of a document's own fields in another
//! spelling, which some readers take for the field and others do not.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// The fields of manifests, indexes and descriptors.
const FIELDS: [&str; 13] = [
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

/// Why a text can be read in two ways, if it can.
///
/// # Errors
/// Where it is no JSON, or ambiguous.
pub(super) fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Strict { names_are_free: false }.deserialize(&mut reader)?;
    reader.end()
}

/// A value of any kind, looked at and dropped.
#[derive(Clone, Copy)]
struct Strict {
    /// Names are the author's own, as in annotations.
    names_are_free: bool,
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
            let other = |field: &&&str| field.eq_ignore_ascii_case(&name) && **field != name;
            if let Some(field) = FIELDS.iter().find(other).filter(|_| !self.names_are_free) {
                return Err(A::Error::custom(format_args!("a field is spelled otherwise than `{field}`")));
            }
            let names_are_free = self.names_are_free || name == "annotations";
            if !names.insert(name) {
                return Err(A::Error::custom("a field stands there twice"));
            }
            fields.next_value_seed(Self { names_are_free })?;
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
        ];
        for text in taken {
            assert!(check(text.as_bytes()).is_ok(), "{text}: {:?}", check(text.as_bytes()));
        }
    }
}
