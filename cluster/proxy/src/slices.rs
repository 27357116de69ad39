//! The EndpointSlices of each Service, so that a change of one is not looked for among all.

use crate::service::of_slice;
use crate::tables::ServiceKey;
use api::discovery::v1::EndpointSlice;
use std::collections::BTreeMap;
use std::sync::Arc;

/// By Service, those that name it, by their own names.
///
/// **Invariant:** it depends only on the last state of each slice (`a_slice_may_come_move_and_go`).
#[derive(Debug, Default)]
pub(crate) struct Slices {
    services: BTreeMap<ServiceKey, BTreeMap<Arc<str>, Arc<EndpointSlice>>>,
}

impl Slices {
    /// Takes in a change of the slice of this name. Gives the Services that it concerns.
    pub(crate) fn change(
        &mut self,
        name: &Arc<str>,
        old: Option<Arc<EndpointSlice>>,
        new: Option<Arc<EndpointSlice>>,
    ) -> impl Iterator<Item = ServiceKey> + use<> {
        let before = old.as_deref().and_then(of_slice);
        if let Some(key) = &before
            && let Some(slices) = self.services.get_mut(key)
        {
            slices.remove(name);
            if slices.is_empty() {
                self.services.remove(key);
            }
        }
        let after = new.as_deref().and_then(of_slice);
        if let (Some(key), Some(slice)) = (&after, new) {
            self.services.entry(key.clone()).or_default().insert(name.clone(), slice);
        }
        [before, after].into_iter().flatten()
    }

    /// Those of a Service, in order of name.
    pub(crate) fn of(&self, key: &ServiceKey) -> impl Iterator<Item = &EndpointSlice> + Clone {
        self.services.get(key).into_iter().flat_map(|slices| slices.values().map(|slice| &**slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{ObjectExt, ObjectMeta};

    fn slice(name: &str, service: &str) -> Arc<EndpointSlice> {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            labels: Some([("kubernetes.io/service-name".to_owned(), service.to_owned())].into()),
            ..ObjectMeta::default()
        };
        Arc::new(EndpointSlice { metadata, ..EndpointSlice::default() })
    }

    fn change(slices: &mut Slices, old: Option<&Arc<EndpointSlice>>, new: Option<&Arc<EndpointSlice>>) -> Vec<String> {
        let name = old.or(new).unwrap().name().into();
        slices.change(&name, old.cloned(), new.cloned()).map(|(_, service)| service).collect()
    }

    #[test]
    fn a_slice_may_come_move_and_go() {
        let mut slices = Slices::default();
        let names = |slices: &Slices, service: &str| {
            let key = ("default".to_owned(), service.to_owned());
            slices.of(&key).map(|slice| slice.name().to_owned()).collect::<Vec<_>>()
        };
        let (first, second, moved) = (slice("s1", "a"), slice("s2", "a"), slice("s1", "b"));
        assert_eq!(change(&mut slices, None, Some(&second)), ["a"]);
        assert_eq!(change(&mut slices, None, Some(&first)), ["a"]);
        assert_eq!(names(&slices, "a"), ["s1", "s2"]);
        assert_eq!(change(&mut slices, Some(&first), Some(&moved)), ["a", "b"]);
        assert_eq!((names(&slices, "a"), names(&slices, "b")), (vec!["s2".to_owned()], vec!["s1".to_owned()]));
        assert_eq!(change(&mut slices, Some(&moved), None), ["b"]);
        assert_eq!(change(&mut slices, Some(&second), None), ["a"]);
        assert!(slices.services.is_empty());
    }
}
