//! The processes of a trial, kept as the storm wants them and listened to.
//!
//! ```text
//! Storm::wanted ──▶ Field ── SIGKILL, SIGTERM, SIGSTOP, SIGCONT, start ──▶ processes ── logs ──▶ Field ──▶ happenings
//! ```

use crate::clock::Clock;
use crate::logs::{Event, News, Tail, What};
use crate::process::{Error, Process};
use crate::storm::{Down, Senses, Storm, Wanted};
use crate::story::{Happened, Happening, Host};
use faults::Ns;
use record::Panic;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Who was asked to end and has not by then hangs: requests under way are answered for a few seconds at most.
const STOP_WITHIN_NS: Ns = 30_000_000_000;

/// How long a process that ended by itself stays down, as an init system would have it.
const RESTART_NS: Ns = 1_000_000_000;

/// All processes.
pub(crate) struct Field {
    clock: Clock,
    runners: BTreeMap<Host, Runner>,
    heard: Heard,
}

/// What came of the processes.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) happenings: Vec<Happening>,
    /// Panics, and ends that nobody wanted.
    pub(crate) panics: Vec<Panic>,
    /// The longest that a process took to end after it was asked to, and which.
    pub(crate) slowest_stop: Option<(Ns, String)>,
    /// The member that last said that it leads.
    leader: Option<u32>,
    /// Containers that run, by node and id.
    running: BTreeSet<(u32, String)>,
}

struct Runner {
    process: Process,
    tail: Tail,
    paused: bool,
    /// Since when it has been asked to end and could have.
    asked_ns: Option<Ns>,
    /// It ended by itself then.
    failed_ns: Option<Ns>,
}

impl Field {
    /// Of processes that are not started yet.
    pub(crate) fn new(processes: impl IntoIterator<Item = (Host, Process)>) -> Self {
        let runner =
            |process| Runner { process, tail: Tail::default(), paused: false, asked_ns: None, failed_ns: None };
        let runners = processes.into_iter().map(|(host, process)| (host, runner(process))).collect();
        Self { clock: Clock::begin(), runners, heard: Heard::default() }
    }

    /// The trial begins now: whatever happened so far happened at 0.
    pub(crate) fn begin(&mut self) -> Clock {
        self.clock = Clock::begin();
        self.heard.happenings.iter_mut().for_each(|happening| happening.at_ns = 0);
        self.clock
    }

    /// Starts a process that does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(&mut self, host: Host) -> Result<(), Error> {
        match self.runners.get_mut(&host) {
            Some(runner) => runner.start(host, self.clock.now_ns(), &mut self.heard),
            None => Ok(()),
        }
    }

    /// Sees that no process has ended.
    ///
    /// # Errors
    /// The first that has.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        self.runners.values_mut().try_for_each(|runner| runner.process.check())
    }

    /// Listens to all processes, lets faults strike and end, and makes the processes as they are wanted.
    ///
    /// # Errors
    /// A log cannot be read, or a process not be started.
    pub(crate) fn advance(&mut self, storm: &mut Storm, at_work: impl Fn(u32) -> bool) -> Result<(), Error> {
        self.listen(|at_ns, member, mark| storm.said(at_ns, member, mark))?;
        let Self { clock, runners, heard } = self;
        let busy = |host| match host {
            Host::Member(member) => at_work(member),
            Host::Node(node) => heard.running.range((node, String::new())..(node + 1, String::new())).next().is_some(),
        };
        let runs = |host| runners.get(&host).is_some_and(|runner| runner.process.is_running());
        storm.advance(clock.now_ns(), &Senses { leader: heard.leader, busy: &busy, runs: &runs });
        runners.iter_mut().try_for_each(|(host, runner)| {
            let wanted = storm.wanted(*host);
            runner.become_as(*host, wanted, *clock, heard)
        })
    }

    /// Hears what is new in all logs, and tells of each mark that a member said.
    fn listen(&mut self, mut marked: impl FnMut(Ns, u32, &str)) -> Result<(), Error> {
        for (host, runner) in &mut self.runners {
            let log = runner.process.log();
            let news = runner.tail.news(log).map_err(Error::machine(format!("{} cannot be read", log.display())))?;
            self.heard.hear(*host, runner.process.name(), news, self.clock, &mut marked);
        }
        Ok(())
    }

    /// Asks all processes to end, agents first, and waits for each. What came of all of them.
    ///
    /// # Errors
    /// A log cannot be read.
    pub(crate) fn stop(mut self) -> Result<Heard, Error> {
        for (host, runner) in self.runners.iter_mut().rev().filter(|(_, runner)| runner.process.is_running()) {
            runner.pause(false);
            runner.process.ask_to_end();
            let asked_ns = self.clock.now_ns();
            let status = runner.process.wait(std::time::Duration::from_nanos(STOP_WITHIN_NS));
            self.heard.ended(*host, runner.process.name(), status, asked_ns, self.clock.now_ns());
        }
        self.listen(|_, _, _| {})?;
        Ok(self.heard)
    }
}

