//! A tiny notation for commands and what comes of them, for tests.
//!
//! ```text
//! put a=1 [lease 7] [prev]                 -> @2, or @3 was 1
//! del a..c [prev]                          -> @4 deleted 2 (a b)
//! get a..c [@3] [limit 1] [keys] [count]   -> @4 count 2: a=1 (c2 m2 v1), b=… [more]
//! if mod(a)=2, value(b)=x then put a=1; get a else del a
//! compact 3 | grant 7 10 | revoke 7 | expire 7 by 4 | note 7 1500 by 4 | clear 7 by 4
//! reads 2 1                                -> member 2 of three announces format 1
//! term 5                                   -> the entries that follow are of this term
//! ```
//! `a..c` is a range, `a..` is every key from `a` on. A refusal reads as its text.

use crate::command::{Action, Checkpoint, Command};
use crate::format::Format;
use crate::state::{Applied, Outcome, StateMachine};
use crate::types::*;
use bytes::Bytes;
use std::fmt::Write;

/// A state machine and the term of its next entries.
pub struct Script {
    pub state: StateMachine,
    pub term: u64,
}

impl Script {
    pub fn new() -> Self {
        Self { state: StateMachine::new(), term: 1 }
    }

    /// Runs every line; what came of each, line by line.
    pub fn run(&mut self, lines: &str) -> String {
        let mut out = String::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let result = self.line(line);
            writeln!(out, "{line} -> {result}").unwrap();
        }
        out
    }

    /// Runs one line.
    pub fn line(&mut self, line: &str) -> String {
        if let Some(term) = line.strip_prefix("term ") {
            self.term = term.parse().unwrap();
            return "ok".to_owned();
        }
        if line.starts_with("get ") {
            return match self.state.tree().range(&range(line)) {
                Ok(response) => show_range(&response),
                Err(kind) => kind.to_string(),
            };
        }
        if let Some((member, format)) = line.strip_prefix("reads ").and_then(|words| words.split_once(' ')) {
            let format = Format::new(format.parse().unwrap()).unwrap();
            let action = Action::Announce { format, members: vec![1, 2, 3] };
            return show(&self.apply_from(member.parse().unwrap(), self.term, action));
        }
        let (term, action) = self.action(line);
        show(&self.apply(term, action))
    }

    /// Applies one action as the next entry.
    pub fn apply(&mut self, decided_in: u64, action: Action) -> Applied {
        self.apply_from(1, decided_in, action)
    }

    fn apply_from(&mut self, origin: u64, term: u64, action: Action) -> Applied {
        let data = Command { origin, request: 1, term, action }.encode(self.state.formats().agreed());
        self.state.apply(self.state.index() + 1, self.term, &data).unwrap().unwrap()
    }

    fn action(&self, line: &str) -> (u64, Action) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        let granted = |id: i64| self.state.leases().get(id).map_or(0, |lease| lease.granted);
        let by = words.iter().position(|word| *word == "by").map_or(self.term, |at| number(at + 1).cast_unsigned());
        let checkpoint = |remaining_ms| {
            Action::LeaseCheckpoint(vec![Checkpoint { id: number(1), granted: granted(number(1)), remaining_ms }])
        };
        let action = match words[0] {
            "put" => Action::Put(put(line)),
            "del" => Action::DeleteRange(delete(line)),
            "if" => Action::Txn(txn(line)),
            "compact" => Action::Compact(CompactRequest { revision: number(1) }),
            "grant" => Action::LeaseGrant(LeaseGrantRequest { id: number(1), ttl_s: number(2) }),
            "revoke" => Action::LeaseRevoke(LeaseRevokeRequest { id: number(1) }),
            "expire" => Action::LeaseExpire { id: number(1), granted: granted(number(1)) },
            "note" => checkpoint(Some(number(2).cast_unsigned())),
            "clear" => checkpoint(None),
            other => panic!("what is {other}?"),
        };
        (by, action)
    }
}

fn span(text: &str) -> (Bytes, Bytes) {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    match text.split_once("..") {
        None => (bytes(text), Bytes::new()),
        Some((from, "")) => (bytes(from), bytes("\0")),
        Some((from, until)) => (bytes(from), bytes(until)),
    }
}

fn after<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    words.find(|found| *found == word)?;
    words.next()
}

fn put(line: &str) -> PutRequest {
    let (key, value) = after(line, "put").unwrap().split_once('=').unwrap();
    let lease = after(line, "lease").map_or(0, |lease| lease.parse().unwrap());
    PutRequest { key: span(key).0, value: span(value).0, lease, prev_kv: line.contains(" prev") }
}

fn delete(line: &str) -> DeleteRangeRequest {
    let (key, range_end) = span(after(line, "del").unwrap());
    DeleteRangeRequest { key, range_end, prev_kv: line.contains(" prev") }
}

