//! Who gets which record.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::Batch;
use crate::broker::{LeaseId, ReaderDown};
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::time::Time;

use super::super::super::default::Next;
use super::super::super::fact::Fact;
use super::super::super::hands::Hands;
use super::super::super::limits::{TAPE, WAITING_MAX};
use super::super::{Saved, Tape};
use super::{Lease, Queue, lease_time};

impl Queue {
    /// Puts a reader with room at the end of the turn.
    pub(super) fn queue_up(&mut self, session: SessionId) {
        if let Some(reader) = self.readers.get_mut(&session).filter(|reader| reader.wants_turn() && !reader.is_in_turn)
        {
            reader.is_in_turn = true;
            self.turn.push_back(session);
        }
    }

    /// The record to be handed out next.
    pub(super) fn next_ready(&self, tape: &Tape) -> Option<(Seq, u32)> {
        if let Some(place) = self.ready.first() {
            return Some((*place, self.waiting.get(place).map_or(0, |waiting| waiting.attempts)));
        }
        let fresh = self.done.first_gap(self.fresh);
        (fresh < tape.next && self.waiting.len() < WAITING_MAX).then_some((fresh, 0))
    }

    /// Gives what is ready to readers with room, one record each in turn.
    pub(super) fn assign(&mut self, tape: &mut Tape, now: Time) {
        if tape.read_only.is_some() || tape.removed {
            return;
        }
        self.ripen(tape.wall(now));
        let until = now.plus(lease_time(tape));
        let mut given: BTreeMap<SessionId, Vec<(Seq, u32)>> = BTreeMap::new();
        while let Some((place, attempts)) = self.next_ready(tape).filter(|_| !self.turn.is_empty()) {
            let not_before = tape.not_before(place);
            if let Some(due) = not_before.filter(|due| attempts == 0 && *due > tape.wall(now)) {
                self.fresh = self.fresh.max(place.plus(1));
                self.put_back(tape, place, 0, due, now);
                continue;
            }
            let Some(session) = self.next_in_turn(tape, place) else { break };
            self.ready.remove(&place);
            self.waiting.remove(&place);
            self.fresh = self.fresh.max(place.plus(1));
            let lease = Lease { reader: session, attempt: attempts.saturating_add(1), until, is_sent: false };
            self.lapsing.insert((until, place));
            self.leases.insert(place, lease);
            given.entry(session).or_default().push((place, lease.attempt));
            self.queue_up(session);
        }
        for (session, leases) in given {
            tape.save(Fact::Leased { reader: session, leases: leases.clone() }, Saved::Leased(session, leases));
        }
    }

    /// Who has this record now. One that reads other queues too, and has its hands full, is told that there is something.
    fn next_in_turn(&mut self, tape: &mut Tape, place: Seq) -> Option<SessionId> {
        while let Some(session) = self.turn.pop_front() {
            let Some(reader) = self.readers.get_mut(&session) else { continue };
            reader.is_in_turn = false;
            if reader.take(place) {
                return Some(session);
            }
            if reader.wants_turn() && reader.leased.hunger() {
                tape.wake(session);
            }
        }
        None
    }

