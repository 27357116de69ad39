//! The lanes of the nodes: agents and containers.

use super::members::down;
use super::{Lane, Mark, ROW, Rows, Sort, faults, words};
use record::{Container, Ns, Observation, Record, Sight, Unpacker, WatchEvent};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Rows of containers; a node of the standard trial has about ten at once.
const CONTAINER_ROWS: usize = 12;

pub(super) fn lanes(record: &Record) -> Vec<Lane> {
    let nodes = record.config.cluster.as_ref().map_or(0, |cluster| cluster.nodes);
    let pods = pods(record);
    (0..nodes).map(|node| lane(record, node, &pods)).collect()
}

fn lane(record: &Record, node: u32, pods: &Pods) -> Lane {
    let name = format!("n{}", node + 1);
    let (mut marks, top) = faults(record.strikes.iter().filter(|strike| strike.nodes.contains(&node)));
    let agent = record.cluster.sights.iter().filter_map(|sight| match sight {
        Sight::Agent { at_ns, node: of, up } if *of == node => Some((*at_ns, *up)),
        _ => None,
    });
    for (from_ns, until_ns) in down(agent, record.ended_ns) {
        let title = format!("the agent of {name} is down, until {}", words::at(until_ns));
        let (sort, shade, label) = (Sort::Process, "down", String::new());
        marks.push(Mark { sort, shade, from_ns, until_ns, y: top, height: ROW - 1, label, title });
    }
    let top = top + ROW;
    let mut rows = Rows::new(CONTAINER_ROWS);
    for run in runs(record, node) {
        let row = rows.place(run.from_ns, run.until_ns);
        let pod = pods.name(&run.container.pod_uid);
        let (from, until, container) = (words::at(run.from_ns), words::at(run.until_ns), &run.container.name);
        let title = format!("container {container} of {pod} on {name} from {from} to {until}: {}", run.end);
        marks.push(Mark {
            sort: Sort::Container,
            shade: run.shade,
            from_ns: run.from_ns,
            until_ns: run.until_ns,
            y: top + row * ROW,
            height: ROW - 2,
            label: String::new(),
            title: words::limited(&title),
        });
    }
    Lane { name, height: top + rows.used() * ROW + 2, marks }
}

/// A container from its start to its end.
struct Ran<'a> {
    container: &'a Container,
    from_ns: Ns,
    until_ns: Ns,
    shade: &'static str,
    end: String,
}

/// What ran on a node, in order of starts.
fn runs(record: &Record, node: u32) -> Vec<Ran<'_>> {
    let mut runs: Vec<Ran<'_>> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for sight in &record.cluster.sights {
        match sight {
            Sight::Started(container) if container.node == node => {
                open.insert(&container.id, runs.len());
                let (from_ns, until_ns) = (container.at_ns, record.ended_ns.max(container.at_ns));
                let (shade, end) = (words::OK, "when the trial ended".to_owned());
                runs.push(Ran { container, from_ns, until_ns, shade, end });
            }
            Sight::Signalled { container, kill } if container.node == node => {
                if let Some(index) = open.get(container.id.as_str()) {
                    let signal = if *kill { "SIGKILL" } else { "SIGTERM" };
                    runs[*index].end = format!("{signal} at {}", words::at(container.at_ns));
                }
            }
            Sight::Exited { container, code } if container.node == node => {
                if let Some(index) = open.remove(container.id.as_str()) {
                    let run = &mut runs[index];
                    // What it was signalled before stays in the words.
                    let signal = if run.end.starts_with("SIG") { format!(" after {}", run.end) } else { String::new() };
                    run.until_ns = container.at_ns;
                    run.end = format!("exit code {code}{signal}");
                    run.shade = if *code == 0 { words::OK } else { "failed" };
                }
            }
            Sight::NodeDown { at_ns, node: of, .. } if *of == node => {
                for index in std::mem::take(&mut open).into_values() {
                    let run = &mut runs[index];
                    (run.until_ns, run.end, run.shade) = (*at_ns, "gone with its node".to_owned(), "failed");
                }
            }
            Sight::Started(_)
            | Sight::Signalled { .. }
            | Sight::Exited { .. }
            | Sight::NodeDown { .. }
            | Sight::Agent { .. }
            | Sight::Elected { .. }
            | Sight::Effect { .. } => {}
        }
    }
    runs
}

/// Names of pods by their UIDs.
pub(super) struct Pods(BTreeMap<String, String>);

impl Pods {
    /// `namespace/name`, or the UID if nobody saw the pod in the store.
    pub fn name(&self, uid: &str) -> String {
        self.0.get(uid).cloned().unwrap_or_else(|| format!("pod {uid}"))
    }
}

/// What a pod is called, of all that is stored of it.
#[derive(Deserialize)]
struct Stored {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
}

pub(super) fn pods(record: &Record) -> Pods {
    let (mut names, mut values) = (BTreeMap::new(), Unpacker::default());
    for observation in &record.observations {
        let Observation::Applied { events, .. } = observation else { continue };
        for event in events {
            let WatchEvent::Put(put) = event else { continue };
            // Its first version says all that is asked here.
            if put.version == 1
                && put.key.starts_with("/registry/core/pods/")
                && let Ok(Stored { metadata }) = serde_json::from_str(values.text(&put.value))
            {
                names.insert(metadata.uid, format!("{}/{}", metadata.namespace, metadata.name));
            }
        }
    }
    Pods(names)
}
