//! What a checker collects on its way to a verdict.

use faults::Ns;
use record::{Guarantee, MAX_VIOLATIONS, Verdict, Violation};

/// The violations and counts of one guarantee so far.
pub(crate) struct Findings {
    guarantee: Guarantee,
    tested: u64,
    violations: Vec<Violation>,
    largest_ns: Option<Ns>,
}

impl Findings {
    pub(crate) fn of(guarantee: Guarantee) -> Self {
        Self { guarantee, tested: 0, violations: Vec::new(), largest_ns: None }
    }

    /// The guarantee's condition was met this many times more: each time it could have failed.
    pub(crate) fn tested(&mut self, times: u64) {
        self.tested += times;
    }

    /// A time that the guarantee bounds was seen to be this long.
    pub(crate) fn took(&mut self, ns: Ns) {
        self.largest_ns = self.largest_ns.max(Some(ns));
    }

    pub(crate) fn violated(&mut self, at_ns: Ns, text: String) {
        self.violations.push(Violation { at_ns, text });
    }

    /// The violations in order of time, the first [`MAX_VIOLATIONS`] of them.
    pub(crate) fn verdict(mut self) -> Verdict {
        self.violations.sort_by(|a, b| (a.at_ns, &a.text).cmp(&(b.at_ns, &b.text)));
        self.violations.truncate(MAX_VIOLATIONS);
        Verdict {
            guarantee: self.guarantee,
            tested: self.tested,
            violations: self.violations,
            largest_ns: self.largest_ns,
        }
    }
}
