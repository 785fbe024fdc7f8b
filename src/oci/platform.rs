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

    /// Every way in which it may be written, itself first: `linux/amd64`, `amd64`, `x86_64`, `linux/x86_64`, and
    /// `X64` as CI services have it. All of them are read as this platform.
    pub fn aliases(&self) -> Vec<String> {
        let variant = self.variant.as_deref();
        let default = match self.architecture.as_str() {
            "arm64" => Some("v8"),
            "arm" if variant == Some("v7") => Some("v7"),
            _ => None,
        };
        let mut short = Vec::new();
        if variant.is_none() || variant == default {
            short.push(self.architecture.clone());
        }
        short.extend(variant.or(default).map(|variant| format!("{}/{variant}", self.architecture)));
        let meant = |(_, normal, implied): &&(&str, &str, Option<&str>)| {
            *normal == self.architecture && *implied == variant
        };
        short.extend(ALIASES.iter().filter(meant).map(|(alias, ..)| (*alias).to_owned()));
        let mut all = vec![self.to_string()];
        let mut add = |name: String| {
            if !all.contains(&name) {
                all.push(name);
            }
        };
        for name in &short {
            add(format!("{}/{name}", self.os));
        }
        if self.os == "linux" {
            short.iter().for_each(|name| add(name.clone()));
            for shouted in
                ["x64", "arm64", "x86", "arm"].iter().filter(|name| short.iter().any(|own| own == *name))
            {
                add(shouted.to_uppercase());
            }
        }
        all
    }

    /// A form that can stand in a file name or a tag: `linux-arm-v7`.
    pub fn slug(&self) -> String {
        self.to_string().replace('/', "-")
    }
}

/// Other names of architectures, their normal names, and the variants that they imply.
const ALIASES: &[(&str, &str, Option<&str>)] = &[
    ("x86_64", "amd64", None),
    ("x86-64", "amd64", None),
    ("x64", "amd64", None),
    ("aarch64", "arm64", None),
    ("i386", "386", None),
    ("i486", "386", None),
    ("i586", "386", None),
    ("i686", "386", None),
    ("x86", "386", None),
    ("armhf", "arm", Some("v7")),
    ("armv7", "arm", Some("v7")),
    ("armv7l", "arm", Some("v7")),
    ("armel", "arm", Some("v6")),
    ("armv6", "arm", Some("v6")),
    ("armv6l", "arm", Some("v6")),
    ("ppc64el", "ppc64le", None),
];

/// The normal name of an architecture, and the variant that an alias implies.
fn normal(architecture: &str) -> (&str, Option<&str>) {
    let alias = ALIASES.iter().find(|(alias, ..)| *alias == architecture);
    alias.map_or((architecture, None), |(_, normal, variant)| (normal, *variant))
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
    fn every_alias_is_read_as_its_platform_and_none_as_two() {
        let mut all = std::collections::BTreeMap::new();
        for architecture in ARCHITECTURES {
            for variant in [None, Some("v2"), Some("v5"), Some("v6"), Some("v7"), Some("v8")] {
                let platform = Platform::from_fields("linux", architecture, variant);
                if platform.to_string().parse::<Platform>().is_err() {
                    continue;
                }
                for alias in platform.aliases() {
                    assert_eq!(alias.parse::<Platform>().expect("an alias"), platform, "{alias}");
                    let first = all.entry(alias.clone()).or_insert_with(|| platform.clone());
                    assert_eq!(*first, platform, "{alias}");
                }
            }
        }
        for (alias, normal, _) in ALIASES {
            assert_eq!(all[*alias].architecture(), *normal, "every alias that is read is told");
        }
        let of = |platform: &str| platform.parse::<Platform>().expect("a platform").aliases().join(" ");
        assert_eq!(
            of("linux/amd64"),
            "linux/amd64 linux/x86_64 linux/x86-64 linux/x64 amd64 x86_64 x86-64 x64 X64"
        );
        assert_eq!(
            of("linux/arm64"),
            "linux/arm64 linux/arm64/v8 linux/aarch64 arm64 arm64/v8 aarch64 ARM64"
        );
        assert_eq!(
            of("linux/arm/v6"),
            "linux/arm/v6 linux/armel linux/armv6 linux/armv6l arm/v6 armel armv6 armv6l"
        );
        assert_eq!(of("windows/amd64"), "windows/amd64 windows/x86_64 windows/x86-64 windows/x64");
    }

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
