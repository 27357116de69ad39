//! The `seaworthy` binary: arguments, logs, signals, exit codes. Everything else is in the libraries.

use anyhow::Context;
use clap::{CommandFactory, Parser};
use seaworthy::{Server, ServerConfig};
use std::io::Write;
use std::process::ExitCode;
use store::server::{MemberConfig, StopReason};

mod args;
mod config_file;
mod here;
mod kv;
mod logs;
mod members;
mod roles;
mod version;

/// The arguments are wrong; nothing was done.
const USAGE: u8 = 2;
/// The arguments are right, and it did not work.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let level = if matches!(cli.command, args::Command::Up(_)) { "warn" } else { "info" };
    if let Err(error) = logs::start(cli.log_format, cli.log.as_deref().unwrap_or(level)) {
        return fail(USAGE, &error);
    }
    rt::raise_open_files();
    match cli.command {
        args::Command::Up(arguments) => match here::up_config(arguments, homes()) {
            Ok(config) => rt::task::block_on(here::up(config)),
            Err(error) => fail(USAGE, &error),
        },
        args::Command::Kubeconfig(arguments) => match rt::task::block_on(here::kubeconfig(arguments, homes())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &error),
        },
        args::Command::Server(arguments) => {
            let config =
                given(arguments.config.as_deref()).and_then(|given| roles::server_config(arguments, &given, read));
            match config {
                Ok(config) => rt::task::block_on(roles::server(config)),
                Err(error) => fail(USAGE, &error),
            }
        }
        args::Command::Agent(arguments) => {
            let config =
                given(arguments.config.as_deref()).and_then(|given| roles::agent_config(arguments, &given, read));
            match config {
                Ok(config) => rt::task::block_on(roles::agent(config)),
                Err(error) => fail(USAGE, &error),
            }
        }
        args::Command::Store(arguments) => match members::member_config(arguments) {
            Ok(config) => rt::task::block_on(store(config)),
            Err(error) => fail(USAGE, &error),
        },
        args::Command::Completion { shell } => {
            // Into memory first: it would panic if standard output were closed.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::Cli::command(), "seaworthy", &mut script);
            match say(String::from_utf8_lossy(&script).trim_end()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(FAILED, &error.to_string()),
            }
        }
        args::Command::Man { dir } => match clap_mangen::generate_to(args::Cli::command(), &dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &format!("{}: {error}", dir.display())),
        },
        args::Command::Kv(arguments) => match rt::task::block_on(kv::run(arguments)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &error.to_string()),
        },
    }
}

/// Where a user's data is kept.
fn homes() -> [Option<String>; 2] {
    ["XDG_DATA_HOME", "HOME"].map(|name| std::env::var(name).ok())
}

/// What is given besides the command line.
fn given(config: Option<&str>) -> Result<roles::Given, String> {
    let source = match config {
        Some(path) => config_file::Source { path: path.to_owned(), text: read(path)? },
        None => config_file::Source::default(),
    };
    Ok(roles::Given { source, token: std::env::var(roles::TOKEN_VARIABLE).ok(), homes: homes() })
}

/// A file's text.
fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
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
    ended(stopped)
}

/// How the process ends whose role has stopped.
fn ended(stopped: StopReason) -> ExitCode {
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

/// One line on standard output, at once: a watch may be read by another program.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output is closed")
}
