//! What happens on the network: the kinds of events, and how they are named.

/// One end of a connection: 0 is who connected, 1 who accepted. A pipe has the number of the end that writes to it.
pub(super) type Side = usize;
/// The end that connected.
pub(super) const CLIENT: Side = 0;
/// The end that listened.
pub(super) const SERVER: Side = 1;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The client's wish to connect reaches the server's host.
    Syn,
    /// The server's agreement reaches the client's host.
    SynAck,
    /// Bytes of a pipe reach the reader's host. The client's last step of the handshake and the end of a stream are
    /// such bytes too.
    Segment,
    /// A reset reaches the end `side`.
    Reset,
    /// The writer of pipe `side` tries again what was lost.
    Retry,
    /// A blocked writer of pipe `side` learns what was read.
    Writable,
    /// An acknowledgement for pipe `side`: never an event of its own, but it can wait in a link that is held.
    Ack,
}

/// A packet that waits in a held link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) connection: u32,
    pub(super) generation: u32,
    pub(super) side: Side,
}

/// An entry of the network's agenda.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) side: u8,
    pub(super) connection: u32,
    /// The connection's when this was entered: its number is used again.
    pub(super) generation: u32,
    /// Of the retransmission timer that a [`Kind::Retry`] belongs to; others have 0.
    pub(super) timer: u32,
}
