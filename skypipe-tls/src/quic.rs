//! Cryptography for QUIC.

use std::sync::LazyLock;

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuiteCommon, ConnectionTrafficSecrets, Error, SupportedCipherSuite, Tls13CipherSuite};

/// Ring's suites, without keys for the records of TLS. QUIC has none: it protects its packets with keys of its own. rustls makes those
/// keys all the same and keeps them as long as the connection, which are 1.1 KB for each.
static SUITES: LazyLock<Vec<SupportedCipherSuite>> =
    LazyLock::new(|| ring::default_provider().cipher_suites.into_iter().filter_map(without_records).collect());

/// What ring offers, as far as QUIC needs it.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: SUITES.clone(), ..ring::default_provider() }
}

/// None for a suite that is not of TLS 1.3.
fn without_records(suite: SupportedCipherSuite) -> Option<SupportedCipherSuite> {
    let known = suite.tls13()?;
    let common = CipherSuiteCommon {
        suite: known.common.suite,
        hash_provider: known.common.hash_provider,
        confidentiality_limit: known.common.confidentiality_limit,
    };
    // As long as the process: rustls wants suites that are static. There are three.
    let aead_alg = Box::leak(Box::new(NoRecords(known.aead_alg)));
    let suite = Tls13CipherSuite { common, hkdf_provider: known.hkdf_provider, aead_alg, quic: known.quic };
    Some(SupportedCipherSuite::Tls13(Box::leak(Box::new(suite))))
}

/// Refuses every record.
struct NoRecords(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for NoRecords {
    fn encrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Refusing)
    }

    fn decrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Refusing)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

/// Holds no key, so it needs no memory.
struct Refusing;

impl MessageEncrypter for Refusing {
    fn encrypt(&mut self, _: OutboundPlainMessage<'_>, _: u64) -> Result<OutboundOpaqueMessage, Error> {
        Err(Error::EncryptError)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len
    }
}

impl MessageDecrypter for Refusing {
    fn decrypt<'a>(&mut self, _: InboundOpaqueMessage<'a>, _: u64) -> Result<InboundPlainMessage<'a>, Error> {
        Err(Error::DecryptError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quic_has_the_same_suites_in_the_same_order() {
        let of = |provider: CryptoProvider| -> Vec<_> {
            provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()).map(|suite| suite.suite()).collect()
        };
        assert_eq!(of(provider()), of(ring::default_provider()));
        assert!(provider().cipher_suites.iter().all(|suite| suite.tls13().is_some_and(|s| s.quic.is_some())));
    }
}
