//! Signatures without a key, by a real cosign and an authority of the test's own. There is no transparency log here, and
//! none of certificates: cosign is told to pass over both, and once is not.

use super::promotion::Pulled;
use super::signed::{Signed, program_of};
use crate::program::{Answer, Place, skip};

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const WORKFLOW: &str = "https://github.com/owner/images/.github/workflows/images.yml@refs/heads/main";
const IN_NO_LOG: &str = "--insecure-ignore-tlog --insecure-ignore-sct";

/// Has polyarch call the real cosign in exactly its own words, and after them what no service says here: the certificate
/// of a workflow, whom to trust, and what is passed over of a file `passed-over`. `false` where there is no cosign.
fn authority(test: &str, place: &mut Place) -> bool {
    let cosign = program_of("cosign");
    if let Err(error) = place.program(&cosign).arg("version").output() {
        skip(test, &format!("no cosign: {error}"));
        return false;
    }
    place.set("COSIGN_PASSWORD", "");
    // That there is one is all that is looked at here.
    place.set("SIGSTORE_ID_TOKEN", "canary-token-77c1");
    let file = |name: &str| place.folder().join(name).display().to_string();
    let said = format!(
        "keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\nsubjectAltName=critical,URI:{WORKFLOW}\n\
        1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:{ISSUER}\n"
    );
    std::fs::write(file("extensions"), said).expect("extensions");
    std::fs::write(file("passed-over"), IN_NO_LOG).expect("words");
    let in_folder = |client: &str, words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let answer = place.program(client).args(words).current_dir(place.folder()).output();
        Answer::from(answer.expect("run a program")).well()
    };
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let _ = in_folder(
        "openssl",
        &format!("req -x509 {curve} -days 9 -subj /O=test/CN=root -keyout root.key -out root.pem"),
    );
    let _ = in_folder("openssl", &format!("req {curve} -subj /CN=workflow -keyout own.key -out own.csr"));
    let by = "-CA root.pem -CAkey root.key -CAcreateserial -days 9 -extfile extensions";
    let _ = in_folder("openssl", &format!("x509 -req -in own.csr -out own.pem {by}"));
    let fulcio = "url=https://ca.example.com,certificate-chain=root.pem";
    let _ = in_folder(&cosign, &format!("trusted-root create --fulcio {fulcio} --out trusted.json"));
    let _ = in_folder(&cosign, "signing-config create --out signing.json");
    let _ = in_folder(&cosign, "import-key-pair --yes --key own.key --output-key-prefix imported");
    let script = format!(
        "#!/bin/sh\nat={folder}\nexec 2>> $at/cosign.log\necho \"$@\" >&2\ncase $1 in\n\
        verify-*) exec {cosign} \"$@\" --trusted-root $at/trusted.json $(cat $at/passed-over) ;;\n\
        *) exec {cosign} \"$@\" --trusted-root $at/trusted.json --signing-config $at/signing.json \
        --key $at/imported.key --certificate $at/own.pem ;;\nesac\n",
        folder = place.folder().display(),
    );
    place.put_before("cosign", &script);
    true
}

/// What cosign was asked, and said.
fn told(place: &Place) -> String {
    std::fs::read_to_string(place.folder().join("cosign.log")).unwrap_or_default()
}

#[test]
fn tm29_s_4_20_a_real_cosign_signs_records_and_proves_who_did() {
    let test = "keyless::a_real_cosign_signs_records_and_proves_who_did";
    let Some(mut pulled) = Pulled::built(test) else { return };
    if !authority(test, &mut pulled.place) {
        return;
    }
    let signed = pulled.sign(&["--keyless"]);
    assert!(signed.stderr.contains("signed: 8 records"), "{}{}", signed.stderr, told(&pulled.place));
    let promote = |identity: &str, issuer: &str| {
        let from = ["promote", "--from", "pr-1", "--trust-identity", identity, "--trust-issuer", issuer];
        let _ = std::fs::remove_file(pulled.place.folder().join("cosign.log"));
        pulled.place.run(&from)
    };
    let refused = |identity: &str, issuer: &str, because: &str| {
        let answer = promote(identity, issuer).ended(1);
        assert!(answer.stderr.contains("signed by nobody who is trusted"), "{}", answer.stderr);
        assert!(told(&pulled.place).contains(because), "{because}: {}", told(&pulled.place));
        assert!(pulled.published().is_empty(), "{because}");
    };
    refused(&WORKFLOW.replace("owner", "fork"), ISSUER, "expected SAN value");
    refused(&WORKFLOW.replace("main", "other"), ISSUER, "expected SAN value");
    refused(WORKFLOW, "https://gitlab.com", "expected issuer value");
    let passed_over = pulled.place.folder().join("passed-over");
    std::fs::write(&passed_over, "").expect("words");
    refused(WORKFLOW, ISSUER, "not enough verified log entries");
    std::fs::write(&passed_over, IN_NO_LOG).expect("words");
    let promoted = promote(WORKFLOW, ISSUER);
    assert_eq!(promoted.code, Some(0), "{}{}", promoted.stderr, told(&pulled.place));
    assert_eq!(pulled.published().len(), 2);
}

#[test]
fn s_4_20_what_a_real_cosign_says_of_images_is_found() {
    let test = "keyless::what_a_real_cosign_says_of_images_is_found";
    let Some(mut signed) = Signed::start(test) else { return };
    if !authority(test, &mut signed.place) {
        return;
    }
    let configuration = "name = \"signed\"\nplatforms = [\"linux/386\"]\n[sign]\nkeyless = true\n";
    signed.place.write("polyarch.toml", configuration);
    let publish = ["build", "--publish", "--to", &signed.registry];
    let answer = signed.place.run(&publish);
    assert!(answer.stderr.contains("signed: 8 statements"), "{}{}", answer.stderr, told(&signed.place));
    let again = signed.place.run(&publish).well();
    assert!(again.stderr.contains("signed already"), "{}", again.stderr);
}
