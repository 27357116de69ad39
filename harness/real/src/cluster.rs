//! The processes.

use crate::ports;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// From look to look at something that takes milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is run for each member.
#[derive(Clone, Debug)]
pub struct Program {
    /// The `seaworthy` binary.
    pub path: PathBuf,
    /// A command line that replaces itself by the one appended to it: how a caller sees to it that no process outlives
    /// its own, whatever ends that. Empty for none.
    pub before: Vec<OsString>,
}

/// What can go wrong with processes. Each is about this machine, not about the store.
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
    /// A member ended although nobody killed it.
    #[error("member {member} ended by itself ({status}); its log is {log}")]
    Ended {
        /// Counted from 0.
        member: u32,
        /// How.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
    },
    /// A member does not take connections.
    #[error("member {member} takes no connection after {} s; its log is {log}", .after.as_secs())]
    NotReady {
        /// Counted from 0.
        member: u32,
        /// How long it was waited for.
        after: Duration,
        /// Its log file.
        log: PathBuf,
    },
}

/// Members of a store, each a process with a data directory and a log file below one folder. Dropping it kills them all
/// and leaves the folder, for whoever wants to know what happened.
#[derive(Debug)]
pub struct Cluster {
    program: Program,
    folder: PathBuf,
    peers: Vec<u16>,
    clients: Vec<u16>,
    processes: Vec<Option<Child>>,
}

impl Cluster {
    /// `members` members that are not started yet, in `folder`, which is made and must not have been used before.
    ///
    /// # Errors
    /// The folder or the ports.
    pub fn new(program: Program, folder: &Path, members: u32) -> Result<Self, Error> {
        let failed = |what: String| move |error| Error::Machine { what, error };
        fs::create_dir_all(folder).map_err(failed(format!("{} cannot be made", folder.display())))?;
        let count = members as usize;
        // Clusters that begin at the same time look in different places, of one process and of several.
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let start = std::process::id().wrapping_mul(101).wrapping_add(cluster.wrapping_mul(1_009));
        let peers = ports::free(2 * count, start).map_err(failed("no ports on 127.0.0.1".into()))?;
        let (peers, clients) = peers.split_at(count);
        Ok(Self {
            program,
            folder: folder.to_owned(),
            peers: peers.to_vec(),
            clients: clients.to_vec(),
            processes: (0..members).map(|_| None).collect(),
        })
    }

