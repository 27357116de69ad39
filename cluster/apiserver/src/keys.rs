//! Where things are in the store.
//!
//! ```text
//! /registry/<group, or core>/<resource>/<namespace>/<name>   an object; without namespace if cluster-scoped
//! /nodeports/<TCP|UDP|SCTP>/<port>                           the Service that has this node port, namespace/name
//! /fence/<namespace>/<lease>                                 the highest number of a leader that wrote
//! /apiservers/<address>                                      an API server that runs
//! ```

use api::resource::{self, Resource};
use bytes::Bytes;
use std::net::Ipv4Addr;

/// What objects' keys begin with.
pub const REGISTRY: &str = "/registry/";

/// How the core group is called in keys.
const CORE: &str = "core";

/// The key of an object. `namespace` is ignored for what is cluster-scoped.
pub fn object(resource: &Resource, namespace: &str, name: &str) -> Bytes {
    let mut key = collection_text(resource, namespace);
    key.push_str(name);
    key.into()
}

/// First key and end of a collection; an empty namespace means all of them.
pub fn collection(resource: &Resource, namespace: &str) -> (Bytes, Bytes) {
    let first = collection_text(resource, namespace);
    let end = after_prefix(&first);
    (first.into(), end)
}

/// The key of a namespace.
pub fn namespace(name: &str) -> Bytes {
    format!("{REGISTRY}{CORE}/namespaces/{name}").into()
}

/// The key by which a Service claims a node port.
pub fn node_port(protocol: &str, port: u16) -> Bytes {
    format!("/nodeports/{protocol}/{port}").into()
}

/// The key of a fence.
pub fn fence(namespace: &str, lease: &str) -> Bytes {
    format!("/fence/{namespace}/{lease}").into()
}

/// What the keys of API servers begin with.
const API_SERVERS: &str = "/apiservers/";

/// The key of an API server that runs.
pub fn api_server(ip: Ipv4Addr) -> Bytes {
    format!("{API_SERVERS}{ip}").into()
}

/// First key and end of those of all API servers.
pub fn api_servers() -> (Bytes, Bytes) {
    (API_SERVERS.into(), after_prefix(API_SERVERS))
}

/// The address in an API server's key.
pub fn parse_api_server(key: &[u8]) -> Option<Ipv4Addr> {
    std::str::from_utf8(key).ok()?.strip_prefix(API_SERVERS)?.parse().ok()
}

/// What an object's key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectKey<'a> {
    /// Of which resource.
    pub resource: &'static Resource,
    /// In which namespace; empty for what is cluster-scoped.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// Reads an object's key; `None` for any other key, and for a resource that is not served.
pub fn parse(key: &[u8]) -> Option<ObjectKey<'_>> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(REGISTRY)?;
    let mut parts = rest.split('/');
    let (group, plural) = (parts.next()?, parts.next()?);
    let resource = resource::find_plural(if group == CORE { "" } else { group }, plural)?;
    let namespace = if resource.namespaced { parts.next()? } else { "" };
    let name = parts.next()?;
    parts.next().is_none().then_some(ObjectKey { resource, namespace, name })
}

fn collection_text(resource: &Resource, namespace: &str) -> String {
    let group = if resource.group.is_empty() { CORE } else { resource.group };
    let mut key = format!("{REGISTRY}{group}/{}/", resource.plural);
    if resource.namespaced && !namespace.is_empty() {
        key.push_str(namespace);
        key.push('/');
    }
    key
}

/// First key behind all that begin with `prefix`, which ends in a slash.
fn after_prefix(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        for resource in api::resource::RESOURCES {
            let key = object(resource, "ns", "name");
            let namespace = if resource.namespaced { "ns" } else { "" };
            assert_eq!(parse(&key), Some(ObjectKey { resource, namespace, name: "name" }));
            let (first, end) = collection(resource, "ns");
            assert!(first <= key && key < end);
        }
        for other in ["/fence/a/b", "/registry/core/pods/x", "/registry/core/pods/a/b/c", "/registry/x/y/z", "\u{0}"] {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
    }
}
