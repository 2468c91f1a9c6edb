//! What became of records that were handed out: done, refused, too late.

use std::ops::Range;

use crate::broker::{LeaseId, Verdict};
use crate::error::Code;
use crate::id::{Seq, SessionId};
use crate::time::{Time, WallTime};

use super::super::super::default::Effect;
use super::super::super::fact::Fact;
use super::super::super::limits::DELIVERIES_MAX;
use super::super::super::ranges::Ranges;
use super::super::{Pending, Saved, Tape};
use super::{Lease, Queue, Waiting, lease_time};

impl Queue {
    /// What a reader says became of a record.
    pub(super) fn judge(&mut self, tape: &mut Tape, session: SessionId, id: LeaseId, verdict: Verdict, now: Time) {
        let place = Seq::try_from(&id.position).ok();
        let is_held = |lease: &&Lease| lease.reader == session && lease.attempt == id.attempt;
        let held = place.and_then(|place| Some((place, *self.leases.get(&place).filter(is_held)?)));
        let Some((place, lease)) = held else {
            return self.judge_again(tape, session, id, verdict);
        };
        if tape.read_only.is_some() {
            return;
        }
        match verdict {
            Verdict::Done => {
                self.release(place);
                if let Some(reader) = self.readers.get_mut(&session) {
                    reader.unconfirmed.insert(place, id);
                    reader.finish(place, lease.attempt);
                }
                self.done(tape, place..place.plus(1));
            }
            Verdict::Refused { delay } => {
                self.release(place);
                let due =
                    WallTime(tape.wall(now).0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)));
                self.put_back(tape, place, lease.attempt, due, now);
                self.tell_when_durable(tape, session, id, None);
            }
            Verdict::Extend => self.extend(tape, place, now),
        }
        self.queue_up(session);
    }

    /// The time of a lease begins anew.
    pub(super) fn extend(&mut self, tape: &Tape, place: Seq, now: Time) {
        let Some(lease) = self.leases.get_mut(&place) else { return };
        self.lapsing.remove(&(lease.until, place));
        lease.until = now.plus(lease_time(tape));
        self.lapsing.insert((lease.until, place));
    }

    /// The time is over of a record that its reader has a part of: it waits for the rest in vain.
    pub(super) fn tell_if_torn(&mut self, tape: &mut Tape, place: Seq, lease: Lease) {
        let reader = self.readers.get(&lease.reader);
        if reader.is_some_and(|reader| reader.part.is_some_and(|part| part.place == place)) {
            let id = LeaseId { position: place.into(), attempt: lease.attempt };
            self.tell(lease.reader, id, Some(Code::LeaseLost));
            tape.wake(lease.reader);
        }
    }

    /// What is not the reader's is no more, unless that is what it said itself and did not hear confirmed.
    pub(super) fn judge_again(&mut self, tape: &mut Tape, session: SessionId, id: LeaseId, verdict: Verdict) {
        let Some((reader, place)) = self.readers.get(&session).zip(Seq::try_from(&id.position).ok()) else {
            return self.tell_when_durable(tape, session, id, Some(Code::LeaseLost));
        };
        if reader.unconfirmed.get(&place) == Some(&id) {
            return;
        }
        let was_done = reader.finished.contains(&(place, id.attempt));
        // What is refused is not wanted: that it is gone is all the same.
        let said = (verdict == Verdict::Done && was_done) || matches!(verdict, Verdict::Refused { .. });
        self.tell_when_durable(tape, session, id, (!said).then_some(Code::LeaseLost));
    }

    /// Tells a reader what became of its verdict once the log has all that led to it: a relay that crashed before would give it the same
    /// lease again.
    pub(super) fn tell_when_durable(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        lease: LeaseId,
        error: Option<Code>,
    ) {
        if tape.appended <= tape.confirmed {
            return self.tell(session, lease, error);
        }
        tape.when_durable(tape.appended, Pending::Side(Saved::Told(session, lease, error)));
    }

    pub(super) fn tell(&mut self, session: SessionId, lease: LeaseId, error: Option<Code>) {
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.told.push_back((lease, error));
        }
    }

    /// Takes a lease off its reader.
    pub(super) fn release(&mut self, place: Seq) {
        let Some(lease) = self.leases.remove(&place) else { return };
        self.lapsing.remove(&(lease.until, place));
        if let Some(reader) = self.readers.get_mut(&lease.reader) {
            reader.let_go(place);
        }
    }

    /// A record is to be handed out once more, or goes to the dead letters.
    pub(super) fn put_back(&mut self, tape: &mut Tape, place: Seq, attempts: u32, due: WallTime, now: Time) {
        tape.append(Fact::Waits { place, attempts, due });
        if attempts >= tape.settings.max_deliveries.unwrap_or(DELIVERIES_MAX) {
            self.dying.insert(place);
            tape.effects.push(Effect::Bury(place));
            return;
        }
        self.wait(place, Waiting { attempts, due });
        self.ripen(tape.wall(now));
    }

    pub(in super::super) fn wait(&mut self, place: Seq, waiting: Waiting) {
        if let Some(before) = self.waiting.insert(place, waiting) {
            self.due.remove(&(before.due, place));
            self.ready.remove(&place);
        }
        self.due.insert((waiting.due, place));
    }

    /// What is due at this moment is ready.
    pub(super) fn ripen(&mut self, wall: WallTime) {
        while let Some(&(due, place)) = self.due.first().filter(|(due, _)| *due <= wall) {
            self.due.remove(&(due, place));
            self.ready.insert(place);
        }
    }

    /// These are done with: told to the log, one fact at a time.
    pub(in super::super) fn done(&mut self, tape: &mut Tape, places: Range<Seq>) {
        self.done.insert(places.clone());
        self.unsaved.insert(places);
        self.save_done(tape);
    }

    pub(super) fn save_done(&mut self, tape: &mut Tape) {
        let places: Vec<Range<Seq>> = self.unsaved.iter().collect();
        if self.is_saving || places.is_empty() || tape.read_only.is_some() {
            return;
        }
        (self.is_saving, self.unsaved) = (true, Ranges::default());
        tape.save(Fact::Done { places: places.clone() }, Saved::Done(places));
    }

    /// Something of it is durable.
    pub(in super::super) fn saved(&mut self, tape: &mut Tape, saved: Saved) {
        match saved {
            Saved::Done(places) => {
                self.is_saving = false;
                places.iter().cloned().for_each(|range| self.done_saved.insert(range));
                self.confirm(tape, &places);
                let below = self.done_saved.first_gap(tape.low);
                tape.forget(below);
                tape.delivered(below);
                self.save_done(tape);
            }
            Saved::Leased(session, leases) => {
                let is_held = |(place, attempt): &(Seq, u32)| {
                    self.leases.get(place).is_some_and(|l| l.reader == session && l.attempt == *attempt && !l.is_sent)
                };
                let held: Vec<Seq> = leases.iter().filter(|lease| is_held(lease)).map(|(place, _)| *place).collect();
                if let Some(reader) = self.readers.get_mut(&session) {
                    reader.unsent.extend(held);
                    tape.wake(session);
                }
            }
            Saved::Told(session, lease, error) => {
                self.tell(session, lease, error);
                tape.wake(session);
            }
            Saved::Cursor(..) => {}
        }
    }

    /// Tells the readers whose acknowledgements are on disk.
    pub(super) fn confirm(&mut self, tape: &mut Tape, places: &[Range<Seq>]) {
        for (session, reader) in &mut self.readers {
            let before = reader.told.len();
            for range in places {
                while let Some((&place, _)) = reader.unconfirmed.range(range.clone()).next() {
                    reader.told.extend(reader.unconfirmed.remove(&place).map(|lease| (lease, None)));
                }
            }
            if reader.told.len() > before {
                tape.wake(*session);
            }
        }
    }
}
