//! `polyarch simulate`: the three real families with the times that are published of them, fleets, and bad input.

use std::path::Path;

use serde_json::Value;

use crate::program::Place;

/// A Dockerfile for each of some images, after others.
fn family(images: &[(&str, &[&str])], config: &str) -> Place {
    let place = Place::with(&[("polyarch.toml", config)]);
    for (folder, parents) in images {
        let mut text = match parents.first() {
            None => "FROM scratch\n".to_owned(),
            Some(parent) => format!("FROM {parent}\n"),
        };
        for parent in parents.iter().skip(1) {
            text.push_str(&format!("COPY --from={parent} /a /b\n"));
        }
        text.push_str(&format!("LABEL folder={folder}\n"));
        place.write(&format!("{folder}/Dockerfile"), &text);
    }
    place
}

const TWO: &str = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";

fn docker_stacks() -> Place {
    family(
        &[
            ("docker-stacks-foundation", &[]),
            ("base-notebook", &["docker-stacks-foundation"]),
            ("minimal-notebook", &["base-notebook"]),
            ("scipy-notebook", &["minimal-notebook"]),
            ("r-notebook", &["minimal-notebook"]),
            ("julia-notebook", &["minimal-notebook"]),
            ("tensorflow-notebook", &["scipy-notebook"]),
            ("tensorflow-notebook/cuda", &["scipy-notebook"]),
            ("pytorch-notebook", &["scipy-notebook"]),
            ("pytorch-notebook/cuda12", &["scipy-notebook"]),
            ("pytorch-notebook/cuda13", &["scipy-notebook"]),
            ("datascience-notebook", &["scipy-notebook"]),
            ("pyspark-notebook", &["scipy-notebook"]),
            ("all-spark-notebook", &["pyspark-notebook"]),
        ],
        TWO,
    )
}

fn hysds() -> Place {
    family(
        &[
            ("base", &[]),
            ("cuda-base", &["base"]),
            ("dev", &["base"]),
            ("redis", &["base"]),
            ("cuda-dev", &["cuda-base"]),
            ("pge-base", &["base", "dev"]),
            ("verdi", &["pge-base"]),
            ("cuda-pge-base", &["cuda-base", "cuda-dev"]),
            ("mozart", &["base", "dev"]),
            ("metrics", &["base", "dev"]),
            ("grq", &["base", "dev"]),
            ("cont_int", &["base", "dev"]),
        ],
        TWO,
    )
}

fn airflow() -> Place {
    let pythons = ["py310", "py311", "py312", "py313", "py314"];
    let ci = pythons.map(|python| format!("ci/{python}"));
    let prod = pythons.map(|python| (format!("prod/{python}"), format!("ci/{python}")));
    let place = Place::with(&[("polyarch.toml", TWO)]);
    for folder in ci {
        place.write(&format!("{folder}/Dockerfile"), &format!("FROM scratch\nLABEL folder={folder}\n"));
    }
    for (folder, parent) in prod {
        place.write(&format!("{folder}/Dockerfile"), &format!("FROM {parent}\nLABEL folder={folder}\n"));
    }
    place
}

fn times(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/times").join(name);
    file.to_str().expect("a text").to_owned()
}

fn simulate(place: &Place, arguments: &[&str]) -> Value {
    let arguments = [&["simulate", "--format", "json"], arguments].concat();
    serde_json::from_str(&place.run(&arguments).well().stdout).expect("JSON")
}

/// When a job ends, in seconds.
fn end(simulation: &Value, job: &str) -> u64 {
    let timeline = simulation["timeline"].as_array().expect("a timeline");
    let span = timeline.iter().find(|span| span["job"] == job);
    span.unwrap_or_else(|| panic!("{job} is not in the timeline"))["end"].as_u64().unwrap() / 1000
}

/// The jobs whose times are marked as measured.
fn known(simulation: &Value) -> Vec<&str> {
    let timeline = simulation["timeline"].as_array().expect("a timeline");
    let known = timeline.iter().filter(|span| span["assumed"] == false);
    let mut known: Vec<&str> = known.map(|span| span["job"].as_str().expect("a job")).collect();
    known.sort_unstable();
    known
}

const MANY: [&str; 4] = ["--builder", "linux/amd64,slots=14", "--builder", "linux/arm64,slots=14"];

