//! The faults of a registry, client side, on real registries behind a proxy that does harm. What needs a registry that
//! lies by script is in `scripted`, what needs certificates in `tls`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use polyarch::oci::{
    Descriptor, Document, ErrorKind, Fixed, ImageIndex, Listener, Login, MediaType, Memory, Notice, Origin,
    Pointer, Repository, Secret, Store, Taken, copy_document,
};

use super::fault_proxy::{Fault, FaultProxy, Reply, Request, rule};
use super::registries::{Image, Registry, client, client_with, survives_pull, survives_push, tag};

const BLOBS: &str = "/blobs/uploads/";
const MIB: usize = 1 << 20;

fn status(status: u16) -> Fault {
    Fault::Answer(Reply::of(status))
}

fn carries(request: &Request) -> bool {
    (request.is("PUT", BLOBS) || request.is("PATCH", BLOBS)) && request.length > 100_000
}

fn reads_layer(request: &Request) -> bool {
    request.is("GET", "/blobs/sha256")
}

#[tokio::test]
async fn f_r3_every_passing_status_on_every_method() {
    let image = Image::new().await;
    for code in [500, 502, 503, 504, 408, 499, 522] {
        // Ours would mount what another repository has.
        for registry in Registry::both("f_r3").await {
            let repository: Repository = "team/image".parse().unwrap();
            let on = |method: &'static str| rule(1, move |request| request.method == method, status(code));
            let rules = ["HEAD", "GET", "POST", "PATCH", "PUT"].map(on).into();
            let proxy = FaultProxy::start(&registry.address, rules).await;
            let client = client_with(&proxy, |options| options.chunk = 4 << 20);
            let origin = Origin { store: &image.store, repository: &image.repository };
            copy_document(&origin, &image.document, &client, &repository, None).await.unwrap();
            let digest = Pointer::Digest(image.document.digest().clone());
            assert!(client.resolve(&repository, &digest).await.unwrap().is_some());
            assert_eq!(client.read_document(&repository, &digest).await.unwrap(), image.document);
            assert_eq!(proxy.faults(), 5, "{code}: {:#?}", proxy.requests());
        }
    }
}

#[tokio::test]
async fn f_r4_uploads_cut_at_every_edge() {
    for kept in [0, 1, 6 * MIB - 1] {
        survives_push("f_r4", |_| vec![rule(3, carries, Fault::CutRequest(kept))]).await;
    }
}

#[tokio::test]
async fn f_r4_downloads_cut_at_every_edge() {
    for kept in [0, 1, 1999] {
        survives_pull("f_r4", || vec![rule(4, reads_layer, Fault::CutReply(kept))]).await;
    }
    survives_pull("f_r4", || vec![rule(1, |request| request.is("GET", "/manifests/"), Fault::CutReply(9))])
        .await;
}

#[tokio::test]
async fn f_r4_answers_that_end_early_and_in_order_are_gone_on_from() {
    for kept in [0, 1, 1999] {
        survives_pull("f_r4", || vec![rule(4, reads_layer, Fault::EndReply(kept))]).await;
    }
    let manifest = |request: &Request| request.is("GET", "/manifests/");
    survives_pull("f_r4", || vec![rule(1, manifest, Fault::EndReply(9))]).await;
    survives_push("f_r4", |_| vec![rule(3, |request| request.method != "HEAD", Fault::EndReply(0))]).await;
}

#[tokio::test]
async fn f_r5_lost_replies_are_looked_up_and_not_repeated() {
    let image = Image::new().await;
    for registry in Registry::both("f_r5").await {
        let writes = |request: &Request| request.method == "PUT" || request.method == "DELETE";
        let proxy =
            FaultProxy::start(&registry.address, vec![rule(usize::MAX, writes, Fault::LoseReply)]).await;
        let client = client(&proxy);
        image.push(&client).await.unwrap();
        image.check(&registry.client(), &Pointer::Tag(tag())).await;
        let puts = |word: &str| proxy.requests().iter().filter(|seen| seen.is("PUT", word)).count();
        assert_eq!((puts(BLOBS), puts("/manifests/sha256"), puts("/manifests/latest")), (3, 1, 1));
        client.remove_document(&image.repository, image.document.digest()).await.unwrap();
        let digest = Pointer::Digest(image.document.digest().clone());
        assert_eq!(registry.client().resolve(&image.repository, &digest).await.unwrap(), None);
    }
}

