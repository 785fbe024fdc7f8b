//! A signed statement as a file: a Sigstore bundle, version 0.3, with a DSSE envelope and no entry in a transparency log.
//!
//! DSSE 1.0 (github.com/secure-systems-lab/dsse) and `sigstore_bundle.proto`. `cosign` 3 reads and writes them, 2.6 with `--new-bundle-format`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::defence::{Defence, stands};
use crate::diag::Diagnostic;
use crate::oci::Digest;

use super::key::{PrivateKey, PublicKey};
use super::statement::{Kind, Statement};

/// The media type of a bundle, and what its manifest is an artifact of.
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The largest bundle that is read, in bytes.
pub(super) const BYTES_LIMIT: u64 = 64 << 20;
/// What the payload is.
const PAYLOAD: &str = "application/vnd.in-toto+json";
/// How many signatures of one envelope are looked at.
const SIGNATURES_LIMIT: usize = 16;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dsse_envelope: Option<Envelope>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<Hint>,
    /// A certificate for a moment, of one who signed without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Hint {
    #[serde(default)]
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    sig: String,
}

/// A statement with a signature.
///
/// # Errors
/// Where there are no random numbers.
pub(super) fn sign(key: &PrivateKey, statement: &Statement) -> Result<Vec<u8>, Diagnostic> {
    let payload = statement.bytes();
    let signature = key.sign(&signed_bytes(PAYLOAD, &payload))?;
    let bundle = Bundle {
        media_type: BUNDLE.to_owned(),
        verification_material: Material {
            public_key: Some(Hint { hint: key.public().hint() }),
            certificate: None,
        },
        dsse_envelope: Some(Envelope {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD.to_owned(),
            signatures: vec![Signed { sig: STANDARD.encode(signature) }],
        }),
    };
    Ok(serde_json::to_vec(&bundle).expect("texts and lists are plain JSON"))
}

/// Whether a bundle holds a statement of this kind about this digest with a signature of one of these keys.
///
/// # Errors
/// Why it does not.
pub(super) fn check(
    bundle: &[u8],
    keys: &[PublicKey],
    kind: Kind,
    subject: &Digest,
) -> Result<(), &'static str> {
    open(bundle, &keys.iter().collect::<Vec<_>>(), kind, subject).map(drop)
}

/// What a statement of this kind about this digest says, and the places of those keys that signed it.
///
/// # Errors
/// Why there is none with a signature of one of these keys.
pub(super) fn open(
    bundle: &[u8],
    keys: &[&PublicKey],
    kind: Kind,
    subject: &Digest,
) -> Result<(Vec<usize>, Value), &'static str> {
    let envelope = read(bundle)?.dsse_envelope.ok_or("it is signed in a form that is not read here")?;
    let payload = payload(&envelope)?;
    let message = signed_bytes(PAYLOAD, &payload);
    let signatures: Vec<Vec<u8>> = { envelope.signatures.iter().take(SIGNATURES_LIMIT) }
        .filter_map(|signed| STANDARD.decode(&signed.sig).ok())
        .collect();
    let holds = |key: &PublicKey| {
        signatures.iter().any(|signature| key.holds(&message, signature)) || !stands(Defence::Signatures)
    };
    let by: Vec<usize> =
        keys.iter().enumerate().filter(|(_, key)| holds(key)).map(|(place, _)| place).collect();
    // Nothing of what is not signed is believed.
    if by.is_empty() {
        return Err("it has no signature of this key");
    }
    Ok((by, Statement::said(&payload, kind, subject)?))
}

/// What a bundle says about this digest, signed by anyone: for whoever has had the signature checked elsewhere.
///
/// # Errors
/// Why it says nothing of this kind about it.
pub(super) fn claimed(bundle: &[u8], kind: Kind, subject: &Digest) -> Result<Value, &'static str> {
    let envelope = read(bundle)?.dsse_envelope.ok_or("it is signed in a form that is not read here")?;
    Statement::said(&payload(&envelope)?, kind, subject)
}

fn payload(envelope: &Envelope) -> Result<Vec<u8>, &'static str> {
    if envelope.payload_type != PAYLOAD {
        return Err("it is no in-toto statement");
    }
    STANDARD.decode(&envelope.payload).map_err(|_| "its content cannot be read")
}

/// Whether a bundle says that it was signed without a key, and is about this digest. What it says is not proved here.
pub(super) fn claims_certificate(bundle: &[u8], kind: Kind, subject: &Digest) -> bool {
    let Ok(Bundle { verification_material, dsse_envelope: Some(envelope), .. }) = read(bundle) else {
        return false;
    };
    let about = |payload: Vec<u8>| Statement::is_about(&payload, kind, subject).is_ok();
    verification_material.certificate.is_some() && STANDARD.decode(&envelope.payload).is_ok_and(about)
}

