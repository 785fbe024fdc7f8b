//! Who signs what is published, what is said of it, and whether it stands: for `publish`, `build` and `verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;

use serde_json::json;

use crate::attest::{
    Attachment, Cache, Cosign, Kind, Kinds, PrivateKey, PublicKey, Released, Signer, Standing, Wanted,
    attach, provenance, standing, wanted,
};
use crate::config::SecretSetting;
use crate::diag::{Diagnostic, Result, count};
use crate::family::JobId;
use crate::oci::{Descriptor, Digest, Error, Repository};
use crate::publish::{Difference, DifferenceKind, Release, failure, is_here};
use crate::record::Passed;

use super::plan::Planning;
use super::workshop::Target;
use super::workspace::Workspace;
use super::{Context, commit, publish, sbom};

/// How large the file of a key may be, in bytes.
const KEY_BYTES_LIMIT: u64 = 64 << 10;
/// How many documents are said something of before that is sent: bills are large.
const AT_ONCE: usize = 8;
/// What cosign is given of the environment: variables that begin so.
const FOR_COSIGN: [&str; 5] = ["SIGSTORE_", "COSIGN_", "ACTIONS_ID_TOKEN_", "TUF_", "SSL_CERT_"];

/// The images of platforms that passed, by their manifests.
type Images<'a> = BTreeMap<&'a Digest, (&'a JobId, &'a Passed)>;

/// By whom.
enum By {
    Key(Box<PrivateKey>),
    Cosign(Cosign),
}

/// How a publication is signed.
pub(super) struct Signing {
    by: By,
    kinds: Kinds,
}

