//! The agent's own memory on disk: one [`Record`] per pod.

use crate::pod::Record;
use crate::state_file::{Found, Saver, StateFile};
use mark::sometimes;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The file in the data directory.
const FILE: &str = "pods.json";

/// Records of all pods, in memory and on disk.
pub(super) struct Records {
    saver: Saver,
    inner: Mutex<Inner>,
    /// Told when it changes whether the node can take pods.
    pub(super) node_changed: Notify,
}

struct Inner {
    records: BTreeMap<String, Record>,
    /// Rises with each change.
    version: u64,
    trouble: Option<String>,
}

impl Records {
    /// Opens the records. Damaged ones count as none, as if the disk were new.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) async fn open(data_dir: &str) -> io::Result<Records> {
        let (file, found) = StateFile::open(data_dir, FILE).await?;
        let records = match found {
            Found::Content(content) => serde_json::from_slice(&content).unwrap_or_default(),
            Found::Nothing | Found::Damaged => BTreeMap::new(),
        };
        let inner = Inner { records, version: 0, trouble: None };
        Ok(Records { saver: Saver::new(file), inner: Mutex::new(inner), node_changed: Notify::new() })
    }

    pub(super) fn get(&self, uid: &str) -> Option<Record> {
        self.lock().records.get(uid).cloned()
    }

    pub(super) fn all(&self) -> Vec<Record> {
        self.lock().records.values().cloned().collect()
    }

    /// Puts a record in, if it differs.
    pub(super) fn put(&self, record: Record) {
        let mut inner = self.lock();
        if inner.records.get(&record.uid) != Some(&record) {
            inner.version += 1;
            inner.records.insert(record.uid.clone(), record);
        }
    }

    /// Changes a record that is there.
    pub(super) fn change(&self, uid: &str, change: impl FnOnce(&mut Record)) {
        let mut inner = self.lock();
        if let Some(record) = inner.records.get_mut(uid) {
            change(record);
            inner.version += 1;
        }
    }

    pub(super) fn remove(&self, uid: &str) {
        let mut inner = self.lock();
        if inner.records.remove(uid).is_some() {
            inner.version += 1;
        }
    }

    /// The addresses that pods have, by UID.
    pub(super) fn addresses(&self) -> BTreeMap<String, IpAddr> {
        self.lock().records.iter().filter_map(|(uid, record)| Some((uid.clone(), record.ip?))).collect()
    }

    /// Why records cannot be written, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Returns when all records are durable as they are now.
    ///
    /// # Errors
    /// Those of the disk; what was to be durable may not be.
    pub(super) async fn save(&self) -> io::Result<()> {
        let wanted = self.lock().version;
        let encode = || {
            let inner = self.lock();
            let content = serde_json::to_vec(&inner.records).expect("text keys and plain values have a form in JSON");
            (inner.version, content)
        };
        let saved = self.saver.save(wanted, encode).await;
        let trouble = saved.as_ref().err().map(|error| {
            sometimes!("node agent cannot write its records");
            tracing::error!(%error, "the node agent cannot write its records");
            format!("node agent cannot write its records: {error}")
        });
        if std::mem::replace(&mut self.lock().trouble, trouble.clone()) != trouble {
            self.node_changed.notify_one();
        }
        saved
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
