//! Keys for signatures: ECDSA over P-256 with SHA-256, the kind that `cosign generate-key-pair` makes.
//!
//! A private key is PEM with PKCS#8 (RFC 5958), not encrypted; a public one PEM with SubjectPublicKeyInfo (RFC 5480).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::diag::Diagnostic;
use crate::oci::Digest;

/// What stands before the point of a public key of P-256: RFC 5480, section 2.
const P256_HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The length of an uncompressed point, in bytes.
const POINT_LENGTH: usize = 65;

/// How to make a key that can be used here.
const MAKE: &str = "make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sign.key";
/// How to make its public half.
const MAKE_PUBLIC: &str = "make it from the private one: openssl pkey -in sign.key -pubout -out sign.pub";

/// A public key, by which signatures are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    point: Vec<u8>,
}

impl PublicKey {
    /// Reads one or several from PEM: while a key is replaced, the old one and the new one are both believed.
    ///
    /// # Errors
    /// Where there is none, or one is no public key of P-256.
    pub(crate) fn parse_all(pem: &[u8]) -> Result<Vec<Self>, Diagnostic> {
        let found: Vec<Self> = blocks(pem).map(|block| Self::of_block(&block)).collect::<Result<_, _>>()?;
        match found.is_empty() {
            true => {
                Err(Diagnostic::request("read the public key").because("it is no PEM text").hint(MAKE_PUBLIC))
            }
            false => Ok(found),
        }
    }

    fn of_block((label, der): &(String, Vec<u8>)) -> Result<Self, Diagnostic> {
        let wrong = |why: &str| Diagnostic::request("read the public key").because(why).hint(MAKE_PUBLIC);
        if label.contains("PRIVATE KEY") {
            return Err(wrong("it is a private key: keep it to yourself"));
        }
        let point = der.strip_prefix(&P256_HEADER).filter(|point| point.len() == POINT_LENGTH);
        match (label.as_str(), point) {
            ("PUBLIC KEY", Some(point)) => Ok(Self { point: point.to_vec() }),
            _ => Err(wrong("it is no key of the curve P-256")),
        }
    }

    /// Whether a signature, in ASN.1, is of this key on these bytes.
    pub(super) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point).verify(message, signature).is_ok()
    }

    /// What tells it from other keys: the digest of its SubjectPublicKeyInfo in Base64, as cosign has it.
    pub(super) fn hint(&self) -> String {
        let digest = Digest::of(&[P256_HEADER.as_slice(), &self.point].concat());
        let hex = digest.hex().as_bytes().chunks(2);
        let bytes = hex.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        STANDARD.encode(bytes.collect::<Vec<u8>>())
    }
}

/// A private key, which is never shown.
pub(crate) struct PrivateKey {
    pair: EcdsaKeyPair,
}

impl PrivateKey {
    /// Reads one from PEM; `from` says where it is from.
    ///
    /// # Errors
    /// Where it is no private key of P-256, or encrypted.
    pub(crate) fn parse(pem: &[u8], from: &str) -> Result<Self, Diagnostic> {
        let wrong = |why: &str, hint: &str| {
            Diagnostic::request(format!("read the key for signatures from {from}")).because(why).hint(hint)
        };
        let found: Vec<(String, Vec<u8>)> = blocks(pem).collect();
        // `openssl ecparam -genkey` writes the name of the curve first.
        let key = found.into_iter().find(|(label, _)| label.ends_with("PRIVATE KEY"));
        let (label, der) = key.ok_or_else(|| wrong("it is no private key in PEM", MAKE))?;
        match label.as_str() {
            "PRIVATE KEY" => {}
            "EC PRIVATE KEY" => {
                let hint = "write it as PKCS#8: openssl pkcs8 -topk8 -nocrypt -in old.key -out sign.key";
                return Err(wrong("it has the older form SEC 1", hint));
            }
            label if label.starts_with("ENCRYPTED ") => {
                return Err(wrong(
                    "it is encrypted, which is not read here: keep it in a secret of the CI service",
                    MAKE,
                ));
            }
            _ => return Err(wrong("it is no key of the curve P-256", MAKE)),
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der);
        Ok(Self { pair: pair.map_err(|_| wrong("it is no key of the curve P-256", MAKE))? })
    }

