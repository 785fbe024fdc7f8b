//! Tags of platforms and merged tags, where the platforms agree and where they do not.

use super::engines::{Engine, FOUNDATION, ended, inspected, jobs, root_file_systems, tags};
use crate::program::Place;

const CONFIGURATION: &str = r#"
name = "tagged"
platforms = ["linux/386", "linux/amd64"]

[tags]
platform = "{tag}-{platform}"
names = { "linux/amd64" = "x86_64", "linux/386" = "i386" }
common = ["latest"]
divergence = "withhold"

[image.tool]
tests = [{ run = "cat /opt/word", stdout = "of the source" }]
tags = [{ tag = "tool-{0}", run = "cat /version" }, { tag = "word-{0}", run = "cut -d ' ' -f 3 /opt/word" }]
"#;

const TOOL: &str = "FROM source AS source\nFROM root\nARG TARGETARCH\nCOPY --from=source /word /opt/word\n\
    RUN echo 1.${TARGETARCH} > /version\n";

fn family(test: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("source/Dockerfile", "FROM root\nRUN echo of the source > /word\n"),
        ("tool/Dockerfile", TOOL),
    ]);
    let ready = engine.equip(test, &mut place) && root_file_systems(test, &place, "root", &["386", "amd64"]);
    ready.then_some(place)
}

fn differ(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let answer = place.run(&["build", "--publish"]).well();
    let found = tags(&place, "tagged/tool");
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let expected = [
        "latest",
        "latest-i386",
        "latest-x86_64",
        "tool-1.386-i386",
        "tool-1.amd64-x86_64",
        "word-source",
        "word-source-i386",
        "word-source-x86_64",
    ];
    assert_eq!(names, expected, "platform tags with a suffix, merged tags where the platforms agree");
    assert_eq!(found["latest"], found["word-source"]);
    let image = inspected(&place, "tagged/tool:tool-1.386-i386");
    assert_eq!(image["images"].as_array().map(Vec::len), Some(1));
    assert_eq!(image["images"][0]["platform"], "linux/386");

    // The report is what comes after the last event.
    let report =
        &answer.stderr[answer.stderr.rfind("withheld  embedded/tagged/tool:tool-1.amd64").expect("said")..];
    for later in ["source  ", "published 3 images"] {
        assert!(report.contains(later), "it is said before all else: {}", answer.stderr);
    }
    let differ =
        "tool differs between its platforms: tag tool-{0} is tool-1.386 on linux/386 and tool-1.amd64";
    assert!(answer.stderr.contains(differ), "{}", answer.stderr);
    place.write("polyarch.toml", &format!("{CONFIGURATION}[publish]\ndifferences = \"fail\"\n"));
    let refused = place.run(&["publish"]).ended(4);
    assert!(refused.stderr.contains("tool differs between its platforms"), "{}", refused.stderr);
    place.write("polyarch.toml", CONFIGURATION);
    edges_by_copy_count(&place);

    place.write(
        "polyarch.toml",
        &CONFIGURATION.replace("withhold", "fail").replace("\"tagged\"", "\"strict\""),
    );
    let answer = place.run(&["build", "--publish"]).ended(4);
    assert!(answer.stderr.contains("differs between platforms"), "{}", answer.stderr);
    for image in ["root", "source", "tool"] {
        assert!(tags(&place, &format!("strict/{image}")).is_empty(), "nothing is published");
    }
}

/// What is copied from an image of the family is an edge: it is built first, and again when that is.
fn edges_by_copy_count(place: &Place) {
    place.write("source/Dockerfile", "FROM root\nRUN echo of the source too > /word\n");
    let _ = place.run(&["build"]).well();
    assert_eq!(
        ended(place, "built"),
        jobs("source@linux/386 source@linux/amd64 tool@linux/386 tool@linux/amd64")
    );
}

#[test]
fn tags_that_differ_between_platforms_are_withheld() {
    differ("tags::tags_that_differ_between_platforms_are_withheld", Engine::Containerd);
}
