//! Bad input that no folder of a repository can hold: pipes, holes, loops, sockets, crowds; and engines that lie.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use polyarch::oci::{Descriptor, Digest, Document, Manifest, MediaType, Memory, Store, server};

use crate::end_to_end::engines::wait_for;
use crate::program::{Answer, Place, skip, write_program};

/// What it does when it is asked to pull: it asks whoever is at that address, as an engine does that reaches it, and has nothing.
const PULL: &str = r#"pull) for it; do :; done
exec bash -c 'exec 3<>"/dev/tcp/${0%:*}/${0#*:}"
printf "GET /v2/%s/manifests/%s HTTP/1.0\r\n\r\n" "${1%@*}" "${1#*@}" >&3
cat <&3 >&2; exit 1' "${it%%/*}" "${it#*/}";;
"#;

/// The engine that the script plays: what `docker info` prints, and with what exit code.
struct Fake<'a> {
    version: &'a str,
    complaint: &'a str,
}

impl Fake<'_> {
    /// Put it before every other `docker`. Whatever is asked of it is kept in the file `asked`.
    fn install(&self, place: &mut Place) {
        let folder = place.folder().join("bin");
        std::fs::create_dir_all(&folder).unwrap();
        let info = format!(
            r#"{{"ServerVersion":"{}","OSType":"linux","Architecture":"x86_64","NCPU":2,"DriverStatus":[["Backing Filesystem","extfs"]]}}"#,
            self.version
        );
        let answer = match self.complaint {
            "" => format!("echo '{info}'"),
            complaint => format!("cat >&2 <<'EOF'\n{complaint}\nEOF\nexit 1"),
        };
        let asked = place.folder().join("asked");
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{}\ncase \"$1\" in\n--version) echo 'Docker version 20.10.24+dfsg1, build 1';;\nbuildx) exit 1;;\ninfo) {answer}\n;;\n{PULL}build) echo built >&2; exit 1;;\nesac\n",
            asked.display()
        );
        let file = folder.join("docker");
        write_program(&file, &script);
        place.set("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    }

    fn well() -> Self {
        Self { version: "20.10.24+dfsg1", complaint: "" }
    }

    fn complains(complaint: &'static str) -> Fake<'static> {
        Fake { version: "", complaint }
    }
}

/// Whether the engine was asked to build anything.
fn built(place: &Place) -> bool {
    let asked = std::fs::read_to_string(place.folder().join("asked")).unwrap_or_default();
    asked.lines().any(|line| line.starts_with("build ") || line.contains("buildx build"))
}

const CONFIG: &str = "platforms = [\"linux/amd64\"]\ntests = [\"true\"]\n";

fn one_image(text: &str) -> Place {
    Place::with(&[("polyarch.toml", CONFIG), ("a/Dockerfile", text)])
}

/// Let the scripted engine do something else when it is asked to build.
fn build_by(place: &Place, script: &str) {
    let file = place.folder().join("bin/docker");
    let before = std::fs::read_to_string(&file).unwrap();
    let after = before.replace("build) echo built >&2; exit 1;;", &format!("build) {script}\n;;"));
    assert_ne!(before, after);
    write_program(&file, &after);
}

/// What it says holds each of these.
#[track_caller]
fn says(answer: &Answer, texts: &[&str]) {
    for text in texts {
        assert!(answer.stderr.contains(text), "{text} is not in\n{}", answer.stderr);
    }
}

/// What is not waited for and what has no end would take far longer, however busy the machine is. How long things take is for
/// the benchmarks.
#[track_caller]
fn in_time(what: impl FnOnce() -> Answer) -> Answer {
    let started = Instant::now();
    let answer = what();
    assert!(started.elapsed() < Duration::from_secs(180), "it took {:?}", started.elapsed());
    answer
}

#[expect(clippy::disallowed_methods, reason = "a test makes what a person would make by hand")]
fn make_fifo(file: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").arg(file).status().unwrap();
    assert!(made.success());
}

#[test]
fn f_c1_a_pipe_is_not_waited_for() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    make_fifo(&place.family().join("polyarch.toml"));
    std::fs::create_dir(place.family().join("b")).unwrap();
    make_fifo(&place.family().join("b/Dockerfile"));
    let answer = in_time(|| place.run(&["plan"])).ended(2);
    says(
        &answer,
        &["--> polyarch.toml", "it is no ordinary file", "hint: see what is there: ls -lL polyarch.toml"],
    );
    std::fs::remove_file(place.family().join("polyarch.toml")).unwrap();
    let answer = in_time(|| place.run(&["plan"])).ended(2);
    says(&answer, &["--> b/Dockerfile", "it is no ordinary file"]);
}

