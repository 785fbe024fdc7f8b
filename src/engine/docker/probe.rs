//! What a Docker Engine is and can do, and what to do where it does not answer.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::buildx::Nodes;
use super::client::Client;
use super::socket::{self, Machine};
use super::{Docker, content, life};
use crate::diag::Diagnostic;
use crate::engine::floor::{self, Part};
use crate::engine::version::numbers;
use crate::engine::{EngineFacts, ImageStore, emulation, labels};

/// The oldest engine that builds with BuildKit as this program needs it.
const OLDEST: (u32, u32, u32) = (20, 10, 0);

/// What `docker info` says, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Info {
    server_version: String,
    #[serde(rename = "OSType")]
    os_type: String,
    architecture: String,
    #[serde(rename = "NCPU")]
    processors: usize,
    #[serde(rename = "ID")]
    id: String,
    docker_root_dir: String,
    /// That which it works with, where it says so: from version 27 on.
    containerd: Option<Containerd>,
    system_time: Option<String>,
    name: String,
    kernel_version: String,
    #[serde(rename = "MemTotal")]
    memory_bytes: u64,
    runc_commit: Option<Commit>,
    driver_status: Option<Vec<(String, String)>>,
    server_errors: Option<Vec<String>>,
    runtimes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    discovered_devices: Option<Vec<Device>>,
}

/// A device that containers can be given, found by its description for the Container Device Interface.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Device {
    #[serde(rename = "ID")]
    id: String,
}

impl Info {
    /// Whether it can give containers a GPU: by a runtime that does, or by the description of a device.
    fn has_gpu(&self) -> bool {
        let by_runtime = self.runtimes.iter().flat_map(BTreeMap::keys).any(|name| labels::is_of_gpus(name));
        by_runtime || self.discovered_devices.iter().flatten().any(|device| labels::is_of_gpus(&device.id))
    }
}

/// The containerd that an engine works with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Containerd {
    address: String,
}

/// What a part of the engine calls its version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Commit {
    #[serde(rename = "ID")]
    id: String,
}

/// Ask the engine what it is.
pub(super) async fn probe(docker: &Docker) -> Result<EngineFacts, Diagnostic> {
    socket::check(docker)?;
    let client = docker.client().await?;
    let (output, buildkit) =
        tokio::join!(docker.ask(&["info", "--format", "{{json .}}"]), buildkit(docker, client));
    let output = output?;
    let info: Option<Info> = serde_json::from_slice(&output.stdout).ok();
    let info = match info {
        Some(info) if output.ended.success() && !info.server_version.is_empty() => info,
        other => {
            let errors = other.and_then(|info| info.server_errors);
            let there = life::forbidden_there(docker).await;
            return Err(no_answer(docker, there.map(|there| vec![there]).or(errors), &output));
        }
    };
    let mut facts = facts(&info, client.buildx.clone());
    facts.notes.extend(client.notes.iter().cloned());
    let version = buildkit.as_ref().map_or("", Nodes::oldest_version);
    let runc = info.runc_commit.as_ref().map_or("", |commit| &*commit.id);
    facts.holes = floor::holes(&[
        (Part::Docker, &info.server_version),
        (Part::Runc, runc),
        (Part::EnginesBuildKit, version),
    ]);
    facts.buildkit = Some(version.to_owned()).filter(|version| !version.is_empty());
    if is_older(&info.server_version) {
        return Err(Diagnostic::surroundings(format!(
            "{} has version {}, which is too old: 20.10 or newer is needed",
            docker.address(),
            info.server_version
        ))
        .hint("update Docker Engine: sudo apt-get update && sudo apt-get install docker.io"));
    }
    if facts.image_store == ImageStore::Containerd && facts.buildx.is_none() {
        return Err(Diagnostic::surroundings(format!(
            "{} keeps images in containerd, and {} has no buildx, which it needs to build for it",
            docker.address(),
            client.path.display()
        ))
        .hint(floor::INSTALL_BUILDX));
    }
    let said = Machine {
        name: info.name.clone(),
        kernel: info.kernel_version.clone(),
        memory_bytes: info.memory_bytes,
    };
    let _ = docker.whereabouts.set(socket::whereabouts(docker, &said).await);
    if let (ImageStore::Containerd, Some(engine)) = (facts.image_store, &facts.root) {
        let address = info.containerd.as_ref().map_or("", |containerd| &*containerd.address);
        content::root(docker, address, engine).await.map(|root| docker.content.set(root));
    }
    let emulated = life::emulated(docker, buildkit.as_ref()).await?;
    if emulated.is_none() && facts.buildx.is_none() {
        let unseen = Diagnostic::advice(format!("what {} emulates cannot be seen", docker.address()));
        facts.notes.push(
            unseen
                .because(format!("{} has no buildx to ask its BuildKit with", client.path.display()))
                .hint(floor::INSTALL_BUILDX),
        );
    }
    if let Some(emulated) = emulated {
        facts.emulated = emulated.platforms.difference(&facts.native).cloned().collect();
        if !emulated.outside_only.is_empty() {
            let names: Vec<_> = emulated.outside_only.iter().map(ToString::to_string).collect();
            facts.notes.push(
                Diagnostic::warning(format!(
                    "the emulators of {} do not work in containers: they are registered without the flag F",
                    names.join(", ")
                ))
                .hint("install emulators that do: sudo apt-get install qemu-user-static"),
            );
        }
    }
    Ok(facts)
}

