//! `diff`: two runs, and the first event in which they differ.
//!
//! ```text
//! log file ------------------------------> lines --.
//! record, case or seed -> run once more -> lines ---+-> first line that differs, with what is around it
//! ```

use crate::cli::{Diff, Setting};
use crate::difference::{self, Difference};
use crate::exit::Exit;
use crate::replay;
use crate::trial;
use anyhow::Context;
use std::fs;
use std::path::Path;

/// One side of it.
struct Side {
    /// As the user calls it.
    name: String,
    log: Vec<u8>,
}

/// Finds the first event that differs and shows it.
///
/// # Errors
/// The simulator itself panicked.
pub fn diff(arguments: &Diff) -> anyhow::Result<Exit> {
    // Both are looked at before either is run, which may take a while.
    let given = [&arguments.left, &arguments.right].map(|given| find(given, &arguments.setting));
    let [left, right] = match given {
        [Ok(left), Ok(right)] => [left, right],
        [Err(why), _] | [_, Err(why)] => {
            eprintln!("error: {why}");
            return Ok(Exit::USAGE);
        }
    };
    let (left, right) = (read(&arguments.left, left)?, read(&arguments.right, right)?);
    match difference::first_difference(&left.log, &right.log, arguments.context.into()) {
        None => {
            let lines = left.log.iter().filter(|byte| **byte == b'\n').count();
            println!("{} and {} are the same: {lines} lines", left.name, right.name);
            Ok(Exit::HELD)
        }
        Some(difference) => {
            print!("{}", shown(&left.name, &right.name, &difference));
            Ok(Exit::DIVERGENCE)
        }
    }
}

/// What one side was given as.
enum Given {
    Log(Vec<u8>),
    Trial(Box<sim::Trial>),
}

/// What `given` names: a seed, or a file that its name tells the kind of. The error is one sentence.
fn find(given: &str, setting: &Setting) -> Result<Given, String> {
    let path = Path::new(given);
    if !path.exists()
        && let Ok(seed) = given.parse()
    {
        return Ok(Given::Trial(Box::new(sim::trial(trial::config(setting)?, seed))));
    }
    if path.extension().is_some_and(|extension| extension == "json") || replay::is_case(path) {
        return Ok(Given::Trial(Box::new(replay::given(path)?.0)));
    }
    let log = fs::read(path)
        .map_err(|error| format!("cannot read {given}: {error}; give a log, a record, a shrunk trial or a seed"))?;
    let first = String::from_utf8_lossy(log.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    if difference::instant_ns(&first).is_none() {
        return Err(format!(
            "{given} is no log of a trial: lines of one begin with nanoseconds, but its first is {first:?}"
        ));
    }
    Ok(Given::Log(log))
}

fn read(name: &str, given: Given) -> anyhow::Result<Side> {
    let log = match given {
        Given::Log(log) => log,
        Given::Trial(trial) => replay::log_of(*trial).with_context(|| format!("{name} has no log"))?.into_bytes(),
    };
    Ok(Side { name: name.to_owned(), log })
}

/// For people: where, and both sides.
fn shown(left: &str, right: &str, difference: &Difference) -> String {
    let firsts = [difference.first_left(), difference.first_right()];
    let instants: Vec<String> = firsts
        .iter()
        .filter_map(|line| difference::instant_ns(line))
        .map(|ns| format!("{:.9} s", trial::seconds(ns)))
        .collect();
    let hosts: Vec<String> = firsts.iter().filter_map(|line| difference::host(line)).collect();
    let either = |mut all: Vec<String>| {
        all.dedup();
        all.join(" or ")
    };
    let on = if hosts.is_empty() { String::new() } else { format!(", on {}", either(hosts)) };
    let mut text = format!("they differ from line {}, at {}{on}\n", difference.line, either(instants));
    difference.before.iter().for_each(|line| text += &format!("    {line}\n"));
    for (mark, name, lines) in [("A", left, &difference.left), ("B", right, &difference.right)] {
        text += &format!("{mark}: {name}\n");
        if lines.is_empty() {
            text += &format!("  {mark} {}\n", difference::ENDS);
        }
        lines.iter().for_each(|line| text += &format!("  {mark} {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_shown_with_instant_and_host() {
        let (left, right) = ("5 mark 0 a\n1500000000 leads 1 4\n", "5 mark 0 a\n1500000007 leads 2 4\n7 x\n");
        let difference = difference::first_difference(left.as_bytes(), right.as_bytes(), 1).expect("they differ");
        let expected = "they differ from line 2, at 1.500000000 s or 1.500000007 s, on s2 or s3\n    5 mark 0 a\n\
                        A: a.log\n  A 1500000000 leads 1 4\nB: 18\n  B 1500000007 leads 2 4\n  B 7 x\n";
        assert_eq!(shown("a.log", "18", &difference), expected);
    }

    #[test]
    fn a_log_that_ends_is_shown_as_such() {
        let difference = difference::first_difference(b"5 mark 0 a\n", b"5 mark 0 a\n6 mark 0 b\n", 0);
        let text = shown("a", "b", &difference.expect("they differ"));
        assert_eq!(
            text,
            "they differ from line 2, at 0.000000006 s, on s1\nA: a\n  A (ends here)\nB: b\n  B 6 mark 0 b\n"
        );
    }
}
