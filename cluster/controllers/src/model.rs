//! A cluster in memory, for tests: writes are performed as an API server would, and pods live as on a kubelet.

use api::apps::v1::{Deployment, ReplicaSet};
use api::core::v1::{Pod, PodCondition, PodStatus, ReplicationController};
use api::policy::v1::PodDisruptionBudget;
use api::resource::Subresource;
use api::{Object, ObjectExt, Time, Timestamp};
use client::write::{Verb, Write};
use client::{Caches, Now, Plan};
use serde_json::Value;
use std::time::Duration;

/// The cluster.
#[derive(Default)]
pub struct Model {
    pub caches: Caches,
    pub now_s: i64,
    pub events: Vec<String>,
    revision: i64,
    uids: u64,
}

/// Ten years into the epoch, so that nothing is older than time itself.
const START_S: i64 = 315_360_000;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START_S + second).unwrap()
}

impl Model {
    pub fn new() -> Self {
        let mut model = Self::default();
        model.caches.store_mut::<Pod>();
        model.caches.store_mut::<ReplicaSet>();
        model.caches.store_mut::<Deployment>();
        model
    }

    pub fn now(&self) -> Now {
        Now { wall: at(self.now_s), monotonic: Duration::from_secs(self.now_s as u64) }
    }

    /// Creates or changes an object as a user would.
    pub fn put<T: Object>(&mut self, mut object: T) {
        self.revision += 1;
        if object.uid().is_empty() {
            self.uids += 1;
            object.metadata_mut().uid = Some(format!("uid-{}", self.uids));
            object.metadata_mut().creation_timestamp = Some(Time(at(self.now_s)));
            object.metadata_mut().generation = Some(1);
        }
        object.metadata_mut().resource_version = Some(self.revision.to_string());
        let store = self.caches.store_mut::<T>();
        store.put(std::sync::Arc::new(object));
        store.seen(self.revision);
    }

    pub fn remove<T: Object>(&mut self, namespace: &str, name: &str) {
        self.revision += 1;
        let store = self.caches.store_mut::<T>();
        store.remove(namespace, name);
        store.seen(self.revision);
    }

    /// Changes an object as a user would; a change of its spec is a new generation.
    pub fn edit<T: Object>(&mut self, name: &str, edit: impl FnOnce(&mut T)) {
        let mut object = T::clone(self.caches.get::<T>("default", name).unwrap());
        let before = spec_of(&object);
        edit(&mut object);
        if spec_of(&object) != before {
            object.metadata_mut().generation = Some(object.generation() + 1);
        }
        self.put(object);
    }

