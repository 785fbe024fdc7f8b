//! Signed records: what a job left in a scope, by whom it is stood for.
//!
//! An in-toto statement whose subject is the record's exact JSON, in the same bundle as any other statement. It stands in
//! the document of the record, so that whoever reads a record has read what was signed of it. What is said beside that is
//! when, and of which tree of files the signer recomputed the keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diag::Diagnostic;
use crate::oci::{Digest, Error, ErrorKind};
use crate::record::{Kept, Witness};
use crate::trust::{Doubt, Signature, Term, judge};

use super::bundle;
use super::key::{PrivateKey, PublicKey};
use super::keyless::{Cosign, Identity, unreadable};
use super::statement::{Kind, Statement};
use super::time;
use super::trusted::TrustedKey;

/// What is said of a record beside that it is stood for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    /// When, as RFC 3339 has it.
    signed_at: String,
    /// The digest of the tree whose keys were recomputed.
    tree: String,
}

/// Who signs.
pub(crate) enum RecordSigner {
    /// The holder of a key.
    Key(Box<PrivateKey>),
    /// The identity that the surroundings give.
    Identity(Cosign),
}

impl RecordSigner {
    /// A signed statement on a record: a Sigstore bundle.
    ///
    /// # Errors
    /// Where there are no random bytes, or cosign fails or writes what is not read here.
    pub(crate) async fn sign(
        &self,
        record: &Kept,
        tree: &Digest,
        now_seconds: u64,
    ) -> Result<String, Diagnostic> {
        let said = Said { signed_at: time::written(now_seconds), tree: tree.to_string() };
        let said = serde_json::to_value(&said).unwrap_or(Value::Null);
        let bundle = match self {
            Self::Key(key) => bundle::sign(key, &Statement::new(Kind::Record, &record.digest(), said))?,
            Self::Identity(cosign) => {
                let kind = Kind::Record.predicate_type();
                let bundle = cosign.say_of_text(&record.text, kind, &said.to_string()).await?;
                // An older one writes another form: what no promotion could read is not kept as a signature.
                bundle::claimed(&bundle, Kind::Record, &record.digest()).map_err(unreadable)?;
                bundle
            }
        };
        String::from_utf8(bundle)
            .map_err(|error| Diagnostic::surroundings("sign a record: no text came of it").caused_by(&error))
    }

    /// Its own key, by which it sees what it has signed already; none where cosign signs.
    pub(crate) fn own(&self) -> Trusted {
        let keys = match self {
            Self::Key(key) => vec![TrustedKey { key: key.public(), term: Term::default() }],
            Self::Identity(_) => Vec::new(),
        };
        Trusted { keys, identities: None }
    }
}

/// Those whose word counts.
#[derive(Default)]
pub(crate) struct Trusted {
    /// By their keys.
    pub(crate) keys: Vec<TrustedKey>,
    /// By their identities, and who proves them.
    pub(crate) identities: Option<(Vec<Identity>, Cosign)>,
}

impl Trusted {
    /// Whether nobody was named.
    pub(crate) fn is_nobody(&self) -> bool {
        self.keys.is_empty() && self.identities.is_none()
    }

    /// The signatures on a record.
    ///
    /// # Errors
    /// Where cosign cannot be run.
    pub(crate) async fn signatures(&self, record: &Kept) -> Result<Vec<Signature>, Error> {
        let mut found = Vec::new();
        for bundle in &record.signatures {
            found.extend(self.read(bundle.as_bytes(), record).await?);
        }
        Ok(found)
    }

