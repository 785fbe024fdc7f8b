//! What a run does not try: images that wait since they have failed again and again, and all that waits for them. They
//! end before anything begins, as what has failed and what was skipped because of it.

use super::{Ran, Session};
use crate::diag::{Diagnostic, Kind};
use crate::event::{EventKind, Outcome};
use crate::family::JobId;
use crate::plan::{LeftOut, Plan, Wait};

/// Tell of them. What stands on one of them by a barrier alone is skipped as well.
pub(super) fn leave_out(session: &Session<'_>, plan: &Plan, ran: &mut Ran) {
    let end = |job: &JobId, outcome: Outcome| {
        let job = job.to_string();
        (session.show)(EventKind::JobEnded { job, outcome, milliseconds: 0, engine_milliseconds: 0 });
    };
    // Parents come first.
    for job in &plan.order {
        let planned = &plan.jobs[job];
        if let Some(LeftOut::Waits(wait)) = &planned.left_out {
            let problem = waits(job, wait);
            let (reason, waiting) = (problem.message.clone(), Some(wait.into()));
            end(job, Outcome::Failed { reason, log: None, image: None, waiting });
            ran.failed.insert(job.clone(), problem);
            continue;
        }
        let beside = plan.beside(session.family, job, session.options.barrier);
        let because = planned.parents.iter().chain(&beside).find_map(|other| {
            let failed = ran.failed.get_key_value(other).map(|(job, _)| job);
            failed.or_else(|| ran.skipped.get(other))
        });
        if let Some(because) = because.cloned() {
            end(job, Outcome::Skipped { because: because.to_string() });
            ran.skipped.insert(job.clone(), because);
        }
    }
}

/// It counts as if it had failed in this run.
fn waits(job: &JobId, wait: &Wait) -> Diagnostic {
    Diagnostic::new(Kind::Failed, format!("{job} waits {wait}"))
        .because("nothing has changed that it is made of")
        .hint(format!("try it now: polyarch build {job}"))
}
