//! Builders that do not reach the store, on hosts of their own: fed through the session of each build.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::engines::{Engine, FOUNDATION, ended, inspected, jobs, layers, root_file_systems, tags, wait_for};
use super::hosts::{Hosts, builders, in_the_middle, link, slowly};
use crate::program::{Answer, Beside, Place, skip, variable};

const ALL: &str = "root@linux/amd64 root@linux/386 leaf@linux/amd64 leaf@linux/386";

/// A family, and the hosts.
fn family(test: &str, configuration: &str) -> Option<(Place, Hosts)> {
    let mut place = laid_out(configuration);
    let hosts = Hosts::reached_from(test, &mut place)?;
    root_file_systems(test, &place, "root", &["amd64", "386"]).then_some((place, hosts))
}

/// The files of the family, but for the root file systems.
fn laid_out(configuration: &str) -> Place {
    let leaf = "FROM root\nCOPY --from=root /made /copied\nRUN --mount=from=root,target=/root \
                cat /root/made /copied >> /made && mkdir -p /etc && \
                touch /etc/passwd /etc/group\nUSER 1000\n";
    Place::with(&[
        ("polyarch.toml", configuration),
        ("root/Dockerfile", &format!("{FOUNDATION}RUN echo well > /made\n")),
        ("leaf/Dockerfile", leaf),
    ])
}

/// The configuration of a builder at the address of a host.
fn over_tcp(place: &Place, hosts: &Hosts, host: &str, whose: &str) -> String {
    let certificates = place.family().join(whose);
    if !certificates.exists() {
        std::os::unix::fs::symlink(hosts.certificates(whose), &certificates).expect("a link");
    }
    format!("\n[builder.{host}]\nengine = \"{}\"\ncertificates = \"{whose}\"\n", hosts.engine(host))
}

/// A builder of buildx at the BuildKit of a host without an engine; `None`, having said why, where there is none.
fn buildx(test: &str, place: &mut Place, hosts: &Hosts) -> Option<()> {
    buildx_with(test, place, hosts, &[])
}

/// The same, made with more arguments.
fn buildx_with(test: &str, place: &mut Place, hosts: &Hosts, more: &[&str]) -> Option<()> {
    let Some(address) = variable("POLYARCH_TEST_BUILDKIT").and_then(|address| address.into_string().ok())
    else {
        skip(test, "POLYARCH_TEST_BUILDKIT names no BuildKit");
        return None;
    };
    place.set("BUILDX_CONFIG", place.folder().join("buildx"));
    let file = |name: &str| hosts.certificates("client").join(name).display().to_string();
    let options = format!("cacert={},cert={},key={}", file("ca.pem"), file("cert.pem"), file("key.pem"));
    let create = ["buildx", "create", "--name", "north", "--driver", "remote", "--driver-opt", &options];
    place.ask("docker", &[&create[..], more, &[&address]].concat());
    Some(())
}

/// A builder of buildx that has its BuildKit in a container of an engine; removed with all that is of it.
struct InContainer<'a> {
    place: &'a Place,
    name: String,
}

impl<'a> InContainer<'a> {
    /// `None`, having said why, where there is no image to start.
    fn of(test: &str, place: &'a Place) -> Option<Self> {
        let Some(image) = variable("POLYARCH_TEST_BUILDKIT_IMAGE").and_then(|image| image.into_string().ok())
        else {
            skip(test, "POLYARCH_TEST_BUILDKIT_IMAGE names no image of BuildKit");
            return None;
        };
        let name = format!("polyarch-{}", std::process::id());
        let image = format!("image={image}");
        let create =
            ["buildx", "create", "--name", &name, "--driver", "docker-container", "--driver-opt", &image];
        place.ask("docker", &create);
        Some(Self { place, name })
    }

    /// The container that buildx starts once the builder is wanted.
    fn container(&self) -> String {
        format!("buildx_buildkit_{}0", self.name)
    }
}

impl Drop for InContainer<'_> {
    fn drop(&mut self) {
        let _ = self.place.program("docker").args(["buildx", "rm", &self.name]).output();
    }
}

