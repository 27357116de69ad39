//! The HTTP API: one generic core over the table of resources, on a replicated store.
//!
//! ```text
//! connection ─▶ handler ─┬─ read ──▶ list, table ◀── pinned tree of the store
//!                        ├─ write ─▶ create, update, delete, eviction ─▶ change ─▶ one transaction
//!                        └─ watch ─▶ watch ◀── hub ◀── news of the store
//! ```
//!
//! Servers have no state of their own: any number of them run at once, each over a member of the store, and a client may
//! ask any. What a write relies on (the object's version, its namespace, that an address is free, that its sender still
//! leads) is compared in the transaction that makes it.
//!
//! Which kinds there are, and what holds for each, is `api`'s; this crate does not know any, but for Services, whose
//! addresses it gives out, and what admission and eviction look at.

mod accept;
mod admission;
mod advertise;
pub mod auth;
mod bootstrap;
mod change;
mod config;
mod core;
mod create;
mod credentials;
mod delete;
mod discovery;
mod event;
mod eviction;
mod expiry;
mod extension;
mod facts;
mod fairness;
mod fence;
mod handler;
mod health;
mod hub;
mod keys;
mod list;
mod memory;
mod model;
mod openapi;
mod query;
mod reply;
mod review;
mod roles;
mod route;
mod server;
mod services;
mod store;
mod stored;
mod table;
mod update;
mod view;
mod watch;

pub use self::core::Core;
pub use self::store::{BoxFuture, Store};
pub use auth::{AllowAll, Attributes, Authenticator, Authorizer, ConnectionInfo, Peer, PeerAuthenticator, Rules, User};
pub use config::{Build, Config, ServiceCidr};
pub use credentials::Credentials;
pub use extension::{Asked, Extension, Told};
pub use fairness::{Flow, Level, LevelView};
pub use handler::handle;
pub use memory::MemoryStore;
pub use reply::Body;
pub use roles::{JOIN, Roles};
pub use server::{ApiServer, StartError, background};
pub use view::View;
