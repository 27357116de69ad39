//! Records in; tables, JSON, JUnit, Markdown, a page, and the line that a person reads first out.
//!
//! ```text
//! worker processes: judged Record -> Summary --merge--> Summary of the run -> table, json, exit_code
//!                   a failed Record -> failure_line, Timeline
//!                   any Record -> situations, for a search
//! Run, Summary, Previous -> Report -> report.json, junit.xml, summary.md;  with Timelines -> index.html
//! ```
//!
//! A [`Summary`] is small, whatever it is of, and merging is the same in any order. Nothing here touches a file.
//!
//! **Invariant:** no text of a record becomes markup or script, and a page fetches nothing
//! (`nothing_of_a_record_becomes_markup_and_nothing_is_fetched`).

mod coverage;
mod escape;
mod failure;
mod findings;
mod json;
mod junit;
mod markdown;
mod page;
mod reigns;
mod run;
mod situations;
mod summary;
mod table;
mod timeline;

pub use coverage::{Component, Coverage, Phase};
pub use failure::{Failure, failure_line};
pub use findings::{Finding, Previous};
pub use page::{Shrunk, Trial, trial_page};
pub use run::{Run, Seeds, replay_mutated, trial_name, trial_stem};
pub use situations::situations;
pub use summary::{CRASH, Clusters, DIVERGENCE, Guided, Operations, Struck, Summary, Tally, VACUOUS_FROM, exit_code};
pub use timeline::Timeline;

/// A run, its sums, and the run before: what a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What was run.
    pub run: &'a Run,
    /// What it came to.
    pub summary: &'a Summary,
    /// What it is compared with, if there is anything.
    pub previous: Option<&'a Previous>,
}

impl Report<'_> {
    /// What came of it, in a line.
    fn verdict(&self) -> String {
        let Summary { trials, held, .. } = *self.summary;
        let came = match exit_code(self.summary) {
            0 if trials == 0 => "Nothing was tried".to_owned(),
            0 if trials == 1 => "The trial held".to_owned(),
            0 => format!("All of {trials} trials held"),
            14 => format!("All of {trials} trials held, but some guarantee was never put to the test"),
            _ if held == trials => format!("All of {trials} trials held, but a seed did two different things"),
            _ if trials == 1 => "The trial failed".to_owned(),
            _ => format!("{} of {trials} trials failed", trials - held),
        };
        match self.run.interrupted {
            true => format!("{came}; interrupted before the other {}", self.run.asked.saturating_sub(trials)),
            false => came,
        }
    }

    /// With what it is compared, in a sentence.
    fn compared(&self) -> String {
        match self.previous {
            None => "There is no earlier run in this folder to compare with: whatever failed is new.".to_owned(),
            Some(previous) if !previous.comparable(self.run) => format!(
                "The run before in this folder tried something else ({}): whatever failed is new.",
                previous.run.tried()
            ),
            Some(previous) => format!(
                "Compared with the run of {} UTC, seeds {}{}.",
                previous.run.begun().replace('T', " "),
                previous.run.seeds.named(5),
                if previous.run.build == self.run.build { ", same sources" } else { ", other sources" }
            ),
        }
    }
}
