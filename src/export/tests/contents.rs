//! What is in the files.

use std::io::{Read, Seek};

use serde_json::Value;

use super::*;
use crate::config::{ArchiveFormat, Compression};
use crate::diag::Problems;

/// The entries of a tar archive, in their order.
fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        assert_eq!(entry.header().mtime().expect("a time"), 0, "no clock");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its bytes");
        (entry.path().expect("a path").to_string_lossy().into_owned(), bytes)
    });
    entries.collect()
}

fn json(entries: &[(String, Vec<u8>)], name: &str) -> Value {
    let entry = entries.iter().find(|(found, _)| found == name).expect("an entry of that name");
    serde_json::from_slice(&entry.1).expect("JSON")
}

/// The bytes of a file, made by so many threads.
async fn bytes(shop: &Shop, archive: &Archive, threads: usize) -> std::io::Result<Vec<u8>> {
    let (blobs, archive) = (shop.blobs(), archive.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut file = tempfile::tempfile()?;
        let (digest, size) = write(&archive, &blobs, file.try_clone()?, threads, &|_| {})?;
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64), "what is told of it is true");
        Ok(bytes)
    });
    work.await.expect("it ends")
}

/// The file of one image with these layers, not compressed.
async fn one(
    shop: &Shop,
    format: ArchiveFormat,
    layers: &[(&[u8], Packed)],
    told: Option<&[Digest]>,
) -> Archive {
    let job = job("a@linux/amd64");
    let image = shop.image(&job, layers, told).await;
    let family = family("platforms = [\"linux/amd64\"]\n[[export]]\n", &["a"]).expect("a family");
    let overrides = Overrides {
        format: Some(format),
        compress: Some(Compression::None),
        name: Some("a.tar".parse().expect("a name")),
        ..Overrides::default()
    };
    let asked = Asked { overrides, ..Asked::default() };
    let mut found = archives(&family, &asked, &BTreeMap::from([(job, image)]), &facts()).expect("files");
    found.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_docker_archive_has_unpacked_layers_whatever_they_were() {
    let shop = Shop::new();
    let (low, high) = (vec![7; 300_000], b"high".repeat(50_000));
    let layers: [(&[u8], Packed); 4] =
        [(&low, Packed::Gzip), (&high, Packed::Zstd), (b"plain", Packed::Plain), (&low, Packed::Zstd)];
    let archive = one(&shop, ArchiveFormat::Docker, &layers, None).await;
    let entries = entries(&bytes(&shop, &archive, 3).await.expect("an archive"));
    let manifest = json(&entries, "manifest.json");
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["family/a:latest"]));
    let config = json(&entries, manifest[0]["Config"].as_str().expect("a name"));
    let diff_ids: Vec<&str> =
        config["rootfs"]["diff_ids"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let named: Vec<&str> =
        manifest[0]["Layers"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(named.len(), 4);
    for (name, diff_id) in named.iter().zip(&diff_ids) {
        let (_, bytes) = entries.iter().find(|(found, _)| found == name).expect("a layer");
        assert_eq!(Digest::of(bytes).to_string(), *diff_id);
    }
    assert_eq!(
        entries.len(),
        5,
        "the layer that is there twice stands once, beside two others and two documents"
    );
    assert_eq!(entries[0].0, "manifest.json", "what says what there is comes first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layout_has_the_content_of_the_store_under_its_digests() {
    let shop = Shop::new();
    let archives = two(&shop, "[[export]]\nformat = \"oci\"\nname = \"{image}.tar\"\n").await;
    assert_eq!(archives.len(), 1, "both platforms are in one file");
    let entries = entries(&bytes(&shop, &archives[0], 2).await.expect("an archive"));
    assert_eq!(json(&entries, "oci-layout")["imageLayoutVersion"], "1.0.0");
    for (name, bytes) in entries.iter().filter(|(name, _)| name.starts_with("blobs/")) {
        assert_eq!(*name, format!("blobs/sha256/{}", Digest::of(bytes).hex()));
    }
    let list = json(&entries, "index.json");
    let top = &list["manifests"][0];
    assert_eq!(top["annotations"]["org.opencontainers.image.ref.name"], "latest");
    assert_eq!(top["annotations"]["io.containerd.image.name"], "docker.io/family/a:latest");
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("a digest").replace(':', "/");
        json(&entries, &format!("blobs/{digest}"))
    };
    let index = blob(&top["digest"]);
    let platforms = index["manifests"].as_array().expect("images");
    assert_eq!(platforms.len(), 2);
    for image in platforms {
        let manifest = blob(&image["digest"]);
        let config = blob(&manifest["config"]["digest"]);
        assert_eq!(config["architecture"], image["platform"]["architecture"]);
    }
    assert_eq!(entries.len(), 2 + 1 + 2 * 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_image_gives_the_same_bytes_on_any_number_of_cores() {
    let shop = Shop::new();
    let noise: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 25) as u8).collect();
    let layers: [(&[u8], Packed); 2] = [(&noise, Packed::Gzip), (b"end", Packed::Plain)];
    let plain = one(&shop, ArchiveFormat::Docker, &layers, None).await;
    let whole = bytes(&shop, &plain, 1).await.expect("an archive");
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let archive = Archive { compression, ..plain.clone() };
        let first = bytes(&shop, &archive, 1).await.expect("an archive");
        assert!(first == bytes(&shop, &archive, 4).await.expect("an archive"), "{compression:?}");
        let unpacked = match compression {
            Compression::None => first,
            Compression::Gzip => {
                let mut unpacked = Vec::new();
                let mut reader = flate2::read::GzDecoder::new(first.as_slice());
                reader.read_to_end(&mut unpacked).expect("gzip");
                unpacked
            }
            Compression::Zstd => zstd::stream::decode_all(first.as_slice()).expect("zstd"),
        };
        assert!(unpacked == whole, "{compression:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_is_not_the_one_that_the_image_names_is_told() {
    let shop = Shop::new();
    let other = [Digest::of(b"another")];
    let wrong = one(&shop, ArchiveFormat::Docker, &[(b"layer", Packed::Gzip)], Some(&other)).await;
    let error = bytes(&shop, &wrong, 1).await.expect_err("another diffID");
    assert!(error.to_string().contains("unpacks to"), "{error}");
    let few = one(&shop, ArchiveFormat::Docker, &[(b"layer", Packed::Gzip)], Some(&[])).await;
    let error = bytes(&shop, &few, 1).await.expect_err("no diffID");
    assert!(error.to_string().contains("names 0 layers, its manifest 1"), "{error}");
    let bad = one(&shop, ArchiveFormat::Docker, &[(b"\x1f\x8b\x08 no gzip", Packed::Plain)], None).await;
    let error = bytes(&shop, &bad, 1).await.expect_err("no archive");
    assert!(error.to_string().contains("unpack layer"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_has_lost_is_the_stores_fault_and_leaves_nothing() {
    let (shop, empty) = (Shop::new(), Shop::new());
    let archive = one(&shop, ArchiveFormat::Oci, &[(b"layer", Packed::Gzip)], None).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (path, blobs) = (folder.path().to_owned(), empty.blobs());
    let staged = tokio::task::spawn_blocking(move || {
        let folder = Folder::open(&path)?;
        folder.stage(archive, &folder.index()?, &blobs, 1, &|_| {})
    });
    let problems: Problems = staged.await.expect("it ends").expect_err("nothing is there");
    assert_eq!(problems.exit_code(), 3);
    assert!(problems.iter().any(|problem| problem.hints.iter().any(|hint| hint.contains("gc --scrub"))));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