    /// Its public half.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey { point: self.pair.public_key().as_ref().to_vec() }
    }

    /// A signature on bytes, in ASN.1.
    ///
    /// # Errors
    /// Where there are no random numbers.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Diagnostic> {
        let made = self.pair.sign(&SystemRandom::new(), message);
        let made = made.map_err(|_| Diagnostic::surroundings("make a signature: no random bytes"))?;
        Ok(made.as_ref().to_vec())
    }
}

/// The blocks of a PEM text (RFC 7468), each with its label.
fn blocks(pem: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let text = String::from_utf8_lossy(pem).into_owned();
    let begins: Vec<usize> = text.match_indices("-----BEGIN ").map(|(at, _)| at).collect();
    let found: Vec<(String, Vec<u8>)> = { begins.into_iter() }
        .filter_map(|at| {
            let (label, rest) = text[at..].strip_prefix("-----BEGIN ")?.split_once("-----")?;
            let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
            let plain: String = body.chars().filter(|c| !c.is_whitespace()).collect();
            Some((label.to_owned(), STANDARD.decode(plain).ok()?))
        })
        .collect();
    found.into_iter()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    impl Clone for PrivateKey {
        fn clone(&self) -> Self {
            let document = self.pair.to_pkcs8v1().expect("a key has a form");
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref());
            Self { pair: pair.expect("the same key") }
        }
    }

    /// Made by `openssl genpkey` for these tests alone.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcKslReRsIIqhonhb\n\
        SNDjp9RD1bl/RQj2Jr5X5jcnkH6hRANCAAS7LY0FEGbx+8pS22A1ETOSoIllCC13\n\
        dnU8ZU9xqRV8VmmKbxd1FqwXr8g/bX7otA9a1Fq9NPvSKRn7fJEgJuW1\n\
        -----END PRIVATE KEY-----";
    pub(in crate::attest) const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEuy2NBRBm8fvKUttgNREzkqCJZQgt\n\
        d3Z1PGVPcakVfFZpim8XdRasF6/IP21+6LQPWtRavTT70ikZ+3yRICbltQ==\n\
        -----END PUBLIC KEY-----";

    /// The key of the tests.
    pub(in crate::attest) fn private() -> PrivateKey {
        PrivateKey::parse(PRIVATE.as_bytes(), "a test").expect("a key")
    }

    /// A key that nobody knows.
    pub(in crate::attest) fn stranger() -> PrivateKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
        PrivateKey { pair }
    }

    #[test]
    fn keys_of_openssl_sign_and_check() {
        let private = private();
        let [public] = PublicKey::parse_all(PUBLIC.as_bytes()).expect("a key").try_into().expect("one");
        assert_eq!(private.public(), public);
        assert_eq!(public.hint(), "488Nzu2jR0paUzGgVVMWjFfikB6cD42vbx7id5BBj78=");
        let signature = private.sign(b"message").expect("a signature");
        assert!(public.holds(b"message", &signature));
        assert!(!public.holds(b"massage", &signature));
        assert!(!public.holds(b"message", &signature[..signature.len() - 1]));
        assert!(!public.holds(b"message", b""));
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_reason() {
        let sec1 = PRIVATE.replace("PRIVATE", "EC PRIVATE");
        let encrypted = PRIVATE.replace("PRIVATE", "ENCRYPTED SIGSTORE PRIVATE");
        for (text, reason) in [
            ("", "no private key"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "P-256"),
            ("-----BEGIN PRIVATE KEY-----\n$\n-----END PRIVATE KEY-----", "no private key"),
            (PUBLIC, "no private key"),
            (&sec1, "SEC 1"),
            (&encrypted, "encrypted"),
        ] {
            let problem = PrivateKey::parse(text.as_bytes(), "a test").err().expect("refused");
            assert!(problem.to_string().contains(reason), "{problem}");
            assert!(!problem.to_string().contains("MIGH"), "no part of a key is told");
        }
        let wrong = PublicKey::parse_all(PRIVATE.as_bytes()).expect_err("refused");
        assert!(wrong.to_string().contains("private key"));
        let short = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        for refused in ["", short, &format!("{PUBLIC}\n{short}")] {
            assert!(PublicKey::parse_all(refused.as_bytes()).is_err(), "{refused}");
        }
        assert_eq!(
            PublicKey::parse_all(format!("{PUBLIC}\n{PUBLIC}\n").as_bytes()).map(|all| all.len()),
            Ok(2)
        );
    }
}