#[test]
fn f_c1_a_link_to_nothing_is_named() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    symlink("gone", place.family().join("polyarch.toml")).unwrap();
    says(&place.run(&["plan"]).ended(2), &["--> polyarch.toml", "No such file"]);
}

#[test]
fn f_c3_a_file_of_two_gigabytes_and_one_without_end_are_refused_at_once() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    let file = std::fs::File::create(place.family().join("polyarch.toml")).unwrap();
    file.set_len(2 << 30).unwrap();
    let answer = in_time(|| place.run(&["plan"])).ended(2);
    says(&answer, &["--> polyarch.toml", "it has more than"]);
    let answer = in_time(|| place.run(&["--config", "/dev/zero", "plan"])).ended(2);
    says(&answer, &["--> /dev/zero", "it is no ordinary file"]);
    std::fs::remove_file(place.family().join("polyarch.toml")).unwrap();
    let file = std::fs::File::create(place.family().join("a/Dockerfile")).unwrap();
    file.set_len(2 << 30).unwrap();
    let answer = in_time(|| place.run(&["plan"])).ended(2);
    says(&answer, &["--> a/Dockerfile", "it has more than"]);
}

#[test]
fn f_c4_a_million_keys_are_refused_at_once() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    let keys: String = (0..1_000_000).map(|at| format!("k{at}=1\n")).collect();
    place.write("polyarch.toml", &keys);
    let answer = in_time(|| place.run(&["plan"])).ended(2);
    assert!(answer.stderr.lines().count() < 2000, "{} lines are told", answer.stderr.lines().count());
    says(&answer, &["polyarch.toml", "hint:"]);
}

#[test]
fn f_c15_special_files_are_passed_over_and_loops_and_names_are_borne() {
    let place = one_image("FROM scratch\nCOPY . /\n");
    let folder = place.family().join("a");
    make_fifo(&folder.join("pipe"));
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    symlink("loop", folder.join("loop")).unwrap();
    symlink("..", folder.join("up")).unwrap();
    symlink("/etc/shadow", folder.join("out")).unwrap();
    std::fs::write(folder.join("line\nend"), "x").unwrap();
    let answer = in_time(|| place.run(&["plan"])).well();
    says(&answer, &["warning: passed over", "--> a/pipe", "--> a/socket"]);
    assert!(!answer.stderr.contains("loop") && !answer.stderr.contains("--> a/out"), "{}", answer.stderr);
    let why = place.run(&["why", "a"]).well();
    assert!(
        why.stdout.contains("file:out = link /etc/shadow"),
        "a link counts by its target: {}",
        why.stdout
    );
}

#[test]
fn f_c15_a_family_folder_that_links_to_itself_ends() {
    let place = one_image("FROM scratch\n");
    symlink(".", place.family().join("again")).unwrap();
    symlink("/", place.family().join("root")).unwrap();
    let answer = in_time(|| place.run(&["plan"])).well();
    assert!(answer.stdout.contains("1 job: 1 to build"), "{}", answer.stdout);
}

#[test]
fn f_c16_five_thousand_images_and_a_chain_of_five_hundred() {
    let place = Place::with(&[("polyarch.toml", CONFIG)]);
    for at in 0..5000 {
        let from = if at % 500 == 0 { "scratch".to_owned() } else { format!("i{}", at - 1) };
        place.write(&format!("i{at}/Dockerfile"), &format!("FROM {from}\n"));
    }
    let answer = in_time(|| place.run(&["plan"])).well();
    assert!(answer.stdout.contains("5000 jobs: 5000 to build"));
}

