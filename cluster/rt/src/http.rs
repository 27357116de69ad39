//! What hyper needs to speak over [`crate::net`].
//!
//! HTTP/1.1 connections of hyper need neither an executor nor a timer as long as nobody sets its time-outs: bound what
//! may take long with [`crate::time::timeout`] instead.

/// A [`TcpStream`](crate::net::TcpStream) as hyper takes it.
pub use hyper_util::rt::TokioIo as Io;
