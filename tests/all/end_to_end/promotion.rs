//! What a pull request built and tested is what is published after the merge, where a trusted run signed it; and is not
//! where anything is amiss. Only the first run has an engine.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::engines::{Engine, FOUNDATION, inspected, root_file_systems};
use super::shared_store::{Registry, machine, over, picture};
use crate::program::{Answer, Place};

const CONFIGURATION: &str = "name = \"two\"\nplatforms = [\"linux/386\", \"linux/amd64\"]\n\
    [tags]\ncommon = [\"latest\"]\n[image.child]\ntests = [{ run = \"test -s /words\" }]\n";

/// A family in a place whose scope `pr-1` has its records, and keys beside the family.
pub(super) struct Pulled {
    pub(super) place: Place,
    own: &'static str,
}

impl Pulled {
    /// Built in the scope of a pull request, and not signed; the engine is out of reach from then on.
    pub(super) fn built(test: &str) -> Option<Self> {
        let mut place = Place::with(&[
            ("polyarch.toml", CONFIGURATION),
            ("parent/Dockerfile", FOUNDATION),
            ("child/Dockerfile", "FROM parent\nCOPY words /words\n"),
            ("child/words", "hello\n"),
        ]);
        if !Engine::Classic.equip(test, &mut place)
            || !root_file_systems(test, &place, "parent", &["386", "amd64"])
        {
            return None;
        }
        let _ = place.run(&["build", "--scope", "pr-1"]).well();
        place.set("DOCKER_HOST", "unix:///nowhere");
        pairs_of_keys(&place);
        Some(Self { place, own: "../own.pub" })
    }

    pub(super) fn sign(&self, more: &[&str]) -> Answer {
        self.place.run(&[&["sign", "--scope", "pr-1"], more].concat())
    }

    fn promote(&self, key: &str, more: &[&str]) -> Answer {
        self.place.run(&[&["promote", "--from", "pr-1", "--trust-key", key], more].concat())
    }

    /// A refusal for every image of which nothing is published; its words.
    #[track_caller]
    fn refused(&self, key: &str, because: &str) {
        let answer = self.promote(key, &[]).ended(1);
        assert!(answer.stderr.contains(because), "{because}:\n{}", answer.stderr);
        assert_eq!(self.published(), BTreeSet::new(), "{because}");
    }

    /// The images that have tags in the store.
    pub(super) fn published(&self) -> BTreeSet<&'static str> {
        let there = |name: &&str| {
            let reference = format!("two/{name}:latest");
            let store = self.place.store().display().to_string();
            self.place.run(&["--store", &store, "inspect", &reference]).code == Some(0)
        };
        ["parent", "child"].into_iter().filter(there).collect()
    }

    /// A file with the public key after some lines.
    fn key_after(&self, lines: &str) -> String {
        let key = std::fs::read_to_string(self.place.folder().join("own.pub")).expect("a key");
        std::fs::write(self.place.folder().join("after.pub"), format!("{lines}\n{key}")).expect("a key");
        "../after.pub".to_owned()
    }
}

/// Two pairs of keys beside the family.
pub(super) fn pairs_of_keys(place: &Place) {
    for name in ["own", "other"] {
        let file = |end: &str| place.folder().join(format!("{name}.{end}")).display().to_string();
        let make = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
        place.ask("openssl", &[&make[..], &[&file("key")]].concat());
        place.ask("openssl", &["pkey", "-in", &file("key"), "-pubout", "-out", &file("pub")]);
    }
}

/// A copy of a folder, in another's place.
fn copied(from: &Path, to: &Path, place: &Place) {
    let _ = std::fs::remove_dir_all(to);
    place.ask("cp", &["-a", from.to_str().expect("a path"), to.to_str().expect("a path")]);
}

/// The digests of an image's platforms as a record of the plan has them.
fn platforms(image: &Value) -> Vec<String> {
    let all = image["images"].as_array().expect("images").iter();
    all.map(|one| one["digest"].as_str().expect("a digest").to_owned()).collect()
}

