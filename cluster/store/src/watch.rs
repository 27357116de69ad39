//! What a watcher is sent next. Nothing is buffered per watcher: each pulls from the tree's history, from where it is.
//!
//! **Invariant:** a watcher is sent every change of its keys from its first revision on, each once and in order, all of
//! one revision together, or it is cancelled (`any_pulls_give_exactly_the_history` and
//! `overtaken_watch_is_cancelled_not_skipped`, C7).

use crate::mvcc::{FIRST_REVISION, Span, Tree};
use crate::types::{Event, Header, WatchRequest, WatchResponse};

/// Events in one batch, unless one revision has more, which is never split: etcd's bound of revisions per message.
pub const MAX_BATCH_EVENTS: usize = 1000;
/// Bytes of keys and values in one batch, unless one revision has more: keeps a message well below a frame's bound and
/// the time to encode it below a millisecond or two.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Revisions looked at in one pull, so that a watcher far behind on quiet keys lets others have their turn.
pub const MAX_SCANNED: usize = 10_000;

/// Where a watcher is.
#[derive(Clone, Debug)]
pub struct Cursor {
    span: Span,
    prev_kv: bool,
    next: i64,
}

/// The next of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Events, never none. `revision`: all up to here are sent with these. More may be there already.
    Events {
        /// See above.
        revision: i64,
        /// In order.
        events: Vec<Event>,
    },
    /// Nothing of the watcher's keys among the revisions looked at, and more to look at: pull again.
    More,
    /// The watcher is up to date: all up to `revision`, the tree's latest, are sent. This is what a bookmark tells.
    UpToDate {
        /// See above.
        revision: i64,
    },
    /// Revisions that the watcher had still to be sent are compacted; this one is the first that is left. It is over.
    Overtaken {
        /// See above.
        compact_revision: i64,
    },
}

impl Cursor {
    /// Begins a watch at a member whose state is `tree`.
    pub fn open(request: &WatchRequest, tree: &Tree) -> Self {
        let next = if request.start_revision > 0 { request.start_revision } else { tree.revision() + 1 };
        let span = Span::new(request.key.clone(), request.range_end.clone());
        Self { span, prev_kv: request.prev_kv, next }
    }

    /// The first revision of which the watcher may still be sent something.
    pub fn next_revision(&self) -> i64 {
        self.next
    }

    /// The next batch from `tree`, which is never older than at the last pull.
    pub fn pull(&mut self, tree: &Tree) -> Batch {
        if self.next > tree.revision() {
            return Batch::UpToDate { revision: tree.revision() };
        }
        if self.next < tree.compacted() {
            mark::sometimes!("watch overtaken by compaction");
            return Batch::Overtaken { compact_revision: tree.compacted() };
        }
        let mut events = Vec::new();
        let mut bytes = 0;
        // The first revision, an empty store's, has no changes.
        self.next = self.next.max(FIRST_REVISION + 1);
        for (scanned, (revision, changes)) in tree.changes(self.next).enumerate() {
            if scanned == MAX_SCANNED || events.len() >= MAX_BATCH_EVENTS || bytes >= MAX_BATCH_BYTES {
                break;
            }
            for change in changes.iter().filter(|change| self.span.contains(&change.version.kv.key)) {
                let event = change.event(self.prev_kv);
                bytes += size(&event);
                events.push(event);
            }
            self.next = revision + 1;
        }
        let revision = self.next - 1;
        if !events.is_empty() {
            Batch::Events { revision, events }
        } else if self.next > tree.revision() {
            Batch::UpToDate { revision }
        } else {
            Batch::More
        }
    }
}

impl Batch {
    /// As a message, where it is one.
    pub fn into_response(self, header: Header) -> Option<WatchResponse> {
        match self {
            Batch::Events { revision, events } => Some(WatchResponse::Events { header, revision, events }),
            Batch::Overtaken { compact_revision } => Some(WatchResponse::Canceled {
                compact_revision,
                reason: format!("history before revision {compact_revision} is compacted"),
            }),
            Batch::More | Batch::UpToDate { .. } => None,
        }
    }
}

fn size(event: &Event) -> usize {
    let kv = |kv: &crate::types::KeyValue| kv.key.len() + kv.value.len();
    kv(&event.kv) + event.prev_kv.as_ref().map_or(0, kv)
}

