//! An operator as people write them with kube-rs, for `cargo trial operator`.
//!
//! ```text
//! ConfigMap app=replicated, replicas: "2" ─▶ Deployment and Service of its name, owned ─▶ annotation applied: "2"
//! ```
//!
//! [`Bug`] plants in it what is often wrong with operators: each goes well as long as nothing strikes.

use api::apps::v1::Deployment;
use api::core::v1::{ConfigMap, Service};
use futures::{Stream, StreamExt};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Something that is wrong with the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The second of two objects is made only when the first was just made: a crash between them is for ever.
    HalfMade,
    /// Whether there is a Deployment is looked up in what was last heard, and a new one gets a new name.
    OldView,
    /// What is to go away with the ConfigMap goes when its deletion is heard of, and only then.
    HearsayOnly,
}

const APPLIED: &str = "example.com/applied";
const APP: &str = "app";
/// As kube-rs' examples wait after an error.
const RETRY: Duration = Duration::from_secs(1);

struct Shared {
    client: Client,
    known: reflector::Store<Deployment>,
    bug: Option<Bug>,
}

/// The operator, until its process ends.
pub async fn run(client: Client, bug: Option<Bug>) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let replicated = watcher::Config::default().labels("app=replicated");
    let (known, writer) = reflector::store();
    let mut hearing: Pin<Box<dyn Stream<Item = ()> + Send>> = if bug == Some(Bug::HearsayOnly) {
        let (deployments, maps) = (deployments.clone(), maps.clone());
        Box::pin(
            watcher(maps, replicated.clone()).default_backoff().then(move |heard| clean(deployments.clone(), heard)),
        )
    } else {
        Box::pin(futures::stream::pending())
    };
    let mut knowing =
        Box::pin(reflector(writer, watcher(deployments.clone(), watcher::Config::default()).default_backoff()));
    let shared = Arc::new(Shared { client, known, bug });
    let mut work = Box::pin(Controller::new(maps, replicated).owns(deployments, watcher::Config::default()).run(
        reconcile,
        |_, _, _| Action::requeue(RETRY),
        shared,
    ));
    loop {
        tokio::select! {
            biased;
            Some(_) = knowing.next() => {}
            Some(()) = hearing.next() => {}
            Some(_) = work.next() => {}
            else => return,
        }
    }
}

async fn reconcile(map: Arc<ConfigMap>, shared: Arc<Shared>) -> Result<Action, kube::Error> {
    if map.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let name = map.name_any();
    let replicas: i32 = map.data.as_ref().and_then(|data| data.get("replicas")?.parse().ok()).unwrap_or(1);
    let made = deployment(&shared, &map, replicas).await?;
    if made || shared.bug != Some(Bug::HalfMade) {
        service(&shared, &map).await?;
    }
    let applied = replicas.to_string();
    if shared.bug != Some(Bug::OldView) && map.annotations().get(APPLIED) != Some(&applied) {
        let maps: Api<ConfigMap> = Api::default_namespaced(shared.client.clone());
        let patch = Patch::Merge(json!({"metadata": {"annotations": {APPLIED: applied}}}));
        maps.patch(&name, &PatchParams::default(), &patch).await?;
    }
    Ok(Action::await_change())
}

/// Sees to the Deployment, and says whether it was just made.
async fn deployment(shared: &Shared, map: &ConfigMap, replicas: i32) -> Result<bool, kube::Error> {
    let deployments: Api<Deployment> = Api::default_namespaced(shared.client.clone());
    let name = map.name_any();
    let found = match shared.bug {
        Some(Bug::OldView) => {
            let is_its = |known: &Arc<Deployment>| known.labels().get(APP) == Some(&name);
            shared.known.state().into_iter().find(is_its).map(|known| (*known).clone())
        }
        _ => deployments.get_opt(&name).await?,
    };
    let Some(found) = found else {
        let mut metadata = owned(shared, map);
        match shared.bug {
            Some(Bug::OldView) => metadata["generateName"] = json!(format!("{name}-")),
            _ => metadata["name"] = json!(name),
        }
        let labels = json!({APP: name});
        let wanted = parsed(json!({
            "metadata": metadata,
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}},
            },
        }))?;
        created(deployments.create(&PostParams::default(), &wanted).await)?;
        return Ok(true);
    };
    if found.spec.as_ref().and_then(|spec| spec.replicas) != Some(replicas) {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch(&found.name_any(), &PatchParams::default(), &patch).await?;
    }
    Ok(false)
}

async fn service(shared: &Shared, map: &ConfigMap) -> Result<(), kube::Error> {
    let services: Api<Service> = Api::default_namespaced(shared.client.clone());
    let name = map.name_any();
    if services.get_opt(&name).await?.is_none() {
        let mut metadata = owned(shared, map);
        metadata["name"] = json!(name);
        let spec = json!({"selector": {APP: name}, "ports": [{"port": 80}]});
        created(services.create(&PostParams::default(), &parsed(json!({"metadata": metadata, "spec": spec}))?).await)?;
    }
    Ok(())
}

/// Metadata of what belongs to a ConfigMap.
fn owned(shared: &Shared, map: &ConfigMap) -> Value {
    let mut metadata = json!({"labels": {APP: map.name_any()}});
    if shared.bug != Some(Bug::HearsayOnly) {
        metadata["ownerReferences"] = json!([map.controller_owner_ref(&())]);
    }
    metadata
}

/// What is there already was made before.
fn created<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, kube::Error> {
    serde_json::from_value(value).map_err(kube::Error::SerdeError)
}

/// Deletes what belongs to a ConfigMap that is heard to be deleted.
async fn clean(deployments: Api<Deployment>, heard: Result<watcher::Event<ConfigMap>, watcher::Error>) {
    if let Ok(watcher::Event::Delete(map)) = heard {
        // As if nothing could go wrong.
        drop(deployments.delete(&map.name_any(), &DeleteParams::default()).await);
    }
}

/// What is tried: the operator, with a bug or without.
pub const fn subject(name: &'static str, run: fn(Client) -> operator::Work) -> operator::Subject {
    operator::Subject { name, run, users: include_str!("../users.yaml") }
}
