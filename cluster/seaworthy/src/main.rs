//! The `seaworthy` binary: arguments, logs, signals, exit codes. Everything else is in the libraries.

use clap::Parser;
use seaworthy::{Server, ServerConfig};
use std::process::ExitCode;
use store::server::{MemberConfig, StopReason};

mod args;
mod kv;
mod logs;
mod members;

/// The arguments are wrong; nothing was done.
const USAGE: u8 = 2;
/// The arguments are right, and it did not work.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    if let Err(error) = logs::start(cli.log_format, &cli.log) {
        return fail(USAGE, &error);
    }
    match cli.command {
        args::Command::Store(arguments) => match members::member_config(arguments) {
            Ok(config) => rt::task::block_on(store(config)),
            Err(error) => fail(USAGE, &error),
        },
        args::Command::Kv(arguments) => match rt::task::block_on(kv::run(arguments)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &error.to_string()),
        },
    }
}

/// Runs a member until it is told to stop or cannot go on.
async fn store(config: MemberConfig) -> ExitCode {
    let server = match Server::start(ServerConfig { store: config, control: None }).await {
        Ok(server) => server,
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    let stopped = tokio::select! {
        biased;
        reason = server.stopped() => reason,
        () = rt::task::shutdown_signal() => {
            tracing::info!("shutting down");
            server.shutdown().await
        }
    };
    match stopped {
        StopReason::Shutdown => ExitCode::SUCCESS,
        reason => fail(FAILED, &reason.to_string()),
    }
}

/// One sentence for the operator.
fn fail(code: u8, error: &str) -> ExitCode {
    eprintln!("seaworthy: {error}");
    ExitCode::from(code)
}
