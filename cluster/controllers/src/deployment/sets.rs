//! The ReplicaSets of a Deployment: which one has its template, their revisions and annotations, and how a new one is
//! made. Upstream's `deployment_util`.

use super::spec::Wanted;
use crate::name;
use crate::replicaset::Replicated;
use api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use api::core::v1::PodTemplateSpec;
use api::{ObjectExt, ObjectMeta};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Label by which the pods of a Deployment's sets are told apart.
pub const HASH_LABEL: &str = "pod-template-hash";
/// Annotation: the how manieth template this is.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation: which it was before it came back.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotation: how many pods the Deployment wanted when the set was scaled last.
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation: how many it could have had with its surge.
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations that are not copied from a Deployment to its sets.
const OWN_ANNOTATIONS: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// Longest text of old revisions; upstream's number, far below what annotations may hold.
const HISTORY_LENGTH: usize = 2000;

/// Characters of the hash in a set's name: as many as upstream's at most.
const HASH_LENGTH: usize = 10;

/// A set, and how many pods it shall have.
#[derive(Clone, Debug)]
pub struct Set {
    /// As it is known.
    pub set: Arc<ReplicaSet>,
    /// How many pods it shall have after this plan.
    pub replicas: i32,
    /// Whether its size was decided on now, so that its annotations have to be those of now.
    pub decided: bool,
}

impl Set {
    /// A set as it is.
    pub fn new(set: Arc<ReplicaSet>) -> Self {
        Self { replicas: set.replicas(), set, decided: false }
    }

    /// Gives it another size, or confirms the one that it has.
    pub fn scale(&mut self, replicas: i32) {
        self.replicas = replicas.max(0);
        self.decided = true;
    }

    /// Whether it shall have pods.
    pub fn is_active(&self) -> bool {
        self.replicas > 0
    }

    /// How many pods can be counted on. Not more than it shall have: what its status counts beyond that is about to be
    /// deleted, and upstream, which counts it, can scale down twice for the same surplus.
    pub fn available(&self) -> i32 {
        self.set.counts().available.min(self.replicas)
    }

    /// How many pods the Deployment wanted when this was scaled last.
    pub fn desired(&self) -> Option<i32> {
        number(&self.set, DESIRED_REPLICAS)
    }

    /// How many pods the Deployment could have had when this was scaled last.
    pub fn max_replicas(&self) -> Option<i32> {
        number(&self.set, MAX_REPLICAS)
    }

    /// The set as it shall be, if it is not so already.
    pub fn changed(&self, wanted: &Wanted) -> Option<ReplicaSet> {
        if !self.decided {
            return None;
        }
        let mut set = ReplicaSet::clone(&self.set);
        set.spec.get_or_insert_default().replicas = Some(self.replicas);
        let annotated = annotate_size(&mut set, wanted);
        (annotated || self.replicas != self.set.replicas()).then_some(set)
    }
}

fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    set.annotations().get(annotation)?.parse().ok()
}

/// Order of age: upstream's `ReplicaSetsByCreationTimestamp`.
pub fn age(set: &ReplicaSet) -> (api::Timestamp, String) {
    (set.created(), set.name().to_owned())
}

/// Order of size, larger first; among equals newer or older first.
pub fn by_size(sets: &mut [&mut Set], newer_first: bool) {
    sets.sort_by(|a, b| {
        let ages = age(&a.set).cmp(&age(&b.set));
        b.replicas.cmp(&a.replicas).then(if newer_first { ages.reverse() } else { ages })
    });
}

/// Its revision; 0 without one.
pub fn revision(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Tells the set of the Deployment's template from the old ones, which come oldest first. Of several with the template,
/// which happens after upgrades, the oldest is the new one.
pub fn divide(sets: &[Arc<ReplicaSet>], template: &PodTemplateSpec) -> (Option<Set>, Vec<Set>) {
    let mut sets: Vec<&Arc<ReplicaSet>> = sets.iter().collect();
    sets.sort_by_cached_key(|set| age(set));
    let wanted = without_hash(template);
    let place = sets.iter().position(|set| set.template().is_some_and(|template| without_hash(template) == wanted));
    let new = place.map(|place| Set::new(sets.remove(place).clone()));
    (new, sets.into_iter().cloned().map(Set::new).collect())
}

/// A template as it was before it got its hash. What is empty is absent.
fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(HASH_LABEL);
    }
    metadata.labels.take_if(|labels| labels.is_empty());
    metadata.annotations.take_if(|annotations| annotations.is_empty());
    metadata.creation_timestamp = None;
    template
}

/// The hash of a template, different for each count of collisions.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let json = serde_json::to_string(&without_hash(template)).expect("a template has a form in JSON");
    let collisions = collisions.map(|count| count.to_string()).unwrap_or_default();
    name::encode(name::hash(&[&json, &collisions]), HASH_LENGTH)
}