#[test]
fn a_plan_says_how_builders_are_fed_and_what_cannot_be_done_there() {
    let test = "apart::a_plan_says_how_builders_are_fed_and_what_cannot_be_done_there";
    let host_test = "tests = [{ host = \"docker run --rm --network none $POLYARCH_IMAGE cat /made\" }]";
    let amd64 = FAMILY.replace(", \"linux/386\"", "");
    let Some((mut place, hosts)) = family(test, &format!("{amd64}\n[image.root]\n{host_test}\n")) else {
        return;
    };
    let Some(()) = buildx(test, &mut place, &hosts) else { return };
    let table: [(&[&str], i32, &[&str]); 4] = [
        (
            &["x=ssh://west"],
            0,
            &["x: docker at ssh://west, ", "content: pulled from the store", "checks: in containers"],
        ),
        (
            &["x=ssh://closed-east"],
            0,
            &["content: through the session of each build", "checks: in containers"],
        ),
        (&["x=ssh://closed-west"], 0, &["content: loaded and saved as archives"]),
        (
            &["buildx:north"],
            3,
            &[
                "content: through the session",
                "checks: as steps of builds upon the image",
                "keeps no image for tests on this machine",
            ],
        ),
    ];
    for (builders, code, told) in table {
        let arguments: Vec<&str> = builders.iter().flat_map(|builder| ["--builder", builder]).collect();
        let answer = place.run(&[&["plan"], &arguments[..]].concat()).ended(code);
        for told in told {
            assert!(answer.stdout.contains(told), "{told}: {}", answer.stdout);
        }
        let refused =
            answer.stderr.contains("tests on this machine, and every builder for linux/amd64 only builds");
        assert_eq!(refused, code != 0, "{}", answer.stderr);
    }
    let plain = place.run(&["plan"]).well();
    assert!(!plain.stdout.contains("content: "), "nobody is asked unless that is wanted: {}", plain.stdout);
    assert_eq!(place.newest_run(), None, "nothing was run");
}

const FAMILY: &str = r#"
name = "apart"
platforms = ["linux/amd64", "linux/386"]
tags.common = ["latest"]
tests = [{ run = "cat /made", stdout = "well" }]

[image.leaf]
tags = [{ tag = "user-{0}", run = "id -u" }]
describe = [{ title = "Words", run = "cat <<END\nit is\t\"$(cat /made | wc -l)\" lines\nEND" }]
"#;

/// The family is built and published whole: each image on the very layers of its parent, its checks as it says.
#[track_caller]
fn is_whole(place: &Place) {
    assert_eq!(ended(place, "built"), jobs(ALL));
    let (root, leaf) = (inspected(place, "apart/root:latest"), inspected(place, "apart/leaf:latest"));
    for platform in ["linux/amd64", "linux/386"] {
        let (root, leaf) = (layers(&root, platform), layers(&leaf, platform));
        assert_eq!(leaf[..root.len()], root, "a child has the very layers of its parent");
        assert_eq!(leaf.len(), root.len() + 2);
    }
    assert!(tags(place, "apart/leaf").keys().any(|tag| tag.contains("user-1000")));
    let log = place.log("leaf.linux-386");
    assert!(log.contains("it is\t\"3\" lines"), "{log}");
    let folders: Vec<_> = std::fs::read_dir(place.store()).expect("a store").flatten().collect();
    assert!(folders.iter().all(|folder| folder.file_name() != "ingest"), "clients make nothing in the store");
}

#[test]
fn an_engine_over_tcp_is_fed_through_the_session_of_each_build() {
    let test = "an_engine_over_tcp_is_fed_through_the_session_of_each_build";
    let Some((place, hosts)) = family(test, FAMILY) else { return };
    place.write("polyarch.toml", &(FAMILY.to_owned() + &over_tcp(&place, &hosts, "east", "client")));
    let before = hosts.before(&place, "east");
    let _ = place.run(&["build", "--publish"]).well();
    is_whole(&place);
    before.still_stands(&place, &hosts);
    let doctor = place.run(&["doctor"]).well();
    assert!(doctor.stdout.contains("content: through the session of each build"), "{}", doctor.stdout);
}