impl Runner {
    fn start(&mut self, host: Host, at_ns: Ns, heard: &mut Heard) -> Result<(), Error> {
        self.process.start()?;
        (self.asked_ns, self.failed_ns) = (None, None);
        heard.happenings.push(Happening { at_ns, host, what: Happened::Began });
        Ok(())
    }

    fn pause(&mut self, paused: bool) {
        if paused == self.paused || !self.process.is_running() {
            return;
        }
        self.paused = paused;
        if paused {
            self.process.pause();
        } else {
            self.process.resume();
        }
    }

    fn become_as(&mut self, host: Host, wanted: Wanted, clock: Clock, heard: &mut Heard) -> Result<(), Error> {
        if let Some(status) = self.process.ended() {
            let now_ns = clock.now_ns();
            match self.asked_ns.take() {
                Some(asked_ns) => heard.ended(host, self.process.name(), Some(status), asked_ns, now_ns),
                None => {
                    self.failed_ns = Some(now_ns);
                    heard.failed(host, self.process.name(), now_ns, format!("it ended by itself: {status}"));
                }
            }
            self.paused = false;
        }
        match wanted.down {
            Some(Down::Killed) => self.kill(host, clock, heard),
            Some(Down::Asked) => self.end(host, clock, heard),
            None if !self.process.is_running() => {
                let now_ns = clock.now_ns();
                if self.failed_ns.is_none_or(|failed_ns| failed_ns + RESTART_NS <= now_ns) {
                    self.start(host, now_ns, heard)?;
                }
            }
            None => {}
        }
        self.pause(wanted.paused);
        Ok(())
    }

    fn kill(&mut self, host: Host, clock: Clock, heard: &mut Heard) {
        if self.process.is_running() {
            self.process.kill();
            (self.asked_ns, self.paused) = (None, false);
            heard.happenings.push(Happening { at_ns: clock.now_ns(), host, what: Happened::Ended });
        }
    }

    /// Asks it to end. A process that is paused has not heard of it yet.
    fn end(&mut self, host: Host, clock: Clock, heard: &mut Heard) {
        let now_ns = clock.now_ns();
        match self.asked_ns {
            None if self.process.is_running() => {
                self.process.ask_to_end();
                self.asked_ns = Some(now_ns);
            }
            Some(_) if self.paused => self.asked_ns = Some(now_ns),
            Some(asked_ns) if now_ns >= asked_ns + STOP_WITHIN_NS => {
                self.process.kill();
                self.asked_ns = None;
                heard.ended(host, self.process.name(), None, asked_ns, now_ns);
            }
            Some(_) | None => {}
        }
    }
}

impl Heard {
    fn hear(&mut self, host: Host, name: &str, news: News, clock: Clock, marked: &mut impl FnMut(Ns, u32, &str)) {
        for line in news.panics {
            let at_ns = clock.now_ns();
            self.panics.push(Panic { at_ns, host: name.to_owned(), message: line });
        }
        for said in news.said {
            let at_ns = clock.of_wall(said.wall_ns);
            match (host, &said.what) {
                (Host::Member(member), What::Mark(mark)) => marked(at_ns, member, mark),
                (Host::Member(member), What::Leads { leads: true, .. }) => self.leader = Some(member),
                (Host::Node(node), What::Container { event, id, .. }) => self.container(node, *event, id),
                // It is for the record alone.
                (Host::Node(_), What::Mark(_) | What::Leads { .. })
                | (Host::Member(_), What::Leads { leads: false, .. } | What::Container { .. })
                | (_, What::Commits { .. } | What::Elected { .. } | What::Effect { .. }) => {}
            }
            self.happenings.push(Happening { at_ns, host, what: Happened::Said(said.what) });
        }
    }

