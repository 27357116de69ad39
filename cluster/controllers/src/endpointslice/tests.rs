//! Golden tests: pods in a line, slices and subsets out.

use super::*;
use crate::fake::Fake;
use api::core::v1::{
    Container, ContainerPort, Endpoints, NodeSpec, PodCondition, PodIP, PodSpec, PodStatus, ServicePort, ServiceSpec,
};
use api::{IntOrString, ObjectMeta, Time, Timestamp};
use expect_test::{Expect, expect};
use std::collections::BTreeMap;
use std::time::Duration;

fn now() -> Now {
    Now { wall: Timestamp::from_second(1_000_000).unwrap(), monotonic: Duration::ZERO }
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
    ObjectMeta { name: Some(name.to_owned()), namespace, ..ObjectMeta::default() }
}

fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn service(change: impl FnOnce(&mut ServiceSpec)) -> Service {
    let port = ServicePort {
        name: Some("http".to_owned()),
        port: 80,
        target_port: Some(IntOrString::String("web".to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let mut spec = ServiceSpec {
        cluster_ip: Some("10.96.0.10".to_owned()),
        ports: Some(vec![port]),
        selector: Some(map("app", "web")),
        ..ServiceSpec::default()
    };
    change(&mut spec);
    Service { metadata: metadata("default", "web"), spec: Some(spec), status: None }
}

/// A pod on node `n`, of a letter each: `r` ready, `u` unready, `t` terminating and serving, `T` terminating and not,
/// `f` failed, `p` pending without an address. Its port `web` is 8080, or 9090 if `other`.
fn a_pod(index: usize, letter: char, other: bool) -> Pod {
    let mut metadata = metadata("default", &format!("p{index:03}"));
    metadata.labels = Some(map("app", "web"));
    if matches!(letter, 't' | 'T') {
        metadata.deletion_timestamp = Some(Time(now().wall));
    }
    let status = if matches!(letter, 'r' | 't') { "True" } else { "False" };
    let ready = PodCondition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        last_transition_time: Some(Time(Timestamp::from_second(999_000).unwrap())),
        ..PodCondition::default()
    };
    let ip = format!("10.0.{}.{}", index / 250, index % 250 + 1);
    let has_ip = letter != 'p';
    let port = ContainerPort {
        name: Some("web".to_owned()),
        container_port: if other { 9090 } else { 8080 },
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let container = Container { name: "c".to_owned(), ports: Some(vec![port]), ..Container::default() };
    Pod {
        metadata,
        spec: Some(PodSpec { node_name: Some("n".to_owned()), containers: vec![container], ..PodSpec::default() }),
        status: Some(PodStatus {
            phase: Some(if letter == 'f' { "Failed" } else { "Running" }.to_owned()),
            conditions: Some(vec![ready]),
            pod_ip: has_ip.then(|| ip.clone()),
            pod_ips: has_ip.then(|| vec![PodIP { ip }]),
            ..PodStatus::default()
        }),
    }
}

fn world(service: Service, letters: &str) -> Fake {
    let mut fake = Fake::new();
    let mut node = Node { metadata: metadata("", "n"), spec: Some(NodeSpec::default()), status: None };
    node.metadata.labels = Some(map("topology.kubernetes.io/zone", "z1"));
    fake.put(node);
    fake.put(service);
    for (index, letter) in letters.chars().enumerate() {
        fake.put(a_pod(index, letter, false));
    }
    fake
}

fn settle(fake: &mut Fake) -> String {
    let key = Key::new("default", "web");
    fake.settle(|caches, _| reconcile_slices(caches, &key, now()))
}

/// A line per slice: ports, then each endpoint's last byte with its true conditions.
fn show(fake: &Fake) -> String {
    let mut lines = Vec::new();
    for slice in fake.caches.all::<EndpointSlice>() {
        let port = |port: &api::discovery::v1::EndpointPort| {
            format!("{}:{}", port.name.as_deref().unwrap_or("-"), port.port.unwrap_or_default())
        };
        let ports: Vec<String> = slice.ports.iter().flatten().map(port).collect();
        let endpoint = |endpoint: &api::discovery::v1::Endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let flag = |flag: Option<bool>, letter: &str| if flag == Some(true) { letter } else { "" }.to_owned();
            let address = endpoint.addresses[0].rsplit('.').next().unwrap().to_owned();
            let flags =
                flag(conditions.ready, "r") + &flag(conditions.serving, "s") + &flag(conditions.terminating, "t");
            format!("{address}={flags}")
        };
        let endpoints: Vec<String> = slice.endpoints.iter().map(endpoint).collect();
        let endpoints = if endpoints.len() > 12 { format!("({})", endpoints.len()) } else { endpoints.join(" ") };
        lines.push(format!("[{}] {endpoints}", ports.join(" ")));
    }
    lines.sort();
    lines.join("\n")
}

fn check(service: Service, letters: &str, expect: Expect) {
    let mut fake = world(service, letters);
    settle(&mut fake);
    expect.assert_eq(&show(&fake));
}

#[test]
fn endpoints_say_whether_pods_are_ready_serving_and_terminating() {
    check(service(|_| ()), "rutTfp", expect!["[http:8080] 1=rs 2= 3=st 4=t"]);
}

#[test]
fn unready_pods_are_ready_endpoints_where_the_service_publishes_them() {
    let publishes = service(|spec| spec.publish_not_ready_addresses = Some(true));
    check(publishes, "rut", expect!["[http:8080] 1=rs 2=r 3=rst"]);
}

#[test]
fn a_service_without_pods_has_an_empty_slice() {
    check(service(|_| ()), "", expect!["[] "]);
}

#[test]
fn a_headless_service_without_ports_has_endpoints_without_ports() {
    let headless = service(|spec| {
        spec.cluster_ip = Some("None".to_owned());
        spec.ports = None;
    });
    check(headless, "rr", expect!["[] 1=rs 2=rs"]);
}

#[test]
fn services_without_a_selector_are_left_alone() {
    check(service(|spec| spec.selector = None), "r", expect![""]);
    check(service(|spec| spec.type_ = Some("ExternalName".to_owned())), "r", expect![""]);
}

#[test]
fn pods_that_name_another_port_get_a_slice_of_their_own() {
    let mut fake = world(service(|_| ()), "rr");
    fake.put(a_pod(2, 'r', true));
    settle(&mut fake);
    expect![[r#"
        [http:8080] 1=rs 2=rs
        [http:9090] 3=rs"#]]
    .assert_eq(&show(&fake));
}

#[test]
fn a_hundred_endpoints_fill_a_slice() {
    check(
        service(|_| ()),
        &"r".repeat(205),
        expect![[r#"
        [http:8080] (100)
        [http:8080] (100)
        [http:8080] 201=rs 202=rs 203=rs 204=rs 205=rs"#]],
    );
}

#[test]
fn a_change_of_one_pod_changes_one_slice() {
    let mut fake = world(service(|_| ()), &"r".repeat(205));
    settle(&mut fake);
    fake.put(a_pod(3, 'u', false));
    assert_eq!(settle(&mut fake).lines().count(), 1);
    fake.remove::<Pod>("default", "p003");
    assert_eq!(settle(&mut fake).lines().count(), 1);
    // A new pod goes to the fullest slice with room for it.
    fake.put(a_pod(205, 'r', false));
    assert_eq!(settle(&mut fake).lines().count(), 1);
    expect![[r#"
        [http:8080] (100)
        [http:8080] (100)
        [http:8080] 201=rs 202=rs 203=rs 204=rs 205=rs"#]]
    .assert_eq(&show(&fake));
    fake.put(a_pod(206, 'r', false));
    assert_eq!(settle(&mut fake).lines().count(), 1);
    expect![[r#"
        [http:8080] (100)
        [http:8080] (100)
        [http:8080] 201=rs 202=rs 203=rs 204=rs 205=rs 207=rs"#]]
    .assert_eq(&show(&fake));
}

#[test]
fn the_last_pod_gone_leaves_the_placeholder_in_place_of_its_slice() {
    let mut fake = world(service(|_| ()), "r");
    let created = settle(&mut fake);
    fake.remove::<Pod>("default", "p000");
    let updated = settle(&mut fake);
    assert_eq!(created.replace("create", "update"), updated);
    expect!["[] "].assert_eq(&show(&fake));
    fake.put(a_pod(0, 'r', false));
    assert_eq!(settle(&mut fake), updated);
    expect!["[http:8080] 1=rs"].assert_eq(&show(&fake));
}

#[test]
fn slices_of_a_former_service_of_the_same_name_are_replaced() {
    let mut fake = world(service(|_| ()), "r");
    settle(&mut fake);
    fake.remove::<Service>("default", "web");
    fake.put(service(|_| ()));
    let log = settle(&mut fake);
    assert!(log.starts_with("create ") && log.contains("\ndelete "), "{log}");
    expect!["[http:8080] 1=rs"].assert_eq(&show(&fake));
}

#[test]
fn slices_go_with_their_service_but_not_on_old_knowledge() {
    let mut fake = world(service(|_| ()), "r");
    settle(&mut fake);
    fake.remove::<Service>("default", "web");
    settle(&mut fake);
    expect![""].assert_eq(&show(&fake));

    let slice = fake.put(EndpointSlice::default());
    let stale = slices::plan_without_service(&[slice], fake.revision - 1);
    assert!(stale.is_empty() && stale.requeue_after.is_some());
}

#[test]
fn a_pod_on_an_unknown_node_waits() {
    let mut fake = world(service(|_| ()), "r");
    fake.remove::<Node>("", "n");
    settle(&mut fake);
    expect!["[] "].assert_eq(&show(&fake));
    let plan = reconcile_slices(&fake.caches, &Key::new("default", "web"), now());
    assert!(plan.requeue_after.is_some());
}

#[test]
fn a_slice_carries_owner_labels_zone_and_target() {
    let mut fake = world(service(|spec| spec.traffic_distribution = Some("PreferClose".to_owned())), "r");
    settle(&mut fake);
    let slice = fake.caches.all::<EndpointSlice>().next().unwrap();
    let endpoint = &slice.endpoints[0];
    expect![[r#"
        owner Service web
        labels {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io", "kubernetes.io/service-name": "web"}
        annotations {"endpoints.kubernetes.io/last-change-trigger-time": "1970-01-12T13:30:00Z"}
        type IPv4 node n zone z1 pod p000 hints z1"#]]
    .assert_eq(&format!(
        "owner {} {}\nlabels {:?}\nannotations {:?}\ntype {} node {} zone {} pod {} hints {}",
        slice.owners()[0].kind,
        slice.owners()[0].name,
        slice.labels(),
        slice.annotations(),
        slice.address_type,
        endpoint.node_name.as_deref().unwrap(),
        endpoint.zone.as_deref().unwrap(),
        endpoint.target_ref.as_ref().unwrap().name.as_deref().unwrap(),
        endpoint.hints.as_ref().unwrap().for_zones.as_ref().unwrap()[0].name,
    ));
}

fn show_subsets(fake: &Fake) -> String {
    let mut lines = Vec::new();
    for endpoints in fake.caches.all::<Endpoints>() {
        for subset in endpoints.subsets.iter().flatten() {
            let port = |port: &api::core::v1::EndpointPort| port.port.to_string();
            let ports: Vec<String> = subset.ports.iter().flatten().map(port).collect();
            let ips = |list: &Option<Vec<api::core::v1::EndpointAddress>>| {
                let ips: Vec<&str> = list.iter().flatten().map(|address| address.ip.as_str()).collect();
                if ips.len() > 12 { format!("({})", ips.len()) } else { ips.join(" ") }
            };
            let (ready, unready) = (ips(&subset.addresses), ips(&subset.not_ready_addresses));
            lines.push(format!("[{}] ready {ready} not {unready}", ports.join(" ")));
        }
        let over = endpoints.annotations().get("endpoints.kubernetes.io/over-capacity");
        lines.extend(over.map(|over| format!("over capacity: {over}")));
    }
    lines.join("\n")
}

fn check_endpoints(letters: &str, others: &str, expect: Expect) {
    let mut fake = world(service(|_| ()), letters);
    for (index, letter) in others.chars().enumerate() {
        fake.put(a_pod(letters.len() + index, letter, true));
    }
    fake.settle(|caches, _| endpoints::reconcile(caches, &Key::new("default", "web"), now()));
    expect.assert_eq(&show_subsets(&fake));
}

#[test]
fn subsets_have_ready_and_other_addresses_by_port() {
    check_endpoints("rutfp", "", expect!["[8080] ready 10.0.0.1 not 10.0.0.2"]);
    check_endpoints(
        "r",
        "ru",
        expect![[r#"
        [8080] ready 10.0.0.1 not 
        [9090] ready 10.0.0.2 not 10.0.0.3"#]],
    );
    check_endpoints("", "", expect![""]);
}

#[test]
fn endpoints_are_cut_at_a_thousand_addresses_unready_ones_first() {
    check_endpoints(
        &("r".repeat(700) + &"u".repeat(301)),
        "",
        expect![[r#"
        [8080] ready (700) not (300)
        over capacity: truncated"#]],
    );
    check_endpoints(
        &"r".repeat(900),
        &"r".repeat(300),
        expect![[r#"
        [8080] ready (750) not 
        [9090] ready (250) not 
        over capacity: truncated"#]],
    );
}

#[test]
fn endpoints_go_with_their_service_and_foreign_ones_stay() {
    let mut fake = world(service(|_| ()), "r");
    let key = Key::new("default", "web");
    fake.settle(|caches, _| endpoints::reconcile(caches, &key, now()));
    fake.remove::<Service>("default", "web");
    let log = fake.settle(|caches, _| endpoints::reconcile(caches, &key, now()));
    expect!["delete endpoints default/web"].assert_eq(&log);
    fake.put(Endpoints { metadata: metadata("default", "web"), subsets: None });
    expect![""].assert_eq(&fake.settle(|caches, _| endpoints::reconcile(caches, &key, now())));
}
