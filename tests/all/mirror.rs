//! `polyarch mirror` between registries, ours and Debian's docker-registry: same bytes, all platforms, what is about them.

use std::collections::BTreeMap;
use std::time::Instant;

use polyarch::oci::server::{Access, Rights};
use polyarch::oci::{Client, Document, ImageIndex, MediaType, Pointer, Repository, Store, Tag};
use serde_json::Value;

use crate::client::fault_proxy::FaultProxy;
use crate::client::registries::Registry;
use crate::images;
use crate::program::{Answer, Place, program, skip};

const PLATFORMS: [(&str, &str); 2] = [("amd64", "linux/amd64"), ("arm64", "linux/arm64")];

/// An image as others build it: two platforms, an attestation beside each in the index, an SBOM that refers to it, and
/// a signature by an old cosign; under the tag `7.9.3` of `library/search`.
struct Upstream {
    client: Client,
    repository: Repository,
    index: Document,
    signature: Tag,
}

impl Upstream {
    async fn at(registry: &Registry) -> Self {
        let (client, repository) = (registry.client(), "library/search".parse::<Repository>().unwrap());
        let mut entries = Vec::new();
        for (architecture, platform) in PLATFORMS {
            let config = format!(
                r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
            );
            let image =
                images::image(&client, &repository, &config, &format!("layer of {platform}"), &[]).await;
            let mut entry = image.descriptor();
            entry.platform = Some(platform.parse().unwrap());
            entries.push(entry);
            let attestation = images::image(&client, &repository, "{}", "provenance", &[]).await;
            let mut entry = attestation.descriptor();
            let about = [
                ("vnd.docker.reference.type", "attestation-manifest".to_owned()),
                ("vnd.docker.reference.digest", image.digest().to_string()),
            ];
            entry.annotations = about.map(|(name, value)| (name.to_owned(), value)).into();
            entries.push(entry);
        }
        // Not the bytes that we would write ourselves.
        let index = ImageIndex {
            annotations: BTreeMap::from([("by".to_owned(), "others".to_owned())]),
            ..ImageIndex::new(entries)
        };
        let text: Value = serde_json::to_value(index).unwrap();
        let index = Document::new(MediaType::INDEX, format!("{text:#}\n"));
        client.write_document(&repository, &index, &["7.9.3".parse().unwrap()]).await.unwrap();
        images::artifact(&client, &repository, "sbom", &index).await;
        let tag = format!("sha256-{}.sig", index.digest().hex());
        images::image(&client, &repository, "{}", "signature", &[&tag]).await;
        Self { client, repository, index, signature: tag.parse().unwrap() }
    }
}

async fn at(registry: &Registry, repository: &str, tag: &str) -> Option<String> {
    let (repository, pointer) = (repository.parse().unwrap(), Pointer::Tag(tag.parse().unwrap()));
    let found = registry.client().resolve(&repository, &pointer).await.unwrap();
    found.map(|found| found.digest.to_string())
}

/// A family with a mirror of an image, and nothing that is built.
fn family_of_a_mirror(source: &str) -> String {
    format!("name = \"hysds\"\n[image.search]\nmirror = \"{source}\"\ntags = [\"7.9.3\", \"develop\"]\n")
}

