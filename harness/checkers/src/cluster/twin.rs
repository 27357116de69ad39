//! A trial and its twin: which writes of users took effect, where both arrived, and whether that is the same.
//!
//! ```text
//! commits of the struck trial -> effective_writes -> (twin) -> arrival  \
//!                             -> arrival -------------------------------+-> compared, by C19 and by C32
//! ```

use super::c32::{SERVICE_NAME, is_ready_endpoint};
use super::facts::{PODS, Timeline, is_active, is_cordoned, is_ready};
use super::objects::{Parted, Parts, REGISTRY};
use super::workloads::{
    Bounds, FOREGROUND, NAMESPACES, SERVICES, can_run, controller_of, has_finalizer, is_going, namespace_of, owners_of,
    users_name,
};
use super::{Commit, Object, Pod, World};
use crate::findings::Findings;
use api::ObjectMeta;
use api::k8s_openapi::Resource;
use record::{Answer, Arrival, CONVERGE_NS, EffectiveWrite, Record, Twin};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Label by which the pods of a Deployment's sets are told apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// The one Service that no user made: the API server's own.
const OWN_SERVICE: &str = "/registry/core/services/default/kubernetes";

/// What of users took effect, in order of revision: what they created, which specs of Deployments and which
/// cordons they changed, and what they deleted, pods apart: those are replaced.
fn effective_writes(world: &World<'_>) -> Vec<EffectiveWrite> {
    world.commits.iter().filter(|commit| &*commit.key != OWN_SERVICE).filter_map(effective_write).collect()
}

fn effective_write(commit: &Commit) -> Option<EffectiveWrite> {
    let write = |what, method, path, body: Value| {
        let content_type = if method == "PATCH" { "application/json-patch+json" } else { "application/json" };
        let (object, body) = (users_name(&commit.key), body.to_string());
        Some(EffectiveWrite { at_ns: commit.at_ns, what, object, method, path, content_type, body })
    };
    let (old, new) = (commit.old.as_deref(), commit.new.as_deref());
    if commit.creates() {
        return write("create", "POST", path_of(&commit.key, false)?, as_created(new?)?);
    }
    let path = path_of(&commit.key, true)?;
    let is_user_owned =
        |object: &Object| matches!(object, Object::Deployment(_) | Object::Service(_) | Object::Budget(_));
    let was_going = old.is_some_and(|old| is_going(old.metadata()));
    match (old, new) {
        (Some(old), new) if is_user_owned(old) && !was_going && new.is_none_or(|new| is_going(new.metadata())) => {
            let foreground = new.is_some_and(|new| has_finalizer(new.metadata(), FOREGROUND));
            let policy = if foreground { "Foreground" } else { "Background" };
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
            write("delete", "DELETE", path, options)
        }
        (Some(Object::Deployment(old)), Some(Object::Deployment(new))) if old.spec != new.spec => {
            write("change", "PATCH", path, json!([{"op": "replace", "path": "/spec", "value": new.spec}]))
        }
        (Some(Object::Node(old)), Some(Object::Node(new))) => {
            let body = json!([{"op": "add", "path": "/spec/unschedulable", "value": is_cordoned(new)}]);
            if is_cordoned(old) == is_cordoned(new) { None } else { write("change", "PATCH", path, body) }
        }
        _ => None,
    }
}

/// An object that a user created, as it was asked for; `None` for what no user creates.
fn as_created(object: &Object) -> Option<Value> {
    match object {
        Object::Deployment(object) => Some(bare(object)),
        Object::Budget(object) => Some(bare(object)),
        Object::Namespace(object) => Some(bare(object)),
        Object::Service(object) => {
            let mut service = bare(object);
            for taken in ["clusterIP", "clusterIPs"] {
                // Which addresses are free is another matter in each trial.
                service["spec"].as_object_mut()?.remove(taken);
            }
            Some(service)
        }
        Object::Pod(pod) if controller_of(&pod.metadata).is_none() => Some(bare(pod)),
        _ => None,
    }
}

/// An object without what the API server and controllers add to it.
fn bare<K: Parted<Spec: Serialize> + Resource>(object: &Parts<K>) -> Value {
    let ObjectMeta { name, namespace, labels, .. } = &*object.metadata;
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let mut value = json!({"apiVersion": K::API_VERSION, "kind": K::KIND, "metadata": metadata});
    if let Some(spec) = &object.spec {
        value["spec"] = json!(spec);
    }
    value
}

