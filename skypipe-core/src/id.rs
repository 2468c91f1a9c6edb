//! Numbers and ids, each with a type of its own.

use std::fmt;

use bytes::Bytes;

/// The random id of one attach, 128 bits: drawn by the client, kept through every resume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// Tells sessions apart for people, and proves nothing: its first digits, as they are shown.
    pub const fn tag(self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Eight digits tell sessions apart in a log line; the whole id is what lets a client resume, so it is not shown.
        write!(f, "{:08x}", self.tag())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Counts the attaches of one session from 1; the newer one wins, the older is fenced off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u32);

/// The number of a record, or of a piece of one, within its writer's session: contiguous, from 0. The end mark takes
/// the number behind the last record, so an item with no record has its end at 0 and is acknowledged as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The number `count` places further.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// Where a record stands in a pipe. Opaque: only the broker that gave it can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position(pub Bytes);

impl From<Seq> for Position {
    fn from(place: Seq) -> Self {
        Self(Bytes::copy_from_slice(&place.0.to_be_bytes()))
    }
}

/// What a broker gave out as a position is a place on the tape.
impl TryFrom<&Position> for Seq {
    type Error = crate::error::Error;

    fn try_from(position: &Position) -> Result<Self, Self::Error> {
        let number = <[u8; 8]>::try_from(&position.0[..]).map(u64::from_be_bytes);
        let foreign = || crate::error::Error::new(crate::error::Code::Usage, "a position that is not of this pipe");
        // The last numbers are kept free, so that counting on from a place never comes to an end.
        number.ok().filter(|number| *number < u64::MAX / 2).map(Seq).ok_or_else(foreign)
    }
}

/// The number of a pipe within one broker's log; never used again. 0 is the broker itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PipeId(pub u64);

/// Stands for a pipe in what is said over one link of a reader of many. Given by the broker, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PipeNo(pub u32);

/// The number of an item within its pipe, in the order in which the items began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ItemNo(pub u64);

/// The number of an entry in the log, from 1, in the order in which they were appended since the log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);
