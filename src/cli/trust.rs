//! Whose word counts, as the command line and the environment say it: never the files that are built (law 11).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::attest::{Cosign, Identity, Trusted, TrustedKey, Witnessed};
use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind, Result};

use super::{Context, commit, recorder, sign};

/// The variable that holds trusted keys as PEM text.
const KEYS: &str = "POLYARCH_TRUST_KEYS";

/// Whose word counts for records.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Trust {
    /// Only records count that are signed by a key of this file, which is no file of the family; may be given several
    /// times. POLYARCH_TRUST_KEYS may hold such keys too
    #[arg(long, value_name = "FILE")]
    trust_key: Vec<PathBuf>,
    /// Only records count that are signed by this identity, exactly as its certificate says it; may be given several
    /// times
    #[arg(long, value_name = "IDENTITY", requires = "trust_issuer")]
    trust_identity: Vec<String>,
    /// Who vouches for those identities
    #[arg(long, value_name = "URL", requires = "trust_identity")]
    trust_issuer: Option<String>,
}

impl Trust {
    /// Who judges the records of a family in a folder; none where nobody was named, and every record counts.
    ///
    /// # Errors
    /// Where a key cannot be read or is of the tree that is built, or cosign is wanted and not there.
    pub(super) fn witness(&self, context: &Context, root: &Path) -> Result<Option<Arc<Witnessed>>> {
        let mut keys = Vec::new();
        for file in &self.trust_key {
            outside(file, root)?;
            keys.extend(TrustedKey::parse_all(&sign::bytes_of(file)?, &file.display().to_string())?);
        }
        if let Some(text) = context.environment.value(KEYS) {
            keys.extend(TrustedKey::parse_all(text.as_encoded_bytes(), &format!("the variable {KEYS}"))?);
        }
        let identities = match &self.trust_issuer {
            None => None,
            Some(issuer) => {
                let all = self
                    .trust_identity
                    .iter()
                    .map(|identity| Identity { identity: identity.clone(), issuer: issuer.clone() });
                let path = context.environment.search_path();
                Some((all.collect(), Cosign::for_proofs(&path, sign::for_cosign(context))?))
            }
        };
        let trusted = Trusted { keys, identities };
        let now_seconds = recorder::now() / 1_000;
        Ok((!trusted.is_nobody()).then(|| Arc::new(Witnessed::new(trusted, now_seconds))))
    }
}

/// F-U1: a key that stands in the tree would let whoever changes the tree say whose word counts.
fn outside(file: &Path, root: &Path) -> Result<()> {
    let tree = commit::work_tree(root).unwrap_or_else(|| root.to_owned());
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    if !real.starts_with(&tree) || !stands(Defence::KeysFromOutside) {
        return Ok(());
    }
    let problem = format!("trust the key in {}: it is a file of the tree that is built", file.display());
    Err(Diagnostic::new(Kind::Policy, problem)
        .because("whoever may change the tree could say by it whose word counts")
        .hint(format!("keep it in a variable of the CI service instead: {KEYS}"))
        .hint("or in a file elsewhere: --trust-key ../sign.pub")
        .into())
}
