//! The guarantees, checked over records.