#[test]
fn an_ssh_server_that_forwards_nothing_is_no_hindrance() {
    let test = "an_ssh_server_that_forwards_nothing_is_no_hindrance";
    let Some((place, hosts)) = family(test, FAMILY) else { return };
    let before = hosts.before(&place, "east");
    let closed = ["--builder", "east=ssh://closed-east"];
    let answer = place.run(&[&["build", "--publish"], &closed[..]].concat()).well();
    is_whole(&place);
    before.still_stands(&place, &hosts);
    let hint = "allow it on closed-east: AllowTcpForwarding yes";
    assert!(answer.stderr.contains(hint), "{}", answer.stderr);
    let doctor = place.run(&[&["doctor"], &closed[..]].concat()).well();
    assert!(doctor.stdout.contains(hint), "{}", doctor.stdout);
    let begun = |line: &str| ["ok  ", "note", "    "].iter().any(|begin| line.starts_with(begin));
    assert!(doctor.stdout.lines().all(begun), "{}", doctor.stdout);
    let plan = place.run(&[&["plan"], &closed[..]].concat()).well();
    assert!(plan.stderr.contains(hint), "{}", plan.stderr);
    let open = place.run(&["doctor", "--builder", "east=ssh://east"]).well();
    assert!(!open.stdout.contains("AllowTcpForwarding"), "{}", open.stdout);
}

#[test]
fn certificates_of_the_environment_are_for_tcp_and_named_from_where_one_stands() {
    let test = "certificates_of_the_environment_are_for_tcp_and_named_from_where_one_stands";
    let Some((mut place, hosts)) = family(test, FAMILY) else { return };
    let _ = over_tcp(&place, &hosts, "east", "client");
    place.set("DOCKER_TLS_VERIFY", "1");
    place.set("DOCKER_CERT_PATH", "./client");
    let east = format!("tcp={}", hosts.engine("east"));
    for builders in [["ssh=ssh://west", &east], ["ssh=ssh://closed-west", &east]] {
        let arguments: Vec<&str> = builders.iter().flat_map(|builder| ["--builder", builder]).collect();
        let doctor = place.run(&[&["doctor"], &arguments[..]].concat()).well();
        for builder in ["ok    ssh: docker", "ok    tcp: docker"] {
            assert!(doctor.stdout.contains(builder), "{}", doctor.stdout);
        }
    }
}

#[test]
fn a_classic_store_that_is_not_reached_is_fed_by_load_and_save() {
    let test = "a_classic_store_that_is_not_reached_is_fed_by_load_and_save";
    let Some((place, hosts)) = family(test, FAMILY) else { return };
    let over_tcp = FAMILY.to_owned() + &over_tcp(&place, &hosts, "west", "client");
    let before = hosts.before(&place, "west");
    for (configuration, builder) in
        [(FAMILY, &["--builder", "west=ssh://closed-west"][..]), (&*over_tcp, &[])]
    {
        place.write("polyarch.toml", configuration);
        let answer = place.run(&[&["build", "--no-reuse", "--publish"], builder].concat()).well();
        let told = "builder west does not reach the store: images were loaded and saved whole";
        assert!(answer.stderr.contains(told), "{}", answer.stderr);
        is_whole(&place);
        before.still_stands(&place, &hosts);
    }
    let doctor = place.run(&["doctor"]).well();
    assert!(doctor.stdout.contains("content: loaded and saved as archives"), "{}", doctor.stdout);
}

