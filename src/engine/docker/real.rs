//! Tests against real engines: those that `POLYARCH_TEST_CLASSIC` and `POLYARCH_TEST_CONTAINERD` name, with the
//! programs of `…_BIN` first on the search path and the plugins of the folder `…_CONFIG`.
//!
//! The store is Debian's docker-registry with a password, the root file system is busybox.

use base64::Engine as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::*;
use crate::diag::Kind;
use crate::engine::{ImageStore, SecretFile, process};
use crate::lent;
use crate::oci::{Repository, Secret};

const PASSWORD: &str = "canary-password-5d1f";
const SECRET: &str = "canary-secret-91c2";

/// The environment is read here only: what the tests need of it is where the engines are.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where engines are")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn skip(why: &str) {
    let line = format!("tests of builds on a real engine: {why}\n");
    let file = variable("POLYARCH_TEST_SKIPS")
        .map(|file| std::fs::File::options().append(true).create(true).open(file));
    if let Some(Ok(mut file)) = file {
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Tells the tests of one process apart.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A registry, an engine and a folder, for one test.
struct Bench {
    docker: Docker,
    store: StoreAddress,
    folder: tempfile::TempDir,
    run: RunId,
    builds: AtomicUsize,
    registry: std::process::Child,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.registry.kill();
        let _ = self.registry.wait();
    }
}

