//! G22: the scripted engine and real ones agree on 60 builds: how each ends, with which exit code, what is told on the
//! way, and that the image kept is the one whose configuration the engine named. Engines that only build do the 58 of them
//! that have no test on this machine.
//!
//! One table: a Dockerfile, what its image says of itself in `polyarch.toml`, what the scripted engine is told to do,
//! and what must come of it on every engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;

use super::*;
use crate::engine::docker::{Buildx, Docker, DockerEnvironment};
use crate::engine::podman::{Podman, PodmanEnvironment, Tool};
use crate::engine::{Engine, Program, RunId, Stock, StoreAddress};
use crate::oci::server::{self, Access, Rights, User};
use crate::oci::{ImageConfiguration, Layout, Secret};
use crate::run::Builder;
use crate::run::fixture::Looks;

/// One build: name, Dockerfile, settings, what the scripted engine does with the build and with commands that hold a
/// word, and what is to be seen.
type Case = (&'static str, &'static str, &'static str, Act, &'static [(&'static str, Look)], &'static str);

const ROOT: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
    RUN mkdir -p /etc /tmp && echo well > /made\nENV PATH=/bin\n";
/// What the images of a build that went well are told of.
const BUILT: &str = "started kept built 0";
const OK: Act = Act::Build(1);
const FAILS: Act = Act::FailStep;
const BROKEN: &str = "started failed 1";

const CASES: [Case; 60] = [
    ("root", ROOT, "", OK, &[], BUILT),
    // Builds that go well.
    ("run", "FROM root\nRUN echo a > /a\n", "", OK, &[], BUILT),
    ("exec", "FROM root\nRUN [\"/bin/sh\", \"-c\", \"echo b > /b\"]\n", "", OK, &[], BUILT),
    ("long", "FROM root\nRUN echo c \\\n  > /c && \\\n  cat /c\n", "", OK, &[], BUILT),
    ("copy", "FROM root\nCOPY file /file\n", "", OK, &[], BUILT),
    ("add", "FROM root\nADD file /added/\n", "", OK, &[], BUILT),
    ("chown", "FROM root\nCOPY --chown=1000:1000 file /owned\n", "", OK, &[], BUILT),
    ("env", "FROM root\nENV A=1\nRUN test \"$A\" = 1\n", "", OK, &[], BUILT),
    ("arg", "FROM root\nARG WORD=one\nRUN test $WORD = two\n", "args = { WORD = \"two\" }", OK, &[], BUILT),
    ("default", "FROM root\nARG WORD=one\nRUN test $WORD = one\n", "", OK, &[], BUILT),
    ("label", "FROM root\nLABEL a=b\n", "labels = { tier = \"x\" }", OK, &[], BUILT),
    ("workdir", "FROM root\nWORKDIR /deep/down\nRUN test $(pwd) = /deep/down\n", "", OK, &[], BUILT),
    (
        "user",
        "FROM root\nRUN echo x:x:7:7::/:/bin/sh > /etc/passwd && touch /etc/group\nUSER 7\nRUN test $(id -u) = 7\n",
        "",
        OK,
        &[],
        BUILT,
    ),
    ("stages", "FROM root AS one\nRUN echo d > /d\nFROM root\nCOPY --from=one /d /e\n", "", OK, &[], BUILT),
    ("unused", "FROM root AS one\nRUN exit 9\nFROM root\nRUN true\n", "", OK, &[], BUILT),
    (
        "target",
        "FROM root AS one\nRUN echo f > /f\nFROM root\nRUN exit 9\n",
        "target = \"one\"",
        OK,
        &[],
        BUILT,
    ),
    ("borrow", "FROM root\nCOPY --from=run /a /g\n", "", OK, &[], BUILT),
    ("mount", "FROM root\nRUN --mount=from=run,target=/m cat /m/a\n", "", OK, &[], BUILT),
    ("cache", "FROM root\nRUN --mount=type=cache,target=/k touch /k/x\n", "", OK, &[], BUILT),
    ("meta", "FROM root\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL SIGINT\nCMD [\"true\"]\n", "", OK, &[], BUILT),
    ("shell", "FROM root\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN true\n", "", OK, &[], BUILT),
    ("trigger", "FROM root\nONBUILD RUN echo h > /h\n", "", OK, &[], BUILT),
    ("triggered", "FROM trigger\nRUN cat /h\n", "", OK, &[], BUILT),
    ("nothing", "FROM root\n", "", OK, &[], BUILT),
    ("bare", "FROM scratch\nCOPY file /\n", "", OK, &[], BUILT),
    ("third", "FROM run\nRUN cat /a && echo i > /i\n", "", OK, &[], BUILT),
    ("hidden", "FROM root\nCOPY . /all/\nRUN test ! -e /all/secret\n", "", OK, &[], BUILT),
    // Builds that fail.
    ("exit-1", "FROM root\nRUN exit 1\n", "", FAILS, &[], BROKEN),
    ("exit-7", "FROM root\nRUN exit 7\n", "", FAILS, &[], BROKEN),
    ("missing", "FROM root\nRUN no-such-command\n", "", FAILS, &[], BROKEN),
    ("no-program", "FROM root\nRUN [\"/no/program\"]\n", "", FAILS, &[], BROKEN),
    ("killed", "FROM root\nRUN sh -c 'kill -9 $$'; exit $?\n", "", Act::KillStep, &[], "started failed 3"),
    ("second", "FROM root\nRUN true\nRUN false\n", "", FAILS, &[], BROKEN),
    ("needed", "FROM root AS one\nRUN exit 3\nFROM root\nCOPY --from=one /made /j\n", "", FAILS, &[], BROKEN),
    ("absent", "FROM root\nCOPY --from=run /absent /k\n", "", FAILS, &[], BROKEN),
    ("slow", "FROM root\nRUN sleep 60\n", "time-limit = \"4s\"", Act::Stall, &[], BROKEN),
    (
        "afresh",
        "FROM root\nRUN exit 4\n",
        "retry-without-cache = true",
        FAILS,
        &[],
        "started afresh failed 1",
    ),
    ("tries-out", "FROM root\nRUN exit 5\n", "downstream = true", FAILS, &[], BROKEN),
    // What stands on those.
    ("child", "FROM exit-1\nRUN true\n", "", OK, &[], "skipped"),
    ("grandchild", "FROM child\nRUN true\n", "", OK, &[], "skipped"),
    ("borrower", "FROM root\nCOPY --from=exit-7 /made /l\n", "", OK, &[], "skipped"),
    // Checks that pass.
    ("test", "FROM root\nLABEL n=1\n", "tests = [\"true\"]", OK, &[], "started kept + built 0"),
    (
        "two-tests",
        "FROM root\nLABEL n=2\n",
        "tests = [\"true\", \"cat /made\"]",
        OK,
        &[],
        "started kept + + built 0",
    ),
    (
        "prints",
        "FROM root\nLABEL n=3\n",
        "tests = [{ run = \"echo word\", stdout = \"word\" }]",
        OK,
        &[],
        "started kept + built 0",
    ),
    ("heir", "FROM test\nLABEL n=4\n", "", OK, &[], "started kept + built 0"),
    (
        "tagger",
        "FROM root\nLABEL n=5\n",
        "tags = [{ tag = \"v{0}\", run = \"echo word-7\", match = 'word-([0-9])' }]",
        OK,
        &[],
        "started kept + built 0",
    ),
    (
        "described",
        "FROM root\nLABEL n=6\n",
        "describe = [{ title = \"T\", run = \"echo text\" }]",
        OK,
        &[],
        "started kept + built 0",
    ),
    (
        "hosted",
        "FROM root\nLABEL n=7\n",
        "tests = [{ host = \"test -n \\\"$POLYARCH_IMAGE\\\"\" }]",
        OK,
        &[],
        "started kept + built 0",
    ),
    // Checks that do not.
    (
        "fails",
        "FROM root\nLABEL n=8\n",
        "tests = [\"exit 1\"]",
        OK,
        &[("exit 1", Look::Fail)],
        "started kept - failed 1",
    ),
    (
        "fails-7",
        "FROM root\nLABEL n=9\n",
        "tests = [\"exit 7\"]",
        OK,
        &[("exit 7", Look::Fail)],
        "started kept - failed 1",
    ),
    (
        "dies",
        "FROM root\nLABEL n=10\n",
        "tests = [\"sh -c 'kill -9 $$'; exit $?\"]",
        OK,
        &[("kill", Look::Fail)],
        "started kept - failed 1",
    ),
    (
        "unknown",
        "FROM root\nLABEL n=11\n",
        "tests = [\"no-such-command\"]",
        OK,
        &[("no-such", Look::Fail)],
        "started kept - failed 1",
    ),
    (
        "silent",
        "FROM root\nLABEL n=12\n",
        "tests = [{ run = \"echo other\", stdout = \"absent\" }]",
        OK,
        &[],
        "started kept - failed 1",
    ),
    (
        "then",
        "FROM root\nLABEL n=13\n",
        "tests = [\"true\", \"false\", \"true\"]",
        OK,
        &[("false", Look::Fail)],
        "started kept + - failed 1",
    ),
    (
        "takes-long",
        "FROM root\nLABEL n=14\n",
        "tests = [{ run = \"sleep 60\", time-limit = \"3s\" }]",
        OK,
        &[("sleep", Look::Stall)],
        "started kept - failed 1",
    ),
    (
        "no-match",
        "FROM root\nLABEL n=15\n",
        "tags = [{ tag = \"v{0}\", run = \"echo word\", match = 'x(y)' }]",
        OK,
        &[],
        "started kept - failed 1",
    ),
    (
        "no-release",
        "FROM root\nLABEL n=16\n",
        "tags = [{ tag = \"v{0}\", os-release = \"ID\" }]",
        OK,
        &[("os-release", Look::Fail)],
        "started kept - failed 1",
    ),
    (
        "host-fails",
        "FROM root\nLABEL n=17\n",
        "tests = [{ host = \"exit 6\" }]",
        OK,
        &[],
        "started kept - failed 1",
    ),
    (
        "breaks-heir",
        "FROM test\nRUN rm /bin/true /bin/sh\n",
        "",
        OK,
        &[("true", Look::Fail)],
        "started kept - failed 1",
    ),
    ("on-failed", "FROM fails\nRUN true\n", "", OK, &[], "skipped"),
];

/// Which of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// What wants no image in an engine of this machine.
    OnlyBuilt,
}

impl Part {
    fn cases(self) -> impl Iterator<Item = &'static Case> {
        CASES.iter().filter(move |case| self == Self::Whole || !case.2.contains("host ="))
    }

    fn expected(self) -> BTreeMap<String, String> {
        self.cases().map(|case| (case.0.to_owned(), case.5.to_owned())).collect()
    }
}

