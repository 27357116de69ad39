//! Sessions: what is typed, and what must be read.
//!
//! ```text
//! # a comment
//! $ kubectl get nodes          a command, for sh
//! hollow-1 * Ready *           a line of its output: `*` is any text, blanks are one
//! ! NotReady                   no line of its output has this
//! $~ kubectl get pods          again until its output fits, for a minute
//! $! kubectl get nonsense      must fail
//! $ kubectl apply -f -
//! | kind: ...                  a line of its input
//! ```
//!
//! Expected lines must come in this order; others may come between them.

use crate::cluster::Cluster;
use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// What takes longer has failed. Controllers need less than a second for anything, probes a few.
const PATIENCE: Duration = Duration::from_secs(60);

/// One command with what is expected of it.
#[derive(Default)]
struct Step {
    line: usize,
    command: String,
    again: bool,
    fails: bool,
    input: String,
    expected: Vec<String>,
    absent: Vec<String>,
}

/// Plays a session on a cluster of its own.
pub fn play(name: &str, text: &str) {
    let cluster = Cluster::start(name);
    for step in steps(text) {
        let began = Instant::now();
        while let Err(what) = perform(&cluster, &step) {
            assert!(
                step.again && began.elapsed() < PATIENCE,
                "sessions/{name}.txt:{}: $ {}\n{what}",
                step.line,
                step.command
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with("# ")) {
        if let Some(command) = line.strip_prefix('$') {
            let (mark, command) = command.split_once(' ').unwrap();
            let (again, fails) = (mark.contains('~'), mark.contains('!'));
            steps.push(Step { line: number + 1, command: command.to_owned(), again, fails, ..Step::default() });
            continue;
        }
        let step = steps.last_mut().unwrap();
        match line.split_at(2.min(line.len())) {
            ("| ", input) => step.input.push_str(&format!("{input}\n")),
            ("! ", absent) => step.absent.push(absent.to_owned()),
            _ => step.expected.push(line.to_owned()),
        }
    }
    steps
}

fn perform(cluster: &Cluster, step: &Step) -> Result<(), String> {
    let mut command = cluster.command(&format!("{} 2>&1", step.command));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Who does not read all of it may be right; the output shows it.
    let _ = child.stdin.take().unwrap().write_all(step.input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    if output.status.success() == step.fails {
        return Err(format!("it ended with {}:\n{out}", output.status));
    }
    let mut lines = out.lines();
    for expected in &step.expected {
        if !lines.any(|line| fits(&squeeze(expected), &squeeze(line))) {
            return Err(format!("no line fits, or not in this order:\n  {expected}\nin:\n{out}"));
        }
    }
    match step.absent.iter().find(|absent| out.contains(*absent)) {
        Some(absent) => Err(format!("this must not be there:\n  {absent}\nin:\n{out}")),
        None => Ok(()),
    }
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `line` is `pattern`, in which `*` stands for any text.
fn fits(pattern: &str, line: &str) -> bool {
    let (first, rest) = match pattern.split_once('*') {
        None => return pattern == line,
        Some(parts) => parts,
    };
    let Some(line) = line.strip_prefix(first) else { return false };
    (0..=line.len()).filter(|at| line.is_char_boundary(*at)).any(|at| fits(rest, &line[at..]))
}

#[test]
fn a_star_is_any_text() {
    assert!(fits("a * c*", "a b b cd") && fits("*", "") && fits("a", "a"));
    assert!(!fits("a", "ab") && !fits("a*b", "a") && !fits("a * c", "a c"));
}
