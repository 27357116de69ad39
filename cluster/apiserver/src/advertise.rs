//! The Service `kubernetes` leads to every API server that runs: each keeps itself among its endpoints, as upstream's
//! reconciler by leases does.
//!
//! ```text
//! own key, for 15 s ─▶ the keys that there are ─▶ Endpoints and EndpointSlice, where they differ
//!       └──────────── again after 10 s ◀────────────────────┘
//! ```
//!
//! A server that is killed keeps its key from being renewed, and whichever other one looks next takes its address out.

use crate::change::Change;
use crate::core::Core;
use crate::keys;
use crate::list::find;
use crate::route::Target;
use crate::store::status;
use crate::update::Edit;
use api::{Status, resource};
use bytes::Bytes;
use rt::time::{sleep, timeout};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use store::RangeRequest;
use store::mvcc::Tree;

/// From look to look: upstream's number.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a server's key outlives its last look: upstream's number.
const TTL_SECONDS: i64 = 15;

/// After a look that failed; jittered.
const RETRY: Duration = Duration::from_millis(500);

/// How long a server that stops tries to take itself out; its key ends anyway.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(1);

/// Namespace and name of the Service and of what is behind it.
const SERVICE: (&str, &str) = ("default", "kubernetes");

/// Keeps a server that clients reach there among the endpoints, for ever.
pub async fn run(core: &Core, ip: Ipv4Addr, port: u16) {
    loop {
        let renewed = match renew(core, ip).await {
            Ok(()) => settle(core, port).await,
            Err(status) => Err(status),
        };
        let pause = match renewed {
            Ok(()) => INTERVAL,
            Err(status) => {
                tracing::debug!(%status, "endpoints of the Service kubernetes cannot be looked after now");
                RETRY + core.random().jitter(RETRY)
            }
        };
        sleep(pause).await;
    }
}

/// Takes a server that stops out of the endpoints, if that is quickly done.
pub async fn withdraw(core: &Core, ip: Ipv4Addr, port: u16) {
    let leave = async {
        let mut change = Change::new();
        change.remove(keys::api_server(ip));
        core.store.txn(change.into_txn()).await.map_err(status)?;
        settle(core, port).await
    };
    if !matches!(timeout(WITHDRAW_TIMEOUT, leave).await, Ok(Ok(()))) {
        tracing::debug!("this server stays among the endpoints of the Service kubernetes until its key ends");
    }
}

/// A lease that nobody keeps alive, anew each time: the old one ends with nothing bound to it.
async fn renew(core: &Core, ip: Ipv4Addr) -> Result<(), Status> {
    let lease = core.store.lease(TTL_SECONDS).await.map_err(status)?;
    let mut change = Change::new();
    change.put_until(keys::api_server(ip), Bytes::new(), lease);
    core.store.txn(change.into_txn()).await.map(drop).map_err(status)
}

/// Makes the endpoints what the keys say.
async fn settle(core: &Core, port: u16) -> Result<(), Status> {
    let tree = core.store.tree().await.map_err(status)?;
    for (target, wanted) in endpoints(&servers(&tree)?, port) {
        let Some(stored) = find(&tree, &target) else {
            core.create(&target, wanted, false, None).await?;
            continue;
        };
        let mut object = stored.decode()?;
        if covers(&object, &wanted) {
            continue;
        }
        // Of the version that was looked at: another server may have been faster, with more to go by.
        merge(&mut object, wanted);
        core.edit(&target, Edit::Replace(object), false, None).await?;
    }
    Ok(())
}

/// Addresses of the servers that have a key.
fn servers(tree: &Tree) -> Result<BTreeSet<Ipv4Addr>, Status> {
    let (key, range_end) = keys::api_servers();
    let range = RangeRequest { key, range_end, keys_only: true, ..RangeRequest::default() };
    let found = tree.range(&range).map_err(Status::internal)?;
    Ok(found.kvs.iter().filter_map(|kv| keys::parse_api_server(&kv.key)).collect())
}

