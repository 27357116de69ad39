//! What every cluster has, made by whichever server is first; and the end of old history.

use crate::admission::NAMESPACES;
use crate::core::Core;
use crate::route::Target;
use api::Status;
use api::resource;
use rt::time::sleep;
use serde_json::{Value, json};
use std::time::Duration;

/// Before the objects are tried again because the store could not be asked; jittered.
const RETRY: Duration = Duration::from_millis(500);

/// Makes what is missing, until all of it is there.
pub async fn run(core: &Core, port: u16) {
    for (target, object) in objects(core, port) {
        while let Err(status) = make(core, &target, &object).await {
            tracing::debug!(%status, name = target.name, "an object that every cluster has cannot be made yet");
            let pause = RETRY + core.random().jitter(RETRY);
            sleep(pause).await;
        }
    }
    tracing::info!("every object that a cluster needs is there");
}

/// Makes one object unless it is there.
async fn make(core: &Core, target: &Target, object: &Value) -> Result<(), Status> {
    match core.create(target, object.clone(), false, None).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        Err(status) => Err(status),
    }
}

/// In the order in which they can be made.
fn objects(core: &Core, port: u16) -> Vec<(Target, Value)> {
    let mut objects = Vec::new();
    for name in NAMESPACES {
        objects.push((target("", "Namespace", "", name), json!({"metadata": {"name": name}})));
    }
    for (name, value) in [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)] {
        let what = if name == "system-node-critical" {
            "Used for system critical pods that must not be moved from their current node."
        } else {
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."
        };
        let object = json!({
            "metadata": {"name": name},
            "value": value,
            "description": what,
            "preemptionPolicy": "PreemptLowerPriority",
        });
        objects.push((target("scheduling.k8s.io", "PriorityClass", "", name), object));
    }
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": core.config.service_cidr.at(1).to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
            "sessionAffinity": "None",
        },
    });
    objects.push((target("", "Service", "default", "kubernetes"), service));
    objects
}

fn target(group: &str, kind: &str, namespace: &str, name: &str) -> Target {
    Target {
        resource: resource::find(group, kind).expect("what every cluster has is of kinds in the table of resources"),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: None,
        legacy_watch: false,
    }
}

/// Forgets history that is old enough, for ever. Each server does so; those that come late find it done.
pub async fn compact(core: &Core) {
    let Some(age) = core.config.history else { return std::future::pending().await };
    loop {
        let revision = core.store.latest().revision();
        sleep(age).await;
        if let Err(error) = core.store.compact(revision).await {
            tracing::debug!(%error, revision, "history cannot be forgotten now");
        }
    }
}
