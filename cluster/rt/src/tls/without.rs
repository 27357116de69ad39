//! What a build without TLS answers.

use super::{Certificate, ClientTls, Pair, ServerTls, TlsError, Validity, Wanted};

pub(super) fn authority(_: &str, _: Validity) -> Result<Pair, TlsError> {
    Err(TlsError::Unsupported)
}

pub(super) fn issue(_: &Pair, _: &Wanted, _: Validity) -> Result<Pair, TlsError> {
    Err(TlsError::Unsupported)
}

pub(super) fn read(_: &str) -> Result<Certificate, TlsError> {
    Err(TlsError::Unsupported)
}

pub(super) fn public_key_hash(_: &str) -> Result<String, TlsError> {
    Err(TlsError::Unsupported)
}

pub(super) fn server(_: &Pair, _: &str) -> Result<ServerTls, TlsError> {
    Err(TlsError::Unsupported)
}

pub(super) fn pinned(_: &str) -> Result<ClientTls, TlsError> {
    Err(TlsError::Unsupported)
}

pub(super) fn client(_: &str, _: Option<&Pair>) -> Result<ClientTls, TlsError> {
    Err(TlsError::Unsupported)
}
