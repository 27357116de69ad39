//! What the testbed's exit codes mean. Scripts rely on them.

use std::process::{ExitCode, ExitStatus};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// Everything held.
    pub const HELD: Self = Self(0);
    /// It could not be done: a machine, a build, a file. Nothing was judged.
    pub const FAILED: Self = Self(1);
    /// The command makes no sense, or what it was given does not.
    pub const USAGE: Self = Self(2);
    /// A safety guarantee was broken; of the board of mutants: something is not as it should be.
    pub const SAFETY: Self = Self(10);
    /// Product code panicked, or a process died.
    pub const CRASH: Self = Self(12);
    /// The same seed did two different things.
    pub const DIVERGENCE: Self = Self(13);

    /// Something was never put to the test.
    pub const VACUOUS: Self = Self(14);
    /// Stopped by Ctrl-C or SIGTERM before everything was tried; nothing that was tried failed. What shells say of it.
    pub const INTERRUPTED: Self = Self(130);

    /// That of another program; of one that was killed, that it died.
    pub fn of_program(status: ExitStatus) -> Self {
        status.code().map_or(Self::CRASH, |code| Self(u8::try_from(code).unwrap_or(Self::FAILED.0)))
    }

    /// As the system is told.
    pub fn code(self) -> u8 {
        self.0
    }

    /// That of judged trials: one of the above, 11 if something did not happen in time, 14 if something was never put
    /// to the test.
    pub fn of(summary: &reports::Summary) -> Self {
        Self(reports::exit_code(summary))
    }

    /// That of trials of which not all were made: what failed counts more than that, and what was never put to the test
    /// says nothing.
    pub fn of_some(summary: &reports::Summary) -> Self {
        match reports::exit_code(summary) {
            0 | 14 => Self::INTERRUPTED,
            code => Self(code),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.0)
    }
}
