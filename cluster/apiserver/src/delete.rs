//! Deleting objects: at once, after a grace period, or when the last finalizer is gone.
//!
//! ```text
//! pod that is bound and runs ─▶ marked with a grace period ─▶ its node deletes it with grace 0 ─▶ removed
//! anything with finalizers ───▶ marked ─▶ the update that takes the last finalizer removes it
//! namespace ──────────────────▶ Terminating ─▶ emptied ─▶ finalized ─▶ removed
//! anything else ──────────────▶ removed
//! ```

use crate::admission;
use crate::change::Change;
use crate::core::{Core, Decision};
use crate::create::{is_service, seconds};
use crate::facts::Selector;
use crate::fence::Fence;
use crate::keys;
use crate::list::find;
use crate::model;
use crate::query::{ListOptions, Query, check_dry_run, invalid_options};
use crate::route::Target;
use crate::stored::{Stored, encode, map_at, meta, meta_text, set_meta, texts};
use api::status::FieldError;
use api::{Resource, SignedDuration, Status, Timestamp};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use store::mvcc::{Span, Tree};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of the dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without this owner.
    Orphan,
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
}

/// `DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Only the object with this UID.
    pub uid: Option<String>,
    /// Only the object of this version.
    pub resource_version: Option<String>,
    /// Seconds that it is given, instead of its own.
    pub grace_seconds: Option<i64>,
    /// What becomes of the dependents, if that was said.
    pub propagation: Option<Propagation>,
    /// The older way to say it.
    pub orphan_dependents: Option<bool>,
    /// Nothing is to be stored.
    pub dry_run: bool,
}

/// What a delete comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// It goes now.
    Remove,
    /// It becomes this, and goes later.
    Mark(Value),
    /// It is on its way already, and nothing is to be added.
    Pending,
}

impl DeleteOptions {
    /// From a body, or from the query if there is none.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what makes no sense.
    pub fn read(body: Option<&Value>, query: &Query) -> Result<Self, Status> {
        let options = match body {
            Some(body) => Self::from_body(body)?,
            None => Self::from_query(query)?,
        };
        let both = options.orphan_dependents.is_some() && options.propagation.is_some();
        if both {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            let error = FieldError::invalid("propagationPolicy", shown(options.propagation), why);
            return Err(invalid_options("DeleteOptions", &[error]));
        }
        Ok(options)
    }

    fn from_body(body: &Value) -> Result<Self, Status> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let preconditions = body.get("preconditions");
        let of = |field: &str| text(preconditions.and_then(|preconditions| preconditions.get(field)));
        Ok(Self {
            uid: of("uid"),
            resource_version: of("resourceVersion"),
            grace_seconds: body.get("gracePeriodSeconds").and_then(Value::as_i64),
            propagation: propagation(body.get("propagationPolicy").and_then(Value::as_str))?,
            orphan_dependents: body.get("orphanDependents").and_then(Value::as_bool),
            dry_run: check_dry_run(&texts(body.get("dryRun")), "DeleteOptions")?,
        })
    }

    fn from_query(query: &Query) -> Result<Self, Status> {
        Ok(Self {
            uid: None,
            resource_version: None,
            grace_seconds: query.number("gracePeriodSeconds")?,
            propagation: propagation(Some(query.text("propagationPolicy")))?,
            orphan_dependents: query.has("orphanDependents").then(|| query.flag("orphanDependents")),
            dry_run: query.dry_run("DeleteOptions")?,
        })
    }
}

fn propagation(text: Option<&str>) -> Result<Option<Propagation>, Status> {
    match text {
        None | Some("") => Ok(None),
        Some("Orphan") => Ok(Some(Propagation::Orphan)),
        Some("Background") => Ok(Some(Propagation::Background)),
        Some("Foreground") => Ok(Some(Propagation::Foreground)),
        Some(other) => {
            let allowed = ["Background", "Foreground", "Orphan"];
            let error = FieldError::not_supported("propagationPolicy", format!("{other:?}"), &allowed);
            Err(invalid_options("DeleteOptions", &[error]))
        }
    }
}