/// What the engine's BuildKit says of itself, where it is asked: of its version that of Debian's 26.1 says `v0.0.0+unknown`.
async fn buildkit(docker: &Docker, client: &Client) -> Option<Nodes> {
    client.buildx.as_ref()?;
    let told = docker.ask(&["buildx", "inspect", "default"]).await;
    let told = told.ok().filter(|output| output.ended.success());
    told.map(|output| Nodes::read(&output.text()))
}

fn facts(info: &Info, buildx: Option<String>) -> EngineFacts {
    let containerd =
        info.driver_status.iter().flatten().any(|(_, value)| value.starts_with("io.containerd.snapshotter."));
    EngineFacts {
        version: info.server_version.clone(),
        image_store: if containerd { ImageStore::Containerd } else { ImageStore::Classic },
        buildx,
        buildkit: None,
        native: emulation::native(&info.os_type, &info.architecture),
        emulated: std::collections::BTreeSet::new(),
        clock: info.system_time.clone(),
        processors: Some(info.processors.max(1)),
        slots: info.processors.max(1),
        labels: labels::found(info.memory_bytes, info.has_gpu()),
        // Machines that were cloned have engines of one id.
        ids: (!info.id.is_empty()).then(|| format!("{} on {}", info.id, info.name)).into_iter().collect(),
        root: Some(info.docker_root_dir.clone()).filter(|root| !root.is_empty()).map(Into::into),
        notes: Vec::new(),
        holes: Vec::new(),
    }
}

fn is_older(version: &str) -> bool {
    // A version that is not a number is a build from source, and newer than any that is too old.
    numbers(version).is_some_and(|numbers| numbers < OLDEST)
}

fn no_answer(docker: &Docker, errors: Option<Vec<String>>, output: &super::Output) -> Diagnostic {
    let complaint = errors
        .filter(|errors| !errors.is_empty())
        .map_or_else(|| output.complaint(), |errors| errors.join("\n"));
    unreachable(docker, &complaint).unwrap_or_else(|| {
        let timed_out = output.ended.timed_out;
        let problem = Diagnostic::surroundings(format!("{} does not say what it is", docker.address()));
        problem
            .because(if timed_out || complaint.is_empty() { output.ended.to_string() } else { complaint })
            .hint("look at what works and what does not: polyarch doctor")
    })
}

/// The problem behind a complaint of the client, where it is that it does not reach the engine.
pub(super) fn unreachable(docker: &Docker, complaint: &str) -> Option<Diagnostic> {
    let address = docker.address();
    let has = |text: &str| complaint.contains(text);
    let problem = if has("permission denied") && has("connect") && !has("ssh") {
        let problem =
            Diagnostic::surroundings(format!("this user may not speak to the Docker Engine at {address}"));
        match docker.line.is_some() {
            true => problem.hint(format!(
                "have the user there join the group that may: ssh -t {address} 'sudo usermod -aG docker $USER'"
            )),
            false => {
                problem.hint("join the group that may, then log in again: sudo usermod -aG docker $USER")
            }
        }
    } else if has("is too new. Maximum supported API version") {
        Diagnostic::surroundings(format!(
            "the Docker Engine at {address} is older than its client can speak to"
        ))
        .hint("let the client speak an older version: unset DOCKER_API_VERSION")
        .hint("or update Docker Engine: sudo apt-get update && sudo apt-get install docker.io")
    } else if has("is too old. Minimum supported API version") {
        Diagnostic::surroundings(format!(
            "the Docker Engine at {address} is newer than its client can speak to"
        ))
        .hint("install a newer client: sudo apt-get install docker-cli docker-buildx")
    } else if has("first record does not look like a TLS handshake")
        || has("server gave HTTP response to HTTPS client")
    {
        Diagnostic::surroundings(format!("what answers at {address} speaks no TLS, and certificates are named for it"))
            .hint("let the engine there ask for certificates, for whoever reaches it without is root on its machine: dockerd --tlsverify")
            .hint("or reach it by ssh, which needs none: ssh://USER@HOST")
    } else if has("tls: ") || has("x509: ") || has("/ca.pem") || has("/cert.pem") || has("/key.pem") {
        let folder = certificates(docker);
        let problem = Diagnostic::surroundings(format!("the certificates for {address} do not hold"));
        let problem = if has("certificate is valid for ")
            || has("certificate is not valid for any names")
            || has("doesn't contain any IP SANs")
        {
            problem.hint("call the engine by a name that its certificate is for, or give it one for this name (subjectAltName)")
        } else if has("certificate has expired or is not yet valid") || has("expired certificate") {
            problem.hint(
                "make a new certificate for the side whose it is, or set the clock that is wrong: date -u",
            )
        } else {
            problem
        };
        problem
            .hint(format!("see what {folder} has: ca.pem that signed the engine's, cert.pem and key.pem that the engine's signed"))
            .hint(format!("then try them by hand: {}", by_hand(docker)))
    } else if has("Cannot connect to the Docker daemon")
        || has("error during connect")
        || has("failed to connect to the docker API")
    {
        let problem = Diagnostic::surroundings(format!("no Docker Engine answers at {address}"));
        if docker.socket().is_some() {
            problem
                .hint("start it: sudo systemctl start docker (where there is no systemd: sudo service docker start)")
                .hint("or point DOCKER_HOST at one that runs; this says what is there: polyarch doctor")
        } else {
            problem.hint(format!("see whether its machine can be reached: {}", by_hand(docker)))
        }
    } else {
        return None;
    };
    Some(complaint.lines().take(3).fold(problem, Diagnostic::because))
}