#[test]
fn a_socket_that_leads_to_where_the_store_is_not_reached_is_fed_otherwise() {
    let test = "a_socket_that_leads_to_where_the_store_is_not_reached_is_fed_otherwise";
    let Some((place, hosts)) = family(test, FAMILY) else { return };
    let table = [("east", "through the session of each build"), ("west", "loaded and saved as archives")];
    for (host, content) in table {
        let socket = format!("{host}=unix://{}", hosts.socket(host).display());
        let builder = ["--builder", &*socket];
        let before = hosts.before(&place, host);
        let doctor = place.run(&[&["doctor"], &builder[..]].concat()).well();
        assert!(doctor.stdout.contains(&format!("content: {content}")), "{}", doctor.stdout);
        let (_, told) = doctor.stdout.split_once("does not reach the store at ").expect(&doctor.stdout);
        let at = told.lines().next().expect("an address").to_owned();
        assert!(told.contains("connection refused"), "{told}");

        // Another registry at that address of the other machine, which takes whatever password there is.
        let other = place.folder().join("other");
        let mut serve = place.program("nsenter");
        serve.arg(format!("--net=/run/netns/polyarch-{host}")).arg(env!("CARGO_BIN_EXE_polyarch"));
        serve.arg("--store").arg(&other).args(["serve", "--anonymous-writes", "--listen", &at]);
        let other = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("another registry");
        let mut other = Beside(other);
        let mut said = String::new();
        let mut output = BufReader::new(other.0.stdout.take().expect("its output"));
        output.read_line(&mut said).expect("serve says where");
        assert_eq!(said.trim(), at);
        let plan = place.run(&[&["plan", "--builders"], &builder[..]].concat()).well();
        let doctor = place.run(&[&["doctor"], &builder[..]].concat()).well();
        let _ = place.run(&[&["build", "--no-reuse", "--publish"], &builder[..]].concat()).well();
        drop(other);
        is_whole(&place);
        assert!(plan.stdout.contains(content), "{}", plan.stdout);
        assert!(doctor.stdout.contains(content) && !doctor.stdout.contains("refused"), "{}", doctor.stdout);
        before.still_stands(&place, &hosts);
    }
    let near = ["--builder", "near=docker"];
    let mut here = place;
    assert!(Engine::Containerd.equip(test, &mut here));
    let doctor = here.run(&[&["doctor"], &near[..]].concat()).well();
    assert!(doctor.stdout.contains("content: pulled from the store"), "{}", doctor.stdout);
}

#[test]
fn a_builder_of_buildx_builds_and_checks_without_containers() {
    let test = "a_builder_of_buildx_builds_and_checks_without_containers";
    let Some((mut place, hosts)) = family(test, FAMILY) else { return };
    let Some(()) = buildx(test, &mut place, &hosts) else { return };
    let north = ["--builder", "north=buildx:north", "--slots", "2"];
    let _ = place.run(&[&["build", "--publish"], &north[..]].concat()).well();
    is_whole(&place);

    // What a check says is what it says, and nothing of this machine.
    std::fs::write(place.folder().join("canary"), "canary-9c1e").expect("a canary");
    let link = format!("ln -sf {} /.polyarch/stdout", place.folder().join("canary").display());
    let table = [
        ("{ run = \"echo it is; exit 7\" }".to_owned(), 1, "ended with exit code 7"),
        ("{ run = \"kill -9 $$\" }".to_owned(), 1, "ended with exit code 137"),
        ("{ run = \"sleep 60\", time-limit = \"3s\" }".to_owned(), 1, "took longer than 3 s"),
        (format!("{{ run = \"{link}\" }}"), 3, "what a command said"),
    ];
    for (check, code, problem) in table {
        place.write(
            "polyarch.toml",
            &format!("{FAMILY}tests = [{check}]\n").replace("[image.leaf]", "[image.root]"),
        );
        let answer = place.run(&[&["build", "root@linux/amd64"], &north[..]].concat()).ended(code);
        assert!(answer.stderr.contains(problem), "{check}: {}", answer.stderr);
        assert!(!answer.stderr.contains("canary-9c1e"), "{}", answer.stderr);
    }

    place.write("polyarch.toml", &format!("{FAMILY}tests = [{{ host = \"true\" }}]\n"));
    let answer = place.run(&[&["build"], &north[..]].concat()).ended(3);
    assert!(answer.stderr.contains("tests on this machine, and every builder"), "{}", answer.stderr);
    assert!(builders(&place).is_empty(), "before anything is built");
    let _ = place.run(&[&["build", "--builder", "east=ssh://east"], &north[..]].concat()).well();
    let hosted: Vec<_> = builders(&place).into_iter().filter(|(job, _)| job.starts_with("leaf")).collect();
    assert!(!hosted.is_empty() && hosted.iter().all(|(_, builder)| builder == "east"), "{hosted:?}");
}

