//! `why`: when it was decided that a trial fails.
//!
//! ```text
//! record -> points in time before the failure -> of each, some runs that are the same until then and go other ways
//!        from there on -> how many of them fail too -> a bar per point; more points where it changes most
//! ```
//!
//! Seeds, faults and the draws of network, disks and clients stay as they are: other is the order in which ready tasks
//! run, and what follows from it. A failure that no other way avoids is decided before; one that hardly any way repeats,
//! not yet.
//!
//! **Invariant:** nothing is said of a trial that does not fail when it goes its own way (`what_does_not_fail_is_not_shrunk`
//! in tests/commands.rs).

use crate::cli::{self, Why};
use crate::exit::Exit;
use crate::pool::{self, Crew, Done};
use crate::progress::Progress;
use crate::trial::{self, CRASH, Judged};
use crate::{machine, run, shrink};
use anyhow::Context;
use faults::Ns;
use record::{Backend, Case, SAMPLE_NS, Strike};
use serde::{Deserialize, Serialize};
use sim::Swerve;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

/// Width of a full bar.
const BAR: usize = 30;

/// A run asked of a worker.
#[derive(Debug, Serialize, Deserialize)]
struct Branch {
    case: Case,
    swerve: Swerve,
}

/// How often a trial fails that goes other ways from here on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chance {
    failed: u32,
    tried: u32,
}

impl Chance {
    /// In thousandths.
    fn permille(self) -> u32 {
        self.failed * 1000 / self.tried.max(1)
    }
}

/// Finds out and shows it.
///
/// # Errors
/// A machine that cannot start workers.
pub fn why(arguments: &Why) -> anyhow::Result<Exit> {
    let case = match shrink::failing(&arguments.record, arguments.guarantee.as_ref()) {
        Ok((case, _)) => case,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(Exit::USAGE);
        }
    };
    if case.config.backend == Backend::Turmoil {
        eprintln!("error: only madsim lets a trial go another way from an instant on, and this one is of turmoil");
        return Ok(Exit::USAGE);
    }
    let Judged { record, .. } = trial::judged(trial::of_case(&case));
    let Some(failed_ns) = trial::failed_ns(&record, &case.fails) else {
        println!("{} does not fail when this trial is run again: nothing to explain", case.fails);
        return Ok(Exit::DIVERGENCE);
    };
    println!(
        "{} failed at {:.3} s; from each instant before, {} other ways:",
        case.fails,
        trial::seconds(failed_ns),
        arguments.ways
    );
    let mut chances = BTreeMap::new();
    let first = spread(0, failed_ns, arguments.points);
    chances.extend(explore(arguments, &case, &first)?);
    if let Some((from_ns, until_ns)) = steepest(&chances) {
        let between = spread(from_ns, until_ns, arguments.points / 2);
        let new: Vec<Ns> = between.into_iter().filter(|at_ns| !chances.contains_key(at_ns)).collect();
        chances.extend(explore(arguments, &case, &new)?);
    }
    println!("{}", shown(&chances, &record.strikes));
    Ok(Exit::HELD)
}

/// So many instants at which a trial can swerve, in equal steps from the first on and before the last.
fn spread(from_ns: Ns, until_ns: Ns, points: u32) -> Vec<Ns> {
    let step = |point: u32| from_ns + (until_ns - from_ns) / Ns::from(points.max(1)) * Ns::from(point);
    let all = (0..points).map(|point| step(point).next_multiple_of(SAMPLE_NS).max(SAMPLE_NS));
    all.filter(|at_ns| *at_ns < until_ns).collect::<BTreeSet<Ns>>().into_iter().collect()
}

/// The two neighbours between which the chance rises most; `None` if it never does.
fn steepest(chances: &BTreeMap<Ns, Chance>) -> Option<(Ns, Ns)> {
    let pairs = chances.iter().zip(chances.iter().skip(1));
    let rises = pairs.map(|((from, a), (until, b))| (b.permille().saturating_sub(a.permille()), *from, *until));
    // Of equal ones the last: what comes later is nearer to the failure.
    rises.filter(|(rise, ..)| *rise > 0).max().map(|(_, from_ns, until_ns)| (from_ns, until_ns))
}

/// Runs the trial so many other ways from each of these instants on.
fn explore(arguments: &Why, case: &Case, points: &[Ns]) -> anyhow::Result<BTreeMap<Ns, Chance>> {
    let program = machine::this_program()?;
    let stop = AtomicBool::new(false);
    let crew = Crew { slots: cli::jobs(arguments.jobs), hung_after: run::hung_after(&case.config), stop: &stop };
    let mut chances: BTreeMap<Ns, Chance> = BTreeMap::new();
    let all: Vec<Swerve> =
        points.iter().flat_map(|at_ns| (1..=arguments.ways).map(|way| Swerve { at_ns: *at_ns, way })).collect();
    let jobs = (0..).zip(&all).map(|(number, swerve)| (number, Branch { case: case.clone(), swerve: *swerve }));
    let swerves: BTreeMap<u64, Swerve> = (0..).zip(all.iter().copied()).collect();
    let mut progress = Progress::of(all.len() as u64, "other ways");
    pool::run(
        || machine::command(&program, "branch"),
        crew,
        jobs,
        |number, done: Done<BTreeSet<String>>| {
            let fails = match done {
                Done::Answered(failed) => failed.contains(&case.fails),
                Done::Died(_) => case.fails == CRASH,
            };
            if let Some(Swerve { at_ns, .. }) = swerves.get(&number) {
                let chance = chances.entry(*at_ns).or_default();
                chance.tried += 1;
                chance.failed += u32::from(fails);
            }
            progress.step();
            ControlFlow::Continue(())
        },
    )
    .context("a worker cannot be started")?;
    progress.end();
    Ok(chances)
}

