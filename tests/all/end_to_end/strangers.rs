//! Machines that are not who they are taken for, and those that do not know us: told before anything is built, with what
//! mends it.

use std::path::PathBuf;
use std::time::Duration;

use super::engines::{ended, jobs};
use super::hosts::{Hosts, builders};
use super::lossy::delayed;
use super::own_ssh::serve;
use crate::program::{Answer, Place, skip, variable};

const FAMILY: &str = "name = \"strangers\"\nplatforms = [\"linux/amd64\"]\n";

fn family(test: &str) -> Option<(Place, Hosts)> {
    let mut place = Place::with(&[
        ("polyarch.toml", FAMILY),
        ("only/Dockerfile", "FROM scratch\nCOPY Dockerfile /made\n"),
    ]);
    let hosts = Hosts::reached_from(test, &mut place)?;
    Some((place, hosts))
}

/// See that a build is refused before anything is built, and that it says all this.
fn is_refused(place: &Place, arguments: &[&str], told: &[&str]) -> Answer {
    let answer = place.run(&[&["build", "--no-reuse"], arguments].concat()).ended(3);
    for text in told {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
    assert!(builders(place).is_empty(), "{}", answer.stderr);
    answer
}

/// The command that a hint ends with, after these words.
fn hint(answer: &Answer, words: &str) -> String {
    let line = answer.stderr.lines().find_map(|line| line.strip_prefix(&format!("hint: {words}: ")));
    line.unwrap_or_else(|| panic!("{words}: {}", answer.stderr)).to_owned()
}

#[test]
fn f_g1_a_host_with_another_key_and_one_that_is_not_known_are_told_and_mended_as_the_hints_say() {
    let test = "f_g1_a_host_with_another_key_and_one_that_is_not_known_are_told_and_mended_as_the_hints_say";
    let Some((mut place, hosts)) = family(test) else { return };
    let known = place.folder().join("known hosts");
    hosts.give_ssh(&mut place, &format!("-o 'UserKnownHostsFile=\"{}\"'", known.display()));
    let keys = hosts.ssh_configuration().with_file_name("stranger.pub");
    let key = std::fs::read_to_string(keys).expect("a key");
    for (builder, name) in [
        ("west=ssh://west", hosts.address("west")),
        ("west=ssh://closed-west", format!("[{}]:2222", hosts.address("west"))),
    ] {
        let builder = ["--builder", builder];
        std::fs::write(&known, format!("{name} {key}")).expect("the keys of hosts");
        let changed = is_refused(&place, &builder, &["cannot be reached", "caused by: SHA256:"]);
        let forget = hint(&changed, "the machine is another than it was; where that is right");
        place.ask("sh", &["-c", &forget]);
        assert_eq!(std::fs::read_to_string(&known).expect("the keys of hosts"), "", "{forget}");

        let unknown = is_refused(&place, &builder, &["cannot be reached", "Host key verification failed"]);
        // A person is asked, and says yes.
        let by_hand = hint(&unknown, "make its key known, once, by hand");
        let yes = by_hand.replacen("ssh ", "ssh -o StrictHostKeyChecking=accept-new ", 1);
        place.ask("sh", &["-c", &yes]);
        let built = place.run(&[&["build", "--no-reuse"], &builder[..]].concat()).well();
        assert_eq!(ended(&place, "built"), jobs("only@linux/amd64"), "{}", built.stderr);
    }
}

#[test]
fn f_g1_an_ssh_server_that_forwards_ports_and_no_sockets_is_no_hindrance() {
    let test = "f_g1_an_ssh_server_that_forwards_ports_and_no_sockets_is_no_hindrance";
    let Some((mut place, hosts)) = family(test) else { return };
    let socket = hosts.socket("west");
    let _sshd = serve(&mut place, &hosts, Some("west"), &socket, "AllowStreamLocalForwarding no");
    let answer = place.run(&["build", "--builder", "own=ssh://own"]).well();
    assert_eq!(ended(&place, "built"), jobs("only@linux/amd64"), "{}", answer.stderr);
    let plan = place.run(&["plan", "--builder", "own=ssh://own"]).well();
    assert!(plan.stdout.contains("content: pulled from the store"), "ports are forwarded: {}", plan.stdout);
}

/// The certificates of a client, with another file in place of one; a folder within the place.
fn certificates(place: &Place, hosts: &Hosts, name: &str, file: &str, from: &str) -> PathBuf {
    let folder = place.family().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    for one in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(hosts.certificates("client").join(one), folder.join(one)).expect("a certificate");
    }
    std::fs::copy(hosts.certificates(from), folder.join(file)).expect("a certificate");
    folder
}

