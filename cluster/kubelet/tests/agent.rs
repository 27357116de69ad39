//! A node agent with the hollow runtime on a simulated host, against an API server that is a map.
#![cfg(madsim)]

mod common;

use api::coordination::v1::Lease;
use api::core::v1::{ExecAction, GRPCAction, Lifecycle, LifecycleHandler, Node, Probe};
use common::{Scene, first, is_ready, ms, phase_of, s, web, web_probed, with_node};
use kubelet::hollow::Fault;
use rt::sim::DiskFaults;
use rt::time::sleep;
use std::future::Future;
use std::sync::{Arc, Mutex};

fn check<Fut: Future<Output = ()> + Send + 'static>(scene: fn(Scene) -> Fut) {
    for seed in 1..=8 {
        with_node(seed, scene);
    }
}

#[test]
fn a_pod_comes_up_answers_and_goes() {
    check(|scene| async move {
        scene.api.create_pod(&web("a", "hollow/web:7", "Always", &[]));
        let pod = scene.ready("a").await;
        let status = pod.status.clone().unwrap();
        assert_eq!((status.pod_ip.as_deref(), status.host_ip.as_deref()), (Some("10.1.0.2"), Some("10.0.0.2")));
        let answer = scene.ask(&pod).await.unwrap();
        assert!(answer.contains("\"version\":\"7\"") && answer.contains("\"node\":\"n1\""), "{answer}");
        scene.api.delete_pod("a", 10);
        scene.gone("a", s(8)).await;
        let phases: Vec<String> = scene.api.history("a").iter().map(phase_of).collect();
        assert_eq!(phases.last().map(String::as_str), Some("Succeeded"), "{phases:?}");
        scene.until("rest", s(5), |scene| scene.view().filter(|view| view.pods.is_empty())).await;
        let node: Node = scene.api.get("nodes", "n1").unwrap();
        let ready = node.status.unwrap().conditions.unwrap().into_iter().find(|it| it.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("True", Some("KubeletReady")));
        let lease: Lease = scene.api.get("leases", "n1").unwrap();
        assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("n1"));
    });
}

#[test]
fn a_restart_of_the_agent_changes_no_container_and_no_readiness() {
    check(|scene| async move {
        scene.api.create_pod(&web("a", "hollow/web:1", "Always", &[]));
        scene.api.create_pod(&web("b", "hollow/web:1", "Never", &[]));
        let before = (first(&scene.ready("a").await), first(&scene.ready("b").await));
        let versions = scene.api.history("a").len() + scene.api.history("b").len();
        for _ in 0..3 {
            scene.world.kill(scene.node);
            sleep(s(3)).await;
            scene.world.restart(scene.node);
            sleep(s(20)).await;
        }
        let after = (scene.api.pod("a").unwrap(), scene.api.pod("b").unwrap());
        assert_eq!((first(&after.0), first(&after.1)), before);
        assert!(scene.ask(&after.0).await.is_ok());
        let later = scene.api.history("a").into_iter().chain(scene.api.history("b"));
        assert_eq!(later.count(), versions, "nothing was to be said");
    });
}

#[test]
fn power_loss_ends_all_containers() {
    check(|scene| async move {
        scene.api.create_pod(&web("a", "hollow/web:1", "Always", &[]));
        scene.api.create_pod(&web("b", "hollow/web:1", "Never", &[]));
        let before = first(&scene.ready("a").await);
        scene.ready("b").await;
        scene.world.power_off(scene.node);
        sleep(s(5)).await;
        scene.world.power_on(scene.node);
        scene.phase("b", "Failed", s(30)).await;
        let after = scene
            .until("restart of a", s(60), |scene| scene.api.pod("a").filter(|pod| is_ready(pod) && first(pod).1 == 1))
            .await;
        assert_ne!(first(&after).0, before.0);
        assert!(scene.ask(&after).await.is_ok());
        sleep(s(30)).await;
        assert_eq!(phase_of(&scene.api.pod("b").unwrap()), "Failed");
        assert_eq!(scene.faults.running().len(), 1, "only a runs");
    });
}

