//! What waits since it has failed again and again.

use proptest::prelude::*;

use super::*;
use crate::record::Durations;
use crate::trust::CLOCKS_APART_SECONDS;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const NOW: u64 = 1_000_000_000;

fn trio(config: &str) -> Family {
    family(config, &table(&[("a", "FROM scratch\n"), ("b", "FROM a\n"), ("c", "FROM scratch\nRUN c\n")]))
}

/// What is known once a job has failed at these times.
fn failed(family: &Family, facts: &Facts, name: &str, times: impl IntoIterator<Item = u64>) -> Durations {
    let (mut durations, job) = (Durations::default(), job(name));
    let tried = &tried(family, facts)[&job];
    times.into_iter().for_each(|at| durations.failed(&job, tried, at));
    durations
}

/// The plan of a scheduled run.
fn scheduled(family: &Family, facts: &Facts) -> Plan {
    let waits = waits(family, facts, NOW);
    Plan::new(family, facts, &Request { waits, ..Request::default() })
}

fn left_out(plan: &Plan) -> BTreeMap<&str, String> {
    let jobs = plan.jobs.iter().filter_map(|(job, planned)| {
        let how = match planned.left_out.as_ref()? {
            LeftOut::Waits(wait) => wait.to_string(),
            LeftOut::With(root) => format!("with {root}"),
        };
        Some((job.unit.image.as_str(), how))
    });
    jobs.collect()
}

#[test]
fn what_fails_again_and_again_waits_longer_each_time_and_no_longer_than_a_week() {
    let family = trio("");
    let hours = [(1, 0), (2, 12), (3, 24), (4, 48), (5, 96), (6, 168), (7, 168), (500, 168)];
    for (failures, hours) in hours {
        for (ago, waits_still) in
            [(0, hours > 0), (hours * HOUR, false), ((hours * HOUR).saturating_sub(1), true)]
        {
            let waits_still = waits_still && hours > 0;
            let last = NOW - ago;
            let times = (0..failures).rev().map(|back| last - back * HOUR);
            let durations = failed(&family, &Facts::default(), "c@linux/amd64", times);
            let facts = Facts { durations, ..Facts::default() };
            let found = waits(&family, &facts, NOW);
            let wait = Wait {
                failures: u32::try_from(failures).unwrap(),
                since_seconds: last - (failures - 1) * HOUR,
                until_seconds: last + hours * HOUR,
            };
            let expected = waits_still.then(|| (job("c@linux/amd64"), wait));
            assert_eq!(found, expected.into_iter().collect(), "{failures} failures, the last {ago} s ago");
        }
    }
}

#[test]
fn what_stands_on_what_waits_is_left_out_with_it_and_nothing_else_is() {
    let family = trio("");
    let durations = failed(&family, &Facts::default(), "a@linux/amd64", [NOW - 2 * HOUR, NOW - HOUR]);
    let facts = Facts { durations, ..Facts::default() };
    let plan = scheduled(&family, &facts);
    let wait = "until 2001-09-09 12:46 UTC (failed 2 times in a row since 2001-09-08 23:46 UTC)";
    let expected = [("a", wait.to_owned()), ("b", "with a@linux/amd64".to_owned())];
    assert_eq!(left_out(&plan), expected.clone().into());
    assert!(plan.jobs[&job("c@linux/amd64")].is_done() && !plan.is_idle());
    assert_eq!(left_out(&all(&family, &facts)), BTreeMap::new(), "no other run leaves anything out");
    // What a record stands for has passed, whatever is remembered.
    let passed = Facts { durations: facts.durations.clone(), ..with_records(&family, Facts::default()) };
    assert_eq!(left_out(&scheduled(&family, &passed)), BTreeMap::new());
    // Where its image stands and its checks do not, those wait, and so does what stands on it.
    let mut checked = passed;
    checked.checks.clear();
    let plan = scheduled(&family, &checked);
    assert!(matches!(plan.jobs[&job("a@linux/amd64")].decision, Decision::Check(_)));
    assert_eq!(left_out(&plan), expected.clone().into());
}