fn read(bundle: &[u8]) -> Result<Bundle, &'static str> {
    serde_json::from_slice(bundle).map_err(|_| "it is no Sigstore bundle")
}

/// What is signed: DSSE, "Pre-Authentication Encoding".
fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::key::tests::{private, stranger};
    use serde_json::json;

    fn image() -> Digest {
        Digest::of(b"image")
    }

    fn signed(key: &PrivateKey, kind: Kind, subject: &Digest) -> Value {
        let statement = Statement::new(kind, subject, json!({ "packages": ["a"] }));
        serde_json::from_slice(&sign(key, &statement).expect("signed")).expect("JSON")
    }

    fn checked(bundle: &Value, kind: Kind) -> Result<(), &'static str> {
        check(bundle.to_string().as_bytes(), &[stranger().public(), private().public()], kind, &image())
    }

    #[test]
    fn what_is_signed_is_what_is_checked() {
        assert_eq!(
            signed_bytes("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        for kind in [Kind::Signature, Kind::Bill, Kind::Provenance] {
            assert_eq!(checked(&signed(&private(), kind, &image()), kind), Ok(()));
        }
    }

    /// Each of these would be believed if one check were left out.
    #[test]
    fn tm_29_forged_statements_are_refused_each_with_its_reason() {
        let good = || signed(&private(), Kind::Bill, &image());
        let altered = |change: &dyn Fn(&mut Value)| {
            let mut bundle = good();
            change(&mut bundle);
            bundle
        };
        let payload = |bundle: &Value| {
            let text = bundle["dsseEnvelope"]["payload"].as_str().expect("a payload");
            String::from_utf8(STANDARD.decode(text).expect("Base64")).expect("JSON")
        };
        let fewer = STANDARD.encode(payload(&good()).replace("[\"a\"]", "[]"));
        let other = signed(&private(), Kind::Bill, &Digest::of(b"another image"));
        let unsigned = "it has no signature of this key";
        for (what, bundle, reason) in [
            ("another key", signed(&stranger(), Kind::Bill, &image()), unsigned),
            (
                "another content",
                altered(&|bundle| bundle["dsseEnvelope"]["payload"] = json!(fewer)),
                unsigned,
            ),
            ("another image", other, "it is about something else"),
            (
                "another kind",
                signed(&private(), Kind::Provenance, &image()),
                "it says something of another kind",
            ),
            ("no signature", altered(&|bundle| bundle["dsseEnvelope"]["signatures"] = json!([])), unsigned),
            (
                "an empty one",
                altered(&|bundle| bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!("")),
                unsigned,
            ),
            (
                "another type",
                altered(&|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("text/plain")),
                "it is no in-toto statement",
            ),
            (
                "no envelope",
                altered(&|bundle| bundle["dsseEnvelope"] = Value::Null),
                "it is signed in a form that is not read here",
            ),
            ("no bundle", json!([]), "it is no Sigstore bundle"),
        ] {
            assert_eq!(checked(&bundle, Kind::Bill), Err(reason), "{what}");
        }
    }

    /// A statement about two things, one of them this image, would let one signature stand for what was never looked at.
    #[test]
    fn a_statement_about_several_things_is_not_about_this_one() {
        let digest = json!({ "sha256": image().hex() });
        let statement = |subject: Value| {
            let predicate_type = Kind::Signature.predicate_type();
            let whole = json!({ "_type": TYPE_V1, "subject": subject, "predicateType": predicate_type });
            Statement::is_about(whole.to_string().as_bytes(), Kind::Signature, &image())
        };
        assert_eq!(statement(json!([{ "digest": digest }])), Ok(()));
        assert!(statement(json!([{ "digest": digest }, { "digest": digest }])).is_err());
        assert!(statement(json!([])).is_err());
        assert!(statement(json!([{ "digest": { "sha512": image().hex() } }])).is_err());
    }

    const TYPE_V1: &str = "https://in-toto.io/Statement/v1";

    #[test]
    fn a_certificate_is_only_claimed() {
        let mut bundle = signed(&private(), Kind::Signature, &image());
        let claims =
            |bundle: &Value| claims_certificate(bundle.to_string().as_bytes(), Kind::Signature, &image());
        assert!(!claims(&bundle));
        bundle["verificationMaterial"] = json!({ "certificate": { "rawBytes": "" } });
        assert!(claims(&bundle));
    }
}
