//! Other people's clients at a served store: push, pull, copy, list, delete, indexes and referrers.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::end_to_end::engines::Engine;
use crate::program::{Answer, Place, skip, variable};

/// `writer:interop`, in base64.
const LOG_IN: &str = "d3JpdGVyOmludGVyb3A=";

/// A served store, its client's log-in, and a file to make images of. The server ends with this.
struct Served {
    place: Place,
    registry: String,
    server: Child,
}

impl Served {
    fn start() -> Self {
        let place = Place::with(&[("password", "interop\n"), ("files/word", "interop\n")]);
        let arguments =
            ["serve", "--listen", "127.0.0.1:0", "--user", "writer", "--password-file", "password"];
        let mut server = place.start(&arguments);
        let mut line = String::new();
        let stdout = server.stdout.take().expect("what it prints");
        BufReader::new(stdout).read_line(&mut line).expect("the address");
        let registry = line.trim().to_owned();
        let docker = place.folder().join("home/.docker");
        std::fs::create_dir(&docker).expect("a folder");
        let log_in = format!(r#"{{"auths": {{"{registry}": {{"auth": "{LOG_IN}"}}}}}}"#);
        std::fs::write(docker.join("config.json"), log_in).expect("log in");
        place.ask("tar", &["-C", "files", "-cf", "files.tar", "word"]);
        Self { place, registry, server }
    }

    /// An image of the registry.
    fn image(&self, name: &str) -> String {
        format!("{}/interop/{name}", self.registry)
    }

    /// What a client prints that has to end well.
    #[track_caller]
    fn ask(&self, client: &Client, arguments: &[&str]) -> String {
        let answer: Answer = self.command(client, arguments).output().expect("run a client").into();
        answer.well().stdout
    }

    fn command(&self, client: &Client, arguments: &[&str]) -> Command {
        let mut command = self.place.program(&client.program);
        command.args(&client.before).args(arguments);
        command
    }

    /// Whether a tag stands, as the store itself says.
    #[track_caller]
    fn stands(&self, name: &str, tag: &str) -> bool {
        super::end_to_end::engines::tags(&self.place, &format!("interop/{name}")).contains_key(tag)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A program, and what stands before every one of its commands.
struct Client {
    program: String,
    before: Vec<String>,
}

impl Client {
    /// A client on the search path or among those that the scripts fetched; `None`, having said why, without it.
    fn find(test: &str, name: &str, before: &[String]) -> Option<Self> {
        let fetched = variable("POLYARCH_TEST_CLIENTS").map(|folder| PathBuf::from(folder).join(name));
        let program = match fetched.filter(|file| file.exists()) {
            Some(file) => file.display().to_string(),
            None => name.to_owned(),
        };
        let client = Self { program, before: before.to_vec() };
        match crate::program::program(&client.program).arg("--help").output() {
            Ok(_) => Some(client),
            Err(error) => {
                skip(test, &format!("no {name}: {error}"));
                None
            }
        }
    }

    /// Podman or Buildah, with images of its own.
    fn with_images(test: &str, name: &str, place: &Place) -> Option<Self> {
        let folder = |part: &str| place.folder().join(part).display().to_string();
        let before = [
            "--root".to_owned(),
            folder("images"),
            "--runroot".to_owned(),
            folder("run"),
            "--storage-driver".to_owned(),
        ];
        Self::find(test, name, &[before.as_slice(), &["vfs".to_owned()]].concat())
    }
}

#[test]
fn podman_pushes_pulls_and_makes_an_index() {
    let served = Served::start();
    let Some(podman) = Client::with_images("interop::podman", "podman", &served.place) else { return };
    let image = served.image("podman:1");
    let id = served.ask(&podman, &["import", "--quiet", "files.tar", &image]);
    served.ask(&podman, &["push", "--tls-verify=false", &image]);
    served.ask(&podman, &["rmi", "--force", &image]);
    assert_eq!(
        served.ask(&podman, &["pull", "--quiet", "--tls-verify=false", &image]),
        id.replace("sha256:", "")
    );

    let from = format!("docker://{image}");
    served.ask(&podman, &["manifest", "create", "both"]);
    served.ask(&podman, &["manifest", "add", "--tls-verify=false", "both", &from]);
    let to = format!("docker://{}", served.image("podman:both"));
    served.ask(&podman, &["manifest", "push", "--all", "--tls-verify=false", "both", &to]);
    assert!(served.stands("podman", "1") && served.stands("podman", "both"));
}

#[test]
fn buildah_pushes_what_it_built_and_pulls_it() {
    let served = Served::start();
    let Some(buildah) = Client::with_images("interop::buildah", "buildah", &served.place) else { return };
    let image = served.image("buildah:1");
    let container = served.ask(&buildah, &["from", "scratch"]);
    let container = container.trim();
    served.ask(&buildah, &["copy", container, "files/word", "/word"]);
    let id = served.ask(&buildah, &["commit", "--quiet", "--rm", container, &image]);
    served.ask(&buildah, &["push", "--tls-verify=false", &image]);
    served.ask(&buildah, &["rmi", "--force", &image]);
    assert_eq!(served.ask(&buildah, &["pull", "--quiet", "--tls-verify=false", &image]), id);
}

/// An image that skopeo pushed.
fn pushed_image(served: &Served, test: &str) -> Option<Client> {
    let skopeo = Client::find(test, "skopeo", &[])?;
    let (tar, to) = ("tarball:files.tar", format!("docker://{}", served.image("skopeo:1")));
    served.ask(&skopeo, &["copy", "--format=oci", "--dest-tls-verify=false", tar, &to]);
    Some(skopeo)
}

#[test]
fn skopeo_pushes_copies_lists_pulls_and_deletes() {
    let served = Served::start();
    let Some(skopeo) = pushed_image(&served, "interop::skopeo") else { return };
    let (one, two) =
        (format!("docker://{}", served.image("skopeo:1")), format!("docker://{}", served.image("two:2")));
    served.ask(&skopeo, &["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &one, &two]);
    let raw = |image: &str| served.ask(&skopeo, &["inspect", "--raw", "--tls-verify=false", image]);
    assert_eq!(raw(&one), raw(&two));
    let repository = two.trim_end_matches(":2");
    assert!(served.ask(&skopeo, &["list-tags", "--tls-verify=false", repository]).contains("\"2\""));
    served.ask(&skopeo, &["copy", "--src-tls-verify=false", &two, "oci:layout:2"]);
    served.ask(&skopeo, &["delete", "--tls-verify=false", &two]);
    assert!(!served.stands("two", "2") && served.stands("skopeo", "1"));
}

#[test]
fn crane_pushes_copies_lists_joins_pulls_and_deletes() {
    let test = "interop::crane";
    let served = Served::start();
    let Some(skopeo) = pushed_image(&served, test) else { return };
    let Some(crane) = Client::find(test, "crane", &["--insecure".to_owned()]) else { return };
    let from = format!("docker://{}", served.image("skopeo:1"));
    served.ask(&skopeo, &["copy", "--src-tls-verify=false", &from, "oci:layout"]);
    let (one, two) = (served.image("crane:1"), served.image("copied:2"));
    let pushed = served.ask(&crane, &["push", "layout", &one]);
    served.ask(&crane, &["copy", &one, &two]);
    let digest = served.ask(&crane, &["digest", &two]);
    assert!(pushed.trim().ends_with(digest.trim()), "{pushed} {digest}");
    assert_eq!(served.ask(&crane, &["ls", &served.image("copied")]), "2\n");
    assert_eq!(
        served.ask(&crane, &["catalog", &served.registry]),
        "interop/copied\ninterop/crane\ninterop/skopeo\n"
    );
    served.ask(&crane, &["index", "append", "-m", &one, "-t", &served.image("crane:index")]);
    served.ask(&crane, &["validate", "--remote", &one]);
    served.ask(&crane, &["pull", "--format=oci", &two, "pulled"]);
    served.ask(&crane, &["delete", &two]);
    assert!(!served.stands("copied", "2") && served.stands("crane", "index"));
}

#[test]
fn oras_attaches_finds_and_copies_referrers() {
    let test = "interop::oras";
    let served = Served::start();
    let Some(oras) = Client::find(test, "oras", &[]) else { return };
    let (one, two) = (served.image("oras:1"), served.image("copied:1"));
    served.ask(&oras, &["push", "--plain-http", &one, "files/word:text/plain"]);
    let kind = ["--artifact-type", "application/vnd.example.note"];
    served.ask(&oras, &["attach", "--plain-http", kind[0], kind[1], &one, "files/word:text/plain"]);
    served.ask(&oras, &["cp", "-r", "--from-plain-http", "--to-plain-http", &one, &two]);
    let found = served.ask(&oras, &["discover", "--plain-http", "--format", "json", &two]);
    assert!(found.contains("application/vnd.example.note"), "{found}");
    let other = ["--artifact-type", "application/vnd.example.other"];
    let found =
        served.ask(&oras, &["discover", "--plain-http", "--format", "json", other[0], other[1], &two]);
    assert!(!found.contains("application/vnd.example.note"), "{found}");
    served.ask(&oras, &["pull", "--plain-http", "-o", "pulled", &two]);
    let pulled = served.place.family().join("pulled/files/word");
    assert_eq!(std::fs::read_to_string(pulled).expect("the file that was pulled"), "interop\n");
    served.ask(&oras, &["manifest", "delete", "--force", "--plain-http", &two]);
    assert!(!served.stands("copied", "1") && served.stands("oras", "1"));
}

#[track_caller]
fn docker(engine: Engine, test: &str) {
    let mut served = Served::start();
    let log_in = served.place.folder().join("home/.docker");
    if !engine.equip(test, &mut served.place) {
        return;
    }
    // The engine of a test has a client configuration of its own, which knows no log-in.
    served.place.set("DOCKER_CONFIG", log_in);
    let Some(docker) = Client::find(test, "docker", &[]) else { return };
    let (one, two) = (served.image("docker:1"), served.image("docker:2"));
    served.ask(&docker, &["import", "files.tar", &one]);
    served.ask(&docker, &["tag", &one, &two]);
    served.ask(&docker, &["push", &one]);
    served.ask(&docker, &["push", &two]);
    served.ask(&docker, &["rmi", &one, &two]);
    served.ask(&docker, &["pull", &two]);
    let digests = served.ask(&docker, &["image", "inspect", "--format", "{{.RepoDigests}}", &two]);
    served.ask(&docker, &["rmi", &two]);
    let tags = super::end_to_end::engines::tags(&served.place, "interop/docker");
    assert_eq!(tags["1"], tags["2"]);
    assert!(digests.contains(&tags["2"]), "{digests} {tags:?}");
}

#[test]
fn docker_with_the_classic_store_pushes_and_pulls() {
    docker(Engine::Classic, "interop::docker_with_the_classic_store");
}

#[test]
fn docker_with_the_containerd_store_pushes_and_pulls() {
    docker(Engine::Containerd, "interop::docker_with_the_containerd_store");
}
