//! Publishing to a registry that is not ours, with a password: Debian's docker-registry.

use std::process::{Child, Stdio};

use serde_json::Value;

use super::engines::{Engine, FOUNDATION, root_file_systems, wait_for};
use crate::program::{Answer, Place, free_port, skip};

pub(super) const USER: &str = "polyarch";
pub(super) const PASSWORD: &str = "canary-password-5d1f";
/// bcrypt of the password, made by `htpasswd -nbB`.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuNxSKBvdRkKPHeUIMTxCiMCWphH/PZem";
/// `polyarch:canary-password-5d1f` and `polyarch:wrong`, in base64.
pub(super) const RIGHT: &str = "cG9seWFyY2g6Y2FuYXJ5LXBhc3N3b3JkLTVkMWY=";
const WRONG: &str = "cG9seWFyY2g6d3Jvbmc=";

/// So many tags that some are written while others are: docker-registry does not like that.
const CONFIGURATION: &str = r#"
name = "foreign"
platforms = ["linux/386", "linux/amd64"]

[tags]
common = ["latest", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]
"#;

/// A registry that runs as long as this lives.
pub(super) struct Registry {
    process: Child,
    pub(super) address: String,
}

impl Registry {
    pub(super) fn start(test: &str, place: &Place) -> Option<Self> {
        let address = format!("127.0.0.1:{}", free_port());
        let shown = place.folder().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {shown}/registry}}}}\n\
             http: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: polyarch, path: {shown}/users}}}}\n"
        );
        let file = place.folder().join("registry.yml");
        std::fs::write(&file, config).expect("write the configuration");
        std::fs::write(place.folder().join("users"), format!("{USER}:{HASH}\n")).expect("write the users");
        let mut program = place.program("docker-registry");
        program.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = match program.spawn() {
            Ok(process) => process,
            Err(error) => {
                skip(test, &format!("no docker-registry: {error}"));
                return None;
            }
        };
        let registry = Self { process, address };
        wait_for("an answer of the registry", || std::net::TcpStream::connect(&registry.address).is_ok());
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(super) fn log_in(place: &Place, config: &str) {
    let folder = place.folder().join("home/.docker");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("config.json"), config).expect("write the configuration of the client");
}

/// A credential helper of Docker on the search path: `docker-credential-test`.
fn helper(place: &mut Place) {
    let text = format!("#!/bin/sh\necho '{{\"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'\n");
    place.put_before("docker-credential-test", &text);
}

#[test]
fn a_registry_with_a_password() {
    let test = "foreign_registry::a_registry_with_a_password";
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("leaf/Dockerfile", "FROM root\nRUN echo leaf > /word\n"),
    ]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["386", "amd64"])
    {
        return;
    }
    helper(&mut place);
    let Some(registry) = Registry::start(test, &place) else { return };
    let to = registry.address.clone();
    let build = ["build", "--publish", "--to", &to];

    log_in(&place, &format!(r#"{{"auths": {{"{to}": {{"auth": "{WRONG}"}}}}}}"#));
    let refused = place.run(&build).ended(3);
    assert!(refused.stderr.contains(&format!("docker login {to}")), "{}", refused.stderr);
    let repositories = place.folder().join("registry/docker/registry/v2/repositories");
    assert!(!repositories.exists(), "nothing is there");
    let verified = place.run(&["verify", "--to", &to]).ended(3);
    assert!(verified.stderr.contains("docker login"), "{}", verified.stderr);

    log_in(&place, &format!(r#"{{"auths": {{"{to}": {{"auth": "{RIGHT}"}}}}}}"#));
    let answer = place.run(&build).well();
    assert!(answer.stderr.contains("nothing to build"), "what was built stands: {}", answer.stderr);
    assert!(answer.stderr.contains("published 2 images"), "{}", answer.stderr);
    read_by_skopeo(test, &place, &to);

    log_in(&place, r#"{"credsStore": "test"}"#);
    let verified = place.run(&["verify", "--to", &to]).well();
    assert!(verified.stdout.contains("equals the plan"), "by a helper: {}", verified.stdout);
    place.write("leaf/Dockerfile", "FROM root\nRUN echo another leaf > /word\n");
    let answer = place.run(&build).well();
    assert!(answer.stderr.contains("2 built, 0 checked, 2 reused"), "{}", answer.stderr);
    read_by_skopeo(test, &place, &to);
    for answer in [refused, answer] {
        assert!(!answer.stderr.contains(PASSWORD), "{}", answer.stderr);
    }
}

fn read_by_skopeo(test: &str, place: &Place, registry: &str) {
    let inspect = |reference: &str| {
        let credentials = format!("{USER}:{PASSWORD}");
        let mut skopeo = place.program("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false", "--creds", &credentials, reference]);
        skopeo.stderr(Stdio::piped()).output()
    };
    let output = match inspect(&format!("docker://{registry}/foreign/leaf:latest")) {
        Ok(output) => output,
        Err(error) => return skip(test, &format!("no skopeo: {error}")),
    };
    let index: Value = serde_json::from_str(&Answer::from(output).well().stdout).expect("an index is JSON");
    let mut found = Vec::new();
    for manifest in index["manifests"].as_array().expect("manifests") {
        let digest = manifest["digest"].as_str().expect("a digest");
        let output = inspect(&format!("docker://{registry}/foreign/leaf@{digest}")).expect("run skopeo");
        let own: Value = serde_json::from_str(&Answer::from(output).well().stdout).expect("JSON");
        assert_eq!(own["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        found.push(manifest["platform"]["architecture"].as_str().expect("an architecture").to_owned());
    }
    assert_eq!(found, ["386", "amd64"]);
}
