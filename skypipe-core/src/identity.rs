//! Keys: who somebody is, and proof of it.
//!
//! Identity is an Ed25519 key. As text it is 52 letters and digits, base32 in lower case without padding ([RFC 4648, section 6]):
//! it stands in URLs, can be read aloud, and one double click selects it.
//!
//! [RFC 4648, section 6]: https://www.rfc-editor.org/rfc/rfc4648#section-6

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use data_encoding::BASE32_NOPAD_NOCASE;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::{Signature as DalekSignature, Signer as _, SigningKey, VerifyingKey};

use crate::error::{Code, Error};

/// Letters of a key as text.
pub const KEY_TEXT_CHARS: usize = 52;

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Whether `signature` over `message` was made with this key's secret half. Small-order keys and malleable signatures fail.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify_strict(message, &DalekSignature::from_bytes(&signature.0)))
            .is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD_NOCASE.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    /// # Errors
    /// `E_KEY` when it is not 52 letters and digits of base32.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = BASE32_NOPAD_NOCASE.decode(text.as_bytes()).ok();
        let key = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self);
        key.ok_or_else(|| Error::new(Code::Key, "not a key: a key is 52 letters and digits of base32"))
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// Signs as somebody: a key in this process, or an agent that holds one.
#[async_trait]
pub trait Signer: Send + Sync {
    /// Whose signatures these are.
    fn key(&self) -> PublicKey;

    /// Signs `message` as it is.
    ///
    /// # Errors
    /// `E_KEY` when the key cannot be used now, such as an agent that went away or refused.
    ///
    /// # Cancel safety
    /// A dropped call may have signed.
    async fn sign(&self, message: &[u8]) -> Result<Signature, Error>;
}

/// A key with its secret half. The secret is wiped from memory when it is dropped, and never shown.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// The key of this secret: 32 bytes that nobody guesses.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` as it is.
    pub fn sign_now(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// The secret, for who writes it to a file of its own. Wiped when dropped.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// Both halves as PKCS #8 DER, for TLS. Wiped when dropped.
    ///
    /// # Errors
    /// `E_INTERNAL`, which a key of 32 bytes never meets.
    pub fn to_pkcs8(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
        let der = self.0.to_pkcs8_der().map_err(|_| Error::new(Code::Internal, "a key did not fit PKCS #8"))?;
        Ok(zeroize::Zeroizing::new(der.as_bytes().to_vec()))
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, secret not shown)", self.public())
    }
}

#[async_trait]
impl Signer for KeyPair {
    fn key(&self) -> PublicKey {
        self.public()
    }

    async fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        Ok(self.sign_now(message))
    }
}

/// Who the relay at the other end must prove to be: what the client knew of it before it connected, and its transport checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayIdentity {
    /// The relay with this key, which stood in the URL.
    Pinned(PublicKey),
    /// Whoever has a certificate for this host name that the system's authorities vouch for.
    Named(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_shows_no_secret() {
        let pair = KeyPair::from_seed(&[7; 32]);
        let text = pair.public().to_string();
        assert_eq!(text.len(), KEY_TEXT_CHARS);
        assert_eq!(text.parse::<PublicKey>().unwrap(), pair.public());
        assert_eq!(text.to_uppercase().parse::<PublicKey>().unwrap(), pair.public());
        for bad in ["", "x", &text[1..], &format!("{text}a"), &text.replace(&text[..1], "!")] {
            assert_eq!(bad.parse::<PublicKey>().unwrap_err().code(), Code::Key, "{bad}");
        }
        assert_eq!(format!("{pair:?}"), format!("KeyPair({text}, secret not shown)"));
    }

    #[test]
    fn only_the_right_key_over_the_right_bytes_verifies() {
        let (pair, other) = (KeyPair::from_seed(&[7; 32]), KeyPair::from_seed(&[8; 32]));
        let signature = pair.sign_now(b"message");
        assert!(pair.public().verifies(b"message", &signature));
        assert!(!pair.public().verifies(b"messagf", &signature) && !other.public().verifies(b"message", &signature));
        // The neutral element is a key for which every message has the same signature.
        assert!(!PublicKey([0; 32]).verifies(b"message", &Signature([0; 64])));
    }
}
