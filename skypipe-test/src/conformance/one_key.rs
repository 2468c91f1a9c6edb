//! A gatekeeper that knows one key.

use async_trait::async_trait;
use bytes::Bytes;
use skypipe_core::{Admission, Caller, Code, Error, Gatekeeper, Invite, KeyPair, Owner, PublicKey};

use super::{client_key, relay_key};

/// Admits [`client_key`] to everything of the relay's owner, and nobody else to anything.
pub struct OneKey {
    relay: KeyPair,
    known: PublicKey,
}

impl OneKey {
    /// With [`relay_key`] and [`client_key`].
    pub fn new() -> Self {
        Self { relay: relay_key(), known: client_key().public() }
    }
}

impl Default for OneKey {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Gatekeeper for OneKey {
    fn relay_key(&self) -> &KeyPair {
        &self.relay
    }

    fn names(&self) -> Vec<String> {
        vec!["localhost".to_owned()]
    }

    fn owner(&self, _: PublicKey) -> Owner {
        Owner::SELF
    }

    async fn admit(&self, key: PublicKey, _: Option<Bytes>) -> Result<Admission, Error> {
        if key != self.known {
            return Err(Error::new(Code::Access, "the key is not known to this relay"));
        }
        let revoked = Box::pin(std::future::pending());
        Ok(Admission { namespace: Owner::SELF, grants: None, admin: true, revoked })
    }

    async fn invite(&self, _: &Caller, _: Invite) -> Result<Bytes, Error> {
        Err(Error::new(Code::Unsupported, "one key is all"))
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        Ok(vec![self.known.to_string()])
    }

    async fn add(&self, _: &str) -> Result<(), Error> {
        Err(Error::new(Code::Unsupported, "one key is all"))
    }

    async fn revoke(&self, _: &str) -> Result<u32, Error> {
        Err(Error::new(Code::Unsupported, "one key is all"))
    }
}
