//! Records in; a table, JSON, and the line that a person reads first out.
//!
//! ```text
//! worker processes: judged Record -> Summary --merge--> Summary of the run -> table, json, exit_code
//!                   a failed Record -> failure_line
//! ```
//!
//! A [`Summary`] is small, whatever it is of, and merging is the same in any order.

mod failure;
mod json;
mod summary;
mod table;

pub use failure::{Failure, failure_line};
pub use summary::{Operations, Struck, Summary, Tally, VACUOUS_FROM, exit_code};
