//! What a simulated program holds: streams, their halves, and listeners. All state is in [`Network`]; these name it.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::context::NodeContext;
use crate::sim::lock;

use super::connection::other;
use super::event::{CLIENT, Kind, SERVER, Side};
use super::kernel::Way;
use super::{Network, resolver};

/// How long Linux asks for a neighbour that does not exist before it says so.
const NO_NEIGHBOUR: Duration = Duration::from_secs(3);

/// One end of a connection, closed when dropped.
struct Socket {
    network: Arc<Mutex<Network>>,
    connection: u32,
    generation: u32,
    side: Side,
}

impl Socket {
    /// Acts on the connection. For a program whose process or host died under it nothing ever happens any more.
    fn act<R>(&self, act: impl FnOnce(&mut Network, u32, Side) -> Poll<R>) -> Poll<R> {
        let mut network = lock(&self.network);
        let known = network
            .connections
            .get(self.connection as usize)
            .is_some_and(|c| c.generation == self.generation && !c.ends[self.side].off);
        if !known {
            return Poll::Pending;
        }
        act(&mut network, self.connection, self.side)
    }

    fn poll_connected(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.act(|network, c, _| {
            let connection = &mut network.connections[c as usize];
            let client = &mut connection.ends[CLIENT];
            if !client.alive {
                let error = client.error.take().unwrap_or(ErrorKind::ConnectionAborted);
                return Poll::Ready(Err(error.into()));
            }
            if connection.established {
                return Poll::Ready(Ok(()));
            }
            park(&mut client.reader, cx);
            Poll::Pending
        })
    }

    fn poll_read(&self, cx: &Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.act(|network, c, side| {
            let connection = &mut network.connections[c as usize];
            let pipe = &mut connection.pipes[other(side)];
            let taken = pipe.available().min(buffer.remaining());
            if taken > 0 {
                let (first, second) = pipe.bytes.as_slices();
                let from_first = taken.min(first.len());
                buffer.put_slice(&first[..from_first]);
                buffer.put_slice(&second[..taken - from_first]);
                pipe.bytes.drain(..taken);
                pipe.read += taken as u64;
                let now = network.now();
                network.acknowledge(c, other(side), now, true);
                return Poll::Ready(Ok(()));
            }
            if buffer.remaining() == 0 || pipe.at_end() {
                return Poll::Ready(Ok(()));
            }
            let end = &mut connection.ends[side];
            if !end.alive {
                return Poll::Ready(end.error.take().map_or(Ok(()), |error| Err(error.into())));
            }
            park(&mut end.reader, cx);
            Poll::Pending
        })
    }

    fn poll_write(&self, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.act(|network, c, side| {
            let now = network.now();
            let connection = &mut network.connections[c as usize];
            let (pipe, end) = (&mut connection.pipes[side], &mut connection.ends[side]);
            if !end.alive || pipe.finished {
                let error = end.error.take().unwrap_or(ErrorKind::BrokenPipe);
                return Poll::Ready(Err(error.into()));
            }
            pipe.settle(now);
            let mut room = pipe.room(network.links[pipe.link as usize].window());
            if room == 0 && slices.iter().any(|slice| !slice.is_empty()) {
                park(&mut end.writer, cx);
                network.writer_blocked(c, side);
                return Poll::Pending;
            }
            let before = pipe.written;
            for slice in slices {
                let taken = room.min(slice.len());
                pipe.append(&slice[..taken], network.lies.bytes_overtake);
                room -= taken;
            }
            let written = pipe.written - before;
            pipe.wrote_ns = now;
            network.stats.bytes += written;
            let blown = side == SERVER && network.holds_back(c);
            network.transmit(c, side, now, false);
            if blown {
                network.blow(c, now);
            }
            Poll::Ready(Ok(written as usize))
        })
    }

    fn shut_down(&self) {
        let _ = self.act(|network, c, side| {
            let now = network.now();
            network.shut_down(c, side, now);
            Poll::Ready(())
        });
    }

    fn address(&self, peer: bool) -> io::Result<SocketAddr> {
        let address = self.act(|network, c, side| {
            let side = if peer { other(side) } else { side };
            Poll::Ready(network.connections[c as usize].ends[side].address)
        });
        match address {
            Poll::Ready(address) => Ok(address),
            Poll::Pending => Err(ErrorKind::NotConnected.into()),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.act(|network, c, side| {
            let now = network.now();
            network.close(c, side, now);
            Poll::Ready(())
        });
    }
}

impl Network {
    /// A writer waits for room: it is woken when the next acknowledgement arrives. If none is on its way although
    /// something was read, that news was lost, and the writer's kernel asks for it.
    fn writer_blocked(&mut self, c: u32, side: Side) {
        let now = self.now();
        let pipe = self.pipe(c, side);
        let news = pipe.acks.front().map(|ack| ack.0);
        let unheard = pipe.under_way.is_empty() && !pipe.retrying && pipe.credit < pipe.read;
        match news {
            Some(at) => self.at(at, Kind::Writable, c, side),
            None if unheard => self.unacknowledged(c, side, now),
            None => {}
        }
    }

