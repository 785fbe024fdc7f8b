//! Images that only try out what they stand on: told of when they fail, and nothing else (S4 row 28).

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems, tags};
use crate::program::Place;

const CONFIGURATION: &str = "name = \"shared\"\nplatforms = [\"linux/amd64\"]\n[tags]\ncommon = [\"latest\"]\n\
    [image.recipe]\ndownstream = true\n";

fn a_broken_recipe_stops_nothing(test: &str, engine: Engine) {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("recipe/Dockerfile", "FROM root\nRUN exit 7\n"),
        ("zeta/Dockerfile", "FROM root\nRUN echo zeta > /word\n"),
    ]);
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let answer = place.run(&["build", "--publish", "--fail-fast", "--slots", "1"]).well();
    assert!(
        answer.stderr.contains("recipe@linux/amd64 has failed, which is downstream"),
        "{}",
        answer.stderr
    );
    assert_eq!(ended(&place, "failed"), jobs("recipe@linux/amd64"));
    assert_eq!(ended(&place, "built"), jobs("root@linux/amd64 zeta@linux/amd64"));
    assert!(tags(&place, "shared/zeta").contains_key("latest"));
    drop(place.run(&["verify"]).well());

    // Nor does one that cannot even begin.
    let beginnings = [
        ("FROM localhost:1/nowhere/at:all\n", "base image localhost:1/nowhere/at:all of `recipe` is unknown"),
        (
            "FROM root\nRUN --mount=type=secret,id=word,required=true true\n",
            "the secret `word` is required by",
        ),
    ];
    for (dockerfile, problem) in beginnings {
        place.write("recipe/Dockerfile", dockerfile);
        let answer = place.run(&["build", "--publish"]).well();
        for text in ["recipe@linux/amd64 has failed, which is downstream", problem] {
            assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
        }
        assert_eq!(ended(&place, "failed"), jobs("recipe@linux/amd64"));
    }
    place.write("polyarch.toml", &CONFIGURATION.replace("downstream = true", ""));
    assert!(place.run(&["build"]).ended(2).stderr.contains("the secret `word` is required by"));
    place.write("polyarch.toml", CONFIGURATION);

    place.write("recipe/Dockerfile", "FROM root\nRUN echo mended > /word\n");
    drop(place.run(&["build", "--publish"]).well());
    assert_eq!(ended(&place, "built"), jobs("recipe@linux/amd64"));
    assert!(tags(&place, "shared/recipe").is_empty(), "it is never published");
}

#[test]
fn s4_28_a_broken_recipe_stops_nothing_classic() {
    let test = "downstream::s4_28_a_broken_recipe_stops_nothing_classic";
    a_broken_recipe_stops_nothing(test, Engine::Classic);
}

#[test]
fn s4_28_a_broken_recipe_stops_nothing_containerd() {
    let test = "downstream::s4_28_a_broken_recipe_stops_nothing_containerd";
    a_broken_recipe_stops_nothing(test, Engine::Containerd);
}
