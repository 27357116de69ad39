//! What the EndpointSlices of one Service shall be, and the writes that make them so.

use super::CATCH_UP;
use super::endpoint::{self, HEADLESS, TRIGGER_TIME};
use super::pack::{self, EndpointKey, Packed};
use crate::name::Names;
use crate::pod;
use api::core::v1::{Node, Pod, Service};
use api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use api::{ObjectExt, ObjectMeta};
use client::{Plan, Write};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Label of a slice that names its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// All that is known of one Service.
pub(super) struct View<'a> {
    /// A Service that selects pods.
    pub service: &'a Service,
    /// Whether nothing new can be made for it.
    pub closing: bool,
    /// The pods that it selects, in order of name.
    pub pods: &'a [&'a Pod],
    /// Its slices that are this controller's, in order of name, without those that are being deleted.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Looks up a node.
    pub node: &'a dyn Fn(&str) -> Option<&'a Node>,
    /// Whether a slice of this name exists.
    pub taken: &'a dyn Fn(&str) -> bool,
    /// Up to which revision slices are known.
    pub revision: i64,
    /// How many endpoints fit a slice.
    pub max_endpoints: usize,
}

/// Whether this controller made the slice.
pub(super) fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// The ports of a slice in an order of their own, so that equal sets are equal.
type PortSet = Vec<(String, i32, String, String)>;

fn port_set(ports: &[EndpointPort]) -> PortSet {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let port = |port: &EndpointPort| {
        (text(&port.name), port.port.unwrap_or_default(), text(&port.protocol), text(&port.app_protocol))
    };
    let mut set: PortSet = ports.iter().map(port).collect();
    set.sort();
    set
}

/// Pods that serve the same ports.
#[derive(Default)]
struct Group {
    ports: Vec<EndpointPort>,
    endpoints: BTreeMap<EndpointKey, Endpoint>,
}

/// What is to be done to the slices of a Service, in the end.
#[derive(Default)]
struct Changes {
    /// Family, ports, endpoints.
    create: Vec<(String, Vec<EndpointPort>, Vec<Endpoint>)>,
    update: Vec<EndpointSlice>,
    delete: Vec<Arc<EndpointSlice>>,
}

/// Removes what a Service left behind that is gone; `known` is the revision up to which Services are known.
pub(super) fn plan_without_service(slices: &[Arc<EndpointSlice>], known: i64) -> Plan {
    let mut plan = Plan::nothing();
    for slice in slices {
        // Its Service is older than the slice: only a view that is newer than the slice shows that it is gone.
        if slice.resource_version().parse::<i64>().is_ok_and(|version| version <= known) {
            plan.writes.push(Write::delete(&**slice).with_version(slice.resource_version()));
        } else {
            mark::sometimes!("a slice was seen before its service");
            plan.requeue(CATCH_UP);
        }
    }
    plan
}

/// What the controller does about a Service that selects pods.
pub(super) fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::nothing();
    let mut changes = Changes::default();
    let families = endpoint::families(view.service);
    let foreign = view.slices.iter().filter(|slice| !families.contains(&slice.address_type.as_str()));
    changes.delete.extend(foreign.cloned());
    for family in families {
        let groups = desired(view, family, &mut plan);
        reconcile_family(view, family, groups, &mut changes);
    }
    reuse(view.service, &mut changes);
    write(view, changes, &mut plan);
    plan
}

/// The endpoints of one family that there shall be, by the ports that they serve.
fn desired(view: &View<'_>, family: &str, plan: &mut Plan) -> BTreeMap<PortSet, Group> {
    let mut groups: BTreeMap<PortSet, Group> = BTreeMap::new();
    for pod in view.pods.iter().filter(|pod| endpoint::has_endpoints(pod, true)) {
        let node = (view.node)(pod::node(pod));
        if node.is_none() && !endpoint::publishes_unready(view.service) {
            // Its zone is unknown: either the node is not in the cache yet, or it is gone and the pod will follow.
            mark::sometimes!("a pod's node is unknown to the slice controller");
            plan.wait(format!("node {} of pod {} is unknown", pod::node(pod), pod.name()));
            plan.requeue(CATCH_UP);
            continue;
        }
        let ports = endpoint::endpoint_ports(view.service, pod);
        let Some(endpoint) = endpoint::endpoint(view.service, pod, node, family) else { continue };
        let group = groups.entry(port_set(&ports)).or_default();
        group.ports = ports;
        group.endpoints.insert(pack::key(&endpoint), endpoint);
    }
    groups
}

