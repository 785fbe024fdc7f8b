//! What one build reads: references, files of the context, remote sources, secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::bases::{Base, ResolvedFrom};
use super::fetches::{self, Fetch};
use super::git;
use super::instruction::{Action, Copy, Instruction, Mount, Word};
use super::pattern::PathPattern;
use super::scope::{Globals, Scopes};
use super::stages::StageNames;
use super::{Dockerfile, GitSource, Request};
use crate::diag::{self, Diagnostic, Place, Result};

/// Everything that one build reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Every outside reference that the reached stages use, in the order of the file; `scratch` is none.
    pub(crate) references: Vec<ImageUse>,
    /// What the target stands on in the end.
    pub(crate) base: BaseOfTarget,
    /// What is read from the context or from afar.
    pub(crate) sources: Vec<Source>,
    /// What steps fetch by themselves, and do not check.
    pub(crate) fetches: Vec<Fetch>,
    /// The `ONBUILD` triggers that the target leaves to images built upon it.
    pub(crate) onbuild: Vec<String>,
    /// The arguments that the reached stages declare or use, given or not.
    pub(crate) uses_args: BTreeSet<String>,
    /// The secrets asked for by `RUN --mount=type=secret`.
    pub(crate) secrets: BTreeSet<String>,
    /// Those of them that a build fails without, by `required`, and the line that says so.
    pub(crate) required_secrets: BTreeMap<String, Place>,
    /// Whether an SSH agent is asked for: by `RUN --mount=type=ssh`, or by an `ADD` of a repository by ssh.
    pub(crate) ssh: bool,
    /// What the frontend inside Docker 20.10 refuses; a frontend named by `# syntax=` may take it all the same.
    pub(crate) needs_newer: Vec<Newer>,
}

/// The use of an image from outside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageUse {
    /// The reference, its arguments put in.
    pub(crate) reference: String,
    /// Where it is written.
    pub(crate) place: Place,
    /// How it is used.
    pub(crate) how: How,
    /// The `--platform` of the `FROM`, its arguments put in.
    pub(crate) platform: Option<String>,
}

/// How an image is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By `FROM`; `final_chain` where the target stands on it.
    From { stage: usize, final_chain: bool },
    /// By `COPY --from`.
    CopyFrom,
    /// By `RUN --mount=from=`.
    MountFrom,
    /// By an `ONBUILD` trigger that the target leaves: images built upon it will read it, this build does not.
    Onbuild,
}

/// What a target stage stands on, through all stages between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BaseOfTarget {
    /// Nothing.
    Scratch,
    /// An image from outside the file.
    Reference(String),
}

/// Something that is read and is no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Files of the context.
    Context(Sources),
    /// A file or repository fetched by `ADD`.
    Remote(Remote),
}

impl Source {
    /// Whether a file of the context, by its path in it, may be read.
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.patterns().iter().any(|pattern| pattern.covers(path))
    }

    /// What it reads of the context, links not followed.
    pub(crate) fn patterns(&self) -> &[PathPattern] {
        match self {
            Self::Context(sources) => &sources.patterns,
            Self::Remote(_) => &[],
        }
    }
}

/// What one instruction reads of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    /// The paths, as written with arguments put in, for people.
    pub(crate) written: Vec<String>,
    /// The same, for matching.
    pub(crate) patterns: Vec<PathPattern>,
    /// The `--exclude` patterns. `covers` does not apply them: a key may cover too much, never too little.
    pub(crate) excludes: Vec<String>,
    /// The instruction.
    pub(crate) place: Place,
}

/// What one `ADD` fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// What kind of address.
    pub(crate) kind: RemoteKind,
    /// The address; as written where an argument is not known before the build.
    pub(crate) location: String,
    /// The `--checksum`.
    pub(crate) checksum: Option<String>,
    /// The instruction.
    pub(crate) place: Place,
    /// Where the address stands in the file; empty where it cannot be told.
    pub(super) range: Range<usize>,
}

impl Remote {
    /// The address as it may be shown and kept: without a password.
    pub(crate) fn shown(&self) -> String {
        git::without_password(&self.location)
    }

