//! The timeline: a row for each slot of each builder, a bar for each time that a job was there.

use maud::{Markup, html};

use super::{anchor, parts};
use crate::report::CriticalPath;
use crate::report::terminal::duration;
use crate::report::timeline::{Attempt, Timeline};

/// How many marks of time there are at most.
const MARKS: u64 = 8;

pub(super) fn section(timeline: &Timeline, path: &CriticalPath) -> Markup {
    let rows = timeline.rows();
    let whole = timeline.ended.max(1);
    html! {
        @if !rows.is_empty() {
            section #timeline {
                h2 { "Timeline" }
                div.wide tabindex="0" role="region" aria-label="Timeline" {
                    div.timeline {
                        div.marks aria-hidden="true" {
                            @for mark in marks(whole) {
                                span style=(format!("left:{}", percent(mark, whole))) { (duration(mark)) }
                            }
                        }
                        @for (builder, rows) in &rows {
                            h3 { (builder) }
                            @for row in rows {
                                div.row { @for attempt in row { (bar(timeline, attempt, path)) } }
                            }
                        }
                    }
                }
                p.legend {
                    @for word in ["built", "checked", "failed", "left", "cancelled"] {
                        span.key.(word) { (word) } " "
                    }
                    span.key.critical { "on the critical path" }
                }
            }
        }
    }
}

fn bar(timeline: &Timeline, attempt: &Attempt, path: &CriticalPath) -> Markup {
    let took = timeline.end_of(attempt) - attempt.began;
    let whole = timeline.ended.max(1);
    let style = format!("left:{};width:{}", percent(attempt.began, whole), percent(took, whole));
    let how = if attempt.emulated { ", emulated" } else { "" };
    let what = if attempt.checks_only { ", checks only" } else { "" };
    let told = format!("{}: {} in {}{how}{what}", attempt.job, attempt.end.word(), duration(took));
    let (image, _) = parts(&attempt.job);
    html! {
        a.bar.(attempt.end.word()).critical[path.has(&attempt.job)] style=(style) href=(format!("#{}", anchor(&attempt.job))) title=(told) aria-label=(told) { (image) }
    }
}

/// Round times, in milliseconds, that divide the whole.
fn marks(whole: u64) -> impl Iterator<Item = u64> {
    const ROUND: [u64; 16] = [
        10, 50, 100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000,
        10_800_000, 21_600_000, 86_400_000,
    ];
    let step = ROUND.into_iter().find(|step| whole / step <= MARKS).unwrap_or(whole);
    (0..=MARKS).map(move |number| number * step).take_while(move |mark| *mark <= whole)
}

fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_few_and_within_the_whole() {
        for whole in [1, 9, 80, 1_000, 59_999, 3_600_000, 86_400_000 * 30] {
            let marks: Vec<u64> = marks(whole).collect();
            assert!(marks.len() <= 9 && marks.iter().all(|mark| *mark <= whole), "{whole}: {marks:?}");
        }
        assert_eq!(marks(60_000).collect::<Vec<_>>(), [0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000]);
    }

    #[test]
    fn a_part_is_so_much_of_a_hundred() {
        assert_eq!([percent(1, 3), percent(0, 0), percent(5, 5)], ["33.33%", "0.00%", "100.00%"]);
    }
}
