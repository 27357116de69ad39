//! Runs a trial of an orchestrator of real processes: `real-trial ORDER`. See crate `real`; `cargo trial real` runs it.

use anyhow::Context;
use real::{Order, RECORD_FILE};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the order, does it, and leaves the record beside it.
fn run() -> anyhow::Result<()> {
    let path =
        std::env::args_os().nth(1).context("usage: real-trial ORDER, which is what `cargo trial real` writes")?;
    let text = std::fs::read(&path).context("the order cannot be read")?;
    let order: Order = serde_json::from_slice(&text).context("the order is not understood")?;
    let record = rt::task::block_on(real::run(&order))?;
    record::write(&order.folder.join(RECORD_FILE), &record).context("the record cannot be written")
}
