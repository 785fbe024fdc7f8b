//! What is public at a registry, and what its journals say.

use std::collections::BTreeMap;

use polyarch::oci::{
    Client, ClientOptions, Digest, Document, Manifest, MediaType, Pointer, Repository, Store as _, Tag,
};
use serde_json::Value;

/// The tag that journals stand under, and the annotation that says how far one has come.
const RESERVED: &str = "polyarch-publications";
const LISTED: &str = "dev.polyarch.publication";

/// Every tag of the family but the reserved one, as `repository:tag`, and what it points at.
pub(super) type Tags = BTreeMap<String, Digest>;

/// Looks at one registry, past every proxy.
pub(super) struct Eye {
    client: Client,
    repositories: Vec<Repository>,
}

impl Eye {
    /// On some repositories; the first has the journals.
    pub(super) fn new(address: &str, repositories: &[&str]) -> Self {
        let client = Client::new(address, ClientOptions::default()).unwrap();
        Self { client, repositories: repositories.iter().map(|name| name.parse().unwrap()).collect() }
    }

    /// Where the tags point.
    pub(super) async fn tags(&self) -> Tags {
        let mut all = Tags::new();
        for repository in &self.repositories {
            let tags = match self.client.tags(repository, None, 1_000).await {
                Err(error) if error.is_not_found() => continue,
                tags => tags.unwrap(),
            };
            for tag in tags.into_iter().filter(|tag| tag.as_str() != RESERVED) {
                let found = self.client.resolve(repository, &Pointer::Tag(tag.clone())).await.unwrap();
                all.insert(format!("{repository}:{tag}"), found.expect("what a tag points at").digest);
            }
        }
        all
    }

    /// Everything that can be reached from a tag is there.
    pub(super) async fn is_whole(&self, tags: &Tags) {
        let mut seen = std::collections::BTreeSet::new();
        let mut left: Vec<(Repository, Digest)> = { tags.iter() }
            .map(|(name, digest)| (name.split_once(':').unwrap().0.parse().unwrap(), digest.clone()))
            .collect();
        while let Some((repository, digest)) = left.pop() {
            if !seen.insert((repository.clone(), digest.clone())) {
                continue;
            }
            let document = self.client.read_document(&repository, &digest.into()).await.unwrap();
            if document.is_index() {
                let entries = document.index().unwrap().manifests.into_iter();
                left.extend(entries.map(|entry| (repository.clone(), entry.digest)));
                continue;
            }
            let manifest = document.manifest().unwrap();
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let size = self.client.blob_size(&repository, &blob.digest).await.unwrap();
                assert_eq!(size, Some(blob.size), "{repository}@{}", blob.digest);
            }
        }
    }

    /// What is said of each journal, newest first.
    pub(super) async fn journals(&self) -> Vec<Value> {
        let Some((_, manifest)) = self.journal().await else { return Vec::new() };
        let listed = manifest.layers.iter().map(|layer| serde_json::from_str(&layer.annotations[LISTED]));
        listed.collect::<Result<_, _>>().unwrap()
    }

    /// Changes what is said of the newest journal.
    pub(super) async fn change_newest(&self, change: impl Fn(&mut Value)) {
        let (repository, mut manifest) = self.journal().await.expect("journals");
        let text = manifest.layers[0].annotations.get_mut(LISTED).expect("what is said of it");
        let mut listed: Value = serde_json::from_str(text).unwrap();
        change(&mut listed);
        *text = listed.to_string();
        let tag: Tag = RESERVED.parse().unwrap();
        let document = Document::new(MediaType::MANIFEST, serde_json::to_vec(&manifest).unwrap());
        self.client.write_document(&repository, &document, &[tag]).await.unwrap();
    }

    async fn journal(&self) -> Option<(Repository, Manifest)> {
        let repository = self.repositories.first()?;
        let pointer = Pointer::Tag(RESERVED.parse().unwrap());
        match self.client.read_document(repository, &pointer).await {
            Err(error) if error.is_not_found() => None,
            document => Some((repository.clone(), document.unwrap().manifest().unwrap())),
        }
    }
}
