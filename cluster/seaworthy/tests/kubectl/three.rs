//! Three servers and two agents, each a process, and kubectl on them.

use crate::cluster::{Process, free_ports, place};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A leader is elected within two seconds, and Leases are taken after fifteen; compilers may be running beside it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Servers `s1` to `s3` and agents `n1`, `n2`. Dropping it kills them; the directory stays if the test fails.
pub struct Three {
    dir: PathBuf,
    servers: String,
    apis: Vec<u16>,
    pods: String,
    processes: Vec<Option<Process>>,
}

impl Three {
    /// All are started, and ready when this returns.
    pub fn start(name: &str) -> Self {
        let (dir, number) = place(name);
        let ports = free_ports(number, 6);
        let entry = |at: usize| format!("s{}=127.0.0.1:{},127.0.0.1:{}", at + 1, ports[at], ports[3 + at]);
        let servers = (0..3).map(entry).map(|entry| format!("--server {entry}")).collect::<Vec<_>>().join(" ");
        let pods = format!("127.{}.0.0/16", 1 + number % 250);
        let mut three =
            Self { dir, servers, apis: ports[3..].to_vec(), pods, processes: (0..5).map(|_| None).collect() };
        for server in 0..3 {
            three.start_server(server);
            let begun = Instant::now();
            while !three.dir.join("s1/agent-token").exists() {
                assert!(begun.elapsed() < PATIENCE, "s1 makes no token");
                thread::sleep(Duration::from_millis(5));
            }
        }
        for agent in 0..2 {
            let [first, second] = [three.apis[agent], three.apis[agent + 1]];
            let node = agent + 1;
            let arguments = format!(
                "agent --node n{node} --data-dir n{node} --server 127.0.0.1:{first} --server 127.0.0.1:{second} \
                 --token-file s1/agent-token"
            );
            three.processes[3 + agent] = Some(Process::start(&three.dir, &format!("n{node}"), &arguments));
        }
        three.until(0, "kubectl wait --for=condition=Ready node/n1 node/n2 --timeout=10s");
        three
    }

    /// The same command as at the first time.
    pub fn start_server(&mut self, server: usize) {
        let name = format!("s{}", server + 1);
        let mut arguments = format!("server --name {name} --data-dir {name} --pod-cidr {} {}", self.pods, self.servers);
        if server > 0 {
            arguments += " --token-file s1/server-token";
        }
        self.processes[server] = Some(Process::start(&self.dir, &name, &arguments));
    }

    /// As `kill -9` does.
    pub fn kill(&mut self, server: usize) {
        self.processes[server] = None;
    }

    /// What a command prints, by the API server of one of the servers; `None` if it fails.
    pub fn ask(&self, server: usize, line: &str) -> Option<String> {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.dir).stdin(Stdio::null()).env("HOME", &self.dir);
        command.env("KUBECONFIG", self.dir.join(format!("s{}/kubeconfig", server + 1)));
        let output = command.output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a command prints once it succeeds.
    pub fn until(&self, server: usize, line: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some(out) = self.ask(server, line) {
                return out;
            }
            assert!(begun.elapsed() < PATIENCE, "{line}: it does not come to succeed by s{}", server + 1);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Which of the running servers leads the store.
    pub fn leader(&self) -> usize {
        let leads = |server: &usize| {
            let view = self.ask(*server, "kubectl get --raw /debug/view");
            view.is_some_and(|view| view.contains("\"role\":\"Leader\""))
        };
        let begun = Instant::now();
        loop {
            if let Some(leader) = (0..3).filter(|server| self.processes[*server].is_some()).find(leads) {
                return leader;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody leads");
        }
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        self.processes.clear();
        if thread::panicking() {
            eprintln!("the cluster's directory is {}", self.dir.display());
        } else {
            fs::remove_dir_all(&self.dir).unwrap();
        }
    }
}