impl Bench {
    async fn new(engine: &str) -> Option<Self> {
        let name = format!("POLYARCH_TEST_{engine}");
        let Some(host) = variable(&name) else {
            skip(&format!("{name} is not set"));
            return None;
        };
        if variable("POLYARCH_TEST_BUSYBOX").is_none() {
            skip("POLYARCH_TEST_BUSYBOX is not set");
            return None;
        }
        let search_path = variable("PATH").unwrap_or_default();
        let search_path = variable(&format!("{name}_BIN"))
            .map_or(search_path.clone(), |bin| format!("{bin}:{search_path}"));
        let Some(program) = process::find_all("docker-registry", search_path.as_ref()).pop() else {
            skip("there is no docker-registry");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (registry, address) = start_registry(&program, folder.path()).await;
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let environment = DockerEnvironment {
            search_path: search_path.into(),
            host: Some(host),
            certificates: None,
            user_config: variable(&format!("{name}_CONFIG")).map(PathBuf::from),
            variables: BTreeMap::new(),
            scratch,
            over: std::collections::BTreeSet::new(),
        };
        let store = StoreAddress {
            registry: address,
            repository: "scopes/trusted".parse::<Repository>().unwrap(),
            user: "polyarch".to_owned(),
            password: Secret::new(PASSWORD),
        };
        let run = RunId::of_this_process(&format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let docker = Docker::local(environment);
        Some(Self { docker, store, folder, run, builds: AtomicUsize::new(0), registry })
    }

    fn order(&self, dockerfile: &str) -> BuildOrder {
        let number = self.builds.fetch_add(1, Ordering::Relaxed);
        let context = self.folder.path().join("context");
        std::fs::create_dir_all(&context).unwrap();
        let fetched = variable("POLYARCH_TEST_BUSYBOX").expect("it was looked at");
        let busybox = Path::new(&fetched).join("busybox-linux-amd64");
        std::fs::copy(busybox, context.join("busybox")).unwrap();
        std::fs::write(context.join("kept"), "kept").unwrap();
        std::fs::set_permissions(context.join("kept"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(context.join("hidden"), "hidden").unwrap();
        let scratch = self.folder.path().join(format!("build-{number}"));
        std::fs::create_dir(&scratch).unwrap();
        BuildOrder {
            title: format!("image{number}@linux/amd64"),
            platform: "linux/amd64".parse().unwrap(),
            context,
            dockerfile: dockerfile.to_owned(),
            images: Default::default(),
            ignore: Some("hidden\n".to_owned()),
            target: None,
            args: BTreeMap::new(),
            labels: BTreeMap::new(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            no_cache: false,
            caches: Default::default(),
            cache: crate::engine::CacheOrder::default(),
            store: self.store.clone(),
            tag: self.run.build_tag(number).unwrap(),
            log: self.folder.path().join(format!("build-{number}.log")),
            scratch,
            time_limit: Duration::from_secs(120),
        }
    }

    async fn build(&self, order: &BuildOrder) -> (Result<Built, BuildFailure>, Vec<String>) {
        let steps = std::sync::Mutex::new(Vec::new());
        let built = self.docker.build(order, &|step| steps.lock().unwrap().push(step)).await;
        (built, steps.into_inner().unwrap())
    }

    /// The manifest that a tag of the store points at, and its digest.
    async fn manifest(&self, tag: &str) -> Option<(Digest, Value)> {
        let bytes = fetch(&self.store.registry, &format!("manifests/{tag}")).await?;
        Some((Digest::of(&bytes), serde_json::from_slice(&bytes).unwrap()))
    }
}

/// A registry on a free port of the loopback address, with one user.
async fn start_registry(program: &Path, folder: &Path) -> (std::process::Child, String) {
    let address = format!("127.0.0.1:{}", lent::free_port());
    // bcrypt of PASSWORD, made by `htpasswd -nbB`.
    std::fs::write(folder.join("users"), format!("polyarch:{PASSWORD_HASH}\n")).unwrap();
    let shown = folder.display();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {shown}/registry}}}}\n\
         http: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: polyarch, path: {shown}/users}}}}\n"
    );
    let file = folder.join("registry.yml");
    std::fs::write(&file, config).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server for the test")]
    #[expect(clippy::zombie_processes, reason = "the bench that holds it ends it and waits")]
    let registry = std::process::Command::new(program)
        .arg("serve")
        .arg(file)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..4_800 {
        if tokio::net::TcpStream::connect(&address).await.is_ok() {
            return (registry, address);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the registry does not answer");
}

const PASSWORD_HASH: &str = "$2y$04$abcdefghijklmnopqrstuuNxSKBvdRkKPHeUIMTxCiMCWphH/PZem";

async fn fetch(registry: &str, path: &str) -> Option<Vec<u8>> {
    let accepted =
        "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("http://{registry}/v2/scopes/trusted/{path}"))
        .basic_auth("polyarch", Some(PASSWORD))
        .header("accept", accepted)
        .send()
        .await
        .unwrap();
    if !answer.status().is_success() {
        return None;
    }
    Some(answer.bytes().await.unwrap().to_vec())
}

const ROOT: &str = "FROM scratch
COPY busybox /bin/busybox
COPY . /context
RUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox --install /bin; test ! -e /context/hidden && test -e /context/kept\"]
";

fn problem(failure: BuildFailure) -> Diagnostic {
    match failure {
        BuildFailure::Step { problem }
        | BuildFailure::Passing { problem }
        | BuildFailure::Full { problem } => problem,
    }
}

async fn a_parent_and_a_child_are_built_tested_and_cleared_away(engine: &str, image_store: ImageStore) {
    let Some(bench) = Bench::new(engine).await else { return };
    let facts = bench.docker.probe().await.unwrap();
    assert_eq!(facts.image_store, image_store);
    assert!(facts.native.contains(&"linux/amd64".parse().unwrap()), "{facts:?}");

    let (parent, layers) = parent(&bench).await;
    let child = child(&bench, &parent, layers).await;
    commands_run_as_ordered(&bench, &child).await;

    bench.docker.load(&bench.store, &child, "polyarch-test/loaded:1").await.unwrap();
    let loaded = bench.docker.ask(&["image", "inspect", "polyarch-test/loaded:1"]).await.unwrap();
    assert!(loaded.ended.success(), "{}", loaded.complaint());
    bench.docker.ask(&["image", "rm", "polyarch-test/loaded:1"]).await.unwrap();
    nothing_is_left_of(&bench).await;
}

/// Build the parent: its manifest, and how many layers it has.
async fn parent(bench: &Bench) -> (Digest, usize) {
    // Without the cache: old engines do not name the steps that they take from it.
    let order = BuildOrder { no_cache: true, ..bench.order(ROOT) };
    let (built, steps) = bench.build(&order).await;
    let built = built.unwrap();
    assert!(steps.iter().any(|step| step.contains("COPY busybox")), "{steps:?}");
    let (parent, manifest) = bench.manifest(order.tag.as_str()).await.unwrap();
    assert_eq!(manifest["config"]["digest"], built.config.to_string());
    (parent, manifest["layers"].as_array().unwrap().len())
}

/// Build the child upon it, with a secret, arguments and labels.
async fn child(bench: &Bench, parent: &Digest, layers_of_parent: usize) -> Digest {
    // The secret is mounted, and stands nowhere; the arguments of the machine are those of the job.
    let secret = bench.folder.path().join("a,secret");
    std::fs::write(&secret, SECRET).unwrap();
    let text = format!(
        "ARG BUILDPLATFORM\nFROM --platform=$BUILDPLATFORM {parent} AS tools\nFROM {parent}\nARG BUILDPLATFORM GREETING BUILDARCH\n\
         RUN --mount=type=secret,id=key cat /run/secrets/key; test \"$(cat /run/secrets/key)\" = {half}{rest}\n\
         RUN echo \"$BUILDPLATFORM $BUILDARCH $GREETING\" > /said\nCOPY --from=tools /context/kept /kept\n",
        parent = bench.store.at(parent),
        half = "canary-secret-\"\"",
        rest = "91c2",
    );
    let order = BuildOrder {
        // A step from the cache prints nothing that could be hidden.
        no_cache: true,
        secrets: vec![SecretFile { id: "key".to_owned(), file: secret }],
        args: [("GREETING".to_owned(), "hello there".to_owned())].into(),
        labels: [("a.label".to_owned(), "its value".to_owned())].into(),
        ..bench.order(&text)
    };
    let (built, _) = bench.build(&order).await;
    built.unwrap();
    let (child, manifest_of_child) = bench.manifest(order.tag.as_str()).await.unwrap();
    assert!(manifest_of_child["layers"].as_array().unwrap().len() > layers_of_parent);
    let config = format!("blobs/{}", manifest_of_child["config"]["digest"].as_str().unwrap());
    let config = fetch(&bench.store.registry, &config).await.unwrap();
    let config = String::from_utf8(config).unwrap();
    assert!(config.contains("its value") && !config.contains(SECRET), "{config}");
    let log = std::fs::read_to_string(&order.log).unwrap();
    assert!(log.contains("***") && !log.contains(SECRET) && !log.contains(PASSWORD), "{log}");
    child
}

async fn commands_run_as_ordered(bench: &Bench, child: &Digest) {
    let command = |command: &[&str]| ContainerOrder {
        run: bench.run.clone(),
        store: bench.store.clone(),
        image: child.clone(),
        platform: "linux/amd64".parse().unwrap(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        time_limit: Duration::from_secs(60),
    };
    let said = bench.docker.run(&command(&["sh", "-c", "cat /said; echo no >&2; exit 3"])).await.unwrap();
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (Some(3), "linux/amd64 amd64 hello there\n", "no\n")
    );
    let absent = bench.docker.run(&command(&["no-such-program"])).await.unwrap();
    assert_eq!(absent.code, Some(127), "{absent:?}");
    let endless = ContainerOrder {
        time_limit: Duration::from_secs(2),
        ..command(&["sh", "-c", "trap '' TERM; sleep 300"])
    };
    assert!(bench.docker.run(&endless).await.unwrap().timed_out);
    let network = bench.docker.run(&command(&["sh", "-c", "ls /sys/class/net"])).await.unwrap();
    assert_eq!(network.stdout, "lo\n", "TM26");
}

async fn nothing_is_left_of(bench: &Bench) {
    let removed = bench.docker.sweep(Some(&bench.run)).await.unwrap();
    assert!(
        !removed.iter().any(|what| what.starts_with("container")),
        "the engine's own end left {removed:?}"
    );
    let left = bench.docker.ask(&["image", "ls", "--digests"]).await.unwrap().text();
    assert!(!left.contains(&bench.store.registry), "{left}");
    let left = bench
        .docker
        .ask(&["ps", "--all", "--filter", &format!("label={RUN_LABEL}={}", bench.run), "--quiet"])
        .await;
    assert_eq!(left.unwrap().text(), "");
    for entry in walkdir::WalkDir::new(&bench.docker.environment.scratch).follow_links(false) {
        let entry = entry.unwrap();
        let holds = std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(&config_password()));
        let mode = entry.metadata().unwrap().permissions().mode() & 0o77;
        assert!(!holds || mode == 0, "TM18: {}", entry.path().display());
    }
}

