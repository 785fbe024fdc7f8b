//! Attacks on what is promoted: records that nobody, somebody else or nobody any more stands for; others' signatures; other
//! content; other trees.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use polyarch::oci::{Digest, Document, Manifest, Store};
use serde_json::{Value, json};

use crate::Scenario;
use crate::ground::{CONFIGURATION, Record, Site, forged, repository};

const OWN: &str = "../own.pub";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const RECORD: &str = "urn:polyarch:record:v1";
/// The jobs of the image that is attacked.
const JOBS: [&str; 2] = ["child@linux/386", "child@linux/amd64"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = |name, defence, attack: fn(&Site) -> bool| Scenario { name, defence, attack };
    vec![
        of("TM29 what nobody signed is promoted", "SignedRecords", |site| site.promoted("pr-1", OWN)),
        of("TM1 the honest key stands for the attacker's image", "SignedRecords", |site| {
            poison(site, "pr-1");
            site.promoted("pr-1", OWN)
        }),
        of("F-U4 records copied by hand into the trusted scope", "SignedRecords", |site| {
            copy_to_trusted(site);
            site.promoted("pr-2", OWN)
        }),
        of("TM1 a trusted build reuses what was put into its scope", "SignedRecords", |site| {
            copy_to_trusted(site);
            poison(site, "trusted");
            site.run(&["plan", "--trust-key", OWN]).well().stdout.contains("4 reused")
        }),
        of("TM29 signed by a key of the attacker's", "Signatures", |site| {
            site.sign("pr-1", "../other.key");
            site.promoted("pr-1", OWN)
        }),
        of("F-U4 a signature whose text was exchanged", "Signatures", |site| {
            each_record(site, "pr-1", |record| with_old_signature(site, record));
            site.promoted("pr-1", OWN)
        }),
        of("TM1 the attacker's image under the honest key, signed by himself", "Signatures", |site| {
            poison(site, "pr-1");
            each_signed(site, "other", RECORD, "2026-01-01T00:00:00Z");
            site.promoted("pr-1", OWN)
        }),
        of("TM29 an honest signature moved to the attacker's record", "Subjects", |site| {
            poison(site, "pr-1");
            each_record(site, "pr-1", |_| {
                bundle(site, "own", RECORD, &Digest::of(b"an honest one"), "2026-01-01T00:00:00Z")
            });
            site.promoted("pr-1", OWN)
        }),
        of("F-U9 results of tests forged, with the signature of others", "Subjects", |site| {
            site.sign("pr-1", "../own.key");
            for job in JOBS {
                let record = site.record("pr-1", "checks", job);
                let document = forged(&record, |said| said["tests"] = json!([["true", 1]]));
                let other = bundle(site, "own", RECORD, &Digest::of(b"others"), "2026-01-01T00:00:00Z");
                site.put("pr-1", &with_signature(&document, &other), &record.tag);
            }
            site.promoted("pr-1", OWN)
        }),
        of("F-U9 results of tests written by hand, beside images that are signed", "SignedRecords", |site| {
            let unsigned = JOBS.map(|job| site.record("pr-1", "checks", job));
            site.sign("pr-1", "../own.key");
            for record in unsigned {
                let document = forged(&record, |said| said["tests"] = json!([["true", 1]]));
                site.put("pr-1", &document, &record.tag);
            }
            site.promoted("pr-1", OWN)
        }),
        of("TM28 a signature that says something else of these bytes", "Kinds", |site| {
            let kind = "https://sigstore.dev/cosign/sign/v1";
            each_signed(site, "own", kind, "2026-01-01T00:00:00Z");
            site.promoted("pr-1", OWN)
        }),
        of("TM28 provenance taken for a signed record", "Kinds", |site| {
            let kind = "https://slsa.dev/provenance/v1";
            each_signed(site, "own", kind, "2026-01-01T00:00:00Z");
            site.promoted("pr-1", OWN)
        }),
        of("F-U11 a key that has expired", "KeyTerms", |site| by_term(site, "valid-until: 2026-01-01")),
        of("F-U11 a key that does not count yet", "KeyTerms", |site| by_term(site, "valid-from: 2999-01-01")),
        of("F-U11 an expired key that signs with an earlier date", "KeyTerms", |site| {
            each_signed(site, "own", RECORD, "2025-06-01T00:00:00Z");
            site.promoted("pr-1", &key_after(site, "valid-until: 2026-01-01"))
        }),
        of("F-U11 signed in the future", "KeyTerms", |site| {
            each_signed(site, "own", RECORD, "2999-01-01T00:00:00Z");
            site.promoted("pr-1", OWN)
        }),
        of("F-U11 a key that was revoked", "Revocation", |site| by_term(site, "revoked: 2026-01-01")),
        of("F-U11 a stolen key that signs with a date before it was revoked", "Revocation", |site| {
            each_signed(site, "own", RECORD, "2026-01-01T00:00:00Z");
            site.promoted("pr-1", &key_after(site, "revoked: 2026-06-01"))
        }),
        of("F-U1 the tree brings the key that is to be trusted", "KeysFromOutside", |site| {
            site.sign("pr-1", "../other.key");
            copy_key(site, "sign.pub");
            site.promoted("pr-1", "sign.pub")
        }),
        of("F-U1 a trusted file is a link into the tree", "KeysFromOutside", |site| {
            site.sign("pr-1", "../other.key");
            copy_key(site, "sign.pub");
            let link = site.place.folder().join("link.pub");
            std::os::unix::fs::symlink(site.place.family().join("sign.pub"), link).expect("a link");
            site.promoted("pr-1", "../link.pub")
        }),
        of(
            "F-U7 what was approved and signed of another tree, under this tree's key",
            "RecordKeys",
            |site| {
                site.sign_evil();
                for job in JOBS {
                    let (honest, evil) =
                        (site.record("pr-1", "image", job), site.record("pr-6", "image", job));
                    site.put("pr-6", &evil.document, &honest.tag);
                }
                site.promoted("pr-6", OWN)
            },
        ),
        of("F-U7 signed tests of another image, under the key of this image's", "RecordKeys", |site| {
            site.sign_evil();
            site.sign("pr-1", "../own.key");
            for job in JOBS {
                let (honest, evil) = (site.record("pr-1", "checks", job), site.record("pr-6", "checks", job));
                site.raw(async |store| {
                    store.remove_tag(&repository("pr-1"), &honest.tag).await.expect("removed");
                });
                // The records of the honest image, and the attacker's word on its tests.
                let image = site.record("pr-1", "image", job);
                copy_image_record(site, &image);
                site.put("pr-6", &evil.document, &honest.tag);
            }
            site.promoted("pr-6", OWN)
        }),
        of("TM29 a layer that was changed in the store after it was signed", "Rehash", |site| {
            site.sign("pr-1", "../own.key");
            harm(site, |manifest| manifest.layers.last().expect("a layer").digest.clone());
            site.promoted("pr-1", OWN)
        }),
        of("TM29 the first layer of all, changed in the store", "Rehash", |site| {
            site.sign("pr-1", "../own.key");
            harm(site, |manifest| manifest.layers[0].digest.clone());
            site.promoted("pr-1", OWN)
        }),
        of("F-U12 a file pushed after the approval", "ApprovedTree", |site| {
            pushed(site, "child/words", "pushed later\n")
        }),
        of("F-U12 a Dockerfile pushed after the approval", "ApprovedTree", |site| {
            pushed(site, "child/Dockerfile", "FROM parent\nCOPY words /words\nRUN true\n")
        }),
        of("F-U12 other tags pushed after the approval", "ApprovedTree", |site| {
            pushed(site, "polyarch.toml", &CONFIGURATION.replace("latest", "stable"))
        }),
        of("F-U12 weaker tests pushed after the approval", "ApprovedTree", |site| {
            pushed(site, "polyarch.toml", &CONFIGURATION.replace("test -s /words", "true"))
        }),
        of(
            "TM2 the tree names a store of the attacker's, where forged records stand",
            "SignedStore",
            |site| {
                poison(site, "pr-1");
                signed_in_a_store_of_the_tree(site, "../evil")
            },
        ),
        of("F-U1 a store that the tree brings along", "SignedStore", |site| {
            poison(site, "pr-1");
            signed_in_a_store_of_the_tree(site, "evil")
        }),
    ]
}

