//! Why a pod fits nowhere, in upstream's words: people and tools read them.

use std::collections::BTreeMap;

/// `0/5 nodes are available: 2 Insufficient cpu, 3 node(s) were unschedulable.`: reasons with the number of nodes that
/// have each, sorted as texts are.
pub fn unavailable<'a>(nodes: usize, reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut texts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort();
    if texts.is_empty() {
        return format!("0/{nodes} nodes are available:");
    }
    format!("0/{nodes} nodes are available: {}.", texts.join(", "))
}

/// Longest text of an Event: upstream's `NoteLengthLimit`.
const MAX_NOTE: usize = 1024;

/// Cut to what an Event may hold, with the cut shown.
pub fn truncated(text: &str) -> String {
    const CUT: &str = " ...";
    if text.len() <= MAX_NOTE {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_NOTE - CUT.len());
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn reasons_are_counted_and_sorted_as_texts() {
        let reasons = ["b"; 2].into_iter().chain(["a"; 10]).chain(["c"]);
        expect!["0/13 nodes are available: 1 c, 10 a, 2 b."].assert_eq(&unavailable(13, reasons));
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        let text = truncated(&"ä".repeat(1000));
        assert!(text.len() <= MAX_NOTE && text.ends_with("ä ..."));
        assert_eq!(truncated("short"), "short");
    }
}
