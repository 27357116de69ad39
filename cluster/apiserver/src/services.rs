//! Addresses and ports of Services: taken and given back in the transaction that creates, changes or removes the Service.
//!
//! ```text
//! Service default/web ──── IPAddress 10.96.7.4 (parentRef default/web)      one transaction: all there, or nothing
//!                     └─── /nodeports/TCP/30080 = default/web
//! ```
//!
//! Whoever wants an address or a port relies, in that transaction, on its key not being there. So two servers never give
//! one out twice, and nothing needs to be repaired.
//!
//! **Invariant:** no two Services have the same cluster IP, or the same node port of a protocol
//! (`services_of_several_servers_never_share_an_address`).

use crate::change::Change;
use crate::config::ServiceCidr;
use crate::create::{new_uid, seconds};
use crate::keys;
use crate::stored::{Stored, encode, map_at, meta_text};
use api::resource::{self, Resource};
use api::status::FieldError;
use api::{Status, Timestamp};
use rt::random::Random;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use store::mvcc::Tree;

/// Addresses or ports drawn at random before the first free one is taken in order.
const DRAWS: usize = 16;

/// Gives out addresses and ports.
#[derive(Debug)]
pub struct Allocator<'a> {
    /// Addresses come from here.
    pub cidr: ServiceCidr,
    /// First and last port.
    pub node_ports: (u16, u16),
    /// What is taken.
    pub tree: &'a Tree,
    /// Which of those that are free.
    pub random: &'a mut Random,
    /// When.
    pub now: Timestamp,
}

/// What a Service has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Claims {
    ips: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<(String, u16)>,
}

impl Allocator<'_> {
    /// Gives a new Service what it needs.
    ///
    /// # Errors
    /// 422 if what it asks for is taken or not to be had, 500 if nothing is left.
    pub fn create(&mut self, service: &mut Value, change: &mut Change) -> Result<(), Status> {
        self.fill(service, &Claims::default())?;
        self.take(service, &Claims::default(), &claims(service), change)
    }

    /// Gives a changed Service what it needs more, and takes back what it needs no more.
    ///
    /// # Errors
    /// As of [`Self::create`].
    pub fn update(&mut self, old: &Value, new: &mut Value, change: &mut Change) -> Result<(), Status> {
        let had = claims(old);
        self.fill(new, &had)?;
        let has = claims(new);
        self.take(new, &had, &has, change)?;
        self.give_back(old, &had, &has, change);
        Ok(())
    }

    /// Takes back what a Service had.
    pub fn remove(&mut self, service: &Value, change: &mut Change) {
        self.give_back(service, &claims(service), &Claims::default(), change);
    }

    /// Chooses what the Service leaves open.
    fn fill(&mut self, service: &mut Value, had: &Claims) -> Result<(), Status> {
        if needs_ip(service) {
            let asked = text(service, "clusterIP");
            let ip = if asked.is_empty() { self.free_ip()?.to_string() } else { asked };
            let Some(spec) = map_at(service, "spec") else { return Ok(()) };
            spec.insert("clusterIP".to_owned(), ip.clone().into());
            spec.insert("clusterIPs".to_owned(), json!([ip]));
            spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
            spec.entry("ipFamilyPolicy").or_insert_with(|| "SingleStack".into());
        }
        if needs_ports(service) {
            self.fill_ports(service, had)?;
        }
        Ok(())
    }

    fn fill_ports(&mut self, service: &mut Value, had: &Claims) -> Result<(), Status> {
        let mut taken = claims(service).ports;
        taken.extend(had.ports.iter().cloned());
        let Some(ports) = map_at(service, "spec").and_then(|spec| spec.get_mut("ports")).and_then(Value::as_array_mut)
        else {
            return Ok(());
        };
        for port in ports.iter_mut().filter(|port| node_port(port) == 0) {
            let protocol = protocol(port);
            let free = self.free_port(&protocol, &taken)?;
            taken.insert((protocol, free));
            if let Some(port) = port.as_object_mut() {
                port.insert("nodePort".to_owned(), free.into());
            }
        }
        Ok(())
    }

    /// Makes `change` take what the Service has and had not.
    fn take(&mut self, service: &Value, had: &Claims, has: &Claims, change: &mut Change) -> Result<(), Status> {
        for ip in has.ips.difference(&had.ips) {
            self.check_ip(service, *ip)?;
            let key = keys::object(addresses(), "", &ip.to_string());
            change.expect(key.clone(), 0);
            change.put(key, encode(addresses(), &self.address(service, *ip)));
        }
        for (protocol, port) in has.ports.difference(&had.ports) {
            self.check_port(service, protocol, *port)?;
            let key = keys::node_port(protocol, *port);
            change.expect(key.clone(), 0);
            change.put(key, owner(service).into());
        }
        Ok(())
    }

    /// Makes `change` give back what the Service had and has not, as far as it really is the Service's.
    fn give_back(&self, service: &Value, had: &Claims, has: &Claims, change: &mut Change) {
        for ip in had.ips.difference(&has.ips) {
            let key = keys::object(addresses(), "", &ip.to_string());
            let Some(kv) = self.tree.get(&key) else { continue };
            let parent = Stored::of(addresses(), kv).decode().ok();
            let parent = parent.as_ref().and_then(|address| address.pointer("/spec/parentRef"));
            let of = |field: &str| parent.and_then(|parent| parent.get(field)?.as_str()).unwrap_or_default().to_owned();
            if format!("{}/{}", of("namespace"), of("name")) == owner(service) {
                change.expect(key.clone(), kv.mod_revision);
                change.remove(key);
            }
        }
        for (protocol, port) in had.ports.difference(&has.ports) {
            let key = keys::node_port(protocol, *port);
            if let Some(kv) = self.tree.get(&key).filter(|kv| kv.value == owner(service)) {
                change.expect(key.clone(), kv.mod_revision);
                change.remove(key);
            }
        }
    }

    fn check_ip(&self, service: &Value, ip: Ipv4Addr) -> Result<(), Status> {
        let why = if !self.cidr.has(ip) {
            let range = self.cidr;
            format!("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}")
        } else if self.tree.get(&keys::object(addresses(), "", &ip.to_string())).is_some() {
            mark::sometimes!("cluster IP that was asked for is taken");
            "provided IP is already allocated".to_owned()
        } else {
            return Ok(());
        };
        let why = format!("failed to allocate IP {ip}: {why}");
        Err(invalid(service, FieldError::invalid("spec.clusterIPs", format!("[\"{ip}\"]"), &why)))
    }

    fn check_port(&self, service: &Value, protocol: &str, port: u16) -> Result<(), Status> {
        let (first, last) = self.node_ports;
        let why = if !(first..=last).contains(&port) {
            format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
        } else if self.tree.get(&keys::node_port(protocol, port)).is_some() {
            mark::sometimes!("node port that was asked for is taken");
            "provided port is already allocated".to_owned()
        } else {
            return Ok(());
        };
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        let place = ports.into_iter().flatten().position(|candidate| node_port(candidate) == port).unwrap_or_default();
        Err(invalid(service, FieldError::invalid(format!("spec.ports[{place}].nodePort"), port, &why)))
    }

    fn free_ip(&mut self) -> Result<Ipv4Addr, Status> {
        // The lower addresses are left to those who choose theirs themselves, until there are no others.
        let (band, end) = (self.cidr.band(), self.cidr.size() - 1);
        let free = |ip: &Ipv4Addr| self.tree.get(&keys::object(addresses(), "", &ip.to_string())).is_none();
        for _ in 0..DRAWS {
            let drawn = self.random.range(u64::from(band)..u64::from(end));
            let ip = self.cidr.at(u32::try_from(drawn).unwrap_or(band));
            if free(&ip) {
                return Ok(ip);
            }
        }
        let found = (band..end).chain(1..band).map(|place| self.cidr.at(place)).find(free);
        found.ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))
    }

    fn free_port(&mut self, protocol: &str, taken: &BTreeSet<(String, u16)>) -> Result<u16, Status> {
        let (first, last) = self.node_ports;
        let free = |port: &u16| {
            !taken.contains(&(protocol.to_owned(), *port)) && self.tree.get(&keys::node_port(protocol, *port)).is_none()
        };
        for _ in 0..DRAWS {
            let drawn = self.random.range(u64::from(first)..u64::from(last) + 1);
            let port = u16::try_from(drawn).unwrap_or(first);
            if free(&port) {
                return Ok(port);
            }
        }
        let found = (first..=last).find(free);
        found.ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
    }

    /// The IPAddress by which a Service has a cluster IP.
    fn address(&mut self, service: &Value, ip: Ipv4Addr) -> Value {
        json!({
            "metadata": {
                "name": ip.to_string(),
                "uid": new_uid(self.random),
                "creationTimestamp": seconds(self.now),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": "IPv4",
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": {
                "parentRef": {
                    "group": "",
                    "resource": "services",
                    "namespace": meta_text(service, "namespace"),
                    "name": meta_text(service, "name"),
                },
            },
        })
    }
}