#[tokio::test]
async fn f_r6_a_session_that_vanishes_begins_again() {
    for code in [404, 410, 416] {
        let fault = move || vec![rule(1, |request: &Request| request.is("PATCH", BLOBS), status(code))];
        let image = Image::new().await;
        for registry in Registry::both("f_r6").await {
            let proxy = FaultProxy::start(&registry.address, fault()).await;
            image.push(&client_with(&proxy, |options| options.chunk = MIB as u64)).await.unwrap();
            image.check(&registry.client(), &Pointer::Tag(tag())).await;
            assert_eq!(proxy.faults(), 1);
        }
    }
    // One that vanishes every time is given up.
    let image = Image::new().await;
    for registry in Registry::both("f_r6").await {
        let gone = |request: &Request| request.target.contains(BLOBS) && request.method != "POST";
        let proxy = FaultProxy::start(&registry.address, vec![rule(usize::MAX, gone, status(404))]).await;
        let error = image.push(&client(&proxy)).await.unwrap_err();
        assert!(error.to_string().contains("lost the upload"), "{error}");
        assert!(proxy.requests().len() < 100, "{}", proxy.requests().len());
    }
}

#[tokio::test]
async fn f_r7_the_size_of_pieces_is_learnt_once_a_host() {
    let image = Image::new().await;
    for registry in Registry::both("f_r7").await {
        let large = |request: &Request| request.target.contains(BLOBS) && request.length > MIB;
        let proxy = FaultProxy::start(&registry.address, vec![rule(usize::MAX, large, status(413))]).await;
        let client = client(&proxy);
        image.push(&client).await.unwrap();
        assert_eq!(proxy.faults(), 2, "6 MiB, 4 MiB, then 1 MiB");
        let (other, again): (Repository, _) = ("other/image".parse().unwrap(), Image::new().await);
        let bytes = bytes::Bytes::from(vec![9; 3 * MIB]);
        let digest = again.store.write_blob(&again.repository, bytes).await.unwrap();
        let blob = Descriptor::new(MediaType::LAYER_GZIP, digest, 3 * MIB as u64);
        let origin = Origin { store: &again.store, repository: &again.repository };
        let taken = client.take_blob(&other, &blob, None, &origin).await.unwrap();
        assert_eq!(
            (taken, proxy.faults()),
            (Taken::Moved(blob.size), 2),
            "another repository of the same host"
        );
    }
}

#[tokio::test]
async fn f_r7_the_least_size_that_a_registry_names_is_kept() {
    let image = Image::new().await;
    for registry in Registry::both("f_r7").await {
        let names: fn(Reply) -> Reply = |reply| reply.with("oci-chunk-min-length", 5 * MIB);
        let begins = |request: &Request| request.is("POST", BLOBS);
        let proxy =
            FaultProxy::start(&registry.address, vec![rule(usize::MAX, begins, Fault::Change(names))]).await;
        image.push(&client_with(&proxy, |options| options.chunk = MIB as u64)).await.unwrap();
        let pieces: Vec<_> = proxy.requests().into_iter().filter(carries).map(|seen| seen.length).collect();
        assert_eq!(pieces, [5 * MIB, MIB]);
    }
}

#[tokio::test]
async fn f_r8_content_that_a_registry_loses_is_brought_again() {
    let image = Image::new().await;
    let layer = image.layer.digest.to_string();
    for registry in Registry::both("f_r8").await {
        // It claims to have mounted the layer, and has not.
        let word = layer.clone();
        let mounts = move |request: &Request| request.method == "POST" && request.target.contains(&word[7..]);
        let proxy = FaultProxy::start(&registry.address, vec![rule(1, mounts, status(201))]).await;
        image.push(&client(&proxy)).await.unwrap();
        assert_eq!(proxy.faults(), 1);
        image.check(&registry.client(), &Pointer::Tag(tag())).await;
    }
}

#[tokio::test]
async fn f_r9_where_mounts_are_refused_bytes_are_sent() {
    let image = Image::new().await;
    for registry in Registry::both("f_r9").await {
        image.push(&registry.client()).await.unwrap();
        for (number, code) in [401, 403, 404, 405, 400].into_iter().enumerate() {
            let other: Repository = format!("team/other{number}").parse().unwrap();
            let mounts = |request: &Request| request.target.contains("mount=");
            let proxy =
                FaultProxy::start(&registry.address, vec![rule(usize::MAX, mounts, status(code))]).await;
            let origin = Origin { store: &image.store, repository: &image.repository };
            let from = Some(&image.repository);
            copy_document(&origin, &image.document, &client(&proxy), &other, from).await.unwrap();
            let sent = proxy.requests().iter().filter(|seen| seen.is("PUT", BLOBS)).count();
            assert_eq!(sent, 3, "{code}");
        }
        let lies: fn(Reply) -> Reply =
            |reply| reply.with("docker-content-digest", polyarch::oci::Digest::of(b"another"));
        let mounts = |request: &Request| request.target.contains("mount=");
        let proxy = FaultProxy::start(&registry.address, vec![rule(1, mounts, Fault::Change(lies))]).await;
        let other = "team/last".parse().unwrap();
        let origin = Origin { store: &image.store, repository: &image.repository };
        let copied =
            copy_document(&origin, &image.document, &client(&proxy), &other, Some(&image.repository)).await;
        assert_eq!(copied.unwrap_err().kind(), ErrorKind::Mismatch);
    }
}

