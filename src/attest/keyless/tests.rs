//! A scripted cosign: how it is asked, and what is said where it is lacking or fails.

use super::*;
use crate::lent::write_program;
use crate::oci::Digest;

/// A cosign that writes down how it was called.
fn scripted(folder: &std::path::Path, code: u8) {
    let log = folder.join("log");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {log}\ncat \"$6\" >> {log} 2>/dev/null\necho no >&2\nexit {code}\n",
        log = log.display()
    );
    let file = folder.join("cosign");
    write_program(&file, &script);
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

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const WORKFLOW: &str = "https://github.com/owner/images/.github/workflows/images.yml@refs/heads/main";

/// A cosign that writes down its arguments, a line each, with what its files hold, and proves what is signed by one
/// identity of one issuer: its certificate and its entry in the log are as good as `good` says.
fn proving(folder: &std::path::Path, good: bool) -> Cosign {
    let script = format!(
        r#"#!/bin/sh
for word; do echo "$word"; done > {folder}/words
case $1 in
attest-blob) cat "$6" "$9" > {folder}/held; echo "a bundle" > "$8"; exit 0 ;;
verify-blob-attestation) cat "$9" "${{10}}" > {folder}/held
    [ "$5" = {WORKFLOW} ] && [ "$7" = {GITHUB} ] && {good} ;;
*) exit 9 ;;
esac
"#,
        folder = folder.display(),
    );
    let file = folder.join("cosign");
    write_program(&file, &script);
    Cosign::for_proofs(folder.as_os_str(), with_token(TOKENS[1])).expect("it is there")
}

/// The words of the last call, with names of temporary files as `FILE`.
fn words(folder: &std::path::Path) -> Vec<String> {
    let words = std::fs::read_to_string(folder.join("words")).expect("a call");
    let word = |word: &str| if word.starts_with('/') { "FILE".to_owned() } else { word.to_owned() };
    words.lines().map(word).collect()
}

fn signer(identity: &str, issuer: &str) -> Identity {
    Identity { identity: identity.to_owned(), issuer: issuer.to_owned() }
}

#[tokio::test]
async fn tm29_cosign_is_asked_for_exactly_one_identity_of_one_issuer() {
    let folder = tempfile::tempdir().expect("a folder");
    let cosign = proving(folder.path(), true);
    let kind = Kind::Record.predicate_type();
    let proves = async |identity: &str, issuer: &str| {
        cosign.proves(b"bundle\n", "text\n", kind, &signer(identity, issuer)).await.expect("an answer")
    };
    assert!(proves(WORKFLOW, GITHUB).await);
    let asked = [
        "verify-blob-attestation",
        "--type",
        "urn:polyarch:record:v1",
        "--certificate-identity",
        WORKFLOW,
        "--certificate-oidc-issuer",
        GITHUB,
        "--bundle",
        "FILE",
        "FILE",
    ];
    assert_eq!(words(folder.path()), asked, "nothing by pattern, and nothing that ignores the log");
    let held = std::fs::read_to_string(folder.path().join("held")).expect("files");
    assert_eq!(held, "bundle\ntext\n");
    for (identity, issuer) in [
        ("https://github.com/fork/images/.github/workflows/images.yml@refs/heads/main", GITHUB),
        ("https://github.com/owner/images/.github/workflows/images.yml@refs/pull/7/merge", GITHUB),
        ("https://github.com/owner/images/.github/workflows/other.yml@refs/heads/main", GITHUB),
        (WORKFLOW, "https://gitlab.com"),
        ("", GITHUB),
    ] {
        assert!(!proves(identity, issuer).await, "{identity} of {issuer}");
    }
    let expired = proving(folder.path(), false);
    let answer = expired.proves(b"bundle", "text", kind, &signer(WORKFLOW, GITHUB)).await;
    assert!(!answer.expect("an answer"), "a certificate that is not good, or no entry in the log");
}

#[tokio::test]
async fn s_4_20_cosign_signs_the_text_of_a_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let cosign = proving(folder.path(), true);
    let bundle = cosign.say_of_text("text\n", Kind::Record.predicate_type(), "{\"said\":1}\n").await;
    assert_eq!(bundle.expect("signed"), b"a bundle\n");
    let asked = [
        "attest-blob",
        "--yes",
        "--type",
        "urn:polyarch:record:v1",
        "--predicate",
        "FILE",
        "--bundle",
        "FILE",
        "FILE",
    ];
    assert_eq!(words(folder.path()), asked);
    let held = std::fs::read_to_string(folder.path().join("held")).expect("files");
    assert_eq!(held, "{\"said\":1}\ntext\n");
}

/// A cosign that proves everything, or nothing.
pub(in crate::attest) fn answering(folder: &std::path::Path, yes: bool) -> Cosign {
    scripted(folder, u8::from(!yes));
    Cosign::for_proofs(folder.as_os_str(), with_token(TOKENS[1])).expect("it is there")
}
