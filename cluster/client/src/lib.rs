//! What client-go is to Go: a typed client over several API servers, informer caches, a work queue, the one driver that
//! runs every controller, and leader election.
//!
//! ```text
//! API servers ──list, watch──▶ informers ──▶ Caches ──▶ queue ──▶ Controller::reconcile ──▶ Plan
//!      ▲                                        ▲ barrier: own writes are definite and seen     │
//!      └──────────────────────── driver: performs the writes, in order, one by one ◀────────────┘
//! ```

pub mod backoff;
mod barrier;
pub mod cache;
mod changes;
pub mod client;
pub mod clock;
mod codec;
pub mod controller;
pub mod driver;
mod election;
mod endpoints;
pub mod error;
pub mod events;
mod held;
pub mod informer;
mod known;
pub mod leader;
pub mod options;
pub mod plan;
mod queue;
mod recent;
mod transport;
pub mod watch;
mod wire;
pub mod write;

pub use backoff::Backoff;
pub use cache::Caches;
pub use changes::Change;
pub use client::{Client, ClientConfig, FENCE_HEADER, List, Token, Written};
pub use clock::Clock;
pub use controller::{Controller, Key, Now, Row, Watch};
pub use driver::{DriverConfig, DriverHandle, DriverView, QueueView, run_controllers};
pub use error::Error;
pub use events::Recorder;
pub use http::Method;
pub use informer::{Following, FollowingView, Informers, KindView, Subscription};
pub use leader::{Elector, Fence, LeaseConfig, Term};
pub use options::{DeleteOptions, ListOptions, WatchOptions};
pub use plan::{Note, Plan, Waiting};
pub use transport::Answer as Response;
pub use watch::{WatchEvent, WatchStream};
pub use wire::{JSON, MERGE_PATCH};
pub use write::{Propagation, Verb, Write};
