//! What a member is told at its start, and the errors of a start.

use super::StartError;
use crate::format::Format;
use crate::wal::WalConfig;
use rt::tls::{ClientTls, ServerTls, Subject};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Members that a cluster may have. A leader sends every entry to every member; etcd advises no more than seven too.
pub const MAX_MEMBERS: usize = 7;

/// Longest that a bookmark may be asked to wait: a client gives a watch up after a few of them are missed.
const MAX_PROGRESS_INTERVAL: Duration = Duration::from_secs(60);

/// Smallest size of the log's files: the store's own entries fit in.
const MIN_SEGMENT_BYTES: u32 = 16 * 1024;

/// How one member of the store runs.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// For logs.
    pub name: String,
    /// This member's Raft id, one of `members`.
    pub id: u64,
    /// Every member of the cluster, this one included, by Raft id (from 1).
    pub members: BTreeMap<u64, MemberAddress>,
    /// Where this member listens for the others: `host:port`. The only member of its cluster may listen nowhere.
    pub listen_peer: Option<String>,
    /// Where this member listens for clients: `host:port`; nowhere if all of them are in its own process.
    pub listen_client: Option<String>,
    /// How connections among members are secured: not at all by default.
    pub peer_tls: PeerTls,
    /// The directory with this member's log and snapshots, its alone. Created if absent.
    pub data_dir: String,
    /// A snapshot is written each time this many entries were applied since the last one.
    pub snapshot_entries: u64,
    /// Entries before a snapshot that stay in the log, so that a follower a little behind needs no snapshot.
    pub catch_up_entries: u64,
    /// Size of the log's files, in bytes: a multiple of 8, and every request must fit into one.
    pub segment_bytes: u32,
    /// Size of the keys and values (with their kept history), in bytes, above which nothing is written any more except
    /// what frees space.
    pub quota_bytes: u64,
    /// A watch that asked for bookmarks is sent one after this much silence.
    pub progress_interval: Duration,
    /// Up to which format this member reads what others write. Less than the latest keeps the way back to an older program
    /// open; see [`crate::format`].
    pub format: Format,
}

/// How connections among members are secured. All members need the same.
#[derive(Clone, Debug, Default)]
pub struct PeerTls {
    /// For those that come.
    pub server: ServerTls,
    /// For those that go.
    pub client: ClientTls,
    /// Who comes must show a certificate of this organization; not looked at where connections are not secured.
    pub organization: String,
}

impl PeerTls {
    /// Whether whoever is at the other end of a connection that came may be a member.
    pub(crate) fn admits(&self, subject: Option<&Subject>) -> bool {
        let is_member = |subject: &Subject| subject.organizations.contains(&self.organization);
        self.server.is_plain() || subject.is_some_and(is_member)
    }
}

/// Where others reach a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAddress {
    /// For members: `host:port`.
    pub peer: String,
    /// For clients: `host:port`.
    pub client: String,
}

impl MemberConfig {
    /// A member that listens at its own address in `members`, with everything else at its default.
    pub fn new(name: &str, id: u64, members: BTreeMap<u64, MemberAddress>, data_dir: &str) -> Self {
        let own = members.get(&id).cloned();
        Self {
            name: name.to_owned(),
            id,
            members,
            listen_peer: own.as_ref().map(|own| own.peer.clone()),
            listen_client: own.map(|own| own.client),
            peer_tls: PeerTls::default(),
            data_dir: data_dir.to_owned(),
            snapshot_entries: 10_000,
            catch_up_entries: 5_000,
            segment_bytes: WalConfig::DEFAULT_SEGMENT_BYTES,
            quota_bytes: 8 << 30,
            progress_interval: Duration::from_secs(1),
            format: Format::LATEST,
        }
    }