    fn container(&mut self, node: u32, event: Event, id: &str) {
        let key = (node, id.to_owned());
        match event {
            Event::Started | Event::Adopted => drop(self.running.insert(key)),
            Event::Exited(_) => drop(self.running.remove(&key)),
            Event::Signalled { .. } => {}
        }
    }

    /// A process that was asked to end has, or was killed because it did not.
    fn ended(&mut self, host: Host, name: &str, status: Option<ExitStatus>, asked_ns: Ns, at_ns: Ns) {
        let took_ns = at_ns.saturating_sub(asked_ns);
        if self.slowest_stop.as_ref().is_none_or(|(slowest_ns, _)| *slowest_ns < took_ns) {
            self.slowest_stop = Some((took_ns, name.to_owned()));
        }
        self.happenings.push(Happening { at_ns, host, what: Happened::Ended });
        match status {
            // One that is still starting is ended by the system.
            Some(status) if status.success() || status.signal() == Some(Signal::TERM.as_raw()) => {}
            Some(status) => self.panic(name, at_ns, format!("it was asked to end, and did with {status}")),
            None => {
                self.panic(name, at_ns, format!("it was asked to end, and had not after {} s", took_ns / 1_000_000_000))
            }
        }
    }

    fn failed(&mut self, host: Host, name: &str, at_ns: Ns, message: String) {
        self.happenings.push(Happening { at_ns, host, what: Happened::Ended });
        self.panic(name, at_ns, message);
    }

    fn panic(&mut self, name: &str, at_ns: Ns, message: String) {
        self.panics.push(Panic { at_ns, host: name.to_owned(), message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Program;
    use crate::storm::Topology;
    use faults::{Fault, Kind, Schedule, Target, When};
    use std::path::PathBuf;

    /// An agent's process that does this, and one fault that strikes it at once.
    fn field(name: &str, script: &str, what: faults::What) -> (PathBuf, Field, Storm) {
        let folder = std::env::temp_dir().join(format!("real-field-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("script"), script).unwrap();
        let program = Program { path: folder.join("script"), before: vec!["/bin/sh".into()] };
        let mut field = Field::new([(Host::Node(0), Process::new(&program, "n1", &[], &folder))]);
        field.start(Host::Node(0)).unwrap();
        let fault = Fault { id: 1, kind: Kind::NodeKill, when: When::At(0), for_ns: 1, what };
        let topology = Topology { members: 0, nodes: 1 };
        (folder, field, Storm::new(&Schedule { faults: vec![fault] }, topology, Ns::MAX))
    }

    fn happened(heard: &Heard) -> Vec<&Happened> {
        heard.happenings.iter().map(|happening| &happening.what).collect()
    }

    fn node() -> Target {
        Target::Node(0)
    }

    /// Lets time go by until so many things have happened.
    fn play(field: &mut Field, storm: &mut Storm, count: usize) {
        while field.heard.happenings.len() < count {
            field.advance(storm, |_| false).unwrap();
        }
    }

    #[test]
    fn what_is_killed_is_started_again() {
        let (folder, mut field, mut storm) = field("kill", "exec sleep 600", faults::What::Kill { target: node() });
        play(&mut field, &mut storm, 3);
        assert_eq!(happened(&field.heard), [&Happened::Began, &Happened::Ended, &Happened::Began]);
        assert_eq!(field.heard.panics, []);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn who_is_asked_to_end_must_do_so_well() {
        let restart = || faults::What::Restart { target: node() };
        let script = |code: u32| format!("trap 'exit {code}' TERM; while :; do sleep 0.01; done");
        for (name, code) in [("well", 0), ("badly", 5)] {
            let (folder, mut field, mut storm) = field(name, &script(code), restart());
            play(&mut field, &mut storm, 3);
            assert_eq!(happened(&field.heard)[1..], [&Happened::Ended, &Happened::Began]);
            let said: Vec<&str> = field.heard.panics.iter().map(|panic| panic.message.as_str()).collect();
            // One that has not set its trap yet is ended by the system, which is no fault of its own.
            assert!(said.iter().all(|said| code == 5 && said.ends_with("exit status: 5")), "{said:?}");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn what_ends_by_itself_is_a_failure() {
        let (folder, mut field, mut storm) = field("ends", "exit 3", faults::What::Pause { target: Target::Node(7) });
        play(&mut field, &mut storm, 2);
        assert_eq!(happened(&field.heard)[1], &Happened::Ended);
        assert_eq!(field.heard.panics[0].message, "it ended by itself: exit status: 3");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