fn shown(propagation: Option<Propagation>) -> String {
    propagation.map_or_else(|| "\"\"".to_owned(), |policy| format!("\"{policy:?}\""))
}

/// Decides what a delete comes to. `object` is as stored, with its version.
///
/// # Errors
/// 409: it is not the object that is meant.
pub fn decide(
    resource: &Resource,
    object: &Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Deletion, Status> {
    check_preconditions(resource, object, options)?;
    if (resource.group, resource.kind) == ("", "Namespace") {
        return Ok(decide_namespace(object, options, now));
    }
    let is_pod = (resource.group, resource.kind) == ("", "Pod");
    let mut object = object.clone();
    let mut graceful = false;
    let marked = meta(&object, "deletionTimestamp").is_some_and(|time| !time.is_null());
    if is_pod && marked {
        match shorten(&mut object, options) {
            Grace::Over => {}
            Grace::Shortened => graceful = true,
            Grace::Runs => return Ok(Deletion::Pending),
        }
    } else if is_pod {
        let seconds = grace_of_pod(&object, options);
        graceful = seconds > 0;
        mark_deleted(&mut object, seconds, now);
    }
    let before = texts(meta(&object, "finalizers"));
    let finalizers = finalizers(resource, &before, options);
    if finalizers != before {
        set_finalizers(&mut object, &finalizers);
    }
    let remaining = meta(&object, "deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
    if finalizers.is_empty() && (!graceful || remaining == 0) {
        return Ok(Deletion::Remove);
    }
    if !graceful && !is_pod {
        mark_deleted(&mut object, 0, now);
    } else if !graceful {
        set_meta(&mut object, "deletionGracePeriodSeconds", 0.into());
    }
    Ok(Deletion::Mark(object))
}

/// What a second delete of a pod does to its grace period.
enum Grace {
    /// It has none left: it is deleted as if it had none.
    Over,
    /// It ends earlier.
    Shortened,
    /// It goes on.
    Runs,
}

/// Only a shorter grace period counts.
fn shorten(object: &mut Value, options: &DeleteOptions) -> Grace {
    let left = meta(object, "deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
    if left == 0 {
        return Grace::Over;
    }
    let Some(asked) = options.grace_seconds.map(at_least_one_if_negative).filter(|asked| *asked < left) else {
        return Grace::Runs;
    };
    let until = meta_text(object, "deletionTimestamp").parse::<Timestamp>().unwrap_or_default();
    let earlier = until.checked_sub(SignedDuration::from_secs(left - asked)).unwrap_or(until);
    set_meta(object, "deletionTimestamp", seconds(earlier));
    set_meta(object, "deletionGracePeriodSeconds", asked.into());
    Grace::Shortened
}

/// The seconds that a pod is given: none unless a node runs it.
fn grace_of_pod(pod: &Value, options: &DeleteOptions) -> i64 {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/spec/nodeName").is_empty() || matches!(text("/status/phase"), "Succeeded" | "Failed") {
        return 0;
    }
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
    at_least_one_if_negative(options.grace_seconds.unwrap_or(own))
}

/// Upstream takes a negative grace period for one second.
fn at_least_one_if_negative(seconds: i64) -> i64 {
    if seconds < 0 { 1 } else { seconds }
}

/// Marks an object as deleted, as of `now` plus the grace period.
fn mark_deleted(object: &mut Value, grace_seconds: i64, now: Timestamp) {
    let before = meta_text(object, "deletionTimestamp").parse::<Timestamp>().ok();
    if before.is_none()
        && let Some(generation) = meta(object, "generation").and_then(Value::as_i64).filter(|number| *number > 0)
    {
        set_meta(object, "generation", (generation + 1).into());
    }
    let until = now.checked_add(SignedDuration::from_secs(grace_seconds)).unwrap_or(now);
    if before.is_none_or(|before| before > until) {
        set_meta(object, "deletionTimestamp", seconds(until));
    }
    set_meta(object, "deletionGracePeriodSeconds", grace_seconds.into());
}

/// The finalizers by which the garbage collector knows what becomes of dependents, beside all others.
fn finalizers(resource: &Resource, before: &[String], options: &DeleteOptions) -> Vec<String> {
    // Nothing depends on an Event.
    if matches!((resource.group, resource.kind), ("", "Event")) {
        return before.to_vec();
    }
    let has = |name: &str| before.iter().any(|finalizer| finalizer == name);
    let policy = match (options.propagation, options.orphan_dependents) {
        (Some(policy), _) => policy,
        (None, Some(true)) => Propagation::Orphan,
        (None, Some(false)) => Propagation::Background,
        (None, None) if has(ORPHAN) => Propagation::Orphan,
        (None, None) if has(FOREGROUND) => Propagation::Foreground,
        // For the sake of clients older than the garbage collector.
        (None, None) if resource.kind == "ReplicationController" => Propagation::Orphan,
        (None, None) => Propagation::Background,
    };
    let mut finalizers: Vec<String> =
        before.iter().filter(|name| *name != ORPHAN && *name != FOREGROUND).cloned().collect();
    match policy {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    let mut sorted = (finalizers.clone(), before.to_vec());
    sorted.0.sort();
    sorted.1.sort();
    // The order says nothing: what differs in that alone stays.
    if sorted.0 == sorted.1 { before.to_vec() } else { finalizers }
}

fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    if let Some(metadata) = map_at(object, "metadata") {
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".to_owned(), finalizers.into());
        }
    }
}

/// A namespace first becomes Terminating; it goes when its finalizers are gone.
fn decide_namespace(namespace: &Value, options: &DeleteOptions, now: Timestamp) -> Deletion {
    let mut marked = namespace.clone();
    if meta_text(&marked, "deletionTimestamp").is_empty() {
        set_meta(&mut marked, "deletionTimestamp", seconds(now));
        if let Some(status) = map_at(&mut marked, "status") {
            status.insert("phase".to_owned(), "Terminating".into());
        }
        let before = texts(meta(&marked, "finalizers"));
        let finalizers = finalizers(namespaces(), &before, options);
        set_finalizers(&mut marked, &finalizers);
    }
    let held = !texts(marked.pointer("/spec/finalizers")).is_empty() || !texts(meta(&marked, "finalizers")).is_empty();
    match (held, marked == *namespace) {
        (false, _) => Deletion::Remove,
        (true, true) => Deletion::Pending,
        (true, false) => Deletion::Mark(marked),
    }
}

fn namespaces() -> &'static Resource {
    api::resource::find("", "Namespace").expect("namespaces are in the table of resources")
}

