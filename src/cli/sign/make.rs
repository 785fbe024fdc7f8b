//! Statements made and attached, by a key or by cosign.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde_json::json;

use crate::attest::{
    Attachment, Cosign, Kind, Kinds, PrivateKey, Released, Signer, Standing, Wanted, attach, provenance,
    wanted,
};
use crate::cli::plan::Planning;
use crate::cli::workshop::Target;
use crate::cli::workspace::Workspace;
use crate::cli::{Context, commit, publish, sbom};
use crate::config::SecretSetting;
use crate::contents::Cache;
use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Result, count};
use crate::family::JobId;
use crate::oci::Digest;
use crate::publish::{Release, is_here};
use crate::record::Passed;

use super::{bytes_of, failed, kinds, records, released, standings};

/// How many documents are said something of before that is sent: bills are large.
const AT_ONCE: usize = 8;
/// What cosign is given of the environment: variables that begin so.
const FOR_COSIGN: [&str; 5] = ["SIGSTORE_", "COSIGN_", "ACTIONS_ID_TOKEN_", "TUF_", "SSL_CERT_"];

/// By whom.
enum By {
    Key(Box<PrivateKey>),
    Cosign(Cosign),
}

/// How a publication is signed.
pub(in crate::cli) struct Signing {
    by: By,
    kinds: Kinds,
}

impl Signing {
    /// How this publication is to be signed: `None` where nobody asked for it.
    ///
    /// # Errors
    /// Where the key, or cosign, cannot be had.
    pub(in crate::cli) fn wanted(
        context: &Context,
        workspace: &Workspace,
        wanted: &publish::Wanted,
    ) -> Result<Option<Self>> {
        let settings = &workspace.sign;
        let kinds = kinds(workspace);
        let by = match (&wanted.sign_key, &settings.key) {
            (Some(file), _) => By::Key(Box::new(key_in(file)?)),
            (None, Some(SecretSetting::File(file))) => {
                By::Key(Box::new(key_in(&workspace.root.join(file.path()))?))
            }
            (None, Some(SecretSetting::Env(name))) => {
                let value = context.environment.value(name).ok_or_else(|| {
                    Diagnostic::request(format!("sign: the variable {name} is not set"))
                        .hint(format!("set it: export {name}=\"$(cat sign.key)\""))
                        .hint("or name a file: polyarch publish --sign-key sign.key")
                })?;
                By::Key(Box::new(PrivateKey::parse(
                    value.as_encoded_bytes(),
                    &format!("the variable {name}"),
                )?))
            }
            (None, None) if settings.keyless == Some(true) => {
                By::Cosign(Cosign::find(&context.environment.search_path(), for_cosign(context))?)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { by, kinds }))
    }

    /// Says, signs and attaches what does not stand yet; nothing where cosign is to do it.
    ///
    /// # Errors
    /// Where the store or the target fails.
    pub(in crate::cli) async fn attach(
        &self,
        context: &Context,
        planning: &Planning,
        release: &Release,
        passed: &BTreeMap<JobId, Passed>,
        target: &Target,
    ) -> Result<()> {
        let By::Key(key) = &self.by else { return Ok(()) };
        let all = released(release);
        let lacking = self.lacking(&all, Signer::Keys(&[key.public()]), target).await?;
        let known = Known::of(planning, passed);
        for several in all.chunks(AT_ONCE) {
            let mut made = Vec::new();
            for (about, one) in of(several, &lacking) {
                let said = known.predicate(one).await?;
                made.push(Attachment::sign(key, about, one.kind, said)?);
            }
            attach(&*target.store, &made).await.map_err(|error| failed("write", target, &error))?;
        }
        tell(context, lacking.len());
        Ok(())
    }

    /// Has cosign say and attach what does not stand yet, of content that is there; nothing where there is a key.
    ///
    /// # Errors
    /// Where the store, the target or cosign fails.
    pub(in crate::cli) async fn attach_by_cosign(
        &self,
        context: &Context,
        planning: &Planning,
        release: &Release,
        passed: &BTreeMap<JobId, Passed>,
        target: &Target,
    ) -> Result<()> {
        let By::Cosign(cosign) = &self.by else { return Ok(()) };
        if target.own {
            let problem =
                "sign without a key what is published to polyarch's own store: no address leads there";
            let hint = "publish to a registry, or sign with a key: polyarch publish --sign-key sign.key";
            return Err(Diagnostic::request(problem).hint(hint).into());
        }
        let lacking = self.lacking(&released(release), Signer::AnyCertificate, target).await?;
        let known = Known::of(planning, passed);
        let plain = is_here(&target.name);
        for one in &lacking {
            let said = known.predicate(one).await?;
            cosign.say(&target.name, plain, one, &said.to_string()).await?;
        }
        tell(context, lacking.len());
        Ok(())
    }