#[test]
fn a_lost_disk_fails_what_must_not_start_twice() {
    check(|scene| async move {
        scene.api.create_pod(&web("a", "hollow/web:1", "Always", &[]));
        scene.api.create_pod(&web("b", "hollow/web:1", "Never", &[]));
        scene.ready("a").await;
        scene.ready("b").await;
        scene.world.power_off(scene.node);
        scene.world.replace_disk(scene.node);
        scene.world.power_on(scene.node);
        let failed = scene.phase("b", "Failed", s(30)).await;
        assert_eq!(failed.status.unwrap().reason.as_deref(), Some("NodeStateLost"));
        scene.until("restart of a", s(60), |scene| scene.api.pod("a").filter(|pod| first(pod).1 == 1)).await;
    });
}

#[test]
fn what_fails_on_a_full_disk_is_not_tried_again_at_once() {
    check(|scene| async move {
        scene.api.create_pod(&web("a", "hollow/web:1", "Always", &[]));
        scene.ready("a").await;
        scene.world.set_disk(scene.node, DiskFaults { full: true, ..DiskFaults::default() });
        scene.api.delete_pod("a", 1);
        scene.api.create_pod(&web("b", "hollow/web:1", "Always", &[]));
        let before = scene.world.stats().tasks;
        sleep(s(20)).await;
        let spawned = scene.world.stats().tasks - before;
        assert!(spawned < 600, "{spawned} tasks in 20 s");
        scene.world.set_disk(scene.node, DiskFaults::default());
        scene.gone("a", s(30)).await;
        scene.ready("b").await;
    });
}

#[test]
fn an_intent_is_durable_before_a_container_starts() {
    check(|scene| async move {
        scene.until("node", s(10), |scene| scene.view().filter(|view| view.registered && view.synced)).await;
        scene.world.set_disk(scene.node, DiskFaults { sync_error_permille: 1000, ..DiskFaults::default() });
        scene.api.create_pod(&web("a", "hollow/web:1", "Never", &[]));
        sleep(s(30)).await;
        assert!(scene.faults.running().is_empty(), "nothing starts without its intent on disk");
        let is_ready = |node: &Node| {
            let status = node.status.clone().unwrap_or_default();
            status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
        };
        scene.until("trouble", s(30), |scene| scene.api.get::<Node>("nodes", "n1").filter(|it| !is_ready(it))).await;
        scene.world.set_disk(scene.node, DiskFaults::default());
        scene.ready("a").await;
        scene.until("peace", s(30), |scene| scene.api.get::<Node>("nodes", "n1").filter(is_ready)).await;
    });
}

#[test]
fn a_container_starts_at_most_once_over_any_kills_and_power_losses() {
    for seed in 1..=40 {
        with_node(seed, |scene| async move {
            let mut started = std::collections::BTreeSet::new();
            scene.api.create_pod(&web("a", "hollow/job:1", "Never", &[("HOLLOW_RUN_MS", "20000")]));
            // Kills fall into the moments around the start.
            for round in 0..8 {
                for _ in 0..(round * 7 + scene.world.seed() * 3) % 40 {
                    sleep(ms(20)).await;
                    started.extend(scene.faults.running().into_iter().map(|(_, running)| running.id));
                }
                if (round + scene.world.seed()) % 3 == 0 {
                    scene.world.power_off(scene.node);
                    scene.world.power_on(scene.node);
                } else {
                    scene.world.restart(scene.node);
                }
            }
            scene
                .until("end", s(90), |scene| {
                    scene.api.pod("a").filter(|pod| ["Failed", "Succeeded"].contains(&&*phase_of(pod)))
                })
                .await;
            assert!(started.len() <= 1, "{started:?}");
        });
    }
}

