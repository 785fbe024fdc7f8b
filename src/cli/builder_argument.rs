//! A builder as `--builder` says it, to build with or to think of: what stands first, and after it what `[builder.NAME]` of
//! polyarch.toml says of one, in the same words. Commas part them; where one is meant itself, `,,` stands for it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::config::{
    BuilderSetting, EngineAddress, NoEngine, SLOTS_LIMIT, SPEED_LIMIT, Written, check_builder_name,
};
use crate::diag::{Diagnostic, did_you_mean};
use crate::oci::Platform;

/// How many builders of one kind there may be.
pub(super) const COUNT_LIMIT: usize = 1024;

/// All words, those that are for `simulate` alone last.
const WORDS: [&str; 9] =
    ["platforms", "slots", "labels", "disk", "speed", "price", "certificates", "count", "emulates"];

/// `arm=ssh://build@arm-1,slots=2,labels=gpu+big`, a builder of polyarch.toml as in `arm-1,slots=2`, or for `simulate` one that
/// there may not be, as in `linux/arm64,count=2`.
#[derive(Clone, Debug)]
pub(super) struct BuilderArgument {
    /// All of it.
    pub(super) text: String,
    /// What stands first.
    pub(super) first: String,
    /// What is said of it.
    said: BuilderSetting,
    /// How many of them there are, for `simulate`.
    pub(super) count: Option<usize>,
    /// The platforms that it emulates, for `simulate`.
    pub(super) emulates: Vec<String>,
}

impl FromStr for BuilderArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = parts(text);
        let (first, said) = parts.split_first().ok_or("it is empty")?;
        let mut argument = Self::named(first);
        text.clone_into(&mut argument.text);
        let mut known = BTreeSet::new();
        for part in said {
            let (word, value) = part.split_once('=').ok_or_else(|| {
                format!("`{part}` is no `name=value`: a comma that is meant itself is written `,,`")
            })?;
            argument.take(word, value)?;
            if !known.insert(word) {
                return Err(format!("`{word}` is said twice"));
            }
        }
        Ok(argument)
    }
}

impl BuilderArgument {
    /// One of which nothing is said.
    pub(super) fn named(first: &str) -> Self {
        let (text, first) = (first.to_owned(), first.to_owned());
        Self { text, first, said: BuilderSetting::default(), count: None, emulates: Vec::new() }
    }

    fn take(&mut self, word: &str, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err(format!("`{word}` says nothing"));
        }
        let list = || value.split('+').map(str::to_owned);
        let said = &mut self.said;
        match word {
            "platforms" => said.platforms = Some(platforms(value)?),
            "slots" => said.slots = Some(said_here(number(word, value, u32::from(SLOTS_LIMIT))?)),
            "labels" => said.labels = list().map(said_here).collect(),
            "disk" => said.disk = Some(said_here(value.parse().map_err(|error| format!("{error}"))?)),
            "speed" => said.speed = Some(said_here(number(word, value, SPEED_LIMIT)?)),
            "price" => said.price = Some(said_here(price(value)?)),
            "certificates" => said.certificates = Some(said_here(from_here(value)?)),
            "count" => self.count = Some(number(word, value, COUNT_LIMIT)?),
            "emulates" => self.emulates = list().collect(),
            other => {
                let hint = did_you_mean(other, WORDS).unwrap_or_else(|| WORDS.join(", "));
                return Err(format!("`{other}` is not known: {hint}"));
            }
        }
        Ok(())
    }

    /// What is said here, and where nothing is, what a setting says.
    pub(super) fn over(&self, setting: &BuilderSetting) -> BuilderSetting {
        let (said, before) = (self.said.clone(), setting.clone());
        BuilderSetting {
            platforms: said.platforms.or(before.platforms),
            slots: said.slots.or(before.slots),
            labels: if said.labels.is_empty() { before.labels } else { said.labels },
            disk: said.disk.or(before.disk),
            speed: said.speed.or(before.speed),
            price: said.price.or(before.price),
            certificates: said.certificates.or(before.certificates),
            ..before
        }
    }

    /// The builder that it is beside those of a configuration, by name: one of them, or an engine.
    ///
    /// # Errors
    /// Where it is neither, or says what is for `simulate` alone.
    pub(super) fn wanted(
        &self,
        configured: &BTreeMap<String, BuilderSetting>,
    ) -> Result<(String, BuilderSetting), Diagnostic> {
        let imagined = [("count", self.count.is_some()), ("emulates", !self.emulates.is_empty())];
        if let Some((word, _)) = imagined.into_iter().find(|(_, is_said)| *is_said) {
            let problem = format!("--builder {}: `{word}` is said of no builder that there is", self.text);
            return Err(Diagnostic::request(problem).hint(
                "leave it out, or think of such builders: polyarch simulate --builder linux/amd64,count=2",
            ));
        }
        let (name, engine) = match self.first.split_once('=') {
            Some((name, engine)) => {
                check_builder_name(name)
                    .map_err(|problem| problem.because(format!("--builder {:?}", self.text)))?;
                (name, engine)
            }
            // What is not named is called after its address.
            None => (&*self.first, &*self.first),
        };
        let setting = match configured.get(name) {
            Some(setting) if name == self.first => self.over(setting),
            _ => self.over(&given(name, engine, configured)?),
        };
        let engine = setting.engine.as_ref().map(|engine| engine.value.clone()).unwrap_or_default();
        if self.said.certificates.is_some() && !engine.takes_certificates() {
            return Err(engine.takes_none().because(format!("--builder {:?}", self.text)));
        }
        Ok((name.to_owned(), setting))
    }
}

