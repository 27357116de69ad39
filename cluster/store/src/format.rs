//! Versions of the forms in which entries and snapshots are written, and which of them a cluster may write.
//!
//! Members are replaced by those of a newer program one after the other, and meanwhile both kinds read the same log. So
//! nobody writes what somebody else cannot read: each member announces in the log up to which format it reads, and when
//! the last one has announced a newer one, it is agreed from that entry on.
//!
//! ```text
//! member starts ─▶ Announce ─▶ log ─▶ Formats: agreed = the least that all members have announced; it never falls
//!                                        └─▶ the form of commands proposed, and of snapshots, from then on
//! ```
//!
//! Until then a member may be replaced by one of the older program again. After that the older one stops at the entry by
//! which the newer format was agreed, or refuses the snapshot, having changed nothing. etcd's cluster version is of this
//! kind.
//!
//! **Invariant:** an entry or snapshot of a format comes after an entry by which every member had announced that it
//! reads it (`nobody_writes_what_another_cannot_read`).

use crate::mvcc::mix;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Version of the forms of entries and snapshots. Who reads one reads all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Format(u8);

impl Format {
    /// The first one: a command without a checksum.
    pub const FIRST: Format = Format(1);
    /// A command carries a checksum from the member that proposes it to those that apply it.
    pub const CHECKED: Format = Format(2);
    /// The newest that this build knows.
    pub const LATEST: Format = Format::CHECKED;

    /// The format of this number.
    ///
    /// # Errors
    /// This build does not know it.
    pub fn new(number: u8) -> Result<Format, UnreadFormat> {
        let format = Format(number);
        if format < Self::FIRST {
            return Err(UnreadFormat { found: format, reads: Self::LATEST });
        }
        format.within(Self::LATEST)
    }

    /// The format itself, for one who reads up to format `reads`.
    ///
    /// # Errors
    /// It is a newer one.
    pub fn within(self, reads: Format) -> Result<Format, UnreadFormat> {
        if self > reads { Err(UnreadFormat { found: self, reads }) } else { Ok(self) }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for Format {
    type Err = String;

    /// Its number as text.
    fn from_str(text: &str) -> Result<Self, String> {
        let format = text.parse().ok().and_then(|number| Self::new(number).ok());
        format
            .ok_or_else(|| format!("store format {text} is not known; allowed are {} to {}", Self::FIRST, Self::LATEST))
    }
}

/// Something is written in a format that this member does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has format {found}, and this member reads up to format {reads}")]
pub struct UnreadFormat {
    /// Its format.
    pub found: Format,
    /// Up to which one is read.
    pub reads: Format,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the members have announced, and what they agreed on: a part of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formats {
    agreed: Format,
    /// Up to which format each member reads, as it said last.
    read: BTreeMap<u64, Format>,
}

impl Default for Formats {
    /// Nobody has announced anything.
    fn default() -> Self {
        Self { agreed: Format::FIRST, read: BTreeMap::new() }
    }
}

impl Formats {
    /// The format of what is written now.
    pub fn agreed(&self) -> Format {
        self.agreed
    }

    /// Up to which format the member reads, if it has announced that.
    pub fn read_by(&self, member: u64) -> Option<Format> {
        self.read.get(&member).copied()
    }

    /// The member, of this cluster, announces up to which format it reads.
    pub(crate) fn announced(&mut self, member: u64, format: Format, members: &[u64]) {
        self.read.insert(member, format);
        let all = members.iter().map(|member| self.read_by(*member).unwrap_or(Format::FIRST)).min();
        if let Some(all) = all.filter(|all| *all > self.agreed) {
            mark::sometimes!("newer format agreed");
            self.agreed = all;
        }
    }

    /// The same on members that applied the same entries; 0 if nobody has announced anything.
    pub(crate) fn hash(&self) -> u64 {
        let read = self.read.iter();
        read.fold(u64::from(self.agreed.0 - Format::FIRST.0), |hash, (member, format)| {
            mix(mix(hash, *member), u64::from(format.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_what_another_cannot_read() {
        let mut formats = Formats::default();
        let members = [1, 2, 3];
        let mut after = |member, format| {
            formats.announced(member, format, &members);
            formats.agreed()
        };
        assert_eq!(after(1, Format::CHECKED), Format::FIRST);
        assert_eq!(after(2, Format::CHECKED), Format::FIRST);
        // One goes back to an older program, before the last one has come.
        assert_eq!(after(2, Format::FIRST), Format::FIRST);
        assert_eq!(after(3, Format::CHECKED), Format::FIRST);
        assert_eq!(after(2, Format::CHECKED), Format::CHECKED);
        // Too late: what is in the log stays there.
        assert_eq!(after(2, Format::FIRST), Format::CHECKED);
    }

    #[test]
    fn states_of_different_announcements_have_different_hashes() {
        let mut formats = Formats::default();
        assert_eq!(formats.hash(), 0);
        let mut seen = vec![0];
        for (member, format) in [(1, Format::FIRST), (1, Format::CHECKED), (2, Format::FIRST), (2, Format::CHECKED)] {
            formats.announced(member, format, &[1, 2]);
            assert!(!seen.contains(&formats.hash()), "{formats:?}");
            seen.push(formats.hash());
        }
    }

    #[test]
    fn a_format_that_is_not_known_is_told_by_number() {
        let error = |number| Format::new(number).unwrap_err().to_string();
        assert_eq!(Format::new(Format::LATEST.number()), Ok(Format::LATEST));
        assert_eq!(error(0), "it has format 0, and this member reads up to format 2");
        assert_eq!(error(Format::LATEST.number() + 1), "it has format 3, and this member reads up to format 2");
        assert_eq!("2".parse(), Ok(Format::CHECKED));
        assert_eq!("7".parse::<Format>(), Err("store format 7 is not known; allowed are 1 to 2".to_owned()));
        assert!(Format::CHECKED.within(Format::FIRST).is_err() && Format::FIRST.within(Format::CHECKED).is_ok());
    }
}