    /// The repository that it is of, where its commit counts: none of a file, and none where a variable is in it
    /// whose value only the build knows.
    ///
    /// # Errors
    /// Where the address does not say which commit it means.
    pub(crate) fn git(&self) -> Option<Result<GitSource, String>> {
        let is_settled =
            self.kind == RemoteKind::Git && self.checksum.is_none() && !self.location.contains('$');
        is_settled.then(|| GitSource::parse(&self.location))
    }

    /// Whether its address itself says the whole commit of a repository, whatever else in it only the build knows.
    pub(crate) fn names_commit(&self) -> bool {
        let fragment = self.location.split_once('#').map_or("", |(_, fragment)| fragment);
        let is_said = |source: &GitSource| source.commit().is_some();
        self.kind == RemoteKind::Git
            && (git::is_commit(fragment.split(':').next().unwrap_or_default())
                || self.git().and_then(Result::ok).as_ref().is_some_and(is_said))
    }
}

/// What kind of address an `ADD` fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RemoteKind {
    /// A file by HTTP.
    Url,
    /// A Git repository.
    Git,
}

/// A construct that the frontend inside Docker 20.10 refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newer {
    /// Where.
    pub(crate) place: Place,
    /// What, as one would write it.
    pub(crate) feature: String,
}

/// What `--from` names.
pub(super) enum Origin {
    Stage(usize),
    Scratch,
    Image(String),
}

impl Dockerfile {
    /// Everything that one build reads.
    pub(crate) fn needs(&self, request: &Request<'_>) -> Result<Needs> {
        let names = StageNames::new(&self.stages);
        let globals = Globals::new(self, request)?;
        let bases = self.bases(&globals, &names)?;
        let target = self.target(request, &names)?;
        let chain = final_chain(&bases, target);
        let reached = self.reached(target, &bases, &names)?;
        let mut reader = Reader::new(self, request, &globals, &names);
        for stage in &reached {
            let from = &bases[*stage];
            reader.from(*stage, from, chain.contains(stage));
            if let Base::Stage(parent) = from.base {
                for trigger in self.triggers(parent) {
                    reader.instruction(*stage, trigger)?;
                }
            }
            for instruction in &self.stages[*stage].instructions {
                reader.instruction(*stage, instruction)?;
            }
        }
        reader.leave_triggers(target)?;
        let lowest = chain.first().map(|stage| &bases[*stage].base);
        let base = match lowest {
            Some(Base::Image(reference)) => BaseOfTarget::Reference(reference.clone()),
            _ => BaseOfTarget::Scratch,
        };
        Ok(reader.finish(base))
    }

    pub(super) fn target(&self, request: &Request<'_>, names: &StageNames<'_>) -> Result<usize> {
        let Some(name) = request.target else { return Ok(self.stages.len().saturating_sub(1)) };
        if let Some(found) = names.before(name, self.stages.len()) {
            return Ok(found);
        }
        let message = format!("the Dockerfile has no stage `{name}`");
        let problem = Diagnostic::request(message).at(Place::file(self.text.file()));
        let listed: Vec<&str> = names.all().collect();
        let hint = match diag::did_you_mean(&name.to_lowercase(), listed.iter().copied()) {
            Some(guess) => format!("{guess} its stages are: {}", listed.join(", ")),
            None if listed.is_empty() => "give a stage a name: `FROM image AS name`".to_owned(),
            None => format!("choose one of its stages: {}", listed.join(", ")),
        };
        Err(problem.hint(hint).into())
    }

    /// The instructions that a stage leaves to a stage that stands on it.
    fn triggers(&self, stage: usize) -> impl Iterator<Item = &Instruction> {
        self.stages[stage].instructions.iter().filter_map(|instruction| match &instruction.action {
            Action::Onbuild { inner, .. } => Some(&**inner),
            _ => None,
        })
    }

