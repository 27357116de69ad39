//! C7: a watch is ordered, unique, reliable, atomic, resumable and bookmarkable; too old a start is told, never a gap.
//!
//! All but the last come to one comparison: what arrived between two positions of a watch is exactly what the log has
//! there, in the log's order. A message that tells only half of a revision lacks the rest.

use crate::History;
use crate::findings::Findings;
use crate::log::{Entry, key_of, revision_of};
use record::{Guarantee, KeyRange, Verdict, Watch, WatchEnd, WatchEvent, WatchMessage};
use std::collections::BTreeMap;

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C7);
    let mut watches: Vec<&Watch> = h.record.watches.iter().collect();
    watches.sort_by_key(|w| w.opened_ns);
    let mut came_to: BTreeMap<(u32, &str, Option<&str>), Position> = BTreeMap::new();
    for watch in watches {
        let line = (watch.client, watch.range.from.as_str(), watch.range.until.as_deref());
        if let Some(position) = came_to.get(&line) {
            resumes_where_it_ended(watch, *position, &mut findings);
        }
        came_to.insert(line, follow(h, watch, &mut findings));
    }
    findings.verdict()
}

/// Every change up to this revision has been sent; `None` while a watch "from now on" has not said where it began.
type Position = Option<i64>;

/// A watch taken up again asks for the next revision, so that the whole chain has no gap but one that was told, and
/// nothing twice.
fn resumes_where_it_ended(watch: &Watch, position: Position, findings: &mut Findings) {
    let Some(position) = position else { return };
    findings.tested(1);
    if watch.start_revision != position + 1 {
        findings.violated(
            watch.opened_ns,
            format!("{} was opened after one that had come to revision {position}", named(watch)),
        );
    }
}

/// Follows a watch to its end or its first violation, and returns how far it came. What is compacted it has passed.
fn follow(h: &History<'_>, watch: &Watch, findings: &mut Findings) -> Position {
    let mut position = (watch.start_revision > 0).then(|| watch.start_revision - 1);
    for message in &watch.messages {
        findings.tested(1);
        let began = position.or_else(|| message.events.first().map(|first| revision_of(first) - 1));
        position = Some(message.revision.max(began.unwrap_or(message.revision)));
        if let Some(wrong) = began.and_then(|began| wrong_with(h, &watch.range, began, message)) {
            findings.violated(message.at_ns, format!("{} was sent {wrong}", named(watch)));
            return position;
        }
    }
    let WatchEnd::Compacted(first) = watch.end else {
        return position;
    };
    findings.tested(1);
    let too_old = position.is_none_or(|position| position + 1 < first);
    if !too_old || !h.compacted_by(first, watch.ended_ns) {
        findings.violated(
            watch.ended_ns,
            format!("{} ended as compacted up to {first}, which is not so (it had come to {position:?})", named(watch)),
        );
    }
    Some(first - 1)
}

/// What is wrong with a message that takes a watch on from `position`.
fn wrong_with(h: &History<'_>, range: &KeyRange, position: i64, message: &WatchMessage) -> Option<String> {
    let until = message.revision;
    if until < position {
        return Some(format!("revision {until}, but it had come to {position}"));
    }
    if until > h.log.last() {
        return Some(format!("revision {until}, but the log ends at {}", h.log.last()));
    }
    let entries = &h.log.entries[h.log.after(position)..h.log.after(until)];
    let mut expected = entries.iter().flat_map(|entry| in_range(range, entry));
    let mut sent = message.events.iter();
    loop {
        match (expected.next(), sent.next()) {
            (None, None) => return None,
            (Some(expected), Some(sent)) if expected == sent => {}
            (Some(expected), sent) => {
                let sent = sent.map_or("nothing more".to_owned(), shown);
                return Some(format!("{sent} where {} comes next, up to revision {until}", shown(expected)));
            }
            (None, Some(sent)) => {
                return Some(format!("{} beside all that changed from {position} to {until}", shown(sent)));
            }
        }
    }
}

