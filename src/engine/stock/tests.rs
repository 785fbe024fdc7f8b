//! What engines are handed out of the store, and what is taken from them.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::*;
use crate::engine::StoreAddress;
use crate::oci::{Descriptor, ImageIndex, Layout, Manifest, MediaType, Pointer, Repository, Secret, fixture};

/// A store with a parent in it, and the order for a child.
struct Bench {
    folder: tempfile::TempDir,
    store: Layout,
    scope: Repository,
    parent: Document,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Layout::open(folder.path().join("store")).unwrap();
        let scope: Repository = "scopes/trusted".parse().unwrap();
        let config = fixture::blob(&store, &scope, MediaType::CONFIG, "{}").await;
        let layer = fixture::blob(&store, &scope, MediaType::LAYER_GZIP, "a layer").await;
        let parent = Document::of_manifest(&Manifest::new(config, vec![layer]));
        let parent = fixture::keep(&store, &scope, parent, &[]).await;
        Self { folder, store, scope, parent }
    }

    fn stock(&self) -> Stock {
        Stock::new(Arc::new(self.store.clone()), self.store.root().to_owned())
    }

    fn order(&self) -> BuildOrder {
        let scratch = self.folder.path().join("build");
        std::fs::create_dir_all(&scratch).unwrap();
        BuildOrder {
            title: "leaf@linux/amd64".to_owned(),
            platform: "linux/amd64".parse().unwrap(),
            context: scratch.clone(),
            dockerfile: String::new(),
            images: [self.parent.digest().clone()].into(),
            ignore: None,
            target: None,
            args: BTreeMap::new(),
            labels: BTreeMap::new(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            no_cache: false,
            caches: Default::default(),
            cache: crate::engine::CacheOrder::default(),
            store: StoreAddress {
                registry: "127.0.0.1:1".to_owned(),
                repository: self.scope.clone(),
                user: String::new(),
                password: Secret::new(String::new()),
            },
            tag: "build".parse().unwrap(),
            log: scratch.join("log"),
            scratch,
            time_limit: std::time::Duration::from_secs(1),
        }
    }

    /// What a build would have returned: the parent's layer, and one that says this.
    fn returns(&self, order: &BuildOrder, layer: &str, said: &str) {
        let result = order.scratch.join(RESULT);
        let keep = |media_type: &str, said: &[u8], bytes: &[u8]| {
            let descriptor = Descriptor::of(media_type, said);
            let file = blob(&result, &descriptor.digest);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
            descriptor
        };
        let config = keep(MediaType::CONFIG, b"{\"os\":\"linux\"}", b"{\"os\":\"linux\"}");
        let new = keep(MediaType::LAYER_GZIP, said.as_bytes(), layer.as_bytes());
        let layers = self.parent.manifest().unwrap().layers.into_iter().chain([new]).collect();
        let manifest = Document::of_manifest(&Manifest::new(config, layers));
        let top = keep(MediaType::MANIFEST, manifest.bytes(), manifest.bytes());
        let index = Document::of_index(&ImageIndex::new(vec![top]));
        std::fs::write(result.join("index.json"), index.bytes()).unwrap();
    }
}

#[tokio::test]
async fn a_build_reads_the_store_and_its_result_is_taken_in_by_digest() {
    let bench = Bench::new().await;
    let (stock, order) = (bench.stock(), bench.order());
    let arguments = session_arguments(&order).join(" ");
    let name = order.store.at(bench.parent.digest());
    let expected =
        format!("--build-context {name}=oci-layout://store:latest@{} --output", bench.parent.digest());
    assert!(arguments.starts_with(&expected), "{arguments}");
    for _ in 0..2 {
        stock.lay_out(&order).await.unwrap();
    }
    let parent = std::fs::read(blob(&order.scratch.join(STORE), bench.parent.digest())).unwrap();
    assert_eq!(parent, bench.parent.bytes().to_vec());
    let layer = &bench.parent.manifest().unwrap().layers[0];
    let there = std::fs::read_to_string(blob(&order.scratch.join(RESULT), &layer.digest)).unwrap();
    assert_eq!(there, "a layer", "what it stands on need not be sent back");

    bench.returns(&order, "a new layer", "a new layer");
    let built = stock.take_in(&order).await.unwrap();
    assert_eq!(built.config, Digest::of(b"{\"os\":\"linux\"}"));
    let kept = bench.store.read_document(&bench.scope, &Pointer::Tag(order.tag.clone())).await.unwrap();
    assert_eq!(kept.manifest().unwrap().layers[1].digest, Digest::of(b"a new layer"));
    let client = order.scratch.join(STORE).join("ingest");
    std::fs::create_dir(&client).unwrap();
    assert!(!bench.store.root().join("ingest").exists(), "what a client makes is not made in the store");
}

