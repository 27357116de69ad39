//! Admission: what the cluster adds to objects or refuses, beyond what is wrong with them in themselves.
//!
//! **Invariant:** nothing is created in a namespace that is being deleted: a create compares the namespace's revision in
//! its own transaction (`nothing_is_created_in_a_namespace_that_is_being_deleted`).

use crate::change::Change;
use crate::keys;
use crate::stored::{Stored, map_at, meta_text};
use api::Status;
use api::resource::{self, Resource};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use store::mvcc::{Span, Tree};

/// Namespaces that every cluster has, and that cannot be deleted.
pub const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// How long pods stay on a node that is not ready or unreachable unless they say otherwise: upstream's default.
const TOLERATION_SECONDS: i64 = 300;

/// Priority of pods where no class is the default.
const NO_PRIORITY: i64 = 0;

/// Lets a create into a namespace that is there and stays, and makes `change` rely on that.
///
/// # Errors
/// 404 without the namespace, 403 while it is being deleted.
pub fn enter_namespace(
    tree: &Tree,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    change: &mut Change,
) -> Result<(), Status> {
    if !resource.namespaced {
        return Ok(());
    }
    let namespaces = namespaces();
    let key = keys::namespace(namespace);
    let kv = tree.get(&key).ok_or_else(|| Status::not_found(namespaces, namespace))?;
    let stored = Stored::of(namespaces, kv);
    let object: Namespace = stored.read()?;
    if object.is_terminating() {
        mark::sometimes!("create in a namespace that is being deleted");
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = format!("namespace {namespace} is being terminated");
        return Err(Status::forbidden(resource, name, &why).cause(
            "NamespaceTerminating",
            &cause,
            "metadata.namespace",
        ));
    }
    change.expect(key, kv.mod_revision);
    Ok(())
}

/// What of a namespace says whether it stays.
#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    metadata: NamespaceMeta,
    status: Option<NamespaceStatus>,
}