/// Whether what was signed in a store that the tree names is promoted once the line is gone again, and the records are
/// where the honest ones were.
fn signed_in_a_store_of_the_tree(site: &Site, store: &str) -> bool {
    let (own, evil) = (site.place.store(), site.place.family().join(store));
    std::fs::rename(&own, &evil).expect("moved");
    site.place.write("polyarch.toml", &format!("store = \"{store}\"\n{CONFIGURATION}"));
    let mut sign = site.place.program(env!("CARGO_BIN_EXE_polyarch"));
    sign.args(["sign", "--scope", "pr-1", "--sign-key", "../own.key"]);
    let _ = sign.output().expect("it runs");
    site.place.write("polyarch.toml", CONFIGURATION);
    std::fs::rename(&evil, &own).expect("moved back");
    site.promoted("pr-1", OWN)
}

/// The attacker's images, under the keys of the honest tree.
fn poison(site: &Site, scope: &str) {
    for job in JOBS {
        let (honest, evil) = (site.record("pr-1", "image", job), site.record("pr-6", "image", job));
        let checks = site.record("pr-6", "checks", job);
        bring(site, "pr-6", scope, &evil);
        let key = honest.said["key"].clone();
        site.put(scope, &forged(&evil, |said| said["key"] = key), &honest.tag);
        site.put(scope, &checks.document, &checks.tag);
    }
}

