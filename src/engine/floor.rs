//! Engines that a Dockerfile may break out of: the versions from which on known holes are mended (TM8). And those that cannot be
//! fed through sessions.
//!
//! A version says what its makers have mended; what a distribution has mended in an older one is known where its
//! version says so too, as that of runc does.

use super::EngineFacts;
use super::version::numbers;
use crate::diag::Diagnostic;

/// A part of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Docker,
    Runc,
    BuildKit,
    /// The BuildKit in a Docker Engine, which says of itself when that was mended of the older holes.
    EnginesBuildKit,
    Buildah,
}

/// What is known of the holes of a part.
struct Floor {
    part: Part,
    holes: &'static str,
    /// The first version of each line that is mended, in order; of lines after the last all are.
    mended: &'static [(u32, u32, u32)],
    /// Older versions that a distribution has mended, up to the number of its own with which they end, and the first.
    also: &'static [(&'static str, u32)],
}

const FLOORS: &[Floor] = &[
    Floor {
        part: Part::Docker,
        holes: "CVE-2024-23651, CVE-2024-23652, CVE-2024-23653 and CVE-2024-24557",
        mended: &[(24, 0, 9), (25, 0, 2)],
        also: &[],
    },
    Floor {
        part: Part::Runc,
        holes: "CVE-2024-21626",
        mended: &[(1, 1, 12)],
        also: &[
            ("1.0.0~rc93+ds1-5+deb11u", 3),
            ("1.1.5+ds1-1+deb12u", 1),
            ("1.1.7-0ubuntu1~20.04.", 2),
            ("1.1.7-0ubuntu1~22.04.", 2),
        ],
    },
    Floor {
        part: Part::Runc,
        holes: "CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881",
        mended: &[(1, 2, 8), (1, 3, 3), (1, 4, 0)],
        also: &[],
    },
    Floor {
        part: Part::BuildKit,
        holes: "CVE-2024-23651, CVE-2024-23652 and CVE-2024-23653",
        mended: &[(0, 12, 5)],
        also: &[],
    },
    Floor {
        part: Part::BuildKit,
        holes: "CVE-2026-33747 and CVE-2026-33748",
        mended: &[(0, 28, 1)],
        also: &[],
    },
    Floor {
        part: Part::EnginesBuildKit,
        holes: "CVE-2026-33747 and CVE-2026-33748",
        mended: &[(0, 28, 1)],
        also: &[],
    },
    Floor {
        part: Part::Buildah,
        holes: "CVE-2024-1753, CVE-2024-9407, CVE-2024-9675 and CVE-2024-11218",
        mended: &[(1, 33, 12), (1, 35, 5), (1, 37, 6), (1, 38, 1)],
        also: &[],
    },
];

/// The first BuildKit that is given images through the session of a build.
const SESSION_BUILDKIT: (u32, u32, u32) = (0, 11, 0);
/// The first buildx that gives such a BuildKit images by whatever name.
const SESSION_BUILDX: (u32, u32, u32) = (0, 10, 0);
/// How a buildx is had; Debian 12 has none of its own.
pub(super) const INSTALL_BUILDX: &str = "install buildx, or a newer one: sudo apt-get install docker-buildx (Debian 13, Ubuntu), or docker-buildx-plugin of Docker's own packages: https://docs.docker.com/engine/install/";

/// See that an engine can be fed through the session of each build; what says no version can.
///
/// # Errors
/// Where its BuildKit or its client's buildx is too old for that.
pub(crate) fn check_sessions(facts: &EngineFacts, is_engine: bool) -> Result<(), Diagnostic> {
    let part = if is_engine { Part::EnginesBuildKit } else { Part::BuildKit };
    let parts = [
        (part.name(), &facts.buildkit, SESSION_BUILDKIT, part.update()),
        ("buildx", &facts.buildx, SESSION_BUILDX, INSTALL_BUILDX),
    ];
    for (name, version, oldest, hint) in parts {
        let Some(version) = version.as_deref().filter(|version| is_before(version, oldest)) else { continue };
        let (major, minor, _) = oldest;
        let problem = format!("{name} {version} is too old: {major}.{minor} or newer is needed");
        return Err(Diagnostic::surroundings(problem)
            .because("what does not reach the store is fed through the session of each build, which older ones cannot be")
            .hint(hint));
    }
    Ok(())
}

/// Whether a version is older than another; one that begins with two zeros is of a build that was not told its version.
fn is_before(version: &str, other: (u32, u32, u32)) -> bool {
    numbers(version).is_some_and(|found| found >= (0, 1, 0) && found < other)
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker Engine",
            Self::Runc => "runc",
            Self::BuildKit => "BuildKit",
            Self::EnginesBuildKit => "the BuildKit of Docker Engine",
            Self::Buildah => "Buildah",
        }
    }

    fn update(self) -> &'static str {
        match self {
            Self::Docker | Self::EnginesBuildKit => {
                "update it where it runs: sudo apt-get update && sudo apt-get install docker.io; or Docker's own packages: https://docs.docker.com/engine/install/"
            }
            Self::Runc => {
                "update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io"
            }
            Self::BuildKit => "let its nodes run a newer image of moby/buildkit, or a newer buildkitd",
            Self::Buildah => {
                "update it: sudo apt-get update && sudo apt-get install buildah podman; or a newer release of the system"
            }
        }
    }
}

