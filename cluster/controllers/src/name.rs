//! Names that controllers choose for what they create.
//!
//! Nothing here is random, and no name is left to the API server's `generateName`: a create whose outcome is unknown is
//! repeated under the same name until it is definite, so that it happens exactly once.
//!
//! The suffix of a pod's name is a hash of the owner's UID, of the revision up to which the deciding process knows the
//! objects of the kind, and of the index within the plan. What that gives:
//!
//! - Within a plan, and against everything in the cache, terminating objects included, names are distinct: whatever is
//!   taken is skipped.
//! - A later plan of the same owner sees a later revision, because it runs only when the creates of the one before are
//!   in the cache; so it draws other names even if what was created has been deleted since and its name is free again.
//!   After a change of leader that holds as well: revisions are the store's own and only grow. An old name can come
//!   back by a collision of the hash alone: one in fourteen million, and then after its pod has gone from the store.
//! - The driver takes `AlreadyExists` by an object of the same owner as its own create having been done. No other pod
//!   of the owner can be in the way: those that its leader made are in the cache, or gone; those of former leaders
//!   were listed after their epoch ended. What remains is a pod that somebody else made by hand with this owner's
//!   reference: it is a replica all the same, and counting it is right.
//! - `AlreadyExists` by anybody else's object fails the plan; the next one sees it in the cache and skips the name.

use api::ObjectMeta;

/// Upstream's alphabet for generated names: no vowels and nothing that looks like another, so that no words come out.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Characters of a suffix, as upstream's `generateName`.
const SUFFIX_LENGTH: usize = 5;

/// The longest name before its suffix: a name is at most a DNS label, of 63 characters.
const BASE_LENGTH: usize = 63 - SUFFIX_LENGTH;

/// A hash of texts that is the same on every machine and in every version: FNV-1a over each text and its length, then
/// mixed so that all bits depend on all.
pub fn hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut take = |byte: u8| {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    };
    for part in parts {
        part.bytes().for_each(&mut take);
        (part.len() as u64).to_le_bytes().into_iter().for_each(&mut take);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// `hash` as text of the safe alphabet, of `length` characters.
pub fn encode(mut hash: u64, length: usize) -> String {
    let base = ALPHABET.len() as u64;
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        // The remainder is below 27.
        text.push(char::from(ALPHABET[(hash % base) as usize]));
        hash /= base;
    }
    text
}

/// A source of names `<base>-<suffix>` for one plan of one owner.
pub struct Names<'a> {
    base: &'a str,
    owner_uid: &'a str,
    revision: String,
    next: u64,
}

impl<'a> Names<'a> {
    /// For what `base` names, the owner of `owner_uid`; `revision` is that up to which the objects of the kind are known.
    pub fn new(base: &'a str, owner_uid: &'a str, revision: i64) -> Self {
        let mut end = base.len().min(BASE_LENGTH - 1);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        Self { base: &base[..end], owner_uid, revision: revision.to_string(), next: 0 }
    }

    /// Gives an object the next name that is not taken, and its `generateName`, as if the API server had chosen it: tools
    /// tell the replicas of an owner by that.
    pub fn assign(&mut self, metadata: &mut ObjectMeta, taken: impl Fn(&str) -> bool) {
        metadata.name = Some(self.next(taken));
        metadata.generate_name = Some(format!("{}-", self.base));
    }

    fn next(&mut self, taken: impl Fn(&str) -> bool) -> String {
        loop {
            let index = self.next.to_string();
            self.next += 1;
            let suffix = encode(hash(&[self.owner_uid, &self.revision, &index]), SUFFIX_LENGTH);
            let name = format!("{}-{suffix}", self.base);
            // Ends: a cluster holds far fewer pods than there are suffixes, and the hash goes through all of them.
            if !taken(&name) {
                return name;
            }
            mark::sometimes!("a generated name was taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::collections::BTreeSet;

    fn three(base: &str, uid: &str, revision: i64) -> String {
        let mut names = Names::new(base, uid, revision);
        (0..3).map(|_| names.next(|_| false)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_are_the_same_on_every_machine_and_differ_by_owner_and_revision() {
        expect!["web-58vr2 web-pnqnk web-lv2xw"].assert_eq(&three("web", "uid-1", 7));
        assert_ne!(three("web", "uid-1", 7), three("web", "uid-1", 8));
        assert_ne!(three("web", "uid-1", 7), three("web", "uid-2", 7));
    }

    #[test]
    fn ten_thousand_names_in_a_row_hardly_collide() {
        let mut names = Names::new("web", "uid-1", 7);
        let distinct: BTreeSet<String> = (0..10_000).map(|_| names.next(|_| false)).collect();
        // By the birthday bound three or four are expected to meet.
        assert!(distinct.len() > 9_985, "{}", distinct.len());
    }

    #[test]
    fn an_object_tells_what_its_name_was_made_of() {
        let mut metadata = ObjectMeta::default();
        Names::new("web", "uid-1", 7).assign(&mut metadata, |_| false);
        let names = (metadata.generate_name.as_deref(), metadata.name.as_deref());
        assert_eq!(names, (Some("web-"), Some("web-58vr2")));
    }

    #[test]
    fn a_taken_name_is_skipped_and_a_long_base_is_cut() {
        let mut names = Names::new("web", "uid-1", 7);
        let first = names.next(|_| false);
        assert_ne!(Names::new("web", "uid-1", 7).next(|name| name == first), first);
        assert_eq!(Names::new(&"x".repeat(80), "uid-1", 7).next(|_| false).len(), 63);
    }
}