    /// The stages that the target needs, itself included. Each needs only stages before it.
    pub(super) fn reached(
        &self,
        target: usize,
        bases: &[ResolvedFrom],
        names: &StageNames<'_>,
    ) -> Result<BTreeSet<usize>> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![target];
        while let Some(stage) = waiting.pop() {
            if !reached.insert(stage) {
                continue;
            }
            let mut instructions: Vec<&Instruction> = self.stages[stage].instructions.iter().collect();
            if let Base::Stage(parent) = bases[stage].base {
                waiting.push(parent);
                instructions.extend(self.triggers(parent));
            }
            for instruction in instructions {
                for (word, mount) in origins(&instruction.action) {
                    if let Origin::Stage(needed) = self.origin(stage, word, mount, names)? {
                        waiting.push(needed);
                    }
                }
            }
        }
        Ok(reached)
    }

    /// What a `--from` or `from=` names, seen from a stage. BuildKit puts no variables in.
    pub(super) fn origin(
        &self,
        stage: usize,
        word: &Word,
        mount: bool,
        names: &StageNames<'_>,
    ) -> Result<Origin, Diagnostic> {
        let name = &word.text;
        let wrong = |message: String| Diagnostic::request(message).at(self.text.place(word.range.clone()));
        if name.contains('$') {
            let problem = wrong(format!("`from={name}` has a variable, which BuildKit does not put in here"));
            return Err(problem.hint(format!("write `FROM {name} AS origin` above, and `from=origin` here")));
        }
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong(format!("`from={name}` names no image and no stage")));
        }
        let number = if mount { None } else { name.parse::<usize>().ok() };
        let found = match number {
            Some(number) if number < self.stages.len() => Some(number),
            Some(number) => {
                let count = self.stages.len();
                let problem = wrong(format!("there is no stage {number}: the Dockerfile has {count}"));
                return Err(problem.hint("count stages from 0, or name the stage: `FROM image AS name`"));
            }
            None => names.before(name, stage),
        };
        match found {
            Some(found) if found < stage => Ok(Origin::Stage(found)),
            None if !names.is_later(name, stage) => {
                Ok(if name == "scratch" { Origin::Scratch } else { Origin::Image(name.clone()) })
            }
            _ => {
                let problem = wrong(format!("stage `{name}` is not finished where this stage reads from it"));
                Err(problem.hint("move that stage above this one"))
            }
        }
    }
}

/// The target and the stages it stands on, lowest first.
pub(super) fn final_chain(bases: &[ResolvedFrom], target: usize) -> BTreeSet<usize> {
    let mut chain = BTreeSet::from([target]);
    let mut at = target;
    while let Some(Base::Stage(parent)) = bases.get(at).map(|from| &from.base) {
        chain.insert(*parent);
        at = *parent;
    }
    chain
}

/// The words of an instruction that name images or stages, and whether they are of mounts.
pub(super) fn origins(action: &Action) -> Vec<(&Word, bool)> {
    match action {
        Action::Copy(copy) => copy.from.iter().map(|from| (from, false)).collect(),
        Action::Run(mounts) => mounts.iter().filter_map(mount_from).map(|from| (from, true)).collect(),
        _ => Vec::new(),
    }
}

fn mount_from(mount: &Mount) -> Option<&Word> {
    mount.option(&["from"]).filter(|from| !from.text.is_empty())
}

/// Walks the reached stages and gathers what they need.
struct Reader<'a> {
    file: &'a Dockerfile,
    args: &'a BTreeMap<String, String>,
    globals: &'a Globals,
    names: &'a StageNames<'a>,
    scopes: Scopes,
    references: Vec<ImageUse>,
    sources: Vec<Source>,
    fetches: Vec<Fetch>,
    onbuild: Vec<String>,
    uses_args: BTreeSet<String>,
    secrets: BTreeSet<String>,
    required_secrets: BTreeMap<String, Place>,
    ssh: bool,
    needs_newer: Vec<Newer>,
}

impl<'a> Reader<'a> {
    fn new(
        file: &'a Dockerfile,
        request: &Request<'a>,
        globals: &'a Globals,
        names: &'a StageNames<'a>,
    ) -> Self {
        Self {
            file,
            args: request.args,
            globals,
            names,
            scopes: Scopes::default(),
            references: Vec::new(),
            sources: Vec::new(),
            fetches: Vec::new(),
            onbuild: Vec::new(),
            uses_args: BTreeSet::new(),
            secrets: BTreeSet::new(),
            required_secrets: BTreeMap::new(),
            ssh: false,
            needs_newer: Vec::new(),
        }
    }

