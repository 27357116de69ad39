//! `operator`: builds an operator's crate for the simulator and has its program do the rest.

use crate::cargo;
use crate::cli::{self, Operator};
use crate::exit::Exit;
use anyhow::Context;
use record::OperatorOrders;
use std::path::Path;

/// The example's.
const EXAMPLE: &str = "workloads/replicated/Cargo.toml";

/// Builds and runs it; its exit code is the program's.
///
/// # Errors
/// No checkout around the current directory, or a cargo that cannot be run.
pub fn operator(arguments: &Operator) -> anyhow::Result<Exit> {
    let root = cargo::root()?;
    let example = root.join(EXAMPLE);
    let manifest = arguments.manifest_path.as_deref().unwrap_or(&example);
    let orders = serde_json::to_string(&orders(arguments)).context("orders have a form in JSON")?;
    eprintln!("building {}", manifest.display());
    let mut command = cargo::run_operator(&root, manifest, arguments.bin.as_deref());
    let status = command.arg("--").arg(orders).status().context("cargo cannot be run")?;
    Ok(Exit::of_program(status))
}

fn orders(arguments: &Operator) -> OperatorOrders {
    let Operator { manifest_path, bin, seeds, seed, strikes, jobs, out, plan, json } = arguments;
    OperatorOrders {
        seed: *seed,
        seeds: *seeds,
        strikes: strikes.clone(),
        jobs: cli::jobs(*jobs),
        out: out.clone(),
        plan: plan.clone(),
        json: *json,
        called: called(manifest_path.as_deref(), bin.as_deref()),
    }
}

/// How the same program is called again.
fn called(manifest_path: Option<&Path>, bin: Option<&str>) -> String {
    let mut called = "cargo trial operator".to_owned();
    if let Some(path) = manifest_path {
        called += &format!(" --manifest-path {}", path.display());
    }
    if let Some(bin) = bin {
        called += &format!(" --bin {bin}");
    }
    called
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_a_trial_names_the_same_program() {
        assert_eq!(called(None, None), "cargo trial operator");
        let path = Path::new("../mine/Cargo.toml");
        assert_eq!(called(Some(path), Some("b")), "cargo trial operator --manifest-path ../mine/Cargo.toml --bin b");
    }
}
