//! Real kubectl on a real `seaworthy up`: what a user types and what they read.
//!
//! ```text
//! sessions/NAME.txt ─▶ session: commands, expected lines ─▶ sh with kubectl ─▶ cluster: a process of `seaworthy up`
//! ```
//!
//! Each session has a cluster of its own, which starts in a fraction of a second. Where there is no kubectl the tests say
//! that they did nothing; with the environment variable `CI` set that is a failure.
#![cfg(not(madsim))]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

mod cluster;
mod session;
mod three;

use cluster::Cluster;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use three::Three;

/// Whether there is a kubectl to test with.
///
/// Panics if there is none although this is a check that counts.
fn is_there() -> bool {
    let there =
        Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|output| output.status.success());
    assert!(there || std::env::var_os("CI").is_none(), "CI is set and there is no kubectl");
    if !there {
        eprintln!("SKIPPED: there is no kubectl on this machine");
    }
    there
}

/// Plays `sessions/NAME.txt`.
macro_rules! sessions {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            if is_there() {
                session::play(stringify!($name), include_str!(concat!("sessions/", stringify!($name), ".txt")));
            }
        }
    )*};
}

sessions!(looking, asking, applying, changing, rollouts, services, draining, deleting, jobs_of_hollow_nodes);

#[test]
fn everything_is_there_after_a_kill_and_goes_on() {
    if !is_there() {
        return;
    }
    let mut cluster = Cluster::start("killed");
    cluster.check("kubectl create deployment web --image=nginx --replicas=3");
    cluster.check("kubectl rollout status deployment/web --timeout=60s");
    let columns = "kubectl get pods --no-headers -o custom-columns=\
                   UID:.metadata.uid,ID:.status.containerStatuses[0].containerID,\
                   RESTARTS:.status.containerStatuses[0].restartCount,\
                   STARTED:.status.containerStatuses[0].state.running.startedAt";
    let before = cluster.check(columns);
    assert_eq!(before.lines().filter(|line| line.contains(" 0 ")).count(), 3, "{before}");
    for _ in 0..3 {
        cluster.kill();
        cluster.restart();
        assert_eq!(cluster.check(columns), before);
    }
    cluster.check("kubectl scale deployment web --replicas=4");
    cluster.check("kubectl rollout status deployment/web --timeout=60s");
    let after = cluster.check(columns);
    assert!(before.lines().all(|line| after.contains(line)), "{before}{after}");
}

#[test]
fn a_kill_in_the_middle_of_a_rollout_only_delays_it() {
    if !is_there() {
        return;
    }
    let mut cluster = Cluster::start("rollout-killed");
    cluster.check("kubectl create deployment web --image=nginx:1 --replicas=6");
    cluster.check("kubectl rollout status deployment/web --timeout=60s");
    cluster.check("kubectl set image deployment/web nginx=nginx:2");
    cluster.kill();
    cluster.restart();
    cluster.check("kubectl rollout status deployment/web --timeout=60s");
    let images = cluster.check(
        "kubectl get pods --field-selector=status.phase=Running -o jsonpath={.items[*].spec.containers[0].image}",
    );
    assert!(images.split(' ').filter(|image| *image == "nginx:2").count() >= 6, "{images}");
}

#[test]
fn a_watch_shows_what_happens_as_it_happens() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start("watch");
    let mut watch =
        cluster.command("kubectl get configmaps -w --no-headers -o name").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    cluster.check("kubectl create configmap a --from-literal=x=1");
    cluster.check("kubectl create configmap b --from-literal=x=1");
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/a");
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/b");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn the_leader_of_three_is_killed_in_the_middle_of_a_rollout_and_it_completes() {
    if !is_there() {
        return;
    }
    let mut three = Three::start("three");
    three.until(0, "kubectl create deployment web --image=nginx:1 --replicas=6");
    three.until(1, "kubectl rollout status deployment/web --timeout=30s");
    let leader = three.leader();
    let other = (leader + 1) % 3;
    for number in 0..20 {
        let value = format!("kubectl create configmap c{number} --from-literal=number={number}");
        three.until(other, &value);
    }
    three.until(other, "kubectl set image deployment/web nginx=nginx:2");
    three.kill(leader);
    three.until(other, "kubectl rollout status deployment/web --timeout=30s");
    // Nothing that was acknowledged is lost.
    let kept = three.until(other, "kubectl get configmaps -o name");
    assert!((0..20).all(|number| kept.lines().any(|line| line == format!("configmap/c{number}"))), "{kept}");
    // Nobody needs a token who has been there before; the member catches up with what it missed.
    three.start_server(leader);
    three.until(other, "kubectl create configmap late --from-literal=a=b");
    three.until(leader, "kubectl get configmap late");
    let nodes = three.until(leader, "kubectl get nodes --no-headers");
    assert_eq!(nodes.lines().filter(|line| line.contains(" Ready ")).count(), 2, "{nodes}");
    // With two of them gone there is no majority, and with one back there is.
    three.kill(leader);
    three.kill(other);
    three.start_server(other);
    three.until(other, "kubectl create configmap last --from-literal=a=b");
    assert!(three.dir().join("s1/agent-token").exists());
}

#[test]
#[ignore = "needs an interpreter that has the Python package kubernetes, named by SEAWORTHY_PYTHON"]
fn the_python_client_finds_all_that_it_needs() {
    let python = std::env::var("SEAWORTHY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python/client.py");
    let said = Cluster::start("python").check(&format!("{python} {script}"));
    assert!(said.ends_with("all ok\n"), "{said}");
}

#[test]
#[ignore = "compiles kube-rs, which takes minutes and needs the network once"]
fn a_controller_made_with_kube_rs_works() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/kube-rs");
    let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/kube-rs");
    let mut build = Command::new(env!("CARGO"));
    let built = build.args(["build", "--locked", "--target-dir", target]).current_dir(folder).status().unwrap();
    assert!(built.success());
    let said = Cluster::start("kube-rs").check(&format!("{target}/debug/kube-rs-controller"));
    assert!(said.ends_with("all ok\n"), "{said}");
}
