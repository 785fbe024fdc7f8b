//! Which records that came to stand since a plan was made are taken over (F-X1).

use super::*;

const NOW: u64 = 1_000_000;

fn pair() -> Family {
    family("fresh-for = \"48h\"\n", &table(&[("a", "FROM scratch\n"), ("b", "FROM a\n")]))
}

/// Whether what the other run has made of a job is taken over, in a run that began at [`NOW`] with these images of parents.
fn takes(plan: &Plan, family: &Family, name: &str, parent: &str, change: impl Fn(&mut ImageRecord)) -> bool {
    let job = job(name);
    let planned = &plan.jobs[&job];
    let recipe = family.recipe(&job.unit).unwrap();
    let units: Vec<&Unit> = planned.parents.iter().map(|parent| &parent.unit).collect();
    let parents = units.iter().map(|unit| ((*unit).clone(), image(parent))).collect();
    let names: Vec<String> = units.iter().map(ToString::to_string).collect();
    let names: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "a")).collect();
    let mut made = ImageRecord { built_at_seconds: NOW + 5, ..record(&job, planned, &names) };
    change(&mut made);
    let look =
        SecondLook { planned, recipe, parents: &parents, began_seconds: NOW, now_seconds: Some(NOW + 9) };
    assert!(look.may_find() || !look.takes(&made));
    look.takes(&made)
}

#[test]
fn f_x1_law_3_what_others_have_made_counts_by_the_rules_of_the_plan() {
    let family = pair();
    let plan = all(&family, &Facts::default());
    let as_it_is = |_: &mut ImageRecord| {};
    assert!(takes(&plan, &family, "a@linux/amd64", "a", as_it_is));
    assert!(takes(&plan, &family, "b@linux/amd64", "a", as_it_is));
    assert!(!takes(&plan, &family, "b@linux/amd64", "another", as_it_is), "it stands on another parent");
    let emulated = |record: &mut ImageRecord| record.emulated = true;
    assert!(!takes(&plan, &family, "a@linux/amd64", "a", emulated));
    let request = Request { emulation: Some(Emulation::Allowed), ..Request::default() };
    let allowed = Plan::new(&family, &Facts::default(), &request);
    assert!(takes(&allowed, &family, "a@linux/amd64", "a", emulated));
    let at = |seconds: u64| move |record: &mut ImageRecord| record.built_at_seconds = seconds;
    assert!(takes(&plan, &family, "a@linux/amd64", "a", at(NOW - 47 * 3600)), "brought from elsewhere");
    assert!(!takes(&plan, &family, "a@linux/amd64", "a", at(NOW - 49 * 3600)), "older than `fresh-for` says");
}

#[test]
fn f_x1_what_is_asked_for_anew_is_taken_over_only_where_it_was_made_since() {
    let family = pair();
    let facts = with_records(&family, Facts::default());
    let began = |seconds: u64| move |record: &mut ImageRecord| record.built_at_seconds = seconds;
    let refreshed = Request { refresh: family.jobs().collect(), ..Request::default() };
    let refreshed = Plan::new(&family, &facts, &refreshed);
    assert!(takes(&refreshed, &family, "a@linux/amd64", "a", began(NOW)), "a refresh of the same time");
    // What a refresh has left that failed its tests an hour ago.
    assert!(!takes(&refreshed, &family, "a@linux/amd64", "a", began(NOW - 3600)));
    let old = Facts { now_seconds: Some(NOW), ..with_records(&family, Facts::default()) };
    let by_age = all(&family, &old);
    assert!(matches!(&by_age.jobs[&job("a@linux/amd64")].decision, Decision::Build(_)));
    assert!(takes(&by_age, &family, "a@linux/amd64", "a", began(NOW)));
    assert!(!takes(&by_age, &family, "a@linux/amd64", "a", began(NOW - 1)));

    let asked = Plan::new(&family, &facts, &Request { no_reuse: true, ..Request::default() });
    assert!(!takes(&asked, &family, "a@linux/amd64", "a", began(NOW)), "--no-reuse takes nothing");
    let slow = Request { slow: [job("a@linux/amd64")].into(), ..Request::default() };
    let slow = Plan::new(&family, &facts, &slow);
    assert!(!takes(&slow, &family, "a@linux/amd64", "a", began(NOW)), "it would come as slowly");
}

#[test]
fn f_x1_what_has_unknown_inputs_is_never_taken_over() {
    let family = family("", &table(&[("a", "FROM base.example/base:1\n")]));
    let mut facts = Facts::default();
    let reference: Reference = "base.example/base:1".parse().unwrap();
    facts.bases.insert(reference, Base::Unknown("no answer".to_owned()));
    let plan = all(&family, &facts);
    assert!(!takes(&plan, &family, "a@linux/amd64", "a", |_| {}));
}