    /// Checks what can be checked without touching anything.
    ///
    /// # Errors
    /// [`StartError::Config`], in one sentence that says what to change.
    pub fn validate(&self) -> Result<(), StartError> {
        let wrong = |text: String| Err(StartError::Config(text));
        if self.members.is_empty() || self.members.len() > MAX_MEMBERS {
            return wrong(format!("a cluster has 1 to {MAX_MEMBERS} members, but {} are named", self.members.len()));
        }
        if self.members.contains_key(&0) {
            return wrong("member ids begin at 1, but a member has id 0".to_owned());
        }
        if !self.members.contains_key(&self.id) {
            return wrong(format!("member {} (id {}) is not among the members named", self.name, self.id));
        }
        let mut seen = BTreeSet::new();
        for (id, address) in &self.members {
            for address in [&address.peer, &address.client] {
                check_address(address).map_err(|why| StartError::Config(format!("member {id}: {why}")))?;
                if !seen.insert(address) {
                    return wrong(format!("the address {address} is given to two members or for two purposes"));
                }
            }
        }
        for address in [&self.listen_peer, &self.listen_client].into_iter().flatten() {
            check_address(address).map_err(StartError::Config)?;
        }
        match &self.listen_peer {
            Some(peer) if self.listen_client.as_ref() == Some(peer) => {
                return wrong(format!("members and clients cannot both be listened for at {peer}"));
            }
            None if self.members.len() > 1 => {
                return wrong(format!("member {} must listen somewhere for the others", self.name));
            }
            Some(_) | None => {}
        }
        if self.data_dir.is_empty() {
            return wrong("the data directory's name is empty".to_owned());
        }
        if self.snapshot_entries == 0 {
            return wrong("a snapshot after every 0 entries is impossible; choose at least 1".to_owned());
        }
        if self.segment_bytes < MIN_SEGMENT_BYTES || !self.segment_bytes.is_multiple_of(8) {
            return wrong(format!("the log's files must have a multiple of 8 bytes, and at least {MIN_SEGMENT_BYTES}"));
        }
        if self.progress_interval.is_zero() || self.progress_interval > MAX_PROGRESS_INTERVAL {
            return wrong(format!("the interval of bookmarks must be above 0 and at most {MAX_PROGRESS_INTERVAL:?}"));
        }
        Ok(())
    }

    /// Names the cluster by its first members and their addresses, so that a data directory or a connection of another
    /// cluster is refused. FNV-1a, because it must stay the same for ever.
    pub fn cluster_id(&self) -> u64 {
        let text: String = self.members.iter().map(|(id, address)| format!("{id}={}\n", address.peer)).collect();
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// Whether `address` has the form `host:port`.
fn check_address(address: &str) -> Result<(), String> {
    let form = || format!("'{address}' is no address of the form host:port");
    let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(form());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn three() -> MemberConfig {
        let member = |n: u64| (n, MemberAddress { peer: format!("s{n}:2380"), client: format!("s{n}:2379") });
        MemberConfig::new("s1", 1, (1..=3).map(member).collect(), "data")
    }

    fn check(change: impl FnOnce(&mut MemberConfig), expected: Expect) {
        let mut config = three();
        change(&mut config);
        expected.assert_eq(&config.validate().map_or_else(|error| error.to_string(), |()| "fine".to_owned()));
    }

    #[test]
    fn a_wrong_setting_is_refused_in_one_sentence() {
        check(|_| {}, expect!["fine"]);
        check(|c| c.members.clear(), expect!["a cluster has 1 to 7 members, but 0 are named"]);
        check(|c| c.id = 4, expect!["member s1 (id 4) is not among the members named"]);
        check(|c| c.listen_peer = Some("s1".to_owned()), expect!["'s1' is no address of the form host:port"]);
        check(|c| c.listen_peer = None, expect!["member s1 must listen somewhere for the others"]);
        check(
            |c| c.members.get_mut(&2).unwrap().client = "s2:99999".to_owned(),
            expect!["member 2: 's2:99999' is no address of the form host:port"],
        );
        check(
            |c| c.members.get_mut(&2).unwrap().client = "s1:2380".to_owned(),
            expect!["the address s1:2380 is given to two members or for two purposes"],
        );
        check(|c| c.snapshot_entries = 0, expect!["a snapshot after every 0 entries is impossible; choose at least 1"]);
    }

    #[test]
    fn clusters_of_other_members_have_other_ids() {
        let mut other = three();
        other.members.get_mut(&3).unwrap().peer = "s4:2380".to_owned();
        assert_ne!(three().cluster_id(), other.cluster_id());
        other = three();
        other.name = "s2".to_owned();
        other.id = 2;
        assert_eq!(three().cluster_id(), other.cluster_id(), "all members of one cluster agree on its id");
    }
}