/// What stands between commas; two of them are one that is meant itself.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut rest) = (vec![String::new()], text.chars().peekable());
    while let Some(character) = rest.next() {
        match character == ',' && rest.next_if_eq(&',').is_none() {
            true => parts.push(String::new()),
            false => parts.last_mut().expect("there is one from the beginning").push(character),
        }
    }
    parts
}

/// A builder that only the command line has.
fn given(
    name: &str,
    engine: &str,
    configured: &BTreeMap<String, BuilderSetting>,
) -> Result<BuilderSetting, Diagnostic> {
    let address: EngineAddress = engine.parse().map_err(|problem: NoEngine| {
        // What was given a name is meant to be an engine.
        let names = configured.keys().map(String::as_str).filter(|_| name == engine).collect::<Vec<_>>();
        let hint = did_you_mean(name, names.iter().copied()).unwrap_or(problem.hint);
        let told = NoEngine { hint, ..problem }.at(format_args!("--builder {name}"));
        match names.is_empty() {
            true => told,
            false => told.because(format!("polyarch.toml has {}", names.join(", "))),
        }
    })?;
    Ok(BuilderSetting { engine: Some(said_here(address)), ..BuilderSetting::default() })
}

/// A value that stands in no file.
fn said_here<T>(value: T) -> Written<T> {
    Written::new(value, 0..0)
}

/// A path of the command line begins where the command was started, unlike one of a file.
fn from_here(path: &str) -> Result<String, String> {
    let found = std::path::absolute(path).map_err(|error| format!("`{path}`: {error}"))?;
    found.into_os_string().into_string().map_err(|found| format!("{} is no text", found.display()))
}

fn platforms(value: &str) -> Result<Vec<Written<Platform>>, String> {
    let mut found: Vec<Written<Platform>> = Vec::new();
    for name in value.split('+') {
        let platform: Platform = name.parse().map_err(|error| format!("{error}"))?;
        if found.iter().any(|other| other.value == platform) {
            return Err(format!("`{platform}` is said twice"));
        }
        found.push(said_here(platform));
    }
    Ok(found)
}

/// A number between 1 and the highest that a word may say.
///
/// # Errors
/// Where it is none, or another one.
pub(super) fn number<N: FromStr + PartialOrd + From<u8> + Copy + std::fmt::Display>(
    word: &str,
    value: &str,
    most: N,
) -> Result<N, String> {
    let number = value.parse().map_err(|_| format!("`{value}` is no number for `{word}`"))?;
    match (N::from(1)..=most).contains(&number) {
        true => Ok(number),
        false => Err(format!("`{word}` is not between 1 and {most}")),
    }
}

