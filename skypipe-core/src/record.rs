//! What an application gets out of a pipe.

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;

use crate::batch::{Batch, Piece};
use crate::broker::{LeaseId, Mark};
use crate::headers::Headers;
use crate::id::{Position, Seq, SessionId};
use crate::name::PipePath;

/// One record: the bytes of one `send`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The pipe it came from.
    pub pipe: PipePath,
    /// The session of the writer, one for each item.
    pub writer: SessionId,
    /// Its number within the session; the first one, if it took several.
    pub seq: Seq,
    /// Where it stands in its pipe: in a broadcast, where to begin so that this is the first record that comes.
    pub at: Mark,
    /// How often it was handed out, this time included; of a queue.
    pub attempt: Option<u32>,
    /// What its writer says about it.
    pub headers: Headers,
    /// Its bytes. A record that came in one piece shares the memory of its batch.
    pub body: Bytes,
}

impl Deref for Record {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body
    }
}

impl AsRef<[u8]> for Record {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// A run of records of one writer, as they travelled together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The pipe they came from.
    pub pipe: PipePath,
    /// The session of the writer.
    pub writer: SessionId,
    /// The first number that is new to this reader; what stands before it in the batch is skipped.
    pub from: Seq,
    /// The batch.
    pub batch: Batch,
    /// Where the batch stands in the pipe.
    pub position: Position,
    /// Of a queue: which handing out of its one record this is.
    pub lease: Option<LeaseId>,
    /// How long that is for, unless it is extended.
    pub lease_time: Duration,
    /// Whether it is of a queue or broadcast.
    pub is_on_tape: bool,
}

/// What an application is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Taken {
    /// All of a writer below this number.
    Numbers(SessionId, Seq),
    /// All of a broadcast up to here.
    Place(PipePath, Mark),
    /// One record of a queue.
    Lease(PipePath, LeaseId),
    /// A part of a record of a queue: nothing yet.
    Part,
}

impl Chunk {
    /// The bytes of all its records, one behind the other, without a copy.
    pub fn bodies(&self) -> Bytes {
        let bodies = self.batch.bodies();
        if self.from <= self.batch.first() {
            return bodies;
        }
        let skipped: usize =
            self.batch.pieces().take_while(|piece| piece.seq < self.from).map(|piece| piece.body.len()).sum();
        bodies.slice(skipped..)
    }

    /// Its records, or pieces of long ones, without a copy.
    pub fn records(&self) -> impl Iterator<Item = Piece> + '_ {
        self.batch.pieces().skip_while(|piece| piece.seq < self.from)
    }

    /// What it is to be done with all below `next`.
    pub fn taken(&self, next: Seq) -> Taken {
        if let Some(lease) = &self.lease {
            let last = self.batch.pieces().take_while(|piece| piece.seq < next).last();
            let is_whole = last.is_some_and(|piece| piece.last);
            return if is_whole { Taken::Lease(self.pipe.clone(), lease.clone()) } else { Taken::Part };
        }
        if self.is_on_tape {
            let records = next.0.saturating_sub(self.batch.first().0);
            let mark = Mark { position: self.position.clone(), records: u32::try_from(records).unwrap_or(u32::MAX) };
            return Taken::Place(self.pipe.clone(), mark);
        }
        Taken::Numbers(self.writer, next)
    }

    /// The number behind its last record.
    pub fn next(&self) -> Seq {
        self.batch.first().plus(u64::from(self.batch.count()))
    }
}