#[derive(Default, Deserialize)]
struct NamespaceMeta {
    #[serde(rename = "deletionTimestamp")]
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct NamespaceStatus {
    phase: Option<String>,
}

impl Namespace {
    fn is_terminating(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        self.metadata.deletion_timestamp.is_some() || phase == Some("Terminating")
    }
}

/// Refuses the deletion of what every cluster needs.
///
/// # Errors
/// 403.
pub fn may_delete(resource: &'static Resource, name: &str) -> Result<(), Status> {
    if std::ptr::eq(resource, namespaces()) && NAMESPACES.contains(&name) {
        return Err(Status::forbidden(resource, name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// Whether the cluster adds something to new objects of a kind, or looks at them.
pub fn concerns(resource: &Resource) -> bool {
    matches!((resource.group, resource.kind), ("", "Pod") | ("scheduling.k8s.io", "PriorityClass"))
}

/// What the cluster adds to a new object, if it is of a kind that it [`concerns`].
///
/// # Errors
/// 403.
pub fn on_create(tree: &Tree, resource: &'static Resource, object: &mut Value) -> Result<(), Status> {
    match (resource.group, resource.kind) {
        ("", "Pod") => {
            default_service_account(object);
            default_tolerations(object);
            prioritize(tree, resource, object)
        }
        ("scheduling.k8s.io", "PriorityClass") => only_one_default(tree, resource, object),
        _ => Ok(()),
    }
}

/// Whether the cluster looks at changed objects of a kind.
pub fn concerns_updates(resource: &Resource) -> bool {
    (resource.group, resource.kind) == ("scheduling.k8s.io", "PriorityClass")
}

/// What the cluster refuses of a changed object, if it is of a kind whose updates it [`concerns_updates`].
///
/// # Errors
/// 403.
pub fn on_update(tree: &Tree, resource: &'static Resource, object: &Value) -> Result<(), Status> {
    match (resource.group, resource.kind) {
        ("scheduling.k8s.io", "PriorityClass") => only_one_default(tree, resource, object),
        _ => Ok(()),
    }
}

fn default_service_account(pod: &mut Value) {
    let Some(spec) = map_at(pod, "spec") else { return };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    if text(spec.get("serviceAccountName")).is_empty() {
        let older = text(spec.get("serviceAccount"));
        let name = if older.is_empty() { "default".to_owned() } else { older };
        spec.insert("serviceAccountName".to_owned(), name.into());
    }
}

fn default_tolerations(pod: &mut Value) {
    let Some(spec) = map_at(pod, "spec") else { return };
    let tolerations = spec.entry("tolerations").or_insert(Value::Null);
    if tolerations.is_null() {
        *tolerations = Value::Array(Vec::new());
    }
    // What is no list is refused later, with its path.
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    let missing: Vec<&str> = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .into_iter()
        .filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
        .collect();
    for taint in missing {
        tolerations.push(json!({
            "key": taint,
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": TOLERATION_SECONDS,
        }));
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
    matches!(text("effect"), "" | "NoExecute") && (text("key").is_empty() || text("key") == taint)
}

/// Fills in priority and preemption policy from the pod's class, or the default one.
fn prioritize(tree: &Tree, resource: &'static Resource, pod: &mut Value) -> Result<(), Status> {
    let name = meta_text(pod, "name").to_owned();
    let class_name = pod.pointer("/spec/priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let class = if class_name.is_empty() {
        default_class(tree)
    } else {
        let key = keys::object(classes(), "", &class_name);
        let found = tree.get(&key).map(|kv| Stored::of(classes(), kv).decode()).transpose()?;
        let why = format!("no PriorityClass with name {class_name} was found");
        Some(found.ok_or_else(|| Status::forbidden(resource, &name, &why))?)
    };
    let priority = class.as_ref().and_then(|class| class.get("value")?.as_i64()).unwrap_or(NO_PRIORITY);
    let policy = class.as_ref().and_then(|class| class.get("preemptionPolicy")?.as_str().map(str::to_owned));
    let policy = policy.unwrap_or_else(|| "PreemptLowerPriority".to_owned());
    let Some(spec) = map_at(pod, "spec") else { return Ok(()) };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        );
        return Err(Status::forbidden(resource, &name, &why));
    }
    if let Some(given) = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|given| *given != policy) {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return Err(Status::forbidden(resource, &name, &why));
    }
    if let Some(class) = &class {
        spec.insert("priorityClassName".to_owned(), meta_text(class, "name").into());
    }
    spec.insert("priority".to_owned(), priority.into());
    spec.insert("preemptionPolicy".to_owned(), policy.into());
    Ok(())
}

/// Of several defaults, which should not be, the least counts, as upstream has it.
fn default_class(tree: &Tree) -> Option<Value> {
    let defaults = all_classes(tree).into_iter().filter(is_default);
    defaults.min_by_key(|class| class.get("value").and_then(Value::as_i64).unwrap_or_default())
}

fn only_one_default(tree: &Tree, resource: &'static Resource, class: &Value) -> Result<(), Status> {
    let name = meta_text(class, "name");
    if !is_default(class) {
        return Ok(());
    }
    match all_classes(tree).iter().find(|other| is_default(other) && meta_text(other, "name") != name) {
        Some(other) => {
            let other = meta_text(other, "name");
            let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(Status::forbidden(resource, name, &why))
        }
        None => Ok(()),
    }
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault").and_then(Value::as_bool) == Some(true)
}

/// In order of their names. One that cannot be read is none.
fn all_classes(tree: &Tree) -> Vec<Value> {
    let (first, end) = keys::collection(classes(), "");
    let span = Span::new(first, end);
    tree.latest(&span).filter_map(|version| Stored::of(classes(), &version.kv).decode().ok()).collect()
}

fn namespaces() -> &'static Resource {
    resource::find("", "Namespace").expect("namespaces are in the table of resources")
}

fn classes() -> &'static Resource {
    resource::find("scheduling.k8s.io", "PriorityClass").expect("classes of priority are in the table of resources")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(tolerations: Value, expected: Expect) {
        let mut pod = json!({"spec": {"tolerations": tolerations}});
        default_tolerations(&mut pod);
        let shown: Vec<String> = pod["spec"]["tolerations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| format!("{}:{}", t["key"].as_str().unwrap_or("*"), t["tolerationSeconds"]))
            .collect();
        expected.assert_eq(&shown.join(" "));
    }

    #[test]
    fn pods_tolerate_lost_nodes_for_five_minutes_unless_they_say_otherwise() {
        check(Value::Null, expect!["node.kubernetes.io/not-ready:300 node.kubernetes.io/unreachable:300"]);
        check(
            json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
            expect!["node.kubernetes.io/not-ready:5 node.kubernetes.io/unreachable:300"],
        );
        check(json!([{"operator": "Exists"}]), expect!["*:null"]);
        check(
            json!([{"operator": "Exists", "effect": "NoSchedule"}]),
            expect!["*:null node.kubernetes.io/not-ready:300 node.kubernetes.io/unreachable:300"],
        );
    }
}