fn range(line: &str) -> RangeRequest {
    let (key, range_end) = span(after(line, "get").unwrap());
    RangeRequest {
        key,
        range_end,
        limit: after(line, "limit").map_or(0, |limit| limit.parse().unwrap()),
        revision: line.split_once('@').map_or(0, |(_, rest)| rest.split(' ').next().unwrap().parse().unwrap()),
        serializable: false,
        keys_only: line.contains(" keys"),
        count_only: line.contains(" count"),
    }
}

fn txn(line: &str) -> TxnRequest {
    let (compares, rest) = line.strip_prefix("if").unwrap().split_once("then").unwrap();
    let (success, failure) = rest.split_once("else").unwrap_or((rest, ""));
    let parts = |text: &'static str, of: &str| -> Vec<String> {
        of.split(text).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let ops = |text: &str| parts(";", text).iter().map(|op| request_op(op)).collect();
    TxnRequest {
        compare: parts(",", compares).iter().map(|text| compare(text)).collect(),
        success: ops(success),
        failure: ops(failure),
    }
}

fn request_op(text: &str) -> RequestOp {
    match text.split(' ').next().unwrap() {
        "put" => RequestOp::Put(put(text)),
        "del" => RequestOp::DeleteRange(delete(text)),
        _ => RequestOp::Range(range(text)),
    }
}

fn compare(text: &str) -> Compare {
    let (what, rest) = text.split_once('(').unwrap();
    let (keys, rest) = rest.split_once(')').unwrap();
    let (result, given) = if let Some(given) = rest.strip_prefix("!=") {
        (CompareResult::NotEqual, given)
    } else if let Some(given) = rest.strip_prefix('>') {
        (CompareResult::Greater, given)
    } else if let Some(given) = rest.strip_prefix('<') {
        (CompareResult::Less, given)
    } else {
        (CompareResult::Equal, rest.strip_prefix('=').unwrap())
    };
    let number = || given.parse().unwrap();
    let target = match what {
        "version" => CompareTarget::Version(number()),
        "create" => CompareTarget::CreateRevision(number()),
        "mod" => CompareTarget::ModRevision(number()),
        "lease" => CompareTarget::Lease(number()),
        _ => CompareTarget::Value(span(given).0),
    };
    let (key, range_end) = span(keys);
    Compare { key, range_end, target, result }
}

/// What came of an entry.
pub fn show(applied: &Applied) -> String {
    match &applied.outcome {
        Outcome::Refused(kind) => kind.to_string(),
        Outcome::Noted => format!("@{}", applied.revision),
        Outcome::Stale => "stale".to_owned(),
        Outcome::Response(response) => match response {
            Response::Put(response) => show_put(response),
            Response::DeleteRange(response) => show_delete(response),
            Response::Txn(txn) => {
                let ops = txn.responses.iter().map(|op| match op {
                    ResponseOp::Range(response) => show_range(response),
                    ResponseOp::Put(response) => show_put(response),
                    ResponseOp::DeleteRange(response) => show_delete(response),
                });
                let branch = if txn.succeeded { "then" } else { "else" };
                format!("@{} {branch} [{}]", txn.header.revision, ops.collect::<Vec<_>>().join("; "))
            }
            Response::LeaseGrant(grant) => {
                format!("@{} lease {} for {} s", grant.header.revision, grant.id, grant.ttl_s)
            }
            other => format!("@{} {}", applied.revision, format!("{other:?}").split('(').next().unwrap()),
        },
    }
}

fn show_put(response: &PutResponse) -> String {
    let was = response.prev_kv.as_ref().map(|kv| format!(" was {}", text(&kv.value)));
    format!("@{}{}", response.header.revision, was.unwrap_or_default())
}

fn show_delete(response: &DeleteRangeResponse) -> String {
    let keys: Vec<String> = response.prev_kvs.iter().map(|kv| text(&kv.key)).collect();
    let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(" ")) };
    format!("@{} deleted {}{keys}", response.header.revision, response.deleted)
}

fn show_range(response: &RangeResponse) -> String {
    let kvs: Vec<String> = response.kvs.iter().map(show_kv).collect();
    let more = if response.more { " more" } else { "" };
    format!("@{} count {}: {}{more}", response.header.revision, response.count, kvs.join(", "))
}

/// A key's state.
pub fn show_kv(kv: &KeyValue) -> String {
    let lease = if kv.lease == 0 { String::new() } else { format!(" l{}", kv.lease) };
    let numbers = format!("(c{} m{} v{}{lease})", kv.create_revision, kv.mod_revision, kv.version);
    format!("{}={} {numbers}", text(&kv.key), text(&kv.value))
}

/// An event, as `+a=1@2` or `-a@3`, with `<value` before if it was told.
pub fn show_event(event: &Event) -> String {
    let before = event.prev_kv.as_ref().map_or(String::new(), |kv| format!("<{}", text(&kv.value)));
    let (key, revision) = (text(&event.kv.key), event.kv.mod_revision);
    match event.kind {
        EventKind::Put => format!("+{key}={}@{revision}{before}", text(&event.kv.value)),
        EventKind::Delete => format!("-{key}@{revision}{before}"),
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
