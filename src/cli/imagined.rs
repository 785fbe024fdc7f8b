//! Builders that are thought of, and times that are said: on the command line and in files, for `simulate`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::config::{BuilderSetting, Seconds, check_builder_name};
use crate::diag::{Diagnostic, Place, Result, did_you_mean};
use crate::engine::labels_below;
use crate::oci::Platform;
use crate::plan::speed;
use crate::record::Durations;
use crate::schedule::{Kind, Machine};

use super::builder_argument::{BuilderArgument, COUNT_LIMIT};

/// How long such a file may be, in bytes.
const BYTES_LIMIT: u64 = 1 << 20;

/// Builders of one kind, under one name.
#[derive(Clone, Debug)]
pub(super) struct NamedKind {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What is said of builders in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetFile {
    builder: BTreeMap<String, Thought>,
}

/// One kind of builder.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Thought {
    platforms: Vec<String>,
    emulates: Vec<String>,
    slots: Option<usize>,
    count: Option<usize>,
    price: Option<f64>,
    speed: Option<u32>,
    labels: Vec<String>,
    /// How many bytes of disk jobs may fill.
    #[serde(skip)]
    disk: Option<u64>,
}

impl Thought {
    /// One of a configuration, if that says its platforms.
    fn of(name: &str, setting: &BuilderSetting, durations: &Durations) -> Option<Self> {
        setting.platforms.as_ref()?;
        let said = Self::said(setting);
        Some(Self { speed: said.speed.or_else(|| Some(speed(durations, name))), ..said })
    }

    /// What a setting says.
    fn said(setting: &BuilderSetting) -> Self {
        let platforms = setting.platforms.iter().flatten().map(|one| one.value.to_string()).collect();
        Self {
            platforms,
            emulates: Vec::new(),
            slots: setting.slots.as_ref().and_then(|slots| usize::try_from(slots.value).ok()),
            count: None,
            price: setting.price.as_ref().map(|price| price.value),
            speed: setting.speed.as_ref().map(|speed| speed.value),
            labels: setting.labels.iter().map(|label| label.value.clone()).collect(),
            disk: setting.disk.as_ref().map(|disk| disk.value.0),
        }
    }

    fn kind(&self) -> Result<Kind, Diagnostic> {
        let platforms = |names: &[String]| -> Result<BTreeSet<Platform>, Diagnostic> {
            let parsed = names.iter().map(|name| name.parse());
            parsed.collect::<Result<_, _>>().map_err(|error| Diagnostic::request(format!("{error}")))
        };
        let within = |what: &str, number: Option<usize>| match number.unwrap_or(1) {
            number @ 1..=COUNT_LIMIT => Ok(number),
            _ => Err(Diagnostic::request(format!("`{what}` is not between 1 and {COUNT_LIMIT}"))),
        };
        let price = self.price.unwrap_or_default();
        if !price.is_finite() || price < 0.0 {
            return Err(Diagnostic::request("`price` is no amount of money a minute"));
        }
        let machine = Machine {
            native: platforms(&self.platforms)?,
            emulated: platforms(&self.emulates)?,
            slots: within("slots", self.slots)?,
            labels: self
                .labels
                .iter()
                .cloned()
                .chain(self.labels.iter().flat_map(|one| labels_below(one)))
                .collect(),
            disk: self.disk,
            speed: match self.speed.unwrap_or(100) {
                speed @ 1..=10_000 => speed,
                _ => return Err(Diagnostic::request("`speed` is not between 1 and 10000 percent")),
            },
        };
        if machine.native.is_empty() {
            let problem = Diagnostic::request("a builder without a platform builds nothing");
            return Err(problem.hint("write one, as in `linux/arm64,slots=4`"));
        }
        Ok(Kind { machine, count: within("count", self.count)?, price })
    }
}

impl BuilderArgument {
    /// What it means beside the builders of a configuration.
    ///
    /// # Errors
    /// Where it names none of them, or one that says no platforms.
    pub(super) fn meant(
        &self,
        builders: &BTreeMap<String, BuilderSetting>,
        durations: &Durations,
    ) -> Result<NamedKind, Diagnostic> {
        let name = &self.first;
        let (name, thought) = match name.is_empty() || name.contains('/') {
            true => {
                let platforms = name.split('+').map(str::to_owned).collect();
                let thought = Thought { platforms, ..Thought::said(&self.over(&BuilderSetting::default())) };
                (name.trim_start_matches("linux/"), thought)
            }
            false => (&**name, self.known(builders, durations)?),
        };
        let thought = Thought { count: self.count, emulates: self.emulates.clone(), ..thought };
        Ok(NamedKind { name: name.to_owned(), kind: thought.kind()? })
    }

    /// One of a configuration.
    fn known(
        &self,
        builders: &BTreeMap<String, BuilderSetting>,
        durations: &Durations,
    ) -> Result<Thought, Diagnostic> {
        let name = &self.first;
        let setting = builders.get(name).ok_or_else(|| {
            let hint = did_you_mean(name, builders.keys().map(String::as_str));
            Diagnostic::request(format!("`{name}` is no builder of polyarch.toml, and no platform"))
                .hint(hint.unwrap_or_else(|| "write its platforms, as in `linux/arm64,slots=4`".to_owned()))
        })?;
        Thought::of(name, &self.over(setting), durations).ok_or_else(|| {
            Diagnostic::request(format!("builder {name} does not say which platforms it has"))
                .hint(format!("write `platforms = [\"linux/amd64\"]` in [builder.{name}]"))
        })
    }
}

