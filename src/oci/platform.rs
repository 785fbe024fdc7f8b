//! What a machine is: OCI image specification, image index, property `platform`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind};

const SYSTEMS: &[&str] = &[
    "linux",
    "windows",
    "freebsd",
    "darwin",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "aix",
    "android",
    "ios",
    "js",
    "plan9",
    "wasip1",
];
const ARCHITECTURES: &[&str] = &[
    "amd64", "arm64", "386", "arm", "ppc64le", "s390x", "riscv64", "loong64", "mips", "mips64", "mipsle",
    "mips64le", "ppc64", "wasm",
];

/// Operating system, architecture and variant, in their normal form (`linux/arm64/v8` is `linux/arm64`).
///
/// ```
/// use polyarch::oci::Platform;
/// let platform: Platform = "linux/aarch64".parse().unwrap();
/// assert_eq!(platform.to_string(), "linux/arm64");
/// assert_eq!("arm/v7".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
/// assert!("linux/amd46".parse::<Platform>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// A platform from the three fields of a document. Unknown names are taken as they are: registries hold
    /// platforms that this program has never heard of.
    pub fn from_fields(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, implied) = normal(architecture);
        let variant = variant.filter(|variant| !variant.is_empty()).or(implied);
        let variant = match (architecture, variant) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            ("arm", None) => Some("v7"),
            ("arm", Some("7" | "6" | "5" | "8")) => variant.map(|number| match number {
                "5" => "v5",
                "6" => "v6",
                "8" => "v8",
                _ => "v7",
            }),
            (_, other) => other,
        };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// The operating system, such as `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture as Go names it, such as `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant, such as `v7`, where the architecture has one that is not its default.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// A form that can stand in a file name or a tag: `linux-arm-v7`.
    pub fn slug(&self) -> String {
        self.to_string().replace('/', "-")
    }
}

/// The normal name of an architecture, and the variant that an alias implies.
fn normal(architecture: &str) -> (&str, Option<&str>) {
    match architecture {
        "x86_64" | "x86-64" | "x64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "i386" | "i486" | "i586" | "i686" | "x86" => ("386", None),
        "armhf" | "armv7" | "armv7l" => ("arm", Some("v7")),
        "armel" | "armv6" | "armv6l" => ("arm", Some("v6")),
        "ppc64el" => ("ppc64le", None),
        other => (other, None),
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::new(ErrorKind::Invalid, format!("`{text}` is no platform: {why}"));
        let lower = text.trim().to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [one] if SYSTEMS.contains(one) => {
                return Err(wrong(format!("it lacks an architecture, as in `{one}/amd64`")));
            }
            [architecture] => ("linux", *architecture, None),
            [os, architecture] if SYSTEMS.contains(os) => (*os, *architecture, None),
            [architecture, variant] => ("linux", *architecture, Some(*variant)),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => return Err(wrong("it wants os/architecture or os/architecture/variant".into())),
        };
        let platform = Self::from_fields(os, architecture, variant);
        if !SYSTEMS.contains(&os) {
            return Err(wrong(format!("`{os}` is no operating system known here{}", near(os, SYSTEMS))));
        }
        if !ARCHITECTURES.contains(&platform.architecture()) {
            return Err(wrong(format!(
                "`{architecture}` is no architecture known here{}",
                near(architecture, ARCHITECTURES)
            )));
        }
        let variant_known = platform.variant().is_none_or(|variant| match platform.architecture() {
            "arm" => matches!(variant, "v5" | "v6" | "v7" | "v8"),
            "arm64" => variant.strip_prefix('v').is_some_and(|rest| {
                matches!(rest, "9" | "8.1" | "8.2" | "8.3" | "8.4" | "8.5" | "9.1" | "9.2")
            }),
            "amd64" => matches!(variant, "v2" | "v3" | "v4"),
            "riscv64" => matches!(variant, "rva20u64" | "rva22u64" | "rva23u64"),
            "ppc64le" => matches!(variant, "power8" | "power9" | "power10"),
            _ => false,
        });
        match variant_known {
            true => Ok(platform),
            false => Err(wrong(format!(
                "{} has no variant `{}`",
                platform.architecture,
                platform.variant().unwrap_or_default()
            ))),
        }
    }
}

fn near(written: &str, known: &[&str]) -> String {
    let best = known.iter().map(|word| (strsim::damerau_levenshtein(written, word), word)).min();
    best.filter(|(distance, _)| *distance <= 2)
        .map_or(String::new(), |(_, word)| format!("; did you mean `{word}`?"))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Platform {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_c10_platforms_are_normal_or_refused() {
        let table = [
            ("linux/amd64", Ok("linux/amd64")),
            ("x86_64", Ok("linux/amd64")),
            ("aarch64", Ok("linux/arm64")),
            ("linux/arm64/v8", Ok("linux/arm64")),
            ("arm/v7", Ok("linux/arm/v7")),
            ("linux/arm", Ok("linux/arm/v7")),
            ("armhf", Ok("linux/arm/v7")),
            ("LINUX/AMD64", Ok("linux/amd64")),
            ("linux/i386", Ok("linux/386")),
            ("linux/amd46", Err("did you mean `amd64`?")),
            ("linux/arm64/v9x", Err("arm64 has no variant `v9x`")),
            ("linux", Err("lacks an architecture")),
            ("a/b/c/d", Err("os/architecture")),
            ("", Err("no architecture")),
        ];
        for (written, expected) in table {
            match (written.parse::<Platform>(), expected) {
                (Ok(platform), Ok(normal)) => assert_eq!(platform.to_string(), normal),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expected) => panic!("{written}: {found:?}, not {expected:?}"),
            }
        }
    }
}
