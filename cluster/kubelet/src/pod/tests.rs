//! Lives of pods in a tiny notation, against a runtime that is plain data.
//!
//! A pod is `POLICY: CONTAINER ...`; a container is `[i.|s.]NAME[+PROBES]`, `i.` for an initial one, `s.` for a sidecar;
//! probes are letters of `srl`. A script is words; after each the pod's decisions are applied until none is left, and
//! one line says what was done and what the status shows.

use super::*;
use crate::runtime::{Container, ContainerState, Exit, Listing, Sandbox, SandboxConfig};
use api::core::v1::{Container as Spec, ContainerStatus, Pod, PodSpec, PodStatus, Probe};
use api::{ObjectMeta, Timestamp};
use client::Now;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 2));

struct Life {
    pod: Pod,
    wanted: Wanted,
    record: Record,
    listing: Listing,
    facts: Facts,
    status: PodStatus,
    now: Duration,
    ids: u32,
    /// How often each container really started.
    started: BTreeMap<String, u32>,
    ended: bool,
    wake: Option<Duration>,
}

fn pod(text: &str) -> Pod {
    let (policy, rest) = text.split_once(':').unwrap();
    let mut spec = PodSpec {
        restart_policy: Some(policy.to_owned()),
        termination_grace_period_seconds: Some(30),
        init_containers: Some(Vec::new()),
        ..PodSpec::default()
    };
    for word in rest.split_whitespace() {
        let (kind, word) = match word.split_at_checked(2) {
            Some(("i.", word)) => ('i', word),
            Some(("s.", word)) => ('s', word),
            _ => (' ', word),
        };
        let (name, probes) = word.split_once('+').unwrap_or((word, ""));
        let probe = |letter| probes.contains(letter).then(Probe::default);
        let container = Spec {
            name: name.to_owned(),
            image: Some("hollow/web:1".to_owned()),
            startup_probe: probe('s'),
            readiness_probe: probe('r'),
            liveness_probe: probe('l'),
            restart_policy: (kind == 's').then(|| "Always".to_owned()),
            ..Spec::default()
        };
        if kind == ' ' {
            spec.containers.push(container);
        } else {
            spec.init_containers.get_or_insert_default().push(container);
        }
    }
    let metadata = ObjectMeta {
        name: Some("p".to_owned()),
        namespace: Some("d".to_owned()),
        uid: Some("u".to_owned()),
        generation: Some(1),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: Some(spec), status: None }
}

impl Life {
    fn new(text: &str) -> Life {
        let pod = pod(text);
        let mut record = Record::new(&pod, &Listing::default(), Timestamp::UNIX_EPOCH);
        record.ip = Some(IP);
        Life {
            pod,
            wanted: Wanted::Run,
            record,
            listing: Listing::default(),
            facts: Facts { acknowledged: true, ..Facts::default() },
            status: PodStatus::default(),
            now: Duration::ZERO,
            ids: 0,
            started: BTreeMap::new(),
            ended: false,
            wake: None,
        }
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.now
    }

    fn decide(&mut self) -> Decision {
        let now = Now { wall: self.wall(), monotonic: self.now };
        self.facts.notice(&self.listing, now);
        pod_actions(&View {
            pod: &self.pod,
            wanted: self.wanted,
            record: &self.record,
            listing: &self.listing,
            facts: &self.facts,
            node_ip: "10.0.0.1".parse().unwrap(),
            runtime: "hollow",
            previous: &self.status,
            now,
        })
    }