/// The builders of a file.
///
/// # Errors
/// Where it cannot be read or says something else.
pub(super) fn from_file(file: &Path) -> Result<Vec<NamedKind>> {
    let read: FleetFile = read(file)?;
    let kind = |name: &str, thought: Thought| check_builder_name(name).and_then(|()| thought.kind());
    let kinds = read.builder.into_iter().map(|(name, thought)| match kind(&name, thought) {
        Ok(kind) => Ok(NamedKind { name, kind }),
        Err(problem) => Err(problem.at(Place::file(file)).into()),
    });
    crate::diag::collect(kinds)
}

/// The builders of a configuration, as far as it says their platforms; else one for each platform.
///
/// # Errors
/// Where one has more slots than can be thought of.
pub(super) fn from_configuration(
    builders: &BTreeMap<String, BuilderSetting>,
    durations: &Durations,
    platforms: &BTreeSet<Platform>,
) -> Result<Vec<NamedKind>, Diagnostic> {
    let said = builders.iter().filter_map(|(name, setting)| {
        let thought = Thought::of(name, setting, durations)?;
        Some(thought.kind().map(|kind| NamedKind { name: name.clone(), kind }))
    });
    let said = said.collect::<Result<Vec<_>, _>>()?;
    if !said.is_empty() {
        return Ok(said);
    }
    let one = |platform: &Platform| {
        let thought = Thought { platforms: vec![platform.to_string()], ..Thought::default() };
        let name = platform.slug().trim_start_matches("linux-").to_owned();
        thought.kind().map(|kind| NamedKind { name, kind })
    };
    platforms.iter().map(one).collect()
}

/// The builders of a configuration that cannot be thought of, as it does not say their platforms.
pub(super) fn left_out(builders: &BTreeMap<String, BuilderSetting>) -> Option<Diagnostic> {
    let silent = builders.iter().filter(|(_, setting)| setting.platforms.is_none());
    let names: Vec<&str> = silent.map(|(name, _)| name.as_str()).collect();
    let first = names.first()?;
    let (builders, state) = match names.len() {
        1 => ("builder", "states no platforms, and is"),
        _ => ("builders", "state no platforms, and are"),
    };
    let problem = format!("{builders} {} of polyarch.toml {state} left out", names.join(", "));
    let hint = format!("state them, as in `platforms = [\"linux/arm64\"]` of [builder.{first}]");
    Some(Diagnostic::warning(problem).hint(hint))
}

/// How long jobs take, as a file says: by `image`, `image:variant` or either with `@platform`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct DurationsFile {
    known: BTreeMap<String, String>,
    assumed: BTreeMap<String, String>,
    emulated: BTreeMap<String, String>,
    assumed_emulated: BTreeMap<String, String>,
}

/// One time that a file says.
pub(super) struct Said {
    /// The image or job, as it is written.
    pub(super) name: String,
    pub(super) milliseconds: u64,
    /// The file says itself that it is not measured.
    pub(super) assumed: bool,
    /// It is that of an emulated build.
    pub(super) emulated: bool,
}

impl DurationsFile {
    /// All that it says.
    ///
    /// # Errors
    /// Where the file cannot be read or a time is none.
    pub(super) fn read(file: &Path) -> Result<Vec<Said>> {
        let read: Self = read(file)?;
        let tables = [
            (read.known, false, false),
            (read.assumed, true, false),
            (read.emulated, false, true),
            (read.assumed_emulated, true, true),
        ];
        let lines = tables.into_iter().flat_map(|(table, assumed, emulated)| {
            table.into_iter().map(move |(name, time)| (name, time, assumed, emulated))
        });
        let parsed = lines.map(|(name, time, assumed, emulated)| match time.parse::<Seconds>() {
            Ok(Seconds(seconds)) => Ok(Said { name, milliseconds: seconds * 1000, assumed, emulated }),
            Err(error) => {
                let problem = format!("`{name}`: {error}");
                Err(Diagnostic::request(problem).at(Place::file(file)).into())
            }
        });
        crate::diag::collect(parsed)
    }
}

fn read<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T> {
    let failed =
        |error: std::io::Error| Diagnostic::request(format!("read {}", file.display())).caused_by(&error);
    if std::fs::metadata(file).map_err(failed)?.len() > BYTES_LIMIT {
        let problem = format!("the file is longer than {} KiB", BYTES_LIMIT / 1024);
        return Err(Diagnostic::request(problem).at(Place::file(file)).into());
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    toml::from_str(&text).map_err(|error| {
        let place = match error.span() {
            Some(span) => Place::span(file, &text, span),
            None => Place::file(file),
        };
        Diagnostic::request(error.message().to_owned()).at(place).into()
    })
}
