//! What clients do during a trial, as data from a seed.
//!
//! A workload decides purely what to ask ([`store::plan`]), asks it through the product's own client over `rt`, and
//! tells a [`Recorder`] what it asked and what came of it. It knows neither simulator nor real processes: the same
//! workload runs against both.
//!
//! ```text
//! seed -> plan -> record::Request -> store::client -> record::Outcome -> Recorder -> record
//! ```

pub mod deployments;
mod random;
mod recorder;
pub mod store;

pub use recorder::{Finished, Happening, Ns, OpenWatch, Recorder, UnderWay};
