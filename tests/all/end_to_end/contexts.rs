//! Contexts of a docker client that lead to other machines, made by that client: over ssh, and over TCP by TLS.

use std::collections::BTreeSet;

use super::engines::{FOUNDATION, ended, jobs, root_file_systems, runs_arm64};
use super::hosts::{Hosts, builders};
use crate::program::Place;

const CONFIGURATION: &str =
    "name = \"contexts\"\nplatforms = [\"linux/amd64\"]\ntests = [{ run = \"cat /made\" }]\n";

fn family(test: &str) -> Option<(Place, Hosts)> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", &format!("{FOUNDATION}RUN echo well > /made\n")),
        ("leaf/Dockerfile", "FROM root\nRUN echo leaf >> /made\n"),
    ]);
    let hosts = Hosts::reached_from(test, &mut place)?;
    root_file_systems(test, &place, "root", &["amd64"]).then_some((place, hosts))
}

/// Give a place contexts of its own, and its client the plugins that it had; the certificates of the second are somebody's.
fn contexts(place: &mut Place, hosts: &Hosts, whose: &str) {
    let folder = place.folder().join(format!("docker-of-{whose}"));
    std::fs::create_dir(&folder).expect("a folder");
    let plugins = place.ask("sh", &["-c", "printf %s \"${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins\""]);
    std::os::unix::fs::symlink(plugins, folder.join("cli-plugins")).expect("a link");
    place.set("DOCKER_CONFIG", folder);
    // A client that is told where an engine is makes no context.
    place.set("DOCKER_HOST", "");
    let certificates = hosts.certificates(whose);
    let file = |name: &str| format!("{}={}", name, certificates.join(name).with_extension("pem").display());
    let over_tls = format!("host={},{},{},{}", hosts.engine("east"), file("ca"), file("cert"), file("key"));
    let bare = format!("host={}", hosts.engine("east"));
    for (name, leads) in [("over-ssh", "host=ssh://west"), ("over-tls", &over_tls), ("bare", &bare)] {
        place.ask("docker", &["context", "create", name, "--docker", leads]);
    }
}

#[test]
fn a_context_that_leads_to_another_machine_is_a_builder() {
    let test = "contexts::a_context_that_leads_to_another_machine_is_a_builder";
    let Some((mut place, hosts)) = family(test) else { return };
    contexts(&mut place, &hosts, "client");
    let before = ["west", "east"].map(|host| hosts.before(&place, host));
    let (address, all) = (hosts.engine("east"), jobs("root@linux/amd64 leaf@linux/amd64"));
    for (context, host, version) in [("over-ssh", "ssh://west", "20.10"), ("over-tls", &address, "26.1")] {
        let builder = format!("there=context:{context}");
        let answer = place.run(&["doctor", "--builder", &builder]).well();
        let told = format!("there: docker at {host}, {version}");
        assert!(answer.stdout.contains(&told), "{told}: {}", answer.stdout);
        let _ = place.run(&["build", "--no-reuse", "--builder", &builder]).well();
        assert_eq!(ended(&place, "built"), all, "{context}");
        // Without a builder it is the context in use.
        place.ask("docker", &["context", "use", context]);
        let _ = place.run(&["build", "--no-reuse", "--no-cache"]).well();
        assert_eq!(ended(&place, "built"), all, "{context}");
        let by: BTreeSet<String> = builders(&place).into_values().collect();
        assert_eq!(by, jobs("local"), "{context}");
        let answer = place.run(&["doctor"]).well();
        assert!(answer.stdout.contains(&told.replace("there", "local")), "{told}: {}", answer.stdout);
    }
    before.iter().for_each(|before| before.still_stands(&place, &hosts));
}

#[test]
fn a_context_over_tcp_is_refused_without_certificates_and_with_those_of_a_stranger() {
    let test = "contexts::a_context_over_tcp_is_refused_without_certificates_and_with_those_of_a_stranger";
    let Some((mut place, hosts)) = family(test) else { return };
    contexts(&mut place, &hosts, "stranger");
    for (context, code, told) in
        [("bare", 2, "wants certificates on both sides"), ("over-tls", 3, "certificate")]
    {
        let answer = place.run(&["build", "--builder", &format!("there=context:{context}")]).ended(code);
        assert!(answer.stderr.contains(told), "{context}: {}", answer.stderr);
        assert!(builders(&place).is_empty(), "{context}");
    }
}

#[test]
fn what_the_machine_of_an_engine_over_tcp_emulates_is_seen_and_used() {
    let test = "contexts::what_the_machine_of_an_engine_over_tcp_emulates_is_seen_and_used";
    let Some((place, hosts)) = family(test) else { return };
    if !runs_arm64(test) || !root_file_systems(test, &place, "root", &["arm64"]) {
        return;
    }
    for host in ["east", "west"] {
        let configuration = format!(
            "{}emulate = \"allow\"\n\n[builder.tcp]\nengine = \"{}\"\ncertificates = \"{}\"\n",
            CONFIGURATION.replace("amd64", "arm64"),
            hosts.engine(host),
            hosts.certificates("client").display()
        );
        place.write("polyarch.toml", &configuration);
        let answer = place.run(&["doctor"]).well();
        for told in ["linux/arm64: emulated on tcp", "emulated, 10 to 50 times slower: linux/arm64"] {
            assert!(answer.stdout.contains(told), "{host}: {told}: {}", answer.stdout);
        }
        let _ = place.run(&["build", "--no-reuse"]).well();
        assert_eq!(ended(&place, "built"), jobs("root@linux/arm64 leaf@linux/arm64"), "{host}");
    }
}
