//! What an untrusted run does not build: what would let a Dockerfile reach past its build (law 11).

use std::collections::BTreeMap;

use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind, Place};
use crate::dockerfile::{Dockerfile, Newer, UNSETTLED_MOUNT};
use crate::family::Family;
use crate::oci::Reference;

use super::{Decision, Plan};

/// The frontends that read Dockerfiles in an untrusted run, at whichever version: TM9. Each runs with the rights of the
/// engine's client, and what they are at is settled by digest. Others are named on the command line, by digest.
const FRONTENDS: [(&str, &str); 1] = [("docker.io", "docker/dockerfile")];
/// What a build may ask its engine for that leads out of it: F-U5.
const LEADS_OUT: [&str; 3] = ["RUN --network=host", "RUN --security=insecure", "RUN --device"];

/// One problem for each line of a Dockerfile that an untrusted run does not build, in what is to be built. It may name
/// the frontends that are allowed, at their very digests.
pub(crate) fn refused_untrusted(family: &Family, plan: &Plan, allowed: &[Reference]) -> Vec<Diagnostic> {
    let built = plan.jobs.iter().filter(|(_, planned)| matches!(planned.decision, Decision::Build(_)));
    let mut problems = BTreeMap::<Place, Diagnostic>::new();
    for (job, _) in built {
        let Some(recipe) = family.recipe(&job.unit) else { continue };
        let build = recipe.platforms.get(&job.platform);
        for newer in build.into_iter().flat_map(|build| &build.needs.needs_newer) {
            if leads_out(newer) {
                problems.insert(newer.place.clone(), refused(&newer.feature, &newer.place));
            }
        }
        for newer in recipe.file.newer_of_all_stages().filter(may_mount_another_cache) {
            let problem = refused(&newer.feature, &newer.place);
            problems
                .insert(newer.place, problem.hint("write the type itself: RUN --mount=type=cache,target=…"));
        }
        if let Some((text, place)) = foreign_frontend(&recipe.file, allowed) {
            let problem = refused(&format!("the frontend {text}"), &place);
            let problem = problem.hint("use the usual one: # syntax=docker/dockerfile:1");
            problems.insert(
                place,
                problem.hint(
                    "or name it by its digest, there and here: polyarch build --frontend NAME@sha256:…",
                ),
            );
        }
    }
    problems.into_values().collect()
}

fn leads_out(newer: &Newer) -> bool {
    LEADS_OUT.contains(&newer.feature.as_str()) && stands(Defence::Entitlements)
}

/// What cannot be given a cache of this scope's own, since nobody knows before the build whether it mounts one: TM10.
fn may_mount_another_cache(newer: &Newer) -> bool {
    newer.feature == UNSETTLED_MOUNT && stands(Defence::CacheMounts)
}

/// The frontend that a Dockerfile names, where it is none of those that are known, nor allowed at that digest.
fn foreign_frontend(dockerfile: &Dockerfile, allowed: &[Reference]) -> Option<(String, Place)> {
    fn name(reference: &Reference) -> (&str, &str) {
        (reference.registry(), reference.repository().as_str())
    }
    let written = dockerfile.syntax()?;
    let known = written.text.parse::<Reference>().is_ok_and(|reference| {
        let is_same = |one: &Reference| {
            name(one) == name(&reference) && one.digest().is_some() && one.digest() == reference.digest()
        };
        FRONTENDS.contains(&name(&reference)) || allowed.iter().any(is_same)
    });
    (!known && stands(Defence::Frontends)).then_some((written.text, written.place))
}

fn refused(what: &str, place: &Place) -> Diagnostic {
    Diagnostic::new(Kind::Policy, format!("{what} is refused in an untrusted run"))
        .at(place.clone())
        .because("it could reach what is outside of the build")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// The line of the frontend that is refused in a Dockerfile, where one is.
    fn refused_line(text: &str, allowed: &[Reference]) -> Option<usize> {
        let dockerfile = Dockerfile::parse("Dockerfile".as_ref(), text).expect(text);
        foreign_frontend(&dockerfile, allowed).map(|(_, place)| place.line)
    }

    #[test]
    fn tm9_every_form_of_a_foreign_frontend_is_refused_with_its_line() {
        let refused = [
            ("# syntax=evil.example/frontend:1\nFROM scratch\n", 1),
            ("#syntax=evil.example/frontend\nFROM scratch\n", 1),
            ("#   SYNTAX   =   evil.example/frontend\nFROM scratch\n", 1),
            ("# escape=`\n# syntax=evil.example/frontend\nFROM scratch\n", 2),
            ("# syntax=evil.example/frontend\r\nFROM scratch\r\n", 1),
            ("\u{feff}# syntax=evil.example/frontend\nFROM scratch\n", 1),
            ("#syntax =evil.example/frontend\nFROM scratch\n", 1),
            ("# syntax=evil.example/docker/dockerfile:1\nFROM scratch\n", 1),
            ("# syntax=docker/dockerfile-upstream:master\nFROM scratch\n", 1),
            ("# syntax=Not A Reference\nFROM scratch\n", 1),
        ];
        for (text, line) in refused {
            assert_eq!(refused_line(text, &[]), Some(line), "{text}");
        }
        for known in ["docker/dockerfile", "docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile:1"] {
            assert_eq!(refused_line(&format!("# syntax={known}\nFROM scratch\n"), &[]), None, "{known}");
        }
        assert_eq!(refused_line("FROM scratch\n# syntax=evil.example/frontend\n", &[]), None, "a comment");
    }

    #[test]
    fn tm9_a_frontend_that_is_allowed_is_so_at_its_very_digest() {
        let allowed: [Reference; 2] = [
            format!("good.example/frontend@{DIGEST}").parse().expect("a reference"),
            "good.example/other:1".parse().expect("a reference"),
        ];
        let table = [
            (format!("good.example/frontend@{DIGEST}"), true),
            (format!("good.example/frontend:2@{DIGEST}"), true),
            ("good.example/frontend:1".to_owned(), false),
            (format!("good.example/frontend@{}", DIGEST.replace("0123", "1123")), false),
            (format!("evil.example/frontend@{DIGEST}"), false),
            ("good.example/other:1".to_owned(), false),
        ];
        for (named, is_allowed) in table {
            let line = refused_line(&format!("# syntax={named}\nFROM scratch\n"), &allowed);
            assert_eq!(line.is_none(), is_allowed, "{named}");
        }
    }
}