    /// Applies decisions until nothing is left to do.
    fn settle(&mut self) -> Vec<String> {
        let mut log = Vec::new();
        for round in 0.. {
            assert!(round < 100, "decisions never end: {log:?}");
            let decision = self.decide();
            self.facts.ending = decision.ending;
            self.status = decision.status;
            self.record = decision.record;
            self.ended = decision.ended;
            self.wake = decision.wake;
            for stop in &decision.stops {
                self.facts.stopping.insert(stop.id.clone(), self.now + stop.grace);
                log.push(format!("stop {} {}s", stop.container, stop.grace.as_secs()));
            }
            log.extend(decision.notes.iter().map(|note| note.reason.to_owned()));
            match decision.step {
                Some(step) => log.extend(self.apply(step)),
                None if decision.stops.is_empty() => return log,
                None => {}
            }
        }
        log
    }

    fn apply(&mut self, step: Step) -> Option<String> {
        self.ids += 1;
        match step {
            Step::CreateSandbox { attempt } => {
                let config = SandboxConfig {
                    pod_uid: "u".to_owned(),
                    namespace: "d".to_owned(),
                    name: "p".to_owned(),
                    attempt,
                    ip: IP,
                    host_network: false,
                };
                self.listing.sandboxes.push(Sandbox { id: format!("s{attempt}"), config, ready: true });
                Some(format!("sandbox {attempt}"))
            }
            Step::Start { container, attempt } => {
                *self.started.entry(container.clone()).or_default() += 1;
                let sandbox = self.listing.sandboxes.iter().filter(|it| it.ready).max_by_key(|it| it.config.attempt);
                self.listing.containers.push(Container {
                    id: format!("c{}", self.ids),
                    sandbox_id: sandbox.expect("a start needs a sandbox").id.clone(),
                    pod_uid: "u".to_owned(),
                    name: container.clone(),
                    attempt,
                    image_id: "i".to_owned(),
                    state: ContainerState::Running { started_at: self.wall() },
                });
                Some(format!("start {container} {attempt}"))
            }
            Step::RemoveContainer { id } => {
                self.listing.containers.retain(|it| it.id != id);
                None
            }
            Step::RemoveSandbox { id } => {
                self.listing.containers.retain(|it| it.sandbox_id != id);
                self.listing.sandboxes.retain(|it| it.id != id);
                Some("no sandbox".to_owned())
            }
        }
    }

    /// A container that runs ends.
    fn exit(&mut self, name: &str, code: i32) -> bool {
        let wall = self.wall();
        let mut running = self.listing.containers.iter_mut().filter(|it| it.name == name);
        let Some((container, started_at)) = running.find_map(|it| match it.state {
            ContainerState::Running { started_at } => Some((it, started_at)),
            ContainerState::Created | ContainerState::Exited(_) => None,
        }) else {
            return false;
        };
        let reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        container.state =
            ContainerState::Exited(Exit { code, reason, message: String::new(), started_at, finished_at: wall });
        true
    }

    fn reboot(&mut self) {
        for name in ["a", "b", "c", "x", "y"] {
            while self.exit(name, 137) {}
        }
        self.listing.sandboxes.iter_mut().for_each(|it| it.ready = false);
    }

    fn probe(&mut self, name: &str, set: impl Fn(&mut ProbeResults)) {
        let running = self.listing.containers.iter().filter(|it| it.name == name);
        let Some(id) =
            running.filter(|it| matches!(it.state, ContainerState::Running { .. })).map(|it| it.id.clone()).next_back()
        else {
            return;
        };
        let mut results = self.facts.probes_of(name, &id);
        set(&mut results);
        self.facts.probes.insert(name.to_owned(), results);
    }