#[test]
fn i_t7_what_was_tested_is_published_byte_for_byte_and_no_engine_is_called() {
    let Some(pulled) = Pulled::built("promotion::i_t7") else { return };
    let _ = pulled.sign(&["--sign-key", "../own.key"]).well();
    let again = pulled.sign(&["--sign-key", "../own.key"]).well();
    assert!(again.stderr.contains("signed already"), "{}", again.stderr);
    let before = std::fs::read_dir(pulled.place.store().join("runs")).expect("runs").count();
    let dry = pulled.promote(pulled.own, &["--dry-run"]).well();
    assert_eq!(pulled.published(), BTreeSet::new(), "a dry run writes nothing");
    let _ = pulled.promote(pulled.own, &[]).well();
    for image in ["parent", "child"] {
        let published = platforms(&inspected(&pulled.place, &format!("two/{image}:latest")));
        assert!(published.iter().all(|digest| dry.stdout.contains(digest.as_str())), "{published:?}");
        for digest in published {
            let built = pulled.place.run(&["inspect", &format!("scopes/pr-1@{digest}")]).well();
            assert!(built.stdout.contains(&digest), "the very digest that was built: {}", built.stdout);
        }
    }
    let after = std::fs::read_dir(pulled.place.store().join("runs")).expect("runs").count();
    assert_eq!(before, after, "no run began");
    // What was promoted is reused from then on, by whoever trusts that key and by whoever asks for none.
    for trust in [&[][..], &["--trust-key", pulled.own]] {
        let plan = pulled.place.run(&[&["plan"], trust].concat()).well();
        assert!(plan.stdout.contains("4 reused"), "{}", plan.stdout);
    }
    let plan = pulled.place.run(&["plan", "--trust-key", "../other.pub"]).well();
    assert!(plan.stdout.contains("signed by nobody who is trusted"), "{}", plan.stdout);
}

