//! The hollow runtime alone, on a simulated host whose disk stands still.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use kubelet::hollow::{Fault, HollowFaults, Target};
use kubelet::runtime::{ContainerConfig, ContainerState, SandboxConfig};
use kubelet::{ContainerRuntime, Hollow, HollowConfig, StandardPrograms};
use rt::sim::{self, Config, DiskFaults};
use rt::time::sleep;
use std::collections::BTreeMap;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn an_end_is_told_when_it_is_on_disk() {
    an_end_waits_for(DiskFaults { stalled: true, ..DiskFaults::default() });
}

#[test]
fn an_end_that_cannot_be_written_is_not_told() {
    an_end_waits_for(DiskFaults { write_error_permille: 1000, ..DiskFaults::default() });
}

/// A container ends while its node's disk is so.
fn an_end_waits_for(trouble: DiskFaults) {
    let done = sim::run(Config::default(), move |world| async move {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
        let host = world.add_host("n1", address);
        world.start(host, || Box::pin(pending()));
        let disk = world.clone();
        let test = async move {
            let faults = HollowFaults::new();
            let hollow = Hollow::open(HollowConfig::new("n1", "data"), Arc::new(StandardPrograms), faults.clone());
            let hollow = hollow.await.unwrap();
            let (pod_uid, namespace, name) = ("u".to_owned(), "default".to_owned(), "a".to_owned());
            let sandbox = SandboxConfig {
                pod_uid: pod_uid.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
                attempt: 0,
                ip: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)),
                host_network: false,
            };
            let container = ContainerConfig {
                sandbox_id: hollow.run_sandbox(&sandbox).await.unwrap(),
                pod_uid: pod_uid.clone(),
                namespace,
                pod_name: name,
                name: "web".to_owned(),
                attempt: 0,
                image: "hollow/web:1".to_owned(),
                command: vec![],
                args: vec![],
                ip: sandbox.ip,
                ports: vec![80],
                env: BTreeMap::new(),
            };
            let id = hollow.create_container(&container).await.unwrap();
            hollow.start_container(&id).await.unwrap();
            disk.set_disk(host, trouble);
            assert!(faults.inject(&Target { pod_uid, container: "web".to_owned() }, Fault::Crash(3)));
            sleep(Duration::from_secs(1)).await;
            assert!(faults.running().is_empty(), "it has ended");
            let state = || hollow.listing().containers[0].state.clone();
            assert!(matches!(state(), ContainerState::Running { .. }), "that could still be forgotten");
            disk.set_disk(host, DiskFaults::default());
            sleep(Duration::from_secs(3)).await;
            assert!(matches!(state(), ContainerState::Exited(exit) if exit.code == 3));
        };
        world.spawn_on(host, "test", test).await.is_ok() && world.panics().is_empty()
    });
    assert!(done.unwrap());
}
