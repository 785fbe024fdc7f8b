//! Files that no export has written (TM5, TM13): each is refused, with its reason, and nothing in the store has a name.

use serde_json::{Value, json};

use super::*;
use crate::oci::{Descriptor, ImageIndex};

/// One entry of an archive, as it is written.
#[derive(Clone)]
struct Item {
    name: Vec<u8>,
    kind: u8,
    /// Where it is not the size of the bytes.
    size: Option<u64>,
    bytes: Vec<u8>,
}

fn item(name: &str, bytes: impl Into<Vec<u8>>) -> Item {
    Item { name: name.into(), kind: b'0', size: None, bytes: bytes.into() }
}

fn blob(bytes: impl Into<Vec<u8>>) -> Item {
    let bytes = bytes.into();
    item(&format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes)
}

fn header(item: &Item) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..item.name.len().min(100)].copy_from_slice(&item.name[..item.name.len().min(100)]);
    header.set_size(item.size.unwrap_or(item.bytes.len() as u64));
    header.set_mode(0o644);
    header.as_mut_bytes()[156] = item.kind;
    header.set_cksum();
    header
}

fn archive(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        out.extend_from_slice(header(item).as_bytes());
        out.extend_from_slice(&item.bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A file of a job, before it is spoilt: layout, list, two records, manifest, configuration, layer.
#[derive(Clone)]
struct Good {
    image: Value,
    checks: Value,
    configuration: String,
    layers: Vec<String>,
    /// What is done to the manifest once it is known.
    manifest: fn(&mut Value),
    /// What is done to the index of the image's record.
    index: fn(&mut Value),
}

impl Good {
    fn new() -> Self {
        Self {
            image: json!({}),
            checks: json!({}),
            configuration: configuration("amd64", 1),
            layers: vec!["layer".to_owned()],
            manifest: |_| (),
            index: |_| (),
        }
    }

    fn items(&self) -> Vec<Item> {
        let config = Descriptor::of(MediaType::CONFIG, self.configuration.as_bytes());
        let layer = |layer: &String| Descriptor::of(MediaType::LAYER_GZIP, layer.as_bytes());
        let layers = self.layers.iter().map(layer).collect();
        let manifest = Document::of_manifest(&Manifest::new(config.clone(), layers));
        let manifest = spoilt(MediaType::MANIFEST, &manifest, self.manifest);
        let image = merged(
            json!({
                "version": RECORD_VERSION, "job": JOB, "key": Digest::of(b"key"), "inputs": {},
                "platform": "linux/amd64", "image": manifest.digest(), "size": manifest.bytes().len(),
                "config": config.digest, "bytes": 5, "parents": {}, "builder": "local", "emulated": false,
                "built_at_seconds": 1, "milliseconds": 1,
            }),
            &self.image,
        );
        let checks = merged(
            json!({
                "version": RECORD_VERSION, "job": JOB, "key": Digest::of(b"checks"),
                "image": manifest.digest(), "tests": [], "tags": [], "descriptions": [],
            }),
            &self.checks,
        );
        let records = [(image, self.index), (checks, (|_| ()) as fn(&mut Value))].map(|(record, spoil)| {
            let index = ImageIndex {
                annotations: BTreeMap::from([("dev.polyarch.record".to_owned(), record.to_string())]),
                ..ImageIndex::new(vec![manifest.descriptor()])
            };
            spoilt(MediaType::INDEX, &Document::of_index(&index), spoil)
        });
        let list = ImageIndex::new(records.iter().map(Document::descriptor).collect());
        let mut items = vec![
            item("oci-layout", crate::export::LAYOUT),
            item("index.json", Document::of_index(&list).bytes().to_vec()),
        ];
        items.extend(records.iter().map(|record| blob(record.bytes().to_vec())));
        items.push(blob(manifest.bytes().to_vec()));
        items.push(blob(self.configuration.clone()));
        items.extend(self.layers.iter().map(|layer| blob(layer.clone())));
        items
    }

    fn file(&self) -> Vec<u8> {
        archive(&self.items())
    }
}

fn spoilt(media_type: &str, document: &Document, spoil: fn(&mut Value)) -> Document {
    let mut value: Value = serde_json::from_slice(document.bytes()).expect("JSON");
    spoil(&mut value);
    Document::new(media_type, value.to_string())
}

fn merged(mut value: Value, over: &Value) -> Value {
    for (name, field) in over.as_object().expect("an object") {
        value[name] = field.clone();
    }
    value
}

/// A good file with its entries changed.
fn with(change: impl FnOnce(&mut Vec<Item>)) -> Vec<u8> {
    let mut items = Good::new().items();
    change(&mut items);
    archive(&items)
}

/// A good file with an entry renamed.
fn named(at: usize, name: &[u8]) -> Vec<u8> {
    with(|items| items[at].name = name.to_vec())
}

/// A good file with one more entry, of another type.
fn of_type(kind: u8) -> Vec<u8> {
    with(|items| items.insert(2, Item { kind, ..item("a", "") }))
}

fn record_of(image: Value) -> Vec<u8> {
    Good { image, ..Good::new() }.file()
}

fn bytes_changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Good::new().file();
    change(&mut bytes);
    bytes
}

/// Where the header of an entry begins.
fn at(entry: usize) -> usize {
    archive(&Good::new().items()[..entry]).len() - 1024
}

fn list(value: Value) -> Vec<u8> {
    with(|items| items[1].bytes = value.to_string().into_bytes())
}

type Case = (&'static str, Vec<u8>, &'static str);

/// Archives that are none, or that two readers would understand in two ways.
fn archives() -> Vec<Case> {
    let gzip = gzipped(&Good::new().file());
    let mut cases: Vec<Case> = vec![
        ("nothing", vec![], "there is nothing in it"),
        ("zeros", vec![0; 4096], "there is nothing in it"),
        ("a text", b"hello, world\n".repeat(100), "it is no archive"),
        ("a gzip", gzip, "it is no archive"),
        ("cut in a header", bytes_changed(|bytes| bytes.truncate(at(3) + 100)), ""),
        ("cut in an entry", bytes_changed(|bytes| bytes.truncate(at(2) + 700)), ""),
        ("cut in a blob", bytes_changed(|bytes| bytes.truncate(at(6) + 514)), ""),
        ("cut between entries", bytes_changed(|bytes| bytes.truncate(at(3))), "does not come"),
        ("a wrong checksum", bytes_changed(|bytes| bytes[at(2) + 5] ^= 1), "checksum"),
        ("a size in letters", bytes_changed(|bytes| size_field(bytes, at(2), b"zzzzzzzzzzz\0")), ""),
        ("a negative size", bytes_changed(|bytes| size_field(bytes, at(2), &[0xff; 12])), ""),
        ("something after its end", bytes_changed(|bytes| bytes.push(1)), "follows its end"),
        ("a second archive", bytes_changed(|bytes| bytes.extend(Good::new().file())), "follows its end"),
        ("endless padding", bytes_changed(|bytes| bytes.resize(3 << 20, 0)), "follows its end"),
    ];
    let kinds = [
        ("a hard link", b'1'),
        ("a symbolic link", b'2'),
        ("a character device", b'3'),
        ("a block device", b'4'),
        ("a folder", b'5'),
        ("a FIFO", b'6'),
        ("a contiguous file", b'7'),
        ("a PAX header", b'x'),
        ("a global PAX header", b'g'),
        ("a long name", b'L'),
        ("a long link", b'K'),
        ("a sparse file", b'S'),
        ("a volume", b'V'),
        ("a continued file", b'M'),
        ("a file as they were once", 0),
    ];
    cases.extend(kinds.map(|(what, kind)| (what, of_type(kind), "only files may come")));
    cases
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, bytes).expect("pack");
    gzip.finish().expect("pack")
}