/// The folder of a client's certificates, as a shell reads it.
fn certificates(docker: &Docker) -> String {
    match &docker.environment.certificates {
        Some(folder) => folder.display().to_string(),
        None => "$DOCKER_CERT_PATH".to_owned(),
    }
}

/// The command that a person asks an engine with which is on another machine.
fn by_hand(docker: &Docker) -> String {
    let (address, folder) = (docker.address(), certificates(docker));
    match address.starts_with("tcp://") {
        true => format!(
            "docker --tlsverify --tlscacert {folder}/ca.pem --tlscert {folder}/cert.pem --tlskey {folder}/key.pem --host {address} version"
        ),
        false => format!("docker --host {address} version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker(host: Option<&str>) -> Docker {
        Docker::local(crate::engine::docker::DockerEnvironment {
            search_path: "/nowhere".into(),
            host: host.map(str::to_owned),
            certificates: None,
            user_config: None,
            variables: std::collections::BTreeMap::new(),
            scratch: std::env::temp_dir(),
            over: std::collections::BTreeSet::new(),
        })
    }

    #[test]
    fn f_g1_a_complaint_of_the_client_becomes_a_hint() {
        let check = |complaint: &str, hint: &str| {
            let problem = unreachable(&docker(None), complaint).expect(complaint);
            assert_eq!(problem.kind.exit_code(), 3);
            assert!(problem.hints[0].contains(hint), "{complaint}: {:?}", problem.hints);
            assert!(!problem.causes.is_empty());
        };
        check(
            "Cannot connect to the Docker daemon at unix:///nope. Is the docker daemon running?",
            "systemctl start",
        );
        check(
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get \"http://%2Fvar\": dial unix /var/run/docker.sock: connect: permission denied",
            "usermod -aG docker $USER",
        );
        check(
            "Error response from daemon: client version 1.99 is too new. Maximum supported API version is 1.41",
            "DOCKER_API_VERSION",
        );
        check(
            "Error response from daemon: client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade",
            "newer client",
        );
        check(
            "error during connect: Get \"https://127.0.0.1:2375/v1.41/info\": http: server gave HTTP response to HTTPS client",
            "dockerd --tlsverify",
        );
        check(
            "error during connect: Get \"https://127.0.0.1:2375/v1.41/info\": tls: first record does not look like a TLS handshake",
            "dockerd --tlsverify",
        );
        assert!(unreachable(&docker(None), "Error: No such image: x").is_none());
    }

    #[test]
    fn f_g1_old_engines_are_told_from_new_ones() {
        for (version, older) in [
            ("19.03.8", true),
            ("20.09", true),
            ("20.10.24+dfsg1", false),
            ("26.1.5+dfsg1", false),
            ("dev", false),
        ] {
            assert_eq!(is_older(version), older, "{version}");
        }
    }

    #[test]
    fn engines_of_cloned_machines_are_told_apart_by_the_names_of_those() {
        let id = |text: &str| facts(&serde_json::from_str(text).unwrap(), None).ids;
        let clone = |name: &str| id(&format!(r#"{{"ID":"1:2:3","Name":"{name}"}}"#));
        assert_ne!(clone("arm-1"), clone("arm-2"));
        assert_eq!(clone("arm-1"), clone("arm-1"));
        assert_eq!(id(r#"{"Name":"arm-1"}"#).len(), 0, "what says no id is not compared");
    }

    #[test]
    fn both_image_stores_are_known_by_their_status() {
        let read = |status: &str| {
            let text = format!(
                r#"{{"ServerVersion":"26.1.5","OSType":"linux","Architecture":"x86_64","NCPU":2,"DriverStatus":{status}}}"#
            );
            facts(&serde_json::from_str(&text).unwrap(), None)
        };
        assert_eq!(
            read(r#"[["driver-type","io.containerd.snapshotter.v1"]]"#).image_store,
            ImageStore::Containerd
        );
        let classic = read(r#"[["Backing Filesystem","extfs"]]"#);
        assert_eq!((classic.image_store, classic.processors), (ImageStore::Classic, Some(2)));
    }
}
