//! Who calls a broker.

use crate::name::Owner;
use crate::time::Time;

/// Who makes a call, as far as that was proven, and how long the caller will wait. Every broker call carries one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// The key the caller proved to hold; none on the local socket, where the operating system vouches for the user.
    pub key: Option<PublicKey>,
    /// Whose pipes the caller means by a name without owner.
    pub namespace: Owner,
    /// What the caller may do.
    pub rights: Rights,
    /// When the caller stops waiting, by the broker's clock.
    pub deadline: Option<Time>,
    /// What is at the other end, which decides how a broken link is understood.
    pub peer: Peer,
}

impl Caller {
    /// A caller in this very process, with every right.
    pub fn in_process() -> Self {
        Self { key: None, namespace: Owner::SELF, rights: Rights::ALL, deadline: None, peer: Peer::InProcess }
    }

    /// The same caller seen at `peer`.
    #[must_use]
    pub fn at(mut self, peer: Peer) -> Self {
        self.peer = peer;
        self
    }
}

/// An Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rights {
    /// Attach as a reader, peek, stat, list.
    pub read: bool,
    /// Attach as a writer.
    pub write: bool,
    /// Remove pipes.
    pub manage: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, manage: true };
}

/// What is at the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// This process itself: a dropped half is a lost session.
    InProcess,
    /// A process of this machine: a closed connection is a dead process, unless it was the relay that went.
    Process(ProcessId),
    /// Somewhere else: a closed connection says nothing, the session waits for its return.
    Network(String),
}

/// A process of this machine, told apart from every later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's clock ticks since boot; 0 where that cannot be known.
    pub started: u64,
    /// Which boot of the machine, a hash of the kernel's boot id; 0 where that cannot be known.
    pub boot: u64,
}
