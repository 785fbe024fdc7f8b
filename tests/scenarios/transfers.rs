//! Attacks by files that jobs hand to one another: TM5.

use std::io::Read as _;

use polyarch::oci::{Digest, Document};
use serde_json::Value;

use crate::Scenario;
use crate::ground::Site;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = |name, defence, attack: fn(&Site) -> bool| Scenario { name, defence, attack };
    vec![
        of("TM5 an entry that comes twice", "ImportNamed", |site| {
            let mut entries = exported(site);
            let last = entries.last().cloned().expect("an entry");
            entries.push(last);
            imported(site, &entries)
        }),
        of("F-U10 a file of an image that has no end of layers", "ImportLimits", |site| {
            let entries = with_layers(exported(site), 1_100);
            imported(site, &entries)
        }),
        of("F-U10 a file of records that fill the memory", "ImportLimits", |site| {
            let entries = with_large_records(exported(site), 20);
            imported(site, &entries)
        }),
        of("TM1 a record of the last refresh epoch, after which there is none", "TakenEpochs", |site| {
            let said = |text: &str| text.replace('\'', "\\\"");
            let (same, inputs) = (said("'config':"), said("'inputs':{"));
            let last = said(&format!("'inputs':{{'epoch':'{}',", u64::MAX));
            let entries = exchanged(exported(site), &[[same.clone(), same], [inputs, last]]);
            assert!(imported_into(site, "trusted", &entries), "the record itself is a good one");
            // What is refreshed is what stands, from now on.
            planned_key(site, &["--refresh=child"]) == planned_key(site, &[])
        }),
        of("TM5 a record for another platform than its image", "ImportRecord", |site| {
            let of = |kind: &str, text: &str| format!("\\\"{kind}\\\":\\\"{text}\\\"");
            let platform = [of("platform", "linux/386"), of("platform", "linux/arm64")];
            let job = [of("job", "child@linux/386"), of("job", "child@linux/arm64")];
            imported(site, &exchanged(exported(site), &[platform, job]))
        }),
        of("TM5 a record that names another configuration than its image has", "ImportRecord", |site| {
            let entries = exported(site);
            let config = site.record("pr-1", "image", "child@linux/386").said["config"].clone();
            let config = config.as_str().expect("a digest");
            let other = Digest::of(b"another").to_string();
            let of = |digest: &str| format!("\\\"config\\\":\\\"{digest}\\\"");
            imported(site, &exchanged(entries, &[[of(config), of(&other)]]))
        }),
    ]
}

type Entry = (String, Vec<u8>);

/// The file of a job, taken apart.
fn exported(site: &Site) -> Vec<Entry> {
    let folder = site.place.folder().join("jobs");
    let path = folder.to_str().expect("a path");
    let _ = site.run(&["export", "--scope", "pr-1", "--delta", "child@linux/386", "--to", path]).well();
    let file = std::fs::read_dir(&folder).expect("files").flatten().next().expect("a file").path();
    let mut archive = tar::Archive::new(std::fs::File::open(&file).expect("the file"));
    let entries = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("bytes");
        (name, bytes)
    });
    entries.collect()
}

/// The same with texts of the record that has the first of them exchanged, under its new digest.
fn exchanged(mut entries: Vec<Entry>, texts: &[[String; 2]]) -> Vec<Entry> {
    let [first, _] = &texts[0];
    let holds = |(name, bytes): &&mut Entry| {
        name.starts_with("blobs/") && String::from_utf8_lossy(bytes).contains(first)
    };
    let (name, bytes) = entries.iter_mut().find(holds).expect("a record that says so");
    let text = String::from_utf8(bytes.clone()).expect("a text");
    let text = texts.iter().fold(text, |text, [old, new]| text.replace(old, new));
    let (before, after) = (name.trim_start_matches("blobs/sha256/").to_owned(), Digest::of(text.as_bytes()));
    *name = format!("blobs/sha256/{}", after.hex());
    *bytes = text.clone().into_bytes();
    let (_, index) = entries.iter_mut().find(|(name, _)| name == "index.json").expect("an index");
    let mut list: Value = serde_json::from_slice(index).expect("JSON");
    for one in list["manifests"].as_array_mut().expect("records") {
        if one["digest"].as_str().is_some_and(|digest| digest.ends_with(&before)) {
            one["digest"] = after.to_string().into();
            one["size"] = text.len().into();
        }
    }
    *index = list.to_string().into_bytes();
    entries
}

