//! Real time: whoever asks after an answer was given may not be told of a past before it.

use faults::Ns;
use record::Operation;

/// An operation's place in the serial order, and the time within which it took that place.
#[derive(Clone, Copy)]
pub(crate) struct Point<'a> {
    pub(crate) op: &'a Operation,
    pub(crate) revision: i64,
    /// Whether its client was told, so that others can come after it.
    pub(crate) answered: bool,
    /// Whether it made its revision, and so must come later than every other, not only no earlier.
    pub(crate) makes: bool,
}

/// An operation that came before something that had happened when it was asked.
pub(crate) struct Fallen<'a> {
    pub(crate) point: Point<'a>,
    /// The newest revision known when it was asked.
    pub(crate) known: i64,
    /// Who knew it: an operation, or the harness itself.
    pub(crate) by: Option<&'a Operation>,
}

/// Every point that fell behind what was known when it was asked: by an answer given before, or seen before by the
/// harness (time, revision). Answers of the same instant count as concurrent. `O(n log n)`.
pub(crate) fn fallen<'a>(points: &mut [Point<'a>], seen: impl Iterator<Item = (Ns, i64)>) -> Vec<Fallen<'a>> {
    let mut known: Vec<(Ns, i64, Option<&'a Operation>)> =
        points.iter().filter(|p| p.answered).map(|p| (p.op.completed_ns, p.revision, Some(p.op))).collect();
    known.extend(seen.map(|(at_ns, revision)| (at_ns, revision, None)));
    known.sort_by_key(|(at_ns, revision, _)| (*at_ns, *revision));
    points.sort_by_key(|p| p.op.invoked_ns);

    let mut known = known.into_iter().peekable();
    let mut newest = (i64::MIN, None);
    let mut fallen = Vec::new();
    for point in points.iter() {
        while let Some((_, revision, by)) = known.next_if(|(at_ns, ..)| *at_ns < point.op.invoked_ns) {
            if revision > newest.0 {
                newest = (revision, by);
            }
        }
        if point.revision < newest.0 || (point.makes && point.revision == newest.0) {
            fallen.push(Fallen { point: *point, known: newest.0, by: newest.1 });
        }
    }
    fallen
}

impl Fallen<'_> {
    /// Says what is wrong.
    pub(crate) fn text(&self) -> String {
        let op = self.point.op;
        let verb = if self.point.makes { "made" } else { "was told of" };
        let by = match self.by {
            Some(by) => format!("operation {} was told of revision {}", by.id, self.known),
            None => format!("the harness had seen revision {}", self.known),
        };
        format!(
            "operation {} of client {} {verb} revision {}, but was asked after {by}",
            op.id, op.client, self.point.revision
        )
    }
}