#[test]
fn a_grpc_probe_asks_for_health() {
    check(|scene| async move {
        let grpc = |service: &str| {
            let action = GRPCAction { port: 80, service: Some(service.to_owned()) };
            Probe { grpc: Some(action), failure_threshold: Some(1), ..Probe::default() }
        };
        scene.api.create_pod(&web_probed("a", "hollow/web:1", "Always", &[], grpc("")));
        scene.api.create_pod(&web_probed("b", "hollow/web:1", "Always", &[], grpc("unheard-of")));
        let mut liveness = web("c", "hollow/web:1", "Always", &[]);
        liveness.spec.as_mut().unwrap().containers[0].liveness_probe = Some(grpc("liveness"));
        scene.api.create_pod(&liveness);
        scene.ready("a").await;
        scene.ready("c").await;
        scene.faults.inject(&scene.target("a"), Fault::Unready);
        scene.faults.inject(&scene.target("c"), Fault::Unready);
        scene.until("unready", s(30), |scene| scene.api.pod("a").filter(|pod| !is_ready(pod))).await;
        scene.until("unready too", s(30), |scene| scene.api.pod("c").filter(|pod| !is_ready(pod))).await;
        assert!(scene.heard("service unhealthy (responded with \"NOT_SERVING\")"));
        assert!(!is_ready(&scene.api.pod("b").unwrap()), "no server knows that service");
        assert!(scene.heard("rpc error: code = 5"));
        scene.faults.clear(&scene.target("a"));
        scene.ready("a").await;
        scene.faults.inject(&scene.target("a"), Fault::Hang);
        scene.until("silent", s(30), |scene| scene.api.pod("a").filter(|pod| !is_ready(pod))).await;
        assert!(scene.heard("timeout: health rpc did not complete within 1s"));
        assert_eq!(first(&scene.api.pod("c").unwrap()).1, 0, "what is not ready lives");
    });
}

#[test]
fn crashes_back_off_and_faults_show() {
    check(|scene| async move {
        scene.api.create_pod(&web("a", "hollow/web:1", "Always", &[]));
        scene.ready("a").await;
        let target = scene.target("a");
        assert!(scene.faults.inject(&target, Fault::OutOfMemory));
        let pod = scene
            .until("restart", s(5), |scene| scene.api.pod("a").filter(|pod| is_ready(pod) && first(pod).1 == 1))
            .await;
        let status = pod.status.unwrap().container_statuses.unwrap();
        let last = status[0].last_state.clone().unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("OOMKilled")));
        assert!(scene.faults.inject(&target, Fault::Crash(3)));
        let waiting = |scene: &Scene| {
            let status = scene.api.pod("a")?.status?.container_statuses?;
            status[0].state.clone()?.waiting?.reason.filter(|reason| reason == "CrashLoopBackOff")
        };
        scene.until("back-off", s(5), waiting).await;
        scene.until("third", s(15), |scene| scene.api.pod("a").filter(|pod| is_ready(pod) && first(pod).1 == 2)).await;
        scene.faults.inject(&target, Fault::Unready);
        scene.until("unready", s(30), |scene| scene.api.pod("a").filter(|pod| !is_ready(pod))).await;
        scene.faults.clear(&target);
        scene.ready("a").await;
        scene.faults.inject(&target, Fault::IgnoreTerm);
        scene.api.delete_pod("a", 10);
        sleep(s(9)).await;
        assert!(scene.api.pod("a").is_some());
        scene.gone("a", s(8)).await;
    });
}

#[test]
fn jobs_end_images_fail_and_a_full_node_refuses() {
    check(|scene| async move {
        scene.api.create_pod(&web("job", "hollow/job:1", "OnFailure", &[]));
        scene.phase("job", "Succeeded", s(30)).await;
        scene.api.create_pod(&web("fails", "hollow/job:1", "Never", &[("HOLLOW_EXIT_CODE", "4")]));
        scene.phase("fails", "Failed", s(30)).await;
        scene.api.create_pod(&web("none", "hollow/missing:1", "Always", &[]));
        let waiting = |scene: &Scene| {
            let status = scene.api.pod("none")?.status?.container_statuses?;
            status[0].state.clone()?.waiting?.reason.filter(|reason| reason == "ErrImagePull")
        };
        scene.until("pull error", s(10), waiting).await;
        let mut big = web("big", "hollow/web:1", "Always", &[]);
        let cpu = [("cpu".to_owned(), api::QuantityText("5".to_owned()))].into();
        let requests = api::core::v1::ResourceRequirements { requests: Some(cpu), ..Default::default() };
        big.spec.as_mut().unwrap().containers[0].resources = Some(requests);
        scene.api.create_pod(&big);
        let refused = scene.phase("big", "Failed", s(10)).await.status.unwrap();
        assert_eq!(refused.reason.as_deref(), Some("OutOfcpu"));
        let message =
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000";
        assert_eq!(refused.message.as_deref(), Some(message));
    });
}