    /// This reader reads other queues too: it takes what `hands` have room for.
    pub(in super::super) fn share_hands(&mut self, tape: &mut Tape, session: SessionId, hands: Arc<Hands>, now: Time) {
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.leased.share(hands);
        }
        self.queue_up(session);
        self.assign(tape, now);
    }

    /// Whether there was something for this reader when its hands were full.
    pub(in super::super) fn is_hungry(&self, session: SessionId) -> bool {
        self.readers.get(&session).is_some_and(|reader| reader.leased.are_hungry())
    }

    /// The hands of a reader that found them full have room, and it is the turn of this queue.
    pub(in super::super) fn look_again(&mut self, tape: &mut Tape, session: SessionId, now: Time) {
        self.readers.get_mut(&session).into_iter().for_each(|reader| reader.leased.invite());
        self.queue_up(session);
        self.assign(tape, now);
        self.readers.get_mut(&session).into_iter().for_each(|reader| reader.leased.turn_over());
    }

    /// What a reader may be sent from now on, in bytes.
    pub(in super::super) fn set_credit(&mut self, session: SessionId, credit: i64) {
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.credit = credit;
        }
    }

    /// The next message down to a reader.
    pub(in super::super) fn next(&mut self, tape: &mut Tape, session: SessionId, epoch: Epoch) -> Next<ReaderDown> {
        if let Some(next) = self.next_of_look(tape, session, epoch) {
            return next;
        }
        let upto = tape.joined_upto();
        let reader = match self.attached(tape, session, epoch) {
            Ok(reader) => reader,
            Err(error) => return Next::End(Some(error)),
        };
        if reader.joined > upto {
            return Next::Wait;
        }
        if let Some((lease, error)) = reader.told.pop_front() {
            return Next::Message(ReaderDown::Settled { lease, error });
        }
        let is_done = reader.leased.is_empty() && reader.unconfirmed.is_empty();
        if is_done && (reader.leaving || (reader.no_wait && self.next_ready(tape).is_none())) {
            return self.finish(tape, session);
        }
        let Some(reader) = self.readers.get(&session) else { return Next::Wait };
        if let Some(error) = tape.read_only_error() {
            return Next::End(Some(error));
        }
        let Some(point) = reader.next_unsent().filter(|_| reader.credit > 0) else { return Next::Wait };
        let (place, bytes_max) = (point.place, u64::try_from(reader.credit).unwrap_or(1));
        if let Some(long) = tape.long(place) {
            return Next::FromLog { item: long.item, from: long.part(point), bytes_max };
        }
        match tape.in_memory(place).map(|(_, batch)| batch.clone()) {
            Some(batch) => self.send(tape, session, place, batch).map_or(Next::Wait, Next::Message),
            None => Next::FromLog { item: TAPE, from: place, bytes_max: 1 },
        }
    }

    pub(super) fn send(&mut self, tape: &mut Tape, session: SessionId, place: Seq, batch: Batch) -> Option<ReaderDown> {
        let lease = self.leases.get_mut(&place).filter(|lease| lease.reader == session)?;
        lease.is_sent = true;
        let lease = *lease;
        let reader = self.readers.get_mut(&session)?;
        reader.unsent.remove(&place);
        reader.part = None;
        reader.credit -= batch.encoded().len() as i64;
        let id = LeaseId { position: place.into(), attempt: lease.attempt };
        Some(ReaderDown::Leased { lease: id, time: lease_time(tape), batch })
    }

    /// A part of a record, from the log. The record is the reader's for longer with each.
    pub(in super::super) fn fetched_part(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        item: ItemNo,
        batch: &Batch,
        now: Time,
    ) -> Option<ReaderDown> {
        if self.looks.contains_key(&session) {
            return self.show_part(tape, session, item, batch);
        }
        let point = self.attached(tape, session, epoch).ok()?.next_unsent()?;
        let place = point.place;
        let long = tape.long(place).filter(|long| long.item == item && long.has_next(point, batch))?;
        self.extend(tape, place, now);
        let leased = self.send(tape, session, place, batch.clone())?;
        let behind = long.behind(place, batch);
        if behind.place == place
            && let Some(reader) = self.readers.get_mut(&session)
        {
            reader.unsent.insert(place);
            reader.part = Some(behind);
        }
        Some(leased)
    }

    pub(super) fn finish(&mut self, tape: &mut Tape, session: SessionId) -> Next<ReaderDown> {
        self.remove(tape, session, true);
        Next::Message(ReaderDown::Finished)
    }

    pub(in super::super) fn fetched(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        place: Seq,
        batch: &Batch,
        now: Time,
    ) -> Option<ReaderDown> {
        if self.looks.contains_key(&session) {
            return self.show(session, place, batch);
        }
        let reader = self.attached(tape, session, epoch).ok()?;
        if !reader.unsent.contains(&place) {
            return None;
        }
        // That it is to wait was not known before it was read.
        let attempt = self.leases.get(&place).map_or(1, |lease| lease.attempt);
        if let Some(due) = batch.not_before().filter(|due| attempt == 1 && *due > tape.wall(now)) {
            self.release(place);
            self.put_back(tape, place, 0, due, now);
            self.queue_up(session);
            self.assign(tape, now);
            return None;
        }
        self.send(tape, session, place, batch.clone())
    }

    /// Records are gone: nobody can have them any more.
    pub(in super::super) fn missing(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        from: Seq,
        to: Seq,
    ) -> Option<ReaderDown> {
        if self.looks.contains_key(&session) {
            self.pass_over(session, to);
            return None;
        }
        self.attached(tape, session, epoch).ok()?;
        let leased: Vec<Seq> = self.leases.range(from..to).map(|(place, _)| *place).collect();
        leased.into_iter().for_each(|place| self.release(place));
        let lost: Vec<Seq> = self.waiting.range(from..to).map(|(place, _)| *place).collect();
        for place in lost {
            if let Some(waiting) = self.waiting.remove(&place) {
                self.due.remove(&(waiting.due, place));
                self.ready.remove(&place);
            }
        }
        self.fresh = self.fresh.max(to);
        self.done(tape, from..to);
        self.queue_up(session);
        Some(ReaderDown::Missing { from: from.into(), to: to.into(), records: to.0 - from.0 })
    }

    /// A record is with the dead letters.
    pub(in super::super) fn buried(&mut self, tape: &mut Tape, place: Seq) {
        if self.dying.remove(&place) {
            self.done(tape, place..place.plus(1));
        }
    }
}
