//! Runs that may have left something on their builders: a file in the folder of each says so until that is cleared away.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use crate::diag::{Diagnostic, Result};
use crate::engine::RunId;
use crate::oci::Digest;
use crate::run::Builder;

use super::plan::Planning;
use super::recorder::Recorder;
use super::{Context, fleet};

/// The file; in it stands which machine the run was on.
const NAME: &str = "at-builders";

/// From now on a run may leave something on builders.
pub(super) fn may_be_left(run: &Path) {
    // Without it the next run that builds sweeps all the same.
    let _ = std::fs::write(run.join(NAME), this_machine().unwrap_or_default());
}

/// A run has left nothing on builders.
pub(super) fn is_cleared(run: &Path) {
    let _ = std::fs::remove_file(run.join(NAME));
}

/// Runs of a store that are over and may have left something on their builders.
#[derive(Debug, Default)]
pub(super) struct Dead {
    folders: Vec<PathBuf>,
    /// Those of this machine, whichever start of it they were of: an engine elsewhere cannot tell that they are over.
    pub(super) of_this_machine: BTreeSet<RunId>,
}

impl Dead {
    /// Those of a store: nobody holds their locks.
    pub(super) fn of(store: &Path) -> Self {
        let mut dead = Self::default();
        let this = this_machine();
        for entry in std::fs::read_dir(store.join("runs")).into_iter().flatten().flatten() {
            let folder = entry.path();
            let Ok(machine) = std::fs::read_to_string(folder.join(NAME)) else { continue };
            if !File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok()) {
                continue;
            }
            if this.as_ref() == Some(&machine) {
                dead.of_this_machine.extend(entry.file_name().into_string().ok().map(RunId));
            }
            dead.folders.push(folder);
        }
        dead
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Remove what they have left, where nothing is to be built: nothing fails if that cannot be done now.
    pub(super) async fn sweep(
        &self,
        context: &Context,
        planning: &Planning,
        wanted: &fleet::Wanted,
        recorder: &Recorder,
    ) -> Result<()> {
        let (workspace, shelf) = (&planning.workspace, &planning.shelf);
        let scratch = recorder.run_folder().scratch;
        let over = self.of_this_machine.clone();
        let ground = fleet::Ground { run: &recorder.run, scratch: &scratch, stock: shelf.stock(), over };
        let served = shelf.serve().await?;
        let (root, configured) = (&workspace.root, &workspace.builders);
        let (builders, mut problems) =
            fleet::each(context, root, configured, wanted, &ground, &served.address).await?;
        problems.extend(sweep(&builders).await);
        if problems.is_empty() {
            self.are_cleared();
        }
        for problem in problems {
            let text = "a run that was killed may have left something on a builder that cannot be asked now";
            let warning = Diagnostic::warning(text).because_of(&problem);
            context.ui.warning(&warning.hint("once it answers: polyarch clean"));
        }
        Ok(())
    }

    /// What they left is removed.
    pub(super) fn are_cleared(&self) {
        self.folders.iter().for_each(|run| is_cleared(run));
    }
}

/// Remove what runs that are over have left on builders; what cannot be removed.
pub(super) async fn sweep(builders: &[Builder]) -> Vec<Diagnostic> {
    let sweeps = builders.iter().map(async |builder| {
        builder.engine.sweep(None).await?;
        builder.engine.sweep_pulled(&builder.store).await
    });
    join_all(sweeps).await.into_iter().filter_map(std::result::Result::err).collect()
}

/// What tells this machine from others that use the same store, through every start; `None` where nothing does. What the
/// system calls itself by is nobody else's to know, so that only its digest is written down.
fn this_machine() -> Option<String> {
    let read = |file| std::fs::read_to_string(file).ok().filter(|text| !text.trim().is_empty());
    let (id, name) = (read("/etc/machine-id")?, read("/proc/sys/kernel/hostname")?);
    Some(Digest::of(format!("polyarch {id} {name}").as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_x2_only_what_nobody_holds_is_dead_and_only_what_was_here_is_of_this_machine() {
        let store = tempfile::tempdir().unwrap();
        let make = |name: &str, machine: Option<&str>| {
            let folder = store.path().join("runs").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let lock = File::create(folder.join("lock")).unwrap();
            may_be_left(&folder);
            machine.into_iter().for_each(|machine| std::fs::write(folder.join(NAME), machine).unwrap());
            (folder, lock)
        };
        let ((here, _), (elsewhere, _), (living, lock)) =
            (make("here", None), make("elsewhere", Some("another")), make("living", None));
        let (cleared, _) = make("cleared", None);
        is_cleared(&cleared);
        lock.lock().unwrap();
        let dead = Dead::of(store.path());
        assert_eq!(dead.folders.iter().collect::<BTreeSet<_>>(), [&here, &elsewhere].into());
        assert_eq!(dead.of_this_machine, [RunId("here".to_owned())].into());
        dead.are_cleared();
        assert!(Dead::of(store.path()).is_empty() && living.join(NAME).exists());
    }
}