/// The family of the table, over a store in a folder.
async fn laid_out(part: Part, folder: &std::path::Path) -> Site {
    let files: Vec<_> =
        part.cases().map(|case| (format!("{}/Dockerfile", case.0), case.1.to_owned())).collect();
    let settings = part.cases().map(|case| format!("[image.{}]\n{}\n", case.0, case.2));
    let config = format!("platforms = [\"linux/amd64\"]\n{}", settings.collect::<String>());
    let store = Arc::new(Layout::open(folder.join("store")).unwrap());
    let site = Site::over(Some(&config), &files, store, Arc::new(Memory::new()));
    for case in part.cases() {
        let context = site.folder.path().join(case.0);
        std::fs::write(context.join("file"), case.0).unwrap();
        std::fs::write(context.join("secret"), "canary").unwrap();
        std::fs::write(context.join(".dockerignore"), "secret\n").unwrap();
    }
    let fetched = variable("POLYARCH_TEST_BUSYBOX").unwrap_or_default();
    let busybox = Path::new(&fetched).join("busybox-linux-amd64");
    // The scripted engine runs nothing.
    if busybox.exists() {
        std::fs::copy(busybox, site.folder.path().join("root/busybox")).unwrap();
    }
    site
}

/// What was seen of each job, in words, and its exit code.
async fn seen(site: &Site, builder: Builder) -> BTreeMap<String, String> {
    let plan = site.plan_as_configured().await;
    let (ran, steps) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
    let ran = ran.unwrap();
    let mut seen = BTreeMap::<String, Vec<String>>::new();
    for step in steps {
        let Step::Event(event) = step else { continue };
        let (job, word) = match event {
            EventKind::JobStarted { job, .. } => (job, "started"),
            EventKind::JobRetried { job, without_cache: true, .. } => (job, "afresh"),
            EventKind::JobRetried { job, .. } => (job, "again"),
            EventKind::JobMoved { job, .. } => (job, "moved"),
            EventKind::JobKept { job, image, config, .. } => {
                is_kept(site, &image, &config).await;
                (job, "kept")
            }
            EventKind::CheckEnded { job, passed, .. } => (job, if passed { "+" } else { "-" }),
            EventKind::JobEnded { job, outcome, .. } => (
                job,
                match outcome {
                    Outcome::Built { .. } => "built",
                    Outcome::Checked { .. } => "checked",
                    Outcome::Failed { .. } => "failed",
                    Outcome::Skipped { .. } => "skipped",
                    Outcome::Cancelled => "cancelled",
                },
            ),
            _ => continue,
        };
        seen.entry(job).or_default().push(word.to_owned());
    }
    let passed = ran.passed.keys().map(|job| (job, 0));
    for (job, code) in passed.chain(ran.failed.iter().map(|(job, problem)| (job, problem.kind.exit_code()))) {
        seen.entry(job.to_string()).or_default().push(code.to_string());
    }
    seen.into_iter().map(|(job, words)| (job.replace("@linux/amd64", ""), words.join(" "))).collect()
}