/// The same with the record of its image so many times, each followed by so much space that it is another of the largest
/// documents.
fn with_large_records(mut entries: Vec<Entry>, times: usize) -> Vec<Entry> {
    let is_record = |(name, bytes): &Entry| {
        name.starts_with("blobs/") && String::from_utf8_lossy(bytes).contains("\\\"config\\\":")
    };
    let at = entries.iter().position(is_record).expect("a record");
    let mut index: Value = serde_json::from_slice(&entries[1].1).expect("JSON");
    let record = entries[at].1.clone();
    for number in 1..=times {
        let mut bytes = record.clone();
        bytes.resize(Document::BYTES_LIMIT - number, b' ');
        let (digest, list) = (Digest::of(&bytes), index["manifests"].as_array_mut().expect("records"));
        let mut one = list[0].clone();
        one["digest"] = digest.to_string().into();
        one["size"] = bytes.len().into();
        list.push(one);
        entries.insert(2, (format!("blobs/sha256/{}", digest.hex()), bytes));
    }
    entries[1].1 = index.to_string().into_bytes();
    entries
}

/// The same with so many more layers in its image, each in the file and named by what comes before it, as it should be.
fn with_layers(entries: Vec<Entry>, more: usize) -> Vec<Entry> {
    let named = |bytes: &[u8]| (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.to_vec());
    let is_record = |value: &Value| {
        value["annotations"]["dev.polyarch.record"]
            .as_str()
            .is_some_and(|said| said.contains("\"inputs\":{\"") && said.contains("\"config\":"))
    };
    let read = |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let mut record = entries.iter().map(|(_, bytes)| read(bytes)).find(is_record).expect("a record");
    let of = |digest: &Value| {
        let hex = digest.as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
        let found = entries.iter().find(|(name, _)| name.ends_with(&hex));
        read(&found.expect("what is named comes").1)
    };
    let mut manifest = of(&record["manifests"][0]["digest"]);
    let mut config = of(&manifest["config"]["digest"]);
    let layers: Vec<Vec<u8>> = (0..more).map(|number| format!("layer {number}").into_bytes()).collect();
    for layer in &layers {
        let (digest, size) = (Digest::of(layer).to_string(), layer.len());
        let layer_type = manifest["layers"][0]["mediaType"].clone();
        config["rootfs"]["diff_ids"].as_array_mut().expect("layers").push(digest.clone().into());
        let layer = serde_json::json!({ "mediaType": layer_type, "digest": digest, "size": size });
        manifest["layers"].as_array_mut().expect("layers").push(layer);
    }
    let point = |at: &mut Value, bytes: &[u8]| {
        at["digest"] = Digest::of(bytes).to_string().into();
        at["size"] = bytes.len().into();
    };
    let config = config.to_string().into_bytes();
    point(&mut manifest["config"], &config);
    let manifest = manifest.to_string().into_bytes();
    point(&mut record["manifests"][0], &manifest);
    let annotation = &mut record["annotations"]["dev.polyarch.record"];
    let mut said: Value = serde_json::from_str(annotation.as_str().expect("a record")).expect("JSON");
    said["image"] = Digest::of(&manifest).to_string().into();
    said["size"] = manifest.len().into();
    said["config"] = Digest::of(&config).to_string().into();
    *annotation = said.to_string().into();
    let record = record.to_string().into_bytes();
    let mut index = read(&entries[1].1);
    index["manifests"].as_array_mut().expect("records").truncate(1);
    point(&mut index["manifests"][0], &record);
    let begun = [entries[0].clone(), ("index.json".to_owned(), index.to_string().into_bytes())];
    let content = [record, manifest, config].into_iter().chain(layers);
    let own: std::collections::BTreeSet<String> = entries[2..].iter().map(|(name, _)| name.clone()).collect();
    let content: Vec<Entry> = content.map(|bytes| named(&bytes)).collect();
    assert!(content.iter().all(|(name, _)| !own.contains(name)), "it is another image");
    begun.into_iter().chain(content).collect()
}

/// Whether the program takes a file of these entries in.
fn imported(site: &Site, entries: &[Entry]) -> bool {
    imported_into(site, "pr-9", entries)
}

fn imported_into(site: &Site, scope: &str, entries: &[Entry]) -> bool {
    let file = site.place.folder().join("evil.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&file).expect("a file"));
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, name, bytes.as_slice()).expect("an entry");
    }
    archive.finish().expect("an end");
    let answer = site.run(&["import", "--scope", scope, file.to_str().expect("a path")]);
    answer.code == Some(0)
}

/// The key of the child in a plan of the maintainers.
fn planned_key(site: &Site, arguments: &[&str]) -> Value {
    let asked = ["plan", "--format", "json"];
    let plan = site.run(&[&asked, arguments].concat()).well();
    let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    let mut jobs = plan["jobs"].as_array().expect("jobs").iter();
    jobs.find(|job| job["job"] == "child@linux/386").expect("the child")["key"].clone()
}