/// What holes the parts of an engine are known to have in these versions, a warning for each part.
pub(super) fn holes(parts: &[(Part, &str)]) -> Vec<Diagnostic> {
    let known = |(part, version): &(Part, &str)| {
        let open: Vec<&str> = { FLOORS.iter() }
            .filter(|floor| floor.part == *part && is_below(version, floor))
            .map(|floor| floor.holes)
            .collect();
        let problem = format!("{} {version} has holes that its makers have mended since", part.name());
        let warning = Diagnostic::warning(problem).because(open.join("; ")).hint(part.update());
        (!open.is_empty()).then_some(warning)
    };
    parts.iter().filter_map(known).collect()
}

fn is_below(version: &str, floor: &Floor) -> bool {
    let Some((major, minor, patch)) = numbers(version) else { return false };
    if floor.also.iter().any(|(prefix, first)| is_revision(version, prefix, *first)) {
        return false;
    }
    let own_line = floor.mended.iter().find(|line| (line.0, line.1) == (major, minor));
    match (own_line, floor.mended.last()) {
        (Some(line), _) => patch < line.2,
        (None, Some(last)) => (major, minor) < (last.0, last.1),
        (None, None) => false,
    }
}

/// Whether it begins so and goes on with this number or a later one.
fn is_revision(version: &str, prefix: &str, first: u32) -> bool {
    let Some(rest) = version.strip_prefix(prefix) else { return false };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse::<u32>().is_ok_and(|revision| revision >= first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_to_be_fed_through_sessions_is_told_from_what_says_no_version() {
        for (version, is_old) in [
            ("v0.9.3", true),
            ("v0.10.6", true),
            ("v0.11.0-rc1", false),
            ("v0.11.0", false),
            ("v0.21.1", false),
            ("v1.0.0", false),
            ("0.0.0+unknown", false),
            ("v0.0.0-20230101", false),
            ("0.0.1", false),
            ("unknown", false),
            ("", false),
        ] {
            assert_eq!(is_before(version, SESSION_BUILDKIT), is_old, "{version}");
        }
        for (version, is_old) in [("0.8.2", true), ("0.9.1", true), ("0.10.0", false), ("0.29.1+ds1", false)]
        {
            assert_eq!(is_before(version, SESSION_BUILDX), is_old, "{version}");
        }
    }

    #[test]
    fn tm8_versions_with_known_holes_are_told_from_mended_ones() {
        use Part::{BuildKit, Buildah, Docker, EnginesBuildKit, Runc};
        let (old_engine, both, newer) = ("CVE-2024-24557", "CVE-2024-21626; CVE-2025", "CVE-2025-31133");
        let table: &[(Part, &str, &str)] = &[
            (Docker, "20.10.24+dfsg1", old_engine),
            (Docker, "24.0.7", old_engine),
            (Docker, "24.0.9", ""),
            (Docker, "25.0.1", old_engine),
            (Docker, "25.0.2", ""),
            (Docker, "26.1.5+dfsg1", ""),
            (Docker, "29.0.0", ""),
            (Docker, "dev", ""),
            (Runc, "1.0.0~rc93+ds1-5+deb11u2", both),
            (Runc, "1.0.0~rc93+ds1-5+deb11u3", newer),
            (Runc, "1.1.5+ds1-1", both),
            (Runc, "1.1.5+ds1-1+deb12u", both),
            (Runc, "1.1.5+ds1-1+deb12u1", newer),
            (Runc, "1.1.5+ds1-1+deb12u12", newer),
            (Runc, "1.1.7-0ubuntu1~22.04.1", both),
            (Runc, "1.1.7-0ubuntu1~22.04.2", newer),
            (Runc, "v1.1.11-0-g4bccb38", both),
            (Runc, "v1.1.12-0-g51d5e946", newer),
            (Runc, "1.2.7", newer),
            (Runc, "1.2.8", ""),
            (Runc, "v1.3.0-0-g4ca628d1", newer),
            (Runc, "1.3.3-0ubuntu1~24.04.2", ""),
            (Runc, "1.4.0", ""),
            (Runc, "", ""),
            (BuildKit, "v0.12.4", "CVE-2024-23653; CVE-2026-33747"),
            (BuildKit, "v0.12.5", "CVE-2026-33747"),
            (BuildKit, "v0.28.0", "CVE-2026-33747"),
            (BuildKit, "v0.28.1", ""),
            (BuildKit, "unknown", ""),
            (BuildKit, "0.0.0+unknown", ""),
            (EnginesBuildKit, "v0.12.4", "CVE-2026-33747"),
            (EnginesBuildKit, "v0.28.1", ""),
            (EnginesBuildKit, "", ""),
            (Buildah, "1.28.2", "CVE-2024-1753"),
            (Buildah, "1.33.11", "CVE-2024-1753"),
            (Buildah, "1.33.12", ""),
            (Buildah, "1.36.0", "CVE-2024-1753"),
            (Buildah, "1.38.1", ""),
            (Buildah, "1.39.3", ""),
        ];
        for (part, version, expected) in table {
            let found: Vec<String> = holes(&[(*part, version)]).iter().map(ToString::to_string).collect();
            let found = found.concat();
            assert_eq!(found.is_empty(), expected.is_empty(), "{part:?} {version}: {found}");
            assert!(found.contains(expected), "{part:?} {version}: {found}");
        }
    }
}
