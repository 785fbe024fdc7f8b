//! TM15: documents that two readers can take for two different things, through the client, a store and our server:
//! each is refused, everywhere as the same kind of failure. TM14: those that would take memory without end.

use polyarch::oci::{
    Client, ClientOptions, Descriptor, Document, ErrorKind, MediaType, Memory, Repository, Store,
};

use super::fault_proxy::{Fault, FaultProxy, Reply, rule};
use super::registries::{Registry, client, tag};

/// Documents with a configuration and a layer that are there; each is wrong in one way.
fn ambiguous(config: &Descriptor) -> Vec<(&'static str, String)> {
    let target = format!(r#"{{"mediaType":"{}","digest":"{}","size":2}}"#, MediaType::CONFIG, config.digest);
    let manifest = |more: &str| format!(r#"{{"schemaVersion":2,"config":{target},"layers":[]{more}}}"#);
    let index = |more: &str| format!(r#"{{"schemaVersion":2,"manifests":[]{more}}}"#);
    let mut all = vec![
        (MediaType::MANIFEST, manifest(r#","manifests":[]"#)),
        (MediaType::MANIFEST, manifest(r#","Manifests":[]"#)),
        (MediaType::MANIFEST, manifest(r#","MANIFESTS":[]"#)),
        (MediaType::MANIFEST, manifest(r#","layers":[]"#)),
        (MediaType::MANIFEST, manifest(r#","Layers":[]"#)),
        (MediaType::MANIFEST, manifest(r#","lay\u0065rs":[]"#)),
        (MediaType::MANIFEST, manifest(r#","unknown":1,"unknown":2"#)),
        (MediaType::MANIFEST, manifest(r#","annotations":{"a":"1","a":"2"}"#)),
        (MediaType::MANIFEST, manifest(r#","annotations":{"a":"1"},"annotations":{}"#)),
        (MediaType::MANIFEST, manifest(r#","schemaVersion":1"#)),
        (MediaType::MANIFEST, manifest(r#","SchemaVersion":1"#)),
        (MediaType::MANIFEST, manifest(&format!(r#","config":{target}"#))),
        (MediaType::MANIFEST, manifest(&format!(r#","Config":{target}"#))),
        (MediaType::MANIFEST, manifest(&format!(r#","subject":{target},"subject":{target}"#))),
        (MediaType::MANIFEST, manifest("").replace(r#""size":2"#, r#""size":2,"size":3"#)),
        (MediaType::MANIFEST, manifest("").replace(r#""size":2"#, r#""size":2,"Size":3"#)),
        (MediaType::MANIFEST, manifest("").replace(r#""digest""#, r#""Digest":"x","digest""#)),
        (MediaType::MANIFEST, manifest("") + "{}"),
        (MediaType::MANIFEST, format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))),
        (MediaType::MANIFEST, manifest(&format!(r#","x":{}{}"#, "[".repeat(5000), "]".repeat(5000)))),
        (MediaType::INDEX, index(&format!(r#","config":{target}"#))),
        (MediaType::INDEX, index(r#","layers":[]"#)),
        (MediaType::INDEX, index(r#","Layers":[]"#)),
        (MediaType::INDEX, index(r#","manifests":[]"#)),
        (MediaType::INDEX, index(r#","Manifests":[]"#)),
        (MediaType::INDEX, index(r#","manifest\u0073":[]"#)),
    ];
    // A name for itself that is another kind's, and twice.
    for (outside, inside) in
        [(MediaType::MANIFEST, MediaType::INDEX), (MediaType::INDEX, MediaType::MANIFEST)]
    {
        let text = if outside == MediaType::INDEX { index("") } else { manifest("") };
        let with = |more: String| text.replacen('{', &format!("{{{more},"), 1);
        all.push((outside, with(format!(r#""mediaType":"{outside}","mediaType":"{inside}""#))));
        all.push((outside, with(format!(r#""MediaType":"{inside}""#))));
    }
    all
}

#[tokio::test]
async fn tm15_what_can_be_read_in_two_ways_is_refused_everywhere() {
    let repository: Repository = "team/image".parse().unwrap();
    let memory = Memory::new();
    let served = Registry::ours().await;
    let config = memory.write_blob(&repository, "{}".into()).await.unwrap();
    served.client().write_blob(&repository, "{}".into()).await.unwrap();
    let config = Descriptor::new(MediaType::CONFIG, config, 2);
    for (media_type, text) in ambiguous(&config) {
        let document = Document::new(media_type, text.clone());
        let shown: String = text.chars().take(200).collect();
        let kept = memory.write_document(&repository, &document, &[tag()]).await.unwrap_err();
        assert_eq!(kept.kind(), ErrorKind::Invalid, "a store: {shown}: {kept}");
        let pushed = served.client().write_document(&repository, &document, &[tag()]).await.unwrap_err();
        assert_eq!(pushed.kind(), ErrorKind::Invalid, "the server: {shown}: {pushed}");
        let reply = Reply::of(200).with("content-type", media_type).body(text);
        let liar = FaultProxy::start(&served.address, vec![rule(9, |_| true, Fault::Answer(reply))]).await;
        let read = client(&liar).read_document(&repository, &tag().into()).await.unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Invalid, "the client: {shown}: {read}");
    }
}

#[tokio::test]
async fn tm14_what_is_read_into_memory_has_a_limit() {
    let repository: Repository = "team/image".parse().unwrap();
    let large = || vec![b'['; Document::BYTES_LIMIT + 1];
    let reply = Reply::of(200).with("content-type", MediaType::INDEX).body(large());
    let liar = FaultProxy::start("127.0.0.1:1", vec![rule(9, |_| true, Fault::Answer(reply))]).await;
    let client = Client::new(&liar.address, ClientOptions::default()).unwrap();
    let read = client.read_document(&repository, &tag().into()).await.unwrap_err();
    assert_eq!(read.kind(), ErrorKind::TooLarge);
    let digest = Document::new(MediaType::INDEX, large()).digest().clone();
    let blob = client.read_blob(&repository, &digest, None).await.unwrap();
    assert_eq!(blob.collect(&digest, 1 << 20).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let listed = client.referrers(&repository, &digest).await.unwrap_err();
    assert_eq!(listed.kind(), ErrorKind::TooLarge);
}