/// Every record of the pull request, and what it stands for, in the trusted scope.
fn copy_to_trusted(site: &Site) {
    for record in site.records("pr-1") {
        bring(site, "pr-1", "trusted", &record);
        site.put("trusted", &record.document, &record.tag);
    }
}

/// The image of a record, in another scope.
fn bring(site: &Site, from: &str, to: &str, record: &Record) {
    let (from, to) = (repository(from), repository(to));
    let image = record.document.index().expect("an index").manifests.remove(0).digest;
    site.raw(async |store| {
        let image = store.read_document(&from, &image.into()).await.expect("an image");
        for blob in image.blobs().expect("blobs") {
            assert!(store.mount_blob(&to, &blob.digest, &from).await.expect("mounted"));
        }
        store.write_document(&to, &image, &[]).await.expect("written");
    });
}

/// An image's record with its signature, in the attacker's scope.
fn copy_image_record(site: &Site, record: &Record) {
    bring(site, "pr-1", "pr-6", record);
    site.put("pr-6", &record.document, &record.tag);
}

/// Signs each record of `pr-1` by somebody, as a statement of a kind made at a time.
fn each_signed(site: &Site, by: &str, kind: &str, at: &str) {
    each_record(site, "pr-1", |record| bundle(site, by, kind, &record.1, at));
}

/// Signs every record of a scope in a way of the attacker's: given the record and the digest of its text.
fn each_record(site: &Site, scope: &str, make: impl Fn(&(Record, Digest)) -> Value) {
    for record in site.records(scope) {
        let index = record.document.index().expect("an index");
        let digest = Digest::of(index.annotations["dev.polyarch.record"].as_bytes());
        let (document, tag) = (record.document.clone(), record.tag.clone());
        site.put(scope, &with_signature(&document, &make(&(record, digest))), &tag);
    }
}