#[tokio::test]
async fn f_g4_what_is_not_what_it_says_is_not_taken_in() {
    let bench = Bench::new().await;
    let (stock, order) = (bench.stock(), bench.order());
    stock.lay_out(&order).await.unwrap();
    let nothing = stock.take_in(&order).await.expect_err("no result");
    assert!(nothing.to_string().contains("index.json"), "{nothing}");
    for layer in ["another bytes", "shorter"] {
        bench.returns(&order, layer, "a new layers.");
        let wrong = stock.take_in(&order).await.expect_err("a layer of other bytes");
        assert!(wrong.causes.iter().any(|cause| cause.contains("blob sha256:")), "{wrong}");
        let digest = Digest::of(b"a new layers.");
        assert_eq!(bench.store.blob_size(&bench.scope, &digest).await.unwrap(), None);
    }
    let two = ImageIndex::new(vec![bench.parent.descriptor(), bench.parent.descriptor()]);
    std::fs::write(order.scratch.join(RESULT).join("index.json"), Document::of_index(&two).bytes()).unwrap();
    let two = stock.take_in(&order).await.expect_err("two images");
    assert!(two.causes.iter().any(|cause| cause.contains("2 images where one")), "{two}");
    let pointer = Pointer::Tag(order.tag.clone());
    assert!(bench.store.resolve(&bench.scope, &pointer).await.unwrap().is_none());
}

#[tokio::test]
async fn an_archive_is_read_by_engines_of_both_image_stores() {
    let bench = Bench::new().await;
    let file = bench.folder.path().join("image.tar");
    for name in ["127.0.0.1:1/scopes/trusted:loaded", &*bench.order().store.at(bench.parent.digest())] {
        let (stock, image) = (bench.stock(), bench.parent.digest());
        stock.archive(&bench.scope, image, name, Layers::Brought, &file).await.unwrap();
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(std::fs::File::open(&file).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (path, mut text) = (entry.path().unwrap().display().to_string(), String::new());
            entry.read_to_string(&mut text).unwrap();
            files.insert(path, text);
        }
        let json = |path: &str| serde_json::from_str::<serde_json::Value>(&files[path]).unwrap();
        let top = &json("index.json")["manifests"][0];
        assert_eq!(top["annotations"]["io.containerd.image.name"], name);
        assert_eq!(top["digest"], bench.parent.digest().to_string());
        let docker = &json("manifest.json")[0];
        assert_eq!(files[docker["Layers"][0].as_str().unwrap()], "a layer");
        assert_eq!(files[docker["Config"].as_str().unwrap()], "{}");
        let tags = docker["RepoTags"].as_array().unwrap().len();
        assert_eq!(tags, usize::from(!name.contains('@')));
    }
    let size = || std::fs::metadata(&file).unwrap().len();
    let whole = size();
    let (stock, image) = (bench.stock(), bench.parent.digest());
    stock.archive(&bench.scope, image, "name", Layers::Found, &file).await.unwrap();
    assert!(size() < whole, "layers that the engine has are not in it");
}

/// The path of a layer, and its bytes or where a link leads.
type Saved<'a> = (&'a str, Result<&'a str, &'a str>);