/// Path of the object at a registry key, or of its collection; `None` for kinds that users do not write.
fn path_of(key: &str, own: bool) -> Option<String> {
    let parts: Vec<&str> = key.strip_prefix(REGISTRY)?.split('/').collect();
    let (group, resource) = (*parts.first()?, *parts.get(1)?);
    let version = match (group, resource) {
        ("apps", "deployments") => "/apis/apps/v1",
        ("policy", "poddisruptionbudgets") => "/apis/policy/v1",
        ("core", "services" | "namespaces" | "nodes" | "pods") => "/api/v1",
        _ => return None,
    };
    let name = parts.last()?;
    let namespace = namespace_of(key).map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    let own = if own { format!("/{name}") } else { String::new() };
    Some(format!("{version}{namespace}/{resource}{own}"))
}

/// What a twin's record says.
fn twin(world: &World<'_>) -> Twin {
    let took_effect = |answer: &Answer| matches!(answer, Answer::Ok { .. });
    Twin {
        requests: world.record.cluster.requests.clone(),
        complete: world.record.cluster.writes.iter().all(|write| took_effect(&write.outcome)),
        end: arrival(&Timeline::new(world)),
    }
}

/// Where the objects of a trial arrived.
fn arrival(timeline: &Timeline<'_>) -> Arrival {
    let mut arrival = Arrival::default();
    for (key, _) in timeline.below("/registry/apps/deployments/") {
        let Some(Object::Deployment(deployment)) = timeline.at_end(key) else { continue };
        let Some(spec) = &deployment.spec else { continue };
        if can_run(Some(&spec.template)) && !Bounds::of(spec).paused && !is_going(&deployment.metadata) {
            arrival.deployments.insert(name_of(&deployment.metadata), BTreeMap::new());
        }
        occupies(&mut arrival, &deployment.metadata);
    }
    for (key, _) in timeline.below(PODS) {
        let Some(Object::Pod(pod)) = timeline.at_end(key) else { continue };
        let Some(owner) = deployment_of(pod) else { continue };
        occupies(&mut arrival, &pod.metadata);
        let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH)).cloned();
        if let (Some(pods), true) = (arrival.deployments.get_mut(&owner), is_active(pod)) {
            let (all, ready) = pods.entry(hash.unwrap_or_default()).or_default();
            *all += 1;
            *ready += u64::from(is_ready(pod));
        }
    }
    for (key, _) in timeline.below(SERVICES).filter(|(key, _)| **key != *OWN_SERVICE) {
        let Some(Object::Service(service)) = timeline.at_end(key) else { continue };
        if !is_going(&service.metadata) {
            arrival.services.insert(name_of(&service.metadata), 0);
        }
        occupies(&mut arrival, &service.metadata);
    }
    count_endpoints(timeline, &mut arrival);
    for (key, _) in timeline.below(NAMESPACES) {
        let Some(namespace) = timeline.at_end(key) else { continue };
        let name = namespace.metadata().name.clone().unwrap_or_default();
        arrival.empty_namespaces.entry(name).or_insert(true);
    }
    arrival
}

fn count_endpoints(timeline: &Timeline<'_>, arrival: &mut Arrival) {
    for (key, _) in timeline.below("/registry/discovery.k8s.io/endpointslices/") {
        let Some(Object::EndpointSlice(slice)) = timeline.at_end(key) else { continue };
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        let Some(service) = service else { continue };
        let name = format!("{}/{service}", slice.metadata.namespace.as_deref().unwrap_or_default());
        if let Some(count) = arrival.services.get_mut(&name) {
            *count += slice.endpoints.iter().filter(|endpoint| is_ready_endpoint(endpoint)).count() as u64;
        }
    }
}

fn occupies(arrival: &mut Arrival, metadata: &ObjectMeta) {
    arrival.empty_namespaces.insert(metadata.namespace.clone().unwrap_or_default(), false);
}

