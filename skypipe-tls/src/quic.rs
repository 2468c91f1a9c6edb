//! Cryptography for QUIC.

use std::sync::LazyLock;

use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag};
use rustls::{CipherSuiteCommon, ConnectionTrafficSecrets, Error, SupportedCipherSuite, Tls13CipherSuite};

/// The suites, without the keys that most connections never use. rustls and quinn make them all the same and keep them as long as the
/// connection, 580 bytes each: two for the records of TLS, which QUIC does not have, and two for the packets behind the next
/// change of keys, which comes after 8 million packets or when the other side wants it.
static SUITES: LazyLock<Vec<SupportedCipherSuite>> =
    LazyLock::new(|| crate::provider::provider().cipher_suites.into_iter().filter_map(lean).collect());

/// What all of TLS uses here, as far as QUIC needs it.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: SUITES.clone(), ..crate::provider::provider() }
}

/// None for a suite that QUIC cannot use.
fn lean(suite: SupportedCipherSuite) -> Option<SupportedCipherSuite> {
    let known = suite.tls13()?;
    let common = CipherSuiteCommon {
        suite: known.common.suite,
        hash_provider: known.common.hash_provider,
        confidentiality_limit: known.common.confidentiality_limit,
    };
    // As long as the process: rustls wants suites that are static. There are three.
    let aead_alg = Box::leak(Box::new(NoRecords(known.aead_alg)));
    let quic: &dyn Algorithm = Box::leak(Box::new(OnDemand(known.quic?)));
    let suite = Tls13CipherSuite { common, hkdf_provider: known.hkdf_provider, aead_alg, quic: Some(quic) };
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

/// Makes a key for packets when the first packet needs it.
struct OnDemand(&'static dyn Algorithm);

impl Algorithm for OnDemand {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        let known = self.0;
        Box::new(OnDemandKey(LazyLock::new(move || known.packet_key(key, iv))))
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn HeaderProtectionKey> {
        self.0.header_protection_key(key)
    }

    fn aead_key_len(&self) -> usize {
        self.0.aead_key_len()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct OnDemandKey<F>(LazyLock<Box<dyn PacketKey>, F>);

impl<F: FnOnce() -> Box<dyn PacketKey> + Send> PacketKey for OnDemandKey<F> {
    fn encrypt_in_place(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Result<Tag, Error> {
        self.0.encrypt_in_place(number, header, payload)
    }

    fn decrypt_in_place<'a>(&self, number: u64, header: &[u8], payload: &'a mut [u8]) -> Result<&'a [u8], Error> {
        self.0.decrypt_in_place(number, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CipherSuite, Side};

    use super::*;

    #[test]
    fn quic_has_the_same_suites_in_the_same_order() {
        let of = |provider: CryptoProvider| -> Vec<_> {
            provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()).map(|suite| suite.suite()).collect()
        };
        assert_eq!(of(provider()), of(crate::provider::provider()));
    }

    #[test]
    fn a_key_made_on_demand_is_the_same_key() {
        let sealed = |suite: &SupportedCipherSuite| {
            let quic = suite.tls13().unwrap().quic.unwrap();
            let secret = rustls::quic::Keys::initial(
                rustls::quic::Version::V1,
                suite.tls13().unwrap(),
                quic,
                b"id",
                Side::Client,
            );
            let mut payload = *b"payload";
            let tag = secret.local.packet.encrypt_in_place(7, b"header", &mut payload).unwrap();
            (payload, tag.as_ref().to_vec(), secret.local.packet.confidentiality_limit())
        };
        // The keys of a connection's first packets come from its number and this very suite.
        let first = |provider: CryptoProvider| {
            provider.cipher_suites.into_iter().find(|s| s.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256).unwrap()
        };
        assert_eq!(sealed(&first(provider())), sealed(&first(rustls::crypto::ring::default_provider())));
    }
}