    /// The next connection of the listener at `at`, if one waits.
    fn accept(&mut self, host: u32, at: SocketAddr, cx: &Context<'_>) -> Poll<io::Result<(u32, u32)>> {
        let listeners = &mut self.hosts[host as usize].listeners;
        let backlog = listeners.get_mut(&at).ok_or(ErrorKind::NotConnected)?;
        let Some(c) = backlog.queue.pop_front() else {
            park(&mut backlog.acceptor, cx);
            return Poll::Pending;
        };
        Poll::Ready(Ok((c, self.connections[c as usize].generation)))
    }
}

fn park(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

/// A connection.
pub(crate) struct Stream(Socket);

/// Its reading direction.
pub(crate) struct ReadHalf(Arc<Socket>);

/// Its writing direction; dropping it ends the stream for the other side.
pub(crate) struct WriteHalf(Arc<Socket>);

impl Stream {
    pub(crate) async fn connect(node: &Arc<NodeContext>, address: &str) -> io::Result<Stream> {
        let mut last = io::Error::from(ErrorKind::InvalidInput);
        for address in resolver::lookup(node, address).await? {
            match Stream::connect_to(node, address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(node: &Arc<NodeContext>, to: SocketAddr) -> io::Result<Stream> {
        let network = node.world.shared_network();
        let way = lock(&network).way(node.host.0, to);
        let Way::To(to) = way else { return Err(ErrorKind::ConnectionRefused.into()) };
        let host = lock(&network).host_at(node.host.0, to.ip());
        let Some(host) = host else {
            node.world.sleep(NO_NEIGHBOUR).await;
            return Err(ErrorKind::HostUnreachable.into());
        };
        let (connection, generation) = lock(&network).connect(node.host.0, host, to);
        let socket = Socket { network, connection, generation, side: CLIENT };
        poll_fn(|cx| socket.poll_connected(cx)).await?;
        Ok(Stream(socket))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.address(false)
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.address(true)
    }

    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        let socket = Arc::new(self.0);
        (ReadHalf(socket.clone()), WriteHalf(socket))
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

macro_rules! implement_read {
    ($type:ty) => {
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                self.0.poll_read(cx, buffer)
            }
        }
    };
}

macro_rules! implement_write {
    ($type:ty) => {
        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, &[IoSlice::new(bytes)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, slices)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.0.shut_down();
                Poll::Ready(Ok(()))
            }
        }
    };
}

implement_read!(Stream);
implement_read!(ReadHalf);
implement_write!(Stream);
implement_write!(WriteHalf);

/// A place to connect to, given up when dropped.
pub(crate) struct Listener {
    network: Arc<Mutex<Network>>,
    host: u32,
    /// Of its process: another one's listener may have the same port.
    epoch: u32,
    address: SocketAddr,
}

impl Listener {
    pub(crate) async fn bind(node: &Arc<NodeContext>, address: &str) -> io::Result<Listener> {
        let mut last = io::Error::from(ErrorKind::InvalidInput);
        for at in resolver::lookup(node, address).await? {
            let network = node.world.shared_network();
            let host = node.host.0;
            let bound = {
                let mut network = lock(&network);
                network.listen(host, at).map(|address| (address, network.hosts[host as usize].epoch))
            };
            match bound {
                Ok((address, epoch)) => {
                    return Ok(Listener { network, host, epoch, address });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (connection, generation) = poll_fn(|cx| {
            let mut network = lock(&self.network);
            if network.hosts[self.host as usize].epoch != self.epoch {
                return Poll::Pending;
            }
            network.accept(self.host, self.address, cx)
        })
        .await?;
        let network = self.network.clone();
        let stream = Stream(Socket { network, connection, generation, side: SERVER });
        let from = stream.peer_addr()?;
        Ok((stream, from))
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut network = lock(&self.network);
        let host = &mut network.hosts[self.host as usize];
        if host.epoch != self.epoch {
            return;
        }
        if let Some(backlog) = host.listeners.remove(&self.address) {
            let now = network.now();
            network.close_backlog(backlog, now);
        }
    }
}