fn config_password() -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("polyarch:{PASSWORD}"))
}

async fn failures_are_told_apart(engine: &str) {
    let Some(bench) = Bench::new(engine).await else { return };
    let failing = bench.order(&format!("{ROOT}RUN echo one; echo two; exit 7\n"));
    let (built, _) = bench.build(&failing).await;
    let BuildFailure::Step { problem: step } = built.unwrap_err() else { panic!("exit 7 will not pass") };
    assert!(step.message.contains("RUN echo one; echo two; exit 7 failed"), "{step}");
    assert!(step.causes.iter().any(|cause| cause == "two"), "{step}");
    assert_eq!(step.kind, Kind::Failed);
    assert!(bench.manifest(failing.tag.as_str()).await.is_none());

    let (built, _) = bench.build(&bench.order(&format!("{ROOT}RUN echo connection refused; exit 7\n"))).await;
    let built = built.unwrap_err();
    assert!(matches!(&built, BuildFailure::Step { problem } if problem.kind == Kind::Failed), "{built:?}");

    let (built, _) = bench.build(&bench.order("FROM scratch\nCOPYY a b\n")).await;
    let parse = problem(built.unwrap_err());
    assert!(parse.to_string().contains("unknown instruction: COPYY"), "{parse}");

    let mut nowhere = bench.order(ROOT);
    nowhere.store.registry = "127.0.0.1:1".to_owned();
    let (built, _) = bench.build(&nowhere).await;
    let surroundings = |problem: &Diagnostic| problem.kind == Kind::Surroundings;
    assert!(matches!(&built, Err(BuildFailure::Passing { problem }) if surroundings(problem)), "{built:?}");

    let mut slow = bench.order(&format!("{ROOT}RUN sleep 300\n"));
    slow.time_limit = Duration::from_secs(4);
    let (built, _) = bench.build(&slow).await;
    assert!(problem(built.unwrap_err()).message.contains("longer than 4 s"));

    let foreign = BuildOrder {
        platform: "linux/mips".parse().unwrap(),
        ..bench.order("FROM scratch\nCOPY kept /bin/sh\nRUN x\n")
    };
    let (built, _) = bench.build(&foreign).await;
    let foreign = problem(built.unwrap_err());
    assert_eq!(foreign.kind, Kind::Surroundings, "F-G7: {foreign}");
    assert!(foreign.hints.iter().any(|hint| hint.contains("qemu-user-static")), "F-G7: {:?}", foreign.hints);
    let removed = bench.docker.sweep(Some(&bench.run)).await.unwrap();
    assert_eq!(removed, Vec::<String>::new(), "nothing of a failed build stays");
}

