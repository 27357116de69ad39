//! Fixed tracing targets by which product code reports what a trial wants to see.
//!
//! Product code does not know who watches. It says what happens, through `tracing` alone, on these targets:
//!
//! | target | says | written with |
//! |---|---|---|
//! | [`MARK`] | a rare situation came up | [`sometimes!`] |
//! | [`LEAD`] | a member came to lead, ceased to lead, or committed as leader | [`leads`], [`steps_down`], [`commits`] |
//!
//! On a real machine nobody listens on them unless asked, and an event that nobody listens to costs one load. In a
//! trial the simulator's subscriber counts the marks, aims faults at them and judges leadership by them.
//!
//! **Invariant:** a mark's text is a literal, so that a scan of the source can list those that no trial ever reached
//! (`harness/seatrial/build.rs`).

/// Target of [`sometimes!`].
pub const MARK: &str = "mark";
/// Target of [`leads`], [`steps_down`] and [`commits`].
pub const LEAD: &str = "lead";

#[doc(hidden)]
pub use tracing;

/// Says that a rare situation came up: `sometimes!("vote granted")`. The text names the situation, not the code.
#[macro_export]
macro_rules! sometimes {
    ($text:literal) => {
        $crate::tracing::event!(target: "mark", $crate::tracing::Level::INFO, mark = $text)
    };
}

/// Member `member` believes from now on that it leads in `term`.
pub fn leads(member: u64, term: u64) {
    tracing::event!(target: "lead", tracing::Level::INFO, lead = "leads", member, term);
}

/// Member `member` ceased to believe that it leads in `term`.
pub fn steps_down(member: u64, term: u64) {
    tracing::event!(target: "lead", tracing::Level::INFO, lead = "steps down", member, term);
}

/// Member `member`, leading in `term`, counted replicas and so committed up to `index`, an entry of `entry_term`.
pub fn commits(member: u64, term: u64, index: u64, entry_term: u64) {
    tracing::event!(target: "lead", tracing::Level::INFO, lead = "commits", member, term, index, entry_term);
}
