//! Signatures without a key: `cosign` makes them where it is installed, with the identity that a CI service gives.
//!
//! The certificate authority and the transparency log that this needs are cosign's to talk to. It reads what it signs
//! from the registry, by digest; so that must be there already.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::diag::Diagnostic;
use crate::engine::process::Output;
use crate::engine::{Program, find_all};

use super::attachment::Wanted;
use super::bundle::BYTES_LIMIT;
use super::statement::Kind;

/// How long one call may take.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// How much of its answer is kept, in bytes.
const ANSWER_BYTES: usize = 64 << 10;
/// The first whose bundles are read here without being asked for.
const NEW_ENOUGH: &str = "see whether cosign is new enough, 3 or newer: cosign version";
const INSTALL: &str = "install cosign, 3 or newer: https://github.com/sigstore/cosign/releases";
/// Variables by which a CI service says that it gives tokens of an identity.
const TOKENS: [&str; 2] = ["SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"];

/// An installed cosign, and an identity.
pub(crate) struct Cosign {
    path: PathBuf,
    environment: BTreeMap<OsString, OsString>,
}

impl Cosign {
    /// Finds both. `environment` is all that cosign is given, and that an identity is looked for in.
    ///
    /// # Errors
    /// Where one of them is not there.
    pub(crate) fn find(
        search_path: &OsStr,
        environment: BTreeMap<OsString, OsString>,
    ) -> Result<Self, Diagnostic> {
        let has = |name: &str| environment.get(OsStr::new(name)).is_some_and(|value| !value.is_empty());
        if !TOKENS.iter().any(|name| has(name)) {
            let problem = "sign without a key: the surroundings give no token of an identity";
            return Err(Diagnostic::surroundings(problem)
                .because(format!("neither {} nor {} is set", TOKENS[0], TOKENS[1]))
                .hint("on GitHub, let the job have it: permissions: { id-token: write }")
                .hint("elsewhere sign with a key: polyarch publish --sign-key sign.key"));
        }
        let path = find_all("cosign", search_path).into_iter().next().ok_or_else(|| {
            Diagnostic::surroundings("sign without a key: there is no `cosign` on the search path")
                .hint(INSTALL)
                .hint("or sign with a key: polyarch publish --sign-key sign.key")
        })?;
        Ok(Self { path, environment })
    }

    /// Has a statement made and attached. `registry` is `host[:port]`, and `plain` says that it is spoken to
    /// without TLS; `predicate` is what is said, as JSON, of any kind but a signature.
    ///
    /// # Errors
    /// Where cosign fails.
    pub(crate) async fn say(
        &self,
        registry: &str,
        plain: bool,
        wanted: &Wanted,
        predicate: &str,
    ) -> Result<(), Diagnostic> {
        let reference = format!("{registry}/{}@{}", wanted.repository, wanted.subject);
        let doing = || format!("have cosign make the {} of {reference}", wanted.kind.name());
        let mut program = self.program();
        let failed = |error: std::io::Error| Diagnostic::surroundings(doing()).caused_by(&error);
        let mut file = NamedTempFile::new().map_err(failed)?;
        program = match wanted.kind {
            // A record is signed as a file: `attest_blob`.
            Kind::Signature | Kind::Record => program.arguments(["sign", "--yes"]),
            Kind::Bill | Kind::Provenance => {
                file.write_all(predicate.as_bytes()).map_err(failed)?;
                let kind = if wanted.kind == Kind::Bill { "spdxjson" } else { "slsaprovenance1" };
                program.arguments(["attest", "--yes", "--type", kind, "--predicate"]).argument(file.path())
            }
        };
        if plain {
            program = program.argument("--allow-http-registry");
        }
        let output = program.argument(&reference).capture(ANSWER_BYTES).await?;
        if output.ended.success() {
            return Ok(());
        }
        Err(complained(Diagnostic::surroundings(doing()), &output))
    }
}

