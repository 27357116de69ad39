//! A transaction in the making.

use super::{Change, Span, Tree, Version};
use crate::types::KeyValue;
use bytes::Bytes;
use std::sync::Arc;

/// A transaction in the making: its changes show in the tree at once, and get their revision with [`Self::finish`].
///
/// No key is changed twice in one transaction (`crate::txn` refuses those that would); removing what this transaction
/// removed is no change.
#[derive(Debug)]
#[must_use = "a transaction ends with finish()"]
pub struct Writer<'a> {
    tree: &'a mut Tree,
    changes: Vec<Change>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(tree: &'a mut Tree) -> Self {
        Self { tree, changes: Vec::new() }
    }

    /// The tree with what was done so far.
    pub fn tree(&self) -> &Tree {
        self.tree
    }

    /// The revision that reads within this transaction tell: the coming one as soon as something changed.
    pub fn revision(&self) -> i64 {
        self.tree.revision + i64::from(!self.changes.is_empty())
    }

    /// Sets a key; gives its state before, if it existed.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> Option<KeyValue> {
        let revision = self.tree.revision + 1;
        let mut kv = KeyValue { key, value, create_revision: revision, mod_revision: revision, version: 1, lease };
        if let Some(before) = self.tree.keys.get(&kv.key[..]) {
            // All versions of a key share its bytes.
            kv.key = before.kv.key.clone();
            if !before.removed {
                kv.create_revision = before.kv.create_revision;
                kv.version = before.kv.version + 1;
            }
        }
        self.change(Version::put(kv, self.place()))
    }

    /// Removes every key of `span` that exists; gives their states before, in order of keys.
    pub fn delete(&mut self, span: &Span) -> Vec<KeyValue> {
        let keys: Vec<Bytes> = self.tree.latest(span).map(|version| version.kv.key.clone()).collect();
        let mod_revision = self.tree.revision + 1;
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            let kv = KeyValue { key, mod_revision, ..KeyValue::default() };
            removed.extend(self.change(Version::removed(kv, self.place())));
        }
        removed
    }

    /// Ends the transaction; gives the latest revision, a new one if something changed.
    pub fn finish(self) -> i64 {
        let revision = self.revision();
        if revision > self.tree.revision {
            self.tree.log.insert(revision, self.changes.into());
            self.tree.revision = revision;
        }
        revision
    }

    fn place(&self) -> u32 {
        u32::try_from(self.changes.len()).expect("a transaction cannot hold 2^32 changes in memory")
    }

    fn change(&mut self, version: Arc<Version>) -> Option<KeyValue> {
        self.tree.bytes += version.bytes();
        let before = self.tree.set_latest(&version);
        let prev_kv = before.as_deref().filter(|before| !before.removed).map(|before| before.kv.clone());
        self.changes.push(Change { version, before });
        prev_kv
    }
}
