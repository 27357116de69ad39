//! Where two event logs part ways.
//!
//! **Invariant:** logs that differ anywhere, also in length alone, are told apart (`logs_that_differ_anywhere_are_told_apart`).

/// The first line in which two logs differ, with what is around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Counted from 1.
    pub line: usize,
    /// The last lines that are the same.
    pub before: Vec<String>,
    /// From the first line that differs on, on the left; empty if that log ends there.
    pub left: Vec<String>,
    /// The same on the right.
    pub right: Vec<String>,
}

/// What stands for a line where a log has ended.
pub const ENDS: &str = "(ends here)";

impl Difference {
    /// The first line that differs, on the left.
    pub fn first_left(&self) -> &str {
        self.left.first().map_or(ENDS, String::as_str)
    }

    /// The first line that differs, on the right.
    pub fn first_right(&self) -> &str {
        self.right.first().map_or(ENDS, String::as_str)
    }
}

/// Where two logs differ first, with so many lines around it; `None` if they are the same.
pub fn first_difference(left: &[u8], right: &[u8], context: usize) -> Option<Difference> {
    if left == right {
        return None;
    }
    let same = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let line_start = left[..same].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (shared, left, right) = (&left[..line_start], &left[line_start..], &right[line_start..]);
    let mut before: Vec<String> = shared.split(|byte| *byte == b'\n').rev().skip(1).take(context).map(text).collect();
    before.reverse();
    Some(Difference {
        line: shared.iter().filter(|byte| **byte == b'\n').count() + 1,
        before,
        left: lines(left, context + 1),
        right: lines(right, context + 1),
    })
}

/// The first lines of the rest of a log.
fn lines(log: &[u8], count: usize) -> Vec<String> {
    let log = log.strip_suffix(b"\n").unwrap_or(log);
    if log.is_empty() {
        return Vec::new();
    }
    log.split(|byte| *byte == b'\n').take(count).map(text).collect()
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

/// The instant of a line of a log, in nanoseconds since the trial began; `None` if it is no such line.
pub fn instant_ns(line: &str) -> Option<u64> {
    line.split(' ').next()?.parse().ok()
}

/// The host that a line of a log is about, as logs of the product call it; `None` where it is about no single one.
pub fn host(line: &str) -> Option<String> {
    let mut words = line.split(' ').skip(1);
    let numbered = |prefix: &str, word: Option<&str>| {
        let number: u32 = word?.trim_end_matches(',').parse().ok()?;
        Some(format!("{prefix}{}", number + 1))
    };
    match words.next()? {
        "mark" | "warns" | "process" | "leads" | "steps-down" | "commits" | "applied" | "state" | "lease-granted"
        | "lease-gone" => numbered("s", words.next()),
        "panic" => words.next().map(str::to_owned),
        // What was seen of an orchestrator is written with the names of its parts.
        _ => {
            let mut words = words.skip_while(|word| !matches!(*word, "node:" | "member:"));
            match words.next()? {
                "node:" => numbered("n", words.next()),
                _ => numbered("s", words.next()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &str, right: &str, expected: Option<(usize, &str, &str)>) {
        let difference = first_difference(left.as_bytes(), right.as_bytes(), 0);
        let found = difference.as_ref().map(|it| (it.line, it.first_left(), it.first_right()));
        assert_eq!(found, expected);
    }

    #[test]
    fn logs_that_differ_anywhere_are_told_apart() {
        check("a\nb\n", "a\nb\n", None);
        check("", "", None);
        check("a\nbc\nd\n", "a\nbx\nd\n", Some((2, "bc", "bx")));
        check("a\n", "a\nb\n", Some((2, "(ends here)", "b")));
        check("x\n", "", Some((1, "x", "(ends here)")));
        check("a\nb", "a\nb\n", Some((2, "b", "b")));
    }

    #[test]
    fn what_is_around_a_difference_is_shown_as_far_as_there_is_something() {
        let around = |context| first_difference(b"a\nb\nc\nd\ne\nf\n", b"a\nb\nc\nx\n", context).expect("they differ");
        let difference = around(2);
        assert_eq!((difference.line, difference.before), (4, vec!["b".to_owned(), "c".to_owned()]));
        assert_eq!(
            (difference.left, difference.right),
            (vec!["d".into(), "e".into(), "f".into()], vec!["x".to_owned()])
        );
        assert_eq!(around(9).before, ["a", "b", "c"]);
    }

    #[test]
    fn a_line_tells_its_instant_and_its_host() {
        for (line, ns, expected) in [
            ("5277725846 mark 2 vote granted", Some(5_277_725_846), Some("s3")),
            ("7 mark client watch resumed", Some(7), None),
            ("7 commits 0 1 93 1", Some(7), Some("s1")),
            ("7 asks 162 1 txn 0 - delete k/0007 -", Some(7), None),
            ("7 Agent { at_ns: 7, node: 3, up: true }", Some(7), Some("n4")),
            ("7 Started(Container { at_ns: 7, node: 0, pod_uid: \"u\" })", Some(7), Some("n1")),
            ("7 Effect { at_ns: 7, member: 1, controller: \"c\", key: \"k\" }", Some(7), Some("s2")),
            ("7 panic n2 it broke", Some(7), Some("n2")),
            ("(ends here)", None, None),
        ] {
            assert_eq!((instant_ns(line), host(line)), (ns, expected.map(str::to_owned)), "{line}");
        }
    }
}
