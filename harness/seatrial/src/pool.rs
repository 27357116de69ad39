//! Trials in worker processes.
//!
//! ```text
//! seeds -> one thread per slot -> worker process: a job per line in, an answer per line out -> each(seed, Done)
//! ```
//!
//! A worker is replaced after a number of trials, when it has grown large, and when it dies or falls silent. Its death
//! is the result of the seed that it was working on, never of the run.
//!
//! **Invariant:** every seed handed out gets exactly one result (`a_worker_that_dies_costs_its_seed_and_no_other`), unless
//! the crew is stopped at it (`a_crew_that_is_stopped_leaves_at_once_and_says_nothing_of_what_it_was_at`).

use crate::machine;
use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From look to look whether the crew is stopped: who stopped it does not notice the difference.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Trials after which a worker is replaced: what an allocator keeps or a simulation leaks never adds up to much.
const TRIALS_PER_WORKER: u32 = 50;

/// Lines of a worker's stderr that are kept to tell why it died: where it panicked, and its message.
const KEPT_STDERR_LINES: usize = 3;

/// A worker's answer: what it was asked for, and how large it has grown.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer<T> {
    /// Resident memory of the worker, in bytes.
    pub rss_bytes: u64,
    /// What came of the job.
    pub result: T,
}

/// What a worker does: takes the jobs that come in as lines until there are no more, and answers each.
///
/// # Errors
/// Lines that are no jobs, and what keeps `attempt` from doing one: the worker ends then.
pub fn work<J: DeserializeOwned, T: Serialize>(mut attempt: impl FnMut(&J) -> anyhow::Result<T>) -> anyhow::Result<()> {
    machine::end_with_parent().context("this worker cannot be tied to its parent")?;
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in input.lines() {
        let job: J = serde_json::from_str(&line?).context("not a job")?;
        let result = attempt(&job)?;
        let answer = Answer { rss_bytes: machine::rss_bytes(), result };
        serde_json::to_writer(&mut output, &answer)?;
        writeln!(output)?;
        output.flush()?;
    }
    Ok(())
}

/// Who works.
#[derive(Clone, Copy, Debug)]
pub struct Crew<'a> {
    /// Workers at once.
    pub slots: usize,
    /// Wall time after which a job counts as hung.
    pub hung_after: Duration,
    /// Set from outside, at any time: workers are ended, and what they were at has no result.
    pub stop: &'a AtomicBool,
}

/// CPU time, user and system, that workers have spent on their jobs, those included over which they died or fell silent.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// So far, in nanoseconds.
    pub fn ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What came of a seed.
#[derive(Debug, PartialEq)]
pub enum Done<T> {
    /// The worker's answer.
    Answered(T),
    /// The worker died, fell silent or babbled: one sentence.
    Died(String),
}

/// Runs `jobs`, each under its seed, on the crew's workers and calls `each` as results come in, in any order but
/// never two at a time. Once `each` breaks, no further job is begun; those under way still come in. Once the crew is
/// stopped, nothing more comes in.
///
/// # Errors
/// A worker that cannot be started at all.
pub fn run<J, T, I>(
    worker: impl Fn() -> Command + Sync,
    crew: Crew<'_>,
    jobs: I,
    each: impl FnMut(u64, Done<T>) -> ControlFlow<()> + Send,
) -> std::io::Result<()>
where
    J: Serialize + Send,
    T: DeserializeOwned,
    I: IntoIterator<Item = (u64, J), IntoIter: Send>,
{
    run_metered(worker, crew, &Meter::default(), jobs, each)
}

