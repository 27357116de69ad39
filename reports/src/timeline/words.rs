//! What marks say.

use crate::escape::{one_line, shortened};
use record::{Answer, Call, Change, Kind, Ns, Operation, Outcome, Refusal, Reply, Request, Strike, UserWrite};

/// Shade of what was answered as asked.
pub(super) const OK: &str = "ok";
/// Shade of what was refused.
pub(super) const REFUSED: &str = "refused";
/// Shade of what was never answered.
pub(super) const UNKNOWN: &str = "unknown";

/// What a shade of something asked or run means, for people.
pub(super) fn outcome(shade: &str) -> &str {
    match shade {
        OK => "answered",
        UNKNOWN => "unanswered",
        other => other,
    }
}

/// Characters of what one mark says.
const MAX_WORDS: usize = 240;

/// A time for people, in seconds.
pub(crate) fn at(ns: Ns) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}

pub(super) fn limited(text: &str) -> String {
    shortened(&one_line(text), MAX_WORDS)
}

/// Families of faults, each with a colour.
pub(super) fn family(kind: Kind) -> &'static str {
    match kind {
        Kind::PartitionOne
        | Kind::PartitionMinority
        | Kind::PartitionMajority
        | Kind::PartitionOneWay
        | Kind::PartitionBridge
        | Kind::PartitionRing
        | Kind::PartitionPrimaries
        | Kind::LinkLoss
        | Kind::LinkDelay
        | Kind::LinkRate
        | Kind::LinkHold
        | Kind::LinkUnclog
        | Kind::NodePartition
        | Kind::NodeLink
        | Kind::Reset
        | Kind::ApiLag
        | Kind::ResponseDrop
        | Kind::WatchCut
        | Kind::EventsWithheld
        | Kind::CredentialsExpired
        | Kind::ApiOverload => "net",
        Kind::Kill
        | Kind::Restart
        | Kind::PowerLoss
        | Kind::Pause
        | Kind::CrashPoint
        | Kind::RollingUpgrade
        | Kind::ConfigChange
        | Kind::ComponentHang
        | Kind::NodeKill
        | Kind::NodeRestart
        | Kind::NodePowerLoss
        | Kind::NodePause
        | Kind::NodeLost
        | Kind::ZoneLost
        | Kind::Frozen => "power",
        Kind::ClockOffset
        | Kind::ClockDrift
        | Kind::ClockSteps
        | Kind::ClockFreeze
        | Kind::ClockJump
        | Kind::NodeClock => "clock",
        Kind::DiskError | Kind::DiskStall | Kind::DiskFull | Kind::NodeDisk => "disk",
        Kind::ContainerCrash | Kind::ContainerSick | Kind::ContainerSlow | Kind::ImagePull => "sick",
    }
}

pub(super) fn strike(strike: &Strike) -> String {
    let hosts = |letter: &str, numbers: &[u32]| -> Vec<String> {
        numbers.iter().map(|number| format!("{letter}{}", number + 1)).collect()
    };
    let struck = [hosts("s", &strike.members), hosts("c", &strike.clients), hosts("n", &strike.nodes)].concat();
    let busy = if strike.busy { "" } else { ", which was idle" };
    let (name, until) = (strike.kind.name(), at(strike.until_ns));
    limited(&format!("{name} strikes {}{busy}, until {until} (fault {})", struck.join(", "), strike.fault))
}

pub(super) fn operation(op: &Operation) -> (&'static str, String) {
    let (shade, came) = match &op.outcome {
        Outcome::Ok { revision, member, reply } => {
            (OK, format!("{} from s{} at revision {revision}", replied(reply), member + 1))
        }
        Outcome::Refused { why } => (REFUSED, format!("refused: {}", refused(why))),
        Outcome::Unknown { why } => (UNKNOWN, format!("no answer: {why}")),
    };
    let took_ms = op.completed_ns.saturating_sub(op.invoked_ns) as f64 / 1e6;
    let text =
        format!("operation {} of client {}: {}; {came}, after {took_ms:.1} ms", op.id, op.client, asked(&op.request));
    (shade, limited(&text))
}

fn asked(request: &Request) -> String {
    match request {
        Request::Read { range, revision } => {
            let until = range.until.as_ref().map_or(String::new(), |until| format!("..{until}"));
            let as_of = if *revision == 0 { String::new() } else { format!(" as of revision {revision}") };
            format!("read {}{until}{as_of}", range.from)
        }
        Request::Txn { compares, success, failure } => {
            let when = if compares.is_empty() { "" } else { "compare and " };
            let changes: Vec<String> = success.iter().chain(failure).map(changed).collect();
            format!("{when}{}", changes.join(", "))
        }
        Request::LeaseGrant { lease, ttl_s } => format!("grant lease {lease} for {ttl_s} s"),
        Request::LeaseKeepAlive { lease } => format!("keep lease {lease} alive"),
        Request::LeaseRevoke { lease } => format!("revoke lease {lease}"),
        Request::Compact { revision } => format!("compact up to revision {revision}"),
    }
}

fn changed(change: &Change) -> String {
    match change {
        Change::Put { key, value, .. } => format!("put {key} = {}", shortened(value, 24)),
        Change::Delete { key } => format!("delete {key}"),
    }
}

fn replied(reply: &Reply) -> String {
    match reply {
        Reply::Read(found) => match found.as_slice() {
            [] => "nothing".to_owned(),
            [one] => format!("{} = {} (revision {})", one.key, shortened(one.value.as_str(), 24), one.mod_revision),
            many => format!("{} keys", many.len()),
        },
        Reply::Txn { succeeded: true } => "done".to_owned(),
        Reply::Txn { succeeded: false } => "compare failed".to_owned(),
        Reply::Lease { ttl_s } => format!("{ttl_s} s"),
        Reply::Done => "done".to_owned(),
    }
}

fn refused(why: &Refusal) -> String {
    match why {
        Refusal::Compacted(first) => format!("compacted, {first} is the first revision left"),
        Refusal::LeaseNotFound => "no such lease".to_owned(),
        Refusal::LeaseExists => "the lease exists".to_owned(),
        Refusal::FutureRevision => "the revision is in the future".to_owned(),
        Refusal::Unavailable(why) => why.clone(),
    }
}

pub(super) fn write(write: &UserWrite) -> (&'static str, String) {
    let (shade, came) = match &write.outcome {
        Answer::Ok { resource_version } => (OK, format!("done, version {resource_version}")),
        Answer::Refused { code, reason } => (REFUSED, format!("refused: {code} {reason}")),
        Answer::Unknown { why } => (UNKNOWN, format!("no answer: {why}")),
    };
    let took_ms = write.completed_ns.saturating_sub(write.invoked_ns) as f64 / 1e6;
    (shade, limited(&format!("a user's {} of {}; {came}, after {took_ms:.1} ms", write.what, write.object)))
}

pub(super) fn call(call: &Call, answered_by: impl Fn(&str) -> String) -> (&'static str, String) {
    let (shade, came) = match &call.answer {
        Ok(uid) => (OK, format!("answered by {}", answered_by(uid))),
        Err(why) => (UNKNOWN, format!("no answer: {why}")),
    };
    let by = if call.by_name { "name" } else { "cluster IP" };
    let took_ms = call.completed_ns.saturating_sub(call.invoked_ns) as f64 / 1e6;
    (shade, limited(&format!("call of {} by its {by}; {came}, after {took_ms:.1} ms", call.service)))
}
