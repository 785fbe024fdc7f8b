//! Attacks by what an earlier job has left in an engine: images under names that a build uses, and images that an engine
//! takes for the result of a step.

use polyarch::oci::Digest;
use serde_json::json;

use crate::ground::Site;
use crate::program::Place;
use crate::{Attack, Scenario};

const CONFIGURATION: &str = "name = \"two\"\nplatforms = [\"linux/amd64\"]\n";

/// Children of the parent that has the name in place of `OWN`.
const COPIED: &str = "FROM scratch\nCOPY --from=OWN / /\nENV PATH=/bin\n";
const UPON: &str = "FROM OWN\nCOPY words /own\n";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let poisoned: [(&str, Attack); 6] = [
        ("TM6 an image left in the engine under the name of one that is copied from", |site| {
            takes_local(site, "docker", COPIED)
        }),
        ("TM6 an image left in the engine under the name of the parent", |site| {
            takes_local(site, "docker", UPON)
        }),
        ("TM6 an image left in the storage of Podman under the name of one that is copied from", |site| {
            takes_local(site, "podman", COPIED)
        }),
        ("TM6 an image left in the storage of Podman under the name of the parent", |site| {
            takes_local(site, "podman", UPON)
        }),
        ("TM6 an image left in the storage of Buildah under the name of one that is copied from", |site| {
            takes_local(site, "buildah", COPIED)
        }),
        ("TM6 an image left in the storage of Buildah under the name of the parent", |site| {
            takes_local(site, "buildah", UPON)
        }),
    ];
    let taken: [(&str, Attack); 2] = [
        ("TM7 an image that an engine takes for the result of a step", |site| takes_step(site, "1")),
        ("TM7 the same where the environment asks for the builder that does so", |site| {
            takes_step(site, "0")
        }),
    ];
    let poisoned = poisoned.map(|(name, attack)| Scenario { name, defence: "PinnedImages", attack });
    let taken = taken.map(|(name, attack)| Scenario { name, defence: "BuildKitAlone", attack });
    poisoned.into_iter().chain(taken).collect()
}

/// What tells the names of this try from all others in the engine.
fn own(place: &Place) -> String {
    place.folder().file_name().expect("a name").to_string_lossy().replace('.', "").to_lowercase()
}

/// Whether a build uses an image that somebody has left in the engine, which a program speaks to or is, under the name of
/// one of the family.
fn takes_local(site: &Site, engine: &str, child: &str) -> bool {
    let mut place = site.set("DOCKER_BUILDKIT", "0");
    place.give_storage();
    let own = own(&place);
    std::fs::rename(place.family().join("parent"), place.family().join(&own)).expect("another name");
    let image =
        |word: &str| format!("FROM scratch\nCOPY rootfs/amd64/ /\nENV PATH=/bin\nCOPY {word} /words\n");
    for word in ["honest", "evil"] {
        place.write(&format!("{own}/{word}"), &format!("{word} {own}\n"));
    }
    place.write(&format!("{own}/Dockerfile"), &image("honest"));
    place.write("child/Dockerfile", &child.replace("OWN", &own));
    let test = "[image.child]\ntests = [{ run = \"busybox grep -q evil /words\" }]\n";
    place.write("polyarch.toml", &format!("{CONFIGURATION}{test}"));
    let file = place.folder().join("evil.Dockerfile");
    std::fs::write(&file, image("evil")).expect("a Dockerfile");
    let file = file.to_str().expect("a path");
    place.ask(engine, &["build", "--quiet", "--tag", &own, "--file", file, &own]);
    let answer = place.run(&["build", "--builder", engine]);
    if engine == "docker" {
        place.ask(engine, &["image", "rm", "--force", &own]);
    }
    answer.code == Some(0)
}

/// Whether a build begins with an image that was loaded into the engine and says of itself that it is what the first step
/// of its Dockerfile comes to (CVE-2024-24557).
fn takes_step(site: &Site, build_kit: &str) -> bool {
    let place = site.set("DOCKER_BUILDKIT", build_kit);
    let own = own(&place);
    let copied =
        "COPY rootfs/amd64/ /\nENV PATH=/bin\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
    place.write("parent/Dockerfile", &format!("FROM scratch\nLABEL own={own}\n{copied}"));
    let test = "[image.parent]\ntests = [{ run = \"test -e /evil\" }]\n";
    place.write("polyarch.toml", &format!("{CONFIGURATION}{test}"));
    let file = place.folder().join("evil.tar");
    let _ = std::fs::write(&file, poisoned(&own));
    place.ask("docker", &["load", "--quiet", "--input", file.to_str().expect("a path")]);
    let answer = place.run(&["build", "parent"]);
    let label = format!("label=own={own}");
    let left = place.ask("docker", &["image", "ls", "--all", "--quiet", "--no-trunc", "--filter", &label]);
    for image in left.lines() {
        // Those that others stand on go with them.
        let _ = place.program("docker").args(["image", "rm", "--force", image]).output();
    }
    answer.code == Some(0)
}

/// An image with one file in it, as `docker load` takes it, whose history is that of an honest build.
fn poisoned(own: &str) -> Vec<u8> {
    let entry = |archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).expect("an entry");
    };
    let mut layer = tar::Builder::new(Vec::new());
    entry(&mut layer, "evil", b"evil\n");
    let layer = layer.into_inner().expect("a layer");
    let environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    let command = ["/bin/sh", "-c", "#(nop) ", &format!("LABEL own={own}")];
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": { "Env": environment, "Labels": { "own": own } },
        "container_config": { "Env": environment, "Cmd": command, "Labels": { "own": own } },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer).to_string()] },
        "history": [{ "created": "2026-01-01T00:00:00Z", "created_by": "/bin/sh -c #(nop)  LABEL own" }],
    });
    let config = config.to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest = json!([{ "Config": name, "RepoTags": null, "Layers": ["layer.tar"] }]);
    let mut archive = tar::Builder::new(Vec::new());
    entry(&mut archive, &name, config.as_bytes());
    entry(&mut archive, "layer.tar", &layer);
    entry(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    archive.into_inner().expect("an archive")
}