/// The manifest is in the store, names the configuration that was told of, and that is of the platform.
async fn is_kept(site: &Site, image: &str, config: &str) {
    let (store, scope) = (&*site.records.store, &site.records.scope);
    let image: Digest = image.parse().unwrap();
    let manifest = store.read_document(scope, &image.into()).await.unwrap().manifest().unwrap();
    assert_eq!(manifest.config.digest.to_string(), config);
    let configuration = ImageConfiguration::read(store, scope, &manifest.config).await.unwrap();
    assert_eq!(configuration.platform(), Some(amd64()));
}

/// The environment is read here only: where the engines for tests are.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where engines are")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn skip(why: &str) {
    use std::io::Write as _;
    let file = variable("POLYARCH_TEST_SKIPS");
    let file = file.and_then(|file| std::fs::File::options().append(true).create(true).open(file).ok());
    file.into_iter().for_each(|mut file| writeln!(file, "G22 on a real engine: {why}").unwrap());
}

/// How many runs there were on real engines.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// The table on an engine, with the store served to it on loopback; the engine is given a folder, and the store for where it
/// does not reach that.
async fn on_real(part: Part, engine: impl FnOnce(PathBuf, Stock) -> Option<Arc<dyn Engine>>) {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    if variable("POLYARCH_TEST_BUSYBOX").is_none() {
        return skip("POLYARCH_TEST_BUSYBOX is not set");
    }
    let mut site = laid_out(part, folder.path()).await;
    let stock = Stock::new(site.records.store.clone(), folder.path().join("store"));
    let Some(engine) = engine(scratch, stock) else { return };
    // Each its own: engines may share what they keep, and who ends sweeps what is of its run.
    let run = RunId::of_this_process(&format!("g22x{}", RUNS.fetch_add(1, Ordering::Relaxed)));
    site.run_id = Some(run.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = listener.local_addr().unwrap().to_string();
    let access = Access::new(Rights::default(), vec![User::new("polyarch", "g22-password", Rights::all())]);
    let router = server::router(site.records.store.clone(), access);
    let serving = tokio::spawn(async move { server::serve(listener, router, std::future::pending()).await });
    let facts = engine.probe().await.unwrap();
    let store = StoreAddress {
        registry,
        repository: site.records.scope.clone(),
        user: "polyarch".to_owned(),
        password: Secret::new("g22-password"),
    };
    let slots = 4;
    let (labels, room, most, speed, price) = (Default::default(), None, None, None, None);
    let builder = Builder {
        name: "real".to_owned(),
        engine: engine.clone(),
        facts,
        withheld: Default::default(),
        store: store.clone(),
        slots,
        labels,
        room,
        most,
        speed,
        price,
    };
    let found = seen(&site, builder).await;
    engine.sweep(Some(&run)).await.unwrap();
    engine.sweep_pulled(&store).await.unwrap();
    serving.abort();
    agrees(part, &found);
}

/// No row is another than in the table.
fn agrees(part: Part, found: &BTreeMap<String, String>) {
    let expected = part.expected();
    let names = expected.keys().chain(found.keys());
    let differ: std::collections::BTreeSet<_> = { names }
        .filter(|name| expected.get(*name) != found.get(*name))
        .map(|name| format!("{name}: {:?}, and not {:?}", expected.get(name), found.get(name)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

/// A Docker Engine for tests, by the variable that says where it is; `None`, having said why, where there is none.
fn docker(name: &str, scratch: PathBuf) -> Option<DockerEnvironment> {
    let Some(host) = variable(name) else {
        skip(&format!("{name} is not set"));
        return None;
    };
    let path = variable("PATH").unwrap_or_default();
    let path = variable(&format!("{name}_BIN")).map_or(path.clone(), |bin| format!("{bin}:{path}"));
    Some(DockerEnvironment {
        search_path: path.into(),
        host: Some(host),
        certificates: None,
        user_config: variable(&format!("{name}_CONFIG")).map(PathBuf::from),
        variables: BTreeMap::new(),
        scratch,
        over: std::collections::BTreeSet::new(),
    })
}

async fn on_docker(name: &str) {
    on_real(Part::Whole, |scratch, _| Some(Arc::new(Docker::local(docker(name, scratch)?)))).await;
}

async fn on_podman(tool: Tool) {
    on_real(Part::Whole, |scratch, stock| {
        let path = variable("PATH").unwrap_or_default();
        if crate::engine::find_all(tool.name(), path.as_ref()).is_empty() {
            skip(&format!("there is no {}", tool.name()));
            return None;
        }
        let home = variable("HOME").into_iter().map(|home| ("HOME".into(), home.into()));
        let environment = PodmanEnvironment { search_path: path.into(), variables: home.collect(), scratch };
        Some(Arc::new(Podman::new(tool, environment, stock)))
    })
    .await;
}

/// `docker buildx …` of an engine, with the builders of a folder.
async fn buildx(environment: &DockerEnvironment, state: &Path, arguments: &[&str]) {
    let client = crate::engine::find_all("docker", &environment.search_path);
    let limit = std::time::Duration::from_secs(120);
    let config = environment.user_config.clone().unwrap_or_default();
    let asking = Program::new(client.first().expect("a client"), limit)
        .variable("PATH", &environment.search_path)
        .variable("DOCKER_HOST", environment.host.clone().unwrap_or_default())
        .variable("DOCKER_CONFIG", config)
        .variable("BUILDX_CONFIG", state)
        .argument("buildx")
        .arguments(arguments);
    let output = asking.capture(1 << 16).await.unwrap();
    assert!(output.ended.success(), "{arguments:?}: {}", output.complaint());
}

#[tokio::test(start_paused = true)]
async fn g22_the_scripted_engine_does_what_the_table_says() {
    let folder = tempfile::tempdir().unwrap();
    let site = laid_out(Part::Whole, folder.path()).await;
    let case = |job: &str| *CASES.iter().find(|case| job == format!("{}@linux/amd64", case.0)).unwrap();
    let looks: Looks = Arc::new(move |job, command| {
        let looks = case(job).4.iter().find(|(word, _)| command.contains(word));
        looks.map_or(Look::Pass, |(_, look)| *look)
    });
    let builder = site.scripted(4, Arc::new(move |job, _| case(job).3), looks);
    agrees(Part::Whole, &seen(&site, builder).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_the_classic_engine_agrees() {
    on_docker("POLYARCH_TEST_CLASSIC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_the_containerd_engine_agrees() {
    on_docker("POLYARCH_TEST_CONTAINERD").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_podman_agrees() {
    on_podman(Tool::Podman).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_buildah_agrees() {
    on_podman(Tool::Buildah).await;
}

/// A BuildKit of buildx in a container, which is fed by the session of each build and does checks as steps.
#[tokio::test(flavor = "multi_thread")]
async fn g22_a_builder_of_buildx_agrees() {
    let Some(image) = variable("POLYARCH_TEST_BUILDKIT_IMAGE") else {
        return skip("POLYARCH_TEST_BUILDKIT_IMAGE names no image of BuildKit");
    };
    let state = tempfile::tempdir().unwrap();
    let Some(environment) = docker("POLYARCH_TEST_CONTAINERD", state.path().to_owned()) else { return };
    let (name, image) = (format!("polyarch-g22-{}", std::process::id()), format!("image={image}"));
    let create = ["create", "--name", &name, "--driver", "docker-container", "--driver-opt", &image];
    buildx(&environment, state.path(), &create).await;
    let agreeing = on_real(Part::OnlyBuilt, |scratch, stock| {
        let environment = DockerEnvironment { scratch, ..environment.clone() };
        Some(Arc::new(Buildx::new(environment, &name, state.path().to_owned(), stock)))
    });
    let agreed = std::panic::AssertUnwindSafe(agreeing).catch_unwind().await;
    buildx(&environment, state.path(), &["rm", &name]).await;
    agreed.unwrap_or_else(|differs| std::panic::resume_unwind(differs));
}
