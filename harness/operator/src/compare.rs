//! What a cluster came to, and whether it is the same as undisturbed.
//!
//! **Invariant:** what differs between undisturbed runs is no difference (`what_undisturbed_runs_differ_in_does_not_count`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Fields that say when, how often or in what order something came to be, and not what.
const VOLATILE: [&str; 16] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "generation",
    "observedGeneration",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastProbeTime",
    "renewTime",
    "startTime",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "deployment.kubernetes.io/revision",
];

/// Kinds that tell of others, and namespaces that are not the users'.
const TELLING: [&str; 4] = ["Event", "Lease", "Endpoints", "EndpointSlice"];
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Owners of owners that are followed: a ConfigMap's Deployment's ReplicaSet's Pod has three.
const OWNERS: u32 = 8;

/// Differences told at most: the first few say what is wrong.
const TOLD: usize = 12;

/// The objects that users see, by kind, namespace and name, without what is volatile. Several share a name that was generated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State(BTreeMap<String, Vec<Value>>);

impl State {
    /// Of these objects, each with its kind.
    pub fn of(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let objects: Vec<(&str, Value)> = objects.into_iter().collect();
        let by_uid: BTreeMap<&str, &Value> =
            objects.iter().filter_map(|(_, object)| Some((object["metadata"]["uid"].as_str()?, object))).collect();
        let mut named: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (kind, object) in &objects {
            let namespace = text(object, "namespace");
            if TELLING.contains(kind) || SYSTEM.contains(&namespace) {
                continue;
            }
            let name = lasting_name(object, &by_uid, OWNERS);
            let mut stripped = object.clone();
            stripped["metadata"]["name"] = Value::Null;
            stripped["metadata"]["generateName"] = Value::Null;
            for owner in stripped["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
                let known = owner["uid"].as_str().and_then(|uid| by_uid.get(uid));
                owner["name"] = known.map_or(Value::Null, |known| lasting_name(known, &by_uid, OWNERS).into());
            }
            strip(&mut stripped);
            let place = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
            named.entry(format!("{kind} {place}")).or_default().push(stripped);
        }
        named.values_mut().for_each(|objects| objects.sort_by_key(Value::to_string));
        Self(named)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// An object's name with a `*` for what was generated: what its controller's name or its `generateName` does not say. That of
/// a controller's object can hold what was generated for the controller.
fn lasting_name(object: &Value, by_uid: &BTreeMap<&str, &Value>, owners: u32) -> String {
    let (name, stem) = (text(object, "name"), text(object, "generateName"));
    let references = object["metadata"]["ownerReferences"].as_array();
    let controller = references.into_iter().flatten().find(|owner| owner["controller"] == true);
    let owner = controller.and_then(|owner| by_uid.get(owner["uid"].as_str()?)).filter(|_| owners > 0);
    match owner {
        Some(owner) if name.starts_with(&format!("{}-", text(owner, "name"))) => {
            format!("{}-*", lasting_name(owner, by_uid, owners - 1))
        }
        Some(_) | None if stem.is_empty() => name.to_owned(),
        Some(_) | None => format!("{stem}*"),
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !VOLATILE.contains(&name.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What undisturbed runs came to.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    first: State,
    /// Objects that not all of them have, and fields in which not all agree.
    free: BTreeSet<(String, String)>,
}

impl Expected {
    /// What these have in common.
    pub fn of(undisturbed: &[State]) -> Self {
        let first = undisturbed.first().cloned().unwrap_or_default();
        let mut free = BTreeSet::new();
        for other in undisturbed.iter().skip(1) {
            free.extend(differing(&first, other).into_keys());
        }
        Self { first, free }
    }

    /// How a state differs from it, a line each; the first few.
    pub fn differences(&self, state: &State) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for ((object, field), [expected, found]) in differing(&self.first, state) {
            let free = |field: &str| self.free.contains(&(object.clone(), field.to_owned()));
            if free(&field) || free("") {
                continue;
            }
            lines.push(match (field.is_empty(), expected, found) {
                (true, _, None) => format!("{object} is missing"),
                (true, None, Some(_)) => format!("{object} should not be there"),
                (true, Some(expected), Some(found)) => format!("{object}: there are {found}, not {expected}"),
                (false, expected, found) => {
                    let shown = |value: Option<Value>| value.map_or_else(|| "nothing".to_owned(), |it| it.to_string());
                    format!("{object}: {field} is {}, not {}", shown(found), shown(expected))
                }
            });
        }
        let more = lines.len().saturating_sub(TOLD);
        lines.truncate(TOLD);
        lines.extend((more > 0).then(|| format!("and {more} more")));
        lines
    }
}

/// By object and field: what one has and what the other has. Where there are not equally many of an object, the field is
/// empty, and it is told how many there are.
fn differing(one: &State, other: &State) -> BTreeMap<(String, String), [Option<Value>; 2]> {
    let mut found = BTreeMap::new();
    let names: BTreeSet<&String> = one.0.keys().chain(other.0.keys()).collect();
    for name in names {
        let objects = [one, other].map(|state| state.0.get(name).map_or(&[][..], Vec::as_slice));
        if objects[0].len() != objects[1].len() {
            let counts = objects.map(|objects| (!objects.is_empty()).then(|| objects.len().into()));
            found.insert((name.clone(), String::new()), counts);
            continue;
        }
        for (one, other) in objects[0].iter().zip(objects[1]) {
            let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
            leaves(String::new(), one, &mut left);
            leaves(String::new(), other, &mut right);
            let fields: BTreeSet<String> = left.keys().chain(right.keys()).cloned().collect();
            for field in fields {
                let values = [left.remove(&field), right.remove(&field)];
                if values[0] != values[1] {
                    found.insert((name.clone(), field), values);
                }
            }
        }
    }
    found
}

/// Every value that is none of others, by its path.
fn leaves(path: String, value: &Value, into: &mut BTreeMap<String, Value>) {
    let fields: Vec<(String, &Value)> = match value {
        Value::Object(fields) => named(&path, fields),
        Value::Array(items) => (0..).zip(items).map(|(at, item): (usize, _)| (format!("{path}[{at}]"), item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    if fields.is_empty() {
        into.insert(path, value.clone());
    }
    for (path, value) in fields {
        leaves(path, value, into);
    }
}

fn named<'a>(path: &str, fields: &'a Map<String, Value>) -> Vec<(String, &'a Value)> {
    let dot = if path.is_empty() { "" } else { "." };
    fields.iter().map(|(name, value)| (format!("{path}{dot}{name}"), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(name: &str, data: Value, version: u32) -> (&'static str, Value) {
        let metadata = json!({"name": name, "namespace": "default", "resourceVersion": version.to_string()});
        ("ConfigMap", json!({"metadata": metadata, "data": data}))
    }

    #[test]
    fn versions_and_generated_names_say_nothing() {
        let pod = |name: &str| {
            ("Pod", json!({"metadata": {"name": name, "generateName": "web-", "namespace": "default", "uid": name}}))
        };
        let one = State::of([map("a", json!({"k": "v"}), 3), pod("web-x"), pod("web-y")]);
        let other = State::of([pod("web-1"), map("a", json!({"k": "v"}), 9), pod("web-2")]);
        assert_eq!(one, other);
        assert_eq!(one.len(), 3);
        let less = State::of([map("a", json!({"k": "v"}), 3), pod("web-z")]);
        assert_eq!(Expected::of(&[one]).differences(&less), ["Pod default/web-*: there are 1, not 2"]);
    }

    #[test]
    fn what_a_controller_named_is_known_by_its_owner() {
        let owned = |kind: &'static str, name: &str, owner: &str| {
            let owners = json!([{"controller": true, "kind": "X", "name": owner, "uid": owner}]);
            (kind, json!({"metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": owners}}))
        };
        let state = |hash: &str, pod: &str| {
            let set = format!("web-{hash}");
            let web = ("Deployment", json!({"metadata": {"name": "web", "namespace": "default", "uid": "web"}}));
            State::of([web, owned("Pod", &format!("{set}-{pod}"), &set), owned("ReplicaSet", &set, "web")])
        };
        assert_eq!(state("a", "x"), state("b", "y"));
        assert_eq!(state("a", "x").0.keys().next_back().map(String::as_str), Some("ReplicaSet default/web-*"));
        // Pods tell a `generateName` that holds what was generated for the Deployment.
        let generated = |random: &str| {
            let (web, set) = (format!("web-{random}"), format!("web-{random}-hash"));
            let mut deployment = owned("Deployment", &web, "somebody");
            deployment.1["metadata"]["generateName"] = json!("web-");
            let mut pod = owned("Pod", &format!("{set}-x"), &set);
            pod.1["metadata"]["generateName"] = json!(format!("{set}-"));
            State::of([deployment, owned("ReplicaSet", &set, &web), pod])
        };
        assert_eq!(generated("a").0.keys().nth(1).map(String::as_str), Some("Pod default/web-*-*-*"));
        assert_eq!(generated("a").0.keys().collect::<Vec<_>>(), generated("b").0.keys().collect::<Vec<_>>());
        let own = owned("Service", "front", "web");
        assert_eq!(State::of([own]).0.keys().next().map(String::as_str), Some("Service default/front"));
    }

    #[test]
    fn what_is_missing_too_many_or_other_is_told() {
        let expected = Expected::of(&[State::of([map("a", json!({"k": "v"}), 1), map("b", json!({}), 1)])]);
        let found = State::of([map("a", json!({"k": "w"}), 1), map("c", json!({}), 1)]);
        let told = expected.differences(&found);
        assert_eq!(
            told,
            [
                r#"ConfigMap default/a: data.k is "w", not "v""#,
                "ConfigMap default/b is missing",
                "ConfigMap default/c should not be there",
            ]
        );
        let none = State::of([("Event", json!({"metadata": {"name": "e", "namespace": "default"}}))]);
        assert_eq!(none.len(), 0, "what tells of others does not count");
    }

    #[test]
    fn what_undisturbed_runs_differ_in_does_not_count() {
        let state = |time: &str, extra: bool| {
            let extra = extra.then(|| map("extra", json!({}), 1));
            State::of([map("a", json!({"time": time, "k": "v"}), 1)].into_iter().chain(extra))
        };
        let expected = Expected::of(&[state("1", false), state("2", true)]);
        assert_eq!(expected.differences(&state("3", true)), Vec::<String>::new());
        assert_eq!(expected.differences(&State::default()), ["ConfigMap default/a is missing"]);
    }
}
