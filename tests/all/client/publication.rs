//! Publications that a registry refuses, each in its own way: what a person hears, and what is public afterwards.

use std::sync::Arc;

use polyarch::oci::{Repository, Store as _};

use super::fault_proxy::{Fault, FaultProxy, Reply, Request, Rule, rule};
use super::registries::Registry;
use crate::end_to_end::engines::{Engine, FOUNDATION, root_file_systems};
use crate::program::{Answer, Place};

const CONFIGURATION: &str = "name = \"strict\"\nplatforms = [\"linux/386\", \"linux/amd64\"]\n";

/// A family of one image that is built, so that all that is left is to publish it.
fn built(test: &str) -> Option<Arc<Place>> {
    let mut place = Place::with(&[("polyarch.toml", CONFIGURATION), ("tool/Dockerfile", FOUNDATION)]);
    let ready =
        Engine::Classic.equip(test, &mut place) && root_file_systems(test, &place, "tool", &["386", "amd64"]);
    if !ready {
        return None;
    }
    let _ = place.run(&["build"]).well();
    Some(Arc::new(place))
}

/// Runs the program while the registries of this test go on answering.
async fn run(place: &Arc<Place>, arguments: &[&str]) -> Answer {
    let place = place.clone();
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Where the newest journals of a target stand: no name of an image.
const JOURNALS: &str = "polyarch-publications";

/// The tags of a repository that people see.
async fn tags(registry: &Registry, repository: &str) -> Vec<String> {
    let repository: Repository = repository.parse().unwrap();
    match registry.client().tags(&repository, None, 100).await {
        Ok(tags) => tags.iter().map(ToString::to_string).filter(|tag| tag != JOURNALS).collect(),
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// An answer as registries refuse.
fn refusal(status: u16, code: &str, message: &str) -> Fault {
    let body = format!(r#"{{"errors": [{{"code": "{code}", "message": "{message}"}}]}}"#);
    Fault::Answer(Reply::of(status).with("content-type", "application/json").body(body))
}

/// All that a registry refuses of one kind.
struct Refusal {
    name: &'static str,
    requests: fn(&Request) -> bool,
    fault: Fault,
    code: i32,
    /// What must be said.
    says: &'static [&'static str],
}

impl Refusal {
    fn rules(&self) -> Vec<Rule> {
        vec![rule(usize::MAX, self.requests, self.fault.clone())]
    }
}

fn writes(request: &Request) -> bool {
    ["POST", "PUT", "PATCH"].contains(&request.method.as_str())
}

fn is_index(request: &Request) -> bool {
    request.is("PUT", "/manifests/")
        && request.header("content-type").is_some_and(|kind| kind.contains("index"))
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal {
            name: "credentials without write rights",
            requests: writes,
            fault: refusal(403, "DENIED", "requested access to the resource is denied"),
            code: 3,
            says: &["answered 403", "log in as one who may: docker login"],
        },
        Refusal {
            name: "no credentials",
            requests: writes,
            fault: refusal(401, "UNAUTHORIZED", "authentication required"),
            code: 3,
            says: &["log in: docker login"],
        },
        Refusal {
            name: "a registry with two levels of names",
            requests: |request| writes(request) && request.target.contains("/strict/tool/"),
            fault: refusal(400, "NAME_INVALID", "invalid repository name"),
            code: 3,
            says: &["invalid repository name", "choose a name that it takes: `repository = "],
        },
        Refusal {
            name: "a project that is not there",
            requests: writes,
            fault: refusal(404, "NAME_UNKNOWN", "project strict not found"),
            code: 3,
            says: &["project strict not found", "make the repository there first"],
        },
        Refusal {
            name: "F-R14: no index",
            requests: is_index,
            fault: refusal(400, "MANIFEST_INVALID", "manifest invalid"),
            code: 3,
            says: &["not every registry takes an index", "polyarch publish --to REGISTRY"],
        },
        Refusal {
            name: "F-S12: a quota",
            requests: writes,
            fault: refusal(413, "DENIED", "storage quota exceeded"),
            code: 3,
            says: &["storage quota exceeded", "make room there"],
        },
        Refusal {
            name: "a limit of bodies",
            requests: |request| request.is("PUT", "/manifests/"),
            fault: refusal(413, "", ""),
            code: 3,
            says: &["answered 413", "raise its limit for bodies"],
        },
        Refusal {
            name: "F-S12: a limit of tags",
            requests: |request| request.is("PUT", "/manifests/latest"),
            fault: refusal(400, "DENIED", "tag limit of 100 reached"),
            code: 5,
            says: &["tag limit of 100 reached", "remove tags there that nobody needs"],
        },
        Refusal {
            name: "F-S12: immutable tags",
            requests: |request| request.is("PUT", "/manifests/latest"),
            fault: refusal(409, "CONFLICT", "tag latest is immutable"),
            code: 5,
            says: &["tag latest is immutable", "publish under a tag that is new there"],
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn f_r14_f_s12_what_a_registry_refuses_is_told_with_what_to_do_and_nothing_is_half_visible() {
    let Some(place) = built("client::publication::f_r14_f_s12") else { return };
    for refusal in refusals() {
        let name = refusal.name;
        let registry = Registry::ours().await;
        let proxy = FaultProxy::start(&registry.address, refusal.rules()).await;
        let answer = run(&place, &["publish", "--to", &proxy.address]).await;
        // One refused tag may come before any other has moved.
        let none_moved = refusal.code == 5 && answer.code == Some(3);
        assert!(answer.code == Some(refusal.code) || none_moved, "{name}: {}", answer.stderr);
        for text in refusal.says {
            assert!(answer.stderr.contains(text), "{name}: `{text}` is not in\n{}", answer.stderr);
        }
        assert!(!answer.stderr.contains("see whether it answers"), "{name}: it did\n{}", answer.stderr);
        assert!(proxy.faults() > 0, "{name}");
        let public = tags(&registry, "strict/tool").await;
        assert!(!public.contains(&"latest".to_owned()), "{name}: {public:?}");
        assert_eq!(public.is_empty(), answer.code == Some(3), "{name}: {public:?}");
        // Where it relents the same command does what is missing.
        let _ = run(&place, &["publish", "--to", &registry.address]).await.well();
        assert_eq!(tags(&registry, "strict/tool").await.len(), 3, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_r8_content_that_is_unknown_right_after_the_push_is_brought_again() {
    let Some(place) = built("client::publication::f_r8") else { return };
    let registry = Registry::ours().await;
    let unknown = refusal(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry");
    let manifest = |request: &Request| request.is("PUT", "/manifests/sha256") && !is_index(request);
    let proxy = FaultProxy::start(&registry.address, vec![rule(1, manifest, unknown)]).await;
    let answer = run(&place, &["publish", "--to", &proxy.address]).await.well();
    assert!(proxy.faults() == 1, "{}", answer.stderr);
    assert_eq!(tags(&registry, "strict/tool").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_row_30_mirrors_get_the_same_once_the_first_registry_has_it() {
    let Some(place) = built("client::publication::s4_row_30") else { return };
    let (first, second, third) = (Registry::ours().await, Registry::ours().await, Registry::ours().await);
    let denied = || refusal(403, "DENIED", "requested access to the resource is denied");
    let manifest = |request: &Request| request.is("PUT", "/manifests/");
    let down = FaultProxy::start(&second.address, vec![rule(1, manifest, denied())]).await;
    let configuration = |registry: &str| {
        format!(
            "{CONFIGURATION}registry = \"{registry}/o\"\n[publish]\nmirrors = [\"{}\", \"{}/o/p\"]\n",
            down.address, third.address
        )
    };

    // The first decides: what fails there goes to no mirror.
    let closed = FaultProxy::start(&first.address, vec![rule(usize::MAX, writes, denied())]).await;
    place.write("polyarch.toml", &configuration(&closed.address));
    let _ = run(&place, &["publish"]).await.ended(3);
    assert_eq!(down.requests().len(), 0, "a mirror was asked");
    assert_eq!(tags(&third, "o/p/tool").await.len(), 0);

    place.write("polyarch.toml", &configuration(&first.address));
    let planned = run(&place, &["publish", "--dry-run"]).await.well().stdout;
    assert!(planned.contains(&format!("mirror    o/tool to {}/o/p/tool", third.address)), "{planned}");
    let answer = run(&place, &["publish"]).await.ended(5);
    let told = format!("the mirror {} is incomplete", down.address);
    assert!(answer.stderr.contains(&told), "{}", answer.stderr);
    assert!(answer.stderr.contains("docker login"), "{}", answer.stderr);
    let expected = ["386-latest", "amd64-latest", "latest"];
    let sorted = async |registry: &Registry, repository: &str| {
        let mut found = tags(registry, repository).await;
        found.sort();
        found
    };
    assert_eq!(sorted(&first, "o/tool").await, expected, "the first is complete");
    assert_eq!(sorted(&second, "tool").await, Vec::<String>::new(), "the mirror that failed is not");
    assert_eq!(sorted(&third, "o/p/tool").await, expected, "the one after it is");
    let verified = run(&place, &["verify"]).await.ended(1);
    let of_mirror = format!("{}/tool ", down.address);
    let missing = verified.stdout.lines().filter(|line| line.starts_with(&of_mirror));
    assert!(missing.clone().any(|line| line.contains(" latest ") && line.ends_with("  missing")));

    let _ = run(&place, &["publish"]).await.well();
    assert_eq!(sorted(&second, "tool").await, expected, "the same command completes it");
    let _ = run(&place, &["verify"]).await.well();
    let digest = async |registry: &Registry, repository: &str| {
        let (repository, tag) =
            (repository.parse().unwrap(), "latest".parse::<polyarch::oci::Tag>().unwrap());
        registry.client().resolve(&repository, &tag.into()).await.unwrap().unwrap().digest
    };
    assert_eq!(digest(&first, "o/tool").await, digest(&second, "tool").await);
    assert_eq!(digest(&first, "o/tool").await, digest(&third, "o/p/tool").await);

    // A mirror that cannot be reached hides nothing of the others.
    let away = configuration(&first.address).replace(&down.address, "127.0.0.1:1");
    place.write("polyarch.toml", &away);
    let verified = run(&place, &["verify"]).await.ended(3);
    assert!(verified.stderr.contains("127.0.0.1:1"), "{}", verified.stderr);
    for image in [format!("{}/o/tool ", first.address), format!("{}/o/p/tool ", third.address)] {
        let shown = verified.stdout.lines().any(|line| line.starts_with(&image) && line.ends_with("  equal"));
        assert!(shown, "{image}: {}", verified.stdout);
    }
    let as_json = run(&place, &["verify", "--format", "json"]).await.ended(3).stdout;
    assert!(as_json.contains("\"equal\": false"), "{as_json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_says_by_its_exit_code_that_tags_stay() {
    let Some(place) = built("client::publication::rollback") else { return };
    let Some(registry) = Registry::debian("client::publication::rollback").await else { return };
    let _ = run(&place, &["publish", "--to", &registry.address]).await.well();
    let listed = run(&place, &["publications", "--to", &registry.address]).await.well().stdout;
    let id = listed.split_whitespace().next().expect("a publication");
    let rollback = ["rollback", id, "--to", &registry.address];
    let dry = run(&place, &[&rollback[..], &["--dry-run"]].concat()).await.well();
    assert!(dry.stderr.contains("does not remove tags, those stay"), "{}", dry.stderr);
    let answer = run(&place, &rollback).await.ended(1);
    assert_eq!(answer.stderr.matches("does not remove tags").count(), 1, "{}", answer.stderr);
    assert!(answer.stderr.contains("3 tags of it stay"), "{}", answer.stderr);
    let one = format!("{}/strict/tool:386-latest", registry.address);
    assert!(answer.stderr.contains(&one), "{}", answer.stderr);
    assert_eq!(tags(&registry, "strict/tool").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn i_p7_what_is_immutable_stays_and_nothing_else_moves_either() {
    let Some(place) = built("client::publication::i_p7") else { return };
    let registry = Registry::ours().await;
    let configuration =
        format!("{CONFIGURATION}[tags]\ncommon = [\"latest\", \"v1\"]\nimmutable = [\"v*\"]\n");
    place.write("polyarch.toml", &configuration);
    let publish = ["publish", "--to", &registry.address];
    let _ = run(&place, &publish).await.well();
    let digests = async || {
        let repository: Repository = "strict/tool".parse().unwrap();
        let mut found = Vec::new();
        for tag in tags(&registry, repository.as_str()).await {
            let tag: polyarch::oci::Tag = tag.parse().unwrap();
            let place = registry.client().resolve(&repository, &tag.clone().into()).await.unwrap();
            found.push((tag.to_string(), place.unwrap().digest));
        }
        found
    };
    let before = digests().await;
    assert_eq!(before.len(), 6);
    let _ = run(&place, &publish).await.well();

    place.write("tool/Dockerfile", &format!("{FOUNDATION}LABEL another=one\n"));
    let _ = run(&place, &["build"]).await.well();
    let dry = run(&place, &[&publish[..], &["--dry-run"]].concat()).await.ended(4);
    assert!(dry.stdout.contains("tag       strict/tool:latest to sha256:"), "{}", dry.stdout);
    let refused = run(&place, &publish).await.ended(4);
    assert_eq!(dry.stderr.matches("is immutable, and would change").count(), 3, "{}", dry.stderr);
    for tag in ["v1", "386-v1", "amd64-v1"] {
        let told = format!("the tag {}/strict/tool:{tag} is immutable, and would change", registry.address);
        assert!(refused.stderr.contains(&told), "{tag}: {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("latest is immutable"), "{}", refused.stderr);
    assert_eq!(digests().await, before, "nothing moved");
    place.write("polyarch.toml", &configuration.replace("\"v1\"", "\"v2\""));
    let _ = run(&place, &publish).await.well();
    assert_eq!(digests().await.len(), 9, "what is new is published");
    let dry = run(&place, &[&publish[..], &["--dry-run"]].concat()).await.well();
    assert!(
        dry.stdout.contains("\nto do     nothing but the list of publications: all of it is there\n"),
        "{}",
        dry.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_are_units_go_one_after_the_other_and_are_gone_on_with() {
    let Some(place) = built("client::publication::units") else { return };
    place.write("upon/Dockerfile", "FROM tool\nLABEL upon=tool\n");
    let _ = run(&place, &["build"]).await.well();
    let each = format!("{CONFIGURATION}[publish]\nunit = \"image\"\n");
    for (configuration, code) in [(CONFIGURATION, 3), (each.as_str(), 5)] {
        place.write("polyarch.toml", configuration);
        let registry = Registry::ours().await;
        let upon = |request: &Request| writes(request) && request.target.contains("/strict/upon/");
        let denied = refusal(403, "DENIED", "requested access to the resource is denied");
        let proxy = FaultProxy::start(&registry.address, vec![rule(usize::MAX, upon, denied)]).await;
        let answer = run(&place, &["publish", "--to", &proxy.address]).await.ended(code);
        // As a family nothing of either is public; by itself the first is whole.
        assert_eq!(tags(&registry, "strict/tool").await.len(), if code == 5 { 3 } else { 0 });
        assert_eq!(tags(&registry, "strict/upon").await.len(), 0);
        let told = "not all of the images are published: 1 of 2 publications are done";
        assert_eq!(answer.stderr.contains("1 of 2 publications"), code == 5, "{told}: {}", answer.stderr);
        let _ = run(&place, &["publish", "--to", &registry.address]).await.well();
        assert_eq!(tags(&registry, "strict/upon").await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_build_names_what_would_be_published() {
    let configuration = format!(
        "{CONFIGURATION}[tags]\ncommon = [\"latest\"]\n[image.tool]\n\
         tags = [{{ tag = \"python-{{0}}\", run = \"true\" }}]\n"
    );
    let place =
        Place::with(&[("polyarch.toml", &configuration), ("tool/Dockerfile", "FROM scratch\nCOPY a /\n")]);
    place.write("tool/a", "a");
    assert!(place.run(&["plan"]).well().stderr.contains("1 image has no test"), "nothing is wrong with that");
    assert!(!place.run(&["plan", "--quiet"]).well().stderr.contains("no test"));
    let dry = place.run(&["build", "--publish", "--dry-run", "--to", "127.0.0.1:1"]).well().stdout;
    for line in [
        "to 127.0.0.1:1, where all of it passes:",
        "tag       strict/tool:latest for linux/386, linux/amd64",
        "tag       strict/tool:amd64-latest for linux/amd64",
        "tag       strict/tool:python-{0} for linux/386, linux/amd64; its tagger gives the value",
    ] {
        assert!(dry.lines().any(|one| one == line), "{line}: {dry}");
    }
    // What the real run would fail by fails the dry one, once it has said what would be done.
    for command in [&["build", "--publish"][..], &["publish"]] {
        let with_key = [command, &["--sign-key", "nowhere.key"]].concat();
        let (real, dry) = (place.run(&with_key), place.run(&[&with_key[..], &["--dry-run"]].concat()));
        assert_eq!(dry.code, real.code, "{command:?}: {}", dry.stderr);
        assert!(dry.stderr.contains("nowhere.key"), "{command:?}: {}", dry.stderr);
    }
    let one = place.run(&["build", "--publish", "--dry-run", "--platform", "linux/386"]).well().stdout;
    assert!(one.contains("withheld  tool: linux/amd64 not selected, and no record stands for it"), "{one}");
}