/// What a Service has by its own words.
fn claims(service: &Value) -> Claims {
    let mut claims = Claims::default();
    if needs_ip(service) {
        claims.ips.extend(text(service, "clusterIP").parse::<Ipv4Addr>().ok());
    }
    if needs_ports(service) {
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        let claimed = ports.into_iter().flatten().map(|port| (protocol(port), node_port(port)));
        claims.ports.extend(claimed.filter(|(_, port)| *port > 0));
    }
    claims
}

/// Whether a Service is to have a cluster IP, and has not said that it wants none.
fn needs_ip(service: &Value) -> bool {
    needs_ip_or_none(service) && text(service, "clusterIP") != "None"
}

fn needs_ip_or_none(service: &Value) -> bool {
    text(service, "type") != "ExternalName"
}

fn needs_ports(service: &Value) -> bool {
    let balanced = service.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool) != Some(false);
    match text(service, "type").as_str() {
        "NodePort" => true,
        "LoadBalancer" => balanced,
        _ => false,
    }
}

fn text(service: &Value, field: &str) -> String {
    service.get("spec").and_then(|spec| spec.get(field)?.as_str()).unwrap_or_default().to_owned()
}

fn protocol(port: &Value) -> String {
    port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_owned()
}

fn node_port(port: &Value) -> u16 {
    port.get("nodePort").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).unwrap_or_default()
}

fn owner(service: &Value) -> String {
    format!("{}/{}", meta_text(service, "namespace"), meta_text(service, "name"))
}

fn invalid(service: &Value, error: FieldError) -> Status {
    let services = resource::find("", "Service").expect("Services are in the table of resources");
    Status::invalid(services, meta_text(service, "name"), &[error])
}

fn addresses() -> &'static Resource {
    resource::find("networking.k8s.io", "IPAddress").expect("IPAddresses are in the table of resources")
}
