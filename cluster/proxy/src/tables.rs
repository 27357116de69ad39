//! The tables of a node: what each Service contributes, added up.

use crate::{dns, service};
use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use imbl::OrdMap;
use rt::net::{Backends, Names, Redirects};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Namespace and name of a Service.
pub type ServiceKey = (String, String);

/// What a node's proxy shall apply. A copy costs nothing.
///
/// **Invariant:** it depends only on the Services and slices of the last update of each, not on the order of updates
/// (`the_order_of_updates_does_not_matter`, `one_address_of_two_services_is_the_firsts`).
#[derive(Clone, Debug)]
pub struct Tables {
    node: String,
    domain: String,
    services: OrdMap<ServiceKey, Arc<Contribution>>,
    /// What the Services contribute, added up.
    redirects: Redirects,
    names: Names,
}

/// Which tables an update changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Where connections go.
    pub redirects: bool,
    /// What names stand for.
    pub names: bool,
}

impl Changed {
    /// Both of them.
    pub const ALL: Self = Self { redirects: true, names: true };

    /// Whether any is.
    pub fn any(self) -> bool {
        self.redirects || self.names
    }
}

impl std::ops::BitOrAssign for Changed {
    fn bitor_assign(&mut self, other: Self) {
        self.redirects |= other.redirects;
        self.names |= other.names;
    }
}

/// What one Service contributes.
#[derive(Debug, Default)]
struct Contribution {
    redirects: BTreeMap<SocketAddr, Arc<Backends>>,
    names: BTreeMap<String, Arc<[IpAddr]>>,
}

impl Tables {
    /// Those of `node` in a cluster without Services.
    pub fn new(node: &str, domain: &str) -> Self {
        Self {
            node: node.to_owned(),
            domain: domain.to_owned(),
            services: OrdMap::new(),
            redirects: Redirects::default(),
            names: Names { table: OrdMap::new(), dashed_under: Some(dns::pods_domain(domain).into()) },
        }
    }

    /// A Service, `None` if it is gone, with all of its slices. Says what that changes.
    ///
    /// Should two Services claim one address, which the API server prevents, the first by namespace and name has it.
    pub fn update<'a>(
        &mut self,
        key: &ServiceKey,
        service: Option<&Service>,
        slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    ) -> Changed {
        let mut new = service.map_or_else(Contribution::default, |service| Contribution {
            redirects: service::redirects(service, slices.clone(), &self.node),
            names: dns::names(service, slices, &self.domain),
        });
        let old = self.services.get(key).cloned().unwrap_or_default();
        share(&old.redirects, &mut new.redirects);
        share(&old.names, &mut new.names);
        let new = Arc::new(new);
        match service {
            Some(_) => self.services.insert(key.clone(), new.clone()),
            None => self.services.remove(key),
        };
        let services = &self.services;
        Changed {
            redirects: follow(&mut self.redirects.0, &old.redirects, &new.redirects, |at| {
                services.values().find_map(|service| service.redirects.get(at)).cloned()
            }),
            names: follow(&mut self.names.table, &old.names, &new.names, |name| {
                services.values().find_map(|service| service.names.get(name)).cloned()
            }),
        }
    }

    /// Where connections go.
    pub fn redirects(&self) -> Redirects {
        self.redirects.clone()
    }

    /// What names stand for.
    pub fn names(&self) -> Names {
        self.names.clone()
    }
}

/// Brings a sum up to date after one of its parts changed from `old` to `new`: `first` finds what is there now, in
/// whichever part comes first, which takes long and is seldom needed. Says whether the sum changed.
fn follow<K: Ord + Clone, T: PartialEq + ?Sized>(
    sum: &mut OrdMap<K, Arc<T>>,
    old: &BTreeMap<K, Arc<T>>,
    new: &BTreeMap<K, Arc<T>>,
    first: impl Fn(&K) -> Option<Arc<T>>,
) -> bool {
    let gone = old.keys().filter(|key| !new.contains_key(key));
    let other = new.iter().filter(|(key, value)| old.get(key) != Some(value)).map(|(key, _)| key);
    let mut changed = false;
    for key in gone.chain(other) {
        let before = sum.get(key);
        let was_ours = before.zip(old.get(key)).is_some_and(|(before, old)| Arc::ptr_eq(before, old));
        let now = match new.get(key) {
            // Nobody else has it, or nobody who comes before this part.
            Some(ours) if before.is_none() || was_ours => Some(ours.clone()),
            Some(_) | None => first(key),
        };
        if before != now.as_ref() {
            changed = true;
            match now {
                Some(value) => sum.insert(key.clone(), value),
                None => sum.remove(key),
            };
        }
    }
    changed
}

