//! The replicated store: WAL, snapshots, MVCC tree, watch, leases, and a client over several members.
//!
//! ```text
//! client ──protocol──▶ server ──command──▶ raft ──committed──▶ state ──┬─▶ mvcc ◀── watch
//!                        ▲                                            └─▶ lease table ──▶ lessor (on the leader)
//!                        └───────────── answer of the origin ◀── Applied
//! ```
//!
//! Everything that decides is synchronous and pure: [`state`] and what it is made of, [`watch`], [`lease::Lessor`].
//! Tasks, sockets, disks and clocks are around it, in the server and in the [`client`].

pub mod client;
pub mod command;
pub mod data_dir;
pub mod format;
pub mod lease;
pub mod mvcc;
pub mod protocol;
#[cfg(test)]
mod script;
pub mod server;
pub mod snapshot_file;
pub mod state;
pub mod txn;
pub mod types;
pub mod wal;
pub mod watch;

pub use client::{Client, ClientConfig, ResumingWatch, Watcher};
pub use format::Format;
pub use types::*;