/// A record's document with a bundle beside those it has.
fn with_signature(document: &Document, bundle: &Value) -> Document {
    let mut index = document.index().expect("an index");
    let list = index.annotations.remove("dev.polyarch.signatures").unwrap_or_else(|| "[]".to_owned());
    let mut list: Vec<String> = serde_json::from_str(&list).expect("a list");
    list.insert(0, bundle.to_string());
    let list = serde_json::to_string(&list).expect("JSON");
    index.annotations.insert("dev.polyarch.signatures".to_owned(), list);
    Document::of_index(&index)
}

/// A statement of a kind about a digest, signed by a key of the site.
fn bundle(site: &Site, key: &str, kind: &str, subject: &Digest, at: &str) -> Value {
    let payload = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": subject.hex() } }],
        "predicateType": kind,
        "predicate": { "signedAt": at, "tree": "sha256:0" },
    });
    let payload = payload.to_string();
    let text = "application/vnd.in-toto+json";
    let message = format!("DSSEv1 {} {text} {} {payload}", text.len(), payload.len());
    let file = |name: &str| site.place.folder().join(name).display().to_string();
    std::fs::write(file("message"), message).expect("a message");
    let key = file(&format!("{key}.key"));
    site.place
        .ask("openssl", &["dgst", "-sha256", "-sign", &key, "-out", &file("signature"), &file("message")]);
    let signature = STANDARD.encode(std::fs::read(file("signature")).expect("a signature"));
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {},
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": text,
            "signatures": [{ "sig": signature }],
        },
    })
}

/// A signature of the trusted key on something else, with this record's text put into it.
fn with_old_signature(site: &Site, (_, digest): &(Record, Digest)) -> Value {
    let old = bundle(site, "own", RECORD, &Digest::of(b"another"), "2026-01-01T00:00:00Z");
    let mut new = bundle(site, "other", RECORD, digest, "2026-01-01T00:00:00Z");
    new["dsseEnvelope"]["signatures"] = old["dsseEnvelope"]["signatures"].clone();
    new
}

/// A file with the trusted key, after a line on it.
fn key_after(site: &Site, line: &str) -> String {
    let key = std::fs::read_to_string(site.place.folder().join("own.pub")).expect("a key");
    std::fs::write(site.place.folder().join("after.pub"), format!("{line}\n{key}")).expect("a key");
    "../after.pub".to_owned()
}

fn by_term(site: &Site, line: &str) -> bool {
    site.sign("pr-1", "../own.key");
    site.promoted("pr-1", &key_after(site, line))
}

fn copy_key(site: &Site, name: &str) {
    std::fs::copy(site.place.folder().join("other.pub"), site.place.family().join(name)).expect("a key");
}

/// Changes a byte of a blob of the child in the store's own file.
fn harm(site: &Site, which: impl Fn(&Manifest) -> Digest) {
    let record = site.record("pr-1", "image", JOBS[0]);
    let image = record.document.index().expect("an index").manifests.remove(0).digest;
    let manifest = site.raw(async |store| {
        let document = store.read_document(&repository("pr-1"), &image.into()).await.expect("an image");
        document.manifest().expect("a manifest")
    });
    let file = site.place.store().join("blobs/sha256").join(which(&manifest).hex());
    let mut bytes = std::fs::read(&file).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&file).expect("out of the way");
    std::fs::write(&file, bytes).expect("a broken blob");
}

/// Whether something else than what was approved is signed.
fn pushed(site: &Site, file: &str, text: &str) -> bool {
    let shown = site.run(&["sign", "--scope", "pr-1", "--dry-run"]).well().stdout;
    let tree = shown.lines().next().and_then(|line| line.strip_prefix("tree ")).expect("a tree").to_owned();
    site.place.write(file, text);
    let answer = site.run(&["sign", "--scope", "pr-1", "--sign-key", "../own.key", "--tree", &tree]);
    answer.code != Some(4)
}
