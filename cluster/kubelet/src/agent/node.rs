//! The Node and its Lease: registration, status, heartbeats.
//!
//! The status is written when it differs from what the API shows, and otherwise every five minutes; the Lease, which is
//! cheap, every ten seconds (KEP-589).

use super::AgentConfig;
use super::view::Shared;
use api::coordination::v1::{Lease, LeaseSpec};
use api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use api::meta::v1::{MicroTime, OwnerReference};
use api::object::seconds;
use api::quantity::Quantity;
use api::{Object, ObjectExt, ObjectMeta, Timestamp};
use client::{Client, Clock, Error, Subscription};
use mark::sometimes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where nodes have their Leases.
const LEASES: &str = "kube-node-lease";
/// The first wait after a failure, and the longest: upstream's for registering and for leases.
const RETRY_BASE: Duration = Duration::from_millis(200);
/// See [`RETRY_BASE`].
const RETRY_LIMIT: Duration = Duration::from_secs(7);
/// A request of the heart may not hold up the next beat.
const REQUEST: Duration = Duration::from_secs(10);
/// Upstream reads and writes anew so often before it waits for the next beat.
const CONFLICTS: u32 = 5;
/// The version that this node agent is compatible with.
const VERSION: &str = "v1.35.0";
/// Labels that follow from the machine, which the node agent keeps right on a Node that exists.
const OWN_LABELS: [&str; 9] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// The labels of the Node.
pub(super) fn labels(config: &AgentConfig) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", config.node.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", "amd64"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    labels.extend(config.labels.clone());
    labels
}

/// The Node as it is registered.
pub(super) fn node(config: &AgentConfig) -> Node {
    Node {
        metadata: ObjectMeta { name: Some(config.node.clone()), labels: Some(labels(config)), ..ObjectMeta::default() },
        spec: Some(NodeSpec {
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            ..NodeSpec::default()
        }),
        status: None,
    }
}