    fn word(&mut self, word: &str) {
        let (verb, rest) = word.split_once('.').unwrap_or((word, ""));
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        match verb {
            "go" => {}
            "exit" => assert!(self.exit(name, value.parse().unwrap()), "{word}: it does not run"),
            "wait" => self.now += Duration::from_secs(name.parse().unwrap()),
            "ready" => self.probe(name, |it| it.readiness = Some(true)),
            "unready" => self.probe(name, |it| it.readiness = Some(false)),
            "up" => self.probe(name, |it| it.startup = Some(true)),
            "sick" => self.probe(name, |it| it.liveness = Some(false)),
            "reboot" => self.reboot(),
            "wiped" => {
                self.listing = Listing::default();
                self.pod.status = Some(self.status.clone());
                self.record = Record::new(&self.pod, &self.listing, self.wall());
                self.record.ip = Some(IP);
            }
            "agent" => {
                self.facts = Facts { acknowledged: true, ..Facts::default() };
                self.pod.status = Some(self.status.clone());
                for container in self.listing.containers.clone() {
                    let Some((ready, started)) = shown(&self.pod, &container.name, &container.id) else { continue };
                    let results = ProbeResults {
                        id: container.id.clone(),
                        readiness: Some(ready),
                        startup: started.then_some(true),
                        liveness: None,
                    };
                    self.facts.probes.insert(container.name.clone(), results);
                }
            }
            "delete" => {
                self.wanted = Wanted::End;
                let grace = value.parse().unwrap_or(30);
                self.pod.metadata.deletion_timestamp = Some(api::Time(self.wall()));
                self.pod.metadata.deletion_grace_period_seconds = Some(grace);
            }
            "deadline" => {
                self.pod.spec.as_mut().unwrap().active_deadline_seconds = Some(name.parse().unwrap());
            }
            "unknown" => self.facts.acknowledged = false,
            "known" => self.facts.acknowledged = true,
            "noimage" => {
                let failure =
                    Failure { kind: FailureKind::Pull, message: "not found".to_owned(), count: 1, at: self.now };
                self.facts.failures.insert(name.to_owned(), failure);
            }
            "image" => drop(self.facts.failures.remove(name)),
            _ => panic!("{word}?"),
        }
    }

    fn shown(&self) -> String {
        let all = self.status.init_container_statuses.iter().chain(&self.status.container_statuses).flatten();
        let containers: Vec<String> = all.map(shown_container).collect();
        let reason = self.status.reason.as_ref().map(|it| format!("({it})")).unwrap_or_default();
        let phase = self.status.phase.clone().unwrap_or_default();
        let ready = self.status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
        let ready = if ready { " READY" } else { "" };
        let end = if self.ended { " over" } else { "" };
        format!("{phase}{reason} {}{ready}{end}", containers.join(" "))
    }
}

fn shown_container(status: &ContainerStatus) -> String {
    let state = status.state.clone().unwrap_or_default();
    let text = match (state.running, state.terminated, state.waiting) {
        (Some(_), ..) => "runs".to_owned(),
        (_, Some(ended), _) => format!("ended:{}", ended.exit_code),
        (.., Some(waiting)) => waiting.reason.unwrap_or_default(),
        (None, None, None) => "?".to_owned(),
    };
    let ready = if status.ready { "+" } else { "" };
    format!("{}={text}{ready}/{}", status.name, status.restart_count)
}

fn check(text: &str, script: &str, expect: Expect) {
    let mut life = Life::new(text);
    let mut lines = String::new();
    for word in script.split_whitespace() {
        life.word(word);
        let log = life.settle();
        let again = life.decide();
        assert!(again.step.is_none() && again.stops.is_empty(), "an unchanged state asks for more");
        assert_eq!(again.record, life.record, "an unchanged state changes the record");
        lines += &format!("{word}: {} -> {}\n", log.join(", "), life.shown());
    }
    expect.assert_eq(&lines);
}

