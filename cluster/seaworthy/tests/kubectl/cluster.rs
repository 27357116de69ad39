//! Processes of the binary, each with a directory and a log; and a cluster of one of them, with kubectl on it.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A start takes a fraction of a second; compilers may be running beside it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A process of the binary. Dropping it kills it.
pub struct Process(Child);

impl Process {
    /// Runs the binary in `dir` with arguments that have no blanks in them. What it says goes to the end of `NAME.log`.
    pub fn start(dir: &Path, name: &str, arguments: &str) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(dir.join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_seaworthy"));
        command.args(arguments.split_whitespace()).current_dir(dir).stdin(Stdio::null());
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory for a test, and a number that no other test has.
pub fn place(name: &str) -> (PathBuf, u32) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(101).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kubectl-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    (dir, number)
}

/// Distinct ports that are free, below what the system gives to outgoing connections, one of which could take it while the
/// process is down.
pub fn free_ports(number: u32, count: usize) -> Vec<u16> {
    let candidates = (0..12_000).map(|step| 20_000 + (number.wrapping_mul(7).wrapping_add(step) % 12_000) as u16);
    // Held until all are found.
    let listeners = candidates.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count);
    let held: Vec<TcpListener> = listeners.collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// A cluster in one process. Dropping it kills the process; its directory stays if the test fails.
pub struct Cluster {
    dir: PathBuf,
    arguments: String,
    process: Option<Process>,
}

impl Cluster {
    /// Two nodes. Ready when this returns.
    pub fn start(name: &str) -> Self {
        let (dir, number) = place(name);
        let port = free_ports(number, 1)[0];
        let pods = format!("127.{}.0.0/16", 1 + number % 250);
        let arguments = format!("up --hollow-nodes 2 --data-dir data --listen 127.0.0.1:{port} --pod-cidr {pods}");
        let mut cluster = Self { dir, arguments, process: None };
        cluster.restart();
        cluster
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
        fs::remove_file(self.dir.join("up.log")).unwrap();
    }

    /// The same command again.
    pub fn restart(&mut self) {
        self.process = Some(Process::start(&self.dir, "up", &self.arguments));
        let began = Instant::now();
        let log = || fs::read_to_string(self.dir.join("up.log")).unwrap();
        while !log().contains("goes on where it was.") {
            assert!(began.elapsed() < READY_WITHIN, "in {}: {}", self.dir.display(), log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A shell's command on this cluster.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.dir).stdin(Stdio::null());
        command.env("KUBECONFIG", self.dir.join("data/kubeconfig")).env("HOME", &self.dir);
        command.env("SEAWORTHY", env!("CARGO_BIN_EXE_seaworthy"));
        command
    }

    /// What a command prints; it must succeed.
    pub fn check(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let (out, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{line}: {status}\n{out}{errors}");
        out.into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.process = None;
        if thread::panicking() {
            eprintln!("the cluster's directory is {}", self.dir.display());
        } else {
            fs::remove_dir_all(&self.dir).unwrap();
        }
    }
}
