//! How far something long has come, on stderr: a bar on a terminal, and a line now and then in a log.

use crate::trial::{self, Clock};
use faults::Ns;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// From line to line in a log: often enough to see that it goes on, seldom enough that hours of it can be read.
const EVERY_NS: Ns = 60_000_000_000;

/// So many of something, of which more and more are done.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Where nobody sees the bar.
    log: Option<Log>,
}

/// What is said in a log, and when.
#[derive(Debug)]
struct Log {
    total: u64,
    what: &'static str,
    clock: Clock,
    said_ns: Ns,
}

impl Progress {
    /// Nothing is done yet of so many, which are called `what`.
    pub fn of(total: u64, what: &'static str) -> Self {
        let style = ProgressStyle::with_template(&format!(
            "{{bar:40}} {{pos}}/{{len}} {what}, {{elapsed}} gone, {{eta}} to go"
        ));
        let bar = ProgressBar::new(total);
        // The template is seen to be good whenever there is a terminal; without a style there is still a bar.
        let bar = if let Ok(style) = style { bar.with_style(style) } else { bar };
        let log = || Log { total, what, clock: Clock::begin(), said_ns: 0 };
        Self { bar, log: (!std::io::stderr().is_terminal()).then(log) }
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.bar.inc(1);
        let done = self.bar.position();
        if let Some(line) = self.log.as_mut().and_then(|log| log.line(done, log.clock.now_ns())) {
            eprintln!("{line}");
        }
    }

    /// Prints something else meanwhile.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// No more is done.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

impl Log {
    /// What is to be said now, if it is time.
    fn line(&mut self, done: u64, now_ns: Ns) -> Option<String> {
        if now_ns < self.said_ns + EVERY_NS {
            return None;
        }
        self.said_ns = now_ns;
        let Self { total, what, .. } = self;
        Some(format!("{done}/{total} {what}, {:.0} min gone", trial::seconds(now_ns) / 60.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_a_line_a_minute() {
        let mut log = Log { total: 1000, what: "trials", clock: Clock::begin(), said_ns: 0 };
        let mut lines = Vec::new();
        for (done, second) in [(1, 20), (4, 59), (5, 60), (6, 119), (9, 300), (10, 301)] {
            lines.extend(log.line(done, second * 1_000_000_000));
        }
        assert_eq!(lines, ["5/1000 trials, 1 min gone", "9/1000 trials, 5 min gone"]);
    }
}
