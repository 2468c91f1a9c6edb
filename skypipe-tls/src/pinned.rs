//! The check that the relay is the one with a certain key.

use std::fmt;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, PeerIncompatible, SignatureScheme};
use skypipe_core::PublicKey;

/// What stands before the key in the SubjectPublicKeyInfo of an Ed25519 key ([RFC 8410, section 4]): a sequence of the algorithm's
/// number, 1.3.101.112, and the 32 bytes as a bit string.
///
/// [RFC 8410, section 4]: https://www.rfc-editor.org/rfc/rfc8410#section-4
const ED25519_SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Trusts who holds one key, and nobody else.
#[derive(Debug)]
pub(crate) struct PinnedKey {
    key: PublicKey,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedKey {
    pub(crate) fn new(key: PublicKey, provider: &CryptoProvider) -> Self {
        Self { key, algorithms: provider.signature_verification_algorithms }
    }

    fn is_in(&self, certificate: &CertificateDer<'_>) -> bool {
        let spki = ParsedCertificate::try_from(certificate).map(|parsed| parsed.subject_public_key_info());
        spki.is_ok_and(|spki| spki.strip_prefix(&ED25519_SPKI_HEAD) == Some(&self.key.0[..]))
    }
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.is_in(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::Other(OtherError(std::sync::Arc::new(PinMismatch))).into())
    }

    /// Never called: TLS 1.2 is not offered.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    /// The holder of the certificate must hold the key too.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Somebody else answered.
#[derive(Debug)]
pub(crate) struct PinMismatch;

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the relay's key is not the pinned one")
    }
}

impl std::error::Error for PinMismatch {}
