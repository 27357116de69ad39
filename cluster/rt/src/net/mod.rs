//! Network: streams, listeners and names, real and simulated.
//!
//! A program sees TCP as Linux has it, from either backend. `sim` says what the simulated one keeps of it. Addresses
//! are text, `host:port` or `ip:port`, and names are looked up at each connect, for a host may come back elsewhere.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp;

mod redirect;
#[cfg(madsim)]
pub(crate) mod sim;

pub use redirect::{Backends, Names, Redirects, add_address, remove_address, set_names, set_redirects};

/// A connection: bytes both ways, in order. Dropping it closes it; what was written still travels.
pub struct TcpStream(Stream);

enum Stream {
    Real(tokio::net::TcpStream),
    #[cfg(madsim)]
    Sim(sim::Stream),
}

impl TcpStream {
    /// Connects to `address`, `host:port` or `ip:port`, trying what a name stands for one after the other.
    ///
    /// A host that is dead or cut off is silent: bound the wait with [`timeout`](crate::time::timeout).
    ///
    /// # Errors
    /// `ConnectionRefused` when nobody listens there, `TimedOut` after about two minutes of silence, `InvalidInput`
    /// for what is no address, others for a name that is not known. All are worth another attempt later.
    pub async fn connect(address: &str) -> io::Result<TcpStream> {
        #[cfg(madsim)]
        if let Some(node) = crate::context::current() {
            return Ok(TcpStream(Stream::Sim(sim::Stream::connect(&node, address).await?)));
        }
        Ok(TcpStream(Stream::Real(tokio::net::TcpStream::connect(address).await?)))
    }

    /// The address at this end.
    ///
    /// # Errors
    /// When the system has forgotten the connection.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Real(stream) => stream.local_addr(),
            #[cfg(madsim)]
            Stream::Sim(stream) => stream.local_addr(),
        }
    }

    /// The address at the other end.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Real(stream) => stream.peer_addr(),
            #[cfg(madsim)]
            Stream::Sim(stream) => stream.peer_addr(),
        }
    }

    /// Whether small writes leave at once. The simulator's always do.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.0 {
            Stream::Real(stream) => stream.set_nodelay(nodelay),
            #[cfg(madsim)]
            Stream::Sim(_) => Ok(()),
        }
    }

    /// The two directions, for two tasks. Dropping the writing half ends the stream for the other side's reader.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        match self.0 {
            Stream::Real(stream) => {
                let (read, write) = stream.into_split();
                (OwnedReadHalf(ReadHalf::Real(read)), OwnedWriteHalf(WriteHalf::Real(write)))
            }
            #[cfg(madsim)]
            Stream::Sim(stream) => {
                let (read, write) = stream.into_split();
                (OwnedReadHalf(ReadHalf::Sim(read)), OwnedWriteHalf(WriteHalf::Sim(write)))
            }
        }
    }
}

/// The reading direction of a [`TcpStream`].
pub struct OwnedReadHalf(ReadHalf);

enum ReadHalf {
    Real(tcp::OwnedReadHalf),
    #[cfg(madsim)]
    Sim(sim::ReadHalf),
}

/// The writing direction of a [`TcpStream`].
pub struct OwnedWriteHalf(WriteHalf);

enum WriteHalf {
    Real(tcp::OwnedWriteHalf),
    #[cfg(madsim)]
    Sim(sim::WriteHalf),
}

/// A place where others can connect to.
pub struct TcpListener(Listener);

enum Listener {
    Real(tokio::net::TcpListener),
    #[cfg(madsim)]
    Sim(sim::Listener),
}

impl TcpListener {
    /// Listens at `address`, `ip:port` or `host:port`; port 0 takes any that is free. A port whose last listener is
    /// gone can be taken again at once.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` for an address that is not this host's; `InvalidInput` for what is no address.
    pub async fn bind(address: &str) -> io::Result<TcpListener> {
        #[cfg(madsim)]
        if let Some(node) = crate::context::current() {
            return Ok(TcpListener(Listener::Sim(sim::Listener::bind(&node, address).await?)));
        }
        Ok(TcpListener(Listener::Real(tokio::net::TcpListener::bind(address).await?)))
    }

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// Those of one connection or of a lack of resources: go on accepting after a while.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.0 {
            Listener::Real(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((TcpStream(Stream::Real(stream)), from))
            }
            #[cfg(madsim)]
            Listener::Sim(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((TcpStream(Stream::Sim(stream)), from))
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system has forgotten it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Listener::Real(listener) => listener.local_addr(),
            #[cfg(madsim)]
            Listener::Sim(listener) => Ok(listener.local_addr()),
        }
    }
}

/// What `address`, `host:port`, stands for; an `ip:port` stands for itself, without asking anybody.
///
/// # Errors
/// `InvalidInput` for what is no address, others for a name that is not known.
pub async fn lookup_host(address: &str) -> io::Result<Vec<SocketAddr>> {
    #[cfg(madsim)]
    if let Some(node) = crate::context::current() {
        return sim::lookup(&node, address).await;
    }
    Ok(tokio::net::lookup_host(address).await?.collect())
}

/// Passes a call on to whichever backend is there, pinned anew: all of them are `Unpin`.
macro_rules! pass_on {
    ($this:ident, $kind:ident, $inner:ident => $call:expr) => {
        match &mut $this.get_mut().0 {
            $kind::Real(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
            #[cfg(madsim)]
            $kind::Sim(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
        }
    };
}

macro_rules! implement_read {
    ($type:ident, $kind:ident) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                pass_on!(self, $kind, inner => inner.poll_read(cx, buffer))
            }
        }
    };
}

macro_rules! implement_write {
    ($type:ident, $kind:ident) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                pass_on!(self, $kind, inner => inner.poll_write(cx, bytes))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                pass_on!(self, $kind, inner => inner.poll_write_vectored(cx, slices))
            }

            fn is_write_vectored(&self) -> bool {
                match &self.0 {
                    $kind::Real(inner) => inner.is_write_vectored(),
                    #[cfg(madsim)]
                    $kind::Sim(inner) => inner.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                pass_on!(self, $kind, inner => inner.poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                pass_on!(self, $kind, inner => inner.poll_shutdown(cx))
            }
        }
    };
}

implement_read!(TcpStream, Stream);
implement_write!(TcpStream, Stream);
implement_read!(OwnedReadHalf, ReadHalf);
implement_write!(OwnedWriteHalf, WriteHalf);
