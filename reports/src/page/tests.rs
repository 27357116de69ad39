//! Pages of runs made by hand.

use super::*;
use crate::run::{Run, Seeds};
use crate::summary::Summary;
use crate::summary::tests::{record, untested, violated};
use crate::timeline::Timeline;
use crate::{Previous, Report, Trial, trial_page};
use faults::{Fault, Target, What, When};
use record::{Guarantee, Kind, Record};

const S: u64 = 1_000_000_000;

/// What nobody should be able to do to a page, by any text that a record has.
pub(super) const HOSTILE: &str = "</svg></title><script>window.hacked = 1</script><img src=x onerror=\"hacked=1\">'&";

pub(super) fn run() -> Run {
    Run {
        scenario: "store".into(),
        setting: " --rate 40".into(),
        build: "0123abc".into(),
        folder: "target/trials".into(),
        begun_unix_s: 1_795_728_193,
        took_s: 12.4,
        asked: 20,
        seeds: Seeds::of(1..=20),
        interrupted: false,
        mutated: None,
    }
}

/// A trial that failed, with hostile text wherever text of the outside comes in.
pub(super) fn hostile(seed: u64) -> Record {
    let mut trial = record(seed);
    let strike = trial.strikes[0].clone();
    trial.strikes = vec![record::Strike { from_ns: 20 * S, until_ns: 40 * S, ..strike }];
    for (op, at_ns) in trial.operations.iter_mut().zip([5 * S, 30 * S, 60 * S, 70 * S]) {
        (op.invoked_ns, op.completed_ns) = (at_ns, at_ns + S);
        op.request = record::Request::Read { range: record::KeyRange::key(HOSTILE), revision: 0 };
    }
    trial.operations[1].outcome = record::Outcome::Unknown { why: HOSTILE.into() };
    trial.marks.insert(HOSTILE.into(), 0);
    violated(&mut trial, Guarantee::C2, 55 * S, HOSTILE);
    violated(&mut trial, Guarantee::C6, 70 * S, "late");
    trial.panics.push(record::Panic { at_ns: 80 * S, host: HOSTILE.into(), message: HOSTILE.into() });
    trial
}

/// A run of twenty trials of which two failed, and one left no record.
pub(super) fn twenty() -> (Summary, Vec<Trial>) {
    let (mut summary, mut trials) = (Summary::crashed(20), Vec::new());
    for seed in 1..20 {
        let mut trial = record(seed);
        if seed % 7 == 3 {
            trial = hostile(seed);
            let fault = Fault {
                id: 1,
                kind: Kind::Kill,
                when: When::Marked { from: 0, mark: HOSTILE.into(), delay_ns: S },
                for_ns: 2 * S,
                what: What::Kill { target: Target::Leader },
            };
            let shrunk = (seed == 3).then(|| Shrunk { fails: HOSTILE.into(), faults: vec![fault] });
            trials.push(Trial { timeline: Timeline::of(&trial), shrunk });
        }
        untested(&mut trial, Guarantee::C12);
        summary.add(&trial, 100_000_000);
    }
    (summary, trials)
}

/// The words that a reader sees, tags and pictures left out.
fn words(html: &str) -> String {
    let body = html.split_once("<main>").and_then(|(_, rest)| rest.split_once("</main>")).expect("a page").0;
    let (mut words, mut inside) = (String::new(), false);
    for c in body.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                words.push(' ');
            }
            _ if inside => {}
            _ => words.push(c),
        }
    }
    crate::escape::one_line(&words)
}

