//! Paths that are not the API's: served by whoever runs the server, at the same address and under the same rules.

use crate::auth::User;
use crate::store::BoxFuture;
use api::Status;
use bytes::Bytes;

/// A request for such a path, by somebody who may make it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// HTTP's method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// Who asks.
    pub user: &'a User,
    /// The body.
    pub body: &'a Bytes,
}

/// What is answered, with code 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Form of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// Serves paths that the API does not know.
pub trait Extension: Send + Sync + 'static {
    /// The answer; `None` for a path that is not known here either.
    fn answer<'a>(&'a self, asked: Asked<'a>) -> Option<BoxFuture<'a, Result<Told, Status>>>;
}
