//! Builders that are thought of, and times that are said: on the command line and in files, for `simulate`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;

use crate::config::{BuilderSetting, Seconds};
use crate::diag::{Diagnostic, Place, Result, did_you_mean};
use crate::oci::Platform;
use crate::plan::speed;
use crate::record::Durations;
use crate::schedule::{Kind, Machine};

/// How long such a file may be, in bytes.
const BYTES_LIMIT: u64 = 1 << 20;
/// How many builders of one kind, and slots of one builder, there may be.
const COUNT_LIMIT: usize = 1024;

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
}

impl Thought {
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
            labels: BTreeSet::new(),
            disk: None,
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

/// A builder as `--builder` says it: `linux/arm64,slots=4,count=2,price=0.02,speed=80`.
#[derive(Clone, Debug)]
pub(super) struct BuilderArgument(pub(super) NamedKind);

impl FromStr for BuilderArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let list = |text: &str| text.split('+').map(str::to_owned).collect::<Vec<_>>();
        let mut parts = text.split(',');
        let platforms = parts.next().unwrap_or_default();
        let mut thought = Thought { platforms: list(platforms), ..Thought::default() };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                return Err(format!("`{part}` is no `name=value`"));
            };
            let wrong = |_| format!("`{value}` is no number for `{name}`");
            match name {
                "slots" => thought.slots = Some(value.parse().map_err(wrong)?),
                "count" => thought.count = Some(value.parse().map_err(wrong)?),
                "speed" => thought.speed = Some(value.parse().map_err(wrong)?),
                "price" => {
                    thought.price = Some(value.parse().map_err(|_| format!("`{value}` is no price"))?);
                }
                "emulates" => thought.emulates = list(value),
                other => {
                    let known = ["slots", "count", "speed", "price", "emulates"];
                    let hint = did_you_mean(other, known).unwrap_or_else(|| known.join(", "));
                    return Err(format!("`{other}` is not known: {hint}"));
                }
            }
        }
        let kind = thought.kind().map_err(|problem| problem.to_string())?;
        Ok(Self(NamedKind { name: platforms.trim_start_matches("linux/").to_owned(), kind }))
    }
}

/// The builders of a file.
///
/// # Errors
/// Where it cannot be read or says something else.
pub(super) fn from_file(file: &Path) -> Result<Vec<NamedKind>> {
    let read: FleetFile = read(file)?;
    let kinds = read.builder.into_iter().map(|(name, thought)| match thought.kind() {
        Ok(kind) => Ok(NamedKind { name, kind }),
        Err(problem) => Err(problem.at(Place::file(file)).into()),
    });
    crate::diag::collect(kinds)
}

/// The builders of a configuration, as far as it says their platforms; else one for each platform.
pub(super) fn from_configuration(
    builders: &BTreeMap<String, BuilderSetting>,
    durations: &Durations,
    platforms: &BTreeSet<Platform>,
) -> Vec<NamedKind> {
    let kind = |native: BTreeSet<Platform>, slots: usize, name: &str, price: f64| {
        let machine = Machine {
            native,
            emulated: BTreeSet::new(),
            slots,
            labels: BTreeSet::new(),
            disk: None,
            speed: speed(durations, name),
        };
        Kind { machine, count: 1, price }
    };
    let said = builders.iter().filter_map(|(name, setting)| {
        let native = setting.platforms.as_ref()?.iter().map(|one| one.value.clone()).collect();
        let price = setting.price.as_ref().map_or(0.0, |price| price.value);
        let slots = setting.slots.as_ref().and_then(|slots| usize::try_from(slots.value).ok());
        Some(NamedKind { name: name.clone(), kind: kind(native, slots.unwrap_or(1), name, price) })
    });
    let said: Vec<NamedKind> = said.collect();
    if !said.is_empty() {
        return said;
    }
    let one = |platform: &Platform| NamedKind {
        name: platform.slug().trim_start_matches("linux-").to_owned(),
        kind: kind(BTreeSet::from([platform.clone()]), 1, "", 0.0),
    };
    platforms.iter().map(one).collect()
}

/// How long jobs take, as a file says: by `image`, `image:variant` or either with `@platform`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DurationsFile {
    known: BTreeMap<String, String>,
    assumed: BTreeMap<String, String>,
    emulated: BTreeMap<String, String>,
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
        let tables = [(read.known, false, false), (read.assumed, true, false), (read.emulated, false, true)];
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
