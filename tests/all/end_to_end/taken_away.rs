//! Images that another run takes away from the engine between their build and their push.

use super::engines::{Engine, FOUNDATION, root_file_systems};
use crate::program::{Place, variable};

/// A client of Docker that takes away what its first build has built, and otherwise is the first one that builds by BuildKit.
const CLIENT: &str = r#"#!/bin/sh
PATH=SEARCH
for folder in $(IFS=:; printf '%s\n' $PATH); do
    real=$folder/docker
    DOCKER_BUILDKIT=1 "$real" build --help >/dev/null 2>&1 && break
done
"$real" "$@" || exit
[ "$1" = build ] || exit 0
echo built >>TAKEN
[ "$(wc -l <TAKEN)" = 1 ] || exit 0
while [ "$1" != --tag ]; do shift; done
exec "$real" image rm "$2"
"#;

#[test]
fn f_x1_an_image_that_is_taken_away_before_its_push_is_built_again() {
    let test = "taken_away::f_x1_an_image_that_is_taken_away_before_its_push_is_built_again";
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"taken\"\nplatforms = [\"linux/amd64\"]\n"),
        ("root/Dockerfile", FOUNDATION),
    ]);
    // No other test builds the same, whose name for it would keep it.
    place.write("root/rootfs/amd64/own", &place.folder().display().to_string());
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let taken = place.folder().join("taken");
    let path = variable("PATH").unwrap_or_default().into_string().expect("a path in UTF-8");
    let script = CLIENT.replace("SEARCH", &path).replace("TAKEN", &taken.display().to_string());
    place.put_before("docker", &script);

    let built = place.run(&["build"]).well();
    assert!(built.stderr.contains("1 built"), "{}", built.stderr);
    assert!(built.stderr.contains("returned no image"), "the first try is told: {}", built.stderr);
    assert_eq!(std::fs::read_to_string(taken).expect("what was built").lines().count(), 2);
}