#[test]
fn what_vanished_while_the_agent_was_down_is_ended() {
    check(|scene| async move {
        scene.api.create_pod(&web("a", "hollow/web:1", "Always", &[]));
        scene.api.create_pod(&web("b", "hollow/web:1", "Always", &[]));
        let pod = scene.ready("a").await;
        scene.ready("b").await;
        scene.world.kill(scene.node);
        scene.api.remove_pod("a");
        // The same name again: another pod.
        scene.api.create_pod(&web("a", "hollow/web:2", "Always", &[]));
        scene.world.restart(scene.node);
        let new = scene.ready("a").await;
        assert_ne!(new.metadata.uid, pod.metadata.uid);
        scene.until("end", s(20), |scene| (scene.faults.running().len() == 2).then_some(())).await;
        assert!(scene.ask(&new).await.unwrap().contains("\"version\":\"2\""));
        scene.until("rest", s(20), |scene| scene.view().filter(|view| view.pods.len() == 2)).await;
        // A forced deletion while it runs.
        scene.api.remove_pod("b");
        scene.until("rest", s(20), |scene| scene.view().filter(|view| view.pods.len() == 1)).await;
        assert_eq!(scene.faults.running().len(), 1);
    });
}

#[test]
fn hooks_run_and_a_pre_stop_is_part_of_the_grace() {
    check(|scene| async move {
        let exec = |words: &[&str]| LifecycleHandler {
            exec: Some(ExecAction { command: Some(words.iter().map(|word| (*word).to_owned()).collect()) }),
            ..LifecycleHandler::default()
        };
        let mut pod = web("a", "hollow/web:1", "Always", &[]);
        pod.spec.as_mut().unwrap().containers[0].lifecycle = Some(Lifecycle {
            post_start: Some(exec(&["sleep", "3"])),
            pre_stop: Some(exec(&["sleep", "5"])),
            ..Lifecycle::default()
        });
        scene.api.create_pod(&pod);
        sleep(s(3)).await;
        assert!(!is_ready(&scene.api.pod("a").unwrap()), "its hook runs yet");
        scene.ready("a").await;
        scene.api.delete_pod("a", 10);
        sleep(s(4)).await;
        assert_eq!(scene.faults.running().len(), 1, "its hook runs yet");
        scene.gone("a", s(4)).await;
        // A hook that fails has the container started anew.
        let mut pod = web("b", "hollow/web:1", "Always", &[]);
        let lifecycle = Lifecycle { post_start: Some(exec(&["false"])), ..Lifecycle::default() };
        pod.spec.as_mut().unwrap().containers[0].lifecycle = Some(lifecycle);
        scene.api.create_pod(&pod);
        scene.until("restart", s(30), |scene| scene.api.pod("b").filter(|pod| first(pod).1 >= 1)).await;
    });
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let told: Arc<Mutex<String>> = Arc::default();
        let tell = told.clone();
        with_node(seed, move |scene| async move {
            for name in ["a", "b", "c"] {
                scene.api.create_pod(&web(name, "hollow/web:1", "Always", &[]));
            }
            scene.ready("c").await;
            scene.world.restart(scene.node);
            sleep(s(20)).await;
            *tell.lock().unwrap() = format!("{:?}", ["a", "b", "c"].map(|name| scene.api.history(name)));
        });
        told.lock().unwrap().clone()
    };
    assert_eq!(history(5), history(5));
    assert_ne!(history(5), history(6), "container ids differ");
}
