//! Who signs what is published, what is said of it, and whether it stands: for `publish`, `build` and `verify`.

mod check;
mod make;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use crate::attest::{Kinds, Released, Signer, Standing, Wanted, standing, wanted};
use crate::diag::{Diagnostic, Result};
use crate::oci::{Descriptor, Digest, Error, Repository};
use crate::publish::{Release, failure};

use super::workshop::Target;
use super::workspace::Workspace;

pub(super) use check::{public_keys, said};
pub(super) use make::{Signing, for_cosign, for_host_tests, key_in, steps};
pub(super) use records::{Options, run, sign, signer_of_job};

/// How large the file of a key may be, in bytes.
const KEY_BYTES_LIMIT: u64 = 64 << 10;

/// Which statements the configuration wants beside signatures.
pub(super) fn kinds(workspace: &Workspace) -> Kinds {
    let settings = &workspace.sign;
    Kinds { bill: settings.sbom.unwrap_or(true), provenance: settings.provenance.unwrap_or(true) }
}

/// Every manifest and index of a release, once.
fn released(release: &Release) -> Vec<Released> {
    let mut seen: BTreeSet<(Repository, Digest)> = BTreeSet::new();
    let mut all = Vec::new();
    // Of a copy nothing is known but what stands where it was made.
    for image in release.images.iter().filter(|image| image.copy_of.is_none()) {
        let manifests = image.platforms.values().map(|platform| (platform.manifest.clone(), true));
        let indexes = std::iter::once(&image.index).chain(&image.partial);
        let indexes = indexes.map(|index| (index.descriptor(), false));
        for (document, is_image) in manifests.chain(indexes) {
            if seen.insert((image.repository.clone(), document.digest.clone())) {
                let document = Descriptor::new(&document.media_type, document.digest, document.size);
                all.push(Released { repository: image.repository.clone(), document, is_image });
            }
        }
    }
    all
}

/// How each statement that is wanted of these documents stands at a target.
async fn standings(
    all: &[Released],
    kinds: Kinds,
    signer: Signer<'_>,
    target: &Target,
) -> Result<BTreeMap<Wanted, Standing>> {
    let found = standing(&*target.store, signer, &wanted(all, kinds)).await;
    Ok(found.map_err(|error| failed("look for", target, &error))?)
}

fn failed(doing: &str, target: &Target, error: &Error) -> Diagnostic {
    failure(format!("{doing} signatures at {}", target.name), &target.name, error)
}

pub(super) fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| {
        Diagnostic::request(format!("read the key in {}", path.display()))
            .caused_by(&error)
            .hint(format!("see what is there: ls -lL {}", path.display()))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(KEY_BYTES_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