    fn finish(self, base: BaseOfTarget) -> Needs {
        Needs {
            references: self.references,
            base,
            sources: self.sources,
            fetches: self.fetches,
            onbuild: self.onbuild,
            uses_args: self.uses_args,
            secrets: self.secrets,
            required_secrets: self.required_secrets,
            ssh: self.ssh,
            needs_newer: self.needs_newer,
        }
    }

    fn from(&mut self, stage: usize, from: &ResolvedFrom, final_chain: bool) {
        for name in &from.used {
            self.globals.add_used(name, &mut self.uses_args);
        }
        self.needs_newer.extend(from.newer.iter().cloned());
        match &from.base {
            Base::Scratch => self.scopes.begin_on_scratch(stage),
            Base::Stage(parent) => self.scopes.begin_on_stage(stage, *parent),
            Base::Image(reference) => {
                self.scopes.begin_on_image(stage);
                self.references.push(ImageUse {
                    reference: reference.clone(),
                    place: self.file.text.place(self.file.stages[stage].image.range.clone()),
                    how: How::From { stage, final_chain },
                    platform: from.platform.clone(),
                });
            }
        }
    }

    fn instruction(&mut self, stage: usize, instruction: &Instruction) -> Result<()> {
        let range = &instruction.range;
        for feature in &instruction.newer {
            self.needs_newer.push(self.file.newer(range, feature));
        }
        for (word, mount) in origins(&instruction.action) {
            if let Origin::Image(reference) = self.file.origin(stage, word, mount, self.names)? {
                let how = if mount { How::MountFrom } else { How::CopyFrom };
                let place = self.file.text.place(word.range.clone());
                self.references.push(ImageUse { reference, place, how, platform: None });
            }
        }
        match &instruction.action {
            Action::Arg(args) => self.arg(stage, args, range)?,
            Action::Env(pairs) => {
                let mut expanded = Vec::new();
                for (name, value) in pairs {
                    expanded.push((self.expand(stage, name, range)?, self.expand(stage, value, range)?));
                }
                for (name, value) in expanded {
                    if let Some(name) = name {
                        self.scopes.set_environment(stage, &name, value);
                    }
                }
            }
            Action::Copy(copy) if copy.from.is_none() => self.copy(stage, copy, range)?,
            Action::Run(mounts) => {
                let fetched = fetches::unchecked(&self.file.text.as_str()[range.clone()]);
                let place = || self.file.text.place(range.clone());
                self.fetches.extend(fetched.map(|location| Fetch { location, place: place() }));
                mounts.iter().try_for_each(|mount| self.mount(stage, mount, range))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A word with its variables put in; none where one is not known before the build.
    fn expand(&mut self, stage: usize, word: &str, range: &Range<usize>) -> Result<Option<String>> {
        let found = self.scopes.expand(stage, word, self.file.escape).map_err(|what| {
            let shown: String = word.chars().take(80).collect();
            Diagnostic::request(format!("`{shown}` cannot be expanded: {what}"))
                .at(self.file.text.place(range.clone()))
        })?;
        self.needs_newer.extend(found.newer.iter().map(|what| self.file.newer(range, what)));
        Ok((!found.unknown).then_some(found.text))
    }

    fn arg(&mut self, stage: usize, args: &[(String, Option<String>)], range: &Range<usize>) -> Result<()> {
        for (name, default) in args {
            let value = match (self.args.get(name), default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => self.expand(stage, default, range)?,
                (None, None) => {
                    self.globals.add_used(name, &mut self.uses_args);
                    match self.globals.value(name) {
                        Some(value) => Some(value.clone()),
                        None => continue,
                    }
                }
            };
            self.uses_args.insert(name.clone());
            self.scopes.set(stage, name, value);
        }
        Ok(())
    }

    fn copy(&mut self, stage: usize, copy: &Copy, range: &Range<usize>) -> Result<()> {
        let place = self.file.text.place(range.clone());
        let checksum = match &copy.checksum {
            Some(checksum) => Some(self.expand(stage, checksum, range)?.unwrap_or_else(|| checksum.clone())),
            None => None,
        };
        let mut written = Vec::new();
        let mut patterns = Vec::new();
        for source in &copy.sources {
            let expanded = self.expand(stage, &source.text, range)?;
            let shown = expanded.clone().unwrap_or_else(|| source.text.clone());
            if let Some(kind) = remote_kind(&shown).filter(|_| copy.add) {
                if kind == RemoteKind::Git {
                    self.needs_newer.push(self.file.newer(range, "ADD of a Git repository"));
                    self.ssh |= git::is_by_ssh(&shown);
                }
                let (checksum, place) = (checksum.clone(), place.clone());
                let range = source.range.clone();
                self.sources.push(Source::Remote(Remote { kind, location: shown, checksum, place, range }));
                continue;
            }
            patterns.push(expanded.as_deref().map_or_else(PathPattern::everything, PathPattern::parse));
            written.push(shown);
        }
        let mut excludes = Vec::new();
        for pattern in &copy.excludes {
            excludes.push(self.expand(stage, pattern, range)?.unwrap_or_else(|| pattern.clone()));
        }
        if !patterns.is_empty() {
            self.sources.push(Source::Context(Sources { written, patterns, excludes, place }));
        }
        Ok(())
    }

    fn mount(&mut self, stage: usize, mount: &Mount, range: &Range<usize>) -> Result<()> {
        let option = |reader: &mut Self, names: &[&str]| match mount.option(names) {
            Some(word) => reader.expand(stage, &word.text, range).map(|text| Some((text, word.text.clone()))),
            None => Ok(None),
        };
        let kind = option(self, &["type"])?;
        let source = option(self, &["source", "src"])?;
        let shown = |value: &Option<(Option<String>, String)>| {
            value.as_ref().map(|(known, raw)| known.clone().unwrap_or_else(|| raw.clone()))
        };
        // A type that is not known before the build may be a bind mount.
        let kind = kind.map_or_else(|| Some("bind".to_owned()), |(known, _)| known);
        match kind.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("secret") => {
                let target = shown(&option(self, &["target", "dst", "destination"])?);
                let from_target =
                    || target.map(|path| path.rsplit('/').next().unwrap_or_default().to_owned());
                let id = shown(&option(self, &["id"])?);
                let id = shown(&source).or(id).or_else(from_target).filter(|id| !id.is_empty());
                let required = option(self, &["required"])?.is_some_and(|(value, _)| {
                    value
                        .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "" | "true" | "1"))
                });
                if let Some(id) = id.as_ref().filter(|_| required) {
                    self.required_secrets.insert(id.clone(), self.file.text.place(range.clone()));
                }
                self.secrets.extend(id);
            }
            Some("ssh") => self.ssh = true,
            Some("bind") | None if mount_from(mount).is_none() => {
                let pattern = match &source {
                    Some((Some(path), _)) => PathPattern::literal(path),
                    _ => PathPattern::everything(),
                };
                let written = vec![shown(&source).unwrap_or_else(|| "/".to_owned())];
                let place = self.file.text.place(range.clone());
                let sources = Sources { written, patterns: vec![pattern], excludes: Vec::new(), place };
                self.sources.push(Source::Context(sources));
            }
            _ => {}
        }
        Ok(())
    }

