//! What is published is signed, described and traced, and cosign and oras find and believe it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Child;

use serde_json::Value;

use super::engines::{Engine, FOUNDATION, inspected, root_file_systems};
use crate::program::{Answer, Place, skip, variable, write_program};

/// A Dockerfile may write whatever it likes: none of it gets into what is said of the image (TM28).
const FORGED: &str = "LABEL org.opencontainers.image.revision=forged org.opencontainers.image.source=forged\n\
    RUN mkdir -p /provenance && echo '{\"builder\": {\"id\": \"forged\"}}' > /provenance/provenance.json\n\
    RUN mkdir -p /lib/apk/db && printf 'P:musl\\nV:1.2.5-r9\\nA:x86\\n\\n' > /lib/apk/db/installed\n";

/// The test holds that nothing but the publication sees the key: TM22.
const CONFIGURATION: &str = "name = \"signed\"\nplatforms = [\"linux/386\", \"linux/amd64\"]\n\
    [sign]\nkey = { env = \"SIGN_KEY\" }\npublic-key = \"sign.pub\"\n\
    [image.parent]\ntests = [{ host = 'test -z \"$SIGN_KEY\"' }]\n";

/// Made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` for this test alone.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcKslReRsIIqhonhb\n\
    SNDjp9RD1bl/RQj2Jr5X5jcnkH6hRANCAAS7LY0FEGbx+8pS22A1ETOSoIllCC13\n\
    dnU8ZU9xqRV8VmmKbxd1FqwXr8g/bX7otA9a1Fq9NPvSKRn7fJEgJuW1\n\
    -----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEuy2NBRBm8fvKUttgNREzkqCJZQgt\n\
    d3Z1PGVPcakVfFZpim8XdRasF6/IP21+6LQPWtRavTT70ikZ+3yRICbltQ==\n\
    -----END PUBLIC KEY-----\n";
const STRANGER: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvZweid7nelrVRi/bfqBQGi2j68EU\n\
    ONPsL4YRVNI0z+Pu3ekOAvYe3t60yekRGWA6NHC/KkGFoJgjhXK6rIoBLQ==\n\
    -----END PUBLIC KEY-----\n";

/// Where a client is: among those that were fetched, else on the search path.
pub(super) fn program_of(client: &str) -> String {
    let fetched = variable("POLYARCH_TEST_CLIENTS").map(|folder| PathBuf::from(folder).join(client));
    let path = fetched.filter(|file| file.exists()).unwrap_or_else(|| PathBuf::from(client));
    path.display().to_string()
}

/// A family in a place of its own, and a registry beside it that lives as long as this.
pub(super) struct Signed {
    pub(super) place: Place,
    server: Child,
    pub(super) registry: String,
}

impl Signed {
    pub(super) fn start(test: &str) -> Option<Self> {
        let mut place = Place::with(&[
            ("polyarch.toml", CONFIGURATION),
            ("sign.pub", PUBLIC),
            ("stranger.pub", STRANGER),
            ("parent/Dockerfile", &format!("{FOUNDATION}{FORGED}")),
            ("child/Dockerfile", "FROM parent\nRUN rm /lib/apk/db/installed\n"),
        ]);
        if !Engine::Classic.equip(test, &mut place)
            || !root_file_systems(test, &place, "parent", &["386", "amd64"])
        {
            return None;
        }
        place.set("SIGN_KEY", PRIVATE);
        let store = place.folder().join("registry").display().to_string();
        let arguments = ["--store", &store, "serve", "--listen", "127.0.0.1:0", "--anonymous-writes"];
        let mut server = place.start(&arguments);
        let mut line = String::new();
        let stdout = server.stdout.take().expect("what it prints");
        BufReader::new(stdout).read_line(&mut line).expect("the address");
        let registry = line.trim().to_owned();
        Some(Self { place, server, registry })
    }

    /// What a client prints that has to end well; `None`, having said why, where it is not there.
    fn ask(&self, test: &str, client: &str, arguments: &[&str]) -> Option<String> {
        match self.place.program(&program_of(client)).args(arguments).output() {
            Ok(output) => Some(Answer::from(output).well().stdout),
            Err(error) => {
                skip(test, &format!("no {client}: {error}"));
                None
            }
        }
    }

    /// The digests of an image: its index, and its platforms.
    fn digests(&self, image: &str) -> (String, Vec<String>) {
        let whole = inspected(&self.place, &format!("{}/signed/{image}:latest", self.registry));
        let digest = |one: &Value| one["digest"].as_str().expect("a digest").to_owned();
        (digest(&whole), whole["images"].as_array().expect("images").iter().map(digest).collect())
    }

