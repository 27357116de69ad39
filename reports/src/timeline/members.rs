//! The lanes of the store's members and the control planes on them.

use super::{Lane, Mark, ROW, Sort, faults, words};
use crate::reigns;
use record::{Ns, Observation, Record, Sight};
use std::collections::BTreeMap;

/// Height of the row that says who leads, with the term in it.
const REIGN: u32 = 14;

pub(super) fn lanes(record: &Record) -> Vec<Lane> {
    (0..record.config.members).map(|member| lane(record, member)).collect()
}

fn lane(record: &Record, member: u32) -> Lane {
    let name = format!("s{}", member + 1);
    let (mut marks, top) = faults(record.strikes.iter().filter(|strike| strike.members.contains(&member)));
    for reign in reigns::of(record).into_iter().filter(|reign| reign.member == member) {
        marks.push(Mark {
            sort: Sort::Leader,
            shade: "store",
            from_ns: reign.from_ns,
            until_ns: reign.until_ns,
            y: top,
            height: REIGN - 2,
            label: format!("term {}", reign.term),
            title: format!("{name} leads in term {}, until {}", reign.term, words::at(reign.until_ns)),
        });
    }
    for (from_ns, until_ns) in down(changes(record, member), record.ended_ns) {
        marks.push(Mark {
            sort: Sort::Process,
            shade: "down",
            from_ns,
            until_ns,
            y: top,
            height: REIGN - 2,
            label: "down".to_owned(),
            title: format!("{name} is down, until {}", words::at(until_ns)),
        });
    }
    let elected = elected(record, member, &name, top + REIGN);
    let rows = elected.iter().map(|mark| mark.y + ROW).max().unwrap_or(top + REIGN);
    marks.extend(elected);
    Lane { name, height: rows + 2, marks }
}

/// When the member's process started and ended.
fn changes(record: &Record, member: u32) -> impl Iterator<Item = (Ns, bool)> {
    record.observations.iter().filter_map(move |observation| match observation {
        Observation::Process { at_ns, member: of, up } if *of == member => Some((*at_ns, *up)),
        _ => None,
    })
}

/// When something was down that went up and down at these times.
pub(super) fn down(changes: impl Iterator<Item = (Ns, bool)>, ended_ns: Ns) -> Vec<(Ns, Ns)> {
    let (mut intervals, mut since) = (Vec::new(), None);
    for (at_ns, up) in changes {
        match (up, since) {
            (false, None) => since = Some(at_ns),
            (true, Some(from_ns)) => {
                intervals.push((from_ns, at_ns));
                since = None;
            }
            (false, Some(_)) | (true, None) => {}
        }
    }
    intervals.extend(since.map(|from_ns| (from_ns, ended_ns.max(from_ns))));
    intervals
}

/// When processes on this host led groups of controllers: a row for each group.
fn elected(record: &Record, member: u32, name: &str, top: u32) -> Vec<Mark> {
    let mut rows: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut open, mut marks): (BTreeMap<&str, (Ns, i64)>, Vec<Mark>) = (BTreeMap::new(), Vec::new());
    let mut close = |lease: &str, row: u32, (from_ns, epoch): (Ns, i64), until_ns: Ns| {
        let title = format!("{name} leads {lease} in epoch {epoch}, until {}", words::at(until_ns));
        let (sort, shade, y, label) = (Sort::Leader, "lease", top + row * ROW, String::new());
        marks.push(Mark { sort, shade, from_ns, until_ns, y, height: ROW - 2, label, title });
    };
    for sight in &record.cluster.sights {
        let Sight::Elected { at_ns, member: of, lease, epoch, leads } = sight else { continue };
        let next = rows.len() as u32;
        // Of all members alike, so that the same row is the same group on every lane.
        let row = *rows.entry(lease).or_insert(next);
        if *of != member {
            continue;
        }
        if let Some(since) = open.remove(lease.as_str()) {
            close(lease, row, since, *at_ns);
        }
        if *leads {
            open.insert(lease, (*at_ns, *epoch));
        }
    }
    for (lease, since) in open {
        close(lease, rows[lease], since, record.ended_ns.max(since.0));
    }
    marks
}
