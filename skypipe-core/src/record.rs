//! What an application gets out of a pipe.

use std::ops::Deref;

use bytes::Bytes;

use crate::batch::{Batch, Piece};
use crate::id::{Seq, SessionId};

/// One record: the bytes of one `send`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The session of the writer, one for each item.
    pub writer: SessionId,
    /// Its number within the session; the first one, if it took several.
    pub seq: Seq,
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
    /// The session of the writer.
    pub writer: SessionId,
    /// The first number that is new to this reader; what stands before it in the batch is skipped.
    pub from: Seq,
    /// The batch.
    pub batch: Batch,
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

    /// The number behind its last record.
    pub fn next(&self) -> Seq {
        self.batch.first().plus(u64::from(self.batch.count()))
    }
}