/// Takes what did not change from `old`, so that a sum and its parts go on sharing it.
fn share<K: Ord, T: PartialEq + ?Sized>(old: &BTreeMap<K, Arc<T>>, new: &mut BTreeMap<K, Arc<T>>) {
    for (key, value) in new {
        if let Some(same) = old.get(key).filter(|old| *old == value) {
            *value = same.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ObjectMeta;
    use api::core::v1::{ServicePort, ServiceSpec};
    use api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
    use expect_test::{Expect, expect};

    /// A Service in the notation `name ip [headless] [local] [sticky]`.
    fn service_of(text: &str) -> (ServiceKey, Service) {
        let words: Vec<&str> = text.split(' ').collect();
        let metadata = ObjectMeta {
            name: Some(words[0].to_owned()),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        };
        let has = |word: &str| words.contains(&word);
        let spec = ServiceSpec {
            cluster_ip: Some(words[1].to_owned()),
            ports: Some(vec![ServicePort { name: Some("http".to_owned()), port: 80, ..ServicePort::default() }]),
            internal_traffic_policy: has("local").then(|| "Local".to_owned()),
            session_affinity: has("sticky").then(|| "ClientIP".to_owned()),
            ..ServiceSpec::default()
        };
        let service = Service { metadata, spec: Some(spec), ..Service::default() };
        (("default".to_owned(), words[0].to_owned()), service)
    }

    /// A slice of endpoints in the notation `ip@node:flags`, flags of r(eady), s(erving), t(erminating); `=name` adds a
    /// hostname.
    fn slice_of(service: &str, text: &str) -> EndpointSlice {
        let endpoint = |text: &str| {
            let (text, hostname) =
                text.split_once('=').map_or((text, None), |(text, name)| (text, Some(name.to_owned())));
            let (address, rest) = text.split_once('@').unwrap();
            let (node, flags) = rest.split_once(':').unwrap();
            let has = |flag| Some(flags.contains(flag));
            Endpoint {
                addresses: vec![address.to_owned()],
                conditions: Some(EndpointConditions { ready: has('r'), serving: has('s'), terminating: has('t') }),
                node_name: Some(node.to_owned()),
                hostname,
                ..Endpoint::default()
            }
        };
        EndpointSlice {
            metadata: ObjectMeta {
                namespace: Some("default".to_owned()),
                labels: Some([("kubernetes.io/service-name".to_owned(), service.to_owned())].into()),
                ..ObjectMeta::default()
            },
            address_type: "IPv4".to_owned(),
            endpoints: text.split_whitespace().map(endpoint).collect(),
            ports: Some(vec![EndpointPort {
                name: Some("http".to_owned()),
                port: Some(8080),
                ..EndpointPort::default()
            }]),
        }
    }

    fn tables(service: &str, endpoints: &str) -> Tables {
        let (key, service) = service_of(service);
        let slice = slice_of(&key.1, endpoints);
        let mut tables = Tables::new("n1", "cluster.local");
        tables.update(&key, Some(&service), [&slice].into_iter());
        tables
    }

    fn check(service: &str, endpoints: &str, expected: Expect) {
        let tables = tables(service, endpoints);
        let mut text = String::new();
        for (at, backends) in tables.redirects().0 {
            let sticky = backends.affinity.map_or(String::new(), |time| format!(" for {} s", time.as_secs()));
            text += &format!("{at} -> {:?}{sticky}\n", backends.to);
        }
        for (name, addresses) in tables.names().table {
            text += &format!("{name} = {addresses:?}\n");
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn connections_go_to_ready_endpoints() {
        check(
            "web 10.96.0.1",
            "10.1.0.2@n1:rs 10.1.0.3@n2:rs 10.1.0.4@n2:s",
            expect![[r#"
            10.96.0.1:80 -> [10.1.0.2:8080, 10.1.0.3:8080]
            web.default = [10.96.0.1]
            web.default.svc = [10.96.0.1]
            web.default.svc.cluster.local = [10.96.0.1]
        "#]],
        );
    }

    #[test]
    fn terminating_endpoints_serve_only_if_no_other_is_left() {
        check(
            "web 10.96.0.1 sticky",
            "10.1.0.2@n1:st 10.1.0.3@n2:t 10.1.0.4@n2:",
            expect![[r#"
            10.96.0.1:80 -> [10.1.0.2:8080] for 10800 s
            web.default = [10.96.0.1]
            web.default.svc = [10.96.0.1]
            web.default.svc.cluster.local = [10.96.0.1]
        "#]],
        );
    }

    #[test]
    fn a_local_policy_knows_only_this_node_and_without_endpoints_nobody_answers() {
        check(
            "web 10.96.0.1 local",
            "10.1.0.2@n1:rs 10.1.0.3@n2:rs",
            expect![[r#"
            10.96.0.1:80 -> [10.1.0.2:8080]
            web.default = [10.96.0.1]
            web.default.svc = [10.96.0.1]
            web.default.svc.cluster.local = [10.96.0.1]
        "#]],
        );
        check(
            "web 10.96.0.1 local",
            "10.1.0.3@n2:rs",
            expect![[r#"
            10.96.0.1:80 -> []
            web.default = [10.96.0.1]
            web.default.svc = [10.96.0.1]
            web.default.svc.cluster.local = [10.96.0.1]
        "#]],
        );
    }

    #[test]
    fn a_headless_name_stands_for_its_ready_endpoints() {
        check(
            "db None",
            "10.1.0.2@n1:rs=db-0 10.1.0.3@n2:s=db-1",
            expect![[r#"
            db-0.db.default.svc.cluster.local = [10.1.0.2]
            db.default = [10.1.0.2]
            db.default.svc = [10.1.0.2]
            db.default.svc.cluster.local = [10.1.0.2]
        "#]],
        );
    }

    #[test]
    fn the_order_of_updates_does_not_matter() {
        let (one, first) = service_of("a 10.96.0.1");
        let (two, second) = service_of("b 10.96.0.2");
        let (a, b) = (slice_of("a", "10.1.0.2@n1:rs"), slice_of("b", "10.1.0.3@n1:rs"));
        let mut forth = Tables::new("n1", "cluster.local");
        forth.update(&one, Some(&first), std::iter::empty());
        forth.update(&two, Some(&second), [&b].into_iter());
        forth.update(&one, Some(&first), [&a].into_iter());
        let mut back = Tables::new("n1", "cluster.local");
        back.update(&two, Some(&second), [&b].into_iter());
        back.update(&one, Some(&first), [&a].into_iter());
        assert_eq!((forth.redirects(), forth.names()), (back.redirects(), back.names()));
        assert_eq!(back.update(&one, Some(&first), [&a].into_iter()), Changed::default());
        let other = slice_of("a", "10.1.0.2@n1:r");
        assert_eq!(back.update(&one, Some(&first), [&other].into_iter()), Changed::default(), "it still is ready");
        let other = slice_of("a", "10.1.0.2@n1:s");
        assert_eq!(back.update(&one, Some(&first), [&other].into_iter()), Changed { redirects: true, names: false });
        assert_eq!(back.update(&one, None, std::iter::empty()), Changed::ALL);
        assert_eq!(back.redirects().0.len(), 1, "a Service that is gone is redirected no more");
    }

    #[test]
    fn one_address_of_two_services_is_the_firsts() {
        let (one, first) = service_of("a 10.96.0.1");
        let (two, second) = service_of("b 10.96.0.1");
        let (a, b) = (slice_of("a", "10.1.0.2@n1:rs"), slice_of("b", "10.1.0.3@n1:rs"));
        let to = |tables: &Tables| {
            tables.redirects().0.into_iter().map(|(_, backends)| backends.to[0].to_string()).collect::<Vec<_>>()
        };
        let mut tables = Tables::new("n1", "cluster.local");
        tables.update(&two, Some(&second), [&b].into_iter());
        assert_eq!(to(&tables), ["10.1.0.3:8080"]);
        tables.update(&one, Some(&first), [&a].into_iter());
        assert_eq!(to(&tables), ["10.1.0.2:8080"]);
        let other = slice_of("b", "10.1.0.4@n1:rs");
        assert!(!tables.update(&two, Some(&second), [&other].into_iter()).redirects, "it is not the first");
        tables.update(&one, None, std::iter::empty());
        assert_eq!(to(&tables), ["10.1.0.4:8080"]);
    }
}
