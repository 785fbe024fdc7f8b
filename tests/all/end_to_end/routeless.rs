//! No network for a whole run (F-N6): what is known is reused, and what cannot be reached is told of at once.

use std::time::{Duration, Instant};

use super::engines::{FOUNDATION, ended, root_file_systems};
use super::hosts::{Hosts, builders};
use crate::program::{Answer, Place, tell};

/// Nobody waits for one host after the other, nor for what is tried again.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Run the program where the network has nothing but this machine itself in it; and how long that took.
fn without_routes(place: &Place, arguments: &[&str]) -> (Answer, Duration) {
    let mut alone = place.program("unshare");
    alone.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    alone.arg(env!("CARGO_BIN_EXE_polyarch")).args(arguments).env("POLYARCH_STORE", place.store());
    let begun = Instant::now();
    let answer = alone.output().expect("unshare runs").into();
    (answer, begun.elapsed())
}

#[test]
fn f_n6_without_a_network_what_is_known_is_reused_and_all_that_is_not_reached_is_told_at_once() {
    let test = "routeless::f_n6_without_a_network";
    let mut place = Place::with(&[
        ("root/Dockerfile", &format!("{FOUNDATION}RUN echo well > /made\n")),
        ("leaf/Dockerfile", "FROM root\nRUN echo leaf >> /made\n"),
    ]);
    let Some(hosts) = Hosts::reached_from(test, &mut place) else { return };
    if !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let configuration = format!(
        "name = \"routeless\"\nplatforms = [\"linux/amd64\"]\n\n[builder.west]\nengine = \"ssh://west\"\n\n\
         [builder.east]\nengine = \"ssh://east\"\n\n\
         [builder.tcp]\nengine = \"{}\"\ncertificates = \"{}\"\n",
        hosts.engine("east"),
        hosts.certificates("client").display()
    );
    place.write("polyarch.toml", &configuration);
    let _ = place.run(&["build", "--builder", "west"]).well();

    let (answer, idle) = without_routes(&place, &["build"]);
    let answer = answer.well();
    assert!(answer.stderr.contains("nothing to build"), "{}", answer.stderr);
    assert_eq!(ended(&place, "reused").len(), 2);

    place.write("leaf/Dockerfile", "FROM root\nRUN echo other >> /made\n");
    let (answer, cut_off) = without_routes(&place, &["build"]);
    let answer = answer.ended(3);
    for builder in ["west", "east", "tcp"] {
        assert!(answer.stderr.contains(&format!("builder {builder}")), "{builder}: {}", answer.stderr);
    }
    assert!(builders(&place).is_empty(), "before anything is built");

    place.write("leaf/Dockerfile", "FROM 192.0.2.1:5000/base:1\n");
    let (answer, no_registry) = without_routes(&place, &["build"]);
    let answer = answer.ended(3);
    assert!(answer.stderr.contains("192.0.2.1:5000"), "{}", answer.stderr);

    tell(&format!(
        "{test}: idle {idle:?}, three builders out of reach {cut_off:?}, a registry {no_registry:?}"
    ));
    for took in [idle, cut_off, no_registry] {
        assert!(took <= AT_ONCE, "{took:?}");
    }
}