/// An archive as `docker save` of an old engine makes it: a layer in a folder, or a link to one in another.
fn saved(file: &std::path::Path, config: &str, layers: &[Saved<'_>]) {
    let mut archive = tar::Builder::new(std::fs::File::create(file).unwrap());
    let mut add = |path: &str, kind: tar::EntryType, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        match kind.is_symlink() {
            true => {
                header.set_size(0);
                archive.append_link(&mut header, path, text).unwrap();
            }
            false => {
                header.set_size(text.len() as u64);
                archive.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
        }
    };
    for (path, layer) in layers {
        match layer {
            Ok(text) => add(path, tar::EntryType::Regular, text),
            Err(target) => add(path, tar::EntryType::Symlink, target),
        }
    }
    add("config.json", tar::EntryType::Regular, config);
    let paths: Vec<&str> = layers.iter().map(|(path, _)| *path).collect();
    let listed = serde_json::json!([{"Config": "config.json", "RepoTags": ["a:b"], "Layers": paths}]);
    add("manifest.json", tar::EntryType::Regular, &listed.to_string());
    archive.finish().unwrap();
}

fn configuration(contents: &[&str]) -> String {
    let contents: Vec<String> = contents.iter().map(|text| Digest::of(text.as_bytes()).to_string()).collect();
    serde_json::json!({"os": "linux", "rootfs": {"diff_ids": contents}}).to_string()
}

#[tokio::test]
async fn what_an_engine_saves_is_compressed_but_for_the_layers_that_stand() {
    let bench = Bench::new().await;
    let (stock, mut order) = (bench.stock(), bench.order());
    let below = configuration(&["below"]);
    let below = fixture::image(&bench.store, &bench.scope, &below, "compressed elsewhere", &[]).await;
    order.images = [below.digest().clone()].into();
    let file = order.scratch.join("saved.tar");
    let config = configuration(&["below", "new", "new"]);
    // The layer that the store has is not even read.
    let layers = [
        ("a/layer.tar", Ok("no matter")),
        ("b/layer.tar", Ok("new")),
        ("c/layer.tar", Err("../b/layer.tar")),
    ];
    saved(&file, &config, &layers);
    let built = stock.take_saved(&order, &file, &Digest::of(config.as_bytes())).await.unwrap();
    assert_eq!(built.config, Digest::of(config.as_bytes()));
    let kept = bench.store.read_document(&bench.scope, &Pointer::Tag(order.tag.clone())).await.unwrap();
    let kept = kept.manifest().unwrap();
    assert_eq!(kept.config.digest, built.config, "byte for byte");
    assert_eq!(kept.layers[0], below.manifest().unwrap().layers[0]);
    assert_eq!(kept.layers[1], kept.layers[2]);
    let packed = bench.store.read_blob(&bench.scope, &kept.layers[1].digest, None).await.unwrap();
    let packed = packed.collect(&kept.layers[1].digest, 1 << 20).await.unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), kept.layers[1].media_type.as_str()), ("new", MediaType::LAYER_GZIP));
}

#[tokio::test]
async fn f_g4_an_archive_of_something_else_is_not_taken_in() {
    let bench = Bench::new().await;
    let (stock, order) = (bench.stock(), bench.order());
    let file = order.scratch.join("saved.tar");
    let config = configuration(&["one"]);
    let table: [(&str, &[Saved<'_>], &str); 5] = [
        (&config, &[("a/layer.tar", Ok("another"))], "holds sha256:"),
        (&config, &[("a/layer.tar", Err("a/../layer.tar"))], "has no file a/layer.tar"),
        (&config, &[("layer.tar", Err("layer.tar"))], "has no file layer.tar"),
        (&config, &[], "has 1 layers, and the archive 0"),
        ("{}", &[], "the archive has configuration"),
    ];
    for (said, layers, problem) in table {
        saved(&file, said, layers);
        let wrong = stock.take_saved(&order, &file, &Digest::of(config.as_bytes())).await.expect_err(problem);
        assert!(wrong.causes.iter().any(|cause| cause.contains(problem)), "{problem}: {wrong}");
    }
    std::fs::write(&file, "no archive").unwrap();
    let _ = stock.take_saved(&order, &file, &Digest::of(b"x")).await.expect_err("no archive");
    let pointer = Pointer::Tag(order.tag.clone());
    assert!(bench.store.resolve(&bench.scope, &pointer).await.unwrap().is_none());
}