fn check_preconditions(resource: &Resource, object: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let name = meta_text(object, "name");
    let (uid, version) = (meta_text(object, "uid"), meta_text(object, "resourceVersion"));
    let why = match (&options.uid, &options.resource_version) {
        (Some(asked), _) if asked != uid => format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({uid}). The object might have been \
             deleted and then recreated"
        ),
        (_, Some(asked)) if asked != version => format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({version}). The \
             object might have been modified"
        ),
        _ => return Ok(()),
    };
    mark::sometimes!("delete meant another object or version");
    // Upstream names the kind here instead of the resource.
    let group = resource.group;
    let kind = if group.is_empty() { resource.kind.to_owned() } else { format!("{}.{group}", resource.kind) };
    let message = format!("Operation cannot be fulfilled on {kind} {name:?}: {why}");
    let mut status = Status::new(409, "Conflict", message).about(resource, name);
    status.details.kind = Some(resource.kind.to_owned());
    Err(status)
}

/// Whether an object that was just changed is to be removed, as nothing holds it any more.
pub fn is_released(resource: &Resource, object: &Value) -> bool {
    let grace = meta(object, "deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
    let namespace = (resource.group, resource.kind) == ("", "Namespace");
    !meta_text(object, "deletionTimestamp").is_empty()
        && texts(meta(object, "finalizers")).is_empty()
        && grace == 0
        && (!namespace || texts(object.pointer("/spec/finalizers")).is_empty())
}

/// What a client is told of a delete.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone; this was its last state.
    Gone(Stored),
    /// It goes later; this is its state.
    Later(Stored),
}

