//! One record of a queue, in one reader's hands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::{LeaseId, Verdict};
use crate::headers::Headers;
use crate::name::PipePath;
use crate::record::Chunk;
use crate::session::ReaderSession;
use crate::session::drive::Shared;

/// One record of a queue, in this reader's hands until it says what became of it, or its time is over. Dropped without a word it goes to
/// somebody else at once.
pub struct Lease {
    shared: Arc<Shared<ReaderSession>>,
    pipe: PipePath,
    id: LeaseId,
    time: Duration,
    headers: Headers,
    body: Bytes,
    is_whole: bool,
    is_settled: bool,
}

impl Lease {
    pub(super) fn of(chunk: Chunk, shared: Arc<Shared<ReaderSession>>) -> Option<Self> {
        let (id, time) = (chunk.lease.clone()?, chunk.lease_time);
        let headers = chunk.batch.headers();
        let (is_whole, body) = (!chunk.batch.is_open(), chunk.bodies());
        Some(Self { shared, pipe: chunk.pipe, id, time, headers, body, is_whole, is_settled: false })
    }

    /// The same, with all of its bytes.
    pub(super) fn joined(mut self, body: Bytes) -> Self {
        (self.body, self.is_whole) = (body, true);
        self
    }

    /// Whether the body is all of the record. Else [`Reader::more`](crate::Reader::more) gives the rest.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The bytes of the record; of one from [`Reader::begin_lease`](crate::Reader::begin_lease) the first of them.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What its writer says about it.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The queue it came from.
    pub fn pipe(&self) -> &PipePath {
        &self.pipe
    }

    /// Which handing out of which record this is. Of the same record a later one has a larger attempt: a fencing token.
    pub fn id(&self) -> &LeaseId {
        &self.id
    }

    /// How often the record was handed out, this time included.
    pub fn attempt(&self) -> u32 {
        self.id.attempt
    }

    /// How long it is this reader's, from when it came, unless it is extended.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Whether it is this reader's still, as far as is known here.
    pub fn is_held(&self) -> bool {
        self.shared.with(|machine| machine.holds(&self.pipe, &self.id))
    }

    /// It takes longer: its time begins anew.
    pub fn extend(&self) {
        self.say(Verdict::Extend);
    }

    /// The record is done with. [`Reader::settled`](crate::Reader::settled) tells when the relay knows; whether it came too late is told
    /// by [`Event::LeaseLost`](crate::Event::LeaseLost).
    pub fn done(mut self) {
        self.is_settled = true;
        self.say(Verdict::Done);
    }

    /// Somebody is to have it once more, not before `delay` is over.
    pub fn refuse(mut self, delay: Duration) {
        self.is_settled = true;
        self.say(Verdict::Refused { delay });
    }

    fn say(&self, verdict: Verdict) {
        self.shared.with(|machine| machine.settle(&self.pipe, self.id.clone(), verdict));
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?}, {} B)", self.id, self.body.len())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_settled {
            self.say(Verdict::Refused { delay: Duration::ZERO });
        }
    }
}
