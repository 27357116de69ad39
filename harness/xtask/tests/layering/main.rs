//! The architecture's invariants, checked against the manifests and the sources as they stand.
//!
//! ```text
//! every Cargo.toml -> manifests::violations(table, crates) -> none
//! cluster/*/src    -> sources::violations(file, text)      -> none
//! ```
//!
//! Both deciding functions are pure, so each rule is also put to something that breaks it.

mod manifests;
mod sources;

use std::path::{Path, PathBuf};

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_crate_depends_only_on_what_its_layer_allows() {
    let crates = manifests::read_workspace(&root());
    assert!(crates.len() >= manifests::LAYERS.len(), "the workspace was not read: {crates:?}");
    let violations = manifests::violations(manifests::LAYERS, &crates);
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn only_rt_touches_the_machine() {
    let files = sources::read_cluster(&root());
    assert!(files.iter().any(|(path, _)| path == "cluster/mark/src/lib.rs"), "the sources were not read");
    let violations: Vec<_> = files.iter().flat_map(|(path, text)| sources::violations(path, text)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}