#[tokio::test]
async fn f_r9_what_is_elsewhere_is_mounted_and_what_is_there_is_not_sent() {
    let image = Image::new().await;
    for registry in Registry::both("f_r9").await {
        let proxy = FaultProxy::start(&registry.address, Vec::new()).await;
        let client = client(&proxy);
        let origin = Origin { store: &image.store, repository: &image.repository };
        let names: Vec<Repository> =
            (0..6).map(|number| format!("team/r{number}").parse().unwrap()).collect();
        let copies = names.iter().map(|name| copy_document(&origin, &image.document, &client, name, None));
        let moved: u64 = futures_util::future::try_join_all(copies).await.unwrap().into_iter().sum();
        let size = image.document.manifest().unwrap();
        let unique = size.config.size + size.layers.iter().map(|layer| layer.size).sum::<u64>();
        assert_eq!(moved, unique, "six repositories at once, each blob sent once");
        assert_eq!(proxy.requests().iter().filter(|seen| seen.is("PUT", BLOBS)).count(), 3);
        // A client that knows nothing finds everything there.
        let before = proxy.requests().len();
        let stranger = super::registries::client(&proxy);
        let moved = copy_document(&origin, &image.document, &stranger, &names[3], None).await.unwrap();
        let requests = proxy.requests().split_off(before);
        assert_eq!(moved, 0, "{requests:#?}");
        assert!(requests.iter().all(|seen| !seen.is("PUT", BLOBS) && !seen.is("PATCH", BLOBS)));
    }
}

#[tokio::test]
async fn what_a_server_of_ours_has_in_any_repository_is_not_sent_again() {
    let (image, registry) = (Image::new().await, Registry::ours().await);
    image.push(&registry.client()).await.unwrap();
    // A client that has never written there, and knows of no other repository.
    let stranger = registry.client();
    let there: Repository = "copy/child".parse().unwrap();
    let origin = Origin { store: &image.store, repository: &image.repository };
    // Whatever is asked first says what the registry can do.
    assert_eq!(stranger.resolve(&there, &Pointer::Tag(tag())).await.unwrap(), None);
    let moved = copy_document(&origin, &image.document, &stranger, &there, None).await.unwrap();
    let used = stranger.traffic().total();
    assert_eq!((moved, used.requests), (0, 5), "a look, three mounts, one manifest: {used:?}");
    assert!(used.sent < 10_000, "{used:?}");
}

#[tokio::test]
async fn f_r10_a_demand_in_the_middle_of_a_push_sends_the_body_again() {
    let image = Image::new().await;
    for registry in Registry::both("f_r10").await {
        let demand = Fault::Answer(Reply::of(401).with("www-authenticate", "Basic realm=\"planted\""));
        let proxy = FaultProxy::start(&registry.address, vec![rule(1, carries, demand)]).await;
        let login = Login::Basic { user: "user".to_owned(), password: Secret::new("canary-7f3a9b") };
        let credentials = Arc::new(Fixed(proxy.address.clone(), login));
        let client = client_with(&proxy, |options| options.credentials = credentials.clone());
        image.push(&client).await.unwrap();
        image.check(&registry.client(), &Pointer::Tag(tag())).await;
        let bodies: Vec<_> = proxy.requests().into_iter().filter(carries).collect();
        let carried = bodies.iter().map(|seen| seen.header("authorization").is_some()).collect::<Vec<_>>();
        assert_eq!(carried, [false, true]);
    }
}

