//! The name of content by its bytes: OCI image specification, descriptor, section "Digests".

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest as hash;
use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind};

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which everything understands.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Its name as written before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest: algorithm and lower-case hexadecimal, checked when made.
///
/// ```
/// use polyarch::oci::Digest;
/// let digest = Digest::of(b"hello");
/// assert_eq!(digest.to_string(), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
/// assert_eq!(digest.short(), "2cf24dba5fb0");
/// assert!("sha256:2CF2".parse::<Digest>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// The SHA-256 digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal part, 64 or 128 characters.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve hexadecimal characters, for people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            |why: &str| Err(Error::new(ErrorKind::Invalid, format!("`{}` is no digest: {why}", shown(text))));
        let Some((name, hex)) = text.split_once(':') else {
            return wrong("it wants `sha256:` and 64 hexadecimal digits");
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return wrong("the algorithm is neither sha256 nor sha512"),
        };
        if hex.len() != algorithm.hex_length() {
            return wrong("the hexadecimal part has the wrong length");
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return wrong("after the colon stand lower-case hexadecimal digits only");
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A digest in the making.
pub struct Hasher {
    algorithm: Algorithm,
    context: hash::Context,
}

impl Hasher {
    /// One that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::Sha256 => &hash::SHA256,
            Algorithm::Sha512 => &hash::SHA512,
        };
        Self { algorithm, context: hash::Context::new(kind) }
    }

    /// Take in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        use fmt::Write as _;
        let mut hex = String::with_capacity(self.algorithm.hex_length());
        for byte in self.context.finish().as_ref() {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        }
        Digest { algorithm: self.algorithm, hex }
    }
}

/// A text from outside, cut to what fits in a message.
fn shown(text: &str) -> String {
    const CHARACTERS: usize = 80;
    if text.chars().count() <= CHARACTERS {
        text.to_owned()
    } else {
        text.chars().take(CHARACTERS).chain(['…']).collect()
    }
}