/// One who signs without a key, exactly as the certificate says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Such as the address of a workflow at a ref.
    pub(crate) identity: String,
    /// Who vouches for it.
    pub(crate) issuer: String,
}

/// A file for cosign to read.
fn holding(bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(bytes)?;
    Ok(file)
}

impl Cosign {
    /// Finds cosign for proving what others signed: no identity is needed.
    ///
    /// # Errors
    /// Where it is not there.
    pub(crate) fn for_proofs(
        search_path: &OsStr,
        environment: BTreeMap<OsString, OsString>,
    ) -> Result<Self, Diagnostic> {
        let path = find_all("cosign", search_path).into_iter().next().ok_or_else(|| {
            Diagnostic::surroundings("prove identities: there is no `cosign` on the search path")
                .hint(INSTALL)
                .hint("or trust a key: --trust-key sign.pub")
        })?;
        Ok(Self { path, environment })
    }

    /// Has a statement about a text made; the bundle.
    ///
    /// # Errors
    /// Where cosign fails.
    pub(super) async fn say_of_text(
        &self,
        text: &str,
        kind: &str,
        predicate: &str,
    ) -> Result<Vec<u8>, Diagnostic> {
        let doing = "have cosign sign a record";
        let failed = |error: std::io::Error| Diagnostic::surroundings(doing).caused_by(&error);
        let make = || Ok((holding(text.as_bytes())?, holding(predicate.as_bytes())?, NamedTempFile::new()?));
        let (record, said, bundle) = make().map_err(failed)?;
        let program = self.program().arguments(["attest-blob", "--yes", "--type", kind, "--predicate"]);
        let program = program.argument(said.path()).argument("--bundle").argument(bundle.path());
        let output = program.argument(record.path()).capture(ANSWER_BYTES).await?;
        if !output.ended.success() {
            return Err(complained(Diagnostic::surroundings(doing), &output));
        }
        let mut bytes = Vec::new();
        bundle.reopen().and_then(|file| file.take(BYTES_LIMIT).read_to_end(&mut bytes)).map_err(failed)?;
        Ok(bytes)
    }

    /// Whether a bundle holds a statement about a text by an identity. What cosign does not prove is not proved.
    ///
    /// # Errors
    /// Where cosign cannot be run.
    pub(super) async fn proves(
        &self,
        bundle: &[u8],
        text: &str,
        kind: &str,
        by: &Identity,
    ) -> Result<bool, Diagnostic> {
        let failed = |error: std::io::Error| {
            Diagnostic::surroundings("have cosign prove an identity").caused_by(&error)
        };
        let make = || Ok((holding(text.as_bytes())?, holding(bundle)?));
        let (record, bundle) = make().map_err(failed)?;
        let program = self.program().arguments(["verify-blob-attestation", "--type", kind]);
        let program = program.arguments(["--certificate-identity", &by.identity]);
        let program = program.arguments(["--certificate-oidc-issuer", &by.issuer, "--bundle"]);
        let program = program.argument(bundle.path()).argument(record.path());
        Ok(program.capture(ANSWER_BYTES).await?.ended.success())
    }

    fn program(&self) -> Program {
        let program = Program::new(&self.path, TIME_LIMIT);
        self.environment.iter().fold(program, |program, (name, value)| program.variable(name, value))
    }
}

/// A failure with how cosign ended and the last that it said.
fn complained(problem: Diagnostic, output: &Output) -> Diagnostic {
    let problem = problem.because(output.ended);
    let complaint = output.complaint();
    let last = complaint.lines().last().unwrap_or_default().to_owned();
    problem.because(last).hint(NEW_ENOUGH)
}

/// What to say where a statement that cosign made is not one that is read here.
pub(super) fn unreadable(why: &'static str) -> Diagnostic {
    Diagnostic::surroundings("read what cosign signed").because(why).hint(NEW_ENOUGH)
}

#[cfg(test)]
pub(super) mod tests;