fn in_range<'a>(range: &KeyRange, entry: &Entry<'a>) -> impl Iterator<Item = &'a WatchEvent> {
    entry.events.iter().filter(move |event| range.contains(key_of(event)))
}

fn named(watch: &Watch) -> String {
    let Watch { client, range, start_revision, opened_ns, .. } = watch;
    let until = range.until.as_deref().map_or(String::new(), |until| format!("..{until}"));
    format!(
        "client {client}'s watch of {}{until} from revision {start_revision}, opened at {opened_ns} ns,",
        range.from
    )
}

fn shown(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Put(kv) => format!("{}={} of revision {}", kv.key, kv.value, kv.mod_revision),
        WatchEvent::Delete { key, mod_revision } => {
            format!("deletion of {key} of revision {mod_revision}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, put, seconds};

    /// Five revisions, the fourth of them of two keys; and a watch of them all.
    fn good() -> Story {
        let mut story = Story::new();
        story.put("a", "a1");
        story.put("b", "b1");
        story.txn(&[], &[put("a", "a2"), put("c", "c1")], &[]);
        story.delete("b");
        story.put("a", "a3");
        story.watch(2, 6);
        story
    }

    fn watch(story: &mut Story) -> &mut Watch {
        story.record.watches.last_mut().expect("the story has a watch")
    }

    #[test]
    fn a_watch_that_is_told_everything_in_order_passes() {
        good().passes(Guarantee::C7, 6);
        Story::new().passes(Guarantee::C7, 0);
    }

    #[test]
    fn a_watch_is_told_only_what_is_in_its_range() {
        let mut story = good();
        watch(&mut story).range = KeyRange { from: "b".into(), until: Some("d".into()) };
        story.flags(Guarantee::C7, "client 1's watch of b..d from revision 2");
        for message in &mut watch(&mut story).messages {
            message.events.retain(|event| key_of(event) != "a");
        }
        story.passes(Guarantee::C7, 6);
    }

    #[test]
    fn a_missing_event_is_flagged() {
        let mut story = good();
        watch(&mut story).messages.remove(2);
        story.flags(Guarantee::C7, "was sent deletion of b of revision 5 where a=a2 of revision 4 comes next");
    }

    #[test]
    fn half_a_revision_is_flagged_also_when_the_rest_follows() {
        let mut story = good();
        let message = &mut watch(&mut story).messages[2];
        let rest = message.events.split_off(1);
        let rest = WatchMessage { events: rest, ..message.clone() };
        watch(&mut story).messages.insert(3, rest);
        story.flags(Guarantee::C7, "was sent nothing more where c=c1 of revision 4 comes next");
    }

    #[test]
    fn an_event_sent_twice_is_flagged() {
        let mut story = good();
        let twice = watch(&mut story).messages[1].clone();
        watch(&mut story).messages.insert(2, twice);
        story.flags(Guarantee::C7, "was sent b=b1 of revision 3 beside all that changed from 3 to 3");
    }

    #[test]
    fn an_event_of_before_the_start_is_flagged() {
        let mut story = good();
        watch(&mut story).start_revision = 3;
        story.flags(Guarantee::C7, "was sent a=a1 of revision 2 beside all that changed from 2 to 2");
    }

    #[test]
    fn events_in_another_order_are_flagged() {
        let mut story = good();
        watch(&mut story).messages[2].events.reverse();
        story.flags(Guarantee::C7, "was sent c=c1 of revision 4 where a=a2 of revision 4 comes next");
        let mut story = good();
        watch(&mut story).messages.swap(0, 1);
        story.flags(Guarantee::C7, "was sent b=b1 of revision 3 where a=a1 of revision 2 comes next");
    }

    #[test]
    fn an_event_that_is_not_in_the_log_is_flagged() {
        let mut story = good();
        if let WatchEvent::Put(kv) = &mut watch(&mut story).messages[4].events[0] {
            kv.value = "other".into();
        }
        story.flags(Guarantee::C7, "was sent a=other of revision 6 where a=a3 of revision 6 comes next");
        let mut story = good();
        story.unsee(6);
        story.flags(Guarantee::C7, "was sent revision 6, but the log ends at 5");
    }

    #[test]
    fn a_bookmark_that_promises_too_much_is_flagged() {
        let mut story = good();
        let bookmark = WatchMessage { at_ns: 0, revision: 4, events: vec![] };
        watch(&mut story).messages.insert(1, bookmark);
        story.flags(Guarantee::C7, "was sent nothing more where b=b1 of revision 3 comes next, up to revision 4");
    }

    #[test]
    fn a_bookmark_that_falls_back_is_flagged() {
        let mut story = good();
        watch(&mut story).messages[5].revision = 5;
        story.flags(Guarantee::C7, "was sent revision 5, but it had come to 6");
        let mut story = good();
        watch(&mut story).start_revision = 9;
        watch(&mut story).messages.drain(..5);
        story.flags(Guarantee::C7, "was sent revision 6, but it had come to 8");
    }

    #[test]
    fn a_watch_is_resumed_at_the_next_revision_however_it_ended() {
        let resumed = |end: WatchEnd, at: i64| {
            let mut story = good();
            story.compact(5);
            let now_ns = story.now();
            let first = watch(&mut story);
            (first.end, first.ended_ns) = (end, now_ns);
            first.messages.truncate(2);
            story.watch(at, 6);
            story
        };
        resumed(WatchEnd::Broken, 4).passes(Guarantee::C7, 7);
        resumed(WatchEnd::Closed, 4).passes(Guarantee::C7, 7);
        resumed(WatchEnd::Broken, 5).flags(
            Guarantee::C7,
            "from revision 5, opened at 1065000000 ns, was opened after one that had come to revision 3",
        );
        resumed(WatchEnd::Closed, 3).flags(Guarantee::C7, "after one that had come to revision 3");
        // What the first watch was told to be compacted is no gap.
        resumed(WatchEnd::Compacted(5), 5).passes(Guarantee::C7, 7);
        resumed(WatchEnd::Compacted(5), 6).flags(Guarantee::C7, "after one that had come to revision 4");
        // Another client's watch begins where it likes.
        let mut story = resumed(WatchEnd::Broken, 5);
        story.record.watches[0].client = 2;
        story.passes(Guarantee::C7, 5);
    }

    #[test]
    fn a_watch_from_now_on_must_be_whole_from_its_first_event() {
        let from_now = || {
            let mut story = good();
            watch(&mut story).start_revision = 0;
            watch(&mut story).messages.drain(..2);
            story
        };
        from_now().passes(Guarantee::C7, 4);
        let mut story = from_now();
        watch(&mut story).messages.remove(1);
        story.flags(Guarantee::C7, "was sent a=a3 of revision 6 where deletion of b of revision 5 comes next");
    }

    #[test]
    fn a_watch_ends_as_compacted_only_if_its_next_revision_is() {
        let compacted = |first: i64, came_to: usize| {
            let mut story = good();
            story.compact(5);
            let now_ns = story.now();
            let watch = watch(&mut story);
            watch.messages.truncate(came_to);
            (watch.end, watch.ended_ns) = (WatchEnd::Compacted(first), now_ns + seconds(1));
            story
        };
        compacted(5, 0).passes(Guarantee::C7, 1);
        compacted(5, 2).passes(Guarantee::C7, 3);
        // It had come to revision 4, so that the next one is left.
        compacted(5, 3).flags(Guarantee::C7, "ended as compacted up to 5, which is not so (it had come to Some(4))");
        compacted(6, 0).flags(Guarantee::C7, "ended as compacted up to 6, which is not so");
        let mut early = compacted(5, 0);
        watch(&mut early).ended_ns = 0;
        early.flags(Guarantee::C7, "ended as compacted up to 5, which is not so");
    }
}
