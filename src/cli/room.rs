//! Room in the store while a run fills it.

use std::convert::Infallible;
use std::time::Duration;

use crate::diag::{Diagnostic, count};
use crate::oci::Layout;
use crate::report::size;

use super::Context;

/// So often a run looks at how much room there is.
const LOOK: Duration = Duration::from_secs(5);
/// So long it waits where nothing is left that could go.
const PAUSE: Duration = Duration::from_secs(60);
/// The first part of the names of the repositories that hold what was built, and the records of it.
pub(super) const BUILT: &str = "scopes";

/// The same work, and room is made in the store meanwhile where there is little.
pub(super) async fn keeping<T>(context: &Context, store: &Layout, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = keep(context, store) => match never {},
    }
}

async fn keep(context: &Context, store: &Layout) -> Infallible {
    loop {
        let is_room = make(context, store).await;
        tokio::time::sleep(if is_room { LOOK } else { PAUSE }).await;
    }
}

/// Make room in a store where there is little, and say so; whether there is room.
pub(super) async fn make(context: &Context, store: &Layout) -> bool {
    let made = store.make_room(BUILT).await;
    let warn = |warning: Diagnostic| context.ui.warning(&warning);
    let cleared = match made {
        Ok(Some(cleared)) => cleared,
        Ok(None) => return true,
        Err(error) => {
            warn(Diagnostic::warning("make room in the store").caused_by(&error));
            return false;
        }
    };
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let (free, is_little) = store.room().map_or((0, true), |room| (room.free, room.is_little()));
    context.ui.note(&format!(
        "little room on the disk of the store: removed {} ({}) and {}; {} free now",
        count(number(cleared.files), "file"),
        size(cleared.bytes),
        count(number(cleared.tags), "unused record"),
        size(free),
    ));
    if is_little {
        warn(
            Diagnostic::warning(format!("the disk of the store has {} left", size(free)))
                .because("what is in it is needed, or was a short while ago")
                .hint("choose a folder on a larger disk: --store DIR"),
        );
    }
    !is_little
}
