//! What each variable is worth: global arguments, and the arguments and environment of each stage.
//!
//! Within a stage the last `ARG` or `ENV` wins. A stage that stands on another inherits its arguments and its
//! environment, the latter first. What nobody sets may still be set by the base image: it is unknown, except
//! upon `scratch`.

use std::collections::{BTreeMap, BTreeSet};

use super::instruction::Action;
use super::words::{self, Expansion, Variable};
use super::{Dockerfile, Request};
use crate::diag::{Diagnostic, Problems, Result};

/// How much text all values of one build may hold; beyond it they count as unknown.
const VALUES_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// The `PATH` of an image that sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The arguments before the first `FROM`, the automatic ones among them.
pub(super) struct Globals {
    values: BTreeMap<String, String>,
    /// Which other arguments went into the default of each.
    made_of: BTreeMap<String, BTreeSet<String>>,
}

impl Globals {
    /// Works out every global argument, in order.
    pub(super) fn new(file: &Dockerfile, request: &Request<'_>) -> Result<Self> {
        let mut globals = Self { values: automatic(file, request), made_of: BTreeMap::new() };
        let mut problems = Vec::new();
        let mut size = 0;
        for instruction in &file.globals {
            let Action::Arg(args) = &instruction.action else { continue };
            for (name, default) in args {
                let value = match (request.args.get(name), default) {
                    (Some(value), _) => value.clone(),
                    (None, None) => continue,
                    (None, Some(default)) => match globals.expand(default, file.escape) {
                        Ok(found) => {
                            globals.made_of.entry(name.clone()).or_default().extend(found.used);
                            found.text
                        }
                        Err(what) => {
                            let message = format!("the default of `{name}` cannot be expanded: {what}");
                            let place = file.text.place(instruction.range.clone());
                            problems.push(
                                Diagnostic::request(message)
                                    .at(place)
                                    .hint(format!("give `--build-arg {name}=…`")),
                            );
                            continue;
                        }
                    },
                };
                size += value.len();
                if size > VALUES_LIMIT_BYTES {
                    let message = format!("the arguments hold more than {} MiB", VALUES_LIMIT_BYTES >> 20);
                    let place = file.text.place(instruction.range.clone());
                    return Err(Diagnostic::request(message).at(place).into());
                }
                globals.values.insert(name.clone(), value);
            }
        }
        Problems::check(problems)?;
        Ok(globals)
    }

    pub(super) fn value(&self, name: &str) -> Option<&String> {
        self.values.get(name)
    }

    pub(super) fn expand(&self, word: &str, escape: char) -> Result<Expansion, String> {
        words::expand(word, escape, &|name| match self.values.get(name) {
            Some(value) => Variable::Set(value.clone()),
            None => Variable::Unset,
        })
    }

    /// Adds a name and all that its value is made of.
    pub(super) fn add_used(&self, name: &str, used: &mut BTreeSet<String>) {
        let mut waiting = vec![name.to_owned()];
        while let Some(name) = waiting.pop() {
            if used.insert(name.clone()) {
                waiting.extend(self.made_of.get(&name).into_iter().flatten().cloned());
            }
        }
    }
}

/// `TARGETPLATFORM` and its kin; a build argument of the same name wins.
fn automatic(file: &Dockerfile, request: &Request<'_>) -> BTreeMap<String, String> {
    let platform = request.platform;
    let last = file.stages.last().and_then(|stage| stage.name.as_deref());
    let mut values = BTreeMap::new();
    for side in ["TARGET", "BUILD"] {
        values.insert(format!("{side}PLATFORM"), platform.to_string());
        values.insert(format!("{side}OS"), platform.os.clone());
        values.insert(format!("{side}ARCH"), platform.architecture.clone());
        values.insert(format!("{side}VARIANT"), platform.variant.clone().unwrap_or_default());
    }
    values.insert("TARGETSTAGE".to_owned(), request.target.or(last).unwrap_or("default").to_owned());
    for (name, value) in &mut values {
        if let Some(given) = request.args.get(name) {
            value.clone_from(given);
        }
    }
    values
}

/// The variables of one stage; a value of none is unknown.
#[derive(Default)]
struct Scope {
    /// What `ARG` and `ENV` set here, the last one winning.
    own: BTreeMap<String, Option<String>>,
    /// What `ENV` set here.
    environment: BTreeMap<String, Option<String>>,
    parent: Option<usize>,
    /// Whether the base image may set more.
    open: bool,
}

/// The variables of every stage.
#[derive(Default)]
pub(super) struct Scopes {
    stages: BTreeMap<usize, Scope>,
    size: usize,
}

impl Scopes {
    /// Begins a stage that stands on another stage.
    pub(super) fn begin_on_stage(&mut self, stage: usize, parent: usize) {
        self.stages.insert(stage, Scope { parent: Some(parent), ..Scope::default() });
    }

    /// Begins a stage that stands on `scratch`.
    pub(super) fn begin_on_scratch(&mut self, stage: usize) {
        self.stages.insert(stage, Scope::default());
        self.set_environment(stage, "PATH", Some(DEFAULT_PATH.to_owned()));
    }

    /// Begins a stage that stands on an image from outside, which may set anything.
    pub(super) fn begin_on_image(&mut self, stage: usize) {
        self.stages.insert(stage, Scope { open: true, ..Scope::default() });
    }

    /// Sets an argument.
    pub(super) fn set(&mut self, stage: usize, name: &str, value: Option<String>) {
        let value = self.within_limit(value);
        if let Some(scope) = self.stages.get_mut(&stage) {
            scope.own.insert(name.to_owned(), value);
        }
    }

    /// Sets an environment variable, which images built upon this one inherit.
    pub(super) fn set_environment(&mut self, stage: usize, name: &str, value: Option<String>) {
        self.set(stage, name, value.clone());
        let value = self.within_limit(value);
        if let Some(scope) = self.stages.get_mut(&stage) {
            scope.environment.insert(name.to_owned(), value);
        }
    }

    fn within_limit(&mut self, value: Option<String>) -> Option<String> {
        self.size += value.as_ref().map_or(0, String::len);
        value.filter(|_| self.size <= VALUES_LIMIT_BYTES)
    }

    pub(super) fn expand(&self, stage: usize, word: &str, escape: char) -> Result<Expansion, String> {
        words::expand(word, escape, &|name| self.lookup(stage, name))
    }

    fn lookup(&self, stage: usize, name: &str) -> Variable {
        let variable = |value: &Option<String>| value.clone().map_or(Variable::Unknown, Variable::Set);
        let Some(scope) = self.stages.get(&stage) else { return Variable::Unknown };
        if let Some(value) = scope.own.get(name) {
            return variable(value);
        }
        let mut inherited = None;
        let mut open = scope.open;
        let mut next = scope.parent;
        while let Some(scope) = next.and_then(|stage| self.stages.get(&stage)) {
            if let Some(value) = scope.environment.get(name) {
                return variable(value);
            }
            inherited = inherited.or(scope.own.get(name));
            open |= scope.open;
            next = scope.parent;
        }
        match inherited {
            Some(value) => variable(value),
            None if open => Variable::Unknown,
            None => Variable::Unset,
        }
    }
}
