//! A trial in space and time: a lane for each host, and on it what struck it, who led, what ran and what was asked.
//!
//! ```text
//! Record -> lanes of marks (members, clients, nodes) -> those far from the failure drawn together -> svg
//! ```
//!
//! **Invariant:** however much happened, what is drawn is bounded, and what is not drawn one by one is said
//! (`a_picture_is_bounded_and_says_what_is_drawn_together`).

mod clients;
mod members;
mod nodes;
mod svg;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use words::at;

use crate::failure::Failure;
use record::{Ns, Record, Strike};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Marks of each sort that are drawn one by one: together about 200 kB of SVG, which a phone scrolls smoothly.
const MAX_MARKS: usize = 400;

/// Where there are more, they are drawn together by so many stretches of time.
const STRETCHES: u64 = 120;

/// Failures with a flag of their own: more of them stand so close that none can be told apart.
const MAX_FLAGS: usize = 40;

/// Events told in words before the first failure: as much as is read before looking at the picture.
const MAX_EVE: usize = 14;

/// Height of a row of faults' strips, which have their names in them, in pixels.
const STRIP: u32 = 14;

/// Height of a row of everything else.
const ROW: u32 = 6;

/// Rows that are packed into one lane; what does not fit lies on top of something.
const MAX_ROWS: usize = 6;

/// One trial, ready to be drawn.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub(crate) seed: u64,
    pub(crate) ended_ns: Ns,
    pub(crate) healed_ns: Ns,
    pub(crate) lanes: Vec<Lane>,
    /// In order of time, the gravest first among those at once.
    pub(crate) flags: Vec<Flag>,
    /// The gravest, as in the trial's line.
    pub(crate) first: Option<Failure>,
    /// What happened last before the first failure.
    pub(crate) eve: Vec<(Ns, String)>,
    /// What is not drawn one by one, in words.
    pub(crate) left_out: Vec<String>,
}

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub name: String,
    pub height: u32,
    pub marks: Vec<Mark>,
}

/// Something on a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub sort: Sort,
    /// What else its colour depends on: an outcome, or a family of faults.
    pub shade: &'static str,
    pub from_ns: Ns,
    pub until_ns: Ns,
    /// From the lane's upper edge, in pixels.
    pub y: u32,
    pub height: u32,
    /// Written into it if there is space.
    pub label: String,
    /// The whole story.
    pub title: String,
}

/// Sorts of marks, which a reader switches on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Fault,
    Leader,
    Process,
    Container,
    Operation,
    Write,
    Call,
}

impl Sort {
    pub const ALL: [Self; 7] =
        [Self::Fault, Self::Leader, Self::Process, Self::Container, Self::Operation, Self::Write, Self::Call];

    /// Its class in the document.
    pub fn class(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Leader => "lead",
            Self::Process => "proc",
            Self::Container => "cont",
            Self::Operation => "oper",
            Self::Write => "writ",
            Self::Call => "call",
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fault => "faults",
            Self::Leader => "leaders",
            Self::Process => "down",
            Self::Container => "containers",
            Self::Operation => "store operations",
            Self::Write => "users' writes",
            Self::Call => "service calls",
        }
    }
}

/// A failure's place in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    pub at_ns: Ns,
    pub what: String,
    pub text: String,
}

impl Timeline {
    /// Of a judged record.
    pub fn of(record: &Record) -> Self {
        let first = Failure::first_of(record);
        let mut lanes = members::lanes(record);
        lanes.extend(clients::lanes(record));
        lanes.extend(nodes::lanes(record));
        let centre = match &first {
            Some(failure) => (failure.at_ns, "the failure"),
            None => (record.healed_ns, "the end of the faults"),
        };
        let mut left_out = bound(&mut lanes, centre, record.ended_ns);
        let mut flags = flags(record);
        if flags.len() > MAX_FLAGS {
            left_out.push(format!(
                "{} of {} failures have no flag, the later ones",
                flags.len() - MAX_FLAGS,
                flags.len()
            ));
            flags.truncate(MAX_FLAGS);
        }
        let eve = first.as_ref().map_or(vec![], |it| eve(&lanes, it.at_ns));
        // Nothing is to stand beyond the right edge.
        let last = flags.iter().map(|flag| flag.at_ns).max().unwrap_or(0);
        let ended_ns = record.ended_ns.max(last).max(1);
        Self { seed: record.seed, ended_ns, healed_ns: record.healed_ns, lanes, flags, first, eve, left_out }
    }

    /// The sorts of marks that it has, in order.
    pub(crate) fn sorts(&self) -> Vec<Sort> {
        let has = |sort: &Sort| self.lanes.iter().any(|lane| lane.marks.iter().any(|mark| mark.sort == *sort));
        Sort::ALL.into_iter().filter(has).collect()
    }
}

fn flags(record: &Record) -> Vec<Flag> {
    let violations = record.verdicts.iter().flat_map(|verdict| {
        let what = verdict.guarantee.to_string();
        verdict.violations.iter().map(move |it| Flag { at_ns: it.at_ns, what: what.clone(), text: it.text.clone() })
    });
    let panics = record.panics.iter().map(|it| {
        let text = format!("on {}: {}", it.host, it.message);
        Flag { at_ns: it.at_ns, what: "panic".to_owned(), text }
    });
    let mut flags: Vec<Flag> = violations.chain(panics).collect();
    // Stable, so that guarantees stay in their order.
    flags.sort_by_key(|flag| flag.at_ns);
    flags
}

