//! Into which slices endpoints go: upstream's packing, which changes as few slices as it can.
//!
//! Endpoints stay where they are. What is new first fills slices that change anyway, the fullest first; what is left
//! goes whole into one slice that would not change otherwise, if one has room; the rest gets new slices. Slices are
//! never merged, so that one pod's change costs one slice.

use api::ObjectExt;
use api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many endpoints a slice holds at most, by default as upstream: a change of one then costs a few kilobytes.
pub(super) const MAX_ENDPOINTS: usize = 100;

/// What identifies an endpoint: its pod (namespace, name, UID) and its addresses.
pub(super) type EndpointKey = (String, String, String, Vec<String>);

/// The key of an endpoint.
pub(super) fn key(endpoint: &Endpoint) -> EndpointKey {
    let target = endpoint.target_ref.as_ref();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    (
        text(target.and_then(|target| target.namespace.as_ref())),
        text(target.and_then(|target| target.name.as_ref())),
        text(target.and_then(|target| target.uid.as_ref())),
        addresses,
    )
}

/// What becomes of the slices of one set of ports.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Endpoints of slices that must be made, a list each.
    pub create: Vec<Vec<Endpoint>>,
    /// Slices that change, with their new endpoints.
    pub update: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)>,
    /// Slices that go.
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// A slice while its endpoints are chosen.
struct Filling {
    slice: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

/// Distributes `desired` over `existing`, in order of their names, and new ones. `stale` says of a slice that it must
/// be written even if its endpoints stay.
pub(super) fn pack(
    existing: &[Arc<EndpointSlice>],
    mut desired: BTreeMap<EndpointKey, Endpoint>,
    stale: impl Fn(&EndpointSlice) -> bool,
    max: usize,
) -> Packed {
    let mut packed = Packed::default();
    let mut slices = Vec::new();
    for slice in existing {
        match keep(slice, &mut desired, stale(slice)) {
            Some(filling) => slices.push(filling),
            None => packed.delete.push(slice.clone()),
        }
    }
    fill_changed(&mut slices, &mut desired, max);
    while !desired.is_empty() {
        match unchanged_with_room(&mut slices, desired.len(), max) {
            Some(filling) => {
                mark::sometimes!("new endpoints went into an untouched slice");
                take(&mut desired, &mut filling.endpoints, max);
                filling.changed = true;
            }
            None => {
                let mut endpoints = Vec::new();
                take(&mut desired, &mut endpoints, max);
                packed.create.push(endpoints);
            }
        }
    }
    let changed = slices.into_iter().filter(|filling| filling.changed);
    packed.update.extend(changed.map(|filling| (filling.slice, filling.endpoints)));
    packed
}

/// Keeps of a slice what is desired still, and takes that out of `desired`; `None` if nothing remains.
fn keep(slice: &Arc<EndpointSlice>, desired: &mut BTreeMap<EndpointKey, Endpoint>, stale: bool) -> Option<Filling> {
    let mut endpoints = Vec::new();
    let mut changed = stale;
    for endpoint in &slice.endpoints {
        match desired.remove(&key(endpoint)) {
            Some(wanted) => {
                changed |= wanted != *endpoint;
                endpoints.push(wanted);
            }
            None => changed = true,
        }
    }
    // A slice without endpoints stands for a Service without pods only if it is alone: see the placeholder.
    (!endpoints.is_empty()).then(|| Filling { slice: slice.clone(), endpoints, changed })
}

/// Fills the slices that change anyway, the fullest first.
fn fill_changed(slices: &mut [Filling], desired: &mut BTreeMap<EndpointKey, Endpoint>, max: usize) {
    let mut changed: Vec<&mut Filling> = slices.iter_mut().filter(|filling| filling.changed).collect();
    changed.sort_by(|a, b| b.endpoints.len().cmp(&a.endpoints.len()).then_with(|| a.slice.name().cmp(b.slice.name())));
    for filling in changed {
        take(desired, &mut filling.endpoints, max);
    }
}

/// The fullest slice among the unchanged ones that has room for all of `count`.
fn unchanged_with_room(slices: &mut [Filling], count: usize, max: usize) -> Option<&mut Filling> {
    if count >= max {
        return None;
    }
    let fits = |filling: &&mut Filling| !filling.changed && filling.endpoints.len() + count <= max;
    let rank = |a: &&mut Filling, b: &&mut Filling| {
        a.endpoints.len().cmp(&b.endpoints.len()).then_with(|| b.slice.name().cmp(a.slice.name()))
    };
    slices.iter_mut().filter(fits).max_by(|a, b| rank(a, b))
}

fn take(desired: &mut BTreeMap<EndpointKey, Endpoint>, endpoints: &mut Vec<Endpoint>, max: usize) {
    while endpoints.len() < max {
        let Some((_, endpoint)) = desired.pop_first() else { return };
        endpoints.push(endpoint);
    }
}
