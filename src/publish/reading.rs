//! Whether tags are where they were put, as another client sees it: of a registry that shows late what it has taken it is
//! asked again for a while.

use std::time::Duration;

use crate::diag::Diagnostic;

use super::carry_out::problem;
use super::journal::Move;
use super::moves::places;
use super::publication::Target;

/// After so long tags are looked at again that are not where they were put.
const LATE: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Every tag is where it was put, but those that stay, as `repository:tag`.
///
/// # Errors
/// Where one is elsewhere after all pauses, or the target fails.
pub(super) async fn read_back(target: Target<'_>, tags: &[Move], stay: &[String]) -> Result<(), Diagnostic> {
    let fresh = Target { store: target.fresh, ..target };
    let stays = |one: &Move| stay.contains(&format!("{}:{}", one.repository, one.tag));
    let mut left: Vec<Move> = tags.iter().filter(|one| !stays(one)).cloned().collect();
    let mut pauses = LATE.iter();
    loop {
        let found = places(fresh, &left)
            .await
            .map_err(|stuck| problem(&format!("read the tag {}", stuck.reference), target, stuck.error))?;
        let wrong: Vec<_> = left.into_iter().zip(found).filter(|(one, place)| one.new != *place).collect();
        let Some((first, place)) = wrong.first() else { return Ok(()) };
        let Some(pause) = pauses.next() else {
            let reference = format!("{}/{}:{}", target.registry, first.repository, first.tag);
            return Err(match (place, &first.new) {
                (None, _) => {
                    Diagnostic::surroundings(format!("{reference} is not there after it was written"))
                }
                (Some(_), None) => {
                    Diagnostic::surroundings(format!("{reference} is there after it was removed"))
                }
                (Some(at), Some(_)) => {
                    Diagnostic::surroundings(format!("{reference} points at {at} after it was written"))
                        .because("someone else moves the same tag")
                }
            });
        };
        tokio::time::sleep(*pause).await;
        left = wrong.into_iter().map(|(one, _)| one).collect();
    }
}