#[test]
fn f_c18_a_secret_that_is_not_there_is_told_before_anything_is_built() {
    let config =
        format!("{CONFIG}secrets = {{ pip = {{ env = \"PIP_TOKEN\" }}, key = {{ file = \"key\" }} }}\n");
    let text = "FROM scratch\nRUN --mount=type=secret,id=pip --mount=type=secret,id=key true\nRUN --mount=type=secret,id=more,required true\n";
    let mut place = Place::with(&[("polyarch.toml", &config), ("a/Dockerfile", text)]);
    Fake::well().install(&mut place);
    for state in ["not set", "empty"] {
        let answer = place.run(&["build"]).ended(2);
        says(
            &answer,
            &[
                &format!("the variable PIP_TOKEN is {state}"),
                "hint: set it: export PIP_TOKEN=",
                "there is no file key",
                "the secret `more` is required by `a`",
                "--> a/Dockerfile:3:1",
                "hint: write `secrets = { more = { env = \"MORE\" } }` in `[image.a]`",
            ],
        );
        assert!(!built(&place) && !place.store().join("runs").exists(), "nothing was begun");
        place.set("PIP_TOKEN", "");
    }
}

#[test]
fn f_c19_a_file_changed_in_the_run_is_told_and_does_not_count() {
    let mut place = one_image("FROM scratch\nLABEL first=1\n");
    let folder = place.folder().join("bin");
    Fake::well().install(&mut place);
    // The engine edits the family while it is asked what it is.
    let file = folder.join("docker");
    let script = std::fs::read_to_string(&file).unwrap();
    let edit = format!(
        "#!/bin/sh\ncase \"$1\" in build) cat >{0}/sent; echo 'LABEL second=2' >>{1}/a/Dockerfile; echo '# more' >>{1}/polyarch.toml;; esac\n",
        place.folder().display(),
        place.family().display(),
    );
    write_program(&file, &script.replacen("#!/bin/sh\n", &edit, 1));
    let answer = place.run(&["build"]);
    says(
        &answer,
        &["warning: the file changed while the run went on", "--> a/Dockerfile", "--> polyarch.toml"],
    );
    assert!(built(&place));
}