/// All changes of all keys from revision `from` on, at most `max` revisions of them: for views.
pub fn changes(tree: &Tree, from: i64, max: usize) -> Vec<(i64, Vec<Event>)> {
    let all = tree.changes(from).take(max);
    all.map(|(revision, changes)| (revision, changes.iter().map(|change| change.event(false)).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Script, show_event};
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn watch(key: &'static str, range_end: &'static str, start_revision: i64) -> WatchRequest {
        let (key, range_end) = (key.into(), range_end.into());
        WatchRequest { key, range_end, start_revision, progress_notify: false, prev_kv: true }
    }

    fn show(batch: &Batch) -> String {
        match batch {
            Batch::Events { revision, events } => {
                format!("{} | {revision}", events.iter().map(show_event).collect::<Vec<_>>().join(" "))
            }
            Batch::More => "more".to_owned(),
            Batch::UpToDate { revision } => format!("up to date | {revision}"),
            Batch::Overtaken { compact_revision } => format!("overtaken, {compact_revision} is left"),
        }
    }

    /// Pulls after each line of the script, until nothing comes.
    fn check(request: &WatchRequest, opened_after: &str, lines: &str, expected: Expect) {
        let mut script = Script::new();
        script.run(opened_after);
        let mut cursor = Cursor::open(request, script.state.tree());
        let mut out = String::new();
        for line in std::iter::once("(open)").chain(lines.lines().map(str::trim)) {
            if line != "(open)" {
                script.run(line);
            }
            out.push_str(&format!("{line}:"));
            loop {
                let batch = cursor.pull(script.state.tree());
                out.push_str(&format!(" {};", show(&batch)));
                if !matches!(batch, Batch::Events { .. } | Batch::More) {
                    break;
                }
            }
            out.push('\n');
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn from_now_means_after_what_is_there() {
        check(
            &watch("a", "c", 0),
            "put a=1",
            "put a=2
             put c=1
             del a..
             if then put b=1; put a=3; put x=1",
            expect![[r#"
                (open): up to date | 2;
                put a=2: +a=2@3<1 | 3; up to date | 3;
                put c=1: up to date | 4;
                del a..: -a@5<2 | 5; up to date | 5;
                if then put b=1; put a=3; put x=1: +b=1@6 +a=3@6 | 6; up to date | 6;
            "#]],
        );
    }

    #[test]
    fn a_start_in_the_past_gives_what_was_missed_and_one_in_the_future_nothing_older() {
        check(
            &watch("a", "", 3),
            "put a=1\nput a=2\nput b=1\nput a=3",
            "put a=4",
            expect![[r#"
                (open): +a=2@3<1 +a=3@5<2 | 5; up to date | 5;
                put a=4: +a=4@6<3 | 6; up to date | 6;
            "#]],
        );
        check(
            &watch("a", "", 5),
            "put a=1",
            "put a=2\nput a=3\nput a=4",
            expect![[r#"
                (open): up to date | 2;
                put a=2: up to date | 3;
                put a=3: up to date | 4;
                put a=4: +a=4@5<3 | 5; up to date | 5;
            "#]],
        );
    }

    #[test]
    fn the_compacted_revision_itself_is_still_told() {
        check(
            &watch("a", "\0", 4),
            "put a=1\nput b=1\nif then del a; put b=2\nput a=2\ncompact 4",
            "compact 5",
            expect![[r#"
                (open): -a@4 +b=2@4 +a=2@5 | 5; up to date | 5;
                compact 5: up to date | 5;
            "#]],
        );
    }

    #[test]
    fn overtaken_watch_is_cancelled_not_skipped() {
        check(
            &watch("a", "", 3),
            "put a=1\nput a=2\nput a=3\ncompact 4",
            "",
            expect![[r#"
                (open): overtaken, 4 is left;
            "#]],
        );
        let mut script = Script::new();
        let mut cursor = Cursor::open(&watch("a", "", 0), script.state.tree());
        script.run("put a=1");
        cursor.pull(script.state.tree());
        // Even where none of its keys changed in what is compacted: it cannot know that.
        script.run("put b=1\nput b=2\ncompact 4");
        assert_eq!(show(&cursor.pull(script.state.tree())), "overtaken, 4 is left");
    }

    #[test]
    fn a_batch_ends_with_a_whole_revision() {
        let mut tree = Tree::new();
        for _ in 0..3 {
            let mut writer = tree.write();
            for key in 0..MAX_BATCH_EVENTS * 2 / 3 {
                writer.put(format!("k{key:04}").into(), "v".into(), 0);
            }
            writer.finish();
        }
        let mut cursor = Cursor::open(&watch("k", "l", 1), &tree);
        let mut sizes = Vec::new();
        while let Batch::Events { revision, events } = cursor.pull(&tree) {
            sizes.push((revision, events.len()));
        }
        assert_eq!(sizes, [(3, MAX_BATCH_EVENTS * 2 / 3 * 2), (4, MAX_BATCH_EVENTS * 2 / 3)]);
    }

    #[test]
    fn a_watcher_of_quiet_keys_lets_others_have_their_turn() {
        let mut tree = Tree::new();
        for _ in 0..=MAX_SCANNED {
            let mut writer = tree.write();
            writer.put("busy".into(), "v".into(), 0);
            writer.finish();
        }
        let mut cursor = Cursor::open(&watch("quiet", "", 1), &tree);
        assert_eq!(cursor.pull(&tree), Batch::More);
        assert_eq!(cursor.pull(&tree), Batch::UpToDate { revision: tree.revision() });
    }

    proptest! {
        #[test]
        fn any_pulls_give_exactly_the_history(
            writes in prop::collection::vec((0..4_u8, any::<bool>()), 1..60),
            pulls in prop::collection::vec(any::<bool>(), 60),
            start in 1..70_i64,
        ) {
            let mut tree = Tree::new();
            let mut cursor = Cursor::open(&watch("b", "d", start), &tree);
            let mut told = Vec::new();
            let mut drain = |tree: &Tree| loop {
                match cursor.pull(tree) {
                    Batch::Events { revision, events } => {
                        assert!(events.iter().all(|event| event.kv.mod_revision <= revision));
                        told.extend(events);
                    }
                    Batch::More => {}
                    Batch::UpToDate { revision } => break assert_eq!(revision, tree.revision()),
                    Batch::Overtaken { .. } => unreachable!("nothing is compacted"),
                }
            };
            for ((key, remove), pull) in writes.into_iter().zip(pulls) {
                let key = bytes::Bytes::from(vec![b'a' + key]);
                let mut writer = tree.write();
                if remove {
                    writer.delete(&Span::Key(key));
                } else {
                    writer.put(key, "v".into(), 0);
                }
                writer.finish();
                if pull {
                    drain(&tree);
                }
            }
            drain(&tree);
            let all = changes(&tree, start, usize::MAX).into_iter().flat_map(|(_, events)| events);
            let expected: Vec<_> = all.filter(|event| (b"b"..b"d").contains(&&[event.kv.key[0]])).collect();
            told.iter_mut().for_each(|event| event.prev_kv = None);
            prop_assert_eq!(told, expected);
        }
    }
}
