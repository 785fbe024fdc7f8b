//! What is decided about each job, and the reasons that are told.

use super::*;

/// What is decided about each job, and why.
fn picture(plan: &Plan) -> String {
    let mut out = String::new();
    for job in &plan.order {
        match &plan.jobs[job].decision {
            Decision::Reuse(_) => writeln!(out, "{job}: reuse").unwrap(),
            Decision::Check(_) => writeln!(out, "{job}: check").unwrap(),
            Decision::Build(reasons) => {
                writeln!(out, "{job}: build").unwrap();
                reasons.iter().for_each(|reason| writeln!(out, "  {reason}").unwrap());
            }
        }
    }
    out
}

fn check(family: &Family, facts: &Facts, request: &Request, expected: &Expect) {
    expected.assert_eq(&picture(&Plan::new(family, facts, request)));
}

fn pair() -> Family {
    family("", &table(&[("a", "FROM scratch\n"), ("b", "FROM a\nCOPY files /\n"), ("c", "FROM b\n")]))
}

#[test]
fn what_has_never_been_built_is_built() {
    check(
        &pair(),
        &Facts::default(),
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: build
          no record of it
        b@linux/amd64: build
          no record of it
          a@linux/amd64 is built
        c@linux/amd64: build
          no record of it
          b@linux/amd64 is built
    "#]],
    );
}

#[test]
fn what_stands_is_reused_or_checked() {
    let family = pair();
    let mut facts = with_records(&family, Facts::default());
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: reuse
        b@linux/amd64: reuse
        c@linux/amd64: reuse
    "#]],
    );
    let of_b = check_key(&image("b"), family.recipe(&"b".parse().unwrap()).unwrap(), &BTreeMap::new());
    facts.checks.remove(&of_b);
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: reuse
        b@linux/amd64: check
        c@linux/amd64: reuse
    "#]],
    );
}

