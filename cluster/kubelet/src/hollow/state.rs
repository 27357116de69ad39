//! What the hollow runtime keeps on disk.

use crate::runtime::{Container, ContainerConfig, ContainerState, Exit, Listing, Sandbox, SandboxConfig};
use api::Timestamp;
use mark::sometimes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Of the boot that it was written in.
    pub(super) boot_id: String,
    /// By id.
    pub(super) sandboxes: BTreeMap<String, SandboxRecord>,
    /// By id.
    pub(super) containers: BTreeMap<String, ContainerRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SandboxRecord {
    pub(super) config: SandboxConfig,
    pub(super) ready: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) config: ContainerConfig,
    pub(super) phase: Phase,
}

/// How far a container came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// It was made.
    Created,
    /// It is meant to start: it may have, from the moment on at which this is durable.
    Starting {
        /// Since when it runs, if it does.
        started_at: Timestamp,
    },
    /// It runs. As good as `Starting` to who reads it from disk.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// It is dead.
    Exited(Exit),
}

impl State {
    /// What of a state that was read is true after a start of the process: in the same boot what ran runs on, and after
    /// a reboot all is dead and nobody knows how it ended.
    pub(super) fn after_restart(mut self, boot_id: &str, now: Timestamp) -> State {
        if self.boot_id != boot_id {
            self.boot_id = boot_id.to_owned();
            for sandbox in self.sandboxes.values_mut() {
                sandbox.ready = false;
            }
            for container in self.containers.values_mut() {
                if let Phase::Starting { started_at } | Phase::Running { started_at } = container.phase {
                    sometimes!("container found dead after a reboot");
                    container.phase = Phase::Exited(Exit {
                        code: 137,
                        reason: "ContainerStatusUnknown".to_owned(),
                        message: "The container did not outlive a reboot of its machine".to_owned(),
                        started_at,
                        finished_at: now,
                    });
                }
            }
        }
        self
    }

    /// What there is of a pod, or of all. What has ended is shown as running while it is `live`: until that is on disk.
    pub(super) fn listing(&self, pod_uid: Option<&str>, live: impl Fn(&str) -> bool) -> Listing {
        let wanted = |uid: &str| pod_uid.is_none_or(|wanted| wanted == uid);
        let sandboxes = self.sandboxes.iter().filter(|(_, sandbox)| wanted(&sandbox.config.pod_uid));
        let containers = self.containers.iter().filter(|(_, container)| wanted(&container.config.pod_uid));
        Listing {
            sandboxes: sandboxes
                .map(|(id, it)| Sandbox { id: id.clone(), config: it.config.clone(), ready: it.ready })
                .collect(),
            containers: containers.map(|(id, container)| shown(id, container, live(id))).collect(),
        }
    }
}

fn shown(id: &str, container: &ContainerRecord, live: bool) -> Container {
    Container {
        id: id.to_owned(),
        sandbox_id: container.config.sandbox_id.clone(),
        pod_uid: container.config.pod_uid.clone(),
        name: container.config.name.clone(),
        attempt: container.config.attempt,
        image_id: image_id(&container.config.image),
        state: match &container.phase {
            Phase::Created | Phase::Starting { .. } => ContainerState::Created,
            Phase::Running { started_at } => ContainerState::Running { started_at: *started_at },
            Phase::Exited(exit) if live => ContainerState::Running { started_at: exit.started_at },
            Phase::Exited(exit) => ContainerState::Exited(exit.clone()),
        },
    }
}

/// What a hollow image is called as content: made of its name, for it has none.
pub(super) fn image_id(image: &str) -> String {
    format!(
        "{}@crc32c:{:08x}",
        image.rsplit_once(':').map_or(image, |(name, _)| name),
        crc32c::crc32c(image.as_bytes())
    )
}
