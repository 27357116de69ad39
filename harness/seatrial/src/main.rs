//! The testbed's command line: `cargo trial`.
//!
//! ```text
//! run -> search: what is tried next, given what was reached     run, shrink -> pool of workers -> sim, checkers -> reports        replay, determinism, bench: one trial at a time
//! why -> pool of workers: the same trial, another way from an instant on -> a bar per instant
//! nightly -> canary, pool of workers -> reports of `run`              diff -> two logs, the first line that differs
//! mutants -> mirror, patch, cargo -> `run` of the planted build        real -> processes -> checkers -> reports
//! ```

#[cfg(not(madsim))]
// The build script says so first; this is for whoever builds without it.
compile_error!(
    "seatrial exists only in the simulator build: run it as `cargo trial ...` and unset RUSTFLAGS (an exported RUSTFLAGS \
     replaces the flags of the alias, and with them its `--cfg madsim`)"
);

mod bench;
mod both;
mod cargo;
mod cli;
mod determinism;
mod diff;
mod difference;
mod exit;
mod interrupt;
mod live;
mod machine;
mod mirror;
mod mutants;
mod nightly;
mod observe;
mod operator;
mod orchestra;
mod patch;
mod pool;
mod progress;
mod replay;
mod report;
mod run;
#[cfg(test)]
mod scan;
mod search;
mod shrink;
mod sources;
mod trial;
mod why;

use clap::Parser;
use cli::{Cli, Command};
use exit::Exit;
use std::process::ExitCode;

/// Every mark in the product's source, and where: found by the build script.
const MARKS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/marks.rs"));

/// Trials of an orchestrator spend a third of their time in malloc and free, most of it on small pieces of JSON. The second
/// version is as fast as the third, and what is freed really goes back to the system: that is a sixth of a trial's memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::FAILED.into()
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Shrink(arguments) => shrink::shrink(&arguments),
        Command::Determinism(arguments) => determinism::determinism(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Why(arguments) => why::why(&arguments),
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Nightly(arguments) => nightly::nightly(&arguments),
        Command::Mutants(arguments) => mutants::mutants(&arguments),
        Command::Operator(arguments) => operator::operator(&arguments),
        Command::Real(arguments) => live::real(&arguments),
        Command::Marks => {
            MARKS.iter().for_each(|(text, place)| println!("{text:<48} {place}"));
            Ok(Exit::HELD)
        }
        Command::BuildHash => {
            println!("{}", trial::BUILD);
            Ok(Exit::HELD)
        }
        Command::Worker => run::worker().map(|()| Exit::HELD),
        Command::Branch => why::worker().map(|()| Exit::HELD),
        Command::Measure => bench::worker().map(|()| Exit::HELD),
        Command::Attempt => shrink::worker().map(|()| Exit::HELD),
        Command::Log(arguments) => replay::log(&arguments),
        Command::Tether { command } => Err(machine::tether(&command).into()),
    }
}