/// A registry on loopback that answers everything with one status.
fn refusing_registry(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn f_d7_a_base_that_is_not_there_is_told_with_its_line_before_anything_is_built() {
    for status in ["404 Not Found", "401 Unauthorized", "503 Service Unavailable"] {
        let registry = refusing_registry(status);
        let mut place = one_image(&format!("# base\nFROM {registry}/library/gone:1\n"));
        Fake::well().install(&mut place);
        let plan = in_time(|| place.run(&["plan"])).well();
        says(&plan, &["warning: base image", "--> a/Dockerfile:2:6"]);
        assert!(plan.stdout.contains("is unknown"), "{}", plan.stdout);
        let answer = in_time(|| place.run(&["build"])).ended(3);
        says(
            &answer,
            &[
                &format!("error: base image {registry}/library/gone:1 of `a` is unknown"),
                "--> a/Dockerfile:2:6",
                &format!("hint: see whether it is there: polyarch inspect {registry}/library/gone:1"),
                &format!("docker login {registry}"),
            ],
        );
        assert!(!built(&place) && !place.store().join("runs").exists(), "nothing was begun");
    }
}

/// A registry on loopback, as long as this lives.
struct Registry {
    runtime: tokio::runtime::Runtime,
    store: std::sync::Arc<Memory>,
    address: std::net::SocketAddr,
}

impl Registry {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = std::sync::Arc::new(Memory::new());
        let router = server::router(store.clone(), server::Access::open());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(server::serve(listener, router, std::future::pending()));
        Self { runtime, store, address }
    }

    /// Put `library/base:latest` there, for one architecture.
    fn push(&self, architecture: &str, author: &str) -> Digest {
        let config = format!(
            r#"{{"os":"linux","architecture":"{architecture}","author":"{author}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        let manifest = Manifest::new(Descriptor::of(MediaType::CONFIG, config.as_bytes()), Vec::new());
        let document = Document::of_manifest(&manifest);
        let repository = "library/base".parse().unwrap();
        self.runtime.block_on(async {
            self.store.write_blob(&repository, config.into_bytes().into()).await.unwrap();
            self.store.write_document(&repository, &document, &["latest".parse().unwrap()]).await.unwrap();
        });
        document.digest().clone()
    }
}

#[test]
fn f_d5_a_tag_that_moves_after_the_plan_is_not_followed() {
    let registry = Registry::start();
    let planned = registry.push("amd64", "first");
    let mut place = one_image(&format!("FROM {}/library/base\n", registry.address));
    Fake::well().install(&mut place);
    let folder = place.folder().display().to_string();
    // The engine says what it is once the tag has moved; what it is told to build is kept.
    let file = place.folder().join("bin/docker");
    let script = std::fs::read_to_string(&file).unwrap();
    let waits = format!("info) while [ ! -e {folder}/moved ]; do sleep 0.05; done; ");
    write_program(&file, &script.replacen("info) ", &waits, 1));
    let keep = "for a in \"$@\"; do a=${a#--file=}; [ -f \"$a\" ] && cat \"$a\"; done";
    build_by(&place, &format!("{{ cat; {keep}; }} >{folder}/sent; exit 1"));
    let child = place.start(&["build"]);
    wait_for("the engine is asked", || {
        std::fs::read_to_string(place.folder().join("asked")).unwrap_or_default().contains("info")
    });
    let moved = registry.push("amd64", "second");
    std::fs::write(place.folder().join("moved"), "").unwrap();
    let answer: Answer = child.wait_with_output().unwrap().into();
    let answer = answer.ended(1);
    let sent = std::fs::read(place.folder().join("sent")).unwrap();
    let sent = String::from_utf8_lossy(&sent);
    assert!(sent.contains(planned.hex()), "{sent}\n{}", answer.stderr);
    assert!(!sent.contains(moved.hex()) && planned != moved);
}

#[test]
fn law_6_a_plan_that_was_settled_stands_on_its_bases_wherever_tags_move() {
    let registry = Registry::start();
    registry.push("amd64", "first");
    let place = one_image(&format!("FROM {}/library/base\n", registry.address));
    let file = place.folder().join("plan.json").display().to_string();
    drop(place.run(&["plan", "--out", &file]).well());
    let before = place.run(&["why", "a"]).well().stdout;
    registry.push("amd64", "second");
    assert_ne!(place.run(&["why", "a"]).well().stdout, before, "the tag has moved");
    // Its keys are those of the file, or it would be refused.
    drop(place.run(&["build", "--plan", &file, "--dry-run"]).well());
    let text = std::fs::read_to_string(&file).unwrap();
    let unpinned = text.replace(&format!("{}/library/base", registry.address), "x.example/base");
    std::fs::write(&file, unpinned).unwrap();
    let refused = place.run(&["build", "--plan", &file, "--dry-run"]).ended(2);
    assert!(refused.stderr.contains("its inputs are others than in the plan"), "{}", refused.stderr);
}

#[test]
fn f_d6_a_base_without_the_platform_is_told_before_anything_is_built() {
    let registry = Registry::start();
    let base = format!("{}/library/base@{}", registry.address, registry.push("arm64", ""));
    let mut place = one_image(&format!("FROM {base}\n"));
    Fake::well().install(&mut place);
    let answer = place.run(&["build"]).ended(2);
    says(
        &answer,
        &[
            "is not there for linux/amd64, which `a` is for",
            "--> a/Dockerfile:1:6",
            "caused by: it is there for linux/arm64",
            "platforms = [\"linux/arm64\"]",
        ],
    );
    assert!(!built(&place), "nothing was begun");
    says(&place.run(&["plan"]).well(), &["warning: base image"]);
}

#[test]
fn a_dockerfile_that_the_engine_is_too_old_for_is_refused_with_its_line() {
    let text = "FROM scratch\nCOPY --link x /\nRUN <<EOF\ntrue\nEOF\n";
    let mut place = Place::with(&[("polyarch.toml", CONFIG), ("a/Dockerfile", text), ("a/x", "x")]);
    Fake::well().install(&mut place);
    let answer = place.run(&["build"]).ended(3);
    says(
        &answer,
        &[
            "does not understand",
            "--> a/Dockerfile:2:1",
            "--> a/Dockerfile:3:1",
            "sed -i '1i # syntax=docker/dockerfile:1' a/Dockerfile",
        ],
    );
    assert!(!built(&place));
    Fake { version: "26.1.5", complaint: "" }.install(&mut place);
    let answer = place.run(&["build"]).ended(1);
    assert!(built(&place) && !answer.stderr.contains("does not understand"), "{}", answer.stderr);
}

#[test]
fn f_g1_each_engine_that_cannot_be_used_is_told_with_what_mends_it() {
    let check = |fake: &Fake<'_>, texts: &[&str]| {
        let mut place = one_image("FROM scratch\n");
        fake.install(&mut place);
        for command in ["build", "doctor"] {
            let answer = place.run(&[command]).ended(3);
            says(&answer, texts);
            says(&answer, &["hint: "]);
        }
        assert!(!built(&place));
    };
    check(
        &Fake::complains(
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        ),
        &[
            "no Docker Engine answers at unix:///var/run/docker.sock",
            "sudo systemctl start docker",
            "polyarch doctor",
        ],
    );
    check(
        &Fake::complains(
            "permission denied while trying to connect to the Docker daemon socket: dial unix /var/run/docker.sock: connect: permission denied",
        ),
        &["this user may not speak to the Docker Engine", "sudo usermod -aG docker $USER"],
    );
    check(
        &Fake::complains(
            "Error response from daemon: client version 1.99 is too new. Maximum supported API version is 1.41",
        ),
        &["older than its client", "unset DOCKER_API_VERSION"],
    );
    check(
        &Fake { version: "19.03.8", complaint: "" },
        &["has version 19.03.8, which is too old: 20.10 or newer is needed", "apt-get install docker.io"],
    );
    let mut place = one_image("FROM scratch\n");
    place.set("PATH", place.folder().join("nothing"));
    let answer = place.run(&["build"]).ended(3);
    says(
        &answer,
        &["there is no `docker` on the search path", "sudo apt-get install docker.io", "polyarch doctor"],
    );
}