/// The same, with what it costs: whenever `each` is called, `meter` has counted that job. A job is taken from `jobs` only
/// when a worker is free for it, so that they may depend on what came of earlier ones.
///
/// # Errors
/// A worker that cannot be started at all.
pub fn run_metered<J, T, I>(
    worker: impl Fn() -> Command + Sync,
    crew: Crew<'_>,
    meter: &Meter,
    jobs: I,
    each: impl FnMut(u64, Done<T>) -> ControlFlow<()> + Send,
) -> std::io::Result<()>
where
    J: Serialize + Send,
    T: DeserializeOwned,
    I: IntoIterator<Item = (u64, J), IntoIter: Send>,
{
    let desk = Mutex::new(Desk { jobs: Some(jobs.into_iter()), each, failure: Ok(()) });
    std::thread::scope(|scope| {
        for _ in 0..crew.slots {
            scope.spawn(|| slot(&worker, crew, meter, &desk));
        }
    });
    desk.into_inner().unwrap_or_else(PoisonError::into_inner).failure
}

/// Where slots take jobs and hand in results.
struct Desk<I, E> {
    /// `None` once no further one is to be begun.
    jobs: Option<I>,
    each: E,
    failure: std::io::Result<()>,
}

/// One worker after the other, until no job is left.
fn slot<J, T, I, E>(start: &impl Fn() -> Command, crew: Crew<'_>, meter: &Meter, desk: &Mutex<Desk<I, E>>)
where
    J: Serialize,
    T: DeserializeOwned,
    I: Iterator<Item = (u64, J)>,
    E: FnMut(u64, Done<T>) -> ControlFlow<()>,
{
    let desk = || desk.lock().unwrap_or_else(PoisonError::into_inner);
    let mut worker: Option<Worker> = None;
    loop {
        if crew.stop.load(Ordering::Relaxed) {
            return;
        }
        // A statement of its own, so that the desk is free while the job is done.
        let taken = desk().jobs.as_mut().and_then(Iterator::next);
        let Some((seed, job)) = taken else { return };
        let mut at_work = match worker.take().map_or_else(|| Worker::start(start()), Ok) {
            Ok(at_work) => at_work,
            Err(error) => {
                let mut desk = desk();
                desk.jobs = None;
                desk.failure = Err(error);
                return;
            }
        };
        let answered = at_work.ask::<J, T>(&job, crew);
        meter.0.fetch_add(at_work.spent_ns(), Ordering::Relaxed);
        let done = match answered {
            Ok(None) => return,
            Ok(Some(answer)) => {
                let spent = at_work.trials >= TRIALS_PER_WORKER || answer.rss_bytes > machine::LARGE_BYTES;
                worker = (!spent).then_some(at_work);
                Done::Answered(answer.result)
            }
            Err(why) => Done::Died(why),
        };
        let mut desk = desk();
        if (desk.each)(seed, done).is_break() {
            desk.jobs = None;
        }
    }
}

struct Worker {
    child: Child,
    jobs: ChildStdin,
    answers: Receiver<String>,
    said: Arc<Mutex<Vec<String>>>,
    /// Ends when stderr does.
    listener: Option<JoinHandle<()>>,
    trials: u32,
    /// CPU time that it had used when somebody looked last.
    cpu_ns: u64,
    /// The part of it that is told already.
    told_ns: u64,
    /// Whether it was waited for: another process may have its number.
    gone: bool,
}

impl Worker {
    fn start(mut command: Command) -> std::io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (Some(jobs), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for as pipes")
        };
        let (lines, answers) = mpsc::channel();
        std::thread::spawn(move || each_line(output, |line| lines.send(line).is_ok()));
        let said = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&said);
        let listener = std::thread::spawn(move || {
            each_line(errors, |line| {
                let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < KEPT_STDERR_LINES && !line.trim().is_empty() {
                    kept.push(line.trim().to_owned());
                }
                true
            });
        });
        Ok(Self { child, jobs, answers, said, listener: Some(listener), trials: 0, cpu_ns: 0, told_ns: 0, gone: false })
    }

    /// What it says of a job; `None` if the crew is stopped before it says anything.
    fn ask<J, T>(&mut self, job: &J, crew: Crew<'_>) -> Result<Option<Answer<T>>, String>
    where
        J: Serialize,
        T: DeserializeOwned,
    {
        self.trials += 1;
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let job = serde_json::to_string(job).map_err(|error| format!("the job cannot be written down: {error}"))?;
        if writeln!(self.jobs, "{job}").and_then(|()| self.jobs.flush()).is_err() {
            return Err(self.death());
        }
        let asked = Instant::now();
        loop {
            match self.answers.recv_timeout(LOOK_EVERY.min(crew.hung_after)) {
                Ok(line) => {
                    let answer = serde_json::from_str(&line);
                    return answer.map(Some).map_err(|error| format!("the worker's answer makes no sense: {error}"));
                }
                Err(_) if crew.stop.load(Ordering::Relaxed) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if asked.elapsed() < crew.hung_after => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no answer within {} s of wall time", crew.hung_after.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.death()),
            }
        }
    }

    /// CPU time that it has used since this was asked last.
    fn spent_ns(&mut self) -> u64 {
        self.look();
        let spent_ns = self.cpu_ns - self.told_ns;
        self.told_ns = self.cpu_ns;
        spent_ns
    }

    fn look(&mut self) {
        if !self.gone {
            self.cpu_ns = machine::cpu_ns_of(self.child.id()).unwrap_or(0).max(self.cpu_ns);
        }
    }

    /// How the worker, whose pipes are closed, came to its end.
    fn death(&mut self) -> String {
        self.look();
        self.gone = true;
        let how = match self.child.wait() {
            Ok(status) => describe(status),
            Err(error) => format!("was lost: {error}"),
        };
        // All that it said has been read once its stderr has ended. A listener that panicked has read what it has.
        let _ = self.listener.take().map(JoinHandle::join);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() { format!("the worker {how}") } else { format!("the worker {how}: {}", said.join(" | ")) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about a failure either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn each_line(from: impl Read, mut take: impl FnMut(String) -> bool) {
    for line in BufReader::new(from).split(b'\n') {
        let Ok(line) = line else { return };
        if !take(String::from_utf8_lossy(&line).into_owned()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Answers each job with itself; dies on 3, and babbles on 5.
    const WORKER: &str = r#"while read job; do
        [ "$job" = 3 ] && { echo "stack overflow" >&2; exit 7; }
        [ "$job" = 5 ] && { echo "?"; continue; }
        echo "{\"rss_bytes\": 1, \"result\": $job}"
    done"#;

    fn shell() -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", WORKER]);
        command
    }

    static NEVER: AtomicBool = AtomicBool::new(false);

    fn crew(slots: usize) -> Crew<'static> {
        Crew { slots, hung_after: Duration::from_secs(60), stop: &NEVER }
    }

    fn results(slots: usize, jobs: u64, stop_at: Option<u64>) -> BTreeMap<u64, Done<u64>> {
        let mut found = BTreeMap::new();
        run(shell, crew(slots), (0..jobs).map(|seed| (seed, seed)), |seed, done| {
            assert!(found.insert(seed, done).is_none(), "seed {seed} came twice");
            if Some(seed) == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("a shell");
        found
    }

    #[test]
    fn a_worker_that_dies_costs_its_seed_and_no_other() {
        for slots in [1, 3] {
            let found = results(slots, 8, None);
            assert_eq!(found.len(), 8);
            assert_eq!(found[&3], Done::Died("the worker exited with code 7: stack overflow".into()));
            assert!(matches!(&found[&5], Done::Died(why) if why.contains("makes no sense")));
            for seed in [0, 1, 2, 4, 6, 7] {
                assert_eq!(found[&seed], Done::Answered(seed));
            }
        }
    }

    #[test]
    fn a_worker_that_falls_silent_is_given_up() {
        let silent = || {
            let mut command = Command::new("sleep");
            command.arg("600");
            command
        };
        let impatient = Crew { slots: 1, hung_after: Duration::from_millis(20), stop: &NEVER };
        let mut said = Vec::new();
        run(silent, impatient, [(4, 4)], |seed, done: Done<u64>| {
            said.push((seed, done));
            ControlFlow::Continue(())
        })
        .expect("a worker");
        assert_eq!(said, [(4, Done::Died("no answer within 0 s of wall time".into()))]);
    }

    #[test]
    fn workers_are_replaced_and_no_seed_is_lost() {
        let jobs = u64::from(TRIALS_PER_WORKER) * 2 + 10;
        assert_eq!(results(1, jobs, None).len() as u64, jobs);
    }

    #[test]
    fn what_workers_spend_is_counted_also_when_they_die() {
        let busy = || {
            let mut command = Command::new("sh");
            // Each job is some hundredths of a second of work; the second one is the last.
            command.args([
                "-c",
                r#"while read job; do
                n=0; while [ $n -lt 60000 ]; do n=$((n + 1)); done
                [ "$job" = 1 ] && exit 7
                echo "{\"rss_bytes\": 1, \"result\": $job}"
            done"#,
            ]);
            command
        };
        let meter = Meter::default();
        let mut counted = Vec::new();
        run_metered(busy, crew(1), &meter, (0..2).map(|seed| (seed, seed)), |_, _: Done<u64>| {
            counted.push(meter.ns());
            ControlFlow::Continue(())
        })
        .expect("a shell");
        assert!(counted[0] > 0 && counted[1] > counted[0], "{counted:?}");
    }

    #[test]
    fn a_job_is_taken_only_when_a_worker_is_free_for_it() {
        let answered = AtomicU64::new(0);
        let jobs = (0..6).map(|seed| {
            assert_eq!(answered.load(Ordering::Relaxed), seed, "one worker takes one job at a time");
            (seed, 0)
        });
        run(shell, crew(1), jobs, |_, _: Done<u64>| {
            answered.fetch_add(1, Ordering::Relaxed);
            ControlFlow::Continue(())
        })
        .expect("a shell");
        assert_eq!(answered.into_inner(), 6);
    }

    #[test]
    fn nothing_is_begun_after_a_break() {
        assert_eq!(results(1, 8, Some(1)).len(), 2);
    }

    #[test]
    fn a_crew_that_is_stopped_leaves_at_once_and_says_nothing_of_what_it_was_at() {
        // Answers the first job and is silent at the second one.
        let one = || {
            let mut command = Command::new("sh");
            command.args(["-c", r#"read job; echo "{\"rss_bytes\": 1, \"result\": $job}"; exec sleep 600"#]);
            command
        };
        let stop = AtomicBool::new(false);
        let mut said = Vec::new();
        let crew = Crew { stop: &stop, ..crew(1) };
        run(one, crew, (0..8).map(|seed| (seed, seed)), |seed, done: Done<u64>| {
            stop.store(true, Ordering::Relaxed);
            said.push((seed, done));
            ControlFlow::Continue(())
        })
        .expect("a worker");
        assert_eq!(said, [(0, Done::Answered(0))]);
        let silent = Crew { stop: &stop, ..crew };
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            // Whether it is at work by then or not: it comes back, and has said nothing.
            scope.spawn(|| stop.store(true, Ordering::Relaxed));
            let worker = || {
                let mut command = Command::new("sleep");
                command.arg("600");
                command
            };
            let each = |seed, _: Done<u64>| panic!("seed {seed} has a result");
            run(worker, silent, [(4, 4)], each).expect("a worker");
        });
    }

    #[test]
    fn a_worker_that_cannot_be_started_is_an_error() {
        let jobs = [(0, 0), (1, 1)];
        let missing = || Command::new("/nonexistent/worker");
        let each = |_, _: Done<u64>| panic!("there is no result");
        assert!(run(missing, crew(2), jobs, each).is_err());
    }
}
