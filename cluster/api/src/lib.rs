//! The object model: Kubernetes' types, the table of resources, and every rule about objects that needs no server.
//!
//! ```text
//! body ──schema──▶ Value ──kinds: defaults, validation──▶ Value ──▶ stored
//!        patch ────▲                                        └──▶ table, selectors
//! ```
//!
//! All of it is pure: no clock, no randomness, no I/O. Whoever needs the time passes it as a [`Timestamp`].

pub mod document;
pub mod kinds;
pub mod names;
pub mod object;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod yaml;

pub use k8s_openapi;
pub use k8s_openapi::ByteString;
pub use k8s_openapi::api::{
    apps, authentication, authorization, autoscaling, coordination, core, discovery, networking, policy, scheduling,
};
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
pub use k8s_openapi::apimachinery::pkg::apis::meta;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub use k8s_openapi::jiff::{SignedDuration, Timestamp};

pub use meta::v1::{ObjectMeta, Time};
pub use object::{Object, ObjectExt, is_node_ready};
pub use quantity::Quantity;
pub use resource::Resource;
pub use status::Status;