fn price(value: &str) -> Result<f64, String> {
    let price: f64 = value.parse().map_err(|_| format!("`{value}` is no price"))?;
    match price.is_finite() && price >= 0.0 {
        true => Ok(price),
        false => Err("`price` is no amount of money a minute".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Result<(String, BuilderSetting), String> {
        let arm = BuilderArgument::from_str("arm-1,slots=3,labels=big,speed=50").expect("an argument");
        let configured = [("arm-1".to_owned(), arm.said)].into();
        let argument: BuilderArgument = text.parse()?;
        let told = |problem: Diagnostic| format!("{problem} {:?} {:?}", problem.causes, problem.hints);
        argument.wanted(&configured).map_err(told)
    }

    #[test]
    fn what_is_said_of_a_builder_is_what_a_file_would_say() {
        let check = |text: &str, expected: &str| {
            let (name, setting) = wanted(text).expect(text);
            let labels: Vec<&str> = setting.labels.iter().map(|label| &*label.value).collect();
            let platforms = setting.platforms.iter().flatten().map(|one| one.value.to_string());
            let found = format!(
                "{name} {} [{}] {} {} {} {}{}",
                setting.engine.map(|engine| engine.value.to_string()).unwrap_or_default(),
                platforms.collect::<Vec<_>>().join(" "),
                setting.slots.map_or(0, |slots| slots.value),
                labels.join("+"),
                setting.disk.map_or(0, |disk| disk.value.0),
                setting.speed.map_or(0, |speed| speed.value),
                setting.certificates.map(|folder| format!(" {}", folder.value)).unwrap_or_default(),
            );
            assert_eq!(found, expected, "{text}");
        };
        check("docker", "docker docker [] 0  0 0");
        check("arm=docker,labels=gpu", "arm docker [] 0 gpu 0 0");
        check(
            "arm=ssh://build@arm-1,slots=4,labels=gpu+big,platforms=linux/arm64+linux/arm/v7,disk=2GB,price=0.1",
            "arm ssh://build@arm-1 [linux/arm64 linux/arm/v7] 4 gpu+big 2000000000 0",
        );
        check("arm-1", "arm-1  [] 3 big 0 50");
        check(
            "tcp://arm-2:2376,certificates=/etc/arm-2",
            "tcp://arm-2:2376 tcp://arm-2:2376 [] 0  0 0 /etc/arm-2",
        );
        let here = std::path::absolute("a,b").expect("a path");
        let certificates = format!("x tcp://arm-2:2376 [] 2  0 0 {}", here.display());
        check("x=tcp://arm-2:2376,certificates=a,,b,slots=2", &certificates);
        check("x=unix:///run/a,,b.sock,slots=2", "x unix:///run/a,b.sock [] 2  0 0");
        check("x=unix:///run/a,,,slots=2", "x unix:///run/a, [] 2  0 0");
        check("x=unix:///run/a,,,,b", "x unix:///run/a,,b [] 0  0 0");
        check("arm-1,slots=1024,labels=gpu", "arm-1  [] 1024 gpu 0 50");
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_would() {
        for (text, expected) in [
            ("docker,gpu", "`gpu` is no `name=value`"),
            ("docker,", "`` is no `name=value`"),
            ("docker,,slots=2", "\"docker,slots\" is no name of a builder"),
            (
                "unix:///run/a,b.sock",
                "`b.sock` is no `name=value`: a comma that is meant itself is written `,,`",
            ),
            ("x=docker,certificates=/etc/x", "docker uses no certificates"),
            ("x=ssh://arm-2,certificates=/etc/x", "ssh://arm-2 uses no certificates"),
            ("arm-1,certificates=/etc/x", "docker uses no certificates"),
            ("docker,label=gpu", "did you mean `labels`?"),
            ("docker,colour=red", "`colour` is not known: platforms, slots"),
            ("docker,labels=", "`labels` says nothing"),
            ("docker,slots=2,slots=3", "`slots` is said twice"),
            ("docker,slots=0", "`slots` is not between 1 and 1024"),
            ("docker,slots=1025", "`slots` is not between 1 and 1024"),
            ("docker,slots=many", "`many` is no number for `slots`"),
            ("docker,speed=10001", "`speed` is not between 1 and 10000"),
            ("docker,price=-1", "`price` is no amount of money"),
            ("docker,disk=9", "`9` is no amount of bytes"),
            ("docker,platforms=linux", "is no platform"),
            ("docker,platforms=linux/amd64+linux/amd64", "`linux/amd64` is said twice"),
            ("docker,count=2", "`count` is said of no builder that there is"),
            ("docker,emulates=linux/arm64", "polyarch simulate"),
            ("a b=docker,slots=2", "is no name of a builder"),
            ("arm-2,slots=2", "did you mean `arm-1`"),
            ("linux/amd64,slots=2", "is no engine known here"),
            ("graviton", "polyarch.toml has arm-1"),
            ("arm-2=dokcer", "did you mean `docker`?"),
        ] {
            let problem = wanted(text).expect_err(text);
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
