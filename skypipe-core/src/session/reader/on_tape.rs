//! Records of queues and broadcasts, of one pipe or of many.

use std::collections::VecDeque;
use std::time::Duration;

use crate::batch::Batch;
use crate::broker::{LeaseId, Mark, Mode, ReaderWelcome, Verdict};
use crate::error::{Code, Error};
use crate::event::Event;
use crate::id::{PipeNo, Position, Seq};
use crate::name::PipePath;
use crate::record::Chunk;

use super::{Arrival, ReaderSession};

/// A record of a queue of which more is to come.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pipe: PipePath,
    pub(super) lease: LeaseId,
    /// The number of the next part.
    next: Seq,
}

impl ReaderSession {
    /// Records of a broadcast, from `from` on.
    pub(super) fn take_place(&mut self, from: Seq, batch: Batch, position: Position) -> Result<(), Error> {
        if !self.spend(&batch)? {
            return Ok(());
        }
        self.pipes.received(Mark { position: position.clone(), records: batch.count() })?;
        let (writer, from) = (batch.session(), from.max(batch.first()));
        self.arrive(Chunk {
            pipe: self.pipes.here(),
            writer,
            from,
            batch,
            position,
            lease: None,
            lease_time: Duration::ZERO,
            is_on_tape: true,
        });
        Ok(())
    }

    /// A record of a queue, or a part of one.
    pub(super) fn take_lease(&mut self, lease: LeaseId, lease_time: Duration, batch: Batch) -> Result<(), Error> {
        if !self.spend(&batch)? {
            return Ok(());
        }
        let Some(from) = self.take_part(&lease, &batch)? else { return Ok(()) };
        if self.stopping {
            self.pipes.settle(&self.pipes.here(), lease, Verdict::Refused { delay: Duration::ZERO });
            return Ok(());
        }
        let (writer, position) = (batch.session(), lease.position.clone());
        self.arrive(Chunk {
            pipe: self.pipes.here(),
            writer,
            from,
            batch,
            position,
            lease: Some(lease),
            lease_time,
            is_on_tape: true,
        });
        Ok(())
    }

    /// From where on what came of this record is new and wanted. After a broken link a record that was under way comes from its beginning.
    fn take_part(&mut self, lease: &LeaseId, batch: &Batch) -> Result<Option<Seq>, Error> {
        let behind = batch.first().plus(u64::from(batch.count()));
        let had = self.part.take_if(|part| part.lease == *lease);
        self.tear();
        if let Some(part) = had {
            let from = part.next.max(batch.first());
            let is_wanted = self.pipes.wants(&part.pipe, lease);
            if is_wanted {
                self.pipes.leased(lease.clone(), !batch.is_open())?;
            }
            self.part = batch.is_open().then(|| Part { next: from.max(behind), ..part });
            return Ok((from < behind && is_wanted).then_some(from));
        }
        if batch.first_start() != Some(batch.first()) {
            return Err(Error::new(Code::Protocol, "a record that begins in its middle"));
        }
        self.pipes.leased(lease.clone(), !batch.is_open())?;
        self.part = batch.is_open().then(|| Part { pipe: self.pipes.here(), lease: lease.clone(), next: behind });
        Ok(Some(batch.first()))
    }

    /// The rest of a record that came in part will not come.
    fn tear(&mut self) {
        if let Some(part) = self.part.take().filter(|part| self.pipes.wants(&part.pipe, &part.lease)) {
            self.pipes.tear(&part.pipe, &part.lease);
            self.outcome.incomplete = true;
            self.events.push(Event::LeaseLost { pipe: part.pipe, lease: part.lease });
        }
    }

    /// What was said of a record of a queue is known to the broker, or came too late.
    pub(super) fn take_settled(&mut self, lease: LeaseId, error: Option<Code>) -> Result<(), Error> {
        if error.is_some() && self.part.as_ref().is_some_and(|part| part.lease == lease) {
            self.tear();
            return Ok(());
        }
        if !self.pipes.settled(&lease, error)? {
            self.events.push(Event::LeaseLost { pipe: self.pipes.here(), lease });
        }
        Ok(())
    }