/// Of each sort leaves those nearest to `centre_ns`, which is called `near`, as they are, and draws the others together.
/// What was done, in words.
fn bound(lanes: &mut [Lane], (centre_ns, near): (Ns, &str), ended_ns: Ns) -> Vec<String> {
    let mut said = Vec::new();
    for sort in Sort::ALL {
        let marks = lanes.iter().flat_map(|lane| &lane.marks).filter(|mark| mark.sort == sort);
        let mut distances: Vec<Ns> = marks.map(|mark| distance(mark, centre_ns)).collect();
        if distances.len() <= MAX_MARKS {
            continue;
        }
        distances.sort_unstable();
        let (all, nearest) = (distances.len(), distances[MAX_MARKS]);
        let far = |mark: &Mark| mark.sort == sort && distance(mark, centre_ns) >= nearest;
        for lane in &mut *lanes {
            let (far, others): (Vec<Mark>, Vec<Mark>) = lane.marks.drain(..).partition(far);
            lane.marks = others;
            lane.marks.extend(together(far, (ended_ns / STRETCHES).max(1)));
        }
        let alone = distances.partition_point(|it| *it < nearest);
        said.push(format!("{} of {all} {} are drawn together, those far from {near}", all - alone, sort.name()));
    }
    said
}

/// Nanoseconds between a mark and an instant.
fn distance(mark: &Mark, at_ns: Ns) -> Ns {
    at_ns.saturating_sub(mark.until_ns).max(mark.from_ns.saturating_sub(at_ns))
}

/// One mark for those of the same row, shade and stretch of time.
fn together(marks: Vec<Mark>, stretch_ns: Ns) -> Vec<Mark> {
    let mut groups: BTreeMap<(u32, &'static str, Ns), (Mark, u64)> = BTreeMap::new();
    for mark in marks {
        match groups.entry((mark.y, mark.shade, mark.from_ns / stretch_ns)) {
            Entry::Vacant(none) => {
                none.insert((mark, 1));
            }
            Entry::Occupied(mut group) => {
                let (whole, times) = group.get_mut();
                (whole.from_ns, whole.until_ns) = (whole.from_ns.min(mark.from_ns), whole.until_ns.max(mark.until_ns));
                *times += 1;
            }
        }
    }
    let told = |(mark, times): (Mark, u64)| match times {
        1 => mark,
        _ => {
            let (sort, from, until) = (mark.sort.name(), words::at(mark.from_ns), words::at(mark.until_ns));
            let title = format!("{times} {sort}, {}, from {from} to {until}", words::outcome(mark.shade));
            Mark { title, label: String::new(), ..mark }
        }
    };
    groups.into_values().map(told).collect()
}

/// What struck, who led and what died last before `at_ns`, in order of time.
fn eve(lanes: &[Lane], at_ns: Ns) -> Vec<(Ns, String)> {
    let mut events = Vec::new();
    for mark in lanes.iter().flat_map(|lane| &lane.marks) {
        let told = match mark.sort {
            Sort::Fault | Sort::Leader | Sort::Process => true,
            Sort::Container | Sort::Operation | Sort::Write | Sort::Call => false,
        };
        if told && mark.from_ns <= at_ns {
            events.push((mark.from_ns, mark.title.clone()));
        }
    }
    events.sort();
    // A fault that strikes several hosts is on all of their lanes.
    events.dedup();
    events.split_off(events.len().saturating_sub(MAX_EVE))
}

/// The strips and bands of the faults that struck a host, and how high the strips are together.
fn faults<'a>(strikes: impl Iterator<Item = &'a Strike>) -> (Vec<Mark>, u32) {
    let mut strikes: Vec<&Strike> = strikes.collect();
    strikes.sort_by_key(|strike| strike.from_ns);
    let mut rows = Rows::new(4);
    let marks = strikes.into_iter().map(|strike| {
        let row = rows.place(strike.from_ns, strike.until_ns);
        Mark {
            sort: Sort::Fault,
            shade: words::family(strike.kind),
            from_ns: strike.from_ns,
            until_ns: strike.until_ns,
            y: row * STRIP,
            // The next row begins beside its edge.
            height: STRIP - 2,
            label: strike.kind.name().to_owned(),
            title: words::strike(strike),
        }
    });
    let marks: Vec<Mark> = marks.collect();
    (marks, rows.used() * STRIP)
}

/// Intervals packed into rows, so that none hides another while there are rows enough.
struct Rows {
    ends: Vec<Ns>,
    most: usize,
}

impl Rows {
    fn new(most: usize) -> Self {
        Self { ends: Vec::new(), most }
    }

    /// The row of the next interval, in order of beginnings.
    fn place(&mut self, from_ns: Ns, until_ns: Ns) -> u32 {
        let free = self.ends.iter().position(|end| *end <= from_ns);
        let row = match free {
            Some(row) => row,
            None if self.ends.len() < self.most => {
                self.ends.push(0);
                self.ends.len() - 1
            }
            None => (0..self.ends.len()).min_by_key(|row| self.ends[*row]).unwrap_or(0),
        };
        self.ends[row] = self.ends[row].max(until_ns);
        // There are fewer rows than lines on a screen.
        row as u32
    }

    fn used(&self) -> u32 {
        self.ends.len() as u32
    }
}