    /// What does not stand as it should.
    async fn lacking(
        &self,
        all: &[Released],
        signer: Signer<'_>,
        target: &Target,
    ) -> Result<BTreeSet<Wanted>> {
        Ok(standings(all, self.kinds, signer, target)
            .await?
            .into_iter()
            .filter(|(_, standing)| *standing != Standing::Stands)
            .map(|(one, _)| one)
            .collect())
    }
}

/// What would be said of a release, a line each, for `--dry-run`, which needs no key.
pub(in crate::cli) fn steps(workspace: &Workspace, wanted_so: &publish::Wanted, release: &Release) -> String {
    let settings = &workspace.sign;
    let signs = wanted_so.sign_key.is_some() || settings.key.is_some() || settings.keyless == Some(true);
    let line =
        |one: Wanted| format!("say       {} of {} in {}\n", one.kind.name(), one.subject, one.repository);
    let all = signs.then(|| wanted(&released(release), kinds(workspace)));
    all.into_iter().flatten().map(line).collect()
}

/// The environment for tests that run on this machine: all of it but what could sign (TM22), and in an untrusted run
/// nothing that could be a secret (TM2).
pub(in crate::cli) fn for_host_tests(
    context: &Context,
    workspace: &Workspace,
) -> BTreeMap<OsString, OsString> {
    let untrusted = !context.common.scope.is_trusted() && stands(Defence::HostEnvironment);
    let mut variables = match untrusted {
        true => context.environment.harmless(),
        false => context.environment.whole(),
    };
    if stands(Defence::KeyWithheld) {
        variables.remove(OsStr::new(records::KEY));
        if let Some(SecretSetting::Env(name)) = &workspace.sign.key {
            variables.remove(OsStr::new(name));
        }
    }
    variables
}

/// What statements are made of.
struct Known<'a> {
    planning: &'a Planning,
    /// The images of platforms that passed, by their manifests.
    images: BTreeMap<&'a Digest, (&'a JobId, &'a Passed)>,
    commit: Option<String>,
    cache: Cache,
}

impl<'a> Known<'a> {
    fn of(planning: &'a Planning, passed: &'a BTreeMap<JobId, Passed>) -> Self {
        let images = passed.iter().map(|(job, passed)| (&passed.image.image, (job, passed))).collect();
        let commit = commit::whole_commit(&planning.workspace.root);
        Self { planning, images, commit, cache: Cache::default() }
    }

    /// What is said.
    async fn predicate(&self, wanted: &Wanted) -> Result<serde_json::Value> {
        if wanted.kind == Kind::Signature {
            return Ok(json!({}));
        }
        let (job, passed) = self.images.get(&wanted.subject).ok_or_else(|| {
            Diagnostic::surroundings(format!("no record stands for {}", wanted.subject))
                .hint("build it again: polyarch build")
        })?;
        if wanted.kind == Kind::Provenance {
            return Ok(provenance(&passed.image, self.commit.as_deref()));
        }
        let bill = sbom::of_image(&self.planning.shelf, &self.cache, job, &passed.image).await?;
        let read = serde_json::from_str(&bill);
        Ok(read.map_err(|error| {
            Diagnostic::new(crate::diag::Kind::Bug, "read a bill of materials of our own").caused_by(&error)
        })?)
    }
}

/// What is lacking of some documents, each with its document.
fn of<'a>(
    several: &'a [Released],
    lacking: &'a BTreeSet<Wanted>,
) -> impl Iterator<Item = (&'a Released, &'a Wanted)> {
    several.iter().flat_map(move |about| {
        let is_of =
            move |one: &&Wanted| one.repository == about.repository && one.subject == about.document.digest;
        lacking.iter().filter(is_of).map(move |one| (about, one))
    })
}

fn tell(context: &Context, made: usize) {
    match made {
        0 => context.ui.note("signed already"),
        _ => context.ui.note(&format!("signed: {}", count(made, "statement"))),
    }
}

pub(in crate::cli) fn key_in(file: &Path) -> Result<PrivateKey> {
    Ok(PrivateKey::parse(&bytes_of(file)?, &file.display().to_string())?)
}

/// What cosign is given: where it finds credentials, identities and certificates, and the way out.
pub(in crate::cli) fn for_cosign(context: &Context) -> BTreeMap<OsString, OsString> {
    let environment = &context.environment;
    let mut given = environment.passed_on();
    given.extend(environment.whole().into_iter().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name == "PATH" || name == "DOCKER_CONFIG" || FOR_COSIGN.iter().any(|start| name.starts_with(start))
    }));
    given
}