    /// Records are gone that were owed to this reader.
    pub(super) fn take_missing(&mut self, from: Position, to: Position, records: u64) -> Result<(), Error> {
        self.pipes.received(Mark { position: to.clone(), records: 0 })?;
        // Nothing comes between the parts of a record: it is that one.
        if self.part.as_ref().is_some_and(|part| part.pipe == self.pipes.here()) {
            self.tear();
        }
        // Nobody takes it from a reader that leaves, which would wait for that.
        if self.leave.is_none() {
            self.inbox.push_back(Arrival::Missing { pipe: self.pipes.here(), from, to, records });
        }
        Ok(())
    }

    /// A pipe joins those that a reader of many reads. Where the reader is a new one, what it had of a queue is for others.
    pub(super) fn take_pipe(
        &mut self,
        no: PipeNo,
        pipe: PipePath,
        welcome: ReaderWelcome,
        is_new: bool,
    ) -> Result<(), Error> {
        if !self.may_filter(welcome.mode) {
            return Ok(());
        }
        // In a broadcast it goes on where it was.
        if is_new && self.pipes.has_in_hands(&pipe) {
            self.drop_leased(Some(&pipe));
            self.events.push(Event::NewReader);
        }
        let unheard = self.pipes.joins(no, pipe.clone(), welcome, is_new)?;
        self.say_lost(unheard.into_iter().map(|lease| (pipe.clone(), lease)));
        Ok(())
    }

    /// Whether what is wanted goes with the mode. A queue gives each record to one reader, so that it must want all.
    pub(super) fn may_filter(&mut self, mode: Mode) -> bool {
        let may = mode != Mode::Queue || self.wants.filter.is_empty();
        if !may {
            let text = "a queue gives each record to one reader: what a filter passes over would be lost";
            self.fail(&Error::new(Code::Usage, text));
        }
        may
    }

    /// A broadcast goes on where it was. What was in hand of a queue is for others; who has said something of it hears that it is lost.
    pub(super) fn start_tape_over(&mut self) {
        if self.leave.is_some() {
            return if self.pipes.are_unknown(&self.wants.tape) { self.fail(&unknown()) } else { self.finish() };
        }
        self.drop_leased(None);
        let unheard = self.pipes.start_over(&mut self.wants.tape);
        self.say_lost(unheard);
        self.events.push(Event::NewReader);
    }

    /// The broker says that all is over. A relay that finds the session gone, which had left, does not know any more what it answered.
    pub(super) fn finish(&mut self) {
        if self.pipes.are_unanswered() {
            return self.fail(&unknown());
        }
        self.finished = true;
        self.connection.close();
    }

    /// What was said of these records may have come too late.
    fn say_lost(&mut self, leases: impl IntoIterator<Item = (PipePath, LeaseId)>) {
        self.events.extend(leases.into_iter().map(|(pipe, lease)| Event::LeaseLost { pipe, lease }));
    }

    /// Records of queues that wait here, of this one or of all, are somebody else's.
    pub(super) fn drop_leased(&mut self, pipe: Option<&PipePath>) -> Vec<Chunk> {
        if self.part.as_ref().is_some_and(|part| pipe.is_none_or(|pipe| *pipe == part.pipe)) {
            self.tear();
        }
        let is_meant = |chunk: &Chunk| chunk.lease.is_some() && pipe.is_none_or(|pipe| *pipe == chunk.pipe);
        let is_dropped = |arrival: &Arrival| matches!(arrival, Arrival::Chunk(chunk) if is_meant(chunk));
        let (dropped, kept) = std::mem::take(&mut self.inbox).into_iter().partition(is_dropped);
        self.inbox = kept;
        let dropped: VecDeque<Arrival> = dropped;
        let chunks = dropped.into_iter().filter_map(|arrival| match arrival {
            Arrival::Chunk(chunk) => Some(chunk),
            _ => None,
        });
        let chunks: Vec<Chunk> = chunks.collect();
        self.held -= chunks.iter().map(|chunk| chunk.batch.encoded().len() as u64).sum::<u64>();
        chunks
    }

    /// A record of a queue goes to somebody else at once.
    pub(super) fn refuse(&mut self, chunk: Chunk) {
        if let Some(lease) = chunk.lease {
            self.pipes.settle(&chunk.pipe, lease, Verdict::Refused { delay: Duration::ZERO });
        }
    }
}

fn unknown() -> Error {
    Error::new(Code::Unknown, "whether the relay knows what this reader was done with is unknown")
}
