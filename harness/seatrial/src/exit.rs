//! What the testbed's exit codes mean. Scripts rely on them.

use serde::{Deserialize, Serialize};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// Everything held.
    Held,
    /// It could not be done: a machine, a build, a file. Nothing was judged.
    Failed,
    /// The command makes no sense, or what it was given does not.
    Usage,
    /// A safety guarantee was broken.
    Safety,
    /// Something did not happen in time.
    Liveness,
    /// Product code panicked, or a worker died.
    Crash,
    /// The same seed did two different things.
    Divergence,
    /// A guarantee was never put to the test.
    Vacuous,
}

impl Exit {
    /// The code, which among failures of trials is lower for the graver.
    pub fn code(self) -> u8 {
        match self {
            Exit::Held => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Safety => 10,
            Exit::Liveness => 11,
            Exit::Crash => 12,
            Exit::Divergence => 13,
            Exit::Vacuous => 14,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
