//! The two registries that faults are tried on, ours and Debian's docker-registry, and an image to push and pull.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polyarch::oci::server::{Access, router, serve};
use polyarch::oci::{
    Client, ClientOptions, Descriptor, Document, Error, Manifest, MediaType, Memory, Origin, Pauses, Pointer,
    Repository, Store, Tag, copy_document,
};
use tokio::net::TcpListener;

use super::fault_proxy::{FaultProxy, Rule};
use crate::program::{free_port, program, skip};

/// A registry that runs as long as this lives.
pub(crate) struct Registry {
    pub(crate) address: String,
    pub(crate) is_ours: bool,
    process: Option<Child>,
    _folder: Option<tempfile::TempDir>,
}

impl Registry {
    /// Ours, over a store in memory.
    pub(crate) async fn ours() -> Self {
        Self::ours_with(Access::open()).await
    }

    /// Ours, where not everybody may do everything.
    pub(crate) async fn ours_with(access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = router(Arc::new(Memory::new()), access);
        tokio::spawn(async move { serve(listener, router, std::future::pending()).await });
        Self { address, is_ours: true, process: None, _folder: None }
    }

    /// Debian's, where it is installed.
    pub(crate) async fn debian(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (process, address) = start_debian(test, folder.path())?;
        let registry = Self { address, is_ours: false, process: Some(process), _folder: Some(folder) };
        for _ in 0..12_000 {
            if tokio::net::TcpStream::connect(&registry.address).await.is_ok() {
                return Some(registry);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("docker-registry does not answer");
    }

    /// Both.
    pub(crate) async fn both(test: &str) -> Vec<Self> {
        [Some(Self::ours().await), Self::debian(test).await].into_iter().flatten().collect()
    }

    /// A client that goes straight to it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address, ClientOptions::default()).unwrap()
    }
}

/// Starts Debian's, where it is installed, which keeps all in a folder; and says where it will answer.
pub(crate) fn start_debian(test: &str, folder: &Path) -> Option<(Child, String)> {
    let address = format!("127.0.0.1:{}", free_port());
    let (file, storage) = (folder.join("registry.yml"), folder.join("storage"));
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"{address}\"}}\n",
        storage.display()
    );
    std::fs::write(&file, config).unwrap();
    let mut command = program("docker-registry");
    command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(process) => Some((process, address)),
        Err(error) => {
            skip(test, &format!("no docker-registry: {error}"));
            None
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A client in haste: pauses of some milliseconds, and patience enough.
pub(super) fn client(proxy: &FaultProxy) -> Client {
    client_with(proxy, |_| {})
}

/// The same with other options.
pub(super) fn client_with(proxy: &FaultProxy, change: impl Fn(&mut ClientOptions)) -> Client {
    let mut options = ClientOptions {
        pauses: Pauses { base: Duration::from_millis(2), cap: Duration::from_millis(20) },
        patience: Duration::from_secs(60),
        idle: Duration::from_secs(60),
        ..ClientOptions::default()
    };
    change(&mut options);
    Client::new(&proxy.address, options).unwrap()
}

/// An image in memory: one configuration, a layer of 6 MiB and one of 2 KB.
pub(super) struct Image {
    pub(super) store: Memory,
    pub(super) repository: Repository,
    pub(super) document: Document,
    pub(super) layer: Descriptor,
}

impl Image {
    pub(super) async fn new() -> Self {
        let repository: Repository = "team/image".parse().unwrap();
        // Each KiB is another, so that bytes in a wrong place are noticed.
        let kib = |number: u16| [number.to_le_bytes(); 512].concat();
        let large: Vec<u8> = (0..6 << 10).map(kib).collect::<Vec<_>>().concat();
        let (large, small) = (Bytes::from(large), Bytes::from(vec![7; 2000]));
        let config = Bytes::from_static(b"{\"architecture\":\"amd64\",\"os\":\"linux\"}");
        let store = Memory::new();
        for bytes in [&large, &small, &config] {
            store.write_blob(&repository, bytes.clone()).await.unwrap();
        }
        let layer = Descriptor::of(MediaType::LAYER_GZIP, &large);
        let document = Document::of_manifest(&Manifest::new(
            Descriptor::of(MediaType::CONFIG, &config),
            vec![layer.clone(), Descriptor::of(MediaType::LAYER_GZIP, &small)],
        ));
        store.write_document(&repository, &document, &[]).await.unwrap();
        Self { store, repository, document, layer }
    }

    /// Push it by a client, under a tag.
    pub(super) async fn push(&self, client: &Client) -> Result<(), Error> {
        let origin = Origin { store: &self.store, repository: &self.repository };
        copy_document(&origin, &self.document, client, &self.repository, None).await?;
        client.write_document(&self.repository, &self.document, &[tag()]).await
    }

    /// Pull it by a client and a tag, into a store in memory.
    pub(super) async fn pull(&self, client: &Client) -> Result<Memory, Error> {
        let store = Memory::new();
        let document = client.read_document(&self.repository, &Pointer::Tag(tag())).await?;
        let origin = Origin { store: client, repository: &self.repository };
        copy_document(&origin, &document, &store, &self.repository, None).await?;
        Ok(store)
    }

    /// It is in a store, byte for byte; by its digest, and by its tag where the store has tags.
    pub(super) async fn check(&self, store: &dyn Store, pointer: &Pointer) {
        let found = store.read_document(&self.repository, pointer).await.unwrap();
        assert_eq!(found.bytes(), self.document.bytes());
        let manifest = self.document.manifest().unwrap();
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            let reader = store.read_blob(&self.repository, &blob.digest, None).await.unwrap();
            assert_eq!(reader.collect(&blob.digest, blob.size).await.unwrap().len() as u64, blob.size);
        }
    }
}

pub(super) fn tag() -> Tag {
    "latest".parse().unwrap()
}

/// Push through a proxy with these rules, to both registries; what is there must be whole. The faults that were met.
pub(super) async fn survives_push(test: &str, rules: impl Fn(&Registry) -> Vec<Rule>) {
    let image = Image::new().await;
    for registry in Registry::both(test).await {
        let proxy = FaultProxy::start(&registry.address, rules(&registry)).await;
        let pushed = image.push(&client(&proxy)).await;
        let whose = if registry.is_ours { "ours" } else { "docker-registry" };
        assert!(pushed.is_ok(), "{whose}: {pushed:?}\n{:#?}", proxy.requests());
        assert!(proxy.faults() > 0, "{whose}: no fault was met");
        image.check(&registry.client(), &Pointer::Tag(tag())).await;
    }
}

/// Pull through a proxy with these rules, from both registries; what came must be whole.
pub(super) async fn survives_pull(test: &str, rules: impl Fn() -> Vec<Rule>) {
    let image = Image::new().await;
    for registry in Registry::both(test).await {
        image.push(&registry.client()).await.unwrap();
        let proxy = FaultProxy::start(&registry.address, rules()).await;
        let store = image.pull(&client(&proxy)).await.unwrap();
        assert!(proxy.faults() > 0, "no fault was met");
        image.check(&store, &Pointer::Digest(image.document.digest().clone())).await;
    }
}