impl Core {
    /// Deletes an object.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn delete(
        &self,
        target: &Target,
        options: &DeleteOptions,
        fence: Option<&Fence>,
    ) -> Result<Deleted, Status> {
        admission::may_delete(target.resource, &target.name)?;
        let decide = |tree: &Tree| self.decide_delete(tree, target, options);
        let ((deletion, value), revision) = self.transact(fence, (target.resource, &target.name), decide).await?;
        let stored = |revision| Stored::new(target.resource, value, revision);
        Ok(match deletion {
            Kept::Removed => Deleted::Gone(stored(revision)),
            Kept::At(at) => Deleted::Later(stored(if at > 0 { at } else { revision })),
        })
    }

    fn decide_delete(
        &self,
        tree: &Tree,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Decision<(Kept, Bytes)>, Status> {
        let resource = target.resource;
        let stored = find(tree, target).ok_or_else(|| Status::not_found(resource, &target.name))?;
        let object = stored.decode()?;
        let key = keys::object(resource, &target.namespace, &target.name);
        let mut change = Change::new();
        change.expect(key.clone(), stored.revision);
        let given = match decide(resource, &object, options, self.now())? {
            Deletion::Pending => return Ok(Decision::Keep((Kept::At(stored.revision), stored.value().clone()))),
            Deletion::Mark(object) => {
                let value = encode(resource, &object);
                if value == stored.value() {
                    return Ok(Decision::Keep((Kept::At(stored.revision), value)));
                }
                change.put(key, value.clone());
                (Kept::At(if options.dry_run { stored.revision } else { 0 }), value)
            }
            Deletion::Remove => {
                self.remove(tree, resource, &object, key, &mut change);
                (Kept::Removed, stored.value().clone())
            }
        };
        Ok(if options.dry_run { Decision::Keep(given) } else { Decision::Write(change, given) })
    }

    /// Removes an object and what it held.
    pub(crate) fn remove(
        &self,
        tree: &Tree,
        resource: &'static Resource,
        object: &Value,
        key: Bytes,
        change: &mut Change,
    ) {
        if is_service(resource) {
            self.allocator(tree, &mut self.random()).remove(object, change);
        }
        change.remove(key);
    }

    /// Deletes every object of a collection that is meant; gives their last states.
    ///
    /// # Errors
    /// What the client is told; some may be deleted.
    pub async fn delete_collection(
        &self,
        target: &Target,
        list: &ListOptions,
        options: &DeleteOptions,
        fence: Option<&Fence>,
    ) -> Result<Vec<Stored>, Status> {
        model::check_fields(target.resource, &list.fields)?;
        let tree = self.tree_for(list.version).await?;
        let (first, end) = crate::list::span(target, list);
        let span = Span::new(first, end);
        let selector = Selector::of(list);
        let meant: Vec<Target> = tree
            .latest(&span)
            .filter(|version| self.facts.matches(&selector, &version.kv.key, &Stored::of(target.resource, &version.kv)))
            .filter_map(|version| {
                let key = keys::parse(&version.kv.key)?;
                let (namespace, name) = (key.namespace.to_owned(), key.name.to_owned());
                Some(Target { namespace, name, ..target.clone() })
            })
            .collect();
        let mut deleted = Vec::with_capacity(meant.len());
        for one in meant {
            match self.delete(&one, options, fence).await {
                Ok(Deleted::Gone(stored) | Deleted::Later(stored)) => deleted.push(stored),
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(status),
            }
        }
        Ok(deleted)
    }
}

