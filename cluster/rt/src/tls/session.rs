//! Handshakes over real sockets, and the streams that come out of them.

use super::{ClientTls, ServerTls, Subject, der};
use crate::time::timeout;
use rustls::pki_types::ServerName;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A handshake takes two round trips and a millisecond of computing; who takes much longer means no good.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream after its handshake. As on a plain one, what was written travels without being flushed: what rustls could
/// not hand to the socket at once goes with the next poll in either direction, for which the socket wakes the task.
pub(crate) struct Stream {
    pub(crate) stream: TlsStream<TcpStream>,
    /// Of the verified certificate of the other end.
    pub(crate) peer: Option<Subject>,
}

impl Stream {
    /// The server's part of a handshake; the stream itself if connections are plain.
    pub(crate) async fn accept(tls: &ServerTls, stream: TcpStream) -> io::Result<Result<Self, TcpStream>> {
        let Some(acceptor) = &tls.0 else { return Ok(Err(stream)) };
        let accepted = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
        let stream = accepted.map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed))??;
        Ok(Ok(Self::of(stream.into())))
    }

    /// The client's part, with the server at `address`; the stream itself if connections are plain.
    pub(crate) async fn connect(
        tls: &ClientTls,
        address: &str,
        stream: TcpStream,
    ) -> io::Result<Result<Self, TcpStream>> {
        let Some(connector) = &tls.0 else { return Ok(Err(stream)) };
        let name = server_name(address)?;
        let connected = timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await;
        let stream = connected.map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed))??;
        Ok(Ok(Self::of(stream.into())))
    }

    /// Hands over what is left, as far as the socket takes it. An error shows at the next write.
    fn push(&mut self, cx: &mut Context<'_>) {
        let _ = Pin::new(&mut self.stream).poll_flush(cx);
    }

    fn of(stream: TlsStream<TcpStream>) -> Self {
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = certificates.first().and_then(|first| der::certificate(first)).map(|parsed| parsed.says.subject);
        Self { stream, peer }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.push(cx);
        Pin::new(&mut self.stream).poll_read(cx, buffer).map_err(|error| match error.kind() {
            // So ends a connection whose process was killed; rustls' own words are for programmers.
            io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::ConnectionReset, "the connection was cut"),
            _ => error,
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.push(cx);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.push(cx);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The host of `host:port`, as the server's certificate must name it.
fn server_name(address: &str) -> io::Result<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{host} is no name that a certificate could have: {error}"))
    })
}