/// The set of the Deployment's template, which does not exist yet.
pub fn make(deployment: &Deployment, wanted: &Wanted, hash: &str, old: &[Set]) -> ReplicaSet {
    let with_hash = |labels: Option<&BTreeMap<String, String>>| {
        let mut labels = labels.cloned().unwrap_or_default();
        labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
        Some(labels)
    };
    let mut template = wanted.template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels = with_hash(metadata.labels.as_ref());
    let mut selector = deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
    selector.match_labels = with_hash(selector.match_labels.as_ref());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set_name(deployment, hash)),
            namespace: Some(deployment.namespace().to_owned()),
            labels: metadata.labels.clone(),
            owner_references: Some(vec![deployment.controller_ref()]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: wanted.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(&mut set, deployment, next_revision(old));
    annotate_size(&mut set, wanted);
    set
}

/// The name of the set with this hash.
pub fn set_name(deployment: &Deployment, hash: &str) -> String {
    format!("{}-{hash}", deployment.name())
}

/// The revision that the newest set has to have at least.
pub fn next_revision(old: &[Set]) -> i64 {
    old.iter().map(|old| revision(&old.set)).max().unwrap_or(0).saturating_add(1)
}

/// The set of the Deployment's template with what the Deployment gives it: annotations, revision, seconds; if it does not
/// have it already.
pub fn refreshed(new: &Set, deployment: &Deployment, wanted: &Wanted, old: &[Set]) -> Option<ReplicaSet> {
    let mut set = ReplicaSet::clone(&new.set);
    let mut changed = annotate(&mut set, deployment, next_revision(old));
    let spec = set.spec.get_or_insert_default();
    if spec.min_ready_seconds.unwrap_or(0) != wanted.min_ready_seconds.unwrap_or(0) {
        spec.min_ready_seconds = wanted.min_ready_seconds;
        changed = true;
    }
    changed.then_some(set)
}

/// Copies the Deployment's annotations and raises the revision. A revision that it had before goes into its history:
/// it comes back by a rollback.
fn annotate(set: &mut ReplicaSet, deployment: &Deployment, least: i64) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in deployment.annotations() {
        if !OWN_ANNOTATIONS.contains(&key.as_str()) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let before = annotations.get(REVISION).cloned().unwrap_or_default();
    let number = if before.is_empty() { Ok(0) } else { before.parse::<i64>() };
    // A revision that somebody made unreadable is left alone, as upstream does.
    let Ok(number) = number else { return changed };
    if number >= least {
        return changed;
    }
    annotations.insert(REVISION.to_owned(), least.to_string());
    if !before.is_empty() {
        mark::sometimes!("an old template of a deployment comes back");
        let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
        *history = lengthened(history, &before);
    }
    true
}

/// `history` and one revision more, without the oldest if it gets too long.
fn lengthened(history: &str, revision: &str) -> String {
    let mut revisions: Vec<&str> = history.split(',').filter(|text| !text.is_empty()).collect();
    revisions.push(revision);
    let mut length = revisions.iter().map(|text| text.len() + 1).sum::<usize>() - 1;
    let mut start = 0;
    while length > HISTORY_LENGTH && start + 1 < revisions.len() {
        length -= revisions[start].len() + 1;
        start += 1;
    }
    revisions[start..].join(",")
}

/// Writes down for what size of the Deployment the set is scaled.
fn annotate_size(set: &mut ReplicaSet, wanted: &Wanted) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, number) in
        [(DESIRED_REPLICAS, wanted.replicas), (MAX_REPLICAS, wanted.replicas.saturating_add(wanted.max_surge()))]
    {
        let text = number.to_string();
        if annotations.get(key) != Some(&text) {
            annotations.insert(key.to_owned(), text);
            changed = true;
        }
    }
    changed
}

/// The old sets that the history has no room for, lowest revision first. Only those that have no pods for certain.
pub fn surplus(old: &[Set], limit: Option<usize>) -> Vec<&Set> {
    let Some(limit) = limit else { return Vec::new() };
    let mut alive: Vec<&Set> = old.iter().filter(|old| !old.set.is_terminating()).collect();
    let count = alive.len().saturating_sub(limit);
    alive.sort_by_cached_key(|old| (revision(&old.set), age(&old.set)));
    alive.truncate(count);
    alive.retain(|old| {
        let counts = old.set.counts();
        let observed = counts.observed_generation >= old.set.generation();
        observed && counts.replicas == 0 && old.set.replicas() == 0 && old.replicas == 0 && !old.decided
    });
    alive
}

/// The newest of the sets.
pub fn newest(sets: &mut [Set]) -> Option<&mut Set> {
    sets.iter_mut().min_by_key(|set| Reverse(age(&set.set)))
}
