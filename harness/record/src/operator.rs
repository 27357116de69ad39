//! What is to be tried of an operator: from the command line to the operator's own program.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// What can strike an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrikeKind {
    /// Its process is killed before or after a write.
    #[default]
    Crash,
    /// What a watch tells is withheld for a while.
    Stale,
    /// What a watch tells is withheld, and then never told.
    Missed,
}

impl StrikeKind {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Crash, Self::Stale, Self::Missed];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Stale => "stale",
            Self::Missed => "missed",
        }
    }
}

impl fmt::Display for StrikeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What `cargo trial operator` asks of an operator's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorOrders {
    /// The first seed.
    pub seed: u64,
    /// How many.
    pub seeds: u64,
    /// What may strike.
    pub strikes: Vec<StrikeKind>,
    /// Trials at once.
    pub jobs: usize,
    /// Where plans of failing trials go.
    pub out: PathBuf,
    /// Instead of all that: the one trial of this file.
    pub plan: Option<PathBuf>,
    /// Whether a machine reads what is printed.
    pub json: bool,
    /// The command that was typed, without what is for the trials: for what is printed.
    pub called: String,
}