/// Fails unless every tag that is opened in a document of XML, or in the body of a page, is closed where it should be.
pub(crate) fn assert_nested(document: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in document.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("a tag has no end: {part}"));
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with(['!', '?']) || tag.ends_with('/') || ["meta", "input"].contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closes what is not open, before {part}");
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_page_says_what_failed_first_and_how_to_repeat_it() {
    let (summary, trials) = twenty();
    let before = serde_json::json!({
        "run": run(),
        "findings": [{"what": "C2", "trials": 1, "seeds": [3]}, {"what": "C7", "trials": 2, "seeds": [4, 5]},
            {"what": "C9", "trials": 1, "seeds": [77]}],
    });
    let previous = Previous::parse(&before.to_string()).unwrap();
    let html = Report { run: &run(), summary: &summary, previous: Some(&previous) }.page(&trials);
    let words = words(&html);
    let order = [
        "4 of 20 trials failed",
        "Scenario store --rate 40 , seeds 1 to 20, begun 2026-11-26 21:23:13 UTC",
        "Compared with the run of 2026-11-26 21:23:13 UTC, seeds 1 to 20, same sources.",
        "new C6 While a majority is able and connected, writes commit. 3 3 , 10 , 17",
        "new crash Product code panicked, or a worker died. 4 3 , 10 , 17 , 20",
        "known C2 Later reads have each acknowledged write, or a newer one. 3 3 , 10 , 17",
        "resolved C7 A watch brings every change once and in order. 2 4, 5",
        "not tried again C9 A lease outlives each acknowledged keep-alive by its TTL. 1 77",
        "C2 seed 3 at 55.000 s:",
        "cargo trial replay --seed 3 --rate 40 cargo trial shrink target/trials/3.json",
        "kill 1.000 s after “",
        "cargo trial replay target/trials/3.toml",
        "Jump to the first failure",
        "What happened before it failed",
        "20.000 s kill strikes s1, until 40.000 s (fault 0)",
        "C2 seed 10 at 55.000 s:",
        "Seed 20 left no record",
        "C1 Reads and writes happen one after the other, in real time. 19 0 0 190",
        "C12 A transaction whose precondition fails never applies. 0 0 19 0",
        "kill 19 19",
    ];
    let mut rest = words.as_str();
    for part in order {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is missing or in another place: {words}"));
        rest = &rest[at..];
    }
}

#[test]
fn nothing_of_a_record_becomes_markup_and_nothing_is_fetched() {
    let (summary, trials) = twenty();
    let run = Run { folder: HOSTILE.into(), setting: HOSTILE.into(), build: HOSTILE.into(), ..run() };
    let pages =
        [Report { run: &run, summary: &summary, previous: None }.page(&trials), trial_page(&hostile(3), HOSTILE)];
    for html in pages {
        assert!(html.contains("&lt;script&gt;window.hacked"));
        assert!(!html.contains("<script>window") && !html.contains("<img"));
        assert!(!html.contains("http:") && !html.contains("https:"), "nothing is fetched");
        let body = html.split_once("<main>").and_then(|(_, rest)| rest.split_once("</main>")).expect("a body").0;
        assert_nested(body);
    }
}

#[test]
fn a_trial_that_is_not_drawn_says_how_to_draw_it() {
    let (summary, _) = twenty();
    let html = Report { run: &run(), summary: &summary, previous: None }.page(&[]);
    assert!(html.contains("<code>cargo trial replay --seed 3 --rate 40 --html 3.html</code> draws it"));
    assert!(!html.contains("<svg class=\"picture\""));
}

#[test]
fn a_run_that_was_interrupted_or_tried_nothing_says_so() {
    let interrupted = Run { interrupted: true, seeds: Seeds::of(1..=2), ..run() };
    let mut summary = Summary::of(&record(1), 7);
    summary.add(&record(2), 7);
    let html = Report { run: &interrupted, summary: &summary, previous: None }.page(&[]);
    assert!(html.contains("<header class=\"warn\">\n<h1>All of 2 trials held; interrupted before the other 18</h1>"));
    let html = Report { run: &interrupted, summary: &Summary::default(), previous: None }.page(&[]);
    assert!(html.contains("<h1>Nothing was tried; interrupted before the other 20</h1>"), "{html}");
}

#[test]
fn thousands_stand_apart() {
    assert_eq!(["0", "999", "1\u{202f}000", "12\u{202f}345\u{202f}678"], [0, 999, 1_000, 12_345_678].map(grouped)[..]);
}
