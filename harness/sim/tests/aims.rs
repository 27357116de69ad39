//! What faults are aimed at must exist, or they would never strike and nobody would notice.

use std::fs;
use std::path::Path;

/// All Rust source below `folder`.
fn source(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            text.push_str(&source(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("source is text"));
        }
    }
    text
}

#[test]
fn every_mark_that_faults_wait_for_is_said_by_the_product() {
    let product = source(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster")));
    for mark in faults::MOMENTS {
        assert!(product.contains(&format!("sometimes!(\"{mark}\")")), "no product code says {mark:?}");
    }
}
