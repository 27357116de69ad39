//! `run --backend both`: the same seeds in both simulators, and where they disagree.
//!
//! Each comes to its own tables and report. What one of them finds and the other does not is worth a look: a guarantee that
//! fails in one alone may be the product's fault that only its order of events brings out, or the simulator's.

use crate::cli::{Backend, Run, Setting};
use crate::exit::Exit;
use crate::interrupt;
use crate::run::{self, Told};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// Runs the trials in each and prints what came of them, and the disagreements. The code is that of the first in which not
/// all is well.
///
/// # Errors
/// A machine that cannot start workers or take files.
pub fn run(arguments: &Run) -> anyhow::Result<Exit> {
    let config = |backend| run::config(&Setting { backend, ..arguments.setting.clone() });
    let configs = match (config(Backend::Madsim), config(Backend::Turmoil)) {
        (Ok(madsim), Ok(turmoil)) => [madsim, turmoil],
        (Err(why), _) | (_, Err(why)) => {
            eprintln!("error: {why}");
            return Ok(Exit::USAGE);
        }
    };
    let stop = interrupt::listen();
    let mut exits = Vec::new();
    let mut failed = Vec::new();
    for config in configs {
        let name = config.backend.name();
        if !arguments.json {
            println!("under {name}:\n");
        }
        let (exit, results) = run::tried(arguments, &config, &arguments.out.join(name), stop)?;
        exits.push(exit);
        failed.push((name, failures(results)));
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    if let [one, other] = &failed[..] {
        let lines = disagreements(one, other);
        if arguments.json {
            println!("{}", serde_json::json!({ "disagreements": lines }));
        } else {
            let seeds = one.1.keys().filter(|seed| other.1.contains_key(seed)).count();
            println!("\nof {seeds} seeds they disagree on {}", lines.len());
            lines.iter().for_each(|line| println!("{line}"));
        }
    }
    Ok(exits.into_iter().find(|exit| *exit != Exit::HELD).unwrap_or(Exit::HELD))
}

/// By seed, what failed.
type Failures = BTreeMap<u64, BTreeSet<String>>;

fn failures(results: BTreeMap<u64, Told>) -> Failures {
    results.into_iter().map(|(seed, told)| (seed, told.failed)).collect()
}

/// A line for each seed that both have tried and in which not the same failed.
fn disagreements(one: &(&str, Failures), other: &(&str, Failures)) -> Vec<String> {
    let mut lines = Vec::new();
    for (seed, failed) in &one.1 {
        let Some(also) = other.1.get(seed) else { continue };
        let alone = |name: &str, these: &BTreeSet<String>, those: &BTreeSet<String>| {
            let only: Vec<&str> = these.difference(those).map(String::as_str).collect();
            (!only.is_empty()).then(|| format!("{} under {name} alone", only.join(", ")))
        };
        let parts: Vec<String> =
            [alone(one.0, failed, also), alone(other.0, also, failed)].into_iter().flatten().collect();
        if !parts.is_empty() {
            lines.push(format!("seed {seed} fails by {}", parts.join(", and by ")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_finds_is_a_disagreement_and_what_only_one_has_tried_is_not() {
        let failed = |seeds: &[(u64, &[&str])]| -> Failures {
            seeds.iter().map(|(seed, names)| (*seed, names.iter().map(|name| (*name).to_owned()).collect())).collect()
        };
        let madsim = ("madsim", failed(&[(1, &[]), (2, &["C1", "C2"]), (3, &["C6"]), (4, &["C1"]), (5, &["C3"])]));
        let turmoil = ("turmoil", failed(&[(1, &[]), (2, &["C1", "C9"]), (3, &["C6"]), (4, &[])]));
        assert_eq!(
            disagreements(&madsim, &turmoil),
            [
                "seed 2 fails by C2 under madsim alone, and by C9 under turmoil alone",
                "seed 4 fails by C1 under madsim alone"
            ]
        );
    }
}
