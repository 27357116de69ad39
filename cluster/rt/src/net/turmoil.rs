//! The network of simulator B: turmoil's streams, at the addresses and under the names that the world gave out.
//!
//! What the links do is said in [`crate::sim::turmoil`]. Unlike Linux' TCP, a refusal comes at once, whatever the link is
//! like, and a window is a number of writes.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ::turmoil::net;

use crate::context::NodeContext;
use crate::sim::TcpConfig;

use super::sim;

pub(super) use ::turmoil::net::TcpStream;
pub(super) use ::turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

pub(super) async fn connect(node: &Arc<NodeContext>, address: &str) -> io::Result<TcpStream> {
    let to = resolve(node, address).await?;
    let limit = TcpConfig::default().connect_limit;
    tokio::time::timeout(limit, TcpStream::connect(to)).await.map_err(|_| ErrorKind::TimedOut)?
}

pub(super) struct Listener {
    listener: net::TcpListener,
    /// As it was asked for, with the port that was given.
    address: SocketAddr,
}

impl Listener {
    pub(super) async fn bind(node: &Arc<NodeContext>, address: &str) -> io::Result<Listener> {
        let mut address = resolve(node, address).await?;
        let own = node.world.address(node.host);
        // turmoil knows a host's own address by no name but this.
        let at = match address.ip() {
            ip if ip == own => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ip => ip,
        };
        let listener = net::TcpListener::bind(SocketAddr::new(at, address.port())).await?;
        address.set_port(listener.local_addr()?.port());
        Ok(Listener { listener, address })
    }

    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.listener.accept().await
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// A name stands for one address.
async fn resolve(node: &Arc<NodeContext>, address: &str) -> io::Result<SocketAddr> {
    sim::lookup(node, address).await?.first().copied().ok_or_else(|| ErrorKind::NotFound.into())
}
