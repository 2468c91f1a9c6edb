//! Who calls a broker.

use std::sync::Arc;

use crate::identity::PublicKey;
use crate::name::{Owner, Pattern, PipeRef};

/// Who makes a call, as far as that was proven. Every broker call carries one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// The key the caller proved to hold; none on the local socket, where the operating system vouches for the user.
    pub key: Option<PublicKey>,
    /// Whose pipes the caller means by a name without owner.
    pub namespace: Owner,
    /// What the caller may do with the pipe of this call. An access check fills it in from the grants.
    pub rights: Rights,
    /// What the caller may do with which pipes; none means with every pipe of its own namespace everything.
    pub grants: Option<Arc<[Grant]>>,
    /// What the owner of the pipe of this call may have. An access check fills it in; none where nobody says, and what was said last holds.
    pub limits: Option<OwnerLimits>,
    /// Whether the caller may invite, and list, add and revoke keys.
    pub admin: bool,
    /// What is at the other end, which decides how a broken link is understood.
    pub peer: Peer,
}

impl Caller {
    /// A caller in this very process, with every right.
    pub fn in_process() -> Self {
        Self {
            key: None,
            namespace: Owner::SELF,
            rights: Rights::ALL,
            grants: None,
            limits: None,
            admin: true,
            peer: Peer::InProcess,
        }
    }

    /// The same caller seen at `peer`.
    #[must_use]
    pub fn at(mut self, peer: Peer) -> Self {
        self.peer = peer;
        self
    }
}

impl Caller {
    /// What the caller may do with `pipe`, whose owner is resolved: all that its grants say together.
    pub fn rights_to(&self, pipe: &PipeRef) -> Rights {
        match &self.grants {
            None if pipe.owner == self.namespace => Rights::ALL,
            None => Rights::NONE,
            Some(grants) => grants.iter().filter(|g| g.covers(pipe)).fold(Rights::NONE, |all, g| all.and(g.rights)),
        }
    }
}

/// What a key may do with some pipes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose pipes.
    pub owner: Owner,
    /// Which of them.
    pub pattern: Pattern,
    /// What may be done with them.
    pub rights: Rights,
}

impl Grant {
    fn covers(&self, pipe: &PipeRef) -> bool {
        self.owner == pipe.owner && self.pattern.matches(&pipe.path)
    }
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Attach as a reader, peek, stat, list.
    pub read: bool,
    /// Attach as a writer.
    pub write: bool,
    /// Remove pipes.
    pub manage: bool,
    /// Attach to a pipe that does not exist yet, which begins it. Only its owner's keys may.
    pub create: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, manage: true, create: true };
    /// Nothing.
    pub const NONE: Self = Self { read: false, write: false, manage: false, create: false };

    /// What either of them allows.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            write: self.write || other.write,
            manage: self.manage || other.manage,
            create: self.create || other.create,
        }
    }
}

/// What an owner may have at a broker, all its pipes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerLimits {
    /// Bytes on disk; past it writers to any of its pipes wait.
    pub bytes_max: u64,
    /// Pipes; one more is refused.
    pub pipes_max: u64,
}

impl OwnerLimits {
    /// As much as the disk and the memory of the broker hold.
    pub const NONE: Self = Self { bytes_max: u64::MAX, pipes_max: u64::MAX };
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

/// Who holds a session, as its broker remembers it over a restart: nobody else takes it up again, although its id may be read in
/// every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Holder {
    /// Somebody elsewhere who proved no key.
    Unknown,
    /// A process of this machine. Another of the same user may take the session up.
    Process(ProcessId),
    /// Whoever proves this key.
    Key(PublicKey),
}

impl Holder {
    /// Whether `other` may take the session up.
    pub fn admits(self, other: Self) -> bool {
        matches!((self, other), (Self::Process(_), Self::Process(_))) || self == other
    }

    /// The process, where it is one of this machine.
    pub fn process(self) -> Option<ProcessId> {
        match self {
            Self::Process(process) => Some(process),
            Self::Unknown | Self::Key(_) => None,
        }
    }
}