/// What leads to these servers.
fn endpoints(servers: &BTreeSet<Ipv4Addr>, port: u16) -> [(Target, Value); 2] {
    let (namespace, name) = SERVICE;
    let target = |group, kind| Target {
        resource: resource::find(group, kind).expect("both kinds of endpoints are in the table of resources"),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: None,
        legacy_watch: false,
    };
    let meta = |label: &str, value: &str| json!({"name": name, "namespace": namespace, "labels": {label: value}});
    let addresses: Vec<Value> = servers.iter().map(|ip| json!({"ip": ip})).collect();
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let subsets = if servers.is_empty() { json!([]) } else { json!([{"addresses": addresses, "ports": ports}]) };
    // Both are made here: nobody is to make the one of the other.
    let legacy = json!({"metadata": meta("endpointslice.kubernetes.io/skip-mirror", "true"), "subsets": subsets});
    let ready: Vec<Value> =
        servers.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    let slice = json!({
        "metadata": meta("kubernetes.io/service-name", name),
        "addressType": "IPv4",
        "endpoints": ready,
        "ports": ports,
    });
    [(target("", "Endpoints"), legacy), (target("discovery.k8s.io", "EndpointSlice"), slice)]
}

/// Whether an object has all that is wanted. A list that is absent is an empty one.
fn covers(object: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(wanted) => wanted.iter().all(|(key, wanted)| covers(&object[key], wanted)),
        Value::Array(wanted) if wanted.is_empty() => object.as_array().is_none_or(Vec::is_empty),
        wanted => object == wanted,
    }
}

/// Puts what is wanted into an object; labels of others stay.
fn merge(object: &mut Value, wanted: Value) {
    match wanted {
        Value::Object(wanted) => wanted.into_iter().for_each(|(key, wanted)| merge(&mut object[key], wanted)),
        wanted => *object = wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AllowAll, Config, MemoryStore, Store};
    use rt::task::block_on;
    use std::sync::Arc;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    /// A server over a store with the namespace `default`.
    async fn server(store: &Arc<MemoryStore>) -> Core {
        let store: Arc<dyn Store> = store.clone();
        let core = Core::new(Config::new(""), store, Arc::new(AllowAll), Arc::new(AllowAll));
        let namespace = Target {
            resource: resource::find("", "Namespace").unwrap(),
            namespace: String::new(),
            name: "default".to_owned(),
            subresource: None,
            legacy_watch: false,
        };
        let _ = core.create(&namespace, json!({"metadata": {"name": "default"}}), false, None).await;
        core
    }

    /// The addresses in the Endpoints, those in the slice, and the version of either.
    async fn led_to(core: &Core) -> String {
        let tree = core.store.tree().await.unwrap();
        let mut shown = Vec::new();
        for (target, _) in endpoints(&BTreeSet::new(), 1) {
            let object = find(&tree, &target).unwrap().decode().unwrap();
            let addresses = object["subsets"][0]["addresses"].as_array().cloned().unwrap_or_default();
            let ready = object["endpoints"].as_array().cloned().unwrap_or_default();
            let ips = addresses.iter().map(|it| &it["ip"]).chain(ready.iter().map(|it| &it["addresses"][0]));
            shown.push(ips.map(|ip| ip.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(","));
        }
        shown.join(" ")
    }

    #[test]
    fn every_server_is_led_to_until_its_key_ends() {
        block_on(async {
            let store = Arc::new(MemoryStore::new());
            let (one, two) = (server(&store).await, server(&store).await);
            renew(&one, ONE).await.unwrap();
            settle(&one, 6_443).await.unwrap();
            assert_eq!(led_to(&one).await, "10.0.0.1 10.0.0.1");
            renew(&two, TWO).await.unwrap();
            settle(&two, 6_443).await.unwrap();
            assert_eq!(led_to(&one).await, "10.0.0.1,10.0.0.2 10.0.0.1,10.0.0.2");
            // As the end of its lease does.
            let mut end = Change::new();
            end.remove(keys::api_server(TWO));
            one.store.txn(end.into_txn()).await.unwrap();
            settle(&one, 6_443).await.unwrap();
            assert_eq!(led_to(&one).await, "10.0.0.1 10.0.0.1");
            withdraw(&one, ONE, 6_443).await;
            assert_eq!(led_to(&one).await, " ");
        });
    }

    #[test]
    fn nothing_is_written_that_is_there_already() {
        block_on(async {
            let core = server(&Arc::new(MemoryStore::new())).await;
            renew(&core, ONE).await.unwrap();
            settle(&core, 6_443).await.unwrap();
            let revision = core.store.latest().revision();
            settle(&core, 6_443).await.unwrap();
            assert_eq!(core.store.latest().revision(), revision);
            // Another port is another endpoint.
            settle(&core, 6_444).await.unwrap();
            assert!(core.store.latest().revision() > revision);
        });
    }
}
