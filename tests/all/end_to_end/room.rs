//! A store that has filled its disk by itself: the next run makes the room that it needs (F-K7).

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use polyarch::oci::{Layout, Repository, Store};

use super::engines::{Engine, FOUNDATION, root_file_systems};
use crate::program::{Answer, Place, skip};

const CONFIGURATION: &str = "name = \"room\"\nplatforms = [\"linux/amd64\"]\n";
const MIB: usize = 1 << 20;
/// The disk.
const WHOLE: usize = 40 * MIB;
/// What is left of it is less than the image needs.
const LEFT: usize = MIB / 4;

/// A store that nothing leads into any more, and nobody has looked at for days.
fn full_store(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Layout::open(folder).expect("a store");
        let name: Repository = "scopes/trusted".parse().expect("a name");
        for number in 0..WHOLE / MIB {
            let size = if number == 0 { MIB - LEFT } else { MIB };
            let bytes = Bytes::from(vec![u8::try_from(number).expect("few"); size]);
            store.write_blob(&name, bytes).await.expect("written");
        }
    });
    for entry in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let file = fs::File::options().write(true).open(entry.path()).expect("a file");
            let written = file.metadata().and_then(|found| found.modified()).expect("its time");
            file.set_modified(written - Duration::from_secs(3 * 24 * 60 * 60)).expect("older");
        }
    }
}

#[test]
fn f_k7_a_run_makes_room_before_the_disk_is_full() {
    const TEST: &str = "room::f_k7";
    let mut place = Place::with(&[("polyarch.toml", CONFIGURATION), ("base/Dockerfile", FOUNDATION)]);
    if !Engine::Classic.equip(TEST, &mut place) || !root_file_systems(TEST, &place, "base", &["amd64"]) {
        return;
    }
    let seed = place.folder().join("seed");
    full_store(&seed);
    fs::create_dir(place.store()).expect("a mount point");
    let here = "mount -t tmpfs -o mode=700,size=40m none \"$1\" && cp -a \"$2/.\" \"$1\"";
    let mut unshare = place.program("unshare");
    unshare.args(["-rm", "sh", "-c", here, "sh"]).args([&place.store(), &seed]);
    if !unshare.status().is_ok_and(|status| status.success()) {
        return skip(TEST, "no namespace with a file system of its own can be made");
    }
    let mut run = place.program("unshare");
    let script = format!("{here} && exec \"$0\" --store \"$1\" build");
    run.args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_polyarch")]).args([&place.store(), &seed]);
    let answer = Answer::from(run.output().expect("it runs")).well();
    assert!(answer.stderr.contains("1 built"), "{}", answer.stderr);
    let told = "little room on the disk of the store: removed 40 files";
    assert!(answer.stderr.contains(told), "{}", answer.stderr);
    assert!(!answer.stderr.contains("a larger disk"), "{}", answer.stderr);
}
