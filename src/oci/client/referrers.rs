//! What is about a document: the referrers interface, and for registries without it an index under the tag
//! `sha256-<hex>`, as section "Referrers Tag Schema" of the distribution specification has it.

use std::collections::BTreeMap;

use reqwest::Method;
use reqwest::header::ACCEPT;
use serde::Deserialize;

use super::{Client, list};
use crate::oci::document::texts;
use crate::oci::{
    Descriptor, Digest, Document, Error, ErrorKind, ImageIndex, MediaType, Pointer, Repository, Store, Tag,
    Terms,
};

/// How many pages of referrers are read.
const PAGES: usize = 1000;

/// What of a document concerns its subject.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "texts")]
    annotations: BTreeMap<String, String>,
}

impl Client {
    /// Descriptors of what is about a document, in the order of their digests.
    pub(super) async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let doing = format!("list what is about {subject} in {repository}");
        let mut ask = self
            .connection
            .ask(Method::GET, repository, &format!("referrers/{subject}"), "pull", &doing)?
            .header(ACCEPT, MediaType::INDEX);
        let mut found = BTreeMap::new();
        for _ in 0..PAGES {
            let (answer, body) = self.connection.send_whole(&ask, Document::BYTES_LIMIT).await?;
            match answer.status().as_u16() {
                200 => {}
                400..500 if found.is_empty() && matches!(answer.status().as_u16(), 400 | 404 | 405) => {
                    return self.tagged_referrers(repository, subject).await;
                }
                _ => return Err(answer.refusal().await),
            }
            let index: ImageIndex = serde_json::from_slice(&body).map_err(|error| {
                Error::new(ErrorKind::Failed, format!("{doing}: read the list")).because(error)
            })?;
            let before = found.len();
            found.extend(index.manifests.into_iter().map(|manifest| (manifest.digest.clone(), manifest)));
            match list::next_page(&self.connection, &ask, &answer)? {
                Some(next) if found.len() > before => ask.url = next,
                _ => break,
            }
        }
        Ok(found.into_values().collect())
    }

    async fn tagged_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let document = match self.read_document(repository, &Pointer::Tag(schema_tag(subject)?)).await {
            Ok(document) => document,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = document.index()?.manifests;
        found.sort_by(|one, other| one.digest.cmp(&other.digest));
        Ok(found)
    }

    /// Note a document under the tag of its subject, for a registry that does not do so itself.
    pub(super) async fn note_referrer(
        &self,
        repository: &Repository,
        document: &Document,
    ) -> Result<(), Error> {
        let Ok(about) = serde_json::from_slice::<About>(document.bytes()) else { return Ok(()) };
        let Some(subject) = about.subject else { return Ok(()) };
        let mut manifests = self.tagged_referrers(repository, &subject.digest).await?;
        if manifests.iter().any(|manifest| manifest.digest == *document.digest()) {
            return Ok(());
        }
        let config_type = about.config.map(|config| config.media_type);
        manifests.push(Descriptor {
            artifact_type: about.artifact_type.or(config_type),
            annotations: about.annotations,
            ..document.descriptor()
        });
        manifests.sort_by(|one, other| one.digest.cmp(&other.digest));
        let index = Document::of_index(&ImageIndex::new(manifests));
        let tag = Pointer::Tag(schema_tag(&subject.digest)?);
        self.put(repository, &index, &tag, &[], &Terms::default()).await.map(drop)
    }
}

/// The tag under which a registry without the interface keeps what is about a digest.
fn schema_tag(subject: &Digest) -> Result<Tag, Error> {
    let hex: String = subject.hex().chars().take(64).collect();
    format!("{}-{hex}", subject.algorithm().name()).parse()
}