#[tokio::test]
async fn f_r12_headers_that_lie_are_noticed_and_missing_ones_are_not_missed() {
    survives_push("f_r12", |_| {
        let bare: fn(Reply) -> Reply = |reply| reply.without("docker-content-digest");
        vec![rule(usize::MAX, |_| true, Fault::Change(bare))]
    })
    .await;
    survives_pull("f_r12", || {
        let bare: fn(Reply) -> Reply = |reply| reply.without("docker-content-digest");
        vec![rule(usize::MAX, |_| true, Fault::Change(bare))]
    })
    .await;
    let image = Image::new().await;
    type Change = fn(Reply) -> Reply;
    let lies: [Change; 3] = [
        |reply| reply.with("content-length", 3000),
        |reply| reply.with("content-length", 10),
        |reply| reply.with("content-encoding", "gzip"),
    ];
    for registry in Registry::both("f_r12").await {
        image.push(&registry.client()).await.unwrap();
        for lie in lies {
            let rules = vec![rule(usize::MAX, reads_layer, Fault::Change(lie))];
            let proxy = FaultProxy::start(&registry.address, rules).await;
            let hasty = client_with(&proxy, |options| {
                options.patience = Duration::ZERO;
                options.idle = Duration::from_millis(300);
            });
            assert!(image.pull(&hasty).await.is_err());
        }
    }
}

#[tokio::test]
async fn f_r13_a_document_said_to_be_endless_is_not_read() {
    let image = Image::new().await;
    for registry in Registry::both("f_r13").await {
        image.push(&registry.client()).await.unwrap();
        let endless: fn(Reply) -> Reply = |reply| reply.with("content-length", 1_u64 << 30);
        let reads = |request: &Request| request.is("GET", "/manifests/");
        let proxy =
            FaultProxy::start(&registry.address, vec![rule(usize::MAX, reads, Fault::Change(endless))]).await;
        let error = image.pull(&client(&proxy)).await.map(drop).unwrap_err();
        assert_eq!((error.kind(), proxy.requests().len()), (ErrorKind::TooLarge, 1));
    }
}

