//! A queue from its facts, and the facts of a queue.

use std::ops::Range;

use crate::id::{Seq, SessionId};
use crate::time::{Time, WallTime};

use super::super::super::default::Effect;
use super::super::super::fact::Fact;
use super::super::super::limits::DELIVERIES_MAX;
use super::super::Tape;
use super::{Lease, Queue, Waiting, lease_time};

impl Queue {
    /// Takes a lease as the log has it; its time begins anew.
    pub(in super::super) fn recover_lease(&mut self, place: Seq, reader: SessionId, attempt: u32) {
        self.forget_place(place);
        if let Some(holder) = self.readers.get_mut(&reader) {
            holder.leased.put(place);
            self.leases.insert(place, Lease { reader, attempt, until: Time::default(), is_sent: true });
        } else {
            self.wait(place, Waiting { attempts: attempt, due: WallTime(0) });
        }
        self.fresh = self.fresh.max(place.plus(1));
    }

    /// Takes what waits as the log has it.
    pub(in super::super) fn recover_waiting(&mut self, place: Seq, waiting: Waiting) {
        self.forget_place(place);
        self.wait(place, waiting);
        self.fresh = self.fresh.max(place.plus(1));
    }

    /// Takes what is done as the log has it.
    pub(in super::super) fn recover_done(&mut self, places: Range<Seq>) {
        // What no relay writes, a disk may give back: maps take no range that ends before it begins.
        if places.is_empty() {
            return;
        }
        let leased: Vec<Seq> = self.leases.range(places.clone()).map(|(place, _)| *place).collect();
        let waiting: Vec<Seq> = self.waiting.range(places.clone()).map(|(place, _)| *place).collect();
        for place in &leased {
            let lease = self.leases.get(place).copied();
            if let Some((lease, reader)) = lease.and_then(|l| Some((l, self.readers.get_mut(&l.reader)?))) {
                reader.finish(*place, lease.attempt);
            }
        }
        leased.into_iter().chain(waiting).for_each(|place| self.forget_place(place));
        self.done.insert(places.clone());
        self.done_saved.insert(places);
    }

    /// A reader left: what it had is for others.
    pub(in super::super) fn recover_left(&mut self, session: SessionId) {
        if let Some(mut reader) = self.readers.remove(&session) {
            for place in reader.leased.let_go_of_all() {
                if let Some(lease) = self.leases.remove(&place) {
                    self.wait(place, Waiting { attempts: lease.attempt, due: WallTime(0) });
                }
            }
        }
    }

    pub(super) fn forget_place(&mut self, place: Seq) {
        self.release(place);
        if let Some(waiting) = self.waiting.remove(&place) {
            self.due.remove(&(waiting.due, place));
            self.ready.remove(&place);
        }
    }

    /// All facts are in: the time of each lease begins now. What was handed out too often goes to the dead letters.
    pub(in super::super) fn recovered(&mut self, tape: &mut Tape, now: Time) {
        let until = now.plus(lease_time(tape));
        self.lapsing = self.leases.keys().map(|place| (until, *place)).collect();
        self.leases.values_mut().for_each(|lease| lease.until = until);
        let below = self.done_saved.first_gap(tape.low);
        tape.forget(below);
        let max = tape.settings.max_deliveries.unwrap_or(DELIVERIES_MAX);
        let dead: Vec<Seq> = self.waiting.iter().filter(|(_, w)| w.attempts >= max).map(|(place, _)| *place).collect();
        for place in dead {
            self.forget_place(place);
            self.dying.insert(place);
            tape.effects.push(Effect::Bury(place));
        }
    }

    /// What must be restated besides the readers: what is done, leased, waiting and dying.
    pub(in super::super) fn facts(&self) -> Vec<Fact> {
        let done: Vec<Range<Seq>> = self.done.iter().collect();
        // What a reader was done with is leased to it and done: so it is known whose it was.
        let finished = self.readers.iter().filter(|(_, reader)| !reader.finished.is_empty());
        let finished = finished.map(|(session, reader)| Fact::Leased {
            reader: *session,
            leases: reader.finished.iter().copied().collect(),
        });
        let mut facts: Vec<Fact> = finished.collect();
        facts.push(Fact::Done { places: done });
        for (session, reader) in &self.readers {
            let lease = |place: &Seq| Some((*place, self.leases.get(place)?.attempt));
            let leases: Vec<(Seq, u32)> = reader.leased.places().iter().filter_map(lease).collect();
            if !leases.is_empty() {
                facts.push(Fact::Leased { reader: *session, leases });
            }
        }
        let waits = |(place, waiting): (&Seq, &Waiting)| Fact::Waits {
            place: *place,
            attempts: waiting.attempts,
            due: waiting.due,
        };
        facts.extend(self.waiting.iter().map(waits));
        let dying = |place: &Seq| Fact::Waits { place: *place, attempts: u32::MAX, due: WallTime(0) };
        facts.extend(self.dying.iter().map(dying));
        facts
    }
}