/// What a killed run leaves is cleared away by the next, and what a living one has is not.
async fn leftovers_of_dead_runs_are_swept(engine: &str) {
    let Some(bench) = Bench::new(engine).await else { return };
    let order = bench.order(ROOT);
    bench.build(&order).await.0.unwrap();
    let (image, _) = bench.manifest(order.tag.as_str()).await.unwrap();
    bench.docker.load(&bench.store, &image, "polyarch-test/left:1").await.unwrap();
    let dead = RunId(format!("{}0", bench.run));
    let tags = [&dead, &bench.run].map(|run| format!("127.0.0.1:1/x:{}", run.build_tag(1).unwrap()));
    for (run, tag) in [&dead, &bench.run].into_iter().zip(&tags) {
        bench.docker.ask(&["tag", "polyarch-test/left:1", tag]).await.unwrap();
        let label = format!("{RUN_LABEL}={run}");
        let made = bench
            .docker
            .ask(&["create", "--label", &label, "--name", &run.0, "polyarch-test/left:1", "true"])
            .await;
        assert!(made.unwrap().ended.success());
    }
    let removed = bench.docker.sweep(None).await.unwrap();
    // Any run that begins on this engine meanwhile sweeps what is dead: what counts is that it is gone.
    for (run, tag, stands) in [(&dead, &tags[0], false), (&bench.run, &tags[1], true)] {
        for asked in [["container", "inspect", &run.0], ["image", "inspect", tag]] {
            let found = bench.docker.ask(&asked).await.unwrap().ended.success();
            assert_eq!(found, stands, "{asked:?} after {removed:?}");
        }
    }
    let removed = bench.docker.sweep(Some(&bench.run)).await.unwrap();
    assert!(
        removed.contains(&format!("container {}", bench.run))
            && removed.contains(&format!("image name {}", tags[1]))
    );
    bench.docker.ask(&["image", "rm", "polyarch-test/left:1"]).await.unwrap();
}

/// A tag of the parent's name in the engine must not reach the build.
async fn tm6_a_poisoned_name_is_not_used(engine: &str) {
    let Some(bench) = Bench::new(engine).await else { return };
    let order = bench.order(ROOT);
    bench.build(&order).await.0.unwrap();
    let (parent, _) = bench.manifest(order.tag.as_str()).await.unwrap();
    let poison = bench.order(&format!("{ROOT}RUN touch /canary\n"));
    bench.build(&poison).await.0.unwrap();
    let (poisoned, _) = bench.manifest(poison.tag.as_str()).await.unwrap();
    let name = format!("{}/{}:latest", bench.store.registry, bench.store.repository);
    bench.docker.load(&bench.store, &poisoned, &name).await.unwrap();
    let child = bench.order(&format!("FROM {}\nRUN test ! -e /canary\n", bench.store.at(&parent)));
    bench.build(&child).await.0.unwrap();
    bench.docker.ask(&["image", "rm", &name]).await.unwrap();
    bench.docker.sweep(Some(&bench.run)).await.unwrap();
}

