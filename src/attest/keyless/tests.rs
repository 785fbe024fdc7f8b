//! A scripted cosign: how it is asked, and what is said where it is lacking or fails.

use super::*;
use crate::oci::Digest;
use std::os::unix::fs::PermissionsExt;

/// A cosign that writes down how it was called.
fn scripted(folder: &std::path::Path, code: u8) {
    let log = folder.join("log");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {log}\ncat \"$6\" >> {log} 2>/dev/null\necho no >&2\nexit {code}\n",
        log = log.display()
    );
    let file = folder.join("cosign");
    std::fs::write(&file, script).expect("a script");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

fn with_token(name: &str) -> BTreeMap<OsString, OsString> {
    BTreeMap::from([(name.into(), "token".into()), ("PATH".into(), "/usr/bin:/bin".into())])
}

fn wanted(kind: Kind) -> Wanted {
    Wanted { repository: "a/b".parse().expect("a name"), subject: Digest::of(b"image"), kind }
}

#[tokio::test]
async fn s_4_20_cosign_is_asked_by_digest_and_given_what_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    scripted(folder.path(), 0);
    let cosign = Cosign::find(folder.path().as_os_str(), with_token(TOKENS[1])).expect("both");
    for kind in [Kind::Signature, Kind::Bill, Kind::Provenance] {
        cosign.say("h:1", true, &wanted(kind), "{\"said\":1}").await.expect("made");
    }
    let log = std::fs::read_to_string(folder.path().join("log")).expect("calls");
    let image = format!("--allow-http-registry h:1/a/b@{}", Digest::of(b"image"));
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], format!("sign --yes {image}"));
    assert!(lines[1].starts_with("attest --yes --type spdxjson --predicate /"), "{log}");
    assert!(lines[1].ends_with(&image), "{log}");
    assert_eq!(log.matches("{\"said\":1}").count(), 2, "{log}");
}

#[tokio::test]
async fn what_is_lacking_is_said_and_a_failure_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let find = |environment| Cosign::find(folder.path().as_os_str(), environment);
    let no_token = find(BTreeMap::new()).err().expect("refused");
    assert!(no_token.to_string().contains("no token"), "{no_token}");
    let no_cosign = find(with_token(TOKENS[0])).err().expect("refused");
    assert!(no_cosign.to_string().contains("no `cosign`"), "{no_cosign}");
    scripted(folder.path(), 3);
    let cosign = find(with_token(TOKENS[0])).expect("both");
    let failed = cosign.say("h:1", false, &wanted(Kind::Signature), "").await.expect_err("it failed");
    assert!(failed.to_string().ends_with("exit code 3: no"), "{failed}");
}
