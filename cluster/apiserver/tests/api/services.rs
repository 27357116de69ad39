//! Addresses and ports of Services, with several servers.

use crate::common::{Api, brief};
use apiserver::MemoryStore;
use expect_test::expect;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const SERVICES: &str = "/api/v1/namespaces/a/services";

fn service(name: &str, kind: &str) -> Value {
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    json!({"metadata": {"name": name}, "spec": {"type": kind, "selector": {"app": "web"}, "ports": ports}})
}

async fn taken(api: &Api) -> Vec<String> {
    let list = api.call("GET", "/apis/networking.k8s.io/v1/ipaddresses", "").await;
    let items = list.body["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|ip| ip["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

fn node_ports(service: &Value) -> Vec<u64> {
    service["spec"]["ports"].as_array().into_iter().flatten().filter_map(|port| port["nodePort"].as_u64()).collect()
}

#[test]
fn services_of_several_servers_never_share_an_address() {
    rt::task::block_on(async {
        let first = Api::new().await;
        let second = Api::over(Arc::clone(&first.store));
        let (mut ips, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for n in 0..40 {
            let api = if n % 2 == 0 { &first } else { &second };
            let created = api.call("POST", SERVICES, &service(&format!("s{n}"), "NodePort").to_string()).await;
            assert_eq!(created.code, 201, "{}", created.text);
            assert!(ips.insert(created.body["spec"]["clusterIP"].as_str().unwrap().to_owned()));
            let own = node_ports(&created.body);
            assert!(own.len() == 2 && own.iter().all(|port| (30_000..=32_767).contains(port)), "{own:?}");
            assert!(ports.insert(("TCP", own[0])) && ports.insert(("UDP", own[1])));
        }
        assert_eq!(taken(&first).await.into_iter().collect::<BTreeSet<_>>(), ips);
    });
}

#[test]
fn what_is_asked_for_is_given_once() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let asking = |name: &str, ip: &str, port: u16| {
            let mut service = service(name, "NodePort");
            service["spec"]["clusterIP"] = ip.into();
            service["spec"]["ports"][0]["nodePort"] = port.into();
            service.to_string()
        };
        let created = api.call("POST", SERVICES, &asking("s", "10.96.0.7", 30_007)).await;
        assert_eq!((created.code, node_ports(&created.body)[0]), (201, 30_007), "{}", created.text);
        let answers = [
            api.call("POST", SERVICES, &asking("t", "10.96.0.7", 30_008)).await,
            api.call("POST", SERVICES, &asking("t", "10.96.0.8", 30_007)).await,
            api.call("POST", SERVICES, &asking("t", "10.97.0.8", 30_009)).await,
            api.call("POST", SERVICES, &asking("t", "10.96.0.9", 80)).await,
        ];
        expect![[r#"
            422 Invalid: Service "t" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.7"]: failed to allocate IP 10.96.0.7: provided IP is already allocated
            422 Invalid: Service "t" is invalid: spec.ports[0].nodePort: Invalid value: 30007: provided port is already allocated
            422 Invalid: Service "t" is invalid: spec.clusterIPs: Invalid value: ["10.97.0.8"]: failed to allocate IP 10.97.0.8: the provided IP (10.97.0.8) is not in the valid range. The range of valid IPs is 10.96.0.0/16
            422 Invalid: Service "t" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"#]].assert_eq(&answers.each_ref().map(brief).join("\n"));
        assert_eq!(taken(&api).await, ["10.96.0.7"], "a refused Service takes nothing");
    });
}

#[test]
fn what_a_service_needs_no_more_is_given_back_at_once() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let created = api.call("POST", SERVICES, &service("s", "NodePort").to_string()).await;
        let (ip, port) = (created.body["spec"]["clusterIP"].clone(), node_ports(&created.body)[0]);
        let one = format!("{SERVICES}/s");
        let plain = api.call("PATCH", &one, r#"{"spec":{"type":"ClusterIP"}}"#).await;
        assert_eq!((plain.code, node_ports(&plain.body).len()), (200, 0), "{}", plain.text);
        assert_eq!(plain.body["spec"]["clusterIP"], ip);
        let mut other = service("t", "NodePort");
        other["spec"]["ports"][0]["nodePort"] = port.into();
        assert_eq!(api.call("POST", SERVICES, &other.to_string()).await.code, 201, "the port is free again");
        let named = api
            .call(
                "PATCH",
                &one,
                r#"{"spec":{"type":"ExternalName","externalName":"x.example","clusterIP":null,"clusterIPs":null}}"#,
            )
            .await;
        assert_eq!(named.code, 200, "{}", named.text);
        assert_eq!(taken(&api).await.len(), 1);
        for name in ["s", "t"] {
            assert_eq!(api.call("DELETE", &format!("{SERVICES}/{name}"), "").await.code, 200);
        }
        assert!(taken(&api).await.is_empty());
        assert_eq!(api.call("POST", SERVICES, &other.to_string()).await.code, 201, "everything is free again");
    });
}

#[test]
fn a_headless_service_takes_no_address() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let mut headless = service("s", "ClusterIP");
        headless["spec"]["clusterIP"] = "None".into();
        let created = api.call("POST", SERVICES, &headless.to_string()).await;
        assert_eq!((created.code, &created.body["spec"]["clusterIPs"]), (201, &json!(["None"])), "{}", created.text);
        assert!(taken(&api).await.is_empty());
    });
}

#[test]
fn a_cluster_begins_with_what_every_cluster_has() {
    rt::task::block_on(async {
        let store: Arc<MemoryStore> = Arc::new(MemoryStore::new());
        let all = Arc::new(apiserver::AllowAll);
        let config = || apiserver::Config::new("127.0.0.1:0");
        let first = apiserver::ApiServer::start(config(), store.clone(), all.clone(), all.clone()).await.unwrap();
        let second = apiserver::ApiServer::start(config(), store.clone(), all.clone(), all.clone()).await.unwrap();
        let api = Api::over(store);
        for _ in 0..200 {
            if api.call("GET", "/api/v1/namespaces/default/services/kubernetes", "").await.code == 200 {
                break;
            }
            rt::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let service = api.call("GET", "/api/v1/namespaces/default/services/kubernetes", "").await;
        assert_eq!(service.body["spec"]["clusterIP"], "10.96.0.1");
        let namespaces = api.call("GET", "/api/v1/namespaces", "").await;
        assert_eq!(namespaces.body["items"].as_array().unwrap().len(), 4);
        first.shutdown().await;
        second.shutdown().await;
    });
}
