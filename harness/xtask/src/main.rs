//! The project's own check.
fn main() {}