#[test]
fn docker_stacks_takes_the_published_time_of_each_level() {
    let times = times("docker-stacks.toml");
    let simulation =
        simulate(&docker_stacks(), &[&["--durations", &times, "--fleets", "0"], &MANY[..]].concat());
    assert_eq!(simulation["jobs"], 28);
    // 1:21, 2:52, 3:39, 6:06, 6:03 and 7:32, one after another.
    let levels = [
        ("docker-stacks-foundation", 81),
        ("base-notebook", 253),
        ("minimal-notebook", 472),
        ("scipy-notebook", 838),
        ("pyspark-notebook", 1201),
        ("all-spark-notebook", 27 * 60 + 33),
    ];
    for (image, seconds) in levels {
        assert_eq!(end(&simulation, &format!("{image}@linux/amd64")), seconds, "{image}");
    }
    assert_eq!(known(&simulation).len(), 6);
    assert_eq!(simulation["assumed"], 22, "all others are marked");
}

#[test]
fn hysds_takes_the_published_time_split_and_emulated() {
    let (place, times) = (hysds(), times("hysds.toml"));
    let base = [("--builder", "linux/amd64"), ("--builder", "linux/arm64")];
    let split: Vec<&str> = base.iter().flat_map(|(option, value)| [*option, *value]).collect();
    let whole = ["--durations", &times, "--fleets", "0"];
    let simulation = simulate(&place, &[&whole[..], &split].concat());
    assert_eq!(end(&simulation, "base@linux/amd64"), 600);
    assert_eq!(end(&simulation, "base@linux/arm64"), 720);
    assert_eq!(known(&simulation), ["base@linux/amd64", "base@linux/arm64"]);
    let emulated = ["--builder", "linux/amd64,emulates=linux/arm64", "--emulate", "allow"];
    let rest = ["--durations", &times, "--fleets", "0"];
    let simulation = simulate(&place, &[&rest[..], &emulated].concat());
    let last = end(&simulation, "base@linux/arm64").max(end(&simulation, "base@linux/amd64"));
    assert!(last >= 1800, "about half an hour for both, and not before: {last}");
    let emulated_ones =
        simulation["timeline"].as_array().unwrap().iter().filter(|span| span["emulated"] == true);
    assert_eq!(emulated_ones.count(), 12);
    assert_eq!(known(&simulation), ["base@linux/amd64"], "how long the other took alone was not measured");
    // The barrier of a level: with it nothing on amd64 begins before arm64 has its parent.
    let (free, barrier) = (simulate(&place, &[&whole[..], &MANY].concat()), {
        let whole = [&whole[..], &MANY, &["--barrier"]].concat();
        simulate(&place, &whole)
    });
    assert_eq!((end(&free, "dev@linux/amd64"), end(&barrier, "dev@linux/amd64")), (1020, 1140));
}

#[test]
fn airflow_takes_what_its_published_bound_says_and_none_of_that_is_known() {
    let times = times("airflow.toml");
    let simulation = simulate(&airflow(), &[&["--durations", &times], &MANY[..]].concat());
    assert_eq!((&simulation["jobs"], &simulation["assumed"]), (&Value::from(20), &Value::from(20)));
    assert!(known(&simulation).is_empty());
    assert_eq!(end(&simulation, "ci/py314@linux/arm64"), 720);
    assert_eq!(simulation["outlook"]["milliseconds"], 19 * 60 * 1000);
}

#[test]
fn the_smallest_fleet_is_within_five_percent_of_the_best() {
    let times = times("docker-stacks.toml");
    let simulation = simulate(&docker_stacks(), &["--durations", &times]);
    let fleets = simulation["fleets"].as_array().unwrap();
    assert_eq!(fleets.len(), 6);
    let best = fleets.iter().map(|fleet| fleet["milliseconds"].as_u64().unwrap()).min().unwrap();
    let smallest = &simulation["smallest"];
    let time = smallest["milliseconds"].as_u64().unwrap();
    assert!(time * 100 <= best * 105, "{smallest}");
    let all =
        |value: &Value| value.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum::<u64>();
    assert!(all(&smallest["counts"]) < 12, "{smallest}");
    assert_eq!(simulation["outlook"]["counts"], serde_json::json!([1, 1]));
}