/// What an image is for who uses it: its configuration without the times and the digests of its layers.
fn configuration(place: &Place, image: &str, platform: &str) -> serde_json::Value {
    let inspected = inspected(place, image);
    let images = inspected["images"].as_array().expect("images");
    let of_platform =
        images.iter().find(|one| one["platform"] == platform).expect("an image of the platform");
    let digest = of_platform["config"].as_str().expect("a digest").replace(':', "/");
    let text = std::fs::read(place.store().join("blobs").join(digest)).expect("a configuration");
    let mut configuration: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    configuration.as_object_mut().expect("a configuration").remove("created");
    // What is not there, and what is nothing.
    configuration["config"].as_object_mut().expect("a configuration").retain(|_, value| !value.is_null());
    configuration["rootfs"] = configuration["rootfs"]["diff_ids"].as_array().expect("layers").len().into();
    for step in configuration["history"].as_array_mut().expect("a history") {
        step.as_object_mut().expect("a step").remove("created");
    }
    configuration
}

/// Of the names on the engine, which others use meanwhile, those of runs of the place and of what they pulled from its store.
fn names_of_runs(place: &Place, names: &str) -> Vec<String> {
    let runs = std::fs::read_dir(place.store().join("runs")).expect("runs").flatten();
    let marks: Vec<String> = runs
        .flat_map(|run| {
            let served = std::fs::read_to_string(run.path().join("served-at")).unwrap_or_default();
            [format!(":build-{}", run.file_name().display()), served.trim().to_owned()]
        })
        .filter(|mark| !mark.is_empty())
        .collect();
    let is_of_a_run = |name: &&str| marks.iter().any(|mark| name.contains(mark));
    names.lines().filter(is_of_a_run).map(str::to_owned).collect()
}