/// The program as it runs while the registries of the test answer.
fn run(place: &Place, arguments: &[&str]) -> Answer {
    tokio::task::block_in_place(|| place.run(arguments))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_copied_byte_for_byte_between_both_kinds_of_registries() {
    let place = Place::new();
    for from in Registry::both("mirror::copy").await {
        let upstream = Upstream::at(&from).await;
        let digest = upstream.index.digest().to_string();
        for to in Registry::both("mirror::copy").await {
            let source = format!("{}/library/search:7.9.3", from.address);
            let target = format!("{}/hysds/search", to.address);
            let dry = run(&place, &["mirror", "--dry-run", &source, &target]).well();
            assert!(dry.stdout.contains("tag       hysds/search:7.9.3 to sha256:"), "{}", dry.stdout);
            assert!(dry.stdout.contains("blob      ") && dry.stdout.contains("index     "), "{}", dry.stdout);
            assert_eq!(at(&to, "hysds/search", "7.9.3").await, None, "a dry run writes nothing");

            let answer = run(&place, &["mirror", &source, &target, "--tag", "stable"]).well();
            assert_eq!(answer.stdout, format!("{target}:stable@{digest}\n"));
            assert!(answer.stderr.contains("mirrored and read back"), "{}", answer.stderr);
            assert!(
                answer.stderr.contains("bytes") && answer.stderr.contains("registry: "),
                "{}",
                answer.stderr
            );
            let answer = run(&place, &["mirror", &source, &target]).well();
            assert!(answer.stderr.contains("0 blobs (0 bytes)"), "{}", answer.stderr);
            assert_eq!(at(&to, "hysds/search", "7.9.3").await, Some(digest.clone()));
            assert_eq!(at(&to, "hysds/search", "stable").await, Some(digest.clone()));
            assert!(at(&to, "hysds/search", upstream.signature.as_str()).await.is_some(), "cosign's");
            let there: Repository = "hysds/search".parse().unwrap();
            let about = to.client().referrers(&there, upstream.index.digest()).await.unwrap();
            assert_eq!(about.len(), 1, "the SBOM goes along");
            read_by_skopeo(&place, &to, &upstream.index);
        }
    }
}

/// What skopeo reads is the very index, and every image in it.
fn read_by_skopeo(place: &Place, registry: &Registry, index: &Document) {
    let mut skopeo = program("skopeo");
    if let Err(error) = skopeo.arg("--version").output() {
        return skip("mirror::read_by_skopeo", &format!("no skopeo: {error}"));
    }
    let raw = |pointer: &str| {
        let reference = format!("docker://{}/hysds/search{pointer}", registry.address);
        tokio::task::block_in_place(|| {
            place.ask("skopeo", &["inspect", "--raw", "--tls-verify=false", &reference])
        })
    };
    assert_eq!(raw(":7.9.3").as_bytes(), index.bytes());
    for entry in index.index().unwrap().manifests {
        let text = raw(&format!("@{}", entry.digest));
        assert_eq!(Document::new(MediaType::MANIFEST, text).digest(), &entry.digest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_within_one_registry_and_to_the_own_store_moves_what_it_must() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    let registry = Registry::ours().await;
    let upstream = Upstream::at(&registry).await;
    let digest = upstream.index.digest().to_string();
    let source = format!("{}/library/search:7.9.3", registry.address);
    let within = format!("{}/copy/search", registry.address);
    let answer = run(&place, &["mirror", &source, &within, "--no-referrers"]).well();
    assert!(answer.stderr.contains("0 blobs (0 bytes)"), "mounted: {}", answer.stderr);
    assert_eq!(at(&registry, "copy/search", "7.9.3").await, Some(digest.clone()));
    assert_eq!(at(&registry, "copy/search", upstream.signature.as_str()).await, None);
    let there: Repository = "copy/search".parse().unwrap();
    assert_eq!(registry.client().referrers(&there, upstream.index.digest()).await.unwrap(), []);

    let answer = run(&place, &["mirror", &source, "embedded/search:mine"]).well();
    assert_eq!(answer.stdout, format!("embedded/search:mine@{digest}\n"));
    let back = format!("{}/back/search:again", registry.address);
    let _ = run(&place, &["mirror", "embedded/search:mine", &back]).well();
    assert_eq!(at(&registry, "back/search", "again").await, Some(digest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_is_said_before_anything_is_sent() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    let registry = Registry::ours().await;
    let upstream = Upstream::at(&registry).await;
    let to = &registry.address;
    let source = format!("{to}/library/search:7.9.3");
    let by_digest = format!("{to}/library/search@{}", upstream.index.digest());
    let copy = format!("{to}/copy/search");
    let with_digest = format!("{copy}@{}", upstream.index.digest());
    let (gone, scope) = (format!("{to}/library/search:8"), format!("{to}/scopes/trusted:x"));
    for (arguments, code, words) in [
        (vec![&*gone, &*copy], 2, "there is no"),
        (vec![&*by_digest, &*copy], 2, "has no tag"),
        (vec![&*source, &*with_digest], 2, "names a digest"),
        (vec![&*source, "embedded/scopes/trusted:x"], 4, "builds keep their results"),
        (vec![&*source, &*scope], 4, "builds keep their results"),
        (vec!["search:7.9.3", &*copy], 2, "does not say which registry"),
        (vec![&*source, "hysds/search"], 2, "does not say which registry"),
        (vec![&*source, &*copy, "--tag", ".x"], 2, "read the tag"),
    ] {
        let answer = run(&place, &[&["mirror"], &arguments[..]].concat()).ended(code);
        assert!(answer.stderr.contains(words), "{arguments:?}: {}", answer.stderr);
        assert!(answer.stderr.contains("hint:"), "{arguments:?}: {}", answer.stderr);
    }
    let none: Vec<Tag> = registry.client().tags(&"copy/search".parse().unwrap(), None, 10).await.unwrap();
    assert_eq!(none, []);

    let _ = run(&place, &["mirror", &by_digest, &format!("{copy}:pinned")]).well();
    let other = images::image(&upstream.client, &upstream.repository, "{}", "another", &[]).await;
    let other_name = format!("{to}/library/search@{}", other.digest());
    let refused = ["mirror", &other_name, &format!("{copy}:pinned"), "--if-missing"];
    let answer = run(&place, &refused).ended(4);
    assert!(answer.stderr.contains("is another image"), "{}", answer.stderr);
    assert_eq!(at(&registry, "copy/search", "pinned").await, Some(upstream.index.digest().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_write_rights_it_says_how_to_log_in() {
    let (place, registry) = (Place::new(), Registry::ours().await);
    let upstream = Upstream::at(&registry).await;
    let closed = Registry::ours_with(Access::new(Rights::reading(), Vec::new())).await;
    let source = format!("{}/{}:7.9.3", registry.address, upstream.repository);
    let answer = run(&place, &["mirror", &source, &format!("{}/a/b", closed.address)]).ended(3);
    assert!(answer.stderr.contains(&format!("docker login {}", closed.address)), "{}", answer.stderr);
    assert!(answer.stderr.contains(&format!("at {}", closed.address)), "{}", answer.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_without_one_of_its_platforms_is_not_copied() {
    let (place, registry) = (Place::new(), Registry::ours().await);
    let upstream = Upstream::at(&registry).await;
    let arm = upstream.index.index().unwrap().manifests[2].digest.clone();
    upstream.client.remove_document(&upstream.repository, &arm).await.unwrap();
    let source = format!("{}/library/search:7.9.3", registry.address);
    let answer = run(&place, &["mirror", &source, &format!("{}/copy/search", registry.address)]).ended(3);
    assert!(
        answer.stderr.contains(&format!("its image for linux/arm64 is missing: {arm}")),
        "{}",
        answer.stderr
    );
    assert_eq!(at(&registry, "copy/search", "7.9.3").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_the_family_is_planned_published_and_verified_with_it() {
    let from = Registry::ours().await;
    let upstream = Upstream::at(&from).await;
    let digest = upstream.index.digest().to_string();
    let source = format!("{}/library/search:7.9.3", from.address);
    let place = Place::with(&[("polyarch.toml", &family_of_a_mirror(&source))]);
    let plan = run(&place, &["plan"]).well();
    assert!(plan.stdout.contains(&format!("search  mirror {source} ({digest})")), "{}", plan.stdout);
    let plan: Value =
        serde_json::from_str(&run(&place, &["plan", "--format", "json"]).well().stdout).unwrap();
    assert_eq!(plan["mirrors"][0]["digest"], Value::String(digest.clone()));
    for to in Registry::both("mirror::family").await {
        let publish = |more: &[&str]| run(&place, &[&["publish", "--to", &to.address], more].concat());
        let dry = publish(&["--dry-run"]).well();
        assert!(
            dry.stdout.contains(&format!("tag       hysds/search:develop to {digest}")),
            "{}",
            dry.stdout
        );
        assert!(dry.stdout.contains("1 image on 2 platforms"), "{}", dry.stdout);
        assert_eq!(at(&to, "hysds/search", "develop").await, None);
        let verify = run(&place, &["verify", "--to", &to.address]).ended(1);
        let missing =
            verify.stdout.lines().any(|line| line.contains(" develop ") && line.ends_with("  missing"));
        assert!(missing, "{}", verify.stdout);
        let _ = publish(&[]).well();
        for tag in ["7.9.3", "develop"] {
            assert_eq!(at(&to, "hysds/search", tag).await, Some(digest.clone()));
        }
        read_by_skopeo(&place, &to, &upstream.index);
        let verify = run(&place, &["verify", "--to", &to.address]).well();
        assert!(verify.stdout.contains("equals the plan: 2 tags"), "{}", verify.stdout);
    }
    let _ = run(&place, &["publish"]).well();
    let own = run(&place, &["inspect", "--format", "json", "hysds/search:develop"]).well();
    let own: Value = serde_json::from_str(&own.stdout).unwrap();
    assert_eq!(own["digest"], Value::String(digest), "in the own store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_row_30_a_mirror_of_the_family_goes_to_mirror_registries_too() {
    let (from, first, second) = (Registry::ours().await, Registry::ours().await, Registry::ours().await);
    let upstream = Upstream::at(&from).await;
    let digest = Some(upstream.index.digest().to_string());
    let config = format!(
        "registry = \"{}/o\"\n[publish]\nmirrors = [\"{}/p\"]\nunit = \"image\"\n[tags]\nimmutable = [\"7.*\"]\n\
        [image.search]\nmirror = \"{}/library/search:7.9.3\"\n",
        first.address, second.address, from.address
    );
    let place = Place::with(&[("polyarch.toml", &config)]);
    let dry = run(&place, &["publish", "--dry-run"]).well();
    let line = format!("mirror    o/search to {}/p/search", second.address);
    assert!(dry.stdout.contains(&line), "{}", dry.stdout);
    let _ = run(&place, &["publish"]).well();
    assert_eq!(at(&first, "o/search", "7.9.3").await, digest);
    assert_eq!(at(&second, "p/search", "7.9.3").await, digest);
    let _ = run(&place, &["verify"]).well();

    // What is elsewhere under the same tag is another image now.
    let mut index = upstream.index.index().unwrap();
    index.annotations.clear();
    let other = Document::of_index(&index);
    let tag = "7.9.3".parse().unwrap();
    upstream.client.write_document(&upstream.repository, &other, &[tag]).await.unwrap();
    let verify = run(&place, &["verify"]).ended(1);
    for image in ["/o/search ", "/p/search "] {
        let mut lines = verify.stdout.lines().filter(|line| line.contains(image) && line.contains(" 7.9.3 "));
        assert!(lines.all(|line| line.ends_with("  elsewhere")), "{image}: {}", verify.stdout);
        assert!(verify.stdout.contains(image), "{}", verify.stdout);
    }
    let refused = run(&place, &["publish"]).ended(4);
    assert!(refused.stderr.contains("/o/search:7.9.3 is immutable"), "{}", refused.stderr);
    assert_eq!(at(&first, "o/search", "7.9.3").await, digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_cannot_be_read_stays_away_and_is_told() {
    let (from, to) = (Registry::ours().await, Registry::ours().await);
    let upstream = Upstream::at(&from).await;
    let source = |name: &str| format!("{}/library/{name}:7.9.3", from.address);
    let two =
        format!("{}[image.gone]\nmirror = \"{}\"\n", family_of_a_mirror(&source("search")), source("gone"));
    let place = Place::with(&[("polyarch.toml", &two)]);
    let plan = run(&place, &["plan"]).well();
    assert!(plan.stdout.contains("(unknown: it cannot be looked up)"), "{}", plan.stdout);
    assert!(plan.stderr.contains("the mirror `gone` is unknown"), "{}", plan.stderr);
    let answer = run(&place, &["publish", "--to", &to.address]).ended(1);
    assert!(answer.stderr.contains("gone is not published"), "{}", answer.stderr);
    assert!(answer.stderr.contains("as a whole or not at all"), "{}", answer.stderr);
    assert_eq!(at(&to, "hysds/search", "7.9.3").await, None);

    let apart = two.replace("[image.search]", "[publish]\nunit = \"image\"\n[image.search]");
    place.write("polyarch.toml", &apart);
    let answer = run(&place, &["publish", "--to", &to.address]).ended(1);
    assert!(answer.stderr.contains("gone is not published"), "{}", answer.stderr);
    assert_eq!(at(&to, "hysds/search", "7.9.3").await, Some(upstream.index.digest().to_string()));
    let verify = run(&place, &["verify", "--to", &to.address]).ended(1);
    assert!(verify.stderr.contains("what the mirror `gone` is a copy of"), "{}", verify.stderr);
    for command in ["build", "why", "publish"] {
        let answer = run(&place, &[command, "search"]).ended(2);
        assert!(answer.stderr.contains("polyarch mirror "), "{command}: {}", answer.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_x9_a_command_keeps_to_what_a_registry_may_be_asked() {
    let (from, to) = (Registry::ours().await, Registry::ours().await);
    Upstream::at(&from).await;
    let source = format!("{}/library/search:7.9.3", from.address);
    // Where there is a limit, that many requests take at least so long, over all clients of the command together.
    let hasty =
        |requests: usize, began: Instant| began.elapsed().as_secs_f64() * 20.0 < (requests - 1) as f64;
    let limit = format!("[limits.\"{}\"]\nrequests-per-second = 20\n", to.address);
    for (config, name, arguments) in [("", "told", vec!["--limit"]), (&*limit, "written", vec![])] {
        let place = Place::with(&[("polyarch.toml", config)]);
        let proxy = FaultProxy::start(&to.address, Vec::new()).await;
        let limit = format!("{}=20/s", proxy.address);
        place.write("polyarch.toml", &config.replace(&to.address, &proxy.address));
        let target = format!("{}/{name}/search", proxy.address);
        let more = arguments.into_iter().flat_map(|option| [option, &*limit]);
        let arguments: Vec<&str> = ["mirror", &source, &target].into_iter().chain(more).collect();
        let began = Instant::now();
        let _ = run(&place, &arguments).well();
        let requests = proxy.requests().len();
        assert!(requests > 20 && !hasty(requests, began), "{name}: {requests} in {:?}", began.elapsed());
    }
    let place = Place::new();
    let answer = run(&place, &["mirror", "--limit", "quay.io=fast", &source, &source]).ended(2);
    assert!(answer.stderr.contains("write quay.io=4"), "{}", answer.stderr);
    place.write("polyarch.toml", "[limits.quay]\nrequests-at-once = 4\n");
    let answer = run(&place, &["mirror", &source, &format!("{}/a/b", to.address)]).ended(2);
    assert!(answer.stderr.contains("polyarch.toml:1:9"), "{}", answer.stderr);
}
