//! What is signed, checked by the keys of those who are trusted.

use std::path::Path;

use crate::attest::{Kinds, PublicKey, Signer, Standing, Wanted};
use crate::cli::Context;
use crate::cli::workshop::Target;
use crate::cli::workspace::Workspace;
use crate::diag::Result;
use crate::publish::{Release, Row, Verdict};

use super::{bytes_of, released, standings};

/// The keys that signatures are checked by, where a file of them is named; where what is published should be signed and none is,
/// a person is told.
///
/// # Errors
/// Where it cannot be read.
pub(in crate::cli) fn public_keys(
    context: &Context,
    workspace: &Workspace,
    file: Option<&Path>,
) -> Result<Option<Vec<PublicKey>>> {
    let settings = &workspace.sign;
    let configured = settings.public_key.as_ref().map(|file| workspace.root.join(file.value.path()));
    match file.map(Path::to_owned).or(configured) {
        Some(file) => Ok(Some(PublicKey::parse_all(&bytes_of(&file)?)?)),
        None => {
            if settings.key.is_some() || settings.keyless == Some(true) {
                context
                    .ui
                    .note("signatures are not checked; to check them: polyarch verify --verify-key sign.pub");
            }
            Ok(None)
        }
    }
}

/// Signatures and what else should be said of a release at a target, and whether one of these keys says it.
///
/// # Errors
/// Where the target fails.
pub(in crate::cli) async fn said(
    keys: &[PublicKey],
    kinds: Kinds,
    release: &Release,
    target: &Target,
) -> Result<Vec<Row>> {
    let found = standings(&released(release), kinds, Signer::Keys(keys), target).await?;
    let row = |(one, standing): (Wanted, Standing)| {
        let (found, verdict) = match standing {
            Standing::Stands => ("signed".to_owned(), Verdict::Equal),
            Standing::Missing => ("nothing".to_owned(), Verdict::Missing),
            Standing::Refused(why) => (why.into_iter().collect::<Vec<_>>().join(", "), Verdict::Untrusted),
        };
        let image = format!("{}/{}", target.name, one.repository);
        Row { image, what: one.subject.to_string(), expected: one.kind.name().to_owned(), found, verdict }
    };
    Ok(found.into_iter().map(row).collect())
}