#[test]
fn f_g15_a_platform_that_no_builder_has_is_told_before_anything_is_built() {
    let config = "platforms = [\"linux/amd64\", \"linux/s390x\", \"linux/ppc64le\"]\ntests = [\"true\"]\n";
    let mut place = Place::with(&[("polyarch.toml", config), ("a/Dockerfile", "FROM scratch\n")]);
    Fake::well().install(&mut place);
    let answer = place.run(&["build", "--emulate=refuse"]).ended(3);
    says(&answer, &["no builder runs linux/s390x", "no builder runs linux/ppc64le", "hint: "]);
    assert!(!built(&place), "{}", answer.stderr);
}

#[test]
fn f_g15_a_platform_that_a_builder_is_kept_from_is_told_with_the_builder() {
    let config =
        "platforms = [\"linux/386\"]\n[builder.laptop]\nengine = \"docker\"\nplatforms = [\"linux/amd64\"]\n";
    let mut place = Place::with(&[("polyarch.toml", config), ("a/Dockerfile", "FROM scratch\n")]);
    Fake::well().install(&mut place);
    let hint = "builder laptop could, and its `platforms` leave it out: add linux/386 to them";
    says(&place.run(&["build"]).ended(3), &["no builder runs linux/386", hint]);
    assert!(!built(&place));
}

#[test]
fn f_g7_f_g15_emulation_is_not_chosen_silently() {
    // Where this machine emulates nothing, the platform has no builder at all; in both cases nothing is built.
    let config = "platforms = [\"linux/arm64\"]\ntests = [\"true\"]\n";
    let mut place = Place::with(&[("polyarch.toml", config), ("a/Dockerfile", "FROM scratch\n")]);
    Fake::well().install(&mut place);
    let answer = place.run(&["build"]).ended(3);
    says(&answer, &["no builder runs linux/arm64"]);
    assert!(!built(&place));
}

#[test]
fn f_g7_a_program_of_another_platform_is_the_image_s_own_fault_on_a_native_machine() {
    let mut place = one_image("FROM scratch\nRUN true\n");
    Fake::well().install(&mut place);
    let output = [
        "#5 [1/1] RUN true",
        "#5 0.152 exec /bin/sh: exec format error",
        "#5 ERROR: process \"/bin/sh -c true\" did not complete successfully: exit code: 1",
    ];
    build_by(&place, &format!("cat >&2 <<'EOF'\n{}\nEOF\nexit 1", output.join("\n")));
    // The machine is of that platform: it is the image that is not.
    let answer = place.run(&["build"]).ended(1);
    says(&answer, &["exec format error", "runs programs of linux/amd64 itself"]);
}

#[test]
fn a_failure_is_told_once_and_in_full() {
    let mut place = one_image("FROM scratch\nRUN false\n");
    place.write("b/Dockerfile", "FROM a\n");
    Fake::well().install(&mut place);
    build_by(
        &place,
        "printf '#5 [1/1] RUN false\\n#5 0.1 a last word\\n#5 ERROR: exit code: 1\\n' >&2; exit 1",
    );
    let answer = place.run(&["build", "--quiet"]).ended(1);
    says(&answer, &["caused by: a last word", "less ", "b@linux/amd64: because of a@linux/amd64"]);
    assert_eq!(answer.stderr.matches("RUN false failed").count(), 1, "{}", answer.stderr);
}

