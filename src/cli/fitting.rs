//! Which jobs no builder takes of those that are thought of, by the scheduler's own judgement.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Problems, Result, count, size};
use crate::family::JobId;
use crate::run::whole_label;
use crate::schedule::{Job, Kind, Needs};

/// How many jobs of one lack are named.
const NAMED: usize = 5;

/// Every job must have a builder.
///
/// # Errors
/// Where some have none: what they lack, with their names.
pub(super) fn check(order: &[JobId], jobs: &[Job], kinds: &[Kind]) -> Result<()> {
    let mut lacking = BTreeMap::<String, (Vec<&JobId>, Vec<String>)>::new();
    for (job, needs) in order.iter().zip(jobs).filter_map(|(job, place)| Some((job, place.needs.as_ref()?))) {
        if !kinds.iter().any(|kind| kind.machine.takes(needs)) {
            let (lack, hints) = lack(job, needs, kinds);
            lacking.entry(lack).or_insert((Vec::new(), hints)).0.push(job);
        }
    }
    let problems = lacking.into_iter().map(|(lack, (jobs, hints))| {
        let need = if jobs.len() == 1 { "needs" } else { "need" };
        let problem =
            Diagnostic::request(format!("{lack}, which {} of the plan {need}", count(jobs.len(), "job")));
        hints.into_iter().fold(problem.because(names(&jobs)), Diagnostic::hint)
    });
    Problems::check(problems.collect::<Vec<_>>())
}

fn names(jobs: &[&JobId]) -> String {
    let named: Vec<String> = jobs.iter().take(NAMED).map(ToString::to_string).collect();
    match jobs.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What no builder has of what a job needs, and what to think of that has it.
fn lack(job: &JobId, needs: &Needs, kinds: &[Kind]) -> (String, Vec<String>) {
    let platform = &needs.platform;
    let is_native = kinds.iter().any(|kind| kind.machine.native.contains(platform));
    let is_emulated = kinds.iter().any(|kind| kind.machine.emulated.contains(platform));
    let emulating = format!("--builder linux/amd64,emulates={platform} --emulate allow");
    if !is_native && !is_emulated {
        let hints = [
            format!("think of one: --builder {platform}"),
            format!("or of one that emulates it: {emulating}"),
        ];
        return (format!("no builder runs {platform}"), hints.into());
    }
    if !is_native && !needs.may_emulate {
        let hints =
            ["allow that: --emulate allow".to_owned(), format!("or think of one: --builder {platform}")];
        return (format!("no builder runs {platform} without emulation"), hints.into());
    }
    let whole = whole_label(&job.unit);
    let labels: Vec<&str> =
        needs.labels.iter().filter(|label| **label != whole).map(String::as_str).collect();
    if needs.labels.contains(&whole) && !kinds.iter().any(|kind| kind.machine.labels.contains(&whole)) {
        let hint =
            "think of one that emulates what it does not run: --builder linux/amd64,emulates=linux/arm64";
        return (format!("no builder runs {whole}"), vec![hint.to_owned()]);
    }
    let has = |kind: &Kind| labels.iter().all(|label| kind.machine.labels.contains(*label));
    let runs =
        |kind: &&Kind| kind.machine.native.contains(platform) || kind.machine.emulated.contains(platform);
    if !kinds.iter().filter(runs).any(has) {
        let hints = [
            format!("think of one: --builder {platform},labels={}", labels.join("+")),
            "or say which has them, for no engine is asked here what it has: `labels` of [builder.X]"
                .to_owned(),
        ];
        return (format!("no builder of {platform} has the labels {}", labels.join(", ")), hints.into());
    }
    let all_but_room = Needs { disk: 0, ..needs.clone() };
    if kinds.iter().any(|kind| kind.machine.takes(&all_but_room)) {
        let hint = "give one more of it: `disk` of [builder.X] in polyarch.toml".to_owned();
        return (format!("no builder of {platform} has room for {}", size(needs.disk)), vec![hint]);
    }
    let natively = if is_emulated && !needs.may_emulate { " without emulation" } else { "" };
    let labels = labels.iter().map(|label| format!("`{label}`"));
    let together: Vec<String> = labels
        .chain(needs.labels.contains(&whole).then(|| whole.clone()))
        .chain([format!("{platform}{natively}")])
        .collect();
    let hint =
        "think of one that has all of it, or ask for less: `needs` and `emulate` of the image".to_owned();
    (format!("no one builder has all of {}", together.join(", ")), vec![hint])
}
