//! Which Dockerfiles Buildah reads: older forms than BuildKit, and no frontend that `# syntax` names.

use crate::dockerfile::UNSETTLED_MOUNT;

/// From this version on, Buildah reads heredocs.
const HEREDOCS: (u32, u32) = (1, 33);
/// The newest version that refuses every other newer form, as was tried; those after it say themselves what they refuse.
const REFUSES: (u32, u32) = (1, 28);
/// The frontends whose forms are known here, so that none is passed over without a word.
const KNOWN_FRONTENDS: &[&str] = &["docker/dockerfile", "docker/dockerfile-upstream"];

/// Whether Buildah of a version understands a form that is newer than Docker 20.10's.
pub(in crate::engine) fn understands(buildah: (u32, u32), feature: &str) -> bool {
    match feature {
        "heredoc" => buildah >= HEREDOCS,
        // It may mount the cache of another scope, which only BuildKit can be kept from.
        UNSETTLED_MOUNT => false,
        _ => buildah > REFUSES,
    }
}

/// Whether a `# syntax` asks for no more than the forms that [`understands`] knows.
pub(in crate::engine) fn knows_frontend(reference: &str) -> bool {
    let reference = reference.strip_prefix("docker.io/").unwrap_or(reference);
    KNOWN_FRONTENDS.contains(&reference.split([':', '@']).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_known() {
        let table = [
            ((1, 28), "heredoc", false),
            ((1, 32), "heredoc", false),
            ((1, 33), "heredoc", true),
            ((1, 28), "COPY --link", false),
            ((1, 40), "COPY --link", true),
            ((1, 40), UNSETTLED_MOUNT, false),
        ];
        for (version, feature, expected) in table {
            assert_eq!(understands(version, feature), expected, "{version:?} {feature}");
        }
        for known in ["docker/dockerfile:1", "docker.io/docker/dockerfile@sha256:1", "docker/dockerfile"] {
            assert!(knows_frontend(known), "{known}");
        }
        for other in ["docker/dockerfile-of-mine:1", "ghcr.io/docker/dockerfile:1", "r.io/nix:1"] {
            assert!(!knows_frontend(other), "{other}");
        }
    }
}
