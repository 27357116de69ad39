//! Members of a store, each a process.

use crate::ports;
use crate::process::{Error, LOOK_EVERY, Process, Program, name};
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Members of a store, each a process with a data directory and a log file below one folder. Dropping it kills them all
/// and leaves the folder, for whoever wants to know what happened.
#[derive(Debug)]
pub struct Cluster {
    clients: Vec<u16>,
    members: Vec<Process>,
}

impl Cluster {
    /// `members` members that are not started yet, in `folder`, which is made and must not have been used before.
    ///
    /// # Errors
    /// The folder or the ports.
    pub fn new(program: &Program, folder: &Path, members: u32) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::machine(format!("{} cannot be made", folder.display())))?;
        let count = members as usize;
        let ports = ports::for_a_cluster(2 * count).map_err(Error::machine("no ports on 127.0.0.1"))?;
        let (peers, clients) = ports.split_at(count);
        let members = (0..members).map(|member| {
            let words = words(folder, member, peers, clients);
            Process::new(program, &name("s", member), &words, folder)
        });
        Ok(Self { clients: clients.to_vec(), members: members.collect() })
    }

    /// Where clients reach the members, in order.
    pub fn endpoints(&self) -> Vec<String> {
        self.clients.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// What a member said on stdout and stderr, over all its lives.
    pub fn log(&self, member: u32) -> PathBuf {
        self.members[member as usize].log().to_owned()
    }

    /// Starts a member's process. One that runs already is left alone.
    ///
    /// # Errors
    /// The program or the log file.
    pub fn start(&mut self, member: u32) -> Result<(), Error> {
        self.members[member as usize].start()
    }

    /// Kills a member's process as `kill -9` does. When this returns it is gone. One that does not run stays so.
    pub fn kill(&mut self, member: u32) {
        self.members[member as usize].kill();
    }

    /// Asks a member to stop and waits for it at most `patience`, then kills it. How it ended, if by itself.
    pub fn stop(&mut self, member: u32, patience: Duration) -> Option<ExitStatus> {
        let process = &mut self.members[member as usize];
        process.ask_to_end();
        process.wait(patience)
    }

    /// Checks that no member has ended that nobody killed.
    ///
    /// # Errors
    /// The first that has.
    pub fn check(&mut self) -> Result<(), Error> {
        self.members.iter_mut().try_for_each(Process::check)
    }

    /// Waits until every running member takes connections of clients.
    ///
    /// # Errors
    /// One ended, or does not within `patience`.
    pub fn wait_ready(&mut self, patience: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        for member in 0..self.members.len() {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.clients[member]));
            while self.members[member].is_running() && TcpStream::connect(address).is_err() {
                self.check()?;
                if begun.elapsed() > patience {
                    return Err(self.members[member].not_ready(patience));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }
}

/// A member's arguments.
fn words(folder: &Path, member: u32, peers: &[u16], clients: &[u16]) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["store", "--name"].map(OsString::from).to_vec();
    words.push(name("s", member).into());
    words.push("--data-dir".into());
    words.push(folder.join(name("s", member)).into());
    for (number, (peer, client)) in (0..).zip(peers.iter().zip(clients)) {
        words.push("--member".into());
        words.push(format!("{}=127.0.0.1:{peer},127.0.0.1:{client}", name("s", number)).into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_told_who_it_is_and_who_the_others_are() {
        let words = words(Path::new("/run"), 1, &[1, 2], &[3, 4]);
        let expected = "store --name s2 --data-dir /run/s2 --member s1=127.0.0.1:1,127.0.0.1:3 \
                        --member s2=127.0.0.1:2,127.0.0.1:4";
        assert_eq!(words, expected.split(' ').collect::<Vec<_>>());
    }
}