/// Each row has one thing amiss, its own word, and nothing published.
#[test]
fn tm29_each_record_that_does_not_count_is_refused_with_its_own_reason() {
    let Some(pulled) = Pulled::built("promotion::tm29") else { return };
    let place = &pulled.place;
    pulled.refused(pulled.own, "its record is not signed");
    pulled.refused(pulled.own, "sign --scope pr-1 --sign-key sign.key");
    let _ = pulled.sign(&["--sign-key", "../other.key"]).well();
    pulled.refused(pulled.own, "signed by nobody who is trusted");
    let _ = pulled.sign(&["--sign-key", "../own.key"]).well();
    pulled.refused(&pulled.key_after("revoked: 2026-01-01"), "by a key that was revoked");
    pulled.refused(&pulled.key_after("valid-until: 2026-01-01"), "by a key that has expired");
    pulled.refused(&pulled.key_after("valid-from: 2999-01-01"), "before the key counted");
    let _ = pulled.promote(&pulled.key_after("valid-untill: 2999-01-01"), &[]).ended(2);
    place.write("child/words", "other\n");
    let child = pulled.promote(pulled.own, &["--dry-run"]).ended(1);
    assert!(child.stderr.contains("child@linux/386 is not promoted: file words changed"), "{}", child.stderr);
    place.write("child/words", "hello\n");
    place.write("polyarch.toml", &CONFIGURATION.replace("-s /words", "-f /words"));
    pulled.refused(pulled.own, "test `test -f /words` is new");
    place.write("polyarch.toml", &format!("fresh-for = \"1s\"\n{CONFIGURATION}"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    pulled.refused(pulled.own, "fresh for 1 s");
    place.write("polyarch.toml", &CONFIGURATION.replace("\"linux/386\", ", "\"linux/arm64\", "));
    pulled.refused(pulled.own, "linux/arm64 is not promoted: no record of it");
    place.write("polyarch.toml", CONFIGURATION);
    let _ = place.run(&["promote", "--from", "pr-2", "--trust-key", pulled.own]).ended(1);
    let none = place.run(&["promote", "--from", "pr-1"]).ended(2);
    assert!(none.stderr.contains("nobody is named"), "{}", none.stderr);
    // Content that is not what it says: the largest blob, changed in place.
    let (store, whole) = (place.store(), place.folder().join("whole"));
    copied(&store, &whole, place);
    let blobs = std::fs::read_dir(store.join("blobs/sha256")).expect("blobs").flatten();
    let largest = blobs.max_by_key(|blob| blob.metadata().expect("a size").len()).expect("a blob").path();
    let mut bytes = std::fs::read(&largest).expect("a layer");
    bytes[100] ^= 1;
    std::fs::remove_file(&largest).expect("out of the way");
    std::fs::write(&largest, bytes).expect("a broken layer");
    pulled.refused(pulled.own, "broken in the store");
    copied(&whole, &store, place);
    let _ = pulled.promote(pulled.own, &[]).well();
    assert_eq!(pulled.published(), ["parent", "child"].into(), "and with nothing amiss it is published");
}

#[test]
fn f_u11_two_keys_in_rotation_both_count_and_a_revoked_one_beside_a_good_one_does_no_harm() {
    let Some(pulled) = Pulled::built("promotion::f_u11") else { return };
    let _ = pulled.sign(&["--sign-key", "../own.key"]).well();
    let _ = pulled.promote(pulled.own, &["--trust-key", "../other.pub", "--dry-run"]).well();
    let _ = pulled.sign(&["--sign-key", "../other.key"]).well();
    let revoked = pulled.key_after("revoked");
    let _ = pulled.promote("../other.pub", &["--trust-key", &revoked]).well();
    assert_eq!(pulled.published(), ["parent", "child"].into());
}

#[test]
fn law_11_the_tree_does_not_say_where_the_records_are_that_are_signed() {
    let Some(pulled) = Pulled::built("promotion::law_11") else { return };
    pulled.place.write("polyarch.toml", &format!("store = \"../store\"\n{CONFIGURATION}"));
    let signed = |scope: &str| {
        let mut sign = pulled.place.program(env!("CARGO_BIN_EXE_polyarch"));
        let output =
            sign.args(["sign", "--scope", scope, "--sign-key", "../own.key"]).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = signed("pr-1");
    assert!(
        code == Some(4) && said.contains("hint: name the store yourself: polyarch --scope pr-1 sign --store"),
        "{code:?} {said}"
    );
    let (code, said) = signed("trusted");
    assert!(
        code == Some(1)
            && said.contains("nothing is signed: no record of this tree stands in the scope trusted"),
        "what is merged may say so, and nothing stands there: {code:?} {said}"
    );
    let _ = pulled.sign(&["--sign-key", "../own.key"]).well();
}

#[test]
fn f_u12_an_approval_is_of_one_tree_and_of_none_that_is_pushed_later() {
    let Some(pulled) = Pulled::built("promotion::f_u12") else { return };
    let shown = pulled.sign(&["--dry-run"]).well().stdout;
    let tree = shown.lines().next().and_then(|line| line.strip_prefix("tree ")).expect("a tree").to_owned();
    assert_eq!(shown.lines().count(), 1 + 8, "two records of each job:\n{shown}");
    let changes: [(&str, &str); 4] = [
        ("child/words", "pushed later\n"),
        ("child/Dockerfile", "FROM parent\nCOPY words /words\nRUN true\n"),
        ("polyarch.toml", &CONFIGURATION.replace("latest", "stable")),
        ("polyarch.toml", &CONFIGURATION.replace("-s /words", "-f /words")),
    ];
    for (file, text) in changes {
        let before = std::fs::read_to_string(pulled.place.family().join(file)).expect("a file");
        pulled.place.write(file, text);
        let refused = pulled.sign(&["--sign-key", "../own.key", "--tree", &tree]).ended(4);
        assert!(refused.stderr.contains("not the one that was approved"), "{}", refused.stderr);
        pulled.place.write(file, &before);
    }
    let _ = pulled.sign(&["--sign-key", "../own.key", "--tree", &tree]).well();
    let _ = pulled.promote(pulled.own, &["--dry-run"]).well();
}

/// Nothing of the tree says in which scope a run works, or whose word counts.
#[test]
fn i_t6_the_tree_has_no_say_in_what_is_trusted() {
    for line in ["scope = \"trusted\"", "trusted = true", "trust-key = \"own.pub\"", "from = \"pr-1\""] {
        let place = Place::with(&[("a/Dockerfile", "FROM scratch\n"), ("polyarch.toml", line)]);
        let refused = place.run(&["plan"]).ended(2);
        assert!(refused.stderr.contains("there is no setting"), "{line}: {}", refused.stderr);
    }
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n"), (".env", "POLYARCH_SCOPE=trusted\n")]);
    let refused = place.run(&["--scope", "pr-1", "publish", "--to", "127.0.0.1:1"]).ended(4);
    assert!(refused.stderr.contains("scope `pr-1`"), "{}", refused.stderr);
}

/// F-U1: what is trusted is said from outside; the tree has no say, by a file of its own or by a link to one.
#[test]
fn f_u1_a_key_of_the_tree_is_not_trusted() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n"), ("own.pub", "")]);
    std::os::unix::fs::symlink(place.family().join("own.pub"), place.folder().join("link.pub"))
        .expect("a link");
    for key in ["own.pub", "../link.pub", "../family/own.pub"] {
        let refused = place.run(&["promote", "--from", "pr-1", "--trust-key", key]).ended(4);
        assert!(refused.stderr.contains("a file of the tree"), "{}", refused.stderr);
    }
    let refused = place.run(&["--scope", "pr-1", "promote", "--from", "pr-1"]).ended(4);
    assert!(refused.stderr.contains("refused in the scope"), "{}", refused.stderr);
}

#[test]
fn law_3_what_a_registry_has_lost_ends_one_image_and_not_the_promotion() {
    let Some(mut place) = machine("promotion::law_3", "one") else { return };
    let registry = Registry::start(&place);
    registry.let_in(&mut place);
    pairs_of_keys(&place);
    let file = std::fs::read_to_string(place.family().join("polyarch.toml")).expect("the configuration");
    place.write("polyarch.toml", &format!("{file}[publish]\nunit = \"image\"\n"));
    let host = registry.store.split('/').next().expect("a host").to_owned();
    let blobs = || picture(&place.folder().join("registry/blobs")).into_iter().map(|(path, _)| path);
    let _ = over(&place, &registry, &["build", "parent", "--scope", "pr-1"]).well();
    let before: BTreeSet<_> = blobs().collect();
    let _ = over(&place, &registry, &["build", "--scope", "pr-1"]).well();
    let _ = over(&place, &registry, &["sign", "--scope", "pr-1", "--sign-key", "../own.key"]).well();
    let is_layer =
        |path: &std::path::PathBuf| std::fs::read(path).expect("a blob").starts_with(&[0x1f, 0x8b]);
    let layers: Vec<_> = blobs().filter(|path| !before.contains(path) && is_layer(path)).collect();
    assert_eq!(layers.len(), 1, "the leaf has a layer of its own");
    std::fs::remove_file(&layers[0]).expect("lost");
    // Another machine, which has nothing itself.
    std::fs::remove_dir_all(place.store()).expect("removed");

    let from = ["promote", "--from", "pr-1", "--trust-key", "../own.pub", "--to", &host];
    let published =
        |image: &str| place.run(&["inspect", &format!("{host}/shared/{image}:latest")]).code == Some(0);
    for (more, parent) in [(&["--dry-run"][..], false), (&[], true)] {
        let answer = over(&place, &registry, &[&from[..], more].concat()).ended(1);
        let why = "leaf@linux/amd64 is not promoted: its record stands, but sha256:";
        for told in [why, "is missing from the store", "build leaf@linux/amd64 --no-reuse"] {
            assert!(answer.stderr.contains(told), "{told}:\n{}", answer.stderr);
        }
        assert_eq!((published("parent"), published("leaf")), (parent, false), "{}", answer.stderr);
    }
    let _ = over(&place, &registry, &["build", "leaf@linux/amd64", "--no-reuse"]).well();
    let _ = over(&place, &registry, &["publish", "--to", &host]).well();
    assert!(published("leaf"));
}
