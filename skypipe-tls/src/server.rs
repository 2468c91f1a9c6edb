//! TLS of a relay that ends it itself.

use std::sync::Arc;

use rcgen::{CertificateParams, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use skypipe_core::{Code, Error, KeyPair, PublicKey};

use crate::provider::provider;

/// The name in a relay's certificate. Nobody looks at it: clients know the key.
const CERTIFICATE_NAME: &str = "skypipe";

/// TLS of the relay with this key, for clients that ask for one of the protocols `alpn`. Its certificate is made here and says no
/// more than the key does, so it is never renewed and never kept.
///
/// # Errors
/// `E_INTERNAL`, which no valid key meets.
pub fn server_config(key: &KeyPair, alpn: &[&[u8]]) -> Result<Arc<rustls::ServerConfig>, Error> {
    config(key, alpn, provider())
}

/// The same for QUIC, and for nothing else: a session costs less memory, and cannot protect records of TLS.
///
/// # Errors
/// As [`server_config`].
pub fn server_config_of_quic(key: &KeyPair, alpn: &[&[u8]]) -> Result<Arc<rustls::ServerConfig>, Error> {
    config(key, alpn, crate::quic::provider())
}

fn config(key: &KeyPair, alpn: &[&[u8]], provider: CryptoProvider) -> Result<Arc<rustls::ServerConfig>, Error> {
    let secret = key.to_pkcs8()?;
    let signing = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&secret[..])).map_err(unusable)?;
    let certified = CertifiedKey::new(vec![certificate(key)?], signing);
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// A certificate of the key, signed by the key.
pub(crate) fn certificate(key: &KeyPair) -> Result<CertificateDer<'static>, Error> {
    let params = CertificateParams::new([CERTIFICATE_NAME.to_owned()]).map_err(unusable)?;
    let own = OwnKey { public: key.public(), key };
    Ok(params.self_signed(&own).map_err(unusable)?.der().clone())
}

/// A relay's key as rcgen wants it: its secret stays where it is.
struct OwnKey<'a> {
    key: &'a KeyPair,
    public: PublicKey,
}

impl PublicKeyData for OwnKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl SigningKey for OwnKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign_now(message).0.to_vec())
    }
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Internal, format!("the relay's key does not fit TLS: {error}")).because(error)
}