    /// Performs a plan up to the first write that is refused.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), String> {
        for write in &plan.writes {
            self.perform(write)?;
        }
        self.events.extend(plan.seen.iter().chain(&plan.notes).map(|note| format!("{} {}", note.reason, note.message)));
        Ok(())
    }

    fn perform(&mut self, write: &Write) -> Result<(), String> {
        match write.resource.kind {
            "Pod" => self.on::<Pod>(write),
            "ReplicaSet" => self.on::<ReplicaSet>(write),
            "ReplicationController" => self.on::<ReplicationController>(write),
            "Deployment" => self.on::<Deployment>(write),
            "PodDisruptionBudget" => self.on::<PodDisruptionBudget>(write),
            other => panic!("the model has no {other}"),
        }
    }

    fn on<T: Object>(&mut self, write: &Write) -> Result<(), String> {
        let current = self.caches.get::<T>(&write.namespace, &write.name).cloned();
        match (&write.verb, current) {
            (Verb::Create { body, .. }, None) => self.put::<T>(serde_json::from_str(body).unwrap()),
            (Verb::Create { owner, .. }, Some(current)) => {
                let same = owner.is_some() && current.controller().map(|owner| &owner.uid) == owner.as_ref();
                return if same { Ok(()) } else { Err(format!("{write}: AlreadyExists")) };
            }
            (Verb::Delete { .. }, None) => {}
            (Verb::Delete { uid, resource_version, .. }, Some(current)) => {
                let same = uid.as_ref().is_none_or(|uid| uid == current.uid())
                    && resource_version.as_ref().is_none_or(|version| version == current.resource_version());
                if !same {
                    return Err(format!("{write}: Conflict"));
                }
                if T::KIND == "Pod" {
                    let mut current = T::clone(&current);
                    current.metadata_mut().deletion_timestamp = Some(Time(at(self.now_s)));
                    self.put(current);
                } else {
                    self.remove::<T>(&write.namespace, &write.name);
                }
            }
            (_, None) => return Err(format!("{write}: NotFound")),
            (Verb::Update { body, subresource }, Some(current)) => self.update(write, body, *subresource, &*current)?,
            (Verb::Patch { body, subresource: None }, Some(current)) => {
                let patch: Value = serde_json::from_str(body).unwrap();
                let mut value = serde_json::to_value(&*current).unwrap();
                for precondition in ["uid", "resourceVersion"] {
                    let wanted = &patch["metadata"][precondition];
                    if !wanted.is_null() && *wanted != value["metadata"][precondition] {
                        return Err(format!("{write}: Conflict"));
                    }
                }
                merge(&mut value, &patch);
                if value != serde_json::to_value(&*current).unwrap() {
                    self.put::<T>(serde_json::from_value(value).unwrap());
                }
            }
            (Verb::Patch { .. } | Verb::CreateSubresource { .. }, Some(_)) => panic!("the model has no {write}"),
        }
        Ok(())
    }

    fn update<T: Object>(
        &mut self,
        write: &Write,
        body: &str,
        subresource: Option<Subresource>,
        current: &T,
    ) -> Result<(), String> {
        let mut new: Value = serde_json::from_str(body).unwrap();
        let mut old = serde_json::to_value(current).unwrap();
        if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(format!("{write}: Conflict"));
        }
        match subresource {
            Some(Subresource::Status) => {
                assert_ne!(old["status"], new["status"], "an empty plan must stay empty: {write}");
                old["status"] = new["status"].take();
                self.put::<T>(serde_json::from_value(old).unwrap());
            }
            None => {
                new["status"] = old["status"].clone();
                assert_ne!(old, new, "an empty plan must stay empty: {write}");
                if new["spec"] != old["spec"] {
                    new["metadata"]["generation"] = (current.generation() + 1).into();
                }
                self.put::<T>(serde_json::from_value(new).unwrap());
            }
            Some(other) => panic!("the model has no {other:?}"),
        }
        Ok(())
    }

    /// What kubelet and scheduler do next about a pod: bind and start it, find it ready, or take it away.
    pub fn advance_pod(&mut self, name: &str) {
        let mut pod = Pod::clone(self.caches.get::<Pod>("default", name).unwrap());
        if pod.is_terminating() {
            return self.remove::<Pod>("default", name);
        }
        if crate::pod::node(&pod).is_empty() {
            pod.spec.get_or_insert_default().node_name = Some(format!("node-{}", self.revision % 3));
            pod.status = Some(PodStatus { phase: Some("Running".to_owned()), ..PodStatus::default() });
            return self.put(pod);
        }
        self.set_ready(name, true);
    }

    pub fn set_ready(&mut self, name: &str, ready: bool) {
        let mut pod = Pod::clone(self.caches.get::<Pod>("default", name).unwrap());
        if crate::pod::is_ready(&pod) == ready {
            return;
        }
        pod.status.get_or_insert_default().conditions = Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(Time(at(self.now_s))),
            ..PodCondition::default()
        }]);
        self.put(pod);
    }
}

fn spec_of<T: Object>(object: &T) -> Value {
    serde_json::to_value(object).unwrap()["spec"].clone()
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Numbers that look random and are the same in every run.
pub struct Draws(pub u64);

impl Draws {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 += 1;
        (crate::name::hash(&[&self.0.to_string()]) % bound as u64) as usize
    }
}
