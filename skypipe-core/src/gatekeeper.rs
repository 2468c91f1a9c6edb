//! Who may come in over a network: what a relay asks before it serves a link, and what it is told to change.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::caller::{Caller, Grant, OwnerLimits, Rights};
use crate::error::Error;
use crate::identity::{KeyPair, PublicKey};
use crate::name::{Owner, Pattern};

/// Knows the relay's own key and the keys it admits. The relay has proof of a key before it asks; what a caller may do with
/// pipes is then checked by an access check.
///
/// The calls that change something are made for callers with [`Caller::admin`] only; the relay sees to that.
#[async_trait]
pub trait Gatekeeper: Send + Sync {
    /// The relay's own key, which its clients pin.
    fn relay_key(&self) -> &KeyPair;

    /// The host names by which clients may know this relay where a proxy ends TLS for it.
    fn names(&self) -> Vec<String>;

    /// Whose pipes are meant by this key as an owner: [`Owner::SELF`] for a key of the relay's owner.
    fn owner(&self, key: PublicKey) -> Owner;

    /// What this owner's pipes may take together, whoever writes to them.
    fn limits(&self, _owner: Owner) -> OwnerLimits {
        OwnerLimits::NONE
    }

    /// Bytes a second that this key may write, over all its links; none means as many as it can.
    fn rate(&self, _key: PublicKey) -> Option<u64> {
        None
    }

    /// Admits a key that was proved. A ticket that is good makes a key known that was not; coming again with the ticket that
    /// it came with uses nothing up. When this returns, that is on disk.
    ///
    /// # Errors
    /// `E_ACCESS` for a key that is not known, and for a ticket that has expired, was used up or is another relay's; `E_TICKET` for
    /// one that cannot be read; `E_STORAGE`.
    ///
    /// # Cancel safety
    /// A dropped call may have made the key known.
    async fn admit(&self, key: PublicKey, ticket: Option<Bytes>) -> Result<Admission, Error>;

    /// Makes a ticket.
    ///
    /// # Errors
    /// `E_USAGE` for one that would never be good.
    ///
    /// # Cancel safety
    /// A dropped call may have made a ticket that nobody has.
    async fn invite(&self, caller: &Caller, invite: Invite) -> Result<Bytes, Error>;

    /// The keys that are known, a line of `authorized_keys` each.
    ///
    /// # Errors
    /// `E_STORAGE`.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    async fn keys(&self) -> Result<Vec<String>, Error>;

    /// Makes a key known by its line of `authorized_keys`; one that was known before has this line from now on.
    ///
    /// # Errors
    /// `E_KEY` when the line is none, `E_STORAGE`.
    ///
    /// # Cancel safety
    /// A dropped call may have added the key.
    async fn add(&self, line: &str) -> Result<(), Error>;

    /// Forgets the keys of this text, fingerprint (`SHA256:…`) or comment; gives how many. Their admissions are revoked within a second, and
    /// tickets with which they came admit them no more.
    ///
    /// # Errors
    /// `E_ACCESS` when there is none, `E_USAGE` when that would leave nobody to administer the relay, `E_STORAGE`.
    ///
    /// # Cancel safety
    /// A dropped call may have revoked the keys.
    async fn revoke(&self, who: &str) -> Result<u32, Error>;
}

/// What a key is admitted to.
pub struct Admission {
    /// Whose pipes it means by a name without owner.
    pub namespace: Owner,
    /// What it may do with which pipes; none means everything with every pipe of its namespace.
    pub grants: Option<Arc<[Grant]>>,
    /// Whether it may invite, and list, add and revoke keys.
    pub admin: bool,
    /// Resolves when this is true no longer: the key was revoked, has expired, or its line was changed, the limits in it included.
    pub revoked: BoxFuture<'static, ()>,
}

/// What a ticket is to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// The pipes of the inviter's namespace that it opens; none means all of them, and to be one of the inviter's own keys.
    pub pipes: Vec<Pattern>,
    /// What may be done with them.
    pub rights: Rights,
    /// How long it may be used, from now.
    pub expires: Duration,
    /// How many keys may come with it.
    pub uses: u32,
}
