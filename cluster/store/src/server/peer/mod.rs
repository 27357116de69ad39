//! Talking to the other members: one connection in each direction per pair, and one more per snapshot.

mod frame;
mod inbound;
mod link;

pub use frame::{Frame, Hello, MAX_FRAME, Purpose};
pub use inbound::Doorkeeper;
pub use link::{Links, Route, dial};
