//! Certificates made with rcgen, and the settings of rustls made of them.

use super::pinned::Pinned;
use super::{Certificate, ClientTls, Pair, ServerTls, TlsError, Usage, Validity, Wanted, der};
use crate::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

/// What is spoken over TLS: both ends would otherwise be free to agree on HTTP/2, which nobody here speaks.
const PROTOCOL: &[u8] = b"http/1.1";

pub(super) fn authority(common_name: &str, validity: Validity) -> Result<Pair, TlsError> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = params(common_name, None, &[], validity)?;
    // It signs servers and clients, and no further authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

pub(super) fn issue(authority: &Pair, wanted: &Wanted, validity: Validity) -> Result<Pair, TlsError> {
    let signer = KeyPair::from_pem(&authority.key).map_err(|error| malformed("the authority's key", &error))?;
    let subject = read(&authority.certificate)?.subject;
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = name(&subject.common_name, None);
    issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = Issuer::new(issuer, signer);
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = params(&wanted.common_name, wanted.organization.as_deref(), &wanted.names, validity)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match wanted.usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Peer => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    names: &[String],
    validity: Validity,
) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(names).map_err(|error| malformed("a certificate's names", &error))?;
    params.distinguished_name = name(common_name, organization);
    params.not_before = moment(rcgen::date_time_ymd(1970, 1, 1), validity.from);
    params.not_after = moment(rcgen::date_time_ymd(1970, 1, 1), validity.until);
    Ok(params)
}

fn name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// `epoch` is 1970 in the type of rcgen's own time library, which needs no name here.
fn moment<T: Add<Duration, Output = T>>(epoch: T, at: Timestamp) -> T {
    epoch + Duration::from_secs(u64::try_from(at.unix_ns / 1_000_000_000).unwrap_or(0))
}

pub(super) fn read(pem: &str) -> Result<Certificate, TlsError> {
    let first = first(pem)?;
    der::certificate(&first).map(|parsed| parsed.says).ok_or_else(|| not_understood("a certificate"))
}

pub(super) fn public_key_hash(pem: &str) -> Result<String, TlsError> {
    hash_of(&first(pem)?)
}

/// Of a certificate's public key.
pub(super) fn hash_of(certificate: &CertificateDer<'_>) -> Result<String, TlsError> {
    let parsed = der::certificate(certificate).ok_or_else(|| not_understood("a certificate"))?;
    let suite = provider().cipher_suites.iter().find_map(|suite| match suite.suite() {
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => suite.tls13(),
        _ => None,
    });
    let suite = suite.ok_or_else(|| TlsError::Failed("there is no SHA-256".to_owned()))?;
    let hash = suite.common.hash_provider.hash(parsed.public_key);
    Ok(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn server(pair: &Pair, clients: &str) -> Result<ServerTls, TlsError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(clients)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| malformed("the authority of clients", &error))?;
    let (chain, key) = chain_and_key(pair)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| malformed("a server's certificate", &error))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(ServerTls(Some(Arc::new(config).into())))
}

pub(super) fn client(authority: &str, pair: Option<&Pair>) -> Result<ClientTls, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .with_root_certificates(roots(authority)?);
    let mut config = match pair {
        Some(pair) => {
            let (chain, key) = chain_and_key(pair)?;
            config.with_client_auth_cert(chain, key).map_err(|error| malformed("a client's certificate", &error))?
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(ClientTls(Some(Arc::new(config).into())))
}

pub(super) fn pinned(hash: &str) -> Result<ClientTls, TlsError> {
    let provider = provider();
    let verifier = Pinned::new(hash, provider.clone());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(ClientTls(Some(Arc::new(config).into())))
}

/// Named at each use, because a process has no default one unless somebody sets it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn first(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| malformed("a certificate", &error))
}

fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(pem)? {
        roots.add(certificate).map_err(|error| malformed("an authority's certificate", &error))?;
    }
    Ok(roots)
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(not_understood("a text without a certificate")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(malformed("a certificate", &error)),
    }
}

fn chain_and_key(pair: &Pair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|error| malformed("a private key", &error))?;
    Ok((chain(&pair.certificate)?, key))
}

fn malformed(what: &str, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Malformed(format!("{what} cannot be used: {error}"))
}

fn not_understood(what: &str) -> TlsError {
    TlsError::Malformed(format!("{what} is not understood"))
}

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError::Failed(error.to_string())
}
