//! What a person sees, as pictures.

use std::io::Write;
use std::sync::{Arc, Mutex};

use expect_test::{Expect, expect};

use super::*;
use crate::diag::Place;
use crate::event::{EmulationCost, EventKind, Outcome};

/// A stream whose bytes can be looked at afterwards.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("page").clone()).expect("UTF-8")
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("page").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that takes nothing, and counts how often it was asked.
struct Gone(ErrorKind, Arc<Mutex<usize>>);

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        *self.1.lock().expect("count") += 1;
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ui(colour: Colour, display: Display) -> (Ui, Page, Page) {
    let (stdout, stderr) = (Page::default(), Page::default());
    (Ui::new(Box::new(stdout.clone()), Box::new(stderr.clone()), colour, display), stdout, stderr)
}

fn check(problem: Diagnostic, expected: &Expect) {
    let (ui, _, stderr) = ui(Colour::Never, Display::Quiet);
    ui.problems(&problem.into());
    expected.assert_eq(&stderr.text());
}

#[test]
fn a_problem_shows_its_line_its_causes_and_what_to_do() {
    let source = "registry = \"r.io\"\nplatfroms = [\"linux/amd64\"]\n";
    check(
        Diagnostic::request("unknown key `platfroms`")
            .at(Place::span("polyarch.toml", source, 18..27))
            .because("first\nsecond")
            .hint("did you mean `platforms`?")
            .hint("see `polyarch init`"),
        &expect![[r#"
            error: unknown key `platfroms`
             --> polyarch.toml:2:1
              |
            2 | platfroms = ["linux/amd64"]
              | ^^^^^^^^^
              caused by: first
                second

            hint: did you mean `platforms`?
            hint: see `polyarch init`
        "#]],
    );
    check(
        Diagnostic::surroundings("cannot read it").at(Place::file("a/Dockerfile")).because("no such file"),
        &expect![[r#"
            error: cannot read it
             --> a/Dockerfile
              caused by: no such file
        "#]],
    );
}

#[test]
fn a_wide_line_is_pointed_at_by_characters() {
    let source = "# é\nключ = \"значение\"\n";
    let start = source.find('"').expect("a value");
    check(
        Diagnostic::request("a value").at(Place::span("a.toml", source, start..source.len() - 1)),
        &expect![[r#"
            error: a value
             --> a.toml:2:8
              |
            2 | ключ = "значение"
              |        ^^^^^^^^^^
        "#]],
    );
}

#[test]
fn problems_found_together_are_shown_apart() {
    let (ui, stdout, stderr) = ui(Colour::Never, Display::Quiet);
    let one = Problems::from(Diagnostic::request("one"));
    ui.problems(&one.and(Diagnostic::request("two").hint("do").into()));
    ui.warning(&Diagnostic::warning("three"));
    ui.note("four");
    assert_eq!(stderr.text(), "error: one\n\nerror: two\n\nhint: do\nwarning: three\nfour\n");
    ui.data("data");
    assert_eq!(stdout.text(), "data");
}

#[test]
fn colour_adds_nothing_but_colour_and_a_message_cannot_move_the_cursor() {
    let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
    let problem = Diagnostic::request("bad \u{1b}[2J\rname").hint("go");
    let (with, _, coloured) = ui(Colour::Always, Display::Quiet);
    with.problems(&problem.clone().into());
    let (without, _, bare) = ui(Colour::Never, Display::Quiet);
    without.problems(&problem.into());
    assert!(coloured.text().contains("\u{1b}["));
    assert_eq!(plain(&coloured.text()), bare.text());
    assert!(!bare.text().contains(['\u{1b}', '\r']), "{:?}", bare.text());
}

#[test]
fn f_p5_a_reader_who_has_gone_is_no_error_and_a_full_disk_is_one() {
    let finish = |kind| {
        let (tries, stderr) = (Arc::new(Mutex::new(0)), Page::default());
        let gone = Gone(kind, Arc::clone(&tries));
        let ui = Ui::new(Box::new(gone), Box::new(stderr.clone()), Colour::Never, Display::Quiet);
        ui.data("one");
        ui.data("two");
        assert_eq!((*tries.lock().expect("count"), stderr.text().as_str()), (1, ""));
        ui.finish()
    };
    assert_eq!(finish(ErrorKind::BrokenPipe), Ok(()));
    let problems = finish(ErrorKind::StorageFull).expect_err("what was asked for is lost");
    assert_eq!(problems.exit_code(), 3);
}

fn run() -> Vec<Event> {
    let job = || "base@linux/386".to_owned();
    let at = |at_milliseconds, kind| Event { at_milliseconds, kind };
    vec![
        at(0, EventKind::RunStarted { version: 1, run: "r".into(), jobs: 2, reused: 1 }),
        at(1, EventKind::JobReused { job: "base@linux/amd64".into(), image: "sha256:aa".into() }),
        at(
            10,
            EventKind::JobStarted {
                job: job(),
                builder: "local".into(),
                emulated: true,
                checks_only: false,
                cost: Some(EmulationCost { emulated_milliseconds: 11 * 60_000, native_milliseconds: 60_000 }),
            },
        ),
        at(20, EventKind::JobStep { job: job(), step: "[1/2] FROM scratch".into() }),
        at(300, EventKind::JobStep { job: job(), step: "[2/2] RUN make\u{1b}[2J".into() }),
        at(350, EventKind::JobStep { job: job(), step: "too soon to be drawn".into() }),
        at(
            1_500,
            EventKind::CheckEnded {
                job: job(),
                check: "id -un".into(),
                passed: false,
                tag: None,
                milliseconds: 90,
            },
        ),
        at(
            1_710,
            EventKind::JobEnded {
                job: job(),
                outcome: Outcome::Built { image: "sha256:bb".into() },
                milliseconds: 1_700,
                engine_milliseconds: 1_600,
            },
        ),
        at(1_720, EventKind::TagWithheld { reference: "r.io/a:b".into(), reason: "they differ".into() }),
    ]
}

#[test]
fn f_x1_who_waits_for_another_run_says_so_once_and_what_came_of_it() {
    let job = || "base@linux/386".to_owned();
    let (builder, image) = ("local".into(), "sha256:aa".into());
    let kinds = [
        EventKind::RunStarted { version: 1, run: "r".into(), jobs: 1, reused: 0 },
        EventKind::JobStarted { job: job(), builder, emulated: false, checks_only: false, cost: None },
        EventKind::JobAwaits { job: job(), run: Some("r2\u{1b}".into()) },
        EventKind::JobReused { job: job(), image },
    ];
    let events =
        || (0..).zip(&kinds).map(|(at, kind)| Event { at_milliseconds: at * 400, kind: kind.clone() });
    let (ui, _, stderr) = ui(Colour::Never, Display::Plain);
    events().for_each(|event| ui.show(&event));
    expect![[r#"
        1 job: 1 to do, 0 reused
        base@linux/386  build on local
          base@linux/386  waits for run r2\u{1b}, which builds the same
        [1/1] base@linux/386  reused: its record stands by now
    "#]]
    .assert_eq(&stderr.text());
    let report = crate::report::Report::of(&events().collect::<Vec<_>>());
    assert_eq!((report.counts.reused, report.counts.unfinished), (1, 0));
}

#[test]
fn elsewhere_than_on_a_terminal_every_fact_is_a_line() {
    let (ui, stdout, stderr) = ui(Colour::Never, Display::Plain);
    run().iter().for_each(|event| ui.show(event));
    ui.tick(5_000);
    expect![[r#"
        2 jobs: 1 to do, 1 reused
        base@linux/386  build on local, emulated, about 11 min 0 s, native 1 min 0 s
          base@linux/386  [1/2] FROM scratch
          base@linux/386  [2/2] RUN make\u{1b}[2J
          base@linux/386  too soon to be drawn
          base@linux/386  FAILED id -un in 90 ms
        [2/2] base@linux/386  built in 1.7 s
        withheld r.io/a:b: they differ
    "#]]
    .assert_eq(&stderr.text());
    assert_eq!(stdout.text(), "");
}

#[test]
fn on_a_terminal_a_running_job_has_one_line_that_is_redrawn() {
    let (ui, _, stderr) = ui(Colour::Never, Display::Live { columns: 40 });
    run().iter().for_each(|event| ui.show(event));
    ui.tick(1_730);
    ui.note("done");
    expect![[r#"
          base@linux/386  290 ms, emulated  [2/…
        ^1A^J  base@linux/386  FAILED id -un in 90 ms
          base@linux/386  1.4 s, emulated  too …
        ^1A^J[2/2] base@linux/386  built in 1.7 s
        withheld r.io/a:b: they differ
        done
    "#]]
    .assert_eq(&stderr.text().replace("\u{1b}[", "^"));
}

#[test]
fn more_jobs_than_lines_are_counted() {
    let (ui, _, stderr) = ui(Colour::Never, Display::Live { columns: 80 });
    for number in 0..20 {
        let job = format!("image-{number:02}@linux/386");
        let started = EventKind::JobStarted {
            job,
            builder: "b".into(),
            emulated: false,
            checks_only: true,
            cost: None,
        };
        ui.show(&Event { at_milliseconds: 0, kind: started });
    }
    assert_eq!(stderr.text(), "", "a short run draws nothing");
    ui.tick(260);
    assert_eq!(stderr.text().lines().count(), 17);
    assert!(stderr.text().ends_with("  and 4 more\n"), "{}", stderr.text());
}

#[test]
fn bytes_on_their_way_are_told_from_time_to_time() {
    let sent = |at_milliseconds, bytes| Event {
        at_milliseconds,
        kind: EventKind::Sent { target: "r.io".to_owned(), bytes, at_most: 686_000_000 },
    };
    let (plain, _, stderr) = ui(Colour::Never, Display::Plain);
    for at in 0..250 {
        plain.show(&sent(1000 + at * 100, at * 1_000_000));
    }
    let line = |bytes| format!("  {bytes}.0 MB of at most 686.0 MB sent to r.io\n");
    assert_eq!(stderr.text(), line(100) + &line(200));
    let (live, _, stderr) = ui(Colour::Never, Display::Live { columns: 80 });
    live.show(&sent(1000, 1_000_000));
    live.show(&sent(3000, 2_000_000));
    assert!(
        stderr.text().contains("publish  2.0 s  2.0 MB of at most 686.0 MB sent to r.io"),
        "{}",
        stderr.text()
    );
    live.show(&Event { at_milliseconds: 3500, kind: EventKind::Published { tags: 1 } });
    let before = stderr.text().len();
    live.tick(9000);
    assert!(!stderr.text()[before..].contains("sent to"), "it is over");
}

#[test]
fn files_on_their_way_are_told_from_time_to_time_and_at_their_end() {
    let exporting = |at_milliseconds, looking, bytes| Event {
        at_milliseconds,
        kind: EventKind::Exporting { file: "a.tar".to_owned(), looking, bytes, at_most: 90_000_000 },
    };
    let ended = |stood| Event {
        at_milliseconds: 30_000,
        kind: EventKind::Exported { file: "a.tar".to_owned(), bytes: 1_000_000, stood },
    };
    let (plain, _, stderr) = ui(Colour::Never, Display::Plain);
    for at in 0..150 {
        plain.show(&exporting(1000 + at * 100, at < 20, at * 100_000));
    }
    plain.show(&ended(false));
    plain.show(&ended(true));
    let told = "  a.tar  10.0 MB of 90.0 MB written\na.tar  1.0 MB\na.tar  1.0 MB  as before\n";
    assert_eq!(stderr.text(), told);
    let (live, _, stderr) = ui(Colour::Never, Display::Live { columns: 80 });
    live.show(&exporting(1000, true, 1_000_000));
    live.show(&exporting(3000, true, 2_000_000));
    assert!(stderr.text().contains("a.tar  2.0 s  2.0 MB of 90.0 MB layers read"), "{}", stderr.text());
    live.show(&ended(false));
    let before = stderr.text().len();
    live.tick(40_000);
    assert!(!stderr.text()[before..].contains("layers read"), "it is over");
}
