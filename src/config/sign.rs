//! `[sign]`: by whom what is published is signed, and what is said of it.

use toml::Spanned;
use toml::de::DeValue;

use super::section::{Reading, Section};
use super::written::Written;
use super::{Inside, SecretSetting};
use crate::diag::Diagnostic;

/// How what is published is signed.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case", deny_unknown_fields, default)
)]
pub(crate) struct SignSettings {
    /// The private key: PEM, in a variable of the environment or in a file below the folder of the configuration.
    pub(crate) key: Option<SecretSetting>,
    /// The file of the public key, by which `verify` checks signatures.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) public_key: Option<Written<Inside>>,
    /// Without a key, by `cosign` and the identity that the CI service gives.
    pub(crate) keyless: Option<bool>,
    /// Whether a bill of materials is attached to each image; it is where it is not said.
    pub(crate) sbom: Option<bool>,
    /// Whether provenance is attached to each image; it is where it is not said.
    pub(crate) provenance: Option<bool>,
}

impl Reading {
    /// The section `[sign]`.
    pub(super) fn sign(&self, whole: &mut Section<'_, '_>) -> Option<SignSettings> {
        let mut section = self.section("sign", whole.value("sign")?)?;
        let settings = SignSettings {
            key: section.value("key").and_then(|key| self.key(key)),
            public_key: section.parsed("public-key"),
            keyless: self.truth(&mut section, "keyless").map(|said| said.value),
            sbom: self.truth(&mut section, "sbom").map(|said| said.value),
            provenance: self.truth(&mut section, "provenance").map(|said| said.value),
        };
        let span = section.span.clone();
        section.finish();
        if settings.key.is_some() && settings.keyless == Some(true) {
            let problem = Diagnostic::request("`sign` has a `key` and is `keyless`");
            self.wrong(&span, problem.hint("keep one of them"));
        }
        Some(settings)
    }

    /// Where the private key is: never the key itself.
    fn key(&self, value: &Spanned<DeValue<'_>>) -> Option<SecretSetting> {
        let hint = "write `key = { env = \"POLYARCH_SIGN_KEY\" }`, or `key = { file = \"sign.key\" }`";
        if let DeValue::String(_) = value.get_ref() {
            let problem = Diagnostic::request("`key` wants to be told where the key is");
            self.wrong(&value.span(), problem.at(self.source.hidden_place(&value.span())).hint(hint));
            return None;
        }
        let mut one = self.section("sign.key", value)?;
        let (env, file) = (one.text("env"), one.parsed::<Inside>("file"));
        one.finish();
        match (env, file) {
            (Some(env), None) => Some(SecretSetting::Env(env.value)),
            (None, Some(file)) => Some(SecretSetting::File(file.value)),
            _ => {
                let problem = Diagnostic::request("`sign.key` wants either `env` or `file`");
                self.wrong(&value.span(), problem.hint(hint));
                None
            }
        }
    }

    /// True or false, and where it stands.
    pub(super) fn truth(&self, section: &mut Section<'_, '_>, key: &'static str) -> Option<Written<bool>> {
        let value = section.value(key)?;
        if let DeValue::Boolean(truth) = value.get_ref() {
            return Some(Written { value: *truth, span: value.span() });
        }
        let problem = Diagnostic::request(format!("`{key}` wants true or false"));
        self.wrong(&value.span(), problem.hint(format!("write `{key} = true`")));
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{FamilyFile, SecretSetting};

    #[test]
    fn signing_is_told_where_its_key_is_and_never_the_key() {
        let read = |text: &str| FamilyFile::parse(Path::new("polyarch.toml"), text);
        let sign = |text: &str| read(text).expect("a file").sign;
        assert!(sign("").key.is_none());
        let some = sign("[sign]\nkey = { env = \"KEY\" }\npublic-key = \"sign.pub\"\nsbom = false\n");
        assert_eq!(some.key, Some(SecretSetting::Env("KEY".to_owned())));
        assert_eq!((some.sbom, some.provenance, some.keyless), (Some(false), None, None));
        for (text, reason) in [
            ("[sign]\nkey = \"MIGH\"", "where the key is"),
            ("[sign]\nkey = {}", "either `env` or `file`"),
            ("[sign]\nkey = { env = \"A\", file = \"b\" }", "either `env` or `file`"),
            ("[sign]\nkey = { file = \"../b\" }", "../b"),
            ("[sign]\nsbom = \"yes\"", "true or false"),
            ("[sign]\nkey = { env = \"A\" }\nkeyless = true", "keyless"),
            ("[sign]\nkeys = 1", "no setting `keys`"),
        ] {
            let problems = read(text).expect_err(text);
            let told: String = problems.iter().map(|problem| format!("{problem:?}")).collect();
            assert!(told.contains(reason), "{text}: {told}");
            assert!(!told.contains("MIGH"), "a key is not told: {told}");
        }
    }
}
