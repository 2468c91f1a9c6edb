//! How far a reader is with one writer.

use crate::batch::{Batch, ItemDigest};
use crate::delivery::Ranges;
use crate::error::{Code, Error};
use crate::id::{Seq, SessionId};

/// How far a reader is with one writer.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The next number not received.
    pub(super) received: Seq,
    /// All below was acknowledged by the application, of what the session there is was given.
    pub(super) acked: Seq,
    /// Whether the broker must be told so.
    pub(super) dirty: bool,
    /// Sums up the item, when it came from its start and without a hole.
    pub(super) digest: Option<ItemDigest>,
    /// The broker told its end.
    pub(super) ended: bool,
    /// The session was lost meanwhile: a hole is then a gap to be told, no fault.
    pub(super) may_skip: bool,
    /// The broker gave all below in the session there is, if anything: more it does not let be acknowledged.
    pub(super) given: Seq,
    /// What came, in sessions that were lost as well.
    pub(super) had: Ranges,
    /// A session that was lost was told its end.
    pub(super) had_end: bool,
}

impl Cursor {
    /// A writer that is heard first at `start`.
    pub(super) fn at(start: Seq) -> Self {
        let digest = (start == Seq(0)).then(ItemDigest::default);
        Self {
            received: start,
            acked: Seq(0),
            dirty: false,
            digest,
            ended: false,
            may_skip: false,
            given: Seq(0),
            had: Ranges::default(),
            had_end: false,
        }
    }

    /// The session was lost: what it was given and did not take for good is free again.
    pub(super) fn lose(&mut self) {
        (self.may_skip, self.dirty) = (true, false);
        (self.acked, self.given) = (Seq(0), Seq(0));
    }

    /// The broker gives all from `from` up to `to`. A new session may get it from further in front than where a lost one was: what others
    /// left, and what is put back.
    pub(super) fn give(&mut self, from: Seq, to: Seq) {
        if self.given == Seq(0) && self.may_skip {
            self.had_end |= std::mem::replace(&mut self.ended, false);
            if from < self.received {
                (self.received, self.digest) = (from, (from == Seq(0)).then(ItemDigest::default));
            }
        }
        self.given = self.given.max(to);
    }

    /// Counts a batch in, and checks the sum when it is the last one.
    pub(super) fn sum_up(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.first() != self.received {
            self.digest = None;
        }
        let Some(digest) = &mut self.digest else { return Ok(()) };
        if !batch.is_end() {
            digest.add(batch);
        } else if !digest.matches(batch) {
            return Err(Error::new(
                Code::Integrity,
                format!("the item of writer {} is not the one that was written: its sum is wrong", batch.session()),
            ));
        }
        Ok(())
    }
}

/// Records are missing and the broker did not say so.
pub(super) fn hole(writer: SessionId, expected: Seq, got: Seq) -> Error {
    Error::new(
        Code::Integrity,
        format!("records {} to {} of writer {writer} are missing and nobody said so", expected.0, got.0),
    )
}