#[test]
fn a_change_of_anything_ends_the_wait_and_a_refresh_does_not() {
    let before = "tests = [{ run = \"id\" }]\n";
    let texts = [("a", "FROM x.example/x:1\n"), ("b", "FROM a\nCOPY f /\n")];
    let own = family(before, &table(&texts));
    let (base_of, file_of) = ("x.example/x:1".parse().unwrap(), job("b@linux/amd64"));
    let facts_of = |bytes: &[u8], file: &str| {
        let mut facts = Facts::default();
        facts.bases.insert(Clone::clone(&base_of), base(bytes));
        facts.files.insert(file_of.clone(), [("f".to_owned(), file.to_owned())].into());
        facts
    };
    let facts = || facts_of(b"1", "0644 x");
    let times = [NOW - 2 * HOUR, NOW - HOUR];
    let waits_in = |family: &Family, mut now: Facts| {
        now.durations = failed(&own, &facts(), "b@linux/amd64", times);
        left_out(&scheduled(family, &now)).len()
    };
    let changed = |config: &str, texts: &[(&str, &str)]| waits_in(&family(config, &table(texts)), facts());
    assert_eq!(waits_in(&own, facts()), 1, "nothing has changed");
    let refreshed =
        Facts { epochs: [(job("a@linux/amd64"), 3), (job("b@linux/amd64"), 7)].into(), ..facts() };
    assert_eq!(waits_in(&own, refreshed), 1, "a refresh is what a scheduled run does every time");
    let rows = [
        ("its Dockerfile", changed(before, &[texts[0], ("b", "FROM a\nCOPY f /\nRUN true\n")])),
        ("its parent's", changed(before, &[("a", "FROM x.example/x:1\nRUN true\n"), texts[1]])),
        ("the base", waits_in(&own, facts_of(b"2", "0644 x"))),
        ("a file", waits_in(&own, facts_of(b"1", "0644 y"))),
        ("a test", changed("tests = [{ run = \"id -u\" }]\n", &texts)),
        ("a limit", changed(&format!("{before}[image.b]\ntime-limit = \"3h\"\n"), &texts)),
    ];
    for (what, left_out) in rows {
        assert_eq!(left_out, 0, "{what} has changed");
    }
}

proptest! {
    #[test]
    fn a_wait_is_bounded_grows_with_failures_and_ends_with_time_and_with_a_change(
        times in 0..u32::MAX,
        since_seconds in any::<u64>(),
        last_seconds in prop_oneof![any::<u64>(), NOW - 8 * DAY..NOW + DAY],
        later in 0..8 * DAY,
    ) {
        use crate::record::Failing;
        let tried = image("tried");
        let failing = Failing { tried: tried.clone(), times, since_seconds, last_seconds };
        let wait = patience::Wait::of(&failing, &tried, NOW);
        // Whatever is remembered, from the future too: nobody waits for longer than a week.
        let bound = NOW + 7 * DAY + CLOCKS_APART_SECONDS;
        prop_assert!(wait.is_none_or(|wait| wait.until_seconds <= bound && wait.until_seconds > NOW), "{:?}", wait);
        prop_assert!(wait.is_none() || times >= 2);
        // Once more is at least as long.
        let more = Failing { times: times + 1, ..failing.clone() };
        let until = |wait: Option<Wait>| wait.map_or(0, |wait| wait.until_seconds);
        prop_assert!(until(patience::Wait::of(&more, &tried, NOW)) >= until(wait));
        // It ends at its time and does not begin again, and at once where another is to be tried.
        if let Some(wait) = wait {
            let then = patience::Wait::of(&failing, &tried, NOW + later);
            prop_assert_eq!(then, (NOW + later < wait.until_seconds).then_some(wait));
        }
        prop_assert_eq!(patience::Wait::of(&failing, &image("another"), NOW), None);
    }
}
