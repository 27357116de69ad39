//! C28: pod IP, cluster IP, pod CIDR and node port are unique among live holders, and a CIDR is not reused before its
//! old machine is known dead.

use super::facts::{is_terminal, node_number, pod_node};
use super::{Node, Object, Pod, Service, World};
use crate::findings::Findings;
use faults::{Kind, Ns};
use record::{Guarantee, Sight, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Whoever comes to hold one of these is its only holder at that revision.
///
/// A pod holds its addresses while it is stored and has not ended for good; one with hostNetwork holds none. It does
/// not hold them any more once its machine has lost its disk: nobody is left who answers for them. A Service holds its
/// cluster IPs and node ports, and a node its CIDRs, while it is stored. The pods of a node, under whatever name, hold
/// the node's CIDR against all other nodes.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C28);
    let mut holders = Holders::default();
    for commit in &world.commits {
        let key: &str = &commit.key;
        let same = matches!((&commit.old, &commit.new), (Some(old), Some(new)) if old.uid() == new.uid());
        let holds = |object: &Option<std::rc::Rc<Object>>| object.as_deref().map(held).unwrap_or_default();
        let (before, after) = (holds(&commit.old), holds(&commit.new));
        holders.release(key, if same { before.difference(&after).cloned().collect() } else { before.clone() });
        for what in after.iter().filter(|what| !same || !before.contains(*what)) {
            findings.tested(1);
            let node = commit.pods().1.map(|pod| pod_node(pod).to_owned());
            let holder = Holder { since_ns: commit.at_ns, node };
            let rivals = holders.take(what, key, holder);
            if let Some(rival) = rivals.iter().find(|(_, rival)| !died(world, rival, commit.at_ns)) {
                let text = format!("{what} of {} went to {key} at revision {}", rival.0, commit.revision);
                findings.violated(commit.at_ns, text);
            }
            if let Some((pod, ip)) = squatter(what, key, &holders) {
                let text = format!("{what} went to {key} at revision {}, though {pod} still has {ip}", commit.revision);
                findings.violated(commit.at_ns, text);
            }
        }
    }
    findings.verdict()
}

/// Who has what, since when.
#[derive(Default)]
struct Holders<'a>(BTreeMap<String, BTreeMap<&'a str, Holder>>);

#[derive(Clone)]
struct Holder {
    since_ns: Ns,
    /// A pod's node.
    node: Option<String>,
}

impl<'a> Holders<'a> {
    fn release(&mut self, key: &str, what: BTreeSet<String>) {
        for what in what {
            if let Some(holders) = self.0.get_mut(&what) {
                holders.remove(key);
            }
        }
    }

    /// Who else has it.
    fn take(&mut self, what: &str, key: &'a str, holder: Holder) -> Vec<(&'a str, Holder)> {
        let holders = self.0.entry(what.to_owned()).or_default();
        holders.insert(key, holder);
        holders.iter().filter(|(other, _)| **other != key).map(|(other, holder)| (*other, holder.clone())).collect()
    }
}

/// What an object has that nobody else may have.
fn held(object: &Object) -> BTreeSet<String> {
    match object {
        Object::Pod(pod) => pod_ips(pod).into_iter().map(|ip| format!("pod IP {ip}")).collect(),
        Object::Node(node) => cidrs(node).into_iter().map(|cidr| format!("pod CIDR {cidr}")).collect(),
        Object::Service(service) => of_service(service),
        Object::Namespace(_)
        | Object::EndpointSlice(_)
        | Object::ReplicaSet(_)
        | Object::Deployment(_)
        | Object::Budget(_)
        | Object::Lease(_)
        | Object::Other(_) => BTreeSet::new(),
    }
}

fn pod_ips(pod: &Pod) -> BTreeSet<&str> {
    let host_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let Some(status) = pod.status.as_ref().filter(|_| !host_network && !is_terminal(pod)) else {
        return BTreeSet::new();
    };
    status.ips.iter().map(String::as_str).filter(|ip| !ip.is_empty()).collect()
}

fn cidrs(node: &Node) -> BTreeSet<&str> {
    let Some(spec) = &node.spec else { return BTreeSet::new() };
    let all = spec.pod_cidrs.iter().flatten().map(String::as_str);
    spec.pod_cidr.as_deref().into_iter().chain(all).filter(|cidr| !cidr.is_empty()).collect()
}

fn of_service(service: &Service) -> BTreeSet<String> {
    let Some(spec) = &service.spec else { return BTreeSet::new() };
    let ips = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
    let ips = ips.filter(|ip| !ip.is_empty() && *ip != "None").map(|ip| format!("cluster IP {ip}"));
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let number = port.node_port.filter(|number| *number > 0)?;
        Some(format!("node port {number}/{}", port.protocol.as_deref().unwrap_or("TCP")))
    });
    let health = spec.health_check_node_port.filter(|number| *number > 0);
    ips.chain(ports).chain(health.map(|number| format!("node port {number}/TCP"))).collect()
}

/// Whether the machine of a pod lost its disk after the pod had come to hold what it holds.
fn died(world: &World<'_>, holder: &Holder, at_ns: Ns) -> bool {
    let Some(number) = holder.node.as_deref().and_then(node_number) else { return false };
    let times = holder.since_ns..=at_ns;
    let wiped = world.record.cluster.sights.iter().any(|sight| {
        matches!(sight, Sight::NodeDown { at_ns, node, wiped: true } if *node == number && times.contains(at_ns))
    });
    wiped || world.strikes_on_node(number, holder.since_ns, at_ns).any(|strike| strike.kind == Kind::NodeLost)
}

