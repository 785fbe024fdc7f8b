//! How an image was made, as SLSA provenance version 1: from what polyarch itself knows, and from nothing else.
//!
//! Every field is of the image's record, which the run wrote from the files that it hashed and from what the engine
//! answered, or of the publication. Nothing is read out of the image, its labels or its Dockerfile's text: TM28.

use serde_json::{Map, Value, json};

use crate::dockerfile::is_commit;
use crate::oci::{Algorithm, Digest};
use crate::record::ImageRecord;

use super::time;

/// What kind of build it is: its parameters are described in `docs/signing.md`.
const BUILD_TYPE: &str = "urn:polyarch:build:v1";
/// How many inputs of the key are written out; of more, only those that are no files.
const INPUTS_LIMIT: usize = 20_000;

/// The predicate for an image. `commit` is what the family's folder stood at when it was published.
pub(crate) fn provenance(record: &ImageRecord, commit: Option<&str>) -> Value {
    let few = record.inputs.len() <= INPUTS_LIMIT;
    let inputs: Map<String, Value> = { record.inputs.iter() }
        .filter(|(name, _)| few || !name.starts_with("file:"))
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let started = record.built_at_seconds.saturating_sub(record.milliseconds / 1000);
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "image": record.job,
                "platform": record.platform.to_string(),
                "arguments": with_prefix(record, "arg:"),
                "labels": with_prefix(record, "label:"),
                "target": record.inputs.get("target"),
            },
            "internalParameters": {
                "key": record.key.to_string(),
                "inputs": inputs,
                "allInputs": few,
                "emulated": record.emulated,
            },
            "resolvedDependencies": dependencies(record, commit),
        },
        "runDetails": {
            "builder": {
                "id": format!("urn:polyarch:builder:{}", record.builder),
                "version": { "polyarch": env!("CARGO_PKG_VERSION") },
            },
            "metadata": {
                "startedOn": time::written(started),
                "finishedOn": time::written(record.built_at_seconds),
            },
        },
    })
}

fn with_prefix(record: &ImageRecord, prefix: &str) -> Map<String, Value> {
    let found = record.inputs.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
    found.map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// What went into it: the source, the Dockerfile, images of the family and images from outside.
fn dependencies(record: &ImageRecord, commit: Option<&str>) -> Vec<Value> {
    let of = |name: &str, digest: &Digest| {
        let algorithm = digest.algorithm().name();
        json!({ "name": name, "digest": { algorithm: digest.hex() } })
    };
    let source = commit.map(|commit| json!({ "name": "source", "digest": { "gitCommit": commit } }));
    let inputs = record.inputs.iter().filter_map(|(name, value)| {
        let name = match name.as_str() {
            "dockerfile" => "Dockerfile",
            "frontend" => "frontend",
            name => name.strip_prefix("base:")?,
        };
        // What could not be looked up has no digest, and is in the inputs as it is; a frontend is a whole reference.
        let digest: Digest = value.rsplit('@').next()?.parse().ok()?;
        (digest.algorithm() == Algorithm::Sha256).then(|| of(name, &digest))
    });
    let repositories = record.inputs.iter().filter_map(|(name, value)| {
        let address = name.strip_prefix("remote:").filter(|_| is_commit(value))?;
        Some(json!({ "name": address, "digest": { "gitCommit": value } }))
    });
    let parents = record.parents.iter().map(|(unit, digest)| of(unit, digest));
    source.into_iter().chain(inputs).chain(repositories).chain(parents).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn provenance_says_what_the_record_says_and_no_more() {
        let digest = Digest::of(b"x");
        let inputs = [
            ("platform", "linux/amd64".to_owned()),
            ("dockerfile", digest.to_string()),
            ("base:debian:13", digest.to_string()),
            ("base:gone:1", "unknown".to_owned()),
            ("frontend", format!("docker.io/docker/dockerfile@{digest}")),
            ("remote:https://x/r.git#main", "0123456789abcdef0123456789abcdef01234567".to_owned()),
            ("remote:https://x/r.tar", "unknown, epoch 0".to_owned()),
            ("arg:VERSION", "1".to_owned()),
            ("label:a", "b".to_owned()),
            ("file:run.sh", "f 755 abc".to_owned()),
        ];
        let record = ImageRecord {
            version: 1,
            job: "base@linux/amd64".to_owned(),
            key: digest.clone(),
            inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            platform: "linux/amd64".parse().expect("a platform"),
            image: digest.clone(),
            size: 1,
            config: digest.clone(),
            bytes: 1,
            parents: BTreeMap::from([("foundation".to_owned(), digest.clone())]),
            builder: "local".to_owned(),
            emulated: false,
            cached: false,
            built_at_seconds: 1_700_000_000,
            milliseconds: 20_500,
        };
        let made = provenance(&record, Some("0123"));
        let build = &made["buildDefinition"];
        assert_eq!(build["externalParameters"]["arguments"], json!({ "VERSION": "1" }));
        assert_eq!(build["internalParameters"]["inputs"]["file:run.sh"], "f 755 abc");
        let names: Vec<&str> = { build["resolvedDependencies"].as_array().into_iter().flatten() }
            .filter_map(|one| one["name"].as_str())
            .collect();
        assert_eq!(
            names,
            ["source", "debian:13", "Dockerfile", "frontend", "https://x/r.git#main", "foundation"]
        );
        assert_eq!(made["runDetails"]["metadata"]["startedOn"], "2023-11-14T22:13:00Z");
        assert_eq!(made["runDetails"]["builder"]["id"], "urn:polyarch:builder:local");
        assert_eq!(made, provenance(&record, Some("0123")));
    }
}
