//! YAML as the API takes and gives it: a form of JSON, by the rules of YAML 1.1 that upstream's library has.
//!
//! ```text
//! body ──saphyr-parser: events──▶ read: scalars, aliases, duplicates ──▶ Value        Value ──write──▶ text
//! ```
//!
//! So `yes`, `on` and `y` are true, `0777` is octal and a timestamp is text, whatever later versions of YAML say. Of several
//! documents the first one counts.
//!
//! **Invariant:** what is written is read as what it was (`what_is_written_is_read_again`), and no document takes more memory
//! than a JSON of the same limits (`aliases_multiply_nothing_without_end`).
//!
//! **Difference:** a merge (`<<`) leaves keys alone that the mapping has itself, wherever they stand, as YAML has it; upstream's
//! library lets whichever comes last win.

mod read;
mod scalar;
mod write;

pub use read::{YamlError, parse};
pub use write::write;

#[cfg(test)]
mod tests;