impl Signing {
    /// How this publication is to be signed: `None` where nobody asked for it.
    ///
    /// # Errors
    /// Where the key, or cosign, cannot be had.
    pub(super) fn wanted(
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
    pub(super) async fn attach(
        &self,
        context: &Context,
        planning: &Planning,
        release: &Release,
        passed: &BTreeMap<JobId, Passed>,
        target: &Target,
    ) -> Result<()> {
        let By::Key(key) = &self.by else { return Ok(()) };
        let images = by_manifest(passed);
        let all = released(release);
        let lacking = self.lacking(&all, Signer::Keys(&[key.public()]), target).await?;
        let commit = commit::whole_commit(&planning.workspace.root);
        let cache = Cache::default();
        for several in all.chunks(AT_ONCE) {
            let mut made = Vec::new();
            for (about, one) in of(several, &lacking) {
                let said = predicate(planning, &cache, one, &images, commit.as_deref()).await?;
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
    pub(super) async fn attach_by_cosign(
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
        let images = by_manifest(passed);
        let lacking = self.lacking(&released(release), Signer::AnyCertificate, target).await?;
        let commit = commit::whole_commit(&planning.workspace.root);
        let cache = Cache::default();
        let plain = is_here(&target.name);
        for one in &lacking {
            let said = predicate(planning, &cache, one, &images, commit.as_deref()).await?;
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
        let found = standing(&*target.store, signer, &wanted(all, self.kinds)).await;
        let found = found.map_err(|error| failed("look for", target, &error))?;
        Ok(found
            .into_iter()
            .filter(|(_, standing)| *standing != Standing::Stands)
            .map(|(one, _)| one)
            .collect())
    }
}

/// What would be said of a release, a line each, for `--dry-run`, which needs no key.
pub(super) fn steps(workspace: &Workspace, wanted_so: &publish::Wanted, release: &Release) -> String {
    let settings = &workspace.sign;
    let signs = wanted_so.sign_key.is_some() || settings.key.is_some() || settings.keyless == Some(true);
    let line =
        |one: Wanted| format!("say       {} of {} in {}\n", one.kind.name(), one.subject, one.repository);
    let all = signs.then(|| wanted(&released(release), kinds(workspace)));
    all.into_iter().flatten().map(line).collect()
}

/// Which statements the configuration wants beside signatures.
pub(super) fn kinds(workspace: &Workspace) -> Kinds {
    let settings = &workspace.sign;
    Kinds { bill: settings.sbom.unwrap_or(true), provenance: settings.provenance.unwrap_or(true) }
}

/// The keys that signatures are checked by, where a file of them is named; where what is published should be signed and none is,
/// a person is told.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn public_keys(
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

/// What is not said of a release at a target, or not by one of these keys.
///
/// # Errors
/// Where the target fails.
pub(super) async fn differences(
    keys: &[PublicKey],
    kinds: Kinds,
    release: &Release,
    target: &Target,
) -> Result<Vec<Difference>> {
    let found = standing(&*target.store, Signer::Keys(keys), &wanted(&released(release), kinds)).await;
    let found = found.map_err(|error| failed("look for", target, &error))?;
    let difference = |(one, standing): (Wanted, Standing)| {
        let why = match standing {
            Standing::Stands => return None,
            Standing::Missing => "is missing".to_owned(),
            Standing::Refused(why) => {
                format!("does not hold: {}", why.into_iter().collect::<Vec<_>>().join(", "))
            }
        };
        let reference = format!("{}/{}@{}", target.name, one.repository, one.subject);
        Some(Difference { reference, kind: DifferenceKind::Unsaid { what: one.kind.name(), why } })
    };
    Ok(found.into_iter().filter_map(difference).collect())
}

/// The whole environment for tests that run on this machine, but for what could sign: TM22.
pub(super) fn without_keys(context: &Context, workspace: &Workspace) -> BTreeMap<OsString, OsString> {
    let mut variables = context.environment.whole();
    if let Some(SecretSetting::Env(name)) = &workspace.sign.key {
        variables.remove(OsStr::new(name));
    }
    variables
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

fn by_manifest(passed: &BTreeMap<JobId, Passed>) -> Images<'_> {
    passed.iter().map(|(job, passed)| (&passed.image.image, (job, passed))).collect()
}

/// What is said.
async fn predicate(
    planning: &Planning,
    cache: &Cache,
    wanted: &Wanted,
    images: &Images<'_>,
    commit: Option<&str>,
) -> Result<serde_json::Value> {
    if wanted.kind == Kind::Signature {
        return Ok(json!({}));
    }
    let (job, passed) = images.get(&wanted.subject).ok_or_else(|| {
        Diagnostic::surroundings(format!("no record stands for {}", wanted.subject))
            .hint("build it again: polyarch build")
    })?;
    if wanted.kind == Kind::Provenance {
        return Ok(provenance(&passed.image, commit));
    }
    let bill = sbom::of_image(&*planning.shelf.store, cache, job, &passed.image).await?;
    let read = serde_json::from_str(&bill);
    Ok(read.map_err(|error| {
        Diagnostic::new(crate::diag::Kind::Bug, "read a bill of materials of our own").caused_by(&error)
    })?)
}

fn tell(context: &Context, made: usize) {
    match made {
        0 => context.ui.note("signed already"),
        _ => context.ui.note(&format!("signed: {}", count(made, "statement"))),
    }
}

fn failed(doing: &str, target: &Target, error: &Error) -> Diagnostic {
    failure(format!("{doing} signatures at {}", target.name), &target.name, error)
}

fn key_in(file: &Path) -> Result<PrivateKey> {
    Ok(PrivateKey::parse(&bytes_of(file)?, &file.display().to_string())?)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
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

/// What cosign is given: where it finds credentials, identities and certificates, and the way out.
fn for_cosign(context: &Context) -> BTreeMap<OsString, OsString> {
    let environment = &context.environment;
    let mut given = environment.passed_on();
    given.extend(environment.whole().into_iter().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name == "PATH" || name == "DOCKER_CONFIG" || FOR_COSIGN.iter().any(|start| name.starts_with(start))
    }));
    given
}