#[test]
fn a_pod_starts_and_is_ready_when_its_probe_says_so() {
    check(
        "Always: a+r b",
        "go ready.a unready.a agent ready.a agent",
        expect![[r#"
        go: sandbox 0, start a 0, start b 0 -> Running a=runs/0 b=runs+/0
        ready.a:  -> Running a=runs+/0 b=runs+/0 READY
        unready.a:  -> Running a=runs/0 b=runs+/0
        agent:  -> Running a=runs/0 b=runs+/0
        ready.a:  -> Running a=runs+/0 b=runs+/0 READY
        agent:  -> Running a=runs+/0 b=runs+/0 READY
    "#]],
    );
}

#[test]
fn initial_containers_run_one_after_the_other() {
    check(
        "Always: i.x i.y a",
        "go exit.x=0 exit.y=1 exit.y=1 wait.9 wait.1 exit.y=0",
        expect![[r#"
        go: sandbox 0, start x 0 -> Pending x=runs/0 y=PodInitializing/0 a=PodInitializing/0
        exit.x=0: start y 0 -> Pending x=ended:0+/0 y=runs/0 a=PodInitializing/0
        exit.y=1: start y 1 -> Pending x=ended:0+/0 y=runs/1 a=PodInitializing/0
        exit.y=1: BackOff -> Pending x=ended:0+/0 y=CrashLoopBackOff/1 a=PodInitializing/0
        wait.9:  -> Pending x=ended:0+/0 y=CrashLoopBackOff/1 a=PodInitializing/0
        wait.1: start y 2 -> Pending x=ended:0+/0 y=runs/2 a=PodInitializing/0
        exit.y=0: start a 0 -> Running x=ended:0+/0 y=ended:0+/2 a=runs+/0 READY
    "#]],
    );
    check(
        "Never: i.x a",
        "go exit.x=1",
        expect![[r#"
        go: sandbox 0, start x 0 -> Pending x=runs/0 a=PodInitializing/0
        exit.x=1: no sandbox -> Failed x=ended:1/0 a=ended:137/0 over
    "#]],
    );
}

#[test]
fn sidecars_start_before_and_end_after() {
    check(
        "Always: s.x+s i.y a",
        "go up.x exit.y=0 exit.x=1 wait.10",
        expect![[r#"
        go: sandbox 0, start x 0 -> Pending x=runs/0 y=PodInitializing/0 a=PodInitializing/0
        up.x: start y 0 -> Pending x=runs+/0 y=runs/0 a=PodInitializing/0
        exit.y=0: start a 0 -> Running x=runs+/0 y=ended:0+/0 a=runs+/0 READY
        exit.x=1: start x 1 -> Running x=runs/1 y=ended:0+/0 a=runs+/0
        wait.10:  -> Running x=runs/1 y=ended:0+/0 a=runs+/0
    "#]],
    );
    check(
        "Never: s.x s.y a",
        "go exit.a=0 exit.y=143 exit.x=143",
        expect![[r#"
        go: sandbox 0, start x 0, start y 0, start a 0 -> Running x=runs+/0 y=runs+/0 a=runs+/0 READY
        exit.a=0: stop y 30s -> Running x=runs+/0 y=runs+/0 a=ended:0/0
        exit.y=143: stop x 30s -> Running x=runs+/0 y=ended:143/0 a=ended:0/0
        exit.x=143: no sandbox -> Succeeded x=ended:143/0 y=ended:143/0 a=ended:0/0 over
    "#]],
    );
    check(
        "Always: s.x s.y a b",
        "go delete exit.a=0 exit.b=0 exit.y=0 exit.x=0",
        expect![[r#"
        go: sandbox 0, start x 0, start y 0, start a 0, start b 0 -> Running x=runs+/0 y=runs+/0 a=runs+/0 b=runs+/0 READY
        delete: stop a 30s, stop b 30s -> Running x=runs+/0 y=runs+/0 a=runs+/0 b=runs+/0 READY
        exit.a=0:  -> Running x=runs+/0 y=runs+/0 a=ended:0/0 b=runs+/0
        exit.b=0: stop y 30s -> Running x=runs+/0 y=runs+/0 a=ended:0/0 b=ended:0/0
        exit.y=0: stop x 30s -> Running x=runs+/0 y=ended:0/0 a=ended:0/0 b=ended:0/0
        exit.x=0: no sandbox -> Succeeded x=ended:0/0 y=ended:0/0 a=ended:0/0 b=ended:0/0 over
    "#]],
    );
    check(
        "Always: s.x a",
        "go delete wait.29 wait.1 exit.a=137 exit.x=137",
        expect![[r#"
        go: sandbox 0, start x 0, start a 0 -> Running x=runs+/0 a=runs+/0 READY
        delete: stop a 30s -> Running x=runs+/0 a=runs+/0 READY
        wait.29:  -> Running x=runs+/0 a=runs+/0 READY
        wait.1: stop x 2s -> Running x=runs+/0 a=runs+/0 READY
        exit.a=137:  -> Running x=runs+/0 a=ended:137/0
        exit.x=137: no sandbox -> Failed x=ended:137/0 a=ended:137/0 over
    "#]],
    );
}

#[test]
fn restart_policies() {
    check(
        "Never: a b",
        "go exit.a=0 exit.b=1",
        expect![[r#"
        go: sandbox 0, start a 0, start b 0 -> Running a=runs+/0 b=runs+/0 READY
        exit.a=0:  -> Running a=ended:0/0 b=runs+/0
        exit.b=1: no sandbox -> Failed a=ended:0/0 b=ended:1/0 over
    "#]],
    );
    check(
        "Never: a b",
        "go exit.a=0 exit.b=0",
        expect![[r#"
        go: sandbox 0, start a 0, start b 0 -> Running a=runs+/0 b=runs+/0 READY
        exit.a=0:  -> Running a=ended:0/0 b=runs+/0
        exit.b=0: no sandbox -> Succeeded a=ended:0/0 b=ended:0/0 over
    "#]],
    );
    check(
        "OnFailure: a b",
        "go exit.a=0 exit.b=1 exit.b=0",
        expect![[r#"
        go: sandbox 0, start a 0, start b 0 -> Running a=runs+/0 b=runs+/0 READY
        exit.a=0:  -> Running a=ended:0/0 b=runs+/0
        exit.b=1: start b 1 -> Running a=ended:0/0 b=runs+/1
        exit.b=0: no sandbox -> Succeeded a=ended:0/0 b=ended:0/1 over
    "#]],
    );
    check(
        "Always: a",
        "go exit.a=0",
        expect![[r#"
        go: sandbox 0, start a 0 -> Running a=runs+/0 READY
        exit.a=0: start a 1 -> Running a=runs+/1 READY
    "#]],
    );
}

#[test]
fn backoff_doubles_up_to_five_minutes_and_is_forgotten_after_ten_minutes_of_running() {
    let script = "go exit.a=1 exit.a=1 wait.9 wait.1 exit.a=1 wait.20 exit.a=1 wait.40 exit.a=1 wait.80 exit.a=1 \
                  wait.160 exit.a=1 wait.299 wait.1 exit.a=1 wait.299 wait.1 wait.601 exit.a=1 exit.a=1 wait.10";
    check(
        "Always: a",
        script,
        expect![[r#"
        go: sandbox 0, start a 0 -> Running a=runs+/0 READY
        exit.a=1: start a 1 -> Running a=runs+/1 READY
        exit.a=1: BackOff -> Running a=CrashLoopBackOff/1
        wait.9:  -> Running a=CrashLoopBackOff/1
        wait.1: start a 2 -> Running a=runs+/2 READY
        exit.a=1: BackOff -> Running a=CrashLoopBackOff/2
        wait.20: start a 3 -> Running a=runs+/3 READY
        exit.a=1: BackOff -> Running a=CrashLoopBackOff/3
        wait.40: start a 4 -> Running a=runs+/4 READY
        exit.a=1: BackOff -> Running a=CrashLoopBackOff/4
        wait.80: start a 5 -> Running a=runs+/5 READY
        exit.a=1: BackOff -> Running a=CrashLoopBackOff/5
        wait.160: start a 6 -> Running a=runs+/6 READY
        exit.a=1: BackOff -> Running a=CrashLoopBackOff/6
        wait.299:  -> Running a=CrashLoopBackOff/6
        wait.1: start a 7 -> Running a=runs+/7 READY
        exit.a=1: BackOff -> Running a=CrashLoopBackOff/7
        wait.299:  -> Running a=CrashLoopBackOff/7
        wait.1: start a 8 -> Running a=runs+/8 READY
        wait.601:  -> Running a=runs+/8 READY
        exit.a=1: start a 9 -> Running a=runs+/9 READY
        exit.a=1: BackOff -> Running a=CrashLoopBackOff/9
        wait.10: start a 10 -> Running a=runs+/10 READY
    "#]],
    );
}

#[test]
fn liveness_and_startup_failures_restart_a_container() {
    check(
        "Always: a+l",
        "go sick.a exit.a=0",
        expect![[r#"
        go: sandbox 0, start a 0 -> Running a=runs+/0 READY
        sick.a: stop a 30s -> Running a=runs+/0 READY
        exit.a=0: start a 1 -> Running a=runs+/1 READY
    "#]],
    );
    check(
        "Never: a+l",
        "go sick.a exit.a=137",
        expect![[r#"
        go: sandbox 0, start a 0 -> Running a=runs+/0 READY
        sick.a: stop a 30s -> Running a=runs+/0 READY
        exit.a=137: no sandbox -> Failed a=ended:137/0 over
    "#]],
    );
}

#[test]
fn deletion_gives_its_grace_once_and_a_shorter_one_counts() {
    check(
        "Always: a",
        "go delete wait.10 delete.=10 exit.a=0",
        expect![[r#"
        go: sandbox 0, start a 0 -> Running a=runs+/0 READY
        delete: stop a 30s -> Running a=runs+/0 READY
        wait.10:  -> Running a=runs+/0 READY
        delete.=10: stop a 2s -> Running a=runs+/0 READY
        exit.a=0: no sandbox -> Succeeded a=ended:0/0 over
    "#]],
    );
    check(
        "Always: a",
        "delete",
        expect![[r#"
        delete:  -> Failed a=ended:137/0 over
    "#]],
    );
    check(
        "OnFailure: a b",
        "go exit.a=0 delete exit.b=137",
        expect![[r#"
        go: sandbox 0, start a 0, start b 0 -> Running a=runs+/0 b=runs+/0 READY
        exit.a=0:  -> Running a=ended:0/0 b=runs+/0
        delete: stop b 30s -> Running a=ended:0/0 b=runs+/0
        exit.b=137: no sandbox -> Failed a=ended:0/0 b=ended:137/0 over
    "#]],
    );
}

#[test]
fn a_deadline_fails_the_pod() {
    check(
        "Always: a",
        "deadline.60 wait.59 wait.1 exit.a=143",
        expect![[r#"
        deadline.60: sandbox 0, start a 0 -> Running a=runs+/0 READY
        wait.59:  -> Running a=runs+/0 READY
        wait.1: stop a 30s -> Running a=runs+/0 READY
        exit.a=143: no sandbox -> Failed(DeadlineExceeded) a=ended:143/0 over
    "#]],
    );
}

#[test]
fn a_reboot_starts_all_anew_unless_that_is_forbidden() {
    check(
        "Always: i.x a",
        "go exit.x=0 reboot exit.x=0",
        expect![[r#"
        go: sandbox 0, start x 0 -> Pending x=runs/0 a=PodInitializing/0
        exit.x=0: start a 0 -> Running x=ended:0+/0 a=runs+/0 READY
        reboot: sandbox 1, start x 1 -> Running x=runs/1 a=ended:137/0
        exit.x=0: start a 1, no sandbox -> Running x=ended:0+/1 a=runs+/1 READY
    "#]],
    );
    check(
        "OnFailure: a b",
        "go exit.a=0 reboot",
        expect![[r#"
        go: sandbox 0, start a 0, start b 0 -> Running a=runs+/0 b=runs+/0 READY
        exit.a=0:  -> Running a=ended:0/0 b=runs+/0
        reboot: sandbox 1, start b 1 -> Running a=ended:0/0 b=runs+/1
    "#]],
    );
    check(
        "Never: a b",
        "go reboot",
        expect![[r#"
        go: sandbox 0, start a 0, start b 0 -> Running a=runs+/0 b=runs+/0 READY
        reboot: no sandbox -> Failed a=ended:137/0 b=ended:137/0 over
    "#]],
    );
}

#[test]
fn a_wiped_disk_fails_what_must_not_start_twice() {
    check(
        "Never: a",
        "go wiped",
        expect![[r#"
        go: sandbox 0, start a 0 -> Running a=runs+/0 READY
        wiped:  -> Failed(NodeStateLost) a=ended:137/0 over
    "#]],
    );
    check(
        "Always: a",
        "go wiped",
        expect![[r#"
        go: sandbox 0, start a 0 -> Running a=runs+/0 READY
        wiped: sandbox 0, start a 1 -> Running a=runs+/1 READY
    "#]],
    );
    check(
        "Never: a",
        "unknown known",
        expect![[r#"
        unknown: sandbox 0 -> Pending a=ContainerCreating/0
        known: start a 0 -> Running a=runs+/0 READY
    "#]],
    );
}

#[test]
fn a_failing_image_shows_and_is_tried_again() {
    check(
        "Always: a",
        "noimage.a go wait.1 image.a",
        expect![[r#"
        noimage.a: sandbox 0 -> Pending a=ErrImagePull/0
        go:  -> Pending a=ErrImagePull/0
        wait.1:  -> Pending a=ImagePullBackOff/0
        image.a: start a 0 -> Running a=runs+/0 READY
    "#]],
    );
}

proptest! {
    #[test]
    fn random_lives_keep_the_promises(
        policy in prop::sample::select(vec!["Never", "OnFailure", "Always"]),
        shape in prop::sample::select(vec!["a", "a b", "i.x a", "s.x a b", "i.x s.y a+l"]),
        words in prop::collection::vec(prop::sample::select(vec![
            "exit.a=0", "exit.a=1", "exit.b=0", "exit.b=3", "exit.x=0", "exit.x=1", "exit.y=0", "wait.5", "wait.300",
            "reboot", "agent", "sick.a", "delete", "wiped", "unknown", "known", "deadline.1000",
        ]), 1..40),
    ) {
        let mut life = Life::new(&format!("{policy}: {shape}"));
        let mut terminal: Option<String> = None;
        for word in words {
            let (verb, rest) = word.split_once('.').unwrap_or((word, ""));
            match verb {
                // What does not run cannot end.
                "exit" => {
                    let (name, code) = rest.split_once('=').unwrap();
                    life.exit(name, code.parse().unwrap());
                }
                _ => life.word(word),
            }
            life.settle();
            let again = life.decide();
            prop_assert!(again.step.is_none() && again.stops.is_empty());
            prop_assert_eq!(&again.record, &life.record);
            let phase = life.status.phase.clone().unwrap_or_default();
            if let Some(before) = &terminal {
                prop_assert_eq!(before, &phase);
            }
            if phase == "Succeeded" || phase == "Failed" {
                terminal = Some(phase);
            }
            if policy == "Never" {
                for name in ["a", "b"] {
                    prop_assert!(life.started.get(name).copied().unwrap_or(0) <= 1, "{} started twice", name);
                }
            }
            let succeeded = life.status.phase.as_deref() == Some("Succeeded");
            if succeeded {
                let ended = |it: &ContainerStatus| it.state.as_ref().and_then(|it| it.terminated.as_ref()).map(|it| it.exit_code);
                prop_assert!(life.status.container_statuses.iter().flatten().all(|it| ended(it) == Some(0)));
            }
        }
    }
}
