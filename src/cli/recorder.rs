//! The log of a run: every event as a line of JSON, and on the screen.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::diag::{Diagnostic, Result};
use crate::engine::{RunId, private_folder};
use crate::event::{Event, EventKind};
use crate::report::PlanView;
use crate::run::RunFolder;
use crate::ui::Ui;

/// The plan that a run carries out, in its folder.
pub(super) const PLAN_FILE: &str = "plan.json";

/// The time in milliseconds since 1970-01-01 UTC.
#[expect(clippy::disallowed_methods, reason = "the one clock: everything else is told the time")]
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Shows events on the screen alone, as of now, for commands that keep no log of them.
pub(super) fn shown(ui: &Arc<Ui>) -> impl Fn(EventKind) + Send + Sync + use<> {
    let ui = ui.clone();
    move |kind| ui.show(&Event { at_milliseconds: now(), kind })
}

/// One run's folder in the store, with its log. The folder is locked as long as this lives.
pub(super) struct Recorder {
    /// The run.
    pub(super) run: RunId,
    /// Where everything of it stands.
    pub(super) folder: PathBuf,
    events: Mutex<(File, Vec<Event>)>,
    ui: Arc<Ui>,
    _lock: File,
}

impl Recorder {
    /// Begin a run in a store's folder.
    ///
    /// # Errors
    /// Where its folder cannot be made.
    pub(super) fn begin(store: &Path, ui: Arc<Ui>) -> Result<Arc<Self>> {
        let runs = store.join("runs");
        let mut number = now();
        loop {
            let run = RunId::of_this_process(&name(number));
            let folder = runs.join(&run.0);
            private_folder(&runs).and_then(|()| own(&runs)).map_err(|error| failed(&runs, &error))?;
            match std::fs::create_dir(&folder) {
                Ok(()) => return Self::begin_in(run, folder, ui),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(failed(&folder, &error)),
            }
        }
    }

    fn begin_in(run: RunId, folder: PathBuf, ui: Arc<Ui>) -> Result<Arc<Self>> {
        let make = || -> std::io::Result<(File, File)> {
            let lock = File::create(folder.join("lock"))?;
            lock.lock()?;
            private_folder(&folder.join("logs"))?;
            private_folder(&folder.join("tmp"))?;
            let log = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(folder.join("events.jsonl"))?;
            Ok((lock, log))
        };
        let (lock, log) = make().map_err(|error| failed(&folder, &error))?;
        Ok(Arc::new(Self { run, folder, events: Mutex::new((log, Vec::new())), ui, _lock: lock }))
    }

    /// The folders of its jobs.
    pub(super) fn run_folder(&self) -> RunFolder {
        RunFolder { logs: self.folder.join("logs"), scratch: self.folder.join("tmp") }
    }

    /// An event: into the log, and on the screen.
    pub(super) fn show(&self, kind: EventKind) {
        let event = Event { at_milliseconds: now(), kind };
        self.ui.show(&event);
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(mut line) = serde_json::to_vec(&event) {
            line.push(b'\n');
            // A log that cannot be written must not end the run; its report says what it knows.
            let _ = events.0.write_all(&line);
        }
        events.1.push(event);
    }

    /// Keep the plan that is carried out beside the log. A report of the run does without it where the disk fails.
    pub(super) fn keep_plan(&self, plan: &PlanView) {
        let _ = std::fs::write(self.folder.join(PLAN_FILE), plan.to_json());
    }

    /// All events so far.
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Remove all of the run: it has built nothing that anybody would look at.
    pub(super) fn discard(&self) {
        remove(&self.folder);
    }

    /// Remove the files of its jobs.
    pub(super) fn clean(&self) {
        remove(&self.folder.join("tmp"));
    }
}

/// Runs of this store that are no more: nobody holds their lock. Their temporary files go.
pub(super) fn sweep_dead(store: &Path) {
    let runs = store.join("runs");
    if own(&runs).is_err() {
        return;
    }
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    for entry in entries {
        let Ok(lock) = File::open(entry.path().join("lock")) else { continue };
        let temporary = entry.path().join("tmp");
        if temporary.exists() && lock.try_lock().is_ok() {
            remove(&temporary);
        }
    }
}

/// The runs of a store that have a log, the oldest first.
pub(super) fn logged(runs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let logged = entries.filter(|entry| entry.path().join("events.jsonl").is_file());
    let mut names: Vec<String> = logged.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    // The times in the names may have another number of digits one day.
    names.sort_by_key(|name| (name.find('-'), name.clone()));
    names
}

/// Whether a run of this store is no more: its process is gone, and nobody holds its lock.
pub(super) fn is_over(store: &Path, run: &RunId) -> bool {
    let lock = File::open(store.join("runs").join(&run.0).join("lock"));
    let is_held = lock.is_ok_and(|lock| lock.try_lock().is_err());
    run.is_over(true) && !is_held
}

/// TM30: a folder that another user made, or a link in its place, is not written to and nothing in it is removed.
fn own(folder: &Path) -> std::io::Result<()> {
    let refused = |why: &str| Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why));
    let metadata = std::fs::symlink_metadata(folder)?;
    if !metadata.is_dir() {
        return refused("it is a link or a file, and no folder");
    }
    match metadata.uid() == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => refused("it belongs to another user"),
    }
}

/// Remove a folder of this user's; a link in its place, or another user's folder, stays.
pub(super) fn remove_own(folder: &Path) {
    if own(folder).is_ok() {
        remove(folder);
    }
}

fn remove(folder: &Path) {
    // What cannot be removed now is removed by the next run.
    let _ = std::fs::remove_dir_all(folder);
}

/// A name that sorts by time: milliseconds in base 36.
fn name(mut milliseconds: u64) -> String {
    let mut digits = Vec::new();
    while milliseconds > 0 {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(milliseconds % 36) as usize]);
        milliseconds /= 36;
    }
    digits.iter().rev().map(|digit| char::from(*digit)).collect()
}

fn failed(folder: &Path, error: &std::io::Error) -> crate::diag::Problems {
    Diagnostic::surroundings(format!("make the folder of the run, {}", folder.display()))
        .caused_by(error)
        .hint("choose another folder, as in: polyarch --store ./store plan")
        .into()
}