    /// Where clients reach the members, in order.
    pub fn endpoints(&self) -> Vec<String> {
        self.clients.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// What a member said on stdout and stderr, over all its lives.
    pub fn log(&self, member: u32) -> PathBuf {
        self.folder.join(format!("{}.log", name(member)))
    }

    /// Starts a member's process. One that runs already is left alone.
    ///
    /// # Errors
    /// The program or the log file.
    pub fn start(&mut self, member: u32) -> Result<(), Error> {
        if self.processes[member as usize].is_some() {
            return Ok(());
        }
        let mut command = self.command(member);
        let log = self.open_log(member)?;
        let errors =
            log.try_clone().map_err(|error| Error::Machine { what: "a log cannot be shared".into(), error })?;
        // A process group of its own: an interrupt at the terminal is for the trial, which then stops its members.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let child = command.spawn().map_err(|error| Error::Machine {
            what: format!("{} cannot be run", self.program.path.display()),
            error,
        })?;
        self.processes[member as usize] = Some(child);
        Ok(())
    }

    fn command(&self, member: u32) -> Command {
        let mut words: Vec<OsString> = self.program.before.clone();
        words.push(self.program.path.clone().into());
        words.extend(["store", "--name"].map(OsString::from));
        words.push(name(member).into());
        words.push("--data-dir".into());
        words.push(self.folder.join(name(member)).into());
        for (number, (peer, client)) in self.peers.iter().zip(&self.clients).enumerate() {
            words.push("--member".into());
            words.push(format!("{}=127.0.0.1:{peer},127.0.0.1:{client}", name(number as u32)).into());
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    fn open_log(&self, member: u32) -> Result<File, Error> {
        let path = self.log(member);
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        opened.map_err(|error| Error::Machine { what: format!("{} cannot be opened", path.display()), error })
    }

    /// Kills a member's process as `kill -9` does. When this returns it is gone. One that does not run stays so.
    pub fn kill(&mut self, member: u32) {
        if let Some(mut child) = self.processes[member as usize].take() {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks a member to stop and waits for it at most `patience`, then kills it. How it ended, if by itself.
    pub fn stop(&mut self, member: u32, patience: Duration) -> Option<ExitStatus> {
        let child = self.processes[member as usize].as_mut()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // An error means that it has ended already.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Ok(Some(status)) = child.try_wait() {
                self.processes[member as usize] = None;
                return Some(status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill(member);
        None
    }

    /// Checks that no member has ended that nobody killed.
    ///
    /// # Errors
    /// The first that has.
    pub fn check(&mut self) -> Result<(), Error> {
        for member in 0..self.processes.len() as u32 {
            let ended = self.processes[member as usize].as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                self.processes[member as usize] = None;
                return Err(Error::Ended { member, status, log: self.log(member) });
            }
        }
        Ok(())
    }

    /// Waits until every running member takes connections of clients.
    ///
    /// # Errors
    /// One ended, or does not within `patience`.
    pub fn wait_ready(&mut self, patience: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        for member in 0..self.processes.len() as u32 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.clients[member as usize]));
            while self.processes[member as usize].is_some() && TcpStream::connect(address).is_err() {
                self.check()?;
                if begun.elapsed() > patience {
                    return Err(Error::NotReady { member, after: patience, log: self.log(member) });
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in 0..self.processes.len() as u32 {
            self.kill(member);
        }
    }
}

fn name(member: u32) -> String {
    format!("s{}", member + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of one test, with a program in it that stands in for the product.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, script: &str) -> (Self, Program) {
            let path = std::env::temp_dir().join(format!("real-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("script"), script).unwrap();
            let program = Program { path: path.join("script"), before: vec!["/bin/sh".into()] };
            (Self(path), program)
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

    fn pid(cluster: &Cluster, member: usize) -> u32 {
        cluster.processes[member].as_ref().expect("it runs").id()
    }

    #[test]
    fn dropping_a_cluster_ends_its_processes() {
        let (folder, program) = Folder::new("drop", "exec sleep 600");
        let mut cluster = Cluster::new(program, &folder.0.join("run"), 3).unwrap();
        (0..3).for_each(|member| cluster.start(member).unwrap());
        let pids: Vec<u32> = (0..3).map(|member| pid(&cluster, member)).collect();
        assert!(pids.iter().all(|pid| runs(*pid)));
        drop(cluster);
        assert!(!pids.iter().any(|pid| runs(*pid)), "{pids:?}");
    }

    #[test]
    fn a_killed_member_is_gone_and_can_be_started_again() {
        let (folder, program) = Folder::new("kill", "echo life; exec sleep 600");
        let mut cluster = Cluster::new(program, &folder.0.join("run"), 1).unwrap();
        cluster.start(0).unwrap();
        let first = pid(&cluster, 0);
        cluster.kill(0);
        assert!(!runs(first));
        cluster.start(0).unwrap();
        assert!(runs(pid(&cluster, 0)));
        cluster.check().unwrap();
    }

    #[test]
    fn a_member_is_told_who_it_is_and_who_the_others_are() {
        let (folder, program) = Folder::new("words", "echo \"$@\"");
        let mut cluster = Cluster::new(program, &folder.0.join("run"), 2).unwrap();
        let address = |at: usize| format!("127.0.0.1:{},127.0.0.1:{}", cluster.peers[at], cluster.clients[at]);
        let data = folder.0.join("run/s2");
        let expected = format!(
            "store --name s2 --data-dir {} --member s1={} --member s2={}\n",
            data.display(),
            address(0),
            address(1)
        );
        cluster.start(1).unwrap();
        cluster.processes[1].take().unwrap().wait().unwrap();
        assert_eq!(fs::read_to_string(cluster.log(1)).unwrap(), expected);
    }

    #[test]
    fn a_member_that_ends_by_itself_is_noticed() {
        let (folder, program) = Folder::new("ended", "exit 3");
        let mut cluster = Cluster::new(program, &folder.0.join("run"), 1).unwrap();
        cluster.start(0).unwrap();
        let error = cluster.wait_ready(Duration::from_secs(60)).expect_err("it ended");
        assert!(matches!(error, Error::Ended { member: 0, status, .. } if status.code() == Some(3)), "{error}");
    }

    #[test]
    fn a_member_asked_to_stop_may_end_in_its_own_way() {
        let (folder, program) = Folder::new("stop", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done");
        let mut cluster = Cluster::new(program, &folder.0.join("run"), 1).unwrap();
        cluster.start(0).unwrap();
        while fs::read_to_string(cluster.log(0)).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let status = cluster.stop(0, Duration::from_secs(60)).expect("by itself");
        assert_eq!(status.code(), Some(5));
    }
}