#[tokio::test]
async fn f_r13_an_index_of_a_hundred_thousand_is_refused_before_it_is_sent_or_read() {
    let image = Image::new().await;
    let children = vec![image.document.descriptor(); 100_000];
    let index = Document::of_index(&ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::INDEX.to_owned()),
        artifact_type: None,
        manifests: children,
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    });
    let bytes: &'static [u8] = index.bytes().to_vec().leak();
    for registry in Registry::both("f_r13").await {
        image.push(&registry.client()).await.unwrap();
        let many = Reply::of(200).with("content-type", MediaType::INDEX).body(bytes);
        let reads = |request: &Request| request.is("GET", "/manifests/");
        let rules = vec![rule(usize::MAX, reads, Fault::Answer(many))];
        let proxy = FaultProxy::start(&registry.address, rules).await;
        let error = image.pull(&client(&proxy)).await.map(drop).unwrap_err();
        assert_eq!((error.kind(), proxy.requests().len()), (ErrorKind::TooLarge, 1));
        let error = client(&proxy).write_document(&image.repository, &index, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        let error = Memory::new().write_document(&image.repository, &index, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }
}

#[tokio::test]
async fn f_r14_an_index_that_is_refused_says_what_may_be_unwelcome() {
    let image = Image::new().await;
    let mut attestation = image.document.descriptor();
    attestation.annotations.insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
    for (child, words) in [(attestation, "attestation"), (image.document.descriptor(), "several platforms")] {
        let index = Document::of_index(&ImageIndex::new(vec![child]));
        for registry in Registry::both("f_r14").await {
            let body = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}"#;
            let refusal = Fault::Answer(Reply::of(400).body(body));
            let rules = vec![rule(usize::MAX, |request: &Request| request.is("PUT", "/manifests/"), refusal)];
            let proxy = FaultProxy::start(&registry.address, rules).await;
            let error = client(&proxy).write_document(&image.repository, &index, &[]).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn f_r18_a_stall_is_given_up_and_gone_on_from() {
    let image = Image::new().await;
    for registry in Registry::both("f_r18").await {
        image.push(&registry.client()).await.unwrap();
        let proxy =
            FaultProxy::start(&registry.address, vec![rule(2, reads_layer, Fault::Stall(1000))]).await;
        let client = client_with(&proxy, |options| options.idle = Duration::from_millis(300));
        let store = image.pull(&client).await.unwrap();
        image.check(&store, &Pointer::Digest(image.document.digest().clone())).await;
        // A slow answer is no stall.
        let slow = Fault::Delay(Duration::from_millis(100));
        let proxy = FaultProxy::start(&registry.address, vec![rule(usize::MAX, |_| true, slow)]).await;
        let client = client_with(&proxy, |options| options.idle = Duration::from_secs(60));
        image.pull(&client).await.unwrap();
        let requests = proxy.requests();
        assert_eq!(requests.len(), 4, "nothing was asked twice: {requests:#?}");
    }
}

#[tokio::test]
async fn f_r20_warnings_are_told_once_short_and_harmless() {
    let image = Image::new().await;
    for registry in Registry::both("f_r20").await {
        let warns: fn(Reply) -> Reply = |reply| {
            let long = format!("299 - \"your plan ends \u{9b}31m{}\"", "x".repeat(10_000));
            reply.with("warning", long)
        };
        let proxy =
            FaultProxy::start(&registry.address, vec![rule(usize::MAX, |_| true, Fault::Change(warns))])
                .await;
        let heard: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let ear = heard.clone();
        let listener = Listener::new(move |notice| ear.lock().unwrap().push(notice));
        let client = client_with(&proxy, |options| options.listener = listener.clone());
        image.push(&client).await.unwrap();
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 1, "{heard:?}");
        let Notice::Warned { registry, words } = &heard[0] else { panic!("{heard:?}") };
        assert_eq!(*registry, proxy.address);
        assert!(words.starts_with("your plan ends") && words.chars().count() <= 301, "{words}");
        assert!(!words.chars().any(char::is_control), "{words:?}");
    }
}

#[tokio::test]
async fn a_registry_that_is_waited_for_is_told_of_once() {
    let image = Image::new().await;
    for registry in Registry::both("waiting").await {
        let rules = vec![rule(6, |request: &Request| request.is("PUT", "/manifests/"), status(500))];
        let proxy = FaultProxy::start(&registry.address, rules).await;
        let heard: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let ear = heard.clone();
        let listener = Listener::new(move |notice| ear.lock().unwrap().push(notice));
        image.push(&client_with(&proxy, |options| options.listener = listener.clone())).await.unwrap();
        let heard = heard.lock().unwrap();
        let signs = heard.iter().filter_map(|notice| match notice {
            Notice::Waiting { sign, at_most, .. } if *at_most > Duration::from_secs(10) => {
                Some(sign.as_str())
            }
            _ => None,
        });
        assert_eq!(signs.collect::<Vec<_>>().first(), Some(&"answers 500"), "{heard:?}");
    }
}

#[tokio::test]
async fn a_full_registry_is_not_taken_for_a_wrong_password() {
    let image = Image::new().await;
    let words = [
        "adding 5.0 MiB of storage resource, which when updated to current usage will exceed the configured upper limit",
        "Your repository quota is used up",
    ];
    for word in words {
        let registry = Registry::ours().await;
        let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{word}"}}]}}"#);
        let rules = vec![rule(usize::MAX, carries, Fault::Answer(Reply::of(403).body(body)))];
        let proxy = FaultProxy::start(&registry.address, rules).await;
        let error = image.push(&client(&proxy)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    }
}

#[tokio::test]
async fn a_copy_between_registries_is_a_stream_and_is_counted() {
    let image = Image::new().await;
    for from_ours in [true, false] {
        let mut both = Registry::both("copy").await;
        both.sort_by_key(|registry| registry.is_ours != from_ours);
        let [source, target] = &both[..] else { return };
        image.push(&source.client()).await.unwrap();
        let (from, to) = (source.client(), target.client());
        let there: Repository = "copy/image".parse().unwrap();
        let origin = Origin { store: &from, repository: &image.repository };
        let moved = copy_document(&origin, &image.document, &to, &there, None).await.unwrap();
        assert!(moved > 6 << 20);
        assert_eq!(copy_document(&origin, &image.document, &to, &there, None).await.unwrap(), 0);
        let (got, gave) = (from.traffic().total(), to.traffic().total());
        assert_eq!(got.received, moved, "{got:?}");
        assert!((moved..moved + 10_000).contains(&gave.sent), "{gave:?}");
        // 3 blobs read; a mount and a PUT for each, one probe, two manifests, and three mounts the second time.
        assert_eq!((got.requests, gave.requests <= 12), (3, true), "{gave:?}");
    }
}

#[tokio::test]
async fn f_r15_a_tag_that_another_moved_is_seen() {
    let image = Image::new().await;
    for registry in Registry::both("f_r15").await {
        let client = registry.client();
        image.push(&client).await.unwrap();
        let other = registry.client();
        let index = Document::of_index(&ImageIndex::new(vec![image.document.descriptor()]));
        other.write_document(&image.repository, &index, &[tag()]).await.unwrap();
        let found = client.resolve(&image.repository, &Pointer::Tag(tag())).await.unwrap().unwrap();
        assert_eq!(
            found.digest,
            *index.digest(),
            "what we wrote ourselves is not believed to be there still"
        );
    }
}
