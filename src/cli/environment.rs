//! The only place that reads the environment: everything else is told.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::ci;
use crate::defence::{Defence, stands};
use crate::ui::{Colour, Display, Ui};

/// The variables that count, and what kind of place the streams are.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The environment of this process, as it is now.
    pub(super) fn read() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// The value of a variable, where it has one that is not empty.
    pub(super) fn value(&self, name: &str) -> Option<OsString> {
        self.variables.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty()).cloned()
    }

    /// The value of a variable as text; `None` where it is not set or no text, empty where it is empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.variables.get(std::ffi::OsStr::new(name))?.to_str().map(str::to_owned)
    }

    fn chosen(&self, names: &[&str]) -> impl Iterator<Item = (OsString, OsString)> {
        names.iter().filter_map(|name| Some((OsString::from(name), self.value(name)?)))
    }

    /// What a client of an engine may see: nothing else reaches it. `DOCKER_TLS_VERIFY` is not of it: with that a client
    /// wants certificates for the socket of an engine too.
    pub(super) fn passed_on(&self) -> BTreeMap<OsString, OsString> {
        const NAMES: &[&str] = &[
            "HOME",
            "USER",
            "LANG",
            "LC_ALL",
            "TMPDIR",
            "XDG_RUNTIME_DIR",
            "SSH_AUTH_SOCK",
            "SSH_AGENT_PID",
            "KUBECONFIG",
            "KUBERNETES_SERVICE_HOST",
            "KUBERNETES_SERVICE_PORT",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
        ];
        self.chosen(NAMES).collect()
    }

    /// What Podman and Buildah are given: as [`Self::passed_on`], and how the person has set up storage and isolation.
    pub(super) fn of_containers(&self) -> BTreeMap<OsString, OsString> {
        const NAMES: &[&str] = &[
            "BUILDAH_ISOLATION",
            "CONTAINERS_CONF",
            "CONTAINERS_STORAGE_CONF",
            "STORAGE_DRIVER",
            "STORAGE_OPTS",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "_BUILDAH_STARTED_IN_USERNS",
        ];
        self.passed_on().into_iter().chain(self.chosen(NAMES)).collect()
    }

    /// What Git is given: as [`Self::passed_on`], and how the person has set up its way to repositories.
    pub(super) fn of_git(&self) -> BTreeMap<OsString, OsString> {
        const NAMES: &[&str] = &[
            "ALL_PROXY",
            "GIT_CONFIG_GLOBAL",
            "GIT_CONFIG_SYSTEM",
            "GIT_SSH_COMMAND",
            "GIT_SSL_CAINFO",
            "SSL_CERT_FILE",
            "XDG_CONFIG_HOME",
            "all_proxy",
            "http_proxy",
            "https_proxy",
            "no_proxy",
        ];
        self.passed_on().into_iter().chain(self.chosen(NAMES)).collect()
    }

    /// The whole environment, for tests that a person runs on this machine.
    pub(super) fn whole(&self) -> BTreeMap<OsString, OsString> {
        self.variables.clone()
    }

    /// What a program may see that strangers wrote: nothing that could be a secret, or lead to one.
    pub(super) fn harmless(&self) -> BTreeMap<OsString, OsString> {
        const NAMES: &[&str] = &[
            "PATH",
            "HOME",
            "USER",
            "LANG",
            "LC_ALL",
            "TMPDIR",
            "TZ",
            "CI",
            "DOCKER_HOST",
            "XDG_RUNTIME_DIR",
        ];
        self.chosen(NAMES).collect()
    }

    /// Where programs are looked for.
    pub(super) fn search_path(&self) -> OsString {
        self.value("PATH").unwrap_or_default()
    }

    /// The user's folder for data: XDG base directory specification.
    pub(super) fn data_folder(&self) -> Option<PathBuf> {
        let own = self.value("XDG_DATA_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        own.or_else(|| Some(self.home()?.join(".local/share")))
    }

    /// The folder of what may be lost at any time (XDG Base Directory specification).
    pub(super) fn cache_folder(&self) -> Option<PathBuf> {
        let own = self.value("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        own.or_else(|| Some(self.home()?.join(".cache")))
    }

    /// The user's home folder.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.value("HOME").map(PathBuf::from)
    }

    /// The folder of the user's Docker configuration.
    pub(super) fn docker_folder(&self) -> Option<PathBuf> {
        self.value("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(self.home()?.join(".docker")))
    }

    /// The files that may hold registry passwords, the first that names a registry counts.
    pub(super) fn credential_files(&self) -> Vec<PathBuf> {
        let runtime =
            self.value("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("containers/auth.json"));
        let chosen = self.value("REGISTRY_AUTH_FILE").map(PathBuf::from);
        let docker = self.docker_folder().map(|folder| folder.join("config.json"));
        chosen.into_iter().chain(docker).chain(runtime).collect()
    }

    /// Whether talk may be coloured: a terminal, and nobody said no.
    pub(super) fn colour_wanted(&self) -> bool {
        self.value("NO_COLOR").is_none() && self.interactive()
    }

    /// What speaks to the person.
    pub(super) fn ui(&self, colour: bool, quiet: bool) -> Ui {
        let columns = self.text("COLUMNS").and_then(|columns| columns.parse().ok()).unwrap_or(100);
        let display = match quiet {
            true => Display::Quiet,
            false if self.interactive() => Display::Live { columns },
            false => Display::Plain,
        };
        let colour = if colour { Colour::Always } else { Colour::Never };
        let ui = Ui::new(Box::new(std::io::stdout()), Box::new(std::io::stderr()), colour, display);
        match ci::beginning(&|name| self.text(name)) {
            Some(_) if stands(Defence::LogCommands) => ui.escaping(ci::harmless),
            _ => ui,
        }
    }

    /// Whether a person watches: standard error is a terminal that can move its cursor.
    pub(super) fn interactive(&self) -> bool {
        let dumb = self.text("TERM").is_none_or(|terminal| terminal == "dumb");
        let service = self.value("CI").is_some();
        std::io::stderr().is_terminal() && !dumb && !service
    }
}