/// A pod of another node that still has an address of the CIDR that this is.
fn squatter<'a>(what: &str, node_key: &str, holders: &Holders<'a>) -> Option<(&'a str, String)> {
    let cidr = what.strip_prefix("pod CIDR ")?;
    let name = node_key.rsplit('/').next().unwrap_or_default();
    holders.0.iter().find_map(|(what, holders)| {
        let ip = what.strip_prefix("pod IP ").filter(|ip| contains(cidr, ip))?;
        let elsewhere = holders.iter().find(|(_, holder)| holder.node.as_deref() != Some(name))?;
        Some((*elsewhere.0, ip.to_owned()))
    })
}

/// Whether an address is in a range such as `10.244.3.0/24`.
fn contains(cidr: &str, ip: &str) -> bool {
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32_u32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let Some((base, prefix)) = cidr.split_once('/') else { return false };
    let (Ok(base), Ok(prefix), Ok(ip)) = (base.parse(), prefix.parse::<u32>(), ip.parse()) else { return false };
    let ((base, bits), (ip, ip_bits)) = (number(base), number(ip));
    let shift = bits.saturating_sub(prefix);
    bits == ip_bits && base.checked_shr(shift).unwrap_or(0) == ip.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::{Tale, pod};
    use crate::story::seconds;

    fn put(tale: &mut Tale, name: &str, node: &str, phase: &str, ip: &str) {
        let status = format!(r#""phase":"{phase}","podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}]"#);
        let spec = format!(r#""nodeName":"{node}""#);
        tale.put(&format!("core/pods/default/{name}"), &pod(name, &format!("uid-{name}"), &spec, &status));
    }

    fn service(ip: &str, port: u32, protocol: &str) -> String {
        format!(
            r#"{{"spec":{{"clusterIP":"{ip}","clusterIPs":["{ip}"],"ports":[{{"port":80,"nodePort":{port},"protocol":"{protocol}"}}]}}}}"#
        )
    }

    fn node(cidr: &str) -> String {
        format!(r#"{{"spec":{{"podCIDR":"{cidr}","podCIDRs":["{cidr}"]}}}}"#)
    }

    fn tale() -> Tale {
        let mut tale = Tale::new();
        tale.put("core/nodes/n1", &node("10.244.0.0/24")).put("core/nodes/n2", &node("10.244.1.0/24"));
        put(&mut tale, "a", "n1", "Running", "10.244.0.2");
        put(&mut tale, "a", "n1", "Running", "10.244.0.2");
        put(&mut tale, "b", "n1", "Running", "10.244.0.3");
        tale.put("core/services/default/a", &service("10.96.0.1", 30000, "TCP"));
        tale.put("core/services/default/b", &service("None", 30000, "UDP"));
        tale
    }

    #[test]
    fn whoever_takes_what_is_free_passes() {
        let mut tale = tale();
        // Two CIDRs, two pod IPs, one cluster IP, two node ports so far.
        tale.passes(check, Guarantee::C28, 7);
        put(&mut tale, "b", "n1", "Failed", "10.244.0.3");
        put(&mut tale, "c", "n1", "Running", "10.244.0.3");
        tale.delete("core/services/default/a").put("core/services/default/c", &service("10.96.0.1", 30000, "TCP"));
        tale.delete("core/nodes/n1").put("core/nodes/n1", &node("10.244.0.0/24"));
        tale.passes(check, Guarantee::C28, 11);
    }

    #[test]
    fn pods_of_the_host_network_share_its_address() {
        let mut tale = tale();
        let status = r#""phase":"Running","podIP":"10.2.0.1""#;
        for name in ["x", "y"] {
            tale.put(
                &format!("core/pods/default/{name}"),
                &pod(name, name, r#""nodeName":"n1","hostNetwork":true"#, status),
            );
        }
        tale.passes(check, Guarantee::C28, 7);
    }

    #[test]
    fn a_pod_ip_that_two_pods_have_is_flagged() {
        let mut tale = tale();
        put(&mut tale, "c", "n2", "Pending", "10.244.0.2");
        tale.flags(
            check,
            "pod IP 10.244.0.2 of /registry/core/pods/default/a went to /registry/core/pods/default/c at",
        );
    }

    #[test]
    fn the_addresses_of_a_machine_without_its_disk_are_free() {
        let mut tale = tale();
        tale.at(5).saw(Sight::NodeDown { at_ns: seconds(5), node: 0, wiped: true });
        tale.at(9);
        put(&mut tale, "c", "n1", "Pending", "10.244.0.2");
        tale.passes(check, Guarantee::C28, 8);
        // Its power alone is not enough: the agent remembers what it gave away.
        let sights = &mut tale.record.cluster.sights;
        sights[0] = Sight::NodeDown { at_ns: seconds(5), node: 0, wiped: false };
        tale.flags(check, "pod IP 10.244.0.2");
    }

    #[test]
    fn a_cluster_ip_a_node_port_and_a_cidr_of_two_are_flagged() {
        let mut tale = tale();
        tale.put("core/services/default/c", &service("10.96.0.1", 30000, "TCP"));
        tale.put("core/nodes/n3", &node("10.244.1.0/24"));
        tale.flags(check, "cluster IP 10.96.0.1 of /registry/core/services/default/a went to");
        tale.flags(check, "node port 30000/TCP of /registry/core/services/default/a went to");
        tale.flags(check, "pod CIDR 10.244.1.0/24 of /registry/core/nodes/n2 went to /registry/core/nodes/n3");
    }

    #[test]
    fn a_cidr_whose_pods_are_left_is_not_another_nodes() {
        let mut tale = tale();
        tale.delete("core/nodes/n1").put("core/nodes/n3", &node("10.244.0.0/24"));
        tale.flags(check, "pod CIDR 10.244.0.0/24 went to /registry/core/nodes/n3 at revision 10, though /registry/core/pods/default/a still has 10.244.0.2");
    }
}