    /// The signatures of one bundle.
    async fn read(&self, bundle: &[u8], record: &Kept) -> Result<Vec<Signature>, Error> {
        let subject = record.digest();
        let keys: Vec<&PublicKey> = self.keys.iter().map(|trusted| &trusted.key).collect();
        let refused = match bundle::open(bundle, &keys, Kind::Record, &subject) {
            Ok((by, said)) => {
                let terms = by.into_iter().map(|place| self.keys[place].term.clone());
                return Ok(terms.map(|term| known(term, &said)).collect());
            }
            Err(why) => why,
        };
        let Some((identities, cosign)) = &self.identities else {
            return Ok(vec![Signature::Refused(refused)]);
        };
        for identity in identities {
            let proved = cosign.proves(bundle, &record.text, Kind::Record.predicate_type(), identity).await;
            if proved.map_err(|problem| Error::new(ErrorKind::Failed, problem.to_string()))? {
                let said = bundle::claimed(bundle, Kind::Record, &subject);
                return Ok(vec![said.map_or_else(Signature::Refused, |said| known(Term::default(), &said))]);
            }
        }
        Ok(vec![Signature::Refused("it is not signed by an identity that is trusted")])
    }
}

/// A signature that holds; one that does not say when it was made is none.
fn known(term: Term, said: &Value) -> Signature {
    let said: Option<Said> = serde_json::from_value(said.clone()).ok();
    match said.and_then(|said| time::read(&said.signed_at)) {
        Some(at_seconds) => Signature::Known { term, at_seconds },
        None => Signature::Refused("it does not say when it was signed"),
    }
}

/// Those whose word counts, at a moment: what [`Records`](crate::record::Records) asks.
pub(crate) struct Witnessed {
    /// Whose word counts.
    pub(crate) trusted: Trusted,
    /// Now, in seconds since 1970-01-01 UTC.
    pub(crate) now_seconds: u64,
    /// What was said of a document, which is asked once: by its digest.
    said: Mutex<BTreeMap<Digest, Verdict>>,
}

/// Whether a record counts, or why not.
type Verdict = Result<(), Doubt>;