    /// Lists what the target leaves to images built upon it.
    fn leave_triggers(&mut self, target: usize) -> Result<()> {
        for instruction in &self.file.stages[target].instructions {
            let Action::Onbuild { trigger, inner } = &instruction.action else { continue };
            self.onbuild.push(trigger.clone());
            for (word, mount) in origins(&inner.action) {
                if let Ok(Origin::Image(reference)) = self.file.origin(target, word, mount, self.names) {
                    let place = self.file.text.place(word.range.clone());
                    self.references.push(ImageUse { reference, place, how: How::Onbuild, platform: None });
                }
            }
        }
        Ok(())
    }
}

/// What kind of address a source of `ADD` is; none where it is a path.
fn remote_kind(source: &str) -> Option<RemoteKind> {
    let lower = source.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        let address = source.split(['#', '?']).next().unwrap_or_default();
        return Some(if address.ends_with(".git") { RemoteKind::Git } else { RemoteKind::Url });
    }
    if lower.starts_with("git://") || lower.starts_with("ssh://") {
        return Some(RemoteKind::Git);
    }
    // user@host:path
    let (user, rest) = source.split_once('@')?;
    let (host, _) = rest.split_once(':')?;
    let plain =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    (plain(user) && plain(host)).then_some(RemoteKind::Git)
}