/// The status that the Node should show now, over the one that it shows; times of transitions are kept where nothing
/// changed, and conditions of others stay.
pub(super) fn status(
    config: &AgentConfig,
    runtime: &str,
    boot_id: &str,
    trouble: Option<&str>,
    before: Option<&NodeStatus>,
    wall: Timestamp,
) -> NodeStatus {
    let mut status = before.cloned().unwrap_or_default();
    let capacity = BTreeMap::from([
        ("cpu".to_owned(), Quantity::of_milli(config.capacity.cpu_milli).to_text()),
        ("ephemeral-storage".to_owned(), Quantity::of_bytes(config.capacity.storage_bytes).to_text()),
        ("memory".to_owned(), Quantity::of_bytes(config.capacity.memory_bytes).to_text()),
        ("pods".to_owned(), Quantity::of(config.capacity.pods).to_text()),
    ]);
    status.allocatable = Some(capacity.clone());
    status.capacity = Some(capacity);
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    status.addresses =
        Some(vec![address("InternalIP", config.ip.to_string()), address("Hostname", config.node.clone())]);
    let port = DaemonEndpoint { port: 10250 };
    status.daemon_endpoints = Some(NodeDaemonEndpoints { kubelet_endpoint: Some(port) });
    status.node_info = Some(NodeSystemInfo {
        architecture: "amd64".to_owned(),
        boot_id: boot_id.to_owned(),
        container_runtime_version: runtime.to_owned(),
        kubelet_version: VERSION.to_owned(),
        machine_id: config.node.clone(),
        operating_system: "linux".to_owned(),
        os_image: "Seaworthy".to_owned(),
        system_uuid: config.node.clone(),
        ..NodeSystemInfo::default()
    });
    let ready = match trouble {
        None => ("Ready", true, "KubeletReady", "kubelet is posting ready status"),
        Some(trouble) => ("Ready", false, "KubeletNotReady", trouble),
    };
    let said = [
        ("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ready,
    ];
    let conditions = status.conditions.get_or_insert_default();
    for (type_, holds, reason, message) in said {
        let holds = if holds { "True" } else { "False" };
        let since = conditions.iter().find(|it| it.type_ == type_ && it.status == holds);
        let since = since.and_then(|it| it.last_transition_time.clone());
        let condition = NodeCondition {
            type_: type_.to_owned(),
            status: holds.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(seconds(wall)),
            last_transition_time: Some(since.unwrap_or_else(|| seconds(wall))),
        };
        match conditions.iter_mut().find(|it| it.type_ == type_) {
            Some(there) => *there = condition,
            None => conditions.push(condition),
        }
    }
    status
}

/// Whether two statuses differ in more than the time of the heartbeat.
fn differs(one: &NodeStatus, other: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    timeless(one) != timeless(other)
}

/// Registers the Node and keeps its status true.
pub(super) struct Heart {
    pub(super) config: AgentConfig,
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
}

impl Heart {
    /// Beats for ever.
    pub(super) async fn run(self, mut nodes: Subscription) {
        let mut random = rt::random::stream("kubelet-node");
        let mut backoff = client::Backoff::new(RETRY_BASE, RETRY_LIMIT);
        let client = self.client.with_limits(REQUEST, 2);
        let mut node = loop {
            match self.register(&client).await {
                Ok(node) => break node,
                Err(error) => {
                    tracing::debug!(%error, "node not registered");
                    rt::time::sleep(backoff.next(&mut random)).await;
                }
            }
        };
        self.shared.lock().registered = true;
        let mut report_at = Duration::ZERO;
        let mut earliest = Duration::ZERO;
        backoff.reset();
        loop {
            let now = self.clock.now();
            let wanted = self.status(&node, now.wall);
            let changed = node.status.as_ref().is_none_or(|status| differs(status, &wanted));
            let due = now.monotonic >= report_at || (changed && now.monotonic >= earliest);
            if due {
                match self.write(&client, node.clone()).await {
                    Ok(written) => {
                        node = written;
                        backoff.reset();
                        // Upstream's jitter: reports of nodes that started together drift apart.
                        let jitter = random.jitter(self.config.status_report / 10);
                        report_at = now.monotonic + self.config.status_report + jitter;
                        earliest = now.monotonic + self.config.status_interval;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "status of the node not written");
                        let wait = backoff.next(&mut random);
                        earliest = now.monotonic + wait;
                        report_at = report_at.max(earliest);
                    }
                }
                continue;
            }
            let wake = if changed { earliest.min(report_at) } else { report_at };
            tokio::select! {
                biased;
                () = self.shared.node_changed().notified() => {}
                changes = nodes.next() => {
                    let seen = changes.iter().filter_map(client::Change::new::<Node>).next_back();
                    if let Some(seen) = seen
                        && super::writer::revision(&*seen) > super::writer::revision(&node)
                    {
                        node = (*seen).clone();
                    }
                }
                () = rt::time::sleep_until(self.clock.instant(wake)) => {}
            }
        }
    }

    fn status(&self, node: &Node, wall: Timestamp) -> NodeStatus {
        let trouble = self.shared.trouble();
        let (runtime, boot_id) = (self.shared.runtime_version(), rt::boot_id());
        status(&self.config, &runtime, &boot_id, trouble.as_deref(), node.status.as_ref(), wall)
    }

    /// Creates the Node, or adopts the one that is there with the labels that are this machine's.
    async fn register(&self, client: &Client) -> Result<Node, Error> {
        let mut new = node(&self.config);
        new.status = Some(self.status(&new, self.clock.now().wall));
        match client.create(&new).await {
            Ok(node) => return Ok(node),
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        sometimes!("node agent adopts a Node that exists");
        let mut node = client.get::<Node>("", &self.config.node).await?;
        let mut labels = node.labels().clone();
        for (key, value) in labels_to_keep(&self.config) {
            labels.insert(key, value);
        }
        if labels == *node.labels() {
            return Ok(node);
        }
        node.metadata.labels = Some(labels);
        client.update(&node).await
    }

    async fn write(&self, client: &Client, mut node: Node) -> Result<Node, Error> {
        for _ in 0..CONFLICTS {
            node.status = Some(self.status(&node, self.clock.now().wall));
            match client.update_status(&node).await {
                Err(error) if error.is_conflict() => node = client.get("", &self.config.node).await?,
                other => return other,
            }
        }
        Err(Error::Unreachable("the Node changes faster than it can be written".to_owned()))
    }
}

fn labels_to_keep(config: &AgentConfig) -> impl Iterator<Item = (String, String)> {
    labels(config).into_iter().filter(|(key, _)| OWN_LABELS.contains(&key.as_str()))
}

/// Renews the node's Lease.
pub(super) struct Leases {
    pub(super) config: AgentConfig,
    pub(super) client: Client,
}

impl Leases {
    /// Renews for ever.
    pub(super) async fn run(self) {
        let mut random = rt::random::stream("kubelet-lease");
        let mut backoff = client::Backoff::new(RETRY_BASE, RETRY_LIMIT);
        let client = self.client.with_limits(REQUEST, 2);
        let mut lease: Option<Lease> = None;
        let mut owner: Option<OwnerReference> = None;
        loop {
            let wait = match self.renew(&client, &mut owner, lease.take()).await {
                Ok(renewed) => {
                    lease = Some(renewed);
                    backoff.reset();
                    // Upstream's jitter of four hundredths.
                    self.config.lease_interval + random.jitter(self.config.lease_interval / 25)
                }
                Err(error) => {
                    tracing::debug!(%error, "lease of the node not renewed");
                    backoff.next(&mut random)
                }
            };
            rt::time::sleep(wait).await;
        }
    }

    /// Renews over what was written last, or over what there is.
    async fn renew(
        &self,
        client: &Client,
        owner: &mut Option<OwnerReference>,
        known: Option<Lease>,
    ) -> Result<Lease, Error> {
        if let Some(known) = known {
            match client.update(&self.lease(known, owner.clone())).await {
                // Somebody wrote it, or it was deleted.
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                other => return other,
            }
        }
        if owner.is_none() {
            *owner = client.get::<Node>("", &self.config.node).await.ok().map(|node| owner_of(&node));
        }
        match client.get::<Lease>(LEASES, &self.config.node).await {
            Ok(found) => client.update(&self.lease(found, owner.clone())).await,
            Err(error) if error.is_not_found() => {
                let metadata = ObjectMeta {
                    namespace: Some(LEASES.to_owned()),
                    name: Some(self.config.node.clone()),
                    ..ObjectMeta::default()
                };
                let new = Lease { metadata, spec: None };
                client.create(&self.lease(new, owner.clone())).await
            }
            Err(error) => Err(error),
        }
    }

    fn lease(&self, mut lease: Lease, owner: Option<OwnerReference>) -> Lease {
        if lease.owners().is_empty() {
            lease.metadata.owner_references = owner.map(|owner| vec![owner]);
        }
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = Some(self.config.node.clone());
        spec.lease_duration_seconds = i32::try_from(self.config.lease_duration.as_secs()).ok();
        spec.renew_time = Some(MicroTime(crate::wall()));
        lease
    }
}

/// As upstream refers to the Node: it neither controls nor blocks.
fn owner_of<T: Object>(node: &T) -> OwnerReference {
    OwnerReference { controller: None, block_owner_deletion: None, ..node.controller_ref() }
}