fn reconcile_family(view: &View<'_>, family: &str, groups: BTreeMap<PortSet, Group>, changes: &mut Changes) {
    let (mut kept, mut deleted) = (0, Vec::new());
    let mut existing: BTreeMap<PortSet, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in view.slices.iter().filter(|slice| slice.address_type == family) {
        if is_owned(slice, view.service) {
            existing.entry(port_set(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice.clone());
        } else {
            mark::sometimes!("a slice belongs to a former service of the same name");
            deleted.push(slice.clone());
        }
    }
    let labels = labels(view.service);
    let mut created = 0;
    for (set, group) in groups {
        let slices = existing.remove(&set).unwrap_or_default();
        let Packed { create, update, delete } =
            pack::pack(&slices, group.endpoints, |slice| *slice.labels() != labels, view.max_endpoints);
        kept += slices.len() - delete.len();
        created += create.len();
        deleted.extend(delete);
        changes.create.extend(create.into_iter().map(|endpoints| (family.to_owned(), group.ports.clone(), endpoints)));
        changes.update.extend(update.into_iter().map(|(slice, endpoints)| {
            let mut slice = EndpointSlice::clone(&slice);
            slice.endpoints = endpoints;
            slice.metadata.labels = Some(labels.clone());
            slice
        }));
    }
    deleted.extend(existing.into_values().flatten());
    if kept == 0 && created == 0 {
        // A Service without pods still has a slice, so that who watches slices learns of it.
        let is_placeholder = |slice: &EndpointSlice| {
            let no_ports = slice.ports.as_ref().is_none_or(Vec::is_empty);
            slice.endpoints.is_empty() && no_ports && is_owned(slice, view.service) && *slice.labels() == labels
        };
        match deleted.iter().position(|slice| is_placeholder(slice)) {
            Some(index) => drop(deleted.remove(index)),
            None => changes.create.push((family.to_owned(), Vec::new(), Vec::new())),
        }
    }
    changes.delete.extend(deleted);
}

/// Turns pairs of a delete and a create into updates: a slice that changes is cheaper than one that goes and one that
/// comes, and leaves no gap.
fn reuse(service: &Service, changes: &mut Changes) {
    let candidates = std::mem::take(&mut changes.delete);
    for old in candidates {
        let fits = |family: &str| is_owned(&old, service) && old.address_type == family;
        match changes.create.iter().position(|(family, ..)| fits(family)) {
            Some(index) => {
                mark::sometimes!("a slice was reused for other endpoints");
                let (_, ports, endpoints) = changes.create.remove(index);
                let mut slice = EndpointSlice::clone(&old);
                slice.ports = Some(ports);
                slice.endpoints = endpoints;
                slice.metadata.labels = Some(labels(service));
                changes.update.push(slice);
            }
            None => changes.delete.push(old),
        }
    }
}

/// Creates come first and deletes last, so that no endpoint is missing in between.
fn write(view: &View<'_>, changes: Changes, plan: &mut Plan) {
    let trigger_time = endpoint::trigger_time(view.service, view.pods.iter().copied());
    let annotate = |metadata: &mut ObjectMeta| match &trigger_time {
        Some(time) => {
            metadata.annotations.get_or_insert_default().insert(TRIGGER_TIME.to_owned(), time.clone());
        }
        None => {
            metadata.annotations.as_mut().map(|annotations| annotations.remove(TRIGGER_TIME));
        }
    };
    let mut names = Names::new(view.service.name(), view.service.uid(), view.revision);
    // What is being deleted gets nothing new: it would have to be taken away again.
    let creates = changes.create.into_iter().filter(|_| !view.closing);
    for (address_type, ports, endpoints) in creates {
        let mut metadata = ObjectMeta {
            namespace: Some(view.service.namespace().to_owned()),
            labels: Some(labels(view.service)),
            owner_references: Some(vec![view.service.controller_ref()]),
            ..ObjectMeta::default()
        };
        names.assign(&mut metadata, view.taken);
        annotate(&mut metadata);
        plan.writes.push(Write::create(&EndpointSlice { address_type, endpoints, metadata, ports: Some(ports) }));
    }
    for mut slice in changes.update {
        annotate(&mut slice.metadata);
        plan.writes.push(Write::update(&slice));
    }
    plan.writes.extend(changes.delete.iter().map(|slice| Write::delete(&**slice)));
}

fn is_owned(object: &EndpointSlice, service: &Service) -> bool {
    object.owners().iter().any(|owner| owner.uid == service.uid() && owner.kind == "Service")
}

/// The labels of a Service's slices: its own, and those that say what they are.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    if endpoint::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}
