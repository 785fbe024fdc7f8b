//! A full disk under the registry: a small file system in memory, in a mount namespace of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use polyarch::oci::{Digest, MediaType};
use serde_json::{Value, json};

use super::image;
use super::program::Program;

/// The program over a file system of 4 MiB; `None` where this user may not mount one.
#[expect(clippy::disallowed_methods, reason = "the program that is tested")]
fn on_small_disk(folder: &std::path::Path) -> Option<Child> {
    let may = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs"]).arg(folder).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let script = "mount -t tmpfs -o size=4m tmpfs \"$1\" && head -c 1500000 /dev/zero >\"$1/filler\" && \
        exec \"$0\" --store \"$1/store\" serve --listen 127.0.0.1:0 --anonymous-writes";
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_polyarch")]).arg(folder);
    Some(shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

async fn refusal(answer: reqwest::Response) -> Option<Value> {
    match answer.status().as_u16() {
        201 | 202 => None,
        507 => {
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["errors"][0]["code"], "STORE_FULL", "{body}");
            let words = body["errors"][0]["detail"]["causes"].to_string();
            assert!(words.contains("No space left"), "{body}");
            Some(body)
        }
        other => panic!("{other}: {}", answer.text().await.unwrap()),
    }
}

#[tokio::test]
async fn f_e6_a_full_disk_is_said_to_be_full_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(child) = on_small_disk(folder.path()) else {
        crate::program::skip("the registry on a full disk", "no file system can be mounted here");
        return;
    };
    let process = child.id();
    let program = Program::of(child);
    let push = async |number: u32, length: usize| {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(length, 1);
        let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&bytes));
        let answer = program.ask("POST", &path).body(bytes.clone()).timeout(Duration::from_secs(20));
        refusal(answer.send().await.unwrap()).await.is_none().then_some(bytes)
    };
    let config =
        program.ask("POST", &format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"{}"))).body("{}");
    assert_eq!(config.send().await.unwrap().status(), 201);
    let mut kept = Vec::new();
    let mut refused = 0;
    for (number, length) in [400_000, 100_000, 10_000, 1].into_iter().cycle().take(64).enumerate() {
        match push(u32::try_from(number).unwrap(), length + 4).await {
            Some(bytes) => kept.push(bytes),
            None => refused += 1,
        }
    }
    assert!(kept.len() > 3 && refused > 3, "{} kept, {refused} refused", kept.len());
    for bytes in &kept {
        let path = format!("/v2/a/blobs/{}", Digest::of(bytes));
        let answer = program.ask("GET", &path).send().await.unwrap();
        assert!(answer.bytes().await.unwrap() == *bytes, "what was acknowledged is there");
    }
    let large = image(&Digest::of(b"{}"), &json!({ "large": "a".repeat(3 << 20) }), None);
    let put = program.ask("PUT", "/v2/a/manifests/t").header("content-type", MediaType::MANIFEST);
    assert!(refusal(put.body(large.clone()).send().await.unwrap()).await.is_some(), "a manifest too");
    assert_eq!(
        program.ask("HEAD", "/v2/a/manifests/t").send().await.unwrap().status(),
        404,
        "no tag dangles"
    );

    // Room again, seen from outside through the process.
    let disk = format!("/proc/{process}/root{}", folder.path().display());
    let left: Vec<_> = std::fs::read_dir(format!("{disk}/store/uploads")).unwrap().collect();
    assert!(left.is_empty(), "what was refused left {left:?}");
    std::fs::remove_file(format!("{disk}/filler")).unwrap();
    assert!(push(1_000, 400_000).await.is_some(), "there is room again");
}