#[test]
fn a_builder_of_buildx_in_a_container_builds_what_the_engine_itself_builds() {
    let test = "a_builder_of_buildx_in_a_container_builds_what_the_engine_itself_builds";
    let mut place = laid_out(FAMILY);
    if !Engine::Containerd.equip(test, &mut place)
        || !root_file_systems(test, &place, "root", &["amd64", "386"])
    {
        return;
    }
    place.set("BUILDX_CONFIG", place.folder().join("buildx"));
    let Some(builder) = InContainer::of(test, &place) else { return };
    let there = || {
        let containers = place.ask("docker", &["ps", "--all", "--format", "{{.Names}}"]);
        containers + &place.ask("docker", &["volume", "ls", "--format", "{{.Name}}"])
    };
    let contained = format!("contained=buildx:{}", builder.name);
    let contained = ["--builder", &*contained];

    // Nothing of it runs yet: it is started for the first who wants it.
    let doctor = place.run(&[&["doctor"], &contained[..]].concat()).well();
    for told in ["only builds", "content: through the session", "linux/amd64: native on contained"] {
        assert!(doctor.stdout.contains(told), "{told}: {}", doctor.stdout);
    }
    let _ = place.run(&[&["build", "--publish", "--slots", "2"], &contained[..]].concat()).well();
    is_whole(&place);
    let every = ["root", "leaf"].map(|image| {
        ["linux/amd64", "linux/386"].map(|platform| (format!("apart/{image}:latest"), platform))
    });
    let configurations = || {
        every.as_flattened().iter().map(|(image, platform)| configuration(&place, image, platform)).collect()
    };
    let of_container: Vec<_> = configurations();

    // What it has built stands for every engine, and is what that builds.
    let again = place.run(&["build"]).well();
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
    let _ = place.run(&["build", "--no-reuse", "--publish"]).well();
    let of_engine: Vec<_> = configurations();
    assert_eq!(of_container, of_engine);

    // F-G3: restarted in the middle of a build, it gets the job again.
    place.write(
        "leaf/Dockerfile",
        &format!("FROM root\nRUN {}; echo {}\n", slowly(&place), std::process::id()),
    );
    let leaf = [&["build", "leaf@linux/amd64"], &contained[..]].concat();
    let (child, _) = in_the_middle(&place, &leaf);
    place.ask("docker", &["restart", "--time", "1", &builder.container()]);
    let _ = Answer::from(child.wait_with_output().expect("it ends")).well();
    let kept = place.events().into_iter();
    let kept = kept.filter(|event| event["event"] == "job-kept" && event["job"] == "leaf@linux/amd64");
    assert_eq!(kept.count(), 1, "I-B7: one accepted result");

    let names = place.ask("docker", &["image", "ls", "--all", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(names_of_runs(&place, &names), Vec::<String>::new(), "I-X1");
    let image = variable("POLYARCH_TEST_BUILDKIT_IMAGE")
        .and_then(|image| image.into_string().ok())
        .expect("its image");
    assert!(names.lines().any(|name| name == image), "I-X2: {names}");
    let container = builder.container();
    assert!(there().contains(&container), "I-X2: it is not ours to remove");
    drop(builder);
    assert!(!there().contains(&container), "buildx has removed it");
}

#[test]
fn f_g7_a_program_of_another_kind_is_blamed_on_emulation_only_where_the_machine_emulates() {
    let test = "f_g7_a_program_of_another_kind_is_blamed_on_emulation_only_where_the_machine_emulates";
    let Some((mut place, hosts)) = family(test, "name = \"apart\"\nplatforms = [\"linux/amd64\"]\n") else {
        return;
    };
    let Some(()) = buildx(test, &mut place, &hosts) else { return };
    place.write("leaf/odd", "\u{7f}ELF and nothing that any machine runs");
    place.write("leaf/Dockerfile", "FROM root\nCOPY --chmod=755 odd /odd\nRUN [\"/odd\"]\n");
    let _ = place.run(&["build", "root@linux/amd64", "--builder", "north=buildx:north"]).well();
    let answer = place.run(&["build", "--builder", "north=buildx:north"]).ended(1);
    for (text, is_there) in [("exec format error", true), ("scripts begin with #!", true), ("qemu", false)] {
        assert_eq!(answer.stderr.contains(text), is_there, "{text}: {}", answer.stderr);
    }
}

#[test]
fn what_keeps_content_from_a_builder_is_told_before_anything_is_built() {
    let test = "what_keeps_content_from_a_builder_is_told_before_anything_is_built";
    let Some((mut place, hosts)) = family(test, FAMILY) else { return };
    place.set("BUILDX_CONFIG", place.folder().join("buildx"));
    let table = [
        (over_tcp(&place, &hosts, "east", "stranger"), "do not hold", "docker --tlsverify"),
        ("[builder.x]\nengine = \"buildx:nowhere\"".to_owned(), "no builder `nowhere`", "docker buildx ls"),
    ];
    for (builder, problem, hint) in table {
        place.write("polyarch.toml", &(FAMILY.to_owned() + &builder));
        let answer = place.run(&["build"]);
        assert!(matches!(answer.code, Some(2 | 3)), "{builder}: {answer:?}");
        for text in [problem, hint] {
            assert!(answer.stderr.contains(text), "{builder}: {}", answer.stderr);
        }
        assert!(builders(&place).is_empty(), "{builder}");
    }
    let open = format!("x={}", hosts.engine("east"));
    let answer = place.run(&["build", "--builder", &open]).ended(2);
    assert!(answer.stderr.contains("wants certificates on both sides"), "{}", answer.stderr);
}

#[test]
fn f_g9_a_builder_of_buildx_that_is_cut_off_gets_its_job_again_when_it_is_back() {
    let test = "f_g9_a_builder_of_buildx_that_is_cut_off_gets_its_job_again_when_it_is_back";
    let configuration = "name = \"apart\"\nplatforms = [\"linux/amd64\"]\n";
    let Some((mut place, hosts)) = family(test, configuration) else { return };
    let Some(()) = buildx(test, &mut place, &hosts) else { return };
    place.write(
        "leaf/Dockerfile",
        &format!("FROM root\nRUN {}; echo {}\n", slowly(&place), std::process::id()),
    );
    let (child, builder) = in_the_middle(&place, &["build", "--builder", "north=buildx:north"]);
    assert_eq!(builder, "north");
    link(&hosts, &place, "north", "down");
    // There is no other: it is waited for.
    wait_for("the loss", || place.events().iter().any(|event| event["event"] == "builder-lost"));
    link(&hosts, &place, "north", "up");
    let _ = Answer::from(child.wait_with_output().expect("it ends")).well();
    let events = place.events();
    let of_leaf = |name: &str| {
        let meant = |event: &&serde_json::Value| event["event"] == name && event["job"] == "leaf@linux/amd64";
        events.iter().filter(meant).count()
    };
    assert!(events.iter().any(|event| event["event"] == "builder-returned"), "{events:#?}");
    assert_eq!((of_leaf("job-moved"), of_leaf("job-started"), of_leaf("job-kept")), (1, 2, 1));
}

#[test]
fn f_g4_a_node_of_buildx_that_builds_for_another_platform_than_it_is_said_to_is_found_out() {
    let test = "f_g4_a_node_of_buildx_that_builds_for_another_platform_than_it_is_said_to_is_found_out";
    let configuration = "name = \"apart\"\nplatforms = [\"linux/riscv64\"]\nemulate = \"allow\"\n";
    let Some((mut place, hosts)) = family(test, configuration) else { return };
    let said = ["--platform", "linux/riscv64"];
    let Some(()) = buildx_with(test, &mut place, &hosts, &said) else { return };
    place.write("root/Dockerfile", "FROM scratch\nCOPY Dockerfile /made\n");
    place.write("leaf/Dockerfile", "FROM root\nCOPY Dockerfile /leaf\n");
    // It runs linux/amd64 whatever it is asked for.
    let docker = place.ask("sh", &["-c", "command -v docker"]);
    let script = format!(
        "#!/bin/bash\ncase \" $* \" in *' build '*) set -- \"${{@/#linux\\/riscv64/linux/amd64}}\";\n\
         set -- \"${{@/#--platform=linux\\/riscv64/--platform=linux/amd64}}\";; esac\nexec {} \"$@\"\n",
        docker.trim()
    );
    place.put_before("docker", &script);
    let answer = place.run(&["build", "--builder", "north=buildx:north"]).ended(3);
    let told = "the engine returned linux/amd64 for linux/riscv64";
    assert!(answer.stderr.contains(told), "{}", answer.stderr);
    assert_eq!((ended(&place, "built"), ended(&place, "failed")), (jobs(""), jobs("root@linux/riscv64")));
    let plan = place.run(&["plan", "--builder", "north=buildx:north"]).well();
    assert!(plan.stdout.contains("2 to build"), "no record is kept: {}", plan.stdout);
}

#[test]
fn f_g7_a_node_of_buildx_whose_machine_is_another_than_it_is_said_to_be_emulates() {
    let test = "f_g7_a_node_of_buildx_whose_machine_is_another_than_it_is_said_to_be_emulates";
    let configuration = "name = \"apart\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let Some((mut place, hosts)) = family(test, configuration) else { return };
    let said = ["--platform", "linux/amd64,linux/arm64"];
    let Some(()) = buildx_with(test, &mut place, &hosts, &said) else { return };
    let answer = place.run(&["build", "--builder", "buildx:north"]).ended(3);
    for told in [
        "no builder runs linux/arm64, which 2 jobs of the plan need",
        "allow emulation: polyarch build --emulate=allow",
        "builder north of buildx runs linux/arm64 by emulation, if at all",
        "its node for linux/arm64 is a linux/amd64 machine, whatever `--platform` said of it",
    ] {
        assert!(answer.stderr.contains(told), "{told}: {}", answer.stderr);
    }
    assert_eq!(ended(&place, "built"), jobs(""), "it is told before anything is built");
    let doctor = place.run(&["doctor", "--builder", "buildx:north"]).ended(3);
    for told in ["native: linux/386, linux/amd64", "emulated, 10 to 50 times slower: linux/arm64"] {
        assert!(doctor.stdout.contains(told), "{told}: {}", doctor.stdout);
    }
}