fn size_field(bytes: &mut [u8], at: usize, size: &[u8]) {
    bytes[at + 124..at + 136].copy_from_slice(size);
    bytes[at + 148..at + 156].fill(b' ');
    let sum: u32 = bytes[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The record of the image so many times, each followed by so much space that it is another of the largest documents.
fn large_records(items: &mut Vec<Item>, times: usize) {
    let of = |number: usize| {
        let mut bytes = items[2].bytes.clone();
        bytes.resize(Document::BYTES_LIMIT - number, b' ');
        bytes
    };
    let records: Vec<Vec<u8>> = (0..times).map(of).collect();
    let list = records.iter().map(|record| Descriptor::of(MediaType::INDEX, record)).collect();
    items[1].bytes = Document::of_index(&ImageIndex::new(list)).bytes().to_vec();
    items.splice(2..4, records.into_iter().map(blob));
}

/// Entries with names, sizes and content that they must not have.
fn entries() -> Vec<Case> {
    let hex = "ab".repeat(32);
    let place = |name: &str| named(6, name.as_bytes());
    let big = (Document::BYTES_LIMIT + 1) as u64;
    vec![
        ("no layout", with(|items| drop(items.remove(0))), "the first entry"),
        ("another layout", with(|items| items[0].bytes = b"{}".to_vec()), "it should say"),
        ("no list", with(|items| drop(items.remove(1))), "the second entry"),
        ("a list that is none", with(|items| items[1].bytes = b"[".to_vec()), ""),
        ("an empty list", list(json!({"schemaVersion": 2, "manifests": []})), "no entry before it names it"),
        ("a name in front of one", named(0, b"./oci-layout"), "the first entry"),
        ("a way out", place("../../etc/passwd"), "content is at"),
        ("a way out below", place("blobs/sha256/../../../x"), "content is at"),
        ("from the root", place("/etc/passwd"), "content is at"),
        ("another algorithm", place(&format!("blobs/sha512/{hex}")), "content is at"),
        ("large digits", place(&format!("blobs/sha256/{}", hex.to_uppercase())), "content is at"),
        ("few digits", place("blobs/sha256/abcd"), "content is at"),
        ("many digits", place(&format!("blobs/sha256/{hex}ab")), "content is at"),
        ("a folder's name", place(&format!("blobs/sha256/{hex}/")), "content is at"),
        ("a way round", place(&format!("blobs//sha256/{hex}")), "content is at"),
        ("a back slash", place(&format!("blobs\\sha256\\{hex}")), "content is at"),
        ("a colour", place("\x1b[31mred"), "\\u{1b}"),
        ("no UTF-8", named(6, b"\xff\xfe"), "UTF-8"),
        ("another file", with(|items| items.push(item("polyarch.toml", "x"))), "content is at"),
        ("what nobody names", with(|items| items.push(blob("more"))), "no entry before it names it"),
        ("a blob before its manifest", with(|items| items.swap(4, 6)), "no entry before it names it"),
        ("a blob twice", with(|items| items.push(items[6].clone())), "it comes twice"),
        ("a record twice", with(|items| items.insert(3, items[2].clone())), "it comes twice"),
        ("a longer blob", with(|items| items[6].bytes.push(b'x')), "was named with"),
        ("a shorter blob", with(|items| items[6].bytes.truncate(4)), "was named with"),
        ("another blob", with(|items| items[6].bytes[0] ^= 1), "another digest"),
        ("another configuration", with(|items| items[5].bytes[9] ^= 1), "another digest"),
        ("another manifest", with(|items| items[4].bytes[9] ^= 1), ""),
        ("another record", with(|items| items[2].bytes[9] ^= 1), ""),
        ("no manifest", with(|items| items.truncate(4)), "does not come"),
        ("a huge document", with(|items| items[1].bytes = vec![b' '; big as usize]), "at most"),
        ("a huge blob that is none", with(|items| items[6].size = Some(65 << 30)), "at most"),
        (
            "a thousand layers",
            Good { layers: (0..1000).map(|at| at.to_string()).collect(), ..Good::new() }.file(),
            "a file has at most 1000 entries",
        ),
        ("records that fill the memory", with(|items| large_records(items, 5)), "have at most 16 MiB"),
    ]
}

/// Records and images that do not agree with themselves.
fn meanings() -> Vec<Case> {
    let good = Good::new;
    let twice = |value: &mut Value| {
        let first = value["manifests"][0].clone();
        value["manifests"] = json!([first, first]);
    };
    let other = json!(Digest::of(b"other"));
    vec![
        ("a record of another version", record_of(json!({"version": RECORD_VERSION + 1})), "version"),
        ("a record of two images", Good { index: twice, ..good() }.file(), "of 2 images"),
        (
            "a record without one",
            Good { index: |index| index["annotations"] = json!({}), ..good() }.file(),
            "no annotation",
        ),
        ("a record of another image", record_of(json!({"image": other})), "another image"),
        (
            "checks of another image",
            Good { checks: json!({"image": other}), ..good() }.file(),
            "another image",
        ),
        ("a record of no job", record_of(json!({"job": "../x"})), "names no job"),
        ("a record of a job elsewhere", record_of(json!({"job": "base@linux/arm64"})), "another platform"),
        (
            "a record for another platform than its image",
            record_of(json!({"job": "base@linux/arm64", "platform": "linux/arm64"})),
            "its image is not",
        ),
        ("a key that is a path", record_of(json!({"key": "sha256:../../x"})), "cannot be read"),
        ("a record of another configuration", record_of(json!({"config": other})), "another configuration"),
        (
            "an image of another platform",
            Good { configuration: configuration("arm64", 1), ..good() }.file(),
            "is not",
        ),
        (
            "an image of more layers",
            Good { configuration: configuration("amd64", 2), ..good() }.file(),
            "layers",
        ),
        (
            "an image that is none",
            Good { configuration: "no JSON".to_owned(), ..good() }.file(),
            "of no image",
        ),
        (
            "a manifest that is an index too",
            Good { manifest: |manifest| manifest["manifests"] = json!([]), ..good() }.file(),
            "",
        ),
        (
            "a manifest without a configuration",
            Good { manifest: |manifest| manifest["config"] = Value::Null, ..good() }.file(),
            "",
        ),
        (
            "a layer that is a record",
            with(|items| {
                let record = Descriptor::of(MediaType::LAYER_GZIP, &items[2].bytes);
                let mut manifest: Manifest = serde_json::from_slice(&items[4].bytes).expect("a manifest");
                manifest.layers.push(record);
                items[4] = blob(Document::of_manifest(&manifest).bytes().to_vec());
            }),
            "",
        ),
        (
            "one blob of two sizes",
            Good {
                manifest: |manifest| {
                    let mut layer = manifest["layers"][0].clone();
                    layer["size"] = json!(4);
                    manifest["layers"] = json!([manifest["layers"][0], layer]);
                },
                ..good()
            }
            .file(),
            "named in two ways",
        ),
    ]
}

async fn each_is_refused(cases: Vec<Case>) {
    for (what, file, why) in cases {
        let store = shop();
        let fault = take(&store, &[&file]).await.expect_err(what);
        let told = match &fault {
            Fault::Refused(told) | Fault::Foreign(told) => told.clone(),
            // The rules of every store refuse what two readers take for two things.
            Fault::Store(error) => format!("{error:?}"),
            other => panic!("{what}: {other:?}"),
        };
        assert!(told.contains(why), "{what}: {told}");
        assert_eq!(names(&store).await, Vec::<String>::new(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_before_it_is_spoilt_is_taken() {
    let arrived = take(&shop(), &[&Good::new().file()]).await.expect("a good file");
    assert_eq!(arrived.len(), 1);
    let file = with(|items| large_records(items, 3));
    let arrived = take(&shop(), &[&file]).await.expect("records as large as they may be");
    assert_eq!(arrived.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tm13_archives_that_two_readers_understand_in_two_ways_are_refused() {
    each_is_refused(archives()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tm5_nothing_is_taken_in_that_was_not_named_with_its_size_and_digest() {
    each_is_refused(entries()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tm5_records_that_do_not_agree_with_their_images_are_refused() {
    each_is_refused(meanings()).await;
}

#[test]
fn there_are_sixty_of_them() {
    assert!(archives().len() + entries().len() + meanings().len() >= 60);
}
