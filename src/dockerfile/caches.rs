//! The caches that a build mounts: `RUN --mount=type=cache`.

use std::ops::Range;

use super::bases::{Base, ResolvedFrom};
use super::instruction::{Action, Mount, UNSETTLED_MOUNT};
use super::needs::final_chain;
use super::scope::Globals;
use super::stages::StageNames;
use super::{Dockerfile, Request};
use crate::diag::Result;

/// What an engine tells caches of one id apart by, and how it shares them.
const TELLING: [&str; 4] = ["uid", "gid", "mode", "sharing"];
/// What makes another cache of one, of other stages.
const FROM_ELSEWHERE: [&str; 3] = ["from", "source", "src"];

/// A cache that a build mounts, as far as another build can mount the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheMount {
    /// What is written as its id, else as its target.
    pub(crate) written: String,
    /// Where it is mounted, where that is a path as it stands.
    pub(crate) target: Option<String>,
    /// Its other options, as `uid=1000`.
    pub(crate) options: Vec<String>,
    /// The reference that its stage stands on, arguments put in.
    pub(crate) stands_on: String,
    /// Whether the target stands on its stage, or is that.
    pub(crate) in_target: bool,
}

impl Dockerfile {
    /// The caches that a build mounts and another build can mount too, each once. Those of triggers are not among them, nor those
    /// that begin as a copy of something, or of a stage that stands on nothing.
    pub(crate) fn cache_mounts(&self, request: &Request<'_>) -> Result<Vec<CacheMount>> {
        let names = StageNames::new(&self.stages);
        let bases = self.bases(&Globals::new(self, request)?, &names)?;
        let target = self.target(request, &names)?;
        let chain = final_chain(&bases, target);
        let mut found: Vec<CacheMount> = Vec::new();
        for stage in self.reached(target, &bases, &names)? {
            let Some(stands_on) = lowest(&bases, stage) else { continue };
            for mount in self.stages[stage].instructions.iter().flat_map(|one| cache_mounts(&one.action)) {
                let in_target = chain.contains(&stage);
                let known = found.iter().any(|one| Some(&one.written) == name(mount).as_ref());
                found.extend(portable(mount, stands_on, in_target).filter(|_| !known));
            }
        }
        Ok(found)
    }

    /// Whether any instruction of it may mount a cache, as far as it can be known before the build; triggers that it leaves do not.
    pub(crate) fn may_mount_caches(&self) -> bool {
        let mut instructions = self.stages.iter().flat_map(|stage| &stage.instructions);
        instructions
            .any(|one| one.newer.contains(&UNSETTLED_MOUNT) || cache_mounts(&one.action).next().is_some())
    }

    /// Whether any instruction of it mounts anything; triggers that it leaves do not.
    pub(crate) fn mounts(&self) -> bool {
        let mut instructions = self.stages.iter().flat_map(|stage| &stage.instructions);
        instructions.any(|one| matches!(&one.action, Action::Run(mounts) if !mounts.is_empty()))
    }

    /// Whether any instruction of it mounts files of the context, of a stage or of an image; triggers that it leaves do not.
    pub(crate) fn mounts_files(&self) -> bool {
        let mut instructions = self.stages.iter().flat_map(|stage| &stage.instructions);
        instructions.any(|one| matches!(&one.action, Action::Run(mounts) if mounts.iter().any(has_files)))
    }
}

/// The reference that a stage stands on in the end.
fn lowest(bases: &[ResolvedFrom], mut stage: usize) -> Option<&str> {
    // Each stands on one before it.
    loop {
        match &bases.get(stage)?.base {
            Base::Scratch => return None,
            Base::Image(reference) => return Some(reference),
            Base::Stage(parent) => stage = *parent,
        }
    }
}

fn portable(mount: &Mount, stands_on: &str, in_target: bool) -> Option<CacheMount> {
    let is_plain = |text: &str| !text.contains(|c: char| "$,\"'\\".contains(c) || c.is_whitespace());
    if mount.option(&FROM_ELSEWHERE).is_some() {
        return None;
    }
    let told = TELLING.into_iter().filter_map(|key| Some((key, &mount.option(&[key])?.text)));
    let options = told.map(|(key, value)| is_plain(value).then(|| format!("{key}={value}")));
    let target = mount.option(&["target", "dst", "destination"]).map(|target| target.text.clone());
    Some(CacheMount {
        written: name(mount)?,
        target: target.filter(|path| path.len() > 1 && path.starts_with('/') && is_plain(path)),
        options: options.collect::<Option<_>>()?,
        stands_on: stands_on.to_owned(),
        in_target,
    })
}

/// Whether an `ONBUILD` trigger may mount a cache, as far as it can be known before the build. One that is not understood may.
pub(crate) fn may_mount_cache(trigger: &str) -> bool {
    of_trigger(trigger).is_none_or(|file| file.may_mount_caches())
}

/// A Dockerfile with nothing but an `ONBUILD` trigger, where that is understood; what its variables are is not known.
pub(crate) fn of_trigger(trigger: &str) -> Option<Dockerfile> {
    Dockerfile::parse("ONBUILD".as_ref(), &format!("FROM image\n{trigger}\n")).ok()
}

/// The mounts of an instruction that are caches.
pub(super) fn cache_mounts(action: &Action) -> impl Iterator<Item = &Mount> {
    let mounts = match action {
        Action::Run(mounts) => mounts.as_slice(),
        _ => &[],
    };
    mounts.iter().filter(|mount| mount.kind() == "cache")
}

/// Whether what is mounted begins with files that a build may change.
fn has_files(mount: &Mount) -> bool {
    match &*mount.kind() {
        "secret" | "ssh" | "tmpfs" => false,
        "cache" => mount.option(&FROM_ELSEWHERE).is_some(),
        _ => true,
    }
}

/// What is written as the id of a cache mount, else as its target.
fn name(mount: &Mount) -> Option<String> {
    let named = mount.option(&["id"]).filter(|id| !id.text.is_empty());
    named.or_else(|| mount.option(&["target", "dst", "destination"])).map(|word| word.text.clone())
}

/// The edit that gives a cache mount another id.
pub(super) fn own_cache(
    mount: &Mount,
    cache: &dyn Fn(&str) -> Option<String>,
) -> Option<(Range<usize>, String)> {
    let own = cache(&name(mount)?)?;
    match mount.option(&["id"]) {
        Some(id) => Some((id.range.clone(), own)),
        None => Some((mount.option(&["type"])?.range.clone(), format!("cache,id={own}"))),
    }
}
