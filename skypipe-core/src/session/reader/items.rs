//! Items of a default pipe: what came of each writer, what is missing, and what was acknowledged.

use std::time::Duration;

use crate::batch::{Batch, EndKind};
use crate::broker::{Notice, ReaderCursor};
use crate::error::Error;
use crate::event::Event;
use crate::id::{Position, Seq, SessionId};
use crate::record::Chunk;
use crate::session::cursor::{Cursor, hole};

use super::{Arrival, RESUME_MAX, ReaderSession};

impl ReaderSession {
    pub(super) fn take_batch(&mut self, from: Seq, batch: Batch, position: Position) -> Result<(), Error> {
        if !self.spend(&batch)? {
            return Ok(());
        }
        let Some(from) = self.receive(from, &batch)? else { return Ok(()) };
        if from < batch.first().plus(u64::from(batch.count())) {
            let writer = batch.session();
            self.arrive(Chunk {
                pipe: self.pipes.here(),
                writer,
                from,
                batch,
                position,
                lease: None,
                lease_time: Duration::ZERO,
                is_on_tape: false,
            });
        }
        Ok(())
    }

    /// Where to go on, the writer heard last first. What only a session that was lost was given the broker does not know: named, it would
    /// count as taken.
    pub(super) fn resume(&self) -> Vec<ReaderCursor> {
        let cursor = |(&writer, cursor): (&SessionId, &Cursor)| ReaderCursor { writer, next: cursor.received };
        let mut all: Vec<ReaderCursor> = self.cursors.iter().filter(|(_, c)| c.given > Seq(0)).map(cursor).collect();
        all.sort_by_key(|cursor| Some(cursor.writer) != self.heard);
        all.truncate(RESUME_MAX);
        all
    }

    /// Notes a batch at its writer's cursor. Gives the first number that is new, or nothing when none is.
    pub(super) fn receive(&mut self, from: Seq, batch: &Batch) -> Result<Option<Seq>, Error> {
        let (writer, start) = (batch.session(), from.max(batch.first()));
        self.heard = Some(writer);
        let cursor = self.cursors.entry(writer).or_insert_with(|| Cursor::at(start));
        cursor.give(start, batch.next());
        if cursor.ended || batch.next() <= cursor.received {
            return Ok(None);
        }
        if start > cursor.received {
            if !cursor.may_skip {
                return Err(hole(writer, cursor.received, start));
            }
            self.inbox.push_back(Arrival::Gap { writer, from: cursor.received, to: start });
            (cursor.received, cursor.digest) = (start, None);
        }
        self.mid_record = batch.is_open();
        let (from, end) = (cursor.received, batch.first().plus(u64::from(batch.count())));
        cursor.sum_up(batch)?;
        cursor.received = batch.next();
        let new = cursor.had.first_gap(from);
        cursor.had.insert(from..end);
        if from < end && new >= end {
            self.inbox.push_back(Arrival::Had { writer, next: end });
        }
        Ok((new < end || from == end).then_some(new))
    }

    pub(super) fn take_end(&mut self, writer: SessionId, kind: EndKind, next: Seq, alone: bool) -> Result<(), Error> {
        if self.leave.is_some() {
            return Ok(());
        }
        // Of an item without a record nothing came before; the mark itself may have been another reader's.
        let mark = Seq(next.0.saturating_sub(1));
        let cursor = self.cursors.entry(writer).or_insert_with(|| Cursor::at(mark));
        cursor.give(mark, next);
        if cursor.ended {
            // Sent again after a broken link: the acknowledgement got lost, or is on its way.
            if cursor.acked >= next {
                self.mark_dirty(writer);
            }
            return Ok(());
        }
        if cursor.received < mark {
            if !cursor.may_skip {
                return Err(hole(writer, cursor.received, next));
            }
            self.inbox.push_back(Arrival::Gap { writer, from: cursor.received, to: mark });
        }
        cursor.received = cursor.received.max(next);
        cursor.ended = true;
        self.inbox.push_back(match cursor.had_end {
            true => Arrival::Had { writer, next },
            false => Arrival::End { writer, kind, next, alone },
        });
        Ok(())
    }

    /// What lies between is another reader's: told, so no hole.
    pub(super) fn take_middle(&mut self, writer: SessionId, from: Seq) -> Result<(), Error> {
        if self.leave.is_none() {
            let cursor = self.cursors.entry(writer).or_insert_with(|| Cursor::at(from));
            cursor.give(from, from);
            if from > cursor.received {
                (cursor.received, cursor.digest) = (from, None);
            }
            self.events.push(Event::Notice(Notice::Middle { writer, from }));
        }
        Ok(())
    }

    pub(super) fn take_gap(&mut self, writer: SessionId, from: Seq, to: Seq) -> Result<(), Error> {
        if self.leave.is_some() {
            return Ok(());
        }
        let cursor = self.cursors.entry(writer).or_insert_with(|| Cursor::at(from));
        cursor.give(from, to);
        if cursor.ended || to <= cursor.received {
            return Ok(());
        }
        if from > cursor.received && !cursor.may_skip {
            return Err(hole(writer, cursor.received, from));
        }
        let from = std::mem::replace(&mut cursor.received, to);
        cursor.digest = None;
        self.inbox.push_back(Arrival::Gap { writer, from, to });
        Ok(())
    }

    pub(super) fn pass_end(&mut self, writer: SessionId, kind: EndKind, next: Seq, alone: bool) {
        self.outcome.items += 1;
        self.outcome.incomplete |= kind == EndKind::Aborted || (alone && kind != EndKind::Finished);
        self.has_item |= alone;
        self.ack(writer, next);
        // An aborted item may end before what this reader has of it; the broker waits to hear that the end was seen.
        if !self.is_lost_in_hands {
            self.mark_dirty(writer);
        }
        self.mid_record &= self.heard != Some(writer);
        self.events.push(Event::ItemEnded { writer, kind, alone });
    }

    pub(super) fn pass_gap(&mut self, writer: SessionId, from: Seq, to: Seq) {
        self.outcome.gap = true;
        self.events.push(Event::Gap { writer, from, to });
    }

    pub(super) fn mark_dirty(&mut self, writer: SessionId) {
        if let Some(cursor) = self.cursors.get_mut(&writer).filter(|cursor| cursor.given > Seq(0))
            && !std::mem::replace(&mut cursor.dirty, true)
        {
            self.dirty.push_back(writer);
        }
    }
}