/// What is left of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Removed,
    /// It is there, as of this revision; 0: as of the transaction's.
    At(i64),
}

/// Upstream's answer to the delete of an object that is gone, for kinds that it does not return themselves.
pub fn gone(stored: &Stored) -> Result<Value, Status> {
    let object = stored.decode()?;
    let resource = stored.resource;
    let mut details = Map::new();
    details.insert("name".to_owned(), meta_text(&object, "name").into());
    if !resource.group.is_empty() {
        details.insert("group".to_owned(), resource.group.into());
    }
    details.insert("kind".to_owned(), resource.plural.into());
    details.insert("uid".to_owned(), meta_text(&object, "uid").into());
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}))
}

/// Whether upstream answers a delete with the object itself.
pub fn returns_object(resource: &Resource) -> bool {
    resource.group.is_empty() && matches!(resource.kind, "Pod" | "Service" | "ServiceAccount")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// `kind [n=node] [phase=P] [grace=S] [f=finalizer]* [marked=left] | options` and what comes of it, at second 100.
    fn check(line: &str, expected: Expect) {
        let (object, asked) = line.split_once('|').unwrap();
        let mut words = object.split_whitespace();
        let kind = words.next().unwrap();
        let resource = api::resource::RESOURCES.iter().find(|row| row.kind == kind).unwrap();
        let mut metadata = json!({"name": "x", "uid": "u1", "resourceVersion": "7", "generation": 1});
        let (mut spec, mut status, mut finalizers) = (json!({}), json!({}), Vec::new());
        for word in words {
            match word.split_once('=').unwrap() {
                ("n", node) => spec["nodeName"] = node.into(),
                ("phase", phase) => status["phase"] = phase.into(),
                ("grace", grace) => spec["terminationGracePeriodSeconds"] = grace.parse::<i64>().unwrap().into(),
                ("f", name) => finalizers.push(name.to_owned()),
                ("s", name) => spec["finalizers"] = json!([name]),
                ("marked", left) => {
                    let left: i64 = left.parse().unwrap();
                    metadata["deletionTimestamp"] = seconds(Timestamp::from_second(90 + left).unwrap());
                    metadata["deletionGracePeriodSeconds"] = left.into();
                }
                other => panic!("{other:?}"),
            }
        }
        if !finalizers.is_empty() {
            metadata["finalizers"] = finalizers.into();
        }
        let object = json!({"metadata": metadata, "spec": spec, "status": status});
        let options = DeleteOptions::from_query(&Query::parse(asked.trim())).unwrap();
        let now = Timestamp::from_second(100).unwrap();
        let shown = match decide(resource, &object, &options, now) {
            Ok(Deletion::Remove) => "remove".to_owned(),
            Ok(Deletion::Pending) => "pending".to_owned(),
            Ok(Deletion::Mark(object)) => format!(
                "mark until={} grace={} generation={} finalizers={} phase={}",
                meta_text(&object, "deletionTimestamp").parse::<Timestamp>().map_or(0, Timestamp::as_second),
                object["metadata"]["deletionGracePeriodSeconds"],
                object["metadata"]["generation"],
                texts(meta(&object, "finalizers")).join(","),
                object["status"]["phase"].as_str().unwrap_or_default(),
            ),
            Err(status) => format!("{} {}", status.code, status.message),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn pods_get_grace_only_where_a_node_runs_them() {
        check("Pod grace=30 |", expect!["remove"]);
        check("Pod n=a grace=30 |", expect!["mark until=130 grace=30 generation=2 finalizers= phase="]);
        check(
            "Pod n=a grace=30 | gracePeriodSeconds=5",
            expect!["mark until=105 grace=5 generation=2 finalizers= phase="],
        );
        check("Pod n=a grace=30 | gracePeriodSeconds=0", expect!["remove"]);
        check(
            "Pod n=a grace=30 | gracePeriodSeconds=-5",
            expect!["mark until=101 grace=1 generation=2 finalizers= phase="],
        );
        check("Pod n=a grace=30 phase=Succeeded |", expect!["remove"]);
    }

    #[test]
    fn a_second_delete_can_only_shorten() {
        check("Pod n=a grace=30 marked=30 |", expect!["pending"]);
        check("Pod n=a grace=30 marked=30 | gracePeriodSeconds=60", expect!["pending"]);
        check(
            "Pod n=a grace=30 marked=30 | gracePeriodSeconds=10",
            expect!["mark until=100 grace=10 generation=1 finalizers= phase="],
        );
        check("Pod n=a grace=30 marked=30 | gracePeriodSeconds=0", expect!["remove"]);
        check("Pod n=a grace=30 marked=0 |", expect!["remove"]);
    }

    #[test]
    fn finalizers_hold_objects_and_policies_are_finalizers() {
        check("Deployment |", expect!["remove"]);
        check("Deployment f=a/b |", expect!["mark until=100 grace=0 generation=2 finalizers=a/b phase="]);
        check("Deployment f=a/b marked=0 |", expect!["mark until=90 grace=0 generation=1 finalizers=a/b phase="]);
        check(
            "Deployment | propagationPolicy=Foreground",
            expect!["mark until=100 grace=0 generation=2 finalizers=foregroundDeletion phase="],
        );
        check(
            "Deployment | orphanDependents=true",
            expect!["mark until=100 grace=0 generation=2 finalizers=orphan phase="],
        );
        check("Deployment f=orphan | propagationPolicy=Background", expect!["remove"]);
        check(
            "Deployment f=foregroundDeletion |",
            expect!["mark until=100 grace=0 generation=2 finalizers=foregroundDeletion phase="],
        );
        check("ReplicationController |", expect!["mark until=100 grace=0 generation=2 finalizers=orphan phase="]);
        check("ReplicationController | propagationPolicy=Background", expect!["remove"]);
        check("Event | propagationPolicy=Foreground", expect!["remove"]);
        check(
            "Pod n=a grace=30 f=a/b | gracePeriodSeconds=0",
            expect!["mark until=100 grace=0 generation=2 finalizers=a/b phase="],
        );
    }

    #[test]
    fn a_namespace_waits_for_its_finalizers() {
        check(
            "Namespace s=kubernetes phase=Active |",
            expect!["mark until=100 grace=null generation=1 finalizers= phase=Terminating"],
        );
        check("Namespace s=kubernetes phase=Terminating marked=0 |", expect!["pending"]);
        check("Namespace phase=Terminating marked=0 |", expect!["remove"]);
    }

    #[test]
    fn preconditions_are_upstreams() {
        let resource = api::resource::find("apps", "ReplicaSet").unwrap();
        let object = json!({"metadata": {"name": "x", "uid": "u1", "resourceVersion": "7"}});
        let asked = |uid: &str, version: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let options = DeleteOptions { uid: some(uid), resource_version: some(version), ..DeleteOptions::default() };
            decide(resource, &object, &options, Timestamp::UNIX_EPOCH).map_err(|status| status.message)
        };
        assert_eq!(asked("u1", "7"), Ok(Deletion::Remove));
        expect![[r#"Operation cannot be fulfilled on ReplicaSet.apps "x": the UID in the precondition (u2) does not match the UID in record (u1). The object might have been deleted and then recreated"#]]
            .assert_eq(&asked("u2", "").unwrap_err());
        expect![[r#"Operation cannot be fulfilled on ReplicaSet.apps "x": the ResourceVersion in the precondition (6) does not match the ResourceVersion in record (7). The object might have been modified"#]]
            .assert_eq(&asked("", "6").unwrap_err());
    }
}
