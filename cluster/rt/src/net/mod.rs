//! Network: streams, listeners and names, real and simulated.
//!
//! A program sees TCP as Linux has it, from either backend. `sim` says what the simulated one keeps of it. Addresses
//! are text, `host:port` or `ip:port`, and names are looked up at each connect, for a host may come back elsewhere.
//!
//! On a real machine a stream may be secured by [`tls`](crate::tls); nobody who reads or writes it sees a difference.

#[cfg(madsim)]
use crate::sim::Executor;
use crate::tls::{ClientTls, ServerTls, Subject};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp;

mod redirect;
#[cfg(madsim)]
pub(crate) mod sim;
mod stand_in;
#[cfg(madsim)]
mod turmoil;

pub use redirect::{Backends, Names, Redirects, add_address, remove_address, set_names, set_redirects};

/// A connection: bytes both ways, in order. Dropping it closes it; what was written still travels.
pub struct TcpStream(Stream);

enum Stream {
    Real(tokio::net::TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<crate::tls::Stream>),
    #[cfg(madsim)]
    Sim(sim::Stream),
    #[cfg(madsim)]
    Turmoil(turmoil::TcpStream),
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
            return Ok(TcpStream(match &node.executor {
                Executor::Madsim(_) => Stream::Sim(sim::Stream::connect(&node, address).await?),
                Executor::Turmoil(_) => Stream::Turmoil(turmoil::connect(&node, address).await?),
            }));
        }
        let connected = match stand_in::of(address) {
            Some(instead) => tokio::net::TcpStream::connect(instead).await,
            None => tokio::net::TcpStream::connect(address).await,
        };
        Ok(TcpStream(Stream::Real(connected?)))
    }

    /// Connects as [`TcpStream::connect`] does, and secures the connection as `tls` says. The server's certificate must
    /// name the host of `address`.
    ///
    /// # Errors
    /// Those of `connect`; `InvalidData` when the server cannot prove who it is or refuses this client; `TimedOut` for a
    /// handshake that is not over after 10 s.
    pub async fn connect_secured(address: &str, tls: &ClientTls) -> io::Result<TcpStream> {
        let stream = Self::connect(address).await?;
        #[cfg(feature = "tls")]
        if let Stream::Real(stream) = stream.0 {
            return Ok(TcpStream(match crate::tls::Stream::connect(tls, address, stream).await? {
                Ok(secured) => Stream::Tls(Box::new(secured)),
                Err(plain) => Stream::Real(plain),
            }));
        }
        let _ = tls;
        Ok(stream)
    }

    /// Secures a connection that was accepted, as `tls` says: apart from accepting, so that a client that is slow here
    /// holds up nobody else. A plain one is returned as it is, at once.
    ///
    /// # Errors
    /// The client speaks no TLS 1.3, shows a certificate of somebody unknown, or is not done after 10 s.
    pub async fn secure(self, tls: &ServerTls) -> io::Result<TcpStream> {
        #[cfg(feature = "tls")]
        if let Stream::Real(stream) = self.0 {
            return Ok(TcpStream(match crate::tls::Stream::accept(tls, stream).await? {
                Ok(secured) => Stream::Tls(Box::new(secured)),
                Err(plain) => Stream::Real(plain),
            }));
        }
        let _ = tls;
        Ok(self)
    }

    /// Whom the verified certificate of the other end is about; `None` if it showed none.
    pub fn peer_subject(&self) -> Option<&Subject> {
        match &self.0 {
            Stream::Real(_) => None,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.peer.as_ref(),
            #[cfg(madsim)]
            Stream::Sim(_) | Stream::Turmoil(_) => None,
        }
    }

    /// The address at this end.
    ///
    /// # Errors
    /// When the system has forgotten the connection.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Real(stream) => stream.local_addr(),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.get_ref().0.local_addr(),
            #[cfg(madsim)]
            Stream::Sim(stream) => stream.local_addr(),
            #[cfg(madsim)]
            Stream::Turmoil(stream) => stream.local_addr(),
        }
    }

    /// The address at the other end.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Real(stream) => stream.peer_addr(),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.get_ref().0.peer_addr(),
            #[cfg(madsim)]
            Stream::Sim(stream) => stream.peer_addr(),
            #[cfg(madsim)]
            Stream::Turmoil(stream) => stream.peer_addr(),
        }
    }

    /// Whether small writes leave at once. The simulator's always do.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.0 {
            Stream::Real(stream) => stream.set_nodelay(nodelay),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.get_ref().0.set_nodelay(nodelay),
            #[cfg(madsim)]
            Stream::Sim(_) | Stream::Turmoil(_) => Ok(()),
        }
    }

    /// The two directions. Dropping the writing half ends the stream for the other side's reader; of a secured stream both
    /// must be dropped, or the writing half shut down.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        match self.0 {
            Stream::Real(stream) => {
                let (read, write) = stream.into_split();
                (OwnedReadHalf(ReadHalf::Real(read)), OwnedWriteHalf(WriteHalf::Real(write)))
            }
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => {
                let (read, write) = tokio::io::split(tls);
                (OwnedReadHalf(ReadHalf::Tls(read)), OwnedWriteHalf(WriteHalf::Tls(write)))
            }
            #[cfg(madsim)]
            Stream::Sim(stream) => {
                let (read, write) = stream.into_split();
                (OwnedReadHalf(ReadHalf::Sim(read)), OwnedWriteHalf(WriteHalf::Sim(write)))
            }
            #[cfg(madsim)]
            Stream::Turmoil(stream) => {
                let (read, write) = stream.into_split();
                (OwnedReadHalf(ReadHalf::Turmoil(read)), OwnedWriteHalf(WriteHalf::Turmoil(write)))
            }
        }
    }
}