fn name_of(metadata: &ObjectMeta) -> String {
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// The Deployment of a pod, `namespace/name`: its set is called as the Deployment and the hash are.
fn deployment_of(pod: &Pod) -> Option<String> {
    let hash = pod.metadata.labels.as_ref()?.get(TEMPLATE_HASH)?;
    let set =
        owners_of(&pod.metadata).iter().find(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet")?;
    let name = set.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    Some(format!("{}/{name}", pod.metadata.namespace.as_deref().unwrap_or_default()))
}

/// The twin to compare with, and where the struck trial arrived: if there is one in which all took effect, and the struck
/// trial had its time after Q.
fn comparable<'a>(world: &'a World<'_>, timeline: &Timeline<'_>) -> Option<(&'a Arrival, Arrival)> {
    let twin = world.record.cluster.twin.as_ref().filter(|twin| twin.complete)?;
    let over = world.record.ended_ns.saturating_sub(world.quiet_ns) > CONVERGE_NS;
    over.then(|| (&twin.end, arrival(timeline)))
}

/// C19: each Deployment arrived at as many pods of the same template as in the twin, and namespaces are empty in both or
/// in neither. A Deployment whose pods are not all ready, here or there, is left to those who know what it may wait for.
pub(crate) fn compare_deployments(world: &World<'_>, findings: &mut Findings) {
    let Some((twin, here)) = comparable(world, &Timeline::new(world)) else { return };
    let names = twin.deployments.keys().chain(here.deployments.keys());
    for name in names.collect::<BTreeSet<_>>() {
        let (there, here) = (twin.deployments.get(name), here.deployments.get(name));
        if !there.is_none_or(all_ready) || !here.is_none_or(all_ready) {
            continue;
        }
        findings.tested(1);
        if there != here {
            let text =
                format!("{name} has pods {here:?} (by template: all, ready), in the twin without faults {there:?}");
            findings.violated(world.record.ended_ns, text);
        }
    }
    for (name, empty) in &here.empty_namespaces {
        findings.tested(1);
        if twin.empty_namespaces.get(name) != Some(empty) {
            let text = format!("namespace {name} is {}empty, unlike in the twin", if *empty { "" } else { "not " });
            findings.violated(world.record.ended_ns, text);
        }
    }
}

/// C32: each Service arrived at as many ready endpoints as in the twin, if its Deployment has all of its pods in both.
pub(crate) fn compare_services(world: &World<'_>, timeline: &Timeline<'_>, findings: &mut Findings) {
    let Some((twin, here)) = comparable(world, timeline) else { return };
    for (name, endpoints) in &here.services {
        // An app's Service is called as its Deployment is.
        let (Some(there), true) = (twin.services.get(name), same_pods(twin, &here, name)) else { continue };
        findings.tested(1);
        if there != endpoints {
            let text = format!("{name} has {endpoints} ready endpoints, in the twin without faults {there}");
            findings.violated(world.record.ended_ns, text);
        }
    }
}

fn same_pods(twin: &Arrival, here: &Arrival, name: &str) -> bool {
    let pods = here.deployments.get(name);
    pods.is_some_and(all_ready) && pods == twin.deployments.get(name)
}

fn all_ready(pods: &BTreeMap<String, (u64, u64)>) -> bool {
    pods.values().all(|(all, ready)| all == ready)
}

/// What of a record's users took effect; nothing in a trial without an orchestrator.
pub fn effective_writes_of(record: &Record) -> Vec<EffectiveWrite> {
    World::new(record, &crate::log::Log::new(record)).map(|world| effective_writes(&world)).unwrap_or_default()
}

/// What is to be known of the trial of this record as a twin; nothing of a trial without an orchestrator.
pub fn twin_of(record: &Record) -> Twin {
    World::new(record, &crate::log::Log::new(record)).map(|world| twin(&world)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use crate::cluster::{c19, c32};
    use record::Guarantee;

    const WEB: &str = "apps/deployments/default/web";

    fn deployment(replicas: u32, more_metadata: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"web","namespace":"default","uid":"d","labels":{{"app":"web"}}{more_metadata}}},"spec":{{"replicas":{replicas},"selector":{{}},"template":{{"spec":{{"containers":[]}}}}}},"status":{{"replicas":1}}}}"#
        )
    }

    fn pod(name: &str, hash: &str, ready: bool) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"{name}","labels":{{"pod-template-hash":"{hash}"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-{hash}","uid":"r","controller":true}}]}},"spec":{{"containers":[]}},"status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"{}"}}]}}}}"#,
            if ready { "True" } else { "False" }
        )
    }

    /// A Deployment of two ready pods, its Service, and its twin, which is as `alter` leaves it.
    fn tale(alter: fn(&mut Twin)) -> Tale {
        let mut tale = Tale::new();
        tale.put("core/namespaces/default", r#"{"metadata":{"name":"default"}}"#);
        tale.put(WEB, &deployment(2, ""));
        tale.put("core/pods/default/a", &pod("a", "h1", true)).put("core/pods/default/b", &pod("b", "h1", true));
        tale.put("core/services/default/web", r#"{"metadata":{"name":"web","namespace":"default"},"spec":{}}"#);
        tale.put(
            "discovery.k8s.io/endpointslices/default/web-1",
            r#"{"metadata":{"name":"web-1","namespace":"default","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true}},{"addresses":["10.0.0.2"],"conditions":{"ready":true}},{"addresses":["10.0.0.3"],"conditions":{"ready":false}}]}"#,
        );
        let mut twin = twin_of(&tale.record);
        assert!(twin.complete, "nobody wrote in vain");
        alter(&mut twin);
        tale.record.cluster.twin = Some(twin);
        tale
    }

    fn tested(check: fn(&World<'_>) -> record::Verdict, tale: &Tale) -> u64 {
        let mut without = Tale::new();
        without.record = tale.record.clone();
        without.record.cluster.twin = None;
        tale.verdict(check).tested - without.verdict(check).tested
    }

    #[test]
    fn a_trial_that_arrives_where_its_twin_does_passes() {
        let same = tale(|_| {});
        // The Deployment and its namespace; the Service.
        assert_eq!((tested(c19::check, &same), tested(c32::check, &same)), (2, 1));
        assert_eq!(same.verdict(c32::check).guarantee, Guarantee::C32);
        assert!(same.verdict(c32::check).violations.is_empty());
    }

    #[test]
    fn a_trial_that_arrives_elsewhere_is_flagged() {
        let other_template = |twin: &mut Twin| {
            twin.end.deployments.insert("default/web".into(), BTreeMap::from([("h2".into(), (2, 2))]));
        };
        tale(other_template).flags(c19::check, "default/web has pods");
        let gone = |twin: &mut Twin| twin.end.deployments.clear();
        tale(gone).flags(c19::check, "default/web has pods");
        let emptied = |twin: &mut Twin| twin.end.empty_namespaces = BTreeMap::from([("default".into(), true)]);
        tale(emptied).flags(c19::check, "namespace default is not empty");
        let fewer = |twin: &mut Twin| twin.end.services = BTreeMap::from([("default/web".into(), 1)]);
        tale(fewer).flags(c32::check, "default/web has 2 ready endpoints");
    }

    #[test]
    fn a_twin_that_was_refused_something_or_has_not_settled_says_nothing() {
        let refused = tale(|twin| (twin.complete, twin.end.deployments) = (false, BTreeMap::new()));
        assert_eq!((tested(c19::check, &refused), tested(c32::check, &refused)), (0, 0));
        let unsettled = tale(|twin| {
            twin.end.deployments.insert("default/web".into(), BTreeMap::from([("h1".into(), (2, 1))]));
        });
        // The namespace is left.
        assert_eq!((tested(c19::check, &unsettled), tested(c32::check, &unsettled)), (1, 0));
    }

    #[test]
    fn writes_that_took_effect_are_those_of_users_in_order_of_revision() {
        let mut tale = Tale::new();
        tale.put("core/namespaces/team", r#"{"metadata":{"name":"team","uid":"n"},"status":{"phase":"Active"}}"#);
        tale.put(WEB, &deployment(2, ""));
        // Its controller notes something, then a user scales.
        tale.put(WEB, &deployment(2, r#","annotations":{"deployment.kubernetes.io/revision":"1"}"#));
        tale.at(5).put(WEB, &deployment(3, ""));
        tale.put("core/pods/default/a", &pod("a", "h1", true));
        tale.put(
            "core/pods/default/once",
            r#"{"metadata":{"name":"once","namespace":"default","uid":"o"},"spec":{"containers":[]}}"#,
        );
        tale.put("core/nodes/n1", r#"{"metadata":{"name":"n1"},"spec":{}}"#);
        tale.put("core/nodes/n1", r#"{"metadata":{"name":"n1"},"spec":{"unschedulable":true}}"#);
        tale.at(9).put(
            WEB,
            &deployment(3, r#","deletionTimestamp":"2030-01-01T00:00:00Z","finalizers":["foregroundDeletion"]"#),
        );
        tale.delete(WEB);
        let writes = effective_writes_of(&tale.record);
        let seen: Vec<String> =
            writes.iter().map(|it| format!("{} {} {}", it.at_ns / 1_000_000_000, it.method, it.path)).collect();
        let expected = [
            "1 POST /api/v1/namespaces",
            "1 POST /apis/apps/v1/namespaces/default/deployments",
            "5 PATCH /apis/apps/v1/namespaces/default/deployments/web",
            "5 POST /api/v1/namespaces/default/pods",
            "5 PATCH /api/v1/nodes/n1",
            "9 DELETE /apis/apps/v1/namespaces/default/deployments/web",
        ];
        assert_eq!(seen, expected);
        assert!(!writes[1].body.contains("status") && !writes[1].body.contains("uid"), "{}", writes[1].body);
        assert!(writes[5].body.contains("Foreground"), "{}", writes[5].body);
        assert_eq!(writes[5].object, "deployments default/web");
    }
}