#[test]
fn f_g1_certificates_that_do_not_hold_on_either_side_are_told_before_anything_is_built() {
    let test = "f_g1_certificates_that_do_not_hold_on_either_side_are_told_before_anything_is_built";
    let Some((place, hosts)) = family(test) else { return };
    // What signed the engine's certificate is not what the client trusts.
    certificates(&place, &hosts, "other-authority", "ca.pem", "stranger/cert.pem");
    certificates(&place, &hosts, "other-key", "key.pem", "stranger/key.pem");
    certificates(&place, &hosts, "client", "ca.pem", "client/ca.pem");
    std::os::unix::fs::symlink(hosts.certificates("stranger"), place.family().join("stranger"))
        .expect("a link");
    let (address, engine) = (hosts.address("east"), hosts.engine("east"));
    let (port, _) = delayed(engine.trim_start_matches("tcp://").to_owned(), Duration::ZERO);
    let elsewhere = format!("tcp://127.0.0.1:{port}");
    let of_name = format!("certificate is valid for {address}, not 127.0.0.1");
    let by_hand = "then try them by hand: docker --tlsverify --tlscacert";
    let table: [(&str, &str, &[&str]); 4] = [
        (&engine, "other-authority", &["unknown authority", "ca.pem that signed the engine's", by_hand]),
        (&engine, "stranger", &["cert.pem and key.pem that the engine's signed", by_hand]),
        (&engine, "other-key", &["private key does not match public key", "cert.pem and key.pem", by_hand]),
        (&elsewhere, "client", &[&of_name, "call the engine by a name that its certificate is for", by_hand]),
    ];
    for (engine, folder, told) in table {
        let builder = format!("\n[builder.east]\nengine = \"{engine}\"\ncertificates = \"{folder}\"\n");
        place.write("polyarch.toml", &(FAMILY.to_owned() + &builder));
        let answer = is_refused(&place, &[], told);
        let problem = format!("the certificates for {engine} do not hold");
        assert!(answer.stderr.contains(&problem), "{folder}: {}", answer.stderr);
        let doctor = place.run(&["doctor"]).ended(3);
        assert!(doctor.stdout.contains(&problem), "{folder}: {}", doctor.stdout);
    }
}

#[test]
fn f_g1_certificates_of_a_builder_of_buildx_that_do_not_hold_are_told_before_anything_is_built() {
    let test = "f_g1_certificates_of_a_builder_of_buildx_that_do_not_hold_are_told_before_anything_is_built";
    let Some((mut place, hosts)) = family(test) else { return };
    let Some(address) = variable("POLYARCH_TEST_BUILDKIT").and_then(|address| address.into_string().ok())
    else {
        return skip(test, "POLYARCH_TEST_BUILDKIT names no BuildKit");
    };
    place.set("BUILDX_CONFIG", place.folder().join("buildx"));
    let authority = certificates(&place, &hosts, "other-authority", "ca.pem", "stranger/cert.pem");
    for (name, folder) in [("authority", authority), ("stranger", hosts.certificates("stranger"))] {
        let file = |name: &str| folder.join(name).display().to_string();
        let options = format!("cacert={},cert={},key={}", file("ca.pem"), file("cert.pem"), file("key.pem"));
        let create = ["buildx", "create", "--name", name, "--driver", "remote", "--driver-opt"];
        place.ask("docker", &[&create[..], &[&options, &address]].concat());
        let builder = format!("buildx:{name}");
        let told = format!("the certificates for builder {name} of buildx do not hold");
        let hint = "make it again with those of its BuildKit: docker buildx create --driver remote";
        let begun = std::time::Instant::now();
        let _ = is_refused(&place, &["--builder", &builder], &[&told, "tls: ", hint]);
        // That is how long buildx itself goes on trying.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

#[test]
fn f_g1_a_user_of_another_machine_that_may_not_speak_to_its_engine_is_told_what_lets_it() {
    let test = "f_g1_a_user_of_another_machine_that_may_not_speak_to_its_engine_is_told_what_lets_it";
    let Some((mut place, _hosts)) = family(test) else { return };
    // As a server does whose user may not open the socket: the forwarded one takes nothing, and its client says why.
    let words = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock";
    let ssh = place.ask("sh", &["-c", "command -v ssh"]);
    let script = format!(
        "#!/bin/bash\ncase \"$*\" in\n*\"docker version\"* | *dial-stdio*) echo '{words}' >&2; exit 1 ;;\n\
         *\"-O forward -L\"*) set -- \"${{@/docker.sock/none.sock}}\" ;;\nesac\nexec {} \"$@\"\n",
        ssh.trim()
    );
    place.put_before("ssh", &script);
    let told = [
        "this user may not speak to the Docker Engine at ssh://west",
        "ssh -t ssh://west 'sudo usermod -aG docker $USER'",
    ];
    let _ = is_refused(&place, &["--builder", "ssh://west"], &told);
}