#[test]
fn asked_for_is_asked_for() {
    let family = pair();
    let facts = with_records(&family, Facts::default());
    let request = Request { selected: [job("b@linux/amd64")].into(), no_reuse: true, ..Request::default() };
    check(
        &family,
        &facts,
        &request,
        &expect![[r#"
        a@linux/amd64: reuse
        b@linux/amd64: build
          asked for
    "#]],
    );
    let request = Request { no_reuse: true, ..Request::default() };
    check(
        &family,
        &facts,
        &request,
        &expect![[r#"
        a@linux/amd64: build
          asked for
        b@linux/amd64: build
          asked for
          a@linux/amd64 is built
        c@linux/amd64: build
          asked for
          b@linux/amd64 is built
    "#]],
    );
}

#[test]
fn every_input_that_changed_is_told_with_old_and_new_value() {
    let files = |family: &str| table(&[("a", "FROM base.example/x:1\nARG X\nCOPY files /\n"), ("b", family)]);
    let before = family("[image.a]\nargs = { X = \"1\" }\nlabels = { l = \"1\" }\n", &files("FROM a\n"));
    let after = family("[image.a]\nargs = { X = \"2\" }\n", &files("FROM a\nRUN true\n"));
    let mut facts = Facts::default();
    facts.bases.insert("base.example/x:1".parse().unwrap(), base(b"1"));
    let mut state = |table: &[(&str, &str)]| {
        let table = table.iter().map(|(path, state)| ((*path).to_owned(), (*state).to_owned()));
        facts.files.insert(job("a@linux/amd64"), table.collect());
        Facts { files: facts.files.clone(), bases: facts.bases.clone(), ..Facts::default() }
    };
    let changed = format!("0644 {}", Digest::of(b"1"));
    let then = state(&[("files/changed", &changed), ("files/gone", "0644 x")]);
    let changed = format!("0755 {}", Digest::of(b"2"));
    let mut now = state(&[("files/changed", &changed), ("files/new", "0644 x")]);
    now.bases.insert("base.example/x:1".parse().unwrap(), base(b"2"));
    now.epochs.insert(job("a@linux/amd64"), 2);
    let plan = all(&before, &then);
    now.newest = plan.jobs.iter().map(|(job, planned)| (job.clone(), record(job, planned, &[]))).collect();
    check(
        &after,
        &now,
        &Request::default(),
        &expect![[r#"
            a@linux/amd64: build
              build argument X changed: 1 then, 2 now
              base image base.example/x:1 changed: 6b86b273ff34 then, d4735e3a265e now
              the refresh epoch changed: none then, 2 now
              files/changed changed: a file 0644 6b86b273ff34 then, a file 0755 d4735e3a265e now
              file files/gone is gone
              file files/new is new
              label l is gone: 1 then
            b@linux/amd64: build
              the Dockerfile changed: 20a51c180619 then, a49d2e7eaff6 now
              a@linux/amd64 is built
        "#]],
    );
}

#[test]
fn a_base_that_cannot_be_looked_up_is_told_and_built_upon() {
    let family = family("", &table(&[("a", "FROM base.example/x:1\n")]));
    let mut facts = Facts::default();
    facts.bases.insert("base.example/x:1".parse().unwrap(), Base::Unknown("connection refused".to_owned()));
    check(
        &family,
        &with_records(&family, facts),
        &Request::default(),
        &expect![[r#"
            a@linux/amd64: build
              base image base.example/x:1 is unknown
        "#]],
    );
}

#[test]
fn a_frontend_that_cannot_be_looked_up_is_told_with_its_line_and_built_with() {
    let files = [("a", "#!/bin/x\n# syntax=x.example/frontend:1\nFROM scratch\n"), ("b", "FROM scratch\n")];
    let family = family("", &table(&files));
    let read = crate::dockerfile::Dockerfile::parse("a/Dockerfile".as_ref(), files[0].1).unwrap();
    let unknown = Frontend::Unknown { written: read.syntax().unwrap(), why: "connection refused".to_owned() };
    let facts = Facts { frontends: [("a".parse().unwrap(), unknown)].into(), ..Facts::default() };
    let facts = with_records(&family, facts);
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
            a@linux/amd64: build
              frontend x.example/frontend:1 is unknown
            b@linux/amd64: reuse
        "#]],
    );
    let told = unknown_frontends(&facts, &all(&family, &facts));
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    expect!["a/Dockerfile:2:10: frontend x.example/frontend:1 is unknown, so that nothing that it reads is reused: it cannot be looked up: connection refused"].assert_eq(&told.join("\n"));
}

#[test]
fn law_3_a_record_on_another_image_of_its_parent_is_not_reused() {
    let family = pair();
    let mut facts = with_records(&family, Facts::default());
    let of_b = facts.images.values_mut().find(|record| record.job.starts_with("b@")).unwrap();
    of_b.parents.insert("a".to_owned(), image("another"));
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: reuse
        b@linux/amd64: build
          its record stands on another image of a@linux/amd64: 5d2bf278393e then, a854f481d4cb now
        c@linux/amd64: build
          b@linux/amd64 is built
    "#]],
    );
}

#[test]
fn law_3_a_record_whose_content_is_missing_is_not_reused() {
    let family = pair();
    let mut facts = with_records(&family, Facts::default());
    facts.missing.insert(image("b"), Digest::of(b"a layer"));
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
            a@linux/amd64: reuse
            b@linux/amd64: build
              its record stands, but sha256:e28d98ac666afd34f089b971a663264d54d67a60ddc82996d48d8f3c204eb75f is missing from the store
            c@linux/amd64: build
              b@linux/amd64 is built
        "#]],
    );
}

#[test]
fn law_3_a_record_made_by_emulation_is_not_reused_where_emulation_is_refused() {
    let family = pair();
    let mut facts = with_records(&family, Facts::default());
    facts.images.values_mut().find(|record| record.job.starts_with("b@")).unwrap().emulated = true;
    let of_b = check_key(&image("b"), family.recipe(&"b".parse().unwrap()).unwrap(), &BTreeMap::new());
    for stands in [true, false] {
        if !stands {
            facts.checks.remove(&of_b);
        }
        check(
            &family,
            &facts,
            &Request::default(),
            &expect![[r#"
                a@linux/amd64: reuse
                b@linux/amd64: build
                  its record was made by emulation, which is refused here
                c@linux/amd64: build
                  b@linux/amd64 is built
            "#]],
        );
    }
    check(
        &family,
        &facts,
        &Request { emulation: Some(Emulation::Allowed), ..Request::default() },
        &expect![[r#"
            a@linux/amd64: reuse
            b@linux/amd64: check
            c@linux/amd64: reuse
        "#]],
    );
    assert_eq!(all(&family, &facts).made_by_emulation().collect::<Vec<_>>(), [&job("b@linux/amd64")]);
}

#[test]
fn a_record_that_is_gone_is_told() {
    let family = family("", &table(&[("a", "FROM scratch\n")]));
    let plan = all(&family, &Facts::default());
    let newest = plan.jobs.iter().map(|(job, planned)| (job.clone(), record(job, planned, &[])));
    let facts = Facts { newest: newest.collect(), ..Facts::default() };
    check(
        &family,
        &facts,
        &Request::default(),
        &expect![[r#"
        a@linux/amd64: build
          its record is no longer in the store
    "#]],
    );
}

#[test]
fn i_b9_the_same_input_gives_the_same_plan_and_parents_come_first() {
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let files = table(&[("z", "FROM scratch\n"), ("a", "FROM z\nCOPY --from=m / /\n"), ("m", "FROM z\n")]);
    let (one, other) =
        (family(config, &files), family(config, &files.iter().rev().cloned().collect::<Vec<_>>()));
    let plan = all(&one, &Facts::default());
    assert_eq!(format!("{plan:?}"), format!("{:?}", all(&other, &Facts::default())));
    let order: Vec<String> = plan.order.iter().map(ToString::to_string).collect();
    expect!["z@linux/amd64 z@linux/arm64 m@linux/amd64 m@linux/arm64 a@linux/amd64 a@linux/arm64"]
        .assert_eq(&order.join(" "));
}

#[test]
fn a_selection_comes_with_its_ancestors() {
    let files = table(&[("a", "FROM scratch\n"), ("b", "FROM a\n"), ("c", "FROM b\n"), ("d", "FROM a\n")]);
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let request = Request { selected: [job("b@linux/arm64")].into(), ..Request::default() };
    let plan = Plan::new(&family(config, &files), &Facts::default(), &request);
    assert_eq!(plan.order, [job("a@linux/arm64"), job("b@linux/arm64")]);
    assert_eq!(plan.jobs.len(), 2);
}

#[test]
fn five_thousand_images_in_chains_of_five_hundred_are_planned() {
    let files: Vec<(String, String)> = (0..5_000)
        .map(|at| {
            let base = if at % 500 == 0 { "scratch".to_owned() } else { format!("u{}", at - 1) };
            (format!("u{at}"), format!("FROM {base}\nRUN {at}\n"))
        })
        .collect();
    let family = family("", &files);
    let facts = with_records(&family, Facts::default());
    let plan = all(&family, &facts);
    assert_eq!((plan.order.len(), plan.reused()), (5_000, 5_000));
    let request =
        Request { selected: [job("u499@linux/amd64")].into(), no_reuse: true, ..Request::default() };
    let plan = Plan::new(&family, &facts, &request);
    assert_eq!((plan.order.len(), plan.to_build()), (500, 1));
}

#[test]
fn a_stage_of_a_named_platform_stands_on_the_base_for_that_platform() {
    let files = [(
        "a",
        "FROM --platform=linux/s390x base.example/x:1 AS tool\nFROM base.example/y:1\nCOPY --from=tool /t /t\n",
    )];
    let family = family("platforms = [\"linux/amd64\"]\n", &table(&files));
    let platforms = |name: &str| {
        let of =
            |platform: &str| (platform.parse().unwrap(), Digest::of(format!("{name} {platform}").as_bytes()));
        Base::Found([of("linux/amd64"), of("linux/s390x")].into())
    };
    let bases = ["x", "y"].map(|name| (format!("base.example/{name}:1").parse().unwrap(), platforms(name)));
    let facts = Facts { bases: bases.into(), ..Facts::default() };
    let inputs = &all(&family, &facts).jobs[&job("a@linux/amd64")].inputs;
    assert_eq!(inputs["base:base.example/x:1"], Digest::of(b"x linux/s390x").to_string());
    assert_eq!(inputs["base:base.example/y:1"], Digest::of(b"y linux/amd64").to_string());
}
