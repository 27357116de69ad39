//! The report of a run, as files: for people, for CI, and for the next run to compare itself with.
//!
//! ```text
//! report.json of the run before, records and shrunk trials of failures -> reports -> report.json, junit.xml, summary.md,
//!                                                                                   index.html
//! ```

use crate::trial::BUILD;
use anyhow::Context;
use record::{Case, Record};
use reports::{Previous, Report, Run, Shrunk, Summary, Timeline, Trial};
use std::path::{Path, PathBuf};

/// Failed trials that are drawn: each takes about 200 kB of a page that phones open too.
const MAX_DRAWN: usize = 10;

/// Writes the report of a run into its folder, each file whole or not at all. The page's path.
///
/// # Errors
/// The folder cannot be made, or a file cannot be written.
pub fn write(out: &Path, run: &Run, summary: &Summary) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let facts = out.join("report.json");
    // None in a new folder; and of another form, it is as good as none.
    let previous = std::fs::read_to_string(&facts).ok().and_then(|text| Previous::parse(&text));
    let report = Report { run, summary, previous: previous.as_ref() };
    let trials: Vec<Trial> =
        summary.failures.iter().take(MAX_DRAWN).filter_map(|failure| drawn(out, run, failure.seed)).collect();
    let page = out.join("index.html");
    let files = [
        (out.join("junit.xml"), report.junit()),
        (out.join("summary.md"), report.markdown()),
        (page.clone(), report.page(&trials)),
        // Last: as long as it is not there, the next run compares itself with the run before.
        (facts, report.json() + "\n"),
    ];
    for (path, text) in files {
        record::write_whole(&path, text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(page)
}

/// A failed trial by what its worker left of it: nothing, if somebody took that away meanwhile.
fn drawn(out: &Path, run: &Run, seed: u64) -> Option<Trial> {
    let mutated = run.is_mutated(seed);
    let stem = reports::trial_stem(seed, mutated);
    let record = record::read(&out.join(format!("{stem}.json")), BUILD).ok()?;
    // What no seed repeats is left as a case from the beginning, and has lost nothing yet.
    let is_whole = |case: &Case| mutated && case.faults == record.schedule.faults;
    let is_small = |case: &Case| case.seed == record.seed && !is_whole(case);
    let case = Case::read(&out.join(format!("{stem}.toml"))).ok().filter(is_small);
    let shrunk = case.map(|case| Shrunk { fails: case.fails, faults: case.faults });
    // In a report it goes by its place in the run.
    Some(Trial { timeline: Timeline::of(&Record { seed, ..record }), shrunk })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial;
    use record::{CASE_FORMAT, Panic};
    use std::fs;

    #[test]
    fn a_failed_trial_is_drawn_with_what_shrinking_left_of_it_unless_another_build_wrote_it() {
        let out = std::env::temp_dir().join(format!("seatrial-report-{}", std::process::id()));
        fs::create_dir_all(&out).unwrap();
        let mut record = sim::run(sim::trial(sim::scenario("calm").unwrap(), 5)).record;
        record.panics.push(Panic { at_ns: 7, host: "s1".into(), message: "gone".into() });
        let (config, executor_seed) = (record.config.clone(), record.executor_seed);
        let (fails, twin, faults) = (trial::CRASH.to_owned(), false, vec![]);
        let case = Case { format: CASE_FORMAT, fails, seed: 5, executor_seed, twin, config, faults };
        case.write(&out.join("5.toml")).unwrap();
        let summary = Summary::of(&record, 0);
        let mut page = |build: &str| {
            build.clone_into(&mut record.build);
            record::write(&out.join("5.json"), &record).unwrap();
            fs::read_to_string(write(&out, &Run::default(), &summary).unwrap()).unwrap()
        };
        let (own, other) = (page(BUILD), page("another"));
        fs::remove_dir_all(&out).unwrap();
        assert!(own.contains("id=\"first-5\"") && own.contains("crash still fails with no fault at all"), "{own}");
        assert!(other.contains("seed 5") && !other.contains("id=\"first-5\""), "{other}");
    }

    #[test]
    fn a_trial_that_no_seed_repeats_is_drawn_by_its_place_and_is_small_only_once_it_was_shrunk() {
        let out = std::env::temp_dir().join(format!("seatrial-guided-{}", std::process::id()));
        fs::create_dir_all(&out).unwrap();
        let trial = sim::Trial {
            schedule: sim::trial(sim::scenario(trial::STORE).unwrap(), 5).schedule,
            ..sim::trial(sim::scenario("calm").unwrap(), 2)
        };
        let mut record = sim::run(trial.clone()).record;
        BUILD.clone_into(&mut record.build);
        record.panics.push(Panic { at_ns: 7, host: "s1".into(), message: "gone".into() });
        record::write(&out.join("guided-9.json"), &record).unwrap();
        let summary = Summary::of(&Record { seed: 9, ..record.clone() }, 0);
        let run = Run { folder: "t".into(), mutated: Some(reports::Seeds::of([9])), ..Run::default() };
        let page = |faults: &[faults::Fault]| {
            let case =
                Case { fails: trial::CRASH.to_owned(), faults: faults.to_vec(), ..trial::case_of(trial.clone()) };
            case.write(&out.join("guided-9.toml")).unwrap();
            fs::read_to_string(write(&out, &run, &summary).unwrap()).unwrap()
        };
        let faults = &record.schedule.faults;
        let (whole, small) = (page(faults), page(&faults[..1]));
        fs::remove_dir_all(&out).unwrap();
        assert!(whole.contains("guided trial 9") && whole.contains("id=\"first-9\""), "{whole}");
        assert!(whole.contains("cargo trial replay t/guided-9.toml") && !whole.contains("--seed 9"), "{whole}");
        assert!(!whole.contains("still fails") && small.contains("still fails"), "{small}");
    }
}
