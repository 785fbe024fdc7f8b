//! How files come to stand in their folder.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;

/// Export into a folder, as the command does; what the files are called, and whether they stood.
async fn export(shop: &Shop, archives: &[Archive], path: &Path) -> Result<Vec<(String, bool)>> {
    let (archives, path, blobs) = (archives.to_vec(), path.to_owned(), shop.blobs());
    let work = tokio::task::spawn_blocking(move || {
        let folder = Folder::open(&path)?;
        let index = folder.index()?;
        let staged = archives.into_iter().map(|archive| folder.stage(archive, &index, &blobs, 2, &|_| {}));
        let mut staged = staged.collect::<Result<Vec<_>>>()?;
        folder.place(&mut staged)?;
        Ok(staged.into_iter().map(|file| (file.archive.name, file.stood)).collect())
    });
    work.await.expect("it ends")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn index(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("exports.json")).expect("an index")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_has_every_alias_and_what_is_true_of_the_files() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let archives = two(&shop, "[[export]]\n").await;
    export(&shop, &archives, folder.path()).await.expect("exported");
    assert_eq!(names(folder.path()), ["a-latest-arm64.tar.gz", "a-latest.tar.gz", "exports.json"]);
    let index = index(folder.path());
    let one = &index["exports"][0];
    assert_eq!((one["image"].as_str(), one["tag"].as_str()), (Some("a"), Some("latest")));
    assert_eq!(one["url"], "a-latest.tar.gz");
    for alias in ["x86_64", "amd64", "linux/amd64", "X64"] {
        assert_eq!(one["urls"][alias], "a-latest.tar.gz", "{alias}");
    }
    for alias in ["aarch64", "arm64", "linux/arm64", "linux/arm64/v8", "ARM64"] {
        assert_eq!(one["urls"][alias], "a-latest-arm64.tar.gz", "{alias}");
    }
    for (name, file) in one["files"].as_object().expect("files") {
        let bytes = fs::read(folder.path().join(name)).expect("the file");
        assert_eq!(file["sha256"], Digest::of(&bytes).hex());
        assert_eq!(file["size"], bytes.len());
        assert_eq!(file["references"][0], "family/a:latest");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_is_left_alone_and_what_was_changed_is_written_anew() {
    use std::os::unix::fs::MetadataExt as _;
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let archives = two(&shop, "[[export]]\n").await;
    let stood = |name: &str| fs::metadata(folder.path().join(name)).expect("a file").ino();
    let first = export(&shop, &archives, folder.path()).await.expect("exported");
    assert!(first.iter().all(|(_, stood)| !stood), "{first:?}");
    let before: Vec<u64> = names(folder.path()).iter().map(|name| stood(name)).collect();
    let again = export(&shop, &archives, folder.path()).await.expect("exported");
    assert!(again.iter().all(|(_, stood)| *stood), "{again:?}");
    fs::remove_file(folder.path().join("exports.json")).expect("remove the index");
    let index_lost = export(&shop, &archives, folder.path()).await.expect("exported");
    assert!(index_lost.iter().all(|(_, stood)| *stood), "the bytes are the same: {index_lost:?}");
    let after: Vec<u64> = names(folder.path()).iter().map(|name| stood(name)).collect();
    assert_eq!(before[..2], after[..2], "no file was replaced");

    let broken = folder.path().join("a-latest.tar.gz");
    let mut bytes = fs::read(&broken).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&broken, &bytes).expect("break it");
    let mended = export(&shop, &archives, folder.path()).await.expect("exported");
    assert_eq!(mended.iter().filter(|(_, stood)| !stood).count(), 1, "{mended:?}");
    bytes[middle] ^= 1;
    assert!(fs::read(&broken).expect("the file") == bytes, "it is as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_other_files_keeps_those_that_stand_in_the_index() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let archives = two(&shop, "[[export]]\n").await;
    export(&shop, &archives[..1], folder.path()).await.expect("exported");
    export(&shop, &archives[1..], folder.path()).await.expect("exported");
    let whole = index(folder.path());
    assert_eq!(whole["exports"].as_array().map(Vec::len), Some(1));
    assert_eq!(whole["exports"][0]["files"].as_object().map(|files| files.len()), Some(2));
    fs::remove_file(folder.path().join(&archives[0].name)).expect("remove one");
    export(&shop, &archives[1..], folder.path()).await.expect("exported");
    let rest = index(folder.path());
    assert_eq!(
        rest["exports"][0]["files"].as_object().map(|files| files.len()),
        Some(1),
        "what is gone is gone"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_files_of_one_platform_stand_in_two_elements() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let archives = two(&shop, "[[export]]\nname = \"{image}{suffix}.tgz\"\n[[export]]\n").await;
    export(&shop, &archives, folder.path()).await.expect("exported");
    let index = index(folder.path());
    let urls = |at: usize| index["exports"][at]["urls"]["amd64"].as_str().expect("a file").to_owned();
    assert_eq!([urls(0), urls(1)], ["a-latest.tar.gz", "a.tgz"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_replaced_where_one_file_cannot_be_written() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let archives = two(&shop, "[[export]]\n").await;
    fs::write(folder.path().join(&archives[0].name), "of yesterday").expect("an old file");
    fs::create_dir(folder.path().join(&archives[1].name)).expect("a folder in its place");
    let problems = export(&shop, &archives, folder.path()).await.expect_err("a folder is in the way");
    assert_eq!(problems.exit_code(), 3);
    assert!(problems.to_string().contains("directory"), "{problems}");
    assert_eq!(fs::read(folder.path().join(&archives[0].name)).expect("the old file"), b"of yesterday");
    assert_eq!(names(folder.path()).len(), 2, "{:?}", names(folder.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_none_of_ours_is_not_overwritten() {
    let shop = Shop::new();
    let archives = two(&shop, "[[export]]\n").await;
    for foreign in ["{}", "[]", "no JSON", r#"{"version": 2, "exports": []}"#] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("exports.json"), foreign).expect("a file");
        let problems = export(&shop, &archives, folder.path()).await.expect_err(foreign);
        assert_eq!(problems.exit_code(), 2, "{problems}");
        assert_eq!(names(folder.path()), ["exports.json"]);
        assert_eq!(fs::read_to_string(folder.path().join("exports.json")).expect("the file"), foreign);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_replaced_and_what_it_leads_to_stays() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let archives = two(&shop, "[[export]]\nname = \"sub/{image}{suffix}.tar\"\n").await;
    fs::create_dir(folder.path().join("sub")).expect("a folder");
    fs::write(folder.path().join("victim"), "victim").expect("a file");
    std::os::unix::fs::symlink("../victim", folder.path().join("sub/a.tar")).expect("a link");
    export(&shop, &archives, folder.path()).await.expect("exported");
    assert_eq!(fs::read_to_string(folder.path().join("victim")).expect("the file"), "victim");
    assert!(fs::symlink_metadata(folder.path().join("sub/a.tar")).expect("a file").is_file());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_export_left_goes_and_what_another_writes_stays() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let archives = two(&shop, "[[export]]\n").await;
    let dead = folder.path().join(".polyarch-export-dead.part");
    let alive = folder.path().join(".polyarch-export-alive.part");
    fs::write(&dead, "half").expect("a file");
    fs::write(&alive, "half").expect("a file");
    let held = fs::File::open(&alive).expect("a file");
    held.lock().expect("nobody else holds it");
    export(&shop, &archives, folder.path()).await.expect("exported");
    assert!(!dead.exists() && alive.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_leaves_nothing() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let archives = two(&shop, "[[export]]\n").await;
    let target = folder.path().join("new");
    let (blobs, path) = (shop.blobs(), target.clone());
    let work = tokio::task::spawn_blocking(move || {
        let folder = Folder::open(&path)?;
        let index = folder.index()?;
        let stopping = blobs.clone();
        // The first step of the first file is the last that is done.
        let staged = archives
            .into_iter()
            .map(|archive| folder.stage(archive, &index, &blobs, 2, &|_| stopping.stop()));
        staged.collect::<Result<Vec<_>>>().inspect_err(|_| folder.leave())
    });
    let problems = work.await.expect("it ends").expect_err("it was stopped");
    assert!(problems.to_string().contains("it was stopped"), "{problems}");
    assert!(!target.exists(), "the folder that was made goes too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exports_into_one_folder_at_once_all_stand_in_the_index() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let names: Vec<String> = (0..8).map(|at| format!("{at}-{{image}}{{suffix}}.tar")).collect();
    let mut all = Vec::new();
    for name in &names {
        all.push(two(&shop, &format!("[[export]]\nname = \"{name}\"\n")).await);
    }
    let exports = all.iter().map(|archives| export(&shop, archives, folder.path()));
    for done in futures_util::future::join_all(exports).await {
        done.expect("exported");
    }
    let index = index(folder.path());
    let files: usize = { index["exports"].as_array().expect("exports") }
        .iter()
        .map(|one| one["files"].as_object().map_or(0, |files| files.len()))
        .sum();
    assert_eq!(files, 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_image_under_the_same_name_is_written() {
    let (shop, folder) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let mut archives = two(&shop, "[[export]]\n").await;
    export(&shop, &archives, folder.path()).await.expect("exported");
    let of_arm = archives[1].images.values().next().expect("an image").clone();
    archives[0].images.values_mut().for_each(|image| *image = of_arm.clone());
    archives[1].references.push("another/name:1".to_owned());
    let again = export(&shop, &archives, folder.path()).await.expect("exported");
    assert!(again.iter().all(|(_, stood)| !stood), "{again:?}");
}
