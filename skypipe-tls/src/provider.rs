//! The cryptography that TLS uses here.

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, ring};

/// Ring's, with AES-128-GCM before all else. Every key here is worth 128 bits (X25519, Ed25519), so a longer one for the cipher adds nothing;
/// but its suite comes with SHA-384, for which processors have no instructions, and a handshake derives two dozen keys.
pub(crate) fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_suites_of_ring_are_there_and_one_is_first() {
        let suites = |provider: CryptoProvider| provider.cipher_suites.iter().map(|s| s.suite()).collect::<Vec<_>>();
        let (ours, mut others) = (suites(provider()), suites(ring::default_provider()));
        assert_eq!(ours[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        others.retain(|suite| *suite != ours[0]);
        assert_eq!(ours[1..], others);
    }
}
