//! A process of the product: started, killed, asked to end, stopped and continued.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// From look to look at something that takes milliseconds.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is run for each process.
#[derive(Clone, Debug)]
pub struct Program {
    /// The `seaworthy` binary.
    pub path: PathBuf,
    /// A command line that replaces itself by the one appended to it: how a caller sees to it that no process outlives
    /// its own, whatever ends that. Empty for none.
    pub before: Vec<OsString>,
}

/// What can go wrong with processes. Each is about this machine, not about the product.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder, a log or the ports.
    #[error("{what}: {error}")]
    Machine {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// A process ended although nobody killed it.
    #[error("{name} ended by itself ({status}); its log is {log}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
    },
    /// A process is not ready.
    #[error("{name} is not ready after {} s; its log is {log}", .after.as_secs())]
    NotReady {
        /// Which.
        name: String,
        /// How long it was waited for.
        after: Duration,
        /// Its log file.
        log: PathBuf,
    },
    /// Something that is waited for does not come.
    #[error("there are no {what} after {} s; the logs say more", .after.as_secs())]
    Nothing {
        /// What.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
}

impl Error {
    /// What the system said when this was tried.
    pub(crate) fn machine(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Machine { what: what.into(), error }
    }
}

/// A command line that can be run again and again, but not twice at once. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    name: String,
    words: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// The program with these arguments, not started yet. What it says on stdout and stderr is added to `NAME.log` in
    /// `folder`.
    pub fn new(program: &Program, name: &str, arguments: &[OsString], folder: &Path) -> Self {
        let mut words = program.before.clone();
        words.push(program.path.clone().into());
        words.extend_from_slice(arguments);
        Self { name: name.to_owned(), words, log: folder.join(format!("{name}.log")), child: None }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it said, over all its lives.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it was started and is not known to have ended.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it. One that runs already is left alone.
    ///
    /// # Errors
    /// The program or the log file.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.is_running() {
            return Ok(());
        }
        let opened = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = opened.map_err(Error::machine(format!("{} cannot be opened", self.log.display())))?;
        let errors = log.try_clone().map_err(Error::machine("a log cannot be shared"))?;
        let mut command = Command::new(&self.words[0]);
        // A process group of its own: an interrupt at the terminal is for the trial, which then stops its processes.
        command.args(&self.words[1..]).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let started = command.spawn();
        self.child = Some(started.map_err(Error::machine(format!("{} cannot be run", self.words[0].display())))?);
        Ok(())
    }

    /// Kills it as `kill -9` does, stopped or not. When this returns it is gone. One that does not run stays so.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end: SIGTERM.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it, as SIGSTOP does: it does nothing at all until it is continued.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues it.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        // An error means that it has ended already.
        let _ = pid.map(|pid| kill_process(pid, signal));
    }

    /// How it ended, if it has since it was started; told once.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// Waits for its end at most `patience`, then kills it. How it ended, if by itself.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        while self.is_running() && begun.elapsed() < patience {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill();
        None
    }

    /// Checks that it has not ended by itself.
    ///
    /// # Errors
    /// It has.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.ended() {
            Some(status) => Err(Error::Ended { name: self.name.clone(), status, log: self.log.clone() }),
            None => Ok(()),
        }
    }

    /// That it is not ready.
    pub(crate) fn not_ready(&self, after: Duration) -> Error {
        Error::NotReady { name: self.name.clone(), after, log: self.log.clone() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the process with this number is called, from 1 on.
pub(crate) fn name(prefix: &str, number: u32) -> String {
    format!("{prefix}{}", number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder of one test, with a process in it that stands in for the product.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, script: &str) -> (Self, Process) {
            let path = std::env::temp_dir().join(format!("real-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("script"), script).unwrap();
            let program = Program { path: path.join("script"), before: vec!["/bin/sh".into()] };
            let process = Process::new(&program, "p1", &["a".into(), "b".into()], &path);
            (Self(path), process)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn runs(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    fn pid(process: &Process) -> u32 {
        process.child.as_ref().expect("it runs").id()
    }

    /// What the system says that a process does: `T` if it is stopped.
    fn state(pid: u32) -> String {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').next().unwrap().to_owned()
    }

    #[test]
    fn dropping_a_process_ends_it() {
        let (_folder, mut process) = Folder::new("drop", "exec sleep 600");
        process.start().unwrap();
        let pid = pid(&process);
        assert!(runs(pid));
        drop(process);
        assert!(!runs(pid));
    }

    #[test]
    fn what_is_killed_is_gone_and_can_be_started_again() {
        let (_folder, mut process) = Folder::new("kill", "echo life; exec sleep 600");
        process.start().unwrap();
        let first = pid(&process);
        process.kill();
        assert!(!runs(first));
        process.start().unwrap();
        assert!(runs(pid(&process)));
        process.check().unwrap();
    }

    #[test]
    fn what_is_paused_stands_still_and_can_be_killed() {
        let (_folder, mut process) = Folder::new("pause", "exec sleep 600");
        process.start().unwrap();
        let pid = pid(&process);
        process.pause();
        while state(pid) != "T" {
            std::thread::yield_now();
        }
        process.resume();
        while state(pid) == "T" {
            std::thread::yield_now();
        }
        process.pause();
        process.kill();
        assert!(!runs(pid));
    }

    #[test]
    fn arguments_and_what_is_said_arrive() {
        let (_folder, mut process) = Folder::new("words", "echo \"$@\"; echo no >&2");
        process.start().unwrap();
        assert!(process.wait(Duration::from_secs(60)).unwrap().success());
        assert_eq!(fs::read_to_string(process.log()).unwrap(), "a b\nno\n");
    }

    #[test]
    fn what_ends_by_itself_is_noticed() {
        let (_folder, mut process) = Folder::new("ended", "exit 3");
        process.start().unwrap();
        let error = loop {
            if let Err(error) = process.check() {
                break error;
            }
        };
        assert!(matches!(error, Error::Ended { status, .. } if status.code() == Some(3)));
        process.check().unwrap();
    }

    #[test]
    fn what_is_asked_to_end_may_do_so_in_its_own_way() {
        let (_folder, mut process) = Folder::new("stop", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done");
        process.start().unwrap();
        while fs::read_to_string(process.log()).unwrap().is_empty() {
            std::thread::yield_now();
        }
        process.ask_to_end();
        assert_eq!(process.wait(Duration::from_secs(60)).expect("by itself").code(), Some(5));
    }
}
