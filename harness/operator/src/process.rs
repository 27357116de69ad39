//! Each run in a process of its own.
//!
//! An operator is somebody else's program: what it keeps in statics must not reach the next run, and hash tables that are
//! seeded by an address (ahash's, which kube-rs uses) must be the same each time. So every run has new statics, and the
//! kernel is asked not to choose addresses at random.

use crate::Subject;
use crate::run::{self, Ran};
use crate::trials::Plan;
use crate::users::Step;
use nix::sys::personality::{self, Persona};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What runs for longer hangs: a run takes a second.
const PATIENCE: Duration = Duration::from_secs(180);
/// From look to look whether a run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One run, for a process of its own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct One {
    plan: Plan,
    /// The file that what came of it goes to: what the operator prints is its own affair.
    into: PathBuf,
}

/// The run that an argument asks for, if it does.
pub fn of(argument: &str) -> Option<One> {
    serde_json::from_str(argument).ok()
}

impl One {
    /// Runs it in this process.
    pub fn play(&self, subject: Subject, steps: Arc<[Step]>) -> ExitCode {
        let ran = run::run(subject, steps, &self.plan.strikes, self.plan.seed);
        let written =
            serde_json::to_vec(&ran).map_err(std::io::Error::from).and_then(|text| fs::write(&self.into, text));
        if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// From now on processes that this one starts have the same addresses each time, if the system allows it.
pub fn fix_addresses() {
    let fixed = personality::get().and_then(|persona| personality::set(persona | Persona::ADDR_NO_RANDOMIZE));
    if let Err(error) = fixed {
        eprintln!("warning: addresses stay random ({error}), so that what depends on them may not repeat");
    }
}

/// How a run's process ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, and this came of it.
    Ran(Box<Ran>),
    /// Not as a program should, and in which way not: whatever the operator did to its process.
    Broke(String),
}

/// Runs a plan in a process of its own.
///
/// # Errors
/// The simulation itself panicked, or the machine is at its end.
pub fn run(plan: &Plan) -> Result<Ended, String> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let into = std::env::temp_dir().join(format!("operator-{}-{number}.json", std::process::id()));
    let one = One { plan: plan.clone(), into: into.clone() };
    let ended = serde_json::to_string(&one).map_err(|error| error.to_string()).and_then(|argument| wait(&argument));
    let text = fs::read(&into);
    drop(fs::remove_file(&into));
    let seed = plan.seed;
    match (ended, text) {
        (Ok(None), Ok(text)) => {
            let ran = serde_json::from_slice::<Result<Ran, String>>(&text).map_err(|error| error.to_string())?;
            ran.map(|ran| Ended::Ran(Box::new(ran)))
        }
        (Ok(None), Err(error)) => Err(format!("the process of seed {seed} left nothing: {error}")),
        (Ok(Some(broke)), _) => Ok(Ended::Broke(broke)),
        (Err(why), _) => Err(format!("the process of seed {seed} {why}")),
    }
}

/// Starts this program with an argument and waits for its end; how it failed, if it did.
fn wait(argument: &str) -> Result<Option<String>, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot be started: {error}"))?;
    let mut child = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(None),
            Ok(Some(status)) => return Ok(Some(format!("its process died: {status}"))),
            Ok(None) if begun.elapsed() < PATIENCE => thread::sleep(LOOK_EVERY),
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                return Ok(Some(format!(
                    "it computed for {} s without an end: does the operator ever wait?",
                    PATIENCE.as_secs()
                )));
            }
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
}