#[test]
fn f_g4_an_engine_that_says_it_built_and_pushed_nothing_is_not_believed() {
    let mut place = one_image("FROM scratch\n");
    Fake::well().install(&mut place);
    build_by(&place, "exit 0");
    let answer = place.run(&["build"]).ended(3);
    says(&answer, &["a@linux/amd64", "hint: "]);
    let again = place.run(&["plan"]).well();
    assert!(again.stdout.contains("1 to build"), "no record is kept: {}", again.stdout);
}

#[expect(clippy::disallowed_methods, reason = "a test presses what a person would press")]
fn interrupt(process: &str) {
    assert!(std::process::Command::new("kill").args(["-INT", process]).status().unwrap().success());
}

#[test]
fn f_p3_sigint_ends_a_build_at_once_and_leaves_no_file() {
    let mut place = one_image("FROM scratch\n");
    Fake::well().install(&mut place);
    build_by(&place, "sleep 600");
    let child = place.start(&["build"]);
    wait_for("the build begins", || built(&place));
    let process = child.id().to_string();
    let asked = Instant::now();
    interrupt(&process);
    let answer: Answer = child.wait_with_output().unwrap().into();
    let answer = answer.ended(130);
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    says(&answer, &["the same command goes on from here"]);
    for run in std::fs::read_dir(place.store().join("runs")).unwrap() {
        assert!(!run.unwrap().path().join("tmp").exists(), "no temporary file is left");
    }
}

#[test]
fn tm30_links_in_the_place_of_our_folders_are_not_followed() {
    let mut planned = one_image("FROM scratch\n");
    let elsewhere = planned.folder().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    Fake::well().install(&mut planned);
    let _failed = planned.run(&["build"]).ended(1);
    let runs = planned.store().join("runs");
    let mode = std::fs::metadata(&runs).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "what a run leaves is for its user alone");
    std::fs::remove_dir_all(&runs).unwrap();
    symlink(&elsewhere, &runs).unwrap();
    let answer = planned.run(&["build"]).ended(3);
    says(&answer, &["runs", "hint: "]);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing is written through the link");
    std::fs::remove_file(&runs).unwrap();
    std::fs::create_dir(&runs).unwrap();
    if std::os::unix::fs::chown(&runs, Some(65534), None).is_err() {
        return skip("tm30 with two users", "only root can give a folder to another user");
    }
    says(&planned.run(&["build"]).ended(3), &["it belongs to another user"]);
    assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 0, "nothing is written into it");
}

#[test]
fn f_c17_the_value_of_a_secret_in_a_label_or_an_argument_is_refused() {
    let mut place = Place::with(&[
        (
            "polyarch.toml",
            "[image.a]\nlabels = { note = \"it is hunter2hunter2\" }\nsecrets = { token = { env = \"TOKEN\" } }\n",
        ),
        ("a/Dockerfile", "FROM scratch\nARG WORD\nRUN --mount=type=secret,id=token true\n"),
    ]);
    place.set("TOKEN", "hunter2hunter2");
    let answer = place.run(&["build", "--build-arg", "WORD=hunter2hunter2"]).ended(4);
    assert!(answer.stderr.contains("the label note of `a` holds the value of a secret"), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("the build argument WORD of `a` holds the value of a secret"),
        "{}",
        answer.stderr
    );
    assert!(!answer.stderr.contains("hunter2hunter2"), "{}", answer.stderr);
    place.set("TOKEN", "another value");
    let answer = place.run(&["build", "--dry-run"]).well();
    assert!(answer.stdout.contains("1 to build"), "{}", answer.stdout);
}

#[test]
fn a_registry_that_fails_doctor_is_told_with_what_mends_it() {
    for (registry, hint) in [
        ("127.0.0.1:1".to_owned(), "hint: see whether it answers: curl http://127.0.0.1:1/v2/"),
        ("nosuch.invalid".to_owned(), "getent hosts nosuch.invalid"),
        (refusing_registry("401 Unauthorized"), "hint: log in: docker login 127.0.0.1:"),
    ] {
        let mut place = one_image("FROM scratch\n");
        place.write("polyarch.toml", &format!("platforms = [\"linux/amd64\"]\nregistry = \"{registry}\"\n"));
        Fake::well().install(&mut place);
        let answer = place.run(&["doctor"]).ended(3);
        says(&answer, &[&format!("registry {registry} does not answer"), hint]);
        assert_eq!(
            answer.stderr.contains("docker login"),
            hint.contains("docker login"),
            "{}",
            answer.stderr
        );
    }
}

