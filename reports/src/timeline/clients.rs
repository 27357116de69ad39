//! The lanes of the client hosts: what was asked and what came of it.

use super::{Lane, MAX_ROWS, Mark, ROW, Rows, Sort, faults, nodes, words};
use record::{Ns, Record};

pub(super) fn lanes(record: &Record) -> Vec<Lane> {
    let pods = nodes::pods(record);
    let hosts = (0..record.config.client_hosts).map(|host| lane(record, host, &pods));
    let users = (!record.cluster.writes.is_empty()).then(|| users(record));
    hosts.chain(users).collect()
}

fn lane(record: &Record, host: u32, pods: &nodes::Pods) -> Lane {
    let (mut marks, top) = faults(record.strikes.iter().filter(|strike| strike.clients.contains(&host)));
    // As the workload spreads its clients over hosts.
    let hosts = record.config.client_hosts.max(1);
    let operations = record.operations.iter().filter(|op| op.client % hosts == host).map(|op| {
        let (shade, title) = words::operation(op);
        (op.invoked_ns, op.completed_ns, shade, title)
    });
    let calls = record.cluster.calls.iter().filter(|call| call.client == host).map(|call| {
        let (shade, title) = words::call(call, |uid| pods.name(uid));
        (call.invoked_ns, call.completed_ns, shade, title)
    });
    let top = packed(&mut marks, Sort::Operation, top + 1, operations);
    let top = packed(&mut marks, Sort::Call, top, calls);
    Lane { name: format!("c{}", host + 1), height: top.max(ROW) + 2, marks }
}

/// What users asked of the API. A record does not say from which host.
fn users(record: &Record) -> Lane {
    let writes = record.cluster.writes.iter().map(|write| {
        let (shade, title) = words::write(write);
        (write.invoked_ns, write.completed_ns, shade, title)
    });
    let mut marks = Vec::new();
    let height = packed(&mut marks, Sort::Write, 1, writes) + 2;
    Lane { name: "users".to_owned(), height, marks }
}

/// Adds marks in rows of their own from `top` on; where the next ones may begin.
fn packed(
    marks: &mut Vec<Mark>,
    sort: Sort,
    top: u32,
    asked: impl Iterator<Item = (Ns, Ns, &'static str, String)>,
) -> u32 {
    let mut rows = Rows::new(MAX_ROWS);
    for (from_ns, until_ns, shade, title) in asked {
        let y = top + rows.place(from_ns, until_ns) * ROW;
        marks.push(Mark { sort, shade, from_ns, until_ns, y, height: ROW - 1, label: String::new(), title });
    }
    top + rows.used() * ROW
}
