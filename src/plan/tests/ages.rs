//! How old a record may be, and what is refreshed.

use super::*;

const HOUR: u64 = 3600;
const NOW: u64 = 1_000_000_000;

fn trio(config: &str) -> Family {
    family(config, &table(&[("a", "FROM scratch\n"), ("b", "FROM a\n"), ("c", "FROM scratch\nRUN c\n")]))
}

/// Facts in which every job has passed so many hours ago.
fn passed_before(family: &Family, facts: Facts, hours: i64) -> Facts {
    let mut facts = with_records(family, facts);
    facts.now_seconds = Some(NOW);
    let built_at_seconds = NOW.checked_add_signed(-hours * 3600).unwrap();
    facts.images.values_mut().for_each(|record| record.built_at_seconds = built_at_seconds);
    facts
}

fn reasons(plan: &Plan, name: &str) -> Vec<String> {
    match &plan.jobs[&job(name)].decision {
        Decision::Build(reasons) => reasons.iter().map(ToString::to_string).collect(),
        Decision::Reuse(_) | Decision::Check(_) => Vec::new(),
    }
}

#[test]
fn s3_22_a_record_stands_at_47_hours_and_not_at_49() {
    let family = trio("fresh-for = \"48h\"\n[image.c]\nfresh-for = \"28d\"\n");
    let plan = all(&family, &passed_before(&family, Facts::default(), 47));
    assert_eq!((plan.reused(), plan.to_build()), (3, 0));
    let facts = passed_before(&family, Facts::default(), 49);
    let plan = all(&family, &facts);
    expect!["its record is 2 d 1 h old, and fresh for 2 d"]
        .assert_eq(&reasons(&plan, "a@linux/amd64").join("; "));
    expect!["its record is 2 d 1 h old, and fresh for 2 d; a@linux/amd64 is built"]
        .assert_eq(&reasons(&plan, "b@linux/amd64").join("; "));
    assert_eq!((plan.reused(), plan.to_build()), (1, 2), "an image's own word counts before the family's");
    let ageless = Facts { now_seconds: None, ..facts };
    assert_eq!(all(&family, &ageless).reused(), 3, "where age counts for nothing");
    let family = trio("");
    assert_eq!(all(&family, &passed_before(&family, Facts::default(), 9_000)).reused(), 3, "any age");
}

#[test]
fn f_s13_a_record_from_the_future_is_not_fresh_and_is_warned_of() {
    let family = trio("[image.a]\nfresh-for = \"48h\"\n[image.c]\nfresh-for = \"48h\"\n");
    let mut facts = passed_before(&family, Facts::default(), -24 * 365);
    let of_c = facts.images.values_mut().find(|record| record.job.starts_with("c@")).unwrap();
    // Two machines never agree to the second.
    of_c.built_at_seconds = NOW + 60;
    let plan = all(&family, &facts);
    expect!["its record is from the future, 365 d from now"]
        .assert_eq(&reasons(&plan, "a@linux/amd64").join("; "));
    assert_eq!(reasons(&plan, "b@linux/amd64"), ["a@linux/amd64 is built"]);
    assert_eq!((plan.reused(), plan.to_build()), (1, 2));
    let warning = from_the_future(&plan).expect("a warning").to_string();
    assert!(warning.contains("a@linux/amd64") && !warning.contains("b@"), "{warning}");
    assert_eq!(from_the_future(&all(&family, &passed_before(&family, Facts::default(), 1))), None);
}

#[test]
fn f_d14_a_refresh_takes_the_next_epoch_and_makes_what_stands_on_it_new() {
    let family = trio("");
    let mut facts = Facts::default();
    facts.epochs.insert(job("a@linux/amd64"), 4);
    let facts = passed_before(&family, facts, 1);
    let before = all(&family, &facts);
    assert_eq!(before.reused(), 3);
    let request = Request { refresh: [job("a@linux/amd64")].into(), ..Request::default() };
    let plan = Plan::new(&family, &facts, &request);
    let of = |plan: &Plan, name: &str| {
        let planned = &plan.jobs[&job(name)];
        (planned.key.clone(), planned.next_epoch)
    };
    assert_eq!(of(&plan, "a@linux/amd64").1, Some(5));
    assert_eq!(reasons(&plan, "a@linux/amd64"), ["a refresh is asked for"]);
    assert_eq!((of(&plan, "b@linux/amd64").1, reasons(&plan, "b@linux/amd64").len()), (None, 1));
    for (name, is_new) in [("a@linux/amd64", true), ("b@linux/amd64", true), ("c@linux/amd64", false)] {
        assert_eq!(of(&plan, name).0 != of(&before, name).0, is_new, "{name}");
    }
    // What every other run finds once the epoch is written.
    let mut facts = Facts::default();
    facts.epochs.insert(job("a@linux/amd64"), 5);
    let after = all(&family, &facts);
    for name in ["a@linux/amd64", "b@linux/amd64", "c@linux/amd64"] {
        assert_eq!(of(&after, name).0, of(&plan, name).0, "{name}");
    }
}

#[test]
fn law_2_what_is_not_fresh_is_not_built_under_its_old_key() {
    let family = trio("fresh-for = \"1h\"\n");
    let facts = passed_before(&family, Facts::default(), 2);
    for planned in all(&family, &facts).jobs.values() {
        assert_eq!(planned.next_epoch, Some(1));
        assert!(!facts.images.contains_key(&planned.key), "the engine would find it all in its cache");
    }
}

#[test]
fn spans_of_time_are_told_in_two_units() {
    let table = [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (HOUR, "1 h"), (90_061, "1 d 1 h")];
    for (seconds, told) in table {
        assert_eq!(fresh::span(seconds), told);
    }
}