impl Witnessed {
    /// By these, at this moment.
    pub(crate) fn new(trusted: Trusted, now_seconds: u64) -> Self {
        Self { trusted, now_seconds, said: Mutex::default() }
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<Digest, Verdict>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Witness for Witnessed {
    async fn judge(&self, record: &Kept) -> Result<Verdict, Error> {
        if let Some(said) = self.said().get(record.document.digest()) {
            return Ok(said.clone());
        }
        let verdict = judge(&self.trusted.signatures(record).await?, self.now_seconds);
        self.said().insert(record.document.digest().clone(), verdict.clone());
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::attest::key::tests::{private, stranger};
    use crate::attest::keyless::tests::answering;
    use crate::family::JobId;
    use crate::oci::watched::Watched;
    use crate::oci::{Document, ImageIndex, Manifest, MediaType, Memory, Repository, Store, fixture};
    use crate::record::{CheckRecord, ImageRecord, Passed, RECORD_VERSION, Records, ScopeName};

    const NOW: u64 = 1_790_000_000;

    /// A document of a scope that holds this as a record, with what was signed of it.
    fn kept(text: &str, signatures: &[String]) -> Kept {
        let list = serde_json::to_string(signatures).expect("JSON");
        let annotations = [("dev.polyarch.record", text.to_owned()), ("dev.polyarch.signatures", list)];
        let index = ImageIndex {
            annotations: annotations.map(|(name, value)| (name.to_owned(), value)).into(),
            ..ImageIndex::new(Vec::new())
        };
        Kept::of(&"scopes/pr-1".parse().expect("a scope"), Document::of_index(&index))
    }

    async fn judged(record: &Kept, key: &PrivateKey) -> Verdict {
        let trusted = RecordSigner::Key(Box::new(key.clone())).own();
        Witnessed::new(trusted, NOW).judge(record).await.expect("looked")
    }

    async fn signed(text: &str, key: &PrivateKey) -> String {
        let signer = RecordSigner::Key(Box::new(key.clone()));
        signer.sign(&kept(text, &[]), &Digest::of(b"tree"), NOW - 9).await.expect("signed")
    }

    #[tokio::test]
    async fn i_t2_a_record_counts_by_the_signature_on_its_own_bytes() {
        let (one, two, key) = (r#"{"image":"one"}"#, r#"{"image":"two"}"#, private());
        assert_eq!(judged(&kept(one, &[]), &key).await, Err(Doubt::Unsigned));
        let (by_stranger, good) = (signed(one, &stranger()).await, signed(one, &key).await);
        let foreign = judged(&kept(one, std::slice::from_ref(&by_stranger)), &key).await;
        assert!(matches!(foreign, Err(Doubt::Foreign(_))));
        assert_eq!(judged(&kept(one, &[by_stranger, good.clone()]), &key).await, Ok(()), "by the one");
        // The right signature, put to another record.
        let moved = judged(&kept(two, &[good]), &key).await;
        assert!(matches!(moved, Err(Doubt::Foreign("it is about something else"))));
        let nothing = judged(&kept(one, &["no bundle".to_owned()]), &key).await;
        assert_eq!(nothing, Err(Doubt::Foreign("it is no Sigstore bundle")));
    }

    /// What was said of one document says nothing of another that differs from it in the signature alone.
    #[tokio::test]
    async fn i_t2_what_was_said_of_a_document_is_said_of_no_other() {
        let key = private();
        let good = signed("{}", &key).await;
        let witnessed = Witnessed::new(RecordSigner::Key(Box::new(key)).own(), NOW);
        for _ in 0..2 {
            let verdict = witnessed.judge(&kept("{}", std::slice::from_ref(&good))).await;
            assert_eq!(verdict.expect("looked"), Ok(()));
            assert_eq!(witnessed.judge(&kept("{}", &[])).await.expect("looked"), Err(Doubt::Unsigned));
        }
    }

    /// A signature on an image, or any other statement, is none on a record: they are of different kinds.
    #[tokio::test]
    async fn tm29_another_statement_of_the_same_key_does_not_stand_for_a_record() {
        let key = private();
        let of = |kind| {
            let statement = Statement::new(kind, &kept("{}", &[]).digest(), serde_json::json!({}));
            String::from_utf8(bundle::sign(&key, &statement).expect("signed")).expect("text")
        };
        let record = kept("{}", &[Kind::Signature, Kind::Provenance].map(of));
        let doubt = Doubt::Foreign("it says something of another kind");
        assert_eq!(judged(&record, &key).await, Err(doubt));
    }

    /// Who signed is for cosign to prove; of what, of which kind and when is read here.
    #[tokio::test]
    async fn tm29_what_cosign_proves_counts_for_these_bytes_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let judged = async |record: &Kept, proved: bool, now_seconds| {
            let identity = Identity { identity: "me".to_owned(), issuer: "them".to_owned() };
            let cosign = answering(folder.path(), proved);
            let trusted = Trusted { keys: Vec::new(), identities: Some((vec![identity], cosign)) };
            Witnessed::new(trusted, now_seconds).judge(record).await.expect("looked")
        };
        let good = signed("{}", &stranger()).await;
        let record = kept("{}", std::slice::from_ref(&good));
        assert_eq!(judged(&record, true, NOW).await, Ok(()));
        let nobody = Doubt::Foreign("it is not signed by an identity that is trusted");
        assert_eq!(judged(&record, false, NOW).await, Err(nobody));
        assert_eq!(judged(&record, true, NOW - 900).await, Err(Doubt::Early), "signed in the future");
        let other = judged(&kept(r#"{"image":"other"}"#, &[good]), true, NOW).await;
        assert_eq!(other, Err(Doubt::Foreign("it is about something else")));
    }

    /// A cosign before 3 ends well and writes what nobody reads here.
    #[tokio::test]
    async fn s_4_20_what_cosign_made_is_read_before_it_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let signer = RecordSigner::Identity(answering(folder.path(), true));
        let refused = signer.sign(&kept("{}", &[]), &Digest::of(b"tree"), NOW).await.expect_err("no bundle");
        assert!(refused.to_string().contains("it is no Sigstore bundle"), "{refused}");
        assert!(refused.hints.iter().any(|hint| hint.contains("3 or newer")), "{:?}", refused.hints);
    }

    /// What a job left in the scope of a pull request at a registry.
    async fn passed(records: &Records) -> Passed {
        let (store, scope) = (&*records.store, &records.scope);
        let config = fixture::blob(store, scope, MediaType::CONFIG, "{}").await;
        let image = Document::of_manifest(&Manifest::new(config.clone(), Vec::new()));
        let image = fixture::keep(store, scope, image, &[]).await;
        let built = ImageRecord {
            version: RECORD_VERSION,
            job: "base@linux/amd64".to_owned(),
            key: Digest::of(b"key"),
            inputs: BTreeMap::new(),
            platform: "linux/amd64".parse().expect("a platform"),
            image: image.digest().clone(),
            size: image.bytes().len() as u64,
            config: config.digest,
            bytes: 0,
            parents: BTreeMap::new(),
            builder: "honest".to_owned(),
            emulated: false,
            cached: false,
            built_at_seconds: 1,
            milliseconds: 2,
        };
        let checks = CheckRecord {
            version: RECORD_VERSION,
            job: built.job.clone(),
            key: Digest::of(b"checks"),
            image: built.image.clone(),
            inputs: BTreeMap::new(),
            tests: Vec::new(),
            tags: Vec::new(),
            descriptions: Vec::new(),
        };
        records.keep_image(&built).await.expect("kept");
        records.keep_checks(&checks, &built).await.expect("kept");
        Passed { image: built, checks }
    }

    /// Whoever may write a scope may write any roll there: each record of it counts by its own signature or not at all.
    #[tokio::test]
    async fn i_t2_a_roll_counts_record_by_record() {
        let (shared, key) = (Memory::new(), private());
        let scope: ScopeName = "pr-1".parse().expect("a scope");
        let prefix: Repository = "cache".parse().expect("a name");
        let at = |store: Arc<dyn Store>, scope: &ScopeName| {
            let folder = Records::of_scope(Arc::new(Memory::new()), scope);
            folder.at_registry(store, &prefix).expect("records")
        };
        let records = at(Arc::new(shared.clone()), &scope);
        let one = passed(&records).await;
        let job: JobId = one.image.job.parse().expect("a job");
        let signer = RecordSigner::Key(Box::new(key.clone()));
        for (kind, key) in one.keys() {
            for kept in records.clone().alone().kept(kind, key).await.expect("read") {
                let signature = signer.sign(&kept, &Digest::of(b"tree"), NOW - 9).await.expect("signed");
                records.keep_signed(kind, key, &kept, signature).await.expect("kept");
            }
        }
        let all = BTreeMap::from([(job.clone(), one.clone())]);
        records.keep_signed_roll(&all).await.expect("kept");
        let keys = BTreeMap::from([(job, one.image.key.clone())]);
        let listed = async |store: Arc<dyn Store>, by: &PrivateKey| {
            let trusted = RecordSigner::Key(Box::new(by.clone())).own();
            let judged = at(store, &ScopeName::trusted()).before(&scope);
            judged.judged_by(Some(Arc::new(Witnessed::new(trusted, NOW)))).roll(&keys).await.expect("read")
        };
        let watched = Arc::new(Watched::new(shared.clone()));
        assert_eq!(listed(watched.clone(), &key).await, BTreeMap::from([(one.image.job.clone(), one)]));
        assert_eq!(watched.calls(), 2, "the roll of either scope, and no record");
        assert_eq!(listed(watched.clone(), &stranger()).await, BTreeMap::new(), "of another's word");

        let there: Repository = "cache/scopes/pr-1".parse().expect("a scope");
        let tags = shared.tags(&there, None, 100).await.expect("tags");
        let tag = tags.into_iter().find(|tag| tag.as_str().starts_with("roll-")).expect("a roll");
        let roll = shared.read_document(&there, &tag.clone().into()).await.expect("a roll");
        for (from, to) in [("honest", "others"), ("\"signatures\"", "\"unsigned\"")] {
            let mut index = roll.index().expect("an index");
            for text in index.annotations.values_mut() {
                assert!(text.contains(from), "{text}");
                *text = text.replace(from, to);
            }
            let tag = std::slice::from_ref(&tag);
            shared.write_document(&there, &Document::of_index(&index), tag).await.expect("forged");
            assert_eq!(listed(watched.clone(), &key).await, BTreeMap::new(), "{to}");
        }
    }
}
