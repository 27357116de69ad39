//! What failed in a trial, and the line that says so.

use crate::run::trial_name;
use record::{Ns, Record, Side};
use serde::{Deserialize, Serialize};

/// The first thing that failed in a trial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    /// Of which trial.
    pub seed: u64,
    /// The guarantee's id, or `panic`.
    pub what: String,
    /// When it showed, since the trial began.
    pub at_ns: Ns,
    /// What was seen.
    pub text: String,
}

impl Failure {
    /// The gravest of a judged record, and of those the first: safety before liveness before panics.
    pub fn first_of(record: &Record) -> Option<Self> {
        let violations = record.verdicts.iter().flat_map(|verdict| {
            let guaranteed = verdict.guarantee.guaranteed();
            let rank = match guaranteed.side {
                Side::Safety => 0,
                Side::Liveness => 1,
            };
            verdict.violations.iter().map(move |v| (rank, v.at_ns, guaranteed.id.to_string(), v.text.clone()))
        });
        let panics = record
            .panics
            .iter()
            .map(|panic| (2, panic.at_ns, "panic".to_owned(), format!("on {}: {}", panic.host, panic.message)));
        let (_, at_ns, what, text) = violations.chain(panics).min()?;
        Some(Self { seed: record.seed, what, at_ns, text })
    }
}

impl Failure {
    /// One line about it: what, at which simulated instant, of which trial, and `repeat`, the command that repeats that.
    pub fn line(&self, trial: &str, repeat: &str) -> String {
        let Self { what, at_ns, text, .. } = self;
        let text = text.replace('\n', " ");
        let seconds = *at_ns as f64 / 1e9;
        format!("{what} failed at {seconds:.3} s of {trial}: {text}; repeat it with: {repeat}")
    }
}

/// One line about a judged record that failed: what, at which simulated instant, of which seed, and `repeat`, the command
/// that repeats it. `None` if nothing failed.
pub fn failure_line(record: &Record, repeat: &str) -> Option<String> {
    Some(Failure::first_of(record)?.line(&trial_name(record.seed, false), repeat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{record, violated};
    use record::{Guarantee, Panic};

    #[test]
    fn a_trial_that_held_has_no_line() {
        assert_eq!(failure_line(&record(17), "x"), None);
    }

    #[test]
    fn safety_comes_before_liveness_before_panics_and_then_the_earliest() {
        let mut record = record(17);
        record.panics.push(Panic { at_ns: 1_000_000, host: "s2".into(), message: "at wal.rs:3:\ngone".into() });
        assert_eq!(
            failure_line(&record, "cargo trial replay --seed 17").unwrap(),
            "panic failed at 0.001 s of seed 17: on s2: at wal.rs:3: gone; repeat it with: cargo trial replay --seed 17"
        );
        violated(&mut record, Guarantee::C6, 2_000_000, "nothing committed");
        assert_eq!(Failure::first_of(&record).unwrap().what, "C6");
        violated(&mut record, Guarantee::C7, 12_345_678_901, "a gap");
        violated(&mut record, Guarantee::C2, 13_000_000_000, "lost");
        assert_eq!(
            failure_line(&record, "cargo trial replay --seed 17").unwrap(),
            "C7 failed at 12.346 s of seed 17: a gap; repeat it with: cargo trial replay --seed 17"
        );
    }
}