#[tokio::test]
async fn tm26_classic_builds() {
    a_parent_and_a_child_are_built_tested_and_cleared_away("CLASSIC", ImageStore::Classic).await;
}

#[tokio::test]
async fn classic_failures() {
    failures_are_told_apart("CLASSIC").await;
}

#[tokio::test]
async fn classic_leftovers() {
    leftovers_of_dead_runs_are_swept("CLASSIC").await;
}

#[tokio::test]
async fn tm6_classic() {
    tm6_a_poisoned_name_is_not_used("CLASSIC").await;
}

#[tokio::test]
async fn tm26_containerd_builds() {
    a_parent_and_a_child_are_built_tested_and_cleared_away("CONTAINERD", ImageStore::Containerd).await;
}

#[tokio::test]
async fn containerd_failures() {
    failures_are_told_apart("CONTAINERD").await;
}

#[tokio::test]
async fn containerd_leftovers() {
    leftovers_of_dead_runs_are_swept("CONTAINERD").await;
}

#[tokio::test]
async fn tm6_containerd() {
    tm6_a_poisoned_name_is_not_used("CONTAINERD").await;
}

/// Ask the engine that a client on this path speaks to.
async fn probe(
    scratch: &Path,
    search_path: &Path,
    host: Option<&str>,
) -> Result<crate::engine::EngineFacts, Diagnostic> {
    let environment = DockerEnvironment {
        search_path: search_path.into(),
        host: host.map(str::to_owned),
        certificates: None,
        user_config: None,
        variables: BTreeMap::new(),
        scratch: scratch.to_owned(),
        over: std::collections::BTreeSet::new(),
    };
    std::fs::create_dir_all(scratch).unwrap();
    Docker::local(environment).probe().await
}

/// A client that is a script, in a folder of its own.
fn fake(bin: &Path, script: &str) -> PathBuf {
    std::fs::create_dir_all(bin).unwrap();
    let file = bin.join("docker");
    lent::write_program(&file, &format!("#!/bin/sh\n{script}\n"));
    bin.to_owned()
}

/// Engines that do not answer, as this machine has them: no client, no socket, a client that cannot build.
#[tokio::test]
async fn f_g1_what_does_not_answer_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let probe = async |path: &Path, host| probe(&folder.path().join("scratch"), path, host).await;
    let fake = |name: &str, script: &str| fake(&folder.path().join(name), script);
    let absent = probe(folder.path(), None).await.unwrap_err();
    assert!(absent.hints[0].contains("apt-get install docker.io"), "{absent}");

    let client = |version: &str, info: &str| {
        format!(
            "case $1 in --version) echo 'Docker version {version}, build x';; info) {info};; *) exit 1;; esac"
        )
    };
    let no_buildx = fake("no-buildx", &client("28.2.2", "exit 9"));
    let cannot = probe(&no_buildx, None).await.unwrap_err();
    assert!(cannot.hints[0].contains("docker-buildx"), "{cannot}");

    let socket = fake(
        "socket",
        &client(
            "20.10.24",
            "echo '{\"ServerVersion\":\"\"}'; echo 'Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?' >&2; exit 1",
        ),
    );
    let down = probe(&socket, Some("unix:///x")).await.unwrap_err();
    assert!(down.message.contains("no Docker Engine answers at unix:///x"), "{down}");

    let old = fake(
        "old",
        &client(
            "20.10.24",
            "echo '{\"ServerVersion\":\"19.03.8\",\"OSType\":\"linux\",\"Architecture\":\"x86_64\"}'",
        ),
    );
    let old = probe(&old, None).await.unwrap_err();
    assert!(old.message.contains("too old"), "{old}");

    // The client that cannot build stands first on the path; the next one is used, and the first is named.
    let good = fake(
        "good",
        &client(
            "20.10.24",
            "echo '{\"ServerVersion\":\"20.10.24\",\"OSType\":\"linux\",\"Architecture\":\"x86_64\",\"NCPU\":2}'",
        ),
    );
    let both = std::env::join_paths([&no_buildx, &good]).unwrap();
    let facts = probe(Path::new(&both), None).await.unwrap();
    assert_eq!(facts.processors, Some(2));
    assert!(
        facts.notes[0].message.contains("no-buildx/docker is a client of version 28 without buildx"),
        "{:?}",
        facts.notes
    );
}