#[test]
fn i_x3_i_x4_every_run_leaves_a_report_with_the_exit_code_that_it_ends_with() {
    let failing = "printf '#5 [1/1] RUN false\\n#5 0.1 a last word\\n#5 ERROR: exit code: 1\\n' >&2; exit 1";
    let table: [(&str, Fake<'_>, &str, &[&str], i32); 5] = [
        ("a step fails", Fake::well(), failing, &[], 1),
        ("nothing is pushed", Fake::well(), "exit 0", &[], 3),
        ("no engine answers", Fake::complains("Cannot connect to the Docker daemon"), "exit 1", &[], 3),
        ("it is too old", Fake { version: "19.03.8", complaint: "" }, "exit 1", &[], 3),
        ("no context is called so", Fake::well(), "exit 1", &["--builder", "context:nowhere"], 2),
    ];
    for (what, fake, script, arguments, code) in table {
        let mut place = one_image("FROM scratch\nRUN false\n");
        fake.install(&mut place);
        build_by(&place, script);
        let answer = place.run(&[&["build"], arguments].concat()).ended(code);
        let run = place.newest_run().unwrap_or_else(|| panic!("{what}: {}", answer.stderr));
        let report = std::fs::read(run.join("report.json")).unwrap_or_else(|error| panic!("{what}: {error}"));
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["exit_code"], code, "{what}: {report}");
        let last = place.events().pop().unwrap();
        assert_eq!((&last["event"], &last["exit_code"]), (&"run-ended".into(), &code.into()), "{what}");
        // What is wrong, and what to do about it; of a mistake of ours nothing.
        says(&answer, &["error: ", "hint: ", "report.json"]);
        assert!(!answer.stderr.contains("panicked"), "{what}: {}", answer.stderr);
    }
}

#[test]
fn tm5_what_is_no_file_of_an_export_is_told_as_that() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    let files: [(&str, &[u8], &str); 4] = [
        ("packed.tar", b"\x1f\x8b\x08\0\0\0\0\0", "it is compressed with gzip"),
        ("tight.tar", b"\x28\xb5\x2f\xfd\0", "it is compressed with Zstandard"),
        ("noise.tar", &[b'x'; 2048], "it is no archive"),
        ("empty.tar", b"", "there is nothing in it"),
    ];
    for (name, bytes, why) in files {
        std::fs::write(place.family().join(name), bytes).unwrap();
        let answer = place.run(&["import", name]).ended(2);
        says(&answer, &[&format!("{name} is no file of polyarch export --delta"), why, "hint: "]);
    }
}

#[test]
fn f_u1_a_command_that_reads_makes_no_store_where_none_is() {
    let place = Place::with(&[("polyarch.toml", CONFIG), ("a/Dockerfile", "FROM scratch\n")]);
    let reading: [(&[&str], i32); 6] = [
        (&["plan"], 0),
        (&["why", "a"], 0),
        (&["simulate"], 0),
        (&["export", "a"], 2),
        (&["inspect", "a"], 2),
        (&["gc"], 2),
    ];
    for (command, code) in reading {
        let answer = place.run(&[command, &["--store", "typo"]].concat()).ended(code);
        says(&answer, &["there is no store in typo", "polyarch --store typo build"]);
        assert!(!place.family().join("typo").exists(), "{command:?}");
    }
}

#[test]
fn f_u1_a_builder_or_a_number_that_is_mistyped_is_told_in_words() {
    let place = one_image("FROM scratch\n");
    let twice = place.run(&["plan", "--builder", "docker", "--builder", "docker"]).ended(2);
    says(&twice, &["--builder says twice what docker is", "hint: name it once"]);
    for (number, why) in
        [("x", "`x` is no number for `--slots`"), ("0", "`--slots` is not between 1 and 1024")]
    {
        says(&place.run(&["plan", "--slots", number]).ended(2), &[why]);
    }
}