/// Runs the trials that come in as lines and tells what failed in each.
///
/// # Errors
/// Lines that are no trials.
pub fn worker() -> anyhow::Result<()> {
    pool::work(|branch: &Branch| {
        let trial = sim::Trial { swerve: Some(branch.swerve), ..trial::of_case(&branch.case) };
        Ok(trial::failed(&trial::judged(trial).record))
    })
}

/// A bar per instant, and what struck where the chance rises most.
fn shown(chances: &BTreeMap<Ns, Chance>, strikes: &[Strike]) -> String {
    let mut lines: Vec<String> = chances
        .iter()
        .map(|(at_ns, chance)| {
            let filled = (chance.permille() as usize * BAR).div_ceil(1000);
            let (bar, rest) = ("#".repeat(filled), ".".repeat(BAR - filled));
            format!("  {:>9.1} s  {bar}{rest}  {} of {}", trial::seconds(*at_ns), chance.failed, chance.tried)
        })
        .collect();
    let Some((from_ns, until_ns)) = steepest(chances) else {
        lines.push("it is as likely from the first instant on as from the last: no single moment decides".to_owned());
        return lines.join("\n");
    };
    let percent = |at_ns: &Ns| chances.get(at_ns).map_or(0, |chance| chance.permille() / 10);
    lines.push(format!(
        "most is decided between {:.1} s ({} %) and {:.1} s ({} %)",
        trial::seconds(from_ns),
        percent(&from_ns),
        trial::seconds(until_ns),
        percent(&until_ns)
    ));
    let then = strikes.iter().filter(|strike| strike.from_ns < until_ns && strike.until_ns > from_ns);
    lines.extend(then.map(|strike| {
        let (kind, from_s, until_s) =
            (strike.kind.name(), trial::seconds(strike.from_ns), trial::seconds(strike.until_ns));
        format!("  while {kind} struck, {from_s:.3} s to {until_s:.3} s (fault {})", strike.fault)
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::Kind;

    const SECOND_NS: Ns = 1_000_000_000;

    fn chances(failed: &[u32]) -> BTreeMap<Ns, Chance> {
        (1..).zip(failed).map(|(s, failed)| (s * SECOND_NS, Chance { failed: *failed, tried: 10 })).collect()
    }

    #[test]
    fn instants_are_spread_over_the_time_before_the_failure_and_none_is_after_it() {
        let tenths = |points: Vec<Ns>| points.into_iter().map(|at_ns| at_ns / SAMPLE_NS).collect::<Vec<Ns>>();
        assert_eq!(tenths(spread(0, 10 * SECOND_NS, 5)), [1, 20, 40, 60, 80]);
        assert_eq!(tenths(spread(2 * SECOND_NS, 3 * SECOND_NS, 4)), [20, 23, 25, 28]);
        assert_eq!(tenths(spread(0, SECOND_NS / 5, 12)), [1], "there is one before the failure");
        assert_eq!(spread(0, 1, 12), Vec::<Ns>::new());
    }

    #[test]
    fn the_moment_is_where_the_chance_rises_most() {
        assert_eq!(steepest(&chances(&[1, 2, 2, 9, 10])), Some((3 * SECOND_NS, 4 * SECOND_NS)));
        assert_eq!(steepest(&chances(&[0, 5, 10])), Some((2 * SECOND_NS, 3 * SECOND_NS)), "the later of equal ones");
        assert_eq!(steepest(&chances(&[10, 10, 9])), None);
        assert_eq!(steepest(&chances(&[3])), None);
    }

    #[test]
    fn bars_show_how_likely_it_is_and_what_struck_meanwhile() {
        let strike = |kind, from_ns, until_ns| Strike {
            fault: 7,
            kind,
            from_ns,
            until_ns,
            members: vec![],
            clients: vec![],
            nodes: vec![],
            busy: true,
            disabled: vec![],
            severed: vec![],
        };
        let strikes = [strike(Kind::Kill, SECOND_NS * 3 / 2, SECOND_NS * 9 / 5), strike(Kind::Pause, 0, SECOND_NS / 2)];
        let text = shown(&chances(&[1, 10]), &strikes);
        let expected = [
            "        1.0 s  ###...........................  1 of 10",
            "        2.0 s  ##############################  10 of 10",
            "most is decided between 1.0 s (10 %) and 2.0 s (100 %)",
            "  while kill struck, 1.500 s to 1.800 s (fault 7)",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(shown(&chances(&[4, 4]), &strikes).ends_with("no single moment decides"));
    }

    #[test]
    fn what_failed_first_is_where_it_is_looked_for() {
        let mut record = sim::run(sim::trial(
            record::Config { faults_ns: SECOND_NS, calm_ns: SECOND_NS, ..sim::scenario("calm").expect("there is one") },
            1,
        ))
        .record;
        assert_eq!(trial::failed_ns(&record, "C1"), None);
        record.panics.push(record::Panic { at_ns: 5, host: "s1".into(), message: "it broke".into() });
        assert_eq!((trial::failed_ns(&record, CRASH), trial::failed_ns(&record, "C1")), (Some(5), None));
    }
}