/// The reading direction of a [`TcpStream`].
pub struct OwnedReadHalf(ReadHalf);

enum ReadHalf {
    Real(tcp::OwnedReadHalf),
    #[cfg(feature = "tls")]
    Tls(tokio::io::ReadHalf<Box<crate::tls::Stream>>),
    #[cfg(madsim)]
    Sim(sim::ReadHalf),
    #[cfg(madsim)]
    Turmoil(turmoil::OwnedReadHalf),
}

/// The writing direction of a [`TcpStream`].
pub struct OwnedWriteHalf(WriteHalf);

enum WriteHalf {
    Real(tcp::OwnedWriteHalf),
    #[cfg(feature = "tls")]
    Tls(tokio::io::WriteHalf<Box<crate::tls::Stream>>),
    #[cfg(madsim)]
    Sim(sim::WriteHalf),
    #[cfg(madsim)]
    Turmoil(turmoil::OwnedWriteHalf),
}

/// A place where others can connect to.
pub struct TcpListener(Listener);

enum Listener {
    Real(
        tokio::net::TcpListener,
        #[expect(dead_code, reason = "held for what its drop does")] Option<stand_in::StandIn>,
    ),
    #[cfg(madsim)]
    Sim(sim::Listener),
    #[cfg(madsim)]
    Turmoil(turmoil::Listener),
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
            return Ok(TcpListener(match &node.executor {
                Executor::Madsim(_) => Listener::Sim(sim::Listener::bind(&node, address).await?),
                Executor::Turmoil(_) => Listener::Turmoil(turmoil::Listener::bind(&node, address).await?),
            }));
        }
        Ok(TcpListener(Listener::Real(tokio::net::TcpListener::bind(address).await?, None)))
    }

    /// Listens at `address` as [`TcpListener::bind`] does, or, where this user may not take such a port, at one that stands
    /// in for it: connections of this process to `address` come here all the same.
    ///
    /// # Errors
    /// Those of `bind`.
    pub async fn bind_or_stand_in(address: SocketAddr) -> io::Result<TcpListener> {
        match Self::bind(&address.to_string()).await {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let (listener, stand_in) = stand_in::bind(address).await?;
                Ok(TcpListener(Listener::Real(listener, Some(stand_in))))
            }
            other => other,
        }
    }

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// Those of one connection or of a lack of resources: go on accepting after a while.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.0 {
            Listener::Real(listener, _) => {
                let (stream, from) = listener.accept().await?;
                Ok((TcpStream(Stream::Real(stream)), from))
            }
            #[cfg(madsim)]
            Listener::Sim(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((TcpStream(Stream::Sim(stream)), from))
            }
            #[cfg(madsim)]
            Listener::Turmoil(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((TcpStream(Stream::Turmoil(stream)), from))
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system has forgotten it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Listener::Real(listener, _) => listener.local_addr(),
            #[cfg(madsim)]
            Listener::Sim(listener) => Ok(listener.local_addr()),
            #[cfg(madsim)]
            Listener::Turmoil(listener) => Ok(listener.local_addr()),
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
            #[cfg(feature = "tls")]
            $kind::Tls(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
            #[cfg(madsim)]
            $kind::Sim(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
            #[cfg(madsim)]
            $kind::Turmoil(inner) => {
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
                    #[cfg(feature = "tls")]
                    $kind::Tls(_) => true,
                    #[cfg(madsim)]
                    $kind::Sim(inner) => inner.is_write_vectored(),
                    #[cfg(madsim)]
                    $kind::Turmoil(inner) => inner.is_write_vectored(),
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
