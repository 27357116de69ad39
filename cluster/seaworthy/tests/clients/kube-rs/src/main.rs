//! A controller as people write them with kube-rs, and what a user does meanwhile, on the cluster of $KUBECONFIG.
//!
//! ```text
//! ConfigMap app=replicated, replicas: "2" ─▶ reconcile ─▶ Deployment of the same name, owned ─▶ annotation ready: "2"
//! ```
//!
//! Its finalizer writes down who is gone. It ends with 0 when all has come to be as it should.

use anyhow::{Context as _, ensure};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "kube-rs";
const FINALIZER: &str = "example.com/replicated";
const READY: &str = "example.com/ready";
/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

type Failure = kube::runtime::finalizer::Error<kube::Error>;

struct Shared {
    client: Client,
}

async fn reconcile(map: Arc<ConfigMap>, shared: Arc<Shared>) -> Result<Action, Failure> {
    let maps: Api<ConfigMap> = Api::namespaced(shared.client.clone(), NAMESPACE);
    finalizer(&maps, FINALIZER, map, |event| async {
        match event {
            Event::Apply(map) => apply(&shared.client, &map).await,
            Event::Cleanup(map) => clean(&shared.client, &map).await,
        }
    })
    .await
}

/// Makes the Deployment what the ConfigMap says, and says in the ConfigMap how far it is.
async fn apply(client: &Client, map: &ConfigMap) -> Result<Action, kube::Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let name = map.name_any();
    let replicas: i32 = map.data.as_ref().and_then(|data| data.get("replicas")?.parse().ok()).unwrap_or(1);
    let found = deployments.get_opt(&name).await?;
    let ready = match found {
        None => {
            let labels = json!({"app": name});
            let wanted = serde_json::from_value(json!({
                "metadata": {"name": name, "ownerReferences": [map.controller_owner_ref(&())]},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "nginx"}]},
                    },
                },
            }));
            deployments.create(&PostParams::default(), &wanted.map_err(kube::Error::SerdeError)?).await?;
            0
        }
        Some(found) => {
            if found.spec.as_ref().and_then(|spec| spec.replicas) != Some(replicas) {
                let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
                deployments.patch_scale(&name, &PatchParams::default(), &patch).await?;
            }
            found.status.and_then(|status| status.ready_replicas).unwrap_or(0)
        }
    };
    if map.annotations().get(READY).map(String::as_str) != Some(ready.to_string().as_str()) {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let patch = Patch::Merge(json!({"metadata": {"annotations": {READY: ready.to_string()}}}));
        maps.patch(&name, &PatchParams::default(), &patch).await?;
    }
    Ok(Action::await_change())
}

/// Writes down who is gone.
async fn clean(client: &Client, map: &ConfigMap) -> Result<Action, kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"data": {map.name_any(): "gone"}}));
    maps.patch("journal", &PatchParams::default(), &patch).await?;
    Ok(Action::await_change())
}

async fn controller(client: Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let replicated = watcher::Config::default().labels("app=replicated");
    Controller::new(maps, replicated)
        .owns(deployments, watcher::Config::default())
        .run(
            reconcile,
            |_, error, _| {
                println!("tried again after: {error}");
                Action::requeue(Duration::from_millis(500))
            },
            Arc::new(Shared { client }),
        )
        .for_each(|_| async {})
        .await;
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    let version = client.apiserver_version().await?;
    println!("server: {}", version.git_version);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    maps.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "journal"}}))?).await?;

    let running = tokio::spawn(controller(client.clone()));
    let result = user(&client).await;
    running.abort();
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    until("the namespace is gone", async || Ok(namespaces.get_opt(NAMESPACE).await?.is_none())).await?;
    result?;
    println!("all ok");
    Ok(())
}

/// What a user does, and what must come of it.
async fn user(client: &Client) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    for number in 0..3 {
        let map = json!({
            "metadata": {"name": format!("app-{number}"), "labels": {"app": "replicated"}},
            "data": {"replicas": "2"},
        });
        maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    }
    let ready = async |counts: [&str; 3]| -> anyhow::Result<bool> {
        let found: BTreeMap<String, String> = maps
            .list(&ListParams::default().labels("app=replicated"))
            .await?
            .into_iter()
            .map(|map| (map.name_any(), map.annotations().get(READY).cloned().unwrap_or_default()))
            .collect();
        Ok(found.values().eq(counts))
    };
    until("three apps of two replicas are ready", async || ready(["2", "2", "2"]).await).await?;
    println!("created: ok");

    let patch = Patch::Merge(json!({"data": {"replicas": "4"}}));
    maps.patch("app-1", &PatchParams::default(), &patch).await?;
    until("one has four", async || ready(["2", "4", "2"]).await).await?;
    println!("scaled: ok");

    let before = deployments.get("app-0").await?.uid();
    deployments.delete("app-0", &DeleteParams::foreground()).await?;
    until("what is deleted behind its back comes back", async || {
        let now = deployments.get_opt("app-0").await?;
        Ok(now.is_some_and(|now| now.uid() != before) && ready(["2", "4", "2"]).await?)
    })
    .await?;
    println!("made again: ok");

    maps.delete("app-2", &DeleteParams::default()).await?;
    until("who is deleted is written down, with all that was theirs gone", async || {
        let journal = maps.get("journal").await?.data.unwrap_or_default();
        let left = pods.list(&ListParams::default().labels("app=app-2")).await?.items.len();
        Ok(journal.get("app-2").is_some_and(|it| it == "gone")
            && maps.get_opt("app-2").await?.is_none()
            && deployments.get_opt("app-2").await?.is_none()
            && left == 0)
    })
    .await?;
    println!("cleaned up: ok");

    let scale = deployments.get_scale("app-1").await?;
    ensure!(scale.spec.and_then(|spec| spec.replicas) == Some(4), "the scale is another");
    for map in maps.list(&ListParams::default().labels("app=replicated")).await? {
        maps.delete(&map.name_any(), &DeleteParams::default()).await?;
    }
    until("all are gone", async || {
        Ok(maps.list(&ListParams::default().labels("app=replicated")).await?.items.is_empty())
    })
    .await?;
    println!("emptied: ok");
    Ok(())
}

async fn until(what: &str, holds: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !holds().await.with_context(|| what.to_owned())? {
        ensure!(began.elapsed() < PATIENCE, "it does not come to be that {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