#[test]
fn of_two_kinds_of_one_platform_the_smallest_fleet_has_none_of_the_one_that_is_not_needed() {
    let place = family(&[("base", &[])], TWO);
    let builders = ["linux/amd64,price=9", "linux/amd64,price=1", "linux/arm64,price=1"];
    let builders: Vec<&str> = builders.iter().flat_map(|builder| ["--builder", builder]).collect();
    let simulation = simulate(&place, &builders);
    assert_eq!(simulation["smallest"]["counts"], serde_json::json!([0, 1, 1]));
    let text = place.run(&[&["simulate"], &builders[..]].concat()).well().stdout;
    let told = "the smallest within 5 % of the best: 1 × amd64.2 with 1 slot, 1 × arm64 with 1 slot: 1 min 0 s, costs 2.00";
    assert!(text.contains(told), "{text}");
}

#[test]
fn the_picture_of_a_small_family() {
    let images: [(&str, &[&str]); 4] =
        [("base", &[]), ("left", &["base"]), ("right", &["base"]), ("top", &["left"])];
    let place = family(&images, TWO);
    place.write(
        "times.toml",
        "[known]\nbase = \"60s\"\n\"left@linux/amd64\" = \"5m\"\n[assumed]\nleft = \"6m\"\n",
    );
    let arm = "linux/arm64,slots=2,price=0.01,speed=50";
    let options = ["--builder", "linux/amd64,count=2,price=0.02", "--builder", arm, "--fleets", "2"];
    let answer = place.run(&[&["simulate", "--durations", "times.toml"], &options[..]].concat()).well();
    expect_test::expect![[r#"
        8 jobs, 17 min 0 s of work; the time of 5 jobs is assumed
        2 × amd64 with 1 slot, 1 × arm64 with 2 slots: 16 min 0 s, costs 0.32
             0:00    2:00  arm64    base@linux/arm64   |#####                                   |
             0:00    1:00  amd64-1  base@linux/amd64   |##                                      |
             1:00    6:00  amd64-1  left@linux/amd64   |  #############                         |
             1:00    2:00  amd64-2  right@linux/amd64  |  ###                                   |  assumed
             2:00   14:00  arm64    left@linux/arm64   |     ##############################     |  assumed
             2:00    4:00  arm64    right@linux/arm64  |     #####                              |  assumed
             6:00    7:00  amd64-1  top@linux/amd64    |               ##                       |  assumed
            14:00   16:00  arm64    top@linux/arm64    |                                   #####|  assumed

        other fleets
            1 of each  16 min 0 s, costs 0.32
            2 of each  16 min 0 s, costs 0.32
        the smallest within 5 % of the best: 1 × amd64 with 1 slot, 1 × arm64 with 2 slots: 16 min 0 s, costs 0.32
    "#]].assert_eq(&answer.stdout);
    place.write("fleet.toml", "[builder.big]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nslots = 8\n");
    let answer = place.run(&["simulate", "--builders", "fleet.toml", "--fleets", "1"]).well();
    expect_test::expect![[r#"
        8 jobs, 8 min 0 s of work; the time of 8 jobs is assumed
        1 × big with 8 slots: 3 min 0 s
             0:00    1:00  big  base@linux/amd64   |#############                           |  assumed
             0:00    1:00  big  base@linux/arm64   |#############                           |  assumed
             1:00    2:00  big  left@linux/amd64   |             #############              |  assumed
             1:00    2:00  big  left@linux/arm64   |             #############              |  assumed
             1:00    2:00  big  right@linux/amd64  |             #############              |  assumed
             1:00    2:00  big  right@linux/arm64  |             #############              |  assumed
             2:00    3:00  big  top@linux/amd64    |                          ##############|  assumed
             2:00    3:00  big  top@linux/arm64    |                          ##############|  assumed

        other fleets
            1 of each  3 min 0 s
        the smallest within 5 % of the best: 1 × big with 8 slots: 3 min 0 s
    "#]]
    .assert_eq(&answer.stdout);
}

#[test]
fn bad_input_is_told_with_what_mends_it() {
    let place = family(&[("base", &[])], TWO);
    place.write("times.toml", "[known]\nbsae = \"1m\"\n");
    place.write("never.toml", "[known]\nbase = \"soon\"\n");
    place.write("other.toml", "[builder.a]\nplatforms = [\"linux/amd64\"]\nslot = 3\n");
    place.write("none.toml", "[builder.a]\nslots = 3\n");
    place.write("named.toml", "[builder.'a b']\nplatforms = [\"linux/amd64\"]\n");
    place.write(
        "polyarch.toml",
        &format!(
            "{TWO}[builder.arm-1]\nplatforms = [\"linux/arm64\"]\nslots = 3\nspeed = 50\n[builder.laptop]\n"
        ),
    );
    let cases: [(&[&str], &str); 13] = [
        (&["--builder", "arm-2"], "did you mean `arm-1`"),
        (&["--builder", "laptop"], "builder laptop does not say which platforms it has"),
        (&["--builder", "arm-1,count=0"], "`count` is not between 1 and 1024"),
        (&["--builder", "linux/amd64"], "no builder runs linux/arm64, which 1 job of the plan needs"),
        (&["--builder", "linux/amd64,slot=3"], "`slot` is not known"),
        (&["--builder", "linux/amd64,slots=0"], "`slots` is not between 1 and 1024"),
        (&["--builder", "linux/amd64,price=NaN"], "`price` is no amount of money a minute"),
        (&["--builder", "linux//"], "error"),
        (&["--durations", "times.toml"], "`bsae` is no image or job of this plan"),
        (&["--durations", "never.toml"], "`soon` is no span of time"),
        (&["--builders", "other.toml"], "unknown field `slot`"),
        (&["--builders", "none.toml"], "a builder without a platform builds nothing"),
        (&["--builders", "named.toml"], "\"a b\" is no name of a builder"),
    ];
    for (arguments, told) in cases {
        let answer = place.run(&[&["simulate"], arguments].concat());
        assert_eq!(answer.code, Some(2), "{arguments:?}: {}", answer.stderr);
        assert!(answer.stderr.contains(told), "{arguments:?}: {}", answer.stderr);
    }
}

#[test]
fn jobs_that_no_builder_takes_are_refused_by_name() {
    let both = ["--builder", "linux/amd64", "--builder", "linux/arm64"];
    let emulating = ["--builder", "linux/amd64,emulates=linux/arm64"];
    let allowed = ["--builder", "linux/amd64,emulates=linux/arm64", "--emulate", "allow"];
    let labelled = ["--builder", "linux/amd64,labels=big+gpu", "--builder", "linux/arm64,labels=gpu"];
    let whole = "linux/amd64+linux/arm64";
    let apart =
        ["--builder", whole, "--builder", "linux/amd64,labels=gpu", "--builder", "linux/arm64,labels=gpu"];
    let other = ["--builder", "linux/arm64", "--builder", "linux/amd64,emulates=linux/arm64,labels=gpu"];
    let needs_both = "[image.base]\nneeds = [\"gpu\"]\nemulate = \"always\"\n";
    let all_of = "no one builder has all of `gpu`, all platforms of base, linux/amd64, which 1 job";
    let memory = "[image.base]\nneeds = [\"memory-8\"]\n";
    let large = ["--builder", "linux/amd64+linux/arm64,labels=memory-16"];
    let little = ["--builder", "linux/amd64+linux/arm64,labels=memory-4"];
    let cases: [(&str, &[&str], Option<&str>); 16] = [
        (memory, &large, None),
        (memory, &little, Some("no builder of linux/amd64 has the labels memory-8")),
        (memory, &["--builders", "large"], None),
        (memory, &["--builders", "little"], Some("no builder of linux/arm64 has the labels memory-8")),
        (needs_both, &apart, Some(all_of)),
        (
            "[image.base]\nneeds = [\"gpu\"]\n",
            &other,
            Some("no one builder has all of `gpu`, linux/arm64 without emulation, which 1 job"),
        ),
        ("", &both, None),
        (
            "",
            &emulating,
            Some("no builder runs linux/arm64 without emulation, which 1 job of the plan needs"),
        ),
        ("", &allowed, None),
        ("[image.base]\nneeds = [\"gpu\"]\n", &[], Some("no builder of linux/amd64 has the labels gpu")),
        (
            "[image.base]\nneeds = [\"gpu\"]\n",
            &both,
            Some("no builder of linux/arm64 has the labels gpu, which 1 job"),
        ),
        ("[image.base]\nneeds = [\"gpu\"]\n", &labelled, None),
        ("emulate = \"always\"\n", &both, Some("no builder runs all platforms of base, which 2 jobs")),
        ("emulate = \"always\"\n", &emulating, None),
        ("", &["--builder", "small"], Some("no builder of linux/amd64 has room for 90.0 GB")),
        ("", &["--builder", "gpu"], None),
    ];
    for (setting, arguments, refused) in cases {
        let place = family(&[("base", &[])], "");
        let small = "[builder.small]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\ndisk = \"1GB\"\n";
        let gpu = "[builder.gpu]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nlabels = [\"gpu\"]\n";
        let own = match arguments {
            [_, "small"] => format!("[image.base]\ndisk = \"90GB\"\n{small}"),
            [_, "gpu"] => format!("[image.base]\nneeds = [\"gpu\"]\n{gpu}"),
            _ => setting.to_owned(),
        };
        place.write("polyarch.toml", &format!("{TWO}{own}"));
        for (file, label) in [("large", "memory-32"), ("little", "memory-4")] {
            let platforms = "platforms = [\"linux/amd64\", \"linux/arm64\"]";
            place.write(file, &format!("[builder.x]\n{platforms}\nlabels = [\"{label}\"]\n"));
        }
        let answer = place.run(&[&["simulate", "--fleets", "1"], arguments].concat());
        let told = format!("{own} {arguments:?}: {}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.code, Some(if refused.is_some() { 2 } else { 0 }), "{told}");
        match refused {
            Some(refused) => {
                assert!(
                    answer.stderr.contains(refused) && answer.stderr.contains("base@linux/arm64"),
                    "{told}"
                );
            }
            None => {
                assert!(answer.stdout.starts_with("2 jobs") && !answer.stdout.contains(": 0 ms"), "{told}")
            }
        }
    }
}

#[test]
fn builders_of_the_file_that_state_no_platforms_are_named() {
    let place = family(&[("base", &[])], TWO);
    let stated =
        "[builder.here]\nplatforms = [\"linux/amd64\"]\n[builder.arm-1]\n[builder.arm-2]\nslots = 2\n";
    place.write("polyarch.toml", &format!("{TWO}{stated}"));
    let answer = place.run(&["simulate"]);
    let told = "builders arm-1, arm-2 of polyarch.toml state no platforms, and are left out";
    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    for told in [told, "`platforms = [\"linux/arm64\"]` of [builder.arm-1]", "no builder runs linux/arm64"] {
        assert!(answer.stderr.contains(told), "{told}: {}", answer.stderr);
    }
    let own = ["simulate", "--builder", "linux/amd64", "--builder", "linux/arm64"];
    let answer = place.run(&own).well();
    assert!(!answer.stderr.contains("left out"), "{}", answer.stderr);
}

#[test]
fn builders_of_the_file_are_thought_of_by_their_names() {
    let place = family(&[("base", &[]), ("leaf", &["base"])], TWO);
    let builder = "[builder.arm-1]\nplatforms = [\"linux/arm64\"]\nslots = 3\nprice = 2.0\nspeed = 50\n";
    place.write("polyarch.toml", &format!("{TWO}{builder}"));
    let found = simulate(&place, &["--builder", "arm-1,count=2,price=0.5", "--builder", "linux/amd64"]);
    let first = &found["builders"][0];
    let of = |field: &str| first[field].as_f64().unwrap();
    assert_eq!((first["name"].as_str(), of("count"), of("slots")), (Some("arm-1"), 2.0, 3.0));
    assert_eq!((of("price"), of("speed")), (0.5, 50.0), "what is said beside the name goes before the file");
    // Two jobs of a minute, one after the other, at half the speed.
    assert_eq!(found["outlook"]["milliseconds"], 240_000);
}

#[test]
fn every_command_of_the_page_does_as_written() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/simulate.md")).unwrap();
    let block = |head: &str| {
        let from = page.find(head).unwrap_or_else(|| panic!("no {head} on the page"));
        page[from..].split("```").next().unwrap().to_owned()
    };
    let place = docker_stacks();
    place.write("times.toml", &block("[known]"));
    place.write("fleet.toml", &block("[builder.graviton]"));
    let commands = page.lines().filter_map(|line| line.strip_prefix("    polyarch simulate"));
    let commands: Vec<Vec<&str>> =
        commands.map(|line| line.split('|').next().unwrap().split_whitespace().collect()).collect();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        let answer = place.run(&[&["simulate"], &command[..]].concat()).well();
        assert!(!answer.stdout.is_empty(), "{command:?}");
    }
    let arm = ["simulate", "--builders", "fleet.toml", "--platform", "linux/arm64", "--fleets", "2"];
    let answer = place.run(&arm).well();
    assert!(answer.stdout.contains("2 × graviton with 4 slots"), "{}", answer.stdout);
}