    fn verify(&self, more: &[&str]) -> Answer {
        self.place.run(&[&["verify", "--to", &self.registry], more].concat())
    }

    /// What `oras discover` lists: manifests by the kinds of what they say.
    fn referrers(&self, test: &str, reference: &str) -> Option<Vec<(String, String)>> {
        let listed = self.ask(test, "oras", &["discover", "--plain-http", "--format", "json", reference])?;
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let all = listed["referrers"].as_array().expect("referrers").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let kind = |one: &Value| text(&one["annotations"]["dev.sigstore.bundle.predicateType"]);
        Some(all.map(|one| (kind(one), text(&one["digest"]))).collect())
    }
}

impl Drop for Signed {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What `cosign verify-attestation` believes: the predicate.
fn predicate(answer: &str) -> Value {
    use base64::Engine as _;
    let envelope: Value = serde_json::from_str(answer.lines().next().expect("a line")).expect("JSON");
    let payload = envelope["payload"].as_str().expect("a payload");
    let payload = base64::engine::general_purpose::STANDARD.decode(payload).expect("Base64");
    serde_json::from_slice::<Value>(&payload).expect("JSON")["predicate"].clone()
}

#[test]
fn s_4_20_s_4_21_tm28_what_is_published_is_signed_and_others_believe_it() {
    let test = "signed::what_is_published_is_signed_and_others_believe_it";
    let Some(signed) = Signed::start(test) else { return };
    let answer = signed.place.run(&["build", "--publish", "--to", &signed.registry]).well();
    assert!(answer.stderr.contains("signed: 14 statements"), "{}", answer.stderr);
    assert!(signed.verify(&[]).well().stdout.contains("all signed"));
    let (index, platforms) = signed.digests("parent");
    let image = |digest: &str| format!("{}/signed/parent@{digest}", signed.registry);

    let again = signed.place.run(&["publish", "--to", &signed.registry]).well();
    assert!(again.stderr.contains("signed already"), "{}", again.stderr);
    if let Some(found) = signed.referrers(test, &image(&platforms[0])) {
        let mut kinds: Vec<&str> = found.iter().map(|(kind, _)| kind.as_str()).collect();
        kinds.sort_unstable();
        let expected = [
            "https://sigstore.dev/cosign/sign/v1",
            "https://slsa.dev/provenance/v1",
            "https://spdx.dev/Document",
        ];
        assert_eq!(kinds, expected, "a second publication says nothing again");
        assert_eq!(signed.referrers(test, &image(&index)).map(|found| found.len()), Some(1));
    }

    let flags = ["--key", "sign.pub", "--insecure-ignore-tlog=true", "--allow-http-registry"];
    for digest in platforms.iter().chain([&index]) {
        let Some(_) =
            signed.ask(test, "cosign", &[&["verify"], flags.as_slice(), &[&image(digest)]].concat())
        else {
            return;
        };
    }
    let attested = |kind: &str| {
        let command = ["verify-attestation", "--type", kind];
        let answer =
            signed.ask(test, "cosign", &[&command, flags.as_slice(), &[&image(&platforms[1])]].concat());
        predicate(&answer.expect("cosign is there"))
    };
    let bill = attested("spdxjson").to_string();
    assert!(bill.contains("pkg:apk/musl@1.2.5-r9?arch=x86"), "{bill}");
    let made = attested("slsaprovenance1");
    assert!(!made.to_string().contains("forged"), "{made}");
    assert_eq!(made["buildDefinition"]["externalParameters"]["image"], "parent@linux/amd64");
    assert_eq!(made["runDetails"]["builder"]["id"], "urn:polyarch:builder:local");
}

#[test]
fn tm29_a_signature_that_is_gone_or_a_stranger_s_is_a_difference() {
    let test = "signed::a_signature_that_is_gone_or_a_stranger_s_is_a_difference";
    let Some(signed) = Signed::start(test) else { return };
    let publish = ["build", "--publish", "--to", &signed.registry];
    let built = signed.place.run(&publish).well();
    assert!(built.stderr.contains("4 built"), "{}", built.stderr);
    let stranger = signed.verify(&["--verify-key", "stranger.pub"]).ended(1);
    let untrusted = "it has no signature of this key";
    assert!(stranger.stdout.contains(untrusted), "{}", stranger.stdout);

    let (index, _) = signed.digests("child");
    let image = format!("{}/signed/child@{index}", signed.registry);
    let Some(found) = signed.referrers(test, &image) else { return };
    let gone = format!("{}/signed/child@{}", signed.registry, found[0].1);
    signed.ask(test, "oras", &["manifest", "delete", "--plain-http", "--force", &gone]);
    let missing = signed.verify(&[]).ended(1);
    let differs = |line: &&str| !line.ends_with("  equal");
    let told: Vec<&str> = missing.stdout.lines().skip(1).filter(differs).collect();
    assert!(matches!(told[..], [one] if one.contains("signature") && one.ends_with("missing")), "{told:?}");
    let answer = signed.place.run(&publish).well();
    assert!(answer.stderr.contains("signed: 1 statement"), "{}", answer.stderr);
    assert!(signed.verify(&[]).well().stdout.contains("all signed"));
}

#[test]
fn s_4_21_bills_of_materials_are_written_without_publishing() {
    let test = "signed::bills_of_materials_are_written_without_publishing";
    let Some(signed) = Signed::start(test) else { return };
    let early = signed.place.run(&["sbom", "parent@linux/386"]).ended(2);
    assert!(early.stderr.contains("parent@linux/386 is not built"), "{}", early.stderr);
    let built = signed.place.run(&["build"]).well();
    assert!(!built.stderr.contains("signed"), "{}", built.stderr);
    let several = signed.place.run(&["sbom", "parent"]).ended(2);
    assert!(several.stderr.contains("2 documents do not fit"), "{}", several.stderr);
    let written = signed.place.run(&["sbom", "--to", "bills"]).well();
    assert_eq!(written.stdout.lines().count(), 4, "{}", written.stdout);
    let read = |name: &str| {
        let file = signed.place.family().join("bills").join(format!("{name}-default-sbom.spdx.json"));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    assert!(read("parent-386").contains("pkg:apk/musl@"));
    assert!(!read("child-386").contains("pkg:apk/musl@"), "what the child took away is not in it");
    let one = signed.place.run(&["sbom", "parent@linux/386"]).well();
    assert_eq!(one.stdout, read("parent-386"), "same image, same bytes");
}

/// What could not be signed in the end is not built first, and what is only looked at needs no key.
#[test]
fn f_u11_a_key_that_is_lacking_is_told_of_before_anything_is_built() {
    let mut place = Place::with(&[
        ("polyarch.toml", "[sign]\nkey = { env = \"SIGN_KEY\" }\n"),
        ("a/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n"),
    ]);
    let lacking = place.run(&["build", "--publish"]).ended(2);
    assert!(lacking.stderr.contains("the variable SIGN_KEY is not set"), "{}", lacking.stderr);
    place.set("SIGN_KEY", "canary-1f7a");
    let wrong = place.run(&["build", "--publish"]).ended(2);
    assert!(wrong.stderr.contains("it is no private key in PEM"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("canary-1f7a"), "{}", wrong.stderr);
    let dry = place.run(&["publish", "--dry-run"]).ended(2);
    assert!(dry.stdout.ends_with("0 tags\n"), "{}", dry.stdout);
    assert!(
        dry.stderr.contains("it is no private key in PEM"),
        "a dry run ends as the run would: {}",
        dry.stderr
    );
}

/// cosign itself needs services that are nowhere near: what counts here is how and when it is asked.
#[test]
fn s_4_20_without_a_key_cosign_is_asked_after_the_content_is_there() {
    let test = "signed::without_a_key_cosign_is_asked_after_the_content_is_there";
    let Some(mut signed) = Signed::start(test) else { return };
    signed
        .place
        .write("polyarch.toml", "name = \"signed\"\nplatforms = [\"linux/386\"]\n[sign]\nkeyless = true\n");
    let publish = ["build", "--publish", "--to", &signed.registry.clone()];
    let lacking = signed.place.run(&publish).ended(3);
    assert!(lacking.stderr.contains("no token of an identity"), "{}", lacking.stderr);
    let script = "#!/bin/sh\nfor image; do :; done\npath=${image#*/}\n\
        curl -sf -o /dev/null \"http://${image%%/*}/v2/${path%@*}/manifests/${path#*@}\" && echo \"$1 $image\" >> \"${0%/*}/log\"\n";
    let broken = "#!/bin/sh\necho no luck >&2\nexit 1\n";
    let cosign = signed.place.put_before("cosign", broken);
    signed.place.set("SIGSTORE_ID_TOKEN", "canary-token-77c1");
    let failed = signed.place.run(&publish).ended(5);
    assert!(failed.stderr.contains("published, but not all of it is signed"), "{}", failed.stderr);
    write_program(&cosign, script);
    let answer = signed.place.run(&publish).well();
    assert!(answer.stderr.contains("signed: 8 statements"), "{}", answer.stderr);
    let log = std::fs::read_to_string(cosign.with_file_name("log")).expect("calls");
    let calls = |word: &str| log.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((calls("sign "), calls("attest ")), (4, 4), "{log}");
    assert!(!answer.stderr.contains("canary-token-77c1"), "{}", answer.stderr);
}
